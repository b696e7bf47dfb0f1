// Package keys opens the private keys that the server signs with.
//
// A key is named by a URI and used through crypto.Signer, so that the rest of
// the server does not know where it lives:
//
//	file:/etc/sigstack/rekor.pem     an absolute path
//	file:///etc/sigstack/rekor.pem   the same
//	file:sigstack-data/rekor.pem     a path relative to the working directory
//	file:/etc/sigstack/ca.pem?passphrase-file=/run/secrets/ca
//	pkcs11:token=sigstack;object=ca?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/run/secrets/pin
//	awskms:///alias/sigstack-ca
//	gcpkms://projects/p/locations/l/keyRings/r/cryptoKeys/ca/cryptoKeyVersions/1
//	azurekms://vault.vault.azure.net/ca
//	hashivault://sigstack-ca
//	tink:/etc/sigstack/ca.json?kek=aws-kms://arn:aws:kms:eu-central-1:123456789012:key/...
//
// Keys of the first and the last scheme sign in this process. The others stay where
// they are: each signature is asked for, within [SignTimeout] and [MaxSigning] at
// once, and whoever uses it verifies it. Where the key store fails, Sign
// fails, and the next signature asks again.
//
// A key file holds one private key in PEM: PKCS #8 ("PRIVATE KEY", RFC 5958), for
// ECDSA also SEC 1 ("EC PRIVATE KEY", RFC 5915), or encrypted, with its passphrase
// in another file: PKCS #8 ("ENCRYPTED PRIVATE KEY", as openssl writes it) or what
// cosign writes ("ENCRYPTED SIGSTORE PRIVATE KEY"). An "EC PARAMETERS" block before
// it, as openssl writes one, is passed over; anything else beside the key is
// refused. The kinds of keys are P-256, P-384, Ed25519 and RSA of 2048 to 4096 bits;
// outside of this process those without Ed25519.
//
// A file whose mode gives group or others any right is refused, and so is a
// symbolic link to such a file. A symbolic link to a file that only its owner
// may read is followed, because that is how mounted secrets look.
//
// Create writes a file that either holds the complete key and is durable, or
// does not exist, and it never replaces a file. No error of this package
// carries bytes of a key, a PIN or a passphrase, and what drivers say is cut to one
// line in which [Options.Secrets] do not stand.
//
//	signer, created, err := keys.OpenOrCreate(filepath.Join(dir, "rekor.pem"), keys.P256)
package keys

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"strings"
	"time"

	"github.com/sigstore/sigstore/pkg/signature/kms/aws"
	"github.com/sigstore/sigstore/pkg/signature/kms/azure"
	"github.com/sigstore/sigstore/pkg/signature/kms/gcp"
	"github.com/sigstore/sigstore/pkg/signature/kms/hashivault"
)

// Kind is an algorithm with its size, spelled as in the configuration.
type Kind string

// The kinds that Create can make.
const (
	P256    Kind = "ecdsa-p256"
	P384    Kind = "ecdsa-p384"
	RSA2048 Kind = "rsa-2048"
	Ed25519 Kind = "ed25519"
)

// Bounds of an RSA modulus in bits. Below is weak; above, one signature costs
// more than the request that asks for it, and clients refuse such keys anyway.
const (
	minRSABits = 2048
	maxRSABits = 4096
)

// Options are what OpenWith takes. Zero values are fine.
type Options struct {
	// Observe is called after each signature of a key outside of this process.
	Observe func(took time.Duration, err error)

	// Secrets are texts that no error may hold: what a driver finds in the
	// environment and sends to its server, which may quote it.
	Secrets []string

	limit time.Duration // in place of SignTimeout, for tests
}

// Open returns the signer that uri names. The signer of a file or of a Tink keyset
// is an *ecdsa.PrivateKey, ed25519.PrivateKey or *rsa.PrivateKey.
//
// The context bounds the opening only, and so does OpenTimeout.
func Open(ctx context.Context, uri string) (crypto.Signer, error) {
	return OpenWith(ctx, uri, Options{})
}

// OpenWith is Open with options.
func OpenWith(ctx context.Context, uri string, o Options) (crypto.Signer, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("open key: %w", err)
	}
	s, err := find(uri)
	if err != nil {
		return nil, fmt.Errorf("open key: %w", err)
	}
	if err := s.check(uri); err != nil {
		return nil, fmt.Errorf("open key: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, OpenTimeout)
	defer cancel()
	signer, err := s.open(ctx, uri, o)
	if err != nil && ctx.Err() != nil {
		return nil, fmt.Errorf("open key: the key store of %s did not answer within %s", s.scheme, OpenTimeout)
	}
	if err != nil && s.scheme != "file" {
		return nil, fmt.Errorf("open key of %s: %w", s.scheme, err)
	}
	if err != nil {
		return nil, fmt.Errorf("open key: %w", err)
	}
	return signer, nil
}

// Check says what is wrong with a URI, without opening anything.
func Check(uri string) error {
	s, err := find(uri)
	if err != nil {
		return err
	}
	return s.check(uri)
}

// A store is a place where keys are.
type store struct {
	scheme  string
	example string
	check   func(uri string) error
	open    func(ctx context.Context, uri string, o Options) (crypto.Signer, error)
}

// stores are all that there are.
func stores() []store {
	// The drivers' own texts say which form they want.
	noUserinfo := func(valid func(string) error) func(string) error {
		return func(uri string) error {
			if strings.Contains(uri, "@") {
				return errors.New("the URI holds an @; credentials stand in no URI, drivers take them from their environment")
			}
			return valid(uri)
		}
	}
	return []store{
		{"file", "file:/absolute/path or file:relative/path", checkFile, openFileURI},
		{"pkcs11", pkcs11Form, func(uri string) error { _, err := parsePKCS11(uri); return err }, openPKCS11},
		{"awskms", "awskms:///KEY-ID", noUserinfo(aws.ValidReference), openAWS},
		{"gcpkms", "gcpkms://projects/...", noUserinfo(gcp.ValidReference), func(ctx context.Context, uri string, o Options) (crypto.Signer, error) { return openGCP(ctx, uri, o) }},
		{"azurekms", "azurekms://VAULT.vault.azure.net/KEY", noUserinfo(azure.ValidReference), openAzure},
		{"hashivault", "hashivault://KEY", noUserinfo(hashivault.ValidReference), openVault},
		{"tink", "tink:/path/keyset.json?kek=URI", func(uri string) error { _, _, err := splitTink(uri); return err }, func(ctx context.Context, uri string, o Options) (crypto.Signer, error) { return openTink(ctx, uri, o) }},
	}
}

// find returns the store of a URI's scheme.
func find(uri string) (store, error) {
	name, _, ok := strings.Cut(uri, ":")
	var examples []string
	for _, s := range stores() {
		if ok && s.scheme == name {
			return s, nil
		}
		examples = append(examples, s.example)
	}
	supported := "supported: " + strings.Join(examples, ", ")
	if !ok {
		// The text is not repeated: somebody may have pasted the key itself.
		return store{}, errors.New("the URI has no scheme; " + supported)
	}
	if !plainScheme(name) {
		name = "?"
	}
	return store{}, fmt.Errorf("scheme %q is not supported; %s", name, supported)
}

// splitFile takes "file:PATH?passphrase-file=PATH" apart. The second path stands as
// it is, and is empty without a passphrase.
func splitFile(uri string) (path, passphrase string, err error) {
	rest, passphrase, with := strings.Cut(strings.TrimPrefix(uri, "file:"), "?passphrase-file=")
	if with && (passphrase == "" || strings.ContainsRune(passphrase, 0)) {
		return "", "", errors.New("the file: URI names no passphrase file; write file:/path/key.pem?passphrase-file=/path/passphrase")
	}
	path, err = filePath(rest)
	return path, passphrase, err
}

func checkFile(uri string) error {
	_, _, err := splitFile(uri)
	return err
}

func openFileURI(_ context.Context, uri string, _ Options) (crypto.Signer, error) {
	path, passphrase, err := splitFile(uri)
	if err != nil {
		return nil, err
	}
	return openFile(path, passphrase)
}

// plainScheme tells whether s may be shown in an error: a scheme as RFC 3986,
// section 3.1, has it, and short.
func plainScheme(s string) bool {
	if s == "" || len(s) > 20 {
		return false
	}
	for _, c := range s {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '+' && c != '-' && c != '.' {
			return false
		}
	}
	return true
}

// filePath turns what follows "file:" into a path. Two slashes begin an
// authority (RFC 8089), which must be empty here, and then the path is
// percent-decoded; without an authority the text is the path as it stands.
func filePath(rest string) (string, error) {
	if strings.HasPrefix(rest, "//") {
		u, err := url.Parse("file:" + rest)
		if err != nil || u.Host != "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			return "", errors.New("a file: URI has no host, query or fragment; write file:/absolute/path or file:relative/path")
		}
		rest = u.Path
	}
	if rest == "" || strings.ContainsRune(rest, 0) {
		return "", errors.New("the file: URI names no path; write file:/absolute/path or file:relative/path")
	}
	return rest, nil
}

// Create makes a new key and writes it to path with mode 0600, in PKCS #8 PEM.
// The file and its directory entry are durable on return. An existing file is
// left alone and the error then matches fs.ErrExist.
func Create(path string, kind Kind) (crypto.Signer, error) {
	signer, err := generate(kind)
	if err != nil {
		return nil, fmt.Errorf("create key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(signer)
	if err != nil {
		return nil, fmt.Errorf("create key: %w", err)
	}
	if err := createFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})); err != nil {
		return nil, fmt.Errorf("create key: %w", err)
	}
	return signer, nil
}

// OpenOrCreate opens the key file at path, or creates it when there is none,
// and tells which. A file that holds a key of another kind is an error.
func OpenOrCreate(path string, kind Kind) (signer crypto.Signer, created bool, err error) {
	signer, err = openFile(path, "")
	if errors.Is(err, fs.ErrNotExist) {
		signer, err = Create(path, kind)
		if err == nil {
			return signer, true, nil
		}
		if !errors.Is(err, fs.ErrExist) {
			return nil, false, err
		}
		// Somebody else created it in between; theirs counts. (A dangling
		// symbolic link comes here too and fails in this second opening.)
		signer, err = openFile(path, "")
	}
	if err != nil {
		return nil, false, fmt.Errorf("open key: %w", err)
	}
	if got := describe(signer.Public()); got != string(kind) {
		return nil, false, fmt.Errorf("open key %s: the file holds a key of kind %s, but %s is wanted here", path, got, kind)
	}
	return signer, false, nil
}

func generate(kind Kind) (crypto.Signer, error) {
	switch kind {
	case P256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case P384:
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case RSA2048:
		return rsa.GenerateKey(rand.Reader, 2048)
	case Ed25519:
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	}
	return nil, fmt.Errorf("kind %q is unknown; supported: %s, %s, %s, %s", string(kind), P256, P384, RSA2048, Ed25519)
}

// describe names the kind of a public key as Kind spells it, or "unsupported".
func describe(pub crypto.PublicKey) string {
	switch pub := pub.(type) {
	case *ecdsa.PublicKey:
		switch pub.Curve {
		case elliptic.P256():
			return string(P256)
		case elliptic.P384():
			return string(P384)
		}
	case *rsa.PublicKey:
		if bits := pub.N.BitLen(); bits >= minRSABits && bits <= maxRSABits {
			return fmt.Sprintf("rsa-%d", bits)
		}
	case ed25519.PublicKey:
		return string(Ed25519)
	}
	return "unsupported"
}

// parse reads one private key in PEM; with a passphrase it is an encrypted one. Its
// errors name block types and key kinds, never contents.
func parse(data, passphrase []byte) (crypto.Signer, error) {
	block, rest := decode(data)
	if block != nil && block.Type == "EC PARAMETERS" {
		block, rest = decode(rest)
	}
	if block == nil {
		return nil, errors.New("no PEM block; want one private key in PKCS #8 or SEC 1 PEM and nothing else")
	}
	if len(block.Headers) != 0 {
		return nil, errors.New("the PEM block has headers (an encrypted key?); want PKCS #8 PEM; convert it with: openssl pkcs8 -topk8")
	}
	if strings.TrimSpace(string(rest)) != "" {
		return nil, errors.New("there is more after the private key; want one private key and nothing else")
	}
	block, err := decrypt(block, passphrase)
	if err != nil {
		return nil, err
	}
	var key any
	switch block.Type {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		return nil, errors.New("the key is in PKCS #1; convert it with: openssl pkcs8 -topk8 -nocrypt")
	default:
		return nil, errors.New("the PEM block is not a private key; want \"PRIVATE KEY\" or \"ENCRYPTED PRIVATE KEY\" (PKCS #8), \"EC PRIVATE KEY\" (SEC 1) or \"ENCRYPTED SIGSTORE PRIVATE KEY\"")
	}
	if err != nil {
		// The cause is dropped on purpose: it could quote what it read.
		return nil, errors.New("the private key is damaged: its DER does not parse")
	}
	signer, ok := key.(crypto.Signer)
	if !ok || describe(signer.Public()) == "unsupported" {
		return nil, fmt.Errorf("unsupported kind of key; want %s, %s, %s or RSA of %d to %d bits", P256, P384, Ed25519, minRSABits, maxRSABits)
	}
	return signer, nil
}

// decode is pem.Decode, but text before the block is an error (nil) instead of
// being skipped: pem.Decode would pass over a damaged key to find a later one.
func decode(data []byte) (*pem.Block, []byte) {
	data = []byte(strings.TrimSpace(string(data)))
	if !strings.HasPrefix(string(data), "-----BEGIN ") {
		return nil, nil
	}
	block, rest := pem.Decode(data)
	if block == nil || strings.Count(string(data[:len(data)-len(rest)]), "-----BEGIN ") != 1 {
		return nil, nil
	}
	return block, rest
}
