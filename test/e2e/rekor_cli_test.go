package e2e

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
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

// uploadPackages logs the packages of the public vectors, which rekor-cli reads
// and checks itself before it sends them.
func uploadPackages(t *testing.T, server *harness.Server) {
	u := newUser(t, server, "")
	for kind, stored := range map[string]string{"alpine": `"pkgname":"apache2-ctl"`, "rpm": `"Name":"test-package"`, "helm": `"algorithm":"sha256"`} {
		var vector struct {
			Request struct {
				Spec struct {
					PublicKey, Package struct{ Content []byte }
					Chart              struct{ Provenance struct{ Content []byte } }
				}
			}
		}
		text, err := os.ReadFile(filepath.Join(harness.Root(t), "test", "vectors", "rekor", kind+".json"))
		if err == nil {
			err = json.Unmarshal(text, &vector)
		}
		if err != nil {
			t.Fatal(err)
		}
		spec, artifact, key := vector.Request.Spec, kind+".artifact", kind+".pub"
		u.Write(artifact, append(spec.Package.Content, spec.Chart.Provenance.Content...))
		u.Write(key, spec.PublicKey.Content)

		what := []string{"--type", kind, "--artifact", artifact, "--public-key", key}
		out := u.rekorCLI(args("upload", what)...).Output()
		m := regexp.MustCompile(`Created entry at index \d+, available at: \S+/([0-9a-f]{80})`).FindStringSubmatch(out)
		if m == nil {
			t.Fatalf("rekor-cli upload of %s does not name the entry\n%s", kind, out)
		}
		uuid := m[1]
		if out := u.rekorCLI(args("upload", what)...).Output(); !strings.Contains(out, "Entry already exists") || !strings.Contains(out, uuid) {
			t.Errorf("a second rekor-cli upload of %s does not find entry %s\n%s", kind, uuid, out)
		}
		if out := u.rekorCLI("get", "--uuid", uuid, "--format", "json").Stdout; !strings.Contains(out, stored) {
			t.Errorf("rekor-cli get of %s does not print %s\n%s", kind, stored, out)
		}
		for _, by := range [][]string{what, {"--uuid", uuid}} {
			if out := u.rekorCLI(args("verify", by)...).Output(); !strings.Contains(out, "Entry Hash: "+uuid[16:]) {
				t.Errorf("rekor-cli verify %v does not print the entry's hash\n%s", by, out)
			}
		}
		format := "pgp"
		if kind == "alpine" {
			format = "x509"
		}
		u.found(uuid, "--public-key", key, "--pki-format", format)
		if kind != "helm" { // the digest is of the chart, which is not sent
			u.found(uuid, "--sha", u.digest(artifact))
		}
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

// attest logs a signed statement of a type, reads and verifies the entry, and
// finds it by everything that it holds.
func (u *user) attest(kind, artifact string, statement []byte, subject string) {
	t := u.t
	t.Helper()
	what := []string{"--type", kind, "--artifact", artifact, "--public-key", "key.pub", "--pki-format", "x509"}
	out := u.rekorCLI(args("upload", what)...).Output()
	m := regexp.MustCompile(`Created entry at index \d+, available at: \S+/([0-9a-f]{80})`).FindStringSubmatch(out)
	if m == nil {
		t.Fatalf("rekor-cli upload of %s does not name the entry\n%s", kind, out)
	}
	uuid := m[1]
	out = u.rekorCLI(args("upload", what)...).Output()
	if !strings.Contains(out, "Entry already exists") || !strings.Contains(out, uuid) {
		t.Errorf("a second rekor-cli upload does not find entry %s\n%s", uuid, out)
	}
	if out := u.rekorCLI(args("verify", what)...).Output(); !strings.Contains(out, "Entry Hash: "+uuid[16:]) {
		t.Errorf("rekor-cli verify of %s does not find entry %s\n%s", kind, uuid, out)
	}
	payload := sha256.Sum256(statement)
	out = u.rekorCLI("get", "--uuid", uuid, "--format", "json").Stdout
	var entry struct{ Attestation string }
	if err := json.Unmarshal([]byte(out), &entry); err != nil || !strings.Contains(out, hex.EncodeToString(payload[:])) || !strings.Contains(entry.Attestation, string(statement)) {
		t.Errorf("rekor-cli get %s does not show the statement and its hash: %v\n%s", uuid, err, out)
	}
	u.found(uuid, "--sha", hex.EncodeToString(payload[:]))
	u.found(uuid, "--sha", subject)
	u.found(uuid, "--public-key", "key.pub", "--pki-format", "x509")
}

// statement is an in-toto statement about README.txt.
func (u *user) statement() (text []byte, subject string) {
	u.t.Helper()
	u.artifact()
	subject = u.digest("README.txt")
	return fmt.Appendf(nil, `{"_type":"https://in-toto.io/Statement/v1","predicateType":"https://example.com/x","subject":[{"name":"README.txt","digest":{"sha256":%q}}]}`, subject), subject
}

const inTotoType = "application/vnd.in-toto+json"

func uploadInToto(t *testing.T, server *harness.Server) {
	u := newUser(t, server, "")
	statement, subject := u.statement()
	u.signWithOpenSSL()
	u.Write("pae", fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(inTotoType), inTotoType, len(statement), statement))
	u.Run("openssl", "dgst", "-sha256", "-sign", "key.pem", "-out", "sig", "pae")
	envelope, err := json.Marshal(map[string]any{"payloadType": inTotoType, "payload": statement, "signatures": []any{map[string]any{"sig": u.Read("sig")}}})
	if err != nil {
		t.Fatal(err)
	}
	u.Write("envelope.json", envelope)
	// Without a version, rekor-cli uploads but asks for what is no entry to verify.
	u.attest("intoto:0.0.1", "envelope.json", statement, subject)
	u.attest("intoto:0.0.2", "envelope.json", statement, subject)
	if out := u.rekorCLI("upload", "--type", "intoto", "--artifact", "envelope.json", "--public-key", "key.pub").Output(); !strings.Contains(out, "Entry already exists") {
		t.Errorf("rekor-cli upload without a version does not find version 0.0.2\n%s", out)
	}

	u.Write("envelope.json", []byte(strings.Replace(string(envelope), `"payload":"`, `"payload":"e30K`, 1)))
	u.Refuse("", "rekor-cli", u.rekorArgs(args("upload", "--type", "intoto", "--artifact", "envelope.json", "--public-key", "key.pub"))...)
}

func uploadCOSE(t *testing.T, server *harness.Server) {
	u := newUser(t, server, "")
	statement, subject := u.statement()
	u.Run("openssl", "genrsa", "-out", "key.pem", "2048")
	u.Run("openssl", "pkey", "-in", "key.pem", "-pubout", "-out", "key.pub")
	// PS256 and the type of the payload, in CBOR (RFC 9052, sections 3.1 and 4.4).
	text := func(b []byte) []byte { // of 24 to 65,535 bytes
		if len(b) < 1<<8 {
			return append([]byte{0x58, byte(len(b))}, b...)
		}
		return append(binary.BigEndian.AppendUint16([]byte{0x59}, uint16(len(b))), b...)
	}
	protected := text(append([]byte{0xa2, 1, 0x38, 36, 3, 0x78, byte(len(inTotoType))}, inTotoType...))
	payload := text(statement)
	u.Write("tbs", slices.Concat([]byte("\x84\x6aSignature1"), protected, []byte{0x40}, payload))
	u.Run("openssl", "dgst", "-sha256", "-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:32", "-sign", "key.pem", "-out", "sig", "tbs")
	message := slices.Concat([]byte{0xd2, 0x84}, protected, []byte{0xa0}, payload, text(u.Read("sig")))
	u.Write("message.cbor", message)
	u.attest("cose", "message.cbor", statement, subject)

	message[len(message)-1] ^= 1
	u.Write("message.cbor", message)
	u.Refuse("", "rekor-cli", u.rekorArgs(args("upload", "--type", "cose", "--artifact", "message.cbor", "--public-key", "key.pub"))...)
}

// recorded returns a part of the request of a recorded entry, base64 or not.
func (u *user) recorded(name string, path ...string) []byte {
	u.t.Helper()
	data, err := os.ReadFile(filepath.Join(harness.Root(u.t), "test", "vectors", "entries", name+".json"))
	if err != nil {
		u.t.Fatal(err)
	}
	for _, member := range append([]string{"request", "spec"}, path...) {
		var object map[string]json.RawMessage
		if err := json.Unmarshal(data, &object); err != nil {
			u.t.Fatalf("%s: %v", member, err)
		}
		data = object[member]
	}
	var raw []byte
	if json.Unmarshal(data, &raw) == nil {
		return raw
	}
	return data
}

// uploadKind logs an entry of a kind that rekor-cli makes of files, and finds it
// again.
func (u *user) uploadKind(what ...string) {
	u.t.Helper()
	out := u.rekorCLI(args("upload", what)...).Output()
	m := regexp.MustCompile(`/([0-9a-f]{80})`).FindStringSubmatch(out)
	if m == nil || !strings.Contains(out, "Created entry at index ") {
		u.t.Fatalf("rekor-cli upload does not name the entry\n%s", out)
	}
	if out := u.rekorCLI(args("upload", what)...).Output(); !strings.Contains(out, "Entry already exists") || !strings.Contains(out, m[1]) {
		u.t.Errorf("a second rekor-cli upload does not find entry %s\n%s", m[1], out)
	}
	if out := u.rekorCLI(args("verify", what)...).Output(); !strings.Contains(out, "Inclusion Proof:") || !strings.Contains(out, m[1][16:]) {
		u.t.Errorf("rekor-cli verify of entry %s\n%s", m[1], out)
	}
	if what[1] == "tuf" {
		u.found(m[1], what[4:]...)
	} else {
		u.found(m[1], "--sha", u.digest(what[3]))
	}
}

func uploadJar(t *testing.T, server *harness.Server) {
	u := newUser(t, server, "")
	u.Write("signed.jar", u.recorded("jar-timestamped", "archive", "content"))
	u.uploadKind("--type", "jar", "--artifact", "signed.jar")
}

func uploadTimestamp(t *testing.T, server *harness.Server) {
	u := newUser(t, server, "")
	u.Write("x.tsr", u.recorded("rfc3161-rsa", "tsr", "content"))
	u.uploadKind("--type", "rfc3161", "--artifact", "x.tsr")
}

func uploadTUF(t *testing.T, server *harness.Server) {
	u := newUser(t, server, "")
	u.Write("targets.json", u.recorded("tuf-targets", "metadata", "content"))
	u.Write("root.json", u.recorded("tuf-targets", "root", "content"))
	u.uploadKind("--type", "tuf", "--artifact", "targets.json", "--public-key", "root.json", "--pki-format", "tuf")
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
