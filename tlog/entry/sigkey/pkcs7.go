package sigkey

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	_ "crypto/sha1"
	_ "crypto/sha256"
	_ "crypto/sha512"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

const (
	pemPKCS7 = "PKCS7"

	// maxPKCS7Certificates bounds the certificates among which the signer's is
	// looked for.
	maxPKCS7Certificates = 32

	// maxPKCS7Certificate bounds one that is parsed, in bytes: crypto/x509 takes some
	// 35 times the bytes of a name that has thousands of parts.
	maxPKCS7Certificate = 16 << 10
)

var (
	oidData          = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidSignedData    = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}
	oidTSTInfo       = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 1, 4}
	oidContentType   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 3}
	oidMessageDigest = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 4}
	oidCounterSign   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 6}
	oidTimestamp     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 14}
	oidMSTimestamp   = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 3, 3, 1}
	oidRSA           = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
	oidPSS           = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 10}
	oidMGF1          = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 8}
	oidECDSA         = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}
)

// pkcs7Hashes are the hash functions of a signer. MD5 is not among them. SHA-1
// is, because archives and timestamps of its time are still logged.
var pkcs7Hashes = []struct {
	hash       crypto.Hash
	id         asn1.ObjectIdentifier
	rsa, ecdsa asn1.ObjectIdentifier // signature algorithms that name this hash
}{
	{crypto.SHA1, asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}, asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 5}, asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 1}},
	{crypto.SHA224, asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 4}, asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 14}, asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 1}},
	{crypto.SHA256, asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}, asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}, asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}},
	{crypto.SHA384, asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}, asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 12}, asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 3}},
	{crypto.SHA512, asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 3}, asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 13}, asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 4}},
}

// PKCS7 is a signature of the format PKCS #7: SignedData of CMS (RFC 5652,
// section 5) in DER, with one signer that is named by issuer and serial
// number. It carries the certificates, and its content or not.
//
// Nothing says whether the certificates are to be trusted, or when.
type PKCS7 struct {
	contentType asn1.ObjectIdentifier
	content     []byte   // nil if the signature is detached
	certs       [][]byte // DER, in the order of the signature
	signer      signerInfo
	canonical   []byte
}

// A signerInfo is a SignerInfo (RFC 5652, section 5.3).
type signerInfo struct {
	issuer     []byte // DER of the name
	serial     []byte // DER of the number
	hash       crypto.Hash
	attributes cryptobyte.String // the signed ones, with tag and length; empty if there are none
	algorithm  asn1.ObjectIdentifier
	parameters cryptobyte.String // of the algorithm
	signature  []byte
	unsigned   cryptobyte.String // the unsigned attributes
}

var errPKCS7 = errors.New("PKCS7: not SignedData in DER (RFC 5652, section 5.1)")

// ParsePKCS7 reads DER and keeps parts of it. What is beside the content may
// have [MaxSignatureSize] bytes; callers bound the content.
func ParsePKCS7(der []byte) (*PKCS7, error) {
	in := cryptobyte.String(der)
	var info, body, signed cryptobyte.String
	var id asn1.ObjectIdentifier
	// Some tools pad with zeros.
	if !in.ReadASN1(&info, cbasn1.SEQUENCE) || len(bytes.Trim(in, "\x00")) > 0 || !info.ReadASN1ObjectIdentifier(&id) {
		return nil, errPKCS7
	}
	if !id.Equal(oidSignedData) {
		return nil, fmt.Errorf("PKCS7: content type %.100s, want SignedData (%s)", id, oidSignedData)
	}
	if !info.ReadASN1(&body, cbasn1.Tag(0).ContextSpecific().Constructed()) || !info.Empty() ||
		!body.ReadASN1(&signed, cbasn1.SEQUENCE) || !body.Empty() {
		return nil, errPKCS7
	}
	return parseSignedData(signed)
}

// parseSignedData reads what is inside of SignedData:
//
//	version INTEGER, digestAlgorithms SET, encapContentInfo SEQUENCE,
//	certificates [0] OPTIONAL, crls [1] OPTIONAL, signerInfos SET
func parseSignedData(in cryptobyte.String) (*PKCS7, error) {
	p := &PKCS7{}
	size := len(in)
	var version, algorithms, content, certs, crls, signers cryptobyte.String
	if !in.ReadASN1Element(&version, cbasn1.INTEGER) || !in.ReadASN1Element(&algorithms, cbasn1.SET) || !in.ReadASN1(&content, cbasn1.SEQUENCE) ||
		!readOptional(&in, &certs, cbasn1.Tag(0).ContextSpecific().Constructed()) || !readOptional(&in, &crls, cbasn1.Tag(1).ContextSpecific().Constructed()) ||
		!in.ReadASN1Element(&signers, cbasn1.SET) || !in.Empty() {
		return nil, errPKCS7
	}
	if !content.ReadASN1ObjectIdentifier(&p.contentType) {
		return nil, errPKCS7
	}
	if !content.Empty() {
		var explicit, octets cryptobyte.String
		if !content.ReadASN1(&explicit, cbasn1.Tag(0).ContextSpecific().Constructed()) || !content.Empty() ||
			!explicit.ReadASN1(&octets, cbasn1.OCTET_STRING) || !explicit.Empty() {
			return nil, errPKCS7
		}
		p.content = octets
	}
	if beside := size - len(p.content); beside > MaxSignatureSize {
		return nil, fmt.Errorf("PKCS7: %d bytes beside the content, at most %d are accepted", beside, MaxSignatureSize)
	}
	if err := p.readCertificates(certs); err != nil {
		return nil, err
	}
	var list, signer cryptobyte.String
	s := signers
	if !s.ReadASN1(&list, cbasn1.SET) {
		return nil, errPKCS7
	}
	if list.Empty() {
		return nil, errors.New("PKCS7: it is not signed")
	}
	if !list.ReadASN1(&signer, cbasn1.SEQUENCE) {
		return nil, errPKCS7
	}
	if !list.Empty() {
		return nil, errors.New("PKCS7: more than one signer, exactly one is accepted")
	}
	var err error
	if p.signer, err = parseSignerInfo(signer); err != nil {
		return nil, err
	}
	// The canonical text has no content.
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oidSignedData)
		b.AddASN1(cbasn1.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddBytes(version)
				b.AddBytes(algorithms)
				b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(p.contentType) })
				b.AddBytes(certs)
				b.AddBytes(crls)
				b.AddBytes(signers)
			})
		})
	})
	detached, err := b.Bytes()
	if err != nil {
		return nil, errPKCS7
	}
	p.canonical = pem.EncodeToMemory(&pem.Block{Type: pemPKCS7, Bytes: detached})
	return p, nil
}

// readOptional reads an element with a tag, if it is the next one.
func readOptional(in, out *cryptobyte.String, tag cbasn1.Tag) bool {
	return !in.PeekASN1Tag(tag) || in.ReadASN1Element(out, tag)
}

func (p *PKCS7) readCertificates(certs cryptobyte.String) error {
	if certs.Empty() {
		return nil
	}
	var list cryptobyte.String
	if !certs.ReadASN1(&list, cbasn1.Tag(0).ContextSpecific().Constructed()) {
		return errPKCS7
	}
	for !list.Empty() {
		var cert cryptobyte.String
		var tag cbasn1.Tag
		if !list.ReadAnyASN1Element(&cert, &tag) {
			return errPKCS7
		}
		if len(p.certs) == maxPKCS7Certificates {
			return fmt.Errorf("PKCS7: more than %d certificates", maxPKCS7Certificates)
		}
		p.certs = append(p.certs, cert)
	}
	return nil
}

var errSignerInfo = errors.New("PKCS7: not a SignerInfo with issuer and serial number in DER (RFC 5652, section 5.3)")

func parseSignerInfo(in cryptobyte.String) (signerInfo, error) {
	var s signerInfo
	var name, digest, signature, encrypted cryptobyte.String
	var version int64
	var id asn1.ObjectIdentifier
	if !in.ReadASN1Integer(&version) || !in.ReadASN1(&name, cbasn1.SEQUENCE) {
		return s, errSignerInfo
	}
	var issuer, serial cryptobyte.String
	if !name.ReadASN1Element(&issuer, cbasn1.SEQUENCE) || !name.ReadASN1Element(&serial, cbasn1.INTEGER) || !name.Empty() ||
		!in.ReadASN1(&digest, cbasn1.SEQUENCE) || !digest.ReadASN1ObjectIdentifier(&id) {
		return s, errSignerInfo
	}
	if s.hash = pkcs7Hash(id); s.hash == 0 {
		return s, fmt.Errorf("PKCS7: unsupported hash algorithm %.100s, want SHA-1 or SHA-2", id)
	}
	var attributes, more cryptobyte.String
	if !readOptional(&in, &attributes, cbasn1.Tag(0).ContextSpecific().Constructed()) || !in.ReadASN1(&signature, cbasn1.SEQUENCE) ||
		!signature.ReadASN1ObjectIdentifier(&s.algorithm) || !in.ReadASN1(&encrypted, cbasn1.OCTET_STRING) {
		return s, errSignerInfo
	}
	if !in.Empty() && (!in.ReadASN1(&more, cbasn1.Tag(1).ContextSpecific().Constructed()) || !in.Empty()) {
		return s, errSignerInfo
	}
	s.issuer, s.serial, s.attributes, s.parameters, s.signature, s.unsigned = issuer, serial, attributes, signature, encrypted, more
	return s, nil
}

func pkcs7Hash(id asn1.ObjectIdentifier) crypto.Hash {
	for _, h := range pkcs7Hashes {
		if id.Equal(h.id) {
			return h.hash
		}
	}
	return 0
}

// Canonical implements [Signature]: PEM of the type PKCS7, without the content
// and otherwise as it was sent.
func (p *PKCS7) Canonical() []byte { return p.canonical }

// Content returns the content, or nil if the signature is detached.
func (p *PKCS7) Content() []byte { return p.content }

// IsTimestamp reports whether the content is a TSTInfo (RFC 3161, section 2.4.2).
func (p *PKCS7) IsTimestamp() bool { return p.contentType.Equal(oidTSTInfo) }

// First returns the first certificate. It need not be the signer's.
func (p *PKCS7) First() (*X509, error) {
	if len(p.certs) == 0 {
		return nil, errors.New("PKCS7: there is no certificate")
	}
	return certificateKey(p.certs[0])
}

// Signer returns the certificate that the signer is named by.
func (p *PKCS7) Signer() (*X509, error) { return p.signer.certificate(p.certs) }

func certificateKey(der []byte) (*X509, error) {
	if len(der) > maxPKCS7Certificate {
		return nil, fmt.Errorf("PKCS7: the signer's certificate has %d bytes, at most %d are accepted", len(der), maxPKCS7Certificate)
	}
	return ParseX509(pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: der}))
}

// certificate looks for the certificate of the signer. The others are not
// parsed: only their issuer and number are read.
func (s *signerInfo) certificate(certs [][]byte) (*X509, error) {
	for _, der := range certs {
		var cert, tbs, version, serial, algorithm, issuer cryptobyte.String
		in := cryptobyte.String(der)
		if in.ReadASN1(&cert, cbasn1.SEQUENCE) && cert.ReadASN1(&tbs, cbasn1.SEQUENCE) &&
			readOptional(&tbs, &version, cbasn1.Tag(0).ContextSpecific().Constructed()) && tbs.ReadASN1Element(&serial, cbasn1.INTEGER) &&
			tbs.ReadASN1(&algorithm, cbasn1.SEQUENCE) && tbs.ReadASN1Element(&issuer, cbasn1.SEQUENCE) &&
			bytes.Equal(serial, s.serial) && bytes.Equal(issuer, s.issuer) {
			return certificateKey(der)
		}
	}
	return nil, errors.New("PKCS7: the certificate of the signer is not there")
}

// Verify verifies the signature with the certificate of its signer. Content
// is nil, or what a detached signature is over; if the signature carries its
// content, the two must be the same. A timestamp of the signature among the
// unsigned attributes must verify, too (RFC 3161, appendix A).
func (p *PKCS7) Verify(content []byte) error {
	switch {
	case content == nil && p.content == nil:
		return errors.New("PKCS7: there is no content")
	case content != nil && p.content != nil && !bytes.Equal(content, p.content):
		return errors.New("PKCS7: it is over another content")
	case content == nil:
		content = p.content
	}
	if err := p.signer.verify(content, p.contentType, p.certs); err != nil {
		return err
	}
	rest := p.signer.unsigned
	seen := false
	for !rest.Empty() {
		id, value, ok := readAttribute(&rest)
		switch {
		case !ok:
			return errSignerInfo
		case id.Equal(oidCounterSign):
			return errors.New("PKCS7: counter signatures (PKCS #9) are not accepted")
		case id.Equal(oidTimestamp), id.Equal(oidMSTimestamp):
			if seen {
				return errors.New("PKCS7: more than one timestamp, at most one is accepted")
			}
			seen = true
			if err := p.verifyTimestamp(value); err != nil {
				return fmt.Errorf("timestamp of the signature: %w", err)
			}
		}
	}
	return nil
}

// verifyTimestamp verifies a token over the signature of p.
func (p *PKCS7) verifyTimestamp(token []byte) error {
	t, err := ParsePKCS7(token)
	if err != nil {
		return err
	}
	if !t.IsTimestamp() || t.content == nil {
		return errors.New("PKCS7: there is no TSTInfo in it")
	}
	// TSTInfo (RFC 3161, section 2.4.2) begins with version, policy and the
	// imprint {hashAlgorithm, hashedMessage}.
	in := cryptobyte.String(t.content)
	var info, imprint, algorithm, hashed cryptobyte.String
	var version int64
	var policy, id asn1.ObjectIdentifier
	if !in.ReadASN1(&info, cbasn1.SEQUENCE) || !info.ReadASN1Integer(&version) || !info.ReadASN1ObjectIdentifier(&policy) ||
		!info.ReadASN1(&imprint, cbasn1.SEQUENCE) || !imprint.ReadASN1(&algorithm, cbasn1.SEQUENCE) ||
		!algorithm.ReadASN1ObjectIdentifier(&id) || !imprint.ReadASN1(&hashed, cbasn1.OCTET_STRING) {
		return errors.New("PKCS7: there is no TSTInfo in it")
	}
	hash := pkcs7Hash(id)
	if hash == 0 {
		return fmt.Errorf("PKCS7: unsupported hash algorithm %.100s, want SHA-1 or SHA-2", id)
	}
	if !bytes.Equal(hashed, sumOf(hash, p.signer.signature)) {
		return errors.New("PKCS7: it is for another signature")
	}
	return t.signer.verify(t.content, t.contentType, append(t.certs[:len(t.certs):len(t.certs)], p.certs...))
}

func sumOf(hash crypto.Hash, data []byte) []byte {
	h := hash.New()
	h.Write(data)
	return h.Sum(nil)
}

// readAttribute reads one attribute, SEQUENCE { OBJECT IDENTIFIER, SET }, and
// returns its first value.
func readAttribute(in *cryptobyte.String) (id asn1.ObjectIdentifier, value []byte, ok bool) {
	var attribute, values, first cryptobyte.String
	var tag cbasn1.Tag
	if !in.ReadASN1(&attribute, cbasn1.SEQUENCE) || !attribute.ReadASN1ObjectIdentifier(&id) ||
		!attribute.ReadASN1(&values, cbasn1.SET) || !attribute.Empty() || !values.ReadAnyASN1Element(&first, &tag) {
		return nil, nil, false
	}
	// What has more than one value is an attribute that we do not read.
	if !values.Empty() && (id.Equal(oidContentType) || id.Equal(oidMessageDigest) || id.Equal(oidTimestamp) || id.Equal(oidMSTimestamp)) {
		return nil, nil, false
	}
	return id, first, true
}

// verify verifies one signer over content (RFC 5652, section 5.4 and 5.6).
func (s *signerInfo) verify(content []byte, contentType asn1.ObjectIdentifier, certs [][]byte) error {
	digest := sumOf(s.hash, content)
	if !s.attributes.Empty() {
		if err := s.checkAttributes(digest, contentType); err != nil {
			return err
		}
		// What is signed is the DER of a SET, not of the [0] that stands there.
		set := bytes.Clone(s.attributes)
		set[0] = byte(cbasn1.SET)
		digest = sumOf(s.hash, set)
	} else if !contentType.Equal(oidData) {
		// Without this, signed attributes could be passed off as a content.
		return errors.New("PKCS7: a content that is not data needs signed attributes")
	}
	cert, err := s.certificate(certs)
	if err != nil {
		return err
	}
	// The algorithm may name a hash, which must be the signer's.
	isRSA, isECDSA := s.algorithm.Equal(oidRSA), s.algorithm.Equal(oidECDSA)
	for _, h := range pkcs7Hashes {
		isRSA = isRSA || h.hash == s.hash && s.algorithm.Equal(h.rsa)
		isECDSA = isECDSA || h.hash == s.hash && s.algorithm.Equal(h.ecdsa)
	}
	switch pub := cert.pub.(type) {
	case *rsa.PublicKey:
		switch {
		case s.algorithm.Equal(oidPSS):
			return s.verifyPSS(pub, digest)
		case isRSA:
			return verificationError(rsa.VerifyPKCS1v15(pub, s.hash, digest, s.signature) == nil)
		}
	case *ecdsa.PublicKey:
		if isECDSA {
			return verificationError(ecdsa.VerifyASN1(pub, digest, s.signature))
		}
	}
	return fmt.Errorf("PKCS7: signature algorithm %.100s does not fit a key of type %T and %s", s.algorithm, cert.pub, s.hash)
}

func verificationError(ok bool) error {
	if !ok {
		return errors.New("PKCS7: the signature does not verify")
	}
	return nil
}

// checkAttributes checks that the signed attributes are for this content. Both
// content type and digest must be there, each once (RFC 5652, section 11).
func (s *signerInfo) checkAttributes(digest []byte, contentType asn1.ObjectIdentifier) error {
	in := s.attributes
	var list cryptobyte.String
	if !in.ReadASN1(&list, cbasn1.Tag(0).ContextSpecific().Constructed()) {
		return errSignerInfo
	}
	types, digests := 0, 0
	for !list.Empty() {
		id, first, ok := readAttribute(&list)
		value := cryptobyte.String(first)
		switch {
		case !ok:
			return errSignerInfo
		case id.Equal(oidContentType):
			var is asn1.ObjectIdentifier
			if types++; !value.ReadASN1ObjectIdentifier(&is) || !is.Equal(contentType) {
				return errors.New("PKCS7: another type of content was signed")
			}
		case id.Equal(oidMessageDigest):
			var is cryptobyte.String
			if digests++; !value.ReadASN1(&is, cbasn1.OCTET_STRING) || !bytes.Equal(is, digest) {
				return errors.New("PKCS7: content digest does not match")
			}
		}
	}
	if types != 1 || digests != 1 {
		return errors.New("PKCS7: signed attributes need one content type and one digest")
	}
	return nil
}

var errPSS = errors.New("PKCS7: parameters of RSASSA-PSS are not given, or do not fit the hash of the signer")

// verifyPSS reads the parameters of RSASSA-PSS (RFC 4055, section 3.1), all of
// which must be given and use the hash of the signer:
//
//	[0] hashAlgorithm, [1] maskGenAlgorithm, [2] saltLength, [3] trailerField DEFAULT 1
func (s *signerInfo) verifyPSS(pub *rsa.PublicKey, digest []byte) error {
	in := s.parameters
	var hash, mask, inner asn1.ObjectIdentifier
	var params, p0, p1, p2, alg, mgf, param cryptobyte.String
	var salt, trailer int64 = 0, 1
	if !in.ReadASN1(&params, cbasn1.SEQUENCE) || !in.Empty() ||
		!params.ReadASN1(&p0, cbasn1.Tag(0).ContextSpecific().Constructed()) || !p0.ReadASN1(&alg, cbasn1.SEQUENCE) || !alg.ReadASN1ObjectIdentifier(&hash) ||
		!params.ReadASN1(&p1, cbasn1.Tag(1).ContextSpecific().Constructed()) || !p1.ReadASN1(&mgf, cbasn1.SEQUENCE) || !mgf.ReadASN1ObjectIdentifier(&mask) ||
		!mgf.ReadASN1(&param, cbasn1.SEQUENCE) || !param.ReadASN1ObjectIdentifier(&inner) ||
		!params.ReadASN1(&p2, cbasn1.Tag(2).ContextSpecific().Constructed()) || !p2.ReadASN1Integer(&salt) {
		return errPSS
	}
	if !params.Empty() {
		var p3 cryptobyte.String
		if !params.ReadASN1(&p3, cbasn1.Tag(3).ContextSpecific().Constructed()) || !p3.ReadASN1Integer(&trailer) || !params.Empty() {
			return errPSS
		}
	}
	if pkcs7Hash(hash) != s.hash || pkcs7Hash(inner) != s.hash || !mask.Equal(oidMGF1) || trailer != 1 || salt < 1 || salt > 512 {
		return errPSS
	}
	return verificationError(rsa.VerifyPSS(pub, s.hash, digest, s.signature, &rsa.PSSOptions{SaltLength: int(salt), Hash: s.hash}) == nil)
}
