package keys

import (
	"crypto/rand"
	"crypto/rsa"
	"math/big"
	"testing"
)

// Weak RSA keys are refused; so are those that take too long.
func TestRSASizes(t *testing.T) {
	for bits, want := range map[uint]string{
		512: "unsupported", 1024: "unsupported", 2047: "unsupported", 2048: "rsa-2048", 3072: "rsa-3072", 4096: "rsa-4096", 4097: "unsupported", 16384: "unsupported",
	} {
		modulus := new(big.Int).Lsh(big.NewInt(1), bits-1)
		if got := describe(&rsa.PublicKey{N: modulus, E: 65537}); got != want {
			t.Errorf("a key of %d bits is %s, want %s", bits, got, want)
		}
	}
	key, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	_, err = parse(pkcs8(t, key), nil)
	wantError(t, err, "unsupported", "2048")
}
