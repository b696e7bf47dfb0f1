package e2e

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sigstack/sigstack/ca/catest"
	"github.com/sigstack/sigstack/test/harness"
)

// A tlsProvider is an identity provider with a certificate of a company's CA. What its
// issuers answer depends on their names.
type tlsProvider struct {
	base    string // https://127.0.0.1:port
	issuers map[string]*catest.Issuer
	canary  string // where it would send the server
	asked   sync.Map
}

// count is how often a path was asked for.
func (p *tlsProvider) count(path string) int64 {
	n, _ := p.asked.LoadOrStore(path, new(atomic.Int64))
	return n.(*atomic.Int64).Load()
}

func (p *tlsProvider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n, _ := p.asked.LoadOrStore(r.URL.Path, new(atomic.Int64))
	n.(*atomic.Int64).Add(1)
	name, rest, _ := strings.Cut(r.URL.Path[1:], "/")
	issuer := p.issuers[name]
	switch {
	case issuer == nil:
		http.NotFound(w, r)
		return
	case name == "moved", name == "moved-keys" && rest == "keys":
		http.Redirect(w, r, p.canary+r.URL.Path, http.StatusFound)
		return
	case name == "huge", name == "huge-keys" && rest == "keys":
		_, _ = io.WriteString(w, `{"padding":"`+strings.Repeat("x", 8<<20)+`"}`) // to a server that hangs up
		return
	}
	answer, err := issuer.RoundTrip(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	w.Header().Set("Content-Type", answer.Header.Get("Content-Type"))
	w.WriteHeader(answer.StatusCode)
	_, _ = io.Copy(w, answer.Body)
}

// TestProvidersOverTLS has the server trust issuers whose certificates come from a CA
// of their own. It starts while they are down; each that misbehaves harms only its own
// users; and however many tokens with unknown keys come, an issuer is asked again at
// most once a minute.
func TestProvidersOverTLS(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	dir := t.TempDir()
	a.issue(t, 7, 30*time.Minute, filepath.Join(dir, "tls.pem"), filepath.Join(dir, "tls.key"))
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "tls.pem"), filepath.Join(dir, "tls.key"))
	if err != nil {
		t.Fatal(err)
	}
	var heard atomic.Int64
	canary := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { heard.Add(1) }))
	defer canary.Close()

	addr := harness.FreeAddr(t)
	p := &tlsProvider{base: "https://" + addr, issuers: map[string]*catest.Issuer{}, canary: canary.URL}
	root := strings.ReplaceAll(strings.TrimSpace(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}))), "\n", "\n      ")
	var config strings.Builder
	config.WriteString("oidc-issuers:\n")
	for _, name := range []string{"good", "untrusted", "moved", "moved-keys", "huge", "huge-keys"} {
		p.issuers[name] = catest.NewIssuer(t, p.base+"/"+name)
		fmt.Fprintf(&config, "  %s:\n    issuer-url: %s/%s\n    client-id: %s\n    type: email\n", name, p.base, name, catest.Audience)
		if name != "untrusted" {
			fmt.Fprintf(&config, "    ca-cert: |\n      %s\n", root)
		}
	}

	// Nothing listens where the issuers are, and the server starts.
	server := harness.Start(t, "--config", harness.Config(t, config.String()))
	token := func(name string) string { return p.issuers[name].EmailToken(t, time.Now(), "dev@example.com") }
	wantCertificate(t, server, http.StatusServiceUnavailable, token("good"))
	wantCertificate(t, server, http.StatusOK, newUser(t, server, "dev@example.com").token())

	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	provider := httptest.NewUnstartedServer(p)
	provider.Listener.Close()
	provider.Listener = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{pair}})
	provider.Start()
	defer provider.Close()
	server.Poll(time.Minute, "the issuer is found again", func() bool {
		status, _ := certificateFor(t, server, token("good"))
		return status == http.StatusOK
	})

	for _, name := range []string{"untrusted", "moved", "moved-keys", "huge", "huge-keys"} {
		wantCertificate(t, server, http.StatusServiceUnavailable, token(name))
		wantCertificate(t, server, http.StatusOK, token("good"))
	}
	if n := p.count("/untrusted/.well-known/openid-configuration"); n != 0 {
		t.Errorf("an issuer with a certificate of an unknown CA was asked %d times", n)
	}
	if n := heard.Load(); n != 0 {
		t.Errorf("the server followed a redirect to another host %d times", n)
	}

	// The flood. The keys were fetched a moment ago, or the test has taken a minute: at
	// most one more fetch for each minute.
	begin := time.Now()
	before, discoveries := p.count("/good/keys"), p.count("/good/.well-known/openid-configuration")
	const flood = 400
	var refused atomic.Int64
	var senders sync.WaitGroup
	for sender := range 8 {
		senders.Go(func() {
			for i := range flood / 8 {
				header := base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, `{"alg":"ES256","kid":"unknown-%d-%d"}`, sender, i))
				_, rest, _ := strings.Cut(p.issuers["good"].EmailToken(t, time.Now(), "dev@example.com"), ".")
				if status, _ := certificateFor(t, server, header+"."+rest); status == http.StatusBadRequest {
					refused.Add(1)
				}
			}
		})
	}
	senders.Wait()
	if refused.Load() != flood {
		t.Errorf("%d of %d tokens with unknown keys get 400", refused.Load(), flood)
	}
	most := int64(time.Since(begin)/time.Minute) + 1
	if keys, documents := p.count("/good/keys")-before, p.count("/good/.well-known/openid-configuration")-discoveries; keys > most || documents > most {
		t.Errorf("%d tokens with unknown keys in %v made the server ask %d times for keys and %d for discovery", flood, time.Since(begin), keys, documents)
	}
	wantCertificate(t, server, http.StatusOK, token("good"))
}

// certificateFor asks for a certificate, and returns status and body.
func certificateFor(t *testing.T, server *harness.Server, token string) (int, string) {
	t.Helper()
	key := newP256(t)
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("dev@example.com"))
	proof, err := key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(map[string]any{
		"credentials": map[string]string{"oidcIdentityToken": token},
		"publicKeyRequest": map[string]any{
			"publicKey":         map[string]string{"content": string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))},
			"proofOfPossession": proof,
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.Post(server.URL+"/api/v2/signingCert", "application/json", bytes.NewReader(body))
	if err != nil {
		t.Error(err)
		return 0, ""
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Error(err)
	}
	return res.StatusCode, string(text)
}

func wantCertificate(t *testing.T, server *harness.Server, want int, token string) {
	t.Helper()
	if status, text := certificateFor(t, server, token); status != want {
		t.Errorf("%d %s, want %d", status, text, want)
	}
}
