package devoidc

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"
)

const (
	maxForm   = 64 << 10 // bytes of a body or of a query string
	maxParams = 64       // parameters in one of them
)

// errTooLarge is the one form error with a status of its own (413).
var errTooLarge = fmt.Errorf("body larger than %d bytes", maxForm)

// parseForm decodes application/x-www-form-urlencoded. It refuses what has no
// single meaning: a parameter that is given twice (RFC 6749, sections 3.1 and
// 3.2) and bytes that are not UTF-8. Parameters are counted before anything is
// decoded, so that a body of "a&b&c&..." does not become a map of 30,000 keys.
func parseForm(raw string) (url.Values, error) {
	if len(raw) > maxForm {
		return nil, errTooLarge
	}
	if n := strings.Count(raw, "&") + 1; n > maxParams {
		return nil, fmt.Errorf("%d parameters: want at most %d", n, maxParams)
	}
	v, err := url.ParseQuery(raw)
	if err != nil {
		return nil, errors.New("parameters are not application/x-www-form-urlencoded")
	}
	for name, values := range v {
		if len(values) > 1 {
			return nil, fmt.Errorf("parameter %.40q is given %d times: want once", name, len(values))
		}
		if !utf8.ValidString(name) || !utf8.ValidString(values[0]) {
			return nil, fmt.Errorf("parameter %.40q is not UTF-8", name)
		}
	}
	return v, nil
}

// readForm reads and decodes the body of a POST. Parameters in the query of a
// POST are not looked at: a code does not belong in a URL.
func readForm(w http.ResponseWriter, r *http.Request) (url.Values, error) {
	mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || mediaType != "application/x-www-form-urlencoded" {
		return nil, errors.New("content type: want application/x-www-form-urlencoded")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxForm))
	if err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return nil, errTooLarge
		}
		return nil, errors.New("body could not be read to its end")
	}
	return parseForm(string(body))
}

// formStatus is the HTTP status of an error of readForm.
func formStatus(err error) int {
	if errors.Is(err, errTooLarge) {
		return http.StatusRequestEntityTooLarge
	}
	return http.StatusBadRequest
}

// printable reports whether s has at most max bytes and each is VSCHAR, 0x20
// to 0x7E (RFC 6749, appendix A).
func printable(s string, max int) bool {
	if len(s) > max {
		return false
	}
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7e {
			return false
		}
	}
	return true
}

// checkEmail accepts the plain form of RFC 5321, section 4.1.2: a dot-atom, an
// "@" and a domain of letters, digits and hyphens. Quoted local parts, address
// literals and comments are refused: nobody signs with them, and certificates
// and log searches would have to agree on their spelling.
func checkEmail(s string) error {
	local, domain, _ := strings.Cut(s, "@")
	if len(s) > 254 || len(local) > 64 || !labels(local, 64, isAtext) || !labels(domain, 63, isLDH) {
		return fmt.Errorf("e-mail address %.80q: want one like dev@example.com", s)
	}
	for label := range strings.SplitSeq(domain, ".") {
		if label[0] == '-' || label[len(label)-1] == '-' {
			return fmt.Errorf("e-mail address %.80q: a domain label begins or ends with a hyphen", s)
		}
	}
	return nil
}

// labels reports whether s is one or more non-empty labels with dots between.
func labels(s string, max int, ok func(byte) bool) bool {
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > max {
			return false
		}
		for i := range len(label) {
			if !ok(label[i]) {
				return false
			}
		}
	}
	return true
}

func isAlnum(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

func isLDH(c byte) bool { return isAlnum(c) || c == '-' }

// RFC 5322, section 3.2.3.
func isAtext(c byte) bool { return isAlnum(c) || strings.IndexByte("!#$%&'*+-/=?^_`{|}~", c) >= 0 }
