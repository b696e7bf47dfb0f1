package ct

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/crypto/cryptobyte"
	cryptobyteasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Bounds of a submission.
const (
	MaxChain       = 10       // certificates on the path, with the first and the root
	MaxCertificate = 64 << 10 // bytes of DER each
)

// checkChain parses a submission and returns its path: cert, the chain as it
// was submitted, and the root, whether or not it was submitted.
//
// Only names, CA flags and signatures count (RFC 6962, section 3.1): a log
// takes what has expired and what nobody should have issued, because these are
// what it is for. Signatures are verified from the root down, so that each is
// checked with a key that is certified already.
func (l *Log) checkChain(cert []byte, chain [][]byte) ([]*x509.Certificate, error) {
	if len(chain) >= MaxChain {
		return nil, fmt.Errorf("%w: it has %d certificates, want at most %d", ErrChain, 1+len(chain), MaxChain)
	}
	path := make([]*x509.Certificate, 0, 2+len(chain))
	for i, der := range append([][]byte{cert}, chain...) {
		if i > 0 {
			if known := l.links.issuer(der); known != nil {
				path = append(path, known)
				continue
			}
		}
		if len(der) > MaxCertificate {
			return nil, fmt.Errorf("%w: certificate %d has %d bytes, want at most %d", ErrChain, i, len(der), MaxCertificate)
		}
		if n, most := countElements(der), maxElements(der); n > most {
			return nil, fmt.Errorf("%w: certificate %d has %d DER elements in %d bytes, want at most %d", ErrChain, i, n, len(der), most)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("%w: certificate %d does not parse as DER: %w", ErrChain, i, err)
		}
		path = append(path, c)
	}
	for i, c := range path[1:] {
		if !bytes.Equal(c.RawSubject, path[i].RawIssuer) {
			return nil, fmt.Errorf("%w: certificate %d was issued by %.200q, but certificate %d is %.200q; want each signed by the next", ErrChain, i, shown(path[i].RawIssuer, path[i].Issuer), i+1, shown(c.RawSubject, c.Subject))
		}
	}
	if slices.ContainsFunc(path[1:], isPrecertSigner) {
		return nil, fmt.Errorf("%w: Precertificate Signing Certificates are not taken; want the precertificate signed by the CA itself", ErrChain)
	}

	last := path[len(path)-1]
	var err error
	anchored := false
	for _, root := range l.roots() {
		if root.Equal(last) {
			anchored = true
			break
		}
		if bytes.Equal(root.RawSubject, last.RawIssuer) {
			if err = l.checkLink(last, root, len(path) > 1); err == nil {
				path, anchored = append(path, root), true
				break
			}
		}
	}
	switch {
	case !anchored && err != nil:
		return nil, fmt.Errorf("%w: certificate %d names a root of this log as its issuer, but was not signed by it: %w", ErrChain, len(path)-1, err)
	case !anchored:
		return nil, fmt.Errorf("%w: certificate %d is neither a root of this log nor issued by one (its issuer is %.200q); get-roots lists the roots", ErrChain, len(path)-1, shown(last.RawIssuer, last.Issuer))
	case len(path) > MaxChain:
		return nil, fmt.Errorf("%w: with its root it has %d certificates, want at most %d", ErrChain, len(path), MaxChain)
	}
	for i := len(chain); i > 0; i-- {
		if err := l.checkLink(path[i-1], path[i], i > 1); err != nil {
			return nil, fmt.Errorf("%w: certificate %d was not signed by certificate %d: %w", ErrChain, i-1, i, err)
		}
	}
	l.links.remember(path[1 : 1+len(chain)])
	return path, nil
}

// shown is a name for a message. crypto/x509 writes one in time and memory that
// grow with the square of its attributes, so one that is long in DER is not
// written.
func shown(der []byte, name pkix.Name) string {
	if len(der) > 1024 {
		return fmt.Sprintf("a name of %d bytes", len(der))
	}
	return name.String()
}

// maxElements bounds the DER elements of a certificate. crypto/x509 makes 150
// bytes out of one: a name of many short attributes would take 35 times its
// length. Honest certificates have an element in about 10 bytes while they are
// short, and longer strings, not more elements, when they are long.
func maxElements(der []byte) int { return 300 + len(der)/16 }

// countElements counts DER elements, those inside of others as well, up to the
// first that is malformed. What is in an OCTET STRING or BIT STRING is not
// looked at, and crypto/x509 does not make more of it than it is long.
func countElements(der []byte) int {
	n := 0
	for s := cryptobyte.String(der); !s.Empty(); n++ {
		rest := s
		var element, content cryptobyte.String
		var tag cryptobyteasn1.Tag
		if !rest.ReadAnyASN1Element(&element, &tag) {
			break
		}
		s = rest
		if tag&0x20 != 0 { // constructed: its elements come next
			element.ReadAnyASN1(&content, &tag)
			s = der[len(der)-len(rest)-len(content):]
		}
	}
	return n
}

// checkLink verifies that parent signed child, and may sign certificates.
// issuer says that child is the certificate of an issuer.
func (l *Log) checkLink(child, parent *x509.Certificate, issuer bool) error {
	if !issuer {
		return child.CheckSignatureFrom(parent)
	}
	return l.links.check(child, parent)
}

// links remembers which issuer certificates were verified, and those that were
// last part of a path, so that they are not parsed again: there are few, and
// the same ones come with every submission. A signature once found good is
// good for ever, so nothing is ever forgotten for being old.
type links struct {
	mu      sync.Mutex
	known   map[[sha256.Size]byte]struct{}
	issuers map[[sha256.Size]byte]*x509.Certificate // by the SHA-256 of its DER
}

// Bounds of the memory of links. A link has 32 bytes. An issuer may have up to a
// megabyte, but is one only if a root of the log, or an issuer below it, has
// signed it as one.
const (
	maxLinks   = 1024
	maxIssuers = 64
)

// issuer returns the certificate with this DER if it was part of a path.
func (k *links) issuer(der []byte) *x509.Certificate {
	id := sha256.Sum256(der)
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.issuers[id]
}

// remember keeps the issuers of a path that was verified.
func (k *links) remember(path []*x509.Certificate) {
	for _, c := range path {
		id := sha256.Sum256(c.Raw)
		k.mu.Lock()
		if k.issuers[id] == nil {
			if k.issuers == nil || len(k.issuers) >= maxIssuers {
				k.issuers = make(map[[sha256.Size]byte]*x509.Certificate)
			}
			k.issuers[id] = c
		}
		k.mu.Unlock()
	}
}

func (k *links) check(child, parent *x509.Certificate) error {
	// DER tells its own length: two certificates in a row have one reading.
	id := sha256.Sum256(slices.Concat(child.Raw, parent.Raw))
	k.mu.Lock()
	_, ok := k.known[id]
	k.mu.Unlock()
	if ok {
		return nil
	}
	if err := child.CheckSignatureFrom(parent); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.known == nil || len(k.known) >= maxLinks {
		k.known = make(map[[sha256.Size]byte]struct{})
	}
	k.known[id] = struct{}{}
	return nil
}

// isPrecertSigner says whether a certificate has the extended key usage of a
// Precertificate Signing Certificate (RFC 6962, section 3.1).
func isPrecertSigner(c *x509.Certificate) bool {
	return slices.ContainsFunc(c.UnknownExtKeyUsage, func(oid asn1.ObjectIdentifier) bool {
		return oid.Equal(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 4})
	})
}

// poisonOID returns the OID of the poison extension (RFC 6962, section 3.1).
func poisonOID() asn1.ObjectIdentifier {
	return asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 3}
}

func hasPoison(c *x509.Certificate) bool {
	oid := poisonOID()
	for _, ext := range c.Extensions {
		if ext.Id.Equal(oid) {
			return true
		}
	}
	return false
}

// removePoison returns a DER TBSCertificate (RFC 5280, section 4.1) without its
// poison extension, which must be there once, be critical, and hold an ASN.1
// NULL (RFC 6962, section 3.1). Everything else is copied byte for byte; an
// extension list that becomes empty goes away with its tag, as its definition
// demands.
func removePoison(tbs []byte) ([]byte, error) {
	malformed := errors.New("the TBSCertificate is not well-formed DER with its extensions last")
	extensionsTag := cryptobyteasn1.Tag(3).ContextSpecific().Constructed()
	outer := cryptobyte.String(tbs)
	var fields cryptobyte.String
	if !outer.ReadASN1(&fields, cryptobyteasn1.SEQUENCE) || !outer.Empty() {
		return nil, malformed
	}
	var before, kept []byte
	poisons := 0
	for !fields.Empty() {
		var field cryptobyte.String
		var tag cryptobyteasn1.Tag
		if !fields.ReadAnyASN1Element(&field, &tag) {
			return nil, malformed
		}
		if tag != extensionsTag {
			before = append(before, field...)
			continue
		}
		var list, extensions cryptobyte.String
		if !field.ReadASN1(&list, extensionsTag) || !list.ReadASN1(&extensions, cryptobyteasn1.SEQUENCE) || !list.Empty() || !fields.Empty() {
			return nil, malformed
		}
		for !extensions.Empty() {
			var ext cryptobyte.String
			if !extensions.ReadASN1Element(&ext, cryptobyteasn1.SEQUENCE) {
				return nil, malformed
			}
			is, err := isPoison(ext)
			if err != nil {
				return nil, err
			}
			if is {
				poisons++
				continue
			}
			kept = append(kept, ext...)
		}
	}
	if poisons != 1 {
		return nil, fmt.Errorf("it has %d poison extensions, want one", poisons)
	}
	b := cryptobyte.NewBuilder(make([]byte, 0, len(tbs)))
	b.AddASN1(cryptobyteasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(before)
		if len(kept) > 0 {
			b.AddASN1(extensionsTag, func(b *cryptobyte.Builder) {
				b.AddASN1(cryptobyteasn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddBytes(kept) })
			})
		}
	})
	return b.Bytes()
}

// isPoison says whether an Extension is the poison, and that it is well-formed if so.
func isPoison(ext cryptobyte.String) (bool, error) {
	var fields cryptobyte.String
	var oid asn1.ObjectIdentifier
	if !ext.ReadASN1(&fields, cryptobyteasn1.SEQUENCE) || !fields.ReadASN1ObjectIdentifier(&oid) {
		return false, errors.New("an extension is not well-formed DER")
	}
	if !oid.Equal(poisonOID()) {
		return false, nil
	}
	if want := []byte{0x01, 0x01, 0xff, 0x04, 0x02, 0x05, 0x00}; !bytes.Equal(fields, want) {
		return false, errors.New("the poison extension is not critical with an ASN.1 NULL (05 00) as its value")
	}
	return true, nil
}
