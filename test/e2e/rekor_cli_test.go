package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/sigstack/sigstack/test/harness"
)

// rekorCLI runs rekor-cli against the server.
func (u *user) rekorCLI(command ...string) harness.Result {
	u.t.Helper()
	return u.Run("rekor-cli", u.rekorArgs(command)...)
}

func (u *user) rekorArgs(command []string) []string {
	return args("--rekor_server", u.server.URL, command)
}

// artifact writes README.txt, which no other test has.
func (u *user) artifact() {
	u.t.Helper()
	u.Write("README.txt", []byte("artifact of "+u.t.Name()+" at "+u.Dir+"\n"))
}

func (u *user) digest(name string) string {
	u.t.Helper()
	sum := sha256.Sum256(u.Read(name))
	return hex.EncodeToString(sum[:])
}

// upload logs a rekord and reads it back in every way that rekor-cli has.
func (u *user) upload(format, signature, key string) {
	t := u.t
	t.Helper()
	digest := u.digest("README.txt")
	what := []string{"--type", "rekord", "--artifact", "README.txt", "--signature", signature,
		"--pki-format", format, "--public-key", key}

	created := regexp.MustCompile(`Created entry at index (\d+), available at: \S+/([0-9a-f]{80})`)
	out := u.rekorCLI(args("upload", what)...).Output()
	m := created.FindStringSubmatch(out)
	if m == nil {
		t.Fatalf("rekor-cli upload does not name the entry\n%s", out)
	}
	index, uuid := m[1], m[2]

	// A second upload finds the first one.
	out = u.rekorCLI(args("upload", what)...).Output()
	if !strings.Contains(out, "Entry already exists") || !strings.Contains(out, uuid) {
		t.Errorf("a second rekor-cli upload does not find entry %s\n%s", uuid, out)
	}

	for _, by := range [][]string{{"--log-index", index}, {"--uuid", uuid}} {
		out := u.rekorCLI(args("get", by, "--format", "json")...).Stdout
		var entry struct {
			Body struct {
				RekordObj struct {
					Data struct {
						Hash struct{ Algorithm, Value string }
					}
					Signature struct{ Format string }
				}
			}
			LogIndex       int
			IntegratedTime int64
			UUID, LogID    string
		}
		if err := json.Unmarshal([]byte(out), &entry); err != nil {
			t.Fatalf("rekor-cli get %v: %v\n%s", by, err, out)
		}
		object := entry.Body.RekordObj
		if strconv.Itoa(entry.LogIndex) != index || entry.UUID != uuid || entry.IntegratedTime == 0 || len(entry.LogID) != 64 ||
			object.Data.Hash.Algorithm != "sha256" || object.Data.Hash.Value != digest || object.Signature.Format != format {
			t.Errorf("rekor-cli get %v = %s, want index %s, UUID %s, digest %s, format %s", by, out, index, uuid, digest, format)
		}
	}

	for _, by := range [][]string{what, {"--uuid", uuid}, {"--log-index", index}} {
		out := u.rekorCLI(args("verify", by)...).Output()
		for _, want := range []string{"Current Root Hash: ", "Entry Hash: " + uuid[16:], "Entry Index in Current Tree: " + index, "Current Tree Size: ", "Inclusion Proof:"} {
			if !strings.Contains(out, want) {
				t.Errorf("rekor-cli verify %v does not print %q\n%s", by, want, out)
			}
		}
	}

	u.found(uuid, "--sha", digest)
	u.found(uuid, "--artifact", "README.txt")
	u.found(uuid, "--public-key", key, "--pki-format", format)

	// Curl shows the entry as any HTTP client gets it.
	out = u.Run("curl", "--silent", "--show-error", "--fail", u.server.URL+"/api/v1/log/entries/"+uuid).Stdout
	var entries map[string]logEntry
	if err := json.Unmarshal([]byte(out), &entries); err != nil {
		t.Fatalf("curl of entry %s: %v\n%s", uuid, err, out)
	}
	entry, ok := entries[uuid]
	if !ok || strconv.Itoa(entry.LogIndex) != index || len(entry.Verification.SignedEntryTimestamp) == 0 ||
		!strings.Contains(entry.Verification.InclusionProof.Checkpoint, "\n") {
		t.Errorf("curl of entry %s: %s", uuid, out)
	}

	// The signature does not fit another file.
	u.Write("other.txt", []byte("another file\n"))
	u.Refuse("", "rekor-cli", u.rekorArgs(args("upload", "--type", "rekord", "--artifact", "other.txt", "--signature", signature,
		"--pki-format", format, "--public-key", key))...)
}

// found fails unless a search finds the entry.
func (u *user) found(uuid string, query ...string) {
	u.t.Helper()
	if out := u.rekorCLI(args("search", query)...).Output(); !strings.Contains(out, uuid) {
		u.t.Errorf("rekor-cli search %v does not find %s\n%s", query, uuid, out)
	}
}

func uploadX509(t *testing.T, server *harness.Server) {
	u := newUser(t, server, "")
	u.artifact()
	u.signWithOpenSSL()
	u.upload("x509", "README.txt.sig", "key.pub")

	// Without --type rekor-cli logs a hashedrekord, which holds no artifact.
	out := u.rekorCLI("upload", "--artifact", "README.txt", "--signature", "README.txt.sig",
		"--pki-format", "x509", "--public-key", "key.pub").Output()
	if !strings.Contains(out, "Created entry at index ") {
		t.Errorf("rekor-cli upload of a hashedrekord does not name the entry\n%s", out)
	}
}

// signWithOpenSSL makes a key pair and signs README.txt.
func (u *user) signWithOpenSSL() {
	u.t.Helper()
	u.Run("openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "key.pem")
	u.Run("openssl", "ec", "-in", "key.pem", "-pubout", "-out", "key.pub")
	u.Run("openssl", "dgst", "-sha256", "-sign", "key.pem", "-out", "README.txt.sig", "README.txt")
}

func uploadPGP(t *testing.T, server *harness.Server) {
	u := newUser(t, server, "sybil@example.com")
	u.artifact()
	// The path of a socket has at most 107 bytes, and the agent of gpg makes
	// one in its home directory.
	home, err := os.MkdirTemp("", "gpg-")
	if err != nil {
		t.Fatal(err)
	}
	u.Setenv("GNUPGHOME", home)
	t.Cleanup(func() {
		u.Try("gpgconf", "--kill", "all") // the agent of this home directory only
		os.RemoveAll(home)
	})
	u.Run("gpg", "--batch", "--passphrase", "", "--quick-generate-key", "Sybil <"+u.email+">", "ed25519", "sign", "never")
	u.Run("gpg", "--batch", "--armor", "--output", "key.asc", "--export", u.email)
	u.Run("gpg", "--batch", "--armor", "--output", "README.txt.asc", "--detach-sign", "README.txt")
	u.upload("pgp", "README.txt.asc", "key.asc")

	digest := u.digest("README.txt")
	uuid := u.searchOne("--sha", digest)
	u.found(uuid, "--email", u.email)
	u.found(uuid, "--email", u.email, "--sha", digest, "--operator", "and")
	if out := u.Try("rekor-cli", u.rekorArgs([]string{"search", "--email", "nobody@example.com"})...).Output(); strings.Contains(out, uuid) {
		t.Errorf("a search for nobody finds %s\n%s", uuid, out)
	}
}

// searchOne returns the one UUID that a search finds.
func (u *user) searchOne(query ...string) string {
	u.t.Helper()
	out := u.rekorCLI(args("search", query)...).Output()
	found := regexp.MustCompile(`\b[0-9a-f]{80}\b`).FindAllString(out, -1)
	if len(found) != 1 {
		u.t.Fatalf("rekor-cli search %v finds %d entries, want 1\n%s", query, len(found), out)
	}
	return found[0]
}

func uploadSSH(t *testing.T, server *harness.Server) {
	u := newUser(t, server, "")
	u.artifact()
	u.Run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "trent@example.com", "-f", "id_ed25519")
	u.Run("ssh-keygen", "-Y", "sign", "-n", "file", "-f", "id_ed25519", "README.txt")
	u.upload("ssh", "README.txt.sig", "id_ed25519.pub")
}

func uploadMinisign(t *testing.T, server *harness.Server) {
	u := newUser(t, server, "")
	u.artifact()
	u.Run("minisign", "-G", "-W", "-p", "minisign.pub", "-s", "minisign.key")
	u.Run("minisign", "-S", "-s", "minisign.key", "-m", "README.txt")
	u.upload("minisign", "README.txt.minisig", "minisign.pub")
}

// watchLog lets rekor-cli compare two states of the log, as an auditor does.
func watchLog(t *testing.T, server *harness.Server) {
	u := newUser(t, server, "")
	u.artifact()
	u.signWithOpenSSL()
	what := []string{"--artifact", "README.txt", "--signature", "README.txt.sig", "--public-key", "key.pub", "--pki-format", "x509"}
	// A log without entries has no state to keep.
	u.rekorCLI(args("upload", what)...)

	size := func(first bool) int {
		t.Helper()
		out := u.rekorCLI("loginfo").Output()
		if !strings.Contains(out, "Verification Successful!") || strings.Contains(out, "unable to prove consistency") != first {
			t.Fatalf("rekor-cli loginfo does not verify the log, or not its consistency\n%s", out)
		}
		m := regexp.MustCompile(`Total Tree Size:\s*(\d+)`).FindStringSubmatch(out)
		if m == nil {
			t.Fatalf("rekor-cli loginfo names no tree size\n%s", out)
		}
		n, err := strconv.Atoi(m[1])
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := size(true)
	u.Write("README.txt", append(u.Read("README.txt"), "changed\n"...))
	u.Run("openssl", "dgst", "-sha256", "-sign", "key.pem", "-out", "README.txt.sig", "README.txt")
	u.rekorCLI(args("upload", what)...)
	// rekor-cli asks for a consistency proof between the size that it kept in
	// its home directory and this one.
	after := size(false)
	if after <= before {
		t.Errorf("tree size %d after an upload, before %d", after, before)
	}
	u.rekorCLI("logproof", "--first-size", strconv.Itoa(before), "--last-size", strconv.Itoa(after))
	u.Refuse("greater than what is currently observable", "rekor-cli", u.rekorArgs([]string{"logproof", "--last-size", "1000000"})...)
}
