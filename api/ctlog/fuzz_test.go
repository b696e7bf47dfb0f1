package ctlog

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/sigstack/sigstack/test/fuzz"
	"github.com/sigstack/sigstack/tlog/ct"
)

// The body of add-chain. What is accepted is what encoding/json makes of it.
func FuzzParseChain(f *testing.F) {
	fx := newFixture(f)
	seeds := fuzz.Seeds(
		chainJSON(fx.cert(1, false), fx.root.Raw), chainJSON(fx.cert(2, true)),
		chainJSON([]byte("a"), make([]byte, 1000)), `{"chain":[""],"chain":["QQ=="],"x":{}}`,
	)
	fuzz.Run(f, seeds, parseChain, func(t *testing.T, in []byte, chain [][]byte, err error) {
		if err != nil {
			return
		}
		again, err := parseChain([]byte(chainJSON(chain...)))
		if err != nil || len(chain) > ct.MaxChain || fmt.Sprint(chain) != fmt.Sprint(again) {
			t.Fatalf("%v, then %v, %v", chain, again, err)
		}
		var other struct {
			Chain [][]byte `json:"chain"`
		}
		if err := json.Unmarshal(in, &other); err != nil || fmt.Sprint(other.Chain) != fmt.Sprint(chain) {
			t.Fatalf("%v, for encoding/json %v, %v", chain, other.Chain, err)
		}
	})
}

// Paths and queries of GET: each is answered, none by our own fault.
func FuzzGet(f *testing.F) {
	fx := newFixture(f)
	for i := range int64(3) {
		if w := fx.do("POST", "add-chain", chainJSON(fx.cert(i+1, false))); w.Code != 200 {
			f.Fatal(w.Body)
		}
	}
	hash := "qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqo%3D"
	seeds := fuzz.Seeds(
		"/ct/v1/get-sth", "/ct/v1/get-sth-consistency?first=1&second=3", "/ct/v1/get-proof-by-hash?hash="+hash+"&tree_size=3",
		"/ct/v1/get-entries?start=0&end=2", "/ct/v1/get-roots", "/ct/v1/get-entry-and-proof?leaf_index=1&tree_size=3",
	)
	parse := func(in []byte) (*httptest.ResponseRecorder, error) {
		u, err := url.ParseRequestURI(string(in))
		if err != nil {
			return nil, err // net/http answers 400 by itself
		}
		w := httptest.NewRecorder()
		fx.h.ServeHTTP(w, (&http.Request{Method: http.MethodGet, URL: u, Header: http.Header{}, Body: http.NoBody}).WithContext(context.Background()))
		return w, nil
	}
	fuzz.Run(f, seeds, parse, func(t *testing.T, in []byte, w *httptest.ResponseRecorder, err error) {
		if err != nil {
			return
		}
		if w.Code >= 500 {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		if w.Code == 200 && !json.Valid(w.Body.Bytes()) {
			t.Fatalf("not JSON: %s", w.Body)
		}
		if w.Body.Len() > 10_000+3*len(in) {
			t.Fatalf("%d bytes for a path of %d", w.Body.Len(), len(in))
		}
	})
}
