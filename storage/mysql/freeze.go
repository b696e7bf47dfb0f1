package mysql

import (
	"context"
	"errors"
	"fmt"
	"math"
)

// frozenAt is the timestamp of the last head of a tree that is frozen. There is
// none after it, and a sequencer, whoever's it is, makes no head that is not later
// than the one before: nothing can be added any more.
const frozenAt = math.MaxInt64

// frozenState is what Trillian's own processes go by.
const frozenState = "FROZEN"

// errQueued: leaves are in the queue, which belong into the tree.
var errQueued = errors.New("leaves are in the queue")

// Freeze ends the log. What is queued is integrated: its search keys are there. A
// batch that somebody else appends at the same time comes before the last head or
// fails: two heads of a tree never share a revision.
func (s *Store) Freeze(ctx context.Context) error {
	s.tip = nil
	for conflicts := 1; ; conflicts++ {
		trying, tried := newAttempt(ctx)
		err := s.freeze(trying)
		if err == nil {
			// What cannot be placed now is found all the same, and placed later.
			_ = s.db.place(ctx, s.tree.TreeId)
			return nil
		}
		if errors.Is(err, errQueued) {
			if failed := s.empty(trying); failed != nil {
				err = failed
			}
		}
		again := errors.Is(err, errQueued) || isConflict(err) || tried.conflict.Load() || errors.Is(err, errConflict)
		if !again || conflicts == maxConflicts {
			return err
		}
	}
}

// empty integrates what is in the queue.
func (s *Store) empty(ctx context.Context) error {
	t, err := s.readTip(ctx, s.db.write)
	if err != nil {
		return err
	}
	if err := s.db.nameQueued(ctx); err != nil {
		return err
	}
	var last int64
	if err := s.db.write.QueryRowContext(ctx, "SELECT COALESCE(MAX(QueueTimestampNanos), 0) FROM Unsequenced WHERE TreeId = ?", s.tree.TreeId).Scan(&last); err != nil {
		return fmt.Errorf("reading the queue: %w", err)
	}
	_, err = s.integrate(ctx, newBatch(nil, s.db.now()), t, s.db.now(), last, fresh{})
	return err
}

func (s *Store) freeze(ctx context.Context) error {
	tx, err := s.db.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	// Whoever appends holds this row for reading, as the parent of theirs.
	if _, err := tx.ExecContext(ctx, "UPDATE Trees SET TreeState = ? WHERE TreeId = ?", frozenState, s.tree.TreeId); err != nil {
		return fmt.Errorf("writing the state of the tree: %w", err)
	}
	var queued bool
	if err := tx.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM Unsequenced WHERE TreeId = ?)", s.tree.TreeId).Scan(&queued); err != nil {
		return fmt.Errorf("reading the queue: %w", err)
	}
	if queued {
		return errQueued
	}
	if _, err := tx.ExecContext(ctx, `INSERT INTO TreeHead (TreeId, TreeHeadTimestamp, TreeSize, RootHash, RootSignature, TreeRevision)
		SELECT * FROM (SELECT TreeId, ? AS last, TreeSize, RootHash, RootSignature, TreeRevision + 1 FROM TreeHead WHERE TreeId = ? ORDER BY TreeHeadTimestamp DESC LIMIT 1) h
		WHERE NOT EXISTS (SELECT 1 FROM TreeHead WHERE TreeId = ? AND TreeHeadTimestamp = ?)`, int64(frozenAt), s.tree.TreeId, s.tree.TreeId, int64(frozenAt)); err != nil {
		return fmt.Errorf("writing the last tree head: %w", err)
	}
	return tx.Commit()
}
