package mysql

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

const (
	// leaseTime is for how long a lease is taken or kept: a process that ends
	// without giving it back keeps others, who may be starting, waiting that long.
	// The server's clock is read in whole seconds.
	leaseTime = 3 * time.Second

	// leaseKept is how often whoever has a lease keeps it for longer, and
	// leaseTurn how often somebody who waits for one asks for it.
	leaseKept = 500 * time.Millisecond
	leaseTurn = 100 * time.Millisecond

	tufLease = "tuf"
)

// errLease: the database did not answer in time, or somebody else has the lease.
var errLease = errors.New("the lease of the TUF repository was lost")

// A TUF keeps the files of one TUF repository for all replicas. It satisfies
// trust.Place.
//
// A lease, a row with a time by the server's clock, has one replica publish at
// a time. That saves work; what keeps them apart is the version, which Replace
// compares and counts in the transaction that writes the files.
type TUF struct{ db *DB }

// TUF opens the files of the TUF repository.
func (d *DB) TUF(ctx context.Context) (*TUF, error) {
	_, err := d.write.ExecContext(ctx, "INSERT IGNORE INTO sigstack_lease (name, holder, until, version) VALUES (?, '', 0, 0)", tufLease)
	if err != nil {
		return nil, fmt.Errorf("opening the TUF repository: %w", err)
	}
	return &TUF{d}, nil
}

// Exclusive calls f while no other replica is in Exclusive.
func (t *TUF) Exclusive(ctx context.Context, f func(ctx context.Context) error) error {
	l := &lease{db: t.db}
	turn := time.NewTicker(leaseTurn)
	defer turn.Stop()
	for {
		if ok, err := l.take(ctx); err != nil {
			return fmt.Errorf("taking the lease of the TUF repository: %w", err)
		} else if ok {
			break
		}
		select {
		case <-turn.C:
		case <-ctx.Done():
			return fmt.Errorf("waiting for the lease of the TUF repository, which another replica has: %w", ctx.Err())
		}
	}
	had, cancel := context.WithCancelCause(ctx)
	kept := make(chan struct{})
	go func() {
		defer close(kept)
		cancel(l.keep(had))
	}()
	err := f(had)
	if lost := context.Cause(had); err != nil && errors.Is(lost, errLease) {
		err = fmt.Errorf("%w: %w", lost, err)
	}
	cancel(nil)
	<-kept
	l.giveBack(ctx)
	return err
}

// A lease is the row of sigstack_lease, as one process has it.
type lease struct {
	db     *DB
	holder string    // who has it, another one each time
	end    time.Time // until when it is certainly had
}

// take takes the lease, where nobody has it, or keeps it.
func (l *lease) take(ctx context.Context) (bool, error) {
	began, holder := time.Now(), rand.Text()
	res, err := l.db.write.ExecContext(ctx, `UPDATE sigstack_lease SET holder = ?, until = UNIX_TIMESTAMP() + ?
		WHERE name = ? AND (until <= UNIX_TIMESTAMP() OR holder = ?)`, holder, int(leaseTime/time.Second), tufLease, l.holder)
	if err != nil {
		return false, err
	}
	n, err := res.RowsAffected()
	if err != nil || n != 1 {
		return false, err
	}
	l.holder, l.end = holder, began.Add(leaseTime-time.Second)
	return true, nil
}

// keep keeps the lease until ctx ends, or returns that it is lost.
func (l *lease) keep(ctx context.Context) error {
	tick := time.NewTicker(leaseKept)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		until, cancel := context.WithDeadline(ctx, l.end)
		ok, err := l.take(until)
		cancel()
		if ctx.Err() == nil && (err == nil && !ok || !time.Now().Before(l.end)) {
			return errLease
		}
	}
}

// giveBack ends the lease. Where that fails it ends by itself.
func (l *lease) giveBack(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), ioTimeout)
	defer cancel()
	_, _ = l.db.write.ExecContext(ctx, "UPDATE sigstack_lease SET until = 0 WHERE name = ? AND holder = ?", tufLease, l.holder)
}

// Version grows with every Replace.
func (t *TUF) Version(ctx context.Context) (version int64, err error) {
	err = t.db.read.QueryRowContext(ctx, "SELECT version FROM sigstack_lease WHERE name = ?", tufLease).Scan(&version)
	return version, err
}

// Files returns all files, as one Replace left them: what one statement reads
// is of one moment.
func (t *TUF) Files(ctx context.Context) (files map[string][]byte, version int64, err error) {
	rows, err := t.db.write.QueryContext(ctx, `SELECT l.version, t.name, t.bytes
		FROM sigstack_lease l LEFT JOIN sigstack_tuf t ON TRUE WHERE l.name = ?`, tufLease)
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
	res, err := tx.ExecContext(ctx, "UPDATE sigstack_lease SET version = version + 1 WHERE name = ? AND version = ?", tufLease, version)
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
