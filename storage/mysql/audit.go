package mysql

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/sigstack/sigstack/storage/audit"
	"github.com/sigstack/sigstack/tlog/failpoint"
)

const (
	// auditPage is how many rows are read at once.
	auditPage = 500

	auditPath = "mysql/audit/rows" // for failpoints
)

// An Audit is the audit log of the CA, as package audit describes it, whichever
// replica issued a certificate. It is safe for concurrent use; rows that arrive
// while a transaction is being written go into the next one together.
type Audit struct {
	*audit.Queue
	db *DB
}

// Audit opens the audit log.
func (d *DB) Audit() *Audit {
	a := &Audit{db: d}
	a.Queue = audit.NewQueue(a.commit)
	return a
}

// commit writes a batch. A row that cannot be placed gets an error of its own.
// When another replica was in the way, or the connection was lost, it looks at
// what is there and goes on: a row that is there word for word after a commit
// whose outcome is unknown is ours.
func (a *Audit) commit(batch []*audit.Row) error {
	if err := failpoint.Hit(failpoint.AuditRecord, auditPath); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var conflicts, failures int
	for unknown := false; ; {
		trying, tried := newAttempt(ctx)
		err := a.place(trying, batch, unknown)
		if err == nil {
			return failpoint.Hit(failpoint.AuditCommitted, auditPath)
		}
		if isConflict(err) {
			conflicts++
		} else {
			failures++
			unknown = true
		}
		if conflicts == maxConflicts || failures == maxFailures || tried.vain(err) {
			return err
		}
	}
}

// place writes the rows that are to be written, in one transaction. It takes four
// round trips. The transaction begins with a lock on the head: no other replica
// writes rows until its end.
func (a *Audit) place(ctx context.Context, batch []*audit.Row, unknown bool) error {
	tx, err := a.db.write.BeginTx(opening(ctx, []request{{{text: "SELECT seq FROM sigstack_audit_head FOR UPDATE"}}}), nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	ledger, err := a.ledger(ctx, tx, batch, unknown)
	if err != nil {
		return fmt.Errorf("reading the audit log: %w", err)
	}
	seq := ledger.Seq
	placed, claims := ledger.Place(batch)
	if len(placed) == 0 {
		return nil
	}
	if err := writeAudit(ctx, tx, seq, placed, claims); err != nil {
		return fmt.Errorf("inserting audit rows: %w", err)
	}
	if err := failpoint.Hit(failpoint.AuditCommit, auditPath); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("committing: %w", err)
	}
	return nil
}

// ledger reads what decides about a batch, by one statement.
func (a *Audit) ledger(ctx context.Context, tx *sql.Tx, batch []*audit.Row, unknown bool) (*audit.Ledger, error) {
	record := "''" // of use only where it is compared
	if unknown {
		record = "record"
	}
	serials, tokens := make([]any, 0, len(batch)), []any{[]byte{}} // no list is empty
	for _, row := range batch {
		serials = append(serials, []byte(row.Serial))
		if c := row.Claim; c != nil {
			tokens = append(tokens, c.Token[:])
		}
	}
	found, err := tx.QueryContext(ctx, "SELECT 'head', seq, 0, hash, '', '' FROM sigstack_audit_head"+
		" UNION ALL SELECT 'row', seq, time, serial, kind, "+record+" FROM sigstack_audit_row WHERE serial IN ("+questions(len(serials))+")"+
		" UNION ALL SELECT 'token', 0, 0, hash, spki, '' FROM sigstack_token WHERE hash IN ("+questions(len(tokens))+") ORDER BY seq", append(serials, tokens...)...)
	if err != nil {
		return nil, err
	}
	defer found.Close()
	l := &audit.Ledger{Rows: map[string][]*audit.Row{}, Claims: map[[32]byte][32]byte{}, Unknown: unknown}
	heads := 0
	for found.Next() {
		var what string
		var seq, nanos int64
		var first, second, third []byte
		if err := found.Scan(&what, &seq, &nanos, &first, &second, &third); err != nil {
			return nil, err
		}
		switch what {
		case "head":
			heads++
			l.Seq = seq
			if l.Head, err = auditHash(first); err != nil {
				return nil, err
			}
		case "row":
			row := &audit.Row{Serial: string(first), Kind: audit.Kind(second), At: time.Unix(0, nanos), Record: third}
			l.Rows[row.Serial] = append(l.Rows[row.Serial], row)
		case "token":
			c, err := claimOf(first, second)
			if err != nil {
				return nil, err
			}
			l.Claims[c.Token] = c.Key
		}
	}
	if err := found.Err(); err != nil {
		return nil, err
	}
	if heads != 1 {
		return nil, fmt.Errorf("it has %d heads", heads)
	}
	return l, nil
}

// questions is a list of n question marks.
func questions(n int) string { return "?" + strings.Repeat(",?", n-1) }

func auditHash(b []byte) (audit.Hash, error) {
	if len(b) != len(audit.Hash{}) {
		return audit.Hash{}, fmt.Errorf("it has a hash of %d bytes", len(b))
	}
	return audit.Hash(b), nil
}

func claimOf(token, key []byte) (c audit.Claim, err error) {
	if len(token) != len(c.Token) || len(key) != len(c.Key) {
		return c, fmt.Errorf("a claim of a token has hashes of %d and %d bytes", len(token), len(key))
	}
	c.Token, c.Key = [32]byte(token), [32]byte(key)
	return c, nil
}

// writeAudit writes rows behind seq, the head and claims, and forgets claims that
// have expired.
func writeAudit(ctx context.Context, tx *sql.Tx, seq int64, placed []*audit.Row, claims []*audit.Claim) error {
	var r request
	var rows []any
	for i, row := range placed {
		rows = append(rows, seq+1+int64(i), row.At.UnixNano(), []byte(row.Kind), []byte(row.Serial), row.Record, row.Hash[:])
	}
	r.insert("sigstack_audit_row (seq, time, kind, serial, record, hash)", "(?,?,?,?,?,?)", "", rows)
	last := placed[len(placed)-1]
	if len(claims) > 0 {
		var values []any
		for _, c := range claims {
			values = append(values, c.Token[:], c.Key[:], c.Expiry)
		}
		r.insert("sigstack_token (hash, spki, expiry)", "(?,?,?)", "", values)
		r.add("DELETE FROM sigstack_token WHERE expiry < ? ORDER BY expiry LIMIT ?", audit.Expired(last.At), int64(audit.MaxForget))
	}
	_, err := tx.ExecContext(preceded(ctx, []request{r}), "UPDATE sigstack_audit_head SET seq = ?, hash = ?", seq+int64(len(placed)), last.Hash[:])
	return err
}

// Ready says whether the rows can be read.
func (a *Audit) Ready(ctx context.Context) error {
	var n int64
	return a.db.read.QueryRowContext(ctx, "SELECT COUNT(*) FROM (SELECT 1 FROM sigstack_audit_row LIMIT 1) t").Scan(&n)
}

// Records calls f with each row, in the order of the chain, until f returns an
// error.
func (a *Audit) Records(ctx context.Context, f func(audit.Row) error) error {
	for seq := int64(math.MinInt64); ; {
		n, err := a.page(ctx, &seq, f)
		if err != nil || n < auditPage {
			return err
		}
	}
}

// page calls f with the rows after seq, and moves seq.
func (a *Audit) page(ctx context.Context, seq *int64, f func(audit.Row) error) (n int, err error) {
	rows, err := a.db.read.QueryContext(ctx, "SELECT seq, time, kind, serial, record, hash FROM sigstack_audit_row WHERE seq > ? ORDER BY seq LIMIT ?", *seq, auditPage)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	for ; rows.Next(); n++ {
		var row audit.Row
		var nanos int64
		var hash []byte
		if err := rows.Scan(seq, &nanos, &row.Kind, &row.Serial, &row.Record, &hash); err != nil {
			return n, err
		}
		row.At = time.Unix(0, nanos).UTC()
		if row.Hash, err = auditHash(hash); err != nil {
			return n, fmt.Errorf("audit row %d: %w", *seq, err)
		}
		if err := f(row); err != nil {
			return n, err
		}
	}
	return n, rows.Err()
}

// Claims calls f with each claim of a token, in the order of the tokens' hashes,
// until f returns an error.
func (a *Audit) Claims(ctx context.Context, f func(audit.Claim) error) error {
	rows, err := a.db.read.QueryContext(ctx, "SELECT hash, spki, expiry FROM sigstack_token ORDER BY hash")
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var token, key []byte
		var expiry int64
		if err := rows.Scan(&token, &key, &expiry); err != nil {
			return err
		}
		c, err := claimOf(token, key)
		if err != nil {
			return err
		}
		c.Expiry = expiry
		if err := f(c); err != nil {
			return err
		}
	}
	return rows.Err()
}

// ImportClaims adds claims that another storage has, in one transaction. One that
// is there already stays.
func (a *Audit) ImportClaims(ctx context.Context, claims []audit.Claim) error {
	if len(claims) == 0 {
		return nil
	}
	var args []any
	for _, c := range claims {
		args = append(args, c.Token[:], c.Key[:], c.Expiry)
	}
	_, err := a.db.write.ExecContext(ctx, "INSERT IGNORE INTO sigstack_token (hash, spki, expiry) VALUES (?,?,?)"+strings.Repeat(",(?,?,?)", len(claims)-1), args...)
	return err
}

// Close ends the goroutine that writes. A row that waits is answered with an
// error.
func (a *Audit) Close() error {
	a.Queue.Close()
	return nil
}
