// Package devoidc is a development OpenID Connect issuer: it gives a token for
// any e-mail address and any GitHub repository to whoever asks. It exists so
// that a laptop or a test can run the keyless flows with unmodified clients.
// It proves nothing about anybody and must never be trusted by a production
// certificate authority.
//
// # Two issuers, one key
//
// Everything is served below /oidc/ of the base URL. Tokens are signed with
// RS256 (RFC 7518, section 3.3) by one RSA key of at least 2048 bits, whose
// public half is at /oidc/keys.
//
//	<base>/oidc         tokens about an e-mail address (email, email_verified)
//	<base>/oidc/github  tokens shaped like those of GitHub Actions
//
// Each has its own discovery document, and "iss" is byte for byte the issuer
// URL, so a verifier of one never accepts a token of the other.
//
// # Endpoints
//
//	GET  /oidc/.well-known/openid-configuration         discovery
//	GET  /oidc/github/.well-known/openid-configuration  discovery
//	GET  /oidc/keys                                     JWKS (RFC 7517)
//	GET  /oidc/auth                                     login page
//	POST /oidc/auth                                     the login form
//	POST /oidc/token                                    token endpoint
//	POST /oidc/device/code                              device authorization
//	GET  /oidc/device                                   page to approve a device
//	POST /oidc/device                                   the approval form
//	POST /oidc/mint                                     a token for scripts
//	GET  /oidc/github/token                             what a GitHub runner offers
//
// The authorization code grant (RFC 6749, section 4.1) takes PKCE with S256
// (RFC 7636); a grant that began with a challenge ends only with its verifier.
// The device grant is RFC 8628. The only client is public: it has an
// identifier ("sigstore" by default) and an empty secret.
//
// # Guarantees
//
//   - A code works once and for two minutes; a device code works once and for
//     ten minutes. A code is 256 random bits.
//   - A browser is sent only to an http URL on the loopback host, or nowhere
//     (the out-of-band page). Anything else is answered with a page.
//   - A web page of another origin cannot obtain a token: forms are checked
//     with http.CrossOriginProtection, the two endpoints for scripts need a
//     header that a form cannot send, and a request for a foreign host name
//     (DNS rebinding) is refused.
//   - Memory is bounded: at most 5,000 codes and 5,000 device grants wait at a
//     time, each of a few kilobytes at most. When the place is full, new logins
//     are refused until old ones expire. There is no goroutine.
//   - Codes, verifiers and tokens are in no log line and in no error.
//
// The example of New mounts an issuer and signs both kinds of token.
package devoidc

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	codeLifetime    = 2 * time.Minute  // of an authorization code
	deviceLifetime  = 10 * time.Minute // of a device code and its user code
	deviceRetention = 20 * time.Minute // how long an expired device code is known as expired
	deviceInterval  = time.Second      // between two polls; this server is on the same machine

	maxCodes   = 5000
	maxDevices = 5000

	defaultLifetime = 10 * time.Minute
	maxLifetime     = 24 * time.Hour
)

// Config is what an Issuer needs. BaseURL and Key are required.
type Config struct {
	// BaseURL is the URL of the server as clients write it, for example
	// "http://localhost:8080": scheme, host and port, no path and no slash at
	// the end. The issuer URLs are made from it without a change.
	BaseURL string

	// Key signs the tokens. Its public key must be RSA of 2048 to 8192 bits.
	// It is used from many goroutines at once.
	Key crypto.Signer

	// Now is the clock; nil means time.Now.
	Now func() time.Time

	// Rand gives the bytes of codes and token identifiers and is handed to
	// Key. It must be safe for concurrent use and cryptographically strong;
	// nil means crypto/rand.Reader.
	Rand io.Reader

	// ClientID is the only OAuth client and the default audience of every
	// token; empty means "sigstore".
	ClientID string

	// TokenLifetime is the time from "iat" to "exp", rounded down to seconds;
	// zero means 10 minutes, more than 24 hours is an error.
	TokenLifetime time.Duration

	// Log gets a line when a token could not be signed; nil means no log.
	Log *slog.Logger
}

// Issuer is both development issuers. It is an http.Handler for everything
// below /oidc/ and is safe for concurrent use.
type Issuer struct {
	// Written by New only.
	cfg       Config
	base      *url.URL
	kid       string
	pages     *pages
	mux       *http.ServeMux
	origin    *http.CrossOriginProtection
	discovery []byte // of IssuerURL
	github    []byte // of GitHubIssuerURL
	jwks      []byte

	mu      sync.Mutex // guards what follows
	codes   *pending[*grant]
	devices *devices
}

// New checks the configuration and makes an Issuer.
func New(cfg Config) (*Issuer, error) {
	base, err := parseBaseURL(cfg.BaseURL)
	if err != nil {
		return nil, err
	}
	if cfg.Key == nil {
		return nil, errors.New("devoidc: no key: want an RSA signing key")
	}
	pub, ok := cfg.Key.Public().(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("devoidc: key is %T: want an RSA key, tokens are signed with RS256", cfg.Key.Public())
	}
	// RFC 7518, section 3.3: 2048 bits or larger.
	if n := pub.N.BitLen(); n < 2048 || n > 8192 {
		return nil, fmt.Errorf("devoidc: RSA key of %d bits: want 2048 to 8192", n)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.Reader
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.ClientID == "" {
		cfg.ClientID = "sigstore"
	}
	if !printable(cfg.ClientID, 255) {
		return nil, fmt.Errorf("devoidc: client id %q: want at most 255 printable ASCII characters", cfg.ClientID)
	}
	if cfg.TokenLifetime == 0 {
		cfg.TokenLifetime = defaultLifetime
	}
	if cfg.TokenLifetime < time.Second || cfg.TokenLifetime > maxLifetime {
		return nil, fmt.Errorf("devoidc: token lifetime %s: want 1s to %s", cfg.TokenLifetime, maxLifetime)
	}
	cfg.TokenLifetime = cfg.TokenLifetime.Truncate(time.Second)

	pages, err := newPages()
	if err != nil {
		return nil, err
	}
	s := &Issuer{
		cfg:     cfg,
		base:    base,
		pages:   pages,
		origin:  http.NewCrossOriginProtection(),
		codes:   newPending[*grant](maxCodes),
		devices: newDevices(maxDevices),
	}
	if err := s.describe(pub); err != nil {
		return nil, err
	}
	s.mux = http.NewServeMux()
	for pattern, h := range s.routes() {
		s.mux.HandleFunc(pattern, h)
	}
	return s, nil
}

// parseBaseURL accepts exactly one spelling of an origin, because the issuer
// URL is compared byte for byte by everybody.
func parseBaseURL(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("devoidc: base URL %q: want a URL like http://localhost:8080", raw)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || strings.HasSuffix(u.Host, ":") || raw != u.Scheme+"://"+u.Host {
		return nil, fmt.Errorf("devoidc: base URL %q: want http or https, a host and maybe a port, and nothing after it, like http://localhost:8080", raw)
	}
	return u, nil
}

// IssuerURL is the issuer of e-mail tokens: the base URL and "/oidc".
func (s *Issuer) IssuerURL() string { return s.cfg.BaseURL + "/oidc" }

// GitHubIssuerURL is the issuer of GitHub-shaped tokens: the base URL and
// "/oidc/github".
func (s *Issuer) GitHubIssuerURL() string { return s.cfg.BaseURL + "/oidc/github" }

// discoveryDocument is OpenID Connect Discovery 1.0, section 3, with the
// device endpoint of RFC 8628, section 4. A member that an issuer does not
// have is left out: the GitHub issuer has no login.
type discoveryDocument struct {
	Issuer                string   `json:"issuer"`
	AuthorizationEndpoint string   `json:"authorization_endpoint,omitempty"`
	TokenEndpoint         string   `json:"token_endpoint,omitempty"`
	DeviceEndpoint        string   `json:"device_authorization_endpoint,omitempty"`
	JWKSURI               string   `json:"jwks_uri"`
	ResponseTypes         []string `json:"response_types_supported"`
	ResponseModes         []string `json:"response_modes_supported,omitempty"`
	GrantTypes            []string `json:"grant_types_supported,omitempty"`
	SubjectTypes          []string `json:"subject_types_supported"`
	SigningAlgorithms     []string `json:"id_token_signing_alg_values_supported"`
	Scopes                []string `json:"scopes_supported"`
	ChallengeMethods      []string `json:"code_challenge_methods_supported,omitempty"`
	TokenAuthMethods      []string `json:"token_endpoint_auth_methods_supported,omitempty"`
	Claims                []string `json:"claims_supported"`
}

// jwk is one RSA public key (RFC 7518, section 6.3.1): base64url without
// padding, big endian, no leading zero byte.
type jwk struct {
	Kty string `json:"kty"`
	Use string `json:"use"`
	Alg string `json:"alg"`
	Kid string `json:"kid"`
	N   string `json:"n"`
	E   string `json:"e"`
}

// describe computes the three documents that never change.
func (s *Issuer) describe(pub *rsa.PublicKey) error {
	key := jwk{
		Kty: "RSA", Use: "sig", Alg: "RS256",
		N: base64.RawURLEncoding.EncodeToString(pub.N.Bytes()),
		E: base64.RawURLEncoding.EncodeToString(big.NewInt(int64(pub.E)).Bytes()),
	}
	// RFC 7638, section 3: SHA-256 over the required members in this order.
	thumbprint := sha256.Sum256([]byte(`{"e":"` + key.E + `","kty":"RSA","n":"` + key.N + `"}`))
	key.Kid = base64.RawURLEncoding.EncodeToString(thumbprint[:])
	s.kid = key.Kid

	issuer := s.IssuerURL()
	var err error
	encode := func(v any) []byte {
		b, e := json.Marshal(v)
		err = errors.Join(err, e)
		return b
	}
	s.jwks = encode(map[string][]jwk{"keys": {key}})
	s.discovery = encode(discoveryDocument{
		Issuer:                issuer,
		AuthorizationEndpoint: issuer + "/auth",
		TokenEndpoint:         issuer + "/token",
		DeviceEndpoint:        issuer + "/device/code",
		JWKSURI:               issuer + "/keys",
		ResponseTypes:         []string{"code"},
		ResponseModes:         []string{"query"},
		GrantTypes:            []string{grantCode, grantDevice},
		SubjectTypes:          []string{"public"},
		SigningAlgorithms:     []string{"RS256"},
		Scopes:                []string{"openid", "email"},
		ChallengeMethods:      []string{"S256"},
		TokenAuthMethods:      []string{"none", "client_secret_basic", "client_secret_post"},
		Claims:                []string{"iss", "sub", "aud", "exp", "iat", "nonce", "at_hash", "email", "email_verified"},
	})
	s.github = encode(discoveryDocument{
		Issuer:            s.GitHubIssuerURL(),
		JWKSURI:           issuer + "/keys",
		ResponseTypes:     []string{"id_token"},
		SubjectTypes:      []string{"public"},
		SigningAlgorithms: []string{"RS256"},
		Scopes:            []string{"openid"},
		Claims:            gitHubClaimNames(),
	})
	if err != nil {
		return fmt.Errorf("devoidc: encoding the discovery documents: %w", err)
	}
	return nil
}

// routes are the patterns of http.ServeMux and who answers them.
func (s *Issuer) routes() map[string]http.HandlerFunc {
	return map[string]http.HandlerFunc{
		"GET /oidc/.well-known/openid-configuration":        static(s.discovery),
		"GET /oidc/github/.well-known/openid-configuration": static(s.github),
		"GET /oidc/keys":         static(s.jwks),
		"GET /oidc/auth":         s.showLogin,
		"POST /oidc/auth":        s.submitLogin,
		"POST /oidc/token":       s.token,
		"POST /oidc/device/code": s.startDevice,
		"GET /oidc/device":       s.showDevice,
		"POST /oidc/device":      s.submitDevice,
		"POST /oidc/mint":        s.mint,
		"GET /oidc/github/token": s.gitHubRunner,
	}
}

// Routes are the methods and paths that an Issuer serves, sorted, such as
// "GET /oidc/keys".
func Routes() []string { return slices.Sorted(maps.Keys(new(Issuer).routes())) }

func static(body []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Write(body)
	}
}

// ServeHTTP serves everything below /oidc/.
func (s *Issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	// Nothing here may be kept: pages show codes, and the key is a new one
	// after the data directory was thrown away.
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	// Not no-referrer: with that a browser posts our own form with
	// "Origin: null", and the cross-origin check would refuse it.
	h.Set("Referrer-Policy", "same-origin")
	if !s.ownHost(r.Host) {
		// A foreign name that resolves to this machine makes a web page
		// same-origin with us (DNS rebinding).
		http.Error(w, "this development issuer answers only under the host of "+s.cfg.BaseURL+" and loopback hosts", http.StatusMisdirectedRequest)
		return
	}
	if len(r.URL.RawQuery) > maxForm {
		http.Error(w, fmt.Sprintf("query longer than %d bytes", maxForm), http.StatusRequestURITooLong)
		return
	}
	s.mux.ServeHTTP(w, r)
}

// ownHost reports whether the Host header names the base URL's host or a
// loopback host. Ports are not compared: they do not help against rebinding,
// and a test or a port mapping changes them.
func (s *Issuer) ownHost(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if strings.EqualFold(host, s.base.Hostname()) || strings.EqualFold(host, "localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
