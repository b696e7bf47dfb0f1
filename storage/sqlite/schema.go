package sqlite

// schemaVersion is kept in PRAGMA user_version. A database with a newer one is
// refused; an older one would be migrated forward here.
const schemaVersion = 1

// logSchema is the schema of one log. All integers are 64-bit, times are
// nanoseconds since 1970 UTC, hashes are blobs of 32 bytes.
const logSchema = `
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

// auditSchema is the schema of the audit log: one row for each certificate.
const auditSchema = `
CREATE TABLE audit (
	seq    INTEGER PRIMARY KEY,
	time   INTEGER NOT NULL,
	serial TEXT    NOT NULL UNIQUE,   -- of the certificate, lower-case hex
	record TEXT    NOT NULL           -- JSON
);
`
