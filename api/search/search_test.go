package search

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"

	"github.com/sigstack/sigstack/api"
	"github.com/sigstack/sigstack/ca/ext"
	"github.com/sigstack/sigstack/storage/sqlite"
	"github.com/sigstack/sigstack/tlog"
	"github.com/sigstack/sigstack/tlog/checkpoint"
	"github.com/sigstack/sigstack/tlog/entry"
	"github.com/sigstack/sigstack/tlog/rekor"
)

// An index counts what is read of it, and fails once it is broken.
type index struct {
	rekor.Index
	broken   atomic.Bool
	postings atomic.Int64
}

func (x *index) Postings(ctx context.Context, key string, in tlog.Span, newest bool, most int) ([]tlog.SearchKey, error) {
	if x.broken.Load() {
		return nil, errors.New("the disk is on fire")
	}
	found, err := x.Index.Postings(ctx, key, in, newest, most)
	x.postings.Add(int64(len(found)))
	return found, err
}

// A fixture is the API over a log whose clock goes on by a second for each entry.
type fixture struct {
	http.Handler
	log   *rekor.Log
	index *index
	key   *ecdsa.PrivateKey
	now   atomic.Int64
	doc   *openapi3.T
	seen  map[string]bool // answers, as "GET /path 200"
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

const begin = 1_800_000_000 // seconds

func newFixture(t testing.TB) *fixture {
	t.Helper()
	f := &fixture{seen: map[string]bool{}, key: must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))}
	f.now.Store(begin)
	now := func() time.Time { return time.Unix(f.now.Load(), 5e8) }
	dir := t.TempDir()
	store := must(sqlite.Open(filepath.Join(dir, "log.db"), now))
	t.Cleanup(func() { store.Close() })
	signer := must(checkpoint.NewSigner(fmt.Sprintf("rekor.test - %d", store.TreeID()), "rekor.test", f.key))
	engine := must(tlog.Open(context.Background(), store, tlog.Options{
		Signer: signer, Memory: filepath.Join(dir, "log.memory"), Now: now, Logger: slog.New(slog.DiscardHandler),
	}))
	t.Cleanup(func() { engine.Close() })
	f.index = &index{Index: store}
	f.log = must(rekor.New(rekor.Config{Shards: []rekor.Shard{{Log: engine, TreeID: store.TreeID(), Signer: f.key, Index: f.index}}}))
	f.Handler = New(Config{Log: f.log, Status: api.Status, Logger: slog.New(slog.DiscardHandler)})
	f.doc = must(openapi3.NewLoader().LoadFromData(openAPI))
	if err := f.doc.Validate(context.Background()); err != nil {
		t.Fatal(err)
	}
	return f
}

// add signs an artifact with a certificate, and adds the entry. It returns the PEM.
func (f *fixture) add(t testing.TB, artifact string, values ext.Values, email string) []byte {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(f.now.Load()), EmailAddresses: []string{email}, NotAfter: time.Unix(begin*2, 0)}
	if values.Issuer != "" {
		template.ExtraExtensions = must(values.Extensions())
	}
	der := must(x509.CreateCertificate(rand.Reader, template, &x509.Certificate{Subject: pkix.Name{CommonName: "ca"}}, f.key.Public(), f.key))
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	digest := sha256.Sum256([]byte(artifact))
	e, err := entry.Propose(fmt.Appendf(nil, `{"kind":"hashedrekord","apiVersion":"0.0.1","spec":{"data":{"hash":{"algorithm":"sha256","value":"%x"}},"signature":{"content":"%s","publicKey":{"content":"%s"}}}}`,
		digest, base64.StdEncoding.EncodeToString(must(ecdsa.SignASN1(rand.Reader, f.key, digest[:]))), base64.StdEncoding.EncodeToString(text)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.log.Create(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	f.now.Add(1)
	return text
}

// do asks, and holds the answer against the description.
func (f *fixture) do(t testing.TB, method, target string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	r := httptest.NewRequest(method, target, nil)
	f.ServeHTTP(w, r)
	item := f.doc.Paths.Value(r.URL.Path)
	described := method
	if item.GetOperation(method) == nil {
		described = "GET" // of which the refusal is described
	}
	operation := item.GetOperation(described)
	response := operation.Responses.Value(strconv.Itoa(w.Code))
	if response == nil {
		t.Fatalf("%s %s: the status %d is not described: %s", method, target, w.Code, w.Body)
	}
	for name := range response.Value.Headers {
		if w.Header().Get(name) == "" {
			t.Errorf("%s %s: %d without the header %s", method, target, w.Code, name)
		}
	}
	err := openapi3filter.ValidateResponse(context.Background(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: r, Route: &routers.Route{Spec: f.doc, Path: r.URL.Path, PathItem: item, Method: described, Operation: operation}},
		Status:                 w.Code, Header: w.Header(), Body: io.NopCloser(strings.NewReader(w.Body.String())),
	})
	if err != nil {
		t.Errorf("%s %s: %v\n%s", method, target, err, w.Body)
	}
	f.seen[fmt.Sprint("GET ", r.URL.Path, " ", w.Code)] = true
	return w
}

// page asks for a page, which must be there.
func (f *fixture) page(t testing.TB, query string) (indexes []uint64, page answer) {
	t.Helper()
	w := f.do(t, "GET", pathSearch+"?"+query)
	if w.Code != http.StatusOK {
		t.Fatalf("%s: %d %s", query, w.Code, w.Body)
	}
	if err := json.Unmarshal(w.Body.Bytes(), &page); err != nil {
		t.Fatal(err)
	}
	for _, e := range page.Entries {
		indexes = append(indexes, e.LogIndex)
	}
	return indexes, page
}

// all follows the pages of a query.
func (f *fixture) all(t testing.TB, query string) (indexes []uint64) {
	t.Helper()
	for cursor := ""; ; {
		some, page := f.page(t, query+cursor)
		if indexes = append(indexes, some...); page.Next == "" {
			return indexes
		}
		cursor = "&cursor=" + page.Next
	}
}

var (
	github = ext.Values{Issuer: "https://token.actions.githubusercontent.com", GitHubWorkflowSHA: strings.Repeat("ab", 20), GitHubWorkflowRepository: "Acme/Widget",
		SourceRepositoryURI: "https://github.com/Acme/Widget", SourceRepositoryDigest: strings.Repeat("cd", 20)}
	google = ext.Values{Issuer: "https://accounts.google.com"}
)

// TestSearch asks for entries by all that they can be found by.
func TestSearch(t *testing.T) {
	f := newFixture(t)
	commit := strings.Repeat("0123456789abcdef01", 3)[:40]
	f.add(t, "zero", google, "Alice@example.com")
	f.add(t, "one", github, "alice@example.com")
	last := f.add(t, "two", google, "bob@example.com")
	f.add(t, commit, ext.Values{}, "alice@example.org") // as gitsign does it
	f.add(t, "zero", github, "bob@example.com")
	for query, want := range map[string][]uint64{
		"":                                 {4, 3, 2, 1, 0},
		"order=oldest":                     {0, 1, 2, 3, 4},
		"email=ALICE@example.com":          {1, 0},
		"subject=bob@example.com":          {4, 2},
		"email=alice@example.co":           nil,
		"email=alice@example&prefix=email": {3, 1, 0},
		"subject=ali&prefix=subject":       {3, 1, 0},
		"hash=" + hexSum("zero"):           {4, 0},
		"hash=sha256:" + hexSum("zero"):    {4, 0},
		"hash=" + hexSum(string(last)):     {2}, // of a certificate
		"publicKey=" + url.QueryEscape(base64.StdEncoding.EncodeToString(last)):        {2},
		"publicKeyFormat=x509&publicKey=" + base64.RawURLEncoding.EncodeToString(last): {2},
		"issuer=HTTPS://accounts.google.com":                                           {2, 0},
		"issuer=https:&prefix=issuer&order=oldest":                                     {0, 1, 2, 4},
		"issuer=accounts":                                                                    nil,
		"repository=acme/widget":                                                             {4, 1},
		"repository=https://github.com/acme/widget":                                          {4, 1},
		"repository=https://github.com/acme/&prefix=repository":                              {4, 1},
		"commit=" + strings.Repeat("AB", 20):                                                 {4, 1},
		"commit=" + strings.Repeat("cd", 20):                                                 {4, 1},
		"commit=" + commit:                                                                   {3},
		"issuer=https://accounts.google.com&email=alice@example.com":                         {0},
		"hash=" + hexSum("zero") + "&repository=acme/widget":                                 {4},
		"hash=" + hexSum("one") + "&email=bob@example.com":                                   nil,
		"email=bob@example.com&repository=acme/widget&commit=" + strings.Repeat("cd", 20):    {4},
		"from=2027-01-15T08:00:02Z":                                                          {4, 3, 2},
		"to=2027-01-15T08:00:02Z":                                                            {2, 1, 0},
		"from=2027-01-15T08:00:02Z&to=2027-01-15T08:00:02Z":                                  {2},
		"from=2027-01-15T08:00:02.1Z&to=2027-01-15T08:00:03.9Z":                              {3},
		"from=2027-01-15T10:00:03%2B02:00&email=bob@example.com":                             {4},
		"to=1970-01-01T00:00:00Z":                                                            nil,
		"from=2100-01-01T00:00:00Z":                                                          nil,
		"order=oldest&from=2027-01-15T08:00:01Z&to=2027-01-15T08:00:03Z&email=x%40y.example": nil,
	} {
		for _, limit := range []string{"", "&limit=1", "&limit=2", "&limit=100&full=true"} {
			if got := f.all(t, query+limit); !slices.Equal(got, want) {
				t.Errorf("%s finds %v, want %v", query+limit, got, want)
			}
		}
	}

	_, page := f.page(t, "repository=acme/widget&limit=1&full=true")
	hit := page.Entries[0]
	proven := must(f.log.ByIndex(t.Context(), 4))
	if hit.UUID != proven.UUID || hit.IntegratedTime != begin+4 || hit.Kind != "hashedrekord" || hit.APIVersion != "0.0.1" || page.TreeSize != 5 {
		t.Errorf("%+v", hit)
	}
	if fmt.Sprint(hit.Hashes, hit.Names, hit.Issuers, hit.Repositories, hit.Commits) !=
		fmt.Sprint([]string{"sha256:" + hexSum("zero")}, []string{"bob@example.com"}, []string{github.Issuer}, []string{"Acme/Widget", "https://github.com/Acme/Widget"},
			[]string{strings.Repeat("ab", 20), strings.Repeat("cd", 20)}) || len(hit.PublicKeys) != 1 {
		t.Errorf("%+v", hit)
	}
	if e := hit.Entry; e == nil || string(e.Body) != string(proven.Body) || e.LogID != proven.LogID || len(e.Verification.InclusionProof.Hashes) != len(proven.Proof.Hashes) || string(e.Verification.SignedEntryTimestamp) != string(proven.SET) {
		t.Errorf("%+v, want %+v", hit.Entry, proven)
	}

	// The search of Rekor finds what it found before.
	for _, key := range []string{"issuer:https://accounts.google.com", "Issuer:https://accounts.google.com", "Repository:acme/widget", "Commit:" + strings.Repeat("ab", 20), "acme/widget"} {
		if found, err := f.log.Search(t.Context(), []string{key}, false); err != nil || len(found) > 0 {
			t.Errorf("Rekor's search for %q finds %v, %v", key, found, err)
		}
	}
}

func hexSum(s string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(s))) }

// TestGrowing reads pages while entries are added: none is there twice, none of those
// that were there is missing, and a page reads no more than it has.
func TestGrowing(t *testing.T) {
	f := newFixture(t)
	const size = 60
	for n := range size {
		f.add(t, fmt.Sprint("artifact ", n), google, []string{"even@example.com", "odd@example.com"}[n%2])
	}
	for _, order := range []string{"newest", "oldest"} {
		var got []uint64
		before := f.index.postings.Load()
		for cursor := ""; ; {
			some, page := f.page(t, "email=odd@example.com&issuer="+google.Issuer+"&limit=7&order="+order+cursor)
			got = append(got, some...)
			f.add(t, "more "+order+cursor, google, "odd@example.com")
			if page.Next == "" {
				break
			}
			cursor = "&cursor=" + page.Next
			if len(got) > size {
				break // it grows as fast as it is read
			}
		}
		if read := f.index.postings.Load() - before; read > 64*int64(len(got)) {
			t.Errorf("%d postings were read for %d entries", read, len(got))
		}
		if order == "newest" {
			slices.Reverse(got)
		}
		if !slices.IsSorted(got) || len(slices.Compact(slices.Clone(got))) != len(got) {
			t.Errorf("%s first: %v", order, got)
		}
		for n := uint64(1); n < size; n += 2 {
			if !slices.Contains(got, n) {
				t.Errorf("%s first: entry %d is missing", order, n)
			}
		}
	}

	// Of two keys that no entry has both of, a page is short and the search goes on.
	if got := f.all(t, "email=odd@example.com&subject=even@example.com&limit=5"); len(got) > 0 {
		t.Errorf("odd and even are %v", got)
	}

	// A prefix of too many names is refused; so is a cursor of another search.
	for n := range 51 {
		f.add(t, "x", google, fmt.Sprintf("many%d@example.com", n))
	}
	_, page := f.page(t, "limit=3&full=true")
	if some, _ := f.page(t, "limit=3&cursor="+page.Next); len(some) != 3 || some[0] != page.Entries[2].LogIndex-1 {
		t.Errorf("the page after %d begins with %v", page.Entries[2].LogIndex, some)
	}
	for query, want := range map[string]string{
		"email=many&prefix=email":               "more than 50 names begin so",
		"cursor=" + page.Next + "&order=oldest": "cursor: want next",
		"cursor=" + page.Next + "&email=a@b.c":  "cursor: want next",
		"cursor=" + page.Next[:20]:              "cursor: want next",
		"cursor=" + page.Next + "A":             "cursor: want next",
		"cursor=!":                              "cursor: want next",
		"limit=0":                               "limit: want a number from 1 to 100",
		"limit=101":                             "limit: want a number from 1 to 100",
		"limit=x":                               "limit: want a number from 1 to 100",
		"limit=5&limit=6":                       "limit: it is there 2 times",
		"email=":                                "email: want UTF-8 that is not empty",
		"email=%ff":                             "email: want UTF-8 that is not empty",
		"mail=x":                                "there is no parameter",
		"email=%zz":                             "not encoded",
		"email=ab&prefix=email":                 "it needs 3 bytes",
		"email=abcdef&prefix=email":             "more than hexadecimal digits",
		"prefix=email":                          `prefix: there is no parameter "email"`,
		"prefix=hash&hash=" + hexSum(""):        "is not one of email, subject",
		"hash=abc":                              "hash: want the hexadecimal digits",
		"hash=sha1:" + hexSum(""):               "hash: want the hexadecimal digits",
		"hash=" + strings.Repeat("x", 64):       "hash: want the hexadecimal digits",
		"commit=abc":                            "commit: want its 40 or 64",
		"commit=" + strings.Repeat("g", 40):     "commit: want its 40 or 64",
		"publicKey=!":                           "publicKey: want base64",
		"publicKey=QUJD":                        "publicKey: want base64 of a key of the format x509",
		"publicKey=QUJD&publicKeyFormat=pgp":    "of the format pgp",
		"publicKeyFormat=pgp":                   "there is no publicKey",
		"publicKey=QUJD&publicKeyFormat=rot13":  "is not one of x509",
		"order=up":                              "is not one of newest, oldest",
		"full=1":                                "is not one of false, true",
		"from=yesterday":                        "is not a time such as",
		"from=2027-01-02T00:00:00Z&to=2027-01-01T00:00:00Z": "to: it is before from",
		"issuer=" + strings.Repeat("x", 600):                "it is too long",
		strings.Repeat("&", 30):                             "more than 20 parameters",
	} {
		if w := f.do(t, "GET", pathSearch+"?"+query); w.Code != http.StatusBadRequest || !strings.Contains(strings.ReplaceAll(w.Body.String(), `\"`, `"`), want) {
			t.Errorf("%s: %d %s, want %q", query, w.Code, w.Body, want)
		}
	}
}

// TestDescription sees every answer that is described.
func TestDescription(t *testing.T) {
	f := newFixture(t)
	f.add(t, "zero", google, "alice@example.com")
	f.page(t, "full=true")
	f.do(t, "GET", pathSearch+"?x=y")
	f.do(t, "POST", pathSearch)
	f.do(t, "DELETE", pathOpenAPI)
	if w := f.do(t, "GET", pathOpenAPI); w.Body.String() != string(openAPI) {
		t.Error("another document is served")
	}
	f.index.broken.Store(true)
	f.do(t, "GET", pathSearch+"?email=alice@example.com")
	var routes []string
	for path, item := range f.doc.Paths.Map() {
		for method, o := range item.Operations() {
			routes = append(routes, method+" "+path)
			for status := range o.Responses.Map() {
				if what := method + " " + path + " " + status; !f.seen[what] {
					t.Errorf("%s is described, and nothing shows it", what)
				}
			}
		}
	}
	if slices.Sort(routes); !slices.Equal(routes, Routes()) {
		t.Errorf("described %v, served %v", routes, Routes())
	}
	var named []string
	for _, p := range f.doc.Paths.Value(pathSearch).Get.Parameters {
		named = append(named, p.Value.Name)
	}
	if slices.Sort(named); !slices.Equal(named, parameters) {
		t.Errorf("parameters %v, want %v", named, parameters)
	}
}
