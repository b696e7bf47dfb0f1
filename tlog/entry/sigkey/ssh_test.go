package sigkey

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/pem"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

func sshSigner(t testing.TB, k crypto.Signer) ssh.AlgorithmSigner {
	t.Helper()
	s, err := ssh.NewSignerFromSigner(k)
	if err != nil {
		t.Fatal(err)
	}
	return s.(ssh.AlgorithmSigner)
}

// sshSign makes an armored SSHSIG over message; change may damage the blob.
func sshSign(t testing.TB, s ssh.AlgorithmSigner, algorithm, hash, message string, change func(*sshBlob)) []byte {
	t.Helper()
	sum := sha512.Sum512([]byte(message))
	signed := sshSigned{Namespace: "file", HashAlgorithm: hash, Hash: sum[:]}
	if hash == "sha256" {
		sum := sha256.Sum256([]byte(message))
		signed.Hash = sum[:]
	}
	sig, err := s.SignWithAlgorithm(rand.Reader, append([]byte("SSHSIG"), ssh.Marshal(&signed)...), algorithm)
	if err != nil {
		t.Fatal(err)
	}
	blob := sshBlob{Version: 1, PublicKey: s.PublicKey().Marshal(), Namespace: "file", HashAlgorithm: hash, Signature: ssh.Marshal(sig)}
	copy(blob.Magic[:], "SSHSIG")
	if change != nil {
		change(&blob)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "SSH SIGNATURE", Bytes: ssh.Marshal(&blob)})
}

func TestSSH(t *testing.T) {
	_, edPriv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaPriv, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ed, rs, ec := sshSigner(t, edPriv), sshSigner(t, rsaPriv), sshSigner(t, genEC(t, elliptic.P384()))
	line := func(s ssh.Signer) string { return string(ssh.MarshalAuthorizedKey(s.PublicKey())) }
	good := sshSign(t, ed, "", "sha512", "m", nil)
	cert := &ssh.Certificate{Key: ed.PublicKey(), CertType: ssh.UserCert, ValidBefore: ssh.CertTimeInfinity}
	if err := cert.SignCert(rand.Reader, rs); err != nil {
		t.Fatal(err)
	}
	certLine := string(ssh.MarshalAuthorizedKey(cert))
	for _, c := range []struct {
		name, key string
		sig       []byte
		ok        bool
	}{
		{"Ed25519 sha512", line(ed), good, true},
		{"Ed25519 sha256", line(ed), sshSign(t, ed, "", "sha256", "m", nil), true},
		{"ECDSA", line(ec), sshSign(t, ec, "", "sha512", "m", nil), true},
		{"RSA SHA-256", line(rs), sshSign(t, rs, ssh.KeyAlgoRSASHA256, "sha512", "m", nil), true},
		{"RSA SHA-512", line(rs), sshSign(t, rs, ssh.KeyAlgoRSASHA512, "sha256", "m", nil), true},
		{"comment", strings.TrimSpace(line(ed)) + " me@example.com\n", good, true},
		{"comment lines before", "# x\n\n" + line(ed), good, true},
		{"CRLF", strings.TrimSpace(line(ed)) + "\r\n", bytes.ReplaceAll(good, []byte("\n"), []byte("\r\n")), true},
		{"reserved field", line(ed), sshSign(t, ed, "", "sha512", "m", func(b *sshBlob) { b.Reserved = "x" }), true},
		{"certificate", certLine, good, true},
		{"certificate in the signature", line(ed), sshSign(t, ed, "", "sha512", "m", func(b *sshBlob) { b.PublicKey = cert.Marshal() }), true},
		{"RSA SHA-1", line(rs), sshSign(t, rs, ssh.KeyAlgoRSA, "sha512", "m", nil), false},
		{"another message", line(ed), sshSign(t, ed, "", "sha512", "n", nil), false},
		{"another key", line(ec), good, false},
		{"another key inside", line(ed), sshSign(t, ed, "", "sha512", "m", func(b *sshBlob) { b.PublicKey = ec.PublicKey().Marshal() }), false},
		{"another hash inside", line(ed), sshSign(t, ed, "", "sha512", "m", func(b *sshBlob) { b.HashAlgorithm = "sha256" }), false},
		{"SHA-1 digest", line(ed), sshSign(t, ed, "", "sha512", "m", func(b *sshBlob) { b.HashAlgorithm = "sha1" }), false},
		{"namespace", line(ed), sshSign(t, ed, "", "sha512", "m", func(b *sshBlob) { b.Namespace = "git" }), false},
		{"version", line(ed), sshSign(t, ed, "", "sha512", "m", func(b *sshBlob) { b.Version = 2 }), false},
		{"magic", line(ed), sshSign(t, ed, "", "sha512", "m", func(b *sshBlob) { b.Magic[0] = 's' }), false},
		{"no signature", line(ed), sshSign(t, ed, "", "sha512", "m", func(b *sshBlob) { b.Signature = nil }), false},
		{"PEM type", line(ed), bytes.ReplaceAll(good, []byte("SSH SIG"), []byte("SSX SIG")), false},
		{"not PEM", line(ed), []byte("x"), false},
		{"type of another key", strings.Replace(line(ed), "ssh-ed25519", "ssh-rsa", 1), good, false},
		{"options", "restrict " + line(ed), good, false},
		{"no key", "# x\n", good, false},
		{"type alone", "ssh-ed25519\n", good, false},
	} {
		k, err := ParseKey(FormatSSH, []byte(c.key))
		if err == nil {
			var s Signature
			if s, err = ParseSignature(FormatSSH, c.sig); err == nil {
				err = k.Verify([]byte("m"), s)
			}
		}
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	k, err := ParseKey(FormatSSH, []byte(strings.TrimSpace(line(ed))+" me@example.com"))
	if err != nil || string(k.Canonical()) != line(ed) || len(k.Subjects()) != 0 {
		t.Errorf("canonical %q, subjects %q: %v", k.Canonical(), k.Subjects(), err)
	}
}
