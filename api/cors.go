package api

import "net/http"

// CORS lets web pages of any origin read the answer: nothing that is served so
// depends on cookies, and a token has to be brought by whoever asks. It reports
// whether it has answered the request, which was a preflight (Fetch standard, section
// 3.3): methods are what the path may be asked with.
//
// It is for the paths of Fulcio, Rekor and the CT log. The development issuer must not
// have it: a page could take a token for itself.
func CORS(w http.ResponseWriter, r *http.Request, methods string) bool {
	h := w.Header()
	h.Set("Vary", "Origin")
	if r.Header.Get("Origin") == "" {
		return false
	}
	h.Set("Access-Control-Allow-Origin", "*")
	if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") == "" {
		return false
	}
	h.Set("Access-Control-Allow-Methods", methods)
	h.Set("Access-Control-Allow-Headers", "Accept, Authorization, Content-Type, X-Requested-With")
	h.Set("Access-Control-Max-Age", "600")
	w.WriteHeader(http.StatusNoContent)
	return true
}
