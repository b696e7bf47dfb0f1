package bench

import (
	"fmt"
	"math"
	"net/http"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sigstack/sigstack/test/harness"
)

// warmUp is how long memory may grow: caches fill up.
const warmUp = 5 * time.Minute

// TestSoak has the server take entries for as long as SOAK says, at half of the
// highest rate that it reaches on this machine, and then starts it again on what
// it has stored, a million entries at least, two over a database.
//
//	make soak
//	make soak-mysql
//
// It prints a line a minute. Requests are sent at times fixed in advance and
// their latency counts from then, whenever they were sent.
func TestSoak(t *testing.T) {
	length, err := time.ParseDuration(os.Getenv("SOAK"))
	if err != nil {
		t.Skip("SOAK says how long: make soak")
	}
	var options harness.Options
	want := large{entries: 1e6, start: 2 * time.Second, rate: 0.75}
	if os.Getenv("SOAK_STORAGE") == "mysql" {
		options.DSN = harness.StartMariaDB(t, "--innodb-buffer-pool-size=4G", "--innodb-log-file-size=1G").NewDatabase(t)
		want = large{entries: 2e6, start: 5 * time.Second, rate: 0.7}
	}
	s := harness.StartWith(t, options)
	signer := newSigner(t)
	empty := signer.top(t, s, 64, 20*time.Second)
	t.Logf("highest rate: %.0f entries/s", empty)

	memory := minutes(t, s, signer, empty/2, length)
	if length >= warmUp+5*time.Minute { // else there is nothing to fit a line to
		slope, deviation := memory.slope()
		t.Logf("resident memory grows by %.2f MB an hour, with a standard error of %.2f", slope, deviation)
		if slope-2*deviation > 1 {
			t.Error("resident memory grows by more than 1 MB an hour, beyond what chance explains")
		}
	}
	want.check(t, s, signer, empty)
}

// A large is what a log of many entries must still do.
type large struct {
	entries float64
	start   time.Duration
	rate    float64 // as a share of the empty log's
}

// maxProof is what 99 of 100 reads with proof may take, with 16 clients.
const maxProof = 50 * time.Millisecond

// check fills the log and starts the server again on it.
func (l large) check(t *testing.T, s *harness.Server, signer signer, empty float64) {
	size := func() float64 { return metric(t, s, `sigstack_log_size{name="rekorv1"}`) }
	for size() < l.entries {
		signer.top(t, s, 256, 20*time.Second)
	}
	entries := size()
	s.Stop()
	start := time.Now()
	s.Restart()
	took := time.Since(start)
	t.Logf("start with %.0f entries: %v, resident memory %.1f MB", entries, took.Round(time.Millisecond), metric(t, s, "process_resident_memory_bytes")/1e6)
	if took > l.start {
		t.Errorf("a start with %.0f entries takes %v, want at most %v", entries, took, l.start)
	}
	reads := make([][]byte, 50_000)
	for i := range reads {
		reads[i] = request(addr(s), "GET", fmt.Sprintf("/api/v1/log/entries?logIndex=%d", i*104729%int(entries)), nil)
	}
	read := stack{addr: addr(s)}.send(t, 16, http.StatusOK, reads).answers
	slices.Sort(read)
	p99 := read[len(read)*99/100]
	t.Logf("reads with proof from %.0f entries: p50 %v, p99 %v", entries, round(read[len(read)/2]), round(p99))
	if len(read) != len(reads) || p99 > maxProof {
		t.Errorf("%d of %d reads were answered, p99 %v; want all, and %v", len(read), len(reads), p99, maxProof)
	}
	full := signer.top(t, s, 64, 20*time.Second)
	t.Logf("highest rate with %.0f entries: %.0f entries/s, %.2f of the empty log's; resident memory %.1f MB",
		entries, full, full/empty, metric(t, s, "process_resident_memory_bytes")/1e6)
	if full < l.rate*empty {
		t.Errorf("with %.0f entries the log takes %.0f entries/s, with none %.0f; want %.2f of that", entries, full, empty, l.rate)
	}
}

// top returns how many entries a second clients upload that wait for nothing.
func (s signer) top(t *testing.T, server *harness.Server, clients int, length time.Duration) float64 {
	var n atomic.Int64
	var wg sync.WaitGroup
	start := time.Now()
	for range clients {
		wg.Go(func() {
			conn := dial(t, addr(server))
			defer conn.Close()
			for time.Since(start) < length && !t.Failed() {
				conn.do(t, s.entry(t, addr(server), fmt.Append(nil, server.URL, start.UnixNano(), n.Add(1))), http.StatusCreated)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return float64(n.Load()) / time.Since(start).Seconds()
}

// A sample is the resident memory at one time.
type sample struct {
	at time.Duration
	mb float64
}

type samples []sample

// slope fits a line to the means of the minutes that follow the warm-up, and
// returns its rise in MB an hour with the standard error of that.
func (all samples) slope() (slope, deviation float64) {
	var n, x, y, xx, xy float64
	means := all.minutes()
	for _, s := range means {
		h := s.at.Hours()
		n, x, y, xx, xy = n+1, x+h, y+s.mb, xx+h*h, xy+h*s.mb
	}
	slope = (n*xy - x*y) / (n*xx - x*x)
	var squares float64
	for _, s := range means {
		off := s.mb - y/n - slope*(s.at.Hours()-x/n)
		squares += off * off
	}
	return slope, math.Sqrt(squares / (n - 2) / (xx - x*x/n))
}

// minutes returns the mean of each minute after the warm-up.
func (all samples) minutes() samples {
	var means samples
	for minute := range slices.Chunk(all, 60) {
		if minute[0].at < warmUp {
			continue
		}
		var sum float64
		for _, s := range minute {
			sum += s.mb
		}
		means = append(means, sample{minute[0].at, sum / float64(len(minute))})
	}
	return means
}

// minutes uploads entries at a rate, prints what each minute was like, and
// returns the resident memory every second.
func minutes(t *testing.T, server *harness.Server, s signer, rate float64, length time.Duration) samples {
	const senders = 64
	var mu sync.Mutex
	var took []time.Duration // of this minute
	var next atomic.Int64
	var wg sync.WaitGroup
	start := time.Now()
	for range senders {
		wg.Go(func() {
			conn := dial(t, addr(server))
			defer conn.Close()
			for !t.Failed() {
				n := next.Add(1)
				due := time.Duration(float64(n) / rate * float64(time.Second))
				if due > length {
					return
				}
				body := s.entry(t, addr(server), fmt.Append(nil, server.URL, start.UnixNano(), "soak", n))
				time.Sleep(due - time.Since(start))
				conn.do(t, body, http.StatusCreated)
				mu.Lock()
				took = append(took, time.Since(start)-due)
				mu.Unlock()
			}
		})
	}
	var all samples
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for second := 1; second <= int(length.Seconds()); second++ {
		<-tick.C
		now := sample{time.Since(start), metric(t, server, "process_resident_memory_bytes") / 1e6}
		all = append(all, now)
		if second%60 != 0 {
			continue
		}
		mu.Lock()
		minute := took
		took = nil
		mu.Unlock()
		slices.Sort(minute)
		if len(minute) == 0 {
			t.Fatal("no answer within a minute")
		}
		t.Logf("minute %2d: %d entries, p50 %v, p99 %v, RSS %.1f MB, %.0f goroutines", second/60, len(minute),
			minute[len(minute)/2].Round(10*time.Microsecond), minute[len(minute)*99/100].Round(10*time.Microsecond),
			now.mb, metric(t, server, "go_goroutines"))
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return all
}
