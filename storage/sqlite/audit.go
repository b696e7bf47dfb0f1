package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/sigstack/sigstack/tlog/failpoint"
)

// An Audit is the audit log of the CA: one row for each certificate.
type Audit struct {
	db     *db
	insert *sql.Stmt
}

// OpenAudit opens an audit log, or makes it.
func OpenAudit(path string) (*Audit, error) {
	d, err := openDB(path, auditSchema)
	if err != nil {
		return nil, fmt.Errorf("opening audit log: %w", err)
	}
	insert, err := d.write.Prepare("INSERT INTO audit (time, serial, record) VALUES (?, ?, ?)")
	if err != nil {
		d.close()
		return nil, fmt.Errorf("opening audit log %s: %w", path, err)
	}
	return &Audit{db: d, insert: insert}, nil
}

// Add appends a row; it is durable on return. A serial that is there already
// is an error.
func (a *Audit) Add(ctx context.Context, at time.Time, serial string, record []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := failpoint.Hit(failpoint.AuditRecord); err != nil {
		return err
	}
	_, err := a.insert.Exec(at.UnixNano(), serial, string(record))
	return err
}

// Ready says whether the file can be read.
func (a *Audit) Ready(ctx context.Context) error {
	var n int64
	return a.db.read.QueryRowContext(ctx, "SELECT count(*) FROM (SELECT 1 FROM audit LIMIT 1)").Scan(&n)
}

// Records calls f with each record, oldest first, until f returns an error.
func (a *Audit) Records(ctx context.Context, f func(serial string, record []byte) error) error {
	rows, err := a.db.read.QueryContext(ctx, "SELECT serial, record FROM audit ORDER BY seq")
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var serial, record string
		if err := rows.Scan(&serial, &record); err != nil {
			return err
		}
		if err := f(serial, []byte(record)); err != nil {
			return err
		}
	}
	return rows.Err()
}

// Close closes the file.
func (a *Audit) Close() error { return a.db.close() }
