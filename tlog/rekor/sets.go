package rekor

import (
	"crypto/sha256"
	"sync"
)

const (
	// maxSETs bounds each of the two generations of remembered SETs: both take 5
	// MB when they are full.
	maxSETs = 1 << 14

	// maxSET is the length of the longest P-256 signature in ASN.1 DER.
	maxSET = 72
)

// A set is a signed entry timestamp without a pointer, which the collector would
// have to follow.
type set struct {
	length uint8
	bytes  [maxSET]byte
}

// sets remembers the SETs that were signed or asked for last, by the SHA-256 of
// the text that each signs: what is found is the signature of just that text.
// Entries are read most in the minutes after they were added, and a KMS takes
// milliseconds, and money, for each signature.
type sets struct {
	most int // of a generation

	mu       sync.Mutex
	new, old map[[sha256.Size]byte]set
}

func newSETs(most int) *sets { return &sets{most: most, new: map[[sha256.Size]byte]set{}} }

func (s *sets) get(digest [sha256.Size]byte) ([]byte, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.new[digest]
	if !ok {
		if e, ok = s.old[digest]; !ok {
			return nil, false
		}
		s.add(digest, e)
	}
	return e.bytes[:e.length:e.length], true
}

func (s *sets) put(digest [sha256.Size]byte, signature []byte) {
	if len(signature) > maxSET {
		return
	}
	e := set{length: uint8(len(signature))}
	copy(e.bytes[:], signature)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.add(digest, e)
}

// add is called with mu held.
func (s *sets) add(digest [sha256.Size]byte, e set) {
	if len(s.new) >= s.most {
		s.old, s.new = s.new, map[[sha256.Size]byte]set{}
	}
	s.new[digest] = e
}
