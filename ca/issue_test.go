package ca

import (
	"bytes"
	"cmp"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sigstack/sigstack/ca/catest"
	"github.com/sigstack/sigstack/ca/ext"
	"github.com/sigstack/sigstack/ca/identity"
)

var testTime = time.Date(2026, 3, 4, 5, 6, 7, 890e6, time.UTC)

const testEmail = "dev@example.com"

// A world is a CA with everything around it. Its parts can be broken one by one.
type world struct {
	*CA
	chain    *Chain
	log      *catest.Log
	audit    *auditLog
	signer   *faultySigner
	identity identity.Identity
	now      time.Time
}

type auditLog struct {
	intendErr, err error // of Intend and of Issued
	onIntend       func()

	mu      sync.Mutex
	intents []Intent
	rows    []Record
	failed  []Failure
}

func (a *auditLog) Intend(ctx context.Context, i Intent) (Intended, error) {
	if a.onIntend != nil {
		a.onIntend()
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if a.intendErr != nil {
		return nil, a.intendErr
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.intents = append(a.intents, i)
	return a, nil
}

func (a *auditLog) Issued(ctx context.Context, r Record) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if a.err != nil {
		return a.err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.rows = append(a.rows, r)
	return nil
}

func (a *auditLog) Failed(why Failure) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.failed = append(a.failed, why)
}

// A faultySigner passes the n-th signature (from 0) through change.
type faultySigner struct {
	crypto.Signer
	mu     sync.Mutex
	calls  int
	at     int
	change func(signature []byte) ([]byte, error)
}

func (s *faultySigner) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	signature, err := s.Signer.Sign(random, digest, opts)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.change != nil && s.calls == s.at && err == nil {
		signature, err = s.change(signature)
	}
	s.calls++
	return signature, err
}

func newWorld(t testing.TB, root, issuing crypto.Signer) *world {
	t.Helper()
	w := &world{now: testTime, audit: &auditLog{}, signer: &faultySigner{Signer: issuing}}
	w.log = catest.NewLog(t, func() time.Time { return w.now })
	certs, err := CreateHierarchy("Example", root, issuing, testTime.Add(-time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if w.chain, err = NewChain(certs, w.signer); err != nil {
		t.Fatal(err)
	}
	w.CA, err = New(Config{Chain: w.chain, CTLog: w.log, Audit: w.audit, Now: func() time.Time { return w.now }})
	if err != nil {
		t.Fatal(err)
	}
	w.identity = catest.NewIssuer(t, "https://issuer.example.com").Identity(t, testTime, testEmail)
	return w
}

func newP256World(t testing.TB) *world {
	return newWorld(t, catest.ECDSA(t, elliptic.P256()), catest.ECDSA(t, elliptic.P256()))
}

// prove makes the proof of possession of a key as clients do.
func prove(t testing.TB, key crypto.Signer, subject string) ProvenKey {
	t.Helper()
	proof, err := signProof(key, hashesOf(key.Public())[0], subject)
	if err != nil {
		t.Fatal(err)
	}
	k, err := VerifyProof(key.Public(), []string{subject}, proof)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func signProof(key crypto.Signer, h crypto.Hash, message string) ([]byte, error) {
	if _, ok := key.(ed25519.PrivateKey); ok {
		return key.Sign(rand.Reader, []byte(message), crypto.Hash(0))
	}
	digest := h.New()
	digest.Write([]byte(message))
	return key.Sign(rand.Reader, digest.Sum(nil), h)
}

func (w *world) request(t testing.TB) Request {
	t.Helper()
	return Request{Identity: w.identity, Key: prove(t, catest.ECDSA(t, elliptic.P256()), testEmail), RequestID: "request-1"}
}

// check holds an issued certificate against everything that the package promises.
func (w *world) check(t testing.TB, req Request, issued *Issued) *x509.Certificate {
	t.Helper()
	cert, err := x509.ParseCertificate(issued.Leaf)
	if err != nil {
		t.Fatal(err)
	}
	certs := w.chain.Certificates()
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(certs[len(certs)-1])
	for _, c := range certs[:len(certs)-1] {
		intermediates.AddCert(c)
	}
	if _, err := cert.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: intermediates, CurrentTime: w.now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
	}); err != nil {
		t.Errorf("the certificate does not verify to the root: %v", err)
	}
	now := w.now.Truncate(time.Second)
	if !cert.NotBefore.Equal(now) || !cert.NotAfter.Equal(now.Add(10*time.Minute)) {
		t.Errorf("validity %v to %v, want ten minutes from %v", cert.NotBefore, cert.NotAfter, now)
	}
	if len(cert.Subject.Names) != 0 || cert.Version != 3 || len(cert.SerialNumber.Bytes()) != 20 {
		t.Errorf("subject %v, version %d, serial %x", cert.Subject, cert.Version, cert.SerialNumber)
	}
	if !bytes.Equal(cert.RawSubjectPublicKeyInfo, req.Key.spki) {
		t.Error("another key")
	}

	// Extensions, byte by byte and in order.
	values, err := w.identity.Extensions().Extensions()
	if err != nil {
		t.Fatal(err)
	}
	type row struct {
		id       string
		critical bool
		value    []byte
	}
	san := append([]byte{0x30, byte(len(testEmail) + 2), 0x81, byte(len(testEmail))}, testEmail...)
	keyBits, err := cert.PublicKey.(interface{ Bytes() ([]byte, error) }).Bytes()
	if err != nil {
		t.Fatal(err)
	}
	keyID := sha1.Sum(keyBits)
	want := []row{
		{"2.5.29.15", true, []byte{3, 2, 7, 0x80}},
		{"2.5.29.37", false, []byte{0x30, 10, 6, 8, 0x2b, 6, 1, 5, 5, 7, 3, 3}},
		{"2.5.29.14", false, append([]byte{4, 20}, keyID[:]...)},
		{"2.5.29.35", false, append([]byte{0x30, 22, 0x80, 20}, certs[0].SubjectKeyId...)},
		{"2.5.29.17", true, san},
	}
	for _, v := range values {
		want = append(want, row{v.Id.String(), false, v.Value})
	}
	n := len(issued.SCT)
	list := append([]byte{byte((n + 2) >> 8), byte(n + 2), byte(n >> 8), byte(n)}, issued.SCT...)
	octets, err := asn1.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	want = append(want, row{"1.3.6.1.4.1.11129.2.4.2", false, octets})
	if len(cert.Extensions) != len(want) {
		t.Fatalf("%d extensions, want %d", len(cert.Extensions), len(want))
	}
	for i, e := range cert.Extensions {
		if e.Id.String() != want[i].id || e.Critical != want[i].critical || !bytes.Equal(e.Value, want[i].value) {
			t.Errorf("extension %d: %v %v %x\nwant %v %v %x", i, e.Id, e.Critical, e.Value, want[i].id, want[i].critical, want[i].value)
		}
	}

	// The audit row.
	row0 := w.audit.rows[len(w.audit.rows)-1]
	if row0 != issued.Audit {
		t.Error("another row was answered than written")
	}
	if row0.Serial != fmt.Sprintf("%x", cert.SerialNumber) || row0.CertificateSHA256 != sha256.Sum256(issued.Leaf) ||
		row0.PublicKeySHA256 != sha256.Sum256(cert.RawSubjectPublicKeyInfo) || row0.RequestID != req.RequestID ||
		row0.SAN != (ext.SAN{Kind: ext.Email, Value: testEmail}) ||
		!row0.NotBefore.Equal(cert.NotBefore) || !row0.NotAfter.Equal(cert.NotAfter) || !row0.SCTTime.Equal(w.now.Truncate(time.Millisecond)) ||
		row0.PrecertLeafHash == [32]byte{} {
		t.Errorf("audit row %+v", row0)
	}
	intent := w.audit.intents[len(w.audit.intents)-1]
	if intent.Serial != row0.Serial || intent.SAN != row0.SAN || intent.Issuer != "https://issuer.example.com" || intent.Subject != "subject-1" ||
		intent.PublicKeySHA256 != row0.PublicKeySHA256 || intent.IssuerKeySHA256 != sha256.Sum256(certs[0].RawSubjectPublicKeyInfo) ||
		!intent.NotBefore.Equal(cert.NotBefore) || !intent.NotAfter.Equal(cert.NotAfter) || intent.RequestID != req.RequestID ||
		!bytes.Equal(intent.Claims, w.identity.Claims()) || intent.Token != w.identity.Token() || intent.Audit != w.identity.Audit() {
		t.Errorf("intent %+v", intent)
	}
	return cert
}

func TestIssue(t *testing.T) {
	rsaCA, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		key     crypto.Signer
		want    x509.SignatureAlgorithm
		openssl string
	}{
		{"P-256", catest.ECDSA(t, elliptic.P256()), x509.ECDSAWithSHA256, "ecdsa-with-SHA256"},
		{"P-384", catest.ECDSA(t, elliptic.P384()), x509.ECDSAWithSHA384, "ecdsa-with-SHA384"},
		{"P-521", catest.ECDSA(t, elliptic.P521()), x509.ECDSAWithSHA512, "ecdsa-with-SHA512"},
		{"RSA", rsaCA, x509.SHA256WithRSA, "sha256WithRSAEncryption"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, catest.ECDSA(t, elliptic.P384()), c.key)
			req := w.request(t)
			issued, err := w.Issue(context.Background(), req)
			if err != nil {
				t.Fatal(err)
			}
			cert := w.check(t, req, issued)
			if cert.SignatureAlgorithm != c.want {
				t.Errorf("signed with %v, want %v", cert.SignatureAlgorithm, c.want)
			}
			if w.log.Len() != 1 || w.signer.calls != 2 || len(issued.Chain) != 2 {
				t.Errorf("%d log entries, %d signatures, %d parents", w.log.Len(), w.signer.calls, len(issued.Chain))
			}
			text := opensslText(t, issued.Leaf)
			for _, want := range []string{
				"Signature Algorithm: " + c.openssl, "email:" + testEmail, "Code Signing", "X509v3 Key Usage: critical",
				"X509v3 Subject Alternative Name: critical", "1.3.6.1.4.1.57264.1.1:", "1.3.6.1.4.1.57264.1.8:",
				"CT Precertificate SCTs:", "CN = sigstack-intermediate", "O = Example", "Subject: \n",
			} {
				if text != "" && !strings.Contains(text, want) {
					t.Errorf("openssl does not show %q:\n%s", want, text)
				}
			}
		})
	}
}

// opensslText is the certificate as OpenSSL reads it, or empty without OpenSSL.
func opensslText(t *testing.T, der []byte) string {
	path, err := exec.LookPath("openssl")
	if err != nil {
		return ""
	}
	cmd := exec.Command(path, "x509", "-noout", "-text")
	cmd.Stdin = bytes.NewReader(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("openssl: %v\n%s", err, out)
	}
	return string(out)
}

// Every kind of client key becomes a certificate.
func TestIssueForKeys(t *testing.T) {
	w := newP256World(t)
	for name, key := range testKeys(t) {
		issued, err := w.Issue(context.Background(), Request{Identity: w.identity, Key: prove(t, key, testEmail)})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		cert, err := x509.ParseCertificate(issued.Leaf)
		if err != nil || !cert.PublicKey.(interface{ Equal(crypto.PublicKey) bool }).Equal(key.Public()) {
			t.Errorf("%s: another key: %v", name, err)
		}
	}
}

func testKeys(t testing.TB) map[string]crypto.Signer {
	t.Helper()
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]crypto.Signer{
		"P-256": catest.ECDSA(t, elliptic.P256()), "P-384": catest.ECDSA(t, elliptic.P384()), "P-521": catest.ECDSA(t, elliptic.P521()),
		"Ed25519": ed, "RSA-2048": rsaKey,
	}
}

// The longest profile: a workflow identity with all its extensions.
func TestIssueForWorkflow(t *testing.T) {
	w := newP256World(t)
	issuer := catest.NewIssuer(t, "https://token.example.com")
	claims := map[string]any{"sub": "repo:octo/app:ref:refs/heads/main", "file": "octo/app/.github/workflows/release.yml@refs/heads/main"}
	templates := &identity.Templates{SAN: "https://github.com/{{.file}}", Extensions: map[string]string{}}
	for _, key := range ext.Keys() {
		templates.Extensions[key] = "value-of-" + key
		claims["value-of-"+key] = key
	}
	verifier, err := identity.NewVerifier(identity.Config{Issuers: []identity.Issuer{
		{URL: issuer.URL, ClientID: catest.Audience, Type: "ci-provider", Templates: templates, Transport: issuer},
	}}, identity.Options{Now: func() time.Time { return testTime }})
	if err != nil {
		t.Fatal(err)
	}
	if w.identity, err = verifier.Verify(context.Background(), issuer.Token(t, testTime, claims)); err != nil {
		t.Fatal(err)
	}
	issued, err := w.Issue(context.Background(), Request{Identity: w.identity, Key: prove(t, catest.ECDSA(t, elliptic.P256()), w.identity.Subject())})
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(issued.Leaf)
	if err != nil {
		t.Fatal(err)
	}
	var order []string
	for _, e := range cert.Extensions {
		order = append(order, strings.TrimPrefix(e.Id.String(), "1.3.6.1.4.1."))
	}
	want := "2.5.29.15 2.5.29.37 2.5.29.14 2.5.29.35 2.5.29.17"
	for n := range 25 {
		if n != 0 && n != 7 {
			want += fmt.Sprintf(" 57264.1.%d", n)
		}
	}
	if got := strings.Join(order, " "); got != want+" 11129.2.4.2" {
		t.Errorf("extensions %s", got)
	}
	if len(cert.URIs) != 1 || cert.URIs[0].String() != "https://github.com/octo/app/.github/workflows/release.yml@refs/heads/main" {
		t.Errorf("SAN %v", cert.URIs)
	}
}

// Many at once; the race detector watches.
func TestIssueConcurrently(t *testing.T) {
	w := newP256World(t)
	req := w.request(t)
	var group sync.WaitGroup
	for range 32 {
		group.Go(func() {
			if _, err := w.Issue(context.Background(), req); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	serials := map[string]bool{}
	for i, row := range w.audit.rows {
		serials[row.Serial] = true
		serials[w.audit.intents[i].Serial] = true
	}
	if len(serials) != 32 || w.log.Len() != 32 {
		t.Errorf("%d serials, %d log entries", len(serials), w.log.Len())
	}
}

// Our own trouble, wherever it is, is ErrUnavailable, gives no certificate, and
// says nothing about our inside to the client.
func TestTrouble(t *testing.T) {
	secret := errors.New("dial tcp 10.0.0.1: planted")
	flip := func(at int) func([]byte) []byte {
		return func(b []byte) []byte {
			if at < 0 {
				at += len(b)
			}
			b[at] ^= 1
			return b
		}
	}
	for _, c := range []struct {
		name    string
		breakIt func(*world)
		message string
		logged  int
		failure Failure // that is noted; "" where nothing is recorded yet
	}{
		{"log fails", func(w *world) { w.log.Err = secret }, msgLog, 0, FailedLog},
		{"log answers nothing", func(w *world) { w.log.Change = func([]byte) []byte { return nil } }, msgLog, 1, FailedSCT},
		{"SCT version", func(w *world) { w.log.Change = flip(0) }, msgLog, 1, FailedSCT},
		{"SCT log id", func(w *world) { w.log.Change = flip(1) }, msgLog, 1, FailedSCT},
		{"SCT time", func(w *world) { w.log.Change = flip(40) }, msgLog, 1, FailedSCT},
		{"SCT hash", func(w *world) { w.log.Change = flip(43) }, msgLog, 1, FailedSCT},
		{"SCT algorithm", func(w *world) { w.log.Change = flip(44) }, msgLog, 1, FailedSCT},
		{"SCT signature", func(w *world) { w.log.Change = flip(-1) }, msgLog, 1, FailedSCT},
		{"SCT trailing byte", func(w *world) { w.log.Change = func(b []byte) []byte { return append(b, 0) } }, msgLog, 1, FailedSCT},
		{"log's clock ahead", func(w *world) { w.log.Now = func() time.Time { return w.now.Add(5*time.Minute + time.Second) } }, msgLog, 1, FailedSCT},
		{"log's clock behind", func(w *world) { w.log.Now = func() time.Time { return w.now.Add(-5*time.Minute - time.Second) } }, msgLog, 1, FailedSCT},
		{"signer fails first", func(w *world) {
			w.signer.change = func([]byte) ([]byte, error) { return nil, secret }
		}, msgBackend, 0, FailedSigner},
		{"signer fails second", func(w *world) {
			w.signer.at, w.signer.change = 1, func([]byte) ([]byte, error) { return nil, secret }
		}, msgBackend, 1, FailedSigner},
		{"signer lies first", func(w *world) {
			w.signer.change = func(b []byte) ([]byte, error) { return flip(-1)(b), nil }
		}, msgLog, 0, FailedLog}, // it is the log that notices
		{"signer lies second", func(w *world) {
			w.signer.at, w.signer.change = 1, func(b []byte) ([]byte, error) { return flip(-1)(b), nil }
		}, msgBackend, 1, FailedSigner},
		{"intent fails", func(w *world) { w.audit.intendErr = secret }, msgAudit, 0, ""},
		{"audit fails", func(w *world) { w.audit.err = secret }, msgAudit, 1, FailedAudit},
		{"issuer ends soon", func(w *world) { w.now = w.chain.notAfter.Add(-10*time.Minute + time.Second) }, msgBackend, 0, ""},
		{"clock before the chain", func(w *world) { w.now = w.chain.notBefore.Add(-time.Second) }, msgBackend, 0, ""},
		{"no randomness", func(w *world) { w.CA.rand = strings.NewReader("short") }, msgBackend, 0, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newP256World(t)
			c.breakIt(w)
			issued, err := w.Issue(context.Background(), w.request(t))
			if issued != nil || !errors.Is(err, ErrUnavailable) || errors.Is(err, ErrRequest) {
				t.Fatalf("issued %v, error %v", issued, err)
			}
			var e *Error
			if !errors.As(err, &e) || e.Public() != c.message {
				t.Errorf("the client is told %q, want %q", e.Public(), c.message)
			}
			if w.log.Len() != c.logged || len(w.audit.rows) != 0 {
				t.Errorf("%d log entries, want %d; %d audit rows", w.log.Len(), c.logged, len(w.audit.rows))
			}
			intents, failures := 0, []Failure(nil)
			if c.failure != "" {
				intents, failures = 1, []Failure{c.failure}
			}
			if len(w.audit.intents) != intents || !slices.Equal(w.audit.failed, failures) {
				t.Errorf("%d intents, failures %q; want %d and %q", len(w.audit.intents), w.audit.failed, intents, failures)
			}
			if c.failure == "" && w.signer.calls != 0 {
				t.Errorf("%d signatures of what nothing was recorded of", w.signer.calls)
			}
			t.Log(err)
		})
	}
}

// The last possible moment: the certificate ends with its issuer.
func TestIssueUntilTheEnd(t *testing.T) {
	w := newP256World(t)
	w.now = w.chain.notAfter.Add(-10 * time.Minute)
	if _, err := w.Issue(context.Background(), w.request(t)); err != nil {
		t.Error(err)
	}
}

// A client that hangs up while its certificate is being signed leaves an audit
// row, for the certificate exists.
func TestAuditAfterCancel(t *testing.T) {
	w := newP256World(t)
	ctx, cancel := context.WithCancel(context.Background())
	w.signer.at, w.signer.change = 1, func(b []byte) ([]byte, error) { cancel(); return b, nil }
	if _, err := w.Issue(ctx, w.request(t)); err != nil || len(w.audit.rows) != 1 {
		t.Errorf("%d rows, %v", len(w.audit.rows), err)
	}
}

func TestCancelBeforeTheLog(t *testing.T) {
	w := newP256World(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := w.Issue(ctx, w.request(t)); !errors.Is(err, context.Canceled) || w.log.Len() != 0 || len(w.audit.rows) != 0 {
		t.Errorf("%v", err)
	}
}

// What was not verified cannot be issued.
func TestIssueNeedsVerifiedInput(t *testing.T) {
	w := newP256World(t)
	good := w.request(t)
	for name, req := range map[string]Request{
		"no identity": {Key: good.Key},
		"no key":      {Identity: good.Identity},
		"other's key": {Identity: good.Identity, Key: prove(t, catest.ECDSA(t, elliptic.P256()), "mallory@example.com")},
	} {
		if issued, err := w.Issue(context.Background(), req); err == nil || issued != nil || errors.Is(err, ErrRequest) || errors.Is(err, ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if w.signer.calls != 0 || w.log.Len() != 0 {
		t.Error("the signer or the log was used")
	}
}

// A gate is a Policy that notes who asks.
type gate struct {
	err   error
	asked []identity.Identity
}

func (g *gate) Admit(_ context.Context, id identity.Identity) error {
	g.asked = append(g.asked, id)
	return g.err
}

// TestPolicyDecides: the policy is asked once, before anything is signed or logged,
// and its refusal is what comes out.
func TestPolicyDecides(t *testing.T) {
	w := newP256World(t)
	for _, refusal := range []error{nil, errors.New("not today")} {
		g := &gate{err: refusal}
		c, err := New(Config{Chain: w.chain, CTLog: w.log, Audit: w.audit, Policy: g, Now: func() time.Time { return w.now }})
		if err != nil {
			t.Fatal(err)
		}
		signed, logged, rows := w.signer.calls, w.log.Len(), len(w.audit.rows)
		issued, err := c.Issue(context.Background(), w.request(t))
		if err != refusal || (issued == nil) != (refusal != nil) {
			t.Fatalf("%v, %v; want the policy's own error, %v", issued, err, refusal)
		}
		if len(g.asked) != 1 || g.asked[0].SAN() != w.identity.SAN() {
			t.Errorf("asked about %v", g.asked)
		}
		if refusal != nil && (w.signer.calls != signed || w.log.Len() != logged || len(w.audit.rows) != rows) {
			t.Error("something was done for a request that was refused")
		}
	}
	g := &gate{}
	c, err := New(Config{Chain: w.chain, CTLog: w.log, Audit: w.audit, Policy: g, Now: func() time.Time { return w.now }})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Issue(context.Background(), Request{}); err == nil || len(g.asked) != 0 {
		t.Errorf("the policy was asked about nobody: %v", err)
	}
}

func TestSerialsAreDistinct(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		n, err := newSerial(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if seen[n.String()] || n.Sign() <= 0 || len(n.Bytes()) != 20 || n.BitLen() != 159 {
			t.Fatalf("serial %x", n)
		}
		seen[n.String()] = true
	}
}

// A linted TBSCertificate is signed once.
func TestLintedSignsOnce(t *testing.T) {
	w := newP256World(t)
	p := w.profile(t)
	tbs, err := p.tbsWith(poison())
	if err != nil {
		t.Fatal(err)
	}
	l, err := lint(tbs, p, nil)
	if err != nil {
		t.Fatal(err)
	}
	other, err := newSerial(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, r := range map[string]*recorded{"nothing": nil, "another serial number": {serial: other}} {
		if der, _, err := l.sign(w.chain, r, rand.Reader); err == nil || der != nil || w.signer.calls != 0 {
			t.Errorf("signed although %s is recorded", name)
		}
	}
	r := &recorded{serial: p.serial}
	l.der[len(l.der)-1] ^= 1
	if der, _, err := l.sign(w.chain, r, rand.Reader); err == nil || der != nil || w.signer.calls != 0 {
		t.Error("signed although the bytes are not those that were linted")
	}
	l.der[len(l.der)-1] ^= 1
	if l, err = lint(tbs, p, nil); err != nil {
		t.Fatal(err)
	}
	if _, _, err := l.sign(w.chain, r, rand.Reader); err != nil {
		t.Fatal(err)
	}
	if der, _, err := l.sign(w.chain, r, rand.Reader); err == nil || der != nil {
		t.Error("signed twice")
	}
}

// Nothing is signed before the intent is durable, whatever it waits for.
func TestRecordedBeforeSigned(t *testing.T) {
	w := newP256World(t)
	signed := -1
	w.audit.onIntend = func() { signed = w.signer.calls }
	if _, err := w.Issue(t.Context(), w.request(t)); err != nil || signed != 0 {
		t.Errorf("%d signatures when the intent was written, %v", signed, err)
	}
}

// A token that was used for another key is the client's affair.
func TestTokenUsed(t *testing.T) {
	w := newP256World(t)
	w.audit.intendErr = fmt.Errorf("storage: %w", ErrTokenUsed)
	issued, err := w.Issue(t.Context(), w.request(t))
	var e *Error
	if issued != nil || !errors.Is(err, ErrRequest) || !errors.As(err, &e) || !strings.Contains(e.Public(), "was used for another key") || strings.Contains(e.Public(), "storage") {
		t.Errorf("%v", err)
	}
	if w.signer.calls != 0 || w.log.Len() != 0 {
		t.Error("something was signed or logged")
	}
}

// Lifetime and backdating, and what a chain that is younger allows.
func TestValidity(t *testing.T) {
	for _, c := range []struct {
		lifetime, backdate time.Duration
		age                time.Duration // of the chain
		begin              time.Duration // from now
	}{
		{0, 0, time.Hour, 0},
		{time.Minute, 0, time.Hour, 0},
		{24 * time.Hour, 5 * time.Minute, time.Hour, -5 * time.Minute},
		{time.Hour, time.Minute, 30 * time.Second, -30 * time.Second},
		{time.Hour, time.Minute, 0, 0},
	} {
		w := newP256World(t)
		w.now = w.chain.notBefore.Add(c.age)
		ca, err := New(Config{Chain: w.chain, CTLog: w.log, Audit: w.audit, Now: func() time.Time { return w.now }, Lifetime: c.lifetime, Backdate: c.backdate})
		if err != nil {
			t.Fatal(err)
		}
		issued, err := ca.Issue(t.Context(), w.request(t))
		if err != nil {
			t.Errorf("%+v: %v", c, err)
			continue
		}
		cert, err := x509.ParseCertificate(issued.Leaf)
		if err != nil {
			t.Fatal(err)
		}
		end := w.now.Add(cmp.Or(c.lifetime, DefaultLifetime))
		if begin := w.now.Add(c.begin); !cert.NotBefore.Equal(begin) || !cert.NotAfter.Equal(end) {
			t.Errorf("%+v: valid from %v to %v, want from %v to %v", c, cert.NotBefore, cert.NotAfter, begin, end)
		}
	}
}

// profile is what Issue builds for a request of this world.
func (w *world) profile(t testing.TB) *profile {
	t.Helper()
	req := w.request(t)
	serial, err := newSerial(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := w.now.Truncate(time.Second)
	return &profile{
		chain: w.chain, serial: serial, notBefore: now, notAfter: now.Add(10 * time.Minute), atMost: 10 * time.Minute,
		key: req.Key, san: req.Identity.SAN(), values: req.Identity.Extensions(),
	}
}

// tbsWith is the TBSCertificate with a last extension.
func (p *profile) tbsWith(last pkix.Extension) ([]byte, error) {
	shared, err := p.shared()
	if err != nil {
		return nil, err
	}
	return p.tbs(shared, last)
}

// The profile is deterministic, and years from 2050 are GeneralizedTime.
func TestProfileBytes(t *testing.T) {
	w := newP256World(t)
	p := w.profile(t)
	a, err := p.tbsWith(poison())
	if err != nil {
		t.Fatal(err)
	}
	if b, err := p.tbsWith(poison()); err != nil || !bytes.Equal(a, b) {
		t.Errorf("two calls differ: %v", err)
	}
	if !bytes.Contains(a, []byte("\x17\x0d260304050607Z\x17\x0d260304051607Z")) {
		t.Error("the validity is not two UTCTimes")
	}
	p.notBefore, p.notAfter = time.Date(2049, 12, 31, 23, 59, 59, 0, time.UTC), time.Date(2050, 1, 1, 0, 0, 0, 0, time.UTC)
	if a, err = p.tbsWith(poison()); err != nil || !bytes.Contains(a, []byte("\x17\x0d491231235959Z\x18\x0f20500101000000Z")) {
		t.Errorf("the turn of 2050: %v", err)
	}
}

// One function uses the CA's key, and templates are signed for authorities only, and requests for them.
func TestOneCallOfTheSigner(t *testing.T) {
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	var calls []string
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok {
				continue
			}
			ast.Inspect(fn, func(n ast.Node) bool {
				if s, ok := n.(*ast.SelectorExpr); ok && (s.Sel.Name == "Sign" || s.Sel.Name == "SignMessage" || strings.HasPrefix(s.Sel.Name, "Create") && fmt.Sprint(s.X) == "x509") {
					if x, ok := s.X.(*ast.SelectorExpr); s.Sel.Name != "Sign" || ok && x.Sel.Name == "signer" {
						calls = append(calls, name+" "+fn.Name.Name)
					}
				}
				return true
			})
		}
	}
	want := map[string]bool{"issue.go sign": true, "hierarchy.go create": true, "request.go CreateIntermediateRequest": true}
	if len(calls) != len(want) {
		t.Errorf("signing calls: %v", calls)
	}
	for _, c := range calls {
		if !want[c] {
			t.Errorf("%s signs", c)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	w := newP256World(t)
	good := Config{Chain: w.chain, CTLog: w.log, Audit: w.audit, Now: func() time.Time { return testTime }}
	if _, err := New(good); err != nil {
		t.Fatal(err)
	}
	other := newP256World(t)
	withRetired := good
	withRetired.Retired = [][]*x509.Certificate{other.chain.Certificates()}
	c, err := New(withRetired)
	if err != nil {
		t.Fatal(err)
	}
	if b := c.Bundle(); len(b) != 2 || !b[0][0].Equal(w.chain.certs[0]) || !b[1][0].Equal(other.chain.certs[0]) {
		t.Error("the bundle is not active chain, retired chain")
	}
	for name, change := range map[string]func(*Config){
		"no chain":        func(c *Config) { c.Chain = nil },
		"no log":          func(c *Config) { c.CTLog = nil },
		"no audit":        func(c *Config) { c.Audit = nil },
		"short lifetime":  func(c *Config) { c.Lifetime = time.Second },
		"long lifetime":   func(c *Config) { c.Lifetime = 25 * time.Hour },
		"odd lifetime":    func(c *Config) { c.Lifetime = 10*time.Minute + time.Millisecond },
		"backdated far":   func(c *Config) { c.Backdate = 5*time.Minute + time.Second },
		"future dated":    func(c *Config) { c.Backdate = -time.Second },
		"odd backdating":  func(c *Config) { c.Backdate = time.Millisecond },
		"expired chain":   func(c *Config) { c.Now = func() time.Time { return testTime.AddDate(4, 0, 0) } },
		"clock behind":    func(c *Config) { c.Now = func() time.Time { return testTime.AddDate(-1, 0, 0) } },
		"bad retired":     func(c *Config) { c.Retired = [][]*x509.Certificate{{}} },
		"log with P-384":  func(c *Config) { c.CTLog = keyLog{catest.ECDSA(t, elliptic.P384()).Public()} },
		"log without key": func(c *Config) { c.CTLog = keyLog{} },
	} {
		cfg := good
		change(&cfg)
		if _, err := New(cfg); err == nil {
			t.Errorf("%s is accepted", name)
		} else {
			t.Logf("%s: %v", name, err)
		}
	}
}

type keyLog struct{ key crypto.PublicKey }

func (l keyLog) PublicKey() crypto.PublicKey { return l.key }
func (keyLog) AddPreChain(context.Context, []byte, [][]byte) ([]byte, error) {
	return nil, errors.New("not used")
}

func BenchmarkIssue(b *testing.B) {
	for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384()} {
		b.Run(curve.Params().Name, func(b *testing.B) {
			w := newWorld(b, catest.ECDSA(b, curve), catest.ECDSA(b, curve))
			req := w.request(b)
			for b.Loop() {
				if _, err := w.Issue(context.Background(), req); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
