package identity

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/mail"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// leeway is how far the clock of an issuer may be ahead of ours, for "nbf" and "iat". There is
// none for "exp": a client that gets a token asks for its certificate at once.
const leeway = 5 * time.Minute

// maxMembers is how many members a JSON object may have.
const maxMembers = 1024

// claims are the members of one JSON object, by their exact names.
//
// encoding/json, and with it go-oidc, takes the last of several members of the same name, matches
// names without regard to case, and replaces what is not Unicode. Each of these would let a
// provider's user-defined claim stand in for a claim that means something, so objects are taken
// apart here: duplicates, invalid Unicode, and other spellings of the names that go-oidc reads
// are refused.
type claims map[string]json.RawMessage

// parseObject takes one JSON object apart, with nothing behind it.
func parseObject(data []byte) (claims, error) {
	if !utf8.Valid(data) {
		return nil, errors.New("not valid UTF-8")
	}
	// The decoder's own messages quote the input; an offset is enough.
	notObject := errors.New("not one JSON object")
	d := json.NewDecoder(bytes.NewReader(data))
	if first, err := d.Token(); err != nil || first != json.Delim('{') {
		return nil, notObject
	}
	c := claims{}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, notObject
		}
		name, ok := key.(string)
		if !ok {
			return nil, notObject
		}
		if len(c) == maxMembers {
			return nil, fmt.Errorf("more than %d members", maxMembers)
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, notObject
		}
		if _, ok := c[name]; ok {
			return nil, fmt.Errorf("the member %s stands twice", quote(name))
		}
		c[name] = value
	}
	if _, err := d.Token(); err != nil {
		return nil, notObject
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, notObject
	}
	return c, nil
}

// readByLibrary are the claims that go-oidc reads for itself, without regard to case.
var readByLibrary = [...]string{"iss", "sub", "aud", "exp", "nbf", "iat", "nonce", "at_hash", "_claim_names", "_claim_sources"}

// checkNames refuses names that go-oidc would take for a claim that it reads.
func (c claims) checkNames() error {
	for name := range c {
		for _, known := range readByLibrary {
			if name != known && strings.EqualFold(name, known) {
				return fmt.Errorf("the claim %s is another spelling of %q, which is not accepted", quote(name), known)
			}
		}
	}
	return nil
}

// get returns the raw value of a claim. A null counts as absent.
func (c claims) get(name string) (json.RawMessage, bool) {
	raw, ok := c[name]
	return raw, ok && string(raw) != "null"
}

// str returns a string claim, and whether it is there.
func (c claims) str(name string) (string, bool, error) {
	raw, ok := c.get(name)
	if !ok {
		return "", false, nil
	}
	var s string
	if raw[0] != '"' || json.Unmarshal(raw, &s) != nil {
		return "", false, fmt.Errorf("the claim %q is not a string", name)
	}
	// An escaped lone surrogate becomes U+FFFD, so that different claims would look the same.
	if strings.ContainsRune(s, utf8.RuneError) {
		return "", false, fmt.Errorf("the claim %q is not valid Unicode", name)
	}
	return s, true, nil
}

// text returns a string claim that must be there, not be empty, and have no control character:
// it becomes part of a certificate.
func (c claims) text(name string) (string, error) {
	s, _, err := c.str(name)
	switch {
	case err != nil:
		return "", err
	case s == "":
		return "", fmt.Errorf("the claim %q is missing or empty", name)
	}
	return s, checkText(name, s)
}

// optionalText is text for a claim that may be absent or empty.
func (c claims) optionalText(name string) (string, error) {
	s, _, err := c.str(name)
	if err != nil {
		return "", err
	}
	return s, checkText(name, s)
}

// checkText refuses control characters and line separators. They would let one line of a
// printed certificate or log look like two.
func checkText(name, s string) error {
	bad := func(r rune) bool { return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' }
	if strings.ContainsFunc(s, bad) {
		return fmt.Errorf("the claim %q has a control character", name)
	}
	return nil
}

// flag returns a claim that is a boolean, or one of the strings true, True, false and False that
// some providers send.
func (c claims) flag(name string) (value, present bool, err error) {
	raw, ok := c.get(name)
	if !ok {
		return false, false, nil
	}
	switch string(raw) {
	case `true`, `"true"`, `"True"`:
		return true, true, nil
	case `false`, `"false"`, `"False"`:
		return false, true, nil
	}
	return false, false, fmt.Errorf("the claim %q is neither true nor false", name)
}

// date returns a NumericDate (RFC 7519, section 2): seconds since 1970 as a JSON number, which
// may have a fraction. A string is not accepted.
func (c claims) date(name string) (t time.Time, present bool, err error) {
	raw, ok := c.get(name)
	if !ok {
		return time.Time{}, false, nil
	}
	const year10000 = 253402300800
	seconds, err := strconv.ParseFloat(string(raw), 64)
	if err != nil || seconds < 0 || seconds >= year10000 {
		return time.Time{}, false, fmt.Errorf("the claim %q is not a number of seconds between the years 1970 and 9999", name)
	}
	whole, fraction := math.Modf(seconds)
	return time.Unix(int64(whole), int64(fraction*1e9)).UTC(), true, nil
}

// audience returns "aud", a string or a list of strings (RFC 7519, section 4.1.3).
func (c claims) audience() ([]string, error) {
	bad := errors.New(`the claim "aud" is not a string or a list of strings`)
	raw, ok := c.get("aud")
	if !ok {
		return nil, errors.New(`the claim "aud" is missing`)
	}
	if raw[0] == '"' {
		one, _, err := c.str("aud")
		return []string{one}, err
	}
	var list []*string
	if raw[0] != '[' || json.Unmarshal(raw, &list) != nil {
		return nil, bad
	}
	all := make([]string, 0, len(list))
	for _, s := range list {
		if s == nil {
			return nil, bad
		}
		all = append(all, *s)
	}
	return all, nil
}

// lookup follows a path of claim names into nested objects, with the same strictness.
func (c claims) lookup(path []string) (string, error) {
	for i, name := range path[:len(path)-1] {
		raw, ok := c.get(name)
		if !ok {
			return "", fmt.Errorf("the claim %q is missing", strings.Join(path[:i+1], "."))
		}
		var err error
		if c, err = parseObject(raw); err != nil {
			return "", fmt.Errorf("the claim %q: %w", strings.Join(path[:i+1], "."), err)
		}
	}
	s, err := c.text(path[len(path)-1])
	if err != nil {
		return "", fmt.Errorf("the claim %q: %w", strings.Join(path, "."), err)
	}
	return s, nil
}

// checkStandard applies the rules of RFC 7519, section 4.1, to subject, audience and times. "azp"
// is not looked at: providers put the name of a service account there.
//
// A token may be older than maxAge only if that is 0: its age is counted from "iat", which has to be
// there then. A token that has leaked is of no use later, however long its issuer would have it live.
func (c claims) checkStandard(clientID string, maxAge time.Duration, now time.Time) (issuedAt, expiry time.Time, err error) {
	fail := func(err error) (time.Time, time.Time, error) { return time.Time{}, time.Time{}, err }

	if _, err := c.text("sub"); err != nil {
		return fail(err)
	}
	audience, err := c.audience()
	if err != nil {
		return fail(err)
	}
	if !slices.Contains(audience, clientID) {
		return fail(fmt.Errorf("the claim \"aud\" is %s, it must contain %q", quote(strings.Join(audience, " ")), clientID))
	}
	expiry, ok, err := c.date("exp")
	switch {
	case err != nil:
		return fail(err)
	case !ok:
		return fail(errors.New(`the claim "exp" is missing`))
	case !now.Before(expiry): // RFC 7519, section 4.1.4: "on or after" is too late
		return fail(fmt.Errorf("the token expired at %s, it is %s", stamp(expiry), stamp(now)))
	}
	notBefore, ok, err := c.date("nbf")
	switch {
	case err != nil:
		return fail(err)
	case ok && now.Add(leeway).Before(notBefore):
		return fail(fmt.Errorf("the token is not valid before %s, it is %s", stamp(notBefore), stamp(now)))
	}
	issuedAt, ok, err = c.date("iat")
	switch {
	case err != nil:
		return fail(err)
	case ok && now.Add(leeway).Before(issuedAt):
		return fail(fmt.Errorf("the token was issued at %s, which is in the future: it is %s", stamp(issuedAt), stamp(now)))
	case !ok && maxAge > 0:
		return fail(errors.New(`the claim "iat" is missing, without which nobody knows how old the token is`))
	case maxAge > 0 && now.Sub(issuedAt) > maxAge:
		return fail(fmt.Errorf("the token was issued at %s, it is %s: it may be %s old; request another one", stamp(issuedAt), stamp(now), maxAge))
	}
	return issuedAt, expiry, nil
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// checkAddress accepts what can stand as an rfc822Name: an address in plain ASCII that
// net/mail reads as itself, with a host name behind the '@'. Quoted local parts, display names,
// comments and address literals are refused.
func checkAddress(s string) error {
	if len(s) > 254 { // RFC 5321, section 4.5.3.1.3
		return fmt.Errorf("the mail address has %d bytes, at most 254 are allowed", len(s))
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return errors.New("the mail address has a character that is not printable ASCII")
		}
	}
	address, err := mail.ParseAddress(s)
	if err != nil || address.Address != s || address.Name != "" {
		return errors.New("the mail address is not of the form local@domain")
	}
	domain := s[strings.LastIndexByte(s, '@')+1:]
	for label := range strings.SplitSeq(domain, ".") {
		if label == "" || strings.Trim(label, hostChars) != "" || label[0] == '-' || label[len(label)-1] == '-' {
			return errors.New("the domain of the mail address is not a host name")
		}
	}
	return nil
}

const hostChars = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-"

// verifiedEmail returns the mail address of a token if the issuer marks it as verified and it is
// well-formed, else an empty string.
func (c claims) verifiedEmail() string {
	verified, _, err := c.flag("email_verified")
	if err != nil || !verified {
		return ""
	}
	email, _, err := c.str("email")
	if err != nil || checkAddress(email) != nil {
		return ""
	}
	return email
}
