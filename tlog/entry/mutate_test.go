package entry

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// checkVerdict runs Propose and holds it to what it promises for every input.
func checkVerdict(t *testing.T, what string, input []byte) error {
	t.Helper()
	e, err := Propose(input)
	var schema *SchemaError
	switch {
	case err == nil:
		if _, err := Keys(e.Body); err != nil {
			t.Fatalf("%s: accepted, but its body has no keys: %v\n%s", what, err, input)
		}
	case errors.As(err, &schema) == errors.Is(err, ErrInvalid):
		t.Fatalf("%s: error %T %v is of no class, or of two", what, err, err)
	case strings.ContainsAny(err.Error(), "\n\r"):
		t.Fatalf("%s: error of more than one line: %q", what, err)
	case len(err.Error()) > 1000:
		t.Fatalf("%s: error of %d bytes", what, len(err.Error()))
	}
	return err
}

// A place is where a value is in a document: member names and indexes.
type place []any

func eachPlace(v any, at place, f func(place, any)) {
	f(at, v)
	switch v := v.(type) {
	case map[string]any:
		names := make([]string, 0, len(v))
		for name := range v {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			eachPlace(v[name], append(slices.Clone(at), name), f)
		}
	case []any:
		for i := range v {
			eachPlace(v[i], append(slices.Clone(at), i), f)
		}
	}
}

// rewrite renders doc with the member or element at place written by write,
// which gets the member's name in quotes and colon (or nothing for an element)
// and its value.
func rewrite(doc any, at place, write func(name, val string) string) string {
	text := func(v any) string { b, _ := json.Marshal(v); return string(b) }
	if len(at) == 0 {
		return write("", text(doc))
	}
	var parts []string
	switch doc := doc.(type) {
	case map[string]any:
		names := make([]string, 0, len(doc))
		for name := range doc {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			switch {
			case name != at[0]:
				parts = append(parts, text(name)+":"+text(doc[name]))
			case len(at) == 1:
				parts = append(parts, write(text(name)+":", text(doc[name])))
			default:
				parts = append(parts, text(name)+":"+rewrite(doc[name], at[1:], write))
			}
		}
		return "{" + strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), ",") + "}"
	case []any:
		for i := range doc {
			switch {
			case i != at[0]:
				parts = append(parts, text(doc[i]))
			case len(at) == 1:
				parts = append(parts, write("", text(doc[i])))
			default:
				parts = append(parts, rewrite(doc[i], at[1:], write))
			}
		}
		return "[" + strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), ",") + "]"
	}
	panic("no such place")
}

func upperName(name string) string { return strings.ToUpper(name) }

// Each field of each valid vector is deleted, nulled, retyped, duplicated,
// renamed by case and nested. Where a change must not pass, it does not.
func TestFieldMutation(t *testing.T) {
	cases := 0
	for _, v := range vectors(t) {
		if !v.accepted() {
			continue
		}
		docs := []struct {
			name string
			doc  any
			wrap func(string) string
		}{{v.Name, parseJSON(t, v.Request), func(s string) string { return s }}}
		if in := map[string]string{"dsse": "proposedContent", "intoto-001": "content"}[kindOf(v)]; in != "" {
			// The envelope is a document inside the document.
			outer := parseJSON(t, v.Request)
			content := outer.(map[string]any)["spec"].(map[string]any)[in].(map[string]any)
			docs = append(docs, struct {
				name string
				doc  any
				wrap func(string) string
			}{v.Name + " envelope", parseJSON(t, []byte(content["envelope"].(string))), func(s string) string {
				content["envelope"] = s
				out, _ := json.Marshal(outer)
				return string(out)
			}})
		}
		for _, d := range docs {
			eachPlace(d.doc, nil, func(at place, old any) {
				mutate := func(how string, mustFail bool, write func(name, val string) string) {
					cases++
					what := fmt.Sprintf("%s %v %s", d.name, at, how)
					in := d.wrap(rewrite(d.doc, at, write))
					if err := checkVerdict(t, what, []byte(in)); err == nil && mustFail {
						t.Errorf("%s: accepted\n%s", what, in)
					}
				}
				for _, other := range []string{"null", "true", "5", "1e400", `""`, `"x"`, "{}", "[]", `"\ud800"`} {
					mutate("= "+other, false, func(name, _ string) string { return name + other })
				}
				mutate("deleted", false, func(_, _ string) string { return "" })
				mutate("in an array", false, func(name, val string) string { return name + "[" + val + "]" })
				mutate("in an object", false, func(name, val string) string { return name + `{"x":` + val + "}" })
				mutate("cut", true, func(name, val string) string { return name + val[:len(val)-1] })
				if len(at) > 0 {
					if member, ok := at[len(at)-1].(string); ok {
						mutate("twice", true, func(name, val string) string { return name + val + "," + name + val })
						mutate("twice, first null", true, func(name, val string) string { return name + "null," + name + val })
						mutate("and in capitals", true, func(name, val string) string { return name + val + "," + upperName(name) + val })
						mutate("in capitals only", upperName(member) != member, func(name, val string) string { return upperName(name) + val })
					}
				}
				if s, ok := old.(string); ok {
					mutateText(s, func(how, text string) {
						mutate(how, false, func(name, _ string) string { b, _ := json.Marshal(text); return name + string(b) })
					})
				}
			})
		}
	}
	if cases < 5000 {
		t.Errorf("%d cases, want at least 5000", cases)
	}
}

// kindOf is the kind of a vector, and the version where its name says so.
func kindOf(v vector) string {
	if kind, _, _ := strings.Cut(v.Name, "-"); kind != "intoto" {
		return kind
	}
	return v.Name
}

// mutateText damages a string and, if it is base64, what it encodes.
func mutateText(s string, f func(how, text string)) {
	r := rand.New(rand.NewPCG(1, uint64(len(s))))
	damage := func(how string, b []byte, f func(string, []byte)) {
		if len(b) == 0 {
			return
		}
		for i := range 12 {
			n := r.IntN(len(b))
			c := slices.Clone(b)
			switch i % 4 {
			case 0:
				c[n] ^= 1 << r.IntN(7)
			case 1:
				c = c[:n]
			case 2:
				c = slices.Delete(c, n, n+1)
			case 3:
				c = slices.Insert(c, n, c[n])
			}
			f(fmt.Sprintf("%s %d", how, i), c)
		}
	}
	damage("damaged", []byte(s), func(how string, b []byte) { f(how, string(b)) })
	raw, err := base64.StdEncoding.DecodeString(s)
	if err != nil || len(raw) == 0 {
		return
	}
	encode := func(how string, b []byte) { f(how, base64.StdEncoding.EncodeToString(b)) }
	damage("damaged inside", raw, encode)
	encode("twice inside", append(slices.Clone(raw), raw...))
	encode("text before", append([]byte("hello\n"), raw...))
	encode("text after", append(slices.Clone(raw), "\nhello"...))
}

func parseJSON(t *testing.T, b []byte) any {
	t.Helper()
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// Cut at each byte: a prefix of a request is never accepted.
func TestTruncated(t *testing.T) {
	for _, name := range []string{"hashedrekord-p256", "rekord-ssh", "dsse-p256", "intoto-001", "intoto-002", "cose-es256-aad", "rfc3161-ec", "jar-ec", "tuf-timestamp"} {
		v := vectorNamed(t, name)
		for i := range v.Request {
			if checkVerdict(t, name, v.Request[:i]) == nil {
				t.Fatalf("%s: accepted when cut after %d bytes", name, i)
			}
		}
		for _, after := range []string{"{}", "x", "\x00", ",", "]", string(v.Request)} {
			if checkVerdict(t, name, append(slices.Clone(v.Request), after...)) == nil {
				t.Errorf("%s: accepted with %.10q after it", name, after)
			}
		}
		if err := checkVerdict(t, name, append(slices.Clone(v.Request), " \r\n\t"...)); err != nil {
			t.Errorf("%s: refused for white space after it: %v", name, err)
		}
	}
}
