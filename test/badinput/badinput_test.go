// Package badinput sends the real binary what it must refuse, and measures
// that refusing is cheap. It holds the table of everything that is served
// (routes_test.go), in which a new handler needs its row.
//
// TestBadInput runs all parts against one server over each storage and then asks
// what is left of them: the logs hold exactly what was expected to be accepted, no outbound
// connection was made to a host that a request named, no panic was recovered,
// and goroutines and descriptors are back where they were. TestSlowClients does
// the same for clients that are slow on purpose.
//
// A verdict is always exact: each case says the status that it must get. No
// case may get a 5xx. Every refusal that is read must say in one line what was
// wrong and show nothing of the inside (see checkRefusal).
package badinput

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sigstack/sigstack/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// TestBadInput runs the parts one after the other. The letters are those of the
// rows that they cover.
func TestBadInput(t *testing.T) { overEach(t, badInput) }

// overEach runs a test over each storage, one after the other: some parts
// measure what the server needs.
func overEach(t *testing.T, test func(t *testing.T, o harness.Options)) {
	t.Run("sqlite", func(t *testing.T) { test(t, harness.Options{}) })
	t.Run("mysql", func(t *testing.T) {
		test(t, harness.Options{DSN: harness.SharedMariaDB(t).NewDatabase(t) + harness.Patient})
	})
}

func badInput(t *testing.T, o harness.Options) {
	s := start(t, o)
	for _, part := range []struct {
		name string
		run  func(*suite, *testing.T)
	}{
		{"routes", (*suite).routes},
		{"B1 fields of documents", (*suite).mutatedDocuments},
		{"B1 parameters", (*suite).mutatedParameters},
		{"B1 gRPC", (*suite).badCalls},
		{"B2 keys and certificates", (*suite).badKeys},
		{"B2 chains", (*suite).badChains},
		{"B3 sizes", (*suite).sizes},
		{"B3 headers", (*suite).headers},
		{"B4 cost", (*suite).cost},
		{"B6 DSSE", (*suite).envelopes},
		{"B7 hashedrekord algorithms", (*suite).entryAlgorithms},
		{"B7 proofs of possession", (*suite).proofAlgorithms},
		{"B8 tokens", (*suite).tokens},
		{"B9 issuers", (*suite).issuers},
		{"policy", (*suite).policy},
		{"B10 URLs", (*suite).urls},
		{"B11 paths", (*suite).paths},
		{"B12 series and log lines", (*suite).cardinality},
		{"B14 poison", (*suite).poison},
		{"B15 order", (*suite).order},
	} {
		if !t.Run(part.name, func(t *testing.T) { s.part(t, part.run) }) {
			t.Logf("%s failed; the parts after it run on the same server", part.name)
		}
	}
	t.Logf("%d requests", s.sent.Load())
	s.nothingLeft(t)
}

// A suite is one server and everything that the parts share.
type suite struct {
	*harness.Server
	database bool // it keeps its logs in one, not in files
	idp      *provider
	canary   *canary
	client   *http.Client
	keys     *keys
	ca       *authority

	log   serverLog
	begin usage // before the first part
	sent  atomic.Int64

	mu      sync.Mutex
	t       *testing.T      // of the part that runs
	faults  int             // of the part that runs
	entries map[string]bool // UUIDs that were answered with 201
	scts    map[string]bool // signatures of the SCTs of add-chain and add-pre-chain
	certs   int             // certificates that were issued
}

func start(t *testing.T, o harness.Options) *suite {
	t.Helper()
	return startWith(t, o, newClient(t), "")
}

// startWith is start with more lines of configuration, and the client that they need.
func startWith(t *testing.T, o harness.Options, client *http.Client, more string) *suite {
	t.Helper()
	s := &suite{
		database: o.DSN != "",
		canary:   newCanary(t),
		client:   client,
		keys:     newKeys(t),
		entries:  make(map[string]bool),
		scts:     make(map[string]bool),
		t:        t,
	}
	s.idp = newProvider(t, s.canary)
	config := filepath.Join(t.TempDir(), "sigstack.yaml")
	if err := os.WriteFile(config, append(s.idp.config(), more...), 0o600); err != nil {
		t.Fatal(err)
	}
	o.Args = []string{"--config", config}
	s.Server = harness.StartWith(t, o)
	s.Watch(s.log.read)
	s.ca = openAuthority(t, s.Dir)
	s.warmUp(t)
	s.begin = s.usage(t)
	return s
}

// newClient returns a client with a few connections, which it keeps.
func newClient(t *testing.T) *http.Client {
	transport := &http.Transport{MaxIdleConnsPerHost: workers, MaxConnsPerHost: workers, DisableCompression: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{
		Transport:     transport,
		Timeout:       2 * time.Minute,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// workers is how many requests run at a time: a few keep-alive connections.
const workers = 4

// warmUp uses each part of the server once, so that what it opens for good
// (readers of the database, connections) is open before anything is counted.
func (s *suite) warmUp(t *testing.T) {
	s.part(t, func(s *suite, t *testing.T) {
		for _, r := range table {
			if r.valid != nil {
				s.send(r.valid(s))
			}
		}
		s.crowd(t) // which makes all connections to a database
	})
}

// part runs one part with its own t.
func (s *suite) part(t *testing.T, run func(*suite, *testing.T)) {
	s.mu.Lock()
	before := s.t
	s.t, s.faults = t, 0
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.t = before
		s.mu.Unlock()
	}()
	run(s, t)
}

// fault is Errorf for the part that runs, for the first few faults: a server
// that is wrong everywhere must not fill the log.
func (s *suite) fault(format string, args ...any) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.faults++; s.faults <= 25 {
		s.t.Errorf(format, args...)
	} else {
		s.t.Fail()
	}
}

// each runs f for every index below n, workers at a time.
func each(n int, f func(i int)) {
	var next atomic.Int64
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				f(int(i))
			}
		})
	}
	group.Wait()
}

// A request is one request, and the answer is one answer, both whole.
type request struct {
	method, path string // with the query
	header       http.Header
	body         []byte
	chunked      bool // without Content-Length
}

type answer struct {
	status int
	header http.Header
	body   []byte
}

func get(path string) request { return request{method: "GET", path: path} }

func post(path, media string, body []byte) request {
	return request{method: "POST", path: path, header: http.Header{"Content-Type": {media}}, body: body}
}

func postJSON(path string, body []byte) request { return post(path, "application/json", body) }

func (r request) with(name, value string) request {
	r.header = r.header.Clone()
	if r.header == nil {
		r.header = make(http.Header)
	}
	r.header.Set(name, value)
	return r
}

// send sends a request and books what the server says that it has accepted.
func (s *suite) send(r request) answer {
	s.t.Helper()
	var body io.Reader = bytes.NewReader(r.body)
	if r.chunked {
		body = struct{ io.Reader }{body} // of unknown length
	}
	req, err := http.NewRequest(r.method, s.URL+r.path, body)
	if err != nil {
		s.t.Fatal(err)
	}
	if r.header != nil {
		req.Header = r.header
	}
	res, err := s.client.Do(req)
	if err != nil {
		s.fault("%s %s: %v", r.method, clip(r.path), err)
		return answer{header: http.Header{}}
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		s.fault("%s %s: reading the answer: %v", r.method, clip(r.path), err)
	}
	a := answer{res.StatusCode, res.Header, text}
	s.sent.Add(1)
	s.book(r, a)
	if a.status >= 500 {
		s.fault("%s %s: %d %s\nbody of the request: %s", r.method, clip(r.path), a.status, clip(string(a.body)), clip(string(r.body)))
	}
	if a.status >= 400 && r.method != "HEAD" {
		if err := checkRefusal(r, a); err != nil {
			s.fault("%s %s: %d: %v\n%s", r.method, clip(r.path), a.status, err, clip(string(a.body)))
		}
	}
	return a
}

// book remembers what a server has to hold after this answer.
func (s *suite) book(r request, a answer) {
	path, _, _ := strings.Cut(r.path, "?")
	path = "/" + strings.Trim(path, "/")
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case path == "/api/v1/log/entries" && r.method == "POST" && a.status == http.StatusCreated:
		s.entries[a.header.Get("ETag")] = true
	case strings.HasSuffix(path, "/signingCert") && r.method == "POST" && a.status/100 == 2:
		s.certs++
	case strings.HasPrefix(path, "/ct/v1/add-") && a.status == http.StatusOK:
		var sct struct{ Signature string }
		if json.Unmarshal(a.body, &sct) == nil {
			s.scts[sct.Signature] = true
		}
	}
}

// expect sends a request that must get one status.
func (s *suite) expect(status int, what string, r request) answer {
	s.t.Helper()
	a := s.send(r)
	if a.status != status {
		s.fault("%s: %s %s: %d, want %d\n%s\nbody of the request: %s", what, r.method, clip(r.path), a.status, status, clip(string(a.body)), clip(string(r.body)))
	}
	return a
}

// inside is what no client may read: file names, lines of code, stacks, SQL.
var inside = regexp.MustCompile(`(?i)goroutine \d|\.go:\d|runtime error|nil pointer|\bpanic|sqlite|mariadb|trillian|\bsql\b|error 1\d\d\d \(|/tmp/|/root/|/home/|\.pem\b.*no such|0xc0[0-9a-f]{8}|%!`)

// checkRefusal says what is wrong with the body of an error: it must be one
// line of at most 1.5 KB, in the shape of its protocol.
func checkRefusal(r request, a answer) error {
	path, _, _ := strings.Cut(r.path, "?")
	if inside.Match(a.body) {
		return fmt.Errorf("the answer shows the inside of the server: %q", inside.Find(a.body))
	}
	if len(a.body) > 16<<10 {
		return fmt.Errorf("an error of %d bytes", len(a.body))
	}
	media, _, _ := strings.Cut(a.header.Get("Content-Type"), ";")
	var text string
	switch {
	case len(a.body) == 0:
		// An entry that is not there; what Rekor's clients expect.
		if a.status == http.StatusNotFound && strings.HasPrefix(path, "/api/v1/log/entries") {
			return nil
		}
		return fmt.Errorf("the error has no body")
	case media == "application/json":
		var e struct {
			Message     string `json:"message"`
			Error       string `json:"error"`
			Description string `json:"error_description"`
		}
		if err := json.Unmarshal(a.body, &e); err != nil {
			return fmt.Errorf("the error is not JSON: %v", err)
		}
		text = e.Message
		if text == "" && e.Error != "" {
			text = e.Description
		}
	case media == "application/x-pem-file": // the error of the route that answers in PEM
		var e struct{ Message string }
		if err := json.Unmarshal(a.body, &e); err != nil {
			return fmt.Errorf("the error is not JSON: %v", err)
		}
		text = e.Message
	case media == "text/html":
		return nil // a page; package devoidc tests that it holds no markup of others
	case strings.HasPrefix(path, "/ct/v1/") && media == "text/plain":
		first, rest, ok := strings.Cut(string(a.body), "\n")
		if !ok || first != http.StatusText(a.status) {
			return fmt.Errorf("the first line of the error is %q, want the text of the status", first)
		}
		text = strings.TrimSuffix(rest, "\n")
	case media == "text/plain":
		text = strings.TrimSuffix(string(a.body), "\n")
	default:
		return fmt.Errorf("the error has the media type %q", media)
	}
	switch {
	case len(strings.TrimSpace(text)) < 3:
		return fmt.Errorf("the error does not say what was wrong: %q", text)
	case len(text) > 1536:
		return fmt.Errorf("the message has %d bytes", len(text))
	case strings.ContainsFunc(text, func(c rune) bool { return c < ' ' || c == 0x7f || c == '\u2028' || c == '\u2029' }):
		return fmt.Errorf("the message is not one line of text: %q", text)
	}
	return nil
}

func clip(s string) string {
	if len(s) > 300 {
		return s[:300] + fmt.Sprintf("... (%d bytes)", len(s))
	}
	return s
}

// usage is what the server says about itself.
type usage struct {
	goroutines, descriptors, panics float64
	cpu, allocated                  float64 // seconds and bytes, since the start
	series                          int
	values                          map[string]float64
}

// usage reads /metrics.
func (s *suite) usage(t testing.TB) usage {
	t.Helper()
	res, err := s.client.Get(s.Ops + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	u := usage{values: make(map[string]float64)}
	for line := range strings.Lines(string(text)) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		if i := strings.LastIndex(line, "} "); i >= 0 {
			name, value = line[:i+1], strings.TrimSpace(line[i+2:])
		}
		if !ok || strings.HasPrefix(name, "#") {
			continue
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			t.Fatalf("/metrics: %q", line)
		}
		u.values[name] = v
	}
	u.series = len(u.values)
	for name, to := range map[string]*float64{
		"go_goroutines": &u.goroutines, "process_open_fds": &u.descriptors, "sigstack_http_panics_total": &u.panics,
		"process_cpu_seconds_total": &u.cpu, "go_memstats_alloc_bytes_total": &u.allocated,
	} {
		v, ok := u.values[name]
		if !ok {
			t.Fatalf("/metrics has no %s", name)
		}
		*to = v
	}
	return u
}

// nothingLeft checks the state of the server after all parts.
func (s *suite) nothingLeft(t *testing.T) {
	t.Helper()
	s.t = t
	s.client.CloseIdleConnections()
	s.settled(t)

	var info struct{ TreeSize int }
	s.getJSON(t, "/api/v1/log", &info)
	if info.TreeSize != len(s.entries) {
		t.Errorf("the transparency log has %d entries, %d were acknowledged", info.TreeSize, len(s.entries))
	}
	for i := range info.TreeSize {
		var e map[string]json.RawMessage
		s.getJSON(t, fmt.Sprintf("/api/v1/log/entries?logIndex=%d", i), &e)
		for uuid := range e {
			if !s.entries[uuid] {
				t.Errorf("entry %d, %s, was never acknowledged", i, uuid)
			}
		}
	}
	var sth struct {
		Size int `json:"tree_size"`
	}
	s.getJSON(t, "/ct/v1/get-sth", &sth)
	if want := s.certs + len(s.scts); sth.Size != want {
		t.Errorf("the CT log has %d entries, want %d: %d certificates and %d chains", sth.Size, want, s.certs, len(s.scts))
	}
	s.canary.silent(t)

	// An independent look at everything that was stored.
	checker := harness.NewClient(t)
	checker.Run("sigstack", "fsck", "--url", s.URL)
	s.Stop()
	if !s.database { // fsck reads files
		checker.Run("sigstack", "fsck", "--dir", s.Dir)
	}
	s.log.check(t, s.sent.Load())
}

// settled waits until goroutines and descriptors are where they were.
func (s *suite) settled(t *testing.T) {
	t.Helper()
	const slack = 10
	var now usage
	for deadline := time.Now().Add(30 * time.Second); ; {
		s.client.CloseIdleConnections()
		now = s.usage(t)
		if now.goroutines <= s.begin.goroutines+slack && now.descriptors <= s.begin.descriptors+slack {
			break
		}
		if time.Now().After(deadline) {
			t.Errorf("after 30 s there are %v goroutines and %v descriptors, before there were %v and %v", now.goroutines, now.descriptors, s.begin.goroutines, s.begin.descriptors)
			break
		}
		pause(50 * time.Millisecond)
	}
	if now.panics != 0 {
		t.Errorf("%v panics were recovered", now.panics)
	}
}

// pause is for loops that poll until a deadline.
func pause(d time.Duration) { <-time.After(d) }

// A serverLog looks at every line that the server prints: none is longer than
// 8 KB, each is JSON (but for the banner), and none holds a token.
type serverLog struct {
	mu     sync.Mutex
	lines  int64
	faults []string
}

func (l *serverLog) read(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fault := func(what string) {
		if len(l.faults) < 10 {
			l.faults = append(l.faults, what+": "+clip(line))
		}
	}
	if len(line) > 8<<10 {
		fault(fmt.Sprintf("a line of %d bytes", len(line)))
	}
	if strings.HasPrefix(line, "{") {
		l.lines++
		if !json.Valid([]byte(line)) {
			fault("a line that is not JSON")
		}
	}
	if tokenText.MatchString(line) {
		fault("a token")
	}
}

// check fails the test for each bad line, and if requests were not logged.
func (l *serverLog) check(t *testing.T, requests int64) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, fault := range l.faults {
		t.Errorf("the server's log has %s", fault)
	}
	if l.lines < requests {
		t.Errorf("%d lines in the log for %d requests", l.lines, requests)
	}
}

// tokenText is the beginning of a JWS in compact form.
var tokenText = regexp.MustCompile(`eyJ[A-Za-z0-9_-]{8,}\.eyJ`)

// getJSON reads an answer that must be there.
func (s *suite) getJSON(t *testing.T, path string, to any) {
	t.Helper()
	res, err := s.client.Get(s.URL + path)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	s.sent.Add(1)
	if res.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", path, res.Status)
	}
	if err := json.NewDecoder(res.Body).Decode(to); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

// A canary listens where requests say that something could be fetched. It must
// never hear anything.
type canary struct {
	URL  string // http://127.0.0.1:port
	Host string // 127.0.0.1:port

	heard atomic.Int64
}

func newCanary(t *testing.T) *canary {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &canary{URL: "http://" + l.Addr().String(), Host: l.Addr().String()}
	var accepting sync.WaitGroup
	accepting.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			c.heard.Add(1)
			conn.Close()
		}
	})
	t.Cleanup(func() { l.Close(); accepting.Wait() })
	return c
}

// silent fails the test if the canary heard anything.
func (c *canary) silent(t *testing.T) {
	t.Helper()
	if n := c.heard.Load(); n != 0 {
		t.Errorf("the canary saw %d connections, want none", n)
	}
	// It does hear what comes.
	conn, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", c.Host)
	if err != nil {
		t.Fatal(err)
	}
	io.ReadAll(conn) // returns after the canary has counted
	conn.Close()
	if c.heard.Load() == 0 {
		t.Error("the canary is deaf")
	}
	c.heard.Store(0)
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func marshal(v any) []byte { return must(json.Marshal(v)) }

type object = map[string]any

type array = []any

func hexOf(b []byte) string { return hex.EncodeToString(b) }

func sortedKeys[V any](m map[string]V) []string {
	var names []string
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
