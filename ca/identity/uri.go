package identity

import (
	"errors"
	"fmt"
	"net"
	"net/mail"
	"net/url"
	"strings"

	"golang.org/x/net/publicsuffix"

	"github.com/sigstack/sigstack/ca/ext"
)

// The type "uri": a workload, named by a URI in "sub" below a domain that belongs to the issuer.

func prepareURI(i Issuer) (resolver, error) {
	if err := i.onlyFields("SubjectDomain"); err != nil {
		return nil, err
	}
	if i.SubjectDomain == "" {
		return nil, errors.New(`SubjectDomain is missing, the type "uri" requires it, for example https://example.com`)
	}
	if checkOrigin(i.SubjectDomain) != nil {
		return nil, fmt.Errorf("SubjectDomain %q is not a scheme and a host alone, for example https://example.com", i.SubjectDomain)
	}
	domain, err := url.Parse(i.SubjectDomain)
	if err != nil {
		return nil, errors.New("SubjectDomain does not parse")
	}
	issuer, err := url.Parse(i.URL)
	if err != nil {
		return nil, errors.New("URL does not parse")
	}
	if domain.Scheme != issuer.Scheme {
		return nil, fmt.Errorf("SubjectDomain %q has another scheme than URL, they must be the same", i.SubjectDomain)
	}
	if !sameRegisteredDomain(domain.Hostname(), issuer.Hostname()) {
		return nil, fmt.Errorf("SubjectDomain %q is not in the registered domain of URL: an issuer only speaks for its own domain", i.SubjectDomain)
	}
	return func(_ string, c claims) (resolved, error) { return resolveURI(i, c) }, nil
}

// checkOrigin wants a scheme and a host, with a port or without, and nothing else.
func checkOrigin(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Scheme == "" || u.Hostname() == "" || (&url.URL{Scheme: u.Scheme, Host: u.Host}).String() != s {
		return errors.New("not a scheme and a host alone")
	}
	return nil
}

// sameRegisteredDomain reports whether two hosts are equal or below the same domain that one
// registers, as the public suffix list has it: example.co.uk, not co.uk.
func sameRegisteredDomain(a, b string) bool {
	if strings.EqualFold(a, b) {
		return true
	}
	if net.ParseIP(a) != nil || net.ParseIP(b) != nil {
		return false
	}
	domainA, errA := publicsuffix.EffectiveTLDPlusOne(strings.ToLower(a))
	domainB, errB := publicsuffix.EffectiveTLDPlusOne(strings.ToLower(b))
	return errA == nil && errB == nil && domainA == domainB
}

func resolveURI(i Issuer, c claims) (resolved, error) {
	subject, err := c.text("sub")
	if err != nil {
		return resolved{}, err
	}
	if _, err := mail.ParseAddress(subject); err == nil {
		return resolved{}, errors.New(`the claim "sub" is a mail address, a URI is required`)
	}
	u, err := url.Parse(subject)
	if err != nil || !u.IsAbs() || u.Host == "" {
		return resolved{}, fmt.Errorf(`the claim "sub" is not an absolute URI below %s`, i.SubjectDomain)
	}
	// SubjectDomain is exactly scheme://host, see prepareURI. Comparing the text leaves no
	// room for another case, a port or user information. Another spelling of the same URI is
	// refused, so that the name in the certificate is the subject byte for byte and two subjects
	// never share it.
	if u.Scheme+"://"+u.Host != i.SubjectDomain || u.User != nil {
		return resolved{}, fmt.Errorf(`the claim "sub" does not have the scheme and host of %s`, i.SubjectDomain)
	}
	if u.String() != subject {
		return resolved{}, errors.New(`the claim "sub" is not a URI in its normal spelling`)
	}
	return resolved{san: ext.SAN{Kind: ext.URI, Value: subject}}, nil
}
