package harness

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// startLimit is generous: the tests may share two cores. How long a start may
// take is measured elsewhere.
const startLimit = 30 * time.Second

// stopLimit covers the drain of requests under way.
const stopLimit = 30 * time.Second

// Server is one sigstack server in development mode.
type Server struct {
	URL string // of everything, such as http://127.0.0.1:41234

	// Public is the URL that the server publishes: URL, but for a replica.
	Public string

	Ops string // of /metrics, /healthz and /readyz
	Dir string // its data directory, as the test sees it

	t       testing.TB
	options Options
	dir     string // its data directory, as the server sees it
	listen  string // the addresses to take at each start
	ops     string
	proc    *Process
}

// Options are what StartWith and NewServer take. The zero value is a server on
// an empty data directory.
type Options struct {
	Args []string // these follow the ones that the harness gives to "sigstack serve"
	Dir  string   // a data directory that exists; it is used, not copied
	Disk *Disk    // what the server sees; the data directory is made there, unless Dir names one

	// Failpoints is SIGSTACK_FAILPOINTS (see package tlog/failpoint). Faulty,
	// and Failpoints and Clock by themselves, choose the binary that has them.
	Failpoints string
	Faulty     bool
	Clock      *Clock

	// DSN is a database (see MariaDB.NewDatabase) to keep everything in but keys
	// and second memories, instead of the data directory.
	DSN string

	// Wrapper is a command, such as strace with its flags, that runs the server.
	Wrapper []string

	// Leaks, if set, reads every line that the server prints.
	Leaks *Leaks

	// Env is added to the environment, NAME=VALUE.
	Env []string
}

// Start starts a server on an empty data directory and free ports, and returns
// when it is ready. Args follow the ones that the harness gives to
// "sigstack serve".
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	return StartWith(t, Options{Args: args})
}

// StartWith starts a server and returns when it is ready.
func StartWith(t testing.TB, o Options) *Server {
	t.Helper()
	s := NewServer(t, o)
	s.serve()
	return s
}

// NewServer returns a server that was not started yet. Restart starts it, Launch
// starts it and does not wait.
func NewServer(t testing.TB, o Options) *Server {
	t.Helper()
	s := &Server{t: t, options: o, listen: FreeAddr(t), ops: FreeAddr(t)}
	o.Faulty = o.Faulty || o.Failpoints != "" || o.Clock != nil
	s.options = o
	switch {
	case o.Disk != nil && o.Dir == "":
		s.dir = filepath.Join(o.Disk.Path, "data")
		s.Dir = o.Disk.Outside(s.dir)
	case o.Dir != "":
		s.dir, s.Dir = o.Dir, o.Dir
	default:
		s.dir = filepath.Join(t.TempDir(), "data")
		s.Dir = s.dir
	}
	return s
}

// Replica returns another server over the same database, with the same keys, and
// the same URL in what it publishes. It was not started yet.
func (s *Server) Replica(t testing.TB) *Server {
	t.Helper()
	o := s.options
	o.Dir = ""
	o.Args = append(slices.Clone(o.Args), "--url", s.URL)
	r := NewServer(t, o)
	r.URL, r.Public = "http://"+r.listen, s.Public
	keys := filepath.Join(r.Dir, "keys")
	if err := os.MkdirAll(keys, 0o700); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(filepath.Join(s.Dir, "keys"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		text, err := os.ReadFile(filepath.Join(s.Dir, "keys", f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(keys, f.Name()), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// Behind returns the server as clients see it through something else, such as a
// Balancer, that has this URL.
func (s *Server) Behind(url string) *Server {
	seen := *s
	seen.URL = url
	return &seen
}

// SetDSN says which database to use after the next start.
func (s *Server) SetDSN(dsn string) { s.options.DSN = dsn }

// SetFailpoints says what is to fail after the next start. It needs a server
// that was made with Faulty.
func (s *Server) SetFailpoints(spec string) {
	s.t.Helper()
	if !s.options.Faulty {
		s.t.Fatal("harness: this server has no failpoints; set Options.Faulty")
	}
	s.options.Failpoints = spec
}

// SetWrapper says what is to run the server after the next start; nil is
// nothing.
func (s *Server) SetWrapper(command ...string) { s.options.Wrapper = command }

// Launch starts the server and returns at once: it may be one that fails to
// start.
func (s *Server) Launch() {
	s.t.Helper()
	binary := Binary(s.t)
	home := s.t.TempDir()
	env := append(cleanEnv(home, os.Getenv("PATH")), s.options.Env...)
	if s.options.Faulty {
		binary = FaultyBinary(s.t)
		env = append(env, "SIGSTACK_FAILPOINTS="+s.options.Failpoints)
		if s.options.Clock != nil {
			env = append(env, "SIGSTACK_CLOCK="+s.options.Clock.file)
		}
	}
	if s.options.DSN != "" {
		file := filepath.Join(home, "dsn")
		if err := os.WriteFile(file, []byte(s.options.DSN+"\n"), 0o600); err != nil {
			s.t.Fatal(err)
		}
		env = append(env, "SIGSTACK_STORAGE=mysql", "SIGSTACK_MYSQL_DSN_FILE="+file)
	}
	args := append([]string{"serve", "--dev", "--listen", s.listen, "--ops-listen", s.ops, "--data-dir", s.dir}, s.options.Args...)
	if s.options.Disk != nil {
		binary, args = s.options.Disk.command(binary, args)
	}
	if w := s.options.Wrapper; len(w) > 0 {
		path, err := exec.LookPath(w[0])
		if err != nil {
			s.t.Fatalf("harness: %v; run `make tools`", err)
		}
		binary, args = path, append(append(slices.Clone(w[1:]), binary), args...)
	}
	s.proc = StartProcess(s.t, home, env, binary, args...)
	if s.options.Leaks != nil {
		s.proc.Watch(func(line string) { s.options.Leaks.logLine(line) })
	}
}

// serve starts the server, waits until it is ready, and returns how long that
// took.
func (s *Server) serve() time.Duration {
	s.t.Helper()
	start := time.Now()
	s.Launch()
	var serving struct {
		Msg string `json:"msg"`
		URL string `json:"url"`
		Ops string `json:"ops"`
	}
	s.proc.Line(startLimit, `JSON line with "msg":"serving"`, func(line string) bool {
		return json.Unmarshal([]byte(line), &serving) == nil && serving.Msg == "serving"
	})
	if serving.URL == "" || serving.Ops == "" {
		s.t.Fatalf(`the "serving" line of sigstack lacks url or ops: %+v`, serving)
	}
	if s.Public == "" {
		s.Public = serving.URL
	} else if s.Public != s.URL { // of a replica, whose address was chosen before
		serving.URL = s.URL
	}
	if s.URL != "" && s.URL != serving.URL {
		s.t.Fatalf("sigstack serves %s after a restart, before %s", serving.URL, s.URL)
	}
	s.URL, s.Ops = serving.URL, serving.Ops
	s.WaitReady(startLimit)
	return time.Since(start)
}

// WaitReady asks /readyz until it answers 200, and returns how long that took.
func (s *Server) WaitReady(limit time.Duration) time.Duration {
	s.t.Helper()
	start := time.Now()
	s.Poll(limit, s.Ops+"/readyz answers 200", func() bool {
		ready, _ := s.Ready()
		return ready
	})
	return time.Since(start)
}

// Poll calls f every few milliseconds until it returns true. It fails the test
// when limit passes or the server ends before that.
func (s *Server) Poll(limit time.Duration, what string, f func() bool) {
	s.t.Helper()
	timeout := time.NewTimer(limit)
	defer timeout.Stop()
	ask := time.NewTicker(5 * time.Millisecond)
	defer ask.Stop()
	for !f() {
		select {
		case <-ask.C:
		case <-s.proc.done:
			s.t.Fatalf("sigstack ended; want that %s", what)
		case <-timeout.C:
			s.t.Fatalf("not within %s: %s", limit, what)
		}
	}
}

// Ready asks /readyz once, and returns the answer's body too. A server that
// does not answer is not ready.
func (s *Server) Ready() (bool, string) {
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.Ops+"/readyz", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return false, err.Error()
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	return res.StatusCode == http.StatusOK, string(body)
}

// Stop sends SIGTERM and fails the test unless the server drains and exits with
// 0.
func (s *Server) Stop() {
	s.t.Helper()
	s.Terminate()
	if code := s.Wait(stopLimit); code != 0 {
		s.t.Errorf("sigstack exits with %d after SIGTERM, want 0", code)
	}
}

// Terminate sends SIGTERM and returns at once.
func (s *Server) Terminate() {
	s.t.Helper()
	s.proc.Terminate()
}

// Wait waits for the end of the server and returns its exit code, -1 after a
// signal.
func (s *Server) Wait(limit time.Duration) int {
	s.t.Helper()
	return s.proc.Wait(limit)
}

// Running says whether the server, or what wraps it, has not ended.
func (s *Server) Running() bool { return !s.proc.ended() }

// PID returns the number of the process that was started last: the server, or
// what wraps it.
func (s *Server) PID() int { return s.proc.PID() }

// Kill sends SIGKILL, which the server cannot notice.
func (s *Server) Kill() { s.proc.Kill() }

// Restart starts a stopped or killed server again, on the same data directory
// and the same addresses, and returns the time until it was ready.
func (s *Server) Restart() time.Duration {
	s.t.Helper()
	return s.serve()
}

// Log returns what the server printed since its last start; of much, the end.
func (s *Server) Log() string { return s.proc.Output() }

// Watch has f called with each line that the server prints until its next
// start, those that it has printed first. It takes the place of Options.Leaks.
func (s *Server) Watch(f func(line string)) { s.proc.Watch(f) }

// Fsck runs "sigstack fsck --dir" on the data directory. The server may run.
func (s *Server) Fsck(args ...string) Result {
	s.t.Helper()
	args = append([]string{"fsck", "--dir", s.dir}, args...)
	binary := Binary(s.t)
	if s.options.Disk != nil {
		binary, args = s.options.Disk.command(binary, args)
	}
	c := &Client{t: s.t, Dir: s.t.TempDir()}
	return c.Try(binary, args...)
}

// AuditVerify runs "sigstack audit verify" on the data directory, or on the
// database. The server may run.
func (s *Server) AuditVerify(args ...string) Result {
	s.t.Helper()
	if s.options.DSN != "" {
		dsn := filepath.Join(s.t.TempDir(), "dsn")
		if err := os.WriteFile(dsn, []byte(s.options.DSN+"\n"), 0o600); err != nil {
			s.t.Fatal(err)
		}
		config := Config(s.t, fmt.Sprintf("{data-dir: %q, storage: mysql, mysql: {dsn-file: %q}}", s.dir, dsn))
		args = append([]string{"audit", "verify", "--config", config}, args...)
	} else {
		args = append([]string{"audit", "verify", "--data-dir", s.dir}, args...)
	}
	binary := Binary(s.t)
	if s.options.Disk != nil {
		binary, args = s.options.Disk.command(binary, args)
	}
	c := &Client{t: s.t, Dir: s.t.TempDir()}
	return c.Try(binary, args...)
}

// Metric returns the value of a metric without labels.
func (s *Server) Metric(name string) (float64, error) {
	res, err := http.Get(s.Ops + "/metrics")
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			return strconv.ParseFloat(value, 64)
		}
	}
	return 0, fmt.Errorf("/metrics has no %s (%w)", name, lines.Err())
}

// CopyDir copies the data directory of a server that does not run.
func (s *Server) CopyDir(to string) {
	s.t.Helper()
	if !s.proc.ended() {
		s.t.Fatal("harness: the data directory of a running server is copied")
	}
	if err := os.CopyFS(to, os.DirFS(s.Dir)); err != nil {
		s.t.Fatal(err)
	}
	restrict(s.t, to)
}

// restrict gives copied key files the mode that the server wants: os.CopyFS
// adds the permissions of the process's umask.
func restrict(t testing.TB, dir string) {
	t.Helper()
	keys, err := filepath.Glob(filepath.Join(dir, "keys", "*.pem"))
	if err != nil || len(keys) == 0 {
		t.Fatalf("no keys in %s (%v)", dir, err)
	}
	for _, key := range slices.Clip(keys) {
		if err := os.Chmod(key, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// CopyData copies a data directory that no server uses.
func CopyData(t testing.TB, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	restrict(t, to)
}

// Config writes a configuration file, and returns its name.
func Config(t testing.TB, yaml string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "sigstack.yaml")
	if err := os.WriteFile(name, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}
