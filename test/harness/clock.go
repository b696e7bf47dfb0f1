package harness

import (
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// A Clock is the clock of servers with failpoints. It shows the right time until
// it is told otherwise.
type Clock struct {
	t    testing.TB
	file string

	mu     sync.Mutex // guards what follows
	offset time.Duration
	frozen time.Time // zero while it runs
	turns  int       // how often it was set
}

// NewClock returns a clock that is right.
func NewClock(t testing.TB) *Clock {
	t.Helper()
	return &Clock{t: t, file: filepath.Join(t.TempDir(), "clock")}
}

// Set makes the clock run with an offset to the right time.
func (c *Clock) Set(offset time.Duration) {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.write(offset.String())
	c.offset, c.frozen = offset, time.Time{}
	c.turns++
}

// Freeze stops the clock at the time that it shows.
func (c *Clock) Freeze() {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	at := time.Now().Add(c.offset)
	if !c.frozen.IsZero() {
		at = c.frozen
	}
	c.write("frozen " + at.UTC().Format(time.RFC3339Nano))
	c.frozen = at
	c.turns++
}

// write replaces the file in one step: a server may be reading it.
func (c *Clock) write(text string) {
	c.t.Helper()
	if err := os.WriteFile(c.file+".new", []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
	if err := os.Rename(c.file+".new", c.file); err != nil {
		c.t.Fatal(err)
	}
}

// Now returns what the servers' clock shows. On a nil Clock that is the time.
func (c *Clock) Now() time.Time {
	now, _ := c.now()
	return now
}

// now returns the time, and how often the clock was set before.
func (c *Clock) now() (time.Time, int) {
	if c == nil {
		return time.Now(), 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.frozen.IsZero() {
		return c.frozen, c.turns
	}
	return time.Now().Add(c.offset), c.turns
}
