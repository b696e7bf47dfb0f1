// Package e2e holds the flows that users know from tutorials, run with the real
// programs - cosign 2 and 3, rekor-cli, openssl, ssh-keygen, gpg, minisign and
// curl - against the real sigstack binary. "make tools" and scripts/debian.sh
// install what it needs; a missing program fails the test.
package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sigstack/sigstack/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// TestFlows runs every flow against one server, several at a time, as a team
// would. After them the log holds every kind of entry, and the independent
// checker must find nothing wrong with it: over HTTP, and in the data directory
// after a stop.
func TestFlows(t *testing.T) {
	t.Parallel()
	server := harness.Start(t)
	beginning := statesOf(t, server)
	runFlows(t, server)
	checkLog(t, server, beginning)
}

// TestFlowsOverMySQL runs every flow against a server that keeps everything in
// a database, starts it again, and has the independent checker look at what it
// shows.
func TestFlowsOverMySQL(t *testing.T) {
	t.Parallel()
	database := harness.StartMariaDB(t)
	server := harness.StartWith(t, harness.Options{DSN: database.NewDatabase(t)})
	beginning := statesOf(t, server)
	runFlows(t, server)
	before := statesOf(t, server)
	server.Kill()
	server.Restart()
	checkPublic(t, server, beginning, before)
	if out := server.Log(); strings.Contains(out, database.Password()) {
		t.Error("the password of the database is in the log")
	}
}

// TestStartBeforeDatabase starts a server whose database does not run yet, on a
// data directory that has served without one. It waits, serves what is in the
// database, and leaves the other TUF repository alone.
func TestStartBeforeDatabase(t *testing.T) {
	t.Parallel()
	alone := harness.Start(t)
	root := get(t, alone.URL+"/tuf/1.root.json")
	alone.Stop()
	for _, log := range []string{"rekorv1", "ct"} { // their second memories are of other logs
		if err := os.RemoveAll(filepath.Join(alone.Dir, log)); err != nil {
			t.Fatal(err)
		}
	}
	database := harness.StartMariaDB(t)
	dsn := database.NewDatabase(t)
	database.Stop(t)
	server := harness.NewServer(t, harness.Options{DSN: dsn, Dir: alone.Dir})
	server.Launch()
	server.Poll(time.Minute, "it says that the database cannot be reached", func() bool {
		return strings.Contains(server.Log(), "the database cannot be reached yet")
	})
	database.Restart(t)
	server.Poll(time.Minute, "it serves", func() bool { return strings.Contains(server.Log(), `"msg":"serving"`) })
	server.Stop()
	kept, err := os.ReadFile(filepath.Join(alone.Dir, "tuf", "1.root.json"))
	if err != nil || !bytes.Equal(kept, root) {
		t.Errorf("the TUF repository of the data directory is not as it was (%v)", err)
	}
}

// checkPublic runs the independent checker over HTTP.
func checkPublic(t *testing.T, server *harness.Server, older ...states) {
	t.Helper()
	client := harness.NewClient(t)
	t.Log(client.Run("sigstack", args("fsck", "--url", server.URL, olderFlags(client, older))...).Stdout)
}

// runFlows runs every flow.
func runFlows(t *testing.T, server *harness.Server) {
	t.Helper()
	flows := map[string]func(*testing.T, *harness.Server){
		"cosign 3/identity token":             signBlobWithToken,
		"cosign 3/browser":                    signBlobByBrowser,
		"cosign 3/device":                     signBlobByDevice,
		"cosign 3/out of band":                signBlobByCode,
		"cosign 3/key":                        signBlobWithKey,
		"cosign 3/algorithms":                 signWithEveryAlgorithm,
		"cosign 3/service flags":              signWithServiceFlags,
		"cosign 3/GitHub workflow":            signAsWorkflow,
		"cosign 3/image":                      signImageWithReferrers,
		"cosign 3/altered token":              refuseAlteredToken,
		"cosign 3/wrong identity":             refuseOtherIdentity,
		"cosign 3/changed bundle":             refuseChangedBundle,
		"cosign 2/changed bundle":             refuseChangedOldBundle,
		"changed SCT":                         refuseChangedSCT,
		"cosign 2/image":                      signImage,
		"cosign 2/annotations":                signWithAnnotations,
		"cosign 2/several signatures":         signTwice,
		"cosign 2/counter-signature":          counterSign,
		"cosign 2/attestation":                attest,
		"cosign 2/attestation as intoto":      attestInToto,
		"cosign 2/bundle":                     signBlobIntoBundle,
		"cosign 2/SBOM":                       signSBOM,
		"cosign 2/key":                        signWithKey,
		"cosign 2/blob with certificate file": signBlobWithFiles,
		"cosign 2/SIGSTORE files":             trustFromFiles,
		"cosign 2/unsigned image":             refuseUnsigned,
		"tutorial/two keys":                   signWithTwoKeys,
		"tutorial/blob by key":                signBlobIntoFilesByKey,
		"tutorial/blob by browser":            signBlobIntoFilesByBrowser,
		"openssl/email":                       inspectEmailCertificate,
		"openssl/workflow":                    inspectWorkflowCertificate,
		"rekor-cli/x509":                      uploadX509,
		"rekor-cli/pgp":                       uploadPGP,
		"rekor-cli/intoto":                    uploadInToto,
		"rekor-cli/cose":                      uploadCOSE,
		"rekor-cli/ssh":                       uploadSSH,
		"rekor-cli/minisign":                  uploadMinisign,
		"rekor-cli/packages":                  uploadPackages,
		"rekor-cli/jar":                       uploadJar,
		"rekor-cli/rfc3161":                   uploadTimestamp,
		"rekor-cli/tuf":                       uploadTUF,
		"rekor-cli/loginfo":                   watchLog,
		"client-config/cosign2":               pasteCosign2,
		"client-config/cosign3":               pasteCosign3,
		"client-config/rekor-cli":             pasteRekorCLI,
	}
	var ran atomic.Int32
	t.Run("clients", func(t *testing.T) {
		for name, flow := range flows {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				ran.Add(1)
				flow(t, server)
			})
		}
	})
	if int(ran.Load()) == len(flows) { // and -run did not choose some of them
		checkKinds(t, server)
	}
}

// states are what a log and a CT log have signed at one moment.
type states struct{ checkpoint, head []byte }

// statesOf asks for both.
func statesOf(t *testing.T, server *harness.Server) states {
	t.Helper()
	var log struct{ SignedTreeHead string }
	getJSON(t, server.URL+"/api/v1/log", &log)
	return states{checkpoint: []byte(log.SignedTreeHead), head: get(t, server.URL+"/ct/v1/get-sth")}
}

// olderFlags are the flags for earlier states of the logs.
func olderFlags(client *harness.Client, older []states) (flags []string) {
	for i, s := range older {
		checkpoint, head := fmt.Sprintf("checkpoint-%d", i), fmt.Sprintf("sth-%d.json", i)
		client.Write(checkpoint, s.checkpoint)
		client.Write(head, s.head)
		flags = append(flags, "--older", checkpoint, "--older", head)
	}
	return flags
}

// checkLog runs the independent checker with earlier states of the logs: over
// HTTP, and after a stop over the data directory. Then it changes one byte in a
// copy of the data directory, which the checker must find, and starts the server
// again.
func checkLog(t *testing.T, server *harness.Server, older ...states) {
	t.Helper()
	client := harness.NewClient(t)
	flags := olderFlags(client, append(older, statesOf(t, server)))
	t.Log(client.Run("sigstack", args("fsck", "--url", server.URL, flags)...).Stdout)
	_, entry := entryAt(t, server, 0)
	server.Stop()
	t.Log(client.Run("sigstack", args("fsck", "--dir", server.Dir, flags)...).Stdout)

	changed := client.Path("changed")
	if err := os.CopyFS(changed, os.DirFS(server.Dir)); err != nil {
		t.Fatal(err)
	}
	database := filepath.Join(changed, "rekorv1", "log.db")
	data, err := os.ReadFile(database)
	if err != nil {
		t.Fatal(err)
	}
	// Everywhere: SQLite leaves old copies of moved rows in its file.
	other := bytes.Clone(entry.Body)
	at, mask := spelling(t, other)
	other[at] ^= mask
	if !bytes.Contains(data, entry.Body) {
		t.Fatalf("%s lacks the body of entry 0", database)
	}
	if err := os.WriteFile(database, bytes.ReplaceAll(data, entry.Body, other), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := client.Try("sigstack", "fsck", "--dir", changed); r.Code != 1 || !strings.Contains(r.Stdout, "entry 0") {
		t.Errorf("sigstack fsck of a log with a changed byte in entry 0: exit code %d, want 1 and its name\n%s", r.Code, r.Output())
	}
	server.Restart()
}

// checkKinds reads the whole log and fails unless every kind and every format of
// a rekord is in it.
func checkKinds(t *testing.T, server *harness.Server) {
	t.Helper()
	var log struct {
		TreeSize int `json:"treeSize"`
	}
	getJSON(t, server.URL+"/api/v1/log", &log)
	count := map[string]int{}
	for index := range log.TreeSize {
		var body struct {
			Kind string
			Spec struct {
				Signature struct{ Format string }
			}
		}
		_, entry := entryAt(t, server, index)
		if err := json.Unmarshal(entry.Body, &body); err != nil {
			t.Fatal(err)
		}
		name := body.Kind
		if body.Spec.Signature.Format != "" {
			name += " " + body.Spec.Signature.Format
		}
		count[name]++
	}
	t.Logf("%d entries: %v", log.TreeSize, count)
	for _, want := range []string{"hashedrekord", "dsse", "intoto", "cose", "rekord x509", "rekord pgp", "rekord ssh", "rekord minisign", "alpine", "helm", "rpm", "jar", "rfc3161", "tuf"} {
		if count[want] == 0 {
			t.Errorf("no entry of kind %s in the log", want)
		}
	}
}

// user is one person with an own home directory and an identity of the
// development issuer.
type user struct {
	*harness.Client
	t      *testing.T
	server *harness.Server
	email  string
}

func newUser(t *testing.T, server *harness.Server, email string) *user {
	t.Helper()
	return &user{Client: harness.NewClient(t), t: t, server: server, email: email}
}

// token returns an identity token of the user.
func (u *user) token() string {
	u.t.Helper()
	return u.oneToken("--email", u.email)
}

// oneToken runs "sigstack token", which prints a token, a newline and nothing
// else.
func (u *user) oneToken(args ...string) string {
	u.t.Helper()
	r := u.Run("sigstack", append([]string{"token", "--url", u.server.URL}, args...)...)
	if !regexp.MustCompile(`^[\w-]+\.[\w-]+\.[\w-]+\n$`).MatchString(r.Stdout) {
		u.t.Fatalf("sigstack token %v prints %d bytes that are not one line with a token", args, len(r.Stdout))
	}
	return strings.TrimSpace(r.Stdout)
}

// identity is what a verifier expects of the user's signatures.
func (u *user) identity() []string {
	return []string{"--certificate-identity", u.email, "--certificate-oidc-issuer", u.server.URL + "/oidc"}
}

// urls is how cosign 2 is told where to sign.
func (u *user) urls() []string {
	return []string{"--fulcio-url", u.server.URL, "--rekor-url", u.server.URL}
}

// initialize makes cosign take its trust from the TUF repository of the server.
func (u *user) initialize(cosign string) {
	u.t.Helper()
	u.Run(cosign, "initialize", "--mirror", u.server.URL+"/tuf", "--root", u.server.URL+"/tuf/root.json")
}

// args joins arguments and groups of them.
func args(parts ...any) []string {
	var all []string
	for _, part := range parts {
		switch part := part.(type) {
		case string:
			all = append(all, part)
		case []string:
			all = append(all, part...)
		default:
			panic(fmt.Sprintf("args: %T is neither a string nor a list of strings", part))
		}
	}
	return all
}

// logIndex reads the index from "tlog entry created with index: N".
func logIndex(t *testing.T, r harness.Result) int {
	t.Helper()
	m := regexp.MustCompile(`tlog entry created with index: (\d+)`).FindStringSubmatch(r.Output())
	if m == nil {
		t.Fatalf("no log index in the output\n%s", r.Output())
	}
	index, err := strconv.Atoi(m[1])
	if err != nil {
		t.Fatal(err)
	}
	return index
}

// logEntry is an entry as the Rekor API gives it.
type logEntry struct {
	Attestation struct {
		Data []byte `json:"data"`
	} `json:"attestation"`
	Body           []byte `json:"body"`
	IntegratedTime int64  `json:"integratedTime"`
	LogID          string `json:"logID"`
	LogIndex       int    `json:"logIndex"`
	Verification   struct {
		InclusionProof struct {
			Checkpoint string   `json:"checkpoint"`
			Hashes     []string `json:"hashes"`
			LogIndex   uint64   `json:"logIndex"`
			RootHash   string   `json:"rootHash"`
			TreeSize   uint64   `json:"treeSize"`
		} `json:"inclusionProof"`
		SignedEntryTimestamp []byte `json:"signedEntryTimestamp"`
	} `json:"verification"`
}

// entryAt fetches one entry.
func entryAt(t *testing.T, server *harness.Server, index int) (uuid string, entry logEntry) {
	t.Helper()
	var answer map[string]logEntry
	getJSON(t, server.URL+"/api/v1/log/entries?logIndex="+strconv.Itoa(index), &answer)
	if len(answer) != 1 {
		t.Fatalf("%d entries in the answer for index %d, want 1", len(answer), index)
	}
	for uuid, entry = range answer {
	}
	return uuid, entry
}

// get fetches url and fails the test unless the answer is 200.
func get(t *testing.T, url string) []byte {
	t.Helper()
	res, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s\n%s", url, res.Status, body)
	}
	return body
}

func getJSON(t *testing.T, url string, into any) {
	t.Helper()
	body := get(t, url)
	if err := json.Unmarshal(body, into); err != nil {
		t.Fatalf("GET %s: %v in %q", url, err, body)
	}
}
