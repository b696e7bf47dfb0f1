package identity

import (
	"net/http"
	"testing"
	"time"
)

// A Verifier that takes the place of another one keeps what is known of issuers
// that are configured as they were, and of no other.
func TestBefore(t *testing.T) {
	exact, changed := newFake(emailURL), newFake("https://other.example.com")
	family := newFake("https://oidc.eu.example.com/id/7")
	pattern := Issuer{URL: "https://oidc.*.example.com/id/*", ClientID: "sigstore", Type: "email"}
	other := emailIssuer()
	other.URL = changed.url
	before, n, c := setup(t, []Issuer{emailIssuer(), other, pattern}, exact, changed, family)
	ask := func(v *Verifier, f *fakeIssuer) {
		t.Helper()
		claims := emailClaims("iss", f.url, "iat", c.now().Unix(), "exp", c.now().Add(time.Minute).Unix())
		if _, got, err := verify(t, v, rs256().token(claims)); got != accepted {
			t.Fatalf("%s: %s: %v", f.url, got, err)
		}
	}
	expect := func(what string, f *fakeIssuer, fetches int) {
		t.Helper()
		if f.discovery != fetches || f.fetches != fetches {
			t.Errorf("%s: %s was asked %d and %d times, want %d", what, f.url, f.discovery, f.fetches, fetches)
		}
	}
	for _, f := range []*fakeIssuer{exact, changed, family} {
		ask(before, f)
		expect("at first", f, 1)
	}

	other.MaxTokenAge = time.Hour
	next := func(before *Verifier, issuers ...Issuer) *Verifier {
		t.Helper()
		v, err := NewVerifier(Config{Issuers: issuers}, Options{Now: c.now, Transport: http.RoundTripper(n), Before: before})
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	after := next(before, pattern, other, emailIssuer())
	for _, f := range []*fakeIssuer{exact, changed, family} {
		ask(after, f)
	}
	expect("unchanged", exact, 1)
	expect("changed", changed, 2)
	expect("unchanged", family, 1)
	if got := after.Issuers(); len(got) != 3 || got[1].MaxTokenAge != time.Hour {
		t.Errorf("issuers: %v", got)
	}

	// What is no longer configured is not accepted, and comes back without its past.
	without := next(after, emailIssuer())
	claims := emailClaims("iss", family.url, "iat", c.now().Unix(), "exp", c.now().Add(time.Minute).Unix())
	if _, got, _ := verify(t, without, rs256().token(claims)); got != tokenError {
		t.Errorf("a token of an issuer that was taken out: %s", got)
	}
	again := next(without, emailIssuer(), pattern)
	ask(again, family)
	ask(again, exact)
	expect("came back", family, 2)
	expect("unchanged twice", exact, 1)
}
