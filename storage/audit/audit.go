// Package audit is what the audit logs of all storages do in one way: rows that
// arrive while a transaction is being written go into the next one together, so
// that many certificates share one commit. How a batch of rows is made durable
// is the storage's own.
package audit

import (
	"context"
	"errors"
	"time"
)

// Bounds of one batch: a batch is whatever arrived while the batch before it was
// being written, up to these.
const (
	MaxRows  = 500
	MaxBytes = 4 << 20
)

// maxFailing is when a batch that fails has kept others waiting for a storage
// that does not answer. They are told with it, and do not wait for it anew.
const maxFailing = time.Second

var (
	// ErrSerial: there is a row with the same serial.
	ErrSerial = errors.New("the audit log has a row with this serial already")

	errClosed = errors.New("the audit log is closed")
)

// A Row is a row that waits to be durable.
type Row struct {
	At     time.Time
	Serial string // of the certificate, lower-case hex
	Record []byte
	Err    error // what becomes of it, for the commit to set where it is its own

	done chan struct{} // closed once Err is final
}

// A Queue has one goroutine commit rows, a batch at a time. It is safe for
// concurrent use.
type Queue struct {
	commit func([]*Row) error
	rows   chan *Row
	quit   chan struct{} // closed by Close
	done   chan struct{} // closed when the goroutine has ended
}

// NewQueue returns a queue whose rows commit makes durable, all that get no Err
// of their own, or none and an error. It is called by one goroutine at a time.
func NewQueue(commit func([]*Row) error) *Queue {
	q := &Queue{commit: commit, rows: make(chan *Row, MaxRows), quit: make(chan struct{}), done: make(chan struct{})}
	go q.run()
	return q
}

// Add appends a row; it is durable on return. A serial that is there already
// is an error. When ctx ends first, the row may or may not be there.
func (q *Queue) Add(ctx context.Context, at time.Time, serial string, record []byte) error {
	return q.AddAll(ctx, []Row{{At: at, Serial: serial, Record: record}})
}

// AddAll appends rows in their order; all are durable on return without error.
func (q *Queue) AddAll(ctx context.Context, rows []Row) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	for i := range rows {
		rows[i].done = make(chan struct{})
		select {
		case q.rows <- &rows[i]:
		case <-ctx.Done():
			return ctx.Err()
		case <-q.quit:
			return errClosed
		}
	}
	for i := range rows {
		select {
		case <-rows[i].done:
			if err := rows[i].Err; err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		case <-q.done:
			return errClosed
		}
	}
	return nil
}

func (q *Queue) run() {
	defer close(q.done)
	for {
		var batch []*Row
		bytes := 0
		take := func(row *Row) {
			batch = append(batch, row)
			bytes += len(row.Record)
		}
		select {
		case row := <-q.rows:
			take(row)
		case <-q.quit:
			return
		}
	collect:
		for len(batch) < MaxRows && bytes < MaxBytes {
			select {
			case row := <-q.rows:
				take(row)
			default:
				break collect
			}
		}
		start := time.Now()
		err := q.commit(batch)
		for waits := err != nil && time.Since(start) >= maxFailing; waits; {
			select {
			case row := <-q.rows:
				take(row)
			default:
				waits = false
			}
		}
		for _, row := range batch {
			if err != nil {
				row.Err = err
			}
			close(row.done)
		}
	}
}

// Close ends the goroutine, after the batch that it writes. A row that waits is
// answered with an error.
func (q *Queue) Close() {
	close(q.quit)
	<-q.done
}
