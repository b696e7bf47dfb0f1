// Package tlogtest is the conformance suite of tlog.Store: what every storage
// has to pass, by itself and under a tlog.Log.
//
// After every step the suite checks the whole log: every root against
// golang.org/x/mod/sumdb/tlog, every tile, every entry, and every proof with
// the verifier of transparency-dev/merkle. It never samples. In short mode it
// runs to smaller sizes, for the race detector's sake.
package tlogtest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"math"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	sumdb "golang.org/x/mod/sumdb/tlog"

	"github.com/sigstack/sigstack/tlog"
	"github.com/sigstack/sigstack/tlog/checkpoint"
)

// A Store is what the suite needs of a storage beside tlog.Store.
type Store interface {
	tlog.Store
	Lookup(ctx context.Context, key string) ([]tlog.Hash, error)
	Attestation(ctx context.Context, hash tlog.Hash) ([]byte, error)
	Close() error

	// What a search with pages needs, see package rekor.
	Postings(ctx context.Context, key string, in tlog.Span, newest bool, most int) ([]tlog.SearchKey, error)
	KeysWith(ctx context.Context, prefix string, most int) ([]string, error)
	Times(ctx context.Context, indexes []uint64) ([]time.Time, error)

	// What a rebuild of the search index needs.
	MissingSearchKeys(ctx context.Context, keys []tlog.SearchKey) ([]tlog.SearchKey, error)
	RemoveSearchKeys(ctx context.Context, keys []tlog.SearchKey) error

	// What a copy of a log needs. Records returns records from begin on, at most
	// so many, and after the first no more than MaxBatchBytes. SearchKeys
	// returns all in the order of name and index, Attestations in that of hash. Import
	// adds the next records as they are, all or none.
	Records(ctx context.Context, begin uint64, most int) ([]tlog.Record, error)
	SearchKeys(ctx context.Context) iter.Seq2[tlog.SearchKey, error]
	Import(ctx context.Context, records []tlog.Record) (tlog.Head, error)
	ImportSearchKeys(ctx context.Context, keys []tlog.SearchKey) error
	Attestations(ctx context.Context) iter.Seq2[tlog.Attestation, error]
	ImportAttestations(ctx context.Context, attestations []tlog.Attestation) error
}

// Open opens the log with a name, or makes it. What was appended under a name
// before is there when it is opened again, for as long as the test runs that
// called Run. It is called by several tests at once.
type Open func(t testing.TB, name string, now func() time.Time) Store

// Run runs the suite.
func Run(t *testing.T, open Open) {
	for name, test := range map[string]func(*testing.T, Open){
		"Sizes":            testSizes,
		"ManyTiles":        testManyTiles,
		"Duplicates":       testDuplicates,
		"Concurrent":       testConcurrent,
		"Reopen":           testReopen,
		"CrashAfterCommit": testCrashAfterCommit,
		"LostAnswer":       testLostAnswer,
		"SearchKeys":       testSearchKeys,
		"Attestations":     testAttestations,
		"Postings":         testPostings,
		"Entries":          testEntries,
		"Clock":            testClock,
		"Rollback":         testRollback,
		"Freeze":           testFreeze,
		"Import":           testImport,
		"ImportRefused":    testImportRefused,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // much of the time goes by while a disk syncs
			test(t, open)
		})
	}
}

// A Clock is a clock that the test turns.
type Clock struct {
	mu sync.Mutex
	t  time.Time
}

// NewClock returns a clock that stands at the start of 2026.
func NewClock() *Clock {
	return &Clock{t: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
}

// Now returns the time and moves the clock by a millisecond.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(time.Millisecond)
	return c.t
}

// Step moves the clock.
func (c *Clock) Step(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// A reference is the log as it should be, kept by other code than ours.
type reference struct {
	values [][]byte
	hashes []tlog.Hash  // leaf hashes
	stored []sumdb.Hash // in the order of sumdb/tlog
}

// ReadHashes implements sumdb.HashReader.
func (r *reference) ReadHashes(indexes []int64) ([]sumdb.Hash, error) {
	out := make([]sumdb.Hash, len(indexes))
	for i, n := range indexes {
		out[i] = r.stored[n]
	}
	return out, nil
}

func (r *reference) add(t testing.TB, value []byte) {
	t.Helper()
	h := sumdb.RecordHash(value)
	stored, err := sumdb.StoredHashesForRecordHash(int64(len(r.values)), h, r)
	if err != nil {
		t.Fatal(err)
	}
	r.stored = append(r.stored, stored...)
	r.values = append(r.values, value)
	r.hashes = append(r.hashes, tlog.Hash(h))
}

func (r *reference) size() uint64 { return uint64(len(r.values)) }

func (r *reference) root(t testing.TB, size uint64) tlog.Hash {
	t.Helper()
	if size == 0 {
		return tlog.Hash(rfc6962.DefaultHasher.EmptyRoot())
	}
	h, err := sumdb.TreeHash(int64(size), r)
	if err != nil {
		t.Fatal(err)
	}
	return tlog.Hash(h)
}

// node returns the complete node (height, index).
func (r *reference) node(height int, index uint64) tlog.Hash {
	return tlog.Hash(r.stored[sumdb.StoredHashIndex(height, int64(index))])
}

func value(n int) []byte { return fmt.Appendf(nil, "leaf %d of the conformance suite", n) }

// grow appends new leaves to a store until it has a size.
func (r *reference) grow(t testing.TB, s tlog.Store, size uint64) {
	t.Helper()
	for r.size() < size {
		var leaves []tlog.Leaf
		first := r.size()
		for r.size() < size && len(leaves) < tlog.MaxBatchLeaves {
			r.add(t, value(int(r.size())))
			leaves = append(leaves, tlog.Leaf{Value: r.values[r.size()-1]})
		}
		placed, head, err := s.Append(t.Context(), leaves)
		if err != nil {
			t.Fatalf("append at %d: %v", first, err)
		}
		for i, p := range placed {
			if p.Index != first+uint64(i) || p.Dup {
				t.Fatalf("leaf %d placed at %d, dup %v", first+uint64(i), p.Index, p.Dup)
			}
		}
		if head.Size != r.size() || head.Root != r.root(t, r.size()) {
			t.Fatalf("append returned size %d root %x, want %d %x", head.Size, head.Root, r.size(), r.root(t, r.size()))
		}
	}
}

// finding is how many leaves are looked up at once.
const finding = 8

// checkStore compares everything that a store holds with the reference.
func (r *reference) checkStore(t testing.TB, s tlog.Store) {
	t.Helper()
	ctx := t.Context()
	head, err := s.Head(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if head.Size != r.size() || head.Root != r.root(t, r.size()) {
		t.Fatalf("head: size %d root %x, want %d %x", head.Size, head.Root, r.size(), r.root(t, r.size()))
	}
	for level := 0; r.size()>>(8*level) > 0; level++ {
		nodes := r.size() >> (8 * level)
		for index := uint64(0); index*256 < nodes; index++ {
			width := int(min(256, nodes-index*256))
			for _, w := range []int{1, width/2 + 1, width} {
				tile, err := s.Tile(ctx, level, index, w)
				if err != nil || len(tile) != w {
					t.Fatalf("tile %d/%d width %d: %d hashes, %v", level, index, w, len(tile), err)
				}
				for i, h := range tile {
					if want := r.node(8*level, index*256+uint64(i)); h != want {
						t.Fatalf("tile %d/%d hash %d: %x, want %x", level, index, i, h, want)
					}
				}
			}
		}
	}
	for begin := uint64(0); begin < r.size(); begin += 1000 {
		entries, err := s.Entries(ctx, begin, begin+1000)
		if err != nil || uint64(len(entries)) != min(1000, r.size()-begin) {
			t.Fatalf("entries from %d: %d, %v", begin, len(entries), err)
		}
		for i, e := range entries {
			n := begin + uint64(i)
			if e.Index != n || string(e.Value) != string(r.values[n]) || e.Time.IsZero() {
				t.Fatalf("entry %d: index %d value %q time %v", n, e.Index, e.Value, e.Time)
			}
		}
	}
	// One at a time would take minutes where each is a round trip.
	var finders sync.WaitGroup
	for f := range uint64(finding) {
		finders.Go(func() {
			for n := f; n < r.size(); n += finding {
				if index, ok, err := s.Find(ctx, r.hashes[n]); err != nil || !ok || index != n {
					t.Errorf("find leaf %d: %d %v %v", n, index, ok, err)
					return
				}
			}
		})
	}
	finders.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

// checkLog compares everything that a log publishes with the reference:
// inclusion of every leaf in the published tree, and consistency from every
// size. Where all is set also every inclusion and consistency between smaller sizes.
func (r *reference) checkLog(t testing.TB, f *fixture, l *tlog.Log, all bool) {
	t.Helper()
	ctx := t.Context()
	tree := l.Published()
	cp, err := f.verifier.Open(tree.Checkpoint)
	if err != nil {
		t.Fatal(err)
	}
	if cp.Size != r.size() || cp.Root != r.root(t, r.size()) || tree.Size != cp.Size || tree.Root != cp.Root {
		t.Fatalf("checkpoint: size %d root %x, want %d %x", cp.Size, cp.Root, r.size(), r.root(t, r.size()))
	}
	first := r.size()
	if all {
		first = 1
	}
	for size := max(first, 1); size <= r.size(); size++ {
		root := r.root(t, size)
		if got, err := tree.RootAt(ctx, size); err != nil || got != root {
			t.Fatalf("root at %d: %x, %v, want %x", size, got, err, root)
		}
		for n := uint64(0); n < size; n++ {
			path, err := tree.Inclusion(ctx, n, size)
			if err != nil {
				t.Fatalf("inclusion of %d in %d: %v", n, size, err)
			}
			checkInclusion(t, n, size, r.hashes[n], path, root)
		}
		for from := uint64(1); from <= size; from++ {
			path, err := tree.Consistency(ctx, from, size)
			if err != nil {
				t.Fatalf("consistency %d to %d: %v", from, size, err)
			}
			old := r.root(t, from)
			if err := proof.VerifyConsistency(rfc6962.DefaultHasher, from, size, bytesOf(path), old[:], root[:]); err != nil {
				t.Fatalf("consistency %d to %d: %v", from, size, err)
			}
		}
	}
}

func checkInclusion(t testing.TB, index, size uint64, leaf tlog.Hash, path []tlog.Hash, root tlog.Hash) {
	t.Helper()
	if err := proof.VerifyInclusion(rfc6962.DefaultHasher, index, size, leaf[:], bytesOf(path), root[:]); err != nil {
		t.Fatalf("inclusion of %d in %d: %v", index, size, err)
	}
}

func bytesOf(hashes []tlog.Hash) [][]byte {
	out := make([][]byte, len(hashes))
	for i := range hashes {
		out[i] = hashes[i][:]
	}
	return out
}

// A fixture is what a Log needs beside its store.
type fixture struct {
	clock    *Clock
	opts     tlog.Options
	verifier *checkpoint.Verifier
}

func newFixture(t testing.TB) *fixture {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := checkpoint.NewSigner("example.com/log", "example.com", key)
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{clock: NewClock(), verifier: signer.Verifier}
	f.opts = tlog.Options{
		Signer: signer,
		Memory: filepath.Join(t.TempDir(), "signed"),
		Now:    f.clock.Now,
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	return f
}

func (f *fixture) openLog(t testing.TB, s tlog.Store) *tlog.Log {
	t.Helper()
	l, err := tlog.Open(t.Context(), s, f.opts)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func closeAll(t testing.TB, closers ...io.Closer) {
	t.Helper()
	for _, c := range closers {
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// add adds a leaf to a log and checks the whole answer. An answer for an
// entry that r does not know yet must be the next one.
func (r *reference) add1(t testing.TB, l *tlog.Log, leaf tlog.Leaf, want uint64, dup bool) {
	t.Helper()
	in, err := l.Add(t.Context(), leaf)
	if err != nil {
		t.Fatal(err)
	}
	if !dup {
		r.add(t, leaf.Value)
	}
	if in.Index != want || in.Dup != dup {
		t.Fatalf("added at %d, dup %v, want %d, %v", in.Index, in.Dup, want, dup)
	}
	checkInclusion(t, in.Index, in.Tree.Size, r.hashes[want], in.Proof, in.Tree.Root)
}

// testSizes grows a log through the sizes at which its shape changes.
func testSizes(t *testing.T, open Open) {
	f := newFixture(t)
	sizes := []uint64{0, 1, 2, 3, 4, 5, 254, 255, 256, 257, 258, 511, 512, 513, 65534, 65535, 65536, 65537, 65538, 66000}
	if testing.Short() {
		sizes = sizes[:14]
	}
	s := open(t, "sizes", f.clock.Now)
	r := &reference{}
	for _, size := range sizes {
		r.grow(t, s, size)
		r.checkStore(t, s)
		// A fresh Log, whose memory knows nothing yet, would refuse a store with
		// entries: it has to live through the growth.
		if size == 0 {
			l := f.openLog(t, s)
			closeAll(t, l)
		}
		l := f.openLog(t, s)
		r.checkLog(t, f, l, size <= 258)
		closeAll(t, l)
	}
	closeAll(t, s)
}

// testManyTiles goes beyond 1,024 full tiles, where caches of tiles turn over.
func testManyTiles(t *testing.T, open Open) {
	f := newFixture(t)
	size := uint64(1025*256 + 7)
	if testing.Short() {
		size = 9*256 + 7
	}
	s := open(t, "many", f.clock.Now)
	closeAll(t, f.openLog(t, s))
	r := &reference{}
	r.grow(t, s, size-2)
	l := f.openLog(t, s)
	for n := size - 2; n < size; n++ {
		r.add1(t, l, tlog.Leaf{Value: value(int(n))}, n, false)
	}
	r.checkStore(t, s)
	r.checkLog(t, f, l, false)
	closeAll(t, l, s)
}

func testDuplicates(t *testing.T, open Open) {
	f := newFixture(t)
	s := open(t, "duplicates", f.clock.Now)
	l := f.openLog(t, s)
	r := &reference{}
	leaves := func(ns ...int) (out []tlog.Leaf) {
		for _, n := range ns {
			out = append(out, tlog.Leaf{Value: value(n)})
		}
		return out
	}
	appendAll := func(leaves []tlog.Leaf, want ...uint64) []tlog.Placed {
		t.Helper()
		placed, _, err := s.Append(t.Context(), leaves)
		if err != nil {
			t.Fatal(err)
		}
		for i, p := range placed {
			dup := want[i] < r.size()
			if p.Index != want[i] || p.Dup != dup {
				t.Fatalf("leaf %d of the batch at %d, dup %v, want %d, %v", i, p.Index, p.Dup, want[i], dup)
			}
			if !dup {
				r.add(t, leaves[i].Value)
			}
		}
		r.checkStore(t, s)
		return placed
	}
	first := appendAll(leaves(0, 1, 0, 2, 1), 0, 1, 0, 2, 1)           // within a batch
	again := appendAll(leaves(2, 3, 0, 4), 2, 3, 0, 4)                 // across batches
	appendAll(leaves(0, 1, 2, 3, 4), 0, 1, 2, 3, 4)                    // nothing new
	if !again[2].Time.Equal(first[0].Time) || first[0].Time.IsZero() { // the time of the entry, not of the question
		t.Fatalf("duplicate has time %v, the entry %v", again[2].Time, first[0].Time)
	}
	// An ID of its own: another value with the same ID is the same submission.
	id := tlog.Hash{1}
	appendAll([]tlog.Leaf{{Value: value(5), ID: id}}, 5)
	appendAll([]tlog.Leaf{{Value: value(6), ID: id}, {Value: value(6)}}, 5, 6)
	closeAll(t, l)

	// The same through a Log, which has to notice that the store went ahead.
	l = f.openLog(t, s)
	for n := range 5 {
		r.add1(t, l, tlog.Leaf{Value: value(n)}, uint64(n), true)
	}
	r.add1(t, l, tlog.Leaf{Value: value(99), ID: id}, 5, true)
	r.add1(t, l, tlog.Leaf{Value: value(7)}, 7, false)
	r.checkLog(t, f, l, true)
	closeAll(t, l, s)
}

// testConcurrent lets 8 writers add the same 400 leaves.
func testConcurrent(t *testing.T, open Open) {
	const writers, leaves = 8, 400
	f := newFixture(t)
	s := open(t, "concurrent", f.clock.Now)
	l := f.openLog(t, s)
	answers := make([][]*tlog.Included, writers)
	errs := make(chan error, writers)
	for w := range writers {
		go func() {
			for n := range leaves {
				in, err := l.Add(t.Context(), tlog.Leaf{Value: value((n + w*7) % leaves)})
				if err != nil {
					errs <- err
					return
				}
				answers[w] = append(answers[w], in)
			}
			errs <- nil
		}()
	}
	for range writers {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	index := map[string]uint64{}
	fresh := 0
	for w := range writers {
		for n, in := range answers[w] {
			v := value((n + w*7) % leaves)
			if was, ok := index[string(v)]; ok && was != in.Index {
				t.Fatalf("%q at %d and at %d", v, was, in.Index)
			}
			index[string(v)] = in.Index
			if !in.Dup {
				fresh++
			}
			checkInclusion(t, in.Index, in.Tree.Size, tlog.LeafHash(v), in.Proof, in.Tree.Root)
		}
	}
	if fresh != leaves {
		t.Fatalf("%d answers say that they added, want %d", fresh, leaves)
	}
	r := &reference{}
	order := make([][]byte, leaves)
	for v, n := range index {
		order[n] = []byte(v)
	}
	for _, v := range order {
		r.add(t, v)
	}
	r.checkStore(t, s)
	r.checkLog(t, f, l, false)
	closeAll(t, l, s)
}

// testReopen reopens the log after each of 258 entries.
func testReopen(t *testing.T, open Open) {
	f := newFixture(t)
	r := &reference{}
	for n := range 258 {
		s := open(t, "reopen", f.clock.Now)
		l := f.openLog(t, s)
		r.add1(t, l, tlog.Leaf{Value: value(n)}, uint64(n), false)
		r.add1(t, l, tlog.Leaf{Value: value(n / 2)}, uint64(n/2), true)
		r.checkStore(t, s)
		r.checkLog(t, f, l, false)
		closeAll(t, l, s)
	}
}

// A cut store does what it is told and then fails, or pretends that it did.
type cut struct {
	Store
	after func() error // called once an Append was committed
}

func (c *cut) Append(ctx context.Context, leaves []tlog.Leaf) ([]tlog.Placed, tlog.Head, error) {
	placed, head, err := c.Store.Append(ctx, leaves)
	if err == nil {
		err = c.after()
	}
	return placed, head, err
}

var errCut = errors.New("the answer was lost")

// testCrashAfterCommit stops the process, as it were, between the commit of a
// batch and its answer: the entries are there after a restart, once, and a
// client that comes back finds them.
func testCrashAfterCommit(t *testing.T, open Open) {
	for _, before := range []int{0, 1, 255, 256, 257} {
		f := newFixture(t)
		r := &reference{}
		name := fmt.Sprintf("crash-%d", before)
		s := open(t, name, f.clock.Now)
		l := f.openLog(t, s)
		for n := range before {
			r.add1(t, l, tlog.Leaf{Value: value(n)}, uint64(n), false)
		}
		closeAll(t, l)

		dying := make(chan struct{})
		l = f.openLog(t, &cut{s, func() error { close(dying); return errCut }})
		_, err := l.Add(t.Context(), tlog.Leaf{Value: value(before)})
		<-dying
		if !errors.Is(err, tlog.ErrUnavailable) {
			t.Fatalf("an answer that was lost is %v, want ErrUnavailable", err)
		}
		closeAll(t, l, s)

		r.add(t, value(before))
		s = open(t, name, f.clock.Now)
		l = f.openLog(t, s)
		r.checkStore(t, s)
		r.add1(t, l, tlog.Leaf{Value: value(before)}, uint64(before), true)
		r.add1(t, l, tlog.Leaf{Value: value(before + 1)}, uint64(before+1), false)
		r.checkLog(t, f, l, false)
		closeAll(t, l, s)
	}
}

// testLostAnswer loses answers of commits that did happen while the log goes
// on: it has to read back where it is before it signs again.
func testLostAnswer(t *testing.T, open Open) {
	f := newFixture(t)
	s := open(t, "lost", f.clock.Now)
	r := &reference{}
	n, lose := 0, false
	l := f.openLog(t, &cut{s, func() error {
		if lose {
			return errCut
		}
		return nil
	}})
	for n = 0; n < 520; n++ {
		lose = n%3 == 1
		if lose {
			if _, err := l.Add(t.Context(), tlog.Leaf{Value: value(n)}); !errors.Is(err, tlog.ErrUnavailable) {
				t.Fatalf("an answer that was lost is %v, want ErrUnavailable", err)
			}
			r.add(t, value(n))
			continue
		}
		if n%3 == 2 { // the client of the lost answer comes back
			r.add1(t, l, tlog.Leaf{Value: value(n - 1)}, uint64(n-1), true)
		}
		r.add1(t, l, tlog.Leaf{Value: value(n)}, uint64(n), false)
	}
	lose = false
	if err := l.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.checkStore(t, s)
	r.checkLog(t, f, l, false)
	closeAll(t, l, s)
}

func testSearchKeys(t *testing.T, open Open) {
	f := newFixture(t)
	s := open(t, "keys", f.clock.Now)
	l := f.openLog(t, s)
	r := &reference{}
	r.add1(t, l, tlog.Leaf{Value: value(0), Keys: []string{"alice@example.com", "sha256:00"}}, 0, false)
	r.add1(t, l, tlog.Leaf{Value: value(1), Keys: []string{"alice@example.com", "sha256:11", "sha256:11"}}, 1, false)
	r.add1(t, l, tlog.Leaf{Value: value(1), Keys: []string{"mallory@example.com"}}, 1, true) // a duplicate adds no keys
	r.add1(t, l, tlog.Leaf{Value: value(2)}, 2, false)
	closeAll(t, l, s)
	s = open(t, "keys", f.clock.Now)
	for key, want := range map[string][]int{
		"alice@example.com":   {0, 1},
		"ALICE@example.com":   {}, // the Store compares bytes; folding case is for its users
		"alice@example.com ":  {},
		"sha256:00":           {0},
		"sha256:11":           {1},
		"mallory@example.com": {},
		"":                    {},
	} {
		got, err := s.Lookup(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != len(want) {
			t.Fatalf("key %q leads to %d entries, want %d", key, len(got), len(want))
		}
		for _, n := range want {
			if !slices.Contains(got, r.hashes[n]) {
				t.Fatalf("key %q does not lead to entry %d", key, n)
			}
		}
	}
	closeAll(t, s)
}

// attested returns a leaf with an attestation of many sorts of bytes.
func attested(n int) tlog.Leaf {
	return tlog.Leaf{Value: fmt.Appendf(nil, "attested leaf %d", n), Attestation: attestation(n)}
}

func attestation(n int) []byte {
	b := fmt.Appendf(nil, "attestation %d \x00\xff'\"\\", n)
	return append(b, make([]byte, n*1009)...)
}

// attestationOf returns what a store has under the hash of an attestation.
func attestationOf(t testing.TB, s Store, n int) []byte {
	t.Helper()
	got, err := s.Attestation(t.Context(), sha256.Sum256(attestation(n)))
	if err != nil {
		t.Fatal(err)
	}
	if got != nil && string(got) != string(attestation(n)) {
		t.Fatalf("attestation %d has %d bytes, or others than its %d", n, len(got), len(attestation(n)))
	}
	return got
}

// allAttestations returns the attestations of a store, and checks their order.
func allAttestations(t testing.TB, s Store) (all []tlog.Attestation) {
	t.Helper()
	for a, err := range s.Attestations(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Check(); err != nil {
			t.Fatal(err)
		}
		if len(all) > 0 && string(all[len(all)-1].Hash[:]) >= string(a.Hash[:]) {
			t.Fatalf("attestation %x comes after %x", a.Hash, all[len(all)-1].Hash)
		}
		all = append(all, a)
	}
	return all
}

// testAttestations stores attestations with their leaves: all or none, each once,
// and those of a duplicate not at all.
func testAttestations(t *testing.T, open Open) {
	f := newFixture(t)
	s := open(t, "attestations", f.clock.Now)
	l := f.openLog(t, s)
	r := &reference{}
	r.add1(t, l, attested(0), 0, false)
	r.add1(t, l, tlog.Leaf{Value: value(1)}, 1, false)
	shared := attested(0)
	shared.Value = value(2)
	r.add1(t, l, shared, 2, false) // the attestation of another entry
	r.add1(t, l, attested(0), 0, true)
	other := attested(1)
	other.Value = value(1)
	r.add1(t, l, other, 1, true) // it was there without one, and stays so
	closeAll(t, l)

	// One batch: with and without, one attestation twice, a leaf that is known.
	again := attested(3)
	again.Value = value(3)
	batch := []tlog.Leaf{attested(2), {Value: value(4)}, attested(3), again, attested(0), attested(2)}
	placed, head, err := s.Append(t.Context(), batch)
	if err != nil || head.Size != 7 || !placed[4].Dup || !placed[5].Dup {
		t.Fatalf("%+v, size %d, %v", placed, head.Size, err)
	}
	for _, n := range []int{0, 1, 2, 3} {
		r.add(t, batch[n].Value)
	}
	for size := 4; size < 40; size++ { // more than one page of them
		if _, _, err := s.Append(t.Context(), []tlog.Leaf{attested(size)}); err != nil {
			t.Fatal(err)
		}
		r.add(t, attested(size).Value)
	}
	large := make([]byte, 1<<20)
	for i := range large { // each byte of which a statement has to escape
		large[i] = '\''
	}
	if _, _, err := s.Append(t.Context(), []tlog.Leaf{{Value: value(5), Attestation: large}}); err != nil {
		t.Fatal(err)
	}
	r.add(t, value(5))
	if got, err := s.Attestation(t.Context(), sha256.Sum256(large)); err != nil || string(got) != string(large) {
		t.Fatalf("an attestation of 1 MiB has %d bytes, %v", len(got), err)
	}
	r.checkStore(t, s)
	if len(allAttestations(t, s)) != 40 { // 0, 2 to 39, and the large one
		t.Fatalf("%d attestations, want 40", len(allAttestations(t, s)))
	}
	closeAll(t, s)
	s = open(t, "attestations", f.clock.Now)
	for n := range 40 {
		if got := attestationOf(t, s, n); (got == nil) != (n == 1) {
			t.Fatalf("attestation %d has %d bytes", n, len(got))
		}
	}

	// A copy has them all; one that is there stays.
	to := open(t, "attestations-copy", f.clock.Now)
	all := allAttestations(t, s)
	if err := to.ImportAttestations(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	for some := range slices.Chunk(all, 7) {
		for range 2 {
			if err := to.ImportAttestations(t.Context(), some); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := to.ImportAttestations(t.Context(), []tlog.Attestation{{Hash: all[0].Hash, Bytes: []byte("other")}}); err != nil {
		t.Fatal(err)
	}
	if copied := allAttestations(t, to); len(copied) != len(all) {
		t.Fatalf("%d attestations in the copy, want %d", len(copied), len(all))
	}
	closeAll(t, s, to)
}

// testPostings reads search keys in pages, from both ends, while they are added, removed
// and put back.
func testPostings(t *testing.T, open Open) {
	f := newFixture(t)
	s := open(t, "postings", f.clock.Now)
	r := &reference{}
	const size = 90
	want := map[string][]tlog.SearchKey{}
	for n := range size {
		leaf := tlog.Leaf{Value: value(n), Keys: []string{fmt.Sprint("third ", n%3), "all", "Name: \xc3\xa4", fmt.Sprintf("only %02d", n), "all"}}
		if n%10 == 4 {
			leaf.ID = tlog.LeafHash(fmt.Appendf(nil, "identity %d", n))
		}
		r.add(t, leaf.Value)
		f.clock.Step(time.Second)
		if _, _, err := s.Append(t.Context(), []tlog.Leaf{leaf, leaf}); err != nil { // the second is known
			t.Fatal(err)
		}
		for _, name := range leaf.Keys[:4] {
			want[name] = append(want[name], tlog.SearchKey{Name: name, Index: uint64(n), Hash: r.hashes[n]})
		}
	}
	check := func() {
		t.Helper()
		for name, all := range want {
			for _, newest := range []bool{false, true} {
				for _, in := range []tlog.Span{{Begin: 0, End: size}, {Begin: 0, End: math.MaxUint64}, {Begin: 10, End: 71}, {Begin: 30, End: 31}, {Begin: 31, End: 31}, {Begin: size, End: size + 9}} {
					for _, most := range []int{1, 7, 1000} {
						some := slices.DeleteFunc(slices.Clone(all), func(k tlog.SearchKey) bool { return k.Index < in.Begin || k.Index >= in.End })
						if newest {
							slices.Reverse(some)
						}
						some = some[:min(len(some), most)]
						got, err := s.Postings(t.Context(), name, in, newest, most)
						if err != nil || !slices.Equal(got, some) {
							t.Fatalf("%d postings of %q in %v, newest %v: %v, %v, want %v", most, name, in, newest, got, err, some)
						}
					}
				}
			}
		}
	}
	check()
	for prefix, names := range map[string][]string{
		"third ": {"third 0", "third 1", "third 2"}, "third 1": {"third 1"}, "THIRD": nil, "Name:": {"Name: \xc3\xa4"}, "only 8": {"only 80", "only 81", "only 82", "only 83"}, "z": nil, "third 1 ": nil,
	} {
		if got, err := s.KeysWith(t.Context(), prefix, 4); err != nil || !slices.Equal(got, names) {
			t.Fatalf("%q begins %v, %v, want %v", prefix, got, err, names)
		}
	}
	indexes := []uint64{3, 0, size - 1, 3}
	times, err := s.Times(t.Context(), indexes)
	if err != nil || len(times) != len(indexes) {
		t.Fatal(times, err)
	}
	for i, index := range indexes {
		if e, err := s.Entries(t.Context(), index, index+1); err != nil || len(e) != 1 || !e[0].Time.Equal(times[i]) {
			t.Fatalf("entry %d is of %v, want %v, %v", index, times[i], e, err)
		}
	}
	if _, err := s.Times(t.Context(), []uint64{size}); err == nil {
		t.Fatal("an entry that is not there has a time")
	}

	gone := slices.Concat(want["third 1"][3:9], want["all"][70:])
	if missing, err := s.MissingSearchKeys(t.Context(), gone); err != nil || len(missing) > 0 {
		t.Fatalf("%v are missing, %v", missing, err)
	}
	if err := s.RemoveSearchKeys(t.Context(), gone); err != nil {
		t.Fatal(err)
	}
	others := []tlog.SearchKey{{Name: "none", Index: 1, Hash: r.hashes[1]}, {Name: "third 2", Index: 2, Hash: r.hashes[1]}, {Name: "third 2", Index: 1, Hash: r.hashes[2]}}
	if missing, err := s.MissingSearchKeys(t.Context(), slices.Concat(others, gone, want["third 0"])); err != nil || !slices.Equal(missing, slices.Concat(others, gone)) {
		t.Fatalf("%v are missing, %v, want %v", missing, err, gone)
	}
	if err := s.RemoveSearchKeys(t.Context(), others); err != nil { // which are not there
		t.Fatal(err)
	}
	if got, err := s.Postings(t.Context(), "third 1", tlog.Span{End: size}, false, size); err != nil || len(got) != len(want["third 1"])-6 {
		t.Fatalf("%d are left, %v", len(got), err)
	}
	for range 2 {
		if err := s.ImportSearchKeys(t.Context(), gone); err != nil {
			t.Fatal(err)
		}
	}
	check()
	closeAll(t, s)
}

func testEntries(t *testing.T, open Open) {
	f := newFixture(t)
	s := open(t, "entries", f.clock.Now)
	l := f.openLog(t, s)
	r := &reference{}
	extra := []byte("beside the value")
	r.add1(t, l, tlog.Leaf{Value: value(0), Extra: extra}, 0, false)
	r.add1(t, l, tlog.Leaf{Value: []byte{}}, 1, false)
	big := make([]byte, 1<<20)
	r.add1(t, l, tlog.Leaf{Value: big}, 2, false)
	if _, err := l.Add(t.Context(), tlog.Leaf{Value: make([]byte, tlog.MaxBatchBytes+1)}); !errors.Is(err, tlog.ErrTooLarge) {
		t.Fatalf("a leaf beyond the batch: %v, want ErrTooLarge", err)
	}
	entries, err := l.Entries(t.Context(), 0, 99)
	if err != nil || len(entries) != 3 || string(entries[0].Extra) != string(extra) || len(entries[1].Value) != 0 || len(entries[2].Value) != len(big) {
		t.Fatalf("entries: %d, %v", len(entries), err)
	}
	if _, err := l.Entries(t.Context(), 3, 4); !errors.Is(err, tlog.ErrNotFound) {
		t.Fatalf("entry behind the end: %v, want ErrNotFound", err)
	}
	if _, err := l.Find(t.Context(), tlog.LeafHash(value(7))); !errors.Is(err, tlog.ErrNotFound) {
		t.Fatalf("unknown leaf: %v, want ErrNotFound", err)
	}
	if none, err := s.Entries(t.Context(), 3, 9); err != nil || len(none) != 0 {
		t.Fatalf("store entries behind the end: %d, %v", len(none), err)
	}
	closeAll(t, l, s)
}

func testClock(t *testing.T, open Open) {
	f := newFixture(t)
	s := open(t, "clock", f.clock.Now)
	l := f.openLog(t, s)
	r := &reference{}
	r.add1(t, l, tlog.Leaf{Value: value(0)}, 0, false)
	at := l.Published().Time
	f.clock.Step(-tlog.MaxClockStep / 2)
	r.add1(t, l, tlog.Leaf{Value: value(1)}, 1, false)
	if got := l.Published().Time; !got.Equal(at) {
		t.Fatalf("entry under a clock that is a little behind has time %v, want %v", got, at)
	}
	f.clock.Step(-time.Hour)
	if err := l.Ready(t.Context()); !errors.Is(err, tlog.ErrClock) {
		t.Fatalf("ready under a clock that is an hour behind: %v, want ErrClock", err)
	}
	if _, err := l.Add(t.Context(), tlog.Leaf{Value: value(2)}); !errors.Is(err, tlog.ErrClock) || !errors.Is(err, tlog.ErrUnavailable) {
		t.Fatalf("add under a clock that is an hour behind: %v, want ErrClock and ErrUnavailable", err)
	}
	r.checkStore(t, s)
	f.clock.Step(2 * time.Hour)
	if err := l.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.add1(t, l, tlog.Leaf{Value: value(2)}, 2, false)
	r.checkLog(t, f, l, true)
	closeAll(t, l, s)
}

// testFreeze ends a log, which is read as before, also by who opens it later.
func testFreeze(t *testing.T, open Open) {
	f := newFixture(t)
	s := open(t, "freeze", f.clock.Now)
	l := f.openLog(t, s)
	r := &reference{}
	for i := range 3 {
		r.add1(t, l, tlog.Leaf{Value: value(i), Keys: []string{"key"}}, uint64(i), false)
	}
	before := l.Published()
	for range 2 {
		last, err := l.Freeze(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if !last.Frozen || last.Size != before.Size || last.Root != before.Root || l.Published() != last {
			t.Fatalf("the last tree has size %d and root %x (frozen: %v), want %d and %x", last.Size, last.Root, last.Frozen, before.Size, before.Root)
		}
		f.clock.Step(time.Hour)
	}
	for i := range 4 {
		if _, err := l.Add(t.Context(), tlog.Leaf{Value: value(i)}); !errors.Is(err, tlog.ErrFrozen) {
			t.Fatalf("adding leaf %d to a frozen log: %v, want ErrFrozen", i, err)
		}
	}
	if _, _, err := s.Append(t.Context(), []tlog.Leaf{{Value: value(3)}}); !errors.Is(err, tlog.ErrFrozen) {
		t.Fatalf("appending to a frozen store: %v, want ErrFrozen", err)
	}
	r.checkStore(t, s)
	closeAll(t, l, s)
	s = open(t, "freeze", f.clock.Now)
	l = f.openLog(t, s)
	if tree, err := l.Latest(t.Context()); err != nil || !tree.Frozen || tree.Size != 3 {
		t.Fatalf("opened again: %+v (%v), want a frozen tree of size 3", tree, err)
	}
	if _, _, err := s.Append(t.Context(), []tlog.Leaf{{Value: value(3)}}); !errors.Is(err, tlog.ErrFrozen) {
		t.Fatalf("appending to a frozen store that was opened again: %v, want ErrFrozen", err)
	}
	if _, err := l.Add(t.Context(), tlog.Leaf{Value: value(3)}); !errors.Is(err, tlog.ErrFrozen) {
		t.Fatalf("adding to a frozen log that was opened again: %v, want ErrFrozen", err)
	}
	r.checkStore(t, s)
	r.checkLog(t, f, l, true)
	closeAll(t, l, s)
}

// testRollback opens stores that do not hold what was signed.
func testRollback(t *testing.T, open Open) {
	f := newFixture(t)
	r := &reference{}
	s := open(t, "signed", f.clock.Now)
	l := f.openLog(t, s)
	for n := range 300 {
		r.add1(t, l, tlog.Leaf{Value: value(n)}, uint64(n), false)
	}
	closeAll(t, l)
	refused := func(what string, s tlog.Store) {
		t.Helper()
		if l, err := tlog.Open(t.Context(), s, f.opts); !errors.Is(err, tlog.ErrIntegrity) {
			if err == nil {
				l.Close()
			}
			t.Fatalf("%s: %v, want ErrIntegrity", what, err)
		}
	}
	empty := open(t, "empty", f.clock.Now)
	refused("an empty store behind a signed checkpoint", empty)
	behind := &reference{}
	older := open(t, "older", f.clock.Now)
	behind.grow(t, older, 299)
	refused("a store that lost the last entry", older)
	forked := open(t, "forked", f.clock.Now)
	if _, _, err := forked.Append(t.Context(), []tlog.Leaf{{Value: []byte("another first entry")}}); err != nil {
		t.Fatal(err)
	}
	for n := 1; n < 600; n++ {
		if _, _, err := forked.Append(t.Context(), []tlog.Leaf{{Value: value(n)}}); err != nil {
			t.Fatal(err)
		}
	}
	refused("a store that is longer but differs", forked)
	memory := f.opts.Memory
	f.opts.Memory = filepath.Join(t.TempDir(), "lost")
	refused("a store with entries and no second memory", s)
	f.opts.Memory = memory
	l = f.openLog(t, s)
	if other, err := tlog.Open(t.Context(), s, f.opts); err == nil {
		other.Close()
		t.Fatal("a log was opened twice")
	}
	r.checkLog(t, f, l, false)
	closeAll(t, l, s, empty, older, forked)
}

// fill appends leaves of every sort: with identities of their own, with extra
// data and without value, with search keys in common, and one as large as a
// batch.
func fill(t testing.TB, s tlog.Store, r *reference, size uint64) {
	t.Helper()
	for r.size() < size {
		var leaves []tlog.Leaf
		for n := int(r.size()); n < int(size) && len(leaves) < 100; n++ {
			leaf := tlog.Leaf{Value: value(n), Keys: []string{"all@example.com", fmt.Sprintf("sha256:%04x", n)}}
			switch n % 7 {
			case 1:
				leaf.ID, leaf.Extra = tlog.LeafHash(fmt.Appendf(nil, "identity %d", n)), []byte("beside the value")
			case 2:
				leaf.Keys = nil
			}
			if n == 3 {
				leaf = tlog.Leaf{Value: []byte{}}
			}
			if n == 150 {
				leaf.Value = append(leaf.Value, make([]byte, tlog.MaxBatchBytes-1000)...)
			}
			leaves = append(leaves, leaf)
			r.add(t, leaf.Value)
		}
		if _, _, err := s.Append(t.Context(), leaves); err != nil {
			t.Fatal(err)
		}
	}
}

// copyKeys copies all search keys, a few at a time, and returns them.
func copyKeys(t testing.TB, from, to Store) []tlog.SearchKey {
	t.Helper()
	var all []tlog.SearchKey
	for key, err := range from.SearchKeys(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, key)
	}
	for keys := range slices.Chunk(all, 97) {
		if err := to.ImportSearchKeys(t.Context(), keys); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// testImport copies a log into another one, in batches of several sizes, and
// goes on there.
func testImport(t *testing.T, open Open) {
	f := newFixture(t)
	from, to := open(t, "import-from", f.clock.Now), open(t, "import-to", f.clock.Now)
	r := &reference{}
	const size = 600
	fill(t, from, r, size)
	f.clock.Step(time.Hour) // the times of the entries are those of the source

	keys := copyKeys(t, from, to)
	if want := 2 * (size - (size+4)/7 - 1); len(keys) != want { // n%7 == 2 has none, nor has 3
		t.Fatalf("%d search keys, want %d", len(keys), want)
	}
	copyKeys(t, from, from) // which has them all
	if again := copyKeys(t, from, to); !slices.Equal(again, keys) {
		t.Fatalf("%d search keys in the source, or others than the %d before", len(again), len(keys))
	}
	copied := &reference{}
	for most := 1; copied.size() < size; most = most*3%251 + 1 {
		records, err := from.Records(t.Context(), copied.size(), most)
		if err != nil || len(records) == 0 || len(records) > most {
			t.Fatalf("records from %d: %d, %v", copied.size(), len(records), err)
		}
		bytes := 0
		for _, rec := range records {
			bytes += len(rec.Value) + len(rec.Extra)
			copied.add(t, rec.Value)
		}
		if bytes > tlog.MaxBatchBytes && len(records) > 1 {
			t.Fatalf("%d records of %d bytes", len(records), bytes)
		}
		head, err := to.Import(t.Context(), records)
		if err != nil {
			t.Fatal(err)
		}
		if head.Size != copied.size() || head.Root != r.root(t, head.Size) || !head.Time.Equal(records[len(records)-1].Time) {
			t.Fatalf("import returned %+v, want size %d and root %x", head, copied.size(), r.root(t, copied.size()))
		}
	}
	r.checkStore(t, to)
	for n := uint64(0); n < size; n++ {
		want, err := from.Records(t.Context(), n, 1)
		if err != nil || len(want) != 1 {
			t.Fatal(len(want), err)
		}
		got, err := to.Records(t.Context(), n, 1)
		if err != nil || len(got) != 1 {
			t.Fatal(len(got), err)
		}
		if !got[0].Time.Equal(want[0].Time) || string(got[0].Extra) != string(want[0].Extra) || got[0].ID != want[0].ID {
			t.Fatalf("entry %d is %v with identity %x, want %v and %x", n, got[0].Time, got[0].ID, want[0].Time, want[0].ID)
		}
	}
	if none, err := to.Records(t.Context(), size, 9); err != nil || len(none) != 0 {
		t.Fatalf("records behind the end: %d, %v", len(none), err)
	}
	if again := copyKeys(t, to, to); !slices.Equal(again, keys) {
		t.Fatalf("%d search keys in the copy, or others than the %d of the source", len(again), len(keys))
	}
	if found, err := to.Lookup(t.Context(), "sha256:0000"); err != nil || len(found) != 1 || found[0] != r.hashes[0] {
		t.Fatalf("search in the copy: %d, %v", len(found), err)
	}

	// It goes on as the source would: what is known is found.
	placed, _, err := to.Append(t.Context(), []tlog.Leaf{{Value: value(0)}, {Value: value(99), ID: tlog.LeafHash([]byte("identity 1"))}, {Value: value(size)}})
	if err != nil || !placed[0].Dup || placed[0].Index != 0 || !placed[1].Dup || placed[1].Index != 1 || placed[2].Index != size {
		t.Fatalf("append to a copy: %+v, %v", placed, err)
	}
	r.add(t, value(size))
	r.checkStore(t, to)
	closeAll(t, from, to)
}

// testImportRefused imports what cannot come next. Nothing of it is kept.
func testImportRefused(t *testing.T, open Open) {
	f := newFixture(t)
	from, to := open(t, "refused-from", f.clock.Now), open(t, "refused-to", f.clock.Now)
	r := &reference{}
	fill(t, from, r, 20)
	all, err := from.Records(t.Context(), 0, 20)
	if err != nil || len(all) != 20 {
		t.Fatal(len(all), err)
	}
	if _, err := to.Import(t.Context(), all[:10]); err != nil {
		t.Fatal(err)
	}
	kept := &reference{}
	for _, rec := range all[:10] {
		kept.add(t, rec.Value)
	}
	with := func(i int, f func(*tlog.Record)) []tlog.Record {
		out := slices.Clone(all[10:])
		f(&out[i])
		return out
	}
	for name, records := range map[string][]tlog.Record{
		"what is there":           all[:10],
		"what is there, and more": all[5:15],
		"a gap":                   all[11:],
		"a gap within":            slices.Concat(all[10:12], all[13:]),
		"a time that goes back":   with(0, func(r *tlog.Record) { r.Time = all[9].Time.Add(-1) }),
		"the same, within":        with(5, func(r *tlog.Record) { r.Time = all[9].Time.Add(-1) }),
		"an identity of before":   with(3, func(r *tlog.Record) { r.ID = all[2].ID }),
		"an identity twice":       with(3, func(r *tlog.Record) { r.ID = all[12].ID }),
	} {
		if head, err := to.Import(t.Context(), records); err == nil {
			t.Fatalf("%s: imported, size %d", name, head.Size)
		}
		kept.checkStore(t, to)
	}
	if _, err := to.Import(t.Context(), all[10:]); err != nil {
		t.Fatal(err)
	}
	r.checkStore(t, to)
	closeAll(t, from, to)
}
