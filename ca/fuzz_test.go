package ca

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"testing"

	"golang.org/x/crypto/cryptobyte"

	"github.com/sigstack/sigstack/test/fuzz"
)

// verification allows for the work on a key that parsing includes: the checks
// against weak RSA keys, and the signature of a request.
const verification = 512 << 10

func allowVerification([]byte) int { return verification }

// A key that is accepted is one that crypto/x509 reads, and one is all there is.
func FuzzParsePublicKey(f *testing.F) {
	var seeds []*fuzz.Node
	for _, key := range testKeys(f) {
		der := spkiOf(f, key.Public())
		seeds = append(seeds, fuzz.Seeds(der, pemOf("PUBLIC KEY", der))...)
	}
	fuzz.RunWith(f, fuzz.Options{Allow: allowVerification}, seeds, ParsePublicKey, func(t *testing.T, in []byte, key crypto.PublicKey, err error) {
		if err != nil {
			if !errors.Is(err, ErrRequest) {
				t.Errorf("class of %v", err)
			}
			return
		}
		again, err := ParsePublicKey(spkiOf(t, key))
		if err != nil || !again.(interface{ Equal(crypto.PublicKey) bool }).Equal(key) {
			t.Errorf("does not survive a round trip: %v", err)
		}
		der := in
		if block, _ := pem.Decode(bytes.TrimSpace(in)); block != nil {
			if der = block.Bytes; block.Type == "RSA PUBLIC KEY" {
				return
			}
		}
		other, err := x509.ParsePKIXPublicKey(der)
		if err != nil || !key.(interface{ Equal(crypto.PublicKey) bool }).Equal(other) {
			t.Errorf("crypto/x509 reads %v, %v", other, err)
		}
	})
}

// A request is accepted if its signature is by the key in it, which
// crypto/x509 has to say as well.
func FuzzParseCSR(f *testing.F) {
	var seeds []*fuzz.Node
	for _, key := range testKeys(f) {
		seeds = append(seeds, fuzz.Look(pemOf("CERTIFICATE REQUEST", csrOf(f, key, 0))))
	}
	fuzz.RunWith(f, fuzz.Options{Allow: allowVerification}, seeds, ParseCSR, func(t *testing.T, in []byte, key ProvenKey, err error) {
		if (err == nil) != key.valid() || err != nil && !errors.Is(err, ErrRequest) {
			t.Fatalf("key %v, error %v", key, err)
		}
		if err != nil {
			return
		}
		block, _ := pem.Decode(bytes.TrimSpace(in))
		if block == nil {
			t.Fatal("accepted without PEM")
		}
		csr, err := x509.ParseCertificateRequest(block.Bytes)
		if err != nil || csr.CheckSignature() != nil || !bytes.Equal(key.spki, spkiOf(t, csr.PublicKey)) {
			t.Fatalf("crypto/x509 does not agree: %v", err)
		}
	})
}

// What was cut out of a TBSCertificate can be put together again.
func FuzzSplit(f *testing.F) {
	w := newP256World(f)
	pre, final, _ := w.pair(f)
	fuzz.Run(f, fuzz.Seeds(pre, final), split, func(t *testing.T, in []byte, s *splitTBS, err error) {
		if err != nil {
			return
		}
		var whole, list []byte
		for _, part := range s.fields {
			whole = append(whole, part...)
		}
		for _, part := range s.raw {
			list = append(list, part...)
		}
		der, err := asn1.Marshal([]asn1.RawValue{{FullBytes: append(whole, raw(t, asn1.RawValue{
			Class: asn1.ClassContextSpecific, Tag: 3, IsCompound: true,
			Bytes: raw(t, asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: list}).FullBytes,
		}).FullBytes...)}})
		if err != nil || !bytes.Equal(der, in) {
			t.Errorf("%x\nbecame %x: %v", in, der, err)
		}
		if rest, _, err := s.without(oidPoison()); err == nil {
			if _, err := split(rest); err != nil {
				t.Errorf("without the poison: %v", err)
			}
		}
	})
}

// pair returns the TBSCertificates of a precertificate and of its certificate,
// and the SCT in it.
func (w *world) pair(t testing.TB) (pre, final, sct []byte) {
	t.Helper()
	p := w.profile(t)
	pre, err := p.tbsWith(poison())
	if err != nil {
		t.Fatal(err)
	}
	l, err := lint(pre, p, nil)
	if err != nil {
		t.Fatal(err)
	}
	precert, _, err := l.sign(w.chain, &recorded{serial: p.serial}, w.CA.rand)
	if err != nil {
		t.Fatal(err)
	}
	if sct, err = w.log.AddPreChain(t.Context(), precert, w.chain.DER()); err != nil {
		t.Fatal(err)
	}
	list, err := sctList(sct)
	if err != nil {
		t.Fatal(err)
	}
	if final, err = p.tbsWith(list); err != nil {
		t.Fatal(err)
	}
	return pre, final, sct
}

// Whatever is done to a certificate: it corresponds to its precertificate only
// if nothing but the list of SCTs is another.
func FuzzCorrespond(f *testing.F) {
	w := newP256World(f)
	pre, final, _ := w.pair(f)
	parse := func(in []byte) (struct{}, error) { return struct{}{}, correspond(pre, in) }
	fuzz.Run(f, fuzz.Seeds(final, pre), parse, func(t *testing.T, in []byte, _ struct{}, err error) {
		if err != nil {
			return
		}
		a, b := readPlain(t, final), readPlain(t, in)
		for _, p := range []*plainTBS{a, b} {
			list := p.extension(oidSCTList())
			if scts, err := parseSCTList(list.Value); err != nil || len(scts) == 0 {
				t.Fatalf("it corresponds with the list %x", list.Value)
			}
			list.Value = []byte{4, 0}
		}
		if !bytes.Equal(a.der(t), b.der(t)) {
			t.Fatal("it corresponds, but not only the list of SCTs was changed")
		}
	})
}

func sctSeed(sct []byte) *fuzz.Node {
	// Version, log, time, extensions, algorithms and signature (RFC 6962, section 3.2).
	return fuzz.Seq(fuzz.Leaf(sct[:1]), fuzz.Leaf(sct[1:33]), fuzz.Leaf(sct[33:41]), fuzz.Prefixed(2),
		fuzz.Leaf(sct[43:44]), fuzz.Leaf(sct[44:45]), fuzz.Prefixed(2, fuzz.Look(sct[47:])))
}

func FuzzSCT(f *testing.F) {
	w := newP256World(f)
	tbs, _, sct := w.pair(f)
	if seed := sctSeed(sct); !bytes.Equal(seed.Bytes(), sct) {
		f.Fatal("the SCT has another structure")
	}
	parse := func(in []byte) (*timestamp, error) { return w.logKey.verifySCT(in, tbs, w.chain, w.now) }
	fuzz.RunWith(f, fuzz.Options{Allow: allowVerification}, []*fuzz.Node{sctSeed(sct)}, parse, func(t *testing.T, in []byte, _ *timestamp, err error) {
		if err == nil && !bytes.Equal(in, sct) {
			t.Errorf("an SCT that the log did not sign: %x", in)
		}
		e, err := sctList(in)
		if err != nil {
			return
		}
		if scts, err := parseSCTList(e.Value); err != nil || len(scts) != 1 || !bytes.Equal(scts[0], in) {
			t.Errorf("list: %v", err)
		}
	})
}

// The value of the extension that carries SCTs, of any number.
func FuzzSCTList(f *testing.F) {
	seed := func(scts ...string) *fuzz.Node {
		var kids []*fuzz.Node
		for _, s := range scts {
			kids = append(kids, fuzz.Prefixed(2, fuzz.Text(s)))
		}
		return fuzz.Join(func(kids [][]byte) []byte {
			der, err := octetString(bytes.Join(kids, nil))
			if err != nil {
				return nil
			}
			return der
		}, fuzz.Prefixed(2, kids...))
	}
	fuzz.Run(f, []*fuzz.Node{seed("one"), seed("one", "another"), seed()}, parseSCTList, func(t *testing.T, in []byte, scts [][]byte, err error) {
		if err != nil {
			return
		}
		var b cryptobyte.Builder
		b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
			for _, sct := range scts {
				b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(sct) })
			}
		})
		again, err := octetString(b.BytesOrPanic())
		if err != nil || !bytes.Equal(again, in) {
			t.Errorf("a list has two spellings: %x and %x", in, again)
		}
	})
}
