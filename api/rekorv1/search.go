package rekorv1

import (
	"encoding/json"
	"net/http"
	"net/mail"
	"strings"
	"unicode/utf8"

	"github.com/sigstack/sigstack/tlog/entry"
)

// search serves POST /api/v1/index/retrieve.
func (h *handler) search(w http.ResponseWriter, r *http.Request) error {
	body, err := readBody(w, r, maxQuery)
	if err != nil {
		return err
	}
	q, err := parseQuery(body)
	if err != nil {
		return err
	}
	keys, err := q.keys()
	if err != nil {
		return err
	}
	uuids, err := h.cfg.Log.Search(r.Context(), keys, q.operator == "and")
	if err != nil {
		return err
	}
	b := append(make([]byte, 0, 83*len(uuids)+3), '[')
	for i, uuid := range uuids {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '"')
		b = append(b, uuid...)
		b = append(b, '"')
	}
	send(w, http.StatusOK, typeJSON, append(b, "]\n"...))
	return nil
}

// A query is a search. An empty member is no criterion.
type query struct {
	email, hash, subject, operator string
	key                            *queryKey
}

type queryKey struct {
	format  string
	content []byte
}

// maxSubject bounds a subject in characters, maxEmail an address in bytes:
// RFC 5321, section 4.5.3.1 allows 254, and a little is left for brackets.
const (
	maxSubject = 512
	maxEmail   = 320
)

// parseQuery reads the body of a search and checks its shape.
func parseQuery(body []byte) (*query, error) {
	if isBlank(body) {
		return nil, badShape(codeRequired, "query in body is required")
	}
	q := new(query)
	err := readDocument(body, []string{"email", "hash", "operator", "publicKey", "subject"}, func(name string, dec *json.Decoder) error {
		switch name {
		case "email":
			return readText(dec, &q.email)
		case "hash":
			return readText(dec, &q.hash)
		case "operator":
			return readText(dec, &q.operator)
		case "subject":
			return readText(dec, &q.subject)
		}
		key := new(queryKey)
		switch err := readObject(dec, []string{"content", "format"}, func(name string, dec *json.Decoder) error {
			if name == "format" {
				return readText(dec, &key.format)
			}
			return dec.Decode(&key.content)
		}); err {
		case nil:
			q.key = key
			return nil
		case errNull:
			return nil
		default:
			return err
		}
	})
	if err != nil {
		return nil, malformed("query", err)
	}
	return q, q.check()
}

// check returns the first problem with the values of a query, in the order of
// the names of its members.
func (q *query) check() error {
	if q.email != "" && !isEmail(q.email) {
		return badShape(codeType, "email in body must be of type email: %q", cut(q.email))
	}
	if q.hash != "" && hashKey(q.hash) == "" {
		return badShape(codePattern, "hash in body should match '^(sha512:)?[0-9a-fA-F]{128}$|^(sha256:)?[0-9a-fA-F]{64}$|^(sha1:)?[0-9a-fA-F]{40}$'")
	}
	switch q.operator {
	case "", "and", "or":
	default:
		return badShape(codeEnum, "operator in body should be one of [and or]")
	}
	if q.key != nil {
		switch q.key.format {
		case "pgp", "x509", "minisign", "ssh", "tuf":
		case "":
			return badShape(codeRequired, "publicKey.format in body is required")
		default:
			return badShape(codeEnum, "publicKey.format in body should be one of [pgp x509 minisign ssh tuf]")
		}
	}
	if utf8.RuneCountInString(q.subject) > maxSubject {
		return badShape(codeTooLong, "subject in body should be at most %d chars long", maxSubject)
	}
	return nil
}

func isEmail(s string) bool {
	if len(s) > maxEmail {
		return false
	}
	_, err := mail.ParseAddress(s)
	return err == nil
}

// keys returns the search keys of a query, one for each criterion.
func (q *query) keys() ([]string, error) {
	var keys []string
	if q.hash != "" {
		keys = append(keys, hashKey(q.hash))
	}
	if q.key != nil {
		hash, err := entry.KeyHash(q.key.format, q.key.content)
		if err != nil {
			return nil, badRequest("public key provided could not be parsed")
		}
		keys = append(keys, hash)
	}
	for _, s := range []string{q.email, q.subject} {
		if s != "" {
			keys = append(keys, s)
		}
	}
	return keys, nil
}

// hashKey returns the search key of a hash, "algorithm:digits", or "" for what
// is not one. Without algorithm the number of digits tells it.
func hashKey(s string) string {
	alg, digits, ok := strings.Cut(s, ":")
	if !ok {
		alg, digits = "", s
	}
	byLen := ""
	switch len(digits) {
	case 40:
		byLen = "sha1"
	case 64:
		byLen = "sha256"
	case 128:
		byLen = "sha512"
	}
	if byLen == "" || ok && alg != byLen || strings.Trim(digits, "0123456789abcdefABCDEF") != "" {
		return ""
	}
	return byLen + ":" + strings.ToLower(digits)
}
