package ct

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/sigstack/sigstack/tlog"
)

// A SignedTreeHead is an STH of version 1 (RFC 6962, section 3.5).
type SignedTreeHead struct {
	Size      uint64
	Timestamp uint64 // milliseconds since 1970 UTC
	Root      [sha256.Size]byte
	Signature []byte // DigitallySigned
}

// signed returns the bytes that an STH signs (RFC 6962, section 3.5).
func (h SignedTreeHead) signed() []byte {
	b := make([]byte, 0, 50)
	b = append(b, 0, 1) // version v1, signature type tree hash
	b = binary.BigEndian.AppendUint64(b, h.Timestamp)
	b = binary.BigEndian.AppendUint64(b, h.Size)
	return append(b, h.Root[:]...)
}

// maxDisorder is how many entries may lie between two that got their
// timestamps in the other order: those that can wait for the committing
// goroutine of the log, and those of the batch that it writes.
const maxDisorder = 5 * tlog.MaxBatchLeaves

// STH returns the signed tree head of the published tree. It is signed when
// it is first asked for after the tree has grown.
func (l *Log) STH(ctx context.Context) (SignedTreeHead, error) {
	tree, err := l.log.Latest(ctx)
	if err != nil {
		return SignedTreeHead{}, err
	}
	if sth := l.sth.Load(); sth != nil && sth.Size == tree.Size {
		return *sth, nil
	}
	l.signing.Lock()
	defer l.signing.Unlock()
	tree = l.log.Published() // what others have published while this one waited
	last := l.sth.Load()
	if last != nil && last.Size == tree.Size {
		return *last, nil
	}
	if err := l.catchUp(ctx, tree.Size); err != nil {
		return SignedTreeHead{}, err
	}
	l.clock.Lock()
	floor := l.clock.newest
	l.clock.Unlock()
	if tree.Size > 0 {
		floor = max(floor, uint64(max(0, tree.Time.UnixMilli())))
	}
	if last != nil {
		floor = max(floor, last.Timestamp+1)
	}
	sth := SignedTreeHead{Size: tree.Size, Root: tree.Root}
	if sth.Timestamp, err = l.notBefore(floor); err != nil {
		return SignedTreeHead{}, err
	}
	if sth.Signature, err = l.sign(sth.signed()); err != nil {
		return SignedTreeHead{}, fmt.Errorf("%w: signing a tree head: %w", tlog.ErrUnavailable, err)
	}
	l.sth.Store(&sth)
	return sth, nil
}

// catchUp reads the timestamps of entries that another process may have
// logged: the one before this one, or a replica.
func (l *Log) catchUp(ctx context.Context, size uint64) error {
	begin := l.signing.read
	if size > maxDisorder {
		begin = max(begin, size-maxDisorder)
	}
	var newest uint64
	for begin < size {
		entries, err := l.log.Entries(ctx, begin, min(begin+chunk, size))
		if err != nil {
			return err
		}
		for _, e := range entries {
			leaf, err := ParseLeaf(e.Value)
			if err != nil {
				return fmt.Errorf("%w: entry %d: %w", tlog.ErrIntegrity, e.Index, err)
			}
			newest = max(newest, leaf.Timestamp)
		}
		begin += uint64(len(entries))
	}
	l.clock.Lock()
	l.clock.newest = max(l.clock.newest, newest)
	l.clock.Unlock()
	l.signing.read = size
	return nil
}

// Size returns the size of the published tree.
func (l *Log) Size() uint64 { return l.log.Published().Size }

// Consistency returns the proof (RFC 6962, section 2.1.2) that the tree of
// size first is a prefix of the tree of size second. It is empty where first
// is zero or equal to second. It returns tlog.ErrNotFound for sizes that the
// published tree does not have.
func (l *Log) Consistency(ctx context.Context, first, second uint64) ([]tlog.Hash, error) {
	tree, err := l.log.Reaching(ctx, second)
	if err != nil {
		return nil, err
	}
	return tree.Consistency(ctx, first, second)
}

// ProofByHash returns where the entry with a leaf hash lies, and its audit
// path (RFC 6962, section 2.1.1) in the tree of the given size. It returns
// tlog.ErrNotFound where that tree has no such leaf.
func (l *Log) ProofByHash(ctx context.Context, hash tlog.Hash, size uint64) (index uint64, path []tlog.Hash, err error) {
	if index, err = l.log.Find(ctx, hash); err != nil {
		return 0, nil, err
	}
	tree, err := l.log.Reaching(ctx, size)
	if err != nil {
		return 0, nil, err
	}
	path, err = tree.Inclusion(ctx, index, size)
	return index, path, err
}

// An Entry is an entry as get-entries shows it (RFC 6962, section 4.6).
type Entry struct {
	LeafInput []byte // MerkleTreeLeaf
	ExtraData []byte
}

// Bounds of what one call of Entries reads.
const (
	chunk         = 100     // entries at a time
	maxEntryBytes = 8 << 20 // no further chunk is read after this
)

// Entries returns published entries from start on: those before end, or
// fewer. It returns at least one, or tlog.ErrNotFound.
func (l *Log) Entries(ctx context.Context, start, end uint64) ([]Entry, error) {
	var out []Entry
	for bytes := 0; len(out) == 0 || start < end && bytes < maxEntryBytes; {
		entries, err := l.log.Entries(ctx, start, min(start+chunk, end))
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			_, extra, err := splitExtra(e.Extra)
			if err != nil {
				return nil, fmt.Errorf("%w: entry %d: %w", tlog.ErrIntegrity, e.Index, err)
			}
			out = append(out, Entry{LeafInput: e.Value, ExtraData: extra})
			bytes += len(e.Value) + len(extra)
		}
		if start += uint64(len(entries)); start >= l.Size() {
			break
		}
	}
	return out, nil
}

// EntryAndProof returns an entry and its audit path in the tree of the given
// size (RFC 6962, section 4.8), or tlog.ErrNotFound.
func (l *Log) EntryAndProof(ctx context.Context, index, size uint64) (Entry, []tlog.Hash, error) {
	tree, err := l.log.Reaching(ctx, size)
	if err != nil {
		return Entry{}, nil, err
	}
	path, err := tree.Inclusion(ctx, index, size)
	if err != nil {
		return Entry{}, nil, err
	}
	entries, err := l.Entries(ctx, index, index+1)
	if err != nil {
		return Entry{}, nil, err
	}
	return entries[0], path, nil
}
