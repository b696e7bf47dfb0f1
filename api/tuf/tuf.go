// Package tuf serves the TUF repository of package trust over HTTP.
//
//	GET /tuf/root.json                      the newest root, to bootstrap from
//	GET /tuf/<N>.root.json                  404 for the version after the newest
//	GET /tuf/timestamp.json
//	GET /tuf/<N>.snapshot.json, /tuf/<N>.targets.json
//	GET /tuf/targets/<sha256>.<name>        what TUF clients ask for
//	GET /tuf/targets/<name>                 the same under its plain name
//
// A name is looked up in memory as it stands, byte for byte. There is no
// cleaning, no decoding, no redirect and no listing: every other path is 404,
// whatever it would mean to a file system. That exact status matters, because
// clients find the end of the root chain by it and take any other for trouble.
//
// Answers are whole, with a Content-Length. A versioned file may be cached for
// ever; timestamp.json, root.json and the plain names must be asked for each
// time, and a 404 must not be stored, since the next root will have that name.
package tuf

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/sigstack/sigstack/trust"
)

// Prefix is where the repository lies: a client's mirror is <URL>/tuf.
const Prefix = "/tuf/"

// Files is the repository. File returns the bytes that are published under a
// name relative to the mirror, which the handler does not change, and false for
// a name that is not published. It is safe for concurrent use.
type Files interface {
	File(name string) ([]byte, bool)
}

// New returns the handler for every path that is Prefix or begins with it.
//
// http.ServeMux answers a path with "//", "." or ".." by a redirect to the clean
// one before any handler sees it. A server that must not do so gives such paths
// to this handler directly.
func New(files Files) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		serve(w, req, files)
	})
}

// Register puts the handler on mux, and a 404 on the prefix without its slash,
// where mux would redirect.
func Register(mux *http.ServeMux, files Files) {
	h := New(files)
	mux.Handle(Prefix, h)
	mux.Handle(strings.TrimSuffix(Prefix, "/"), h)
}

func serve(w http.ResponseWriter, req *http.Request, files Files) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if req.Method != http.MethodGet && req.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		fail(w, http.StatusMethodNotAllowed, "method not allowed; use GET or HEAD")
		return
	}
	// RawPath is set when the path was percent-encoded in a way that decoding
	// and encoding again would not give back. Then it is no name of ours, and
	// neither is one that only decoding made so ("%2e"): no published name
	// needs encoding.
	name, ok := strings.CutPrefix(req.URL.EscapedPath(), Prefix)
	if !ok || req.URL.Path != Prefix+name {
		fail(w, http.StatusNotFound, "not found")
		return
	}
	data, ok := files.File(name)
	if !ok {
		fail(w, http.StatusNotFound, "not found")
		return
	}
	h := w.Header()
	if trust.Immutable(name) {
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
	} else {
		h.Set("Cache-Control", "no-cache")
	}
	if strings.HasSuffix(name, ".json") {
		h.Set("Content-Type", "application/json")
	} else {
		h.Set("Content-Type", "application/x-pem-file")
	}
	h.Set("Content-Length", strconv.Itoa(len(data)))
	w.WriteHeader(http.StatusOK)
	if req.Method == http.MethodGet {
		_, _ = w.Write(data) // the client has gone; nothing is left to tell it
	}
}

// fail answers in plain text with a Content-Length, and not from a cache later.
func fail(w http.ResponseWriter, status int, message string) {
	body := message + "\n"
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write([]byte(body)) // net/http drops it for HEAD
}
