// Package keys opens the private keys that the server signs with.
//
// A key is named by a URI and used through crypto.Signer, so that the rest of
// the server does not know where it lives. The one scheme that exists today is
// "file:":
//
//	file:/etc/sigstack/rekor.pem     an absolute path
//	file:///etc/sigstack/rekor.pem   the same
//	file:sigstack-data/rekor.pem     a path relative to the working directory
//
// A key file holds one unencrypted private key in PEM: PKCS #8 ("PRIVATE KEY",
// RFC 5958) or, for ECDSA, SEC 1 ("EC PRIVATE KEY", RFC 5915). An "EC
// PARAMETERS" block before it, as openssl writes one, is passed over; anything
// else beside the key is refused. The kinds of keys are P-256, P-384, Ed25519
// and RSA of 2048 to 4096 bits.
//
// A file whose mode gives group or others any right is refused, and so is a
// symbolic link to such a file. A symbolic link to a file that only its owner
// may read is followed, because that is how mounted secrets look.
//
// Create writes a file that either holds the complete key and is durable, or
// does not exist, and it never replaces a file. No error of this package
// carries bytes of a key.
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

// Open returns the signer that uri names. The signer of a file is an
// *ecdsa.PrivateKey, ed25519.PrivateKey or *rsa.PrivateKey.
//
// The context bounds the opening only; a file needs none, a key service will.
func Open(ctx context.Context, uri string) (crypto.Signer, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("open key: %w", err)
	}
	scheme, rest, ok := strings.Cut(uri, ":")
	if !ok {
		// The text is not repeated: somebody may have pasted the key itself.
		return nil, errors.New("open key: the URI has no scheme; supported: file:/absolute/path or file:relative/path")
	}
	if scheme != "file" {
		if !plainScheme(scheme) {
			scheme = "?"
		}
		return nil, fmt.Errorf("open key: scheme %q is not supported; supported: file:/absolute/path or file:relative/path", scheme)
	}
	path, err := filePath(rest)
	if err != nil {
		return nil, fmt.Errorf("open key: %w", err)
	}
	return openFile(path)
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
	signer, err = openFile(path)
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
		signer, err = openFile(path)
	}
	if err != nil {
		return nil, false, err
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

// parse reads one private key in PEM. Its errors name block types and key
// kinds, never contents.
func parse(data []byte) (crypto.Signer, error) {
	block, rest := decode(data)
	if block != nil && block.Type == "EC PARAMETERS" {
		block, rest = decode(rest)
	}
	if block == nil {
		return nil, errors.New("no PEM block; want one private key in PKCS #8 or SEC 1 PEM and nothing else")
	}
	if len(block.Headers) != 0 {
		return nil, errors.New("the PEM block has headers (an encrypted key?); want an unencrypted key in PKCS #8 PEM")
	}
	if strings.TrimSpace(string(rest)) != "" {
		return nil, errors.New("there is more after the private key; want one private key and nothing else")
	}
	var key any
	var err error
	switch block.Type {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		return nil, errors.New("the key is in PKCS #1; convert it with: openssl pkcs8 -topk8 -nocrypt")
	case "ENCRYPTED PRIVATE KEY":
		return nil, errors.New("the key is encrypted; decrypt it into a file of mode 0600 with: openssl pkcs8 -in FILE")
	default:
		return nil, errors.New("the PEM block is not a private key; want \"PRIVATE KEY\" (PKCS #8) or \"EC PRIVATE KEY\" (SEC 1)")
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
