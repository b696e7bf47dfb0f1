package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/sigstack/sigstack/api/writes"
	"github.com/sigstack/sigstack/ca"
	"github.com/sigstack/sigstack/ca/identity"
	"github.com/sigstack/sigstack/ca/policy"
	"github.com/sigstack/sigstack/tlog"
	"github.com/sigstack/sigstack/tlog/ct"
	"github.com/sigstack/sigstack/tlog/entry"
	"github.com/sigstack/sigstack/tlog/rekor"
)

// newServer serves a mux with one good path, one that panics before and one
// that panics after it has written.
func newServer(t *testing.T) (*httptest.Server, *Metrics, *prometheus.Registry, *bytes.Buffer) {
	var log bytes.Buffer
	registry := prometheus.NewRegistry()
	metrics := NewMetrics(registry)
	mux := http.NewServeMux()
	mux.HandleFunc("/", NotFound)
	mux.HandleFunc("/tile/", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.URL.Path) })
	mux.HandleFunc("GET /id", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, RequestID(r.Context())) })
	mux.HandleFunc("/panic", func(http.ResponseWriter, *http.Request) { panic("planted secret") })
	mux.HandleFunc("/late", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "begun"); panic("planted secret") })
	logger := slog.New(slog.NewJSONHandler(&log, nil))
	s := NewServer(Wrap(mux, metrics, Proxies{}, logger), logger)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ts := &httptest.Server{Listener: l, Config: s}
	ts.Start()
	t.Cleanup(ts.Close)
	return ts, metrics, registry, &log
}

func get(t *testing.T, req *http.Request) (*http.Response, string) {
	t.Helper()
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var body bytes.Buffer
	if _, err := body.ReadFrom(resp.Body); err != nil {
		t.Fatal(err)
	}
	return resp, body.String()
}

func TestRequestID(t *testing.T) {
	ts, _, _, log := newServer(t)
	for id, keep := range map[string]bool{
		"abc-123_x.y:z":          true,
		strings.Repeat("a", 128): true,
		strings.Repeat("a", 129): false,
		"a b":                    false,
		`a"b`:                    false,
		"":                       false,
	} {
		req, _ := http.NewRequest("GET", ts.URL+"/id", nil)
		req.Header.Set("X-Request-Id", id)
		resp, body := get(t, req)
		if (body == id) != keep || body == "" || resp.Header.Get("X-Request-Id") != body {
			t.Errorf("%q: the handler sees %q, the client %q", id, body, resp.Header.Get("X-Request-Id"))
		}
	}
	ts.Close() // the log is written after the answer
	lines := bufio.NewScanner(log)
	for n := 0; lines.Scan(); n++ {
		var line struct {
			Msg, Method, Path, Request_id string
			Status                        int
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil || line.Msg != "request" || line.Method != "GET" || line.Path != "/id" || line.Status != 200 || line.Request_id == "" {
			t.Errorf("access log line %d: %s (%v)", n, lines.Text(), err)
		}
	}
}

func TestPanics(t *testing.T) {
	ts, metrics, _, log := newServer(t)
	req, _ := http.NewRequest("GET", ts.URL+"/panic", nil)
	resp, body := get(t, req)
	if resp.StatusCode != 500 || strings.Contains(body, "planted") || !strings.Contains(body, resp.Header.Get("X-Request-Id")) {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	req, _ = http.NewRequest("GET", ts.URL+"/late", nil)
	if resp, body = get(t, req); resp.StatusCode != 200 || body != "begun" {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	if n := testutil.ToFloat64(metrics.panics); n != 2 {
		t.Errorf("%v panics are counted, want 2", n)
	}
	ts.Close()
	if n := strings.Count(log.String(), "planted secret"); n != 2 {
		t.Errorf("the log has %d of the 2 panics", n)
	}
}

// TestPaths sends paths as they are, without a client that cleans them.
func TestPaths(t *testing.T) {
	ts, _, registry, _ := newServer(t)
	for path, want := range map[string]int{
		"/tile/0/000":                   200,
		"//tile/0/000":                  200, // a base URL with a slash at its end
		"/tile/":                        200,
		"/":                             404,
		"/tile/0/%2e%2e/%2e%2e/etc":     404,
		"/tile/../etc/passwd":           404,
		"/tile/0/..%2f..%2fetc":         404,
		"/tile//0/000":                  404,
		"/tile/0/./000":                 404,
		`/tile/0\..\etc`:                404,
		"/tile/0/%00":                   404,
		"/nonsense":                     404,
		"/" + strings.Repeat("a", 9000): 404,
	} {
		conn, err := net.Dial("tcp", ts.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n", path)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if resp.StatusCode != want {
			t.Errorf("%s: %d, want %d", path, resp.StatusCode, want)
		}
		conn.Close()
	}
	ts.Close()
	// However many paths and methods clients invent, the series stay few.
	for range 50 {
		ts, _, registry, _ = newServer(t)
	}
	for n := range 200 {
		req, _ := http.NewRequest(fmt.Sprintf("M%d", n), fmt.Sprintf("%s/p%d", ts.URL, n), nil)
		get(t, req)
	}
	ts.Close()
	if n, err := testutil.GatherAndCount(registry, "sigstack_http_requests_total"); err != nil || n != 1 {
		t.Errorf("%d series (%v), want 1", n, err)
	}
}

func TestStatus(t *testing.T) {
	wrap := func(err error) error { return fmt.Errorf("somewhere: %w", err) }
	for _, c := range []struct {
		err  error
		want int
	}{
		{nil, 200},
		{wrap(entry.ErrInvalid), 400},
		{wrap(&rekor.InputError{Text: "x"}), 400},
		{wrap(identity.ErrToken), 400},
		{wrap(ca.ErrRequest), 400},
		{wrap(ct.ErrChain), 400},
		{wrap(writes.ErrCredentials), 401},
		{wrap(policy.ErrDenied), 403},
		{wrap(writes.ErrForbidden), 403},
		{wrap(tlog.ErrNotFound), 404},
		{wrap(&rekor.ExistsError{UUID: "x"}), 409},
		{wrap(tlog.ErrTooLarge), 413},
		{wrap(&http.MaxBytesError{Limit: 1}), 413},
		{wrap(&entry.SchemaError{Code: 602, Message: "x"}), 422},
		{wrap(policy.ErrLimited), 429},
		{wrap(writes.ErrLimited), 429},
		{wrap(context.Canceled), 499},
		{wrap(errors.New("anything else")), 500},
		{wrap(tlog.ErrIntegrity), 500},
		{fmt.Errorf("%w: %w", ca.ErrUnavailable, tlog.ErrIntegrity), 500},
		{wrap(tlog.ErrUnavailable), 503},
		{fmt.Errorf("%w: %w", tlog.ErrUnavailable, tlog.ErrClock), 503},
		{fmt.Errorf("%w: %w", ca.ErrUnavailable, ct.ErrChain), 503}, // our log refused our own precertificate
		{fmt.Errorf("%w: %w", identity.ErrIssuerUnavailable, context.DeadlineExceeded), 503},
		{wrap(context.DeadlineExceeded), 504},
	} {
		if got := Status(c.err); got != c.want {
			t.Errorf("%v: %d, want %d", c.err, got, c.want)
		}
	}
}

// A gRPC call is counted by its method and its code; what is none is not.
func TestGRPCCode(t *testing.T) {
	for text, want := range map[string]string{"0": "OK", "3": "InvalidArgument", "8": "ResourceExhausted", "16": "Unauthenticated", "17": "", "-1": "", "": "", "x": "", "4294967296": ""} {
		got, ok := grpcCode(http.Header{"Grpc-Status": {text}})
		if got != want || ok != (want != "") {
			t.Errorf("%q is %q, %t; want %q", text, got, ok, want)
		}
	}
	if _, ok := grpcCode(http.Header{}); ok {
		t.Error("an answer of HTTP is a gRPC call")
	}
}
