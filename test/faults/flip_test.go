package faults

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sigstack/sigstack/test/harness"
)

// TestFlipBeforeSigning (F10) flips a bit of the root that is being signed. It is
// noticed before anybody sees it; the log stops signing, and says why.
func TestFlipBeforeSigning(t *testing.T) { overEach(t, flipBeforeSigning) }

func flipBeforeSigning(t *testing.T, s storage) {
	for log, kind := range map[string]string{"rekorv1": harness.KindEntry, "ct": harness.KindCertificate} {
		b := startBench(t, s, harness.Options{Failpoints: "tlog.signed.tree:" + log + "=flip@3"})
		b.allow = []int{http.StatusInternalServerError, http.StatusServiceUnavailable}
		b.recorder.Start()
		if r := b.load.One(kind); !harness.Acknowledged(r) {
			t.Fatalf("%s: status %d: %s", log, r.Status, r.Error)
		}
		b.recorder.Poll(t.Context())
		before := b.recorder.Size(harness.LogRekor) + b.recorder.Size(harness.LogCT)
		for range 3 {
			if r := b.load.One(kind); r.Status < 500 {
				t.Errorf("%s: status %d after a flipped bit", log, r.Status)
			}
		}
		b.recorder.Poll(t.Context())
		if after := b.recorder.Size(harness.LogRekor) + b.recorder.Size(harness.LogCT); after != before {
			t.Errorf("%s: something was published after a flipped bit", log)
		}
		if ready, body := b.Ready(); ready || !strings.Contains(body, "integrity") {
			t.Errorf("%s: ready %v: %s", log, ready, body)
		}
		if !strings.Contains(b.Log(), `"signing_stopped":true`) {
			t.Errorf("%s: the server's log does not say that signing was stopped", log)
		}
		for _, path := range []string{"/api/v1/log", "/ct/v1/get-sth", "/api/v1/log/proof?lastSize=1"} {
			if log == "ct" && strings.HasSuffix(path, "lastSize=1") {
				continue
			}
			if status, body := get(t, b.URL+path); status != http.StatusOK {
				t.Errorf("%s: %s is answered with %d: %s", log, path, status, body)
			}
		}
		// What was stored is well, and only a person may say so: by a restart.
		b.recorder.Stop()
		b.Kill()
		b.SetFailpoints("")
		b.Restart()
		if log == "rekorv1" {
			b.load.Entries(2)
		} else {
			b.load.Certificates(2)
		}
		b.measure()
		b.verify()
	}
}

// TestStoredFlips (F10) changes what is stored, one bit or row at a time. fsck
// finds each and names it, and the server serves none of them: it refuses to
// start, or to answer.
func TestStoredFlips(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		file, change string
		fsck         string // in a line of fsck
		starts       bool
		wrong        []string // what must not be answered with 200
		right        []string // what is answered all the same
	}{
		"an entry": {
			"rekorv1/log.db", "UPDATE entry SET value = replace(value, 'sha256', 'sha25v') WHERE idx = 17", "entry 17", true,
			[]string{"/api/v1/log/entries?logIndex=17"}, []string{"/api/v1/log/entries?logIndex=16", "/api/v1/log"},
		},
		"the identity of an entry": {
			"rekorv1/log.db", "UPDATE entry SET id = zeroblob(32) WHERE idx = 17", "entry 17", true,
			nil, []string{"/api/v1/log/entries?logIndex=16"},
		},
		"a full tile": {
			"rekorv1/log.db", flipBlob("tile", "hashes", 20*32+5, "pos = 0"), "tile 0/0", true,
			// The tile is checked as a whole: what it would prove is refused.
			[]string{"/api/v1/log/entries?logIndex=20", "/api/v1/log/entries?logIndex=21", "/api/v1/log/proof?firstSize=3&lastSize=257"}, []string{"/api/v1/log", "/api/v1/log/entries?logIndex=256"},
		},
		"the right edge": {
			"rekorv1/log.db", flipBlob("tile", "hashes", 5, "pos = 1"), "tile 0/1", false, nil, nil,
		},
		"the tile above": {
			"rekorv1/log.db", flipBlob("tile", "hashes", 5, "pos = 1 << 56"), "tile 1/0", false, nil, nil,
		},
		"the root": {
			"rekorv1/log.db", flipBlob("log", "root", 5, "one = 1"), "head", false, nil, nil,
		},
		"the size": {
			"rekorv1/log.db", "UPDATE log SET size = size - 1", "head", false, nil, nil,
		},
		"entries that are gone": {
			"rekorv1/log.db", "DELETE FROM entry WHERE idx = 20", "entry 20", true,
			[]string{"/api/v1/log/entries?logIndex=20"}, []string{"/api/v1/log/entries?logIndex=21"},
		},
		"a search row": {
			"rekorv1/log.db", flipBlob("search", "hash", 5, "key = (SELECT min(key) FROM search WHERE key LIKE 'sha256:%')"), "search key", true, nil, []string{"/api/v1/log"},
		},
		"a CT entry": {
			"ct/log.db", flipBlob("entry", "value", 200, "idx = 17"), "entry 17", true,
			[]string{"/ct/v1/get-entries?start=17&end=17", "/ct/v1/get-entry-and-proof?leaf_index=17&tree_size=257"}, []string{"/ct/v1/get-entries?start=16&end=16"},
		},
		"the SCT of a CT entry": {
			"ct/log.db", flipBlob("entry", "extra", 30, "idx = 17"), "entry 17", true, nil, []string{"/ct/v1/get-entries?start=16&end=16"},
		},
		"a tile of the CT log": {
			"ct/log.db", flipBlob("tile", "hashes", 20*32+5, "pos = 0"), "tile 0/0", true,
			[]string{"/ct/v1/get-entry-and-proof?leaf_index=20&tree_size=257", "/ct/v1/get-sth-consistency?first=3&second=257"}, []string{"/ct/v1/get-entries?start=256&end=256"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, sqlite, at(t, sqlite, 257), 1, harness.Options{})
			if err := harness.Alter(filepath.Join(b.Dir, tt.file), tt.change); err != nil {
				t.Fatal(err)
			}
			if r := b.Fsck(); r.Code != 1 || !strings.Contains(r.Output(), "WRONG   "+tt.fsck) {
				t.Errorf("fsck exits with %d, want 1 and a finding about %s:\n%s", r.Code, tt.fsck, r.Output())
			}
			if !tt.starts {
				b.Launch()
				if code := b.Wait(20 * time.Second); code != 2 || !strings.Contains(b.Log(), "integrity") {
					t.Errorf("exit code %d, want 2 and that the integrity is violated:\n%s", code, b.Log())
				}
				return
			}
			b.Restart()
			for _, path := range tt.wrong {
				if status, body := get(t, b.URL+path); status != http.StatusInternalServerError {
					t.Errorf("%s is answered with %d: %.300s", path, status, body)
				}
			}
			for _, path := range tt.right {
				if status, body := get(t, b.URL+path); status != http.StatusOK {
					t.Errorf("%s is answered with %d: %.300s", path, status, body)
				}
			}
			if found, _ := b.leaks.Found(); len(found) > 0 {
				t.Errorf("%q", found)
			}
			b.Stop()
		})
	}
}

// flipBlob returns the statement that flips the lowest bit of one byte, counted
// from 0, of a blob. SQLite has no function for that, but can look a byte up.
func flipBlob(table, column string, at int, where string) string {
	const bytes = "(WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 255) SELECT unhex(printf('%%02x', i + 1 - 2 * (i & 1))) FROM n WHERE unhex(printf('%%02x', i)) = substr(%[2]s, %[3]d, 1))"
	return fmt.Sprintf("UPDATE %[1]s SET %[2]s = CAST(substr(%[2]s, 1, %[3]d - 1) || "+bytes+" || substr(%[2]s, %[3]d + 1) AS BLOB) WHERE %[4]s", table, column, at+1, where)
}
