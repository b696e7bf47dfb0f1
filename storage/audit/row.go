package audit

import (
	"crypto/sha256"
	"encoding/binary"
	"time"
)

// A Kind says what a row of the audit log is.
type Kind string

// The kinds of rows. A serial number has at most one row of Intended, and behind
// it at most one that says what came of it.
const (
	Intended Kind = "intended" // a certificate is about to be signed
	Issued   Kind = "issued"   // it was signed, verified and logged; it may be handed out
	Failed   Kind = "failed"   // it was not, or was thrown away

	// Recorded is a row of schema version 1, which had one row for a
	// certificate, written after it was signed. Migrated has no serial number:
	// it stands where the schema was brought to version 2, behind the last
	// Recorded. Neither is written by a CA.
	Recorded Kind = "recorded"
	Migrated Kind = "migrated"
)

// A Hash is one of the chain. That of an empty log is zero.
type Hash [sha256.Size]byte

// A Row is one row of the audit log.
type Row struct {
	At     time.Time
	Kind   Kind
	Serial string // of the certificate, lower-case hex
	Record []byte // JSON

	// Claim is what a row of Intended claims with it, in the same transaction.
	// It is not part of the row.
	Claim *Claim

	Hash Hash  // of the chain up to this row; set by whoever read or placed it
	Err  error // what becomes of it, for the commit to set where it is its own

	done chan struct{} // closed once Err is final; nil if nobody waits
}

// domain keeps the hash of a row from being that of anything else.
const domain = "sigstack audit row, version 1\n"

// Chain returns the hash of the chain with this row behind one whose hash is
// before. The bytes are those of the package comment.
func (r *Row) Chain(before Hash) Hash {
	b := append([]byte(domain), before[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(r.At.UnixNano())) // #nosec G115 -- its bits
	for _, field := range []string{string(r.Kind), r.Serial, string(r.Record)} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(field))) // #nosec G115 -- a queue takes no row of 4 GiB
		b = append(b, field...)
	}
	return sha256.Sum256(b)
}

// same says whether two rows say the same, wherever they are.
func (r *Row) same(o *Row) bool {
	return r.At.Equal(o.At) && r.Kind == o.Kind && r.Serial == o.Serial && string(r.Record) == string(o.Record)
}

// A Claim binds a token that is good for one key to that key.
type Claim struct {
	Token  [32]byte // SHA-256 of what is signed of the token
	Key    [32]byte // SHA-256 of the SubjectPublicKeyInfo
	Expiry int64    // of the token, in seconds since 1970
}

// grace is how long a claim is kept after its token has expired: as far as the
// clocks of replicas may ever be apart.
const grace = time.Hour

// Expired is up to which expiry claims are of no use at a time.
func Expired(now time.Time) int64 { return now.Add(-grace).Unix() }

// MaxForget is how many claims that have expired one transaction removes at most.
const MaxForget = 1000
