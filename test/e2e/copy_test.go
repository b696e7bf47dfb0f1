package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sigstack/sigstack/test/harness"
)

// TestCopy moves a log of all kinds from SQLite to MySQL and back. A copy that is
// killed goes on, half a copy is not served, wrong sides are refused. After each
// move clients find what they found before, and what was handed out is valid.
func TestCopy(t *testing.T) {
	t.Parallel()
	client := harness.NewClient(t)
	first := harness.Start(t)
	acknowledged := fillKinds(t, first)
	ledger := harness.NewLedger(t, client.Path("ledger"))
	load := harness.NewLoad(t, first, ledger, nil, 1)
	load.Entries(1100) // more than one batch
	load.Certificates(6)
	for _, r := range ledger.Records(0) {
		if r.Answer != nil {
			acknowledged = append(acknowledged, asAcknowledged(t, r))
		}
	}
	shown, beginning := contentOf(t, first, acknowledged), statesOf(t, first)

	database := harness.StartMariaDB(t)
	dsn := database.NewDatabase(t)
	dsnFile := filepath.Join(t.TempDir(), "dsn")
	if err := os.WriteFile(dsnFile, []byte(dsn), 0o600); err != nil {
		t.Fatal(err)
	}
	config := func(dir, storage string) string {
		return harness.Config(t, fmt.Sprintf("url: %s\ndata-dir: %s\n%s", first.URL, dir, storage))
	}
	mysql := "storage: mysql\nmysql: {dsn-file: " + dsnFile + "}\n"
	dir := filepath.Join(t.TempDir(), "data")
	from, to := config(first.Dir, ""), config(dir, mysql)
	same := []string{"--listen", strings.TrimPrefix(first.URL, "http://")}

	client.Refuse("copy the keys", "sigstack", "copy", "--from", from, "--to", config(harness.Start(t).Dir, mysql))
	copyKeys(t, first.Dir, dir)
	client.Refuse("another process has this log open", "sigstack", "copy", "--from", from, "--to", to)
	first.Stop()
	// A sink of events had nearly everything.
	if err := os.WriteFile(filepath.Join(first.Dir, "rekorv1", "events-webhook"), []byte("1000\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, side := range map[string]string{
		"the same storage":       config(first.Dir, ""),
		"a log keeps its URL":    harness.Config(t, "url: https://sigstore.example.com\ndata-dir: "+dir+"\n"+mysql),
		"the key of log rekorv1": config(t.TempDir(), mysql),
		"no such file":           client.Path("none.yaml"),
	} {
		client.Refuse(want, "sigstack", "copy", "--from", from, "--to", side)
	}
	before := files(t, first.Dir)

	// Killed between the two commits of the second batch.
	killed := harness.NewClient(t)
	killed.Setenv("SIGSTACK_FAILPOINTS", "sqlite.committed:rekorv1=kill@2")
	if r := killed.Try(harness.FaultyBinary(t), "copy", "--from", from, "--to", to); r.Code != -1 {
		t.Fatalf("a copy that was to be killed ends with %d\n%s", r.Code, r.Output())
	}
	for _, half := range []string{dir, t.TempDir()} { // of the replica that was copied to, and of another one
		if half != dir {
			copyKeys(t, first.Dir, half)
		}
		server := harness.NewServer(t, harness.Options{DSN: dsn, Dir: half, Args: same})
		server.Launch()
		if code := server.Wait(time.Minute); code != 2 || !strings.Contains(server.Log(), "not complete") {
			t.Fatalf("half a copy is served, or refused for another reason: exit code %d\n%s", code, server.Log())
		}
	}
	client.Refuse("not complete", "sigstack", "copy", "--from", to, "--to", config(filepath.Join(t.TempDir(), "none"), "keys: {rekorv1: 'file:"+dir+"/keys/rekorv1.pem', ctlog: 'file:"+dir+"/keys/ctlog.pem'}\n"))
	r := client.Run("sigstack", "copy", "--from", from, "--to", to)
	if !strings.Contains(r.Stderr, "rekorv1: the target has 1000 entries already") {
		t.Errorf("the copy was not taken up:\n%s", r.Stderr)
	}
	again := client.Run("sigstack", "copy", "--from", from, "--to", to) // nothing is left to do
	for _, line := range []string{fmt.Sprintf("rekorv1: %d entries, root ", len(acknowledged)), " search keys, 1 attestations: equal\n", "ct: 6 entries, root ", "audit: 12 rows, head "} {
		if !strings.Contains(r.Stdout, line) || r.Stdout != again.Stdout {
			t.Errorf("the copy says\n%s\nand once more\n%s\nwant %q", r.Stdout, again.Stdout, line)
		}
	}
	if after := files(t, first.Dir); !maps.Equal(before, after) {
		t.Error("the source is changed")
	}

	second := harness.StartWith(t, harness.Options{DSN: dsn, Dir: dir, Args: same})
	checkCopy(t, second, shown, acknowledged, beginning)
	client.Refuse("other connections use the database", "sigstack", "copy", "--from", to, "--to", config(filepath.Join(t.TempDir(), "none"), "keys: {rekorv1: 'file:"+dir+"/keys/rekorv1.pem', ctlog: 'file:"+dir+"/keys/ctlog.pem'}\n"))

	// It goes on there: what it has is no beginning of the old source any more.
	more := harness.NewLoad(t, second, harness.NewLedger(t, client.Path("more")), nil, 2)
	more.Entries(3)
	more.Certificates(1)
	grown := statesOf(t, second)
	second.Stop()
	client.Refuse("the source does not continue what its second memory has", "sigstack", "copy", "--from", from, "--to", to)
	elsewhere := t.TempDir() // where nobody remembers
	copyKeys(t, dir, elsewhere)
	client.Refuse(fmt.Sprintf("the target has %d entries, the source only %d", len(acknowledged)+3, len(acknowledged)), "sigstack", "copy", "--from", from, "--to", config(elsewhere, mysql))
	second.Restart() // the refusal has changed nothing
	shown = contentOf(t, second, acknowledged)
	second.Stop()

	// And back, into an empty directory.
	last := filepath.Join(t.TempDir(), "data")
	copyKeys(t, dir, last)
	client.Run("sigstack", "copy", "--from", to, "--to", config(last, ""))
	if cursor, err := os.ReadFile(filepath.Join(last, "rekorv1", "events-webhook")); string(cursor) != "1000\n" || err != nil {
		t.Errorf("the sink would go on at entry %q (%v), want 1000", cursor, err)
	}
	third := harness.StartWith(t, harness.Options{Dir: last, Args: same})
	checkCopy(t, third, shown, acknowledged, beginning, grown)
	third.Stop()
	flags := olderFlags(client, []states{beginning, grown})
	t.Log(client.Run("sigstack", args("fsck", "--dir", last, flags)...).Stdout)
}

// checkCopy compares what a server shows with what was shown before, proves all
// that was handed out, and has the independent checker look.
func checkCopy(t *testing.T, server *harness.Server, shown content, acknowledged []acknowledgement, older ...states) {
	t.Helper()
	now := contentOf(t, server, acknowledged)
	for path, want := range shown {
		if got := now[path]; got != want {
			t.Errorf("%s shows\n%s\nbefore it was\n%s", path, got, want)
		}
	}
	if len(now) != len(shown) {
		t.Errorf("%d answers, before %d", len(now), len(shown))
	}
	checkAcknowledged(t, server, acknowledged)
	checkPublic(t, server, older...)
}

// content is what a server shows that must not change, by request.
type content map[string]string

// contentOf asks a server for everything that it has.
func contentOf(t *testing.T, server *harness.Server, acknowledged []acknowledgement) content {
	t.Helper()
	out := content{}
	var log struct {
		TreeSize         int
		RootHash, TreeID string
	}
	getJSON(t, server.URL+"/api/v1/log", &log)
	out["log"] = fmt.Sprint(log.TreeSize, log.RootHash, log.TreeID)
	attestations := 0
	for index := range log.TreeSize {
		uuid, e := entryAt(t, server, index)
		out[fmt.Sprint("entry ", index)] = fmt.Sprintf("%s %s %d %s %d %s", uuid, e.Body, e.IntegratedTime, e.LogID, e.LogIndex, e.Attestation.Data)
		attestations += min(1, len(e.Attestation.Data))
	}
	if attestations < 2 { // of both versions of intoto
		t.Errorf("%d attestations are shown", attestations)
	}
	var head struct {
		Size int    `json:"tree_size"`
		Root string `json:"sha256_root_hash"`
	}
	getJSON(t, server.URL+"/ct/v1/get-sth", &head)
	out["sth"] = fmt.Sprint(head.Size, head.Root)
	out["ct"] = string(get(t, fmt.Sprintf("%s/ct/v1/get-entries?start=0&end=%d", server.URL, head.Size-1)))
	for _, key := range searches(t, acknowledged) {
		res, err := http.Post(server.URL+"/api/v1/index/retrieve", "application/json", strings.NewReader(key))
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(res.Body)
		res.Body.Close()
		var found []string
		if err == nil {
			err = json.Unmarshal(text, &found)
		}
		if err != nil || len(found) == 0 {
			t.Fatalf("search for %s: %s: %s (%v)", key, res.Status, text, err)
		}
		slices.Sort(found)
		out["search "+key] = fmt.Sprint(found)
	}
	return out
}

// searches are requests that find something: the digest of each artifact.
func searches(t *testing.T, acknowledged []acknowledgement) (out []string) {
	t.Helper()
	for _, a := range acknowledged {
		var body struct {
			Spec struct {
				Data struct {
					Hash struct{ Value string }
				}
				PayloadHash struct{ Value string }
			}
		}
		if err := json.Unmarshal(a.entry.Body, &body); err != nil {
			t.Fatal(err)
		}
		for _, digest := range []string{body.Spec.Data.Hash.Value, body.Spec.PayloadHash.Value} {
			if len(digest) == 64 {
				out = append(out, fmt.Sprintf(`{"hash":"sha256:%s"}`, digest))
			}
		}
	}
	return out
}

// fillKinds writes the entries of the recorded requests, of all kinds.
func fillKinds(t *testing.T, server *harness.Server) (written []acknowledgement) {
	t.Helper()
	vectors, err := filepath.Glob(filepath.Join(harness.Root(t), "test", "vectors", "rekor", "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]int{}
	for _, name := range vectors {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var vector struct {
			Request json.RawMessage
			Status  int
		}
		if err := json.Unmarshal(text, &vector); err != nil {
			t.Fatal(err)
		}
		if vector.Status != http.StatusCreated && vector.Status != http.StatusConflict {
			continue // it is refused
		}
		res, err := http.Post(server.URL+"/api/v1/log/entries", "application/json", bytes.NewReader(vector.Request))
		if err != nil {
			t.Fatal(err)
		}
		var answer map[string]logEntry
		err = json.NewDecoder(res.Body).Decode(&answer)
		res.Body.Close()
		if vector.Status == http.StatusConflict && res.StatusCode == http.StatusConflict {
			continue // it was there when it was recorded, and is here
		}
		if res.StatusCode != http.StatusCreated || err != nil {
			t.Fatalf("%s: %s (%v)", name, res.Status, err)
		}
		for uuid, entry := range answer {
			written = append(written, acknowledgement{uuid, entry})
			var body struct {
				Kind string
				Spec struct{ Signature struct{ Format string } }
			}
			if err := json.Unmarshal(entry.Body, &body); err != nil {
				t.Fatal(err)
			}
			kinds[body.Kind+body.Spec.Signature.Format]++
		}
	}
	if len(kinds) < 6 {
		t.Fatalf("kinds %v", kinds)
	}
	return written
}

// asAcknowledged is an entry of a load.
func asAcknowledged(t *testing.T, r harness.Record) acknowledgement {
	t.Helper()
	text, err := json.Marshal(r.Answer)
	if err != nil {
		t.Fatal(err)
	}
	a := acknowledgement{uuid: r.UUID}
	if err := json.Unmarshal(text, &a.entry); err != nil {
		t.Fatal(err)
	}
	return a
}

// copyKeys gives a data directory the keys of another one.
func copyKeys(t *testing.T, from, to string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(to, "keys"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range files(t, filepath.Join(from, "keys")) {
		if err := os.WriteFile(filepath.Join(to, "keys", filepath.Base(name)), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// files are those below a directory, with what is in them.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		out[path] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
