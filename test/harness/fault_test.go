package harness

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestClock moves the clock of a server. The CT log signs its tree head when it
// is asked, so its time is the server's.
func TestClock(t *testing.T) {
	t.Parallel()
	clock := NewClock(t)
	s := StartWith(t, Options{Clock: clock})
	load := NewLoad(t, s, NewLedger(t, filepath.Join(t.TempDir(), "ledger")), nil, 1)
	at := func() time.Time {
		t.Helper()
		r := load.One(KindEntry)
		if r.Answer == nil {
			t.Fatalf("status %d: %s", r.Status, r.Error)
		}
		return time.Unix(r.Answer.IntegratedTime, 0)
	}
	if off := time.Since(at()); off < 0 || off > 3*time.Second {
		t.Errorf("off by %s", off)
	}
	clock.Set(2 * time.Hour)
	if off := time.Until(at()) - 2*time.Hour; off < -3*time.Second || off > 0 {
		t.Errorf("ahead by 2 hours and %s", off)
	}
	if off := time.Until(clock.Now()) - 2*time.Hour; off < -time.Second || off > time.Second {
		t.Errorf("the test's own view is off by %s", off)
	}
	clock.Freeze()
	if a, b := clock.Now(), clock.Now(); !a.Equal(b) || at() != a.Truncate(time.Second) {
		t.Errorf("a frozen clock shows %s and %s", a, b)
	}
}

// TestFailpoints starts a server that dies at its second entry.
func TestFailpoints(t *testing.T) {
	t.Parallel()
	s := StartWith(t, Options{Failpoints: "tlog.append:rekorv1=kill@2,tlog.append:ct=error@2+"})
	load := NewLoad(t, s, NewLedger(t, filepath.Join(t.TempDir(), "ledger")), nil, 1)
	load.Certificates(1)
	for range 2 {
		if r := load.One(KindCertificate); r.Status != 503 {
			t.Errorf("status %d, want 503", r.Status)
		}
	}
	load.Entries(1)
	if r := load.One(KindEntry); r.Status != 0 {
		t.Errorf("status %d of a request that kills", r.Status)
	}
	if code := s.Wait(10 * time.Second); code != -1 {
		t.Errorf("exit code %d, want a signal", code)
	}
	s.SetFailpoints("")
	s.Restart()
	load.Entries(3)
}

// TestDisk fills a small disk under a server.
func TestDisk(t *testing.T) {
	t.Parallel()
	d := NewDisk(t, 16<<20)
	s := StartWith(t, Options{Disk: d, Args: []string{"--config", Config(t, "min-free-bytes: 1000000\n")}})
	if _, err := os.Stat(filepath.Join(s.Dir, "audit.db")); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(d.Path, "data")); err == nil {
		t.Error("the disk is mounted outside of its namespace")
	}
	d.Fill(0)
	if free := d.Free(); free > 0 {
		t.Errorf("%d bytes are free", free)
	}
	if err := os.WriteFile(d.Outside(filepath.Join(d.Path, "more")), make([]byte, 100000), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("writing to a full disk: %v", err)
	}
	os.Remove(d.Outside(filepath.Join(d.Path, "more")))
	d.Release()
	if free := d.Free(); free < 8<<20 {
		t.Errorf("%d bytes are free", free)
	}
	s.Kill()
	s.Restart() // the disk outlives its server
	if r := s.Fsck(); r.Code != 0 {
		t.Errorf("fsck: %s", r.Output())
	}
}

// echo answers each line with itself.
func echo(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				io.Copy(c, c)
			}()
		}
	}()
	return l.Addr().String()
}

func TestProxy(t *testing.T) {
	t.Parallel()
	target := echo(t)
	dial := func(p *Proxy) net.Conn {
		t.Helper()
		c, err := net.Dial("tcp", p.Addr)
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(10 * time.Second))
		t.Cleanup(func() { c.Close() })
		return c
	}
	say := func(c net.Conn, text string) (string, error) {
		if _, err := c.Write([]byte(text)); err != nil {
			return "", err
		}
		b := make([]byte, 100)
		n, err := c.Read(b)
		return string(b[:n]), err
	}
	must := func(c net.Conn) {
		t.Helper()
		if got, err := say(c, "hello"); got != "hello" || err != nil {
			t.Fatalf("%q, %v", got, err)
		}
	}

	t.Run("passes and delays", func(t *testing.T) {
		p := NewProxy(t, target)
		c := dial(p)
		must(c)
		p.Delay(ToClient, 50*time.Millisecond)
		p.Delay(ToServer, 50*time.Millisecond)
		start := time.Now()
		must(c)
		if took := time.Since(start); took < 100*time.Millisecond {
			t.Errorf("%s", took)
		}
		if made, open := p.Connections(); made != 1 || open != 1 {
			t.Errorf("%d made, %d open", made, open)
		}
	})
	t.Run("cuts", func(t *testing.T) {
		p := NewProxy(t, target)
		c := dial(p)
		must(c)
		p.End(Cut)
		if _, err := c.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("%v, want EOF", err)
		}
	})
	t.Run("resets", func(t *testing.T) {
		p := NewProxy(t, target)
		c := dial(p)
		must(c)
		p.End(Reset)
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%v, want a reset", err)
		}
	})
	t.Run("refuses", func(t *testing.T) {
		p := NewProxy(t, target)
		p.Refuse(true)
		// The reset may come before the client knows that it is connected.
		if c, err := net.Dial("tcp", p.Addr); err == nil {
			c.SetDeadline(time.Now().Add(10 * time.Second))
			if got, err := say(c, "hello"); err == nil {
				t.Errorf("%q", got)
			}
			c.Close()
		}
		p.Refuse(false)
		must(dial(p))
	})
	t.Run("loses one direction", func(t *testing.T) {
		p := NewProxy(t, target)
		c := dial(p)
		must(c)
		p.Blackhole(ToClient)
		c.SetDeadline(time.Now().Add(100 * time.Millisecond))
		if got, err := say(c, "hello"); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%q, %v, want silence", got, err)
		}
		must(dial(p))
	})
	t.Run("cuts off an answer", func(t *testing.T) {
		// The server has what it was told, and the client does not know that:
		// what the next issue does between COMMIT and its OK.
		p := NewProxy(t, target)
		c := dial(p)
		must(c)
		arrived := make(chan string, 1)
		p.Inspect(func(d Direction, data []byte) Verdict {
			switch {
			case d == ToServer:
				arrived <- string(data)
			case strings.Contains(string(data), "commit"):
				return Reset
			}
			return Pass
		})
		if got, err := say(c, "commit"); err == nil {
			t.Errorf("%q", got)
		}
		if got := <-arrived; got != "commit" {
			t.Errorf("the server got %q", got)
		}
		p.Inspect(nil)
		must(dial(p))
	})
	t.Run("drops from a point on", func(t *testing.T) {
		p := NewProxy(t, target)
		c := dial(p)
		p.Inspect(func(d Direction, data []byte) Verdict {
			if string(data) == "stop" {
				return Drop
			}
			return Pass
		})
		must(c)
		c.SetDeadline(time.Now().Add(100 * time.Millisecond))
		if got, err := say(c, "stop"); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%q, %v, want silence", got, err)
		}
		c.SetDeadline(time.Now().Add(100 * time.Millisecond))
		if got, err := say(c, "hello"); err == nil {
			t.Errorf("%q after the point", got)
		}
	})
}

// TestProxyHolds keeps data on its way, and sends connections elsewhere.
func TestProxyHolds(t *testing.T) {
	t.Parallel()
	p := NewProxy(t, echo(t))
	p.From("127.0.0.2")
	dial := func() net.Conn {
		t.Helper()
		c, err := net.Dial("tcp", p.Addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	read := func(c net.Conn, limit time.Duration) (string, error) {
		c.SetReadDeadline(time.Now().Add(limit))
		b := make([]byte, 100)
		n, err := c.Read(b)
		return string(b[:n]), err
	}
	c := dial()
	p.Hold(true)
	if _, err := c.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if got, err := read(c, 100*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%q, %v, want silence", got, err)
	}
	p.Hold(false)
	if got, err := read(c, 10*time.Second); got != "hello" || err != nil {
		t.Errorf("%q, %v, want what was held", got, err)
	}

	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	p.Point(other.Addr().String())
	dial()
	at, err := other.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer at.Close()
	if host, _, _ := net.SplitHostPort(at.RemoteAddr().String()); host != "127.0.0.2" {
		t.Errorf("connected from %s", host)
	}
	awaitOpen := func(want int) {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); ; runtime.Gosched() {
			if _, open := p.Connections(); open == want {
				return
			} else if time.Now().After(deadline) {
				t.Fatalf("%d connections are open, want %d", open, want)
			}
		}
	}
	awaitOpen(2) // the server sees a connection before the proxy counts it
	c.Close()
	awaitOpen(1)
	if most := p.Most(); most != 2 {
		t.Errorf("%d connections at most, want 2", most)
	}
}

// TestCommandReader finds COMMIT in what a client of MySQL sends, however the
// network cuts it.
func TestCommandReader(t *testing.T) {
	packet := func(number byte, payload string) string {
		return string([]byte{byte(len(payload)), byte(len(payload) >> 8), byte(len(payload) >> 16), number}) + payload
	}
	for _, test := range []struct {
		text string
		want bool
	}{
		{packet(0, "\x03COMMIT"), true},
		{packet(1, "a handshake") + packet(0, "\x03SELECT 1") + packet(0, "\x03COMMIT"), true},
		{packet(0, "\x03COMMIT AND CHAIN"), false},
		{packet(0, "\x03INSERT INTO t VALUES ('"+packet(0, "\x03COMMIT")+"')"), false},
		{packet(1, "\x03COMMIT"), false},
		{packet(0, "\x02COMMIT"), false},
		{packet(0, "\x0e"), false},
		{packet(0, "") + packet(0, "\x03COMMIT"), true},
	} {
		for size := 1; size <= len(test.text); size++ {
			var r commandReader
			found := false
			for part := range slices.Chunk([]byte(test.text), size) {
				found = r.commits(part) || found
			}
			if found != test.want {
				t.Errorf("%q in pieces of %d: %v, want %v", test.text, size, found, test.want)
			}
		}
	}
}
