package rekorv1

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi2"
	"github.com/getkin/kin-openapi/openapi2conv"
	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"

	"github.com/sigstack/sigstack/api"
	"github.com/sigstack/sigstack/api/writes"
	"github.com/sigstack/sigstack/ca/limit"
	"github.com/sigstack/sigstack/storage/sqlite"
	"github.com/sigstack/sigstack/tlog"
	"github.com/sigstack/sigstack/tlog/checkpoint"
	"github.com/sigstack/sigstack/tlog/rekor"
)

// description is what a server says of itself, for a library that validates answers by
// OpenAPI 3.
func description(t testing.TB) *openapi3.T {
	t.Helper()
	var old openapi2.T
	if err := json.Unmarshal(bytes.ReplaceAll(swagger, []byte("#/definitions/"), []byte("#/components/schemas/")), &old); err != nil {
		t.Fatal(err)
	}
	doc, err := openapi2conv.ToV3(&old)
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(context.Background()); err != nil {
		t.Fatal(err)
	}
	// What OpenAPI 2.0 says with an extension.
	for _, schema := range doc.Components.Schemas {
		for _, property := range schema.Value.Properties {
			if property.Value != nil && property.Value.Extensions["x-nullable"] == true {
				property.Value.Nullable = true
			}
		}
	}
	return doc
}

// described holds an answer against the description: its status, its headers and its
// body are what is written there.
func described(doc *openapi3.T, method, path string, got answer) error {
	item := doc.Paths.Value(path)
	if item == nil || item.GetOperation(method) == nil {
		return fmt.Errorf("%s %s is not described", method, path)
	}
	operation := item.GetOperation(method)
	response := operation.Responses.Value(fmt.Sprint(got.status))
	if response == nil {
		return fmt.Errorf("%s %s: the status %d is not described", method, path, got.status)
	}
	for name := range response.Value.Headers {
		if got.header.Get(name) == "" {
			return fmt.Errorf("%s %s: %d without the header %s", method, path, got.status, name)
		}
	}
	media, _, _ := strings.Cut(got.header.Get("Content-Type"), ";")
	if len(response.Value.Content) == 0 {
		if got.body != "" || media != "" {
			return fmt.Errorf("%s %s: %d has a body, and none is described", method, path, got.status)
		}
		return nil
	}
	if media == typePEM && got.status != http.StatusOK { // an error, under the media type of what was asked for
		got.header = got.header.Clone()
		got.header.Set("Content-Type", typeJSON)
	}
	request, err := http.NewRequest(method, path, nil)
	if err != nil {
		return err
	}
	return openapi3filter.ValidateResponse(context.Background(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: request, Route: &routers.Route{Spec: doc, Path: path, PathItem: item, Method: method, Operation: operation}},
		Status:                 got.status, Header: got.header, Body: io.NopCloser(strings.NewReader(got.body)),
	})
}

// TestDescription asks for every answer that is described, and holds it against the
// description. What is served is described, and what is described is served.
func TestDescription(t *testing.T) {
	openapi3filter.RegisterBodyDecoder(typePEM, openapi3filter.FileBodyDecoder)
	s := newServer(t, 4096)
	doc := description(t)
	var served []string
	for path, item := range doc.Paths.Map() {
		for method := range item.Operations() {
			served = append(served, method+" "+path)
		}
	}
	// A leaf hash may be anything but a word; its path serves GET as every other.
	routes := slices.DeleteFunc(Routes(), func(r string) bool { return r == "GET /api/v1/log/entries/retrieve" })
	if slices.Sort(served); !slices.Equal(served, routes) {
		t.Fatalf("described %v\nserved %v", served, routes)
	}
	var named []string
	for _, item := range doc.Paths.Map() {
		for _, o := range item.Operations() {
			named = append(named, o.OperationID)
		}
	}
	operations := append(Operations(), "getSwagger", "ping")
	slices.Sort(named)
	if slices.Sort(operations); !slices.Equal(named, operations) {
		t.Errorf("operations %v, want %v", named, operations)
	}

	entry := string(vectorNamed(t, "hashedrekord-p256").Request)
	const entries, retrieve, search = "/api/v1/log/entries", "/api/v1/log/entries/retrieve", "/api/v1/index/retrieve"
	uuid := s.upload(t, []byte(entry))
	other := vectorNamed(t, "hashedrekord-p384-sha384").Request
	long := strings.Repeat(" ", maxQuery+1)
	accept := []string{"Accept", "image/png"}
	type exchange struct {
		method, path, template, body string
		status                       int
		header                       []string
	}
	all := []exchange{
		{"GET", "/api/v1/log", "", "", 200, nil},
		{"GET", "/api/v1/log/publicKey", "", "", 200, nil},
		{"GET", "/api/v1/log/publicKey", "", "", 200, []string{"Accept", typeJSON}},
		{"GET", "/api/v1/log/publicKey?treeID=1", "/api/v1/log/publicKey", "", 400, nil},
		{"GET", "/api/v1/log/publicKey?treeID=x", "/api/v1/log/publicKey", "", 422, nil},
		{"GET", "/api/v1/log/proof?lastSize=1", "/api/v1/log/proof", "", 200, nil},
		{"GET", "/api/v1/log/proof?lastSize=9", "/api/v1/log/proof", "", 400, nil},
		{"GET", "/api/v1/log/proof", "", "", 422, nil},
		{"GET", entries + "?logIndex=0", entries, "", 200, nil},
		{"GET", entries + "?logIndex=7", entries, "", 404, nil},
		{"GET", entries, "", "", 422, nil},
		{"POST", entries, "", string(other), 201, nil},
		{"POST", entries, "", entry, 409, nil},
		{"POST", entries, "", strings.Replace(entry, `"kind": "hashedrekord"`, `"kind": "cose"`, 1) + "x", 400, nil},
		{"POST", entries, "", strings.Repeat(" ", 4097), 413, nil},
		{"POST", entries, "", entry, 415, []string{"Content-Type", "text/plain"}},
		{"POST", entries, "", "{}", 422, nil},
		{"GET", entries + "/" + uuid, pathEntry, "", 200, nil},
		{"GET", entries + "/" + strings.Repeat("f", 80), pathEntry, "", 400, nil},
		{"GET", entries + "/" + strings.Repeat("1", 64), pathEntry, "", 404, nil},
		{"GET", entries + "/x", pathEntry, "", 422, nil},
		{"POST", retrieve, "", `{"entryUUIDs":["` + uuid + `"],"logIndexes":[0,9]}`, 200, nil},
		{"POST", retrieve, "", `{}`, 200, nil},
		{"POST", retrieve, "", `{`, 400, nil},
		{"POST", retrieve, "", strings.Repeat(" ", 4097), 413, nil},
		{"POST", retrieve, "", `{}`, 415, []string{"Content-Type", "text/plain"}},
		{"POST", retrieve, "", `{"logIndexes":[-1]}`, 422, nil},
		{"POST", search, "", `{"hash":"` + strings.Repeat("a", 64) + `"}`, 200, nil},
		{"POST", search, "", `{`, 400, nil},
		{"POST", search, "", long, 413, nil},
		{"POST", search, "", `{}`, 415, []string{"Content-Type", "text/plain"}},
		{"POST", search, "", `{"hash":"x"}`, 422, nil},
		{"GET", "/ping", "", "", 200, nil},
		{"GET", "/swagger.json", "", "", 200, nil},
	}
	for path, item := range doc.Paths.Map() {
		for method, o := range item.Operations() {
			if o.Responses.Value("406") != nil {
				all = append(all, exchange{method, strings.Replace(path, "{entryUUID}", uuid, 1), path, "", 406, accept})
			}
		}
	}
	seen := map[string]bool{}
	check := func(s *server, e exchange) {
		t.Helper()
		template := e.template
		if template == "" {
			template = e.path
		}
		got := s.do(t, e.method, e.path, e.body, e.header...)
		if got.status != e.status {
			t.Errorf("%s %s: %d %s, want %d", e.method, e.path, got.status, got.body, e.status)
		}
		if err := described(doc, e.method, template, got); err != nil {
			t.Errorf("%s %s: %d %s: %v", e.method, e.path, got.status, got.body, err)
		}
		seen[fmt.Sprint(e.method, " ", template, " ", e.status)] = true
	}
	for _, e := range all {
		check(s, e)
	}
	if got := s.do(t, "GET", "/swagger.json", ""); !bytes.Equal([]byte(got.body), swagger) {
		t.Error("another document is served")
	}

	// Not for everybody, and not so many.
	for status, cfg := range map[int]writes.Config{
		401: {Credentials: func() *writes.Credentials { return &writes.Credentials{Tokens: []writes.Token{{Name: "ci"}}} }},
		403: {Credentials: func() *writes.Credentials { return &writes.Credentials{CAs: x509.NewCertPool()} }},
		429: {PerIP: limit.Limit{Number: 1, Per: time.Hour}},
	} {
		limited := newServerWith(t, 4096, func(c *Config) { c.Writes = writes.New(cfg) })
		limited.do(t, "POST", entries, "")
		check(limited, exchange{"POST", entries, "", entry, status, nil})
	}

	// Disabled, and unavailable.
	off := newServerWith(t, 4096, func(c *Config) { c.Operations = []string{"another"} })
	down := newDownServer(t)
	for path, item := range doc.Paths.Map() {
		for method, o := range item.Operations() {
			e := exchange{method: method, path: strings.Replace(path, "{entryUUID}", uuid[16:], 1), template: path}
			switch {
			case path == "/api/v1/log/proof":
				e.path += "?lastSize=9"
			case path == entries && method == "GET":
				e.path += "?logIndex=0"
			case path == entries:
				e.body = string(vectorNamed(t, "rekord-x509-p256").Request)
			case path == retrieve:
				e.body = `{"logIndexes":[0]}`
			case path == search:
				e.body = `{"hash":"` + strings.Repeat("a", 64) + `"}`
			}
			if o.Responses.Value("501") != nil {
				e.status = 501
				check(off, e)
			}
			if o.Responses.Value("503") != nil {
				e.status = 503
				check(down, e)
			}
		}
	}
	for path, item := range doc.Paths.Map() {
		for method, o := range item.Operations() {
			for status := range o.Responses.Map() {
				if what := method + " " + path + " " + status; !seen[what] {
					t.Errorf("%s is described, and nothing shows it", what)
				}
			}
		}
	}
}

// A downStore answers nothing once it is down.
type downStore struct {
	tlog.Store
	rekor.Index
	down atomic.Bool
}

var errDown = errors.New("the disk is on fire")

func (s *downStore) err() error {
	if s.down.Load() {
		return errDown
	}
	return nil
}

func (s *downStore) Append(ctx context.Context, leaves []tlog.Leaf) ([]tlog.Placed, tlog.Head, error) {
	if err := s.err(); err != nil {
		return nil, tlog.Head{}, err
	}
	return s.Store.Append(ctx, leaves)
}

func (s *downStore) Head(ctx context.Context) (tlog.Head, error) {
	if err := s.err(); err != nil {
		return tlog.Head{}, err
	}
	return s.Store.Head(ctx)
}

func (s *downStore) Entries(ctx context.Context, begin, end uint64) ([]tlog.Entry, error) {
	if err := s.err(); err != nil {
		return nil, err
	}
	return s.Store.Entries(ctx, begin, end)
}

func (s *downStore) Find(ctx context.Context, leaf tlog.Hash) (uint64, bool, error) {
	if err := s.err(); err != nil {
		return 0, false, err
	}
	return s.Store.Find(ctx, leaf)
}

func (s *downStore) Lookup(ctx context.Context, key string) ([]tlog.Hash, error) {
	if err := s.err(); err != nil {
		return nil, err
	}
	return s.Index.Lookup(ctx, key)
}

// newDownServer serves a log of one entry whose storage is shared with others, and does
// not answer any more.
func newDownServer(t *testing.T) *server {
	t.Helper()
	dir := t.TempDir()
	inner, err := sqlite.Open(filepath.Join(dir, "log.db"), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { inner.Close() })
	if _, _, err := inner.Append(t.Context(), []tlog.Leaf{{Value: []byte(`{"an":"entry"}`)}}); err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := checkpoint.NewSigner(fmt.Sprintf("rekor.test - %d", inner.TreeID()), "rekor.test", key)
	if err != nil {
		t.Fatal(err)
	}
	store := &downStore{Store: inner, Index: inner}
	engine, err := tlog.Open(t.Context(), store, tlog.Options{
		Signer: signer, Memory: filepath.Join(dir, "log.memory"), Now: time.Now, Logger: slog.New(slog.DiscardHandler), Shared: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { engine.Close() })
	log, err := rekor.New(rekor.Config{Shards: []rekor.Shard{{Log: engine, TreeID: inner.TreeID(), Signer: key, Index: store}}})
	if err != nil {
		t.Fatal(err)
	}
	s := &server{Server: httptest.NewServer(New(Config{Log: log, MaxBody: 1 << 20, Status: api.Status}))}
	t.Cleanup(s.Close)
	store.down.Store(true)
	return s
}

// TestEnabled serves some operations and takes some kinds.
func TestEnabled(t *testing.T) {
	s := newServerWith(t, 1<<20, func(c *Config) {
		c.Operations, c.Kinds = []string{"createLogEntry", "getLogEntryByUUID"}, []string{"rekord"}
	})
	uuid := s.upload(t, vectorNamed(t, "rekord-x509-p256").Request)
	if got := s.do(t, "GET", "/api/v1/log/entries/"+uuid, ""); got.status != 200 {
		t.Errorf("%d %s", got.status, got.body)
	}
	for _, c := range []struct{ method, path, body, want string }{
		{"GET", "/api/v1/log", "", `501 {"code":501,"message":"getLogInfo API not enabled in this Rekor instance"}` + "\n"},
		{"GET", "/api/v1/log/entries?logIndex=0", "", `501 {"code":501,"message":"getLogEntryByIndex API not enabled in this Rekor instance"}` + "\n"},
		{"POST", "/api/v1/index/retrieve", "{}", `501 {"code":501,"message":"searchIndex API not enabled in this Rekor instance"}` + "\n"},
		{"POST", "/api/v1/log/entries", string(vectorNamed(t, "hashedrekord-p256").Request), `400 {"code":400,"message":"error processing entry: entry kind 'hashedrekord' is not enabled for submission on this server"}` + "\n"},
		{"POST", "/api/v1/log/entries", `{"kind":"nope","apiVersion":"0.0.1","spec":{}}`, `422 {"code":422,"message":"invalid kind value: \"nope\""}`},
		{"POST", "/api/v1/log/entries", `{"kind":7}`, `422 {"code":601,"message":"kind in body must be of type string: \"number\""}`},
	} {
		got := s.do(t, c.method, c.path, c.body)
		if text := fmt.Sprint(got.status, " ", got.body); text != c.want {
			t.Errorf("%s %s: %q, want %q", c.method, c.path, text, c.want)
		}
	}
}
