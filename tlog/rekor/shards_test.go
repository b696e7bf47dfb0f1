package rekor

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sigstack/sigstack/tlog"
	"github.com/sigstack/sigstack/tlog/entry"
)

// rotated is a log that goes on in the next of some trees.
type rotated struct {
	*Log
	trees  []*testLog
	opened int
	fail   error // of Next
}

func newRotated(t testing.TB, trees int) *rotated {
	t.Helper()
	r := &rotated{opened: 1}
	for range trees {
		r.trees = append(r.trees, newTestShard(t))
	}
	var err error
	r.Log, err = New(Config{Shards: []Shard{r.trees[0].shard()}, Next: func(context.Context) (Shard, error) {
		if r.fail != nil {
			return Shard{}, r.fail
		}
		r.opened++
		return r.trees[r.opened-1].shard(), nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestRotate rotates a log twice. Each entry keeps its index, its UUID, and what
// was signed with the key of its tree; an entry that is added again after a
// rotation is another one.
func TestRotate(t *testing.T) {
	l, ctx := newRotated(t, 3), t.Context()
	var all []*LogEntry
	create := func(tree int, bodies ...int) {
		t.Helper()
		for _, i := range bodies {
			e, err := l.Create(ctx, &entry.Entry{Body: body(i), Keys: []string{"all", fmt.Sprint("body", i)}})
			if err != nil {
				t.Fatal(err)
			}
			l.trees[tree].check(t, e)
			if e.LogIndex != uint64(len(all)) {
				t.Fatalf("entry has index %d, want %d", e.LogIndex, len(all))
			}
			all = append(all, e)
		}
	}
	rotate := func() {
		t.Helper()
		if err := l.Rotate(ctx); err != nil {
			t.Fatal(err)
		}
	}
	create(0, 0, 1, 2)
	rotate()
	l.trees[1].base = 3
	create(1, 2, 3)
	if _, err := l.Create(ctx, &entry.Entry{Body: body(3)}); !errors.Is(err, ErrExists) {
		t.Fatalf("an entry that the tree has: %v, want ErrExists", err)
	}
	rotate()
	l.trees[2].base = 5
	create(2, 4)
	if l.Active() != 2 {
		t.Fatalf("tree %d is in use, want 2", l.Active())
	}

	trees := []int{0, 0, 0, 1, 1, 2}
	first := map[string]*LogEntry{} // by leaf hash: the one in the newest tree
	for i, want := range all {
		first[want.UUID[16:]] = want
		tree := l.trees[trees[i]]
		for name, get := range map[string]func() (*LogEntry, error){
			"index":      func() (*LogEntry, error) { return l.ByIndex(ctx, uint64(i)) },
			"UUID":       func() (*LogEntry, error) { return l.ByUUID(ctx, strings.ToUpper(want.UUID)) },
			"forgetting": func() (*LogEntry, error) { l.recent = newRecent(maxRecent); return l.ByIndex(ctx, uint64(i)) },
		} {
			got, err := get()
			if err != nil {
				t.Fatalf("entry %d by %s: %v", i, name, err)
			}
			tree.check(t, got)
			if got.UUID != want.UUID || got.LogIndex != uint64(i) || !bytes.Equal(got.Body, want.Body) || got.LogID != want.LogID {
				t.Errorf("entry %d by %s: %+v, want %+v", i, name, got, want)
			}
		}
	}
	for leaf, want := range first {
		if got, err := l.ByUUID(ctx, leaf); err != nil || got.UUID != want.UUID {
			t.Errorf("leaf %s: %v (%v), want %s", leaf, got, err, want.UUID)
		}
	}
	for _, index := range []uint64{6, 1 << 62} {
		if _, err := l.ByIndex(ctx, index); !errors.Is(err, tlog.ErrNotFound) {
			t.Errorf("entry %d: %v, want ErrNotFound", index, err)
		}
	}
	if _, err := l.ByUUID(ctx, fmt.Sprintf("%016x", l.trees[1].store.TreeID())+all[0].UUID[16:]); !errors.Is(err, tlog.ErrNotFound) {
		t.Errorf("an entry of another tree: %v, want ErrNotFound", err)
	}

	for keys, want := range map[string][]int{"all": {0, 1, 2, 3, 4, 5}, "body2": {2, 3}, "body4": {5}, "all body3": {4}, "none": {}} {
		got, err := l.Search(ctx, strings.Fields(keys), true)
		if err != nil {
			t.Fatal(err)
		}
		uuids := []string{}
		for _, i := range want {
			uuids = append(uuids, all[i].UUID)
		}
		slices.Sort(got)
		slices.Sort(uuids)
		if !slices.Equal(got, uuids) {
			t.Errorf("search for %q: %v, want %v", keys, got, uuids)
		}
	}

	for _, oldest := range []bool{false, true} {
		for keys, want := range map[string][]int{"": {0, 1, 2, 3, 4, 5}, "all": {0, 1, 2, 3, 4, 5}, "body2": {2, 3}, "bod": {0, 1, 2, 3, 4, 5}, "none": nil} {
			q := Query{Oldest: oldest, Limit: 2}
			if keys != "" {
				q.Terms = []Term{{Keys: []string{keys}, Prefix: keys == "bod"}}
			}
			want := slices.Clone(want)
			if !oldest {
				slices.Reverse(want)
			}
			var got []int
			for more := true; more; {
				page, err := l.Find(ctx, q)
				if err != nil || page.Size != 6 {
					t.Fatalf("a page of %q: %+v (%v)", keys, page, err)
				}
				for _, e := range page.Entries {
					if e.UUID != all[e.LogIndex].UUID {
						t.Errorf("entry %d is found as %s, want %s", e.LogIndex, e.UUID, all[e.LogIndex].UUID)
					}
					got = append(got, int(e.LogIndex))
				}
				more, q.Resume = page.More, &page.Next
			}
			if !slices.Equal(got, want) {
				t.Errorf("pages of %q (oldest first: %v): %v, want %v", keys, oldest, got, want)
			}
		}
	}

	active, frozen, err := l.Info(ctx)
	if err != nil || len(frozen) != 2 {
		t.Fatalf("%d frozen trees (%v), want 2", len(frozen), err)
	}
	for i, info := range append(frozen, active) {
		tree := l.trees[i]
		cp, err := tree.verify.Open(info.Checkpoint)
		if err != nil || cp.Size != info.Size || cp.Root != info.Root || info.TreeID != tree.store.TreeID() || info.Size != []uint64{3, 2, 1}[i] {
			t.Errorf("tree %d: %+v, checkpoint %+v (%v)", i, info, cp, err)
		}
		id := strconv.FormatInt(info.TreeID, 10)
		text, err := l.PublicKey(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(text)
		if key, err := x509.ParsePKIXPublicKey(block.Bytes); err != nil || !tree.key.PublicKey.Equal(key) {
			t.Errorf("the public key of tree %d is another one (%v)", i, err)
		}
		if _, root, err := l.Consistency(ctx, id, 1, info.Size); err != nil || root != info.Root {
			t.Errorf("proof in tree %d: root %x (%v), want %x", i, root, err, info.Root)
		}
		var input *InputError
		if _, _, err := l.Consistency(ctx, id, 1, info.Size+1); !errors.As(err, &input) {
			t.Errorf("proof behind the end of tree %d: %v, want an InputError", i, err)
		}
	}

	// As after a restart.
	again, err := New(Config{Shards: []Shard{l.trees[0].shard(), l.trees[1].shard(), l.trees[2].shard()}})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range all {
		if got, err := again.ByIndex(ctx, uint64(i)); err != nil || got.UUID != want.UUID || got.LogIndex != uint64(i) {
			t.Errorf("entry %d after a restart: %+v (%v)", i, got, err)
		}
	}
}

// TestRotateUnderWriters rotates while entries are added: none is refused, and the
// indices have no gap.
func TestRotateUnderWriters(t *testing.T) {
	const writers, rotations = 8, 4
	l, ctx := newRotated(t, rotations+1), t.Context()
	quit := make(chan struct{})
	var mu sync.Mutex
	seen := map[uint64]*LogEntry{}
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-quit:
					return
				default:
				}
				e, err := l.Create(ctx, &entry.Entry{Body: body(1_000_000*w + i)})
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				if other := seen[e.LogIndex]; other != nil {
					t.Errorf("two entries have index %d", e.LogIndex)
				}
				seen[e.LogIndex] = e
				mu.Unlock()
			}
		})
	}
	for n := range rotations {
		for enough := false; !enough && !t.Failed(); {
			mu.Lock()
			enough = len(seen) > 50*(n+1)
			mu.Unlock()
		}
		if err := l.Rotate(ctx); err != nil {
			t.Error(err)
		}
	}
	close(quit)
	all.Wait()
	for i := range uint64(len(seen)) {
		want := seen[i]
		if want == nil {
			t.Fatalf("of %d entries none has index %d", len(seen), i)
		}
		got, err := l.ByIndex(ctx, i)
		if err != nil || got.UUID != want.UUID {
			t.Fatalf("entry %d: %+v (%v), want %s", i, got, err, want.UUID)
		}
	}
}

// TestFollow has somebody else freeze a tree, as another process does where they
// share the stores.
func TestFollow(t *testing.T) {
	l, ctx := newRotated(t, 2), t.Context()
	if _, err := l.Create(ctx, &entry.Entry{Body: body(0)}); err != nil {
		t.Fatal(err)
	}
	if _, err := l.trees[0].engine.Freeze(ctx); err != nil {
		t.Fatal(err)
	}
	// The key of the next tree is not here yet.
	l.fail = errors.New("no such key")
	for name, err := range map[string]error{
		"adding":    second(l.Create(ctx, &entry.Entry{Body: body(1)})),
		"an index":  second(l.ByIndex(ctx, 1)),
		"a leaf":    second(l.ByUUID(ctx, strings.Repeat("0", 64))),
		"searching": second(l.Search(ctx, []string{"a"}, false)),
		"a tree":    second(l.PublicKey(ctx, "5")),
	} {
		if !errors.Is(err, tlog.ErrUnavailable) || !strings.Contains(err.Error(), "no such key") {
			t.Errorf("%s: %v, want ErrUnavailable with its cause", name, err)
		}
	}
	if e, err := l.ByIndex(ctx, 0); err != nil || e.LogIndex != 0 {
		t.Errorf("an entry of the frozen tree: %v", err)
	}
	l.fail = nil
	e, err := l.Create(ctx, &entry.Entry{Body: body(1)})
	if err != nil || e.LogIndex != 1 || e.Proof.Index != 0 {
		t.Fatalf("adding to the next tree: %+v (%v)", e, err)
	}
	l.trees[1].base = 1
	l.trees[1].check(t, e)
}

func second[T any](_ T, err error) error { return err }

// TestRangeOverTrees follows a log over a rotation, as whoever delivers its entries
// does: woken each time, by index, and one tree at a time.
func TestRangeOverTrees(t *testing.T) {
	l, ctx := newRotated(t, 2), t.Context()
	const entries = 12
	failed := make(chan error, 1)
	go func() {
		for i := range entries {
			_, err := l.Create(ctx, &entry.Entry{Body: body(i)})
			if err == nil && i == entries/2 {
				err = l.Rotate(ctx)
			}
			if err != nil {
				failed <- err
				return
			}
		}
	}()
	l.trees[1].base = entries/2 + 1
	for next := uint64(0); next < entries; {
		grows := l.Grows()
		size := l.Size()
		for next < size {
			got, err := l.Range(ctx, next, size)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range got {
				tree := l.trees[min(next/(entries/2+1), 1)]
				tree.check(t, e)
				if e.LogIndex != next || !bytes.Equal(e.Body, body(int(next))) {
					t.Fatalf("entry %d with %s comes where %d should", e.LogIndex, e.Body, next)
				}
				next++
			}
		}
		if next == entries {
			break
		}
		select {
		case <-grows:
		case err := <-failed:
			t.Fatal(err)
		case <-time.After(time.Minute):
			t.Fatalf("not woken after entry %d", next)
		}
	}
	if _, err := l.Range(ctx, entries, entries+1); !errors.Is(err, tlog.ErrNotFound) {
		t.Errorf("a range behind the end: %v, want ErrNotFound", err)
	}
	if size, err := l.Latest(ctx); err != nil || size != entries {
		t.Errorf("%d entries (%v), want %d", size, err, entries)
	}
}
