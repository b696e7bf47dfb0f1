package main

import (
	"bytes"
	"crypto"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sigstack/sigstack/api/rekorv1"
	"github.com/sigstack/sigstack/ca/catest"
)

// TestWriteSettings reads all that is about who may write.
func TestWriteSettings(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sigstack.yaml")
	text := `trusted-proxies: [10.0.0.0/8, 192.0.2.7, "2001:db8::1"]
proxy-header: Forwarded
tls: {cert: a.pem, key: a.key}
rekor:
  algorithms: [ed25519, pgp]
  write:
    per-ip: {entries: 600, per: 1m}
    per-identity: {entries: 60, per: 90s}
    tokens-file: tokens
    client-ca: ca.pem
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := loadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	want := WriteConfig{LimitConfig{600, time.Minute}, LimitConfig{60, 90 * time.Second}, "tokens", "ca.pem"}
	if c.Rekor.Write != want || !slices.Equal(c.Rekor.Algorithms, []string{"ed25519", "pgp"}) {
		t.Errorf("%+v", c.Rekor)
	}
	if got := fmt.Sprint(c.proxies()); got != "{[10.0.0.0/8 192.0.2.7/32 2001:db8::1/128] Forwarded}" {
		t.Errorf("%s", got)
	}
	if c, err = loadFile(""); err != nil || c.Rekor.Write != (WriteConfig{}) || len(c.proxies().Trusted)+len(c.Rekor.Algorithms) > 0 {
		t.Errorf("%+v, %v", c.Rekor, err)
	}
}

// TestWriters takes over tokens and CAs that change, and nothing that cannot be used.
func TestWriters(t *testing.T) {
	dir := t.TempDir()
	tokens, cas := filepath.Join(dir, "tokens"), filepath.Join(dir, "ca.pem")
	hash := func(token string) string { h := sha256.Sum256([]byte(token)); return hex.EncodeToString(h[:]) }
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	authority := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: selfSigned(t, true).Raw}))
	leaf := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: selfSigned(t, false).Raw}))
	var lines bytes.Buffer
	s := &server{
		config: &Config{Rekor: RekorConfig{Write: WriteConfig{TokensFile: tokens, ClientCA: cas}}},
		logger: slog.New(slog.NewTextHandler(&lines, nil)), metrics: newRegistry(), now: time.Now,
	}
	write(tokens, "ci "+hash("one")+"\n")
	write(cas, authority)
	if err := s.openWriters(t.Context()); err != nil {
		t.Fatal(err)
	}
	names := func() (all []string) {
		for _, token := range s.writers.Load().Tokens {
			all = append(all, token.Name)
		}
		return all
	}
	first := s.writers.Load()
	s.watches[0].look(t.Context())
	if s.writers.Load() != first || !slices.Equal(names(), []string{"ci"}) || first.CAs == nil {
		t.Fatalf("%v %v", names(), first.CAs)
	}
	write(tokens, "ci "+hash("one")+"\nlaptop "+hash("two")+"\n")
	s.watches[0].look(t.Context())
	if !slices.Equal(names(), []string{"ci", "laptop"}) {
		t.Errorf("%v", names())
	}
	for _, test := range []struct{ tokens, cas, want string }{
		{"sigstack-write-secret", authority, "tokens: line 1 has 1 words"},
		{"", "", "ca.pem: it holds no PEM certificate"},
		{"", leaf, "certificate 1 is not that of a CA"},
		{"", authority + strings.ReplaceAll(authority, "CERTIFICATE", "PRIVATE KEY"), "only blocks CERTIFICATE belong there"},
		{"", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "certificate 1: "},
		{strings.Repeat("#", 65<<10), authority, "is longer than 65536 bytes"},
	} {
		lines.Reset()
		write(tokens, test.tokens)
		write(cas, test.cas)
		s.watches[0].look(t.Context())
		if !strings.Contains(lines.String(), test.want) || strings.Contains(lines.String(), "secret") || len(names()) != 2 {
			t.Errorf("%v: %s, want %s", names(), lines.String(), test.want)
		}
	}
	write(cas, authority)
	write(tokens, "")
	if err := os.Chmod(tokens, 0o640); err != nil {
		t.Fatal(err)
	}
	lines.Reset()
	s.watches[0].look(t.Context())
	if !strings.Contains(lines.String(), "0600") || len(names()) != 2 {
		t.Errorf("%v: %s", names(), lines.String())
	}
	if err := os.Chmod(tokens, 0o600); err != nil {
		t.Fatal(err)
	}
	s.watches[0].look(t.Context())
	if len(names()) != 0 {
		t.Errorf("%v", names())
	}
}

// TestIssued tells the certificates of our chains, the one before included, from others in their name.
func TestIssued(t *testing.T) {
	s := newTestServer(t)
	issue := func(issuer *x509.Certificate, key crypto.Signer) *x509.Certificate {
		t.Helper()
		template := &x509.Certificate{SerialNumber: big.NewInt(9), NotBefore: s.clock, NotAfter: s.clock.Add(time.Minute), EmailAddresses: []string{"dev@example.com"}}
		der, err := x509.CreateCertificate(rand.Reader, template, issuer, catest.ECDSA(t, elliptic.P256()).Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return cert
	}
	ours := s.inForce.Load().chains.active.certs[0]
	good := issue(ours, s.caKey)
	forger := catest.ECDSA(t, elliptic.P384())
	template := *ours
	template.PublicKey = forger.Public()
	forged := issue(&template, forger)
	check := func(when string) {
		t.Helper()
		if !s.issued(good) || s.issued(forged) {
			t.Errorf("%s: ours %v, forged %v", when, s.issued(good), s.issued(forged))
		}
	}
	check("at the start")
	s.sign("ca-2.pem", "second.pem")
	s.ok("ca", "install", "--chain", s.file("second.pem"), "--key", "file:"+s.key("ca-2.pem"))
	s.look()
	if s.inForce.Load().chains.active.certs[0].Equal(ours) {
		t.Fatal("the chain was not replaced")
	}
	check("after another chain")
}

// TestWriteToken prints a token, and the line that knows it.
func TestWriteToken(t *testing.T) {
	code, out, _ := command(t, "write-token", "release-builds")
	var token, name, digest string
	if n, err := fmt.Sscanf(out, "token: %s\nline: %s %s\n", &token, &name, &digest); code != exitOK || n != 3 || err != nil {
		t.Fatalf("exit code %d: %s", code, out)
	}
	if h := sha256.Sum256([]byte(token)); name != "release-builds" || digest != hex.EncodeToString(h[:]) {
		t.Errorf("%s", out)
	}
	if code, _, text := command(t, "write-token", "a b"); code != exitError || !strings.Contains(text, "is not a name") {
		t.Errorf("exit code %d: %s", code, text)
	}
}

// TestWriteRefusals: each reason is there from the start.
func TestWriteRefusals(t *testing.T) {
	r := newRegistry()
	writeRefusals(r)("per-ip")
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "sigstack_rekor_write_refusals_total" {
			sum := 0.0
			for _, m := range f.GetMetric() {
				sum += m.GetCounter().GetValue()
			}
			if len(f.GetMetric()) != len(rekorv1.Reasons()) || sum != 1 {
				t.Errorf("%v", f)
			}
			return
		}
	}
	t.Error("it is not there")
}
