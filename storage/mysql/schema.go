package mysql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/sigstack/sigstack/storage/audit"
)

// A step is a part of a migration. It is told with which version of the schema
// the database was opened, 0 for a new one.
type step func(ctx context.Context, d *DB, c *sql.Conn, opened int) error

// migrations lead from each version of the schema to the next: the first from
// nothing to version 1. A server commits every statement that changes a schema,
// so that a migration may be cut off after each: it is repeated whole, and each
// step does nothing where it was done before.
func migrations() [][]step {
	return [][]step{
		statements(version1[:]),
		append(statements(version2[:]), setAside, chainAudit),
		append(statements(version3[:]), placeKeys),
	}
}

func statements(texts []string) (steps []step) {
	for _, text := range texts {
		steps = append(steps, func(ctx context.Context, _ *DB, c *sql.Conn, _ int) error {
			_, err := c.ExecContext(ctx, text)
			return err
		})
	}
	return steps
}

// version1 makes the tables of Trillian, and ours.
var version1 = [...]string{
	// Trillian's tables, as its module has them. Where they exist already, in
	// the database of a Trillian, they are left alone.
	`CREATE TABLE IF NOT EXISTS Trees (
		TreeId                BIGINT NOT NULL PRIMARY KEY,
		TreeState             ENUM('ACTIVE', 'FROZEN', 'DRAINING') NOT NULL,
		TreeType              ENUM('LOG', 'MAP', 'PREORDERED_LOG') NOT NULL,
		HashStrategy          ENUM('RFC6962_SHA256', 'TEST_MAP_HASHER', 'OBJECT_RFC6962_SHA256', 'CONIKS_SHA512_256', 'CONIKS_SHA256') NOT NULL,
		HashAlgorithm         ENUM('SHA256') NOT NULL,
		SignatureAlgorithm    ENUM('ECDSA', 'RSA', 'ED25519') NOT NULL,
		DisplayName           VARCHAR(20),
		Description           VARCHAR(200),
		CreateTimeMillis      BIGINT NOT NULL,
		UpdateTimeMillis      BIGINT NOT NULL,
		MaxRootDurationMillis BIGINT NOT NULL,
		PrivateKey            MEDIUMBLOB NOT NULL, -- empty
		PublicKey             MEDIUMBLOB NOT NULL, -- settings of the storage
		Deleted               BOOLEAN,
		DeleteTimeMillis      BIGINT
	)`,
	`CREATE TABLE IF NOT EXISTS TreeControl (
		TreeId                  BIGINT NOT NULL PRIMARY KEY,
		SigningEnabled          BOOLEAN NOT NULL,
		SequencingEnabled       BOOLEAN NOT NULL,
		SequenceIntervalSeconds INTEGER NOT NULL,
		FOREIGN KEY (TreeId) REFERENCES Trees (TreeId) ON DELETE CASCADE
	)`,
	// The nodes of a tree: one row for eight levels over 256 nodes.
	`CREATE TABLE IF NOT EXISTS Subtree (
		TreeId          BIGINT NOT NULL,
		SubtreeId       VARBINARY(255) NOT NULL,
		Nodes           MEDIUMBLOB NOT NULL,
		SubtreeRevision INTEGER NOT NULL,
		PRIMARY KEY (TreeId, SubtreeId, SubtreeRevision),
		FOREIGN KEY (TreeId) REFERENCES Trees (TreeId) ON DELETE CASCADE
	)`,
	// One row for each batch that was integrated.
	`CREATE TABLE IF NOT EXISTS TreeHead (
		TreeId            BIGINT NOT NULL,
		TreeHeadTimestamp BIGINT,
		TreeSize          BIGINT,
		RootHash          VARBINARY(255) NOT NULL,
		RootSignature     VARBINARY(1024) NOT NULL, -- empty
		TreeRevision      BIGINT,
		PRIMARY KEY (TreeId, TreeHeadTimestamp),
		UNIQUE KEY TreeHeadRevisionIdx (TreeId, TreeRevision),
		FOREIGN KEY (TreeId) REFERENCES Trees (TreeId) ON DELETE CASCADE
	)`,
	// Every leaf, once for each identity.
	`CREATE TABLE IF NOT EXISTS LeafData (
		TreeId              BIGINT NOT NULL,
		LeafIdentityHash    VARBINARY(255) NOT NULL,
		LeafValue           LONGBLOB NOT NULL,
		ExtraData           LONGBLOB,
		QueueTimestampNanos BIGINT NOT NULL,
		PRIMARY KEY (TreeId, LeafIdentityHash),
		FOREIGN KEY (TreeId) REFERENCES Trees (TreeId) ON DELETE CASCADE
	)`,
	// The place of each leaf that is in the tree.
	`CREATE TABLE IF NOT EXISTS SequencedLeafData (
		TreeId                  BIGINT NOT NULL,
		SequenceNumber          BIGINT UNSIGNED NOT NULL,
		LeafIdentityHash        VARBINARY(255) NOT NULL,
		MerkleLeafHash          VARBINARY(255) NOT NULL,
		IntegrateTimestampNanos BIGINT NOT NULL,
		PRIMARY KEY (TreeId, SequenceNumber),
		FOREIGN KEY (TreeId) REFERENCES Trees (TreeId) ON DELETE CASCADE,
		FOREIGN KEY (TreeId, LeafIdentityHash) REFERENCES LeafData (TreeId, LeafIdentityHash) ON DELETE CASCADE,
		KEY TreeId (TreeId, LeafIdentityHash), -- of the foreign key; Trillian lets the server name it, which is this name
		KEY SequencedLeafMerkleIdx (TreeId, MerkleLeafHash)
	)`,
	// Every leaf that is not in the tree yet.
	`CREATE TABLE IF NOT EXISTS Unsequenced (
		TreeId              BIGINT NOT NULL,
		Bucket              INTEGER NOT NULL,
		LeafIdentityHash    VARBINARY(255) NOT NULL,
		MerkleLeafHash      VARBINARY(255) NOT NULL,
		QueueTimestampNanos BIGINT NOT NULL,
		QueueID             VARBINARY(32) DEFAULT NULL UNIQUE,
		PRIMARY KEY (TreeId, Bucket, QueueTimestampNanos, LeafIdentityHash)
	)`,

	// Our own. Times are nanoseconds since 1970 UTC, hashes have 32 bytes.
	`CREATE TABLE IF NOT EXISTS sigstack_log ( -- which tree a log is
		name    VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL PRIMARY KEY,
		tree_id BIGINT NOT NULL UNIQUE,
		created BIGINT NOT NULL,
		key_id  BINARY(32) -- SHA-256 of the SubjectPublicKeyInfo of the key that signs it
	)`,
	`CREATE TABLE IF NOT EXISTS sigstack_search ( -- search key -> leaf hash, of leaves that were not in the tree yet
		tree_id BIGINT NOT NULL,
		name    VARBINARY(512) NOT NULL,
		hash    BINARY(32) NOT NULL,
		PRIMARY KEY (tree_id, name, hash)
	)`,
	`CREATE TABLE IF NOT EXISTS sigstack_audit ( -- one row for each certificate
		seq    BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
		time   BIGINT NOT NULL,
		serial VARBINARY(64) NOT NULL UNIQUE, -- lower-case hex
		record MEDIUMBLOB NOT NULL            -- JSON
	)`,
	`CREATE TABLE IF NOT EXISTS sigstack_tuf ( -- the files of the TUF repository
		name  VARBINARY(255) NOT NULL PRIMARY KEY, -- with slashes
		bytes MEDIUMBLOB NOT NULL
	)`,
	`CREATE TABLE IF NOT EXISTS sigstack_lease ( -- who may do what one replica does
		name    VARBINARY(64) NOT NULL PRIMARY KEY,
		holder  VARBINARY(64) NOT NULL, -- random
		until   BIGINT NOT NULL,        -- seconds since 1970, by the server's clock
		version BIGINT NOT NULL         -- counts what was done
	)`,
}

// version2 makes the rows of package audit, the head of their chain, and the
// claims of tokens. Those of version 1 are brought along by setAside and
// chainAudit.
var version2 = [...]string{
	`CREATE TABLE IF NOT EXISTS sigstack_audit_row ( -- two rows for each certificate
		seq    BIGINT NOT NULL PRIMARY KEY, -- the order of the chain
		time   BIGINT NOT NULL,
		kind   VARBINARY(16) NOT NULL,
		serial VARBINARY(64) NOT NULL,      -- lower-case hex
		record MEDIUMBLOB NOT NULL,         -- JSON
		hash   BINARY(32) NOT NULL,         -- of the chain
		UNIQUE KEY serial_kind (serial, kind)
	)`,
	`CREATE TABLE IF NOT EXISTS sigstack_audit_head ( -- one row: the last one of the chain
		one  INTEGER NOT NULL PRIMARY KEY,
		seq  BIGINT NOT NULL,
		hash BINARY(32) NOT NULL
	)`,
	`INSERT IGNORE INTO sigstack_audit_head VALUES (1, 0, REPEAT(X'00', 32))`,
	`CREATE TABLE IF NOT EXISTS sigstack_token ( -- a token that is good for one key
		hash   BINARY(32) NOT NULL PRIMARY KEY,
		spki   BINARY(32) NOT NULL, -- SHA-256 of the SubjectPublicKeyInfo of the key
		expiry BIGINT NOT NULL,     -- of the token, in seconds since 1970
		KEY expiry (expiry)
	)`,
}

// version3 makes the search keys of entries, and what the logs have beside their trees.
var version3 = [...]string{
	`CREATE TABLE IF NOT EXISTS sigstack_posting ( -- search key -> entry, in the order of the tree
		tree_id BIGINT NOT NULL,
		name    VARBINARY(512) NOT NULL,
		at      BIGINT UNSIGNED NOT NULL, -- index of the entry
		hash    BINARY(32) NOT NULL,      -- of its leaf
		PRIMARY KEY (tree_id, name, at)
	)`,
	`CREATE TABLE IF NOT EXISTS sigstack_attestation ( -- what entries were made of, where that is kept
		tree_id BIGINT NOT NULL,
		hash    BINARY(32) NOT NULL, -- SHA-256 of the bytes
		bytes   MEDIUMBLOB NOT NULL,
		PRIMARY KEY (tree_id, hash)
	)`,
}

// placeKeys gives the search keys of earlier versions their places.
func placeKeys(ctx context.Context, d *DB, c *sql.Conn, _ int) error {
	rows, err := c.QueryContext(ctx, "SELECT tree_id FROM sigstack_log")
	if err != nil {
		return err
	}
	defer rows.Close()
	var trees []int64
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			return err
		}
		trees = append(trees, id)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	for _, id := range trees {
		if err := d.place(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// setAside gives the rows of version 1 another name, so that a replica of that
// version that still runs writes no more of them: it answers 503 from here on.
func setAside(ctx context.Context, _ *DB, c *sql.Conn, _ int) error {
	var there int
	if err := c.QueryRowContext(ctx, "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = 'sigstack_audit'").Scan(&there); err != nil || there == 0 {
		return err
	}
	_, err := c.ExecContext(ctx, "RENAME TABLE sigstack_audit TO sigstack_audit_1")
	return err
}

// chainAudit brings the rows that were set aside into the chain, a page in each
// transaction, and then drops their table. In a database that is new there are
// none.
func chainAudit(ctx context.Context, d *DB, c *sql.Conn, opened int) error {
	var there int
	if err := c.QueryRowContext(ctx, "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = 'sigstack_audit_1'").Scan(&there); err != nil || there == 0 {
		return err
	}
	// What was cut off goes on behind the last row that it had brought along.
	last := int64(math.MinInt64)
	err := c.QueryRowContext(ctx, `SELECT o.seq FROM sigstack_audit_row n JOIN sigstack_audit_1 o ON o.serial = n.serial
		WHERE n.kind = 'recorded' ORDER BY n.seq DESC LIMIT 1`).Scan(&last)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	for {
		rows, err := oldAudit(ctx, c, &last)
		if err != nil {
			return err
		}
		if len(rows) == 0 {
			break
		}
		if err := chainRows(ctx, c, rows); err != nil {
			return err
		}
	}
	var marked int
	if err := c.QueryRowContext(ctx, "SELECT COUNT(*) FROM sigstack_audit_row WHERE serial = '' AND kind = 'migrated'").Scan(&marked); err != nil {
		return err
	}
	if opened > 0 && marked == 0 {
		if err := chainRows(ctx, c, []*audit.Row{{At: d.now(), Kind: audit.Migrated, Record: []byte("{}")}}); err != nil {
			return err
		}
	}
	_, err = c.ExecContext(ctx, "DROP TABLE sigstack_audit_1")
	return err
}

// oldAudit returns as many rows of version 1 behind one as a transaction takes,
// and moves it.
func oldAudit(ctx context.Context, c *sql.Conn, last *int64) ([]*audit.Row, error) {
	found, err := c.QueryContext(ctx, "SELECT seq, time, serial, record FROM sigstack_audit_1 WHERE seq > ? ORDER BY seq LIMIT ?", *last, auditPage)
	if err != nil {
		return nil, err
	}
	defer found.Close()
	var rows []*audit.Row
	for found.Next() {
		var nanos int64
		row := &audit.Row{Kind: audit.Recorded}
		if err := found.Scan(last, &nanos, &row.Serial, &row.Record); err != nil {
			return nil, err
		}
		row.At = time.Unix(0, nanos)
		rows = append(rows, row)
	}
	return rows, found.Err()
}

// chainRows places rows that are known not to be there, in one transaction. The
// lock of the schema keeps everybody else away.
func chainRows(ctx context.Context, c *sql.Conn, rows []*audit.Row) error {
	tx, err := c.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	ledger := audit.Ledger{Rows: map[string][]*audit.Row{}}
	var hash []byte
	if err := tx.QueryRowContext(ctx, "SELECT seq, hash FROM sigstack_audit_head FOR UPDATE").Scan(&ledger.Seq, &hash); err != nil {
		return err
	}
	if ledger.Head, err = auditHash(hash); err != nil {
		return err
	}
	seq := ledger.Seq
	if placed, _ := ledger.Place(rows); len(placed) != len(rows) {
		return fmt.Errorf("%d of %d audit rows can be brought along", len(placed), len(rows))
	}
	if err := writeAudit(ctx, tx, seq, rows, nil); err != nil {
		return err
	}
	return tx.Commit()
}

// lockName is the lock under which schema and trees are made. Locks belong to
// the whole server, so the database is in the name.
const lockName = "CONCAT('sigstack.', LEFT(SHA2(DATABASE(), 256), 40))"

// locked calls f while no other process makes schemas or trees. The connection
// belongs to f; it is a patient one.
func (d *DB) locked(ctx context.Context, f func(*sql.Conn) error) error {
	pool := connect(d.patient, 1)
	defer pool.Close() // which also gives the lock back
	c, err := pool.Conn(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	var got sql.NullInt64
	if err := c.QueryRowContext(ctx, "SELECT GET_LOCK("+lockName+", 60)").Scan(&got); err != nil {
		return fmt.Errorf("waiting for the lock of the schema: %w", err)
	}
	if got.Int64 != 1 {
		return fmt.Errorf("another process has held the lock of the schema for a minute")
	}
	return f(c)
}

// querier is a pool or one connection of it.
type querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// version reads the version of the schema, 0 where there is none.
func version(ctx context.Context, q querier) (int, error) {
	var v int
	err := q.QueryRowContext(ctx, "SELECT COALESCE(MAX(version), 0) FROM sigstack_schema").Scan(&v)
	if isError(err, errNoTable) {
		return 0, nil
	}
	if err == nil && v > len(migrations()) {
		err = fmt.Errorf("schema version %d was written by a newer sigstack; this one knows version %d", v, len(migrations()))
	}
	return v, err
}

// migrate brings the schema to the version of this binary. Where it is there
// already, no right to change a schema is needed.
func (d *DB) migrate(ctx context.Context) error {
	if v, err := version(ctx, d.write); err != nil || v == len(migrations()) {
		return err
	}
	return d.locked(ctx, func(c *sql.Conn) error {
		if _, err := c.ExecContext(ctx, "CREATE TABLE IF NOT EXISTS sigstack_schema (version INTEGER NOT NULL PRIMARY KEY, time BIGINT NOT NULL)"); err != nil {
			return err
		}
		v, err := version(ctx, c)
		if err != nil {
			return err
		}
		for opened, all := v, migrations(); v < len(all); v++ {
			for _, do := range all[v] {
				if err := do(ctx, d, c, opened); err != nil {
					return fmt.Errorf("migrating the schema to version %d: %w", v+1, err)
				}
			}
			if _, err := c.ExecContext(ctx, "INSERT IGNORE INTO sigstack_schema (version, time) VALUES (?, ?)", v+1, d.now().UnixNano()); err != nil {
				return err
			}
		}
		return nil
	})
}
