package e2e

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sigstack/sigstack/test/harness"
)

// scripts returns the blocks of shell commands in a page of docs.
func scripts(t *testing.T, page string) (blocks []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(harness.Root(t), "docs", page))
	if err != nil {
		t.Fatal(err)
	}
	for rest := string(text); ; {
		_, after, ok := strings.Cut(rest, "\n```sh\n")
		if !ok {
			return blocks
		}
		block, after, ok := strings.Cut(after, "\n```\n")
		if !ok {
			t.Fatalf("a block of %s does not end", page)
		}
		blocks, rest = append(blocks, block), after
	}
}

// TestOfflineRoot runs the commands of docs/ca.md on a server that serves: from a
// root of openssl's to an intermediate that signs. What was signed with the chain
// before verifies on, by real clients.
func TestOfflineRoot(t *testing.T) {
	t.Parallel()
	operator := harness.NewClient(t)
	dir := operator.Path("sigstack-data")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	operator.Write("sigstack.yaml", []byte("ca: {organization: Example}\n"))
	server := harness.StartWith(t, harness.Options{Dir: dir, Args: []string{"--config", operator.Path("sigstack.yaml")}})
	u := newUser(t, server, "ida@example.com")
	u.initialize("cosign3")
	u.signBlob("before", "--identity-token", u.token())
	u.verifyBlob("before")

	blocks := scripts(t, "ca.md")
	if len(blocks) != 6 {
		t.Fatalf("docs/ca.md has %d blocks of commands, want 6", len(blocks))
	}
	for _, block := range blocks {
		r := operator.Run("sh", "-euc", block)
		t.Logf("%s\n%s", block, r.Output())
		if err := syscall.Kill(server.PID(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	made, _ := pem.Decode(operator.Read("intermediate.crt"))
	server.Poll(time.Minute, "the new chain signs", func() bool {
		var bundle struct {
			Chains []struct{ Certificates []string }
		}
		if err := json.Unmarshal([]byte(u.Run("curl", "-sS", server.URL+"/api/v2/trustBundle").Stdout), &bundle); err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode([]byte(bundle.Chains[0].Certificates[0]))
		return bytes.Equal(block.Bytes, made.Bytes)
	})
	chain := u.Run("curl", "-sS", server.URL+"/api/v1/rootCert").Stdout
	if n := strings.Count(chain, "BEGIN CERTIFICATE"); n != 4 {
		t.Errorf("%d certificates in rootCert, want those of two chains", n)
	}
	if roots := u.Run("curl", "-sS", server.URL+"/ct/v1/get-roots").Stdout; strings.Count(roots, "MII") < 2 {
		t.Errorf("the CT log accepts %s", roots)
	}

	// A user who comes now, and the one who was there: both verify both.
	later := newUser(t, server, "ida@example.com")
	later.initialize("cosign3")
	later.signBlob("after", "--identity-token", later.token())
	later.verifyBlob("after")
	for _, name := range []string{"before", "before.json"} {
		later.Write(name, u.Read(name))
	}
	later.verifyBlob("before")
	u.initialize("cosign3")
	u.verifyBlob("before")
	u.Run("sigstack", "fsck", "--url", server.URL)
	server.Stop()
	server.Restart()
	later.verifyBlob("after")
}
