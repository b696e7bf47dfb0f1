package fsck_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/sigstack/sigstack/test/fuzz"
	"github.com/sigstack/sigstack/tlog/fsck"
)

// A tape gives recorded answers, one of which may be replaced.
type tape struct {
	mu      sync.Mutex
	handler http.Handler // records; nil when it plays
	order   []string     // requests in the order in which they first came
	answers map[string][]byte
	replace string // the request whose answer is another
	body    []byte
}

func (p *tape) RoundTrip(r *http.Request) (*http.Response, error) {
	var sent []byte
	if r.Body != nil {
		var err error
		if sent, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
	}
	name := r.Method + " " + r.URL.RequestURI() + " " + string(sent)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.handler != nil {
		w := httptest.NewRecorder()
		again := httptest.NewRequest(r.Method, r.URL.RequestURI(), bytes.NewReader(sent))
		again.Header = r.Header
		p.handler.ServeHTTP(w, again)
		if w.Code != 200 {
			return nil, errors.New(w.Body.String())
		}
		if _, ok := p.answers[name]; !ok {
			p.order = append(p.order, name)
		}
		p.answers[name] = w.Body.Bytes()
	}
	body, ok := p.answers[name]
	status := http.StatusOK
	if !ok {
		status = http.StatusNotFound
	}
	if p.replace == name {
		body = p.body
	}
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(body)), Request: r}, nil
}

// fuzzAnswers replaces one answer of a log. The checker ends, and finds nothing
// wrong only with the tree that the log has signed. An input begins with the
// number of the answer.
func fuzzAnswers(f *testing.F, check func(context.Context, fsck.Options) (fsck.Report, error), o fsck.Options, s *server) {
	run := func(p *tape) (fsck.Report, error) {
		o := o
		o.URL, o.HTTPClient, o.Workers = "http://localhost", &http.Client{Transport: p}, 1
		return check(context.Background(), o)
	}
	recorded := &tape{handler: s.Config.Handler, answers: map[string][]byte{}}
	good, err := run(recorded)
	if err != nil || !good.OK() || len(recorded.order) < 3 {
		f.Fatalf("%d answers, %v, %v", len(recorded.order), good, err)
	}
	var seeds []*fuzz.Node
	for i, name := range recorded.order {
		seeds = append(seeds, fuzz.Seq(fuzz.Leaf([]byte{byte(i)}), fuzz.Look(recorded.answers[name])))
	}
	parse := func(in []byte) (fsck.Report, error) {
		if len(in) == 0 {
			in = []byte{0}
		}
		return run(&tape{answers: recorded.answers, replace: recorded.order[int(in[0])%len(recorded.order)], body: in[1:]})
	}
	// The other answers are checked as well, and a tree that claims to be larger
	// than it is is asked for what it lacks, until the checker has had enough.
	allow := func([]byte) int { return 4 << 20 }
	fuzz.RunWith(f, fuzz.Options{Allow: allow}, seeds, parse, func(t *testing.T, in []byte, r fsck.Report, err error) {
		if len(r.Logs) != 1 {
			t.Fatalf("%d logs", len(r.Logs))
		}
		if err == nil && r.OK() && (r.Logs[0].Size != good.Logs[0].Size || r.Logs[0].Root != good.Logs[0].Root) {
			t.Fatalf("found good: %+v", r.Logs[0])
		}
		var text bytes.Buffer
		if err := r.Write(&text); err != nil || text.Len() > 1<<20 {
			t.Fatalf("a report of %d bytes, %v", text.Len(), err)
		}
	})
}

func FuzzRekorAnswers(f *testing.F) {
	s := newServer(f, 12, 0)
	fuzzAnswers(f, fsck.CheckRekor, fsck.Options{PublicKey: s.rekorKey.Public(), Older: [][]byte{s.notes[2]}}, s)
}

func FuzzCTAnswers(f *testing.F) {
	s := newServer(f, 0, 3)
	fuzzAnswers(f, fsck.CheckCT, fsck.Options{PublicKey: s.ctKey.Public(), Older: [][]byte{s.heads[1]}}, s)
}
