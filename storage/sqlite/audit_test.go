package sqlite_test

import (
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sigstack/sigstack/storage/audit"
	"github.com/sigstack/sigstack/storage/audit/audittest"
	"github.com/sigstack/sigstack/storage/sqlite"
)

func openAudit(t *testing.T, file string) *sqlite.Audit {
	t.Helper()
	a, err := sqlite.OpenAudit(file, func() time.Time { return time.Unix(1_800_000_000, 0) })
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// TestAudit runs the suite over a file that one process has open.
func TestAudit(t *testing.T) {
	audittest.Run(t, func(t *testing.T) audittest.Open {
		file := filepath.Join(t.TempDir(), "audit.db")
		var last *sqlite.Audit
		t.Cleanup(func() { last.Close() })
		return func(n int) audittest.Log {
			if n > 0 {
				return last
			}
			if last != nil {
				last.Close()
			}
			last = openAudit(t, file)
			return last
		}
	})
}

// version1 is an audit log as version 1 of the schema had it.
const version1 = `
CREATE TABLE audit (
	seq    INTEGER PRIMARY KEY,
	time   INTEGER NOT NULL,
	serial TEXT    NOT NULL UNIQUE,
	record TEXT    NOT NULL
);
PRAGMA user_version = 1;
`

// TestAuditMigration brings rows of version 1 into the chain: all, in their order,
// with a mark behind them, once.
func TestAuditMigration(t *testing.T) {
	for _, rows := range []int{0, 1, 2500} {
		file := filepath.Join(t.TempDir(), "audit.db")
		db, err := sql.Open("sqlite", file)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := db.Exec(version1); err != nil {
			t.Fatal(err)
		}
		tx, err := db.Begin()
		if err != nil {
			t.Fatal(err)
		}
		for n := range rows {
			if _, err := tx.Exec("INSERT INTO audit (seq, time, serial, record) VALUES (?, ?, ?, ?)", 3*n-5, 1000+n, fmt.Sprintf("%04x", rows-n), fmt.Sprintf("record %d", n)); err != nil {
				t.Fatal(err)
			}
		}
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
		db.Close()
		if a, err := sqlite.OpenAuditReadOnly(file); err == nil || !strings.Contains(err.Error(), "a start of its server brings it") {
			t.Errorf("a copy of version 1: %v", err)
			a.Close()
		}
		for range 2 {
			a := openAudit(t, file)
			got := audittest.Rows(t, a)
			if len(got) != rows+1 {
				t.Fatalf("%d rows became %d", rows, len(got))
			}
			for n, r := range got[:rows] {
				if r.Kind != audit.Recorded || r.Serial != fmt.Sprintf("%04x", rows-n) || r.At.UnixNano() != int64(1000+n) || string(r.Record) != fmt.Sprintf("record %d", n) {
					t.Fatalf("row %d is %+v", n, r)
				}
			}
			if last := got[rows]; last.Kind != audit.Migrated || last.Serial != "" || !last.At.Equal(time.Unix(1_800_000_000, 0)) {
				t.Errorf("the mark is %+v", last)
			}
			a.Close()
		}
		// It goes on behind them, and their serials are taken.
		a := openAudit(t, file)
		if err := a.Add(t.Context(), audittest.Row(audit.Intended, "ffff")); err != nil {
			t.Error(err)
		}
		if rows > 0 {
			if err := a.Add(t.Context(), audittest.Row(audit.Intended, "0001")); err == nil {
				t.Error("a serial of version 1 is taken again")
			}
		}
		audittest.Rows(t, a)
		a.Close()
	}
	// A new one has no mark.
	a := openAudit(t, filepath.Join(t.TempDir(), "audit.db"))
	defer a.Close()
	if rows := audittest.Rows(t, a); len(rows) != 0 {
		t.Errorf("%d rows in a new log", len(rows))
	}
}

func TestFiles(t *testing.T) {
	file := filepath.Join(t.TempDir(), "log.db")
	s, err := sqlite.Open(file, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	id := s.TreeID()
	if id <= 0 {
		t.Errorf("tree ID %d", id)
	}
	for _, name := range []string{file, file + "-wal", file + "-shm"} {
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v, want mode 0600", name, info, err)
		}
	}
	s.Close()
	if s, err = sqlite.Open(file, time.Now); err != nil {
		t.Fatal(err)
	}
	if s.TreeID() != id {
		t.Errorf("tree ID %d after reopening, want %d", s.TreeID(), id)
	}
	s.Close()

	// What a newer sigstack wrote is refused.
	db, err := sql.Open("sqlite", file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec("PRAGMA user_version = 99"); err != nil {
		t.Fatal(err)
	}
	db.Close()
	if s, err := sqlite.Open(file, time.Now); err == nil || !strings.Contains(err.Error(), "newer sigstack") {
		if err == nil {
			s.Close()
		}
		t.Errorf("a newer schema: %v", err)
	}
}
