package writes

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sigstack/sigstack/ca/ext"
	"github.com/sigstack/sigstack/ca/limit"
	"github.com/sigstack/sigstack/test/fuzz"
	"github.com/sigstack/sigstack/tlog/entry"
)

var t0 = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// A clock that a test moves.
type clock struct{ time.Time }

func (c *clock) now() time.Time { return c.Time }

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// An authority issues certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{key: newKey(t)}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "the CA"}, NotBefore: t0, NotAfter: t0.Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a.cert = a.sign(t, template, template, a.key.Public())
	return a
}

func (a *authority) sign(t testing.TB, template, parent *x509.Certificate, pub crypto.PublicKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, pub, a.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// issue makes a certificate as Fulcio has them, for an issuer of tokens and a name.
func (a *authority) issue(t testing.TB, key *ecdsa.PrivateKey, issuer, email string) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: t0, NotAfter: t0.Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
	}
	if email != "" {
		template.EmailAddresses = []string{email}
	}
	if issuer != "" {
		var err error
		if template.ExtraExtensions, err = (ext.Values{Issuer: issuer}).Extensions(); err != nil {
			t.Fatal(err)
		}
	}
	return a.sign(t, template, a.cert, key.Public())
}

var artifacts int

// signers are those of an entry: a hashedrekord with the key, or with the certificate.
func signers(t testing.TB, key *ecdsa.PrivateKey, cert *x509.Certificate) []entry.Signer {
	t.Helper()
	artifacts++
	digest := sha256.Sum256(fmt.Append(nil, "artifact ", artifacts))
	sig, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	block := &pem.Block{Type: "CERTIFICATE"}
	if cert != nil {
		block.Bytes = cert.Raw
	} else {
		block.Type = "PUBLIC KEY"
		if block.Bytes, err = x509.MarshalPKIXPublicKey(key.Public()); err != nil {
			t.Fatal(err)
		}
	}
	type m = map[string]any
	text, err := json.Marshal(m{"kind": "hashedrekord", "apiVersion": "0.0.1", "spec": m{
		"data":      m{"hash": m{"algorithm": "sha256", "value": hex.EncodeToString(digest[:])}},
		"signature": m{"content": sig, "publicKey": m{"content": pem.EncodeToMemory(block)}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	e, err := entry.Propose(text)
	if err != nil {
		t.Fatal(err)
	}
	return e.Signers
}

// refused fails unless an error is a refusal with this reason and this text in it.
func refused(t *testing.T, err error, class error, reason, text string) *Refusal {
	t.Helper()
	var r *Refusal
	if !errors.As(err, &r) || !errors.Is(err, class) || r.Reason != reason || !strings.Contains(err.Error(), text) {
		t.Fatalf("%#v: %v, want %s: %s", err, err, reason, text)
	}
	return r
}

// TestPerIP counts what comes from an address, and from a network of IPv6.
func TestPerIP(t *testing.T) {
	c := &clock{t0}
	control := New(Config{PerIP: limit.Limit{Number: 2, Per: time.Minute}, Now: c.now})
	from := func(a string) error { return control.Arrive(netip.MustParseAddr(a)) }
	for _, pair := range [][3]string{
		{"192.0.2.1", "::ffff:192.0.2.1", "192.0.2.2"},
		{"2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", "2001:db8:0:1::1"},
	} {
		if err := errors.Join(from(pair[0]), from(pair[1]), from(pair[2])); err != nil {
			t.Fatal(err)
		}
		r := refused(t, from(pair[0]), ErrLimited, ByPerIP, "too many entries from this address: 2 per 1m0s are allowed; try again in 30 s")
		if r.RetryAfter != 30*time.Second {
			t.Errorf("%s", r.RetryAfter)
		}
		refused(t, from(pair[1]), ErrLimited, ByPerIP, "")
		if err := from(pair[2]); err != nil {
			t.Error(err)
		}
	}
	c.Time = c.Add(30 * time.Second)
	if err := from("192.0.2.1"); err != nil {
		t.Error(err)
	}
}

// TestPerIdentity: who is the same, and who is another.
func TestPerIdentity(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t) // of one name
	issued := func(cert *x509.Certificate) bool { return cert.CheckSignatureFrom(ours.cert) == nil }
	control := New(Config{PerIdentity: limit.Limit{Number: 1, Per: time.Minute}, Issued: issued, Now: (&clock{t0}).now})
	const login, other = "https://login.example.com", "https://other.example.com"
	a, b := newKey(t), newKey(t)
	admit := func(s []entry.Signer) error { _, err := control.Admit(s); return err }
	pass := func(what string, s []entry.Signer) {
		t.Helper()
		if err := admit(s); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	stop := func(what string, s []entry.Signer) {
		t.Helper()
		if err := admit(s); err == nil {
			t.Errorf("%s passes", what)
		} else {
			refused(t, err, ErrLimited, ByPerIdentity, "too many entries by this identity: 1 per 1m0s are allowed; try again in 60 s")
		}
	}
	pass("a name", signers(t, a, ours.issue(t, a, login, "ann@example.com")))
	stop("the name with another key", signers(t, b, ours.issue(t, b, login, "ann@example.com")))
	pass("another name", signers(t, a, ours.issue(t, a, login, "bob@example.com")))
	pass("another issuer", signers(t, a, ours.issue(t, a, other, "ann@example.com")))
	pass("a certificate of another CA, which may be forged", signers(t, a, theirs.issue(t, a, login, "ann@example.com")))
	stop("a second one", signers(t, b, theirs.issue(t, b, login, "ann@example.com")))
	pass("one without an issuer", signers(t, b, theirs.issue(t, b, "", "ann@example.com")))
	pass("a key", signers(t, a, nil))
	stop("the key", signers(t, a, nil))
	pass("another key", signers(t, b, nil))
	nameless := newKey(t)
	pass("a certificate without a name", signers(t, nameless, theirs.issue(t, nameless, "", "")))
	stop("another certificate without a name", signers(t, nameless, ours.issue(t, nameless, login, "")))

	// All signers of an entry, each once.
	x, y := newKey(t), newKey(t)
	pass("two keys, one of them twice", append(append(signers(t, x, nil), signers(t, y, nil)...), signers(t, x, nil)...))
	stop("one of them", signers(t, y, nil))
	z := newKey(t)
	stop("one with another", append(signers(t, z, nil), signers(t, x, nil)...))
	pass("the other, of which nothing was taken", signers(t, z, nil))
}

// TestPutBack: what was not added does not count.
func TestPutBack(t *testing.T) {
	control := New(Config{PerIdentity: limit.Limit{Number: 1, Per: time.Minute}, Issued: func(*x509.Certificate) bool { return false }, Now: (&clock{t0}).now})
	key := newKey(t)
	for _, added := range []bool{false, false, true} {
		done, err := control.Admit(signers(t, key, nil))
		if err != nil {
			t.Fatal(err)
		}
		done(added)
	}
	_, err := control.Admit(signers(t, key, nil))
	refused(t, err, ErrLimited, ByPerIdentity, "")
}

// TestAuthenticate: tokens, certificates, both and neither.
func TestAuthenticate(t *testing.T) {
	a, stranger := newAuthority(t), newAuthority(t)
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	client := func(of *authority, usage x509.ExtKeyUsage) *tls.ConnectionState {
		template := &x509.Certificate{SerialNumber: big.NewInt(3), Subject: pkix.Name{CommonName: "builder"}, NotBefore: t0, NotAfter: t0.Add(time.Minute), ExtKeyUsage: []x509.ExtKeyUsage{usage}}
		return &tls.ConnectionState{PeerCertificates: []*x509.Certificate{of.sign(t, template, of.cert, newKey(t).Public())}}
	}
	good := client(a, x509.ExtKeyUsageClientAuth)
	token, line, err := NewToken("ci")
	if err != nil {
		t.Fatal(err)
	}
	second, line2, err := NewToken("laptop-2")
	if err != nil {
		t.Fatal(err)
	}
	tokens, err := ParseTokens([]byte(line + "\n" + line2 + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	bearers, certs, both, none := &Credentials{Tokens: tokens}, &Credentials{CAs: pool}, &Credentials{Tokens: tokens, CAs: pool}, &Credentials{}
	plain := &tls.ConnectionState{}
	many := func(n int) *tls.ConnectionState {
		return &tls.ConnectionState{PeerCertificates: append(slices.Clone(good.PeerCertificates), slices.Repeat([]*x509.Certificate{stranger.cert}, n-1)...)}
	}
	late := t0.Add(2 * time.Minute)
	for name, test := range map[string]struct {
		good          *Credentials
		now           time.Time
		authorization string
		conn          *tls.ConnectionState
		writer        string
		class         error
		reason, text  string
	}{
		"a token":                     {bearers, t0, "Bearer " + token, nil, "ci", nil, "", ""},
		"another token":               {both, t0, "bearer  " + second, plain, "laptop-2", nil, "", ""},
		"no token":                    {bearers, t0, "", nil, "", ErrCredentials, ByNoCredentials, "takes a bearer token (Authorization: Bearer ...)"},
		"a password":                  {bearers, t0, "Basic " + token, nil, "", ErrCredentials, ByNoCredentials, "takes a bearer token"},
		"a wrong token":               {bearers, t0, "Bearer " + token + "x", nil, "", ErrCredentials, ByBadToken, "not one that may add"},
		"its digest":                  {bearers, t0, "Bearer " + strings.Fields(line)[1], nil, "", ErrCredentials, ByBadToken, ""},
		"an empty token":              {bearers, t0, "Bearer ", nil, "", ErrCredentials, ByBadToken, ""},
		"a certificate for tokens":    {bearers, t0, "", good, "", ErrCredentials, ByNoCredentials, ""},
		"a certificate":               {certs, t0, "", good, "CN=builder", nil, "", ""},
		"a certificate for both":      {both, t0, "Bearer wrong", good, "CN=builder", nil, "", ""},
		"no certificate":              {certs, t0, "Bearer " + token, plain, "", ErrForbidden, ByNoCredentials, "takes a TLS client certificate"},
		"no connection with TLS":      {certs, t0, "", nil, "", ErrForbidden, ByNoCredentials, ""},
		"nothing for both":            {both, t0, "", plain, "", ErrCredentials, ByNoCredentials, "or a TLS client certificate"},
		"an expired certificate":      {certs, late, "", good, "", ErrForbidden, ByBadCertificate, "it has expired"},
		"a stranger's certificate":    {certs, t0, "", client(stranger, x509.ExtKeyUsageClientAuth), "", ErrForbidden, ByBadCertificate, "does not come from a CA that this server trusts"},
		"a server's certificate":      {certs, t0, "", client(a, x509.ExtKeyUsageServerAuth), "", ErrForbidden, ByBadCertificate, "extended key usage"},
		"a bad certificate and token": {both, late, "Bearer " + token, good, "ci", nil, "", ""},
		"a chain":                     {certs, t0, "", many(MaxChain), "CN=builder", nil, "", ""},
		"a long chain":                {certs, t0, "", many(MaxChain + 1), "", ErrForbidden, ByBadCertificate, "it comes with 10 others, at most 9 are looked at"},
		"a bad certificate for both":  {both, late, "", good, "", ErrForbidden, ByBadCertificate, ""},
		"both bad":                    {both, late, "Bearer x", good, "", ErrCredentials, ByBadToken, ""},
		"no token is good":            {none, t0, "Bearer " + token, good, "", ErrCredentials, ByNoCredentials, "no token may add"},
	} {
		control := New(Config{Credentials: func() *Credentials { return test.good }, Now: (&clock{test.now}).now})
		header := http.Header{}
		if test.authorization != "" {
			header.Set("Authorization", test.authorization)
		}
		writer, err := control.Authenticate(header, test.conn)
		if writer != test.writer || (err == nil) != (test.class == nil) {
			t.Errorf("%s: %q, %v", name, writer, err)
		}
		if test.class == nil {
			continue
		}
		r := refused(t, err, test.class, test.reason, test.text)
		if strings.Contains(err.Error(), token) || (r.Challenge != "") != (test.class == ErrCredentials) || strings.Contains(r.Challenge, "invalid_token") != (test.reason == ByBadToken) {
			t.Errorf("%s: %s, %q", name, err, r.Challenge)
		}
	}
}

// TestOff: what is not configured costs nothing.
func TestOff(t *testing.T) {
	control := New(Config{})
	header, from, by := http.Header{"Authorization": {"Bearer x"}}, netip.MustParseAddr("192.0.2.1"), signers(t, newKey(t), nil)
	if n := testing.AllocsPerRun(100, func() {
		done, err := control.Admit(by)
		writer, err2 := control.Authenticate(header, nil)
		if err != nil || err2 != nil || writer != "" || control.Arrive(from) != nil {
			t.Fatal("refused")
		}
		done(true)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestTokenFile(t *testing.T) {
	token, line, err := NewToken("a.B-1_")
	if err != nil || !strings.HasPrefix(token, "sigstack-write-") || strings.Contains(line, token) {
		t.Fatalf("%s %s %v", token, line, err)
	}
	another, _, _ := NewToken("a")
	if another == token {
		t.Fatal("one token twice")
	}
	got, err := ParseTokens([]byte("# tokens\n\n  " + line + " # until May\n"))
	if err != nil || len(got) != 1 || got[0].Name != "a.B-1_" || got[0].Digest != sha256.Sum256([]byte(token)) {
		t.Errorf("%v, %v", got, err)
	}
	hash := strings.Repeat("0", 64)
	var many strings.Builder
	for i := range MaxTokens + 1 {
		fmt.Fprintf(&many, "n %064x\n", i)
	}
	if got, err := ParseTokens([]byte(strings.Join(strings.Split(many.String(), "\n")[:MaxTokens], "\n"))); err != nil || len(got) != MaxTokens || many.Len() > 2*MaxTokenFile {
		t.Errorf("%d tokens, %v", len(got), err)
	}
	for text, want := range map[string]string{
		token:                                "line 1 has 1 words",
		"ci " + token:                        "line 1: the second word has 58 characters",
		"x\n":                                "line 1 has 1 words",
		"\nci " + hash + " x":                "line 2 has 3 words",
		"a/b " + hash:                        "line 1: 1 to 64 letters",
		strings.Repeat("x", 65) + " " + hash: "line 1: 1 to 64 letters",
		"ci " + strings.Repeat("x", 64):      "line 1: the second word is not hexadecimal",
		"a " + hash + "\nb " + hash:          "line 2 is the token of line 1",
		many.String():                        "line 501: there are more than 500 tokens",
	} {
		if _, err := ParseTokens([]byte(text)); err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), token) {
			t.Errorf("%.60q: %v, want %s", text, err, want)
		}
	}
	for _, name := range []string{"", "a b", "a#", "ä", strings.Repeat("x", 65)} {
		if _, _, err := NewToken(name); err == nil {
			t.Errorf("the name %q is taken", name)
		}
	}
}

// A file of tokens: what is read has names for the log, and reads as the same again.
func FuzzParseTokens(f *testing.F) {
	hash := strings.Repeat("0123456789abcdef", 4)
	seeds := fuzz.Seeds("ci "+hash+"\n", "# x\n\nci "+hash+" # y\nlaptop "+strings.ToUpper(hash[1:])+"F\r\n")
	fuzz.Run(f, seeds, ParseTokens, func(t *testing.T, in []byte, got []Token, err error) {
		if len(got) > MaxTokens || err != nil && (got != nil || len(err.Error()) > 200) {
			t.Fatalf("%d tokens, %v", len(got), err)
		}
		var text strings.Builder
		for _, token := range got {
			if !plainName(token.Name) {
				t.Fatalf("the name %q", token.Name)
			}
			fmt.Fprintf(&text, "%s %x\n", token.Name, token.Digest)
		}
		if again, err := ParseTokens([]byte(text.String())); err != nil || fmt.Sprint(again) != fmt.Sprint(got) {
			t.Fatalf("%v, %v", again, err)
		}
	})
}
