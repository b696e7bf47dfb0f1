package keys

import (
	"crypto"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/sigstack/sigstack/test/fuzz"
)

// A key file: what is accepted is a key that survives being written again.
func FuzzParse(f *testing.F) {
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, minRSABits)
	if err != nil {
		f.Fatal(err)
	}
	seeds := fuzz.Seeds(pkcs8(f, edKey), pkcs8(f, rsaKey), sec1(f, elliptic.P256()), sec1(f, elliptic.P384()),
		[]byte("-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"+string(sec1(f, elliptic.P256()))),
		[]byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"))
	open := func(in []byte) (crypto.Signer, error) {
		if len(in) > maxKeyFile {
			return nil, errors.New("longer than a key file")
		}
		return parse(in)
	}
	// Reading an RSA key includes a check of its numbers.
	allow := func([]byte) int { return 4 << 20 }
	fuzz.RunWith(f, fuzz.Options{Allow: allow}, seeds, open, func(t *testing.T, in []byte, signer crypto.Signer, err error) {
		if err != nil {
			if signer != nil || strings.Contains(err.Error(), "\n") {
				t.Fatalf("signer %v with error %q", signer != nil, err)
			}
			return
		}
		again, err := parse(pkcs8(t, signer))
		if err != nil {
			t.Fatal(err)
		}
		if !again.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(signer.Public()) {
			t.Fatal("another key after writing and reading")
		}
	})
}

// What follows "file:" in the URI of a key. No error repeats it: somebody may
// have pasted the key itself.
func FuzzFilePath(f *testing.F) {
	seeds := fuzz.Seeds("/etc/sigstack/rekor.pem", "///etc/sigstack/rekor%20v1.pem", "sigstack-data/rekor.pem", "//host/path", "///a?b#c")
	parse := func(in []byte) (string, error) { return filePath(string(in)) }
	fuzz.Run(f, seeds, parse, func(t *testing.T, in []byte, path string, err error) {
		text := string(in)
		if err != nil {
			if len(text) > 20 && strings.Contains(err.Error(), text) {
				t.Fatalf("the error repeats the URI: %v", err)
			}
			return
		}
		if path == "" || strings.ContainsRune(path, 0) {
			t.Fatalf("path %q", path)
		}
		if !strings.HasPrefix(text, "//") {
			if path != text {
				t.Fatalf("%q became %q", text, path)
			}
			return
		}
		if u, err := url.Parse("file:" + text); err != nil || u.Host != "" || u.Path != path {
			t.Fatalf("%q became %q, for net/url %v, %v", text, path, u, err)
		}
	})
}
