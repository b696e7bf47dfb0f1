package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/sigstack/sigstack/ca/identity"
	"github.com/sigstack/sigstack/ca/policy"
)

func policyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "policy",
		Short: "Try an admission policy",
	}
	cmd.AddCommand(policyTestCommand())
	return cmd
}

func policyTestCommand() *cobra.Command {
	var config string
	cmd := &cobra.Command{
		Use:   "test --config FILE TESTS",
		Short: "Ask the policy of a configuration about recorded tokens",
		Long: `test asks the rules of a configuration file what they would decide about the
tokens or claims of another file, and compares that with what is expected:

  cases:
    - name: a release
      claims: {iss: https://login.example.com, sub: "1", email: dev@example.com, email_verified: true}
      expect: allow
      rule: ours              # optional: which rule decides
    - name: a branch
      token: eyJhbGciOi...    # a recorded token
      now: 2026-11-21T12:00:00Z
      expect: deny
      message: sign from the main branch

It opens no connection. The signature of a recorded token, its audience and its
times are not looked at: its issuer may have other keys by now. Limits are not
asked, and dry-run counts for nothing: the answer is what the rules say.

It prints one line for each case, and exits with 0 when all are as expected, with
1 when one is not, and with 2 when a file has a mistake.`,
		Example: "  sigstack policy test --config sigstack.yaml policy-tests.yaml",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := loadFile(config)
			if err != nil {
				return err
			}
			cases, err := openCases(args[0])
			if err != nil {
				return err
			}
			return c.tryPolicy(cmd.Context(), cases, cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVar(&config, "config", "", "configuration file with the policy (required)")
	_ = cmd.MarkFlagRequired("config") // it fails for flags that do not exist
	return cmd
}

// A policyCase is one question and the answer that is expected.
type policyCase struct {
	name    string
	token   string    // or
	claims  []byte    // one JSON object
	now     time.Time // zero for the present
	expect  policy.Outcome
	rule    string // "" for any
	message string // "" for any
}

// openCases reads a file of cases.
func openCases(name string) ([]policyCase, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("reading the cases: %w", err)
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxConfig+1))
	if err != nil {
		return nil, fmt.Errorf("reading the cases: %w", err)
	}
	return parseCases(name, data)
}

// parseCases decodes a file of cases, YAML or JSON. The error says every mistake
// with its line, as for a configuration.
func parseCases(name string, data []byte) (cases []policyCase, err error) {
	f := &configFile{name: name, wrong: map[string]bool{}, expanding: map[*yaml.Node]bool{}}
	if len(data) > maxConfig {
		f.mistake(place{}, "the file has more than %d bytes; split it", maxConfig)
		return nil, f.err()
	}
	root, err := parseTree(data)
	if err != nil {
		f.syntax(data, err)
		return nil, f.err()
	}
	lines := map[string]int{} // of cases, by their names
	f.fields(place{}, f.mapping(place{line: root.Line}, root), []field{
		{"cases", func(at place, n *yaml.Node) {
			for i, n := range f.list(at, n) {
				at := at.in(strconv.Itoa(i+1), n.Line)
				c := f.policyCase(at, n)
				if line := lines[c.name]; line > 0 && c.name != "" {
					f.mistake(at, "its name is that of the case in line %d; a name stands once", line)
				}
				lines[c.name] = n.Line
				cases = append(cases, c)
			}
		}},
		{"define", func(place, *yaml.Node) {}}, // a place for anchors
	})
	if len(cases) == 0 && len(f.mistakes) == 0 {
		f.mistake(place{line: root.Line}, "there are no cases; write them as a list below cases:")
	}
	return cases, f.err()
}

// policyCase decodes one case.
func (f *configFile) policyCase(at place, n *yaml.Node) (c policyCase) {
	var expect string
	text := func(to *string) func(place, *yaml.Node) {
		return func(at place, n *yaml.Node) { *to = f.text(at, n) }
	}
	f.fields(at, f.mapping(at, n), []field{
		{"name", text(&c.name)},
		{"token", text(&c.token)},
		{"claims", func(at place, n *yaml.Node) {
			if expanded(n).Kind != yaml.MappingNode {
				f.mistake(at, "is %s; claims with their values are required", kind(expanded(n)))
				return
			}
			var b bytes.Buffer
			f.writeJSON(at, n, &b, 1)
			c.claims = b.Bytes()
		}},
		{"now", func(at place, n *yaml.Node) {
			written := f.text(at, n)
			var err error
			if c.now, err = time.Parse(time.RFC3339, written); err != nil {
				f.mistake(at, "is %s; a time such as 2026-11-21T12:00:00Z is required", shown(written))
			}
		}},
		{"expect", text(&expect)},
		{"rule", text(&c.rule)},
		{"message", text(&c.message)},
	})
	switch {
	case f.wrong[at.key]:
		return c // no case at all, which has been noted
	case c.name == "":
		f.mistake(at, "name is missing, which says what the case is about")
	case (c.token == "") == (c.claims == nil):
		f.mistake(at, "a case has either a token or claims")
	case expect != policy.DefaultAllow && expect != policy.DefaultDeny:
		f.mistake(at, "expect is %s; allow or deny is required", shown(expect))
	}
	c.expect = policy.Outcome(expect)
	return c
}

// Bounds of the claims of a case, anchors expanded. A token has less of both.
const (
	maxCaseClaims = 64 << 10 // bytes
	maxCaseDepth  = 100
)

// writeJSON writes a value as JSON: claims are what a token has.
func (f *configFile) writeJSON(at place, n *yaml.Node, b *bytes.Buffer, depth int) {
	n = expanded(n)
	if b.Len() > maxCaseClaims || depth > maxCaseDepth {
		if !f.wrong[at.key] {
			f.mistake(at, "has more than %d bytes or %d levels; the claims of a token have less", maxCaseClaims, maxCaseDepth)
		}
		return
	}
	switch n.Kind {
	case yaml.MappingNode:
		b.WriteByte('{')
		for i, m := range f.mapping(at, n) {
			if i > 0 {
				b.WriteByte(',')
			}
			writeJSONText(b, m.key)
			b.WriteByte(':')
			f.writeJSON(place{m.line, at.key}, m.value, b, depth+1)
		}
		b.WriteByte('}')
		return
	case yaml.SequenceNode:
		b.WriteByte('[')
		for i, n := range f.list(at, n) {
			if i > 0 {
				b.WriteByte(',')
			}
			f.writeJSON(place{n.Line, at.key}, n, b, depth+1)
		}
		b.WriteByte(']')
		return
	}
	switch n.ShortTag() {
	case nullTag:
		b.WriteString("null")
	case boolTag:
		var truth bool
		if err := n.Decode(&truth); err != nil {
			f.mistake(at, "is %s; true or false is required", kind(n))
		}
		b.WriteString(strconv.FormatBool(truth))
	case intTag, floatTag:
		if !json.Valid([]byte(n.Value)) { // 0x10, .inf and others that a token cannot have
			f.mistake(at, "is %s, which is no number in JSON; write it with decimal digits", kind(n))
			return
		}
		b.WriteString(n.Value)
	case textTag, timeTag:
		writeJSONText(b, n.Value)
	default:
		f.mistake(at, "is %s; what JSON has is required", kind(n))
	}
}

func writeJSONText(b *bytes.Buffer, s string) {
	text, err := json.Marshal(s)
	if err != nil { // cannot be: a string
		text = []byte(`""`)
	}
	b.Write(text)
}

// tryPolicy asks the rules about each case and prints how that went.
func (c *Config) tryPolicy(ctx context.Context, cases []policyCase, w io.Writer) error {
	if len(c.policy.Rules) == 0 {
		return errors.New("the configuration has no policy.rules; there is nothing to test")
	}
	rules, err := policy.New(c.policy, policy.Options{})
	if err != nil {
		return err
	}
	issuers, err := identity.NewVerifier(identity.Config{Issuers: append(c.issuers[:len(c.issuers):len(c.issuers)], c.devIssuers()...)}, identity.Options{})
	if err != nil {
		return err
	}
	differ := 0
	for _, one := range cases {
		got, want, err := one.try(ctx, issuers, rules)
		if err != nil {
			return err
		}
		line := fmt.Sprintf("ok    %s: %s", one.name, got)
		if want != "" {
			differ++
			line = fmt.Sprintf("FAIL  %s: %s; want %s", one.name, got, want)
		}
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	if _, err := fmt.Fprintf(w, "%d cases, %d not as expected\n", len(cases), differ); err != nil {
		return err
	}
	if differ > 0 {
		return errFindings
	}
	return nil
}

// try returns what came out and, if that is not what was expected, what was. The
// error is that of ctx.
func (one policyCase) try(ctx context.Context, issuers *identity.Verifier, rules *policy.Policy) (got, want string, err error) {
	expected := describe(one.expect, one.rule, one.message)
	claimed, err := issuers.Claimed(one.token)
	if one.claims != nil {
		claimed, err = issuers.ClaimedBy(one.claims)
	}
	if err != nil {
		return "refused before the policy is asked: " + err.Error(), expected, nil
	}
	now := one.now
	if now.IsZero() {
		now = time.Now()
	}
	d, err := rules.Decide(ctx, claimed, now)
	if err != nil {
		return "", "", err
	}
	outcome := d.Outcome
	if outcome == policy.Failed { // which denies
		outcome = policy.Denied
	}
	got = describe(outcome, d.Rule, d.Message)
	if outcome != one.expect || one.rule != "" && one.rule != d.Rule || one.message != "" && one.message != d.Message {
		return got, expected, nil
	}
	return got, "", nil
}

// describe says on one line what is decided, and by which rule.
func describe(o policy.Outcome, rule, message string) string {
	text := string(o)
	if rule != "" {
		text += " by " + rule
	}
	if message != "" {
		text += fmt.Sprintf(" (%s)", message)
	}
	return cmp.Or(text, "nothing")
}
