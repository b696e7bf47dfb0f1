package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/sigstack/sigstack/storage/audit"
	"github.com/sigstack/sigstack/tlog/failpoint"
)

// An Audit is the audit log of the CA: one row for each certificate. It is safe
// for concurrent use; rows that arrive while a transaction is being written go
// into the next one together, so that many certificates share one sync.
type Audit struct {
	*audit.Queue
	db   *db
	path string

	insert *sql.Stmt // belongs to commit
}

// OpenAudit opens an audit log, or makes it.
func OpenAudit(path string) (*Audit, error) {
	d, err := openDB(path, auditSchema)
	if err != nil {
		return nil, fmt.Errorf("opening audit log: %w", err)
	}
	return newAudit(d, path)
}

func newAudit(d *db, path string) (*Audit, error) {
	insert, err := d.write.Prepare("INSERT INTO audit (time, serial, record) VALUES (?, ?, ?) ON CONFLICT (serial) DO NOTHING")
	if err != nil {
		d.close()
		return nil, fmt.Errorf("opening audit log %s: %w", path, err)
	}
	a := &Audit{db: d, path: path, insert: insert}
	a.Queue = audit.NewQueue(a.commit)
	return a, nil
}

// commit writes a batch in one transaction. After the commit the rows are
// safe. A row whose serial is known gets an error of its own.
func (a *Audit) commit(batch []*audit.Row) error {
	if err := failpoint.Hit(failpoint.AuditRecord, a.path); err != nil {
		return err
	}
	tx, err := a.db.write.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback()
	insert := tx.Stmt(a.insert)
	for _, row := range batch {
		res, err := insert.Exec(row.At.UnixNano(), row.Serial, string(row.Record))
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil {
			return err
		} else if n == 0 {
			row.Err = audit.ErrSerial
		}
	}
	if err := failpoint.Hit(failpoint.AuditCommit, a.path); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	return failpoint.Hit(failpoint.AuditCommitted, a.path)
}

// Ready says whether the file can be read.
func (a *Audit) Ready(ctx context.Context) error {
	var n int64
	return a.db.read.QueryRowContext(ctx, "SELECT count(*) FROM (SELECT 1 FROM audit LIMIT 1)").Scan(&n)
}

// Records calls f with each record, oldest first, until f returns an error.
func (a *Audit) Records(ctx context.Context, f func(at time.Time, serial string, record []byte) error) error {
	rows, err := a.db.read.QueryContext(ctx, "SELECT time, serial, record FROM audit ORDER BY seq")
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var nanos int64
		var serial, record string
		if err := rows.Scan(&nanos, &serial, &record); err != nil {
			return err
		}
		if err := f(time.Unix(0, nanos).UTC(), serial, []byte(record)); err != nil {
			return err
		}
	}
	return rows.Err()
}

// Close closes the file. A row that waits is answered with an error.
func (a *Audit) Close() error {
	a.Queue.Close()
	return a.db.close()
}
