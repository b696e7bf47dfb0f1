package rekorv1

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
)

// inToto returns a proposed intoto 0.0.1 entry with a payload.
func inToto(t testing.TB, payload []byte) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	const kind = "application/vnd.in-toto+json"
	digest := sha256.Sum256(fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(kind), kind, len(payload), payload))
	sig, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	envelope, err := json.Marshal(map[string]any{"payloadType": kind, "payload": payload, "signatures": []any{map[string]any{"sig": sig}}})
	if err != nil {
		t.Fatal(err)
	}
	proposed, err := json.Marshal(map[string]any{"apiVersion": "0.0.1", "kind": "intoto", "spec": map[string]any{
		"content": map[string]any{"envelope": string(envelope)}, "publicKey": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki}),
	}})
	if err != nil {
		t.Fatal(err)
	}
	return proposed
}

// TestAttestations reads attestations back in every way that an entry is read. They
// are not in the answer to who has sent them, and a larger one is not kept.
func TestAttestations(t *testing.T) {
	s := newServer(t, 0)
	for _, test := range []struct {
		size int
		kept bool
	}{{1, true}, {100 << 10, true}, {100<<10 + 1, false}} {
		payload := bytes.Repeat([]byte("x"), test.size)
		proposed := inToto(t, payload)
		a := s.do(t, "POST", pathEntries, string(proposed), "Content-Type", typeJSON)
		if a.status != http.StatusCreated || strings.Contains(a.body, `"attestation"`) {
			t.Fatalf("%d bytes: status %d, %.200s", test.size, a.status, a.body)
		}
		uuid := a.header.Get("ETag")
		for name, read := range map[string]func() string{
			"UUID":     func() string { return s.do(t, "GET", pathEntries+"/"+uuid, "").body },
			"leaf":     func() string { return s.do(t, "GET", pathEntries+"/"+uuid[16:], "").body },
			"retrieve": func() string { return s.retrieve(t, `{"entryUUIDs":["`+uuid+`"]}`) },
			"proposal": func() string { return s.retrieve(t, `{"entries":[`+string(proposed)+`]}`) },
		} {
			text := strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(read()), "["), "]")
			var entries map[string]struct {
				Attestation *struct{ Data []byte }
			}
			if err := json.Unmarshal([]byte(text), &entries); err != nil {
				t.Fatalf("%s: %v: %.200s", name, err, text)
			}
			e, ok := entries[uuid]
			if !ok || (e.Attestation != nil) != test.kept || test.kept && !bytes.Equal(e.Attestation.Data, payload) {
				t.Errorf("%d bytes by %s: %.200s", test.size, name, text)
			}
			if test.kept && !strings.HasPrefix(text, `{"`+uuid+`":{"attestation":{"data":"`) {
				t.Errorf("%d bytes by %s: the members are not in order: %.200s", test.size, name, text)
			}
		}
		if a := s.do(t, "POST", pathEntries, string(proposed), "Content-Type", typeJSON); a.status != http.StatusConflict {
			t.Errorf("a duplicate: status %d", a.status)
		}
	}
}

func (s *server) retrieve(t testing.TB, body string) string {
	t.Helper()
	a := s.do(t, "POST", pathEntries+"/retrieve", body, "Content-Type", typeJSON)
	if a.status != http.StatusOK {
		t.Fatalf("status %d: %.300s", a.status, a.body)
	}
	return a.body
}

// TestAttestationsAway has reads fail for entries with an attestation, and for no
// others, while it cannot be had.
func TestAttestationsAway(t *testing.T) {
	s := newServer(t, 0)
	with := s.upload(t, inToto(t, []byte("payload")))
	without := ""
	for _, v := range vectors(t) {
		if v.Name == "hashedrekord-p256" {
			without = s.upload(t, v.Request)
		}
	}
	away := errors.New("dial " + secret + ": connection refused")
	s.kept.err.Store(&away)
	for _, read := range []func() answer{
		func() answer { return s.do(t, "GET", pathEntries+"/"+with, "") },
		func() answer { return s.do(t, "GET", pathEntries+"?logIndex=0", "") },
		func() answer {
			return s.do(t, "POST", pathEntries+"/retrieve", `{"logIndexes":[1,0]}`, "Content-Type", typeJSON)
		},
	} {
		if a := read(); a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" || strings.Contains(a.body, secret) || strings.Contains(a.body, with) {
			t.Errorf("status %d, %v: %s", a.status, a.header, a.body)
		}
	}
	if a := s.do(t, "GET", pathEntries+"/"+without, ""); a.status != http.StatusOK {
		t.Errorf("an entry without an attestation: status %d: %s", a.status, a.body)
	}
	if !strings.Contains(s.logged.String(), "trouble: ") || !strings.Contains(s.logged.String(), secret) {
		t.Errorf("the cause is not told: %s", s.logged)
	}
	s.kept.err.Store(nil)
	if a := s.do(t, "GET", pathEntries+"/"+with, ""); a.status != http.StatusOK || !strings.Contains(a.body, `"attestation"`) {
		t.Errorf("status %d: %s", a.status, a.body)
	}
}

// TestAttestationMemory retrieves ten entries with the largest attestations: what
// that allocates is bounded by their sizes.
func TestAttestationMemory(t *testing.T) {
	s := newServer(t, 0)
	const largest = 100 << 10
	for n := range maxItems {
		s.upload(t, inToto(t, bytes.Repeat([]byte{byte(n), 'x'}, largest/2)))
	}
	request := func() *http.Request {
		r := httptest.NewRequest("POST", pathEntries+"/retrieve", strings.NewReader(`{"logIndexes":[0,1,2,3,4,5,6,7,8,9]}`))
		r.Header.Set("Content-Type", typeJSON)
		return r
	}
	w := &discard{header: http.Header{}}
	s.handler.ServeHTTP(w, request()) // opens statements
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	s.handler.ServeHTTP(w, request())
	runtime.ReadMemStats(&after)
	if w.n < 2*maxItems*largest*4/3 {
		t.Fatalf("the answers have %d bytes", w.n)
	}
	// Each is read, which takes it more than once, and goes into a buffer that doubles.
	if got, most := after.TotalAlloc-before.TotalAlloc, uint64(maxItems*largest*10); got > most {
		t.Errorf("%d bytes were allocated for %d attestations of %d, want at most %d", got, maxItems, largest, most)
	}
}

// discard is an answer of which only the number of bytes is of interest.
type discard struct {
	header http.Header
	n      int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) WriteHeader(int)             {}
func (d *discard) Write(b []byte) (int, error) { d.n += len(b); return len(b), nil }
