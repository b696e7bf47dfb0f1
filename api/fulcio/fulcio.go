// Package fulcio serves the certificate authority's wire protocols: gRPC
// dev.sigstore.fulcio.v2.CA and v1beta.CA, the same two as JSON and PEM over
// HTTP, and gRPC health, all on one port.
//
//	POST /api/v2/signingCert     token and key in, certificate chain out; 200
//	GET  /api/v2/trustBundle     the chains to trust
//	GET  /api/v2/configuration   the identity providers that are accepted
//	POST /api/v1/signingCert     the same as PEM; 201
//	GET  /api/v1/rootCert        all chains as PEM
//
// HTTP requests are translated to calls of the same methods that gRPC calls, in
// process (grpc-gateway). Repeated slashes in a path count as one, because
// clients join a base URL that ends in a slash with a path that begins with one,
// and do not follow a redirect of a POST.
//
// # Rules of the JSON
//
// Answers are lowerCamelCase and show empty fields. Requests may have unknown
// fields and unknown enum values, which are ignored: clients send
// "algorithm":"RSA", which is no value of that enum. A field that stands twice, a
// second value behind the first, and text that is not UTF-8 are refused. An error
// is {"code","message","details":[]} with a gRPC code.
//
// # The token
//
// It comes from credentials.oidcIdentityToken (v2 only) or else from the
// Authorization header, with or without "Bearer "; gRPC callers may send it as
// the metadata oidcidentitytoken. It is never logged.
//
// # Errors
//
// The HTTP status of an error is what Config.Status says, and the gRPC code
// follows from it. A refusal tells the client what was wrong. Our own trouble
// tells the client only what failed, and the log why. Where trying again later
// helps, an answer says when: Retry-After, and google.rpc.RetryInfo in gRPC.
package fulcio

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sigstack/sigstack/ca"
	"github.com/sigstack/sigstack/ca/identity"
	"github.com/sigstack/sigstack/ca/policy"
	"github.com/sigstack/sigstack/proto/fulcio/v1beta"
	fulciov2 "github.com/sigstack/sigstack/proto/fulcio/v2"
)

// DefaultMaxBody is the largest request in bytes. The largest honest one is a
// token of 16 KiB and a request with an RSA-4096 key.
const DefaultMaxBody = 64 << 10

// tokenKey is the gRPC metadata that carries a token.
const tokenKey = "oidcidentitytoken"

// Parts are what a request is answered with, from its start to its end. They
// belong together, and are replaced together.
type Parts struct {
	CA       *ca.CA             // required
	Verifier *identity.Verifier // required
}

func (p Parts) check() error {
	if p.CA == nil || p.Verifier == nil {
		return errors.New("fulcio: CA and Verifier are required")
	}
	return nil
}

// Config is what a Service is made of.
type Config struct {
	Parts // the first ones

	// Status maps an error to an HTTP status; required. A status of 500 and
	// above is our own trouble.
	Status func(error) int

	// RequestID finds the request's id in its context, for log and audit. May
	// be nil.
	RequestID func(context.Context) string

	// Panicked is called for every panic that was recovered, to be counted. A
	// panic cannot be left to the server around: gRPC runs its methods in
	// goroutines of their own, where it would end the process. May be nil.
	Panicked func()

	// MaxBody is the largest HTTP body and gRPC message in bytes;
	// DefaultMaxBody if zero.
	MaxBody int64

	Logger *slog.Logger // slog.Default if nil
}

// A Service answers requests for certificates.
type Service struct {
	cfg   Config
	grpc  *grpc.Server
	http  http.Handler
	parts atomic.Pointer[Parts] // a request loads it once
}

// New makes a Service.
func New(cfg Config) (*Service, error) {
	if cfg.Status == nil {
		return nil, errors.New("fulcio: Status is required")
	}
	if cfg.MaxBody == 0 {
		cfg.MaxBody = DefaultMaxBody
	}
	if cfg.MaxBody < 1<<10 || cfg.MaxBody > 4<<20 {
		return nil, fmt.Errorf("fulcio: MaxBody %d: 1 KiB to 4 MiB are possible", cfg.MaxBody)
	}
	if cfg.RequestID == nil {
		cfg.RequestID = func(context.Context) string { return "" }
	}
	if cfg.Panicked == nil {
		cfg.Panicked = func() {}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	s := &Service{cfg: cfg, grpc: grpc.NewServer(grpc.MaxRecvMsgSize(int(cfg.MaxBody)))}
	if err := s.Replace(cfg.Parts); err != nil {
		return nil, err
	}
	fulciov2.RegisterCAServer(s.grpc, v2{Service: s})
	fulciov1beta.RegisterCAServer(s.grpc, v1{Service: s})
	grpc_health_v1.RegisterHealthServer(s.grpc, health{})
	var err error
	s.http, err = s.gateway()
	return s, err
}

// Replace has requests that come from now on answered with other parts. Those
// under way end with what they began with.
func (s *Service) Replace(p Parts) error {
	if err := p.check(); err != nil {
		return err
	}
	s.parts.Store(&p)
	return nil
}

// Handler serves gRPC and HTTP on one port: requests of HTTP/2 with a content type
// of gRPC are calls, others have the paths of the package comment, and 404 as JSON
// for others. The server has to speak HTTP/2, and a ResponseWriter that is wrapped
// has to keep its Flush method.
func (s *Service) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if isGRPC(r) {
			s.grpc.ServeHTTP(w, r)
			return
		}
		s.http.ServeHTTP(w, r)
	})
}

// Paths are the patterns of http.ServeMux below which Handler answers.
func Paths() []string {
	return []string{
		"/api/v1/signingCert", "/api/v1/rootCert",
		"/api/v2/signingCert", "/api/v2/trustBundle", "/api/v2/configuration",
		// Each gRPC method by its name, for the metrics, and whatever else is asked.
		fulciov2.CA_CreateSigningCertificate_FullMethodName, fulciov2.CA_GetTrustBundle_FullMethodName, fulciov2.CA_GetConfiguration_FullMethodName,
		fulciov1beta.CA_CreateSigningCertificate_FullMethodName, fulciov1beta.CA_GetRootCertificate_FullMethodName,
		"/dev.sigstore.fulcio.v2.CA/", "/dev.sigstore.fulcio.v1beta.CA/", "/grpc.health.v1.Health/",
	}
}

// isGRPC tells gRPC requests from others: HTTP/2 and a content type of
// application/grpc, but not of gRPC-Web.
func isGRPC(r *http.Request) bool {
	rest, ok := strings.CutPrefix(r.Header.Get("Content-Type"), "application/grpc")
	return ok && r.ProtoMajor == 2 && (rest == "" || rest[0] == '+' || rest[0] == ';')
}

// Close ends all gRPC connections and waits for their calls.
func (s *Service) Close() { s.grpc.Stop() }

// issue is what all four ways to a certificate share.
func (s *Service) issue(ctx context.Context, token string, key func(identity.Identity) (ca.ProvenKey, error)) (*ca.Issued, error) {
	if token == "" {
		token = tokenFrom(ctx)
	}
	if token == "" {
		return nil, fmt.Errorf("%w: there is none: send it as credentials.oidcIdentityToken or in the Authorization header", identity.ErrToken)
	}
	parts := s.parts.Load()
	id, err := parts.Verifier.Verify(ctx, token)
	if err != nil {
		return nil, err
	}
	proven, err := key(id)
	if err != nil {
		return nil, err
	}
	return parts.CA.Issue(ctx, ca.Request{Identity: id, Key: proven, RequestID: s.cfg.RequestID(ctx)})
}

// provenKey parses a key and verifies the proof that it belongs to the sender.
func provenKey(id identity.Identity, content, proof []byte) (ca.ProvenKey, error) {
	key, err := ca.ParsePublicKey(content)
	if err != nil {
		return ca.ProvenKey{}, err
	}
	return ca.VerifyProof(key, id.ProofSubjects(), proof)
}

// tokenFrom takes the token from the metadata. Two values are none: nobody knows
// which of them was meant.
func tokenFrom(ctx context.Context) string {
	md, _ := metadata.FromIncomingContext(ctx)
	if values := md.Get(tokenKey); len(values) == 1 {
		return values[0]
	}
	return ""
}

// finish turns what a method ran into (an error, or a panic) into the gRPC error
// that the client sees, and logs it. It is deferred, so it sees both, whether the
// call came by gRPC or by HTTP.
func (s *Service) finish(ctx context.Context, method string, err *error) {
	if p := recover(); p != nil {
		s.panicked(ctx, method, p)
		*err = status.Error(codes.Internal, "internal error")
		return
	}
	if *err == nil {
		return
	}
	httpStatus := s.cfg.Status(*err)
	level := slog.LevelWarn
	if httpStatus >= 500 {
		level = slog.LevelError
	}
	s.cfg.Logger.LogAttrs(ctx, level, "request failed", slog.String("method", method),
		slog.String("request_id", s.cfg.RequestID(ctx)), slog.Int("status", httpStatus), slog.String("error", clean((*err).Error())))
	answer := status.New(codeOf(httpStatus), clean(publicText(*err, httpStatus)))
	if wait := retryAfter(*err, httpStatus); wait > 0 {
		if told, err := answer.WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(wait)}); err == nil {
			answer = told
		}
	}
	*err = answer.Err()
}

// retryAfter is how long a client should wait before it asks again, in whole
// seconds; 0 where waiting does not help, or nobody knows.
func retryAfter(err error, httpStatus int) time.Duration {
	var refusal *policy.Error
	switch {
	case errors.As(err, &refusal):
		return (refusal.RetryAfter + time.Second - 1).Truncate(time.Second)
	case httpStatus == http.StatusServiceUnavailable:
		return time.Second
	}
	return 0
}

// panicked reports a panic to us; the client learns nothing of it.
func (s *Service) panicked(ctx context.Context, method string, p any) {
	s.cfg.Panicked()
	s.cfg.Logger.LogAttrs(ctx, slog.LevelError, "panic", slog.String("method", method),
		slog.String("request_id", s.cfg.RequestID(ctx)), slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
}

// codeOf is the gRPC code of an HTTP status. grpc-gateway maps it back to the
// same status, except for 413, which is ours alone (see http.go).
func codeOf(httpStatus int) codes.Code {
	switch httpStatus {
	case http.StatusBadRequest:
		return codes.InvalidArgument
	case http.StatusUnauthorized:
		return codes.Unauthenticated
	case http.StatusForbidden:
		return codes.PermissionDenied
	case http.StatusNotFound:
		return codes.NotFound
	case http.StatusConflict:
		return codes.AlreadyExists
	case http.StatusRequestEntityTooLarge, http.StatusTooManyRequests:
		return codes.ResourceExhausted
	case 499: // the client has gone
		return codes.Canceled
	case http.StatusNotImplemented:
		return codes.Unimplemented
	case http.StatusServiceUnavailable:
		return codes.Unavailable
	case http.StatusGatewayTimeout:
		return codes.DeadlineExceeded
	}
	return codes.Internal
}

// publicText is what a client may read of an error.
func publicText(err error, httpStatus int) string {
	var issuing *ca.Error
	var refusal *policy.Error
	switch {
	case errors.As(err, &issuing):
		return issuing.Public()
	case errors.As(err, &refusal):
		return refusal.Error()
	case errors.Is(err, identity.ErrIssuerUnavailable):
		return identity.ErrIssuerUnavailable.Error()
	case errors.Is(err, identity.ErrToken):
		return err.Error()
	case httpStatus < 500:
		return http.StatusText(httpStatus)
	}
	return "internal error"
}

// clean makes a text fit for a header, a JSON string and a line of a log.
func clean(text string) string {
	const most = 1024
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == utf8.RuneError {
			return '?'
		}
		return r
	}, text)
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "..."
	}
	return text
}

// health answers SERVING to everybody. Readiness, which looks at log, signer and
// clock, is the operations listener's.
type health struct {
	grpc_health_v1.UnimplementedHealthServer
}

func (health) Check(context.Context, *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	return &grpc_health_v1.HealthCheckResponse{Status: grpc_health_v1.HealthCheckResponse_SERVING}, nil
}
