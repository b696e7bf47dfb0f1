package faults

import (
	"fmt"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/sigstack/sigstack/test/harness"
)

// overNodes starts two replicas, each over another node of a cluster.
func overNodes(t *testing.T, cluster *harness.Galera) ([]*harness.Server, []*harness.Proxy) {
	t.Helper()
	nodes := cluster.Nodes
	database := nodes[0].NewDatabase(t)
	proxies := []*harness.Proxy{harness.NewProxy(t, nodes[0].Addr), harness.NewProxy(t, nodes[1].Addr)}
	first := harness.NewServer(t, harness.Options{DSN: harness.Through(t, database, proxies[0]), Leaks: harness.NewLeaks()})
	first.Restart()
	second := first.Replica(t)
	second.SetDSN(harness.Through(t, database, proxies[1]))
	second.Restart()
	return []*harness.Server{first, second}, proxies
}

// loadsOf makes a load and a recorder for each server, which one ledger has.
func loadsOf(t *testing.T, servers []*harness.Server) (*harness.Ledger, []*harness.Recorder, []*harness.Load) {
	t.Helper()
	dir := t.TempDir()
	ledger := harness.NewLedger(t, filepath.Join(dir, "ledger"))
	var recorders []*harness.Recorder
	var loads []*harness.Load
	for i, s := range servers {
		r := harness.NewRecorder(t, s, filepath.Join(dir, fmt.Sprint("trees", i)))
		r.Start()
		l := harness.NewLoad(t, s, ledger, r, uint64(i+1))
		recorders, loads = append(recorders, r), append(loads, l)
	}
	return ledger, recorders, loads
}

// TestGaleraConflicts has two replicas over two nodes get in each other's way all
// the time: with certificates, which share the head of the audit log, and with
// entries, which share that of the tree.
func TestGaleraConflicts(t *testing.T) {
	t.Parallel()
	cluster := harness.StartGalera(t)
	servers, _ := overNodes(t, cluster)
	ledger, recorders, loads := loadsOf(t, servers)
	granted := counter(ledger)
	for _, l := range loads {
		l.Mix = harness.Mix{Certificates: 70}
		l.Start(8)
	}
	poll(t, 2*time.Minute, "writes are granted by two nodes", func() bool { return granted() >= 1500 })
	for i := range loads {
		loads[i].Stop()
		recorders[i].Stop()
	}
	verifyReplicas(t, servers, recorders, ledger, http.StatusServiceUnavailable)
	t.Logf("%d requests, %d of them writes that were granted", ledger.Len(), granted())
}

// TestGalera has two replicas, each over another node of a Galera cluster, take
// requests while the nodes are killed in turn: the replica that used one goes on
// with the next. What was acknowledged through one node is there at the others.
func TestGalera(t *testing.T) {
	t.Parallel()
	cluster := harness.StartGalera(t)
	nodes := cluster.Nodes
	servers, proxies := overNodes(t, cluster)
	first, second := servers[0], servers[1]
	ledger, recorders, loads := loadsOf(t, servers)

	// A node that is behind does not say that what it lacks is not there.
	release := cluster.Hold(t, 1)
	entry := loads[0].One(harness.KindEntry)
	if entry.Status != http.StatusCreated {
		t.Fatalf("beside a node that is behind: status %d: %s", entry.Status, entry.Error)
	}
	read := func() int {
		status, _ := get(t, second.URL+"/api/v1/log/entries/"+entry.UUID)
		return status
	}
	if status := read(); status != http.StatusServiceUnavailable {
		t.Errorf("over a node that is behind, an entry is answered with %d", status)
	}
	release()
	poll(t, resumeLimit, "the entry is found", func() bool { return read() == http.StatusOK })

	for _, l := range loads {
		l.Start(8)
	}
	granted := counter(ledger)
	more := func(what string) time.Duration {
		t.Helper()
		start, target := time.Now(), granted()+100
		poll(t, time.Minute, what, func() bool { return granted() >= target })
		return time.Since(start)
	}
	more("writes are granted")
	used := []int{0, 1} // which node each replica uses
	for kill := range nodes {
		nodes[kill].Kill()
		for i, p := range proxies {
			if used[i] != kill {
				continue
			}
			used[i] = (kill + 1) % len(nodes)
			p.SetTarget(nodes[used[i]].Addr)
			p.End(harness.Reset)
		}
		for _, s := range servers {
			s.WaitReady(resumeLimit)
		}
		took := more("writes are granted by two nodes")
		t.Logf("node %d killed; 100 writes were granted %s after both replicas were ready again", kill, took.Round(time.Millisecond))
		cluster.Restart(t, kill)
	}
	more("writes are granted by three nodes")
	for i := range loads {
		loads[i].Stop()
		recorders[i].Stop()
	}
	verifyReplicas(t, servers, recorders, ledger, http.StatusServiceUnavailable)
	// And at the third node, which may be no replica's.
	proxies[0].SetTarget(nodes[2].Addr)
	proxies[0].End(harness.Reset)
	first.WaitReady(resumeLimit)
	verifyReplicas(t, servers, recorders, ledger, http.StatusServiceUnavailable)
	t.Logf("%d requests, %d of them writes that were granted", ledger.Len(), granted())
}
