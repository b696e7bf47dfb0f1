package devoidc

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// oob is the redirect URI of a client that has no listener: the code is shown
// for the user to copy.
const oob = "urn:ietf:wg:oauth:2.0:oob"

// grant is what an authorization code stands for.
type grant struct {
	email       string
	nonce       string
	challenge   string // S256 code challenge, 43 characters, or empty
	redirectURI string // as the client spelled it
}

// authRequest is an authorization request whose client_id and redirect_uri
// were accepted: RFC 6749, section 4.1.1, with RFC 7636, section 4.3, and
// OpenID Connect Core, section 3.1.2.1. It lives in the hidden fields of the
// login form and is checked again when the form comes back, so that a login
// page that nobody fills in costs no memory.
type authRequest struct {
	ClientID    string
	RedirectURI string
	State       string
	Nonce       string
	Challenge   string

	redirect *url.URL // nil for oob
}

// oauthError is an error answer of RFC 6749: in the redirect (section 4.1.2.1)
// or as JSON (section 5.2).
type oauthError struct {
	Code        string `json:"error"`
	Description string `json:"error_description,omitempty"`
	status      int    // of the JSON form
}

func (e *oauthError) Error() string { return e.Code + ": " + e.Description }

func oauthErrorf(code, format string, args ...any) *oauthError {
	// RFC 6749, section 5.2: printable ASCII without the quotation mark and
	// the backslash.
	description := strings.Map(func(c rune) rune {
		switch {
		case c == '"':
			return '\''
		case c < 0x20 || c > 0x7e || c == '\\':
			return '?'
		}
		return c
	}, fmt.Sprintf(format, args...))
	return &oauthError{Code: code, Description: description, status: http.StatusBadRequest}
}

// checkClient reads the two parameters that decide where an error may be sent.
// Until they are accepted every error is a page (RFC 6749, section 4.1.2.1).
func (s *Issuer) checkClient(v url.Values) (*authRequest, error) {
	if v.Get("client_id") != s.cfg.ClientID {
		return nil, fmt.Errorf("client_id %.80q: want %q", v.Get("client_id"), s.cfg.ClientID)
	}
	redirect, err := parseRedirect(v.Get("redirect_uri"))
	if err != nil {
		return nil, err
	}
	return &authRequest{
		ClientID:    v.Get("client_id"),
		RedirectURI: v.Get("redirect_uri"),
		redirect:    redirect,
	}, nil
}

// fill checks everything else. Errors go to the redirect URI.
func (q *authRequest) fill(v url.Values) *oauthError {
	// State first: an error answer carries it as well.
	if !printable(v.Get("state"), 2048) {
		return oauthErrorf("invalid_request", "state: want at most 2048 printable ASCII characters")
	}
	q.State = v.Get("state")
	if t := v.Get("response_type"); t != "code" {
		return oauthErrorf("unsupported_response_type", "response_type: want code")
	}
	if m := v.Get("response_mode"); m != "" && m != "query" {
		return oauthErrorf("invalid_request", "response_mode: want query")
	}
	if v.Has("request") {
		return oauthErrorf("request_not_supported", "request objects are not supported")
	}
	if v.Has("request_uri") {
		return oauthErrorf("request_uri_not_supported", "request objects are not supported")
	}
	if !slices.Contains(strings.Fields(v.Get("scope")), "openid") {
		return oauthErrorf("invalid_scope", "scope: want openid and maybe email")
	}
	if slices.Contains(strings.Fields(v.Get("prompt")), "none") {
		return oauthErrorf("login_required", "there is no session: every login is by the page")
	}
	if !printable(v.Get("nonce"), 512) {
		return oauthErrorf("invalid_request", "nonce: want at most 512 printable ASCII characters")
	}
	q.Nonce = v.Get("nonce")
	var e *oauthError
	q.Challenge, e = checkChallenge(v)
	return e
}

// checkChallenge reads code_challenge and code_challenge_method. Without a
// method RFC 7636 means "plain", which protects nothing that we care for.
func checkChallenge(v url.Values) (string, *oauthError) {
	challenge := v.Get("code_challenge")
	if challenge == "" {
		if v.Get("code_challenge_method") != "" {
			return "", oauthErrorf("invalid_request", "code_challenge_method without code_challenge")
		}
		return "", nil
	}
	if v.Get("code_challenge_method") != "S256" {
		return "", oauthErrorf("invalid_request", "code_challenge_method: want S256")
	}
	// RFC 7636, section 4.2: base64url of a SHA-256 digest, no padding.
	if len(challenge) != 43 || !allOf(challenge, isBase64URL) {
		return "", oauthErrorf("invalid_request", "code_challenge: want 43 base64url characters")
	}
	return challenge, nil
}

func allOf(s string, ok func(byte) bool) bool {
	for i := range len(s) {
		if !ok(s[i]) {
			return false
		}
	}
	return true
}

func isBase64URL(c byte) bool { return isAlnum(c) || c == '-' || c == '_' }

// parseRedirect accepts oob, for which it returns nil, and http URLs on the
// loopback host with any port, path and query (RFC 8252, section 7.3; localhost
// too, because that is what cosign asks for). This is the whole of the defense
// against an open redirector, so it compares names and does not resolve them.
func parseRedirect(raw string) (*url.URL, error) {
	if raw == oob {
		return nil, nil
	}
	bad := fmt.Errorf("redirect_uri %.200q: want http://localhost, http://127.0.0.1 or http://[::1] with any port and path, or %s", raw, oob)
	if !strings.HasPrefix(raw, "http://") || !printable(raw, 2048) || strings.ContainsAny(raw, "\\ #") {
		return nil, bad
	}
	u, err := url.Parse(raw)
	if err != nil || u.User != nil {
		return nil, bad
	}
	// The three spellings, and not u.Hostname(), which would hide a zone or
	// an escape.
	host := u.Host
	if u.Port() != "" {
		if port, err := strconv.ParseUint(u.Port(), 10, 16); err != nil || port == 0 {
			return nil, bad
		}
		host = strings.TrimSuffix(host, ":"+u.Port())
	}
	switch host {
	case "localhost", "127.0.0.1", "[::1]":
		return u, nil
	}
	return nil, bad
}

// answer sends the browser back to the client with the given parameters added
// to the redirect URI's own query.
func (q *authRequest) answer(w http.ResponseWriter, add url.Values) {
	if q.State != "" {
		add.Set("state", q.State)
	}
	to := *q.redirect
	if to.RawQuery != "" {
		to.RawQuery += "&"
	}
	to.RawQuery += add.Encode()
	// 303: the browser gets the target whatever the method was here.
	w.Header().Set("Location", to.String())
	w.WriteHeader(http.StatusSeeOther)
}

// fail tells the client, or for oob the user, what was wrong.
func (s *Issuer) fail(w http.ResponseWriter, q *authRequest, e *oauthError) {
	if q.redirect == nil {
		s.pages.message(w, e.status, "Not signed in", e.Error())
		return
	}
	q.answer(w, url.Values{"error": {e.Code}, "error_description": {e.Description}})
}

// showLogin answers GET /oidc/auth.
func (s *Issuer) showLogin(w http.ResponseWriter, r *http.Request) {
	v, err := parseForm(r.URL.RawQuery)
	if err != nil {
		s.pages.message(w, formStatus(err), "Bad request", err.Error())
		return
	}
	if q := s.authRequest(w, v); q != nil {
		hint := v.Get("login_hint")
		if checkEmail(hint) != nil {
			hint = ""
		}
		s.pages.login(w, http.StatusOK, q, hint, "")
	}
}

// authRequest checks the whole request. It returns nil after it has answered.
func (s *Issuer) authRequest(w http.ResponseWriter, v url.Values) *authRequest {
	q, err := s.checkClient(v)
	if err != nil {
		s.pages.message(w, http.StatusBadRequest, "Bad request", err.Error())
		return nil
	}
	if e := q.fill(v); e != nil {
		s.fail(w, q, e)
		return nil
	}
	return q
}

// submitLogin answers POST /oidc/auth: the login form with the fields of
// authRequest, "email", and "action", which is "approve" or "deny".
func (s *Issuer) submitLogin(w http.ResponseWriter, r *http.Request) {
	v, ok := s.pageForm(w, r)
	if !ok {
		return
	}
	q := s.authRequest(w, v)
	if q == nil {
		return
	}
	switch v.Get("action") {
	case "approve":
	case "deny":
		s.fail(w, q, oauthErrorf("access_denied", "the user said no"))
		return
	default:
		s.pages.message(w, http.StatusBadRequest, "Bad request", "action: want approve or deny")
		return
	}
	email := strings.TrimSpace(v.Get("email"))
	if err := checkEmail(email); err != nil {
		s.pages.login(w, http.StatusBadRequest, q, v.Get("email"), err.Error())
		return
	}
	code, err := newCode(s.cfg.Rand)
	if err != nil {
		s.cfg.Log.ErrorContext(r.Context(), "development issuer cannot make a code", "error", err)
		s.fail(w, q, &oauthError{"server_error", "no random bytes", http.StatusInternalServerError})
		return
	}
	g := &grant{email: email, nonce: q.Nonce, challenge: q.Challenge, redirectURI: q.RedirectURI}
	now := s.cfg.Now()
	s.mu.Lock()
	added := s.codes.add(code, g, now, now.Add(codeLifetime))
	s.mu.Unlock()
	if !added {
		s.fail(w, q, errFull())
		return
	}
	if q.redirect == nil {
		s.pages.code(w, code)
		return
	}
	q.answer(w, url.Values{"code": {code}})
}

// errFull is the answer while too many grants wait.
func errFull() *oauthError {
	return &oauthError{"temporarily_unavailable", "too many logins are waiting, try again in a few minutes", http.StatusServiceUnavailable}
}

// pageForm reads a form that a page of ours must have sent. It answers and
// returns false when it was another page's.
func (s *Issuer) pageForm(w http.ResponseWriter, r *http.Request) (url.Values, bool) {
	if err := s.origin.Check(r); err != nil {
		s.pages.message(w, http.StatusForbidden, "Refused", "this form was sent by a page of another origin")
		return nil, false
	}
	v, err := readForm(w, r)
	if err != nil {
		s.pages.message(w, formStatus(err), "Bad request", err.Error())
		return nil, false
	}
	return v, true
}

// fromWebPage reports why a request to an endpoint for scripts comes from a
// browser. Scripts send neither header.
func fromWebPage(r *http.Request) error {
	if r.Header.Values("Origin") != nil {
		return errors.New("a request with an Origin header is refused: web pages get no tokens here")
	}
	if v := r.Header.Get("Sec-Fetch-Site"); v != "" {
		return errors.New("a request from a browser is refused: web pages get no tokens here")
	}
	return nil
}
