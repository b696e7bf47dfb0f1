package identity

import (
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/publicsuffix"
)

// maxIssuer is the largest issuer URL in bytes.
const maxIssuer = 1024

// Check says what is wrong with the configuration of an issuer, without asking it.
func (i Issuer) Check() error {
	_, err := i.prepare()
	return err
}

// prepare applies the rules that all types share, then those of the type.
func (i Issuer) prepare() (resolver, error) {
	if i.ClientID == "" {
		return nil, errors.New(`ClientID is missing: the audience that tokens must have, for example "sigstore"`)
	}
	t, ok := typeByName(i.Type)
	if !ok {
		return nil, fmt.Errorf("type is %q, one of %s is required", i.Type, typeNames())
	}
	if err := i.checkURL(); err != nil {
		return nil, err
	}
	if i.MaxTokenAge < 0 {
		return nil, fmt.Errorf("MaxTokenAge %s is negative; 0 leaves the age of a token to its issuer", i.MaxTokenAge)
	}
	if i.Transport != nil && i.CACert != "" {
		return nil, errors.New("CACert cannot be combined with a Transport, which brings its own trust")
	}
	if i.CACert != "" && !x509.NewCertPool().AppendCertsFromPEM([]byte(i.CACert)) {
		return nil, errors.New("CACert has no PEM certificate")
	}
	return t.prepare(i)
}

// checkURL applies the rules for an issuer (OpenID Connect Discovery 1.0, section 3: https, no
// query, no fragment) and for a pattern.
func (i Issuer) checkURL() error {
	if i.URL == "" {
		return errors.New("URL is missing")
	}
	if len(i.URL) > maxIssuer {
		return fmt.Errorf("URL has %d bytes, at most %d are allowed", len(i.URL), maxIssuer)
	}
	for k := range len(i.URL) {
		if i.URL[k] <= ' ' || i.URL[k] > '~' {
			return errors.New("URL has a character that is not printable ASCII")
		}
	}
	u, err := url.Parse(i.URL)
	if err != nil || u.Hostname() == "" || !strings.HasPrefix(i.URL, u.Scheme+"://"+u.Host) {
		return errors.New("URL is not of the form https://host/path, with the scheme in lower case and without user information")
	}
	if strings.ContainsAny(i.URL, "?#") {
		return errors.New("URL has a query or a fragment, which an issuer cannot have")
	}
	switch u.Scheme {
	case "https":
	case "http":
		if !isLoopback(u.Hostname()) && !i.InsecureHTTP && i.Transport == nil {
			return errors.New("URL is http and not of this machine; use https, or set InsecureHTTP")
		}
	default:
		return fmt.Errorf("URL has the scheme %q, https is required", u.Scheme)
	}
	if i.IsPattern() {
		return checkPattern(u, strings.TrimPrefix(i.URL, u.Scheme+"://"+u.Host))
	}
	return nil
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// checkPattern refuses patterns that say more than they seem to: a '*' that is only a part of a
// label or segment, and one that leaves the registered domain open. The path is as it was
// written: a parsed one may have its '*' escaped.
func checkPattern(u *url.URL, path string) error {
	labels := strings.Split(u.Hostname(), ".")
	parts := append(append([]string{u.Port()}, labels...), strings.Split(path, "/")...)
	if strings.Contains(u.Port(), "*") {
		return errors.New("URL has a '*' in its port")
	}
	for _, part := range parts {
		if strings.Contains(part, "*") && part != "*" {
			return errors.New("URL has a '*' that is not a whole host label or a whole path segment")
		}
	}
	last := -1
	for k, label := range labels {
		if label == "*" {
			last = k
		}
	}
	if last < 0 {
		return nil
	}
	literal := strings.ToLower(strings.Join(labels[last+1:], "."))
	if literal == "" || net.ParseIP(u.Hostname()) != nil {
		return errors.New("URL is a pattern whose host does not end in a domain: anybody could be this issuer")
	}
	if suffix, _ := publicsuffix.PublicSuffix(literal); suffix == literal {
		return fmt.Errorf("URL is a pattern for all names below %q: anybody could be this issuer", literal)
	}
	return nil
}

// onlyFields refuses settings that the type would ignore.
func (i Issuer) onlyFields(used ...string) error {
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"SubjectDomain", i.SubjectDomain != ""},
		{"IssuerClaim", i.IssuerClaim != ""},
		{"SkipEmailVerification", i.SkipEmailVerification},
		{"SPIFFETrustDomain", i.SPIFFETrustDomain != ""},
		{"Templates", i.Templates != nil},
	} {
		if f.set && !slices.Contains(used, f.name) {
			return fmt.Errorf("%s is set, which has no meaning for the type %q", f.name, i.Type)
		}
	}
	return nil
}

func isPattern(s string) bool { return strings.Contains(s, "*") }

// A pattern matches issuers. It was checked by checkPattern, so that behind each '*' stands the
// end or a character that '*' does not match: one pass from left to right decides.
type pattern struct {
	pieces  []string // the literal text before, between and behind the '*'
	literal int      // the bytes of literal text
}

func newPattern(s string) pattern {
	return pattern{pieces: strings.Split(s, "*"), literal: len(s) - strings.Count(s, "*")}
}

// match reports whether the whole of s is the pattern with each '*' replaced by one or more of
// [-_a-zA-Z0-9].
func (p pattern) match(s string) bool {
	rest, ok := strings.CutPrefix(s, p.pieces[0])
	for _, piece := range p.pieces[1:] {
		if !ok {
			return false
		}
		n := 0
		for n < len(rest) && wild(rest[n]) {
			n++
		}
		if n == 0 {
			return false
		}
		rest, ok = strings.CutPrefix(rest[n:], piece)
	}
	return ok && rest == ""
}

func wild(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_'
}

// equal says whether two issuers are configured in the same way, however they are reached.
func (i Issuer) equal(j Issuer) bool {
	templates := i.Templates.equal(j.Templates)
	i.Templates, j.Templates = nil, nil
	i.Transport, j.Transport = nil, nil
	return templates && i == j
}

func (t *Templates) equal(u *Templates) bool {
	if t == nil || u == nil {
		return t == u
	}
	return t.Name == u.Name && t.SAN == u.SAN && maps.Equal(t.Extensions, u.Extensions) && maps.Equal(t.Defaults, u.Defaults) &&
		slices.Equal(t.Overridable, u.Overridable)
}
