package e2e

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sigstack/sigstack/test/harness"
)

// through answers for a RoundTripper that changes requests on their way.
type through func(*http.Request) (*http.Response, error)

func (f through) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// from has a writer's requests come from an address, as a proxy says it.
func (w *writer) from(address string) *writer {
	sends := *w
	sends.client = &http.Client{Transport: through(func(r *http.Request) (*http.Response, error) {
		r.Header.Set("X-Forwarded-For", address)
		return w.client.Transport.RoundTrip(r)
	})}
	return &sends
}

// refused fails unless a write is refused with a status and a text.
func (w *writer) refused(server *harness.Server, status int, text string) {
	w.t.Helper()
	if _, err := w.write(server); err == nil || !strings.HasPrefix(err.Error(), fmt.Sprint(status, " ")) || !strings.Contains(err.Error(), text) {
		w.t.Errorf("%v, want %d %s", err, status, text)
	}
}

func (w *writer) accepted(server *harness.Server) {
	w.t.Helper()
	if _, err := w.write(server); err != nil {
		w.t.Error(err)
	}
}

// TestWriteTokens: unmodified clients, which send no token, are told what is missing, and read; a
// proxy that adds one lets them write. Neither log nor answers have the token.
func TestWriteTokens(t *testing.T) {
	t.Parallel()
	tokens := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(tokens, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	server := harness.Start(t, "--config", harness.Config(t, "trusted-proxies: [127.0.0.1]\nrekor: {write: {tokens-file: "+tokens+"}}\n"))
	u := newUser(t, server, "tom@example.com")
	u.initialize("cosign3")
	var token, line string
	if n, err := fmt.Sscanf(strings.ReplaceAll(u.Run("sigstack", "write-token", "release-builds").Stdout, "\nline: release-builds ", " "), "token: %s %s\n", &token, &line); n != 2 {
		t.Fatal(err)
	}
	newWriter(t).refused(server, 401, "no token may add entries to this log at present")
	if err := os.WriteFile(tokens, []byte("# for CI\nrelease-builds "+line+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(server.PID(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	server.Poll(time.Minute, "the token is taken over", func() bool {
		n, err := server.Metric(`sigstack_reloads_total{name="writers"}`)
		return err == nil && n == 1
	})

	const missing = "takes a bearer token"
	u.artifact()
	u.signWithOpenSSL()
	upload := args("upload", "--artifact", "README.txt", "--signature", "README.txt.sig", "--pki-format", "x509", "--public-key", "key.pub", "--type", "rekord")
	u.Refuse(missing, "rekor-cli", u.rekorArgs(upload)...)
	u.Write("blob", []byte("blob of "+t.Name()+"\n"))
	u.Refuse(missing, "cosign3", "sign-blob", "--yes", "--identity-token", u.token(), "--bundle", "blob.json", "blob")
	u.Refuse(missing, "cosign2", args("sign-blob", "--yes", u.urls(), "--identity-token", u.token(), "--bundle", "old.json", "blob")...)
	u.Run("rekor-cli", u.rekorArgs(args("loginfo"))...)
	for _, reason := range []string{"bad-token", "per-ip"} {
		if n, err := server.Metric(fmt.Sprintf("sigstack_rekor_write_refusals_total{reason=%q}", reason)); n != 0 || err != nil {
			t.Errorf("%s: %v, %v", reason, n, err)
		}
	}
	if n, err := server.Metric(`sigstack_rekor_write_refusals_total{reason="no-credentials"}`); n < 4 || err != nil {
		t.Errorf("no-credentials: %v, %v", n, err)
	}

	target, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	bearer := token
	proxy := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Header.Set("X-Forwarded-For", "203.0.113.7")
		r.Out.Header.Set("Authorization", "Bearer "+bearer)
	}})
	t.Cleanup(proxy.Close)
	behind := newUser(t, server.Behind(proxy.URL), "")
	behind.artifact()
	behind.signWithOpenSSL()
	if out := behind.rekorCLI(upload...).Output(); !strings.Contains(out, "Created entry at index") {
		t.Errorf("through a proxy: %s", out)
	}
	bearer = token[1:]
	behind.Refuse("the bearer token is not one that may add entries", "rekor-cli", behind.rekorArgs(upload)...)
	log := server.Log()
	if strings.Contains(log, token) || strings.Contains(log, line) {
		t.Error("the token or its digest is in the log")
	}
	entry := func(line string) bool {
		return strings.Contains(line, `"path":"/api/v1/log/entries"`) && strings.Contains(line, `"status":201`) &&
			strings.Contains(line, `"remote":"203.0.113.7"`) && strings.Contains(line, `"writer":"release-builds"`)
	}
	found := false
	for line := range strings.Lines(log) {
		found = found || entry(line)
	}
	if !found {
		t.Errorf("the access log has not who has written, and from where\n%s", log)
	}
}

// TestWriteLimits: an address, and a network of IPv6, has so many submissions; a key so many entries.
func TestWriteLimits(t *testing.T) {
	t.Parallel()
	server := harness.Start(t, "--config", harness.Config(t, `trusted-proxies: [127.0.0.1]
rekor:
  algorithms: [ecdsa-sha2-256-nistp256]
  write:
    per-ip: {entries: 3, per: 24h}
    per-identity: {entries: 4, per: 24h}
`))
	w := newWriter(t)
	for range 3 {
		w.from("203.0.113.1").accepted(server)
	}
	const tooMany = "too many entries from this address: 3 per 24h0m0s are allowed; try again in "
	w.from("203.0.113.1").refused(server, 429, tooMany)
	w.from("198.51.100.9, 203.0.113.1").refused(server, 429, tooMany)
	w.from("2001:db8::1").accepted(server)
	const byKey = "too many entries by this identity: 4 per 24h0m0s are allowed; try again in "
	w.from("2001:db8::2").refused(server, 429, byKey)
	newWriter(t).from("2001:db8::3").accepted(server)
	newWriter(t).from("2001:db8::4").refused(server, 429, tooMany)
	u := newUser(t, server, "")
	u.artifact()
	u.Run("openssl", "genrsa", "-out", "key.pem", "2048")
	u.Run("openssl", "rsa", "-in", "key.pem", "-pubout", "-out", "key.pub")
	u.Run("openssl", "dgst", "-sha256", "-sign", "key.pem", "-out", "README.txt.sig", "README.txt")
	u.Refuse("entry algorithms are not allowed: it is signed by rsa-sign-pkcs1-2048-sha256", "rekor-cli",
		u.rekorArgs(args("upload", "--artifact", "README.txt", "--signature", "README.txt.sig", "--pki-format", "x509", "--public-key", "key.pub", "--type", "rekord"))...)
	for reason, want := range map[string]float64{"per-ip": 3, "per-identity": 1, "algorithm": 1, "kind": 0} {
		if n, err := server.Metric(fmt.Sprintf("sigstack_rekor_write_refusals_total{reason=%q}", reason)); n != want || err != nil {
			t.Errorf("%s: %v, %v; want %v", reason, n, err, want)
		}
	}
}

// TestWriteCertificates: reading takes no certificate, writing takes a good one of a CA that counts now.
func TestWriteCertificates(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cert, key, cas := filepath.Join(dir, "tls.pem"), filepath.Join(dir, "tls.key"), filepath.Join(dir, "clients.pem")
	serves, first, second := newAuthority(t), newAuthority(t), newAuthority(t)
	serves.issue(t, 100, 30*time.Minute, cert, key)
	trust := func(a *authority) {
		t.Helper()
		if err := os.WriteFile(cas, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	trust(first)
	root := filepath.Join(dir, "root.pem")
	if err := os.WriteFile(root, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: serves.cert.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	server := harness.Start(t, "--config", harness.Config(t, "tls: {cert: "+cert+", key: "+key+"}\nrekor: {write: {client-ca: "+cas+"}}\n"))
	pool := x509.NewCertPool()
	pool.AddCert(serves.cert)
	with := func(certificates ...tls.Certificate) *writer {
		w := newWriter(t)
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: certificates}, ForceAttemptHTTP2: true}
		t.Cleanup(transport.CloseIdleConnections)
		w.client = &http.Client{Transport: transport}
		return w
	}
	without, known, other, expired := with(), with(first.client(t, time.Minute)), with(second.client(t, time.Minute)), with(first.client(t, -time.Minute))
	res, err := without.client.Get(server.URL + "/api/v1/log")
	if err != nil || res.StatusCode != http.StatusOK || res.ProtoMajor != 2 {
		t.Fatalf("reading without a certificate: %v, %v", res, err)
	}
	res.Body.Close()
	u := newUser(t, server, "")
	u.Setenv("SSL_CERT_FILE", root)
	if r := u.Run("curl", "-sS", "--http1.1", "-o", "/dev/null", "-w", "%{http_version} %{http_code}", server.URL+"/api/v1/log"); r.Stdout != "1.1 200" {
		t.Errorf("HTTP/1.1: %s", r.Stdout)
	}
	without.refused(server, 403, "takes a TLS client certificate")
	known.accepted(server)
	expired.refused(server, 403, "it has expired")
	other.refused(server, 403, "it does not come from a CA that this server trusts for that")
	// A client that has several certificates is told which CAs are meant.
	var asked [][]byte
	choosy := with()
	choosy.client.Transport.(*http.Transport).TLSClientConfig.GetClientCertificate = func(info *tls.CertificateRequestInfo) (*tls.Certificate, error) {
		asked = info.AcceptableCAs
		return new(tls.Certificate), nil
	}
	choosy.refused(server, 403, "takes a TLS client certificate")
	if len(asked) != 1 || !bytes.Equal(asked[0], first.cert.RawSubject) {
		t.Errorf("the server asks for certificates of %q", asked)
	}
	u.artifact()
	u.signWithOpenSSL()
	u.Refuse("takes a TLS client certificate", "rekor-cli",
		u.rekorArgs(args("upload", "--artifact", "README.txt", "--signature", "README.txt.sig", "--pki-format", "x509", "--public-key", "key.pub", "--type", "rekord"))...)
	if log := server.Log(); !strings.Contains(log, `"writer":"CN=builder"`) {
		t.Errorf("the access log has not who has written\n%s", log)
	}

	// Another CA counts for connections that there are already, too.
	trust(second)
	if err := syscall.Kill(server.PID(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	server.Poll(time.Minute, "the CA is taken over", func() bool {
		n, err := server.Metric(`sigstack_reloads_total{name="writers"}`)
		return err == nil && n == 1
	})
	known.refused(server, 403, "it does not come from a CA that this server trusts for that")
	with(second.client(t, time.Minute)).accepted(server)
}

// client makes a certificate of a client.
func (a *authority) client(t *testing.T, ends time.Duration) tls.Certificate {
	t.Helper()
	key := newP256(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "builder"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(30 * ends),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
