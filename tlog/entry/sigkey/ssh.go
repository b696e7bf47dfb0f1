package sigkey

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"

	"golang.org/x/crypto/ssh"
)

// SSHSIG constants (OpenSSH PROTOCOL.sshsig).
const (
	sshMagic     = "SSHSIG"
	sshNamespace = "file"
	sshPEM       = "SSH SIGNATURE"
)

// sshBlob is the wire form inside the armor (PROTOCOL.sshsig, "Blob format").
type sshBlob struct {
	Magic         [6]byte
	Version       uint32
	PublicKey     []byte
	Namespace     string
	Reserved      string
	HashAlgorithm string
	Signature     []byte
}

// sshSigned is what follows the magic in the bytes that are signed
// (PROTOCOL.sshsig, "Signed Data").
type sshSigned struct {
	Namespace     string
	Reserved      string
	HashAlgorithm string
	Hash          []byte
}

type sshKey struct {
	pub       ssh.PublicKey
	canonical []byte
}

type sshSignature struct {
	signer    []byte // wire form of the public key that the signature names
	hash      string // "sha256" or "sha512"
	sig       *ssh.Signature
	canonical []byte
}

// parseSSHKey reads the first line of an authorized_keys or .pub file that is
// neither empty nor a comment: type, base64, and a comment that is dropped.
// Lines with options are refused. The canonical text is type and base64, and a
// newline.
func parseSSHKey(data []byte) (*sshKey, error) {
	if len(data) > MaxKeySize {
		return nil, fmt.Errorf("ssh public key has %d bytes, at most %d are accepted", len(data), MaxKeySize)
	}
	var line []byte
	for line = range bytes.Lines(data) {
		if line = bytes.TrimSpace(line); len(line) > 0 && line[0] != '#' {
			break
		}
		line = nil
	}
	name, rest, _ := bytes.Cut(line, []byte(" "))
	text, _, _ := bytes.Cut(bytes.TrimLeft(rest, " \t"), []byte(" "))
	raw, err := base64.StdEncoding.Strict().AppendDecode(nil, text)
	if err != nil || len(raw) == 0 {
		return nil, errors.New("ssh: no key found: want a line of key type and base64")
	}
	pub, err := parseSSHWireKey(raw)
	if err != nil {
		return nil, err
	}
	if pub.Type() != string(name) {
		return nil, fmt.Errorf("ssh: the line says key type %.64q, the key is of type %q", name, pub.Type())
	}
	return &sshKey{pub: pub, canonical: ssh.MarshalAuthorizedKey(pub)}, nil
}

func parseSSHWireKey(raw []byte) (ssh.PublicKey, error) {
	pub, err := ssh.ParsePublicKey(raw)
	if err != nil {
		return nil, foreign("ssh: cannot parse public key", err)
	}
	//lint:ignore SA1019 named here to be refused
	if t := signingKey(pub).Type(); t == ssh.InsecureKeyAlgoDSA {
		return nil, fmt.Errorf("ssh: keys of type %s are not accepted", t)
	}
	return pub, nil
}

// parseSSHSignature reads an armored SSHSIG of version 1 and namespace "file",
// with hash sha256 or sha512. The canonical text is the same blob armored in
// lines of 64 characters (OpenSSH writes 70), with the reserved field empty.
func parseSSHSignature(data []byte) (*sshSignature, error) {
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, errors.New("unable to decode pem file: want an armored SSH SIGNATURE")
	}
	if block.Type != sshPEM {
		return nil, foreign("", fmt.Errorf("wrong pem block type: %.64s. Expected SSH-SIGNATURE", block.Type))
	}
	var blob sshBlob
	if err := ssh.Unmarshal(block.Bytes, &blob); err != nil {
		return nil, foreign("ssh signature", err)
	}
	switch {
	case string(blob.Magic[:]) != sshMagic:
		return nil, fmt.Errorf("invalid magic header: %q", blob.Magic)
	case blob.Version != 1:
		return nil, fmt.Errorf("unsupported signature version: %d", blob.Version)
	case blob.Namespace != sshNamespace:
		return nil, fmt.Errorf("invalid signature namespace: %.64q, want %q", blob.Namespace, sshNamespace)
	case blob.HashAlgorithm != "sha256" && blob.HashAlgorithm != "sha512":
		return nil, fmt.Errorf("unsupported hash algorithm: %.64q, want sha256 or sha512", blob.HashAlgorithm)
	}
	s := &sshSignature{signer: blob.PublicKey, hash: blob.HashAlgorithm, sig: new(ssh.Signature)}
	if err := ssh.Unmarshal(blob.Signature, s.sig); err != nil {
		return nil, foreign("ssh signature", err)
	}
	if s.sig.Format == ssh.KeyAlgoRSA {
		// PROTOCOL.sshsig forbids the signature algorithm ssh-rsa: it is SHA-1.
		return nil, errors.New("ssh signature: algorithm ssh-rsa (SHA-1) is not accepted, want rsa-sha2-256 or rsa-sha2-512")
	}
	pub, err := parseSSHWireKey(blob.PublicKey)
	if err != nil {
		return nil, err
	}
	s.signer = signingKey(pub).Marshal()
	blob.PublicKey = pub.Marshal()
	blob.Reserved = ""
	blob.Signature = ssh.Marshal(s.sig)
	s.canonical = pem.EncodeToMemory(&pem.Block{Type: sshPEM, Bytes: ssh.Marshal(&blob)})
	return s, nil
}

func (k *sshKey) Canonical() []byte       { return k.canonical }
func (s *sshSignature) Canonical() []byte { return s.canonical }

// Subjects implements [Key]. The comment of a key is no claim of its holder
// and is not part of the canonical text, so there are none.
func (k *sshKey) Subjects() []string { return nil }

// Verify implements [Key]. The key inside the signature must be this key: it
// is stored with the signature, and only what was verified is stored.
func (k *sshKey) Verify(message []byte, sig Signature) error {
	s, ok := sig.(*sshSignature)
	if !ok {
		return mismatch(FormatSSH, sig)
	}
	pub := signingKey(k.pub)
	if !bytes.Equal(pub.Marshal(), s.signer) {
		return errors.New("ssh signature: it was made by another key than the one given")
	}
	signed := sshSigned{Namespace: sshNamespace, HashAlgorithm: s.hash}
	if s.hash == "sha256" {
		h := sha256.Sum256(message)
		signed.Hash = h[:]
	} else {
		h := sha512.Sum512(message)
		signed.Hash = h[:]
	}
	if err := pub.Verify(append([]byte(sshMagic), ssh.Marshal(&signed)...), s.sig); err != nil {
		return foreign("", err)
	}
	return nil
}

// signingKey returns the key that makes signatures: the certified one if k is
// a certificate.
func signingKey(k ssh.PublicKey) ssh.PublicKey {
	if c, ok := k.(*ssh.Certificate); ok {
		return c.Key
	}
	return k
}
