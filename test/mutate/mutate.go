// Package mutate makes every change to a JSON document that a test may want to
// send: members that are missing, there twice, misspelled, of another type or
// nested, texts that say something else, and documents that are none.
//
//	mutate.Document(valid, func(m mutate.Mutation) { send(m.Body) })
package mutate

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode"
)

// A Node is one JSON value whose members keep their order and may be there
// twice.
type Node struct {
	kind    byte // '{', '[', or 0 for a value that is in Raw
	Members []Member
	Elems   []*Node
	Raw     string
}

type Member struct {
	Name  string // as text of a JSON string, with its quotes
	Value *Node
}

// Parse reads a document.
func Parse(data []byte) *Node {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	n := parseNode(d)
	if _, err := d.Token(); err != io.EOF {
		panic("something follows the document")
	}
	return n
}

func parseNode(d *json.Decoder) *Node {
	switch t := must(d.Token()).(type) {
	case json.Delim:
		n := &Node{kind: byte(t)}
		for d.More() {
			if t == '{' {
				name := string(marshalPlain(must(d.Token())))
				n.Members = append(n.Members, Member{name, parseNode(d)})
			} else {
				n.Elems = append(n.Elems, parseNode(d))
			}
		}
		must(d.Token())
		return n
	default:
		return &Node{Raw: string(marshalPlain(t))}
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

func (n *Node) write(b *bytes.Buffer) {
	switch n.kind {
	case '{':
		b.WriteByte('{')
		for i, m := range n.Members {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(m.Name)
			b.WriteByte(':')
			m.Value.write(b)
		}
		b.WriteByte('}')
	case '[':
		b.WriteByte('[')
		for i, e := range n.Elems {
			if i > 0 {
				b.WriteByte(',')
			}
			e.write(b)
		}
		b.WriteByte(']')
	default:
		b.WriteString(n.Raw)
	}
}

func (n *Node) Bytes() []byte {
	var b bytes.Buffer
	n.write(&b)
	return b.Bytes()
}

// isString says whether a value is text, and which.
func (n *Node) isString() (string, bool) {
	var s string
	if n.kind != 0 || n.Raw == "" || n.Raw[0] != '"' || json.Unmarshal([]byte(n.Raw), &s) != nil {
		return "", false
	}
	return s, true
}

func raw(s string) *Node { return &Node{Raw: s} }

func arrayOf(n ...*Node) *Node { return &Node{kind: '[', Elems: n} }

func objectOf(name string, value *Node) *Node {
	return &Node{kind: '{', Members: []Member{{name, value}}}
}

// A Mutation is a valid document with one change.
type Mutation struct {
	Path  string // of what was changed, with dots: "spec.data.hash"
	Class Class
	Op    string // which of the class
	Body  []byte

	Was, Says string // of a Text: what the string said, and says
}

// The classes of changes. A verdict depends on the path and on the class, and
// for text on the operation.
type Class string

const (
	Absent Class = "absent" // a member or element is not there, or under another name
	Null   Class = "null"
	Dup    Class = "dup"   // a member is there twice
	Case   Class = "case"  // its name is spelled in another case
	Type   Class = "type"  // it has another type; op begins with that type
	Nest   Class = "nest"  // it is wrapped into an array or object; op begins with that type
	Extra  Class = "extra" // an object has one more member that nobody knows
	Text   Class = "text"  // a string says something else
	Same   Class = "same"  // the same value, spelled differently
	Count  Class = "count" // an array has more elements
	Whole  Class = "whole" // the document as a whole
	deep         = 200
)

// Document calls visit with every change to the document. Numbers, strings
// and names are those of the operations below; nothing is random.
func Document(document []byte, visit func(Mutation)) {
	root := Parse(document)
	emit := func(path string, c Class, op string) {
		visit(Mutation{Path: strings.TrimPrefix(path, "."), Class: c, Op: op, Body: root.Bytes()})
	}
	var walk func(n *Node, path string)
	// change visits what can be done to the value at *at.
	change := func(at **Node, path string) {
		was := *at
		put := func(c Class, op string, n *Node) {
			*at = n
			emit(path, c, op)
			*at = was
		}
		kindOf := func(n *Node) string {
			switch {
			case n.kind == '{':
				return "object"
			case n.kind == '[':
				return "array"
			case n.Raw[0] == '"':
				return "string"
			case n.Raw[0] == 't' || n.Raw[0] == 'f':
				return "boolean"
			}
			return "number"
		}
		kind := kindOf(was)
		put(Null, "null", raw("null"))
		for _, other := range []string{"0", "1", "-1", "1.5", "1e400", "18446744073709551616", "true", "false", `""`, `"x"`, "{}", "[]", `[""]`, "[null]", `{"":null}`} {
			n := raw(other)
			switch other[0] {
			case '{', '[':
				n = Parse([]byte(other))
			}
			if k := kindOf(n); k != kind {
				put(Type, k+" "+other, n)
			}
		}
		put(Nest, "array", arrayOf(was))
		put(Nest, "array of two", arrayOf(was, was))
		put(Nest, "array in array", arrayOf(arrayOf(was)))
		put(Nest, "object", objectOf(`"value"`, was))
		put(Nest, "deep array", raw(strings.Repeat("[", deep)+string(was.Bytes())+strings.Repeat("]", deep)))
		if s, ok := was.isString(); ok {
			for op, text := range changedTexts(s) {
				*at = raw(text)
				says, _ := (*at).isString()
				visit(Mutation{strings.TrimPrefix(path, "."), Text, op, root.Bytes(), s, says})
				*at = was
			}
			put(Same, "escaped", raw(escaped(s)))
		}
		if was.kind == '[' {
			put(Count, "empty", arrayOf())
			if len(was.Elems) > 0 {
				put(Count, "twice", arrayOf(append(was.Elems[:len(was.Elems):len(was.Elems)], was.Elems...)...))
				var many []*Node
				for range 101 {
					many = append(many, was.Elems...)
				}
				put(Count, "many", arrayOf(many...))
			}
		}
		if was.kind == '{' {
			for op, text := range map[string]string{
				"x": `1`, "": `""`, "deep": strings.Repeat("[", deep) + strings.Repeat("]", deep),
				"__proto__": `{"a":[{}]}`, "url": `"http://127.0.0.1/"`, "\\u0000": `null`,
			} {
				was.Members = append(was.Members, Member{`"` + op + `"`, raw(text)})
				emit(path, Extra, op)
				was.Members = was.Members[:len(was.Members)-1]
			}
		}
		walk(was, path)
	}
	walk = func(n *Node, path string) {
		for i := range n.Members {
			var name string
			if err := json.Unmarshal([]byte(n.Members[i].Name), &name); err != nil {
				panic(err)
			}
			here := path + "." + name
			was := n.Members
			put := func(c Class, op string, members []Member) {
				n.Members = members
				emit(here, c, op)
				n.Members = was
			}
			rest := append(append([]Member{}, was[:i]...), was[i+1:]...)
			m := was[i]
			renamed := func(to string) []Member {
				out := append([]Member{}, was...)
				out[i].Name = string(marshalPlain(to))
				return out
			}
			put(Absent, "deleted", rest)
			put(Absent, "name with a space", renamed(name+" "))
			put(Absent, "name with NUL", renamed(name+"\x00"))
			put(Dup, "same", append(append([]Member{}, was...), m))
			put(Dup, "null behind", append(append([]Member{}, was...), Member{m.Name, raw("null")}))
			put(Dup, "other before", append([]Member{{m.Name, raw(`"x"`)}}, was...))
			empty := `""`
			switch m.Value.kind {
			case '{':
				empty = "{}"
			case '[':
				empty = "[]"
			}
			put(Dup, "empty before", append([]Member{{m.Name, raw(empty)}}, was...))
			put(Dup, "escaped", append(append([]Member{}, was...), Member{escaped(name), m.Value}))
			for op, other := range map[string]string{"upper": strings.ToUpper(name), "title": title(name), "folded": folded(name)} {
				if other == name {
					continue
				}
				put(Case, op, renamed(other))
				put(Case, op+" beside", append(append([]Member{}, was...), Member{string(marshalPlain(other)), m.Value}))
			}
			n.Members = append([]Member{}, was...)
			n.Members[i].Name = escaped(name)
			emit(here, Same, "escaped name")
			n.Members = append([]Member{}, was...)
			change(&n.Members[i].Value, here)
			n.Members = was
		}
		for i := range n.Elems {
			here := fmt.Sprintf("%s.%d", path, i)
			was := n.Elems
			n.Elems = append(append([]*Node{}, was[:i]...), was[i+1:]...)
			emit(here, Absent, "deleted")
			n.Elems = append([]*Node{}, was...)
			change(&n.Elems[i], here)
			n.Elems = was
		}
	}
	walk(root, "")
	for op, text := range map[string]string{
		"x": `1`, "url": `"http://127.0.0.1/"`, "deep": strings.Repeat(`{"a":`, deep) + "1" + strings.Repeat("}", deep),
	} {
		root.Members = append(root.Members, Member{`"` + op + `"`, raw(text)})
		emit("", Extra, op)
		root.Members = root.Members[:len(root.Members)-1]
	}
	doc := string(root.Bytes())
	for op, text := range map[string]string{
		"empty": "", "blank": " \n", "null": "null", "number": "1", "string": `"x"`, "array": "[]", "in an array": "[" + doc + "]",
		"twice": doc + doc, "followed": doc + "x", "cut": doc[:len(doc)-1], "half": doc[:len(doc)/2], "BOM": "\ufeff" + doc,
		"comment": "/* */" + doc, "comma": doc[:len(doc)-1] + ",}", "quotes": strings.ReplaceAll(doc, `"`, `'`), "UTF-16": utf16Of(doc),
		"bad byte": strings.Replace(doc, `"`, "\"\xff", 1), "object": "{}",
		"too deep": doc[:len(doc)-1] + `,"x":` + strings.Repeat("[", 10001) + strings.Repeat("]", 10001) + "}",
		"deepest":  doc[:len(doc)-1] + `,"x":` + strings.Repeat("[", 9000) + strings.Repeat("]", 9000) + "}",
	} {
		visit(Mutation{Class: Whole, Op: op, Body: []byte(text)})
	}
	visit(Mutation{Class: Same, Op: "white space", Body: []byte(" \r\n\t" + doc + " \r\n\t")})
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

// NotJSON are the operations on text after which the document is not JSON in
// UTF-8. Some readers replace the bytes instead of refusing them.
func NotJSON(op string) bool {
	return op == "broken escape" || op == "control"
}

// NotUTF8 are those after which it is JSON, but holds bytes or escapes that are
// no text.
func NotUTF8(op string) bool {
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

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
