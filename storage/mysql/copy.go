package mysql

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"time"

	"github.com/google/trillian/log"
	"github.com/google/trillian/quota"
	"github.com/google/trillian/trees"

	"github.com/sigstack/sigstack/tlog"
)

// copying stands for the key of a log into which a copy is under way: no replica
// has it, so none serves the log.
var copying [32]byte

const (
	// aloneLimit is how long connections of a process that has just ended may
	// take to go away, aloneTurn how often they are looked for.
	aloneLimit = 5 * time.Second
	aloneTurn  = 100 * time.Millisecond
)

// Alone returns an error while anybody else is connected to the database that a
// DSN names, as far as its user can see: on this server, and without the right
// PROCESS by the same user. It is asked before the database is opened.
func Alone(ctx context.Context, dsn string, logger *slog.Logger) error {
	c, err := newConnector(dsn, ioTimeout, logger)
	if err != nil {
		return fmt.Errorf("looking for others in the database: %w", err)
	}
	pool := connect(c, 1)
	defer pool.Close()
	ctx, cancel := context.WithTimeout(ctx, aloneLimit)
	defer cancel()
	turn := time.NewTicker(aloneTurn)
	defer turn.Stop()
	others := 0
	for {
		err := pool.QueryRowContext(ctx, "SELECT COUNT(*) FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()").Scan(&others)
		if err != nil && ctx.Err() == nil {
			return fmt.Errorf("looking for others in the database: %w", err)
		}
		if err == nil && others == 0 {
			return nil
		}
		select {
		case <-turn.C:
		case <-ctx.Done():
			return fmt.Errorf("%d other connections use the database; stop every replica first", others)
		}
	}
}

// claimed reads what the database knows of a log: its tree, and the key that
// signs it, nil where that is not known yet.
func (d *DB) claimed(ctx context.Context, q querier, name string) (id int64, key []byte, err error) {
	err = q.QueryRowContext(ctx, "SELECT tree_id, key_id FROM sigstack_log WHERE name = ?", name).Scan(&id, &key)
	return id, key, err
}

// Existing opens a log that is there, and that the key with an ID signs.
func (d *DB) Existing(ctx context.Context, name string, keyID [32]byte) (*Store, error) {
	id, key, err := d.claimed(ctx, d.write, name)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		err = errors.New("the database does not have it")
	case err == nil && bytes.Equal(key, copying[:]):
		err = errors.New("a copy into it is not complete")
	case err == nil && key != nil && !bytes.Equal(key, keyID[:]):
		err = fmt.Errorf("it is signed by the key with ID %x, not by %x", key, keyID)
	}
	if err != nil {
		return nil, fmt.Errorf("opening log %q: %w", name, err)
	}
	return d.store(ctx, name, id)
}

// OpenAs opens a log with a tree ID that the key with an ID is to sign, or makes
// it. An empty log takes the ID on, one with entries has to have it. A log that
// was made is served by nobody before EndCopy.
func (d *DB) OpenAs(ctx context.Context, name string, treeID int64, keyID [32]byte) (*Store, error) {
	err := d.locked(ctx, func(c *sql.Conn) error {
		id, key, err := d.claimed(ctx, c, name)
		found := !errors.Is(err, sql.ErrNoRows)
		if found && err != nil {
			return err
		}
		if found && key != nil && !bytes.Equal(key, copying[:]) && !bytes.Equal(key, keyID[:]) {
			return fmt.Errorf("it is signed by the key with ID %x, not by %x", key, keyID)
		}
		if found && id == treeID {
			return nil
		}
		if found {
			old, err := d.store(ctx, name, id)
			if err != nil {
				return err
			}
			if head, err := old.Head(ctx); err != nil {
				return err
			} else if head.Size > 0 {
				return fmt.Errorf("it is another log: it has entries and tree ID %d, not %d", id, treeID)
			}
		}
		if err := d.createTreeAs(ctx, name, treeID); err != nil {
			return err
		}
		if found {
			_, err = c.ExecContext(ctx, "UPDATE sigstack_log SET tree_id = ?, key_id = ? WHERE name = ?", treeID, copying[:], name)
		} else {
			_, err = c.ExecContext(ctx, "INSERT INTO sigstack_log (name, tree_id, created, key_id) VALUES (?, ?, ?, ?)", name, treeID, d.now().UnixNano(), copying[:])
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("opening log %q: %w", name, err)
	}
	return d.store(ctx, name, treeID)
}

// createTreeAs makes an empty tree with an ID. Trillian chooses IDs itself: the
// rows of the tree that it makes are copied to the ID, so that they are what
// Trillian wants them to be. An empty tree with the ID, of a process that ended in
// between, is made anew.
func (d *DB) createTreeAs(ctx context.Context, name string, treeID int64) error {
	tree, err := d.newTree(ctx, name)
	if err != nil {
		return err
	}
	tx, err := d.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	const columns = "TreeState, TreeType, HashStrategy, HashAlgorithm, SignatureAlgorithm, DisplayName, Description, CreateTimeMillis, UpdateTimeMillis, MaxRootDurationMillis, PrivateKey, PublicKey, Deleted, DeleteTimeMillis"
	const controls = "SigningEnabled, SequencingEnabled, SequenceIntervalSeconds"
	for _, statement := range []struct {
		text string
		args []any
	}{
		{"DELETE FROM Trees WHERE TreeId = ? AND NOT EXISTS (SELECT 1 FROM SequencedLeafData s WHERE s.TreeId = ?)", []any{treeID, treeID}},
		{"INSERT INTO Trees (TreeId, " + columns + ") SELECT ?, " + columns + " FROM Trees WHERE TreeId = ?", []any{treeID, tree.TreeId}},
		{"INSERT INTO TreeControl (TreeId, " + controls + ") SELECT ?, " + controls + " FROM TreeControl WHERE TreeId = ?", []any{treeID, tree.TreeId}},
		{"DELETE FROM Trees WHERE TreeId = ?", []any{tree.TreeId}},
	} {
		if _, err := tx.ExecContext(ctx, statement.text, statement.args...); err != nil {
			return fmt.Errorf("making tree %d: %w", treeID, err)
		}
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("making tree %d: %w", treeID, err)
	}
	tree.TreeId = treeID
	return d.initTree(ctx, tree)
}

// BeginCopy keeps replicas from serving a log, until EndCopy.
func (d *DB) BeginCopy(ctx context.Context, name string) error {
	if _, err := d.write.ExecContext(ctx, "UPDATE sigstack_log SET key_id = ? WHERE name = ?", copying[:], name); err != nil {
		return fmt.Errorf("keeping replicas from log %q: %w", name, err)
	}
	return nil
}

// EndCopy says which key signs a log, whose copy is complete.
func (d *DB) EndCopy(ctx context.Context, name string, keyID [32]byte) error {
	if _, err := d.write.ExecContext(ctx, "UPDATE sigstack_log SET key_id = ? WHERE name = ? AND (key_id = ? OR key_id IS NULL)", keyID[:], name, copying[:]); err != nil {
		return fmt.Errorf("claiming log %q: %w", name, err)
	}
	return nil
}

// Records returns records from begin on, in order: at most so many, and after
// the first no more than fit a batch.
func (s *Store) Records(ctx context.Context, begin uint64, most int) ([]tlog.Record, error) {
	return readRecords(ctx, s.db.read, s.tree.TreeId, begin, most)
}

func readRecords(ctx context.Context, db *sql.DB, treeID int64, begin uint64, most int) ([]tlog.Record, error) {
	rows, err := db.QueryContext(ctx, `SELECT s.SequenceNumber, s.IntegrateTimestampNanos, l.LeafValue, l.ExtraData, l.LeafIdentityHash
		FROM SequencedLeafData s FORCE INDEX (PRIMARY) STRAIGHT_JOIN LeafData l FORCE INDEX (PRIMARY) ON l.TreeId = s.TreeId AND l.LeafIdentityHash = s.LeafIdentityHash
		WHERE s.TreeId = ? AND s.SequenceNumber >= ? ORDER BY s.SequenceNumber LIMIT ?`, treeID, begin, most)
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

// Import adds records that another Store has, as they are, in two
// transactions. They must be the next ones, and nobody else may append
// meanwhile. Search keys are not among them. Where a process has ended between
// the two transactions, the same Import, or a shorter one, goes on.
func (s *Store) Import(ctx context.Context, records []tlog.Record) (tlog.Head, error) {
	s.tip = nil
	t, err := s.readTip(ctx, s.db.write)
	if err != nil {
		return tlog.Head{}, err
	}
	if err := t.head.Next(records); err != nil || len(records) == 0 {
		return t.head, err
	}
	leaves := make([]tlog.Leaf, len(records))
	byID := make(map[tlog.Hash]tlog.Record, len(records))
	for i, r := range records {
		if _, ok := byID[r.ID]; ok {
			return tlog.Head{}, fmt.Errorf("entry %d: its identity is in the batch already", r.Index)
		}
		leaves[i], byID[r.ID] = tlog.Leaf{Value: r.Value, Extra: r.Extra, ID: r.ID}, r
	}
	b := newBatch(leaves, s.db.now())
	if err := s.find(ctx, b); err != nil {
		return tlog.Head{}, err
	}
	for _, r := range records {
		if b.found[r.ID].sequenced {
			return tlog.Head{}, fmt.Errorf("entry %d: its identity is in the log already", r.Index)
		}
		b.queue = max(b.queue, b.found[r.ID].queued+1) // behind what was queued before
	}
	if missing := b.missing(); len(missing) > 0 {
		if err := s.enqueue(ctx, b, missing); err != nil {
			return tlog.Head{}, err
		}
	}
	q := &sequencer{LogStorage: s.db.writer, size: t.head.Size, records: byID}
	root := time.Unix(0, max(b.queue+int64(len(records)), t.root+1))
	if _, err := log.IntegrateBatch(trees.NewContext(ctx, s.tree), s.tree, len(records), 0, 0, stopped{root}, q, quota.Noop()); err != nil {
		return tlog.Head{}, err
	}
	size := t.head.Size + uint64(len(records))
	if t, err = s.readTip(ctx, s.db.write); err != nil {
		return tlog.Head{}, err
	}
	if t.head.Size != size {
		return tlog.Head{}, fmt.Errorf("the tree has size %d after an import, want %d", t.head.Size, size)
	}
	return t.head, nil
}

// attestationPage is how many attestations are read at once.
const attestationPage = 16

// Attestations returns all attestations in the order of their hashes.
func (s *Store) Attestations(ctx context.Context) iter.Seq2[tlog.Attestation, error] {
	return func(yield func(tlog.Attestation, error) bool) {
		for after := []byte{}; ; {
			page, err := s.attestations(ctx, after, attestationPage)
			if err != nil {
				yield(tlog.Attestation{}, err)
				return
			}
			if len(page) == 0 {
				return
			}
			for _, a := range page {
				if !yield(a, nil) {
					return
				}
			}
			after = page[len(page)-1].Hash[:]
		}
	}
}

// attestations returns the attestations after a hash, at most so many.
func (s *Store) attestations(ctx context.Context, after []byte, most int) ([]tlog.Attestation, error) {
	rows, err := s.db.read.QueryContext(ctx, "SELECT hash, bytes FROM sigstack_attestation FORCE INDEX (PRIMARY) WHERE tree_id = ? AND hash > ? ORDER BY hash LIMIT ?",
		s.tree.TreeId, after, most)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var page []tlog.Attestation
	for rows.Next() {
		var a tlog.Attestation
		var hash []byte
		if err := rows.Scan(&hash, &a.Bytes); err != nil {
			return nil, err
		}
		if len(hash) != tlog.HashSize {
			return nil, fmt.Errorf("attestation with a hash of %d bytes", len(hash))
		}
		a.Hash = tlog.Hash(hash)
		page = append(page, a)
	}
	return page, rows.Err()
}

// ImportAttestations adds attestations that another Store has, which fit a batch,
// by one statement. One that is there already stays.
func (s *Store) ImportAttestations(ctx context.Context, attestations []tlog.Attestation) error {
	if len(attestations) == 0 {
		return nil
	}
	var r request
	s.attest(&r, attestations)
	if err := s.db.transact(ctx, []request{r}); err != nil {
		return fmt.Errorf("inserting attestations: %w", err)
	}
	return nil
}
