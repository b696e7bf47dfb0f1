package tuf

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sigstack/sigstack/trust"
	"github.com/theupdateframework/go-tuf/v2/metadata/config"
	"github.com/theupdateframework/go-tuf/v2/metadata/updater"
)

// fixture is a published repository behind a server, with a clock.
type fixture struct {
	now      time.Time
	repo     *trust.Repository
	material trust.Material
	server   *httptest.Server
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	f := &fixture{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	ca := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test-root"},
		NotBefore: f.now, NotAfter: f.now.AddDate(10, 0, 0), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, ca.Public(), ca)
	if err != nil {
		t.Fatal(err)
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	f.repo, err = trust.OpenRepository(t.TempDir(),
		trust.RoleKeys{Root: newKey(t), Targets: newKey(t), Snapshot: newKey(t), Timestamp: newKey(t)},
		trust.Options{Now: func() time.Time { return f.now }})
	if err != nil {
		t.Fatal(err)
	}
	f.material = trust.Material{
		Operator:    "example.com",
		Authorities: []trust.Authority{{URL: "https://sigstack.example.com", Chain: []*x509.Certificate{root}}},
		CTLogs:      []trust.Log{{URL: "https://sigstack.example.com/ct", Key: newKey(t).Public()}},
		RekorV1:     []trust.Log{{URL: "https://sigstack.example.com", Key: newKey(t).Public()}},
	}
	f.publish(t)
	f.server = httptest.NewServer(New(f.repo))
	t.Cleanup(f.server.Close)
	return f
}

func (f *fixture) publish(t testing.TB) {
	t.Helper()
	if err := f.repo.Publish(context.Background(), f.material); err != nil {
		t.Fatal(err)
	}
}

// refresh runs go-tuf's client over HTTP, with what it cached in dir before,
// and returns the trusted root that it got.
func (f *fixture) refresh(t testing.TB, pinned []byte, dir string) []byte {
	t.Helper()
	cfg, err := config.New(f.server.URL+"/tuf", pinned)
	if err != nil {
		t.Fatal(err)
	}
	cfg.LocalMetadataDir, cfg.LocalTargetsDir = filepath.Join(dir, "m"), filepath.Join(dir, "t")
	u, err := updater.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	u.UnsafeSetRefTime(f.now)
	if err := u.Refresh(); err != nil {
		t.Fatal(err)
	}
	var trusted []byte
	for _, name := range []string{"trusted_root.json", "signing_config.v0.2.json", "fulcio.crt.pem", "ctfe.pub", "rekor.pub"} {
		info, err := u.GetTargetInfo(name)
		if err != nil {
			t.Fatal(err)
		}
		_, data, err := u.DownloadTarget(info, "", "")
		if err != nil {
			t.Fatal(err)
		}
		if name == "trusted_root.json" {
			trusted = data
		}
	}
	return trusted
}

// A go-tuf client over HTTP: first use, a changed key, then two years of
// renewals, for a client that follows and one that is new and pinned at root 1.
func TestClient(t *testing.T) {
	f := newFixture(t)
	_, _, root1 := f.get(t, http.MethodGet, "/tuf/root.json")
	follower := t.TempDir()
	first := f.refresh(t, root1, follower)

	f.now = f.now.Add(time.Hour)
	f.material.RekorV1 = []trust.Log{{URL: "https://sigstack.example.com", Key: newKey(t).Public()}}
	f.publish(t)
	changed := f.refresh(t, root1, follower)
	if bytes.Equal(first, changed) || bytes.Count(changed, []byte("baseUrl")) != 3 {
		t.Errorf("trusted root after a new key:\n%s", changed)
	}

	for day := 1; day <= 730; day++ {
		f.now = f.now.Add(24 * time.Hour)
		if err := f.repo.Renew(context.Background()); err != nil {
			t.Fatal(err)
		}
		if day%73 == 0 {
			for _, dir := range []string{follower, t.TempDir()} {
				if got := f.refresh(t, root1, dir); !bytes.Equal(got, changed) {
					t.Fatalf("day %d: the trusted root changed by itself", day)
				}
			}
		}
	}
	status, _, newest := f.get(t, http.MethodGet, "/tuf/root.json")
	if status != http.StatusOK || bytes.Equal(newest, root1) {
		t.Error("root.json is not the newest root")
	}
	f.refresh(t, newest, t.TempDir())
}

// get sends the target as it stands: no client in between cleans it.
func (f *fixture) get(t testing.TB, method, target string) (int, http.Header, []byte) {
	t.Helper()
	conn, err := net.Dial("tcp", f.server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, method+" "+target+" HTTP/1.0\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(conn) // HTTP/1.0: the server closes at the end
	if err != nil {
		t.Fatal(err)
	}
	head, body, ok := strings.Cut(string(data), "\r\n\r\n")
	if !ok {
		t.Fatalf("%s %s: answer %q", method, target, data)
	}
	lines := strings.Split(head, "\r\n")
	status, err := strconv.Atoi(strings.Fields(lines[0])[1])
	if err != nil {
		t.Fatal(err)
	}
	header := http.Header{}
	for _, line := range lines[1:] {
		name, value, _ := strings.Cut(line, ": ")
		header.Add(name, value)
	}
	return status, header, []byte(body)
}

func TestFiles(t *testing.T) {
	f := newFixture(t)
	_, _, root := f.get(t, http.MethodGet, "/tuf/root.json")
	_, _, targets := f.get(t, http.MethodGet, "/tuf/1.targets.json")
	_, trustedHash, _ := strings.Cut(string(targets), `"trusted_root.json":{"hashes":{"sha256":"`)
	hashed := "targets/" + trustedHash[:64] + ".trusted_root.json"
	_, _, plain := f.get(t, http.MethodGet, "/tuf/targets/trusted_root.json")
	for name, want := range map[string]struct {
		typ       string
		immutable bool
		body      []byte
	}{
		"root.json":                        {"application/json", false, root},
		"1.root.json":                      {"application/json", true, root},
		"timestamp.json":                   {"application/json", false, nil},
		"1.snapshot.json":                  {"application/json", true, nil},
		"1.targets.json":                   {"application/json", true, targets},
		hashed:                             {"application/json", true, plain},
		"targets/trusted_root.json":        {"application/json", false, plain},
		"targets/signing_config.v0.2.json": {"application/json", false, nil},
		"targets/rekor.pub":                {"application/x-pem-file", false, nil},
		"root.json?version=1":              {"application/json", false, root},
	} {
		status, header, body := f.get(t, http.MethodGet, "/tuf/"+name)
		if status != http.StatusOK || len(body) == 0 || header.Get("Content-Length") != strconv.Itoa(len(body)) || header.Get("Content-Type") != want.typ {
			t.Errorf("%s: %d %v, %d bytes", name, status, header, len(body))
		}
		if want.body != nil && !bytes.Equal(body, want.body) {
			t.Errorf("%s: other bytes", name)
		}
		if cache := header.Get("Cache-Control"); strings.Contains(cache, "immutable") != want.immutable || (!want.immutable && cache != "no-cache") {
			t.Errorf("%s: Cache-Control %q", name, cache)
		}
		headStatus, headHeader, headBody := f.get(t, http.MethodHead, "/tuf/"+name)
		headHeader.Set("Date", header.Get("Date"))
		if headStatus != status || len(headBody) != 0 || headHeader.Get("Content-Length") != header.Get("Content-Length") {
			t.Errorf("HEAD %s: %d %v, %d bytes", name, headStatus, headHeader, len(headBody))
		}
	}
}

func TestNotFound(t *testing.T) {
	f := newFixture(t)
	for _, target := range []string{
		"/", "/tuf", "/tuf/", "/tufx", "/TUF/root.json", "//tuf/root.json", "/x/../tuf/root.json",
		"/tuf/2.root.json", "/tuf/0.root.json", "/tuf/01.root.json", "/tuf/+1.root.json", "/tuf/1.root.json/", "/tuf/%31.root.json", "/tuf/\u0661.root.json",
		"/tuf/snapshot.json", "/tuf/targets.json", "/tuf/targets", "/tuf/targets/", "/tuf/targets/nothing",
		"/tuf/../tuf/root.json", "/tuf/./root.json", "/tuf//root.json", "/tuf/targets/../root.json", "/tuf/targets//rekor.pub",
		"/tuf/%2e%2e/tuf/root.json", "/tuf/targets/%2e%2e/root.json", "/tuf/targets/..%2froot.json", "/tuf/targets%2frekor.pub", "/tuf/targets%2Frekor.pub",
		"/tuf/root%2ejson", "/tuf%2froot.json", "/%74uf/root.json", "/tuf/root.json%00", "/tuf/targets\\rekor.pub", "/tuf/targets%5crekor.pub", "/tuf/..\\root.json",
		"/tuf/../../../../etc/passwd", "/tuf/%2e%2e/%2e%2e/etc/passwd", "/tuf/" + strings.Repeat("a", 4000),
	} {
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			status, header, body := f.get(t, method, target)
			if status != http.StatusNotFound || header.Get("Location") != "" || header.Get("Content-Length") != "10" || header.Get("Cache-Control") != "no-store" ||
				!strings.HasPrefix(header.Get("Content-Type"), "text/plain") || (method == http.MethodGet && string(body) != "not found\n") {
				t.Errorf("%s %.80s: %d %v %q", method, target, status, header, body)
			}
		}
	}
}

func TestMethods(t *testing.T) {
	f := newFixture(t)
	for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "get", "PROPFIND"} {
		for _, target := range []string{"/tuf/root.json", "/tuf/nothing"} {
			status, header, body := f.get(t, method, target)
			if status != http.StatusMethodNotAllowed || header.Get("Allow") != "GET, HEAD" || header.Get("Content-Length") != strconv.Itoa(len(body)) {
				t.Errorf("%s %s: %d %v", method, target, status, header)
			}
		}
	}
}

// On a ServeMux the handler is reached, and the bare prefix is no redirect.
func TestRegister(t *testing.T) {
	f := newFixture(t)
	mux := http.NewServeMux()
	Register(mux, f.repo)
	for target, want := range map[string]int{"/tuf/root.json": 200, "/tuf": 404, "/tuf/": 404, "/tuf/2.root.json": 404, "/tuf/targets/%2e%2e/root.json": 404, "/other": 404} {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, target, nil))
		if w.Code != want {
			t.Errorf("%s: %d, want %d", target, w.Code, want)
		}
	}
}
