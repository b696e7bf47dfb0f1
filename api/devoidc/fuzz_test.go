package devoidc

import (
	"crypto"
	"crypto/rsa"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"testing"
	"time"
)

// quickKey signs with constant bytes: the fuzzer is after the parsers, and
// RSA with coverage counters takes most of a second.
type quickKey struct{}

func (quickKey) Public() crypto.PublicKey {
	return &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 2047), E: 65537}
}

func (quickKey) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return make([]byte, 256), nil
}

func fixedIssuer(t testing.TB) *Issuer {
	s, err := New(Config{BaseURL: "http://localhost:8080", Key: quickKey{}, Now: func() time.Time { return time.Unix(1772600767, 0) }})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func serve(s *Issuer, method, path, query, body string) *httptest.ResponseRecorder {
	req := httptest.NewRequest(method, "http://localhost:8080"+path, strings.NewReader(body))
	req.URL.RawQuery = query
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("X-Sigstack-Dev", "1")
	if path == "/oidc/github/token" {
		req.Header.Set("Authorization", "bearer x")
	}
	rec := httptest.NewRecorder()
	s.ServeHTTP(rec, req)
	return rec
}

var fuzzPosts = []string{"/oidc/auth", "/oidc/token", "/oidc/device/code", "/oidc/device", "/oidc/mint"}
var fuzzGets = []string{"/oidc/auth", "/oidc/device", "/oidc/github/token"}

// Whatever is sent: no panic, no redirect off the loopback host, no status of
// the server's own fault.
func FuzzRequests(f *testing.F) {
	f.Add(authQuery("email", "dev@example.com", "action", "approve").Encode())
	f.Add(authQuery("redirect_uri", oob, "action", "deny").Encode())
	f.Add(exchangeForm(strings.Repeat("A", 43)).Encode())
	f.Add(url.Values{"grant_type": {grantDevice}, "client_id": {"sigstore"}, "device_code": {"x"}}.Encode())
	f.Add("user_code=BCDF-GHJK&email=dev%40example.com&action=approve")
	f.Add("email=dev@example.com&audience=sigstore")
	f.Add("repository=acme/widget&ref=refs/tags/v1&workflow=release&environment=prod&audience=sigstore")
	s := fixedIssuer(f)
	f.Fuzz(func(t *testing.T, params string) {
		var answers []*httptest.ResponseRecorder
		for _, path := range fuzzPosts {
			answers = append(answers, serve(s, "POST", path, "", params))
		}
		for _, path := range fuzzGets {
			answers = append(answers, serve(s, "GET", path, params, ""))
		}
		for _, a := range answers {
			if a.Code >= 500 && a.Code != http.StatusServiceUnavailable {
				t.Fatalf("status %d: %s", a.Code, a.Body)
			}
			if loc := a.Header().Get("Location"); loc != "" {
				u, err := url.Parse(loc)
				if err != nil || u.Scheme != "http" || (u.Hostname() != "localhost" && u.Hostname() != "127.0.0.1" && u.Hostname() != "::1") {
					t.Fatalf("redirect to %q", loc)
				}
			}
		}
	})
}

func FuzzRedirect(f *testing.F) {
	for _, s := range []string{oob, callback, "http://127.0.0.1:1/?a=b", "http://[::1]:2", "http://localhost@example.com", "http://localhost:80@example.com/"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		u, err := parseRedirect(raw)
		if err != nil || u == nil {
			return
		}
		again, err := parseRedirect(u.String())
		if err != nil || again.Host != u.Host {
			t.Fatalf("%q was accepted and is written as %q, which is not", raw, u)
		}
		// A browser takes the host to end at the first of these.
		rest := strings.TrimPrefix(raw, "http://")
		host := rest[:len(rest)-len(strings.TrimLeft(rest, "abcdefghijklmnopqrstuvwxyz0123456789.:[]"))]
		if host != u.Host || len(host) < len(rest) && !strings.ContainsRune("/?", rune(rest[len(host)])) {
			t.Fatalf("%q: host %q is ambiguous", raw, u.Host)
		}
	})
}

func FuzzEmail(f *testing.F) {
	f.Add("dev@example.com")
	f.Add("a.b+c@x-y.z")
	f.Fuzz(func(t *testing.T, s string) {
		if checkEmail(s) == nil && (strings.Count(s, "@") != 1 || !printable(s, 254) || strings.ContainsAny(s, " \"<>()[]\\,;:")) {
			t.Fatalf("%q was accepted", s)
		}
	})
}

// Allocation is at most ten times the input and 1 MB.
func TestAllocationBudget(t *testing.T) {
	s := fixedIssuer(t)
	inputs := map[string]string{
		"empty keys":     strings.Repeat("&", maxForm),
		"short keys":     strings.Repeat("a&b&c&d&", maxForm/8),
		"equal keys":     strings.Repeat("a=1&", maxForm/4),
		"one value":      "client_id=" + strings.Repeat("x", maxForm-10),
		"escapes":        "redirect_uri=" + strings.Repeat("%3C", (maxForm-13)/3),
		"markup":         authQuery("email", strings.Repeat("<", 10000), "action", "approve").Encode(),
		"device markup":  "action=approve&user_code=" + strings.Repeat("%3C", 20000),
		"state":          authQuery("state", strings.Repeat("<", 2048), "nonce", strings.Repeat("<", 512)).Encode(),
		"repository":     "repository=" + strings.Repeat("/", maxForm-11),
		"workflow":       "repository=a/b&workflow_ref=" + strings.Repeat("@", maxForm-40),
		"audience":       "repository=a/b&email=a@b&audience=" + strings.Repeat("a", maxForm-40),
		"dots":           "email=a@" + strings.Repeat("a.", maxForm/2-10),
		"twice the size": strings.Repeat("a", 2*maxForm),
	}
	for name, input := range inputs {
		for _, path := range append(fuzzPosts, fuzzGets...) {
			measure := func(run func()) uint64 {
				run() // once for what is made once
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				run()
				runtime.ReadMemStats(&after)
				return after.TotalAlloc - before.TotalAlloc
			}
			budget := uint64(10*len(input) + 1<<20)
			if n := measure(func() { serve(s, "POST", path, "", input) }); n > budget {
				t.Errorf("%s: POST %s allocates %d bytes, budget %d", name, path, n, budget)
			}
			if n := measure(func() { serve(s, "GET", path, input, "") }); n > budget {
				t.Errorf("%s: GET %s allocates %d bytes, budget %d", name, path, n, budget)
			}
		}
	}
}
