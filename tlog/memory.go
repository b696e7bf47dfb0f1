package tlog

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"github.com/sigstack/sigstack/tlog/checkpoint"
)

// slotSize is the size of one slot of a memory file: one page, so that
// writing a slot cannot touch the other.
const slotSize = 4096

// A memory is the second memory: a file beside the store that holds the
// largest checkpoint that was ever signed. It is what notices a store that
// lost entries (a restored backup, a failover to a replica that is behind).
//
// The file has two slots of one page, written in turn: a write that is torn
// by a crash spoils only the slot that it was writing, whose checkpoint was
// not published yet. The file is locked while the log is open, so that two
// processes cannot sign one log from one data directory.
//
// The memory belongs to the goroutine of the Log that commits.
type memory struct {
	file *os.File
	next int64 // the slot to write next
}

// openMemory opens the file, or makes it, and returns the largest checkpoint
// in it; ok is false where there is none yet.
func openMemory(path string, v *checkpoint.Verifier) (m *memory, last checkpoint.Checkpoint, ok bool, err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, last, false, err
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, last, false, fmt.Errorf("%s is locked: another process has this log open", path)
	}
	b, err := io.ReadAll(io.LimitReader(f, 2*slotSize+1))
	if err != nil {
		return nil, last, false, err
	}
	m = &memory{file: f}
	if len(b) == 0 {
		// Give the file its size now: a later write then changes no metadata.
		if _, err := f.Write(make([]byte, 2*slotSize)); err != nil {
			return nil, last, false, err
		}
	}
	// A crash may have come between making the file and syncing its name.
	if err := errors.Join(f.Sync(), syncDir(filepath.Dir(path))); err != nil {
		return nil, last, false, err
	}
	for slot := int64(0); slot < 2 && len(b) >= int(slot+1)*slotSize; slot++ {
		note, _, _ := bytes.Cut(b[slot*slotSize:(slot+1)*slotSize], []byte{0})
		cp, err := v.Open(note)
		if err == nil && (!ok || cp.Size > last.Size) {
			last, ok, m.next = cp, true, 1-slot
		}
	}
	return m, last, ok, nil
}

// write remembers a signed note. It is durable on return.
func (m *memory) write(note []byte) error {
	slot := make([]byte, slotSize)
	if copy(slot, note) == slotSize {
		return fmt.Errorf("checkpoint of %d bytes does not fit the second memory", len(note))
	}
	if _, err := m.file.WriteAt(slot, m.next*slotSize); err != nil {
		return err
	}
	if err := syscall.Fdatasync(int(m.file.Fd())); err != nil {
		return fmt.Errorf("syncing %s: %w", m.file.Name(), err)
	}
	m.next = 1 - m.next
	return nil
}

func (m *memory) close() error { return m.file.Close() }

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
