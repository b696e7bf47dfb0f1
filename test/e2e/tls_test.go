package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	fulciov2 "github.com/sigstack/sigstack/proto/fulcio/v2"
	"github.com/sigstack/sigstack/test/harness"
)

// An authority issues certificates for the loopback address.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{key: newP256(t)}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "a company's CA"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return a
}

func newP256(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// issue writes a server certificate and its key.
func (a *authority) issue(t *testing.T, serial int64, ends time.Duration, certFile, keyFile string) {
	t.Helper()
	key := newP256(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(ends),
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestTLS serves with a certificate of its own: to cosign, to HTTP/1.1, HTTP/2
// and gRPC. Another certificate is served without a restart, and what cannot be
// served is not.
func TestTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cert, key, root := filepath.Join(dir, "tls.pem"), filepath.Join(dir, "tls.key"), filepath.Join(dir, "root.pem")
	a := newAuthority(t)
	a.issue(t, 100, 30*time.Minute, cert, key)
	if err := os.WriteFile(root, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	server := harness.Start(t, "--config", harness.Config(t, "tls:\n  cert: "+cert+"\n  key: "+key+"\n"))
	if !strings.HasPrefix(server.URL, "https://") {
		t.Fatalf("it serves at %s", server.URL)
	}

	u := newUser(t, server, "tess@example.com")
	u.Setenv("SSL_CERT_FILE", root)
	u.initialize("cosign3")
	u.signBlob("blob", "--identity-token", u.token())
	u.Run("sigstack", "fsck", "--url", server.URL)
	for _, version := range []string{"1.1", "2"} {
		r := u.Run("curl", "-sS", "--cacert", root, "--http"+version, "-o", "/dev/null", "-w", "%{http_version} %{http_code}", server.URL+"/api/v1/log")
		if r.Stdout != version+" 200" {
			t.Errorf("HTTP/%s: %s", version, r.Stdout)
		}
	}
	u.Refuse("", "curl", "-sS", "--cacert", root, "--tls-max", "1.1", server.URL+"/api/v1/log")
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	addr := strings.TrimPrefix(server.URL, "https://")
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(credentials.NewClientTLSFromCert(pool, "")))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	bundle, err := fulciov2.NewCAClient(conn).GetTrustBundle(t.Context(), &fulciov2.GetTrustBundleRequest{})
	if err != nil || len(bundle.Chains) != 1 {
		t.Errorf("gRPC: %v, %v", bundle, err)
	}

	serial := func() int64 {
		c, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: pool})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
	}
	reload := func() {
		if err := syscall.Kill(server.PID(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	refused := func(why string) {
		t.Helper()
		server.Poll(time.Minute, "the server says why: "+why, func() bool {
			n, err := server.Metric(`sigstack_reload_failures_total{name="tls"}`)
			return err == nil && n >= 1 && strings.Contains(server.Log(), why)
		})
	}
	if n := serial(); n != 100 {
		t.Fatalf("serial number %d", n)
	}
	a.issue(t, 101, 30*time.Minute, cert, key)
	reload()
	server.Poll(time.Minute, "the new certificate is served", func() bool { return serial() == 101 })

	// A key of another certificate, as between two writes; an expired one; a key
	// that others may read. Each leaves the one before it.
	a.issue(t, 102, 30*time.Minute, filepath.Join(dir, "other.pem"), key)
	reload()
	refused("private key does not match")
	a.issue(t, 103, -time.Minute, cert, key)
	reload()
	refused("the certificate expired at")
	if err := os.Chmod(key, 0o644); err != nil {
		t.Fatal(err)
	}
	a.issue(t, 104, 30*time.Minute, cert, key)
	reload()
	refused("gives group or others rights to a secret")
	if n := serial(); n != 101 {
		t.Errorf("serial number %d after three that cannot be served", n)
	}
	if err := os.Chmod(key, 0o600); err != nil {
		t.Fatal(err)
	}
	reload()
	server.Poll(time.Minute, "the next certificate is served", func() bool { return serial() == 104 })
	if out := server.Log(); strings.Contains(out, "PRIVATE") {
		t.Error("a key is in the log")
	}
	u.signBlob("another", "--identity-token", u.token())
}
