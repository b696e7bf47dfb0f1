package trace

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sigstack/sigstack/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// readyLimit is how long a server may take until it serves after a fault. It is
// wide: strace is slow, and so is a machine that runs other tests.
const readyLimit = 30 * time.Second

// A bench is a server with everything that watches it.
type bench struct {
	*harness.Server
	t        *testing.T
	ledger   *harness.Ledger
	recorder *harness.Recorder
	load     *harness.Load

	records, trees int          // what verifySince has seen
	unknown        map[int]bool // records that were refused, and whose outcome is not known all the same
}

// newBench makes a bench whose server was not started.
func newBench(t *testing.T, o harness.Options) *bench {
	t.Helper()
	dir := t.TempDir()
	if o.Dir == "" {
		o.Dir = filepath.Join(dir, "data")
	}
	o.Leaks = harness.NewLeaks()
	// The curve of the CA is the cheaper one: every certificate is verified.
	o.Args = append([]string{"--config", harness.Config(t, "ca: {key-type: p256}\n")}, o.Args...)
	b := &bench{t: t, Server: harness.NewServer(t, o), unknown: map[int]bool{}}
	b.ledger = harness.NewLedger(t, filepath.Join(dir, "ledger"))
	b.recorder = harness.NewRecorder(t, b.Server, filepath.Join(dir, "trees"))
	b.load = harness.NewLoad(t, b.Server, b.ledger, b.recorder, 1)
	return b
}

// startBench starts a new server.
func startBench(t *testing.T, o harness.Options) *bench {
	t.Helper()
	b := newBench(t, o)
	b.Restart()
	return b
}

func (b *bench) evidence(records, trees int) *harness.Evidence {
	kept := b.ledger.Records(records)
	for i := range kept {
		if b.unknown[records+i] {
			kept[i].Status = 0
		}
	}
	return &harness.Evidence{
		Server: b.Server, Records: kept, Trees: b.recorder.Trees(trees),
		Allow: []int{http.StatusServiceUnavailable},
	}
}

// verify checks all invariants. Nothing may write.
func (b *bench) verify() {
	b.t.Helper()
	b.recorder.Poll(b.t.Context())
	b.evidence(0, 0).Verify(b.t)
	if b.t.Failed() {
		b.t.FailNow()
	}
}

// verifySince checks what came since the last call, without reading all.
func (b *bench) verifySince(what string) {
	b.t.Helper()
	b.recorder.Poll(b.t.Context())
	e := b.evidence(b.records, b.trees)
	for _, v := range e.CheckSince(b.t.Context(), 0, 0) {
		b.t.Errorf("%s: %s", what, v)
	}
	if b.t.Failed() {
		b.t.FailNow()
	}
	b.records, b.trees = b.records+len(e.Records), b.trees+len(e.Trees)
}

// poll waits for a condition without asking a server whether it lives.
func poll(t *testing.T, limit time.Duration, what string, f func() bool) {
	t.Helper()
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !f() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("not within %s: %s", limit, what)
		}
	}
}

// inDir returns the name of a file of the data directory.
func (b *bench) inDir(name string) string { return filepath.Join(b.Dir, name) }

// straced returns a command that runs another one under strace, which becomes
// its child and leaves it alone otherwise. Flags say what to trace and inject.
func straced(t *testing.T, file string, flags ...string) []string {
	t.Helper()
	return append([]string{"strace", "-D", "-f", "--seccomp-bpf", "-y", "-qq", "-e", "signal=none", "-o", file}, flags...)
}

// A tracer is strace, attached to a server that runs.
type tracer struct {
	t    *testing.T
	proc *harness.Process
	file string
}

// attach traces the calls that flags name, and returns when all threads are
// traced.
func (b *bench) attach(flags ...string) *tracer {
	b.t.Helper()
	path, err := exec.LookPath("strace")
	if err != nil {
		b.t.Fatalf("%v; run `make tools`", err)
	}
	dir := b.t.TempDir()
	tr := &tracer{t: b.t, file: filepath.Join(dir, "trace")}
	args := append([]string{"-f", "-y", "-e", "signal=none", "-o", tr.file, "-p", itoa(b.PID())}, flags...)
	tr.proc = harness.StartProcess(b.t, dir, os.Environ(), path, args...)
	tr.proc.Line(readyLimit, `a line with "attached"`, func(line string) bool { return strings.Contains(line, "attached") })
	return tr
}

// detach lets the server run on by itself.
func (tr *tracer) detach() {
	tr.t.Helper()
	tr.proc.Terminate()
	tr.proc.Wait(readyLimit)
}

// events returns what was traced.
func (tr *tracer) events() []Event { return eventsIn(tr.t, tr.file) }

func eventsIn(t *testing.T, file string) []Event {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	// The last line may be half written.
	return parse(t, string(text[:strings.LastIndexByte(string(text), '\n')+1]))
}

// injected returns how many calls strace has made fail.
func injected(events []Event) int {
	n := 0
	for _, e := range events {
		if e.Injected {
			n++
		}
	}
	return n
}

func parse(t *testing.T, text string) []Event {
	t.Helper()
	events, err := Parse(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return events
}
