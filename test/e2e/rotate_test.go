package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sigstack/sigstack/test/harness"
)

// TestRotate rotates the transparency log twice while a server serves, by the commands
// of docs/rekor.md. What was signed under each key verifies afterwards, by real
// clients, and they find it.
func TestRotate(t *testing.T) {
	for _, storage := range []string{"sqlite", "mysql"} {
		t.Run(storage, func(t *testing.T) {
			t.Parallel()
			operator := harness.NewClient(t)
			operator.Write("sigstack.yaml", []byte("data-dir: sigstack-data\n"))
			options := harness.Options{Dir: operator.Path("sigstack-data")}
			if err := os.Mkdir(options.Dir, 0o700); err != nil {
				t.Fatal(err)
			}
			check := func(server *harness.Server) { checkLog(t, server) }
			if storage == "mysql" {
				options.DSN = harness.SharedMariaDB(t).NewDatabase(t)
				check = func(server *harness.Server) { checkPublic(t, server) }
			}
			server := harness.StartWith(t, options)
			u := newUser(t, server, "ida@example.com")
			u.initialize("cosign3")
			u.artifact()
			u.signWithOpenSSL()
			upload := func(n int) {
				u.Write("README.txt", fmt.Appendf(nil, "readme %d\n", n))
				u.Run("openssl", "dgst", "-sha256", "-sign", "key.pem", "-out", "README.txt.sig", "README.txt")
				u.rekorCLI("upload", "--artifact", "README.txt", "--signature", "README.txt.sig", "--public-key", "key.pub", "--pki-format", "x509")
			}
			loginfo := func(total int) {
				t.Helper()
				out := u.rekorCLI("loginfo").Output()
				if !strings.Contains(out, "Verification Successful!") || !regexp.MustCompile(fmt.Sprintf(`Total Tree Size:\s*%d\b`, total)).MatchString(out) {
					t.Fatalf("rekor-cli loginfo does not verify a log with %d entries\n%s", total, out)
				}
			}
			commands := scripts(t, "rekor.md")
			if len(commands) != 2 {
				t.Fatalf("docs/rekor.md has %d blocks of commands, want 2", len(commands))
			}
			hangUp := func() {
				if err := syscall.Kill(server.PID(), syscall.SIGHUP); err != nil {
					t.Fatal(err)
				}
			}
			for n := range 3 {
				u.signBlob(fmt.Sprintf("blob-%d", n), "--identity-token", u.token())
				upload(n)
				loginfo(2 * (n + 1))
				if n == 2 {
					break
				}
				for _, block := range commands {
					t.Log(operator.Run("sh", "-euc", block).Output())
					hangUp()
				}
				server.Poll(time.Minute, "the next tree is in use", func() bool { return len(inactive(t, server)) == n+1 })
			}

			entries := []string{}
			for index := range 6 {
				uuid, entry := entryAt(t, server, index)
				if entry.LogIndex != index {
					t.Errorf("entry %d says that it has index %d", index, entry.LogIndex)
				}
				entries = append(entries, uuid)
				u.rekorCLI("get", "--log-index", fmt.Sprint(index))
				u.rekorCLI("get", "--uuid", uuid)
				u.rekorCLI("get", "--uuid", uuid[16:])
			}
			for i, shard := range inactive(t, server) {
				tree := fmt.Sprintf("%016x", shard.id(t))
				if shard.TreeSize != 2 || !strings.HasPrefix(entries[2*i], tree) || !strings.HasPrefix(entries[2*i+1], tree) {
					t.Errorf("tree %d is %+v, but has the entries %v", i+1, shard, entries[2*i:2*i+2])
				}
			}
			for n := range 3 {
				u.verifyBlob(fmt.Sprintf("blob-%d", n)) // with the trust root of each time
			}
			check(server)

			server.Stop()
			server.Restart()
			loginfo(6)
			another := newUser(t, server, "ida@example.com")
			another.initialize("cosign3")
			for n := range 3 {
				for _, name := range []string{"", ".json"} {
					name = fmt.Sprintf("blob-%d%s", n, name)
					another.Write(name, u.Read(name))
				}
				another.verifyBlob(fmt.Sprintf("blob-%d", n))
			}
			check(server)
		})
	}
}

// A shard is a tree that is frozen, as /api/v1/log has it.
type shard struct {
	TreeID   string `json:"treeID"`
	TreeSize int    `json:"treeSize"`
}

func (s shard) id(t *testing.T) (n int64) {
	t.Helper()
	if _, err := fmt.Sscan(s.TreeID, &n); err != nil {
		t.Fatal(err)
	}
	return n
}

func inactive(t *testing.T, server *harness.Server) []shard {
	t.Helper()
	var info struct {
		InactiveShards []shard `json:"inactiveShards"`
	}
	if err := json.Unmarshal(get(t, server.URL+"/api/v1/log"), &info); err != nil {
		t.Fatal(err)
	}
	return info.InactiveShards
}

// TestCopyRotated moves a log of two trees to a database and back.
func TestCopyRotated(t *testing.T) {
	t.Parallel()
	operator := harness.NewClient(t)
	server := harness.Start(t)
	load := harness.NewLoad(t, server, harness.NewLedger(t, operator.Path("ledger")), nil, 1)
	load.Entries(5)
	load.Certificates(1)
	operator.Run("sigstack", "rotate", "rekor", "--data-dir", server.Dir)
	if err := syscall.Kill(server.PID(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	server.Poll(time.Minute, "the next tree is in use", func() bool { return len(inactive(t, server)) == 1 })
	load.Entries(3)
	content := func(server *harness.Server) (out string) {
		for index := range 8 {
			uuid, e := entryAt(t, server, index)
			out += fmt.Sprintf("%s %s %d %s %d\n", uuid, e.Body, e.IntegratedTime, e.LogID, e.LogIndex)
		}
		return out + fmt.Sprint(inactive(t, server))
	}
	shown := content(server)
	server.Stop()

	database, back := operator.Path("database"), operator.Path("back")
	dsn := harness.SharedMariaDB(t).NewDatabase(t)
	operator.Write("dsn", []byte(dsn))
	config := func(dir, storage string) string {
		return harness.Config(t, fmt.Sprintf("url: %s\ndata-dir: %s\n%s", server.URL, dir, storage))
	}
	mysql := "storage: mysql\nmysql: {dsn-file: " + operator.Path("dsn") + "}\n"
	from := config(server.Dir, "")
	for _, step := range []struct {
		dir, config string
		options     harness.Options
	}{
		{database, config(database, mysql), harness.Options{DSN: dsn}},
		{back, config(back, ""), harness.Options{}},
	} {
		copyKeys(t, server.Dir, step.dir)
		if err := os.Remove(step.dir + "/keys/rekorv1-shards"); err != nil {
			t.Fatal(err)
		}
		operator.Refuse("the transparency log of the source has 2 keys, that of the target 1", "sigstack", "copy", "--from", from, "--to", step.config)
		copyKeys(t, server.Dir, step.dir)
		r := operator.Run("sigstack", "copy", "--from", from, "--to", step.config)
		for _, line := range []string{"rekorv1: 5 entries, root ", "rekorv1-2: 3 entries, root "} {
			if !strings.Contains(r.Stdout, line) {
				t.Errorf("the copy says\n%s\nwant %q", r.Stdout, line)
			}
		}
		options := step.options
		options.Dir, options.Args = step.dir, []string{"--listen", strings.TrimPrefix(server.URL, "http://")}
		copied := harness.StartWith(t, options)
		if got := content(copied); got != shown {
			t.Errorf("the copy shows\n%s\nwant\n%s", got, shown)
		}
		checkPublic(t, copied)
		copied.Stop()
		from = step.config
	}
	t.Log(operator.Run("sigstack", "fsck", "--dir", back).Stdout)
}
