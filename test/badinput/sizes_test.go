package badinput

import (
	"bytes"
	"compress/gzip"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509/pkix"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// sizes sends bodies of one byte below the limit of each route, of the limit,
// and of one more, with their length announced and in chunks.
func (s *suite) sizes(t *testing.T) {
	for _, r := range table {
		if r.padded == nil {
			if r.limit != 0 && !strings.HasPrefix(r.route, "gRPC") {
				t.Errorf("%s has a limit and no request to test it with", r.route)
			}
			continue
		}
		// The same answer as for a small one, or 413.
		want := s.send(r.padded(s, 8<<10)).status
		for _, more := range []int{-1, 0, 1} {
			for _, chunked := range []bool{false, true} {
				request := r.padded(s, r.limit+more)
				if len(request.body) != r.limit+more {
					t.Fatalf("%s: the body has %d bytes", r.route, len(request.body))
				}
				request.chunked = chunked
				expected := want
				if more > 0 {
					expected = http.StatusRequestEntityTooLarge
				}
				a := s.send(request)
				if a.status != expected {
					t.Errorf("%s: %d bytes, chunked %v: %d, want %d\n%s", r.route, r.limit+more, chunked, a.status, expected, clip(string(a.body)))
				}
			}
		}
	}

	// What has no limit of its own reads no body: the answer does not wait for
	// one, and the connection is closed rather than read to its end.
	for _, r := range table {
		if r.limit != 0 || r.valid == nil || r.ops || !strings.HasPrefix(r.route, "GET ") {
			continue
		}
		request := r.valid(s)
		request.body = bytes.Repeat([]byte("x"), 1000)
		want := s.send(r.valid(s)).status
		if strings.HasPrefix(request.path, "/api/v2/") || request.path == "/api/v1/rootCert" {
			want = http.StatusBadRequest // grpc-gateway would ignore it; a body that is not JSON is refused
		}
		s.expect(want, "a body for "+r.route, request)
	}

	// A request line is part of the headers.
	long := get("/api/v1/log/entries?logIndex=0&x=" + strings.Repeat("a", 60<<10))
	s.expect(http.StatusOK, "a query of 60 KiB", long)
	for _, path := range []string{"/oidc/auth?" + authQuery + "&x=", "/oidc/github/token?repository=acme/widget&x="} {
		a := s.send(get(path+strings.Repeat("&", 60<<10)).with("Authorization", "bearer any"))
		if a.status != http.StatusBadRequest {
			t.Errorf("%s: 60 KiB of parameters: %d, want 400", path, a.status)
		}
	}
}

// headers sends headers that are too large, too many or wrong, over raw
// connections: a client library would not.
func (s *suite) headers(t *testing.T) {
	type check struct {
		name, text string
		want       string // the status, or nothing for a closed connection
	}
	many := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "X-%d: y\r\n", i)
		}
		return b.String()
	}
	const start = "GET /ping HTTP/1.1\r\nHost: localhost\r\n"
	for _, c := range []check{
		{"a plain request", start + "\r\n", "200"},
		{"60 KiB of header", start + "X: " + strings.Repeat("a", 60<<10) + "\r\n\r\n", "200"},
		{"1 MB of header", start + "X: " + strings.Repeat("a", 1<<20) + "\r\n\r\n", "431"},
		{"a path of 1 MB", "GET /" + strings.Repeat("a", 1<<20) + " HTTP/1.1\r\nHost: localhost\r\n\r\n", "431"},
		{"a method of 1 MB", strings.Repeat("A", 1<<20) + " / HTTP/1.1\r\nHost: localhost\r\n\r\n", "431"},
		{"a method of 50 KB", strings.Repeat("A", 50000) + " /ping HTTP/1.1\r\nHost: localhost\r\n\r\n", "405"},
		{"100,000 headers", start + many(100_000) + "\r\n", "431"},
		{"5,000 headers", start + many(5000) + "\r\n", "200"},
		{"no host", "GET /ping HTTP/1.1\r\n\r\n", "400"},
		{"two hosts", start + "Host: localhost\r\n\r\n", "400"},
		{"a host that is none", "GET /ping HTTP/1.1\r\nHost: a b\r\n\r\n", "400"},
		{"a header without a colon", start + "abc\r\n\r\n", "400"},
		{"a space before the colon", start + "X : y\r\n\r\n", "400"},
		{"NUL in a header", start + "X: \x00\r\n\r\n", "400"},
		{"a folded header", start + "X: y\r\n z\r\n\r\n", "200"},
		{"no version", "GET /ping?with-a-query\r\n\r\n", "400"},
		{"version 9", "GET /ping HTTP/9.9\r\nHost: localhost\r\n\r\n", "505"},
		{"garbage", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", "400"},
		{"two lengths", "POST /api/v1/index/retrieve HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}", "400"},
		{"a negative length", "POST /api/v1/index/retrieve HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n", "400"},
		{"a length that is too large for a number", "POST /api/v1/index/retrieve HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\n", "400"},
		{"a length of 2^62 announced", "POST /api/v1/log/entries HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 4611686018427387904\r\n\r\n{}", "413"},
		{"a chunk that is no number", "POST /api/v1/index/retrieve HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n", "400"},
		{"a chunk of 2^64", "POST /api/v1/index/retrieve HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000000\r\n{}\r\n0\r\n\r\n", "400"},
		{"length and chunks", "POST /api/v1/index/retrieve HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", "200"},
		{"an unknown transfer coding", "POST /ping HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n\r\n", "501"},
		{"an unknown expectation", start + "Expect: 200-ok\r\n\r\n", "417"},
	} {
		begin := time.Now()
		s.raw(t, c.name, c.text, c.want)
		if took := time.Since(begin); took > 5*time.Second {
			t.Errorf("%s: the answer took %v", c.name, took)
		}
	}

	// Compressed bodies are not read: what they are is not JSON.
	zipped := func(b []byte) []byte {
		var out bytes.Buffer
		w := gzip.NewWriter(&out)
		must(w.Write(b))
		w.Close()
		return out.Bytes()
	}
	bomb := zipped(make([]byte, 64<<20))
	for _, r := range table {
		if r.padded == nil || r.valid == nil {
			continue
		}
		for what, body := range map[string][]byte{"gzip": zipped(r.valid(s).body), "a gzip bomb": bomb} {
			request := r.valid(s).with("Content-Encoding", "gzip")
			if request.body = body; len(body) > r.limit {
				request.body = body[:r.limit]
			}
			s.expect(http.StatusBadRequest, what+" for "+r.route, request)
		}
	}

	// Media types.
	for _, media := range []string{"", "text/plain", "application/json; charset=", "application/jsonx", "application/", ";", strings.Repeat("application/", 4000), "multipart/form-data; boundary=x", "application/json;" + strings.Repeat("a=b;", 10000) + "a=c"} {
		for _, path := range []string{pathEntry, pathEntry + "/retrieve", "/api/v1/index/retrieve"} {
			s.expect(http.StatusUnsupportedMediaType, "media type "+clip(media), post(path, media, []byte("{}")))
		}
		for _, path := range []string{"/oidc/auth", "/oidc/token", "/oidc/device", "/oidc/device/code", "/oidc/mint"} {
			s.expect(http.StatusBadRequest, "media type "+clip(media), post(path, media, []byte("a=b")).with("X-Sigstack-Dev", "1"))
		}
	}
	for _, accept := range []string{"text/html", "application/xml", "application/json;q=0", strings.Repeat("text/html,", 5000)} {
		s.expect(http.StatusNotAcceptable, "Accept "+clip(accept), get("/api/v1/log").with("Accept", accept))
	}
	s.expect(http.StatusOK, "a long Accept", get("/api/v1/log").with("Accept", strings.Repeat("text/html,", 5000)+"*/*"))
}

// raw sends text over a connection of its own and checks the status.
func (s *suite) raw(t *testing.T, name, text, want string) string {
	t.Helper()
	conn, err := net.DialTimeout("tcp", strings.TrimPrefix(s.URL, "http://"), 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	written := make(chan struct{})
	go func() { // the server may answer before it has read everything
		defer close(written)
		io.WriteString(conn, text)
	}()
	buffer := make([]byte, 4096)
	n, err := io.ReadAtLeast(conn, buffer, len("HTTP/1.1 200"))
	conn.Close()
	<-written
	answer := string(buffer[:n])
	got := ""
	if fields := strings.Fields(answer); len(fields) > 1 {
		got = fields[1]
	}
	if got != want {
		t.Errorf("%s: the answer is %q (%v), want the status %q", name, clip(answer), err, want)
	}
	return answer
}

// cost measures requests at 1, 10 and 100 times their size. What they cost the
// server must grow no faster than they do.
func (s *suite) cost(t *testing.T) {
	if s.database {
		t.Skip("a refusal asks nothing of the storage, and over a database others use the processor beside it")
	}
	token := s.token()
	head, payload, signature := cutToken(token)
	certs := func(key string) request {
		r := s.certRequest(token)
		r["publicKeyRequest"].(object)["publicKey"] = object{"content": key}
		return postJSON(pathV2, marshal(r))
	}
	leaf := pemOf("CERTIFICATE", certificate(s.keys.p256, nil))
	digest := digestOf("sha256", []byte("cost"))
	sig := signASN1(s.keys.p384, digest) // nothing of this is stored
	entry := func(key []byte) request { return postJSON(pathEntry, hashedRekord("sha256", digest, sig, key)) }
	for _, c := range []struct {
		name string
		make func(n int) request // n is 1, 10 or 100
	}{
		{"dots in a token", func(n int) request { return s.askFor(strings.Repeat(".", 600*n)) }},
		{"dots in the Authorization header", func(n int) request {
			return postJSON(pathV1, marshal(s.oldRequest())).with("Authorization", "Bearer "+strings.Repeat("a.", 300*n))
		}},
		{"members of a token's header", func(n int) request {
			return s.askFor(rawURL([]byte(manyMembers(10*n))) + "." + payload + "." + signature)
		}},
		{"members of a token's payload", func(n int) request { return s.askFor(head + "." + rawURL([]byte(manyMembers(9*n))) + "." + signature) }},
		{"audiences of a token", func(n int) request {
			return s.askFor(s.sign(nil, s.claims(object{"aud": slices.Repeat([]string{"x"}, 20*n)})))
		}},
		{"depth of a token's claim", func(n int) request {
			return s.askFor(s.signText([]byte(`{"alg":"RS256"}`), []byte(`{"x":`+strings.Repeat("[", 50*n)+strings.Repeat("]", 50*n)+"}")))
		}},
		{"PEM blocks of a key", func(n int) request { return certs(strings.Repeat("-----BEGIN A-----\n-----END A-----\n", 10*n)) }},
		{"dashes of a key", func(n int) request { return certs(strings.Repeat("-----", 100*n)) }},
		{"PEM headers", func(n int) request {
			return certs("-----BEGIN PUBLIC KEY-----\n" + strings.Repeat("A: b\n", 70*n) + "\n-----END PUBLIC KEY-----\n")
		}},
		{"PEM blocks in an entry", func(n int) request {
			return entry([]byte(strings.Repeat("-----BEGIN A-----\n-----END A-----\n", 18*n)))
		}},
		{"beginnings of PEM in an entry", func(n int) request { return entry([]byte(strings.Repeat("-----BEGIN A-----\n", 35*n))) }},
		{"certificates in an entry", func(n int) request { return entry(bytes.Repeat(leaf, n)) }},
		{"members of an entry", func(n int) request { return postJSON(pathEntry, []byte(manyMembers(1000*n))) }},
		{"members of a spec", func(n int) request {
			return postJSON(pathEntry, []byte(`{"kind":"hashedrekord","apiVersion":"0.0.1","spec":`+manyMembers(1000*n)+"}"))
		}},
		{"escapes in an entry", func(n int) request {
			return postJSON(pathEntry, []byte(`{"kind":"`+strings.Repeat(`\u0041`, 3000*n)+`"}`))
		}},
		{"depth of an entry", func(n int) request {
			return postJSON(pathEntry, []byte(`{"x":`+strings.Repeat("[", 90*n)+strings.Repeat("]", 90*n)+"}"))
		}},
		{"backslashes in an entry", func(n int) request {
			return postJSON(pathEntry, []byte(`{"kind":"hashedrekord","apiVersion":"0.0.1","spec":{"x":"`+strings.Repeat(`\\`, 5000*n)+`"}}`))
		}},
		{"an artifact", func(n int) request {
			return postJSON(pathEntry, rekord("x509", make([]byte, 20000*n), sig, publicPEM(s.keys.p256)))
		}},
		{"packets of a key ring", func(n int) request {
			return postJSON(pathEntry, rekord("pgp", []byte("x"), bytes.Repeat([]byte{0xc2, 0}, 300*n), bytes.Repeat([]byte{0xcd, 1, 'a'}, 800*n)))
		}},
		{"data of an apk", func(n int) request {
			content, key := s.keys.signedPackage("alpine")
			return postJSON(pathEntry, signedPackage("alpine", append(content, make([]byte, 20000*n)...), key))
		}},
		{"lines of .PKGINFO", func(n int) request {
			var lines strings.Builder
			for i := range uint32(200 * n) {
				fmt.Fprintf(&lines, "depend = %08x\n", i*2654435761)
			}
			_, key := s.keys.signedPackage("alpine")
			return postJSON(pathEntry, signedPackage("alpine", slices.Concat(zippedTar(".SIGN.RSA.x", "x"), zippedTar(".PKGINFO", lines.String())), key))
		}},
		{"files of an apk", func(n int) request {
			_, key := s.keys.signedPackage("alpine")
			return postJSON(pathEntry, signedPackage("alpine", zippedTar(slices.Repeat([]string{"x", ""}, 5*n)...), key))
		}},
		{"payload of an rpm", func(n int) request {
			content, key := s.keys.signedPackage("rpm")
			return postJSON(pathEntry, signedPackage("rpm", append(content, make([]byte, 20000*n)...), key))
		}},
		{"entries of an rpm", func(n int) request {
			_, key := s.keys.signedPackage("rpm")
			return postJSON(pathEntry, signedPackage("rpm", rpmHeader(1000*n, []byte{0, 0, 0, 1, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0}, nil), key))
		}},
		{"strings of an rpm", func(n int) request {
			_, key := s.keys.signedPackage("rpm")
			entry := binary.BigEndian.AppendUint32([]byte{0, 0, 0, 1, 0, 0, 0, 8, 0, 0, 0, 0}, uint32(15000*n))
			return postJSON(pathEntry, signedPackage("rpm", rpmHeader(1, entry, make([]byte, 15000*n)), key))
		}},
		{"entries of an rpm that share their strings", func(n int) request {
			_, key := s.keys.signedPackage("rpm")
			entry := binary.BigEndian.AppendUint32([]byte{0, 0, 0, 1, 0, 0, 0, 8, 0, 0, 0, 0}, uint32(5000*n))
			return postJSON(pathEntry, signedPackage("rpm", rpmHeader(500*n, entry, make([]byte, 5000*n)), key))
		}},
		{"lines of a provenance file", func(n int) request {
			content, key := s.keys.provenance()
			return postJSON(pathEntry, provenance(bytes.Replace(content, []byte("name: test\n"), []byte(strings.Repeat("a\n", 7000*n)), 1), key))
		}},
		{"signatures of an envelope", func(n int) request {
			env := envelope("text/plain", []byte("x"), s.keys.p256)
			for i := range 100 * n {
				env["signatures"] = append(env["signatures"].(array), object{"sig": base64Of(fmt.Append(nil, i))})
			}
			return postJSON(pathEntry, dsse(marshal(env), publicPEM(s.keys.p256)))
		}},
		{"equal signatures of an envelope", func(n int) request {
			env := envelope("text/plain", []byte("x"), s.keys.p384)
			env["signatures"] = slices.Repeat(env["signatures"].(array), 50*n)
			return postJSON(pathEntry, dsse(marshal(env), publicPEM(s.keys.p256)))
		}},
		{"verifiers of an envelope", func(n int) request {
			return postJSON(pathEntry, dsse(marshal(envelope("text/plain", []byte("x"), s.keys.p384)), slices.Repeat([][]byte{publicPEM(s.keys.p256)}, 20*n)...))
		}},
		{"subjects of a statement", func(n int) request {
			statement := marshal(object{"subject": slices.Repeat(array{object{"digest": object{"sha256": "aa"}}}, 200*n)})
			env := envelope("application/vnd.in-toto+json", statement, s.keys.p256)
			return postJSON(pathEntry, dsse(marshal(env), publicPEM(s.keys.p384)))
		}},
		{"signatures of an intoto 0.0.1 envelope", func(n int) request {
			env := envelope("text/plain", []byte("x"), s.keys.p384)
			for i := range 100 * n {
				env["signatures"] = append(env["signatures"].(array), object{"sig": base64Of(fmt.Append(nil, i))})
			}
			return postJSON(pathEntry, inToto001(marshal(env), publicPEM(s.keys.p256)))
		}},
		{"signatures of an intoto 0.0.2 envelope", func(n int) request {
			env := envelope("text/plain", []byte("x"), s.keys.p384)
			env["signatures"] = slices.Repeat(env["signatures"].(array), 20*n)
			return postJSON(pathEntry, inToto002(env, publicPEM(s.keys.p256)))
		}},
		{"payload of an intoto 0.0.1 envelope", func(n int) request {
			return postJSON(pathEntry, inToto001(marshal(envelope("text/plain", make([]byte, 10000*n), s.keys.p384)), publicPEM(s.keys.p256)))
		}},
		{"payload of an intoto 0.0.2 envelope", func(n int) request {
			return postJSON(pathEntry, inToto002(envelope("text/plain", make([]byte, 10000*n), s.keys.p384), publicPEM(s.keys.p256)))
		}},
		{"payload of a cose message", func(n int) request {
			return postJSON(pathEntry, coseEntry(sign1([]byte{0xa0}, make([]byte, 15000*n), make([]byte, 64)), nil, publicPEM(s.keys.p256)))
		}},
		{"external data of a cose message", func(n int) request {
			return postJSON(pathEntry, coseEntry(sign1([]byte{0xa0}, []byte("x"), make([]byte, 64)), make([]byte, 15000*n), publicPEM(s.keys.p256)))
		}},
		{"items of a cose header", func(n int) request {
			header := cborOf(5, 1, []byte{0x18, 99}, cborOf(4, 200*n, bytes.Repeat([]byte{0xa0}, 200*n)))
			return postJSON(pathEntry, coseEntry(sign1(header, []byte("x"), make([]byte, 64)), nil, publicPEM(s.keys.p256)))
		}},
		{"depth of a cose header", func(n int) request {
			header := cborOf(5, 1, []byte{0x18, 99}, bytes.Repeat([]byte{0x81}, 3000*n))
			return postJSON(pathEntry, coseEntry(sign1(header, []byte("x"), make([]byte, 64)), nil, publicPEM(s.keys.p256)))
		}},
		{"a string of a cose header", func(n int) request {
			header := cborOf(5, 1, []byte{0x18, 99}, cborOf(2, 3000*n, make([]byte, 3000*n)))
			return postJSON(pathEntry, coseEntry(sign1(header, []byte("x"), make([]byte, 64)), nil, publicPEM(s.keys.p256)))
		}},
		{"parts of a media type", func(n int) request { return post(pathEntry, strings.Repeat("application/", 50*n), []byte("{}")) }},
		{"parameters of a media type", func(n int) request {
			return post(pathEntry, "application/json"+strings.Repeat(";a=b", 140*n), []byte("{}"))
		}},
		{"elements of Accept", func(n int) request { return get("/api/v1/log").with("Accept", strings.Repeat("a/b;q=0,", 70*n)) }},
		{"parameters of a query", func(n int) request { return get("/api/v1/log/entries?" + strings.Repeat("a&", 250*n)) }},
		{"different parameters of a query", func(n int) request {
			var b strings.Builder
			for i := range 80 * n {
				fmt.Fprintf(&b, "a%d&", i)
			}
			return get("/api/v1/log/proof?" + b.String())
		}},
		{"parameters of a query to the CT log", func(n int) request { return get("/ct/v1/get-entries?" + strings.Repeat("a&", 250*n)) }},
		{"parts of a path", func(n int) request { return get("/api/v1/log/entries/" + strings.Repeat("a/", 250*n)) }},
		{"dots of a path", func(n int) request { return get("/tuf/" + strings.Repeat("../", 180*n)) }},
		{"parameters of a form", func(n int) request { return form("/oidc/token", strings.Repeat("a&", 300*n)) }},
		{"escapes of a form", func(n int) request { return form("/oidc/token", "client_id="+strings.Repeat("%41", 200*n)) }},
		{"members of a search", func(n int) request { return postJSON("/api/v1/index/retrieve", []byte(manyMembers(500*n))) }},
		{"at signs of a search", func(n int) request {
			return postJSON("/api/v1/index/retrieve", marshal(object{"email": strings.Repeat("@", 9000*n)}))
		}},
		{"proposals of a retrieval", func(n int) request {
			return postJSON(pathEntry+"/retrieve", []byte(`{"entries":[`+strings.Repeat("{},", 3000*n)+"{}]}"))
		}},
		{"empty strings of a chain", func(n int) request {
			return postJSON("/ct/v1/add-chain", []byte(`{"chain":[`+strings.Repeat(`"",`, 1500*n)+`""]}`))
		}},
		{"members beside a chain", func(n int) request { return postJSON("/ct/v1/add-chain", []byte(manyMembers(400*n))) }},
		{"extensions of a certificate", func(n int) request {
			return postJSON("/ct/v1/add-chain", chainBody(changed(s.ca.issue(nil), func(t *tbs) {
				for i := range 20 * n {
					t.Extensions = append(t.Extensions, extension(i))
				}
			}), s.ca.chain[0]))
		}},
		{"names of a certificate", func(n int) request {
			return postJSON("/ct/v1/add-chain", chainBody(changed(s.ca.issue(nil), func(t *tbs) {
				names := bytes.Repeat([]byte{0x81, 3, 'a', '@', 'b'}, 90*n)
				t.Extensions = san(der(0x30, names))
			}), s.ca.chain[0]))
		}},
		{"length of an object identifier", func(n int) request {
			return postJSON("/ct/v1/add-chain", chainBody(changed(s.ca.issue(nil), func(t *tbs) {
				var id []int
				for i := range 150 * n {
					id = append(id, 2<<14+i)
				}
				t.Extensions = append(t.Extensions, extension(0))
				t.Extensions[len(t.Extensions)-1].Id = append([]int{1, 3}, id...)
			}), s.ca.chain[0]))
		}},
		{"a serial number", func(n int) request {
			return postJSON("/ct/v1/add-chain", chainBody(changed(s.ca.issue(nil), func(t *tbs) {
				t.Serial.Lsh(t.Serial, uint(4000*n))
			}), s.ca.chain[0]))
		}},
	} {
		s.linear(t, c.name, c.make)
	}
	s.pairs(t)
}

// rounds is how often each request is sent: the clock of the processor goes in
// steps of 10 ms.
const rounds = 30

// linear checks that a request of ten times the size costs at most twelve times
// as much, and a constant, and allocates at most ten times its size and 1 MB.
func (s *suite) linear(t *testing.T, name string, makeRequest func(n int) request) {
	t.Helper()
	var before float64
	for _, n := range []int{1, 10, 100} {
		r := makeRequest(n)
		size := len(r.body) + len(r.path)
		for _, values := range r.header {
			size += len(values[0])
		}
		cpu, allocated := s.measure(t, r)
		if most := 10*float64(size) + 1<<20; allocated > most {
			t.Errorf("%s, %d bytes: %.0f bytes allocated, want at most %.0f", name, size, allocated, most)
		}
		const constant = 3e-3 // of a second
		if before > 0 && cpu > 12*before+constant {
			t.Errorf("%s, %d bytes: %.2f ms of processor, and a tenth of the size %.2f ms", name, size, 1000*cpu, 1000*before)
		}
		before = cpu
	}
}

// measure returns what a request costs on average: seconds of processor, and
// bytes allocated.
func (s *suite) measure(t *testing.T, r request) (cpu, allocated float64) {
	t.Helper()
	if a := s.send(r); a.status/100 == 2 && a.status != http.StatusOK {
		t.Fatalf("%s %s: %d: the cost of what is stored is not measured here", r.method, clip(r.path), a.status)
	}
	idle := s.usage(t)
	begin := s.usage(t)
	for range rounds {
		s.send(r)
	}
	end := s.usage(t)
	own := begin.allocated - idle.allocated // of one look at /metrics
	return (end.cpu - begin.cpu) / rounds, max(0, end.allocated-begin.allocated-own) / rounds
}

// pairs bounds what one entry may make the server verify. Ten keys need 55
// verifications, in whatever order their signatures stand, because each is tried
// with the signatures before its own; ten certificates of one key need one each,
// and the ten of the first.
func (s *suite) pairs(t *testing.T) {
	keys := make([]crypto.Signer, 10)
	for i := range keys {
		keys[i] = must(ecdsa.GenerateKey(elliptic.P521(), rand.Reader))
	}
	ordered := func(n int) request {
		var verifiers [][]byte
		for _, k := range keys[:n] {
			verifiers = append(verifiers, publicPEM(k))
		}
		return postJSON(pathEntry, dsse(marshal(envelope("text/plain", []byte("pairs"), keys[:n]...)), verifiers...))
	}
	var certs [][]byte
	for range 10 {
		certs = append(certs, pemOf("CERTIFICATE", certificate(keys[9], nil)))
	}
	// The last signature is the one of the certificates, and one is missing.
	same := postJSON(pathEntry, dsse(marshal(envelope("text/plain", []byte("same"), keys...)), certs...))
	s.expect(400, "ten certificates of one key", same)
	single, tenfold := ordered(1), ordered(10)
	s.expect(201, "one verifier", single)
	s.expect(201, "ten verifiers", tenfold)
	one, _ := s.measure(t, single)
	ten, _ := s.measure(t, tenfold)
	oneKey, _ := s.measure(t, same)
	t.Logf("an envelope with one signature %.2f ms, ten %.2f ms, ten certificates of one key %.2f ms", 1000*one, 1000*ten, 1000*oneKey)
	const constant = 3e-3
	if ten > 80*one+constant || oneKey > 30*one+constant {
		t.Errorf("signatures and verifiers cost %.2f, %.2f and %.2f ms", 1000*one, 1000*ten, 1000*oneKey)
	}
}

func manyMembers(n int) string {
	var b strings.Builder
	b.WriteByte('{')
	for i := range n {
		fmt.Fprintf(&b, `"m%d":1,`, i)
	}
	return b.String() + `"x":1}`
}

// extension is one that means nothing.
func extension(i int) pkix.Extension {
	return pkix.Extension{Id: []int{1, 2, 3, i}, Value: []byte{5, 0}}
}

// der is one element of DER.
func der(tag byte, content []byte) []byte {
	n := len(content)
	switch {
	case n < 128:
		return append([]byte{tag, byte(n)}, content...)
	case n < 1<<16:
		return append([]byte{tag, 0x82, byte(n >> 8), byte(n)}, content...)
	}
	return append([]byte{tag, 0x83, byte(n >> 16), byte(n >> 8), byte(n)}, content...)
}

func cutToken(token string) (head, payload, signature string) {
	parts := strings.Split(token, ".")
	return parts[0], parts[1], parts[2]
}

// envelopes is B6: the bounds of DSSE.
func (s *suite) envelopes(t *testing.T) {
	payload := []byte("bounds")
	var sigs array
	var verifiers [][]byte
	for range 11 {
		k := newP256()
		sigs = append(sigs, envelope("text/plain", payload, k)["signatures"].(array)...)
		verifiers = append(verifiers, publicPEM(k))
	}
	with := func(nSigs, nVerifiers int) request {
		env := envelope("text/plain", payload)
		env["signatures"] = sigs[:nSigs]
		return postJSON(pathEntry, dsse(marshal(env), verifiers[:nVerifiers]...))
	}
	s.expect(201, "ten signatures", with(10, 10))
	s.expect(400, "eleven signatures", with(11, 11))
	s.expect(400, "eleven signatures, ten verifiers", with(11, 10))
	s.expect(400, "ten signatures, eleven verifiers", with(10, 11))
	s.expect(400, "ten signatures, nine verifiers", with(10, 9))
	s.expect(409, "ten signatures again", with(10, 10))
	s.expect(400, "no signature", with(0, 1))
	s.expect(400, "no verifier", with(1, 0))

	for what, c := range map[string]struct {
		payload []byte
		want    int
	}{
		"empty payload": {nil, 201}, "payload of 10 MB": {make([]byte, 10<<20), 201}, "payload of NUL": {[]byte{0}, 201},
	} {
		s.expect(c.want, what, postJSON(pathEntry, dsse(marshal(envelope("text/plain", c.payload, s.keys.p256)), publicPEM(s.keys.p256))))
	}
	// Two equal signatures are one; two of one key over one payload are two,
	// and need two verifiers.
	twice := envelope("text/plain", payload, s.keys.p256)
	twice["signatures"] = slices.Repeat(twice["signatures"].(array), 2)
	s.expect(201, "two equal signatures", postJSON(pathEntry, dsse(marshal(twice), publicPEM(s.keys.p256))))
	s.expect(400, "two signatures of one key", postJSON(pathEntry, dsse(marshal(envelope("text/plain", payload, s.keys.p256, s.keys.p256)), publicPEM(s.keys.p256))))
	s.expect(400, "two signatures of one key, twice the verifier", postJSON(pathEntry, dsse(marshal(envelope("text/plain", payload, s.keys.p256, s.keys.p256)), publicPEM(s.keys.p256), publicPEM(s.keys.p256))))

	// Ed25519 hashes the payload anew for each of 55 attempts; all of it is
	// bounded, by 128 MiB.
	var signers []crypto.Signer
	var edwards [][]byte
	for range 10 {
		_, k := must2(ed25519.GenerateKey(rand.Reader))
		signers, edwards = append(signers, k), append(edwards, publicPEM(k))
	}
	for size, want := range map[int]int{2 << 20: 201, 3 << 20: 400} {
		s.expect(want, fmt.Sprintf("ten Ed25519 keys, %d bytes", size), postJSON(pathEntry, dsse(marshal(envelope("text/plain", make([]byte, size), signers...)), edwards...)))
	}

	for _, payloadType := range []string{"", strings.Repeat("x", 100000), "\x00", "a b\nc", "DSSEv1 0  0 "} {
		s.expect(201, "payload type "+clip(payloadType), postJSON(pathEntry, dsse(marshal(envelope(payloadType, payload, s.keys.p256)), publicPEM(s.keys.p256))))
	}
	// The type and the payload cannot be read one for the other.
	confused := envelope("text/plain 6 bound", []byte("s"), s.keys.p256)
	confused["payloadType"], confused["payload"] = "text/plain", base64Of([]byte("6 bound 1 s"))
	s.expect(400, "a type that runs into the payload", postJSON(pathEntry, dsse(marshal(confused), publicPEM(s.keys.p256))))
}

// rawGet sends text over a connection of its own and returns the answer, cut.
func (s *suite) rawGet(t *testing.T, text string) string {
	t.Helper()
	conn, err := net.DialTimeout("tcp", strings.TrimPrefix(s.URL, "http://"), 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(io.LimitReader(conn, 64<<10))
	if err != nil && len(answer) == 0 {
		t.Errorf("%q: %v", clip(text), err)
	}
	return string(answer)
}
