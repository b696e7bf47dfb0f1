package sqlite_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sigstack/sigstack/storage/sqlite"
	"github.com/sigstack/sigstack/tlog"
)

// TestReadOnly reads files that must not change, those of a log that was closed
// and those of one whose process was killed, as it were.
func TestReadOnly(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "log.db")
	if s, err := sqlite.OpenReadOnly(file); err == nil {
		s.Close()
		t.Fatal("a file was opened that is not there")
	}
	s, err := sqlite.Open(file, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, _, err := s.Append(t.Context(), []tlog.Leaf{{Value: []byte("entry"), Keys: []string{"key"}}}); err != nil {
		t.Fatal(err)
	}
	killed, closed := filepath.Join(t.TempDir(), "log.db"), filepath.Join(t.TempDir(), "log.db")
	for _, suffix := range []string{"", "-wal"} {
		copyFile(t, file+suffix, killed+suffix)
	}
	id := s.TreeID()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	copyFile(t, file, closed)
	for _, name := range []string{killed, closed} {
		before, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		ro, err := sqlite.OpenReadOnly(name)
		if err != nil {
			t.Fatal(err)
		}
		defer ro.Close()
		records, err := ro.Records(t.Context(), 0, 9)
		if err != nil || len(records) != 1 || string(records[0].Value) != "entry" || ro.TreeID() != id {
			t.Errorf("%s: %d records, tree %d, %v", name, len(records), ro.TreeID(), err)
		}
		keys := 0
		for _, err := range ro.SearchKeys(t.Context()) {
			if keys++; err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if keys != 1 {
			t.Errorf("%s: %d search keys", name, keys)
		}
		if _, _, err := ro.Append(t.Context(), []tlog.Leaf{{Value: []byte("x")}}); err == nil {
			t.Errorf("%s: appended to what is read only", name)
		}
		if err := ro.Close(); err != nil {
			t.Error(err)
		}
		if after, err := os.ReadFile(name); err != nil || string(after) != string(before) {
			t.Errorf("%s has changed (%v)", name, err)
		}
	}
	if left, err := os.ReadDir(filepath.Dir(closed)); err != nil || len(left) != 1 {
		t.Errorf("%d files beside a log that was read, %v", len(left)-1, err)
	}
}

// TestOpenAs gives logs a tree ID.
func TestOpenAs(t *testing.T) {
	file := filepath.Join(t.TempDir(), "log.db")
	s, err := sqlite.Open(file, time.Now) // a start that came to nothing
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	for _, id := range []int64{77, 78, 78} { // while it is empty
		if s, err = sqlite.OpenAs(file, id, time.Now); err != nil || s.TreeID() != id {
			t.Fatalf("tree %d: %v", id, err)
		}
		if id == 78 {
			if _, _, err := s.Append(t.Context(), []tlog.Leaf{{Value: []byte("entry")}}); err != nil {
				t.Fatal(err)
			}
		}
		s.Close()
	}
	if s, err := sqlite.OpenAs(file, 79, time.Now); err == nil || !strings.Contains(err.Error(), "it is another log") {
		if err == nil {
			s.Close()
		}
		t.Errorf("a log with entries takes another tree ID: %v", err)
	}
	if s, err = sqlite.Open(file, time.Now); err != nil || s.TreeID() != 78 {
		t.Fatalf("tree %d: %v", s.TreeID(), err)
	}
	s.Close()
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	text, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}
