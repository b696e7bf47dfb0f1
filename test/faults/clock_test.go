package faults

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sigstack/sigstack/test/harness"
)

// TestClock (F8) moves the clock of a server. Times that were signed never go
// back: with a clock that is behind them the logs take nothing, and say so,
// until it has caught up.
func TestClock(t *testing.T) { overEach(t, moveClock) }

func moveClock(t *testing.T, s storage) {
	clock := harness.NewClock(t)
	b := startBench(t, s, harness.Options{Clock: clock})
	b.allow = []int{http.StatusServiceUnavailable}
	b.recorder.Start()
	works := func(what string) {
		t.Helper()
		b.load.Entries(3)
		b.load.Certificates(3)
		b.recorder.Poll(t.Context())
		if ready, body := b.Ready(); !ready || t.Failed() {
			t.Fatalf("%s: ready %v: %s", what, ready, body)
		}
	}
	refuses := func(what string) {
		t.Helper()
		before := b.recorder.Size(harness.LogRekor)
		for _, kind := range []string{harness.KindEntry, harness.KindCertificate} {
			if r := b.load.One(kind); r.Status != http.StatusServiceUnavailable {
				t.Fatalf("%s: a request for %s is answered with %d: %s", what, kind, r.Status, r.Error)
			}
		}
		b.recorder.Poll(t.Context())
		if after := b.recorder.Size(harness.LogRekor); after != before {
			t.Fatalf("%s: the log has grown from %d to %d", what, before, after)
		}
		if ready, body := b.Ready(); ready || !strings.Contains(body, "clock") {
			t.Fatalf("%s: ready %v: %s", what, ready, body)
		}
		b.readable()
	}
	// No request is under way when the clock is set: the times in the ledger
	// are compared with it.
	set := func(offset time.Duration) {
		t.Helper()
		b.recorder.Stop()
		clock.Set(offset)
		b.recorder.Start()
	}

	works("at the right time")
	set(time.Hour)
	works("one hour later")
	set(0)
	refuses("one hour earlier")
	b.Kill()
	b.Launch()
	poll(t, readyLimit, "a server with a clock that is behind answers", func() bool {
		ready, body := b.Ready()
		return !ready && strings.Contains(body, "clock")
	})
	if status, body := get(t, b.URL+"/ct/v1/get-sth"); status != http.StatusServiceUnavailable {
		t.Errorf("a tree head is signed with a clock that is behind: %d %s", status, body)
	}
	if r := b.load.One(harness.KindEntry); r.Status != http.StatusServiceUnavailable {
		t.Errorf("after a restart an entry is answered with %d", r.Status)
	}
	set(time.Hour)
	works("again one hour later")

	// A step back that is smaller than what clocks are corrected by.
	b.load.Entries(1)
	set(time.Hour - 900*time.Millisecond)
	works("0.9 seconds earlier")

	b.load.Entries(1)
	b.load.Certificates(1)
	b.recorder.Poll(t.Context()) // a tree head that was signed can be read later
	set(time.Hour - 4*time.Second)
	refuses("several seconds earlier")
	b.Poll(10*time.Second, "the clock catches up", func() bool { ready, _ := b.Ready(); return ready })
	works("after the clock has caught up")

	b.recorder.Stop()
	clock.Freeze()
	b.recorder.Start()
	for range 20 {
		works("frozen") // with a new tree head each time
	}
	set(2 * time.Hour)
	works("running again")
	b.recorder.Stop()
	b.measure()
	b.verify()
	t.Log(b.summary())
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	res, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}
