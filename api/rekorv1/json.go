package rekorv1

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// maxMembers bounds the members of an object, known or not. No request has
// more than five that mean something.
const maxMembers = 100

// readDocument reads a body that is one JSON object, as readObject does.
// Anything but white space after it is an error.
func readDocument(data []byte, names []string, read func(name string, dec *json.Decoder) error) error {
	if !utf8.Valid(data) {
		return errors.New("it is not valid UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	if err := readObject(dec, names, read); err != nil {
		return err
	}
	if _, err := dec.Token(); err != io.EOF {
		return errors.New("something follows the object")
	}
	return nil
}

// readObject reads a JSON object. It calls read with the name of each member
// that is in names; read must take exactly one value from the decoder. Other
// members are skipped. null gives errNull.
//
// A member that is there twice, or whose name differs from one of names only
// by case, is an error: other readers of the same request could take another
// value.
func readObject(dec *json.Decoder, names []string, read func(name string, dec *json.Decoder) error) error {
	if err := open(dec, '{'); err != nil {
		return err
	}
	var seen []string
	for n := 0; dec.More(); n++ {
		if n == maxMembers {
			return fmt.Errorf("an object has more than %d members", maxMembers)
		}
		token, err := dec.Token()
		if err != nil {
			return err
		}
		name := token.(string) // the decoder returns nothing else here
		switch {
		case slices.Contains(seen, name):
			return fmt.Errorf("member %q is there twice", name)
		case slices.Contains(names, name):
			seen = append(seen, name)
			err = read(name, dec)
		default:
			for _, want := range names {
				if len(name) <= 4*len(want) && strings.EqualFold(name, want) {
					return fmt.Errorf("member %q must be spelled %q", name, want)
				}
			}
			var skip json.RawMessage
			err = dec.Decode(&skip)
		}
		if err != nil {
			return err
		}
	}
	_, err := dec.Token() // the closing brace
	return err
}

// readArray reads a JSON array of 1 to maxItems elements, or null. It calls
// read for each element; read must take exactly one value from the decoder.
// Other numbers of elements are a problem with the named member.
func readArray(dec *json.Decoder, name string, read func(i int, dec *json.Decoder) error) error {
	switch err := open(dec, '['); {
	case err == errNull:
		return nil
	case err != nil:
		return fmt.Errorf("%s: %w", name, err)
	}
	n := 0
	for ; dec.More(); n++ {
		if n == maxItems {
			return badShape(codeTooMany, "%s in body should have at most %d items", name, maxItems)
		}
		if err := read(n, dec); err != nil {
			return err
		}
	}
	if n == 0 {
		return badShape(codeTooFew, "%s in body should have at least 1 items", name)
	}
	_, err := dec.Token() // the closing bracket
	return err
}

// readText reads a string, or null, which leaves it as it is. Half a surrogate
// pair is no text: the decoder would replace it without a word.
func readText(dec *json.Decoder, to *string) error {
	if err := dec.Decode(to); err != nil {
		return err
	}
	if strings.ContainsRune(*to, utf8.RuneError) {
		return errors.New("a string is not valid Unicode")
	}
	return nil
}

var errNull = errors.New("null is not accepted")

// open reads the delimiter that an object or array begins with.
func open(dec *json.Decoder, delim json.Delim) error {
	switch token, err := dec.Token(); {
	case err != nil:
		return err
	case token == delim:
		return nil
	case token == nil:
		return errNull
	case delim == '[':
		return errors.New("want an array")
	}
	return errors.New("want an object")
}

// isBlank says whether a body holds no JSON value at all.
func isBlank(body []byte) bool { return len(bytes.TrimLeft(body, " \t\r\n")) == 0 }

// malformed returns the problem with a body that is not the JSON that the
// named parameter should be. A problem that says more is kept.
func malformed(param string, err error) error {
	var p *problem
	if err == nil || errors.As(err, &p) {
		return err
	}
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		err = errors.New("unexpected end of JSON input")
	}
	return framework(400, 400, `parsing %s body from "" failed, because %s`, param, cut(err.Error()))
}
