package faults

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	mysqlstore "github.com/sigstack/sigstack/storage/mysql"
	sqlitestore "github.com/sigstack/sigstack/storage/sqlite"
	"github.com/sigstack/sigstack/tlog"
	"github.com/sigstack/sigstack/tlog/checkpoint"
)

// slowSigner signs when it is let.
type slowSigner struct {
	crypto.Signer
	gate    chan struct{} // nil: at once
	entered chan struct{}
}

func (s *slowSigner) Sign(r io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if s.gate != nil {
		select {
		case s.entered <- struct{}{}:
		default:
		}
		<-s.gate
	}
	return s.Signer.Sign(r, digest, opts)
}

// openLog opens a log in process, with a signer that can be held up.
func openLog(t *testing.T, s storage, room func() error) (*tlog.Log, *slowSigner) {
	t.Helper()
	dir := t.TempDir()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	slow := &slowSigner{Signer: key, entered: make(chan struct{}, 1)}
	signer, err := checkpoint.NewSigner("faults.test/log", "faults.test", slow)
	if err != nil {
		t.Fatal(err)
	}
	logger := slog.New(slog.DiscardHandler)
	var store tlog.Store
	if s == mysql {
		db, err := mysqlstore.Open(t.Context(), dsn(t, dir), time.Now, logger)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { db.Close() })
		if store, err = db.Log(t.Context(), "faults"); err != nil {
			t.Fatal(err)
		}
	} else {
		file, err := sqlitestore.Open(filepath.Join(dir, "log.db"), time.Now)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { file.Close() })
		store = file
	}
	l, err := tlog.Open(t.Context(), store, tlog.Options{
		Signer: signer, Memory: filepath.Join(dir, "signed"), Now: time.Now, Logger: logger, Room: room, Shared: s == mysql,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l, slow
}

// TestQueueIsBounded (F11) holds the signer up while thousands submit: what does
// not fit into the queue is refused at once, and the rest is committed when the
// signer goes on.
func TestQueueIsBounded(t *testing.T) { overEach(t, queueIsBounded) }

func queueIsBounded(t *testing.T, s storage) {
	l, slow := openLog(t, s, nil)
	slow.gate = make(chan struct{})
	const submitters = 6000
	var granted, refused, other atomic.Int64
	var wg sync.WaitGroup
	submit := func(n int) {
		wg.Go(func() {
			in, err := l.Add(t.Context(), tlog.Leaf{Value: fmt.Appendf(nil, "leaf %d", n)})
			switch {
			case err == nil && in.Tree.Size > in.Index:
				granted.Add(1)
			case errors.Is(err, tlog.ErrUnavailable):
				refused.Add(1)
			default:
				other.Add(1)
			}
		})
	}
	submit(0)
	<-slow.entered // the committing goroutine is held up, with one leaf
	for n := 1; n < submitters; n++ {
		submit(n)
	}
	// 4000 wait, the rest is told at once.
	poll(t, 20*time.Second, "what does not fit into the queue is refused", func() bool {
		return refused.Load() == submitters-1-4*tlog.MaxBatchLeaves
	})
	if granted.Load() > 0 {
		t.Errorf("%d were granted without a signature", granted.Load())
	}
	close(slow.gate)
	wg.Wait()
	if g, r, o := granted.Load(), refused.Load(), other.Load(); g != 1+4*tlog.MaxBatchLeaves || o != 0 {
		t.Errorf("%d granted, %d refused, %d something else", g, r, o)
	}
	if size := l.Published().Size; size != 1+4*tlog.MaxBatchLeaves {
		t.Errorf("size %d, want that nothing refused is there", size)
	}
	if _, err := l.Add(t.Context(), tlog.Leaf{Value: []byte("after")}); err != nil {
		t.Error(err)
	}
}

// TestNoRoom (F2) refuses a batch before the store is asked: nothing is
// appended, reads go on, and Ready says why.
func TestNoRoom(t *testing.T) { overEach(t, noRoom) }

func noRoom(t *testing.T, s storage) {
	var full atomic.Bool
	errFull := errors.New("the disk is nearly full")
	l, _ := openLog(t, s, func() error {
		if full.Load() {
			return errFull
		}
		return nil
	})
	add := func(text string) error {
		_, err := l.Add(t.Context(), tlog.Leaf{Value: []byte(text)})
		return err
	}
	if err := errors.Join(add("one"), l.Ready(t.Context())); err != nil {
		t.Fatal(err)
	}
	full.Store(true)
	for _, err := range []error{add("two"), l.Ready(t.Context())} {
		if !errors.Is(err, tlog.ErrUnavailable) || !errors.Is(err, errFull) {
			t.Errorf("%v, want that there is no room", err)
		}
	}
	if entries, err := l.Entries(t.Context(), 0, 1); err != nil || len(entries) != 1 {
		t.Errorf("%d entries, %v", len(entries), err)
	}
	full.Store(false)
	if err := errors.Join(l.Ready(t.Context()), add("two")); err != nil {
		t.Fatal(err)
	}
	if size := l.Published().Size; size != 2 {
		t.Errorf("size %d, want 2", size)
	}
}
