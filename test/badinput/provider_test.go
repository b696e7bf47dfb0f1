package badinput

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// A provider is several identity providers on one loopback host. The server
// under test is configured to trust some of them; others are only there to be
// confused with.
type provider struct {
	*httptest.Server
	canary *canary
	keys   map[string]*rsa.PrivateKey // by name

	mu    sync.Mutex
	asked map[string]int // requests by path
}

// The issuers, by path, and whose keys each publishes.
const (
	idpA      = "/a"            // key a
	idpB      = "/b"            // key b
	idpTwin1  = "/twin1"        // key twin
	idpTwin2  = "/twin2"        // key twin as well
	idpWrong  = "/wrong"        // its discovery document names another issuer
	idpMoved  = "/moved"        // its discovery redirects to another host
	idpNear   = "/near"         // its discovery redirects within its host
	idpHuge   = "/huge"         // its discovery document is too large
	idpTenant = "/tenant/acme"  // found by a pattern, key tenant
	idpExact  = "/tenant/exact" // configured by name, although a pattern finds it too; key exact
	idpBoth   = "/tenant/both"  // two patterns find it
	idpAway   = "/tenant/away"  // found by a pattern; its keys are on another host
)

func newProvider(t *testing.T, canary *canary) *provider {
	t.Helper()
	p := &provider{canary: canary, keys: make(map[string]*rsa.PrivateKey), asked: make(map[string]int)}
	for _, name := range []string{"a", "b", "twin", "tenant", "exact", "other"} {
		p.keys[name] = must(rsa.GenerateKey(rand.Reader, 2048))
	}
	p.Server = httptest.NewServer(p)
	t.Cleanup(p.Close)
	return p
}

// config is a configuration file that trusts them, each for its own audience.
func (p *provider) config() []byte {
	var b strings.Builder
	b.WriteString("oidc-issuers:\n")
	for i, issuer := range []struct{ path, audience string }{
		{idpA, "sigstore"}, {idpB, "sigstore"}, {idpTwin1, "sigstore"}, {idpTwin2, "sigstore"},
		{idpWrong, "sigstore"}, {idpMoved, "sigstore"}, {idpNear, "sigstore"}, {idpHuge, "sigstore"},
		{idpExact, "exact"},
	} {
		fmt.Fprintf(&b, "  i%d:\n    issuer-url: %s%s\n    client-id: %s\n    type: email\n", i, p.URL, issuer.path, issuer.audience)
	}
	b.WriteString("meta-issuers:\n")
	for path, audience := range map[string]string{"/tenant/*": "tenant", "/*/both": "star"} {
		fmt.Fprintf(&b, "  %s%s:\n    client-id: %s\n    type: email\n", p.URL, path, audience)
	}
	// A rule that only the tokens of the part about the policy meet.
	b.WriteString("policy:\n  rules:\n    - name: hostile\n      deny: has(claims.hostile) && (claims.hostile == \"denied\" || claims.list.all(x, claims.list.all(y, x == y)))\n" +
		"      message: not for you\n  default: allow\n  limits: {per-identity: {certificates: 1000000, per: 1s}}\n")
	return []byte(b.String())
}

func (p *provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.asked[r.URL.Path]++
	p.mu.Unlock()
	issuer, discovery := strings.CutSuffix(r.URL.Path, "/.well-known/openid-configuration")
	name, isKeys := strings.CutPrefix(r.URL.Path, "/keys/")
	document := object{
		"issuer": p.URL + issuer, "jwks_uri": p.URL + "/keys/" + keyOf(issuer),
		"authorization_endpoint": p.URL + "/auth", "token_endpoint": p.URL + "/token",
		"id_token_signing_alg_values_supported": []string{"RS256"},
	}
	switch {
	case isKeys && p.keys[name] != nil:
		json.NewEncoder(w).Encode(object{"keys": array{jwkOf(&p.keys[name].PublicKey, name)}})
		return
	case !discovery:
		http.NotFound(w, r)
		return
	case issuer == idpWrong:
		document["issuer"] = p.URL + idpA
	case issuer == idpMoved:
		http.Redirect(w, r, p.canary.URL+"/.well-known/openid-configuration", http.StatusFound)
		return
	case issuer == idpNear && r.URL.RawQuery == "":
		http.Redirect(w, r, r.URL.Path+"?again", http.StatusFound)
		return
	case issuer == idpHuge:
		document["padding"] = strings.Repeat("x", 2<<20)
	case issuer == idpAway:
		document["jwks_uri"] = p.canary.URL + "/keys"
	}
	json.NewEncoder(w).Encode(document)
}

// keyOf names the key that an issuer publishes.
func keyOf(issuer string) string {
	switch issuer {
	case idpA, idpWrong, idpMoved, idpNear, idpHuge:
		return "a"
	case idpB:
		return "b"
	case idpTwin1, idpTwin2:
		return "twin"
	case idpExact:
		return "exact"
	}
	if strings.HasPrefix(issuer, "/tenant/") {
		return "tenant"
	}
	return "other"
}

func jwkOf(pub *rsa.PublicKey, kid string) object {
	return object{"kty": "RSA", "use": "sig", "alg": "RS256", "kid": kid, "n": rawURL(pub.N.Bytes()), "e": "AQAB"}
}

// token is a token of an issuer, signed with a key by its name.
func (p *provider) token(issuer, key, audience string, claims object) string {
	header := marshal(object{"alg": "RS256", "typ": "JWT", "kid": key})
	signed := rawURL(header) + "." + rawURL(marshal(claims))
	digest := sha256.Sum256([]byte(signed))
	return signed + "." + rawURL(must(rsa.SignPKCS1v15(rand.Reader, p.keys[key], crypto.SHA256, digest[:])))
}
