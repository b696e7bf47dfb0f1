package e2e

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/sigstack/sigstack/ca/catest"
	"github.com/sigstack/sigstack/test/harness"
)

// startProvider starts an identity provider of people. It is reached by the name localhost.
func startProvider(t *testing.T) *catest.Issuer {
	t.Helper()
	var issuer *catest.Issuer
	provider := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer, err := issuer.RoundTrip(r)
		if err != nil {
			t.Error(err)
			return
		}
		w.Header().Set("Content-Type", answer.Header.Get("Content-Type"))
		w.WriteHeader(answer.StatusCode)
		_, _ = io.Copy(w, answer.Body) // to a client that may be gone
	}))
	t.Cleanup(provider.Close)
	issuer = catest.NewIssuer(t, strings.Replace(provider.URL, "127.0.0.1", "localhost", 1))
	return issuer
}

// policyText is a configuration with one issuer and a policy for it.
func policyText(issuer string, dryRun bool) string {
	return fmt.Sprintf(`oidc-issuers:
  %[1]s: {type: email}
policy:
  dry-run: %[2]v
  rules:
    - name: contractors
      issuers: [%[1]s]
      deny: has(claims.contractor) && claims.contractor
      message: contractors ask the release team
    - name: staff
      allow: identity.email.endsWith("@example.com") && claims.level >= 3
  default: deny
  limits:
    per-identity: {certificates: 2, per: 24h}
`, issuer, dryRun)
}

// askFor asks for a certificate with a token of somebody, and returns the answer and its message.
func askFor(t *testing.T, server *harness.Server, issuer *catest.Issuer, email string, claims map[string]any) (*http.Response, string) {
	t.Helper()
	all := map[string]any{"sub": email, "email": email, "email_verified": true}
	for name, value := range claims {
		all[name] = value
	}
	return askWith(t, server, issuer.Token(t, time.Now(), all), email, catest.ECDSA(t, elliptic.P256()))
}

// askWith does so with a token that is there, for a key that is there.
func askWith(t *testing.T, server *harness.Server, token, email string, key *ecdsa.PrivateKey) (*http.Response, string) {
	t.Helper()
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte(email))
	proof, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(map[string]any{
		"credentials": map[string]any{"oidcIdentityToken": token},
		"publicKeyRequest": map[string]any{
			"publicKey":         map[string]any{"content": string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki}))},
			"proofOfPossession": base64.StdEncoding.EncodeToString(proof),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.Post(server.URL+"/api/v2/signingCert", "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	var refusal struct{ Message string }
	if err := json.Unmarshal(text, &refusal); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return res, refusal.Message
}

// TestPolicy: real cosign is admitted and denied, and shows the message; limits say when to come back.
func TestPolicy(t *testing.T) {
	t.Parallel()
	issuer := startProvider(t)
	server := harness.Start(t, "--config", harness.Config(t, policyText(issuer.URL, false)))
	u := newUser(t, server, "")
	u.initialize("cosign3")
	u.Write("blob", []byte("blob of "+t.Name()+"\n"))
	sign := args("sign-blob", "--yes", "--bundle", "blob.json", "blob")
	token := func(claims map[string]any) {
		all := map[string]any{"sub": "1", "email": "signer@example.com", "email_verified": true, "level": 3}
		for name, value := range claims {
			all[name] = value
		}
		u.Setenv("SIGSTORE_ID_TOKEN", issuer.Token(t, time.Now(), all))
	}
	token(nil)
	u.Run("cosign3", sign...)
	u.Run("cosign3", "verify-blob", "--bundle", "blob.json", "--certificate-identity", "signer@example.com", "--certificate-oidc-issuer", issuer.URL, "blob")
	token(map[string]any{"contractor": true})
	u.Refuse("contractors ask the release team", "cosign3", sign...)
	token(map[string]any{"level": 2})
	u.Refuse("no rule allows this identity", "cosign3", sign...)

	for _, c := range []struct {
		email  string
		claims map[string]any
		status int
		text   string
	}{
		{"dev@example.com", map[string]any{"level": 3}, 200, ""},
		{"dev@example.com", map[string]any{"level": 3, "contractor": true}, 403, `denied by the policy, rule "contractors": contractors ask the release team`},
		{"dev@example.com", nil, 403, `denied by the policy, rule "staff": the claim "level" is missing`},
		{"dev@example.org", map[string]any{"level": 3}, 403, "denied by the policy: no rule allows this identity"},
		{"dev@example.com", map[string]any{"level": 3}, 200, ""},
		{"dev@example.com", map[string]any{"level": 3}, 429, "too many certificates for this identity: 2 per 24h0m0s are allowed; try again in "},
		{"other@example.com", map[string]any{"level": 3}, 200, ""},
	} {
		res, text := askFor(t, server, issuer, c.email, c.claims)
		if res.StatusCode != c.status || !strings.HasPrefix(text, c.text) || c.text == "" && text != "" {
			t.Errorf("%s %v: %d %s; want %d %s", c.email, c.claims, res.StatusCode, text, c.status, c.text)
		}
		if after := res.Header.Get("Retry-After"); (after != "") != (c.status == 429) || after != "" && !strings.HasSuffix(text, "try again in "+after+" s") {
			t.Errorf("%s %v: %d with Retry-After %q", c.email, c.claims, res.StatusCode, after)
		}
	}
	counted(t, server, map[string]float64{
		`{dry_run="false",outcome="allow",rule="staff"}`:        4,
		`{dry_run="false",outcome="deny",rule="contractors"}`:   2,
		`{dry_run="false",outcome="deny",rule="default"}`:       2,
		`{dry_run="false",outcome="error",rule="staff"}`:        1,
		`{dry_run="false",outcome="limit",rule="per-identity"}`: 1,
		`{dry_run="false",outcome="error",rule="claims"}`:       0,
	})
}

// TestPolicyDryRun: everybody is let in, and what would have been is counted.
func TestPolicyDryRun(t *testing.T) {
	t.Parallel()
	issuer := startProvider(t)
	server := harness.Start(t, "--config", harness.Config(t, policyText(issuer.URL, true)))
	for _, claims := range []map[string]any{{"level": 3}, {"level": 3}, {"level": 3}, {"contractor": true}, {"level": 1}, nil} {
		if res, text := askFor(t, server, issuer, "dev@example.com", claims); res.StatusCode != http.StatusOK {
			t.Errorf("%v: %d %s", claims, res.StatusCode, text)
		}
	}
	counted(t, server, map[string]float64{
		`{dry_run="true",outcome="allow",rule="staff"}`:        2,
		`{dry_run="true",outcome="limit",rule="per-identity"}`: 1,
		`{dry_run="true",outcome="deny",rule="contractors"}`:   1,
		`{dry_run="true",outcome="deny",rule="default"}`:       1,
		`{dry_run="true",outcome="error",rule="staff"}`:        1,
	})
}

// counted holds the count of decisions against what was asked for.
func counted(t *testing.T, server *harness.Server, want map[string]float64) {
	t.Helper()
	for labels, n := range want {
		if got, err := server.Metric("sigstack_policy_decisions_total" + labels); err != nil || got != n {
			t.Errorf("%s: %v, %v; want %v", labels, got, err, n)
		}
	}
}
