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

// An attempt is what is tried over one connection, or over several one after the
// other, and what became of that.
type attempt struct {
	began    time.Time
	waited   atomic.Bool // a connection that was used for it has waited in vain
	conflict atomic.Bool // its last error says that somebody else was in the way
}

type attemptKey struct{}

// newAttempt returns an attempt, and the context that says so to connections.
func newAttempt(ctx context.Context) (context.Context, *attempt) {
	a := &attempt{began: time.Now()}
	return context.WithValue(ctx, attemptKey{}, a), a
}

// attemptOf is the attempt that a context belongs to, or nil.
func attemptOf(ctx context.Context) *attempt {
	a, _ := ctx.Value(attemptKey{}).(*attempt)
	return a
}

// inVain takes note of a connection that has waited for nothing. It may be called
// with nil.
func (a *attempt) inVain() {
	if a != nil {
		a.waited.Store(true)
	}
}

// note takes note of an error as the driver has it: Trillian makes text of some. It
// may be called with nil.
func (a *attempt) note(err error) {
	if a != nil {
		a.conflict.Store(isConflict(err))
	}
}

// vain says whether an attempt ended because the server did not answer it. What
// became of it is not asked then: by the time of a second silence nobody would
// wait any more. Whoever submits the same again finds out.
//
// An attempt whose connection was cut is another thing, however long it took, and
// whoever else waited in vain meanwhile: the server may be there at once.
func (a *attempt) vain(err error) bool {
	return Unreachable(err) && time.Since(a.began) >= time.Second && a.waited.Load()
}

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
		if e := net.Error(nil); errors.As(err, &e) && e.Timeout() {
			attemptOf(ctx).inVain()
		}
		return nil, err
	}
	l := &line{Conn: c, reach: r}
	l.use.Store(attemptOf(ctx))
	if made, ok := ctx.Value(lineKey{}).(**line); ok {
		*made = l
	}
	return l, nil
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
	use   atomic.Pointer[attempt] // what it is used for now; may hold nil
}

// lineKey is for a **line in the context of a connection that is made: the line
// that it gets.
type lineKey struct{}

func (l *line) inVain() {
	l.reach.inVain()
	l.use.Load().inVain()
}

func (l *line) Read(b []byte) (int, error) {
	n, err := l.Conn.Read(b)
	if n > 0 {
		l.reach.heard.Store(l.reach.now())
	} else if errors.Is(err, os.ErrDeadlineExceeded) {
		l.inVain()
	}
	return n, err
}

func (l *line) Write(b []byte) (int, error) {
	n, err := l.Conn.Write(b)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		l.inVain()
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
