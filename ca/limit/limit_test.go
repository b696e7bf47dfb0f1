package limit

import (
	"fmt"
	"testing"
	"time"
)

var t0 = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func TestWrong(t *testing.T) {
	for _, test := range []struct {
		limit       Limit
		number, per string
	}{
		{Limit{}, "", ""},
		{Limit{1, time.Second}, "", ""},
		{Limit{1_000_000, 24 * time.Hour}, "", ""},
		{Limit{0, time.Minute}, "has 0 entries; 1 to 1000000 are possible", ""},
		{Limit{1_000_001, time.Minute}, "has 1000001 entries; 1 to 1000000 are possible", ""},
		{Limit{1, 0}, "", "is per 0s; 1s to 24h0m0s are possible"},
		{Limit{-1, 25 * time.Hour}, "has -1 entries; 1 to 1000000 are possible", "is per 25h0m0s; 1s to 24h0m0s are possible"},
	} {
		if number, per := test.limit.WrongNumber("entries"), test.limit.WrongPer(); number != test.number || per != test.per {
			t.Errorf("%v: %q and %q", test.limit, number, per)
		}
	}
}

// TestTakeAndReturn: one is taken out of all buckets or out of none, and can be put back.
func TestTakeAndReturn(t *testing.T) {
	names, all := New(Limit{2, time.Minute}, nil), New(Limit{3, time.Minute}, nil)
	now := t0
	want := func(from []Bucket, longest int, wait time.Duration) {
		t.Helper()
		if i, w := Take(now, from...); i != longest || w != wait {
			t.Fatalf("bucket %d for %s, want %d for %s", i, w, longest, wait)
		}
	}
	ann, bob := []Bucket{names.Bucket("ann"), all.Bucket()}, []Bucket{names.Bucket("bob"), all.Bucket()}
	both := []Bucket{names.Bucket("ann"), names.Bucket("bob"), all.Bucket()}
	want(both, 0, 0)
	want(both, 0, 0)
	want(both, 0, 30*time.Second)
	want([]Bucket{all.Bucket()}, 0, 0)
	want(bob, 0, 30*time.Second)
	Return(ann...)
	want(bob, 0, 30*time.Second) // the names, not all
	want(ann, 0, 0)
	want(ann, 0, 30*time.Second)
	Return(names.Bucket("nobody")) // is nothing to remember
	now = now.Add(time.Hour)
	Return(ann...)
	for range 2 {
		want(ann, 0, 0) // a full bucket is not more than full
	}
	want(ann, 0, 30*time.Second)
	if New(Limit{2, time.Minute}, names) != names || New(Limit{3, time.Minute}, names) == names || New(Limit{}, names) != nil {
		t.Error("a limiter goes on where its limit is the same, and only there")
	}
}

// TestManyNames: what is remembered is bounded, full buckets go first, and then the fullest.
func TestManyNames(t *testing.T) {
	const most = 100
	l := New(Limit{10, 10 * time.Second}, nil)
	l.most = most
	now := t0
	take := func(kind string, i int) time.Duration {
		_, wait := Take(now, l.Bucket(kind, fmt.Sprint(i)))
		return wait
	}
	for range 10 {
		take("busy", 0)
	}
	for i := range 10_000 {
		take("n", i)
		if len(l.buckets) > most || len(l.buckets) != len(l.fullest) {
			t.Fatalf("%d buckets, %d in order, at most %d are allowed", len(l.buckets), len(l.fullest), most)
		}
	}
	if take("busy", 0) == 0 {
		t.Fatal("an empty bucket was forgotten before fuller ones")
	}
	// After their time the full ones make room, though nobody asked for them again.
	now = now.Add(time.Minute)
	for i := range most {
		take("m", i)
		now = now.Add(time.Second) // each is full again when the next comes
	}
	if len(l.buckets) > 2 {
		t.Errorf("%d buckets are remembered, of which all but one are full", len(l.buckets))
	}
}

func BenchmarkTake(b *testing.B) {
	one, all := New(Limit{10, time.Minute}, nil), New(Limit{1_000_000, time.Minute}, nil)
	names := make([]string, 2*maxBuckets)
	for i := range names {
		names[i] = fmt.Sprint("user", i)
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		Take(t0, one.Bucket(names[i%len(names)]), all.Bucket())
		i++
	}
}
