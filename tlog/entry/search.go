package entry

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/sigstack/sigstack/tlog/entry/sigkey"
)

// A Claim is what a certificate says beside its names. Its value begins the search
// keys of the claim.
//
// All other keys are lower case, and so is what the search of Rekor looks for. A
// claim begins with a capital, so that no query of it finds one and no subject of a
// statement is taken for one.
type Claim string

// The claims by which entries are found. See [sigkey.Claims].
const (
	Issuer     Claim = "Issuer:"
	Repository Claim = "Repository:"
	Commit     Claim = "Commit:"
)

// Key returns the search key of a value, or of the beginning of one. It may be longer
// than MaxKeyLength, and then no entry has it.
func (c Claim) Key(value string) string { return string(c) + strings.ToLower(value) }

// A keySet collects the search keys of one entry.
type keySet struct {
	keys []string
	full bool // more than MaxKeys were added

	signers   []Signer // whose signatures make the entry
	statement []string // of keys, those of a statement: the body does not have them
	about     Summary
}

// add adds keys in lower case. Empty keys and those that no query can hold are
// left out.
func (s *keySet) add(keys ...string) {
	for _, k := range keys {
		s.put(strings.ToLower(k))
	}
}

func (s *keySet) put(key string) {
	switch {
	case key == "" || len(key) > MaxKeyLength:
	case len(s.keys) >= MaxKeys:
		s.full = true
	default:
		s.keys = append(s.keys, key)
	}
}

// KeyHash returns the lower-case hex SHA-256 by which a public key is searched.
// The formats are those of package sigkey, and tuf, whose keys are root
// metadata.
func KeyHash(format string, content []byte) (string, error) {
	if format == "tuf" {
		return hashTUFRoot(content)
	}
	key, err := sigkey.ParseKey(format, content)
	if err != nil {
		return "", err
	}
	return sigkey.Hash(key), nil
}

// addSigner adds the keys of a key that has signed.
func (s *keySet) addSigner(k sigkey.Key, by scheme) {
	s.add(sigkey.SearchKeys(k)...)
	s.signers = append(s.signers, Signer{k, by})
	s.about.PublicKeys = append(s.about.PublicKeys, sigkey.Hash(k))
	s.about.Names = append(s.about.Names, k.Subjects()...)
	certificate, ok := k.(*sigkey.X509)
	if !ok {
		return
	}
	claims := certificate.Claims()
	for _, c := range []struct {
		claim  Claim
		values []string
		about  *[]string
	}{
		{Issuer, claims.Issuers, &s.about.Issuers},
		{Repository, claims.Repositories, &s.about.Repositories},
		{Commit, claims.Commits, &s.about.Commits},
	} {
		for _, value := range c.values {
			s.put(c.claim.Key(value))
		}
		*c.about = append(*c.about, c.values...)
	}
}

// A Summary is what an entry is about, for whoever has found it. The lists have each
// value once, as it is spelled in the entry, and may be empty.
type Summary struct {
	Kind, Version string
	Hashes        []string // of artifacts, payloads and envelopes: "sha256:" and hexadecimal digits
	PublicKeys    []string // hexadecimal SHA-256, see KeyHash
	Names         []string // of certificates and pgp keys
	// Of certificates.
	Issuers, Repositories, Commits []string
}

// hashKey is the form of the key of a hash.
var hashKey = regexp.MustCompile(`^sha(1|256|384|512):[0-9a-f]+$`)

// Summarize returns what a stored leaf value is about. The error is as for [Keys].
func Summarize(body []byte) (*Summary, error) {
	kind, version, keys, err := readKeys(body)
	if err != nil {
		return nil, err
	}
	sorted, err := keys.sorted()
	if err != nil {
		return nil, invalid(err)
	}
	s := &keys.about
	s.Kind, s.Version = kind, version
	for _, list := range []*[]string{&s.PublicKeys, &s.Names, &s.Issuers, &s.Repositories, &s.Commits} {
		slices.Sort(*list)
		*list = slices.Compact(*list)
	}
	for _, k := range sorted {
		if hash, _ := strings.CutPrefix(k, "sha256:"); hashKey.MatchString(k) && !slices.Contains(s.PublicKeys, hash) {
			s.Hashes = append(s.Hashes, k)
		}
	}
	return s, nil
}

// sorted returns the keys, each once.
func (s *keySet) sorted() ([]string, error) {
	if s.full {
		return nil, fmt.Errorf("entry has more than %d search keys", MaxKeys)
	}
	slices.Sort(s.keys)
	return slices.Compact(s.keys), nil
}

// IsDigestKey says whether a search key may be that of a digest in a statement:
// algorithm and value, in lower case.
func IsDigestKey(key string) bool {
	return strings.Contains(key, ":") && key == strings.ToLower(key)
}
