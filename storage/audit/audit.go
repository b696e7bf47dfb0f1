// Package audit is what the audit logs of all storages do in one way: what a row
// is, how rows are chained, which row may follow which, and that rows which arrive
// while a transaction is being written go into the next one together, so that many
// certificates share one commit. How a batch of rows is made durable is the
// storage's own.
//
// # Rows
//
// Before a CA signs anything with a serial number, a row of the kind Intended
// says what it is about to sign, for whom and upon which claims. What came of it
// says a second row, Issued or Failed. An Intended with nothing behind it means
// that the process ended in between, or that the storage did: the certificate may
// exist, and was not handed out. A serial number that is there already is refused,
// and so nothing is signed with it.
//
// # The chain
//
// Each row has a hash over the one of the row before it and its own bytes, so that
// whoever knows the hash of the last row knows all of them: none can be changed,
// removed or moved without another last hash. It is SHA-256 of
//
//	"sigstack audit row, version 1\n"      30 bytes
//	the hash of the row before             32 bytes; zeros before the first one
//	its time in nanoseconds since 1970     8 bytes, two's complement
//	the length of its kind, and its kind
//	the length of its serial, and its serial
//	the length of its record, and its record
//
// where a number is big-endian and a length has four bytes. The order is that of
// the column seq. The last row's seq and hash stand in a row of their own, the
// head, which every transaction locks first: the chain is one across batches,
// restarts and replicas.
//
// # Claims of tokens
//
// A token of an issuer that wants it is good for one key. A row of Intended then
// brings a Claim, which is written in its transaction: a token that was claimed
// for another key refuses the row. Claims that are no longer needed are removed in
// the transactions that happen anyway.
package audit

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"
)

// Bounds of one batch: a batch is whatever arrived while the batch before it was
// being written, up to these.
const (
	MaxRows  = 500
	MaxBytes = 4 << 20
)

// MaxRecord is the largest record in bytes. The claims of a token have at most 12
// KiB, and the names that a certificate takes from them at most 4 KiB each, which
// JSON may double.
const MaxRecord = 64 << 10

// maxFailing is when a batch that fails has kept others waiting for a storage
// that does not answer. They are told with it, and do not wait for it anew.
const maxFailing = time.Second

var (
	// ErrSerial: there is a row with the same serial.
	ErrSerial = errors.New("the audit log has a row with this serial already")

	// ErrNotIntended: a row says what came of a serial that nobody intended.
	ErrNotIntended = errors.New("the audit log has no row that intends this serial")

	// ErrTokenUsed: the token of a claim was used for another key.
	ErrTokenUsed = errors.New("the token was used for another key")

	errClosed = errors.New("the audit log is closed")
)

// A Queue has one goroutine commit rows, a batch at a time. It is safe for
// concurrent use.
type Queue struct {
	commit func([]*Row) error
	rows   chan *Row
	quit   chan struct{} // closed by Close
	once   sync.Once     // for Close
	done   chan struct{} // closed when the goroutine has ended
}

// NewQueue returns a queue whose rows commit makes durable, all that get no Err
// of their own, or none and an error. It is called by one goroutine at a time.
func NewQueue(commit func([]*Row) error) *Queue {
	q := &Queue{commit: commit, rows: make(chan *Row, MaxRows), quit: make(chan struct{}), done: make(chan struct{})}
	go q.run()
	return q
}

// Add appends a row; it is durable on return. When ctx ends first, the row may or
// may not be there.
func (q *Queue) Add(ctx context.Context, row Row) error {
	return q.AddAll(ctx, []Row{row})
}

// Note appends a row that nobody waits for. It is lost where the queue is full,
// and where the process or the storage ends before it is durable.
func (q *Queue) Note(row Row) {
	if row.bound() != nil {
		return
	}
	select {
	case q.rows <- &row:
	default:
	}
}

// AddAll appends rows in their order; all are durable on return without error.
func (q *Queue) AddAll(ctx context.Context, rows []Row) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	for i := range rows {
		if err := rows[i].bound(); err != nil {
			return err
		}
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

// bound refuses a record that is too large.
func (r *Row) bound() error {
	if len(r.Record) > MaxRecord {
		return fmt.Errorf("an audit row of %d bytes: at most %d are kept", len(r.Record), MaxRecord)
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
		// Whoever can run now may be about to add a row (see tlog.Log).
		runtime.Gosched()
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
			if row.done != nil {
				close(row.done)
			}
		}
	}
}

// Close ends the goroutine, after the batch that it writes. A row that waits is
// answered with an error. It may be called again.
func (q *Queue) Close() {
	q.once.Do(func() { close(q.quit) })
	<-q.done
}
