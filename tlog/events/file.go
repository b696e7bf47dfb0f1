package events

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
)

// A File appends events to a file, one a line.
//
// The file is opened anew after each Sync, so that it may be renamed at any time:
// what comes after that is in a new one. A line that a crash has cut off is
// removed before anything is appended; its event comes again.
type File struct {
	path string
	file *os.File // with what was written since the last Sync; nil without that
	torn bool     // it may end within a line
}

// NewFile returns a sink that appends to the file with a path. It is made where
// there is none, with mode 0640.
func NewFile(path string) *File { return &File{path: path} }

// Deliver appends the events. Where only some of them were written all come again.
func (f *File) Deliver(_ context.Context, events []Event) (int, error) {
	if f.file == nil {
		file, err := openLines(f.path)
		if err != nil {
			return 0, err
		}
		f.file, f.torn = file, true
	}
	if f.torn {
		if err := cutLine(f.file); err != nil {
			return 0, err
		}
	}
	var lines []byte
	for _, e := range events {
		lines = append(append(lines, e...), '\n')
	}
	_, err := f.file.Write(lines)
	if f.torn = err != nil; f.torn {
		return 0, err
	}
	return len(events), nil
}

// Sync makes durable what was appended, and the name of the file.
func (f *File) Sync() error {
	if f.file == nil {
		return nil
	}
	err := errors.Join(f.file.Sync(), f.file.Close(), syncDir(filepath.Dir(f.path)))
	f.file = nil
	return err
}

// openLines opens a file to append lines to it.
func openLines(path string) (*os.File, error) {
	// To open anything else may take for ever, or do something.
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	return os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o640)
}

// cutLine removes what is behind the last line break of a file.
func cutLine(file *os.File) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	end, keep := info.Size(), int64(0)
	block := make([]byte, 64<<10)
	for at := end; at > 0; {
		n := min(at, int64(len(block)))
		at -= n
		if _, err := file.ReadAt(block[:n], at); err != nil {
			return err
		}
		if i := bytes.LastIndexByte(block[:n], '\n'); i >= 0 {
			keep = at + int64(i) + 1
			break
		}
	}
	if keep == end {
		return nil
	}
	return file.Truncate(keep)
}

// A FileCursor is a cursor in a file of a data directory that one process uses.
type FileCursor struct{ path string }

// NewFileCursor returns the cursor in the file with a path.
func NewFileCursor(path string) *FileCursor { return &FileCursor{path} }

func (c *FileCursor) String() string { return "the file " + c.path }

// Exclusive calls f: nobody else uses the data directory.
func (c *FileCursor) Exclusive(ctx context.Context, f func(ctx context.Context) error) error {
	return f(ctx)
}

// Load reads the file.
func (c *FileCursor) Load(context.Context) (next uint64, ok bool, err error) {
	text, err := os.ReadFile(c.path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, false, nil
	}
	if err == nil {
		next, err = parseCursor(text)
	}
	if err != nil {
		return 0, false, fmt.Errorf("%s: %w", c.path, err)
	}
	return next, true, nil
}

// parseCursor reads the index in decimal, and a line break.
func parseCursor(text []byte) (uint64, error) {
	digits, ok := bytes.CutSuffix(text, []byte("\n"))
	next, err := strconv.ParseUint(string(digits), 10, 63)
	if !ok || err != nil || strconv.FormatUint(next, 10) != string(digits) {
		return 0, errors.New("it does not hold the index of an entry and a line break")
	}
	return next, nil
}

// Create makes the file.
func (c *FileCursor) Create(_ context.Context, next uint64) error { return c.write(next) }

// Move replaces the file.
func (c *FileCursor) Move(ctx context.Context, from, to uint64) error {
	if at, ok, err := c.Load(ctx); err != nil {
		return err
	} else if !ok || at != from {
		return fmt.Errorf("%s does not hold %d any more; who else writes it?", c.path, from)
	}
	return c.write(to)
}

// write puts an index into the file, whole and durable or not at all.
func (c *FileCursor) write(next uint64) error {
	name := c.path + ".new"
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(file, "%d\n", next)
	if err == nil {
		err = file.Sync()
	}
	if cerr := file.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(name, c.path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(c.path))
	}
	return err
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}
