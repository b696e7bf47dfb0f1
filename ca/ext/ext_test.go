package ext

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"math/big"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"
)

// full has a value in every field.
func full() Values {
	return Values{
		Issuer: "https://i.example", GitHubWorkflowTrigger: "push", GitHubWorkflowSHA: "s3", GitHubWorkflowName: "n4",
		GitHubWorkflowRepository: "o/r", GitHubWorkflowRef: "refs/heads/m",
		BuildSignerURI: "v9", BuildSignerDigest: "v10", RunnerEnvironment: "v11", SourceRepositoryURI: "v12",
		SourceRepositoryDigest: "v13", SourceRepositoryRef: "v14", SourceRepositoryIdentifier: "v15",
		SourceRepositoryOwnerURI: "v16", SourceRepositoryOwnerIdentifier: "v17", BuildConfigURI: "v18",
		BuildConfigDigest: "v19", BuildTrigger: "v20", RunInvocationURI: "v21",
		SourceRepositoryVisibilityAtSigning: "v22", DeploymentEnvironment: "v\u00fc", Subject: "repo:o/r",
	}
}

// fullDER is the DER of each extension of full: SEQUENCE (30), OBJECT IDENTIFIER (06) of ten
// bytes, OCTET STRING (04). 57264 is 83 bf 30 in base 128. Written by hand.
var fullDER = []string{
	"30 1f 06 0a 2b 06 01 04 01 83 bf 30 01 01 04 11 68747470733a2f2f692e6578616d706c65",
	"30 12 06 0a 2b 06 01 04 01 83 bf 30 01 02 04 04 70757368",
	"30 10 06 0a 2b 06 01 04 01 83 bf 30 01 03 04 02 7333",
	"30 10 06 0a 2b 06 01 04 01 83 bf 30 01 04 04 02 6e34",
	"30 11 06 0a 2b 06 01 04 01 83 bf 30 01 05 04 03 6f2f72",
	"30 1a 06 0a 2b 06 01 04 01 83 bf 30 01 06 04 0c 726566732f68656164732f6d",
	"30 21 06 0a 2b 06 01 04 01 83 bf 30 01 08 04 13 0c 11 68747470733a2f2f692e6578616d706c65",
	"30 12 06 0a 2b 06 01 04 01 83 bf 30 01 09 04 04 0c 02 7639",
	"30 13 06 0a 2b 06 01 04 01 83 bf 30 01 0a 04 05 0c 03 763130",
	"30 13 06 0a 2b 06 01 04 01 83 bf 30 01 0b 04 05 0c 03 763131",
	"30 13 06 0a 2b 06 01 04 01 83 bf 30 01 0c 04 05 0c 03 763132",
	"30 13 06 0a 2b 06 01 04 01 83 bf 30 01 0d 04 05 0c 03 763133",
	"30 13 06 0a 2b 06 01 04 01 83 bf 30 01 0e 04 05 0c 03 763134",
	"30 13 06 0a 2b 06 01 04 01 83 bf 30 01 0f 04 05 0c 03 763135",
	"30 13 06 0a 2b 06 01 04 01 83 bf 30 01 10 04 05 0c 03 763136",
	"30 13 06 0a 2b 06 01 04 01 83 bf 30 01 11 04 05 0c 03 763137",
	"30 13 06 0a 2b 06 01 04 01 83 bf 30 01 12 04 05 0c 03 763138",
	"30 13 06 0a 2b 06 01 04 01 83 bf 30 01 13 04 05 0c 03 763139",
	"30 13 06 0a 2b 06 01 04 01 83 bf 30 01 14 04 05 0c 03 763230",
	"30 13 06 0a 2b 06 01 04 01 83 bf 30 01 15 04 05 0c 03 763231",
	"30 13 06 0a 2b 06 01 04 01 83 bf 30 01 16 04 05 0c 03 763232",
	"30 13 06 0a 2b 06 01 04 01 83 bf 30 01 17 04 05 0c 03 76c3bc",
	"30 18 06 0a 2b 06 01 04 01 83 bf 30 01 18 04 0a 0c 08 7265706f3a6f2f72",
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func mustExtensions(t testing.TB, v Values) []pkix.Extension {
	t.Helper()
	list, err := v.Extensions()
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestExtensionsByteExact(t *testing.T) {
	list := mustExtensions(t, full())
	if len(list) != len(fullDER) {
		t.Fatalf("%d extensions, want %d", len(list), len(fullDER))
	}
	for i, e := range list {
		got, err := asn1.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		if want := unhex(t, fullDER[i]); !bytes.Equal(got, want) {
			t.Errorf("%v:\n got %x\nwant %x", e.Id, got, want)
		}
	}
	// Every field of the struct has been given a value, so none is without a row.
	v := reflect.ValueOf(full())
	for i := range v.NumField() {
		if v.Field(i).String() == "" {
			t.Errorf("field %s is not tested", v.Type().Field(i).Name)
		}
	}
	back, err := Parse(list)
	if err != nil || back != full() {
		t.Errorf("Parse: %+v, %v", back, err)
	}
}

// A value of 200 bytes needs the long form of the length: 0c 81 c8.
func TestLongForm(t *testing.T) {
	long := strings.Repeat("x", 200)
	list := mustExtensions(t, Values{Issuer: "i", Subject: long})
	if got, want := list[2].Value, append(unhex(t, "0c 81 c8"), long...); !bytes.Equal(got, want) {
		t.Errorf("got %x", got)
	}
}

func TestExtensionsMinimal(t *testing.T) {
	list := mustExtensions(t, Values{Issuer: "i", Subject: "s"})
	var ids []string
	for _, e := range list {
		ids = append(ids, e.Id.String())
	}
	want := []string{"1.3.6.1.4.1.57264.1.1", "1.3.6.1.4.1.57264.1.8", "1.3.6.1.4.1.57264.1.24"}
	if !reflect.DeepEqual(ids, want) {
		t.Errorf("got %v, want %v", ids, want)
	}
}

func TestExtensionsRefuses(t *testing.T) {
	for name, v := range map[string]Values{
		"no issuer":        {Subject: "s"},
		"issuer not UTF-8": {Issuer: "\xff"},
		"raw not UTF-8":    {Issuer: "i", GitHubWorkflowName: "\xff"},
		"not UTF-8":        {Issuer: "i", Subject: "a\xc3"},
		"too long":         {Issuer: "i", Subject: strings.Repeat("a", MaxValue+1)},
	} {
		if list, err := v.Extensions(); err == nil {
			t.Errorf("%s: accepted as %v", name, list)
		}
	}
	if _, err := (Values{Issuer: "i", Subject: strings.Repeat("a", MaxValue)}).Extensions(); err != nil {
		t.Errorf("the longest value: %v", err)
	}
}

func TestParseRefuses(t *testing.T) {
	x := func(number int, value string) pkix.Extension {
		return pkix.Extension{Id: arc(number), Value: unhex(t, value)}
	}
	one, eight := x(1, "69"), x(8, "0c 01 69")
	critical := x(24, "0c 01 73")
	critical.Critical = true
	for name, list := range map[string][]pkix.Extension{
		"empty":                     nil,
		"only .1":                   {one},
		"only .8":                   {eight},
		".1 and .8 differ":          {one, x(8, "0c 01 6a")},
		".1 twice":                  {one, one, eight},
		".8 twice":                  {one, eight, eight},
		".24 twice":                 {one, eight, x(24, "0c 01 73"), x(24, "0c 01 73")},
		"descending":                {eight, one},
		".7 is no extension":        {one, x(7, "0c 01 69"), eight},
		"unknown .25":               {one, eight, x(25, "0c 01 69")},
		"arc without a number":      {one, eight, {Id: arc(0)[:8], Value: []byte{0x0c, 1, 'a'}}},
		"below a known number":      {one, eight, {Id: append(arc(9), 1), Value: []byte{0x0c, 1, 'a'}}},
		"very long identifier":      {one, eight, {Id: append(arc(9), make([]int, 5000)...)}},
		"critical":                  {one, eight, critical},
		"raw empty":                 {x(1, ""), eight},
		".1 in DER":                 {x(1, "0c 01 69"), eight},
		".8 raw":                    {one, x(8, "69")},
		".8 empty":                  {one, x(8, "")},
		".8 empty string":           {one, x(8, "0c 00")},
		".8 PrintableString":        {one, x(8, "13 01 69")},
		".8 IA5String":              {one, x(8, "16 01 69")},
		".8 BMPString":              {one, x(8, "1e 02 00 69")},
		".8 OCTET STRING":           {one, x(8, "04 01 69")},
		".8 constructed":            {one, x(8, "2c 03 0c 01 69")},
		".8 long form of length":    {one, x(8, "0c 81 01 69")},
		".8 indefinite length":      {one, x(8, "0c 80 69 00 00")},
		".8 trailing byte":          {one, x(8, "0c 01 69 00")},
		".8 cut":                    {one, x(8, "0c 02 69")},
		".8 not UTF-8":              {x(1, "ff"), x(8, "0c 01 ff")},
		".8 UTF-16 surrogate":       {one, x(8, "0c 03 ed a0 80")},
		".8 overlong UTF-8":         {one, x(8, "0c 02 c1 a9")},
		".2 not UTF-8":              {one, x(2, "fe"), eight},
		".24 longer than MaxValue":  {one, eight, {Id: arc(24), Value: append(unhex(t, "0c 82 10 01"), make([]byte, MaxValue+1)...)}},
		".4 longer than MaxValue":   {one, {Id: arc(4), Value: bytes.Repeat([]byte("a"), MaxValue+1)}, eight},
		".2 behind .8 (descending)": {one, eight, x(2, "69")},
	} {
		if v, err := Parse(list); err == nil {
			t.Errorf("%s: accepted as %+v", name, v)
		} else if len(err.Error()) > 300 || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: message is not one short line: %q", name, err)
		}
	}
	// Extensions of other arcs are left alone, wherever they stand.
	other := pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 15}, Critical: true, Value: []byte{1}}
	sibling := pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 2}, Value: []byte{1}}
	if v, err := Parse([]pkix.Extension{other, one, other, sibling, eight, other}); err != nil || v != (Values{Issuer: "i"}) {
		t.Errorf("with other extensions: %+v, %v", v, err)
	}
}

func TestSANByteExact(t *testing.T) {
	for _, c := range []struct {
		san SAN
		der string
	}{
		{SAN{Email, "a@b.example"}, "30 0d 81 0b 6140622e6578616d706c65"},
		{SAN{URI, "https://e.example/a"}, "30 15 86 13 68747470733a2f2f652e6578616d706c652f61"},
		// SEQUENCE { [0] { OBJECT IDENTIFIER 1.3.6.1.4.1.57264.1.7, [0] { UTF8String } } }
		{SAN{Username, "u!e.example"}, "30 1d a0 1b 06 0a 2b 06 01 04 01 83 bf 30 01 07 a0 0d 0c 0b 7521652e6578616d706c65"},
	} {
		e, err := c.san.Extension()
		if err != nil {
			t.Fatal(err)
		}
		if !e.Critical || e.Id.String() != "2.5.29.17" || !bytes.Equal(e.Value, unhex(t, c.der)) {
			t.Errorf("%v: %v critical=%v %x", c.san, e.Id, e.Critical, e.Value)
		}
		if back, err := ParseSAN(e); err != nil || back != c.san {
			t.Errorf("%v: ParseSAN: %v, %v", c.san, back, err)
		}
	}
}

func TestSANRefuses(t *testing.T) {
	for _, s := range []SAN{
		{}, {0, "a@b"}, {4, "a@b"}, {-1, "a@b"},
		{Email, ""}, {Email, "a"}, {Email, "@b"}, {Email, "a@"}, {Email, "a b@c"}, {Email, "a@b\x00"}, {Email, "a@b\n"},
		{Email, "\u00e4@b.example"}, {Email, "a@b\u00fc.example"}, {Email, strings.Repeat("a", 253) + "@b"},
		{URI, ""}, {URI, "/a"}, {URI, "a"}, {URI, "e.example/a"}, {URI, "https:"}, {URI, "https://e.example/ a"},
		{URI, "https://e.example/\u00fc"}, {URI, "https://e..example/"}, {URI, "https://.e/"}, {URI, "https://e./"},
		{URI, "https://e.example/%zz"}, {URI, "https://e.example:x/"}, {URI, "https://e\x00/"}, {URI, "://e"},
		{URI, "https://" + strings.Repeat("a", MaxValue)},
		{Username, ""}, {Username, "u"}, {Username, "!e"}, {Username, "u!"}, {Username, "u!e!f"}, {Username, "u\n!e"}, {Username, "\xff!e"},
	} {
		if e, err := s.Extension(); err == nil {
			t.Errorf("%v %q: encoded as %x", s.Kind, s.Value, e.Value)
		} else if strings.Contains(err.Error(), "\n") || len(err.Error()) > 300 {
			t.Errorf("%v %q: message is not one short line: %q", s.Kind, s.Value, err)
		}
	}
}

func TestParseSANRefuses(t *testing.T) {
	san := func(der string) pkix.Extension {
		return pkix.Extension{Id: oidSAN(), Critical: true, Value: unhex(t, der)}
	}
	plain := san("30 05 81 03 614062")
	plain.Critical = false
	other := san("30 05 81 03 614062")
	other.Id = asn1.ObjectIdentifier{2, 5, 29, 18}
	for name, e := range map[string]pkix.Extension{
		"not critical":              plain,
		"another extension":         other,
		"empty value":               san(""),
		"no name":                   san("30 00"),
		"two names":                 san("30 0a 81 03 614062 81 03 614063"),
		"two forms":                 san("30 0a 81 03 614062 86 03 613a62"),
		"trailing byte":             san("30 05 81 03 614062 00"),
		"cut":                       san("30 05 81 03 6140"),
		"set, not sequence":         san("31 05 81 03 614062"),
		"long form of length":       san("30 81 05 81 03 614062"),
		"long form of inner length": san("30 06 81 81 03 614062"),
		"constructed mail name":     san("30 05 a1 03 614062"),
		"universal IA5String":       san("30 05 16 03 614062"),
		"dNSName":                   san("30 05 82 03 612e62"),
		"directoryName":             san("30 04 a4 02 30 00"),
		"iPAddress":                 san("30 06 87 04 7f000001"),
		"registeredID":              san("30 05 88 03 2a0304"),
		"mail with NUL":             san("30 06 81 04 61406200"),
		"mail in UTF-8":             san("30 06 81 04 c3a44062"),
		"mail empty":                san("30 02 81 00"),
		"relative URI":              san("30 05 86 03 2f6162"),
		"otherName of another type": san("30 13 a0 11 06 0a 2b 06 01 04 01 83 bf 30 01 06 a0 03 0c 01 61"),
		"otherName UPN":             san("30 18 a0 16 06 0a 2b 06 01 04 01 82 37 14 02 03 a0 08 0c 06 752165 2e6578"),
		"otherName IA5String":       san("30 15 a0 13 06 0a 2b 06 01 04 01 83 bf 30 01 07 a0 05 16 03 752165"),
		"otherName without [0]":     san("30 13 a0 11 06 0a 2b 06 01 04 01 83 bf 30 01 07 0c 03 752165"),
		"otherName, more behind":    san("30 17 a0 15 06 0a 2b 06 01 04 01 83 bf 30 01 07 a0 05 0c 03 752165 05 00"),
		"otherName, more inside":    san("30 17 a0 15 06 0a 2b 06 01 04 01 83 bf 30 01 07 a0 07 0c 03 752165 05 00"),
		"otherName without domain":  san("30 13 a0 11 06 0a 2b 06 01 04 01 83 bf 30 01 07 a0 03 0c 01 75"),
	} {
		if s, err := ParseSAN(e); err == nil {
			t.Errorf("%s: accepted as %v %q", name, s.Kind, s.Value)
		}
	}
	// The otherName of the table is right but for the one thing that each case changes.
	if s, err := ParseSAN(san("30 15 a0 13 06 0a 2b 06 01 04 01 83 bf 30 01 07 a0 05 0c 03 752165")); err != nil || s != (SAN{Username, "u!e"}) {
		t.Errorf("otherName: %v, %v", s, err)
	}
}

// certificate returns a self-signed certificate with the given extensions, parsed by crypto/x509.
func certificate(t testing.TB, extensions []pkix.Extension) (*x509.Certificate, error) {
	t.Helper()
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Unix(0, 0), NotAfter: time.Unix(600, 0), ExtraExtensions: extensions}
	der, err := x509.CreateCertificate(nil, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return x509.ParseCertificate(der)
}

// crypto/x509 reads the same names, and the extensions survive a certificate.
func TestThroughCertificate(t *testing.T) {
	for _, s := range []SAN{
		{Email, "dev@example.com"}, {Email, "a+b_c@localhost"},
		{URI, "https://github.com/acme/widget/.github/workflows/release.yml@refs/heads/main"},
		{URI, "https://github.com/a/b/.github/workflows/x%20y.yml@refs/heads/%C3%BC#1"},
		{URI, "http://localhost:8080/x"}, {URI, "spiffe://example.org/ns/x"}, {URI, "urn:example:a"}, {URI, "https://[::1]:8080/x"},
		{Username, "dev!example.com"},
	} {
		e, err := s.Extension()
		if err != nil {
			t.Errorf("%v %q: %v", s.Kind, s.Value, err)
			continue
		}
		c, err := certificate(t, append(mustExtensions(t, full()), e))
		if err != nil {
			t.Errorf("%v %q: crypto/x509: %v", s.Kind, s.Value, err)
			continue
		}
		if v, err := Parse(c.Extensions); err != nil || v != full() {
			t.Errorf("%q: Parse of the certificate's extensions: %+v, %v", s.Value, v, err)
		}
		switch s.Kind {
		case Email:
			if len(c.EmailAddresses) != 1 || c.EmailAddresses[0] != s.Value {
				t.Errorf("crypto/x509 reads %q as %q", s.Value, c.EmailAddresses)
			}
		case URI:
			if len(c.URIs) != 1 || c.URIs[0].String() != s.Value {
				t.Errorf("crypto/x509 reads %q as %v", s.Value, c.URIs)
			}
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

// Parsing allocates at most ten times its input and 1 MB, and ten times the input costs at most
// twelve times as much.
func TestAllocations(t *testing.T) {
	for _, size := range []int{100_000, 1_000_000, 10_000_000} {
		big := bytes.Repeat([]byte("a"), size)
		der := append([]byte{0x0c, 0x84, byte(size >> 24), byte(size >> 16), byte(size >> 8), byte(size)}, big...)
		inputs := map[string]func(){
			"raw":  func() { Parse([]pkix.Extension{{Id: arc(1), Value: big}}) },
			"utf8": func() { Parse([]pkix.Extension{{Id: arc(8), Value: der}}) },
			"san":  func() { ParseSAN(pkix.Extension{Id: oidSAN(), Critical: true, Value: der}) },
			"oid":  func() { Parse([]pkix.Extension{{Id: append(arc(1), make([]int, size/8)...)}}) },
		}
		for name, f := range inputs {
			if got := allocated(f); got > uint64(10*size+1<<20) {
				t.Errorf("%s of %d bytes: %d bytes allocated", name, size, got)
			}
		}
	}
	many := func(n int) []pkix.Extension {
		list := make([]pkix.Extension, n)
		for i := range list {
			list[i] = pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 2}}
		}
		return list
	}
	small, large := many(10_000), many(100_000)
	a, b := allocated(func() { Parse(small) }), allocated(func() { Parse(large) })
	if b > 12*a+1<<20 {
		t.Errorf("many extensions: %d bytes for 10,000, %d for 100,000", a, b)
	}
}
