package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"golang.org/x/crypto/acme/autocert"
)

// A madeCertificate is a certificate for a name, valid for three days from a time.
func madeCertificate(t *testing.T, serial int64, from time.Time) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), NotBefore: from, NotAfter: from.Add(72 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// TestACMEWaits follows the certificate of a name through refusals, a renewal that
// comes and one that does not, by a clock of its own. The ACME server is asked less
// and less often, and what it gave is served all the time.
func TestACMEWaits(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	var log bytes.Buffer
	c := &Config{DataDir: t.TempDir(), TLS: TLSConfig{ACME: ACMEConfig{Domains: []string{"a.example.com"}, DirectoryURL: "https://127.0.0.1:9/dir"}}}
	a, err := openACME(c, func() time.Time { return now }, slog.New(slog.NewJSONHandler(&log, nil)), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	var given *tls.Certificate
	refusal := errors.New("no viable challenge type found")
	a.ask = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		asked++
		if hello.ServerName != "a.example.com" {
			t.Errorf("asked for %q", hello.ServerName)
		}
		return given, refusal
	}
	// after moves the clock on, looks, and says what is served and how often the
	// server was asked and failures were counted since the beginning.
	after := func(d time.Duration, wantAsked, wantFailures int, served *tls.Certificate) {
		t.Helper()
		now = now.Add(d)
		a.look("a.example.com")
		if n := int(testutil.ToFloat64(a.failures)); asked != wantAsked || n != wantFailures {
			t.Errorf("%v: asked %d times, %d failures; want %d and %d", now, asked, n, wantAsked, wantFailures)
		}
		for _, name := range []string{"a.example.com", "A.example.com", "", "b.example.com"} {
			if cert, err := a.certificate(&tls.ClientHelloInfo{ServerName: name}); cert != served || (err == nil) != (served != nil) {
				t.Errorf("%v: %q is served %v (%v)", now, name, cert, err)
			}
		}
	}
	a.problems.keep("Connection refused by 192.0.2.1")
	after(0, 1, 1, nil)
	if !strings.Contains(log.String(), "Connection refused by 192.0.2.1") {
		t.Errorf("the log does not say the reason: %s", &log)
	}
	after(acmeFirstRetry-1, 1, 1, nil)
	after(1, 2, 2, nil)
	after(acmeFirstRetry, 2, 2, nil)
	after(acmeFirstRetry, 3, 3, nil)
	for range 20 { // up to an hour, and no longer
		now = now.Add(acmeLastRetry)
		a.look("a.example.com")
	}
	after(acmeLastRetry-1, 23, 23, nil)
	if expiry := a.expiry(); expiry != 0 {
		t.Errorf("without a certificate the metric says %v", expiry)
	}

	first := madeCertificate(t, 1, now)
	given, refusal = first, nil
	after(1, 24, 23, first)
	after(10*time.Second, 25, 23, first)
	after(50*time.Hour, 26, 23, first) // autocert is about to renew
	second := madeCertificate(t, 2, now)
	given = second
	after(10*time.Second, 27, 23, second)
	if expiry := a.expiry(); int64(expiry) != second.Leaf.NotAfter.Unix() {
		t.Errorf("the metric says %v, the certificate %d", expiry, second.Leaf.NotAfter.Unix())
	}
	// The next renewal does not come: that is said once, and the certificate is served.
	after(53*time.Hour, 28, 23, second)
	after(2*time.Hour, 29, 24, second)
	after(time.Hour, 30, 24, second)
	if n := strings.Count(log.String(), "is overdue"); n != 1 {
		t.Errorf("the log says %d times that the renewal is overdue", n)
	}
	third := madeCertificate(t, 3, now)
	given = third
	after(10*time.Second, 31, 24, third)
	after(56*time.Hour, 32, 25, third) // each one anew
	given, refusal = nil, errors.New("the disk is gone")
	after(10*time.Second, 33, 26, third)

	// A challenge is answered for the domains of the configuration alone.
	for _, name := range []string{"b.example.com", "", "../a.example.com"} {
		hello := &tls.ClientHelloInfo{ServerName: name, SupportedProtos: []string{"acme-tls/1"}}
		if cert, err := a.certificate(hello); err == nil {
			t.Errorf("a challenge for %q is answered with %v", name, cert)
		}
	}
}

func TestACMEConfiguration(t *testing.T) {
	dir := t.TempDir()
	check := func(text string) (Config, error) {
		name := filepath.Join(dir, "sigstack.yaml")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return loadFile(name)
	}
	const head = "dev: true\nurl: https://sigstore.example.com\n"
	for name, test := range map[string]struct{ text, want string }{
		"terms not accepted":  {head + "tls:\n  acme: {email: ops@example.com}\n", "tls.acme.accept-terms: is false"},
		"terms refused":       {head + "tls:\n  acme:\n    accept-terms: false\n    http-listen: localhost:80\n", ":5: tls.acme.accept-terms: is false"},
		"and a certificate":   {head + "tls:\n  acme: {accept-terms: true}\n  cert: a.pem\n  key: a.key\n", ":5: tls.cert: is given, and tls.acme as well"},
		"no url":              {"dev: true\ntls: {acme: {accept-terms: true}}\n", "url: is empty; with tls.acme"},
		"an http url":         {"dev: true\nurl: http://sigstore.example.com\ntls: {acme: {accept-terms: true}}\n", ":2: url: is http, but tls.acme"},
		"another domain":      {head + "tls:\n  acme:\n    accept-terms: true\n    domains: [other.example.com, a.example.com]\n", `:6: tls.acme.domains: "sigstore.example.com", the host in url, is not among other.example.com, a.example.com`},
		"a wildcard":          {head + "tls:\n  acme:\n    accept-terms: true\n    domains: [sigstore.example.com, '*.example.com']\n", `:6: tls.acme.domains: "*.example.com" is no host name`},
		"a name without dots": {"dev: true\nurl: https://localhost\ntls: {acme: {accept-terms: true}}\n", `tls.acme.domains: "localhost" is no host name with a dot`},
		"an address":          {"dev: true\nurl: https://192.0.2.1\ntls: {acme: {accept-terms: true}}\n", `tls.acme.domains: "192.0.2.1" is no host name`},
		"an http directory":   {head + "tls:\n  acme:\n    accept-terms: true\n    directory-url: http://acme.example.com/dir\n", ":6: tls.acme.directory-url: "},
		"no listen address":   {head + "tls: {acme: {accept-terms: true, http-listen: '80'}}\n", ":3: tls.acme.http-listen: "},
		"an unknown key":      {head + "tls: {acme: {accept-term: true}}\n", "tls.acme.accept-term: is not known; accept-terms is near"},
		"a list in a list":    {head + "tls: {acme: {accept-terms: true, domains: [[a]]}}\n", "tls.acme.domains: is a list; a text is required"},
	} {
		if _, err := check(test.text); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %s", name, err, test.want)
		}
	}
	for text, want := range map[string][]string{
		"": {"sigstore.example.com"},
		"    domains: [Sigstore.example.com, rekor.example.com]\n": {"sigstore.example.com", "rekor.example.com"},
		"    domains: sigstore.example.com, fulcio.example.com\n":  {"sigstore.example.com", "fulcio.example.com"},
	} {
		c, err := check(head + "tls:\n  acme:\n    accept-terms: true\n" + text)
		if err != nil || !slices.Equal(c.TLS.ACME.Domains, want) || c.scheme() != "https" {
			t.Errorf("%s: %v (%v), want %v", text, c.TLS.ACME.Domains, err, want)
		}
	}
	c, err := check("dev: true\nurl: https://sigstore.example.com\n")
	if err != nil || c.TLS.ACME.given() || c.scheme() != "http" {
		t.Errorf("without tls.acme: %+v, %v", c.TLS.ACME, err)
	}

	// What openACME finds out.
	empty := filepath.Join(dir, "empty.pem")
	if err := os.WriteFile(empty, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{empty: "holds no PEM certificate", filepath.Join(dir, "none.pem"): "no such file"} {
		c := &Config{DataDir: dir, TLS: TLSConfig{ACME: ACMEConfig{CACert: file, Domains: []string{"a.example.com"}}}}
		if _, err := openACME(c, time.Now, slog.New(slog.DiscardHandler), prometheus.NewRegistry()); err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "tls.acme.ca-cert: ") {
			t.Errorf("%s: %v, want %s", file, err, want)
		}
	}
}

// TestACMEFiles keeps what autocert stores from others, and refuses it where somebody
// has opened it to them.
func TestACMEFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "acme")
	cache := acmeCache{autocert.DirCache(dir)}
	if _, err := cache.Get(t.Context(), "a.example.com"); err != autocert.ErrCacheMiss {
		t.Errorf("a file that is not there: %v", err)
	}
	if err := cache.Put(t.Context(), "a.example.com", []byte("a key")); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "a.example.com")
	for name, want := range map[string]os.FileMode{dir: 0o700, file: 0o600} {
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v (%v), want %v", name, info.Mode(), err, want)
		}
	}
	for _, name := range []string{"a.example.com", "../a.example.com", "/x/../a.example.com"} {
		if data, err := cache.Get(t.Context(), name); string(data) != "a key" || err != nil {
			t.Errorf("%s: %q, %v", name, data, err)
		}
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o660} {
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
		if data, err := cache.Get(t.Context(), "a.example.com"); err == nil || data != nil || !strings.Contains(err.Error(), "chmod 0600 "+file) {
			t.Errorf("mode %v: %q, %v", mode, data, err)
		}
	}
	a := &acmeCertificate{domains: []string{"a.example.com"}}
	for host, want := range map[string]bool{
		"a.example.com": true, "A.Example.COM": true, "a.example.com:80": true,
		"b.example.com": false, "a.example.com.": false, "a.example.com.evil.example": false, "": false, ":80": false, "[::1]:80": false,
	} {
		if err := a.known(t.Context(), host); (err == nil) != want {
			t.Errorf("host %q: %v", host, err)
		}
	}
}
