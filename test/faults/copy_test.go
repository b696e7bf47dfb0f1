package faults

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sigstack/sigstack/test/harness"
)

// TestCopy moves a server to a database, in its own data directory, and back into
// an empty one, and checks every invariant after each move, over all that was
// ever answered and shown. The first copy is killed in each of its stages.
func TestCopy(t *testing.T) {
	t.Parallel()
	rows := 1010 // more than one batch
	root := memoryDir(t)
	b := newBench(t, sqlite, root, 1, harness.Options{Args: []string{"--config", harness.Config(t, "ca: {key-type: p256}\n")}})
	b.Restart()
	b.load.Entries(rows)
	b.load.Certificates(20)
	b.recorder.Poll(t.Context())
	b.Kill() // its write-ahead log is left

	dsn(t, root)
	dsnFile := filepath.Join(root, "dsn")
	config := func(dir, storage string) string {
		return harness.Config(t, fmt.Sprintf("url: %s\ndata-dir: %s\n%s", b.URL, filepath.Join(dir, "data"), storage))
	}
	const files = "storage: sqlite\n"
	database := "storage: mysql\nmysql: {dsn-file: " + dsnFile + "}\n"
	address := []string{"--config", harness.Config(t, "ca: {key-type: p256}\n"), "--listen", strings.TrimPrefix(b.URL, "http://")}
	from, to := config(root, files), config(root, database)
	kill := func(from, to, spec string) {
		t.Helper()
		c := harness.NewClient(t)
		c.Setenv("SIGSTACK_FAILPOINTS", spec)
		if r := c.Try(harness.FaultyBinary(t), "copy", "--from", from, "--to", to); r.Code != -1 {
			t.Fatalf("%s: exit code %d, want that it is killed\n%s", spec, r.Code, r.Output())
		}
	}
	copied := func(from, to string) {
		t.Helper()
		t.Log(harness.NewClient(t).Run("sigstack", "copy", "--from", from, "--to", to).Stdout)
	}
	for _, spec := range []string{
		"audit.commit=kill", "audit.committed=kill",
		// The first batch, queued and not in the tree; the next copy goes on with that.
		"sqlite.begin:rekorv1=kill", "sqlite.committed:rekorv1=kill", "sqlite.begin:rekorv1=kill", "sqlite.committed:rekorv1=kill",
		"sqlite.commit:ct=kill", "sqlite.committed:ct=kill",
	} {
		kill(from, to, spec)
	}
	copied(from, to)
	second := newBench(t, mysql, root, 2, harness.Options{Args: address})
	second.Restart()
	second.verify()
	second.load.Entries(5)
	second.load.Certificates(2)
	second.verify()
	second.Stop()

	back := memoryDir(t)
	copyBench(t, sqlite, root, back)
	for _, name := range []string{"rekorv1", "ct", "audit.db", "tuf", "tuf-copy"} {
		if err := os.RemoveAll(filepath.Join(back, "data", name)); err != nil {
			t.Fatal(err)
		}
	}
	from, to = to, config(back, files)
	for _, spec := range []string{"audit.committed=kill", "sqlite.committed:rekorv1=kill", "sqlite.commit:rekorv1=kill", "sqlite.committed:rekorv1=kill", "sqlite.commit:ct=kill"} {
		kill(from, to, spec)
		third := newBench(t, sqlite, back, 3, harness.Options{Args: address})
		third.Launch()
		if code := third.Wait(readyLimit); code != 2 || !strings.Contains(third.Log(), "log integrity violated") {
			t.Fatalf("%s: half a copy is served, or refused for another reason: exit code %d\n%s", spec, code, third.Log())
		}
	}
	copied(from, to)
	third := newBench(t, sqlite, back, 3, harness.Options{Args: address})
	third.Restart()
	third.verify()
	third.load.Entries(5)
	third.load.Certificates(2)
	third.verify()
	third.Stop()
}
