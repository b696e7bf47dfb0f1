package harness

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
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
	Ops string // of /metrics, /healthz and /readyz
	Dir string // its data directory

	t    testing.TB
	args []string // more arguments of "sigstack serve"
	proc *Process
}

// Start starts a server on an empty data directory and free ports, and returns
// when it is ready. Args follow the ones that the harness gives to
// "sigstack serve".
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	s := &Server{t: t, Dir: filepath.Join(t.TempDir(), "data"), args: args}
	s.serve("127.0.0.1:0", "127.0.0.1:0")
	return s
}

func (s *Server) serve(listen, opsListen string) {
	s.t.Helper()
	args := append([]string{"serve", "--dev", "--listen", listen, "--ops-listen", opsListen, "--data-dir", s.Dir}, s.args...)
	s.proc = StartProcess(s.t, filepath.Dir(s.Dir), cleanEnv(filepath.Dir(s.Dir), os.Getenv("PATH")), Binary(s.t), args...)

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
	s.URL, s.Ops = serving.URL, serving.Ops
	s.waitReady()
}

// waitReady asks /readyz until it answers 200.
func (s *Server) waitReady() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	ask := time.NewTicker(5 * time.Millisecond)
	defer ask.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.Ops+"/readyz", nil)
		if err != nil {
			s.t.Fatal(err)
		}
		if res, err := http.DefaultClient.Do(req); err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return
			}
		}
		select {
		case <-ask.C:
		case <-s.proc.done:
			s.t.Fatal("sigstack ended before it was ready")
		case <-ctx.Done():
			s.t.Fatalf("%s/readyz did not answer 200 within %s", s.Ops, startLimit)
		}
	}
}

// Stop sends SIGTERM and fails the test unless the server drains and exits with
// 0.
func (s *Server) Stop() {
	s.t.Helper()
	s.proc.Terminate()
	if code := s.proc.Wait(stopLimit); code != 0 {
		s.t.Errorf("sigstack exits with %d after SIGTERM, want 0", code)
	}
}

// Kill sends SIGKILL, which the server cannot notice.
func (s *Server) Kill() { s.proc.Kill() }

// Restart starts a stopped or killed server again, on the same data directory
// and the same addresses.
func (s *Server) Restart() {
	s.t.Helper()
	before := s.URL
	s.serve(host(s.t, s.URL), host(s.t, s.Ops))
	if s.URL != before {
		s.t.Fatalf("sigstack serves %s after a restart, before %s", s.URL, before)
	}
}

// Log returns what the server printed since its last start.
func (s *Server) Log() string { return s.proc.Output() }

func host(t testing.TB, raw string) string {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return u.Host
}
