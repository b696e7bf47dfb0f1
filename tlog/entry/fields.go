package entry

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// This file reads the parts that several kinds share, and writes canonical
// JSON.
//
// Canonical JSON (RFC 8785) is written member by member: the members of each
// kind are fixed, so their sorted order is the order of the statements. Most
// strings that are written are hex, base64 or a word of a fixed list, in none of
// which a character needs an escape; what the makers of packages wrote goes
// through appendString. A test compares all of it with a general canonicaliser.

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

// sha256Digest returns the digest of b, in lower-case hex.
func sha256Digest(b []byte) digest {
	sum := sha256.Sum256(b)
	return digest{algorithm: "sha256", value: hex.EncodeToString(sum[:])}
}

// matchDigest returns the digest of an artifact, which must be the one that was
// sent along with it, if one was.
func matchDigest(content []byte, sent digest) (digest, error) {
	computed := sha256Digest(content)
	if sent.value != "" && sent != computed {
		return digest{}, fmt.Errorf("SHA mismatch: %s != %s", computed.value, sent.value)
	}
	return computed, nil
}

// A packageSpec is the spec of a kind whose signature is inside the artifact:
// publicKey.content, and package with hash, content or both.
type packageSpec struct {
	key     []byte // as sent
	hash    digest // empty if none was sent
	content []byte // empty in a stored entry
}

func readPackageSpec(spec value) (*packageSpec, error) {
	m, err := spec.members("publicKey", "package")
	if err != nil {
		return nil, err
	}
	p := &packageSpec{}
	if p.key, err = readPublicKey(m[0]); err != nil {
		return nil, err
	}
	pkg, err := requiredMembers(m[1], "package", "hash", "content")
	if err != nil {
		return nil, err
	}
	if pkg[0] != nil {
		if p.hash, err = readDigest(pkg[0], "package.hash", "sha256"); err != nil {
			return nil, err
		}
	}
	if p.content, err = pkg[1].base64(); err != nil {
		return nil, fmt.Errorf("package.content: %w", err)
	}
	return p, nil
}

// proposed checks that the package was sent, and completes its digest.
func (p *packageSpec) proposed() (err error) {
	if len(p.content) == 0 {
		return errors.New("'content' must be specified for package")
	}
	p.hash, err = matchDigest(p.content, p.hash)
	return err
}

// stored checks that there is a digest.
func (p *packageSpec) stored() error {
	if p.hash.value == "" {
		return errors.New("package.hash in body is required")
	}
	return nil
}

// readPublicKey reads the object publicKey {content} and does not parse the key.
func readPublicKey(v value) ([]byte, error) {
	m, err := requiredMembers(v, "publicKey", "content")
	if err != nil {
		return nil, err
	}
	return requiredBytes(m[0], "publicKey.content")
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

// appendString appends a string in canonical form. s is valid UTF-8.
func appendString(out []byte, s string) []byte { return formJCS.appendString(out, []byte(s)) }
