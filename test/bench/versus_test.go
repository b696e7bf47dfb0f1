package bench

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sigstack/sigstack/test/harness"
)

// This file is what the comparisons with public implementations share. Each
// measures its stacks in turn, over one MariaDB with its default durability, with
// the same requests of the same clients, and prints the figures beside each other.
// CPU is that of all processes that serve, the database included, but not that of
// the clients.

// versusSettings are the directory of the programs, VERSUS, and how long each
// measurement takes, VERSUS_SECONDS. The script sets them up.
func versusSettings(t *testing.T, script string) (bin string, length time.Duration) {
	bin = os.Getenv("VERSUS")
	if bin == "" {
		t.Skipf("scripts/%s installs what this needs", script)
	}
	length = 10 * time.Second
	if s := os.Getenv("VERSUS_SECONDS"); s != "" {
		var err error
		if length, err = time.ParseDuration(s + "s"); err != nil {
			t.Fatal(err)
		}
	}
	return bin, length
}

// A column is one stack and what its measurements have shown.
type column struct {
	name    string
	figures []figure
}

// beside prints the columns of ours and, after them, the peer's, with what each
// of ours is of the peer's.
func beside(t *testing.T, length time.Duration, peer column, ours ...column) {
	var table strings.Builder
	row := func(cells ...string) { fmt.Fprintf(&table, "| %s |\n", strings.Join(cells, " | ")) }
	head := []string{""}
	for _, c := range append(slices.Clone(ours), peer) {
		head = append(head, c.name)
	}
	for _, c := range ours {
		head = append(head, c.name+" is")
	}
	row(head...)
	table.WriteString(strings.Repeat("|---", len(head)) + "|\n")
	times := []struct {
		what string
		of   func(figure) time.Duration
	}{
		{"p50", func(f figure) time.Duration { return f.p50 }},
		{"p99", func(f figure) time.Duration { return f.p99 }},
		{"CPU each", func(f figure) time.Duration { return f.cpu }},
	}
	for i, p := range peer.figures {
		all := make([]figure, 0, len(ours)+1)
		for _, c := range ours {
			all = append(all, c.figures[i])
		}
		all = append(all, p)

		rates, ratios, refused := []string{p.what + ", rate"}, []string(nil), []string{p.what + ", refused"}
		for _, f := range all {
			rates, refused = append(rates, fmt.Sprintf("%.0f/s", f.rate)), append(refused, fmt.Sprint(f.refused))
			ratios = append(ratios, fmt.Sprintf("%.1f times", f.rate/p.rate))
		}
		row(append(rates, ratios[:len(ours)]...)...)
		for _, d := range times {
			cells, ratios := []string{p.what + ", " + d.what}, []string(nil)
			for _, f := range all {
				cells = append(cells, round(d.of(f)).String())
				ratios = append(ratios, fmt.Sprintf("1/%.1f", d.of(p).Seconds()/d.of(f).Seconds()))
			}
			row(append(cells, ratios[:len(ours)]...)...)
		}
		row(append(refused, make([]string, len(ours))...)...)
	}
	t.Logf("%d cores, clients included, %v for each line:\n%s", runtime.NumCPU(), length, table.String())
}

func round(d time.Duration) time.Duration {
	if d < 10*time.Millisecond {
		return d.Round(10 * time.Microsecond)
	}
	return d.Round(100 * time.Microsecond)
}

// A stack is an implementation under measurement.
type stack struct {
	addr string                           // host:port of its API
	cpu  func(t testing.TB) time.Duration // that all its processes have used, without the database
	stop func()

	// check, if it is set, is given the body of each answer of success, when
	// the run is over.
	check func(body []byte) error
}

// A figure is what one measurement has shown.
type figure struct {
	what     string
	rate     float64 // accepted, a second
	p50, p99 time.Duration
	cpu      time.Duration // of one that was accepted
	refused  int           // answers with another status than the one for success
}

// sigstackWith starts sigstack.
func sigstackWith(t *testing.T, o harness.Options) (*harness.Server, stack) {
	s := harness.StartWith(t, o)
	return s, stack{addr: addr(s), cpu: s.CPU, stop: s.Stop}
}

// measure sends requests in a closed loop for about a length of time: as many
// as a second of trial says.
func (s stack) measure(t *testing.T, db *harness.MariaDB, what string, clients, status int, requests func(n int) [][]byte, length time.Duration) figure {
	trial := s.send(t, clients, status, requests(20*clients))
	n := max(clients, int(float64(20*clients)/trial.took.Seconds()*length.Seconds()))
	prepared := requests(n)
	cpu := s.cpu(t) + db.CPU(t)
	run := s.send(t, clients, status, prepared)
	cpu = s.cpu(t) + db.CPU(t) - cpu
	s.checkAll(t, append(trial.bodies, run.bodies...))
	if run.refusal != "" {
		t.Logf("%s: an answer of %d that were refused: %s", what, n-len(run.answers), run.refusal)
	}
	accepted := len(run.answers)
	if accepted == 0 {
		t.Fatalf("%s: none of %d was accepted", what, n)
	}
	slices.Sort(run.answers)
	return figure{
		what: what, rate: float64(accepted) / run.took.Seconds(), refused: n - accepted,
		p50: run.answers[accepted/2], p99: run.answers[accepted*99/100], cpu: cpu / time.Duration(accepted),
	}
}

// A run is what one series of requests has shown.
type run struct {
	took    time.Duration   // all of them
	answers []time.Duration // how long each took that was accepted
	bodies  [][]byte        // of these, where there is a check
	refusal string          // one of the others
}

// checkAll checks answers on all cores.
func (s stack) checkAll(t *testing.T, bodies [][]byte) {
	if s.check == nil {
		return
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for n := next.Add(1) - 1; n < int64(len(bodies)) && !t.Failed(); n = next.Add(1) - 1 {
				if err := s.check(bodies[n]); err != nil {
					t.Errorf("%v: %.300s", err, bodies[n])
				}
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

// send sends each request once.
func (s stack) send(t *testing.T, clients, status int, requests [][]byte) run {
	runs := make([]run, clients)
	var next atomic.Int64
	var wg sync.WaitGroup
	start := time.Now()
	for c := range runs {
		wg.Go(func() {
			own := &runs[c]
			conn := dial(t, s.addr)
			defer conn.Close()
			for {
				n := int(next.Add(1)) - 1
				if n >= len(requests) || t.Failed() {
					return
				}
				start := time.Now()
				got, body, err := conn.roundTrip(requests[n])
				switch {
				case err != nil:
					t.Error(err)
				case got != status:
					own.refusal = fmt.Sprintf("%d: %.300s", got, body)
				default:
					own.answers = append(own.answers, time.Since(start))
					if s.check != nil {
						own.bodies = append(own.bodies, bytes.Clone(body))
					}
				}
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	all := run{took: time.Since(start)}
	for _, r := range runs {
		all.answers, all.bodies = append(all.answers, r.answers...), append(all.bodies, r.bodies...)
		if r.refusal != "" {
			all.refusal = r.refusal
		}
	}
	return all
}
