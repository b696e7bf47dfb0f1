package ca

import (
	"bytes"
	"crypto/sha1" // #nosec G505 -- a name for a key, RFC 5280, section 4.2.1.2
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/sigstack/sigstack/ca/ext"
)

// A lintRule is one rule about a certificate that is not signed yet.
type lintRule struct {
	name  string
	check func(*linting) error
}

// A linting is one certificate under examination.
type linting struct {
	cert *x509.Certificate // parsed; signed by the stand-in
	want *profile
	sct  []byte // the SCT that has to be in it; nil for a precertificate
}

// lint parses a TBSCertificate, inside a certificate that a throw-away key has
// signed, and holds the result against every rule and against what was asked for.
// It goes through crypto/x509, as verifiers do, and not through the code that
// built it. sct is nil for a precertificate.
func lint(tbs []byte, want *profile, sct []byte) (*lintedTBS, error) {
	digest := want.chain.algorithm.digest(tbs)
	signature, err := want.chain.standIn.signature(digest, want.chain.algorithm.hash)
	if err != nil {
		return nil, fmt.Errorf("lint: the throw-away key: %w", err)
	}
	der, err := assemble(tbs, want.chain.algorithm, signature)
	if err != nil {
		return nil, fmt.Errorf("lint: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("lint: %w", err)
	}
	l := &linting{cert: cert, want: want, sct: sct}
	for _, rule := range lintRules() {
		if err := rule.check(l); err != nil {
			return nil, fmt.Errorf("lint: %s: %w", rule.name, err)
		}
	}
	return &lintedTBS{der: tbs, serial: cert.SerialNumber, digest: digest}, nil
}

// lintRules are all rules. Each has an example in lint_test.go that breaks it.
func lintRules() []lintRule {
	return []lintRule{
		{"version", lintVersion},
		{"serial number", lintSerial},
		{"signature algorithm", lintAlgorithm},
		{"issuer", lintIssuer},
		{"validity", lintValidity},
		{"lifetime", lintLifetime},
		{"time encoding", lintTimes},
		{"subject", lintSubject},
		{"public key", lintPublicKey},
		{"basic constraints", lintBasicConstraints},
		{"key usage", lintKeyUsage},
		{"extended key usage", lintExtKeyUsage},
		{"subject key identifier", lintSubjectKeyID},
		{"authority key identifier", lintAuthorityKeyID},
		{"subject alternative name", lintSAN},
		{"poison and SCT list", lintTransparency},
		{"critical extensions", lintCritical},
		{"identity encoding", lintEncodings},
		{"identity extensions", lintValues},
		{"extension order", lintOrder},
		{"extensions once", lintOnce},
		{"signature", lintSignature},
	}
}

// extension returns the extension with this identifier if it is there once and
// as critical as it has to be.
func (l *linting) extension(id asn1.ObjectIdentifier, critical bool) (pkix.Extension, error) {
	var found []pkix.Extension
	for _, e := range l.cert.Extensions {
		if e.Id.Equal(id) {
			found = append(found, e)
		}
	}
	if len(found) != 1 {
		return pkix.Extension{}, fmt.Errorf("there %d times, must be there once", len(found))
	}
	if found[0].Critical != critical {
		return pkix.Extension{}, fmt.Errorf("critical is %v, must be %v", found[0].Critical, critical)
	}
	return found[0], nil
}

func (l *linting) has(id asn1.ObjectIdentifier) bool {
	return slices.ContainsFunc(l.cert.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(id) })
}

func lintVersion(l *linting) error {
	if l.cert.Version != 3 {
		return fmt.Errorf("%d, must be 3", l.cert.Version)
	}
	return nil
}

// RFC 5280, section 4.1.2.2: positive, at most 20 octets. At least 64 random
// bits, as public authorities have to have.
func lintSerial(l *linting) error {
	n := l.cert.SerialNumber
	if n.Sign() <= 0 || n.BitLen() > 159 || n.BitLen() < 65 {
		return fmt.Errorf("%x: must be positive, of 65 to 159 bits", n)
	}
	if n.Cmp(l.want.serial) != 0 {
		return fmt.Errorf("%x, must be %x", n, l.want.serial)
	}
	return nil
}

func lintAlgorithm(l *linting) error {
	issuer := l.want.chain.certs[0]
	if l.cert.SignatureAlgorithm != l.want.chain.algorithm.name || l.cert.SignatureAlgorithm == x509.UnknownSignatureAlgorithm {
		return fmt.Errorf("%v, must be %v, as the issuer's key signs", l.cert.SignatureAlgorithm, l.want.chain.algorithm.name)
	}
	if fits, err := algorithmOf(issuer.PublicKey); err != nil || fits.name != l.cert.SignatureAlgorithm {
		return fmt.Errorf("%v does not fit the issuer's key", l.cert.SignatureAlgorithm)
	}
	return nil
}

func lintIssuer(l *linting) error {
	if !bytes.Equal(l.cert.RawIssuer, l.want.chain.certs[0].RawSubject) {
		return errors.New("not the bytes of the issuing certificate's subject")
	}
	return nil
}

func lintValidity(l *linting) error {
	issuer := l.want.chain.certs[0]
	switch {
	case !l.cert.NotBefore.Equal(l.want.notBefore):
		return fmt.Errorf("begins at %v, must at %v", l.cert.NotBefore, l.want.notBefore)
	case !l.cert.NotAfter.Equal(l.want.notAfter):
		return fmt.Errorf("ends at %v, must at %v", l.cert.NotAfter, l.want.notAfter)
	case !l.cert.NotAfter.After(l.cert.NotBefore):
		return errors.New("ends before it begins")
	case l.cert.NotBefore.Before(issuer.NotBefore) || l.cert.NotAfter.After(issuer.NotAfter):
		return errors.New("not within the validity of the issuing certificate")
	}
	return nil
}

// Within what is configured, and within what may be configured at all.
func lintLifetime(l *linting) error {
	switch lifetime := l.cert.NotAfter.Sub(l.cert.NotBefore); {
	case lifetime > l.want.atMost:
		return fmt.Errorf("%v, must be at most %v", lifetime, l.want.atMost)
	case lifetime > MaxLifetime+MaxBackdate:
		return fmt.Errorf("%v, must be at most %v and %v before it", lifetime, MaxLifetime, MaxBackdate)
	}
	return nil
}

// RFC 5280, section 4.1.2.5: UTCTime through 2049, GeneralizedTime from 2050, both
// with seconds and in UTC. crypto/x509 takes either for any year.
func lintTimes(l *linting) error {
	parts, err := split(l.cert.RawTBSCertificate)
	if err != nil {
		return err
	}
	var times []asn1.RawValue
	if rest, err := asn1.Unmarshal(parts.fields[4], &times); err != nil || len(rest) != 0 || len(times) != 2 {
		return errors.New("the validity is not a sequence of two times")
	}
	for i, at := range []time.Time{l.cert.NotBefore, l.cert.NotAfter} {
		tag, layout := asn1.TagUTCTime, "060102150405Z"
		if at.Year() >= 2050 {
			tag, layout = asn1.TagGeneralizedTime, "20060102150405Z"
		}
		if times[i].Tag != tag || string(times[i].Bytes) != at.UTC().Format(layout) {
			return fmt.Errorf("time %d has tag %d and text %q, must be %d and %q", i, times[i].Tag, times[i].Bytes, tag, at.UTC().Format(layout))
		}
	}
	return nil
}

func lintSubject(l *linting) error {
	if !bytes.Equal(l.cert.RawSubject, []byte{0x30, 0x00}) {
		return errors.New("must be empty: the name is in the subject alternative name")
	}
	return nil
}

func lintPublicKey(l *linting) error {
	if !bytes.Equal(l.cert.RawSubjectPublicKeyInfo, l.want.key.spki) {
		return errors.New("not the key that was proven")
	}
	return checkKey(l.cert.PublicKey)
}

func lintBasicConstraints(l *linting) error {
	if l.cert.IsCA || l.cert.BasicConstraintsValid || l.has(oidBasicConstraints()) {
		return errors.New("must be absent")
	}
	return nil
}

func lintKeyUsage(l *linting) error {
	if _, err := l.extension(oidKeyUsage(), true); err != nil {
		return err
	}
	if l.cert.KeyUsage != x509.KeyUsageDigitalSignature {
		return fmt.Errorf("bits %b, must be digitalSignature alone", l.cert.KeyUsage)
	}
	return nil
}

func lintExtKeyUsage(l *linting) error {
	if _, err := l.extension(oidExtKeyUsage(), false); err != nil {
		return err
	}
	if !slices.Equal(l.cert.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}) || len(l.cert.UnknownExtKeyUsage) != 0 {
		return errors.New("must be codeSigning alone")
	}
	return nil
}

func lintSubjectKeyID(l *linting) error {
	e, err := l.extension(oidSubjectKeyID(), false)
	if err != nil {
		return err
	}
	var info struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if rest, err := asn1.Unmarshal(l.cert.RawSubjectPublicKeyInfo, &info); err != nil || len(rest) != 0 {
		return errors.New("the public key does not parse")
	}
	sum := sha1.Sum(info.Key.Bytes) // #nosec G401
	if !bytes.Equal(e.Value, append([]byte{0x04, byte(len(sum))}, sum[:]...)) {
		return errors.New("not the SHA-1 of the public key's bits")
	}
	return nil
}

func lintAuthorityKeyID(l *linting) error {
	e, err := l.extension(oidAuthorityKeyID(), false)
	if err != nil {
		return err
	}
	var fields struct {
		ID     []byte        `asn1:"optional,tag:0"`
		Issuer asn1.RawValue `asn1:"optional,tag:1"`
		Serial asn1.RawValue `asn1:"optional,tag:2"`
	}
	if rest, err := asn1.Unmarshal(e.Value, &fields); err != nil || len(rest) != 0 {
		return errors.New("does not parse")
	}
	if len(fields.Issuer.FullBytes) != 0 || len(fields.Serial.FullBytes) != 0 || !bytes.Equal(fields.ID, l.want.chain.certs[0].SubjectKeyId) {
		return errors.New("must be the issuing certificate's subject key identifier alone")
	}
	return nil
}

// RFC 5280, section 4.2.1.6: critical, because the subject is empty.
func lintSAN(l *linting) error {
	e, err := l.extension(oidSAN(), true)
	if err != nil {
		return err
	}
	san, err := ext.ParseSAN(e)
	if err != nil {
		return err
	}
	if san != l.want.san {
		return fmt.Errorf("%s %q, must be %s %q", san.Kind, san.Value, l.want.san.Kind, l.want.san.Value)
	}
	return nil
}

// The extensions below 1.3.6.1.4.1.57264.1, read without package ext, which wrote
// them: .1 to .6 are the bare text, .8 to .24 are a UTF8String, there is no other,
// and the issuer stands in .1 and in .8.
func lintEncodings(l *linting) error {
	texts := map[int]string{}
	for _, e := range l.cert.Extensions {
		if len(e.Id) != 9 || !e.Id[:8].Equal(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1}) {
			continue
		}
		n, text := e.Id[8], e.Value
		switch {
		case n >= 1 && n <= 6:
		case n >= 8 && n <= 24:
			var value asn1.RawValue
			rest, err := asn1.Unmarshal(e.Value, &value)
			if err != nil || len(rest) != 0 || value.Class != asn1.ClassUniversal || value.Tag != asn1.TagUTF8String || value.IsCompound {
				return fmt.Errorf(".%d is not the DER of one UTF8String", n)
			}
			text = value.Bytes
		default:
			return fmt.Errorf(".%d is no extension", n)
		}
		if len(text) == 0 || !utf8.Valid(text) {
			return fmt.Errorf(".%d is empty, or not UTF-8", n)
		}
		texts[n] = string(text)
	}
	if texts[1] == "" || texts[1] != texts[8] {
		return errors.New(".1 and .8 must both be the issuer")
	}
	return nil
}

func lintValues(l *linting) error {
	values, err := ext.Parse(l.cert.Extensions)
	if err != nil {
		return err
	}
	if values != l.want.values {
		return errors.New("not the identity's values")
	}
	return nil
}

// RFC 6962, sections 3.1 and 3.3.
func lintTransparency(l *linting) error {
	if l.sct == nil {
		if l.has(oidSCTList()) {
			return errors.New("a precertificate must not have an SCT list")
		}
		e, err := l.extension(oidPoison(), true)
		if err != nil {
			return fmt.Errorf("poison: %w", err)
		}
		if !bytes.Equal(e.Value, asn1.NullBytes) {
			return errors.New("the poison's value must be NULL")
		}
		return nil
	}
	if l.has(oidPoison()) {
		return errors.New("a certificate must not have a poison")
	}
	e, err := l.extension(oidSCTList(), false)
	if err != nil {
		return fmt.Errorf("SCT list: %w", err)
	}
	scts, err := parseSCTList(e.Value)
	if err != nil {
		return fmt.Errorf("SCT list: %w", err)
	}
	if len(scts) != 1 || !bytes.Equal(scts[0], l.sct) {
		return errors.New("the SCT list must hold the log's SCT alone")
	}
	return nil
}

// Nothing else, nothing twice, and the order that clients have always seen.
func lintOrder(l *linting) error {
	values, err := l.want.values.Extensions()
	if err != nil {
		return err
	}
	want := []asn1.ObjectIdentifier{oidKeyUsage(), oidExtKeyUsage(), oidSubjectKeyID(), oidAuthorityKeyID(), oidSAN()}
	for _, e := range values {
		want = append(want, e.Id)
	}
	if l.sct == nil {
		want = append(want, oidPoison())
	} else {
		want = append(want, oidSCTList())
	}
	var have []asn1.ObjectIdentifier
	for _, e := range l.cert.Extensions {
		have = append(have, e.Id)
	}
	if !slices.EqualFunc(have, want, asn1.ObjectIdentifier.Equal) {
		return fmt.Errorf("%v, must be %v", have, want)
	}
	return nil
}

// RFC 5280, section 4.2: not more than one instance of an extension.
func lintOnce(l *linting) error {
	for i, e := range l.cert.Extensions {
		for _, other := range l.cert.Extensions[:i] {
			if e.Id.Equal(other.Id) {
				return fmt.Errorf("%v is there twice", e.Id)
			}
		}
	}
	return nil
}

// A verifier refuses a certificate with a critical extension that it does not know,
// so what is critical is fixed: key usage, name, and the poison, which is to be
// refused.
func lintCritical(l *linting) error {
	known := []asn1.ObjectIdentifier{oidKeyUsage(), oidSAN()}
	if l.sct == nil {
		known = append(known, oidPoison())
	}
	for _, e := range l.cert.Extensions {
		if want := slices.ContainsFunc(known, e.Id.Equal); e.Critical != want {
			return fmt.Errorf("%v: critical is %v, must be %v", e.Id, e.Critical, want)
		}
	}
	return nil
}

// The throw-away key's signature verifies, by the issuing certificate with that key
// in it: with the real key it will, too. Nobody verifies that of a precertificate
// but the log, which takes none without, so that the cost of it is spared.
func lintSignature(l *linting) error {
	if l.sct == nil {
		return nil
	}
	return l.cert.CheckSignatureFrom(l.want.chain.standIn.cert)
}
