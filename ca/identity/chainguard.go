package identity

import (
	"errors"
	"net/url"

	"github.com/sigstack/sigstack/ca/ext"
)

// The type "chainguard-identity": an identity of Chainguard, named by its path below the issuer.

func prepareChainguard(i Issuer) (resolver, error) {
	if err := i.onlyFields(); err != nil {
		return nil, err
	}
	return resolveChainguard, nil
}

func resolveChainguard(issuer string, c claims) (resolved, error) {
	subject, err := c.text("sub")
	if err != nil {
		return resolved{}, err
	}
	base, err := url.Parse(issuer)
	if err != nil {
		return resolved{}, errors.New("the issuer is not a URL")
	}
	name := base.JoinPath(subject)
	if !plainPath(subject) || name.Path != base.JoinPath().Path+"/"+subject && name.Path != base.Path+subject {
		return resolved{}, errors.New(`the claim "sub" is not a path below the issuer`)
	}
	return resolved{san: ext.SAN{Kind: ext.URI, Value: name.String()}, proof: c.verifiedEmail()}, nil
}
