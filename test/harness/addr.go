package harness

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync/atomic"
	"testing"
)

// FreeAddr returns a loopback address that nobody listens at, for a program that
// cannot say which it has taken.
func FreeAddr(t testing.TB) string {
	t.Helper()
	addr, err := freeAddr()
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

// The ports that freeAddr gives are below those that Linux takes for the near end of
// connections, of which a busy test has thousands: one of them could have the port
// when the program starts, or starts again.
const (
	firstPort = 10_000
	endPort   = 32_768
)

// ports are all that freeAddr gives, in the order of this process, and nextPort is the
// place of the next. No two programs of a process get the same port before each port
// was given once: the first may not be listening yet when the second asks.
var (
	ports    = rand.Perm(endPort - firstPort)
	nextPort atomic.Uint64
)

// freeAddr is FreeAddr without a test.
func freeAddr() (string, error) {
	var err error
	for range 100 {
		port := firstPort + ports[(nextPort.Add(1)-1)%uint64(len(ports))]
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		var free net.Listener
		if free, err = net.Listen("tcp", addr); err == nil {
			return addr, free.Close()
		}
	}
	return "", fmt.Errorf("no free port from %d to %d: %w", firstPort, endPort-1, err)
}
