package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

// goodCombinations are the ones of a key, a declared algorithm, the hash that was
// signed and the encoding of the signature that RFC 7518, section 3.1, and RFC 8037
// define. Every other is refused.
const goodCombinations = `
RSA-2048 RS256 SHA-256 PKCS1
RSA-2048 RS384 SHA-384 PKCS1
RSA-2048 RS512 SHA-512 PKCS1
RSA-2048 PS256 SHA-256 PSS
RSA-2048 PS384 SHA-384 PSS
RSA-2048 PS512 SHA-512 PSS
P-256 ES256 SHA-256 R||S
P-384 ES384 SHA-384 R||S
P-521 ES512 SHA-512 R||S
Ed25519 EdDSA none raw
`

// TestKeyAlgorithmMatrix is the whole product of keys, declared algorithms, hashes
// and encodings of signatures, each with its exact verdict, for issuers that
// advertise every algorithm: once with a key set that says nothing of algorithms,
// once with one that names the algorithm of each key.
func TestKeyAlgorithmMatrix(t *testing.T) {
	k := testKeys()
	keys := []struct {
		name, alg string // what the key set says of it
		key       crypto.Signer
	}{
		{"RSA-2048", "RS256", k.rsa}, {"RSA-1024", "RS256", k.weak},
		{"P-256", "ES256", k.p256}, {"P-384", "ES384", k.p384}, {"P-521", "ES512", k.p521}, {"Ed25519", "EdDSA", k.ed},
	}
	declared := []string{
		"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
		"none", "HS256", "HS512", "RS1", "ES256K", "Ed25519", "Ed448", "ML-DSA-44",
	}
	hashes := []struct {
		name string
		hash crypto.Hash
	}{{"SHA-1", crypto.SHA1}, {"SHA-256", crypto.SHA256}, {"SHA-384", crypto.SHA384}, {"SHA-512", crypto.SHA512}, {"none", 0}}

	total, good, wanted := 0, 0, strings.Count(goodCombinations, "\n")-1
	for _, named := range []bool{false, true} {
		fake := newFake(emailURL)
		fake.algs, fake.keys = declared, nil
		for _, key := range keys {
			jwk := jose.JSONWebKey{Key: key.key.Public(), KeyID: key.name, Use: "sig"}
			if named {
				jwk.Algorithm = key.alg
			}
			fake.keys = append(fake.keys, jwk)
		}
		v, _, _ := setup(t, []Issuer{emailIssuer()}, fake)
		found := map[string]bool{}
		for _, key := range keys {
			for _, hash := range hashes {
				for _, encoding := range []string{"PKCS1", "PSS", "R||S", "ASN.1", "raw"} {
					for _, alg := range declared {
						input := b64(mustJSON(map[string]any{"alg": alg, "kid": key.name})) + "." + b64(mustJSON(emailClaims()))
						signature := signAs(t, key.key, hash.hash, encoding, []byte(input))
						if signature == nil {
							continue // no signature of that key has this form
						}
						total++
						name := strings.Join([]string{key.name, alg, hash.name, encoding}, " ")
						want := tokenError
						if strings.Contains(goodCombinations, "\n"+name+"\n") && (!named || alg == key.alg) {
							want = accepted
						}
						_, got, err := verify(t, v, input+"."+b64(signature))
						if got != want {
							t.Errorf("%s (key set names algorithms: %t): %v, want %v: %v", name, named, got, want, err)
						}
						if got == accepted {
							good++
							found[name] = true
						}
					}
				}
			}
		}
		if !named && len(found) != wanted {
			t.Errorf("%d combinations are accepted, want %d", len(found), wanted)
		}
	}
	t.Logf("%d combinations of key, algorithm, hash and encoding, %d of them good", total, good)
	if total < 600 {
		t.Errorf("%d combinations, want at least 600", total)
	}
}

// signAs signs with a key, or returns nil where the key has no such signature.
func signAs(t *testing.T, key crypto.Signer, hash crypto.Hash, encoding string, message []byte) []byte {
	t.Helper()
	digest := message
	if hash != 0 {
		h := hash.New()
		h.Write(message)
		digest = h.Sum(nil)
	}
	var signature []byte
	var err error
	switch k := key.(type) {
	case *rsa.PrivateKey:
		switch {
		case encoding == "PKCS1" && hash != 0:
			signature, err = rsa.SignPKCS1v15(rand.Reader, k, hash, digest)
		case encoding == "PSS" && hash != 0:
			signature, err = rsa.SignPSS(rand.Reader, k, hash, digest, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
			if err != nil && k.N.BitLen() < 2048 {
				return nil // too short for this hash
			}
		}
	case *ecdsa.PrivateKey:
		switch {
		case hash == 0:
		case encoding == "ASN.1":
			signature, err = ecdsa.SignASN1(rand.Reader, k, digest)
		case encoding == "R||S":
			r, s, errSign := ecdsa.Sign(rand.Reader, k, digest)
			size := (k.Curve.Params().BitSize + 7) / 8
			signature, err = append(r.FillBytes(make([]byte, size)), s.FillBytes(make([]byte, size))...), errSign
		}
	case ed25519.PrivateKey:
		switch {
		case encoding == "raw": // over the message, or over a hash of it
			signature = ed25519.Sign(k, digest)
		case encoding == "ASN.1" && hash == crypto.SHA512: // Ed25519ph
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
