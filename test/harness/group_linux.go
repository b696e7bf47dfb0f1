package harness

import "syscall"

// ownGroup puts a program into its own process group, so that a signal for it
// does not reach the tests. The kernel kills it if the tests are killed: an
// interrupt at the terminal reaches only their group.
func ownGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
