package harness

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// A Disk is a file system of a fixed size in memory. Only programs that are
// started on it see it under its own path: it is mounted in a mount namespace of
// its own, so that a test leaves no mount behind however it ends.
type Disk struct {
	Path string // where programs that run on the disk see it

	t      testing.TB
	holder *Process // keeps the namespace alive between servers
}

// NewDisk mounts a disk. It needs root, unshare and nsenter.
func NewDisk(t testing.TB, bytes int64) *Disk {
	t.Helper()
	for _, tool := range []string{"unshare", "nsenter"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%v: run make tools", err)
		}
	}
	d := &Disk{t: t, Path: filepath.Join(t.TempDir(), "disk")}
	if err := os.Mkdir(d.Path, 0o700); err != nil {
		t.Fatal(err)
	}
	unshare, _ := exec.LookPath("unshare")
	d.holder = StartProcess(t, "/", cleanEnv("/", os.Getenv("PATH")), unshare, "--mount", "--propagation", "private", "sh", "-c",
		`mount -t tmpfs -o mode=0700,size="$2" tmpfs "$1" && echo mounted && exec sleep infinity`, "sh", d.Path, fmt.Sprint(bytes))
	d.holder.Line(10*time.Second, `line "mounted" (mounting needs root)`, func(line string) bool { return line == "mounted" })
	return d
}

// command returns the program and its arguments that run a command on the disk.
func (d *Disk) command(path string, args []string) (string, []string) {
	nsenter, err := exec.LookPath("nsenter")
	if err != nil {
		d.t.Fatal(err)
	}
	return nsenter, append([]string{"--mount", "--target", fmt.Sprint(d.holder.cmd.Process.Pid), path}, args...)
}

// Outside returns the path by which a file on the disk is seen from outside.
func (d *Disk) Outside(path string) string {
	return filepath.Join("/proc", fmt.Sprint(d.holder.cmd.Process.Pid), "root", path)
}

// Free returns how many bytes are free.
func (d *Disk) Free() int64 {
	d.t.Helper()
	var s syscall.Statfs_t
	if err := syscall.Statfs(d.Outside(d.Path), &s); err != nil {
		d.t.Fatal(err)
	}
	return int64(s.Bavail) * s.Bsize
}

// Fill writes a file that leaves so many bytes free, at most; whatever else
// writes to the disk at the same time takes from them.
func (d *Disk) Fill(leave int64) {
	d.t.Helper()
	f, err := os.OpenFile(d.Outside(filepath.Join(d.Path, "ballast")), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	chunk := make([]byte, 4096)
	for d.Free() > leave {
		if _, err := f.Write(chunk); errors.Is(err, syscall.ENOSPC) {
			return
		} else if err != nil {
			d.t.Fatal(err)
		}
	}
}

// Release removes what Fill wrote.
func (d *Disk) Release() {
	d.t.Helper()
	if err := os.Remove(d.Outside(filepath.Join(d.Path, "ballast"))); err != nil {
		d.t.Fatal(err)
	}
}
