package badinput

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/sigstack/sigstack/proto/fulcio/v1beta"
	fulciov2 "github.com/sigstack/sigstack/proto/fulcio/v2"

	"github.com/sigstack/sigstack/test/mutate"
)

// A paramSeed is a valid list of parameters, where it goes, and the verdict of
// each change.
type paramSeed struct {
	name    string
	params  []string // name=value, not encoded
	request func(query string) request
	verdict func(name string, c mutate.Class, op string) int
}

// paramOps are other values for a parameter, as they stand in a query.
func paramOps(value string) map[string]string {
	return map[string]string{
		"empty": "", "space": "%20", "NUL": url.QueryEscape(value) + "%00", "bad byte": url.QueryEscape(value) + "%ff", "bad escape": url.QueryEscape(value) + "%zz",
		"negative": "-1", "plus": "%2B1", "hex": "0x1", "leading zero": "01", "2^63": "9223372036854775808", "2^64": "18446744073709551616",
		"float": "1.5", "exponent": "1e3", "Unicode digit": "%D9%A1", "letters": "abc", "long": strings.Repeat("9", 3000), "semicolon": url.QueryEscape(value) + ";a=b",
		"2^63-1": "9223372036854775807", "comma": "1,2", "newline": "1%0A2", "zero": "0", "quote": "1'%20OR%20'1'='1", "markup": "%3Cscript%3E",
	}
}

// mutatedParameters does to queries and forms what mutatedDocuments does to
// documents.
func (s *suite) mutatedParameters(t *testing.T) {
	total := 0
	for _, seed := range s.paramSeeds(t) {
		encode := func(params []string) string {
			var out []string
			for _, p := range params {
				name, value, _ := strings.Cut(p, "=")
				out = append(out, url.QueryEscape(name)+"="+url.QueryEscape(value))
			}
			return strings.Join(out, "&")
		}
		check := func(name string, c mutate.Class, op, query string) {
			total++
			want := seed.verdict(name, c, op)
			r := seed.request(query)
			if a := s.send(r); a.status != want {
				s.fault("%s: %s, %s, %q: %d, want %d\n%s\n%s", seed.name, name, c, op, a.status, want, clip(query), clip(string(a.body)))
			}
		}
		check("", mutate.Same, "the seed", encode(seed.params))
		check("", mutate.Extra, "unknown", encode(seed.params)+"&unknown=1")
		check("", mutate.Extra, "and signs", encode(seed.params)+strings.Repeat("&", 20))
		check("", mutate.Count, "many", encode(seed.params)+strings.Repeat("&a=b", 65))
		for i, p := range seed.params {
			name, value, _ := strings.Cut(p, "=")
			rest := slices.Concat(seed.params[:i:i], seed.params[i+1:])
			with := func(pair string) string {
				if len(rest) == 0 {
					return pair
				}
				return encode(rest) + "&" + pair
			}
			check(name, mutate.Absent, "deleted", encode(rest))
			check(name, mutate.Case, "upper", with(strings.ToUpper(name)+"="+url.QueryEscape(value)))
			check(name, mutate.Dup, "same", encode(append(seed.params, p)))
			check(name, mutate.Dup, "empty first", with(name+"=&"+name+"="+url.QueryEscape(value)))
			check(name, mutate.Same, "escaped name", with("%"+fmt.Sprintf("%02x", name[0])+name[1:]+"="+url.QueryEscape(value)))
			for op, v := range paramOps(value) {
				check(name, mutate.Text, op, with(name+"="+v))
			}
		}
	}
	t.Logf("%d lists of parameters", total)
}

func (s *suite) paramSeeds(t *testing.T) []paramSeed {
	query := func(path string) func(string) request {
		return func(q string) request { return get(path + "?" + q) }
	}
	formTo := func(path string) func(string) request { return func(q string) request { return form(path, q) } }

	// number is the verdict for integers in the two logs: what is bad where the
	// parameter is no number, and what is a number out of range.
	type numbers struct{ absent, bad, out int }
	rekorNumber := func(n numbers, op string) int {
		switch op {
		case "empty", "bad escape", "semicolon": // the pair is dropped
			return n.absent
		case "leading zero", "plus":
			return 200
		case "2^63-1":
			return n.out
		case "zero":
			return 0
		}
		return n.bad
	}
	entry := paramSeed{"entry by index", []string{"logIndex=1"}, query("/api/v1/log/entries"), func(_ string, c mutate.Class, op string) int {
		switch c {
		case mutate.Absent, mutate.Case:
			return 422
		case mutate.Text:
			if v := rekorNumber(numbers{422, 422, 404}, op); v != 0 {
				return v
			}
		}
		return 200
	}}
	consistency := paramSeed{"consistency", []string{"firstSize=1", "lastSize=2"}, query("/api/v1/log/proof"), func(name string, c mutate.Class, op string) int {
		switch c {
		case mutate.Absent, mutate.Case:
			if name == "lastSize" {
				return 422
			}
		case mutate.Text:
			n := numbers{422, 422, 400}
			if name == "firstSize" {
				n.absent = 200
			}
			if v := rekorNumber(n, op); v != 0 {
				return v
			}
			return 422 // at least 1
		}
		return 200
	}}
	search := paramSeed{"search", []string{"email=dev@example.com", "limit=5"}, query("/api/sigstack/v1/search"), func(name string, c mutate.Class, op string) int {
		switch {
		case c == mutate.Same, c == mutate.Absent:
			return 200
		case c != mutate.Text:
			return 400
		case slices.Contains([]string{"empty", "bad byte", "bad escape", "semicolon", "long"}, op):
			return 400
		case name == "limit" && op != "leading zero":
			return 400
		}
		return 200
	}}
	publicKey := paramSeed{"public key", []string{"treeID=" + s.treeID(t)}, query("/api/v1/log/publicKey"), func(_ string, c mutate.Class, op string) int {
		if c != mutate.Text {
			return 200
		}
		switch op {
		case "empty", "bad escape", "semicolon":
			return 200
		case "leading zero", "2^63", "2^64", "2^63-1", "long", "zero":
			return 400
		}
		return 422
	}}
	ct := func(path string, good map[string][]string, params ...string) paramSeed {
		return paramSeed{path, params, query("/ct/v1/" + path), func(name string, c mutate.Class, op string) int {
			switch c {
			case mutate.Absent, mutate.Case:
				return 400
			case mutate.Dup:
				if op != "same" {
					return 400
				}
			case mutate.Text:
				if slices.Contains(good[name], op) {
					return 200
				}
				return 400
			}
			return 200
		}}
	}
	byHash := ct("get-proof-by-hash", map[string][]string{}, "hash="+s.leafHash(t), "tree_size=2")
	inner := byHash.verdict
	byHash.verdict = func(name string, c mutate.Class, op string) int {
		if name == "tree_size" && c == mutate.Text && op == "leading zero" {
			return 200 // the leaf is the first one
		}
		if name == "tree_size" && c == mutate.Text && op == "2^63-1" {
			return 404
		}
		return inner(name, c, op)
	}

	mintSeed := paramSeed{"mint", []string{"email=dev@example.com", "audience=sigstore"}, func(q string) request {
		return form("/oidc/mint", q).with("X-Sigstack-Dev", "1")
	}, func(name string, c mutate.Class, op string) int {
		switch c {
		case mutate.Dup, mutate.Count:
			return 400
		case mutate.Absent, mutate.Case:
			if name == "email" {
				return 400
			}
		case mutate.Text:
			switch {
			case name == "email":
				return 400
			case slices.Contains([]string{"empty", "NUL", "bad byte", "bad escape", "semicolon", "Unicode digit", "newline", "long"}, op):
				return 400
			}
		}
		return 200
	}}
	device := paramSeed{"device code", []string{"client_id=sigstore", "scope=openid email", "nonce=n", "code_challenge=" + strings.Repeat("A", 43), "code_challenge_method=S256"},
		formTo("/oidc/device/code"), func(name string, c mutate.Class, op string) int {
			switch c {
			case mutate.Dup, mutate.Count:
				return 400
			case mutate.Absent, mutate.Case:
				switch name {
				case "client_id":
					return 401
				case "code_challenge", "code_challenge_method":
					return 400
				}
			case mutate.Text:
				switch {
				case op == "bad escape" || op == "semicolon" || op == "bad byte":
					return 400
				case name == "client_id":
					return 401
				case name == "scope":
					return 200
				case name == "nonce" && !slices.Contains([]string{"NUL", "Unicode digit", "newline", "long"}, op):
					return 200
				}
				return 400
			}
			return 200
		}}
	tokenSeed := paramSeed{"token", []string{"grant_type=authorization_code", "code=" + strings.Repeat("A", 43), "redirect_uri=http://localhost/cb", "client_id=sigstore", "code_verifier=" + strings.Repeat("v", 43)},
		formTo("/oidc/token"), func(name string, c mutate.Class, op string) int {
			if name == "client_id" && (c == mutate.Absent || c == mutate.Case || c == mutate.Text && op != "bad escape" && op != "semicolon" && op != "bad byte") {
				return 401
			}
			return 400 // there is no such code
		}}
	approve := paramSeed{"approve a device", []string{"user_code=BCDF-GHJK", "email=dev@example.com", "action=approve"}, formTo("/oidc/device"), func(string, mutate.Class, string) int { return 400 }}
	login := paramSeed{"login page", strings.Split(must(url.QueryUnescape(strings.ReplaceAll(authQuery, "+", "%20"))), "&"), query("/oidc/auth"), loginVerdict(200)}
	submit := paramSeed{"login", append(slices.Clone(login.params), "email=dev@example.com", "action=approve"), formTo("/oidc/auth"), loginVerdict(303)}
	github := paramSeed{"GitHub token", []string{"repository=acme/widget", "ref=refs/heads/main"}, func(q string) request {
		return get("/oidc/github/token?"+q).with("Authorization", "bearer any")
	}, func(name string, c mutate.Class, op string) int {
		switch c {
		case mutate.Same:
			return 200
		case mutate.Extra:
			if op == "and signs" {
				return 200
			}
		case mutate.Absent:
			if name == "ref" {
				return 200
			}
		case mutate.Text:
			if name == "ref" && op == "empty" {
				return 200
			}
		}
		return 400
	}}
	uuid := paramSeed{"entry by UUID", []string{"uuid=" + s.stored()}, func(q string) request {
		_, value, _ := strings.Cut(q, "=")
		return get(pathEntry + "/" + value)
	}, func(_ string, c mutate.Class, op string) int {
		switch {
		case c == mutate.Same, c == mutate.Case, c == mutate.Text && op == "bad escape":
			return 200
		}
		return 422
	}}
	_ = uuid
	return []paramSeed{
		entry, consistency, search, publicKey,
		ct("get-sth-consistency", map[string][]string{"first": {"leading zero", "zero"}, "second": {"leading zero"}}, "first=1", "second=2"),
		ct("get-entries", map[string][]string{"start": {"leading zero", "zero"}, "end": {"leading zero", "2^63-1", "zero"}}, "start=0", "end=1"),
		ct("get-entry-and-proof", map[string][]string{"leaf_index": {"zero", "leading zero"}, "tree_size": {"leading zero"}}, "leaf_index=0", "tree_size=2"),
		byHash, mintSeed, device, tokenSeed, approve, login, submit, github,
	}
}

// loginVerdict is for an authorization request: until client and redirect are
// known to be good, the answer is a page, and then it goes to the redirect.
func loginVerdict(ok int) func(string, mutate.Class, string) int {
	return func(name string, c mutate.Class, op string) int {
		page := name == "client_id" || name == "redirect_uri"
		switch c {
		case mutate.Dup, mutate.Count:
			return 400
		case mutate.Absent, mutate.Case:
			switch {
			case page || name == "email" || name == "action":
				return 400
			case name == "response_type" || name == "scope":
				return 303
			}
		case mutate.Text:
			switch {
			case op == "bad escape" || op == "semicolon" || op == "bad byte":
				return 400
			case page || name == "email" || name == "action":
				return 400
			case name == "scope" && op == "NUL":
				return ok // "openid" and something that nobody knows
			case name == "response_type" || name == "scope":
				return 303
			case slices.Contains([]string{"NUL", "Unicode digit", "newline", "long"}, op): // state and nonce
				return 303
			}
		}
		return ok
	}
}

func (s *suite) treeID(t *testing.T) string {
	t.Helper()
	var info struct{ TreeID string }
	s.getJSON(t, "/api/v1/log", &info)
	return info.TreeID
}

// leafHash is the Merkle leaf hash of the first entry of the CT log, in base64.
func (s *suite) leafHash(t *testing.T) string {
	t.Helper()
	var answer struct {
		Entries []struct {
			Leaf []byte `json:"leaf_input"`
		}
	}
	s.getJSON(t, "/ct/v1/get-entries?start=0&end=0", &answer)
	return base64Of(digestOf("sha256", append([]byte{0}, answer.Entries[0].Leaf...)))
}

// badCalls sends gRPC calls that are wrong in their framing, their encoding or
// their size. The status of gRPC stands in a trailer.
func (s *suite) badCalls(t *testing.T) {
	client := plainHTTP2(t)
	call := func(path string, header http.Header, body []byte) (string, string) {
		req := must(http.NewRequest("POST", s.URL+path, bytes.NewReader(body)))
		req.Header = http.Header{"Content-Type": {"application/grpc"}, "Te": {"trailers"}}
		for name, values := range header {
			req.Header[name] = values
		}
		res, err := client.Do(req)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		defer res.Body.Close()
		s.sent.Add(1)
		text := must(io.ReadAll(res.Body))
		if res.StatusCode != http.StatusOK {
			return fmt.Sprint("HTTP ", res.StatusCode), string(text)
		}
		code, message := res.Trailer.Get("Grpc-Status"), res.Trailer.Get("Grpc-Message")
		if code == "" {
			code, message = res.Header.Get("Grpc-Status"), res.Header.Get("Grpc-Message")
		}
		if inside.MatchString(message) || strings.ContainsAny(message, "\r\n") {
			t.Errorf("%s: the message shows the inside of the server: %q", path, message)
		}
		if code == "0" && strings.HasSuffix(path, "/CreateSigningCertificate") {
			s.mu.Lock()
			s.certs++
			s.mu.Unlock()
		}
		return code, message
	}
	frame := func(message []byte) []byte {
		return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...)
	}
	valid := must(proto.Marshal(&fulciov2.CreateSigningCertificateRequest{
		Credentials: &fulciov2.Credentials{Credentials: &fulciov2.Credentials_OidcIdentityToken{OidcIdentityToken: s.token()}},
		Key: &fulciov2.CreateSigningCertificateRequest_PublicKeyRequest{PublicKeyRequest: &fulciov2.PublicKeyRequest{
			PublicKey: &fulciov2.PublicKey{Content: string(publicPEM(s.keys.p256))}, ProofOfPossession: proofOf(s.keys.p256, email),
		}},
	}))
	old := must(proto.Marshal(&fulciov1beta.CreateSigningCertificateRequest{
		PublicKey: &fulciov1beta.PublicKey{Content: spki(s.keys.p256.Public())}, SignedEmailAddress: proofOf(s.keys.p256, email),
	}))
	const create = "/dev.sigstore.fulcio.v2.CA/CreateSigningCertificate"
	const createOld = "/dev.sigstore.fulcio.v1beta.CA/CreateSigningCertificate"
	token := http.Header{"Oidcidentitytoken": {s.token()}}
	padded := func(n int) []byte { // an unknown field makes it n bytes long
		const field = 100<<3 | 2
		for length := n; ; length-- {
			b := binary.AppendUvarint(slices.Clone(valid), field)
			b = binary.AppendUvarint(b, uint64(length))
			if len(b)+length == n {
				return append(b, make([]byte, length)...)
			}
		}
	}
	type check struct {
		name, path string
		header     http.Header
		body       []byte
		want       string
	}
	const okay, invalid, internal, unimplemented, exhausted = "0", "3", "13", "12", "8"
	checks := []check{
		{"valid", create, nil, frame(valid), okay},
		{"valid, v1", createOld, token, frame(old), okay},
		{"v1 without a token", createOld, nil, frame(old), invalid},
		{"v1 with two tokens", createOld, http.Header{"Oidcidentitytoken": {s.token(), s.token()}}, frame(old), invalid},
		{"token in the metadata", create, token, frame(must(proto.Marshal(&fulciov2.CreateSigningCertificateRequest{}))), invalid},
		{"empty message", create, nil, frame(nil), invalid},
		{"no message", create, nil, nil, internal},
		{"half a frame", create, nil, frame(valid)[:20], internal},
		{"half a prefix", create, nil, []byte{0, 0}, internal},
		{"compressed without a name", create, nil, append([]byte{1}, frame(valid)[1:]...), internal},
		{"unknown compression", create, http.Header{"Grpc-Encoding": {"snappy"}}, append([]byte{1}, frame(valid)[1:]...), unimplemented},
		{"flag 7", create, nil, append([]byte{7}, frame(valid)[1:]...), internal},
		{"length 4 GiB", create, nil, append([]byte{0, 255, 255, 255, 255}, valid...), exhausted},
		{"as large as it may be", create, nil, frame(padded(64 << 10)), okay},
		{"one byte too large", create, nil, frame(padded(64<<10 + 1)), exhausted},
		{"not a message", create, nil, frame(bytes.Repeat([]byte{0xff}, 100)), internal},
		{"two messages", create, nil, append(frame(valid), frame(valid)...), internal},
		{"unknown method", "/dev.sigstore.fulcio.v2.CA/Nothing", nil, frame(nil), unimplemented},
		{"unknown service", "/dev.sigstore.fulcio.v2.CA/", nil, frame(nil), unimplemented},
		{"streaming reflection", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", nil, frame(nil), "HTTP 404"},
		{"health", "/grpc.health.v1.Health/Check", nil, frame(nil), okay},
		{"health, watch", "/grpc.health.v1.Health/Watch", nil, frame(nil), unimplemented},
		{"bundle", "/dev.sigstore.fulcio.v2.CA/GetTrustBundle", nil, frame(nil), okay},
		{"configuration", "/dev.sigstore.fulcio.v2.CA/GetConfiguration", nil, frame(nil), okay},
		{"root", "/dev.sigstore.fulcio.v1beta.CA/GetRootCertificate", nil, frame(nil), okay},
		{"bad timeout", create, http.Header{"Grpc-Timeout": {"abc"}}, frame(valid), "HTTP 400"},
		{"binary metadata that is not base64", create, http.Header{"X-Bin": {"%%%"}}, frame(valid), "HTTP 400"},
	}
	for cut := range len(valid) { // each is a message without its end
		if cut%23 == 0 && cut > 0 {
			checks = append(checks, check{fmt.Sprintf("cut at %d", cut), create, nil, frame(valid[:cut]), "3 or 13"})
		}
	}
	for _, c := range checks {
		code, message := call(c.path, c.header, c.body)
		if c.want == "3 or 13" {
			// A cut between two fields is a message, elsewhere it is none.
			c.want = internal
			if proto.Unmarshal(c.body[5:], new(fulciov2.CreateSigningCertificateRequest)) == nil {
				c.want = invalid
			}
		}
		if code != c.want {
			t.Errorf("%s: status %s (%s), want %s", c.name, code, message, c.want)
		}
	}
}

// plainHTTP2 is a client that speaks HTTP/2 without TLS.
func plainHTTP2(t *testing.T) *http.Client {
	t.Helper()
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: &protocols, DisableCompression: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}
