package rekor

import (
	"context"
	"fmt"
	"iter"

	"github.com/sigstack/sigstack/tlog"
	"github.com/sigstack/sigstack/tlog/entry"
)

// An IndexStore is a log whose search keys are rebuilt.
type IndexStore interface {
	Head(ctx context.Context) (tlog.Head, error)

	// Records returns records from begin on, in order: at most so many, and fewer
	// where they are large.
	Records(ctx context.Context, begin uint64, most int) ([]tlog.Record, error)

	// SearchKeys returns all search keys. An error is the last that it returns.
	SearchKeys(ctx context.Context) iter.Seq2[tlog.SearchKey, error]

	// MissingSearchKeys returns those of some search keys that are not there.
	MissingSearchKeys(ctx context.Context, keys []tlog.SearchKey) ([]tlog.SearchKey, error)

	// ImportSearchKeys adds search keys, in the place of another one of the same
	// name and entry, and RemoveSearchKeys removes them, durably.
	ImportSearchKeys(ctx context.Context, keys []tlog.SearchKey) error
	RemoveSearchKeys(ctx context.Context, keys []tlog.SearchKey) error
}

// An IndexReport is what a search index has, and what was wrong with it.
type IndexReport struct {
	Entries uint64
	Keys    uint64 // that the entries give
	Missing uint64 // of those
	Stray   uint64 // keys that were there, and that no entry gives

	// Kept are keys of statements whose entries were added before they were kept
	// beside the entry: nothing tells whether all are there, and all are right.
	Kept uint64

	// Unread are entries of another log that this version does not read. They have no
	// search keys.
	Unread uint64
}

// A rebuild is one that is under way.
type rebuild struct {
	store  IndexStore
	repair bool
	tell   func(what string, key tlog.SearchKey)
	report IndexReport

	head   tlog.Head
	given  map[uint64]given // by entry; some of those that were looked at last
	broken []tlog.SearchKey
}

// given is what an entry gives.
type given struct {
	keys  map[tlog.SearchKey]bool
	whole bool // there are no others
}

const (
	// rebuildBatch bounds the search keys that are looked for or changed at once.
	rebuildBatch = 1000
	// rebuildCache bounds the entries whose keys are remembered.
	rebuildCache = 10_000
)

// RebuildIndex compares the search keys of a log with those that its entries give. It
// tells each key that is "missing" and each that is "stray", and with repair adds the
// ones and removes the others: afterwards the index is, byte for byte, the one that
// was written with the entries. Entries may be added meanwhile.
//
// It believes what the store says of the entries; that is not checked against the
// tree.
func RebuildIndex(ctx context.Context, store IndexStore, repair bool, tell func(what string, key tlog.SearchKey)) (IndexReport, error) {
	r := &rebuild{store: store, repair: repair, tell: tell, given: make(map[uint64]given)}
	var err error
	if r.head, err = store.Head(ctx); err != nil {
		return r.report, fmt.Errorf("reading the head: %w", err)
	}
	r.report.Entries = r.head.Size
	if err := r.missing(ctx); err != nil {
		return r.report, err
	}
	return r.report, r.stray(ctx)
}

// KeysOf returns the search keys that are stored of an entry. They are whole unless
// they may lack those of a statement, see [entry.StoredKeys].
func KeysOf(rec tlog.Record) (keys []tlog.SearchKey, whole bool, err error) {
	names, whole, err := entry.StoredKeys(rec.Value, rec.Extra)
	if err != nil {
		return nil, false, fmt.Errorf("entry %d: %w", rec.Index, err)
	}
	hash := tlog.LeafHash(rec.Value)
	for _, name := range stored(names) {
		keys = append(keys, tlog.SearchKey{Name: name, Index: rec.Index, Hash: hash})
	}
	return keys, whole, nil
}

// missing looks for every key that an entry gives.
func (r *rebuild) missing(ctx context.Context) error {
	var batch []tlog.SearchKey
	flush := func() error {
		missing, err := r.store.MissingSearchKeys(ctx, batch)
		if err != nil {
			return err
		}
		for _, key := range missing {
			r.tell("missing", key)
		}
		r.report.Keys += uint64(len(batch))
		r.report.Missing += uint64(len(missing))
		batch = batch[:0]
		if r.repair {
			return r.store.ImportSearchKeys(ctx, missing)
		}
		return nil
	}
	for next := uint64(0); next < r.head.Size; {
		records, err := r.store.Records(ctx, next, int(min(r.head.Size-next, tlog.MaxBatchLeaves)))
		if err != nil {
			return fmt.Errorf("reading entries from %d on: %w", next, err)
		}
		if len(records) == 0 || records[0].Index != next {
			return fmt.Errorf("there is no entry %d", next)
		}
		for _, rec := range records {
			keys, _, err := KeysOf(rec)
			if err != nil {
				r.report.Unread++
			}
			if batch = append(batch, keys...); len(batch) >= rebuildBatch {
				if err := flush(); err != nil {
					return err
				}
			}
		}
		next += uint64(len(records))
	}
	return flush()
}

// stray looks for every key that no entry gives.
func (r *rebuild) stray(ctx context.Context) error {
	// Every key that is given is there, or was told: where there are no more, each of
	// them need not be looked at.
	there := uint64(0)
	late := false
	for key, err := range r.store.SearchKeys(ctx) {
		if err != nil {
			return fmt.Errorf("reading search keys: %w", err)
		}
		there++
		late = late || key.Index >= r.head.Size
	}
	had := r.report.Keys
	if !r.repair {
		had -= r.report.Missing
	}
	if there == had && !late {
		return nil
	}
	for key, err := range r.store.SearchKeys(ctx) {
		if err != nil {
			return fmt.Errorf("reading search keys: %w", err)
		}
		known, whole, err := r.gives(ctx, key)
		switch {
		case err != nil:
			return err
		case known:
		case !whole:
			r.report.Kept++
		default:
			r.report.Stray++
			r.tell("stray", key)
			r.broken = append(r.broken, key)
		}
		if len(r.broken) == rebuildBatch {
			if err := r.remove(ctx); err != nil {
				return err
			}
		}
	}
	return r.remove(ctx)
}

func (r *rebuild) remove(ctx context.Context) error {
	broken := r.broken
	r.broken = nil
	if !r.repair || len(broken) == 0 {
		return nil
	}
	return r.store.RemoveSearchKeys(ctx, broken)
}

// gives says whether the entry of a key gives it, and otherwise whether that is all
// that the entry gives. A key of a statement is a digest, and leads to the leaf of its
// entry.
func (r *rebuild) gives(ctx context.Context, key tlog.SearchKey) (known, whole bool, err error) {
	if key.Index >= r.head.Size { // it may have come meanwhile
		if r.head, err = r.store.Head(ctx); err != nil {
			return false, false, fmt.Errorf("reading the head: %w", err)
		}
		if key.Index >= r.head.Size {
			return false, true, nil
		}
	}
	g, ok := r.given[key.Index]
	if !ok {
		records, err := r.store.Records(ctx, key.Index, 1)
		if err != nil {
			return false, false, fmt.Errorf("reading entry %d: %w", key.Index, err)
		}
		if len(records) != 1 || records[0].Index != key.Index {
			return false, false, fmt.Errorf("there is no entry %d", key.Index)
		}
		keys, whole, err := KeysOf(records[0])
		if err != nil {
			whole = true // it gives none
		}
		g = given{make(map[tlog.SearchKey]bool, len(keys)), whole}
		for _, k := range keys {
			g.keys[k] = true
		}
		if !whole {
			g.keys[tlog.SearchKey{Index: key.Index, Hash: tlog.LeafHash(records[0].Value)}] = true
		}
		if len(r.given) >= rebuildCache {
			clear(r.given)
		}
		r.given[key.Index] = g
	}
	if g.keys[key] {
		return true, true, nil
	}
	ours := g.keys[tlog.SearchKey{Index: key.Index, Hash: key.Hash}]
	return false, g.whole || !ours || !entry.IsDigestKey(key.Name), nil
}
