package mysql

import (
	"context"
	"fmt"
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

// An Audit is the audit log of the CA: one row for each certificate, whichever
// replica issued it. It is safe for concurrent use; rows that arrive while a
// transaction is being written go into the next one together.
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

// commit writes a batch. A row whose serial is known gets an error of its own.
// When another replica took a serial in between, or the connection was lost,
// it looks at what is there and goes on: a row that is there word for word
// after a commit whose outcome is unknown is ours.
func (a *Audit) commit(batch []*audit.Row) error {
	if err := failpoint.Hit(failpoint.AuditRecord, auditPath); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var rows []*audit.Row
	first := map[string]bool{}
	for _, row := range batch {
		if first[row.Serial] {
			row.Err = audit.ErrSerial
			continue
		}
		first[row.Serial] = true
		rows = append(rows, row)
	}
	var conflicts, failures int
	for unknown := false; ; {
		began := time.Now()
		err := a.insert(ctx, rows, unknown)
		if err == nil {
			return failpoint.Hit(failpoint.AuditCommitted, auditPath)
		}
		if isError(err, errDuplicate, errDeadlock, errLockTimeout) {
			conflicts++
		} else {
			failures++
			unknown = true
		}
		if conflicts == maxConflicts || failures == maxFailures || inVain(err, began) {
			return err
		}
	}
}

// insert writes the rows that are not there, in one transaction.
func (a *Audit) insert(ctx context.Context, rows []*audit.Row, unknown bool) error {
	tx, err := a.db.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	serials := make([]any, len(rows))
	for i, row := range rows {
		serials[i] = []byte(row.Serial)
	}
	found, err := tx.QueryContext(ctx, "SELECT serial, time, record FROM sigstack_audit WHERE serial IN (?"+strings.Repeat(",?", len(rows)-1)+")", serials...)
	if err != nil {
		return fmt.Errorf("looking up serials: %w", err)
	}
	defer found.Close()
	there := map[string]audit.Row{}
	for found.Next() {
		var serial string
		var nanos int64
		var record []byte
		if err := found.Scan(&serial, &nanos, &record); err != nil {
			return err
		}
		there[serial] = audit.Row{At: time.Unix(0, nanos), Record: record}
	}
	if err := found.Err(); err != nil {
		return fmt.Errorf("looking up serials: %w", err)
	}
	var args []any
	for _, row := range rows {
		was, ok := there[row.Serial]
		if !ok {
			args = append(args, row.At.UnixNano(), []byte(row.Serial), row.Record)
		} else if !unknown || !was.At.Equal(row.At) || string(was.Record) != string(row.Record) {
			row.Err = audit.ErrSerial
		}
	}
	if len(args) == 0 {
		return nil
	}
	if _, err := tx.ExecContext(ctx, "INSERT INTO sigstack_audit (time, serial, record) VALUES (?,?,?)"+strings.Repeat(",(?,?,?)", len(args)/3-1), args...); err != nil {
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

// Ready says whether the rows can be read.
func (a *Audit) Ready(ctx context.Context) error {
	var n int64
	return a.db.read.QueryRowContext(ctx, "SELECT COUNT(*) FROM (SELECT 1 FROM sigstack_audit LIMIT 1) t").Scan(&n)
}

// Records calls f with each record, oldest first, until f returns an error.
func (a *Audit) Records(ctx context.Context, f func(at time.Time, serial string, record []byte) error) error {
	for seq := int64(0); ; {
		n, err := a.page(ctx, &seq, f)
		if err != nil || n < auditPage {
			return err
		}
	}
}

// page calls f with the rows after seq, and moves seq.
func (a *Audit) page(ctx context.Context, seq *int64, f func(at time.Time, serial string, record []byte) error) (n int, err error) {
	rows, err := a.db.read.QueryContext(ctx, "SELECT seq, time, serial, record FROM sigstack_audit WHERE seq > ? ORDER BY seq LIMIT ?", *seq, auditPage)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	for ; rows.Next(); n++ {
		var nanos int64
		var serial string
		var record []byte
		if err := rows.Scan(seq, &nanos, &serial, &record); err != nil {
			return n, err
		}
		if err := f(time.Unix(0, nanos).UTC(), serial, record); err != nil {
			return n, err
		}
	}
	return n, rows.Err()
}

// Close ends the goroutine that writes. A row that waits is answered with an
// error.
func (a *Audit) Close() error {
	a.Queue.Close()
	return nil
}
