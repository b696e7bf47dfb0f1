package policy

import (
	"container/heap"
	"crypto/sha256"
	"fmt"
	"sync"
	"time"
)

// A Limit is how many certificates there may be at once, and in how long as many more become
// possible, one after the other. The zero value is no limit.
type Limit struct {
	Certificates int
	Per          time.Duration
}

// Bounds of a Limit, and of what is remembered for it.
const (
	maxCertificates = 1_000_000
	minPer          = time.Second
	maxPer          = 24 * time.Hour
	maxBuckets      = 65_536 // some 10 MB
)

// limiter checks a limit and returns its buckets: those of before, if the limit is the same.
func (m *Mistakes) limiter(name string, l Limit, before *limiter) *limiter {
	switch {
	case l == Limit{}:
		return nil
	case l.Certificates < 1 || l.Certificates > maxCertificates:
		m.add(-1, name, "has %d certificates; 1 to %d are possible", l.Certificates, maxCertificates)
		return nil
	case l.Per < minPer || l.Per > maxPer:
		m.add(-1, name, "is per %s; %s to %s are possible", l.Per, minPer, maxPer)
		return nil
	case before != nil && before.Limit == l:
		return before
	}
	return &limiter{Limit: l, step: l.Per / time.Duration(l.Certificates), most: maxBuckets, buckets: map[bucketKey]*bucket{}}
}

// A limiter has a bucket for each of those that a limit is for. A bucket is the time at which it
// will be full again: each certificate moves that by a step (the generic cell rate algorithm).
type limiter struct {
	Limit
	step time.Duration
	most int

	mu      sync.Mutex
	buckets map[bucketKey]*bucket
	fullest byFull
}

// A bucketKey is a hash: names may be long, and their owners choose them.
type bucketKey [sha256.Size]byte

func keyOf(parts ...string) bucketKey {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	return bucketKey(h.Sum(nil))
}

type bucket struct {
	key  bucketKey
	full time.Time
	at   int // in fullest
}

// next returns when the bucket of a key would be full again after one more certificate, and how long it
// takes until there is one. l.mu is held.
func (l *limiter) next(key bucketKey, now time.Time) (time.Time, time.Duration) {
	full, empty := now, now.Add(l.Per)
	if b := l.buckets[key]; b != nil && b.full.After(now) {
		if b.full.After(empty) { // the clock was set back
			l.set(key, empty, now)
		}
		full = b.full
	}
	full = full.Add(l.step)
	return full, max(full.Sub(empty), 0)
}

// set notes when a bucket will be full. l.mu is held.
func (l *limiter) set(key bucketKey, full, now time.Time) {
	b := l.buckets[key]
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
	b = &bucket{key: key, full: full}
	l.buckets[key] = b
	heap.Push(&l.fullest, b)
}

// forget drops the bucket that is full first.
func (l *limiter) forget() {
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

// limit takes a certificate out of both buckets, or changes the decision and takes none.
func (p *Policy) limit(who Claimant, now time.Time, d *Decision) {
	type taking struct {
		*limiter
		name, what string
		key        bucketKey
		full       time.Time
	}
	var from []*taking
	if l := p.perIdentity; l != nil {
		san := who.SAN()
		from = append(from, &taking{limiter: l, name: ByPerIdentity, what: "for this identity", key: keyOf(who.Issuer(), san.Kind.String(), san.Value)})
	}
	if l := p.perIssuer; l != nil {
		from = append(from, &taking{limiter: l, name: ByPerIssuer, what: "for tokens of this issuer", key: keyOf(who.Issuer())})
	}
	for _, t := range from { // always in this order
		t.mu.Lock()
		defer t.mu.Unlock()
	}
	for _, t := range from {
		var wait time.Duration
		if t.full, wait = t.next(t.key, now); wait > d.RetryAfter {
			d.Rule, d.Outcome, d.RetryAfter = t.name, Limited, wait
			d.Message = fmt.Sprintf("%v %s: %d per %s are allowed; try again in %d s", ErrLimited, t.what, t.Certificates, t.Per, seconds(wait))
		}
	}
	if d.Outcome == Limited {
		return
	}
	for _, t := range from {
		t.set(t.key, t.full, now)
	}
}

// seconds rounds up, so that who waits them does not come too early.
func seconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }
