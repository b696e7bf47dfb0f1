package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
)

// testTimeout ends a test that a mutant has made to hang. That is a kill, too.
const testTimeout = time.Minute

// An outcome is what one command of "go test" did.
type outcome struct {
	ran    bool   // a test was run
	failed string // the first test that failed, or what else did; "" where none
	broken bool   // it could not be built
	tail   string // the end of the output

	running []string // the tests that have begun and not ended
}

// goTest runs tests in a copy of the module.
//
// With -trimpath what is built does not depend on the folder, so that copies
// and later runs share the build cache. Results are never taken from a cache:
// some tests build and run a binary that the go command knows nothing of.
func goTest(ctx context.Context, dir string, t tests) (outcome, error) {
	args := []string{"test", "-json", "-trimpath", "-vet=off", "-short", "-failfast", "-count=1", "-timeout", testTimeout.String(), "-run", t.pattern()}
	if t.tags != "" {
		args = append(args, "-tags", t.tags)
	}
	cmd := exec.CommandContext(ctx, "go", append(args, t.pkg)...)
	cmd.Dir = dir
	// The go command and the tests that it runs are one process group: an
	// interrupt ends them together.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	out, err := cmd.StdoutPipe()
	if err != nil {
		return outcome{}, err
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		return outcome{}, err
	}
	o, err := read(out)
	werr := cmd.Wait()
	if ctx.Err() != nil {
		return outcome{}, ctx.Err()
	}
	if err != nil {
		return outcome{}, fmt.Errorf("reading the output of %s: %w", t, err)
	}
	var exit *exec.ExitError
	switch {
	case werr != nil && !errors.As(werr, &exit):
		return outcome{}, werr
	case werr != nil && o.failed == "" && !o.broken:
		return outcome{}, fmt.Errorf("%s: %w and no test that failed:\n%s%s", t, werr, o.tail, stderr.String())
	}
	return o, nil
}

// An event is one line of "go test -json" (see cmd/test2json).
type event struct {
	Action      string
	Test        string
	Output      string
	FailedBuild string
}

// maxTail bounds the output that is kept.
const maxTail = 4 << 10

// read reads the events of one package.
func read(r io.Reader) (outcome, error) {
	var o outcome
	in := bufio.NewReader(r)
	for {
		line, err := in.ReadBytes('\n')
		if len(bytes.TrimSpace(line)) > 0 {
			var e event
			if json.Unmarshal(line, &e) != nil {
				e = event{Action: "output", Output: string(line)} // of the go command itself
			}
			o.take(e)
		}
		if err == io.EOF {
			return o, nil
		}
		if err != nil {
			return o, err
		}
	}
}

func (o *outcome) take(e event) {
	switch e.Action {
	case "output", "build-output":
		if o.tail += e.Output; len(o.tail) > maxTail {
			o.tail = o.tail[len(o.tail)-maxTail:]
		}
		if strings.HasPrefix(e.Output, "panic: test timed out") && o.failed == "" {
			o.failed = o.last() + " (timed out)"
		}
	case "build-fail":
		o.broken = true
	case "run":
		o.ran = true
		o.running = append(o.running, e.Test)
	case "pass", "skip":
		o.running = slices.DeleteFunc(o.running, func(name string) bool { return name == e.Test })
	case "fail":
		switch {
		case e.FailedBuild != "":
			o.broken = true
		case o.failed == "" && e.Test != "":
			o.failed = e.Test // subtests end before the tests that they belong to
		case o.failed == "" && !o.broken:
			// The process ended in the middle of a test: nobody says which.
			o.failed = o.last() + " (the process ended)"
		}
	}
}

// last returns the test that began last, of those that have not ended.
func (o *outcome) last() string {
	if len(o.running) == 0 {
		return "no test"
	}
	return o.running[len(o.running)-1]
}
