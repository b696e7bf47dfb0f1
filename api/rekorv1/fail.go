package rekorv1

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/sigstack/sigstack/api/writes"
	"github.com/sigstack/sigstack/ca/limit"
	"github.com/sigstack/sigstack/tlog"
	"github.com/sigstack/sigstack/tlog/entry"
	"github.com/sigstack/sigstack/tlog/rekor"
)

// A problem is an error as the protocol shows it.
type problem struct {
	status  int
	code    int // in the body: the status, or 601 to 612
	message string
	bare    bool   // the body ends without a newline
	media   string // of the body; "" means JSON
	reason  string // one of Reasons, of a write that is refused
}

func (p *problem) Error() string { return p.message }

// framework returns a problem that routing or validation finds.
func framework(status, code int, format string, args ...any) error {
	return &problem{status: status, code: code, message: fmt.Sprintf(format, args...), bare: true}
}

// badShape returns a problem with the shape of a request; code is 601 to 612.
func badShape(code int, format string, args ...any) error {
	return framework(http.StatusUnprocessableEntity, code, format, args...)
}

// badRequest returns a problem that a handler finds.
func badRequest(format string, args ...any) error {
	return &problem{status: http.StatusBadRequest, code: http.StatusBadRequest, message: fmt.Sprintf(format, args...)}
}

// refused returns a badRequest about an entry that might be taken elsewhere.
func refused(reason, format string, args ...any) error {
	return &problem{status: http.StatusBadRequest, code: http.StatusBadRequest, message: fmt.Sprintf(format, args...), reason: reason}
}

// Reasons why a write is refused, beside those of package writes.
const (
	bySize      = "size"
	byKind      = "kind"
	byAlgorithm = "algorithm"
)

// Reasons are all that Config.Refused is called with: a closed set, for metrics.
func Reasons() []string { return append(writes.Reasons(), bySize, byKind, byAlgorithm) }

// reasonOf returns which of Reasons an error has, "" for others.
func reasonOf(err error) string {
	var refusal *writes.Refusal
	var p *problem
	switch {
	case errors.As(err, &refusal):
		return refusal.Reason
	case errors.As(err, &p):
		return p.reason
	}
	return ""
}

// The codes of badShape.
const (
	codeType     = 601
	codeRequired = 602
	codeTooLong  = 603
	codePattern  = 605
	codeEnum     = 606
	codeMinimum  = 609
	codeTooMany  = 611
	codeTooFew   = 612
)

// errNotFound is an entry that is not there: 404 without body or type.
var errNotFound = errors.New("no such entry")

// fail renders an error.
func (h *handler) fail(w http.ResponseWriter, r *http.Request, err error) {
	if err == errNotFound {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	p := h.problem(r, err)
	var refusal *writes.Refusal
	if errors.As(err, &refusal) {
		if refusal.RetryAfter > 0 {
			w.Header().Set("Retry-After", strconv.FormatInt(limit.Seconds(refusal.RetryAfter), 10))
		}
		if refusal.Challenge != "" {
			w.Header().Set("WWW-Authenticate", refusal.Challenge)
		}
	}
	if p.status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	b := append([]byte(`{"code":`), strconv.Itoa(p.code)...)
	b = append(b, `,"message":`...)
	b = appendString(b, strings.ToValidUTF8(p.message, "\uFFFD"))
	b = append(b, '}')
	if !p.bare {
		b = append(b, '\n')
	}
	media := p.media
	if media == "" {
		media = typeJSON
	}
	send(w, p.status, media, b)
}

// problem returns how an error is shown. What is nobody's business but the
// operator's is logged here and shown in general terms.
func (h *handler) problem(r *http.Request, err error) *problem {
	var (
		p      *problem
		schema *entry.SchemaError
		input  *rekor.InputError
		exists *rekor.ExistsError
	)
	switch {
	case errors.As(err, &p):
		return p
	case errors.As(err, &schema):
		return &problem{status: http.StatusUnprocessableEntity, code: schema.Code, message: schema.Message, bare: true}
	case errors.As(err, &input):
		return &problem{status: http.StatusBadRequest, code: http.StatusBadRequest, message: input.Text}
	case errors.As(err, &exists):
		return &problem{status: http.StatusConflict, code: http.StatusConflict, message: exists.Error()}
	}
	if gone := r.Context().Err(); gone != nil && !errors.Is(err, tlog.ErrIntegrity) {
		// Whatever failed, failed because nobody waits for it any more.
		err = gone
	}
	status := h.cfg.Status(err)
	message := err.Error()
	switch {
	case errors.Is(err, tlog.ErrUnknown):
		message = "the transparency log is temporarily unavailable; whether the entry was added is not known, submit it again to find out"
	case status == http.StatusServiceUnavailable:
		message = "the transparency log is temporarily unavailable, try again"
	case status == http.StatusGatewayTimeout:
		message = "the transparency log did not answer in time"
	case status >= 500:
		message = "unexpected error communicating with transparency log"
	}
	if status >= 500 {
		h.cfg.Logger.ErrorContext(r.Context(), "request failed", "method", r.Method, "route", r.Pattern, "status", status, "err", err)
	}
	return &problem{status: status, code: status, message: message}
}

// cut bounds what an error message repeats of a request.
func cut(s string) string {
	if len(s) > 256 {
		return s[:256] + "..."
	}
	return s
}

// send writes a whole answer.
func send(w http.ResponseWriter, status int, media string, body []byte) {
	header := w.Header()
	header.Set("Content-Type", media)
	header.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	w.Write(body) // an error here means that nobody listens any more
}
