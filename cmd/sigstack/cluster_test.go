package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sigstack/sigstack/ca/catest"
	"github.com/sigstack/sigstack/ca/identity"
)

// TestCluster issues to a service account of the cluster that sigstack runs in:
// the keys come from an API server with a certificate of the cluster's CA, which
// answers to the pod's token alone.
func TestCluster(t *testing.T) {
	const issuer = "https://kubernetes.default.svc.cluster.local"
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"kubernetes.default.svc.cluster.local"}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	provider := catest.NewIssuer(t, issuer)
	asked, current := 0, "first"
	api := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked++; r.Header.Get("Authorization") != "Bearer "+current {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		answer, err := provider.RoundTrip(r)
		if err != nil {
			t.Error(err)
			return
		}
		w.Header().Set("Content-Type", answer.Header.Get("Content-Type"))
		w.WriteHeader(answer.StatusCode)
		if _, err := io.Copy(w, answer.Body); err != nil {
			t.Error(err)
		}
	}))
	api.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	api.StartTLS()
	defer api.Close()

	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	config := identity.Issuer{URL: issuer, ClientID: catest.Audience, Type: "kubernetes"}
	here, ok := clusterOf(config).(cluster)
	if !ok || here.dir != podFiles {
		t.Fatalf("%+v", here)
	}
	here.dir = dir
	here.dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, api.Listener.Addr().String())
	}
	config.Transport = here
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	verify := func() (identity.Identity, error) {
		v, err := identity.NewVerifier(identity.Config{Issuers: []identity.Issuer{config}}, identity.Options{Now: func() time.Time { return now }})
		if err != nil {
			t.Fatal(err)
		}
		return v.Verify(t.Context(), provider.Token(t, now, map[string]any{
			"sub": "system:serviceaccount:prod:builder", "kubernetes.io": map[string]any{"namespace": "prod", "serviceaccount": map[string]any{"name": "builder"}},
		}))
	}
	refused := func(want string) {
		t.Helper()
		if _, err := verify(); !errors.Is(err, identity.ErrIssuerUnavailable) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	refused("ca.crt")
	write("ca.crt", "nothing")
	refused("no PEM certificate")
	write("ca.crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	refused("token")
	write("token", "another\n")
	refused("401")
	for _, current = range []string{"first", "second"} { // which Kubernetes replaces in place
		write("token", current+"\n")
		id, err := verify()
		if err != nil || id.SAN().Value != "https://kubernetes.io/namespaces/prod/serviceaccounts/builder" {
			t.Errorf("%v, %v", id.SAN(), err)
		}
	}

	// The token goes to the issuer's host by TLS, and nowhere else.
	before := asked
	for _, url := range []string{"https://kubernetes.default.svc.example.com/keys", "http://kubernetes.default.svc.cluster.local/keys", issuer + ":6443/keys"} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		if answer, err := here.RoundTrip(r); err == nil {
			answer.Body.Close()
			t.Errorf("%s was asked", url)
		}
	}
	if asked != before {
		t.Errorf("%d requests", asked-before)
	}
	for _, i := range []identity.Issuer{
		{URL: issuer, Type: "email"},
		{URL: issuer, Type: "kubernetes", CACert: "x"},
		{URL: "https://kubernetes.default.svcx", Type: "kubernetes"},
		{URL: "https://oidc.example.com", Type: "kubernetes"},
		{URL: "https://kubernetes.default.svc.*.example.com", Type: "kubernetes"},
	} {
		if clusterOf(i) != nil {
			t.Errorf("%+v is taken for the cluster's own issuer", i)
		}
	}
}
