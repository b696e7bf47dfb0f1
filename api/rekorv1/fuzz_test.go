package rekorv1

import (
	"encoding/json"
	"errors"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
)

// isProblem says whether an error is one that a client is told.
func isProblem(err error) bool {
	var p *problem
	return errors.As(err, &p) && p.status >= 400 && p.status < 500
}

func FuzzParseQuery(f *testing.F) {
	for _, s := range []string{
		`{"email":"dev@example.com","subject":"https://example.com/x","operator":"and"}`,
		`{"hash":"sha256:` + strings.Repeat("a", 64) + `"}`, `{"hash":"` + strings.Repeat("A", 40) + `"}`, `{"hash":"sha512:` + strings.Repeat("0", 128) + `","operator":"or"}`,
		`{"publicKey":{"format":"ssh","content":"c3NoLWVkMjU1MTkgQUFBQQ=="}}`, `{"publicKey":null,"x":[{}]}`, `null`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		q, err := parseQuery(body)
		if err == nil {
			var keys []string
			keys, err = q.keys()
			for _, k := range keys {
				if k == "" || len(k) > 4*maxSubject {
					t.Errorf("search key %q", k)
				}
			}
			if !json.Valid(body) {
				t.Errorf("accepted, but not JSON: %q", body)
			}
		}
		if err != nil && !isProblem(err) {
			t.Errorf("%q: %v", body, err)
		}
	})
}

func FuzzParseRetrieve(f *testing.F) {
	uuid := strings.Repeat("0123456789abcdef", 5)
	for _, s := range []string{
		`{"entryUUIDs":["` + uuid + `","` + uuid[16:] + `"],"logIndexes":[0,1]}`,
		`{"entries":[{"kind":"dsse","apiVersion":"0.0.1","spec":{}},{"kind":"intoto","apiVersion":"0.0.1","spec":{}}]}`,
		`{"entries":null,"logIndexes":[9223372036854775807]}`, `{}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		req, err := parseRetrieve(body)
		if err != nil {
			if !isProblem(err) {
				t.Errorf("%q: %v", body, err)
			}
			return
		}
		if n := len(req.entries) + len(req.uuids) + len(req.indexes); n > maxItems || !json.Valid(body) {
			t.Errorf("accepted: %q", body)
		}
	})
}

// What a request may make the server allocate: ten times its size and a
// megabyte.
func TestAllocationBudget(t *testing.T) {
	s := newServer(t, 0)
	const n = 4 << 20
	fill := func(head, unit, tail string) string { return head + strings.Repeat(unit, n/len(unit)) + tail }
	quarter := func(head, unit, tail string) string {
		return head + strings.Repeat(unit, (maxQuery-len(head)-len(tail))/len(unit)) + tail
	}
	for _, tt := range []struct{ name, path, body string }{
		{"indexes", "/api/v1/log/entries/retrieve", fill(`{"logIndexes":[`, "0,", "0]}")},
		{"empty objects", "/api/v1/log/entries/retrieve", fill(`{"entries":[`, "{},", "{}]}")},
		{"a long proposal", "/api/v1/log/entries/retrieve", fill(`{"entries":["`, "a", `"]}`)},
		{"a proposal of members", "/api/v1/log/entries/retrieve", fill(`{"entries":[{`, `"a":1,`, `"b":1}]}`)},
		{"unknown members", "/api/v1/log/entries/retrieve", fill(`{`, `"a":1,`, `"b":1}`)},
		{"an unknown array", "/api/v1/log/entries/retrieve", fill(`{"x":[`, `[],`, `0]}`)},
		{"deep", "/api/v1/log/entries/retrieve", fill(`{"x":`, `[`, `}`)},
		{"a long name", "/api/v1/log/entries/retrieve", fill(`{"`, `a`, `":1}`)},
		{"an entry of brackets", "/api/v1/log/entries", fill(``, `[`, ``)},
		{"an entry of members", "/api/v1/log/entries", fill(`{`, `"a":1,`, `"b":1}`)},
		{"a long UUID", "/api/v1/log/entries/retrieve", fill(`{"entryUUIDs":["`, "0", `"]}`)},
		{"a long subject", "/api/v1/index/retrieve", quarter(`{"subject":"`, "a", `"}`)},
		{"an email of comments", "/api/v1/index/retrieve", quarter(`{"email":"`, "(", `"}`)},
		{"an email of dots", "/api/v1/index/retrieve", quarter(`{"email":"`, "a.", `"}`)},
		{"a hash of colons", "/api/v1/index/retrieve", quarter(`{"hash":"`, ":", `"}`)},
		{"a key", "/api/v1/index/retrieve", quarter(`{"publicKey":{"format":"x509","content":"`, "AAAA", `"}}`)},
		{"a pgp key", "/api/v1/index/retrieve", quarter(`{"publicKey":{"format":"pgp","content":"`, "mQAB", `"}}`)},
		{"escapes", "/api/v1/index/retrieve", quarter(`{"subject":"`, `\u0000`, `"}`)},
		{"accept", "/api/v1/index/retrieve", "{}"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest("POST", tt.path, strings.NewReader(tt.body))
			r.Header.Set("Content-Type", "application/json")
			if tt.name == "accept" {
				r.Header.Set("Accept", strings.Repeat(";,", 30<<10))
			}
			w := httptest.NewRecorder()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			s.handler.ServeHTTP(w, r)
			runtime.ReadMemStats(&after)
			if got, budget := after.TotalAlloc-before.TotalAlloc, uint64(10*len(tt.body)+1<<20); got > budget {
				t.Errorf("%d bytes allocated for a body of %d", got, len(tt.body))
			}
			if w.Code == 201 || w.Code >= 500 {
				t.Errorf("%d %s", w.Code, w.Body)
			}
		})
	}
}
