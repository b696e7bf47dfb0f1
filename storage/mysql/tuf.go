package mysql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// tufLease is had while the repository is published. A process that ends without
// giving it back keeps others, who may be starting, waiting for the three seconds.
var tufLease = terms{name: "tuf", time: 3 * time.Second, kept: 500 * time.Millisecond, turn: 100 * time.Millisecond}

// A TUF keeps the files of one TUF repository for all replicas. It satisfies
// trust.Place.
//
// A lease, a row with a time by the server's clock, has one replica publish at
// a time. That saves work; what keeps them apart is the version, which Replace
// compares and counts in the transaction that writes the files.
type TUF struct{ db *DB }

// TUF opens the files of the TUF repository.
func (d *DB) TUF(ctx context.Context) (*TUF, error) {
	_, err := d.write.ExecContext(ctx, "INSERT IGNORE INTO sigstack_lease (name, holder, until, version) VALUES (?, '', 0, 0)", tufLease.name)
	if err != nil {
		return nil, fmt.Errorf("opening the TUF repository: %w", err)
	}
	return &TUF{d}, nil
}

// Exclusive calls f while no other replica is in Exclusive.
func (t *TUF) Exclusive(ctx context.Context, f func(ctx context.Context) error) error {
	return t.db.exclusive(ctx, tufLease, f)
}

// Version grows with every Replace.
func (t *TUF) Version(ctx context.Context) (version int64, err error) {
	err = t.db.read.QueryRowContext(ctx, "SELECT version FROM sigstack_lease WHERE name = ?", tufLease.name).Scan(&version)
	return version, err
}

// Files returns all files, as one Replace left them: what one statement reads
// is of one moment.
func (t *TUF) Files(ctx context.Context) (files map[string][]byte, version int64, err error) {
	rows, err := t.db.write.QueryContext(ctx, `SELECT l.version, t.name, t.bytes
		FROM sigstack_lease l LEFT JOIN sigstack_tuf t ON TRUE WHERE l.name = ?`, tufLease.name)
	if err != nil {
		return nil, 0, err
	}
	defer rows.Close()
	files = map[string][]byte{}
	for rows.Next() {
		var name sql.NullString
		var bytes []byte
		if err := rows.Scan(&version, &name, &bytes); err != nil {
			return nil, 0, err
		}
		if name.Valid {
			files[name.String] = bytes
		}
	}
	return files, version, rows.Err()
}

// errReplaced: the lease of whoever replaces the files has ended, and somebody
// else has replaced them.
var errReplaced = errors.New("another replica has published in between")

// Replace makes these the files, all or none. After the commit they are what
// every replica serves.
func (t *TUF) Replace(ctx context.Context, files map[string][]byte, version int64) (int64, error) {
	tx, err := t.db.write.BeginTx(ctx, nil)
	if err != nil {
		return 0, err
	}
	defer tx.Rollback()
	res, err := tx.ExecContext(ctx, "UPDATE sigstack_lease SET version = version + 1 WHERE name = ? AND version = ?", tufLease.name, version)
	if err != nil {
		return 0, err
	}
	if n, err := res.RowsAffected(); err != nil {
		return 0, err
	} else if n != 1 {
		return 0, errReplaced
	}
	if _, err := tx.ExecContext(ctx, "DELETE FROM sigstack_tuf"); err != nil {
		return 0, err
	}
	for name, bytes := range files {
		if _, err := tx.ExecContext(ctx, "INSERT INTO sigstack_tuf (name, bytes) VALUES (?, ?)", name, bytes); err != nil {
			return 0, err
		}
	}
	if err := tx.Commit(); err != nil {
		return 0, fmt.Errorf("committing: %w", err)
	}
	return version + 1, nil
}
