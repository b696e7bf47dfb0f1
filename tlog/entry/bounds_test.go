package entry

import (
	"archive/zip"
	"bytes"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"testing"
)

// allocated returns the bytes that f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// Memory is at most ten times the input and 1 MB, for valid and hostile input.
func TestAllocation(t *testing.T) {
	inputs := map[string][]byte{}
	for _, v := range vectors(t) {
		inputs[v.Name] = v.Request
	}
	hashed := string(vectorNamed(t, "hashedrekord-p256").Request)
	key := string(pubPEM(t, ecKey(t, elliptic.P256())))
	with := func(spec string) string { return `{"kind":"dsse","apiVersion":"0.0.1","spec":` + spec + `}` }
	envelope := func(env string) string {
		b, _ := json.Marshal(env)
		return with(`{"proposedContent":{"envelope":` + string(b) + `,"verifiers":["` + base64.StdEncoding.EncodeToString([]byte(key)) + `"]}}`)
	}
	for _, n := range []int{1_000, 10_000, 100_000} {
		add := func(name, in string) { inputs[fmt.Sprintf("%s x %d", name, n)] = []byte(in) }
		rep := func(s string) string { return strings.Repeat(s, n) }
		add("unknown members", strings.Replace(hashed, `"spec": {`, `"spec": {`+rep(`"x":0,`), 1))
		add("escaped unknown members", strings.Replace(hashed, `"spec": {`, `"spec": {`+rep(`"\u0078":0,`), 1))
		add("nested arrays", `{"kind":`+rep("["))
		add("elements", with(`{"proposedContent":{"envelope":"x","verifiers":[`+rep("0,")+`0]}}`))
		add("verifiers", with(`{"proposedContent":{"envelope":"x","verifiers":[`+rep(`"AA==",`)+`"AA=="]}}`))
		add("signatures", envelope(`{"signatures":[`+rep(`{"sig":"AA=="},`)+`{"sig":"AA=="}]}`))
		add("envelope escapes", envelope(`{"payload":"`+rep(`\u0041`)+`"}`))
		intoto := func(version, content string) string {
			return `{"kind":"intoto","apiVersion":"` + version + `","spec":{"content":{` + content + `},"publicKey":"` + base64.StdEncoding.EncodeToString([]byte(key)) + `"}}`
		}
		signed := func(sigs string) string {
			return intoto("0.0.2", `"hash":{"algorithm":"sha256","value":"`+strings.Repeat("a", 64)+`"},"envelope":{"payloadType":"a","payload":"QUFBQQ==","signatures":[`+sigs+`]}`)
		}
		cose := func(message []byte) string {
			return `{"kind":"cose","apiVersion":"0.0.1","spec":{"data":{},"message":"` + base64.StdEncoding.EncodeToString(message) +
				`","publicKey":"` + base64.StdEncoding.EncodeToString([]byte(key)) + `"}}`
		}
		for what, item := range map[string][]byte{"numbers": {0}, "maps": {0xa0}, "maps of one": {0xa1, 0, 0}, "arrays": {0x80}, "texts": {0x61, 'a'}, "tags": {0xc1, 0}} {
			list := cborMap(cborInt(99), cborItem(4, n, []byte(rep(string(item)))))
			add("cose unprotected "+what, cose(sign1(nil, list, cborBytes(nil), []byte("x"))))
			add("cose protected "+what, cose(sign1(list, cborMap(), cborBytes(nil), []byte("x"))))
		}
		add("cose labels", cose(sign1(nil, cborItem(5, n/2, []byte(rep("\x19\x01"))), cborBytes(nil), []byte("x"))))
		add("cose payload", cose(sign1(cborMap(cborInt(1), cborInt(es256)), cborMap(), cborBytes([]byte(rep("x"))), bytes.Repeat([]byte("s"), 64))))
		add("cose depth", cose([]byte("\xd2\x84\x40"+rep("\x81"))))
		add("intoto envelope escapes", intoto("0.0.1", `"envelope":"{\"payload\":\"`+rep(`\u0041`)+`\"}"`))
		add("intoto signatures", intoto("0.0.1", `"envelope":"{\"signatures\":[`+rep(`{\"sig\":\"AA==\"},`)+`0]}"`))
		add("intoto elements", signed(rep("0,")+"0"))
		add("intoto keyid", signed(`{"keyid":"`+rep(`\u0041`)+`"}`))
		add("intoto sig", signed(`{"sig":"`+base64.StdEncoding.EncodeToString([]byte(rep("QUFB")))+`","publicKey":"`+base64.StdEncoding.EncodeToString([]byte(key))+`"}`))
		add("PEM blocks", string(hashedRequest("sha256", make([]byte, 32), []byte("x"), []byte(rep("-----BEGIN A-----\n-----END A-----\n")))))
		add("certificates", string(hashedRequest("sha256", make([]byte, 32), []byte("x"), []byte(rep("-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n")))))
		add("signature", string(hashedRequest("sha256", make([]byte, 32), []byte(rep("x")), []byte(key))))
		for _, format := range []string{"x509", "pgp", "minisign", "ssh"} {
			data := base64.StdEncoding.EncodeToString([]byte(rep("x\n")))
			add("rekord "+format, `{"kind":"rekord","apiVersion":"0.0.1","spec":{"data":{"content":"`+data+`"},"signature":{"format":"`+format+
				`","content":"`+data+`","publicKey":{"content":"`+data+`"}}}}`)
		}
		add("timestamp", string(timestampRequest([]byte(rep("\x30\x00")))))
		add("archive", string(jarRequest([]byte(rep("PK\x01\x02")))))
		add("directory", string(jarRequest(directory(n))))
		for _, doc := range []string{`{"signed":{` + rep(`"x":0,`) + `"x":0},"signatures":[]}`, `{"signed":{},"signatures":[` + rep("0,") + `0]}`, `{"signed":` + rep("[")} {
			add("metadata", string(request("tuf", `{"root":{"content":{}},"metadata":{"content":`+doc+`}}`)))
			add("metadata in base64", string(request("tuf", `{"root":{"content":{}},"metadata":{"content":"`+base64.StdEncoding.EncodeToString([]byte(doc))+`"}}`)))
		}
		add("kind", `{"kind":"`+rep("k")+`"}`)
		add("version", `{"kind":"dsse","apiVersion":"`+rep("1")+`"}`)
		add("hash", strings.Replace(hashed, `"value": "`, `"value": "`+rep("a"), 1))
		add("quotes", `{"kind":"`+rep(`\"`)+`"}`)
		add("backslashes", `{"kind":"`+rep(`\\`)+`"}`)
	}
	for name, in := range inputs {
		checkVerdict(t, name, in) // once before, for what is made on first use
		got := allocated(func() { _, _ = Propose(in) })
		if limit := uint64(10*len(in) + 1<<20); got > limit {
			t.Errorf("%s: %d bytes allocated for %d bytes of input", name, got, len(in))
		}
	}
}

// directory returns an archive of n empty files.
func directory(n int) []byte {
	var out bytes.Buffer
	z := zip.NewWriter(&out)
	for i := range min(n, 65_000) {
		_, _ = z.CreateRaw(&zip.FileHeader{Name: strconv.FormatInt(int64(i), 36)}) // writing to memory has no errors
	}
	_ = z.Close()
	return out.Bytes()
}

// The result holds nothing of the request: the caller may reuse its buffer.
func TestNoAliasing(t *testing.T) {
	for _, v := range vectors(t) {
		if !v.accepted() || v.DecodedBody == "" {
			continue
		}
		in := bytes.Clone(v.Request)
		e, err := Propose(in)
		if err != nil {
			t.Fatal(err)
		}
		keys := fmt.Sprint(e.Keys)
		for i := range in {
			in[i] = 'x'
		}
		if attestation := fmt.Sprintf("sha256:%x", sha256.Sum256(e.Attestation)); e.AttestationKey != "" && e.AttestationKey != attestation {
			t.Errorf("%s: the attestation changed with the request", v.Name)
		}
		if string(e.Body) != v.DecodedBody || fmt.Sprint(e.Keys) != keys || e.Kind == "" || strings.Contains(e.Kind+e.Version, "x") {
			t.Errorf("%s: the entry changed with the request", v.Name)
		}
	}
}

// BenchmarkPropose measures one proposal of each cheap sort.
func BenchmarkPropose(b *testing.B) {
	for _, name := range []string{"hashedrekord-p256", "hashedrekord-cert-sans", "dsse-p256", "rekord-x509-p256", "rekord-pgp", "rekord-ssh", "rfc3161", "jar", "tuf-timestamp"} {
		v := vectorNamed(b, name)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Propose(v.Request); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkOverhead is a hashedrekord without its signature check: what
// Propose costs beyond the ECDSA verification.
func BenchmarkOverhead(b *testing.B) {
	v := vectorNamed(b, "hashedrekord-p256")
	b.ReportAllocs()
	for b.Loop() {
		if err := checkJSON(v.Request); err != nil {
			b.Fatal(err)
		}
		_, _, spec, err := header(trimmed(v.Request))
		if err != nil {
			b.Fatal(err)
		}
		h, err := readHashedRekord(spec)
		if err != nil {
			b.Fatal(err)
		}
		keys, err := h.keys().sorted()
		if body := h.body(); err != nil || len(keys) == 0 || len(body) == 0 {
			b.Fatal(err)
		}
	}
}
