package trust

import (
	"context"
	"errors"
	"maps"
	"sync"
	"testing"
	"time"
)

// memoryPlace is a Place that can be out of reach.
type memoryPlace struct {
	exclusive sync.Mutex

	mu      sync.Mutex
	files   map[string][]byte
	version int64
	err     error // of every call
	full    error // of Replace
}

func (p *memoryPlace) Exclusive(ctx context.Context, f func(context.Context) error) error {
	p.exclusive.Lock()
	defer p.exclusive.Unlock()
	return f(ctx)
}

func (p *memoryPlace) Version(context.Context) (int64, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.version, p.err
}

func (p *memoryPlace) Files(context.Context) (map[string][]byte, int64, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.files), p.version, p.err
}

func (p *memoryPlace) Replace(_ context.Context, files map[string][]byte, version int64) (int64, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := errors.Join(p.err, p.full); err != nil {
		return 0, err
	}
	if version != p.version {
		return 0, errors.New("somebody else has replaced the files")
	}
	p.files, p.version = maps.Clone(files), version+1
	return p.version, nil
}

// TestShared has two processes keep one repository. A client that asks one and
// then the other never sees an older generation.
func TestShared(t *testing.T) {
	c := newClock()
	keys, m, place := newRoleKeys(t), newMaterial(t, c), &memoryPlace{}
	open := func() *Shared {
		t.Helper()
		s, err := OpenShared(ctx, place, t.TempDir()+"/tuf", keys, Options{Now: c.now})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	a := open()
	must(a.Publish(ctx, m))
	b := open()
	must(b.Publish(ctx, m))
	if place.version != 1 {
		t.Fatalf("the same material was published %d times", place.version)
	}
	root, _ := a.File("root.json")
	same := func(what string) {
		t.Helper()
		for name := range place.files {
			one, ok := a.File(name)
			other, ok2 := b.File(name)
			if !ok || !ok2 || string(one) != string(other) || string(one) != string(place.files[name]) {
				t.Errorf("%s: %s is not the same everywhere", what, name)
			}
		}
	}
	same("first")
	// A client that asks for each file somewhere else.
	turn := 0
	both := fetch(func(name string) ([]byte, bool) {
		turn++
		return []*Shared{a, b}[turn%2].File(name)
	})
	cl := newClient(t, root)
	refresh := func(what string) {
		t.Helper()
		if _, err := cl.refresh(both, c.now()); err != nil {
			t.Fatalf("%s: a client that asks both: %v", what, err)
		}
	}
	refresh("first")

	next := newMaterial(t, c)
	next.Authorities = m.Authorities
	c.t = c.t.Add(time.Hour)
	must(a.Publish(ctx, next))
	if !a.Contains(next.RekorV1[0].Key) {
		t.Error("what was published is not known")
	}
	refresh("published by one")
	same("published by one")
	if !b.Contains(next.RekorV1[0].Key) {
		t.Error("the other process does not know what was published after it was asked")
	}

	// One of them renews; the other takes it over.
	c.t = c.t.Add(2 * day)
	version := place.version
	must(b.Renew(ctx))
	must(a.Renew(ctx))
	if place.version != version+1 {
		t.Errorf("renewed %d times", place.version-version)
	}
	refresh("renewed")
	same("renewed")

	// What cannot be stored is not shown.
	before, _ := a.File("timestamp.json")
	c.t = c.t.Add(2 * day)
	place.full = errors.New("no space left")
	if err := a.Renew(ctx); err == nil {
		t.Error("renewed without a place")
	}
	if after, _ := a.File("timestamp.json"); string(after) != string(before) {
		t.Error("a generation is shown that was not stored")
	}
	place.full = nil
	must(a.Renew(ctx))
	same("renewed after trouble")

	// Out of reach, both go on to show what they have.
	place.err = errors.New("connection refused")
	before, _ = a.File("timestamp.json")
	if after, ok := b.File("timestamp.json"); !ok || string(after) != string(before) {
		t.Error("without the place the last generation is not shown")
	}
	if _, ok := b.File("99.root.json"); ok {
		t.Error("a root that is not there")
	}
	if _, err := OpenShared(ctx, place, t.TempDir(), keys, Options{Now: c.now}); err == nil {
		t.Error("opened without the place")
	}
	place.err = nil

	// Everybody at once.
	c.t = c.t.Add(2 * day)
	var wg sync.WaitGroup
	for _, s := range []*Shared{a, b, open()} {
		wg.Go(func() {
			if err := errors.Join(s.Renew(ctx), s.Publish(ctx, next)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	refresh("at once")
	same("at once")
}
