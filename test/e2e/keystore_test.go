package e2e

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sigstack/sigstack/ca"
	"github.com/sigstack/sigstack/test/harness"
	"github.com/sigstack/sigstack/test/keystore"
)

// TestKeyInToken keeps the CA's key in a token of SoftHSM. Cosign signs and
// verifies with the certificate, openssl reads it, and "sigstack init" makes every
// key but that one. A URI with a PIN in it is refused with its line.
func TestKeyInToken(t *testing.T) {
	t.Parallel()
	root, issuing := newP256(t), newP384(t)
	certs, err := ca.CreateHierarchy("Example", root, issuing, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	var chain bytes.Buffer
	for _, cert := range certs {
		pem.Encode(&chain, &pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
	}
	token := keystore.NewToken(t, map[string]crypto.Signer{"ca": issuing})
	dir := t.TempDir()
	chainFile, config := filepath.Join(dir, "chain.pem"), filepath.Join(dir, "sigstack.yaml")
	for name, text := range map[string]string{
		chainFile: chain.String(),
		config:    fmt.Sprintf("ca:\n  chain: %s\nkeys:\n  ca: %q\n", chainFile, token.URI("ca")),
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	server := harness.StartWith(t, harness.Options{Args: []string{"--config", config}, Env: token.Env})
	u := newUser(t, server, "tessa@example.com")
	u.initialize("cosign3")
	u.signBlob("blob", "--identity-token", u.token())
	u.inspect(u.token(), "email:"+u.email, server.URL+"/oidc")
	if !bytes.Equal(publishedTrust(t, server).intermediate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certs[0].Raw})) {
		t.Error("the trust root has another intermediate than that of the token's key")
	}

	made := u.Run("sigstack", "init", "--config", config, "--data-dir", u.Path("data")).Stdout
	if strings.Contains(made, "keys/ca") || !strings.Contains(made, "ctlog.pem") || !strings.Contains(made, "rekorv1.pem") {
		t.Errorf("sigstack init makes what is configured elsewhere, or not the rest:\n%s", made)
	}
	u.Write("bad.yaml", []byte("url: https://sigstore.example.com\nkeys:\n  ca: pkcs11:token=t;object=ca?module-path=/m.so&pin-value=731934\n  ctlog: hashivault://a/b\n"))
	u.Refuse("bad.yaml:3: keys.ca: the pkcs11: URI holds a PIN", "sigstack", "config", "check", "bad.yaml")
	u.Refuse("bad.yaml:4: keys.ctlog: ", "sigstack", "config", "check", "bad.yaml")
}

func newP384(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}
