package fsck

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// maxAnswer bounds the body of an answer, in bytes.
const maxAnswer = 64 << 20

// A client asks one server.
type client struct {
	base string
	http *http.Client
}

func newClient(o Options) client {
	c := client{strings.TrimRight(o.URL, "/"), o.HTTPClient}
	if c.http == nil {
		c.http = &http.Client{Timeout: time.Minute}
	}
	return c
}

// A refusal is an answer that says that an object is not to be had. Where the
// object should exist that is a finding, not an error.
type refusal struct {
	status int
	url    string
}

func (e *refusal) Error() string {
	return fmt.Sprintf("%s answered %d %s", e.url, e.status, http.StatusText(e.status))
}

// do returns the body of an answer with status 200. A status that may pass (a
// busy server, a gateway in between) is an error, any other one a *refusal.
func (c client) do(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json, application/x-pem-file;q=0.9")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", c.base+path, err)
	}
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return nil, errors.New((&refusal{resp.StatusCode, c.base + path}).Error())
	default:
		return nil, &refusal{resp.StatusCode, c.base + path}
	}
	if len(b) > maxAnswer {
		return nil, fmt.Errorf("%s answered with more than %d bytes", c.base+path, maxAnswer)
	}
	return b, nil
}

// get decodes the JSON answer to a GET. What is not JSON is a *garbled error.
func (c client) get(ctx context.Context, path string, out any) error {
	b, err := c.do(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	return c.decode(path, b, out)
}

// garbled is an answer that is not what the API says.
type garbled struct {
	url string
	err error
}

func (e *garbled) Error() string {
	return fmt.Sprintf("%s: the answer does not parse: %v", e.url, e.err)
}

func (c client) decode(path string, b []byte, out any) error {
	if err := unmarshal(b, out); err != nil {
		return &garbled{c.base + path, err}
	}
	return nil
}

// unmarshal is json.Unmarshal for what a server of any intention has sent. An
// entry without anything in it is three bytes of JSON and a hundred times that
// in memory, so the values are counted first: an honest answer has one in 40
// bytes or more, and a short one may have 1000.
func unmarshal(b []byte, out any) error {
	const short, perValue = 1000, 40
	values, quoted := 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case !quoted && (c == ',' || c == '[' || c == '{'):
			values++
		}
	}
	if most := short + len(b)/perValue; values > most {
		return fmt.Errorf("%d values in %d bytes, want at most %d", values, len(b), most)
	}
	return json.Unmarshal(b, out)
}

// wrong says whether an error is the fault of what is served, and so a finding.
func wrong(err error) bool {
	var r *refusal
	var g *garbled
	return errors.As(err, &r) || errors.As(err, &g)
}

// checkKey returns an ECDSA P-256 key and its ID, the SHA-256 of its
// SubjectPublicKeyInfo.
func checkKey(key crypto.PublicKey) (*ecdsa.PublicKey, [32]byte, error) {
	pub, ok := key.(*ecdsa.PublicKey)
	if !ok || pub.Curve != elliptic.P256() {
		return nil, [32]byte{}, fmt.Errorf("log key of type %T: want ECDSA P-256", key)
	}
	spki, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, [32]byte{}, err
	}
	return pub, sha256.Sum256(spki), nil
}
