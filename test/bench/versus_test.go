package bench

import (
	"database/sql"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sigstack/sigstack/test/harness"
)

// TestVersusRekor measures sigstack and the public implementation, which is
// rekor-server with a log server and a log signer of Trillian, in turn over one
// MariaDB with its default durability, and prints the figures beside each other.
//
//	scripts/bench-vs-rekor
//
// Both get the same requests from the same clients. CPU is that of all processes
// that serve, the database included, but not that of the clients. VERSUS is the
// directory of the programs, VERSUS_SECONDS how long each measurement takes.
func TestVersusRekor(t *testing.T) {
	bin := os.Getenv("VERSUS")
	if bin == "" {
		t.Skip("scripts/bench-vs-rekor installs what this needs")
	}
	length := 10 * time.Second
	if s := os.Getenv("VERSUS_SECONDS"); s != "" {
		var err error
		if length, err = time.ParseDuration(s + "s"); err != nil {
			t.Fatal(err)
		}
	}
	db := harness.StartMariaDB(t)
	ours := compare(t, db, sigstackOver(t, db), length)
	theirs := compare(t, db, rekorOver(t, db, bin), length)

	var table strings.Builder
	fmt.Fprintf(&table, "| | sigstack | rekor-server | sigstack is |\n|---|---|---|---|\n")
	for i, o := range ours {
		p := theirs[i]
		fmt.Fprintf(&table, "| %s, rate | %.0f/s | %.0f/s | %.1f times |\n", o.what, o.rate, p.rate, o.rate/p.rate)
		fmt.Fprintf(&table, "| %s, p50 | %v | %v | 1/%.0f |\n", o.what, round(o.p50), round(p.p50), p.p50.Seconds()/o.p50.Seconds())
		fmt.Fprintf(&table, "| %s, p99 | %v | %v | |\n", o.what, round(o.p99), round(p.p99))
		fmt.Fprintf(&table, "| %s, CPU each | %v | %v | 1/%.0f |\n", o.what, round(o.cpu), round(p.cpu), p.cpu.Seconds()/o.cpu.Seconds())
		fmt.Fprintf(&table, "| %s, refused | %d | %d | |\n", o.what, o.refused, p.refused)
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
	addr string                           // host:port of its Rekor v1 API
	cpu  func(t testing.TB) time.Duration // that all its processes have used, without the database
	stop func()
}

// A figure is what one measurement has shown.
type figure struct {
	what     string
	rate     float64 // accepted, a second
	p50, p99 time.Duration
	cpu      time.Duration // of one that was accepted
	refused  int           // answers with another status than the one for success
}

func sigstackOver(t *testing.T, db *harness.MariaDB) stack {
	s := harness.StartWith(t, harness.Options{DSN: db.NewDatabase(t)})
	return stack{addr: strings.TrimPrefix(s.URL, "http://"), cpu: s.CPU, stop: s.Stop}
}

// rekorOver starts the public implementation with the settings that it has by
// default, and waits until it serves. Its search index is in the same database,
// which saves it a Redis.
func rekorOver(t *testing.T, db *harness.MariaDB, bin string) stack {
	dsn := db.NewDatabase(t)
	loadSchema(t, dsn)
	var all []*harness.Process
	start := func(name string, args ...string) {
		all = append(all, harness.StartProcess(t, t.TempDir(), nil, filepath.Join(bin, name), args...))
	}
	rpc := freePort(t)
	start("trillian_log_server", "--mysql_uri="+dsn, "--rpc_endpoint="+rpc, "--http_endpoint=")
	start("trillian_log_signer", "--mysql_uri="+dsn, "--rpc_endpoint="+freePort(t), "--http_endpoint=", "--force_master")
	host, port, err := net.SplitHostPort(rpc)
	if err != nil {
		t.Fatal(err)
	}
	awaitPort(t, rpc)
	tree, err := exec.Command(filepath.Join(bin, "createtree"), "--admin_server="+rpc).Output()
	if err != nil {
		t.Fatalf("createtree: %v", err)
	}
	addr := freePort(t)
	_, own, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	start("rekor-server", "serve", "--rekor_server.address=127.0.0.1", "--port="+own, "--rekor_server.signer=memory", "--log_type=prod",
		"--trillian_log_server.address="+host, "--trillian_log_server.port="+port, "--trillian_log_server.tlog_id="+strings.TrimSpace(string(tree)),
		"--search_index.storage_provider=mysql", "--search_index.mysql.dsn="+dsn)
	awaitPort(t, addr)
	return stack{
		addr: addr,
		cpu: func(t testing.TB) (sum time.Duration) {
			for _, p := range all {
				sum += p.CPU(t)
			}
			return sum
		},
		stop: func() {
			for _, p := range slices.Backward(all) {
				p.Kill()
			}
		},
	}
}

// loadSchema makes Trillian's tables from the file in its module.
func loadSchema(t *testing.T, dsn string) {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/google/trillian").Output()
	if err != nil {
		t.Fatal(err)
	}
	schema, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "storage/mysql/schema/storage.sql"))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := sql.Open("mysql", dsn+"?multiStatements=true")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Exec(string(schema)); err != nil {
		t.Fatal(err)
	}
}

// freePort returns a loopback address that nobody listened on a moment ago.
func freePort(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// awaitPort returns when somebody listens.
func awaitPort(t *testing.T, addr string) {
	for limit := time.Now().Add(time.Minute); ; {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
			return
		}
		if time.Now().After(limit) {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// compare measures a stack and stops it.
func compare(t *testing.T, db *harness.MariaDB, s stack, length time.Duration) []figure {
	defer s.stop()
	key := newSigner(t)
	artifacts := 0
	entries := func(n int) [][]byte {
		out := make([][]byte, n)
		for i := range out {
			artifacts++
			out[i] = key.entry(t, s.addr, fmt.Append(nil, artifacts))
		}
		return out
	}
	var all []figure
	for _, c := range []struct {
		what    string
		clients int
	}{{"entries, 1 client", 1}, {"entries, 64 clients", 64}, {"entries, 256 clients", 256}} {
		all = append(all, s.measure(t, db, c.what, c.clients, http.StatusCreated, entries, length))
	}
	size := artifacts / 2 // are there in any case: some uploads may have been refused
	reads := func(n int) [][]byte {
		out := make([][]byte, n)
		for i := range out {
			out[i] = request(s.addr, "GET", fmt.Sprintf("/api/v1/log/entries?logIndex=%d", i*7919%size), nil)
		}
		return out
	}
	return append(all, s.measure(t, db, "reads by index, 64 clients", 64, http.StatusOK, reads, length))
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
}

// send sends each request once.
func (s stack) send(t *testing.T, clients, status int, requests [][]byte) run {
	answers := make([][]time.Duration, clients)
	var next atomic.Int64
	var wg sync.WaitGroup
	start := time.Now()
	for c := range clients {
		wg.Go(func() {
			conn := dial(t, s.addr)
			defer conn.Close()
			for {
				n := int(next.Add(1)) - 1
				if n >= len(requests) || t.Failed() {
					return
				}
				start := time.Now()
				if got, _, err := conn.roundTrip(requests[n]); err != nil {
					t.Error(err)
				} else if got == status {
					answers[c] = append(answers[c], time.Since(start))
				}
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return run{time.Since(start), slices.Concat(answers...)}
}
