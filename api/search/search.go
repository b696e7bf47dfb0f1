// Package search is the search of sigstack over its transparency log, for people and
// web pages: what the search of Rekor lacks. Its answers have pages, and entries
// instead of UUIDs.
//
//	GET /api/sigstack/v1/search
//	GET /api/sigstack/v1/openapi.json   this, as an OpenAPI document
//
// An entry is found if it fits all parameters that are given; without any, all are.
//
//	email, subject        a name in the certificate or key that signed, a digest of a statement
//	hash                  of an artifact, payload, envelope or public key; "sha256:" may be left out
//	publicKey             base64 of a key or certificate, in the format that publicKeyFormat says
//	issuer                what the certificate says of the issuer of the identity token,
//	repository            of the source repository, as owner/name or as its URI,
//	commit                of the commit; also a commit that gitsign has signed with the log at hand
//	prefix                which of email, subject, issuer and repository is only the beginning
//	from, to              integrated time (RFC 3339), both inclusive
//	order                 newest (first, the default) or oldest
//	limit                 entries of a page: 1 to 100, 20 if nothing is said
//	cursor                next of the page before, with the same parameters
//	full                  true: each entry with its proof and signed entry timestamp
//
// Names, issuers and repositories are compared without regard to case. They are what
// the entry says; whether whoever signed its certificate may say so is the affair of
// whoever verifies.
//
// A page may have fewer entries than the limit, even none, and others may follow all
// the same: as long as there is a next, the search is not at its end.
package search

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sigstack/sigstack/api"
	"github.com/sigstack/sigstack/tlog"
	"github.com/sigstack/sigstack/tlog/entry"
	"github.com/sigstack/sigstack/tlog/rekor"
)

// Limits of a request.
const (
	MaxLimit     = 100
	defaultLimit = 20
	minPrefix    = 3  // bytes of the beginning of a name
	maxParams    = 20 // a request has at most 16 that mean something

	timeout = 10 * time.Second
)

const (
	prefix      = "/api/sigstack/v1/"
	pathSearch  = prefix + "search"
	pathOpenAPI = prefix + "openapi.json"
)

// openAPI describes this API (OpenAPI 3.0).
//
//go:embed openapi.json
var openAPI []byte

// Config is what the handler needs.
type Config struct {
	Log    *rekor.Log
	Status func(error) int // the HTTP status of an error of Log
	Logger *slog.Logger    // hears of every error that is the server's
}

// New returns the handler for Paths.
func New(cfg Config) http.Handler { return &handler{cfg} }

// Paths are what New answers for.
func Paths() []string { return []string{pathOpenAPI, pathSearch} }

// Routes are the methods and paths that New serves, sorted.
func Routes() []string { return []string{"GET " + pathOpenAPI, "GET " + pathSearch} }

type handler struct{ cfg Config }

// A problem is an error of the request.
type problem struct {
	status int
	text   string
}

func (p *problem) Error() string { return p.text }

func badRequest(format string, args ...any) error {
	return &problem{http.StatusBadRequest, fmt.Sprintf(format, args...)}
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if api.CORS(w, r, http.MethodGet) {
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", http.MethodGet)
		h.fail(w, r, &problem{http.StatusMethodNotAllowed, "want GET"})
		return
	}
	body := openAPI
	if r.URL.Path == pathSearch {
		ctx, cancel := context.WithTimeout(r.Context(), timeout)
		defer cancel()
		var err error
		if body, err = h.search(ctx, r.URL.RawQuery); err != nil {
			h.fail(w, r, err)
			return
		}
	}
	send(w, http.StatusOK, body)
}

// fail renders an error. What is nobody's business but the operator's is logged here
// and shown in general terms.
func (h *handler) fail(w http.ResponseWriter, r *http.Request, err error) {
	var p *problem
	if !errors.As(err, &p) {
		p = &problem{h.cfg.Status(err), err.Error()}
		if p.status >= 500 {
			h.cfg.Logger.ErrorContext(r.Context(), "request failed", "method", r.Method, "route", r.Pattern, "status", p.status, "err", err)
			p.text = "the log could not answer; its operator's log says why"
		}
	}
	switch p.status {
	case http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", "1")
		p.text = "the transparency log is temporarily unavailable, try again"
	case http.StatusGatewayTimeout:
		p.text = "the transparency log did not answer in time"
	}
	body, err := json.Marshal(map[string]any{"code": p.status, "message": strings.ToValidUTF8(p.text, "\uFFFD")})
	if err != nil { // there is nothing in it that cannot be written
		panic(err)
	}
	send(w, p.status, body)
}

func send(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	w.Write(body) // an error here means that nobody listens any more
}

// search serves GET /api/sigstack/v1/search.
func (h *handler) search(ctx context.Context, rawQuery string) ([]byte, error) {
	req, err := parse(rawQuery)
	if err != nil {
		return nil, err
	}
	page, err := h.cfg.Log.Find(ctx, req.query)
	if err != nil {
		return nil, err
	}
	out := answer{Entries: []hit{}, TreeSize: page.Size}
	for _, e := range page.Entries {
		hit, err := h.hit(ctx, e, req.full)
		if err != nil {
			return nil, err
		}
		out.Entries = append(out.Entries, *hit)
	}
	if page.More {
		out.Next = req.cursor(page.Next)
	}
	return json.Marshal(out)
}

// An answer is a page.
type answer struct {
	Entries  []hit  `json:"entries"`
	Next     string `json:"next,omitempty"`
	TreeSize uint64 `json:"treeSize"`
}

// A hit is an entry that was found. Its lists are never null.
type hit struct {
	UUID           string    `json:"uuid"`
	LogIndex       uint64    `json:"logIndex"`
	IntegratedTime int64     `json:"integratedTime"`
	Kind           string    `json:"kind"`
	APIVersion     string    `json:"apiVersion"`
	Hashes         []string  `json:"hashes"`
	PublicKeys     []string  `json:"publicKeys"`
	Names          []string  `json:"names"`
	Issuers        []string  `json:"issuers"`
	Repositories   []string  `json:"repositories"`
	Commits        []string  `json:"commits"`
	Entry          *logEntry `json:"entry,omitempty"`
}

// A logEntry is what GET /api/v1/log/entries/{uuid} has for a UUID.
type logEntry struct {
	Body           []byte       `json:"body"`
	IntegratedTime int64        `json:"integratedTime"`
	LogID          string       `json:"logID"`
	LogIndex       uint64       `json:"logIndex"`
	Verification   verification `json:"verification"`
}

type verification struct {
	InclusionProof       inclusionProof `json:"inclusionProof"`
	SignedEntryTimestamp []byte         `json:"signedEntryTimestamp"`
}

type inclusionProof struct {
	Checkpoint string   `json:"checkpoint"`
	Hashes     []string `json:"hashes"`
	LogIndex   uint64   `json:"logIndex"`
	RootHash   string   `json:"rootHash"`
	TreeSize   uint64   `json:"treeSize"`
}

func (h *handler) hit(ctx context.Context, e rekor.Found, full bool) (*hit, error) {
	about, err := entry.Summarize(e.Body)
	if err != nil {
		// The log has taken it: it is not the client's mistake.
		return nil, fmt.Errorf("entry %d cannot be read: %s", e.LogIndex, err)
	}
	list := func(values []string) []string { return append([]string{}, values...) }
	out := &hit{
		UUID: e.UUID, LogIndex: e.LogIndex, IntegratedTime: e.IntegratedTime,
		Kind: about.Kind, APIVersion: about.Version,
		Hashes: list(about.Hashes), PublicKeys: list(about.PublicKeys), Names: list(about.Names),
		Issuers: list(about.Issuers), Repositories: list(about.Repositories), Commits: list(about.Commits),
	}
	if !full {
		return out, nil
	}
	proven, err := h.cfg.Log.ByIndex(ctx, e.LogIndex)
	if err != nil {
		return nil, err
	}
	out.Entry = &logEntry{
		Body: proven.Body, IntegratedTime: proven.IntegratedTime, LogID: proven.LogID, LogIndex: proven.LogIndex,
		Verification: verification{
			SignedEntryTimestamp: proven.SET,
			InclusionProof: inclusionProof{
				Checkpoint: string(proven.Proof.Checkpoint), Hashes: hexes(proven.Proof.Hashes), LogIndex: proven.Proof.Index,
				RootHash: hex.EncodeToString(proven.Proof.Root[:]), TreeSize: proven.Proof.Size,
			},
		},
	}
	return out, nil
}

func hexes(hashes []tlog.Hash) []string {
	out := make([]string, len(hashes))
	for i := range hashes {
		out[i] = hex.EncodeToString(hashes[i][:])
	}
	return out
}

// A request is one for a page.
type request struct {
	query rekor.Query
	full  bool
	same  [8]byte // tells the parameters that a cursor belongs to
}

// parse reads the parameters of a search.
func parse(rawQuery string) (*request, error) {
	if strings.Count(rawQuery, "&") >= maxParams {
		return nil, badRequest("the URL has more than %d parameters", maxParams)
	}
	values, err := url.ParseQuery(rawQuery)
	if err != nil {
		return nil, badRequest("the parameters of the URL are not encoded as in a form: %s", cut(err.Error()))
	}
	p := params{values: values}
	for name, all := range values {
		switch {
		case !slices.Contains(parameters, name):
			return nil, badRequest("there is no parameter %.64q; there are %s", name, strings.Join(parameters, ", "))
		case len(all) > 1:
			return nil, badRequest("%s: it is there %d times, want it once", name, len(all))
		case all[0] == "" || !utf8.ValidString(all[0]):
			return nil, badRequest("%s: want UTF-8 that is not empty", name)
		}
	}
	r := &request{full: p.choice("full", "false", "true") == "true"}
	r.query.Oldest = p.choice("order", "newest", "oldest") == "oldest"
	r.query.Limit = p.limit()
	r.query.From, r.query.To = p.time("from"), p.time("to")
	if p.err == nil && p.has("from") && p.has("to") && r.query.To.Before(r.query.From) {
		p.fail("to: it is before from")
	}
	r.query.Terms = p.terms()
	r.same = p.sum()
	r.query.Resume = p.resume(r)
	if p.err != nil {
		return nil, p.err
	}
	return r, nil
}

// parameters are all that there are, sorted.
var parameters = []string{
	"commit", "cursor", "email", "from", "full", "hash", "issuer", "limit", "order", "prefix", "publicKey", "publicKeyFormat", "repository", "subject", "to",
}

// params reads parameters, and keeps the first error.
type params struct {
	values url.Values
	err    error
}

func (p *params) has(name string) bool { return p.values.Has(name) }

func (p *params) fail(format string, args ...any) {
	if p.err == nil {
		p.err = badRequest(format, args...)
	}
}

// choice returns one of some words; the first is that of a parameter that is not there.
func (p *params) choice(name string, words ...string) string {
	if !p.has(name) {
		return words[0]
	}
	word := p.values.Get(name)
	if !slices.Contains(words, word) {
		p.fail("%s: %.64q is not one of %s", name, word, strings.Join(words, ", "))
	}
	return word
}

func (p *params) limit() int {
	if !p.has("limit") {
		return defaultLimit
	}
	n, err := strconv.ParseUint(p.values.Get("limit"), 10, 16)
	if err != nil || n < 1 || n > MaxLimit {
		p.fail("limit: want a number from 1 to %d", MaxLimit)
	}
	return int(n)
}

func (p *params) time(name string) time.Time {
	if !p.has(name) {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339, p.values.Get(name))
	if err != nil {
		p.fail("%s: %.64q is not a time such as 2026-01-31T23:59:59Z (RFC 3339)", name, p.values.Get(name))
	}
	return t
}

// terms returns what an entry has to have.
func (p *params) terms() []rekor.Term {
	begun := ""
	if p.has("prefix") {
		begun = p.choice("prefix", "email", "subject", "issuer", "repository")
		if !p.has(begun) {
			p.fail("prefix: there is no parameter %.64q", begun)
		}
	}
	var terms []rekor.Term
	add := func(name string, keys ...string) {
		for _, key := range keys {
			if len(key) > entry.MaxKeyLength {
				p.fail("%s: it is too long; names of more than %d bytes are not indexed", name, entry.MaxKeyLength-len(entry.Repository))
			}
		}
		terms = append(terms, rekor.Term{Keys: keys, Prefix: name == begun})
	}
	for _, name := range []string{"email", "subject", "issuer", "repository"} {
		if !p.has(name) {
			continue
		}
		value := p.values.Get(name)
		if name == begun && len(value) < minPrefix {
			p.fail("%s: as a prefix it needs %d bytes", name, minPrefix)
		}
		switch name {
		case "issuer":
			add(name, entry.Issuer.Key(value))
		case "repository":
			add(name, entry.Repository.Key(value))
		default:
			if name == begun && isHex(value) {
				p.fail("%s: as a prefix it needs more than hexadecimal digits, with which hashes begin", name)
			}
			add(name, strings.ToLower(value))
		}
	}
	if p.has("hash") {
		key := hashKey(p.values.Get("hash"))
		if key == "" {
			p.fail("hash: want the hexadecimal digits of a sha1, sha256, sha384 or sha512, with or without one of these names and a colon before them")
		}
		keys := []string{key}
		if plain, ok := rekor.PlainHash(key); ok {
			keys = append(keys, plain)
		}
		add("hash", keys...)
	}
	format := p.choice("publicKeyFormat", "x509", "pgp", "minisign", "ssh", "tuf")
	switch {
	case p.has("publicKey"):
		hash, err := publicKey(format, p.values.Get("publicKey"))
		if err != nil {
			p.fail("publicKey: want base64 of a key of the format %s: %s", format, cut(err.Error()))
		}
		add("publicKey", hash)
	case p.has("publicKeyFormat"):
		p.fail("publicKeyFormat: there is no publicKey")
	}
	if p.has("commit") {
		commit := strings.ToLower(p.values.Get("commit"))
		if len(commit) != 40 && len(commit) != 64 || !isHex(commit) {
			p.fail("commit: want its 40 or 64 hexadecimal digits")
		}
		// What gitsign signs for the log is the text of the commit's hash.
		add("commit", entry.Commit.Key(commit), fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(commit))))
	}
	return terms
}

// publicKey returns the hash of a key in base64, of either alphabet.
func publicKey(format, text string) (string, error) {
	text = strings.NewReplacer("-", "+", "_", "/", " ", "+").Replace(strings.TrimRight(text, "="))
	content, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil {
		return "", err
	}
	return entry.KeyHash(format, content)
}

func isHex(s string) bool { return strings.Trim(s, "0123456789abcdefABCDEF") == "" }

// hashKey returns the search key of a hash, or "" for what is not one. Without its name
// the number of digits tells the algorithm.
func hashKey(s string) string {
	name, digits, named := strings.Cut(s, ":")
	if !named {
		name, digits = "", s
	}
	algorithm := map[int]string{40: "sha1", 64: "sha256", 96: "sha384", 128: "sha512"}[len(digits)]
	if algorithm == "" || named && name != algorithm || !isHex(digits) {
		return ""
	}
	return algorithm + ":" + strings.ToLower(digits)
}

// A cursor is base64url of: where to go on, 8 bytes, and what tells the parameters
// that it belongs to.
const cursorSize = 8 + 8

func (r *request) cursor(next uint64) string {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, cursorSize), next)
	return base64.RawURLEncoding.EncodeToString(append(b, r.same[:]...))
}

// sum tells the parameters but for those that may change from page to page.
func (p *params) sum() (sum [8]byte) {
	rest := url.Values{}
	for name, value := range p.values {
		if name != "cursor" && name != "limit" && name != "full" {
			rest[name] = value
		}
	}
	full := sha256.Sum256([]byte(rest.Encode()))
	copy(sum[:], full[:])
	return sum
}

func (p *params) resume(r *request) *uint64 {
	if !p.has("cursor") {
		return nil
	}
	// The decoder passes over line breaks; a cursor has one spelling.
	text := p.values.Get("cursor")
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || base64.RawURLEncoding.EncodeToString(b) != text || len(b) != cursorSize || [8]byte(b[8:]) != r.same {
		p.fail("cursor: want next of a page with the same parameters")
		return nil
	}
	next := binary.BigEndian.Uint64(b)
	return &next
}

// cut bounds what an error message repeats of another library's.
func cut(s string) string {
	if len(s) > 200 {
		return s[:200] + "..."
	}
	return s
}
