package mysql_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sigstack/sigstack/storage/audit"
	"github.com/sigstack/sigstack/storage/audit/audittest"
	"github.com/sigstack/sigstack/storage/mysql"
	"github.com/sigstack/sigstack/test/harness"
)

// TestAudit runs the suite over a database that two replicas share.
func TestAudit(t *testing.T) {
	server := harness.SharedMariaDB(t)
	audittest.Run(t, func(t *testing.T) audittest.Open {
		dsn := server.NewDatabase(t)
		dbs := []*mysql.DB{openDB(t, dsn, time.Now), openDB(t, dsn, time.Now)}
		return func(n int) audittest.Log {
			a := dbs[n].Audit()
			t.Cleanup(func() { a.Queue.Close() })
			return a
		}
	})
}

// TestAuditLostCommit cuts the connection at the commit: the row is found to be
// ours.
func TestAuditLostCommit(t *testing.T) {
	server := harness.SharedMariaDB(t)
	for _, at := range []harness.Direction{harness.ToServer, harness.ToClient} {
		dsn := server.NewDatabase(t)
		proxy := harness.NewProxy(t, server.Addr)
		a := openDB(t, strings.Replace(dsn, server.Addr, proxy.Addr, 1), time.Now).Audit()
		var mu sync.Mutex
		cuts, cutting := 0, false
		proxy.Inspect(func(d harness.Direction, data []byte) harness.Verdict {
			mu.Lock()
			defer mu.Unlock()
			if cuts == 0 && d == harness.ToServer && strings.HasSuffix(string(data), "COMMIT") {
				cutting = true
			}
			if cutting && d == at {
				cuts, cutting = cuts+1, false
				return harness.Cut
			}
			return harness.Pass
		})
		if err := a.Add(t.Context(), audittest.Row(audit.Intended, "01")); err != nil || cuts != 1 {
			t.Errorf("direction %d: %v after %d cuts", at, err, cuts)
		}
		if err := a.Add(t.Context(), audittest.Row(audit.Intended, "01")); err == nil {
			t.Errorf("direction %d: a serial is taken twice", at)
		}
		if rows := audittest.Rows(t, a); len(rows) != 1 {
			t.Errorf("direction %d: %d rows", at, len(rows))
		}
		a.Close()
	}
}

// TestAuditMigration brings rows of version 1 into the chain, also where an earlier
// start was cut off after any number of them.
func TestAuditMigration(t *testing.T) {
	server := harness.SharedMariaDB(t)
	for _, c := range []struct{ rows, done int }{{0, 0}, {1, 0}, {1201, 0}, {1201, 500}, {1201, 1201}} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			dsn := server.NewDatabase(t)
			earlier := openDB(t, dsn, time.Now).Audit()
			db := raw(t, dsn)
			old := "sigstack_audit"
			if c.done > 0 {
				old = "sigstack_audit_1" // it was set aside
			}
			for _, text := range []string{
				"DELETE FROM sigstack_schema WHERE version >= 2",
				"CREATE TABLE " + old + " (seq BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, time BIGINT NOT NULL, serial VARBINARY(64) NOT NULL UNIQUE, record MEDIUMBLOB NOT NULL)",
				"INSERT INTO sigstack_schema (version, time) VALUES (1, 0) ON DUPLICATE KEY UPDATE time = 0",
			} {
				if _, err := db.Exec(text); err != nil {
					t.Fatal(err)
				}
			}
			var values []string
			var rows []audit.Row
			for n := range c.rows {
				serial, record := fmt.Sprintf("%04x", c.rows-n), fmt.Sprintf("record %d", n)
				values = append(values, fmt.Sprintf("(%d, %d, '%s', '%s')", 2*n+10, 1000+n, serial, record))
				rows = append(rows, audit.Row{At: time.Unix(0, int64(1000+n)), Kind: audit.Recorded, Serial: serial, Record: []byte(record)})
			}
			if c.rows > 0 {
				if _, err := db.Exec("INSERT INTO " + old + " (seq, time, serial, record) VALUES " + strings.Join(values, ",")); err != nil {
					t.Fatal(err)
				}
			}
			if c.done > 0 { // by the start that was cut off
				for some := range slices.Chunk(slices.Clone(rows[:c.done]), audit.MaxRows) {
					if err := earlier.AddAll(t.Context(), some); err != nil {
						t.Fatal(err)
					}
				}
			}
			at := time.Unix(1_800_000_000, 0)
			for range 2 {
				a := openDB(t, dsn, func() time.Time { return at }).Audit()
				got := audittest.Rows(t, a)
				if len(got) != c.rows+1 {
					t.Fatalf("%d rows became %d", c.rows, len(got))
				}
				for n, r := range got[:c.rows] {
					if r.Kind != audit.Recorded || r.Serial != rows[n].Serial || !r.At.Equal(rows[n].At) || string(r.Record) != string(rows[n].Record) {
						t.Fatalf("row %d is %+v", n, r)
					}
				}
				if last := got[c.rows]; last.Kind != audit.Migrated || !last.At.Equal(at) {
					t.Errorf("the mark is %+v", last)
				}
				a.Queue.Close()
			}
			if left := table(t, db, "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name IN ('sigstack_audit', 'sigstack_audit_1')"); len(left) > 0 {
				t.Errorf("tables of version 1 are left: %v", left)
			}
		})
	}
}
