package entry

import (
	"bytes"
	"crypto"
	_ "crypto/sha1"
	_ "crypto/sha256"
	_ "crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"slices"
	"strings"
)

// This file reads manifests and signature files of Java archives (JAR File
// Specification, "JAR Manifest" and "Signature File"):
//
//	Manifest-Version: 1.0          main attributes
//
//	Name: a/B.class                one section a file
//	SHA-256-Digest: <base64>
//
// A line that begins with a space goes on with the one before it. A section
// ends with an empty line, which is part of what a digest of it is over.

// A section is what is read of one.
type section struct {
	name       string
	magic      bool
	attributes []attribute // those whose name holds "-Digest"
}

type attribute struct{ name, value string }

// jarHashes are the names of hash functions in attributes, in lower case and
// without the first hyphen. MD5 digests are known and not counted.
var jarHashes = map[string]crypto.Hash{
	"md5": crypto.MD5, "sha1": crypto.SHA1, "sha224": crypto.SHA224, "sha256": crypto.SHA256, "sha384": crypto.SHA384, "sha512": crypto.SHA512,
}

var (
	errNoDigests  = errors.New("no recognized digests found")
	errLineEnding = errors.New("incorrect line ending sequence: each section must end with one empty line")
)

// splitSections cuts a text into its main attributes and its sections, each
// with the empty line that ends it. There is at least one.
func splitSections(text []byte) ([][]byte, error) {
	end := []byte("\r\n\r\n")
	var sections [][]byte
	for len(text) > 0 {
		i := bytes.Index(text, end)
		if i < 0 && len(end) == 4 {
			// None of these from here on: do not look for them again.
			end = []byte("\n\n")
			continue
		}
		if i < 0 {
			return nil, errLineEnding
		}
		i += len(end)
		if len(bytes.TrimSpace(text[:i])) == 0 {
			return nil, errLineEnding
		}
		sections, text = append(sections, text[:i]), text[i:]
	}
	if len(sections) == 0 {
		return nil, errors.New("it is empty")
	}
	return sections, nil
}

// parseSection reads the lines of a section.
func parseSection(text []byte) (section, error) {
	text = bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n"))
	text = bytes.ReplaceAll(text, []byte("\n "), nil)
	var s section
	for line := range bytes.Lines(text) {
		line = bytes.TrimSuffix(line, []byte("\n"))
		if len(line) == 0 {
			continue
		}
		name, val, ok := bytes.Cut(line, []byte(":"))
		if !ok {
			return section{}, errors.New("a line has no colon")
		}
		name, val = bytes.TrimSpace(name), bytes.TrimSpace(val)
		switch {
		case bytes.EqualFold(name, []byte("Name")):
			if s.name != "" {
				return section{}, errors.New("a section has two names")
			}
			s.name = string(val)
		case bytes.EqualFold(name, []byte("Magic")):
			s.magic = s.magic || len(val) > 0
		case bytes.Contains(bytes.ToLower(name), []byte("-digest")):
			s.attributes = append(s.attributes, attribute{string(name), string(val)})
		}
	}
	return s, nil
}

// A digester hashes what an attribute has the digest of.
type digester struct {
	attribute
	function crypto.Hash
	hash     hash.Hash
}

type digesters []digester

// digests returns the digests of a section whose names end with a suffix, each
// hash function at most once.
func (s section) digests(suffix string) (digesters, error) {
	var all digesters
	for _, a := range s.attributes {
		if len(a.name) < len(suffix) || !strings.EqualFold(a.name[len(a.name)-len(suffix):], suffix) {
			continue
		}
		name := a.name[:len(a.name)-len(suffix)]
		function, ok := jarHashes[strings.Replace(strings.ToLower(name), "-", "", 1)]
		switch {
		case !ok:
			return nil, fmt.Errorf("unknown digest key in manifest: %s", clipQuoted(name))
		case function == crypto.MD5:
			continue
		case slices.ContainsFunc(all, func(d digester) bool { return d.function == function }):
			return nil, fmt.Errorf("two digests by %s", function)
		}
		all = append(all, digester{a, function, function.New()})
	}
	return all, nil
}

// verify compares the digests of that suffix, of which there must be one, with
// those of the content.
func (s section) verify(suffix string, content []byte) error {
	all, err := s.digests(suffix)
	if err != nil {
		return err
	}
	if len(all) == 0 {
		return errNoDigests
	}
	return all.verify(content)
}

func (all digesters) verify(content []byte) error {
	all.write(content)
	return all.compare()
}

func (all digesters) write(b []byte) {
	for _, d := range all {
		d.hash.Write(b)
	}
}

func (all digesters) compare() error {
	for _, d := range all {
		if got := base64.StdEncoding.EncodeToString(d.hash.Sum(nil)); got != d.value {
			return fmt.Errorf("%s mismatch: manifest %s != calculated %s", clipQuoted(d.name), clipQuoted(d.value), got)
		}
	}
	return nil
}
