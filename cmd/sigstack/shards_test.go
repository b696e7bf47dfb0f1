package main

import (
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/sigstack/sigstack/tlog"
	"github.com/sigstack/sigstack/tlog/entry"
	"github.com/sigstack/sigstack/trust/keys"
)

func TestParseShards(t *testing.T) {
	for text, want := range map[string]string{
		"rekorv1.pem\n": "rekorv1.pem\n",
		"# the oldest first\na.pem # 2026\n\n  b.pem":   "a.pem\nb.pem\n",
		"a.pem\nnext   b.pem":                           "a.pem\nnext b.pem\n",
		"a.pem\nawskms:///alias/b\nnext gcpkms://x/y\n": "a.pem\nawskms:///alias/b\nnext gcpkms://x/y\n",

		"":                            "it names no key that signs",
		"# nothing\n":                 "it names no key that signs",
		"importing\n":                 "it names no key that signs",
		"importing # two\na.pem\nb\n": "importing\na.pem\nb\n",
		"next a.pem":                  "it names no key that signs",
		"a.pem\nnext b.pem\nc.pem\n":  `line 3 comes behind the one that begins with "next", which is the last`,
		"a.pem\nb.pem\na.pem\n":       "line 3 names a key that stands above",
		"a.pem\nnext a.pem\n":         "line 2 names a key that stands above",
		"keys/a.pem\n":                "line 1 is not the name of a file beside it, or a URI",
		"a.pem\nnext\n":               "line 2 is not the name of a file beside it, or a URI",
		"a.pem\n..\n":                 "line 2 is not the name of a file beside it, or a URI",
		"a.pem\nb\x01.pem\n":          "line 2 is not the name of a file beside it, or a URI",
		strings.Repeat("a.pem\n", 99): "line 2 names a key that stands above",
	} {
		got, err := parseShards([]byte(text))
		if err != nil && strings.HasPrefix(err.Error(), want) {
			continue
		}
		if err != nil || string(got.text()) != want {
			t.Errorf("%q: %q (%v), want %q", text, got.text(), err, want)
		}
	}
	var many strings.Builder
	for i := range maxShards + 1 {
		fmt.Fprintf(&many, "key-%d.pem\n", i)
	}
	if _, err := parseShards([]byte(many.String())); err == nil || !strings.Contains(err.Error(), "one too many") {
		t.Errorf("%d keys: %v", maxShards+1, err)
	}
}

// entries adds entries, and says under which indices they have to be.
func (s *testServer) entries(first, n int) {
	s.Helper()
	for i := first; i < first+n; i++ {
		e, err := s.rekor.Create(s.Context(), &entry.Entry{Body: fmt.Appendf(nil, `{"n":%d}`, i)})
		if err != nil {
			s.Fatal(err)
		}
		if e.LogIndex != uint64(i) {
			s.Fatalf("entry %d has index %d", i, e.LogIndex)
		}
	}
}

// lookShards looks at the list of keys once, and returns what was logged.
func (s *testServer) lookShards() string {
	s.lines.Reset()
	s.watches[1].look(s.Context())
	return s.lines.String()
}

// trees says how many there have to be, and whose keys the trust root has.
func (s *testServer) trees(what string, active int, published ...string) {
	s.Helper()
	if got := s.rekor.Active() + 1; got != active {
		s.Errorf("%s: tree %d is in use, want %d", what, got, active)
	}
	root, ok := s.trust.File("targets/trusted_root.json")
	if !ok {
		s.Fatal("there is no trust root")
	}
	instances, err := logInstances(root)
	if err != nil {
		s.Fatal(err)
	}
	var got []string
	for _, i := range instances {
		if i.ct {
			continue
		}
		state := "ended"
		if i.end.IsZero() {
			state = "in use"
		}
		for n, signer := range s.shards.Load().signers {
			if i.same(signer.Public()) {
				got = append(got, fmt.Sprintf("%d %s", n+1, state))
			}
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(published) {
		s.Errorf("%s: the trust root has the keys %q, want %q", what, got, published)
	}
}

// A server goes on in a new tree when the list has a new key, and has all of them
// again after a restart.
func TestShards(t *testing.T) {
	s := newTestServer(t)
	list := s.key("rekorv1-shards")
	s.entries(0, 3)
	if log := s.lookShards(); log != "" {
		t.Errorf("nothing changed: %s", log)
	}
	s.trees("at the start", 1, "1 in use")

	told := s.ok("rotate", "rekor", "--announce")
	if !strings.Contains(told, "The key of tree 2, file:"+s.key("rekorv1-2.pem")+", is announced") {
		t.Error(told)
	}
	s.lookShards()
	s.trees("announced", 1, "1 in use", "2 in use")
	s.entries(3, 1)
	if told := s.ok("rotate", "rekor"); !strings.Contains(told, "goes on in tree 2, with the key file:"+s.key("rekorv1-2.pem")) {
		t.Error(told)
	}
	if log := s.lookShards(); !strings.Contains(log, "goes on in a new tree") {
		t.Errorf("rotated: %s", log)
	}
	s.trees("rotated", 2, "1 ended", "2 in use")
	s.entries(4, 2)

	// A key from elsewhere, and twice in a row.
	if _, err := keys.Create(s.file("third.pem"), keys.P256); err != nil {
		t.Fatal(err)
	}
	s.ok("rotate", "rekor", "--key", "file:"+s.file("third.pem"))
	s.ok("rotate", "rekor")
	s.lookShards()
	s.trees("rotated twice", 4, "1 ended", "2 ended", "3 ended", "4 in use")
	s.entries(6, 1)
	data, err := os.ReadFile(list)
	if err != nil {
		t.Fatal(err)
	}
	if want := "rekorv1.pem\nrekorv1-2.pem\nfile:" + s.file("third.pem") + "\nrekorv1-4.pem\n"; string(data) != want {
		t.Errorf("the list is %q, want %q", data, want)
	}

	// The CA does not certify any of the keys.
	s.look()
	for i, signer := range s.shards.Load().signers {
		spki, err := x509.MarshalPKIXPublicKey(signer.Public())
		if err != nil {
			t.Fatal(err)
		}
		if why := s.inForce.Load().blocked[sha256.Sum256(spki)]; why != fmt.Sprintf("it is that of the transparency log's tree %d", i+1) {
			t.Errorf("key %d: %q", i+1, why)
		}
	}

	for what, text := range map[string]string{
		"a key less":   "rekorv1.pem\nrekorv1-2.pem\nfile:" + s.file("third.pem") + "\n",
		"another key":  "rekorv1.pem\nrekorv1-4.pem\nfile:" + s.file("third.pem") + "\nrekorv1-2.pem\n",
		"no such file": string(data) + "rekorv1-9.pem\n",
		"nonsense":     "next\n",
	} {
		if err := os.WriteFile(list, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if log := s.lookShards(); !strings.Contains(log, "what was in force stays") {
			t.Errorf("%s: %s", what, log)
		}
		s.trees(what, 4, "1 ended", "2 ended", "3 ended", "4 in use")
	}

	// At the next start, with a rotation that the list asks for.
	if err := os.WriteFile(list, data, 0o600); err != nil {
		t.Fatal(err)
	}
	s.ok("rotate", "rekor")
	again := s.restart()
	again.trees("after a restart", 5, "1 ended", "2 ended", "3 ended", "4 ended", "5 in use")
	for i := range uint64(7) {
		if e, err := again.rekor.ByIndex(t.Context(), i); err != nil || string(e.Body) != fmt.Sprintf(`{"n":%d}`, i) {
			t.Errorf("entry %d after a restart: %+v (%v)", i, e, err)
		}
	}
	again.entries(7, 1)
}

// A tree whose key clients cannot know is not opened, whoever froze the one before.
func TestShardUntrusted(t *testing.T) {
	s := newTestServer(t)
	s.entries(0, 1)
	signer, err := keys.Create(s.file("unknown.pem"), keys.P256)
	if err != nil {
		t.Fatal(err)
	}
	now := s.shards.Load()
	s.shards.Store(&openShards{signers: append(slices.Clone(now.signers), signer), signing: 2, content: now.content})
	if err := s.rekor.Rotate(t.Context()); err == nil || !strings.Contains(err.Error(), "the trust root does not hold the key of tree 2") {
		t.Errorf("rotating to an unknown key: %v", err)
	}
	_, err = s.rekor.Create(t.Context(), &entry.Entry{Body: []byte(`{"n":1}`)})
	if !errors.Is(err, tlog.ErrUnavailable) {
		t.Errorf("adding an entry: %v, want ErrUnavailable", err)
	}
	if err := s.publishShards(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.entries(1, 1)
}

// What cannot be a key of the next tree is refused, and the list stays.
func TestRotateRefuses(t *testing.T) {
	d := newCADir(t)
	for name, kind := range map[string]keys.Kind{"p384.pem": keys.P384, "good.pem": keys.P256} {
		if _, err := keys.Create(d.file(name), kind); err != nil {
			t.Fatal(err)
		}
	}
	refuse := func(want string, args ...string) {
		t.Helper()
		code, _, stderr := d.run(append([]string{"rotate", "rekor"}, args...)...)
		if code != exitError || !strings.Contains(stderr, want) {
			t.Errorf("%v: exit code %d, %s; want %q", args, code, stderr, want)
		}
	}
	refuse("is no ECDSA P-256 key", "--key", "file:"+d.file("p384.pem"))
	refuse("no such file", "--key", "file:"+d.file("none.pem"))
	refuse("is the key of a tree already", "--key", "file:"+d.key(rekorV1Key))
	text, err := os.ReadFile(d.key(rekorV1Key))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(d.file("copy.pem"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	refuse("is the key of tree 1 already", "--key", "file:"+d.file("copy.pem"))
	if there, err := exists(d.key("rekorv1-shards")); err != nil || there {
		t.Fatalf("there is a list (%v)", err)
	}
	d.ok("rotate", "rekor", "--key", "file:"+d.file("good.pem"), "--announce")
	refuse("is announced already", "--announce")
	refuse("is announced already", "--key", "file:"+d.file("good.pem"))
	if err := os.WriteFile(d.key("rekorv1-shards"), []byte("next\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	refuse("line 1 is not the name of a file beside it")
}
