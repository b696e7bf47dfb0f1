package harness

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
)

// TestSameAnswers compares a server with itself, with one that says something
// else in one place, and with one that has other logs.
func TestSameAnswers(t *testing.T) {
	t.Parallel()
	filled := func(seed uint64) *Server {
		s := Start(t)
		load := NewLoad(t, s, NewLedger(t, filepath.Join(t.TempDir(), "ledger")), nil, seed)
		load.Entries(12)
		load.Certificates(3)
		return s
	}
	s := filled(1)
	if found := SameAnswers(t.Context(), s, s.Behind(s.URL)); len(found) > 0 {
		t.Fatalf("one server: %v", found)
	}
	want := func(invariant, what string, other *Server) {
		t.Helper()
		found := SameAnswers(t.Context(), s, other)
		if !slices.ContainsFunc(found, func(v Violation) bool { return v.Invariant == invariant }) {
			t.Errorf("%s: %v, want a violation of %s", what, found, invariant)
		}
	}
	want("I3", "other logs", filled(2))
	for _, tt := range []struct{ path, from, to string }{
		{"/api/v1/log/entries/retrieve", `"integratedTime":1`, `"integratedTime":2`},
		{"/api/v1/log/entries/retrieve", `"logIndex":7,`, `"logIndex":8,`},
		{"/ct/v1/get-entry-and-proof", `"extra_data":"`, `"extra_data":"AAAA`},
		{"/ct/v1/get-entry-and-proof", `"audit_path":["`, `"audit_path":["AAAA`},
	} {
		target, err := url.Parse(s.URL)
		if err != nil {
			t.Fatal(err)
		}
		var changed atomic.Bool
		liar := httptest.NewServer(&httputil.ReverseProxy{
			Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) },
			ModifyResponse: func(res *http.Response) error {
				text, err := io.ReadAll(res.Body)
				if res.Request.URL.Path == tt.path && bytes.Contains(text, []byte(tt.from)) {
					text = bytes.Replace(text, []byte(tt.from), []byte(tt.to), 1)
					changed.Store(true)
				}
				res.Body = io.NopCloser(bytes.NewReader(text))
				res.Header.Set("Content-Length", strconv.Itoa(len(text)))
				return err
			},
		})
		want("I6", tt.path+" with "+tt.to, s.Behind(liar.URL))
		liar.Close()
		if !changed.Load() {
			t.Errorf("%s has no %s", tt.path, tt.from)
		}
	}
}
