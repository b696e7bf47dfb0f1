package harness

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A Direction is one of the two of a connection through a Proxy.
type Direction int

const (
	ToServer Direction = iota
	ToClient
)

// A Verdict is what happens to bytes on their way through a Proxy.
type Verdict int

const (
	Pass  Verdict = iota // they arrive
	Drop                 // they are lost, and all that follows in this direction of this connection
	Cut                  // they are lost, and both ends are told that the connection ended
	Reset                // they are lost, and both ends get a TCP reset
)

// A Proxy passes TCP connections on to a server, and does to them what the
// network can do. New faults hold for connections that exist as well.
type Proxy struct {
	Addr string // where clients connect

	t        testing.TB
	listener net.Listener
	running  sync.WaitGroup
	ctx      context.Context // ends with the test

	delay   [2]atomic.Int64 // by direction, nanoseconds
	refuse  atomic.Bool
	inspect atomic.Pointer[func(Direction, []byte) Verdict]

	mu     sync.Mutex // guards what follows
	target string
	source net.Addr
	watch  func() func(Direction, []byte) Verdict
	held   chan struct{} // closed when what is held goes on; nil: nothing is
	conns  map[*link]bool
	count  int
	most   int
}

// link is one connection: two ends, and what is cut off of it.
type link struct {
	client, server *net.TCPConn
	black          [2]atomic.Bool
	watch          func(Direction, []byte) Verdict // or nil
	left           bool                            // the client has ended it; guarded by the proxy's mu
}

// NewProxy starts a proxy for the server at target, host and port. It is closed
// when the test ends.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &Proxy{Addr: l.Addr().String(), t: t, target: target, listener: l, ctx: ctx, conns: make(map[*link]bool)}
	p.running.Go(p.accept)
	t.Cleanup(func() {
		cancel()
		p.Hold(false)
		l.Close()
		p.End(Reset)
		p.running.Wait()
	})
	return p
}

// Delay makes each piece of data in a direction arrive so much later.
func (p *Proxy) Delay(d Direction, by time.Duration) { p.delay[d].Store(int64(by)) }

// SetTarget has new connections lead to another server.
func (p *Proxy) SetTarget(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
}

// Refuse makes new connections end at once with a reset, or lets them in again.
func (p *Proxy) Refuse(on bool) { p.refuse.Store(on) }

// Point sends new connections to another server.
func (p *Proxy) Point(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
}

// From gives new connections to the server another source address: to a server,
// 127.0.0.2 is another host.
func (p *Proxy) From(ip string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.source = &net.TCPAddr{IP: net.ParseIP(ip)}
}

// Hold keeps all data on its way, in both directions, and of connections that
// are made meanwhile; or lets it go on, as a network does that was away.
func (p *Proxy) Hold(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held != nil {
		close(p.held)
		p.held = nil
	}
	if on {
		p.held = make(chan struct{})
	}
}

// Watch has f called for each new connection, and what it returns decide about
// each piece of that connection's data, before Inspect. It is called by two
// goroutines, one a direction.
func (p *Proxy) Watch(f func() func(d Direction, data []byte) Verdict) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.watch = f
}

// Inspect has f decide about each piece of data; nil passes everything. F is
// called by several goroutines, and must not keep the data.
func (p *Proxy) Inspect(f func(d Direction, data []byte) Verdict) {
	if f == nil {
		p.inspect.Store(nil)
		return
	}
	p.inspect.Store(&f)
}

// Blackhole makes the connections that exist lose everything in a direction
// from now on, without a word to either end.
func (p *Proxy) Blackhole(d Direction) {
	p.each(func(c *link) { c.black[d].Store(true) })
}

// End ends the connections that exist, by Cut or by Reset.
func (p *Proxy) End(how Verdict) {
	p.each(func(c *link) { c.end(how) })
}

// Connections returns how many connections were made, and how many there are
// that their client has not ended.
func (p *Proxy) Connections() (made, open int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count, p.open()
}

// Most returns how many connections there were at most at a time.
func (p *Proxy) Most() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.most
}

// open counts connections; p.mu is held.
func (p *Proxy) open() int {
	n := 0
	for c := range p.conns {
		if !c.left {
			n++
		}
	}
	return n
}

func (p *Proxy) each(f func(*link)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		f(c)
	}
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		c := &link{client: client.(*net.TCPConn)}
		if p.refuse.Load() {
			c.end(Reset)
			continue
		}
		p.mu.Lock()
		target, source := p.target, p.source
		if p.watch != nil {
			c.watch = p.watch()
		}
		p.mu.Unlock()
		server, err := (&net.Dialer{LocalAddr: source}).Dial("tcp", target)
		if err != nil {
			c.end(Reset)
			continue
		}
		c.server = server.(*net.TCPConn)
		p.mu.Lock()
		p.count++
		p.conns[c] = true
		p.most = max(p.most, p.open())
		p.mu.Unlock()
		if p.ctx.Err() != nil {
			c.end(Reset)
		}
		p.running.Go(func() {
			var both sync.WaitGroup
			both.Go(func() { p.pump(c, ToServer, c.server, c.client) })
			both.Go(func() { p.pump(c, ToClient, c.client, c.server) })
			both.Wait()
			c.end(Cut)
			p.mu.Lock()
			delete(p.conns, c)
			p.mu.Unlock()
		})
	}
}

// pump carries one direction until its end.
func (p *Proxy) pump(c *link, d Direction, to, from *net.TCPConn) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			if wait := time.Duration(p.delay[d].Load()); wait > 0 {
				timer := time.NewTimer(wait)
				select {
				case <-timer.C:
				case <-p.ctx.Done():
					timer.Stop()
				}
			}
			p.mu.Lock()
			held := p.held
			p.mu.Unlock()
			if held != nil {
				<-held
			}
			verdict := Pass
			if c.watch != nil {
				verdict = c.watch(d, buffer[:n])
			}
			if f := p.inspect.Load(); f != nil && verdict == Pass {
				verdict = (*f)(d, buffer[:n])
			}
			switch {
			case verdict == Cut || verdict == Reset:
				c.end(verdict)
				return
			case verdict == Drop:
				c.black[d].Store(true)
			case !c.black[d].Load():
				if _, err := to.Write(buffer[:n]); err != nil {
					c.end(Reset) // as the other end would have seen it
					return
				}
			}
		}
		if err != nil {
			if d == ToServer {
				p.mu.Lock()
				c.left = true
				p.mu.Unlock()
			}
			if !c.black[d].Load() {
				to.CloseWrite()
			}
			return
		}
	}
}

// end closes both ends. A connection that lingers for zero seconds is reset.
func (c *link) end(how Verdict) {
	for _, conn := range []*net.TCPConn{c.client, c.server} {
		if conn == nil {
			continue
		}
		if how == Reset {
			conn.SetLinger(0)
		}
		conn.Close()
	}
}
