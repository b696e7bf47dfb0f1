package devoidc

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"log/slog"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

var testKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

// clock is a time that only the test moves.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// world is a running issuer with a client that keeps redirects for the test.
type world struct {
	*testing.T
	issuer *Issuer
	clock  *clock
	base   string
	client *http.Client
	log    *bytes.Buffer
}

func newWorld(t *testing.T) *world {
	w := &world{T: t, clock: &clock{t: time.Date(2026, 3, 4, 5, 6, 7, 8, time.UTC)}, log: new(bytes.Buffer)}
	srv := httptest.NewUnstartedServer(nil)
	w.base = "http://" + srv.Listener.Addr().String()
	var err error
	w.issuer, err = New(Config{BaseURL: w.base, Key: testKey(), Now: w.clock.now, Log: slog.New(slog.NewTextHandler(w.log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/oidc/", w.issuer)
	srv.Config.Handler = mux
	srv.Start()
	t.Cleanup(srv.Close)
	w.client = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return w
}

func (w *world) provider(issuer string) *oidc.Provider {
	w.Helper()
	p, err := oidc.NewProvider(w.ctx(), issuer)
	if err != nil {
		w.Fatal(err)
	}
	return p
}

func (w *world) ctx() context.Context { return oidc.ClientContext(w.Context(), w.client) }

func (w *world) verifier(p *oidc.Provider) *oidc.IDTokenVerifier {
	return p.Verifier(&oidc.Config{ClientID: "sigstore", Now: w.clock.now})
}

type answer struct {
	status int
	header http.Header
	body   string
}

func (w *world) do(req *http.Request) answer {
	w.Helper()
	resp, err := w.client.Do(req)
	if err != nil {
		w.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		w.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(b)}
}

func (w *world) request(method, path string, body string, headers ...string) *http.Request {
	w.Helper()
	if !strings.HasPrefix(path, "http") {
		path = w.base + path
	}
	req, err := http.NewRequest(method, path, strings.NewReader(body))
	if err != nil {
		w.Fatal(err)
	}
	if method == "POST" {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	return req
}

func (w *world) get(path string, headers ...string) answer {
	w.Helper()
	return w.do(w.request("GET", path, "", headers...))
}

func (w *world) post(path string, v url.Values, headers ...string) answer {
	w.Helper()
	return w.do(w.request("POST", path, v.Encode(), headers...))
}

var (
	inputTag = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)">`)
	codeTag  = regexp.MustCompile(`<code id="code">([^<]*)</code>`)
	styleTag = regexp.MustCompile(`(?s)<style>(.*?)</style>`)
)

// login fills the page at authURL like a person and returns the form's answer.
func (w *world) login(authURL, email, action string) answer {
	w.Helper()
	page := w.get(authURL)
	if page.status != 200 {
		w.Fatalf("login page: %d %s", page.status, page.body)
	}
	form := url.Values{"email": {email}, "action": {action}}
	for _, m := range inputTag.FindAllStringSubmatch(page.body, -1) {
		form.Set(html.UnescapeString(m[1]), html.UnescapeString(m[2]))
	}
	return w.post("/oidc/auth", form, "Origin", w.base, "Sec-Fetch-Site", "same-origin")
}

// location returns the query of a redirect after checking its base.
func (w *world) location(a answer, base string) url.Values {
	w.Helper()
	u, err := url.Parse(a.header.Get("Location"))
	if err != nil || a.status != http.StatusSeeOther {
		w.Fatalf("want a redirect, got %d %v %s", a.status, err, a.body)
	}
	q := u.Query()
	u.RawQuery = ""
	if u.String() != base {
		w.Fatalf("redirect to %s, want %s", u, base)
	}
	return q
}

func (w *world) oauthError(a answer, status int, code string) {
	w.Helper()
	var e struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}
	if err := json.Unmarshal([]byte(a.body), &e); err != nil || a.status != status || e.Error != code {
		w.Fatalf("got %d %s, want %d %s", a.status, a.body, status, code)
	}
	if !printable(e.Description, 500) || strings.ContainsAny(e.Description, "\"\\") {
		w.Fatalf("description %q has characters that RFC 6749 forbids", e.Description)
	}
	if !strings.HasPrefix(a.header.Get("Content-Type"), "application/json") || a.header.Get("Cache-Control") != "no-store" {
		w.Fatalf("headers %v", a.header)
	}
}

func claimsOf(t *testing.T, token string) map[string]any {
	t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("token has %d parts", len(parts))
	}
	b, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

const callback = "http://localhost:41999/auth/callback"

func (w *world) oauthConfig(p *oidc.Provider, redirect string) *oauth2.Config {
	return &oauth2.Config{ClientID: "sigstore", Endpoint: p.Endpoint(), RedirectURL: redirect, Scopes: []string{"openid", "email"}}
}

func TestDiscovery(t *testing.T) {
	w := newWorld(t)
	want := map[string]any{
		"issuer":                                w.base + "/oidc",
		"authorization_endpoint":                w.base + "/oidc/auth",
		"token_endpoint":                        w.base + "/oidc/token",
		"device_authorization_endpoint":         w.base + "/oidc/device/code",
		"jwks_uri":                              w.base + "/oidc/keys",
		"id_token_signing_alg_values_supported": []any{"RS256"},
		"response_types_supported":              []any{"code"},
		"subject_types_supported":               []any{"public"},
		"scopes_supported":                      []any{"openid", "email"},
		"code_challenge_methods_supported":      []any{"S256"},
		"grant_types_supported":                 []any{"authorization_code", "urn:ietf:params:oauth:grant-type:device_code"},
	}
	a := w.get("/oidc/.well-known/openid-configuration")
	var got map[string]any
	if err := json.Unmarshal([]byte(a.body), &got); err != nil {
		t.Fatal(err)
	}
	for name, value := range want {
		if fmt.Sprint(got[name]) != fmt.Sprint(value) {
			t.Errorf("%s = %v, want %v", name, got[name], value)
		}
	}
	methods := fmt.Sprint(got["token_endpoint_auth_methods_supported"])
	if !strings.Contains(methods, "none") || !strings.Contains(methods, "client_secret_basic") {
		t.Errorf("token endpoint methods %s", methods)
	}
	if w.issuer.IssuerURL() != w.base+"/oidc" || w.issuer.GitHubIssuerURL() != w.base+"/oidc/github" {
		t.Errorf("issuers %s, %s", w.issuer.IssuerURL(), w.issuer.GitHubIssuerURL())
	}
	w.provider(w.issuer.GitHubIssuerURL())
}

func TestAuthorizationCode(t *testing.T) {
	for _, redirect := range []string{callback, "http://127.0.0.1:5", "http://[::1]:7777/x", "http://localhost/cb?keep=1", "http://localhost:1/"} {
		w := newWorld(t)
		p := w.provider(w.issuer.IssuerURL())
		cfg := w.oauthConfig(p, redirect)
		verifier := oauth2.GenerateVerifier()
		a := w.login(cfg.AuthCodeURL("the state&=", oidc.Nonce("n-0S6_WzA2Mj"), oauth2.S256ChallengeOption(verifier), oauth2.AccessTypeOnline), "dev@example.com", "approve")
		base, _, _ := strings.Cut(redirect, "?")
		q := w.location(a, base)
		if q.Get("state") != "the state&=" || strings.Contains(redirect, "keep") != (q.Get("keep") == "1") {
			t.Fatalf("redirect query %v", q)
		}
		token, err := cfg.Exchange(w.ctx(), q.Get("code"), oauth2.VerifierOption(verifier))
		if err != nil {
			t.Fatal(err)
		}
		raw := token.Extra("id_token").(string)
		id, err := w.verifier(p).Verify(w.ctx(), raw)
		if err != nil {
			t.Fatal(err)
		}
		if id.Nonce != "n-0S6_WzA2Mj" || id.Issuer != w.base+"/oidc" || id.Subject != "dev@example.com" {
			t.Errorf("token %+v", id)
		}
		if err := id.VerifyAccessToken(token.AccessToken); err != nil {
			t.Error(err)
		}
		claims := claimsOf(t, raw)
		if claims["email"] != "dev@example.com" || claims["email_verified"] != true || claims["aud"] != "sigstore" ||
			claims["iat"] != float64(w.clock.t.Unix()) || claims["exp"] != float64(w.clock.t.Unix()+600) {
			t.Errorf("claims %v", claims)
		}
		if _, err := w.verifier(p).Verify(w.ctx(), token.AccessToken); err != nil {
			t.Errorf("access token: %v", err)
		}
		delete(claims, "at_hash")
		if access := claimsOf(t, token.AccessToken); !maps.Equal(access, claims) {
			t.Errorf("access token has claims %v, want %v", access, claims)
		}
		if token.TokenType != "Bearer" || token.ExpiresIn != 600 {
			t.Errorf("token type %q, expires in %d", token.TokenType, token.ExpiresIn)
		}
		// A second use, and the other issuer's verifier.
		if _, err := cfg.Exchange(w.ctx(), q.Get("code"), oauth2.VerifierOption(verifier)); err == nil || !strings.Contains(err.Error(), "invalid_grant") {
			t.Errorf("replay: %v", err)
		}
		if _, err := w.verifier(w.provider(w.issuer.GitHubIssuerURL())).Verify(w.ctx(), raw); err == nil {
			t.Error("the GitHub issuer's verifier took an e-mail token")
		}
		if w.log.Len() > 0 {
			t.Errorf("log: %s", w.log)
		}
	}
}

// authQuery is a complete authorization request, with changes.
func authQuery(change ...string) url.Values {
	v := url.Values{
		"client_id": {"sigstore"}, "redirect_uri": {callback}, "response_type": {"code"}, "scope": {"openid email"},
		"state": {"st"}, "nonce": {"no"}, "code_challenge": {oauth2.S256ChallengeFromVerifier(strings.Repeat("v", 43))}, "code_challenge_method": {"S256"},
	}
	set(v, change...)
	return v
}

// set changes parameters; "-" removes one.
func set(v url.Values, change ...string) {
	for i := 0; i < len(change); i += 2 {
		if v.Set(change[i], change[i+1]); change[i+1] == "-" {
			v.Del(change[i])
		}
	}
}

// code logs in and returns a code for authQuery(change...).
func (w *world) code(change ...string) string {
	w.Helper()
	q := w.location(w.login("/oidc/auth?"+authQuery(change...).Encode(), "dev@example.com", "approve"), callback)
	if len(q.Get("code")) != 43 {
		w.Fatalf("redirect query %v", q)
	}
	return q.Get("code")
}

func exchangeForm(code string, change ...string) url.Values {
	v := url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {callback}, "client_id": {"sigstore"}, "code_verifier": {strings.Repeat("v", 43)}}
	set(v, change...)
	return v
}

func TestExchangeRefusals(t *testing.T) {
	w := newWorld(t)
	basic := func(user, pass string) string {
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+pass))
	}
	for _, c := range []struct {
		name   string
		auth   []string // of the authorization request
		form   []string
		header []string
		status int
		code   string
		spent  bool // whether a right request afterwards fails
	}{
		{name: "wrong verifier", form: []string{"code_verifier", strings.Repeat("w", 43)}, status: 400, code: "invalid_grant", spent: true},
		{name: "no verifier", form: []string{"code_verifier", "-"}, status: 400, code: "invalid_grant", spent: true},
		{name: "challenge as verifier", form: []string{"code_verifier", authQuery().Get("code_challenge")}, status: 400, code: "invalid_grant", spent: true},
		{name: "verifier without challenge", auth: []string{"code_challenge", "-", "code_challenge_method", "-"}, status: 400, code: "invalid_grant", spent: true},
		{name: "other redirect", form: []string{"redirect_uri", callback + "/"}, status: 400, code: "invalid_grant", spent: true},
		{name: "no redirect", form: []string{"redirect_uri", "-"}, status: 400, code: "invalid_grant", spent: true},
		{name: "short verifier", form: []string{"code_verifier", "short"}, status: 400, code: "invalid_request"},
		{name: "no grant type", form: []string{"grant_type", "-"}, status: 400, code: "invalid_request"},
		{name: "other grant type", form: []string{"grant_type", "password"}, status: 400, code: "unsupported_grant_type"},
		{name: "no code", form: []string{"code", "-"}, status: 400, code: "invalid_request"},
		{name: "unknown code", form: []string{"code", strings.Repeat("A", 43)}, status: 400, code: "invalid_grant"},
		{name: "other client", form: []string{"client_id", "evil"}, status: 401, code: "invalid_client"},
		{name: "no client", form: []string{"client_id", "-"}, status: 401, code: "invalid_client"},
		{name: "a secret", form: []string{"client_secret", "s3"}, status: 401, code: "invalid_client"},
		{name: "basic with a secret", header: []string{"Authorization", basic("sigstore", "s3")}, status: 401, code: "invalid_client"},
		{name: "basic of another client", form: []string{"client_id", "-"}, header: []string{"Authorization", basic("evil", "")}, status: 401, code: "invalid_client"},
		{name: "two clients", header: []string{"Authorization", basic("other", "")}, status: 400, code: "invalid_request"},
		{name: "bad escape in basic", header: []string{"Authorization", basic("%zz", "")}, status: 401, code: "invalid_client"},
		{name: "bearer", header: []string{"Authorization", "Bearer x"}, status: 401, code: "invalid_client"},
		{name: "JSON", header: []string{"Content-Type", "application/json"}, status: 400, code: "invalid_request"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := &world{t, w.issuer, w.clock, w.base, w.client, w.log}
			code := w.code(c.auth...)
			a := w.post("/oidc/token", exchangeForm(code, c.form...), c.header...)
			w.oauthError(a, c.status, c.code)
			if (c.status == 401) != (a.header.Get("WWW-Authenticate") != "") {
				t.Errorf("WWW-Authenticate %q", a.header.Get("WWW-Authenticate"))
			}
			if strings.Contains(a.body, code) || strings.Contains(a.body, "s3") {
				t.Error("the answer holds a secret")
			}
			var change []string
			if c.auth != nil {
				change = []string{"code_verifier", "-"}
			}
			a = w.post("/oidc/token", exchangeForm(code, change...))
			if c.spent {
				w.oauthError(a, 400, "invalid_grant")
			} else if a.status != 200 {
				t.Errorf("the code was spent: %d %s", a.status, a.body)
			}
		})
	}
	// Duplicate parameters, too large, too many, GET.
	a := w.do(w.request("POST", "/oidc/token", "client_id=sigstore&code=a&code=b"))
	w.oauthError(a, 400, "invalid_request")
	a = w.do(w.request("POST", "/oidc/token", "client_id="+strings.Repeat("x", maxForm)))
	w.oauthError(a, 413, "invalid_request")
	a = w.do(w.request("POST", "/oidc/token", strings.Repeat("&", maxParams)))
	w.oauthError(a, 400, "invalid_request")
	if a := w.get("/oidc/token"); a.status != 405 {
		t.Errorf("GET of the token endpoint: %d", a.status)
	}
	if w.log.Len() > 0 {
		t.Errorf("log: %s", w.log)
	}
}

func TestBasicWithEmptySecret(t *testing.T) {
	w := newWorld(t)
	for _, user := range []string{"sigstore", "%73igstore"} {
		req := w.request("POST", "/oidc/token", exchangeForm(w.code(), "client_id", "-").Encode())
		req.SetBasicAuth(user, "")
		if a := w.do(req); a.status != 200 {
			t.Fatalf("%d %s", a.status, a.body)
		}
	}
	// client_id in the form beside the header, empty client_secret: harmless.
	req := w.request("POST", "/oidc/token", exchangeForm(w.code(), "client_secret", "").Encode())
	req.SetBasicAuth("sigstore", "")
	if a := w.do(req); a.status != 200 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	// Without a challenge no verifier is wanted.
	code := w.code("code_challenge", "-", "code_challenge_method", "-")
	if a := w.post("/oidc/token", exchangeForm(code, "code_verifier", "-")); a.status != 200 {
		t.Fatalf("%d %s", a.status, a.body)
	}
}

func TestCodeExpires(t *testing.T) {
	w := newWorld(t)
	code := w.code()
	w.clock.add(2*time.Minute - 1)
	other := w.code()
	if a := w.post("/oidc/token", exchangeForm(code)); a.status != 200 {
		t.Fatalf("just before its end: %d %s", a.status, a.body)
	}
	w.clock.add(2 * time.Minute)
	w.oauthError(w.post("/oidc/token", exchangeForm(other)), 400, "invalid_grant")
}

func TestConcurrentRedemption(t *testing.T) {
	w := newWorld(t)
	form := exchangeForm(w.code()).Encode()
	var wg sync.WaitGroup
	status := make([]int, 8)
	for i := range status {
		wg.Go(func() {
			rec := httptest.NewRecorder()
			w.issuer.ServeHTTP(rec, w.request("POST", "/oidc/token", form))
			status[i] = rec.Code
		})
	}
	wg.Wait()
	won := 0
	for _, s := range status {
		if s == 200 {
			won++
		}
	}
	if won != 1 {
		t.Errorf("statuses %v: want one 200", status)
	}
}

func TestOutOfBand(t *testing.T) {
	w := newWorld(t)
	query := authQuery("redirect_uri", oob)
	a := w.login("/oidc/auth?"+query.Encode(), "dev@example.com", "approve")
	m := codeTag.FindStringSubmatch(a.body)
	if a.status != 200 || m == nil || a.header.Get("Location") != "" {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if a := w.post("/oidc/token", exchangeForm(m[1], "redirect_uri", oob)); a.status != 200 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	a = w.login("/oidc/auth?"+query.Encode(), "", "deny")
	if a.status != 400 || !strings.Contains(a.body, "access_denied") || a.header.Get("Location") != "" {
		t.Fatalf("%d %s", a.status, a.body)
	}
	query.Set("scope", "email")
	if a := w.get("/oidc/auth?" + query.Encode()); a.status != 400 || a.header.Get("Location") != "" || !strings.Contains(a.body, "invalid_scope") {
		t.Fatalf("%d %s", a.status, a.body)
	}
}

// Everything that is wrong with the client or the redirect URI is a page, and
// never a redirect.
func TestNeverRedirected(t *testing.T) {
	w := newWorld(t)
	for _, redirect := range []string{
		"", "-", "https://localhost/cb", "http://example.com/cb", "http://localhost.example.com/cb", "http://127.0.0.1.example.com/",
		"http://localhost@example.com/", "http://localhost:80@example.com/", "http://user@localhost/", "//localhost/", "http:/localhost", "http:localhost",
		"http://", "http:///cb", "http://localhost:/cb", "http://localhost:0/", "http://localhost:65536/", "http://localhost:8x/", "http://localhost\\@example.com/",
		"http://localhost/#f", "http://localhost/#", "HTTP://localhost/", "http://LOCALHOST/", "http://localhost./", "http://127.1/", "http://127.0.0.2/",
		"http://2130706433/", "http://0.0.0.0/", "http://[::]/", "http://[::1%25lo]/", "http://[0:0:0:0:0:0:0:1]/", "http://[::ffff:127.0.0.1]/", "http://%6cocalhost/",
		"http://localhost/\r\nSet-Cookie: a=b", "http://localhost/ x", "http://localhost/\u00e9", "javascript:alert(1)", "data:text/html,x", "urn:ietf:wg:oauth:2.0:oob:auto",
		"http://localhost/" + strings.Repeat("a", 2048), " http://localhost/", "http://localhost\t/", "http://localhost/%zz",
	} {
		v := authQuery("redirect_uri", redirect)
		for _, a := range []answer{
			w.get("/oidc/auth?" + v.Encode()),
			w.post("/oidc/auth", authQuery("redirect_uri", redirect, "email", "dev@example.com", "action", "approve")),
			w.post("/oidc/auth", authQuery("redirect_uri", redirect, "action", "deny")),
		} {
			if a.status != 400 || a.header.Get("Location") != "" || !strings.HasPrefix(a.header.Get("Content-Type"), "text/html") {
				t.Errorf("%q: %d %v", redirect, a.status, a.header)
			}
		}
	}
	for _, change := range [][]string{{"client_id", "other"}, {"client_id", "-"}} {
		if a := w.get("/oidc/auth?" + authQuery(change...).Encode()); a.status != 400 || a.header.Get("Location") != "" {
			t.Errorf("%v: %d %v", change, a.status, a.header)
		}
	}
	for _, raw := range []string{"&redirect_uri=http://evil.example/", "&state=2", "&%zz=1", "&x=%ff", strings.Repeat("&", 64), ";a=b"} {
		if a := w.get("/oidc/auth?" + authQuery().Encode() + raw); a.status != 400 || a.header.Get("Location") != "" {
			t.Errorf("%q: %d %v", raw, a.status, a.header)
		}
	}
	if a := w.get("/oidc/auth?" + strings.Repeat("a", maxForm+1)); a.status != 414 {
		t.Errorf("long query: %d", a.status)
	}
	if n := w.issuer.codes.byAge.Len(); n != 0 {
		t.Errorf("%d codes were made", n)
	}
}

func TestAuthorizationErrors(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		change []string
		code   string
	}{
		{[]string{"response_type", "token"}, "unsupported_response_type"},
		{[]string{"response_type", "-"}, "unsupported_response_type"},
		{[]string{"response_mode", "fragment"}, "invalid_request"},
		{[]string{"scope", "email"}, "invalid_scope"},
		{[]string{"scope", "-"}, "invalid_scope"},
		{[]string{"prompt", "none"}, "login_required"},
		{[]string{"request", "x"}, "request_not_supported"},
		{[]string{"request_uri", "http://evil.example/"}, "request_uri_not_supported"},
		{[]string{"nonce", strings.Repeat("n", 513)}, "invalid_request"},
		{[]string{"nonce", "\u00e9"}, "invalid_request"},
		{[]string{"code_challenge_method", "plain"}, "invalid_request"},
		{[]string{"code_challenge_method", "-"}, "invalid_request"},
		{[]string{"code_challenge", "-"}, "invalid_request"},
		{[]string{"code_challenge", "short"}, "invalid_request"},
		{[]string{"code_challenge", strings.Repeat("+", 43)}, "invalid_request"},
	} {
		q := w.location(w.get("/oidc/auth?"+authQuery(c.change...).Encode()), callback)
		if q.Get("error") != c.code || q.Get("state") != "st" || q.Has("code") {
			t.Errorf("%v: %v", c.change, q)
		}
		q = w.location(w.post("/oidc/auth", authQuery(append(c.change, "email", "a@b.c", "action", "approve")...)), callback)
		if q.Get("error") != c.code || q.Has("code") {
			t.Errorf("POST %v: %v", c.change, q)
		}
	}
	q := w.location(w.get("/oidc/auth?"+authQuery("state", "a\nb").Encode()), callback)
	if q.Get("error") != "invalid_request" || q.Has("state") {
		t.Errorf("bad state: %v", q)
	}
	q = w.location(w.login("/oidc/auth?"+authQuery().Encode(), "", "deny"), callback)
	if q.Get("error") != "access_denied" || q.Get("state") != "st" {
		t.Errorf("deny: %v", q)
	}
	if a := w.login("/oidc/auth?"+authQuery().Encode(), "a@b.c", "other"); a.status != 400 || a.header.Get("Location") != "" {
		t.Errorf("unknown action: %d", a.status)
	}
	// A bad address shows the form again, with everything that it needs.
	a := w.login("/oidc/auth?"+authQuery().Encode(), "not an address", "approve")
	if a.status != 400 || !strings.Contains(a.body, `role="alert"`) || !strings.Contains(a.body, authQuery().Get("code_challenge")) {
		t.Errorf("bad address: %d %s", a.status, a.body)
	}
	if a := w.get("/oidc/auth?" + authQuery("login_hint", "hint@example.com").Encode()); !strings.Contains(a.body, `value="hint@example.com"`) {
		t.Error("login_hint is not in the form")
	}
}

func TestEmailAddresses(t *testing.T) {
	for _, good := range []string{"dev@example.com", "a.b+c@x", "o'neil@ex-ample.co.uk", "a@1.2", strings.Repeat("a", 64) + "@x.org"} {
		if err := checkEmail(good); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{"", "a", "@", "a@", "@b", "a@b@c", ".a@b", "a.@b", "a..b@c", "a@b.", "a@.b", "a@b..c", "a@-b", "a@b-", "a b@c", "a@b c", `"a"@b`, "a@[127.0.0.1]",
		"<a@b>", "a@b>", "a@b\n", "a\x00@b", "\u00e9@b", "a@\u00e9", "a@b_c", strings.Repeat("a", 65) + "@b", "a@" + strings.Repeat("b", 64), "a@" + strings.Repeat("b.", 130) + "c", "a(c)@b", "A <a@b>"} {
		if checkEmail(bad) == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

// Every parameter that a page shows, with everything that HTML could make of
// it.
func TestPagesEscape(t *testing.T) {
	w := newWorld(t)
	payloads := []string{
		`"><script>alert(1)</script>`, `'><img src=x onerror=alert(1)>`, `</style><script>alert(1)</script>`, `{{.Style}}`, `" onfocus="alert(1)" autofocus="`,
		`javascript:alert(1)`, `&lt;script&gt;`, `<!--`, `</title><script>`, "`${alert(1)}`",
	}
	check := func(where string, a answer) {
		t.Helper()
		if !strings.HasPrefix(a.header.Get("Content-Type"), "text/html; charset=utf-8") {
			return
		}
		body := styleTag.ReplaceAllString(a.body, "")
		for _, bad := range []string{"<script", "<img", "<!--", "onerror=alert(1)>", `" onfocus="`, "url("} {
			if strings.Contains(body, bad) {
				t.Errorf("%s: page holds %s", where, bad)
			}
		}
		if n := strings.Count(a.body, "<style>"); n != 1 {
			t.Errorf("%s: %d style elements", where, n)
		}
		csp := a.header.Get("Content-Security-Policy")
		sum := sha256.Sum256([]byte(styleTag.FindStringSubmatch(a.body)[1]))
		for _, want := range []string{"default-src 'none'", "style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'", "form-action ", "base-uri 'none'", "frame-ancestors 'none'"} {
			if !strings.Contains(csp, want) {
				t.Errorf("%s: policy %q has no %q", where, csp, want)
			}
		}
		for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Cache-Control": "no-store", "Referrer-Policy": "same-origin"} {
			if a.header.Get(name) != want {
				t.Errorf("%s: %s is %q", where, name, a.header.Get(name))
			}
		}
	}
	for _, p := range payloads {
		for _, name := range []string{"client_id", "redirect_uri", "response_type", "response_mode", "scope", "state", "nonce", "code_challenge", "code_challenge_method", "login_hint", "email", "action", p} {
			for _, redirect := range []string{callback, oob} {
				v := authQuery("redirect_uri", redirect, "email", "dev@example.com", "action", "approve")
				v.Set(name, p)
				check("GET auth "+name, w.get("/oidc/auth?"+v.Encode()))
				check("POST auth "+name, w.post("/oidc/auth", v))
			}
		}
		// The value comes back whole in the hidden field and in the redirect.
		a := w.login("/oidc/auth?"+authQuery("state", p, "redirect_uri", callback+"?"+url.Values{"p": {p}}.Encode()).Encode(), "dev@example.com", "approve")
		if q := w.location(a, callback); q.Get("state") != p || q.Get("p") != p {
			t.Errorf("state %q came back as %q, %q", p, q.Get("state"), q.Get("p"))
		}
		for _, name := range []string{"user_code", "email", "action", p} {
			v := url.Values{"user_code": {"BCDF-GHJK"}, "email": {"dev@example.com"}, "action": {"approve"}}
			v.Set(name, p)
			check("GET device "+name, w.get("/oidc/device?"+v.Encode()))
			check("POST device "+name, w.post("/oidc/device", v))
		}
	}
	// The redirect after the form is allowed by the policy, and no more is.
	for redirect, want := range map[string]string{callback: "form-action 'self' http://localhost:41999;", "http://[::1]:9/": "form-action 'self' http:;", oob: "form-action 'self';"} {
		if csp := w.get("/oidc/auth?" + authQuery("redirect_uri", redirect).Encode()).header.Get("Content-Security-Policy"); !strings.Contains(csp, want) {
			t.Errorf("%s: policy %q, want %q", redirect, csp, want)
		}
	}
}

type deviceStart struct {
	DeviceCode string `json:"device_code"`
	UserCode   string `json:"user_code"`
	URI        string `json:"verification_uri"`
	Complete   string `json:"verification_uri_complete"`
	ExpiresIn  int    `json:"expires_in"`
	Interval   int    `json:"interval"`
}

func (w *world) startDevice() deviceStart {
	w.Helper()
	a := w.post("/oidc/device/code", url.Values{"client_id": {"sigstore"}, "scope": {"openid email"}, "nonce": {"dn"}, "redirect_uri": {oob},
		"code_challenge": {authQuery().Get("code_challenge")}, "code_challenge_method": {"S256"}})
	var d deviceStart
	if err := json.Unmarshal([]byte(a.body), &d); err != nil || a.status != 200 {
		w.Fatalf("%d %s", a.status, a.body)
	}
	return d
}

func (w *world) poll(d deviceStart, change ...string) answer {
	w.Helper()
	v := url.Values{"grant_type": {grantDevice}, "client_id": {"sigstore"}, "device_code": {d.DeviceCode}, "scope": {"openid email"}, "code_verifier": {strings.Repeat("v", 43)}}
	set(v, change...)
	return w.post("/oidc/token", v)
}

func (w *world) decide(userCode, email, action string) answer {
	w.Helper()
	return w.post("/oidc/device", url.Values{"user_code": {userCode}, "email": {email}, "action": {action}}, "Origin", w.base)
}

func TestDeviceFlow(t *testing.T) {
	w := newWorld(t)
	d := w.startDevice()
	if !regexp.MustCompile(`^[BCDFGHJKLMNPQRSTVWXZ]{4}-[BCDFGHJKLMNPQRSTVWXZ]{4}$`).MatchString(d.UserCode) || len(d.DeviceCode) != 43 ||
		d.URI != w.base+"/oidc/device" || d.Complete != d.URI+"?user_code="+d.UserCode || d.ExpiresIn != 600 || d.Interval != 1 {
		t.Fatalf("%+v", d)
	}
	w.oauthError(w.poll(d), 400, "authorization_pending")
	w.oauthError(w.poll(d), 400, "slow_down")
	w.clock.add(time.Second)
	w.oauthError(w.poll(d), 400, "authorization_pending")
	w.clock.add(900 * time.Millisecond)
	w.oauthError(w.poll(d), 400, "authorization_pending")

	// Looking at the page approves nothing; neither does a bad form.
	if a := w.get(d.Complete); a.status != 200 || !strings.Contains(a.body, d.UserCode) {
		t.Fatalf("%d %s", a.status, a.body)
	}
	for _, c := range [][3]string{{d.UserCode, "bad", "approve"}, {"BCDF-GHJ", "a@b.c", "approve"}, {"XXXX-XXXX1", "a@b.c", "approve"}, {"", "a@b.c", "deny"}, {d.UserCode, "a@b.c", ""}} {
		if a := w.decide(c[0], c[1], c[2]); a.status != 400 {
			t.Fatalf("%v: %d %s", c, a.status, a.body)
		}
	}
	w.clock.add(time.Second)
	w.oauthError(w.poll(d), 400, "authorization_pending")

	// A poll without the right verifier learns nothing and spends nothing.
	if a := w.decide(" "+strings.ToLower(strings.Replace(d.UserCode, "-", "", 1)), "dev@example.com", "approve"); a.status != 200 || !strings.Contains(a.body, "dev@example.com") {
		t.Fatalf("%d %s", a.status, a.body)
	}
	w.oauthError(w.poll(d, "code_verifier", strings.Repeat("w", 43)), 400, "invalid_grant")
	w.oauthError(w.poll(d, "code_verifier", "-"), 400, "invalid_grant")
	w.oauthError(w.poll(d, "client_id", "evil"), 401, "invalid_client")
	w.oauthError(w.poll(d, "device_code", "-"), 400, "invalid_request")
	if a := w.decide(d.UserCode, "other@example.com", "approve"); a.status != 400 {
		t.Fatalf("approved twice: %d", a.status)
	}
	a := w.poll(d)
	var resp struct {
		ID string `json:"id_token"`
	}
	if err := json.Unmarshal([]byte(a.body), &resp); err != nil || a.status != 200 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	id, err := w.verifier(w.provider(w.issuer.IssuerURL())).Verify(w.ctx(), resp.ID)
	if err != nil || id.Subject != "dev@example.com" || id.Nonce != "dn" {
		t.Fatalf("%+v, %v", id, err)
	}
	w.oauthError(w.poll(d), 400, "invalid_grant")
	if len(w.issuer.devices.byUser) != 0 {
		t.Error("the user code outlives the device code")
	}

	d = w.startDevice()
	if a := w.decide(d.UserCode, "", "deny"); a.status != 200 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	w.oauthError(w.poll(d), 400, "access_denied")
	if a := w.decide(d.UserCode, "a@b.c", "approve"); a.status != 400 {
		t.Fatal("approved after it was denied")
	}
	w.oauthError(w.poll(d), 400, "access_denied")

	d = w.startDevice()
	w.clock.add(deviceLifetime)
	w.oauthError(w.poll(d), 400, "expired_token")
	if a := w.decide(d.UserCode, "a@b.c", "approve"); a.status != 400 {
		t.Fatal("approved after it expired")
	}
	w.oauthError(w.poll(d), 400, "expired_token")
	w.clock.add(deviceRetention)
	w.oauthError(w.poll(d), 400, "invalid_grant")

	for _, change := range [][]string{{"client_id", "evil"}, {"code_challenge_method", "plain"}, {"nonce", strings.Repeat("n", 513)}} {
		v := authQuery(change...)
		if a := w.post("/oidc/device/code", v); a.status != 400 && a.status != 401 {
			t.Errorf("%v: %d %s", change, a.status, a.body)
		}
	}
}

func TestDeviceFlowWithOAuth2(t *testing.T) {
	w := newWorld(t)
	p := w.provider(w.issuer.IssuerURL())
	cfg := w.oauthConfig(p, "")
	verifier := oauth2.GenerateVerifier()
	d, err := cfg.DeviceAuth(w.ctx(), oauth2.S256ChallengeOption(verifier))
	if err != nil {
		t.Fatal(err)
	}
	if a := w.decide(d.UserCode, "dev@example.com", "approve"); a.status != 200 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	d.Expiry = time.Time{} // of the test's clock, not of the library's
	token, err := cfg.DeviceAccessToken(w.ctx(), d, oauth2.VerifierOption(verifier))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.verifier(p).Verify(w.ctx(), token.Extra("id_token").(string)); err != nil {
		t.Fatal(err)
	}
}

func TestStateIsBounded(t *testing.T) {
	w := newWorld(t)
	form := authQuery("email", "dev@example.com", "action", "approve")
	do := func(path string, v url.Values) *httptest.ResponseRecorder {
		rec := httptest.NewRecorder()
		w.issuer.ServeHTTP(rec, w.request("POST", path, v.Encode()))
		return rec
	}
	var first string
	for i := range maxCodes {
		rec := do("/oidc/auth", form)
		u, err := url.Parse(rec.Header().Get("Location"))
		if err != nil || u.Query().Get("code") == "" {
			t.Fatalf("login %d: %d", i, rec.Code)
		}
		if first == "" {
			first = u.Query().Get("code")
		}
	}
	if loc := do("/oidc/auth", form).Header().Get("Location"); !strings.Contains(loc, "error=temporarily_unavailable") {
		t.Errorf("one more: %s", loc)
	}
	for i := range maxDevices {
		if rec := do("/oidc/device/code", form); rec.Code != 200 {
			t.Fatalf("device %d: %d %s", i, rec.Code, rec.Body)
		}
	}
	if rec := do("/oidc/device/code", form); rec.Code != 503 || !strings.Contains(rec.Body.String(), "temporarily_unavailable") {
		t.Errorf("one more device: %d %s", rec.Code, rec.Body)
	}
	if n := len(w.issuer.codes.byHash) + len(w.issuer.devices.byDevice.byHash); n != 10000 || len(w.issuer.devices.byUser) != maxDevices {
		t.Errorf("%d codes wait, %d user codes", n, len(w.issuer.devices.byUser))
	}
	// Full is not broken: who has a code can use it, which makes room.
	if rec := do("/oidc/token", exchangeForm(first)); rec.Code != 200 {
		t.Errorf("exchange while full: %d %s", rec.Code, rec.Body)
	}
	w.code()
	// Time makes room too.
	w.clock.add(deviceRetention)
	w.code()
	w.startDevice()
	if n := len(w.issuer.codes.byHash) + len(w.issuer.devices.byDevice.byHash) + w.issuer.codes.byAge.Len() + len(w.issuer.devices.byUser); n != 4 {
		t.Errorf("%d pieces are left after everything expired, want 4", n)
	}
}

// No page of another origin gets a token, a code or an approval.
func TestForeignPages(t *testing.T) {
	w := newWorld(t)
	d := w.startDevice()
	login := authQuery("email", "dev@example.com", "action", "approve").Encode()
	approve := url.Values{"user_code": {d.UserCode}, "email": {"dev@example.com"}, "action": {"approve"}}.Encode()
	for _, c := range []struct {
		method, path, body string
		headers            []string
		host               string
		status             int
	}{
		{"POST", "/oidc/auth", login, []string{"Origin", "http://evil.example"}, "", 403},
		{"POST", "/oidc/auth", login, []string{"Origin", "null"}, "", 403},
		{"POST", "/oidc/auth", login, []string{"Sec-Fetch-Site", "cross-site"}, "", 403},
		{"POST", "/oidc/auth", login, []string{"Sec-Fetch-Site", "same-site"}, "", 403},
		{"POST", "/oidc/device", approve, []string{"Origin", "http://evil.example"}, "", 403},
		{"POST", "/oidc/device", approve, []string{"Sec-Fetch-Site", "cross-site"}, "", 403},
		{"POST", "/oidc/mint", "email=a@b.c", nil, "", 403},
		{"POST", "/oidc/mint", "email=a@b.c", []string{"X-Sigstack-Dev", "0"}, "", 403},
		{"POST", "/oidc/mint", "email=a@b.c", []string{"X-Sigstack-Dev", "1", "Origin", "http://evil.example"}, "", 403},
		{"POST", "/oidc/mint", "email=a@b.c", []string{"X-Sigstack-Dev", "1", "Origin", w.base}, "", 403},
		{"POST", "/oidc/mint", "email=a@b.c", []string{"X-Sigstack-Dev", "1", "Origin", ""}, "", 403},
		{"POST", "/oidc/mint", "email=a@b.c", []string{"X-Sigstack-Dev", "1", "Sec-Fetch-Site", "same-origin"}, "", 403},
		{"POST", "/oidc/mint", "email=a@b.c", []string{"X-Sigstack-Dev", "1"}, "evil.example:8080", 421},
		{"POST", "/oidc/mint", "email=a@b.c", []string{"X-Sigstack-Dev", "1"}, "localhost.evil.example", 421},
		{"OPTIONS", "/oidc/mint", "", []string{"Origin", "http://evil.example", "Access-Control-Request-Method", "POST"}, "", 405},
		{"GET", "/oidc/github/token?repository=a/b", "", []string{"Authorization", "bearer x", "Origin", "http://evil.example"}, "", 403},
		{"GET", "/oidc/github/token?repository=a/b", "", []string{"Authorization", "bearer x", "Sec-Fetch-Site", "same-origin"}, "", 403},
		{"GET", "/oidc/github/token?repository=a/b", "", []string{"Authorization", "bearer x"}, "rebound.example", 421},
		{"OPTIONS", "/oidc/github/token", "", []string{"Origin", "http://evil.example"}, "", 405},
		{"GET", "/oidc/auth?" + authQuery().Encode(), "", nil, "rebound.example:80", 421},
	} {
		req := w.request(c.method, c.path, c.body, c.headers...)
		req.Host = c.host
		a := w.do(req)
		if a.status != c.status || a.header.Get("Location") != "" || a.header.Get("Access-Control-Allow-Origin") != "" || strings.Contains(a.body, "eyJ") {
			t.Errorf("%s %s %v %s: %d %s", c.method, c.path, c.headers, c.host, a.status, a.body)
		}
	}
	if n := w.issuer.codes.byAge.Len(); n != 0 {
		t.Errorf("%d codes were made", n)
	}
	w.oauthError(w.poll(d), 400, "authorization_pending")
	for _, host := range []string{"localhost", "LOCALHOST:1", "127.0.0.1", "[::1]:8080", "[::1]", "127.9.9.9:8080"} {
		req := w.request("GET", "/oidc/keys", "")
		req.Host = host
		if a := w.do(req); a.status != 200 {
			t.Errorf("Host %s: %d", host, a.status)
		}
	}
}

func TestMint(t *testing.T) {
	w := newWorld(t)
	a := w.post("/oidc/mint", url.Values{"email": {"dev@example.com"}}, "X-Sigstack-Dev", "1")
	if a.status != 200 || !strings.HasPrefix(a.header.Get("Content-Type"), "text/plain") || strings.ContainsAny(a.body, " \n") {
		t.Fatalf("%d %s", a.status, a.body)
	}
	p := w.provider(w.issuer.IssuerURL())
	if _, err := w.verifier(p).Verify(w.ctx(), a.body); err != nil {
		t.Fatal(err)
	}
	a = w.post("/oidc/mint", url.Values{"email": {"dev@example.com"}, "audience": {"other"}}, "X-Sigstack-Dev", "1")
	if claims := claimsOf(t, a.body); claims["aud"] != "other" {
		t.Errorf("claims %v", claims)
	}
	if _, err := w.verifier(p).Verify(w.ctx(), a.body); err == nil {
		t.Error("a token for another audience was accepted")
	}
	for _, v := range []url.Values{{}, {"email": {"x"}}, {"email": {"a@b"}, "audience": {""}}, {"email": {"a@b"}, "audience": {"\u00e9"}}, {"email": {"a@b", "c@d"}}} {
		if a := w.post("/oidc/mint", v, "X-Sigstack-Dev", "1"); a.status != 400 {
			t.Errorf("%v: %d %s", v, a.status, a.body)
		}
	}
	if a := w.do(w.request("POST", "/oidc/mint", "email="+strings.Repeat("a", maxForm), "X-Sigstack-Dev", "1")); a.status != 413 {
		t.Errorf("large body: %d", a.status)
	}
	if a := w.post("/oidc/mint?email=a@b.c", url.Values{}, "X-Sigstack-Dev", "1"); a.status != 400 {
		t.Errorf("parameter in the URL: %d", a.status)
	}
}

func TestEmailToken(t *testing.T) {
	w := newWorld(t)
	token, err := w.issuer.EmailToken("dev@example.com", "a", "b")
	if err != nil {
		t.Fatal(err)
	}
	if aud := fmt.Sprint(claimsOf(t, token)["aud"]); aud != "[a b]" {
		t.Errorf("audience %s", aud)
	}
	w.clock.add(601 * time.Second)
	if _, err := w.provider(w.issuer.IssuerURL()).Verifier(&oidc.Config{ClientID: "a", Now: w.clock.now}).Verify(w.ctx(), token); err == nil {
		t.Error("an expired token was accepted")
	}
	if _, err := w.issuer.EmailToken("nobody"); err == nil {
		t.Error("a bad address was accepted")
	}
	if _, err := w.issuer.EmailToken("a@b", make([]string, 9)...); err == nil {
		t.Error("nine audiences were accepted")
	}
	var header map[string]string
	b, _ := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[0])
	if err := json.Unmarshal(b, &header); err != nil || header["alg"] != "RS256" || header["typ"] != "JWT" || header["kid"] == "" {
		t.Errorf("header %s", b)
	}
}

func TestGitHubToken(t *testing.T) {
	w := newWorld(t)
	// What a client makes of ACTIONS_ID_TOKEN_REQUEST_URL.
	a := w.get("/oidc/github/token?api-version=2.0&repository=acme/widget"+"&audience=sigstore", "Authorization", "bearer anything")
	var resp struct {
		Value string
		Count int
	}
	if err := json.Unmarshal([]byte(a.body), &resp); err != nil || a.status != 200 || resp.Count != len(resp.Value) {
		t.Fatalf("%d %s", a.status, a.body)
	}
	id, err := w.verifier(w.provider(w.issuer.GitHubIssuerURL())).Verify(w.ctx(), resp.Value)
	if err != nil {
		t.Fatal(err)
	}
	if id.Subject != "repo:acme/widget:ref:refs/heads/main" || id.Issuer != w.base+"/oidc/github" {
		t.Errorf("token %+v", id)
	}
	claims := claimsOf(t, resp.Value)
	for _, name := range []string{"job_workflow_ref", "sha", "event_name", "repository", "workflow", "ref", "job_workflow_sha", "runner_environment", "repository_id", "repository_owner",
		"repository_owner_id", "repository_visibility", "workflow_ref", "workflow_sha", "run_id", "run_attempt"} {
		if s, _ := claims[name].(string); s == "" {
			t.Errorf("claim %s is %v", name, claims[name])
		}
	}
	if claims["job_workflow_ref"] != "acme/widget/.github/workflows/release.yml@refs/heads/main" || claims["repository_owner"] != "acme" || claims["environment"] != nil {
		t.Errorf("claims %v", claims)
	}
	if _, err := w.verifier(w.provider(w.issuer.IssuerURL())).Verify(w.ctx(), resp.Value); err == nil {
		t.Error("the e-mail issuer's verifier took a GitHub token")
	}

	for _, c := range []struct {
		query string
		want  map[string]string
	}{
		{"ref=refs/tags/v1.2.3&workflow=deploy", map[string]string{"ref_type": "tag", "sub": "repo:acme/widget:ref:refs/tags/v1.2.3", "workflow": "deploy", "workflow_ref": "acme/widget/.github/workflows/deploy.yml@refs/tags/v1.2.3"}},
		{"environment=prod:eu", map[string]string{"environment": "prod:eu", "sub": "repo:acme/widget:environment:prod%3Aeu"}},
		{"event_name=pull_request&ref=refs/pull/7/merge", map[string]string{"sub": "repo:acme/widget:pull_request"}},
		{"workflow=Build+%26+ship&workflow_ref=acme/widget/.github/workflows/b.yaml@refs/heads/main", map[string]string{"workflow": "Build & ship", "job_workflow_ref": "acme/widget/.github/workflows/b.yaml@refs/heads/main"}},
		{"job_workflow_ref=other/lib/.github/workflows/x.yml@" + strings.Repeat("ab", 20) + "&sha=" + strings.Repeat("cd", 20), map[string]string{"sha": strings.Repeat("cd", 20), "workflow_sha": strings.Repeat("cd", 20), "workflow_ref": "acme/widget/.github/workflows/release.yml@refs/heads/main"}},
		{"audience=me&run_id=42&run_attempt=3&runner_environment=self-hosted&repository_visibility=private", map[string]string{"aud": "me", "run_id": "42", "run_attempt": "3", "runner_environment": "self-hosted", "repository_visibility": "private"}},
	} {
		a := w.get("/oidc/github/token?repository=acme/widget&"+c.query, "Authorization", "Bearer x")
		if err := json.Unmarshal([]byte(a.body), &resp); err != nil || a.status != 200 {
			t.Fatalf("%s: %d %s", c.query, a.status, a.body)
		}
		claims := claimsOf(t, resp.Value)
		for name, want := range c.want {
			if claims[name] != want {
				t.Errorf("%s: %s is %v, want %s", c.query, name, claims[name], want)
			}
		}
	}

	for _, query := range []string{
		"", "repository=", "repository=acme", "repository=acme/widget/x", "repository=acme/..", "repository=a%20b/c", "repository=a/b&ref=main", "repository=a/b&ref=refs/heads/a%0ab",
		"repository=a/b&sha=xyz", "repository=a/b&sha=abcd", "repository=a/b&workflow=Build+it", "repository=a/b&workflow=%00", "repository=a/b&workflow_ref=c/d/.github/workflows/x.yml@refs/heads/main",
		"repository=a/b&workflow_ref=a/b/x.yml@refs/heads/main", "repository=a/b&workflow_ref=a/b/.github/workflows/../x.yml@refs/heads/main", "repository=a/b&run_id=x", "repository=a/b&run_id=-1",
		"repository=a/b&repository_visibility=secret", "repository=a/b&runner_environment=mars", "repository=a/b&event_name=Push", "repository=a/b&audience=%0a", "repository=a/b&repository=c/d",
		"repository=a/b&enviroment=prod", "repository=a/b&environment=" + strings.Repeat("e", 513), "repository=a/b&environment=a%00b", "repository=a/b&actor=%ff", "repository=a/b&" + strings.Repeat("&", 64),
	} {
		w.oauthError(w.get("/oidc/github/token?"+query, "Authorization", "bearer x"), 400, "invalid_request")
	}
	for _, header := range [][]string{nil, {"Authorization", "bearer"}, {"Authorization", "bearer  "}, {"Authorization", "Basic eDp5"}} {
		w.oauthError(w.get("/oidc/github/token?repository=a/b", header...), 401, "invalid_token")
	}

	// The longest claims still fit.
	long := strings.Repeat("\\", 512)
	if _, err := w.issuer.GitHubToken(GitHubClaims{Repository: "a/b", Actor: long, Environment: long, Workflow: long, WorkflowRef: "a/b/.github/workflows/x.yml@refs/heads/" + strings.Repeat("r", 470), Audience: strings.Repeat("a", 512)}); err != nil {
		t.Error(err)
	}
	if _, err := w.issuer.GitHubToken(GitHubClaims{Repository: "nobody"}); err == nil {
		t.Error("a repository without an owner was accepted")
	}
}

// shortKey has a public key of 2047 bits and signs nothing.
type shortKey struct{}

func (shortKey) Public() crypto.PublicKey {
	return &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 2046), E: 65537}
}

func (shortKey) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("signs nothing")
}

func TestNewRefuses(t *testing.T) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good := "http://localhost:8080"
	cfgs := []Config{
		{BaseURL: good}, {BaseURL: good, Key: ec}, {Key: testKey()},
		{BaseURL: good, Key: testKey(), TokenLifetime: -1}, {BaseURL: good, Key: testKey(), TokenLifetime: 25 * time.Hour}, {BaseURL: good, Key: testKey(), TokenLifetime: time.Millisecond},
		{BaseURL: good, Key: testKey(), ClientID: "\n"},
		{BaseURL: good, Key: shortKey{}},
	}
	for _, base := range []string{"localhost:8080", "http://", "http://localhost:8080/", "http://localhost:", "HTTP://localhost", "http://u@localhost", "http://localhost/x", "http://localhost?x", "http://localhost#x", "ftp://localhost", "http://a b"} {
		cfgs = append(cfgs, Config{BaseURL: base, Key: testKey()})
	}
	for _, cfg := range cfgs {
		if _, err := New(cfg); err == nil {
			t.Errorf("New(%+v) succeeded", cfg.BaseURL)
		}
	}
	for _, base := range []string{good, "https://sigstore.example", "http://[::1]:8080", "http://127.0.0.1:1"} {
		if s, err := New(Config{BaseURL: base, Key: testKey()}); err != nil || s.IssuerURL() != base+"/oidc" {
			t.Errorf("New(%s): %v", base, err)
		}
	}
}

// A random source or a key that fails gives no code and no token, and says why
// in the log only.
func TestBrokenParts(t *testing.T) {
	w := newWorld(t)
	w.issuer.cfg.Rand = strings.NewReader("")
	q := w.location(w.post("/oidc/auth", authQuery("email", "a@b.c", "action", "approve")), callback)
	if q.Get("error") != "server_error" || w.log.Len() == 0 {
		t.Errorf("%v, log %q", q, w.log)
	}
	w.oauthError(w.post("/oidc/device/code", authQuery()), 500, "server_error")
	w.oauthError(w.get("/oidc/github/token?repository=a/b", "Authorization", "bearer x"), 500, "server_error")
}
