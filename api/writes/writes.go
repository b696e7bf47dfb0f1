// Package writes decides who may add entries to a transparency log, and how many. With a Config that has
// nothing in it everybody may, and nothing is counted or looked at.
//
// A write passes three gates, in this order:
//
//  1. [Control.Arrive] takes one out of the bucket of the address that it comes from. What is
//     refused later has taken it as well: whoever sends nothing but mistakes is held to the limit, too.
//  2. [Control.Authenticate] wants a bearer token (RFC 6750) or a TLS client certificate, before the body is
//     read. Either is enough.
//  3. [Control.Admit] takes one out of the bucket of each identity that signed the entry, after the
//     signatures were verified and before the entry is added. What was not added then, such as a duplicate,
//     is put back: see the function that Admit returns.
//
// # The identity of an entry
//
// A certificate of our own CA is for an issuer of tokens and a name, and these are the identity. Nothing
// vouches for other certificates, and anybody can make one with any name. What these say (the issuer in the
// certificate, that of tokens, and the names) is an identity of its own, so that none of them
// takes anything from those whom our CA knows. Without a certificate the key is the identity.
//
// Who has a signature of somebody can wrap it into many entries. So the limit for each identity is for
// a build that has run wild; whom it shall protect from others needs gate 2, or the limit for each address.
package writes

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/sigstack/sigstack/ca/ext"
	"github.com/sigstack/sigstack/ca/limit"
	"github.com/sigstack/sigstack/tlog/entry"
)

// A Config says what is asked of a write. The zero value asks nothing.
type Config struct {
	PerIP       limit.Limit // of one address of IPv4, of one /64 of IPv6
	PerIdentity limit.Limit // of one identity

	// Credentials returns those that are good now; nil lets everybody write.
	Credentials func() *Credentials

	// Issued reports whether a certificate was signed by our own CA. Must be set with PerIdentity.
	Issued func(*x509.Certificate) bool

	// Now is the clock; time.Now if nil.
	Now func() time.Time
}

// Credentials are who may write. They never change: others take their place.
type Credentials struct {
	Tokens []Token
	CAs    *x509.CertPool // of client certificates; nil takes none
}

// Classes of refusals, for the one place that maps errors to statuses.
var (
	// ErrLimited is a refusal by a limit: the same request may pass later (HTTP 429).
	ErrLimited = errors.New("too many entries")
	// ErrCredentials says that a token is missing or wrong (HTTP 401).
	ErrCredentials = errors.New("adding entries to this log takes credentials")
	// ErrForbidden says that a certificate is missing or not good (HTTP 403).
	ErrForbidden = errors.New("adding entries to this log takes a TLS client certificate")
)

// MaxChain is how many certificates a client may send: finding the path through a hostile chain takes up to
// 100 verifications.
const MaxChain = 10

// Reasons of refusals: a closed set, for metrics.
const (
	ByPerIP          = "per-ip"
	ByPerIdentity    = "per-identity"
	ByNoCredentials  = "no-credentials"
	ByBadToken       = "bad-token"
	ByBadCertificate = "bad-certificate"
)

// Reasons are all of them.
func Reasons() []string {
	return []string{ByPerIP, ByPerIdentity, ByNoCredentials, ByBadToken, ByBadCertificate}
}

// A Refusal is the error for a write that may not be. Its text is one line for the client.
type Refusal struct {
	Reason     string        // one of Reasons
	RetryAfter time.Duration // of ErrLimited
	Challenge  string        // of ErrCredentials: the value of WWW-Authenticate
	class      error
	text       string
}

func (r *Refusal) Error() string { return r.text }

// Unwrap is the class.
func (r *Refusal) Unwrap() error { return r.class }

// A Control keeps the gates. It is safe for concurrent use.
type Control struct {
	perIP, perIdentity *limit.Limiter // nil without
	credentials        func() *Credentials
	issued             func(*x509.Certificate) bool
	now                func() time.Time
}

// New returns a Control.
func New(cfg Config) *Control {
	c := &Control{
		perIP: limit.New(cfg.PerIP, nil), perIdentity: limit.New(cfg.PerIdentity, nil),
		credentials: cfg.Credentials, issued: cfg.Issued, now: cfg.Now,
	}
	if c.now == nil {
		c.now = time.Now
	}
	return c
}

// Arrive counts a write from an address. The error is a Refusal.
func (c *Control) Arrive(from netip.Addr) error {
	if c.perIP == nil {
		return nil
	}
	return c.take("from this address", ByPerIP, c.perIP.Bucket(network(from)))
}

// network is what a limit for an address is for: who has an address of IPv6 has at least 2^64.
func network(a netip.Addr) string {
	if a = a.Unmap(); a.Is6() {
		if p, err := a.WithZone("").Prefix(64); err == nil {
			return p.String()
		}
	}
	return a.String()
}

func (c *Control) take(whose, reason string, from ...limit.Bucket) error {
	longest, wait := limit.Take(c.now(), from...)
	if wait == 0 {
		return nil
	}
	of := from[longest].Limit()
	return &Refusal{Reason: reason, RetryAfter: wait, class: ErrLimited,
		text: fmt.Sprintf("%v %s: %d per %s are allowed; try again in %d s", ErrLimited, whose, of.Number, of.Per, limit.Seconds(wait))}
}

// Authenticate returns the name of who writes, for the log; "" where everybody may. The error is a Refusal.
func (c *Control) Authenticate(header http.Header, conn *tls.ConnectionState) (string, error) {
	if c.credentials == nil {
		return "", nil
	}
	good := c.credentials()
	tokens, certificates := len(good.Tokens) > 0, good.CAs != nil
	badCertificate := error(nil)
	if certificates && conn != nil && len(conn.PeerCertificates) > 0 {
		name, err := good.certificate(conn.PeerCertificates, c.now())
		if err == nil {
			return name, nil
		}
		badCertificate = err
	}
	token, given := bearer(header)
	switch {
	case tokens && given:
		if name, ok := good.token(token); ok {
			return name, nil
		}
		return "", &Refusal{Reason: ByBadToken, Challenge: `Bearer realm="sigstack", error="invalid_token"`, class: ErrCredentials,
			text: "the bearer token is not one that may add entries to this log; ask the operator for one"}
	case badCertificate != nil:
		return "", &Refusal{Reason: ByBadCertificate, class: ErrForbidden,
			text: fmt.Sprintf("the TLS client certificate may not add entries to this log: %v", badCertificate)}
	case tokens:
		text := "adding entries to this log takes a bearer token (Authorization: Bearer ...)"
		if certificates {
			text += " or a TLS client certificate"
		}
		return "", &Refusal{Reason: ByNoCredentials, Challenge: `Bearer realm="sigstack"`, class: ErrCredentials, text: text}
	case certificates:
		return "", &Refusal{Reason: ByNoCredentials, class: ErrForbidden, text: ErrForbidden.Error()}
	}
	return "", &Refusal{Reason: ByNoCredentials, Challenge: `Bearer realm="sigstack"`, class: ErrCredentials,
		text: "no token may add entries to this log at present; ask the operator for one"}
}

// bearer returns the token of a request (RFC 6750, section 2.1).
func bearer(header http.Header) (string, bool) {
	const scheme = "bearer "
	value := header.Get("Authorization")
	if len(value) < len(scheme) || !strings.EqualFold(value[:len(scheme)], scheme) {
		return "", false
	}
	return strings.TrimSpace(value[len(scheme):]), true
}

// token looks for a token. All are looked at, each in the same time.
func (c *Credentials) token(presented string) (name string, ok bool) {
	digest := sha256.Sum256([]byte(presented))
	for _, t := range c.Tokens {
		if subtle.ConstantTimeCompare(t.Digest[:], digest[:]) == 1 {
			name, ok = t.Name, true
		}
	}
	return name, ok
}

// certificate verifies what a client has sent, and returns the name in it.
func (c *Credentials) certificate(sent []*x509.Certificate, now time.Time) (string, error) {
	if len(sent) > MaxChain {
		return "", fmt.Errorf("it comes with %d others, at most %d are looked at", len(sent)-1, MaxChain-1)
	}
	between := x509.NewCertPool()
	for _, cert := range sent[1:] {
		between.AddCert(cert)
	}
	_, err := sent[0].Verify(x509.VerifyOptions{
		Roots: c.CAs, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "", errors.New("it has expired, or is not valid yet")
	case errors.As(err, &invalid) && invalid.Reason == x509.IncompatibleUsage:
		return "", errors.New("its extended key usage is not that of TLS clients")
	case err != nil:
		return "", errors.New("it does not come from a CA that this server trusts for that")
	}
	return sent[0].Subject.String(), nil
}

// Admit counts an entry for the identities of its signers. The error is a Refusal. Where there is none, the
// caller calls done with what became of the entry: what was not added is put back.
func (c *Control) Admit(signers []entry.Signer) (done func(added bool), err error) {
	if c.perIdentity == nil {
		return func(bool) {}, nil
	}
	var identities []string
	for _, s := range signers {
		identities = append(identities, c.identity(s))
	}
	slices.Sort(identities)
	var from []limit.Bucket
	for _, id := range slices.Compact(identities) {
		from = append(from, c.perIdentity.Bucket(id))
	}
	if err := c.take("by this identity", ByPerIdentity, from...); err != nil {
		return nil, err
	}
	return func(added bool) {
		if !added {
			limit.Return(from...)
		}
	}, nil
}

// identity is a text that is another one for each identity.
func (c *Control) identity(s entry.Signer) string {
	cert, names := s.Certificate(), s.Names()
	if cert == nil || len(names) == 0 {
		hash := s.KeyHash()
		if cert != nil { // the same key in another certificate is the same
			sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
			hash = hex.EncodeToString(sum[:])
		}
		return "key " + hash
	}
	values, err := ext.Parse(cert.Extensions)
	issuer := values.Issuer
	if err != nil {
		issuer = ""
	}
	if c.issued(cert) {
		return fmt.Sprintf("ours %q %q", issuer, names)
	}
	return fmt.Sprintf("certificate %q %q %q", cert.RawIssuer, issuer, names)
}
