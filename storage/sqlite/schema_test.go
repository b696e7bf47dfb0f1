package sqlite

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/sigstack/sigstack/tlog"
)

// TestMigrateLog opens a log whose search keys are as schema version 1 had them, in
// the order of hashes, and as version 2 had them, where those that had been copied had
// no index. All have their index afterwards, new ones come behind them, and what leads
// nowhere is gone. There is room for attestations, and the log is not frozen.
func TestMigrateLog(t *testing.T) {
	for version, old := range []string{
		1: `DROP TABLE search;
			CREATE TABLE search (key TEXT NOT NULL, hash BLOB NOT NULL, PRIMARY KEY (key, hash)) WITHOUT ROWID;
			INSERT INTO search SELECT DISTINCT key, hash FROM placed;
			INSERT INTO search VALUES ('key 1', zeroblob(32));`,
		2: `UPDATE search SET at = 0 WHERE at % 2 = 1;
			INSERT INTO search VALUES ('key 1', 0, zeroblob(32));`,
	} {
		if old == "" {
			continue
		}
		t.Run(fmt.Sprint("version ", version), func(t *testing.T) { migrateLog(t, version, old) })
	}
}

func migrateLog(t *testing.T, version int, old string) {
	name := filepath.Join(t.TempDir(), "log.db")
	var want []tlog.SearchKey
	grow := func(s *Store, n, to int) {
		t.Helper()
		for ; n < to; n++ {
			leaf := tlog.Leaf{Value: fmt.Appendf(nil, "leaf %d", n), Keys: []string{fmt.Sprintf("key %d", n%3)}, Attestation: []byte("{}")}
			if n%5 == 4 {
				leaf.ID = tlog.LeafHash(fmt.Appendf(nil, "identity %d", n))
			}
			if _, _, err := s.Append(t.Context(), []tlog.Leaf{leaf}); err != nil {
				t.Fatal(err)
			}
			want = append(want, tlog.SearchKey{Name: leaf.Keys[0], Index: uint64(n), Hash: tlog.LeafHash(leaf.Value)})
		}
		slices.SortFunc(want, func(a, b tlog.SearchKey) int {
			return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Index, b.Index))
		})
	}
	s, err := Open(name, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	grow(s, 0, 50)
	if _, err := s.db.write.Exec("CREATE TEMP TABLE placed AS SELECT * FROM search; DROP TABLE attestation; ALTER TABLE log DROP COLUMN frozen; " + old + fmt.Sprintf("PRAGMA user_version = %d", version)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, to := range []int{50, 57} {
		if s, err = Open(name, time.Now); err != nil {
			t.Fatal(err)
		}
		grow(s, 50, to)
		var got []tlog.SearchKey
		for key, err := range s.SearchKeys(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, key)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("search keys\n%v, want\n%v", got, want)
		}
		if kept, err := s.Attestation(t.Context(), sha256.Sum256([]byte("{}"))); err != nil || (kept != nil) != (to > 50) {
			t.Errorf("attestation %q, %v", kept, err)
		}
		if found, err := s.Lookup(t.Context(), "key 1"); err != nil || len(found) != (to+1)/3 {
			t.Errorf("%d found, want %d: %v", len(found), (to+1)/3, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
