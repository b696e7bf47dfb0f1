// Package tlog is the log engine: an append-only Merkle tree (RFC 6962,
// section 2.1) of entries, kept by a Store and signed by a Log.
//
// Every log of sigstack (Rekor v1, Rekor v2, the CT log) is one [Log] over one
// [Store]. The Store makes batches of leaves durable and reads rows back. The
// Log does the rest, once: it groups concurrent submissions into batches,
// keeps the right edge of the tree in memory, computes each root itself and
// compares it with the Store's, signs one checkpoint a batch, remembers the
// largest checkpoint that it ever signed in a second place, and answers proofs.
//
// # Guarantees
//
//   - When [Log.Add] returns without error the entry is durable, has its final
//     index, and is included in a checkpoint that is already published.
//   - An index is given once. A checkpoint that was signed is never
//     contradicted, not after a crash or a restored database: where that
//     cannot be shown the Log stops signing and says so ([ErrIntegrity]).
//   - A proof is computed from hashes that were checked against the signed
//     root, and an entry is returned only if it hashes to its place in the tree.
//
// # Hashes
//
// A leaf hash is SHA-256(0x00 || value), an inner node SHA-256(0x01 || left ||
// right), 32 bytes each (RFC 6962, section 2.1).
package tlog

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"
)

// HashSize is the length of a Hash in bytes.
const HashSize = sha256.Size

// A Hash is a SHA-256 hash of a leaf or of an inner node.
type Hash [HashSize]byte

// LeafHash returns SHA-256(0x00 || value), RFC 6962, section 2.1.
func LeafHash(value []byte) Hash {
	h := sha256.New()
	h.Write([]byte{0})
	h.Write(value)
	var out Hash
	h.Sum(out[:0])
	return out
}

// NodeHash returns SHA-256(0x01 || left || right), RFC 6962, section 2.1.
func NodeHash(left, right Hash) Hash {
	var b [1 + 2*HashSize]byte
	b[0] = 1
	copy(b[1:], left[:])
	copy(b[1+HashSize:], right[:])
	return sha256.Sum256(b[:])
}

// emptyRoot is the root of a tree without leaves: SHA-256 of nothing.
var emptyRoot = Hash(sha256.Sum256(nil))

// A Leaf is what is added to a log.
type Leaf struct {
	Value []byte // hashed into the tree
	Extra []byte // stored beside Value, not hashed

	// ID tells equal submissions apart from different ones: a leaf whose ID
	// is known is found, not added again. Zero means the leaf hash.
	ID Hash

	// Keys are the search keys of the leaf, stored in the transaction that
	// stores the leaf. They lead to its leaf hash.
	Keys []string

	// Attestation is stored in the transaction that stores the leaf, by its
	// SHA-256, once for all leaves that have it. Empty stores nothing. It is in no
	// hash of the tree: whoever reads it compares it with what Value says.
	Attestation []byte
}

// An Entry is a leaf as it is stored.
type Entry struct {
	Index        uint64
	Time         time.Time // when it was integrated
	Value, Extra []byte
}

// A Record is what a Store keeps of an entry beside its search keys: what goes
// along when a log is copied from one storage to another.
type Record struct {
	Entry
	ID Hash // de-duplication identity; the leaf hash where a Leaf gave none
}

// A SearchKey leads from a search key to the entry with an index and a leaf hash.
type SearchKey struct {
	Name  string
	Index uint64
	Hash  Hash
}

// An Attestation is what a Store keeps beside the entries of a log.
type Attestation struct {
	Hash  Hash // SHA-256 of Bytes
	Bytes []byte
}

// Check says why the bytes are not those of the hash.
func (a Attestation) Check() error {
	if sum := sha256.Sum256(a.Bytes); sum != a.Hash {
		return fmt.Errorf("the attestation with hash %x hashes to %x", a.Hash, sum)
	}
	return nil
}

// A Span is a part of a log: the entries with an index of Begin and more, and less
// than End.
type Span struct{ Begin, End uint64 }

// A Head is the state of a tree.
type Head struct {
	Size uint64
	Root Hash
	Time time.Time // when its last entry was integrated; zero for an empty tree

	Frozen bool // nothing is ever added again: see Store.Freeze
}

// Next says why records cannot be the next entries of a log with this head: they
// lack one, or their time goes back.
func (h Head) Next(records []Record) error {
	last := h.Time
	for i, r := range records {
		if want := h.Size + uint64(i); r.Index != want {
			return fmt.Errorf("entry %d comes where entry %d should", r.Index, want)
		}
		if r.Time.Before(last) {
			return fmt.Errorf("entry %d has time %v, which is before %v, that of the entry before it", r.Index, r.Time, last)
		}
		last = r.Time
	}
	return nil
}

// Placed tells where a leaf of an Append lies.
type Placed struct {
	Index uint64
	Time  time.Time // when the entry was integrated
	Dup   bool      // the ID was known: Index and Time are those of the earlier entry
}

// A Store keeps the rows of one log. Append is called by one goroutine at a
// time; everything else may be called at any time.
type Store interface {
	// Head returns the newest durable state.
	Head(ctx context.Context) (Head, error)

	// Append adds the leaves in their order, all or none, and returns where
	// each lies and the head after it. It is durable when it returns without
	// error. A leaf whose ID is known, earlier in the log or in this batch,
	// is found, not added. After an error the outcome is unknown until Head
	// is read. ErrClock means that nothing was added, ErrIntegrity that the
	// store has less than it had, ErrFrozen that nothing is added any more.
	Append(ctx context.Context, leaves []Leaf) ([]Placed, Head, error)

	// Tile returns the first width hashes of a tile, 1 <= width <= 256: the
	// nodes 256*index ... of height 8*level (C2SP tlog-tiles).
	Tile(ctx context.Context, level int, index uint64, width int) ([]Hash, error)

	// Entries returns the entries of [begin, end) that exist, in order.
	Entries(ctx context.Context, begin, end uint64) ([]Entry, error)

	// Find returns the index of the entry with this leaf hash.
	Find(ctx context.Context, leafHash Hash) (index uint64, ok bool, err error)

	// Freeze ends the log: every Append after it, of whatever process, returns
	// ErrFrozen, and its head is the last one. It is durable when it returns
	// without error, and may be repeated. It is called where Append is.
	Freeze(ctx context.Context) error
}

// The classes of errors that a Log returns. Everything else is a fault of the
// caller's context.
var (
	// ErrUnavailable: the store, the signer or the clock is in trouble, or
	// the queue is full. The same call may succeed later.
	ErrUnavailable = errors.New("log temporarily unavailable")

	// ErrUnknown: whether the leaf was added is not known, to the log either.
	// Submitting it again finds out. It is always wrapped together with
	// ErrUnavailable, which without it says that nothing was added.
	ErrUnknown = errors.New("whether the entry was added is not known, submit it again to find out")

	// ErrIntegrity: what the store holds and what was signed before
	// contradict each other. The log does not sign any more until a person
	// has looked at it.
	ErrIntegrity = errors.New("log integrity violated")

	// ErrClock: the clock is behind the newest entry by more than
	// MaxClockStep. It is always wrapped together with ErrUnavailable by a Log.
	ErrClock = errors.New("clock is behind the newest entry of the log")

	// ErrFrozen: the log takes no more entries; what it has stays readable.
	ErrFrozen = errors.New("the log is frozen")

	// ErrNotFound: the tree has no such entry, or not yet.
	ErrNotFound = errors.New("not in the log")

	// ErrTooLarge: the leaf does not fit into a batch.
	ErrTooLarge = errors.New("entry too large for the log")
)

// MaxClockStep is how far the clock may be behind the newest entry and still
// be trusted: an entry then gets the time of the entry before it.
const MaxClockStep = time.Second

// Bounds of one batch. A batch is whatever arrived while the batch before it
// was being written, up to these.
const (
	MaxBatchLeaves = 1000
	MaxBatchBytes  = 4 << 20
)
