package mysql_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sigstack/sigstack/storage/mysql"
	"github.com/sigstack/sigstack/test/harness"
	"github.com/sigstack/sigstack/tlog"
)

// TestAway takes a server away under more readers than there are connections,
// without a word. All are told within two seconds, and no connections are made
// but the one at a time that is tried.
func TestAway(t *testing.T) {
	const readers = 60
	server := harness.SharedMariaDB(t)
	proxy := harness.NewProxy(t, server.Addr)
	s := openLog(t, openDB(t, strings.Replace(server.NewDatabase(t), server.Addr, proxy.Addr, 1), time.Now), "ct")
	all := func(limit time.Duration, wantErr bool) {
		t.Helper()
		var wg sync.WaitGroup
		for range readers {
			wg.Go(func() {
				start := time.Now()
				_, err := s.Head(t.Context())
				if took := time.Since(start); took > limit || (err != nil) != wantErr || err != nil && !mysql.Unreachable(err) {
					t.Errorf("after %v: %v", took, err)
				}
			})
		}
		wg.Wait()
	}
	all(10*time.Second, false)
	proxy.Blackhole(harness.ToClient)
	proxy.Inspect(func(d harness.Direction, _ []byte) harness.Verdict {
		if d == harness.ToClient {
			return harness.Drop
		}
		return harness.Pass
	})
	before, _ := proxy.Connections()
	for range 3 {
		all(2*time.Second, true)
	}
	if made, _ := proxy.Connections(); made > before+6 {
		t.Errorf("%d connections were made to a server that is away", made-before)
	}
	proxy.Inspect(nil)
	returned(t, s)
	all(10*time.Second, false)
	// All these connections are lost: that is noticed once, and not of each.
	proxy.Blackhole(harness.ToClient)
	if _, err := s.Head(t.Context()); err == nil {
		t.Error("a connection that was lost answers")
	}
	all(time.Second, false)
	if most := proxy.Most(); most > 24 {
		t.Errorf("%d connections at a time", most)
	}
}

// returned waits until the server is asked again.
func returned(t *testing.T, s *mysql.Store) {
	t.Helper()
	start := time.Now()
	for {
		_, err := s.Head(t.Context())
		if err == nil {
			return
		}
		if time.Since(start) > 5*time.Second {
			t.Fatalf("5 seconds after the server came back: %v", err)
		}
		timer := time.NewTimer(5 * time.Millisecond)
		<-timer.C
	}
}

// TestPause ends every connection in the middle of its handshake, which is what a
// server blocks hosts for. However often it is asked, few are tried.
func TestPause(t *testing.T) {
	server := harness.SharedMariaDB(t)
	proxy := harness.NewProxy(t, server.Addr)
	s := openLog(t, openDB(t, strings.Replace(server.NewDatabase(t), server.Addr, proxy.Addr, 1), time.Now), "ct")
	proxy.End(harness.Reset)
	proxy.Inspect(func(harness.Direction, []byte) harness.Verdict { return harness.Cut })
	before, _ := proxy.Connections()
	tries := 0
	for start := time.Now(); time.Since(start) < 2*time.Second; tries++ {
		if _, err := s.Head(t.Context()); !mysql.Unreachable(err) {
			t.Fatal(err)
		}
	}
	made, _ := proxy.Connections()
	if made -= before; made > 10 || made < 3 || tries < 100 {
		t.Errorf("%d connections were tried for %d calls in 2 seconds", made, tries)
	}
	t.Logf("%d connections for %d calls", made, tries)
	proxy.Inspect(nil)
	returned(t, s)
}

// TestLostTransaction has the network lose a connection in the middle of a
// transaction, which the server does not learn of. Others wait for the locks of
// what was lost no longer than it may do nothing, and that they waited is no
// failure: when a connection of theirs is cut then, they find out what became of it.
func TestLostTransaction(t *testing.T) {
	for name, then := range map[string]harness.CommitFault{"": harness.CommitPasses, "cut": harness.CommitCut, "answer cut": harness.AnswerCut} {
		t.Run(name, func(t *testing.T) {
			server := harness.SharedMariaDB(t)
			proxy := harness.NewProxy(t, server.Addr)
			faults := make(chan harness.CommitFault, 2)
			proxy.WatchCommits(func() harness.CommitFault {
				select {
				case f := <-faults:
					return f
				default:
					return harness.CommitPasses
				}
			})
			s := openLog(t, openDB(t, strings.Replace(server.NewDatabase(t), server.Addr, proxy.Addr, 1), time.Now), "ct")
			if _, _, err := s.Append(t.Context(), []tlog.Leaf{leaf(0)}); err != nil {
				t.Fatal(err)
			}
			faults <- harness.CommitLost
			faults <- then
			start := time.Now()
			if _, _, err := s.Append(t.Context(), []tlog.Leaf{leaf(1)}); err == nil {
				t.Fatal("a COMMIT was lost, and nobody noticed")
			}
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			placed, head, err := s.Append(ctx, []tlog.Leaf{leaf(2)})
			if err != nil || head.Size != 2 || placed[0].Dup {
				t.Fatalf("%v in a tree of %d: %v", placed, head.Size, err)
			}
			if took := time.Since(start); took > 10*time.Second {
				t.Errorf("added after %v", took)
			}
			if len(faults) > 0 {
				t.Error("no COMMIT was cut")
			}
		})
	}
}
