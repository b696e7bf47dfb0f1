package transfer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/sigstack/sigstack/storage/audit"
)

// An AuditSource is an audit log that is copied.
type AuditSource interface {
	// Records calls f with each row, oldest first, until f returns an error.
	Records(ctx context.Context, f func(at time.Time, serial string, record []byte) error) error
}

// An AuditTarget is an audit log that becomes a copy.
type AuditTarget interface {
	AuditSource

	// AddAll appends rows in their order, durably.
	AddAll(ctx context.Context, rows []audit.Row) error
}

// Audit copies the rows that the target lacks, in their order. Those that it has
// must be the first ones of the source.
func Audit(ctx context.Context, from AuditSource, to AuditTarget) error {
	var batch []audit.Row
	size := 0
	flush := func() error {
		err := to.AddAll(ctx, batch)
		batch, size = nil, 0
		return err
	}
	_, err := eachRow(ctx, from, to, func(n uint64, row audit.Row, there bool) error {
		if there {
			return nil
		}
		batch = append(batch, row)
		if size += len(row.Record); len(batch) < audit.MaxRows && size < audit.MaxBytes {
			return nil
		}
		return flush()
	})
	if err == nil && len(batch) > 0 {
		err = flush()
	}
	return err
}

// CompareAudit returns how many rows both sides have, and an error unless they
// are equal.
func CompareAudit(ctx context.Context, from, to AuditSource) (uint64, error) {
	return eachRow(ctx, from, to, func(n uint64, _ audit.Row, there bool) error {
		if !there {
			return fmt.Errorf("the target lacks row %d of the audit log", n)
		}
		return nil
	})
}

// eachRow calls f with each row of the source, and whether the target has it. A
// row of the target that differs, or that the source does not have, is an error.
func eachRow(ctx context.Context, from, to AuditSource, f func(n uint64, row audit.Row, there bool) error) (n uint64, err error) {
	theirs, failed := rows(ctx, from)
	ours, oursFailed := rows(ctx, to)
	next, stop := iter.Pull(ours)
	defer stop()
	ended := false
	for row := range theirs {
		var had audit.Row
		if !ended {
			var ok bool
			had, ok = next()
			ended = !ok
		}
		if err := oursFailed(); err != nil {
			return n, fmt.Errorf("reading the audit log of the target: %w", err)
		}
		if !ended && (!had.At.Equal(row.At) || had.Serial != row.Serial || !bytes.Equal(had.Record, row.Record)) {
			return n, fmt.Errorf("row %d of the audit log of the target, with serial %s, is not the source's, with serial %s", n, had.Serial, row.Serial)
		}
		if err := f(n, row, !ended); err != nil {
			return n, err
		}
		n++
	}
	if err := failed(); err != nil {
		return n, fmt.Errorf("reading the audit log of the source: %w", err)
	}
	if !ended {
		if had, ok := next(); ok {
			return n, fmt.Errorf("the audit log of the target has a row %d, with serial %s, and the source has not", n, had.Serial)
		}
	}
	return n, nil
}

// errEnough ends Records.
var errEnough = errors.New("enough")

// rows returns the rows of an audit log, and after the last one what went wrong.
func rows(ctx context.Context, from AuditSource) (seq iter.Seq[audit.Row], failed func() error) {
	var err error
	return func(yield func(audit.Row) bool) {
		err = from.Records(ctx, func(at time.Time, serial string, record []byte) error {
			if !yield(audit.Row{At: at, Serial: serial, Record: record}) {
				return errEnough
			}
			return nil
		})
		if errors.Is(err, errEnough) {
			err = nil
		}
	}, func() error { return err }
}
