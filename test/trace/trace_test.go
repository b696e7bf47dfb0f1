package trace

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sigstack/sigstack/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// The trace of a commit as it has to be; threads and one call cut in two
// included.
const good = `10 pwrite64(7</d/rekorv1/log.db-wal>, "\0\0"..., 4096, 0) = 4096
10 pwrite64(7</d/rekorv1/log.db-wal>, "\0\0"..., 4096, 4096) = 4096
11 fdatasync(7</d/rekorv1/log.db-wal> <unfinished ...>
12 write(2</dev/null>, "x", 1) = 1
11 <... fdatasync resumed>) = 0
10 pwrite64(5</d/rekorv1/signed>, "localhost - 1\n2\n"..., 4096, 0) = 4096
10 fdatasync(5</d/rekorv1/signed>) = 0
12 write(9<socket:[1]>, "HTTP/1.1 201 Created\r\n"..., 2000) = 2000
`

var entryFiles = []string{"/rekorv1/log.db-wal", "/rekorv1/signed"}

func parse(t *testing.T, text string) []Event {
	t.Helper()
	events, err := Parse(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return events
}

func TestCommitCanFail(t *testing.T) {
	if err := Commit(parse(t, good), "HTTP/1.1 201", entryFiles...); err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(good, "\n")
	without := func(n ...int) string {
		var b strings.Builder
		for i, l := range lines {
			if !slices.Contains(n, i) {
				b.WriteString(l)
			}
		}
		return b.String()
	}
	order := func(n ...int) string {
		var b strings.Builder
		for _, i := range n {
			b.WriteString(lines[i])
		}
		return b.String()
	}
	for name, text := range map[string]string{
		"log not synced":                       without(2, 4),
		"log synced before its last write":     order(0, 2, 4, 1, 5, 6, 7),
		"log sync not finished":                order(0, 1, 2, 5, 6, 7, 4),
		"memory not written":                   without(5, 6),
		"memory not synced":                    without(6),
		"memory written before the log's sync": order(0, 1, 5, 2, 4, 6, 7),
		"answer before the memory's sync":      order(0, 1, 2, 4, 5, 7, 6),
		"answer first":                         order(7, 0, 1, 2, 4, 5, 6),
		"failed sync":                          strings.Replace(good, `signed>) = 0`, `signed>) = -1 EIO (Input/output error)`, 1),
		"no answer":                            without(7),
	} {
		if err := Commit(parse(t, text), "HTTP/1.1 201", entryFiles...); err == nil {
			t.Errorf("%s: passes", name)
		}
	}
}

func TestNamesCanFail(t *testing.T) {
	const good = `10 write(7</d/tuf/.tmp1>, "{"..., 10) = 10
10 fsync(7</d/tuf/.tmp1>) = 0
10 renameat(AT_FDCWD, "/d/tuf/.tmp1", AT_FDCWD, "/d/tuf/1.root.json") = 0
10 fsync(8</d/tuf>) = 0
10 write(7</d/tuf/.tmp2>, "{"..., 10) = 10
10 fsync(7</d/tuf/.tmp2>) = 0
10 renameat(AT_FDCWD, "/d/tuf/.tmp2", AT_FDCWD, "/d/tuf/timestamp.json") = 0
10 fsync(8</d/tuf>) = 0
`
	if n, err := Names(parse(t, good), "/d/"); n != 2 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	lines := strings.SplitAfter(good, "\n")
	for _, gone := range []int{1, 3, 5, 7} {
		text := strings.Join(slices.Delete(slices.Clone(lines), gone, gone+1), "")
		if _, err := Names(parse(t, text), "/d/"); err == nil {
			t.Errorf("passes without %q", lines[gone])
		}
	}
}

// A traced server is a server under strace.
type traced struct {
	*harness.Server
	file string
}

func start(t *testing.T) *traced {
	t.Helper()
	if err := os.MkdirAll(t.TempDir(), 0o700); err != nil {
		t.Fatal(err)
	}
	s := &traced{file: filepath.Join(t.TempDir(), "trace")}
	s.Server = harness.StartWith(t, harness.Options{
		Wrapper: []string{"strace", "-f", "-y", "-qq", "-s", "64", "-e", "trace=" + Calls, "-e", "signal=none", "-o", s.file},
	})
	return s
}

// since returns the events that came after the first n bytes of the trace, once
// the trace has what ends it.
func (s *traced) since(t *testing.T, n int, end string) []Event {
	t.Helper()
	var text []byte
	s.Poll(10*time.Second, "the trace to have "+end, func() bool {
		var err error
		if text, err = os.ReadFile(s.file); err != nil {
			t.Fatal(err)
		}
		text = text[n:]
		return bytes.Contains(text, []byte(end)) && bytes.HasSuffix(text, []byte("\n"))
	})
	return parse(t, string(text))
}

// length returns how much of the trace consists of whole lines.
func (s *traced) length(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile(s.file)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.LastIndexByte(text, '\n') + 1
}

// post sends a request and wants a status.
func (s *traced) post(t *testing.T, path string, body any, status int) {
	t.Helper()
	b, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Post(s.URL+path, "application/json", bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != status {
		t.Fatalf("%s: %s %s (%v)", path, resp.Status, answer, err)
	}
}

type keyPair struct {
	*ecdsa.PrivateKey
	pem []byte
}

func newKey(t *testing.T) keyPair {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return keyPair{key, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki})}
}

func (k keyPair) sign(t *testing.T, data string) (digest [sha256.Size]byte, sig []byte) {
	t.Helper()
	digest = sha256.Sum256([]byte(data))
	sig, err := ecdsa.SignASN1(rand.Reader, k.PrivateKey, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	return digest, sig
}

// TestOrder holds every commit of a server's life against the order: first
// start, entries, certificates, a second start.
func TestOrder(t *testing.T) {
	s := start(t)
	names, err := Names(s.since(t, 0, "sigstack serves at"), s.Dir)
	if err != nil {
		t.Errorf("first start: %v", err)
	}
	if names < 10 { // keys, the CA's chain, the TUF repository
		t.Errorf("first start: %d names were given, want at least 10", names)
	}

	key := newKey(t)
	for n := range 20 {
		before := s.length(t)
		digest, sig := key.sign(t, fmt.Sprint(n))
		s.post(t, "/api/v1/log/entries", map[string]any{
			"kind": "hashedrekord", "apiVersion": "0.0.1",
			"spec": map[string]any{
				"data":      map[string]any{"hash": map[string]any{"algorithm": "sha256", "value": fmt.Sprintf("%x", digest)}},
				"signature": map[string]any{"content": sig, "publicKey": map[string]any{"content": key.pem}},
			},
		}, http.StatusCreated)
		if err := Commit(s.since(t, before, "HTTP/1.1 201"), "HTTP/1.1 201", entryFiles...); err != nil {
			t.Errorf("entry %d: %v", n, err)
		}
	}

	minted := s.length(t)
	form := url.Values{"email": {"trace@example.com"}}
	req, err := http.NewRequest(http.MethodPost, s.URL+"/oidc/mint", strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("X-Sigstack-Dev", "1")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	token, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil {
		t.Fatal(err)
	}
	s.since(t, minted, "HTTP/1.1 200") // or the next look takes this answer for its own
	_, proof := key.sign(t, "trace@example.com")
	for n := range 5 {
		before := s.length(t)
		s.post(t, "/api/v2/signingCert", map[string]any{
			"credentials": map[string]any{"oidcIdentityToken": string(token)},
			"publicKeyRequest": map[string]any{
				"publicKey":         map[string]any{"algorithm": "ECDSA", "content": string(key.pem)},
				"proofOfPossession": proof,
			},
		}, http.StatusOK)
		if err := Commit(s.since(t, before, "HTTP/1.1 200"), "HTTP/1.1 200", "/ct/log.db-wal", "/ct/signed", "/audit.db-wal"); err != nil {
			t.Errorf("certificate %d: %v", n, err)
		}
	}
	s.Kill() // strace does not pass on a SIGTERM
}
