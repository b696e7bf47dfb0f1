package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"github.com/sigstack/sigstack/api/rekorv1"
	"github.com/sigstack/sigstack/api/writes"
	"github.com/sigstack/sigstack/trust/keys"
)

// maxClientCA bounds the file of rekor.write.client-ca, in bytes.
const maxClientCA = 1 << 20

// openWriters reads who may add entries, where that is not everybody.
func (s *server) openWriters(ctx context.Context) error {
	c := s.config.Rekor.Write
	if c.TokensFile == "" && c.ClientCA == "" {
		return nil
	}
	w := &watch{name: "writers", now: s.now, logger: s.logger, take: s.takeWriters}
	if err := startWatch(ctx, w, s.metrics); err != nil {
		return err
	}
	s.watches = append(s.watches, w)
	return nil
}

// takeWriters is that of the watch.
func (s *server) takeWriters(_ context.Context, inForce digest) (digest, error) {
	c := s.config.Rekor.Write
	var tokens, cas []byte
	var err error
	if c.TokensFile != "" {
		if tokens, err = keys.ReadFileAtMost(c.TokensFile, writes.MaxTokenFile); err != nil {
			return inForce, fmt.Errorf("rekor.write.tokens-file: %w", err)
		}
	}
	if c.ClientCA != "" {
		if cas, err = readAtMost(c.ClientCA, maxClientCA); err != nil {
			return inForce, fmt.Errorf("rekor.write.client-ca: %s: %w", c.ClientCA, err)
		}
	}
	// The digest is shown. It is of digests of random tokens, and tells nothing about them.
	content := sum(tokens, cas)
	if content == inForce {
		return inForce, nil
	}
	next := &writes.Credentials{}
	if next.Tokens, err = writes.ParseTokens(tokens); err != nil {
		return inForce, fmt.Errorf("rekor.write.tokens-file: %s: %w", c.TokensFile, err)
	}
	if c.ClientCA != "" {
		if next.CAs, err = parseClientCAs(cas); err != nil {
			return inForce, fmt.Errorf("rekor.write.client-ca: %s: %w", c.ClientCA, err)
		}
	}
	s.writers.Store(next)
	return content, nil
}

// parseClientCAs reads certificates in PEM.
func parseClientCAs(text []byte) (*x509.CertPool, error) {
	pool, n := x509.NewCertPool(), 0
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("a PEM block is %.64q; only blocks CERTIFICATE belong there", block.Type)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", n+1, err)
		}
		if !cert.IsCA {
			return nil, fmt.Errorf("certificate %d is not that of a CA; name the file with the CA that the clients' certificates come from", n+1)
		}
		pool.AddCert(cert)
		n++
	}
	if n == 0 {
		return nil, errors.New("it holds no PEM certificate; name the file with the CA that the clients' certificates come from")
	}
	return pool, nil
}

// askForCertificates has clients asked for a certificate, and lets in those without one: reading
// takes none. What they send is verified where they write.
func (s *server) askForCertificates(c *tls.Config) {
	if s.config.Rekor.Write.ClientCA == "" {
		return
	}
	c.ClientAuth = tls.RequestClientCert
	c.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		with := c.Clone()
		with.GetConfigForClient = nil
		with.ClientCAs = s.writers.Load().CAs // for clients that choose among several
		return with, nil
	}
}

// writeControl is that of the configuration.
func (s *server) writeControl() *writes.Control {
	c := s.config.Rekor.Write
	cfg := writes.Config{PerIP: c.PerIP.limit(), PerIdentity: c.PerIdentity.limit(), Issued: s.issued, Now: s.now}
	if s.writers.Load() != nil {
		cfg.Credentials = s.writers.Load
	}
	return writes.New(cfg)
}

// issued reports whether one of the CA's chains has signed a certificate.
func (s *server) issued(cert *x509.Certificate) bool {
	c := s.inForce.Load().chains
	for _, f := range slices.Concat([]chainFile{c.active}, c.next, c.retired, c.kept) {
		if issuer := f.certs[0]; slices.Equal(issuer.RawSubject, cert.RawIssuer) && cert.CheckSignatureFrom(issuer) == nil {
			return true
		}
	}
	return false
}

// writeRefusals registers the count of refused submissions and returns what counts them.
func writeRefusals(r prometheus.Registerer) func(reason string) {
	refusals := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "sigstack_rekor_write_refusals_total", Help: "Submissions to the transparency log that the configuration does not allow, by the reason.",
	}, []string{"reason"})
	r.MustRegister(refusals)
	for _, reason := range rekorv1.Reasons() {
		refusals.WithLabelValues(reason)
	}
	return func(reason string) { refusals.WithLabelValues(reason).Inc() }
}

func writeTokenCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "write-token NAME",
		Short: "Make a bearer token for rekor.write.tokens-file",
		Long: `Make a bearer token that lets its owner add entries to the transparency log. It is printed
once: give it to whoever NAME is. The line belongs into the file rekor.write.tokens-file, which
knows the token by its SHA-256 only.`,
		Example: "  sigstack write-token release-builds",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			token, line, err := writes.NewToken(args[0])
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "token: %s\nline: %s\n", token, line)
			return err
		},
	}
}
