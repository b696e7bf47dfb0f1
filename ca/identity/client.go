package identity

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

const (
	maxBody = 1 << 20 // bytes of a JWK Set

	// maxDocument is the largest discovery document in bytes; those of public
	// issuers have 1 to 8 KiB. go-oidc decodes its lists whole, and a string in
	// a list takes many times its length.
	maxDocument = 32 << 10

	maxHeader = 64 << 10
	maxHops   = 3 // redirects within one host
)

// newClients returns the HTTP clients for one configured issuer, for its discovery document and
// for its keys: TLS 1.2 or later, no proxy, no redirect to another host, bounded time and size.
// Connections are not kept: an issuer is asked once an hour, and nothing would own an idle one.
func newClients(i Issuer, fallback http.RoundTripper) (documents, keys *http.Client, err error) {
	base := i.Transport
	if base == nil {
		base = fallback
	}
	if base != nil && i.CACert != "" {
		return nil, nil, errors.New("CACert cannot be combined with a transport, which brings its own trust")
	}
	if base == nil {
		var roots *x509.CertPool // nil: those of the system
		if i.CACert != "" {
			if roots, err = x509.SystemCertPool(); err != nil {
				return nil, nil, fmt.Errorf("certificates of the system: %w", err)
			}
			roots.AppendCertsFromPEM([]byte(i.CACert)) // has some, see Issuer.Check
		}
		base = &http.Transport{
			DialContext:            (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
			TLSHandshakeTimeout:    5 * time.Second,
			MaxResponseHeaderBytes: maxHeader,
			DisableKeepAlives:      true,
			DisableCompression:     true,
		}
	}
	client := func(most int) *http.Client {
		return &http.Client{
			Transport:     boundedBodies{base, most},
			CheckRedirect: sameHost,
			Timeout:       fetchTime,
		}
	}
	return client(maxDocument), client(maxBody), nil
}

// sameHost lets a redirect go to another path of the same scheme, host and port only. Elsewhere
// it could fetch what only this machine can reach, or keys that are not the issuer's.
func sameHost(next *http.Request, before []*http.Request) error {
	first := before[0].URL
	if next.URL.Scheme != first.Scheme || next.URL.Host != first.Host {
		return fmt.Errorf("a redirect from %q to another host, %s, is not followed", first.Host, quote(next.URL.Host))
	}
	if len(before) > maxHops {
		return fmt.Errorf("more than %d redirects", maxHops)
	}
	return nil
}

// boundedBodies makes a response body fail behind so many bytes. It stands in the transport
// because go-oidc reads discovery documents without a bound.
type boundedBodies struct {
	base http.RoundTripper
	most int
}

func (t boundedBodies) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := t.base.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	response.Body = &boundedBody{response.Body, t.most, t.most}
	return response, nil
}

type boundedBody struct {
	io.ReadCloser
	left int // bytes that may still be read
	most int
}

func (b *boundedBody) Read(p []byte) (int, error) {
	if len(p) > b.left+1 { // one more shows that there is too much
		p = p[:b.left+1]
	}
	n, err := b.ReadCloser.Read(p)
	if n > b.left {
		n, err = b.left, fmt.Errorf("the answer is larger than %d bytes", b.most)
	}
	b.left -= n
	return n, err
}
