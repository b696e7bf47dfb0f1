package identity

import (
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/sigstack/sigstack/ca/ext"
)

// head is the header of an RS256 token with these members changed.
func head(change ...any) []byte {
	h := rs256().header()
	for k := 0; k+1 < len(change); k += 2 {
		if change[k+1] == absent {
			delete(h, change[k].(string))
		} else {
			h[change[k].(string)] = change[k+1]
		}
	}
	return mustJSON(h)
}

// withHeader is a token that is properly signed over any header.
func withHeader(header []byte) string { return rs256().sign(header, mustJSON(emailClaims())) }

// with is a properly signed token with changed claims.
func with(change ...any) string { return rs256().token(emailClaims(change...)) }

// payload is a properly signed token over any payload.
func payload(s string) string { return rs256().sign(head(), []byte(s)) }

func claimsText(extra string) string {
	return fmt.Sprintf(`{"iss":%q,"sub":"s","aud":"sigstore","exp":%d,"email":"dev@example.com","email_verified":true%s}`, emailURL, t0.Add(time.Minute).Unix(), extra)
}

// The list of hostile and unusual tokens, each with its verdict and a piece of the reason.
func TestTokens(t *testing.T) {
	good := with()
	parts := strings.Split(good, ".")
	header, body, signature := parts[0], parts[1], parts[2]

	// An HMAC whose key is the public key: the classic confusion of algorithms.
	spki, err := x509.MarshalPKIXPublicKey(testKeys().rsa.Public())
	if err != nil {
		t.Fatal(err)
	}
	hs256 := func(key []byte) string {
		input := b64(head("alg", "HS256")) + "." + body
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(input))
		return input + "." + b64(mac.Sum(nil))
	}
	flip := func(s string, at int) string {
		c := byte('A')
		if s[at] == c {
			c = 'B'
		}
		return s[:at] + string(c) + s[at+1:]
	}
	jwk := rs256().jwk()
	other := signer{"rsa-1", jose.RS256, testKeys().rsa2}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, testKeys().rsa2.Public(), testKeys().rsa2)
	if err != nil {
		t.Fatal(err)
	}
	chain := base64.StdEncoding.EncodeToString(der)
	exp := func(d time.Duration) int64 { return t0.Add(d).Unix() }

	cases := []struct {
		name  string
		token string
		want  verdict
		text  string // in the message
	}{
		{"good RS256", good, accepted, ""},
		{"good ES256", es256().token(emailClaims()), accepted, ""},

		// Shape.
		{"empty", "", tokenError, "missing"},
		{"one dot", ".", tokenError, "1 dots"},
		{"two dots", "..", tokenError, "not signed"},
		{"no dot", header, tokenError, "0 dots"},
		{"two parts", header + "." + body, tokenError, "1 dots"},
		{"four parts", good + "." + signature, tokenError, "3 dots"},
		{"five parts, a JWE", header + ".." + body + "." + body + "." + signature, tokenError, "4 dots"},
		{"trailing dot", good + ".", tokenError, "3 dots"},
		{"JSON serialization", `{"payload":"` + body + `","protected":"` + header + `","signature":"` + signature + `"}`, tokenError, "base64url character"},
		{"trailing newline", good + "\n", tokenError, "base64url character"},
		{"leading space", " " + good, tokenError, "base64url character"},
		{"NUL inside", header + ".\x00" + body + "." + signature, tokenError, "base64url character"},
		{"newline inside base64", header[:4] + "\n" + header[4:] + "." + body + "." + signature, tokenError, "base64url character"},
		{"padding", header + "." + body + "." + signature + "==", tokenError, "base64url character"},
		{"standard alphabet", header + "." + body + "." + signature[:20] + "+/" + signature[22:], tokenError, "base64url character"},
		{"Bearer in front", "Bearer " + good, tokenError, "base64url character"},
		{"too long", good + strings.Repeat("A", maxToken), tokenError, "at most 16384"},
		{"header of one letter", "A." + body + "." + signature, tokenError, "header of the token is not base64url"},
		{"header is not JSON", b64([]byte("alg")) + "." + body + "." + signature, tokenError, "not one JSON object"},
		{"header is a list", withHeader([]byte(`["RS256"]`)), tokenError, "not one JSON object"},
		{"header null", withHeader([]byte(`null`)), tokenError, "not one JSON object"},
		{"header with more behind", withHeader([]byte(`{"alg":"RS256","kid":"rsa-1"} {}`)), tokenError, "not one JSON object"},
		{"header is not UTF-8", withHeader([]byte("{\"alg\":\"RS256\",\"kid\":\"\xff\"}")), tokenError, "UTF-8"},

		// Algorithm and signature.
		{"alg none, unsigned", b64(head("alg", "none")) + "." + body + ".", tokenError, "not signed"},
		{"alg none, signed", withHeader(head("alg", "none")), tokenError, `algorithm is "none"`},
		{"alg None", withHeader(head("alg", "None")), tokenError, `algorithm is "None"`},
		{"alg NONE", withHeader(head("alg", "NONE")), tokenError, `algorithm is "NONE"`},
		{"alg empty", withHeader(head("alg", "")), tokenError, `algorithm is ""`},
		{"alg missing", withHeader(head("alg", absent)), tokenError, "algorithm"},
		{"alg null", withHeader(head("alg", nil)), tokenError, "algorithm"},
		{"alg a number", withHeader(head("alg", 256)), tokenError, "not a string"},
		{"alg a list", withHeader(head("alg", []string{"RS256"})), tokenError, "not a string"},
		{"alg in lower case", withHeader(head("alg", "rs256")), tokenError, "algorithm"},
		{"alg with a space", withHeader(head("alg", "RS256 ")), tokenError, "algorithm"},
		{"alg twice", withHeader([]byte(`{"alg":"none","alg":"RS256","kid":"rsa-1"}`)), tokenError, "stands twice"},
		{"alg twice, other order", withHeader([]byte(`{"alg":"RS256","alg":"none","kid":"rsa-1"}`)), tokenError, "stands twice"},
		{"alg also as ALG", withHeader([]byte(`{"ALG":"none","alg":"RS256","kid":"rsa-1"}`)), accepted, ""},
		{"only ALG", withHeader([]byte(`{"ALG":"RS256","kid":"rsa-1"}`)), tokenError, "algorithm"},
		{"HS256 with the public key", hs256(spki), tokenError, "algorithm"},
		{"HS256 with the public key in PEM", hs256(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki})), tokenError, "algorithm"},
		{"HS256 with an empty key", hs256(nil), tokenError, "algorithm"},
		{"RS384, not advertised", signer{"rsa-1", jose.RS384, testKeys().rsa}.token(emailClaims()), tokenError, "advertises"},
		{"PS256, not advertised", signer{"rsa-1", jose.PS256, testKeys().rsa}.token(emailClaims()), tokenError, "advertises"},
		{"ES256 named, RSA key id", signer{"rsa-1", jose.ES256, testKeys().p256}.token(emailClaims()), tokenError, "no key with the id"},
		{"RS256 named, EC key id", signer{"ec-1", jose.RS256, testKeys().rsa}.token(emailClaims()), tokenError, "no key with the id"},
		{"another key, known id", other.token(emailClaims()), tokenError, "signature is not of a key"},
		{"another key, no id", other.sign(head("kid", absent), mustJSON(emailClaims())), tokenError, "signature is not of a key"},
		{"no kid", withHeader(head("kid", absent)), accepted, ""},
		{"kid empty", withHeader(head("kid", "")), accepted, ""},
		{"kid null", withHeader(head("kid", nil)), accepted, ""},
		{"kid unknown", withHeader(head("kid", "rsa-2")), tokenError, "no key with the id"},
		{"kid a path", withHeader(head("kid", "../../../../dev/null")), tokenError, "no key with the id"},
		{"kid SQL", withHeader(head("kid", "x' UNION SELECT 'a' --")), tokenError, "no key with the id"},
		{"kid with control characters", withHeader(head("kid", "a\r\nSet-Cookie: b\x00")), tokenError, "no key with the id"},
		{"kid a URL", withHeader(head("kid", "http://169.254.169.254/latest")), tokenError, "no key with the id"},
		{"kid very long", withHeader(head("kid", strings.Repeat("k", 6000))), tokenError, "no key with the id"},
		{"kid a number", withHeader(head("kid", 1)), tokenError, "not a string"},
		{"kid an object", withHeader(head("kid", map[string]any{"a": 1})), tokenError, "not a string"},
		{"kid twice", withHeader([]byte(`{"alg":"RS256","kid":"rsa-2","kid":"rsa-1"}`)), tokenError, "stands twice"},
		{"signature flipped", header + "." + body + "." + flip(signature, 10), tokenError, "signature is not of a key"},
		{"payload flipped", header + "." + b64(mustJSON(emailClaims("email", "evil@example.com"))) + "." + signature, tokenError, "signature is not of a key"},
		{"header changed", b64(head("x", "y")) + "." + body + "." + signature, tokenError, "signature is not of a key"},
		{"signature of zeros", header + "." + body + "." + b64(make([]byte, 256)), tokenError, "signature is not of a key"},
		{"signature of one byte", header + "." + body + ".AA", tokenError, "signature is not of a key"},
		{"ECDSA signature of zeros", b64(mustJSON(es256().header())) + "." + body + "." + b64(make([]byte, 64)), tokenError, "signature is not of a key"},
		{"last bits of the signature", header + "." + body + "." + lastBit(signature), tokenError, "signature of the token is not base64url"},
		{"last bits of the header", trailing(rs256(), head("pad", ""), mustJSON(emailClaims())), tokenError, "header of the token is not base64url"},

		// Header parameters.
		{"crit", withHeader(head("crit", []string{"exp"})), tokenError, `"crit"`},
		{"crit empty", withHeader(head("crit", []string{})), tokenError, `"crit"`},
		{"crit null", withHeader(head("crit", nil)), tokenError, `"crit"`},
		{"b64 false", withHeader(head("b64", false, "crit", []string{"b64"})), tokenError, "not accepted"},
		{"b64 true", withHeader(head("b64", true)), tokenError, `"b64"`},
		{"jku", withHeader(head("jku", "https://evil.example.net/keys")), tokenError, `"jku"`},
		{"jku of the issuer", withHeader(head("jku", emailURL+"/keys")), tokenError, `"jku"`},
		{"jwk, self-signed", other.sign(head("kid", absent, "jwk", signer{"", jose.RS256, testKeys().rsa2}.jwk()), mustJSON(emailClaims())), tokenError, `"jwk"`},
		{"jwk of the issuer", withHeader(head("jwk", jwk)), tokenError, `"jwk"`},
		{"x5u", withHeader(head("x5u", "https://evil.example.net/chain")), tokenError, `"x5u"`},
		{"x5t", withHeader(head("x5t", "AAAA", "x5t#S256", "AAAA")), accepted, ""},
		{"x5c beside the issuer's signature", withHeader(head("x5c", []string{chain})), accepted, ""},
		{"x5c, self-signed", other.sign(head("kid", absent, "x5c", []string{chain}), mustJSON(emailClaims())), tokenError, "signature is not of a key"},
		{"x5c garbage", withHeader(head("x5c", []string{"AAAA"})), tokenError, "x5c"},
		{"zip", withHeader(head("zip", "DEF")), tokenError, `"zip"`},
		{"enc", withHeader(head("enc", "A128GCM")), tokenError, `"enc"`},
		{"cty JWT", withHeader(head("cty", "JWT")), tokenError, "nested"},
		{"cty jwt", withHeader(head("cty", "jwt")), tokenError, "nested"},
		{"nested token", rs256().sign(head(), []byte(good)), tokenError, "not one JSON object"},
		{"unknown parameter", withHeader(head("nonce", "x")), accepted, ""},
		{"no typ", withHeader(head("typ", absent)), accepted, ""},

		// Payload.
		{"payload null", payload(`null`), tokenError, "not one JSON object"},
		{"payload empty", payload(``), tokenError, "not one JSON object"},
		{"payload a string", payload(`"x"`), tokenError, "not one JSON object"},
		{"payload cut", payload(`{"iss":"`), tokenError, "not one JSON object"},
		{"payload without claims", payload(`{}`), tokenError, `"iss" is missing`},
		{"payload with more behind", payload(claimsText("") + "{}"), tokenError, "not one JSON object"},
		{"payload with spaces", payload(" \n" + strings.ReplaceAll(claimsText(""), `":`, "\" :\t ") + " "), accepted, ""},
		{"payload is not UTF-8", payload(claimsText(",\"x\":\"\xff\"")), tokenError, "UTF-8"},
		{"deep nesting", payload(claimsText(`,"x":` + strings.Repeat("[", 4000) + strings.Repeat("]", 4000))), accepted, ""},
		{"iss twice", payload(claimsText(`,"iss":"https://evil.example.net"`)), tokenError, "stands twice"},
		{"email twice", payload(claimsText(`,"email":"evil@example.com"`)), tokenError, "stands twice"},
		{"email twice, escaped", payload(claimsText(`,"\u0065mail":"evil@example.com"`)), tokenError, "stands twice"},
		{"Iss beside iss", payload(claimsText(`,"Iss":"https://evil.example.net"`)), tokenError, "another spelling"},
		{"long s in sub", payload(claimsText(`,"\u017fub":"evil"`)), tokenError, "another spelling"},
		{"AUD beside aud", with("aud", "other", "AUD", "sigstore"), tokenError, "another spelling"},
		{"EXP beside exp", with("exp", exp(-time.Hour), "EXP", exp(time.Hour)), tokenError, "another spelling"},
		{"Email_Verified beside email_verified", with("email_verified", false, "Email_Verified", true), tokenError, `"email_verified" must be true`},
		{"EMAIL beside email", with("EMAIL", "evil@example.com"), accepted, ""},
		{"iss a number", with("iss", 1), tokenError, `"iss" is not a string`},
		{"iss a list", with("iss", []string{emailURL}), tokenError, `"iss" is not a string`},
		{"iss null", with("iss", nil), tokenError, `"iss" is missing`},
		{"sub missing", with("sub", absent), tokenError, `"sub" is missing`},
		{"sub empty", with("sub", ""), tokenError, `"sub" is missing`},
		{"sub a number", with("sub", 7), tokenError, `"sub"`},
		{"sub with NUL", with("sub", "a\x00b"), tokenError, "control character"},
		{"sub with newline", with("sub", "a\nb"), tokenError, "control character"},
		{"sub with C1 control", with("sub", "a\u0085b"), tokenError, "control character"},
		{"sub with line separator", with("sub", "a\u2028b"), tokenError, "control character"},
		{"sub with a lone surrogate", payload(strings.Replace(claimsText(""), `"sub":"s"`, `"sub":"\ud800"`, 1)), tokenError, "Unicode"},
		{"sub in Unicode", with("sub", "J\u00f6rg"), accepted, ""},
		{"sub too long", with("sub", strings.Repeat("s", ext.MaxValue+1)), tokenError, "token subject"},
		{"sub of the largest length", with("sub", strings.Repeat("s", ext.MaxValue)), accepted, ""},

		// Audience.
		{"aud missing", with("aud", absent), tokenError, `"aud" is missing`},
		{"aud null", with("aud", nil), tokenError, `"aud" is missing`},
		{"aud empty", with("aud", ""), tokenError, `must contain "sigstore"`},
		{"aud another", with("aud", "other"), tokenError, `must contain "sigstore"`},
		{"aud in another case", with("aud", "Sigstore"), tokenError, `must contain "sigstore"`},
		{"aud with a suffix", with("aud", "sigstore.evil"), tokenError, `must contain "sigstore"`},
		{"aud two in one string", with("aud", "sigstore other"), tokenError, `must contain "sigstore"`},
		{"aud list", with("aud", []string{"sigstore"}), accepted, ""},
		{"aud list of two", with("aud", []string{"other", "sigstore"}), accepted, ""},
		{"aud list without", with("aud", []string{"a", "b"}), tokenError, `must contain "sigstore"`},
		{"aud empty list", with("aud", []string{}), tokenError, `must contain "sigstore"`},
		{"aud list with a number", with("aud", []any{"sigstore", 1}), tokenError, "not a string or a list"},
		{"aud list with null", with("aud", []any{"sigstore", nil}), tokenError, "not a string or a list"},
		{"aud an object", with("aud", map[string]any{"sigstore": 1}), tokenError, "not a string or a list"},
		{"aud a number", with("aud", 1), tokenError, "not a string or a list"},
		{"azp of a service account", with("azp", "1234567890"), accepted, ""},

		// Times.
		{"exp missing", with("exp", absent), tokenError, `"exp" is missing`},
		{"exp null", with("exp", nil), tokenError, `"exp" is missing`},
		{"exp now", with("exp", exp(0)), tokenError, "expired"},
		{"exp a second ago", with("exp", exp(-time.Second)), tokenError, "expired"},
		{"exp in a second", with("exp", exp(time.Second)), accepted, ""},
		{"exp a fraction", with("exp", float64(exp(0))+0.5), accepted, ""},
		{"exp exponent", payload(strings.Replace(claimsText(""), fmt.Sprint(exp(time.Minute)), "4e9", 1)), accepted, ""},
		{"exp a string", with("exp", fmt.Sprint(exp(time.Hour))), tokenError, `"exp" is not a number`},
		{"exp negative", with("exp", -1), tokenError, `"exp" is not a number`},
		{"exp 1e300", payload(strings.Replace(claimsText(""), fmt.Sprint(exp(time.Minute)), "1e300", 1)), tokenError, `"exp" is not a number`},
		{"exp 1e999", payload(strings.Replace(claimsText(""), fmt.Sprint(exp(time.Minute)), "1e999", 1)), tokenError, `"exp" is not a number`},
		{"exp in milliseconds", with("exp", t0.UnixMilli()), tokenError, `"exp" is not a number`},
		{"exp true", with("exp", true), tokenError, `"exp" is not a number`},
		{"exp a list", with("exp", []int64{exp(time.Hour)}), tokenError, `"exp" is not a number`},
		{"nbf in 4 minutes", with("nbf", exp(4*time.Minute)), accepted, ""},
		{"nbf in 5 minutes", with("nbf", exp(5*time.Minute)), accepted, ""},
		{"nbf in 6 minutes", with("nbf", exp(6*time.Minute)), tokenError, "not valid before"},
		{"nbf a string", with("nbf", "0"), tokenError, `"nbf" is not a number`},
		{"iat missing", with("iat", absent), accepted, ""},
		{"iat in 5 minutes", with("iat", exp(5*time.Minute)), accepted, ""},
		{"iat in 6 minutes", with("iat", exp(6*time.Minute)), tokenError, "future"},
		{"iat a string", with("iat", "now"), tokenError, `"iat" is not a number`},

		// Mail address.
		{"email missing", with("email", absent), tokenError, `"email" is missing`},
		{"email empty", with("email", ""), tokenError, `"email" is missing`},
		{"email null", with("email", nil), tokenError, `"email" is missing`},
		{"email a list", with("email", []string{"dev@example.com"}), tokenError, `"email" is not a string`},
		{"email with NUL", with("email", "dev@example.com\x00.evil.net"), tokenError, "control character"},
		{"email with newline", with("email", "dev@example.com\nx"), tokenError, "control character"},
		{"email with a Cyrillic letter", with("email", "d\u0435v@example.com"), tokenError, "ASCII"},
		{"email with a Unicode domain", with("email", "dev@ex\u00e4mple.com"), tokenError, "ASCII"},
		{"email with a zero width space", with("email", "dev\u200b@example.com"), tokenError, "ASCII"},
		{"email without @", with("email", "dev"), tokenError, "local@domain"},
		{"email with two @", with("email", "dev@evil.net@example.com"), tokenError, "local@domain"},
		{"email with a display name", with("email", "Dev <dev@example.com>"), tokenError, "ASCII"},
		{"email in angle brackets", with("email", "<dev@example.com>"), tokenError, "local@domain"},
		{"email quoted", with("email", `"dev"@example.com`), tokenError, "local@domain"},
		{"email with a comment", with("email", "dev(x)@example.com"), tokenError, "local@domain"},
		{"email with an address literal", with("email", "dev@[127.0.0.1]"), tokenError, "mail address"},
		{"email with a trailing space", with("email", "dev@example.com "), tokenError, "ASCII"},
		{"email list in one string", with("email", "dev@example.com,evil@example.net"), tokenError, "local@domain"},
		{"email with an empty label", with("email", "dev@example..com"), tokenError, "mail address"},
		{"email with a trailing dot", with("email", "dev@example.com."), tokenError, "mail address"},
		{"email with a hyphen at the end", with("email", "dev@example-"), tokenError, "host name"},
		{"email of 255 bytes", with("email", strings.Repeat("a", 243)+"@example.com"), tokenError, "at most 254"},
		{"email of 254 bytes", with("email", strings.Repeat("a", 242)+"@example.com"), accepted, ""},
		{"email with plus", with("email", "dev+sign@example.com"), accepted, ""},
		{"email of one label", with("email", "dev@localhost"), accepted, ""},
		{"email_verified missing", with("email_verified", absent), tokenError, `"email_verified" must be true`},
		{"email_verified null", with("email_verified", nil), tokenError, `"email_verified" must be true`},
		{"email_verified false", with("email_verified", false), tokenError, `"email_verified" must be true`},
		{"email_verified string true", with("email_verified", "true"), accepted, ""},
		{"email_verified string True", with("email_verified", "True"), accepted, ""},
		{"email_verified string false", with("email_verified", "false"), tokenError, `"email_verified" must be true`},
		{"email_verified string False", with("email_verified", "False"), tokenError, `"email_verified" must be true`},
		{"email_verified string TRUE", with("email_verified", "TRUE"), tokenError, "neither true nor false"},
		{"email_verified string yes", with("email_verified", "yes"), tokenError, "neither true nor false"},
		{"email_verified empty string", with("email_verified", ""), tokenError, "neither true nor false"},
		{"email_verified 1", with("email_verified", 1), tokenError, "neither true nor false"},
		{"email_verified a list", with("email_verified", []bool{true}), tokenError, "neither true nor false"},
		{"distributed claims", with("_claim_names", map[string]string{"groups": "s"}, "_claim_sources", map[string]any{"s": map[string]string{"endpoint": "https://evil.example.net/"}}), accepted, ""},
		{"distributed claims without a source", with("_claim_names", map[string]string{"groups": "s"}), tokenError, "source"},
	}
	seen := map[string]bool{}
	for _, c := range cases {
		if seen[c.name] {
			t.Errorf("%s: stands twice", c.name)
		}
		seen[c.name] = true
		v, n, _ := setup(t, []Issuer{emailIssuer()}, newFake(emailURL))
		_, got, err := verify(t, v, c.token)
		if got != c.want || err != nil && !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %s, want %s with %q: %v", c.name, got, c.want, c.text, err)
		}
		for _, address := range n.requests {
			if !strings.HasPrefix(address, emailURL+"/") {
				t.Errorf("%s: request to %s", c.name, address)
			}
		}
		if len(n.requests) > 4 {
			t.Errorf("%s: requests %q", c.name, n.requests)
		}
	}
	t.Logf("%d cases", len(cases))
}

// lastBit sets an unused bit of the last base64 character, which a lax decoder passes over.
func lastBit(s string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	at := strings.IndexByte(alphabet, s[len(s)-1])
	return s[:len(s)-1] + string(alphabet[at|1])
}

// trailing signs a token whose header has a spare bit set in its base64.
func trailing(s signer, header, body []byte) string {
	for len(header)%3 == 0 {
		header = append(header, ' ')
	}
	input := lastBit(b64(header)) + "." + b64(body)
	return input + "." + b64(s.signature(input))
}

func TestLastBit(t *testing.T) {
	s := b64(make([]byte, 256))
	a, errA := base64.RawURLEncoding.DecodeString(s)
	b, errB := base64.RawURLEncoding.DecodeString(lastBit(s))
	if errA != nil || errB != nil || !reflect.DeepEqual(a, b) || s == lastBit(s) {
		t.Error("lastBit does not make another spelling of the same bytes")
	}
}

// Every algorithm of the list works when the issuer advertises it.
func TestAlgorithms(t *testing.T) {
	k := testKeys()
	for _, s := range []signer{
		{"1", jose.RS256, k.rsa}, {"2", jose.RS384, k.rsa}, {"3", jose.RS512, k.rsa},
		{"4", jose.PS256, k.rsa}, {"5", jose.PS384, k.rsa}, {"6", jose.PS512, k.rsa},
		{"7", jose.ES256, k.p256}, {"8", jose.ES384, k.p384}, {"9", jose.ES512, k.p521}, {"10", jose.EdDSA, k.ed},
	} {
		fake := newFake(emailURL)
		fake.algs = []string{"none", "HS256", string(s.alg)}
		fake.keys = []jose.JSONWebKey{s.jwk()}
		v, _, _ := setup(t, []Issuer{emailIssuer()}, fake)
		if _, got, err := verify(t, v, s.token(emailClaims())); got != accepted {
			t.Errorf("%s: %v", s.alg, err)
		}
	}
}

// What is allocated for a token is bounded, whatever it is made of.
func TestTokenAllocations(t *testing.T) {
	v, n, _ := setup(t, []Issuer{emailIssuer()}, newFake(emailURL))
	measure := func(raw string) uint64 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if _, err := v.Verify(t.Context(), raw); err == nil {
			t.Error("accepted")
		}
		runtime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc
	}
	for _, size := range []int{4 << 10, 16 << 10, 400 << 10, 4 << 20} {
		for name, raw := range map[string]string{
			"dots":    strings.Repeat(".", size),
			"letters": strings.Repeat("A", size),
			"parts":   strings.Repeat("A.", size/2),
		} {
			if got := measure(raw); got > 16<<10 {
				t.Errorf("%d bytes of %s: %d bytes allocated", size, name, got)
			}
		}
	}
	// The largest tokens that are parsed at all, with as many members and levels as fit.
	for name, inner := range map[string]string{
		"members":      `{"a":1` + manyMembers(1000) + `}`,
		"more members": `{"a":1` + manyMembers(1100) + `}`,
		"nesting":      `{"a":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + `}`,
		"string":       `{"iss":"` + strings.Repeat("i", 11000) + `"}`,
		"aud":          strings.Replace(claimsText(""), `"sigstore"`, `[""`+strings.Repeat(`,""`, 3000)+`]`, 1),
	} {
		raw := payload(inner)
		if len(raw) > maxToken {
			t.Errorf("%s: the token has %d bytes and tests nothing", name, len(raw))
		}
		if got := measure(raw); got > uint64(10*len(raw)+1<<20) {
			t.Errorf("%s: %d bytes allocated for %d", name, got, len(raw))
		}
	}
	if n.count() != 0 {
		t.Errorf("requests: %q", n.requests)
	}
}

func manyMembers(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `,"%d":%d`, i, i)
	}
	return b.String()
}

// TestTokenIsOne has one token with two signatures, and two tokens: what tells them
// apart is what was signed.
func TestTokenIsOne(t *testing.T) {
	issuer := emailIssuer()
	issuer.OneTime = true
	v, _, _ := setup(t, []Issuer{issuer}, newFake(emailURL))
	raw := es256().token(emailClaims())
	signed, signature, _ := strings.Cut(raw[strings.IndexByte(raw, '.')+1:], ".")
	signed = raw[:strings.IndexByte(raw, '.')+1] + signed
	b, err := base64.RawURLEncoding.DecodeString(signature)
	if err != nil {
		t.Fatal(err)
	}
	s := new(big.Int).Sub(elliptic.P256().Params().N, new(big.Int).SetBytes(b[32:])) // verifies as well
	other := signed + "." + b64(append(b[:32:32], s.FillBytes(make([]byte, 32))...))
	one, _, err := verify(t, v, raw)
	if err != nil {
		t.Fatal(err)
	}
	same, _, err := verify(t, v, other)
	if err != nil {
		t.Fatal(err)
	}
	if one.Token() != same.Token() || raw == other {
		t.Errorf("%+v and %+v are of one token with two signatures", one.Token(), same.Token())
	}
	if want := sha256.Sum256([]byte(signed)); one.Token().SHA256 != want || !one.Token().OneTime || !one.Token().Expiry.Equal(one.Audit().Expiry) {
		t.Errorf("%+v, want %x, of an issuer with one-time tokens", one.Token(), want)
	}
	next, _, err := verify(t, v, es256().token(emailClaims("jti", "another")))
	if err != nil || next.Token().SHA256 == one.Token().SHA256 {
		t.Errorf("two tokens are one: %v", err)
	}
	v, _, _ = setup(t, []Issuer{emailIssuer()}, newFake(emailURL))
	if id, _, err := verify(t, v, raw); err != nil || id.Token().OneTime {
		t.Errorf("%+v, %v, of an issuer without one-time tokens", id.Token(), err)
	}
}
