package faults

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/sigstack/sigstack/test/harness"
)

// replicaWrites is how many writes are granted in TestReplicas unless
// FAULTS_REPLICA_WRITES says otherwise.
const replicaWrites = 2000

// replicas starts three servers over one database.
func replicas(t *testing.T, o harness.Options) []*harness.Server {
	t.Helper()
	o.Leaks = harness.NewLeaks()
	first := harness.NewServer(t, o)
	first.Restart()
	servers := []*harness.Server{first, first.Replica(t), first.Replica(t)}
	servers[1].Restart()
	servers[2].Restart()
	return servers
}

// counter returns a function that says how many writes were granted, and looks
// at each record once.
func counter(ledger *harness.Ledger) func() int {
	seen, n := 0, 0
	return func() int {
		records := ledger.Records(seen)
		seen += len(records)
		for _, r := range records {
			if harness.Acknowledged(r) {
				n++
			}
		}
		return n
	}
}

// killEvery is how long TestReplicas lets its replicas alone at most.
const killEvery = 5 * time.Second

// TestReplicas has three replicas over one database take the requests of 64
// clients while one after the other is killed and starts again. Every invariant
// is checked over what all of them have answered and shown, and all of them say
// the same of every entry, with the same proofs.
func TestReplicas(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(seed(t), 3))
	want := int(fromEnv(t, "FAULTS_REPLICA_WRITES", replicaWrites))
	servers := replicas(t, harness.Options{DSN: harness.StartMariaDB(t).NewDatabase(t)})
	dir := t.TempDir()
	ledger := harness.NewLedger(t, filepath.Join(dir, "ledger"))
	var recorders []*harness.Recorder
	var loads []*harness.Load
	for i, s := range servers {
		r := harness.NewRecorder(t, s, filepath.Join(dir, fmt.Sprint("trees", i)))
		r.Start()
		l := harness.NewLoad(t, s, ledger, r, uint64(i+1))
		l.Start([]int{22, 21, 21}[i])
		recorders, loads = append(recorders, r), append(loads, l)
	}
	start := time.Now()
	granted := counter(ledger)
	kills := 0
	for granted() < want {
		// On from what the others have granted meanwhile.
		target, due := min(want, granted()+1+rng.IntN(want/8)), time.Now().Add(killEvery)
		poll(t, time.Minute, "something is granted", func() bool { return granted() >= target || time.Now().After(due) })
		s := servers[rng.IntN(len(servers))]
		s.Kill()
		s.Restart()
		kills++
	}
	took := time.Since(start)
	for i := range loads {
		loads[i].Stop()
		recorders[i].Stop()
	}
	verifyReplicas(t, servers, recorders, ledger, http.StatusServiceUnavailable)
	t.Logf("%d writes granted by %d replicas in %s, with %d kills; checked in %s",
		granted(), len(servers), took.Round(time.Second), kills, (time.Since(start) - took).Round(time.Second))
}

// verifyReplicas checks all invariants at one replica, and that the others answer
// as it does. Nothing may write.
func verifyReplicas(t *testing.T, servers []*harness.Server, recorders []*harness.Recorder, ledger *harness.Ledger, allow ...int) {
	t.Helper()
	for i, s := range servers {
		for j, r := range recorders {
			r.Poll(t.Context())
			e := &harness.Evidence{Server: s, Records: ledger.Records(0), Trees: r.Trees(0), Allow: allow, Unresolved: len(allow) > 0}
			var found []harness.Violation
			if i == 0 && j == 0 {
				found = e.Check(t.Context())
			} else { // what anyone has shown is a beginning of what this one shows
				e.Elsewhere = i != j
				found = e.CheckSince(t.Context(), len(e.Records), 0)
			}
			for _, v := range found {
				t.Errorf("replica %d, what %d has shown: %s", i, j, v)
			}
		}
	}
	for _, v := range harness.SameAnswers(t.Context(), servers...) {
		t.Errorf("all replicas: %s", v)
	}
}

// TestRollingRestart restarts each of three replicas behind a balancer under the
// load of 64 clients. Each says first that it is going, and goes on until the
// balancer must have heard it: no request fails.
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	servers := replicas(t, harness.Options{
		DSN:  harness.SharedMariaDB(t).NewDatabase(t) + harness.Patient,
		Args: []string{"--config", harness.Config(t, "drain-delay: 2s\n")},
	})
	balancer := harness.NewBalancer(t, servers...)
	all := func() bool { return balancer.Ready() == len(servers) }
	poll(t, readyLimit, "all replicas are ready", all)
	dir := t.TempDir()
	ledger := harness.NewLedger(t, filepath.Join(dir, "ledger"))
	var recorders []*harness.Recorder
	for i, s := range servers {
		r := harness.NewRecorder(t, s, filepath.Join(dir, fmt.Sprint("trees", i)))
		r.Start()
		recorders = append(recorders, r)
	}
	load := harness.NewLoad(t, servers[0].Behind(balancer.URL), ledger, nil, 1)
	load.Start(64)
	granted := counter(ledger)
	writes := func(n int) {
		t.Helper()
		target := granted() + n
		poll(t, time.Minute, fmt.Sprintf("%d writes are granted", n), func() bool { return granted() >= target })
	}
	for i, s := range servers {
		writes(100)
		s.Terminate()
		poll(t, readyLimit, "the balancer notices", func() bool { return !all() })
		if code := s.Wait(2 * drainLimit); code != 0 {
			t.Errorf("replica %d: exit code %d, want 0\n%s", i, code, s.Log())
		}
		writes(100) // by the others
		s.Restart()
		poll(t, readyLimit, "all replicas are ready again", all)
	}
	writes(100)
	load.Stop()
	for _, r := range recorders {
		r.Stop()
	}
	for _, r := range ledger.Records(0) {
		if r.Status == 0 || r.Status >= 500 {
			t.Errorf("%s was answered with %d: %s", r.Kind, r.Status, r.Error)
		}
	}
	verifyReplicas(t, servers, recorders, ledger)
	t.Logf("%d requests, %d of them writes that were granted", ledger.Len(), granted())
}
