package policy

import (
	"context"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"cel.dev/cel-go/common/types"

	"github.com/sigstack/sigstack/test/fuzz"
)

// Claims of any shape: what is accepted is what encoding/json reads, but for what it cannot keep,
// and rules over it cost no more than they may.
func FuzzClaims(f *testing.F) {
	p := compile(f, Config{
		Rules: []Rule{
			{Name: "one", Deny: `claims.ref != "refs/heads/main" && !claims.ref.matches("^refs/tags/v[0-9]+$")`},
			{Name: "two", Deny: `claims.groups.exists(g, g == "evil" || g.startsWith("x"))`},
			{Name: "three", Allow: `claims == claims && claims.all(k, claims[k] == claims[k])`},
		},
		Default: DefaultDeny,
	})
	seeds := fuzz.Seeds(payload(f, githubClaims()).Claims(), payload(f, loginClaims("ref", "refs/heads/main")).Claims(),
		[]byte(`{"ref":"refs/heads/main","groups":[],"n":[18446744073709551615,18446744073709551616,-1,1.5e300,1e999,null,true,"\ud800"],"o":{"a":{"b":null}}}`))
	// An expression may copy what it reads.
	allow := func(in []byte) int { return 40*len(in) + 8<<20 }
	parse := func(in []byte) (map[string]any, error) {
		claims, err := decodeClaims(in)
		if len(in) > 12<<10 { // the verifier takes no longer ones
			return claims, err
		}
		if _, err := p.Decide(context.Background(), raw(in), t0); err != nil {
			return nil, err
		}
		return claims, err
	}
	fuzz.RunWith(f, fuzz.Options{Allow: allow}, seeds, parse, func(t *testing.T, in []byte, claims map[string]any, err error) {
		if err != nil {
			if strings.Contains(err.Error(), "\n") || len(err.Error()) > 500 {
				t.Fatal(err)
			}
			return
		}
		d := json.NewDecoder(strings.NewReader(string(in)))
		d.UseNumber()
		var other map[string]any
		if err := d.Decode(&other); err != nil {
			t.Fatalf("encoding/json: %v", err)
		}
		compare(t, claims, other)
	})
}

// compare holds values for CEL against those of encoding/json.
func compare(t *testing.T, got, want any) {
	t.Helper()
	if _, failed := got.(*types.Err); failed {
		switch w := want.(type) {
		case json.Number:
			return
		case string:
			if strings.ContainsRune(w, utf8.RuneError) {
				return
			}
		}
		t.Fatalf("%v does not need to fail", want)
	}
	switch w := want.(type) {
	case map[string]any:
		members := got.(map[string]any)
		null := 0
		for name, value := range w {
			if value == nil {
				null++
				continue
			}
			compare(t, members[name], value)
		}
		if len(members)+null != len(w) {
			t.Fatalf("%v, want %v", got, want)
		}
	case []any:
		list := got.([]any)
		if len(list) != len(w) {
			t.Fatalf("%v, want %v", got, want)
		}
		for i := range w {
			compare(t, list[i], w[i])
		}
	case json.Number:
		if text, err := json.Marshal(got); err != nil || !strings.ContainsAny(w.String(), ".eE") && string(text) != w.String() && w.String() != "-0" {
			t.Fatalf("%s, want %s (%v)", text, w, err)
		}
	default:
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("%v, want %v", got, want)
		}
	}
}

// An expression of any text: what is accepted can be evaluated, and gives a decision.
func FuzzExpression(f *testing.F) {
	env, err := newEnvironment()
	if err != nil {
		f.Fatal(err)
	}
	seeds := fuzz.Seeds(
		`claims.ref != "refs/heads/main" && !claims.ref.matches("^refs/tags/v[0-9]+$")`,
		`identity.email.endsWith("@example.com") && has(claims.groups) && "release" in claims.groups`,
		`extensions["source-repository-owner-uri"] == "https://github.com/acme" || claims["kubernetes.io"].namespace == 'prod'`,
		"now - timestamp(claims.auth_time) < duration('1h') ? claims.groups.exists_one(g, g in ['a', 'b']) : int(claims.run_attempt) > 1",
	)
	// The expression is the operator's own and compiled once; what CEL makes of it is its own.
	allow := func(in []byte) int { return 64 << 20 }
	type result struct {
		x     expression
		wrong Mistakes
	}
	parse := func(in []byte) (result, error) {
		x, wrong := env.compile(string(in))
		return result{x, wrong}, nil
	}
	fuzz.RunWith(f, fuzz.Options{Allow: allow, Slow: true}, seeds, parse, func(t *testing.T, in []byte, r result, _ error) {
		for _, m := range r.wrong {
			if m.Text == "" || strings.Contains(m.Text, "\n") || m.Line < 0 || m.Column < 0 {
				t.Fatalf("%+v", m)
			}
		}
		if len(r.wrong) > 0 {
			return
		}
		claims, err := decodeClaims(payload(t, loginClaims("ref", "refs/heads/main", "run_attempt", "2")).Claims())
		if err != nil {
			t.Fatal(err)
		}
		_, cost, err := r.x.eval(context.Background(), &variables{Claimant: raw("{}"), claims: claims, now: t0})
		if err == nil && cost > maxCost || err != nil && strings.Contains(err.Error(), "internal error") {
			t.Fatalf("cost %d, %v", cost, err)
		}
	})
}
