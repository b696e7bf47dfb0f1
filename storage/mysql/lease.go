package mysql

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"
)

// terms are those of one lease, a row of sigstack_lease with a time by the
// server's clock: what it is called, for how long it is taken or kept, how often
// whoever has it keeps it for longer, and how often somebody who waits for it
// asks. The server's clock is read in whole seconds.
type terms struct {
	name             string
	time, kept, turn time.Duration
}

// errLease: the database did not answer in time, or somebody else has the lease.
var errLease = errors.New("the lease was lost")

// exclusive calls f while no other replica has the lease, which has a row. The
// context of f ends when the lease is lost.
func (d *DB) exclusive(ctx context.Context, t terms, f func(ctx context.Context) error) error {
	l := &lease{db: d, terms: t}
	turn := time.NewTicker(t.turn)
	defer turn.Stop()
	for {
		if ok, err := l.take(ctx); err != nil {
			return fmt.Errorf("taking the lease %q: %w", t.name, err)
		} else if ok {
			break
		}
		select {
		case <-turn.C:
		case <-ctx.Done():
			return fmt.Errorf("waiting for the lease %q, which another replica has: %w", t.name, ctx.Err())
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
		err = fmt.Errorf("%q: %w: %w", t.name, lost, err)
	}
	cancel(nil)
	<-kept
	l.giveBack(ctx)
	return err
}

// A lease is a row of sigstack_lease, as one process has it.
type lease struct {
	db     *DB
	terms  terms
	holder string    // who has it, another one each time
	end    time.Time // until when it is certainly had
}

// take takes the lease, where nobody has it, or keeps it.
func (l *lease) take(ctx context.Context) (bool, error) {
	began, holder := time.Now(), rand.Text()
	res, err := l.db.write.ExecContext(ctx, `UPDATE sigstack_lease SET holder = ?, until = UNIX_TIMESTAMP() + ?
		WHERE name = ? AND (until <= UNIX_TIMESTAMP() OR holder = ?)`, holder, int(l.terms.time/time.Second), l.terms.name, l.holder)
	if err != nil {
		return false, err
	}
	n, err := res.RowsAffected()
	if err != nil || n != 1 {
		return false, err
	}
	l.holder, l.end = holder, began.Add(l.terms.time-time.Second)
	return true, nil
}

// keep keeps the lease until ctx ends, or returns that it is lost.
func (l *lease) keep(ctx context.Context) error {
	tick := time.NewTicker(l.terms.kept)
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
	_, _ = l.db.write.ExecContext(ctx, "UPDATE sigstack_lease SET until = 0 WHERE name = ? AND holder = ?", l.terms.name, l.holder)
}
