package faults

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/sigstack/sigstack/test/harness"
)

// drainLimit is what the server gives requests under way at SIGTERM.
const drainLimit = 10 * time.Second

// TestTerminate (F7) ends the server by SIGTERM under load, and starts it again.
func TestTerminate(t *testing.T) { overEach(t, terminate) }

func terminate(t *testing.T, s storage) {
	rng := rand.New(rand.NewPCG(seed(t), 7))
	b := startBench(t, s, harness.Options{})
	b.recorder.Start()
	for range 10 {
		b.load.Start(1 + rng.IntN(8))
		timer := time.NewTimer(time.Duration(rng.IntN(200)) * time.Millisecond)
		<-timer.C
		start := time.Now()
		b.Terminate()
		if code := b.Wait(2 * drainLimit); code != 0 {
			t.Errorf("exit code %d, want 0\n%s", code, b.Log())
		}
		if took := time.Since(start); took > drainLimit {
			t.Errorf("drained in %s, want at most %s", took, drainLimit)
		}
		b.Restart()
		b.load.Stop()
		b.verifySince()
	}
	b.recorder.Stop()
	b.measure()
	b.verify()
	t.Log(b.summary())
}

// TestTerminateAnswers (F7) has requests under way for certain at SIGTERM,
// because the log signs slowly: each is answered.
func TestTerminateAnswers(t *testing.T) { overEach(t, terminateAnswers) }

func terminateAnswers(t *testing.T, s storage) {
	b := startBench(t, s, harness.Options{Failpoints: "tlog.sign:rekorv1=sleep:700ms@2+,tlog.sign:ct=sleep:700ms@2+"})
	b.load.Token() // a request of its own, which would be one of those under way
	// One batch is being signed when the others come: two rounds of signing.
	var wg sync.WaitGroup
	for _, kind := range []string{harness.KindEntry, harness.KindCertificate} {
		wg.Go(func() { b.load.Burst(kind, 16, 16, func(harness.Record) {}) })
	}
	b.Poll(10*time.Second, "32 requests are under way", func() bool {
		n, err := b.Metric("sigstack_http_requests_in_flight")
		return err == nil && n >= 32
	})
	start := time.Now()
	b.Terminate()
	wg.Wait()
	if code := b.Wait(2 * drainLimit); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	took := time.Since(start)
	if n := b.ledger.Count(harness.Acknowledged); n != 32 || took > drainLimit {
		t.Errorf("%d of 32 requests under way were granted, in %s: %s", n, took, b.summary())
		for _, r := range b.ledger.Records(0) {
			if !harness.Acknowledged(r) {
				t.Errorf("%s: %d %s", r.Kind, r.Status, r.Error)
			}
		}
	}
	t.Logf("32 requests were answered in %s", took.Round(time.Millisecond))
	b.SetFailpoints("")
	b.Restart()
	b.measure()
	b.verify()
}
