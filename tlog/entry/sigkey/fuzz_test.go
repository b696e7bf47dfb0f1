package sigkey

import (
	"bytes"
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"io"
	"os"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp/armor"

	"github.com/sigstack/sigstack/test/fuzz"
)

// seedOf finds the structure of a key or signature of a format.
func seedOf(format string, b []byte) *fuzz.Node {
	if format != FormatPGP {
		return fuzz.Look(b)
	}
	block, err := armor.Decode(bytes.NewReader(b))
	if err != nil {
		return packets(b) // binary
	}
	raw, err := io.ReadAll(block.Body)
	if err != nil {
		return fuzz.Leaf(b)
	}
	return fuzz.Join(func(kids [][]byte) []byte {
		var out bytes.Buffer
		w, err := armor.Encode(&out, block.Type, nil)
		if err != nil {
			return nil
		}
		w.Write(bytes.Join(kids, nil))
		w.Close()
		return out.Bytes()
	}, packets(raw))
}

// packets takes OpenPGP packets apart (RFC 4880, section 4.2): each is its tag
// and its content, with a length in the new format.
func packets(b []byte) *fuzz.Node {
	var all []*fuzz.Node
	for len(b) > 0 {
		tag, content, rest, ok := packetOf(b)
		if !ok {
			all = append(all, fuzz.Leaf(b))
			break
		}
		inner := fuzz.Leaf(content)
		if tag == 2 {
			inner = signaturePacket(content)
		}
		all = append(all, fuzz.Join(func(kids [][]byte) []byte {
			if len(kids) == 0 {
				return nil
			}
			content := bytes.Join(kids[1:], nil)
			out := append(bytes.Clone(kids[0]), 0xff)
			return append(binary.BigEndian.AppendUint32(out, uint32(len(content))), content...)
		}, fuzz.Leaf([]byte{0xc0 | tag}), inner))
		b = rest
	}
	return fuzz.Seq(all...)
}

// packetOf cuts one packet of definite length off b.
func packetOf(b []byte) (tag byte, content, rest []byte, ok bool) {
	if len(b) < 2 || b[0]&0x80 == 0 {
		return 0, nil, nil, false
	}
	var n, head int
	if b[0]&0x40 != 0 {
		tag = b[0] & 0x3f
		switch l := int(b[1]); {
		case l < 192:
			n, head = l, 2
		case l < 224 && len(b) > 2:
			n, head = (l-192)<<8+int(b[2])+192, 3
		case l == 255 && len(b) > 5:
			n, head = int(binary.BigEndian.Uint32(b[2:])), 6
		default:
			return 0, nil, nil, false
		}
	} else {
		tag = b[0] >> 2 & 0xf
		size := 1 << (b[0] & 3)
		if size > 4 || len(b) < 1+size {
			return 0, nil, nil, false
		}
		for _, c := range b[1 : 1+size] {
			n = n<<8 | int(c)
		}
		head = 1 + size
	}
	if n > len(b)-head {
		return 0, nil, nil, false
	}
	return tag, b[head : head+n], b[head+n:], true
}

// signaturePacket takes a signature of version 4 apart (RFC 4880, section
// 5.2.3): what is hashed, what is not, and the numbers.
func signaturePacket(b []byte) *fuzz.Node {
	if len(b) < 6 || b[0] != 4 {
		return fuzz.Leaf(b)
	}
	kids := []*fuzz.Node{fuzz.Leaf(b[:1]), fuzz.Leaf(b[1:2]), fuzz.Leaf(b[2:3]), fuzz.Leaf(b[3:4])}
	rest := b[4:]
	for range 2 {
		if len(rest) < 2 || len(rest)-2 < int(binary.BigEndian.Uint16(rest)) {
			return fuzz.Leaf(b)
		}
		n := 2 + int(binary.BigEndian.Uint16(rest))
		var list []*fuzz.Node
		area := rest[2:n]
		for len(area) > 0 && area[0] < 192 && int(area[0]) < len(area) {
			list = append(list, fuzz.Prefixed(1, fuzz.Leaf(area[1:1+int(area[0])])))
			area = area[1+int(area[0]):]
		}
		kids = append(kids, fuzz.Prefixed(2, append(list, fuzz.Leaf(area))...))
		rest = rest[n:]
	}
	return fuzz.Seq(append(kids, fuzz.Leaf(rest))...)
}

// fuzzKey: a key has one canonical form, and none verifies a signature over
// what was not signed.
func fuzzKey(f *testing.F, format string) {
	var seeds []*fuzz.Node
	var sigs []Signature
	for _, s := range samples(f) {
		if s.format != format {
			continue
		}
		seeds = append(seeds, seedOf(format, s.key), fuzz.Leaf(s.key))
		sig, err := ParseSignature(format, s.sig)
		if err != nil {
			f.Fatal(err)
		}
		sigs = append(sigs, sig)
	}
	if format == FormatX509 {
		for _, name := range []string{"hashedrekord-cert-sans", "hashedrekord-certchain", "hashedrekord-p384-sha384", "hashedrekord-ed25519ph-sha512"} {
			seeds = append(seeds, fuzz.Look(keyOfVector(f, name)))
		}
	}
	parse := func(in []byte) (Key, error) { return ParseKey(format, in) }
	fuzz.RunWith(f, fuzz.Options{Allow: verifications(format)}, seeds, parse, func(t *testing.T, in []byte, k Key, err error) {
		checkKey(t, format, in)
		if err != nil {
			return
		}
		for _, sig := range sigs {
			if k.Verify([]byte("this was never signed"), sig) == nil {
				t.Fatal("verifies what was not signed")
			}
		}
		if format == FormatX509 {
			checkX509(t, k)
		}
	})
}

// verifications allows for what the reader of an OpenPGP ring has to verify
// while it reads: crypto/rsa allocates 60 kB to verify one signature by a key
// of 3072 bits, the largest among the seeds. maxRingSignatures and maxRingCost
// bound their number.
func verifications(format string) func(in []byte) int {
	if format != FormatPGP {
		return func([]byte) int { return 0 }
	}
	return func(in []byte) int {
		raw, err := pgpRingBytes(in)
		if err != nil {
			return 0
		}
		n := 0
		_ = eachPacket(raw, func(tag byte, _, _ []byte) error {
			if tag == tagSignature {
				n++
			}
			return nil
		})
		return 60_000 * min(n, maxRingSignatures)
	}
}

// checkX509 has crypto/x509 read the canonical form.
func checkX509(t *testing.T, k Key) {
	for rest, n := k.Canonical(), 0; len(rest) > 0; n++ {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			t.Fatalf("canonical form has something that is not PEM: %q", rest)
		}
		var err error
		switch block.Type {
		case "PUBLIC KEY":
			_, err = x509.ParsePKIXPublicKey(block.Bytes)
		case "CERTIFICATE":
			_, err = x509.ParseCertificate(block.Bytes)
		default:
			t.Fatalf("canonical form has a PEM block %q", block.Type)
		}
		if err != nil {
			t.Fatalf("crypto/x509 does not read block %d of the canonical form: %v", n, err)
		}
	}
}

// fuzzSignature: a signature has one canonical form, and says nothing about
// what was not signed.
func fuzzSignature(f *testing.F, format string) {
	var seeds []*fuzz.Node
	var keys []Key
	for _, s := range samples(f) {
		if s.format != format {
			continue
		}
		seeds = append(seeds, seedOf(format, s.sig), fuzz.Leaf(s.sig))
		k, err := ParseKey(format, s.key)
		if err != nil {
			f.Fatal(err)
		}
		keys = append(keys, k)
	}
	parse := func(in []byte) (Signature, error) { return ParseSignature(format, in) }
	fuzz.Run(f, seeds, parse, func(t *testing.T, in []byte, sig Signature, err error) {
		checkSignature(t, format, in)
		if err != nil {
			return
		}
		for _, k := range keys {
			if k.Verify([]byte("this was never signed"), sig) == nil {
				t.Fatal("verifies what was not signed")
			}
		}
	})
}

func FuzzKeyX509(f *testing.F)           { fuzzKey(f, FormatX509) }
func FuzzKeyPGP(f *testing.F)            { fuzzKey(f, FormatPGP) }
func FuzzKeyMinisign(f *testing.F)       { fuzzKey(f, FormatMinisign) }
func FuzzKeySSH(f *testing.F)            { fuzzKey(f, FormatSSH) }
func FuzzSignatureX509(f *testing.F)     { fuzzSignature(f, FormatX509) }
func FuzzSignaturePGP(f *testing.F)      { fuzzSignature(f, FormatPGP) }
func FuzzSignatureMinisign(f *testing.F) { fuzzSignature(f, FormatMinisign) }
func FuzzSignatureSSH(f *testing.F)      { fuzzSignature(f, FormatSSH) }

// Subpackets of two bytes become 80 in the library's memory, wherever they
// stand.
func TestManySubpackets(t *testing.T) {
	many := func(n int) []byte { return bytes.Repeat([]byte{1, 100}, n) }
	list := func(b []byte) []byte { return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...) }
	signature := func(kind byte, hashed, other []byte) []byte {
		out := append([]byte{4, kind, 22, 8}, list(append([]byte{5, 2, 0x60, 0, 0, 0}, hashed...))...)
		return append(append(out, list(other)...), 1, 2, 0, 1, 1, 0, 1, 1)
	}
	packetOf := func(tag byte, body []byte) []byte {
		return append(binary.BigEndian.AppendUint32([]byte{0xc0 | tag, 0xff}, uint32(len(body))), body...)
	}
	embedded := func(inner []byte) []byte {
		return append(binary.BigEndian.AppendUint32([]byte{0xff}, uint32(1+len(inner))), append([]byte{subpacketEmbedded}, inner...)...)
	}
	for name, build := range map[string]func(n int) []byte{
		"hashed":     func(n int) []byte { return packetOf(tagSignature, signature(0, many(n), nil)) },
		"not hashed": func(n int) []byte { return packetOf(tagSignature, signature(0, nil, many(n))) },
		"embedded": func(n int) []byte {
			return packetOf(tagSignature, signature(0, embedded(signature(0x19, many(n), nil)), nil))
		},
	} {
		if _, err := ParseSignature(FormatPGP, build(maxSubpackets/2)); err != nil {
			t.Errorf("%s: a few are refused: %v", name, err)
		}
		in := build(30_000)
		fuzz.Budget(t, len(in), func() {
			if _, err := ParseSignature(FormatPGP, in); err == nil {
				t.Errorf("%s: 30,000 are accepted", name)
			}
		})
	}
	in := packetOf(tagUserAttribute, many(100_000))
	fuzz.Budget(t, len(in), func() { _, _ = ParseKey(FormatPGP, in) })
}

// What is accepted can be read back from the log, also where the canonical text
// is longer than what was sent: a certificate in one long line.
func TestLongCanonical(t *testing.T) {
	k := genEC(t, elliptic.P256())
	for _, size := range []int{30_000, 47_000, 48_000, 48_500, 48_900, 49_000} {
		cert := issue(t, "leaf", k, nil, nil, func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Value: make([]byte, size)}}
		})
		in := []byte("-----BEGIN CERTIFICATE-----\n" + base64.StdEncoding.EncodeToString(cert.Raw) + "\n-----END CERTIFICATE-----\n")
		parsed, err := ParseX509(in)
		if err != nil {
			if len(in) < 60_000 {
				t.Errorf("%d bytes are refused: %v", len(in), err)
			}
			continue
		}
		if _, err := ParseX509(parsed.Canonical()); err != nil {
			t.Errorf("accepted with %d bytes, but not what is stored of it: %v", len(in), err)
		}
	}
}

// keyOfVector returns the key of a hashedrekord.
func keyOfVector(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile("../../../test/vectors/rekor/" + name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	var v struct {
		Request struct {
			Spec struct {
				Signature struct {
					PublicKey struct{ Content []byte }
				}
			}
		}
	}
	if err := json.Unmarshal(data, &v); err != nil || len(v.Request.Spec.Signature.PublicKey.Content) == 0 {
		t.Fatalf("%s: no key, %v", name, err)
	}
	return v.Request.Spec.Signature.PublicKey.Content
}
