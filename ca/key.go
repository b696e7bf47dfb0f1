package ca

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	_ "crypto/sha256" // crypto.Hash.New
	_ "crypto/sha512"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sigstack/sigstack/ca/identity"
)

// Sizes in bytes. An RSA-4096 key is 800 bytes of PEM, a request with it 1,700.
const (
	maxKey   = 8 << 10
	maxCSR   = 32 << 10
	maxProof = 1 << 10
)

// A ProvenKey is a public key that its sender showed to hold the private half
// of. Only VerifyProof and ParseCSR make one; the zero value is refused.
type ProvenKey struct {
	key     crypto.PublicKey
	spki    []byte // SubjectPublicKeyInfo in DER, encoded by us
	subject string // what the proof signed; empty for a certificate request, which names nobody
}

// PublicKey is the key.
func (k ProvenKey) PublicKey() crypto.PublicKey { return k.key }

func (k ProvenKey) valid() bool { return k.spki != nil }

// provenFor reports whether the proof was made for this identity, so that a key
// of one request can never meet the identity of another.
func (k ProvenKey) provenFor(id identity.Identity) bool {
	return k.valid() && (k.subject == "" || slices.Contains(id.ProofSubjects(), k.subject))
}

func proven(key crypto.PublicKey, subject string) (ProvenKey, error) {
	spki, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return ProvenKey{}, refused(msgKeyUnparsable, err)
	}
	return ProvenKey{key: key, spki: spki, subject: subject}, nil
}

// ParsePublicKey reads a SubjectPublicKeyInfo (RFC 5280, section 4.1), as one PEM
// block "PUBLIC KEY" or as DER, or a PKCS #1 RSA key as one PEM block "RSA PUBLIC
// KEY", of at most 8 KiB. The result is an *rsa.PublicKey, *ecdsa.PublicKey or
// ed25519.PublicKey that passed the checks against weak keys. Every error is an
// ErrRequest.
func ParsePublicKey(data []byte) (crypto.PublicKey, error) {
	switch {
	case len(data) == 0:
		return nil, refused(msgKeyUnparsable, errors.New("it is missing"))
	case len(data) > maxKey:
		return nil, refused(msgKeyUnparsable, fmt.Errorf("%d bytes, at most %d are accepted", len(data), maxKey))
	}
	parse, der := x509.ParsePKIXPublicKey, data
	if looksLikePEM(data) {
		block, err := onePEM(data, "PUBLIC KEY", "RSA PUBLIC KEY")
		if err != nil {
			return nil, refused(msgKeyUnparsable, err)
		}
		der = block.Bytes
		if block.Type == "RSA PUBLIC KEY" {
			parse = func(der []byte) (any, error) { return x509.ParsePKCS1PublicKey(der) }
		}
	}
	key, err := parse(der)
	if err != nil {
		return nil, refused(msgKeyUnparsable, err)
	}
	if err := checkKey(key); err != nil {
		return nil, refused(msgKeyInsecure, err)
	}
	return key, nil
}

// VerifyProof checks that proof is a signature by key over the UTF-8 bytes of one
// of the subjects: PKCS #1 v1.5 with SHA-256 for RSA; ASN.1 with the hash that
// fits the curve for ECDSA, or with SHA-256, which older clients use on every
// curve; pure for Ed25519. Every error is an ErrRequest.
func VerifyProof(key crypto.PublicKey, subjects []string, proof []byte) (ProvenKey, error) {
	if err := checkKey(key); err != nil {
		return ProvenKey{}, refused(msgKeyInsecure, err)
	}
	if len(proof) == 0 || len(proof) > maxProof {
		return ProvenKey{}, refused(msgProof, fmt.Errorf("%d bytes, 1 to %d are needed", len(proof), maxProof))
	}
	for _, subject := range subjects {
		if subject != "" && verify(key, []byte(subject), proof) {
			return proven(key, subject)
		}
	}
	return ProvenKey{}, refused(msgProof, errors.New("it must sign the token's verified e-mail address or its subject, with the private key of the public key supplied"))
}

func verify(key crypto.PublicKey, message, signature []byte) bool {
	if k, ok := key.(ed25519.PublicKey); ok {
		return ed25519.Verify(k, message, signature)
	}
	for _, h := range hashesOf(key) {
		digest := h.New()
		digest.Write(message)
		switch k := key.(type) {
		case *rsa.PublicKey:
			if rsa.VerifyPKCS1v15(k, h, digest.Sum(nil), signature) == nil {
				return true
			}
		case *ecdsa.PublicKey:
			if ecdsa.VerifyASN1(k, digest.Sum(nil), signature) {
				return true
			}
		}
	}
	return false
}

// hashesOf are the hashes that a signature by this key may use.
func hashesOf(key crypto.PublicKey) []crypto.Hash {
	switch curveName(key) {
	case "P-384":
		return []crypto.Hash{crypto.SHA384, crypto.SHA256}
	case "P-521":
		return []crypto.Hash{crypto.SHA512, crypto.SHA256}
	}
	return []crypto.Hash{crypto.SHA256}
}

// ParseCSR reads a PKCS #10 certificate request (RFC 2986) as one PEM block of at
// most 32 KiB and verifies its signature, which is the proof of possession.
// Subject, extensions and attributes are ignored: the identity comes from the
// token. Every error is an ErrRequest.
func ParseCSR(data []byte) (ProvenKey, error) {
	if len(data) > maxCSR {
		return ProvenKey{}, refused(msgCSRUnparsable, fmt.Errorf("%d bytes, at most %d are accepted", len(data), maxCSR))
	}
	block, err := onePEM(data, "CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST")
	if err != nil {
		return ProvenKey{}, refused(msgCSRUnparsable, err)
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return ProvenKey{}, refused(msgCSRUnparsable, err)
	}
	if err := checkKey(csr.PublicKey); err != nil {
		return ProvenKey{}, refused(msgKeyInsecure, err)
	}
	if err := checkCSRAlgorithm(csr); err != nil {
		return ProvenKey{}, err
	}
	if err := csr.CheckSignature(); err != nil {
		return ProvenKey{}, refused(msgProof, err)
	}
	return proven(csr.PublicKey, "")
}

// checkCSRAlgorithm allows the same signatures as VerifyProof.
func checkCSRAlgorithm(csr *x509.CertificateRequest) error {
	hashes := map[x509.SignatureAlgorithm]crypto.Hash{
		x509.SHA256WithRSA:   crypto.SHA256,
		x509.SHA384WithRSA:   crypto.SHA384,
		x509.SHA512WithRSA:   crypto.SHA512,
		x509.ECDSAWithSHA256: crypto.SHA256,
		x509.ECDSAWithSHA384: crypto.SHA384,
		x509.ECDSAWithSHA512: crypto.SHA512,
		x509.PureEd25519:     crypto.Hash(0),
	}
	hash, ok := hashes[csr.SignatureAlgorithm]
	if !ok {
		return refused(fmt.Sprintf("unrecognized signature algorithm: %s", csr.SignatureAlgorithm), nil)
	}
	if _, ok := csr.PublicKey.(ed25519.PublicKey); ok && hash == 0 {
		return nil
	}
	for _, h := range hashesOf(csr.PublicKey) {
		if h == hash {
			return nil
		}
	}
	return refused(fmt.Sprintf("signing algorithm not permitted: %T, %s", csr.PublicKey, hash), nil)
}

// looksLikePEM tells PEM from DER, which begins with a SEQUENCE (0x30).
func looksLikePEM(data []byte) bool { return data[0] != 0x30 }

// onePEM reads exactly one PEM block (RFC 7468) of one of the types, without
// headers and with nothing but white space around it. What more there may be
// would be read by one program and skipped by another.
func onePEM(data []byte, types ...string) (*pem.Block, error) {
	wanted := func() error {
		return fmt.Errorf("it must be one PEM block \"%s\" without headers and nothing else", strings.Join(types, `" or "`))
	}
	trimmed := bytes.TrimSpace(data)
	if !bytes.HasPrefix(trimmed, []byte("-----BEGIN ")) || bytes.Count(trimmed, []byte("-----BEGIN ")) != 1 {
		return nil, wanted()
	}
	block, rest := pem.Decode(trimmed)
	if block == nil || len(rest) != 0 || len(block.Headers) != 0 {
		return nil, wanted()
	}
	if !slices.Contains(types, block.Type) {
		return nil, wanted()
	}
	return block, nil
}
