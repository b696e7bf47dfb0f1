package sqlite_test

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/sigstack/sigstack/storage/audit"
	"github.com/sigstack/sigstack/storage/audit/audittest"
	"github.com/sigstack/sigstack/storage/sqlite"
	"github.com/sigstack/sigstack/tlog"
)

// TestFailedAppend makes transactions fail at each of their steps, by triggers
// and by a foreign key that is looked at in the commit only. Nothing of such a
// batch may stay, neither in the file nor in the memory of the Store.
func TestFailedAppend(t *testing.T) {
	for name, fault := range map[string]string{
		"second entry": "CREATE TRIGGER fault BEFORE INSERT ON entry WHEN NEW.value = x'7831' BEGIN SELECT RAISE(ABORT, 'fault'); END",
		"search key":   "CREATE TRIGGER fault BEFORE INSERT ON search WHEN NEW.key = 'key 1' BEGIN SELECT RAISE(ABORT, 'fault'); END",
		"tile":         "CREATE TRIGGER fault BEFORE INSERT ON tile BEGIN SELECT RAISE(ABORT, 'fault'); END",
		"head":         "CREATE TRIGGER fault BEFORE UPDATE ON log BEGIN SELECT RAISE(ABORT, 'fault'); END",
		"commit": `CREATE TABLE parent (n INTEGER PRIMARY KEY);
			CREATE TABLE child (n INTEGER REFERENCES parent(n) DEFERRABLE INITIALLY DEFERRED);
			CREATE TRIGGER fault AFTER UPDATE ON log BEGIN INSERT INTO child VALUES (1); END`,
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "log.db")
			s, err := sqlite.Open(file, time.Now)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { s.Close() }()
			leaf := func(n int) tlog.Leaf {
				return tlog.Leaf{Value: fmt.Appendf(nil, "x%d", n), Keys: []string{fmt.Sprintf("key %d", n)}}
			}
			_, before, err := s.Append(t.Context(), []tlog.Leaf{leaf(100), leaf(101), leaf(102)})
			if err != nil {
				t.Fatal(err)
			}
			if name == "commit" {
				s.EnforceForeignKeys(t)
			}
			other, err := sql.Open("sqlite", file)
			if err != nil {
				t.Fatal(err)
			}
			defer other.Close()
			if _, err := other.Exec(fault); err != nil {
				t.Fatal(err)
			}
			for range 3 {
				if placed, _, err := s.Append(t.Context(), []tlog.Leaf{leaf(0), leaf(1), leaf(2)}); err == nil {
					t.Fatalf("placed at %v in spite of the fault", placed)
				}
				if head, err := s.Head(t.Context()); err != nil || head != before {
					t.Fatalf("head %v, %v after a failure, want %v", head, err, before)
				}
				if entries, err := s.Entries(t.Context(), 3, 99); err != nil || len(entries) != 0 {
					t.Fatalf("%d entries of a batch that failed, %v", len(entries), err)
				}
			}
			if _, err := other.Exec("DROP TRIGGER fault"); err != nil {
				t.Fatal(err)
			}
			placed, head, err := s.Append(t.Context(), []tlog.Leaf{leaf(2), leaf(1)})
			if err != nil {
				t.Fatal(err)
			}
			if placed[0].Index != 3 || placed[1].Index != 4 || placed[0].Dup || placed[1].Dup || head.Size != 5 {
				t.Fatalf("placed at %v in a log of %d", placed, head.Size)
			}
			// The same leaves in a log where nothing failed.
			whole, err := sqlite.Open(filepath.Join(t.TempDir(), "log.db"), time.Now)
			if err != nil {
				t.Fatal(err)
			}
			defer whole.Close()
			_, want, err := whole.Append(t.Context(), []tlog.Leaf{leaf(100), leaf(101), leaf(102), leaf(2), leaf(1)})
			if err != nil || want.Root != head.Root {
				t.Fatalf("root %x, want %x (%v)", head.Root, want.Root, err)
			}
			for _, n := range []int{0, 1, 2} {
				hashes, err := s.Lookup(t.Context(), fmt.Sprintf("key %d", n))
				if err != nil || len(hashes) != min(n, 1) {
					t.Fatalf("key %d leads to %d entries, %v", n, len(hashes), err)
				}
			}
		})
	}
}

// TestAuditIsThere reads each row back at once.
func TestAuditIsThere(t *testing.T) {
	a := openAudit(t, filepath.Join(t.TempDir(), "audit.db"))
	defer a.Close()
	for n := range 20 {
		if err := a.Add(t.Context(), audittest.Row(audit.Intended, fmt.Sprint(n))); err != nil {
			t.Fatal(err)
		}
		if rows := audittest.Rows(t, a); len(rows) != n+1 {
			t.Fatalf("%d rows are there after %d were added", len(rows), n+1)
		}
	}
}
