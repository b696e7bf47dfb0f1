package events

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/sigstack/sigstack/storage/sqlite"
	"github.com/sigstack/sigstack/tlog"
	"github.com/sigstack/sigstack/tlog/checkpoint"
	"github.com/sigstack/sigstack/tlog/entry"
	"github.com/sigstack/sigstack/tlog/rekor"
)

func newLog(t testing.TB) *rekor.Log {
	t.Helper()
	dir := t.TempDir()
	store, err := sqlite.Open(filepath.Join(dir, "log.db"), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := checkpoint.NewSigner(fmt.Sprintf("rekor.test - %d", store.TreeID()), "rekor.test", key)
	if err != nil {
		t.Fatal(err)
	}
	engine, err := tlog.Open(t.Context(), store, tlog.Options{Signer: signer, Memory: filepath.Join(dir, "signed"), Now: time.Now, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { engine.Close() })
	l, err := rekor.New(rekor.Config{Shards: []rekor.Shard{{Log: engine, TreeID: store.TreeID(), Signer: key, Index: store}}})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// A hung sink never answers.
type hung struct{ entered chan struct{} }

func (s *hung) Deliver(ctx context.Context, _ []Event) (int, error) {
	close(s.entered)
	<-ctx.Done()
	return 0, ctx.Err()
}

func (*hung) Sync() error { return nil }

// TestNothingWaits adds entries while a sink hangs: each is answered, and costs the
// process what it costs without events.
func TestNothingWaits(t *testing.T) {
	const runs = 256
	measure := func(events bool) float64 {
		l := newLog(t)
		n := 0
		add := func() {
			n++
			if _, err := l.Create(t.Context(), &entry.Entry{Body: fmt.Appendf(nil, `{"n":%08d}`, n)}); err != nil {
				t.Fatal(err)
			}
		}
		add()
		if !events {
			return testing.AllocsPerRun(runs, add)
		}
		sink := &hung{make(chan struct{})}
		f, err := Open(t.Context(), Config{
			Name: "hung", Log: l, Sink: sink, Cursor: NewFileCursor(filepath.Join(t.TempDir(), "cursor")), FromStart: true,
			Format: Rekor, After: time.After, Logger: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { f.Run(ctx); close(done) }()
		defer func() { cancel(); <-done }()
		<-sink.entered
		allocations := testing.AllocsPerRun(runs, add)
		if f.Lag() != uint64(n) {
			t.Errorf("lag %d, want %d", f.Lag(), n)
		}
		return allocations
	}
	if without, with := measure(false), measure(true); with > without+1 {
		t.Errorf("%v allocations an entry with events, %v without", with, without)
	}
}

// BenchmarkCreate adds entries without events, and with events that go to a file.
func BenchmarkCreate(b *testing.B) {
	for _, with := range []bool{false, true} {
		b.Run(fmt.Sprintf("events=%v", with), func(b *testing.B) {
			l := newLog(b)
			ctx, cancel := context.WithCancel(b.Context())
			done := make(chan struct{})
			close(done)
			if with {
				dir := b.TempDir()
				f, err := Open(ctx, Config{
					Name: "file", Log: l, Sink: NewFile(filepath.Join(dir, "events")), Cursor: NewFileCursor(filepath.Join(dir, "cursor")),
					Format: Rekor, After: time.After, Logger: slog.New(slog.DiscardHandler),
				})
				if err != nil {
					b.Fatal(err)
				}
				done = make(chan struct{})
				go func() { f.Run(ctx); close(done) }()
			}
			n := 0
			for b.Loop() {
				n++
				if _, err := l.Create(ctx, &entry.Entry{Body: fmt.Appendf(nil, `{"n":%08d}`, n)}); err != nil {
					b.Fatal(err)
				}
			}
			cancel()
			<-done
		})
	}
}
