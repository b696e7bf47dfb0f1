// Package ops serves the operator's endpoints, on a listener of their own:
//
//	/metrics       Prometheus
//	/healthz       the process lives: always 200 {"status":"SERVING"}
//	/readyz        the process could sign now: 200, or 503 with what is wrong
//	/debug/pprof/  profiles
package ops

import (
	"context"
	"maps"
	"net/http"
	"net/http/pprof"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/sigstack/sigstack/api"
)

// readyTimeout bounds all checks of one /readyz together.
const readyTimeout = 5 * time.Second

// A Check says whether one component could do its work now. It changes nothing.
type Check func(ctx context.Context) error

// New returns the handler. Each check is named in the answer of /readyz.
func New(metrics prometheus.Gatherer, checks map[string]Check) *http.ServeMux {
	mux := http.NewServeMux()
	for pattern, h := range routes(metrics, checks) {
		mux.HandleFunc(pattern, h)
	}
	return mux
}

// Routes are the patterns of http.ServeMux that New serves, sorted.
func Routes() []string { return slices.Sorted(maps.Keys(routes(prometheus.NewRegistry(), nil))) }

func routes(metrics prometheus.Gatherer, checks map[string]Check) map[string]http.HandlerFunc {
	return map[string]http.HandlerFunc{
		"GET /metrics":         promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}).ServeHTTP,
		"GET /healthz":         Health,
		"GET /readyz":          func(w http.ResponseWriter, r *http.Request) { ready(w, r, checks) },
		"/debug/pprof/":        pprof.Index,
		"/debug/pprof/cmdline": pprof.Cmdline,
		"/debug/pprof/profile": pprof.Profile,
		"/debug/pprof/symbol":  pprof.Symbol,
		"/debug/pprof/trace":   pprof.Trace,
	}
}

func ready(w http.ResponseWriter, r *http.Request, checks map[string]Check) {
	ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
	defer cancel()
	status, state, results := http.StatusOK, "ready", run(ctx, checks)
	for _, result := range results {
		if result != "ok" {
			status, state = http.StatusServiceUnavailable, "not ready"
		}
	}
	w.Header().Set("Cache-Control", "no-store")
	api.WriteJSON(w, status, map[string]any{"status": state, "checks": results})
}

// Health answers that the process lives, as Fulcio and gRPC health checks spell it.
func Health(w http.ResponseWriter, _ *http.Request) {
	api.WriteJSON(w, http.StatusOK, map[string]string{"status": "SERVING"})
}

func run(ctx context.Context, checks map[string]Check) map[string]string {
	var mu sync.Mutex
	var wg sync.WaitGroup
	results := make(map[string]string, len(checks))
	for name, check := range checks {
		wg.Go(func() {
			result := "ok"
			if err := check(ctx); err != nil {
				result = err.Error()
			}
			mu.Lock()
			defer mu.Unlock()
			results[name] = result
		})
	}
	wg.Wait()
	return results
}
