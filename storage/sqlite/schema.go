package sqlite

import (
	"database/sql"
	"fmt"
	"time"

	"github.com/sigstack/sigstack/storage/audit"
)

// A schema is the steps that lead from each version of a database to the next,
// the first from nothing to version 1. The version is kept in PRAGMA
// user_version: a newer one is refused, an older one is migrated forward. A step
// is told with which version the database was opened, 0 for a new one.
type schema []func(tx *sql.Tx, opened int) error

func (s schema) version() int { return len(s) }

// logSchema and auditSchema are those of one log, and of the audit log.
func logSchema() schema {
	return schema{statements(logTables), statements(searchTable), statements(searchPlaces + attestationTable + frozenColumn)}
}

func auditSchema(now func() time.Time) schema {
	return schema{statements(auditTable), func(tx *sql.Tx, opened int) error { return chainAudit(tx, opened, now()) }}
}

func statements(text string) func(*sql.Tx, int) error {
	return func(tx *sql.Tx, _ int) error {
		_, err := tx.Exec(text)
		return err
	}
}

// logTables are those of one log. All integers are 64-bit, times are
// nanoseconds since 1970 UTC, hashes are blobs of 32 bytes.
const logTables = `
CREATE TABLE log (                        -- one row: what this log is
	one     INTEGER PRIMARY KEY CHECK (one = 1),
	tree_id INTEGER NOT NULL,         -- positive, random; part of every Rekor UUID
	created INTEGER NOT NULL,
	size    INTEGER NOT NULL,         -- the head
	root    BLOB    NOT NULL,
	time    INTEGER NOT NULL          -- of the last entry
);
CREATE TABLE entry (
	idx   INTEGER PRIMARY KEY,        -- 0 to size-1, without gap
	id    BLOB    NOT NULL UNIQUE,    -- de-duplication identity
	hash  BLOB,                       -- leaf hash where it is not the id, else NULL
	time  INTEGER NOT NULL,
	value BLOB    NOT NULL,
	extra BLOB
);
CREATE INDEX entry_hash ON entry (hash) WHERE hash IS NOT NULL;
CREATE TABLE tile (
	pos    INTEGER PRIMARY KEY,       -- level << 56 | index
	hashes BLOB    NOT NULL           -- 1 to 256 node hashes (C2SP tlog-tiles)
);
CREATE TABLE search (                     -- search key -> leaf hash
	key  TEXT NOT NULL,
	hash BLOB NOT NULL,
	PRIMARY KEY (key, hash)
) WITHOUT ROWID;
`

// searchTable is version 2: entries with the same key stand in the order in which
// they came, so that one more is written behind the last. By their hashes alone each
// would go to a page of its own.
const searchTable = `
CREATE TABLE search_2 (                   -- search key -> leaf hash
	key  TEXT    NOT NULL,
	at   INTEGER NOT NULL,            -- index of the entry; 0 where that was not known
	hash BLOB    NOT NULL,
	PRIMARY KEY (key, at, hash)
) WITHOUT ROWID;
INSERT INTO search_2 SELECT key, 0, hash FROM search;
DROP TABLE search;
ALTER TABLE search_2 RENAME TO search;
`

// searchPlaces is a part of version 3: every row has the index of its entry, those of version 1
// and those that were copied, too.
const searchPlaces = `
INSERT OR IGNORE INTO search SELECT s.key, e.idx, s.hash FROM search s JOIN entry e ON e.id = s.hash AND e.hash IS NULL WHERE s.at = 0;
INSERT OR IGNORE INTO search SELECT s.key, e.idx, s.hash FROM search s JOIN entry e ON e.hash = s.hash WHERE s.at = 0;
DELETE FROM search WHERE at = 0 AND hash NOT IN (SELECT coalesce(hash, id) FROM entry WHERE idx = 0);
`

// attestationTable is a part of version 3.
const attestationTable = `
CREATE TABLE attestation (                -- what entries were made of, where that is kept
	hash  BLOB PRIMARY KEY,           -- SHA-256 of the bytes
	bytes BLOB NOT NULL
);
`

// frozenColumn is the rest of version 3: whether the log has ended.
const frozenColumn = `ALTER TABLE log ADD COLUMN frozen INTEGER NOT NULL DEFAULT 0`

// auditTable is version 1 of the audit log: one row for each certificate.
const auditTable = `
CREATE TABLE audit (
	seq    INTEGER PRIMARY KEY,
	time   INTEGER NOT NULL,
	serial TEXT    NOT NULL UNIQUE,   -- of the certificate, lower-case hex
	record TEXT    NOT NULL           -- JSON
);
`

// chainTables are version 2: the rows of package audit, the head of their chain,
// and the claims of tokens.
const chainTables = `
ALTER TABLE audit RENAME TO audit_1;
CREATE TABLE audit (
	seq    INTEGER PRIMARY KEY,       -- the order of the chain
	time   INTEGER NOT NULL,
	kind   TEXT    NOT NULL,
	serial TEXT    NOT NULL,          -- of the certificate, lower-case hex
	record TEXT    NOT NULL,          -- JSON
	hash   BLOB    NOT NULL,          -- of the chain
	UNIQUE (serial, kind)
);
CREATE TABLE audit_head (                 -- one row: the last one of the chain
	one  INTEGER PRIMARY KEY CHECK (one = 1),
	seq  INTEGER NOT NULL,
	hash BLOB    NOT NULL
);
CREATE TABLE token (                      -- a token that is good for one key
	hash   BLOB    PRIMARY KEY,
	key    BLOB    NOT NULL,          -- SHA-256 of its SubjectPublicKeyInfo
	expiry INTEGER NOT NULL           -- of the token, in seconds since 1970
) WITHOUT ROWID;
CREATE INDEX token_expiry ON token (expiry);
`

// migratePage is how many rows are brought into the chain at a time.
const migratePage = 1000

// chainAudit brings the rows of version 1 into the chain.
func chainAudit(tx *sql.Tx, opened int, now time.Time) error {
	if _, err := tx.Exec(chainTables); err != nil {
		return err
	}
	ledger := audit.Ledger{Rows: map[string][]*audit.Row{}}
	place := func(row *audit.Row) error {
		clear(ledger.Rows) // version 1 had each serial once
		if placed, _ := ledger.Place([]*audit.Row{row}); len(placed) != 1 {
			return fmt.Errorf("audit row with serial %s: %w", row.Serial, row.Err)
		}
		return insertAudit(tx, ledger.Seq, row)
	}
	for last := int64(-1 << 63); ; {
		rows, err := oldAudit(tx, &last)
		if err != nil {
			return err
		}
		if len(rows) == 0 {
			break
		}
		for _, row := range rows {
			if err := place(row); err != nil {
				return err
			}
		}
	}
	if opened == 1 {
		if err := place(&audit.Row{At: now, Kind: audit.Migrated, Record: []byte("{}")}); err != nil {
			return err
		}
	}
	if _, err := tx.Exec("INSERT INTO audit_head (one, seq, hash) VALUES (1, ?, ?)", ledger.Seq, ledger.Head[:]); err != nil {
		return err
	}
	_, err := tx.Exec("DROP TABLE audit_1")
	return err
}

// oldAudit returns rows of version 1 behind one, and moves it.
func oldAudit(tx *sql.Tx, last *int64) ([]*audit.Row, error) {
	found, err := tx.Query("SELECT seq, time, serial, record FROM audit_1 WHERE seq > ? ORDER BY seq LIMIT ?", *last, migratePage)
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
		row.At = time.Unix(0, nanos).UTC()
		rows = append(rows, row)
	}
	return rows, found.Err()
}

const insertAuditRow = "INSERT INTO audit (seq, time, kind, serial, record, hash) VALUES (?, ?, ?, ?, ?, ?)"

func insertAudit(tx *sql.Tx, seq int64, row *audit.Row) error {
	_, err := tx.Exec(insertAuditRow, seq, row.At.UnixNano(), string(row.Kind), row.Serial, string(row.Record), row.Hash[:])
	return err
}
