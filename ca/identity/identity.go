// Package identity decides who asks for a certificate: it verifies an OpenID Connect ID token
// and maps its claims to the name and the extensions of a signing certificate.
//
// # From a token to an Identity
//
//	token -> shape -> issuer -> keys -> signature and standard claims -> issuer type -> Identity
//
// The shape is a compact JWS (RFC 7515, section 3.1) of at most 16 KiB with exactly two dots;
// they are counted before anything is split. The header may not carry a key or point to one. The
// "iss" claim, not verified yet, chooses the configured issuer: an exact URL first, else the
// most specific pattern that matches. Only then is the issuer asked for its keys, and only the
// issuer: nothing in a token can make this package open a connection to a host that the
// configuration does not name. Discovery, audience and expiry are go-oidc's part; what it leaves
// open (see claims.go) is checked here, on the same bytes.
//
// The issuer's type says what the claims mean. There is one literal table of the types in types.go,
// and a file for each: email.go, uri.go, username.go, kubernetes.go, spiffe.go, chainguard.go, and
// templates.go for CI systems, some of which have their templates in fixed.go.
//
// # Guarantees
//
// An Identity can only come from Verifier.Verify, so that who holds one holds a verified token. What
// a recorded token claims is a Claimed, of which no certificate can come. The SAN and Values of an
// Identity have been encoded once already and can always be encoded again.
//
// Memory and time that a token costs are bounded and linear in its length. Keys of an issuer are
// fetched when they are first needed and again at most once a minute, however many tokens with
// unknown key ids arrive; concurrent requests share one fetch. An issuer that is down fails its
// own tokens with ErrIssuerUnavailable and no others.
//
// Errors name the issuer, the claim and what was expected. They never contain the token or its
// signature.
package identity

import (
	"bytes"
	"errors"
	"net/http"
	"time"

	"github.com/sigstack/sigstack/ca/ext"
)

// ErrToken is wrapped by every refusal of a token: its shape, its signature, its claims, or an
// issuer that is not configured. It is the client's fault (HTTP 400). The text is the one that
// Fulcio answers with; the reason follows behind ": ".
//
//lint:ignore ST1005 the text is that of the wire protocol
var ErrToken = errors.New("There was an error processing the identity token")

// ErrIssuerUnavailable is wrapped when the discovery document or the keys of a configured issuer
// cannot be fetched or used, so that nothing can be said about the token. It is not the client's
// fault (HTTP 503); the same token may be accepted later.
var ErrIssuerUnavailable = errors.New("the identity provider is unavailable")

// An Identity is a verified answer to "who asks". Only Verifier.Verify makes one; the zero value
// is not valid and cannot be encoded into a certificate.
type Identity struct {
	issuer  string
	subject string
	san     ext.SAN
	values  ext.Values
	proofs  []string
	claims  []byte
	audit   Audit
	token   Token
}

// Valid reports whether a Verifier made i.
func (i Identity) Valid() bool { return i.issuer != "" }

// Issuer is the verified "iss" claim. The issuer that the certificate names, Extensions().Issuer,
// differs from it only where Issuer.IssuerClaim is configured.
func (i Identity) Issuer() string { return i.issuer }

// IssuerType is the configured type of the issuer, for example "email".
func (i Identity) IssuerType() string { return i.audit.IssuerType }

// Subject is the verified "sub" claim.
func (i Identity) Subject() string { return i.subject }

// Email is the "email" claim if it counts as verified, else empty.
func (i Identity) Email() string { return i.audit.Email }

// SAN is the name that the certificate is issued to.
func (i Identity) SAN() ext.SAN { return i.san }

// Extensions are the values of the certificate's 1.3.6.1.4.1.57264.1 extensions.
func (i Identity) Extensions() ext.Values { return i.values }

// ProofSubjects are the strings that a proof of possession may sign, as UTF-8 bytes; there is at
// least one and the first is the primary one. Clients sign the verified e-mail address if the
// token has one and else the subject, whatever the issuer's type is, so both are listed: a
// signature over either shows possession of the key equally well.
func (i Identity) ProofSubjects() []string { return append([]string(nil), i.proofs...) }

// Claims are all claims of the verified token: one JSON object of at most 12 KiB, as its issuer
// wrote it, without a name that stands twice.
func (i Identity) Claims() []byte { return bytes.Clone(i.claims) }

// Token says which token is behind i, so that one that is good for one key only can be
// recognized. It does not hold the token.
func (i Identity) Token() Token { return i.token }

// Audit is what a log of issued certificates keeps about the token. It never holds the token.
func (i Identity) Audit() Audit { return i.audit }

// Audit describes the token behind an Identity.
type Audit struct {
	Issuer     string    // "iss"
	IssuerType string    // the configured type, for example "email"
	Subject    string    // "sub"
	Email      string    // "email" if it counts as verified, else empty
	TokenID    string    // "jti" if the token has one of at most 256 bytes, else empty
	KeyID      string    // the header's "kid" if the token has one of at most 256 bytes, else empty
	IssuedAt   time.Time // "iat", zero if absent
	Expiry     time.Time // "exp"
}

// A Token is what one-time use has to know of a token.
type Token struct {
	// SHA256 is the hash of what is signed, header and payload in base64url with a dot between:
	// the signature is left out, because more than one may verify (that of ECDSA is malleable,
	// and an issuer may sign the same claims again).
	SHA256 [32]byte

	Expiry  time.Time // "exp"
	OneTime bool      // Issuer.OneTime of its issuer
}

// Config names the identity providers whose tokens are accepted.
type Config struct {
	// Issuers, in any order. A token's "iss" is compared with the exact URLs first, then with
	// the patterns, the one with the longest literal text first.
	Issuers []Issuer
}

// An Issuer is one identity provider, or a family of them.
type Issuer struct {
	// URL is compared with the "iss" claim byte for byte, and is where discovery starts
	// (URL + "/.well-known/openid-configuration"). It is https, without query and fragment.
	//
	// A URL that contains '*' is a pattern: each '*' stands for one whole host label or one
	// whole path segment of [-_a-zA-Z0-9]+, the rest is literal, and both ends are anchored. The
	// end of the host must be literal up to a domain that can be registered, because a wider
	// pattern would let anybody be an issuer. The keys of an issuer that a pattern found must
	// be served by the issuer's own host.
	URL string

	// ClientID must be in the "aud" claim. Public clients use "sigstore".
	ClientID string

	// Type says how claims become a certificate: "email", "uri", "username", "kubernetes",
	// "spiffe", "chainguard-identity", "github-workflow", "gitlab-pipeline", "buildkite-job",
	// "codefresh-workflow" or "ci-provider".
	Type string

	// SubjectDomain is required for the types "uri" and "username" and only allowed there. For
	// "uri" it is the scheme and host that every subject must have, for example
	// https://example.com, with the scheme of URL; for "username" the host that is written behind
	// every subject. Both belong to the registered domain of URL.
	SubjectDomain string

	// IssuerClaim is only allowed for the type "email": the path of a string claim whose value
	// becomes the issuer in the certificate, for example $.federated_claims.connector_id when
	// Dex stands before the real provider. It does not change whose keys are trusted.
	IssuerClaim string

	// SkipEmailVerification accepts e-mail addresses that the issuer does not mark as verified
	// ("email_verified"). Only for issuers whose administrators assign the addresses.
	SkipEmailVerification bool

	// SPIFFETrustDomain is required for the type "spiffe" and only allowed there: the trust
	// domain of every subject, without a scheme, for example example.com.
	SPIFFETrustDomain string

	// Templates are required for the type "ci-provider" and only allowed there.
	Templates *Templates

	// Challenge is the claim that GetConfiguration tells clients to sign, where it differs from
	// the one that the type says. Nothing else depends on it; see Identity.ProofSubjects.
	Challenge string

	// MaxTokenAge is how old a token may be, by its "iat"; 0 leaves that to "exp".
	MaxTokenAge time.Duration

	// OneTime makes a token good for one key: who has seen it cannot have a certificate for
	// another key with it. The Verifier only hands that on, in Identity.Token; the CA
	// remembers which key a token was used for.
	OneTime bool

	// InsecureHTTP accepts an http URL of a host that is not this machine. Whoever stands
	// between can replace the issuer's keys.
	InsecureHTTP bool

	// Transport is how this issuer is reached, for example in process. Without it, requests go
	// over the network as Options.Transport says. A Transport may serve an http URL.
	Transport http.RoundTripper

	// CACert holds PEM certificates that are trusted for the TLS of this issuer in addition to
	// those of the system. It cannot be combined with a Transport.
	CACert string

	// Description and Contact are for the reader of the configuration.
	Description string
	Contact     string
}

// Templates say how the claims of a CI system become a certificate.
//
// A template with "{{" in it is one of text/template, over the claims by their names; one without
// is the name of a claim. What text/template's index finds missing is missing, as a field is.
type Templates struct {
	// Name is what the configuration calls them, for errors and for its reader.
	Name string

	// SAN makes the subject alternative name, a URI.
	SAN string

	// Extensions make the extensions, by their keys; see ext.Values.Field.
	Extensions map[string]string

	// Defaults stand beside the claims. One that is empty stands for a claim that may be absent.
	// One with a value is a constant: a token with another value in a claim of that name is
	// refused, unless Overridable lists the name.
	Defaults map[string]string

	// Overridable are the names of Defaults that a claim may replace.
	Overridable []string
}

// IsPattern reports whether URL contains a '*' and so stands for a family of issuers.
func (i Issuer) IsPattern() bool { return isPattern(i.URL) }

// Covers reports whether an issuer is this one, or one of those that its pattern stands for.
func (i Issuer) Covers(issuer string) bool {
	if !i.IsPattern() {
		return i.URL == issuer
	}
	return len(issuer) <= maxIssuer && newPattern(i.URL).match(issuer)
}

// ChallengeClaim is the claim that clients are told to sign as proof of possession: Challenge if
// it is set, "email" for the type "email", else "sub".
func (i Issuer) ChallengeClaim() string {
	if i.Challenge != "" {
		return i.Challenge
	}
	if t, ok := typeByName(i.Type); ok {
		return t.challengeClaim
	}
	return ""
}

// Options are what a Verifier needs besides the configuration. The zero value is usable.
type Options struct {
	// Now is the clock; time.Now if nil.
	Now func() time.Time

	// Before is a Verifier that the new one takes the place of, or nil. Issuers that are
	// configured as they were keep what is known of them: their keys, and when they were asked.
	// They keep their Transport and the clock, too, so these have to be the same.
	Before *Verifier

	// Transport reaches all issuers that do not have their own. If nil, a transport of the
	// Verifier's own is used: TLS 1.2 or later, no proxy, no HTTP redirect to another host.
	Transport http.RoundTripper
}
