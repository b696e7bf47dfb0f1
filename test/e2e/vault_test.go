package e2e

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sigstack/sigstack/ca"
	"github.com/sigstack/sigstack/test/harness"
)

// A vault is a HashiCorp Vault with a transit engine.
type vault struct {
	*harness.Process
	t                      *testing.T
	Address, Token, Unseal string
}

func startVault(t *testing.T) *vault {
	t.Helper()
	v := &vault{t: t, Process: harness.NewClient(t).Start("vault", harness.FreeAddr(t))}
	line := v.Line(time.Minute, "Vault listens", func(line string) bool { return strings.HasPrefix(line, `{"address"`) })
	if err := json.Unmarshal([]byte(line), v); err != nil {
		t.Fatal(err)
	}
	v.do("POST", "sys/mounts/transit", `{"type":"transit"}`)
	return v
}

// do asks the Vault and returns what it answers.
func (v *vault) do(method, path, body string) (answer struct{ Data json.RawMessage }) {
	v.t.Helper()
	req, err := http.NewRequest(method, v.Address+"/v1/"+path, strings.NewReader(body))
	if err != nil {
		v.t.Fatal(err)
	}
	req.Header.Set("X-Vault-Token", v.Token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		v.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode >= 300 {
		v.t.Fatalf("%s %s: %d %s (%v)", method, path, res.StatusCode, text, err)
	}
	if len(text) > 0 {
		if err := json.Unmarshal(text, &answer); err != nil {
			v.t.Fatal(err)
		}
	}
	return answer
}

// make has the Vault make a key, and returns its public half.
func (v *vault) make(name, kind string) crypto.PublicKey {
	v.t.Helper()
	v.do("POST", "transit/keys/"+name, `{"type":"`+kind+`"}`)
	var key struct {
		Keys map[string]struct {
			PublicKey string `json:"public_key"`
		}
	}
	if err := json.Unmarshal(v.do("GET", "transit/keys/"+name, "").Data, &key); err != nil {
		v.t.Fatal(err)
	}
	block, _ := pem.Decode([]byte(key.Keys["1"].PublicKey))
	if block == nil {
		v.t.Fatalf("Vault has no public key of %s", name)
	}
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		v.t.Fatal(err)
	}
	return public
}

// signal sends a signal to the Vault.
func (v *vault) signal(s syscall.Signal) {
	v.t.Helper()
	if err := syscall.Kill(v.PID(), s); err != nil {
		v.t.Fatal(err)
	}
}

// publicOnly is a key whose private half is elsewhere.
type publicOnly struct {
	crypto.Signer
	public crypto.PublicKey
}

func (k publicOnly) Public() crypto.PublicKey { return k.public }

// TestVault keeps every key that signs in a HashiCorp Vault, which makes them. Cosign
// signs and verifies, openssl reads the certificate. A Vault that is sealed, that does
// not answer, or that signs with a newer version of the key gives 503 and neither
// certificate nor entry; unsealed and woken it needs no restart of the server.
func TestVault(t *testing.T) {
	t.Parallel()
	v := startVault(t)
	root := newP256(t)
	certs, err := ca.CreateHierarchy("Example", root, publicOnly{public: v.make("ca", "ecdsa-p384")}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	var chain bytes.Buffer
	for _, cert := range certs {
		pem.Encode(&chain, &pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
	}
	config := harness.NewClient(t)
	config.Write("chain.pem", chain.Bytes())
	text := "ca:\n  chain: " + config.Path("chain.pem") + "\nkeys:\n  ca: hashivault://ca\n"
	for _, role := range []string{"ctlog", "rekorv1", "tuf-root", "tuf-targets", "tuf-snapshot", "tuf-timestamp"} {
		v.make(role, "ecdsa-p256")
		text += fmt.Sprintf("  %s: hashivault://%s\n", role, role)
	}
	config.Write("sigstack.yaml", []byte(text))
	leaks := harness.NewLeaks()
	leaks.Secret(v.Token, "the token of the Vault")
	server := harness.StartWith(t, harness.Options{
		Args: []string{"--config", config.Path("sigstack.yaml")},
		Env:  []string{"VAULT_ADDR=" + v.Address, "VAULT_TOKEN=" + v.Token}, Leaks: leaks,
	})
	u := newUser(t, server, "vera@example.com")
	u.initialize("cosign3")
	u.signBlob("blob", "--identity-token", u.token())
	u.inspect(u.token(), "email:"+u.email, server.URL+"/oidc")

	load := harness.NewLoad(t, server, harness.NewLedger(t, config.Path("ledger")), nil, 1)
	both := func(what string, granted bool) {
		t.Helper()
		for kind, status := range map[string]int{harness.KindCertificate: http.StatusOK, harness.KindEntry: http.StatusCreated} {
			if !granted {
				status = http.StatusServiceUnavailable
			}
			if r := load.One(kind); r.Status != status {
				t.Errorf("%s, and a request for a %s is answered with %d %s, want %d", what, kind, r.Status, r.Error, status)
			}
		}
	}
	well := func(what string) {
		t.Helper()
		server.WaitReady(time.Minute)
		both(what, true)
	}
	well("the Vault is well")
	v.do("PUT", "sys/seal", "")
	both("the Vault is sealed", false)
	v.do("PUT", "sys/unseal", `{"key":"`+v.Unseal+`"}`)
	well("the Vault is unsealed")
	v.signal(syscall.SIGSTOP)
	both("the Vault is silent", false)
	v.signal(syscall.SIGCONT)
	well("the Vault answers again")
	u.signBlob("later", "--identity-token", u.token())
	for _, name := range []string{"ca", "rekorv1"} {
		v.do("POST", "transit/keys/"+name+"/rotate", "")
	}
	both("the Vault signs with newer keys", false)
	u.verifyBlob("blob")
	if found, _ := leaks.Found(); len(found) > 0 {
		t.Error(found)
	}
}
