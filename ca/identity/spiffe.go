package identity

import (
	"errors"
	"fmt"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/sigstack/sigstack/ca/ext"
)

// The type "spiffe": a workload, named by the SPIFFE ID in "sub". An issuer speaks for one trust
// domain, so that a pattern cannot be of this type.

func prepareSPIFFE(i Issuer) (resolver, error) {
	if err := i.onlyFields("SPIFFETrustDomain"); err != nil {
		return nil, err
	}
	if i.IsPattern() {
		return nil, errors.New(`URL is a pattern, which the type "spiffe" does not allow: each issuer has a trust domain of its own`)
	}
	domain, err := spiffeid.TrustDomainFromString(i.SPIFFETrustDomain)
	if err != nil || domain.Name() != i.SPIFFETrustDomain {
		return nil, fmt.Errorf("SPIFFETrustDomain %q is not a trust domain, for example example.com", i.SPIFFETrustDomain)
	}
	return func(_ string, c claims) (resolved, error) {
		subject, err := c.text("sub")
		if err != nil {
			return resolved{}, err
		}
		id, err := spiffeid.FromString(subject)
		if err != nil {
			return resolved{}, errors.New(`the claim "sub" is not a SPIFFE ID`)
		}
		if !id.MemberOf(domain) {
			return resolved{}, fmt.Errorf(`the claim "sub" is of the trust domain %s, %s is required`, quote(id.TrustDomain().Name()), domain.Name())
		}
		return resolved{san: ext.SAN{Kind: ext.URI, Value: subject}}, nil
	}, nil
}
