package keystore

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/tls"
	"encoding/asn1"
	"encoding/base64"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"
)

// What an Azure demands: of whoever asks for a token, and of whoever has one.
const (
	AzureHeader = "planted-identity-header-of-azure-0123456789"
	AzureToken  = "planted.access.token-of-azure-0123456789"
)

// NewAzure starts an Azure Key Vault with one key, whatever name it is asked for,
// over TLS with a certificate, and the endpoint that gives a managed identity its
// tokens: the values of IDENTITY_ENDPOINT and IDENTITY_HEADER.
func NewAzure(t testing.TB, key crypto.Signer, certificate tls.Certificate) (s *Store, endpoint string) {
	t.Helper()
	s = newStore(t, one(key), serveHTTP(&certificate, azureTrouble, azureRequest))
	s.URL = "https://" + s.addr
	tokens := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-IDENTITY-HEADER") != AzureHeader || r.URL.Query().Get("resource") == "" {
			s.strange(w, "the identity endpoint does not understand %s", r.URL)
			return
		}
		answer(w, http.StatusOK, "application/json", map[string]any{
			"access_token": AzureToken, "token_type": "Bearer", "resource": r.URL.Query().Get("resource"),
			"expires_on": strconv.FormatInt(time.Now().Add(24*time.Hour).Unix(), 10),
		})
	}))
	t.Cleanup(tokens.Close)
	return s, tokens.URL
}

func azureTrouble(_ *Store, w http.ResponseWriter, status int) {
	answer(w, status, "application/json", map[string]any{"error": map[string]string{"code": "Trouble", "message": "trouble\nwith Bearer " + AzureToken}})
}

func azureRequest(s *Store, w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != "Bearer "+AzureToken {
		// The client wants its vault to be below the host that it gets a token for.
		_, parent, _ := strings.Cut(r.Host, ".")
		w.Header().Set("WWW-Authenticate", `Bearer authorization="https://login.microsoftonline.com/00000000-0000-0000-0000-000000000000", resource="https://`+parent+`"`)
		answer(w, http.StatusUnauthorized, "application/json", map[string]any{"error": map[string]string{"code": "Unauthorized"}})
		return
	}
	raw := base64.RawURLEncoding.EncodeToString
	path := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	if r.URL.Query().Get("api-version") == "" || path[0] != "keys" || len(path) < 2 {
		s.strange(w, "Azure Key Vault has nothing at %s", r.URL)
		return
	}
	kid := s.URL + "/keys/" + path[1] + "/0123456789abcdef0123456789abcdef"
	size, algorithm := 0, "RS256"
	jwk := map[string]any{"kid": kid, "key_ops": []string{"sign", "verify"}}
	switch k := s.keys[only].Public().(type) {
	case *ecdsa.PublicKey:
		size = (k.Params().BitSize + 7) / 8
		algorithm = "ES" + strconv.Itoa(k.Params().BitSize)
		point, err := k.Bytes()
		if err != nil {
			s.strange(w, "%v", err)
			return
		}
		jwk["kty"], jwk["crv"], jwk["x"], jwk["y"] = "EC-HSM", k.Params().Name, raw(point[1:1+size]), raw(point[1+size:])
	case *rsa.PublicKey:
		jwk["kty"], jwk["n"], jwk["e"] = "RSA-HSM", raw(k.N.Bytes()), raw(big.NewInt(int64(k.E)).Bytes())
	}
	if r.Method == http.MethodGet {
		answer(w, http.StatusOK, "application/json", map[string]any{"key": jwk, "attributes": map[string]any{"enabled": true}})
		return
	}
	var request struct{ Alg, Value string }
	err := s.read(r, &request)
	digest, err2 := base64.RawURLEncoding.DecodeString(request.Value)
	hash, err3 := hashOf(digest)
	if r.Method != http.MethodPost || path[len(path)-1] != "sign" || err != nil || err2 != nil || err3 != nil || request.Alg != algorithm {
		s.strange(w, "Azure Key Vault does not understand %s %s %+v (%v %v %v)", r.Method, r.URL, request, err, err2, err3)
		return
	}
	signature := s.sign(only, digest, hash)
	if size > 0 { // r and s, without ASN.1
		var parts struct{ R, S *big.Int }
		if _, err := asn1.Unmarshal(signature, &parts); err != nil {
			s.strange(w, "%v", err)
			return
		}
		signature = append(parts.R.FillBytes(make([]byte, 48))[48-min(size, 48):], parts.S.FillBytes(make([]byte, 48))[48-min(size, 48):]...)
	}
	answer(w, http.StatusOK, "application/json", map[string]string{"kid": kid, "value": raw(signature)})
}
