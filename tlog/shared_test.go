package tlog_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"

	"github.com/sigstack/sigstack/tlog"
)

// one has the appends of several logs come one by one, as they do where several
// processes share a database.
type one struct {
	*faulty
	mu sync.Mutex
}

func (o *one) Append(ctx context.Context, leaves []tlog.Leaf) ([]tlog.Placed, tlog.Head, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.faulty.Append(ctx, leaves)
}

// TestShared has several logs append to one store. Each shows what any of them
// has acknowledged, and an index is given once.
func TestShared(t *testing.T) {
	f := newFixture(t)
	store := &one{faulty: f.faulty}
	replica := func(name string, shared bool) (*tlog.Log, error) {
		return tlog.Open(t.Context(), store, tlog.Options{
			Signer: f.signer, Memory: filepath.Join(f.dir, name), Now: f.clock.Now, Logger: slog.New(slog.DiscardHandler), Shared: shared,
		})
	}
	must := func(name string) *tlog.Log {
		t.Helper()
		l, err := replica(name, true)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	a, b := must("a"), must("b")
	defer a.Close()
	defer func() { b.Close() }()

	first := add(t, a, 0, nil)
	if size := b.Published().Size; size != 0 {
		t.Fatalf("the other log has published size %d without having been asked", size)
	}
	entries, err := b.Entries(t.Context(), 0, 1)
	if err != nil || len(entries) != 1 || string(entries[0].Value) != "leaf 0" {
		t.Fatalf("entry 0 of the other log: %v, %v", entries, err)
	}
	add(t, a, 1, nil)
	if n, err := b.Find(t.Context(), tlog.LeafHash([]byte("leaf 1"))); n != 1 || err != nil {
		t.Fatalf("the other log finds leaf 1 at %d: %v", n, err)
	}
	add(t, a, 2, nil)
	tree, err := b.Latest(t.Context())
	if err != nil || tree.Size != 3 || b.Published() != tree {
		t.Fatalf("the latest tree of the other log: %+v, %v", tree, err)
	}
	cp, err := f.signer.Verifier.Open(tree.Checkpoint)
	if err != nil || cp.Size != 3 || cp.Root != tree.Root {
		t.Fatalf("its checkpoint: %+v, %v", cp, err)
	}
	if again, err := b.Latest(t.Context()); again != tree || err != nil {
		t.Fatalf("asking again signs again: %v", err)
	}
	if in := add(t, b, 0, nil); !in.Dup || in.Index != 0 || !in.Time.Equal(first.Time) {
		t.Fatalf("leaf 0 from the other log: %+v", in)
	}
	if in := add(t, b, 3, nil); in.Dup || in.Index != 3 {
		t.Fatalf("leaf 3 from the other log: %+v", in)
	}

	// Many writers of the same leaves, to both.
	const leaves, writers = 100, 8
	var mu sync.Mutex
	index := map[int]uint64{}
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for n := range leaves {
				in, err := []*tlog.Log{a, b}[w%2].Add(t.Context(), tlog.Leaf{Value: fmt.Appendf(nil, "leaf %d", n)})
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				if was, ok := index[n]; ok && was != in.Index {
					t.Errorf("leaf %d has the indices %d and %d", n, was, in.Index)
				}
				index[n] = in.Index
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	for _, l := range []*tlog.Log{a, b} {
		if tree, err := l.Latest(t.Context()); err != nil || tree.Size != leaves {
			t.Errorf("size %d, %v", tree.Size, err)
		}
	}

	// A replica that is new begins to remember; a log of its own must not be.
	if _, err := replica("c", false); !errors.Is(err, tlog.ErrIntegrity) {
		t.Errorf("opened without its second memory: %v", err)
	}
	c := must("c")
	if size := c.Published().Size; size != leaves {
		t.Errorf("the new replica has published size %d", size)
	}
	c.Close()

	// The database was replaced by an older one. What was published stays there
	// to be read, and nothing is signed.
	before := b.Published()
	f.head = func(h *tlog.Head) { h.Size = 50 }
	if tree, err := b.Latest(t.Context()); err != nil || tree != before {
		t.Errorf("the latest tree over a store that is behind: %v, %v", tree, err)
	}
	f.head = nil
	add(t, b, 1000, tlog.ErrIntegrity)

	// The store is out of reach: nobody knows what others have published.
	f.headErr = errDisk
	if _, err := a.Latest(t.Context()); !errors.Is(err, tlog.ErrUnavailable) {
		t.Errorf("the latest tree without a store: %v", err)
	}
	if _, err := a.Reaching(t.Context(), a.Published().Size); err != nil {
		t.Errorf("what is published anyway: %v", err)
	}
	f.headErr = nil
	if _, err := a.Latest(t.Context()); err != nil {
		t.Error(err)
	}
}
