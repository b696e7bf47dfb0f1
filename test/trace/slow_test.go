package trace

import (
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sigstack/sigstack/test/harness"
)

// slow attaches to a server, and has each sync of the Rekor log's files take
// longer.
func (b *bench) slow(by time.Duration) *tracer {
	b.t.Helper()
	return b.attach("-P", b.inDir("rekorv1/log.db-wal"), "-P", b.inDir("rekorv1/signed"),
		"-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:delay_exit="+itoa(int(by.Microseconds())))
}

// timed sends n entries, width at a time, and returns how long all took and how
// long the slowest.
func (b *bench) timed(n, width int, want ...int) (all, slowest time.Duration) {
	b.t.Helper()
	start := time.Now()
	b.load.Burst(harness.KindEntry, n, width, func(r harness.Record) {
		slowest = max(slowest, r.Received.Sub(r.Sent))
		if !slices.Contains(want, r.Status) {
			b.t.Errorf("status %d after %v: %s", r.Status, r.Received.Sub(r.Sent), r.Error)
		}
	})
	return time.Since(start), slowest
}

// TestSlowSync (F9) has each sync take half a second, and then five seconds. A
// batch takes two of them. Batches grow, so that the time of a request follows
// from that of two batches and not from how many wait.
func TestSlowSync(t *testing.T) {
	t.Parallel()
	b := startBench(t, harness.Options{})
	b.load.Entries(3)
	for _, c := range []struct {
		sync     time.Duration
		n, width int
	}{
		{500 * time.Millisecond, 64, 16},
		{5 * time.Second, 64, 64},
	} {
		tr := b.slow(c.sync)
		var certificates sync.WaitGroup
		certificates.Go(func() { b.load.Certificates(5) }) // of the other log
		all, slowest := b.timed(c.n, c.width, http.StatusCreated)
		certificates.Wait()
		// One batch for the first request; then half of the clients wait for a batch
		// while the other half's is being written. One by one it would be n.
		batches := 2*c.n/c.width + 2
		if limit := 2*c.sync*time.Duration(batches) + 5*time.Second; all > limit {
			t.Errorf("%d entries take %v with syncs of %v, want at most %v", c.n, all, c.sync, limit)
		}
		if limit := 4*c.sync + 5*time.Second; slowest > limit {
			t.Errorf("an entry takes %v with syncs of %v, want at most %v", slowest, c.sync, limit)
		}
		t.Logf("syncs of %v: %d entries of %d clients in %v, the slowest in %v", c.sync, c.n, c.width, all.Round(time.Millisecond), slowest.Round(time.Millisecond))
		tr.detach()
		if _, slowest := b.timed(20, 1, http.StatusCreated); slowest > 2*time.Second {
			t.Errorf("an entry takes %v after syncs of %v", slowest, c.sync)
		}
		b.verifySince("slow syncs")
	}
	b.verify()
}

// maxWait is how long a submission may wait for a batch: package tlog says so.
const maxWait = 25 * time.Second

// TestHangingSync (F9) has a sync not return at all. Everybody who waits for it
// is told so in bounded time, who comes later at once, and the process does not
// grow. When the sync returns, everything goes on.
func TestHangingSync(t *testing.T) {
	t.Parallel()
	b := startBench(t, harness.Options{})
	b.load.Entries(3)
	baseline, err := b.Figures()
	if err != nil {
		t.Fatal(err)
	}
	tr := b.slow(10 * time.Minute)
	var hanging sync.WaitGroup
	hanging.Go(func() {
		if _, slowest := b.timed(100, 100, http.StatusServiceUnavailable); slowest > maxWait+4*time.Second || slowest < maxWait-time.Second {
			t.Errorf("an entry was refused after %v, want %v", slowest, maxWait)
		}
	})
	// Readiness tells the operator, and liveness does not kill the process.
	b.Poll(readyLimit, "the server is not ready", func() bool { ready, _ := b.Ready(); return !ready })
	if status := get(t, b.Ops+"/healthz"); status != http.StatusOK {
		t.Errorf("/healthz: %d", status)
	}
	b.load.Certificates(5) // the other log works
	hanging.Wait()
	// The batch is older than one may be: nobody is let wait for it.
	if _, slowest := b.timed(1000, 50, http.StatusServiceUnavailable); slowest > 5*time.Second {
		t.Errorf("behind a sync that hangs an entry is refused after %v, want at once", slowest)
	}
	if ready, body := b.Ready(); ready || !strings.Contains(body, "a batch is being written") {
		t.Errorf("ready %v: %s", ready, body)
	}
	poll(t, readyLimit, "goroutines and descriptors are few while a sync hangs", func() bool {
		f, err := b.Figures()
		return err == nil && f.Goroutines < baseline.Goroutines+20 && f.Descriptors < baseline.Descriptors+20
	})
	tr.detach()
	b.WaitReady(readyLimit)
	b.load.Entries(20)
	b.verify()
}

// TestFewDescriptors (F13) gives a server 64 descriptors, and opens more
// connections than that. Those who have to wait are not lied to, and when the
// connections are gone everything goes on.
func TestFewDescriptors(t *testing.T) {
	t.Parallel()
	b := startBench(t, harness.Options{Wrapper: []string{"prlimit", "--nofile=64:64"}})
	b.load.Entries(3)
	b.load.Certificates(3)
	b.verifySince("before")

	entries := func(n, width int) {
		t.Helper()
		start, counts := time.Now(), map[int]int{}
		b.load.Burst(harness.KindEntry, n, width, func(r harness.Record) {
			counts[r.Status]++
			// A connection that was kept may be closed to make room for another one.
			if r.Status != http.StatusCreated && r.Status != http.StatusServiceUnavailable && !closed(r) {
				t.Errorf("status %d: %s", r.Status, r.Error)
			}
		})
		if took := time.Since(start); took > 20*time.Second || counts[http.StatusCreated] < n/2 {
			t.Errorf("%d entries of %d clients take %v, with statuses %v", n, width, took, counts)
		} else {
			t.Logf("%d entries of %d clients in %v, with statuses %v", n, width, took.Round(time.Millisecond), counts)
		}
	}
	entries(600, 150)
	b.WaitReady(readyLimit)
	b.verifySince("many clients")

	var idle []net.Conn
	for range 100 {
		conn, err := net.Dial("tcp", strings.TrimPrefix(b.URL, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		idle = append(idle, conn)
	}
	entries(50, 10) // behind them
	for _, conn := range idle {
		conn.Close()
	}
	b.WaitReady(readyLimit)
	b.load.Entries(20)
	b.load.Certificates(5)
	b.verify()
}

// closed says whether a client found its connection closed by the server.
func closed(r harness.Record) bool {
	return r.Status == 0 && (strings.HasSuffix(r.Error, "EOF") || strings.HasSuffix(r.Error, "connection reset by peer") ||
		strings.HasSuffix(r.Error, "broken pipe") || strings.HasSuffix(r.Error, "server closed idle connection"))
}

// TestLittleMemory (F13) has 64 clients write whatever there is, and eight send
// bodies that are too large, for a while. The process never needs more than 256
// MiB.
func TestLittleMemory(t *testing.T) {
	t.Parallel()
	const most = 256 << 20
	b := startBench(t, harness.Options{})
	large := `{"kind":"rekord","apiVersion":"0.0.1","spec":"` + strings.Repeat("x", 64<<20) + `"}`
	b.load.Start(64)
	var posts sync.WaitGroup
	for range 8 {
		posts.Go(func() {
			for range 5 {
				res, err := http.Post(b.URL+"/api/v1/log/entries", "application/json", strings.NewReader(large))
				if err != nil {
					continue // the server closes a connection whose body is too large
				}
				res.Body.Close()
				if res.StatusCode != http.StatusRequestEntityTooLarge {
					t.Errorf("a body of 64 MiB is answered with %s", res.Status)
				}
			}
		})
	}
	b.granted(2000)
	posts.Wait()
	b.load.Stop()
	peak := b.peak()
	t.Logf("%d requests; at most %d MiB resident", b.ledger.Len(), peak>>20)
	if peak > most {
		t.Errorf("the process had %d bytes resident, want at most %d", peak, most)
	}
	b.verify()
}

// peak returns the most memory that the server ever had resident, in bytes.
func (b *bench) peak() int {
	b.t.Helper()
	text, err := os.ReadFile(filepath.Join("/proc", itoa(b.PID()), "status"))
	if err != nil {
		b.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	number, _, _ := strings.Cut(strings.TrimSpace(rest), " kB")
	kilobytes, err := strconv.Atoi(number)
	if err != nil {
		b.t.Fatal(err)
	}
	return kilobytes << 10
}

// TestLittleTime (F13) lets a server run for a tenth of the time only, as a quota
// does.
func TestLittleTime(t *testing.T) {
	t.Parallel()
	b := startBench(t, harness.Options{})
	stop := make(chan struct{})
	var quota sync.WaitGroup
	quota.Go(func() {
		for on := false; ; on = !on {
			signal, length := syscall.SIGSTOP, 90*time.Millisecond
			if on {
				signal, length = syscall.SIGCONT, 10*time.Millisecond
			}
			if err := syscall.Kill(b.PID(), signal); err != nil {
				t.Error(err)
				return
			}
			select {
			case <-time.After(length):
			case <-stop:
				syscall.Kill(b.PID(), syscall.SIGCONT)
				return
			}
		}
	})
	b.load.Start(16)
	b.granted(300)
	close(stop)
	quota.Wait()
	b.granted(300)
	b.load.Stop()
	b.WaitReady(readyLimit)
	b.verify()
}

// granted waits until the load, which runs, had n more writes granted. If it
// never has it ends the server, so that the load can be stopped.
func (b *bench) granted(n int) {
	b.t.Helper()
	want := b.ledger.Count(harness.Acknowledged) + n
	deadline, tick := time.NewTimer(2*time.Minute), time.NewTicker(20*time.Millisecond)
	defer deadline.Stop()
	defer tick.Stop()
	for b.ledger.Count(harness.Acknowledged) < want {
		select {
		case <-tick.C:
			if b.Running() {
				continue
			}
			b.t.Error("the server has ended")
		case <-deadline.C:
			b.t.Errorf("the server has not granted %d writes within two minutes", n)
			b.Kill()
		}
		b.load.Stop()
		b.t.FailNow()
	}
}
