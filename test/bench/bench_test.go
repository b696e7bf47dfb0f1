// Package bench measures the real binary over HTTP, as clients see it: with
// everything on the disk and proven when the answer arrives.
//
//	make bench
//
// Clients and server share the machine's cores. Each benchmark is a closed loop:
// a client sends its next request when it has read the answer to the last one.
// It reports
//
//	req/s          answers a second
//	p50-us p99-us  from sending to having read the answer
//	cpu-us/req     CPU time of the server
//	all-cpu-us/req and of the clients with it
//	allocs/req     heap allocations of the server
//	RSS-MB         resident memory of the server afterwards
//	of-ceiling     req/s, as a share of what the same cores do, measured right
//	               before and right after, of nothing but the ECDSA operations
//	               that a request needs (see ceiling)
package bench

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sigstack/sigstack/ca/catest"
	"github.com/sigstack/sigstack/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// BenchmarkStart starts the server on an empty directory, keys and trust root
// included, until it is ready, and reports the memory that it then holds.
func BenchmarkStart(b *testing.B) {
	var rss float64
	for b.Loop() {
		s := harness.Start(b)
		rss = metric(b, s, "process_resident_memory_bytes")
		s.Stop()
	}
	b.ReportMetric(rss/1e6, "RSS-MB")
}

// BenchmarkEntry uploads hashedrekord entries, each new.
func BenchmarkEntry(b *testing.B) {
	s := harness.Start(b)
	signer := newSigner(b)
	for _, clients := range []int{1, 16, 64, 256} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			measure(b, s, clients, signer.entries(b, addr(s), b.N), http.StatusCreated, entryNeeds)
		})
	}
}

// BenchmarkRead fetches entries with their proofs, by index and by UUID, from a
// log of 100,000, and searches for them.
// The SETs of those that were added last are remembered; older ones, which are
// more than the server remembers, are signed anew each time.
func BenchmarkRead(b *testing.B) {
	const size, last = 100_000, 10_000
	s := harness.Start(b)
	uuids := make([]string, size)
	uploads := newSigner(b).entries(b, addr(s), size)
	fill(b, s, size, func(n int) []byte { return uploads[n] }, func(n int, answer []byte) { uuids[n] = uuidOf(answer) })
	gets := func(n, of int, path func(i int) string) [][]byte {
		out := make([][]byte, n)
		for i := range out {
			out[i] = request(addr(s), "GET", path(size-1-i*7919%of), nil)
		}
		return out
	}
	byIndex := func(i int) string { return "/api/v1/log/entries?logIndex=" + strconv.Itoa(i) }
	byUUID := func(i int) string { return "/api/v1/log/entries/" + uuids[i] }
	for _, clients := range []int{1, 64} {
		b.Run(fmt.Sprintf("by=index/clients=%d", clients), func(b *testing.B) {
			measure(b, s, clients, gets(b.N, last, byIndex), http.StatusOK, nil)
		})
		b.Run(fmt.Sprintf("by=uuid/clients=%d", clients), func(b *testing.B) {
			measure(b, s, clients, gets(b.N, last, byUUID), http.StatusOK, nil)
		})
		b.Run(fmt.Sprintf("by=search/clients=%d", clients), func(b *testing.B) {
			searches := make([][]byte, b.N)
			for i := range searches {
				digest := sha256.Sum256(fmt.Append(nil, i))
				searches[i] = request(addr(s), "POST", "/api/v1/index/retrieve", fmt.Appendf(nil, `{"hash":"sha256:%x"}`, digest))
			}
			measure(b, s, clients, searches, http.StatusOK, nil)
		})
	}
	var hit struct {
		Entries []struct{ PublicKeys []string }
	}
	res, err := http.Get(s.URL + "/api/sigstack/v1/search?limit=1")
	if err != nil {
		b.Fatal(err)
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(&hit); err != nil || len(hit.Entries) != 1 {
		b.Fatal(hit, err)
	}
	for _, clients := range []int{1, 64} {
		b.Run(fmt.Sprintf("by=key/hits=10/clients=%d", clients), func(b *testing.B) { // a key that all entries have
			page := request(addr(s), "GET", "/api/sigstack/v1/search?limit=10&hash="+hit.Entries[0].PublicKeys[0], nil)
			measure(b, s, clients, slices.Repeat([][]byte{page}, b.N), http.StatusOK, nil)
		})
	}
	b.Run("by=index/older/clients=64", func(b *testing.B) {
		measure(b, s, 64, gets(b.N, size, byIndex), http.StatusOK, readNeeds)
	})
}

// BenchmarkMillion fetches entries with their proofs from a log of a million, and
// searches it, over both storages. Ten entries each share an artifact, and all of them
// a key.
func BenchmarkMillion(b *testing.B) {
	const size, hits = 1_000_000, 10
	for _, storage := range []string{"sqlite", "mysql"} {
		b.Run("storage="+storage, func(b *testing.B) {
			var options harness.Options
			if storage == "mysql" {
				options.DSN = harness.StartMariaDB(b, "--innodb-buffer-pool-size=4G", "--innodb-log-file-size=1G").NewDatabase(b)
			}
			s := harness.StartWith(b, options)
			signer := newSigner(b)
			artifact := func(n int) []byte { return fmt.Append(nil, n%(size/hits)) } // not side by side
			uuids := make([]string, size/hits)
			fill(b, s, size, func(n int) []byte { return signer.entry(b, addr(s), artifact(n)) }, func(n int, answer []byte) {
				if n < len(uuids) {
					uuids[n] = uuidOf(answer)
				}
			})
			key := sha256.Sum256(pemBytes(b, signer.pem))
			get := func(path string, args ...any) []byte { return request(addr(s), "GET", fmt.Sprintf(path, args...), nil) }
			for _, clients := range []int{1, 16} {
				for _, c := range []struct {
					by      string
					request func(n int) []byte
				}{
					{"index", func(n int) []byte { return get("/api/v1/log/entries?logIndex=%d", n) }},
					{"uuid", func(n int) []byte { return get("/api/v1/log/entries/%s", uuids[n%len(uuids)]) }},
					{"search/hits=10", func(n int) []byte {
						return request(addr(s), "POST", "/api/v1/index/retrieve", fmt.Appendf(nil, `{"hash":"sha256:%x"}`, sha256.Sum256(artifact(n))))
					}},
					{"page/hits=10", func(n int) []byte {
						return get("/api/sigstack/v1/search?limit=10&hash=sha256:%x", sha256.Sum256(artifact(n)))
					}},
					{"page/hits=1000000", func(int) []byte { return get("/api/sigstack/v1/search?limit=10&hash=%x", key) }},
				} {
					b.Run(fmt.Sprintf("by=%s/clients=%d", c.by, clients), func(b *testing.B) {
						requests := make([][]byte, b.N)
						for i := range requests {
							requests[i] = c.request(i * 104729 % size)
						}
						measure(b, s, clients, requests, http.StatusOK, nil)
					})
				}
			}
		})
	}
}

// uuidOf is the UUID of the entry in an answer.
func uuidOf(answer []byte) string {
	uuid, _, _ := bytes.Cut(answer[2:], []byte(`"`))
	return string(uuid)
}

// pemBytes is what a block of PEM holds.
func pemBytes(b testing.TB, text []byte) []byte {
	block, _ := pem.Decode(text)
	if block == nil {
		b.Fatalf("%q is not PEM", text)
	}
	return block.Bytes
}

// BenchmarkCertificate requests certificates from an intermediate on each curve,
// each with an ES256 token and a P-256 key of its own.
func BenchmarkCertificate(b *testing.B) {
	issuer := startIssuer(b)
	for _, c := range []struct {
		name  string
		needs []operation
	}{{"p384", certificateNeeds(elliptic.P384())}, {"p256", certificateNeeds(elliptic.P256())}} {
		s := harness.Start(b, "--config", harness.Config(b, certificateConfig(c.name, issuer)))
		for _, clients := range []int{1, 16, 64} {
			b.Run(fmt.Sprintf("ca=%s/clients=%d", c.name, clients), func(b *testing.B) {
				measure(b, s, clients, certificateRequests(b, addr(s), issuer, b.N), http.StatusOK, c.needs)
			})
		}
		s.Stop()
	}
}

// BenchmarkCeiling shows what the cores do of single operations.
func BenchmarkCeiling(b *testing.B) {
	for _, c := range []struct {
		name string
		op   operation
	}{
		{"sign/p256", operation{elliptic.P256(), false}}, {"verify/p256", operation{elliptic.P256(), true}},
		{"sign/p384", operation{elliptic.P384(), false}}, {"verify/p384", operation{elliptic.P384(), true}},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
			}
			b.ReportMetric(ceiling([]operation{c.op}), "ops/s")
		})
	}
}

// An operation is one ECDSA signature or verification.
type operation struct {
	curve  elliptic.Curve
	verify bool
}

// What a request needs, whoever serves it. What the server does beyond that,
// above all verifying its own signatures before anybody sees them, is not in it.
var (
	entryNeeds = []operation{{elliptic.P256(), true}, {elliptic.P256(), false}} // the entry's signature; the SET
	readNeeds  = []operation{{elliptic.P256(), false}}                          // the SET
)

// certificateNeeds: the token and the proof of possession are verified, the
// precertificate is signed, and verified by the log, which must (RFC 6962,
// section 3.1); the SCT and the certificate are signed. The last two are also
// verified before anybody sees them, which is not counted.
func certificateNeeds(ca elliptic.Curve) []operation {
	return []operation{
		{elliptic.P256(), true}, {elliptic.P256(), true},
		{ca, false}, {ca, true},
		{elliptic.P256(), false}, {ca, false},
	}
}

// ceiling measures how often a second all cores together do the operations.
func ceiling(ops []operation) float64 {
	type prepared struct {
		operation
		key *ecdsa.PrivateKey
		sig []byte
	}
	digest := make([]byte, sha256.Size)
	set := make([]prepared, len(ops))
	for i, op := range ops {
		key, err := ecdsa.GenerateKey(op.curve, rand.Reader)
		if err != nil {
			panic(err)
		}
		sig, err := ecdsa.SignASN1(rand.Reader, key, digest)
		if err != nil {
			panic(err)
		}
		set[i] = prepared{op, key, sig}
	}
	const length = time.Second
	var rounds atomic.Int64
	var wg sync.WaitGroup
	start := time.Now()
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for time.Since(start) < length {
				for _, op := range set {
					if op.verify {
						ecdsa.VerifyASN1(&op.key.PublicKey, digest, op.sig)
					} else {
						ecdsa.SignASN1(rand.Reader, op.key, digest)
					}
				}
				rounds.Add(1)
			}
		})
	}
	wg.Wait()
	return float64(rounds.Load()) / time.Since(start).Seconds()
}

// measure sends the requests, each client the next that is left.
func measure(b *testing.B, s *harness.Server, clients int, requests [][]byte, status int, needs []operation) {
	var most float64
	if needs != nil {
		most = ceiling(needs)
	}
	took := make([][]time.Duration, clients)
	var next atomic.Int64
	cpu, mallocs := metric(b, s, "process_cpu_seconds_total"), metric(b, s, "go_memstats_mallocs_total")
	own := ownCPU(b)
	var wg sync.WaitGroup
	b.ResetTimer()
	start := time.Now()
	for c := range clients {
		wg.Go(func() {
			conn := dial(b, addr(s))
			defer conn.Close()
			for {
				n := int(next.Add(1)) - 1
				if n >= len(requests) || b.Failed() {
					return
				}
				start := time.Now()
				conn.do(b, requests[n], status)
				took[c] = append(took[c], time.Since(start))
			}
		})
	}
	wg.Wait()
	elapsed := time.Since(start)
	b.StopTimer()
	if b.Failed() {
		b.FailNow()
	}
	n := float64(len(requests))
	cpu, mallocs = metric(b, s, "process_cpu_seconds_total")-cpu, metric(b, s, "go_memstats_mallocs_total")-mallocs
	all := slices.Concat(took...)
	slices.Sort(all)
	b.ReportMetric(0, "ns/op") // says nothing where many run at once
	b.ReportMetric(n/elapsed.Seconds(), "req/s")
	b.ReportMetric(float64(all[len(all)/2].Microseconds()), "p50-us")
	b.ReportMetric(float64(all[len(all)*99/100].Microseconds()), "p99-us")
	b.ReportMetric(cpu*1e6/n, "cpu-us/req")
	b.ReportMetric((cpu+ownCPU(b)-own)*1e6/n, "all-cpu-us/req")
	b.ReportMetric(mallocs/n, "allocs/req")
	b.ReportMetric(metric(b, s, "process_resident_memory_bytes")/1e6, "RSS-MB")
	if needs != nil {
		most = (most + ceiling(needs)) / 2
		b.ReportMetric(n/elapsed.Seconds()/most, "of-ceiling")
	}
}

// fill sends the requests with many clients and hands over each answer.
func fill(b *testing.B, s *harness.Server, size int, request func(n int) []byte, answered func(n int, body []byte)) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			conn := dial(b, addr(s))
			defer conn.Close()
			for {
				n := int(next.Add(1)) - 1
				if n >= size || b.Failed() {
					return
				}
				answered(n, conn.do(b, request(n), http.StatusCreated))
			}
		})
	}
	wg.Wait()
}

// A client is one connection. It writes requests that were rendered before and
// costs little, so that the measured cores are the server's.
type client struct {
	net.Conn
	r    *bufio.Reader
	body []byte // of the last answer
}

// addr is the host:port of a server.
func addr(s *harness.Server) string { return strings.TrimPrefix(s.URL, "http://") }

func dial(b testing.TB, addr string) *client {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		b.Error(err)
		return nil
	}
	return &client{Conn: conn, r: bufio.NewReader(conn)}
}

// do sends a request and returns the body of the answer, which is valid until
// the next call.
func (c *client) do(b testing.TB, request []byte, status int) []byte {
	got, body, err := c.roundTrip(request)
	if err != nil || got != status {
		b.Errorf("%d: %.300s (%v)", got, body, err)
	}
	return body
}

// roundTrip sends a request and returns the answer. It reads no more of an
// answer of HTTP/1.1 than it needs.
func (c *client) roundTrip(request []byte) (status int, body []byte, err error) {
	if _, err := c.Write(request); err != nil {
		return 0, nil, err
	}
	first, err := c.r.ReadSlice('\n')
	if err != nil {
		return 0, nil, err
	}
	const version = "HTTP/1.1 "
	if len(first) < len(version)+3 || string(first[:len(version)]) != version {
		return 0, nil, fmt.Errorf("an answer begins with %q", first)
	}
	if status, err = strconv.Atoi(string(first[len(version) : len(version)+3])); err != nil {
		return 0, nil, err
	}
	length := -1 // chunked
	for {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return status, nil, err
		}
		if line = bytes.TrimSpace(line); len(line) == 0 {
			break
		}
		if value, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			if length, err = strconv.Atoi(string(value)); err != nil {
				return status, nil, err
			}
		}
	}
	if length < 0 {
		c.body, err = io.ReadAll(httputil.NewChunkedReader(c.r))
		if err == nil {
			_, err = c.r.Discard(len("\r\n")) // behind the last chunk
		}
	} else {
		c.body = slices.Grow(c.body[:0], length)[:length]
		_, err = io.ReadFull(c.r, c.body)
	}
	return status, c.body, err
}

// request renders a request.
func request(addr, method, path string, body []byte) []byte {
	head := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", method, path, addr, len(body))
	return append([]byte(head), body...)
}

// A signer makes requests with one key.
type signer struct {
	key *ecdsa.PrivateKey
	pem []byte
}

func newSigner(b testing.TB) signer {
	key := catest.ECDSA(b, elliptic.P256())
	return signer{key, []byte(publicPEM(b, key.Public()))}
}

func (s signer) sign(b testing.TB, data []byte) (digest [sha256.Size]byte, sig []byte) {
	digest = sha256.Sum256(data)
	sig, err := ecdsa.SignASN1(rand.Reader, s.key, digest[:])
	if err != nil {
		b.Fatal(err)
	}
	return digest, sig
}

// entries returns n uploads of new hashedrekord entries: of artifacts "0", "1", ...
func (s signer) entries(b testing.TB, addr string, n int) [][]byte {
	out := make([][]byte, n)
	for i := range out {
		out[i] = s.entry(b, addr, fmt.Append(nil, i))
	}
	return out
}

// entry returns the upload of a hashedrekord entry of an artifact.
func (s signer) entry(b testing.TB, addr string, artifact []byte) []byte {
	digest, sig := s.sign(b, artifact)
	return request(addr, "POST", "/api/v1/log/entries", marshal(b, map[string]any{
		"kind": "hashedrekord", "apiVersion": "0.0.1",
		"spec": map[string]any{
			"data":      map[string]any{"hash": map[string]any{"algorithm": "sha256", "value": fmt.Sprintf("%x", digest)}},
			"signature": map[string]any{"content": sig, "publicKey": map[string]any{"content": s.pem}},
		},
	}))
}

// certificateRequests returns n requests for certificates, each with a new token
// and for a new key, as clients make them.
func certificateRequests(b testing.TB, addr string, issuer *catest.Issuer, n int) [][]byte {
	const email = "bench@example.com"
	out := make([][]byte, n)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				key := newSigner(b)
				_, proof := key.sign(b, []byte(email))
				token := issuer.Token(b, time.Now(), map[string]any{"sub": "bench", "email": email, "email_verified": true, "jti": strconv.Itoa(int(i))})
				out[i] = request(addr, "POST", "/api/v2/signingCert", marshal(b, map[string]any{
					"credentials": map[string]any{"oidcIdentityToken": token},
					"publicKeyRequest": map[string]any{
						"publicKey":         map[string]any{"algorithm": "ECDSA", "content": string(key.pem)},
						"proofOfPossession": proof,
					},
				}))
			}
		})
	}
	wg.Wait()
	return out
}

func marshal(b testing.TB, v any) []byte {
	body, err := json.Marshal(v)
	if err != nil {
		b.Fatal(err)
	}
	return body
}

// metric reads one figure of the server.
func metric(b testing.TB, s *harness.Server, name string) float64 {
	resp, err := http.Get(s.Ops + "/metrics")
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		b.Fatal(err)
	}
	_, value, _ := strings.Cut(string(text), "\n"+name+" ")
	value, _, _ = strings.Cut(value, "\n")
	f, err := strconv.ParseFloat(value, 64)
	if err != nil {
		b.Fatalf("metric %s: %v", name, err)
	}
	return f
}

// ownCPU returns the CPU time of this process, in seconds.
func ownCPU(b *testing.B) float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	seconds := func(t syscall.Timeval) float64 { return float64(t.Sec) + float64(t.Usec)/1e6 }
	return seconds(u.Utime) + seconds(u.Stime)
}
