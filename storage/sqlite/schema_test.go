package sqlite

import (
	"crypto/sha256"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/sigstack/sigstack/tlog"
)

// TestMigrateLog opens a log of schema version 1, whose search keys were in the order
// of hashes. They are all there afterwards, and new ones come behind them. There is
// room for attestations.
func TestMigrateLog(t *testing.T) {
	name := filepath.Join(t.TempDir(), "log.db")
	d, err := openDB(name, logSchema()[:1])
	if err != nil {
		t.Fatal(err)
	}
	const old = 50
	var want []tlog.SearchKey
	for n := range old {
		key := tlog.SearchKey{Name: fmt.Sprintf("key %d", n%3), Hash: tlog.LeafHash(fmt.Appendf(nil, "leaf %d", n))}
		if _, err := d.write.Exec("INSERT INTO search (key, hash) VALUES (?, ?)", key.Name, key.Hash[:]); err != nil {
			t.Fatal(err)
		}
		want = append(want, key)
	}
	if err := d.close(); err != nil {
		t.Fatal(err)
	}

	for _, added := range []int{0, 7} {
		s, err := Open(name, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		for n := range added {
			leaf := tlog.Leaf{Value: fmt.Appendf(nil, "leaf %d", old+n), Keys: []string{"key 1"}, Attestation: []byte("{}")}
			if _, _, err := s.Append(t.Context(), []tlog.Leaf{leaf}); err != nil {
				t.Fatal(err)
			}
			want = append(want, tlog.SearchKey{Name: "key 1", Hash: tlog.LeafHash(leaf.Value)})
		}
		slices.SortFunc(want, func(a, b tlog.SearchKey) int {
			return slices.Compare(append([]byte(a.Name), a.Hash[:]...), append([]byte(b.Name), b.Hash[:]...))
		})
		var got []tlog.SearchKey
		for key, err := range s.SearchKeys(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, key)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%d search keys, want %d, or others", len(got), len(want))
		}
		if kept, err := s.Attestation(t.Context(), sha256.Sum256([]byte("{}"))); err != nil || (kept != nil) != (added > 0) {
			t.Errorf("attestation %q, %v", kept, err)
		}
		if found, err := s.Lookup(t.Context(), "key 1"); err != nil || len(found) != old/3+1+added {
			t.Errorf("%d found, want %d: %v", len(found), old/3+1+added, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
