package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"go.yaml.in/yaml/v3"

	"github.com/sigstack/sigstack/api"
	"github.com/sigstack/sigstack/ca/identity"
	"github.com/sigstack/sigstack/ca/limit"
	"github.com/sigstack/sigstack/ca/policy"
)

// The section about admission:
//
//	policy:
//	  dry-run: false
//	  rules:                      # in this order; the first whose expression is true decides
//	    - name: only-main
//	      issuers: [https://token.actions.githubusercontent.com]
//	      deny: claims.ref != "refs/heads/main"
//	      message: sign from the main branch
//	    - name: ours
//	      allow: claims.repository_owner == "acme"
//	  default: deny               # where no rule decides
//	  limits:
//	    per-identity: {certificates: 60, per: 1m}
//	    per-issuer: {certificates: 6000, per: 1m}

// A policySection is the section as it was read, with the places of what may be
// a mistake in the eyes of package policy.
type policySection struct {
	config policy.Config
	at     place
	given  bool
	fields map[string]place // by the names of policy.Mistake.Field
	rules  []ruleSection    // as config.Rules
}

type ruleSection struct {
	at      place
	fields  map[string]place
	issuers []place    // as Rule.Issuers
	block   yaml.Style // of the expression
}

// readPolicy decodes the section. Its rules are compiled by checkPolicy, when all
// issuers are known.
func (f *configFile) readPolicy(at place, n *yaml.Node) {
	s := &f.policy
	s.at, s.fields = at, map[string]place{}
	members := f.mapping(at, n)
	s.given = len(members) > 0
	limit := func(name string, to *limit.Limit) func(place, *yaml.Node) {
		return func(at place, n *yaml.Node) {
			s.fields[name] = at
			before := len(f.mistakes)
			f.fields(at, f.mapping(at, n), []field{
				{"certificates", func(at place, n *yaml.Node) { to.Number = f.number(at, n) }},
				{"per", func(at place, n *yaml.Node) { to.Per = f.duration(at, n) }},
			})
			if *to == (limit.Limit{}) && len(f.mistakes) == before {
				f.mistake(at, "says neither certificates nor per; both are required, or leave it away")
			}
		}
	}
	f.fields(at, members, []field{
		{"dry-run", func(at place, n *yaml.Node) { s.config.DryRun = f.truth(at, n) }},
		{"rules", func(at place, n *yaml.Node) {
			s.fields["rules"] = at
			for i, n := range f.list(at, n) {
				f.rule(at, i, n)
			}
		}},
		{"default", func(at place, n *yaml.Node) {
			s.fields["default"] = at
			s.config.Default = f.text(at, n)
		}},
		{"limits", func(at place, n *yaml.Node) {
			f.fields(at, f.mapping(at, n), []field{
				{policy.ByPerIdentity, limit(policy.ByPerIdentity, &s.config.PerIdentity)},
				{policy.ByPerIssuer, limit(policy.ByPerIssuer, &s.config.PerIssuer)},
			})
		}},
	})
}

// rule decodes one rule. It is called by its name, or by its number while it has none.
func (f *configFile) rule(at place, i int, n *yaml.Node) {
	line := n.Line
	members := f.mapping(place{line, at.key}, n)
	label := strconv.Itoa(i + 1)
	for _, m := range members {
		if (field{key: "name"}).spells(m.key) && expanded(m.value).Kind == yaml.ScalarNode && !isNull(expanded(m.value)) {
			label = expanded(m.value).Value
		}
	}
	at = at.in(label, line)
	var r policy.Rule
	s := ruleSection{at: at, fields: map[string]place{}}
	text := func(key string, to *string) func(place, *yaml.Node) {
		return func(at place, n *yaml.Node) {
			s.fields[key] = at
			*to = f.text(at, n)
		}
	}
	expression := func(key string, to *string) func(place, *yaml.Node) {
		return func(at place, n *yaml.Node) {
			text(key, to)(at, n)
			n = expanded(n)
			s.fields[key], s.block = place{n.Line, at.key}, n.Style&(yaml.LiteralStyle|yaml.FoldedStyle)
		}
	}
	f.fields(at, members, []field{
		{"name", text("name", &r.Name)},
		{"issuers", func(at place, n *yaml.Node) {
			s.fields["issuers"] = at
			for _, n := range f.list(at, n) {
				at := place{n.Line, at.key}
				s.issuers = append(s.issuers, at)
				r.Issuers = append(r.Issuers, f.text(at, n))
			}
			if len(r.Issuers) == 0 && !f.wrong[at.key] {
				f.mistake(at, "is empty; name an issuer, or leave it away for a rule about all")
			}
		}},
		{"allow", expression("allow", &r.Allow)},
		{"deny", expression("deny", &r.Deny)},
		{"message", text("message", &r.Message)},
	})
	f.policy.config.Rules = append(f.policy.config.Rules, r)
	f.policy.rules = append(f.policy.rules, s)
}

// checkPolicy notes what is wrong with the policy of a configuration.
func (f *configFile) checkPolicy(c *Config) {
	s := &f.policy
	if s.given && s.config.IsZero() && len(f.mistakes) == 0 {
		f.mistake(s.at, "has neither rules nor limits, so there is nothing to decide; leave it away")
	}
	if s.config.IsZero() {
		return
	}
	known := c.issuerURLs()
	for i, r := range s.config.Rules {
		for k, url := range r.Issuers {
			if !slices.ContainsFunc(known, func(of string) bool { return of == url || identity.Issuer{URL: of}.Covers(url) }) {
				f.mistake(s.rules[i].issuers[k], "%s is not an issuer of this configuration; %s", shown(url), meant(url, known))
			}
		}
	}
	_, err := policy.New(s.config, policy.Options{})
	var wrong policy.Mistakes
	if !errors.As(err, &wrong) {
		return
	}
	before := maps.Clone(f.wrong)
	for _, m := range wrong {
		at := s.placeOf(m)
		// What follows from a mistake is not another one.
		if before[at.key] || m.Rule < 0 && (before[at.key+".certificates"] || before[at.key+".per"]) {
			continue
		}
		f.mistake(at, "%s", m.Text)
	}
}

// placeOf is where a mistake stands. The lines of an expression are those of the
// file where it is written as a block that keeps them.
func (s *policySection) placeOf(m policy.Mistake) place {
	if m.Rule < 0 {
		if at, ok := s.fields[m.Field]; ok {
			return at
		}
		return place{s.at.line, s.at.key + "." + m.Field}
	}
	r := s.rules[m.Rule]
	at, ok := r.fields[m.Field]
	switch {
	case !ok:
		return place{r.at.line, r.at.key + "." + m.Field}
	case m.Line > 0 && r.block == yaml.LiteralStyle:
		at.line += m.Line
	}
	return at
}

// number returns a whole number.
func (f *configFile) number(at place, n *yaml.Node) (i int) {
	n = expanded(n)
	if n.ShortTag() != intTag || n.Decode(&i) != nil {
		f.mistake(at, "is %s; a whole number is required", kind(n))
	}
	return i
}

// issuerURLs are the issuers whose tokens are accepted, with those of a
// development issuer.
func (c *Config) issuerURLs() []string {
	var urls []string
	for _, i := range append(slices.Clone(c.issuers), c.devIssuers()...) {
		urls = append(urls, i.URL)
	}
	return urls
}

// maxLogged is how many bytes of a name stand in the log.
const maxLogged = 512

// openPolicy compiles the rules of a configuration; nil where there are none. A policy is
// never changed: another one takes its place, and takes over what it remembers.
func (s *server) openPolicy(c policy.Config, before *policy.Policy) (*policy.Policy, error) {
	if c.IsZero() {
		return nil, nil
	}
	short := func(s string) string { // an issuer's users may have long names
		if len(s) > maxLogged {
			return s[:maxLogged] + "..."
		}
		return s
	}
	p, err := policy.New(c, policy.Options{Now: s.now, Previous: before, Observe: func(ctx context.Context, who policy.Claimant, d policy.Decision) {
		s.decisions.WithLabelValues(d.Rule, string(d.Outcome), strconv.FormatBool(d.DryRun)).Inc()
		if d.Outcome != policy.Allowed {
			s.logger.Warn("policy", "request_id", api.RequestID(ctx), "rule", d.Rule, "outcome", d.Outcome, "message", d.Message, "dry_run", d.DryRun,
				"issuer", who.Issuer(), "subject", short(who.Subject()), "san", short(who.SAN().Value))
		}
	}})
	if err != nil {
		return nil, fmt.Errorf("the policy: %w", err)
	}
	for _, d := range p.Outcomes() {
		s.decisions.WithLabelValues(d.Rule, string(d.Outcome), strconv.FormatBool(c.DryRun))
	}
	return p, nil
}

// policyDecisions registers the count of decisions. Its labels are a closed set:
// the names of rules are those of the configuration.
func policyDecisions(r prometheus.Registerer) *prometheus.CounterVec {
	decisions := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "sigstack_policy_decisions_total", Help: "Decisions of the admission policy, by the rule or limit that decided. With dry_run nobody was refused.",
	}, []string{"rule", "outcome", "dry_run"})
	r.MustRegister(decisions)
	return decisions
}
