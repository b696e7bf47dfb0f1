package tlog_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/sigstack/sigstack/tlog"
)

// The tests in this file let the store or the file of the second memory behave
// in ways that a Log must not take on faith.

// A lying store answers Append and Find as it is told.
type lying struct {
	tlog.Store
	placed func([]tlog.Placed)
	failed error // of the next Append
	find   func(index uint64) uint64
}

func (s *lying) Append(ctx context.Context, leaves []tlog.Leaf) ([]tlog.Placed, tlog.Head, error) {
	placed, head, err := s.Store.Append(ctx, leaves)
	if s.placed != nil {
		s.placed(placed)
	}
	return placed, head, errors.Join(err, s.failed)
}

func (s *lying) Find(ctx context.Context, hash tlog.Hash) (uint64, bool, error) {
	index, ok, err := s.Store.Find(ctx, hash)
	if s.find != nil {
		index = s.find(index)
	}
	return index, ok, err
}

func (f *fixture) openOver(t *testing.T, s tlog.Store) *tlog.Log {
	t.Helper()
	l, err := tlog.Open(t.Context(), s, tlog.Options{Signer: f.signer, Memory: f.memory(), Now: f.clock.Now, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func leaf(n int) tlog.Leaf { return tlog.Leaf{Value: fmt.Appendf(nil, "leaf %d", n)} }

// TestMemoryCannotBeWritten takes the file of the second memory away under a
// running log: nothing may be shown that was not remembered.
func TestMemoryCannotBeWritten(t *testing.T) {
	f := newFixture(t)
	l := f.mustOpen(t)
	add(t, l, 0, nil)
	before := l.Published()
	if err := l.BreakMemory(); err != nil {
		t.Fatal(err)
	}
	for n := 1; n < 4; n++ {
		add(t, l, n, tlog.ErrUnavailable)
		if l.Published() != before {
			t.Fatal("a checkpoint was published that the second memory does not hold")
		}
	}
	if err := l.Ready(t.Context()); !errors.Is(err, tlog.ErrUnavailable) {
		t.Fatalf("ready without a second memory: %v", err)
	}
	l.Close() // its file is closed already
	l = f.mustOpen(t)
	defer l.Close()
	if in := add(t, l, 1, nil); in.Index != 1 || !in.Dup {
		t.Fatalf("index %d, dup %v", in.Index, in.Dup)
	}
}

// TestAttemptCounts lets the store lose an entry whose checkpoint was signed
// and perhaps remembered, but not published: it was signed all the same.
func TestAttemptCounts(t *testing.T) {
	f := newFixture(t)
	l := f.mustOpen(t)
	defer l.Close()
	add(t, l, 0, nil)
	root := l.Published().Root
	if err := l.BreakMemory(); err != nil {
		t.Fatal(err)
	}
	add(t, l, 1, tlog.ErrUnavailable)
	f.head = func(h *tlog.Head) { h.Size, h.Root = 1, root }
	add(t, l, 2, tlog.ErrIntegrity)
}

// TestAnotherWriter appends to the store behind the log's back, as a replica
// does: the log reads that back and goes on.
func TestAnotherWriter(t *testing.T) {
	f := newFixture(t)
	l := f.mustOpen(t)
	defer l.Close()
	for n := range 20 {
		add(t, l, 3*n, nil)
		if _, _, err := f.Store.Append(t.Context(), []tlog.Leaf{leaf(3*n + 1), leaf(3*n + 2)}); err != nil {
			t.Fatal(err)
		}
		if in := add(t, l, 3*n+2, nil); !in.Dup || in.Index != uint64(3*n+2) || in.Tree.Size != uint64(3*n+3) {
			t.Fatalf("index %d, dup %v in a tree of %d", in.Index, in.Dup, in.Tree.Size)
		}
	}
	if err := l.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	// What was added by a batch that did not include it in its own edge.
	f.appended = func(h *tlog.Head) {
		f.appended = nil
		_, head, err := f.Store.Append(t.Context(), []tlog.Leaf{leaf(1000)})
		if err != nil {
			t.Error(err)
		}
		*h = head
	}
	in := add(t, l, 60, nil)
	if in.Index != 60 || in.Tree.Size != 62 {
		t.Fatalf("index %d in a tree of %d", in.Index, in.Tree.Size)
	}
	verify(t, in, 60)
	if err := l.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func verify(t *testing.T, in *tlog.Included, n int) {
	t.Helper()
	path := make([][]byte, len(in.Proof))
	for i := range path {
		path[i] = in.Proof[i][:]
	}
	hash := tlog.LeafHash(leaf(n).Value)
	if err := proof.VerifyInclusion(rfc6962.DefaultHasher, in.Index, in.Tree.Size, hash[:], path, in.Tree.Root[:]); err != nil {
		t.Fatalf("leaf %d at %d in a tree of %d: %v", n, in.Index, in.Tree.Size, err)
	}
}

// TestPlacesAreCompared lets the store say of leaves that they lie where
// others do.
func TestPlacesAreCompared(t *testing.T) {
	for name, test := range map[string]func(*testing.T, *fixture, *lying, *tlog.Log){
		"a duplicate": func(t *testing.T, f *fixture, s *lying, l *tlog.Log) {
			s.placed = func(p []tlog.Placed) { p[0].Index = 1 }
			add(t, l, 2, tlog.ErrIntegrity)
		},
		"a new leaf, read back": func(t *testing.T, f *fixture, s *lying, l *tlog.Log) {
			s.placed = func(p []tlog.Placed) { p[0].Index = 1 }
			add(t, l, 3, tlog.ErrIntegrity)
			s.placed = nil
			add(t, l, 4, tlog.ErrIntegrity) // and nothing is signed any more
		},
		"a new leaf as a duplicate": func(t *testing.T, f *fixture, s *lying, l *tlog.Log) {
			s.placed = func(p []tlog.Placed) { p[0].Index, p[0].Dup = 1, true }
			add(t, l, 3, tlog.ErrIntegrity)
		},
		"a lookup": func(t *testing.T, f *fixture, s *lying, l *tlog.Log) {
			if index, err := l.Find(t.Context(), tlog.LeafHash(leaf(2).Value)); err != nil || index != 2 {
				t.Fatalf("index %d, %v", index, err)
			}
			s.find = func(index uint64) uint64 { return index - 1 }
			if index, err := l.Find(t.Context(), tlog.LeafHash(leaf(2).Value)); !errors.Is(err, tlog.ErrIntegrity) {
				t.Fatalf("index %d, %v; want ErrIntegrity", index, err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			s := &lying{Store: f.faulty}
			l := f.openOver(t, s)
			for n := range 3 {
				add(t, l, n, nil)
			}
			test(t, f, s, l)
		})
	}
}

// TestProofBelongsToItsTree lets the log grow while a proof is being computed.
func TestProofBelongsToItsTree(t *testing.T) {
	f := newFixture(t)
	l := f.mustOpen(t)
	for n := range 300 {
		add(t, l, n, nil)
	}
	l.Close()
	l = f.mustOpen(t) // with an empty cache of tiles
	defer l.Close()
	grown := false
	f.tile = func([]tlog.Hash) {
		if !grown {
			grown = true
			add(t, l, 300, nil)
		}
	}
	in := add(t, l, 7, nil) // a duplicate: its tile has to be read
	if !grown || l.Published().Size != 301 {
		t.Fatalf("grown %v, size %d", grown, l.Published().Size)
	}
	if in.Tree.Size != 300 {
		t.Fatalf("tree of size %d", in.Tree.Size)
	}
	verify(t, in, 7)
}

// TestOnlyPublishedIsShown stores an entry whose checkpoint cannot be signed.
func TestOnlyPublishedIsShown(t *testing.T) {
	f := newFixture(t)
	l := f.mustOpen(t)
	defer l.Close()
	add(t, l, 0, nil)
	f.signErr = errDisk
	add(t, l, 1, tlog.ErrUnavailable)
	if head, err := f.Store.Head(t.Context()); err != nil || head.Size != 2 {
		t.Fatalf("store has %d entries, want 2 (%v)", head.Size, err)
	}
	if entries, err := l.Entries(t.Context(), 0, 9); err != nil || len(entries) != 1 {
		t.Fatalf("%d entries are shown, %v", len(entries), err)
	}
	if _, err := l.Entries(t.Context(), 1, 2); !errors.Is(err, tlog.ErrNotFound) {
		t.Fatalf("an entry without a checkpoint: %v, want ErrNotFound", err)
	}
	if _, err := l.Find(t.Context(), tlog.LeafHash(leaf(1).Value)); !errors.Is(err, tlog.ErrNotFound) {
		t.Fatalf("its index: %v, want ErrNotFound", err)
	}
}

// TestOldTreesStay keeps every tree that was ever published, and looks at all
// of them when the log has grown over the edges of tiles.
func TestOldTreesStay(t *testing.T) {
	f := newFixture(t)
	l := f.mustOpen(t)
	defer l.Close()
	trees := []*tlog.Tree{l.Published()}
	for n := range 520 {
		trees = append(trees, add(t, l, n, nil).Tree)
	}
	for size, tree := range trees {
		if root, err := tree.RootAt(t.Context(), tree.Size); err != nil || root != tree.Root || tree.Size != uint64(size) {
			t.Fatalf("tree of size %d: size %d, root %x, was published as %x (%v)", size, tree.Size, root, tree.Root, err)
		}
		for _, n := range []int{0, size / 2, size - 1} {
			if n < 0 || n >= size {
				continue
			}
			path, err := tree.Inclusion(t.Context(), uint64(n), tree.Size)
			if err != nil {
				t.Fatalf("leaf %d in the tree of size %d: %v", n, size, err)
			}
			verify(t, &tlog.Included{Index: uint64(n), Tree: tree, Proof: path}, n)
		}
	}
}

// TestNothingWrongIsSigned counts signatures: a root that does not follow from
// the tree is not even given to the signer.
func TestNothingWrongIsSigned(t *testing.T) {
	f := newFixture(t)
	l := f.mustOpen(t)
	for n := range 3 {
		add(t, l, n, nil)
	}
	l.Close()
	signed := 0
	f.sign = func(digest []byte) []byte { signed++; return digest }
	f.head = func(h *tlog.Head) { h.Root[5] ^= 1 }
	if l, err := f.open(); !errors.Is(err, tlog.ErrIntegrity) {
		if err == nil {
			l.Close()
		}
		t.Fatalf("a head with another root: %v, want ErrIntegrity", err)
	}
	if signed != 0 {
		t.Fatalf("%d signatures over a root that the tiles do not lead to", signed)
	}
	f.head = nil
	l = f.mustOpen(t)
	defer l.Close()
	signed = 0
	f.appended = func(h *tlog.Head) { h.Root[5] ^= 1 }
	f.head = f.appended
	add(t, l, 3, tlog.ErrIntegrity)
	if signed != 0 {
		t.Fatalf("%d signatures over a root that the batch does not lead to", signed)
	}
}

// TestSignedTreeIsCompared publishes a tree whose root changed in memory, as a
// flipped bit does: the second memory must not learn of it either.
func TestSignedTreeIsCompared(t *testing.T) {
	f := newFixture(t)
	l := f.mustOpen(t)
	for n := range 3 {
		add(t, l, n, nil)
	}
	before := l.Published()
	root := before.Root
	root[17] ^= 4
	if err := l.PublishRoot(root); !errors.Is(err, tlog.ErrIntegrity) {
		t.Fatalf("a flipped root: %v, want ErrIntegrity", err)
	}
	if l.Published() != before {
		t.Fatal("it was published")
	}
	add(t, l, 3, nil)
	l.Close()
	l = f.mustOpen(t)
	l.Close()
}

// TestNoRoom lets the disk be nearly full for a while.
func TestNoRoom(t *testing.T) {
	f := newFixture(t)
	var full error
	l, err := tlog.Open(t.Context(), f.faulty, tlog.Options{
		Signer: f.signer, Memory: f.memory(), Now: f.clock.Now, Logger: slog.New(slog.DiscardHandler),
		Room: func() error { return full },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	add(t, l, 0, nil)
	full = errors.New("10 bytes are free")
	add(t, l, 1, tlog.ErrUnavailable)
	if err := l.Ready(t.Context()); !errors.Is(err, tlog.ErrUnavailable) {
		t.Fatalf("ready without room: %v", err)
	}
	if head, err := f.Store.Head(t.Context()); err != nil || head.Size != 1 {
		t.Fatalf("store has %d entries, want 1 (%v)", head.Size, err)
	}
	if entries, err := l.Entries(t.Context(), 0, 9); err != nil || len(entries) != 1 {
		t.Fatalf("%d entries are shown, %v", len(entries), err)
	}
	full = nil
	if in := add(t, l, 1, nil); in.Index != 1 || in.Dup {
		t.Fatalf("index %d, dup %v", in.Index, in.Dup)
	}
}

// TestUnknown fails writes before and after the leaf was given to the store: only
// after that the caller is told that it may be there.
func TestUnknown(t *testing.T) {
	full := errors.New("10 bytes are free")
	for name, test := range map[string]struct {
		fault   func(*fixture, *error)
		unknown bool
	}{
		"no room":              {func(f *fixture, room *error) { *room = full }, false},
		"clock":                {func(f *fixture, _ *error) { f.clock.Step(-time.Minute) }, false},
		"the store fails":      {func(f *fixture, _ *error) { f.appendErr = errDisk }, true},
		"the signer fails":     {func(f *fixture, _ *error) { f.signErr = errDisk }, true},
		"the store is behind":  {func(f *fixture, _ *error) { f.appendErr = tlog.ErrIntegrity }, true},
		"and cannot be read":   {func(f *fixture, _ *error) { f.appendErr, f.headErr = tlog.ErrIntegrity, errDisk }, true},
		"another was unknown":  {func(f *fixture, _ *error) { f.appendErr = errDisk }, true},
		"the store is no more": {func(f *fixture, _ *error) { f.headErr = errDisk }, false},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			var room error
			l, err := tlog.Open(t.Context(), f.faulty, tlog.Options{
				Signer: f.signer, Memory: f.memory(), Now: f.clock.Now, Logger: slog.New(slog.DiscardHandler),
				Room: func() error { return room },
			})
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			add(t, l, 0, nil)
			if name == "the store is no more" { // it is read before the next batch
				f.appendErr = errDisk
				add(t, l, 0, tlog.ErrUnknown)
				f.appendErr = nil
			}
			test.fault(f, &room)
			_, err = l.Add(t.Context(), leaf(1))
			if !errors.Is(err, tlog.ErrUnavailable) || errors.Is(err, tlog.ErrIntegrity) || errors.Is(err, tlog.ErrUnknown) != test.unknown {
				t.Errorf("%v; want that it is unknown: %v", err, test.unknown)
			}
		})
	}
}

// TestStoreIsBehind has the store say that it has less than it had. Where it lacks
// what was signed, the log stops in the batch that is told so.
func TestStoreIsBehind(t *testing.T) {
	f := newFixture(t)
	s := &lying{Store: f.faulty}
	l := f.openOver(t, s)
	for n := range 3 {
		add(t, l, n, nil)
	}
	before := l.Published()
	s.failed = tlog.ErrIntegrity
	f.head = func(h *tlog.Head) { h.Size = 2 }
	add(t, l, 3, tlog.ErrIntegrity)
	s.failed, f.head = nil, nil
	add(t, l, 4, tlog.ErrIntegrity)
	if l.Published() != before {
		t.Error("another checkpoint was published")
	}
}
