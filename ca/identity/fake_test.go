package identity

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

var t0 = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// A clock is set by the test.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// A signer makes tokens with one key.
type signer struct {
	kid string
	alg jose.SignatureAlgorithm
	key crypto.Signer
}

func (s signer) jwk() jose.JSONWebKey {
	return jose.JSONWebKey{Key: s.key.Public(), KeyID: s.kid, Algorithm: string(s.alg), Use: "sig"}
}

// header is the usual protected header.
func (s signer) header() map[string]any {
	return map[string]any{"alg": string(s.alg), "kid": s.kid, "typ": "JWT"}
}

func b64(data []byte) string { return base64.RawURLEncoding.EncodeToString(data) }

func mustJSON(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return data
}

// sign makes a compact JWS of exactly these bytes. It does not use go-jose, which would refuse to
// make most of what the tests need.
func (s signer) sign(header, payload []byte) string {
	input := b64(header) + "." + b64(payload)
	return input + "." + b64(s.signature(input))
}

func (s signer) signature(input string) []byte {
	digest := []byte(input)
	hash := crypto.Hash(0)
	switch s.alg {
	case jose.RS256, jose.ES256, jose.PS256:
		hash = crypto.SHA256
	case jose.RS384, jose.ES384, jose.PS384:
		hash = crypto.SHA384
	case jose.RS512, jose.ES512, jose.PS512:
		hash = crypto.SHA512
	}
	if hash != 0 {
		h := hash.New()
		h.Write(digest)
		digest = h.Sum(nil)
	}
	if key, ok := s.key.(*ecdsa.PrivateKey); ok {
		r, v, err := ecdsa.Sign(rand.Reader, key, digest)
		if err != nil {
			panic(err)
		}
		size := (key.Curve.Params().BitSize + 7) / 8
		return append(r.FillBytes(make([]byte, size)), v.FillBytes(make([]byte, size))...)
	}
	var opts crypto.SignerOpts = hash
	if s.alg[0] == 'P' {
		opts = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: hash}
	}
	signature, err := s.key.Sign(rand.Reader, digest, opts)
	if err != nil {
		panic(err)
	}
	return signature
}

// token signs claims with the usual header.
func (s signer) token(c map[string]any) string { return s.sign(mustJSON(s.header()), mustJSON(c)) }

var testKeys = sync.OnceValue(func() (keys struct {
	rsa, rsa2, weak  *rsa.PrivateKey
	p256, p384, p521 *ecdsa.PrivateKey
	ed               ed25519.PrivateKey
}) {
	must := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	var err error
	keys.rsa, err = rsa.GenerateKey(rand.Reader, 2048)
	must(err)
	keys.rsa2, err = rsa.GenerateKey(rand.Reader, 2048)
	must(err)
	keys.weak, err = rsa.GenerateKey(rand.Reader, 1024)
	must(err)
	keys.p256, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	keys.p384, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	must(err)
	keys.p521, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	must(err)
	_, keys.ed, err = ed25519.GenerateKey(rand.Reader)
	must(err)
	return keys
})

func rs256() signer { return signer{"rsa-1", jose.RS256, testKeys().rsa} }
func es256() signer { return signer{"ec-1", jose.ES256, testKeys().p256} }

// A fakeIssuer is what answers below one issuer URL.
type fakeIssuer struct {
	url       string
	document  map[string]any // discovery; nil: a good one
	algs      []string
	keys      []jose.JSONWebKey
	keysBody  []byte        // instead of keys
	keysURL   string        // jwks_uri; empty: url + "/keys"
	down      bool          // connection refused
	status    int           // of both answers, 0: 200
	redirect  string        // the document is said to be there
	moved     string        // the keys are said to be there
	block     chan struct{} // answers wait for this
	discovery int           // requests for the document
	fetches   int           // requests for the keys
}

// A network answers for all fake issuers, in process, and notes every request.
type network struct {
	mu       sync.Mutex
	issuers  map[string]*fakeIssuer
	requests []string
}

func newNetwork(issuers ...*fakeIssuer) *network {
	n := &network{issuers: map[string]*fakeIssuer{}}
	for _, i := range issuers {
		n.issuers[i.url] = i
	}
	return n
}

// set changes the state of issuers while requests may be under way.
func (n *network) set(f func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f()
}

func (n *network) count() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.requests)
}

// RoundTrip implements http.RoundTripper.
func (n *network) RoundTrip(r *http.Request) (*http.Response, error) {
	address := r.URL.String()
	n.mu.Lock()
	n.requests = append(n.requests, address)
	var found *fakeIssuer
	var isKeys bool
	for _, i := range n.issuers {
		base := strings.TrimSuffix(i.url, "/")
		switch address {
		case base + "/.well-known/openid-configuration", base + "/moved/openid-configuration":
			found = i
		case i.jwks():
			found, isKeys = i, true
		}
	}
	if found == nil {
		n.mu.Unlock()
		return respond(r, http.StatusNotFound, []byte("no such page")), nil
	}
	if isKeys {
		found.fetches++
	} else {
		found.discovery++
	}
	i := *found
	i.keys = append([]jose.JSONWebKey(nil), found.keys...)
	n.mu.Unlock()

	if i.block != nil {
		select {
		case <-i.block:
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	}
	switch {
	case i.down:
		return nil, errors.New("connection refused")
	case isKeys && i.moved != "", !isKeys && i.redirect != "" && address != i.redirect:
		response := respond(r, http.StatusFound, nil)
		response.Header.Set("Location", i.redirect+i.moved) // only one of them is set
		return response, nil
	case i.status != 0:
		return respond(r, i.status, []byte("trouble")), nil
	case isKeys && i.keysBody != nil:
		return respond(r, http.StatusOK, i.keysBody), nil
	case isKeys:
		return respond(r, http.StatusOK, mustJSON(jose.JSONWebKeySet{Keys: i.keys})), nil
	}
	document := map[string]any{"issuer": i.url, "jwks_uri": i.jwks()}
	if i.algs != nil {
		document["id_token_signing_alg_values_supported"] = i.algs
	}
	maps.Copy(document, i.document)
	return respond(r, http.StatusOK, mustJSON(document)), nil
}

func (i *fakeIssuer) jwks() string {
	if i.keysURL != "" {
		return i.keysURL
	}
	return strings.TrimSuffix(i.url, "/") + "/keys"
}

func respond(r *http.Request, status int, body []byte) *http.Response {
	return &http.Response{
		StatusCode: status, Status: fmt.Sprintf("%d %s", status, http.StatusText(status)), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)), Request: r,
	}
}

const emailURL = "https://issuer.example.com"

// emailClaims is a good token for the issuer emailURL, changed by the pairs name, value.
// A value of absent removes the claim.
func emailClaims(change ...any) map[string]any {
	c := map[string]any{
		"iss": emailURL, "sub": "subject-1", "aud": "sigstore", "exp": t0.Add(10 * time.Minute).Unix(),
		"iat": t0.Unix(), "email": "dev@example.com", "email_verified": true,
	}
	return changed(c, change)
}

// changed changes claims by pairs of a name and a value.
func changed(c map[string]any, change []any) map[string]any {
	for k := 0; k+1 < len(change); k += 2 {
		if change[k+1] == absent {
			delete(c, change[k].(string))
		} else {
			c[change[k].(string)] = change[k+1]
		}
	}
	return c
}

type absentType struct{}

var absent any = absentType{}

func newFake(url string) *fakeIssuer {
	return &fakeIssuer{url: url, algs: []string{"RS256", "ES256"}, keys: []jose.JSONWebKey{rs256().jwk(), es256().jwk()}}
}

// setup returns a Verifier of these issuers over a network that knows the fake ones.
func setup(t testing.TB, issuers []Issuer, fakes ...*fakeIssuer) (*Verifier, *network, *clock) {
	t.Helper()
	n, c := newNetwork(fakes...), &clock{t: t0}
	v, err := NewVerifier(Config{Issuers: issuers}, Options{Now: c.now, Transport: n})
	if err != nil {
		t.Fatal(err)
	}
	if n.count() != 0 {
		t.Fatal("NewVerifier made a request")
	}
	return v, n, c
}

func emailIssuer() Issuer { return Issuer{URL: emailURL, ClientID: "sigstore", Type: "email"} }

// verdict is what Verify answers, in one word for tables.
type verdict string

const (
	accepted    verdict = "accepted"
	tokenError  verdict = "ErrToken"
	unavailable verdict = "ErrIssuerUnavailable"
)

// verify returns the verdict and the error, and checks what holds for every answer.
func verify(t testing.TB, v *Verifier, raw string) (Identity, verdict, error) {
	t.Helper()
	id, err := v.Verify(context.Background(), raw)
	got := accepted
	switch {
	case errors.Is(err, ErrToken) && errors.Is(err, ErrIssuerUnavailable):
		t.Errorf("both sentinels in %v", err)
	case errors.Is(err, ErrToken):
		got = tokenError
	case errors.Is(err, ErrIssuerUnavailable):
		got = unavailable
	case err != nil:
		t.Fatalf("no sentinel in %v", err)
	}
	if id.Valid() != (err == nil) {
		t.Errorf("Valid is %v with the error %v", id.Valid(), err)
	}
	if err != nil {
		message := err.Error()
		if strings.ContainsAny(message, "\r\n") || len(message) > 1500 {
			t.Errorf("message of %d bytes is not one line: %.300q", len(message), message)
		}
		if _, signature, ok := strings.Cut(raw, "."); ok && len(signature) > 40 && strings.Contains(message, signature[len(signature)-30:]) {
			t.Errorf("the message has a part of the token: %q", message)
		}
	}
	return id, got, err
}
