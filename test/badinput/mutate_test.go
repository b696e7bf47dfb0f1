package badinput

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode"
)

// A node is one JSON value whose members keep their order and may be there
// twice.
type node struct {
	kind    byte // '{', '[', or 0 for a value that is in raw
	members []member
	elems   []*node
	raw     string
}

type member struct {
	name  string // as text of a JSON string, with its quotes
	value *node
}

// parseJSON reads a document.
func parseJSON(data []byte) *node {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	n := parseNode(d)
	if _, err := d.Token(); err != io.EOF {
		panic("something follows the document")
	}
	return n
}

func parseNode(d *json.Decoder) *node {
	switch t := must(d.Token()).(type) {
	case json.Delim:
		n := &node{kind: byte(t)}
		for d.More() {
			if t == '{' {
				name := string(marshalPlain(must(d.Token())))
				n.members = append(n.members, member{name, parseNode(d)})
			} else {
				n.elems = append(n.elems, parseNode(d))
			}
		}
		must(d.Token())
		return n
	default:
		return &node{raw: string(marshalPlain(t))}
	}
}

// marshalPlain is json.Marshal without the escapes for HTML.
func marshalPlain(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

func (n *node) write(b *bytes.Buffer) {
	switch n.kind {
	case '{':
		b.WriteByte('{')
		for i, m := range n.members {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(m.name)
			b.WriteByte(':')
			m.value.write(b)
		}
		b.WriteByte('}')
	case '[':
		b.WriteByte('[')
		for i, e := range n.elems {
			if i > 0 {
				b.WriteByte(',')
			}
			e.write(b)
		}
		b.WriteByte(']')
	default:
		b.WriteString(n.raw)
	}
}

func (n *node) bytes() []byte {
	var b bytes.Buffer
	n.write(&b)
	return b.Bytes()
}

// isString says whether a value is text, and which.
func (n *node) isString() (string, bool) {
	var s string
	if n.kind != 0 || n.raw == "" || n.raw[0] != '"' || json.Unmarshal([]byte(n.raw), &s) != nil {
		return "", false
	}
	return s, true
}

func raw(s string) *node { return &node{raw: s} }

func arrayOf(n ...*node) *node { return &node{kind: '[', elems: n} }

func objectOf(name string, value *node) *node {
	return &node{kind: '{', members: []member{{name, value}}}
}

// A mutation is a valid document with one change.
type mutation struct {
	path  string // of what was changed, with dots: "spec.data.hash"
	class class
	op    string // which of the class
	body  []byte

	was, text string // of a textClass: what the string said, and says
}

// The classes of changes. A verdict depends on the path and on the class, and
// for text on the operation.
type class string

const (
	absentClass class = "absent" // a member or element is not there, or under another name
	nullClass   class = "null"
	dupClass    class = "dup"   // a member is there twice
	caseClass   class = "case"  // its name is spelled in another case
	typeClass   class = "type"  // it has another type; op begins with that type
	nestClass   class = "nest"  // it is wrapped into an array or object; op begins with that type
	extraClass  class = "extra" // an object has one more member that nobody knows
	textClass   class = "text"  // a string says something else
	sameClass   class = "same"  // the same value, spelled differently
	countClass  class = "count" // an array has more elements
	wholeClass  class = "whole" // the document as a whole
	deep              = 200
)

// mutations calls visit with every change to the document. Numbers, strings
// and names are those of the operations below; nothing is random.
func mutations(document []byte, visit func(mutation)) {
	root := parseJSON(document)
	emit := func(path string, c class, op string) {
		visit(mutation{path: strings.TrimPrefix(path, "."), class: c, op: op, body: root.bytes()})
	}
	var walk func(n *node, path string)
	// change visits what can be done to the value at *at.
	change := func(at **node, path string) {
		was := *at
		put := func(c class, op string, n *node) {
			*at = n
			emit(path, c, op)
			*at = was
		}
		kindOf := func(n *node) string {
			switch {
			case n.kind == '{':
				return "object"
			case n.kind == '[':
				return "array"
			case n.raw[0] == '"':
				return "string"
			case n.raw[0] == 't' || n.raw[0] == 'f':
				return "boolean"
			}
			return "number"
		}
		kind := kindOf(was)
		put(nullClass, "null", raw("null"))
		for _, other := range []string{"0", "1", "-1", "1.5", "1e400", "18446744073709551616", "true", "false", `""`, `"x"`, "{}", "[]", `[""]`, "[null]", `{"":null}`} {
			n := raw(other)
			switch other[0] {
			case '{', '[':
				n = parseJSON([]byte(other))
			}
			if k := kindOf(n); k != kind {
				put(typeClass, k+" "+other, n)
			}
		}
		put(nestClass, "array", arrayOf(was))
		put(nestClass, "array of two", arrayOf(was, was))
		put(nestClass, "array in array", arrayOf(arrayOf(was)))
		put(nestClass, "object", objectOf(`"value"`, was))
		put(nestClass, "deep array", raw(strings.Repeat("[", deep)+string(was.bytes())+strings.Repeat("]", deep)))
		if s, ok := was.isString(); ok {
			for op, text := range changedTexts(s) {
				*at = raw(text)
				says, _ := (*at).isString()
				visit(mutation{strings.TrimPrefix(path, "."), textClass, op, root.bytes(), s, says})
				*at = was
			}
			put(sameClass, "escaped", raw(escaped(s)))
		}
		if was.kind == '[' {
			put(countClass, "empty", arrayOf())
			if len(was.elems) > 0 {
				put(countClass, "twice", arrayOf(append(was.elems[:len(was.elems):len(was.elems)], was.elems...)...))
				var many []*node
				for range 101 {
					many = append(many, was.elems...)
				}
				put(countClass, "many", arrayOf(many...))
			}
		}
		if was.kind == '{' {
			for op, text := range map[string]string{
				"x": `1`, "": `""`, "deep": strings.Repeat("[", deep) + strings.Repeat("]", deep),
				"__proto__": `{"a":[{}]}`, "url": `"http://127.0.0.1/"`, "\\u0000": `null`,
			} {
				was.members = append(was.members, member{`"` + op + `"`, raw(text)})
				emit(path, extraClass, op)
				was.members = was.members[:len(was.members)-1]
			}
		}
		walk(was, path)
	}
	walk = func(n *node, path string) {
		for i := range n.members {
			var name string
			if err := json.Unmarshal([]byte(n.members[i].name), &name); err != nil {
				panic(err)
			}
			here := path + "." + name
			was := n.members
			put := func(c class, op string, members []member) {
				n.members = members
				emit(here, c, op)
				n.members = was
			}
			rest := append(append([]member{}, was[:i]...), was[i+1:]...)
			m := was[i]
			renamed := func(to string) []member {
				out := append([]member{}, was...)
				out[i].name = string(marshalPlain(to))
				return out
			}
			put(absentClass, "deleted", rest)
			put(absentClass, "name with a space", renamed(name+" "))
			put(absentClass, "name with NUL", renamed(name+"\x00"))
			put(dupClass, "same", append(append([]member{}, was...), m))
			put(dupClass, "null behind", append(append([]member{}, was...), member{m.name, raw("null")}))
			put(dupClass, "other before", append([]member{{m.name, raw(`"x"`)}}, was...))
			empty := `""`
			switch m.value.kind {
			case '{':
				empty = "{}"
			case '[':
				empty = "[]"
			}
			put(dupClass, "empty before", append([]member{{m.name, raw(empty)}}, was...))
			put(dupClass, "escaped", append(append([]member{}, was...), member{escaped(name), m.value}))
			for op, other := range map[string]string{"upper": strings.ToUpper(name), "title": title(name), "folded": folded(name)} {
				if other == name {
					continue
				}
				put(caseClass, op, renamed(other))
				put(caseClass, op+" beside", append(append([]member{}, was...), member{string(marshalPlain(other)), m.value}))
			}
			n.members = append([]member{}, was...)
			n.members[i].name = escaped(name)
			emit(here, sameClass, "escaped name")
			n.members = append([]member{}, was...)
			change(&n.members[i].value, here)
			n.members = was
		}
		for i := range n.elems {
			here := fmt.Sprintf("%s.%d", path, i)
			was := n.elems
			n.elems = append(append([]*node{}, was[:i]...), was[i+1:]...)
			emit(here, absentClass, "deleted")
			n.elems = append([]*node{}, was...)
			change(&n.elems[i], here)
			n.elems = was
		}
	}
	walk(root, "")
	for op, text := range map[string]string{
		"x": `1`, "url": `"http://127.0.0.1/"`, "deep": strings.Repeat(`{"a":`, deep) + "1" + strings.Repeat("}", deep),
	} {
		root.members = append(root.members, member{`"` + op + `"`, raw(text)})
		emit("", extraClass, op)
		root.members = root.members[:len(root.members)-1]
	}
	doc := string(root.bytes())
	for op, text := range map[string]string{
		"empty": "", "blank": " \n", "null": "null", "number": "1", "string": `"x"`, "array": "[]", "in an array": "[" + doc + "]",
		"twice": doc + doc, "followed": doc + "x", "cut": doc[:len(doc)-1], "half": doc[:len(doc)/2], "BOM": "\ufeff" + doc,
		"comment": "/* */" + doc, "comma": doc[:len(doc)-1] + ",}", "quotes": strings.ReplaceAll(doc, `"`, `'`), "UTF-16": utf16Of(doc),
		"bad byte": strings.Replace(doc, `"`, "\"\xff", 1), "object": "{}",
		"too deep": doc[:len(doc)-1] + `,"x":` + strings.Repeat("[", 10001) + strings.Repeat("]", 10001) + "}",
		"deepest":  doc[:len(doc)-1] + `,"x":` + strings.Repeat("[", 9000) + strings.Repeat("]", 9000) + "}",
	} {
		visit(mutation{class: wholeClass, op: op, body: []byte(text)})
	}
	visit(mutation{class: sameClass, op: "white space", body: []byte(" \r\n\t" + doc + " \r\n\t")})
}

// changedTexts are other texts for a string, as JSON: none means the same.
func changedTexts(s string) map[string]string {
	quoted := func(s string) string { return string(marshalPlain(s)) }
	texts := map[string]string{
		"space before":    quoted(" " + s),
		"space behind":    quoted(s + " "),
		"newline behind":  quoted(s + "\n"),
		"NUL behind":      quoted(s + "\x00"),
		"NUL before":      quoted("\x00" + s),
		"half":            quoted(s[:len(s)/2]),
		"twice":           quoted(s + s),
		"long":            quoted(s + strings.Repeat("A", 20000)),
		"other":           quoted("\u202e\U0001f600"),
		"path":            quoted("../../etc/passwd"),
		"format":          quoted("%s%n%x"),
		"bad byte":        `"` + strings.Trim(quoted(s), `"`) + "\xff\"",
		"lone surrogate":  `"` + strings.Trim(quoted(s), `"`) + `\ud800"`,
		"broken escape":   `"` + strings.Trim(quoted(s), `"`) + `\x"`,
		"control":         "\"" + strings.Trim(quoted(s), `"`) + "\x01\"",
		"cut UTF-8":       `"` + strings.Trim(quoted(s), `"`) + "\xe2\x82\"",
		"overlong":        `"` + strings.Trim(quoted(s), `"`) + "\xc0\xaf\"",
		"CESU surrogates": `"` + strings.Trim(quoted(s), `"`) + "\xed\xa0\x80\"",
	}
	if s != "" {
		texts["empty"] = `""`
	}
	if u := strings.ToUpper(s); u != s {
		texts["upper"] = quoted(u)
	}
	if l := strings.ToLower(s); l != s {
		texts["lower"] = quoted(l)
	}
	if s != "" && len(s) > 8 {
		other := byte('A')
		if s[8] == 'A' {
			other = 'B'
		}
		texts["one letter"] = quoted(s[:8] + string(other) + s[9:])
	}
	return texts
}

// notJSON are the operations on text after which the document is not JSON in
// UTF-8. Some readers replace the bytes instead of refusing them.
func notJSON(op string) bool {
	return op == "broken escape" || op == "control"
}

// notUTF8 are those after which it is JSON, but holds bytes or escapes that are
// no text.
func notUTF8(op string) bool {
	switch op {
	case "bad byte", "cut UTF-8", "overlong", "CESU surrogates", "lone surrogate":
		return true
	}
	return false
}

// escaped writes a string with every character escaped.
func escaped(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, c := range s {
		if c > 0xffff {
			c -= 0x10000
			fmt.Fprintf(&b, `\u%04x\u%04x`, 0xd800+c>>10, 0xdc00+c&0x3ff)
			continue
		}
		fmt.Fprintf(&b, `\u%04x`, c)
	}
	b.WriteByte('"')
	return b.String()
}

func title(s string) string {
	if s == "" {
		return s
	}
	return string(unicode.ToUpper(rune(s[0]))) + s[1:]
}

// folded replaces a letter by another one that Unicode folds to it: the Kelvin
// sign or the long s.
func folded(s string) string {
	if i := strings.IndexByte(s, 'k'); i >= 0 {
		return s[:i] + "\u212a" + s[i+1:]
	}
	if i := strings.IndexByte(s, 's'); i >= 0 {
		return s[:i] + "\u017f" + s[i+1:]
	}
	return s
}

func utf16Of(s string) string {
	var b strings.Builder
	b.WriteString("\xff\xfe")
	for _, c := range []byte(s) {
		b.Write([]byte{c, 0})
	}
	return b.String()
}
