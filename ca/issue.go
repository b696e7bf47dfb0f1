package ca

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Issue makes one certificate. When it returns without an error, the
// precertificate is in the CT log, the certificate carries the log's SCT and both
// audit rows are durable. Errors are of type *Error, of the class ErrRequest,
// ErrUnavailable or none, but for those of the policy, which are returned as they are.
func (c *CA) Issue(ctx context.Context, req Request) (*Issued, error) {
	if !req.Identity.Valid() {
		return nil, broken(msgInternal, errors.New("the identity does not come from the token verifier"))
	}
	if !req.Key.provenFor(req.Identity) {
		return nil, broken(msgInternal, errors.New("the key was not proven for this identity"))
	}
	keyHash := sha256DER(req.Key.spki)
	if why, ok := c.blocked[keyHash]; ok {
		return nil, refused(msgKeyInsecure, errors.New(why))
	}

	// Policy. There is no other way to what follows.
	if c.policy != nil {
		if err := c.policy.Admit(ctx, req.Identity); err != nil {
			return nil, err
		}
	}

	// Profile. Everything that both certificates share is fixed here, so that
	// nothing can differ between them but the last extension.
	now := c.now().UTC().Truncate(time.Second)
	begin := c.chain.begin(now, c.backdate)
	if err := c.usable(begin, now.Add(c.lifetime)); err != nil {
		return nil, unavailable(msgBackend, err)
	}
	serial, err := newSerial(c.rand)
	if err != nil {
		return nil, unavailable(msgBackend, err)
	}
	p := &profile{
		chain:     c.chain,
		serial:    serial,
		notBefore: begin,
		notAfter:  now.Add(c.lifetime),
		atMost:    c.lifetime + c.backdate,
		key:       req.Key,
		san:       req.Identity.SAN(),
		values:    req.Identity.Extensions(),
	}
	shared, err := p.shared()
	if err != nil {
		return nil, refused(msgIdentity, err)
	}
	precertTBS, err := p.tbs(shared, poison())
	if err != nil {
		return nil, broken(msgInternal, err)
	}

	// Record, and lint while the row is being written: a commit waits for a disk.
	recording := c.record(ctx, serial, Intent{
		Serial:          serialText(serial),
		SAN:             p.san,
		Issuer:          p.values.Issuer,
		Subject:         req.Identity.Subject(),
		Audit:           req.Identity.Audit(),
		Token:           req.Identity.Token(),
		Claims:          req.Identity.Claims(),
		NotBefore:       p.notBefore,
		NotAfter:        p.notAfter,
		PublicKeySHA256: keyHash,
		IssuerKeySHA256: sha256DER(c.chain.certs[0].RawSubjectPublicKeyInfo),
		RequestID:       req.RequestID,
	})
	linted, lintErr := lint(precertTBS, p, nil)
	recorded, err := recording.wait()
	if err != nil {
		return nil, err
	}
	if lintErr != nil {
		recorded.row.Failed(FailedLint)
		return nil, broken(msgInternal, fmt.Errorf("precertificate: %w", lintErr))
	}
	issued, failure, err := c.complete(ctx, p, shared, linted, recorded, req.RequestID)
	if err != nil {
		recorded.row.Failed(failure)
		return nil, err
	}
	return issued, nil
}

// complete makes a certificate of a linted precertificate whose serial number is
// recorded.
func (c *CA) complete(ctx context.Context, p *profile, shared []byte, linted *lintedTBS, recorded *recorded, requestID string) (*Issued, Failure, error) {
	precertTBS := linted.der
	precert, _, err := linted.sign(c.chain, recorded, c.rand)
	if err != nil {
		return nil, FailedSigner, unavailable(msgBackend, fmt.Errorf("precertificate: %w", err))
	}

	// Log. The log verifies the precertificate's signature before it takes it, so
	// that is not done twice. A context error here may hide that the entry was added; that leaves
	// an orphan precertificate, which is allowed, and no certificate.
	logCtx, cancel := context.WithTimeout(ctx, logTimeout)
	defer cancel()
	sct, err := c.log.AddPreChain(logCtx, precert, c.chain.DER())
	if err != nil {
		return nil, FailedLog, unavailable(msgLog, err)
	}
	stamp, err := c.logKey.verifySCT(sct, precertTBS, c.chain, c.now())
	if err != nil {
		return nil, FailedSCT, unavailable(msgLog, fmt.Errorf("the log's SCT: %w", err))
	}

	// Lint the certificate, compare it with what was logged, sign it.
	list, err := sctList(sct)
	if err != nil {
		return nil, FailedSCT, unavailable(msgLog, err)
	}
	finalTBS, err := p.tbs(shared, list)
	if err != nil {
		return nil, FailedInternal, broken(msgInternal, err)
	}
	if linted, err = lint(finalTBS, p, sct); err != nil {
		return nil, FailedLint, broken(msgInternal, fmt.Errorf("certificate: %w", err))
	}
	if err := correspond(precertTBS, finalTBS); err != nil {
		return nil, FailedInternal, broken(msgInternal, err)
	}
	leaf, signature, err := linted.sign(c.chain, recorded, c.rand)
	if err == nil {
		err = c.chain.signed(finalTBS, signature)
	}
	if err != nil {
		return nil, FailedSigner, unavailable(msgBackend, fmt.Errorf("certificate: %w", err))
	}

	// Audit. The certificate exists now, so its row is written even if the
	// client has hung up.
	record := Record{
		Serial:            serialText(p.serial),
		SAN:               p.san,
		NotBefore:         p.notBefore,
		NotAfter:          p.notAfter,
		SCTTime:           stamp.time,
		PublicKeySHA256:   sha256DER(p.key.spki),
		CertificateSHA256: sha256DER(leaf),
		PrecertLeafHash:   stamp.leafHash,
		RequestID:         requestID,
	}
	auditCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), auditTimeout)
	defer cancel()
	if err := recorded.row.Issued(auditCtx, record); err != nil {
		return nil, FailedAudit, unavailable(msgAudit, err)
	}
	return &Issued{Leaf: leaf, Chain: c.chain.DER(), SCT: sct, Audit: record}, "", nil
}

// newSerial returns a serial number of exactly 20 octets, the most that RFC
// 5280, section 4.1.2.2 allows: positive, with 158 random bits.
func newSerial(random io.Reader) (*big.Int, error) {
	b := make([]byte, 20)
	if _, err := io.ReadFull(random, b); err != nil {
		return nil, fmt.Errorf("no randomness for a serial number: %w", err)
	}
	b[0] = b[0]&0x3f | 0x40
	return new(big.Int).SetBytes(b), nil
}

// A lintedTBS is a TBSCertificate that passed every lint. Only lint makes one,
// and it can be signed once.
type lintedTBS struct {
	der    []byte
	serial *big.Int
	digest []byte // of der, as it was linted
	signed atomic.Bool
}

// sign is the only function that uses the CA's key. It returns the certificate
// in DER, and its signature alone. That is not verified yet: a key module that
// answers nonsense must not be heard outside, so the log does that for a
// precertificate, and Chain.signed for a certificate.
func (t *lintedTBS) sign(chain *Chain, r *recorded, random io.Reader) (der, signature []byte, err error) {
	if r == nil || r.serial.Cmp(t.serial) != 0 {
		return nil, nil, fmt.Errorf("nothing says that serial number %x is to be signed", t.serial)
	}
	if !t.signed.CompareAndSwap(false, true) {
		return nil, nil, errors.New("this TBSCertificate was signed before")
	}
	alg := chain.algorithm
	digest := alg.digest(t.der)
	if !bytes.Equal(digest, t.digest) {
		return nil, nil, errors.New("the TBSCertificate is not the bytes that were linted")
	}
	if signature, err = chain.signer.Sign(random, digest, alg.hash); err != nil {
		return nil, nil, fmt.Errorf("signer: %w", err)
	}
	der, err = assemble(t.der, alg, signature)
	return der, signature, err
}

// signed verifies the signature of a TBSCertificate by the issuing certificate's key.
func (c *Chain) signed(tbs, signature []byte) error {
	if err := c.certs[0].CheckSignature(c.algorithm.name, tbs, signature); err != nil {
		return fmt.Errorf("the signer's signature does not verify: %w", err)
	}
	return nil
}

// assemble puts a TBSCertificate and its signature together (RFC 5280, section
// 4.1).
func assemble(tbs []byte, alg algorithm, signature []byte) ([]byte, error) {
	const framing = 64 // the headers and the algorithm
	b := cryptobyte.NewBuilder(make([]byte, 0, len(tbs)+len(signature)+framing))
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(tbs)
		alg.add(b)
		b.AddASN1BitString(signature)
	})
	return b.Bytes()
}

// An algorithm is how an issuing key signs certificates.
type algorithm struct {
	name x509.SignatureAlgorithm
	oid  []int
	null bool // parameters are NULL (RSA, RFC 4055) instead of absent (ECDSA, RFC 5758)
	hash crypto.Hash
}

func (a algorithm) digest(tbs []byte) []byte {
	h := a.hash.New()
	h.Write(tbs)
	return h.Sum(nil)
}

// algorithmOf chooses by the key: the hash fits the curve, and RSA keys use
// PKCS #1 v1.5 with SHA-256. Ed25519 is not here because clients in JavaScript
// do not know it in a certificate chain.
func algorithmOf(key crypto.PublicKey) (algorithm, error) {
	if _, ok := key.(*rsa.PublicKey); ok {
		return algorithm{name: x509.SHA256WithRSA, oid: []int{1, 2, 840, 113549, 1, 1, 11}, null: true, hash: crypto.SHA256}, nil
	}
	ecdsaWith := func(name x509.SignatureAlgorithm, last int, h crypto.Hash) (algorithm, error) {
		return algorithm{name: name, oid: []int{1, 2, 840, 10045, 4, 3, last}, hash: h}, nil
	}
	switch curveName(key) {
	case "P-256":
		return ecdsaWith(x509.ECDSAWithSHA256, 2, crypto.SHA256)
	case "P-384":
		return ecdsaWith(x509.ECDSAWithSHA384, 3, crypto.SHA384)
	case "P-521":
		return ecdsaWith(x509.ECDSAWithSHA512, 4, crypto.SHA512)
	}
	return algorithm{}, fmt.Errorf("an issuing key of type %T cannot be used: ECDSA P-256, P-384, P-521 or RSA is needed", key)
}

// add writes the AlgorithmIdentifier.
func (a algorithm) add(b *cryptobyte.Builder) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(a.oid)
		if a.null {
			b.AddASN1NULL()
		}
	})
}
