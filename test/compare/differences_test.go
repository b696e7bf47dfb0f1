package compare

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// An expected difference is a row of the table in docs/rekor.md, "Where this server
// differs from rekor-server". The first that fits a difference counts.
type expected struct {
	row  string // its first cell there
	when func(difference) bool
	by   string // the test that shows it instead, where no request here does
}

var differences = []expected{
	{row: "input that cannot be parsed, or that it cannot canonicalise", when: func(d difference) bool {
		return (d.b.status >= 500 || d.b.status == 0) && (d.a.status == 400 || d.a.status == 422)
	}},
	{row: "members that are there twice, in another case, or null or empty elements of a list", when: says(`an empty verifier|is there twice|must be spelled|logIndexes.0 in body is required|at least 1 items`)},
	{row: "bytes after the JSON", when: says(`after top-level value|something follows the object`)},
	{row: "text that is not UTF-8, or half of a surrogate pair", when: says(`not valid UTF-8|half a surrogate pair|not valid Unicode`)},
	{row: "base64 with line breaks", when: says(`line breaks are not accepted`)},
	{row: "members of another type, such as a truth value for bytes", when: and(says(`want (a string|an object|an array)`), func(d difference) bool { return d.b.status < 300 || d.b.status == 409 })},
	{row: "`null` for a query", when: says(`null is not accepted`)},

	{row: "a certificate chain that does not verify", when: or(seedIs("dsse wrong chain"), and(seedIs("dsse chain"), says(`do not match threshold`)))},
	{row: "`intoto` 0.0.1 with a `keyid` of another key", when: func(d difference) bool {
		return strings.HasPrefix(d.request.seed, "intoto ") && (strings.Contains(d.request.change.Path, "keyid") || strings.Contains(d.request.seed, "another keyid")) &&
			(d.a.status < 300 || d.a.status == 409) && d.b.status == 400
	}},
	{row: "`intoto` 0.0.1 with a signature beside a good one that is empty or not base64", when: says(`DSSE envelope signatures: sig`)},
	{row: "`intoto` 0.0.2, signatures whose keys are swapped", when: seedIs("intoto 0.0.2 swapped keys")},
	{row: "`intoto` 0.0.2, two signatures of one key", when: seedIs("intoto 0.0.2 two of one key")},
	{row: "`intoto` 0.0.2 whose `content.hash` is no digest", when: says(`invalid value for hash: content.hash|content.hash.value in body is required`)},
	{row: "`cose` headers or `dsse` verifiers with more than the bounds above", when: or(seedIs("cose long headers"), says(`verifiers: at most 10`))},
	{row: "`rfc3161` with content that is no TSTInfo, or with bytes behind", when: says(`tsr has \d+ bytes after its end|TSTInfo`)},
	{row: "`rekord` with a minisign or ssh signature that names another key", when: says(`was made by (another )?key`)},
	{row: "pgp armor, or a key of ssh or minisign, with something around it", when: func(d difference) bool {
		return d.b.status != 400 && says(`armor|not OpenPGP data|no key found|want a comment line|public key provided could not be parsed`)(d)
	}},
	{row: "pgp armor with long lines", when: func(d difference) bool {
		return took(d.a) && bytes.Contains(d.b.body, []byte("armor invalid")) ||
			d.a.status == http.StatusOK && bytes.Contains(d.b.body, []byte("public key provided could not be parsed"))
	}},
	{row: "PKCS #7 with MD5, without DigestInfo, or without the signed attributes", by: "tlog/entry, TestJar"},
	{row: "`jar` with two files of one name, or a second block", by: "tlog/entry, TestJar"},
	{row: "`tuf` with numbers that are no integers below 2^53, signatures without key ID or value, more than 100, or a key that signs twice", when: and(
		func(d difference) bool {
			return strings.HasPrefix(strings.TrimPrefix(d.request.seed, "retrieve "), "tuf ")
		},
		says(`signatures: key .* has two|signatures: keyid in body is required|signatures: sig: want|signatures: at most 100|integer`))},
	{row: "`alpine` with text that is not UTF-8, sections or quoted names", by: "tlog/entry, TestAlpine"},
	{row: "`rpm` whose payload no signature covers", by: "tlog/entry, TestRPM"},
	{row: "`rpm`, revoked or expired keys", by: "tlog/entry, TestRPM"},
	{row: "`helm` with several files", when: says(`checksums of 2 files`)},

	{row: "`jar`, search by the signer's certificate", when: and(func(d difference) bool { return strings.HasPrefix(d.request.name, "search signer of jar ") }, more)},
	{row: "`hash` of a public key in a search", when: more},
	{row: "attestations", by: "tlog/rekor, TestAttestationFirst"},
	{row: "`--client-signing-algorithms`", by: "api/rekorv1, TestAlgorithms"},
	{row: "search keys", by: "tlog/rekor, TestSearch"},
	{row: "spaces at the end of what is searched for", when: func(d difference) bool {
		return d.what == "body" && d.request.kind == "search" && (d.request.change.Op == "space behind" || strings.HasSuffix(d.request.name, " "))
	}},
	{row: "an e-mail address of more than 320 bytes in a search", when: says(`email in body must be of type email`)},
	{row: "entries in a retrieval whose algorithm is not allowed", when: func(d difference) bool {
		return d.request.kind == "retrieve" && says(`entry algorithms are not allowed`)(d)
	}},

	{row: "`/ping` and `/swagger.json` with other methods, and the latter's text", when: func(d difference) bool {
		path := strings.ToLower(strings.TrimLeft(d.request.path, "/"))
		return strings.HasPrefix(path, "ping") || strings.HasPrefix(path, "swagger.json")
	}},
	{row: "`OPTIONS` that is no preflight", when: func(d difference) bool {
		return d.request.method == "OPTIONS" && d.a.status == http.StatusNoContent && d.b.status/100 == 4
	}},
	{row: "paths that are not spelled in the one way, and those of no service", when: func(d difference) bool {
		path, _, _ := strings.Cut(d.request.path, "?")
		return regexp.MustCompile(`//|/\.|\.\.|%|[A-Z]{3}/|^/api/v1/index/unknown|\.json$|;`).MatchString(path)
	}},
	{row: "answers to preflights, and to methods that a page may not use", when: func(d difference) bool {
		return (d.what == "header Vary" || strings.HasPrefix(d.what, "header Access-Control-")) && d.request.method != "GET" && d.request.method != "POST"
	}},
	{row: "`Content-Type` that is no media type", when: func(d difference) bool {
		return d.a.status == http.StatusUnsupportedMediaType && d.b.status == http.StatusBadRequest
	}},
	{row: "`POST` by those who accept no JSON", when: func(d difference) bool {
		return d.what == "header Content-Type" && d.request.method == "POST" && d.theirs == ""
	}},
	{row: "an empty `publicKey.format` in a search", when: func(d difference) bool {
		return d.request.kind == "search" && bytes.Contains(d.request.body, []byte(`"format":""`)) && d.what == "body"
	}},
}

// says matches what we refuse with a text.
func says(pattern string) func(difference) bool {
	text := regexp.MustCompile(pattern)
	return func(d difference) bool { return d.a.status/100 == 4 && text.Match(d.a.body) }
}

// seedIs matches requests with a proposal, changed or not.
func seedIs(name string) func(difference) bool {
	return func(d difference) bool { return strings.HasPrefix(d.request.seed, name) }
}

func and(a, b func(difference) bool) func(difference) bool {
	return func(d difference) bool { return a(d) && b(d) }
}

func or(a, b func(difference) bool) func(difference) bool {
	return func(d difference) bool { return a(d) || b(d) }
}

// more matches a search that finds all that theirs does, and more.
func more(d difference) bool {
	if d.what != "body" || d.request.kind != "search" {
		return false
	}
	ours := strings.Fields(d.ours)
	return !slices.ContainsFunc(strings.Fields(d.theirs), func(leaf string) bool { return !slices.Contains(ours, leaf) })
}

// What is the same in two logs is compared, and nothing else.
func TestCompare(t *testing.T) {
	const leaf, other = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff", "ff112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
	const tree, elsewhere = "0000000000000001", "0000000000000002"
	log := map[string]logEntry{leaf: {}, other: {}}
	r := &run{ours: &side{tree: 1, log: log}, theirs: &side{tree: 2, log: log}}
	answerOf := func(status int, body string, header ...string) answer {
		a := answer{status, http.Header{}, []byte(body)}
		for i := 0; i < len(header); i += 2 {
			a.header.Set(header[i], header[i+1])
		}
		return a
	}
	entry := func(tree, leaf, body, more string) string {
		return `{"` + tree + leaf + `":{"body":"` + body + `","logIndex":` + fmt.Sprint(len(tree+more)) + more + `}}`
	}
	for _, c := range []struct {
		kind string
		a, b answer
		want string
	}{
		{"create", answerOf(201, entry(tree, leaf, "eA==", ""), "Location", "/x/"+tree+leaf), answerOf(201, entry(elsewhere, leaf, "eA==", ""), "Location", "/x/"+elsewhere+leaf), ""},
		{"create", answerOf(201, entry(tree, leaf, "eA==", "")), answerOf(201, entry(elsewhere, leaf, "eQ==", "")), "body"},
		{"create", answerOf(201, entry(tree, leaf, "eA==", "")), answerOf(201, entry(elsewhere, other, "eA==", "")), "body"},
		{"create", answerOf(201, entry(tree, leaf, "eA==", "")), answerOf(201, entry(elsewhere, leaf, "eA==", `,"x":1`)), "body"},
		{"create", answerOf(201, "{}", "Location", "/x/"+tree+leaf), answerOf(201, "{}", "Location", "http://localhost/x/"+elsewhere+leaf), "header Location"},
		{"create", answerOf(400, `{"code":400,"message":"a"}`), answerOf(400, `{"code":400,"message":"b"}`+"\n"), ""},
		{"create", answerOf(422, `{"code":602,"message":"a"}`), answerOf(422, `{"code":605,"message":"a"}`), "body"},
		{"create", answerOf(400, "{}"), answerOf(422, "{}"), "status"},
		{"search", answerOf(200, `["`+tree+leaf+`","`+tree+other+`"]`), answerOf(200, `["`+elsewhere+other+`","`+elsewhere+leaf+`"]`), ""},
		{"search", answerOf(200, `["`+tree+leaf+`"]`), answerOf(200, `["`+elsewhere+leaf+`","`+elsewhere+other+`"]`), "body"},
		{"retrieve", answerOf(200, "["+entry(tree, leaf, "", "")+","+entry(tree, other, "", "")+"]"), answerOf(200, "["+entry(tree, other, "", "")+","+entry(tree, leaf, "", "")+"]"), "body"},
		{"read", answerOf(200, `{"hashes":["`+leaf+`"],"rootHash":"`+leaf+`"}`), answerOf(200, `{"hashes":[],"rootHash":"`+other+`"}`), ""},
		{"read", answerOf(200, `{"hashes":[]}`), answerOf(200, `{"hashes":null}`), "body"},
		{"protocol", answerOf(405, "", "Allow", "GET,POST"), answerOf(405, "", "Allow", "POST,GET"), ""},
	} {
		got := ""
		for _, d := range r.compare(request{kind: c.kind}, c.a, c.b) {
			got += d.what
		}
		if got != c.want {
			t.Errorf("%s, %s and %s: %q differs, want %q", c.kind, c.a.body, c.b.body, got, c.want)
		}
	}
}

// The table of the documentation and the one here are the same.
func TestDifferencesAreDocumented(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "rekor.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, table, ok := strings.Cut(string(text), "\n## Where this server differs from rekor-server\n")
	if !ok {
		t.Fatal("docs/rekor.md has no such section")
	}
	table, _, _ = strings.Cut(table, "\n## ")
	documented := make(map[string]bool)
	for line := range strings.Lines(table) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) != 7 || strings.HasPrefix(cells[1], "---") || strings.TrimSpace(cells[1]) == "" {
			continue
		}
		documented[strings.TrimSpace(cells[1])] = true
	}
	for _, e := range differences {
		if !documented[e.row] {
			t.Errorf("docs/rekor.md does not have the row %q", e.row)
		}
		delete(documented, e.row)
		if (e.when == nil) == (e.by == "") {
			t.Errorf("%q: want what it matches, or the test that shows it", e.row)
		}
		if pkg, test, ok := strings.Cut(e.by, ", "); ok && !hasTest(t, pkg, test) {
			t.Errorf("%q: package %s has no %s", e.row, pkg, test)
		}
	}
	for row := range documented {
		t.Errorf("nothing here matches the row %q of docs/rekor.md", row)
	}
}

func hasTest(t *testing.T, pkg, name string) bool {
	files, err := filepath.Glob(filepath.Join("..", "..", pkg, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(files, func(file string) bool {
		text, err := os.ReadFile(file)
		return err == nil && bytes.Contains(text, []byte("\nfunc "+name+"("))
	})
}
