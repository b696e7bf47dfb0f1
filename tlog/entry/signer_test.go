package entry

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/sigstack/sigstack/tlog/entry/sigkey"
)

// TestSigners: every entry that is taken has signers, and each algorithm its name.
func TestSigners(t *testing.T) {
	found := map[string][]string{} // by kind
	for _, v := range vectors(t) {
		e, err := Propose(v.Request)
		if err != nil {
			continue
		}
		if len(e.Signers) == 0 {
			t.Errorf("%s has no signer", v.Name)
		}
		kind, _, _ := strings.Cut(v.Name, "-")
		for _, s := range e.Signers {
			if len(s.KeyHash()) != 64 || s.Certificate() == nil && kind == "rfc3161" {
				t.Errorf("%s: the signer %s with the certificate %v", v.Name, s.KeyHash(), s.Certificate())
			}
			if a := s.Algorithm(); !slices.Contains(Algorithms(), a) {
				t.Errorf("%s: an algorithm has the name %q", v.Name, a)
			}
			found[kind] = append(found[kind], s.Algorithm())
		}
	}
	for kind := range found {
		slices.Sort(found[kind])
		found[kind] = slices.Compact(found[kind])
	}
	for kind, names := range map[string]string{
		"alpine":       "rsa-sign-pkcs1-2048-sha1",
		"cose":         "ecdsa-sha2-256-nistp256 rsa-sign-pss-2048-sha256",
		"dsse":         "ecdsa-sha2-256-nistp256",
		"hashedrekord": "ecdsa-sha2-256-nistp256 ecdsa-sha2-384-nistp384 ecdsa-sha2-512-nistp521 ed25519-ph rsa-sign-pkcs1-2048-sha256",
		"helm":         "pgp",
		"intoto":       "ecdsa-sha2-256-nistp256",
		"jar":          "pkcs7",
		"rekord":       "ecdsa-sha2-256-nistp256 ed25519 minisign pgp rsa-sign-pkcs1-2048-sha256 ssh",
		"rfc3161":      "pkcs7",
		"rpm":          "pgp",
		"tuf":          "ecdsa-sha2-256-nistp256 ed25519 rsa-sign-pss-2048-sha256",
	} {
		if got := strings.Join(found[kind], " "); got != names {
			t.Errorf("%s: %s, want %s", kind, got, names)
		}
	}
}

// TestAlgorithmNames: curves and sizes that the vectors do not have.
func TestAlgorithmNames(t *testing.T) {
	rsaKey := func(bits uint) *rsa.PublicKey {
		return &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), bits-1), E: 65537}
	}
	for _, test := range []struct {
		by   scheme
		pub  crypto.PublicKey
		want string
	}{
		{bySHA256, &ecdsa.PublicKey{Curve: elliptic.P384()}, "ecdsa-sha2-256-nistp384"},
		{bySHA256, &ecdsa.PublicKey{Curve: elliptic.P521()}, "ecdsa-sha2-256-nistp521"},
		{bySHA256, rsaKey(3072), "rsa-sign-pkcs1-3072-sha256"},
		{bySHA256, rsaKey(4096), "rsa-sign-pkcs1-4096-sha256"},
		{bySHA256, rsaKey(4095), "rsa-sign-pkcs1-4096-sha256"}, // as the registry counts
		{bySHA256, rsaKey(8192), "rsa-sign-pkcs1-8192-sha256"}, // which is none of Algorithms
		{scheme{hash: crypto.SHA1}, &ecdsa.PublicKey{Curve: elliptic.P256()}, "ecdsa-sha2-160-nistp256"},
	} {
		if got := test.by.of(test.pub); got != test.want {
			t.Errorf("%s, want %s", got, test.want)
		}
	}
	key, err := sigkey.ParseX509([]byte(pemOf(t, rsaKey(8192))))
	if err != nil {
		t.Fatal(err)
	}
	if got := (Signer{key, bySHA256}).Algorithm(); got != "" {
		t.Errorf("a key of 8192 bits has the name %s", got)
	}
}

func pemOf(t *testing.T, pub crypto.PublicKey) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}
