package mysql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// A Cursor keeps how far a sink of events has come, for all replicas. It satisfies
// events.Cursor.
//
// It is the version in the row of a lease, which has one replica deliver at a
// time. What keeps them apart is that Move compares the version.
type Cursor struct {
	db    *DB
	terms terms
}

// Cursor returns the cursor of the sink with a name. Where its replica ends
// without giving the lease back, another one goes on after five seconds.
func (d *DB) Cursor(sink string) *Cursor {
	return &Cursor{d, terms{name: "events/" + sink, time: 5 * time.Second, kept: time.Second, turn: time.Second}}
}

// String says what the cursor is, to whoever has to remove it.
func (c *Cursor) String() string {
	return fmt.Sprintf("the row with the name %q of the table sigstack_lease", c.terms.name)
}

// Exclusive calls f while no other replica is in Exclusive. The cursor is there.
func (c *Cursor) Exclusive(ctx context.Context, f func(ctx context.Context) error) error {
	return c.db.exclusive(ctx, c.terms, f)
}

// Load returns the index of the next entry to deliver. It is false where there
// is no cursor yet.
func (c *Cursor) Load(ctx context.Context) (next uint64, ok bool, err error) {
	err = c.db.write.QueryRowContext(ctx, "SELECT version FROM sigstack_lease WHERE name = ?", c.terms.name).Scan(&next)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, false, nil
	}
	return next, err == nil, err
}

// Create makes the cursor, unless another replica just has.
func (c *Cursor) Create(ctx context.Context, next uint64) error {
	_, err := c.db.write.ExecContext(ctx, "INSERT IGNORE INTO sigstack_lease (name, holder, until, version) VALUES (?, '', 0, ?)", c.terms.name, next)
	return err
}

// errMoved: the lease of whoever moves the cursor has ended, and somebody else
// has moved it.
var errMoved = errors.New("another replica has moved the cursor in between")

// Move moves the cursor from where it is.
func (c *Cursor) Move(ctx context.Context, from, to uint64) error {
	res, err := c.db.write.ExecContext(ctx, "UPDATE sigstack_lease SET version = ? WHERE name = ? AND version = ?", to, c.terms.name, from)
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil {
		return err
	} else if n != 1 {
		return errMoved
	}
	return nil
}
