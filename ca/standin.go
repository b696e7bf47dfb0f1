package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
)

// A standIn signs what is linted in place of the issuing key: with a key of the
// same type, which was made for that, is kept nowhere and is in no trust root. So
// what the lints look at is a whole certificate, and the issuing key signs nothing
// that they have not seen.
type standIn struct {
	key  crypto.Signer
	cert *x509.Certificate // the issuing certificate, but for its key
}

func newStandIn(issuing *x509.Certificate) (*standIn, error) {
	var key crypto.Signer
	var err error
	// The type of the key is in what is linted, as the signature algorithm; its size
	// is not. The smallest costs a tenth of what one on P-384 would.
	switch issuing.PublicKey.(type) {
	case *ecdsa.PublicKey:
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case *rsa.PublicKey:
		const bits = 2048
		key, err = rsa.GenerateKey(rand.Reader, bits)
	default:
		err = fmt.Errorf("no throw-away key of type %T", issuing.PublicKey)
	}
	if err != nil {
		return nil, err
	}
	cert := *issuing
	cert.PublicKey = key.Public()
	return &standIn{key: key, cert: &cert}, nil
}

func (s *standIn) signature(digest []byte, hash crypto.Hash) ([]byte, error) {
	return s.key.Sign(rand.Reader, digest, hash)
}
