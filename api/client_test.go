package api

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sigstack/sigstack/test/fuzz"
)

func believed(header string) Proxies {
	return Proxies{Header: header, Trusted: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8:1::/48")}}
}

// TestClient finds who asks behind proxies, whatever a client has put before what they say.
func TestClient(t *testing.T) {
	for _, test := range []struct {
		remote string
		lines  []string
		want   string
	}{
		{"192.0.2.1:80", nil, "192.0.2.1"},
		{"192.0.2.1:80", []string{"203.0.113.9"}, "192.0.2.1"}, // nobody believes it
		{"[2001:db8::7%eth0]:80", nil, "2001:db8::7"},
		{"[::ffff:192.0.2.1]:80", nil, "192.0.2.1"},
		{"@", nil, "invalid IP"},
		{"10.0.0.1:80", nil, "10.0.0.1"},
		{"10.0.0.1:80", []string{"203.0.113.9"}, "203.0.113.9"},
		{"[::ffff:10.0.0.1]:80", []string{"203.0.113.9"}, "203.0.113.9"},
		{"10.0.0.1:80", []string{"203.0.113.9, 10.0.0.2"}, "203.0.113.9"},
		{"10.0.0.1:80", []string{"203.0.113.9", "10.0.0.2,10.0.0.3"}, "203.0.113.9"},
		{"10.0.0.1:80", []string{"198.51.100.1, 203.0.113.9"}, "203.0.113.9"}, // the client made the first one up
		{"10.0.0.1:80", []string{"198.51.100.1,10.9.9.9", "203.0.113.9"}, "203.0.113.9"},
		{"10.0.0.1:80", []string{"10.0.0.9, 10.0.0.2"}, "10.0.0.9"}, // a client among the proxies
		{"10.0.0.1:80", []string{"203.0.113.9, unknown"}, "10.0.0.1"},
		{"10.0.0.1:80", []string{"203.0.113.9, unknown, 10.0.0.2"}, "10.0.0.2"},
		{"10.0.0.1:80", []string{"\"x, 203.0.113.9"}, "203.0.113.9"}, // a quote that is left open
		{"10.0.0.1:80", []string{"203.0.113.9:4711"}, "203.0.113.9"},
		{"[2001:db8:1::1]:80", []string{"[2001:db8:2::9]:4711", ""}, "2001:db8:2::9"},
		{"10.0.0.1:80", []string{strings.Repeat("10.0.0.2,", 100) + "10.0.0.3"}, "10.0.0.2"},
	} {
		forwarded := make([]string, len(test.lines))
		for i, line := range test.lines {
			elements := strings.Split(line, ",")
			for j, e := range elements {
				if e = strings.TrimSpace(e); e != "" && !strings.Contains(e, `"`) {
					elements[j] = ` by=x ; For="` + e + `";proto=https`
				}
			}
			forwarded[i] = strings.Join(elements, ",")
		}
		for header, lines := range map[string][]string{XForwardedFor: test.lines, Forwarded: forwarded} {
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.RemoteAddr, r.Header[header] = test.remote, slices.Clone(lines)
			if got := believed(header).client(r); got.String() != test.want {
				t.Errorf("%s, %s %q: %s, want %s", test.remote, header, lines, got, test.want)
			}
			if !slices.Equal(r.Header[header], lines) {
				t.Errorf("%s is %q now", header, r.Header[header])
			}
		}
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.RemoteAddr = test.remote
		r.Header["X-Forwarded-For"], r.Header["Forwarded"] = test.lines, forwarded
		if got, want := (Proxies{}).client(r), parseAddr(test.remote); got != want {
			t.Errorf("%s without proxies: %s", test.remote, got)
		}
	}
	for element, want := range map[string]string{
		"for=192.0.2.1": "192.0.2.1", `for="[2001:db8::1]:47"`: "2001:db8::1", `FOR = "[2001:db8::1]"`: "2001:db8::1",
		"": "invalid IP", "by=192.0.2.1": "invalid IP", "for=": "invalid IP", `for="_secret"`: "invalid IP",
		"for=192.0.2.1;for=192.0.2.2": "invalid IP", `for="192.0.2.1`: "invalid IP",
	} {
		if got := parseAddr(forwardedFor(element)); got.String() != want {
			t.Errorf("%s: %s, want %s", element, got, want)
		}
	}
}

// TestAccessLog: the log has the client that a proxy names, and who writes.
func TestAccessLog(t *testing.T) {
	var logged bytes.Buffer
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if got := Client(r.Context()).String(); got != "203.0.113.9" {
			t.Errorf("the handler sees %s", got)
		}
		SetWriter(r.Context(), r.URL.Query().Get("writer"))
	})
	h := Wrap(mux, NewMetrics(prometheus.NewRegistry()), believed(XForwardedFor), slog.New(slog.NewJSONHandler(&logged, nil)))
	for _, path := range []string{"/?writer=ci", "/"} {
		r := httptest.NewRequest(http.MethodGet, path, nil)
		r.RemoteAddr = "10.0.0.1:80"
		r.Header.Set("X-Forwarded-For", "203.0.113.9")
		h.ServeHTTP(httptest.NewRecorder(), r)
	}
	lines := strings.Split(logged.String(), "\n")
	if !strings.Contains(lines[0], `"remote":"203.0.113.9"`) || !strings.Contains(lines[0], `"writer":"ci"`) || strings.Contains(lines[1], "writer") {
		t.Errorf("%s", logged.String())
	}
	// Outside of a request there is nothing to know.
	if Client(t.Context()).IsValid() || RequestID(t.Context()) != "" {
		t.Error("a request is known where there is none")
	}
	SetWriter(t.Context(), "x")
}

// What a client sends in the headers of proxies changes nothing behind what the proxy appends to it.
func FuzzClient(f *testing.F) {
	type found struct{ plain, appended, forwarded netip.Addr }
	parse := func(in []byte) (found, error) {
		ask := func(header, value string) netip.Addr {
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.RemoteAddr, r.Header[header] = "10.0.0.1:80", []string{value}
			return believed(header).client(r)
		}
		return found{ask(XForwardedFor, string(in)), ask(XForwardedFor, string(in)+", 203.0.113.9"), ask(Forwarded, string(in)+",for=203.0.113.9")}, nil
	}
	fuzz.Run(f, fuzz.Seeds("192.0.2.1, 10.0.0.2", `for="[2001:db8::1]:47";by=10.0.0.2, for=10.0.0.3`, "[::1]:80", `"`, "10.0.0.2,,"), parse, func(t *testing.T, in []byte, got found, _ error) {
		if !got.plain.IsValid() || got.plain.Zone() != "" || got.plain.Is4In6() {
			t.Fatalf("client %v", got.plain)
		}
		if want := netip.MustParseAddr("203.0.113.9"); got.appended != want || got.forwarded != want {
			t.Fatalf("a client pretends to be %v or %v", got.appended, got.forwarded)
		}
	})
}
