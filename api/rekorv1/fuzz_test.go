package rekorv1

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"mime"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/sigstack/sigstack/test/fuzz"
)

// isProblem says whether an error is one that a client is told.
func isProblem(err error) bool {
	var p *problem
	return errors.As(err, &p) && p.status >= 400 && p.status < 500
}

// What a request may make the server allocate: ten times its size and a
// megabyte.
func TestAllocationBudget(t *testing.T) {
	s := newServer(t, 0)
	const n = 4 << 20
	fill := func(head, unit, tail string) string { return head + strings.Repeat(unit, n/len(unit)) + tail }
	quarter := func(head, unit, tail string) string {
		return head + strings.Repeat(unit, (maxQuery-len(head)-len(tail))/len(unit)) + tail
	}
	for _, tt := range []struct{ name, path, body string }{
		{"indexes", "/api/v1/log/entries/retrieve", fill(`{"logIndexes":[`, "0,", "0]}")},
		{"empty objects", "/api/v1/log/entries/retrieve", fill(`{"entries":[`, "{},", "{}]}")},
		{"a long proposal", "/api/v1/log/entries/retrieve", fill(`{"entries":["`, "a", `"]}`)},
		{"a proposal of members", "/api/v1/log/entries/retrieve", fill(`{"entries":[{`, `"a":1,`, `"b":1}]}`)},
		{"unknown members", "/api/v1/log/entries/retrieve", fill(`{`, `"a":1,`, `"b":1}`)},
		{"an unknown array", "/api/v1/log/entries/retrieve", fill(`{"x":[`, `[],`, `0]}`)},
		{"deep", "/api/v1/log/entries/retrieve", fill(`{"x":`, `[`, `}`)},
		{"a long name", "/api/v1/log/entries/retrieve", fill(`{"`, `a`, `":1}`)},
		{"an entry of brackets", "/api/v1/log/entries", fill(``, `[`, ``)},
		{"an entry of members", "/api/v1/log/entries", fill(`{`, `"a":1,`, `"b":1}`)},
		{"a long UUID", "/api/v1/log/entries/retrieve", fill(`{"entryUUIDs":["`, "0", `"]}`)},
		{"a long subject", "/api/v1/index/retrieve", quarter(`{"subject":"`, "a", `"}`)},
		{"an email of comments", "/api/v1/index/retrieve", quarter(`{"email":"`, "(", `"}`)},
		{"an email of dots", "/api/v1/index/retrieve", quarter(`{"email":"`, "a.", `"}`)},
		{"a hash of colons", "/api/v1/index/retrieve", quarter(`{"hash":"`, ":", `"}`)},
		{"a key", "/api/v1/index/retrieve", quarter(`{"publicKey":{"format":"x509","content":"`, "AAAA", `"}}`)},
		{"a pgp key", "/api/v1/index/retrieve", quarter(`{"publicKey":{"format":"pgp","content":"`, "mQAB", `"}}`)},
		{"escapes", "/api/v1/index/retrieve", quarter(`{"subject":"`, `\u0000`, `"}`)},
		{"accept", "/api/v1/index/retrieve", "{}"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest("POST", tt.path, strings.NewReader(tt.body))
			r.Header.Set("Content-Type", "application/json")
			if tt.name == "accept" {
				r.Header.Set("Accept", strings.Repeat(";,", 30<<10))
			}
			w := httptest.NewRecorder()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			s.handler.ServeHTTP(w, r)
			runtime.ReadMemStats(&after)
			if got, budget := after.TotalAlloc-before.TotalAlloc, uint64(10*len(tt.body)+1<<20); got > budget {
				t.Errorf("%d bytes allocated for a body of %d", got, len(tt.body))
			}
			if w.Code == 201 || w.Code >= 500 {
				t.Errorf("%d %s", w.Code, w.Body)
			}
		})
	}
}

func FuzzParseQuery(f *testing.F) {
	seeds := fuzz.Seeds(
		`{"email":"dev@example.com","subject":"https://example.com/x","operator":"and"}`,
		`{"hash":"sha256:`+strings.Repeat("a", 64)+`"}`, `{"hash":"`+strings.Repeat("A", 40)+`"}`, `{"hash":"sha512:`+strings.Repeat("0", 128)+`","operator":"or"}`,
		`{"publicKey":{"format":"ssh","content":"c3NoLWVkMjU1MTkgQUFBQQ=="}}`, `{"publicKey":null,"x":[{}]}`, `null`,
	)
	for _, name := range []string{"rekord-x509-p256", "rekord-pgp", "rekord-minisign", "rekord-ssh"} {
		format, key := keyOfVector(f, name)
		seeds = append(seeds, fuzz.Look(mustJSON(f, map[string]any{"publicKey": map[string]any{"format": format, "content": key}})))
	}
	type result struct {
		*query
		keys []string
	}
	parse := func(in []byte) (r result, err error) {
		if r.query, err = parseQuery(in); err == nil {
			r.keys, err = r.query.keys()
		}
		return r, err
	}
	// A pgp key is verified by itself while it is read: tlog/entry/sigkey bounds
	// the number of signatures, and its own target holds it to 60 kB for each.
	allow := func(in []byte) int {
		if bytes.Contains(in, []byte("pgp")) {
			return 500 * 60_000
		}
		return 0
	}
	fuzz.RunWith(f, fuzz.Options{Allow: allow}, seeds, parse, func(t *testing.T, in []byte, r result, err error) {
		if err != nil {
			if !isProblem(err) {
				t.Errorf("%v is no client's fault", err)
			}
			return
		}
		for _, k := range r.keys {
			if k == "" || len(k) > 4*maxSubject {
				t.Errorf("search key %q", k)
			}
		}
		if !json.Valid(in) {
			t.Error("accepted, but not JSON")
		}
	})
}

func FuzzParseRetrieve(f *testing.F) {
	uuid := strings.Repeat("0123456789abcdef", 5)
	seeds := fuzz.Seeds(
		`{"entryUUIDs":["`+uuid+`","`+uuid[16:]+`"],"logIndexes":[0,1]}`,
		`{"entries":[{"kind":"dsse","apiVersion":"0.0.1","spec":{}},{"kind":"intoto","apiVersion":"0.0.1","spec":{}}]}`,
		`{"entries":null,"logIndexes":[9223372036854775807]}`, `{}`,
	)
	fuzz.Run(f, seeds, parseRetrieve, func(t *testing.T, in []byte, req *retrieveRequest, err error) {
		if err != nil {
			if !isProblem(err) {
				t.Errorf("%v is no client's fault", err)
			}
			return
		}
		if n := len(req.entries) + len(req.uuids) + len(req.indexes); n > maxItems || !json.Valid(in) {
			t.Errorf("accepted with %d items", n)
		}
		for _, uuid := range req.uuids {
			if _, err := hex.DecodeString(uuid); err != nil || len(uuid) != 64 && len(uuid) != 80 {
				t.Errorf("UUID %q", uuid)
			}
		}
	})
}

// Paths and queries of GET: each is answered, none by our own fault, and none
// with more than was asked for.
func FuzzGet(f *testing.F) {
	s := newServer(f, 0)
	seeds := fuzz.Seeds(
		"/api/v1/log", "/api/v1/log?stable=true", "/api/v1/log/publicKey?treeID=1", "/api/v1/log/proof?firstSize=1&lastSize=1&treeID=1",
		"/api/v1/log/entries?logIndex=0", "/api/v1/log/entries/"+strings.Repeat("0123456789abcdef", 5), "/api/v1/log/entries/"+strings.Repeat("f", 64)+"?x=y",
	)
	parse := func(in []byte) (*httptest.ResponseRecorder, error) {
		u, err := url.ParseRequestURI(string(in))
		if err != nil {
			return nil, err // net/http answers 400 by itself
		}
		w := httptest.NewRecorder()
		s.handler.ServeHTTP(w, (&http.Request{Method: http.MethodGet, URL: u, Header: http.Header{}, Body: http.NoBody}).WithContext(context.Background()))
		return w, nil
	}
	fuzz.Run(f, seeds, parse, func(t *testing.T, in []byte, w *httptest.ResponseRecorder, err error) {
		if err != nil {
			return
		}
		if w.Code >= 500 && w.Code != http.StatusNotImplemented {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		if strings.HasPrefix(w.Header().Get("Content-Type"), typeJSON) && w.Body.Len() > 0 && !json.Valid(w.Body.Bytes()) {
			t.Fatalf("not JSON: %s", w.Body)
		}
		if w.Body.Len() > 1000+8*len(in) {
			t.Fatalf("%d bytes for a path of %d", w.Body.Len(), len(in))
		}
	})
}

// What a client says of its body and of the answers that it takes: a line
// Content-Type, then lines Accept.
func FuzzMediaTypes(f *testing.F) {
	seeds := fuzz.Seeds("application/json\napplication/json", "application/json; charset=utf-8\ntext/html, */*;q=0.5", "\napplication/x-pem-file;q=0, application/*;q=1.0")
	parse := func(in []byte) (bool, error) {
		lines := strings.Split(string(in), "\n")
		r := &http.Request{Method: http.MethodPost, ContentLength: 2, Header: http.Header{"Content-Type": lines[:1], "Accept": lines[1:]}}
		return accepted(lines[1:], typeJSON), negotiate(r, typePEM)
	}
	fuzz.Run(f, seeds, parse, func(t *testing.T, in []byte, acceptsJSON bool, err error) {
		if err != nil && !isProblem(err) {
			t.Errorf("%v is no client's fault", err)
		}
		head, _, _ := strings.Cut(string(in), "\n")
		if sent, _, parseErr := mime.ParseMediaType(head); err == nil && (parseErr != nil || sent != typeJSON) {
			t.Errorf("taken for JSON: %q", head)
		}
	})
}

// keyOfVector returns the format and the key of a recorded rekord.
func keyOfVector(t testing.TB, name string) (format string, key []byte) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(vectorDir, name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var v struct {
		Request struct {
			Spec struct {
				Signature struct {
					Format    string
					PublicKey struct{ Content []byte }
				}
			}
		}
	}
	if err := json.Unmarshal(data, &v); err != nil || v.Request.Spec.Signature.Format == "" {
		t.Fatalf("%s: %v", name, err)
	}
	return v.Request.Spec.Signature.Format, v.Request.Spec.Signature.PublicKey.Content
}

func mustJSON(t testing.TB, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
