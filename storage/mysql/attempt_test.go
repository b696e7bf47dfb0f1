package mysql

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// TestVain has one of two connections wait for nothing. The attempt that it was used
// for was in vain; what was tried over the other may have been cut, and is asked about.
func TestVain(t *testing.T) {
	r := newReach()
	long := func() (*line, *attempt) {
		near, far := net.Pipe()
		t.Cleanup(func() { near.Close(); far.Close() })
		ctx, a := newAttempt(t.Context())
		a.began = time.Now().Add(-time.Minute)
		l := &line{Conn: near, reach: r}
		l.use.Store(attemptOf(ctx))
		return l, a
	}
	waits, waited := long()
	_, cut := long()
	writes, wrote := long()
	idle, before := long()
	idle.use.Store(nil) // it is in the pool again
	for _, l := range []*line{waits, writes, idle} {
		l.SetDeadline(time.Now())
	}
	for _, l := range []*line{waits, idle} {
		if _, err := l.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
	}
	if _, err := writes.Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	young := &attempt{began: time.Now()}
	young.inVain()
	for name, c := range map[string]struct {
		tried *attempt
		err   error
		want  bool
	}{
		"it waited for an answer":   {waited, io.EOF, true},
		"it waited to send":         {wrote, io.EOF, true},
		"an error of the server":    {waited, errors.New("syntax"), false},
		"another one waited":        {cut, io.EOF, false},
		"it waited after its use":   {before, io.EOF, false},
		"it waited, but not long":   {young, io.EOF, false},
		"nobody knows of a silence": {&attempt{began: time.Now().Add(-time.Minute)}, errSilent, false},
	} {
		if got := c.tried.vain(c.err); got != c.want {
			t.Errorf("%s: in vain %t, want %t", name, got, c.want)
		}
	}
}
