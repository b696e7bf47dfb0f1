// Package policy decides whether a verified identity may have a certificate: by rules over its
// claims, and by how many certificates it had lately.
//
// # Rules
//
// A rule is an expression of CEL (cel.dev) that is true or false, and says what happens where it is
// true: the identity is let in, or it is denied. Rules are asked in their order, and the first that
// is true decides. Where none does, Config.Default decides.
//
//	{Name: "only-main", Issuers: []string{"https://token.actions.githubusercontent.com"},
//		Deny: `claims.ref != "refs/heads/main"`, Message: "sign from the main branch"}
//	{Name: "our-org", Allow: `claims.repository_owner == "acme"`}
//
// The variables of an expression:
//
//	identity.san          the name that the certificate is for
//	identity.san_kind     "email", "uri" or "username"
//	identity.issuer       the token's "iss"
//	identity.issuer_type  as configured, for example "github-workflow"
//	identity.subject      the token's "sub"
//	identity.email        the mail address, if it counts as verified; else ""
//	claims                all claims of the token, by their names; null counts as absent
//	extensions            what the certificate will say, by the names of package ext; "" if absent
//	now                   the time
//
// The functions are those of CEL's standard library; regular expressions are RE2's.
//
// # What cannot be decided is denied
//
// An expression that fails denies by its rule, and the message says why: a claim is missing (has()
// asks whether it is there), it has another type, or the work is too much for these claims. Claims
// that a reader could understand in two ways deny as well: a name that stands twice in an object,
// at any depth. A number that cannot be kept exactly, or a text that is not Unicode, fails where a
// rule uses it, and nowhere else.
//
// # Bounds
//
// A decision costs at most maxCost units of CEL's cost model, whatever the claims are, and ends
// when its context does. An expression that would cost more with claims of usual sizes is refused by
// New. The pattern of a regular expression is a literal of the rule: claims choose no pattern.
//
// # Limits
//
// There is a bucket of certificates for each identity, which is an issuer and the name in the
// certificate, and one for each issuer: see package limit.
//
// # Swapping
//
// A Policy does not change. Another one takes its place as a pointer does, and takes its buckets over
// where their limits are the same: see Options.Previous.
package policy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sigstack/sigstack/ca/ext"
	"github.com/sigstack/sigstack/ca/identity"
	"github.com/sigstack/sigstack/ca/limit"
)

// A Config is a policy as it is written. The zero value has nothing to decide.
type Config struct {
	// DryRun lets everybody in who would be denied. Decisions are observed all the same.
	DryRun bool

	// Rules are asked in this order.
	Rules []Rule

	// Default decides where no rule does: "allow" or "deny". It is required with rules, and has
	// no meaning without.
	Default string

	PerIdentity limit.Limit // of one issuer and subject alternative name
	PerIssuer   limit.Limit // of all tokens of one issuer
}

// IsZero reports whether there is nothing to decide.
func (c Config) IsZero() bool {
	return len(c.Rules) == 0 && c.Default == "" && c.PerIdentity == limit.Limit{} && c.PerIssuer == limit.Limit{}
}

// A Rule has one expression, Allow or Deny.
type Rule struct {
	Name    string   // in messages and metrics: small letters, digits, and -_. between them; each once
	Issuers []string // whose tokens the rule is for, as URLs or patterns; of all if empty
	Allow   string   // lets the identity in where it is true
	Deny    string   // denies where it is true
	Message string   // of Deny, for whoever is denied; may be empty
}

// What a Config may have.
const (
	MaxRules      = 100
	MaxExpression = 4096 // bytes
	maxName       = 64   // bytes
	maxMessage    = 512  // bytes
)

// Values of Config.Default.
const (
	DefaultAllow = "allow"
	DefaultDeny  = "deny"
)

// An Outcome is how a decision ended.
type Outcome string

// The outcomes. All but Allowed refuse.
const (
	Allowed Outcome = "allow"
	Denied  Outcome = "deny"
	Failed  Outcome = "error" // something could not be evaluated, which denies
	Limited Outcome = "limit"
)

// Names that stand where the name of a rule does, for what decides beside the rules.
const (
	ByDefault     = "default"
	ByClaims      = "claims"       // that cannot be read
	ByPerIdentity = "per-identity" // the limit
	ByPerIssuer   = "per-issuer"   // the limit
)

// A Decision is about one request.
type Decision struct {
	Rule       string // that decided, or one of ByDefault, ByClaims, ByPerIdentity, ByPerIssuer
	Outcome    Outcome
	Message    string        // the rule's, or why it could not be evaluated; may be empty
	RetryAfter time.Duration // of Limited
	DryRun     bool          // it was only observed
}

// A Claimant is who asks, or what a recorded token says about who did.
type Claimant interface {
	Issuer() string
	IssuerType() string
	Subject() string
	Email() string
	SAN() ext.SAN
	Extensions() ext.Values
	Claims() []byte // a JSON object
}

// Classes of refusals, for the one place that maps errors to statuses.
var (
	// ErrDenied is a refusal by a rule: the same request will be refused again (HTTP 403).
	ErrDenied = errors.New("denied by the policy")
	// ErrLimited is a refusal by a limit: the same request may pass later (HTTP 429).
	ErrLimited = errors.New("too many certificates")
)

// An Error is a refusal. Its text is one line for the client.
type Error struct {
	Decision
	class error
	text  string
}

func (e *Error) Error() string { return e.text }

// Unwrap is the class.
func (e *Error) Unwrap() error { return e.class }

// Options are what a Policy needs beside what is written.
type Options struct {
	// Now is the clock; time.Now if nil.
	Now func() time.Time

	// Previous is the policy that this one replaces, if there is one: a limit that is the same in
	// both goes on with its buckets, and the others begin anew.
	Previous *Policy

	// Observe is called once for each decision of Admit. May be nil.
	Observe func(ctx context.Context, who Claimant, d Decision)
}

// A Policy decides. It is safe for concurrent use, and never changes.
type Policy struct {
	dryRun      bool
	rules       []rule
	byDefault   Outcome
	perIdentity *limit.Limiter // nil without
	perIssuer   *limit.Limiter // nil without
	now         func() time.Time
	observe     func(context.Context, Claimant, Decision)
}

// New compiles a policy. The error is of type Mistakes and says all of them.
func New(cfg Config, opts Options) (*Policy, error) {
	p := &Policy{dryRun: cfg.DryRun, byDefault: Allowed, now: opts.Now, observe: opts.Observe}
	if p.now == nil {
		p.now = time.Now
	}
	if p.observe == nil {
		p.observe = func(context.Context, Claimant, Decision) {}
	}
	var wrong Mistakes
	p.rules = wrong.compile(cfg.Rules)
	switch {
	case len(cfg.Rules) == 0 && cfg.Default != "":
		wrong.add(-1, "default", "is %q, but there are no rules; say what the default is for, or leave it away", cfg.Default)
	case len(cfg.Rules) > 0 && cfg.Default == "":
		wrong.add(-1, "default", "is missing, which decides where no rule does; say deny or allow")
	case cfg.Default == DefaultDeny:
		p.byDefault = Denied
	case cfg.Default != "" && cfg.Default != DefaultAllow:
		wrong.add(-1, "default", "is %q; deny or allow is required", cfg.Default)
	}
	var before Policy
	if opts.Previous != nil {
		before = *opts.Previous
	}
	p.perIdentity = wrong.limiter(ByPerIdentity, cfg.PerIdentity, before.perIdentity)
	p.perIssuer = wrong.limiter(ByPerIssuer, cfg.PerIssuer, before.perIssuer)
	if len(wrong) > 0 {
		return nil, wrong
	}
	return p, nil
}

// Outcomes are all decisions that Admit can come to, by Rule and Outcome alone: what a metric has to
// know beforehand.
func (p *Policy) Outcomes() []Decision {
	list := []Decision{{Rule: ByDefault, Outcome: p.byDefault}}
	for _, r := range p.rules {
		met := Allowed
		if r.Deny != "" {
			met = Denied
		}
		list = append(list, Decision{Rule: r.Name, Outcome: met}, Decision{Rule: r.Name, Outcome: Failed})
	}
	if len(p.rules) > 0 {
		list = append(list, Decision{Rule: ByClaims, Outcome: Failed})
	}
	if p.perIdentity != nil {
		list = append(list, Decision{Rule: ByPerIdentity, Outcome: Limited})
	}
	if p.perIssuer != nil {
		list = append(list, Decision{Rule: ByPerIssuer, Outcome: Limited})
	}
	return list
}

// Admit decides whether an identity may have a certificate now. A refusal is of type *Error and of the
// class ErrDenied or ErrLimited. Any other error means that ctx has ended, and nothing was decided.
func (p *Policy) Admit(ctx context.Context, id identity.Identity) error {
	now := p.now()
	d, err := p.Decide(ctx, id, now)
	if err != nil {
		return err
	}
	if d.Outcome == Allowed {
		p.limit(id, now, &d)
	}
	d.DryRun = p.dryRun
	p.observe(ctx, id, d)
	if d.Outcome == Allowed || d.DryRun {
		return nil
	}
	return d.refusal()
}

// Decide asks the rules, and not the limits. Nobody observes it. The error is that of ctx.
func (p *Policy) Decide(ctx context.Context, who Claimant, now time.Time) (Decision, error) {
	if len(p.rules) == 0 {
		return Decision{Rule: ByDefault, Outcome: p.byDefault}, nil
	}
	claims, err := decodeClaims(who.Claims())
	if err != nil {
		return Decision{Rule: ByClaims, Outcome: Failed, Message: err.Error()}, nil
	}
	vars := &variables{Claimant: who, claims: claims, now: now}
	left := uint64(maxCost)
	for i := range p.rules {
		r := &p.rules[i]
		if !r.covers(who.Issuer()) {
			continue
		}
		met, cost, err := r.eval(ctx, vars)
		switch {
		case ctx.Err() != nil:
			return Decision{}, context.Cause(ctx)
		case err == nil && cost > left:
			err = errCost
		}
		left -= min(left, cost)
		switch {
		case err != nil:
			return Decision{Rule: r.Name, Outcome: Failed, Message: err.Error()}, nil
		case met && r.Deny != "":
			return Decision{Rule: r.Name, Outcome: Denied, Message: r.Message}, nil
		case met:
			return Decision{Rule: r.Name, Outcome: Allowed}, nil
		}
	}
	return Decision{Rule: ByDefault, Outcome: p.byDefault}, nil
}

// refusal is the error for a decision that refuses.
func (d Decision) refusal() *Error {
	e := &Error{Decision: d, class: ErrDenied}
	switch {
	case d.Outcome == Limited:
		e.class, e.text = ErrLimited, d.Message
		return e
	case d.Rule == ByDefault:
		e.text = ErrDenied.Error() + ": no rule allows this identity"
		return e
	case d.Rule == ByClaims:
		e.text = ErrDenied.Error()
	default:
		e.text = fmt.Sprintf("%v, rule %q", ErrDenied, d.Rule)
	}
	if d.Message != "" {
		e.text += ": " + d.Message
	}
	return e
}

// A Mistake is one thing in a Config that New does not take.
type Mistake struct {
	Rule   int    // its index in Config.Rules; -1 for what is no rule
	Field  string // "name", "issuers", "allow", "deny", "message"; "rules", "default", "per-identity", "per-issuer"
	Line   int    // of the expression, from 1; 0 for what has no place in an expression
	Column int    // from 1
	Text   string // what is wrong, and what would be right
}

// Mistakes are all of them.
type Mistakes []Mistake

func (m Mistakes) Error() string {
	lines := make([]string, len(m))
	for i, one := range m {
		at := one.Field
		if one.Rule >= 0 {
			at = fmt.Sprintf("rule %d: %s", one.Rule+1, one.Field)
		}
		lines[i] = at + ": " + one.Text
	}
	return strings.Join(lines, "\n")
}

func (m *Mistakes) add(rule int, field, format string, args ...any) {
	*m = append(*m, Mistake{Rule: rule, Field: field, Text: fmt.Sprintf(format, args...)})
}

// A rule that was compiled.
type rule struct {
	Rule
	expression
}

func (r *rule) covers(issuer string) bool {
	return len(r.Issuers) == 0 || slices.ContainsFunc(r.Issuers, func(of string) bool {
		return identity.Issuer{URL: of}.Covers(issuer)
	})
}

// compile checks and compiles rules.
func (m *Mistakes) compile(list []Rule) []rule {
	if len(list) == 0 {
		return nil
	}
	if len(list) > MaxRules {
		m.add(-1, "rules", "has %d rules, at most %d are allowed", len(list), MaxRules)
		return nil
	}
	env, err := newEnvironment()
	if err != nil { // cannot be: it depends on nothing
		m.add(-1, "rules", "%v", err)
		return nil
	}
	rules := make([]rule, 0, len(list))
	seen := map[string]int{}
	for i, r := range list {
		switch {
		case !plainName(r.Name):
			m.add(i, "name", "is %.80q; a name of 1 to %d small letters and digits is required, with - _ . between them", r.Name, maxName)
		case r.Name == ByDefault || r.Name == ByClaims || r.Name == ByPerIdentity || r.Name == ByPerIssuer:
			m.add(i, "name", "is %q, which metrics have for something else; take another one", r.Name)
		case seen[r.Name] > 0:
			m.add(i, "name", "is %q, as that of rule %d; a name stands once", r.Name, seen[r.Name])
		default:
			seen[r.Name] = i + 1
		}
		if len(r.Message) > maxMessage || strings.ContainsFunc(r.Message, func(c rune) bool { return c < ' ' || c == 0x7f || c == '\u2028' || c == '\u2029' }) {
			m.add(i, "message", "is one line of at most %d bytes", maxMessage)
		}
		if r.Message != "" && r.Allow != "" {
			m.add(i, "message", "is given for a rule that allows; it is for whoever is denied, leave it away")
		}
		field, text := "allow", r.Allow
		switch {
		case r.Allow == "" && r.Deny == "":
			m.add(i, "allow", "is missing, and so is deny; a rule has one of them")
			continue
		case r.Allow != "" && r.Deny != "":
			m.add(i, "deny", "is given, and so is allow; a rule has one of them")
			continue
		case r.Deny != "":
			field, text = "deny", r.Deny
		}
		x, wrong := env.compile(text)
		for _, w := range wrong {
			w.Rule, w.Field = i, field
			*m = append(*m, w)
		}
		rules = append(rules, rule{r, x})
	}
	return rules
}

// plainName is what can stand in a metric, a message and a log without quotes.
func plainName(s string) bool {
	if s == "" || len(s) > maxName || strings.Trim(s, "-_.") != s {
		return false
	}
	return strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-_.") == ""
}
