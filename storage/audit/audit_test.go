package audit

import (
	"encoding/hex"
	"testing"
	"time"
)

// TestChain holds the hash of a row against one that was made in another language of the
// bytes in the package comment, and changes each part of it.
func TestChain(t *testing.T) {
	row := Row{At: time.Unix(1_700_000_000, 123), Kind: Intended, Serial: "7f01", Record: []byte(`{"a":1}`)}
	before := Hash{1, 2, 3}
	const want = "845dbd601aca5daf803900aee8d0dcbc403b0ce3bb57d6eaa22cb883c5f75e17"
	hash := row.Chain(before)
	if got := hex.EncodeToString(hash[:]); got != want {
		t.Errorf("hash %s, want %s", got, want)
	}
	for name, change := range map[string]func(r *Row, before *Hash){
		"before": func(_ *Row, before *Hash) { before[31] ^= 1 },
		"time":   func(r *Row, _ *Hash) { r.At = r.At.Add(1) },
		"kind":   func(r *Row, _ *Hash) { r.Kind = Issued },
		"serial": func(r *Row, _ *Hash) { r.Serial = "7f02" },
		"record": func(r *Row, _ *Hash) { r.Record = []byte(`{"a":2}`) },
		"cut":    func(r *Row, _ *Hash) { r.Serial, r.Record = r.Serial+"{", r.Record[1:] },
	} {
		r, b := row, before
		change(&r, &b)
		if r.Chain(b) == hash {
			t.Errorf("%s: the hash is the same", name)
		}
	}
}

// TestUnknown places rows again after a commit whose outcome nobody knows.
func TestUnknown(t *testing.T) {
	row := func(kind Kind, record string) *Row {
		return &Row{At: time.Unix(1, 2), Kind: kind, Serial: "01", Record: []byte(record)}
	}
	ledger := func(unknown bool, there ...*Row) *Ledger {
		return &Ledger{Rows: map[string][]*Row{"01": there}, Claims: map[[32]byte][32]byte{}, Unknown: unknown}
	}
	for name, c := range map[string]struct {
		ledger *Ledger
		row    *Row
		want   error
		placed int
	}{
		"not there":              {ledger(true), row(Intended, "a"), nil, 1},
		"there word for word":    {ledger(true, row(Intended, "a")), row(Intended, "a"), nil, 0},
		"there, of another":      {ledger(true, row(Intended, "b")), row(Intended, "a"), ErrSerial, 0},
		"the outcome, not there": {ledger(true, row(Intended, "a")), row(Issued, "i"), nil, 1},
		"the outcome, there":     {ledger(true, row(Intended, "a"), row(Issued, "i")), row(Issued, "i"), nil, 0},
		"another outcome":        {ledger(true, row(Intended, "a"), row(Failed, "f")), row(Issued, "i"), ErrSerial, 0},
		"a known outcome":        {ledger(false, row(Intended, "a")), row(Intended, "a"), ErrSerial, 0},
	} {
		placed, _ := c.ledger.Place([]*Row{c.row})
		if c.row.Err != c.want || len(placed) != c.placed {
			t.Errorf("%s: %v and %d placed, want %v and %d", name, c.row.Err, len(placed), c.want, c.placed)
		}
	}
}
