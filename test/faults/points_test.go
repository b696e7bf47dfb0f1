package faults

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sigstack/sigstack/test/harness"
	"github.com/sigstack/sigstack/tlog/failpoint"
)

// sizes are those around a full tile: the first tile of level 0 and the first
// hash of level 1 come into being at 256.
var sizes = []int{0, 1, 255, 256, 257}

const (
	crossing        = 255 // the next batch completes a tile
	fewCertificates = -1  // the size by which the log with crossing entries and one certificate is prepared
)

// prepared are directories of benches with so many entries and as many
// certificates. They are made once for all tests, and live as long as the
// process.
var prepared struct {
	sync.Mutex
	dirs map[storage]map[int]string
}

// at returns a copy of the directory of a bench with n entries and n
// certificates.
func at(t *testing.T, s storage, n int) string {
	t.Helper()
	to := memoryDir(t)
	copyBench(t, s, filled(t, s)[n], to)
	return to
}

// memoryDir returns a directory in memory where the machine has one. A process
// that is killed leaves the page cache as it is, so a disk below it would change
// nothing but the time that this takes; what is not synced is shown elsewhere,
// by tracing the calls.
func memoryDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "sigstack-faults-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// copyBench copies the directory of a bench whose server does not run, and its
// database.
func copyBench(t *testing.T, s storage, from, to string) {
	t.Helper()
	harness.CopyData(t, filepath.Join(from, "data"), filepath.Join(to, "data"))
	if s == mysql {
		writeDSN(t, to, harness.SharedMariaDB(t).CopyDatabase(t, dsn(t, from)))
	}
	for _, name := range []string{"ledger", "trees"} {
		text, err := os.ReadFile(filepath.Join(from, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(to, name), text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// filled returns the prepared directories by size.
func filled(t *testing.T, s storage) map[int]string {
	t.Helper()
	prepared.Lock()
	defer prepared.Unlock()
	if prepared.dirs[s] != nil {
		return prepared.dirs[s]
	}
	root := filepath.Join(harness.Scratch(t), "prepared", string(s))
	// The curve of the CA is the cheaper one: every certificate is verified
	// after every fault.
	b := newBench(t, s, root, 1, harness.Options{Args: []string{"--config", harness.Config(t, "ca: {key-type: p256}\n")}})
	done, dirs := 0, map[int]string{}
	for _, n := range sizes {
		b.Restart()
		b.load.Entries(n - done)
		if n == crossing {
			b.recorder.Poll(t.Context())
			b.Stop()
			dirs[fewCertificates] = filepath.Join(root, "few")
			copyBench(t, s, root, dirs[fewCertificates])
			b.Restart()
		}
		b.load.Certificates(n - done)
		b.recorder.Poll(t.Context())
		if t.Failed() {
			t.FailNow()
		}
		done = n
		b.Stop()
		dirs[n] = filepath.Join(root, fmt.Sprint(n))
		copyBench(t, s, root, dirs[n])
	}
	if prepared.dirs == nil {
		prepared.dirs = map[storage]map[int]string{}
	}
	prepared.dirs[s] = dirs
	return dirs
}

// A place is a failpoint of one of the logs, with the hit by which a server that
// has started passes it for the first time.
type place struct {
	point, log string
	hit        int
}

func (p place) String() string { return p.point + ":" + p.log }

// spec returns what SIGSTACK_FAILPOINTS says.
func (p place) spec(action string) string {
	return fmt.Sprintf("%s:%s=%s@%d", p.point, p.log, action, p.hit)
}

// integrating are the points that only storage mysql has; audited those of the
// audit log, which has no directory of its own; recovering those that a start
// passes.
var (
	integrating = []string{failpoint.Sequenced, failpoint.Integrated}
	audited     = []string{failpoint.AuditRecord, failpoint.AuditCommit, failpoint.AuditCommitted}
	recovering  = []string{failpoint.LoadHead, failpoint.LoadTiles, failpoint.Sign, failpoint.Signed, failpoint.Remembered, failpoint.Published}
)

// places are all points of the Rekor log, the CT log and the audit log; over a
// database those of the storage, as what is above it is the same. Those that a
// start passes are hit once before the first write.
func places(s storage) []place {
	audit := map[storage]string{sqlite: "data", mysql: "audit"}[s]
	var out []place
	for _, point := range failpoint.Points() {
		if slices.Contains(audited, point) {
			// The row that intends a certificate, and the one that says that it was issued.
			out = append(out, place{point, audit, 1}, place{point, audit, 2})
			continue
		}
		if s == sqlite && slices.Contains(integrating, point) || s == mysql && !slices.Contains(storing(s), point) {
			continue
		}
		for _, log := range []string{"rekorv1", "ct"} {
			p := place{point, log, 1}
			if slices.Contains(recovering, point) && point != failpoint.LoadHead && point != failpoint.LoadTiles {
				p.hit = 2
			}
			out = append(out, p)
		}
	}
	return out
}

// atStart says whether a place is only passed by a start.
func (p place) atStart() bool { return strings.HasPrefix(p.point, "tlog.load.") }

// write sends what passes a place: a batch of entries with a duplicate, or of
// certificates.
func (b *bench) write(p place) {
	kind := harness.KindEntry
	if p.log != "rekorv1" {
		kind = harness.KindCertificate
	}
	var wg sync.WaitGroup
	if kind == harness.KindEntry {
		wg.Go(func() { b.load.One(harness.KindDuplicate) })
	}
	b.load.Burst(kind, 3, 3, func(harness.Record) {})
	wg.Wait()
}

// TestKillAtEachPoint (F1b) kills the server at each step of a write and of a
// start, with the log of each size.
func TestKillAtEachPoint(t *testing.T) { overEach(t, killAtEachPoint) }

func killAtEachPoint(t *testing.T, s storage) {
	filled(t, s)
	harness.FaultyBinary(t)
	around := sizes
	if s == mysql { // where Trillian makes the tiles
		around = []int{crossing}
	}
	for _, n := range around {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			for i, p := range places(s) {
				from := n
				if n == crossing && p.log != "ct" {
					from = fewCertificates // there is less to verify
				}
				b := newBench(t, s, at(t, s, from), uint64(1000+i), harness.Options{Faulty: true})
				b.SetFailpoints(p.spec("kill"))
				if p.atStart() {
					b.Launch()
				} else {
					b.Restart()
					b.write(p)
				}
				if code := b.Wait(20 * time.Second); code != -1 {
					t.Fatalf("%s at %d: exit code %d, want that it was killed", p, n, code)
				}
				b.SetFailpoints("")
				if took := b.Restart(); took > readyLimit {
					t.Errorf("%s at %d: ready after %s", p, n, took)
				}
				b.load.Entries(1)
				b.load.Certificates(1)
				b.verify()
				b.Stop()
			}
		})
	}
}
