// Package trace checks the server at the level of system calls, with strace.
//
// The lint holds a trace of the real binary against the order that the comments
// at tlog.Log.commit and sqlite.Store state: what has to be on the disk was
// synced before anybody is told of it. Killing a process does not test that: the
// kernel keeps what was written, and a program without a single fsync survives
// it.
//
// The tests beside it make calls fail, hang or kill the process, chosen by the
// file that they are for. Counting calls instead would miss most of them: strace
// counts for each thread, and a Go program has many.
package trace

import (
	"bufio"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// An Event is one system call that has returned. Begun and Ended are line
// numbers of the trace: of two calls of different threads, one is before the
// other only if it ended before the other began.
type Event struct {
	Call     string
	Path     string // of the descriptor, or the name that was given
	From     string // of a rename or link: the old name
	Data     string // the beginning of what was written, escaped as strace does
	Creates  bool   // an open with O_CREAT, or mkdir
	Failed   bool   // it returned an error; only Injected looks at these
	Injected bool   // strace made it return that
	Begun    int
	Ended    int
}

// Calls is what strace has to trace for the lint: all that changes what is on
// the disk, and what answers clients. A question mark is before calls that some
// architectures lack.
const Calls = "?open,openat,?creat,?mkdir,mkdirat,write,pwrite64,writev,pwritev,sendto,fsync,fdatasync,?sync_file_range," +
	"ftruncate,fallocate,?rename,renameat,renameat2,?link,linkat,?unlink,unlinkat"

var (
	line    = regexp.MustCompile(`^(\d+) +(.*)$`)
	resumed = regexp.MustCompile(`^<\.\.\. (\w+) resumed>(.*)$`)
	call    = regexp.MustCompile(`^(\w+)\((.*)\) += (-?\d+|\?)(.*)$`)
	onFD    = regexp.MustCompile(`^\d+<([^>]*)>(?:, "((?:[^"\\]|\\.)*)")?`)
	names   = regexp.MustCompile(`"([^"]*)"`)
)

// Parse reads a trace that strace -f -y wrote. Calls that had not returned at
// its end are left out.
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
		if m == nil || m[3] == "?" {
			continue // a signal, an exit, or a call that did not return
		}
		e := Event{
			Call: m[1], Begun: begun, Ended: n,
			Failed: strings.HasPrefix(m[3], "-"), Injected: strings.Contains(m[4], "(INJECTED)"),
		}
		if fd := onFD.FindStringSubmatch(m[2]); fd != nil {
			e.Path, e.Data = fd[1], fd[2]
		} else if found := names.FindAllStringSubmatch(m[2], -1); len(found) > 0 {
			e.Path = found[len(found)-1][1]
			if strings.HasPrefix(e.Call, "rename") || strings.HasPrefix(e.Call, "link") {
				if len(found) != 2 {
					return nil, fmt.Errorf("line %d: %q does not name two files", n, text)
				}
				e.From = found[0][1]
			}
		}
		e.Creates = strings.HasPrefix(e.Call, "mkdir") || e.Call == "creat" || strings.HasPrefix(e.Call, "open") && strings.Contains(m[2], "O_CREAT")
		events = append(events, e)
	}
	return events, s.Err()
}

func (e Event) writes() bool {
	return !e.Failed && (e.Call == "write" || e.Call == "writev" || strings.HasPrefix(e.Call, "pwrite"))
}

func (e Event) syncs() bool { return !e.Failed && (e.Call == "fsync" || e.Call == "fdatasync") }

func (e Event) renames() bool { return !e.Failed && e.From != "" }

// answer returns where the first event is that sends something that starts with
// text, from the given event on, or -1.
func answer(events []Event, from int, text string) int {
	for i := from; i < len(events); i++ {
		if e := events[i]; !e.Failed && strings.HasPrefix(e.Path, "socket:") && strings.HasPrefix(e.Data, text) {
			return i
		}
	}
	return -1
}

// Commit checks the events between a request and its answer: for each of the
// files, in this order, it was written, and synced after its last write, before
// the next file was written; and all that before the answer began, whose text
// starts with text. A file may come twice: what was written to it before the one
// behind its first place is of that place.
func Commit(events []Event, text string, files ...string) error {
	told := answer(events, 0, text)
	if told < 0 {
		return fmt.Errorf("the answer %q is not in the trace", text)
	}
	before := 0              // the line at which the step before has ended
	from := map[string]int{} // the line from which on writes to a file are of its next place
	for i, file := range files {
		first, last, synced := 0, 0, 0
		end := events[told].Begun
		if slices.Contains(files[i+1:], file) {
			for _, e := range events {
				if e.writes() && strings.HasSuffix(e.Path, files[i+1]) {
					end = e.Begun
					break
				}
			}
		}
		begin := from[file]
		from[file] = end
		for _, e := range events {
			if e.writes() && strings.HasSuffix(e.Path, file) && e.Begun >= begin && e.Begun < end {
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

var treeSize = regexp.MustCompile(`\\"treeSize\\":(\d+)`)

// Batches checks all answers of 201 in a trace, of requests that were under way
// together: the checkpoint that an answer shows was in the second memory, and
// synced there, before the answer began; and before that was written, all that
// was written to the log since the checkpoint before was synced. It returns how
// many answers there were, and how many checkpoints they show.
func Batches(events []Event, log, memory string) (answers, checkpoints int, err error) {
	type remembered struct {
		size          uint64
		begun, synced int // lines; synced is 0 where it never was
	}
	var memories []remembered
	dirty, clean, before := 0, 0, 0 // ends of the last write to the log, of the last sync that covers it, of the memory before
	for i, e := range events {
		switch {
		case e.writes() && strings.HasSuffix(e.Path, log):
			dirty = max(dirty, e.Ended)
		case e.syncs() && strings.HasSuffix(e.Path, log) && e.Begun > dirty:
			clean = e.Ended
		case e.writes() && strings.HasSuffix(e.Path, memory):
			// A note is the origin, the size, the root (C2SP tlog-checkpoint).
			note := strings.SplitN(e.Data, `\n`, 3)
			if len(note) < 3 {
				return answers, checkpoints, fmt.Errorf("line %d: %.60q is no checkpoint", e.Begun, e.Data)
			}
			size, err := strconv.ParseUint(note[1], 10, 64)
			if err != nil {
				return answers, checkpoints, fmt.Errorf("line %d: %w", e.Begun, err)
			}
			if dirty <= before {
				return answers, checkpoints, fmt.Errorf("the checkpoint of size %d was written at line %d without anything new in %s", size, e.Begun, log)
			}
			if clean < dirty || clean > e.Begun {
				return answers, checkpoints, fmt.Errorf("the checkpoint of size %d was written at line %d, before %s was synced", size, e.Begun, log)
			}
			m := remembered{size: size, begun: e.Begun}
			for _, next := range events[i:] {
				if next.syncs() && strings.HasSuffix(next.Path, memory) && next.Begun > e.Ended {
					m.synced = next.Ended
					break
				}
			}
			memories, before = append(memories, m), e.Ended
		}
	}
	shown := map[uint64]bool{}
	for i := answer(events, 0, "HTTP/1.1 201"); i >= 0; i = answer(events, i+1, "HTTP/1.1 201") {
		answers++
		m := treeSize.FindStringSubmatch(events[i].Data)
		if m == nil {
			return answers, checkpoints, fmt.Errorf("line %d: the answer names no tree", events[i].Begun)
		}
		size, err := strconv.ParseUint(m[1], 10, 64)
		if err != nil {
			return answers, checkpoints, err
		}
		durable := false
		for _, m := range memories {
			durable = durable || m.size == size && m.synced > 0 && m.synced < events[i].Begun
		}
		if !durable {
			return answers, checkpoints, fmt.Errorf("an answer at line %d shows a checkpoint of size %d that was not durable then", events[i].Begun, size)
		}
		shown[size] = true
	}
	return answers, len(shown), nil
}

// Names checks every rename and link to a name below dir: what is renamed was
// synced after its last write, and the directory that holds the new name was
// synced before the next rename, and before the end.
func Names(events []Event, dir string) (checked int, err error) {
	for i, e := range events {
		if !e.renames() || !strings.HasPrefix(e.Path, dir) {
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
			if next.renames() && strings.HasPrefix(next.Path, dir) {
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

// Created checks the files and directories that were made at or below dir and
// still have the name that they were made with: the directory that holds each
// was synced, and so was the file after its last write. What is volatile, by its
// suffix, need not be.
func Created(events []Event, dir string, volatile ...string) (checked int, err error) {
	var made []string
	at := map[string]int{} // name -> line at which it was made
	for _, e := range events {
		switch {
		case e.Failed:
		case e.Creates && (e.Path == dir || strings.HasPrefix(e.Path, dir+"/")):
			if at[e.Path] == 0 { // opening it again makes nothing
				made = append(made, e.Path)
				at[e.Path] = e.Ended
			}
		case strings.HasPrefix(e.Call, "unlink"):
			delete(at, e.Path)
		case strings.HasPrefix(e.Call, "rename"):
			delete(at, e.From)
		}
	}
name:
	for _, name := range made {
		made := at[name]
		if made == 0 {
			continue // it is gone
		}
		for _, suffix := range volatile {
			if strings.HasSuffix(name, suffix) {
				continue name
			}
		}
		checked++
		written, synced, named := 0, 0, false
		for _, e := range events {
			switch {
			case e.Path == name && e.writes():
				written = max(written, e.Ended)
			case e.Path == name && e.syncs() && e.Begun > written:
				synced = e.Ended
			case e.Path == filepath.Dir(name) && e.syncs() && e.Begun > made:
				named = true
			}
		}
		if !named {
			return checked, fmt.Errorf("%s was made at line %d, and its directory was not synced after that", name, made)
		}
		if written > synced {
			return checked, fmt.Errorf("%s was last written at line %d and not synced after that", name, written)
		}
	}
	return checked, nil
}
