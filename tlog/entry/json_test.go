package entry

import (
	"encoding/json"
	"testing"
)

// walk reads a value with this package's reader into the form that
// encoding/json decodes to. It fails on half surrogate pairs and nothing else.
func walk(v value) (any, error) {
	switch {
	case v == nil:
		return nil, nil
	case v.isObject():
		m := map[string]any{}
		err := v.eachMember(func(name []byte, v value) error {
			x, err := walk(v)
			m[string(name)] = x
			return err
		})
		return m, err
	case v.isArray():
		a := []any{}
		err := v.eachElement(func(v value) error {
			x, err := walk(v)
			a = append(a, x)
			return err
		})
		return a, err
	case v.isString():
		return v.text()
	}
	var x any
	err := json.Unmarshal(v, &x)
	return x, err
}

func TestMembers(t *testing.T) {
	for _, c := range []struct {
		in   string
		want string // values of a, bc
		err  string
	}{
		{`{"a":1,"bc":2}`, "1 2", ""},
		{`{"bc":null,"x":5,"a":"q"}`, `"q" `, ""},
		{`{"\u0061":{"a":1}}`, `{"a":1} `, ""},
		{`{"a":1,"a":1}`, "", `member "a" is there twice`},
		{`{"a":1,"\u0061":1}`, "", `member "a" is there twice`},
		{`{"a":null,"a":1}`, "", `member "a" is there twice`},
		{`{"A":1}`, "", `member "A" must be spelled "a"`},
		{`{"Bc":1}`, "", `member "Bc" must be spelled "bc"`},
		{`{"x":1,"x":2,"X":3}`, " ", ""},
		{`{"\ud800":1}`, "", "string holds half a surrogate pair"},
		{`[]`, "", "want an object"},
		{`5`, "", "want an object"},
	} {
		m, err := trimmed([]byte(c.in)).members("a", "bc")
		if c.err != "" {
			if err == nil || err.Error() != c.err {
				t.Errorf("%s: error %v, want %s", c.in, err, c.err)
			}
		} else if got := string(m[0]) + " " + string(m[1]); err != nil || got != c.want {
			t.Errorf("%s: %q %v, want %q", c.in, got, err, c.want)
		}
	}
}

func TestBase64IsStrict(t *testing.T) {
	for in, ok := range map[string]bool{
		`"aGk="`: true, `""`: true, `"aG\u006b="`: true, `"\/\/8="`: true,
		`"aGk"`: false, `"aGl="`: false, `"aGk=\n"`: false, `"aG\nk="`: false, `" aGk="`: false, `"_-8="`: false, `5`: false, `{}`: false,
	} {
		if _, err := value(in).base64(); (err == nil) != ok {
			t.Errorf("%s: %v", in, err)
		}
	}
}
