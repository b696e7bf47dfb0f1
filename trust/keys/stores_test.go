package keys

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	tinkpb "github.com/tink-crypto/tink-go/v2/proto/tink_go_proto"
	tinksig "github.com/tink-crypto/tink-go/v2/signature"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/sigstack/sigstack/test/keystore"
)

// The roots that the TLS of this process trusts are read once: those of a file
// that is written before.
var serverCertificate tls.Certificate

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "sigstack-keys-")
	if err != nil {
		panic(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "key store"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	serverCertificate = tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	roots := filepath.Join(dir, "roots.pem")
	if err := os.WriteFile(roots, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		panic(err)
	}
	os.Setenv("SSL_CERT_FILE", roots)
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// secretsOf are all secrets that the stores of tests demand.
var secretsOf = []string{keystore.VaultToken, keystore.AWSSecretKey, keystore.AWSToken, keystore.AzureHeader, keystore.AzureToken}

// services are the key services, each with how a key there is opened.
var services = map[string]func(t *testing.T, key crypto.Signer) (s *keystore.Store, uri string, client []option.ClientOption){
	"hashivault": func(t *testing.T, key crypto.Signer) (*keystore.Store, string, []option.ClientOption) {
		s := keystore.NewVault(t, map[string]crypto.Signer{"sigstack-ca": key})
		t.Setenv("VAULT_ADDR", s.URL)
		t.Setenv("VAULT_TOKEN", keystore.VaultToken)
		t.Setenv("VAULT_MAX_RETRIES", "0")
		return s, "hashivault://sigstack-ca", nil
	},
	"awskms": func(t *testing.T, key crypto.Signer) (*keystore.Store, string, []option.ClientOption) {
		s := keystore.NewAWS(t, key)
		awsEnvironment(t, s)
		return s, "awskms:///" + keystore.AWSKeyID, nil
	},
	"azurekms": func(t *testing.T, key crypto.Signer) (*keystore.Store, string, []option.ClientOption) {
		s, endpoint := keystore.NewAzure(t, key, serverCertificate)
		t.Setenv("IDENTITY_ENDPOINT", endpoint)
		t.Setenv("IDENTITY_HEADER", keystore.AzureHeader)
		return s, "azurekms://" + strings.TrimPrefix(s.URL, "https://") + "/ca", nil
	},
	"gcpkms": func(t *testing.T, key crypto.Signer) (*keystore.Store, string, []option.ClientOption) {
		s := keystore.NewGCP(t, key)
		return s, "gcpkms://" + keystore.GCPKey + "/cryptoKeyVersions/1", gcpClient(s)
	},
}

func awsEnvironment(t *testing.T, s *keystore.Store) {
	t.Helper()
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL_KMS": s.URL, "AWS_REGION": "eu-central-1", "AWS_ACCESS_KEY_ID": keystore.AWSAccessKey,
		"AWS_SECRET_ACCESS_KEY": keystore.AWSSecretKey, "AWS_SESSION_TOKEN": keystore.AWSToken, "AWS_MAX_ATTEMPTS": "1",
		"AWS_CONFIG_FILE": "/nonexistent", "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
	} {
		t.Setenv(name, value)
	}
}

func gcpClient(s *keystore.Store) []option.ClientOption {
	return []option.ClientOption{option.WithEndpoint(s.URL), option.WithoutAuthentication(), option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials()))}
}

func openService(uri string, o Options, client []option.ClientOption) (crypto.Signer, error) {
	if client != nil {
		return openGCP(context.Background(), uri, o, client...)
	}
	return OpenWith(context.Background(), uri, o)
}

// verifies says whether a signature is that of a key, over SHA-256 or, of a key on
// P-384, over SHA-384, as the CA signs.
func verifies(t *testing.T, s crypto.Signer) bool {
	t.Helper()
	sum := sha256.Sum256([]byte("message"))
	digest, hash := sum[:], crypto.SHA256
	if k, ok := s.Public().(*ecdsa.PublicKey); ok && k.Curve == elliptic.P384() {
		long := sha512.Sum384([]byte("message"))
		digest, hash = long[:], crypto.SHA384
	}
	signature, err := s.Sign(rand.Reader, digest, hash)
	if err != nil {
		t.Logf("Sign: %v", err)
		return false
	}
	switch k := s.Public().(type) {
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(k, digest, signature)
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(k, hash, digest, signature) == nil
	}
	return false
}

// testKeys are one of each kind.
func testKeys(t *testing.T) map[string]crypto.Signer {
	t.Helper()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]crypto.Signer{"P-256": newKey(t, elliptic.P256()), "P-384": newKey(t, elliptic.P384()), "RSA": rsaKey}
}

// Each service signs with each kind of key.
func TestServicesSign(t *testing.T) {
	keys := testKeys(t)
	for name, start := range services {
		for kind, key := range keys {
			t.Run(name+"/"+kind, func(t *testing.T) {
				_, uri, client := start(t, key)
				if err := Check(uri); err != nil {
					t.Fatal(err)
				}
				s, err := openService(uri, Options{}, client)
				if err != nil {
					t.Fatal(err)
				}
				if !s.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(key.Public()) {
					t.Error("another key was opened")
				}
				for range 3 {
					if !verifies(t, s) {
						t.Error("the signature does not verify")
					}
				}
			})
		}
	}
}

// Each service with each fault gives an error of one line without secrets, or a
// signature that does not verify, and signs again when the fault is gone. A service
// that has the fault at the beginning is not opened.
func TestServiceFaults(t *testing.T) {
	for name, start := range services {
		for kind, fault := range keystore.Faults() {
			t.Run(name+"/"+kind, func(t *testing.T) {
				store, uri, client := start(t, newKey(t, elliptic.P256()))
				var observed, failed atomic.Int64
				o := Options{Secrets: secretsOf, Observe: func(_ time.Duration, err error) {
					observed.Add(1)
					if err != nil {
						failed.Add(1)
					}
				}}
				s, err := openService(uri, o, client)
				if err != nil {
					t.Fatal(err)
				}
				if !verifies(t, s) {
					t.Fatal("the signature does not verify")
				}
				store.Set(fault)
				if fault != keystore.WrongKey { // some drivers ask again until then
					s.(*remote).options.limit = 200 * time.Millisecond
				}
				sum := sha256.Sum256([]byte("message"))
				signature, err := s.Sign(rand.Reader, sum[:], crypto.SHA256)
				switch {
				case fault == keystore.WrongKey:
					if err != nil || ecdsa.VerifyASN1(s.Public().(*ecdsa.PublicKey), sum[:], signature) {
						t.Errorf("Sign with another key = %v, or the key is the same", err)
					}
				case err == nil:
					t.Error("Sign by a store with a fault gives a signature")
				default:
					t.Log(err)
					checkPlain(t, err)
					if failed.Load() != 1 {
						t.Errorf("%d failures observed, want 1", failed.Load())
					}
				}
				store.Set(keystore.None)
				s.(*remote).options.limit = 0
				if !eventually(t, s) {
					t.Error("the store is well, and its key does not sign")
				}
				if observed.Load() < 3 {
					t.Errorf("%d signatures observed, want each", observed.Load())
				}
			})
		}
	}
}

// eventually signs until that succeeds. A client may wait before it connects anew.
func eventually(t *testing.T, s crypto.Signer) bool {
	t.Helper()
	for range 20 {
		if verifies(t, s) {
			return true
		}
	}
	return false
}

func checkPlain(t *testing.T, err error) {
	t.Helper()
	if strings.ContainsAny(err.Error(), "\n\r") || len(err.Error()) > maxError+100 {
		t.Errorf("the error is not one line: %q", err)
	}
	for _, secret := range secretsOf {
		if strings.Contains(err.Error(), secret) {
			t.Errorf("the error holds a secret: %v", err)
		}
	}
}

// Opening fails, in one line, where the service does not answer or refuses.
func TestServicesThatDoNotOpen(t *testing.T) {
	for name, start := range services {
		for _, fault := range []keystore.Fault{keystore.Throttled, keystore.Broken, keystore.Gone} {
			if name == "gcpkms" {
				continue // its client asks again until OpenTimeout has passed
			}
			t.Run(name, func(t *testing.T) {
				store, uri, client := start(t, newKey(t, elliptic.P256()))
				store.Set(fault)
				ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
				defer cancel()
				_, err := OpenWith(ctx, uri, Options{Secrets: secretsOf})
				if client != nil || err == nil {
					t.Fatal("a key is opened that is not there")
				}
				checkPlain(t, err)
				t.Log(err)
			})
		}
	}
	t.Run("wrong token", func(t *testing.T) {
		_, uri, _ := services["hashivault"](t, newKey(t, elliptic.P256()))
		t.Setenv("VAULT_TOKEN", "hvs.another")
		_, err := OpenWith(context.Background(), uri, Options{Secrets: []string{"hvs.another"}})
		wantError(t, err, "permission denied", "hashivault")
	})
	t.Run("kinds", func(t *testing.T) {
		_, uri, _ := services["hashivault"](t, newKey(t, elliptic.P521()))
		_, err := Open(context.Background(), uri)
		wantError(t, err, "another kind")
	})
	t.Run("RSA at Azure", func(t *testing.T) {
		key, err := rsa.GenerateKey(rand.Reader, 3072)
		if err != nil {
			t.Fatal(err)
		}
		_, uri, _ := services["azurekms"](t, key)
		_, err = Open(context.Background(), uri)
		wantError(t, err, "2048 bits")
	})
}

// tinkKeyset writes a keyset that the fakes can decrypt.
func tinkKeyset(t testing.TB, key *keyset.Handle) []byte {
	t.Helper()
	var clear, out bytes.Buffer
	if err := insecurecleartextkeyset.Write(key, keyset.NewBinaryWriter(&clear)); err != nil {
		t.Fatal(err)
	}
	if err := keyset.NewJSONWriter(&out).WriteEncrypted(&tinkpb.EncryptedKeyset{EncryptedKeyset: append([]byte("encrypted:"), clear.Bytes()...)}); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// A Tink keyset is decrypted by the service that encrypted it, and signs here.
func TestTink(t *testing.T) {
	handles := map[string]*keyset.Handle{}
	for name, template := range map[string]*tinkpb.KeyTemplate{"P-256": tinksig.ECDSAP256KeyTemplate(), "P-384": tinksig.ECDSAP384SHA384KeyTemplate()} {
		handle, err := keyset.NewHandle(template)
		if err != nil {
			t.Fatal(err)
		}
		handles[name] = handle
	}
	path := filepath.Join(t.TempDir(), "keyset.json")
	arn := "arn:aws:kms:eu-central-1:123456789012:key/" + keystore.AWSKeyID
	for name, handle := range handles {
		t.Run(name, func(t *testing.T) {
			write(t, path, tinkKeyset(t, handle), 0o600)
			aws := keystore.NewAWS(t, newKey(t, elliptic.P256()))
			awsEnvironment(t, aws)
			s, err := Open(context.Background(), "tink:"+path+"?kek=aws-kms://"+arn)
			if err != nil {
				t.Fatal(err)
			}
			if !verifies(t, s) {
				t.Error("the signature does not verify")
			}
			gcp := keystore.NewGCP(t, newKey(t, elliptic.P256()))
			again, err := openTink(context.Background(), "tink:"+path+"?kek=gcp-kms://"+keystore.GCPKey, Options{}, gcpClient(gcp)...)
			if err != nil {
				t.Fatal(err)
			}
			if !s.Public().(*ecdsa.PublicKey).Equal(again.Public()) {
				t.Error("AWS and Google decrypt to different keys")
			}
			aws.Set(keystore.Broken)
			_, err = OpenWith(context.Background(), "tink:"+path+"?kek=aws-kms://"+arn, Options{Secrets: secretsOf})
			if err == nil {
				t.Fatal("a keyset is opened that nobody decrypted")
			}
			checkPlain(t, err)
		})
	}
	write(t, path, bytes.Replace(tinkKeyset(t, handles["P-256"]), []byte(`"encryptedKeyset":"`), []byte(`"encryptedKeyset":"AAAA`), 1), 0o600)
	awsEnvironment(t, keystore.NewAWS(t, newKey(t, elliptic.P256())))
	_, err := Open(context.Background(), "tink:"+path+"?kek=aws-kms://"+arn)
	wantError(t, err, "InvalidCiphertext", path)
	ed, err := keyset.NewHandle(tinksig.ECDSAP521KeyTemplate())
	if err != nil {
		t.Fatal(err)
	}
	write(t, path, tinkKeyset(t, ed), 0o600)
	_, err = Open(context.Background(), "tink:"+path+"?kek=aws-kms://"+arn)
	wantError(t, err, "unsupported kind")
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	_, err = Open(context.Background(), "tink:"+path+"?kek=aws-kms://"+arn)
	wantError(t, err, "chmod 0600")
}

// Check finds what is wrong with a URI without opening it.
func TestCheck(t *testing.T) {
	for _, uri := range []string{
		"file:/a", "file:a?b", "file:///a%20b", "file:/a?passphrase-file=/b",
		"pkcs11:token=t;object=o?module-path=/m.so&pin-source=file:/p", "pkcs11:serial=1;id=%01%ff;type=private?module-path=/m.so&pin-source=/p",
		"pkcs11:slot-id=0;object=a%20b?pin-source=file:///p&module-path=/m.so",
		"awskms:///" + keystore.AWSKeyID, "awskms:///alias/ca", "awskms://localhost:4566/alias/ca", "awskms:///arn:aws:kms:us-east-2:111122223333:key/" + keystore.AWSKeyID,
		"gcpkms://" + keystore.GCPKey, "gcpkms://" + keystore.GCPKey + "/cryptoKeyVersions/1", "gcpkms://" + keystore.GCPKey + "/versions/1",
		"azurekms://v.vault.azure.net/ca", "azurekms://v.vault.azure.net/ca/0123", "hashivault://ca",
		"tink:/k.json?kek=gcp-kms://" + keystore.GCPKey, "tink:/k.json?kek=aws-kms://arn:aws:kms:us-east-2:111122223333:key/" + keystore.AWSKeyID,
	} {
		if err := Check(uri); err != nil {
			t.Errorf("%s: %v", uri, err)
		}
	}
	for uri, part := range map[string]string{
		"/etc/key.pem": "no scheme",
		"s3://x":       `scheme "s3" is not supported; supported: file:`,
		"file:":        "no path",
		"file:///a?b":  "no host, query",
		"pkcs11:":      "names no token",
		"pkcs11:token=t?module-path=/m.so&pin-source=file:/p":                         "names no key",
		"pkcs11:object=o?module-path=/m.so&pin-source=file:/p":                        "names no token",
		"pkcs11:token=t;object=o?pin-source=file:/p":                                  "names no module",
		"pkcs11:token=t;object=o?module-path=/m.so":                                   "names no PIN",
		"pkcs11:token=t;object=o?module-path=m.so&pin-source=file:/p":                 "absolute path",
		"pkcs11:token=t;object=o?module-path=/m.so&pin-source=|cat /p":                "pin-source",
		"pkcs11:token=t;object=o?module-path=/m.so&pin-source=file:p":                 "pin-source",
		"pkcs11:token=t;object=o?module-path=/m.so&pin-value=1234":                    "holds a PIN",
		"pkcs11:token=t;object=o?module-name=m&pin-source=file:/p":                    `"module-name"`,
		"pkcs11:token=t;token=u;object=o?module-path=/m.so&pin-source=file:/p":        "twice",
		"pkcs11:token=;object=o?module-path=/m.so&pin-source=file:/p":                 "empty",
		"pkcs11:token=%zz;object=o?module-path=/m.so&pin-source=file:/p":              "percent-encoded",
		"pkcs11:token=t;object=o;type=cert?module-path=/m.so&pin-source=file:/p":      "type",
		"pkcs11:token=t;object=o;manufacturer=m?module-path=/m.so&pin-source=file:/p": `"manufacturer"`,
		"pkcs11:token=t;object=o;slot-id=x?module-path=/m.so&pin-source=file:/p":      "slot-id",
		"pkcs11://token=t;object=o?module-path=/m.so&pin-source=file:/p":              "want pkcs11:token=",
		"awskms://ca":                            "awskms://",
		"awskms://key:secret@localhost/alias/":   "@",
		"gcpkms://projects/p":                    "gcpkms://",
		"azurekms://v":                           "azurekms://",
		"hashivault://a/b":                       "hashivault://",
		"tink:/k.json":                           "kek=",
		"tink:/k.json?kek=hashivault://k":        "kek=",
		"tink:?kek=gcp-kms://" + keystore.GCPKey: "names no file",
	} {
		wantError(t, Check(uri), part)
		_, err := Open(context.Background(), uri)
		wantError(t, err, part)
		if strings.Contains(err.Error(), "1234") || strings.Contains(err.Error(), "secret@") {
			t.Errorf("the error repeats what should not be there: %v", err)
		}
	}
}
