package ext

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"unicode"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// A SANKind is the form of the name in a subject alternative name.
type SANKind int

// The kinds of names. The zero SANKind is none of them, so that a zero SAN cannot be encoded.
const (
	Email    SANKind = iota + 1 // rfc822Name
	URI                         // uniformResourceIdentifier
	Username                    // otherName 1.3.6.1.4.1.57264.1.7
)

// String returns the name of the kind for messages.
func (k SANKind) String() string {
	switch k {
	case Email:
		return "email"
	case URI:
		return "uri"
	case Username:
		return "username"
	}
	return fmt.Sprintf("SANKind(%d)", int(k))
}

// maxEmail is the largest length of a mail address in bytes (RFC 5321, section 4.5.3.1.3: a path
// has at most 256 octets, two of them are the angle brackets).
const maxEmail = 254

// A SAN is the one name in the subject alternative name of a certificate.
//
//	Email     dev@example.com                       printable ASCII, at most 254 bytes
//	URI       https://github.com/acme/widget/...    ASCII, absolute
//	Username  dev!example.com                       UTF-8 without control characters
type SAN struct {
	Kind  SANKind
	Value string
}

// Tags of GeneralName (RFC 5280, section 4.2.1.6). The module has IMPLICIT tags, so that
// otherName replaces the tag of its SEQUENCE; the [0] around its value is explicit.
var (
	tagOtherName  = cbasn1.Tag(0).ContextSpecific().Constructed()
	tagOtherValue = cbasn1.Tag(0).ContextSpecific().Constructed()
	tagRFC822Name = cbasn1.Tag(1).ContextSpecific()
	tagURI        = cbasn1.Tag(6).ContextSpecific()
)

// oidSAN is the subject alternative name (RFC 5280, section 4.2.1.6).
func oidSAN() asn1.ObjectIdentifier { return asn1.ObjectIdentifier{2, 5, 29, 17} }

// oidUsername is the type-id of the otherName that carries a user name.
func oidUsername() asn1.ObjectIdentifier { return arc(7) }

// Extension encodes s as a critical subject alternative name with exactly one GeneralName. It is
// an error if the value does not fit its kind.
func (s SAN) Extension() (pkix.Extension, error) {
	if err := s.check(); err != nil {
		return pkix.Extension{}, fmt.Errorf("subject alternative name (%v): %w", s.Kind, err)
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		value := func(b *cryptobyte.Builder) { b.AddBytes([]byte(s.Value)) }
		switch s.Kind {
		case Email:
			b.AddASN1(tagRFC822Name, value)
		case URI:
			b.AddASN1(tagURI, value)
		case Username:
			b.AddASN1(tagOtherName, func(b *cryptobyte.Builder) {
				b.AddASN1ObjectIdentifier(oidUsername())
				b.AddASN1(tagOtherValue, func(b *cryptobyte.Builder) {
					b.AddASN1(cbasn1.UTF8String, value)
				})
			})
		}
	})
	der, err := b.Bytes()
	if err != nil {
		return pkix.Extension{}, fmt.Errorf("subject alternative name (%v): %w", s.Kind, err)
	}
	return pkix.Extension{Id: oidSAN(), Critical: true, Value: der}, nil
}

// ParseSAN reads what Extension writes. It refuses another object identifier, a non-critical
// extension, no or more than one name, a name of another form, and a value that does not fit
// its kind.
func ParseSAN(e pkix.Extension) (SAN, error) {
	switch {
	case !e.Id.Equal(oidSAN()):
		return SAN{}, fmt.Errorf("extension %s is not a subject alternative name (2.5.29.17)", oidString(e.Id))
	case !e.Critical:
		return SAN{}, errors.New("subject alternative name: not critical, it must be because the subject is empty")
	}
	der, names, name := cryptobyte.String(e.Value), cryptobyte.String(nil), cryptobyte.String(nil)
	var tag cbasn1.Tag
	if !der.ReadASN1(&names, cbasn1.SEQUENCE) || !der.Empty() || !names.ReadAnyASN1(&name, &tag) || !names.Empty() {
		return SAN{}, errors.New("subject alternative name: not the DER of a sequence with exactly one name")
	}
	var s SAN
	switch tag {
	case tagRFC822Name:
		s.Kind = Email
	case tagURI:
		s.Kind = URI
	case tagOtherName:
		s.Kind = Username
		var id asn1.ObjectIdentifier
		var explicit, inner cryptobyte.String
		if !name.ReadASN1ObjectIdentifier(&id) || !id.Equal(oidUsername()) ||
			!name.ReadASN1(&explicit, tagOtherValue) || !name.Empty() ||
			!explicit.ReadASN1(&inner, cbasn1.UTF8String) || !explicit.Empty() {
			return SAN{}, fmt.Errorf("subject alternative name: the otherName is not a UTF8String of type %v", oidUsername())
		}
		name = inner
	default:
		return SAN{}, fmt.Errorf("subject alternative name: form of name %#x, one of rfc822Name, uniformResourceIdentifier and otherName is required", uint8(tag))
	}
	if len(name) > MaxValue { // before the copy
		return SAN{}, fmt.Errorf("subject alternative name (%v): %w", s.Kind, errTooLong)
	}
	s.Value = string(name)
	if err := s.check(); err != nil {
		return SAN{}, fmt.Errorf("subject alternative name (%v): %w", s.Kind, err)
	}
	return s, nil
}

// check holds the rules of each kind.
func (s SAN) check() error {
	if err := check(s.Value); err != nil {
		return err
	}
	switch s.Kind {
	case Email:
		return checkEmail(s.Value)
	case URI:
		return checkURI(s.Value)
	case Username:
		return checkUsername(s.Value)
	}
	return errors.New("the kind is unknown, one of email, uri and username is required")
}

// checkEmail accepts local@domain of printable ASCII. An rfc822Name is an IA5String (RFC 5280,
// section 4.2.1.6); the finer syntax of an address is checked where a token is accepted.
func checkEmail(s string) error {
	if len(s) > maxEmail {
		return fmt.Errorf("the address has %d bytes, at most %d are allowed", len(s), maxEmail)
	}
	if !printable(s) {
		return errors.New("the address has a character that is not printable ASCII")
	}
	at := strings.LastIndexByte(s, '@')
	if at <= 0 || at == len(s)-1 {
		return errors.New("the address is not of the form local@domain")
	}
	return nil
}

// checkURI accepts an absolute URI of printable ASCII (RFC 5280, section 4.2.1.6: an IA5String
// with a scheme). A host without an empty label is what Go's crypto/x509 asks for; without this
// check the certificate could not be parsed later.
func checkURI(s string) error {
	if !printable(s) {
		return errors.New("the URI has a character that is not printable ASCII")
	}
	u, err := url.Parse(s)
	if err != nil {
		// The error of url.Parse repeats the whole URI; the reason is enough.
		var reason *url.Error
		if errors.As(err, &reason) {
			err = reason.Err
		}
		return fmt.Errorf("the URI does not parse: %w", err)
	}
	if !u.IsAbs() {
		return errors.New("the URI has no scheme, an absolute one is required")
	}
	if u.Host == "" && u.Opaque == "" && u.Path == "" {
		return errors.New("the URI has nothing behind its scheme")
	}
	if u.Host != "" {
		for label := range strings.SplitSeq(u.Host, ".") {
			if label == "" {
				return errors.New("the host of the URI has an empty label")
			}
		}
	}
	return nil
}

// checkUsername accepts user!domain with both parts present.
func checkUsername(s string) error {
	user, domain, found := strings.Cut(s, "!")
	switch {
	case !found || user == "" || domain == "" || strings.Contains(domain, "!"):
		return errors.New("the name is not of the form user!domain")
	case strings.ContainsFunc(s, unicode.IsControl):
		return errors.New("the name has a control character")
	}
	return nil
}

// printable reports whether s has only ASCII characters from '!' to '~'.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] < '!' || s[i] > '~' {
			return false
		}
	}
	return true
}
