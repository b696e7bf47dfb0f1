package entry

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/sigstack/sigstack/tlog/entry/sigkey"
)

// hashedrekord 0.0.1: a signature over the digest of an artifact that the log
// never sees. Proposed and stored form are the same:
//
//	spec.data.hash.algorithm          sha256, sha384 or sha512
//	spec.data.hash.value              hex, kept in the case that it was sent in
//	spec.signature.content            base64 of the raw signature
//	spec.signature.publicKey.content  base64 of PEM: key, certificate or chain
//
// The signature is verified over the digest, by the algorithms of
// hashedRekordHash only. An Ed25519 key signs by Ed25519ph: plain Ed25519
// needs the artifact itself.

type hashedRekord struct {
	hash digest
	sig  sigkey.X509Signature
	key  *sigkey.X509
}

func readHashedRekord(spec value) (*hashedRekord, error) {
	m, err := spec.members("signature", "data")
	if err != nil {
		return nil, err
	}
	signature, err := requiredMembers(m[0], "signature", "content", "publicKey")
	if err != nil {
		return nil, err
	}
	data, err := requiredMembers(m[1], "data", "hash")
	if err != nil {
		return nil, err
	}
	publicKey, err := requiredMembers(signature[1], "signature.publicKey", "content")
	if err != nil {
		return nil, err
	}
	sig, err := requiredBytes(signature[0], "signature.content")
	if err != nil {
		return nil, err
	}
	if len(sig) > sigkey.MaxSignatureSize {
		return nil, fmt.Errorf("signature.content has %d bytes, at most %d are accepted", len(sig), sigkey.MaxSignatureSize)
	}
	keyText, err := requiredBytes(publicKey[0], "signature.publicKey.content")
	if err != nil {
		return nil, err
	}
	key, err := sigkey.ParseX509(keyText)
	if err != nil {
		return nil, err
	}
	if data[0] == nil {
		return nil, errors.New("data.hash in body is required")
	}
	hash, err := readDigest(data[0], "data.hash", "sha256", "sha384", "sha512")
	if err != nil {
		return nil, err
	}
	return &hashedRekord{hash: hash, sig: sig, key: key}, nil
}

func proposeHashedRekord(spec value) ([]byte, *keySet, error) {
	h, err := readHashedRekord(spec)
	if err != nil {
		return nil, nil, err
	}
	hash := hashedRekordHash(h.key.PublicKey())
	if hashNames[hash] != h.hash.algorithm {
		return nil, nil, errors.New("entry algorithms are not allowed")
	}
	if err := h.key.VerifyDigest(hash, h.hash.raw(), h.sig); err != nil {
		return nil, nil, fmt.Errorf("verifying signature: %w", err)
	}
	return h.body(), h.keys(), nil
}

func keysHashedRekord(spec value) (*keySet, error) {
	h, err := readHashedRekord(spec)
	if err != nil {
		return nil, err
	}
	return h.keys(), nil
}

// hashNames spells hash functions as entries do.
var hashNames = map[crypto.Hash]string{
	crypto.SHA256: "sha256",
	crypto.SHA384: "sha384",
	crypto.SHA512: "sha512",
}

// hashedRekordHash returns the one hash function that a key may be used with,
// or 0 for a key that is not accepted. It is the default registry of public
// instances: RSA PKCS #1 v1.5 of 2048, 3072 or 4096 bits with SHA-256, ECDSA
// P-256 with SHA-256, P-384 with SHA-384, P-521 with SHA-512, Ed25519ph with
// SHA-512.
func hashedRekordHash(pub crypto.PublicKey) crypto.Hash {
	switch pub := pub.(type) {
	case *rsa.PublicKey:
		switch pub.Size() * 8 {
		case 2048, 3072, 4096:
			return crypto.SHA256
		}
	case *ecdsa.PublicKey:
		switch pub.Curve {
		case elliptic.P256():
			return crypto.SHA256
		case elliptic.P384():
			return crypto.SHA384
		case elliptic.P521():
			return crypto.SHA512
		}
	case ed25519.PublicKey:
		return crypto.SHA512
	}
	return 0
}

func (h *hashedRekord) body() []byte {
	key := h.key.Canonical()
	out := make([]byte, 0, 512+base64.StdEncoding.EncodedLen(len(h.sig)+len(key)))
	out = appendHeader(out, "hashedrekord", "0.0.1")
	out = append(out, `"data":{"hash":`...)
	out = appendDigest(out, h.hash)
	out = append(out, `},"signature":{"content":"`...)
	out = base64.StdEncoding.AppendEncode(out, h.sig)
	out = append(out, `","publicKey":{"content":"`...)
	out = base64.StdEncoding.AppendEncode(out, key)
	return append(out, `"}}}}`...)
}

func (h *hashedRekord) keys() *keySet {
	s := &keySet{}
	s.addSigner(h.key, scheme{hash: hashedRekordHash(h.key.PublicKey())})
	s.add(h.hash.searchKey())
	return s
}
