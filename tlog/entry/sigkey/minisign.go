package sigkey

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"

	"golang.org/x/crypto/blake2b"
)

// The binary layouts of minisign and signify, which text carries in base64.
const (
	minisignKeySize = 2 + 8 + ed25519.PublicKeySize // algorithm, key ID, key
	minisignSigSize = 2 + 8 + ed25519.SignatureSize // algorithm, key ID, signature
)

// The two algorithm tags. A key is tagged with the first one in both cases.
const (
	minisignPure      = "Ed" // Ed25519 over the file
	minisignPrehashed = "ED" // Ed25519 over the BLAKE2b-512 of the file
)

type minisignKey struct {
	id        [8]byte // all zero: unknown, the key was sent as 32 bare bytes
	pub       ed25519.PublicKey
	canonical []byte
}

type minisignSignature struct {
	algorithm string
	id        [8]byte
	sig       []byte // 64 bytes
	canonical []byte
}

// parseMinisignKey reads a key file (a comment line and a line of base64), the
// line of base64 alone, or 32 bare bytes, which old clients sent. The
// canonical text is the base64 of algorithm, key ID and key, without newline.
func parseMinisignKey(data []byte) (*minisignKey, error) {
	if len(data) > MaxKeySize {
		return nil, fmt.Errorf("minisign public key has %d bytes, at most %d are accepted", len(data), MaxKeySize)
	}
	raw, err := minisignKeyBytes(data)
	if err != nil {
		return nil, err
	}
	k := &minisignKey{pub: ed25519.PublicKey(raw[10:]), canonical: encodeBase64(raw)}
	copy(k.id[:], raw[2:10])
	return k, nil
}

func minisignKeyBytes(data []byte) ([]byte, error) {
	lines := textLines(data)
	var raw []byte
	var err error
	switch len(lines) {
	case 1, 2:
		raw, err = base64.StdEncoding.Strict().AppendDecode(nil, lines[len(lines)-1])
	default:
		err = fmt.Errorf("%d lines, want a comment line and a line of base64, or the second alone", len(lines))
	}
	switch {
	case err == nil && len(raw) == minisignKeySize && string(raw[:2]) == minisignPure:
		return raw, nil
	case len(data) == ed25519.PublicKeySize:
		return append([]byte(minisignPure+"\x00\x00\x00\x00\x00\x00\x00\x00"), data...), nil
	case err != nil:
		return nil, fmt.Errorf("unable to read minisign public key: %w", err)
	case len(raw) != minisignKeySize:
		return nil, fmt.Errorf("unable to read minisign public key: %d bytes, want %d", len(raw), minisignKeySize)
	}
	return nil, fmt.Errorf("unable to read minisign public key: algorithm %q, want %q", raw[:2], minisignPure)
}

// parseMinisignSignature reads a minisign signature file (four lines) or a
// signify one (the first two). The canonical text is an empty comment line and
// the line of base64: the trusted comment and the signature over it are
// dropped, nothing in the log depends on them.
func parseMinisignSignature(data []byte) (*minisignSignature, error) {
	lines := textLines(data)
	if len(lines) != 2 && len(lines) != 4 {
		return nil, fmt.Errorf("invalid signature provided: %d lines detected, want 4 (minisign) or 2 (signify)", len(lines))
	}
	raw, err := base64.StdEncoding.Strict().AppendDecode(nil, lines[1])
	if err != nil {
		return nil, errors.New("invalid signature provided: base64 decoding failed")
	}
	if len(raw) != minisignSigSize {
		return nil, fmt.Errorf("invalid signature provided: incorrect size %d detected, want %d", len(raw), minisignSigSize)
	}
	if len(lines) == 4 {
		global, err := base64.StdEncoding.Strict().AppendDecode(nil, lines[3])
		if err != nil || len(global) != ed25519.SignatureSize {
			return nil, errors.New("invalid signature provided: the line after the trusted comment is not a signature in base64")
		}
	}
	s := &minisignSignature{algorithm: string(raw[:2]), sig: raw[10:]}
	copy(s.id[:], raw[2:10])
	if s.algorithm != minisignPure && s.algorithm != minisignPrehashed {
		return nil, fmt.Errorf("invalid signature provided: algorithm %q, want %q or %q", s.algorithm, minisignPure, minisignPrehashed)
	}
	s.canonical = append([]byte("untrusted comment:\n"), encodeBase64(raw)...)
	return s, nil
}

func (k *minisignKey) Canonical() []byte       { return k.canonical }
func (k *minisignKey) Subjects() []string      { return nil }
func (s *minisignSignature) Canonical() []byte { return s.canonical }

// Verify implements [Key]. The key IDs must be equal: the ID of the signature
// is stored but not signed, so that without this check one signature could
// make many entries.
func (k *minisignKey) Verify(message []byte, sig Signature) error {
	s, ok := sig.(*minisignSignature)
	if !ok {
		return mismatch(FormatMinisign, sig)
	}
	if k.id != s.id && k.id != [8]byte{} {
		return fmt.Errorf("signature was made by key %X, not by %X", s.id, k.id)
	}
	if s.algorithm == minisignPrehashed {
		h := blake2b.Sum512(message)
		message = h[:]
	}
	if !ed25519.Verify(k.pub, message, s.sig) {
		return errors.New("failed to verify signature")
	}
	return nil
}

// textLines splits text into lines without their LF or CRLF. White space after
// the last line is dropped; more than four lines come back as five.
func textLines(data []byte) [][]byte {
	lines := bytes.SplitN(bytes.TrimRight(data, " \t\r\n"), []byte("\n"), 5)
	for i := range lines {
		lines[i] = bytes.TrimRight(lines[i], "\r")
	}
	return lines
}

func encodeBase64(raw []byte) []byte {
	return base64.StdEncoding.AppendEncode(nil, raw)
}
