package entry

import (
	"crypto"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/sigstack/sigstack/test/fuzz"
)

// claims are extensions of a certificate: bare bytes up to .7, UTF8Strings behind.
func claims(t testing.TB, values map[int]string) (list []pkix.Extension) {
	t.Helper()
	for number, value := range values {
		der := []byte(value)
		if number >= 8 {
			var err error
			if der, err = asn1.MarshalWithParams(value, "utf8"); err != nil {
				t.Fatal(err)
			}
		}
		list = append(list, pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, number}, Value: der})
	}
	return list
}

// signedWith is the proposal of a hashedrekord that a certificate with extensions has
// signed.
func signedWith(t testing.TB, extensions []pkix.Extension) []byte {
	t.Helper()
	k := ecKey(t, elliptic.P256())
	template := &x509.Certificate{SerialNumber: big.NewInt(1), URIs: []*url.URL{{Scheme: "https", Host: "Example.com", Path: "/W"}}, ExtraExtensions: extensions}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	digest := sha256.Sum256([]byte("artifact"))
	sig, err := k.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Appendf(nil, `{"kind":"hashedrekord","apiVersion":"0.0.1","spec":{"data":{"hash":{"algorithm":"sha256","value":"%x"}},"signature":{"content":"%s","publicKey":{"content":"%s"}}}}`,
		digest, base64.StdEncoding.EncodeToString(sig), base64.StdEncoding.EncodeToString(text))
}

// TestClaims finds entries by what their certificates claim. Claims are told from all
// other keys by their spelling, and what is not encoded as it should be is none.
func TestClaims(t *testing.T) {
	for _, c := range []struct {
		extensions []pkix.Extension
		keys       []string
		about      string // issuers, repositories, commits
	}{
		{nil, nil, "[] [] []"},
		{claims(t, map[int]string{1: "https://Issuer", 8: "https://Issuer", 5: "Acme/Widget", 12: "https://github.com/Acme/Widget", 3: "AB", 13: "ab", 4: "x", 9: "y", 24: "z"}),
			[]string{"Commit:ab", "Issuer:https://issuer", "Repository:acme/widget", "Repository:https://github.com/acme/widget"},
			"[https://Issuer] [Acme/Widget https://github.com/Acme/Widget] [AB ab]"},
		{claims(t, map[int]string{8: "only the new one"}), []string{"Issuer:only the new one"}, "[only the new one] [] []"},
		{claims(t, map[int]string{1: "\xff", 3: "", 5: strings.Repeat("x", MaxKeyLength)}), nil, "[] [" + strings.Repeat("x", MaxKeyLength) + "] []"},
		{[]pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 8}, Value: []byte("no DER")}, {Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 12}, Value: []byte{0x0c, 1, 'a', 0}},
			{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 2, 1}, Value: []byte("another arc")}, {Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1}, Value: []byte("the arc")}},
			nil, "[] [] []"},
	} {
		e, err := Propose(signedWith(t, c.extensions))
		if err != nil {
			t.Fatal(err)
		}
		keys := slices.DeleteFunc(slices.Clone(e.Keys), func(k string) bool { return k == strings.ToLower(k) })
		if !slices.Equal(keys, c.keys) {
			t.Errorf("keys %q, want %q", keys, c.keys)
		}
		about, err := Summarize(e.Body)
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(about.Issuers, about.Repositories, about.Commits); got != c.about {
			t.Errorf("about %s, want %s", got, c.about)
		}
		if got, want := fmt.Sprint(about.Kind, about.Version, about.Names, about.Hashes), fmt.Sprintf("hashedrekord0.0.1[https://Example.com/W] [sha256:%x]", sha256.Sum256([]byte("artifact"))); got != want || len(about.PublicKeys) != 1 {
			t.Errorf("about %s, %v, want %s", got, about.PublicKeys, want)
		}
	}
	// No subject of a statement becomes a claim.
	keys := &keySet{}
	addSubjectKeys(keys, []byte(`{"subject":[{"digest":{"Issuer":"https://issuer"}}]}`))
	if !slices.Equal(keys.keys, []string{"issuer:https://issuer"}) {
		t.Errorf("keys %q", keys.keys)
	}
}

// TestStoredKeys finds the keys of every vector again, in what is kept of it.
func TestStoredKeys(t *testing.T) {
	beside := 0
	for _, v := range vectors(t) {
		if !v.accepted() {
			continue
		}
		e, err := Propose(v.Request)
		if err != nil {
			t.Fatal(err)
		}
		keys, whole, err := StoredKeys(e.Body, e.Extra)
		if err != nil || !whole || !slices.Equal(keys, e.Keys) {
			t.Errorf("%s: keys %q, whole %v, %v, want %q", v.Name, keys, whole, err, e.Keys)
		}
		fewer, whole, err := StoredKeys(e.Body, nil) // of an older version
		if err != nil || whole != (e.Extra == nil) || len(fewer) > len(keys) {
			t.Errorf("%s: without what is beside it: keys %q, whole %v, %v", v.Name, fewer, whole, err)
		}
		if len(fewer) < len(keys) {
			beside++
		}
		if _, err := Summarize(e.Body); err != nil {
			t.Errorf("%s: %v", v.Name, err)
		}
		if _, _, err := StoredKeys(e.Body, []byte(`{"x`)); e.Extra != nil && err == nil {
			t.Errorf("%s: what is beside it is not JSON, and is taken", v.Name)
		}
	}
	if beside < 3 {
		t.Errorf("%d vectors have keys of a statement", beside)
	}
}

// What is kept beside an entry, as it is read back.
func FuzzStoredKeys(f *testing.F) {
	body := []byte(vectorNamed(f, "dsse-p256").DecodedBody)
	seeds := fuzz.Seeds(`[]`, `["sha256:ab","sha512:cd"]`, `["a",["b"],null]`)
	parse := func(in []byte) ([]string, error) {
		keys, _, err := StoredKeys(body, in)
		return keys, err
	}
	fuzz.RunWith(f, fuzz.Options{Allow: func([]byte) int { return 100_000 }}, seeds, parse, func(t *testing.T, in []byte, keys []string, err error) {
		if err != nil || len(in) == 0 {
			return
		}
		set := &keySet{}
		if err := readExtra(set, in); err != nil {
			t.Fatal(err)
		}
		again := &keySet{}
		if err := readExtra(again, appendExtra(nil, set.keys)); err != nil {
			t.Fatal(err)
		}
		first, err := set.sorted()
		if second, err2 := again.sorted(); !slices.Equal(first, second) || err != err2 {
			t.Fatalf("%q, written and read %q, %v, %v", first, second, err, err2)
		}
		for _, k := range keys {
			if k == "" || len(k) > MaxKeyLength || strings.HasPrefix(k, string(Issuer)) {
				t.Fatalf("key %q", k)
			}
		}
	})
}
