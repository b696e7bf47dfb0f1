package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/sigstack/sigstack/ca/catest"
)

func TestHierarchy(t *testing.T) {
	for _, curve := range []elliptic.Curve{elliptic.P384(), elliptic.P256()} {
		rootKey, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		certs, err := CreateHierarchy("Example", rootKey, key, testTime)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := NewChain(certs, key); err != nil {
			t.Error(err)
		}
		begin := testTime.Truncate(time.Second)
		for i, c := range []struct {
			subject string
			end     time.Time
			alg     x509.SignatureAlgorithm
		}{
			{"CN=sigstack-intermediate,O=Example", begin.AddDate(3, 0, 0), x509.ECDSAWithSHA384},
			{"CN=sigstack,O=Example", begin.AddDate(10, 0, 0), x509.ECDSAWithSHA384},
		} {
			if curve == elliptic.P256() {
				c.alg = x509.ECDSAWithSHA256
			}
			cert := certs[i]
			if cert.Subject.String() != c.subject || cert.Issuer.String() != "CN=sigstack,O=Example" || !cert.NotBefore.Equal(begin) || !cert.NotAfter.Equal(c.end) ||
				cert.SignatureAlgorithm != c.alg || cert.KeyUsage != x509.KeyUsageCertSign|x509.KeyUsageCRLSign || !cert.IsCA || len(cert.SubjectKeyId) != 20 {
				t.Errorf("%s: %v by %v, %v to %v, %v, key usage %b", curve.Params().Name, cert.Subject, cert.Issuer, cert.NotBefore, cert.NotAfter, cert.SignatureAlgorithm, cert.KeyUsage)
			}
			for _, e := range cert.Extensions {
				if (e.Id.Equal(oidKeyUsage()) || e.Id.Equal(oidBasicConstraints())) != e.Critical {
					t.Errorf("extension %v: critical %v", e.Id, e.Critical)
				}
			}
		}
		if c := certs[0]; !c.MaxPathLenZero || c.MaxPathLen != 0 || len(c.ExtKeyUsage) != 1 || c.ExtKeyUsage[0] != x509.ExtKeyUsageCodeSigning || string(c.AuthorityKeyId) != string(certs[1].SubjectKeyId) {
			t.Error("the intermediate is not for code signing alone with path length 0")
		}
		if c := certs[1]; len(c.ExtKeyUsage) != 0 || c.MaxPathLen != -1 {
			t.Error("the root is limited")
		}

		// An intermediate made later ends with its root.
		late, err := CreateIntermediate(pkix.Name{CommonName: "late"}, key.Public(), certs[1], rootKey, begin.AddDate(8, 0, 0))
		if err != nil || !late.NotAfter.Equal(certs[1].NotAfter) {
			t.Errorf("late intermediate: %v", err)
		}
		if _, err := CreateIntermediate(pkix.Name{CommonName: "too late"}, key.Public(), certs[1], rootKey, begin.AddDate(10, 0, 0)); err == nil {
			t.Error("an intermediate after its root's end")
		}
		if _, err := CreateIntermediate(pkix.Name{CommonName: "x"}, key.Public(), certs[1], key, begin); err == nil {
			t.Error("an intermediate signed by another key than its parent's")
		}
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := CreateRoot(pkix.Name{CommonName: "ed"}, ed, testTime); err == nil {
		t.Error("an Ed25519 root")
	}
	if _, err := CreateRoot(pkix.Name{}, catest.ECDSA(t, elliptic.P256()), testTime); err == nil {
		t.Error("a root without a name")
	}
}

func TestNewChainRefuses(t *testing.T) {
	rootKey, key := catest.ECDSA(t, elliptic.P256()), catest.ECDSA(t, elliptic.P256())
	certs, err := CreateHierarchy("Example", rootKey, key, testTime)
	if err != nil {
		t.Fatal(err)
	}
	otherCerts, err := CreateHierarchy("Example", key, key, testTime) // the same names
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewChain(certs[1:], rootKey); err != nil {
		t.Errorf("a root alone: %v", err)
	}
	// made is the intermediate with a change.
	made := func(change func(*x509.Certificate)) *x509.Certificate {
		t.Helper()
		template := &x509.Certificate{
			SerialNumber: big.NewInt(5), Subject: pkix.Name{CommonName: "made"}, NotBefore: testTime, NotAfter: testTime.AddDate(1, 0, 0),
			KeyUsage: x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: true, SubjectKeyId: []byte{1},
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
		}
		change(template)
		der, err := x509.CreateCertificate(rand.Reader, template, certs[1], key.Public(), rootKey)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return cert
	}
	chain := func(first *x509.Certificate) []*x509.Certificate { return []*x509.Certificate{first, certs[1]} }
	if _, err := NewChain(chain(made(func(*x509.Certificate) {})), key); err != nil {
		t.Fatal(err)
	}
	long := make([]*x509.Certificate, maxChain+1)
	for i := range long {
		long[i] = certs[1]
	}
	for name, c := range map[string]struct {
		certs  []*x509.Certificate
		signer crypto.Signer
		reason string
	}{
		"none":         {nil, key, "0 certificates"},
		"too many":     {long, rootKey, "9 certificates"},
		"nil":          {[]*x509.Certificate{nil}, key, "missing"},
		"nil parent":   {[]*x509.Certificate{certs[0], nil}, key, "not the next one"},
		"root twice":   {[]*x509.Certificate{certs[0], certs[1], certs[1]}, key, "stands twice"},
		"no signer":    {certs, nil, "no signer"},
		"other signer": {certs, rootKey, "another public key"},
		"order":        {[]*x509.Certificate{certs[1], certs[0]}, rootKey, "order"},
		"no root":      {certs[:1], key, "order"},
		"other root":   {[]*x509.Certificate{certs[0], otherCerts[1]}, key, "not signed by the next one"},
		"not a CA": {chain(made(func(c *x509.Certificate) { c.IsCA, c.KeyUsage = false, x509.KeyUsageDigitalSignature })), key,
			"is not a CA"},
		"no keyCertSign": {chain(made(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign })), key, "keyCertSign"},
		"no EKU":         {chain(made(func(c *x509.Certificate) { c.ExtKeyUsage = nil })), key, "codeSigning"},
		"other EKU": {chain(made(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })), key,
			"codeSigning"},
		"name constraint": {chain(made(func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: []int{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}
		})), key, "does not verify"},
		"never together": {chain(made(func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = testTime.AddDate(-2, 0, 0), testTime.AddDate(-1, 0, 0)
		})), key, "never valid at the same time"},
	} {
		if _, err := NewChain(c.certs, c.signer); err == nil || !strings.Contains(err.Error(), c.reason) {
			t.Errorf("%s: %v, want %q", name, err, c.reason)
		}
	}
}
