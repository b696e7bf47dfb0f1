package harness

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Process is one running program and what it printed so far.
type Process struct {
	t    testing.TB
	name string
	cmd  *exec.Cmd
	done chan struct{} // closed after the program ended and was reaped

	mu      sync.Mutex // guards what follows
	lines   []string   // of standard output and standard error, as they came
	gone    int        // how many lines before them were dropped
	watch   func(line string)
	changed chan struct{} // closed at the next line; nil where nobody waits for it
}

// StartProcess starts the program at path in its own process group. The group
// is killed when the test ends, if it is still there then.
func StartProcess(t testing.TB, dir string, env []string, path string, args ...string) *Process {
	t.Helper()
	p := &Process{
		t:    t,
		name: filepath.Base(path),
		cmd:  exec.Command(path, args...),
		done: make(chan struct{}),
	}
	p.cmd.Dir = dir
	p.cmd.Env = env
	p.cmd.SysProcAttr = ownGroup()
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("starting %s: %v", p.name, err)
	}

	var readers sync.WaitGroup
	readers.Go(func() { p.read(stdout) })
	readers.Go(func() { p.read(stderr) })
	go func() {
		readers.Wait() // Wait closes the pipes, so they are emptied first.
		p.cmd.Wait()   // The exit code is in ProcessState.
		close(p.done)
	}()
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("end of the output of %s %s:\n%s", p.name, strings.Join(args, " "), p.tail())
		}
	})
	return p
}

// read keeps every line of r until its end.
func (p *Process) read(r io.Reader) {
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			line = strings.TrimRight(line, "\r\n")
			p.mu.Lock()
			if p.watch != nil {
				p.watch(line)
			}
			if len(p.lines) == maxLines { // a server under load writes many
				p.lines, p.gone = append(p.lines[:0:0], p.lines[maxLines/2:]...), p.gone+maxLines/2
			}
			p.lines = append(p.lines, line)
			if p.changed != nil { // somebody waits
				close(p.changed)
				p.changed = nil
			}
			p.mu.Unlock()
		}
		if err != nil {
			return
		}
	}
}

// maxLines is how many lines of output are kept, the newest ones. What waits
// for a line sees each.
const maxLines = 20000

// Watch has f called with each line of output, those that are there first. F
// must not call methods of p.
func (p *Process) Watch(f func(line string)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, line := range p.lines {
		f(line)
	}
	p.watch = f
}

// Output returns what the program printed so far, both streams together.
func (p *Process) Output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.lines, "\n")
}

// tail returns the last lines of the output, without the access log: a failed
// test is read by people.
func (p *Process) tail() string {
	const lines = 15
	p.mu.Lock()
	defer p.mu.Unlock()
	var kept []string
	for _, line := range p.lines {
		if !strings.Contains(line, `"level":"INFO","msg":"request"`) {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept[max(0, len(kept)-lines):], "\n")
}

// Line waits for the first line that match accepts and returns it. It fails the
// test if the program ends without one or limit passes.
func (p *Process) Line(limit time.Duration, what string, match func(line string) bool) string {
	p.t.Helper()
	timeout := time.NewTimer(limit)
	defer timeout.Stop()
	seen := 0
	for {
		// The end is looked at before the lines: all of them are there then.
		ended := p.ended()
		p.mu.Lock()
		if p.changed == nil {
			p.changed = make(chan struct{})
		}
		lines, gone, changed := p.lines, p.gone, p.changed
		p.mu.Unlock()
		for seen = max(seen, gone); seen < gone+len(lines); seen++ {
			if line := lines[seen-gone]; match(line) {
				return line
			}
		}
		if ended {
			p.t.Fatalf("%s ended with exit code %d before it printed %s", p.name, p.cmd.ProcessState.ExitCode(), what)
		}
		select {
		case <-changed:
		case <-p.done:
		case <-timeout.C:
			p.t.Fatalf("%s printed no %s within %s", p.name, what, limit)
		}
	}
}

// Wait waits for the end of the program and returns its exit code, which is -1
// for a program that a signal ended. It fails the test after limit.
func (p *Process) Wait(limit time.Duration) int {
	p.t.Helper()
	timeout := time.NewTimer(limit)
	defer timeout.Stop()
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode()
	case <-timeout.C:
		p.t.Fatalf("%s still runs after %s", p.name, limit)
		return 0
	}
}

// Terminate asks the program to end: SIGTERM to it alone.
func (p *Process) Terminate() {
	p.t.Helper()
	if err := p.signal(p.cmd.Process.Pid, syscall.SIGTERM); err != nil {
		p.t.Fatal(err)
	}
}

// Kill ends the program and all that it started with SIGKILL, and waits until it
// is gone. On a program that has ended it does nothing.
func (p *Process) Kill() {
	if p.signal(-p.cmd.Process.Pid, syscall.SIGKILL) == nil {
		<-p.done
	}
}

// signal sends nothing once the program was reaped: its number may be another
// program's then.
func (p *Process) signal(pid int, sig syscall.Signal) error {
	if p.ended() {
		return fmt.Errorf("%s has ended", p.name)
	}
	if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("%s: %s: %w", p.name, sig, err)
	}
	return nil
}

// PID returns the number of the process.
func (p *Process) PID() int { return p.cmd.Process.Pid }

func (p *Process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}
