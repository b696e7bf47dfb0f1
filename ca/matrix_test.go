package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"strings"
	"testing"

	"github.com/sigstack/sigstack/ca/catest"
)

// goodProofs are the keys, hashes and encodings of signatures that prove
// possession of a key; every other combination is refused.
const goodProofs = `
RSA-2048 SHA-256 PKCS1
P-256 SHA-256 ASN.1
P-384 SHA-256 ASN.1
P-384 SHA-384 ASN.1
P-521 SHA-256 ASN.1
P-521 SHA-512 ASN.1
Ed25519 none raw
`

// goodRequests are the same for certificate requests, with the algorithm that they
// declare.
const goodRequests = `
RSA-2048 SHA256-RSA SHA-256 PKCS1
P-256 ECDSA-SHA256 SHA-256 ASN.1
P-384 ECDSA-SHA256 SHA-256 ASN.1
P-384 ECDSA-SHA384 SHA-384 ASN.1
P-521 ECDSA-SHA256 SHA-256 ASN.1
P-521 ECDSA-SHA512 SHA-512 ASN.1
Ed25519 Ed25519 none raw
`

var matrixHashes = []struct {
	name string
	hash crypto.Hash
}{{"SHA-1", crypto.SHA1}, {"SHA-256", crypto.SHA256}, {"SHA-384", crypto.SHA384}, {"SHA-512", crypto.SHA512}, {"none", 0}}

var matrixEncodings = []string{"PKCS1", "PSS", "ASN.1", "R||S", "raw"}

func matrixKeys(t *testing.T) map[string]crypto.Signer {
	t.Helper()
	keys := testKeys(t)
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	keys["RSA-1024"], keys["P-224"] = weak, catest.ECDSA(t, elliptic.P224())
	return keys
}

// signMatrix signs with a key, or returns nil where it has no signature of that
// form.
func signMatrix(t *testing.T, key crypto.Signer, hash crypto.Hash, encoding string, message []byte) (signature []byte) {
	t.Helper()
	digest := message
	if hash != 0 {
		h := hash.New()
		h.Write(message)
		digest = h.Sum(nil)
	}
	var err error
	switch k := key.(type) {
	case *rsa.PrivateKey:
		switch {
		case encoding == "PKCS1" && hash != 0:
			signature, err = rsa.SignPKCS1v15(rand.Reader, k, hash, digest)
		case encoding == "PSS" && hash != 0:
			signature, err = rsa.SignPSS(rand.Reader, k, hash, digest, &rsa.PSSOptions{SaltLength: 20})
		}
	case *ecdsa.PrivateKey:
		switch {
		case encoding == "ASN.1" && hash != 0:
			signature, err = ecdsa.SignASN1(rand.Reader, k, digest)
		case encoding == "R||S" && hash != 0:
			r, s, errSign := ecdsa.Sign(rand.Reader, k, digest)
			size := (k.Curve.Params().BitSize + 7) / 8
			signature, err = append(r.FillBytes(make([]byte, size)), s.FillBytes(make([]byte, size))...), errSign
		}
	case ed25519.PrivateKey:
		switch {
		case encoding == "raw": // over the message, or over a hash of it
			signature = ed25519.Sign(k, digest)
		case encoding == "ASN.1" && hash == crypto.SHA512: // Ed25519ph, whose encoding is the same
			signature, err = k.Sign(rand.Reader, digest, crypto.SHA512)
		}
	default:
		err = fmt.Errorf("%T", key)
	}
	if err != nil {
		t.Fatal(err)
	}
	return signature
}

// TestKeyAlgorithmMatrix is the whole product of keys, hashes and encodings of
// signatures, for proofs of possession over each subject, and for certificate
// requests with each algorithm that they may declare. Each has its exact verdict.
func TestKeyAlgorithmMatrix(t *testing.T) {
	keys := matrixKeys(t)
	subjects := []string{"dev@example.com", "subject-1"}
	proofs, requests := 0, 0
	goodOnes := map[string]bool{}
	eachSignature := func(do func(name string, key crypto.Signer, sign func(message []byte) []byte)) {
		for keyName, key := range keys {
			for _, h := range matrixHashes {
				for _, encoding := range matrixEncodings {
					if signMatrix(t, key, h.hash, encoding, []byte("x")) == nil {
						continue
					}
					do(strings.Join([]string{keyName, h.name, encoding}, " "), key, func(message []byte) []byte {
						return signMatrix(t, key, h.hash, encoding, message)
					})
				}
			}
		}
	}
	eachSignature(func(name string, key crypto.Signer, sign func([]byte) []byte) {
		for _, subject := range []string{subjects[0], subjects[1], "mallory@example.com", "", "dev@example.com\n", "DEV@example.com"} {
			proofs++
			_, err := VerifyProof(key.Public(), subjects, sign([]byte(subject)))
			want := strings.Contains(goodProofs, "\n"+name+"\n") && (subject == subjects[0] || subject == subjects[1])
			switch {
			case want != (err == nil):
				t.Errorf("proof: %s over %q: %v, want it to be accepted: %t", name, subject, err, want)
			case strings.HasPrefix(name, "RSA-1024") || strings.HasPrefix(name, "P-224"):
				wantRefused(t, "proof: "+name, err, msgKeyInsecure)
			case !want:
				wantRefused(t, "proof: "+name, err, msgProof)
			default:
				goodOnes["proof: "+name] = true
			}
		}
	})
	declared := declaredAlgorithms(t)
	eachSignature(func(name string, key crypto.Signer, sign func([]byte) []byte) {
		keyName, rest, _ := strings.Cut(name, " ")
		for algorithm, identifier := range declared {
			requests++
			full := keyName + " " + algorithm + " " + rest
			csr := csrWith(t, key, identifier, sign)
			_, err := ParseCSR(pemOf("CERTIFICATE REQUEST", csr))
			if want := strings.Contains(goodRequests, "\n"+full+"\n"); want != (err == nil) {
				t.Errorf("request: %s: %v, want it to be accepted: %t", full, err, want)
			} else if want {
				goodOnes["request: "+full] = true
			} else {
				wantRefused(t, "request: "+full, err, "")
			}
		}
	})
	if want := strings.Count(goodProofs+goodRequests, "\n") - 2; len(goodOnes) != want {
		t.Errorf("%d combinations are accepted, want %d", len(goodOnes), want)
	}
	t.Logf("%d proofs and %d certificate requests, each of another key, hash, encoding, subject or algorithm", proofs, requests)
	if proofs+requests < 600 {
		t.Errorf("%d combinations, want at least 600", proofs+requests)
	}
}

// declaredAlgorithms are the AlgorithmIdentifiers that a request may declare.
func declaredAlgorithms(t *testing.T) map[string][]byte {
	t.Helper()
	identifiers := map[string][]byte{}
	add := func(name string, parameters asn1.RawValue, oid ...int) {
		der, err := asn1.Marshal(pkix.AlgorithmIdentifier{Algorithm: oid, Parameters: parameters})
		if err != nil {
			t.Fatal(err)
		}
		identifiers[name] = der
	}
	for name, last := range map[string]int{"MD5-RSA": 4, "SHA1-RSA": 5, "SHA256-RSA": 11, "SHA384-RSA": 12, "SHA512-RSA": 13} {
		add(name, asn1.NullRawValue, 1, 2, 840, 113549, 1, 1, last)
	}
	for name, last := range map[string]int{"ECDSA-SHA224": 1, "ECDSA-SHA256": 2, "ECDSA-SHA384": 3, "ECDSA-SHA512": 4} {
		add(name, asn1.RawValue{}, 1, 2, 840, 10045, 4, 3, last)
	}
	add("ECDSA-SHA1", asn1.RawValue{}, 1, 2, 840, 10045, 4, 1)
	add("Ed25519", asn1.RawValue{}, 1, 3, 101, 112)
	add("Ed448", asn1.RawValue{}, 1, 3, 101, 113)
	add("ML-DSA-44", asn1.RawValue{}, 2, 16, 840, 1, 101, 3, 4, 3, 17)
	// The parameters of PSS are those that crypto/x509 writes.
	for name, algorithm := range map[string]x509.SignatureAlgorithm{"SHA256-RSAPSS": x509.SHA256WithRSAPSS, "SHA384-RSAPSS": x509.SHA384WithRSAPSS, "SHA512-RSAPSS": x509.SHA512WithRSAPSS} {
		var request struct {
			TBS       asn1.RawValue
			Algorithm asn1.RawValue
			Signature asn1.BitString
		}
		if _, err := asn1.Unmarshal(csrOf(t, testKeys(t)["RSA-2048"], algorithm), &request); err != nil {
			t.Fatal(err)
		}
		identifiers[name] = request.Algorithm.FullBytes
	}
	return identifiers
}

// csrWith is a certificate request that declares any algorithm and is signed in any
// way.
func csrWith(t *testing.T, key crypto.Signer, identifier []byte, sign func([]byte) []byte) []byte {
	t.Helper()
	tbs, err := asn1.Marshal(struct {
		Version    int
		Subject    pkix.RDNSequence
		Key        asn1.RawValue
		Attributes []asn1.RawValue `asn1:"tag:0,set"`
	}{Key: asn1.RawValue{FullBytes: spkiOf(t, key.Public())}})
	if err != nil {
		t.Fatal(err)
	}
	signature := sign(tbs)
	der, err := asn1.Marshal(struct {
		TBS       asn1.RawValue
		Algorithm asn1.RawValue
		Signature asn1.BitString
	}{asn1.RawValue{FullBytes: tbs}, asn1.RawValue{FullBytes: identifier}, asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)}})
	if err != nil {
		t.Fatal(err)
	}
	return der
}
