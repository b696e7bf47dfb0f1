// Package compare sends the same requests to sigstack and to the public
// implementation of its Rekor v1 API and compares the answers.
//
//	scripts/compare-with-rekor
//
// What is compared of each pair of answers is in func compare, what may differ in
// the table differences, which docs/rekor.md tells to people.
package compare

import (
	"bytes"
	"cmp"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql"

	"github.com/sigstack/sigstack/test/harness"
	"github.com/sigstack/sigstack/test/mutate"
)

// binaries is where the script has installed the programs of the public
// implementation. Nothing else here needs a binary.
const binaries = "VERSUS"

func TestMain(m *testing.M) {
	if os.Getenv(binaries) == "" {
		os.Exit(m.Run())
	}
	os.Exit(harness.Main(m))
}

// TestCompareWithRekor compares 10,000 answers and more.
//
//	COMPARE_SEED=2 scripts/compare-with-rekor     other ones
func TestCompareWithRekor(t *testing.T) {
	bin := os.Getenv(binaries)
	if bin == "" {
		t.Skip("scripts/compare-with-rekor installs what this needs")
	}
	seed := uint64(1)
	if s := os.Getenv("COMPARE_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	db := harness.StartMariaDB(t)
	dsn := db.NewDatabase(t)
	server := harness.Start(t)
	programs := harness.NewPrograms(t, bin)
	r := &run{
		t: t, seed: seed, ours: newSide(server.URL), theirs: newSide("http://" + programs.Rekor(dsn)),
		sent: make(map[string]int), agree: make(map[string]int),
	}

	for _, s := range []*side{r.ours, r.theirs} {
		s.look(t)
	}
	proposals := slices.Concat(vectors(t), fresh(t))
	r.send(r.additions(proposals))
	r.send(r.changes(proposals))
	r.settle(dsn)
	r.send(r.reads(proposals))
	r.report()
}

// A side is one of the two servers.
type side struct {
	url    string
	client *http.Client

	mu   sync.Mutex          // guards what follows
	log  map[string]logEntry // by leaf hash
	keys []string            // of the search index

	// Of the log, once it rests.
	tree int64
	size uint64
}

func newSide(url string) *side {
	return &side{url: url, log: make(map[string]logEntry), client: &http.Client{
		Timeout:       time.Minute,
		Transport:     &http.Transport{MaxIdleConnsPerHost: workers, DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// look reads what the log says of itself.
func (s *side) look(t *testing.T) {
	t.Helper()
	a := s.send(request{method: "GET", path: "/api/v1/log"})
	var info struct {
		TreeID   string
		TreeSize uint64
	}
	if err := json.Unmarshal(a.body, &info); err != nil {
		t.Fatalf("%s: %v: %s", s.url, err, a.body)
	}
	s.tree, s.size = must(strconv.ParseInt(info.TreeID, 10, 64)), info.TreeSize
}

// uuid is the ID of an entry.
func (s *side) uuid(leaf string) string { return fmt.Sprintf("%016x%s", s.tree, leaf) }

// A request is sent to both sides, if not for the numbers of their own trees.
type request struct {
	name   string // tells it from all others
	kind   string // what it asks for: create, retrieve, search, read, place (of the log), protocol
	seed   string // the document that was changed, if one was
	change mutate.Mutation
	method string
	path   string // as it is sent
	header http.Header
	body   []byte
}

func (r request) with(name, value string) request {
	r.header = r.header.Clone()
	if r.header == nil {
		r.header = http.Header{}
	}
	r.header.Set(name, value)
	return r
}

func post(name, kind, path string, body []byte) request {
	return request{name: name, kind: kind, method: "POST", path: path, body: body}.with("Content-Type", "application/json")
}

// An answer is what a side says.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (s *side) send(r request) answer {
	u := must(url.Parse(s.url))
	if u.Opaque = r.path; strings.HasPrefix(r.path, "//") { // else the path as it is
		u.Opaque, u.Path = "", r.path
	}
	req := &http.Request{Method: r.method, URL: u, Host: u.Host, Header: r.header.Clone(), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}
	if req.Header == nil {
		req.Header = http.Header{}
	}
	if r.body != nil {
		req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(r.body)), int64(len(r.body))
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(r.body)), nil }
	}
	resp, err := s.client.Do(req)
	if err != nil {
		// A handler that panics ends the connection.
		return answer{header: http.Header{}, body: []byte(err.Error())}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return answer{header: http.Header{}, body: []byte(err.Error())}
	}
	a := answer{resp.StatusCode, resp.Header, body}
	if a.status == http.StatusCreated {
		s.remember(a)
	}
	return a
}

// remember books a new entry.
func (s *side) remember(a answer) {
	for uuid, e := range entries(a.body) {
		s.mu.Lock()
		s.log[leafOf(uuid)] = e
		s.mu.Unlock()
	}
}

type logEntry struct {
	Body     []byte
	LogIndex uint64
}

func entries(body []byte) map[string]logEntry {
	var all map[string]logEntry
	if json.Unmarshal(body, &all) != nil {
		return nil
	}
	return all
}

func leafOf(uuid string) string { return uuid[max(0, len(uuid)-64):] }

// A pair is one request as each side is sent it.
type pair struct{ ours, theirs request }

func both(r request) pair { return pair{r, r} }

// workers send requests at a time.
const workers = 16

type run struct {
	t            *testing.T
	seed         uint64
	ours, theirs *side

	mu    sync.Mutex     // guards what follows
	sent  map[string]int // requests by what they ask for
	agree map[string]int // answers by status where both gave the same
	class int            // answers of the same class with another status
	found []difference
}

// A difference is one between two answers to a request.
type difference struct {
	request      request // as it was sent to us
	what         string  // status, header NAME, body
	ours, theirs string  // of that
	a, b         answer
}

// send sends lanes of requests, each in its order.
func (r *run) send(lanes [][]pair) {
	next := make(chan []pair)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for lane := range next {
				for _, p := range lane {
					r.one(p)
				}
			}
		})
	}
	for _, lane := range lanes {
		next <- lane
	}
	close(next)
	wg.Wait()
}

func (r *run) one(p pair) {
	var a, b answer
	var wg sync.WaitGroup
	wg.Go(func() { a = r.ours.send(p.ours) })
	wg.Go(func() { b = r.theirs.send(p.theirs) })
	wg.Wait()
	found := r.compare(p.ours, a, b)
	r.mu.Lock()
	defer r.mu.Unlock()
	if a.status != b.status && took(a) && took(b) && slices.ContainsFunc(r.found, func(d difference) bool {
		return d.request.seed == p.ours.seed && took(d.a) != took(d.b)
	}) {
		// Only one side has taken another change that gives the same entry.
		found = nil
	}
	r.sent[p.ours.kind]++
	r.found = append(r.found, found...)
	switch {
	case a.status == b.status:
		r.agree[strconv.Itoa(a.status)]++
	case a.status/100 == b.status/100:
		r.class++
	}
}

// took says whether an entry is in the log.
func took(a answer) bool { return a.status == http.StatusCreated || a.status == http.StatusConflict }

// headers are those that are compared; Content-Length, Date and the IDs of
// requests are of no use for that.
var headers = []string{
	"Content-Type", "Location", "Etag", "Allow", "Cache-Control", "Pragma", "Expires", "Vary", "X-Accel-Expires", "Retry-After",
	"Access-Control-Allow-Origin", "Access-Control-Allow-Methods", "Access-Control-Allow-Headers", "Access-Control-Max-Age",
	"Access-Control-Expose-Headers", "Access-Control-Allow-Credentials",
}

// compare returns what differs. The rest is looked at only where the statuses are
// the same.
func (r *run) compare(req request, a, b answer) []difference {
	var found []difference
	differ := func(what, ours, theirs string) {
		found = append(found, difference{req, what, ours, theirs, a, b})
	}
	if a.status != b.status {
		differ("status", strconv.Itoa(a.status), strconv.Itoa(b.status))
		return found
	}
	for _, name := range headers {
		ours, theirs := r.ours.plain(name, a.header), r.theirs.plain(name, b.header)
		if ours != theirs {
			differ("header "+name, ours, theirs)
		}
	}
	if ours, theirs := r.meaning(req, r.ours, a), r.meaning(req, r.theirs, b); ours != theirs {
		differ("body", ours, theirs)
	}
	return found
}

// plain is the values of a header without the ID of the tree, and in order where
// there is none.
func (s *side) plain(name string, h http.Header) string {
	text := strings.Join(h[name], "\n")
	if name == "Allow" {
		list := strings.Split(text, ",")
		slices.Sort(list)
		text = strings.Join(list, ",")
	}
	return strings.ReplaceAll(text, fmt.Sprintf("%016x", s.tree), "<tree>")
}

// meaning is what both sides must say in a body: of entries their leaf hashes and
// bodies, of a search what it finds, of all else the members and their types; of an
// error its code too. How an answer of success ends is compared as well.
func (r *run) meaning(req request, s *side, a answer) string {
	var v any
	d := json.NewDecoder(bytes.NewReader(a.body))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		switch {
		case bytes.HasPrefix(a.body, []byte("-----BEGIN PUBLIC KEY-----\n")) && bytes.HasSuffix(a.body, []byte("\n-----END PUBLIC KEY-----\n")):
			return "a key"
		case len(a.body) > 100:
			return "text"
		}
		return string(a.body)
	}
	end := ""
	if a.status < 400 && bytes.HasSuffix(a.body, []byte("\n")) {
		end = " newline"
	}
	if req.kind == "search" && a.status == http.StatusOK {
		var uuids []string
		for _, uuid := range v.([]any) {
			// Of entries that one side has refused more is said elsewhere.
			if leaf := leafOf(uuid.(string)); r.common(leaf) {
				uuids = append(uuids, leaf)
			}
		}
		slices.Sort(uuids)
		return strings.Join(uuids, " ") + end
	}
	if found, ok := v.([]any); ok && req.kind == "retrieve" {
		// As above.
		v = slices.DeleteFunc(found, func(e any) bool {
			m, ok := e.(map[string]any)
			return ok && !slices.ContainsFunc(slices.Collect(maps.Keys(m)), func(uuid string) bool { return r.common(leafOf(uuid)) })
		})
	}
	if req.kind == "place" {
		return fmt.Sprint(len(entries(a.body)), " entries", end) // there is another one in each log
	}
	var b strings.Builder
	shape(&b, v, "")
	return b.String() + end
}

// common says whether both sides have an entry.
func (r *run) common(leaf string) bool {
	for _, s := range []*side{r.ours, r.theirs} {
		s.mu.Lock()
		_, ok := s.log[leaf]
		s.mu.Unlock()
		if !ok {
			return false
		}
	}
	return true
}

// shape writes the members of a document and their types, and the values of those
// that are the same in every log.
func shape(b *strings.Builder, v any, name string) {
	switch v := v.(type) {
	case map[string]any:
		b.WriteByte('{')
		for _, member := range slices.Sorted(maps.Keys(v)) {
			shown := member
			if isUUID(member) {
				shown = leafOf(member)
			}
			b.WriteString(shown + ":")
			shape(b, v[member], member)
			b.WriteByte(' ')
		}
		b.WriteByte('}')
	case []any:
		b.WriteByte('[')
		for _, e := range v {
			if name == "hashes" { // there are as many as the tree is deep
				break
			}
			shape(b, e, name)
			b.WriteByte(' ')
		}
		b.WriteByte(']')
	case string:
		switch name {
		case "body":
			b.WriteString(v)
		case "message":
			b.WriteString("text")
		default:
			b.WriteString(textShape(v))
		}
	case json.Number:
		if name == "code" {
			b.WriteString(v.String())
			return
		}
		b.WriteString("number")
	default:
		fmt.Fprintf(b, "%v", v)
	}
}

func isUUID(s string) bool {
	_, err := hex.DecodeString(s)
	return err == nil && len(s) == 80
}

// textShape says what kind of text it is.
func textShape(s string) string {
	switch {
	case isUUID(s):
		return leafOf(s)
	case len(s) == 64 && !strings.ContainsFunc(s, func(c rune) bool { return !strings.ContainsRune("0123456789abcdef", c) }):
		return "hash"
	case strings.Contains(s, "\n\n\u2014 "):
		return fmt.Sprintf("checkpoint of %d lines", strings.Count(s, "\n"))
	case strings.HasPrefix(s, "-----BEGIN PUBLIC KEY-----\n"):
		return "a key"
	case strings.Trim(s, "0123456789") == "":
		return "digits"
	}
	return "text"
}

// settle returns when their search index, which is written behind the answers, has
// every entry, and when nothing changes any more.
func (r *run) settle(dsn string) {
	for _, s := range []*side{r.ours, r.theirs} {
		s.look(r.t)
	}
	conn, err := sql.Open("mysql", dsn)
	if err != nil {
		r.t.Fatal(err)
	}
	defer conn.Close()
	limit := time.Now().Add(30 * time.Second)
	for n := -1; ; <-time.After(100 * time.Millisecond) {
		if err := conn.QueryRow("SELECT COUNT(DISTINCT EntryUUID) FROM EntryIndex").Scan(&n); err != nil {
			r.t.Fatal(err)
		}
		if n >= len(r.theirs.log) {
			break
		}
		if time.Now().After(limit) {
			r.t.Logf("their index has %d of %d entries", n, len(r.theirs.log))
			break
		}
	}
	rows, err := conn.Query("SELECT DISTINCT EntryKey FROM EntryIndex")
	if err != nil {
		r.t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var key string
		if err := rows.Scan(&key); err != nil {
			r.t.Fatal(err)
		}
		r.theirs.keys = append(r.theirs.keys, key)
	}
	if err := rows.Err(); err != nil {
		r.t.Fatal(err)
	}
	slices.Sort(r.theirs.keys)
	r.ours.keys = r.theirs.keys
}

// report fails the test for what the table does not expect, and says how often
// each of its rows was met.
func (r *run) report() {
	total := 0
	for _, n := range r.sent {
		total += n
	}
	r.t.Logf("seed %d: %d requests, %v; the same status: %v; another one of the same class: %d", r.seed, total, r.sent, r.agree, r.class)
	if total < 10_000 {
		r.t.Errorf("%d requests, want at least 10,000", total)
	}
	met := make([]int, len(differences))
	var unexpected []difference
	for _, d := range r.found {
		i := slices.IndexFunc(differences, func(e expected) bool { return e.when != nil && e.when(d) })
		if i < 0 {
			unexpected = append(unexpected, d)
			continue
		}
		met[i]++
	}
	for i, e := range differences {
		if e.by != "" {
			r.t.Logf("   by  %s: %s", e.by, e.row)
			continue
		}
		r.t.Logf("%5d  %s", met[i], e.row)
		if met[i] == 0 && r.seed == 1 {
			r.t.Errorf("nothing differed as the table says: %s", e.row)
		}
	}
	slices.SortStableFunc(unexpected, func(a, b difference) int {
		return cmp.Or(cmp.Compare(a.what, b.what), cmp.Compare(a.ours+"/"+a.theirs, b.ours+"/"+b.theirs), cmp.Compare(a.request.name, b.request.name))
	})
	for _, d := range unexpected {
		r.t.Errorf("%s: %s: %s, theirs %s\n\tsent   %s %s %s\n\tours   %s\n\ttheirs %s", d.request.name, d.what, clip(d.ours), clip(d.theirs),
			d.request.method, d.request.path, clip(string(d.request.body)), clip(string(d.a.body)), clip(string(d.b.body)))
	}
}

func clip(s string) string {
	if len(s) > 300 {
		return fmt.Sprintf("%q... (%d bytes)", s[:300], len(s))
	}
	return strconv.Quote(s)
}
