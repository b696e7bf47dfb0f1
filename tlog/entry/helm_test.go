package entry

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"

	"github.com/sigstack/sigstack/test/fuzz"
)

func clearSign(t testing.TB, e *openpgp.Entity, text string) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := clearsign.Encode(&out, e.PrivateKey, pgpConfig)
	if err == nil {
		_, err = w.Write([]byte(text))
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func helmRequest(t testing.TB, key, provenance []byte) []byte {
	t.Helper()
	out, err := json.Marshal(map[string]any{"kind": "helm", "apiVersion": "0.0.1", "spec": map[string]any{
		"publicKey": map[string]any{"content": key},
		"chart":     map[string]any{"provenance": map[string]any{"content": provenance}}}})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

const chartYAML = "apiVersion: v2\nname: test\nversion: 0.1.0\n"

func TestHelm(t *testing.T) {
	e, key := pgpEntity(t, "helm@example.com")
	other, _ := pgpEntity(t, "other@example.com")
	sum := "sha256:" + strings.Repeat("0123456789abcdef", 4)
	sums := "files:\n  test-0.1.0.tgz: " + sum + "\n"
	of := func(sums string) []byte {
		return helmRequest(t, key, clearSign(t, e, chartYAML+"\n...\n"+sums))
	}
	good := clearSign(t, e, chartYAML+"\n...\n"+sums)
	b64 := base64.StdEncoding.EncodeToString
	with := func(spec string) []byte { return []byte(`{"kind":"helm","apiVersion":"0.0.1","spec":` + spec + `}`) }
	publicKey := `"publicKey":{"content":"` + b64(key) + `"}`
	hash := func(algorithm, value string) []byte {
		return with(fmt.Sprintf(`{%s,"chart":{"hash":{"algorithm":%q,"value":%q},"provenance":{"content":%q}}}`, publicKey, algorithm, value, b64(good)))
	}
	const invalid = "provenance file: invalid checksum, want sha256: and 64 hex digits"
	const none = "provenance file: no checksums found, want files: {name: sha256:digest}"
	checkVerdicts(t, []verdict{
		{"plain", helmRequest(t, key, good), ""},
		{"text around it", helmRequest(t, key, append([]byte("hello\n"), append(bytes.Clone(good), "\nhello\n"...)...)), ""},
		{"line ends of Windows", helmRequest(t, key, bytes.ReplaceAll(good, []byte("\n"), []byte("\r\n"))), ""},
		{"its hash", hash("sha256", sum[7:]), ""},
		{"images", of(sums + "images:\n  a: b\n"), ""},
		{"flow style", of(`{"files": {"a b": "` + sum + `"}}`), ""},
		{"a third part", of(sums + "\n...\nfiles: x\n"), ""},
		{"a hash in capitals", of("files:\n  a: sha256:" + strings.Repeat("AB", 32)), ""},
		{"no line end", of(strings.TrimSpace(sums)), ""},
		{"a long name", of("files:\n  ? " + strings.Repeat("a", 500) + "\n  : " + sum), ""},

		{"another hash", hash("sha256", strings.Repeat("0", 64)), "SHA mismatch: " + sum[7:] + " != " + strings.Repeat("0", 64)},
		{"another algorithm", hash("sha1", sum[7:]), "chart.hash.algorithm in body should be one of [sha256]"},
		{"nothing", with(`{}`), "publicKey in body is required"},
		{"no key", with(`{"publicKey":{}}`), "publicKey.content in body is required"},
		{"URL of a key", with(`{"publicKey":{"url":"https://example.com/key"}}`), "publicKey.content in body is required"},
		{"no chart", with(`{` + publicKey + `}`), "chart in body is required"},
		{"URL of a chart", with(`{` + publicKey + `,"chart":{"url":"https://example.com/chart"}}`), "chart.provenance in body is required"},
		{"URL of a provenance file", with(`{` + publicKey + `,"chart":{"provenance":{"url":"https://example.com/prov"}}}`), "'content' must be specified for provenance"},
		{"stored form", with(`{` + publicKey + `,"chart":{"provenance":{"signature":{"content":"AA=="}}}}`), "'content' must be specified for provenance"},
		{"content that is no base64", with(`{` + publicKey + `,"chart":{"provenance":{"content":"*"}}}`), "chart.provenance.content: failed parsing base64 data: illegal base64 data at input byte 0"},
		{"a key that is none", helmRequest(t, []byte("x"), good), "not OpenPGP data: a packet must begin with the high bit set"},
		{"another's signature", helmRequest(t, key, clearSign(t, other, chartYAML+"\n...\n"+sums)), "verifying signature: openpgp: signature made by unknown entity"},
		{"another chart", helmRequest(t, key, bytes.Replace(good, []byte("0.1.0\n"), []byte("0.1.1\n"), 1)), "verifying signature: openpgp: invalid signature: EdDSA verification failure"},
		{"another checksum", helmRequest(t, key, bytes.Replace(good, []byte("0123"), []byte("3210"), 1)), "verifying signature: openpgp: invalid signature: EdDSA verification failure"},
		{"not signed", helmRequest(t, key, []byte(chartYAML+"\n...\n"+sums)), "unable to decode provenance file: want a line -----BEGIN PGP SIGNED MESSAGE-----"},
		{"one part", helmRequest(t, key, clearSign(t, e, chartYAML+sums)), `provenance file: want a line "..." between the chart and its checksums`},
		{"long checksums", of(sums + strings.Repeat("#", 1<<10)), fmt.Sprintf("provenance file: %d bytes of checksums, at most 1024 are accepted", len(sums)+(1<<10))},
		{"not YAML", of("files: ["), "provenance file: the checksums are not YAML"},
		{"empty", of(""), none},
		{"a list", of("- files"), none},
		{"no files", of("images:\n  a: b\n"), none},
		{"Files in capitals", of("Files:\n  a: " + sum), none},
		{"files that are text", of("files: x\n"), none},
		{"files that are none", of("files: {}\n"), none},
		{"files of an anchor", of("images: &x {a: \"" + sum + "\"}\nfiles: *x\n"), none},
		{"files twice", of(sums + sums), "provenance file: files is there twice"},
		{"two files", of(sums + "  b: " + sum), "provenance file: checksums of 2 files, want one"},
		{"a merged file", of("files:\n  <<: {a: \"" + sum + "\"}\n"), invalid},
		{"SHA-1", of("files:\n  a: sha1:" + strings.Repeat("0", 40)), invalid},
		{"SHA-512", of("files:\n  a: sha512:" + strings.Repeat("0", 128)), invalid},
		{"no algorithm", of("files:\n  a: " + strings.Repeat("0", 64)), invalid},
		{"a short checksum", of("files:\n  a: " + sum[:70]), invalid},
		{"a checksum that is no hex", of("files:\n  a: sha256:" + strings.Repeat("g", 64)), invalid},
		{"a checksum and more", of("files:\n  a: " + sum + ":00"), invalid},
		{"a checksum in a list", of("files:\n  a: [\"" + sum + "\"]"), invalid},
	})

	entry, err := Propose(helmRequest(t, key, good))
	if err != nil {
		t.Fatal(err)
	}
	checkStored(t, "helm", key, entry, "chart.hash in body is required")
}

func TestHelmBombs(t *testing.T) {
	e, ring := pgpEntity(t, "helm@example.com")
	of := func(chart, sums string) []byte { return helmRequest(t, ring, clearSign(t, e, chart+"\n...\n"+sums)) }
	laughs := "a: &a [x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c < 'p'; c++ {
		laughs += fmt.Sprintf("%c: &%c [*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c]\n", c, c, c-1, c-1, c-1, c-1, c-1, c-1, c-1, c-1, c-1)
	}
	const none = "provenance file: no checksums found, want files: {name: sha256:digest}"
	checkBombs(t, []bomb{
		{verdict{"aliases", of(chartYAML, laughs), none}, 0},
		{verdict{"depth", of(chartYAML, strings.Repeat("[", 500)+strings.Repeat("]", 500)), none}, 0},
		{verdict{"depth that does not end", of(chartYAML, strings.Repeat("{", 1000)), "provenance file: the checksums are not YAML"}, 0},
		{verdict{"elements", of(chartYAML, "["+strings.Repeat("a,", 500)+"]"), none}, 0},
		{verdict{"lists", of(chartYAML, strings.Repeat("- ", 500)), none}, 0},
		{verdict{"keys", of(chartYAML, strings.Repeat("? ", 500)), none}, 0},
		{verdict{"lines of a chart", of(strings.Repeat("\n", mega), "[]"), none}, 0},
	})
}

// What follows the chart in a provenance file: it is refused, or gives a digest.
func FuzzProvenance(f *testing.F) {
	sum := "sha256:" + strings.Repeat("0123456789abcdef", 4)
	seeds := fuzz.Seeds(
		chartYAML+"\n...\nfiles:\n  test-0.1.0.tgz: "+sum+"\n",
		"\n...\n{\"files\": {\"a\": \""+sum+"\"}, images: &a [*a, *a]}\n...\n",
		"\n...\nfiles: &x\n  <<: *x\n  ? |\n    a\n  : !!str "+sum+"\n",
	)
	fuzz.Run(f, seeds, parseProvenance, func(t *testing.T, in []byte, d digest, err error) {
		if err == nil && (d.algorithm != "sha256" || len(d.raw()) != 32 || !bytes.Contains(in, []byte(d.searchKey()[7:]))) {
			t.Fatalf("digest %v", d)
		}
	})
}
