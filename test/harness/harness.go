// Package harness runs the real sigstack binary and the real clients of
// Sigstore for tests.
//
// A test package hands its TestMain to Main, which builds the binary once:
//
//	func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }
//
//	func TestVersion(t *testing.T) {
//		server := harness.Start(t)
//		client := harness.NewClient(t)
//		client.Run("rekor-cli", "--rekor_server", server.URL, "loginfo")
//	}
//
// For tests that break things there is more:
//
//   - StartWith starts a server with failpoints, an injected Clock, or a data
//     directory on a Disk of a fixed size; Proxy is a TCP connection with faults.
//   - MariaDB is a database server, Galera a cluster of three; Replica makes
//     another server over the same database, and a Balancer stands before them.
//   - Load writes entries, certificates, duplicates and nonsense in a closed
//     loop, and survives a server that is gone. Its Ledger keeps every request
//     with its answer, on the disk before the answer counts.
//   - A Recorder keeps every tree head that any endpoint has ever shown.
//   - Evidence.Check compares all of that with the server and its files, and
//     says which promise was broken (I1 to I11, I14, I15); SameAnswers compares
//     replicas.
//   - Programs are the processes of a public implementation, to run beside ours.
//
// What the package guarantees:
//
//   - A Server listens on free loopback ports and keeps its own data directory;
//     Stop, Kill and Restart are what an operator, a crash and a service manager
//     do. After a Restart its URLs are the same.
//   - A Client has its own home directory and an environment that holds nothing
//     of the caller's. Its proxy variables lead to a closed port, so that a
//     request to anything but the loopback address fails.
//   - Every process runs in its own process group, belongs to one test and is
//     gone when that test ends. The end of its output is logged if the test failed.
//   - Nothing waits by sleeping: a step waits for a line of output, for the end
//     of a process or for a readiness probe, each with a limit.
package harness

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// binaryEnv names the file to test. Main sets it; a caller may set it to test a
// binary that exists.
const binaryEnv = "SIGSTACK_BIN"

// scratchEnv names a directory that lives as long as the tests of a package.
const scratchEnv = "SIGSTACK_TEST_SCRATCH"

// Main builds the sigstack binary, unless SIGSTACK_BIN names one, runs the
// tests of m and returns the exit code for os.Exit.
func Main(m *testing.M) int {
	dir, err := os.MkdirTemp("", "sigstack-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "harness:", err)
		return 1
	}
	defer os.RemoveAll(dir)
	os.Setenv(scratchEnv, dir)
	if os.Getenv(binaryEnv) == "" {
		file := filepath.Join(dir, "sigstack")
		if err := build(file); err != nil {
			fmt.Fprintln(os.Stderr, "harness:", err)
			return 1
		}
		os.Setenv(binaryEnv, file)
	}
	return MainMariaDB(m)
}

// build compiles cmd/sigstack into file, with the tag of the Makefile and more.
func build(file string, tags ...string) error {
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	cmd := exec.Command("go", "build", "-tags", strings.Join(append(tags, "batched_queue"), ","), "-o", file, "./cmd/sigstack")
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building cmd/sigstack: %w\n%s", err, out)
	}
	return nil
}

// Scratch returns a directory that lives as long as the tests of the package.
func Scratch(t testing.TB) string {
	t.Helper()
	dir := os.Getenv(scratchEnv)
	if dir == "" {
		t.Fatal("harness: no scratch directory: TestMain must call harness.Main")
	}
	return dir
}

// FaultyBinary returns the path of the binary with failpoints (see package
// tlog/failpoint). The first call in a test process builds it.
func FaultyBinary(t testing.TB) string {
	t.Helper()
	dir := Scratch(t)
	lock, err := os.OpenFile(filepath.Join(dir, "failpoints.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "sigstack-failpoints")
	if isProgram(file) {
		return file
	}
	if err := build(file, "failpoints"); err != nil {
		t.Fatal(err)
	}
	return file
}

// Binary returns the path of the sigstack binary under test.
func Binary(t testing.TB) string {
	t.Helper()
	path := os.Getenv(binaryEnv)
	if path == "" {
		t.Fatal("harness: no binary: TestMain must call harness.Main")
	}
	path, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// Root returns the folder of go.mod.
func Root(t testing.TB) string {
	t.Helper()
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// moduleRoot walks up from the working directory, which go test sets to the
// folder of the package.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", fmt.Errorf("no go.mod above the working directory")
		}
		dir = parent
	}
}
