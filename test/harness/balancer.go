package harness

import (
	"context"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"testing"
	"time"
)

// A Balancer hands requests on to several servers in turn, as what stands before
// replicas does. A server that is not ready, as it says itself, gets no more of
// them. No request is sent twice: one that fails has failed.
type Balancer struct {
	URL string // where clients connect

	proxy   *httputil.ReverseProxy
	servers []*Server  // as they were when the balancer was started
	targets []*url.URL // of each

	mu    sync.Mutex // guards what follows
	ready []bool     // by server
	turn  int
}

// probeInterval is how often a Balancer asks a server whether it is ready.
const probeInterval = 50 * time.Millisecond

// NewBalancer starts a balancer for servers that run. It is closed when the test
// ends.
func NewBalancer(t testing.TB, servers ...*Server) *Balancer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 1024}
	b := &Balancer{URL: "http://" + l.Addr().String(), ready: make([]bool, len(servers))}
	for _, s := range servers {
		target, err := url.Parse(s.URL)
		if err != nil {
			t.Fatal(err)
		}
		b.servers, b.targets = append(b.servers, s.Behind(s.URL)), append(b.targets, target)
	}
	b.proxy = &httputil.ReverseProxy{
		Transport: transport,
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(r.In.Context().Value(chosen{}).(*url.URL)) },
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			http.Error(w, "balancer: "+r.Context().Value(chosen{}).(*url.URL).Host+": "+err.Error(), http.StatusBadGateway)
		},
	}
	server := &http.Server{Handler: http.HandlerFunc(b.serve), ReadHeaderTimeout: startLimit}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for i := range servers {
		running.Go(func() { b.probe(ctx, i) })
	}
	running.Go(func() { server.Serve(l) })
	t.Cleanup(func() {
		cancel()
		server.Close()
		running.Wait()
		transport.CloseIdleConnections()
	})
	return b
}

// chosen is under what a request's context holds its server's URL.
type chosen struct{}

func (b *Balancer) serve(w http.ResponseWriter, r *http.Request) {
	target := b.next()
	if target == nil {
		http.Error(w, "balancer: no server is ready", http.StatusServiceUnavailable)
		return
	}
	b.proxy.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), chosen{}, target)))
}

// next returns the URL of the server whose turn it is, nil where none is ready.
func (b *Balancer) next() *url.URL {
	b.mu.Lock()
	defer b.mu.Unlock()
	for range b.servers {
		b.turn = (b.turn + 1) % len(b.servers)
		if b.ready[b.turn] {
			return b.targets[b.turn]
		}
	}
	return nil
}

// probe asks one server, again and again.
func (b *Balancer) probe(ctx context.Context, i int) {
	tick := time.NewTicker(probeInterval)
	defer tick.Stop()
	for {
		ready, _ := b.servers[i].Ready()
		b.mu.Lock()
		b.ready[i] = ready
		b.mu.Unlock()
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// Ready returns how many servers get requests.
func (b *Balancer) Ready() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, ready := range b.ready {
		if ready {
			n++
		}
	}
	return n
}
