// Package ca issues short-lived code signing certificates.
//
// A certificate says: whoever held this key at this time could show an identity
// token for this name. It lives ten minutes. Instead of being revocable it is
// public: each one carries a signed certificate timestamp (SCT), the promise of
// a Certificate Transparency log that the certificate can be found there.
//
// # The one way to a certificate
//
// CA.Issue is a pipeline, written from top to bottom in issue.go:
//
//	policy           may this identity have a certificate now
//	profile          build the TBSCertificate, byte by byte, with a poison extension
//	record           one durable row: what is about to be signed, for whom and why
//	lint             every rule of the profile, over the parsed result, signed with a
//	                 throw-away key; meanwhile the row is being written
//	sign, verify     the precertificate
//	log              append it to the CT log, which answers an SCT
//	verify SCT       signature, log id, time
//	profile          build it again, with the SCT list where the poison was
//	lint             again
//	correspondence   strip both extensions and compare byte for byte
//	sign, verify     the certificate
//	audit            one durable row
//
// Its input cannot be had without the checks before it: an identity.Identity
// comes only from the token verifier, a ProvenKey only from VerifyProof or
// ParseCSR, and the signer takes only a linted TBSCertificate, once, whose serial
// number is recorded.
//
// # Guarantees
//
// Nothing is signed with a serial number before a durable row says so, and no
// serial number is used twice. No certificate leaves Issue unless its
// precertificate is in the CT log, in a tree head that is published already, and
// its second row is durable. A failure on the way leaves at most one
// precertificate in the log, which no verifier accepts as a certificate (RFC
// 6962, section 3.1), and the row that intended it.
//
// Trouble with the signer, the log or the audit is ErrUnavailable and never
// ErrRequest, so that clients try again.
//
// # The profile
//
// Version 3; a serial number of 20 bytes with 158 random bits; the signature
// algorithm of the issuer's key; an empty subject; validity in whole seconds, from
// Config.Backdate before now to Config.Lifetime after it, never past the end of
// any certificate of the chain. The extensions, in this order:
//
//	key usage                      critical, digitalSignature
//	extended key usage             codeSigning
//	subject key identifier         SHA-1 of the key bits (RFC 5280, section 4.2.1.2)
//	authority key identifier       the issuer's
//	subject alternative name       critical, one name
//	1.3.6.1.4.1.57264.1.*          package ext
//	SCT list                       one SCT (RFC 6962, section 3.3); in the
//	                               precertificate the critical poison stands here
package ca

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/sigstack/sigstack/ca/identity"
)

const (
	// DefaultLifetime is how long a certificate is valid when Config does not say.
	DefaultLifetime = 10 * time.Minute

	// The bounds of Config.Lifetime and Config.Backdate.
	MinLifetime = time.Minute
	MaxLifetime = 24 * time.Hour
	MaxBackdate = 5 * time.Minute

	// logTimeout bounds the time that the CT log may take for one certificate.
	// The log answers after one commit; longer means that it is in trouble, and
	// a client that is told so can try again.
	logTimeout = 10 * time.Second

	// auditTimeout bounds each of the two rows of a certificate.
	auditTimeout = 10 * time.Second

	// maxSCTSkew is how far an SCT's time may lie from ours, both ways.
	maxSCTSkew = 5 * time.Minute
)

// A CTLog is the Certificate Transparency log that the CA submits to.
type CTLog interface {
	// AddPreChain appends a precertificate. The chain is the certificate that
	// signed it and that one's parents up to the root, all in DER.
	//
	// It refuses a precertificate whose signature does not verify with the first
	// certificate of the chain.
	//
	// When it returns, the entry is durable and included in a published tree
	// head. The answer is a TLS-encoded SignedCertificateTimestamp (RFC 6962,
	// section 3.2): version 1 byte, log id 32 bytes, timestamp uint64 in
	// milliseconds, extensions with a uint16 length, DigitallySigned. The same
	// precertificate gives the same bytes again.
	AddPreChain(ctx context.Context, precert []byte, chain [][]byte) (sct []byte, err error)

	// PublicKey is the key that SCTs verify by, ECDSA P-256 or RSA. The CA does
	// not embed an SCT that does not.
	PublicKey() crypto.PublicKey
}

// A Policy decides who may have a certificate, of those who have shown who they are.
type Policy interface {
	// Admit is called once for a request, before anything else is done for it. What it returns is
	// what Issue returns: its error says to which class it belongs.
	Admit(ctx context.Context, id identity.Identity) error
}

// Config is what a CA is made of.
type Config struct {
	Chain *Chain  // the issuing certificate, its parents and its key; required
	CTLog CTLog   // required
	Audit Auditor // required

	// Policy is asked about every identity. Nil admits all.
	Policy Policy

	// Retired are chains that no longer issue but that still have to be
	// trusted, each with the issuing certificate first and the root last.
	// They are listed in Bundle, and so may be chains that do not issue yet.
	Retired [][]*x509.Certificate

	// Trusted says whether clients can know Chain, and accept it until a time:
	// whether it is in the trust root that is published now. It is asked for
	// every certificate before anything is signed, and has to be cheap. Nil is
	// for tests: then nobody asks.
	Trusted func(until time.Time) bool

	Now  func() time.Time // the clock; time.Now if nil
	Rand io.Reader        // for serial numbers and signatures; crypto/rand if nil

	// Lifetime of a certificate in whole seconds, from one minute to 24 hours;
	// DefaultLifetime if zero.
	Lifetime time.Duration

	// Backdate is how long before now a certificate begins, for verifiers whose
	// clocks are behind: whole seconds, at most five minutes. It does not
	// begin before its issuer.
	Backdate time.Duration

	// Blocked are keys that no certificate is issued for, by the SHA-256 of
	// their SubjectPublicKeyInfo, each with the reason. Those of the chains and
	// of the CT log need not be there.
	Blocked map[[32]byte]string
}

// A CA issues certificates. It is safe for concurrent use and its fields never
// change.
type CA struct {
	chain    *Chain
	log      CTLog
	logKey   *logKey
	audit    Auditor
	policy   Policy // nil admits all
	now      func() time.Time
	rand     io.Reader
	lifetime time.Duration
	backdate time.Duration
	blocked  map[[32]byte]string
	trusted  func(until time.Time) bool
	bundle   [][]*x509.Certificate
}

// New checks the configuration. It refuses a chain that cannot issue at this
// moment, because a clock that is wrong and a chain that has expired are better
// noticed now than at the first request.
func New(cfg Config) (*CA, error) {
	switch {
	case cfg.Chain == nil:
		return nil, errors.New("ca: no certificate chain")
	case cfg.CTLog == nil:
		return nil, errors.New("ca: no CT log: a certificate without an SCT is of no use to any client")
	case cfg.Audit == nil:
		return nil, errors.New("ca: no audit: each certificate needs a durable row")
	}
	c := &CA{
		chain:    cfg.Chain,
		log:      cfg.CTLog,
		audit:    cfg.Audit,
		policy:   cfg.Policy,
		now:      cfg.Now,
		rand:     cfg.Rand,
		lifetime: cfg.Lifetime,
		backdate: cfg.Backdate,
		blocked:  map[[32]byte]string{},
		trusted:  cfg.Trusted,
	}
	if c.trusted == nil {
		c.trusted = func(time.Time) bool { return true }
	}
	if c.now == nil {
		c.now = time.Now
	}
	if c.rand == nil {
		c.rand = rand.Reader
	}
	if c.lifetime == 0 {
		c.lifetime = DefaultLifetime
	}
	if c.lifetime < MinLifetime || c.lifetime > MaxLifetime || c.lifetime%time.Second != 0 {
		return nil, fmt.Errorf("ca: certificate lifetime %v: must be whole seconds from %v to %v", c.lifetime, MinLifetime, MaxLifetime)
	}
	if c.backdate < 0 || c.backdate > MaxBackdate || c.backdate%time.Second != 0 {
		return nil, fmt.Errorf("ca: certificates backdated by %v: must be whole seconds up to %v", c.backdate, MaxBackdate)
	}
	var err error
	if c.logKey, err = newLogKey(cfg.CTLog.PublicKey()); err != nil {
		return nil, fmt.Errorf("ca: CT log: %w", err)
	}
	now := c.now()
	if err := c.chain.Covers(now, now.Add(c.lifetime)); err != nil {
		return nil, fmt.Errorf("ca: %w", err)
	}
	c.bundle = [][]*x509.Certificate{c.chain.Certificates()}
	for i, r := range cfg.Retired {
		if _, err := checkChain(r); err != nil {
			return nil, fmt.Errorf("ca: retired chain %d: %w", i, err)
		}
		c.bundle = append(c.bundle, slices.Clone(r))
	}
	maps.Copy(c.blocked, cfg.Blocked)
	for _, chain := range c.bundle {
		for _, cert := range chain {
			c.blocked[sha256.Sum256(cert.RawSubjectPublicKeyInfo)] = "it is that of a certificate authority"
		}
	}
	c.blocked[c.logKey.id] = "it is that of the CT log"
	return c, nil
}

// Ready says why a certificate could not be issued now, for a reason that lies
// in the chain.
func (c *CA) Ready() error {
	now := c.now().UTC().Truncate(time.Second)
	return c.usable(c.chain.begin(now, c.backdate), now.Add(c.lifetime))
}

// usable checks that the chain covers a certificate, and that clients know it.
func (c *CA) usable(begin, end time.Time) error {
	if err := c.chain.Covers(begin, end); err != nil {
		return err
	}
	if !c.trusted(end) {
		return fmt.Errorf("the trust root that is published does not hold the chain of %q until %s: a client could not verify what it signs", c.chain.certs[0].Subject, end.UTC().Format(time.RFC3339))
	}
	return nil
}

// Bundle returns all chains that certificates of this CA may verify by, the
// active one first, each with its issuing certificate first and its root last.
func (c *CA) Bundle() [][]*x509.Certificate {
	bundle := make([][]*x509.Certificate, len(c.bundle))
	for i, chain := range c.bundle {
		bundle[i] = slices.Clone(chain)
	}
	return bundle
}

// A Request asks for one certificate.
type Request struct {
	Identity  identity.Identity // who asks
	Key       ProvenKey         // for which key
	RequestID string            // for the audit row
}

// Issued is the answer to a Request.
type Issued struct {
	Leaf  []byte   // the certificate in DER
	Chain [][]byte // the issuing certificate and its parents up to the root, in DER
	SCT   []byte   // the embedded SignedCertificateTimestamp, TLS-encoded
	Audit Record   // the row that was written
}

// Classes of errors, for the one place that maps errors to statuses. An error
// that is neither is a mistake in this program (HTTP 500).
var (
	// ErrRequest is the client's fault; the same request will fail again (HTTP 400).
	ErrRequest = errors.New("the request cannot be granted")
	// ErrUnavailable is our own trouble: signer, CT log, audit, or a chain that
	// is about to expire. The same request may succeed later (HTTP 503).
	ErrUnavailable = errors.New("the certificate authority is unavailable")
)

// An Error is what this package returns for a request. Its text is for our log;
// Public is for the client.
type Error struct {
	class   error // ErrRequest, ErrUnavailable or nil
	message string
	cause   error // may be nil
}

// Error is the message that clients know and the reason behind it.
func (e *Error) Error() string {
	if e.cause == nil {
		return e.message
	}
	return e.message + ": " + e.cause.Error()
}

// Public is the text for the client. It gives the reason where the client can do
// something about it, and leaves it out where it would show our inside.
func (e *Error) Public() string {
	if errors.Is(e.class, ErrRequest) {
		return e.Error()
	}
	return e.message
}

// Unwrap gives errors.Is the class and the cause.
func (e *Error) Unwrap() []error {
	var list []error
	for _, err := range []error{e.class, e.cause} {
		if err != nil {
			list = append(list, err)
		}
	}
	return list
}

func refused(message string, cause error) error {
	return &Error{class: ErrRequest, message: message, cause: cause}
}

func unavailable(message string, cause error) error {
	return &Error{class: ErrUnavailable, message: message, cause: cause}
}

func broken(message string, cause error) error {
	return &Error{message: message, cause: cause}
}

// What clients are told; the wording is the one that Fulcio's users know.
const (
	msgKeyUnparsable = "The public key supplied in the request could not be parsed"
	msgKeyInsecure   = "The public key supplied in the request is insecure"
	msgCSRUnparsable = "The certificate signing request could not be parsed"
	msgToken         = "There was an error processing the identity token"
	msgProof         = "The signature supplied in the request could not be verified"
	msgIdentity      = "The identity cannot be written into a certificate"
	msgLog           = "Error entering certificate in CTL"
	msgBackend       = "error communicating with CA backend"
	msgAudit         = "error recording the certificate"
	msgInternal      = "error creating the certificate"
)

func sha256DER(der []byte) [32]byte { return sha256.Sum256(der) }
