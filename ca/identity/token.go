package identity

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

// maxToken is the largest token in bytes. Tokens of CI providers have about 2 KiB.
const maxToken = 16 << 10

// maxLabel is the largest "kid" and "jti" in bytes that is kept for the audit.
const maxLabel = 256

// algorithms are the signature algorithms that a token may use, all asymmetric (RFC 7518, section
// 3.1, and RFC 8037, section 3.1), if the issuer advertises them as well.
var algorithms = [...]jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512,
	jose.ES256, jose.ES384, jose.ES512,
	jose.PS256, jose.PS384, jose.PS512,
	jose.EdDSA,
}

// forbidden are header parameters that change what is signed or bring or point to a key. Keys
// come from the configured issuer and from nowhere else. A certificate chain in the token (x5c)
// and thumbprints are common and are ignored.
var forbidden = [...]string{"crit", "b64", "jwk", "jku", "x5u", "zip", "enc"}

// A token is a compact JWS whose shape was checked. Nothing in it is verified.
type token struct {
	raw    string
	alg    jose.SignatureAlgorithm
	kid    string // empty if absent
	issuer string // "iss"

	payload []byte // JSON of one object
	claims  claims // its members
}

// parseToken checks the shape of a compact JWS (RFC 7515, sections 3.1 and 7.1) and reads its
// header and claims, without verifying anything. The dots are counted and the alphabet is checked
// before anything is split or decoded, so that the cost is bounded by maxToken. Base64url must be
// without padding and with zero trailing bits: a token has one spelling.
func parseToken(raw string) (token, error) {
	switch {
	case raw == "":
		return token{}, errors.New("the token is missing")
	case len(raw) > maxToken:
		return token{}, fmt.Errorf("the token has %d bytes, at most %d are allowed", len(raw), maxToken)
	}
	dots := 0
	for i := range len(raw) {
		switch c := raw[i]; {
		case c == '.':
			dots++
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
		default:
			return token{}, fmt.Errorf("byte %d of the token is not a base64url character, a compact JWS is required", i)
		}
	}
	if dots != 2 {
		return token{}, fmt.Errorf("the token has %d dots, a compact JWS has 2", dots)
	}
	head, rest, _ := strings.Cut(raw, ".")
	body, signature, _ := strings.Cut(rest, ".")
	if signature == "" {
		return token{}, errors.New("the token is not signed")
	}

	t := token{raw: raw}
	strict := base64.RawURLEncoding.Strict()
	if _, err := strict.DecodeString(signature); err != nil {
		return token{}, errors.New("the signature of the token is not base64url")
	}
	decoded, err := strict.DecodeString(head)
	if err != nil {
		return token{}, errors.New("the header of the token is not base64url")
	}
	header, err := parseObject(decoded)
	if err != nil {
		return token{}, fmt.Errorf("the header of the token: %w", err)
	}
	for _, name := range forbidden {
		if _, ok := header[name]; ok {
			return token{}, fmt.Errorf("the header of the token has the parameter %q, which is not accepted", name)
		}
	}
	// RFC 7519, section 5.2: the content type JWT announces a nested token.
	if _, ok := header["cty"]; ok {
		cty, _, err := header.str("cty")
		if err != nil || strings.EqualFold(cty, "JWT") {
			return token{}, errors.New(`the header of the token has the content type ("cty") of a nested token, which is not accepted`)
		}
	}
	alg, _, err := header.str("alg")
	if err != nil {
		return token{}, fmt.Errorf("the header of the token: %w", err)
	}
	t.alg = jose.SignatureAlgorithm(alg)
	if !slices.Contains(algorithms[:], t.alg) {
		return token{}, fmt.Errorf("the token's algorithm is %s, one of %v is required", quote(alg), algorithms)
	}
	if t.kid, _, err = header.str("kid"); err != nil {
		return token{}, fmt.Errorf("the header of the token: %w", err)
	}

	if t.payload, err = strict.DecodeString(body); err != nil {
		return token{}, errors.New("the payload of the token is not base64url")
	}
	if t.claims, err = parseObject(t.payload); err != nil {
		return token{}, fmt.Errorf("the payload of the token: %w", err)
	}
	if err = t.claims.checkNames(); err != nil {
		return token{}, err
	}
	if t.issuer, err = t.claims.text("iss"); err != nil {
		return token{}, err
	}
	return t, nil
}

// signed is what the signature signs (RFC 7515, section 5.1): everything before the second dot.
func (t token) signed() string { return t.raw[:strings.LastIndexByte(t.raw, '.')] }

// quote renders a string of a token for a message: quoted, and cut to what a reader can use.
func quote(s string) string {
	const most = 200
	if len(s) > most {
		return fmt.Sprintf("%q...", strings.ToValidUTF8(s[:most], ""))
	}
	return fmt.Sprintf("%q", s)
}
