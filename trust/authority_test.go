package trust

import (
	"strings"
	"testing"
	"time"

	trustroot "github.com/sigstore/protobuf-specs/gen/pb-go/trustroot/v1"
)

// An authority is published before it signs, and when it is replaced it ends
// only after the last certificate that it may have signed. One that was retired
// elsewhere comes with an end. None moves again, but for one that signs again.
func TestAuthorities(t *testing.T) {
	c, dir, keys := newClock(), t.TempDir(), newRoleKeys(t)
	r := mustOpen(t, dir, keys, c)
	authority := func() Authority { return newAuthority(t, "https://ca.example.com", c.t.Add(-30*24*time.Hour)) }
	first, second, foreign := authority(), authority(), authority()
	m := newMaterial(t, c)
	publish := func(active, retired []Authority) {
		t.Helper()
		m.Authorities, m.Retired = active, retired
		mustPublish(t, r, m)
	}
	instance := func(a Authority) *trustroot.CertificateAuthority {
		t.Helper()
		for _, ca := range r.current.Load().trusted.CertificateAuthorities {
			if chainID(certificates(ca)) == chainID(a.der()) {
				return ca
			}
		}
		return nil
	}
	want := func(what string, a Authority, end time.Time) {
		t.Helper()
		v := instance(a).GetValidFor()
		switch {
		case !v.GetStart().AsTime().Equal(a.Chain[0].NotBefore):
			t.Errorf("%s: valid from %v", what, v.GetStart().AsTime())
		case end.IsZero() && v.End != nil, !end.IsZero() && !v.GetEnd().AsTime().Equal(end):
			t.Errorf("%s: valid until %v, want %v", what, v.GetEnd().AsTime(), end)
		}
		if r.Contains(a.Chain[0].PublicKey) != end.IsZero() {
			t.Errorf("%s: Contains is %v", what, !end.IsZero())
		}
		if !r.Trusts(a.Chain, c.t.Add(24*time.Hour)) {
			t.Errorf("%s: is not trusted for a day", what)
		}
		if got := r.Trusts(a.Chain, c.t.Add(30*24*time.Hour)); got != end.IsZero() {
			t.Errorf("%s: trusted for a month: %v", what, got)
		}
	}
	if r.Trusts(first.Chain, c.t) {
		t.Error("trusted before anything is published")
	}
	publish([]Authority{first}, nil)
	if r.Trusts(second.Chain, c.t) {
		t.Error("trusted before it is published")
	}
	publish([]Authority{first, second}, nil)
	want("signs", first, time.Time{})
	want("is announced", second, time.Time{})

	c.advance(time.Hour)
	end := c.t.Truncate(time.Second).Add(25 * time.Hour)
	publish([]Authority{second}, []Authority{first, foreign})
	want("signs", second, time.Time{})
	want("was replaced", first, end)
	want("was retired elsewhere", foreign, end)

	c.advance(time.Minute)
	publish([]Authority{second}, nil)
	want("was replaced", first, end)
	want("was retired elsewhere", foreign, end)
	r = mustOpen(t, dir, keys, c)
	want("was replaced", first, end)

	publish([]Authority{first}, []Authority{foreign})
	want("signs again", first, time.Time{})
	want("was replaced", second, end.Add(time.Minute))
	want("was retired elsewhere", foreign, end)

	c.advance(2 * 24 * time.Hour)
	if r.Trusts(second.Chain, c.t) || !r.Trusts(second.Chain, c.t.Add(-24*time.Hour)) || !r.Trusts(first.Chain, c.t) {
		t.Error("what is trusted does not end when it should")
	}

	// A key may have two certificates; a chain cannot do two things.
	m.Authorities, m.Retired = []Authority{first}, []Authority{first}
	if err := r.Publish(ctx, m); err == nil || !strings.Contains(err.Error(), "stands twice") {
		t.Errorf("a chain that signs and is retired: %v", err)
	}
	m.Retired = []Authority{{URL: "https://ca.example.com"}}
	if err := r.Publish(ctx, m); err == nil || !strings.Contains(err.Error(), "no certificate") {
		t.Errorf("a retired chain that is empty: %v", err)
	}
	m.Retired, m.CTLogs = nil, []Log{{URL: "https://ct.example.com", Key: m.RekorV1[0].Key}}
	if err := r.Publish(ctx, m); err == nil || !strings.Contains(err.Error(), "the same key") {
		t.Errorf("two logs with one key: %v", err)
	}
}
