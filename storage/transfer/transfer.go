// Package transfer copies logs and audit rows from one storage to another,
// record by record, so that nobody who has seen the one can tell it from the
// other: an entry keeps its index, its time, its bytes and its identity, so that
// the roots are equal, and UUIDs, signed entry timestamps and proofs stay valid.
//
//	size, err := transfer.Begun(ctx, from, to)         // what the target has is a beginning of the source
//	err = transfer.SearchKeys(ctx, from, to)
//	err = transfer.Attestations(ctx, from, to)
//	err = transfer.Entries(ctx, from, to, progress)
//	result, err := transfer.Compare(ctx, from, to, size)
//
// Nothing may write to either side meanwhile; keeping others away is the affair
// of the caller. So is the tree ID, with which the caller opens the target, and
// the second memory: it is to hold a checkpoint of the whole source before the
// first entry is copied, so that a server that is started on half a copy finds
// fewer entries than were signed and refuses to go on.
//
// For the same reason search keys and attestations are copied before entries: a
// log that has its last entry has everything.
//
// A copy that was interrupted is begun again, and goes on behind what is there.
// What is there is compared with the source, not trusted. A batch has at most
// 1,000 entries and 4 MiB; what is in memory does not grow with the log.
//
// [Compare] reads every record of both sides again. It hashes those of the
// target into the tree, compares each of its stored tiles with that, and the
// root with what both sides say.
package transfer

import (
	"bytes"
	"context"
	"fmt"
	"iter"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/sigstack/sigstack/tlog"
)

// A Source is a log that is copied.
type Source interface {
	Head(ctx context.Context) (tlog.Head, error)

	// Records returns records from begin on, in order: at most so many, and
	// after the first no more than tlog.MaxBatchBytes. None means the end.
	Records(ctx context.Context, begin uint64, most int) ([]tlog.Record, error)

	// SearchKeys returns all search keys, in the order of the bytes of the name and
	// then of the index. An error is the last that it returns.
	SearchKeys(ctx context.Context) iter.Seq2[tlog.SearchKey, error]

	// Attestations returns all attestations, in the order of their hashes. An
	// error is the last that it returns.
	Attestations(ctx context.Context) iter.Seq2[tlog.Attestation, error]
}

// A Target is a log that becomes a copy.
type Target interface {
	Source

	// Import adds the next records, all or none, durably.
	Import(ctx context.Context, records []tlog.Record) (tlog.Head, error)

	// ImportSearchKeys adds search keys, durably. One that is there stays.
	ImportSearchKeys(ctx context.Context, keys []tlog.SearchKey) error

	// ImportAttestations adds attestations, durably: one, or several of
	// tlog.MaxBatchBytes at most. One that is there stays.
	ImportAttestations(ctx context.Context, attestations []tlog.Attestation) error

	// Tile is that of tlog.Store.
	Tile(ctx context.Context, level int, index uint64, width int) ([]tlog.Hash, error)

	// Freeze is that of tlog.Store.
	Freeze(ctx context.Context) error
}

// Progress is told how much of a log is copied.
type Progress func(done, total uint64)

// Begun returns how many entries a target has, all of which are those of the
// source. It is an error if they are not, and says which is the first.
func Begun(ctx context.Context, from, to Source) (uint64, error) {
	theirs, err := from.Head(ctx)
	if err != nil {
		return 0, fmt.Errorf("reading the head of the source: %w", err)
	}
	ours, err := to.Head(ctx)
	if err != nil {
		return 0, fmt.Errorf("reading the head of the target: %w", err)
	}
	if ours.Size > theirs.Size {
		return 0, fmt.Errorf("the target has %d entries, the source only %d", ours.Size, theirs.Size)
	}
	tree := newTree()
	if err := sameRecords(ctx, from, to, ours.Size, tree.add); err != nil {
		return 0, err
	}
	root, err := tree.root()
	if err != nil {
		return 0, err
	}
	if root != ours.Root {
		return 0, fmt.Errorf("the %d entries of the target lead to root %x, its head says %x", ours.Size, root, ours.Root)
	}
	return ours.Size, nil
}

// SearchKeys copies all search keys.
func SearchKeys(ctx context.Context, from Source, to Target) error {
	some := make([]tlog.SearchKey, 0, keyBatch)
	for key, err := range from.SearchKeys(ctx) {
		if err != nil {
			return fmt.Errorf("reading search keys: %w", err)
		}
		if some = append(some, key); len(some) == keyBatch {
			if err := to.ImportSearchKeys(ctx, some); err != nil {
				return err
			}
			some = some[:0]
		}
	}
	return to.ImportSearchKeys(ctx, some)
}

// keyBatch is how many search keys are written at once.
const keyBatch = 1000

// Attestations copies all attestations. One whose bytes are not those of its hash
// is an error.
func Attestations(ctx context.Context, from Source, to Target) error {
	var some []tlog.Attestation
	size := 0
	for a, err := range from.Attestations(ctx) {
		if err == nil {
			err = a.Check()
		}
		if err != nil {
			return fmt.Errorf("reading attestations: %w", err)
		}
		if size += len(a.Bytes); len(some) == attestationBatch || size > tlog.MaxBatchBytes && len(some) > 0 {
			if err := to.ImportAttestations(ctx, some); err != nil {
				return err
			}
			some, size = some[:0], len(a.Bytes)
		}
		some = append(some, a)
	}
	return to.ImportAttestations(ctx, some)
}

// attestationBatch is how many attestations are written at once.
const attestationBatch = 1000

// Entries copies the entries that the target lacks.
func Entries(ctx context.Context, from Source, to Target, progress Progress) error {
	end, err := from.Head(ctx)
	if err != nil {
		return fmt.Errorf("reading the head of the source: %w", err)
	}
	head, err := to.Head(ctx)
	if err != nil {
		return fmt.Errorf("reading the head of the target: %w", err)
	}
	records := reader{from: from, next: head.Size, end: end.Size}
	for head.Size < end.Size {
		batch, err := records.batch(ctx)
		if err != nil {
			return fmt.Errorf("source: %w", err)
		}
		if head, err = to.Import(ctx, batch); err != nil {
			return fmt.Errorf("writing entries from %d on: %w", batch[0].Index, err)
		}
		progress(head.Size, end.Size)
	}
	if end.Frozen && !head.Frozen {
		if err := to.Freeze(ctx); err != nil {
			return fmt.Errorf("freezing the target: %w", err)
		}
	}
	return nil
}

// A Result is what two equal logs have.
type Result struct {
	Size         uint64
	Root         tlog.Hash
	Keys         uint64 // search keys
	Attestations uint64
}

// Compare returns an error unless both sides are equal in everything, and the
// tiles and the root of the target are what its entries lead to.
func Compare(ctx context.Context, from Source, to Target) (Result, error) {
	theirs, err := from.Head(ctx)
	if err != nil {
		return Result{}, fmt.Errorf("reading the head of the source: %w", err)
	}
	ours, err := to.Head(ctx)
	if err != nil {
		return Result{}, fmt.Errorf("reading the head of the target: %w", err)
	}
	if ours.Size != theirs.Size || ours.Root != theirs.Root || !ours.Time.Equal(theirs.Time) {
		return Result{}, fmt.Errorf("the target has %d entries, root %x and time %v, the source %d, %x and %v",
			ours.Size, ours.Root, ours.Time, theirs.Size, theirs.Root, theirs.Time)
	}
	if ours.Frozen != theirs.Frozen {
		return Result{}, fmt.Errorf("one of the two takes no more entries (frozen: the target %v, the source %v)", ours.Frozen, theirs.Frozen)
	}
	tree := newTree()
	tree.tile = func(level int, index uint64, hashes []tlog.Hash) error {
		stored, err := to.Tile(ctx, level, index, len(hashes))
		if err != nil {
			return fmt.Errorf("reading tile %d/%d of the target: %w", level, index, err)
		}
		if len(stored) != len(hashes) {
			return fmt.Errorf("tile %d/%d of the target has %d hashes, want %d", level, index, len(stored), len(hashes))
		}
		for i, h := range hashes {
			if stored[i] != h {
				return fmt.Errorf("hash %d of tile %d/%d of the target is %x, its entries lead to %x", i, level, index, stored[i], h)
			}
		}
		return nil
	}
	if err := sameRecords(ctx, from, to, theirs.Size, tree.add); err != nil {
		return Result{}, err
	}
	if err := tree.partialTiles(); err != nil {
		return Result{}, err
	}
	root, err := tree.root()
	if err != nil {
		return Result{}, err
	}
	if root != theirs.Root {
		return Result{}, fmt.Errorf("the %d entries lead to root %x, the head says %x", theirs.Size, root, theirs.Root)
	}
	keys, err := sameKeys(ctx, from, to)
	if err != nil {
		return Result{}, err
	}
	attestations, err := sameAttestations(ctx, from, to)
	return Result{Size: theirs.Size, Root: root, Keys: keys, Attestations: attestations}, err
}

// sameRecords compares the first records of both sides and calls f with each.
func sameRecords(ctx context.Context, from, to Source, size uint64, f func(tlog.Record) error) error {
	a, b := reader{from: from, end: size}, reader{from: to, end: size}
	var theirs, ours []tlog.Record
	for n := uint64(0); n < size; n++ {
		var err error
		if len(theirs) == 0 {
			if theirs, err = a.batch(ctx); err != nil {
				return fmt.Errorf("source: %w", err)
			}
		}
		if len(ours) == 0 {
			if ours, err = b.batch(ctx); err != nil {
				return fmt.Errorf("target: %w", err)
			}
		}
		if what := differ(theirs[0], ours[0]); what != "" {
			return fmt.Errorf("entry %d of the target is not the source's: its %s differs", n, what)
		}
		if err := f(ours[0]); err != nil {
			return err
		}
		theirs, ours = theirs[1:], ours[1:]
	}
	return nil
}

// differ names what differs between two records, "" if nothing does.
func differ(a, b tlog.Record) string {
	switch {
	case a.Index != b.Index:
		return "index"
	case !bytes.Equal(a.Value, b.Value):
		return "value"
	case !bytes.Equal(a.Extra, b.Extra):
		return "extra data"
	case !a.Time.Equal(b.Time):
		return "time"
	case a.ID != b.ID:
		return "identity"
	}
	return ""
}

// A reader reads the records of a log before end, a batch at a time.
type reader struct {
	from      Source
	next, end uint64
	last      int // how many the last batch had
}

// batch returns the next records, at least one. It asks for twice as many as the
// last time at most: what is read beyond the bytes of a batch is thrown away.
func (r *reader) batch(ctx context.Context) ([]tlog.Record, error) {
	most := tlog.MaxBatchLeaves
	if r.last > 0 {
		most = min(most, 2*r.last)
	}
	most = int(min(uint64(most), r.end-r.next))
	records, err := r.from.Records(ctx, r.next, most)
	if err != nil {
		return nil, fmt.Errorf("reading entries from %d on: %w", r.next, err)
	}
	if len(records) == 0 || records[0].Index != r.next {
		return nil, fmt.Errorf("there is no entry %d", r.next)
	}
	r.next, r.last = r.next+uint64(len(records)), len(records)
	return records, nil
}

// sameKeys compares all search keys of both sides, and returns how many there
// are.
func sameKeys(ctx context.Context, from, to Source) (n uint64, err error) {
	theirs, stop := iter.Pull2(from.SearchKeys(ctx))
	defer stop()
	ours, stop := iter.Pull2(to.SearchKeys(ctx))
	defer stop()
	for ; ; n++ {
		their, err, more := theirs()
		if err != nil {
			return n, fmt.Errorf("reading search keys of the source: %w", err)
		}
		our, err, ourMore := ours()
		if err != nil {
			return n, fmt.Errorf("reading search keys of the target: %w", err)
		}
		switch {
		case !more && !ourMore:
			return n, nil
		case !ourMore:
			return n, fmt.Errorf("the target lacks search key %q of leaf %x", their.Name, their.Hash)
		case !more || their != our:
			return n, fmt.Errorf("the target has search key %q of leaf %x where the source has another one, or none", our.Name, our.Hash)
		}
	}
}

// sameAttestations compares all attestations of both sides, and returns how many
// there are.
func sameAttestations(ctx context.Context, from, to Source) (n uint64, err error) {
	theirs, stop := iter.Pull2(from.Attestations(ctx))
	defer stop()
	ours, stop := iter.Pull2(to.Attestations(ctx))
	defer stop()
	for ; ; n++ {
		their, err, more := theirs()
		if err != nil {
			return n, fmt.Errorf("reading attestations of the source: %w", err)
		}
		our, err, ourMore := ours()
		if err != nil {
			return n, fmt.Errorf("reading attestations of the target: %w", err)
		}
		switch {
		case !more && !ourMore:
			return n, nil
		case !ourMore:
			return n, fmt.Errorf("the target lacks the attestation with hash %x", their.Hash)
		case !more || their.Hash != our.Hash:
			return n, fmt.Errorf("the target has the attestation with hash %x where the source has another one, or none", our.Hash)
		case !bytes.Equal(their.Bytes, our.Bytes):
			return n, fmt.Errorf("the attestation with hash %x of the target is not the source's", our.Hash)
		}
	}
}

// tileHeight and tileWidth are the tile geometry of C2SP tlog-tiles.
const (
	tileHeight = 8
	tileWidth  = 1 << tileHeight
)

// A tree is folded from records.
type tree struct {
	nodes *compact.Range
	rows  [][]tlog.Hash // of each level, the hashes of the tile that is not full

	// tile, if set, is called with each tile that the records lead to.
	tile func(level int, index uint64, hashes []tlog.Hash) error
}

func newTree() *tree {
	return &tree{nodes: (&compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}).NewEmptyRange(0)}
}

func (t *tree) add(r tlog.Record) error {
	hash := tlog.LeafHash(r.Value)
	var failed error
	err := t.nodes.Append(hash[:], func(id compact.NodeID, node []byte) {
		if t.tile == nil || id.Level%tileHeight != 0 || failed != nil {
			return
		}
		level := int(id.Level / tileHeight)
		if level == len(t.rows) {
			t.rows = append(t.rows, nil)
		}
		t.rows[level] = append(t.rows[level], tlog.Hash(node))
		if len(t.rows[level]) == tileWidth {
			failed = t.tile(level, id.Index/tileWidth, t.rows[level])
			t.rows[level] = t.rows[level][:0]
		}
	})
	if err == nil {
		err = failed
	}
	return err
}

// partialTiles calls tile with those that are not full.
func (t *tree) partialTiles() error {
	for level, hashes := range t.rows {
		if len(hashes) > 0 {
			if err := t.tile(level, t.nodes.End()>>(tileHeight*(level+1)), hashes); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t *tree) root() (tlog.Hash, error) {
	if t.nodes.End() == 0 {
		return tlog.Hash(rfc6962.DefaultHasher.EmptyRoot()), nil
	}
	root, err := t.nodes.GetRootHash(nil)
	if err != nil {
		return tlog.Hash{}, err
	}
	return tlog.Hash(root), nil
}
