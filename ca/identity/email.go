package identity

import (
	"errors"
	"fmt"
	"strings"

	"github.com/sigstack/sigstack/ca/ext"
)

// The type "email": a person, named by a verified mail address.

func prepareEmail(i Issuer) (resolver, error) {
	if err := i.onlyFields("IssuerClaim", "SkipEmailVerification"); err != nil {
		return nil, err
	}
	var path []string // of the claim that names the issuer; nil if that is "iss"
	if i.IssuerClaim != "" {
		var err error
		if path, err = claimPath(i.IssuerClaim); err != nil {
			return nil, err
		}
	}
	return func(_ string, c claims) (resolved, error) {
		email, err := c.text("email")
		if err != nil {
			return resolved{}, err
		}
		verified, _, err := c.flag("email_verified")
		switch {
		case err != nil:
			return resolved{}, err
		case !verified && !i.SkipEmailVerification:
			return resolved{}, errors.New(`the claim "email_verified" must be true`)
		}
		if err := checkAddress(email); err != nil {
			return resolved{}, err
		}
		r := resolved{san: ext.SAN{Kind: ext.Email, Value: email}, proof: email, email: email}
		if path != nil {
			if r.values.Issuer, err = c.lookup(path); err != nil {
				return resolved{}, err
			}
		}
		return r, nil
	}, nil
}

// claimPath splits a path of the form $.a.b into the names of nested claims. The rest of the
// JSONPath language is refused: a claim that names the issuer needs no search.
func claimPath(s string) ([]string, error) {
	const most = 8
	bad := fmt.Errorf("IssuerClaim %q is not of the form $.name or $.name.name, with at most %d names", s, most)
	rest, ok := strings.CutPrefix(s, "$.")
	if !ok || strings.Count(rest, ".") >= most || strings.ContainsAny(rest, "[]()*?@$'\"\\ \t\r\n") {
		return nil, bad
	}
	path := strings.Split(rest, ".")
	for _, name := range path {
		if name == "" {
			return nil, bad
		}
	}
	return path, nil
}
