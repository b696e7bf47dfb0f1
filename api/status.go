package api

import (
	"context"
	"errors"
	"net/http"

	"github.com/sigstack/sigstack/api/writes"
	"github.com/sigstack/sigstack/ca"
	"github.com/sigstack/sigstack/ca/identity"
	"github.com/sigstack/sigstack/ca/policy"
	"github.com/sigstack/sigstack/tlog"
	"github.com/sigstack/sigstack/tlog/ct"
	"github.com/sigstack/sigstack/tlog/entry"
	"github.com/sigstack/sigstack/tlog/rekor"
)

// StatusClientClosedRequest is what a request is logged as whose client went
// away; nobody receives it.
const StatusClientClosedRequest = 499

// Status is the one mapping from an error of any component to an HTTP status.
// Protocols choose how an error looks, not what it is.
//
// Our own trouble is 503 where the same request may succeed later, and never a
// 4xx, which would tell the client not to try again.
func Status(err error) int {
	var tooLarge *http.MaxBytesError
	var schema *entry.SchemaError
	var input *rekor.InputError
	switch {
	case err == nil:
		return http.StatusOK

	// Integrity first: it may be wrapped together with anything.
	case errors.Is(err, tlog.ErrIntegrity):
		return http.StatusInternalServerError

	case errors.As(err, &tooLarge), errors.Is(err, tlog.ErrTooLarge):
		return http.StatusRequestEntityTooLarge
	case errors.As(err, &schema):
		return http.StatusUnprocessableEntity
	case errors.Is(err, tlog.ErrUnavailable), errors.Is(err, ca.ErrUnavailable), errors.Is(err, identity.ErrIssuerUnavailable):
		return http.StatusServiceUnavailable
	case errors.Is(err, writes.ErrCredentials):
		return http.StatusUnauthorized
	case errors.Is(err, policy.ErrDenied), errors.Is(err, writes.ErrForbidden):
		return http.StatusForbidden
	case errors.Is(err, policy.ErrLimited), errors.Is(err, writes.ErrLimited):
		return http.StatusTooManyRequests
	case errors.Is(err, rekor.ErrExists):
		return http.StatusConflict
	case errors.Is(err, entry.ErrInvalid), errors.As(err, &input), errors.Is(err, identity.ErrToken), errors.Is(err, ca.ErrRequest), errors.Is(err, ct.ErrChain):
		return http.StatusBadRequest
	case errors.Is(err, tlog.ErrNotFound):
		return http.StatusNotFound
	case errors.Is(err, context.DeadlineExceeded):
		return http.StatusGatewayTimeout
	case errors.Is(err, context.Canceled):
		return StatusClientClosedRequest
	}
	return http.StatusInternalServerError
}
