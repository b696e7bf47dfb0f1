package faults

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sigstack/sigstack/test/harness"
)

// rotations is how often the log is rotated.
const rotations = 5

// TestRotations (issue 6, e) has 64 clients write and read while the log is rotated
// five times: no request fails, and every invariant holds over all trees. Over a
// database two replicas serve: the key is announced to both, one rotates, and the
// other follows.
func TestRotations(t *testing.T) {
	overEach(t, func(t *testing.T, s storage) {
		dir := t.TempDir()
		first := seed(t)
		b := newBench(t, s, dir, first, harness.Options{})
		b.Restart()
		b.leaks.Keys(t, b.Dir)
		b.measure()
		servers, loads := []*harness.Server{b.Server}, []*harness.Load{b.load}
		if s == mysql {
			replica := b.Replica(t)
			replica.Restart()
			servers, loads = append(servers, replica), append(loads, harness.NewLoad(t, replica, b.ledger, b.recorder, first+1))
		}
		client := harness.NewClient(t)
		b.recorder.Start()
		for _, l := range loads {
			l.Start(64 / len(loads))
		}
		for n := range rotations {
			b.granted(200)
			if len(servers) > 1 {
				client.Run("sigstack", "rotate", "rekor", "--announce", "--data-dir", b.Dir)
				copyShards(t, servers)
				for _, server := range servers {
					hangUp(t, server)
					server.Poll(time.Minute, "the key is announced", func() bool { return takenOver(t, server) })
				}
			}
			client.Run("sigstack", "rotate", "rekor", "--data-dir", b.Dir)
			hangUp(t, b.Server)
			b.Poll(time.Minute, "the log is rotated", func() bool { return frozen(b.Server) == n+1 })
			copyShards(t, servers)
		}
		b.granted(200)
		for _, l := range loads {
			l.Stop()
		}
		b.recorder.Stop()
		for _, kind := range []string{harness.KindEntry, harness.KindDuplicate, harness.KindInvalid, harness.KindCertificate, harness.KindSearch} {
			for status, count := range b.statuses(kind, 0) {
				if status == 0 || status >= 500 {
					t.Errorf("%d requests of kind %s were answered with %d", count, kind, status)
				}
			}
		}
		t.Log(b.summary())
		if len(servers) > 1 {
			for _, v := range harness.SameAnswers(t.Context(), servers...) {
				t.Errorf("%s", v)
			}
			servers[1].Stop()
		}
		b.verify()
		b.Stop()
		b.Restart()
		b.baseline = nil
		b.verify()
	})
}

// TestRotationsKilled kills the server somewhere in each rotation. The rotation is
// over after the next start, and nothing that was acknowledged is lost.
func TestRotationsKilled(t *testing.T) {
	overEach(t, func(t *testing.T, s storage) {
		first := seed(t)
		rng := rand.New(rand.NewPCG(first, 6))
		b := newBench(t, s, t.TempDir(), first, harness.Options{})
		b.allow = []int{http.StatusServiceUnavailable}
		b.Restart()
		client := harness.NewClient(t)
		b.load.Start(16)
		for n := range rotations {
			b.granted(50)
			client.Run("sigstack", "rotate", "rekor", "--data-dir", b.Dir)
			hangUp(t, b.Server)
			wait := time.NewTimer(time.Duration(rng.IntN(60)) * time.Millisecond)
			<-wait.C
			b.Kill()
			b.Restart()
			if got := frozen(b.Server); got != n+1 {
				t.Fatalf("%d trees are frozen after rotation %d and a start", got, n+1)
			}
		}
		b.granted(50)
		b.load.Stop()
		t.Log(b.summary())
		b.verify()
	})
}

func hangUp(t *testing.T, server *harness.Server) {
	t.Helper()
	if err := syscall.Kill(server.PID(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
}

// takenOver says whether the list of the log's keys that a server has is in force.
func takenOver(t *testing.T, server *harness.Server) bool {
	t.Helper()
	list, err := os.ReadFile(filepath.Join(server.Dir, "keys", "rekorv1-shards"))
	if err != nil {
		t.Fatal(err)
	}
	file := sha256.Sum256(list)
	n, err := server.Metric(fmt.Sprintf(`sigstack_reload_info{name="rekorv1",sha256="%x"}`, sha256.Sum256(file[:])))
	return err == nil && n == 1
}

// frozen says how many trees of the log are, or -1.
func frozen(server *harness.Server) int {
	var info struct{ InactiveShards []json.RawMessage }
	if document(server, "/api/v1/log", &info) != nil {
		return -1
	}
	return len(info.InactiveShards)
}

// copyShards gives all servers the list and the keys of the first, the list last.
func copyShards(t *testing.T, servers []*harness.Server) {
	t.Helper()
	from := filepath.Join(servers[0].Dir, "keys")
	names, err := filepath.Glob(filepath.Join(from, "rekorv1-*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, server := range servers[1:] {
		for _, name := range append(notNamed(names, "rekorv1-shards"), filepath.Join(from, "rekorv1-shards")) {
			text, err := os.ReadFile(name)
			to := filepath.Join(server.Dir, "keys", filepath.Base(name))
			if err == nil {
				err = os.WriteFile(to+".new", text, 0o600)
			}
			if err == nil {
				err = os.Rename(to+".new", to)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}

func notNamed(names []string, suffix string) (out []string) {
	for _, name := range names {
		if !strings.HasSuffix(name, suffix) {
			out = append(out, name)
		}
	}
	return out
}
