package events

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestFile appends events, over renames of the file, restarts and lines that a
// crash has cut off.
func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.jsonl")
	expect := func(path, want string) {
		t.Helper()
		if got, err := os.ReadFile(path); string(got) != want || err != nil {
			t.Fatalf("the file holds %q (%v), want %q", got, err, want)
		}
	}
	f := NewFile(path)
	deliver := func(events ...string) {
		t.Helper()
		var all []Event
		for _, e := range events {
			all = append(all, Event(e))
		}
		if n, err := f.Deliver(t.Context(), all); n != len(all) || err != nil {
			t.Fatalf("%d of %d taken: %v", n, len(all), err)
		}
	}
	sync := func() {
		t.Helper()
		if err := f.Sync(); err != nil {
			t.Fatal(err)
		}
	}
	sync() // nothing
	deliver("{1}", "{2}")
	deliver("{3}")
	sync()
	expect(path, "{1}\n{2}\n{3}\n")
	if info, err := os.Stat(path); err != nil || info.Mode().Perm()&^0o640 != 0 || info.Mode().Perm()&0o600 != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}

	// It is renamed, between two batches and within one.
	old := path + ".1"
	if err := os.Rename(path, old); err != nil {
		t.Fatal(err)
	}
	deliver("{4}")
	expect(path, "{4}\n")
	if err := os.Rename(path, old); err != nil {
		t.Fatal(err)
	}
	deliver("{5}")
	sync()
	expect(old, "{4}\n{5}\n")
	deliver("{6}")
	sync()
	expect(path, "{6}\n")

	// A line that was cut off is removed, however long it is.
	for _, torn := range []string{"{", strings.Repeat("x", 64<<10), strings.Repeat("x", 200_000)} {
		for _, before := range []string{"", "{6}\n", strings.Repeat("y", 64<<10-1) + "\n"} {
			write(t, path, before+torn)
			f = NewFile(path)
			deliver("{7}")
			sync()
			expect(path, before+"{7}\n")
		}
	}

	// A write that fails leaves nothing that the next one does not remove.
	deliver("{8}")
	f.file.Close()
	if n, err := f.Deliver(t.Context(), []Event{Event("{9}")}); n != 0 || err == nil {
		t.Fatalf("%d taken, %v", n, err)
	}
	if err := f.Sync(); err == nil {
		t.Error("a file that cannot be synced is")
	}
	write(t, path, "{8}\n{")
	deliver("{9}")
	sync()
	expect(path, "{8}\n{9}\n")
	deliver("{10}")
	half, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer half.Close()
	if _, err := half.WriteString("{1"); err != nil {
		t.Fatal(err)
	}
	f.torn = true // as after a write that failed half-way
	deliver("{11}")
	sync()
	expect(path, "{8}\n{9}\n{10}\n{11}\n")
}

// TestFileCannotBeOpened has the file be something else, or nowhere.
func TestFileCannotBeOpened(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, pipe, "/dev/null", filepath.Join(dir, "no", "file")} {
		f := NewFile(path)
		if n, err := f.Deliver(t.Context(), []Event{Event("{}")}); n != 0 || err == nil {
			t.Errorf("%s: %d taken, %v", path, n, err)
		}
		if err := f.Sync(); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
}
