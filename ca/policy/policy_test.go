package policy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sigstack/sigstack/ca/catest"
	"github.com/sigstack/sigstack/ca/ext"
	"github.com/sigstack/sigstack/ca/identity"
	"github.com/sigstack/sigstack/ca/limit"
	"github.com/sigstack/sigstack/test/fuzz"
)

var t0 = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

const (
	githubURL = "https://token.actions.githubusercontent.com"
	loginURL  = "https://login.example.com"
	gitlabURL = "https://gitlab.com"
	eksURL    = "https://oidc.eks.eu-west-1.amazonaws.com/id/0123"
)

// issuers are what the tests accept tokens of.
func issuers() []identity.Issuer {
	return []identity.Issuer{
		{URL: githubURL, ClientID: "sigstore", Type: "github-workflow"},
		{URL: loginURL, ClientID: "sigstore", Type: "email"},
		{URL: gitlabURL, ClientID: "sigstore", Type: "gitlab-pipeline"},
		{URL: "https://oidc.eks.*.amazonaws.com/id/*", ClientID: "sigstore", Type: "kubernetes"},
	}
}

func githubClaims(change ...any) map[string]any {
	const workflow = "acme/widget/.github/workflows/release.yml@refs/heads/main"
	return changed(map[string]any{
		"iss": githubURL, "aud": "sigstore", "sub": "repo:acme/widget:ref:refs/heads/main", "jti": "6f4f6e8a-6d1b-4c4e-9a43-5a5f5d1f8a6b",
		"exp": 1772601967, "iat": 1772601667, "nbf": 1772601367, "actor": "octo", "actor_id": "1234567", "base_ref": "", "head_ref": "",
		"job_workflow_ref": workflow, "job_workflow_sha": "c0ffee01", "sha": "c0ffee02", "event_name": "push", "repository": "acme/widget",
		"workflow": "release", "ref": "refs/heads/main", "ref_type": "branch", "ref_protected": "true", "runner_environment": "github-hosted",
		"repository_id": "1001", "repository_owner": "acme", "repository_owner_id": "2002", "repository_visibility": "public",
		"workflow_ref": workflow, "workflow_sha": "c0ffee03", "run_id": "3003", "run_number": "17", "run_attempt": "2",
	}, change)
}

func loginClaims(change ...any) map[string]any {
	return changed(map[string]any{
		"iss": loginURL, "aud": "sigstore", "sub": "CgcyMzQyNzQ5EgZnaXRodWI", "exp": 1772601967, "iat": 1772601667,
		"email": "dev@example.com", "email_verified": true, "groups": []any{"release", "staff"}, "auth_time": 1772601600,
		"federated_claims": map[string]any{"connector_id": "github", "user_id": "2342749"},
	}, change)
}

func gitlabClaims(change ...any) map[string]any {
	return changed(map[string]any{
		"iss": gitlabURL, "aud": "sigstore", "sub": "project_path:acme/widget:ref_type:branch:ref:main", "exp": 1772601967, "iat": 1772601667,
		"namespace_id": "72", "namespace_path": "acme", "project_id": "20", "project_path": "acme/widget", "pipeline_source": "push",
		"pipeline_id": "574", "job_id": "302", "ref": "main", "ref_type": "branch", "ref_protected": "true", "runner_id": 1,
		"runner_environment": "gitlab-hosted", "sha": "714a629c", "ci_config_ref_uri": "gitlab.com/acme/widget//.gitlab-ci.yml@refs/heads/main",
		"user_login": "dev", "user_access_level": "maintainer",
	}, change)
}

func kubernetesClaims(change ...any) map[string]any {
	return changed(map[string]any{
		"iss": eksURL, "aud": []any{"sigstore"}, "sub": "system:serviceaccount:prod:builder", "exp": 1772601967, "iat": 1772601667,
		"kubernetes.io": map[string]any{
			"namespace": "prod", "pod": map[string]any{"name": "builder-0", "uid": "5c3e"}, "serviceaccount": map[string]any{"name": "builder", "uid": "77aa"},
		},
	}, change)
}

// changed replaces claims, and removes those that are replaced by nil.
func changed(claims map[string]any, change []any) map[string]any {
	for i := 0; i < len(change); i += 2 {
		claims[change[i].(string)] = change[i+1]
		if change[i+1] == nil {
			delete(claims, change[i].(string))
		}
	}
	return claims
}

// claimed is what the configured issuers make of claims.
func claimed(t testing.TB, claims map[string]any) identity.Claimed {
	t.Helper()
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	v, err := identity.NewVerifier(identity.Config{Issuers: issuers()}, identity.Options{})
	if err != nil {
		t.Fatal(err)
	}
	c, err := v.ClaimedBy(payload)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A raw claimant has claims as they are written, and little else.
type raw string

func (raw) Issuer() string         { return loginURL }
func (raw) IssuerType() string     { return "email" }
func (raw) Subject() string        { return "1" }
func (raw) Email() string          { return "" }
func (raw) SAN() ext.SAN           { return ext.SAN{Kind: ext.Email, Value: "dev@example.com"} }
func (raw) Extensions() ext.Values { return ext.Values{} }
func (r raw) Claims() []byte       { return []byte(r) }

func compile(t testing.TB, c Config) *Policy {
	t.Helper()
	p, err := New(c, Options{Now: func() time.Time { return t0 }})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func decide(t testing.TB, p *Policy, who Claimant) Decision {
	t.Helper()
	d, err := p.Decide(context.Background(), who, t0)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestRules asks one policy, such as somebody might have, about tokens of several providers.
func TestRules(t *testing.T) {
	p := compile(t, Config{
		Rules: []Rule{
			{Name: "freeze", Deny: `now >= timestamp("2026-12-24T00:00:00Z") && now < timestamp("2027-01-02T00:00:00Z")`, Message: "nothing is released over the holidays"},
			{Name: "no-pull-requests", Issuers: []string{githubURL}, Deny: `claims.event_name in ["pull_request", "pull_request_target"]`},
			{Name: "only-main", Issuers: []string{githubURL}, Deny: `claims.ref != "refs/heads/main" && !claims.ref.matches("^refs/tags/v[0-9]+$")`, Message: "sign from the main branch or a version tag"},
			{Name: "ours", Issuers: []string{githubURL, gitlabURL}, Allow: `extensions["source-repository-owner-uri"] in ["https://github.com/acme", "https://gitlab.com/acme"]`},
			{Name: "release-team", Issuers: []string{loginURL}, Allow: `identity.email.endsWith("@example.com") && has(claims.groups) && "release" in claims.groups`},
			{Name: "connector", Issuers: []string{loginURL}, Allow: `claims.federated_claims.connector_id == "ldap"`},
			{Name: "clusters", Issuers: []string{"https://oidc.eks.*.amazonaws.com/id/*"}, Allow: `claims["kubernetes.io"].namespace == "prod" && identity.san_kind == "uri" && identity.issuer_type == "kubernetes"`},
		},
		Default: DefaultDeny,
	})
	for name, test := range map[string]struct {
		claims  map[string]any
		outcome Outcome
		rule    string
		message string
	}{
		"the main branch":                {githubClaims(), Allowed, "ours", ""},
		"a version tag":                  {githubClaims("ref", "refs/tags/v12"), Allowed, "ours", ""},
		"a tag that begins like one":     {githubClaims("ref", "refs/tags/v12x"), Denied, "only-main", "sign from the main branch or a version tag"},
		"another branch":                 {githubClaims("ref", "refs/heads/dev"), Denied, "only-main", "sign from the main branch or a version tag"},
		"the first rule decides":         {githubClaims("ref", "refs/heads/dev", "event_name", "pull_request"), Denied, "no-pull-requests", ""},
		"another owner":                  {githubClaims("repository_owner", "evil"), Denied, ByDefault, ""},
		"a rule of another issuer":       {gitlabClaims("ref", "dev"), Allowed, "ours", ""},
		"GitLab, another owner":          {gitlabClaims("namespace_path", "evil"), Denied, ByDefault, ""},
		"a person of the team":           {loginClaims(), Allowed, "release-team", ""},
		"a person of another team":       {loginClaims("groups", []any{"staff"}), Denied, ByDefault, ""},
		"a person without teams":         {loginClaims("groups", nil), Denied, ByDefault, ""},
		"a person of another domain":     {loginClaims("email", "dev@example.org"), Denied, ByDefault, ""},
		"a nested claim":                 {loginClaims("groups", nil, "federated_claims", map[string]any{"connector_id": "ldap"}), Allowed, "connector", ""},
		"a nested claim is missing":      {loginClaims("groups", nil, "federated_claims", map[string]any{}), Failed, "connector", `the claim "connector_id" is missing`},
		"a claim is missing":             {loginClaims("groups", nil, "federated_claims", nil), Failed, "connector", `the claim "federated_claims" is missing`},
		"a claim of another type":        {loginClaims("groups", 7), Failed, "release-team", "a claim has another type than the expression takes"},
		"an issuer that a pattern finds": {kubernetesClaims(), Allowed, "clusters", ""},
		"another namespace": {kubernetesClaims("sub", "system:serviceaccount:dev:builder", "kubernetes.io", map[string]any{
			"namespace": "dev", "serviceaccount": map[string]any{"name": "builder"}}), Denied, ByDefault, ""},
	} {
		t.Run(name, func(t *testing.T) {
			d := decide(t, p, claimed(t, test.claims))
			if d.Outcome != test.outcome || d.Rule != test.rule || d.Message != test.message {
				t.Errorf("%+v", d)
			}
		})
	}

	d, err := p.Decide(context.Background(), claimed(t, githubClaims()), time.Date(2026, 12, 25, 0, 0, 0, 0, time.UTC))
	if err != nil || d.Outcome != Denied || d.Rule != "freeze" {
		t.Errorf("on a holiday: %+v, %v", d, err)
	}
}

// TestVariables reads every variable.
func TestVariables(t *testing.T) {
	for _, test := range []struct {
		who  map[string]any
		expr string
	}{
		{loginClaims(), `identity.san == "dev@example.com" && identity.san_kind == "email" && identity.email == "dev@example.com"`},
		{loginClaims(), `identity.issuer == "https://login.example.com" && identity.issuer_type == "email" && identity.subject == claims.sub`},
		{githubClaims(), `identity.san == "https://github.com/" + claims.job_workflow_ref && identity.email == ""`},
		{githubClaims(), `extensions["build-signer-digest"] == "c0ffee01" && extensions["deployment-environment"] == ""`},
		{loginClaims(), `now == timestamp("2026-03-04T05:06:07Z") && now - timestamp(claims.auth_time) < duration("1h40m")`},
		{loginClaims("n", 9007199254740993), `claims.n == 9007199254740993 && claims.n != 9007199254740992 && type(claims.n) == int`},
		{loginClaims("n", json.Number("18446744073709551615")), `claims.n == 18446744073709551615u`},
		{loginClaims("n", 1.5), `claims.n == 1.5 && claims.n > 1`},
		{loginClaims("n", json.RawMessage("null")), `!has(claims.n)`},
		{loginClaims("n", []any{nil, true, "x", []any{}}), `claims.n.size() == 4 && claims.n[0] == null && claims.n[1] && claims.n.exists(x, x == "x")`},
		{loginClaims("naïve \U0001F600", "ü"), `claims["naïve 😀"] == "ü"`},
		{loginClaims(), `claims.all(name, name != "admin") && claims.groups.map(g, g + "!") == ["release!", "staff!"]`},
	} {
		p := compile(t, Config{Rules: []Rule{{Name: "r", Allow: test.expr}}, Default: DefaultDeny})
		if d := decide(t, p, claimed(t, test.who)); d.Outcome != Allowed {
			t.Errorf("%s: %+v", test.expr, d)
		}
	}
}

// TestFailures: what cannot be evaluated denies, for an allowing rule and for a denying one.
func TestFailures(t *testing.T) {
	for name, test := range map[string]struct {
		claims, expr, message string
	}{
		"missing":               {`{}`, `claims.a == 1`, `the claim "a" is missing`},
		"missing, by index":     {`{}`, `claims["a b"] == 1`, `the claim "a b" is missing`},
		"null":                  {`{"a":null}`, `claims.a == 1`, `the claim "a" is missing`},
		"another type":          {`{"a":1}`, `claims.a.startsWith("x")`, "a claim has another type than the expression takes"},
		"not a boolean":         {`{"a":1}`, `claims.a || false`, "a claim has another type than the expression takes"},
		"a member of a text":    {`{"a":"x"}`, `claims.a.b == 1`, ""},
		"out of range":          {`{"a":[]}`, `claims.a[0] == 1`, ""},
		"division by zero":      {`{"a":0}`, `1 / claims.a == 1`, ""},
		"overflow":              {`{"a":9223372036854775807}`, `claims.a + 1 > 0`, ""},
		"not a time":            {`{"a":"yesterday"}`, `timestamp(claims.a) < now`, ""},
		"a large number":        {`{"a":18446744073709551616}`, `claims.a == 18446744073709551615.0`, "a claim is a whole number of more than 64 bits"},
		"a huge number":         {`{"a":1e999}`, `claims.a > 1.0`, "a claim is a number that is too large"},
		"not Unicode":           {`{"a":"\ud800"}`, `claims.a != "b"`, "a claim is not valid Unicode"},
		"too much work":         {`{"a":[` + strings.Repeat("1,", 4000) + `1]}`, `claims.a.all(x, claims.a.all(y, x == y))`, errCost.Error()},
		"twice":                 {`{"a":1,"a":1}`, `true`, `the claims have the member "a" twice in one object`},
		"twice, null":           {`{"a":null,"a":1}`, `true`, `the claims have the member "a" twice in one object`},
		"twice in an object":    {`{"b":[{"a":{"c":1,"c":2}}]}`, `true`, `the claims have the member "c" twice in one object`},
		"too deep":              {`{"a":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `}`, `true`, "the claims are nested deeper than 32 levels"},
		"an unknown extension":  {`{"a":"x"}`, `extensions[claims.a] == ""`, `the claim "x" is missing`},
		"no object":             {`[]`, `true`, errClaims.Error()},
		"an object that breaks": {`{"a":{`, `true`, errClaims.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			for _, r := range []Rule{{Name: "r", Allow: test.expr}, {Name: "r", Deny: test.expr}} {
				d := decide(t, compile(t, Config{Rules: []Rule{r}, Default: DefaultAllow}), raw(test.claims))
				if d.Outcome != Failed || d.Message == "" || test.message != "" && d.Message != test.message || strings.Contains(d.Message, "\n") || len(d.Message) > 500 {
					t.Errorf("%+v", d)
				}
			}
		})
	}

	// What a rule does not use harms nobody.
	p := compile(t, Config{Rules: []Rule{{Name: "r", Allow: `claims.b == 1`}}, Default: DefaultDeny})
	if d := decide(t, p, raw(`{"a":1e999,"c":["\udfff",123456789012345678901234567890],"b":1}`)); d.Outcome != Allowed {
		t.Errorf("%+v", d)
	}
	// Rules share their bound: a hundred that each stay below it do not make a hundred times the work.
	var many []Rule
	for i := range MaxRules {
		many = append(many, Rule{Name: fmt.Sprintf("r%d", i), Deny: `!claims.a.all(x, claims.a.all(y, x == y))`})
	}
	p = compile(t, Config{Rules: many, Default: DefaultAllow})
	if d := decide(t, p, raw(`{"a":[`+strings.Repeat("1,", 50)+`1]}`)); d.Outcome != Failed || d.Message != errCost.Error() || d.Rule == "r0" {
		t.Errorf("%+v", d)
	}
}

// TestEndedContext: nothing is decided for a client that has gone.
func TestEndedContext(t *testing.T) {
	p := compile(t, Config{Rules: []Rule{{Name: "r", Allow: `claims.a.all(x, x == 1)`}}, Default: DefaultAllow})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if d, err := p.Decide(ctx, raw(`{"a":[`+strings.Repeat("1,", 1000)+`1]}`), t0); !errors.Is(err, context.Canceled) {
		t.Errorf("%+v, %v", d, err)
	}
}

// TestMistakes: what New refuses, and what it says.
func TestMistakes(t *testing.T) {
	good := Rule{Name: "good", Allow: "true"}
	expr := func(text string) Config { return Config{Rules: []Rule{{Name: "r", Deny: text}}, Default: DefaultAllow} }
	for name, test := range map[string]struct {
		config Config
		want   string // the place, and part of the text
	}{
		"no name":                   {Config{Rules: []Rule{{Allow: "true"}}, Default: DefaultDeny}, `rule 1: name: is ""`},
		"a name of capitals":        {Config{Rules: []Rule{{Name: "Main", Allow: "true"}}, Default: DefaultDeny}, `rule 1: name: is "Main"; a name of 1 to 64 small letters`},
		"a long name":               {Config{Rules: []Rule{{Name: strings.Repeat("a", 65), Allow: "true"}}, Default: DefaultDeny}, "rule 1: name: is"},
		"a name that is taken":      {Config{Rules: []Rule{{Name: ByPerIssuer, Allow: "true"}}, Default: DefaultDeny}, "take another one"},
		"a name twice":              {Config{Rules: []Rule{good, good}, Default: DefaultDeny}, `rule 2: name: is "good", as that of rule 1`},
		"neither":                   {Config{Rules: []Rule{{Name: "r"}}, Default: DefaultDeny}, "rule 1: allow: is missing, and so is deny"},
		"both":                      {Config{Rules: []Rule{{Name: "r", Allow: "true", Deny: "true"}}, Default: DefaultDeny}, "rule 1: deny: is given, and so is allow"},
		"a message of two lines":    {Config{Rules: []Rule{{Name: "r", Deny: "true", Message: "a\nb"}}, Default: DefaultDeny}, "rule 1: message: is one line"},
		"a message of nobody":       {Config{Rules: []Rule{{Name: "r", Allow: "true", Message: "a"}}, Default: DefaultDeny}, "rule 1: message: is given for a rule that allows"},
		"a long message":            {Config{Rules: []Rule{{Name: "r", Deny: "true", Message: strings.Repeat("a", 513)}}, Default: DefaultDeny}, "rule 1: message: is one line"},
		"many rules":                {Config{Rules: make([]Rule, MaxRules+1), Default: DefaultDeny}, "rules: has 101 rules, at most 100"},
		"no default":                {Config{Rules: []Rule{good}}, "default: is missing"},
		"another default":           {Config{Rules: []Rule{good}, Default: "refuse"}, `default: is "refuse"; deny or allow`},
		"a default of nothing":      {Config{Default: DefaultDeny}, "default: is \"deny\", but there are no rules"},
		"no certificates":           {Config{PerIdentity: limit.Limit{Per: time.Minute}}, "per-identity: has 0 certificates; 1 to 1000000"},
		"too many certificates":     {Config{PerIssuer: limit.Limit{Number: 1_000_001, Per: time.Minute}}, "per-issuer: has 1000001 certificates"},
		"no time":                   {Config{PerIssuer: limit.Limit{Number: 1}}, "per-issuer: is per 0s; 1s to 24h0m0s"},
		"a long time":               {Config{PerIdentity: limit.Limit{Number: 1, Per: 25 * time.Hour}}, "per-identity: is per 25h0m0s"},
		"not CEL":                   {expr("claims.ref !!= 1"), "rule 1: deny: column 12: Syntax error"},
		"an unknown variable":       {expr("claim.ref == 'x'"), "column 1: undeclared reference to 'claim' (did you mean 'claims'?); variables are claims, extensions, identity.email"},
		"an unknown field":          {expr("identity.name == 'x'"), "column 9: undeclared reference to 'identity.name' (did you mean 'identity.san'?)"},
		"an unknown function":       {expr("claims.ref.lower() == 'x'"), "undeclared reference to 'lower'"},
		"a type error":              {expr("identity.san == 1"), "column 14: found no matching overload"},
		"a text":                    {expr("identity.san"), "column 1: the expression is of the type string; one that is true or false is required"},
		"a claim":                   {expr("claims.admin"), "column 1: the expression is of the type dyn"},
		"a bad regular expression":  {expr("identity.san.matches('(')"), "column 22: invalid matches argument"},
		"a large one":               {expr("identity.san.matches('((a{10}){10}){10}')"), "column 22: "},
		"one of a claim":            {expr("identity.san.matches(claims.a)"), "the pattern of matches() is not a text in quotes"},
		"one of a claim, otherwise": {expr("matches(identity.san, claims.a)"), "the pattern of matches() is not a text in quotes"},
		"a bad time":                {expr("now > timestamp('tomorrow')"), "invalid timestamp argument"},
		"a bad duration":            {expr("now - now > duration('1 hour')"), "invalid duration argument"},
		"an unknown extension":      {expr("extensions['repository'] == ''"), `there is no extension "repository"; extensions["..."] takes one of github-workflow-trigger, `},
		"an extension's field":      {expr("extensions.repository == ''"), `there is no extension "repository"`},
		"a list of two types":       {expr("claims.a in ['x', 1]"), "expected type 'string' but found 'int'"},
		"too long":                  {expr(strings.Repeat(" ", MaxExpression) + "true"), "the expression has 4100 bytes, at most 4096 are allowed"},
		"too deep":                  {expr(strings.Repeat("(", 200) + "true" + strings.Repeat(")", 200)), "column"},
		"nested too deep":           {expr("claims.a.all(x, claims.a.all(y, claims.a.all(z, x == z)))"), "column"},
		"too expensive":             {expr("claims.a.all(x, claims.b.all(y, claims.c.matches('^a+b+c+$') && x.matches('^a.*b.*c$') && y.contains(x)))"), "at most 250000 is allowed; ask for less"},
		"empty":                     {expr(" "), "column"},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := New(test.config, Options{})
			var found Mistakes
			if p != nil || !errors.As(err, &found) || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("%v, want %q", err, test.want)
			}
			for _, m := range found {
				if m.Text == "" || strings.Contains(m.Text, "\n") || len(m.Text) > 1000 {
					t.Errorf("%q", m.Text)
				}
			}
		})
	}

	_, err := New(Config{Rules: []Rule{good, {Name: "Bad", Allow: "true &&\n  claim.x"}}, PerIdentity: limit.Limit{Number: -1}}, Options{})
	var found Mistakes
	if !errors.As(err, &found) || len(found) != 4 {
		t.Fatalf("not all mistakes: %v", err)
	}
	if m := found[1]; m.Rule != 1 || m.Field != "allow" || m.Line != 2 || m.Column != 3 {
		t.Errorf("the place of a mistake: %+v", m)
	}
}

// TestNothing: a policy of nothing admits everybody.
func TestNothing(t *testing.T) {
	if !(Config{DryRun: true}).IsZero() || (Config{Default: DefaultDeny}).IsZero() || (Config{PerIssuer: limit.Limit{Number: 1, Per: time.Minute}}).IsZero() {
		t.Error("IsZero")
	}
	if d := decide(t, compile(t, Config{}), raw("not looked at")); d.Outcome != Allowed || d.Rule != ByDefault {
		t.Errorf("%+v", d)
	}
}

// person is a verified identity.
func person(t testing.TB, email string) identity.Identity {
	t.Helper()
	return catest.NewIssuer(t, loginURL).Identity(t, t0, email)
}

// TestAdmit: refusals as clients get them, what is observed, and dry-run.
func TestAdmit(t *testing.T) {
	config := Config{
		Rules: []Rule{
			{Name: "blocked", Deny: `identity.san == "blocked@example.com"`, Message: "ask the security team"},
			{Name: "quiet", Deny: `identity.san == "quiet@example.com"`},
			{Name: "broken", Deny: `identity.san == "broken@example.com" && claims.nothing == 1`},
			{Name: "ours", Allow: `identity.san.endsWith("@example.com")`},
		},
		Default:     DefaultDeny,
		PerIdentity: limit.Limit{Number: 1, Per: 10 * time.Second},
	}
	for _, dryRun := range []bool{false, true} {
		config.DryRun = dryRun
		var seen []Decision
		p, err := New(config, Options{Now: func() time.Time { return t0 }, Observe: func(_ context.Context, who Claimant, d Decision) {
			if who.Issuer() != loginURL || who.SAN().Kind != ext.Email {
				t.Errorf("observed for %+v", who)
			}
			seen = append(seen, d)
		}})
		if err != nil {
			t.Fatal(err)
		}
		for i, test := range []struct {
			email   string
			rule    string
			outcome Outcome
			class   error
			text    string
			after   time.Duration
		}{
			{"dev@example.com", "ours", Allowed, nil, "", 0},
			{"dev@example.com", ByPerIdentity, Limited, ErrLimited, "too many certificates for this identity: 1 per 10s are allowed; try again in 10 s", 10 * time.Second},
			{"blocked@example.com", "blocked", Denied, ErrDenied, `denied by the policy, rule "blocked": ask the security team`, 0},
			{"blocked@example.com", "blocked", Denied, ErrDenied, `denied by the policy, rule "blocked": ask the security team`, 0}, // no limit is reached by being denied
			{"quiet@example.com", "quiet", Denied, ErrDenied, `denied by the policy, rule "quiet"`, 0},
			{"broken@example.com", "broken", Failed, ErrDenied, `denied by the policy, rule "broken": the claim "nothing" is missing`, 0},
			{"dev@example.org", ByDefault, Denied, ErrDenied, "denied by the policy: no rule allows this identity", 0},
		} {
			err := p.Admit(context.Background(), person(t, test.email))
			if len(seen) != i+1 {
				t.Fatalf("%s: %d decisions observed, want %d", test.email, len(seen), i+1)
			}
			if d := seen[i]; d.Rule != test.rule || d.Outcome != test.outcome || d.DryRun != dryRun || d.RetryAfter != test.after {
				t.Errorf("%s: observed %+v", test.email, d)
			}
			if dryRun || test.class == nil {
				if err != nil {
					t.Errorf("%s: %v", test.email, err)
				}
				continue
			}
			var refusal *Error
			if !errors.As(err, &refusal) || !errors.Is(err, test.class) || err.Error() != test.text || refusal.RetryAfter != test.after {
				t.Errorf("%s: %v, want %s", test.email, err, test.text)
			}
		}
	}
}

// TestOutcomes: whatever is decided was announced.
func TestOutcomes(t *testing.T) {
	p := compile(t, Config{Rules: []Rule{{Name: "a", Allow: "true"}, {Name: "d", Deny: "true"}}, Default: DefaultDeny, PerIdentity: limit.Limit{Number: 1, Per: time.Second}, PerIssuer: limit.Limit{Number: 1, Per: time.Second}})
	var got []string
	for _, d := range p.Outcomes() {
		got = append(got, d.Rule+" "+string(d.Outcome))
	}
	want := []string{"default deny", "a allow", "a error", "d deny", "d error", "claims error", "per-identity limit", "per-issuer limit"}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got := compile(t, Config{PerIssuer: limit.Limit{Number: 1, Per: time.Second}}).Outcomes(); len(got) != 2 || got[0].Outcome != Allowed {
		t.Errorf("limits alone: %+v", got)
	}
}

// TestUnreadableClaims: claims that nobody can read in one way only are denied.
func TestUnreadableClaims(t *testing.T) {
	d := decide(t, compile(t, Config{Rules: []Rule{{Name: "r", Allow: "true"}}, Default: DefaultAllow}), raw(`{"a":{"b":1,"b":2}}`))
	if err := d.refusal(); d.Rule != ByClaims || d.Outcome != Failed || err.Error() != `denied by the policy: the claims have the member "b" twice in one object` || !errors.Is(err, ErrDenied) {
		t.Errorf("%+v: %v", d, err)
	}
}

// payload are claims as a token has them.
func payload(t testing.TB, claims map[string]any) raw {
	t.Helper()
	text, err := json.Marshal(maps.Clone(claims))
	if err != nil {
		t.Fatal(err)
	}
	return raw(text)
}

// BenchmarkDecide is what a certificate pays: three rules over a token of GitHub.
func BenchmarkDecide(b *testing.B) {
	p := compile(b, Config{
		Rules: []Rule{
			{Name: "no-pull-requests", Deny: `claims.event_name in ["pull_request", "pull_request_target"]`},
			{Name: "only-main", Deny: `claims.ref != "refs/heads/main" && !claims.ref.matches("^refs/tags/v[0-9]+$")`},
			{Name: "ours", Allow: `claims.repository_owner == "acme" && identity.san.startsWith("dev")`},
		},
		Default: DefaultDeny,
	})
	who := payload(b, githubClaims())
	if d := decide(b, p, who); d.Rule != "ours" {
		b.Fatalf("%+v", d)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.Decide(context.Background(), who, t0); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkClaims is the part of that for reading the claims.
func BenchmarkClaims(b *testing.B) {
	text := payload(b, githubClaims()).Claims()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := decodeClaims(text); err != nil {
			b.Fatal(err)
		}
	}
}

// A heavy is an expression with the claims that make the most work of it.
type heavy struct {
	expr string
	who  raw
}

func heavies() map[string]heavy {
	ones := func(n int) string { return "[" + strings.Repeat("1,", n) + "1]" }
	long := strings.Repeat("ab", 4000)
	return map[string]heavy{
		"loops":   {`claims.a.all(x, claims.a.all(y, x == y))`, raw(`{"a":` + ones(4000) + `}`)},
		"regex":   {`claims.a.all(x, !claims.b.matches("^(a|b)*(a|b)*(a|b)*c?(ab|ba)*d$"))`, raw(`{"a":` + ones(100) + `,"b":"` + long + `"}`)},
		"texts":   {`claims.a.all(x, !claims.b.contains("abababababababababababababababababababababababc"))`, raw(`{"a":` + ones(500) + `,"b":"` + long + `"}`)},
		"joining": {`claims.a.all(x, size(claims.b + claims.b) > 1)`, raw(`{"a":` + ones(2000) + `,"b":"` + long + `"}`)},
		"sizes":   {`claims.a.all(x, size(claims.b) > 1 && size(string(claims.b)) > 1)`, raw(`{"a":` + ones(2000) + `,"b":"` + long + `"}`)},
		"objects": {`claims.a.all(x, claims == claims)`, raw(`{"a":` + ones(4000) + `}`)},
		"letters": {`claims.a.all(x, claims.b.matches("(?i)\\p{L}+$") || x == 1)`, raw(`{"a":` + ones(500) + `,"b":"` + strings.Repeat("ǅ", 4000) + `"}`)},
		"names":   {`claims.all(n, claims.all(m, n == m || n != m))`, raw("{" + manyNames(1000) + "}")},
	}
}

func manyNames(n int) string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf(`"%d\u202e":0`, i)
	}
	return strings.Join(names, ",")
}

// TestHeavyClaims: they are stopped by the bound, and make no more garbage than that lets them. How
// long it takes is BenchmarkHeavyClaims' to say.
func TestHeavyClaims(t *testing.T) {
	for name, h := range heavies() {
		p := compile(t, Config{Rules: []Rule{{Name: "r", Allow: h.expr}}, Default: DefaultDeny})
		const most = 48 << 20 // 6 MB, and more where the race detector empties pools
		fuzz.Budget(t, (most-1<<20)/10, func() {
			if d := decide(t, p, h.who); d.Outcome != Failed || d.Message != errCost.Error() {
				t.Errorf("%s: %+v", name, d)
			}
		})
	}
}

func BenchmarkHeavyClaims(b *testing.B) {
	for name, h := range heavies() {
		b.Run(name, func(b *testing.B) {
			p := compile(b, Config{Rules: []Rule{{Name: "r", Allow: h.expr}}, Default: DefaultDeny})
			b.ReportAllocs()
			for b.Loop() {
				if _, err := p.Decide(context.Background(), h.who, t0); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
