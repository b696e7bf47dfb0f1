package main

import (
	"context"
	"crypto"
	"crypto/elliptic"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sigstack/sigstack/ca"
	"github.com/sigstack/sigstack/ca/catest"
	"github.com/sigstack/sigstack/trust/keys"
)

// A caDir is a data directory of "sigstack init" with what its owner has beside it.
type caDir struct {
	*testing.T
	dir, keys string // the data directory, and where its keys are
	aside     string // for files of the test
}

func newCADir(t *testing.T) *caDir {
	t.Helper()
	d := &caDir{T: t, dir: filepath.Join(t.TempDir(), "data"), aside: t.TempDir()}
	d.keys = filepath.Join(d.dir, "keys")
	d.ok("init")
	return d
}

func (d *caDir) run(args ...string) (int, string, string) {
	d.Helper()
	if args[0] == "init" || args[0] == "rotate" || args[0] == "ca" && args[1] != "sign" {
		args = append(slices.Clone(args), "--data-dir", d.dir, "--url", "https://sigstore.example.com")
	}
	return command(d.T, args...)
}

func (d *caDir) ok(args ...string) string {
	d.Helper()
	code, stdout, stderr := d.run(args...)
	if code != exitOK || stderr != "" {
		d.Fatalf("%v: exit code %d, %s", args, code, stderr)
	}
	return stdout
}

func (d *caDir) key(name string) string  { return filepath.Join(d.keys, name) }
func (d *caDir) file(name string) string { return filepath.Join(d.aside, name) }

// sign makes a key and has the root sign a chain for it.
func (d *caDir) sign(key, chain string) {
	d.Helper()
	d.ok("ca", "csr", "--new-key", d.key(key), "--out", d.file(chain+".csr"))
	d.ok("ca", "sign", "--root-key", "file:"+d.key(caRootKey), "--root-cert", d.key(caChain), "--csr", d.file(chain+".csr"), "--out", d.file(chain))
}

// found reads all chains as a server does.
func (d *caDir) found() *chains {
	d.Helper()
	c := &Config{DataDir: d.dir}
	s, err := readChains(c)
	if err == nil {
		err = s.open(d.Context(), c, func(ctx context.Context, uri string, _ crypto.PublicKey) (crypto.Signer, error) {
			return openKey(ctx, uri, nil)
		})
	}
	if err != nil {
		d.Fatal(err)
	}
	return s
}

func (d *caDir) read(name string) chainFile {
	d.Helper()
	f, _, err := readChainFile(name)
	if err != nil {
		d.Fatal(err)
	}
	return f
}

func same(t *testing.T, what string, got []chainFile, want ...chainFile) {
	t.Helper()
	if len(got) != len(want) || len(without(got, want)) > 0 {
		t.Errorf("%s: %d chains, want %d", what, len(got), len(want))
	}
}

// A chain is announced, installed and replaced; the first one is installed again.
// Each stays published.
func TestCAInstall(t *testing.T) {
	d := newCADir(t)
	first := d.found().active
	d.sign("ca-2.pem", "second.pem")
	second := d.read(d.file("second.pem"))
	if got := second.certs[0].Subject.String(); got != "CN=sigstack-intermediate,O=sigstore.example.com" || !second.certs[1].Equal(first.certs[1]) {
		t.Errorf("issuing certificate %s", got)
	}

	told := d.ok("ca", "install", "--chain", d.file("second.pem"), "--key", "file:"+d.key("ca-2.pem"), "--announce")
	if !strings.Contains(told, "is announced") || strings.Contains(told, "root is a new one") {
		t.Errorf("told: %s", told)
	}
	s := d.found()
	same(t, "active", []chainFile{s.active}, first)
	same(t, "next", s.next, second)
	same(t, "retired", s.retired)

	// What was announced says where its key is.
	announced := filepath.Join(d.keys, "ca-next", chainName(second.certs))
	told = d.ok("ca", "install", "--chain", announced)
	if !strings.Contains(told, "signs from now on") || !strings.Contains(told, "kill -HUP") {
		t.Errorf("told: %s", told)
	}
	s = d.found()
	same(t, "active", []chainFile{s.active}, second)
	same(t, "next", s.next)
	same(t, "retired", s.retired, first)
	if s.active.key != "ca-2.pem" {
		t.Errorf("the chain names the key %q", s.active.key)
	}
	if told = d.ok("ca", "install", "--chain", d.key(caChain)); !strings.Contains(told, "nothing was changed") {
		t.Errorf("told: %s", told)
	}

	// Another root.
	other := newCADir(t)
	third := other.found().active
	told = d.ok("ca", "install", "--chain", other.key(caChain), "--key", "file:"+other.key(caKey))
	if !strings.Contains(told, "Its root is a new one") {
		t.Errorf("told: %s", told)
	}
	s = d.found()
	same(t, "active", []chainFile{s.active}, third)
	same(t, "retired", s.retired, first, second)
	if s.active.key != "file:"+other.key(caKey) {
		t.Errorf("the chain names the key %q", s.active.key)
	}

	// The first again, from where it was kept, which says where its key is.
	d.ok("ca", "install", "--chain", filepath.Join(d.keys, "ca-retired", chainName(first.certs)))
	s = d.found()
	same(t, "active", []chainFile{s.active}, first)
	same(t, "retired", s.retired, second, third)
	if s.active.key != caKey {
		t.Errorf("the chain names the key %q", s.active.key)
	}

	shown := d.ok("ca", "show")
	for _, want := range []string{"active\n", "retired\n", "serial " + serial(first), "serial " + serial(third), d.key(caKey), "CN=sigstack,O=sigstore.example.com"} {
		if !strings.Contains(shown, want) {
			t.Errorf("show lacks %q:\n%s", want, shown)
		}
	}
	// The same key with another certificate is another chain.
	d.ok("ca", "csr", "--key", "file:"+d.key(caKey), "--out", d.file("again.csr"))
	d.ok("ca", "sign", "--root-key", "file:"+d.key(caRootKey), "--root-cert", d.key(caChain), "--csr", d.file("again.csr"), "--out", d.file("again.pem"))
	d.ok("ca", "install", "--chain", d.file("again.pem"))
	same(t, "retired", d.found().retired, first, second, third)
}

// An installation may end before each of its steps. There is always a chain with
// its key, nothing is lost, and to do it again does the rest.
func TestCAInstallInterrupted(t *testing.T) {
	for _, announced := range []bool{false, true} {
		steps := 1
		for at := 0; at < steps; at++ {
			d := newCADir(t)
			first := d.found().active
			d.sign("ca-2.pem", "second.pem")
			second := d.read(d.file("second.pem"))
			uri := "file:" + d.key("ca-2.pem")
			if announced {
				d.ok("ca", "install", "--chain", d.file("second.pem"), "--key", uri, "--announce")
			}
			var passed []string
			end := errors.New("the machine is off")
			i := installation{config: &Config{DataDir: d.dir}, now: time.Now, step: func(what string) error {
				passed = append(passed, what)
				if len(passed) == at+1 {
					return end
				}
				return nil
			}}
			if _, err := i.run(t.Context(), d.file("second.pem"), uri, false); !errors.Is(err, end) {
				t.Fatalf("step %d of %v: %v", at, passed, err)
			}
			name := fmt.Sprintf("before %q, announced %v", passed[at], announced)
			s := d.found()
			switch id := chainID(s.active.certs); {
			case passed[at] == "tidy up":
				if id != chainID(second.certs) {
					t.Errorf("%s: the new chain does not sign", name)
				}
				same(t, name+": retired", s.retired, first)
				same(t, name+": next", s.next)
			case id != chainID(first.certs):
				t.Errorf("%s: the chain before does not sign", name)
			default:
				same(t, name+": retired", s.retired)
			}
			i.step = nil
			if _, err := i.run(t.Context(), d.file("second.pem"), uri, false); err != nil {
				t.Errorf("%s: again: %v", name, err)
			}
			s = d.found()
			same(t, name+": active", []chainFile{s.active}, second)
			same(t, name+": retired", s.retired, first)
			same(t, name+": next", s.next)
			if left, err := os.ReadDir(filepath.Join(d.keys, "ca-next")); err == nil && len(left) > 0 {
				t.Errorf("%s: %v is left in ca-next", name, left)
			}
			if at == 0 { // find out how many there are
				passed = nil
				e := newCADir(t)
				e.sign("ca-2.pem", "second.pem")
				all := installation{config: &Config{DataDir: e.dir}, now: time.Now, step: func(what string) error { passed = append(passed, what); return nil }}
				if _, err := all.run(t.Context(), e.file("second.pem"), "file:"+e.key("ca-2.pem"), false); err != nil {
					t.Fatal(err)
				}
				if steps = len(passed); steps != 3 {
					t.Errorf("steps %q", passed)
				}
			}
		}
	}
}

// Nothing that could not sign takes the place of what does.
func TestCARefuses(t *testing.T) {
	d := newCADir(t)
	d.sign("ca-2.pem", "good.pem")
	good := d.read(d.file("good.pem"))
	root := good.certs[1]
	write := func(name string, data []byte) string {
		t.Helper()
		if err := os.WriteFile(d.file(name), data, 0o600); err != nil {
			t.Fatal(err)
		}
		return d.file(name)
	}
	chain := func(name string, certs ...*x509.Certificate) string {
		t.Helper()
		return write(name, chainFile{certs: certs}.text())
	}
	openKey := filepath.Join(t.TempDir(), "open.pem")
	if _, err := keys.Create(openKey, keys.P256); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(openKey, 0o644); err != nil {
		t.Fatal(err)
	}
	signer, err := keys.Open(t.Context(), "file:"+d.key("ca-2.pem"))
	if err != nil {
		t.Fatal(err)
	}
	ancient, err := ca.CreateHierarchy("old", catest.ECDSA(t, elliptic.P256()), signer, time.Now().AddDate(-20, 0, 0))
	if err != nil {
		t.Fatal(err)
	}
	future, err := ca.CreateHierarchy("new", catest.ECDSA(t, elliptic.P256()), signer, time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	text := string(good.text())
	key2 := "file:" + d.key("ca-2.pem")
	before := d.found()
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"csr: no key":            {[]string{"ca", "csr"}, "name one key"},
		"csr: two keys":          {[]string{"ca", "csr", "--key", key2, "--new-key", "x"}, "name one key"},
		"csr: key exists":        {[]string{"ca", "csr", "--new-key", d.key(caKey)}, "use it with --key file:"},
		"csr: out exists":        {[]string{"ca", "csr", "--key", key2, "--out", d.file("good.pem")}, "is there already"},
		"csr: mode":              {[]string{"ca", "csr", "--key", "file:" + openKey}, "chmod 0600"},
		"csr: no such key":       {[]string{"ca", "csr", "--key", "file:" + d.key("none.pem")}, "no such file"},
		"csr: scheme":            {[]string{"ca", "csr", "--key", "gopher:x"}, "not supported"},
		"sign: no flags":         {[]string{"ca", "sign"}, "required flag"},
		"sign: another root key": {[]string{"ca", "sign", "--root-key", key2, "--root-cert", d.key(caChain), "--csr", d.file("good.pem.csr")}, "intermediate certificate"},
		"sign: no root":          {[]string{"ca", "sign", "--root-key", "file:" + d.key(caRootKey), "--root-cert", chain("only.pem", good.certs[0]), "--csr", d.file("good.pem.csr")}, "is no root"},
		"sign: no request":       {[]string{"ca", "sign", "--root-key", "file:" + d.key(caRootKey), "--root-cert", d.key(caChain), "--csr", d.file("good.pem")}, "one PEM block"},
		"no chain":               {[]string{"ca", "install", "--chain", d.file("none.pem")}, "no such file"},
		"no flags":               {[]string{"ca", "install"}, "required flag"},
		"no certificate":         {[]string{"ca", "install", "--chain", write("empty.pem", nil)}, "has no PEM certificate"},
		"a key in it":            {[]string{"ca", "install", "--chain", d.key(caKey)}, "want only CERTIFICATE blocks"},
		"long":                   {[]string{"ca", "install", "--chain", write("long.pem", make([]byte, maxChainFile+1))}, "longer than"},
		"the key in use":         {[]string{"ca", "install", "--chain", d.file("good.pem")}, "another public key than the signer's; name its key with --key"},
		"another key":            {[]string{"ca", "install", "--chain", d.file("good.pem"), "--key", "file:" + d.key(caRootKey)}, "another public key"},
		"no root":                {[]string{"ca", "install", "--key", key2, "--chain", chain("rootless.pem", good.certs[0])}, "not the next one"},
		"wrong order":            {[]string{"ca", "install", "--key", key2, "--chain", chain("order.pem", root, good.certs[0])}, "not the next one"},
		"expired":                {[]string{"ca", "install", "--key", key2, "--chain", chain("expired.pem", ancient...)}, "ends at"},
		"not yet":                {[]string{"ca", "install", "--key", key2, "--chain", chain("early.pem", future...)}, "valid from"},
		"key with a directory":   {[]string{"ca", "install", "--chain", write("dir.pem", []byte(keyLine+"../ca.pem\n"+text))}, "the first line is not"},
		"key without a name":     {[]string{"ca", "install", "--chain", write("name.pem", []byte(keyLine+"\n"+text))}, "the first line is not"},
		"key that is not there":  {[]string{"ca", "install", "--chain", write("gone.pem", []byte(keyLine+"gone.pem\n"+text))}, "no such file"},
		"announce what signs":    {[]string{"ca", "install", "--chain", d.key(caChain), "--announce"}, "nothing to announce"},
		"show an argument":       {[]string{"ca", "show", "now"}, "unknown command"},
	} {
		code, stdout, stderr := d.run(test.args...)
		if code != exitError || stdout != "" || !strings.Contains(stderr, test.want) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%s: exit code %d, %q, %q; want %q", name, code, stdout, stderr, test.want)
		}
	}
	if after := d.found(); after.content != before.content {
		t.Error("what was refused changed the chains")
	}

	// What is retired is installed again, not announced.
	d.ok("ca", "install", "--chain", d.file("good.pem"), "--key", key2)
	kept := filepath.Join(d.keys, "ca-retired", chainName(before.active.certs))
	if code, _, stderr := d.run("ca", "install", "--chain", kept, "--announce"); code != exitError || !strings.Contains(stderr, "this chain is retired") {
		t.Errorf("announcing a retired chain: %d, %s", code, stderr)
	}
	// A chain in use that is damaged is not written over: it could not be kept.
	if err := os.WriteFile(d.key(caChain), []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := d.run("ca", "install", "--chain", kept); code != exitError || !strings.Contains(stderr, "the chain in use") {
		t.Errorf("over a damaged chain: %d, %s", code, stderr)
	}
}

// What ca.next and ca.retired hold is held against the same rules, and is bounded.
func TestChainDirectories(t *testing.T) {
	d := newCADir(t)
	active := d.found().active
	retired := filepath.Join(d.keys, "ca-retired")
	if err := os.Mkdir(retired, 0o700); err != nil {
		t.Fatal(err)
	}
	put := func(name string, f chainFile) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(retired, name), f.text(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	refused := func(want string) {
		t.Helper()
		if code, _, stderr := d.run("ca", "show"); code != exitError || !strings.Contains(stderr, want) {
			t.Errorf("exit code %d, %s, want %q", code, stderr, want)
		}
	}
	put("README.txt", chainFile{})
	put("active.pem", active)
	same(t, "the active one twice", d.found().retired)
	put("half.pem", chainFile{certs: active.certs[:1]})
	refused("not the next one")
	put("half.pem", chainFile{})
	refused("half.pem: has no PEM certificate")
	for n := range maxChains {
		put(fmt.Sprintf("%d.pem", n), active)
	}
	if err := os.Remove(filepath.Join(retired, "half.pem")); err != nil {
		t.Fatal(err)
	}
	refused("more than 100 chains")
	if err := os.Remove(filepath.Join(retired, "active.pem")); err != nil {
		t.Fatal(err)
	}
	d.ok("ca", "show")
}
