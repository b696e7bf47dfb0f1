package main

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/sigstack/sigstack/ca/limit"
	"github.com/sigstack/sigstack/ca/policy"
)

// policyIssuers are the issuers of the policies below.
const policyIssuers = `oidc-issuers:
  https://token.actions.githubusercontent.com: {type: github-workflow}
  https://login.example.com: {type: email}
meta-issuers:
  https://oidc.eks.*.amazonaws.com/id/*: {type: kubernetes}
`

// TestPolicySection reads a policy in both spellings.
func TestPolicySection(t *testing.T) {
	want := policy.Config{
		DryRun: true,
		Rules: []policy.Rule{
			{Name: "only-main", Issuers: []string{"https://token.actions.githubusercontent.com"}, Deny: `claims.ref != "refs/heads/main"`, Message: "sign from the main branch"},
			{Name: "clusters", Issuers: []string{"https://oidc.eks.*.amazonaws.com/id/*", "https://oidc.eks.eu-west-1.amazonaws.com/id/0123"}, Allow: "true"},
		},
		Default:     "deny",
		PerIdentity: limit.Limit{Number: 60, Per: time.Minute},
		PerIssuer:   limit.Limit{Number: 6000, Per: 90 * time.Second},
	}
	for name, text := range map[string]string{
		"YAML": policyIssuers + `policy:
  dry-run: true
  rules:
    - name: only-main
      issuers: [https://token.actions.githubusercontent.com]
      deny: claims.ref != "refs/heads/main"
      message: sign from the main branch
    - name: clusters
      issuers: ["https://oidc.eks.*.amazonaws.com/id/*", https://oidc.eks.eu-west-1.amazonaws.com/id/0123]
      allow: true
  default: deny
  limits:
    per-identity: {certificates: 60, per: 1m}
    per-issuer: {certificates: 6000, per: 90s}
`,
		"capitals": policyIssuers + `Policy: {DryRun: true, Default: deny, Limits: {PerIdentity: {Certificates: 60, Per: 1m}, PerIssuer: {Certificates: 6000, Per: 90s}}, Rules: [
  {Name: only-main, Issuers: ["https://token.actions.githubusercontent.com"], Deny: 'claims.ref != "refs/heads/main"', Message: sign from the main branch},
  {Name: clusters, Issuers: ["https://oidc.eks.*.amazonaws.com/id/*", "https://oidc.eks.eu-west-1.amazonaws.com/id/0123"], Allow: true}]}
`,
		"anchors": "define:\n  - &minute {certificates: 60, per: 1m}\n" + policyIssuers + `policy:
  dry-run: true
  rules:
    - {name: only-main, issuers: [https://token.actions.githubusercontent.com], deny: 'claims.ref != "refs/heads/main"', message: sign from the main branch}
    - {name: clusters, issuers: ["https://oidc.eks.*.amazonaws.com/id/*", https://oidc.eks.eu-west-1.amazonaws.com/id/0123], allow: "true"}
  default: deny
  limits: {per-identity: *minute, per-issuer: {<<: *minute, certificates: 6000, per: 90s}}
`,
	} {
		c, err := loadFile(writeConfig(t, text))
		if err != nil || !reflect.DeepEqual(c.policy, want) {
			t.Errorf("%s: %+v, %v", name, c.policy, err)
		}
	}
	if c, err := loadFile(writeConfig(t, "policy:\n")); err != nil || !c.policy.IsZero() {
		t.Errorf("an empty section: %+v, %v", c.policy, err)
	}
	// The development issuer is one like others, where its URL is known.
	if _, err := loadFile(writeConfig(t, "dev: true\nlisten: localhost:1234\npolicy: {default: deny, rules: [{name: r, issuers: [http://localhost:1234/oidc, http://localhost:1234/oidc/github], allow: true}]}\n")); err != nil {
		t.Error(err)
	}
}

// TestPolicyMistakes: each with its line, and none twice.
func TestPolicyMistakes(t *testing.T) {
	rule := func(text string) string {
		return "policy:\n  default: deny\n  rules:\n    - " + text + "\n"
	}
	at := strings.Count(policyIssuers, "\n")
	for name, test := range map[string]struct {
		text string
		want []string // the line behind policyIssuers, the key, and the beginning of the text
	}{
		"not a mapping":       {"policy: 5\n", []string{"1: policy: is 5; keys with values are required"}},
		"nothing to decide":   {"policy: {dry-run: true}\n", []string{"1: policy: has neither rules nor limits"}},
		"unknown key":         {"policy:\n  rule: []\n  default: deny\n", []string{"2: policy.rule: is not known; rules is near", `3: policy.default: is "deny", but there are no rules`}},
		"dry-run":             {"policy: {dry-run: perhaps, limits: {per-issuer: {certificates: 1, per: 1m}}}\n", []string{"1: policy.dry-run: is perhaps; true or false"}},
		"rules not a list":    {"policy: {rules: {}, default: deny}\n", []string{"1: policy.rules: is a mapping; a list is required", `1: policy.default: is "deny", but`}},
		"a rule of one word":  {rule("deny"), []string{"4: policy.rules: is deny; keys with values are required", "4: policy.rules.1.name: is \"\"", "4: policy.rules.1.allow: is missing, and so is deny"}},
		"unknown key of rule": {rule("{name: r, allow: 'true', mesage: m}"), []string{"4: policy.rules.r.mesage: is not known; message is near"}},
		"no name":             {rule("{allow: 'true'}"), []string{`4: policy.rules.1.name: is ""; a name of`}},
		"unknown issuer":      {rule("{name: r, allow: 'true', issuers:\n      [https://login.example.com,\n      https://login.example.org]}"), []string{"6: policy.rules.r.issuers: https://login.example.org is not an issuer of this configuration; https://login.example.com is near"}},
		"no issuers":          {rule("{name: r, allow: 'true', issuers: []}"), []string{"4: policy.rules.r.issuers: is empty; name an issuer, or leave it away"}},
		"unknown variable":    {rule("{name: r, allow: 'claim.a == 1'}"), []string{"4: policy.rules.r.allow: column 1: undeclared reference to 'claim'"}},
		"type error":          {rule("{name: r, deny: 'identity.san == 1'}"), []string{"4: policy.rules.r.deny: column 14: found no matching overload"}},
		"not a boolean":       {rule("{name: r, deny: identity.san}"), []string{"4: policy.rules.r.deny: column 1: the expression is of the type string"}},
		"too expensive":       {rule("{name: r, deny: 'claims.a.all(x, claims.b.all(y, x.matches(\"^a.*b.*c$\") && y.contains(x)))'}"), []string{"4: policy.rules.r.deny: column 1: the expression may cost"}},
		"the line of a block": {rule("name: r\n      deny: |\n        true &&\n        false ||\n        claim.a == 1"), []string{"8: policy.rules.r.deny: column 1: undeclared"}},
		"two of one block":    {rule("name: r\n      deny: |\n        a == 1 ||\n        b == 1"), []string{"6: policy.rules.r.deny: column 1: undeclared", "7: policy.rules.r.deny: column 1: undeclared"}},
		"a name twice":        {rule("{name: r, allow: 'true'}\n    - {name: r, deny: 'true'}"), []string{`5: policy.rules.r.name: is "r", as that of rule 1; a name stands once`}},
		"neither":             {rule("{name: r}"), []string{"4: policy.rules.r.allow: is missing, and so is deny"}},
		"both":                {rule("{name: r, allow: 'true', deny: 'true'}"), []string{"4: policy.rules.r.deny: is given, and so is allow"}},
		"no default":          {"policy:\n  rules: [{name: r, allow: 'true'}]\n", []string{"1: policy.default: is missing, which decides"}},
		"another default":     {"policy:\n  default: no\n  rules: [{name: r, allow: 'true'}]\n", []string{`2: policy.default: is "no"; deny or allow`}},
		"an empty limit":      {"policy:\n  limits:\n    per-issuer: {}\n", []string{"3: policy.limits.per-issuer: says neither certificates nor per"}},
		"half a limit":        {"policy:\n  limits:\n    per-issuer: {certificates: 1}\n", []string{"3: policy.limits.per-issuer: is per 0s; 1s to 24h0m0s"}},
		"not a number":        {"policy:\n  limits:\n    per-issuer: {certificates: 1.5, per: 1m}\n", []string{"3: policy.limits.per-issuer.certificates: is 1.5; a whole number"}},
		"not a time":          {"policy:\n  limits:\n    per-issuer: {certificates: 1, per: 60}\n", []string{"3: policy.limits.per-issuer.per: is 60; a time with its unit"}},
		"too long":            {"policy:\n  limits:\n    per-identity: {certificates: 1, per: 48h}\n", []string{"3: policy.limits.per-identity: is per 48h0m0s; 1s to 24h0m0s"}},
		"unknown limit":       {"policy:\n  limits:\n    per-user: {certificates: 1, per: 1m}\n", []string{"3: policy.limits.per-user: is not known"}},
	} {
		t.Run(name, func(t *testing.T) {
			file := writeConfig(t, policyIssuers+test.text)
			code, list, _ := command(t, "config", "check", file)
			lines := strings.Split(strings.TrimSuffix(list, "\n"), "\n")
			if code != exitFindings || len(lines) != len(test.want) {
				t.Fatalf("exit code %d, %s; want %q", code, list, test.want)
			}
			for i, want := range test.want {
				line, rest, _ := strings.Cut(want, ": ")
				var n int
				if _, err := fmt.Sscan(line, &n); err != nil {
					t.Fatal(err)
				}
				if want := fmt.Sprintf("%s:%d: %s", file, at+n, rest); !strings.HasPrefix(lines[i], want) {
					t.Errorf("%s\nwant %s", lines[i], want)
				}
			}
		})
	}
}

// TestPolicyTest runs "sigstack policy test" over cases of every kind.
func TestPolicyTest(t *testing.T) {
	config := writeConfig(t, policyIssuers+`policy:
  dry-run: true
  rules:
    - name: freeze
      deny: now > timestamp("2026-12-24T00:00:00Z")
      message: nothing is released over the holidays
    - name: people
      issuers: [https://login.example.com]
      allow: identity.email.endsWith("@example.com")
    - name: teams
      issuers: [https://login.example.com]
      allow: '"release" in claims.groups'
  default: deny
  limits:
    per-identity: {certificates: 1, per: 24h}
`)
	write := func(text string) string {
		t.Helper()
		name := filepath.Join(t.TempDir(), "cases.yaml")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	// {"iss":"https://login.example.com","sub":"1","email":"dev@example.com","email_verified":true}, expired and not signed by anybody.
	const recorded = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJodHRwczovL2xvZ2luLmV4YW1wbGUuY29tIiwic3ViIjoiMSIsImVtYWlsIjoiZGV2QGV4YW1wbGUuY29tIiwiZW1haWxfdmVyaWZpZWQiOnRydWV9.AA"
	for name, test := range map[string]struct {
		cases string
		code  int
		want  string
	}{
		"as expected": {`define:
  - &dev {iss: https://login.example.com, sub: "1", email: dev@example.com, email_verified: true}
cases:
  - {name: claims, claims: *dev, now: 2026-03-04T05:06:07Z, expect: allow, rule: people}
  - {name: a token, token: ` + recorded + `, now: 2026-03-04T05:06:07Z, expect: allow}
  - name: a holiday
    claims: *dev
    now: 2026-12-25T00:00:00Z
    expect: deny
    rule: freeze
    message: nothing is released over the holidays
  - {name: again, claims: *dev, now: 2026-03-04T05:06:07Z, expect: allow}
  - name: a claim is missing
    claims: {<<: *dev, email: dev@example.org, n: [1, 2.5, true, null, {a: 9007199254740993}], t: 2026-01-01}
    now: 2026-03-04T05:06:07Z
    expect: deny
    rule: teams
    message: the claim "groups" is missing
`, exitOK, `ok    claims: allow by people
ok    a token: allow by people
ok    a holiday: deny by freeze (nothing is released over the holidays)
ok    again: allow by people
ok    a claim is missing: deny by teams (the claim "groups" is missing)
5 cases, 0 not as expected
`},
		"otherwise": {`{"cases": [
 {"name": "outcome", "token": "` + recorded + `", "now": "2026-03-04T05:06:07Z", "expect": "deny"},
 {"name": "rule", "token": "` + recorded + `", "now": "2026-03-04T05:06:07Z", "expect": "allow", "rule": "teams"},
 {"name": "message", "token": "` + recorded + `", "now": "2026-12-25T05:06:07Z", "expect": "deny", "rule": "freeze", "message": "no"},
 {"name": "issuer", "claims": {"iss": "https://other.example.com", "sub": "1"}, "expect": "deny"}]}
`, exitFindings, `FAIL  outcome: allow by people; want deny
FAIL  rule: allow by people; want allow by teams
FAIL  message: deny by freeze (nothing is released over the holidays); want deny by freeze (no)
FAIL  issuer: refused before the policy is asked: There was an error processing the identity token: the issuer "https://other.example.com" is not configured; want deny
4 cases, 4 not as expected
`},
		"no cases":           {"cases: []\n", exitError, "cases.yaml:1: there are no cases"},
		"unknown key":        {"case: []\n", exitError, "cases.yaml:1: case: is not known; cases is near"},
		"not YAML":           {"{", exitError, "cannot be read as YAML or JSON"},
		"nothing":            {"cases:\n  -\n", exitError, "cases.yaml:2: cases.1: name is missing"},
		"no keys":            {"cases:\n  - {}\n", exitError, "cases.yaml:2: cases.1: name is missing"},
		"no name":            {"cases:\n  - {token: a, expect: deny}\n", exitError, "cases.yaml:2: cases.1: name is missing"},
		"a name twice":       {"cases:\n  - {name: n, token: a, expect: deny}\n  - {name: n, token: a, expect: deny}\n", exitError, "cases.yaml:3: cases.2: its name is that of the case in line 2"},
		"token and claims":   {"cases:\n  - {name: n, token: a, claims: {}, expect: deny}\n", exitError, "cases.yaml:2: cases.1: a case has either a token or claims"},
		"neither":            {"cases:\n  - {name: n, expect: deny}\n", exitError, "cases.yaml:2: cases.1: a case has either a token or claims"},
		"nothing expected":   {"cases:\n  - {name: n, token: a}\n", exitError, `cases.yaml:2: cases.1: expect is ""; allow or deny is required`},
		"claims of one word": {"cases:\n  - {name: n, claims: all, expect: deny}\n", exitError, "cases.yaml:2: cases.1.claims: is all; claims with their values are required"},
		"a claim twice":      {"cases:\n  - {name: n, expect: deny, claims: {a: 1,\n      a: 2}}\n", exitError, "cases.yaml:3: cases.1.claims.a: stands in line 2 already"},
		"no number of JSON":  {"cases:\n  - {name: n, claims: {a: .inf}, expect: deny}\n", exitError, "cases.yaml:2: cases.1.claims: is .inf, which is no number in JSON"},
		"binary":             {"cases:\n  - {name: n, claims: {a: !!binary AA==}, expect: deny}\n", exitError, "cases.yaml:2: cases.1.claims: is binary; what JSON has is required"},
		"no time":            {"cases:\n  - {name: n, token: a, now: yesterday, expect: deny}\n", exitError, "cases.yaml:2: cases.1.now: is yesterday; a time such as"},
		"a large claim":      {"cases:\n  - {name: n, claims: {a: [" + strings.Repeat("a, ", 30_000) + "]}, expect: deny}\n", exitError, "has more than 65536 bytes or 100 levels"},
		"a deep claim":       {"cases:\n  - {name: n, claims: {a: " + strings.Repeat("[", 200) + strings.Repeat("]", 200) + "}, expect: deny}\n", exitError, "has more than 65536 bytes or 100 levels"},
		"a large file":       {strings.Repeat("#\n", maxConfig), exitError, "the file has more than 1048576 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := command(t, "policy", "test", "--config", config, write(test.cases))
			got := stdout
			if test.code == exitError {
				got = stderr
			}
			if code != test.code || test.code != exitError && got != test.want || !strings.Contains(got, test.want) {
				t.Errorf("exit code %d, %.2000s; want %d, %s", code, stdout+stderr, test.code, test.want)
			}
		})
	}

	cases := write("cases: [{name: n, token: a, expect: deny}]\n")
	if code, _, stderr := command(t, "policy", "test", cases); code != exitError || !strings.Contains(stderr, `"config" not set`) {
		t.Errorf("no configuration: exit code %d, %s", code, stderr)
	}
	if code, _, stderr := command(t, "policy", "test", "--config", writeConfig(t, policyIssuers), cases); code != exitError || !strings.Contains(stderr, "has no policy.rules") {
		t.Errorf("no policy: exit code %d, %s", code, stderr)
	}
	if code, _, stderr := command(t, "policy", "test", "--config", writeConfig(t, "policy: 1\n"), cases); code != exitError || !strings.Contains(stderr, "policy: is 1") {
		t.Errorf("a bad configuration: exit code %d, %s", code, stderr)
	}
	if code, _, stderr := command(t, "policy", "test", "--config", config, "none.yaml"); code != exitError || !strings.Contains(stderr, "no such file") {
		t.Errorf("no cases: exit code %d, %s", code, stderr)
	}
}
