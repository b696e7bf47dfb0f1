package transfer

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/sigstack/sigstack/storage/audit"
)

// An AuditSource is an audit log that is copied.
type AuditSource interface {
	// Records calls f with each row, in the order of the chain, until f returns
	// an error.
	Records(ctx context.Context, f func(audit.Row) error) error

	// Claims calls f with each claim of a token, in the order of the tokens'
	// hashes, until f returns an error.
	Claims(ctx context.Context, f func(audit.Claim) error) error
}

// An AuditTarget is an audit log that becomes a copy.
type AuditTarget interface {
	AuditSource

	// AddAll appends rows in their order, durably.
	AddAll(ctx context.Context, rows []audit.Row) error

	// ImportClaims adds claims, durably. One that is there stays.
	ImportClaims(ctx context.Context, claims []audit.Claim) error
}

// Audit copies the claims of tokens, and the rows that the target lacks, in their
// order. Those that it has must be the first ones of the source. The same rows in
// the same order have the same hashes.
func Audit(ctx context.Context, from AuditSource, to AuditTarget) error {
	if err := copyClaims(ctx, from, to); err != nil {
		return err
	}
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

// copyClaims copies the claims of tokens.
func copyClaims(ctx context.Context, from AuditSource, to AuditTarget) error {
	var batch []audit.Claim
	err := from.Claims(ctx, func(c audit.Claim) error {
		if batch = append(batch, c); len(batch) < audit.MaxRows {
			return nil
		}
		err := to.ImportClaims(ctx, batch)
		batch = nil
		return err
	})
	if err == nil {
		err = to.ImportClaims(ctx, batch)
	}
	return err
}

// An AuditResult is what two equal audit logs have.
type AuditResult struct {
	Rows   uint64
	Head   audit.Hash // of the chain
	Claims uint64
}

// CompareAudit returns what both sides have, and an error unless they are equal.
func CompareAudit(ctx context.Context, from, to AuditSource) (r AuditResult, err error) {
	r.Rows, err = eachRow(ctx, from, to, func(n uint64, row audit.Row, there bool) error {
		if !there {
			return fmt.Errorf("the target lacks row %d of the audit log", n)
		}
		r.Head = row.Hash
		return nil
	})
	if err == nil {
		r.Claims, err = sameClaims(ctx, from, to)
	}
	return r, err
}

// sameClaims compares the claims of both sides, and returns how many there are.
func sameClaims(ctx context.Context, from, to AuditSource) (n uint64, err error) {
	theirs, failed := each(ctx, from.Claims)
	ours, oursFailed := each(ctx, to.Claims)
	next, stop := iter.Pull(ours)
	defer stop()
	for c := range theirs {
		had, ok := next()
		if !ok || had != c {
			return n, cmp.Or(oursFailed(), fmt.Errorf("the target lacks the claim of token %x, or has another one in its place", c.Token))
		}
		n++
	}
	if _, ok := next(); ok {
		return n, cmp.Or(failed(), errors.New("the target has more claims of tokens than the source"))
	}
	return n, cmp.Or(failed(), oursFailed())
}

// eachRow calls f with each row of the source, and whether the target has it. A
// row of the target that differs, or that the source does not have, is an error.
func eachRow(ctx context.Context, from, to AuditSource, f func(n uint64, row audit.Row, there bool) error) (n uint64, err error) {
	theirs, failed := each(ctx, from.Records)
	ours, oursFailed := each(ctx, to.Records)
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
		if !ended && (!had.At.Equal(row.At) || had.Kind != row.Kind || had.Serial != row.Serial || !bytes.Equal(had.Record, row.Record) || had.Hash != row.Hash) {
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

// errEnough ends Records and Claims.
var errEnough = errors.New("enough")

// each returns what a function calls another one with, and after the last what
// went wrong.
func each[T any](ctx context.Context, from func(context.Context, func(T) error) error) (seq iter.Seq[T], failed func() error) {
	var err error
	return func(yield func(T) bool) {
		err = from(ctx, func(v T) error {
			if !yield(v) {
				return errEnough
			}
			return nil
		})
		if errors.Is(err, errEnough) {
			err = nil
		}
	}, func() error { return err }
}
