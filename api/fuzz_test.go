package api

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/sigstack/sigstack/test/fuzz"
)

// The request ID that a client chose stands in headers and logs: it is taken as
// it is, or another one is made, and either is short and plain.
func FuzzRequestID(f *testing.F) {
	parse := func(in []byte) (string, error) {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header["X-Request-Id"] = []string{string(in)}
		return requestID(r), nil
	}
	fuzz.Run(f, fuzz.Seeds("abc-123", "A.b:c_d", strings.Repeat("x", 128), "a b", "a\r\nX: y"), parse, func(t *testing.T, in []byte, id string, _ error) {
		if id == "" || len(id) > 128 || strings.Trim(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:") != "" {
			t.Fatalf("ID %q", id)
		}
		if id != string(in) && len(id) != 24 {
			t.Fatalf("ID %q of %q", id, in)
		}
	})
}
