package entry

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sigstack/sigstack/tlog/entry/sigkey"
)

// A keySet collects the search keys of one entry.
type keySet struct {
	keys []string
	full bool // more than MaxKeys were added

	signers []Signer // whose signatures make the entry
}

// add adds keys in lower case. Empty keys and those that no query can hold are
// left out.
func (s *keySet) add(keys ...string) {
	for _, k := range keys {
		if k = strings.ToLower(k); k == "" || len(k) > MaxKeyLength {
			continue
		}
		if len(s.keys) >= MaxKeys {
			s.full = true
			return
		}
		s.keys = append(s.keys, k)
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
}

// sorted returns the keys, each once.
func (s *keySet) sorted() ([]string, error) {
	if s.full {
		return nil, fmt.Errorf("entry has more than %d search keys", MaxKeys)
	}
	slices.Sort(s.keys)
	return slices.Compact(s.keys), nil
}
