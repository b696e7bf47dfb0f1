// Package limit holds what is asked for to so much in so much time: certificates of one identity,
// entries of one address.
//
// A [Limiter] has a bucket for each of those that its [Limit] is for. A bucket holds Number and fills up
// again in Per, one after the other. Buckets are in memory: replicas count each for itself, and a restart
// begins anew. Of at most maxBuckets the fullest is forgotten first; one that is full is nothing to
// remember.
//
//	perUser := limit.New(limit.Limit{Number: 60, Per: time.Minute}, nil)
//	if _, wait := limit.Take(now, perUser.Bucket("https://login.example.com", "ann")); wait > 0 {
//		// refused; there is one again after wait
//	}
package limit

import (
	"container/heap"
	"crypto/sha256"
	"fmt"
	"sync"
	"time"
)

// A Limit is how many there may be at once, and in how long as many more become possible, one after the
// other. The zero value is no limit.
type Limit struct {
	Number int
	Per    time.Duration
}

// Bounds of a Limit, and of what is remembered for it.
const (
	maxNumber  = 1_000_000
	minPer     = time.Second
	maxPer     = 24 * time.Hour
	maxBuckets = 65_536 // some 10 MB
)

// WrongNumber says what is wrong with the number of a limit, and what would be right; "" is nothing. What
// names those that are counted.
func (l Limit) WrongNumber(what string) string {
	if l != (Limit{}) && (l.Number < 1 || l.Number > maxNumber) {
		return fmt.Sprintf("has %d %s; 1 to %d are possible", l.Number, what, maxNumber)
	}
	return ""
}

// WrongPer is WrongNumber about the time.
func (l Limit) WrongPer() string {
	if l != (Limit{}) && (l.Per < minPer || l.Per > maxPer) {
		return fmt.Sprintf("is per %s; %s to %s are possible", l.Per, minPer, maxPer)
	}
	return ""
}

// A Limiter has the buckets of one limit. It is safe for concurrent use.
type Limiter struct {
	Limit
	step time.Duration
	most int

	mu      sync.Mutex
	buckets map[key]*bucket
	fullest byFull
}

// New returns a limiter with full buckets, or the one of before, if its limit is the same: it goes on
// counting. It returns nil for no limit. The limit has nothing wrong.
func New(l Limit, before *Limiter) *Limiter {
	switch {
	case l == Limit{}:
		return nil
	case before != nil && before.Limit == l:
		return before
	}
	return &Limiter{Limit: l, step: l.Per / time.Duration(l.Number), most: maxBuckets, buckets: map[key]*bucket{}}
}

// A Bucket is one of a limiter.
type Bucket struct {
	of  *Limiter
	key key
}

// Bucket returns the one that is for these names together.
func (l *Limiter) Bucket(names ...string) Bucket {
	h := sha256.New()
	for _, name := range names {
		fmt.Fprintf(h, "%d:%s", len(name), name)
	}
	return Bucket{l, key(h.Sum(nil))}
}

// Limit is that of its limiter.
func (b Bucket) Limit() Limit { return b.of.Limit }

// Take takes one out of each bucket, or, where one of them is empty, out of none. Then it returns how long
// it takes until none is, and which one takes that long. Buckets are of different limiters, or
// different ones; those of one limiter stand together, and limiters always in the same order.
func Take(now time.Time, from ...Bucket) (longest int, wait time.Duration) {
	full := make([]time.Time, len(from))
	for i, b := range from {
		if i == 0 || from[i-1].of != b.of {
			b.of.mu.Lock()
			defer b.of.mu.Unlock()
		}
		var w time.Duration
		if full[i], w = b.of.next(b.key, now); w > wait {
			longest, wait = i, w
		}
	}
	if wait > 0 {
		return longest, wait
	}
	for i, b := range from {
		b.of.set(b.key, full[i], now)
	}
	return 0, 0
}

// Return puts back what Take has taken.
func Return(buckets ...Bucket) {
	for _, b := range buckets {
		b.of.mu.Lock()
		if at := b.of.buckets[b.key]; at != nil {
			at.full = at.full.Add(-b.of.step)
			heap.Fix(&b.of.fullest, at.at)
		}
		b.of.mu.Unlock()
	}
}

// A key is a hash: names may be long, and their owners choose them.
type key [sha256.Size]byte

// A bucket is the time at which it will be full again: each that is taken moves that by a step (the
// generic cell rate algorithm).
type bucket struct {
	key  key
	full time.Time
	at   int // in fullest
}

// next returns when a bucket would be full again after one more was taken, and how long it
// takes until there is one. l.mu is held.
func (l *Limiter) next(k key, now time.Time) (time.Time, time.Duration) {
	full, empty := now, now.Add(l.Per)
	if b := l.buckets[k]; b != nil && b.full.After(now) {
		if b.full.After(empty) { // the clock was set back
			l.set(k, empty, now)
		}
		full = b.full
	}
	full = full.Add(l.step)
	return full, max(full.Sub(empty), 0)
}

// set notes when a bucket will be full. l.mu is held.
func (l *Limiter) set(k key, full, now time.Time) {
	b := l.buckets[k]
	if b != nil {
		b.full = full
		heap.Fix(&l.fullest, b.at)
		return
	}
	// What is full needs no place. Two for each that comes empty all in time, and no
	// request pays for many.
	for range 2 {
		if len(l.fullest) > 0 && !l.fullest[0].full.After(now) {
			l.forget()
		}
	}
	if len(l.fullest) >= l.most {
		l.forget()
	}
	b = &bucket{key: k, full: full}
	l.buckets[k] = b
	heap.Push(&l.fullest, b)
}

// forget drops the bucket that is full first.
func (l *Limiter) forget() {
	delete(l.buckets, heap.Pop(&l.fullest).(*bucket).key)
}

// byFull is a heap of buckets.
type byFull []*bucket

func (h byFull) Len() int           { return len(h) }
func (h byFull) Less(i, j int) bool { return h[i].full.Before(h[j].full) }
func (h byFull) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].at, h[j].at = i, j
}
func (h *byFull) Push(x any) {
	b := x.(*bucket)
	b.at = len(*h)
	*h = append(*h, b)
}
func (h *byFull) Pop() any {
	old := *h
	b := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return b
}

// Seconds rounds up, so that who waits them does not come too early.
func Seconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }
