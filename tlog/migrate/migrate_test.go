package migrate

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sigstack/sigstack/storage/sqlite"
	"github.com/sigstack/sigstack/tlog"
	"github.com/sigstack/sigstack/tlog/entry"
	"github.com/sigstack/sigstack/tlog/rekor"
)

// listed is a source that has a list, and hands out so many entries at a time.
type listed struct {
	entries []Entry
	most    int
}

func (l listed) Entries(_ context.Context, begin uint64, most int) ([]Entry, error) {
	rest := l.entries[begin:]
	return rest[:min(len(rest), most, l.most)], nil
}

// proposed returns recorded requests as the entries that they were made into.
func proposed(t *testing.T, pattern string) (all []*entry.Entry) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join("../..", pattern))
	if err != nil || len(names) == 0 {
		t.Fatalf("%d files are %s (%v)", len(names), pattern, err)
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var vector struct{ Request json.RawMessage }
		if err := json.Unmarshal(text, &vector); err != nil {
			t.Fatal(err)
		}
		if e, err := entry.Propose(vector.Request); err == nil { // some are vectors of what is refused
			all = append(all, e)
		}
	}
	return all
}

// TestImportKeys imports entries of all kinds. They are found by what the originals
// were found by, but for dsse, whose statements are not in the log.
func TestImportKeys(t *testing.T) {
	var all []Entry
	want := map[tlog.SearchKey]bool{}
	missing, kinds := 0, map[string]bool{}
	for _, pattern := range []string{"test/vectors/rekor/*.json", "test/vectors/entries/*.json", "tlog/entry/testdata/cose-*.json"} {
		for _, e := range proposed(t, pattern) {
			value := e.Body
			if slices.ContainsFunc(all, func(other Entry) bool { return bytes.Equal(other.Value, value) }) {
				continue
			}
			r := tlog.Record{Entry: tlog.Entry{Index: uint64(len(all)), Time: time.Unix(1_700_000_000, 0), Value: value, Extra: e.Extra}, ID: tlog.LeafHash(value)}
			keys, _, err := rekor.KeysOf(r)
			if err != nil {
				t.Fatal(err)
			}
			if e.Kind == "dsse" {
				r.Extra = nil
				whole := len(keys)
				if keys, _, err = rekor.KeysOf(r); err != nil {
					t.Fatal(err)
				}
				missing += whole - len(keys)
			}
			for _, k := range keys {
				want[k] = true
			}
			kinds[e.Kind] = true
			all = append(all, Entry{Record: r, Attestation: e.Attestation})
		}
	}
	s := newStore(t)
	unread, err := Import(t.Context(), treeOf(t, all, 50), s, Options{})
	if err != nil || unread > 0 {
		t.Fatalf("%d entries are unread (%v)", unread, err)
	}
	for k, err := range s.SearchKeys(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if !want[k] {
			t.Errorf("search key %+v is new", k)
		}
		delete(want, k)
	}
	for k := range want {
		t.Errorf("search key %+v is gone", k)
	}
	if len(kinds) != len(entry.Kinds()) || missing == 0 {
		t.Errorf("%d kinds; dsse lacks %d keys", len(kinds), missing)
	}
}

// entries returns n entries. None but the first is of a kind that is known.
func entries(t *testing.T, n int) []Entry {
	t.Helper()
	first := proposed(t, "test/vectors/rekor/intoto-*.json")[0]
	at := time.Unix(1_700_000_000, 0).UTC()
	var all []Entry
	for i := range n {
		value := fmt.Appendf(nil, "entry %d", i)
		var kept []byte
		if i == 0 {
			value, kept = first.Body, first.Attestation
		}
		all = append(all, Entry{Record: tlog.Record{
			Entry: tlog.Entry{Index: uint64(i), Time: at.Add(time.Duration(i/3) * time.Second), Value: value, Extra: []byte("not looked at")},
			ID:    tlog.LeafHash(value),
		}, Attestation: kept})
	}
	return all
}

func newStore(t *testing.T) *sqlite.Store {
	t.Helper()
	s, err := sqlite.Open(filepath.Join(t.TempDir(), "log.db"), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// treeOf is the tree that entries make.
func treeOf(t *testing.T, all []Entry, most int) Tree {
	t.Helper()
	s := newStore(t)
	var leaves []tlog.Leaf
	for _, e := range all {
		leaves = append(leaves, tlog.Leaf{Value: e.Value})
	}
	_, head, err := s.Append(t.Context(), leaves)
	if err != nil {
		t.Fatal(err)
	}
	return Tree{ID: 1, Size: head.Size, Root: head.Root, Source: listed{all, most}}
}

// TestImport imports a tree, of which a part is there already.
func TestImport(t *testing.T) {
	all := entries(t, 25)
	s := newStore(t)
	var kept []tlog.Attestation
	var told []uint64
	opts := Options{
		Keep:     func(_ context.Context, a []tlog.Attestation) error { kept = append(kept, a...); return nil },
		Progress: func(done, total uint64) { told = append(told, done) },
	}
	if _, err := Import(t.Context(), treeOf(t, all[:12], 5), s, opts); err != nil {
		t.Fatal(err)
	}
	tree := treeOf(t, all, 5)
	unread, err := Import(t.Context(), tree, s, opts)
	if err != nil || unread != 13 {
		t.Fatalf("%d of the rest are unread (%v), want 13", unread, err)
	}
	if want := []uint64{5, 10, 12, 17, 22, 25}; !slices.Equal(told, want) {
		t.Errorf("told of %v entries, want %v", told, want)
	}
	if len(kept) != 1 || !bytes.Equal(kept[0].Bytes, all[0].Attestation) || kept[0].Check() != nil {
		t.Errorf("kept %v", kept)
	}
	head, err := s.Head(t.Context())
	if err != nil || head.Size != tree.Size || head.Root != tree.Root {
		t.Errorf("head %+v (%v)", head, err)
	}
	records, err := s.Records(t.Context(), 0, 100)
	if err != nil || len(records) != len(all) {
		t.Fatalf("%d records (%v)", len(records), err)
	}
	for i, r := range records {
		if r.Index != all[i].Index || !r.Time.Equal(all[i].Time) || !bytes.Equal(r.Value, all[i].Value) || r.ID != all[i].ID || strings.Contains(string(r.Extra), "not") {
			t.Errorf("record %d is %+v", i, r)
		}
	}
	index, err := rekor.RebuildIndex(t.Context(), s, true, func(what string, k tlog.SearchKey) { t.Errorf("%s: %+v", what, k) })
	if err != nil || index.Unread != 24 || index.Entries != 25 {
		t.Errorf("the index is rebuilt to %+v (%v)", index, err)
	}
	if err := s.Freeze(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := Import(t.Context(), tree, s, opts); err != nil {
		t.Errorf("what is there whole cannot be imported: %v", err)
	}
	if _, err := Import(t.Context(), treeOf(t, entries(t, 26), 5), s, opts); !errors.Is(err, tlog.ErrFrozen) {
		t.Errorf("a tree that grows after it was frozen: %v", err)
	}
}

// TestImportRefuses imports what is not the tree, or cannot be taken.
func TestImportRefuses(t *testing.T) {
	large := bytes.Repeat([]byte("x"), tlog.MaxBatchBytes+1)
	for name, c := range map[string]struct {
		change func(tree *Tree, all []Entry)
		want   string
	}{
		"another root": {func(tree *Tree, _ []Entry) { tree.Root[0]++ }, "lead to the root"},
		"another entry": {func(_ *Tree, all []Entry) {
			all[7].Value, all[7].ID = []byte("forged"), tlog.LeafHash([]byte("forged"))
		}, "lead to the root"},
		"another attestation":    {func(_ *Tree, all []Entry) { all[0].Attestation = []byte("{}") }, "entry 0: the source has an attestation with SHA-256"},
		"a gap":                  {func(_ *Tree, all []Entry) { all[7].Index++ }, "entry 8 comes where entry 7 should"},
		"time that goes back":    {func(_ *Tree, all []Entry) { all[7].Time = all[0].Time }, "entry 7 has time"},
		"an entry twice":         {func(_ *Tree, all []Entry) { all[7].Value, all[7].ID = all[6].Value, all[6].ID }, "already"},
		"an entry too large":     {func(_ *Tree, all []Entry) { all[7].Value = large }, "an entry has at most 4194304"},
		"fewer than it has":      {func(tree *Tree, _ []Entry) { tree.Size = 30 }, "has not returned the entries"},
		"fewer than are there":   {func(tree *Tree, _ []Entry) { tree.Size = 3 }, "the source only 3"},
		"a source that fails":    {func(tree *Tree, _ []Entry) { tree.Source = failing{} }, "reading entries from 5 on: out of paper"},
		"more than it was asked": {func(tree *Tree, all []Entry) { tree.Source = generous{all} }, "has not returned the entries"},
	} {
		t.Run(name, func(t *testing.T) {
			all := entries(t, 25)
			s := newStore(t)
			if _, err := Import(t.Context(), treeOf(t, all[:5], 5), s, Options{}); err != nil {
				t.Fatal(err)
			}
			tree := treeOf(t, all, 5)
			if name == "another attestation" {
				s = newStore(t)
			}
			c.change(&tree, all)
			if _, err := Import(t.Context(), tree, s, Options{}); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

type failing struct{}

func (failing) Entries(context.Context, uint64, int) ([]Entry, error) {
	return nil, errors.New("out of paper")
}

type generous struct{ all []Entry }

func (g generous) Entries(context.Context, uint64, int) ([]Entry, error) { return g.all, nil }

// TestParts splits what does not fit a batch.
func TestParts(t *testing.T) {
	var all []Entry
	for _, n := range []int{1, 3 << 20, 1 << 19, 1 << 20, 4 << 20, 1} {
		all = append(all, Entry{Record: tlog.Record{Entry: tlog.Entry{Value: make([]byte, n)}}})
	}
	var sizes []int
	for _, part := range parts(all) {
		sizes = append(sizes, len(part))
	}
	if want := []int{3, 1, 1, 1}; !slices.Equal(sizes, want) {
		t.Errorf("parts of %v entries, want %v", sizes, want)
	}
}
