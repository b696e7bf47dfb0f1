package badinput

import (
	"encoding/json"
	"strings"
	"testing"
)

// policy sends tokens whose claims are hostile to the rules that are asked about them: too much
// work, too deep, not to be read in one way. Each is denied, or admitted, and nothing else.
func (s *suite) policy(t *testing.T) {
	ones := json.RawMessage("[" + strings.Repeat("1,", 3000) + "1]")
	for name, c := range map[string]struct {
		claims object
		status int
		text   string // of the refusal
	}{
		"no rule":                  {object{"list": ones}, 200, ""},
		"a rule":                   {object{"hostile": "denied"}, 403, `denied by the policy, rule \"hostile\": not for you`},
		"not met":                  {object{"hostile": "x", "list": array{1, 2}}, 200, ""},
		"a claim is missing":       {object{"hostile": "x"}, 403, `rule \"hostile\": the claim \"list\" is missing`},
		"a claim of another type":  {object{"hostile": "x", "list": "x"}, 403, `rule \"hostile\": `},
		"too much work":            {object{"hostile": "x", "list": ones}, 403, `rule \"hostile\": the expression costs more than 250000 for these claims`},
		"too deep":                 {object{"x": json.RawMessage(strings.Repeat("[", 40) + strings.Repeat("]", 40))}, 403, "the claims are nested deeper than 32 levels"},
		"very deep":                {object{"x": json.RawMessage(strings.Repeat("[", 4000) + strings.Repeat("]", 4000))}, 403, "the claims are nested deeper than 32 levels"},
		"twice in an object":       {object{"x": json.RawMessage(`[{"a":1,"a":2}]`)}, 403, `the claims have the member \"a\" twice in one object`},
		"a huge number, used":      {object{"hostile": json.RawMessage("1e999")}, 403, `rule \"hostile\": a claim is a number that is too large`},
		"a huge number":            {object{"x": json.RawMessage("1e999")}, 200, ""},
		"half a surrogate, used":   {object{"hostile": json.RawMessage(`"\ud800"`), "list": array{}}, 403, `rule \"hostile\"`},
		"half a surrogate":         {object{"x": json.RawMessage(`"\ud800"`)}, 200, ""},
		"strange text":             {object{"hostile": "denied\u0000", "list": array{1, "\u202e\u0000\U0010ffff"}}, 200, ""},
		"a line in a name":         {object{"x": json.RawMessage(`{"a\nb":1,"a\nb":2}`)}, 403, "twice in one object"},
		"the variable's own claim": {object{"identity": object{"san": "denied"}, "claims": object{"hostile": "denied"}}, 200, ""},
	} {
		for _, path := range []string{pathV2, pathV1} {
			r := s.askFor(s.sign(nil, s.claims(c.claims)))
			if path == pathV1 {
				r = postJSON(pathV1, marshal(s.oldRequest())).with("Authorization", "Bearer "+s.sign(nil, s.claims(c.claims)))
			}
			want := c.status
			if want == 200 && path == pathV1 {
				want = 201
			}
			if a := s.send(r); a.status != want || !strings.Contains(string(a.body), c.text) {
				s.fault("%s: %s: %d %.300s; want %d and %s", path, name, a.status, a.body, want, c.text)
			}
		}
	}
}
