// Package sqlite keeps logs and audit rows in SQLite files: the storage that
// needs nothing installed.
//
// A [Store] is one log in one file, opened in WAL mode with synchronous=FULL:
// a batch of leaves is one transaction (entries, the tiles that they touch,
// search keys and the head), and its commit is synced to the disk before
// Append returns. One connection writes; readers have their own and do not
// wait for it.
//
// The Store computes the tree from the leaves that it writes, with the compact
// ranges of transparency-dev/merkle. The Log above it computes the same tree
// in another way and compares.
package sqlite

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/sigstack/sigstack/tlog"
	"github.com/sigstack/sigstack/tlog/failpoint"
)

// tileWidth is the width of a full tile, tileHeight its height.
const (
	tileHeight = 8
	tileWidth  = 1 << tileHeight
)

// A Store is one log in one SQLite file. It satisfies tlog.Store.
type Store struct {
	db     *db
	path   string
	now    func() time.Time
	treeID int64

	head, tile, entries, find, lookup, newest, oldest, times, nextKey, attestation *sql.Stmt // on readers

	// The rest belongs to Append, which is called by one goroutine at a time.
	insert, known, putTile, setHead, attest *sql.Stmt                  // on the writer
	search                                  [maxKeysStmt + 1]*sql.Stmt // for this many keys
	tip                                     *tip                       // nil where it has to be read from the file
}

// Open opens a log, or makes it: the tree ID of a new log is random, and stays.
func Open(path string, now func() time.Time) (*Store, error) {
	var random [8]byte
	rand.Read(random[:])
	return open(path, int64(binary.BigEndian.Uint64(random[:])>>1|1), now)
}

// open opens a log, or makes it with a tree ID.
func open(path string, id int64, now func() time.Time) (*Store, error) {
	d, err := openDB(path, logSchema())
	if err != nil {
		return nil, fmt.Errorf("opening log store: %w", err)
	}
	s := &Store{db: d, path: path, now: now}
	if err := s.prepare(id); err != nil {
		d.close()
		return nil, fmt.Errorf("opening log store %s: %w", path, err)
	}
	return s, nil
}

func (s *Store) prepare(id int64) error {
	_, err := s.db.write.Exec("INSERT OR IGNORE INTO log (one, tree_id, created, size, root, time) VALUES (1, ?, ?, 0, ?, 0)",
		id, s.now().UnixNano(), rfc6962.DefaultHasher.EmptyRoot())
	if err != nil {
		return err
	}
	return s.prepareStatements()
}

func (s *Store) prepareStatements() (err error) {
	if err := s.db.read.QueryRow("SELECT tree_id FROM log").Scan(&s.treeID); err != nil {
		return err
	}
	for _, p := range []struct {
		stmt  **sql.Stmt
		db    *sql.DB
		query string
	}{
		{&s.head, s.db.read, "SELECT size, root, time, frozen FROM log"},
		{&s.tile, s.db.read, "SELECT substr(hashes, 1, ?) FROM tile WHERE pos = ?"},
		{&s.entries, s.db.read, "SELECT idx, time, value, extra FROM entry WHERE idx >= ? AND idx < ? ORDER BY idx"},
		{&s.find, s.db.read, "SELECT idx FROM entry WHERE id = ?1 AND hash IS NULL UNION ALL SELECT idx FROM entry WHERE hash = ?1 ORDER BY idx LIMIT 1"},
		{&s.lookup, s.db.read, "SELECT hash FROM search WHERE key = ?"},
		{&s.attestation, s.db.read, "SELECT bytes FROM attestation WHERE hash = ?"},
		{&s.attest, s.db.write, "INSERT OR IGNORE INTO attestation (hash, bytes) VALUES (?, ?)"},
		{&s.newest, s.db.read, "SELECT at, hash FROM search WHERE key = ? AND at >= ? AND at < ? ORDER BY at DESC LIMIT ?"},
		{&s.oldest, s.db.read, "SELECT at, hash FROM search WHERE key = ? AND at >= ? AND at < ? ORDER BY at LIMIT ?"},
		{&s.nextKey, s.db.read, "SELECT key FROM search WHERE key > ? ORDER BY key LIMIT 1"},
		{&s.times, s.db.read, "SELECT idx, time FROM entry WHERE idx IN (?" + strings.Repeat(", ?", maxTimes-1) + ")"},
		{&s.insert, s.db.write, "INSERT INTO entry (idx, id, hash, time, value, extra) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING"},
		{&s.known, s.db.write, "SELECT idx, time FROM entry WHERE id = ?"},
		{&s.putTile, s.db.write, "INSERT OR REPLACE INTO tile (pos, hashes) VALUES (?, ?)"},
		{&s.setHead, s.db.write, "UPDATE log SET size = ?, root = ?, time = ?"},
	} {
		if *p.stmt, err = p.db.Prepare(p.query); err != nil {
			return err
		}
	}
	for n := 1; n <= maxKeysStmt; n++ {
		query := "INSERT OR IGNORE INTO search (key, at, hash) VALUES (?, ?, ?)" + strings.Repeat(", (?, ?, ?)", n-1)
		if s.search[n], err = s.db.write.Prepare(query); err != nil {
			return err
		}
	}
	return nil
}

// maxKeysStmt is how many search keys one statement inserts: entries have
// about four.
const maxKeysStmt = 8

// Close closes the file. No other call may be under way.
func (s *Store) Close() error { return s.db.close() }

// TreeID returns the ID that the log got when it was made: positive, random.
func (s *Store) TreeID() int64 { return s.treeID }

// Head returns the newest durable state.
func (s *Store) Head(ctx context.Context) (tlog.Head, error) {
	var head tlog.Head
	var root []byte
	var nanos int64
	if err := s.head.QueryRowContext(ctx).Scan(&head.Size, &root, &nanos, &head.Frozen); err != nil {
		return tlog.Head{}, err
	}
	if len(root) != tlog.HashSize {
		return tlog.Head{}, fmt.Errorf("root hash of %d bytes", len(root))
	}
	head.Root = tlog.Hash(root)
	if head.Size > 0 {
		head.Time = time.Unix(0, nanos).UTC()
	}
	return head, nil
}

// Tile returns the first width hashes of a tile.
func (s *Store) Tile(ctx context.Context, level int, index uint64, width int) ([]tlog.Hash, error) {
	var b []byte
	err := s.tile.QueryRowContext(ctx, width*tlog.HashSize, tilePos(level, index)).Scan(&b)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return splitHashes(b), err
}

// Entries returns the entries of [begin, end) that exist, in order.
func (s *Store) Entries(ctx context.Context, begin, end uint64) ([]tlog.Entry, error) {
	rows, err := s.entries.QueryContext(ctx, begin, end)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var entries []tlog.Entry
	for rows.Next() {
		var e tlog.Entry
		var nanos int64
		if err := rows.Scan(&e.Index, &nanos, &e.Value, &e.Extra); err != nil {
			return nil, err
		}
		e.Time = time.Unix(0, nanos).UTC()
		entries = append(entries, e)
	}
	return entries, rows.Err()
}

// Find returns the index of the entry with this leaf hash.
func (s *Store) Find(ctx context.Context, leafHash tlog.Hash) (index uint64, ok bool, err error) {
	err = s.find.QueryRowContext(ctx, leafHash[:]).Scan(&index)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, false, nil
	}
	return index, err == nil, err
}

// Attestation returns the attestation with a hash, nil where there is none.
func (s *Store) Attestation(ctx context.Context, hash tlog.Hash) ([]byte, error) {
	var b []byte
	err := s.attestation.QueryRowContext(ctx, hash[:]).Scan(&b)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return b, err
}

// Append adds leaves in one transaction. After the commit they are safe.
//
// The context is looked at once: a statement of a local file is not worth
// interrupting, and the driver starts a goroutine for each one that could be.
func (s *Store) Append(ctx context.Context, leaves []tlog.Leaf) ([]tlog.Placed, tlog.Head, error) {
	if err := ctx.Err(); err != nil {
		return nil, tlog.Head{}, err
	}
	t := s.tip
	s.tip = nil // until the commit
	if t == nil {
		var err error
		if t, err = s.readTip(); err != nil {
			return nil, tlog.Head{}, fmt.Errorf("reading the right edge: %w", err)
		}
	}
	if t.head.Frozen {
		s.tip = t
		return nil, tlog.Head{}, tlog.ErrFrozen
	}
	now := s.now()
	if behind := t.head.Time.Sub(now); behind > tlog.MaxClockStep {
		s.tip = t
		return nil, tlog.Head{}, fmt.Errorf("%w by %v", tlog.ErrClock, behind)
	} else if behind > 0 {
		now = t.head.Time
	}
	tx, err := s.db.write.Begin()
	if err != nil {
		return nil, tlog.Head{}, err
	}
	defer tx.Rollback()
	if err := failpoint.Hit(failpoint.Begin, s.path); err != nil {
		return nil, tlog.Head{}, err
	}
	placed, err := s.insertAll(tx, t, leaves, now)
	if err == nil {
		err = failpoint.Hit(failpoint.Commit, s.path)
	}
	if err != nil {
		return nil, tlog.Head{}, err
	}
	if err := tx.Commit(); err != nil {
		return nil, tlog.Head{}, fmt.Errorf("committing: %w", err)
	}
	var bytes int64
	for _, leaf := range leaves {
		bytes += rowBytes + int64(len(leaf.Value)+len(leaf.Extra)+len(leaf.Attestation))
	}
	s.db.wrote(bytes)
	if err := failpoint.Hit(failpoint.Committed, s.path); err != nil {
		return nil, tlog.Head{}, err
	}
	s.tip = t
	return placed, t.head, nil
}

// Freeze ends the log.
func (s *Store) Freeze(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.tip = nil
	_, err := s.db.write.Exec("UPDATE log SET frozen = 1")
	return err
}

// rowBytes is about what an entry writes beside its value: a page for its identity,
// and one for each of three search keys.
const rowBytes = 16 << 10

// insertAll writes what a batch adds, and moves the tip over it.
func (s *Store) insertAll(tx *sql.Tx, t *tip, leaves []tlog.Leaf, now time.Time) ([]tlog.Placed, error) {
	insert, known, putTile := tx.Stmt(s.insert), tx.Stmt(s.known), tx.Stmt(s.putTile)
	var search [maxKeysStmt + 1]*sql.Stmt // as in s, for this transaction
	nanos := now.UnixNano()
	placed := make([]tlog.Placed, len(leaves))
	before := t.size()
	for i, leaf := range leaves {
		hash := tlog.Hash(rfc6962.DefaultHasher.HashLeaf(leaf.Value))
		id, other := hash[:], []byte(nil)
		if leaf.ID != (tlog.Hash{}) && leaf.ID != hash {
			id, other = leaf.ID[:], hash[:]
		}
		res, err := insert.Exec(t.size(), id, other, nanos, leaf.Value, leaf.Extra)
		if err != nil {
			return nil, fmt.Errorf("inserting entry %d: %w", t.size(), err)
		}
		if n, err := res.RowsAffected(); err != nil {
			return nil, err
		} else if n == 0 {
			var was int64
			if err := known.QueryRow(id).Scan(&placed[i].Index, &was); err != nil {
				return nil, fmt.Errorf("reading the entry with the same identity: %w", err)
			}
			placed[i].Time, placed[i].Dup = time.Unix(0, was).UTC(), true
			continue
		}
		placed[i] = tlog.Placed{Index: t.size(), Time: now.UTC()}
		for keys := range slices.Chunk(leaf.Keys, maxKeysStmt) {
			args := make([]any, 0, 3*maxKeysStmt)
			for _, key := range keys {
				args = append(args, key, t.size(), hash[:])
			}
			if search[len(keys)] == nil {
				search[len(keys)] = tx.Stmt(s.search[len(keys)])
			}
			if _, err := search[len(keys)].Exec(args...); err != nil {
				return nil, fmt.Errorf("inserting search keys: %w", err)
			}
		}
		if len(leaf.Attestation) > 0 {
			sum := sha256.Sum256(leaf.Attestation)
			if _, err := tx.Stmt(s.attest).Exec(sum[:], leaf.Attestation); err != nil {
				return nil, fmt.Errorf("inserting an attestation: %w", err)
			}
		}
		if err := t.push(hash, func(level int, index uint64, hashes []byte) error {
			_, err := putTile.Exec(tilePos(level, index), hashes)
			return err
		}); err != nil {
			return nil, fmt.Errorf("inserting tile: %w", err)
		}
	}
	if t.size() == before {
		return placed, nil
	}
	if err := failpoint.Hit(failpoint.Insert, s.path); err != nil {
		return nil, err
	}
	return placed, s.putHead(tx, putTile, t, before, nanos)
}

// putHead writes the partial tiles that a batch has touched, and the head. The
// tip is the one after the batch.
func (s *Store) putHead(tx *sql.Tx, putTile *sql.Stmt, t *tip, before uint64, nanos int64) error {
	for level, hashes := range t.tiles {
		index := t.size() >> (tileHeight * (level + 1))
		if len(hashes) > 0 && t.size()>>(tileHeight*level) > before>>(tileHeight*level) {
			if _, err := putTile.Exec(tilePos(level, index), hashes); err != nil {
				return fmt.Errorf("inserting tile: %w", err)
			}
		}
	}
	root, err := t.nodes.GetRootHash(nil)
	if err != nil {
		return err
	}
	t.head = tlog.Head{Size: t.size(), Root: tlog.Hash(root), Time: time.Unix(0, nanos).UTC()}
	_, err = tx.Stmt(s.setHead).Exec(t.head.Size, root, nanos)
	return err
}

// A tip is what Append needs to know of the log to add to it.
type tip struct {
	head  tlog.Head
	nodes *compact.Range
	tiles [][]byte // for each level, the hashes of its partial tile; empty where there is none
}

func (t *tip) size() uint64 { return t.nodes.End() }

// push appends a leaf hash and reports each tile that it fills.
func (t *tip) push(hash tlog.Hash, full func(level int, index uint64, hashes []byte) error) error {
	var failed error
	err := t.nodes.Append(hash[:], func(id compact.NodeID, node []byte) {
		if id.Level%tileHeight != 0 {
			return
		}
		level := int(id.Level / tileHeight)
		for len(t.tiles) <= level {
			t.tiles = append(t.tiles, nil)
		}
		t.tiles[level] = append(t.tiles[level], node...)
		if len(t.tiles[level]) == tileWidth*tlog.HashSize {
			failed = errors.Join(failed, full(level, id.Index/tileWidth, t.tiles[level]))
			t.tiles[level] = nil
		}
	})
	return errors.Join(err, failed)
}

// readTip reads the tip from the file.
func (s *Store) readTip() (*tip, error) {
	ctx := context.Background()
	head, err := s.Head(ctx)
	if err != nil {
		return nil, err
	}
	t := &tip{head: head}
	var peaks [][]byte // from the smallest to the largest
	for level := 0; head.Size>>(tileHeight*level) > 0; level++ {
		n := head.Size >> (tileHeight * level)
		width := int(n % tileWidth)
		if width == 0 {
			t.tiles = append(t.tiles, nil)
			continue
		}
		hashes, err := s.Tile(ctx, level, n/tileWidth, width)
		if err != nil {
			return nil, err
		}
		if len(hashes) != width {
			return nil, fmt.Errorf("tile %d/%d has %d hashes, want %d", level, n/tileWidth, len(hashes), width)
		}
		var tile []byte
		for _, h := range hashes {
			tile = append(tile, h[:]...)
		}
		t.tiles = append(t.tiles, tile)
		for k := 0; k < tileHeight; k++ {
			if width>>k&1 == 1 {
				end := width >> k << k
				peaks = append(peaks, subtree(hashes[end-1<<k:end]))
			}
		}
	}
	for i, j := 0, len(peaks)-1; i < j; i, j = i+1, j-1 {
		peaks[i], peaks[j] = peaks[j], peaks[i]
	}
	ranges := &compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}
	t.nodes, err = ranges.NewRange(0, head.Size, peaks)
	return t, err
}

// subtree returns the root over a power of two of nodes.
func subtree(nodes []tlog.Hash) []byte {
	if len(nodes) == 1 {
		return nodes[0][:]
	}
	half := len(nodes) / 2
	return rfc6962.DefaultHasher.HashChildren(subtree(nodes[:half]), subtree(nodes[half:]))
}

func tilePos(level int, index uint64) int64 { return int64(level)<<56 | int64(index) }

func splitHashes(b []byte) []tlog.Hash {
	hashes := make([]tlog.Hash, len(b)/tlog.HashSize)
	for i := range hashes {
		hashes[i] = tlog.Hash(b[i*tlog.HashSize:])
	}
	return hashes
}
