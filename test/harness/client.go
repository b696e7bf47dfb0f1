package harness

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// runLimit bounds one run of a client. Key derivation of cosign and two busy
// cores make single runs slow.
const runLimit = 2 * time.Minute

// closedProxy is the discard port, which nothing listens on: a request that
// leaves the loopback address is refused at once.
const closedProxy = "http://127.0.0.1:9"

// Client runs programs as one user with an own home directory, which is the
// working directory as well. Its methods may be called by several goroutines
// once its environment is set.
type Client struct {
	Dir string // the home directory

	t   testing.TB
	env []string // what Setenv added
}

// NewClient returns a client with an empty home directory.
func NewClient(t testing.TB) *Client {
	t.Helper()
	c := &Client{t: t, Dir: t.TempDir()}
	if err := os.Mkdir(filepath.Join(c.Dir, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	return c
}

// Setenv adds a variable to the environment of every later run.
func (c *Client) Setenv(name, value string) { c.env = append(c.env, name+"="+value) }

// Install makes script, a shell script without its first line, a command of
// this client. It comes before a command of the system with the same name.
func (c *Client) Install(name, script string) {
	c.t.Helper()
	c.Write(filepath.Join("bin", name), []byte("#!/bin/sh\n"+script+"\n"))
	if err := os.Chmod(c.Path(filepath.Join("bin", name)), 0o755); err != nil {
		c.t.Fatal(err)
	}
}

// Path returns the full path of a file in the home directory.
func (c *Client) Path(name string) string { return filepath.Join(c.Dir, name) }

// Write writes a file in the home directory.
func (c *Client) Write(name string, data []byte) {
	c.t.Helper()
	if err := os.WriteFile(c.Path(name), data, 0o600); err != nil {
		c.t.Fatal(err)
	}
}

// Read reads a file in the home directory.
func (c *Client) Read(name string) []byte {
	c.t.Helper()
	data, err := os.ReadFile(c.Path(name))
	if err != nil {
		c.t.Fatal(err)
	}
	return data
}

// Result is what a program left behind.
type Result struct {
	Stdout, Stderr string
	Code           int // exit code; -1 after a signal
}

// Output is both streams, the standard output first.
func (r Result) Output() string { return r.Stdout + r.Stderr }

// Run runs a program, a pinned client by preference, and fails the test unless
// it exits with 0.
func (c *Client) Run(name string, args ...string) Result {
	c.t.Helper()
	r := c.Try(name, args...)
	if r.Code != 0 {
		c.t.Fatalf("%s: exit code %d, want 0\n%s", commandLine(name, args), r.Code, r.Output())
	}
	return r
}

// Refuse runs a program that must refuse: it fails the test unless the exit code
// is positive and the output holds want.
func (c *Client) Refuse(want, name string, args ...string) Result {
	c.t.Helper()
	r := c.Try(name, args...)
	if r.Code <= 0 {
		c.t.Fatalf("%s: exit code %d, want a refusal\n%s", commandLine(name, args), r.Code, r.Output())
	}
	if !strings.Contains(r.Output(), want) {
		c.t.Fatalf("%s: refused without %q\n%s", commandLine(name, args), want, r.Output())
	}
	return r
}

// Try runs a program to its end.
func (c *Client) Try(name string, args ...string) Result {
	c.t.Helper()
	cmd := exec.Command(c.find(name), args...)
	cmd.Dir = c.Dir
	cmd.Env = c.environ()
	cmd.SysProcAttr = ownGroup()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	// A program that this one leaves behind with the pipes open must not hold
	// up the test.
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	limit := time.AfterFunc(runLimit, func() { cmd.Process.Kill() })
	defer limit.Stop()
	var exit *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
		c.t.Fatalf("%s: %v", commandLine(name, args), err)
	}
	return Result{Stdout: stdout.String(), Stderr: stderr.String(), Code: cmd.ProcessState.ExitCode()}
}

// Start starts a program that the test talks to while it runs.
func (c *Client) Start(name string, args ...string) *Process {
	c.t.Helper()
	return StartProcess(c.t, c.Dir, c.environ(), c.find(name), args...)
}

// find returns the file of a program: the server under test, a command of this
// client, a pinned client in .tools/bin, or a command of the system. What is
// missing fails the test, because a skipped test proves nothing.
func (c *Client) find(name string) string {
	c.t.Helper()
	if name == "sigstack" {
		return Binary(c.t)
	}
	tools := filepath.Join(Root(c.t), ".tools", "bin")
	for _, dir := range []string{c.Path("bin"), tools} {
		if path := filepath.Join(dir, name); isProgram(path) {
			return path
		}
	}
	if slices.Contains([]string{"cosign2", "cosign3", "rekor-cli", "crane", "pebble"}, name) {
		c.t.Fatalf("%s is not in .tools/bin: run make tools", name)
	}
	path, err := exec.LookPath(name)
	if err != nil {
		c.t.Fatalf("%v: run scripts/debian.sh", err)
	}
	return path
}

func isProgram(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// environ is the environment of a run. Of two values for one name the last one
// counts.
func (c *Client) environ() []string {
	path := strings.Join([]string{
		c.Path("bin"),
		filepath.Join(Root(c.t), ".tools", "bin"),
		filepath.Dir(Binary(c.t)),
		os.Getenv("PATH"),
	}, string(os.PathListSeparator))
	return append(cleanEnv(c.Dir, path), c.env...)
}

// cleanEnv is an environment with nothing of the caller's but the search path,
// for a program that must not leave this machine.
func cleanEnv(home, path string) []string {
	return []string{
		"HOME=" + home,
		"PATH=" + path,
		"TMPDIR=" + os.TempDir(),
		"LC_ALL=C.UTF-8",
		"HTTP_PROXY=" + closedProxy, "http_proxy=" + closedProxy,
		"HTTPS_PROXY=" + closedProxy, "https_proxy=" + closedProxy,
		"NO_PROXY=127.0.0.1,localhost,::1", "no_proxy=127.0.0.1,localhost,::1",
	}
}

// commandLine is a command for a message, without long arguments: an identity
// token is one of them.
func commandLine(name string, args []string) string {
	line := name
	for _, arg := range args {
		if len(arg) > 200 {
			arg = arg[:8] + "..."
		}
		line += " " + arg
	}
	return line
}
