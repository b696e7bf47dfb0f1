package mysql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"

	"github.com/sigstack/sigstack/tlog"
)

// Trillian is a database in which Trillian's own processes keep trees. They are read
// where they lie; nothing in it is changed.
type Trillian struct{ db *sql.DB }

// ConnectTrillian connects to the database that a DSN names.
func ConnectTrillian(dsn string, logger *slog.Logger) (*Trillian, error) {
	db, err := Connect(dsn, logger)
	if err != nil {
		return nil, err
	}
	return &Trillian{db}, nil
}

// Close ends the connections.
func (t *Trillian) Close() error { return t.db.Close() }

// Head returns the newest state of a tree.
func (t *Trillian) Head(ctx context.Context, treeID int64) (tlog.Head, error) {
	tip, err := readTip(ctx, t.db, treeID)
	if errors.Is(err, sql.ErrNoRows) {
		return tlog.Head{}, fmt.Errorf("the database has no tree with the ID %d, or it was never signed", treeID)
	}
	if err != nil {
		return tlog.Head{}, err
	}
	return tip.head, nil
}

// Records returns the records of a tree from begin on, in order: at most so many, and
// after the first no more than fit a batch.
func (t *Trillian) Records(ctx context.Context, treeID int64, begin uint64, most int) ([]tlog.Record, error) {
	return readRecords(ctx, t.db, treeID, begin, most)
}
