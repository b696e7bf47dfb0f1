package keystore

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TokenPIN is the PIN of a token.
const TokenPIN = "731934"

// A Token is a token of SoftHSM in a directory of its own, seen through a module
// that can be told to fail. The module reads which fault it has at each call, and
// the two in the environment: Env.
type Token struct {
	Env []string // for the process that loads the module

	t      testing.TB
	dir    string
	module string
}

// NewToken makes a token with keys, each with its name as the label. It takes softhsm2, and a C compiler for the
// module (scripts/debian.sh).
func NewToken(t testing.TB, keys map[string]crypto.Signer) *Token {
	t.Helper()
	dir := t.TempDir()
	token := &Token{t: t, dir: dir, module: filepath.Join(dir, "module.so")}
	if err := os.Mkdir(filepath.Join(dir, "tokens"), 0o700); err != nil {
		t.Fatal(err)
	}
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	conf := write("softhsm2.conf", fmt.Appendf(nil, "directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\n", filepath.Join(dir, "tokens")))
	fault := write("fault", nil)
	write("pin", []byte(TokenPIN+"\n"))
	write("wrong-pin", []byte("000000\n"))
	token.Env = []string{"SOFTHSM2_CONF=" + conf, "KEYSTORE_MODULE=" + softHSM(t), "KEYSTORE_FAULT=" + fault}
	token.run(nil, "cc", "-std=gnu17", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", token.module, filepath.Join(sources(t), "module.c"), "-ldl")

	token.run(token.Env, "softhsm2-util", "--init-token", "--free", "--label", "sigstack", "--pin", TokenPIN, "--so-pin", "12345678")
	names := slices.Sorted(maps.Keys(keys))
	for i, name := range names {
		token.Import(name, fmt.Sprintf("%02x", i+1), keys[name])
	}
	return token
}

// Import puts another key into the token. Labels may stand twice, IDs may not.
func (k *Token) Import(label, id string, key crypto.Signer) {
	k.t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		k.t.Fatal(err)
	}
	path := filepath.Join(k.dir, "import.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		k.t.Fatal(err)
	}
	defer os.Remove(path)
	k.run(k.Env, "softhsm2-util", "--import", path, "--token", "sigstack", "--label", label, "--id", id, "--pin", TokenPIN)
}

// URI names a key of the token.
func (k *Token) URI(label string) string {
	return fmt.Sprintf("pkcs11:token=sigstack;object=%s?module-path=%s&pin-source=file:%s", label, k.module, filepath.Join(k.dir, "pin"))
}

// Dir is where the files pin and wrong-pin are.
func (k *Token) Dir() string { return k.dir }

// Set gives the module a fault, or None.
func (k *Token) Set(f Fault) {
	k.t.Helper()
	name := map[Fault]string{None: "", Silent: "silent", Throttled: "busy", Broken: "broken", Nonsense: "nonsense", Gone: "gone", WrongKey: "wrong"}[f]
	// Renamed, so that nobody reads half of it.
	if err := os.WriteFile(filepath.Join(k.dir, "fault.new"), []byte(name), 0o600); err != nil {
		k.t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(k.dir, "fault.new"), filepath.Join(k.dir, "fault")); err != nil {
		k.t.Fatal(err)
	}
}

func (k *Token) run(env []string, name string, args ...string) {
	k.t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		k.t.Fatalf("keystore: %s %s: %v; run scripts/debian.sh\n%s", name, strings.Join(args, " "), err, out)
	}
}

// softHSM is the module of Debian's libsofthsm2.
func softHSM(t testing.TB) string {
	t.Helper()
	for _, path := range []string{"/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/softhsm/libsofthsm2.so", "/usr/local/lib/softhsm/libsofthsm2.so"} {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	t.Fatal("keystore: libsofthsm2.so is not installed; run scripts/debian.sh")
	return ""
}

// sources is the folder of this package's C source.
func sources(t testing.TB) string {
	t.Helper()
	out, err := exec.Command("go", "list", "-f", "{{.Dir}}", "github.com/sigstack/sigstack/test/keystore").Output()
	if err != nil {
		t.Fatalf("keystore: finding its source: %v", err)
	}
	return filepath.Join(strings.TrimSpace(string(out)), "testdata")
}
