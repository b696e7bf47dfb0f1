package keystore

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

// VaultToken is what a Vault demands in X-Vault-Token.
const VaultToken = "hvs.planted-token-of-a-vault-0123456789"

// NewVault starts a Vault with the transit engine and keys.
func NewVault(t testing.TB, keys map[string]crypto.Signer) *Store {
	t.Helper()
	s := newStore(t, keys, serveHTTP(nil, vaultTrouble, vaultRequest))
	s.URL = "http://" + s.addr
	return s
}

// vaultTrouble quotes the token, as a careless server or proxy might.
func vaultTrouble(_ *Store, w http.ResponseWriter, status int) {
	answer(w, status, "application/json", map[string]any{"errors": []string{"trouble\nwith token " + VaultToken}})
}

func vaultRequest(s *Store, w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("X-Vault-Token") != VaultToken {
		answer(w, http.StatusForbidden, "application/json", map[string]any{"errors": []string{"permission denied"}})
		return
	}
	path := strings.Split(strings.TrimPrefix(r.URL.Path, "/v1/transit/"), "/")
	if len(path) < 2 || s.keys[path[1]] == nil {
		answer(w, http.StatusNotFound, "application/json", map[string]any{"errors": []string{}})
		return
	}
	switch {
	case r.Method == http.MethodGet && len(path) == 2 && path[0] == "keys":
		der, err := x509.MarshalPKIXPublicKey(s.keys[path[1]].Public())
		if err != nil {
			s.strange(w, "%v", err)
			return
		}
		kind, name := "rsa-2048", "rsa-2048"
		if k, ok := s.keys[path[1]].Public().(*ecdsa.PublicKey); ok {
			kind, name = "ecdsa-p"+strconv.Itoa(k.Params().BitSize), k.Params().Name
		}
		answer(w, http.StatusOK, "application/json", map[string]any{"data": map[string]any{
			"type": kind, "name": path[1], "latest_version": 1, "min_available_version": 0, "supports_signing": true,
			"keys": map[string]any{"1": map[string]any{"creation_time": "2026-01-01T00:00:00Z", "name": name, "public_key": string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))}},
		}})
	case (r.Method == http.MethodPut || r.Method == http.MethodPost) && len(path) == 3 && path[0] == "sign":
		var request struct {
			Input              string `json:"input"`
			Prehashed          bool   `json:"prehashed"`
			KeyVersion         string `json:"key_version"`
			SignatureAlgorithm string `json:"signature_algorithm"`
		}
		err := s.read(r, &request)
		digest, err2 := base64.StdEncoding.DecodeString(request.Input)
		hash, err3 := hashOf(digest)
		want := map[crypto.Hash]string{crypto.SHA256: "sha2-256", crypto.SHA384: "sha2-384"}[hash]
		if err != nil || err2 != nil || err3 != nil || !request.Prehashed || path[2] != want || request.KeyVersion != "0" || request.SignatureAlgorithm != "pkcs1v15" {
			s.strange(w, "Vault does not understand %s %+v (%v %v %v)", r.URL.Path, request, err, err2, err3)
			return
		}
		answer(w, http.StatusOK, "application/json", map[string]any{"data": map[string]any{
			"signature": "vault:v1:" + base64.StdEncoding.EncodeToString(s.sign(path[1], digest, hash)), "key_version": 1,
		}})
	default:
		s.strange(w, "Vault has nothing at %s %s", r.Method, r.URL.Path)
	}
}
