package ct

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/crypto/cryptobyte"

	"github.com/sigstack/sigstack/test/fuzz"
)

// leafSeed is a MerkleTreeLeaf, piece by piece.
func leafSeed(kind byte, issuer []byte, signed []byte) *fuzz.Node {
	return fuzz.Seq(fuzz.Leaf([]byte{0}), fuzz.Leaf([]byte{0}), fuzz.Leaf([]byte{0, 0, 1, 2, 3, 4, 5, 6}), fuzz.Leaf([]byte{0, kind}),
		fuzz.Leaf(issuer), fuzz.Prefixed(3, fuzz.Look(signed)), fuzz.Prefixed(2))
}

func FuzzParseLeaf(f *testing.F) {
	pre, clean := newCA("fuzz").precert(1)
	seeds := []*fuzz.Node{
		leafSeed(TypeX509, nil, clean.Raw),
		leafSeed(TypePrecert, make([]byte, 32), must(removePoison(pre.RawTBSCertificate))),
		leafSeed(TypeX509, nil, []byte{1}),
	}
	fuzz.Run(f, seeds, ParseLeaf, func(t *testing.T, in []byte, l Leaf, err error) {
		if err == nil && !bytes.Equal(l.Bytes(), in) {
			t.Fatal("a leaf has two spellings")
		}
	})
}

func sctSeed(sig []byte) *fuzz.Node {
	return fuzz.Seq(fuzz.Leaf([]byte{0}), fuzz.Leaf(bytes.Repeat([]byte{7}, 32)), fuzz.Leaf([]byte{0, 0, 1, 2, 3, 4, 5, 6}),
		fuzz.Prefixed(2), fuzz.Leaf([]byte{4}), fuzz.Leaf([]byte{3}), fuzz.Prefixed(2, fuzz.Look(sig)))
}

func FuzzParseSCT(f *testing.F) {
	seeds := []*fuzz.Node{sctSeed([]byte{1}), sctSeed([]byte{0x30, 6, 2, 1, 1, 2, 1, 1})}
	fuzz.Run(f, seeds, ParseSCT, func(t *testing.T, in []byte, s SCT, err error) {
		if err == nil && !bytes.Equal(s.Bytes(), in) {
			t.Fatal("an SCT has two spellings")
		}
	})
}

// What is stored beside a leaf: the signature of its SCT and the extra_data.
func FuzzSplitExtra(f *testing.F) {
	seeds := []*fuzz.Node{fuzz.Seq(fuzz.Prefixed(2, fuzz.Text("signature")), fuzz.Prefixed(3, fuzz.Prefixed(3, fuzz.Text("certificate")))), fuzz.Prefixed(2)}
	type parts struct{ sig, extra []byte }
	parse := func(in []byte) (p parts, err error) {
		p.sig, p.extra, err = splitExtra(in)
		return p, err
	}
	fuzz.Run(f, seeds, parse, func(t *testing.T, in []byte, p parts, err error) {
		if err == nil && !bytes.Equal(joinExtra(p.sig, p.extra), in) {
			t.Fatal("it is joined to something else")
		}
	})
}

// withoutPoison takes the poison out with encoding/asn1, which shares nothing
// with removePoison. It fails where there is not exactly one.
func withoutPoison(tbs []byte) ([]byte, error) {
	var outer asn1.RawValue
	if rest, err := asn1.Unmarshal(tbs, &outer); err != nil || len(rest) > 0 {
		return nil, errors.New("not one element")
	}
	var fields []asn1.RawValue
	for rest := outer.Bytes; len(rest) > 0; {
		var v asn1.RawValue
		var err error
		if rest, err = asn1.Unmarshal(rest, &v); err != nil {
			return nil, err
		}
		fields = append(fields, v)
	}
	if len(fields) == 0 {
		return nil, errors.New("no extensions")
	}
	last := fields[len(fields)-1]
	var list []asn1.RawValue
	if rest, err := asn1.Unmarshal(last.Bytes, &list); err != nil || len(rest) > 0 {
		return nil, errors.New("extensions are malformed")
	}
	var kept []asn1.RawValue
	for _, raw := range list {
		var e pkix.Extension
		if rest, err := asn1.Unmarshal(raw.FullBytes, &e); err == nil && len(rest) == 0 && e.Id.Equal(poisonOID()) {
			continue
		}
		kept = append(kept, raw)
	}
	if len(kept) != len(list)-1 {
		return nil, errors.New("not one poison")
	}
	fields = fields[:len(fields)-1]
	if len(kept) > 0 {
		inner, err := asn1.Marshal(kept)
		if err != nil {
			return nil, err
		}
		fields = append(fields, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 3, IsCompound: true, Bytes: inner})
	}
	return asn1.Marshal(fields)
}

func FuzzRemovePoison(f *testing.F) {
	ca := newCA("fuzz")
	pre, clean := ca.precert(1)
	only := leafTemplate(2)
	only.KeyUsage, only.ExtKeyUsage, only.EmailAddresses = 0, nil, nil
	only.ExtraExtensions = []pkix.Extension{poison()}
	seeds := fuzz.Seeds(pre.RawTBSCertificate, clean.RawTBSCertificate, issue(ca.root, ca.rootKey, ca.leafKey, only).RawTBSCertificate)
	fuzz.Run(f, seeds, removePoison, func(t *testing.T, tbs, out []byte, err error) {
		if err != nil {
			return
		}
		if len(out) >= len(tbs) {
			t.Fatal("nothing was removed")
		}
		if _, err := removePoison(out); err == nil {
			t.Fatal("a second poison was removed")
		}
		if !bytes.Contains(tbs, must(asn1.Marshal(poison()))) {
			t.Fatal("what was removed is not the poison")
		}
		// encoding/asn1 is stricter about what it looks into.
		if other, err := withoutPoison(tbs); err == nil && !bytes.Equal(other, out) {
			t.Fatalf("%x\nencoding/asn1 makes of it %x", out, other)
		}
	})
}

// A chain is accepted only if crypto/x509 finds each certificate signed by the
// next, up to the root of the log.
func FuzzCheckChain(f *testing.F) {
	l := newTestLog(f)
	pre, clean := l.ca.precert(1)
	seed := func(certs ...*x509.Certificate) *fuzz.Node {
		var kids []*fuzz.Node
		for _, c := range certs {
			kids = append(kids, fuzz.Prefixed(3, fuzz.Look(c.Raw)))
		}
		return fuzz.Seq(kids...)
	}
	seeds := []*fuzz.Node{
		seed(clean, l.ca.inter, l.ca.root), seed(pre, l.ca.inter), seed(l.ca.inter, l.ca.root), seed(l.ca.root),
		seed(clean, l.ca.inter, l.ca.inter, l.ca.root),
	}
	parse := func(in []byte) ([]*x509.Certificate, error) {
		var chain [][]byte
		for s := cryptobyte.String(in); !s.Empty(); {
			var cert cryptobyte.String
			if !s.ReadUint24LengthPrefixed(&cert) {
				return nil, ErrChain
			}
			chain = append(chain, cert)
		}
		if len(chain) == 0 {
			return nil, ErrChain
		}
		return l.checkChain(chain[0], chain[1:])
	}
	fuzz.Run(f, seeds, parse, func(t *testing.T, in []byte, path []*x509.Certificate, err error) {
		if err != nil {
			if !errors.Is(err, ErrChain) {
				t.Fatalf("error of no class: %v", err)
			}
			return
		}
		last := path[len(path)-1]
		if len(path) > MaxChain || !last.Equal(l.ca.root) {
			t.Fatalf("%d certificates up to %q", len(path), last.Subject)
		}
		for i, c := range path[:len(path)-1] {
			if err := c.CheckSignatureFrom(path[i+1]); err != nil || !bytes.Equal(c.RawIssuer, path[i+1].RawSubject) {
				t.Fatalf("certificate %d: %v", i, err)
			}
		}
	})
}

// crypto/x509 writes a name of many attributes in the square of their number.
// No message does that.
func TestLongNames(t *testing.T) {
	l := newTestLog(t)
	long := leafTemplate(1)
	for i := range 400 {
		long.Subject.ExtraNames = append(long.Subject.ExtraNames, pkix.AttributeTypeAndValue{
			Type: asn1.ObjectIdentifier{2, 5, 4, 10}, Value: strings.Repeat("x", 56) + strconv.Itoa(i)})
	}
	der := issue(nil, l.ca.leafKey, l.ca.leafKey, long).Raw // its own issuer
	if n := countElements(der); n > maxElements(der) {
		t.Fatalf("%d elements: it is refused for another reason", n)
	}
	for name, chain := range map[string][][]byte{"unknown issuer": nil, "wrong parent": {l.ca.root.Raw}} {
		fuzz.Budget(t, len(der), func() {
			if _, err := l.checkChain(der, chain); !errors.Is(err, ErrChain) || !strings.Contains(err.Error(), "a name of ") {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
}
