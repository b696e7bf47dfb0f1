package tlog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sigstack/sigstack/tlog/checkpoint"
	"github.com/sigstack/sigstack/tlog/failpoint"
)

// Options are what a Log needs beside its Store.
type Options struct {
	Signer *checkpoint.Signer // signs the checkpoints of this log's origin
	Memory string             // the file of the second memory, beside the store's data
	Now    func() time.Time
	Logger *slog.Logger

	// Room, if set, says whether there is room for another batch. It is asked
	// before a batch is appended, and an error refuses the batch: a disk that
	// fills up shall stop the log while everything else can still be written.
	Room func() error

	// Shared says that other processes append to the same store. What a reader
	// has to know of, because somebody was told of it, is then asked for: see
	// Latest. And a store with entries may be opened without a second memory,
	// which is what a new replica does: it begins to remember.
	Shared bool

	// Observe, if set, is told of each batch: how many leaves, how long from
	// taking it up to its answers, and how it ended.
	Observe func(leaves int, took time.Duration, err error)
}

// A Log is one transparency log over a Store. It is safe for concurrent use.
type Log struct {
	opts  Options
	store Store
	tiles *tiles

	published atomic.Pointer[Tree] // only ever replaced by a tree that it is a prefix of

	growing sync.Mutex    // guards what follows
	grown   chan struct{} // closed by the next publish; nil while nobody waits for it

	queue chan *pending
	begun atomic.Pointer[time.Time] // when the batch that is being written was taken; nil between batches
	quit  chan struct{}             // closed by Close
	done  chan struct{}             // closed when the committing goroutine has ended

	// The rest belongs to the committing goroutine.
	memory   *memory
	last     checkpoint.Checkpoint // the largest checkpoint ever signed; what memory holds
	stale    bool                  // the store may be ahead of what is published
	violated error                 // an ErrIntegrity that was found: nothing is signed any more
}

// pending is a submission that waits for its batch. A submission without a
// leaf appends nothing: it asks for the latest tree, or freezes the log, or else
// it is a probe that asks the committing goroutine whether it could commit.
type pending struct {
	leaf   *Leaf
	latest bool
	freeze bool
	hash   Hash
	placed Placed
	tree   *Tree
	err    error
	done   chan struct{} // closed once placed, tree and err are final
}

const (
	maxQueue     = 4 * MaxBatchLeaves
	roundTimeout = 15 * time.Second // for all calls to the Store in one batch

	// maxWait bounds how long a submission waits, for the batch before its own
	// and for its own. A Store need not notice the end of its context: a sync of
	// a local file cannot be interrupted. It is less than the 30 seconds after
	// which clients give up by themselves, who then know nothing.
	maxWait = 25 * time.Second

	// maxFailing is when a batch that fails over a Shared store has kept others
	// waiting for a server that does not answer. They are told with it, or else
	// each batch would wait for that server anew.
	maxFailing = time.Second
)

// Open opens the log in a Store and publishes its state.
//
// It returns ErrIntegrity, and does not sign, where the Store holds less than
// what was signed before, something else, or entries without the second memory
// that should lie beside them.
func Open(ctx context.Context, store Store, opts Options) (*Log, error) {
	l, err := newLog(ctx, store, opts)
	if err != nil {
		return nil, err
	}
	if _, err := l.load(ctx); err != nil {
		l.memory.close()
		return nil, fmt.Errorf("opening log %q: %w", opts.Signer.Origin(), err)
	}
	go l.run()
	return l, nil
}

// newLog returns a log with its second memory; nothing of it runs.
func newLog(ctx context.Context, store Store, opts Options) (*Log, error) {
	l := &Log{
		opts:  opts,
		store: store,
		tiles: newTiles(store),
		queue: make(chan *pending, maxQueue),
		quit:  make(chan struct{}),
		done:  make(chan struct{}),
	}
	mem, last, ok, err := openMemory(opts.Memory, opts.Signer.Verifier)
	if err != nil {
		return nil, fmt.Errorf("opening the second memory of log %q: %w", opts.Signer.Origin(), err)
	}
	l.memory = mem
	if ok {
		l.last = last
	} else {
		l.last = checkpoint.Checkpoint{Origin: opts.Signer.Origin(), Root: emptyRoot}
		if !opts.Shared {
			err = l.mustBeNew(ctx)
		}
	}
	if err != nil {
		mem.close()
		return nil, fmt.Errorf("opening log %q: %w", opts.Signer.Origin(), err)
	}
	return l, nil
}

// mustBeNew refuses a store with entries that comes without a second memory.
func (l *Log) mustBeNew(ctx context.Context) error {
	head, err := l.store.Head(ctx)
	if err == nil && head.Size > 0 {
		err = fmt.Errorf("%w: the store has %d entries, but %s holds no checkpoint signed by this log's key; put back the file, or the key, that belongs to this store", ErrIntegrity, head.Size, l.opts.Memory)
	}
	return err
}

// Close stops the log. Submissions that wait are answered with ErrUnknown.
func (l *Log) Close() error {
	close(l.quit)
	<-l.done
	return l.memory.close()
}

// Published returns the newest state that this process has published.
func (l *Log) Published() *Tree { return l.published.Load() }

// Grows returns a channel that is closed when this process next publishes a
// state. Whoever asks for it before looking at Published misses none.
func (l *Log) Grows() <-chan struct{} {
	l.growing.Lock()
	defer l.growing.Unlock()
	if l.grown == nil {
		l.grown = make(chan struct{})
	}
	return l.grown
}

// Latest returns a published state that is not older than any that any process
// had published before the call. Where the store is Shared that is one read of
// its head, which all callers that wait share, and a new checkpoint where it
// has grown. A log that has stopped signing goes on to show what it published.
func (l *Log) Latest(ctx context.Context) (*Tree, error) {
	if !l.opts.Shared {
		return l.Published(), nil
	}
	p := &pending{latest: true, done: make(chan struct{})}
	if err := l.submit(ctx, p); errors.Is(err, ErrIntegrity) {
		return l.Published(), nil
	} else if err != nil {
		return nil, err
	}
	return p.tree, nil
}

// Reaching returns a published state of at least the given size, if there is
// one, and the latest otherwise.
func (l *Log) Reaching(ctx context.Context, size uint64) (*Tree, error) {
	if tree := l.Published(); size <= tree.Size {
		return tree, nil
	}
	return l.Latest(ctx)
}

// An Included entry is an entry with its place and the published state that
// includes it.
type Included struct {
	Index uint64
	Time  time.Time // when it was integrated
	Dup   bool      // a leaf with this ID was there before
	Tree  *Tree     // Size > Index
	Proof []Hash    // of inclusion of Index in Tree
}

// Add adds a leaf, or finds it, and returns when it is durable and included in
// a published checkpoint. When ctx ends before that the leaf may or may not be
// added; submitting it again finds out. The same is true of ErrUnknown, which
// is what a caller gets, too, whose batch is not committed within 25 seconds.
func (l *Log) Add(ctx context.Context, leaf Leaf) (*Included, error) {
	if n := leaf.bytes(); n > MaxBatchBytes {
		return nil, fmt.Errorf("%w: it has %d bytes, want at most %d", ErrTooLarge, n, MaxBatchBytes)
	}
	p := &pending{leaf: &leaf, hash: LeafHash(leaf.Value), done: make(chan struct{})}
	if err := l.submit(ctx, p); err != nil {
		return nil, err
	}
	in := &Included{Index: p.placed.Index, Time: p.placed.Time, Dup: p.placed.Dup, Tree: p.tree}
	if in.Dup && leaf.ID == (Hash{}) {
		// The store found it by its ID, which is its hash. Do not take its word.
		if h, err := in.Tree.LeafHash(ctx, in.Index); err != nil {
			return nil, unknown(err)
		} else if h != p.hash {
			return nil, fmt.Errorf("%w: the store found leaf %x at index %d, which holds %x", ErrIntegrity, p.hash, in.Index, h)
		}
	}
	var err error
	in.Proof, err = in.Tree.Inclusion(ctx, in.Index, in.Tree.Size)
	if err != nil {
		return nil, unknown(err)
	}
	return in, nil
}

// Freeze ends the log and returns its last published state. What was submitted
// before is committed, what comes later is refused with ErrFrozen. A log may be
// frozen again.
func (l *Log) Freeze(ctx context.Context) (*Tree, error) {
	p := &pending{freeze: true, done: make(chan struct{})}
	if err := l.submit(ctx, p); err != nil {
		return nil, err
	}
	return p.tree, nil
}

// Ready asks the committing goroutine whether it could commit a batch now:
// whether the store answers and agrees with what is published, the signer
// signs, and the clock is not behind. It appends nothing.
func (l *Log) Ready(ctx context.Context) error {
	return l.submit(ctx, &pending{done: make(chan struct{})})
}

func (l *Log) submit(ctx context.Context, p *pending) error {
	if begun := l.begun.Load(); begun != nil {
		if took := time.Since(*begun); took > roundTimeout { // the store hangs: do not pile up behind it
			return unavailable("a batch is being written for %v already", took.Round(time.Second))
		}
	}
	timeout := time.NewTimer(maxWait)
	defer timeout.Stop()
	select {
	case l.queue <- p:
	case <-l.quit:
		return unavailable("it is shutting down")
	default:
		return unavailable("%d submissions wait already", maxQueue)
	}
	select {
	case <-p.done:
		return p.err
	case <-ctx.Done():
		return ctx.Err()
	case <-timeout.C:
		return unknown(unavailable("it was not committed within %v", maxWait))
	case <-l.done:
		// The last batch may have answered at the same moment.
		select {
		case <-p.done:
			return p.err
		default:
			return unknown(unavailable("it is shutting down"))
		}
	}
}

// Entries returns the published entries of [begin, end), in order. Each was
// checked against its leaf hash in the tree.
func (l *Log) Entries(ctx context.Context, begin, end uint64) ([]Entry, error) {
	tree, err := l.Reaching(ctx, end)
	if err != nil {
		return nil, err
	}
	end = min(end, tree.Size)
	if begin >= end {
		return nil, fmt.Errorf("%w: no entry %d; the published tree has size %d", ErrNotFound, begin, tree.Size)
	}
	entries, err := l.store.Entries(ctx, begin, end)
	if err != nil {
		return nil, unavailable("reading entries %d to %d: %w", begin, end, err)
	}
	if uint64(len(entries)) != end-begin {
		return nil, fmt.Errorf("%w: the store has %d of the entries %d to %d", ErrIntegrity, len(entries), begin, end)
	}
	for i, e := range entries {
		want, err := tree.LeafHash(ctx, begin+uint64(i))
		if err != nil {
			return nil, err
		}
		if e.Index != begin+uint64(i) || LeafHash(e.Value) != want {
			return nil, fmt.Errorf("%w: the stored entry %d does not hash to its leaf in the tree", ErrIntegrity, begin+uint64(i))
		}
	}
	return entries, nil
}

// Find returns the index of the published entry with a leaf hash, or ErrNotFound.
func (l *Log) Find(ctx context.Context, leafHash Hash) (uint64, error) {
	index, ok, err := l.store.Find(ctx, leafHash)
	if err != nil {
		return 0, unavailable("looking up leaf %x: %w", leafHash, err)
	}
	if !ok {
		return 0, fmt.Errorf("%w: no leaf with hash %x", ErrNotFound, leafHash)
	}
	tree, err := l.Reaching(ctx, index+1)
	if err != nil {
		return 0, err
	}
	if index >= tree.Size {
		return 0, fmt.Errorf("%w: no leaf with hash %x", ErrNotFound, leafHash)
	}
	if h, err := tree.LeafHash(ctx, index); err != nil {
		return 0, err
	} else if h != leafHash {
		return 0, fmt.Errorf("%w: the store found leaf %x at index %d, which holds %x", ErrIntegrity, leafHash, index, h)
	}
	return index, nil
}

// run commits batches until the log is closed.
func (l *Log) run() {
	defer close(l.done)
	var carry *pending // did not fit into the batch before
	for {
		first := carry
		carry = nil
		if first == nil {
			select {
			case first = <-l.queue:
			case <-l.quit:
				return
			}
		}
		batch, bytes := []*pending{first}, first.bytes()
		// Whoever can run now may be about to submit: a batch of many costs little
		// more than a batch of one. With nobody about, this returns at once.
		runtime.Gosched()
	collect:
		for len(batch) < MaxBatchLeaves {
			select {
			case p := <-l.queue:
				if bytes += p.bytes(); bytes > MaxBatchBytes {
					carry = p
					break collect
				}
				batch = append(batch, p)
			default:
				break collect
			}
		}
		start := time.Now()
		if err := l.round(batch); l.opts.Shared && err != nil && !errors.Is(err, ErrFrozen) && time.Since(start) >= maxFailing {
			l.turnAway(carry, err)
			carry = nil
		}
	}
}

// turnAway answers all who wait with the error of the batch before them.
func (l *Log) turnAway(carry *pending, err error) {
	// Not wrapped: what is unknown of that batch is known of them.
	err = unavailable("waiting for a batch that failed: %v", err)
	for p := carry; ; {
		if p != nil {
			p.err = err
			close(p.done)
		}
		select {
		case p = <-l.queue:
		default:
			return
		}
	}
}

// probe says whether a submission only asks whether it could be committed.
func (p *pending) probe() bool { return p.leaf == nil && !p.latest && !p.freeze }

func (p *pending) bytes() int {
	if p.leaf == nil {
		return 0
	}
	return p.leaf.bytes()
}

func (l *Leaf) bytes() int {
	n := len(l.Value) + len(l.Extra) + len(l.Attestation)
	for _, k := range l.Keys {
		n += len(k)
	}
	return n
}

// round commits one batch, answers it, and returns how it ended.
func (l *Log) round(batch []*pending) error {
	start := time.Now()
	l.begun.Store(&start)
	ctx, cancel := context.WithTimeout(context.Background(), roundTimeout)
	defer cancel()
	adds := slices.DeleteFunc(slices.Clone(batch), func(p *pending) bool { return p.leaf == nil })
	var tree *Tree
	var err error
	if l.opts.Shared && len(adds) < len(batch) {
		err = l.compare(ctx)
	}
	if err == nil {
		tree, err = l.commit(ctx, adds)
	}
	ready := err
	if err == nil && slices.ContainsFunc(batch, (*pending).probe) {
		ready = l.check(ctx, tree)
	}
	last, frozen := tree, err
	if (err == nil || errors.Is(err, ErrFrozen)) && slices.ContainsFunc(batch, func(p *pending) bool { return p.freeze }) {
		last, frozen = l.freeze(ctx)
	}
	if ready != nil && !errors.Is(ready, ErrFrozen) {
		if errors.Is(ready, ErrIntegrity) && l.violated == nil {
			l.violated = ready
		}
		l.opts.Logger.Error("log cannot commit", "origin", l.opts.Signer.Origin(), "leaves", len(adds), "signing_stopped", l.violated != nil, "err", ready)
	}
	l.begun.Store(nil)
	for _, p := range batch {
		p.tree, p.err = tree, err
		switch {
		case p.freeze:
			p.tree, p.err = last, frozen
		case p.latest && errors.Is(err, ErrFrozen):
			p.err = nil
		case p.probe():
			p.err = ready
		}
		close(p.done)
	}
	if l.opts.Observe != nil && len(adds) > 0 && !errors.Is(err, ErrFrozen) {
		l.opts.Observe(len(adds), time.Since(start), err)
	}
	return err
}

// compare looks whether the store has more than what is published. Where it
// cannot be asked, a batch is not even tried.
func (l *Log) compare(ctx context.Context) error {
	if l.violated != nil {
		return nil
	}
	head, err := l.store.Head(ctx)
	if err != nil {
		return unavailable("reading the head: %w", err)
	}
	t := l.Published()
	l.stale = l.stale || head.Size != t.Size || head.Root != t.Root || head.Frozen != t.Frozen
	return nil
}

// commit appends the leaves of a batch, fills in where they are placed, and
// returns the published tree that includes them. The order is:
//
//  1. the Store makes the batch durable,
//  2. the root that follows from the edge in memory is compared with the Store's,
//  3. the checkpoint is signed, and its signature verified,
//  4. the second memory of it is made durable,
//  5. it is published.
//
// After step 1 the entries are safe; after step 4 the checkpoint must never be
// contradicted. A failure at any step leaves the rest to load, which start-up
// runs too.
func (l *Log) commit(ctx context.Context, batch []*pending) (*Tree, error) {
	if l.violated != nil {
		return nil, fmt.Errorf("signing was stopped: %w", l.violated)
	}
	tree := l.Published()
	if l.stale {
		var err error
		if tree, err = l.load(ctx); err != nil {
			return nil, err
		}
	}
	if len(batch) == 0 {
		return tree, nil
	}
	if tree.Frozen {
		return tree, ErrFrozen
	}
	if err := l.room(); err != nil {
		return nil, err
	}
	leaves := make([]Leaf, len(batch))
	for i, p := range batch {
		leaves[i] = *p.leaf
	}
	if err := failpoint.Hit(failpoint.Append, l.opts.Memory); err != nil {
		return nil, unavailable("%w", err)
	}
	placed, head, err := l.store.Append(ctx, leaves)
	if err == nil {
		err = failpoint.Hit(failpoint.Appended, l.opts.Memory)
	}
	if errors.Is(err, ErrClock) {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	// From here on the store may be ahead, until a tree is published.
	l.stale = true
	if errors.Is(err, ErrFrozen) { // by somebody else
		if tree, err = l.load(ctx); err != nil {
			return nil, err
		}
		return tree, ErrFrozen
	}
	if err != nil {
		if errors.Is(err, ErrIntegrity) { // what the store has lost may have been signed
			if _, err := l.load(ctx); err != nil {
				return nil, unknown(err)
			}
			err = errors.New(err.Error()) // it was not
		}
		return nil, unknown(unavailable("appending %d leaves: %w", len(leaves), err))
	}
	if len(placed) != len(batch) {
		return nil, fmt.Errorf("%w: the store placed %d of %d leaves", ErrIntegrity, len(placed), len(batch))
	}
	for i, p := range batch {
		p.placed = placed[i]
	}
	if head.Size == tree.Size && head.Root == tree.Root {
		l.stale = false
		return tree, nil // all were known
	}
	next, ok := tree.extend(batch, head)
	if ok {
		return next, unknown(l.publish(next))
	}
	// Somebody else appended to the same store in between, or the store is
	// wrong: read back what it has, and look where the leaves are.
	if next, err = l.load(ctx); err != nil {
		return nil, unknown(err)
	}
	for _, p := range batch {
		if p.placed.Dup {
			continue
		}
		if h, err := next.LeafHash(ctx, p.placed.Index); err != nil {
			return nil, unknown(err)
		} else if h != p.hash {
			return nil, fmt.Errorf("%w: the store placed leaf %x at index %d, which holds %x", ErrIntegrity, p.hash, p.placed.Index, h)
		}
	}
	return next, nil
}

// freeze ends the log and returns its last tree. The store may have grown since
// the batch before, where it is shared.
func (l *Log) freeze(ctx context.Context) (*Tree, error) {
	if err := l.store.Freeze(ctx); err != nil {
		return nil, unavailable("freezing: %w", err)
	}
	return l.load(ctx)
}

// extend returns the tree after the new leaves of a batch, if they alone, in
// the order of their indices, lead from t to the head.
func (t *Tree) extend(batch []*pending, head Head) (*Tree, bool) {
	fresh := slices.DeleteFunc(slices.Clone(batch), func(p *pending) bool { return p.placed.Dup })
	slices.SortFunc(fresh, func(a, b *pending) int { return int(int64(a.placed.Index - b.placed.Index)) })
	next := &Tree{Head: head, edge: t.edge.clone(), tiles: t.tiles}
	type filled struct {
		level int
		index uint64
		tile  tileNodes
	}
	var full []filled
	for _, p := range fresh {
		if p.placed.Index != next.edge.size {
			return nil, false
		}
		next.edge.push(p.hash, func(level int, index uint64, tile tileNodes) {
			full = append(full, filled{level, index, tile})
		})
	}
	if next.edge.size != head.Size || next.edge.root() != head.Root {
		return nil, false
	}
	for _, f := range full { // only now are they known to be right
		t.tiles.put(f.level, f.index, f.tile)
	}
	return next, true
}

// load reads the state of the store and publishes it.
func (l *Log) load(ctx context.Context) (*Tree, error) {
	tree, err := l.read(ctx)
	if err != nil {
		return nil, err
	}
	return tree, l.publish(tree)
}

// read reads the state of the store, and checks that it continues the largest
// checkpoint that was ever signed.
func (l *Log) read(ctx context.Context) (*Tree, error) {
	head, err := l.store.Head(ctx)
	if err == nil {
		err = failpoint.Hit(failpoint.LoadHead, l.opts.Memory)
	}
	if err != nil {
		return nil, unavailable("reading the head: %w", err)
	}
	if head.Size < l.last.Size {
		return nil, fmt.Errorf("%w: the store has %d entries, but a checkpoint of size %d was signed", ErrIntegrity, head.Size, l.last.Size)
	}
	e := edge{size: head.Size}
	for level := 0; head.Size>>(tileHeight*level) > 0; level++ {
		n := head.Size >> (tileHeight * level)
		var bottom []Hash
		if width := int(n % tileWidth); width > 0 {
			if bottom, err = l.store.Tile(ctx, level, n/tileWidth, width); err != nil {
				return nil, unavailable("reading tile %d/%d: %w", level, n/tileWidth, err)
			}
			if len(bottom) != width {
				return nil, fmt.Errorf("%w: tile %d/%d has %d hashes, not %d", ErrIntegrity, level, n/tileWidth, len(bottom), width)
			}
		}
		e.rows = append(e.rows, newTile(bottom))
	}
	if e.root() != head.Root {
		return nil, fmt.Errorf("%w: the tiles of the store lead to root %x at size %d, its head says %x", ErrIntegrity, e.root(), head.Size, head.Root)
	}
	if err := failpoint.Hit(failpoint.LoadTiles, l.opts.Memory); err != nil {
		return nil, unavailable("%w", err)
	}
	tree := &Tree{Head: head, edge: e, tiles: l.tiles}
	root, err := tree.RootAt(ctx, l.last.Size)
	if err != nil {
		return nil, err
	}
	if root != l.last.Root {
		return nil, fmt.Errorf("%w: the store has root %x at size %d, but a checkpoint with root %x was signed", ErrIntegrity, root, l.last.Size, l.last.Root)
	}
	return tree, nil
}

// publish signs a tree, remembers that, and shows it to everybody.
func (l *Log) publish(t *Tree) error {
	if err := failpoint.Hit(failpoint.Sign, l.opts.Memory); err != nil {
		return unavailable("%w", err)
	}
	failpoint.Flip(failpoint.SignedTree, l.opts.Memory, t.Root[:])
	note, err := l.opts.Signer.Sign(t.Size, t.Root)
	if err != nil {
		return unavailable("%w", err)
	}
	// A bit that flipped in memory must not be published: what was signed has
	// to be, once more, what follows from the edge.
	if t.Size != t.edge.size || t.Root != t.edge.root() {
		return fmt.Errorf("%w: the checkpoint that was signed is not of the tree with size %d and root %x", ErrIntegrity, t.edge.size, t.edge.root())
	}
	if err := failpoint.Hit(failpoint.Signed, l.opts.Memory); err != nil {
		return unavailable("%w", err)
	}
	// Once the memory is written the checkpoint counts as signed: if anything
	// fails from here on, this or a larger tree must be published, or none.
	l.last = checkpoint.Checkpoint{Origin: l.opts.Signer.Origin(), Size: t.Size, Root: t.Root}
	if err := l.memory.write(note); err != nil {
		return unavailable("writing the second memory: %w", err)
	}
	if err := failpoint.Hit(failpoint.Remembered, l.opts.Memory); err != nil {
		return unavailable("%w", err)
	}
	t.Checkpoint = note
	l.published.Store(t)
	l.growing.Lock()
	if l.grown != nil {
		close(l.grown)
		l.grown = nil
	}
	l.growing.Unlock()
	l.stale = false
	if err := failpoint.Hit(failpoint.Published, l.opts.Memory); err != nil {
		return unavailable("%w", err)
	}
	return nil
}

func (l *Log) room() error {
	if l.opts.Room != nil {
		if err := l.opts.Room(); err != nil {
			return unavailable("%w", err)
		}
	}
	return nil
}

// check says whether a batch could be committed on top of t.
func (l *Log) check(ctx context.Context, t *Tree) error {
	if err := l.room(); err != nil {
		return err
	}
	head, err := l.store.Head(ctx)
	if err != nil {
		return unavailable("reading the head: %w", err)
	}
	if head.Size < t.Size || head.Size == t.Size && head.Root != t.Root {
		return fmt.Errorf("%w: the store has size %d and root %x, published are size %d and root %x", ErrIntegrity, head.Size, head.Root, t.Size, t.Root)
	}
	if _, err := l.opts.Signer.Sign(t.Size, t.Root); err != nil {
		return unavailable("%w", err)
	}
	if behind := head.Time.Sub(l.opts.Now()); behind > MaxClockStep {
		return fmt.Errorf("%w: %w: by %v", ErrUnavailable, ErrClock, behind)
	}
	return nil
}

// unknown adds to an ErrUnavailable that the leaves may have been added.
func unknown(err error) error {
	if !errors.Is(err, ErrUnavailable) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnknown, err)
}

// unavailable returns an ErrUnavailable with a cause.
func unavailable(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrUnavailable, fmt.Errorf(format, args...))
}
