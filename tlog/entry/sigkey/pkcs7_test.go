package sigkey

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/sigstack/sigstack/test/cms"
	"github.com/sigstack/sigstack/test/fuzz"
)

func genRSA(t testing.TB, bits int) *rsa.PrivateKey {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// pssParameters are those of RFC 4055, section 3.1.
func pssParameters(t testing.TB, hash, inner, mask asn1.ObjectIdentifier, salt, trailer int) pkix.AlgorithmIdentifier {
	t.Helper()
	mgf := cms.Marshal(t, struct {
		ID    asn1.ObjectIdentifier
		Inner struct{ ID asn1.ObjectIdentifier }
	}{mask, struct{ ID asn1.ObjectIdentifier }{inner}})
	params := cms.Marshal(t, struct {
		Hash    struct{ ID asn1.ObjectIdentifier } `asn1:"explicit,tag:0"`
		Mask    asn1.RawValue
		Salt    int `asn1:"explicit,tag:2"`
		Trailer int `asn1:"optional,explicit,tag:3"`
	}{struct{ ID asn1.ObjectIdentifier }{hash}, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 1, IsCompound: true, Bytes: mgf}, salt, trailer})
	return pkix.AlgorithmIdentifier{Algorithm: oidPSS, Parameters: asn1.RawValue{FullBytes: params}}
}

func mustParsePKCS7(t testing.TB, der []byte) *PKCS7 {
	t.Helper()
	p, err := ParsePKCS7(der)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func without(id asn1.ObjectIdentifier) func([]cms.Attribute) []cms.Attribute {
	return func(list []cms.Attribute) []cms.Attribute {
		return slices.DeleteFunc(list, func(a cms.Attribute) bool { return a.Type.Equal(id) })
	}
}

// Every algorithm that is accepted verifies, and what is stored of it too; and
// everything that can be wrong is refused with its own message.
func TestPKCS7(t *testing.T) {
	ec, other, rsaKey := genEC(t, elliptic.P256()), genEC(t, elliptic.P256()), genRSA(t, 2048)
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	content := []byte("content")
	ecCert, rsaCert := cms.Certificate(t, ec, "ec"), cms.Certificate(t, rsaKey, "rsa")
	base := cms.Message{Key: ec, Certificate: ecCert, Content: content}
	with := func(change func(m *cms.Message)) cms.Message {
		m := base
		change(&m)
		return m
	}
	rsaWith := func(change func(m *cms.Message)) cms.Message {
		return with(func(m *cms.Message) { m.Key, m.Certificate = rsaKey, rsaCert; change(m) })
	}
	sha256ID, sha512ID := pkcs7Hashes[2].id, pkcs7Hashes[4].id
	value := func(v any) []asn1.RawValue { return []asn1.RawValue{{FullBytes: cms.Marshal(t, v)}} }
	token := func(change func(m *cms.Message)) func([]byte) []cms.Attribute {
		return func(sig []byte) []cms.Attribute {
			m := cms.Message{Key: rsaKey, Certificate: rsaCert, Type: cms.TSTInfo, Content: cms.Imprint(t, sig)}
			change(&m)
			return []cms.Attribute{{Type: cms.Token, Values: []asn1.RawValue{{FullBytes: m.DER(t)}}}}
		}
	}
	p384, p521 := genEC(t, elliptic.P384()), genEC(t, elliptic.P521())
	p384Cert, p521Cert, edCert := cms.Certificate(t, p384, "p384"), cms.Certificate(t, p521, "p521"), cms.Certificate(t, ed, "ed")
	type test struct {
		name string
		m    cms.Message
		want string // "" verifies
	}
	cases := []test{
		{"P-256", base, ""},
		{"P-384", with(func(m *cms.Message) { m.Key, m.Certificate, m.Hash = p384, p384Cert, crypto.SHA384 }), ""},
		{"P-521", with(func(m *cms.Message) { m.Key, m.Certificate, m.Hash = p521, p521Cert, crypto.SHA512 }), ""},
		{"RSA", rsaWith(func(*cms.Message) {}), ""},
		{"no attributes", with(func(m *cms.Message) { m.Plain = true }), ""},
		{"signer is the second", with(func(m *cms.Message) { m.Certs = [][]byte{rsaCert.Raw, ecCert.Raw} }), ""},
		{"first certificate is none", with(func(m *cms.Message) { m.Certs = [][]byte{{0x30, 0}, ecCert.Raw} }), ""},
		{"PSS", rsaWith(func(m *cms.Message) { m.Algorithm = pssParameters(t, sha256ID, sha256ID, oidMGF1, 32, 0) }), ""},
		{"PSS with a trailer", rsaWith(func(m *cms.Message) { m.Algorithm = pssParameters(t, sha256ID, sha256ID, oidMGF1, 32, 1) }), ""},
		{"timestamp", with(func(m *cms.Message) { m.Unsigned = token(func(*cms.Message) {}) }), ""},
		{"timestamp by a certificate outside", with(func(m *cms.Message) {
			m.Certs, m.Unsigned = [][]byte{ecCert.Raw, rsaCert.Raw}, token(func(m *cms.Message) { m.Certs = [][]byte{} })
		}), ""},
		{"unknown attribute", with(func(m *cms.Message) {
			m.Unsigned = func([]byte) []cms.Attribute {
				return []cms.Attribute{{Type: asn1.ObjectIdentifier{1, 2, 3}, Values: value(7)}}
			}
		}), ""},

		{"another key", with(func(m *cms.Message) { m.Key = other }), "PKCS7: the signature does not verify"},
		{"another RSA key", rsaWith(func(m *cms.Message) { m.Key = genRSA(t, 2048) }), "PKCS7: the signature does not verify"},
		{"another PSS key", rsaWith(func(m *cms.Message) {
			m.Key, m.Algorithm = genRSA(t, 2048), pssParameters(t, sha256ID, sha256ID, oidMGF1, 32, 0)
		}), "PKCS7: the signature does not verify"},
		{"other content type", with(func(m *cms.Message) { m.Outer = cms.Data }),
			"PKCS7: content type 1.2.840.113549.1.7.1, want SignedData (1.2.840.113549.1.7.2)"},
		{"no signer", with(func(m *cms.Message) { m.Signers = func(asn1.RawValue) []asn1.RawValue { return nil } }), "PKCS7: it is not signed"},
		{"two signers", with(func(m *cms.Message) {
			m.Signers = func(one asn1.RawValue) []asn1.RawValue { return []asn1.RawValue{one, one} }
		}), "PKCS7: more than one signer, exactly one is accepted"},
		{"a signer that is none", with(func(m *cms.Message) {
			m.Signers = func(asn1.RawValue) []asn1.RawValue { return value(struct{ V int }{1}) }
		}), errSignerInfo.Error()},
		{"no certificate", with(func(m *cms.Message) { m.Certs = [][]byte{} }), "PKCS7: the certificate of the signer is not there"},
		{"another certificate", with(func(m *cms.Message) { m.Certs = [][]byte{rsaCert.Raw} }), "PKCS7: the certificate of the signer is not there"},
		{"32 certificates", with(func(m *cms.Message) { m.Certs = append(slices.Repeat([][]byte{rsaCert.Raw}, 31), ecCert.Raw) }), ""},
		{"33 certificates", with(func(m *cms.Message) { m.Certs = append(slices.Repeat([][]byte{rsaCert.Raw}, 32), ecCert.Raw) }),
			"PKCS7: more than 32 certificates"},
		{"a large certificate", rsaWith(func(m *cms.Message) { m.Certs = [][]byte{rsaCert.Raw, cms.Marshal(t, make([]byte, 70_000))} }), ""},
		{"long content type", with(func(m *cms.Message) { m.Outer = append(slices.Clone(oidData), make([]int, 500)...) }),
			"PKCS7: content type 1.2.840.113549.1.7.1" + strings.Repeat(".0", 40) + ", want SignedData (1.2.840.113549.1.7.2)"},
		{"MD5", with(func(m *cms.Message) { m.Hash = crypto.MD5 }), "PKCS7: unsupported hash algorithm 1.2.840.113549.2.5, want SHA-1 or SHA-2"},
		{"Ed25519", with(func(m *cms.Message) {
			m.Key, m.Certificate, m.Algorithm.Algorithm, m.Hash = edSigner{ed}, edCert, asn1.ObjectIdentifier{1, 3, 101, 112}, crypto.SHA512
		}), "PKCS7: signature algorithm 1.3.101.112 does not fit a key of type ed25519.PublicKey and SHA-512"},
		{"long signature algorithm", with(func(m *cms.Message) { m.Algorithm.Algorithm = append(slices.Clone(cms.RSA), make([]int, 500)...) }),
			"PKCS7: signature algorithm 1.2.840.113549.1.1.1" + strings.Repeat(".0", 40) + " does not fit a key of type *ecdsa.PublicKey and SHA-256"},
		{"RSA by an ECDSA key", with(func(m *cms.Message) { m.Algorithm.Algorithm = cms.RSA }),
			"PKCS7: signature algorithm 1.2.840.113549.1.1.1 does not fit a key of type *ecdsa.PublicKey and SHA-256"},
		{"ECDSA by an RSA key", rsaWith(func(m *cms.Message) { m.Algorithm.Algorithm = cms.ECDSA }),
			"PKCS7: signature algorithm 1.2.840.10045.2.1 does not fit a key of type *rsa.PublicKey and SHA-256"},
		{"the hash of another algorithm", rsaWith(func(m *cms.Message) { m.Algorithm.Algorithm = pkcs7Hashes[4].rsa }),
			"PKCS7: signature algorithm 1.2.840.113549.1.1.13 does not fit a key of type *rsa.PublicKey and SHA-256"},
		{"no content type", with(func(m *cms.Message) { m.Signed = without(oidContentType) }), "PKCS7: signed attributes need one content type and one digest"},
		{"no digest", with(func(m *cms.Message) { m.Signed = without(oidMessageDigest) }), "PKCS7: signed attributes need one content type and one digest"},
		{"no attribute", with(func(m *cms.Message) { m.Signed = func([]cms.Attribute) []cms.Attribute { return nil } }),
			"PKCS7: signed attributes need one content type and one digest"},
		{"two content types", with(func(m *cms.Message) {
			m.Signed = func(l []cms.Attribute) []cms.Attribute { return append(l, l[0]) }
		}), "PKCS7: signed attributes need one content type and one digest"},
		{"a digest of two values", with(func(m *cms.Message) {
			m.Signed = func(l []cms.Attribute) []cms.Attribute { l[1].Values = append(l[1].Values, l[1].Values[0]); return l }
		}), errSignerInfo.Error()},
		{"another content type", with(func(m *cms.Message) {
			m.Signed = func(l []cms.Attribute) []cms.Attribute { l[0].Values = value(cms.TSTInfo); return l }
		}), "PKCS7: another type of content was signed"},
		{"another digest", with(func(m *cms.Message) {
			m.Signed = func(l []cms.Attribute) []cms.Attribute { l[1].Values = value(make([]byte, 32)); return l }
		}), "PKCS7: content digest does not match"},
		{"another type without attributes", with(func(m *cms.Message) { m.Plain, m.Type = true, cms.TSTInfo }),
			"PKCS7: a content that is not data needs signed attributes"},
		{"PSS by another hash", rsaWith(func(m *cms.Message) { m.Algorithm = pssParameters(t, sha512ID, sha256ID, oidMGF1, 32, 0) }), errPSS.Error()},
		{"PSS by another inner hash", rsaWith(func(m *cms.Message) { m.Algorithm = pssParameters(t, sha256ID, sha512ID, oidMGF1, 32, 0) }), errPSS.Error()},
		{"PSS by another mask", rsaWith(func(m *cms.Message) { m.Algorithm = pssParameters(t, sha256ID, sha256ID, sha256ID, 32, 0) }), errPSS.Error()},
		{"PSS without salt", rsaWith(func(m *cms.Message) { m.Algorithm = pssParameters(t, sha256ID, sha256ID, oidMGF1, 0, 0) }), errPSS.Error()},
		{"PSS with another trailer", rsaWith(func(m *cms.Message) { m.Algorithm = pssParameters(t, sha256ID, sha256ID, oidMGF1, 32, 2) }), errPSS.Error()},
		{"PSS without parameters", rsaWith(func(m *cms.Message) { m.Algorithm.Algorithm = oidPSS }), errPSS.Error()},
		{"PSS with another salt", rsaWith(func(m *cms.Message) { m.Algorithm = pssParameters(t, sha256ID, sha256ID, oidMGF1, 20, 0) }),
			"PKCS7: the signature does not verify"},
		{"counter signature", with(func(m *cms.Message) {
			m.Unsigned = func([]byte) []cms.Attribute { return []cms.Attribute{{Type: cms.CounterSign, Values: value(7)}} }
		}), "PKCS7: counter signatures (PKCS #9) are not accepted"},
		{"two timestamps", with(func(m *cms.Message) {
			one := token(func(*cms.Message) {})
			m.Unsigned = func(sig []byte) []cms.Attribute { return append(one(sig), one(sig)...) }
		}), "PKCS7: more than one timestamp, at most one is accepted"},
		{"timestamp of another", with(func(m *cms.Message) {
			m.Unsigned = token(func(m *cms.Message) { m.Content = cms.Imprint(t, content) })
		}), "timestamp of the signature: PKCS7: it is for another signature"},
		{"timestamp by another key", with(func(m *cms.Message) {
			m.Unsigned = token(func(m *cms.Message) { m.Key = genRSA(t, 2048) })
		}), "timestamp of the signature: PKCS7: the signature does not verify"},
		{"timestamp without content", with(func(m *cms.Message) {
			m.Unsigned = token(func(m *cms.Message) { m.Detached = true })
		}), "timestamp of the signature: PKCS7: there is no TSTInfo in it"},
		{"timestamp of another type", with(func(m *cms.Message) {
			m.Unsigned = token(func(m *cms.Message) { m.Type = nil })
		}), "timestamp of the signature: PKCS7: there is no TSTInfo in it"},
		{"timestamp of something else", with(func(m *cms.Message) {
			m.Unsigned = token(func(m *cms.Message) { m.Content = []byte{0x30, 0} })
		}), "timestamp of the signature: PKCS7: there is no TSTInfo in it"},
		{"timestamp that is none", with(func(m *cms.Message) {
			m.Unsigned = func([]byte) []cms.Attribute { return []cms.Attribute{{Type: cms.Token, Values: value(7)}} }
		}), "timestamp of the signature: " + errPKCS7.Error()},
	}
	for i, h := range pkcs7Hashes {
		cases = append(cases,
			test{"RSA " + h.hash.String(), rsaWith(func(m *cms.Message) { m.Hash, m.Algorithm.Algorithm = h.hash, pkcs7Hashes[i].rsa }), ""},
			test{"ECDSA " + h.hash.String(), with(func(m *cms.Message) { m.Hash, m.Algorithm.Algorithm = h.hash, pkcs7Hashes[i].ecdsa }), ""})
	}
	for i, c := range cases {
		if c.name == "a large certificate" {
			der := c.m.DER(t)
			cases[i].want = fmt.Sprintf("PKCS7: %d bytes beside the content, at most 65536 are accepted", besideContent(t, der, content))
			c = cases[i]
		}
		der := c.m.DER(t)
		p, err := ParsePKCS7(der)
		if err == nil {
			err = p.Verify(nil)
		}
		if got := fmt.Sprint(err); (err == nil) != (c.want == "") || c.want != "" && got != c.want {
			t.Errorf("%s: %s, want %q", c.name, got, c.want)
		}
		if err != nil {
			continue
		}
		// What is stored is the same signature without its content.
		c.m.Detached = true
		block, rest := pem.Decode(p.Canonical())
		if block == nil || block.Type != "PKCS7" || len(rest) > 0 || bytes.Contains(block.Bytes, content) {
			t.Fatalf("%s: stored as %s", c.name, p.Canonical())
		}
		q := mustParsePKCS7(t, block.Bytes)
		if q.Content() != nil || !bytes.Equal(q.Canonical(), p.Canonical()) {
			t.Errorf("%s: what is stored is stored otherwise", c.name)
		}
		if err := q.Verify(content); err != nil {
			t.Errorf("%s: what is stored: %v", c.name, err)
		}
		if signer, err := q.Signer(); err != nil || !bytes.Equal(signer.Canonical(), block2PEM(c.m.Certificate)) {
			t.Errorf("%s: signer %v, %v", c.name, signer, err)
		}
		for want, content := range map[string][]byte{"PKCS7: there is no content": nil, "PKCS7: content digest does not match": []byte("x")} {
			if c.m.Plain && content != nil {
				want = "PKCS7: the signature does not verify"
			}
			if err := q.Verify(content); err == nil || err.Error() != want {
				t.Errorf("%s: over %q: %v, want %s", c.name, content, err, want)
			}
		}
		if err := p.Verify([]byte("x")); err == nil || err.Error() != "PKCS7: it is over another content" {
			t.Errorf("%s: over another content: %v", c.name, err)
		}
		if err := p.Verify(content); err != nil {
			t.Errorf("%s: over its content: %v", c.name, err)
		}
	}
	p := mustParsePKCS7(t, with(func(m *cms.Message) { m.Certs = [][]byte{rsaCert.Raw, ecCert.Raw} }).DER(t))
	if first, err := p.First(); err != nil || !bytes.Equal(first.Canonical(), block2PEM(rsaCert)) || p.IsTimestamp() {
		t.Errorf("first certificate %v, %v", first, err)
	}
	p = mustParsePKCS7(t, with(func(m *cms.Message) { m.Certs, m.Type = [][]byte{}, cms.TSTInfo }).DER(t))
	if _, err := p.First(); err == nil || err.Error() != "PKCS7: there is no certificate" || !p.IsTimestamp() {
		t.Errorf("first certificate of none: %v", err)
	}
}

// edSigner signs a digest as if it were a message: it is to be refused before.
type edSigner struct{ ed25519.PrivateKey }

func (s edSigner) Sign(_ io.Reader, digest []byte, _ crypto.SignerOpts) ([]byte, error) {
	return ed25519.Sign(s.PrivateKey, digest), nil
}

func block2PEM(c *x509.Certificate) []byte { return block("CERTIFICATE", c.Raw) }

// besideContent returns the bytes of SignedData beside its content.
func besideContent(t testing.TB, der, content []byte) int {
	t.Helper()
	var message struct {
		Type asn1.ObjectIdentifier
		Body asn1.RawValue
	}
	if _, err := asn1.Unmarshal(der, &message); err != nil {
		t.Fatal(err)
	}
	var signed asn1.RawValue
	if _, err := asn1.Unmarshal(message.Body.Bytes, &signed); err != nil {
		t.Fatal(err)
	}
	return len(signed.Bytes) - len(content)
}

// Zeros may follow, as some tools pad; anything else may not. Each prefix is
// refused.
func TestPKCS7Ends(t *testing.T) {
	k := genEC(t, elliptic.P256())
	der := cms.Message{Key: k, Certificate: cms.Certificate(t, k, "k"), Content: []byte("content")}.DER(t)
	if p := mustParsePKCS7(t, append(bytes.Clone(der), 0, 0, 0)); !bytes.Equal(p.Canonical(), mustParsePKCS7(t, der).Canonical()) {
		t.Error("padding is stored")
	}
	for _, in := range [][]byte{append(bytes.Clone(der), 0, 1), append(bytes.Clone(der), der...), block("PKCS7", der), nil} {
		if _, err := ParsePKCS7(in); err != errPKCS7 {
			t.Errorf("%.20q: %v", in, err)
		}
	}
	for i := range der {
		if _, err := ParsePKCS7(der[:i]); err == nil {
			t.Fatalf("accepted when cut after %d bytes", i)
		}
	}
}

// SignedData of any sort: within the budget, one canonical form, and never a
// signature over what was not signed.
func FuzzPKCS7(f *testing.F) {
	ec, rsaKey := genEC(f, elliptic.P256()), genRSA(f, 2048)
	ecCert, rsaCert := cms.Certificate(f, ec, "ec"), cms.Certificate(f, rsaKey, "rsa")
	content := []byte("content")
	sha256ID := pkcs7Hashes[2].id
	seeds := fuzz.Seeds(
		cms.Message{Key: ec, Certificate: ecCert, Content: content}.DER(f),
		cms.Message{Key: rsaKey, Certificate: rsaCert, Content: content, Detached: true, Certs: [][]byte{ecCert.Raw, rsaCert.Raw}}.DER(f),
		cms.Message{Key: rsaKey, Certificate: rsaCert, Content: content, Algorithm: pssParameters(f, sha256ID, sha256ID, oidMGF1, 32, 1)}.DER(f),
		cms.Message{Key: ec, Certificate: ecCert, Content: content, Unsigned: func(sig []byte) []cms.Attribute {
			der := cms.Message{Key: rsaKey, Certificate: rsaCert, Type: cms.TSTInfo, Content: cms.Imprint(f, sig)}.DER(f)
			return []cms.Attribute{{Type: cms.Token, Values: []asn1.RawValue{{FullBytes: der}}}}
		}}.DER(f),
	)
	fuzz.Run(f, seeds, ParsePKCS7, func(t *testing.T, in []byte, p *PKCS7, err error) {
		if err != nil {
			return
		}
		block, _ := pem.Decode(p.Canonical())
		q := mustParsePKCS7(t, block.Bytes)
		if q.Content() != nil || !bytes.Equal(q.Canonical(), p.Canonical()) {
			t.Fatal("canonical form is not stable")
		}
		if q.Verify([]byte("this was never signed")) == nil {
			t.Fatal("verifies what was not signed")
		}
		fuzz.Budget(t, len(in), func() { _ = p.Verify(nil) })
		if p.Verify(nil) == nil && !bytes.Equal(p.Content(), content) {
			t.Fatalf("verifies %q", p.Content())
		}
		if k, err := p.First(); err == nil {
			checkX509(t, k)
		}
	})
}
