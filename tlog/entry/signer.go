package entry

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"slices"

	"github.com/sigstack/sigstack/tlog/entry/sigkey"
)

// A Signer is who made a signature of an entry, as far as the entry says.
type Signer struct {
	key sigkey.Key
	by  scheme
}

// A scheme is how a signature was made: in a format that chooses the algorithm
// itself, or with a hash function by an x509 key; none is for Ed25519 alone.
type scheme struct {
	format string
	hash   crypto.Hash
	pss    bool // of RSA
}

// bySHA256 is how DSSE envelopes and artifacts are signed with x509 keys.
var bySHA256 = scheme{hash: crypto.SHA256}

// Certificate returns what the signature was verified with: the first of a
// chain, nil for a bare key. Nothing says whether it is to be trusted.
func (s Signer) Certificate() *x509.Certificate {
	if k, ok := s.key.(*sigkey.X509); ok {
		return k.Certificate()
	}
	return nil
}

// Names are those that the key claims for its holder, see [sigkey.Key].
func (s Signer) Names() []string { return s.key.Subjects() }

// KeyHash is the lower-case hex SHA-256 by which the key is searched.
func (s Signer) KeyHash() string { return sigkey.Hash(s.key) }

// Algorithm is one of [Algorithms], or "" for an algorithm without a name: RSA
// with keys of other sizes.
func (s Signer) Algorithm() string {
	name := s.by.format
	if k, ok := s.key.(*sigkey.X509); ok && name == "" {
		name = s.by.of(k.PublicKey())
	}
	if !slices.Contains(Algorithms(), name) {
		return ""
	}
	return name
}

func (by scheme) of(pub crypto.PublicKey) string {
	switch pub := pub.(type) {
	case *rsa.PublicKey:
		padding := "pkcs1"
		if by.pss {
			padding = "pss"
		}
		hash := "sha256"
		if by.hash == crypto.SHA1 {
			hash = "sha1"
		}
		return fmt.Sprintf("rsa-sign-%s-%d-%s", padding, pub.Size()*8, hash)
	case *ecdsa.PublicKey:
		return fmt.Sprintf("ecdsa-sha2-%d-nistp%d", 8*by.hash.Size(), pub.Params().BitSize)
	case ed25519.PublicKey:
		if by.hash == crypto.SHA512 {
			return "ed25519-ph"
		}
		return "ed25519"
	}
	return ""
}

// Algorithms are the names of the algorithms that entries may be signed with:
// those of Sigstore's registry, SHA-1 as alpine packages have it, and the formats
// that choose an algorithm themselves.
func Algorithms() []string {
	return []string{
		"ecdsa-sha2-256-nistp256", "ecdsa-sha2-256-nistp384", "ecdsa-sha2-256-nistp521",
		"ecdsa-sha2-384-nistp384", "ecdsa-sha2-512-nistp521",
		"ed25519", "ed25519-ph",
		"rsa-sign-pkcs1-2048-sha1", "rsa-sign-pkcs1-3072-sha1", "rsa-sign-pkcs1-4096-sha1",
		"rsa-sign-pkcs1-2048-sha256", "rsa-sign-pkcs1-3072-sha256", "rsa-sign-pkcs1-4096-sha256",
		"rsa-sign-pss-2048-sha256", "rsa-sign-pss-3072-sha256", "rsa-sign-pss-4096-sha256",
		sigkey.FormatMinisign, sigkey.FormatPGP, formatPKCS7, sigkey.FormatSSH,
	}
}

// pkcs7Signer returns who made a signature that was verified.
func pkcs7Signer(p *sigkey.PKCS7) (Signer, error) {
	key, err := p.Signer()
	return Signer{key, scheme{format: formatPKCS7}}, err
}

// formatPKCS7 is the format of the signatures of jar and rfc3161.
const formatPKCS7 = "pkcs7"
