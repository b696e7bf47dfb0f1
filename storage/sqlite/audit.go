package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/sigstack/sigstack/storage/audit"
	"github.com/sigstack/sigstack/tlog/failpoint"
)

// An Audit is the audit log of the CA, as package audit describes it. It is safe
// for concurrent use; rows that arrive while a transaction is being written go
// into the next one together, so that many certificates share one sync.
type Audit struct {
	*audit.Queue
	db   *db
	path string

	// These belong to commit.
	last, serial, token, insert, claim, forget, head *sql.Stmt
}

// OpenAudit opens an audit log, or makes it. One of an older version is brought
// to this one.
func OpenAudit(path string, now func() time.Time) (*Audit, error) {
	d, err := openDB(path, auditSchema(now))
	if err != nil {
		return nil, fmt.Errorf("opening audit log: %w", err)
	}
	return newAudit(d, path)
}

func newAudit(d *db, path string) (*Audit, error) {
	a := &Audit{db: d, path: path}
	for _, s := range []struct {
		to   **sql.Stmt
		text string
	}{
		{&a.last, "SELECT seq, hash FROM audit_head"},
		{&a.serial, "SELECT kind FROM audit WHERE serial = ? ORDER BY seq"},
		{&a.token, "SELECT key FROM token WHERE hash = ?"},
		{&a.insert, insertAuditRow},
		{&a.claim, "INSERT INTO token (hash, key, expiry) VALUES (?, ?, ?)"},
		{&a.forget, "DELETE FROM token WHERE hash IN (SELECT hash FROM token WHERE expiry < ? LIMIT ?)"},
		{&a.head, "UPDATE audit_head SET seq = ?, hash = ?"},
	} {
		var err error
		if *s.to, err = d.write.Prepare(s.text); err != nil {
			d.close()
			return nil, fmt.Errorf("opening audit log %s: %w", path, err)
		}
	}
	a.Queue = audit.NewQueue(a.commit)
	return a, nil
}

// commit writes a batch in one transaction. After the commit the rows are
// safe. A row that cannot be placed gets an error of its own.
func (a *Audit) commit(batch []*audit.Row) error {
	if err := failpoint.Hit(failpoint.AuditRecord, a.path); err != nil {
		return err
	}
	tx, err := a.db.write.Begin() // immediate: nobody else writes from here on
	if err != nil {
		return err
	}
	defer tx.Rollback()
	ledger, err := a.ledger(tx, batch)
	if err != nil {
		return err
	}
	seq := ledger.Seq
	placed, claims := ledger.Place(batch)
	if len(placed) == 0 {
		return nil
	}
	if err := a.write(tx, seq, placed, claims); err != nil {
		return err
	}
	if _, err := tx.Stmt(a.head).Exec(ledger.Seq, ledger.Head[:]); err != nil {
		return err
	}
	if err := failpoint.Hit(failpoint.AuditCommit, a.path); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	a.db.wrote(int64(len(batch)) * rowBytes / 2)
	return failpoint.Hit(failpoint.AuditCommitted, a.path)
}

// ledger reads what decides about the rows of a batch.
func (a *Audit) ledger(tx *sql.Tx, batch []*audit.Row) (*audit.Ledger, error) {
	l := &audit.Ledger{Rows: map[string][]*audit.Row{}, Claims: map[[32]byte][32]byte{}}
	var hash []byte
	if err := tx.Stmt(a.last).QueryRow().Scan(&l.Seq, &hash); err != nil {
		return nil, fmt.Errorf("reading the head of the audit log: %w", err)
	}
	if len(hash) != len(l.Head) {
		return nil, fmt.Errorf("the head of the audit log has a hash of %d bytes", len(hash))
	}
	l.Head = audit.Hash(hash)
	serial := tx.Stmt(a.serial)
	for _, row := range batch {
		if _, ok := l.Rows[row.Serial]; !ok {
			var err error
			if l.Rows[row.Serial], err = rowsOf(serial, row.Serial); err != nil {
				return nil, err
			}
		}
		if c := row.Claim; c != nil {
			var key []byte
			switch err := tx.Stmt(a.token).QueryRow(c.Token[:]).Scan(&key); {
			case errors.Is(err, sql.ErrNoRows):
			case err != nil:
				return nil, err
			case len(key) != len(c.Key):
				return nil, fmt.Errorf("a claim of a token has a key hash of %d bytes", len(key))
			default:
				l.Claims[c.Token] = [32]byte(key)
			}
		}
	}
	return l, nil
}

// rowsOf returns the kinds of the rows with a serial.
func rowsOf(stmt *sql.Stmt, serial string) ([]*audit.Row, error) {
	found, err := stmt.Query(serial)
	if err != nil {
		return nil, err
	}
	defer found.Close()
	var rows []*audit.Row
	for found.Next() {
		row := &audit.Row{Serial: serial}
		if err := found.Scan(&row.Kind); err != nil {
			return nil, err
		}
		rows = append(rows, row)
	}
	return rows, found.Err()
}

// write writes rows behind seq and claims, and forgets claims that have expired.
func (a *Audit) write(tx *sql.Tx, seq int64, placed []*audit.Row, claims []*audit.Claim) error {
	insert, claim := tx.Stmt(a.insert), tx.Stmt(a.claim)
	for i, row := range placed {
		if _, err := insert.Exec(seq+1+int64(i), row.At.UnixNano(), string(row.Kind), row.Serial, string(row.Record), row.Hash[:]); err != nil {
			return err
		}
	}
	for _, c := range claims {
		if _, err := claim.Exec(c.Token[:], c.Key[:], c.Expiry); err != nil {
			return err
		}
	}
	if len(claims) == 0 {
		return nil
	}
	_, err := tx.Stmt(a.forget).Exec(audit.Expired(placed[len(placed)-1].At), audit.MaxForget)
	return err
}

// Ready says whether the file can be read.
func (a *Audit) Ready(ctx context.Context) error {
	var n int64
	return a.db.read.QueryRowContext(ctx, "SELECT count(*) FROM (SELECT 1 FROM audit LIMIT 1)").Scan(&n)
}

// Records calls f with each row, in the order of the chain, until f returns an
// error.
func (a *Audit) Records(ctx context.Context, f func(audit.Row) error) error {
	rows, err := a.db.read.QueryContext(ctx, "SELECT time, kind, serial, record, hash FROM audit ORDER BY seq")
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var row audit.Row
		var nanos int64
		var hash []byte
		if err := rows.Scan(&nanos, &row.Kind, &row.Serial, &row.Record, &hash); err != nil {
			return err
		}
		if len(hash) != len(row.Hash) {
			return fmt.Errorf("the audit row with serial %s has a hash of %d bytes", row.Serial, len(hash))
		}
		row.At, row.Hash = time.Unix(0, nanos).UTC(), audit.Hash(hash)
		if err := f(row); err != nil {
			return err
		}
	}
	return rows.Err()
}

// Claims calls f with each claim of a token, in the order of the tokens' hashes,
// until f returns an error.
func (a *Audit) Claims(ctx context.Context, f func(audit.Claim) error) error {
	rows, err := a.db.read.QueryContext(ctx, "SELECT hash, key, expiry FROM token ORDER BY hash")
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var token, key []byte
		var c audit.Claim
		if err := rows.Scan(&token, &key, &c.Expiry); err != nil {
			return err
		}
		if len(token) != len(c.Token) || len(key) != len(c.Key) {
			return fmt.Errorf("a claim of a token has hashes of %d and %d bytes", len(token), len(key))
		}
		c.Token, c.Key = [32]byte(token), [32]byte(key)
		if err := f(c); err != nil {
			return err
		}
	}
	return rows.Err()
}

// ImportClaims adds claims that another storage has, in one transaction. One that
// is there already stays.
func (a *Audit) ImportClaims(ctx context.Context, claims []audit.Claim) error {
	tx, err := a.db.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	for _, c := range claims {
		if _, err := tx.Exec("INSERT INTO token (hash, key, expiry) VALUES (?, ?, ?) ON CONFLICT (hash) DO NOTHING", c.Token[:], c.Key[:], c.Expiry); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// Close closes the file. A row that waits is answered with an error.
func (a *Audit) Close() error {
	a.Queue.Close()
	return a.db.close()
}
