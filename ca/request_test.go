package ca

import (
	"bytes"
	"crypto"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sigstack/sigstack/ca/catest"
	"github.com/sigstack/sigstack/test/fuzz"
)

// A request asks for the very extensions that CreateIntermediate writes, and is
// answered with a chain that can issue.
func TestIntermediateRequest(t *testing.T) {
	rootKey := catest.ECDSA(t, elliptic.P384())
	root, err := CreateRoot(authorityName("sigstack", "Example"), rootKey, testTime)
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range testKeys(t) {
		request, err := CreateIntermediateRequest(IntermediateName("Example"), key)
		if _, algErr := algorithmOf(key.Public()); algErr != nil {
			if err == nil {
				t.Errorf("%s: a request for a key that cannot issue", name)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		cert, err := SignIntermediate(request, root, rootKey, testTime)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if _, err := NewChain([]*x509.Certificate{cert, root}, key); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		block, _ := pem.Decode(request)
		csr, err := x509.ParseCertificateRequest(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		if got := csr.Subject.String(); got != "CN=sigstack-intermediate,O=Example" || cert.Subject.String() != got {
			t.Errorf("%s: subjects %s and %s", name, got, cert.Subject)
		}
		var rest []pkix.Extension
		for _, e := range cert.Extensions {
			if !e.Id.Equal(oidAuthorityKeyID()) {
				rest = append(rest, e)
			}
		}
		if len(rest) != len(csr.Extensions) {
			t.Fatalf("%s: %d extensions in the certificate, %d in the request", name, len(rest), len(csr.Extensions))
		}
		for _, e := range csr.Extensions {
			found := false
			for _, c := range rest {
				found = found || c.Id.Equal(e.Id) && c.Critical == e.Critical && bytes.Equal(c.Value, e.Value)
			}
			if !found {
				t.Errorf("%s: extension %v of the request is not in the certificate", name, e.Id)
			}
		}
	}
}

func TestIntermediateRequestRefused(t *testing.T) {
	rootKey, key := catest.ECDSA(t, elliptic.P256()), catest.ECDSA(t, elliptic.P256())
	root, err := CreateRoot(authorityName("sigstack", ""), rootKey, testTime)
	if err != nil {
		t.Fatal(err)
	}
	good, err := CreateIntermediateRequest(IntermediateName(""), key)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(good)
	forged := bytes.Clone(block.Bytes)
	forged[len(forged)-1] ^= 1
	nameless, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	request := func(der []byte) []byte { return pemOf("CERTIFICATE REQUEST", der) }
	for name, test := range map[string]struct {
		request []byte
		want    string
	}{
		"nothing":          {nil, "one PEM block"},
		"a certificate":    {pemOf("CERTIFICATE", root.Raw), "one PEM block"},
		"two":              {append(bytes.Clone(good), good...), "one PEM block"},
		"long":             {append(bytes.Clone(good), make([]byte, maxCSR)...), "at most"},
		"not DER":          {request([]byte{1, 2, 3}), "asn1"},
		"signature":        {request(forged), "not signed by its own key"},
		"no name":          {request(nameless), "common name"},
		"key of no issuer": {request(csrOf(t, testKeys(t)["Ed25519"], 0)), "cannot be used"},
	} {
		if _, err := SignIntermediate(test.request, root, rootKey, testTime); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
	if _, err := SignIntermediate(good, root, key, testTime); err == nil {
		t.Error("a root with another key signs")
	}
	broken := &faultySigner{Signer: key, change: func(s []byte) ([]byte, error) { s[len(s)-1] ^= 1; return s, nil }}
	if _, err := CreateIntermediateRequest(IntermediateName(""), broken); err == nil {
		t.Error("a signature that does not verify is in a request")
	}
	down := &faultySigner{Signer: key, change: func([]byte) ([]byte, error) { return nil, errors.New("the module is off") }}
	if _, err := CreateIntermediateRequest(IntermediateName(""), down); err == nil || !strings.Contains(err.Error(), "the module is off") {
		t.Errorf("a signer that fails: %v", err)
	}
}

// A request for an intermediate comes from another machine.
func FuzzIntermediateRequest(f *testing.F) {
	var seeds []*fuzz.Node
	for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384()} {
		request, err := CreateIntermediateRequest(IntermediateName("Example"), catest.ECDSA(f, curve))
		if err != nil {
			f.Fatal(err)
		}
		seeds = append(seeds, fuzz.Look(request))
	}
	type parsed struct {
		name pkix.Name
		key  crypto.PublicKey
	}
	parse := func(in []byte) (p parsed, err error) {
		p.name, p.key, err = parseIntermediateRequest(in)
		return p, err
	}
	fuzz.RunWith(f, fuzz.Options{Allow: allowVerification}, seeds, parse, func(t *testing.T, in []byte, p parsed, err error) {
		if err != nil {
			return
		}
		block, _ := pem.Decode(bytes.TrimSpace(in))
		if block == nil {
			t.Fatal("accepted without PEM")
		}
		csr, err := x509.ParseCertificateRequest(block.Bytes)
		if err != nil || csr.CheckSignature() != nil || csr.Subject.String() != p.name.String() || p.name.CommonName == "" ||
			!csr.PublicKey.(interface{ Equal(crypto.PublicKey) bool }).Equal(p.key) {
			t.Fatalf("crypto/x509 does not agree: %v", err)
		}
	})
}

// Nothing is signed with a chain that clients do not know for as long as the
// certificate lives.
func TestTrusted(t *testing.T) {
	w := newP256World(t)
	asked, answer := time.Time{}, false
	c, err := New(Config{
		Chain: w.chain, CTLog: w.log, Audit: w.audit, Now: func() time.Time { return w.now },
		Trusted: func(until time.Time) bool { asked = until; return answer },
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Ready(); err == nil || !strings.Contains(err.Error(), "trust root") {
		t.Errorf("ready: %v", err)
	}
	_, err = c.Issue(t.Context(), w.request(t))
	if !errors.Is(err, ErrUnavailable) || w.signer.calls != 0 {
		t.Errorf("%v, %d signatures", err, w.signer.calls)
	}
	if want := testTime.Truncate(time.Second).Add(DefaultLifetime); !asked.Equal(want) {
		t.Errorf("asked for %v, want %v", asked, want)
	}
	answer = true
	if err := c.Ready(); err != nil {
		t.Error(err)
	}
	if _, err = c.Issue(t.Context(), w.request(t)); err != nil {
		t.Error(err)
	}
	w.now = w.chain.NotAfter()
	if err := c.Ready(); err == nil || !strings.Contains(err.Error(), "ends at") {
		t.Errorf("ready with a chain that has ended: %v", err)
	}
}

// TestReady has a chain that ends before a certificate would.
func TestReady(t *testing.T) {
	for _, c := range []struct {
		lifetime, left time.Duration
		ready          bool
	}{{10 * time.Minute, 10 * time.Minute, true}, {10 * time.Minute, 10*time.Minute - time.Second, false}, {24 * time.Hour, 23 * time.Hour, false}, {time.Minute, 2 * time.Minute, true}} {
		w := newP256World(t)
		ca, err := New(Config{Chain: w.chain, CTLog: w.log, Audit: w.audit, Now: func() time.Time { return w.now }, Lifetime: c.lifetime, Backdate: MaxBackdate})
		if err != nil {
			t.Fatal(err)
		}
		w.now = w.chain.NotAfter().Add(-c.left)
		if err := ca.Ready(); (err == nil) != c.ready {
			t.Errorf("certificates of %v, %v before the chain ends: %v", c.lifetime, c.left, err)
		}
	}
}
