// Package checkpoint reads and writes checkpoints: signed notes that commit to
// the state of a log.
//
// A checkpoint is text (C2SP tlog-checkpoint), signed as a note (C2SP
// signed-note):
//
//	<origin>\n
//	<tree size, decimal>\n
//	<root hash, standard base64 of 32 bytes>\n
//	\n
//	— <name> <standard base64 of key hash (4 bytes) and signature>\n
//
// Signatures are ECDSA over P-256 with SHA-256 of the text, ASN.1 DER, as the
// Rekor v1 clients expect them: the key hash is the first four bytes of
// SHA-256(SubjectPublicKeyInfo), which differs from the key hash that the
// signed-note specification derives for its own key types, and the name on the
// signature line may differ from the origin.
package checkpoint

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxSize bounds a note, in bytes. A checkpoint with one signature has about
// 250; the rest is for cosignatures.
const MaxSize = 64 << 10

// maxLines bounds the signature lines of a note.
const maxLines = 100

// A Checkpoint is the state of a log.
type Checkpoint struct {
	Origin string // which log: its first line
	Size   uint64
	Root   [sha256.Size]byte
}

// Body returns the text that is signed, up to and with the newline before the
// blank line.
func (c Checkpoint) Body() []byte {
	b := make([]byte, 0, len(c.Origin)+80)
	b = append(b, c.Origin...)
	b = append(b, '\n')
	b = strconv.AppendUint(b, c.Size, 10)
	b = append(b, '\n')
	b = base64.StdEncoding.AppendEncode(b, c.Root[:])
	return append(b, '\n')
}

// Parse reads the text of a checkpoint. Only the one spelling that Body
// writes is accepted: no leading zeros, no other base64, no extension lines.
func Parse(body []byte) (Checkpoint, error) {
	lines := strings.SplitN(string(body), "\n", 5)
	if len(lines) != 4 || lines[3] != "" {
		return Checkpoint{}, fmt.Errorf("checkpoint: want three lines (origin, size, root hash), each ended by a newline")
	}
	size, err := strconv.ParseUint(lines[1], 10, 64)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("checkpoint: tree size %.30q is not a decimal number below 2^64", lines[1])
	}
	root, err := base64.StdEncoding.Strict().DecodeString(lines[2])
	if err != nil || len(root) != sha256.Size {
		return Checkpoint{}, fmt.Errorf("checkpoint: root hash %.60q is not the base64 of 32 bytes", lines[2])
	}
	c := Checkpoint{Origin: lines[0], Size: size, Root: [sha256.Size]byte(root)}
	if err := checkLine(c.Origin); err != nil {
		return Checkpoint{}, fmt.Errorf("checkpoint: origin: %w", err)
	}
	if !bytes.Equal(c.Body(), body) {
		return Checkpoint{}, fmt.Errorf("checkpoint: tree size %.30q has a second spelling", lines[1])
	}
	return c, nil
}

// checkLine says whether s can stand as an origin.
func checkLine(s string) error {
	if s == "" || len(s) > 255 {
		return fmt.Errorf("%d bytes, want 1 to 255", len(s))
	}
	if !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
		return errors.New("want valid UTF-8 without control characters")
	}
	return nil
}

// checkName says whether s can stand as the name on a signature line
// (C2SP signed-note: no spaces and no plus sign).
func checkName(s string) error {
	if strings.ContainsFunc(s, unicode.IsSpace) || strings.Contains(s, "+") {
		return fmt.Errorf("signer name %q: want neither spaces nor a plus sign", s)
	}
	if err := checkLine(s); err != nil {
		return fmt.Errorf("signer name %q: %w", s, err)
	}
	return nil
}

// A Verifier opens notes signed by one key under one name.
type Verifier struct {
	name string
	hash [4]byte
	key  *ecdsa.PublicKey
}

// NewVerifier returns a Verifier for an ECDSA P-256 key.
func NewVerifier(name string, key crypto.PublicKey) (*Verifier, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	pub, ok := key.(*ecdsa.PublicKey)
	if !ok || pub.Curve != elliptic.P256() {
		return nil, fmt.Errorf("log key of type %T: want ECDSA P-256, the only type that all clients verify", key)
	}
	spki, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, err
	}
	id := sha256.Sum256(spki)
	return &Verifier{name: name, hash: [4]byte(id[:4]), key: pub}, nil
}

// Open returns the checkpoint of a note that the key has signed. Signature
// lines of others are allowed and not read.
func (v *Verifier) Open(note []byte) (Checkpoint, error) {
	if len(note) > MaxSize {
		return Checkpoint{}, fmt.Errorf("checkpoint note has %d bytes, want at most %d", len(note), MaxSize)
	}
	i := bytes.Index(note, []byte("\n\n"))
	if i < 0 {
		return Checkpoint{}, errors.New("checkpoint note has no blank line before its signatures")
	}
	body, rest := note[:i+1], note[i+2:]
	cp, err := Parse(body)
	if err != nil {
		return Checkpoint{}, err
	}
	found := false
	for n := 0; len(rest) > 0; n++ {
		line, after, ended := bytes.Cut(rest, []byte("\n"))
		name, sig, ok := parseSignature(string(line))
		if !ended || !ok || n == maxLines {
			return Checkpoint{}, fmt.Errorf("checkpoint note: signature line %d is not \"— name base64\\n\", or is one too many", n+1)
		}
		rest = after
		if name != v.name || [4]byte(sig[:4]) != v.hash {
			continue
		}
		digest := sha256.Sum256(body)
		if !ecdsa.VerifyASN1(v.key, digest[:], sig[4:]) {
			return Checkpoint{}, fmt.Errorf("checkpoint note: the signature of %q does not verify", name)
		}
		found = true
	}
	if !found {
		return Checkpoint{}, fmt.Errorf("checkpoint note: no signature of %q by the key with hash %x", v.name, v.hash)
	}
	return cp, nil
}

const sigPrefix = "— " // U+2014 and a space

func parseSignature(line string) (name string, sig []byte, ok bool) {
	rest, ok := strings.CutPrefix(line, sigPrefix)
	if !ok {
		return "", nil, false
	}
	name, b64, ok := strings.Cut(rest, " ")
	if !ok || checkName(name) != nil {
		return "", nil, false
	}
	sig, err := base64.StdEncoding.Strict().DecodeString(b64)
	if err != nil || len(sig) < 5 || strings.ContainsAny(b64, "\r\n") {
		return "", nil, false
	}
	return name, sig, true
}

// A Signer signs checkpoints of one origin.
type Signer struct {
	*Verifier
	origin string
	signer crypto.Signer
}

// NewSigner returns a Signer that writes the origin as first line and the name
// on the signature line. The key must be ECDSA P-256.
func NewSigner(origin, name string, signer crypto.Signer) (*Signer, error) {
	v, err := NewVerifier(name, signer.Public())
	if err != nil {
		return nil, err
	}
	if err := checkLine(origin); err != nil {
		return nil, fmt.Errorf("origin %q: %w", origin, err)
	}
	return &Signer{Verifier: v, origin: origin, signer: signer}, nil
}

// Origin returns the first line of every checkpoint that s signs.
func (s *Signer) Origin() string { return s.origin }

// Sign returns the signed note for a state of the log. The signature is
// verified before it is returned: a faulty signer, or one with another key
// than it said, is an error here and not at the client.
func (s *Signer) Sign(size uint64, root [sha256.Size]byte) ([]byte, error) {
	cp := Checkpoint{Origin: s.origin, Size: size, Root: root}
	note := cp.Body()
	digest := sha256.Sum256(note)
	sig, err := s.signer.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("signing checkpoint of size %d: %w", size, err)
	}
	note = append(note, '\n')
	note = append(note, sigPrefix...)
	note = append(note, s.name...)
	note = append(note, ' ')
	note = base64.StdEncoding.AppendEncode(note, append(s.hash[:len(s.hash):len(s.hash)], sig...))
	note = append(note, '\n')
	if got, err := s.Open(note); err != nil || got != cp {
		return nil, fmt.Errorf("signing checkpoint of size %d: what the signer returned does not verify with its public key", size)
	}
	return note, nil
}
