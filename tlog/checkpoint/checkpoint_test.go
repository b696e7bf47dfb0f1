package checkpoint

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math"
	"os"
	"strings"
	"testing"
)

// The checkpoint and key of a public Rekor v1 server.
const recordedKey = "testdata/log-publickey.pem"
const recordedNote = "rekor.lab.test - 5145302504239990339\n263\nSlN+jM815lbI/BNaIkhwO6DdglG7nD+hMXQZ0exUB6s=\n\n— rekor.lab.test SC7fZTBFAiEAjjaFZE3Pm3MR9MPQuJXPskuvQxSFeqBA4WWX5YZ4rDkCIFYtVJGgcM1Z0FLfnSRY42lxF6DMigKsGAUdI8d7sCQQ\n"

func recordedVerifier(t testing.TB) *Verifier {
	t.Helper()
	text, err := os.ReadFile(recordedKey)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	v, err := NewVerifier("rekor.lab.test", key)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func newSigner(t testing.TB) *Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewSigner("example.com - 42", "example.com", key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestRecordedCheckpoint(t *testing.T) {
	cp, err := recordedVerifier(t).Open([]byte(recordedNote))
	if err != nil {
		t.Fatal(err)
	}
	if cp.Origin != "rekor.lab.test - 5145302504239990339" || cp.Size != 263 {
		t.Fatalf("%+v", cp)
	}
}

func TestSignAndOpen(t *testing.T) {
	s := newSigner(t)
	for _, size := range []uint64{0, 1, 255, 1 << 40, math.MaxUint64} {
		root := [32]byte{1, 2, byte(size)}
		note, err := s.Sign(size, root)
		if err != nil {
			t.Fatal(err)
		}
		cp, err := s.Open(note)
		if err != nil || cp != (Checkpoint{Origin: "example.com - 42", Size: size, Root: root}) {
			t.Fatalf("%+v, %v", cp, err)
		}
		for i := range note { // every byte counts
			flipped := bytes.Clone(note)
			flipped[i] ^= 1
			if got, err := s.Open(flipped); err == nil {
				t.Fatalf("with byte %d (%q) flipped the note opens: %+v", i, note[i], got)
			}
		}
	}
}

func TestOtherSignatures(t *testing.T) {
	s, other := newSigner(t), newSigner(t)
	note, err := s.Sign(7, [32]byte{7})
	if err != nil {
		t.Fatal(err)
	}
	cosigned := append(bytes.Clone(note), "— witness.example.org AAAAAQIDBAU=\n"...)
	if _, err := s.Open(cosigned); err != nil {
		t.Fatalf("with a cosignature: %v", err)
	}
	if _, err := other.Open(note); err == nil {
		t.Fatal("opens with another key of the same name")
	}
	if _, err := s.Open(append(bytes.Clone(note), strings.Repeat("— w AAAAAQIDBAU=\n", 100)...)); err == nil {
		t.Fatal("opens with more signature lines than the limit")
	}
	if _, err := s.Open(append(bytes.Clone(note), make([]byte, MaxSize)...)); err == nil {
		t.Fatal("opens beyond the size limit")
	}
}

func TestParseRefuses(t *testing.T) {
	root := "AQIDAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
	if _, err := Parse([]byte("o\n5\n" + root + "\n")); err != nil {
		t.Fatal(err)
	}
	for name, body := range map[string]string{
		"empty":              "",
		"no final newline":   "o\n5\n" + root,
		"no origin":          "\n5\n" + root + "\n",
		"leading zero":       "o\n05\n" + root + "\n",
		"plus":               "o\n+5\n" + root + "\n",
		"negative":           "o\n-5\n" + root + "\n",
		"2^64":               "o\n18446744073709551616\n" + root + "\n",
		"hex size":           "o\n0x5\n" + root + "\n",
		"short root":         "o\n5\nAQID\n",
		"unpadded root":      "o\n5\n" + strings.TrimSuffix(root, "=") + "\n",
		"loose base64":       "o\n5\nAQIDAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB=\n",
		"extension":          "o\n5\n" + root + "\nmore\n",
		"carriage return":    "o\r\n5\r\n" + root + "\r\n",
		"control in origin":  "o\x01\n5\n" + root + "\n",
		"invalid UTF-8":      "o\xff\n5\n" + root + "\n",
		"origin of 256 byte": strings.Repeat("o", 256) + "\n5\n" + root + "\n",
	} {
		if cp, err := Parse([]byte(body)); err == nil {
			t.Errorf("%s: %+v", name, cp)
		}
	}
}

func TestKeysAndNames(t *testing.T) {
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewVerifier("example.com", p384.Public()); err == nil {
		t.Error("a P-384 key is accepted")
	}
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "a b", "a+b", "a\nb", "a\u00a0b", strings.Repeat("a", 256)} {
		if _, err := NewVerifier(name, p256.Public()); err == nil {
			t.Errorf("name %q is accepted", name)
		}
	}
	if _, err := NewSigner("two\nlines", "example.com", p256); err == nil {
		t.Error("an origin with a newline is accepted")
	}
}

// TestBudget bounds what a note costs: at most ten times its length and 64 KiB.
func TestBudget(t *testing.T) {
	s := newSigner(t)
	for name, note := range map[string][]byte{
		"newlines": bytes.Repeat([]byte("\n"), MaxSize),
		"lines":    append([]byte("o\n5\nAQIDAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\n"), bytes.Repeat([]byte("— w AAAAAQIDBAU=\n"), 3000)...),
	} {
		res := testing.Benchmark(func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Open(note); err == nil {
					b.Fatal("opens")
				}
			}
		})
		if got, limit := res.AllocedBytesPerOp(), int64(10*len(note)+64<<10); got > limit {
			t.Errorf("%s: %d bytes allocated, want at most %d", name, got, limit)
		}
	}
}
