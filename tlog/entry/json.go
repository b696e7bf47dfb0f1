package entry

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// This file reads JSON (RFC 8259) strictly and without building a tree.
//
// encoding/json is not enough where bytes are signed and hashed: it matches
// member names without regard to case, takes the last of two equal members,
// and replaces bad UTF-8 and lone surrogates without a word. Two readers of
// one request could then see two requests. Here, a member that is read must be
// spelled exactly and be there once; text must be what was sent.
//
// checkJSON validates a document once. All else assumes a valid document, does
// not look at what is not asked for, and reads it in place.

var (
	errNotObject = errors.New("want an object")
	errNotArray  = errors.New("want an array")
)

// checkJSON returns nil if data is one JSON value in valid UTF-8 with nothing
// but white space around it. The nesting depth is bounded by encoding/json
// (10,000).
func checkJSON(data []byte) error {
	if !utf8.Valid(data) {
		return errors.New("not valid UTF-8")
	}
	if json.Valid(data) {
		return nil
	}
	if err := json.Unmarshal(data, &struct{}{}); err != nil {
		return err
	}
	return errors.New("not valid JSON")
}

// A value is the text of one JSON value, without white space around it. A
// value that is absent, or null, is nil.
type value []byte

// isObject, isArray and isString tell the kind by the first byte.
func (v value) isObject() bool { return len(v) > 0 && v[0] == '{' }
func (v value) isArray() bool  { return len(v) > 0 && v[0] == '[' }
func (v value) isString() bool { return len(v) > 0 && v[0] == '"' }

// kind names the JSON type, for messages.
func (v value) kind() string {
	switch {
	case len(v) == 0:
		return "null"
	case v[0] == '{':
		return "object"
	case v[0] == '[':
		return "array"
	case v[0] == '"':
		return "string"
	case v[0] == 't' || v[0] == 'f':
		return "boolean"
	}
	return "number"
}

// members returns the values of the named members of an object, in the order
// of names. Other members are ignored, unless their name differs from one
// asked for only by case: some readers take them for the same.
func (v value) members(names ...string) ([]value, error) {
	if !v.isObject() {
		return nil, errNotObject
	}
	found := make([]value, len(names))
	seen := make([]bool, len(names))
	err := v.eachMember(func(name []byte, val value) error {
		for i, want := range names {
			if string(name) == want {
				if seen[i] {
					return fmt.Errorf("member %q is there twice", want)
				}
				seen[i], found[i] = true, val
				return nil
			}
		}
		for _, want := range names {
			if len(name) <= 4*len(want) && strings.EqualFold(string(name), want) {
				return fmt.Errorf("member %q must be spelled %q", name, want)
			}
		}
		return nil
	})
	return found, err
}

// eachMember calls f for each member of an object, in order. The name is
// unescaped.
func (v value) eachMember(f func(name []byte, val value) error) error {
	if !v.isObject() {
		return errNotObject
	}
	for i := skipSpace(v, 1); v[i] != '}'; {
		end := skipString(v, i)
		name, err := unquote(v[i:end])
		if err != nil {
			return err
		}
		i = skipSpace(v, skipSpace(v, end)+1) // past the colon
		end = skipValue(v, i)
		if err := f(name, element(v[i:end])); err != nil {
			return err
		}
		if i = skipSpace(v, end); v[i] == ',' {
			i = skipSpace(v, i+1)
		}
	}
	return nil
}

// eachElement calls f for each element of an array, in order.
func (v value) eachElement(f func(val value) error) error {
	if !v.isArray() {
		return errNotArray
	}
	for i := skipSpace(v, 1); v[i] != ']'; {
		end := skipValue(v, i)
		if err := f(element(v[i:end])); err != nil {
			return err
		}
		if i = skipSpace(v, end); v[i] == ',' {
			i = skipSpace(v, i+1)
		}
	}
	return nil
}

func element(v value) value {
	if v[0] == 'n' {
		return nil
	}
	return v
}

// trimmed returns the value that a valid document is.
func trimmed(document []byte) value { return element(bytes.Trim(document, " \t\r\n")) }

// bytes returns the text of the string that v is. Absent and null are empty;
// any other type is an error. The result may be a part of v.
func (v value) bytes() ([]byte, error) {
	if len(v) == 0 {
		return nil, nil
	}
	if !v.isString() {
		return nil, fmt.Errorf("want a string, not %s", v.kind())
	}
	return unquote(v)
}

// text is bytes for short strings.
func (v value) text() (string, error) {
	s, err := v.bytes()
	return string(s), err
}

// base64 returns the bytes that the string v encodes in standard base64 with
// padding (RFC 4648, section 4), without line breaks and with zero padding
// bits, so that there is one spelling. Absent and null are no bytes.
func (v value) base64() ([]byte, error) {
	s, err := v.bytes()
	if err != nil || s == nil {
		return nil, err
	}
	return decodeBase64(s)
}

func decodeBase64(s []byte) ([]byte, error) {
	if bytes.ContainsAny(s, "\r\n") {
		return nil, errors.New("failed parsing base64 data: line breaks are not accepted")
	}
	out, err := base64.StdEncoding.Strict().AppendDecode(make([]byte, 0, base64.StdEncoding.DecodedLen(len(s))), s)
	if err != nil {
		return nil, fmt.Errorf("failed parsing base64 data: %w", err)
	}
	return out, nil
}

func skipSpace(v value, i int) int {
	for v[i] == ' ' || v[i] == '\t' || v[i] == '\n' || v[i] == '\r' {
		i++
	}
	return i
}

// skipString returns the index after the string that begins at i.
func skipString(v value, i int) int {
	for i++; ; i++ {
		i += bytes.IndexByte(v[i:], '"')
		n := 0
		for v[i-1-n] == '\\' {
			n++
		}
		if n%2 == 0 {
			return i + 1
		}
	}
}

// skipValue returns the index after the value that begins at i.
func skipValue(v value, i int) int {
	switch v[i] {
	case '"':
		return skipString(v, i)
	case '{', '[':
		for depth := 0; ; {
			switch v[i] {
			case '"':
				i = skipString(v, i)
				continue
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return i + 1
				}
			}
			i++
		}
	}
	for i < len(v) && !strings.ContainsRune(" \t\r\n,]}", rune(v[i])) {
		i++
	}
	return i
}

// unquote returns the text of a JSON string (RFC 8259, section 7). A lone
// surrogate is an error: it is not text. Without escapes the result is a part
// of v.
func unquote(v value) ([]byte, error) {
	in := v[1 : len(v)-1]
	next := bytes.IndexByte(in, '\\')
	if next < 0 {
		return in, nil
	}
	out := make([]byte, 0, len(in))
	for next >= 0 {
		out = append(out, in[:next]...)
		c := in[next+1]
		in = in[next+2:]
		switch c {
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case 'n':
			out = append(out, '\n')
		case 'r':
			out = append(out, '\r')
		case 't':
			out = append(out, '\t')
		case 'u':
			r := hex4(in)
			in = in[4:]
			if utf16.IsSurrogate(r) {
				if len(in) < 6 || in[0] != '\\' || in[1] != 'u' {
					return nil, errors.New("string holds half a surrogate pair")
				}
				if r = utf16.DecodeRune(r, hex4(in[2:])); r == utf8.RuneError {
					return nil, errors.New("string holds half a surrogate pair")
				}
				in = in[6:]
			}
			out = utf8.AppendRune(out, r)
		default: // quote, backslash, slash
			out = append(out, c)
		}
		next = bytes.IndexByte(in, '\\')
	}
	return append(out, in...), nil
}

// hex4 returns the value of the four hex digits that in begins with.
func hex4(in []byte) rune {
	var r rune
	for _, c := range in[:4] {
		switch {
		case c <= '9':
			c -= '0'
		case c <= 'F':
			c -= 'A' - 10
		default:
			c -= 'a' - 10
		}
		r = r<<4 | rune(c)
	}
	return r
}
