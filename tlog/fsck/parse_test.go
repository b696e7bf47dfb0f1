package fsck

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"runtime"
	"strings"
	"testing"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func u24(b []byte) []byte {
	return append([]byte{byte(len(b) >> 16), byte(len(b) >> 8), byte(len(b))}, b...)
}

// precert returns a root, and a precertificate with n more extensions as an
// entry of a CT log.
func precert(n int) (leaf, extra []byte, pre, clean *x509.Certificate) {
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root"}, IsCA: true, BasicConstraintsValid: true}
	root := must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key))))
	tmpl = &x509.Certificate{SerialNumber: big.NewInt(2), DNSNames: []string{"leaf.example"}}
	for i := range n {
		tmpl.ExtraExtensions = append(tmpl.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3, i}, Value: make([]byte, 60)})
	}
	clean = must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, tmpl, root, key.Public(), key))))
	tmpl.ExtraExtensions = append([]pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 3}, Critical: true, Value: []byte{5, 0}}}, tmpl.ExtraExtensions...)
	pre = must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, tmpl, root, key.Public(), key))))
	ikh := sha256.Sum256(root.RawSubjectPublicKeyInfo)
	leaf = append([]byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1}, ikh[:]...)
	leaf = append(append(leaf, u24(clean.RawTBSCertificate)...), 0, 0)
	extra = append(u24(pre.Raw), u24(u24(root.Raw))...)
	return leaf, extra, pre, clean
}

func TestWithoutPoison(t *testing.T) {
	for _, n := range []int{0, 1, 2, 3, 400} { // lengths of one, two and three bytes
		_, _, pre, clean := precert(n)
		got, err := withoutPoison(pre.RawTBSCertificate)
		if err != nil || !bytes.Equal(got, clean.RawTBSCertificate) {
			t.Errorf("%d extensions: %v, %x", n, err, got)
		}
		if _, err := withoutPoison(clean.RawTBSCertificate); err == nil {
			t.Error("took away what is not there")
		}
	}
	if got := must(withoutPoison(wrap(0x30, wrap(0xa3, wrap(0x30, poison()))))); !bytes.Equal(got, []byte{0x30, 0}) {
		t.Errorf("an empty list of extensions stays: %x", got)
	}
}

func TestAllocationBudget(t *testing.T) {
	leaf, extra, pre, _ := precert(900)
	parsed := must(parseLeaf(leaf))
	tiny := u24(bytes.Repeat([]byte{0, 0, 0}, 1<<20))
	body := []byte(`{"apiVersion":"0.0.1","kind":"x","spec":{` + strings.Repeat(`"a":1,`, 1<<16) + `"b":1}}`)
	deep := []byte(`{"apiVersion":"0.0.1","kind":"x","spec":` + strings.Repeat("[", 1<<18))
	for name, tc := range map[string]struct {
		size int
		f    func()
	}{
		"leaf":   {len(leaf), func() { must(parseLeaf(leaf)) }},
		"entry":  {len(leaf) + len(extra), func() { checkCert(parsed, extra, &links{}) }},
		"poison": {len(pre.RawTBSCertificate), func() { must(withoutPoison(pre.RawTBSCertificate)) }},
		"chain":  {len(tiny), func() { parseExtra(tiny, false) }},
		"body":   {len(body), func() { rekorBody(body) }},
		"deep":   {len(deep), func() { rekorBody(deep) }},
		"hashes": {1 << 16 * 3, func() { decodeHashes(make([]string, 1<<16)) }},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		tc.f()
		runtime.ReadMemStats(&after)
		if got, want := after.TotalAlloc-before.TotalAlloc, uint64(10*tc.size+1<<20); got > want {
			t.Errorf("%s: %d bytes allocated for %d, want at most %d", name, got, tc.size, want)
		}
	}
}

func TestReport(t *testing.T) {
	var r LogReport
	for i := range maxFindings + 5 {
		r.find(fmt.Sprintf("entry %d", i), "gone")
	}
	var b bytes.Buffer
	report := Report{[]*LogReport{&r, {Log: "x", Kind: "ct", Origin: "o", KeyID: "k"}}}
	if err := report.Write(&b); err != nil || report.OK() {
		t.Fatal(err)
	}
	for _, want := range []string{"WRONG   entry 999: gone\n", "WRONG   5 more\n", "x (ct)\n  origin  o\n", "  OK\n"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in the report", want)
		}
	}
}
