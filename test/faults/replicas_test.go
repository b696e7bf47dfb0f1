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

// TestReplicas has three replicas over one database take requests while one
// after the other is killed and starts again. Every invariant is checked at each
// of them, over what all of them have answered and shown.
func TestReplicas(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(seed(t), 3))
	want := int(fromEnv(t, "FAULTS_REPLICA_WRITES", replicaWrites))
	database := harness.StartMariaDB(t)
	first := harness.NewServer(t, harness.Options{DSN: database.NewDatabase(t), Leaks: harness.NewLeaks()})
	first.Restart()
	servers := []*harness.Server{first, first.Replica(t), first.Replica(t)}
	dir := t.TempDir()
	ledger := harness.NewLedger(t, filepath.Join(dir, "ledger"))
	var recorders []*harness.Recorder
	var loads []*harness.Load
	for i, s := range servers {
		if i > 0 {
			s.Restart()
		}
		r := harness.NewRecorder(t, s, filepath.Join(dir, fmt.Sprint("trees", i)))
		r.Start()
		l := harness.NewLoad(t, s, ledger, r, uint64(i+1))
		l.Start(8)
		recorders, loads = append(recorders, r), append(loads, l)
	}
	granted := func() int { return ledger.Count(harness.Acknowledged) }
	kills := 0
	for granted() < want {
		// On from what the others have granted meanwhile.
		target := min(want, granted()+1+rng.IntN(want/8))
		s := servers[rng.IntN(len(servers))]
		s.Poll(time.Minute, fmt.Sprintf("%d writes are granted", target), func() bool { return granted() >= target })
		s.Kill()
		s.Restart()
		kills++
	}
	for i := range loads {
		loads[i].Stop()
		recorders[i].Stop()
	}
	for i, s := range servers {
		for j, r := range recorders {
			r.Poll(t.Context())
			e := &harness.Evidence{Server: s, Records: ledger.Records(0), Trees: r.Trees(0), Allow: []int{http.StatusServiceUnavailable}}
			var found []harness.Violation
			if i == j {
				found = e.Check(t.Context())
			} else { // what another one has shown is a beginning of what this one shows
				found = e.CheckSince(t.Context(), len(e.Records), 0)
			}
			for _, v := range found {
				t.Errorf("replica %d, what %d has shown: %s", i, j, v)
			}
		}
	}
	t.Logf("%d writes granted by %d replicas, with %d kills", granted(), len(servers), kills)
}
