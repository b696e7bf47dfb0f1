package rekor

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/sigstack/sigstack/tlog"
	"github.com/sigstack/sigstack/tlog/entry"
)

// A LogEntry is an entry together with everything that proves it. Its bytes are
// shared with other answers about the entry: nobody changes them.
type LogEntry struct {
	UUID           string // 80 lower-case hexadecimal digits
	Body           []byte // canonical JSON: the leaf value
	IntegratedTime int64  // seconds since 1970 UTC
	LogID          string // 64 lower-case hexadecimal digits
	LogIndex       uint64 // virtual
	Proof          InclusionProof
	SET            []byte // signed entry timestamp, ASN.1 DER

	// Attestation is what the entry was made of, where that is kept. It is not in
	// the answer to who has just sent it.
	Attestation []byte

	attested *tlog.Hash // the hash of the attestation; nil for a kind that has none
}

// An InclusionProof proves that a leaf is in the tree of a checkpoint (RFC
// 6962, section 2.1.1).
type InclusionProof struct {
	Index, Size uint64 // of the leaf, and of the tree
	Root        tlog.Hash
	Hashes      []tlog.Hash // audit path, from the leaf's sibling up
	Checkpoint  []byte      // the signed note for Size and Root
}

// ErrExists is what an ExistsError is.
var ErrExists = errors.New("an equivalent entry already exists in the transparency log")

// An ExistsError is the refusal of an entry whose leaf hash the log has.
type ExistsError struct{ UUID string } // of the entry that is there; it can be fetched

func (e *ExistsError) Error() string { return ErrExists.Error() + " with UUID " + e.UUID }

// Is makes errors.Is(err, ErrExists) true.
func (e *ExistsError) Is(target error) bool { return target == ErrExists }

// Create adds an entry and returns it once it is durable and included in a
// published checkpoint.
//
// It returns an ExistsError for an entry that is there already, and the errors
// of [tlog.Log.Add]. Where the signer fails after the entry was stored, that is
// tlog.ErrUnknown to the caller, too: submitting the entry again gives an
// ExistsError, and fetching it a new signature.
func (l *Log) Create(ctx context.Context, e *entry.Entry) (*LogEntry, error) {
	for {
		s := l.active()
		created, err := l.createIn(ctx, s, e)
		if !errors.Is(err, tlog.ErrFrozen) {
			return created, err
		}
		if _, err := l.follow(ctx, s); err != nil {
			return nil, err
		}
	}
}

// createIn adds an entry to a shard.
func (l *Log) createIn(ctx context.Context, s *shard, e *entry.Entry) (*LogEntry, error) {
	leaf := tlog.Leaf{Value: e.Body, Extra: e.Extra, Keys: stored(e.Keys)}
	attested, err := l.keep(ctx, s, e, &leaf)
	if err != nil {
		return nil, err
	}
	in, err := s.Log.Add(ctx, leaf)
	if err != nil {
		return nil, err
	}
	uuid := s.uuid(tlog.LeafHash(e.Body))
	if in.Dup {
		return nil, &ExistsError{UUID: uuid}
	}
	signed, err := l.sign(s, uuid, tlog.Entry{Index: in.Index, Time: in.Time, Value: e.Body}, attested)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", tlog.ErrUnknown, err)
	}
	return signed.in(s, in.Tree, in.Proof), nil
}

// ByIndex returns the entry with a virtual index, or tlog.ErrNotFound.
func (l *Log) ByIndex(ctx context.Context, index uint64) (*LogEntry, error) {
	if index >= math.MaxInt64 { // no tree is that large, and no store counts further
		return nil, fmt.Errorf("%w: no entry %d", tlog.ErrNotFound, index)
	}
	for {
		s := l.holding(index)
		e, err := l.get(ctx, s, index-s.base)
		if !errors.Is(err, tlog.ErrNotFound) {
			return e, err
		}
		more, failed := l.follow(ctx, s)
		if failed != nil {
			return nil, failed
		}
		if !more {
			return nil, err
		}
	}
}

// holding returns the shard that has a virtual index, or will have it.
func (l *Log) holding(index uint64) *shard {
	all := l.all()
	s := all[0] // has index 0
	for _, later := range all[1:] {
		if later.base <= index {
			s = later
		}
	}
	return s
}

// get returns the entry with an index of a shard.
func (l *Log) get(ctx context.Context, s *shard, index uint64) (*LogEntry, error) {
	e, ok := l.recent.get(s.base + index)
	if !ok {
		entries, err := s.Log.Entries(ctx, index, index+1)
		if err != nil {
			return nil, err
		}
		if e, err = l.sign(s, s.uuid(tlog.LeafHash(entries[0].Value)), entries[0], attested(entries[0].Value)); err != nil {
			return nil, err
		}
	}
	// A published tree is a prefix of those after it, so this one has the
	// entry, too.
	tree := s.Log.Published()
	proof, err := tree.Inclusion(ctx, index, tree.Size)
	if err != nil {
		return nil, err
	}
	out := e.in(s, tree, proof)
	out.Attestation, err = l.attestation(ctx, s, e)
	return out, err
}

// Range returns the entries with the virtual indices of [begin, end) that are
// published, in order and in one tree, or tlog.ErrNotFound where there is none.
func (l *Log) Range(ctx context.Context, begin, end uint64) ([]*LogEntry, error) {
	for {
		s := l.holding(begin)
		out, err := l.rangeOf(ctx, s, begin-s.base, end-s.base)
		if !errors.Is(err, tlog.ErrNotFound) {
			return out, err
		}
		more, failed := l.follow(ctx, s)
		if failed != nil {
			return nil, failed
		}
		if !more {
			return nil, err
		}
	}
}

// rangeOf returns entries of a shard, by its own indices.
func (l *Log) rangeOf(ctx context.Context, s *shard, begin, end uint64) ([]*LogEntry, error) {
	tree, err := s.Log.Reaching(ctx, end)
	if err != nil {
		return nil, err
	}
	if end = min(end, tree.Size); begin >= end {
		return nil, fmt.Errorf("%w: no entry %d", tlog.ErrNotFound, s.base+begin)
	}
	out := make([]*LogEntry, 0, end-begin)
	var read []tlog.Entry // those from the first one on that is not remembered
	for at := begin; at < end; at++ {
		e, ok := l.recent.get(s.base + at)
		if !ok && read == nil {
			if read, err = s.Log.Entries(ctx, at, end); err != nil {
				return nil, err
			}
		}
		if !ok {
			stored := read[uint64(len(read))-(end-at)]
			if e, err = l.sign(s, s.uuid(tlog.LeafHash(stored.Value)), stored, attested(stored.Value)); err != nil {
				return nil, err
			}
		}
		proof, err := tree.Inclusion(ctx, at, tree.Size)
		if err != nil {
			return nil, err
		}
		out = append(out, e.in(s, tree, proof))
	}
	return out, nil
}

// ByUUID returns the entry with a UUID of 64 or 80 hexadecimal digits in any
// case. It returns tlog.ErrNotFound also for a tree that is not this log's, and
// an InputError for what is not a UUID.
func (l *Log) ByUUID(ctx context.Context, uuid string) (*LogEntry, error) {
	id, err := ParseID(uuid)
	if err != nil {
		return nil, err
	}
	return l.ByID(ctx, id)
}

// ByID returns the entry with an ID, or tlog.ErrNotFound. Where the ID does not say
// which tree, it is the newest that has the entry.
func (l *Log) ByID(ctx context.Context, id ID) (*LogEntry, error) {
	for all := l.all(); ; {
		for _, s := range slices.Backward(all) {
			if id.Tree != 0 && id.Tree != s.TreeID {
				continue
			}
			index, err := s.Log.Find(ctx, id.Leaf)
			if err == nil {
				return l.get(ctx, s, index)
			}
			if !errors.Is(err, tlog.ErrNotFound) {
				return nil, err
			}
		}
		now, err := l.newest(ctx)
		if err != nil {
			return nil, err
		}
		if len(now) == len(all) {
			return nil, fmt.Errorf("%w: no entry %s", tlog.ErrNotFound, id)
		}
		all = now
	}
}

// sign returns an entry of a shard with its SET and without a proof, and remembers
// it.
func (l *Log) sign(s *shard, uuid string, e tlog.Entry, attested *tlog.Hash) (*LogEntry, error) {
	out := &LogEntry{UUID: uuid, Body: e.Value, IntegratedTime: e.Time.Unix(), LogID: s.logID, LogIndex: s.base + e.Index, attested: attested}
	digest := sha256.Sum256(out.signedText())
	var err error
	out.SET, err = s.Signer.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("%w: signing entry %d: %w", tlog.ErrUnavailable, out.LogIndex, err)
	}
	if !s.local && !ecdsa.VerifyASN1(s.key, digest[:], out.SET) {
		return nil, fmt.Errorf("%w: signing entry %d: what the signer returned does not verify with its public key", tlog.ErrUnavailable, out.LogIndex)
	}
	l.recent.put(out)
	return out, nil
}

// in returns the entry with its proof in a tree of its shard.
func (e *LogEntry) in(s *shard, tree *tlog.Tree, proof []tlog.Hash) *LogEntry {
	out := *e
	out.Proof = InclusionProof{Index: e.LogIndex - s.base, Size: tree.Size, Root: tree.Root, Hashes: proof, Checkpoint: tree.Checkpoint}
	return &out
}

// signedText returns the text that the SET signs: an object with the members
// in this order and without white space is its own canonical form (RFC 8785),
// because base64 and hexadecimal need no escapes and a canonical number below
// 2^53 is its decimal digits.
func (e *LogEntry) signedText() []byte {
	const fixed = len(`{"body":"","integratedTime":,"logID":"","logIndex":}`) + 2*20
	b := make([]byte, 0, fixed+base64.StdEncoding.EncodedLen(len(e.Body))+len(e.LogID))
	b = append(b, `{"body":"`...)
	b = base64.StdEncoding.AppendEncode(b, e.Body)
	b = append(b, `","integratedTime":`...)
	b = strconv.AppendInt(b, e.IntegratedTime, 10)
	b = append(b, `,"logID":"`...)
	b = append(b, e.LogID...)
	b = append(b, `","logIndex":`...)
	b = strconv.AppendUint(b, e.LogIndex, 10)
	return append(b, '}')
}
