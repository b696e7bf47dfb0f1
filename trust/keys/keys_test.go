package keys

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
)

func write(t *testing.T, path string, data []byte, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func pkcs8(t testing.TB, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func sec1(t testing.TB, curve elliptic.Curve) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
}

// wantError checks that err says each of the parts, in one line, and shows no
// key.
func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q does not say %q", err, part)
		}
	}
	if strings.ContainsAny(err.Error(), "\n") || strings.Contains(err.Error(), "BEGIN") {
		t.Errorf("error has more than one line or shows a key: %q", err)
	}
}

func TestCreateThenOpen(t *testing.T) {
	for _, kind := range []Kind{P256, P384, RSA2048, Ed25519} {
		t.Run(string(kind), func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "key.pem")
			made, created, err := OpenOrCreate(path, kind)
			if err != nil || !created {
				t.Fatalf("OpenOrCreate = created %v, %v", created, err)
			}
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			if info.Mode() != 0o600 {
				t.Errorf("mode %v, want 0600", info.Mode())
			}
			again, created, err := OpenOrCreate(path, kind)
			if err != nil || created {
				t.Fatalf("second OpenOrCreate = created %v, %v", created, err)
			}
			for _, uri := range []string{"file:" + path, "file://" + path} {
				opened, err := Open(context.Background(), uri)
				if err != nil {
					t.Fatal(err)
				}
				for _, s := range []crypto.Signer{again, opened} {
					if !s.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(made.Public()) {
						t.Error("the opened key is not the one that was made")
					}
				}
			}
			digest := sha256.Sum256([]byte("message"))
			msg, opts := digest[:], crypto.SignerOpts(crypto.SHA256)
			if kind == Ed25519 {
				opts = crypto.Hash(0)
			}
			if _, err := again.Sign(rand.Reader, msg, opts); err != nil {
				t.Errorf("sign: %v", err)
			}
			names, err := os.ReadDir(dir)
			if err != nil || len(names) != 1 {
				t.Errorf("directory holds %v, %v; want the key alone", names, err)
			}
		})
	}
}

func TestCreateNeverOverwrites(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key.pem")
	write(t, path, []byte("precious"), 0o600)
	if _, err := Create(path, P256); !errors.Is(err, fs.ErrExist) {
		t.Fatalf("Create over a file = %v, want fs.ErrExist", err)
	}
	if got, _ := os.ReadFile(path); string(got) != "precious" {
		t.Fatalf("the file now holds %d other bytes", len(got))
	}
	if _, err := Create(filepath.Join(t.TempDir(), "no", "such", "key.pem"), P256); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Create in a missing directory = %v", err)
	}
	_, err := Create(filepath.Join(t.TempDir(), "k"), "dsa")
	wantError(t, err, "dsa", string(P256))
}

// Many that start at once on an empty directory end with one key.
func TestOpenOrCreateConcurrent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key.pem")
	var wg sync.WaitGroup
	pubs := make([]crypto.PublicKey, 8)
	for i := range pubs {
		wg.Go(func() {
			s, _, err := OpenOrCreate(path, P256)
			if err != nil {
				t.Error(err)
				return
			}
			pubs[i] = s.Public()
		})
	}
	wg.Wait()
	for _, pub := range pubs {
		if pub == nil || !pub.(*ecdsa.PublicKey).Equal(pubs[0]) {
			t.Fatal("two different keys came out of one path")
		}
	}
}

func TestOpenOrCreateWrongKind(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key.pem")
	if _, err := Create(path, P384); err != nil {
		t.Fatal(err)
	}
	_, _, err := OpenOrCreate(path, P256)
	wantError(t, err, "ecdsa-p384", "ecdsa-p256", path)
}

func TestOpenRefusesMode(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "key.pem")
	link := filepath.Join(dir, "link.pem")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	data := sec1(t, elliptic.P256())
	for _, mode := range []os.FileMode{0o640, 0o604, 0o660, 0o644, 0o610, 0o602, 0o777} {
		write(t, path, data, mode)
		for _, p := range []string{path, link} {
			_, err := Open(context.Background(), "file:"+p)
			wantError(t, err, "chmod 0600 "+p)
		}
	}
	for _, mode := range []os.FileMode{0o600, 0o400} {
		write(t, path, data, 0o600)
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		for _, p := range []string{path, link} {
			if _, err := Open(context.Background(), "file:"+p); err != nil {
				t.Errorf("mode %04o: %v", mode, err)
			}
		}
	}
}

func TestOpenURI(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	write(t, "rel key.pem", sec1(t, elliptic.P384()), 0o600)
	for _, uri := range []string{"file:rel key.pem", "file:./rel key.pem", "file:" + dir + "/rel key.pem", "file://" + strings.ReplaceAll(dir, " ", "%20") + "/rel%20key.pem"} {
		if _, err := Open(context.Background(), uri); err != nil {
			t.Errorf("%s: %v", uri, err)
		}
	}
	for uri, part := range map[string]string{
		"rel key.pem":                      "no scheme",
		"":                                 "no scheme",
		"s3://x":                           `"s3"`,
		"File:rel key.pem":                 `"?"`,
		"-----BEGIN PRIVATE KEY-----:MHcC": `"?"`,
		"file:":                            "no path",
		"file://":                          "no path",
		"file://host/key.pem":              "no host",
		"file:///a?b":                      "no host, query",
		"file:missing.pem":                 "missing.pem",
		"file:.":                           "not a regular file",
		"file:/dev/null":                   "not a regular file",
	} {
		_, err := Open(context.Background(), uri)
		wantError(t, err, part)
		if uri == "s3://x" {
			wantError(t, err, "file:")
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Open(ctx, "file:rel key.pem"); !errors.Is(err, context.Canceled) {
		t.Errorf("Open with an ended context = %v", err)
	}
}

func TestParse(t *testing.T) {
	ec := sec1(t, elliptic.P256())
	params := pem.EncodeToMemory(&pem.Block{Type: "EC PARAMETERS", Bytes: []byte{6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7}})
	if _, err := parse(append(bytes.Clone(params), ec...), nil); err != nil {
		t.Errorf("openssl's EC PARAMETERS before the key: %v", err)
	}
	if _, err := parse(append([]byte("\r\n "), append(bytes.Clone(ec), "\r\n"...)...), nil); err != nil {
		t.Errorf("white space around the key: %v", err)
	}
	_, edKey, _ := ed25519.GenerateKey(rand.Reader)
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	pub, err := x509.MarshalPKIXPublicKey(edKey.Public())
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		data []byte
		part string
	}{
		"empty":           {nil, "no PEM block"},
		"text":            {[]byte("hello"), "no PEM block"},
		"text before":     {append([]byte("hello\n"), ec...), "no PEM block"},
		"damaged before":  {append([]byte("-----BEGIN PRIVATE KEY-----\nAAAA\n"), ec...), "no PEM block"},
		"two keys":        {append(bytes.Clone(ec), ec...), "more after"},
		"text after":      {append(bytes.Clone(ec), "x"...), "more after"},
		"public key":      {pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: pub}), "not a private key"},
		"encrypted":       {pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: pub}), "encrypted"},
		"encrypted, old":  {pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: pub, Headers: map[string]string{"Proc-Type": "4,ENCRYPTED"}}), "headers"},
		"PKCS #1":         {pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(rsaKey)}), "openssl pkcs8"},
		"damaged":         {pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pub}), "damaged"},
		"P-224":           {pkcs8(t, p224), "unsupported"},
		"wrong container": {pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: pub}), "damaged"},
	} {
		_, err := parse(c.data, nil)
		t.Run(name, func(t *testing.T) { wantError(t, err, c.part) })
	}
}

func TestOpenRefusesLong(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key.pem")
	write(t, path, bytes.Repeat([]byte{'\n'}, maxKeyFile+1), 0o600)
	_, err := Open(context.Background(), "file:"+path)
	wantError(t, err, "longer than")
}

// allocated returns the bytes that f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func TestParseAllocation(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 4096)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"rsa":      pkcs8(t, rsaKey),
		"p384":     sec1(t, elliptic.P384()),
		"begins":   bytes.Repeat([]byte("-----BEGIN A-----\n"), maxKeyFile/18),
		"newlines": bytes.Repeat([]byte("\n"), maxKeyFile),
		"headers":  []byte("-----BEGIN A-----\n" + strings.Repeat("a:b\n", maxKeyFile/4)),
	} {
		got := allocated(func() { parse(data, nil) })
		if limit := uint64(10*len(data) + 1<<20); got > limit {
			t.Errorf("%s: %d bytes allocated for %d, limit %d", name, got, len(data), limit)
		}
	}
}
