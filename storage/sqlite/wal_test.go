package sqlite

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/sigstack/sigstack/tlog"
)

// TestWriteAheadLog writes more than the write-ahead log is meant to hold: it is
// copied beside the writer, who finishes that and begins the log anew. While a
// reader holds on to something older, nothing is begun anew and nothing is lost.
func TestWriteAheadLog(t *testing.T) {
	s, err := Open(filepath.Join(t.TempDir(), "log.db"), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	size := uint64(0)
	appendOne := func(bytes int) {
		t.Helper()
		value := make([]byte, bytes)
		binary.BigEndian.PutUint64(value, size)
		placed, head, err := s.Append(t.Context(), []tlog.Leaf{{Value: value}})
		if err != nil || placed[0].Index != size || head.Size != size+1 {
			t.Fatalf("%v, size %d: %v", placed, head.Size, err)
		}
		size++
	}
	// pages are those of the write-ahead log.
	pages := func() int {
		t.Helper()
		for deadline := time.Now().Add(30 * time.Second); ; runtime.Gosched() {
			n, _, err := copyWAL(s.db.write)
			if err == nil {
				return n
			}
			if !errors.Is(err, errCopying) || time.Now().After(deadline) {
				t.Fatal(err)
			}
		}
	}

	// begun counts how often the write-ahead log was begun anew (sqlite.org/fileformat2.html,
	// section 4.1).
	begun := func() uint32 {
		t.Helper()
		f, err := os.Open(s.path + "-wal")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		var count [4]byte
		if _, err := f.ReadAt(count[:], 12); err != nil {
			t.Fatal(err)
		}
		return binary.BigEndian.Uint32(count[:])
	}

	tx, err := s.db.read.Begin()
	if err != nil {
		t.Fatal(err)
	}
	var n int
	if err := tx.QueryRow("SELECT count(*) FROM entry").Scan(&n); err != nil {
		t.Fatal(err)
	}
	for range 1 + walBytes/(1<<20) {
		appendOne(1 << 20)
	}
	if got := pages(); got < walBytes/4096 {
		t.Errorf("%d pages in the write-ahead log, which a reader needs whole", got)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}

	first := begun()
	for deadline := time.Now().Add(30 * time.Second); begun() == first; appendOne(1 << 20) {
		if time.Now().After(deadline) {
			t.Fatal("the write-ahead log was not copied, or not begun anew")
		}
	}
	// What was written since the copier was done is left for the writer. That is let
	// end what it is at: only one may copy at a time.
	w := s.db.wal
	close(w.due)
	<-w.done
	w.due, w.done = make(chan struct{}, 1), make(chan struct{})
	go w.run()
	appendOne(8)
	appendOne(8)
	w.nearly.Store(true)
	before := begun()
	appendOne(8) // copies the rest
	appendOne(8)
	if got := begun(); got != before+1 {
		t.Errorf("the write-ahead log was begun %d times anew, want once", got-before)
	}
	entries, err := s.Entries(t.Context(), 0, size)
	if err != nil || uint64(len(entries)) != size {
		t.Fatalf("%d of %d entries: %v", len(entries), size, err)
	}
	for i, e := range entries {
		if binary.BigEndian.Uint64(e.Value) != uint64(i) {
			t.Fatalf("entry %d is another one", i)
		}
	}
}
