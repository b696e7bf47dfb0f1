package ops

import (
	"context"
	"encoding/json"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

func TestOps(t *testing.T) {
	registry := prometheus.NewRegistry()
	count := prometheus.NewCounter(prometheus.CounterOpts{Name: "sigstack_test_total", Help: "x"})
	registry.MustRegister(count)
	var trouble error
	mux := New(registry, map[string]Check{
		"log":   func(context.Context) error { return trouble },
		"clock": func(context.Context) error { return nil },
	})
	answer := func(path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		return w
	}
	ready := func(status int, state, log string) {
		t.Helper()
		w := answer("/readyz")
		var body struct {
			Status string
			Checks map[string]string
		}
		if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
			t.Fatal(err)
		}
		if w.Code != status || body.Status != state || body.Checks["log"] != log || body.Checks["clock"] != "ok" {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	}
	ready(200, "ready", "ok")
	trouble = errors.New("the store is away")
	ready(503, "not ready", "the store is away")
	if w := answer("/healthz"); w.Code != 200 || strings.TrimSpace(w.Body.String()) != `{"status":"SERVING"}` {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := answer("/metrics"); w.Code != 200 || !strings.Contains(w.Body.String(), "sigstack_test_total 0") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := answer("/debug/pprof/"); w.Code != 200 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := answer("/nothing"); w.Code != 404 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
