package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sigstack/sigstack/trust/keys"
)

// A listenerCertificate is where the certificate of the public listener comes
// from: files, or an ACME server.
type listenerCertificate interface {
	config() *tls.Config
}

// openTLS opens the certificate that the configuration names, if it names one.
func (s *server) openTLS(ctx context.Context) (err error) {
	switch c := s.config.TLS; {
	case c.Cert != "":
		var w *watch
		if s.tls, w, err = openServerCertificate(ctx, c, s.now, s.logger, s.metrics); err == nil {
			s.watches = append(s.watches, w)
		}
	case c.ACME.AcceptTerms:
		if s.acme, err = openACME(s.config, s.now, s.logger, s.metrics); err == nil {
			s.tls = s.acme
		}
	}
	return err
}

// A serverCertificate is the certificate of the public listener. Its files are
// watched: see watch.
type serverCertificate struct {
	files   TLSConfig
	now     func() time.Time
	logger  *slog.Logger
	current atomic.Pointer[tls.Certificate]
}

// openServerCertificate reads the certificate that a configuration names, and
// returns the watch over its files.
func openServerCertificate(ctx context.Context, files TLSConfig, now func() time.Time, logger *slog.Logger, r prometheus.Registerer) (*serverCertificate, *watch, error) {
	c := &serverCertificate{files: files, now: now, logger: logger}
	w := &watch{name: "tls", now: now, logger: logger, take: c.take}
	if err := startWatch(ctx, w, r); err != nil {
		return nil, nil, err
	}
	r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "sigstack_tls_certificate_expiry_seconds", Help: "When the server's certificate expires, in seconds since 1970.",
	}, func() float64 { return float64(c.current.Load().Leaf.NotAfter.Unix()) }))
	return c, w, nil
}

// config is how connections are served: TLS 1.2 or later, HTTP/2 and HTTP/1.1.
func (c *serverCertificate) config() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{"h2", "http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current.Load(), nil },
	}
}

// take is that of a watch.
func (c *serverCertificate) take(_ context.Context, inForce digest) (digest, error) {
	chain, err := os.ReadFile(c.files.Cert)
	if err != nil {
		return inForce, fmt.Errorf("tls.cert: %w", err)
	}
	key, err := keys.ReadFile(c.files.Key)
	if err != nil {
		return inForce, fmt.Errorf("tls.key: %w", err)
	}
	defer clear(key)
	// The error of X509KeyPair names no bytes of either file.
	pair, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return inForce, fmt.Errorf("%s and %s: %w", c.files.Cert, c.files.Key, err)
	}
	content := sum(chain) // which determines the key
	if content == inForce {
		return inForce, nil
	}
	if now := c.now(); !now.Before(pair.Leaf.NotAfter) {
		return inForce, fmt.Errorf("%s: the certificate expired at %s", c.files.Cert, pair.Leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	c.current.Store(&pair)
	c.logger.Info("the server's certificate is in use", "serial", pair.Leaf.SerialNumber.Text(16), "not_after", pair.Leaf.NotAfter.UTC())
	return content, nil
}
