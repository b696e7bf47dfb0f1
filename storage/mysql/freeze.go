package mysql

import (
	"context"
	"fmt"
	"math"
)

// frozenAt is the timestamp of the last head of a tree that is frozen. There is
// none after it, and a sequencer, whoever's it is, makes no head that is not later
// than the one before: nothing can be added any more.
const frozenAt = math.MaxInt64

// Freeze ends the log. A batch that somebody else appends at the same time comes
// before the last head or fails: two heads of a tree never share a revision. The
// state of the tree is what Trillian's own processes go by.
func (s *Store) Freeze(ctx context.Context) error {
	s.tip = nil
	for conflicts := 1; ; conflicts++ {
		err := s.freeze(ctx)
		if err == nil {
			return nil
		}
		if !isConflict(err) || conflicts == maxConflicts {
			return err
		}
	}
}

func (s *Store) freeze(ctx context.Context) error {
	tx, err := s.db.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	// Whoever appends holds this row for reading, as the parent of theirs.
	if _, err := tx.ExecContext(ctx, "UPDATE Trees SET TreeState = 'FROZEN' WHERE TreeId = ?", s.tree.TreeId); err != nil {
		return fmt.Errorf("writing the state of the tree: %w", err)
	}
	if _, err := tx.ExecContext(ctx, `INSERT INTO TreeHead (TreeId, TreeHeadTimestamp, TreeSize, RootHash, RootSignature, TreeRevision)
		SELECT * FROM (SELECT TreeId, ? AS last, TreeSize, RootHash, RootSignature, TreeRevision + 1 FROM TreeHead WHERE TreeId = ? ORDER BY TreeHeadTimestamp DESC LIMIT 1) h
		WHERE NOT EXISTS (SELECT 1 FROM TreeHead WHERE TreeId = ? AND TreeHeadTimestamp = ?)`, int64(frozenAt), s.tree.TreeId, s.tree.TreeId, int64(frozenAt)); err != nil {
		return fmt.Errorf("writing the last tree head: %w", err)
	}
	return tx.Commit()
}
