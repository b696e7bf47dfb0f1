package harness

import (
	"database/sql"
	"strings"
	"testing"
)

// TestMariaDB stops, kills and restarts a database server; it must keep its
// address and its data, and wait for the disk at every commit.
func TestMariaDB(t *testing.T) {
	t.Parallel()
	m := StartMariaDB(t)
	dsn := m.NewDatabase(t)
	if other := m.NewDatabase(t); other == dsn {
		t.Fatalf("%s twice", strings.TrimPrefix(dsn, mariaUser+":"+mariaPassword))
	}
	db, err := sql.Open("mysql", dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var flush int
	if err := db.QueryRow("SELECT @@innodb_flush_log_at_trx_commit").Scan(&flush); err != nil || flush != 1 {
		t.Fatalf("innodb_flush_log_at_trx_commit is %d, %v", flush, err)
	}
	if _, err := db.Exec("CREATE TABLE t (n INTEGER)"); err != nil {
		t.Fatal(err)
	}
	for n, end := range []func(){func() { m.Stop(t) }, m.Kill, func() { m.Kill(); m.Kill() }} {
		if _, err := db.Exec("INSERT INTO t VALUES (?)", n); err != nil {
			t.Fatal(err)
		}
		end()
		if err := db.Ping(); err == nil {
			t.Fatal("a server that has ended answers")
		}
		m.Restart(t)
		var rows int
		if err := db.QueryRow("SELECT COUNT(*) FROM t").Scan(&rows); err != nil || rows != n+1 {
			t.Fatalf("%d rows after a restart, want %d (%v)", rows, n+1, err)
		}
	}
}
