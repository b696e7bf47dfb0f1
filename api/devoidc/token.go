package devoidc

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
)

// maxToken is the longest token we sign, in bytes; verifiers stop at 16 KiB.
const maxToken = 16 << 10

// audience is the "aud" claim: a string when there is one, else an array
// (RFC 7519, section 4.1.3).
type audience []string

// MarshalJSON writes the shorter form when it can.
func (a audience) MarshalJSON() ([]byte, error) {
	if len(a) == 1 {
		return json.Marshal(a[0])
	}
	return json.Marshal([]string(a))
}

// emailClaims are the claims of an ID token about an e-mail address and, but
// for at_hash, of the access token beside it. Times are seconds since 1970.
//
// The subject is the address itself: some clients prove possession of their
// key over "sub", others over "email", and so both are the same.
type emailClaims struct {
	Issuer        string   `json:"iss"`
	Subject       string   `json:"sub"`
	Audience      audience `json:"aud"`
	IssuedAt      int64    `json:"iat"`
	Expiry        int64    `json:"exp"`
	Nonce         string   `json:"nonce,omitempty"`
	AtHash        string   `json:"at_hash,omitempty"`
	Email         string   `json:"email"`
	EmailVerified bool     `json:"email_verified"`
}

// EmailToken returns an ID token of IssuerURL for the address. Its audience is
// the client id, or the given ones.
func (s *Issuer) EmailToken(email string, audiences ...string) (string, error) {
	if err := checkEmail(email); err != nil {
		return "", fmt.Errorf("devoidc: %w", err)
	}
	if len(audiences) == 0 {
		audiences = []string{s.cfg.ClientID}
	}
	if len(audiences) > 8 {
		return "", fmt.Errorf("devoidc: %d audiences: want at most 8", len(audiences))
	}
	for _, a := range audiences {
		if err := checkAudience(a); err != nil {
			return "", fmt.Errorf("devoidc: %w", err)
		}
	}
	return s.sign(s.emailClaims(email, "", audiences))
}

func checkAudience(a string) error {
	if a == "" || !printable(a, 512) {
		return fmt.Errorf("audience %.80q: want 1 to 512 printable ASCII characters", a)
	}
	return nil
}

func (s *Issuer) emailClaims(email, nonce string, aud audience) emailClaims {
	iat, exp := s.times()
	return emailClaims{
		Issuer: s.IssuerURL(), Subject: email, Audience: aud,
		IssuedAt: iat, Expiry: exp,
		Nonce: nonce, Email: email, EmailVerified: true,
	}
}

// times returns "iat" and "exp" of a token that is signed now.
func (s *Issuer) times() (iat, exp int64) {
	iat = s.cfg.Now().Unix()
	return iat, iat + int64(s.cfg.TokenLifetime.Seconds())
}

// tokenResponse is RFC 6749, section 5.1, and OpenID Connect Core, section
// 3.1.3.3.
type tokenResponse struct {
	AccessToken string `json:"access_token"`
	TokenType   string `json:"token_type"`
	ExpiresIn   int64  `json:"expires_in"` // seconds
	IDToken     string `json:"id_token"`
	Scope       string `json:"scope"`
}

// respond signs both tokens of a completed grant. The access token is a JWT
// because sigstore-python presents it as the identity token.
func (s *Issuer) respond(email, nonce string) (*tokenResponse, error) {
	claims := s.emailClaims(email, nonce, audience{s.cfg.ClientID})
	access, err := s.sign(claims)
	if err != nil {
		return nil, err
	}
	// OpenID Connect Core, section 3.1.3.6: the left half of the SHA-256 of
	// the access token's ASCII bytes.
	sum := sha256.Sum256([]byte(access))
	claims.AtHash = base64.RawURLEncoding.EncodeToString(sum[:sha256.Size/2])
	id, err := s.sign(claims)
	if err != nil {
		return nil, err
	}
	return &tokenResponse{
		AccessToken: access, TokenType: "Bearer", IDToken: id,
		ExpiresIn: claims.Expiry - claims.IssuedAt, Scope: "openid email",
	}, nil
}

// sign makes a JWS in compact serialization (RFC 7515, section 3.1) with RS256
// (RFC 7518, section 3.3: RSASSA-PKCS1-v1_5 over SHA-256).
func (s *Issuer) sign(claims any) (string, error) {
	var payload bytes.Buffer
	e := json.NewEncoder(&payload)
	e.SetEscapeHTML(false) // a token is no HTML, and escapes make it longer
	if err := e.Encode(claims); err != nil {
		return "", fmt.Errorf("devoidc: encoding claims: %w", err)
	}
	enc := base64.RawURLEncoding
	// The kid is base64url and needs no escape.
	header := `{"alg":"RS256","kid":"` + s.kid + `","typ":"JWT"}`
	signed := enc.EncodeToString([]byte(header)) + "." + enc.EncodeToString(bytes.TrimSuffix(payload.Bytes(), []byte("\n")))
	digest := sha256.Sum256([]byte(signed))
	sig, err := s.cfg.Key.Sign(s.cfg.Rand, digest[:], crypto.SHA256)
	if err != nil {
		return "", fmt.Errorf("devoidc: signing a token: %w", err)
	}
	token := signed + "." + enc.EncodeToString(sig)
	if len(token) > maxToken {
		return "", fmt.Errorf("devoidc: token of %d bytes: want shorter claims, at most %d bytes", len(token), maxToken)
	}
	return token, nil
}
