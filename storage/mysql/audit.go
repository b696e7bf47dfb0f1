package mysql

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sigstack/sigstack/tlog/failpoint"
)

const (
	// maxAuditBatch and maxAuditBytes bound the rows of one transaction.
	maxAuditBatch = 500
	maxAuditBytes = 4 << 20

	// auditPage is how many rows are read at once.
	auditPage = 500

	auditPath = "mysql/audit/rows" // for failpoints
)

// An Audit is the audit log of the CA: one row for each certificate, whichever
// replica issued it. It is safe for concurrent use; rows that arrive while a
// transaction is being written go into the next one together.
type Audit struct {
	db    *DB
	queue chan *auditRow
	quit  chan struct{}
	done  chan struct{}
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

// Audit opens the audit log.
func (d *DB) Audit() *Audit {
	a := &Audit{db: d, queue: make(chan *auditRow, maxAuditBatch), quit: make(chan struct{}), done: make(chan struct{})}
	go a.run()
	return a
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
		bytes := 0
		take := func(row *auditRow) {
			batch = append(batch, row)
			bytes += len(row.record)
		}
		select {
		case row := <-a.queue:
			take(row)
		case <-a.quit:
			return
		}
	collect:
		for len(batch) < maxAuditBatch && bytes < maxAuditBytes {
			select {
			case row := <-a.queue:
				take(row)
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

// commit writes a batch. A row whose serial is known gets an error of its own.
// When another replica took a serial in between, or the connection was lost,
// it looks at what is there and goes on: a row that is there word for word
// after a commit whose outcome is unknown is ours.
func (a *Audit) commit(batch []*auditRow) error {
	if err := failpoint.Hit(failpoint.AuditRecord, auditPath); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var rows []*auditRow
	first := map[string]bool{}
	for _, row := range batch {
		if first[row.serial] {
			row.err = errSerial
			continue
		}
		first[row.serial] = true
		rows = append(rows, row)
	}
	var conflicts, failures int
	for unknown := false; ; {
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
		if conflicts == maxConflicts || failures == maxFailures {
			return err
		}
	}
}

// insert writes the rows that are not there, in one transaction.
func (a *Audit) insert(ctx context.Context, rows []*auditRow, unknown bool) error {
	tx, err := a.db.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	serials := make([]any, len(rows))
	for i, row := range rows {
		serials[i] = []byte(row.serial)
	}
	found, err := tx.QueryContext(ctx, "SELECT serial, time, record FROM sigstack_audit WHERE serial IN (?"+strings.Repeat(",?", len(rows)-1)+")", serials...)
	if err != nil {
		return fmt.Errorf("looking up serials: %w", err)
	}
	defer found.Close()
	there := map[string]auditRow{}
	for found.Next() {
		var serial string
		var nanos int64
		var record []byte
		if err := found.Scan(&serial, &nanos, &record); err != nil {
			return err
		}
		there[serial] = auditRow{at: time.Unix(0, nanos), record: record}
	}
	if err := found.Err(); err != nil {
		return fmt.Errorf("looking up serials: %w", err)
	}
	var args []any
	for _, row := range rows {
		was, ok := there[row.serial]
		if !ok {
			args = append(args, row.at.UnixNano(), []byte(row.serial), row.record)
		} else if !unknown || !was.at.Equal(row.at) || string(was.record) != string(row.record) {
			row.err = errSerial
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
func (a *Audit) Records(ctx context.Context, f func(serial string, record []byte) error) error {
	for seq := int64(0); ; {
		n, err := a.page(ctx, &seq, f)
		if err != nil || n < auditPage {
			return err
		}
	}
}

// page calls f with the rows after seq, and moves seq.
func (a *Audit) page(ctx context.Context, seq *int64, f func(serial string, record []byte) error) (n int, err error) {
	rows, err := a.db.read.QueryContext(ctx, "SELECT seq, serial, record FROM sigstack_audit WHERE seq > ? ORDER BY seq LIMIT ?", *seq, auditPage)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	for ; rows.Next(); n++ {
		var serial string
		var record []byte
		if err := rows.Scan(seq, &serial, &record); err != nil {
			return n, err
		}
		if err := f(serial, record); err != nil {
			return n, err
		}
	}
	return n, rows.Err()
}

// Close ends the goroutine that writes. A row that waits is answered with an
// error.
func (a *Audit) Close() error {
	close(a.quit)
	<-a.done
	return nil
}
