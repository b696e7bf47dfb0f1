package ca

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/sigstack/sigstack/ca/ext"
	"github.com/sigstack/sigstack/ca/identity"
)

// An Auditor keeps two rows for every certificate: what is about to be signed,
// and what came of it.
type Auditor interface {
	// Intend is called once for a serial number, before anything is signed with
	// it. The row is durable when Intend returns without an error; otherwise
	// nothing is signed. A serial that was intended before is an error.
	//
	// Where Intent.Token is good for one key only, it is claimed for
	// Intent.PublicKeySHA256 with the row, both or none. That it was claimed for
	// another key before is ErrTokenUsed; for the same one it is granted again,
	// because clients retry.
	Intend(ctx context.Context, i Intent) (Intended, error)
}

// An Intended is an intent whose row is durable. One of its methods is called,
// once.
type Intended interface {
	// Issued is called after the certificate was signed, and before it is handed
	// out. The row is durable when it returns nil; otherwise the certificate is
	// thrown away.
	Issued(ctx context.Context, r Record) error

	// Failed notes that no certificate is handed out. It does not wait, and
	// nothing depends on the row.
	Failed(why Failure)
}

// ErrTokenUsed is what Intend wraps where a token was used for another key.
var ErrTokenUsed = errors.New("the token was used for another key already: tokens of this issuer are good for one key; request a new token")

// An Intent says what is about to be signed, for whom and why. It holds no token
// and no secret.
type Intent struct {
	Serial  string // lower-case hex, without a leading 0x
	SAN     ext.SAN
	Issuer  string // the token's issuer, as the certificate names it
	Subject string // the token's sub claim
	Audit   identity.Audit
	Token   identity.Token
	Claims  []byte // all claims of the token: one JSON object of at most 12 KiB

	NotBefore, NotAfter time.Time // UTC, whole seconds

	PublicKeySHA256 [32]byte // of the SubjectPublicKeyInfo in DER
	IssuerKeySHA256 [32]byte // of that of the issuing certificate, as in the CT log

	RequestID string // as in the access log; may be empty
}

// A Record says what was issued. It repeats of the Intent what ties the two.
type Record struct {
	Serial string
	SAN    ext.SAN

	NotBefore, NotAfter time.Time // UTC, whole seconds
	SCTTime             time.Time // UTC, milliseconds

	PublicKeySHA256   [32]byte // of the SubjectPublicKeyInfo in DER
	CertificateSHA256 [32]byte // of the certificate in DER

	// PrecertLeafHash is the Merkle leaf hash (RFC 6962, sections 2.1 and 3.4)
	// of the precertificate's entry in the CT log. It finds the entry and its
	// proof with get-proof-by-hash.
	PrecertLeafHash [32]byte

	RequestID string
}

// A Failure is the class of what kept a certificate from being issued.
type Failure string

// The classes of failures.
const (
	FailedLint     Failure = "lint"     // it broke a rule of the profile
	FailedSigner   Failure = "signer"   // the key did not sign, or wrongly
	FailedLog      Failure = "ct-log"   // the CT log did not take the precertificate
	FailedSCT      Failure = "sct"      // the CT log's answer was no promise
	FailedAudit    Failure = "audit"    // the row of the certificate was not written
	FailedInternal Failure = "internal" // a mistake in this program
)

// A recorded serial number is one whose intent is durable. Only recording.wait
// makes one, and nothing is signed without.
type recorded struct {
	serial *big.Int
	row    Intended
}

// A recording is an intent on its way into the audit log.
type recording struct {
	serial *big.Int
	done   chan struct{}
	row    Intended // set before done is closed, as is err
	err    error
}

// record begins to write an intent.
func (c *CA) record(ctx context.Context, serial *big.Int, i Intent) *recording {
	r := &recording{serial: serial, done: make(chan struct{})}
	ctx, cancel := context.WithTimeout(ctx, auditTimeout)
	go func() {
		defer close(r.done)
		defer cancel()
		r.row, r.err = c.audit.Intend(ctx, i)
	}()
	return r
}

// wait returns when the intent is durable. After this line the serial number may
// be signed.
func (r *recording) wait() (*recorded, error) {
	<-r.done
	switch {
	case errors.Is(r.err, ErrTokenUsed):
		return nil, refused(msgToken, ErrTokenUsed)
	case r.err != nil:
		return nil, unavailable(msgAudit, r.err)
	}
	return &recorded{serial: r.serial, row: r.row}, nil
}

// serialText is a serial number as audit rows have it.
func serialText(n *big.Int) string { return fmt.Sprintf("%x", n) }
