package ca

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"
)

// maxChain is the most certificates that a chain may have. Every client that
// verifies, and every entry in the CT log, carries the chain.
const maxChain = 8

// A Chain is an issuing certificate, its parents up to the root, and the issuing
// key. Only NewChain makes one, and it never changes.
type Chain struct {
	certs     []*x509.Certificate // issuing first, root last
	signer    crypto.Signer       // the key of certs[0]
	algorithm algorithm           // how signer signs
	notBefore time.Time           // the latest of all certs
	notAfter  time.Time           // the earliest of all certs
	standIn   *standIn            // signs what is linted, in place of signer
}

// NewChain checks that the certificates can issue and that the signer is their
// key. The issuing certificate is first and the self-signed root last; a root
// may be alone. The rules:
//
//   - each certificate is a CA that may sign certificates and has a subject key
//     identifier, and each is signed by the next;
//   - the issuing certificate of a longer chain has the extended key usage
//     codeSigning, as clients ask for;
//   - x509.Verify accepts the issuing certificate for codeSigning;
//   - the issuing key is the signer's, an ECDSA key on P-256, P-384 or P-521 or an
//     RSA key of 2048 to 4096 bits, and no weak key is in the chain.
func NewChain(certs []*x509.Certificate, signer crypto.Signer) (*Chain, error) {
	c, err := checkChain(certs)
	if err != nil {
		return nil, fmt.Errorf("certificate chain: %w", err)
	}
	if signer == nil {
		return nil, errors.New("certificate chain: no signer for the issuing certificate")
	}
	type comparable interface{ Equal(crypto.PublicKey) bool }
	key, ok := signer.Public().(comparable)
	if !ok || !key.Equal(certs[0].PublicKey) {
		return nil, fmt.Errorf("certificate chain: the issuing certificate %q carries another public key than the signer's", certs[0].Subject)
	}
	c.signer = signer
	if c.standIn, err = newStandIn(certs[0]); err != nil {
		return nil, fmt.Errorf("certificate chain: %w", err)
	}
	return c, nil
}

// CheckChain applies the rules of NewChain but for the last, to a chain that
// others sign with, or that nobody signs with any more.
func CheckChain(certs []*x509.Certificate) error {
	if _, err := checkChain(certs); err != nil {
		return fmt.Errorf("certificate chain: %w", err)
	}
	return nil
}

// checkChain makes a Chain without a signer.
func checkChain(certs []*x509.Certificate) (*Chain, error) {
	if len(certs) == 0 || len(certs) > maxChain {
		return nil, fmt.Errorf("%d certificates: 1 to %d are needed, the issuing one first and the root last", len(certs), maxChain)
	}
	c := &Chain{certs: slices.Clone(certs)}
	for i, cert := range certs {
		if cert == nil {
			return nil, fmt.Errorf("certificate %d is missing", i)
		}
		switch {
		case !cert.BasicConstraintsValid || !cert.IsCA:
			return nil, fmt.Errorf("certificate %d (%q) is not a CA", i, cert.Subject)
		case cert.KeyUsage&x509.KeyUsageCertSign == 0:
			return nil, fmt.Errorf("certificate %d (%q) may not sign certificates: key usage keyCertSign is missing", i, cert.Subject)
		case len(cert.SubjectKeyId) == 0:
			return nil, fmt.Errorf("certificate %d (%q) has no subject key identifier", i, cert.Subject)
		}
		if err := checkKey(cert.PublicKey); err != nil {
			return nil, fmt.Errorf("certificate %d (%q): %w", i, cert.Subject, err)
		}
		// A self-signed root is its own parent, so twice of it would do.
		if slices.ContainsFunc(certs[:i], func(c *x509.Certificate) bool { return bytes.Equal(c.RawTBSCertificate, cert.RawTBSCertificate) }) {
			return nil, fmt.Errorf("certificate %d (%q) stands twice", i, cert.Subject)
		}
		parent := cert // the root signs itself
		if i+1 < len(certs) {
			parent = certs[i+1]
		}
		if parent == nil || !bytes.Equal(cert.RawIssuer, parent.RawSubject) {
			return nil, fmt.Errorf("certificate %d (%q) was issued by %q, which is not the next one: the order is issuing certificate to root", i, cert.Subject, cert.Issuer)
		}
		if err := cert.CheckSignatureFrom(parent); err != nil {
			return nil, fmt.Errorf("certificate %d (%q) is not signed by the next one: %w", i, cert.Subject, err)
		}
		if i == 0 || cert.NotBefore.After(c.notBefore) {
			c.notBefore = cert.NotBefore
		}
		if i == 0 || cert.NotAfter.Before(c.notAfter) {
			c.notAfter = cert.NotAfter
		}
	}
	issuing := certs[0]
	if len(certs) > 1 && !slices.Contains(issuing.ExtKeyUsage, x509.ExtKeyUsageCodeSigning) {
		return nil, fmt.Errorf("the issuing certificate %q lacks the extended key usage codeSigning", issuing.Subject)
	}
	if !c.notBefore.Before(c.notAfter) {
		return nil, errors.New("the certificates are never valid at the same time")
	}
	// Time is checked by Covers, at every issuance. Here it is a moment at which
	// all are valid.
	options := x509.VerifyOptions{
		Roots:         x509.NewCertPool(),
		Intermediates: x509.NewCertPool(),
		CurrentTime:   c.notBefore,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
	}
	options.Roots.AddCert(certs[len(certs)-1])
	for _, cert := range certs[1:] {
		options.Intermediates.AddCert(cert)
	}
	if _, err := issuing.Verify(options); err != nil {
		return nil, fmt.Errorf("the issuing certificate %q does not verify to the root for code signing: %w", issuing.Subject, err)
	}
	var err error
	c.algorithm, err = algorithmOf(issuing.PublicKey)
	return c, err
}

// Certificates returns the chain, issuing certificate first, root last.
func (c *Chain) Certificates() []*x509.Certificate { return slices.Clone(c.certs) }

// NotAfter is when the first of its certificates ends.
func (c *Chain) NotAfter() time.Time { return c.notAfter }

// DER returns the same in DER. The byte slices are shared and must not be
// written to.
func (c *Chain) DER() [][]byte {
	der := make([][]byte, len(c.certs))
	for i, cert := range c.certs {
		der[i] = cert.Raw
	}
	return der
}

// Covers checks that every certificate of the chain is valid from begin to end.
// A certificate that outlives its issuer would be trusted by some verifiers and
// refused by others.
func (c *Chain) Covers(begin, end time.Time) error {
	if begin.Before(c.notBefore) {
		return fmt.Errorf("the certificate chain is valid from %s only, and now it is %s", c.notBefore.UTC().Format(time.RFC3339), begin.UTC().Format(time.RFC3339))
	}
	if end.After(c.notAfter) {
		return fmt.Errorf("the certificate chain ends at %s, before a new certificate would at %s", c.notAfter.UTC().Format(time.RFC3339), end.UTC().Format(time.RFC3339))
	}
	return nil
}

// begin is when a certificate begins that is made now: earlier, as it is
// backdated, but not before the chain does.
func (c *Chain) begin(now time.Time, backdate time.Duration) time.Time {
	begin := now.Add(-backdate)
	if begin.Before(c.notBefore) && !now.Before(c.notBefore) {
		return c.notBefore.UTC()
	}
	return begin
}

// curveName is the name of an ECDSA key's curve, or empty.
func curveName(key crypto.PublicKey) string {
	if k, ok := key.(*ecdsa.PublicKey); ok && k.Curve != nil {
		return k.Curve.Params().Name
	}
	return ""
}
