package mysql_test

import (
	"database/sql"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sigstack/sigstack/storage/mysql"
	"github.com/sigstack/sigstack/test/harness"
	"github.com/sigstack/sigstack/tlog"
)

// TestRowsRead counts the rows that the server reads for what is asked of a log
// of 20,000 entries, while its statistics are of a time when the log was empty,
// or had one entry, or many: no statement may walk through more than it is
// about, whatever the optimizer believes the size of a table to be.
func TestRowsRead(t *testing.T) {
	server := harness.StartMariaDB(t)
	for _, known := range []int{0, 1, 300, 20000} {
		t.Run(fmt.Sprintf("statistics of %d", known), func(t *testing.T) {
			dsn := slow(server.NewDatabase(t))
			s := openLog(t, openDB(t, dsn, time.Now), "rekorv1")
			db := raw(t, dsn)
			var tables []string
			for _, row := range table(t, db, "SHOW TABLES") {
				tables = append(tables, strings.Fields(strings.Trim(row, "[{"))[0])
			}
			for _, name := range tables {
				if _, err := db.Exec("ALTER TABLE " + name + " STATS_PERSISTENT = 1, STATS_AUTO_RECALC = 0"); err != nil {
					t.Fatal(err)
				}
			}
			size := 0
			grow := func(to int) {
				for size < to {
					var batch []tlog.Leaf
					for ; size < to && len(batch) < tlog.MaxBatchLeaves; size++ {
						batch = append(batch, tlog.Leaf{Value: fmt.Appendf(nil, "leaf %d", size), Keys: []string{fmt.Sprintf("key %d", size), "all"}})
					}
					before := rowsRead(t, db)
					if _, _, err := s.Append(t.Context(), batch); err != nil {
						t.Fatal(err)
					}
					if read := rowsRead(t, db) - before; read > 4*len(batch)+100 {
						t.Errorf("an Append of %d up to %d read %d rows", len(batch), size, read)
					}
				}
			}
			grow(known)
			for _, name := range tables {
				if _, err := db.Exec("ANALYZE TABLE " + name); err != nil {
					t.Fatal(err)
				}
			}
			grow(20000)
			checkRowsRead(t, db, s, size)
		})
	}
}

func checkRowsRead(t *testing.T, db *sql.DB, s *mysql.Store, size int) {
	ctx := t.Context()
	hash := tlog.LeafHash(fmt.Appendf(nil, "leaf %d", size/2))
	batch := func(from, n int) []tlog.Leaf {
		var leaves []tlog.Leaf
		for i := range n {
			leaves = append(leaves, tlog.Leaf{Value: fmt.Appendf(nil, "leaf %d", from+i), Keys: []string{fmt.Sprintf("key %d", from+i)}})
		}
		return leaves
	}
	asking := -rowsRead(t, db)
	asking += rowsRead(t, db)
	for _, c := range []struct {
		what string
		most int
		do   func() error
	}{
		{"Head", 8, func() error { _, err := s.Head(ctx); return err }},
		{"Find", 5, func() error { _, _, err := s.Find(ctx, hash); return err }},
		{"Lookup", 12, func() error { _, err := s.Lookup(ctx, "key 77"); return err }},
		{"Postings, newest", 30, func() error { _, err := s.Postings(ctx, "all", tlog.Span{End: 15000}, true, 20); return err }},
		{"Postings, oldest", 30, func() error {
			_, err := s.Postings(ctx, "all", tlog.Span{Begin: 777, End: 15000}, false, 20)
			return err
		}},
		{"KeysWith", 20, func() error { _, err := s.KeysWith(ctx, "key 77", 5); return err }},
		{"KeysWith of many entries", 20, func() error { _, err := s.KeysWith(ctx, "al", 5); return err }},
		{"Times", 10, func() error { _, err := s.Times(ctx, []uint64{5, 5000, 19000}); return err }},
		{"MissingSearchKeys", 20, func() error {
			_, err := s.MissingSearchKeys(ctx, []tlog.SearchKey{{Name: "key 5", Index: 5, Hash: tlog.LeafHash([]byte("leaf 5"))}, {Name: "all", Index: 7000, Hash: tlog.LeafHash([]byte("leaf 7000"))}})
			return err
		}},
		{"RemoveSearchKeys", 10, func() error {
			return s.RemoveSearchKeys(ctx, []tlog.SearchKey{{Name: "key 9", Index: 9, Hash: tlog.LeafHash([]byte("leaf 9"))}})
		}},
		{"Tile", 30, func() error { _, err := s.Tile(ctx, 0, 40, 256); return err }},
		{"Entries", 40, func() error { _, err := s.Entries(ctx, 7000, 7010); return err }},
		{"Records", 40, func() error { _, err := s.Records(ctx, 7000, 10); return err }},
		{"SearchKeys", 60, func() error { _, err := s.SearchPage(ctx, tlog.SearchKey{Name: "key 5"}, 10); return err }},
		{"Append of one known", 20, func() error { _, _, err := s.Append(ctx, batch(123, 1)); return err }},
		{"Append of one", 20, func() error { _, _, err := s.Append(ctx, batch(size, 1)); return err }},
		{"Append of 64", 64 * 4, func() error { _, _, err := s.Append(ctx, batch(size+1, 64)); return err }},
		{"Append of 1,000 known", 1000 * 6, func() error { _, _, err := s.Append(ctx, batch(5000, 1000)); return err }},
		{"Append of 1,000", 1000 * 4, func() error { _, _, err := s.Append(ctx, batch(size+65, 1000)); return err }},
	} {
		before := rowsRead(t, db)
		if err := c.do(); err != nil {
			t.Errorf("%s: %v", c.what, err)
		}
		if read := rowsRead(t, db) - before - asking; read > c.most {
			t.Errorf("%s read %d rows, want at most %d", c.what, read, c.most)
		} else {
			t.Logf("%s read %d rows", c.what, read)
		}
	}
}

// rowsRead returns how many rows of tables the server has read.
func rowsRead(t *testing.T, db *sql.DB) (n int) {
	t.Helper()
	err := db.QueryRow(`SELECT CAST(SUM(variable_value) AS UNSIGNED) FROM information_schema.global_status
		WHERE variable_name LIKE 'HANDLER_READ_%' AND variable_name NOT LIKE '%_DELETED'`).Scan(&n)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
