package identity

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// The list of issuers that are nearly the configured ones. Nothing but the configured issuer may
// be asked, whatever a token says.
func TestIssuerConfusion(t *testing.T) {
	issuers := []Issuer{
		{URL: emailURL, ClientID: "sigstore", Type: "email"},
		{URL: "https://slash.example.com/", ClientID: "sigstore", Type: "email"},
		{URL: "https://port.example.com:8443/realm", ClientID: "sigstore", Type: "email"},
		{URL: "https://accounts.google.com", ClientID: "sigstore", Type: "email"},
		{URL: "https://oidc.eks.*.amazonaws.com/id/*", ClientID: "sigstore", Type: "email"},
		{URL: "https://tenant.example.org/*", ClientID: "sigstore", Type: "email"},
	}
	good := []string{
		emailURL, "https://slash.example.com/", "https://port.example.com:8443/realm", "https://accounts.google.com",
		"https://oidc.eks.us-west-2.amazonaws.com/id/ABC_123", "https://tenant.example.org/acme",
	}
	bad := []string{
		// Spellings of the exact issuer.
		emailURL + "/", emailURL + "//", emailURL + "/.", emailURL + ":443", emailURL + ":", emailURL + ".", emailURL + "?", emailURL + "#",
		emailURL + "?a=b", emailURL + "#a", emailURL + "/x", emailURL + "\\", emailURL + "%00", emailURL + "%2f", emailURL + " ", " " + emailURL,
		"http://issuer.example.com", "HTTPS://issuer.example.com", "https://ISSUER.example.com", "https://Issuer.Example.Com",
		"https:/issuer.example.com", "https:issuer.example.com", "//issuer.example.com", "issuer.example.com", "https:///issuer.example.com",
		"https://issuer.example.com.evil.net", "https://evil.net/issuer.example.com", "https://evil.net/https://issuer.example.com",
		"https://evilissuer.example.com", "https://issuer.example.com@evil.net", "https://evil.net@issuer.example.com", "https://u:p@issuer.example.com",
		"https://issuer.example.com:8443", "https://issuer%2eexample.com", "https://issuer.example%2ecom", "https://issuer\uff0eexample.com",
		"https://issu\u0435r.example.com", "https://xn--issur-6ye.example.com", "https://issuer.example.co", "https://issuer.example.comm", "https://.issuer.example.com",
		"https://issuer.example.com,https://evil.net", "https://issuer.example.com\\@evil.net", "https://issuer.example.com;evil.net",
		// With and without the slash and the port that are configured.
		"https://slash.example.com", "https://slash.example.com//", "https://port.example.com/realm", "https://port.example.com:443/realm",
		"https://port.example.com:8443/realm/", "https://port.example.com:8443/Realm", "https://port.example.com:08443/realm", "https://port.example.com:8443/x/../realm",
		// The one issuer that go-oidc knows two spellings of.
		"accounts.google.com", "https://accounts.google.com/",
		// The pattern: a dot, a slash and what else '*' is not (GHSA-59jp-pj84-45mr).
		"https://oidc.eks.us-west-2.amazonaws.com/id/", "https://oidc.eks..amazonaws.com/id/A", "https://oidc.eks.amazonaws.com/id/A",
		"https://oidc.eks.a.b.amazonaws.com/id/A", "https://oidc.eks.a/b.amazonaws.com/id/A", "https://oidc.eks.evil.net/.amazonaws.com/id/A",
		"https://oidc.eks.evil.net?.amazonaws.com/id/A", "https://oidc.eks.evil.net#.amazonaws.com/id/A", "https://oidc.eks.x@evil.net/.amazonaws.com/id/A",
		"https://oidc.eks.us-west-2.amazonaws.com/id/A/B", "https://oidc.eks.us-west-2.amazonaws.com/id/A?x", "https://oidc.eks.us-west-2.amazonaws.com/id/A.b",
		"https://oidc.eks.us-west-2.amazonaws.com/id/%41", "https://oidc.eks.us-west-2.amazonaws.com/id/..", "https://oidc.eks.us-west-2.amazonaws.com/id/A\n",
		"https://oidc.eks.us-west-2.amazonaws.com.evil.net/id/A", "https://evil.net/https://oidc.eks.us-west-2.amazonaws.com/id/A",
		"https://oidc.eks.us-west-2.amazonawsxcom/id/A", "https://oidcxeks.us-west-2.amazonaws.com/id/A", "https://oidc.eks.us-west-2xamazonaws.com/id/A",
		"https://oidc.eks.us-west-2:80.amazonaws.com/id/A", "http://oidc.eks.us-west-2.amazonaws.com/id/A", "https://oidc.eks.\u00fc.amazonaws.com/id/A",
		"https://oidc.eks.*.amazonaws.com/id/*", "https://tenant.example.org/*", "https://tenant.example.org/", "https://tenant.example.org",
		"https://tenant.example.org/../x", "https://tenant.example.org/a/..", "https://tenant.example.org/a%2f..", "https://tenant.example.org//a", "https://tenant.example.org/a/",
		"https://tenant.example.org:443/a", "https://tenant.example.org/" + strings.Repeat("a", maxIssuer),
		// What a server could be made to fetch.
		"http://127.0.0.1", "http://127.0.0.1:80/", "http://[::1]/", "http://169.254.169.254/latest/meta-data", "http://0.0.0.0", "http://[fd00::1]/",
		"http://2130706433/", "http://0177.0.0.1/", "http://localhost/", "http://localhost:8080/oidc", "file:///etc/passwd", "gopher://127.0.0.1:70/_x", "unix:///run/x", "javascript:alert(1)", "x",
	}
	for _, url := range good {
		v, n, _ := setup(t, issuers, newFake(url))
		if _, got, err := verify(t, v, with("iss", url)); got != accepted || n.count() != 2 {
			t.Errorf("%q: %s, %d requests: %v", url, got, n.count(), err)
		}
	}
	v, n, _ := setup(t, issuers, newFake(emailURL))
	for _, url := range bad {
		if _, got, err := verify(t, v, with("iss", url)); got != tokenError {
			t.Errorf("%q: %s %v", url, got, err)
		}
	}
	if n.count() != 0 {
		t.Errorf("requests: %q", n.requests)
	}
	t.Logf("%d cases", len(good)+len(bad))
}

// A token of one issuer does not pass as a token of another, whatever they share.
func TestIssuersApart(t *testing.T) {
	a, b := newFake("https://a.example.com"), newFake("https://b.example.com")
	keyA, keyB := signer{"1", jose.RS256, testKeys().rsa}, signer{"1", jose.RS256, testKeys().rsa2}
	a.keys, b.keys = []jose.JSONWebKey{keyA.jwk()}, []jose.JSONWebKey{keyB.jwk()}
	issuers := []Issuer{
		{URL: a.url, ClientID: "client-a", Type: "email"},
		{URL: b.url, ClientID: "client-b", Type: "uri", SubjectDomain: "https://work.example.com"},
	}
	v, _, _ := setup(t, issuers, a, b)
	sub := "https://work.example.com/x"
	for name, c := range map[string]struct {
		token string
		want  verdict
	}{
		"a by a":               {keyA.token(emailClaims("iss", a.url, "aud", "client-a")), accepted},
		"b by b":               {keyB.token(emailClaims("iss", b.url, "aud", "client-b", "sub", sub)), accepted},
		"a by b":               {keyB.token(emailClaims("iss", a.url, "aud", "client-a")), tokenError},
		"b by a":               {keyA.token(emailClaims("iss", b.url, "aud", "client-b", "sub", sub)), tokenError},
		"audience of b at a":   {keyA.token(emailClaims("iss", a.url, "aud", "client-b")), tokenError},
		"subject of a's at b":  {keyB.token(emailClaims("iss", b.url, "aud", "client-b")), tokenError},
		"both issuers in iss":  {keyA.token(emailClaims("iss", []string{a.url, b.url}, "aud", "client-a")), tokenError},
		"a by b, other key id": {signer{"2", jose.RS256, testKeys().rsa2}.token(emailClaims("iss", a.url, "aud", "client-a")), tokenError},
	} {
		if _, got, err := verify(t, v, c.token); got != c.want {
			t.Errorf("%s: %s, want %s: %v", name, got, c.want, err)
		}
	}

	// Two issuers that serve one JWK Set are still two issuers: the claims decide.
	b.keysURL, b.keys = a.jwks(), a.keys
	v, _, _ = setup(t, issuers, a, b)
	id, got, err := verify(t, v, keyA.token(emailClaims("iss", b.url, "aud", "client-b", "sub", sub)))
	if got != accepted || id.Issuer() != b.url || id.Extensions().Issuer != b.url || id.Audit().IssuerType != "uri" {
		t.Errorf("shared keys: %s %+v %v", got, id.Audit(), err)
	}
	if _, got, _ := verify(t, v, keyA.token(emailClaims("iss", b.url, "aud", "client-a", "sub", sub))); got != tokenError {
		t.Error("shared keys: audience of a accepted for b")
	}
}

// The exact issuer wins, then the pattern with the most literal text, in any order of the configuration.
func TestPatternOrder(t *testing.T) {
	issuers := []Issuer{
		{URL: "https://t.example.com/*/*", ClientID: "wide", Type: "email"},
		{URL: "https://t.example.com/*/b", ClientID: "second", Type: "email"},
		{URL: "https://t.example.com/aa/*", ClientID: "third", Type: "email"},
		{URL: "https://*.example.com/aa/b", ClientID: "host", Type: "email"},
		{URL: "https://t.example.com/aa/exact", ClientID: "exact", Type: "email"},
		{URL: "https://t.example.com/*/c", ClientID: "tie", Type: "email"},
	}
	want := map[string]string{
		"https://t.example.com/aa/exact": "exact",
		"https://t.example.com/x/y":      "wide",
		"https://t.example.com/x/b":      "second",
		"https://t.example.com/aa/x":     "third",
		"https://t.example.com/aa/c":     "third", // 25 literal bytes against 24
		"https://u.example.com/aa/b":     "host",
		"https://t.example.com/aa/b":     "host", // 25 literal bytes as well; '*' sorts before 't'
	}
	for range 20 {
		issuers = append(issuers[1:], issuers[0])
		if len(issuers)%2 == 0 {
			slices.Reverse(issuers[:3])
		}
		for url, client := range want {
			v, _, _ := setup(t, issuers, newFake(url))
			if got := v.source(url).ClientID; got != client {
				t.Fatalf("%s: %s, want %s", url, got, client)
			}
			if _, got, err := verify(t, v, with("iss", url, "aud", client)); got != accepted {
				t.Fatalf("%s: %v", url, err)
			}
			// There is no second try with a less specific issuer.
			for _, i := range issuers {
				if i.ClientID != client {
					if _, got, _ := verify(t, v, with("iss", url, "aud", i.ClientID)); got != tokenError {
						t.Fatalf("%s accepted with the audience of %s", url, i.URL)
					}
				}
			}
		}
	}
}

// A document that is not the issuer's own is not used.
func TestDiscoveryRefused(t *testing.T) {
	pattern := Issuer{URL: "https://tenant.example.org/*", ClientID: "sigstore", Type: "email"}
	const tenant = "https://tenant.example.org/acme"
	for name, c := range map[string]struct {
		issuer Issuer
		change func(*fakeIssuer)
		text   string
	}{
		"another issuer":             {emailIssuer(), func(f *fakeIssuer) { f.document = map[string]any{"issuer": "https://evil.net"} }, "did not match"},
		"trailing slash":             {emailIssuer(), func(f *fakeIssuer) { f.document = map[string]any{"issuer": emailURL + "/"} }, "did not match"},
		"no issuer":                  {emailIssuer(), func(f *fakeIssuer) { f.document = map[string]any{"issuer": ""} }, "did not match"},
		"another tenant":             {pattern, func(f *fakeIssuer) { f.document = map[string]any{"issuer": tenant + "2"} }, "did not match"},
		"no jwks_uri":                {emailIssuer(), func(f *fakeIssuer) { f.document = map[string]any{"jwks_uri": ""} }, "jwks_uri"},
		"jwks_uri relative":          {emailIssuer(), func(f *fakeIssuer) { f.document = map[string]any{"jwks_uri": "/keys"} }, "jwks_uri"},
		"jwks_uri a number":          {emailIssuer(), func(f *fakeIssuer) { f.document = map[string]any{"jwks_uri": 5} }, "discovery"},
		"jwks_uri http":              {emailIssuer(), func(f *fakeIssuer) { f.document = map[string]any{"jwks_uri": "http://issuer.example.com/keys"} }, "not https"},
		"jwks_uri metadata service":  {emailIssuer(), func(f *fakeIssuer) { f.document = map[string]any{"jwks_uri": "http://169.254.169.254/latest"} }, "not https"},
		"jwks_uri file":              {emailIssuer(), func(f *fakeIssuer) { f.document = map[string]any{"jwks_uri": "file:///etc/passwd"} }, "jwks_uri"},
		"jwks_uri user":              {emailIssuer(), func(f *fakeIssuer) { f.document = map[string]any{"jwks_uri": "https://u:p@issuer.example.com/keys"} }, "jwks_uri"},
		"tenant's keys on a host":    {pattern, func(f *fakeIssuer) { f.document = map[string]any{"jwks_uri": "https://evil.net/keys"} }, "host of the issuer"},
		"tenant's keys on a port":    {pattern, func(f *fakeIssuer) { f.document = map[string]any{"jwks_uri": "https://tenant.example.org:1/keys"} }, "host of the issuer"},
		"only algorithms of secrets": {emailIssuer(), func(f *fakeIssuer) { f.algs = []string{"HS256", "none"} }, "algorithms"},
		"redirect to a host":         {emailIssuer(), func(f *fakeIssuer) { f.redirect = "https://evil.net/.well-known/openid-configuration" }, "redirect"},
		"redirect to http":           {emailIssuer(), func(f *fakeIssuer) { f.redirect = "http://issuer.example.com/moved/openid-configuration" }, "redirect"},
		"redirect to a port":         {emailIssuer(), func(f *fakeIssuer) { f.redirect = "https://issuer.example.com:8443/moved/openid-configuration" }, "redirect"},
		"redirect to localhost":      {emailIssuer(), func(f *fakeIssuer) { f.redirect = "http://127.0.0.1/" }, "redirect"},
		"keys redirect to a host":    {emailIssuer(), func(f *fakeIssuer) { f.moved = "https://evil.net/keys" }, "redirect"},
		"keys redirect for ever":     {emailIssuer(), func(f *fakeIssuer) { f.moved = emailURL + "/keys" }, "more than 3 redirects"},
		"tenant redirects":           {pattern, func(f *fakeIssuer) { f.redirect = "https://evil.net/" }, "redirect"},
		"status 500":                 {emailIssuer(), func(f *fakeIssuer) { f.status = 500 }, "500"},
		"status 204":                 {emailIssuer(), func(f *fakeIssuer) { f.status = 204 }, "204"},
		"down":                       {emailIssuer(), func(f *fakeIssuer) { f.down = true }, "refused"},
		"document too large":         {emailIssuer(), func(f *fakeIssuer) { f.document = map[string]any{"x": strings.Repeat("x", maxDocument)} }, "larger than 32768"},
		"keys too large":             {emailIssuer(), func(f *fakeIssuer) { f.keysBody = []byte(`{"keys":[],"x":"` + strings.Repeat("x", maxBody) + `"}`) }, "larger than 1048576"},
		"keys not JSON":              {emailIssuer(), func(f *fakeIssuer) { f.keysBody = []byte(`<html>`) }, "JWK Set"},
		"keys a list":                {emailIssuer(), func(f *fakeIssuer) { f.keysBody = []byte(`[]`) }, "JWK Set"},
		"no keys":                    {emailIssuer(), func(f *fakeIssuer) { f.keysBody = []byte(`{"keys":[]}`) }, "no key"},
		"too many keys":              {emailIssuer(), func(f *fakeIssuer) { f.keys = slices.Repeat(f.keys, 51) }, "more than 100 keys"},
		"only a weak key":            {emailIssuer(), func(f *fakeIssuer) { f.keys = []jose.JSONWebKey{{Key: testKeys().weak.Public(), KeyID: "rsa-1"}} }, "no key"},
		"only a secret":              {emailIssuer(), func(f *fakeIssuer) { f.keys = []jose.JSONWebKey{{Key: []byte("secret"), KeyID: "rsa-1"}} }, "no key"},
		"only for encryption":        {emailIssuer(), func(f *fakeIssuer) { f.keys[0].Use, f.keys = "enc", f.keys[:1] }, "no key"},
		"only a private key":         {emailIssuer(), func(f *fakeIssuer) { f.keys = []jose.JSONWebKey{{Key: testKeys().rsa, KeyID: "rsa-1"}} }, "no key"},
		"only of unknown kinds": {emailIssuer(), func(f *fakeIssuer) {
			f.keysBody = []byte(`{"keys":[{"kty":"AKP"},{"kty":"EC","crv":"secp256k1"},{},5,null]}`)
		}, "no key"},
	} {
		url := emailURL
		if c.issuer.IsPattern() {
			url = tenant
		}
		fake := newFake(url)
		c.change(fake)
		v, n, _ := setup(t, []Issuer{c.issuer}, fake)
		_, got, err := verify(t, v, with("iss", url))
		if got != unavailable || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %s, want %q: %v", name, got, c.text, err)
		}
		for _, address := range n.requests {
			if !strings.HasPrefix(address, url+"/") {
				t.Errorf("%s: request to %s", name, address)
			}
		}
	}
}

func TestDiscoveryAccepted(t *testing.T) {
	for name, change := range map[string]func(*fakeIssuer){
		"redirect within the host":     func(f *fakeIssuer) { f.redirect = emailURL + "/moved/openid-configuration" },
		"keys on another host":         func(f *fakeIssuer) { f.keysURL = "https://keys.example.net/certs" },
		"no list of algorithms":        func(f *fakeIssuer) { f.algs = nil },
		"unknown keys beside the good": func(f *fakeIssuer) { f.keysBody = mixedKeys() },
	} {
		fake := newFake(emailURL)
		change(fake)
		v, _, _ := setup(t, []Issuer{emailIssuer()}, fake)
		if _, got, err := verify(t, v, with()); got != accepted {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Without a list only RS256 is meant.
	fake := newFake(emailURL)
	fake.algs = nil
	v, _, _ := setup(t, []Issuer{emailIssuer()}, fake)
	if _, got, _ := verify(t, v, es256().token(emailClaims())); got != tokenError {
		t.Errorf("ES256 without a list: %s", got)
	}
}

func mixedKeys() []byte {
	return []byte(fmt.Sprintf(`{"keys":[{"kty":"AKP","alg":"ML-DSA-65","pub":"AA"},{"kty":"EC","crv":"secp256k1","x":"AA","y":"AA"},{"kty":"oct","k":"AAAA"},7,%s],"other":1}`, mustJSON(rs256().jwk())))
}

func TestPatternMatch(t *testing.T) {
	for _, c := range []struct {
		pattern, text string
		want          bool
	}{
		{"https://a.b/*", "https://a.b/c", true},
		{"https://a.b/*", "https://a.b/-_Az09", true},
		{"https://a.b/*", "https://a.b/", false},
		{"https://a.b/*", "https://a.b/c/", false},
		{"https://*.b.c", "https://a.b.c", true},
		{"https://*.b.c", "https://b.c", false},
		{"https://*.b.c", "https://a.b.cc", false},
		{"https://*.*.c.d/*/e/*", "https://a.b.c.d/1/e/2", true},
		{"https://*.*.c.d/*/e/*", "https://a.b.c.d/1/e/", false},
		{"https://*.*.c.d/*/e/*", "", false},
	} {
		if got := newPattern(c.pattern).match(c.text); got != c.want {
			t.Errorf("%q with %q: %v", c.pattern, c.text, got)
		}
	}
}

// naive is the definition of a match: label by label, segment by segment.
func naive(pattern, text string) bool {
	split := func(s string) []string {
		return strings.FieldsFunc(strings.NewReplacer(".", "\x01.\x01", "/", "\x01/\x01", ":", "\x01:\x01").Replace(s), func(r rune) bool { return r == 1 })
	}
	if strings.Contains(text, "\x01") {
		return false
	}
	p, s := split(pattern), split(text)
	if len(p) != len(s) {
		return false
	}
	for i := range p {
		if p[i] == "*" {
			if strings.Trim(s[i], "-_abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") != "" {
				return false
			}
			switch s[i] {
			case ".", "/", ":":
				return false
			}
		} else if p[i] != s[i] {
			return false
		}
	}
	return true
}

// Invented tenants of a pattern cost a bounded number of requests and do not push out real ones.
func TestPatternBounds(t *testing.T) {
	const tenant = "https://tenant.example.org/acme"
	v, n, c := setup(t, []Issuer{{URL: "https://tenant.example.org/*", ClientID: "sigstore", Type: "email"}, emailIssuer()}, newFake(tenant), newFake(emailURL))
	if _, got, err := verify(t, v, with("iss", tenant)); got != accepted {
		t.Fatal(err)
	}
	before := n.count()
	for i := range 1000 {
		if _, got, _ := verify(t, v, with("iss", fmt.Sprintf("https://tenant.example.org/t%d", i))); got != unavailable {
			t.Fatalf("%d: %s", i, got)
		}
	}
	if made := n.count() - before; made > maxDiscoveries {
		t.Errorf("%d requests, at most %d are allowed", made, maxDiscoveries)
	}
	s := v.source(tenant)
	if len(s.providers) > maxFamily || s.providers[tenant] == nil {
		t.Errorf("%d issuers remembered, the real one: %v", len(s.providers), s.providers[tenant] != nil)
	}
	before = n.count()
	for _, url := range []string{tenant, emailURL} {
		if _, got, err := verify(t, v, with("iss", url)); got != accepted {
			t.Errorf("%s: %v", url, err)
		}
	}
	if n.count()-before != 2 { // the exact issuer, for the first time
		t.Errorf("%d requests", n.count()-before)
	}
	// A real tenant that was not known has to wait for the next minute.
	n.set(func() { f := newFake(tenant + "2"); n.issuers[f.url] = f })
	if _, got, _ := verify(t, v, with("iss", tenant+"2")); got != unavailable {
		t.Error("over the bound")
	}
	c.add(time.Minute)
	if _, got, err := verify(t, v, with("iss", tenant+"2")); got != accepted {
		t.Error(err)
	}
}
