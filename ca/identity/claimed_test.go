package identity

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"
)

// TestClaimed: a recorded token leads to the names that a verified one leads to, whatever has
// become of its signature and its times, and to nothing that could be issued.
func TestClaimed(t *testing.T) {
	v, net, clock := setup(t, []Issuer{emailIssuer(), githubIssuer()}, newFake(emailURL), newFake(githubURL))
	for _, claims := range []map[string]any{emailClaims(), githubClaims(), emailClaims("a", map[string]any{"b": 1})} {
		raw := es256().token(claims)
		id, _, err := verify(t, v, raw)
		if err != nil {
			t.Fatal(err)
		}
		asked := net.count()
		clock.add(24 * time.Hour)
		if _, _, err := verify(t, v, raw); !errors.Is(err, ErrToken) {
			t.Fatalf("a token of yesterday: %v", err)
		}
		unsigned := raw[:strings.LastIndexByte(raw, '.')] + ".AA"
		for _, read := range []func() (Claimed, error){
			func() (Claimed, error) { return v.Claimed(raw) },
			func() (Claimed, error) { return v.Claimed(unsigned) },
			func() (Claimed, error) { return v.ClaimedBy(mustJSON(claims)) },
		} {
			c, err := read()
			if err != nil {
				t.Fatal(err)
			}
			if c.Issuer() != id.Issuer() || c.IssuerType() != id.IssuerType() || c.Subject() != id.Subject() || c.Email() != id.Email() ||
				c.SAN() != id.SAN() || c.Extensions() != id.Extensions() || !bytes.Equal(c.Claims(), id.Claims()) {
				t.Errorf("claimed %+v, verified %+v", c, id)
			}
		}
		if net.count() != asked {
			t.Error("somebody was asked for the keys of a recorded token")
		}
		clock.add(-24 * time.Hour)
	}
}

// TestClaimedRefuses what Verify refuses for its shape, its issuer and its claims.
func TestClaimedRefuses(t *testing.T) {
	v, _, _ := setup(t, []Issuer{emailIssuer()}, newFake(emailURL))
	for name, payload := range map[string]string{
		"another issuer":   string(mustJSON(emailClaims("iss", "https://other.example.com"))),
		"no issuer":        string(mustJSON(emailClaims("iss", nil))),
		"no subject":       string(mustJSON(emailClaims("sub", nil))),
		"not verified":     string(mustJSON(emailClaims("email_verified", false))),
		"not an object":    `[]`,
		"twice":            `{"iss":"` + emailURL + `","iss":"` + emailURL + `"}`,
		"another spelling": string(mustJSON(emailClaims("Sub", "x"))),
		"large":            string(mustJSON(emailClaims("a", strings.Repeat("a", 12<<10)))),
	} {
		if c, err := v.ClaimedBy([]byte(payload)); !errors.Is(err, ErrToken) {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
		if c, err := v.Claimed(es256().sign(mustJSON(es256().header()), []byte(payload))); !errors.Is(err, ErrToken) {
			t.Errorf("%s, as a token: %+v, %v", name, c, err)
		}
	}
	for _, raw := range []string{"", "..", "a.b", es256().token(emailClaims()) + ".x"} {
		if c, err := v.Claimed(raw); !errors.Is(err, ErrToken) {
			t.Errorf("%q: %+v, %v", raw, c, err)
		}
	}
}

func TestCovers(t *testing.T) {
	for _, test := range []struct {
		url, issuer string
		want        bool
	}{
		{"https://a.example.com", "https://a.example.com", true},
		{"https://a.example.com", "https://a.example.com/", false},
		{"https://*.example.com/id/*", "https://a.example.com/id/b", true},
		{"https://*.example.com/id/*", "https://a.example.com/id/b/c", false},
		{"https://*.example.com/id/*", "https://a.b.example.com/id/c", false},
		{"https://*.example.com/id/*", "https://*.example.com/id/*", false},
		{"https://*.example.com/id/*", "https://a.example.com/id/" + strings.Repeat("b", 2000), false},
	} {
		if got := (Issuer{URL: test.url}).Covers(test.issuer); got != test.want {
			t.Errorf("%s, %.60s: %v", test.url, test.issuer, got)
		}
	}
}
