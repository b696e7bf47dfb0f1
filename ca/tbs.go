package ca

import (
	"bytes"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// This file reads a TBSCertificate back, element by element. It shares nothing
// with profile.go, which builds one, so that a mistake there is seen here.

// tbsFields are the elements of a TBSCertificate before its extensions (RFC
// 5280, section 4.1). Unique identifiers, which could follow them, are refused.
var tbsFields = [...]struct {
	name string
	tag  cbasn1.Tag
}{
	{"version", cbasn1.Tag(0).ContextSpecific().Constructed()},
	{"serial number", cbasn1.INTEGER},
	{"signature algorithm", cbasn1.SEQUENCE},
	{"issuer", cbasn1.SEQUENCE},
	{"validity", cbasn1.SEQUENCE},
	{"subject", cbasn1.SEQUENCE},
	{"public key", cbasn1.SEQUENCE},
}

// A splitTBS is a TBSCertificate cut into its elements, each as it stands there.
type splitTBS struct {
	fields     [len(tbsFields)][]byte
	extensions []pkix.Extension
	raw        [][]byte // the same extensions in DER
}

// maxExtensions bounds the extensions of a certificate. The longest profile has 29.
const maxExtensions = 100

// split cuts a TBSCertificate. The slices point into it.
func split(tbs []byte) (*splitTBS, error) {
	var s splitTBS
	der, seq := cryptobyte.String(tbs), cryptobyte.String(nil)
	if !der.ReadASN1(&seq, cbasn1.SEQUENCE) || !der.Empty() {
		return nil, errors.New("not one DER sequence")
	}
	for i, f := range tbsFields {
		var element cryptobyte.String
		if !seq.ReadASN1Element(&element, f.tag) {
			return nil, fmt.Errorf("%s: not found where it has to be", f.name)
		}
		s.fields[i] = element
	}
	var explicit, list cryptobyte.String
	if !seq.ReadASN1(&explicit, cbasn1.Tag(3).ContextSpecific().Constructed()) || !seq.Empty() ||
		!explicit.ReadASN1(&list, cbasn1.SEQUENCE) || !explicit.Empty() {
		return nil, errors.New("extensions: not found where they have to be")
	}
	for !list.Empty() {
		if len(s.raw) == maxExtensions {
			return nil, fmt.Errorf("extensions: more than %d", maxExtensions)
		}
		var raw, e, value cryptobyte.String
		var x pkix.Extension
		if !list.ReadASN1Element(&raw, cbasn1.SEQUENCE) {
			return nil, fmt.Errorf("extension %d: not a DER sequence", len(s.raw))
		}
		body := raw
		if !body.ReadASN1(&e, cbasn1.SEQUENCE) || !e.ReadASN1ObjectIdentifier(&x.Id) {
			return nil, fmt.Errorf("extension %d: no object identifier", len(s.raw))
		}
		if e.PeekASN1Tag(cbasn1.BOOLEAN) && (!e.ReadASN1Boolean(&x.Critical) || !x.Critical) {
			return nil, fmt.Errorf("extension %d: DER writes critical only when it is true", len(s.raw))
		}
		if !e.ReadASN1(&value, cbasn1.OCTET_STRING) || !e.Empty() {
			return nil, fmt.Errorf("extension %d: the value is not one octet string", len(s.raw))
		}
		x.Value = value
		s.extensions = append(s.extensions, x)
		s.raw = append(s.raw, raw)
	}
	return &s, nil
}

// without returns the TBSCertificate again, without the one extension with this
// object identifier, and where that stood. This is also what an SCT over a
// precertificate signs (RFC 6962, section 3.2).
func (s *splitTBS) without(id asn1.ObjectIdentifier) (tbs []byte, at int, err error) {
	at = -1
	for i, e := range s.extensions {
		if !e.Id.Equal(id) {
			continue
		}
		if at >= 0 {
			return nil, 0, fmt.Errorf("the extension %v stands twice", id)
		}
		at = i
	}
	if at < 0 {
		return nil, 0, fmt.Errorf("the extension %v is missing", id)
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		for _, f := range s.fields {
			b.AddBytes(f)
		}
		b.AddASN1(cbasn1.Tag(3).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				for i, raw := range s.raw {
					if i != at {
						b.AddBytes(raw)
					}
				}
			})
		})
	})
	tbs, err = b.Bytes()
	return tbs, at, err
}

// correspond checks that a certificate is the one that its precertificate
// announced: the poison in one and the SCT list in the other stand at the same
// place, and apart from them both are the same bytes. An error names the first
// difference.
func correspond(precertTBS, finalTBS []byte) error {
	pre, err := split(precertTBS)
	if err != nil {
		return fmt.Errorf("correspondence: precertificate: %w", err)
	}
	final, err := split(finalTBS)
	if err != nil {
		return fmt.Errorf("correspondence: certificate: %w", err)
	}
	preRest, preAt, err := pre.without(oidPoison())
	if err != nil {
		return fmt.Errorf("correspondence: precertificate: %w", err)
	}
	finalRest, finalAt, err := final.without(oidSCTList())
	if err != nil {
		return fmt.Errorf("correspondence: certificate: %w", err)
	}
	// What was taken out is not compared below, so it is checked here (RFC 6962,
	// sections 3.1 and 3.3).
	if e := pre.extensions[preAt]; !e.Critical || !bytes.Equal(e.Value, []byte{0x05, 0x00}) {
		return errors.New("correspondence: the poison of the precertificate is not critical with an ASN.1 NULL as its value")
	}
	if e := final.extensions[finalAt]; e.Critical {
		return errors.New("correspondence: the SCT list of the certificate is critical")
	} else if scts, err := parseSCTList(e.Value); err != nil || len(scts) == 0 {
		return errors.New("correspondence: the SCT list of the certificate has no SCT or is malformed")
	}
	if bytes.Equal(preRest, finalRest) && preAt == finalAt {
		return nil
	}
	for i, f := range tbsFields {
		if !bytes.Equal(pre.fields[i], final.fields[i]) {
			return fmt.Errorf("correspondence: the %s of precertificate and certificate differ", f.name)
		}
	}
	if preAt != finalAt {
		return fmt.Errorf("correspondence: the poison is extension %d of the precertificate, the SCT list is extension %d of the certificate", preAt, finalAt)
	}
	return errors.New("correspondence: the extensions of precertificate and certificate differ")
}
