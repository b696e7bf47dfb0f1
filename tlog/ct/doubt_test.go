package ct

import (
	"context"
	"crypto"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/sigstack/sigstack/tlog"
)

// A doubtful store fails to append, or changes what lies beside the entries.
type doubtful struct {
	tlog.Store
	appendErr error
	extra     func([]byte)
}

func (s *doubtful) Append(ctx context.Context, leaves []tlog.Leaf) ([]tlog.Placed, tlog.Head, error) {
	if s.appendErr != nil {
		return nil, tlog.Head{}, s.appendErr
	}
	return s.Store.Append(ctx, leaves)
}

func (s *doubtful) Entries(ctx context.Context, begin, end uint64) ([]tlog.Entry, error) {
	entries, err := s.Store.Entries(ctx, begin, end)
	for _, e := range entries {
		if s.extra != nil {
			s.extra(e.Extra)
		}
	}
	return entries, err
}

// TestNoSCTWithoutEntry lets the store fail: what is not stored gets no SCT.
func TestNoSCTWithoutEntry(t *testing.T) {
	l := newTestLog(t)
	s := &doubtful{appendErr: errors.New("no space left on device")}
	l.wrap = func(store tlog.Store) tlog.Store { s.Store = store; return s }
	l.reopen(t)
	pre, clean := l.ca.precert(1)
	if sct, err := l.AddPreChain(t.Context(), pre.Raw, l.ca.chain()); !errors.Is(err, tlog.ErrUnavailable) || sct != nil {
		t.Fatalf("got %x, %v; want ErrUnavailable", sct, err)
	}
	s.appendErr = nil
	l.check(t, must(l.AddPreChain(t.Context(), pre.Raw, l.ca.chain())), clean.RawTBSCertificate, l.ca.inter.RawSubjectPublicKeyInfo)
}

// TestStoredSCTIsVerified flips each byte of a stored signature: the tree does
// not cover what lies beside the leaf.
func TestStoredSCTIsVerified(t *testing.T) {
	l := newTestLog(t)
	s := &doubtful{}
	l.wrap = func(store tlog.Store) tlog.Store { s.Store = store; return s }
	l.reopen(t)
	pre, _ := l.ca.precert(1)
	first := must(l.AddPreChain(t.Context(), pre.Raw, l.ca.chain()))
	for i := range 2 + 4 + 8 { // lengths, algorithms, and the beginning of the signature
		s.extra = func(b []byte) { b[i] ^= 1 }
		if sct, err := l.AddPreChain(t.Context(), pre.Raw, l.ca.chain()); !errors.Is(err, tlog.ErrIntegrity) || sct != nil {
			t.Fatalf("byte %d flipped: got %x, %v; want ErrIntegrity", i, sct, err)
		}
	}
	s.extra = nil
	if again := must(l.AddPreChain(t.Context(), pre.Raw, l.ca.chain())); string(again) != string(first) {
		t.Fatal("another SCT than the first")
	}
}

// A signer that turns the clock.
type turning struct {
	crypto.Signer
	turn func()
}

func (s *turning) Sign(r io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
	s.turn()
	return s.Signer.Sign(r, digest, o)
}

// TestHeadIsNotBeforeItsEntries sets the clock back a little after an entry got
// its timestamp, and before the store gave it its own. A process that starts
// then knows from the entries alone how late it is.
func TestHeadIsNotBeforeItsEntries(t *testing.T) {
	l := newTestLog(t)
	s := &turning{Signer: l.key, turn: func() { l.clock.Add(-int64(400 * time.Millisecond)) }}
	l.signer = s
	l.reopen(t)
	pre, clean := l.ca.precert(1)
	sct := must(l.AddPreChain(t.Context(), pre.Raw, l.ca.chain()))
	s.turn = func() {}
	l.reopen(t)
	l.check(t, sct, clean.RawTBSCertificate, l.ca.inter.RawSubjectPublicKeyInfo)
}
