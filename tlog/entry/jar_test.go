package entry

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"crypto/elliptic"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sigstack/sigstack/test/cms"
	"github.com/sigstack/sigstack/test/fuzz"
)

func jarRequest(archive []byte) []byte {
	return request("jar", `{"archive":{"content":"`+base64.StdEncoding.EncodeToString(archive)+`"}}`)
}

// jarSigner is a signer of archives.
func jarSigner(t testing.TB) cms.Message {
	t.Helper()
	key := ecKey(t, elliptic.P256())
	return cms.Message{Key: key, Certificate: cms.Certificate(t, key, "signer")}
}

func TestJar(t *testing.T) {
	signer := jarSigner(t)
	a, b := cms.File{Name: "a/A.class", Content: []byte("class A")}, cms.File{Name: "B.class", Content: []byte("class B")}
	manifest := cms.Manifest(a, b)
	sf := cms.SignatureFile(manifest)
	archive := cms.Jar(t, signer, manifest, sf, a, b)
	e, err := Propose(jarRequest(archive))
	if err != nil {
		t.Fatal(err)
	}
	if again, err := Propose(jarRequest(archive)); err != nil || !bytes.Equal(again.Body, e.Body) {
		t.Errorf("the same archive is another entry: %v", err)
	}
	withHash := func(value string) []byte {
		return request("jar", `{"archive":{"content":"`+base64.StdEncoding.EncodeToString(archive)+`","hash":{"algorithm":"sha256","value":"`+value+`"}}}`)
	}
	sum := sha256Digest(archive).value
	if again, err := Propose(withHash(sum)); err != nil || !bytes.Equal(again.Body, e.Body) {
		t.Errorf("with its hash it is another entry: %v", err)
	}
	zero := strings.Repeat("0", 64)
	refusal(t, "another hash", withHash(zero), "SHA mismatch: "+sum+" != "+zero)
	refusal(t, "another case of the hash", withHash(strings.ToUpper(sum)), "SHA mismatch: "+sum+" != "+strings.ToUpper(sum))
	for _, c := range []struct{ name, spec, want string }{
		{"no archive", `{}`, "archive in body is required"},
		{"an archive that is none", `{"archive":[]}`, "archive: want an object"},
		{"a URL", `{"archive":{"url":"http://localhost/x"}}`, "'content' must be specified for package"},
		{"a hash only", `{"archive":{"hash":{"algorithm":"sha256","value":"` + zero + `"}}}`, "'content' must be specified for package"},
		{"a hash of no algorithm", `{"archive":{"hash":{"value":"00"}}}`, "archive.hash.algorithm in body is required"},
		{"a hash of another algorithm", `{"archive":{"hash":{"algorithm":"sha512","value":"00"}}}`, "archive.hash.algorithm in body should be one of [sha256]"},
		{"no base64", `{"archive":{"content":"*"}}`, "archive.content: failed parsing base64 data: illegal base64 data at input byte 0"},
		{"no zip", `{"archive":{"content":"aGVsbG8="}}`, "archive.content is not a JAR: zip: not a valid zip file"},
	} {
		refusal(t, c.name, request("jar", c.spec), c.want)
	}

	block := func(change func(*cms.Message)) []byte {
		m := signer
		m.Content = []byte(sf)
		change(&m)
		return m.DER(t)
	}
	meta := []cms.File{{Name: "META-INF/MANIFEST.MF", Content: []byte(manifest)}, {Name: "META-INF/TEST.SF", Content: []byte(sf)}, {Name: "META-INF/TEST.EC", Content: block(func(*cms.Message) {})}}
	zipped := func(files ...cms.File) []byte { return cms.Zip(t, append(files, a, b)...) }
	sections := func(text string) []byte { // signed by sections, the first of them main
		parts := strings.SplitAfter(manifest, "\r\n\r\n")
		main := strings.Replace(cms.Digest([]byte(parts[0])), "-Digest", "-Digest-Manifest-Main-Attributes", 1)
		text = strings.ReplaceAll(text, "MAIN", "Signature-Version: 1.0\r\n"+main+"\r\n")
		text = strings.ReplaceAll(text, "A\n", "Name: a/A.class\r\n"+cms.Digest([]byte(parts[1]))+"\r\n")
		return cms.Jar(t, signer, manifest, strings.ReplaceAll(text, "B\n", "Name: B.class\r\n"+cms.Digest([]byte(parts[2]))+"\r\n"), a, b)
	}
	signed := func(manifest string) []byte { return cms.Jar(t, signer, manifest, cms.SignatureFile(manifest), a, b) }
	digestA := cms.Digest(a.Content)
	other := strings.Replace(cms.Digest([]byte("x")), "\r\n", "", 1)
	for _, c := range []struct {
		name    string
		archive []byte
		want    string // "" is accepted
	}{
		{"lower case", zipped(cms.File{Name: "meta-inf/manifest.mf", Content: meta[0].Content}, cms.File{Name: "Meta-Inf/Test.sf", Content: meta[1].Content}, cms.File{Name: "META-INF/test.ec", Content: meta[2].Content}), ""},
		{"RSA", zipped(meta[0], meta[1], cms.File{Name: "META-INF/TEST.RSA", Content: meta[2].Content}), ""},
		{"DSA", zipped(meta[0], meta[1], cms.File{Name: "META-INF/TEST.DSA", Content: meta[2].Content}), ""},
		{"SIG-", zipped(meta[0], cms.File{Name: "META-INF/SIG-1.SF", Content: meta[1].Content}, cms.File{Name: "META-INF/SIG-1.X", Content: meta[2].Content}), ""},
		{"detached", zipped(meta[0], meta[1], cms.File{Name: "META-INF/TEST.EC", Content: block(func(m *cms.Message) { m.Detached = true })}), ""},
		{"a file that nobody signed", zipped(append(meta[:3:3], cms.File{Name: "C.class", Content: []byte("class C")})...), ""},
		{"directories twice", zipped(append(meta[:3:3], cms.File{Name: "d/"}, cms.File{Name: "d/"})...), ""},
		{"META-INF deeper", zipped(append(meta[:3:3], cms.File{Name: "x/META-INF/OTHER.SF", Content: []byte("x")}, cms.File{Name: "META-INF/x/OTHER.SF", Content: []byte("x")}, cms.File{Name: "META-INF/SF", Content: []byte("x")})...), ""},
		{"sections", sections("MAINA\nB\n"), ""},
		{"some sections", sections("MAINB\n"), ""},
		{"line feeds", signed(strings.ReplaceAll(manifest, "\r\n", "\n")), ""},
		{"a long line", signed("Manifest-Version: 1.0\r\n\r\nName: a/A\r\n .class\r\n" + digestA + "\r\n"), ""},
		{"a file by other rules", signed("Manifest-Version: 1.0\r\n\r\nName: a/A.class\r\nMagic: x\r\n\r\n"), ""},
		{"two hash functions", signed("Manifest-Version: 1.0\r\n\r\nName: a/A.class\r\n" + digestA + "MD5-Digest: wrong\r\nSHA-512-Digest: " + sha512Of(a.Content) + "\r\n\r\n"), ""},
		{"another spelling", signed("Manifest-Version: 1.0\r\n\r\nname: a/A.class\r\n" + strings.Replace(digestA, "SHA-256", "sha256", 1) + "\r\n"), ""},

		{"no manifest", zipped(meta[1:]...), "JAR contains no META-INF/MANIFEST.MF"},
		{"no signature file", zipped(meta[0], meta[2]), "no signatures detected in JAR archive"},
		{"no block", zipped(meta[:2]...), `JAR contains sigfile "META-INF/TEST.SF" with no matching signature`},
		{"a block of another", zipped(meta[0], meta[1], cms.File{Name: "META-INF/OTHER.EC", Content: meta[2].Content}), `JAR contains sigfile "META-INF/TEST.SF" with no matching signature`},
		{"two signature files", zipped(append(meta[:3:3], cms.File{Name: "META-INF/OTHER.SF", Content: meta[1].Content})...), "multiple signatures detected in JAR; unable to process"},
		{"two blocks", zipped(append(meta[:3:3], cms.File{Name: "META-INF/TEST.RSA", Content: meta[2].Content})...), "multiple signatures detected in JAR; unable to process"},
		{"a block first that nothing is verified by", zipped(append([]cms.File{{Name: "META-INF/A.RSA", Content: []byte("x")}}, meta...)...), "multiple signatures detected in JAR; unable to process"},
		{"two manifests", zipped(append(meta[:3:3], cms.File{Name: "META-INF/Manifest.mf", Content: []byte("x")})...), "JAR: META-INF/MANIFEST.MF is there twice"},
		{"a file twice", zipped(append(meta[:3:3], cms.File{Name: "B.class", Content: []byte("x")})...), `JAR: file "B.class" is there twice`},
		{"large metadata", zipped(append(meta[:3:3], cms.File{Name: "META-INF/LICENSE.txt", Content: make([]byte, 1<<20+1)})...),
			"uncompressed jar metadata of size 1048577 exceeds max allowed size 1048576"},
		{"metadata", zipped(append(meta[:3:3], cms.File{Name: "META-INF/LICENSE.txt", Content: make([]byte, 1<<20)})...), ""},
		{"a block that is none", zipped(meta[0], meta[1], cms.File{Name: "META-INF/TEST.EC", Content: []byte("x")}),
			`JAR: "META-INF/TEST.EC": PKCS7: not SignedData in DER (RFC 5652, section 5.1)`},
		{"another signer", zipped(meta[0], meta[1], cms.File{Name: "META-INF/TEST.EC", Content: block(func(m *cms.Message) { m.Key = ecKey(t, elliptic.P256()) })}),
			`JAR: "META-INF/TEST.EC": PKCS7: the signature does not verify`},
		{"another signature file", zipped(meta[0], meta[1], cms.File{Name: "META-INF/TEST.EC", Content: block(func(m *cms.Message) { m.Content = []byte("x") })}),
			`JAR: "META-INF/TEST.EC": PKCS7: it is over another content`},
		{"another signature file, detached", zipped(meta[0], meta[1], cms.File{Name: "META-INF/TEST.EC", Content: block(func(m *cms.Message) { m.Content, m.Detached = []byte("x"), true })}),
			`JAR: "META-INF/TEST.EC": PKCS7: content digest does not match`},
		{"no first certificate", zipped(meta[0], meta[1], cms.File{Name: "META-INF/TEST.EC", Content: block(func(m *cms.Message) { m.Certs = [][]byte{{0x30, 0}, signer.Certificate.Raw} })}),
			"invalid certificate: x509: malformed tbs certificate"},
		{"another manifest", zipped(cms.File{Name: "META-INF/MANIFEST.MF", Content: []byte(manifest + "\r\n")}, meta[1], meta[2]),
			`JAR: manifest signature: "SHA-256-Digest-Manifest" mismatch: manifest ` + quotedDigest(manifest) + " != calculated " + digestOf(manifest+"\r\n")},
		{"another file", cms.Zip(t, append(meta[:3:3], a, cms.File{Name: "B.class", Content: []byte("x")})...),
			`JAR: file "B.class" in manifest: "SHA-256-Digest" mismatch: manifest ` + quotedDigest("class B") + " != calculated " + digestOf("x")},
		{"a file that is missing", cms.Zip(t, append(meta[:3:3], a)...), `JAR: file "B.class" is in manifest but not JAR, or there twice`},
		{"a file that is named twice", signed(cms.Manifest(a, a)), `JAR: file "a/A.class" is in manifest but not JAR, or there twice`},
		{"a section without digest", signed("Manifest-Version: 1.0\r\n\r\nName: a/A.class\r\nSealed: true\r\n\r\n"), `JAR: file "a/A.class" in manifest: no recognized digests found`},
		{"MD5 alone", signed("Manifest-Version: 1.0\r\n\r\nName: a/A.class\r\nMD5-Digest: x\r\n\r\n"), `JAR: file "a/A.class" in manifest: no recognized digests found`},
		{"an unknown digest", signed("Manifest-Version: 1.0\r\n\r\nName: a/A.class\r\n" + digestA + "SHA3-256-Digest: x\r\n\r\n"), `JAR: file "a/A.class" in manifest: unknown digest key in manifest: "SHA3-256"`},
		{"two digests of a sort", signed("Manifest-Version: 1.0\r\n\r\nName: a/A.class\r\n" + digestA + strings.Replace(digestA, "SHA-256", "SHA256", 1) + "\r\n"), `JAR: file "a/A.class" in manifest: two digests by SHA-256`},
		{"a section of no name", signed("Manifest-Version: 1.0\r\n\r\n" + digestA + "\r\n"), `JAR: manifest has section with no "Name" attribute`},
		{"a section of two names", signed("Manifest-Version: 1.0\r\n\r\nName: B.class\r\nName: a/A.class\r\n" + digestA + "\r\n"), "JAR: manifest: a section has two names"},
		{"a line without colon", signed("Manifest-Version: 1.0\r\n\r\nName\r\n\r\n"), "JAR: manifest: a line has no colon"},
		{"no empty line at the end", signed(strings.TrimSuffix(manifest, "\r\n")), "JAR: manifest: incorrect line ending sequence: each section must end with one empty line"},
		{"two empty lines", signed(manifest + "\r\n\r\n"), "JAR: manifest: incorrect line ending sequence: each section must end with one empty line"},
		{"an empty manifest", signed(""), "JAR: manifest: it is empty"},
		{"an empty signature file", cms.Jar(t, signer, manifest, "", a, b), "JAR: signature file: it is empty"},
		{"a signature file without colon", cms.Jar(t, signer, manifest, "x\r\n\r\n", a, b), "JAR: signature file: a line has no colon"},
		{"an unknown digest of the manifest", cms.Jar(t, signer, manifest, "X-Digest-Manifest: x\r\n\r\n", a, b), `JAR: signature file: unknown digest key in manifest: "X"`},
		{"a signature file without digests", cms.Jar(t, signer, manifest, "Signature-Version: 1.0\r\n\r\n", a, b), "JAR: manifest main attributes signature: no recognized digests found"},
		{"sections of an empty manifest", cms.Jar(t, signer, "", "Signature-Version: 1.0\r\n\r\n", a, b), "JAR: manifest: it is empty"},
		{"other main attributes", cms.Jar(t, signer, manifest, "Signature-Version: 1.0\r\nSHA-256-Digest-Manifest-Main-Attributes: x\r\n\r\n", a, b),
			`JAR: manifest main attributes signature: "SHA-256-Digest-Manifest-Main-Attributes" mismatch: manifest "x" != calculated ` + digestOf("Manifest-Version: 1.0\r\n\r\n")},
		{"a section that is not in the manifest", sections("MAINName: C\r\n" + digestA + "\r\n"), `JAR: manifest is missing signed section "C"`},
		{"a section twice", sections("MAINA\nA\n"), `JAR: manifest is missing signed section "a/A.class"`},
		{"a section without name", sections("MAIN" + digestA + "\r\n"), `JAR: manifest is missing signed section ""`},
		{"a section without colon", sections("MAINx\r\n\r\n"), "JAR: signature file: a line has no colon"},
		{"a section without digests", sections("MAINName: B.class\r\n\r\n"), `JAR: manifest signature over section "B.class": no recognized digests found`},
		{"another section", sections("MAINName: B.class\r\n" + other + "\r\n\r\n"),
			`JAR: manifest signature over section "B.class": "SHA-256-Digest" mismatch: manifest ` + quotedDigest("x") + " != calculated " + digestOf(cms.Manifest(b)[len("Manifest-Version: 1.0\r\n\r\n"):])},
	} {
		err := checkVerdict(t, c.name, jarRequest(c.archive))
		if (err == nil) != (c.want == "") || err != nil && err.Error() != c.want {
			t.Errorf("%s: %v\nwant %s", c.name, err, c.want)
		}
	}

	// Two sections of one name are told apart by nobody.
	twice := cms.Manifest(a, b, b)
	parts := strings.SplitAfter(twice, "\r\n\r\n")
	main := strings.Replace(cms.Digest([]byte(parts[0])), "-Digest", "-Digest-Manifest-Main-Attributes", 1)
	refusal(t, "two sections", jarRequest(cms.Jar(t, signer, twice, "Signature-Version: 1.0\r\n"+main+"\r\n", a, b)), `JAR: manifest: section "B.class" is there twice`)
}

func digestOf(content string) string {
	return strings.TrimSuffix(strings.TrimPrefix(cms.Digest([]byte(content)), "SHA-256-Digest: "), "\r\n")
}

func quotedDigest(content string) string { return fmt.Sprintf("%q", digestOf(content)) }

// sha512Of is the digest of jarHashes' longest function.
func sha512Of(content []byte) string {
	h := jarHashes["sha512"].New()
	h.Write(content)
	return base64.StdEncoding.EncodeToString(h.Sum(nil))
}

// The stored form has its own refusals.
func TestJarStoredForm(t *testing.T) {
	hash := `"archive":{"hash":{"algorithm":"sha256","value":"` + strings.Repeat("0", 64) + `"}}`
	sig := func(text string) string {
		return hash + `,"signature":{"content":"` + base64.StdEncoding.EncodeToString([]byte(text)) + `"}`
	}
	for in, want := range map[string]string{
		``:                       "archive in body is required",
		`"archive":{}`:           "archive.hash in body is required",
		hash:                     "signature in body is required",
		hash + `,"signature":{}`: "signature.content in body is required",
		sig("x"):                 "signature.content: want PEM of the type PKCS7",
		sig("-----BEGIN X-----\n-----END X-----\n"):         "signature.content: want PEM of the type PKCS7",
		sig("-----BEGIN PKCS7-----\n-----END PKCS7-----\n"): "signature.content: PKCS7: not SignedData in DER (RFC 5652, section 5.1)",
	} {
		if _, err := Keys(request("jar", "{"+in+"}")); fmt.Sprint(err) != want {
			t.Errorf("%s: %v, want %s", in, err, want)
		}
	}
	signer := jarSigner(t)
	signer.Certs, signer.Content = [][]byte{}, []byte("x")
	block := base64.StdEncoding.EncodeToString(signer.DER(t))
	if _, err := Keys(request("jar", "{"+sig("-----BEGIN PKCS7-----\n"+block+"\n-----END PKCS7-----\n")+"}")); fmt.Sprint(err) != "PKCS7: the certificate of the signer is not there" {
		t.Errorf("without certificates: %v", err)
	}
}

// The names that merged files have in two alphabets must not reach past the
// end of what they are cut from.
func TestJarNames(t *testing.T) {
	signer := jarSigner(t)
	for _, name := range []string{"META-INF/\u0131\u0131\u0131\u0131.\u0131\u0131", "meta-\u0131nf/x.sf", "META-INF/.", "META-INF/.SF", "META-INF/\xff.EC", "/", "", "META-INF/\n.SF", "a\nb"} {
		for _, files := range [][]cms.File{{{Name: name}}, {{Name: name, Content: []byte("x")}, {Name: name + " "}}} {
			_ = checkVerdict(t, name, jarRequest(cms.Jar(t, signer, cms.Manifest(files...), cms.SignatureFile(cms.Manifest(files...)), files...)))
		}
	}
}

// A jarBomb is an archive whose files inflate to far more than it holds. All of
// them are signed, so that only the bound refuses them.
type jarBomb struct {
	name    string
	archive []byte
}

// deflated returns n zeros, deflated: about a thousandth.
func deflated(t testing.TB, n int64) (packed []byte, sum uint32) {
	t.Helper()
	var out bytes.Buffer
	w, err := flate.NewWriter(&out, flate.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	crc := crc32.NewIEEE()
	if _, err := io.CopyN(io.MultiWriter(w, crc), zeros{}, n); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), crc.Sum32()
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// jarBombs makes archives in which files of size bytes are packed, count of them.
func jarBombs(t testing.TB, size int64, count int) []jarBomb {
	signer := jarSigner(t)
	packed, sum := deflated(t, size)
	pack := func(header func(i int) zip.FileHeader) []byte {
		var files []cms.File
		for i := range count {
			files = append(files, cms.File{Name: fmt.Sprintf("bomb%d", i), Content: []byte("x")})
		}
		manifest := cms.Manifest(files...)
		inner := cms.Jar(t, signer, manifest, cms.SignatureFile(manifest))
		z, err := zip.NewReader(bytes.NewReader(inner), int64(len(inner)))
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		w := zip.NewWriter(&out)
		for _, f := range z.File {
			if err := w.Copy(f); err != nil {
				t.Fatal(err)
			}
		}
		for i := range count {
			h := header(i)
			h.Name, h.Method = files[i].Name, zip.Deflate
			raw, err := w.CreateRaw(&h)
			if err == nil {
				_, err = raw.Write(packed)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}
	honest := pack(func(int) zip.FileHeader {
		return zip.FileHeader{CRC32: sum, CompressedSize64: uint64(len(packed)), UncompressedSize64: uint64(size)}
	})
	return []jarBomb{
		{"a thousand to one", honest},
		{"one byte, it says", pack(func(int) zip.FileHeader {
			return zip.FileHeader{CRC32: sum, CompressedSize64: uint64(len(packed)), UncompressedSize64: 1}
		})},
		{"more than there is, it says", pack(func(int) zip.FileHeader {
			return zip.FileHeader{CRC32: sum, CompressedSize64: uint64(len(packed)), UncompressedSize64: 1 << 62}
		})},
		{"all files in one place", overlapped(t, honest)},
		{"archives in an archive", cms.Jar(t, signer, cms.Manifest(cms.File{Name: "inner.jar", Content: honest}),
			cms.SignatureFile(cms.Manifest(cms.File{Name: "inner.jar", Content: honest})), cms.File{Name: "inner.jar", Content: honest})},
	}
}

// overlapped has all entries of the directory, that begin with "bomb", say that
// their file is where the first one is.
func overlapped(t testing.TB, archive []byte) []byte {
	t.Helper()
	out := bytes.Clone(archive)
	first, n := uint32(0), 0
	for at := 0; ; at += 4 {
		i := bytes.Index(out[at:], []byte("PK\x01\x02"))
		if i < 0 {
			break
		}
		at += i
		if !bytes.HasPrefix(out[at+46:], []byte("bomb")) {
			continue
		}
		if n++; n == 1 {
			first = binary.LittleEndian.Uint32(out[at+42:])
		}
		binary.LittleEndian.PutUint32(out[at+42:], first)
	}
	if n == 0 {
		t.Fatal("no bomb in the directory")
	}
	return out
}

// Bombs of one large file, and of many.
func TestJarBombs(t *testing.T) {
	for _, shape := range []struct {
		size  int64
		count int
	}{{1 << 30, 1}, {64 << 20, 16}} {
		var all []bomb
		for _, b := range jarBombs(t, shape.size, shape.count) {
			limit := min(minInflated+inflateRatio*int64(len(b.archive)), maxInflated)
			want := fmt.Sprintf("JAR: the files inflate to more than the %d bytes that are accepted of this archive", limit)
			switch b.name {
			case "one byte, it says":
				want = `JAR: file "bomb0": zip: not a valid zip file`
			case "archives in an archive":
				want = "" // nobody opens the inner one
			}
			name := fmt.Sprintf("%s, %d of %d", b.name, shape.count, shape.size)
			all = append(all, bomb{verdict: verdict{name, jarRequest(b.archive), want}})
		}
		checkBombs(t, all)
	}
}

// What is hashed by several functions counts for each.
func TestJarBudget(t *testing.T) {
	signer := jarSigner(t)
	content := make([]byte, 600<<10)
	file := cms.File{Name: "a", Content: content}
	sum := func(name string) string {
		h := jarHashes[name].New()
		h.Write(content)
		return base64.StdEncoding.EncodeToString(h.Sum(nil))
	}
	manifest := "Manifest-Version: 1.0\r\n\r\nName: a\r\nSHA-256-Digest: " + sum("sha256") + "\r\n"
	for more, ok := range map[string]bool{"": true, "SHA-512-Digest: " + sum("sha512") + "\r\n": false} {
		m := manifest + more + "\r\n"
		archive := cms.Jar(t, signer, m, cms.SignatureFile(m), file)
		err := checkVerdict(t, "budget", jarRequest(archive))
		if limit := minInflated + inflateRatio*len(archive); (err == nil) != ok || limit > 1200<<10 {
			t.Errorf("%q: %v, limit %d", more, err, limit)
		}
	}
}

// Ten times the archive costs at most twelve times the time.
func TestJarLinear(t *testing.T) {
	signer := jarSigner(t)
	build := map[string]func(n int) []byte{
		"files": func(n int) []byte {
			var files []cms.File
			for i := range n {
				files = append(files, cms.File{Name: fmt.Sprintf("f%d", i), Content: []byte("content")})
			}
			m := cms.Manifest(files...)
			return jarRequest(cms.Jar(t, signer, m, cms.SignatureFile(m), files...))
		},
		"sections": func(n int) []byte {
			m := "Manifest-Version: 1.0\r\n\r\n" + strings.Repeat("Name: x\r\nMagic: x\r\n\r\n", n)
			return jarRequest(cms.Jar(t, signer, m, cms.SignatureFile(m)))
		},
		"lines": func(n int) []byte {
			m := "Manifest-Version: 1.0\r\n" + strings.Repeat("A: x\r\n  y\r\n", 2*n) + "\r\n"
			return jarRequest(cms.Jar(t, signer, m, cms.SignatureFile(m)))
		},
		"sections that are signed": func(n int) []byte {
			m, sf := "M: 1\n\n", "SHA-256-Digest-Manifest-Main-Attributes: "+digestOf("M: 1\n\n")+"\n\n"
			for i := range n {
				s := fmt.Sprintf("Name: f%d\nMagic: x\n\n", i)
				m, sf = m+s, sf+fmt.Sprintf("Name: f%d\nSHA-256-Digest: %s\n\n", i, digestOf(s))
			}
			return jarRequest(cms.Jar(t, signer, m, sf))
		},
	}
	for name, build := range build {
		small, large := build(600), build(6000)
		if err := checkVerdict(t, name, large); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		checkLinear(t, name, small, large)
	}
}

// checkLinear holds the time for an input of ten times the size to twelve times
// that of the other. The machine does other things as well: one comparison in
// peace is enough, what takes the square takes a hundred times each time.
func checkLinear(t *testing.T, name string, small, large []byte) {
	t.Helper()
	least := func(in []byte) time.Duration {
		best := time.Hour
		for range 5 {
			begin := time.Now()
			_, _ = Propose(in)
			best = min(best, time.Since(begin))
		}
		return best
	}
	for range 10 {
		if a, b := least(small), least(large); b <= 12*max(a, time.Millisecond) {
			return
		}
	}
	t.Errorf("%s: %d bytes take %s, %d bytes %s", name, len(small), least(small), len(large), least(large))
}

// An archive, whole and as a proposal has it, is within the budget: what its
// metadata inflates to is allowed for.
func FuzzJar(f *testing.F) {
	signer := jarSigner(f)
	a := cms.File{Name: "a/A.class", Content: []byte("class A")}
	manifest := cms.Manifest(a)
	signer.Content = []byte(cms.SignatureFile(manifest))
	parts := []*fuzz.Node{fuzz.Look([]byte(manifest)), fuzz.Look(signer.Content), fuzz.Look(signer.DER(f)), fuzz.Leaf(a.Content)}
	pack := func(kids [][]byte) []byte {
		if len(kids) != 4 {
			return bytes.Join(kids, nil)
		}
		out, err := cms.Pack(cms.File{Name: "META-INF/MANIFEST.MF", Content: kids[0]}, cms.File{Name: "META-INF/TEST.SF", Content: kids[1]},
			cms.File{Name: "META-INF/TEST.EC", Content: kids[2]}, cms.File{Name: "a/A.class", Content: kids[3]})
		if err != nil {
			return nil
		}
		return out
	}
	seeds := []*fuzz.Node{fuzz.Join(pack, parts...), fuzz.Leaf(pack([][]byte{parts[0].Bytes(), parts[1].Bytes(), parts[2].Bytes(), a.Content}))}
	for _, name := range []string{"jar", "jar-sectionsonly", "jar-timestamped"} {
		seeds = append(seeds, fuzz.Leaf(archiveOf(f, name)))
	}
	allow := func(in []byte) int {
		z, err := zip.NewReader(bytes.NewReader(in), int64(len(in)))
		if err != nil {
			return 0
		}
		n := 0
		for _, file := range z.File {
			n += int(min(file.UncompressedSize64, maxJarMetadata))
		}
		return 10 * min(n, 3*maxJarMetadata)
	}
	fuzz.RunWith(f, fuzz.Options{Allow: allow}, seeds, verifyJarCopy, func(t *testing.T, in []byte, p any, err error) {
		switch {
		case err != nil && strings.ContainsAny(err.Error(), "\r\n"):
			t.Fatalf("error of more than one line: %q", err)
		case err != nil:
		default:
			if err := checkVerdict(t, "fuzz", jarRequest(in)); err != nil && !slices.Contains([]string{"PKCS7: there is no certificate"}, err.Error()) && !strings.HasPrefix(err.Error(), "invalid certificate") {
				t.Fatal(err)
			}
		}
	})
}

func verifyJarCopy(in []byte) (any, error) {
	p, err := verifyJar(in)
	if err == nil && p == nil {
		return nil, errors.New("neither a signature nor an error")
	}
	return p, err
}

func archiveOf(t testing.TB, name string) []byte {
	t.Helper()
	var v struct {
		Spec struct {
			Archive struct{ Content []byte }
		}
	}
	if err := json.Unmarshal(vectorNamed(t, name).Request, &v); err != nil || len(v.Spec.Archive.Content) == 0 {
		t.Fatalf("%s: no archive, %v", name, err)
	}
	return v.Spec.Archive.Content
}
