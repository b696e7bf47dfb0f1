// Package api is what all wire protocols of sigstack share: the HTTP server
// with its limits and timeouts, request IDs, the access log, recovery from
// panics, request metrics, and the one mapping from errors to HTTP statuses.
//
// One port speaks HTTP/1.1, HTTP/2 (over TLS, or by prior knowledge), gRPC and the
// JSON form of gRPC. An upgrade from HTTP/1.1 to HTTP/2 is not offered: RFC 9113
// has dropped it. The protocols themselves are the packages below this one;
// each limits the bodies that it accepts.
package api

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"log/slog"
	"net/http"
	"path"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
)

// The limits of every listener. They are on by default and not configurable:
// no client needs more.
const (
	ReadHeaderTimeout = 10 * time.Second
	ReadTimeout       = 30 * time.Second // for headers and body together
	WriteTimeout      = 60 * time.Second
	IdleTimeout       = 120 * time.Second
	MaxHeaderBytes    = 64 << 10
	MaxStreams        = 250 // concurrent HTTP/2 requests of one connection
)

// NewServer returns a server for h with the limits above, for both versions of
// HTTP, with TLS (ServeTLS) and without.
func NewServer(h http.Handler, logger *slog.Logger) *http.Server {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: ReadHeaderTimeout,
		ReadTimeout:       ReadTimeout,
		WriteTimeout:      WriteTimeout,
		IdleTimeout:       IdleTimeout,
		MaxHeaderBytes:    MaxHeaderBytes,
		Protocols:         &protocols,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: MaxStreams},
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelWarn),
	}
}

// Metrics counts requests. Its labels come from closed sets: the route is the
// pattern that matched, not the path.
type Metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	calls    *prometheus.CounterVec
	inFlight prometheus.Gauge
	panics   prometheus.Counter
}

// NewMetrics registers the request metrics.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sigstack_http_requests_total", Help: "Requests by route, method and status code.",
		}, []string{"route", "method", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "sigstack_http_request_seconds", Help: "Time from the request's headers to the end of the answer.",
			Buckets: prometheus.ExponentialBuckets(0.00025, 2, 16),
		}, []string{"route"}),
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sigstack_grpc_calls_total", Help: "Calls by gRPC method and code; their HTTP status is 200 whatever became of them.",
		}, []string{"method", "code"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "sigstack_http_requests_in_flight", Help: "Requests that were read and not answered yet.",
		}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sigstack_http_panics_total", Help: "Requests that ended in a recovered panic. Anything but 0 is a bug.",
		}),
	}
	reg.MustRegister(m.requests, m.seconds, m.calls, m.inFlight, m.panics)
	return m
}

// Panicked counts a panic that a protocol has recovered itself.
func (m *Metrics) Panicked() { m.panics.Inc() }

// Wrap puts what every request passes through around a mux: its ID, the access
// log, recovery and metrics.
func Wrap(mux *http.ServeMux, m *Metrics, proxies Proxies, logger *slog.Logger) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		start := time.Now()
		m.inFlight.Inc()
		defer m.inFlight.Dec()
		id := requestID(r)
		about := &request{id: id, client: proxies.client(r)}
		r = r.WithContext(context.WithValue(r.Context(), requestKey{}, about))
		w := &response{ResponseWriter: rw}
		w.Header().Set("X-Request-Id", id)
		defer func() {
			if p := recover(); p != nil && p != http.ErrAbortHandler {
				m.Panicked()
				logger.Error("panic", "request_id", id, "panic", p, "stack", string(debug.Stack()))
				if w.status == 0 {
					WriteJSON(w, http.StatusInternalServerError, map[string]any{"code": http.StatusInternalServerError, "message": "internal error; the server's log has it under request id " + id})
				}
			}
			took := time.Since(start)
			m.requests.WithLabelValues(r.Pattern, methodLabel(r.Method), strconv.Itoa(w.code())).Inc()
			m.seconds.WithLabelValues(r.Pattern).Observe(took.Seconds())
			if code, ok := grpcCode(w.Header()); ok {
				m.calls.WithLabelValues(r.Pattern, code).Inc()
			}
			remote := ""
			if about.client.IsValid() {
				remote = about.client.String()
			}
			line := []any{"request_id", id, "remote", remote, "method", clip(r.Method), "path", clip(r.URL.Path), "status", w.code(), "bytes", w.bytes, "ms", float64(took.Microseconds()) / 1000, "agent", clip(r.UserAgent())}
			if about.writer != "" {
				line = append(line, "writer", clip(about.writer))
			}
			logger.Info("request", line...)
		}()
		// Clients that join a base URL with a trailing slash and a path ask for
		// "//api/...". The mux would redirect them, and a redirected POST is lost.
		if strings.HasPrefix(r.URL.Path, "//") {
			r.URL.Path, r.URL.RawPath = "/"+strings.TrimLeft(r.URL.Path, "/"), ""
		}
		if !clean(r.URL.Path) {
			NotFound(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// clean says whether a decoded path is spelled in the one way that handlers
// expect. The mux would redirect others, or hand them on.
func clean(p string) bool {
	return p == "/" || path.Clean(p) == strings.TrimSuffix(p, "/") && !strings.ContainsAny(p, "\\\x00")
}

// NotFound answers a path that no protocol has.
func NotFound(w http.ResponseWriter, r *http.Request) {
	WriteJSON(w, http.StatusNotFound, map[string]any{"code": http.StatusNotFound, "message": "path " + clip(r.URL.EscapedPath()) + " was not found"})
}

// WriteJSON answers with a JSON body.
func WriteJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(body)
}

// requestID takes the client's X-Request-Id if it is short and plain, and
// makes one otherwise.
func requestID(r *http.Request) string {
	id := r.Header.Get("X-Request-Id")
	plain := func(c rune) bool {
		return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.ContainsRune("-_.:", c)
	}
	if id != "" && len(id) <= 128 && strings.IndexFunc(id, func(c rune) bool { return !plain(c) }) < 0 {
		return id
	}
	var b [12]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// clip bounds what a client chose before it is logged or sent back.
func clip(s string) string {
	if len(s) > 256 {
		return s[:256] + "..."
	}
	return s
}

func methodLabel(method string) string {
	switch method {
	case "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS":
		return method
	}
	return "other"
}

// grpcCode is the outcome of a gRPC call, which its handler leaves in a trailer.
func grpcCode(h http.Header) (string, bool) {
	n, err := strconv.ParseUint(h.Get("Grpc-Status"), 10, 32)
	if err != nil || n > uint64(codes.Unauthenticated) { // the last that there is
		return "", false
	}
	return codes.Code(n).String(), true
}

// response remembers the status and the size of an answer.
type response struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (w *response) code() int {
	if w.status == 0 {
		return http.StatusOK
	}
	return w.status
}

func (w *response) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *response) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(b)
	w.bytes += int64(n)
	return n, err
}

// Flush is what gRPC needs of a ResponseWriter.
func (w *response) Flush() { http.NewResponseController(w.ResponseWriter).Flush() }

// Unwrap is for http.ResponseController.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }
