package faults

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sigstack/sigstack/test/harness"
)

const (
	awayLimit = 2 * time.Second  // for an answer while the database is away
	backLimit = 10 * time.Second // from the database's return to a write that is granted

	// roundLimit is how long a write may wait for a database that answers, late.
	roundLimit = 17 * time.Second

	// poolSize is how many connections a server has to its database at most.
	poolSize = 8 + 16

	// fullRounds is from how many rounds on a network is away for 30 seconds.
	fullRounds = 20
)

// rounds is how often each fault comes.
func rounds(t *testing.T) int { return int(fromEnv(t, "FAULTS_DB_ROUNDS", 2)) }

// A dbBench is a bench over a database, with the network in between.
type dbBench struct {
	*bench
	db    *harness.MariaDB
	proxy *harness.Proxy

	back []time.Duration // from the database's return to a write, for each outage
	slow time.Duration   // the slowest answer while it was away

	mu     sync.Mutex // guards stalls
	stalls []stall
}

// A stall is an answer of /healthz, which asks nothing of a database, that came
// late: the machine had no time for the server then, nor for the test.
type stall struct{ begin, end time.Time }

// watch looks for stalls until the test ends.
func (b *dbBench) watch() {
	done := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		turn := time.NewTicker(20 * time.Millisecond)
		defer turn.Stop()
		for {
			begin := time.Now()
			if res, err := http.Get(b.URL + "/healthz"); err == nil {
				res.Body.Close()
			}
			if end := time.Now(); end.Sub(begin) > 20*time.Millisecond {
				b.mu.Lock()
				b.stalls = append(b.stalls, stall{begin, end})
				b.mu.Unlock()
			}
			select {
			case <-turn.C:
			case <-done:
				return
			}
		}
	})
	b.t.Cleanup(func() {
		close(done)
		running.Wait()
	})
}

// stalled is how long the machine had no time between two moments.
func (b *dbBench) stalled(from, to time.Time) (sum time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.stalls {
		if s.begin.Before(to) && s.end.After(from) {
			sum += s.end.Sub(s.begin)
		}
	}
	return sum
}

func startDBBench(t *testing.T, db *harness.MariaDB, prepare func(*harness.Proxy)) *dbBench {
	t.Helper()
	proxy := harness.NewProxy(t, db.Addr)
	if prepare != nil {
		prepare(proxy)
	}
	b := startBench(t, mysql, harness.Options{DSN: strings.Replace(db.NewDatabase(t), db.Addr, proxy.Addr, 1)})
	b.allow, b.database = []int{http.StatusServiceUnavailable}, true
	b.baseline.Goroutines += poolSize // the driver has one for each connection
	b.load.Pause = 50 * time.Millisecond
	b.recorder.Start()
	d := &dbBench{bench: b, db: db, proxy: proxy}
	d.watch()
	return d
}

// outage takes the database away under load, for a while, and brings it back.
func (b *dbBench) outage(what string, begin func(), lasts time.Duration, end func()) {
	b.t.Helper()
	b.load.Start(4)
	b.granted(10)
	from := b.ledger.Len()
	begin()
	away := time.Now()
	b.refused(4)
	timer := time.NewTimer(max(0, lasts-time.Since(away)))
	<-timer.C
	if ready, _ := b.Ready(); ready {
		b.t.Errorf("%s: ready without a database", what)
	}
	end()
	back := time.Now()
	b.granted(1)
	took := time.Since(back)
	b.load.Stop()
	if b.back = append(b.back, took); took > backLimit {
		b.t.Errorf("%s: a write is granted %s after the database was back, want at most %s", what, took, backLimit)
	}
	b.bounded(what, awayLimit, from, away, back)
	b.WaitReady(backLimit)
	b.verifySince()
}

// bounded looks at the answers that were given, or still awaited, while the
// database was away.
func (b *dbBench) bounded(what string, limit time.Duration, from int, away, back time.Time) {
	b.t.Helper()
	for _, r := range b.ledger.Records(from) {
		if r.Status == 0 && r.Error != "" {
			b.t.Errorf("%s: %s got no answer: %s", what, r.Kind, r.Error)
		}
		if r.Status == http.StatusServiceUnavailable && r.Retry == "" {
			b.t.Errorf("%s: %s is refused without Retry-After: %s", what, r.Kind, r.Error)
		}
		if harness.Acknowledged(r) && r.Received.Before(back) {
			continue // for this one it was not away
		}
		begin, end := r.Sent, r.Received
		if begin.Before(away) {
			begin = away
		}
		if end.After(back) {
			end = back
		}
		took := end.Sub(begin)
		took -= min(took, b.stalled(begin, end))
		if b.slow = max(b.slow, took); took > limit {
			b.t.Errorf("%s: %s waited %s while the database was away, want at most %s; status %d after %s: %s", what, r.Kind, took, limit, r.Status, r.Received.Sub(r.Sent), r.Error)
		}
	}
}

// finish verifies everything.
func (b *dbBench) finish() {
	b.t.Helper()
	b.recorder.Stop()
	if most := b.proxy.Most(); most > poolSize {
		b.t.Errorf("%d connections at a time, want at most %d", most, poolSize)
	}
	b.verify()
	made, _ := b.proxy.Connections()
	var slowest time.Duration
	for _, d := range b.back {
		slowest = max(slowest, d)
	}
	b.t.Logf("%d outages; slowest answer %s while the database was away, slowest write %s after its return; %d connections, %d at a time: %s", len(b.back),
		b.slow.Round(time.Millisecond), slowest.Round(time.Millisecond), made, b.proxy.Most(), b.summary())
}

// TestDatabaseRestarts (F3) stops and kills the database server, and has it come
// and go.
func TestDatabaseRestarts(t *testing.T) {
	t.Parallel()
	db := harness.StartMariaDB(t)
	b := startDBBench(t, db, nil)
	for range rounds(t) {
		b.outage("a clean stop", func() { db.Stop(t) }, 0, func() { db.Restart(t) })
		b.outage("SIGKILL", db.Kill, 0, func() { db.Restart(t) })
		b.outage("flapping", func() {
			b.proxy.Refuse(true)
			b.proxy.End(harness.Reset)
		}, 0, func() {
			for range 4 {
				b.proxy.Refuse(false)
				b.more(1, "a write is granted or refused", func(r harness.Record) bool {
					return harness.Acknowledged(r) || r.Status == http.StatusServiceUnavailable
				})
				b.proxy.Refuse(true)
				b.proxy.End(harness.Reset)
			}
			b.proxy.Refuse(false)
		})
	}
	b.finish()
}

// TestDatabaseSilent (F4) has the network lose, or hold for a while, what goes to
// the database, what comes from it, or both, while all connections stand.
func TestDatabaseSilent(t *testing.T) {
	t.Parallel()
	lasts := 3 * time.Second
	if rounds(t) >= fullRounds {
		lasts = 30 * time.Second
	}
	lose := func(directions ...harness.Direction) func(*harness.Proxy) {
		return func(p *harness.Proxy) {
			for _, d := range directions {
				p.Blackhole(d)
			}
			p.Inspect(func(d harness.Direction, _ []byte) harness.Verdict {
				if slices.Contains(directions, d) {
					return harness.Drop
				}
				return harness.Pass
			})
		}
	}
	heal := func(p *harness.Proxy) { p.Inspect(nil) } // for new connections
	for _, fault := range []struct {
		name       string
		begin, end func(*harness.Proxy)
	}{
		{"nothing passes", lose(harness.ToServer, harness.ToClient), heal},
		{"nothing arrives", lose(harness.ToServer), heal},
		{"nothing comes back", lose(harness.ToClient), heal},
		{"everything comes later", func(p *harness.Proxy) { p.Hold(true) }, func(p *harness.Proxy) { p.Hold(false) }},
	} {
		t.Run(fault.name, func(t *testing.T) {
			t.Parallel()
			b := startDBBench(t, harness.StartMariaDB(t), nil)
			for range rounds(t) {
				b.outage(fault.name, func() { fault.begin(b.proxy) }, lasts, func() { fault.end(b.proxy) })
			}
			b.finish()
		})
	}
}

// TestDatabaseResets (F4) resets all connections, and single ones in the middle
// of whatever they do.
func TestDatabaseResets(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(seed(t), 4))
	b := startDBBench(t, harness.StartMariaDB(t), nil)
	for range rounds(t) {
		for _, how := range []harness.Verdict{harness.Reset, harness.Cut} {
			// The server is there: most of it nobody notices.
			b.load.Start(4)
			b.granted(10)
			b.proxy.End(how)
			start := time.Now()
			b.granted(10)
			if took := time.Since(start); took > backLimit {
				t.Errorf("10 writes %s after all connections were ended", took)
			}
			var left atomic.Int64
			for range 5 {
				left.Store(1 + rng.Int64N(60))
				b.proxy.Inspect(func(harness.Direction, []byte) harness.Verdict {
					if left.Add(-1) == 0 {
						return how
					}
					return harness.Pass
				})
				b.Poll(resumeLimit, "a connection is ended in the middle", func() bool { return left.Load() <= 0 })
				b.granted(2)
			}
			b.proxy.Inspect(nil)
			b.load.Stop()
			b.verifySince()
		}
		b.outage("resets", func() {
			b.proxy.Refuse(true)
			b.proxy.End(harness.Reset)
		}, time.Second, func() { b.proxy.Refuse(false) })
	}
	b.finish()
}

// TestCommitCut (F4) lets a COMMIT or its answer be lost, of the queue, of the
// tree or of the audit log. Where the connection ends the server reads back what
// became of it. Where nothing is heard it says that it does not know, and the
// client finds out by asking again.
func TestCommitCut(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(seed(t), 5))
	var fault, after atomic.Int64 // the next fault, and how many commits pass before it
	var hit atomic.Int64
	b := startDBBench(t, harness.StartMariaDB(t), func(p *harness.Proxy) {
		p.WatchCommits(func() harness.CommitFault {
			if fault.Load() == 0 || after.Add(-1) >= 0 {
				return harness.CommitPasses
			}
			f := fault.Swap(0)
			if f > 0 {
				hit.Add(1)
			}
			return harness.CommitFault(f)
		})
	})
	b.load.Entries(10)
	unknown := 0
	for n := range 10 * rounds(t) {
		kind, faults := harness.KindEntry, []harness.CommitFault{harness.CommitCut, harness.AnswerCut}
		if n%5 == 4 {
			kind = harness.KindCertificate
		}
		silent := n%8 == 7
		if silent {
			faults = []harness.CommitFault{harness.CommitLost, harness.AnswerLost}
		}
		what := faults[rng.IntN(2)]
		// An entry takes one commit, or two with a duplicate; a certificate one more.
		after.Store(rng.Int64N(2))
		before := hit.Load()
		fault.Store(int64(what))
		var open []harness.Record
		b.load.Burst(kind, 3, 3, func(r harness.Record) {
			if !harness.Acknowledged(r) {
				open = append(open, r)
			}
		})
		for hit.Load() == before { // a batch of three passed before, and was one commit
			b.load.One(kind)
		}
		for _, r := range open {
			if !silent {
				t.Errorf("fault %d: %s is answered with %d, not by reading back: %s", what, kind, r.Status, r.Error)
			}
			if took := r.Received.Sub(r.Sent) - b.stalled(r.Sent, r.Received); took > awayLimit {
				t.Errorf("fault %d: %s was refused after %s, want at most %s", what, kind, took, awayLimit)
			}
			if kind != harness.KindEntry {
				continue
			}
			if !strings.Contains(r.Error, "not known") && !strings.Contains(r.Error, "try again") {
				t.Errorf("fault %d: refused with %s", what, r.Error)
			}
			if strings.Contains(r.Error, "not known") {
				unknown++
			}
			start := time.Now()
			poll(t, backLimit, "the outcome of an entry is found out", func() bool {
				again := b.load.Again(r)
				return again.Status == http.StatusConflict || again.Status == http.StatusCreated
			})
			b.back = append(b.back, time.Since(start))
		}
		if t.Failed() {
			t.FailNow()
		}
	}
	t.Logf("%d commits were cut; the outcome of %d entries was unknown at first", hit.Load(), unknown)
	b.verifySince()
	b.finish()
}

// TestDatabaseSlow (F3, F9) delays each answer of the database: by so little that
// a write only takes longer, and by so much that it is away.
func TestDatabaseSlow(t *testing.T) {
	t.Parallel()
	b := startDBBench(t, harness.StartMariaDB(t), nil)
	for range rounds(t) {
		b.load.Start(4)
		b.granted(10)
		from := b.ledger.Len()
		b.proxy.Delay(harness.ToClient, 20*time.Millisecond)
		b.granted(12)
		b.proxy.Delay(harness.ToClient, 0)
		b.load.Stop()
		var slowest time.Duration
		for _, r := range b.ledger.Records(from) {
			slowest = max(slowest, r.Received.Sub(r.Sent))
			if r.Status == http.StatusServiceUnavailable {
				t.Errorf("20 ms an answer: %s is refused: %s", r.Kind, r.Error)
			}
		}
		t.Logf("20 ms an answer: slowest request %s", slowest.Round(time.Millisecond))
		b.verifySince()
		b.outage("3 s an answer", func() { b.proxy.Delay(harness.ToClient, 3*time.Second) }, 2*time.Second, func() { b.proxy.Delay(harness.ToClient, 0) })
	}
	b.finish()
}

// TestHostBlocked (F3) has the database server block the host, as one does that
// has seen too many connections from there which were not set up.
func TestHostBlocked(t *testing.T) {
	t.Parallel()
	const host = "127.0.0.2" // 127.0.0.1 is never blocked
	db := harness.StartMariaDB(t)
	db.Admin(t, "SET GLOBAL max_connect_errors = 5")
	b := startDBBench(t, db, func(p *harness.Proxy) { p.From(host) })
	blocked := func() bool {
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(host)}, Timeout: awayLimit}
		conn, err := dialer.Dial("tcp", db.Addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		greeting := make([]byte, 512)
		n, _ := conn.Read(greeting)
		return strings.Contains(string(greeting[:n]), "is blocked")
	}
	for range rounds(t) {
		b.outage("a blocked host", func() {
			poll(t, resumeLimit, "the server blocks the host", blocked)
			b.proxy.End(harness.Reset)
		}, time.Second, func() { db.Admin(t, "FLUSH HOSTS") })
	}
	b.finish()
}

// TestDatabaseDiskFull (F2) has the database server meet the end of its disk.
// It refuses to write then, or gives up after some seconds in which it answers
// some and holds the locks of others: what an operator starts again.
func TestDatabaseDiskFull(t *testing.T) {
	t.Parallel()
	disk := harness.NewDisk(t, 320<<20)
	db := harness.StartMariaDBOn(t, disk)
	b := startDBBench(t, db, nil)
	crashes := 0
	for range rounds(t) {
		b.load.Start(4)
		b.granted(20)
		disk.Fill(0)
		from := b.ledger.Len()
		away := time.Now()
		b.refused(10)
		granted := b.ledger.Count(harness.Acknowledged)
		disk.Release()
		back := time.Now()
		b.Poll(resumeLimit, "10 writes are granted", func() bool {
			if !db.Running() {
				crashes++
				db.Restart(t)
				back = time.Now()
			}
			return b.ledger.Count(harness.Acknowledged) >= granted+10
		})
		if took := time.Since(back); took > backLimit {
			t.Errorf("10 writes %s after there was room, want at most %s", took, backLimit)
		}
		b.back = append(b.back, time.Since(back))
		b.load.Stop()
		b.bounded("a full disk", roundLimit, from, away, back)
		b.verifySince()
	}
	t.Logf("the database server has given up %d times", crashes)
	b.finish()
}

// TestFailover (F5) sends the server to a database that lacks what was signed
// over the first one. The log stops in the round that meets it, and signs no
// more, whichever of the two it is sent to then, until it is started over the one
// that has everything.
func TestFailover(t *testing.T) {
	t.Parallel()
	primary := harness.StartMariaDB(t)
	b := startDBBench(t, primary, nil)
	b.allow = append(b.allow, http.StatusInternalServerError)
	b.recorder.Stop() // a write shall be the first to notice
	b.load.Entries(20)
	b.load.Certificates(3)
	primary.Stop(t)
	behind := primary.Copy(t)
	primary.Restart(t)
	behind.Restart(t)
	b.WaitReady(backLimit)
	to := func(db *harness.MariaDB) {
		b.proxy.Point(db.Addr)
		b.proxy.End(harness.Reset)
	}
	for n := range rounds(t) {
		b.load.Entries(5)
		b.load.Certificates(2)
		b.recorder.Poll(t.Context())
		before := b.checkpoint()
		to(behind)
		kinds := []string{harness.KindEntry, harness.KindCertificate}
		for _, kind := range append(kinds, kinds...) {
			if r := b.load.One(kind); r.Status != http.StatusInternalServerError && kind == harness.KindEntry || harness.Acknowledged(r) {
				t.Errorf("%s over a database that is behind: status %d: %s", kind, r.Status, r.Error)
			}
		}
		if ready, body := b.Ready(); ready || !strings.Contains(body, "integrity") {
			t.Errorf("over a database that is behind: ready %v: %s", ready, body)
		}
		if now := b.checkpoint(); now != before {
			t.Errorf("the checkpoint was\n%s\nand over a database that is behind it is\n%s", before, now)
		}
		if n%2 == 0 { // a start over it is refused
			b.Kill()
			b.Launch()
			if code := b.Wait(startOverBehind); code != 2 {
				t.Errorf("a start over a database that is behind: exit code %d, want 2\n%s", code, b.Log())
			}
			if !strings.Contains(b.Log(), "integrity") {
				t.Errorf("a start over a database that is behind says\n%s", b.Log())
			}
			to(primary)
		} else { // the old primary comes back under the server
			to(primary)
			b.readable()
			if r := b.load.One(harness.KindEntry); r.Status != http.StatusInternalServerError {
				t.Errorf("a log that has stopped signing: status %d: %s", r.Status, r.Error)
			}
			b.Kill()
		}
		b.Restart()
		b.load.Entries(2)
		b.load.Certificates(1)
		b.verifySince()
	}
	b.measure()
	b.baseline.Goroutines += poolSize
	b.finish()
}

// startOverBehind is how long a start may take that is refused.
const startOverBehind = 30 * time.Second

// checkpoint is the one that the log shows.
func (b *dbBench) checkpoint() string {
	b.t.Helper()
	res, err := http.Get(b.URL + "/api/v1/log")
	if err != nil {
		b.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	var info struct{ SignedTreeHead string }
	if err := json.Unmarshal(text, &info); err != nil || res.StatusCode != http.StatusOK {
		b.t.Fatalf("/api/v1/log: %s: %s", res.Status, text)
	}
	return fmt.Sprint(info.SignedTreeHead)
}
