package badinput

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sigstack/sigstack/api/fulcio"

	"github.com/sigstack/sigstack/test/mutate"
)

// paths is B11: on raw connections, because clients clean paths themselves.
func (s *suite) paths(t *testing.T) {
	total := 0
	prefixes := []string{"/tuf/", "/tuf/targets/", "/oidc/", "/ct/v1/", "/api/v1/log/", "/api/v1/log/entries/", "/dev.sigstore.fulcio.v2.CA/", "/grpc.health.v1.Health/", "/"}
	tails := []string{
		"../../../../etc/passwd", "..", "../", "./", "...", "%2e%2e/%2e%2e/etc/passwd", "%2e%2e%2f%2e%2e%2fetc%2fpasswd", "..%2f..%2fetc/passwd", "..%5c..%5cetc", `..\..\etc\passwd`,
		"%252e%252e/etc/passwd", "%c0%ae%c0%ae/etc/passwd", "%00", "x%00.json", "root.json%00", "//etc/passwd", "%2fetc/passwd", "etc/passwd", "keys/ca.pem", "../keys/ca.pem", "..;/keys/ca.pem",
		".%2e/keys/ca.pem", "%u002e%u002e/", "\u2024\u2024/etc", "\uff0e\uff0e/etc", "root.json/", "root.json/..", "root.json/.", "root.json%20", "root.json.", "ROOT.JSON", "root.json~", "root.json.bak",
		".git/config", ".env", "01.root.json", "+1.root.json", "-1.root.json", "1e0.root.json", "0.root.json", "00000000000000000000001.root.json", "\u0661.root.json", "18446744073709551617.root.json",
		"0x001", "x001", "tile/0/x001", "tile/0/.p/0", "tile/0/000.p/256", "tile/0/+1", "tile/0/%31", "tile/../tile/0/000", "CON", "NUL", "aux.json", "C:/windows", "file:///etc/passwd", "?", "*", "~root",
		strings.Repeat("../", 200) + "etc/passwd", strings.Repeat("a/", 200), strings.Repeat("%2e%2e%2f", 200), "%", "%zz", "%2", "a b", "\x80\x81",
	}
	for _, prefix := range prefixes {
		for _, tail := range tails {
			path := prefix + tail
			total++
			text := s.rawGet(t, "GET "+path+" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
			status := ""
			if fields := strings.Fields(text); len(fields) > 1 {
				status = fields[1]
			}
			refused := slices.Contains([]string{"400", "404", "405", "422"}, status)
			if path == "/api/v1/log/?" { // the slash behind a path is tolerated there
				refused = status == "200"
			}
			if !refused {
				t.Errorf("GET %q: %s %s", path, status, clip(text))
			}
			if strings.Contains(text, "root:x:0") || strings.Contains(text, "PRIVATE KEY") {
				t.Errorf("GET %q: shows a file: %s", path, clip(text))
			}
		}
	}
	t.Logf("%d paths", total)
}

// cardinality is B12: whatever clients send, the series of the metrics stay
// those that there are, and lines of the log stay short.
func (s *suite) cardinality(t *testing.T) {
	const seed = 12
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, seed))
	word := func(most int) string {
		b := make([]byte, 1+random.IntN(most))
		for i := range b {
			b[i] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"[random.IntN(64)]
		}
		return string(b)
	}
	var prefixes []string
	for _, r := range table {
		if _, path, _ := strings.Cut(r.route, " "); !r.ops {
			prefixes = append(prefixes, path)
		}
	}
	make := func() request {
		r := request{method: []string{"GET", "POST", "PUT", "OPTIONS", "HEAD", "DELETE", strings.ToUpper(word(8)), word(2000)}[random.IntN(8)], header: http.Header{}}
		switch random.IntN(4) {
		case 0:
			r.path = "/" + word(30)
		case 1:
			r.path = prefixes[random.IntN(len(prefixes))]
		case 2:
			r.path = strings.TrimSuffix(prefixes[random.IntN(len(prefixes))], "/") + "/" + word(3000)
		case 3:
			r.path = "/" + strings.Repeat("%0a%22%5c", 100) + word(20)
		}
		r.path = strings.NewReplacer("{", "", "}", "").Replace(r.path) + "?" + word(10) + "=" + word(10)
		r.header.Set("User-Agent", word(5000)+"\t\"\\\u2028")
		r.header.Set("X-Request-Id", []string{word(100), word(1000), "a b", "\"\\"}[random.IntN(4)])
		if random.IntN(10) == 0 {
			r.header.Set("Authorization", "Bearer "+s.sign(nil, s.claims(object{"iss": "https://" + word(20) + ".example/" + word(500)})))
			r.method, r.path, r.body = "POST", pathV1, marshal(s.oldRequest())
		}
		return r
	}
	batch := func(n int) {
		requests := []request{}
		for range n {
			requests = append(requests, make())
		}
		each(n, func(i int) { s.send(requests[i]) })
	}
	batch(5000) // every combination of a closed set, or nearly
	after := s.usage(t).series
	batch(10_000)
	// A few combinations of route, method and status may still have been missing.
	if series := s.usage(t).series; series > after+20 {
		t.Errorf("%d series, and %d after 10,000 more requests", after, series)
	} else {
		t.Logf("%d series, and %d after 10,000 more requests", after, series)
	}
	// The labels are from closed sets: patterns, methods and numbers.
	patterns := []string{"", "/", "/ct/v1/", "/oidc/", "/tuf", "/tuf/", "/api/v1/log", "/api/v1/log/", "/api/v1/index/retrieve", "/api/v1/index/retrieve/"}
	patterns = append(patterns, fulcio.Paths()...)
	for _, r := range table {
		_, path, _ := strings.Cut(r.route, " ")
		patterns = append(patterns, r.route, path)
	}
	for name := range s.usage(t).values {
		labels, ok := strings.CutPrefix(name, "sigstack_http_requests_total{")
		if !ok {
			continue
		}
		m := requestLabels.FindStringSubmatch(labels)
		if m == nil || !slices.Contains(patterns, m[3]) {
			t.Errorf("a series that a client has named: %s", clip(name))
		}
	}
}

var requestLabels = regexp.MustCompile(`^code="([1-5]\d\d)",method="(GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS|other)",route="([^"]*)"}$`)

// poison is B14: what comes beside the parts that are verified is not stored,
// and does not change what is.
func (s *suite) poison(t *testing.T) {
	body := func(a answer) string {
		var answer map[string]struct{ Body []byte }
		if err := json.Unmarshal(a.body, &answer); err != nil {
			t.Fatalf("%v: %s", err, clip(string(a.body)))
		}
		for _, e := range answer {
			return string(e.Body)
		}
		return ""
	}
	digest := digestOf("sha256", []byte("poison"))
	sig, key := signASN1(s.keys.p256, digest), publicPEM(s.keys.p256)
	// The canonical body is known: RFC 8785 over what was verified.
	want := fmt.Sprintf(`{"apiVersion":"0.0.1","kind":"hashedrekord","spec":{"data":{"hash":{"algorithm":"sha256","value":"%s"}},"signature":{"content":"%s","publicKey":{"content":"%s"}}}}`,
		hexOf(digest), base64Of(sig), base64Of(key))
	dirty := mutate.Parse(hashedRekord("sha256", digest, sig, bytes.Join([][]byte{[]byte("Comment of mine\n"), bytes.Replace(key, []byte("KEY-----\n"), []byte("KEY-----\nPoison: yes\n\n"), 1)}, nil)))
	text := string(dirty.Bytes())
	text = strings.Replace(text, `"spec":{`, `"poison":"\u202e","attestation":"eA==","spec":{"poison":["x"],`, 1)
	a := s.expect(http.StatusCreated, "unknown members, a comment, headers in PEM", postJSON(pathEntry, []byte(text)))
	if got := body(a); got != want {
		t.Errorf("stored is\n%s\nwant\n%s", got, want)
	}
	s.expect(http.StatusConflict, "the same, clean", postJSON(pathEntry, hashedRekord("sha256", digest, sig, key)))

	// Certificates: only the ones that lead from the leaf to the last.
	leaf := s.ca.issue(nil)
	chainKey := slices.Concat(pemOf("CERTIFICATE", leaf), pemOf("CERTIFICATE", s.ca.chain[0]), pemOf("CERTIFICATE", certificate(s.keys.p384, nil)))
	s.expect(http.StatusBadRequest, "a certificate that does not belong to the chain", postJSON(pathEntry, hashedRekord("sha256", digest, sig, chainKey)))

	// An envelope: keyid, unknown members and unused verifiers are not stored.
	payload := []byte("poison")
	clean := envelope("text/plain", payload, s.keys.p256)
	clean["signatures"].(array)[0].(object)["keyid"] = "root@example.com"
	clean["signatures"].(array)[0].(object)["cert"] = "poison"
	clean["poison"] = object{"a": "b"}
	env := marshal(clean)
	sigText := clean["signatures"].(array)[0].(object)["sig"].(string)
	a = s.expect(http.StatusCreated, "an envelope with more than it needs", postJSON(pathEntry, dsse(env, key, publicPEM(s.keys.p384), []byte("not a key"))))
	want = fmt.Sprintf(`{"apiVersion":"0.0.1","kind":"dsse","spec":{"envelopeHash":{"algorithm":"sha256","value":"%s"},"payloadHash":{"algorithm":"sha256","value":"%s"},"signatures":[{"signature":"%s","verifier":"%s"}]}}`,
		hexOf(digestOf("sha256", env)), hexOf(digestOf("sha256", payload)), sigText, base64Of(key))
	if got := body(a); got != want {
		t.Errorf("stored is\n%s\nwant\n%s", got, want)
	}
	// A forged signature beside a good one: all or nothing.
	forged := envelope("text/plain", []byte("forged"), s.keys.p256)
	forged["signatures"] = append(forged["signatures"].(array), object{"sig": base64Of([]byte("forged"))})
	s.expect(http.StatusBadRequest, "a forged signature beside a good one", postJSON(pathEntry, dsse(marshal(forged), key, key)))
	// The stored form cannot be proposed.
	s.expect(http.StatusBadRequest, "a stored body as a proposal", postJSON(pathEntry, []byte(want)))

	// Other formats: their comments are gone.
	for _, name := range []string{"rekord-minisign", "rekord-ssh"} {
		var vector struct {
			Spec struct {
				Signature struct{ Content, PublicKey any }
			}
		}
		json.Unmarshal(s.keys.vectors[name], &vector)
		keyText := must(base64.StdEncoding.DecodeString(vector.Spec.Signature.PublicKey.(map[string]any)["content"].(string)))
		commented := append(bytes.TrimRight(keyText, "\n"), []byte(" poison@example.com\n")...)
		if name == "rekord-minisign" {
			commented = append([]byte("untrusted comment: poison@example.com\n"), keyText[bytes.LastIndexByte(bytes.TrimRight(keyText, "\n"), '\n')+1:]...)
		}
		changed := strings.Replace(string(mutate.Parse(s.keys.vectors[name]).Bytes()), base64Of(keyText), base64Of(commented), 1)
		s.expect(http.StatusConflict, name+" with another comment", postJSON(pathEntry, []byte(changed)))
	}
	for _, term := range []string{"poison@example.com", "root@example.com", "poison"} {
		a := s.expect(http.StatusOK, "search", postJSON("/api/v1/index/retrieve", marshal(object{"subject": term})))
		if strings.TrimSpace(string(a.body)) != "[]" {
			t.Errorf("%q is found: %s", term, clip(string(a.body)))
		}
	}

	// The CT log stores the chain that leads to its root, as it was verified.
	cert := s.ca.issue(nil)
	s.expect(http.StatusOK, "members beside a chain", postJSON("/ct/v1/add-chain", marshal(object{"chain": [][]byte{cert, s.ca.chain[0]}, "poison": "x", "sct": "x"})))
	s.expect(http.StatusOK, "a good entry afterwards", postJSON("/ct/v1/add-pre-chain", chainBody(s.precert(), s.ca.chain[0])))
	s.expect(http.StatusCreated, "a good entry afterwards", postJSON(pathEntry, s.keys.freshEntry()))
	if _, err := x509.ParseCertificate(cert); err != nil {
		t.Fatal(err)
	}
}

// order is B15: one request has one verdict, however often it comes and in
// whatever process: nothing depends on the order of a map.
func (s *suite) order(t *testing.T) {
	env := envelope("application/vnd.in-toto+json", []byte(`{"subject":[{"digest":{"sha256":"aa","sha512":"bb","md5":"cc"}}]}`))
	var verifiers [][]byte
	for range 5 {
		k := newP256()
		for range 2 { // two signatures of each key, of which each verifier covers the first
			one := envelope("application/vnd.in-toto+json", []byte(`{"subject":[{"digest":{"sha256":"aa","sha512":"bb","md5":"cc"}}]}`), k)
			env["signatures"] = append(env["signatures"].(array), one["signatures"].(array)...)
		}
		verifiers = append(verifiers, publicPEM(k))
	}
	refused := postJSON(pathEntry, dsse(marshal(env), verifiers...))
	env["signatures"] = array{env["signatures"].(array)[0], env["signatures"].(array)[2], env["signatures"].(array)[4], env["signatures"].(array)[6], env["signatures"].(array)[8]}
	slices.Reverse(verifiers)
	taken := postJSON(pathEntry, dsse(marshal(env), verifiers...))

	first := s.expect(http.StatusCreated, "five signatures", taken)
	uuid := first.header.Get("ETag")
	want := string(s.expect(http.StatusBadRequest, "ten signatures of five keys", refused).body)
	each(1000, func(int) {
		if a := s.expect(http.StatusConflict, "five signatures again", taken); a.header.Get("Location") != pathEntry+"/"+uuid {
			s.fault("another entry: %s, want %s", a.header.Get("Location"), uuid)
		}
		if a := s.expect(http.StatusBadRequest, "ten signatures again", refused); string(a.body) != want {
			s.fault("another answer: %s, want %s", a.body, want)
		}
	})
}
