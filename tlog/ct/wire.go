package ct

import (
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
)

// The entry types of RFC 6962, section 3.1.
const (
	TypeX509    = 0
	TypePrecert = 1
)

// A Leaf is a MerkleTreeLeaf of version 1 (RFC 6962, section 3.4).
type Leaf struct {
	Timestamp     uint64            // milliseconds since 1970 UTC
	Type          uint16            // TypeX509 or TypePrecert
	IssuerKeyHash [sha256.Size]byte // SHA-256 of the issuer's SubjectPublicKeyInfo; of precertificates only
	Signed        []byte            // the certificate, or the TBSCertificate without poison, in DER; below 2^24 bytes
}

// Bytes returns the TLS encoding.
func (l Leaf) Bytes() []byte {
	b := cryptobyte.NewBuilder(make([]byte, 0, len(l.Signed)+64))
	b.AddUint16(0) // version v1, leaf type timestamped entry
	b.AddUint64(l.Timestamp)
	b.AddUint16(l.Type)
	if l.Type == TypePrecert {
		b.AddBytes(l.IssuerKeyHash[:])
	}
	addUint24Bytes(b, l.Signed)
	b.AddUint16(0) // no extensions
	return b.BytesOrPanic()
}

// addUint24Bytes adds a string with three bytes of length before it. What is
// logged is bounded far below 2^24 bytes.
func addUint24Bytes(b *cryptobyte.Builder, s []byte) {
	b.AddUint24(uint32(len(s)))
	b.AddBytes(s)
}

// ParseLeaf reads a MerkleTreeLeaf as this log writes them: version 1,
// certificate or precertificate, no extensions, nothing behind. Signed shares
// memory with b.
func ParseLeaf(b []byte) (Leaf, error) {
	var l Leaf
	var head uint16
	var signed, extensions cryptobyte.String
	s := cryptobyte.String(b)
	ok := s.ReadUint16(&head) && s.ReadUint64(&l.Timestamp) && s.ReadUint16(&l.Type)
	if ok && (head != 0 || l.Type > TypePrecert) {
		return Leaf{}, fmt.Errorf("MerkleTreeLeaf: version and leaf type %04x, entry type %d; want 0000 and 0 or 1", head, l.Type)
	}
	if ok && l.Type == TypePrecert {
		ok = s.CopyBytes(l.IssuerKeyHash[:])
	}
	ok = ok && s.ReadUint24LengthPrefixed(&signed) && s.ReadUint16LengthPrefixed(&extensions)
	if !ok || !s.Empty() || len(signed) == 0 || len(extensions) != 0 {
		return Leaf{}, errors.New("MerkleTreeLeaf: it is cut short, has something behind it, an empty entry or extensions")
	}
	l.Signed = signed
	return l, nil
}

// An SCT is a SignedCertificateTimestamp of version 1 (RFC 6962, section 3.2)
// without extensions.
type SCT struct {
	LogID     [sha256.Size]byte
	Timestamp uint64 // milliseconds since 1970 UTC
	Signature []byte // DigitallySigned
}

// Bytes returns the TLS encoding.
func (s SCT) Bytes() []byte {
	b := cryptobyte.NewBuilder(make([]byte, 0, 43+len(s.Signature)))
	b.AddUint8(0) // version v1
	b.AddBytes(s.LogID[:])
	b.AddUint64(s.Timestamp)
	b.AddUint16(0) // no extensions
	b.AddBytes(s.Signature)
	return b.BytesOrPanic()
}

// ParseSCT reads the TLS encoding of an SCT without extensions. It does not
// verify the signature, which shares memory with b.
func ParseSCT(b []byte) (SCT, error) {
	var t SCT
	var version uint8
	var extensions uint16
	var sig cryptobyte.String
	s := cryptobyte.String(b)
	ok := s.ReadUint8(&version) && s.CopyBytes(t.LogID[:]) && s.ReadUint64(&t.Timestamp) && s.ReadUint16(&extensions)
	t.Signature = s
	ok = ok && s.Skip(2) && s.ReadUint16LengthPrefixed(&sig) && s.Empty()
	if !ok || version != 0 || extensions != 0 || len(sig) == 0 {
		return SCT{}, errors.New("SCT: want version 1 without extensions, one signature, and nothing behind it")
	}
	return t, nil
}

// x509Extra returns the extra_data of a certificate (RFC 6962, section 4.6):
// the chain from its issuer to the root.
func x509Extra(path []*x509.Certificate) []byte {
	return appendChain(nil, path[1:])
}

// precertExtra returns the extra_data of a precertificate (RFC 6962, section
// 4.6): itself, and the chain from its issuer to the root.
func precertExtra(path []*x509.Certificate) []byte {
	b := cryptobyte.NewBuilder(nil)
	addUint24Bytes(b, path[0].Raw)
	return appendChain(b.BytesOrPanic(), path[1:])
}

func appendChain(to []byte, chain []*x509.Certificate) []byte {
	b := cryptobyte.NewBuilder(to)
	b.AddUint24LengthPrefixed(func(b *cryptobyte.Builder) {
		for _, c := range chain {
			addUint24Bytes(b, c.Raw)
		}
	})
	return b.BytesOrPanic()
}

// joinExtra returns what is stored beside a leaf: the DigitallySigned of its
// SCT with two bytes of length, and the extra_data.
func joinExtra(sig, extraData []byte) []byte {
	b := cryptobyte.NewBuilder(make([]byte, 0, 2+len(sig)+len(extraData)))
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(sig) })
	b.AddBytes(extraData)
	return b.BytesOrPanic()
}

// splitExtra is the reverse of joinExtra.
func splitExtra(extra []byte) (sig, extraData []byte, err error) {
	s := cryptobyte.String(extra)
	var head cryptobyte.String
	if !s.ReadUint16LengthPrefixed(&head) {
		return nil, nil, errors.New("what is stored beside the leaf is cut short")
	}
	return head, s, nil
}
