package devoidc

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
)

// The grant types of the token endpoint.
const (
	grantCode   = "authorization_code"
	grantDevice = "urn:ietf:params:oauth:grant-type:device_code"
)

// token answers POST /oidc/token (RFC 6749, section 3.2).
func (s *Issuer) token(w http.ResponseWriter, r *http.Request) {
	v, ok := s.apiForm(w, r)
	if !ok {
		return
	}
	// The client is authenticated before a code is looked at: Go's oauth2
	// tries the Basic header first and the form second, with the same code.
	if e := s.authenticate(r, v); e != nil {
		if e.status == http.StatusUnauthorized {
			w.Header().Set("WWW-Authenticate", `Basic realm="sigstack development issuer"`)
		}
		writeJSON(w, e.status, e)
		return
	}
	var email, nonce string
	var e *oauthError
	switch v.Get("grant_type") {
	case grantCode:
		email, nonce, e = s.redeemCode(v)
	case grantDevice:
		email, nonce, e = s.redeemDevice(v)
	case "":
		e = oauthErrorf("invalid_request", "grant_type: want %s or %s", grantCode, grantDevice)
	default:
		e = oauthErrorf("unsupported_grant_type", "grant_type: want %s or %s", grantCode, grantDevice)
	}
	if e != nil {
		writeJSON(w, e.status, e)
		return
	}
	resp, err := s.respond(email, nonce)
	if err != nil {
		s.cfg.Log.ErrorContext(r.Context(), "development issuer cannot sign a token", "error", err)
		writeJSON(w, http.StatusInternalServerError, &oauthError{Code: "server_error", Description: "the token could not be signed"})
		return
	}
	writeJSON(w, http.StatusOK, resp)
}

// apiForm reads the form of an endpoint that answers in JSON.
func (s *Issuer) apiForm(w http.ResponseWriter, r *http.Request) (url.Values, bool) {
	v, err := readForm(w, r)
	if err != nil {
		writeJSON(w, formStatus(err), oauthErrorf("invalid_request", "%s", err))
		return nil, false
	}
	return v, true
}

// authenticate accepts our public client: identified in the form or by Basic
// authentication (RFC 6749, section 2.3.1), with an empty secret.
func (s *Issuer) authenticate(r *http.Request, v url.Values) *oauthError {
	id, secret := v.Get("client_id"), v.Get("client_secret")
	if r.Header.Get("Authorization") != "" {
		user, pass, ok := r.BasicAuth()
		if !ok {
			return &oauthError{"invalid_client", "Authorization: want Basic", http.StatusUnauthorized}
		}
		// Both halves are form-encoded before they are joined.
		user, err1 := url.QueryUnescape(user)
		pass, err2 := url.QueryUnescape(pass)
		if err1 != nil || err2 != nil {
			return &oauthError{"invalid_client", "Authorization: want the client id and secret form-encoded", http.StatusUnauthorized}
		}
		if v.Has("client_id") && id != user || secret != "" {
			return oauthErrorf("invalid_request", "client credentials are given twice: in the header and in the form")
		}
		id, secret = user, pass
	}
	if subtle.ConstantTimeCompare([]byte(id), []byte(s.cfg.ClientID)) != 1 {
		return &oauthError{"invalid_client", "client_id: want " + s.cfg.ClientID, http.StatusUnauthorized}
	}
	if secret != "" {
		return &oauthError{"invalid_client", "client_secret: want none, this client is public", http.StatusUnauthorized}
	}
	return nil
}

// redeemCode is RFC 6749, section 4.1.3, with RFC 7636, section 4.6. A code
// that comes with the wrong redirect URI or verifier is spent: either somebody
// else holds it or the client is broken, and a login is cheap.
func (s *Issuer) redeemCode(v url.Values) (email, nonce string, e *oauthError) {
	if v.Get("code") == "" {
		return "", "", oauthErrorf("invalid_request", "code is missing")
	}
	if e := checkVerifier(v); e != nil {
		return "", "", e
	}
	now := s.cfg.Now()
	s.mu.Lock()
	g, ok := s.codes.take(v.Get("code"), now)
	s.mu.Unlock()
	switch {
	case !ok:
		return "", "", oauthErrorf("invalid_grant", "code is unknown, expired or was used before")
	case v.Get("redirect_uri") != g.redirectURI:
		return "", "", oauthErrorf("invalid_grant", "redirect_uri is not the one of the authorization request")
	}
	if e := matchVerifier(g.challenge, v.Get("code_verifier")); e != nil {
		return "", "", e
	}
	return g.email, g.nonce, nil
}

// checkVerifier checks the form of a verifier before anything is spent on it
// (RFC 7636, section 4.1).
func checkVerifier(v url.Values) *oauthError {
	verifier := v.Get("code_verifier")
	if verifier == "" {
		return nil
	}
	unreserved := func(c byte) bool { return isBase64URL(c) || c == '.' || c == '~' }
	if len(verifier) < 43 || len(verifier) > 128 || !allOf(verifier, unreserved) {
		return oauthErrorf("invalid_request", "code_verifier: want 43 to 128 unreserved characters")
	}
	return nil
}

// matchVerifier compares a verifier with a grant's challenge. A verifier
// without a challenge is refused as well: somebody removed the challenge on
// its way (RFC 9700, section 2.1.1).
func matchVerifier(challenge, verifier string) *oauthError {
	if challenge == "" && verifier == "" {
		return nil
	}
	if challenge == "" {
		return oauthErrorf("invalid_grant", "code_verifier is given, but the grant began without a code_challenge")
	}
	if verifier == "" {
		return oauthErrorf("invalid_grant", "code_verifier is missing, and the grant began with a code_challenge")
	}
	sum := sha256.Sum256([]byte(verifier))
	got := base64.RawURLEncoding.EncodeToString(sum[:])
	if subtle.ConstantTimeCompare([]byte(got), []byte(challenge)) != 1 {
		return oauthErrorf("invalid_grant", "code_verifier does not belong to the code_challenge")
	}
	return nil
}

// mint answers POST /oidc/mint with "email" and maybe "audience": the body of
// the answer is the token and nothing else. It is for scripts on this machine;
// the header X-Sigstack-Dev: 1 is what a form of a foreign page cannot send.
func (s *Issuer) mint(w http.ResponseWriter, r *http.Request) {
	if err := fromWebPage(r); err != nil {
		http.Error(w, err.Error(), http.StatusForbidden)
		return
	}
	if r.Header.Get("X-Sigstack-Dev") != "1" {
		http.Error(w, "header X-Sigstack-Dev: want 1", http.StatusForbidden)
		return
	}
	v, err := readForm(w, r)
	if err != nil {
		http.Error(w, err.Error(), formStatus(err))
		return
	}
	if err := checkEmail(v.Get("email")); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	aud := s.cfg.ClientID
	if v.Has("audience") {
		aud = v.Get("audience")
	}
	if err := checkAudience(aud); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	token, err := s.EmailToken(v.Get("email"), aud)
	if err != nil {
		s.cfg.Log.ErrorContext(r.Context(), "development issuer cannot sign a token", "error", err)
		http.Error(w, "the token could not be signed", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Write([]byte(token))
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	// The only error left is a client that went away.
	json.NewEncoder(w).Encode(v)
}
