package identity

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// fresh is a good token at the time of the clock.
func fresh(s signer, c *clock) string {
	return s.token(emailClaims("iat", c.now().Unix(), "exp", c.now().Add(time.Minute).Unix()))
}

func TestRotation(t *testing.T) {
	fake := newFake(emailURL)
	v, n, c := setup(t, []Issuer{emailIssuer()}, fake)
	old, next := rs256(), signer{"rsa-2", jose.RS256, testKeys().rsa2}
	expect := func(s signer, want verdict, discovery, fetches int) {
		t.Helper()
		_, got, err := verify(t, v, fresh(s, c))
		if got != want || fake.discovery != discovery || fake.fetches != fetches {
			t.Errorf("%s: %s after %d and %d requests, want %s after %d and %d: %v", s.kid, got, fake.discovery, fake.fetches, want, discovery, fetches, err)
		}
	}
	expect(old, accepted, 1, 1)
	expect(old, accepted, 1, 1)

	// A new key is found at once when the last fetch is a minute ago, and not before.
	fake.keys = []jose.JSONWebKey{old.jwk(), next.jwk()}
	c.add(59 * time.Second)
	expect(next, tokenError, 1, 1)
	c.add(time.Second)
	expect(next, accepted, 2, 2)
	expect(old, accepted, 2, 2)

	// The same key id for another key (an issuer that was set up again).
	fake.keys = []jose.JSONWebKey{{Key: testKeys().rsa.Public(), KeyID: "rsa-2", Algorithm: "RS256"}}
	c.add(time.Minute)
	expect(signer{"rsa-2", jose.RS256, testKeys().rsa}, accepted, 3, 3)

	// A key that the issuer took back is refused after an hour at the latest.
	expect(next, tokenError, 3, 3)
	fake.keys = []jose.JSONWebKey{old.jwk()}
	c.add(time.Hour - time.Second)
	expect(signer{"rsa-2", jose.RS256, testKeys().rsa}, accepted, 3, 3)
	c.add(time.Second)
	expect(signer{"rsa-2", jose.RS256, testKeys().rsa}, tokenError, 4, 4)
	expect(old, accepted, 4, 4)

	// The place of the keys and the algorithms may change as well.
	c.add(time.Minute)
	n.set(func() { fake.keysURL, fake.algs = "https://keys.example.net/new", []string{"PS256"} })
	expect(signer{"rsa-1", jose.PS256, testKeys().rsa}, tokenError, 5, 5) // the key says RS256
	n.set(func() { fake.keys[0].Algorithm = "" })
	c.add(time.Minute)
	expect(signer{"rsa-1", jose.PS256, testKeys().rsa}, accepted, 6, 6)
	expect(old, tokenError, 6, 6) // RS256 is no longer advertised
}

// Tokens with invented key ids and forged signatures cause one fetch a minute.
func TestUnknownKeyFlood(t *testing.T) {
	fake := newFake(emailURL)
	v, n, c := setup(t, []Issuer{emailIssuer()}, fake)
	start := c.now()
	for i := range 300 { // ten minutes
		for k := range 3 {
			s := signer{fmt.Sprintf("kid-%d-%d", i, k), jose.RS256, testKeys().rsa2}
			if k == 0 {
				s.kid = "rsa-1"
			}
			if _, got, _ := verify(t, v, fresh(s, c)); got != tokenError {
				t.Fatal(got)
			}
		}
		if _, got, err := verify(t, v, fresh(rs256(), c)); got != accepted {
			t.Fatal(err)
		}
		c.add(2 * time.Second)
	}
	if minutes := int(c.now().Sub(start) / time.Minute); fake.fetches > minutes || fake.discovery > minutes {
		t.Errorf("%d and %d requests in %d minutes", fake.discovery, fake.fetches, minutes)
	}
	if n.count() != fake.fetches+fake.discovery {
		t.Errorf("requests elsewhere: %q", n.requests)
	}
}

// A token that cannot be accepted in any case is not worth a request.
func TestNoRequestForBadClaims(t *testing.T) {
	v, n, _ := setup(t, []Issuer{emailIssuer()}, newFake(emailURL))
	for _, raw := range []string{with("aud", "x"), with("exp", 1), with("exp", absent), with("nbf", t0.Add(time.Hour).Unix()), with("iss", "https://evil.net")} {
		if _, got, _ := verify(t, v, raw); got != tokenError {
			t.Error(got)
		}
	}
	if n.count() != 0 {
		t.Errorf("requests: %q", n.requests)
	}
}

func TestIssuerDown(t *testing.T) {
	const otherURL = "https://other.example.com"
	fake, other := newFake(emailURL), newFake(otherURL)
	fake.down = true
	otherIssuer := emailIssuer()
	otherIssuer.URL = otherURL
	v, n, c := setup(t, []Issuer{emailIssuer(), otherIssuer}, fake, other)
	expect := func(want verdict, discovery int) {
		t.Helper()
		_, got, err := verify(t, v, fresh(rs256(), c))
		if got != want || fake.discovery != discovery {
			t.Errorf("%s after %d requests, want %s after %d: %v", got, fake.discovery, want, discovery, err)
		}
	}
	expect(unavailable, 1)
	expect(unavailable, 1) // the failure is remembered for a moment
	if _, got, err := verify(t, v, with("iss", otherURL)); got != accepted {
		t.Errorf("the other issuer: %v", err)
	}
	c.add(retryTime)
	expect(unavailable, 2)
	n.set(func() { fake.down = false })
	c.add(retryTime)
	expect(accepted, 3)

	// Once the keys are known the issuer may be away for a day.
	n.set(func() { fake.down = true })
	c.add(23 * time.Hour)
	expect(accepted, 4)
	expect(accepted, 4)
	c.add(retryTime)
	expect(accepted, 5)
	c.add(time.Hour)
	expect(unavailable, 6)
	n.set(func() { fake.down = false })
	c.add(retryTime)
	expect(accepted, 7)

	// An unknown key while the issuer is away may be a good one: not the client's fault.
	n.set(func() { fake.status = 500 })
	c.add(time.Minute)
	if _, got, err := verify(t, v, fresh(signer{"rsa-2", jose.RS256, testKeys().rsa2}, c)); got != unavailable {
		t.Errorf("unknown key: %s %v", got, err)
	}
	expect(accepted, 8)

	// A clock that was set back does not stop anything.
	n.set(func() { fake.status = 0 })
	c.add(-48 * time.Hour)
	expect(accepted, 9)
	expect(accepted, 9)
}

// Callers that come together share one fetch, and one whose client goes away does not take it
// from the others.
func TestOneFetchForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const otherURL = "https://other.example.com"
		fake, other := newFake(emailURL), newFake(otherURL)
		fake.block = make(chan struct{})
		otherIssuer := emailIssuer()
		otherIssuer.URL = otherURL
		v, _, _ := setup(t, []Issuer{emailIssuer(), otherIssuer}, fake, other)
		raw := with()

		var wg sync.WaitGroup
		leader, gone := context.WithCancel(t.Context())
		wg.Go(func() {
			if _, err := v.Verify(leader, raw); err != nil {
				t.Errorf("the first caller: %v", err)
			}
		})
		synctest.Wait()
		gone()
		for range 20 {
			wg.Go(func() {
				if _, err := v.Verify(t.Context(), raw); err != nil {
					t.Errorf("a waiting caller: %v", err)
				}
			})
		}
		impatient, stop := context.WithCancel(t.Context())
		wg.Go(func() {
			if _, err := v.Verify(impatient, raw); !errors.Is(err, ErrIssuerUnavailable) || !errors.Is(err, context.Canceled) {
				t.Errorf("the impatient caller: %v", err)
			}
		})
		synctest.Wait()
		stop()
		if _, err := v.Verify(t.Context(), with("iss", otherURL)); err != nil {
			t.Errorf("the other issuer waits: %v", err)
		}
		close(fake.block)
		wg.Wait()
		if fake.discovery != 1 || fake.fetches != 1 {
			t.Errorf("%d and %d requests, want 1 and 1", fake.discovery, fake.fetches)
		}
	})
}

// An issuer that does not answer is given up after ten seconds.
func TestFetchTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := newFake(emailURL)
		fake.block = make(chan struct{})
		v, _, _ := setup(t, []Issuer{emailIssuer()}, fake)
		start := time.Now()
		_, err := v.Verify(t.Context(), with())
		if !errors.Is(err, ErrIssuerUnavailable) || time.Since(start) != fetchTime {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
	})
}

// Ten requests for tenants at the same time are more than a pattern may have under way.
func TestConcurrentTenants(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		block := make(chan struct{})
		var fakes []*fakeIssuer
		for i := range maxConcurrent + 1 {
			f := newFake(fmt.Sprintf("https://tenant.example.org/t%d", i))
			f.block = block
			fakes = append(fakes, f)
		}
		v, _, c := setup(t, []Issuer{{URL: "https://tenant.example.org/*", ClientID: "sigstore", Type: "email"}}, fakes...)
		var wg sync.WaitGroup
		for _, f := range fakes[:maxConcurrent] {
			wg.Go(func() {
				if _, err := v.Verify(t.Context(), with("iss", f.url)); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		last := fakes[maxConcurrent].url
		if _, err := v.Verify(t.Context(), with("iss", last)); !errors.Is(err, ErrIssuerUnavailable) {
			t.Errorf("one too many: %v", err)
		}
		close(block)
		wg.Wait()
		c.add(retryTime)
		if _, err := v.Verify(t.Context(), with("iss", last)); err != nil {
			t.Error(err)
		}
	})
}

// A transport that panics leaves nothing locked behind.
func TestPanickingTransport(t *testing.T) {
	c := &clock{t: t0}
	panics := true
	fake := newNetwork(newFake(emailURL))
	i := emailIssuer()
	i.Transport = transport(func(r *http.Request) (*http.Response, error) {
		if panics {
			panic("transport")
		}
		return fake.RoundTrip(r)
	})
	v, err := NewVerifier(Config{Issuers: []Issuer{i}}, Options{Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	func() {
		defer func() { recover() }()
		v.Verify(t.Context(), with())
		t.Error("did not panic")
	}()
	if _, got, _ := verify(t, v, with()); got != unavailable {
		t.Error(got)
	}
	panics = false
	c.add(retryTime)
	if _, got, err := verify(t, v, with()); got != accepted {
		t.Error(err)
	}
}

type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// Over real TLS: CACert is needed and enough, an old protocol is refused, the proxy of the
// environment is not used, and a redirect to another port is not followed.
func TestOverTLS(t *testing.T) {
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	canary := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the canary was asked") }))
	defer canary.Close()

	redirect := false
	var server *httptest.Server
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case redirect:
			http.Redirect(w, r, canary.URL+r.URL.Path, http.StatusFound)
		case r.URL.Path == "/.well-known/openid-configuration":
			json.NewEncoder(w).Encode(map[string]any{"issuer": server.URL, "jwks_uri": server.URL + "/keys", "id_token_signing_alg_values_supported": []string{"RS256"}})
		default:
			json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{rs256().jwk()}})
		}
	})
	server = httptest.NewUnstartedServer(handler)
	quiet := log.New(io.Discard, "", 0)
	server.Config.ErrorLog = quiet
	server.StartTLS()
	defer server.Close()
	ca := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))

	check := func(ca string) (verdict, error) {
		t.Helper()
		c := &clock{t: t0}
		v, err := NewVerifier(Config{Issuers: []Issuer{{URL: server.URL, ClientID: "sigstore", Type: "email", CACert: ca}}}, Options{Now: c.now})
		if err != nil {
			t.Fatal(err)
		}
		_, got, err := verify(t, v, with("iss", server.URL))
		return got, err
	}
	if got, err := check(ca); got != accepted {
		t.Errorf("with CACert: %v", err)
	}
	if got, err := check(""); got != unavailable || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("without CACert: %s %v", got, err)
	}
	redirect = true
	if got, err := check(ca); got != unavailable || !strings.Contains(err.Error(), "redirect") {
		t.Errorf("redirect: %s %v", got, err)
	}

	old := httptest.NewUnstartedServer(handler)
	old.Config.ErrorLog = quiet
	old.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
	old.StartTLS()
	defer old.Close()
	server, redirect = old, false
	if got, err := check(ca); got != unavailable || !strings.Contains(err.Error(), "protocol version") {
		t.Errorf("TLS 1.1: %s %v", got, err)
	}
}

// A JWK Set of the largest size costs at most ten times its length and 1 MB.
func TestKeysAllocations(t *testing.T) {
	for name, unit := range map[string][3]string{
		"keys":    {`{"keys":[0`, `,0`, `]}`},
		"objects": {`{"keys":[{}`, `,{}`, `]}`},
		"members": {`{"keys":[{"a":0`, `,"a":0`, `}]}`},
		"x5c":     {`{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB","x5c":["AA=="`, `,"AA=="`, `]}]}`},
		"modulus": {`{"keys":[{"kty":"RSA","e":"AQAB","n":"AQAB`, `AQAB`, `"}]}`},
		"other":   {`{"keys":[]`, `,"a":0`, `}`},
		"nesting": {`{"keys":[`, `[`, `]}`},
	} {
		data := []byte(unit[0] + strings.Repeat(unit[1], (maxBody-200)/len(unit[1])) + unit[2])
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if _, err := parseKeys(data); err == nil {
			t.Errorf("%s: accepted", name)
		}
		runtime.ReadMemStats(&after)
		if got := after.TotalAlloc - before.TotalAlloc; got > uint64(10*len(data)+1<<20) {
			t.Errorf("%s: %d bytes allocated for %d", name, got, len(data))
		}
	}
}
