package mysql_test

import (
	"database/sql"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sigstack/sigstack/storage/mysql"
	"github.com/sigstack/sigstack/test/harness"
	"github.com/sigstack/sigstack/tlog"
)

// raw opens a database without any of our code.
func raw(t testing.TB, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open("mysql", dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// table returns the result of a query as lines.
func table(t testing.TB, db *sql.DB, query string, args ...any) []string {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), query, args...)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for rows.Next() {
		cells := make([]sql.NullString, len(columns))
		into := make([]any, len(columns))
		for i := range cells {
			into[i] = &cells[i]
		}
		if err := rows.Scan(into...); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, fmt.Sprint(cells))
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return lines
}

// describe returns what information_schema says of Trillian's tables.
func describe(t testing.TB, db *sql.DB) []string {
	t.Helper()
	const ours = " AND table_name NOT LIKE 'sigstack%' "
	var out []string
	for _, query := range []string{
		`SELECT 'column', table_name, ordinal_position, column_name, column_default, is_nullable, column_type, character_set_name, collation_name, extra
			FROM information_schema.columns WHERE table_schema = DATABASE()` + ours + `ORDER BY 2, 3`,
		`SELECT 'index', table_name, index_name, non_unique, seq_in_index, column_name, sub_part, nullable, index_type
			FROM information_schema.statistics WHERE table_schema = DATABASE()` + ours + `ORDER BY 2, 3, 5`,
		`SELECT 'reference', k.table_name, k.constraint_name, k.ordinal_position, k.column_name, k.referenced_table_name, k.referenced_column_name, r.delete_rule, r.update_rule
			FROM information_schema.key_column_usage k JOIN information_schema.referential_constraints r
			ON r.constraint_schema = k.constraint_schema AND r.table_name = k.table_name AND r.constraint_name = k.constraint_name
			WHERE k.table_schema = DATABASE() ORDER BY 2, 3, 4`,
		`SELECT 'table', table_name, engine, table_collation FROM information_schema.tables WHERE table_schema = DATABASE()` + ours + `ORDER BY 2`,
	} {
		out = append(out, table(t, db, query)...)
	}
	return out
}

// TestTrillianSchema compares our tables with those of the Trillian in go.mod,
// column by column and index by index.
func TestTrillianSchema(t *testing.T) {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/google/trillian").Output()
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "storage", "mysql", "schema", "storage.sql"))
	if err != nil {
		t.Fatal(err)
	}
	server := harness.SharedMariaDB(t)
	theirs := raw(t, server.NewDatabase(t)+"?multiStatements=true")
	if _, err := theirs.Exec(string(file)); err != nil {
		t.Fatal(err)
	}
	dsn := server.NewDatabase(t)
	openDB(t, dsn, time.Now)
	ours := raw(t, dsn)
	want, got := describe(t, theirs), describe(t, ours)
	if len(want) < 60 {
		t.Fatalf("only %d lines describe Trillian's schema", len(want))
	}
	for _, line := range want {
		if !slices.Contains(got, line) {
			t.Errorf("we lack %s", line)
		}
	}
	for _, line := range got {
		if !slices.Contains(want, line) {
			t.Errorf("Trillian lacks %s", line)
		}
	}

	// Over tables that are there, nothing of them changes.
	name := table(t, theirs, "SELECT DATABASE()")[0]
	openDB(t, server.DSN(strings.Fields(strings.Trim(name, "[{}]"))[0]), time.Now)
	if after := describe(t, theirs); !slices.Equal(after, want) {
		t.Error("opening a database of Trillian changes its tables")
	}
}

func TestMigrations(t *testing.T) {
	server := harness.SharedMariaDB(t)
	dsn := server.NewDatabase(t)

	// Many replicas come to an empty database at once, and make one tree for
	// each log.
	var wg sync.WaitGroup
	var mu sync.Mutex
	trees := map[string]map[int64]bool{"rekorv1": {}, "ct": {}}
	for range 6 {
		wg.Go(func() {
			d, err := mysql.Open(t.Context(), dsn, time.Now, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Error(err)
				return
			}
			defer d.Close()
			for name := range trees {
				s, err := d.Log(t.Context(), name)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				trees[name][s.TreeID()] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	again := openDB(t, dsn, time.Now)
	for name, ids := range trees {
		id := openLog(t, again, name).TreeID()
		if len(ids) != 1 || !ids[id] || id <= 0 {
			t.Errorf("log %s is tree %d after it was %v", name, id, ids)
		}
	}
	db := raw(t, dsn)
	if n := table(t, db, "SELECT COUNT(*) FROM Trees"); n[0] != "[{2 true}]" {
		t.Errorf("%s trees", n)
	}
	if n := table(t, db, "SELECT version FROM sigstack_schema"); len(n) != 3 {
		t.Errorf("versions %v", n)
	}

	// What was cut off is repeated.
	if _, err := db.Exec("DELETE FROM sigstack_schema"); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec("DROP TABLE sigstack_tuf"); err != nil {
		t.Fatal(err)
	}
	openDB(t, dsn, time.Now)
	if n := table(t, db, "SELECT COUNT(*) FROM sigstack_tuf"); n[0] != "[{0 true}]" {
		t.Errorf("%s", n)
	}

	// What a newer sigstack wrote is refused.
	if _, err := db.Exec("INSERT INTO sigstack_schema VALUES (99, 0)"); err != nil {
		t.Fatal(err)
	}
	if d, err := mysql.Open(t.Context(), dsn, time.Now, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "newer sigstack") {
		if err == nil {
			d.Close()
		}
		t.Errorf("a newer schema: %v", err)
	}
}

// TestSession asks connections of every kind what they were told.
func TestSession(t *testing.T) {
	d := openDB(t, harness.SharedMariaDB(t).NewDatabase(t), time.Now)
	for name, db := range d.Pools(t) {
		got := table(t, db, "SELECT @@tx_isolation, @@sql_mode, @@innodb_lock_wait_timeout, @@collation_connection, @@autocommit")
		if want := "[{READ-COMMITTED true} {STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION true} {1 true} {utf8mb4_bin true} {1 true}]"; got[0] != want {
			t.Errorf("%s: %s, want %s", name, got[0], want)
		}
	}
}

// TestSecrets looks for the password in every error and line of a log.
func TestSecrets(t *testing.T) {
	server := harness.StartMariaDB(t)
	dsn := server.NewDatabase(t)
	var seen strings.Builder
	var mu sync.Mutex
	logger := slog.New(slog.NewTextHandler(writer(func(b []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return seen.Write(b)
	}), &slog.HandlerOptions{Level: slog.LevelDebug}))
	secret := server.Password()
	errorOf := func(dsn string) string {
		d, err := mysql.Open(t.Context(), dsn, time.Now, logger)
		if err == nil {
			d.Close()
			t.Fatal("opened")
		}
		return err.Error()
	}
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	for name, bad := range map[string]string{
		"no slash":         "sigstack:" + secret + "@tcp(" + server.Addr + ")",
		"no name":          "sigstack:" + secret + "@tcp(" + server.Addr + ")/",
		"bad parameter":    dsn + "?interpolateParams=" + secret,
		"unknown TLS":      dsn + "?tls=" + secret,
		"bad escape":       dsn + "?x=%zz" + secret,
		"open brace":       "sigstack:" + secret + "@tcp(" + server.Addr + "/x",
		"nobody there":     "sigstack:" + secret + "@tcp(" + closed.Addr().String() + ")/x",
		"wrong user":       "somebody:" + secret + "@tcp(" + server.Addr + ")/x",
		"unknown database": server.DSN("unknown"),
	} {
		if text := errorOf(bad); strings.Contains(text, secret) {
			t.Errorf("%s: the error says the password: %s", name, text)
		}
	}
	d, err := mysql.Open(t.Context(), dsn, time.Now, logger)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	s := openLog(t, d, "ct")
	server.Kill()
	_, _, err = s.Append(t.Context(), []tlog.Leaf{{Value: []byte("x")}})
	if err == nil || strings.Contains(err.Error(), secret) {
		t.Errorf("appending to a server that is gone: %v", err)
	}
	mu.Lock()
	defer mu.Unlock()
	if strings.Contains(seen.String(), secret) {
		t.Errorf("the log says the password:\n%s", seen.String())
	}
}

type writer func(b []byte) (int, error)

func (w writer) Write(b []byte) (int, error) { return w(b) }
