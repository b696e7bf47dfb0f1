package mysql

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// firstPause and lastPause are how long nothing is tried after a connection
	// that could not be made: the pause doubles each time. A server counts
	// connections that end before they are set up, and blocks a host with too
	// many (max_connect_errors).
	firstPause = 50 * time.Millisecond
	lastPause  = time.Second

	// trialWait is how long anybody waits for the connection that is tried
	// where the server was away. It takes a tenth of that to a server that answers.
	trialWait = 250 * time.Millisecond

	// silence is for how long nothing must have come over any connection when
	// one has waited in vain: then it is the server that is away, and not one
	// statement that takes long.
	silence = 300 * time.Millisecond
)

// errSilent: the server has not answered within the time that it is given.
var errSilent = errors.New("the database does not answer")

// A reach is what all connections to a server know together of the way to it.
// Nobody shall wait for a server that is away longer than it takes to notice
// that once:
//
//   - a connection that was idle while nothing came is not used again;
//   - one connection at a time is tried then, with a pause after one that could
//     not be made, and nobody waits for its end who could be told now.
type reach struct {
	ctx   context.Context // of the connections that are tried
	close context.CancelFunc

	start  time.Time
	heard  atomic.Int64 // when something came from the server last, in nanoseconds after start
	silent atomic.Int64 // since when nothing had come when a connection last waited in vain

	mu       sync.Mutex    // guards what follows
	trial    chan struct{} // closed at the end of the connection that is tried; nil: there is none
	until    time.Time     // nobody waits for it longer: the pool makes one connection after the other
	failures int           // connections in a row that could not be made
	next     time.Time     // nothing is tried before
	err      error         // of the last failure
}

func newReach() *reach {
	r := &reach{start: time.Now()}
	r.ctx, r.close = context.WithCancel(context.Background())
	return r
}

func (r *reach) now() int64 { return int64(time.Since(r.start)) }

// away says whether the last that is known of the server is that it did not
// answer.
func (r *reach) away() bool { return r.silent.Load() > r.heard.Load() }

// inVain takes note of a connection that has waited for nothing.
func (r *reach) inVain() {
	if since := r.now() - int64(silence); since > r.heard.Load() {
		r.silent.Store(since)
	}
}

// dial is what the driver makes connections by.
func (r *reach) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return &line{c, r}, nil
}

// admit returns when a connection may be made: at once, where nothing is known
// against the server, or after one that was tried to find out. Connect makes one.
func (r *reach) admit(ctx context.Context, connect func(context.Context) (driver.Conn, error)) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.trial == nil {
		pause := time.Until(r.next)
		switch {
		case r.failures == 0 && !r.away():
			return nil
		case r.failures > 0 && pause > firstPause:
			return r.refusal()
		}
		r.trial, r.until = make(chan struct{}), time.Now().Add(trialWait)
		go r.try(pause, connect)
	}
	trial, until := r.trial, r.until
	r.mu.Unlock()
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case <-trial:
	case <-timer.C:
	case <-ctx.Done():
	}
	r.mu.Lock()
	if r.trial == trial || r.failures > 0 {
		return r.refusal()
	}
	return nil
}

// try makes a connection that nobody waits for longer than they like, after what
// is left of a pause: connections that were reset are no reason to refuse anybody.
func (r *reach) try(pause time.Duration, connect func(context.Context) (driver.Conn, error)) {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.ctx.Done():
	}
	conn, err := connect(r.ctx)
	if err == nil {
		conn.Close()
	}
	r.tried(r.ctx, err)
	r.mu.Lock()
	defer r.mu.Unlock()
	close(r.trial)
	r.trial = nil
}

func (r *reach) refusal() error {
	if r.err == nil {
		return errSilent
	}
	return fmt.Errorf("%w: %w", errSilent, r.err)
}

// tried takes note of what became of a connection.
func (r *reach) tried(ctx context.Context, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case err == nil:
		r.failures, r.err = 0, nil
	case ctx.Err() == nil && time.Now().After(r.next): // one that was made at the same time counts once; one given up says nothing
		r.next = time.Now().Add(min(firstPause<<min(r.failures, 10), lastPause))
		r.failures++
		r.err = err
	}
}

// A line is one connection, as the driver sees the network.
type line struct {
	net.Conn
	reach *reach
}

func (l *line) Read(b []byte) (int, error) {
	n, err := l.Conn.Read(b)
	if n > 0 {
		l.reach.heard.Store(l.reach.now())
	} else if errors.Is(err, os.ErrDeadlineExceeded) {
		l.reach.inVain()
	}
	return n, err
}

func (l *line) Write(b []byte) (int, error) {
	n, err := l.Conn.Write(b)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		l.reach.inVain()
	}
	return n, err
}

// SyscallConn lets the driver look whether an idle connection was closed.
func (l *line) SyscallConn() (syscall.RawConn, error) {
	c, ok := l.Conn.(syscall.Conn)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	return c.SyscallConn()
}
