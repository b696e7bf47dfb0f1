package keys

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func newKey(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// A key store that does not answer costs SignTimeout, whether its driver heeds the
// context or not, and MaxSigning calls at most are under way. When it answers
// again, so does the signer.
func TestRemoteIsBounded(t *testing.T) {
	for name, heeds := range map[string]bool{"driver that heeds its context": true, "driver that does not": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				key := newKey(t, elliptic.P256())
				well := make(chan struct{})
				var mu sync.Mutex
				underWay, most, observed, failed := 0, 0, 0, 0
				r, err := newRemote(key.Public(), func(ctx context.Context, digest []byte, hash crypto.Hash) ([]byte, error) {
					mu.Lock()
					underWay++
					most = max(most, underWay)
					mu.Unlock()
					defer func() { mu.Lock(); underWay--; mu.Unlock() }()
					if heeds {
						select {
						case <-well:
						case <-ctx.Done():
							return nil, ctx.Err()
						}
					} else {
						<-well
					}
					return key.Sign(rand.Reader, digest, hash)
				}, Options{Observe: func(took time.Duration, err error) {
					mu.Lock()
					defer mu.Unlock()
					observed++
					if err != nil {
						failed++
						if took != SignTimeout {
							t.Errorf("a signature failed after %v, want %v", took, SignTimeout)
						}
					}
				}})
				if err != nil {
					t.Fatal(err)
				}
				digest := sha256.Sum256([]byte("message"))
				const callers = 3 * MaxSigning
				var group sync.WaitGroup
				for range callers {
					group.Go(func() {
						if _, err := r.Sign(nil, digest[:], crypto.SHA256); err == nil || !strings.Contains(err.Error(), SignTimeout.String()) {
							t.Errorf("Sign = %v, want an error that says how long it waited", err)
						}
					})
				}
				group.Wait()
				// With a driver that gives up in time, one caller after another
				// had its turn; with the other, nobody did after the first.
				synctest.Wait() // calls may outlive their callers
				mu.Lock()
				if most != MaxSigning || observed != callers || failed != callers {
					t.Errorf("%d calls at once, %d observed, %d failed; want %d, %d, %d", most, observed, failed, MaxSigning, callers, callers)
				}
				mu.Unlock()
				close(well)
				synctest.Wait()
				signature, err := r.Sign(nil, digest[:], crypto.SHA256)
				if err != nil || !ecdsa.VerifyASN1(&key.PublicKey, digest[:], signature) {
					t.Errorf("Sign by a store that is well again = %v", err)
				}
			})
		})
	}
}

// A driver that panics fails one signature, and gives its turn back.
func TestRemoteOutlivesPanics(t *testing.T) {
	key := newKey(t, elliptic.P256())
	r, err := newRemote(key.Public(), func(context.Context, []byte, crypto.Hash) ([]byte, error) {
		var answer *struct{ signature []byte }
		return answer.signature, nil
	}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 * MaxSigning {
		_, err := r.Sign(nil, make([]byte, 32), crypto.SHA256)
		wantError(t, err, "makes no sense")
	}
}

// The digest that is asked for is the caller's as it was.
func TestRemoteKeepsDigest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key, got := newKey(t, elliptic.P256()), make(chan []byte, 1)
		r, err := newRemote(key.Public(), func(_ context.Context, digest []byte, _ crypto.Hash) ([]byte, error) {
			time.Sleep(2 * SignTimeout)
			got <- digest
			return []byte("a signature that comes too late"), nil
		}, Options{})
		if err != nil {
			t.Fatal(err)
		}
		digest := sha256.Sum256([]byte("message"))
		buffer := digest[:]
		if _, err := r.Sign(nil, buffer, crypto.SHA256); err == nil {
			t.Error("Sign waits longer than its limit")
		}
		want := string(buffer)
		clear(buffer)
		if string(<-got) != want {
			t.Error("the digest changed with the caller's buffer")
		}
	})
}

func TestRemoteKinds(t *testing.T) {
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	modulus := func(bits uint) *rsa.PublicKey {
		return &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), bits-1), E: 65537}
	}
	for name, c := range map[string]struct {
		key  crypto.PublicKey
		part string
	}{
		"P-256":    {newKey(t, elliptic.P256()).Public(), ""},
		"P-384":    {newKey(t, elliptic.P384()).Public(), ""},
		"P-224":    {newKey(t, elliptic.P224()).Public(), "another kind"},
		"P-521":    {newKey(t, elliptic.P521()).Public(), "another kind"},
		"Ed25519":  {ed.Public(), "another kind"},
		"RSA 1024": {modulus(1024), "1024 bits"},
		"RSA 2048": {modulus(2048), ""},
		"RSA 4096": {modulus(4096), ""},
		"RSA 8192": {modulus(8192), "8192 bits"},
		"nothing":  {nil, "another kind"},
	} {
		_, err := newRemote(c.key, nil, Options{})
		if c.part == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		wantError(t, err, c.part)
	}
}

func TestRemoteHashes(t *testing.T) {
	key := newKey(t, elliptic.P384())
	r, err := newRemote(key.Public(), func(_ context.Context, digest []byte, hash crypto.Hash) ([]byte, error) {
		return key.Sign(rand.Reader, digest, hash)
	}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		size int
		opts crypto.SignerOpts
		ok   bool
	}{
		{32, crypto.SHA256, true},
		{48, crypto.SHA384, true},
		{32, crypto.SHA384, false},
		{20, crypto.SHA1, false},
		{64, crypto.SHA512, false},
		{32, crypto.Hash(0), false},
		{32, &rsa.PSSOptions{Hash: crypto.SHA256}, false},
	} {
		if _, err := r.Sign(nil, make([]byte, c.size), c.opts); (err == nil) != c.ok {
			t.Errorf("%d bytes of %v: %v", c.size, c.opts, err)
		}
	}
}

// What a driver says is one line without secrets.
func TestPlain(t *testing.T) {
	o := Options{Secrets: []string{"hvs.planted-secret", "", "planted\nlines"}}
	for in, want := range map[string]string{
		"Error making API request.\n\nURL: PUT http://root:pass@vault:8200/v1\nCode: 503.\n\n* sealed": "Error making API request. URL: PUT http://[secret]@vault:8200/v1 Code: 503. * sealed",
		"denied for hvs.planted-secret": "denied for [secret]",
		"denied for planted\nlines":     "denied for [secret]",
		"a\x00b\x1b[31m\xff":            "a b [31m?",
		strings.Repeat("é", maxError):   strings.Repeat("é", maxError/2) + "...",
		"":                              "",
	} {
		if got := o.plain(fmt.Errorf("%w", errors.New(in))).Error(); got != want {
			t.Errorf("plain(%q) = %q, want %q", in, got, want)
		}
	}
}
