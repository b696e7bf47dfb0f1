package identity

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
)

// A Verifier verifies tokens of the configured issuers. It is safe for concurrent use. It starts
// no goroutine; requests to an issuer are made by the caller that needs them first.
type Verifier struct {
	now      func() time.Time
	exact    map[string]*source // by URL; never changed
	patterns []*source          // the most specific first; never changed
	issuers  []Issuer           // as configured; never changed
}

// NewVerifier checks the configuration and returns a Verifier for it. It makes no request: an
// issuer that is down at this moment does not keep the others from working.
func NewVerifier(cfg Config, opts Options) (*Verifier, error) {
	if len(cfg.Issuers) == 0 {
		return nil, errors.New("no issuer is configured, at least one is required")
	}
	v := &Verifier{now: opts.Now, exact: map[string]*source{}, issuers: slices.Clone(cfg.Issuers)}
	if v.now == nil {
		v.now = time.Now
	}
	seen := map[string]bool{}
	for _, i := range v.issuers {
		if seen[i.URL] {
			return nil, fmt.Errorf("issuer %q: configured twice", i.URL)
		}
		seen[i.URL] = true
		s := opts.Before.unchanged(i)
		if s == nil {
			var err error
			if s, err = newSource(i, opts.Transport, v.now); err != nil {
				return nil, fmt.Errorf("issuer %q: %w", i.URL, err)
			}
		}
		if i.IsPattern() {
			v.patterns = append(v.patterns, s)
		} else {
			v.exact[i.URL] = s
		}
	}
	slices.SortFunc(v.patterns, func(a, b *source) int {
		return cmp.Or(cmp.Compare(b.pattern.literal, a.pattern.literal), strings.Compare(a.URL, b.URL))
	})
	return v, nil
}

// unchanged returns the source of an issuer that is configured as i, or nil. Two Verifiers may
// share one: nothing in it depends on the others.
func (v *Verifier) unchanged(i Issuer) *source {
	if v == nil {
		return nil
	}
	s := v.exact[i.URL]
	if at := slices.IndexFunc(v.patterns, func(p *source) bool { return p.URL == i.URL }); at >= 0 {
		s = v.patterns[at]
	}
	if s == nil {
		return nil
	}
	if !s.Issuer.equal(i) {
		return nil
	}
	return s
}

// Issuers returns the configuration, in its order.
func (v *Verifier) Issuers() []Issuer { return slices.Clone(v.issuers) }

// Verify checks a token and says who asks. The error wraps ErrToken if the token is refused and
// ErrIssuerUnavailable if its issuer is configured but its keys cannot be had, in which case the
// same token may be accepted later. A done context counts as the latter.
//
// Verify may make requests to the issuer, and to nobody else. It waits at most about 10 seconds.
func (v *Verifier) Verify(ctx context.Context, rawToken string) (Identity, error) {
	t, err := parseToken(rawToken)
	if err != nil {
		return Identity{}, fmt.Errorf("%w: %w", ErrToken, err)
	}
	s := v.source(t.issuer)
	if s == nil {
		return Identity{}, fmt.Errorf("%w: the issuer %s is not configured", ErrToken, quote(t.issuer))
	}

	// The claims are not verified yet, but a token that could not be accepted in any case is not
	// worth a request to the issuer. They are the bytes that are verified next.
	issuedAt, expiry, err := t.claims.checkStandard(s.ClientID, s.MaxTokenAge, v.now())
	if err != nil {
		return Identity{}, refused(t, err)
	}
	if err := s.verify(ctx, t); err != nil {
		return Identity{}, err
	}

	id, err := s.identity(t)
	if err != nil {
		return Identity{}, refused(t, err)
	}
	id.audit.IssuedAt, id.audit.Expiry = issuedAt, expiry
	id.token = Token{SHA256: sha256.Sum256([]byte(t.signed())), Expiry: expiry, OneTime: s.OneTime}
	return id, nil
}

// refused wraps the reason why a token of a configured issuer is not accepted.
func refused(t token, err error) error {
	return fmt.Errorf("%w: token of issuer %s: %w", ErrToken, quote(t.issuer), err)
}

// source chooses the configured issuer for the text of an "iss" claim, or returns nil.
func (v *Verifier) source(issuer string) *source {
	if s := v.exact[issuer]; s != nil {
		return s
	}
	if len(issuer) > maxIssuer {
		return nil
	}
	for _, s := range v.patterns {
		if s.pattern.match(issuer) {
			return s
		}
	}
	return nil
}

// identity maps the claims of a verified token.
func (s *source) identity(t token) (Identity, error) {
	n, err := s.names(t)
	if err != nil {
		return Identity{}, err
	}
	id := Identity{
		issuer:  t.issuer,
		subject: n.subject,
		san:     n.san,
		values:  n.values,
		claims:  t.payload,
		audit: Audit{
			Issuer:     t.issuer,
			IssuerType: s.Type,
			Subject:    n.subject,
			Email:      n.email,
		},
	}
	for _, p := range []string{cmp.Or(n.proof, n.subject), n.email, n.subject} {
		if p != "" && !slices.Contains(id.proofs, p) {
			id.proofs = append(id.proofs, p)
		}
	}
	if jti, _, err := t.claims.str("jti"); err == nil && len(jti) <= maxLabel {
		id.audit.TokenID = jti
	}
	if len(t.kid) <= maxLabel {
		id.audit.KeyID = t.kid
	}
	return id, nil
}

// A named is what a source makes of the claims of a token, verified or not.
type named struct {
	resolved
	subject string
}

// names maps claims to the names of a certificate. Whether they are verified is the caller's part.
func (s *source) names(t token) (named, error) {
	subject, err := t.claims.text("sub")
	if err != nil {
		return named{}, err
	}
	r, err := s.resolve(t.issuer, t.claims)
	if err != nil {
		return named{}, err
	}
	r.values.Subject = subject
	if r.values.Issuer == "" {
		r.values.Issuer = t.issuer
	}
	// What cannot be written into a certificate is the token's fault and is said now.
	if _, err := r.values.Extensions(); err != nil {
		return named{}, err
	}
	if _, err := r.san.Extension(); err != nil {
		return named{}, err
	}
	if r.email == "" {
		r.email = t.claims.verifiedEmail()
	}
	return named{r, subject}, nil
}

// Bounds on what a pattern may cost. A token names the issuer that a pattern matches, so its
// sender chooses how many different ones there are.
const (
	maxFamily      = 128         // issuers of one pattern that are remembered
	maxDiscoveries = 60          // requests for unknown issuers of one pattern in a discoveryTime
	discoveryTime  = time.Minute // see maxDiscoveries
	maxConcurrent  = 8           // fetches for issuers of one pattern at the same time
)

// A source is one configured issuer, with the state of the issuers that it stands for: one, or
// for a pattern those that were asked for last.
type source struct {
	Issuer
	resolve   resolver
	pattern   pattern
	documents *http.Client // for discovery documents
	client    *http.Client // for keys
	now       func() time.Time
	fetches   chan struct{} // a place for each concurrent fetch; nil for an exact issuer

	mu          sync.Mutex // guards the fields below; never held during a request
	providers   map[string]*provider
	uses        uint64    // counts calls of provider, to order them
	windowStart time.Time // of the current discoveryTime
	discoveries int       // in the current discoveryTime
}

func newSource(i Issuer, fallback http.RoundTripper, now func() time.Time) (*source, error) {
	resolve, err := i.prepare()
	if err != nil {
		return nil, err
	}
	documents, client, err := newClients(i, fallback)
	if err != nil {
		return nil, err
	}
	s := &source{Issuer: i, resolve: resolve, documents: documents, client: client, now: now, providers: map[string]*provider{}}
	if i.IsPattern() {
		s.pattern = newPattern(i.URL)
		s.fetches = make(chan struct{}, maxConcurrent)
	}
	return s, nil
}

// provider returns the state of one issuer of this source, and remembers at most maxFamily.
func (s *source) provider(issuer string) *provider {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.uses++
	p := s.providers[issuer]
	if p == nil {
		if len(s.providers) >= maxFamily {
			s.forget()
		}
		p = &provider{source: s, issuer: issuer}
		s.providers[issuer] = p
	}
	p.used = s.uses
	return p
}

// forget drops the issuer that was used the longest ago, one without keys before one with keys:
// invented issuers must not push out real ones. s.mu is held.
func (s *source) forget() {
	var victim *provider
	var victimKeys bool
	for _, p := range s.providers {
		keys := p.hasKeys()
		if victim == nil || victimKeys && !keys || victimKeys == keys && p.used < victim.used {
			victim, victimKeys = p, keys
		}
	}
	delete(s.providers, victim.issuer)
}

// admit takes a place for a fetch and returns the function that gives it back. It refuses when a
// pattern has spent its bounds; first says that the issuer has no keys yet.
func (s *source) admit(first bool) (func(), error) {
	if s.fetches == nil {
		return func() {}, nil
	}
	if first {
		s.mu.Lock()
		if now := s.now(); !within(now, s.windowStart, discoveryTime) {
			s.windowStart, s.discoveries = now, 0
		}
		s.discoveries++
		over := s.discoveries > maxDiscoveries
		s.mu.Unlock()
		if over {
			return nil, fmt.Errorf("more than %d unknown issuers matched the pattern %q within %v", maxDiscoveries, s.URL, discoveryTime)
		}
	}
	select {
	case s.fetches <- struct{}{}:
		return func() { <-s.fetches }, nil
	default:
		return nil, fmt.Errorf("%d requests for issuers of the pattern %q are under way", maxConcurrent, s.URL)
	}
}

// verify checks the signature with the keys of the issuer, and once more issuer, audience and
// times, as go-oidc understands them.
func (s *source) verify(ctx context.Context, t token) error {
	keys := &tokenKeys{provider: s.provider(t.issuer), token: t}
	verifier := oidc.NewVerifier(t.issuer, keys, &oidc.Config{
		ClientID:             s.ClientID,
		SupportedSigningAlgs: []string{string(t.alg)}, // on our list; tokenKeys asks the issuer's
		Now:                  s.now,
	})
	_, err := verifier.Verify(ctx, t.raw)
	switch {
	case keys.err != nil: // go-oidc does not wrap it
		return keys.err
	case err != nil:
		return refused(t, errors.New(brief(err)))
	case !keys.verified:
		return refused(t, errors.New("the signature was not checked"))
	}
	return nil
}

// brief is the text of an error of a library that may repeat what a server or a token said: one
// line of at most 300 bytes.
func brief(err error) string {
	const most = 300
	s := err.Error()
	if len(s) > most {
		s = s[:most] + "..."
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, ""))
}
