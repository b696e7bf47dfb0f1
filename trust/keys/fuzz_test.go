package keys

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/tink-crypto/tink-go/v2/keyset"
	tinkpb "github.com/tink-crypto/tink-go/v2/proto/tink_go_proto"
	tinksig "github.com/tink-crypto/tink-go/v2/signature"

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
		return parse(in, nil)
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
		again, err := parse(pkcs8(t, signer), nil)
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

// URIs of keys of every scheme. No error repeats a PIN.
func FuzzURI(f *testing.F) {
	seeds := fuzz.Seeds(
		"file:/etc/sigstack/ca.pem?passphrase-file=/run/secrets/ca",
		"pkcs11:token=sigstack;object=ca%20key;id=%01%02;type=private?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/run/secrets/pin",
		"pkcs11:serial=0123;slot-id=7;object=ca?module-path=/m.so&pin-source=/pin",
		"pkcs11:token=sigstack;object=ca?module-path=/m.so&pin-value=planted-pin-0123456789",
		"tink:/etc/sigstack/ca.json?kek=aws-kms://arn:aws:kms:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab",
		"tink:/etc/sigstack/ca.json?kek=gcp-kms://projects/p/locations/l/keyRings/r/cryptoKeys/ca",
		"awskms:///alias/ca", "gcpkms://projects/p/locations/l/keyRings/r/cryptoKeys/ca/cryptoKeyVersions/1", "azurekms://v.vault.azure.net/ca/0123", "hashivault://ca")
	parse := func(in []byte) (*tokenKey, error) {
		uri := string(in)
		if err := Check(uri); err != nil {
			return nil, err
		}
		if strings.HasPrefix(uri, "pkcs11:") {
			return parsePKCS11(uri)
		}
		return nil, nil
	}
	fuzz.Run(f, seeds, parse, func(t *testing.T, in []byte, k *tokenKey, err error) {
		if err != nil {
			if strings.Contains(err.Error(), "planted-pin-0123456789") || strings.ContainsAny(err.Error(), "\n\r") {
				t.Fatalf("error %q", err)
			}
			return
		}
		if k == nil {
			return
		}
		if k.token == "" && k.serial == "" && k.slot == nil || k.object == "" && len(k.id) == 0 || !strings.HasPrefix(k.module, "/") || !strings.HasPrefix(k.pin, "/") ||
			strings.ContainsRune(k.module+k.pin+k.object+k.token+k.serial, 0) || strings.Contains(string(in), "pin-value=") {
			t.Fatalf("%q became %+v", in, k)
		}
	})
}

// An encrypted PKCS #8 key. What is accepted asks for a bounded effort, and
// decrypting it neither panics nor gives what it was not made of.
func FuzzPBES2(f *testing.F) {
	clear := sec1(f, elliptic.P256())
	var seeds []*fuzz.Node
	for _, args := range [][]string{nil, {"-v2", "aes-128-cbc", "-iter", "10"}, {"-v2prf", "hmacWithSHA512"}, {"-scrypt", "-scrypt_N", "16", "-scrypt_r", "1", "-scrypt_p", "1"}} {
		block, _ := pem.Decode(openssl(f, clear, args...))
		seeds = append(seeds, fuzz.Look(block.Bytes))
	}
	fuzz.Run(f, seeds, parsePBES2, func(t *testing.T, in []byte, k *pbes2, err error) {
		if err != nil {
			if k != nil || strings.Contains(err.Error(), "\n") {
				t.Fatalf("%v with error %q", k, err)
			}
			return
		}
		if k.prf != nil && (k.iterations < 1 || k.iterations > maxIterations) || k.prf == nil && (k.n*k.r > maxScrypt/128 || k.p > maxParallel) {
			t.Fatalf("accepted: %d iterations, N=%d r=%d p=%d", k.iterations, k.n, k.r, k.p)
		}
		if k.iterations > 4096 || k.n*k.r*k.p > 1<<10 {
			return // decrypting it costs too much for here
		}
		der, err := k.decrypt([]byte(passphrase))
		if err == nil && len(der) >= len(k.text) {
			t.Fatalf("%d bytes were decrypted to %d", len(k.text), len(der))
		}
	})
}

// A Tink keyset whose ciphertext is as the fakes of key services have it.
func FuzzTink(f *testing.F) {
	var seeds []*fuzz.Node
	for _, template := range []*tinkpb.KeyTemplate{tinksig.ECDSAP256KeyTemplate(), tinksig.ECDSAP384SHA384KeyTemplate(), tinksig.ED25519KeyTemplate()} {
		handle, err := keyset.NewHandle(template)
		if err != nil {
			f.Fatal(err)
		}
		seeds = append(seeds, fuzz.Look(tinkKeyset(f, handle)))
	}
	by := decrypter(func(_ context.Context, text, _ []byte) ([]byte, error) {
		plain, ok := bytes.CutPrefix(text, []byte("encrypted:"))
		if !ok {
			return nil, errors.New("not encrypted")
		}
		return plain, nil
	})
	parse := func(in []byte) (crypto.Signer, error) {
		if len(in) > maxKeyFile {
			return nil, errors.New("longer than a key file")
		}
		return parseTink(context.Background(), in, by)
	}
	// What JSON and protocol buffers make of a key file is Tink's.
	allow := func([]byte) int { return 4 << 20 }
	fuzz.RunWith(f, fuzz.Options{Allow: allow}, seeds, parse, func(t *testing.T, in []byte, key crypto.Signer, err error) {
		if err == nil && describe(key.Public()) == "unsupported" {
			t.Fatalf("a key of type %T", key.Public())
		}
	})
}
