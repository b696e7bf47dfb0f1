package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/sigstack/sigstack/tlog/failpoint"
)

// maxAuditBatch bounds the rows of one transaction.
const maxAuditBatch = 1000

// An Audit is the audit log of the CA: one row for each certificate. It is safe
// for concurrent use; rows that arrive while a transaction is being written go
// into the next one together, so that many certificates share one sync.
type Audit struct {
	db    *db
	path  string
	queue chan *auditRow
	quit  chan struct{}
	done  chan struct{}

	insert *sql.Stmt // belongs to the committing goroutine
}

// auditRow is a row that waits to be durable.
type auditRow struct {
	at     time.Time
	serial string
	record []byte
	err    error
	done   chan struct{} // closed once err is final
}

var (
	errAuditClosed = errors.New("the audit log is closed")
	errSerial      = errors.New("the audit log has a row with this serial already")
)

// OpenAudit opens an audit log, or makes it.
func OpenAudit(path string) (*Audit, error) {
	d, err := openDB(path, auditSchema)
	if err != nil {
		return nil, fmt.Errorf("opening audit log: %w", err)
	}
	insert, err := d.write.Prepare("INSERT INTO audit (time, serial, record) VALUES (?, ?, ?) ON CONFLICT (serial) DO NOTHING")
	if err != nil {
		d.close()
		return nil, fmt.Errorf("opening audit log %s: %w", path, err)
	}
	a := &Audit{db: d, path: path, insert: insert, queue: make(chan *auditRow, maxAuditBatch), quit: make(chan struct{}), done: make(chan struct{})}
	go a.run()
	return a, nil
}

// Add appends a row; it is durable on return. A serial that is there already
// is an error. When ctx ends first, the row may or may not be there.
func (a *Audit) Add(ctx context.Context, at time.Time, serial string, record []byte) error {
	row := &auditRow{at: at, serial: serial, record: record, done: make(chan struct{})}
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case a.queue <- row:
	case <-ctx.Done():
		return ctx.Err()
	case <-a.quit:
		return errAuditClosed
	}
	select {
	case <-row.done:
		return row.err
	case <-ctx.Done():
		return ctx.Err()
	case <-a.done:
		return errAuditClosed
	}
}

func (a *Audit) run() {
	defer close(a.done)
	for {
		var batch []*auditRow
		select {
		case row := <-a.queue:
			batch = append(batch, row)
		case <-a.quit:
			return
		}
	collect:
		for len(batch) < maxAuditBatch {
			select {
			case row := <-a.queue:
				batch = append(batch, row)
			default:
				break collect
			}
		}
		err := a.commit(batch)
		for _, row := range batch {
			if err != nil {
				row.err = err
			}
			close(row.done)
		}
	}
}

// commit writes a batch in one transaction. After the commit the rows are
// safe. A row whose serial is known gets an error of its own.
func (a *Audit) commit(batch []*auditRow) error {
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
		res, err := insert.Exec(row.at.UnixNano(), row.serial, string(row.record))
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil {
			return err
		} else if n == 0 {
			row.err = errSerial
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

// Close closes the file. A row that waits is answered with an error.
func (a *Audit) Close() error {
	close(a.quit)
	<-a.done
	return a.db.close()
}
