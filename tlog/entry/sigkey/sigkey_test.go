package sigkey

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/blake2b"
)

// A sample is a key and signature over content, from a public vector.
type sample struct {
	name, format      string
	key, sig, content []byte
}

func samples(t testing.TB) []sample {
	t.Helper()
	files, err := filepath.Glob("../../../test/vectors/rekor/rekord-*.json")
	if err != nil || len(files) < 7 {
		t.Fatalf("%d vectors: %v", len(files), err)
	}
	var all []sample
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		var v struct {
			Name    string
			Request struct {
				Spec struct {
					Signature struct {
						Format    string
						Content   []byte
						PublicKey struct{ Content []byte }
					}
					Data struct{ Content []byte }
				}
			}
		}
		if err := json.Unmarshal(data, &v); err != nil {
			t.Fatal(err)
		}
		s := v.Request.Spec
		all = append(all, sample{v.Name, s.Signature.Format, s.Signature.PublicKey.Content, s.Signature.Content, s.Data.Content})
	}
	return all
}

// Every sample verifies, does not verify over another message, and canonical
// text parses to itself and verifies the same.
func TestSamples(t *testing.T) {
	formats := map[string]bool{}
	for _, s := range samples(t) {
		formats[s.format] = true
		k, err := ParseKey(s.format, s.key)
		if err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		sig, err := ParseSignature(s.format, s.sig)
		if err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		if err := k.Verify(s.content, sig); err != nil {
			t.Errorf("%s: %v", s.name, err)
		}
		if err := k.Verify(append(bytes.Clone(s.content), 'x'), sig); err == nil {
			t.Errorf("%s: verifies another message", s.name)
		}
		k2, err := ParseKey(s.format, k.Canonical())
		if err != nil || !bytes.Equal(k2.Canonical(), k.Canonical()) || !slices.Equal(k2.Subjects(), k.Subjects()) {
			t.Errorf("%s: canonical key is not stable: %v", s.name, err)
		}
		sig2, err := ParseSignature(s.format, sig.Canonical())
		if err != nil || !bytes.Equal(sig2.Canonical(), sig.Canonical()) {
			t.Errorf("%s: canonical signature is not stable: %v", s.name, err)
			continue
		}
		if err := k2.Verify(s.content, sig2); err != nil {
			t.Errorf("%s: canonical: %v", s.name, err)
		}
		for _, other := range samples(t) {
			if o, err := ParseKey(other.format, other.key); err != nil {
				t.Fatal(err)
			} else if err := o.Verify(s.content, sig); err == nil && !bytes.Equal(o.Canonical(), k.Canonical()) {
				t.Errorf("%s: the key of %s verifies it", s.name, other.name)
			}
		}
		keys := SearchKeys(k)
		if keys[0] != Hash(k) || keys[1] != "sha256:"+Hash(k) || len(Hash(k)) != 64 {
			t.Errorf("%s: search keys %q", s.name, keys)
		}
	}
	if len(formats) != 4 {
		t.Errorf("formats %v", formats)
	}
	if _, err := ParseKey("tuf", nil); !errors.Is(err, ErrFormat) {
		t.Error(err)
	}
	if _, err := ParseSignature("pkcs7", nil); !errors.Is(err, ErrFormat) {
		t.Error(err)
	}
}

func genEC(t testing.TB, c elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func spki(t testing.TB, pub crypto.PublicKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func block(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// issue makes a certificate for subject; a nil issuer makes a self-signed root.
func issue(t testing.TB, name string, subject *ecdsa.PrivateKey, issuer *x509.Certificate, signer crypto.Signer, change func(*x509.Certificate)) *x509.Certificate {
	t.Helper()
	c := &x509.Certificate{
		SerialNumber: big.NewInt(5), Subject: pkix.Name{CommonName: name}, BasicConstraintsValid: true, IsCA: true,
		NotBefore: time.Unix(1_600_000_000, 0), NotAfter: time.Unix(1_600_000_600, 0),
	}
	if change != nil {
		change(c)
	}
	if issuer == nil {
		issuer, signer = c, subject
	}
	der, err := x509.CreateCertificate(rand.Reader, c, issuer, subject.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return c
}

func chainPEM(certs ...*x509.Certificate) []byte {
	var out []byte
	for _, c := range certs {
		out = append(out, block("CERTIFICATE", c.Raw)...)
	}
	return out
}

func TestX509Forms(t *testing.T) {
	k := genEC(t, elliptic.P256())
	der := spki(t, k.Public())
	plain := block("PUBLIC KEY", der)
	cert := block("CERTIFICATE", issue(t, "leaf", k, nil, nil, nil).Raw)
	ten := bytes.Repeat(cert, 10)
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	huge := &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 8192), E: 65537}
	huge.N.SetBit(huge.N, 0, 1)
	tiny := &rsa.PublicKey{N: big.NewInt(3233), E: 17}
	headers := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Headers: map[string]string{"X": "y"}, Bytes: der})
	for _, c := range []struct {
		name string
		in   []byte
		want []byte // canonical text; nil if refused
	}{
		{"key", plain, plain},
		{"key, CRLF", bytes.ReplaceAll(plain, []byte("\n"), []byte("\r\n")), plain},
		{"key, no newline", bytes.TrimSpace(plain), plain},
		{"key, text before", append([]byte("hello\n"), plain...), plain},
		{"key, headers", headers, plain},
		{"certificate", cert, cert},
		{"ten certificates", ten, ten},
		{"RSA 1024", block("PUBLIC KEY", spki(t, small.Public())), block("PUBLIC KEY", spki(t, small.Public()))},
		{"eleven certificates", append(slices.Clone(ten), cert...), nil},
		{"key and text", append(slices.Clone(plain), "hello"...), nil},
		{"certificate and text", append(slices.Clone(cert), "hello"...), nil},
		{"two keys", append(slices.Clone(plain), plain...), nil},
		{"key, certificate", append(slices.Clone(plain), cert...), nil},
		{"certificate, key", append(slices.Clone(cert), plain...), nil},
		{"DER", der, nil},
		{"PKCS #1", block("RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(&small.PublicKey)), nil},
		{"trailing DER", block("PUBLIC KEY", append(slices.Clone(der), 0)), nil},
		{"key in a certificate block", block("CERTIFICATE", der), nil},
		{"P-224", block("PUBLIC KEY", spki(t, genEC(t, elliptic.P224()).Public())), nil},
		{"RSA 8193", block("PUBLIC KEY", spki(t, huge)), nil},
		{"RSA 12", block("PUBLIC KEY", spki(t, tiny)), nil},
		{"nothing", nil, nil},
		{"too long", append(slices.Clone(plain), bytes.Repeat([]byte("\n"), MaxKeySize)...), nil},
	} {
		got, err := ParseX509(c.in)
		switch {
		case (err == nil) != (c.want != nil):
			t.Errorf("%s: error %v", c.name, err)
		case err == nil && !bytes.Equal(got.Canonical(), c.want):
			t.Errorf("%s: canonical\n%s", c.name, got.Canonical())
		case err != nil && strings.Contains(err.Error(), "\n"):
			t.Errorf("%s: %q", c.name, err)
		}
	}
	// Cut or extended anywhere, the DER of a key is refused or means the same.
	for i := range der {
		if _, err := ParseX509(block("PUBLIC KEY", der[:i])); err == nil {
			t.Errorf("SubjectPublicKeyInfo cut after %d bytes accepted", i)
		}
	}
}

func TestX509Chain(t *testing.T) {
	rootKey, midKey, leafKey := genEC(t, elliptic.P256()), genEC(t, elliptic.P384()), genEC(t, elliptic.P256())
	root := issue(t, "root", rootKey, nil, nil, nil)
	mid := issue(t, "mid", midKey, root, rootKey, nil)
	leaf := issue(t, "leaf", leafKey, mid, midKey, func(c *x509.Certificate) {
		c.IsCA = false
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}
	})
	stranger := issue(t, "root", leafKey, nil, nil, nil)
	message := []byte("message")
	digest := sha256.Sum256(message)
	sig, err := leafKey.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		chain []byte
		ok    bool
	}{
		{"leaf", chainPEM(leaf), true}, // expired, and nobody asks
		{"full", chainPEM(leaf, mid, root), true},
		{"without root", chainPEM(leaf, mid), true},
		{"extra certificate inside", chainPEM(leaf, stranger, mid, root), true},
		{"wrong order", chainPEM(mid, leaf, root), false},
		{"without intermediate", chainPEM(leaf, root), false},
		{"wrong root", chainPEM(leaf, mid, stranger), false},
	} {
		k, err := ParseX509(c.chain)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if err := k.Verify(message, X509Signature(sig)); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
		if !bytes.Equal(k.Canonical(), c.chain) {
			t.Errorf("%s: canonical text changed", c.name)
		}
	}
}

// A hostile chain costs a bounded number of verifications, once.
func TestX509ChainCost(t *testing.T) {
	large := &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 4103), E: 65537}
	large.N.SetBit(large.N, 0, 1)
	k := genEC(t, elliptic.P256())
	root := issue(t, "root", k, nil, nil, nil)
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: root.NotBefore, NotAfter: root.NotAfter}
	der, err := x509.CreateCertificate(rand.Reader, c, root, large, k)
	if err != nil {
		t.Fatal(err)
	}
	leaf := block("CERTIFICATE", der)
	if _, err := ParseX509(leaf); err != nil {
		t.Errorf("alone: %v", err)
	}
	if _, err := ParseX509(append(leaf, chainPEM(root)...)); err == nil || !strings.Contains(err.Error(), "at most 4096") {
		t.Errorf("in a chain: %v", err)
	}
	// Ten of one name, each with its own key, none signed by another.
	var certs []*x509.Certificate
	for range 10 {
		certs = append(certs, issue(t, "x", genEC(t, elliptic.P521()), nil, nil, nil))
	}
	key, err := ParseX509(chainPEM(certs...))
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	for range 1000 {
		if key.VerifyDigest(crypto.SHA256, make([]byte, 32), []byte("x")) == nil {
			t.Fatal("accepted")
		}
	}
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("took %v", d)
	}
}

func TestX509Subjects(t *testing.T) {
	userName := func(oid asn1.ObjectIdentifier, name string) asn1.RawValue {
		id, _ := asn1.Marshal(oid)
		text, _ := asn1.MarshalWithParams(name, "utf8")
		inner, _ := asn1.Marshal(asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: text})
		return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: append(id, inner...)}
	}
	k := genEC(t, elliptic.P256())
	san, err := asn1.Marshal([]asn1.RawValue{
		{Class: asn1.ClassContextSpecific, Tag: 1, Bytes: []byte("A@example.com")},
		userName(asn1.ObjectIdentifier{1, 2, 3}, "not this"),
		userName(oidUserName, "user@some"),
		{Class: asn1.ClassContextSpecific, Tag: 2, Bytes: []byte("example.com")},
		{Class: asn1.ClassContextSpecific, Tag: 6, Bytes: []byte("https://example.com/x")},
		{Class: asn1.ClassContextSpecific, Tag: 7, Bytes: []byte{10, 1, 2, 3}},
		{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: []byte{6, 1}},
	})
	if err != nil {
		t.Fatal(err)
	}
	leaf := issue(t, "leaf", k, nil, nil, func(c *x509.Certificate) {
		c.ExtraExtensions = []pkix.Extension{{Id: oidSAN, Value: san}}
	})
	other := issue(t, "other", k, nil, nil, func(c *x509.Certificate) {
		c.DNSNames, c.IPAddresses = []string{"other.example.com"}, []net.IP{net.ParseIP("::1")}
		c.URIs = []*url.URL{{Scheme: "https", Host: "other.example.com"}}
	})
	key, err := ParseX509(chainPEM(leaf, other))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"example.com", "A@example.com", "10.1.2.3", "https://example.com/x", "user@some"}
	if got := key.Subjects(); !slices.Equal(got, want) {
		t.Errorf("subjects %q, want %q", got, want)
	}
	bare, err := ParseX509(block("PUBLIC KEY", spki(t, k.Public())))
	if err != nil || len(bare.Subjects()) != 0 {
		t.Errorf("%v %q", err, bare.Subjects())
	}
}

func TestX509VerifyDigest(t *testing.T) {
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	k, err := ParseX509(block("PUBLIC KEY", spki(t, ed.Public())))
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(nil)
	if err := k.VerifyDigest(crypto.SHA256, digest[:], make([]byte, 64)); err == nil {
		t.Error("Ed25519ph with SHA-256 accepted")
	}
	if err := k.VerifyDigest(crypto.SHA512, digest[:], make([]byte, 64)); err == nil || !strings.Contains(err.Error(), "length of digest") {
		t.Errorf("digest of the wrong length: %v", err)
	}
}

func TestMinisign(t *testing.T) {
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.StdEncoding.EncodeToString
	id, message := "\x01\x02\x03\x04\x05\x06\x07\x08", []byte("message")
	bare := b64([]byte("Ed" + id + string(pub)))
	sum := blake2b.Sum512(message)
	pure, hashed := ed25519.Sign(priv, message), ed25519.Sign(priv, sum[:])
	sig := func(alg, id string, s []byte) string { return b64([]byte(alg + id + string(s))) }
	global := b64(pure)
	for _, c := range []struct {
		name, key, sig string
		ok             bool
	}{
		{"minisign", "untrusted comment: k\n" + bare + "\n", "untrusted comment: s\n" + sig("Ed", id, pure) + "\ntrusted comment: t\n" + global + "\n", true},
		{"CRLF", "untrusted comment: k\r\n" + bare + "\r\n", "untrusted comment: s\r\n" + sig("Ed", id, pure) + "\r\ntrusted comment: t\r\n" + global + "\r\n", true},
		{"prehashed", bare, "c\n" + sig("ED", id, hashed) + "\ntrusted comment: t\n" + global, true},
		{"signify", "c\n" + bare, "c\n" + sig("Ed", id, pure), true},
		{"bare key bytes", string(pub), "c\n" + sig("Ed", id, pure), true},
		{"pure as prehashed", bare, "c\n" + sig("ED", id, pure), false},
		{"prehashed as pure", bare, "c\n" + sig("Ed", id, hashed), false},
		{"another key ID", bare, "c\n" + sig("Ed", "abcdefgh", pure), false},
		{"another algorithm", bare, "c\n" + sig("XX", id, pure), false},
		{"key of another algorithm", b64([]byte("ED" + id + string(pub))), "c\n" + sig("Ed", id, pure), false},
		{"short signature", bare, "c\n" + sig("Ed", id, pure[1:]), false},
		{"long signature", bare, "c\n" + sig("Ed", id, append(pure, 0)), false},
		{"bad global signature", bare, "c\n" + sig("Ed", id, pure) + "\ntrusted comment: t\nAAAA", false},
		{"three lines", bare, "c\n" + sig("Ed", id, pure) + "\nx", false},
		{"five lines", bare, "c\n" + sig("Ed", id, pure) + "\nt\n" + global + "\nx", false},
		{"one line", bare, sig("Ed", id, pure), false},
		{"key of three lines", "a\nb\n" + bare, "c\n" + sig("Ed", id, pure), false},
		{"short key", bare[4:], "c\n" + sig("Ed", id, pure), false},
		{"empty key", "", "c\n" + sig("Ed", id, pure), false},
	} {
		k, err := ParseKey(FormatMinisign, []byte(c.key))
		if err == nil {
			var s Signature
			if s, err = ParseSignature(FormatMinisign, []byte(c.sig)); err == nil {
				err = k.Verify(message, s)
			}
		}
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// allocated returns the bytes that f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// Memory is at most ten times the input and 1 MB, for every format.
func TestAllocation(t *testing.T) {
	inputs := map[string][]byte{}
	for _, s := range samples(t) {
		inputs[s.name+" key"], inputs[s.name+" signature"] = s.key, s.sig
		inputs[s.name+" many keys"] = bytes.Repeat(s.key, 64)
		inputs[s.name+" many signatures"] = bytes.Repeat(s.sig, 64)
	}
	for name, unit := range map[string]string{
		"newlines": "\n", "PEM": "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n",
		"PGP blocks":     "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nxgA=\n-----END PGP PUBLIC KEY BLOCK-----\n",
		"armor headers":  "A: b\n",
		"PGP markers":    "\xca\x00",
		"PGP user IDs":   "\xcd\x01x",
		"PGP signatures": "\xc2\x01\x04", "PGP keys": "\xc6\x06\x04\x00\x00\x00\x00\x01", "ssh lines": "ssh-rsa AAAA x\n", "ssh options": "a,",
	} {
		for _, n := range []int{10, 100, 1000, 10_000} {
			inputs[fmt.Sprintf("%s x %d", name, n)] = []byte(strings.Repeat(unit, n))
		}
	}
	inputs["armor headers, in armor"] = []byte("-----BEGIN PGP PUBLIC KEY BLOCK-----\n" + strings.Repeat("A: b\n", 10_000))
	for _, format := range []string{FormatX509, FormatPGP, FormatMinisign, FormatSSH} {
		for name, in := range inputs {
			for what, parse := range map[string]func(){
				"key":       func() { _, _ = ParseKey(format, in) },
				"signature": func() { _, _ = ParseSignature(format, in) },
			} {
				parse()
				if got := allocated(parse); got > uint64(10*len(in)+1<<20) {
					t.Errorf("%s as %s %s: %d bytes allocated for %d", name, format, what, got, len(in))
				}
			}
		}
	}
}

// A damaged key or signature is refused or means something else; it is never
// a panic, and never the key that it was with another canonical text.
func TestDamaged(t *testing.T) {
	for _, s := range samples(t) {
		key, err := ParseKey(s.format, s.key)
		if err != nil {
			t.Fatal(err)
		}
		sig, err := ParseSignature(s.format, s.sig)
		if err != nil {
			t.Fatal(err)
		}
		step := 1 + len(s.key)/400
		for i := 0; i < len(s.key); i += step {
			for _, c := range [][]byte{s.key[:i], flip(s.key, i), slices.Insert(bytes.Clone(s.key), i, s.key[i])} {
				checkKey(t, s.format, c)
				if k, err := ParseKey(s.format, c); err == nil {
					_ = k.Verify(s.content, sig)
				}
			}
		}
		step = 1 + len(s.sig)/400
		for i := 0; i < len(s.sig); i += step {
			for _, c := range [][]byte{s.sig[:i], flip(s.sig, i), slices.Insert(bytes.Clone(s.sig), i, s.sig[i])} {
				checkSignature(t, s.format, c)
				if g, err := ParseSignature(s.format, c); err == nil {
					_ = key.Verify(s.content, g)
				}
			}
		}
	}
}

func flip(b []byte, i int) []byte {
	c := bytes.Clone(b)
	c[i] ^= 4
	return c
}

// checkKey holds ParseKey to its promises for any input.
func checkKey(t *testing.T, format string, in []byte) {
	t.Helper()
	k, err := ParseKey(format, in)
	if err != nil {
		if strings.ContainsAny(err.Error(), "\n\r") || len(err.Error()) > 500 {
			t.Fatalf("%s: error %q", format, err)
		}
		return
	}
	again, err := ParseKey(format, k.Canonical())
	if err != nil || !bytes.Equal(again.Canonical(), k.Canonical()) || !slices.Equal(again.Subjects(), k.Subjects()) {
		t.Fatalf("%s: canonical key is not stable: %v\n%q\n%q", format, err, in, k.Canonical())
	}
}

func checkSignature(t *testing.T, format string, in []byte) {
	t.Helper()
	s, err := ParseSignature(format, in)
	if err != nil {
		if strings.ContainsAny(err.Error(), "\n\r") || len(err.Error()) > 500 {
			t.Fatalf("%s: error %q", format, err)
		}
		return
	}
	again, err := ParseSignature(format, s.Canonical())
	if err != nil || !bytes.Equal(again.Canonical(), s.Canonical()) {
		t.Fatalf("%s: canonical signature is not stable: %v\n%q\n%q", format, err, in, s.Canonical())
	}
}

func TestForeign(t *testing.T) {
	got := foreign("x", errors.New("a\n\x1b[1mb\xff\u202e"+strings.Repeat("\u00e9", 200))).Error()
	if want := "x: a??[1mb??" + strings.Repeat("\u00e9", (maxForeign-9)/2) + "..."; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	line := "ssh-x AAAABGEKYgo=" // a key type with line breaks
	if _, err := ParseKey(FormatSSH, []byte(line)); err == nil || strings.Contains(err.Error(), "\n") {
		t.Errorf("error %q", err)
	}
}

// TestP256Canonical compares the canonical text of P-256 keys, and of whatever
// parses with one byte changed, with what the library encodes.
func TestP256Canonical(t *testing.T) {
	for range 8 {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.MarshalPKIXPublicKey(key.Public())
		if err != nil || len(der) != p256Size || !bytes.HasPrefix(der, p256Prefix) {
			t.Fatalf("a P-256 key is encoded as %x (%v)", der, err)
		}
		for i := range der {
			for _, bit := range []byte{0, 1, 0x80} {
				changed := bytes.Clone(der)
				changed[i] ^= bit
				k, err := parsePKIX(changed)
				if err != nil {
					continue
				}
				want, err := x509.MarshalPKIXPublicKey(k.pub)
				if err != nil || !bytes.Equal(k.canonical, pem.EncodeToMemory(&pem.Block{Type: pemPublicKey, Bytes: want})) {
					t.Fatalf("byte %d of %x: canonical\n%s\nwant %x (%v)", i, changed, k.canonical, want, err)
				}
			}
		}
	}
}
