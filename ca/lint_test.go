package ca

import (
	"bytes"
	"crypto"
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sigstack/sigstack/ca/catest"
	"github.com/sigstack/sigstack/ca/ext"
)

// A plainTBS is a TBSCertificate for encoding/asn1, which tests change and write
// again. It shares nothing with profile.go or tbs.go.
type plainTBS struct {
	Version    int `asn1:"optional,explicit,default:0,tag:0"`
	Serial     *big.Int
	Algorithm  pkix.AlgorithmIdentifier
	Issuer     asn1.RawValue
	Validity   struct{ NotBefore, NotAfter time.Time }
	Subject    asn1.RawValue
	PublicKey  asn1.RawValue
	Extensions []pkix.Extension `asn1:"explicit,tag:3"`
}

func readPlain(t testing.TB, der []byte) *plainTBS {
	t.Helper()
	var p plainTBS
	if rest, err := asn1.Unmarshal(der, &p); err != nil || len(rest) != 0 {
		t.Fatal(err)
	}
	return &p
}

func (p *plainTBS) der(t testing.TB) []byte {
	t.Helper()
	der, err := asn1.Marshal(*p)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func (p *plainTBS) index(id asn1.ObjectIdentifier) int {
	return slices.IndexFunc(p.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(id) })
}

func (p *plainTBS) extension(id asn1.ObjectIdentifier) *pkix.Extension {
	return &p.Extensions[p.index(id)]
}

func (p *plainTBS) drop(id asn1.ObjectIdentifier) {
	i := p.index(id)
	p.Extensions = slices.Delete(p.Extensions, i, i+1)
}

func raw(t testing.TB, value any) asn1.RawValue {
	t.Helper()
	der, err := asn1.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return asn1.RawValue{FullBytes: der}
}

// TestLints breaks a good certificate in one point a time. Each rule must be the
// one to object at least once.
func TestLints(t *testing.T) {
	w := newP256World(t)
	p := w.profile(t)
	otherKey, err := x509.MarshalPKIXPublicKey(catest.ECDSA(t, elliptic.P256()).Public())
	if err != nil {
		t.Fatal(err)
	}
	weakKey, err := x509.MarshalPKIXPublicKey(catest.ECDSA(t, elliptic.P224()).Public())
	if err != nil {
		t.Fatal(err)
	}
	otherSAN, err := ext.SAN{Kind: ext.Email, Value: "mallory@example.com"}.Extension()
	if err != nil {
		t.Fatal(err)
	}
	otherValues := p.values
	otherValues.Subject = "someone else"
	fakeSCT := []byte("an SCT, for lint only a string of bytes")
	list, err := sctList(fakeSCT)
	if err != nil {
		t.Fatal(err)
	}
	twoSCTs, err := octetString([]byte("\x00\x06\x00\x01a\x00\x01b"))
	if err != nil {
		t.Fatal(err)
	}
	const onPrecert, onFinal = 1, 2
	const parse = "x509"

	for _, c := range []struct {
		name   string
		rule   string // which must object; parse if crypto/x509 does already
		on     int    // on which kinds of certificate
		change func(*plainTBS)
	}{
		{"version 1", "version", 3, func(p *plainTBS) { p.Version = 1 }},
		{"serial 0", "serial number", 3, func(p *plainTBS) { p.Serial = big.NewInt(0) }},
		{"serial short", "serial number", 3, func(p *plainTBS) { p.Serial = big.NewInt(1 << 62) }},
		{"serial negative", parse, 3, func(p *plainTBS) { p.Serial = new(big.Int).Neg(p.Serial) }},
		{"serial long", "serial number", 3, func(p *plainTBS) { p.Serial = new(big.Int).Lsh(p.Serial, 1) }},
		{"serial other", "serial number", 3, func(p *plainTBS) { p.Serial = new(big.Int).Sub(p.Serial, big.NewInt(1)) }},
		{"algorithm inside other", parse, 3, func(p *plainTBS) { p.Algorithm.Algorithm[6] = 3 }},
		{"issuer", "issuer", 3, func(p *plainTBS) { p.Issuer = raw(t, pkix.Name{CommonName: "other"}.ToRDNSequence()) }},
		{"subject", "subject", 3, func(p *plainTBS) { p.Subject = raw(t, pkix.Name{CommonName: "name"}.ToRDNSequence()) }},
		{"backdated", "validity", 3, func(p *plainTBS) { p.Validity.NotBefore = p.Validity.NotBefore.Add(-time.Second) }},
		{"a second longer", "validity", 3, func(p *plainTBS) { p.Validity.NotAfter = p.Validity.NotAfter.Add(time.Second) }},
		{"a second shorter", "validity", 3, func(p *plainTBS) { p.Validity.NotAfter = p.Validity.NotAfter.Add(-time.Second) }},
		{"other key", "public key", 3, func(p *plainTBS) { p.PublicKey = asn1.RawValue{FullBytes: otherKey} }},
		{"a CA", "basic constraints", 3, func(p *plainTBS) {
			p.Extensions = append(p.Extensions, pkix.Extension{Id: oidBasicConstraints(), Critical: true, Value: []byte{0x30, 3, 1, 1, 0xff}})
		}},
		{"says not a CA", "basic constraints", 3, func(p *plainTBS) {
			p.Extensions = append(p.Extensions, pkix.Extension{Id: oidBasicConstraints(), Value: []byte{0x30, 0}})
		}},
		{"no key usage", "key usage", 3, func(p *plainTBS) { p.drop(oidKeyUsage()) }},
		{"key usage not critical", "key usage", 3, func(p *plainTBS) { p.extension(oidKeyUsage()).Critical = false }},
		{"key usage keyCertSign", "key usage", 3, func(p *plainTBS) { p.extension(oidKeyUsage()).Value = []byte{3, 2, 2, 0x84} }},
		{"no extended key usage", "extended key usage", 3, func(p *plainTBS) { p.drop(oidExtKeyUsage()) }},
		{"extended key usage critical", "extended key usage", 3, func(p *plainTBS) { p.extension(oidExtKeyUsage()).Critical = true }},
		{"extended key usage serverAuth", "extended key usage", 3, func(p *plainTBS) { p.extension(oidExtKeyUsage()).Value[11] = 1 }},
		{"extended key usage unknown", "extended key usage", 3, func(p *plainTBS) { p.extension(oidExtKeyUsage()).Value[11] = 99 }},
		{"no SKI", "subject key identifier", 3, func(p *plainTBS) { p.drop(oidSubjectKeyID()) }},
		{"other SKI", "subject key identifier", 3, func(p *plainTBS) { p.extension(oidSubjectKeyID()).Value[5] ^= 1 }},
		{"no AKI", "authority key identifier", 3, func(p *plainTBS) { p.drop(oidAuthorityKeyID()) }},
		{"other AKI", "authority key identifier", 3, func(p *plainTBS) { p.extension(oidAuthorityKeyID()).Value[5] ^= 1 }},
		{"AKI with serial", "authority key identifier", 3, func(p *plainTBS) {
			e := p.extension(oidAuthorityKeyID())
			e.Value = append(append([]byte{0x30, e.Value[1] + 3}, e.Value[2:]...), 0x82, 1, 1)
		}},
		{"no SAN", "subject alternative name", 3, func(p *plainTBS) { p.drop(oidSAN()) }},
		{"SAN not critical", "subject alternative name", 3, func(p *plainTBS) { p.extension(oidSAN()).Critical = false }},
		{"other SAN", "subject alternative name", 3, func(p *plainTBS) { *p.extension(oidSAN()) = otherSAN }},
		{"two SANs", "subject alternative name", 3, func(p *plainTBS) {
			e := p.extension(oidSAN())
			e.Value = append(append([]byte{0x30, e.Value[1] + 5}, e.Value[2:]...), 0x82, 3, 'a', '.', 'b')
		}},
		{"no issuer extension", "identity encoding", 3, func(p *plainTBS) { p.drop(fulcioOID(8)) }},
		{"another issuer in .1", "identity encoding", 3, func(p *plainTBS) { p.extension(fulcioOID(1)).Value[0] ^= 1 }},
		{".8 as bare text", "identity encoding", 3, func(p *plainTBS) { e := p.extension(fulcioOID(8)); e.Value = e.Value[2:] }},
		{".8 as an IA5String", "identity encoding", 3, func(p *plainTBS) { p.extension(fulcioOID(8)).Value[0] = 22 }},
		{".1 as a UTF8String", "identity encoding", 3, func(p *plainTBS) { p.extension(fulcioOID(1)).Value = p.extension(fulcioOID(8)).Value }},
		{".24 with something behind", "identity encoding", 3, func(p *plainTBS) { e := p.extension(fulcioOID(24)); e.Value = append(e.Value, 0) }},
		{".24 empty", "identity encoding", 3, func(p *plainTBS) { p.extension(fulcioOID(24)).Value = []byte{12, 0} }},
		{".24 not UTF-8", "identity encoding", 3, func(p *plainTBS) { p.extension(fulcioOID(24)).Value = []byte{12, 1, 0xff} }},
		{".7", "identity encoding", 3, func(p *plainTBS) { p.extension(fulcioOID(24)).Id = fulcioOID(7) }},
		{".25", "identity encoding", 3, func(p *plainTBS) { p.extension(fulcioOID(24)).Id = fulcioOID(25) }},
		{".24 critical", "critical extensions", 3, func(p *plainTBS) { p.extension(fulcioOID(24)).Critical = true }},
		{"one more, critical", "critical extensions", 3, func(p *plainTBS) {
			p.Extensions = append(p.Extensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}})
		}},
		{"other values", "identity extensions", 3, func(p *plainTBS) {
			extensions, err := otherValues.Extensions()
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range extensions {
				*p.extension(e.Id) = e
			}
		}},
		{"no poison", "poison and SCT list", onPrecert, func(p *plainTBS) { p.drop(oidPoison()) }},
		{"poison not critical", "poison and SCT list", onPrecert, func(p *plainTBS) { p.extension(oidPoison()).Critical = false }},
		{"poison with a value", "poison and SCT list", onPrecert, func(p *plainTBS) { p.extension(oidPoison()).Value = []byte{4, 0} }},
		{"SCT list in a precertificate", "poison and SCT list", onPrecert, func(p *plainTBS) { p.Extensions = append(p.Extensions, list) }},
		{"no SCT list", "poison and SCT list", onFinal, func(p *plainTBS) { p.drop(oidSCTList()) }},
		{"SCT list critical", "poison and SCT list", onFinal, func(p *plainTBS) { p.extension(oidSCTList()).Critical = true }},
		{"another SCT", "poison and SCT list", onFinal, func(p *plainTBS) { p.extension(oidSCTList()).Value[10] ^= 1 }},
		{"two SCTs", "poison and SCT list", onFinal, func(p *plainTBS) { p.extension(oidSCTList()).Value = twoSCTs }},
		{"an SCT list that lies", parse, onFinal, func(p *plainTBS) { p.extension(oidSCTList()).Value[3]++ }},
		{"poison in a certificate", "poison and SCT list", onFinal, func(p *plainTBS) { p.Extensions = append(p.Extensions, poison()) }},
		{"swapped", "extension order", 3, func(p *plainTBS) { p.Extensions[0], p.Extensions[1] = p.Extensions[1], p.Extensions[0] }},
		{"one more", "extension order", 3, func(p *plainTBS) {
			p.Extensions = append(p.Extensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3}, Value: []byte{5, 0}})
		}},
		{"twice", parse, 3, func(p *plainTBS) { p.Extensions = append(p.Extensions, p.Extensions[5]) }},
	} {
		for kind, last := range map[int]pkix.Extension{onPrecert: poison(), onFinal: list} {
			if c.on&kind == 0 {
				continue
			}
			var sct []byte
			if kind == onFinal {
				sct = fakeSCT
			}
			good, err := p.tbsWith(last)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := lint(good, p, sct); err != nil {
				t.Fatalf("a good certificate: %v", err)
			}
			plain := readPlain(t, good)
			if !bytes.Equal(plain.der(t), good) {
				t.Fatal("encoding/asn1 writes the same certificate in other bytes")
			}
			c.change(plain)
			l, err := lint(plain.der(t), p, sct)
			if l != nil || err == nil {
				t.Errorf("%s (%d): passed", c.name, kind)
				continue
			}
			rule := strings.SplitN(err.Error(), ": ", 3)[1]
			if rule != c.rule && !(c.rule == parse && (rule == "x509" || rule == "poison and SCT list")) {
				t.Errorf("%s (%d): %q objected and not %q: %v", c.name, kind, rule, c.rule, err)
			}
		}
	}

	// What only a wrong profile can do.
	weird := func(rule string, change func(*profile)) {
		t.Helper()
		p := *p
		chain := *p.chain
		p.chain = &chain
		change(&p)
		tbs, err := p.tbsWith(poison())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := lint(tbs, &p, nil); err == nil || !strings.HasPrefix(err.Error(), "lint: "+rule+": ") {
			t.Errorf("%s: %v", rule, err)
		}
	}
	weird("signature algorithm", func(p *profile) {
		p.chain.algorithm = algorithm{name: x509.ECDSAWithSHA384, oid: []int{1, 2, 840, 10045, 4, 3, 3}, hash: crypto.SHA384}
	})
	weird("signature algorithm", func(p *profile) {
		p.chain.algorithm = algorithm{oid: []int{1, 2, 840, 10045, 4, 3, 99}, hash: crypto.SHA384}
	})
	weird("validity", func(p *profile) { p.notAfter = p.chain.certs[0].NotAfter.Add(time.Second) })
	weird("validity", func(p *profile) { p.notBefore = p.chain.certs[0].NotBefore.Add(-time.Second) })
	weird("validity", func(p *profile) { p.notAfter = p.notBefore })
	weird("public key", func(p *profile) { p.key.spki = weakKey })
	weird("serial number", func(p *profile) { p.serial = big.NewInt(1) })

	weird("lifetime", func(p *profile) { p.atMost -= time.Second })
	weird("lifetime", func(p *profile) {
		p.notAfter = p.notBefore.Add(MaxLifetime + MaxBackdate + time.Second)
		p.atMost = 48 * time.Hour
	})
	for name, other := range map[string]*standIn{
		"another key":                        {key: catest.ECDSA(t, elliptic.P256()), cert: p.chain.standIn.cert},
		"a verifier that knows the real key": {key: p.chain.standIn.key, cert: p.chain.certs[0]},
	} {
		chain, p := *p.chain, *p
		p.chain, chain.standIn = &chain, other
		tbs, err := p.tbsWith(list)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := lint(tbs, &p, fakeSCT); err == nil || !strings.HasPrefix(err.Error(), "lint: signature: ") {
			t.Errorf("%s: %v", name, err)
		}
	}

	// Times that crypto/x509 takes, and that RFC 5280 does not.
	good, err := p.tbsWith(poison())
	if err != nil {
		t.Fatal(err)
	}
	for name, times := range map[string]string{
		"GeneralizedTime before 2050": "\x18\x0f20260304050607Z\x17\x0d260304051607Z",
		"both":                        "\x18\x0f20260304050607Z\x18\x0f20260304051607Z",
		"without seconds":             "\x17\x0b2603040506Z\x17\x0d260304051607Z",
	} {
		l := &linting{cert: &x509.Certificate{RawTBSCertificate: withValidity(t, good, times), NotBefore: p.notBefore, NotAfter: p.notAfter}, want: p}
		if err := lintTimes(l); err == nil {
			t.Errorf("%s: passed", name)
		}
	}
	if err := lintTimes(&linting{cert: &x509.Certificate{RawTBSCertificate: withValidity(t, good, "\x17\x0d260304050607Z\x17\x0d260304051607Z"), NotBefore: p.notBefore, NotAfter: p.notAfter}, want: p}); err != nil {
		t.Errorf("two UTCTimes: %v", err)
	}
	// An extension that stands twice does not come past crypto/x509 today.
	twice := &x509.Certificate{Extensions: []pkix.Extension{{Id: oidSAN()}, {Id: oidKeyUsage()}, {Id: oidSAN()}}}
	if err := lintOnce(&linting{cert: twice}); err == nil {
		t.Error("an extension that stands twice: passed")
	}

	// Whoever adds a rule adds an example.
	tested := "version, serial number, signature algorithm, issuer, validity, lifetime, time encoding, subject, public key, basic constraints, key usage, " +
		"extended key usage, subject key identifier, authority key identifier, subject alternative name, poison and SCT list, critical extensions, " +
		"identity encoding, identity extensions, extension order, extensions once, signature"
	var rules []string
	for _, r := range lintRules() {
		rules = append(rules, r.name)
	}
	if got := strings.Join(rules, ", "); got != tested {
		t.Errorf("the rules are %s; the examples are for %s", got, tested)
	}
}

func fulcioOID(n int) asn1.ObjectIdentifier {
	return asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, n}
}

// withValidity is a TBSCertificate with another validity, whose content is given.
func withValidity(t *testing.T, tbs []byte, times string) []byte {
	t.Helper()
	var fields []asn1.RawValue
	if _, err := asn1.Unmarshal(tbs, &fields); err != nil {
		t.Fatal(err)
	}
	fields[4] = asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: []byte(times)}
	der, err := asn1.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// TestCorrespond changes each field and each extension of a certificate.
func TestCorrespond(t *testing.T) {
	w := newP256World(t)
	p := w.profile(t)
	list, err := sctList([]byte("any"))
	if err != nil {
		t.Fatal(err)
	}
	pre, err := p.tbsWith(poison())
	if err != nil {
		t.Fatal(err)
	}
	final, err := p.tbsWith(list)
	if err != nil {
		t.Fatal(err)
	}
	if err := correspond(pre, final); err != nil {
		t.Fatal(err)
	}
	cases := map[string]func(*plainTBS){
		"version":             func(p *plainTBS) { p.Version = 1 },
		"serial number":       func(p *plainTBS) { p.Serial = big.NewInt(7) },
		"signature algorithm": func(p *plainTBS) { p.Algorithm.Algorithm[6]++ },
		"issuer":              func(p *plainTBS) { p.Issuer = raw(t, pkix.Name{CommonName: "x"}.ToRDNSequence()) },
		"not before":          func(p *plainTBS) { p.Validity.NotBefore = p.Validity.NotBefore.Add(time.Second) },
		"not after":           func(p *plainTBS) { p.Validity.NotAfter = p.Validity.NotAfter.Add(time.Second) },
		"subject":             func(p *plainTBS) { p.Subject = raw(t, pkix.Name{CommonName: "x"}.ToRDNSequence()) },
		"public key":          func(p *plainTBS) { p.PublicKey.FullBytes[len(p.PublicKey.FullBytes)-1] ^= 1 },
		"poison stays":        func(p *plainTBS) { p.Extensions = append(p.Extensions, poison()) },
		"no list":             func(p *plainTBS) { p.drop(oidSCTList()) },
		"two lists":           func(p *plainTBS) { p.Extensions = append(p.Extensions, list) },
		"list critical":       func(p *plainTBS) { p.extension(oidSCTList()).Critical = true },
		"list empty":          func(p *plainTBS) { p.extension(oidSCTList()).Value = []byte{4, 2, 0, 0} },
		"list malformed":      func(p *plainTBS) { p.extension(oidSCTList()).Value = []byte{5, 0} },
		"list first":          func(p *plainTBS) { p.drop(oidSCTList()); p.Extensions = slices.Insert(p.Extensions, 0, list) },
		"one more": func(p *plainTBS) {
			p.Extensions = append(p.Extensions, pkix.Extension{Id: []int{1, 2, 3}, Value: []byte{5, 0}})
		},
	}
	for i, e := range readPlain(t, final).Extensions {
		if e.Id.Equal(oidSCTList()) {
			continue
		}
		cases["value of "+e.Id.String()] = func(p *plainTBS) { p.Extensions[i].Value[len(e.Value)-1] ^= 1 }
		cases["critical of "+e.Id.String()] = func(p *plainTBS) { p.Extensions[i].Critical = !p.Extensions[i].Critical }
		cases["no "+e.Id.String()] = func(p *plainTBS) { p.Extensions = slices.Delete(p.Extensions, i, i+1) }
		cases["moved "+e.Id.String()] = func(p *plainTBS) {
			j := (i + 1) % (len(p.Extensions) - 1)
			p.Extensions[i], p.Extensions[j] = p.Extensions[j], p.Extensions[i]
		}
	}
	for name, change := range cases {
		plain := readPlain(t, bytes.Clone(final))
		change(plain)
		if err := correspond(pre, plain.der(t)); err == nil {
			t.Errorf("%s: passed", name)
		}
	}
	for i := range final {
		if correspond(pre, final[:i]) == nil {
			t.Errorf("certificate cut at %d: passed", i)
		}
	}
	for i := range pre {
		if correspond(pre[:i], final) == nil {
			t.Errorf("precertificate cut at %d: passed", i)
		}
	}
	for i := range final { // any byte outside the list
		changed := bytes.Clone(final)
		changed[i] ^= 0x01
		inList := i >= len(final)-len(list.Value)
		if err := correspond(pre, changed); err == nil && !inList {
			t.Errorf("byte %d changed: passed", i)
		}
	}
	if correspond(final, final) == nil || correspond(pre, pre) == nil || correspond(final, pre) == nil {
		t.Error("the wrong kinds pass")
	}
}
