package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"time"

	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/sigstack/sigstack/tlog"
	"github.com/sigstack/sigstack/tlog/failpoint"
)

// OpenReadOnly opens a log that is there, in a file that it does not change:
// what would write to it returns an error of SQLite. Nobody else may write to it
// meanwhile.
func OpenReadOnly(path string) (*Store, error) {
	d, err := openReadOnly(path, logSchema().version())
	if err != nil {
		return nil, fmt.Errorf("opening log store: %w", err)
	}
	s := &Store{db: d, path: path, now: time.Now}
	if err := s.prepareStatements(); err != nil {
		d.close()
		return nil, fmt.Errorf("opening log store %s: %w", path, err)
	}
	return s, nil
}

// OpenAuditReadOnly does the same with an audit log.
func OpenAuditReadOnly(path string) (*Audit, error) {
	d, err := openReadOnly(path, auditSchema(time.Now).version())
	if err != nil {
		return nil, fmt.Errorf("opening audit log: %w", err)
	}
	return newAudit(d, path)
}

func openReadOnly(path string, want int) (*db, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, err
	}
	params := []string{"mode=ro"}
	// Where a write-ahead log is left, SQLite has to make an index of it, a file
	// beside it. Where none is, it makes nothing if it may believe that nobody
	// writes.
	if _, err := os.Stat(path + "-wal"); errors.Is(err, fs.ErrNotExist) {
		params = append(params, "immutable=1")
	}
	d := &db{}
	var err error
	if d.write, err = connect(path, 1, params...); err != nil {
		return nil, err
	}
	if d.read, err = connect(path, maxReaders, params...); err != nil {
		d.write.Close()
		return nil, err
	}
	var version int
	err = d.read.QueryRow("PRAGMA user_version").Scan(&version)
	switch {
	case err == nil && version > want:
		err = fmt.Errorf("it has schema version %d; this sigstack reads version %d", version, want)
	case err == nil && version < want:
		err = fmt.Errorf("it has schema version %d; this sigstack reads version %d, to which a start of its server brings it", version, want)
	}
	if err != nil {
		d.close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return d, nil
}

// OpenAs opens a log with a tree ID, or makes it. An empty log takes the ID on,
// one with entries has to have it.
func OpenAs(path string, treeID int64, now func() time.Time) (*Store, error) {
	s, err := open(path, treeID, now)
	if err != nil || s.treeID == treeID {
		return s, err
	}
	res, err := s.db.write.Exec("UPDATE log SET tree_id = ? WHERE size = 0", treeID)
	var n int64
	if err == nil {
		n, err = res.RowsAffected()
	}
	if err == nil && n == 0 {
		err = fmt.Errorf("it is another log: it has entries and tree ID %d, not %d", s.treeID, treeID)
	}
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("opening log store %s: %w", path, err)
	}
	s.treeID = treeID
	return s, nil
}

// Records returns records from begin on, in order: at most so many, and after
// the first no more than fit a batch.
func (s *Store) Records(ctx context.Context, begin uint64, most int) ([]tlog.Record, error) {
	rows, err := s.db.read.QueryContext(ctx, "SELECT idx, time, value, extra, id FROM entry WHERE idx >= ? ORDER BY idx LIMIT ?", begin, most)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var records []tlog.Record
	for size := 0; rows.Next(); {
		var r tlog.Record
		var nanos int64
		var id []byte
		if err := rows.Scan(&r.Index, &nanos, &r.Value, &r.Extra, &id); err != nil {
			return nil, err
		}
		if len(id) != tlog.HashSize {
			return nil, fmt.Errorf("entry %d has an identity of %d bytes", r.Index, len(id))
		}
		r.Time, r.ID = time.Unix(0, nanos).UTC(), tlog.Hash(id)
		if size += len(r.Value) + len(r.Extra); size > tlog.MaxBatchBytes && len(records) > 0 {
			return records, nil
		}
		records = append(records, r)
	}
	return records, rows.Err()
}

// Import adds records that another Store has, as they are, in one transaction.
// They must be the next ones. Search keys are not among them. Like Append it is
// called by one goroutine at a time.
func (s *Store) Import(ctx context.Context, records []tlog.Record) (tlog.Head, error) {
	if err := ctx.Err(); err != nil {
		return tlog.Head{}, err
	}
	t := s.tip
	s.tip = nil // until the commit
	if t == nil {
		var err error
		if t, err = s.readTip(); err != nil {
			return tlog.Head{}, fmt.Errorf("reading the right edge: %w", err)
		}
	}
	if err := t.head.Next(records); err != nil || len(records) == 0 {
		s.tip = t
		return t.head, err
	}
	tx, err := s.db.write.Begin()
	if err != nil {
		return tlog.Head{}, err
	}
	defer tx.Rollback()
	if err := failpoint.Hit(failpoint.Begin, s.path); err != nil {
		return tlog.Head{}, err
	}
	if err := s.importAll(tx, t, records); err != nil {
		return tlog.Head{}, err
	}
	if err := failpoint.Hit(failpoint.Commit, s.path); err != nil {
		return tlog.Head{}, err
	}
	if err := tx.Commit(); err != nil {
		return tlog.Head{}, fmt.Errorf("committing: %w", err)
	}
	var bytes int64
	for _, r := range records {
		bytes += rowBytes + int64(len(r.Value)+len(r.Extra))
	}
	s.db.wrote(bytes)
	if err := failpoint.Hit(failpoint.Committed, s.path); err != nil {
		return tlog.Head{}, err
	}
	s.tip = t
	return t.head, nil
}

// importAll writes records, and moves the tip over them.
func (s *Store) importAll(tx *sql.Tx, t *tip, records []tlog.Record) error {
	insert, putTile := tx.Stmt(s.insert), tx.Stmt(s.putTile)
	before := t.size()
	for _, r := range records {
		hash := tlog.Hash(rfc6962.DefaultHasher.HashLeaf(r.Value))
		var other []byte
		if r.ID != hash {
			other = hash[:]
		}
		value := r.Value
		if value == nil {
			value = []byte{} // not NULL
		}
		res, err := insert.Exec(r.Index, r.ID[:], other, r.Time.UnixNano(), value, r.Extra)
		if err != nil {
			return fmt.Errorf("inserting entry %d: %w", r.Index, err)
		}
		if n, err := res.RowsAffected(); err != nil {
			return err
		} else if n == 0 {
			return fmt.Errorf("entry %d: its identity is in the log already", r.Index)
		}
		if err := t.push(hash, func(level int, index uint64, hashes []byte) error {
			_, err := putTile.Exec(tilePos(level, index), hashes)
			return err
		}); err != nil {
			return fmt.Errorf("inserting tile: %w", err)
		}
	}
	if err := failpoint.Hit(failpoint.Insert, s.path); err != nil {
		return err
	}
	return s.putHead(tx, putTile, t, before, records[len(records)-1].Time.UnixNano())
}

// Attestations returns all attestations in the order of their hashes.
func (s *Store) Attestations(ctx context.Context) iter.Seq2[tlog.Attestation, error] {
	return func(yield func(tlog.Attestation, error) bool) {
		rows, err := s.db.read.QueryContext(ctx, "SELECT hash, bytes FROM attestation ORDER BY hash")
		if err != nil {
			yield(tlog.Attestation{}, err)
			return
		}
		defer rows.Close()
		for rows.Next() {
			var a tlog.Attestation
			var hash []byte
			err := rows.Scan(&hash, &a.Bytes)
			if err == nil && len(hash) != tlog.HashSize {
				err = fmt.Errorf("attestation with a hash of %d bytes", len(hash))
			}
			if err != nil {
				yield(a, err)
				return
			}
			a.Hash = tlog.Hash(hash)
			if !yield(a, nil) {
				return
			}
		}
		if err := rows.Err(); err != nil {
			yield(tlog.Attestation{}, err)
		}
	}
}

// ImportAttestations adds attestations that another Store has, in one transaction.
// One that is there already stays.
func (s *Store) ImportAttestations(ctx context.Context, attestations []tlog.Attestation) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	tx, err := s.db.write.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback()
	var bytes int64
	for _, a := range attestations {
		if _, err := tx.Stmt(s.attest).Exec(a.Hash[:], a.Bytes); err != nil {
			return fmt.Errorf("inserting attestations: %w", err)
		}
		bytes += rowBytes + int64(len(a.Bytes))
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	s.db.wrote(bytes)
	return nil
}
