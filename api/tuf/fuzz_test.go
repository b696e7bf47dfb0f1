package tuf

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/sigstack/sigstack/test/fuzz"
)

// Whatever the path: the answer is the file of exactly that name, or 404.
func FuzzPath(f *testing.F) {
	fx := newFixture(f)
	h := New(fx.repo)
	seeds := fuzz.Seeds("/tuf/root.json", "/tuf/1.root.json", "/tuf/targets/rekor.pub", "/tuf/../root.json", "/tuf/%2e%2e/root.json", "/tuf//root.json", "/tuf/targets%2frekor.pub", "/tuf/a\\b", "*", "A:/tuf/root.json")
	parse := func(in []byte) (*httptest.ResponseRecorder, error) {
		u, err := url.ParseRequestURI(string(in))
		if err != nil {
			return nil, err // net/http answers 400 by itself
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, &http.Request{Method: http.MethodGet, URL: u, Header: http.Header{}})
		return w, nil
	}
	fuzz.Run(f, seeds, parse, func(t *testing.T, in []byte, w *httptest.ResponseRecorder, err error) {
		if err != nil {
			return
		}
		u, err := url.ParseRequestURI(string(in))
		if err != nil {
			t.Fatal(err)
		}
		path, _, _ := strings.Cut(string(in), "?")
		if u.Scheme != "" { // absolute form
			path = u.EscapedPath()
		}
		want, ok := []byte(nil), false
		if name, under := strings.CutPrefix(path, Prefix); under {
			want, ok = fx.repo.File(name)
		}
		switch {
		case w.Code == http.StatusOK && ok && bytes.Equal(w.Body.Bytes(), want):
		case w.Code == http.StatusNotFound && !ok:
		default:
			t.Fatalf("%d with %d bytes, published: %v", w.Code, w.Body.Len(), ok)
		}
		if strconv.Itoa(w.Body.Len()) != w.Header().Get("Content-Length") {
			t.Fatalf("Content-Length %s for %d bytes", w.Header().Get("Content-Length"), w.Body.Len())
		}
	})
}
