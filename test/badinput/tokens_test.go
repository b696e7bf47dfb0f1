package badinput

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// tokens is B8: tokens of the development issuer, whose key the test has.
func (s *suite) tokens(t *testing.T) {
	now := time.Now().Unix()
	good := s.claims(nil)
	head, payload, signature := cutToken(s.token())
	type check struct {
		name, token string
		want        int
	}
	var checks []check
	add := func(want int, name, token string) { checks = append(checks, check{name, token, want}) }

	add(200, "good", s.token())
	// The shape.
	add(400, "nothing", "")
	add(400, "a dot", ".")
	add(400, "two dots", "..")
	add(400, "without a signature", head+"."+payload+".")
	add(400, "without its last part", head+"."+payload)
	add(400, "four parts", s.token()+".x")
	add(400, "JWE", strings.Repeat("eyJhbGciOiJkaXIifQ.", 4)+"x")
	add(400, "space behind", s.token()+" ")
	add(400, "newline behind", s.token()+"\n")
	add(400, "newline within", s.token()[:40]+"\n"+s.token()[40:])
	add(400, "padding", head+"=."+payload+"."+signature)
	add(400, "standard alphabet", strings.ReplaceAll(strings.ReplaceAll(s.token(), "-", "+"), "_", "/")+"+")
	add(400, "trailing bits", s.token()[:len(s.token())-1]+flipLast(s.token()))
	add(400, "signature of another token", head+"."+payload+"."+thirdOf(s.sign(nil, s.claims(object{"jti": "x"}))))
	add(400, "payload of another token", head+"."+rawURL(marshal(s.claims(object{"email": "root@example.com", "sub": "root@example.com"})))+"."+signature)
	add(400, "JSON serialization", string(marshal(object{"protected": head, "payload": payload, "signature": signature})))
	add(400, "17 KiB", s.sign(nil, s.claims(object{"x": strings.Repeat("x", 17<<10)})))
	add(200, "15 KiB", s.sign(nil, s.claims(object{"x": strings.Repeat("x", 10<<10)})))
	add(400, "URL", "http://"+s.canary.Host+"/token")

	// Algorithms.
	for _, alg := range []any{"none", "None", "NONE", "nOnE", "", "HS256", "HS384", "HS512", "rs256", "RS256 ", "RS1", "ES256K", "RSA1_5", "dir", "PBES2-HS256+A128KW", "ES256", "PS256", "RS384", nil, 256, true, []string{"RS256"}, object{}} {
		add(400, fmt.Sprintf("alg %v", alg), s.sign(object{"alg": alg}, good))
	}
	add(400, "alg missing", s.sign(object{"alg": absent}, good))
	add(400, "alg twice", s.signText([]byte(`{"alg":"RS256","alg":"RS256"}`), marshal(good)))
	add(400, "alg twice, none first", s.signText([]byte(`{"alg":"none","alg":"RS256"}`), marshal(good)))
	add(400, "Alg", s.signText([]byte(`{"Alg":"RS256"}`), marshal(good)))
	add(400, "alg none, unsigned", rawURL([]byte(`{"alg":"none"}`))+"."+payload+".AA")
	for _, key := range []struct {
		name string
		key  []byte
	}{{"PEM", pemOf("PUBLIC KEY", spki(s.ca.oidc.Public()))}, {"DER", spki(s.ca.oidc.Public())}, {"PKCS #1", x509.MarshalPKCS1PublicKey(&s.ca.oidc.PublicKey)}, {"modulus", s.ca.oidc.N.Bytes()}, {"nothing", nil}} {
		signed := rawURL([]byte(`{"alg":"HS256"}`)) + "." + payload
		add(400, "HMAC with the public key as "+key.name, signed+"."+rawURL(hmacOf(crypto.SHA256, key.key, []byte(signed))))
	}
	pss := rawURL([]byte(`{"alg":"PS256"}`)) + "." + payload
	digest := sha256.Sum256([]byte(pss))
	add(400, "PS256, which the issuer does not advertise", pss+"."+rawURL(must(rsa.SignPSS(rand.Reader, s.ca.oidc, crypto.SHA256, digest[:], nil))))
	add(400, "signed by another key", resignToken(s.keys.rsa2048, head+"."+payload))

	// The header.
	canary := s.canary.URL + "/keys"
	own := jwkOf(&s.keys.rsa2048.PublicKey, "x")
	for name, value := range map[string]any{
		"crit": []string{"exp"}, "b64": false, "jku": canary, "jwk": own, "x5u": canary, "zip": "DEF", "enc": "A128GCM",
	} {
		add(400, name, s.sign(object{name: value}, good))
		h := marshal(object{"alg": "RS256", name: value})
		add(400, name+", with the key that it brings", resignToken(s.keys.rsa2048, rawURL(h)+"."+payload))
		add(400, name+" is null", s.sign(object{name: nil}, good))
	}
	add(400, "cty JWT", s.sign(object{"cty": "JWT"}, good))
	add(400, "cty jwt", s.sign(object{"cty": "jwt"}, good))
	add(400, "nested", s.signText([]byte(`{"alg":"RS256","cty":"JWT"}`), []byte(s.token())))
	add(400, "a token as payload", s.signText([]byte(`{"alg":"RS256"}`), []byte(s.token())))
	add(200, "x5c, ignored", s.sign(object{"x5c": []string{base64Of(certificate(s.keys.rsa2048, nil))}}, good))
	add(400, "x5c of the key that signed", resignToken(s.keys.rsa2048, rawURL(marshal(object{"alg": "RS256", "x5c": []string{base64Of(certificate(s.keys.rsa2048, nil))}}))+"."+payload))
	add(400, "an unknown kid", s.sign(object{"kid": "unknown"}, good))
	for _, kid := range []any{"../../etc/passwd", "' OR 1=1 --", "\x00", strings.Repeat("k", 5000), canary, 7, []string{"x"}} {
		add(400, fmt.Sprintf("kid %.30v", kid), s.sign(object{"kid": kid}, good))
	}
	add(200, "kid is null", s.sign(object{"kid": nil}, good))
	for _, header := range []string{"", "null", "[]", `"RS256"`, "{", `{"alg":"RS256"}{}`, `{"alg":"RS256",}`, "{\"alg\":\"RS256\",\"x\":\"\xff\"}", `{"alg":"RS256\u0000"}`, manyMembers(2000)} {
		add(400, "header "+clip(header), s.signText([]byte(header), marshal(good)))
	}
	for _, text := range []string{"", "null", "[]", "1", "{", string(marshal(good)) + "{}", string(marshal(good)) + "x", "\ufeff" + string(marshal(good)), string(marshal(good)) + "\xff"} {
		add(400, "payload "+clip(text), s.signText([]byte(`{"alg":"RS256"}`), []byte(text)))
	}

	// The claims.
	for name, change := range map[string]object{
		"no iss": {"iss": absent}, "iss null": {"iss": nil}, "iss a list": {"iss": []string{s.URL + "/oidc"}}, "iss empty": {"iss": ""},
		"no sub": {"sub": absent}, "sub empty": {"sub": ""}, "sub a number": {"sub": 7}, "sub with NUL": {"sub": "a\x00b"}, "sub with a newline": {"sub": "a\nb"},
		"no aud": {"aud": absent}, "aud empty": {"aud": ""}, "another aud": {"aud": "other"}, "aud with the right one as prefix": {"aud": "sigstore2"},
		"aud in another case": {"aud": "Sigstore"}, "aud a list of others": {"aud": []string{"a", "b"}}, "aud an empty list": {"aud": []string{}},
		"aud an object": {"aud": object{"sigstore": true}}, "aud with null": {"aud": []any{"sigstore", nil}}, "aud with a number": {"aud": []any{"sigstore", 7}},
		"no exp": {"exp": absent}, "exp null": {"exp": nil}, "expired": {"exp": now - 1}, "expires now": {"exp": now - 0}, "exp a string": {"exp": fmt.Sprint(now + 600)},
		"exp negative": {"exp": -1}, "exp in the year 10000": {"exp": 253402300800}, "exp 1e300": {"exp": json.Number("1e300")}, "exp true": {"exp": true},
		"nbf in the future": {"nbf": now + 3600}, "nbf a string": {"nbf": "x"}, "iat in the future": {"iat": now + 3600}, "iat a string": {"iat": "x"},
		"no email": {"email": absent}, "email null": {"email": nil}, "email empty": {"email": ""}, "email a list": {"email": []string{email}},
		"email_verified false": {"email_verified": false}, "no email_verified": {"email_verified": absent}, "email_verified null": {"email_verified": nil},
		"email_verified \"false\"": {"email_verified": "false"}, "email_verified \"yes\"": {"email_verified": "yes"}, "email_verified 1": {"email_verified": 1}, "email_verified \"TRUE\"": {"email_verified": "TRUE"},
		"email with NUL": {"email": "dev@example.com\x00.org"}, "email with a newline": {"email": "dev@example.com\nroot@example.com"}, "email with Unicode": {"email": "d\u0435v@example.com"},
		"email with a right-to-left mark": {"email": "dev@example.com\u202e"}, "email with a display name": {"email": "Dev <dev@example.com>"}, "two emails": {"email": "dev@example.com,root@example.com"},
		"email without a host": {"email": "dev@"}, "email without a name": {"email": "@example.com"}, "email with two signs": {"email": "a@b@example.com"},
		"email with a quoted name": {"email": `"a b"@example.com`}, "email with an address for a host": {"email": "dev@[127.0.0.1]"}, "email with a comment": {"email": "dev(x)@example.com"},
		"email with a port": {"email": "dev@example.com:25"}, "email with a space": {"email": "dev @example.com"}, "email that is long": {"email": strings.Repeat("a", 300) + "@example.com"},
		"email with a trailing dot": {"email": "dev@example.com."}, "email with a hyphen": {"email": "dev@-example.com"}, "email URL": {"email": "mailto:" + email},
	} {
		add(400, name, s.sign(nil, s.claims(change)))
	}
	for name, change := range map[string]object{
		"aud a list": {"aud": []string{"other", "sigstore"}}, "email_verified \"true\"": {"email_verified": "true"}, "azp of another": {"azp": "other"},
		"exp with a fraction": {"exp": float64(now+600) + 0.5}, "nbf in 4 minutes": {"nbf": now + 240}, "nonce": {"nonce": "x"}, "jti of 10 KB": {"jti": strings.Repeat("x", 10000)},
		"an unknown claim with a URL": {"x": canary}, "no iat": {"iat": absent},
	} {
		add(200, name, s.sign(nil, s.claims(change)))
	}
	for _, twice := range []string{`"email":"root@example.com"`, `"iss":"x"`, `"aud":"sigstore"`, `"exp":9999999999`, `"email_verified":true`, `"sub":"x"`} {
		doc := string(marshal(good))
		add(400, "twice: "+twice, s.signText([]byte(`{"alg":"RS256"}`), []byte(doc[:len(doc)-1]+","+twice+"}")))
		add(400, "twice, first: "+twice, s.signText([]byte(`{"alg":"RS256"}`), []byte("{"+twice+","+doc[1:])))
	}
	for _, name := range []string{"Iss", "ISS", "Sub", "AUD", "Exp", "i\u017fs", "\u017fub", "_claim_source\u017f"} {
		add(400, "another spelling of a claim: "+name, s.sign(nil, s.claims(object{name: "x"})))
	}
	// Not read by any library: another claim. It is not the address.
	add(200, "Email beside email", s.sign(nil, s.claims(object{"Email": "root@example.com"})))
	add(400, "Email in place of email", s.sign(nil, s.claims(object{"Email": email, "email": absent})))
	add(400, "a lone surrogate", s.signText([]byte(`{"alg":"RS256"}`), []byte(strings.Replace(string(marshal(good)), email, `dev\ud800@example.com`, 1))))

	for i, c := range checks {
		a := s.expect(c.want, "token: "+c.name, s.askFor(c.token))
		// The same in the header, where every third one of them goes.
		if i%3 == 0 && !strings.ContainsAny(c.token, "\r\n\x00") {
			want := c.want
			if want == http.StatusOK {
				want = http.StatusCreated
			}
			s.expect(want, "token in the header: "+c.name, postJSON(pathV1, marshal(s.oldRequest())).with("Authorization", "Bearer "+c.token))
		}
		if len(c.token) > 100 && strings.Contains(string(a.body), c.token[len(c.token)-60:]) {
			t.Errorf("token: %s: the answer repeats the token", c.name)
		}
	}
	t.Logf("%d tokens", len(checks))
	if len(checks) < 80 {
		t.Errorf("%d tokens, want at least 80", len(checks))
	}
	for _, auth := range []string{"Basic ZGV2OmRldg==", "Bearer", "bearer " + s.token(), "Bearer Bearer " + s.token(), "Token " + s.token()} {
		s.expect(http.StatusBadRequest, "Authorization "+clip(auth), postJSON(pathV1, marshal(s.oldRequest())).with("Authorization", auth))
	}
}

// flipLast changes the bits of the last letter that carry nothing.
func flipLast(token string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return string(alphabet[strings.IndexByte(alphabet, token[len(token)-1])^1])
}

func thirdOf(token string) string { _, _, third := cutToken(token); return third }

// resignToken signs a header and a payload with another key.
func resignToken(k *rsa.PrivateKey, signed string) string {
	digest := sha256.Sum256([]byte(signed))
	return signed + "." + rawURL(must(rsa.SignPKCS1v15(rand.Reader, k, crypto.SHA256, digest[:])))
}

// issuers is B9: who may speak for whom.
func (s *suite) issuers(t *testing.T) {
	now := time.Now().Unix()
	total := 0
	// token of the issuer iss, signed by a key.
	token := func(iss, key, audience string) string {
		return s.idp.token(iss, key, audience, object{"iss": iss, "sub": email, "aud": audience, "exp": now + 600, "email": email, "email_verified": true})
	}
	check := func(want int, what, token string) {
		t.Helper()
		total++
		s.expect(want, "issuer: "+what, s.askFor(token))
	}
	p := s.idp.URL
	// Each issuer with its key, and with each other's.
	for _, issuer := range []string{idpA, idpB, idpTwin1, idpTwin2} {
		for _, key := range []string{"a", "b", "twin", "tenant", "exact", "other"} {
			want := http.StatusBadRequest
			if keyOf(issuer) == key {
				want = http.StatusOK
			}
			check(want, issuer+" with key "+key, token(p+issuer, key, "sigstore"))
		}
	}
	check(200, "the pattern", token(p+idpTenant, "tenant", "tenant"))
	check(400, "the pattern with another's key", token(p+idpTenant, "exact", "tenant"))
	check(400, "the pattern with the audience of another", token(p+idpTenant, "tenant", "sigstore"))
	check(200, "an exact URL comes before a pattern", token(p+idpExact, "exact", "exact"))
	check(400, "the pattern does not stand in for it", token(p+idpExact, "exact", "tenant"))
	check(400, "nor with the pattern's key", token(p+idpExact, "tenant", "tenant"))
	for range 5 { // always the same one of two patterns: the one that says more
		check(200, "two patterns", token(p+idpBoth, "tenant", "tenant"))
		check(400, "two patterns, the other one's audience", token(p+idpBoth, "tenant", "star"))
	}

	// Nothing that only looks like an issuer is one.
	u := must(url.Parse(p))
	upper := "HTTP://" + u.Host
	for what, iss := range map[string]string{
		"slash behind": p + idpA + "/", "two slashes": p + "/" + idpA, "upper-case path": p + "/A", "upper-case scheme": upper + idpA,
		"https": "https://" + u.Host + idpA, "no scheme": u.Host + idpA, "relative scheme": "//" + u.Host + idpA, "other port": "http://127.0.0.1:1" + idpA,
		"no port": "http://127.0.0.1" + idpA, "user": "http://x@" + u.Host + idpA, "user that is the host": "http://" + u.Host + "@" + s.canary.Host + idpA,
		"query": p + idpA + "?x=y", "empty query": p + idpA + "?", "fragment": p + idpA + "#x", "empty fragment": p + idpA + "#", "encoded letter": p + "/%61",
		"encoded dot": p + "/%2e/a", "dot segment": p + "/./a", "parent segment": p + "/x/../a", "encoded slash": p + "%2fa", "semicolon": p + idpA + ";x",
		"space before": " " + p + idpA, "space behind": p + idpA + " ", "tab": p + idpA + "\t", "newline": p + idpA + "\n", "NUL": p + idpA + "\x00",
		"prefix": p + "/", "host only": p, "suffix": p + idpA + "a", "below": p + idpA + "/b", "localhost": "http://localhost:" + u.Port() + idpA,
		"decimal address": "http://2130706433:" + u.Port() + idpA, "octal address": "http://0177.0.0.1:" + u.Port() + idpA, "hexadecimal address": "http://0x7f.1:" + u.Port() + idpA,
		"short address": "http://127.1:" + u.Port() + idpA, "IPv6": "http://[::1]:" + u.Port() + idpA, "mapped address": "http://[::ffff:127.0.0.1]:" + u.Port() + idpA,
		"trailing dot": "http://127.0.0.1.:" + u.Port() + idpA, "leading zeros of the port": "http://127.0.0.1:0" + u.Port() + idpA, "backslash": p + `\a`,
		"full-width letter": p + "/\uff41", "Cyrillic letter": p + "/\u0430", "combining mark": p + "/a\u0301", "IDN": "http://xn--a.example" + idpA, "soft hyphen": p + "/\u00ada",
		"file": "file:///etc/passwd", "gopher": "gopher://" + s.canary.Host + "/", "data": "data:,x", "javascript": "javascript:1", "empty": "", "the canary": s.canary.URL, "the canary's path": s.canary.URL + idpA,
		"metadata service": "http://169.254.169.254/latest/meta-data", "any address": "http://0.0.0.0:" + u.Port() + idpA, "the pattern itself": p + "/tenant/*",
		"below the pattern": p + idpTenant + "/x", "nothing for the pattern": p + "/tenant/", "encoded for the pattern": p + "/tenant/%61cme", "dot for the pattern": p + "/tenant/..",
		"question mark for the pattern": p + "/tenant/a?b", "at for the pattern": p + "/tenant/a@b", "other host for the pattern": s.canary.URL + "/tenant/acme",
		"newline for the pattern": p + "/tenant/acme\n", "GitHub's with a suffix": "https://token.actions.githubusercontent.com.evil.example", "a million letters": p + "/tenant/" + strings.Repeat("a", 5000),
	} {
		check(400, what, token(iss, "a", "sigstore"))
		check(400, what+", audience of the pattern", token(iss, "tenant", "tenant"))
	}

	// Issuers that are configured and do not behave. Nothing can be said about
	// their tokens, which is nobody's fault who asks: 503, the one status above
	// 499 that is right here.
	unavailable := func(what, token string) {
		t.Helper()
		total++
		res := must(s.client.Post(s.URL+pathV2, "application/json", strings.NewReader(string(marshal(s.certRequest(token))))))
		res.Body.Close()
		s.sent.Add(1)
		if res.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("issuer: %s: %d, want 503", what, res.StatusCode)
		}
	}
	unavailable("its discovery document names another", token(p+idpWrong, "a", "sigstore"))
	unavailable("its discovery redirects to another host", token(p+idpMoved, "a", "sigstore"))
	unavailable("its discovery document is too large", token(p+idpHuge, "a", "sigstore"))
	unavailable("a pattern's issuer has its keys elsewhere", token(p+idpAway, "tenant", "tenant"))
	check(200, "a redirect within the host", token(p+idpNear, "a", "sigstore"))

	// The development issuer and the GitHub one share a key and no more.
	for iss, claims := range map[string]object{
		s.URL + "/oidc/github": s.claims(object{"iss": s.URL + "/oidc/github"}), // no workflow claims
		s.URL + "/oidc/":       s.claims(object{"iss": s.URL + "/oidc/"}),
		s.URL:                  s.claims(object{"iss": s.URL}),
	} {
		check(400, iss, s.sign(nil, claims))
	}

	// However many tokens with unknown keys come, an issuer is asked again at
	// most once a minute.
	s.idp.mu.Lock()
	before := s.idp.asked["/keys/b"]
	s.idp.mu.Unlock()
	for i := range 50 {
		check(400, "unknown key", s.idp.token(p+idpB, "a", "sigstore", object{"iss": p + idpB, "sub": fmt.Sprint(i), "aud": "sigstore", "exp": now + 600, "email": email, "email_verified": true}))
	}
	s.idp.mu.Lock()
	if asked := s.idp.asked["/keys/b"] - before; asked > 1 {
		t.Errorf("50 tokens with an unknown key made the server ask for the keys %d times", asked)
	}
	s.idp.mu.Unlock()
	t.Logf("%d issuers", total)
	if total < 60 {
		t.Errorf("%d issuers, want at least 60", total)
	}
}

// urls is B10: the address of the canary in every field that looks as if
// something could be fetched. At the end of all parts it must have heard nothing.
func (s *suite) urls(t *testing.T) {
	port := s.canary.Host[strings.LastIndexByte(s.canary.Host, ':')+1:]
	digest := digestOf("sha256", []byte("urls"))
	sig := signASN1(s.keys.p256, digest)
	code := 0
	for _, target := range []string{
		s.canary.URL + "/x", "http://localhost:" + port + "/x", "http://[::1]:" + port, "http://[::ffff:127.0.0.1]:" + port, "http://0.0.0.0:" + port, "http://2130706433:" + port,
		"http://0177.0.0.1:" + port, "http://127.1:" + port, "https://" + s.canary.Host, "gopher://" + s.canary.Host + "/_x", "ftp://" + s.canary.Host + "/x", "ldap://" + s.canary.Host,
		"//" + s.canary.Host, "file://" + s.canary.Host + "/x", "http://x:y@" + s.canary.Host, "jdbc:mysql://" + s.canary.Host, `\\` + s.canary.Host + `\x`,
	} {
		code++
		// Rekor's older entries had a URL beside each content.
		for _, field := range []object{
			{"data": object{"url": target, "hash": object{"algorithm": "sha256", "value": hexOf(digest)}}},
			{"data": object{"hash": object{"algorithm": "sha256", "value": hexOf(digest)}}, "url": target},
		} {
			field["signature"] = object{"content": base64Of(sig), "url": target, "publicKey": object{"content": base64Of(publicPEM(s.keys.p256)), "url": target}}
			want := http.StatusConflict
			if code == 1 && field["url"] == nil {
				want = http.StatusCreated
			}
			s.expect(want, "URLs beside contents", postJSON(pathEntry, marshal(object{"kind": "hashedrekord", "apiVersion": "0.0.1", "spec": field})))
		}
		for _, kind := range []string{"rekord", "hashedrekord", "dsse", "intoto", "alpine", "rpm", "jar", "helm", "tuf", "cose", "rfc3161"} {
			for _, spec := range []object{
				{"data": object{"url": target}, "signature": object{"url": target, "format": "x509", "publicKey": object{"url": target}}},
				{"package": object{"url": target}, "publicKey": object{"url": target}, "chart": object{"url": target}, "archive": object{"url": target}, "root": object{"url": target}, "metadata": object{"url": target}},
				{"content": object{"url": target, "envelope": target}, "publicKey": target, "tsr": object{"content": target, "url": target}, "message": target},
				{"proposedContent": object{"envelope": target, "verifiers": []string{target}, "url": target}},
			} {
				s.expect(http.StatusBadRequest, "URLs instead of contents", postJSON(pathEntry, marshal(object{"kind": kind, "apiVersion": "0.0.1", "spec": spec})))
			}
		}
		// The key of a search (CVE-2026-24117).
		s.expect(http.StatusBadRequest, "key of a search", postJSON("/api/v1/index/retrieve", marshal(object{"publicKey": object{"format": "x509", "url": target}})))
		s.expect(http.StatusBadRequest, "key of a search, as content", postJSON("/api/v1/index/retrieve", marshal(object{"publicKey": object{"format": "x509", "content": base64Of([]byte(target))}})))
		s.expect(http.StatusOK, "subject of a search", postJSON("/api/v1/index/retrieve", marshal(object{"subject": target, "url": target})))
		// Tokens.
		for _, header := range []object{{"jku": target}, {"x5u": target}, {"kid": target}, {"jwk": object{"x5u": target}}} {
			s.expect(http.StatusBadRequest, "header of a token", s.askFor(s.sign(header, s.claims(nil))))
		}
		s.expect(http.StatusBadRequest, "issuer of a token", s.askFor(s.sign(nil, s.claims(object{"iss": target}))))
		s.expect(http.StatusOK, "claims of a token", s.askFor(s.sign(nil, s.claims(object{"_claim_sources": absent, "picture": target, "profile": target, "jwks_uri": target}))))
		s.expect(http.StatusBadRequest, "distributed claims of a token", s.askFor(s.sign(nil, s.claims(object{"email": absent, "_claim_names": object{"email": "x"}, "_claim_sources": object{"x": object{"endpoint": target}}}))))
		// The login page: no redirect to it, and nothing asked there.
		login := "client_id=sigstore&response_type=code&scope=openid&redirect_uri="
		if a := s.send(get("/oidc/auth?" + login + url.QueryEscape(target))); a.status != loginStatus(target) {
			t.Errorf("login with redirect_uri %s: %d, want %d", target, a.status, loginStatus(target))
		}
		s.expect(http.StatusSeeOther, "request_uri", get("/oidc/auth?"+login+url.QueryEscape("http://localhost:9/cb")+"&request_uri="+url.QueryEscape(target)))
		s.expect(http.StatusOK, "other URLs of a login", get("/oidc/auth?"+login+url.QueryEscape("http://localhost:9/cb")+"&logo_uri="+url.QueryEscape(target)+"&resource="+url.QueryEscape(target)+"&login_hint="+url.QueryEscape(target)))
		s.expect(http.StatusUnauthorized, "client_id", form("/oidc/token", "grant_type=authorization_code&code=x&client_id="+url.QueryEscape(target)))
		// Headers that proxies give.
		s.expect(http.StatusOK, "headers", get("/api/v1/log").with("X-Forwarded-Host", s.canary.Host).with("Forwarded", "host="+s.canary.Host).with("Origin", target).with("Referer", target).with("X-Original-Url", target))
		// Certificates that say where their issuer is.
		cert := certificate(s.keys.p256, func(c *x509.Certificate) {
			c.IssuingCertificateURL, c.OCSPServer, c.CRLDistributionPoints = []string{target}, []string{target}, []string{target}
		})
		s.expect(http.StatusCreated, "URLs in a certificate", postJSON(pathEntry, hashedRekord("sha256", digest, sig, pemOf("CERTIFICATE", cert))))
		chain := s.ca.issue(func(c *x509.Certificate) {
			c.IssuingCertificateURL, c.OCSPServer, c.CRLDistributionPoints = []string{target}, []string{target}, []string{target}
		})
		s.expect(http.StatusOK, "URLs in a chain", postJSON("/ct/v1/add-chain", chainBody(chain, s.ca.chain[0])))
		s.expect(http.StatusBadRequest, "URLs in a chain without its issuer", postJSON("/ct/v1/add-chain", chainBody(chain)))
	}
	// A request for a proxy is none for this server.
	for _, line := range []string{"GET " + s.canary.URL + "/ HTTP/1.1", "CONNECT " + s.canary.Host + " HTTP/1.1", "GET " + s.canary.URL + "/tuf/../ HTTP/1.1"} {
		s.raw(t, line, line+"\r\nHost: "+s.canary.Host+"\r\n\r\n", "404")
	}
	s.raw(t, "proxy request for something that is here", "GET "+s.canary.URL+"/ping HTTP/1.1\r\nHost: "+s.canary.Host+"\r\n\r\n", "200")
}

// loginStatus is 200 for the addresses that a client on this machine may use:
// the page is shown and sends the browser there.
func loginStatus(target string) int {
	u, err := url.Parse(target)
	if err == nil && u.Scheme == "http" && u.User == nil {
		switch u.Hostname() {
		case "127.0.0.1", "localhost", "::1":
			return http.StatusOK
		}
	}
	return http.StatusBadRequest
}
