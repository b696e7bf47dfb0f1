package main

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/spf13/cobra"

	"github.com/sigstack/sigstack/api"
	"github.com/sigstack/sigstack/ca"
	"github.com/sigstack/sigstack/trust"
)

// A testServer is a server with everything but its listeners, and a clock that the
// test moves.
type testServer struct {
	*server
	*caDir
	config string // the file
	clock  time.Time
	lines  bytes.Buffer

	readConfig func() (Config, error)
}

const oneIssuer = "url: https://sigstore.example.com\noidc-issuers:\n  https://one.example.com: {type: email}\n"

func newTestServer(t *testing.T) *testServer {
	t.Helper()
	s := &testServer{caDir: newCADir(t), clock: time.Now().Add(time.Minute)} // after all that the test makes
	s.config = s.file("sigstack.yaml")
	s.configure(oneIssuer)
	read := func() (Config, error) {
		cmd := &cobra.Command{}
		configFlags(cmd)
		for name, value := range map[string]string{"config": s.config, "data-dir": s.dir} {
			if err := cmd.Flags().Set(name, value); err != nil {
				t.Fatal(err)
			}
		}
		return loadConfig(cmd)
	}
	s.readConfig = read
	s.start()
	return s
}

// restart ends the server, and returns another one over the same files.
func (s *testServer) restart() *testServer {
	s.Helper()
	if err := s.close(); err != nil {
		s.Error(err)
	}
	s.closers = nil
	again := &testServer{caDir: s.caDir, config: s.config, clock: s.clock, readConfig: s.readConfig}
	again.start()
	return again
}

func (s *testServer) start() {
	s.Helper()
	t, read := s.T, s.readConfig
	c, err := read()
	if err != nil {
		t.Fatal(err)
	}
	s.server = &server{
		config: &c, first: c, source: configSource{s.config, read},
		logger: slog.New(slog.NewTextHandler(&s.lines, nil)), metrics: newRegistry(), now: func() time.Time { return s.clock },
	}
	s.requests = api.NewMetrics(s.metrics)
	if err := s.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	})
}

func (s *testServer) configure(text string) {
	s.Helper()
	if err := os.WriteFile(s.config, []byte(text), 0o600); err != nil {
		s.Fatal(err)
	}
}

// look looks at the files once, and returns what was logged meanwhile.
func (s *testServer) look() string {
	s.lines.Reset()
	s.watches[0].look(s.Context())
	return s.lines.String()
}

// in says what has to be in force.
func (s *testServer) in(what string, chain chainFile, issuers ...string) {
	s.Helper()
	now := s.inForce.Load()
	same(s.T, what, []chainFile{now.chains.active}, chain)
	var got []string
	for _, i := range now.verifier.Issuers() {
		got = append(got, i.URL)
	}
	if !slices.Equal(got, issuers) {
		s.Errorf("%s: issuers %v, want %v", what, got, issuers)
	}
	if !now.ca.Bundle()[0][0].Equal(chain.certs[0]) {
		s.Errorf("%s: the CA issues by another chain", what)
	}
	if err := now.ca.Ready(); err != nil {
		s.Errorf("%s: %v", what, err)
	}
}

// What changed is taken over as a whole or not at all, and what cannot be is said.
func TestReload(t *testing.T) {
	s := newTestServer(t)
	first := s.found().active
	const one, two = "https://one.example.com", "https://two.example.com"
	s.in("at the start", first, one)
	if log := s.look(); log != "" {
		t.Errorf("nothing changed: %s", log)
	}

	// A chain, and then issuers.
	s.sign("ca-2.pem", "second.pem")
	second := s.read(s.file("second.pem"))
	s.ok("ca", "install", "--chain", s.file("second.pem"), "--key", "file:"+s.key("ca-2.pem"))
	if log := s.look(); !strings.Contains(log, "certificates are issued by this chain") {
		t.Errorf("another chain: %s", log)
	}
	s.in("another chain", second, one)
	if b := s.inForce.Load().ca.Bundle(); len(b) != 2 || !b[1][0].Equal(first.certs[0]) {
		t.Errorf("%d chains in the trust bundle", len(b))
	}
	s.configure(oneIssuer + "  " + two + ": {type: email}\n")
	s.look()
	s.in("another issuer", second, one, two)

	// What cannot be used leaves all that was before, also the half that is good.
	cases := []struct {
		name   string
		change func() (undo func())
		want   string
	}{
		{"a mistake in the configuration", func() func() {
			s.configure(oneIssuer + "colour: red\n")
			return func() {}
		}, "colour"},
		{"no issuer", func() func() {
			s.configure("url: https://sigstore.example.com\n")
			return func() {}
		}, "none is configured"},
		{"no configuration", func() func() {
			if err := os.Remove(s.config); err != nil {
				t.Fatal(err)
			}
			return func() {}
		}, "no such file"},
		{"half of a chain, and another issuer", func() func() {
			s.write(s.key(caChain), chainFile{certs: second.certs[:1]}.text())
			s.configure(oneIssuer)
			return func() {}
		}, "not the next one"},
		{"a chain without its key", func() func() {
			s.write(s.key(caChain), chainFile{certs: second.certs, key: "none.pem"}.text())
			return func() {}
		}, "the CA's key"},
		{"a chain with another key", func() func() {
			s.write(s.key(caChain), chainFile{certs: second.certs, key: caKey}.text())
			return func() {}
		}, "another public key"},
		{"a retired chain that is none", func() func() {
			name := filepath.Join(s.caDir.keys, "ca-retired", "x.pem")
			s.write(name, []byte("x"))
			return func() { os.Remove(name) }
		}, "has no PEM certificate"},
	}
	good := func() {
		s.write(s.key(caChain), chainFile{certs: second.certs, key: "ca-2.pem"}.text())
		s.configure(oneIssuer + "  " + two + ": {type: email}\n")
	}
	for _, c := range cases {
		undo := c.change()
		if log := s.look(); !strings.Contains(log, "what was in force stays") || !strings.Contains(log, c.want) {
			t.Errorf("%s: %s, want %q", c.name, log, c.want)
		}
		if log := s.look(); log != "" {
			t.Errorf("%s is said twice: %s", c.name, log)
		}
		s.in(c.name, second, one, two)
		undo()
		good()
		if log := s.look(); log != "" {
			t.Errorf("after %s: %s", c.name, log)
		}
	}
	if n := s.watches[0].failures.Load(); int(n) != len(cases) {
		t.Errorf("%d failures, want %d", n, len(cases))
	}

	// The policy and the list of blocked keys.
	list := s.file("blocked")
	rules := "ca: {blocked-keys: " + list + "}\npolicy:\n  rules: [{name: ours, allow: 'identity.email == \"a@example.com\"'}]\n  default: deny\n  limits: {per-issuer: {certificates: 5, per: 1h}}\n"
	blocked := strings.Repeat("0a", 32)
	s.write(list, nil)
	s.configure(oneIssuer + rules)
	if log := s.look(); !strings.Contains(log, "taken over") || s.inForce.Load().policy == nil {
		t.Errorf("a policy: %s", log)
	}
	before := s.inForce.Load().policy
	s.write(list, []byte(blocked+"\n"))
	if log := s.look(); !strings.Contains(log, "taken over") || s.inForce.Load().policy == before {
		t.Errorf("a blocked key: %s", log)
	}
	if why := s.inForce.Load().blocked[[32]byte(bytes.Repeat([]byte{10}, 32))]; why == "" {
		t.Error("the key is not blocked")
	}
	s.write(list, []byte("nonsense\n"))
	if log := s.look(); !strings.Contains(log, "what was in force stays") || !strings.Contains(log, "ca.blocked-keys") {
		t.Errorf("a list that is none: %s", log)
	}
	s.write(list, nil)
	s.configure(oneIssuer + strings.Replace(rules, "identity.email ==", "identity.mail ==", 1))
	if log := s.look(); !strings.Contains(log, "what was in force stays") || !strings.Contains(log, "identity.mail") || s.inForce.Load().policy == nil {
		t.Errorf("a policy with a mistake: %s", log)
	}
	good()
	if log := s.look(); !strings.Contains(log, "taken over") || s.inForce.Load().policy != nil {
		t.Errorf("without a policy: %s", log)
	}

	// A chain that has no time left is not taken over.
	s.clock = first.certs[0].NotAfter.Add(-time.Minute)
	s.configure(oneIssuer)
	if log := s.look(); !strings.Contains(log, "ends at") {
		t.Errorf("a chain that ends: %s", log)
	}
	if err := s.inForce.Load().ca.Ready(); err == nil {
		t.Error("a chain that ends is ready")
	}
	s.clock = time.Now()

	// Settings that count at the start only are named.
	s.configure(oneIssuer + "drain-delay: 3s\nca: {key-type: p256}\nrekor: {max-entry-bytes: 2048}\n")
	if log := s.look(); !strings.Contains(log, `settings="drain-delay, ca.key-type, rekor.max-entry-bytes"`) {
		t.Errorf("settings that count at the start only: %s", log)
	}
	s.in("settings", second, one)

	count, err := testutil.GatherAndCount(s.metrics, "sigstack_ca_chain_expiry_timestamp_seconds")
	if err != nil || count != 2 {
		t.Errorf("%d chains in the metrics, %v", count, err)
	}
}

func (s *testServer) write(name string, data []byte) {
	s.Helper()
	if err := writeFile(name, data); err != nil {
		s.Fatal(err)
	}
}

// A new chain is in the trust root before it signs, and the one before stays
// there until after its last certificate, also when somebody replaced it by hand.
func TestReloadPublishes(t *testing.T) {
	s := newTestServer(t)
	first := s.found().active
	s.sign("ca-2.pem", "second.pem")
	second := s.read(s.file("second.pem"))
	s.ok("ca", "install", "--chain", s.file("second.pem"), "--key", "file:"+s.key("ca-2.pem"), "--announce")
	s.look()
	s.in("announced", first, "https://one.example.com")
	if !s.trust.Trusts(second.certs, s.clock.AddDate(1, 0, 0)) {
		t.Error("what was announced is not in the trust root")
	}

	// By hand: nothing is in ca.retired.
	s.write(s.key(caChain), chainFile{certs: second.certs, key: "ca-2.pem"}.text())
	if log := s.look(); !strings.Contains(log, "put it into ca.retired") {
		t.Errorf("replaced by hand: %s", log)
	}
	s.in("replaced by hand", second, "https://one.example.com")
	if !s.trust.Trusts(first.certs, s.clock.Add(24*time.Hour)) || s.trust.Trusts(first.certs, s.clock.AddDate(0, 0, 2)) {
		t.Error("the chain before does not end after its last certificate")
	}
	if b := s.inForce.Load().ca.Bundle(); len(b) != 2 {
		t.Errorf("%d chains in the trust bundle", len(b))
	}
	// Another root: the CT log accepts both.
	other := newCADir(t)
	s.ok("ca", "install", "--chain", other.key(caChain), "--key", "file:"+other.key(caKey))
	s.look()
	s.in("another root", other.found().active, "https://one.example.com")
	if n := len(*s.roots.Load()); n != 2 {
		t.Errorf("the CT log accepts %d roots", n)
	}
	if b := s.inForce.Load().ca.Bundle(); len(b) != 3 {
		t.Errorf("%d chains in the trust bundle", len(b))
	}
}

// Another replica, with another configuration, retires the chain in use. It signs
// on until its end is near, and is published anew then.
func TestRetiredElsewhere(t *testing.T) {
	s := newTestServer(t)
	first := s.found().active
	other := newCADir(t).found().active
	m := trust.Material{
		Operator:    "sigstore.example.com",
		Authorities: []trust.Authority{{URL: "https://sigstore.example.com", Chain: other.certs}},
		CTLogs:      []trust.Log{{URL: "https://sigstore.example.com", Key: s.ct.PublicKey()}},
		RekorV1:     []trust.Log{{URL: "https://sigstore.example.com", Key: s.shards.Load().signers[0].Public()}},
	}
	if err := s.trust.Publish(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	if log := s.look(); log != "" {
		t.Errorf("at once: %s", log)
	}
	s.in("retired elsewhere", first, "https://one.example.com")
	s.clock = s.clock.Add(25*time.Hour - ca.DefaultLifetime - trustAhead - 2*time.Second)
	if log := s.look(); strings.Contains(log, "published anew") {
		t.Errorf("before its end is near: %s", log)
	}
	s.clock = s.clock.Add(time.Minute)
	if log := s.look(); !strings.Contains(log, "published anew") {
		t.Errorf("its end is near: %s", log)
	}
	s.clock = s.clock.AddDate(0, 1, 0)
	s.in("published anew", first, "https://one.example.com")
	if log := s.look(); strings.Contains(log, "published anew") {
		t.Errorf("it is published already: %s", log)
	}

	// Where that cannot be published, nothing is signed.
	if err := s.trust.Publish(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	s.clock = s.clock.AddDate(0, 0, 2)
	if err := s.inForce.Load().ca.Ready(); err == nil || !strings.Contains(err.Error(), "trust root") {
		t.Errorf("a chain that is not trusted any more: %v", err)
	}
}

// What counts at the start only is told from what does not.
func TestFixed(t *testing.T) {
	a := Config{Listen: "a", DataDir: "d", CA: CAConfig{Chain: "c", KeyType: "p256"}, Keys: KeysConfig{CA: "file:a", CTLog: "file:c"}}
	b := a
	b.CA.Chain, b.CA.Next, b.CA.Retired, b.Keys.CA = "x", "x", "x", "x"
	if got := fixed(a, b); got != nil {
		t.Errorf("settings that count at once: %v", got)
	}
	b.Listen, b.TLS.Key, b.Keys.CTLog, b.LogLevel = "b", "k", "x", slog.LevelDebug
	if got := fmt.Sprint(fixed(a, b)); got != "[listen tls.key log-level keys.ctlog]" {
		t.Errorf("settings that do not: %v", got)
	}
}
