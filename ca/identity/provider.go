package identity

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
)

// Times that govern when an issuer is asked.
const (
	fetchTime = 10 * time.Second // for discovery and keys together
	cooldown  = time.Minute      // after a fetch, until an unknown key causes the next
	retryTime = 5 * time.Second  // after a failed fetch, until the next
	freshTime = time.Hour        // keys are fetched again when they are older
	keepTime  = 24 * time.Hour   // older keys are not used even if the issuer is down
)

// Bounds on a JWK Set. Reading a key takes many times its length, so a key has a bound of its own.
const (
	maxKeys = 100
	maxKey  = 32 << 10 // bytes; one with a certificate chain has about 8 KiB
)

// A keySet is what an issuer said about its keys at one time. It is never changed.
type keySet struct {
	fetched    time.Time
	algorithms []jose.SignatureAlgorithm // advertised and on our list
	keys       []jose.JSONWebKey
}

// A provider is the state of one issuer: its keys, and when it was last asked.
type provider struct {
	source *source
	issuer string // the exact "iss"
	used   uint64 // guarded by source.mu

	mu        sync.Mutex    // guards the fields below; never held during a request
	keys      *keySet       // the last that could be fetched, nil before
	attempted time.Time     // end of the last fetch, zero before
	failure   error         // of the last fetch
	inflight  chan struct{} // closed when the current fetch ends; nil if there is none
}

func (p *provider) hasKeys() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.keys != nil
}

// within reports whether now is less than d behind t. A clock that was set back is not within:
// asking once too often is better than never.
func within(now, t time.Time, d time.Duration) bool {
	since := now.Sub(t)
	return 0 <= since && since < d
}

// load returns keys of the issuer other than those that the caller has tried in vain, if any. It
// returns nil without an error if there are no others: the last fetch is less than a cooldown ago.
//
// One caller at a time asks the issuer and the others wait for it, or go on with the keys that
// they can use. Keys that are no longer fresh are used on for as long as the issuer cannot be
// reached, up to keepTime.
func (p *provider) load(ctx context.Context, tried *keySet) (*keySet, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		now := p.source.now()
		usable := p.keys != nil && p.keys != tried && within(now, p.keys.fetched, keepTime)
		if usable && within(now, p.keys.fetched, freshTime) {
			return p.keys, nil
		}
		if done := p.inflight; done != nil {
			if usable {
				return p.keys, nil
			}
			p.mu.Unlock()
			select {
			case <-done:
			case <-ctx.Done():
			}
			p.mu.Lock()
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			continue
		}
		pause := cooldown
		if p.failure != nil {
			pause = retryTime
		}
		if within(now, p.attempted, pause) {
			if usable {
				return p.keys, nil
			}
			return nil, p.failure
		}
		p.fetchLocked(ctx)
		if p.failure != nil && !usable {
			return nil, p.failure
		}
		return p.keys, nil
	}
}

// fetchLocked asks the issuer and stores what it said. It is called with p.mu held, and gives it
// up meanwhile. The request goes on when the caller's client goes away, because others may wait
// for it; fetchTime bounds it.
func (p *provider) fetchLocked(ctx context.Context) {
	done := make(chan struct{})
	p.inflight = done
	first := p.keys == nil
	p.mu.Unlock()

	var keys *keySet
	err := errors.New("the request did not end") // stays if a transport panics
	defer func() {
		p.mu.Lock()
		p.inflight, p.attempted, p.failure = nil, p.source.now(), err
		if err == nil {
			p.keys = keys
		}
		close(done)
	}()
	keys, err = p.fetch(context.WithoutCancel(ctx), first)
}

// fetch asks the issuer for its discovery document (OpenID Connect Discovery 1.0, section 4) and
// for the JWK Set that it names. Both are asked for each time, so that a moved JWK Set or another
// list of algorithms is noticed without a restart.
func (p *provider) fetch(ctx context.Context, first bool) (*keySet, error) {
	release, err := p.source.admit(first)
	if err != nil {
		return nil, err
	}
	defer release()
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()

	// NewProvider also checks that the document names this issuer and no other.
	discovered, err := oidc.NewProvider(oidc.ClientContext(ctx, p.source.documents), p.issuer)
	if err != nil {
		return nil, fmt.Errorf("discovery: %s", brief(err))
	}
	var document struct {
		JWKSURI    string                    `json:"jwks_uri"`
		Algorithms []jose.SignatureAlgorithm `json:"id_token_signing_alg_values_supported"`
	}
	if err := discovered.Claims(&document); err != nil {
		return nil, fmt.Errorf("discovery: %s", brief(err))
	}
	set := &keySet{}
	if len(document.Algorithms) == 0 {
		set.algorithms = []jose.SignatureAlgorithm{jose.RS256} // section 3: RS256 must be supported
	}
	for _, a := range document.Algorithms {
		if slices.Contains(algorithms[:], a) && !slices.Contains(set.algorithms, a) {
			set.algorithms = append(set.algorithms, a)
		}
	}
	if len(set.algorithms) == 0 {
		return nil, fmt.Errorf("discovery: none of the algorithms of the issuer is accepted, one of %v is required", algorithms)
	}
	if err := p.checkKeysURL(document.JWKSURI); err != nil {
		return nil, fmt.Errorf("discovery: %w", err)
	}
	body, err := get(ctx, p.source.client, document.JWKSURI)
	if err != nil {
		return nil, fmt.Errorf("keys: %s", brief(err))
	}
	if set.keys, err = parseKeys(body); err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	set.fetched = p.source.now()
	return set, nil
}

// checkKeysURL accepts the place of the keys. A configured issuer may name another host, as
// Google does, but not fall back to plain HTTP. An issuer that only a pattern names may not: what
// its document says is under the control of whoever the pattern let in.
func (p *provider) checkKeysURL(text string) error {
	bad := func(what string) error { return fmt.Errorf("jwks_uri %s %s", quote(text), what) }
	u, err := url.Parse(text)
	issuer, errIssuer := url.Parse(p.issuer)
	switch {
	case err != nil || errIssuer != nil || u.Host == "" || u.User != nil:
		return bad("is not an absolute URL without user information")
	case u.Scheme != "https" && (u.Scheme != "http" || issuer.Scheme != "http"):
		return bad("is not https")
	case p.source.IsPattern() && (u.Host != issuer.Host || u.Scheme != issuer.Scheme):
		return bad("is not on the host of the issuer, which is required of issuers that a pattern names")
	}
	return nil
}

// parseKeys reads a JWK Set (RFC 7517, section 5). Keys of an unknown kind, keys that are not for
// signatures, and weak or overlong keys are passed over, because a set may have keys for other uses; it is
// an error if none is left.
func parseKeys(data []byte) ([]jose.JSONWebKey, error) {
	notSet := errors.New("the answer is not a JWK Set")
	set, err := parseObject(data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", notSet, err)
	}
	// One key at a time: a set of a million zeros must not become a million slices.
	d := json.NewDecoder(bytes.NewReader(set["keys"]))
	if first, err := d.Token(); err != nil || first != json.Delim('[') {
		return nil, notSet
	}
	var keys []jose.JSONWebKey
	for n := 0; d.More(); n++ {
		if n == maxKeys {
			return nil, fmt.Errorf("the JWK Set has more than %d keys", maxKeys)
		}
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return nil, notSet
		}
		if len(raw) > maxKey {
			continue
		}
		var key jose.JSONWebKey
		if err := key.UnmarshalJSON(raw); err != nil || !key.Valid() || !key.IsPublic() || !usableKey(key) {
			continue
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, errors.New("the JWK Set has no key for signatures that is accepted")
	}
	return keys, nil
}

// usableKey accepts public keys for signatures: RSA of 2048 to 8192 bits, ECDSA, Ed25519.
func usableKey(key jose.JSONWebKey) bool {
	if key.Use != "" && key.Use != "sig" {
		return false
	}
	switch k := key.Key.(type) {
	case *rsa.PublicKey:
		return k.N.BitLen() >= 2048 && k.N.BitLen() <= 8192
	case *ecdsa.PublicKey, ed25519.PublicKey:
		return true
	}
	return false
}

// verify checks the signature of a token with the keys that fit its key id and algorithm, and
// returns the payload.
func (s *keySet) verify(t token) ([]byte, error) {
	if !slices.Contains(s.algorithms, t.alg) {
		return nil, fmt.Errorf("the token's algorithm is %s, the issuer advertises %v", t.alg, s.algorithms)
	}
	jws, err := jose.ParseSignedCompact(t.raw, []jose.SignatureAlgorithm{t.alg})
	if err != nil {
		return nil, errors.New(brief(err))
	}
	known := false
	for _, key := range s.keys {
		if t.kid != "" && key.KeyID != t.kid || key.Algorithm != "" && key.Algorithm != string(t.alg) {
			continue
		}
		known = true
		if payload, err := jws.Verify(key.Key); err == nil {
			return payload, nil
		}
	}
	if !known {
		return nil, fmt.Errorf("the issuer has no key with the id %s for the algorithm %s", quote(t.kid), t.alg)
	}
	return nil, errors.New("the signature is not of a key of the issuer")
}

// tokenKeys is the oidc.KeySet for one token. It exists because go-oidc's own fetches the keys
// again for each token with an unknown key id, without a pause and without a bound on their size.
type tokenKeys struct {
	provider *provider
	token    token
	verified bool
	err      error // why not, complete with its sentinel
}

// VerifySignature implements oidc.KeySet.
func (k *tokenKeys) VerifySignature(ctx context.Context, raw string) ([]byte, error) {
	if raw != k.token.raw {
		k.err = refused(k.token, errors.New("another token was to be verified"))
		return nil, k.err
	}
	payload, err := k.try(ctx)
	if err != nil {
		k.err = err
		return nil, err
	}
	k.verified = true
	return payload, nil
}

func (k *tokenKeys) try(ctx context.Context) ([]byte, error) {
	keys, err := k.provider.load(ctx, nil)
	if err != nil || keys == nil {
		return nil, k.unavailable(err)
	}
	payload, reason := keys.verify(k.token)
	if reason == nil {
		return payload, nil
	}
	// The issuer may have new keys (OpenID Connect Core 1.0, section 10.1.1).
	keys, err = k.provider.load(ctx, keys)
	switch {
	case err != nil:
		return nil, k.unavailable(err)
	case keys == nil:
		return nil, refused(k.token, reason)
	}
	if payload, reason = keys.verify(k.token); reason != nil {
		return nil, refused(k.token, reason)
	}
	return payload, nil
}

func (k *tokenKeys) unavailable(err error) error {
	if err == nil {
		err = errors.New("no keys")
	}
	return fmt.Errorf("%w: issuer %s: %w", ErrIssuerUnavailable, quote(k.token.issuer), err)
}

// get fetches a document with the source's client.
func get(ctx context.Context, client *http.Client, address string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/jwk-set+json, application/json")
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("GET %s: status %d, 200 is required", address, response.StatusCode)
	}
	return io.ReadAll(response.Body) // bounded by boundedBodies
}
