package harness

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
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

// freeAddr is FreeAddr without a test. The port is below those that Linux takes for
// the near end of connections, of which a busy test has thousands: one of them could
// have the port when the program starts, or starts again.
func freeAddr() (string, error) {
	const first, end = 10_000, 32_768
	var err error
	for range 100 {
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(first+rand.IntN(end-first)))
		var free net.Listener
		if free, err = net.Listen("tcp", addr); err == nil {
			return addr, free.Close()
		}
	}
	return "", fmt.Errorf("no free port from %d to %d: %w", first, end, err)
}
