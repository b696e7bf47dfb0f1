package ca

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"time"
)

// How long the authorities live, in years.
const (
	rootYears         = 10
	intermediateYears = 3
)

// CreateHierarchy makes the two authorities of a new CA: a root, CN=sigstack, and
// an intermediate, CN=sigstack-intermediate, both of the organization. The result
// is the chain as NewChain takes it with the intermediate's signer. After this the
// root key is needed for the next intermediate only.
func CreateHierarchy(organization string, root, intermediate crypto.Signer, now time.Time) ([]*x509.Certificate, error) {
	rootCert, err := CreateRoot(authorityName("sigstack", organization), root, now)
	if err != nil {
		return nil, err
	}
	intermediateCert, err := CreateIntermediate(IntermediateName(organization), intermediate.Public(), rootCert, root, now)
	if err != nil {
		return nil, err
	}
	return []*x509.Certificate{intermediateCert, rootCert}, nil
}

// IntermediateName is the subject of an intermediate of the organization.
func IntermediateName(organization string) pkix.Name {
	return authorityName("sigstack-intermediate", organization)
}

func authorityName(commonName, organization string) pkix.Name {
	name := pkix.Name{CommonName: commonName}
	if organization != "" {
		name.Organization = []string{organization}
	}
	return name
}

// CreateRoot makes a self-signed authority that is valid for ten years from now:
// keyCertSign and cRLSign, no extended key usage.
func CreateRoot(name pkix.Name, key crypto.Signer, now time.Time) (*x509.Certificate, error) {
	template, err := authority(name, key.Public(), now, rootYears)
	if err != nil {
		return nil, fmt.Errorf("root certificate: %w", err)
	}
	cert, err := create(template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("root certificate: %w", err)
	}
	return cert, nil
}

// CreateIntermediate makes an authority for code signing below parent that cannot
// have authorities below itself. It is valid for three years from now, or until
// its parent ends.
func CreateIntermediate(name pkix.Name, key crypto.PublicKey, parent *x509.Certificate, parentKey crypto.Signer, now time.Time) (*x509.Certificate, error) {
	template, err := authority(name, key, now, intermediateYears)
	if err != nil {
		return nil, fmt.Errorf("intermediate certificate: %w", err)
	}
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}
	template.MaxPathLenZero = true
	template.AuthorityKeyId = parent.SubjectKeyId
	if template.NotBefore.Before(parent.NotBefore) || !template.NotBefore.Before(parent.NotAfter) {
		return nil, fmt.Errorf("intermediate certificate: %s is outside the validity of the parent %q", template.NotBefore.Format(time.RFC3339), parent.Subject)
	}
	if template.NotAfter.After(parent.NotAfter) {
		template.NotAfter = parent.NotAfter
	}
	cert, err := create(template, parent, key, parentKey)
	if err != nil {
		return nil, fmt.Errorf("intermediate certificate: %w", err)
	}
	return cert, nil
}

func authority(name pkix.Name, key crypto.PublicKey, now time.Time, years int) (*x509.Certificate, error) {
	if name.CommonName == "" {
		return nil, errors.New("no common name: clients match issuer and subject by name")
	}
	if err := checkKey(key); err != nil {
		return nil, err
	}
	if _, err := algorithmOf(key); err != nil {
		return nil, err
	}
	spki, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, err
	}
	keyID, err := subjectKeyID(spki)
	if err != nil {
		return nil, err
	}
	serial, err := newSerial(rand.Reader)
	if err != nil {
		return nil, err
	}
	begin := now.UTC().Truncate(time.Second)
	return &x509.Certificate{
		SerialNumber:          serial,
		Subject:               name,
		NotBefore:             begin,
		NotAfter:              begin.AddDate(years, 0, 0),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		SubjectKeyId:          keyID,
	}, nil
}

// create signs an authority's certificate and verifies what came out. It is
// apart from lintedTBS.sign because the key is the parent's and not the issuing
// one; leaf certificates cannot come this way, for authority makes the template.
func create(template, parent *x509.Certificate, key crypto.PublicKey, signer crypto.Signer) (*x509.Certificate, error) {
	alg, err := algorithmOf(signer.Public())
	if err != nil {
		return nil, err
	}
	template.SignatureAlgorithm = alg.name
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key, signer)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	if template == parent {
		parent = cert
	}
	if err := cert.CheckSignatureFrom(parent); err != nil {
		return nil, fmt.Errorf("the signer's signature does not verify: %w", err)
	}
	return cert, nil
}
