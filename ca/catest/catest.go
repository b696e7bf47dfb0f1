// Package catest has what tests of the CA and of its users need around it: an
// identity provider and a CT log, both real in their cryptography and both
// without a network.
package catest

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sigstack/sigstack/ca/identity"
)

// Audience is the client id that Issuer's tokens are for.
const Audience = "sigstore"

// An Issuer is an OpenID Connect provider that is reached as a RoundTripper.
type Issuer struct {
	URL  string
	Down bool // every request fails

	// Hold is called by the next request, before it is answered.
	Hold atomic.Pointer[func()]

	key *ecdsa.PrivateKey
}

// NewIssuer makes a provider with an ES256 key.
func NewIssuer(t testing.TB, url string) *Issuer {
	return &Issuer{URL: url, key: ECDSA(t, elliptic.P256())}
}

// RoundTrip serves discovery and keys.
func (i *Issuer) RoundTrip(r *http.Request) (*http.Response, error) {
	if hold := i.Hold.Swap(nil); hold != nil {
		(*hold)()
	}
	if i.Down {
		return nil, errors.New("connection refused")
	}
	var body any
	switch {
	case strings.HasSuffix(r.URL.Path, "/.well-known/openid-configuration"):
		body = map[string]any{
			"issuer":                                i.URL,
			"jwks_uri":                              i.URL + "/keys",
			"authorization_endpoint":                i.URL + "/auth",
			"token_endpoint":                        i.URL + "/token",
			"id_token_signing_alg_values_supported": []string{"ES256"},
			"response_types_supported":              []string{"code"},
			"subject_types_supported":               []string{"public"},
		}
	case strings.HasSuffix(r.URL.Path, "/keys"):
		point, err := i.key.PublicKey.Bytes()
		if err != nil {
			return nil, err
		}
		body = map[string]any{"keys": []any{map[string]string{
			"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": "1",
			"x": base64.RawURLEncoding.EncodeToString(point[1:33]),
			"y": base64.RawURLEncoding.EncodeToString(point[33:]),
		}}}
	default:
		return &http.Response{StatusCode: http.StatusNotFound, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
	}
	text, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	return &http.Response{
		StatusCode: http.StatusOK,
		Header:     http.Header{"Content-Type": {"application/json"}},
		Body:       io.NopCloser(bytes.NewReader(text)),
		Request:    r,
	}, nil
}

// ServeHTTP does the same for a server process, which cannot be given a
// RoundTripper.
func (i *Issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	answer, err := i.RoundTrip(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", answer.Header.Get("Content-Type"))
	w.WriteHeader(answer.StatusCode)
	_, _ = io.Copy(w, answer.Body) // to a client that may be gone
}

// Token signs claims. Issuer, audience and times around now are filled in and
// can be replaced.
func (i *Issuer) Token(t testing.TB, now time.Time, claims map[string]any) string {
	t.Helper()
	all := map[string]any{
		"iss": i.URL,
		"aud": Audience,
		"iat": now.Unix(),
		"exp": now.Add(5 * time.Minute).Unix(),
	}
	maps.Copy(all, claims)
	payload, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.RawURLEncoding
	input := b64.EncodeToString([]byte(`{"alg":"ES256","kid":"1","typ":"JWT"}`)) + "." + b64.EncodeToString(payload)
	digest := sha256.Sum256([]byte(input))
	r, s, err := ecdsa.Sign(rand.Reader, i.key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	return input + "." + b64.EncodeToString(append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...))
}

// EmailToken is a token of a verified e-mail address.
func (i *Issuer) EmailToken(t testing.TB, now time.Time, email string) string {
	t.Helper()
	return i.Token(t, now, map[string]any{"sub": "subject-1", "email": email, "email_verified": true})
}

// Verifier accepts this issuer's tokens as e-mail identities, and further issuers.
func (i *Issuer) Verifier(t testing.TB, now func() time.Time, more ...identity.Issuer) *identity.Verifier {
	t.Helper()
	issuers := append([]identity.Issuer{{URL: i.URL, ClientID: Audience, Type: "email", Transport: i}}, more...)
	v, err := identity.NewVerifier(identity.Config{Issuers: issuers}, identity.Options{Now: now})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// Identity is the verified identity of an e-mail address.
func (i *Issuer) Identity(t testing.TB, now time.Time, email string) identity.Identity {
	t.Helper()
	id, err := i.Verifier(t, func() time.Time { return now }).Verify(context.Background(), i.EmailToken(t, now, email))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// A Log is a CT log that keeps its entries in memory and signs real SCTs.
type Log struct {
	Now    func() time.Time
	Err    error               // if not nil, AddPreChain fails with it
	Change func([]byte) []byte // if not nil, the last word on an SCT

	key  *ecdsa.PrivateKey
	mu   sync.Mutex
	scts map[[32]byte][]byte // by SHA-256 of the precertificate
	tbs  [][]byte            // what was logged, in order
}

// NewLog makes an empty log with a P-256 key.
func NewLog(t testing.TB, now func() time.Time) *Log {
	return &Log{Now: now, key: ECDSA(t, elliptic.P256()), scts: map[[32]byte][]byte{}}
}

// PublicKey is the key that SCTs verify by.
func (l *Log) PublicKey() crypto.PublicKey { return l.key.Public() }

// Len is the number of entries.
func (l *Log) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.tbs)
}

// AddPreChain is package ca's CTLog.
func (l *Log) AddPreChain(ctx context.Context, precert []byte, chain [][]byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if l.Err != nil {
		return nil, l.Err
	}
	cert, err := x509.ParseCertificate(precert)
	if err != nil {
		return nil, err
	}
	if len(chain) == 0 {
		return nil, errors.New("no chain")
	}
	issuer, err := x509.ParseCertificate(chain[0])
	if err != nil {
		return nil, err
	}
	if err := cert.CheckSignatureFrom(issuer); err != nil {
		return nil, err
	}
	tbs, err := withoutPoison(cert)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	id := sha256.Sum256(precert)
	sct, ok := l.scts[id]
	if !ok {
		if sct, err = l.sign(issuer, tbs); err != nil {
			return nil, err
		}
		l.scts[id] = sct
		l.tbs = append(l.tbs, tbs)
	}
	if l.Change != nil {
		return l.Change(bytes.Clone(sct)), nil
	}
	return sct, nil
}

// sign makes an SCT as RFC 6962, section 3.2 says, with plain byte arithmetic.
func (l *Log) sign(issuer *x509.Certificate, tbs []byte) ([]byte, error) {
	spki, err := x509.MarshalPKIXPublicKey(l.key.Public())
	if err != nil {
		return nil, err
	}
	logID, issuerKey := sha256.Sum256(spki), sha256.Sum256(issuer.RawSubjectPublicKeyInfo)
	at := binary.BigEndian.AppendUint64(nil, uint64(l.Now().UnixMilli()))

	message := append([]byte{0, 0}, at...)
	message = append(message, 0, 1)
	message = append(message, issuerKey[:]...)
	message = append(message, byte(len(tbs)>>16), byte(len(tbs)>>8), byte(len(tbs)))
	message = append(message, tbs...)
	message = append(message, 0, 0)
	digest := sha256.Sum256(message)
	signature, err := ecdsa.SignASN1(rand.Reader, l.key, digest[:])
	if err != nil {
		return nil, err
	}

	sct := append([]byte{0}, logID[:]...)
	sct = append(sct, at...)
	sct = append(sct, 0, 0, 4, 3)
	sct = binary.BigEndian.AppendUint16(sct, uint16(len(signature)))
	return append(sct, signature...), nil
}

// withoutPoison goes through encoding/asn1, which nothing in package ca does.
func withoutPoison(cert *x509.Certificate) ([]byte, error) {
	var fields []asn1.RawValue
	if _, err := asn1.Unmarshal(cert.RawTBSCertificate, &fields); err != nil {
		return nil, err
	}
	last := &fields[len(fields)-1]
	var extensions []asn1.RawValue
	if _, err := asn1.Unmarshal(last.Bytes, &extensions); err != nil {
		return nil, err
	}
	poison, err := asn1.Marshal(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 3})
	if err != nil {
		return nil, err
	}
	kept := extensions[:0]
	for _, e := range extensions {
		if !bytes.HasPrefix(e.Bytes, poison) {
			kept = append(kept, e)
		}
	}
	if len(kept)+1 != len(extensions) {
		return nil, errors.New("not a precertificate")
	}
	list, err := asn1.Marshal(kept)
	if err != nil {
		return nil, err
	}
	*last = asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 3, IsCompound: true, Bytes: list}
	return asn1.Marshal(fields)
}

// ECDSA makes a key.
func ECDSA(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}
