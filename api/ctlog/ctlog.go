// Package ctlog shows a CT log over HTTP as RFC 6962, section 4 has it.
//
//	POST /ct/v1/add-chain             {"chain":[base64 DER ...]}
//	POST /ct/v1/add-pre-chain         {"chain":[base64 DER ...]}
//	GET  /ct/v1/get-sth
//	GET  /ct/v1/get-sth-consistency   first, second
//	GET  /ct/v1/get-proof-by-hash     hash (base64), tree_size
//	GET  /ct/v1/get-entries           start, end (inclusive)
//	GET  /ct/v1/get-roots
//	GET  /ct/v1/get-entry-and-proof   leaf_index, tree_size
//
// An answer is JSON; an error is text: the status text on the first line and
// what was wrong on the second. Every JSON array is [], never null, when empty.
//
// get-entries gives at most [MaxEntries] entries, and where it has to cut, it
// cuts at a multiple of MaxEntries, so that a client that follows asks for
// ranges that caches know.
//
// What can never change may be cached for a day: proofs between given sizes,
// and a range of entries that was answered in full. A range that was cut, or
// that was asked for beyond the end of the tree, may be cached for a minute.
// Tree heads, roots, SCTs and errors are not cached.
package ctlog

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/sigstack/sigstack/api"
	"github.com/sigstack/sigstack/tlog"
	"github.com/sigstack/sigstack/tlog/ct"
)

// Limits of a request and of an answer.
const (
	MaxBody    = 512000 // bytes of an add-chain or add-pre-chain request
	MaxEntries = 1000   // entries of a get-entries answer
)

// maxMembers bounds the members of a request and the parameters of a URL, known
// or not: three at most mean something.
const maxMembers = 100

// Prefix is the path below which everything is served.
const Prefix = "/ct/v1/"

// Config is what the handlers need.
type Config struct {
	Log    *ct.Log
	Status func(error) int // the HTTP status of an error of Log
	Logger *slog.Logger    // hears of every error that is the server's
}

// New returns the handler for everything below Prefix.
func New(cfg Config) http.Handler {
	h := &handler{cfg}
	mux := http.NewServeMux()
	for path, e := range h.endpoints() {
		mux.HandleFunc(Prefix+path, func(w http.ResponseWriter, r *http.Request) { h.serve(w, r, e) })
	}
	mux.HandleFunc(Prefix, func(w http.ResponseWriter, r *http.Request) {
		h.fail(w, r, problem{http.StatusNotFound, "RFC 6962, section 4 has no such path below " + Prefix})
	})
	return mux
}

// Routes are the methods and paths that New serves, sorted, such as
// "GET /ct/v1/get-sth".
func Routes() []string {
	var routes []string
	for path, e := range new(handler).endpoints() {
		routes = append(routes, e.method+" "+Prefix+path)
	}
	slices.Sort(routes)
	return routes
}

type handler struct{ cfg Config }

// endpoints are all that there is below Prefix.
func (h *handler) endpoints() map[string]endpoint {
	return map[string]endpoint{
		"add-chain":           {http.MethodPost, h.addChain},
		"add-pre-chain":       {http.MethodPost, h.addPreChain},
		"get-sth":             {http.MethodGet, h.sth},
		"get-sth-consistency": {http.MethodGet, h.consistency},
		"get-proof-by-hash":   {http.MethodGet, h.proofByHash},
		"get-entries":         {http.MethodGet, h.entries},
		"get-roots":           {http.MethodGet, h.roots},
		"get-entry-and-proof": {http.MethodGet, h.entryAndProof},
	}
}

type endpoint struct {
	method string
	call   func(w http.ResponseWriter, r *http.Request) (body any, err error)
}

// A problem is an error that has its status already: one of the request.
type problem struct {
	status int
	text   string
}

func (p problem) Error() string { return p.text }

func badRequest(format string, args ...any) error {
	return problem{http.StatusBadRequest, fmt.Sprintf(format, args...)}
}

// The values of Cache-Control.
const (
	cacheNever  = "no-store"
	cacheMinute = "public, max-age=60"
	cacheDay    = "public, max-age=86400"
)

// serve calls an endpoint, which may set the header, and renders what it returns.
func (h *handler) serve(w http.ResponseWriter, r *http.Request, e endpoint) {
	if api.CORS(w, r, e.method) {
		return
	}
	if r.Method != e.method {
		w.Header().Set("Allow", e.method)
		h.fail(w, r, problem{http.StatusMethodNotAllowed, "want " + e.method})
		return
	}
	w.Header().Set("Cache-Control", cacheNever)
	body, err := e.call(w, r)
	if err != nil {
		h.fail(w, r, err)
		return
	}
	b, err := json.Marshal(body)
	if err != nil {
		h.fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	w.Write(b) // an error here means that nobody listens any more
}

// fail renders an error. What is nobody's business but the operator's is
// logged here and shown in general terms.
func (h *handler) fail(w http.ResponseWriter, r *http.Request, err error) {
	var p problem
	if !errors.As(err, &p) {
		p = problem{h.cfg.Status(err), err.Error()}
		if p.status >= 500 {
			h.cfg.Logger.ErrorContext(r.Context(), "request failed", "method", r.Method, "route", r.Pattern, "status", p.status, "err", err)
			p.text = "the log could not answer; its operator's log says why"
		}
	}
	if p.status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
		p.text = "the log is temporarily unavailable; try again"
		if errors.Is(err, tlog.ErrUnknown) {
			p.text = "the log is temporarily unavailable; whether the certificate was added is not known, submit it again to find out"
		}
	}
	body := http.StatusText(p.status) + "\n" + strings.ToValidUTF8(p.text, "\uFFFD") + "\n"
	w.Header().Set("Cache-Control", cacheNever)
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(p.status)
	io.WriteString(w, body)
}

// addChain serves RFC 6962, section 4.1.
func (h *handler) addChain(w http.ResponseWriter, r *http.Request) (any, error) {
	return h.add(w, r, h.cfg.Log.AddChain)
}

// addPreChain serves RFC 6962, section 4.2.
func (h *handler) addPreChain(w http.ResponseWriter, r *http.Request) (any, error) {
	return h.add(w, r, h.cfg.Log.AddPreChain)
}

func (h *handler) add(w http.ResponseWriter, r *http.Request, add func(context.Context, []byte, [][]byte) ([]byte, error)) (any, error) {
	body, err := readBody(w, r)
	if err != nil {
		return nil, err
	}
	chain, err := parseChain(body)
	if err != nil {
		return nil, err
	}
	b, err := add(r.Context(), chain[0], chain[1:])
	if err != nil {
		return nil, err
	}
	sct, err := ct.ParseSCT(b)
	if err != nil {
		return nil, err
	}
	return struct {
		Version    int    `json:"sct_version"`
		ID         []byte `json:"id"`
		Timestamp  uint64 `json:"timestamp"`
		Extensions string `json:"extensions"`
		Signature  []byte `json:"signature"`
	}{ID: sct.LogID[:], Timestamp: sct.Timestamp, Signature: sct.Signature}, nil
}

// readBody reads the body of a request, of at most MaxBody bytes, whether or
// not its length was announced.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	tooLarge := problem{http.StatusRequestEntityTooLarge, fmt.Sprintf("the body has more than %d bytes", MaxBody)}
	if r.ContentLength > MaxBody {
		return nil, tooLarge
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBody))
	var limit *http.MaxBytesError
	if errors.As(err, &limit) {
		return nil, tooLarge
	}
	if err != nil {
		return nil, badRequest("the body could not be read to its end")
	}
	return body, nil
}

// parseChain reads {"chain":[...]}, of 1 to ct.MaxChain certificates. The name
// must be spelled exactly and be there once, or readers of one request could see
// two chains; other members are skipped.
func parseChain(body []byte) ([][]byte, error) {
	bad := func(err error) error {
		return badRequest("the body is not {\"chain\":[...]} with 1 to %d certificates, each the base64 of DER: %v", ct.MaxChain, err)
	}
	notObject := errors.New("it is not one JSON object")
	dec := json.NewDecoder(bytes.NewReader(body))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, bad(notObject)
	}
	var found chain
	var seen bool
	for n := 0; dec.More(); n++ {
		if n == maxMembers {
			return nil, bad(fmt.Errorf("it has more than %d members", maxMembers))
		}
		t, err := dec.Token()
		if err != nil {
			return nil, bad(notObject)
		}
		switch name, _ := t.(string); {
		case name == "chain" && seen:
			return nil, bad(errors.New("chain is there twice"))
		case name == "chain":
			seen = true
			err = dec.Decode(&found)
		case strings.EqualFold(name, "chain"):
			return nil, bad(fmt.Errorf("the member %.20q must be spelled \"chain\"", name))
		default:
			var skipped json.RawMessage
			err = dec.Decode(&skipped)
		}
		if err != nil {
			return nil, bad(err)
		}
	}
	if _, err := dec.Token(); err != nil { // the closing brace
		return nil, bad(notObject)
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, bad(errors.New("something follows the object"))
	}
	if len(found) == 0 {
		return nil, badRequest("the chain is missing or empty; want {\"chain\":[...]} with 1 to %d certificates, each the base64 of DER", ct.MaxChain)
	}
	return found, nil
}

// A chain is a JSON array of base64 strings. It stops reading where there are
// too many: 100,000 empty strings are small as text and large as slices.
type chain [][]byte

func (c *chain) UnmarshalJSON(b []byte) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	if t, err := dec.Token(); err != nil || t != json.Delim('[') {
		return errors.New("chain is not an array")
	}
	for dec.More() {
		if len(*c) == ct.MaxChain {
			return fmt.Errorf("chain has more than %d certificates", ct.MaxChain)
		}
		var s string
		if err := dec.Decode(&s); err != nil {
			return errors.New("chain has an element that is not a string")
		}
		der, err := base64.StdEncoding.DecodeString(s)
		if err != nil {
			return errors.New("chain has an element that is not standard base64 with padding")
		}
		*c = append(*c, der)
	}
	return nil
}

// sth serves RFC 6962, section 4.3.
func (h *handler) sth(_ http.ResponseWriter, r *http.Request) (any, error) {
	sth, err := h.cfg.Log.STH(r.Context())
	if err != nil {
		return nil, err
	}
	return struct {
		Size      uint64 `json:"tree_size"`
		Timestamp uint64 `json:"timestamp"`
		Root      []byte `json:"sha256_root_hash"`
		Signature []byte `json:"tree_head_signature"`
	}{sth.Size, sth.Timestamp, sth.Root[:], sth.Signature}, nil
}

// consistency serves RFC 6962, section 4.4.
func (h *handler) consistency(w http.ResponseWriter, r *http.Request) (any, error) {
	q := query(r)
	first, second := q.number("first"), q.number("second")
	if q.err != nil {
		return nil, q.err
	}
	if first > second {
		return nil, badRequest("first is %d and second is %d; want first not above second", first, second)
	}
	hashes, err := h.cfg.Log.Consistency(r.Context(), first, second)
	if errors.Is(err, tlog.ErrNotFound) {
		err = badRequest("second is %d, but the tree has size %d", second, h.cfg.Log.Size())
	}
	if err != nil {
		return nil, err
	}
	w.Header().Set("Cache-Control", cacheDay)
	return struct {
		Consistency [][]byte `json:"consistency"`
	}{path(hashes)}, nil
}

// proofByHash serves RFC 6962, section 4.5.
func (h *handler) proofByHash(w http.ResponseWriter, r *http.Request) (any, error) {
	q := query(r)
	size := q.number("tree_size")
	hash, err := base64.StdEncoding.DecodeString(q.Get("hash"))
	switch {
	case q.err != nil:
		return nil, q.err
	case err != nil || len(hash) != tlog.HashSize:
		return nil, badRequest("hash is not the base64 of %d bytes (in a URL a plus sign is written %%2B)", tlog.HashSize)
	case size == 0:
		return nil, badRequest("tree_size is 0; want at least 1")
	}
	index, hashes, err := h.cfg.Log.ProofByHash(r.Context(), tlog.Hash(hash), size)
	if errors.Is(err, tlog.ErrNotFound) {
		err = problem{http.StatusNotFound, fmt.Sprintf("the tree of size %d has no such leaf; the published tree has size %d", size, h.cfg.Log.Size())}
	}
	if err != nil {
		return nil, err
	}
	w.Header().Set("Cache-Control", cacheDay)
	return struct {
		Index uint64   `json:"leaf_index"`
		Path  [][]byte `json:"audit_path"`
	}{index, path(hashes)}, nil
}

type jsonEntry struct {
	LeafInput []byte `json:"leaf_input"`
	ExtraData []byte `json:"extra_data"`
}

// entries serves RFC 6962, section 4.6.
func (h *handler) entries(w http.ResponseWriter, r *http.Request) (any, error) {
	q := query(r)
	start, last := q.number("start"), q.number("end")
	if q.err != nil {
		return nil, q.err
	}
	if start > last {
		return nil, badRequest("start is %d and end is %d; want start not above end", start, last)
	}
	// No overflow: numbers are below 2^63.
	end := min(last+1, (start/MaxEntries+1)*MaxEntries)
	entries, err := h.cfg.Log.Entries(r.Context(), start, end)
	if errors.Is(err, tlog.ErrNotFound) {
		err = badRequest("start is %d, but the tree has size %d", start, h.cfg.Log.Size())
	}
	if err != nil {
		return nil, err
	}
	w.Header().Set("Cache-Control", cacheMinute)
	if start+uint64(len(entries)) == last+1 {
		w.Header().Set("Cache-Control", cacheDay)
	}
	out := make([]jsonEntry, len(entries))
	for i, e := range entries {
		out[i] = jsonEntry(e)
	}
	return struct {
		Entries []jsonEntry `json:"entries"`
	}{out}, nil
}

// roots serves RFC 6962, section 4.7.
func (h *handler) roots(http.ResponseWriter, *http.Request) (any, error) {
	return struct {
		Certificates [][]byte `json:"certificates"`
	}{h.cfg.Log.Roots()}, nil
}

// entryAndProof serves RFC 6962, section 4.8.
func (h *handler) entryAndProof(w http.ResponseWriter, r *http.Request) (any, error) {
	q := query(r)
	index, size := q.number("leaf_index"), q.number("tree_size")
	if q.err != nil {
		return nil, q.err
	}
	if index >= size {
		return nil, badRequest("leaf_index is %d and tree_size is %d; want leaf_index below tree_size", index, size)
	}
	e, hashes, err := h.cfg.Log.EntryAndProof(r.Context(), index, size)
	if errors.Is(err, tlog.ErrNotFound) {
		err = badRequest("tree_size is %d, but the tree has size %d", size, h.cfg.Log.Size())
	}
	if err != nil {
		return nil, err
	}
	w.Header().Set("Cache-Control", cacheDay)
	return struct {
		jsonEntry
		Path [][]byte `json:"audit_path"`
	}{jsonEntry(e), path(hashes)}, nil
}

// params are the parameters of a GET, and the first thing that is wrong with them.
type params struct {
	url.Values
	err error
}

func query(r *http.Request) *params {
	q := &params{}
	if strings.Count(r.URL.RawQuery, "&") >= maxMembers {
		q.err = badRequest("the query of the URL has more than %d parameters", maxMembers)
		return q
	}
	var err error
	if q.Values, err = url.ParseQuery(r.URL.RawQuery); err != nil {
		q.err = badRequest("the query of the URL does not parse")
	}
	return q
}

// number returns a required parameter: decimal, 0 to 2^63-1.
func (q *params) number(name string) uint64 {
	n, err := strconv.ParseUint(q.Get(name), 10, 63)
	if err != nil && q.err == nil {
		q.err = badRequest("%s is %.30q; want a decimal number from 0 to 2^63-1", name, q.Get(name))
	}
	return n
}

// path returns a proof that encodes as [] where it is empty.
func path(hashes []tlog.Hash) [][]byte {
	out := make([][]byte, len(hashes))
	for i := range hashes {
		out[i] = hashes[i][:]
	}
	return out
}
