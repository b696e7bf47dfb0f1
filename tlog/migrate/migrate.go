// Package migrate imports logs that other servers of the Rekor v1 API have written.
//
//	api, err := migrate.NewAPI("https://rekor.example.com", http.DefaultClient)
//	trees, err := api.Trees(ctx)           // with the heads that the server has signed
//	report, err := migrate.Import(ctx, trees[0], store, migrate.Options{})
//
// An entry keeps its index, its time and its bytes, so that its UUID, its signed
// entry timestamp and the root of the tree are what they were. What the log is found
// by is read from its entries again. The other server is believed nothing: what it
// says leads to the root that it has signed, or the import fails.
package migrate

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/sigstack/sigstack/tlog"
	"github.com/sigstack/sigstack/tlog/entry"
	"github.com/sigstack/sigstack/tlog/rekor"
)

// A Tree is one tree of a log.
type Tree struct {
	ID   int64
	Size uint64
	Root tlog.Hash
	Key  *ecdsa.PublicKey // that has signed it; nil where the source does not know

	Source Source
}

// A Source has the entries of a tree.
type Source interface {
	// Entries returns entries from begin on, in order: at least one where there are
	// any, and at most so many.
	Entries(ctx context.Context, begin uint64, most int) ([]Entry, error)
}

// An Entry is one of a source. Its Extra is not looked at.
type Entry struct {
	tlog.Record
	Attestation []byte // nil where the source has none
}

// A Target is the store that becomes a copy of a tree.
type Target interface {
	Head(ctx context.Context) (tlog.Head, error)

	// Import adds the next records, all or none, durably.
	Import(ctx context.Context, records []tlog.Record) (tlog.Head, error)

	// ImportSearchKeys adds search keys, durably. One that is there stays.
	ImportSearchKeys(ctx context.Context, keys []tlog.SearchKey) error
}

// Options say how a tree is imported. All of them may be left out.
type Options struct {
	// Keep makes attestations durable, several of tlog.MaxBatchBytes at most, or one.
	// One that is there stays. Nil keeps none.
	Keep func(ctx context.Context, attestations []tlog.Attestation) error

	// Progress is told how many entries are there, each time that there are more.
	Progress func(done, total uint64)
}

// Import adds the entries of a tree that a store lacks, and compares the root. An
// import that was interrupted goes on behind what is there, and so does one of a tree
// that has grown. Nobody may write to the store meanwhile, or serve it: before it has
// the whole tree, it is not a log that anybody has signed.
//
// Of the entries that it adds some may be unread: of a kind or a form that this version
// does not know. They are in the tree all the same, and found by their index and their
// UUID alone.
func Import(ctx context.Context, tree Tree, to Target, opts Options) (unread uint64, err error) {
	head, err := to.Head(ctx)
	if err != nil {
		return unread, fmt.Errorf("reading the head of the target: %w", err)
	}
	if head.Size > tree.Size {
		return unread, fmt.Errorf("the target has %d entries, the source only %d: it is another tree, or has lost some", head.Size, tree.Size)
	}
	if head.Frozen && head.Size < tree.Size {
		return unread, fmt.Errorf("the source has got %d more entries since its tree was imported whole: %w", tree.Size-head.Size, tlog.ErrFrozen)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for batch := range read(ctx, tree, head.Size) {
		if batch.err != nil {
			return unread, fmt.Errorf("reading entries from %d on: %w", batch.begin, batch.err)
		}
		for _, part := range parts(batch.entries) {
			var n uint64
			if head, n, err = add(ctx, part, to, opts); err != nil {
				return unread, err
			}
			unread += n
			if opts.Progress != nil {
				opts.Progress(head.Size, tree.Size)
			}
		}
	}
	if err := ctx.Err(); err != nil {
		return unread, err
	}
	if head.Size != tree.Size || head.Root != tree.Root {
		return unread, fmt.Errorf("the %d entries that the source has shown lead to the root %x, and it has signed %x for %d entries: one of them is not what was logged",
			head.Size, head.Root, tree.Root, tree.Size)
	}
	return unread, nil
}

// fetched is what was read of a source, from begin on.
type fetched struct {
	begin   uint64
	entries []Entry
	err     error
}

// read reads the entries of a tree in order, one batch ahead of whoever takes them,
// until the context is done.
func read(ctx context.Context, tree Tree, next uint64) <-chan fetched {
	out := make(chan fetched, 1)
	go func() {
		defer close(out)
		for next < tree.Size {
			f := fetched{begin: next}
			f.entries, f.err = tree.Source.Entries(ctx, next, int(min(tree.Size-next, tlog.MaxBatchLeaves)))
			if f.err == nil && (len(f.entries) == 0 || uint64(len(f.entries)) > tree.Size-next) {
				f.err = errors.New("the source has not returned the entries that were asked for")
			}
			select {
			case out <- f:
			case <-ctx.Done():
				return
			}
			if f.err != nil {
				return
			}
			next += uint64(len(f.entries))
		}
	}()
	return out
}

// parts splits entries into those that fit a batch.
func parts(entries []Entry) (parts [][]Entry) {
	begin, size := 0, 0
	for i, e := range entries {
		n := len(e.Value) + len(e.Attestation)
		if i > begin && size+n > tlog.MaxBatchBytes {
			parts = append(parts, entries[begin:i])
			begin, size = i, 0
		}
		size += n
	}
	return append(parts, entries[begin:])
}

// add adds the next entries. A tree that has its last entry has everything: what they
// are found by, and what they attest, comes before them.
func add(ctx context.Context, entries []Entry, to Target, opts Options) (head tlog.Head, unread uint64, err error) {
	records := make([]tlog.Record, len(entries))
	var keys []tlog.SearchKey
	var attestations []tlog.Attestation
	for i, e := range entries {
		if len(e.Value) > tlog.MaxBatchBytes {
			return head, unread, fmt.Errorf("entry %d has %d bytes; an entry has at most %d", e.Index, len(e.Value), tlog.MaxBatchBytes)
		}
		kept, err := attested(e)
		if err != nil {
			return head, unread, fmt.Errorf("entry %d: %w", e.Index, err)
		}
		if kept != nil && opts.Keep != nil {
			attestations = append(attestations, *kept)
		}
		e.Extra = nil
		if kept != nil {
			if e.Extra, err = entry.Beside(e.Value, kept.Bytes); err != nil {
				return head, unread, fmt.Errorf("entry %d: %w", e.Index, err)
			}
		}
		records[i] = e.Record
		found, _, err := rekor.KeysOf(e.Record)
		if err != nil {
			unread++
		}
		keys = append(keys, found...)
	}
	if len(attestations) > 0 {
		if err := opts.Keep(ctx, attestations); err != nil {
			return head, unread, fmt.Errorf("keeping attestations: %w", err)
		}
	}
	if err := to.ImportSearchKeys(ctx, keys); err != nil {
		return head, unread, err
	}
	if head, err = to.Import(ctx, records); err != nil {
		return head, unread, fmt.Errorf("writing entries from %d on: %w", records[0].Index, err)
	}
	return head, unread, nil
}

// attested returns the attestation of an entry, nil where it has none. It has to be
// that which the entry names.
func attested(e Entry) (*tlog.Attestation, error) {
	if len(e.Attestation) == 0 {
		return nil, nil
	}
	sum, ok, err := entry.Attested(e.Value)
	if err != nil || !ok { // nobody would look for it
		return nil, nil
	}
	if got := sha256.Sum256(e.Attestation); got != sum {
		return nil, fmt.Errorf("the source has an attestation with SHA-256 %x, the entry names %x", got, sum)
	}
	return &tlog.Attestation{Hash: sum, Bytes: e.Attestation}, nil
}
