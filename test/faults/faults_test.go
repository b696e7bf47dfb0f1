// Package faults breaks a running server in every way that this machine allows,
// and checks the promises of package harness afterwards: what was acknowledged
// is there, no index was given twice, no checkpoint was contradicted.
//
//	F1  SIGKILL at random times, at each commit step, and in the middle of recovery
//	F2  disks that run full
//	F3  a database that restarts, is killed, flaps, is slow, or refuses connections
//	F4  a network that loses, holds or resets what goes to a database, at each COMMIT
//	F5  a failover to a database that is behind, and the old one coming back
//	F7  SIGTERM under load
//	F8  clocks that jump and stop
//	F10 flipped bits, in memory and on the disk
//	F11 signers that are slow, fail, or sign something else
//	F12 one of the logs down
//
// Replicas are killed and restarted in turn, over one database and over the
// nodes of a cluster that are killed themselves. The chain of the CA and the
// configuration are swapped under load, which is no fault and must fail nothing.
//
// What is not about the files of one storage is done to a server over each: see
// overEach.
//
// Every random choice follows from a seed that is printed; FAULTS_SEED sets it.
// FAULTS_KILLS is the number of random kills, 50 unless it is set,
// FAULTS_DB_ROUNDS how often each fault of a database comes, twice unless it is
// set, and FAULTS_REPLICA_WRITES how many writes replicas grant while they are killed.
// RELOAD_CERTIFICATES is how many certificates are issued while chains are swapped.
package faults

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/sigstack/sigstack/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// fromEnv returns a number from the environment.
func fromEnv(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// seed returns the seed of a test run, and prints it.
func seed(t *testing.T) uint64 {
	t.Helper()
	s := fromEnv(t, "FAULTS_SEED", rand.Uint64N(1_000_000))
	t.Logf("FAULTS_SEED=%d", s)
	return s
}

// A bench is a server with everything that watches it.
type bench struct {
	*harness.Server
	t        *testing.T
	ledger   *harness.Ledger
	recorder *harness.Recorder
	load     *harness.Load
	leaks    *harness.Leaks
	allow    []int
	baseline *harness.Figures
	database bool // the storage may end in the middle of a commit

	records, trees int // what CheckSince has seen
}

// A storage is what a server keeps everything in.
type storage string

const (
	sqlite storage = "sqlite"
	mysql  storage = "mysql"
)

// overEach runs a test over each storage, at the same time as others.
func overEach(t *testing.T, test func(t *testing.T, s storage)) {
	t.Helper()
	t.Parallel()
	for _, s := range []storage{sqlite, mysql} {
		t.Run(string(s), func(t *testing.T) {
			t.Parallel()
			test(t, s)
		})
	}
}

// newBench makes a bench whose server was not started. The files of ledger and
// recorder, and one that names the database, lie beside the data directory in
// dir; what is there goes on.
func newBench(t *testing.T, s storage, dir string, seed uint64, o harness.Options) *bench {
	t.Helper()
	if s == mysql && o.DSN == "" {
		o.DSN = dsn(t, dir)
	}
	if o.Disk == nil && o.Dir == "" {
		o.Dir = filepath.Join(dir, "data")
	}
	o.Leaks = harness.NewLeaks()
	b := &bench{t: t, leaks: o.Leaks, Server: harness.NewServer(t, o)}
	b.ledger = harness.NewLedger(t, filepath.Join(dir, "ledger"))
	b.recorder = harness.NewRecorder(t, b.Server, filepath.Join(dir, "trees"))
	b.load = harness.NewLoad(t, b.Server, b.ledger, b.recorder, seed)
	return b
}

// dsn returns the database of the bench in dir, and makes it when there is none.
// It is given time: how long a server that answers slowly is waited for is not
// what is tested.
func dsn(t *testing.T, dir string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "dsn"))
	if err == nil {
		return string(text)
	}
	if !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	made := harness.SharedMariaDB(t).NewDatabase(t) + harness.Patient
	writeDSN(t, dir, made)
	return made
}

func writeDSN(t *testing.T, dir, dsn string) {
	t.Helper()
	err := os.MkdirAll(dir, 0o755)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "dsn"), []byte(dsn), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// startBench starts a new server with everything that watches it.
func startBench(t *testing.T, s storage, o harness.Options) *bench {
	t.Helper()
	b := newBench(t, s, t.TempDir(), 1, o)
	b.Restart()
	b.leaks.Keys(t, b.Dir)
	b.measure()
	return b
}

// measure takes the figures of the process at rest.
func (b *bench) measure() {
	b.t.Helper()
	f, err := b.Figures()
	if err != nil {
		b.t.Fatal(err)
	}
	b.baseline = &f
}

// evidence is what was kept, from a record and a tree on.
func (b *bench) evidence(records, trees int) *harness.Evidence {
	return &harness.Evidence{
		Server: b.Server, Records: b.ledger.Records(records), Trees: b.recorder.Trees(trees),
		Allow: b.allow, Baseline: b.baseline, Unresolved: b.database,
	}
}

// verify checks all invariants. Nothing may write.
func (b *bench) verify() {
	b.t.Helper()
	b.recorder.Poll(b.t.Context())
	b.evidence(0, 0).Verify(b.t)
	if r := b.AuditVerify(); r.Code != 0 {
		b.t.Errorf("sigstack audit verify: exit code %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	if b.t.Failed() {
		b.t.FailNow()
	}
}

// verifySince checks what came since the last call, without reading all.
func (b *bench) verifySince() {
	b.t.Helper()
	b.recorder.Poll(b.t.Context())
	e := b.evidence(b.records, b.trees)
	for _, v := range e.CheckSince(b.t.Context(), 0, 0) {
		b.t.Errorf("%s", v)
	}
	if b.t.Failed() {
		b.t.FailNow()
	}
	b.records, b.trees = b.records+len(e.Records), b.trees+len(e.Trees)
}

// statuses counts the answers to a kind of request, from a record on.
func (b *bench) statuses(kind string, from int) map[int]int {
	counts := map[int]int{}
	for _, r := range b.ledger.Records(from) {
		if r.Kind == kind {
			counts[r.Status]++
		}
	}
	return counts
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
