// Package sigkey reads the public key and signature formats that entries of
// the log carry, brings each into its one canonical text, and verifies.
//
// Four formats exist:
//
//	x509      PEM: one PKIX public key, one certificate, or a chain of at most
//	          10 certificates, leaf first; the signature is raw bytes
//	pgp       OpenPGP (RFC 9580) key rings and detached signatures, armored or binary,
//	          and texts that are signed in the clear
//	minisign  minisign and signify keys and signatures
//	ssh       an authorized_keys line and an SSHSIG signature of namespace "file"
//
// Beside them, [PKCS7] is the signature of timestamps and Java archives, which
// carries its certificates and is no format of a key.
//
// What the package promises:
//
//   - Canonical text is a pure function of what the key or signature means to
//     its verifier: comments, leading text and PEM headers are dropped, and
//     the same input gives the same bytes in every process. Parsing canonical
//     text gives the same canonical text again. One exception: an armored pgp
//     signature is kept as it was sent, with the headers in its armor, because
//     public logs keep it so and clients compare.
//   - Parsing is bounded: [MaxKeySize], [MaxRingSize] and [MaxSignatureSize]
//     bound the input, and each format bounds the number of certificates,
//     packets and RSA bits, so that no short input is expensive to verify.
//   - The package judges signatures, not time. A log keeps what was signed
//     once, so an expired certificate or key still verifies what it signed.
//
// Nothing here reads files, the clock, the network or configuration. All
// values are immutable and may be used by several goroutines.
package sigkey

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The names of the formats, as requests and stored entries spell them.
const (
	FormatX509     = "x509"
	FormatPGP      = "pgp"
	FormatMinisign = "minisign"
	FormatSSH      = "ssh"
)

// Limits on what the parsers read, in bytes.
const (
	// MaxKeySize bounds a key of any format but pgp. A chain of 10 ordinary
	// certificates is about 20 KiB of PEM.
	MaxKeySize = 64 << 10
	// MaxRingSize bounds a pgp key ring, as sent (armored or binary).
	MaxRingSize = 256 << 10
	// MaxSignatureSize bounds a signature of every format, as sent.
	MaxSignatureSize = 64 << 10
)

// maxRSABits bounds RSA keys everywhere. Verification costs the square of the
// modulus; the largest key that fits in MaxKeySize would cost seconds.
const maxRSABits = 8192

// ErrFormat is returned for the name of a format that this package does not know.
var ErrFormat = errors.New("the PKI format requested is not supported by this server")

// A Key is a public key, certificate or key ring.
type Key interface {
	// Canonical returns the canonical text of the key: what an entry stores,
	// and what the search key is the hash of. The caller must not change it.
	Canonical() []byte
	// Subjects returns the names that the key claims for its holder: SANs of
	// the leaf certificate, e-mail addresses of pgp user IDs; in the spelling
	// of the key, not lower-cased. Nothing has checked that the claim is true.
	Subjects() []string
	// Verify returns nil if sig, which must be of the same format, is a
	// signature of this key over message.
	Verify(message []byte, sig Signature) error
}

// A Signature is a detached signature that was parsed, not yet verified.
type Signature interface {
	// Canonical returns the text that an entry stores. The caller must not change it.
	Canonical() []byte
}

// ParseKey reads a key in the named format. It returns [ErrFormat] for an
// unknown name.
func ParseKey(format string, data []byte) (Key, error) {
	switch format {
	case FormatX509:
		return keyOrError(ParseX509(data))
	case FormatPGP:
		return keyOrError(parsePGPKey(data))
	case FormatMinisign:
		return keyOrError(parseMinisignKey(data))
	case FormatSSH:
		return keyOrError(parseSSHKey(data))
	}
	return nil, ErrFormat
}

// ParseSignature reads a signature in the named format. It returns
// [ErrFormat] for an unknown name.
func ParseSignature(format string, data []byte) (Signature, error) {
	if len(data) > MaxSignatureSize {
		return nil, fmt.Errorf("signature has %d bytes, at most %d are accepted", len(data), MaxSignatureSize)
	}
	switch format {
	case FormatX509:
		return signatureOrError(parseX509Signature(data))
	case FormatPGP:
		return signatureOrError(parsePGPSignature(data))
	case FormatMinisign:
		return signatureOrError(parseMinisignSignature(data))
	case FormatSSH:
		return signatureOrError(parseSSHSignature(data))
	}
	return nil, ErrFormat
}

// keyOrError keeps a nil pointer of a concrete type from becoming a Key that
// is not nil.
func keyOrError[K Key](k K, err error) (Key, error) {
	if err != nil {
		return nil, err
	}
	return k, nil
}

func signatureOrError[S Signature](s S, err error) (Signature, error) {
	if err == nil {
		err = checkCanonical("signature", s.Canonical(), MaxSignatureSize)
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// checkCanonical holds the canonical text to the bound of what is sent. It is
// longer than binary input, and than PEM in long lines, and an entry whose key
// or signature is longer than the bound could not be read back.
func checkCanonical(what string, text []byte, most int) error {
	if len(text) > most {
		return fmt.Errorf("%s has %d bytes in canonical form, at most %d are accepted", what, len(text), most)
	}
	return nil
}

// Hash returns the lower-case hex SHA-256 (64 characters) of the canonical
// text of k: the name under which a key is searched.
func Hash(k Key) string {
	h := sha256.Sum256(k.Canonical())
	return hex.EncodeToString(h[:])
}

// SearchKeys returns the search keys of k: its [Hash] in both spellings,
// plain and prefixed with "sha256:", and its subjects as spelled in the key.
//
// Public logs write the plain spelling for some kinds of entry and the
// prefixed one for others, so that a search by public key misses half of
// them. With both spellings every search that works there works here, and a
// search by public key finds every kind.
func SearchKeys(k Key) []string {
	h := Hash(k)
	return append([]string{h, "sha256:" + h}, k.Subjects()...)
}

// maxForeign bounds, in bytes, what an error repeats of another library's.
const maxForeign = 200

// foreign returns the error of another library as one line of bounded length.
// Such errors quote the input, which may hold line breaks and be long. A
// context is put before it unless it is empty.
func foreign(context string, err error) error {
	text := strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, err.Error())
	if len(text) > maxForeign {
		text = strings.ToValidUTF8(text[:maxForeign], "") + "..."
	}
	if context != "" {
		text = context + ": " + text
	}
	return errors.New(text)
}

func mismatch(want string, sig Signature) error {
	return fmt.Errorf("a %s key cannot verify a signature of type %T", want, sig)
}
