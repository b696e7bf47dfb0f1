package rekor

import (
	"context"
	"log/slog"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/sigstack/sigstack/storage/sqlite"
	"github.com/sigstack/sigstack/tlog"
	"github.com/sigstack/sigstack/tlog/checkpoint"
	"github.com/sigstack/sigstack/tlog/entry"
)

// TestIntegratedTime lets a minute pass with each entry: an answer has the time
// of its entry, not that of the tree or of the question.
func TestIntegratedTime(t *testing.T) {
	dir, ctx := t.TempDir(), context.Background()
	now := testTime
	clock := func() time.Time { return now } // turned between calls only
	store, err := sqlite.Open(filepath.Join(dir, "log.db"), clock)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	key := newKey(t)
	signer, err := checkpoint.NewSigner("rekor.test - "+strconv.FormatInt(store.TreeID(), 10), "rekor.test", key)
	if err != nil {
		t.Fatal(err)
	}
	engine, err := tlog.Open(ctx, store, tlog.Options{Signer: signer, Memory: filepath.Join(dir, "log.memory"), Now: clock, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close()
	l, err := New(Config{Shards: []Shard{{Log: engine, TreeID: store.TreeID(), Signer: key, Index: store}}})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		e, err := l.Create(ctx, &entry.Entry{Body: body(i)})
		if err != nil {
			t.Fatal(err)
		}
		if want := testTime.Add(time.Duration(i) * time.Minute).Unix(); e.IntegratedTime != want {
			t.Errorf("entry %d: integrated time %d when it was added, want %d", i, e.IntegratedTime, want)
		}
		now = now.Add(time.Minute)
		for j := range i + 1 {
			e, err := l.ByIndex(ctx, uint64(j))
			if err != nil {
				t.Fatal(err)
			}
			if want := testTime.Add(time.Duration(j) * time.Minute).Unix(); e.IntegratedTime != want {
				t.Errorf("entry %d: integrated time %d when it was read, want %d", j, e.IntegratedTime, want)
			}
		}
	}
}
