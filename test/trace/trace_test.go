package trace

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sigstack/sigstack/test/harness"
)

func itoa(n int) string { return strconv.Itoa(n) }

// The trace of a commit as it has to be; threads and one call cut in two
// included.
const good = `10 pwrite64(7</d/rekorv1/log.db-wal>, "\0\0"..., 4096, 0) = 4096
10 pwrite64(7</d/rekorv1/log.db-wal>, "\0\0"..., 4096, 4096) = 4096
11 fdatasync(7</d/rekorv1/log.db-wal> <unfinished ...>
12 write(2</dev/null>, "x", 1) = 1
11 <... fdatasync resumed>) = 0
10 pwrite64(5</d/rekorv1/signed>, "localhost - 1\n2\nAAAA\n\n"..., 4096, 0) = 4096
10 fdatasync(5</d/rekorv1/signed>) = 0
12 write(9<socket:[1]>, "HTTP/1.1 201 Created\r\n\r\n{\"treeSize\":2}"..., 2000) = 2000
`

var entryFiles = []string{"/rekorv1/log.db-wal", "/rekorv1/signed"}

// damaged are the ways in which a commit can be wrong.
func damaged() map[string]string {
	lines := strings.SplitAfter(good, "\n")
	order := func(n ...int) string {
		var b strings.Builder
		for _, i := range n {
			b.WriteString(lines[i])
		}
		return b.String()
	}
	return map[string]string{
		"log not written":                      order(3, 5, 6, 7),
		"log not synced":                       order(0, 1, 3, 5, 6, 7),
		"log synced before its last write":     order(0, 2, 4, 1, 5, 6, 7),
		"log sync not finished":                order(0, 1, 2, 5, 6, 7, 4),
		"memory not written":                   order(0, 1, 2, 3, 4, 7),
		"memory not synced":                    order(0, 1, 2, 3, 4, 5, 7),
		"memory written before the log's sync": order(0, 1, 5, 2, 4, 6, 7),
		"answer before the memory's sync":      order(0, 1, 2, 4, 5, 7, 6),
		"answer first":                         order(7, 0, 1, 2, 4, 5, 6),
		"failed sync of the memory":            strings.Replace(good, `signed>) = 0`, `signed>) = -1 EIO (Input/output error)`, 1),
		"failed sync of the log":               strings.Replace(good, `fdatasync resumed>) = 0`, `fdatasync resumed>) = -1 EIO (Input/output error) (INJECTED)`, 1),
	}
}

func TestCommitCanFail(t *testing.T) {
	if err := Commit(parse(t, good), "HTTP/1.1 201", entryFiles...); err != nil {
		t.Fatal(err)
	}
	for name, text := range damaged() {
		if err := Commit(parse(t, text), "HTTP/1.1 201", entryFiles...); err == nil {
			t.Errorf("%s: passes", name)
		}
	}
	if err := Commit(parse(t, good), "HTTP/1.1 200", entryFiles...); err == nil {
		t.Error("passes without an answer")
	}
}

// certificateFiles are what a certificate is written to: the row that intends it, the
// CT log and its second memory, and the row that says that it was issued.
var certificateFiles = []string{"/audit.db-wal", "/ct/log.db-wal", "/ct/signed", "/audit.db-wal"}

// TestCommitTwice has a file that is written twice, and traces with one step less.
func TestCommitTwice(t *testing.T) {
	var good []Event
	for i, path := range certificateFiles {
		good = append(good, Event{Call: "pwrite64", Path: path, Begun: 4*i + 1, Ended: 4*i + 2}, Event{Call: "fdatasync", Path: path, Begun: 4*i + 3, Ended: 4*i + 4})
	}
	good = append(good, Event{Call: "write", Path: "socket:[1]", Data: "HTTP/1.1 200 OK", Begun: 20, Ended: 21})
	if err := Commit(good, "HTTP/1.1 200", certificateFiles...); err != nil {
		t.Fatal(err)
	}
	for i := range good[:8] {
		if err := Commit(slices.Delete(slices.Clone(good), i, i+1), "HTTP/1.1 200", certificateFiles...); err == nil {
			t.Errorf("without event %d: passes", i)
		}
	}
	early := slices.Clone(good)
	early[6].Begun, early[6].Ended = 10, 10 // while the second memory is being synced
	if err := Commit(early, "HTTP/1.1 200", certificateFiles...); err == nil {
		t.Error("a row that is written too early: passes")
	}
}

func TestBatchesCanFail(t *testing.T) {
	check := func(text string) (int, int, error) { return Batches(parse(t, text), entryFiles[0], entryFiles[1]) }
	next := strings.NewReplacer(`1\n2\n`, `1\n5\n`, `treeSize\":2`, `treeSize\":5`).Replace(good)
	if n, trees, err := check(good + next + next[strings.LastIndex(next, "12 write"):]); n != 3 || trees != 2 || err != nil {
		t.Fatalf("%d answers, %d checkpoints, %v", n, trees, err)
	}
	for name, text := range damaged() {
		if _, _, err := check(text); err == nil {
			t.Errorf("%s: passes", name)
		}
	}
	for name, text := range map[string]string{
		"answer with a larger checkpoint": strings.Replace(good, `treeSize\":2`, `treeSize\":3`, 1),
		"answer without a checkpoint":     strings.Replace(good, `treeSize`, `size`, 1),
		"checkpoint of nothing new":       good + next[strings.Index(next, "10 pwrite64(5"):],
		"second one not synced":           good + strings.Replace(next, "10 fdatasync", "10 ftruncate", 1),
		"no checkpoint":                   strings.Replace(good, `\n2\n`, `\nx\n`, 1),
	} {
		if _, _, err := check(text); err == nil {
			t.Errorf("%s: passes", name)
		}
	}
}

func TestNamesCanFail(t *testing.T) {
	const good = `10 write(7</d/tuf/.tmp1>, "{"..., 10) = 10
10 fsync(7</d/tuf/.tmp1>) = 0
10 renameat(AT_FDCWD</x>, "/d/tuf/.tmp1", AT_FDCWD</x>, "/d/tuf/1.root.json") = 0
10 fsync(8</d/tuf>) = 0
10 write(7</d/tuf/.tmp2>, "{"..., 10) = 10
10 fsync(7</d/tuf/.tmp2>) = 0
10 renameat(AT_FDCWD</x>, "/d/tuf/.tmp2", AT_FDCWD</x>, "/d/tuf/timestamp.json") = 0
10 fsync(8</d/tuf>) = 0
`
	if n, err := Names(parse(t, good), "/d/"); n != 2 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	lines := strings.SplitAfter(good, "\n")
	for _, gone := range []int{1, 3, 5, 7} {
		text := strings.Join(slices.Delete(slices.Clone(lines), gone, gone+1), "")
		if _, err := Names(parse(t, text), "/d/"); err == nil {
			t.Errorf("passes without %q", lines[gone])
		}
	}
}

func TestCreatedCanFail(t *testing.T) {
	const good = `10 mkdirat(AT_FDCWD</x>, "/d", 0700) = 0
10 fsync(3</>) = 0
10 mkdirat(AT_FDCWD</x>, "/d/ct", 0700) = 0
10 fsync(3</d>) = 0
10 open("/d/ct/log.db", O_RDWR|O_CREAT|O_CLOEXEC, 0600) = 3</d/ct/log.db>
10 fsync(4</d/ct>) = 0
10 pwrite64(3</d/ct/log.db>, "\0", 1, 4095) = 1
10 fsync(3</d/ct/log.db>) = 0
10 openat(AT_FDCWD</x>, "/d/ct/log.db-shm", O_RDWR|O_CREAT, 0600) = 5</d/ct/log.db-shm>
10 pwrite64(5</d/ct/log.db-shm>, "\0", 1, 4095) = 1
10 openat(AT_FDCWD</x>, "/d/.tmp", O_RDWR|O_CREAT, 0600) = 5</d/.tmp>
10 unlink("/d/.tmp") = 0
10 openat(AT_FDCWD</x>, "/etc/file", O_RDWR|O_CREAT, 0600) = 5</etc/file>
`
	if n, err := Created(parse(t, good), "/d", "-shm"); n != 3 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	lines := strings.SplitAfter(good, "\n")
	for _, gone := range []int{1, 3, 5, 7, 11} {
		text := strings.Join(slices.Delete(slices.Clone(lines), gone, gone+1), "")
		if _, err := Created(parse(t, text), "/d", "-shm"); err == nil {
			t.Errorf("passes without %q", lines[gone])
		}
	}
	if _, err := Created(parse(t, good), "/d"); err == nil {
		t.Error("passes although a file is not synced")
	}
}

func TestParse(t *testing.T) {
	for _, text := range []string{"no trace\n", `1 renameat(AT_FDCWD, "/a") = 0` + "\n"} {
		if _, err := Parse(strings.NewReader(text)); err == nil {
			t.Errorf("%q is parsed", text)
		}
	}
	events := parse(t, `1 write(9</a) = 5>, "x) = 7\"", 3) = -1 EIO (Input/output error) (INJECTED)
1 --- SIGURG {si_signo=SIGURG} ---
2 fsync(3</a b>) = ?
2 +++ killed by SIGKILL +++
`)
	if len(events) != 1 || !events[0].Injected || !events[0].Failed || events[0].Data != `x) = 7\"` || events[0].writes() {
		t.Errorf("%+v", events)
	}
}

// A traced server is a server whose whole life is under strace.
type traced struct {
	*bench
	file string
}

func startTraced(t *testing.T) *traced {
	t.Helper()
	s := &traced{file: filepath.Join(t.TempDir(), "trace")}
	s.bench = newBench(t, harness.Options{Wrapper: straced(t, s.file, "-s", "4096", "-e", "trace="+Calls)})
	s.Restart()
	return s
}

// since returns the events that came after the first n bytes of the trace, once
// they have the text that a client or the standard output was sent.
func (s *traced) since(n int, end string) []Event {
	s.t.Helper()
	var events []Event
	s.Poll(readyLimit, "the trace has "+end, func() bool {
		text, err := os.ReadFile(s.file)
		if err != nil {
			s.t.Fatal(err)
		}
		text = text[min(n, len(text)):]
		if !bytes.Contains(text, []byte(end)) {
			return false
		}
		events = parse(s.t, string(text[:bytes.LastIndexByte(text, '\n')+1]))
		return slices.ContainsFunc(events, func(e Event) bool { return strings.HasPrefix(e.Data, end) })
	})
	return events
}

// length returns how much of the trace there is, once it has come to rest: what
// comes after that belongs to the next request.
func (s *traced) length() int {
	s.t.Helper()
	last, since := -1, time.Now()
	s.Poll(readyLimit, "the trace comes to rest", func() bool {
		info, err := os.Stat(s.file)
		if err != nil {
			s.t.Fatal(err)
		}
		if n := int(info.Size()); n != last {
			last, since = n, time.Now()
		}
		return time.Since(since) > 20*time.Millisecond
	})
	return last
}

// TestOrder (F1d) holds every commit of a server's life against the order: first
// start, entries, entries at the same time, certificates, stop, a second start.
func TestOrder(t *testing.T) {
	s := startTraced(t)
	events := s.since(0, "sigstack serves at")
	names, err := Names(events, s.Dir+"/")
	if err != nil {
		t.Errorf("first start: %v", err)
	}
	if names < 20 { // keys, the CA's chain, the TUF repository
		t.Errorf("first start: %d names were given, want at least 20", names)
	}
	made, err := Created(events, s.Dir, "-shm")
	if err != nil {
		t.Errorf("first start: %v", err)
	}
	if made < 14 { // directories; three databases, each with its write-ahead log; two second memories
		t.Errorf("first start: %d files and directories were made, want at least 14", made)
	}

	one := func(kind, answer string, files ...string) {
		t.Helper()
		before := s.length()
		if r := s.load.One(kind); !harness.Acknowledged(r) {
			t.Fatalf("%s: status %d: %s", kind, r.Status, r.Error)
		}
		events := s.since(before, answer)
		if err := Commit(events, answer, files...); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		if kind != harness.KindEntry {
			return
		}
		if n, trees, err := Batches(events, files[0], files[1]); n != 1 || trees != 1 || err != nil {
			t.Errorf("%d answers with %d checkpoints: %v", n, trees, err)
		}
	}
	entry := func() { t.Helper(); one(harness.KindEntry, "HTTP/1.1 201", entryFiles...) }
	for range 20 {
		entry()
	}
	s.load.Token() // asking for it is answered with 200 too
	for range 5 {
		one(harness.KindCertificate, "HTTP/1.1 200", certificateFiles...)
	}

	const together = 64
	before := s.length()
	s.load.Entries(together)
	s.length()
	n, trees, err := Batches(s.since(before, "HTTP/1.1 201"), entryFiles[0], entryFiles[1])
	if n != together || trees > n || err != nil {
		t.Errorf("%d of %d answers with %d checkpoints: %v", n, together, trees, err)
	}
	t.Logf("first start: %d files and directories, %d names; %d entries at a time in %d batches", made, names, n, trees)

	s.Stop()
	s.Restart()
	entry()
	// Its write-ahead logs were made anew.
	if _, err := Created(s.since(0, "HTTP/1.1 201"), s.Dir, "-shm"); err != nil {
		t.Errorf("second start: %v", err)
	}
	s.load.Token()
	one(harness.KindCertificate, "HTTP/1.1 200", certificateFiles...)
	s.verify()
}
