package fulcio

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/sigstack/sigstack/api"
	"github.com/sigstack/sigstack/proto/fulcio/v1beta"
	fulciov2 "github.com/sigstack/sigstack/proto/fulcio/v2"
)

// gateway translates HTTP requests to method calls and adds what grpc-gateway
// leaves open: limits, CORS, and the shape of the first protocol.
func (s *Service) gateway() (http.Handler, error) {
	mux := runtime.NewServeMux(
		// Only the token reaches the methods, and no other header.
		runtime.WithIncomingHeaderMatcher(func(string) (string, bool) { return "", false }),
		runtime.WithMetadata(func(_ context.Context, r *http.Request) metadata.MD {
			if token := strings.Replace(r.Header.Get("Authorization"), "Bearer ", "", 1); token != "" {
				return metadata.Pairs(tokenKey, token)
			}
			return nil
		}),
		runtime.WithRoutingErrorHandler(routingError),
		// The decoder's errors repeat whole values of a request.
		runtime.WithErrorHandler(func(ctx context.Context, mux *runtime.ServeMux, m runtime.Marshaler, w http.ResponseWriter, r *http.Request, err error) {
			s := status.Convert(err)
			for _, detail := range s.Details() {
				if retry, ok := detail.(*errdetails.RetryInfo); ok {
					w.Header().Set("Retry-After", fmt.Sprint(retry.GetRetryDelay().GetSeconds()))
				}
			}
			runtime.DefaultHTTPErrorHandler(ctx, mux, m, w, r, status.Error(s.Code(), clean(s.Message())))
		}),
		// Without this, X-HTTP-Method-Override turns a POST into a GET.
		runtime.WithDisablePathLengthFallback(),
		runtime.WithForwardResponseOption(func(ctx context.Context, w http.ResponseWriter, _ proto.Message) error {
			// Clients of the first protocol take any other status for a failure.
			if method, _ := runtime.RPCMethod(ctx); method == fulciov1beta.CA_CreateSigningCertificate_FullMethodName {
				w.WriteHeader(http.StatusCreated)
			}
			return nil
		}),
	)
	ctx := context.Background() // unused by handlers that call in process
	if err := fulciov2.RegisterCAHandlerServer(ctx, mux, v2{Service: s}); err != nil {
		return nil, fmt.Errorf("fulcio: %w", err)
	}
	if err := fulciov1beta.RegisterCAHandlerServer(ctx, mux, v1{Service: s}); err != nil {
		return nil, fmt.Errorf("fulcio: %w", err)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer s.recoverHTTP(w, r)
		if api.CORS(w, r, "GET, POST, HEAD") {
			return
		}
		inner := r.Clone(r.Context())
		inner.URL.Path, inner.URL.RawPath = singleSlashes(r.URL.Path), ""
		if inner.Method == http.MethodHead { // net/http leaves the body out
			inner.Method = http.MethodGet
		}
		body, httpStatus, err := s.readBody(w, r)
		if err != nil {
			writeError(w, httpStatus, codeOf(httpStatus), err.Error())
			return
		}
		inner.Body, inner.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		mux.ServeHTTP(w, inner)
	}), nil
}

// routingError answers a request that no method fits. The gateway would make
// 501 out of a wrong HTTP method, as if the fault were the server's.
func routingError(ctx context.Context, mux *runtime.ServeMux, m runtime.Marshaler, w http.ResponseWriter, r *http.Request, httpStatus int) {
	if httpStatus != http.StatusMethodNotAllowed {
		runtime.DefaultRoutingErrorHandler(ctx, mux, m, w, r, httpStatus)
		return
	}
	allowed := "GET, HEAD"
	if strings.HasSuffix(r.URL.Path, "/signingCert") {
		allowed = http.MethodPost
	}
	w.Header().Set("Allow", allowed)
	writeError(w, httpStatus, codes.Unimplemented, "Method Not Allowed: want "+allowed)
}

// readBody reads a request body within the limit and checks that it is one JSON
// value: the decoder behind would not see a second one.
func (s *Service) readBody(w http.ResponseWriter, r *http.Request) ([]byte, int, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, s.cfg.MaxBody))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, http.StatusRequestEntityTooLarge, fmt.Errorf("the request is larger than %d bytes", s.cfg.MaxBody)
	case err != nil:
		return nil, http.StatusBadRequest, errors.New("the request ended early")
	case len(body) > 0 && !json.Valid(body):
		return nil, http.StatusBadRequest, errors.New("the request body is not one JSON value")
	}
	return body, http.StatusOK, nil
}

// singleSlashes replaces repeated slashes by one.
func singleSlashes(path string) string {
	var b strings.Builder
	for i := range len(path) {
		if path[i] != '/' || i == 0 || path[i-1] != '/' {
			b.WriteByte(path[i])
		}
	}
	return b.String()
}

// recoverHTTP answers 500 for a panic outside the methods, without its text.
func (s *Service) recoverHTTP(w http.ResponseWriter, r *http.Request) {
	p := recover()
	if p == nil {
		return
	}
	if p == http.ErrAbortHandler {
		panic(p)
	}
	s.panicked(r.Context(), "HTTP", p)
	writeError(w, http.StatusInternalServerError, codes.Internal, "internal error")
}

// writeError writes an error as the gateway does.
func writeError(w http.ResponseWriter, httpStatus int, code codes.Code, message string) {
	body, err := json.Marshal(struct {
		Code    uint32 `json:"code"`
		Message string `json:"message"`
		Details []any  `json:"details"`
	}{uint32(code), message, []any{}})
	if err != nil { // cannot be: a number, a string and an empty list
		body = nil
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(httpStatus)
	w.Write(body) // the client has gone, which the server sees itself
}
