package trace

import (
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sigstack/sigstack/test/harness"
)

// A site is a call on a file, named within the data directory.
type site struct{ call, file string }

func (s site) String() string { return s.call + " of " + s.file }

// sites returns the calls of a trace that touch the data directory, sorted: they
// are what can fail. Files with random names are left out; TestRandomNames is for
// them.
func (b *bench) sites(events []Event) []site {
	set := map[site]bool{}
	for _, e := range events {
		if name, ok := strings.CutPrefix(e.Path+"/", b.Dir+"/"); ok && !e.Failed && !random.MatchString(e.Path) {
			set[site{e.Call, strings.TrimSuffix(name, "/")}] = true
		}
	}
	return slices.SortedFunc(maps.Keys(set), func(a, b site) int { return strings.Compare(a.file+" "+a.call, b.file+" "+b.call) })
}

// random are names that differ from run to run: those that a file has until it
// is renamed or linked, and those that begin with a hash of what is in it.
var random = regexp.MustCompile(`/(\.new-[^/]*|[0-9a-f]{64}\.[^/]*)$`)

// errnos are what calls are made to fail with.
var errnos = []string{"EIO", "ENOSPC"}

// flags make a call on a file do what strace calls an action.
func (s site) flags(dir, action string) []string {
	return []string{"-P", filepath.Join(dir, s.file), "-e", "trace=" + s.call, "-e", "inject=" + s.call + ":" + action}
}

// fails returns the kind of request that cannot be granted while a call on a
// file that the server writes to fails, and one that can.
func (s site) fails() (refused, granted string) {
	if strings.HasPrefix(s.file, "rekorv1/") {
		return harness.KindEntry, harness.KindCertificate
	}
	return harness.KindCertificate, harness.KindEntry
}

// TestRunning (F1e, F1b) attaches to a server that runs and has each call on
// each file that it writes to fail, once and for a while, and then kills it
// there. What cannot be written is refused, never acknowledged on the strength
// of a failed call; without the fault everything goes on.
func TestRunning(t *testing.T) {
	t.Parallel()
	b := startBench(t, harness.Options{})
	b.load.Entries(3)
	b.load.Certificates(3)

	tr := b.attach("-e", "trace="+Calls)
	b.load.Entries(3)
	b.load.Certificates(3)
	tr.detach()
	sites := b.sites(tr.events())
	t.Logf("%d calls on files: %v", len(sites), sites)
	if len(sites) < 10 { // three write-ahead logs and two second memories, each written and synced
		t.Fatalf("want at least 10")
	}
	for _, s := range sites {
		refused, granted := s.fails()
		ask := func(kind string, want ...int) harness.Record {
			t.Helper()
			r := b.load.One(kind)
			if !slices.Contains(want, r.Status) {
				t.Fatalf("%s: %s is answered with %d: %s", s, kind, r.Status, r.Error)
			}
			return r
		}
		recovers := func(what string) {
			t.Helper()
			poll(t, readyLimit, s.String()+": a write is granted "+what, func() bool {
				return harness.Acknowledged(ask(refused, http.StatusCreated, http.StatusOK, http.StatusServiceUnavailable))
			})
			b.verifySince(s.String() + " " + what)
		}
		for _, errno := range errnos {
			tr := b.attach(s.flags(b.Dir, "error="+errno)...)
			for range 3 {
				ask(refused, http.StatusServiceUnavailable)
			}
			ask(granted, http.StatusCreated, http.StatusOK)
			for _, path := range []string{"/api/v1/log", "/ct/v1/get-sth", "/ct/v1/get-entries?start=0&end=0", "/tuf/timestamp.json"} {
				if status := get(t, b.URL+path); status != http.StatusOK {
					t.Errorf("%s fails with %s: %s is answered with %d", s, errno, path, status)
				}
			}
			tr.detach()
			if injected(tr.events()) == 0 {
				t.Errorf("%s was not made to fail with %s", s, errno)
			}
			recovers("after " + errno)

			// The first one of each thread alone.
			tr = b.attach(s.flags(b.Dir, "error="+errno+":when=1")...)
			ask(refused, http.StatusServiceUnavailable)
			recovers("after one " + errno)
			tr.detach()
		}
		tr := b.attach(s.flags(b.Dir, "signal=KILL:when=1")...)
		ask(refused, 0)
		b.Wait(readyLimit)
		tr.proc.Wait(readyLimit)
		b.Restart()
		recovers("after SIGKILL")
	}
	b.verify()
}

// TestCheckpointing has the calls fail by which SQLite copies its write-ahead log
// into the database while the server runs. No write depends on them.
func TestCheckpointing(t *testing.T) {
	t.Parallel()
	b := startBench(t, harness.Options{})
	file := "rekorv1/log.db"
	for _, fault := range []struct{ call, action string }{
		{"pwrite64", "error=ENOSPC"}, {"fsync", "error=EIO"}, {"pwrite64", "signal=KILL:when=1"},
	} {
		s := site{fault.call, file}
		tr := b.attach(s.flags(b.Dir, fault.action)...)
		met := func() bool { return !b.Running() || injected(tr.events()) > 0 }
		for n := 0; !met(); n++ {
			if n == 200 {
				t.Fatalf("SQLite made no checkpoint in %d entries", n*100)
			}
			b.load.Burst(harness.KindEntry, 100, 8, func(r harness.Record) {
				if r.Status != http.StatusCreated && (r.Status != 0 || !strings.Contains(fault.action, "KILL")) {
					t.Errorf("%s: status %d: %s", s, r.Status, r.Error)
				}
			})
		}
		if b.Running() {
			b.load.Entries(20)
			tr.detach()
			b.load.Entries(20)
			b.Kill()
		} else {
			tr.proc.Wait(readyLimit)
		}
		b.Restart()
		b.load.Entries(3)
		b.verifySince(s.String() + " " + fault.action)
	}
	b.verify()
}

// TestStop (F1e, F1b) has each call fail that a server makes after SIGTERM.
func TestStop(t *testing.T) {
	t.Parallel()
	b := startBench(t, harness.Options{})
	write := func() {
		b.load.Entries(2)
		b.load.Certificates(2)
	}
	write()
	tr := b.attach("-e", "trace="+Calls)
	b.Stop()
	tr.proc.Wait(readyLimit)
	sites := b.sites(tr.events())
	t.Logf("%d calls on files: %v", len(sites), sites)
	if len(sites) < 15 {
		t.Fatal("want at least 15")
	}
	for _, s := range sites {
		for _, action := range actions() {
			what := s.String() + " " + action
			b.Restart()
			write()
			tr := b.attach(s.flags(b.Dir, action)...)
			b.Terminate()
			code := b.Wait(readyLimit)
			tr.proc.Wait(readyLimit)
			if strings.HasPrefix(action, "signal") && code != -1 || !strings.HasPrefix(action, "signal") && injected(tr.events()) == 0 {
				t.Errorf("%s: nothing was injected; exit code %d", what, code)
			}
			b.Restart()
			b.verifySince(what)
			b.Kill()
		}
	}
	b.Restart()
	b.verify()
}

// actions are all that is done to a call in the tests that start or stop servers.
func actions() []string {
	all := []string{"signal=KILL:when=1"}
	for _, errno := range errnos {
		all = append(all, "error="+errno)
	}
	return all
}

// launch starts a server under strace and waits until it serves, or has ended.
func (b *bench) launch(file string, flags ...string) (serves bool) {
	b.t.Helper()
	b.SetWrapper(straced(b.t, file, flags...)...)
	b.Launch()
	poll(b.t, readyLimit, "the server serves, or ends", func() bool {
		serves = strings.Contains(b.Log(), `"msg":"serving"`) || b.alive() // the line may be what could not be written
		return serves || !b.Running()
	})
	b.SetWrapper()
	return serves
}

// alive says whether the addresses of the last start answer.
func (b *bench) alive() bool {
	if b.Ops == "" {
		return false
	}
	res, err := http.Get(b.Ops + "/healthz")
	if err != nil {
		return false
	}
	res.Body.Close()
	return res.StatusCode == http.StatusOK
}

// try writes what a server that started with a fault takes, and ends it. A call
// that failed earlier may make any of it fail, but nothing else may happen.
func (b *bench) try(what string) {
	b.t.Helper()
	for _, kind := range []string{harness.KindEntry, harness.KindCertificate} {
		if r := b.load.One(kind); !harness.Acknowledged(r) && r.Status != http.StatusServiceUnavailable && r.Status != 0 {
			b.t.Errorf("%s: %s is answered with %d: %s", what, kind, r.Status, r.Error)
		}
	}
	b.Kill()
}

// mustSucceed says whether a server that serves must have had this call succeed:
// what is promised lies behind it.
func (s site) mustSucceed() bool {
	switch s.call {
	case "fsync", "fdatasync", "renameat", "mkdirat": // where there are no links, keys are made without
		return !strings.HasSuffix(s.file, "-journal") // gone by then
	}
	return false
}

// TestStart (F1e, F1b) has each call fail that a start makes: one after SIGKILL,
// which recovers, and one after SIGTERM, which makes the write-ahead logs anew.
func TestStart(t *testing.T) {
	for _, after := range []string{"SIGKILL", "SIGTERM"} {
		t.Run(after, func(t *testing.T) {
			t.Parallel()
			b := startBench(t, harness.Options{})
			write := func() {
				b.load.Entries(2)
				b.load.Certificates(2)
			}
			end := b.Kill
			if after == "SIGTERM" {
				end = b.Stop
			}
			write()
			end()
			file := filepath.Join(t.TempDir(), "trace")
			if !b.launch(file, "-e", "trace="+Calls) {
				t.Fatalf("it does not start under strace: %s", b.Log())
			}
			b.WaitReady(readyLimit)
			b.try("no fault")
			sites := b.sites(eventsIn(t, file))
			t.Logf("%d calls on files: %v", len(sites), sites)
			if len(sites) < 40 {
				t.Fatal("want at least 40")
			}
			served := 0
			b.Restart()
			for _, s := range sites {
				for _, action := range actions() {
					if testing.Short() && action == "error=ENOSPC" {
						continue
					}
					end()
					served += b.broken(s, action, file)
				}
			}
			t.Logf("%d of %d starts with a fault went on to serve", served, len(sites)*len(actions()))
			b.verify()
		})
	}
}

// broken starts a server with a fault, looks at what it does, starts it again
// without and checks that all is there. It returns 1 if the server served.
func (b *bench) broken(s site, action, file string) (served int) {
	b.t.Helper()
	what := s.String() + " " + action
	from := b.ledger.Len()
	if b.launch(file, s.flags(b.Dir, action)...) {
		served = 1
		if s.mustSucceed() && injected(eventsIn(b.t, file)) > 0 {
			b.t.Errorf("%s: it serves all the same: %s", what, b.Log())
		}
		b.try(what)
		if s == (site{"fsync", "audit.db-wal"}) {
			// The row was written, whole, and only the sync has failed. The
			// process did not count it, but a recovery after SIGKILL does.
			for i, r := range b.ledger.Records(from) {
				b.unknown[from+i] = r.Status == http.StatusServiceUnavailable
			}
		}
	}
	code := b.Wait(readyLimit)
	if !strings.HasPrefix(action, "signal") && injected(eventsIn(b.t, file)) == 0 {
		b.t.Errorf("%s: nothing was injected", what)
	}
	if served == 0 && code == 0 {
		b.t.Errorf("%s: it ends with exit code 0", what)
	}
	b.Restart()
	b.verifySince(what)
	return served
}

// TestFirstStart (F1e, F1b) has each call fail that a start in an empty directory
// makes. The next start completes what is there.
func TestFirstStart(t *testing.T) {
	t.Parallel()
	b := newBench(t, harness.Options{})
	file := filepath.Join(t.TempDir(), "trace")
	if !b.launch(file, "-e", "trace="+Calls) {
		t.Fatalf("it does not start under strace: %s", b.Log())
	}
	b.Kill()
	sites := b.sites(eventsIn(t, file))
	t.Logf("%d calls on files: %v", len(sites), sites)
	if len(sites) < 90 {
		t.Fatal("want at least 90")
	}
	half := (len(sites) + 1) / 2
	for i, part := range [][]site{sites[:half], sites[half:]} {
		t.Run(fmt.Sprint("part", i), func(t *testing.T) {
			t.Parallel()
			for _, s := range part {
				for _, action := range actions() {
					if testing.Short() && action == "error=ENOSPC" {
						continue
					}
					b := newBench(t, harness.Options{})
					b.broken(s, action, filepath.Join(t.TempDir(), "trace"))
					b.load.Entries(1)
					b.load.Certificates(1)
					b.verifySince(s.String() + " " + action)
					b.Kill()
				}
			}
		})
	}
}

// TestRandomNames has the calls fail that make files under names that nobody
// knows before: of "sigstack init", which makes keys, and of a start that makes
// the TUF repository. There the calls are counted, each thread for itself, until a
// run has too few; which of them were met is looked up afterwards.
func TestRandomNames(t *testing.T) {
	sweep := func(t *testing.T, want []string, run func(file string, flags ...string)) {
		t.Helper()
		met := map[string]int{}
		runs := 0
		for _, fault := range []struct{ call, action string }{
			{"openat", "error=EIO"}, {"write", "error=ENOSPC"}, {"fchmod", "error=EIO"}, {"fsync", "error=EIO"}, {"renameat", "error=ENOSPC"},
			{"fsync", "signal=KILL"}, {"renameat", "signal=KILL"}, {"unlinkat", "signal=KILL"},
		} {
			kills := strings.HasPrefix(fault.action, "signal")
			missing := func() bool {
				return !kills && slices.ContainsFunc(want, func(site string) bool { return strings.HasPrefix(site, fault.call) && met[site] == 0 })
			}
			for n, turns := 1, 20; ; n++ {
				if n > 200 {
					t.Fatalf("%s: no end after %d", fault.call, n)
				}
				file := filepath.Join(t.TempDir(), "trace")
				// strace counts calls by thread: few threads make all of them reachable.
				run(file, "-E", "GOMAXPROCS=1", "-e", "trace="+fault.call, "-e", fmt.Sprintf("inject=%s:%s:when=%d", fault.call, fault.action, n))
				runs++
				text, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				hit := kills && strings.Contains(string(text), "killed by SIGKILL")
				for _, e := range eventsIn(t, file) {
					if e.Injected {
						hit = true
						if random.MatchString(e.Path) || random.MatchString(e.From) {
							met[e.Call+" in "+filepath.Base(filepath.Dir(e.Path))]++
						}
					}
				}
				if !hit { // no thread makes so many of these calls
					if turns--; !missing() || turns == 0 {
						break
					}
					n = 0
				}
			}
		}
		t.Logf("%d runs; on files with random names: %v", runs, met)
		for _, site := range want {
			if met[site] == 0 {
				t.Errorf("%s was not made to fail", site)
			}
		}
	}

	t.Run("keys", func(t *testing.T) {
		t.Parallel()
		client := harness.NewClient(t)
		config := harness.Config(t, "{url: 'https://sigstack.example', ca: {key-type: p256}}\n")
		sweep(t, []string{"openat in keys", "write in keys", "fsync in keys", "renameat in keys"}, func(file string, flags ...string) {
			dir := filepath.Join(t.TempDir(), "data")
			init := []string{harness.Binary(t), "init", "--config", config, "--data-dir", dir}
			first := append(straced(t, file, flags...), init...)
			client.Try(first[0], first[1:]...)
			client.Run(init[0], init[1:]...) // completes what is there
			before := readDir(t, filepath.Join(dir, "keys"))
			client.Run(init[0], init[1:]...)
			after := readDir(t, filepath.Join(dir, "keys"))
			if !maps.Equal(before, after) {
				t.Errorf("%v: a third init has changed something", flags)
			}
			made := 0
			for name, text := range after {
				if !strings.HasPrefix(name, ".new-") {
					made++
					if !strings.Contains(text, "-----END ") {
						t.Errorf("%v: %s is not whole: %q", flags, name, text)
					}
				}
			}
			if made != 9 {
				t.Errorf("%v: %d keys and chains, want 9", flags, made)
			}
		})
	})

	t.Run("tuf", func(t *testing.T) {
		t.Parallel()
		b := startBench(t, harness.Options{})
		b.Kill()
		sweep(t, []string{
			"openat in tuf", "write in tuf", "fchmod in tuf", "fsync in tuf", "renameat in tuf",
			"openat in targets", "write in targets", "fchmod in targets", "fsync in targets", "renameat in targets",
		}, func(file string, flags ...string) {
			if err := os.RemoveAll(b.inDir("tuf")); err != nil {
				t.Fatal(err)
			}
			b.launch(file, flags...)
			b.Kill()
			b.Restart()
			b.verifySince(strings.Join(flags, " "))
			b.Kill()
		})
		b.Restart()
		b.load.Entries(1)
		b.load.Certificates(1)
		b.verify()
	})
}

// readDir returns the files of a directory.
func readDir(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name()] = string(text)
	}
	return files
}

func get(t *testing.T, url string) int {
	t.Helper()
	client := &http.Client{Timeout: time.Minute}
	res, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	return res.StatusCode
}
