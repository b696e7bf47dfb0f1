package policy

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/sigstack/sigstack/ca/ext"
	"github.com/sigstack/sigstack/ca/limit"
)

// A clock that a test moves.
type clock struct{ time.Time }

func (c *clock) now() time.Time       { return c.Time }
func (c *clock) pass(d time.Duration) { c.Time = c.Add(d) }

// A user of one issuer.
type user struct {
	raw
	issuer, name string
}

func (u user) Issuer() string { return u.issuer }
func (u user) SAN() ext.SAN   { return ext.SAN{Kind: ext.Email, Value: u.name} }

// take is what Admit does when the rules have allowed.
func take(p *Policy, now time.Time, who Claimant) Decision {
	d := Decision{Rule: ByDefault, Outcome: Allowed}
	p.limit(who, now, &d)
	return d
}

func limited(t *testing.T, perIdentity, perIssuer limit.Limit, previous *Policy) *Policy {
	t.Helper()
	p, err := New(Config{PerIdentity: perIdentity, PerIssuer: perIssuer}, Options{Previous: previous})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestLimits: a bucket is emptied and fills up again, one certificate after the other.
func TestLimits(t *testing.T) {
	p := limited(t, limit.Limit{Number: 3, Per: time.Minute}, limit.Limit{Number: 5, Per: time.Minute}, nil)
	c := &clock{t0}
	ann, bob, other := user{"", "https://a.example.com", "ann"}, user{"", "https://a.example.com", "bob"}, user{"", "https://b.example.com", "ann"}
	want := func(who user, rule string, after time.Duration) {
		t.Helper()
		d := take(p, c.now(), who)
		if limited := rule != ""; limited != (d.Outcome == Limited) || limited && (d.Rule != rule || d.RetryAfter != after) {
			t.Fatalf("%s at %s: %+v, want %q after %s", who.name, c.Sub(t0), d, rule, after)
		}
	}
	for range 3 {
		want(ann, "", 0)
	}
	want(ann, ByPerIdentity, 20*time.Second)
	want(bob, "", 0)
	want(bob, "", 0)
	want(bob, ByPerIssuer, 12*time.Second)   // the issuer has none left, bob has
	want(ann, ByPerIdentity, 20*time.Second) // neither has: the longer wait is said
	for range 3 {
		want(other, "", 0) // the same name at another issuer is another identity
	}
	c.pass(12 * time.Second)
	want(ann, ByPerIdentity, 8*time.Second)
	want(bob, "", 0) // ann's refusals took nothing from the issuer
	want(bob, ByPerIssuer, 12*time.Second)
	c.pass(8 * time.Second)
	want(ann, ByPerIssuer, 4*time.Second)
	c.pass(4 * time.Second)
	want(ann, "", 0)
	want(ann, ByPerIdentity, 16*time.Second)

	// A day later all buckets are full, and no fuller than that.
	c.pass(24 * time.Hour)
	for range 3 {
		want(ann, "", 0)
	}
	want(ann, ByPerIdentity, 20*time.Second)

	// A clock that is set back costs at most what a bucket holds.
	c.pass(-10 * time.Hour)
	want(ann, ByPerIdentity, 20*time.Second)
	c.pass(20 * time.Second)
	want(ann, "", 0)
}

// TestLimitNames: names that would be the same if they were only joined.
func TestLimitNames(t *testing.T) {
	p := limited(t, limit.Limit{Number: 1, Per: time.Minute}, limit.Limit{}, nil)
	for _, who := range []user{{"", "https://a.example.com/x", "email"}, {"", "https://a.example.com/", "xemail"}, {"", "https://a.example.com/xemail", ""}} {
		if d := take(p, t0, who); d.Outcome != Allowed {
			t.Errorf("%+v: %+v", who, d)
		}
	}
}

// TestSwap: a limit that stays the same goes on counting in the policy that follows.
func TestSwap(t *testing.T) {
	who := user{"", "https://a.example.com", "ann"}
	first := limited(t, limit.Limit{Number: 1, Per: time.Minute}, limit.Limit{Number: 2, Per: time.Minute}, nil)
	take(first, t0, who)

	same := limited(t, limit.Limit{Number: 1, Per: time.Minute}, limit.Limit{Number: 2, Per: time.Minute}, first)
	if d := take(same, t0, who); d.Rule != ByPerIdentity {
		t.Errorf("the same limits: %+v", d)
	}
	wider := limited(t, limit.Limit{Number: 2, Per: time.Minute}, limit.Limit{Number: 2, Per: time.Minute}, same)
	if d := take(wider, t0, who); d.Outcome != Allowed {
		t.Errorf("a wider limit: %+v", d)
	}
	if d := take(wider, t0, who); d.Rule != ByPerIssuer {
		t.Errorf("the limit beside it, which is the same: %+v", d)
	}
	if d := take(first, t0, user{"", "https://a.example.com", "bob"}); d.Rule != ByPerIssuer {
		t.Errorf("a request that still has the first policy: %+v", d)
	}
	if d := take(limited(t, limit.Limit{Number: 1, Per: time.Minute}, limit.Limit{}, nil), t0, who); d.Outcome != Allowed {
		t.Errorf("without the one before: %+v", d)
	}
}

// TestConcurrentLimits: at most so many are let through, however many ask at once.
func TestConcurrentLimits(t *testing.T) {
	p := compile(t, Config{
		Rules:       []Rule{{Name: "r", Allow: `claims.all(name, name != "admin") && identity.email.matches("^dev@") && extensions["build-trigger"] == ""`}},
		Default:     DefaultDeny,
		PerIdentity: limit.Limit{Number: 50, Per: time.Minute}, PerIssuer: limit.Limit{Number: 100, Per: time.Minute},
	})
	id := person(t, "dev@example.com")
	results := make(chan error)
	for range 200 {
		go func() { results <- p.Admit(context.Background(), id) }()
	}
	passed := 0
	for range 200 {
		switch err := <-results; {
		case err == nil:
			passed++
		case !errors.Is(err, ErrLimited):
			t.Error(err)
		}
	}
	if passed != 50 {
		t.Errorf("%d passed, want 50", passed)
	}
}
