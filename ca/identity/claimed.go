package identity

import (
	"bytes"
	"fmt"

	"github.com/sigstack/sigstack/ca/ext"
)

// A Claimed is what a token says of itself: nobody has looked at its signature, its audience or its
// times. It shows what a configuration would make of a token that was recorded, whose keys are gone
// by now. It is not an Identity and cannot become one, so that no certificate comes of it.
type Claimed struct {
	issuer     string
	issuerType string
	claims     []byte
	named
}

// Issuer is the "iss" claim.
func (c Claimed) Issuer() string { return c.issuer }

// IssuerType is the configured type of the issuer, for example "email".
func (c Claimed) IssuerType() string { return c.issuerType }

// Subject is the "sub" claim.
func (c Claimed) Subject() string { return c.subject }

// Email is the mail address that would count as verified, or empty.
func (c Claimed) Email() string { return c.email }

// SAN is the name that a certificate would be issued to.
func (c Claimed) SAN() ext.SAN { return c.san }

// Extensions are the values that the extensions of a certificate would have.
func (c Claimed) Extensions() ext.Values { return c.values }

// Claims are all claims: one JSON object, without a name that stands twice.
func (c Claimed) Claims() []byte { return bytes.Clone(c.claims) }

// Claimed reads a recorded token. It chooses the issuer as Verify does and holds the token to the
// same shape; a signature has to be there, but may be anything.
func (v *Verifier) Claimed(rawToken string) (Claimed, error) {
	t, err := parseToken(rawToken)
	if err != nil {
		return Claimed{}, fmt.Errorf("%w: %w", ErrToken, err)
	}
	return v.claimed(t)
}

// ClaimedBy is Claimed for the claims of a token alone: one JSON object.
func (v *Verifier) ClaimedBy(payload []byte) (Claimed, error) {
	if most := maxToken / 4 * 3; len(payload) > most {
		return Claimed{}, fmt.Errorf("%w: the claims have %d bytes, at most %d fit into a token", ErrToken, len(payload), most)
	}
	t := token{payload: bytes.Clone(payload)}
	var err error
	if t.claims, err = parseObject(t.payload); err == nil {
		err = t.claims.checkNames()
	}
	if err == nil {
		t.issuer, err = t.claims.text("iss")
	}
	if err != nil {
		return Claimed{}, fmt.Errorf("%w: %w", ErrToken, err)
	}
	return v.claimed(t)
}

func (v *Verifier) claimed(t token) (Claimed, error) {
	s := v.source(t.issuer)
	if s == nil {
		return Claimed{}, fmt.Errorf("%w: the issuer %s is not configured", ErrToken, quote(t.issuer))
	}
	n, err := s.names(t)
	if err != nil {
		return Claimed{}, refused(t, err)
	}
	return Claimed{issuer: t.issuer, issuerType: s.Type, claims: t.payload, named: n}, nil
}
