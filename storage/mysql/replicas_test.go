package mysql_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/sigstack/sigstack/storage/mysql"
	"github.com/sigstack/sigstack/test/harness"
	"github.com/sigstack/sigstack/tlog"
	"github.com/sigstack/sigstack/tlog/checkpoint"
)

func newLog(t testing.TB, signer *checkpoint.Signer, s tlog.Store) *tlog.Log {
	t.Helper()
	l, err := tlog.Open(t.Context(), s, tlog.Options{Signer: signer, Memory: filepath.Join(t.TempDir(), "signed"), Now: time.Now, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func newSigner(t testing.TB) *checkpoint.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := checkpoint.NewSigner("replicas", "replicas", key)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

func leaf(n int) tlog.Leaf {
	return tlog.Leaf{Value: fmt.Appendf(nil, "leaf %d", n), Extra: fmt.Appendf(nil, "extra %d", n), Keys: []string{fmt.Sprintf("key %d", n%7), "everybody"}}
}

// checkWhole reads a whole log of a given size: it has to be the tree of its
// entries, each value once and each in the place and with the time that placed
// says.
func checkWhole(t testing.TB, s *mysql.Store, size uint64, placed map[string]tlog.Placed) {
	t.Helper()
	head, err := s.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	entries, err := s.Entries(t.Context(), 0, size+10)
	if err != nil {
		t.Fatal(err)
	}
	if head.Size != size || uint64(len(entries)) != size {
		t.Fatalf("%d entries in a tree of size %d, want %d", len(entries), head.Size, size)
	}
	nodes := (&compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}).NewEmptyRange(0)
	seen := map[string]bool{}
	var last time.Time
	for i, e := range entries {
		if e.Index != uint64(i) || seen[string(e.Value)] || e.Time.Before(last) {
			t.Fatalf("entry %d has index %d, time %v after %v, seen %v", i, e.Index, e.Time, last, seen[string(e.Value)])
		}
		seen[string(e.Value)], last = true, e.Time
		if p, ok := placed[string(e.Value)]; ok && (p.Index != e.Index || !p.Time.Equal(e.Time)) {
			t.Fatalf("%q was answered with %d at %v, and lies at %d at %v", e.Value, p.Index, p.Time, e.Index, e.Time)
		}
		if err := nodes.Append(rfc6962.DefaultHasher.HashLeaf(e.Value), nil); err != nil {
			t.Fatal(err)
		}
	}
	for value := range placed {
		if !seen[value] {
			t.Fatalf("%q was answered and is not in the log", value)
		}
	}
	root, err := nodes.GetRootHash(nil)
	if size > 0 && (err != nil || head.Root != tlog.Hash(root) || !head.Time.Equal(last)) {
		t.Fatalf("head %x at %v, want %x at %v (%v)", head.Root, head.Time, root, last, err)
	}
}

// TestReplicas lets 8 writers of two replicas add the same 400 leaves.
func TestReplicas(t *testing.T) {
	const writers, leaves = 8, 400
	dsn := slow(harness.SharedMariaDB(t).NewDatabase(t))
	signer := newSigner(t)
	var logs []*tlog.Log
	var stores []*mysql.Store
	for range 2 {
		s := openLog(t, openDB(t, dsn, time.Now), "rekorv2")
		stores = append(stores, s)
		logs = append(logs, newLog(t, signer, s))
	}
	if stores[0].TreeID() != stores[1].TreeID() {
		t.Fatal("two replicas have two trees")
	}
	answers := make([][]*tlog.Included, writers)
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for n := range leaves {
				in, err := logs[w%2].Add(t.Context(), leaf((n+w*3)%leaves))
				if err != nil {
					t.Errorf("writer %d: %v", w, err)
					return
				}
				answers[w] = append(answers[w], in)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	placed := map[string]tlog.Placed{}
	fresh := 0
	for w := range writers {
		for n, in := range answers[w] {
			value := string(leaf((n + w*3) % leaves).Value)
			if was, ok := placed[value]; ok && (was.Index != in.Index || !was.Time.Equal(in.Time)) {
				t.Fatalf("%q at %d, %v and at %d, %v", value, was.Index, was.Time, in.Index, in.Time)
			}
			placed[value] = tlog.Placed{Index: in.Index, Time: in.Time}
			if !in.Dup {
				fresh++
			}
		}
	}
	if fresh != leaves {
		t.Errorf("%d answers say that they added, want %d", fresh, leaves)
	}
	for _, s := range stores {
		checkWhole(t, s, leaves, placed)
	}
	for n := range 7 {
		hashes, err := stores[n%2].Lookup(t.Context(), fmt.Sprintf("key %d", n))
		if err != nil || len(hashes) != leaves/7+map[bool]int{true: 1}[n < leaves%7] {
			t.Errorf("key %d leads to %d entries, %v", n, len(hashes), err)
		}
	}
}

// TestReplicaBatches lets two Stores append large batches that overlap, without
// a Log above them.
func TestReplicaBatches(t *testing.T) {
	const rounds, size = 6, 300
	dsn := slow(harness.SharedMariaDB(t).NewDatabase(t))
	var wg sync.WaitGroup
	placed := map[string]tlog.Placed{}
	var mu sync.Mutex
	fresh := 0
	var first *mysql.Store
	for range 3 {
		s := openLog(t, openDB(t, dsn, time.Now), "ct")
		first = s
		wg.Go(func() {
			for round := range rounds {
				var batch []tlog.Leaf
				for n := range size {
					batch = append(batch, leaf(round*size/2+n))
				}
				got, head, err := s.Append(t.Context(), batch)
				if err != nil {
					t.Errorf("round %d: %v", round, err)
					return
				}
				mu.Lock()
				for i, p := range got {
					value := string(batch[i].Value)
					if was, ok := placed[value]; ok && (was.Index != p.Index || !was.Time.Equal(p.Time)) || p.Index >= head.Size {
						t.Errorf("%q at %v and at %v in a tree of %d", value, was, p, head.Size)
					}
					placed[value] = p
					if !p.Dup {
						fresh++
					}
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if want := (rounds-1)*size/2 + size; fresh != want || len(placed) != want {
		t.Fatalf("%d leaves were added, %d answered, want %d", fresh, len(placed), want)
	}
	checkWhole(t, first, uint64(len(placed)), placed)
}

// TestOrder wants the order of a batch to be the order of the log.
func TestOrder(t *testing.T) {
	s := openLog(t, openDB(t, slow(harness.SharedMariaDB(t).NewDatabase(t)), time.Now), "ct")
	next := 0
	for _, size := range []int{1, 2, tlog.MaxBatchLeaves, 3, 700} {
		var batch []tlog.Leaf
		for range size {
			batch = append(batch, leaf(next+len(batch)))
		}
		placed, head, err := s.Append(t.Context(), batch)
		if err != nil {
			t.Fatal(err)
		}
		for i, p := range placed {
			if p.Index != uint64(next+i) || p.Dup {
				t.Fatalf("leaf %d of %d lies at %d, want %d", i, size, p.Index, next+i)
			}
		}
		if next += size; head.Size != uint64(next) {
			t.Fatalf("size %d, want %d", head.Size, next)
		}
	}
}

// TestQueued has leaves in the queue when others are appended: they come behind
// those, in the order in which they were queued.
func TestQueued(t *testing.T) {
	s := openLog(t, openDB(t, slow(harness.SharedMariaDB(t).NewDatabase(t)), time.Now), "ct")
	var queued, fresh []tlog.Leaf
	for i := range 50 {
		queued = append(queued, leaf(i))
	}
	for i := range 3 {
		fresh = append(fresh, leaf(100+i))
	}
	if err := s.Enqueue(t.Context(), queued); err != nil {
		t.Fatal(err)
	}
	all := map[string]tlog.Placed{}
	placed, head, err := s.Append(t.Context(), fresh)
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range placed {
		if p.Index != uint64(i) || p.Dup {
			t.Fatalf("new leaf %d: %+v", i, p)
		}
		all[string(fresh[i].Value)] = p
	}
	if want := uint64(len(fresh) + len(queued)); head.Size != want {
		t.Fatalf("size %d, want %d", head.Size, want)
	}
	again, after, err := s.Append(t.Context(), queued)
	if err != nil || after != head {
		t.Fatalf("head %v after a batch of duplicates, want %v (%v)", after, head, err)
	}
	for i, p := range again {
		if p.Index != uint64(len(fresh)+i) || !p.Dup {
			t.Fatalf("queued leaf %d: %+v", i, p)
		}
		all[string(queued[i].Value)] = p
	}
	checkWhole(t, s, head.Size, all)
}

// TestRivalClocks lets replicas append by turns whose clocks differ: no entry is
// older than the one before it. Where the clocks differ by less than the queue
// timestamps of a batch (1,000 ns), the tree heads alone would not show it.
func TestRivalClocks(t *testing.T) {
	for _, skew := range []time.Duration{tlog.MaxClockStep / 2, tlog.MaxBatchLeaves / 2} {
		dsn := slow(harness.SharedMariaDB(t).NewDatabase(t))
		now := time.Now()
		at := func(skew time.Duration) func() time.Time { return func() time.Time { return now.Add(skew) } }
		stores := []*mysql.Store{
			openLog(t, openDB(t, dsn, at(0)), "rekorv2"),
			openLog(t, openDB(t, dsn, at(skew)), "rekorv2"),
		}
		entries := 0
		for n := range 6 {
			batch := make([]tlog.Leaf, []int{tlog.MaxBatchLeaves, 1}[n%2])
			for i := range batch {
				batch[i] = leaf(entries)
				entries++
			}
			now = now.Add(tlog.MaxBatchLeaves / 10)
			if _, _, err := stores[n%2].Append(t.Context(), batch); err != nil {
				t.Fatal(err)
			}
		}
		checkWhole(t, stores[0], uint64(entries), nil)
	}
}

// TestShrunkTree takes the last entries away from under a replica, as the
// restoring of a backup does. It adds nothing to what is left.
func TestShrunkTree(t *testing.T) {
	dsn := slow(harness.SharedMariaDB(t).NewDatabase(t))
	s, db := openLog(t, openDB(t, dsn, time.Now), "rekorv2"), raw(t, dsn)
	for n := range 5 {
		if _, _, err := s.Append(t.Context(), []tlog.Leaf{leaf(n)}); err != nil {
			t.Fatal(err)
		}
	}
	for _, statement := range []string{
		"DELETE FROM TreeHead WHERE TreeSize > 3",
		"DELETE FROM SequencedLeafData WHERE SequenceNumber >= 3",
		"DELETE FROM Subtree WHERE SubtreeRevision > 0",
	} {
		if _, err := db.Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
	if placed, head, err := s.Append(t.Context(), []tlog.Leaf{leaf(5)}); err == nil || !strings.Contains(err.Error(), "had size 5, and has size 3") {
		t.Errorf("added at %v of a tree of size %d: %v", placed, head.Size, err)
	}
	if n := table(t, db, "SELECT MAX(TreeSize) FROM TreeHead")[0]; n != "[{3 true}]" {
		t.Errorf("the tree has size %s now", n)
	}
}

// TestFreeze has one of two replicas freeze a log that both append to. What was
// answered is in it, and nothing comes later.
func TestFreeze(t *testing.T) {
	dsn := slow(harness.SharedMariaDB(t).NewDatabase(t))
	db := openDB(t, dsn, time.Now)
	freezer := openLog(t, db, "ct")
	var mu sync.Mutex
	placed := map[string]tlog.Placed{}
	var writers sync.WaitGroup
	for w := range 2 {
		s := openLog(t, openDB(t, dsn, time.Now), "ct")
		writers.Go(func() {
			for i := 0; ; i++ {
				batch := []tlog.Leaf{leaf(1000*w + 2*i), leaf(1000*w + 2*i + 1)}
				got, _, err := s.Append(t.Context(), batch)
				if errors.Is(err, tlog.ErrFrozen) {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				for j, p := range got {
					placed[string(batch[j].Value)] = p
				}
				mu.Unlock()
			}
		})
	}
	for {
		if head, err := freezer.Head(t.Context()); err != nil {
			t.Fatal(err)
		} else if head.Size > 40 {
			break
		}
	}
	if err := freezer.Freeze(t.Context()); err != nil {
		t.Fatal(err)
	}
	head, err := freezer.Head(t.Context())
	if err != nil || !head.Frozen {
		t.Fatalf("head %+v (%v), want a frozen one", head, err)
	}
	writers.Wait()
	checkWhole(t, freezer, head.Size, placed)
}

// TestFreezeQueue freezes a log with a leaf in its queue. It goes into the tree, and
// none is queued later: their search keys would lead to no entry.
func TestFreezeQueue(t *testing.T) {
	freezer := openLog(t, openDB(t, slow(harness.SharedMariaDB(t).NewDatabase(t)), time.Now), "ct")
	queued := []tlog.Leaf{{Value: []byte("queued"), Keys: []string{"queued"}}}
	if err := freezer.Enqueue(t.Context(), queued); err != nil {
		t.Fatal(err)
	}
	if err := freezer.Freeze(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := freezer.Find(t.Context(), tlog.LeafHash(queued[0].Value)); err != nil || !ok {
		t.Errorf("the leaf that was queued is not in the tree (%v)", err)
	}
	late := []tlog.Leaf{{Value: []byte("late"), Keys: []string{"late"}}}
	if err := freezer.Enqueue(t.Context(), late); err == nil {
		t.Error("a leaf is queued for a frozen tree")
	}
	for key, want := range map[string]int{"queued": 1, "late": 0} {
		if found, err := freezer.Lookup(t.Context(), key); err != nil || len(found) != want {
			t.Errorf("search key %q leads to %d leaves (%v), want %d", key, len(found), err, want)
		}
	}
}

// TestLargest appends the largest batches, in bytes that have to be escaped, in
// leaves and in search keys.
func TestLargest(t *testing.T) {
	s := openLog(t, openDB(t, slow(harness.SharedMariaDB(t).NewDatabase(t)), time.Now), "ct")
	zeros := make([]byte, tlog.MaxBatchBytes-1)
	if _, _, err := s.Append(t.Context(), []tlog.Leaf{{Value: zeros[:1<<20], Extra: zeros[1<<20:]}}); err != nil {
		t.Fatal(err)
	}
	var many []tlog.Leaf
	for n := range tlog.MaxBatchLeaves {
		l := leaf(n)
		for k := range 10 {
			l.Keys = append(l.Keys, fmt.Sprintf("'\\x00\" %0400d", k))
		}
		many = append(many, l)
	}
	start := time.Now()
	if _, head, err := s.Append(t.Context(), many); err != nil || head.Size != 1+tlog.MaxBatchLeaves {
		t.Fatalf("%v: %v", head, err)
	}
	t.Logf("%d leaves with 12,000 keys in %v", len(many), time.Since(start))
	entries, err := s.Entries(t.Context(), 0, 1)
	if err != nil || len(entries[0].Value)+len(entries[0].Extra) != len(zeros) {
		t.Fatal(err)
	}
	hashes, err := s.Lookup(t.Context(), fmt.Sprintf("'\\x00\" %0400d", 3))
	if err != nil || len(hashes) != tlog.MaxBatchLeaves {
		t.Fatalf("%d, %v", len(hashes), err)
	}
	// A key that does not fit is an error, and not another key.
	if _, _, err := s.Append(t.Context(), []tlog.Leaf{{Value: []byte("x"), Keys: []string{strings.Repeat("k", 513)}}}); err == nil {
		t.Error("a search key was cut off")
	}

	small := harness.StartMariaDB(t)
	dsn := small.NewDatabase(t)
	if _, err := raw(t, dsn).Exec("SET GLOBAL max_allowed_packet = 1048576"); err != nil {
		t.Fatal(err)
	}
	if d, err := mysql.Open(t.Context(), dsn, time.Now, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "max_allowed_packet") {
		if err == nil {
			d.Close()
		}
		t.Errorf("a server that takes short statements only: %v", err)
	}
}

// TestLostCommit cuts the connection at each commit of an Append, before it
// reaches the server and after the server has answered. The leaves are found
// to be ours, once, or the Append fails and a later one finds them.
func TestLostCommit(t *testing.T) {
	server := harness.SharedMariaDB(t)
	for _, at := range []harness.Direction{harness.ToServer, harness.ToClient} {
		for _, c := range []struct {
			batch []tlog.Leaf
			cut   int
			late  time.Duration // the cut comes so much later, as where a machine stands still
		}{
			{[]tlog.Leaf{leaf(1), leaf(2)}, 1, 0},          // the one that there is
			{[]tlog.Leaf{leaf(1), leaf(2), leaf(0)}, 1, 0}, // that of the queue
			{[]tlog.Leaf{leaf(1), leaf(2), leaf(0)}, 2, 0}, // that of the tree
			{[]tlog.Leaf{leaf(1), leaf(2)}, 1, 1100 * time.Millisecond},
		} {
			batch, cut := c.batch, c.cut
			t.Run(fmt.Sprintf("direction=%d/leaves=%d/commit=%d/late=%v", at, len(batch), cut, c.late), func(t *testing.T) {
				dsn := server.NewDatabase(t)
				proxy := harness.NewProxy(t, server.Addr)
				s := openLog(t, openDB(t, slow(strings.Replace(dsn, server.Addr, proxy.Addr, 1)), time.Now), "ct")
				if _, _, err := s.Append(t.Context(), []tlog.Leaf{leaf(0)}); err != nil {
					t.Fatal(err)
				}
				var mu sync.Mutex
				commits := 0
				cutting := false
				proxy.Inspect(func(d harness.Direction, data []byte) harness.Verdict {
					mu.Lock()
					defer mu.Unlock()
					if d == harness.ToServer && strings.HasSuffix(string(data), "COMMIT") {
						commits++
						cutting = commits == cut
					}
					if cutting && d == at {
						cutting = false
						time.Sleep(c.late)
						return harness.Cut
					}
					return harness.Pass
				})
				placed, head, err := s.Append(t.Context(), batch)
				mu.Lock()
				if commits < cut {
					t.Fatalf("%d commits", commits)
				}
				mu.Unlock()
				if err != nil {
					t.Fatalf("not resolved by reading back: %v", err)
				}
				known := len(batch) < 3 || placed[2].Index == 0 && placed[2].Dup
				if head.Size != 3 || placed[0].Index != 1 || placed[1].Index != 2 || placed[0].Dup || placed[1].Dup || !known {
					t.Fatalf("%v in a tree of %d", placed, head.Size)
				}
				proxy.Inspect(nil)
				want := map[string]tlog.Placed{}
				for i, p := range placed {
					want[string(batch[i].Value)] = p
				}
				checkWhole(t, s, 3, want)
			})
		}
	}
}

// TestDeadServer appends to a server that does not answer, and to one that was
// killed: the error comes soon, and after a restart all goes on.
func TestDeadServer(t *testing.T) {
	server := harness.StartMariaDB(t)
	proxy := harness.NewProxy(t, server.Addr)
	s := openLog(t, openDB(t, strings.Replace(server.NewDatabase(t), server.Addr, proxy.Addr, 1), time.Now), "ct")
	if _, _, err := s.Append(t.Context(), []tlog.Leaf{leaf(0)}); err != nil {
		t.Fatal(err)
	}
	soon := func(what string, limit time.Duration, f func(ctx context.Context) error) {
		t.Helper()
		start := time.Now()
		if err := f(t.Context()); err == nil {
			t.Errorf("%s: no error", what)
		}
		if took := time.Since(start); took > limit {
			t.Errorf("%s took %v, want at most %v", what, took, limit)
		}
	}
	head := func(ctx context.Context) error { _, err := s.Head(ctx); return err }
	add := func(ctx context.Context) error { _, _, err := s.Append(ctx, []tlog.Leaf{leaf(1)}); return err }

	proxy.Blackhole(harness.ToClient)
	proxy.Inspect(func(d harness.Direction, _ []byte) harness.Verdict {
		if d == harness.ToClient {
			return harness.Drop
		}
		return harness.Pass
	})
	soon("reading the head from a server that is silent", 4*time.Second, head)
	soon("appending to a server that is silent", 8*time.Second, add)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	soon("appending with a context that has ended", time.Second, func(context.Context) error {
		if err := add(cancelled); !errors.Is(err, context.Canceled) {
			return nil
		}
		return context.Canceled
	})
	proxy.Inspect(nil)
	server.Kill()
	soon("appending to a server that is gone", 4*time.Second, add)
	server.Restart(t)
	// Who comes while a connection is tried is told so, if that takes a while.
	for back := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		err := add(t.Context())
		if err == nil {
			break
		}
		if time.Since(back) > 10*time.Second {
			t.Fatalf("10 s after a restart: %v", err)
		}
	}
	entries, err := s.Entries(t.Context(), 0, 9)
	if err != nil || len(entries) != 2 || !slices.Equal(entries[1].Value, leaf(1).Value) {
		t.Fatalf("%d entries after a restart, %v", len(entries), err)
	}
}

// TestKilledServer kills the server under four writers of two replicas, again
// and again. Whatever was answered is there afterwards, in its place, and whoever
// asks again for what was not answered gets one place for it.
func TestKilledServer(t *testing.T) {
	const writers, kills, between = 4, 4, 60
	server := harness.StartMariaDB(t)
	dsn := server.NewDatabase(t)
	signer := newSigner(t)
	var logs []*tlog.Log
	var s *mysql.Store
	for range 2 {
		s = openLog(t, openDB(t, dsn, time.Now), "rekorv1")
		logs = append(logs, newLog(t, signer, s))
	}
	placed := map[string]tlog.Placed{}
	var mu sync.Mutex
	answered := make(chan struct{})
	stop := make(chan struct{})
	failures := 0
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for n := 0; ; {
				select {
				case <-stop:
					return
				default:
				}
				l := leaf(w*100_000 + n)
				in, err := logs[w%2].Add(t.Context(), l)
				mu.Lock()
				if errors.Is(err, tlog.ErrUnavailable) {
					failures++ // the same leaf again
				} else if err != nil {
					t.Errorf("writer %d: %v", w, err)
				} else {
					placed[string(l.Value)] = tlog.Placed{Index: in.Index, Time: in.Time}
					n++
				}
				mu.Unlock()
				if err == nil {
					select {
					case answered <- struct{}{}:
					case <-stop:
						return
					}
				}
			}
		})
	}
	limit := time.After(2 * time.Minute)
	wait := func() {
		for range between {
			select {
			case <-answered:
			case <-limit:
				t.Error("the writers do not get on")
				return
			}
		}
	}
	for range kills {
		wait()
		server.Kill()
		server.Restart(t)
	}
	wait()
	close(stop)
	wg.Wait()
	if failures == 0 {
		t.Error("nobody noticed that the server was killed")
	}
	head, err := s.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	checkWhole(t, s, head.Size, placed)
	t.Logf("%d answers, %d failures, size %d", len(placed), failures, head.Size)
}
