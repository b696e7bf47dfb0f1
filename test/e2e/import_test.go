package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sigstack/sigstack/test/harness"
)

// TestImport takes a log of two trees over, with entries of all kinds, into both
// storages: over the API and from the database of Trillian. An import that is killed
// goes on, half of one is not served, and a source that is written to is noticed.
// What was signed there verifies here.
func TestImport(t *testing.T) {
	t.Parallel()
	operator := harness.NewClient(t)
	dsn := harness.SharedMariaDB(t).NewDatabase(t)
	source := harness.StartWith(t, harness.Options{DSN: dsn})
	u := newUser(t, source, "ida@example.com")
	u.initialize("cosign3")
	u.generateKey("cosign")
	u.Write("blob", []byte("signed where the log was\n"))
	u.Run("cosign3", "sign-blob", "--yes", "--key", "cosign.key", "--bundle", "blob.json", "blob")
	fillAllKinds(t, source)
	load := harness.NewLoad(t, source, harness.NewLedger(t, operator.Path("ledger")), nil, 1)
	load.Entries(1100) // more than one batch
	operator.Run("sigstack", "rotate", "rekor", "--config", harness.Config(t, "data-dir: "+source.Dir+"\n"))
	if err := syscall.Kill(source.PID(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	source.Poll(time.Minute, "the next tree is in use", func() bool { return len(inactive(t, source)) == 1 })
	load.Entries(20)
	keys := []string{"--key", "file:" + filepath.Join(source.Dir, "keys", "rekorv1-2.pem"), "--key", "file:" + filepath.Join(source.Dir, "keys", "rekorv1.pem")}
	dsnFile := func(dsn string) string {
		name := filepath.Join(t.TempDir(), "dsn")
		if err := os.WriteFile(name, []byte(dsn), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}

	// Once something has asked twice for the log, which an import does at its end,
	// somebody writes.
	var asked atomic.Int32
	target, err := url.Parse(source.URL)
	if err != nil {
		t.Fatal(err)
	}
	forward := httputil.NewSingleHostReverseProxy(target)
	busy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/api/v1/log" && asked.Add(1) == 2 {
			load.Entries(1)
		}
		forward.ServeHTTP(w, r)
	}))
	defer busy.Close()

	t.Run("sqlite", func(t *testing.T) {
		client := harness.NewClient(t)
		kept := t.TempDir()
		inBucket := "rekor: {attestations: {storage: bucket, bucket: 'file://" + kept + "'}}\n"
		server, config := installation(t, "", inBucket, "--config", harness.Config(t, inBucket))
		client.Run("sigstack", "init", "--config", config)
		run := append([]string{"import", "rekor", "--config", config, "--url", busy.URL}, keys...)
		client.Refuse("2 trees with entries; want the key of each", "sigstack", run[:len(run)-2]...)
		client.Refuse("none of the keys is that of tree", "sigstack", append(slices.Clone(run[:len(run)-1]), "file:"+filepath.Join(server.Dir, "keys", "ctlog.pem"))...)
		client.Refuse("--url: the URL of the log must be", "sigstack", "import", "rekor", "--config", config, "--url", "rekor.example.com", "--key", "file:x")
		asked.Store(2)

		killed := harness.NewClient(t)
		killed.Setenv("SIGSTACK_FAILPOINTS", "sqlite.committed:rekorv1=kill@2")
		if r := killed.Try(harness.FaultyBinary(t), run...); r.Code != -1 {
			t.Fatalf("an import that was to be killed ends with %d\n%s", r.Code, r.Output())
		}
		server.Launch()
		if code := server.Wait(time.Minute); code != 2 || !strings.Contains(server.Log(), "an import into the transparency log is not complete") {
			t.Fatalf("half an import is served, or refused for another reason: exit code %d\n%s", code, server.Log())
		}
		asked.Store(0)
		client.Refuse("the source is written to", "sigstack", run...)
		r := client.Run("sigstack", run...)
		if again := client.Run("sigstack", run...); again.Stdout != r.Stdout {
			t.Errorf("an import of what is there says\n%s\nand said\n%s", again.Stdout, r.Stdout)
		}
		checkImport(t, source, server, r.Stdout)
		checkImported(t, source, server, u, config, true)
		if names, err := filepath.Glob(filepath.Join(kept, "sha256*")); err != nil || len(names) < 2 {
			t.Errorf("the bucket has %d files (%v)", len(names), err)
		}
		server.Stop()
		load.Entries(1)
		client.Refuse("since its tree was imported whole", "sigstack", run...)
		server.Restart() // the refusal has changed nothing
		server.Stop()
		client.Run("sigstack", "rotate", "rekor", "--config", config)
		client.Refuse("import into a new installation", "sigstack", run...)
		client.Run("sigstack", "fsck", "--dir", server.Dir)
	})
	t.Run("mysql", func(t *testing.T) {
		client := harness.NewClient(t)
		own := harness.SharedMariaDB(t).NewDatabase(t)
		server, config := installation(t, own, "storage: mysql\nmysql: {dsn-file: "+dsnFile(own)+"}\n")
		client.Run("sigstack", "init", "--config", config)
		r := client.Run("sigstack", append([]string{"import", "rekor", "--config", config, "--url", source.URL + "/"}, keys...)...)
		checkImport(t, source, server, r.Stdout)
		checkImported(t, source, server, u, config, true)
	})
	t.Run("trillian", func(t *testing.T) {
		client := harness.NewClient(t)
		server, config := installation(t, "", "")
		client.Run("sigstack", "init", "--config", config)
		run := []string{"import", "rekor", "--config", config, "--trillian-dsn-file", dsnFile(dsn), "--key", keys[3], "--key", keys[1]}
		client.Refuse("no tree with the ID 5", "sigstack", append(run, "--tree-id", "5")...)
		for _, tree := range append(inactive(t, source), active(t, source)) {
			run = append(run, "--tree-id", tree.TreeID)
		}
		checkImport(t, source, server, client.Run("sigstack", run...).Stdout)
		checkImported(t, source, server, u, config, false)
	})
	t.Run("late", func(t *testing.T) {
		client := harness.NewClient(t)
		server := harness.Start(t)
		harness.NewLoad(t, server, harness.NewLedger(t, client.Path("ledger")), nil, 2).Entries(1)
		config := harness.Config(t, fmt.Sprintf("url: %s\ndata-dir: %s\n", server.URL, server.Dir))
		run := append([]string{"import", "rekor", "--config", config, "--url", source.URL}, keys...)
		client.Refuse("another process has this log open", "sigstack", run...)
		server.Stop()
		before := files(t, server.Dir)
		client.Refuse("was not started yet", "sigstack", run...)
		if after := files(t, server.Dir); !maps.Equal(before, after) {
			t.Error("a refused import changes what is there")
		}
		server.Restart()
	})
}

// installation returns a server that was not started yet, with its configuration, of
// which more may be given; so may a DSN and arguments of the server that say the same.
func installation(t *testing.T, dsn, more string, args ...string) (*harness.Server, string) {
	t.Helper()
	addr := harness.FreeAddr(t)
	server := harness.NewServer(t, harness.Options{DSN: dsn, Args: append(args, "--listen", addr)})
	return server, harness.Config(t, fmt.Sprintf("url: http://%s\ndata-dir: %s\n%s", addr, server.Dir, more))
}

// active is the tree in use, as /api/v1/log has it.
func active(t *testing.T, server *harness.Server) (tree shard) {
	t.Helper()
	getJSON(t, server.URL+"/api/v1/log", &tree)
	return tree
}

// checkImport wants the trees of a source in what an import says, and starts the
// server.
func checkImport(t *testing.T, source, server *harness.Server, said string) {
	t.Helper()
	var log struct {
		treeState
		InactiveShards []treeState
	}
	getJSON(t, source.URL+"/api/v1/log", &log)
	for _, tree := range append(log.InactiveShards, log.treeState) {
		if want := fmt.Sprintf("tree %s: %d entries, root %s: equal\n", tree.TreeID, tree.TreeSize, tree.RootHash); !strings.Contains(said, want) {
			t.Fatalf("an import says\n%swant %s", said, want)
		}
	}
	server.Restart()
}

type treeState struct {
	TreeID   string
	TreeSize int
	RootHash string
}

// checkImported compares every entry of a source with what a server shows, and has
// clients verify what was signed there. Then the log goes on.
func checkImported(t *testing.T, source, server *harness.Server, u *user, config string, attested bool) {
	t.Helper()
	size, attestations := 0, 0
	for _, tree := range append(inactive(t, source), active(t, source)) {
		size += tree.TreeSize
	}
	for index := range size {
		uuid, want := entryAt(t, source, index)
		got, entry := entryAt(t, server, index)
		attestations += min(1, len(entry.Attestation.Data))
		if got != uuid || !bytes.Equal(entry.Body, want.Body) || entry.IntegratedTime != want.IntegratedTime || entry.LogID != want.LogID || entry.LogIndex != want.LogIndex ||
			attested && !bytes.Equal(entry.Attestation.Data, want.Attestation.Data) {
			t.Fatalf("entry %d is %s %+v, and was %s %+v", index, got, entry, uuid, want)
		}
	}
	if attested && attestations < 2 {
		t.Errorf("%d attestations are shown", attestations)
	}
	if attested {
		checkStatements(t, server)
	}

	user := newUser(t, server, "ida@example.com")
	user.initialize("cosign3")
	for _, name := range []string{"blob", "blob.json", "cosign.pub"} {
		user.Write(name, u.Read(name))
	}
	user.Run("cosign3", "verify-blob", "--key", "cosign.pub", "--bundle", "blob.json", "blob")
	user.signBlob("another", "--identity-token", user.token())
	user.verifyBlob("another")
	if uuid, entry := entryAt(t, server, size); entry.LogIndex != size || !strings.HasPrefix(uuid, fmt.Sprintf("%016x", active(t, server).id(t))) {
		t.Errorf("the entry behind those of the source is %s with index %d, want %d", uuid, entry.LogIndex, size)
	}
	uuid, _ := entryAt(t, server, size/2)
	user.rekorCLI("get", "--uuid", uuid)
	user.rekorCLI("get", "--uuid", uuid[16:])
	if out := user.rekorCLI("loginfo").Output(); !regexp.MustCompile(fmt.Sprintf(`Total Tree Size:\s*%d\b`, size+1)).MatchString(out) {
		t.Errorf("rekor-cli loginfo does not find %d entries\n%s", size+1, out)
	}
	checkPublic(t, server)
	server.Stop()
	r := harness.NewClient(t).Run("sigstack", "index", "rebuild", "--check", "--config", config)
	if !strings.Contains(r.Stdout, "0 missing, 0 stray") {
		t.Errorf("index rebuild --check says\n%s", r.Stdout)
	}
	server.Restart()
}

// checkStatements wants each entry with an attestation to be found by each digest that
// its statement names.
func checkStatements(t *testing.T, server *harness.Server) {
	t.Helper()
	searches := 0
	for index := range 200 { // where the entries of all kinds are
		uuid, entry := entryAt(t, server, index)
		var statement struct {
			Subject []struct{ Digest map[string]string }
		}
		if json.Unmarshal(entry.Attestation.Data, &statement) != nil {
			continue
		}
		for _, subject := range statement.Subject {
			for algorithm, digest := range subject.Digest {
				query := fmt.Sprintf(`{"hash":"%s:%s"}`, algorithm, digest)
				res, err := http.Post(server.URL+"/api/v1/index/retrieve", "application/json", strings.NewReader(query))
				if err != nil {
					t.Fatal(err)
				}
				var found []string
				err = json.NewDecoder(res.Body).Decode(&found)
				res.Body.Close()
				if err != nil || !slices.Contains(found, uuid) {
					t.Errorf("search for %s: %s: %v (%v), want %s among them", query, res.Status, found, err, uuid)
				}
				searches++
			}
		}
	}
	if searches == 0 {
		t.Fatal("no statement has a subject")
	}
}
