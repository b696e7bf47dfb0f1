package rekor

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cyberphone/json-canonicalization/go/src/webpki.org/jsoncanonicalizer"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/sigstack/sigstack/storage/sqlite"
	"github.com/sigstack/sigstack/tlog"
	"github.com/sigstack/sigstack/tlog/checkpoint"
	"github.com/sigstack/sigstack/tlog/entry"
)

var testTime = time.Date(2026, 11, 21, 8, 0, 0, 999_999_999, time.UTC)

// A faultySigner signs with the key it shows until other is set.
type faultySigner struct {
	crypto.Signer
	other atomic.Pointer[ecdsa.PrivateKey] // signs with this instead
	fail  atomic.Bool
	calls atomic.Int64
}

func (s *faultySigner) Sign(r io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	s.calls.Add(1)
	if s.fail.Load() {
		return nil, errors.New("the HSM is on fire")
	}
	if k := s.other.Load(); k != nil {
		return k.Sign(r, digest, opts)
	}
	return s.Signer.Sign(r, digest, opts)
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

type testLog struct {
	*Log
	engine *tlog.Log
	store  *sqlite.Store
	key    *ecdsa.PrivateKey
	set    *faultySigner // signs SETs only
	verify *checkpoint.Verifier
	base   uint64 // virtual index of its first entry
}

func newTestLog(t testing.TB) *testLog {
	t.Helper()
	s := newTestShard(t)
	var err error
	if s.Log, err = New(Config{Shards: []Shard{s.shard()}}); err != nil {
		t.Fatal(err)
	}
	return s
}

func (l *testLog) shard() Shard {
	return Shard{Log: l.engine, TreeID: l.store.TreeID(), Signer: l.set, Index: l.store}
}

// newTestShard returns a tree that is in no Log.
func newTestShard(t testing.TB) *testLog {
	t.Helper()
	dir := t.TempDir()
	store, err := sqlite.Open(filepath.Join(dir, "log.db"), func() time.Time { return testTime })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	key := newKey(t)
	signer, err := checkpoint.NewSigner("rekor.test - "+strconv.FormatInt(store.TreeID(), 10), "rekor.test", key)
	if err != nil {
		t.Fatal(err)
	}
	engine, err := tlog.Open(context.Background(), store, tlog.Options{
		Signer: signer, Memory: filepath.Join(dir, "log.memory"), Now: func() time.Time { return testTime }, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { engine.Close() })
	return &testLog{nil, engine, store, key, &faultySigner{Signer: key}, signer.Verifier, 0}
}

func body(i int) []byte {
	return fmt.Appendf(nil, `{"apiVersion":"0.0.1","kind":"hashedrekord","spec":{"n":%d}}`, i)
}

// check verifies everything that a client can verify of an answer.
func (l *testLog) check(t testing.TB, e *LogEntry) {
	t.Helper()
	leaf := tlog.LeafHash(e.Body)
	if want := fmt.Sprintf("%016x%x", l.store.TreeID(), leaf); e.UUID != want {
		t.Errorf("UUID %s, want %s", e.UUID, want)
	}
	text := fmt.Sprintf(`{"logIndex":%d,"logID":"%s", "integratedTime":%d,"body":"%s"}`, e.LogIndex, e.LogID, e.IntegratedTime, base64.StdEncoding.EncodeToString(e.Body))
	jcs, err := jsoncanonicalizer.Transform([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(jcs)
	if !ecdsa.VerifyASN1(&l.key.PublicKey, digest[:], e.SET) {
		t.Errorf("entry %d: the SET does not verify", e.LogIndex)
	}
	cp, err := l.verify.Open(e.Proof.Checkpoint)
	if err != nil {
		t.Fatal(err)
	}
	if cp.Size != e.Proof.Size || cp.Root != e.Proof.Root {
		t.Errorf("entry %d: the proof is for size %d and root %x, its checkpoint for %d and %x", e.LogIndex, e.Proof.Size, e.Proof.Root, cp.Size, cp.Root)
	}
	var path [][]byte
	for _, h := range e.Proof.Hashes {
		path = append(path, h[:])
	}
	if err := proof.VerifyInclusion(rfc6962.DefaultHasher, e.Proof.Index, e.Proof.Size, leaf[:], path, e.Proof.Root[:]); err != nil {
		t.Errorf("entry %d: %v", e.LogIndex, err)
	}
	if e.LogIndex != l.base+e.Proof.Index {
		t.Errorf("virtual index %d, index %d", e.LogIndex, e.Proof.Index)
	}
	if e.IntegratedTime != testTime.Unix() {
		t.Errorf("integrated time %d, want %d", e.IntegratedTime, testTime.Unix())
	}
}

func TestCreateAndRead(t *testing.T) {
	l, ctx := newTestLog(t), context.Background()
	for i := range 300 {
		e, err := l.Create(ctx, &entry.Entry{Body: body(i), Keys: []string{"all"}})
		if err != nil {
			t.Fatal(err)
		}
		l.check(t, e)
		if e.LogIndex != uint64(i) || !bytes.Equal(e.Body, body(i)) {
			t.Fatalf("entry %d has index %d and body %s", i, e.LogIndex, e.Body)
		}
		if i%37 != 0 {
			continue
		}
		for _, name := range []string{e.UUID, e.UUID[16:], strings.ToUpper(e.UUID), strings.ToUpper(e.UUID[16:])} {
			got, err := l.ByUUID(ctx, name)
			if err != nil {
				t.Fatal(err)
			}
			l.check(t, got)
			if got.UUID != e.UUID || got.LogIndex != e.LogIndex {
				t.Errorf("%s finds entry %d with UUID %s", name, got.LogIndex, got.UUID)
			}
		}
	}
	for i := range 300 {
		e, err := l.ByIndex(ctx, uint64(i))
		if err != nil {
			t.Fatal(err)
		}
		l.check(t, e)
		if !bytes.Equal(e.Body, body(i)) || e.Proof.Size != 300 {
			t.Fatalf("entry %d: size %d, body %s", i, e.Proof.Size, e.Body)
		}
	}
	for _, i := range []uint64{300, math.MaxInt64, math.MaxUint64} {
		if _, err := l.ByIndex(ctx, i); !errors.Is(err, tlog.ErrNotFound) {
			t.Errorf("index %d: %v", i, err)
		}
	}
	uuids, err := l.Search(ctx, []string{"ALL"}, true)
	if err != nil || len(uuids) != 300 {
		t.Errorf("%d entries found, want 300: %v", len(uuids), err)
	}
}

func TestByUUIDErrors(t *testing.T) {
	l, ctx := newTestLog(t), context.Background()
	e, err := l.Create(ctx, &entry.Entry{Body: body(0)})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, uuid string
		notFound   bool
	}{
		{"other leaf", e.UUID[:16] + strings.Repeat("0", 64), true},
		{"other leaf, no tree", strings.Repeat("0", 64), true},
		{"other tree", "0000000000000001" + e.UUID[16:], true},
		{"tree zero", strings.Repeat("0", 16) + e.UUID[16:], false},
		{"tree beyond 2^63", "8000000000000000" + e.UUID[16:], false},
		{"tree of all ones", strings.Repeat("f", 16) + e.UUID[16:], false},
		{"empty", "", false},
		{"short", e.UUID[1:], false},
		{"long", e.UUID + "0", false},
		{"not hex", "g" + e.UUID[1:], false},
		{"sign", "+" + e.UUID[1:], false},
	} {
		_, err := l.ByUUID(ctx, tt.uuid)
		var input *InputError
		if tt.notFound != errors.Is(err, tlog.ErrNotFound) || tt.notFound == errors.As(err, &input) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

func TestDuplicate(t *testing.T) {
	l, ctx := newTestLog(t), context.Background()
	var created, exists atomic.Int64
	var uuid sync.Map
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			e, err := l.Create(ctx, &entry.Entry{Body: body(0)})
			var dup *ExistsError
			switch {
			case err == nil:
				created.Add(1)
				uuid.Store(e.UUID, true)
				l.check(t, e)
			case errors.As(err, &dup) && errors.Is(err, ErrExists):
				exists.Add(1)
				uuid.Store(dup.UUID, true)
				if e, err := l.ByUUID(ctx, dup.UUID); err != nil {
					t.Error(err)
				} else {
					l.check(t, e)
				}
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	n := 0
	uuid.Range(func(any, any) bool { n++; return true })
	if created.Load() != 1 || exists.Load() != 7 || n != 1 {
		t.Errorf("%d created, %d exist, %d UUIDs", created.Load(), exists.Load(), n)
	}
}

// Answers that are given while the log grows are each consistent in itself.
func TestReadsWhileGrowing(t *testing.T) {
	l, ctx := newTestLog(t), context.Background()
	var writers, readers sync.WaitGroup
	stop := make(chan struct{})
	for w := range 4 {
		writers.Go(func() {
			for i := range 60 {
				e, err := l.Create(ctx, &entry.Entry{Body: body(w*1000 + i)})
				if err != nil {
					t.Error(err)
					return
				}
				l.check(t, e)
			}
		})
	}
	for range 2 {
		readers.Go(func() {
			for i := uint64(0); ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				size := l.info(t).Size
				if size == 0 {
					continue
				}
				e, err := l.ByIndex(ctx, i%size)
				if err != nil {
					t.Error(err)
					return
				}
				l.check(t, e)
			}
		})
	}
	writers.Wait()
	close(stop)
	readers.Wait()
}

func TestSignerFails(t *testing.T) {
	l, ctx := newTestLog(t), context.Background()
	for i, breakIt := range []func(){
		func() { l.set.fail.Store(true) },
		func() { l.set.other.Store(newKey(t)) },
	} {
		breakIt()
		_, err := l.Create(ctx, &entry.Entry{Body: body(i)})
		if !errors.Is(err, tlog.ErrUnavailable) {
			t.Fatalf("create: %v", err)
		}
		if _, err := l.ByIndex(ctx, uint64(i)); !errors.Is(err, tlog.ErrUnavailable) {
			t.Errorf("read: %v", err)
		}
		l.set.fail.Store(false)
		l.set.other.Store(nil)
		// The entry is there; the retry finds it.
		var dup *ExistsError
		if _, err = l.Create(ctx, &entry.Entry{Body: body(i)}); !errors.As(err, &dup) {
			t.Fatalf("retry: %v", err)
		}
		e, err := l.ByUUID(ctx, dup.UUID)
		if err != nil {
			t.Fatal(err)
		}
		l.check(t, e)
	}
}

// TestSignsOnce reads an entry with the SET of when it was added, whatever
// became of the signer since.
func TestSignsOnce(t *testing.T) {
	l, ctx := newTestLog(t), context.Background()
	before := l.set.calls.Load()
	created, err := l.Create(ctx, &entry.Entry{Body: body(0)})
	if err != nil {
		t.Fatal(err)
	}
	l.set.fail.Store(true)
	for range 3 {
		read, err := l.ByIndex(ctx, 0)
		if err != nil {
			t.Fatal(err)
		}
		l.check(t, read)
		if !bytes.Equal(read.SET, created.SET) {
			t.Error("an entry that was just added has another SET")
		}
	}
	if n := l.set.calls.Load() - before; n != 1 {
		t.Errorf("%d signatures for one entry", n)
	}
}

// TestRecent remembers what was added or asked for last, and no more than two
// generations.
func TestRecent(t *testing.T) {
	const most = 4
	r := newRecent(most * (recentCost + 100))
	entry := func(n int) *LogEntry {
		return &LogEntry{LogIndex: uint64(n), Body: bytes.Repeat([]byte{byte(n)}, 90+n%11)}
	}
	size := func(entries map[uint64]*LogEntry) (size int) {
		for _, e := range entries {
			size += len(e.Body) + recentCost
		}
		return size
	}
	for n := range 1000 {
		if _, ok := r.get(uint64(n)); ok {
			t.Fatalf("%d is known before it was added", n)
		}
		r.put(entry(n))
		r.put(entry(n))                                // by two that read it at once
		for _, old := range []int{0, max(n-1, 0), n} { // the first is asked for again and again
			if got, ok := r.get(uint64(old)); !ok || !bytes.Equal(got.Body, entry(old).Body) {
				t.Fatalf("after %d, %d is %v, %v", n, old, got, ok)
			}
		}
		if r.size != size(r.new) || size(r.new) > r.most || size(r.old) > r.most {
			t.Fatalf("%d and %d bytes are remembered, and %d counted", size(r.new), size(r.old), r.size)
		}
	}
	before := r.size
	r.put(&LogEntry{LogIndex: 1000, Body: make([]byte, r.most)})
	if _, ok := r.get(1000); ok || r.size != before {
		t.Error("an entry that is larger than a generation took room")
	}
}

func TestNewRefuses(t *testing.T) {
	l := newTestLog(t)
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id := l.store.TreeID()
	for _, tt := range []struct {
		name string
		cfg  Shard
		want string
	}{
		{"no tree ID", Shard{Signer: l.key}, "want a positive number"},
		{"negative tree ID", Shard{TreeID: -id, Signer: l.key}, "want a positive number"},
		{"other tree ID", Shard{TreeID: id ^ 2, Signer: l.key}, "want one that ends in"},
		{"Ed25519", Shard{TreeID: id, Signer: ed}, "want ECDSA P-256"},
		{"P-384", Shard{TreeID: id, Signer: p384}, "want ECDSA P-256"},
		{"other key", Shard{TreeID: id, Signer: newKey(t)}, "does not match its checkpoint"},
	} {
		tt.cfg.Log = l.engine
		if _, err := New(Config{Shards: []Shard{tt.cfg}}); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want %q", tt.name, err, tt.want)
		}
	}
	other := newTestShard(t)
	for want, shards := range map[string][]Shard{
		"a log needs a tree":  nil,
		"which is not frozen": {l.shard(), other.shard()},
		"each needs its own":  {l.shard(), l.shard()},
	} {
		if _, err := New(Config{Shards: shards}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%d shards: error %v, want %q", len(shards), err, want)
		}
	}
}

func TestSearch(t *testing.T) {
	l, ctx := newTestLog(t), context.Background()
	uuids := make([]string, 3)
	key, artifact := strings.Repeat("1", 64), "sha256:"+strings.Repeat("2", 64)
	for i, keys := range [][]string{{"a", "x"}, {key, "b", "sha256:" + key, "x"}, {"a", "b", "dev@example.com", artifact}} {
		e, err := l.Create(ctx, &entry.Entry{Body: body(i), Keys: keys})
		if err != nil {
			t.Fatal(err)
		}
		uuids[i] = e.UUID
	}
	for _, tt := range []struct {
		keys []string
		all  bool
		want []int
	}{
		{nil, false, nil},
		{nil, true, nil},
		{[]string{"a"}, false, []int{0, 2}},
		{[]string{"A"}, true, []int{0, 2}},
		{[]string{"a", "b"}, false, []int{0, 1, 2}},
		{[]string{"a", "b"}, true, []int{2}},
		{[]string{"a", "x"}, true, []int{0}},
		{[]string{"a", "b", "x"}, true, nil},
		{[]string{"none", "a"}, true, nil},
		{[]string{"none", "a"}, false, []int{0, 2}},
		{[]string{"a", "a"}, false, []int{0, 2}},
		{[]string{"DEV@example.COM"}, false, []int{2}},
		{[]string{""}, false, nil},
		{[]string{key}, false, []int{1}},
		{[]string{"sha256:" + key}, false, []int{1}},
		{[]string{"SHA256:" + key, "x"}, true, []int{1}},
		{[]string{artifact}, false, []int{2}},
		{[]string{artifact[7:]}, false, nil},
	} {
		got, err := l.Search(ctx, tt.keys, tt.all)
		if err != nil {
			t.Fatal(err)
		}
		var want []string
		for _, i := range tt.want {
			want = append(want, uuids[i])
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("search %q all=%v\n got %q\nwant %q", tt.keys, tt.all, got, want)
		}
	}
}

// A hash that an entry has in two spellings is stored in one.
func TestStoredKeys(t *testing.T) {
	a, b := strings.Repeat("a", 64), strings.Repeat("b", 64)
	keys := []string{a, "sha256:" + a, "sha256:" + b, "sha256:ab", "ab"}
	slices.Sort(keys)
	want := []string{a, "ab", "sha256:ab", "sha256:" + b}
	if got := stored(keys); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

type brokenIndex struct {
	Index
	err error
}

func (b brokenIndex) Lookup(context.Context, string) ([]tlog.Hash, error) { return nil, b.err }

func TestSearchErrors(t *testing.T) {
	l := newTestLog(t)
	l.active().Index = brokenIndex{err: errors.New("disk I/O error")}
	if _, err := l.Search(context.Background(), []string{"a"}, false); !errors.Is(err, tlog.ErrUnavailable) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := l.Search(ctx, []string{"a"}, false); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// info returns the published state, which a log of one process always knows.
func (l *testLog) info(t *testing.T) Info {
	info, frozen, err := l.Info(t.Context())
	if err != nil || frozen != nil {
		t.Errorf("frozen trees %v (%v), want none", frozen, err)
	}
	return info
}

func TestInfoAndConsistency(t *testing.T) {
	l, ctx := newTestLog(t), context.Background()
	info := l.info(t)
	if info.Size != 0 || fmt.Sprintf("%x", info.Root[:4]) != "e3b0c442" || info.TreeID != l.store.TreeID() {
		t.Errorf("empty log: %+v", info)
	}
	roots := map[uint64]tlog.Hash{0: info.Root}
	for i := range 20 {
		if _, err := l.Create(ctx, &entry.Entry{Body: body(i)}); err != nil {
			t.Fatal(err)
		}
		info := l.info(t)
		roots[info.Size] = info.Root
		cp, err := l.verify.Open(info.Checkpoint)
		if err != nil || cp.Size != info.Size || cp.Root != info.Root {
			t.Fatalf("checkpoint %+v of %+v: %v", cp, info, err)
		}
	}
	for first := uint64(1); first <= 20; first++ {
		for last := first; last <= 20; last++ {
			hashes, root, err := l.Consistency(ctx, "", first, last)
			if err != nil {
				t.Fatal(err)
			}
			var path [][]byte
			for _, h := range hashes {
				path = append(path, h[:])
			}
			r1, r2 := roots[first], roots[last]
			if err := proof.VerifyConsistency(rfc6962.DefaultHasher, first, last, path, r1[:], r2[:]); err != nil {
				t.Errorf("%d to %d: %v", first, last, err)
			}
			if root != roots[20] {
				t.Errorf("%d to %d: root %x is not the newest", first, last, root)
			}
		}
	}
	var input *InputError
	for _, tt := range []struct {
		first, last uint64
		want        string
	}{
		{5, 2, "firstSize(5) must be less than lastSize(2)"},
		{1, 21, "the tree size requested(21) was greater than what is currently observable(20)"},
	} {
		if _, _, err := l.Consistency(ctx, "", tt.first, tt.last); !errors.As(err, &input) || input.Text != tt.want {
			t.Errorf("%d to %d: %v", tt.first, tt.last, err)
		}
	}
	for id, want := range map[string]string{
		"": "", strconv.FormatInt(l.store.TreeID(), 10): "",
		"1":                   "no log range found for tree ID 1",
		"9223372036854775808": "invalid tree ID specified: want a decimal number below 2^63",
		"x":                   "invalid tree ID specified: want a decimal number below 2^63",
	} {
		_, err := l.PublicKey(ctx, id)
		if want == "" && err != nil || want != "" && (!errors.As(err, &input) || input.Text != want) {
			t.Errorf("tree %q: %v", id, err)
		}
	}
}

// The text that a SET signs is its own canonical form.
func TestSignedTextIsCanonical(t *testing.T) {
	for _, e := range []*LogEntry{
		{},
		{Body: []byte("x"), IntegratedTime: 1, LogID: strings.Repeat("a", 64), LogIndex: 9},
		{Body: bytes.Repeat([]byte{0xff, 0xfe, 0xfb}, 1000), IntegratedTime: testTime.Unix(), LogID: strings.Repeat("0", 64), LogIndex: 1 << 40},
		{Body: body(0), IntegratedTime: 1<<53 - 1, LogID: "f", LogIndex: 1<<53 - 1},
	} {
		text := e.signedText()
		jcs, err := jsoncanonicalizer.Transform(text)
		if err != nil || !bytes.Equal(jcs, text) {
			t.Errorf("%v\n got %s\nwant %s", err, text, jcs)
		}
	}
}

func TestParseIDAllocates(t *testing.T) {
	for _, s := range []string{strings.Repeat("f", 80), strings.Repeat("f", 1<<20), strings.Repeat("\x00", 80)} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		ParseID(s)
		runtime.ReadMemStats(&after)
		if got, budget := after.TotalAlloc-before.TotalAlloc, uint64(10*len(s)+1<<20); got > budget {
			t.Errorf("%d bytes allocated for an input of %d", got, len(s))
		}
	}
}

func BenchmarkCreate(b *testing.B) {
	l, ctx := newTestLog(b), context.Background()
	pad := strings.Repeat("x", 900)
	for i := 0; b.Loop(); i++ {
		if _, err := l.Create(ctx, &entry.Entry{Body: fmt.Appendf(nil, "%d%s", i, pad), Keys: []string{"k", strconv.Itoa(i)}}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkByIndex(b *testing.B) {
	l, ctx := newTestLog(b), context.Background()
	if _, err := l.Create(ctx, &entry.Entry{Body: bytes.Repeat([]byte("x"), 900)}); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := l.ByIndex(ctx, 0); err != nil {
			b.Fatal(err)
		}
	}
}

// TestRange reads entries in a row, of which some are remembered.
func TestRange(t *testing.T) {
	l := newTestLog(t)
	const n = 20
	for i := range n {
		if _, err := l.Create(t.Context(), &entry.Entry{Body: body(i)}); err != nil {
			t.Fatal(err)
		}
	}
	if l.Size() != n {
		t.Fatalf("size %d, want %d", l.Size(), n)
	}
	for name, remembered := range map[string]func(index uint64) bool{
		"all":      func(uint64) bool { return true },
		"none":     func(uint64) bool { return false },
		"first":    func(i uint64) bool { return i < 7 },
		"last":     func(i uint64) bool { return i >= 7 },
		"each odd": func(i uint64) bool { return i%2 == 1 },
	} {
		l.recent = newRecent(maxRecent)
		for i := range uint64(n) {
			if remembered(i) {
				if _, err := l.ByIndex(t.Context(), i); err != nil {
					t.Fatal(err)
				}
			}
		}
		for _, r := range []struct{ begin, end, want uint64 }{{0, n, n}, {3, 9, 6}, {n - 1, n, 1}, {n - 2, n + 5, 2}} {
			got, err := l.Range(t.Context(), r.begin, r.end)
			if err != nil || uint64(len(got)) != r.want {
				t.Fatalf("%s: entries %d to %d: %d, %v", name, r.begin, r.end, len(got), err)
			}
			for i, e := range got {
				if want := r.begin + uint64(i); e.LogIndex != want || !bytes.Equal(e.Body, body(int(want))) {
					t.Errorf("%s: entry %d has index %d and body %s", name, want, e.LogIndex, e.Body)
				}
				l.check(t, e)
			}
		}
	}
	for _, r := range [][2]uint64{{n, n + 1}, {5, 5}, {6, 5}, {math.MaxUint64, math.MaxUint64}} {
		if _, err := l.Range(t.Context(), r[0], r[1]); !errors.Is(err, tlog.ErrNotFound) {
			t.Errorf("entries %d to %d: %v", r[0], r[1], err)
		}
	}
}
