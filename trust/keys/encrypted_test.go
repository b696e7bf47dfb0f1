package keys

import (
	"bytes"
	"context"
	"crypto"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/secure-systems-lab/go-securesystemslib/encrypted"
	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

const passphrase = "correct horse battery staple"

// openssl encrypts a key in PEM.
func openssl(t testing.TB, key []byte, args ...string) []byte {
	t.Helper()
	cmd := exec.Command("openssl", append([]string{"pkcs8", "-topk8", "-passout", "env:KEYS_PASS"}, args...)...)
	cmd.Env = append(os.Environ(), "KEYS_PASS="+passphrase)
	cmd.Stdin = bytes.NewReader(key)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("openssl pkcs8 %v: %v; run scripts/debian.sh\n%s", args, err, stderr.String())
	}
	return out
}

// sigstoreKey encrypts a key as cosign does.
func sigstoreKey(t testing.TB, key crypto.Signer, kind string, level encrypted.KDFParameterStrength) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text, err := encrypted.EncryptWithCustomKDFParameters(der, []byte(passphrase), level)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: text})
}

func TestEncryptedKeys(t *testing.T) {
	key := newKey(t, elliptic.P256())
	clear := pkcs8(t, key)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]struct {
		data []byte
		key  crypto.Signer
	}{
		"openssl's default":    {openssl(t, clear), key},
		"AES-128":              {openssl(t, clear, "-v2", "aes-128-cbc"), key},
		"AES-192 and SHA-512":  {openssl(t, clear, "-v2", "aes-192-cbc", "-v2prf", "hmacWithSHA512"), key},
		"AES-256 and SHA-384":  {openssl(t, clear, "-v2", "aes-256-cbc", "-v2prf", "hmacWithSHA384"), key},
		"SHA-1":                {openssl(t, clear, "-v2", "aes-256-cbc", "-v2prf", "hmacWithSHA1"), key},
		"100,000 iterations":   {openssl(t, clear, "-v2", "aes-256-cbc", "-iter", "100000"), key},
		"scrypt":               {openssl(t, clear, "-scrypt"), key},
		"scrypt, twice":        {openssl(t, clear, "-scrypt", "-scrypt_N", "8192", "-scrypt_r", "8", "-scrypt_p", "2"), key},
		"RSA":                  {openssl(t, pkcs8(t, rsaKey)), rsaKey},
		"sigstore":             {sigstoreKey(t, key, "ENCRYPTED SIGSTORE PRIVATE KEY", encrypted.Standard), key},
		"cosign":               {sigstoreKey(t, key, "ENCRYPTED COSIGN PRIVATE KEY", encrypted.Legacy), key},
		"sigstore, OWASP, RSA": {sigstoreKey(t, rsaKey, "ENCRYPTED SIGSTORE PRIVATE KEY", encrypted.OWASP), rsaKey},
	}
	dir := t.TempDir()
	pass, wrong := filepath.Join(dir, "pass word"), filepath.Join(dir, "wrong")
	write(t, pass, []byte(passphrase+"\n"), 0o600)
	write(t, wrong, []byte(passphrase+"x"), 0o600)
	file := filepath.Join(dir, "key.pem")
	for name, c := range files {
		t.Run(name, func(t *testing.T) {
			write(t, file, c.data, 0o600)
			got, err := Open(context.Background(), "file:"+file+"?passphrase-file="+pass)
			if err != nil {
				t.Fatal(err)
			}
			if !got.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(c.key.Public()) {
				t.Error("another key was opened")
			}
			_, err = Open(context.Background(), "file:"+file+"?passphrase-file="+wrong)
			wantError(t, err, "passphrase is not its own", file)
			_, err = Open(context.Background(), "file:"+file)
			wantError(t, err, "?passphrase-file=", file)
		})
	}

	// Of so many wrong passphrases some give a padding that is right.
	block, _ := pem.Decode(openssl(t, clear, "-v2", "aes-256-cbc", "-iter", "1"))
	encryptedKey, err := parsePBES2(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	for n := range 5000 {
		if _, err := encryptedKey.decrypt(fmt.Appendf(nil, "wrong %d", n)); err != errPassphrase {
			t.Fatalf("wrong passphrase %d: %v", n, err)
		}
	}

	write(t, file, openssl(t, clear), 0o600)
	if _, err := Open(context.Background(), "file://"+file+"?passphrase-file="+pass); err != nil {
		t.Error(err)
	}
	write(t, file, clear, 0o600)
	_, err = Open(context.Background(), "file:"+file+"?passphrase-file="+pass)
	wantError(t, err, "not encrypted")
	write(t, file, openssl(t, clear), 0o600)
	write(t, wrong, []byte("\n"), 0o600)
	_, err = Open(context.Background(), "file:"+file+"?passphrase-file="+wrong)
	wantError(t, err, "is empty")
	write(t, wrong, []byte(passphrase), 0o644)
	_, err = Open(context.Background(), "file:"+file+"?passphrase-file="+wrong)
	wantError(t, err, "chmod 0600 "+wrong)
	_, err = Open(context.Background(), "file:"+file+"?passphrase-file=/no/such/file")
	wantError(t, err, "/no/such/file")
	wantError(t, Check("file:/key?passphrase-file="), "no passphrase file")
}

// What an encrypted key may ask for is bounded, and refused before it is done.
func TestEncryptedBounds(t *testing.T) {
	clear := pkcs8(t, newKey(t, elliptic.P256()))
	block, _ := pem.Decode(openssl(t, clear, "-v2", "aes-256-cbc"))
	if _, err := parsePBES2(block.Bytes); err != nil {
		t.Fatal(err)
	}
	// An EncryptedPrivateKeyInfo with other parameters.
	build := func(kdf func(*cryptobyte.Builder)) []byte {
		var b cryptobyte.Builder
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1ObjectIdentifier(oidPBES2)
				b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
					b.AddASN1(cbasn1.SEQUENCE, kdf)
					b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
						b.AddASN1ObjectIdentifier(oidAES256CBC)
						b.AddASN1OctetString(make([]byte, 16))
					})
				})
			})
			b.AddASN1OctetString(make([]byte, 64))
		})
		return b.BytesOrPanic()
	}
	pbkdf2 := func(iterations int64) []byte {
		return build(func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(oidPBKDF2)
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1OctetString(make([]byte, 8))
				b.AddASN1Int64(iterations)
			})
		})
	}
	scrypt := func(n, r, p int64) []byte {
		return build(func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(oidScrypt)
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1OctetString(make([]byte, 8))
				b.AddASN1Int64(n)
				b.AddASN1Int64(r)
				b.AddASN1Int64(p)
			})
		})
	}
	for name, c := range map[string]struct {
		der  []byte
		part string
	}{
		"most iterations":       {pbkdf2(maxIterations), ""},
		"too many iterations":   {pbkdf2(maxIterations + 1), "at most 5000000"},
		"no iterations":         {pbkdf2(0), "at most 5000000"},
		"negative iterations":   {pbkdf2(-1), "at most 5000000"},
		"most memory":           {scrypt(1<<17, 8, 1), ""},
		"too much memory":       {scrypt(1<<18, 8, 1), "128 MiB"},
		"too much memory by r":  {scrypt(2, 1<<20, 1), "128 MiB"},
		"memory that overflows": {scrypt(1<<62, 1<<62, 1), "128 MiB"},
		"N of no power of two":  {scrypt(3, 8, 1), "128 MiB"},
		"too parallel":          {scrypt(1<<14, 8, maxParallel+1), "p=4"},
		"3DES":                  {mustPEM(t, openssl(t, clear, "-v2", "des3")), "another cipher"},
	} {
		_, err := parsePBES2(c.der)
		if c.part == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		wantError(t, err, c.part)
	}
	for n := range block.Bytes {
		if _, err := parsePBES2(block.Bytes[:n]); err == nil {
			t.Errorf("%d bytes of %d parse", n, len(block.Bytes))
		}
	}
	// sigstore's form takes three sets of parameters.
	text := sigstoreKey(t, newKey(t, elliptic.P256()), "ENCRYPTED SIGSTORE PRIVATE KEY", encrypted.Standard)
	sig, _ := pem.Decode(text)
	sig.Bytes = bytes.Replace(sig.Bytes, []byte(`"N":65536`), []byte(`"N":262144`), 1)
	if !strings.Contains(string(sig.Bytes), "262144") {
		t.Fatal("the parameters of the sigstore key are elsewhere")
	}
	_, err := parse(pem.EncodeToMemory(sig), []byte(passphrase))
	wantError(t, err, "cannot be decrypted")
}

func mustPEM(t *testing.T, data []byte) []byte {
	t.Helper()
	block, _ := pem.Decode(data)
	if block == nil {
		t.Fatal("no PEM")
	}
	return block.Bytes
}
