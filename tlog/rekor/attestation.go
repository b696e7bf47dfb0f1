package rekor

import (
	"context"
	"crypto/sha256"
	"fmt"

	"github.com/sigstack/sigstack/tlog"
	"github.com/sigstack/sigstack/tlog/entry"
)

// keep has the attestation of an entry kept, if it is not too large: by the keeper,
// now, or with the leaf. It returns the hash of the attestation, nil where the kind
// of the entry has none.
//
// The keeper is first: an attestation without its entry is harmless, an entry that
// lacks its attestation is not.
func (l *Log) keep(ctx context.Context, s *shard, e *entry.Entry, leaf *tlog.Leaf) (*tlog.Hash, error) {
	if len(e.Attestation) == 0 {
		return nil, nil
	}
	sum := tlog.Hash(sha256.Sum256(e.Attestation))
	switch {
	case s.Attestations == nil || len(e.Attestation) > l.maxAttestation:
	case s.keeper == nil:
		leaf.Attestation = e.Attestation
	default:
		if err := s.keeper.Keep(ctx, sum, e.Attestation); err != nil {
			return nil, l.troubled(ctx, fmt.Errorf("%w: keeping an attestation: %w", tlog.ErrUnavailable, err))
		}
	}
	return &sum, nil
}

// attestation returns the attestation of an entry, nil where it has or keeps none.
// One whose bytes are not those of the entry is told of and not returned: the entry
// is as good without it.
func (l *Log) attestation(ctx context.Context, s *shard, e *LogEntry) ([]byte, error) {
	if s.Attestations == nil || e.attested == nil {
		return nil, nil
	}
	b, err := s.Attestations.Attestation(ctx, *e.attested)
	if err != nil {
		return nil, l.troubled(ctx, fmt.Errorf("%w: reading the attestation of entry %d: %w", tlog.ErrUnavailable, e.LogIndex, err))
	}
	if b == nil {
		return nil, nil
	}
	if err := (tlog.Attestation{Hash: *e.attested, Bytes: b}).Check(); err != nil {
		l.trouble(fmt.Errorf("entry %d is shown without its attestation: %w", e.LogIndex, err))
		return nil, nil
	}
	return b, nil
}

// troubled returns an error, and tells of it if it is not that nobody waits.
func (l *Log) troubled(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		l.trouble(err)
	}
	return err
}

// attested returns the hash of the attestation of a stored body, nil where its kind
// has none.
func attested(body []byte) *tlog.Hash {
	sum, ok, err := entry.Attested(body)
	if err != nil || !ok { // what is no body of ours attests nothing
		return nil
	}
	hash := tlog.Hash(sum)
	return &hash
}
