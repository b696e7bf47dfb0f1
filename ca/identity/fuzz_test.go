package identity

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/sigstack/sigstack/ca/ext"
	"github.com/sigstack/sigstack/test/fuzz"
)

// A JWS of any shape: what is accepted has one spelling, says what encoding/json
// reads in it, and passes the signature check only as it was signed.
func FuzzParseToken(f *testing.F) {
	good := []string{
		es256().token(emailClaims("aud", []string{"a", "sigstore"})),
		es256().token(githubClaims()),
		es256().sign(mustJSON(es256().header()), []byte(claimsText(`,"a":{"b":"c"}`))),
	}
	seeds := append(fuzz.Seeds(good...), fuzz.Seeds(with(), "..", b64([]byte(`{"alg":"RS256"}`))+"."+b64([]byte(`{"iss":"a"}`))+".AA")...)
	keys := &keySet{algorithms: []jose.SignatureAlgorithm{jose.ES256}, keys: []jose.JSONWebKey{es256().jwk()}}
	parse := func(in []byte) (token, error) { return parseToken(string(in)) }
	fuzz.Run(f, seeds, parse, func(t *testing.T, in []byte, tok token, err error) {
		if err != nil {
			return
		}
		raw := string(in)
		parts := strings.Split(raw, ".")
		if len(parts) != 3 || len(raw) > maxToken || tok.issuer == "" || tok.raw != raw {
			t.Fatal("accepted")
		}
		var decoded [3][]byte
		for i, part := range parts {
			var err error
			if decoded[i], err = base64.RawURLEncoding.DecodeString(part); err != nil || b64(decoded[i]) != part {
				t.Fatalf("accepted part %q", part)
			}
		}
		var other map[string]any
		if err := json.Unmarshal(decoded[1], &other); err != nil || other["iss"] != tok.issuer || len(other) != len(tok.claims) {
			t.Fatalf("issuer %q; encoding/json reads %v, %v", tok.issuer, other, err)
		}
		payload, err := keys.verify(tok)
		signed := false
		for _, g := range good {
			// The unsigned part cannot be another; ECDSA signatures can.
			signed = signed || raw[:strings.LastIndexByte(raw, '.')] == g[:strings.LastIndexByte(g, '.')]
		}
		if err == nil && (!signed || !bytes.Equal(payload, decoded[1])) {
			t.Fatal("the signature of a token that was not signed is good")
		}
		useClaims(t, tok.issuer, tok.claims)
	})
}

// useClaims does all that is done with claims once a token is verified.
func useClaims(t *testing.T, issuer string, c claims) {
	c.checkStandard("sigstore", time.Minute, t0)
	c.verifiedEmail()
	c.lookup([]string{"a", "b"})
	for _, i := range oneOfEach() {
		s, err := newSource(i, newNetwork(), func() time.Time { return t0 })
		if err != nil {
			t.Fatal(err)
		}
		id, err := s.identity(token{issuer: issuer, claims: c})
		if err != nil {
			continue
		}
		e, err := id.SAN().Extension()
		if err != nil {
			t.Fatal(err)
		}
		if back, err := ext.ParseSAN(e); err != nil || back != id.SAN() {
			t.Fatalf("%v %v", back, err)
		}
		list, err := id.Extensions().Extensions()
		if err != nil {
			t.Fatal(err)
		}
		if back, err := ext.Parse(list); err != nil || back != id.Extensions() {
			t.Fatalf("%v %v", back, err)
		}
	}
}

// The claims parser on its own. A token is at most maxToken long, and so is
// what it is made of.
func FuzzClaims(f *testing.F) {
	seeds := fuzz.Seeds(mustJSON(emailClaims()), mustJSON(githubClaims()), []byte(claimsText(`,"a":{"b":"c"}`)))
	fuzz.Run(f, seeds, parseObject, func(t *testing.T, in []byte, c claims, err error) {
		var other map[string]json.RawMessage
		otherErr := json.Unmarshal(in, &other)
		if err != nil {
			return
		}
		if otherErr != nil || len(other) != len(c) {
			t.Fatalf("encoding/json: %v, %v", other, otherErr)
		}
		for name, value := range c {
			if !bytes.Equal(other[name], value) {
				t.Fatalf("%q is %s, for encoding/json %s", name, value, other[name])
			}
		}
		if len(in) <= maxToken {
			fuzz.Budget(t, len(in), func() { useClaims(t, emailURL, c) })
		}
	})
}

// The keys of an issuer: public ones only, as many as the document has, and
// each the same after it is written and read.
func FuzzParseKeys(f *testing.F) {
	seeds := fuzz.Seeds(
		mustJSON(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{rs256().jwk(), es256().jwk(), {Key: testKeys().ed.Public(), KeyID: "ed"}}}),
		mixedKeys(),
	)
	fuzz.Run(f, seeds, parseKeys, func(t *testing.T, in []byte, keys []jose.JSONWebKey, err error) {
		if err != nil {
			return
		}
		if len(keys) == 0 || len(keys) > maxKeys {
			t.Fatalf("%d keys", len(keys))
		}
		for _, k := range keys {
			if !k.IsPublic() || !k.Valid() {
				t.Fatal("a key that is not public")
			}
			text, err := k.MarshalJSON()
			if err != nil {
				t.Fatal(err)
			}
			var again jose.JSONWebKey
			if err := again.UnmarshalJSON(text); err != nil || again.KeyID != k.KeyID {
				t.Fatalf("%s: %v", text, err)
			}
		}
	})
}

// answers is a transport that gives one answer to whatever is asked, and
// notes what was.
type answers struct {
	body  []byte
	asked []*url.URL
}

func (a *answers) RoundTrip(r *http.Request) (*http.Response, error) {
	a.asked = append(a.asked, r.URL)
	return respond(r, http.StatusOK, a.body), nil
}

// The discovery document of an issuer, exact or found by a pattern. Whatever
// it says: nothing is asked for but itself and one more document over TLS, which
// is on the same host where only a pattern vouches for the issuer.
func FuzzDiscovery(f *testing.F) {
	document := map[string]any{
		"issuer": emailURL, "jwks_uri": emailURL + "/keys", "authorization_endpoint": emailURL + "/auth",
		"id_token_signing_alg_values_supported": []string{"RS256", "ES256", "none"},
	}
	var set map[string]any
	if err := json.Unmarshal(mustJSON(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{es256().jwk()}}), &set); err != nil {
		f.Fatal(err)
	}
	seeds := fuzz.Seeds(mustJSON(document))
	// One document for both questions, so that the keys are found as well.
	document["keys"] = set["keys"]
	document["jwks_uri"] = "https://keys.example.net/certs"
	seeds = append(seeds, fuzz.Look(mustJSON(document)))
	document["jwks_uri"] = emailURL + "/keys"
	seeds = append(seeds, fuzz.Look(mustJSON(document)))

	ask := func(issuer Issuer, in []byte) (*keySet, []*url.URL, error) {
		transport := &answers{body: in}
		s, err := newSource(issuer, transport, func() time.Time { return t0 })
		if err != nil {
			f.Fatal(err)
		}
		p := &provider{source: s, issuer: emailURL}
		keys, err := p.fetch(context.Background(), true)
		return keys, transport.asked, err
	}
	type both struct {
		exact, pattern   *keySet
		asked            []*url.URL
		askedOfPattern   []*url.URL
		exactErr, oneErr error
	}
	parse := func(in []byte) (b both, err error) {
		b.exact, b.asked, b.exactErr = ask(emailIssuer(), in)
		return b, nil
	}
	wild := Issuer{URL: "https://*.example.com", ClientID: "sigstore", Type: "email"}
	fuzz.Run(f, seeds, parse, func(t *testing.T, in []byte, b both, _ error) {
		b.pattern, b.askedOfPattern, b.oneErr = ask(wild, in)
		for _, asked := range [][]*url.URL{b.asked, b.askedOfPattern} {
			if len(asked) > 2 {
				t.Fatalf("asked for %v", asked)
			}
			for _, u := range asked {
				if u.Scheme != "https" || u.User != nil {
					t.Fatalf("asked for %v", u)
				}
			}
		}
		for _, u := range b.askedOfPattern {
			if u.Host != "issuer.example.com" {
				t.Fatalf("a pattern led to %v", u)
			}
		}
		for _, set := range []*keySet{b.exact, b.pattern} {
			if set != nil && (len(set.keys) == 0 || len(set.algorithms) == 0 || len(set.algorithms) > len(algorithms)) {
				t.Fatalf("%d keys, algorithms %v", len(set.keys), set.algorithms)
			}
		}
		for _, err := range []error{b.exactErr, b.oneErr} {
			if err != nil && (len(err.Error()) > 1500 || strings.ContainsAny(err.Error(), "\n\r")) {
				t.Fatalf("message %q", err)
			}
		}
	})
}

// match agrees with the definition, and what it accepts has the pattern's shape.
// An input is a pattern and, on the next line, what it is to match.
func FuzzPattern(f *testing.F) {
	seeds := fuzz.Seeds(
		"https://oidc.eks.*.amazonaws.com/id/*\nhttps://oidc.eks.us-west-2.amazonaws.com/id/A",
		"https://*.oic.prod-aks.azure.com/*\nhttps://eastus.oic.prod-aks.azure.com/x",
		"https://t.example.com/*/b\nhttps://t.example.com//b",
		"https://t.example.com/*/\"*0\nhttps://t.example.com/a/b", // an escaped path, whose '*' is escaped too
	)
	parse := func(in []byte) (bool, error) {
		p, text, _ := strings.Cut(string(in), "\n")
		i := Issuer{URL: p, ClientID: "c", Type: "email", InsecureHTTP: true}
		if err := i.Check(); err != nil || !i.IsPattern() {
			return false, err
		}
		return newPattern(p).match(text), nil
	}
	fuzz.Run(f, seeds, parse, func(t *testing.T, in []byte, got bool, err error) {
		p, text, _ := strings.Cut(string(in), "\n")
		if err != nil || !isPattern(p) {
			return
		}
		if want := naive(p, text); got != want {
			t.Fatalf("%q with %q: %v, want %v", p, text, got, want)
		}
		if filled := strings.ReplaceAll(p, "*", "a-B_0"); !newPattern(p).match(filled) {
			t.Fatalf("%q does not match %q", p, filled)
		}
	})
}

// Templates over claims. An input is a template and, on the next line, an object
// of claims: no name is made around nothing, and each name is a URI.
func FuzzTemplate(f *testing.F) {
	object := string(mustJSON(map[string]any{"repo": "acme/widget", "ref": "main", "kind": "tag", "a/b": "c", "n": 5, "empty": ""}))
	seeds := fuzz.Seeds(
		"{{.url}}/{{.repo}}\n"+object, "repo\n"+object, `{{ index . "a/b" }}`+"\n"+object, "https://{{.repo}}@{{.ref}}\n"+object,
		`{{.url}}/{{if eq .kind "tag"}}tags{{else}}heads{{end}}/{{.ref}}`+"\n"+object, `{{printf "%s/%s" .repo .n}}{{/* c */}}`+"\n"+object,
	)
	defaults := map[string]string{"url": "https://ci.example.com", "empty": "", "late": ""}
	parse := func(in []byte) (*compiled, error) {
		text, _, _ := strings.Cut(string(in), "\n")
		t := Templates{SAN: text, Extensions: map[string]string{"build-trigger": text}, Defaults: defaults}
		return t.compile()
	}
	fuzz.Run(f, seeds, parse, func(t *testing.T, in []byte, p *compiled, err error) {
		_, object, _ := strings.Cut(string(in), "\n")
		c, wrong := parseObject([]byte(object))
		if err != nil || wrong != nil || len(object) > maxToken {
			return
		}
		if text, err := p.render(p.extensions[0], c); err == nil && len(text) > max(ext.MaxValue, maxToken) {
			t.Fatalf("%d bytes", len(text))
		}
		r, err := p.resolve(c)
		if err != nil {
			return
		}
		if _, err := url.Parse(r.san.Value); err != nil || r.san.Kind != ext.URI {
			t.Fatalf("%v: %v", r.san, err)
		}
		for _, read := range p.san.claims {
			text, _, err := c.scalar(read.name)
			if constant := defaults[read.name]; err != nil || text == "" && constant == "" || constant != "" && text != "" && text != constant {
				t.Fatalf("%v from the claim %q: %q, %v", r.san, read.name, text, err)
			}
		}
	})
}
