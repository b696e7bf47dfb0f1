package rekor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sigstack/sigstack/tlog"
)

// A Query says which entries Find is to return.
type Query struct {
	Terms []Term // an entry has to satisfy all; none is satisfied by all

	// From and To bound the integrated time, in whole seconds; both belong to what
	// is looked for. Zero is no bound.
	From, To time.Time

	Oldest bool // begin with the oldest entry, and not with the newest
	Limit  int  // of the entries returned, at least 1

	// Resume goes on where the page before has said, in its Next.
	Resume *uint64
}

// A Term is satisfied by the entries that have one of some search keys, or with
// Prefix one that begins so. The keys are those that are stored, see package entry;
// for a SHA-256 that may be of a public key, PlainHash is one of them.
type Term struct {
	Keys   []string
	Prefix bool
}

// A Page is what Find has found, in order.
type Page struct {
	Entries []Found
	Size    uint64 // of what was looked at: the entries of all trees
	// More says that there may be others, and Next from where on to look for them.
	// A page with More may have fewer entries than were asked for, even none.
	More bool
	Next uint64
}

// A Found is an entry without what proves it.
type Found struct {
	UUID           string
	Body           []byte // canonical JSON: the leaf value
	IntegratedTime int64
	LogIndex       uint64
}

// Bounds of what one Find reads, however many entries have the keys.
const (
	// maxReads bounds the pages of postings. Where two keys have many entries, and
	// few have both, the next Find goes on.
	maxReads = 100

	minRead, maxRead = 16, 256 // postings of a page

	// maxBytes bounds the bodies of a page behind the first.
	maxBytes = 4 << 20

	// maxNames bounds the search keys that begin with a prefix.
	maxNames = 50
)

// PlainHash returns the spelling in which the hash of a public key is stored, for a
// SHA-256 with its algorithm before it.
func PlainHash(key string) (string, bool) { return plainHash(key) }

// Find returns the entries of a query, newest first or oldest first: all that were
// published when it was asked, none twice, and none that does not have the keys. What
// is added meanwhile does not move what comes on the next page.
//
// A prefix with which too many keys begin is an InputError.
func (l *Log) Find(ctx context.Context, q Query) (*Page, error) {
	all, err := l.newest(ctx)
	if err != nil {
		return nil, err
	}
	trees := make(trees, len(all))
	for i, s := range all {
		trees[i] = tree{s.Index, s.base, s.Log.Published().Size}
	}
	in, err := trees.span(ctx, q)
	if err != nil {
		return nil, unavailable(ctx, err)
	}
	s := &search{in: in, newest: !q.Oldest, index: trees, reads: maxReads}
	for _, t := range q.Terms {
		keys := t.Keys
		if t.Prefix {
			if keys, err = trees.keysWith(ctx, t.Keys); err != nil {
				return nil, unavailable(ctx, err)
			}
		}
		s.terms = append(s.terms, s.term(keys))
	}
	page := &Page{Size: trees.size()}
	for bytes := 0; ; {
		key, ok, err := s.next(ctx)
		if errors.Is(err, errReads) {
			page.More, page.Next = true, s.bound()
			return page, nil
		}
		if err != nil {
			return nil, unavailable(ctx, err)
		}
		if !ok {
			return page, nil
		}
		if len(page.Entries) == q.Limit {
			page.More = true // and Next is behind the last one
			return page, nil
		}
		found, err := l.found(ctx, key, len(q.Terms) > 0)
		if err != nil {
			return nil, err
		}
		if bytes += len(found.Body); bytes > maxBytes && len(page.Entries) > 0 {
			page.More = true
			return page, nil
		}
		s.pass(key.Index)
		page.Entries, page.Next = append(page.Entries, *found), s.bound()
	}
}

// unavailable is an error of the index, which may pass, unless it is the caller's.
func unavailable(ctx context.Context, err error) error {
	var input *InputError
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &input):
		return err
	}
	return fmt.Errorf("%w: searching: %w", tlog.ErrUnavailable, err)
}

// found returns an entry, and checks that it is the one that a search key leads to.
func (l *Log) found(ctx context.Context, key tlog.SearchKey, check bool) (*Found, error) {
	body, at := []byte(nil), int64(0)
	s := l.holding(key.Index)
	if e, ok := l.recent.get(key.Index); ok {
		body, at = e.Body, e.IntegratedTime
	} else {
		entries, err := s.Log.Entries(ctx, key.Index-s.base, key.Index-s.base+1)
		if err != nil {
			return nil, err
		}
		body, at = entries[0].Value, entries[0].Time.Unix()
	}
	leaf := tlog.LeafHash(body)
	if check && leaf != key.Hash {
		return nil, fmt.Errorf("search key %q leads to entry %d and leaf %x, but the entry is leaf %x; \"sigstack index rebuild\" mends that", key.Name, key.Index, key.Hash, leaf)
	}
	return &Found{UUID: s.uuid(leaf), Body: body, IntegratedTime: at, LogIndex: key.Index}, nil
}

// trees are the search indices of all trees, the oldest first, as one: by virtual
// indices.
type trees []tree

type tree struct {
	Index
	base, size uint64
}

// size is how many entries there are in all trees.
func (t trees) size() uint64 { return t[len(t)-1].base + t[len(t)-1].size }

// Postings is that of Index.
func (t trees) Postings(ctx context.Context, key string, in tlog.Span, newest bool, most int) ([]tlog.SearchKey, error) {
	if newest {
		t = slices.Clone(t)
		slices.Reverse(t)
	}
	var all []tlog.SearchKey
	for _, one := range t {
		part := tlog.Span{Begin: max(in.Begin, one.base), End: min(in.End, one.base+one.size)}
		if part.Begin >= part.End || len(all) == most {
			continue
		}
		found, err := one.Index.Postings(ctx, key, tlog.Span{Begin: part.Begin - one.base, End: part.End - one.base}, newest, most-len(all))
		if err != nil {
			return nil, err
		}
		for _, k := range found {
			k.Index += one.base
			all = append(all, k)
		}
	}
	return all, nil
}

// KeysWith is that of Index.
func (t trees) KeysWith(ctx context.Context, prefix string, most int) ([]string, error) {
	var all []string
	for _, one := range t {
		keys, err := one.Index.KeysWith(ctx, prefix, most)
		if err != nil {
			return nil, err
		}
		all = append(all, keys...)
	}
	slices.Sort(all)
	all = slices.Compact(all)
	return all[:min(len(all), most)], nil
}

// Times is that of Index, for indices in order.
func (t trees) Times(ctx context.Context, indexes []uint64) ([]time.Time, error) {
	var all []time.Time
	for _, one := range t {
		var part []uint64
		for _, index := range indexes {
			if index >= one.base && index < one.base+one.size {
				part = append(part, index-one.base)
			}
		}
		if len(part) == 0 {
			continue
		}
		times, err := one.Index.Times(ctx, part)
		if err != nil {
			return nil, err
		}
		all = append(all, times...)
	}
	return all, nil
}

// span returns the part of the log that a query is about.
func (t trees) span(ctx context.Context, q Query) (tlog.Span, error) {
	in := tlog.Span{End: t.size()}
	var err error
	if !q.From.IsZero() {
		from := q.From.Truncate(time.Second)
		if from.Before(q.From) {
			from = from.Add(time.Second)
		}
		if in.Begin, err = t.firstAt(ctx, from); err != nil {
			return in, err
		}
	}
	if !q.To.IsZero() {
		if in.End, err = t.firstAt(ctx, q.To.Truncate(time.Second).Add(time.Second)); err != nil {
			return in, err
		}
	}
	if q.Resume != nil && q.Oldest {
		in.Begin = max(in.Begin, *q.Resume)
	} else if q.Resume != nil {
		in.End = min(in.End, *q.Resume)
	}
	return in, nil
}

// maxTimes is how many times are asked for at once.
const maxTimes = 32

// firstAt returns the index of the first entry of that time or later, or how many there
// are. Times never go back along a log.
func (t trees) firstAt(ctx context.Context, at time.Time) (uint64, error) {
	// Entries before lo are earlier, those from hi on are not.
	for lo, hi := uint64(0), t.size(); ; {
		if lo == hi {
			return lo, nil
		}
		var points []uint64
		step := (hi - lo + maxTimes - 1) / maxTimes
		for p := lo; p < hi; p += step {
			points = append(points, p)
		}
		times, err := t.Times(ctx, points)
		if err != nil {
			return 0, err
		}
		n, _ := slices.BinarySearchFunc(times, at, func(t, at time.Time) int {
			if t.Before(at) {
				return -1
			}
			return 1
		})
		if n < len(points) {
			hi = points[n]
		}
		if n > 0 {
			lo = points[n-1] + 1
		}
	}
}

// keysWith returns the search keys that begin with any of some prefixes.
func (t trees) keysWith(ctx context.Context, prefixes []string) ([]string, error) {
	var all []string
	for _, prefix := range prefixes {
		keys, err := t.KeysWith(ctx, prefix, maxNames+1)
		if err != nil {
			return nil, err
		}
		if all = append(all, keys...); len(all) > maxNames {
			return nil, inputError("more than %d names begin so; give more of the beginning", maxNames)
		}
	}
	return all, nil
}

// A search walks along the postings of its terms.
type search struct {
	index  trees
	newest bool
	terms  [][]*postings
	in     tlog.Span // what is not passed yet
	reads  int       // that may still come
}

func (s *search) term(keys []string) []*postings {
	var all []*postings
	for _, key := range keys {
		all = append(all, &postings{search: s, key: key, most: minRead})
	}
	s.reads += len(all) // at least the first page of each
	return all
}

// bound is where a later search goes on.
func (s *search) bound() uint64 {
	if s.newest {
		return s.in.End
	}
	return s.in.Begin
}

// pass leaves an entry, and those before it in the order of the search, behind.
func (s *search) pass(index uint64) {
	if s.newest {
		s.in.End = index
	} else {
		s.in.Begin = index + 1
	}
}

// skip leaves those before an entry behind.
func (s *search) skip(index uint64) {
	if s.newest {
		s.in.End = min(s.in.End, index+1)
	} else {
		s.in.Begin = max(s.in.Begin, index)
	}
}

// next returns the next entry that satisfies all terms, and stays before it.
func (s *search) next(ctx context.Context) (tlog.SearchKey, bool, error) {
	var at tlog.SearchKey
	for agreed := 0; agreed < max(len(s.terms), 1); {
		if s.in.Begin >= s.in.End {
			return at, false, nil
		}
		if len(s.terms) == 0 {
			at.Index = s.in.Begin
			if s.newest {
				at.Index = s.in.End - 1
			}
			return at, true, nil
		}
		// The terms in turn say from where on they have something, until all say the
		// same.
		for _, term := range s.terms {
			found, ok, err := s.first(ctx, term)
			if err != nil || !ok {
				return at, false, err
			}
			if agreed > 0 && found.Index == at.Index {
				agreed++
			} else {
				agreed, at = 1, found
			}
			s.skip(found.Index)
			if agreed == len(s.terms) {
				break
			}
		}
	}
	return at, true, nil
}

// first returns the first entry in the span that satisfies a term.
func (s *search) first(ctx context.Context, term []*postings) (best tlog.SearchKey, ok bool, err error) {
	for _, p := range term {
		found, there, err := p.first(ctx)
		if err != nil {
			return best, false, err
		}
		if there && (!ok || s.newest == (found.Index > best.Index)) {
			best, ok = found, true
		}
	}
	return best, ok, nil
}

// postings are the entries with one search key.
type postings struct {
	search *search
	key    string
	read   []tlog.SearchKey // and not passed
	most   int              // of the next read
	ended  bool             // behind those nothing comes
}

// errReads ends a search that has read enough for once.
var errReads = errors.New("enough was read")

// first returns the first entry of the span that is left. A span only shrinks.
func (p *postings) first(ctx context.Context) (tlog.SearchKey, bool, error) {
	in := p.search.in
	for {
		for len(p.read) > 0 && (p.read[0].Index < in.Begin || p.read[0].Index >= in.End) {
			p.read = p.read[1:]
		}
		if len(p.read) > 0 {
			return p.read[0], true, nil
		}
		if p.ended {
			return tlog.SearchKey{}, false, nil
		}
		if p.search.reads--; p.search.reads < 0 {
			return tlog.SearchKey{}, false, errReads
		}
		found, err := p.search.index.Postings(ctx, p.key, in, p.search.newest, p.most)
		if err != nil {
			return tlog.SearchKey{}, false, err
		}
		p.read, p.ended = found, len(found) < p.most
		p.most = min(2*p.most, maxRead)
	}
}
