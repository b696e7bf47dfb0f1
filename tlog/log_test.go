package tlog_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/sigstack/sigstack/storage/sqlite"
	"github.com/sigstack/sigstack/tlog"
	"github.com/sigstack/sigstack/tlog/checkpoint"
	"github.com/sigstack/sigstack/tlog/tlogtest"
)

// faulty is a store and a signer that do as they are told.
type faulty struct {
	tlogtest.Store
	crypto.Signer
	appendErr, headErr error               // of the next calls
	head               func(*tlog.Head)    // changes what Head says
	appended           func(*tlog.Head)    // changes what Append says
	sign               func([]byte) []byte // changes what is signed
	signErr            error
	hold               chan struct{} // if set, Append waits for it to be closed
	entered            chan struct{} // if set, is told that Append was entered
	entries            func([]tlog.Entry)
	tile               func([]tlog.Hash)
}

func (f *faulty) Head(ctx context.Context) (tlog.Head, error) {
	h, err := f.Store.Head(ctx)
	if f.head != nil {
		f.head(&h)
	}
	return h, errors.Join(err, f.headErr)
}

func (f *faulty) Append(ctx context.Context, leaves []tlog.Leaf) ([]tlog.Placed, tlog.Head, error) {
	if f.entered != nil {
		f.entered <- struct{}{}
	}
	if f.hold != nil {
		<-f.hold
	}
	if f.appendErr != nil {
		return nil, tlog.Head{}, f.appendErr
	}
	p, h, err := f.Store.Append(ctx, leaves)
	if f.appended != nil {
		f.appended(&h)
	}
	return p, h, err
}

func (f *faulty) Entries(ctx context.Context, begin, end uint64) ([]tlog.Entry, error) {
	e, err := f.Store.Entries(ctx, begin, end)
	if f.entries != nil {
		f.entries(e)
	}
	return e, err
}

func (f *faulty) Tile(ctx context.Context, level int, index uint64, width int) ([]tlog.Hash, error) {
	h, err := f.Store.Tile(ctx, level, index, width)
	if f.tile != nil {
		f.tile(h)
	}
	return h, err
}

func (f *faulty) Sign(r io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if f.signErr != nil {
		return nil, f.signErr
	}
	if f.sign != nil {
		digest = f.sign(digest)
	}
	return f.Signer.Sign(r, digest, opts)
}

type fixture struct {
	*faulty
	clock  *tlogtest.Clock
	dir    string
	signer *checkpoint.Signer
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{dir: t.TempDir(), clock: tlogtest.NewClock()}
	s, err := sqlite.Open(filepath.Join(f.dir, "log.db"), f.clock.Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	f.faulty = &faulty{Store: s, Signer: key}
	if f.signer, err = checkpoint.NewSigner("example.com/log", "example.com", f.faulty); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *fixture) memory() string { return filepath.Join(f.dir, "signed") }

func (f *fixture) open() (*tlog.Log, error) {
	return tlog.Open(context.Background(), f.faulty, tlog.Options{
		Signer: f.signer, Memory: f.memory(), Now: f.clock.Now, Logger: slog.New(slog.DiscardHandler),
	})
}

func (f *fixture) mustOpen(t *testing.T) *tlog.Log {
	t.Helper()
	l, err := f.open()
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// add adds leaf n and wants an error of a class, or none.
func add(t *testing.T, l *tlog.Log, n int, want error) *tlog.Included {
	t.Helper()
	in, err := l.Add(t.Context(), tlog.Leaf{Value: fmt.Appendf(nil, "leaf %d", n)})
	if !errors.Is(err, want) || (want == nil && err != nil) {
		t.Fatalf("adding leaf %d: %v, want %v", n, err, want)
	}
	return in
}

var errDisk = errors.New("input/output error")

func TestSignerInTrouble(t *testing.T) {
	for name, fault := range map[string]func(*faulty){
		"fails":           func(f *faulty) { f.signErr = errDisk },
		"signs otherwise": func(f *faulty) { f.sign = func(d []byte) []byte { return append([]byte{^d[0]}, d[1:]...) } },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			l := f.mustOpen(t)
			defer func() { l.Close() }()
			add(t, l, 0, nil)
			before := l.Published()
			fault(f.faulty)
			add(t, l, 1, tlog.ErrUnavailable)
			if err := l.Ready(t.Context()); !errors.Is(err, tlog.ErrUnavailable) {
				t.Fatalf("ready with a signer in trouble: %v", err)
			}
			if l.Published() != before {
				t.Fatal("something was published that was not signed")
			}
			// The entry is stored all the same; the log finds it once it can sign.
			f.signErr, f.sign = nil, nil
			if in := add(t, l, 1, nil); in.Index != 1 || !in.Dup {
				t.Fatalf("the entry of the failed signature is at %d, dup %v", in.Index, in.Dup)
			}
			if in := add(t, l, 2, nil); in.Index != 2 || in.Tree.Size != 3 {
				t.Fatalf("index %d in a tree of %d", in.Index, in.Tree.Size)
			}
		})
	}
}

func TestWrongSignerIsRefused(t *testing.T) {
	f := newFixture(t)
	f.sign = func(d []byte) []byte { return append([]byte{^d[0]}, d[1:]...) }
	if l, err := f.open(); !errors.Is(err, tlog.ErrUnavailable) {
		if err == nil {
			l.Close()
		}
		t.Fatalf("open: %v, want ErrUnavailable", err)
	}
}

// TestTroubleWhileReadingBack lets the store fail twice: the second time while
// the log finds out what the first did.
func TestTroubleWhileReadingBack(t *testing.T) {
	f := newFixture(t)
	l := f.mustOpen(t)
	defer func() { l.Close() }()
	add(t, l, 0, nil)
	f.appendErr = errDisk
	add(t, l, 1, tlog.ErrUnavailable)
	f.appendErr, f.headErr = nil, errDisk
	for range 3 {
		add(t, l, 1, tlog.ErrUnavailable) // it must not append on a state that it has not read
	}
	if head, err := f.Store.Head(t.Context()); err != nil || head.Size != 1 {
		t.Fatalf("store has %d entries, want 1 (%v)", head.Size, err)
	}
	f.headErr = nil
	if in := add(t, l, 1, nil); in.Index != 1 || in.Dup {
		t.Fatalf("index %d, dup %v", in.Index, in.Dup)
	}
}

// TestContradictionStopsSigning shows the log a store that is wrong.
func TestContradictionStopsSigning(t *testing.T) {
	flip := func(h *tlog.Head) { h.Root[5] ^= 1 }
	for name, fault := range map[string]func(*faulty){
		"another root":       func(f *faulty) { f.appended, f.head = flip, flip },
		"another root twice": func(f *faulty) { f.appended = flip; f.head = func(h *tlog.Head) { h.Size++ } },
		"it lost entries": func(f *faulty) {
			f.appendErr = errDisk
			f.head = func(h *tlog.Head) { *h = tlog.Head{Size: 1, Root: h.Root} }
		},
		"a flip in the tiles": func(f *faulty) { f.appendErr = errDisk; f.tile = func(h []tlog.Hash) { h[0][0] ^= 1 } },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			l := f.mustOpen(t)
			defer func() { l.Close() }()
			for n := range 3 {
				add(t, l, n, nil)
			}
			before := l.Published()
			fault(f.faulty)
			l.Add(t.Context(), tlog.Leaf{Value: []byte("leaf 3")}) // fails one way or the other
			add(t, l, 4, tlog.ErrIntegrity)
			f.appendErr, f.appended, f.head, f.tile = nil, nil, nil, nil
			add(t, l, 5, tlog.ErrIntegrity) // stays stopped when the store looks well again
			if err := l.Ready(t.Context()); !errors.Is(err, tlog.ErrIntegrity) {
				t.Fatalf("ready: %v, want ErrIntegrity", err)
			}
			if l.Published() != before {
				t.Fatal("something was published after the contradiction")
			}
			if _, err := l.Entries(t.Context(), 0, 3); err != nil { // it can still be read
				t.Fatal(err)
			}
		})
	}
}

// TestCorruptionIsNotServed flips bits in what is read.
func TestCorruptionIsNotServed(t *testing.T) {
	f := newFixture(t)
	l := f.mustOpen(t)
	for n := range 600 {
		add(t, l, n, nil)
	}
	f.entries = func(e []tlog.Entry) { e[len(e)-1].Value[0] ^= 1 }
	if _, err := l.Entries(t.Context(), 0, 10); !errors.Is(err, tlog.ErrIntegrity) {
		t.Fatalf("a flipped entry: %v, want ErrIntegrity", err)
	}
	f.entries = nil
	l.Close()
	l = f.mustOpen(t) // with an empty cache of tiles
	defer func() { l.Close() }()
	f.tile = func(h []tlog.Hash) { h[200][31] ^= 1 }
	if _, err := l.Published().Inclusion(t.Context(), 7, 600); !errors.Is(err, tlog.ErrIntegrity) {
		t.Fatalf("a flipped tile: %v, want ErrIntegrity", err)
	}
	f.tile = nil
	if _, err := l.Published().Inclusion(t.Context(), 7, 600); err != nil {
		t.Fatal(err)
	}
}

// TestTornMemory spoils each slot of the second memory, as a crash in the
// middle of a write may, and both.
func TestTornMemory(t *testing.T) {
	f := newFixture(t)
	l := f.mustOpen(t)
	for n := range 4 {
		add(t, l, n, nil)
	}
	l.Close()
	whole, err := os.ReadFile(f.memory())
	if err != nil {
		t.Fatal(err)
	}
	if len(whole) != 8192 {
		t.Fatalf("second memory has %d bytes, want two pages", len(whole))
	}
	for cut := 0; cut < 300; cut++ {
		for slot := range 2 {
			torn := bytes.Clone(whole)
			clear(torn[slot*4096+cut : (slot+1)*4096])
			if err := os.WriteFile(f.memory(), torn, 0o600); err != nil {
				t.Fatal(err)
			}
			l := f.mustOpen(t)
			if size := l.Published().Size; size != 4 {
				t.Fatalf("size %d", size)
			}
			l.Close()
		}
	}
	for name, content := range map[string][]byte{"gone": nil, "zero": make([]byte, 8192), "short": whole[:100]} {
		if err := os.WriteFile(f.memory(), content, 0o600); err != nil {
			t.Fatal(err)
		}
		if l, err := f.open(); !errors.Is(err, tlog.ErrIntegrity) {
			if err == nil {
				l.Close()
			}
			t.Fatalf("second memory %s: %v, want ErrIntegrity", name, err)
		}
	}
}

// TestOneCallerGivesUp checks that a caller whose context ends takes nobody
// with it, and that its leaf is not lost.
func TestOneCallerGivesUp(t *testing.T) {
	f := newFixture(t)
	l := f.mustOpen(t)
	defer l.Close()
	f.hold, f.entered = make(chan struct{}), make(chan struct{}, 8)
	ctx, cancel := context.WithCancel(t.Context())
	gone, stays := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := l.Add(ctx, tlog.Leaf{Value: []byte("leaf 0")})
		gone <- err
	}()
	<-f.entered // its batch is being written
	go func() {
		_, err := l.Add(t.Context(), tlog.Leaf{Value: []byte("leaf 1")})
		stays <- err
	}()
	cancel()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Fatalf("%v, want context.Canceled", err)
	}
	close(f.hold)
	if err := <-stays; err != nil {
		t.Fatal(err)
	}
	if in := add(t, l, 0, nil); in.Index != 0 || !in.Dup {
		t.Fatalf("the leaf of the caller who went away is at %d, dup %v", in.Index, in.Dup)
	}
}

// TestFullQueue fills the queue while a batch hangs: more is refused at once.
func TestFullQueue(t *testing.T) {
	f := newFixture(t)
	l := f.mustOpen(t)
	f.hold, f.entered = make(chan struct{}), make(chan struct{}, 8)
	const queue = 4 * tlog.MaxBatchLeaves
	results := make(chan error, queue+1)
	go func() {
		_, err := l.Add(t.Context(), tlog.Leaf{Value: []byte("leaf 0")})
		results <- err
	}()
	<-f.entered
	for n := range queue {
		go func() {
			_, err := l.Add(t.Context(), tlog.Leaf{Value: fmt.Appendf(nil, "leaf %d", n+1)})
			results <- err
		}()
	}
	// Leaves that are refused are so because the queue is full: once one is, it stays full.
	for n := queue + 1; ; n++ {
		if n > 4*queue {
			t.Fatalf("%d submissions wait, and none is refused", n)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // a leaf that still finds room must not wait
		if _, err := l.Add(ctx, tlog.Leaf{Value: fmt.Appendf(nil, "leaf %d", n)}); errors.Is(err, tlog.ErrUnavailable) {
			break
		}
	}
	close(f.hold)
	refused := 0
	for range queue + 1 {
		if err := <-results; errors.Is(err, tlog.ErrUnavailable) {
			refused++
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	if size := l.Published().Size; size < uint64(queue+1-refused) {
		t.Fatalf("%d entries, want at least %d", size, queue+1-refused)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	add(t, l, 1, tlog.ErrUnavailable) // after Close
}

// TestGrows has everybody who asked be told of the next tree, once.
func TestGrows(t *testing.T) {
	f := newFixture(t)
	l := f.mustOpen(t)
	defer func() { l.Close() }()
	told := func(c <-chan struct{}) bool {
		select {
		case <-c:
			return true
		default:
			return false
		}
	}
	a, b := l.Grows(), l.Grows()
	if told(a) || told(b) {
		t.Fatal("told of a tree although none was published")
	}
	add(t, l, 0, nil)
	if !told(a) || !told(b) {
		t.Error("not everybody was told of the first entry")
	}
	c := l.Grows()
	add(t, l, 0, nil) // is there already
	if told(c) {
		t.Error("told of a tree that was published before")
	}
	f.signErr = errDisk
	add(t, l, 1, tlog.ErrUnavailable)
	if told(c) {
		t.Error("told of a tree that could not be signed")
	}
	f.signErr = nil
	add(t, l, 2, nil)
	if !told(c) {
		t.Error("not told of the entries that came later")
	}
}
