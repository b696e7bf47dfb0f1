package badinput

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sigstack/sigstack/test/harness"
)

// keys are the keys that clients have, made once.
type keys struct {
	p224, p256, p384, p521    *ecdsa.PrivateKey
	rsa1024, rsa2048, rsa3072 *rsa.PrivateKey
	rsa4096                   *rsa.PrivateKey
	ed                        ed25519.PrivateKey
	vectors                   map[string][]byte // requests of test/vectors/rekor, by name
}

func newKeys(t *testing.T) *keys {
	t.Helper()
	k := &keys{vectors: make(map[string][]byte)}
	var group sync.WaitGroup
	for bits, to := range map[int]**rsa.PrivateKey{2048: &k.rsa2048, 3072: &k.rsa3072, 4096: &k.rsa4096} {
		group.Go(func() { *to = must(rsa.GenerateKey(rand.Reader, bits)) })
	}
	group.Wait()
	k.rsa1024 = smallRSA(1024)
	for curve, to := range map[elliptic.Curve]**ecdsa.PrivateKey{
		elliptic.P224(): &k.p224, elliptic.P256(): &k.p256, elliptic.P384(): &k.p384, elliptic.P521(): &k.p521,
	} {
		*to = must(ecdsa.GenerateKey(curve, rand.Reader))
	}
	_, k.ed = must2(ed25519.GenerateKey(rand.Reader))

	files := must(filepath.Glob(filepath.Join(harness.Root(t), "test", "vectors", "rekor", "*.json")))
	files = append(files, filepath.Join(harness.Root(t), "test", "vectors", "entries", "tuf-base64.json"))
	for _, file := range files {
		var v struct{ Request json.RawMessage }
		if err := json.Unmarshal(must(os.ReadFile(file)), &v); err != nil {
			t.Fatal(err)
		}
		name := filepath.Base(file)
		k.vectors[name[:len(name)-len(".json")]] = v.Request
	}
	return k
}

// smallRSA makes a key that crypto/rsa is no longer willing to make.
func smallRSA(bits int) *rsa.PrivateKey {
	one := big.NewInt(1)
	for {
		p, q := must(rand.Prime(rand.Reader, bits/2)), must(rand.Prime(rand.Reader, bits/2))
		n := new(big.Int).Mul(p, q)
		phi := new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
		d := new(big.Int).ModInverse(big.NewInt(65537), phi)
		if n.BitLen() == bits && d != nil {
			return &rsa.PrivateKey{PublicKey: rsa.PublicKey{N: n, E: 65537}, D: d, Primes: []*big.Int{p, q}}
		}
	}
}

// signPKCS1 is RSASSA-PKCS1-v1_5 (RFC 8017, section 8.2) for keys of every
// size and exponent.
func signPKCS1(key *rsa.PrivateKey, h crypto.Hash, digest []byte) []byte {
	prefix := map[crypto.Hash][]byte{
		crypto.SHA1:   {0x30, 0x21, 0x30, 0x09, 0x06, 0x05, 0x2b, 0x0e, 0x03, 0x02, 0x1a, 0x05, 0x00, 0x04, 0x14},
		crypto.SHA256: {0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20},
		crypto.SHA384: {0x30, 0x41, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05, 0x00, 0x04, 0x30},
		crypto.SHA512: {0x30, 0x51, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03, 0x05, 0x00, 0x04, 0x40},
	}[h]
	size := (key.N.BitLen() + 7) / 8
	em := make([]byte, size)
	em[1] = 1
	tail := append(append([]byte{}, prefix...), digest...)
	for i := 2; i < size-len(tail)-1; i++ {
		em[i] = 0xff
	}
	copy(em[size-len(tail):], tail)
	c := new(big.Int).Exp(new(big.Int).SetBytes(em), key.D, key.N)
	return c.FillBytes(make([]byte, size))
}

func must2[A, B any](a A, b B, err error) (A, B) {
	if err != nil {
		panic(err)
	}
	return a, b
}

func spki(pub crypto.PublicKey) []byte { return must(x509.MarshalPKIXPublicKey(pub)) }

func pemOf(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func publicPEM(k crypto.Signer) []byte { return pemOf("PUBLIC KEY", spki(k.Public())) }

func base64Of(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

// signASN1 signs a digest with ECDSA.
func signASN1(k *ecdsa.PrivateKey, digest []byte) []byte {
	return must(ecdsa.SignASN1(rand.Reader, k, digest))
}

// p1363 returns a signature in the other encoding.
func p1363(k *ecdsa.PrivateKey, der []byte) []byte {
	var sig struct{ R, S *big.Int }
	must(asn1.Unmarshal(der, &sig))
	width := (k.Curve.Params().BitSize + 7) / 8
	return append(sig.R.FillBytes(make([]byte, width)), sig.S.FillBytes(make([]byte, width))...)
}

// digestOf hashes with the algorithm of an entry.
func digestOf(algorithm string, data []byte) []byte {
	switch algorithm {
	case "sha256":
		sum := sha256.Sum256(data)
		return sum[:]
	case "sha384":
		sum := sha512.Sum384(data)
		return sum[:]
	case "sha512":
		sum := sha512.Sum512(data)
		return sum[:]
	}
	panic("no algorithm " + algorithm)
}

// hashedRekord is a proposed hashedrekord entry.
func hashedRekord(algorithm string, digest, sig, key []byte) []byte {
	return marshal(object{
		"kind": "hashedrekord", "apiVersion": "0.0.1",
		"spec": object{
			"data":      object{"hash": object{"algorithm": algorithm, "value": hexOf(digest)}},
			"signature": object{"content": base64Of(sig), "publicKey": object{"content": base64Of(key)}},
		},
	})
}

// freshEntry is a valid entry that nobody had before.
func (k *keys) freshEntry() []byte {
	digest := make([]byte, 32)
	rand.Read(digest)
	return hashedRekord("sha256", digest, signASN1(k.p256, digest), publicPEM(k.p256))
}

// certificate returns a self-signed certificate.
func certificate(key crypto.Signer, change func(*x509.Certificate)) []byte {
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bad input"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		EmailAddresses: []string{"dev@example.com"},
	}
	if change != nil {
		change(c)
	}
	return must(x509.CreateCertificate(rand.Reader, c, c, key.Public(), key))
}

// An authority is the CA of the server under test: its key lies in the data
// directory, so that the tests can sign certificates that no CA would sign.
type authority struct {
	key   crypto.Signer
	chain [][]byte // issuing certificate first, DER
	certs []*x509.Certificate
	oidc  *rsa.PrivateKey // of the development issuer
}

func openAuthority(t *testing.T, dir string) *authority {
	t.Helper()
	a := &authority{key: readKey(t, filepath.Join(dir, "keys", "ca.pem")), oidc: readKey(t, filepath.Join(dir, "keys", "dev-issuer.pem")).(*rsa.PrivateKey)}
	for rest := must(os.ReadFile(filepath.Join(dir, "keys", "ca-chain.pem"))); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return a
		}
		a.chain = append(a.chain, block.Bytes)
		a.certs = append(a.certs, must(x509.ParseCertificate(block.Bytes)))
	}
}

func readKey(t *testing.T, file string) crypto.Signer {
	t.Helper()
	block, _ := pem.Decode(must(os.ReadFile(file)))
	if block == nil {
		t.Fatalf("%s is not PEM", file)
	}
	if key, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
		return key.(crypto.Signer)
	}
	return must(x509.ParseECPrivateKey(block.Bytes))
}

// poison is the extension of a precertificate (RFC 6962, section 3.1).
var poison = pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 3}, Critical: true, Value: []byte{5, 0}}

// issue signs a certificate as the CA would not.
func (a *authority) issue(change func(*x509.Certificate)) []byte {
	serial := must(rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 150)))
	c := &x509.Certificate{
		SerialNumber: serial.Add(serial, big.NewInt(1)), NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, EmailAddresses: []string{"somebody@example.com"},
	}
	if change != nil {
		change(c)
	}
	subject := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	return must(x509.CreateCertificate(rand.Reader, c, a.certs[0], subject.Public(), a.key))
}

// resign signs a TBSCertificate that was changed by hand.
func (a *authority) resign(cert, tbs []byte) []byte {
	var c struct {
		TBS       asn1.RawValue
		Algorithm asn1.RawValue
		Signature asn1.BitString
	}
	must(asn1.Unmarshal(cert, &c))
	hash := crypto.SHA384 // a P-384 key
	h := hash.New()
	h.Write(tbs)
	sig := must(a.key.Sign(rand.Reader, h.Sum(nil), hash))
	return must(asn1.Marshal(struct {
		TBS       asn1.RawValue
		Algorithm asn1.RawValue
		Signature asn1.BitString
	}{asn1.RawValue{FullBytes: tbs}, c.Algorithm, asn1.BitString{Bytes: sig, BitLength: 8 * len(sig)}}))
}

// chainBody is the body of add-chain.
func chainBody(certs ...[]byte) []byte { return marshal(object{"chain": certs}) }

const email = "dev@example.com"

// mint asks the development issuer for a token.
func mint(address string) request {
	return post("/oidc/mint", "application/x-www-form-urlencoded", []byte(url.Values{"email": {address}}.Encode())).with("X-Sigstack-Dev", "1")
}

// token is a token for email, made here with the key of the development issuer.
func (s *suite) token() string { return s.sign(nil, s.claims(nil)) }

// claims are those of a good token of the development issuer, changed.
func (s *suite) claims(change object) object {
	now := time.Now().Unix()
	c := object{
		"iss": s.URL + "/oidc", "sub": email, "aud": "sigstore", "iat": now, "exp": now + 600,
		"email": email, "email_verified": true,
	}
	for name, value := range change {
		if c[name] = value; value == absent {
			delete(c, name)
		}
	}
	return c
}

// absent stands for a member that is taken away.
var absent = any(struct{ absent int }{})

// sign makes a token with the development issuer's key and algorithm RS256;
// header changes members of its header.
func (s *suite) sign(header object, claims any) string {
	h := object{"alg": "RS256", "typ": "JWT"}
	for name, value := range header {
		if h[name] = value; value == absent {
			delete(h, name)
		}
	}
	return s.signText(marshal(h), marshal(claims))
}

// signText signs a header and a payload as they are.
func (s *suite) signText(header, payload []byte) string {
	signed := rawURL(header) + "." + rawURL(payload)
	digest := sha256.Sum256([]byte(signed))
	return signed + "." + rawURL(must(rsa.SignPKCS1v15(rand.Reader, s.ca.oidc, crypto.SHA256, digest[:])))
}

func rawURL(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// proof is a proof of possession over the address of every good token.
func proofOf(k *ecdsa.PrivateKey, subject string) []byte {
	digest := sha256.Sum256([]byte(subject))
	return signASN1(k, digest[:])
}

// certRequest is a valid request to /api/v2/signingCert with a token.
func (s *suite) certRequest(token string) object {
	return object{
		"credentials": object{"oidcIdentityToken": token},
		"publicKeyRequest": object{
			"publicKey":         object{"algorithm": "ECDSA", "content": string(publicPEM(s.keys.p256))},
			"proofOfPossession": base64Of(proofOf(s.keys.p256, email)),
		},
	}
}

// csrRequest is one with a certificate request.
func (s *suite) csrRequest(token string) object {
	return object{"credentials": object{"oidcIdentityToken": token}, "certificateSigningRequest": base64Of(csrPEM(s.keys.p256, nil))}
}

func csrPEM(k crypto.Signer, change func(*x509.CertificateRequest)) []byte {
	c := &x509.CertificateRequest{EmailAddresses: []string{email}}
	if change != nil {
		change(c)
	}
	return pemOf("CERTIFICATE REQUEST", must(x509.CreateCertificateRequest(rand.Reader, c, k)))
}

// oldRequest is the body of a valid request to /api/v1/signingCert.
func (s *suite) oldRequest() object {
	return object{
		"publicKey":          object{"algorithm": "ecdsa", "content": base64Of(spki(s.keys.p256.Public()))},
		"signedEmailAddress": base64Of(proofOf(s.keys.p256, email)),
	}
}

const (
	pathV2    = "/api/v2/signingCert"
	pathV1    = "/api/v1/signingCert"
	pathEntry = "/api/v1/log/entries"
)

// askFor asks for a certificate with a token; all else is valid.
func (s *suite) askFor(token string) request { return postJSON(pathV2, marshal(s.certRequest(token))) }

// envelope makes a DSSE envelope with a signature of each key.
func envelope(payloadType string, payload []byte, signers ...crypto.Signer) object {
	pae := fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(payloadType), payloadType, len(payload), payload)
	sigs := array{}
	for _, k := range signers {
		var sig []byte
		switch k := k.(type) {
		case ed25519.PrivateKey:
			sig = ed25519.Sign(k, pae)
		default:
			digest := sha256.Sum256(pae)
			sig = must(k.Sign(rand.Reader, digest[:], crypto.SHA256))
		}
		sigs = append(sigs, object{"sig": base64Of(sig)})
	}
	return object{"payloadType": payloadType, "payload": base64Of(payload), "signatures": sigs}
}

// inToto001 is a proposed intoto entry of version 0.0.1.
func inToto001(envelope, key []byte) []byte {
	return marshal(object{"kind": "intoto", "apiVersion": "0.0.1", "spec": object{
		"content": object{"envelope": string(envelope)}, "publicKey": base64Of(key)}})
}

// inToto002 is a proposed intoto entry of version 0.0.2, with one key for all
// signatures of an envelope.
func inToto002(envelope object, key []byte) []byte {
	again := func(text any) string { return base64Of([]byte(text.(string))) }
	sigs := array{}
	for _, s := range envelope["signatures"].(array) {
		sigs = append(sigs, object{"sig": again(s.(object)["sig"]), "publicKey": base64Of(key)})
	}
	return marshal(object{"kind": "intoto", "apiVersion": "0.0.2", "spec": object{"content": object{
		"envelope": object{"payloadType": envelope["payloadType"], "payload": again(envelope["payload"]), "signatures": sigs},
		"hash":     object{"algorithm": "sha256", "value": strings.Repeat("aB", 32)},
	}}})
}

// cborOf writes a CBOR item of n bytes, elements or pairs.
func cborOf(major byte, n int, content ...[]byte) []byte {
	out := binary.BigEndian.AppendUint32([]byte{major<<5 | 26}, uint32(n))
	if n < 24 {
		out = []byte{major<<5 | byte(n)}
	}
	return append(out, bytes.Join(content, nil)...)
}

// sign1 is a COSE_Sign1 message for ES256.
func sign1(unprotected, payload, sig []byte) []byte {
	return bytes.Join([][]byte{{0xd2, 0x84, 0x43, 0xa1, 1, 0x26}, unprotected, cborOf(2, len(payload), payload), cborOf(2, len(sig), sig)}, nil)
}

// signSign1 signs a short payload (RFC 9052, section 4.4).
func signSign1(k *ecdsa.PrivateKey, aad, payload string) []byte {
	sum := sha256.Sum256(slices.Concat([]byte("\x84\x6aSignature1\x43\xa1\x01\x26"), cborOf(2, len(aad), []byte(aad)), cborOf(2, len(payload), []byte(payload))))
	return p1363(k, signASN1(k, sum[:]))
}

// coseEntry is a proposed cose entry.
func coseEntry(message, aad, key []byte) []byte {
	return marshal(object{"kind": "cose", "apiVersion": "0.0.1", "spec": object{
		"message": base64Of(message), "publicKey": base64Of(key), "data": object{"aad": base64Of(aad)}}})
}

// dsse is a proposed dsse entry.
func dsse(envelope []byte, verifiers ...[]byte) []byte {
	list := array{}
	for _, v := range verifiers {
		list = append(list, base64Of(v))
	}
	return marshal(object{"kind": "dsse", "apiVersion": "0.0.1", "spec": object{
		"proposedContent": object{"envelope": string(envelope), "verifiers": list},
	}})
}
