package entry

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"unicode/utf8"
)

// This file writes JSON that somebody else made in canonical form. The general
// canonicaliser that the tests compare with inserts each member into a list,
// which takes the square of their number, and knows only one form.

// A canonicalForm is one of the two forms that TUF metadata is in.
type canonicalForm struct {
	// compare orders the names of members.
	compare func(a, b []byte) int
	// escape appends a character that stands for itself or is escaped.
	escape func(out []byte, c byte) []byte
}

var (
	// formJCS is RFC 8785: what logs store.
	formJCS = canonicalForm{compareUTF16, escapeJCS}
	// formOLPC is Canonical JSON of OLPC: what TUF signs. Control characters
	// stand in strings as they are.
	formOLPC = canonicalForm{bytes.Compare, escapeOLPC}
)

const (
	// maxCanonicalDepth bounds the nesting. A level is read once for each one
	// that it is in. TUF metadata has five.
	maxCanonicalDepth = 16

	maxSafeInteger = 1<<53 - 1 // RFC 7493, section 2.2
)

// canonical returns v in a canonical form. Numbers must be integers that each
// reader reads as the same one; a name must be there once.
func (f canonicalForm) canonical(v value) ([]byte, error) {
	return f.appendValue(make([]byte, 0, len(v)), v, 0)
}

func (f canonicalForm) appendValue(out []byte, v value, depth int) ([]byte, error) {
	if depth > maxCanonicalDepth {
		return nil, fmt.Errorf("it is nested more than %d deep", maxCanonicalDepth)
	}
	switch {
	case len(v) == 0:
		return append(out, "null"...), nil
	case v.isString():
		text, err := v.bytes()
		return f.appendString(out, text), err
	case v.isObject():
		return f.appendObject(out, v, depth)
	case v.isArray():
		out = append(out, '[')
		first := true
		err := v.eachElement(func(v value) (err error) {
			if !first {
				out = append(out, ',')
			}
			first = false
			out, err = f.appendValue(out, v, depth+1)
			return err
		})
		return append(out, ']'), err
	case v[0] == 't' || v[0] == 'f':
		return append(out, v...), nil
	}
	if _, err := v.integer(); err != nil {
		return nil, err
	}
	return append(out, v...), nil
}

func (f canonicalForm) appendString(out, text []byte) []byte {
	out = append(out, '"')
	for _, c := range text {
		out = f.escape(out, c)
	}
	return append(out, '"')
}

func (f canonicalForm) appendObject(out []byte, v value, depth int) ([]byte, error) {
	count, inOrder := 0, true
	var last []byte
	err := v.eachMember(func(name []byte, _ value) error {
		inOrder = inOrder && (count == 0 || f.compare(last, name) < 0)
		last = name
		count++
		return nil
	})
	if err != nil {
		return nil, err
	}
	out = append(out, '{')
	first := true
	write := func(name []byte, val value) (err error) {
		if !first {
			out = append(out, ',')
		}
		first = false
		out = append(f.appendString(out, name), ':')
		out, err = f.appendValue(out, val, depth+1)
		return err
	}
	if inOrder {
		err = v.eachMember(write)
	} else {
		err = f.eachSorted(v, count, write)
	}
	return append(out, '}'), err
}

// eachSorted calls write for each of the members, in order.
func (f canonicalForm) eachSorted(v value, count int, write func(name []byte, val value) error) error {
	type member struct {
		name []byte
		val  value
	}
	all := make([]member, 0, count)
	err := v.eachMember(func(name []byte, val value) error {
		all = append(all, member{name, val})
		return nil
	})
	if err != nil {
		return err
	}
	slices.SortFunc(all, func(a, b member) int { return f.compare(a.name, b.name) })
	for i, m := range all {
		if i > 0 && bytes.Equal(all[i-1].name, m.name) {
			return fmt.Errorf("member %q is there twice", clip(string(m.name)))
		}
		if err := write(m.name, m.val); err != nil {
			return err
		}
	}
	return nil
}

// compareUTF16 orders names by their UTF-16 code units (RFC 8785, section
// 3.2.3).
func compareUTF16(a, b []byte) int {
	for len(a) > 0 && len(b) > 0 {
		x, n := utf8.DecodeRune(a)
		y, m := utf8.DecodeRune(b)
		if x != y {
			return cmp.Compare(firstUnit(x), firstUnit(y))
		}
		a, b = a[n:], b[m:]
	}
	return len(a) - len(b)
}

// firstUnit orders characters as their UTF-16 does: those of two units come
// where the surrogates are, and among them in their own order.
func firstUnit(r rune) int64 {
	if r > 0xffff {
		return 0xd800<<32 | int64(r)
	}
	return int64(r) << 32
}

func escapeJCS(out []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(out, '\\', c)
	case '\b':
		return append(out, `\b`...)
	case '\f':
		return append(out, `\f`...)
	case '\n':
		return append(out, `\n`...)
	case '\r':
		return append(out, `\r`...)
	case '\t':
		return append(out, `\t`...)
	}
	if c < 0x20 {
		return fmt.Appendf(out, `\u%04x`, c)
	}
	return append(out, c)
}

func escapeOLPC(out []byte, c byte) []byte {
	if c == '"' || c == '\\' {
		out = append(out, '\\')
	}
	return append(out, c)
}

var errNotInteger = errors.New("want an integer without fraction and exponent, of at most 2^53-1")

// integer returns the integer that the number v is. Each has one spelling.
func (v value) integer() (int64, error) {
	n, err := strconv.ParseInt(string(v), 10, 64)
	if err != nil || n > maxSafeInteger || n < -maxSafeInteger || string(v) == "-0" {
		return 0, errNotInteger
	}
	return n, nil
}
