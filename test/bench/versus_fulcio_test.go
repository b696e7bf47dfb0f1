package bench

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sigstack/sigstack/ca"
	"github.com/sigstack/sigstack/ca/catest"
	"github.com/sigstack/sigstack/test/harness"
)

// TestVersusFulcio measures sigstack, over its files and over the database, and
// the public implementation, which is fulcio with ct_server and a log server and a
// log signer of Trillian.
//
//	scripts/bench-vs-fulcio
//
// Both sides issue from an intermediate on P-256 below a root on P-256, have a CT
// log with a P-256 key, and accept the same ES256 tokens of the same issuer. Every
// certificate that they hand out is verified, with its SCT, when its run is over.
func TestVersusFulcio(t *testing.T) {
	bin, length := versusSettings(t, "bench-vs-fulcio")
	db := harness.StartMariaDB(t)
	issuer := startIssuer(t)

	config := harness.Config(t, certificateConfig("p256", issuer))
	var ours [][]figure
	for _, o := range []harness.Options{{}, {DSN: db.NewDatabase(t)}} {
		o.Args = []string{"--config", config}
		server, stack := sigstackWith(t, o)
		stack.check = embedsSCT(publishedCTKey(t, server))
		ours = append(ours, certificates(t, db, stack, issuer, length))
	}
	theirs := certificates(t, db, fulcioOver(t, db, bin, issuer), issuer, length)
	beside(t, length, column{"fulcio", theirs}, column{"sigstack", ours[0]}, column{"sigstack over MariaDB", ours[1]})
}

// certificates measures a stack with a Fulcio API, and stops it.
func certificates(t *testing.T, db *harness.MariaDB, s stack, issuer *catest.Issuer, length time.Duration) []figure {
	defer s.stop()
	requests := func(n int) [][]byte { return certificateRequests(t, s.addr, issuer, n) }
	var all []figure
	for _, c := range []struct {
		what    string
		clients int
	}{{"certificates, 1 client", 1}, {"certificates, 16 clients", 16}, {"certificates, 64 clients", 64}} {
		all = append(all, s.measure(t, db, c.what, c.clients, http.StatusOK, requests, length))
	}
	return all
}

// startIssuer starts an identity provider that signs ES256 tokens.
func startIssuer(t testing.TB) *catest.Issuer {
	server := httptest.NewUnstartedServer(nil)
	issuer := catest.NewIssuer(t, "http://"+server.Listener.Addr().String())
	server.Config.Handler = issuer
	server.Start()
	t.Cleanup(server.Close)
	return issuer
}

// issuersConfig is the part of a configuration that sigstack and fulcio read alike.
func issuersConfig(issuer *catest.Issuer) string {
	return fmt.Sprintf("oidc-issuers:\n  %[1]s:\n    issuer-url: %[1]s\n    client-id: %[2]s\n    type: email\n", issuer.URL, catest.Audience)
}

// certificateConfig is the configuration of a server that issues certificates.
func certificateConfig(keyType string, issuer *catest.Issuer) string {
	return fmt.Sprintf("ca: {key-type: %s}\n", keyType) + issuersConfig(issuer)
}

// embedsSCT returns a check that an answer holds a certificate, signed by the one
// that follows it, with one SCT, of the log with this key.
func embedsSCT(key *ecdsa.PublicKey) func(body []byte) error {
	return func(body []byte) error {
		var answer struct {
			SignedCertificateEmbeddedSct struct {
				Chain struct{ Certificates []string }
			}
		}
		if err := json.Unmarshal(body, &answer); err != nil {
			return err
		}
		var chain []*x509.Certificate
		for _, text := range answer.SignedCertificateEmbeddedSct.Chain.Certificates {
			block, _ := pem.Decode([]byte(text))
			if block == nil {
				return errors.New("a certificate is not PEM")
			}
			cert, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return err
			}
			chain = append(chain, cert)
		}
		if len(chain) != 3 {
			return fmt.Errorf("%d certificates, want the leaf, the intermediate and the root", len(chain))
		}
		if err := chain[0].CheckSignatureFrom(chain[1]); err != nil {
			return err
		}
		_, _, err := harness.VerifySCT(chain[0], chain[1], key)
		return err
	}
}

// publishedCTKey reads the CT log's key from the trust root of sigstack.
func publishedCTKey(t *testing.T, s *harness.Server) *ecdsa.PublicKey {
	resp, err := http.Get(s.URL + "/tuf/targets/trusted_root.json")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var root struct {
		Ctlogs []struct{ PublicKey struct{ RawBytes []byte } }
	}
	if err := json.Unmarshal(text, &root); err != nil || len(root.Ctlogs) != 1 {
		t.Fatalf("trusted_root.json: %d CT logs, want 1 (%v)", len(root.Ctlogs), err)
	}
	key, err := x509.ParsePKIXPublicKey(root.Ctlogs[0].PublicKey.RawBytes)
	if err != nil {
		t.Fatal(err)
	}
	return key.(*ecdsa.PublicKey)
}

// fulcioOver starts the public implementation with the settings that it has by
// default, and waits until it serves.
func fulcioOver(t *testing.T, db *harness.MariaDB, bin string, issuer *catest.Issuer) stack {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	root, intermediate, log := catest.ECDSA(t, elliptic.P256()), catest.ECDSA(t, elliptic.P256()), catest.ECDSA(t, elliptic.P256())
	chain, err := ca.CreateHierarchy("fulcio", root, intermediate, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	var chainPEM string
	for _, cert := range chain {
		chainPEM += string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}))
	}
	chainFile := write("chain.pem", chainPEM)
	rootFile := write("root.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: chain[1].Raw})))

	p := harness.NewPrograms(t, bin)
	rpc, tree := p.Trillian(db.NewDatabase(t))
	logAddr := harness.FreeAddr(t)
	p.Start("ct_server", "--log_rpc_server="+rpc, "--http_endpoint="+logAddr, "--log_config="+write("ct.cfg", fmt.Sprintf(`config {
	log_id: %s
	prefix: "test"
	roots_pem_file: "%s"
	private_key { [type.googleapis.com/keyspb.PrivateKey] { der: "%s" } }
	max_merge_delay_sec: 86400
	expected_merge_delay_sec: 120
	ext_key_usages: "CodeSigning"
}
`, tree, rootFile, escaped(pkcs8(t, log)))))
	harness.AwaitPort(t, logAddr)

	addr := harness.FreeAddr(t)
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	free := func() string {
		_, port, err := net.SplitHostPort(harness.FreeAddr(t))
		if err != nil {
			t.Fatal(err)
		}
		return port
	}
	p.Start("fulcio", "serve", "--log_type=prod", "--host=127.0.0.1", "--port="+port, "--grpc-host=127.0.0.1", "--grpc-port="+free(),
		"--metrics-port="+free(), "--legacy-unix-domain-socket=@sigstack-bench-"+port,
		"--ca=fileca", "--fileca-cert="+chainFile, "--fileca-key-passwd=none",
		"--fileca-key="+write("key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8(t, intermediate)}))),
		"--ct-log-url=http://"+logAddr+"/test", "--ct-log-public-key-path="+write("ctlog.pub", publicPEM(t, log.Public())),
		"--config-path="+write("config.yaml", issuersConfig(issuer)))
	harness.AwaitPort(t, addr)
	return stack{addr: addr, cpu: p.CPU, stop: p.Stop, check: embedsSCT(&log.PublicKey)}
}

// escaped writes bytes as the text form of protocol buffers has them.
func escaped(data []byte) (text string) {
	for _, b := range data {
		text += fmt.Sprintf(`\x%02x`, b)
	}
	return text
}

func pkcs8(t *testing.T, key *ecdsa.PrivateKey) []byte {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func publicPEM(t testing.TB, key crypto.PublicKey) string {
	spki, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki}))
}
