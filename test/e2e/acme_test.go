package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	fulciov2 "github.com/sigstack/sigstack/proto/fulcio/v2"
	"github.com/sigstack/sigstack/test/harness"
)

// acmeHost is the name that the server gets a certificate for. It exists in the
// DNS server of this test, and for clients by the proxy of this test.
const acmeHost = "sigstore.example.test"

// A pebble is Let's Encrypt's ACME server for tests. It keeps nothing: after a
// restart its accounts are gone and its root is another one.
type pebble struct {
	*harness.Process
	Directory string
	Root      []byte // PEM
}

// startPebble starts an ACME server whose certificates are valid for so long. It
// validates tls-alpn-01 and http-01 at these ports.
func startPebble(t *testing.T, a *authority, listen string, valid time.Duration, tlsPort, httpPort string) *pebble {
	t.Helper()
	client := harness.NewClient(t)
	a.issue(t, 1, 30*time.Minute, client.Path("tls.pem"), client.Path("tls.key"))
	management := harness.FreeAddr(t)
	config := map[string]any{"pebble": map[string]any{
		"listenAddress": listen, "managementListenAddress": management,
		"certificate": client.Path("tls.pem"), "privateKey": client.Path("tls.key"),
		"tlsPort": number(tlsPort), "httpPort": number(httpPort), "keyAlgorithm": "ecdsa",
		"retryAfter": map[string]int{"authz": 1, "order": 1},
		"profiles":   map[string]any{"default": map[string]any{"description": "the only one", "validityPeriod": int(valid.Seconds())}},
	}}
	text, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	client.Write("pebble.json", text)
	client.Setenv("PEBBLE_VA_NOSLEEP", "1")
	client.Setenv("PEBBLE_AUTHZREUSE", "0") // every order is validated
	p := &pebble{Directory: "https://" + listen + "/dir"}
	p.Process = client.Start("pebble", "-config", "pebble.json", "-dnsserver", serveDNS(t))
	p.Line(time.Minute, "pebble listens", func(line string) bool { return strings.Contains(line, "ACME directory available at") })

	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	defer transport.CloseIdleConnections()
	until(t, "the root of pebble", func() error {
		res, err := (&http.Client{Transport: transport, Timeout: 10 * time.Second}).Get("https://" + management + "/roots/0")
		if err != nil {
			return err
		}
		defer res.Body.Close()
		p.Root, err = io.ReadAll(res.Body)
		return err
	})
	return p
}

// until repeats what may fail while a program starts.
func until(t *testing.T, what string, f func() error) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for limit := time.Now().Add(time.Minute); ; <-tick.C {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(limit) {
			t.Fatalf("%s: %v", what, err)
		}
	}
}

func number(port string) (n int) {
	fmt.Sscan(port, &n)
	return n
}

// serveDNS answers, over TCP as pebble asks, that every name has the address
// 127.0.0.1.
func serveDNS(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				for answerDNS(conn) == nil {
				}
			}()
		}
	}()
	return l.Addr().String()
}

// answerDNS answers one question (RFC 1035, section 4.2.2: two bytes of length come
// first).
func answerDNS(conn net.Conn) error {
	var size [2]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return err
	}
	packet := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(conn, packet); err != nil {
		return err
	}
	var m dnsmessage.Message
	if err := m.Unpack(packet); err != nil {
		return err
	}
	m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
	for _, q := range m.Questions {
		if q.Type == dnsmessage.TypeA {
			m.Answers = append(m.Answers, dnsmessage.Resource{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 1},
				Body:   &dnsmessage.AResource{A: [4]byte{127, 0, 0, 1}},
			})
		}
	}
	answer, err := m.Pack()
	if err != nil {
		return err
	}
	_, err = conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...))
	return err
}

// loopbackProxy is an HTTP proxy by which every host is this machine.
func loopbackProxy(t *testing.T) string {
	t.Helper()
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, port, err := net.SplitHostPort(r.Host)
		if r.Method != http.MethodConnect || err != nil {
			http.Error(w, "CONNECT alone", http.StatusMethodNotAllowed)
			return
		}
		to, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer to.Close()
		w.WriteHeader(http.StatusOK)
		from, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer from.Close()
		go func() {
			io.Copy(to, from)
			to.Close()
		}()
		io.Copy(from, to)
	}))
	t.Cleanup(proxy.Close)
	return proxy.URL
}

// TestACME has a server get its certificate from an ACME server, by both
// challenges, renew it, keep it over a restart while the ACME server is gone, and
// serve cosign, HTTP/1.1, HTTP/2 and gRPC with it.
func TestACME(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	dir := t.TempDir()
	ca := filepath.Join(dir, "acme-ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	listen, challenges, acme, nowhere := harness.FreeAddr(t), harness.FreeAddr(t), harness.FreeAddr(t), harness.FreeAddr(t)
	_, port, _ := net.SplitHostPort(listen)
	_, challengePort, _ := net.SplitHostPort(challenges)
	_, deadPort, _ := net.SplitHostPort(nowhere)

	// Certificates of 21 seconds, so that they are renewed after 14; by tls-alpn-01,
	// because nothing listens where http-01 would be validated.
	first := startPebble(t, a, acme, 21*time.Second, port, deadPort)
	config := fmt.Sprintf(`
url: https://%s:%s
tls:
  acme: {accept-terms: true, email: ops@example.com, directory-url: %q, ca-cert: %q, http-listen: %q}
`, acmeHost, port, first.Directory, ca, challenges)
	server := harness.Start(t, "--config", harness.Config(t, config), "--listen", listen)
	if server.URL != "https://"+acmeHost+":"+port {
		t.Fatalf("it serves at %s", server.URL)
	}
	serve := func(name string, root []byte) *x509.Certificate {
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(root)
		c, err := tls.Dial("tcp", listen, &tls.Config{ServerName: name, InsecureSkipVerify: true})
		if err != nil {
			return nil
		}
		defer c.Close()
		chain := c.ConnectionState().PeerCertificates
		between := x509.NewCertPool()
		for _, cert := range chain[1:] {
			between.AddCert(cert)
		}
		if _, err := chain[0].Verify(x509.VerifyOptions{DNSName: acmeHost, Roots: pool, Intermediates: between}); err != nil {
			return nil // of another root, or expired just now
		}
		return chain[0]
	}
	current := func(what string, root []byte, is func(*x509.Certificate) bool) (cert *x509.Certificate) {
		t.Helper()
		server.Poll(time.Minute, what, func() bool {
			syscall.Kill(server.PID(), syscall.SIGHUP) // look now
			cert = serve(acmeHost, root)
			return cert != nil && is(cert)
		})
		return cert
	}
	cert := current("a certificate is there", first.Root, func(*x509.Certificate) bool { return true })
	next := current("it is renewed", first.Root, func(c *x509.Certificate) bool { return c.SerialNumber.Cmp(cert.SerialNumber) != 0 })
	if !next.NotAfter.After(cert.NotAfter) {
		t.Errorf("the renewed certificate is valid until %s, the one before until %s", next.NotAfter, cert.NotAfter)
	}
	checkACMESecrets(t, server)
	server.Stop()
	first.Kill()

	// Long ones, by http-01: nothing listens where tls-alpn-01 would be validated.
	second := startPebble(t, a, acme, 90*24*time.Hour, deadPort, challengePort)
	server.Restart()
	cert = current("a certificate by http-01", second.Root, func(*x509.Certificate) bool { return true })
	if c := serve("", second.Root); c == nil || !c.Equal(cert) {
		t.Error("a client that names no host gets no certificate")
	}
	if expiry, err := server.Metric("sigstack_tls_certificate_expiry_seconds"); err != nil || int64(expiry) != cert.NotAfter.Unix() {
		t.Errorf("the metric says %v (%v), the certificate %d", expiry, err, cert.NotAfter.Unix())
	}
	checkChallengeListener(t, challenges)
	checkACMESecrets(t, server)
	server.Stop()
	second.Kill()

	// The ACME server is gone, and nobody notices.
	server.Restart()
	current("the certificate of the last start is served", second.Root, cert.Equal)
	root := filepath.Join(dir, "root.pem")
	if err := os.WriteFile(root, second.Root, 0o600); err != nil {
		t.Fatal(err)
	}
	proxy := loopbackProxy(t)
	u := newUser(t, server, "amy@example.com")
	u.Setenv("SSL_CERT_FILE", root)
	u.Setenv("HTTPS_PROXY", proxy)
	u.Setenv("https_proxy", proxy)
	u.initialize("cosign3")
	u.signBlob("blob", "--identity-token", u.token())
	for _, version := range []string{"1.1", "2"} {
		r := u.Run("curl", "-sS", "--cacert", root, "--http"+version, "-o", "/dev/null", "-w", "%{http_version} %{http_code}", server.URL+"/api/v1/log")
		if r.Stdout != version+" 200" {
			t.Errorf("HTTP/%s: %s", version, r.Stdout)
		}
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(second.Root)
	conn, err := grpc.NewClient(listen, grpc.WithTransportCredentials(credentials.NewClientTLSFromCert(pool, acmeHost)))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if bundle, err := fulciov2.NewCAClient(conn).GetTrustBundle(t.Context(), &fulciov2.GetTrustBundleRequest{}); err != nil || len(bundle.Chains) != 1 {
		t.Errorf("gRPC: %v, %v", bundle, err)
	}
	if n, err := server.Metric("sigstack_tls_acme_failures_total"); err != nil || n != 0 {
		t.Errorf("%v failures (%v)", n, err)
	}
	checkACMESecrets(t, server)

	// Others may read the key: it is refused, and whoever reads the log learns why.
	server.Stop()
	if err := os.Chmod(filepath.Join(server.Dir, "acme", acmeHost), 0o640); err != nil {
		t.Fatal(err)
	}
	server.Restart()
	server.Poll(time.Minute, "a key that others may read is refused", func() bool {
		n, err := server.Metric("sigstack_tls_acme_failures_total")
		return err == nil && n == 1 && strings.Contains(server.Log(), "gives group or others rights to a secret")
	})
	if c := serve(acmeHost, second.Root); c != nil {
		t.Error("a certificate is served whose key others may read")
	}
}

// checkChallengeListener asks the listener of http-01 for everything but a challenge.
func checkChallengeListener(t *testing.T, addr string) {
	t.Helper()
	for what, request := range map[string]struct {
		method, path, host string
		want               int
	}{
		"another path":          {"GET", "/api/v1/log", acmeHost, 404},
		"a signing request":     {"POST", "/api/v2/signingCert", acmeHost, 404},
		"a token that is none":  {"GET", "/.well-known/acme-challenge/none", acmeHost, 404},
		"the key of an account": {"GET", "/.well-known/acme-challenge/acme_account+key", acmeHost, 404},
		"a path upwards":        {"GET", "/.well-known/acme-challenge/..%2facme_account+key", acmeHost, 404},
		"a deeper path":         {"GET", "/.well-known/acme-challenge/a/b", acmeHost, 404},
		"another host":          {"GET", "/.well-known/acme-challenge/none", "other.example.test", 403},
		"another method":        {"POST", "/.well-known/acme-challenge/none", acmeHost, 404},
		"large headers":         {"GET", "/.well-known/acme-challenge/" + strings.Repeat("a", 80<<10), acmeHost, 431},
	} {
		req, err := http.NewRequestWithContext(t.Context(), request.method, "http://"+addr+request.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = request.host
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Errorf("challenge listener: %s: %v", what, err)
			continue
		}
		res.Body.Close()
		if res.StatusCode != request.want {
			t.Errorf("challenge listener: %s: %d, want %d", what, res.StatusCode, request.want)
		}
	}
}

// checkACMESecrets looks at the files of a server's certificate and account, and
// for their keys in its log.
func checkACMESecrets(t *testing.T, server *harness.Server) {
	t.Helper()
	dir := filepath.Join(server.Dir, "acme")
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%s: %v (%v)", dir, info, err)
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	log, secrets := server.Log(), 0
	for _, f := range files {
		info, err := f.Info()
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v (%v)", f.Name(), info.Mode(), err)
		}
		text, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		secret := false
		for line := range strings.Lines(string(text)) {
			switch line = strings.TrimSpace(line); {
			case strings.HasPrefix(line, "-----"):
				secret = strings.HasSuffix(line, "PRIVATE KEY-----") && strings.HasPrefix(line, "-----BEGIN")
			case secret:
				secrets++
				if strings.Contains(log, line) {
					t.Errorf("the log has the key in %s", f.Name())
				}
			}
		}
	}
	if secrets < 4 || strings.Contains(log, "PRIVATE") {
		t.Errorf("%d lines of keys in %s; the log has the word PRIVATE: %t", secrets, dir, strings.Contains(log, "PRIVATE"))
	}
}
