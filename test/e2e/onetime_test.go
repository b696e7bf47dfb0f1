package e2e

import (
	"crypto/elliptic"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/sigstack/sigstack/ca/catest"
	"github.com/sigstack/sigstack/test/harness"
)

// TestOneTimeTokens: cosign has a certificate by a token, and none for a second key, which
// is what a thief of the token has; nor is there one after a restart. Whoever asks again
// for the same key, as a client does that lost the answer, has one.
func TestOneTimeTokens(t *testing.T) {
	t.Parallel()
	issuer := startProvider(t)
	server := harness.Start(t, "--config", harness.Config(t, fmt.Sprintf("oidc-issuers:\n  %s: {type: email, one-time-tokens: true}\n", issuer.URL)))
	u := newUser(t, server, "signer@example.com")
	u.initialize("cosign3")
	u.Write("blob", []byte("blob of "+t.Name()+"\n"))
	// Two tokens of one second without an ID would be one.
	token := func(id string) string {
		return issuer.Token(t, time.Now(), map[string]any{"sub": "1", "email": u.email, "email_verified": true, "jti": id})
	}
	const refusal = "the token was used for another key already: tokens of this issuer are good for one key; request a new token"
	u.Setenv("SIGSTORE_ID_TOKEN", token("first"))
	sign := args("sign-blob", "--yes", "--bundle", "blob.json", "blob")
	u.Run("cosign3", sign...)
	u.Refuse(refusal, "cosign3", sign...)
	server.Kill()
	server.Restart()
	u.Refuse(refusal, "cosign3", sign...)
	u.Run("cosign3", "verify-blob", "--bundle", "blob.json", "--certificate-identity", u.email, "--certificate-oidc-issuer", issuer.URL, "blob")

	once, mine, other := token("second"), catest.ECDSA(t, elliptic.P256()), catest.ECDSA(t, elliptic.P256())
	for range 3 {
		if res, text := askWith(t, server, once, u.email, mine); res.StatusCode != http.StatusOK {
			t.Errorf("the same key again: %d %s", res.StatusCode, text)
		}
	}
	if res, text := askWith(t, server, once, u.email, other); res.StatusCode != http.StatusBadRequest || text != "There was an error processing the identity token: "+refusal {
		t.Errorf("another key: %d %s", res.StatusCode, text)
	}
}
