package devoidc

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// device is one device grant (RFC 8628). Its fields are guarded by Issuer.mu.
type device struct {
	userCode  string // as in "BCDF-GHJK"
	nonce     string
	challenge string
	expires   time.Time
	lastPoll  time.Time // zero before the first
	denied    bool
	email     string // not empty: approved
}

// devices finds a device grant by either of its codes.
type devices struct {
	byDevice *pending[*device]
	byUser   map[string]*device
}

func newDevices(limit int) *devices {
	d := &devices{byDevice: newPending[*device](limit), byUser: map[string]*device{}}
	d.byDevice.dropped = func(g *device) { delete(d.byUser, g.userCode) }
	return d
}

// userAlphabet has no vowels and nothing that looks like something else (RFC
// 8628, section 6.1). Eight characters of it are 34 bits; that is enough
// because guessing one only lets the guesser approve somebody else's login as
// an identity of the guesser's choice, at an issuer that lets everybody be
// anybody.
const userAlphabet = "BCDFGHJKLMNPQRSTVWXZ"

// newUserCode returns eight random characters as "XXXX-XXXX".
func newUserCode(random io.Reader) (string, error) {
	code := make([]byte, 0, 9)
	var b [1]byte
	for len(code) < 9 {
		if len(code) == 4 {
			code = append(code, '-')
		}
		if _, err := io.ReadFull(random, b[:]); err != nil {
			return "", fmt.Errorf("devoidc: reading random bytes: %w", err)
		}
		// 240 is the largest multiple of 20 in a byte: no character is
		// likelier than another.
		if b[0] < 240 {
			code = append(code, userAlphabet[b[0]%20])
		}
	}
	return string(code), nil
}

// normalUserCode undoes what people do to a code when they type it: case,
// spaces and the hyphen. What is no user code comes back as the empty string.
func normalUserCode(s string) string {
	if len(s) > 64 {
		return ""
	}
	code := make([]byte, 0, 9)
	for _, c := range []byte(strings.ToUpper(s)) {
		switch {
		case strings.IndexByte(userAlphabet, c) >= 0:
			if len(code) == 4 {
				code = append(code, '-')
			}
			code = append(code, c)
		case c == '-' || c == ' ':
		default:
			return ""
		}
	}
	if len(code) != 9 {
		return ""
	}
	return string(code)
}

// deviceResponse is RFC 8628, section 3.2. Times are in seconds.
type deviceResponse struct {
	DeviceCode string `json:"device_code"`
	UserCode   string `json:"user_code"`
	URI        string `json:"verification_uri"`
	Complete   string `json:"verification_uri_complete"`
	ExpiresIn  int64  `json:"expires_in"`
	Interval   int64  `json:"interval"`
}

// startDevice answers POST /oidc/device/code (RFC 8628, section 3.1).
func (s *Issuer) startDevice(w http.ResponseWriter, r *http.Request) {
	v, ok := s.apiForm(w, r)
	if !ok {
		return
	}
	if e := s.authenticate(r, v); e != nil {
		if e.status == http.StatusUnauthorized {
			w.Header().Set("WWW-Authenticate", `Basic realm="sigstack development issuer"`)
		}
		writeJSON(w, e.status, e)
		return
	}
	resp, e := s.newDevice(v)
	if e != nil {
		writeJSON(w, e.status, e)
		return
	}
	writeJSON(w, http.StatusOK, resp)
}

func (s *Issuer) newDevice(v url.Values) (*deviceResponse, *oauthError) {
	challenge, e := checkChallenge(v)
	if e != nil {
		return nil, e
	}
	// Not in RFC 8628; clients that send one want it back.
	if !printable(v.Get("nonce"), 512) {
		return nil, oauthErrorf("invalid_request", "nonce: want at most 512 printable ASCII characters")
	}
	code, err1 := newCode(s.cfg.Rand)
	user, err2 := newUserCode(s.cfg.Rand)
	if err1 != nil || err2 != nil {
		return nil, &oauthError{"server_error", "no random bytes", http.StatusInternalServerError}
	}
	now := s.cfg.Now()
	g := &device{userCode: user, nonce: v.Get("nonce"), challenge: challenge, expires: now.Add(deviceLifetime)}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.devices.byUser[user] != nil {
		// Once in millions of years with a working random source.
		return nil, errFull()
	}
	if !s.devices.byDevice.add(code, g, now, now.Add(deviceRetention)) {
		return nil, errFull()
	}
	s.devices.byUser[user] = g
	uri := s.IssuerURL() + "/device"
	return &deviceResponse{
		DeviceCode: code, UserCode: user, URI: uri,
		Complete:  uri + "?" + url.Values{"user_code": {user}}.Encode(),
		ExpiresIn: int64(deviceLifetime.Seconds()), Interval: int64(deviceInterval.Seconds()),
	}, nil
}

// redeemDevice is RFC 8628, sections 3.4 and 3.5.
func (s *Issuer) redeemDevice(v url.Values) (email, nonce string, e *oauthError) {
	code := v.Get("device_code")
	if code == "" {
		return "", "", oauthErrorf("invalid_request", "device_code is missing")
	}
	if e := checkVerifier(v); e != nil {
		return "", "", e
	}
	now := s.cfg.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	g, ok := s.devices.byDevice.get(code, now)
	if !ok {
		return "", "", oauthErrorf("invalid_grant", "device_code is unknown or was used before")
	}
	// Before the state is told, and without spending the code: who has no
	// verifier cannot disturb who has it.
	if e := matchVerifier(g.challenge, v.Get("code_verifier")); e != nil {
		return "", "", e
	}
	switch {
	case !now.Before(g.expires):
		return "", "", oauthErrorf("expired_token", "device_code has expired, begin again")
	case g.denied:
		return "", "", oauthErrorf("access_denied", "the user said no")
	case g.email != "":
		s.devices.byDevice.take(code, now)
		return g.email, g.nonce, nil
	}
	last := g.lastPoll
	g.lastPoll = now
	// A fifth of tolerance: a client that waits exactly the interval must not
	// be told to slow down because the network was faster the second time.
	if !last.IsZero() && now.Sub(last) < deviceInterval*4/5 {
		return "", "", oauthErrorf("slow_down", "polled faster than the interval: add 5 seconds to it")
	}
	return "", "", oauthErrorf("authorization_pending", "the user has not answered yet")
}

// showDevice answers GET /oidc/device, with or without a user_code. Looking
// does not approve.
func (s *Issuer) showDevice(w http.ResponseWriter, r *http.Request) {
	v, err := parseForm(r.URL.RawQuery)
	if err != nil {
		s.pages.message(w, formStatus(err), "Bad request", err.Error())
		return
	}
	s.pages.device(w, http.StatusOK, v.Get("user_code"), "", "")
}

// submitDevice answers POST /oidc/device: "user_code", "email" and "action",
// which is "approve" or "deny".
func (s *Issuer) submitDevice(w http.ResponseWriter, r *http.Request) {
	v, ok := s.pageForm(w, r)
	if !ok {
		return
	}
	email := strings.TrimSpace(v.Get("email"))
	approve := v.Get("action") == "approve"
	if !approve && v.Get("action") != "deny" {
		s.pages.message(w, http.StatusBadRequest, "Bad request", "action: want approve or deny")
		return
	}
	if approve {
		if err := checkEmail(email); err != nil {
			s.pages.device(w, http.StatusBadRequest, v.Get("user_code"), v.Get("email"), err.Error())
			return
		}
	}
	if !s.decide(normalUserCode(v.Get("user_code")), approve, email) {
		s.pages.device(w, http.StatusBadRequest, v.Get("user_code"), v.Get("email"), "This code is unknown, has expired or was answered before.")
		return
	}
	if !approve {
		s.pages.message(w, http.StatusOK, "Refused", "The device was not signed in. You can close this page.")
		return
	}
	s.pages.message(w, http.StatusOK, "Signed in", "The device is signed in as "+email+". You can close this page.")
}

// decide records the user's answer, once.
func (s *Issuer) decide(userCode string, approve bool, email string) bool {
	now := s.cfg.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.devices.byUser[userCode]
	if g == nil || !now.Before(g.expires) || g.denied || g.email != "" {
		return false
	}
	if approve {
		g.email = email
	} else {
		g.denied = true
	}
	return true
}
