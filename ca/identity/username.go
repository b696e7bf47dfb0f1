package identity

import (
	"errors"
	"fmt"
	"net/mail"
	"net/url"
	"strings"

	"github.com/sigstack/sigstack/ca/ext"
)

// The type "username": an account that is not a mailbox, named by "sub" and a domain that belongs
// to the issuer.

func prepareUsername(i Issuer) (resolver, error) {
	if err := i.onlyFields("SubjectDomain"); err != nil {
		return nil, err
	}
	if i.SubjectDomain == "" {
		return nil, errors.New(`SubjectDomain is missing, the type "username" requires it, for example example.com`)
	}
	if (&url.URL{Host: i.SubjectDomain}).Hostname() != i.SubjectDomain || strings.Trim(i.SubjectDomain, hostChars+".") != "" {
		return nil, fmt.Errorf("SubjectDomain %q is not a host alone, for example example.com", i.SubjectDomain)
	}
	issuer, err := url.Parse(i.URL)
	if err != nil {
		return nil, errors.New("URL does not parse")
	}
	if !sameRegisteredDomain(i.SubjectDomain, issuer.Hostname()) {
		return nil, fmt.Errorf("SubjectDomain %q is not in the registered domain of URL: an issuer only speaks for its own domain", i.SubjectDomain)
	}
	return func(_ string, c claims) (resolved, error) {
		subject, err := c.text("sub")
		if err != nil {
			return resolved{}, err
		}
		if strings.Contains(subject, "!") {
			return resolved{}, errors.New(`the claim "sub" has a "!", which stands before the domain of a user name`)
		}
		if _, err := mail.ParseAddress(subject); err == nil {
			return resolved{}, errors.New(`the claim "sub" is a mail address, a user name is required`)
		}
		return resolved{san: ext.SAN{Kind: ext.Username, Value: subject + "!" + i.SubjectDomain}}, nil
	}, nil
}
