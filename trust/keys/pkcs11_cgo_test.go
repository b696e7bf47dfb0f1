//go:build cgo

package keys

import (
	"context"
	"crypto"
	"crypto/elliptic"
	"crypto/sha256"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sigstack/sigstack/test/keystore"
)

// A real token signs with each kind of key, fails in every way, and signs again
// when it is well: one test, because a process loads a module once.
func TestToken(t *testing.T) {
	keys := testKeys(t)
	token := keystore.NewToken(t, keys) // P-256 has the ID 01, P-384 02
	token.Import("twice", "04", newKey(t, elliptic.P256()))
	token.Import("twice", "05", newKey(t, elliptic.P256()))
	for _, v := range token.Env {
		name, value, _ := strings.Cut(v, "=")
		t.Setenv(name, value)
	}
	wrongPIN(t, token)
	for name, key := range keys {
		s, err := Open(context.Background(), token.URI(name))
		if err != nil {
			t.Fatal(err)
		}
		if !s.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(key.Public()) {
			t.Errorf("%s: another key was opened", name)
		}
		for range 3 {
			if !verifies(t, s) {
				t.Errorf("%s: the signature does not verify", name)
			}
		}
	}
	byID, err := Open(context.Background(), strings.Replace(token.URI("x"), "object=x", "id=%02", 1))
	if err != nil || !verifies(t, byID) {
		t.Errorf("a key by its id: %v", err)
	}

	s, err := Open(context.Background(), token.URI("P-256"))
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte("message"))
	for name, fault := range keystore.Faults() {
		t.Run(name, func(t *testing.T) {
			token.Set(fault)
			if fault == keystore.Silent {
				s.(*remote).options.limit = 200 * time.Millisecond
			}
			if fault == keystore.WrongKey {
				if verifies(t, s) {
					t.Error("a wrong signature verifies")
				}
			} else if _, err := s.Sign(nil, sum[:], crypto.SHA256); err == nil {
				t.Error("Sign by a token with a fault gives a signature")
			} else {
				t.Log(err)
				checkPlain(t, err)
			}
			token.Set(keystore.None)
			s.(*remote).options.limit = 0
			for range 2 {
				if !verifies(t, s) {
					t.Error("the token is well, and its key does not sign")
				}
			}
		})
	}

	for uri, part := range map[string]string{
		token.URI("other"): "no private key",
		token.URI("twice"): "several private keys",
		strings.Replace(token.URI("P-256"), "token=sigstack", "token=other", 1):        "no token",
		strings.Replace(token.URI("P-256"), "token=sigstack", "slot-id=4294967295", 1): "no token",
		strings.Replace(token.URI("P-256"), "module.so", "no.so", 1):                   "cannot be loaded",
		strings.Replace(token.URI("P-256"), "/pin", "/no-such-pin", 1):                 "no-such-pin",
	} {
		_, err := Open(context.Background(), uri)
		wantError(t, err, part)
	}
	if err := os.Chmod(filepath.Join(token.Dir(), "pin"), 0o640); err != nil {
		t.Fatal(err)
	}
	_, err = Open(context.Background(), token.URI("P-256"))
	wantError(t, err, "chmod 0600")
}

// wrongPIN opens a key with a PIN that the token refuses, which is not tried again
// until its file changes. It comes before any login: a process logs in once.
func wrongPIN(t *testing.T, hsm *keystore.Token) {
	t.Helper()
	key, err := parsePKCS11(strings.Replace(hsm.URI("P-256"), "/pin", "/wrong-pin", 1))
	if err != nil {
		t.Fatal(err)
	}
	k := &token{key: key}
	_, err = k.open()
	wantError(t, err, "refuses the PIN", "wrong-pin")
	_, err = k.open()
	wantError(t, err, "not tried again")
	if strings.Contains(err.Error(), "000000") {
		t.Errorf("the error holds the PIN: %v", err)
	}
	write(t, key.pin, []byte(keystore.TokenPIN), 0o600)
	if _, err := k.open(); err != nil {
		t.Errorf("with the right PIN: %v", err)
	}
}
