package faults

import (
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sigstack/sigstack/test/harness"
)

// TestCTLogDown (F12) lets the CT log fail while the rest is well: there is no
// certificate without an SCT, and entries are taken as ever.
func TestCTLogDown(t *testing.T) { overEach(t, ctLogDown) }

func ctLogDown(t *testing.T, s storage) {
	type trouble struct {
		spec    string
		orphans bool // a precertificate may be in the log
	}
	troubles := map[string]trouble{
		"it cannot append":   {"tlog.append:ct=error@*", false},
		"it cannot insert":   {"sqlite.insert:ct=error@*", false},
		"it cannot sign":     {"tlog.sign:ct=error@2+", true},
		"it cannot remember": {"tlog.signed:ct=error@2+", true},
	}
	if s == sqlite {
		troubles["it cannot commit"] = trouble{"sqlite.commit:ct=error@*", false}
		troubles["its commit is lost"] = trouble{"sqlite.committed:ct=error@*", true}
	} else { // which finds out what became of a commit
		troubles["it cannot integrate"] = trouble{"mysql.sequenced:ct=error@*", false}
	}
	for name, tt := range troubles {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := startBench(t, s, harness.Options{Failpoints: tt.spec})
			b.allow = []int{http.StatusServiceUnavailable}
			b.recorder.Start()
			b.load.Mix.Certificates = 40
			b.load.Start(6)
			b.refused(30)
			b.granted(30)
			b.load.Stop()
			b.recorder.Stop()
			if n := b.statuses(harness.KindCertificate, 0)[http.StatusOK]; n > 0 {
				t.Errorf("%d certificates without a CT log", n)
			}
			if n := b.statuses(harness.KindEntry, 0)[http.StatusServiceUnavailable]; n > 0 {
				t.Errorf("%d entries were refused because the CT log is down", n)
			}
			if size := b.recorder.Size(harness.LogCT); size > 0 && !tt.orphans {
				t.Errorf("the CT log has %d entries", size)
			}
			if s == mysql && tt.orphans {
				// Of what is stored another replica may have shown a tree, and
				// this one cannot sign it.
				if status, body := get(t, b.URL+"/ct/v1/get-sth"); status != http.StatusServiceUnavailable {
					t.Errorf("a tree head that may be old is shown: %d %s", status, body)
				}
			} else {
				b.verify()
			}
			t.Log(b.summary())
			// The CT log recovers by a restart, orphans and all.
			b.Kill()
			b.SetFailpoints("")
			b.Restart()
			b.load.Certificates(3)
			b.measure()
			b.verify()
		})
	}
}

// TestRekorLogDown (F12) is the reverse: certificates are issued as ever.
func TestRekorLogDown(t *testing.T) { overEach(t, rekorLogDown) }

func rekorLogDown(t *testing.T, s storage) {
	for _, spec := range []string{"tlog.append:rekorv1=error@*", "tlog.sign:rekorv1=error@2+"} {
		b := startBench(t, s, harness.Options{Failpoints: spec})
		b.allow = []int{http.StatusServiceUnavailable}
		b.recorder.Start()
		b.load.Mix.Certificates = 40
		b.load.Start(6)
		b.refused(30)
		b.granted(30)
		b.load.Stop()
		b.recorder.Stop()
		if n := b.statuses(harness.KindCertificate, 0)[http.StatusServiceUnavailable]; n > 0 {
			t.Errorf("%d certificates were refused because the Rekor log is down", n)
		}
		if n := b.statuses(harness.KindEntry, 0)[http.StatusCreated]; n > 0 {
			t.Errorf("%d entries were taken by a log that is down", n)
		}
		t.Log(b.summary())
		// What was stored and not signed is published by the next start. Until
		// then the search index is ahead of the tree.
		b.Kill()
		b.SetFailpoints("")
		b.Restart()
		b.load.Entries(3)
		b.measure()
		b.verify()
	}
}

// TestAuditDown (F12) lets the audit log fail: what was signed is thrown away.
func TestAuditDown(t *testing.T) { overEach(t, auditDown) }

func auditDown(t *testing.T, s storage) {
	b := startBench(t, s, harness.Options{Failpoints: "audit.record=error@5,audit.commit=error@9+"})
	b.allow = []int{http.StatusServiceUnavailable}
	for range 10 {
		b.load.One(harness.KindCertificate)
	}
	if counts := b.statuses(harness.KindCertificate, 0); counts[http.StatusOK] != 4 && counts[http.StatusOK] != 5 {
		t.Errorf("%v, want that the audit log decides", counts)
	}
	b.load.Entries(3)
	b.verify()
	t.Log(b.summary())
}

// TestSlowSigner (F11) signs checkpoints slowly: batches grow, so that waiting
// does not, and nothing fails.
func TestSlowSigner(t *testing.T) { overEach(t, slowSigning) }

func slowSigning(t *testing.T, s storage) {
	const delay = 200 * time.Millisecond
	b := startBench(t, s, harness.Options{Failpoints: "tlog.sign:rekorv1=sleep:200ms@2+"})
	b.recorder.Start()
	var mu sync.Mutex
	var took []time.Duration
	start := time.Now()
	b.load.Burst(harness.KindEntry, 256, 64, func(r harness.Record) {
		mu.Lock()
		defer mu.Unlock()
		if r.Status != http.StatusCreated {
			t.Errorf("status %d: %s", r.Status, r.Error)
		}
		took = append(took, r.Received.Sub(r.Sent))
	})
	all := time.Since(start)
	b.recorder.Stop()
	slices.Sort(took)
	median, slowest := took[len(took)/2], took[len(took)-1]
	// A request waits for the batch before its own, and for its own; the rest
	// is for cores that are shared.
	if slowest > 2*delay+2*time.Second {
		t.Errorf("the slowest of 256 entries took %s, with %s for a signature", slowest, delay)
	}
	// One after the other would be 256 signatures.
	if all > 64*delay {
		t.Errorf("256 entries by 64 writers took %s: they do not share signatures", all)
	}
	t.Logf("256 entries by 64 writers in %s: median %s, slowest %s", all.Round(time.Millisecond), median.Round(time.Millisecond), slowest.Round(time.Millisecond))
	b.verify()
}

// TestStuckSigner (F11) lets the signer hang for longer than a round may take:
// whoever waits is told, and the log goes on afterwards.
func TestStuckSigner(t *testing.T) { overEach(t, stuckSigner) }

func stuckSigner(t *testing.T, s storage) {
	b := startBench(t, s, harness.Options{Failpoints: "tlog.sign:ct=sleep:12s@2"})
	b.allow = []int{http.StatusServiceUnavailable}
	done := make(chan harness.Record, 1)
	go func() { done <- b.load.One(harness.KindCertificate) }()
	b.load.Entries(20) // the other log is not held up
	r := <-done
	if r.Status != http.StatusServiceUnavailable || !strings.Contains(r.Error, "CTL") {
		t.Errorf("status %d: %s", r.Status, r.Error)
	}
	if waited := r.Received.Sub(r.Sent); waited > 11*time.Second {
		t.Errorf("a client waited %s", waited)
	}
	b.WaitReady(resumeLimit)
	b.load.Certificates(3)
	b.verify()
}
