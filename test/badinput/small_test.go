package badinput

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"encoding/pem"
	"math/big"
	"slices"
)

// randReader is crypto/rand as a value.
type randReader struct{}

func (randReader) Read(p []byte) (int, error) { return rand.Read(p) }

func hmacOf(h crypto.Hash, key, message []byte) []byte {
	m := hmac.New(h.New, key)
	m.Write(message)
	return m.Sum(nil)
}

func pemDecode(text []byte) (der, rest []byte) {
	block, rest := pem.Decode(text)
	return block.Bytes, rest
}

// edPlusOrder adds the order of the group to the scalar of an Ed25519
// signature: the same point, written in a second way (RFC 8032, section 5.1.7
// refuses it).
func edPlusOrder(sig []byte) []byte {
	order, _ := new(big.Int).SetString("7237005577332262213973186563042994240857116359379907606001950938285454250989", 10)
	le := slices.Clone(sig[32:])
	slices.Reverse(le)
	s := new(big.Int).SetBytes(le)
	be := s.Add(s, order).FillBytes(make([]byte, 32))
	slices.Reverse(be)
	return append(slices.Clone(sig[:32]), be...)
}

func newP256() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) }
