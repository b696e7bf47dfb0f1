package api

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// A full listener has room for the given number of connections. The next one has
// to wait until it is asked for again.
type full struct {
	net.Listener
	room    int
	waiting net.Conn
}

func (l *full) Accept() (net.Conn, error) {
	if c := l.waiting; c != nil {
		l.waiting = nil
		return c, nil
	}
	c, err := l.Listener.Accept()
	if l.room--; err == nil && l.room == -1 {
		l.waiting = c
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: syscall.EMFILE}
	}
	return c, err
}

func (r *reclaimer) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.idle)
}

// TestReclaim opens connections that do nothing, one that was used, and one with
// a request under way, until there is no room. The idle ones are closed, oldest
// first, and the request is not disturbed.
func TestReclaim(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	begun, end := make(chan struct{}), make(chan struct{})
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(begun)
			<-end
		}
		io.WriteString(w, "ok")
	})}
	l := &full{Listener: inner, room: 6}
	done := make(chan error)
	r := Reclaim(l, s).(*reclaimer)
	r.atLeast = 0
	go func() { done <- s.Serve(r) }()
	defer func() { s.Close(); <-done }()
	dial := func() net.Conn {
		t.Helper()
		c, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		c.SetDeadline(time.Now().Add(10 * time.Second))
		return c
	}
	request := func(c net.Conn, path string) { fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path) }
	answered := func(c net.Conn) error {
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err == nil {
			_, err = io.ReadAll(res.Body)
		}
		return err
	}
	slow := dial()
	request(slow, "/slow")
	<-begun
	var used []net.Conn
	for range 5 {
		c := dial()
		request(c, "/")
		if err := answered(c); err != nil {
			t.Fatal(err)
		}
		used = append(used, c)
		// The server notes that a connection is idle after its client has the answer.
		deadline := time.Now().Add(10 * time.Second)
		for r.count() < len(used) {
			if time.Now().After(deadline) {
				t.Fatalf("%d idle connections, want %d", r.count(), len(used))
			}
			runtime.Gosched()
		}
	}
	late := dial() // there is no room for it at first
	request(late, "/")
	if err := answered(late); err != nil {
		t.Fatalf("a connection that had to wait: %v", err)
	}
	for i, c := range used {
		request(c, "/")
		if err := answered(c); (err != nil) != (i < 2) {
			t.Errorf("connection %d of %d, oldest first: %v", i, len(used), err)
		}
	}
	close(end)
	if err := answered(slow); err != nil {
		t.Errorf("a request that was under way: %v", err)
	}
}
