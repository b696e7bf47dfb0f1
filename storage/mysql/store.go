package mysql

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/google/trillian"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/sigstack/sigstack/tlog"
)

// tileWidth is the width of a full tile, tileHeight its height.
const (
	tileHeight = 8
	tileWidth  = 1 << tileHeight
)

// A Store is one log in a database. It satisfies tlog.Store.
type Store struct {
	db   *DB
	path string // for failpoints
	tree *trillian.Tree

	tip *tip // belongs to Append; nil where it has to be read
}

// Close does nothing: the connections belong to the DB.
func (s *Store) Close() error { return nil }

// Claim says which key signs the log: the SHA-256 of its SubjectPublicKeyInfo.
// The first one that is given stays. A replica with another key would sign what
// clients of the others do not trust, and is refused.
func (s *Store) Claim(ctx context.Context, keyID [32]byte) error {
	if _, err := s.db.write.ExecContext(ctx, "UPDATE sigstack_log SET key_id = ? WHERE tree_id = ? AND key_id IS NULL", keyID[:], s.tree.TreeId); err != nil {
		return fmt.Errorf("claiming the log: %w", err)
	}
	var had []byte
	if err := s.db.write.QueryRowContext(ctx, "SELECT key_id FROM sigstack_log WHERE tree_id = ?", s.tree.TreeId).Scan(&had); err != nil {
		return fmt.Errorf("claiming the log: %w", err)
	}
	if bytes.Equal(had, copying[:]) {
		return errors.New("a copy into the log in the database is not complete; run it again, or start from an empty database")
	}
	if !bytes.Equal(had, keyID[:]) {
		return fmt.Errorf("the log in the database is signed by the key with ID %x, not by %x; all replicas need the same keys", had, keyID)
	}
	return nil
}

// TreeID returns the ID that the log got when it was made: positive, random.
func (s *Store) TreeID() int64 { return s.tree.TreeId }

// Head returns the newest durable state.
func (s *Store) Head(ctx context.Context) (tlog.Head, error) {
	t, err := s.readTip(ctx, s.db.read)
	if err != nil {
		return tlog.Head{}, err
	}
	return t.head, nil
}

// A tip is what Append needs to know of the log to add to it.
type tip struct {
	head tlog.Head
	root int64 // timestamp of the tree head; two heads of a tree never share one
}

// readTip reads the newest tree head together with the time of its last entry.
// They differ where a tree head had to be a little later than the one before.
func (s *Store) readTip(ctx context.Context, db *sql.DB) (*tip, error) {
	return readTip(ctx, db, s.tree.TreeId)
}

func readTip(ctx context.Context, db *sql.DB, treeID int64) (*tip, error) {
	t := &tip{}
	var root []byte
	var nanos sql.NullInt64
	err := db.QueryRowContext(ctx, `SELECT h.TreeSize, h.RootHash, h.TreeHeadTimestamp, s.IntegrateTimestampNanos
		FROM TreeHead h LEFT JOIN SequencedLeafData s ON s.TreeId = h.TreeId AND s.SequenceNumber = h.TreeSize - 1
		WHERE h.TreeId = ? ORDER BY h.TreeHeadTimestamp DESC LIMIT 1`, treeID).Scan(&t.head.Size, &root, &t.root, &nanos)
	if err != nil {
		return nil, fmt.Errorf("reading the tree head: %w", err)
	}
	if len(root) != tlog.HashSize {
		return nil, fmt.Errorf("root hash of %d bytes", len(root))
	}
	t.head.Root, t.head.Frozen = tlog.Hash(root), t.root == frozenAt
	if t.head.Size > 0 {
		if !nanos.Valid {
			return nil, fmt.Errorf("the tree has size %d, but no entry %d", t.head.Size, t.head.Size-1)
		}
		t.head.Time = time.Unix(0, nanos.Int64).UTC()
	}
	return t, nil
}

// Tile returns the first width hashes of a tile: one row of Trillian's.
func (s *Store) Tile(ctx context.Context, level int, index uint64, width int) ([]tlog.Hash, error) {
	var id [8]byte // the path from the root of a tree of height 64, a byte for each tile
	binary.BigEndian.PutUint64(id[:], index)
	var nodes []byte
	err := s.db.read.QueryRowContext(ctx, "SELECT Nodes FROM Subtree WHERE TreeId = ? AND SubtreeId = ? ORDER BY SubtreeRevision DESC LIMIT 1",
		s.tree.TreeId, id[1+level:]).Scan(&nodes)
	if errors.Is(err, sql.ErrNoRows) {
		err = errors.New("the database does not have it")
	}
	if err != nil {
		return nil, err
	}
	return parseSubtree(nodes, width)
}

// parseSubtree returns the first hashes that a row of Subtree has, at most width. It
// is a SubtreeProto (storage/storagepb/storage.proto of Trillian): field 4 leads from
// the place of a hash to the hash. The place is base64 of two bytes, the number of
// bits, 8, and the place. What Trillian makes of that, maps of all nodes, is not read.
func parseSubtree(b []byte, width int) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, width)
	var had [tileWidth]bool
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return nil, protowire.ParseError(n)
		}
		b = b[n:]
		if number != 4 || kind != protowire.BytesType {
			if n = protowire.ConsumeFieldValue(number, kind, b); n < 0 {
				return nil, protowire.ParseError(n)
			}
			b = b[n:]
			continue
		}
		leaf, n := protowire.ConsumeBytes(b)
		if n < 0 {
			return nil, protowire.ParseError(n)
		}
		b = b[n:]
		place, hash, err := parseSubtreeLeaf(leaf)
		if err != nil {
			return nil, err
		}
		if had[place] = true; int(place) < width {
			hashes[place] = hash
		}
	}
	for i := range hashes {
		if !had[i] {
			return hashes[:i], nil
		}
	}
	return hashes, nil
}

// parseSubtreeLeaf reads one pair of that map.
func parseSubtreeLeaf(b []byte) (place byte, hash tlog.Hash, err error) {
	var fields [3][]byte // the second and third are there
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return 0, hash, protowire.ParseError(n)
		}
		if number != 1 && number != 2 || kind != protowire.BytesType {
			return 0, hash, fmt.Errorf("a tile has a leaf with a field %d", number)
		}
		b = b[n:]
		if fields[number], n = protowire.ConsumeBytes(b); n < 0 {
			return 0, hash, protowire.ParseError(n)
		}
		b = b[n:]
	}
	var path [3]byte // two of which are of use
	if len(fields[1]) != 4 {
		return 0, hash, fmt.Errorf("a tile has a leaf at %.20q", fields[1])
	}
	if n, err := base64.StdEncoding.Strict().Decode(path[:], fields[1]); err != nil || n != 2 || path[0] != tileHeight {
		return 0, hash, fmt.Errorf("a tile has a leaf at %q", fields[1])
	}
	if len(fields[2]) != tlog.HashSize {
		return 0, hash, fmt.Errorf("a tile has a hash of %d bytes", len(fields[2]))
	}
	return path[1], tlog.Hash(fields[2]), nil
}

// Entries returns the entries of [begin, end) that exist, in order.
func (s *Store) Entries(ctx context.Context, begin, end uint64) ([]tlog.Entry, error) {
	rows, err := s.db.read.QueryContext(ctx, `SELECT s.SequenceNumber, s.IntegrateTimestampNanos, l.LeafValue, l.ExtraData
		FROM SequencedLeafData s FORCE INDEX (PRIMARY) STRAIGHT_JOIN LeafData l FORCE INDEX (PRIMARY) ON l.TreeId = s.TreeId AND l.LeafIdentityHash = s.LeafIdentityHash
		WHERE s.TreeId = ? AND s.SequenceNumber >= ? AND s.SequenceNumber < ? ORDER BY s.SequenceNumber`, s.tree.TreeId, begin, end)
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

// Find returns the index of the entry with this leaf hash. The index is named:
// a server without statistics would walk through the whole tree.
func (s *Store) Find(ctx context.Context, leafHash tlog.Hash) (index uint64, ok bool, err error) {
	err = s.db.read.QueryRowContext(ctx, `SELECT SequenceNumber FROM SequencedLeafData FORCE INDEX (SequencedLeafMerkleIdx)
		WHERE TreeId = ? AND MerkleLeafHash = ? ORDER BY SequenceNumber LIMIT 1`, s.tree.TreeId, leafHash[:]).Scan(&index)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, false, nil
	}
	return index, err == nil, err
}

// Attestation returns the attestation with a hash, nil where there is none.
func (s *Store) Attestation(ctx context.Context, hash tlog.Hash) ([]byte, error) {
	var b []byte
	err := s.db.read.QueryRowContext(ctx, "SELECT bytes FROM sigstack_attestation WHERE tree_id = ? AND hash = ?", s.tree.TreeId, hash[:]).Scan(&b)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return b, err
}
