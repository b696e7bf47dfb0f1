package ca

import (
	"crypto/sha1" // #nosec G505 -- a name for a key, RFC 5280, section 4.2.1.2
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/sigstack/sigstack/ca/ext"
)

// A profile is everything that a precertificate and its certificate share.
type profile struct {
	chain     *Chain
	serial    *big.Int
	notBefore time.Time // UTC, whole seconds
	notAfter  time.Time
	atMost    time.Duration // from notBefore to notAfter
	key       ProvenKey
	san       ext.SAN
	values    ext.Values
}

// Object identifiers. They are functions because a slice in a variable could be
// written to.
func oidKeyUsage() asn1.ObjectIdentifier         { return asn1.ObjectIdentifier{2, 5, 29, 15} }
func oidExtKeyUsage() asn1.ObjectIdentifier      { return asn1.ObjectIdentifier{2, 5, 29, 37} }
func oidSubjectKeyID() asn1.ObjectIdentifier     { return asn1.ObjectIdentifier{2, 5, 29, 14} }
func oidAuthorityKeyID() asn1.ObjectIdentifier   { return asn1.ObjectIdentifier{2, 5, 29, 35} }
func oidSAN() asn1.ObjectIdentifier              { return asn1.ObjectIdentifier{2, 5, 29, 17} }
func oidBasicConstraints() asn1.ObjectIdentifier { return asn1.ObjectIdentifier{2, 5, 29, 19} }
func oidPoison() asn1.ObjectIdentifier {
	return asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 3}
}
func oidSCTList() asn1.ObjectIdentifier {
	return asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 2}
}

// The DER values of extensions that are the same in every certificate.
func keyUsageDER() []byte    { return []byte{0x03, 0x02, 0x07, 0x80} } // BIT STRING, bit 0: digitalSignature
func extKeyUsageDER() []byte { return []byte("\x30\x0a\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x03") }

// poison marks a precertificate (RFC 6962, section 3.1): critical, and ASN.1
// NULL, so that nobody takes it for a certificate.
func poison() pkix.Extension {
	return pkix.Extension{Id: oidPoison(), Critical: true, Value: []byte{0x05, 0x00}}
}

// tbs builds the TBSCertificate (RFC 5280, section 4.1) with the extensions that
// both certificates share, and a last one. It is deterministic: two calls differ in
// that extension only.
func (p *profile) tbs(shared []byte, last pkix.Extension) ([]byte, error) {
	const room = 512 // what is beside the extensions
	b := cryptobyte.NewBuilder(make([]byte, 0, room+len(shared)+len(last.Value)))
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
			b.AddASN1Int64(2) // version 3
		})
		b.AddASN1BigInt(p.serial)
		p.chain.algorithm.add(b)
		b.AddBytes(p.chain.certs[0].RawSubject)
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			addTime(b, p.notBefore)
			addTime(b, p.notAfter)
		})
		b.AddASN1(cbasn1.SEQUENCE, func(*cryptobyte.Builder) {}) // empty subject
		b.AddBytes(p.key.spki)
		b.AddASN1(cbasn1.Tag(3).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddBytes(shared)
				addExtension(b, last)
			})
		})
	})
	return b.Bytes()
}

// shared encodes the extensions that both certificates share: all but the last
// one. An error means that the identity cannot be encoded.
func (p *profile) shared() ([]byte, error) {
	extensions, err := p.extensions()
	if err != nil {
		return nil, err
	}
	b := cryptobyte.NewBuilder(make([]byte, 0, 1<<10))
	for _, e := range extensions {
		addExtension(b, e)
	}
	return b.Bytes()
}

// extensions are all but the last one, in the order of the package comment.
func (p *profile) extensions() ([]pkix.Extension, error) {
	keyID, err := subjectKeyID(p.key.spki)
	if err != nil {
		return nil, err
	}
	ski, err := octetString(keyID)
	if err != nil {
		return nil, err
	}
	aki, err := authorityKeyIDDER(p.chain.certs[0].SubjectKeyId)
	if err != nil {
		return nil, err
	}
	san, err := p.san.Extension()
	if err != nil {
		return nil, fmt.Errorf("subject alternative name: %w", err)
	}
	values, err := p.values.Extensions()
	if err != nil {
		return nil, err
	}
	return append([]pkix.Extension{
		{Id: oidKeyUsage(), Critical: true, Value: keyUsageDER()},
		{Id: oidExtKeyUsage(), Value: extKeyUsageDER()},
		{Id: oidSubjectKeyID(), Value: ski},
		{Id: oidAuthorityKeyID(), Value: aki},
		san,
	}, values...), nil
}

// addTime writes a Time: UTCTime through 2049, GeneralizedTime from 2050 (RFC
// 5280, section 4.1.2.5).
func addTime(b *cryptobyte.Builder, t time.Time) {
	if t.Year() < 2050 {
		b.AddASN1UTCTime(t)
		return
	}
	b.AddASN1GeneralizedTime(t)
}

// addExtension writes an Extension. DER leaves a false "critical" out.
func addExtension(b *cryptobyte.Builder, e pkix.Extension) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(e.Id)
		if e.Critical {
			b.AddASN1Boolean(true)
		}
		b.AddASN1OctetString(e.Value)
	})
}

func octetString(value []byte) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1OctetString(value)
	return b.Bytes()
}

// authorityKeyIDDER is an AuthorityKeyIdentifier with the keyIdentifier alone
// (RFC 5280, section 4.2.1.1).
func authorityKeyIDDER(id []byte) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.Tag(0).ContextSpecific(), func(b *cryptobyte.Builder) { b.AddBytes(id) })
	})
	return b.Bytes()
}

// subjectKeyID is the SHA-1 of the bits of the subjectPublicKey (RFC 5280,
// section 4.2.1.2, method 1). SHA-1 is a name here and not a protection.
func subjectKeyID(spki []byte) ([]byte, error) {
	der, info, alg, bits := cryptobyte.String(spki), cryptobyte.String(nil), cryptobyte.String(nil), asn1.BitString{}
	if !der.ReadASN1(&info, cbasn1.SEQUENCE) || !der.Empty() ||
		!info.ReadASN1(&alg, cbasn1.SEQUENCE) || !info.ReadASN1BitString(&bits) || !info.Empty() {
		return nil, errors.New("the public key is not a SubjectPublicKeyInfo")
	}
	sum := sha1.Sum(bits.RightAlign()) // #nosec G401
	return sum[:], nil
}
