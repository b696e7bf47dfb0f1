package rekorv1

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
)

// negotiate checks the media types of a request: of its body, if it has one,
// and else those that it accepts. Every route reads JSON and produces one type. Who
// posts is answered in it, whatever he accepts (RFC 9110, section 12.4.1): an
// entry is not refused for how its receipt looks.
func negotiate(r *http.Request, produces string) error {
	if r.Method == http.MethodPost {
		if !hasBody(r) {
			return nil
		}
		// RFC 9110, section 8.3: without a type, it may be anything.
		sent := r.Header.Get("Content-Type")
		if sent == "" {
			sent = "application/octet-stream"
		}
		if got, _, err := mime.ParseMediaType(sent); err != nil || got != typeJSON {
			return framework(http.StatusUnsupportedMediaType, http.StatusUnsupportedMediaType,
				"unsupported media type %q, only [%s] are allowed", cut(sent), typeJSON)
		}
		return nil
	}
	accepts := r.Header.Values("Accept")
	if accepted(accepts, produces) || accepted(accepts, typeJSON) {
		return nil
	}
	return framework(http.StatusNotAcceptable, http.StatusNotAcceptable,
		"unsupported media type requested, only [%s] are available", produces)
}

// hasBody says whether a request has a body, which then can still be read.
func hasBody(r *http.Request) bool {
	if r.ContentLength >= 0 {
		return r.ContentLength > 0
	}
	// Chunked: only reading tells.
	var first [1]byte
	n, err := io.ReadFull(r.Body, first[:])
	if n == 0 {
		if errors.Is(err, io.EOF) {
			r.Body, r.ContentLength = http.NoBody, 0
			return false
		}
		return true // the read that follows will say what is wrong
	}
	r.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(first[:]), r.Body), r.Body}
	return true
}

// accepted says whether Accept headers (RFC 9110, section 12.5.1) admit a
// media type. No header admits all.
func accepted(headers []string, mediaType string) bool {
	if len(headers) == 0 {
		return true
	}
	group, _, _ := strings.Cut(mediaType, "/")
	for _, line := range headers {
		for item := range strings.SplitSeq(line, ",") {
			name, params, _ := strings.Cut(item, ";")
			switch strings.ToLower(strings.TrimSpace(name)) {
			case mediaType, group + "/*", "*/*":
				if !excluded(params) {
					return true
				}
			}
		}
	}
	return false
}

// excluded says whether the parameters of a media range have a weight of 0.
func excluded(params string) bool {
	for p := range strings.SplitSeq(params, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(p), "=")
		if strings.EqualFold(name, "q") {
			q, err := strconv.ParseFloat(value, 64)
			return err == nil && q == 0
		}
	}
	return false
}

// readBody reads a body of at most limit bytes, chunked or not.
func readBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	if r.ContentLength > limit {
		// Nothing was read: the rest of the connection cannot be used.
		w.Header().Set("Connection", "close")
		return nil, tooLarge(limit)
	}
	// What the sender says about its length is believed for one page only: a
	// body costs memory when it arrives, not when it is announced.
	var b bytes.Buffer
	b.Grow(int(min(max(r.ContentLength, 0), 64<<10)) + bytes.MinRead)
	_, err := b.ReadFrom(http.MaxBytesReader(w, r.Body, limit))
	var over *http.MaxBytesError
	switch {
	case errors.As(err, &over):
		return nil, tooLarge(limit)
	case err != nil:
		if r.Context().Err() != nil {
			return nil, r.Context().Err()
		}
		return nil, badRequest("reading the request body: it ended early or is malformed")
	}
	return b.Bytes(), nil
}

func tooLarge(limit int64) error {
	return &problem{status: http.StatusRequestEntityTooLarge, code: http.StatusRequestEntityTooLarge, bare: true, reason: bySize,
		message: fmt.Sprintf("Request Entity Too Large. Limit set to %d", limit)}
}
