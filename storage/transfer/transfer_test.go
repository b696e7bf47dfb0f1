package transfer_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sigstack/sigstack/storage/audit"
	"github.com/sigstack/sigstack/storage/sqlite"
	"github.com/sigstack/sigstack/storage/transfer"
	"github.com/sigstack/sigstack/tlog"
	"github.com/sigstack/sigstack/tlog/tlogtest"
)

func openStore(t *testing.T, clock *tlogtest.Clock) *sqlite.Store {
	t.Helper()
	s, err := sqlite.Open(filepath.Join(t.TempDir(), "log.db"), clock.Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// fill appends entries from first to last-1, in two batches.
func fill(t *testing.T, s *sqlite.Store, first, last int) {
	t.Helper()
	for _, part := range [][2]int{{first, (first + last) / 2}, {(first + last) / 2, last}} {
		var leaves []tlog.Leaf
		for n := part[0]; n < part[1]; n++ {
			leaf := tlog.Leaf{Value: fmt.Appendf(nil, "entry %d", n), Keys: []string{"all", fmt.Sprint("key ", n)}}
			if n%3 == 1 {
				leaf.ID, leaf.Extra = tlog.LeafHash(fmt.Appendf(nil, "identity %d", n)), []byte("extra")
			}
			if n%50 == 7 {
				leaf.Attestation = fmt.Appendf(make([]byte, 200_000), "attestation %d", n)
			}
			leaves = append(leaves, leaf)
		}
		if _, _, err := s.Append(t.Context(), leaves); err != nil {
			t.Fatal(err)
		}
	}
}

func copyAll(t *testing.T, from transfer.Source, to transfer.Target) {
	t.Helper()
	if err := transfer.SearchKeys(t.Context(), from, to); err != nil {
		t.Fatal(err)
	}
	if err := transfer.Attestations(t.Context(), from, to); err != nil {
		t.Fatal(err)
	}
	before, err := to.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	told := before.Size
	if err := transfer.Entries(t.Context(), from, to, func(done, total uint64) {
		if done <= told || done > total {
			t.Errorf("%d of %d entries are copied, before %d", done, total, told)
		}
		told = done
	}); err != nil {
		t.Fatal(err)
	}
}

// TestCopy copies a log, lets the source grow, and goes on.
func TestCopy(t *testing.T) {
	clock := tlogtest.NewClock()
	from, to := openStore(t, clock), openStore(t, clock)
	for i, size := range []int{0, 1, 700, 1400} {
		if i > 0 {
			fill(t, from, []int{0, 1, 700, 1400}[i-1], size)
		}
		clock.Step(time.Hour)
		had, err := transfer.Begun(t.Context(), from, to)
		if head, _ := to.Head(t.Context()); err != nil || had != head.Size {
			t.Fatalf("the target has %d entries, %v", had, err)
		}
		copyAll(t, from, to)
		result, err := transfer.Compare(t.Context(), from, to)
		head, _ := from.Head(t.Context())
		if want := (transfer.Result{Size: uint64(size), Root: head.Root, Keys: 2 * uint64(size), Attestations: uint64(size) / 50}); err != nil || result != want {
			t.Fatalf("%+v, %v; want %+v", result, err, want)
		}
	}
}

// TestFrozen copies a log that takes no more entries: its copy takes none either.
func TestFrozen(t *testing.T) {
	clock := tlogtest.NewClock()
	from, to := openStore(t, clock), openStore(t, clock)
	fill(t, from, 0, 10)
	copyAll(t, from, to)
	if err := from.Freeze(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := transfer.Compare(t.Context(), from, to); err == nil || !strings.Contains(err.Error(), "takes no more entries") {
		t.Errorf("one side is frozen: %v", err)
	}
	for range 2 {
		copyAll(t, from, to)
		if _, err := transfer.Compare(t.Context(), from, to); err != nil {
			t.Error(err)
		}
	}
	if _, _, err := to.Append(t.Context(), []tlog.Leaf{{Value: []byte("late")}}); !errors.Is(err, tlog.ErrFrozen) {
		t.Errorf("appending to the copy: %v, want ErrFrozen", err)
	}
}

// A doctored store says something else than it has.
type doctored struct {
	*sqlite.Store
	head    func(*tlog.Head)
	record  func(*tlog.Record)
	missing uint64 // this entry and those after it, if not 0
	keys    func([]tlog.SearchKey) []tlog.SearchKey
	tile    func(level int, hashes []tlog.Hash) []tlog.Hash
	attest  func([]tlog.Attestation) []tlog.Attestation
}

func (d *doctored) Attestations(ctx context.Context) iter.Seq2[tlog.Attestation, error] {
	if d.attest == nil {
		return d.Store.Attestations(ctx)
	}
	return func(yield func(tlog.Attestation, error) bool) {
		var all []tlog.Attestation
		for a, err := range d.Store.Attestations(ctx) {
			if err != nil {
				yield(a, err)
				return
			}
			all = append(all, a)
		}
		for _, a := range d.attest(all) {
			if !yield(a, nil) {
				return
			}
		}
	}
}

func (d *doctored) Head(ctx context.Context) (tlog.Head, error) {
	h, err := d.Store.Head(ctx)
	if d.head != nil {
		d.head(&h)
	}
	return h, err
}

func (d *doctored) Records(ctx context.Context, begin uint64, most int) ([]tlog.Record, error) {
	if d.missing > 0 && begin+uint64(most) > d.missing {
		most = int(d.missing - begin)
	}
	records, err := d.Store.Records(ctx, begin, most)
	for i := range records {
		if d.record != nil && records[i].Index == 298 {
			d.record(&records[i])
		}
	}
	return records, err
}

func (d *doctored) SearchKeys(ctx context.Context) iter.Seq2[tlog.SearchKey, error] {
	if d.keys == nil {
		return d.Store.SearchKeys(ctx)
	}
	return func(yield func(tlog.SearchKey, error) bool) {
		var keys []tlog.SearchKey
		for key, err := range d.Store.SearchKeys(ctx) {
			if err != nil {
				yield(key, err)
				return
			}
			keys = append(keys, key)
		}
		for _, key := range d.keys(keys) {
			if !yield(key, nil) {
				return
			}
		}
	}
}

func (d *doctored) Tile(ctx context.Context, level int, index uint64, width int) ([]tlog.Hash, error) {
	hashes, err := d.Store.Tile(ctx, level, index, width)
	if d.tile != nil {
		hashes = d.tile(level, hashes)
	}
	return hashes, err
}

// TestDifferences shows that everything that may differ between two sides is
// found, and named.
func TestDifferences(t *testing.T) {
	clock := tlogtest.NewClock()
	from, whole := openStore(t, clock), openStore(t, clock)
	fill(t, from, 0, 300)
	copyAll(t, from, whole)
	flip := func(h *tlog.Hash) { h[5] ^= 1 }
	for name, test := range map[string]struct {
		to    doctored
		want  string
		begun string // what is said before copying; "" if it cannot be seen then
	}{
		"value":            {doctored{record: func(r *tlog.Record) { r.Value = []byte("entry 297") }}, "entry 298 of the target is not the source's: its value differs", "entry 298 of the target is not the source's: its value differs"},
		"extra":            {doctored{record: func(r *tlog.Record) { r.Extra = nil }}, "entry 298 of the target is not the source's: its extra data differs", "entry 298 of the target is not the source's: its extra data differs"},
		"time":             {doctored{record: func(r *tlog.Record) { r.Time = r.Time.Add(1) }}, "its time differs", "its time differs"},
		"identity":         {doctored{record: func(r *tlog.Record) { flip(&r.ID) }}, "its identity differs", "its identity differs"},
		"missing":          {doctored{missing: 299}, "target: there is no entry 299", "target: there is no entry 299"},
		"root":             {doctored{head: func(h *tlog.Head) { flip(&h.Root) }}, "the target has 300 entries, root", "the 300 entries of the target lead to root"},
		"longer":           {doctored{head: func(h *tlog.Head) { h.Size++ }}, "the target has 301 entries", "the target has 301 entries, the source only 300"},
		"shorter":          {doctored{head: func(h *tlog.Head) { h.Size-- }}, "the target has 299 entries", "the 299 entries of the target lead to root"},
		"head time":        {doctored{head: func(h *tlog.Head) { h.Time = h.Time.Add(1) }}, "and time", ""},
		"full tile":        {doctored{tile: func(l int, h []tlog.Hash) []tlog.Hash { flipIf(h, len(h) == 256, 77); return h }}, "hash 77 of tile 0/0", ""},
		"edge tile":        {doctored{tile: func(l int, h []tlog.Hash) []tlog.Hash { flipIf(h, len(h) == 44, 43); return h }}, "hash 43 of tile 0/1", ""},
		"upper tile":       {doctored{tile: func(l int, h []tlog.Hash) []tlog.Hash { flipIf(h, l == 1, 0); return h }}, "hash 0 of tile 1/0", ""},
		"no tile":          {doctored{tile: func(l int, h []tlog.Hash) []tlog.Hash { return h[:len(h)-1] }}, "tile 0/0 of the target has 255 hashes", ""},
		"key lost":         {doctored{keys: func(k []tlog.SearchKey) []tlog.SearchKey { return without(k, "key 77") }}, `has search key "key 78"`, ""},
		"last key":         {doctored{keys: func(k []tlog.SearchKey) []tlog.SearchKey { return without(k, "key 99") }}, `lacks search key "key 99"`, ""},
		"other key":        {doctored{keys: func(k []tlog.SearchKey) []tlog.SearchKey { return with(k, "zebra") }}, `has search key "zebra"`, ""},
		"attestation lost": {doctored{attest: func(a []tlog.Attestation) []tlog.Attestation { return a[1:] }}, "has the attestation with hash", ""},
		"last attestation": {doctored{attest: func(a []tlog.Attestation) []tlog.Attestation { return a[:len(a)-1] }}, "lacks the attestation with hash", ""},
		"its bytes":        {doctored{attest: func(a []tlog.Attestation) []tlog.Attestation { a[1].Bytes[0]++; return a }}, "is not the source's", ""},
	} {
		to := test.to
		to.Store = whole
		if _, err := transfer.Compare(t.Context(), from, &to); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
		switch _, err := transfer.Begun(t.Context(), from, &to); {
		case test.begun == "" && err == nil:
		case test.begun == "" || err == nil || !strings.Contains(err.Error(), test.begun):
			t.Errorf("%s, before copying: %v, want %q", name, err, test.begun)
		}
	}
	// A source that contradicts itself is no less wrong.
	rotten := &doctored{Store: from, attest: func(a []tlog.Attestation) []tlog.Attestation { a[1].Bytes[0]++; return a }}
	if err := transfer.Attestations(t.Context(), rotten, openStore(t, clock)); err == nil || !strings.Contains(err.Error(), "hashes to") {
		t.Errorf("a source with an attestation of other bytes: %v", err)
	}
	broken := &doctored{Store: from, missing: 200}
	if err := transfer.Entries(t.Context(), broken, openStore(t, clock), func(uint64, uint64) {}); err == nil || !strings.Contains(err.Error(), "source: there is no entry 200") {
		t.Errorf("a source that lacks entry 200: %v", err)
	}
}

func flipIf(hashes []tlog.Hash, ok bool, i int) {
	if ok {
		hashes[i][0] ^= 1
	}
}

func without(keys []tlog.SearchKey, name string) (out []tlog.SearchKey) {
	for _, k := range keys {
		if k.Name != name {
			out = append(out, k)
		}
	}
	return out
}

// with adds a key behind the last one.
func with(keys []tlog.SearchKey, name string) []tlog.SearchKey {
	return append(keys, tlog.SearchKey{Name: name})
}

// auditLog is an audit log in memory.
type auditLog struct {
	rows   []audit.Row
	claims []audit.Claim
	err    error // of Records, behind the rows
	noneOf error // of Claims, before any
}

func (a *auditLog) Records(_ context.Context, f func(audit.Row) error) error {
	for _, r := range a.rows {
		if err := f(r); err != nil {
			return err
		}
	}
	return a.err
}

func (a *auditLog) Claims(_ context.Context, f func(audit.Claim) error) error {
	for _, c := range a.claims {
		if err := f(c); err != nil {
			return err
		}
	}
	return a.noneOf
}

// AddAll chains the rows anew, as a storage does.
func (a *auditLog) AddAll(_ context.Context, rows []audit.Row) error {
	if len(rows) > audit.MaxRows {
		return fmt.Errorf("%d rows at once", len(rows))
	}
	var head audit.Hash
	if n := len(a.rows); n > 0 {
		head = a.rows[n-1].Hash
	}
	for _, r := range rows {
		head = r.Chain(head)
		r.Hash = head
		a.rows = append(a.rows, r)
	}
	return nil
}

func (a *auditLog) ImportClaims(_ context.Context, claims []audit.Claim) error {
	for _, c := range claims {
		if !slices.Contains(a.claims, c) {
			a.claims = append(a.claims, c)
		}
	}
	return nil
}

func TestAudit(t *testing.T) {
	from := &auditLog{}
	var all []audit.Row
	for n := range 1234 {
		kind := audit.Intended
		if n%2 == 1 {
			kind = audit.Issued
		}
		all = append(all, audit.Row{At: time.Unix(0, int64(n)), Kind: kind, Serial: fmt.Sprint(n / 2), Record: fmt.Appendf(nil, "record %d", n)})
		from.claims = append(from.claims, audit.Claim{Token: [32]byte{byte(n >> 8), byte(n)}, Key: [32]byte{byte(n)}, Expiry: int64(n)})
	}
	for some := range slices.Chunk(all, audit.MaxRows) {
		if err := from.AddAll(t.Context(), some); err != nil {
			t.Fatal(err)
		}
	}
	for _, had := range []int{0, 1, 700, 1234} {
		to := &auditLog{rows: slices.Clone(from.rows[:had]), claims: slices.Clone(from.claims[:had])}
		if err := transfer.Audit(t.Context(), from, to); err != nil {
			t.Fatal(err)
		}
		if r, err := transfer.CompareAudit(t.Context(), from, to); r.Rows != 1234 || r.Claims != 1234 || r.Head != from.rows[1233].Hash || err != nil {
			t.Fatalf("%+v, %v", r, err)
		}
	}

	kept := len(from.rows)
	for name, test := range map[string]struct {
		change func(rows []audit.Row) []audit.Row
		want   string
	}{
		"time":   {func(rows []audit.Row) []audit.Row { rows[7].At = time.Unix(7, 0); return rows }, "row 7 of"},
		"kind":   {func(rows []audit.Row) []audit.Row { rows[7].Kind = audit.Failed; return rows }, "row 7 of"},
		"serial": {func(rows []audit.Row) []audit.Row { rows[7].Serial = "8"; return rows }, "row 7 of"},
		"record": {func(rows []audit.Row) []audit.Row { rows[7].Record = nil; return rows }, "row 7 of"},
		"hash":   {func(rows []audit.Row) []audit.Row { rows[7].Hash[0] ^= 1; return rows }, "row 7 of"},
		"more":   {func(rows []audit.Row) []audit.Row { return append(rows, audit.Row{Serial: "x"}) }, "has a row 1234"},
	} {
		to := &auditLog{rows: test.change(slices.Clone(from.rows))}
		for _, err := range []error{transfer.Audit(t.Context(), from, to), second(transfer.CompareAudit(t.Context(), from, to))} {
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%s: %v, want %q", name, err, test.want)
			}
		}
	}
	other := slices.Clone(from.claims)
	other[7].Key[0] ^= 1
	for name, claims := range map[string][]audit.Claim{
		"a claim too few": from.claims[:kept-1], "a claim of another key": other, "a claim too many": append(slices.Clone(from.claims), audit.Claim{}),
	} {
		if _, err := transfer.CompareAudit(t.Context(), from, &auditLog{rows: from.rows, claims: claims}); err == nil || !strings.Contains(err.Error(), "claim") {
			t.Errorf("%s: %v", name, err)
		}
	}
	short := &auditLog{rows: from.rows[:kept-1]}
	if _, err := transfer.CompareAudit(t.Context(), from, short); err == nil || !strings.Contains(err.Error(), "lacks row 1233") {
		t.Errorf("a row too few: %v", err)
	}
	failed := errors.New("cannot be read")
	for name, err := range map[string]error{
		"a source that cannot be read":                 transfer.Audit(t.Context(), &auditLog{rows: from.rows, err: failed}, &auditLog{}),
		"a target that cannot be read":                 transfer.Audit(t.Context(), from, &auditLog{rows: from.rows[:5], err: failed}),
		"a source whose claims cannot be read":         transfer.Audit(t.Context(), &auditLog{noneOf: failed}, &auditLog{}),
		"claims of the source, when both are compared": second(transfer.CompareAudit(t.Context(), &auditLog{noneOf: failed}, &auditLog{})),
		"claims of the target, when both are compared": second(transfer.CompareAudit(t.Context(), &auditLog{}, &auditLog{noneOf: failed})),
	} {
		if !errors.Is(err, failed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func second(_ transfer.AuditResult, err error) error { return err }
