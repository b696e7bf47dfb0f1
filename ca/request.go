package ca

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// An intermediate whose parent is somewhere else, where the root key is, is made
// in two steps: CreateIntermediateRequest where the intermediate's key is, and
// SignIntermediate, or any other program that signs requests, where the root's is.

// CreateIntermediateRequest makes a PKCS #10 request (RFC 2986) in PEM for an
// intermediate, which asks for the extensions that CreateIntermediate writes.
func CreateIntermediateRequest(name pkix.Name, key crypto.Signer) ([]byte, error) {
	fail := func(err error) ([]byte, error) { return nil, fmt.Errorf("request for an intermediate: %w", err) }
	if err := checkKey(key.Public()); err != nil {
		return fail(err)
	}
	alg, err := algorithmOf(key.Public())
	if err != nil {
		return fail(err)
	}
	extensions, err := intermediateExtensions(key.Public())
	if err != nil {
		return fail(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: name, SignatureAlgorithm: alg.name, ExtraExtensions: extensions,
	}, key)
	if err != nil {
		return fail(err)
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return fail(err)
	}
	if err := csr.CheckSignature(); err != nil {
		return fail(fmt.Errorf("the signer's signature does not verify: %w", err))
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), nil
}

// intermediateExtensions are what an intermediate has (RFC 5280, section 4.2.1),
// but for the key identifier of its parent.
func intermediateExtensions(key crypto.PublicKey) ([]pkix.Extension, error) {
	spki, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, err
	}
	keyID, err := subjectKeyID(spki)
	if err != nil {
		return nil, err
	}
	var failed error
	value := func(build func(b *cryptobyte.Builder)) []byte {
		var b cryptobyte.Builder
		build(&b)
		der, err := b.Bytes()
		failed = errors.Join(failed, err)
		return der
	}
	extensions := []pkix.Extension{
		{Id: oidBasicConstraints(), Critical: true, Value: value(func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1Boolean(true)
				b.AddASN1Int64(0) // no authorities below it
			})
		})},
		{Id: oidKeyUsage(), Critical: true, Value: []byte{3, 2, 1, 0x06}}, // keyCertSign, cRLSign; one bit is unused
		{Id: oidExtKeyUsage(), Value: extKeyUsageDER()},
		{Id: oidSubjectKeyID(), Value: value(func(b *cryptobyte.Builder) { b.AddASN1OctetString(keyID) })},
	}
	return extensions, failed
}

// SignIntermediate makes the certificate that a request for an intermediate asks
// for: its name and its key, whose possession it proves, and nothing else of it
// count. CreateIntermediate says the rest.
func SignIntermediate(request []byte, parent *x509.Certificate, parentKey crypto.Signer, now time.Time) (*x509.Certificate, error) {
	name, key, err := parseIntermediateRequest(request)
	if err != nil {
		return nil, fmt.Errorf("request for an intermediate: %w", err)
	}
	return CreateIntermediate(name, key, parent, parentKey, now)
}

// parseIntermediateRequest reads one PEM block with a PKCS #10 request.
func parseIntermediateRequest(data []byte) (name pkix.Name, key crypto.PublicKey, err error) {
	if len(data) > maxCSR {
		return name, nil, fmt.Errorf("%d bytes, at most %d are accepted", len(data), maxCSR)
	}
	block, err := onePEM(data, "CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST")
	if err != nil {
		return name, nil, err
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return name, nil, err
	}
	if err := checkKey(csr.PublicKey); err != nil {
		return name, nil, err
	}
	if err := csr.CheckSignature(); err != nil {
		return name, nil, fmt.Errorf("it is not signed by its own key: %w", err)
	}
	if csr.Subject.CommonName == "" {
		return name, nil, errors.New("it has no common name: clients match issuer and subject by name")
	}
	return csr.Subject, csr.PublicKey, nil
}
