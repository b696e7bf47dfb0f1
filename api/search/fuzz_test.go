package search

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/sigstack/sigstack/test/fuzz"
)

// The parameters of a search, as a whole: each request is answered, none by our own
// fault, and no cursor is taken that does not belong to it.
func FuzzSearch(f *testing.F) {
	fx := newFixture(f)
	fx.add(f, "zero", github, "alice@example.com")
	fx.add(f, "one", google, "bob@example.com")
	_, page := fx.page(f, "limit=1&order=oldest")
	seeds := fuzz.Seeds(
		"limit=1&order=oldest&cursor="+page.Next,
		"email=alice@example.com&issuer=https://&prefix=issuer&from=2027-01-15T08:00:00Z&to=2027-01-15T08:00:02Z&full=true",
		"repository=acme/widget&commit="+github.GitHubWorkflowSHA+"&hash=sha256:"+hexSum("zero"),
		"publicKey=QUJD&publicKeyFormat=ssh&subject=x",
	)
	ask := func(in []byte) (*httptest.ResponseRecorder, error) {
		w := httptest.NewRecorder()
		fx.ServeHTTP(w, (&http.Request{Method: http.MethodGet, URL: &url.URL{Path: pathSearch, RawQuery: string(in)}, Header: http.Header{}, Body: http.NoBody}).WithContext(context.Background()))
		return w, nil
	}
	fuzz.RunWith(f, fuzz.Options{Allow: func([]byte) int { return 200_000 }}, seeds, ask, func(t *testing.T, in []byte, w *httptest.ResponseRecorder, _ error) {
		if w.Code != http.StatusOK && w.Code != http.StatusBadRequest {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		if !json.Valid(w.Body.Bytes()) || w.Body.Len() > 20_000+3*len(in) {
			t.Fatalf("%d bytes: %s", w.Body.Len(), w.Body)
		}
		r, err := parse(string(in))
		if err != nil || r.query.Resume == nil {
			return
		}
		if values, err := url.ParseQuery(string(in)); err != nil || values.Get("cursor") != r.cursor(*r.query.Resume) {
			t.Fatalf("a cursor has two spellings: %s, %v", in, err)
		}
	})
}
