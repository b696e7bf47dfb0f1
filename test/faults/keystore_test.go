package faults

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sigstack/sigstack/ca"
	"github.com/sigstack/sigstack/test/harness"
	"github.com/sigstack/sigstack/test/keystore"
)

// A keyStore has all keys of a server.
type keyStore struct {
	env     []string          // of the server
	uris    map[string]string // of the keys, by role
	set     func(keystore.Fault)
	secrets []string
}

// roles are the keys that sign, each with the curve that it is on here.
var roles = map[string]elliptic.Curve{
	"ca": elliptic.P384(), "ctlog": elliptic.P256(), "rekorv1": elliptic.P256(),
	"tuf-root": elliptic.P256(), "tuf-targets": elliptic.P256(), "tuf-snapshot": elliptic.P256(), "tuf-timestamp": elliptic.P256(),
}

// inVault keeps the keys in a Vault.
func inVault(t *testing.T, keys map[string]*ecdsa.PrivateKey) keyStore {
	t.Helper()
	signers := map[string]crypto.Signer{}
	k := keyStore{uris: map[string]string{}, secrets: []string{keystore.VaultToken}}
	for role, key := range keys {
		signers[role] = key
		k.uris[role] = "hashivault://" + role
	}
	vault := keystore.NewVault(t, signers)
	k.set = vault.Set
	k.env = []string{"VAULT_ADDR=" + vault.URL, "VAULT_TOKEN=" + keystore.VaultToken}
	return k
}

// inToken keeps the keys in a token of SoftHSM.
func inToken(t *testing.T, keys map[string]*ecdsa.PrivateKey) keyStore {
	t.Helper()
	signers := map[string]crypto.Signer{}
	for role, key := range keys {
		signers[role] = key
	}
	token := keystore.NewToken(t, signers)
	k := keyStore{env: token.Env, uris: map[string]string{}, set: token.Set, secrets: []string{keystore.TokenPIN}}
	for role := range keys {
		k.uris[role] = token.URI(role)
	}
	return k
}

// TestKeyStore (F11) keeps all keys of a server outside of it: in a Vault, and in
// a real PKCS #11 token. A key store that is silent, overloaded, broken, gone, or
// signs with another key gives 503 and neither certificate nor entry; what comes
// after it is well again needs no restart, and openssl accepts what it signed.
func TestKeyStore(t *testing.T) {
	t.Parallel()
	for name, keep := range map[string]func(*testing.T, map[string]*ecdsa.PrivateKey) keyStore{"Vault": inVault, "PKCS 11": inToken} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			keys := map[string]*ecdsa.PrivateKey{}
			for role, curve := range roles {
				key, err := ecdsa.GenerateKey(curve, rand.Reader)
				if err != nil {
					t.Fatal(err)
				}
				keys[role] = key
			}
			store := keep(t, keys)
			dir := t.TempDir()
			config := configure(t, dir, keys["ca"], store.uris)
			b := newBench(t, sqlite, dir, seed(t), harness.Options{Args: []string{"--config", config}, Env: store.env})
			for _, secret := range store.secrets {
				b.leaks.Secret(secret, "what a key store demands")
			}
			b.Restart()
			b.allow = []int{http.StatusServiceUnavailable}
			b.recorder.Start()
			certificate := b.load.One(harness.KindCertificate)
			if certificate.Status != http.StatusOK {
				t.Fatalf("a certificate: %d %s", certificate.Status, certificate.Error)
			}
			checkWithOpenSSL(t, certificate.Chain)
			b.load.Entries(3)
			for name, fault := range keystore.Faults() {
				store.set(fault)
				for _, kind := range []string{harness.KindCertificate, harness.KindEntry} {
					r := b.load.One(kind)
					if r.Status != http.StatusServiceUnavailable {
						t.Errorf("%s, and its key store is %s: %d %s, want 503", kind, name, r.Status, r.Error)
					}
				}
				store.set(keystore.None)
				b.WaitReady(time.Minute)
				b.load.Certificates(2)
				b.load.Entries(2)
			}
			b.recorder.Stop()
			b.verify()
			if n, err := b.Metric(`sigstack_key_signature_failures_total{name="ca"}`); err != nil || n == 0 {
				t.Errorf("%v failures of the CA's key in the metrics (%v)", n, err)
			}
			if made, err := filepath.Glob(filepath.Join(b.Dir, "keys", "*.pem")); err != nil || len(made) != 1 {
				t.Errorf("the server made %v (%v), want the key of the development issuer alone", made, err)
			}
			t.Log(b.summary())
		})
	}
}

// configure writes a configuration with keys elsewhere, and the chain of the CA's.
func configure(t *testing.T, dir string, issuing crypto.Signer, uris map[string]string) string {
	t.Helper()
	root, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	certs, err := ca.CreateHierarchy("Example", root, issuing, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	text := "ca:\n  chain: " + write("chain.pem", chainPEM(certs[0].Raw, certs[1].Raw)) + "\nkeys:\n"
	for role, uri := range uris {
		text += "  " + role + ": \"" + uri + "\"\n"
	}
	return write("sigstack.yaml", []byte(text))
}

func chainPEM(certs ...[]byte) []byte {
	var out bytes.Buffer
	for _, der := range certs {
		pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: der})
	}
	return out.Bytes()
}

// checkWithOpenSSL has openssl verify a certificate.
func checkWithOpenSSL(t *testing.T, chain [][]byte) {
	t.Helper()
	if len(chain) != 3 {
		t.Fatalf("%d certificates, want leaf, intermediate and root", len(chain))
	}
	c := harness.NewClient(t)
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		t.Fatal(err)
	}
	c.Write("leaf.pem", chainPEM(leaf.Raw))
	c.Write("intermediate.pem", chainPEM(chain[1]))
	c.Write("root.pem", chainPEM(chain[2]))
	if out := c.Run("openssl", "verify", "-purpose", "any", "-CAfile", "root.pem", "-untrusted", "intermediate.pem", "leaf.pem").Stdout; !strings.Contains(out, "OK") {
		t.Errorf("openssl verify: %s", out)
	}
}
