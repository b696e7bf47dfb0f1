package badinput

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/api/httpbody"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/sigstack/sigstack/proto/fulcio/v1beta"
	fulciov2 "github.com/sigstack/sigstack/proto/fulcio/v2"
	"github.com/sigstack/sigstack/test/harness"
)

// TestProtocols walks everything that the public port serves through every
// protocol that the port speaks: HTTP/1.1 and HTTP/2, plain and over TLS, and gRPC
// over both HTTP/2s. Limits, metrics and the answers to pages of other origins are the
// same on all of them.
func TestProtocols(t *testing.T) {
	t.Run("plain", func(t *testing.T) {
		s := start(t, harness.Options{})
		second := plainHTTP2(t)
		second.CheckRedirect = s.client.CheckRedirect
		s.protocol(t, "HTTP/1.1", s.client)
		s.protocol(t, "HTTP/2.0", second)
		s.calls(t, insecure.NewCredentials())
		s.noUpgrade(t)
		second.CloseIdleConnections()
		s.nothingLeft(t)
	})
	t.Run("TLS", func(t *testing.T) {
		files, trust := selfSigned(t)
		over := func(protocol func(*http.Protocols, bool)) *http.Client {
			client := newClient(t)
			transport := client.Transport.(*http.Transport)
			transport.TLSClientConfig, transport.Protocols = trust.Clone(), new(http.Protocols)
			protocol(transport.Protocols, true)
			return client
		}
		first, second := over((*http.Protocols).SetHTTP1), over((*http.Protocols).SetHTTP2)
		s := startWith(t, harness.Options{}, first, files)
		s.protocol(t, "HTTP/1.1", first)
		s.protocol(t, "HTTP/2.0", second)
		s.calls(t, credentials.NewTLS(trust.Clone()))
		second.CloseIdleConnections()
		s.settled(t)
		s.canary.silent(t)
	})
}

// selfSigned is a certificate for the loopback address: the lines of a configuration
// with it, and what trusts it.
func selfSigned(t *testing.T) (config string, trust *tls.Config) {
	t.Helper()
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, IsCA: true, BasicConstraintsValid: true,
	}
	der := must(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))
	dir := t.TempDir()
	for name, block := range map[string]*pem.Block{
		"tls.pem": {Type: "CERTIFICATE", Bytes: der}, "tls.key": {Type: "PRIVATE KEY", Bytes: must(x509.MarshalPKCS8PrivateKey(key))},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pool := x509.NewCertPool()
	pool.AddCert(must(x509.ParseCertificate(der)))
	return fmt.Sprintf("tls:\n  cert: %s/tls.pem\n  key: %s/tls.key\n", dir, dir), &tls.Config{RootCAs: pool}
}

// forPages says whether a path is for web pages of any origin. The development issuer
// is for none: a page could take a token for itself.
func forPages(path string) bool {
	return strings.HasPrefix(path, "/api/") || strings.HasPrefix(path, "/ct/") || path == "/ping" || path == "/swagger.json"
}

// protocol asks for every route with a client of one protocol.
func (s *suite) protocol(t *testing.T, name string, client *http.Client) {
	t.Helper()
	before := s.client
	defer func() { s.client = before }()
	const origin = "https://web.example.com"
	routes := 0
	for _, r := range table {
		method, path, _ := strings.Cut(r.route, " ")
		if r.ops || method == "gRPC" {
			continue
		}
		routes++
		s.client = before
		counted, measured := s.counted(t, path)
		s.client = client
		asked := 0
		ask := func(what string, want func(status int) bool, request request) answer {
			asked++
			a := s.send(request)
			if !want(a.status) {
				t.Errorf("%s: %s: %s: %d %s", name, r.route, what, a.status, clip(string(a.body)))
			}
			return a
		}
		allowed := func(what string, a answer, want string) {
			if got := a.header.Get("Access-Control-Allow-Origin"); got != want {
				t.Errorf("%s: %s: %s: Access-Control-Allow-Origin %q, want %q", name, r.route, what, got, want)
			}
		}
		if r.valid != nil {
			request := r.valid(s)
			if forPages(path) {
				request = request.with("Origin", origin)
			}
			a := ask("a valid request", func(status int) bool { return status/100 == 2 || status == http.StatusSeeOther }, request)
			allowed("a valid request", a, map[bool]string{true: "*"}[forPages(path)])
		}
		if r.padded != nil {
			request := r.padded(s, r.limit+1)
			if forPages(path) {
				request = request.with("Origin", origin)
			}
			a := ask("one byte too many", func(status int) bool { return status == http.StatusRequestEntityTooLarge }, request)
			allowed("one byte too many", a, map[bool]string{true: "*"}[forPages(path)])
		}
		concrete := strings.ReplaceAll(path, "{entryUUID}", strings.Repeat("0", 64))
		preflight := request{method: "OPTIONS", path: concrete, header: http.Header{"Origin": {origin}, "Access-Control-Request-Method": {method}, "Access-Control-Request-Headers": {"authorization,content-type"}}}
		if forPages(path) && path != "/ping" {
			a := ask("a preflight", func(status int) bool { return status == http.StatusNoContent }, preflight)
			allowed("a preflight", a, "*")
			if !strings.Contains(a.header.Get("Access-Control-Allow-Methods"), method) || !strings.Contains(a.header.Get("Access-Control-Allow-Headers"), "Authorization") {
				t.Errorf("%s: %s: a preflight: %v", name, r.route, a.header)
			}
		} else if !forPages(path) {
			allowed("a preflight", s.send(preflight), "")
		}

		s.client = before
		nowCounted, nowMeasured := s.counted(t, path)
		if nowCounted-counted < float64(asked) || nowMeasured-measured < float64(asked) {
			t.Errorf("%s: %s: %d requests, %v were counted and %v measured", name, r.route, asked, nowCounted-counted, nowMeasured-measured)
		}
	}

	// It was that protocol.
	res, err := client.Get(s.URL + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	s.sent.Add(1)
	if res.Proto != name {
		t.Errorf("the client speaks %s, want %s", res.Proto, name)
	}
	// A request line of more than the limit, whatever the protocol.
	res, err = client.Get(s.URL + "/healthz?" + strings.Repeat("x", 80<<10))
	if err == nil {
		res.Body.Close()
		if res.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("%s: headers of 80 KiB: %d", name, res.StatusCode)
		}
	}
	t.Logf("%s: %d routes", name, routes)
}

// counted is how often a route was asked for, and how many times were measured. A
// route that has several methods counts with all of them.
func (s *suite) counted(t *testing.T, path string) (requests, measured float64) {
	t.Helper()
	for series, value := range s.usage(t).values {
		_, route, ok := strings.Cut(series, `route="`)
		route, _, _ = strings.Cut(route, `"`)
		switch {
		case !ok || !strings.HasSuffix(route, path):
		case strings.HasPrefix(series, "sigstack_http_requests_total{"):
			requests += value
		case strings.HasPrefix(series, "sigstack_http_request_seconds_count{"):
			measured += value
		}
	}
	return requests, measured
}

// calls makes a good call of every gRPC method, and one with a message that is too
// long.
func (s *suite) calls(t *testing.T, transport credentials.TransportCredentials) {
	t.Helper()
	_, addr, _ := strings.Cut(s.URL, "://")
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(transport))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	methods := map[string]struct{ request, answer proto.Message }{
		fulciov2.CA_CreateSigningCertificate_FullMethodName: {&fulciov2.CreateSigningCertificateRequest{
			Credentials: &fulciov2.Credentials{Credentials: &fulciov2.Credentials_OidcIdentityToken{OidcIdentityToken: s.token()}},
			Key: &fulciov2.CreateSigningCertificateRequest_PublicKeyRequest{PublicKeyRequest: &fulciov2.PublicKeyRequest{
				PublicKey: &fulciov2.PublicKey{Content: string(publicPEM(s.keys.p256))}, ProofOfPossession: proofOf(s.keys.p256, email),
			}},
		}, &fulciov2.SigningCertificate{}},
		fulciov2.CA_GetTrustBundle_FullMethodName:   {&fulciov2.GetTrustBundleRequest{}, &fulciov2.TrustBundle{}},
		fulciov2.CA_GetConfiguration_FullMethodName: {&fulciov2.GetConfigurationRequest{}, &fulciov2.Configuration{}},
		fulciov1beta.CA_CreateSigningCertificate_FullMethodName: {&fulciov1beta.CreateSigningCertificateRequest{
			PublicKey: &fulciov1beta.PublicKey{Content: spki(s.keys.p256.Public())}, SignedEmailAddress: proofOf(s.keys.p256, email),
		}, &httpbody.HttpBody{}},
		fulciov1beta.CA_GetRootCertificate_FullMethodName: {&emptypb.Empty{}, &httpbody.HttpBody{}},
		grpc_health_v1.Health_Check_FullMethodName:        {&grpc_health_v1.HealthCheckRequest{}, &grpc_health_v1.HealthCheckResponse{}},
	}
	for _, r := range table { // none is forgotten
		if method, path, _ := strings.Cut(r.route, " "); method == "gRPC" && methods[path].request == nil && path != "/grpc.health.v1.Health/" {
			t.Errorf("%s is not called", r.route)
		}
	}
	ctx := metadata.AppendToOutgoingContext(context.Background(), "oidcidentitytoken", s.token())
	for method, m := range methods {
		route := method
		if strings.HasPrefix(method, "/grpc.health") {
			route = "/grpc.health.v1.Health/"
		}
		for _, want := range []codes.Code{codes.OK, codes.ResourceExhausted} {
			series := fmt.Sprintf("sigstack_grpc_calls_total{code=%q,method=%q}", want, route)
			before := s.usage(t).values[series]
			counted, measured := s.counted(t, route)
			request := proto.Clone(m.request)
			if want != codes.OK { // an unknown field makes it too long
				request.ProtoReflect().SetUnknown(protowire.AppendBytes(protowire.AppendTag(nil, 1000, protowire.BytesType), bytes.Repeat([]byte{0}, 64<<10)))
			}
			err := conn.Invoke(ctx, method, request, m.answer)
			s.sent.Add(1)
			if status.Code(err) != want {
				t.Errorf("%s: %v, want %s", method, err, want)
			}
			if err == nil && strings.HasSuffix(method, "/CreateSigningCertificate") {
				s.mu.Lock()
				s.certs++
				s.mu.Unlock()
			}
			// The answer is with the client a moment before the request is counted.
			for limit := time.Now().Add(time.Minute); s.usage(t).values[series] < before+1; {
				if time.Now().After(limit) {
					t.Fatalf("%s is %v, want %v", series, s.usage(t).values[series], before+1)
				}
			}
			if c, m := s.counted(t, route); c < counted+1 || m < measured+1 {
				t.Errorf("%s: %v calls were counted and %v measured", method, c-counted, m-measured)
			}
		}
	}
}

// noUpgrade asks for HTTP/2 by an upgrade, which RFC 9113 has dropped and net/http
// never had: the request is answered as one of HTTP/1.1. Prior knowledge works.
func (s *suite) noUpgrade(t *testing.T) {
	t.Helper()
	a := s.send(get("/healthz").with("Connection", "Upgrade, HTTP2-Settings").with("Upgrade", "h2c").with("Http2-Settings", "AAMAAABkAAQAoAAAAAIAAAAA"))
	if a.status != http.StatusOK {
		t.Errorf("a request for an upgrade: %d", a.status)
	}
}
