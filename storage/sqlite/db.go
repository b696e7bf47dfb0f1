package sqlite

import (
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	_ "modernc.org/sqlite" // the driver
)

// maxReaders bounds the connections that read beside the one that writes.
const maxReaders = 8

// A db is an open database file: one connection that writes, and readers that
// never wait for it (WAL).
type db struct {
	write, read *sql.DB
	wal         *walCopier // nil where nothing is written
}

// openDB opens a database file, or makes it, with the given schema. Every
// commit is synced to the disk before it returns (synchronous=FULL).
func openDB(path string, s schema) (*db, error) {
	// SQLite would make a missing file readable by everybody.
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	f.Close()
	if err := syncDir(filepath.Dir(path)); err != nil { // SQLite syncs what is in the file, not its name
		return nil, err
	}
	d := &db{}
	if d.write, err = connect(path, 1, "_txlock=immediate", "_pragma=journal_mode(WAL)", "_pragma=synchronous(FULL)", "_pragma=wal_autocheckpoint(0)"); err != nil {
		return nil, err
	}
	if d.read, err = connect(path, maxReaders, "_pragma=query_only(true)"); err != nil {
		d.close()
		return nil, err
	}
	if err := d.migrate(s); err != nil {
		d.close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if d.wal, err = newWALCopier(path); err != nil {
		d.close()
		return nil, err
	}
	// The write-ahead log exists now, until the last connection is closed. SQLite
	// syncs its name too, but takes no notice of a failure.
	if err := syncDir(filepath.Dir(path)); err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

func connect(path string, conns int, params ...string) (*sql.DB, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	params = append(params, "_pragma=busy_timeout(5000)", "_pragma=cache_size(-16384)")
	dsn := url.URL{Scheme: "file", OmitHost: true, Path: abs, RawQuery: strings.Join(params, "&")}
	c, err := sql.Open("sqlite", dsn.String())
	if err != nil {
		return nil, err
	}
	c.SetMaxOpenConns(conns)
	c.SetMaxIdleConns(conns)
	return c, nil
}

// migrate brings the database to the version of the schema, in one transaction.
func (d *db) migrate(s schema) error {
	tx, err := d.write.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback()
	var version int
	if err := tx.QueryRow("PRAGMA user_version").Scan(&version); err != nil {
		return err
	}
	switch {
	case version == s.version():
		return nil
	case version > s.version():
		return fmt.Errorf("schema version %d was written by a newer sigstack; this one knows version %d", version, s.version())
	}
	for _, step := range s[version:] {
		if err := step(tx, version); err != nil {
			return err
		}
	}
	if _, err := tx.Exec("PRAGMA user_version = " + strconv.Itoa(s.version())); err != nil {
		return err
	}
	return tx.Commit()
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// wrote is called after each commit of the connection that writes, with about how
// many bytes it wrote: rows, and the pages of indices that they dirty.
func (d *db) wrote(bytes int64) { d.wal.wrote(d.write, bytes) }

func (d *db) close() error {
	var errs []error
	if d.wal != nil {
		errs = append(errs, d.wal.close())
		d.wal = nil
	}
	if d.read != nil {
		errs = append(errs, d.read.Close())
	}
	return errors.Join(append(errs, d.write.Close())...)
}
