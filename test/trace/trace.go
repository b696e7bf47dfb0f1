// Package trace checks the order of system calls: that what has to be on the
// disk was synced before anybody is told of it.
//
// Killing a process does not test that: the kernel keeps what was written, and
// a program without a single fsync survives it. The tests run the real binary
// under strace and hold its trace against the order that the comments at
// tlog.Log.commit and sqlite.Store state.
package trace

import (
	"bufio"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"strings"
)

// An Event is one system call that succeeded. Begun and Ended are line numbers
// of the trace: in two calls of different threads, one is before the other only
// if it ended before the other began.
type Event struct {
	Call  string
	Path  string // of the descriptor, or of the new name of a rename
	From  string // the old name of a rename
	Data  string // the beginning of what was written
	Begun int
	Ended int
}

// Calls is what strace has to trace.
const Calls = "write,pwrite64,writev,sendto,fsync,fdatasync,rename,renameat,renameat2,link,linkat"

var (
	line    = regexp.MustCompile(`^(\d+) +(.*)$`)
	resumed = regexp.MustCompile(`^<\.\.\. (\w+) resumed>(.*)$`)
	call    = regexp.MustCompile(`^(\w+)\((.*)\) += (-?\d+|\?).*$`)
	onFD    = regexp.MustCompile(`^\d+<([^>]*)>(?:, "((?:[^"\\]|\\.)*)")?`)
	names   = regexp.MustCompile(`"([^"]*)"`)
)

// Parse reads a trace that strace -f -y wrote. Calls that failed, or that had
// not returned at its end, are left out.
func Parse(r io.Reader) ([]Event, error) {
	type half struct {
		text  string
		begun int
	}
	open := map[string]half{} // by thread
	var events []Event
	s := bufio.NewScanner(r)
	s.Buffer(nil, 1<<20)
	for n := 1; s.Scan(); n++ {
		m := line.FindStringSubmatch(s.Text())
		if m == nil {
			return nil, fmt.Errorf("line %d: %q is not of a trace with -f", n, s.Text())
		}
		thread, text, begun := m[1], m[2], n
		if before, unfinished := strings.CutSuffix(text, "<unfinished ...>"); unfinished {
			open[thread] = half{strings.TrimRight(before, " "), n}
			continue
		}
		if m := resumed.FindStringSubmatch(text); m != nil {
			h := open[thread]
			delete(open, thread)
			text, begun = h.text+m[2], h.begun
		}
		m = call.FindStringSubmatch(text)
		if m == nil || strings.HasPrefix(m[3], "-") || m[3] == "?" {
			continue // a signal, an exit, or a call that failed
		}
		e := Event{Call: m[1], Begun: begun, Ended: n}
		if strings.HasPrefix(e.Call, "rename") || strings.HasPrefix(e.Call, "link") {
			found := names.FindAllStringSubmatch(m[2], -1)
			if len(found) != 2 {
				return nil, fmt.Errorf("line %d: %q does not name two files", n, text)
			}
			e.From, e.Path = found[0][1], found[1][1]
		} else if fd := onFD.FindStringSubmatch(m[2]); fd != nil {
			e.Path, e.Data = fd[1], fd[2]
		}
		events = append(events, e)
	}
	return events, s.Err()
}

func (e Event) writes() bool { return e.Call == "write" || e.Call == "pwrite64" || e.Call == "writev" }
func (e Event) syncs() bool  { return e.Call == "fsync" || e.Call == "fdatasync" }

// Commit checks the events between a request and its answer: for each of the
// files, in this order, it was written, and synced after its last write, before
// the next file was written; and all that before the answer began, whose text
// starts with answer.
func Commit(events []Event, answer string, files ...string) error {
	told := -1
	for i, e := range events {
		if strings.HasPrefix(e.Data, answer) {
			told = i
			break
		}
	}
	if told < 0 {
		return fmt.Errorf("the answer %q is not in the trace", answer)
	}
	before := 0 // the line at which the step before has ended
	for _, file := range files {
		first, last, synced := 0, 0, 0
		for _, e := range events {
			if e.writes() && strings.HasSuffix(e.Path, file) && e.Begun < events[told].Begun {
				if first == 0 {
					first = e.Begun
				}
				last = max(last, e.Ended)
			}
		}
		for _, e := range events {
			if e.syncs() && strings.HasSuffix(e.Path, file) && e.Begun > last {
				synced = e.Ended
				break
			}
		}
		switch {
		case first == 0:
			return fmt.Errorf("%s was not written before the answer", file)
		case first < before:
			return fmt.Errorf("%s was written, at line %d, before the file before it was synced, at line %d", file, first, before)
		case synced == 0:
			return fmt.Errorf("%s was not synced after its last write, which ended at line %d, and before the answer", file, last)
		case synced >= events[told].Begun:
			return fmt.Errorf("%s was synced at line %d, after the answer began at line %d", file, synced, events[told].Begun)
		}
		before = synced
	}
	return nil
}

// Names checks every rename and link to a name below dir: what is renamed was
// synced after its last write, and the directory that holds the new name was
// synced before the next rename, and before the end.
func Names(events []Event, dir string) (checked int, err error) {
	for i, e := range events {
		if e.From == "" || !strings.HasPrefix(e.Path, dir) {
			continue
		}
		checked++
		written, synced := 0, 0
		for _, was := range events[:i] {
			if was.Path == e.From && was.writes() {
				written = was.Ended
			}
			if was.Path == e.From && was.syncs() && was.Begun > written {
				synced = was.Ended
			}
		}
		if synced == 0 || synced < written {
			return checked, fmt.Errorf("%s got the name %s at line %d without having been synced", e.From, e.Path, e.Begun)
		}
		parent, durable := filepath.Dir(e.Path), false
		for _, next := range events[i+1:] {
			if next.From != "" && strings.HasPrefix(next.Path, dir) {
				break
			}
			if next.syncs() && next.Path == parent && next.Begun > e.Ended {
				durable = true
				break
			}
		}
		if !durable {
			return checked, fmt.Errorf("the directory of %s was not synced after line %d, before the next name", e.Path, e.Ended)
		}
	}
	return checked, nil
}
