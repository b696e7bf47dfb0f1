package entry

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"gopkg.in/ini.v1"

	"github.com/sigstack/sigstack/test/fuzz"
)

func gzipOf(parts ...[]byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	for _, p := range parts {
		w.Write(p)
	}
	w.Close()
	return out.Bytes()
}

// tarOf returns an archive of files, name and content in turns, without the
// zero blocks at its end, which are cut off in a package.
func tarOf(files ...string) []byte {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for i := 0; i < len(files); i += 2 {
		if err := w.WriteHeader(&tar.Header{Name: files[i], Size: int64(len(files[i+1])), Mode: 0o644}); err != nil {
			panic(err)
		}
		w.Write([]byte(files[i+1]))
	}
	w.Flush()
	return out.Bytes()
}

// signAPK returns the signature segment for a compressed control segment.
func signAPK(t testing.TB, k crypto.Signer, control []byte) []byte {
	t.Helper()
	sum := sha1.Sum(control)
	sig, err := k.Sign(rand.Reader, sum[:], crypto.SHA1)
	if err != nil {
		t.Fatal(err)
	}
	return gzipOf(tarOf(".SIGN.RSA.test.rsa.pub", string(sig)))
}

// apkOf returns a package whose .PKGINFO is info and the datahash of data.
func apkOf(t testing.TB, k crypto.Signer, info string, data []byte) []byte {
	t.Helper()
	control := gzipOf(tarOf(".PKGINFO", fmt.Sprintf("%sdatahash = %x\n", info, sha256.Sum256(data)), ".pre-install", "#!/bin/sh\n"))
	return slices.Concat(signAPK(t, k, control), control, data)
}

func packageRequest(t testing.TB, kind string, key, content []byte) []byte {
	t.Helper()
	out, err := json.Marshal(map[string]any{"kind": kind, "apiVersion": "0.0.1", "spec": map[string]any{
		"publicKey": map[string]any{"content": key}, "package": map[string]any{"content": content}}})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// A verdict is a request and the message that it gets; "" is accepted.
type verdict struct {
	name string
	in   []byte
	err  string
}

func checkVerdicts(t *testing.T, verdicts []verdict) {
	t.Helper()
	for _, c := range verdicts {
		switch err := checkVerdict(t, c.name, c.in); {
		case c.err == "" && err != nil, c.err != "" && err == nil, err != nil && err.Error() != c.err:
			t.Errorf("%s: error %v, want %q", c.name, err, c.err)
		case err == nil:
			checkCanonical(t, c.in)
		}
	}
}

// specVerdicts are the rules for the members of the kinds that send a package.
func specVerdicts(t *testing.T, kind string, key, content []byte) []verdict {
	with := func(spec string) []byte {
		return fmt.Appendf(nil, `{"kind":%q,"apiVersion":"0.0.1","spec":%s}`, kind, spec)
	}
	b64 := base64.StdEncoding.EncodeToString
	publicKey := `"publicKey":{"content":"` + b64(key) + `"}`
	hash := func(algorithm, value string) []byte {
		return with(fmt.Sprintf(`{%s,"package":{"hash":{"algorithm":%q,"value":%q},"content":%q}}`, publicKey, algorithm, value, b64(content)))
	}
	sum := fmt.Sprintf("%x", sha256.Sum256(content))
	other := strings.Repeat("0", 64)
	return []verdict{
		{"plain", packageRequest(t, kind, key, content), ""},
		{"its hash", hash("sha256", sum), ""},
		{"another hash", hash("sha256", other), "SHA mismatch: " + sum + " != " + other},
		{"its hash in capitals", hash("sha256", strings.ToUpper(sum)), "SHA mismatch: " + sum + " != " + strings.ToUpper(sum)},
		{"another algorithm", hash("sha512", sum), "package.hash.algorithm in body should be one of [sha256]"},
		{"a short hash", hash("sha256", "ab"), "invalid value for hash: package.hash of sha256 needs 64 hex digits, got 2"},
		{"nothing", with(`{}`), "publicKey in body is required"},
		{"no key", with(`{"publicKey":{}}`), "publicKey.content in body is required"},
		{"URL of a key", with(`{"publicKey":{"url":"https://example.com/key"}}`), "publicKey.content in body is required"},
		{"no package", with(`{` + publicKey + `}`), "package in body is required"},
		{"no content", with(`{` + publicKey + `,"package":{}}`), "'content' must be specified for package"},
		{"URL of a package", with(`{` + publicKey + `,"package":{"url":"https://example.com/package"}}`), "'content' must be specified for package"},
		{"hash alone", with(`{` + publicKey + `,"package":{"hash":{"algorithm":"sha256","value":"` + sum + `"}}}`), "'content' must be specified for package"},
		{"content that is no base64", with(`{` + publicKey + `,"package":{"content":"*"}}`), "package.content: failed parsing base64 data: illegal base64 data at input byte 0"},
	}
}

func TestAlpine(t *testing.T) {
	k, other := rsaKey(t, 2048), rsaKey(t, 2048)
	key := pubPEM(t, k)
	data := gzipOf(tarOf("usr/bin/x", "x"))
	const info = "# made by hand\npkgname = x\ndepend = a\ndepend = b\n"
	good := apkOf(t, k, info, data)
	hash := fmt.Sprintf("datahash = %x\n", sha256.Sum256(data))
	// of returns a package with its own control segment, signed.
	of := func(control []byte) []byte { return slices.Concat(signAPK(t, k, control), control, data) }
	control := gzipOf(tarOf(".PKGINFO", hash))
	sum := sha1.Sum(control)
	raw, err := k.Sign(rand.Reader, sum[:], crypto.SHA1)
	if err != nil {
		t.Fatal(err)
	}
	signed := func(files ...string) []byte { return slices.Concat(gzipOf(tarOf(files...)), control, data) }
	asPEM := string(pem.EncodeToMemory(&pem.Block{Type: "SIGNATURE", Bytes: raw}))
	flipped := slices.Clone(control)
	flipped[4] ^= 1 // the time in the header of gzip, which nothing but the signature covers
	moreData := fmt.Sprintf("%x", sha256.Sum256(append(slices.Clone(data), 'x')))
	ec, ed := ecKey(t, elliptic.P256()), edKey(t)
	edSig := string(must(ed.Sign(rand.Reader, sum[:], crypto.Hash(0)))(t))

	request := func(content []byte) []byte { return packageRequest(t, "alpine", key, content) }
	checkVerdicts(t, append(specVerdicts(t, "alpine", key, good), []verdict{
		{"own signature segment", request(signed(".SIGN.RSA.x", string(raw))), ""},
		{"signature in PEM", request(signed(".SIGN.RSA.x", asPEM)), ""},
		{"the first signature counts", request(signed("x", "y", ".SIGN.RSA.x", string(raw), ".SIGN.RSA256.x", "z")), ""},
		{"archive with its end", request(of(gzipOf(tarOf(".PKGINFO", hash), make([]byte, 1024)))), ""},
		{"ECDSA", packageRequest(t, "alpine", pubPEM(t, ec), slices.Concat(signAPK(t, ec, control), control, data)), ""},
		{"no data", request(apkOf(t, k, info, nil)), ""},
		{"Ed25519", packageRequest(t, "alpine", pubPEM(t, ed), signed(".SIGN.RSA.x", edSig)), "verifying signature: Ed25519ph needs SHA-512, not SHA-1"},
		{"another key", packageRequest(t, "alpine", pubPEM(t, other), good), "verifying signature: crypto/rsa: verification error"},
		{"a key that is none", packageRequest(t, "alpine", []byte("x"), good), "invalid public key: failure decoding PEM"},
		{"another signature", request(signed(".SIGN.RSA.x", string(raw[1:])+"x")), "verifying signature: crypto/rsa: verification error"},
		{"no signature in it", request(signed(".SIGN.RSA.x", "")), "verifying signature: crypto/rsa: verification error"},
		{"another control segment", request(slices.Concat(signAPK(t, k, control), flipped, data)), "verifying signature: crypto/rsa: verification error"},
		{"a long signature", request(signed(".SIGN.RSA.x", strings.Repeat("x", 64<<10+1))), "signature segment of the package: signature of more than 65536 bytes"},
		{"no signature", request(signed("SIGN", string(raw))), "no signature detected in alpine package"},
		{"no .PKGINFO", request(of(gzipOf(tarOf("PKGINFO", hash)))), ".PKGINFO file was not located"},
		{"two .PKGINFO", request(of(gzipOf(tarOf(".PKGINFO", hash, ".PKGINFO", hash)))), "control segment of the package: .PKGINFO is there twice"},
		{"no datahash", request(of(gzipOf(tarOf(".PKGINFO", "a = b\n")))),
			fmt.Sprintf("the data of the package has the SHA-256 %x, which is not the datahash of .PKGINFO", sha256.Sum256(data))},
		{"datahash that is no hex", request(of(gzipOf(tarOf(".PKGINFO", "datahash = x\n")))),
			"datahash of .PKGINFO: encoding/hex: invalid byte: U+0078 'x'"},
		{"data and a byte", request(append(slices.Clone(good), 'x')), "the data of the package has the SHA-256 " + moreData + ", which is not the datahash of .PKGINFO"},
		{"not gzip", request([]byte("hello, this is not gzip")), "signature segment of the package: want gzip: gzip: invalid header"},
		{"one segment", request(signAPK(t, k, control)), "control segment of the package: want gzip: EOF"},
		{"not tar", request(gzipOf(bytes.Repeat([]byte("x"), 512))), "signature segment of the package: archive/tar: invalid tar header"},
		{"a cut file", request(gzipOf(tarOf(".SIGN.RSA.x", string(raw))[:600])), "signature segment of the package: unexpected EOF"},
		{"a wrong checksum of gzip", request(slices.Concat(signAPK(t, k, control), control[:len(control)-8], []byte("12345678"), data)),
			"control segment of the package: gzip: invalid checksum"},
		{".PKGINFO that is none", request(of(gzipOf(tarOf(".PKGINFO", "x\n")))), `control segment of the package: .PKGINFO: want name = value, got "x"`},
	}...))

	e, err := Propose(request(good))
	if err != nil {
		t.Fatal(err)
	}
	var body struct {
		Spec struct {
			Package struct{ Pkginfo map[string]string }
		}
	}
	if err := json.Unmarshal(e.Body, &body); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"pkgname": "x", "depend": "b", "datahash": strings.Fields(hash)[2]}
	if !maps.Equal(body.Spec.Package.Pkginfo, want) {
		t.Errorf("pkginfo %q, want %q", body.Spec.Package.Pkginfo, want)
	}
	checkStored(t, "alpine", key, e, "package.hash in body is required")
}

// checkStored checks the search keys of a stored package: those of its key, and
// its hash, without which there is an error.
func checkStored(t *testing.T, kind string, key []byte, e *Entry, missing string) {
	t.Helper()
	if keys, err := Keys(e.Body); err != nil || !slices.Equal(keys, e.Keys) {
		t.Errorf("keys of the body %q, %v, want %q", keys, err, e.Keys)
	}
	_, err := Keys(fmt.Appendf(nil, `{"kind":%q,"apiVersion":"0.0.1","spec":{"publicKey":{"content":%q},"package":{},"chart":{"provenance":{}}}}`,
		kind, base64.StdEncoding.EncodeToString(key)))
	if err == nil || err.Error() != missing {
		t.Errorf("keys without a hash: %v, want %q", err, missing)
	}
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// rawTar is the header of one file, with fields of 512 bytes replaced.
func rawTar(name string, size int64, fields map[int]string) []byte {
	b := make([]byte, 512)
	put := func(at int, s string) { copy(b[at:], s) }
	put(0, name)
	put(100, "0000644")
	put(108, "0000000")
	put(116, "0000000")
	b[124] = 0x80 // a binary size
	binary.BigEndian.PutUint64(b[128:], uint64(size))
	put(136, "00000000000")
	put(148, "        ")
	put(156, "0")
	put(257, "ustar  \x00")
	for at, s := range fields {
		put(at, s)
	}
	sum := 0
	for _, c := range b {
		sum += int(c)
	}
	put(148, fmt.Sprintf("%06o\x00 ", sum))
	return b
}

func TestAlpineBombs(t *testing.T) {
	k := rsaKey(t, 2048)
	key := pubPEM(t, k)
	apk := func(signature, control, data []byte) []byte {
		return packageRequest(t, "alpine", key, slices.Concat(signature, control, data))
	}
	signature := gzipOf(tarOf(".SIGN.RSA.x", "x"))
	zeros := gzipOf(make([]byte, 64*mega))
	long := gzipOf(tarOf(".PKGINFO", strings.Repeat("a = b\n", 64*mega/6)))
	var names, records strings.Builder
	for i := range 90_000 {
		fmt.Fprintf(&names, "%x=\n", i)
		fmt.Fprintf(&records, "11 %06x=\n", i)
	}
	pax := slices.Concat(rawTar("x", int64(records.Len()), map[int]string{156: "x"}), []byte(records.String()), make([]byte, -records.Len()&511))
	const tooLong = "more than 1048576 bytes when decompressed"
	checkBombs(t, []bomb{
		{verdict{"signature 1000:1", apk(zeros, nil, nil), "signature segment of the package: " + tooLong}, 0},
		{verdict{"control 1000:1", apk(signature, zeros, nil), "control segment of the package: " + tooLong}, 0},
		{verdict{".PKGINFO 1000:1", apk(signature, long, nil), "control segment of the package: a file of 67108860 bytes, at most 1048576 are accepted"}, 0},
		{verdict{"data 1000:1", packageRequest(t, "alpine", key, apkOf(t, k, "", zeros)), ""}, 0},
		{verdict{"nested", apk(gzipOf(zeros), nil, nil), "signature segment of the package: archive/tar: invalid tar header"}, 0},
		{verdict{"a file that lies", apk(signature, gzipOf(rawTar(".PKGINFO", 1<<40, nil)), nil),
			"control segment of the package: a file of 1099511627776 bytes, at most 1048576 are accepted"}, 0},
		{verdict{"a file that lies less", apk(signature, gzipOf(rawTar(".PKGINFO", mega, nil)), nil), "control segment of the package: unexpected EOF"}, 0},
		{verdict{"a signature that lies", apk(gzipOf(rawTar(".SIGN", mega, nil)), nil, nil), "signature segment of the package: unexpected EOF"}, 0},
		{verdict{"a negative size", apk(gzipOf(rawTar(".SIGN", -1, nil)), nil, nil), "signature segment of the package: archive/tar: invalid tar header"}, 0},
		{verdict{"a file of holes", apk(signature, gzipOf(rawTar(".PKGINFO", 0, map[int]string{156: "S", 483: "00400000000"})), nil),
			"control segment of the package: a file of 67108864 bytes, at most 1048576 are accepted"}, 0},
		{verdict{"a checksum of gzip that lies", apk(slices.Concat(signature[:len(signature)-4], []byte{255, 255, 255, 255}), nil, nil),
			"signature segment of the package: gzip: invalid checksum"}, 0},
		{verdict{"many files", apk(gzipOf(bytes.Repeat(rawTar("x", 0, nil), 2048)), nil, nil), "no signature detected in alpine package"}, 4 * mega},
		{verdict{"names of .PKGINFO", apk(signature, gzipOf(tarOf(".PKGINFO", names.String())), nil), "control segment of the package: .PKGINFO: more than 1000 names"}, 4 * mega},
		{verdict{"records of an extended header", apk(gzipOf(pax, rawTar("y", 0, nil)), nil, nil), "no signature detected in alpine package"}, 32 * mega},
	})
}

func TestParsePkginfo(t *testing.T) {
	names := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "n%d = x\n", i)
		}
		return b.String()
	}
	for _, c := range []struct {
		in, want string // the pairs, sorted, as name=value; separated by |
		err      string
	}{
		{"", "", ""},
		{"a = b\n", "a=b", ""},
		{"a=b", "a=b", ""},
		{" \ta\t=\t b c \r\n", "a=b c", ""},
		{"a =\nb = \n", "a=|b=", ""},
		{"# a = b\n; c = d\n\n \ne = f\n", "e=f", ""},
		{"a = b\nc = d\na = e\n", "a=e|c=d", ""},
		{"a = b = c : d\n", "a=b = c : d", ""},
		{"a : b = c\n", "a=b = c", ""},
		{"a = C# and more\nb = x;y\nc = #\n", "a=C|b=x|c=", ""},
		{`a = "b"` + "\n" + `c = 'd'` + "\n" + `e = "f" "g"` + "\n" + `h = "` + "\n", `a=b|c=d|e="f" "g"|h="`, ""},
		{`a = "b" # c`, "a=b", ""},
		{`a = ""`, "a=", ""},
		{"a\\ = b\\c\n", `a\=b\c`, ""},
		{"\xef\xbb\xbfa = b\n", "a=b", ""},
		{"\xff\xfea = b\n", "a=b", ""},
		{"ä = \u2028 ö\n", "ä=ö", ""},
		{names(1000) + "n0 = y\n", "", ""},
		{"a = " + strings.Repeat("x", 64<<10-1) + "\na = y\nb = z\n", "a=y|b=z", ""},

		{"a\n", "", `.PKGINFO: want name = value, got "a"`},
		{"= b\n", "", `.PKGINFO: want name = value, got "= b"`},
		{"[x]\na = b\n", "", `.PKGINFO: want name = value, got "[x]"`},
		{"[x=y]\n", "", `.PKGINFO: a name must be plain, got "[x"`},
		{`"a" = b`, "", `.PKGINFO: a name must be plain, got "\"a\""`},
		{"`a` = b", "", ".PKGINFO: a name must be plain, got \"`a`\""},
		{"- = b", "", `.PKGINFO: a name must be plain, got "-"`},
		{"a = `b`", "", `.PKGINFO: "a": a value must be plain and end with its line`},
		{`a = """b"""`, "", `.PKGINFO: "a": a value must be plain and end with its line`},
		{"a = b\\\nc = d\n", "", `.PKGINFO: "a": a value must be plain and end with its line`},
		{"a = \xff\n", "", `.PKGINFO: "a": not valid UTF-8`},
		{"\xff = a\n", "", `.PKGINFO: "\xff": not valid UTF-8`},
		{names(1001), "", ".PKGINFO: more than 1000 names"},
		{"a = " + strings.Repeat("x", 64<<10) + "\n", "", ".PKGINFO: more than 65536 bytes of names and values"},
	} {
		got, err := parsePkginfo(c.in)
		if (err != nil) != (c.err != "") || err != nil && err.Error() != c.err {
			t.Errorf("%.60q: error %v, want %q", c.in, err, c.err)
			continue
		}
		var pairs []string
		for name, v := range got {
			pairs = append(pairs, name+"="+v)
		}
		slices.Sort(pairs)
		if text := strings.Join(pairs, "|"); c.want != "" && text != c.want {
			t.Errorf("%.60q: got %q, want %q", c.in, text, c.want)
		}
		if err == nil {
			checkINI(t, c.in, got)
		}
	}
}

// checkINI has the library that public logs use read the same file.
func checkINI(t *testing.T, in string, got map[string]string) {
	t.Helper()
	file, err := ini.Load([]byte(in))
	if err != nil {
		t.Fatalf("%.100q: accepted, and an INI reader says: %v", in, err)
	}
	if want := file.Section("").KeysHash(); !maps.Equal(got, want) {
		t.Fatalf("%.100q: got %q, and an INI reader %q", in, got, want)
	}
}

// What is accepted of .PKGINFO is what an INI reader finds in it.
func FuzzPkginfo(f *testing.F) {
	seeds := fuzz.Seeds(
		"# Generated by abuild 3.2.0-r1\npkgname = apache2-ctl\npkgdesc = Apache \"control\" script; C#\nurl = https://httpd.apache.org/\ndepend = a\ndepend = b\n",
		"a:b\n 'a' = 'b' \n\xef\xbb\xbfc = \\ d\n[e]\nf = \"\"\"g\n\"\"\"\n`h` = i\\\nj\n- = k\n",
	)
	parse := func(in []byte) (map[string]string, error) { return parsePkginfo(string(in)) }
	fuzz.Run(f, seeds, parse, func(t *testing.T, in []byte, got map[string]string, err error) {
		if err == nil && len(in) < 4<<10 { // the other reader takes the square of the size
			checkINI(t, string(in), got)
		}
	})
}

// vectorPackage returns the package of a vector.
func vectorPackage(t testing.TB, name string) []byte {
	t.Helper()
	var request struct {
		Spec struct{ Package struct{ Content []byte } }
	}
	if err := json.Unmarshal(vectorNamed(t, name).Request, &request); err != nil || len(request.Spec.Package.Content) == 0 {
		t.Fatalf("%s: no package, %v", name, err)
	}
	return request.Spec.Package.Content
}

// tarNode is one file of an archive.
func tarNode(name, content string) *fuzz.Node {
	return fuzz.Join(func(kids [][]byte) []byte {
		if len(kids) == 0 {
			return nil
		}
		return tarOf(strings.ToValidUTF8(strings.ReplaceAll(string(kids[0]), "\x00", ""), ""), string(bytes.Join(kids[1:], nil)))
	}, fuzz.Text(name), fuzz.Look([]byte(content)))
}

// gzipNode is what is compressed.
func gzipNode(kids ...*fuzz.Node) *fuzz.Node {
	return fuzz.Join(func(kids [][]byte) []byte { return gzipOf(kids...) }, kids...)
}

// A package of any bytes: it is refused, or has a signature, a hash that it is
// over, and not too much to store.
func FuzzAPK(f *testing.F) {
	data := gzipOf(tarOf("usr/bin/x", "x"))
	info := fmt.Sprintf("pkgname = x\ndepend = a\ndatahash = %x\n", sha256.Sum256(data))
	seeds := []*fuzz.Node{
		fuzz.Seq(
			gzipNode(tarNode(".SIGN.RSA.x.rsa.pub", "signature")),
			gzipNode(tarNode(".PKGINFO", info), tarNode(".pre-install", "#!/bin/sh\n"), fuzz.Leaf(make([]byte, 1024))),
			fuzz.Leaf(data),
		),
		fuzz.Leaf(vectorPackage(f, "alpine")),
	}
	// What is decompressed is bounded by maxAPKSegment and not by the input.
	options := fuzz.Options{Allow: func([]byte) int { return 16 * maxAPKSegment }}
	fuzz.RunWith(f, options, seeds, readAPK, func(t *testing.T, in []byte, p *apk, err error) {
		if err == nil && (p.signature == nil || len(p.controlHash) != sha1.Size || p.info["datahash"] == "" || len(p.info) > maxPkginfoNames) {
			t.Fatalf("%+v", p)
		}
	})
}

// A .PKGINFO holds what its maker wrote, so an entry does: every character, in
// the order that RFC 8785 asks for.
func TestAlpineCharacters(t *testing.T) {
	k := rsaKey(t, 2048)
	var info strings.Builder
	for c := range rune(0x100) {
		if !strings.ContainsRune("\n\r \t\v\f\u0085\u00a0#;=:\"'`\\[-", c) {
			fmt.Fprintf(&info, "%c = <%c>&\n", c, c)
		}
	}
	for _, name := range []string{"a", "ab", "\U0001f600", "\U0001f601", "\ufb33", "\ue000", "\ud7ff", "\uffff", "\U0010ffff", "\ufb33\U0001f600"} {
		fmt.Fprintf(&info, "%s = a\"b\\c/d\te\u2028 \U0001f600\u007f\n", name)
	}
	checkCanonical(t, packageRequest(t, "alpine", pubPEM(t, k), apkOf(t, k, info.String(), nil)))
}
