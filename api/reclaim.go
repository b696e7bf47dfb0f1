package api

import (
	"errors"
	"net"
	"net/http"
	"slices"
	"sync"
	"syscall"
	"time"
)

// Reclaim returns a listener for s to serve that is not held up by clients who
// do nothing: where the process has no file descriptor left for a connection
// that waits, it closes those on which no request is under way, the ones that
// were idle longest first. HTTP allows that at any time, and clients open another
// one. It takes s.ConnState, and is called before s serves.
func Reclaim(l net.Listener, s *http.Server) net.Listener {
	r := &reclaimer{Listener: l, atLeast: 250 * time.Millisecond, idle: map[net.Conn]time.Time{}}
	s.ConnState = r.state
	return r
}

type reclaimer struct {
	net.Listener
	atLeast time.Duration // before that a connection is not idle, but between two requests, or before its first

	mu   sync.Mutex
	idle map[net.Conn]time.Time // since when: new ones, and those that wait for another request
}

func (r *reclaimer) state(c net.Conn, state http.ConnState) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if state == http.StateNew || state == http.StateIdle {
		r.idle[c] = time.Now()
	} else {
		delete(r.idle, c)
	}
}

// Accept makes room where there is none, and leaves it to the server to ask
// again, which it does a few milliseconds later.
func (r *reclaimer) Accept() (net.Conn, error) {
	c, err := r.Listener.Accept()
	if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) {
		r.closeSome()
	}
	return c, err
}

// closeSome closes a quarter of the idle connections: enough for more than the
// one that waits, and few enough that most clients keep theirs.
func (r *reclaimer) closeSome() {
	r.mu.Lock()
	defer r.mu.Unlock()
	var conns []net.Conn
	for c, since := range r.idle {
		if time.Since(since) >= r.atLeast {
			conns = append(conns, c)
		}
	}
	slices.SortFunc(conns, func(a, b net.Conn) int { return r.idle[a].Compare(r.idle[b]) })
	for _, c := range conns[:(len(conns)+3)/4] {
		c.Close()
		delete(r.idle, c)
	}
}
