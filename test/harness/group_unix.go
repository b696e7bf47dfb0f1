//go:build unix && !linux

package harness

import "syscall"

// ownGroup puts a program into its own process group, so that a signal for it
// does not reach the tests.
func ownGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
