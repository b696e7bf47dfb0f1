package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"

	"github.com/sigstack/sigstack/api"
)

const (
	acmeTimeout = 30 * time.Second // of one request to the ACME server

	// After a refusal the server is asked again this much later, and twice as
	// much after each further one. Public ACME servers allow a handful of failed
	// validations an hour, and autocert itself forgets a failure after a minute.
	acmeFirstRetry = 2 * time.Minute
	acmeLastRetry  = time.Hour
)

// An acmeCertificate is the certificate of the public listener, or one for each
// of several names, from an ACME server (RFC 8555).
//
// autocert does the protocol and renews when a third of the lifetime is left. No
// handshake of a client waits for it: run asks for the certificates, and
// handshakes take what it has found. So an ACME server that is down or hangs costs
// nothing while there is a certificate, in memory or from the last start.
//
// There is no readiness check about it: the ACME server's own connection has to
// come in before there is a certificate, and may come by the load balancer that
// looks at /readyz.
type acmeCertificate struct {
	domains  []string
	ask      func(*tls.ClientHelloInfo) (*tls.Certificate, error) // autocert's; may take minutes
	manager  *autocert.Manager
	now      func() time.Time
	logger   *slog.Logger
	failures prometheus.Counter
	problems *acmeProblems

	attempts map[string]attempts // of run alone

	mu      sync.Mutex
	current map[string]*tls.Certificate // by domain
}

// attempts are those to get the certificate of one domain since the last that
// succeeded.
type attempts struct {
	wait  time.Duration // after the last one
	next  time.Time
	stale bool // that the renewal is overdue was said
}

// openACME prepares what a configuration asks for. It makes no request.
func openACME(c *Config, now func() time.Time, logger *slog.Logger, r prometheus.Registerer) (*acmeCertificate, error) {
	a := &acmeCertificate{
		domains: c.TLS.ACME.Domains, now: now, logger: logger, attempts: map[string]attempts{}, current: map[string]*tls.Certificate{},
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sigstack_tls_acme_failures_total", Help: "Certificates that the ACME server did not give, and renewals that are overdue.",
		}),
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		return nil, err
	}
	if file := c.TLS.ACME.CACert; file != "" {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("tls.acme.ca-cert: %w", err)
		}
		if !roots.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("tls.acme.ca-cert: %s holds no PEM certificate; name the file with the root that the ACME server's own certificate comes from", file)
		}
	}
	a.problems = &acmeProblems{next: &http.Transport{
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}, IdleConnTimeout: acmeTimeout,
	}}
	a.manager = &autocert.Manager{
		Prompt:     autocert.AcceptTOS, // the configuration says so, or we are not here
		Cache:      acmeCache{autocert.DirCache(filepath.Join(c.DataDir, "acme"))},
		HostPolicy: a.known,
		Email:      c.TLS.ACME.Email,
		Client: &acme.Client{
			DirectoryURL: c.TLS.ACME.DirectoryURL,
			UserAgent:    "sigstack",
			HTTPClient:   &http.Client{Timeout: acmeTimeout, Transport: a.problems},
		},
	}
	a.ask = a.manager.GetCertificate
	r.MustRegister(a.failures, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "sigstack_tls_certificate_expiry_seconds", Help: "When the server's certificate expires, in seconds since 1970; of several, the first to do so; 0 while one is missing.",
	}, a.expiry))
	return a, nil
}

// known is autocert's policy. The Host of an http-01 request may have a port.
func (a *acmeCertificate) known(_ context.Context, host string) error {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if !slices.Contains(a.domains, strings.ToLower(host)) {
		return errors.New("this host is not in tls.acme.domains")
	}
	return nil
}

// config is how connections are served: TLS 1.2 or later, HTTP/2 and HTTP/1.1, and
// the challenge tls-alpn-01 (RFC 8737).
func (a *acmeCertificate) config() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{"h2", "http/1.1", acme.ALPNProto},
		GetCertificate: a.certificate,
	}
}

// certificate chooses what a handshake is served with. A client that names no
// host, or another one, gets the first domain's, and judges that itself.
func (a *acmeCertificate) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if slices.Equal(hello.SupportedProtos, []string{acme.ALPNProto}) { // RFC 8737, section 3
		if err := a.known(hello.Context(), hello.ServerName); err != nil {
			return nil, err
		}
		return a.manager.GetCertificate(hello)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if cert := a.current[strings.ToLower(hello.ServerName)]; cert != nil {
		return cert, nil
	}
	if cert := a.current[a.domains[0]]; cert != nil {
		return cert, nil
	}
	return nil, fmt.Errorf("there is no certificate for %s yet", a.domains[0])
}

// expiry is when the first of the certificates expires.
func (a *acmeCertificate) expiry() float64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	first := 0.0
	for _, domain := range a.domains {
		cert := a.current[domain]
		if cert == nil {
			return 0
		}
		if at := float64(cert.Leaf.NotAfter.Unix()); first == 0 || at < first {
			first = at
		}
	}
	return first
}

// run gets the certificates, and takes over what autocert has renewed at each
// tick, until ctx is done. It waits for the ACME server, so it is not one of the
// watches.
func (a *acmeCertificate) run(ctx context.Context, tick <-chan time.Time) {
	for {
		for _, domain := range a.domains {
			a.look(domain)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick:
		}
	}
}

// look asks autocert for the certificate of a domain, which has it in memory or in
// its directory, or else gets it from the ACME server.
func (a *acmeCertificate) look(domain string) {
	tries, now := a.attempts[domain], a.now()
	if now.Before(tries.next) {
		return
	}
	cert, err := a.ask(&tls.ClientHelloInfo{
		ServerName:   domain,
		CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}, // an ECDSA key, please
	})
	if err != nil {
		tries.wait = min(max(2*tries.wait, acmeFirstRetry), acmeLastRetry)
		tries.next = now.Add(tries.wait)
		a.attempts[domain] = tries
		a.failures.Inc()
		a.logger.Error("there is no certificate of the ACME server", "domain", domain, "err", err, "reason", a.problems.take(), "retry_in", tries.wait.String())
		return
	}
	a.mu.Lock()
	before := a.current[domain]
	a.current[domain] = cert
	a.mu.Unlock()
	leaf := cert.Leaf
	if before == nil || !before.Leaf.Equal(leaf) {
		tries = attempts{}
		a.logger.Info("the server's certificate was replaced", "domain", domain, "serial", leaf.SerialNumber.Text(16), "not_after", leaf.NotAfter.UTC())
	}
	// autocert says nothing of a renewal that fails, and tries again within the
	// hour. It begins when a third of the lifetime is left.
	if left := leaf.NotAfter.Sub(leaf.NotBefore) / 4; !tries.stale && now.Add(left).After(leaf.NotAfter) {
		tries.stale = true
		a.failures.Inc()
		a.logger.Error("the renewal of the server's certificate is overdue; is the ACME server up, and does it reach this one?", "domain", domain, "reason", a.problems.take(), "not_after", leaf.NotAfter.UTC())
	}
	a.attempts[domain] = tries
}

// listenACME listens for the challenge http-01, if that is configured.
func (s *server) listenACME() (net.Listener, error) {
	if s.config.TLS.ACME.HTTPListen == "" {
		return nil, nil
	}
	l, err := net.Listen("tcp", s.config.TLS.ACME.HTTPListen)
	if err != nil {
		return nil, fmt.Errorf("listening for the ACME server (tls.acme.http-listen): %w", err)
	}
	return l, nil
}

// handler serves the challenge http-01 (RFC 8555, section 8.3), and nothing else.
func (a *acmeCertificate) handler(m *api.Metrics, logger *slog.Logger) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /.well-known/acme-challenge/{token}", a.manager.HTTPHandler(http.HandlerFunc(api.NotFound)))
	mux.HandleFunc("/", api.NotFound)
	return api.Wrap(mux, m, api.Proxies{}, logger)
}

// acmeProblems hears what the ACME server says of a failure (RFC 8555, section
// 6.7), which autocert leaves out: a failed validation above all.
type acmeProblems struct {
	next http.RoundTripper

	mu   sync.Mutex
	last string
}

// maxACMEAnswer is the largest answer of an ACME server in bytes: a chain of a few
// certificates.
const maxACMEAnswer = 1 << 20

func (p *acmeProblems) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := p.next.RoundTrip(r)
	if err != nil {
		p.keep(err.Error())
		return nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxACMEAnswer))
	if err != nil {
		p.keep(err.Error())
		return nil, err
	}
	res.Body = io.NopCloser(bytes.NewReader(body))
	if strings.Contains(res.Header.Get("Content-Type"), "json") {
		p.keep(parseACMEProblem(body))
	}
	return res, nil
}

// parseACMEProblem returns what an answer says of a failure: a problem document, or
// an authorization with a challenge that failed. "" is none, or one that the client
// tries again at once.
func parseACMEProblem(body []byte) string {
	const most = 64 << 10 // answers that may be longer are certificates
	var answer struct {
		Type, Detail string
		Challenges   []struct{ Error struct{ Detail string } }
	}
	if len(body) > most || json.Unmarshal(body, &answer) != nil || answer.Type == "urn:ietf:params:acme:error:badNonce" {
		return ""
	}
	text := answer.Detail
	for _, c := range answer.Challenges {
		text = cmp.Or(c.Error.Detail, text)
	}
	const shown = 500
	if len(text) > shown {
		text = strings.ToValidUTF8(text[:shown], "") + "..."
	}
	return text
}

func (p *acmeProblems) keep(text string) {
	if text != "" {
		p.mu.Lock()
		p.last = text
		p.mu.Unlock()
	}
}

// take returns the last problem, once.
func (p *acmeProblems) take() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	text := p.last
	p.last = ""
	return text
}

// An acmeCache is the directory of autocert: certificates with their keys, the
// account's key, and what answers a challenge. It makes the directory 0700 and
// its files 0600; a file that others may read is refused.
type acmeCache struct{ autocert.DirCache }

func (c acmeCache) Get(ctx context.Context, name string) ([]byte, error) {
	path := filepath.Join(string(c.DirCache), filepath.Clean("/"+name))
	if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s has mode %04o, which gives group or others rights to a secret; run: chmod 0600 %s", path, info.Mode().Perm(), path)
	}
	return c.DirCache.Get(ctx, name)
}
