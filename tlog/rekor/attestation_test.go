package rekor

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/sigstack/sigstack/tlog"
	"github.com/sigstack/sigstack/tlog/entry"
)

// withAttestation returns an entry of a kind that keeps what was signed.
func withAttestation(n int) *entry.Entry {
	e := &entry.Entry{Attestation: fmt.Appendf(nil, "attestation %d", n)}
	e.Body = fmt.Appendf(nil, `{"apiVersion":"0.0.2","kind":"intoto","spec":{"content":{"payloadHash":{"algorithm":"sha256","value":"%x"}},"n":%d}}`,
		sha256.Sum256(e.Attestation), n)
	return e
}

// again returns the same log, which remembers none of its entries.
func (l *testLog) again(t *testing.T, change func(*Config)) *Log {
	t.Helper()
	shard := l.shard()
	shard.Attestations = l.store
	cfg := Config{Shards: []Shard{shard}, MaxAttestation: 100}
	change(&cfg)
	other, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return other
}

// keeper keeps attestations in a map, and fails with err if that is set.
type keeper struct {
	kept map[tlog.Hash][]byte
	err  error
}

func (k *keeper) Keep(_ context.Context, sum tlog.Hash, attestation []byte) error {
	if k.err == nil {
		k.kept[sum] = attestation
	}
	return k.err
}

func (k *keeper) Attestation(_ context.Context, sum tlog.Hash) ([]byte, error) {
	return k.kept[sum], k.err
}

func TestAttestationInStore(t *testing.T) {
	l, ctx := newTestLog(t), t.Context()
	log := l.again(t, func(*Config) {})
	large := withAttestation(1)
	large.Attestation = bytes.Repeat([]byte("x"), 101)
	large.Body = fmt.Appendf(nil, `{"apiVersion":"0.0.1","kind":"cose","spec":{"data":{"envelopeHash":{"algorithm":"sha256","value":"%x"}}}}`, sha256.Sum256(large.Attestation))
	for i, e := range []*entry.Entry{withAttestation(0), large, {Body: body(2)}} {
		created, err := log.Create(ctx, e)
		if err != nil {
			t.Fatal(err)
		}
		if created.Attestation != nil {
			t.Errorf("entry %d: its attestation comes back at once", i)
		}
		l.check(t, created)
		want := e.Attestation
		if i == 1 {
			want = nil // too large
		}
		for name, from := range map[string]*Log{"remembered": log, "read": l.again(t, func(*Config) {})} {
			read, err := from.ByUUID(ctx, created.UUID)
			if err != nil || !bytes.Equal(read.Attestation, want) {
				t.Errorf("entry %d, %s: attestation %q, %v; want %q", i, name, read.Attestation, err, want)
			}
		}
		none := l.again(t, func(cfg *Config) { cfg.Shards[0].Attestations = nil })
		if read, err := none.ByUUID(ctx, created.UUID); err != nil || read.Attestation != nil {
			t.Errorf("entry %d, where none are kept: %v, %v", i, read, err)
		}
	}
}

// TestAttestationFirst keeps attestations elsewhere: before their entry is added, and
// never the other way round.
func TestAttestationFirst(t *testing.T) {
	l, ctx := newTestLog(t), t.Context()
	k := &keeper{kept: map[tlog.Hash][]byte{}}
	var troubles []error
	log := l.again(t, func(cfg *Config) {
		cfg.Shards[0].Attestations, cfg.Trouble = k, func(err error) { troubles = append(troubles, err) }
	})
	e := withAttestation(0)
	k.err = errors.New("connection refused")
	if _, err := log.Create(ctx, e); !errors.Is(err, tlog.ErrUnavailable) || errors.Is(err, tlog.ErrUnknown) || !strings.Contains(err.Error(), "connection refused") {
		t.Fatalf("create: %v", err)
	}
	if size := l.engine.Published().Size; size != 0 || len(troubles) != 1 {
		t.Fatalf("size %d, troubles %v", size, troubles)
	}
	if _, err := log.Create(ctx, &entry.Entry{Body: body(1)}); err != nil { // has none
		t.Fatal(err)
	}
	k.err = nil
	created, err := log.Create(ctx, e)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := l.store.Attestation(ctx, sha256.Sum256(e.Attestation)); err != nil || b != nil {
		t.Errorf("the store has it, too: %q, %v", b, err)
	}
	if read, err := log.ByUUID(ctx, created.UUID); err != nil || !bytes.Equal(read.Attestation, e.Attestation) {
		t.Errorf("%v, %v", read, err)
	}

	k.err = errors.New("connection refused")
	if _, err := log.ByUUID(ctx, created.UUID); !errors.Is(err, tlog.ErrUnavailable) || len(troubles) != 2 {
		t.Errorf("read: %v, troubles %v", err, troubles)
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := log.ByUUID(gone, created.UUID); err == nil || len(troubles) != 2 {
		t.Errorf("nobody waits, and yet: %v, troubles %v", err, troubles)
	}
	k.err = nil

	// What was changed is not shown, and told of.
	k.kept[sha256.Sum256(e.Attestation)] = []byte("another")
	read, err := log.ByUUID(ctx, created.UUID)
	if err != nil || read.Attestation != nil {
		t.Errorf("%v, %v", read, err)
	}
	l.check(t, read)
	if len(troubles) != 3 || errors.Is(troubles[2], tlog.ErrUnavailable) || !strings.Contains(troubles[2].Error(), "entry 1 is shown without its attestation") {
		t.Errorf("troubles %v", troubles)
	}
	clear(k.kept) // by whoever may
	if read, err := log.ByUUID(ctx, created.UUID); err != nil || read.Attestation != nil || len(troubles) != 3 {
		t.Errorf("%v, %v, troubles %v", read, err, troubles)
	}
}
