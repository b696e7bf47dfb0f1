package entry

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// This file reads the parts that several kinds share, and writes canonical
// JSON.
//
// Canonical JSON (RFC 8785) is written member by member: the members of each
// kind are fixed, so their sorted order is the order of the statements. Every
// string that is written is hex, base64 or a word of a fixed list, in none of
// which a character needs an escape. A test compares all of it with a general
// canonicaliser.

// A digest is a hash value of an artifact, payload or envelope.
type digest struct {
	algorithm string // "sha256", "sha384" or "sha512"
	value     string // hex, in the case that it was sent in
}

// searchKey returns the key that the digest is found by.
func (d digest) searchKey() string { return d.algorithm + ":" + d.value }

// raw returns the bytes of the digest.
func (d digest) raw() []byte {
	b, _ := hex.DecodeString(d.value) // readDigest has checked it
	return b
}

// hexLength is the length of each algorithm's value in hex digits.
var hexLength = map[string]int{"sha256": 64, "sha384": 96, "sha512": 128}

// readDigest reads an object {algorithm, value} with one of the allowed
// algorithms. where names it in errors ("data.hash").
func readDigest(v value, where string, allowed ...string) (digest, error) {
	m, err := v.members("algorithm", "value")
	if err != nil {
		return digest{}, fmt.Errorf("%s: %w", where, err)
	}
	var d digest
	if d.algorithm, err = m[0].text(); err != nil {
		return digest{}, fmt.Errorf("%s.algorithm: %w", where, err)
	}
	if d.value, err = m[1].text(); err != nil {
		return digest{}, fmt.Errorf("%s.value: %w", where, err)
	}
	switch {
	case d.algorithm == "":
		return digest{}, fmt.Errorf("%s.algorithm in body is required", where)
	case d.value == "":
		return digest{}, fmt.Errorf("%s.value in body is required", where)
	case !slices.Contains(allowed, d.algorithm):
		return digest{}, fmt.Errorf("%s.algorithm in body should be one of [%s]", where, strings.Join(allowed, " "))
	case len(d.value) != hexLength[d.algorithm]:
		return digest{}, fmt.Errorf("invalid value for hash: %s of %s needs %d hex digits, got %d",
			where, d.algorithm, hexLength[d.algorithm], len(d.value))
	}
	if _, err := hex.DecodeString(d.value); err != nil {
		return digest{}, fmt.Errorf("invalid value for hash: %s: %w", where, err)
	}
	return d, nil
}

// requiredBytes reads a base64 member that must be there and not be empty.
func requiredBytes(v value, where string) ([]byte, error) {
	b, err := v.base64()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", where, err)
	}
	if len(b) == 0 {
		return nil, fmt.Errorf("%s in body is required", where)
	}
	return b, nil
}

// requiredMembers reads the members of an object that must be there.
func requiredMembers(v value, where string, names ...string) ([]value, error) {
	if v == nil {
		return nil, fmt.Errorf("%s in body is required", where)
	}
	m, err := v.members(names...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", where, err)
	}
	return m, nil
}

// appendHeader begins a leaf value; the caller appends spec and two braces.
func appendHeader(out []byte, kind, version string) []byte {
	out = append(out, `{"apiVersion":"`...)
	out = append(out, version...)
	out = append(out, `","kind":"`...)
	out = append(out, kind...)
	return append(out, `","spec":{`...)
}

// appendDigest appends {"algorithm":...,"value":...}.
func appendDigest(out []byte, d digest) []byte {
	out = append(out, `{"algorithm":"`...)
	out = append(out, d.algorithm...)
	out = append(out, `","value":"`...)
	out = append(out, d.value...)
	return append(out, `"}`...)
}
