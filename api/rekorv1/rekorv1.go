// Package rekorv1 serves the REST API of Rekor v1 over a [rekor.Log].
//
//	GET  /api/v1/log                        size, root and checkpoint
//	GET  /api/v1/log/publicKey?treeID=      the log's public key, PEM
//	GET  /api/v1/log/proof?firstSize=&lastSize=&treeID=
//	POST /api/v1/log/entries                add an entry
//	GET  /api/v1/log/entries?logIndex=      fetch it by index
//	GET  /api/v1/log/entries/{entryUUID}    or by UUID
//	POST /api/v1/log/entries/retrieve       fetch up to 10 entries
//	POST /api/v1/index/retrieve             search for UUIDs
//	GET  /ping                              one dot
//	GET  /swagger.json                      a description of all this (OpenAPI 2.0)
//
// What clients of this API depend on, and what is therefore promised:
//
//   - 201 means that the entry is durable and included in the checkpoint that
//     comes with it. Its ETag is the UUID without quotes, equal to the one
//     member name of the body: Go clients look the entry up by it.
//   - A duplicate is 409 with a relative Location that can be fetched at once.
//     A client that lost an answer posts again and follows it.
//   - An entry that does not exist is 404 with an empty body.
//   - The members of every answer are in alphabetical order. An empty proof is
//     [], no inactive shards are null, the tree ID is a string, and all other
//     integers are numbers.
//   - Answers to GET about the log must not be stored or transformed on the way: a proxy that
//     compresses would also change the ETag.
//   - Errors are {"code":n,"message":"..."}. Where a request has the wrong
//     shape the status is 422 and the code says how: 601 type, 602 required,
//     603 too long, 605 pattern, 606 enumeration, 609 minimum, 611 too many
//     items, 612 too few. Bodies of errors that routing or validation find end
//     without a newline, the others with one.
//   - Log, store or signer trouble is 503 with Retry-After. Its cause is logged
//     and not told.
//
// Requests are read as JSON with member names matched exactly: a member that
// is there twice, or spelled in another case, is refused, and so are bytes
// after the value. Unknown members are ignored.
//
// Where Rekor answers 500 to bad input (JSON that does not parse, the tree ID
// 0), this server answers 400.
package rekorv1

import (
	_ "embed"
	"fmt"
	"log/slog"
	"net/http"
	"path"
	"slices"
	"strings"

	"github.com/sigstack/sigstack/api"
	"github.com/sigstack/sigstack/api/writes"
	"github.com/sigstack/sigstack/tlog/rekor"
)

// Config is what New needs. Log and Status must be set.
type Config struct {
	Log *rekor.Log

	// MaxBody bounds the body of a request that carries proposed entries, in
	// bytes. A rekord entry is sent with its whole artifact. Zero means
	// DefaultMaxBody.
	MaxBody int64

	// Operations are those that are served, of the names that Operations has; none
	// means all. Others are answered with 501.
	Operations []string

	// Kinds are those whose entries may be added, such as "hashedrekord"; none means
	// all. Entries of others that are in the log can be read.
	Kinds []string

	// Algorithms are those that entries may be signed with, of the names that
	// entry.Algorithms has; none means all. Entries that are in the log can be read.
	Algorithms []string

	// Writes says who may add entries, and how many; nil lets everybody.
	Writes *writes.Control

	// Refused is called with one of Reasons for each write that is refused by what is
	// configured, and not for a mistake. May be nil.
	Refused func(reason string)

	// Status returns the HTTP status of an error of the domain.
	Status func(error) int

	Logger *slog.Logger // of the causes that clients are not told; nil logs nothing
}

// DefaultMaxBody is 32 MiB.
const DefaultMaxBody = 32 << 20

// maxQuery bounds the body of a search, in bytes. The longest sensible one
// holds a public key.
const maxQuery = 1 << 20

// maxParams bounds the parameters of a URL. As a map they take many times the
// bytes that they took in the URL; no request has more than three.
const maxParams = 100

// handler serves the API.
type handler struct {
	cfg    Config
	routes map[string]route // by path; an entry's own path is found by find
	entry  route
}

// A route is what one path can do.
type route struct {
	pattern  string
	methods  map[string]operation
	produces string // media type of its answers
}

// An operation is what one method of a path does. Its name is that of Rekor.
type operation struct {
	name  string
	serve func(http.ResponseWriter, *http.Request) error
}

// allowed returns the methods of a route, sorted.
func (rt route) allowed() []string {
	var m []string
	for name := range rt.methods {
		m = append(m, name)
	}
	slices.Sort(m)
	return m
}

const (
	typeJSON = "application/json"
	typePEM  = "application/x-pem-file"

	pathEntries = "/api/v1/log/entries"
	pathEntry   = pathEntries + "/{entryUUID}"
	pathPing    = "/ping"
	pathSwagger = "/swagger.json"
)

// swagger describes this API (OpenAPI 2.0).
//
//go:embed swagger.json
var swagger []byte

// New returns the handler of the API. Mount it at Paths. It sets the request's
// Pattern to the template of the path, for metrics.
func New(cfg Config) http.Handler {
	if cfg.MaxBody <= 0 {
		cfg.MaxBody = DefaultMaxBody
	}
	if cfg.Writes == nil {
		cfg.Writes = writes.New(writes.Config{})
	}
	if cfg.Refused == nil {
		cfg.Refused = func(string) {}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	h := &handler{cfg: cfg, routes: make(map[string]route)}
	for _, rt := range h.table() {
		for method, op := range rt.methods {
			if len(cfg.Operations) > 0 && op.name != "" && !slices.Contains(cfg.Operations, op.name) {
				rt.methods[method] = operation{op.name, disabled(op.name)}
			}
		}
		h.routes[rt.pattern] = rt
	}
	h.entry = h.routes[pathEntry]
	return h
}

// Paths are the patterns of http.ServeMux below which New answers.
func Paths() []string {
	return []string{"/api/v1/log", "/api/v1/log/", "/api/v1/index/retrieve", "/api/v1/index/retrieve/", pathPing, pathSwagger}
}

// table is every route but the one of /ping.
func (h *handler) table() []route {
	type methods = map[string]operation
	byUUID := operation{"getLogEntryByUUID", h.byUUID}
	return []route{
		{"/api/v1/log", methods{"GET": {"getLogInfo", h.info}}, typeJSON},
		{"/api/v1/log/publicKey", methods{"GET": {"getPublicKey", h.publicKey}}, typePEM},
		{"/api/v1/log/proof", methods{"GET": {"getLogProof", h.proof}}, typeJSON},
		{pathEntries, methods{"GET": {"getLogEntryByIndex", h.byIndex}, "POST": {"createLogEntry", h.create}}, typeJSON},
		{pathEntries + "/retrieve", methods{"GET": byUUID, "POST": {"searchLogQuery", h.retrieve}}, typeJSON},
		{pathEntry, methods{"GET": byUUID}, typeJSON},
		{"/api/v1/index/retrieve", methods{"POST": {"searchIndex", h.search}}, typeJSON},
		{pathSwagger, methods{"GET": {"", h.describe}}, typeJSON},
	}
}

// Operations are the names of all operations, sorted.
func Operations() []string {
	var names []string
	for _, rt := range new(handler).table() {
		for _, op := range rt.methods {
			if op.name != "" {
				names = append(names, op.name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// disabled answers for an operation that is not served.
func disabled(name string) func(http.ResponseWriter, *http.Request) error {
	return func(http.ResponseWriter, *http.Request) error {
		return &problem{status: http.StatusNotImplemented, code: http.StatusNotImplemented,
			message: fmt.Sprintf("%s API not enabled in this Rekor instance", name)}
	}
}

// describe serves GET /swagger.json.
func (h *handler) describe(w http.ResponseWriter, _ *http.Request) error {
	send(w, http.StatusOK, typeJSON, swagger)
	return nil
}

// Routes are the methods and paths that New serves, sorted, such as
// "GET /api/v1/log/entries/{entryUUID}".
func Routes() []string {
	routes := []string{"GET " + pathPing}
	for _, rt := range new(handler).table() {
		for _, method := range rt.allowed() {
			routes = append(routes, method+" "+rt.pattern)
		}
	}
	slices.Sort(routes)
	return routes
}

// ServeHTTP finds the route, settles what is common to all of them, and
// renders the error of the one that was called.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// Trailing and doubled slashes are tolerated, without a redirect.
	clean := path.Clean("/" + r.URL.Path)
	rt, ok := h.find(clean)
	if ok {
		r.Pattern = rt.pattern
	}
	if api.CORS(w, r, "GET, POST") {
		return
	}
	if r.Method == http.MethodOptions {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	if clean == pathPing {
		h.ping(w, r)
		return
	}
	if !ok {
		h.fail(w, r, framework(http.StatusNotFound, http.StatusNotFound, "path %s was not found", cut(r.URL.EscapedPath())))
		return
	}
	op, ok := rt.methods[r.Method]
	if !ok {
		h.methodNotAllowed(w, r, rt.allowed())
		return
	}
	var err error
	if op.name != "" { // the description is the same for everybody
		if r.Method == http.MethodGet {
			neverStore(w.Header())
		}
		err = negotiate(r, rt.produces)
	}
	if err == nil && strings.Count(r.URL.RawQuery, "&") >= maxParams {
		err = badRequest("the URL has more than %d parameters", maxParams)
	}
	if err == nil {
		err = op.serve(w, r)
	}
	if err != nil {
		h.fail(w, r, err)
	}
}

func (h *handler) find(clean string) (route, bool) {
	if rt, ok := h.routes[clean]; ok {
		return rt, true
	}
	uuid, ok := strings.CutPrefix(clean, pathEntries+"/")
	return h.entry, ok && !strings.Contains(uuid, "/")
}

// ping tells probes that somebody listens; it asks nothing of the log.
func (h *handler) ping(w http.ResponseWriter, r *http.Request) {
	r.Pattern = pathPing
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		h.methodNotAllowed(w, r, []string{"GET", "HEAD"})
		return
	}
	send(w, http.StatusOK, "text/plain", []byte("."))
}

func (h *handler) methodNotAllowed(w http.ResponseWriter, r *http.Request, allowed []string) {
	list := strings.Join(allowed, ",")
	w.Header().Set("Allow", list)
	h.fail(w, r, framework(http.StatusMethodNotAllowed, http.StatusMethodNotAllowed, "method %s is not allowed, but [%s] are", cut(r.Method), list))
}

// neverStore keeps caches and proxies from keeping or changing an answer.
func neverStore(header http.Header) {
	header.Set("Cache-Control", "no-cache, no-store, no-transform, must-revalidate, private, max-age=0")
	header.Set("Expires", "Thu, 01 Jan 1970 00:00:00 GMT")
	header.Set("Pragma", "no-cache")
	header.Set("X-Accel-Expires", "0")
}
