package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sigstack/sigstack/ca/identity"
)

// podFiles is where Kubernetes puts the certificate of the cluster's API server
// and the token of a pod's service account.
const podFiles = "/var/run/secrets/kubernetes.io/serviceaccount"

// A cluster reaches the API server of the cluster that this process runs in, as
// an issuer of identity tokens. Its certificate is of the cluster's own CA, and
// it tells its keys only to who has a token. Both files are read for each
// request, which comes once an hour: the token is another one by then.
type cluster struct {
	host string // of the issuer; the token goes nowhere else
	dir  string // podFiles, but in tests
	dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// clusterOf returns how an issuer is reached that is the cluster's own, or nil.
func clusterOf(i identity.Issuer) http.RoundTripper {
	u, err := url.Parse(i.URL)
	if err != nil || i.Type != "kubernetes" || i.IsPattern() || i.CACert != "" {
		return nil
	}
	const name = "kubernetes.default.svc" // in each cluster, with its domain behind it or without
	if host := u.Hostname(); host != name && !strings.HasPrefix(host, name+".") {
		return nil
	}
	return cluster{host: u.Host, dir: podFiles, dial: (&net.Dialer{Timeout: 5 * time.Second}).DialContext}
}

// RoundTrip sends a request with the pod's token.
func (c cluster) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" || r.URL.Host != c.host {
		return nil, fmt.Errorf("%s is not the cluster's API server, %s: the pod's token is sent nowhere else", r.URL.Redacted(), c.host)
	}
	certificates, err := os.ReadFile(filepath.Join(c.dir, "ca.crt"))
	if err != nil {
		return nil, fmt.Errorf("the certificate of the cluster's API server: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(certificates) {
		return nil, fmt.Errorf("%s has no PEM certificate", filepath.Join(c.dir, "ca.crt"))
	}
	token, err := os.ReadFile(filepath.Join(c.dir, "token"))
	if err != nil {
		return nil, fmt.Errorf("the pod's token for the cluster's API server: %w", err)
	}
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	transport := &http.Transport{
		DialContext:         c.dial,
		TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
		TLSHandshakeTimeout: 5 * time.Second,
		DisableKeepAlives:   true,
		DisableCompression:  true,
	}
	return transport.RoundTrip(r)
}
