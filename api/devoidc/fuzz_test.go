package devoidc

import (
	"crypto"
	"crypto/rsa"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/mail"
	"net/url"
	"runtime"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/sigstack/sigstack/test/fuzz"
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

// Whatever is sent: no panic, no redirect off the loopback host, no status of
// the server's own fault. An input is sent to every endpoint, in the body or in
// the query.
func FuzzRequests(f *testing.F) {
	seeds := fuzz.Seeds(
		authQuery("email", "dev@example.com", "action", "approve").Encode(),
		authQuery("redirect_uri", oob, "action", "deny").Encode(),
		exchangeForm(strings.Repeat("A", 43)).Encode(),
		url.Values{"grant_type": {grantDevice}, "client_id": {"sigstore"}, "device_code": {"x"}}.Encode(),
		"user_code=BCDF-GHJK&email=dev%40example.com&action=approve",
		"email=dev@example.com&audience=sigstore",
		"repository=acme/widget&ref=refs/tags/v1&workflow=release&environment=prod&audience=sigstore",
	)
	s := fixedIssuer(f)
	parse := func(in []byte) (answers []*httptest.ResponseRecorder, err error) {
		for _, path := range fuzzPosts {
			answers = append(answers, serve(s, "POST", path, "", string(in)))
		}
		for _, path := range fuzzGets {
			answers = append(answers, serve(s, "GET", path, string(in), ""))
		}
		return answers, nil
	}
	// Eight requests, of which each may take what one may.
	allow := func(in []byte) int { return 7 * (10*len(in) + 1<<20) }
	fuzz.RunWith(f, fuzz.Options{Allow: allow}, seeds, parse, func(t *testing.T, in []byte, answers []*httptest.ResponseRecorder, _ error) {
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

// What a form says is what net/url reads, each parameter once.
func FuzzParseForm(f *testing.F) {
	seeds := fuzz.Seeds(authQuery("email", "dev@example.com").Encode(), "a=b&c=%20&d=", "a;b=c")
	parse := func(in []byte) (url.Values, error) { return parseForm(string(in)) }
	fuzz.Run(f, seeds, parse, func(t *testing.T, in []byte, v url.Values, err error) {
		if err != nil {
			return
		}
		if other, err := url.ParseQuery(string(in)); err != nil || other.Encode() != v.Encode() || len(v) > maxParams || !utf8.ValidString(v.Encode()) {
			t.Fatalf("%v, for net/url %v, %v", v, other, err)
		}
	})
}

func FuzzRedirect(f *testing.F) {
	seeds := fuzz.Seeds(oob, callback, "http://127.0.0.1:1/?a=b", "http://[::1]:2", "http://localhost@example.com", "http://localhost:80@example.com/")
	parse := func(in []byte) (*url.URL, error) { return parseRedirect(string(in)) }
	fuzz.Run(f, seeds, parse, func(t *testing.T, in []byte, u *url.URL, err error) {
		raw := string(in)
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

// The base URL of the configuration has one spelling.
func FuzzBaseURL(f *testing.F) {
	seeds := fuzz.Seeds("http://localhost:8080", "https://example.com", "http://[::1]:80", "http://a@b", "HTTP://localhost")
	parse := func(in []byte) (*url.URL, error) { return parseBaseURL(string(in)) }
	fuzz.Run(f, seeds, parse, func(t *testing.T, in []byte, u *url.URL, err error) {
		if err == nil && (u.Scheme+"://"+u.Host != string(in) || u.Scheme != "http" && u.Scheme != "https" || u.Path != "" || u.User != nil || u.Hostname() == "") {
			t.Fatalf("accepted as %#v", u)
		}
	})
}

// An address that is accepted is one for net/mail as well.
func FuzzEmail(f *testing.F) {
	parse := func(in []byte) (struct{}, error) { return struct{}{}, checkEmail(string(in)) }
	fuzz.Run(f, fuzz.Seeds("dev@example.com", "a.b+c@x-y.z"), parse, func(t *testing.T, in []byte, _ struct{}, err error) {
		s := string(in)
		if err != nil {
			return
		}
		if strings.Count(s, "@") != 1 || !printable(s, 254) || strings.ContainsAny(s, " \"<>()[]\\,;:") {
			t.Fatalf("%q was accepted", s)
		}
		if a, err := mail.ParseAddress(s); err != nil || a.Address != s {
			t.Fatalf("%q was accepted; net/mail reads %v, %v", s, a, err)
		}
	})
}
