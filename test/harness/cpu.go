package harness

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// CPU returns the CPU time that the program has used, with all its threads, in
// steps of 10 ms.
func (p *Process) CPU(t testing.TB) time.Duration {
	t.Helper()
	return cpuTime(t, p.cmd.Process.Pid)
}

// CPU returns the CPU time that the server has used since it was started.
func (s *Server) CPU(t testing.TB) time.Duration {
	t.Helper()
	return s.proc.CPU(t)
}

// CPU returns the CPU time that the database server has used since it was
// started.
func (m *MariaDB) CPU(t testing.TB) time.Duration {
	t.Helper()
	return cpuTime(t, m.cmd.Process.Pid)
}

func cpuTime(t testing.TB, pid int) time.Duration {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	// The name of the program may hold spaces. Behind it come the state, which is
	// field 3, and the others; fields 14 and 15 are ticks of user and system time.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	var ticks int
	for _, field := range []string{fields[14-3], fields[15-3]} {
		n, err := strconv.Atoi(field)
		if err != nil {
			t.Fatalf("/proc/%d/stat: %v", pid, err)
		}
		ticks += n
	}
	const tick = time.Second / 100 // USER_HZ, which is the same on every architecture that Debian has
	return time.Duration(ticks) * tick
}
