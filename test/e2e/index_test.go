package e2e

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sigstack/sigstack/test/harness"
	"github.com/sigstack/sigstack/tlog/entry"
)

// TestIndexRebuild rebuilds the search index of a log with entries of all kinds: where
// nothing is wrong nothing changes, and what was taken away, put in or changed by hand
// is as before afterwards, row by row.
func TestIndexRebuild(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		server := harness.Start(t)
		fillAllKinds(t, server)
		config := harness.Config(t, fmt.Sprintf("url: %s\ndata-dir: %s\n", server.URL, server.Dir))
		harness.NewClient(t).Refuse("another process has this log open", "sigstack", "index", "rebuild", "--config", config)
		server.Stop()
		db, err := sql.Open("sqlite", filepath.Join(server.Dir, "rekorv1", "log.db"))
		if err != nil {
			t.Fatal(err)
		}
		rebuildIndex(t, config, db, "SELECT key, at, hash FROM search ORDER BY key, at, hash", []string{
			"DELETE FROM search WHERE at % 3 = 0",
			"DELETE FROM search WHERE key LIKE 'sha%' AND at % 3 = 1", // statements, too
			"INSERT INTO search SELECT DISTINCT 'stray@example.com', at, hash FROM search",
			"INSERT INTO search SELECT 'sha256:' || 1234, min(at), min(hash) FROM search",
			"INSERT INTO search SELECT min(key), max(at) + 7, min(hash) FROM search",
			"INSERT INTO search SELECT key, at, zeroblob(32) FROM search WHERE at = 1",
		}, func() {
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
		})
		server.Restart()
	})
	t.Run("mysql", func(t *testing.T) {
		t.Parallel()
		dsn := harness.StartMariaDB(t).NewDatabase(t)
		server := harness.StartWith(t, harness.Options{DSN: dsn})
		fillAllKinds(t, server)
		dsnFile := filepath.Join(t.TempDir(), "dsn")
		if err := os.WriteFile(dsnFile, []byte(dsn), 0o600); err != nil {
			t.Fatal(err)
		}
		config := harness.Config(t, fmt.Sprintf("url: %s\ndata-dir: %s\nstorage: mysql\nmysql: {dsn-file: %s}\n", server.URL, server.Dir, dsnFile))
		db, err := sql.Open("mysql", dsn)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		rebuildIndex(t, config, db, "SELECT name, at, hash FROM sigstack_posting ORDER BY name, at, hash", []string{
			"DELETE FROM sigstack_posting WHERE at % 3 = 0",
			"DELETE FROM sigstack_posting WHERE name LIKE 'sha%' AND at % 3 = 1",
			"INSERT INTO sigstack_posting SELECT DISTINCT tree_id, 'stray@example.com', at, hash FROM sigstack_posting",
			"INSERT INTO sigstack_posting SELECT min(tree_id), 'sha256:1234', min(at), min(hash) FROM sigstack_posting",
			"INSERT INTO sigstack_posting SELECT min(tree_id), min(name), max(at) + 7, min(hash) FROM sigstack_posting",
			"UPDATE sigstack_posting SET hash = REPEAT(X'00', 32) WHERE at = 1",
			// As an earlier version had them.
			"INSERT INTO sigstack_search SELECT tree_id, name, hash FROM sigstack_posting WHERE at % 5 = 2 AND name NOT LIKE 'stray%'",
			"DELETE FROM sigstack_posting WHERE at % 5 = 2 AND name NOT LIKE 'stray%'",
		}, func() {})
		var left int
		if err := db.QueryRow("SELECT COUNT(*) FROM sigstack_search").Scan(&left); err != nil || left != 0 {
			t.Errorf("%d search keys have no place, %v", left, err)
		}
	})
}

func rebuildIndex(t *testing.T, config string, db *sql.DB, dump string, damage []string, done func()) {
	t.Helper()
	client := harness.NewClient(t)
	rows := func() (out []string) {
		t.Helper()
		found, err := db.Query(dump)
		if err != nil {
			t.Fatal(err)
		}
		defer found.Close()
		for found.Next() {
			var name, hash []byte
			var at uint64
			if err := found.Scan(&name, &at, &hash); err != nil {
				t.Fatal(err)
			}
			out = append(out, fmt.Sprintf("%q %d %x", name, at, hash))
		}
		if err := found.Err(); err != nil {
			t.Fatal(err)
		}
		return out
	}
	before := rows()
	ends := func(code int, want string, args ...string) {
		t.Helper()
		r := client.Try("sigstack", append([]string{"index", "rebuild", "--config", config}, args...)...)
		if r.Code != code || !strings.Contains(r.Stdout, want) {
			t.Fatalf("index rebuild %v ends with %d, want %d, and says\n%s\nwant %q", args, r.Code, code, r.Output(), want)
		}
	}
	all := fmt.Sprintf("%d search keys: ", len(before))
	ends(0, all+"0 missing, 0 stray, 0 kept", "--check")
	ends(0, all+"0 added, 0 removed, 0 kept")
	if after := rows(); !slices.Equal(before, after) {
		t.Fatalf("rebuilding has changed\n%s\nto\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
	}
	for _, statement := range damage {
		if _, err := db.Exec(statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	ends(1, `stray: key "stray@example.com" of entry 2`, "--check")
	ends(0, "removed, 0 kept")
	if after := rows(); !slices.Equal(before, after) {
		t.Fatalf("what was rebuilt is\n%s\nand was\n%s", strings.Join(after, "\n"), strings.Join(before, "\n"))
	}
	ends(0, all+"0 missing, 0 stray, 0 kept", "--check")
	done()
}

// fillAllKinds adds entries of every kind.
func fillAllKinds(t *testing.T, server *harness.Server) {
	t.Helper()
	fillKinds(t, server)
	for _, pattern := range []string{"test/vectors/entries/tuf-*.json", "tlog/entry/testdata/cose-*.json"} {
		names, err := filepath.Glob(filepath.Join(harness.Root(t), pattern))
		if err != nil {
			t.Fatal(err)
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
			res, err := http.Post(server.URL+"/api/v1/log/entries", "application/json", bytes.NewReader(vector.Request))
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close() // some are vectors of what is refused
		}
	}
	kinds := map[string]bool{}
	for cursor := ""; ; {
		var page struct {
			Entries []struct{ Kind string }
			Next    string
		}
		getJSON(t, server.URL+"/api/sigstack/v1/search?limit=7"+cursor, &page)
		for _, e := range page.Entries {
			kinds[e.Kind] = true
		}
		if page.Next == "" {
			break
		}
		cursor = "&cursor=" + page.Next
	}
	for _, kind := range entry.Kinds() {
		if !kinds[kind] {
			t.Fatalf("there is no entry of kind %s", kind)
		}
	}
}
