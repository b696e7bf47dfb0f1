package devoidc

import (
	"container/list"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"time"
)

// pending is a bounded table of secrets that are waiting to be redeemed. All
// entries of one table live equally long, so the oldest entry is the first to
// go and cleaning up costs one step for every entry that was added. The owner
// locks.
//
// The key is the SHA-256 of the secret. The secret itself is not kept, and
// how long a look-up takes depends on the digest only, which says nothing
// about how many characters of a guess were right.
type pending[T any] struct {
	limit   int
	byHash  map[[sha256.Size]byte]*list.Element
	byAge   *list.List // of *slot[T], oldest first
	dropped func(T)    // called for every entry that leaves; may be nil
}

type slot[T any] struct {
	key    [sha256.Size]byte
	value  T
	forget time.Time
}

func newPending[T any](limit int) *pending[T] {
	return &pending[T]{limit: limit, byHash: map[[sha256.Size]byte]*list.Element{}, byAge: list.New()}
}

// add keeps value under secret until forget. It reports false when the table
// is full of entries that are still alive.
func (p *pending[T]) add(secret string, value T, now, forget time.Time) bool {
	p.sweep(now)
	if p.byAge.Len() >= p.limit {
		return false
	}
	key := sha256.Sum256([]byte(secret))
	p.byHash[key] = p.byAge.PushBack(&slot[T]{key, value, forget})
	return true
}

// get finds the value of a secret that is not yet forgotten.
func (p *pending[T]) get(secret string, now time.Time) (value T, ok bool) {
	e := p.byHash[sha256.Sum256([]byte(secret))]
	if e == nil {
		return value, false
	}
	s := e.Value.(*slot[T])
	if !now.Before(s.forget) {
		p.remove(e)
		return value, false
	}
	return s.value, true
}

// take is get, and the secret never works again.
func (p *pending[T]) take(secret string, now time.Time) (value T, ok bool) {
	value, ok = p.get(secret, now)
	if ok {
		p.remove(p.byHash[sha256.Sum256([]byte(secret))])
	}
	return value, ok
}

func (p *pending[T]) sweep(now time.Time) {
	for e := p.byAge.Front(); e != nil && !now.Before(e.Value.(*slot[T]).forget); e = p.byAge.Front() {
		p.remove(e)
	}
}

func (p *pending[T]) remove(e *list.Element) {
	s := p.byAge.Remove(e).(*slot[T])
	delete(p.byHash, s.key)
	if p.dropped != nil {
		p.dropped(s.value)
	}
}

// newCode returns 256 random bits as 43 base64url characters.
func newCode(random io.Reader) (string, error) {
	var b [32]byte
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return "", fmt.Errorf("devoidc: reading random bytes: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(b[:]), nil
}
