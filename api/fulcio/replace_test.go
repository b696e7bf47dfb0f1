package fulcio

import (
	"crypto/elliptic"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sigstack/sigstack/ca"
	"github.com/sigstack/sigstack/ca/catest"
	"github.com/sigstack/sigstack/ca/identity"
)

// A request that is under way while the parts are replaced ends with the CA that
// it began with; the next one begins with the other, and so do trust bundle and
// configuration.
func TestReplace(t *testing.T) {
	w := newWorld(t)
	clock := func() time.Time { return w.now }
	key := catest.ECDSA(t, elliptic.P256())
	certs, err := ca.CreateHierarchy("Next", catest.ECDSA(t, elliptic.P256()), key, w.now.Add(-time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	chain, err := ca.NewChain(certs, key)
	if err != nil {
		t.Fatal(err)
	}
	authority, err := ca.New(ca.Config{Chain: chain, CTLog: w.log, Audit: w.audit, Now: clock})
	if err != nil {
		t.Fatal(err)
	}
	verifier := w.issuer.Verifier(t, clock, identity.Issuer{URL: "https://added.example.com", ClientID: "sigstore", Type: "email"})

	organization := func(body string) string {
		t.Helper()
		var answer struct {
			SignedCertificateEmbeddedSct struct {
				Chain struct{ Certificates []string }
			}
		}
		if err := json.Unmarshal([]byte(body), &answer); err != nil {
			t.Fatal(err)
		}
		return w.checkChain(answer.SignedCertificateEmbeddedSct.Chain.Certificates).Issuer.Organization[0]
	}
	verifies, goOn := make(chan struct{}), make(chan struct{})
	hold := func() { close(verifies); <-goOn }
	w.issuer.Hold.Store(&hold)
	underWay := make(chan string)
	body := w.v2Body(email)
	go func() {
		_, text := w.do(http.MethodPost, "/api/v2/signingCert", body)
		underWay <- text
	}()
	<-verifies
	if err := w.service.Replace(Parts{CA: authority, Verifier: verifier}); err != nil {
		t.Fatal(err)
	}
	_, text := w.do(http.MethodPost, "/api/v2/signingCert", w.v2Body(email))
	if got := organization(text); got != "Next" {
		t.Errorf("after it was replaced, %s issues", got)
	}
	close(goOn)
	if got := organization(<-underWay); got != "Example" {
		t.Errorf("a request that began before ends with %s", got)
	}
	if _, text := w.do(http.MethodGet, "/api/v2/trustBundle", nil); !strings.Contains(text, strings.ReplaceAll(certificatePEM(certs[0].Raw), "\n", "\\n")) {
		t.Errorf("trust bundle: %s", text)
	}
	if _, text := w.do(http.MethodGet, "/api/v2/configuration", nil); !strings.Contains(text, "https://added.example.com") {
		t.Errorf("configuration: %s", text)
	}
	for _, p := range []Parts{{CA: authority}, {Verifier: verifier}} {
		if err := w.service.Replace(p); err == nil {
			t.Error("half of the parts are taken")
		}
	}
	_, text = w.do(http.MethodPost, "/api/v2/signingCert", w.v2Body(email))
	if got := organization(text); got != "Next" {
		t.Errorf("after what cannot be used, %s issues", got)
	}
}
