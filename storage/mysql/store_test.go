package mysql_test

import (
	"errors"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/sigstack/sigstack/storage/mysql"
	"github.com/sigstack/sigstack/test/harness"
	"github.com/sigstack/sigstack/tlog/tlogtest"
)

func TestMain(m *testing.M) { os.Exit(harness.MainMariaDB(m)) }

// openDB opens a database that is closed when the test ends.
func openDB(t testing.TB, dsn string, now func() time.Time) *mysql.DB {
	t.Helper()
	d, err := mysql.Open(t.Context(), dsn, now, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// slow asks for patience with a server on a machine that has more to do. Tests
// of what takes how long do without.
func slow(dsn string) string { return dsn + "?timeout=60s&readTimeout=60s&writeTimeout=60s" }

// openLog opens a log of a database.
func openLog(t testing.TB, d *mysql.DB, name string) *mysql.Store {
	t.Helper()
	s, err := d.Log(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// closing is a Store that closes its database.
type closing struct {
	*mysql.Store
	db *mysql.DB
}

func (c closing) Close() error { return errors.Join(c.Store.Close(), c.db.Close()) }

func TestConformance(t *testing.T) {
	dsn := slow(harness.SharedMariaDB(t).NewDatabase(t))
	tlogtest.Run(t, func(t testing.TB, name string, now func() time.Time) tlogtest.Store {
		d := openDB(t, dsn, now)
		return closing{openLog(t, d, name), d}
	})
}
