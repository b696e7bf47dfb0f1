package tlog_test

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sigstack/sigstack/storage/sqlite"
	"github.com/sigstack/sigstack/tlog"
)

// TestHold holds a log with its own memory, and the memory of a copy that has
// nothing yet over the same store.
func TestHold(t *testing.T) {
	f := newFixture(t)
	options := func(memory string, shared bool) tlog.Options {
		return tlog.Options{Signer: f.signer, Memory: filepath.Join(f.dir, memory), Now: f.clock.Now, Logger: slog.New(slog.DiscardHandler), Shared: shared}
	}
	served := options("served", false)
	l, err := tlog.Open(t.Context(), f.faulty, served)
	if err != nil {
		t.Fatal(err)
	}
	for n := range 3 {
		add(t, l, n, nil)
	}
	if h, err := tlog.Hold(t.Context(), f.faulty, served); err == nil {
		h.Close()
		t.Fatal("a log is held that is served")
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	// An entry that no checkpoint was signed for, because a process ended.
	if _, _, err := f.faulty.Append(t.Context(), []tlog.Leaf{{Value: []byte("leaf 3")}}); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(served.Memory)
	if err != nil {
		t.Fatal(err)
	}
	source, err := tlog.Hold(t.Context(), f.faulty, served)
	if err != nil {
		t.Fatal(err)
	}
	if source.Tree.Size != 4 || source.Tree.Checkpoint != nil {
		t.Fatalf("the log that is held has size %d and checkpoint %q", source.Tree.Size, source.Tree.Checkpoint)
	}
	if l, err := tlog.Open(t.Context(), f.faulty, served); err == nil {
		l.Close()
		t.Fatal("a log is served that is held")
	}

	// The memory of the copy knows the whole source before there is a copy.
	target := options("target", true)
	copied, err := tlog.Hold(t.Context(), f.faulty, target)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := copied.Remember(); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(copied.Close(), source.Close()); err != nil {
		t.Fatal(err)
	}
	after, err := os.ReadFile(served.Memory)
	if err != nil || !bytes.Equal(before, after) {
		t.Fatalf("holding a log has changed its memory (%v)", err)
	}
	half, err := sqlite.Open(filepath.Join(f.dir, "half.db"), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	defer half.Close()
	for _, o := range []tlog.Options{target, served} {
		o.Shared = false
		if l, err := tlog.Open(t.Context(), half, o); !errors.Is(err, tlog.ErrIntegrity) {
			if err == nil {
				l.Close()
			}
			t.Fatalf("half a copy is served: %v", err)
		}
		if h, err := tlog.Hold(t.Context(), half, o); !errors.Is(err, tlog.ErrIntegrity) {
			if err == nil {
				h.Close()
			}
			t.Fatalf("a store that lacks what was signed is held: %v", err)
		}
	}
	target.Shared = false
	if l, err = tlog.Open(t.Context(), f.faulty, target); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}
