package policy

import (
	"fmt"
	"time"

	"github.com/sigstack/sigstack/ca/limit"
)

// limiter checks a limit and returns its buckets: those of before, if the limit is the same.
func (m *Mistakes) limiter(name string, l limit.Limit, before *limit.Limiter) *limit.Limiter {
	for _, wrong := range []string{l.WrongNumber("certificates"), l.WrongPer()} {
		if wrong != "" {
			m.add(-1, name, "%s", wrong)
			return nil
		}
	}
	return limit.New(l, before)
}

// limit takes a certificate out of both buckets, or changes the decision and takes none.
func (p *Policy) limit(who Claimant, now time.Time, d *Decision) {
	type name struct{ rule, what string }
	var from []limit.Bucket
	var names []name
	if l := p.perIdentity; l != nil {
		san := who.SAN()
		from = append(from, l.Bucket(who.Issuer(), san.Kind.String(), san.Value))
		names = append(names, name{ByPerIdentity, "for this identity"})
	}
	if l := p.perIssuer; l != nil {
		from = append(from, l.Bucket(who.Issuer()))
		names = append(names, name{ByPerIssuer, "for tokens of this issuer"})
	}
	if longest, wait := limit.Take(now, from...); wait > 0 {
		by, of := names[longest], from[longest].Limit()
		d.Rule, d.Outcome, d.RetryAfter = by.rule, Limited, wait
		d.Message = fmt.Sprintf("%v %s: %d per %s are allowed; try again in %d s", ErrLimited, by.what, of.Number, of.Per, limit.Seconds(wait))
	}
}
