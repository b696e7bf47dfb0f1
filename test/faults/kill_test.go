package faults

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sigstack/sigstack/test/harness"
)

const (
	readyLimit = 5 * time.Second        // from the start after a crash to ready
	leaseLimit = 4 * time.Second        // more, over a database, after one that was killed while it published its TUF metadata
	killMean   = 300 * time.Millisecond // between ready and SIGKILL
)

// TestKills (F1a) kills the server at random times under load, and restarts it
// on what is left.
func TestKills(t *testing.T) { overEach(t, killAtRandom) }

func killAtRandom(t *testing.T, s storage) {
	seed := seed(t)
	kills := int(fromEnv(t, "FAULTS_KILLS", 50))
	rng := rand.New(rand.NewPCG(seed, 0))
	b := startBench(t, s, harness.Options{})
	b.load = harness.NewLoad(t, b.Server, b.ledger, b.recorder, seed)
	b.recorder.Start()
	var ready []time.Duration
	for i := range kills {
		// Few writers in some rounds: then batches are small, and more of the
		// time is spent at the borders between steps.
		b.load.Start(1 + rng.IntN(6))
		after := min(time.Duration(rng.ExpFloat64()*float64(killMean)), 4*killMean)
		timer := time.NewTimer(after)
		<-timer.C
		b.Kill()
		limit := readyLimit
		if rng.IntN(4) == 0 { // and once more in the middle of recovery
			if s == mysql {
				limit += leaseLimit
			}
			b.Launch()
			timer.Reset(time.Duration(rng.IntN(60)) * time.Millisecond)
			<-timer.C
			b.Kill()
		}
		took := b.Restart()
		b.load.Stop()
		if ready = append(ready, took); took > limit {
			t.Errorf("ready %s after kill %d, want at most %s", took, i, limit)
		}
		b.verifySince()
	}
	b.recorder.Stop()
	b.measure() // of this process
	b.verify()
	slices.Sort(ready)
	t.Logf("%d kills; ready after %s (median), %s (slowest); %d requests: %s; %d trees",
		kills, ready[len(ready)/2].Round(time.Millisecond), ready[len(ready)-1].Round(time.Millisecond), b.ledger.Len(), b.summary(), len(b.recorder.Trees(0)))
}

// TestKillFirstStart (F1a) kills a server while it makes its keys, its logs and
// its trust root. The next start finishes that, and is a whole server.
func TestKillFirstStart(t *testing.T) { overEach(t, killFirstStart) }

func killFirstStart(t *testing.T, s storage) {
	rng := rand.New(rand.NewPCG(seed(t), 1))
	// Until it serves, a start takes about this long, most of it for the RSA
	// key of the development issuer.
	whole := startBench(t, s, harness.Options{})
	whole.Stop()
	start := time.Now()
	fresh := startBench(t, s, harness.Options{})
	takes := time.Since(start)
	fresh.Stop()
	limit := readyLimit
	if s == mysql {
		limit += leaseLimit
	}
	early, rounds := 0, map[storage]int{sqlite: 30, mysql: 10}[s]
	for range rounds {
		b := newBench(t, s, t.TempDir(), 1, harness.Options{})
		for range 2 {
			b.Launch()
			timer := time.NewTimer(time.Duration(rng.Int64N(int64(takes))))
			<-timer.C
			if b.Kill(); !strings.Contains(b.Log(), `"msg":"serving"`) {
				early++
			}
		}
		if took := b.Restart(); took > limit {
			t.Errorf("ready after %s", took)
		}
		b.load.Entries(2)
		b.load.Certificates(2)
		b.verify()
		b.Stop()
	}
	t.Logf("%d of %d kills came before the server served, which takes %s", early, 2*rounds, takes.Round(time.Millisecond))
}

// summary says what was asked and how it was answered.
func (b *bench) summary() string {
	out := ""
	for _, kind := range []string{harness.KindEntry, harness.KindDuplicate, harness.KindInvalid, harness.KindCertificate, harness.KindSearch} {
		out += fmt.Sprintf(" %s %v", kind, b.statuses(kind, 0))
	}
	return out[1:]
}
