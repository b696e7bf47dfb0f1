package faults

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sigstack/sigstack/test/harness"
	"github.com/sigstack/sigstack/tlog/failpoint"
)

// storing are the points of a write that are the storage's, in their order.
func storing(s storage) []string {
	points := []string{failpoint.Begin, failpoint.Insert}
	if s == mysql {
		return append(points, integrating...)
	}
	return append(points, failpoint.Commit, failpoint.Committed)
}

// committing are the points of a write, in their order.
func committing(s storage) []string {
	return slices.Concat([]string{failpoint.Append}, storing(s),
		[]string{failpoint.Appended, failpoint.Sign, failpoint.Signed, failpoint.Remembered, failpoint.Published})
}

// TestSecondFault (F1c) kills the server at each step of a write, and lets each
// step of the recovery fail, twice, by a kill and by an error. Over a database,
// which takes long to copy, they fail one after the other.
func TestSecondFault(t *testing.T) { overEach(t, secondFault) }

func secondFault(t *testing.T, s storage) {
	filled(t, s)
	harness.FaultyBinary(t)
	for i, point := range committing(s) {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			first := place{point, "rekorv1", 1}
			if slices.Contains(recovering, point) {
				first.hit = 2
			}
			crashed := at(t, s, fewCertificates)
			b := newBench(t, s, crashed, uint64(2000+i), harness.Options{Faulty: true})
			b.SetFailpoints(first.spec("kill"))
			b.Restart()
			b.write(first)
			b.Wait(20 * time.Second)
			fail := func(b *bench, point, action string) {
				b.SetFailpoints(place{point, "rekorv1", 1}.spec(action))
				for range 2 {
					b.Launch()
					code := b.Wait(20 * time.Second)
					if want := map[string]int{"kill": -1, "error": 2}[action]; code != want {
						t.Fatalf("%s, then %s at %s: exit code %d, want %d\n%s", first, action, point, code, want, b.Log())
					}
				}
			}
			recover := func(b *bench, what string) {
				b.SetFailpoints("")
				if took := b.Restart(); took > readyLimit {
					t.Errorf("%s, then %s: ready after %s", first, what, took)
				}
				b.load.Entries(2)
				b.verify()
				b.Stop()
			}
			for _, point := range recovering {
				for _, action := range []string{"kill", "error"} {
					if s == mysql {
						fail(b, point, action)
						continue
					}
					dir := memoryDir(t)
					copyBench(t, s, crashed, dir)
					b := newBench(t, s, dir, uint64(3000+i), harness.Options{Faulty: true})
					fail(b, point, action)
					recover(b, action+" at "+point)
				}
			}
			if s == mysql {
				recover(b, "each step of the recovery failed")
			}
		})
	}
}

// TestTroubleWhileRunning (F1c) lets each step of a write fail with an error,
// and then the reload that follows as well, several times. The server answers
// 503, or what is true, and goes on by itself when the trouble is over.
func TestTroubleWhileRunning(t *testing.T) { overEach(t, troubleWhileRunning) }

func troubleWhileRunning(t *testing.T, s storage) {
	filled(t, s)
	harness.FaultyBinary(t)
	reload := []string{"", failpoint.LoadHead, failpoint.LoadTiles, failpoint.Sign, failpoint.Signed, failpoint.Remembered, failpoint.Published}
	for i, point := range committing(s) {
		// Storage mysql tries twice by itself, and finds out what became of a
		// commit.
		twice := s == mysql && slices.Contains([]string{failpoint.Begin, failpoint.Insert}, point)
		hidden := s == mysql && slices.Contains(integrating, point)
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			for j, again := range reload {
				if s == mysql && j%3 != 0 { // above the storage the code is the same
					continue
				}
				for _, log := range []string{"rekorv1", "ct"} {
					if log == "ct" && (j%3 != 0 || s == mysql) { // the code is the same
						continue
					}
					first := place{point, log, 1}
					if slices.Contains(recovering, point) {
						first.hit = 2
					}
					spec := []string{first.spec("error")}
					if twice {
						spec = append(spec, place{point, log, 2}.spec("error"))
					}
					// The hits of a reload come after those of the start, and
					// where it is the same step, after the failed write's.
					if again != "" {
						hit := 2
						if slices.Contains(committing(s), again) && position(again) <= position(point) {
							hit = 3
						}
						for n := range 3 {
							spec = append(spec, fmt.Sprintf("%s:%s=error@%d", again, log, hit+n))
						}
					}
					b := newBench(t, s, at(t, s, 1), uint64(4000+100*i+j), harness.Options{Faulty: true})
					b.allow = []int{http.StatusServiceUnavailable}
					b.SetFailpoints(strings.Join(spec, ","))
					b.Restart()
					b.measure()
					kind := harness.KindEntry
					if log == "ct" {
						kind = harness.KindCertificate
					}
					failed := 0
					for tries := 0; ; tries++ {
						r := b.load.One(kind)
						if r.Status == http.StatusServiceUnavailable {
							failed++
						} else if harness.Acknowledged(r) && (failed > 0 || hidden) {
							break
						}
						if tries == 20 {
							t.Fatalf("%s: %d of %d requests failed, and none was granted after that\n%s", spec, failed, tries, b.Log())
						}
					}
					if ready, body := b.Ready(); !ready {
						t.Errorf("%s: not ready when the trouble is over: %s", spec, body)
					}
					b.verify()
					b.Stop()
				}
			}
		})
	}
}

// position is where a point stands in a write.
func position(point string) int { return slices.Index(committing(mysql), point) }

// TestFaultsWhileStarting checks that a CT log that cannot be opened keeps the
// server from starting, although the Rekor log is well, and that nothing is
// served before.
func TestFaultsWhileStarting(t *testing.T) { overEach(t, faultsWhileStarting) }

func faultsWhileStarting(t *testing.T, s storage) {
	harness.FaultyBinary(t)
	for _, point := range recovering {
		b := newBench(t, s, at(t, s, 1), 1, harness.Options{Failpoints: point + ":ct=error@*"})
		b.Launch()
		if code := b.Wait(20 * time.Second); code != 2 {
			t.Errorf("%s: exit code %d, want 2", point, code)
		}
		if strings.Contains(b.Log(), `"msg":"serving"`) {
			t.Errorf("%s: it served", point)
		}
	}
}
