package identity

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"text/template/parse"

	"github.com/sigstack/sigstack/ca/ext"
)

// The type "ci-provider": a run of a CI system, whose claims become names by templates of the
// configuration. The rules of a template, for whoever writes one:
//
//   - A value is one claim, as it is, or a text that claims are part of. A claim that is part of a
//     text has to be there, not be empty, and be the plain part of a path: without a slash at its
//     ends and without a "." or ".." between slashes. So no text is ever made around nothing.
//   - A claim that stands alone may be empty: the certificate goes without that extension. It may be
//     absent where "index" asks for it, or where a default stands for it.
//   - Strings, numbers and booleans can be used; an object, a list or null cannot.

func prepareCIProvider(i Issuer) (resolver, error) {
	if err := i.onlyFields("Templates"); err != nil {
		return nil, err
	}
	if i.Templates == nil {
		return nil, errors.New(`Templates are missing, the type "ci-provider" requires them`)
	}
	p, err := i.Templates.compile()
	if err != nil {
		return nil, fmt.Errorf("templates %q: %w", i.Templates.Name, err)
	}
	return func(_ string, c claims) (resolved, error) { return p.resolve(c) }, nil
}

// compiled are Templates that can be used.
type compiled struct {
	san         *value
	extensions  []*value // in the order of their keys
	defaults    map[string]string
	overridable []string
}

// A value is one template.
type value struct {
	key    string             // of the extension; empty for the subject alternative name
	text   *template.Template // nil for a claim by its name
	claims []reference        // that are read, each once
	alone  bool               // the value is that of one claim, as it is
}

// A reference is a claim that a template reads.
type reference struct {
	name     string
	optional bool // read by "index", to which an absent claim is an empty one
}

// compile checks all that can be checked without a token.
func (t *Templates) compile() (*compiled, error) {
	p := &compiled{defaults: t.Defaults, overridable: t.Overridable}
	for _, name := range slices.Sorted(maps.Keys(t.Defaults)) {
		if err := checkText(name, t.Defaults[name]); err != nil {
			return nil, fmt.Errorf("default: %w", err)
		}
	}
	for _, name := range t.Overridable {
		if t.Defaults[name] == "" {
			return nil, fmt.Errorf("overridable: %q has no default with a value that a claim could replace", name)
		}
	}
	if strings.TrimSpace(t.SAN) == "" {
		return nil, errors.New("the template of the subject alternative name is missing")
	}
	var err error
	if p.san, err = compile("", t.SAN); err != nil {
		return nil, fmt.Errorf("subject alternative name: %w", err)
	}
	for _, key := range slices.Sorted(maps.Keys(t.Extensions)) {
		if _, ok := new(ext.Values).Field(key); !ok {
			return nil, fmt.Errorf("extension %q is not known, one of %s is required", key, strings.Join(ext.Keys(), ", "))
		}
		if t.Extensions[key] == "" {
			continue
		}
		v, err := compile(key, t.Extensions[key])
		if err != nil {
			return nil, fmt.Errorf("extension %q: %w", key, err)
		}
		p.extensions = append(p.extensions, v)
	}
	return p, nil
}

// compile reads one template.
func compile(key, text string) (*value, error) {
	if len(text) > ext.MaxValue {
		return nil, fmt.Errorf("the template has %d bytes, at most %d are allowed", len(text), ext.MaxValue)
	}
	v := &value{key: key}
	if !strings.Contains(text, "{{") {
		v.claims, v.alone = []reference{{name: text}}, true
		return v, nil
	}
	index := func(all map[string]string, name string) string { return all[name] }
	var err error
	v.text, err = template.New("").Option("missingkey=error").Funcs(template.FuncMap{"index": index}).Parse(text)
	if err != nil {
		return nil, errors.New(brief(err))
	}
	if len(v.text.Templates()) != 1 {
		return nil, errors.New("a template inside a template is not supported")
	}
	if err := v.walk(v.text.Root); err != nil {
		return nil, err
	}
	if len(v.claims) == 0 {
		return nil, errors.New("the template uses no claim: all tokens would get the same value")
	}
	nodes := v.text.Root.Nodes
	v.alone = len(nodes) == 1 && len(v.claims) == 1 && nodes[0].Type() == parse.NodeAction
	return v, nil
}

// walk notes which claims a part of a template reads, and refuses what would hide them.
func (v *value) walk(node parse.Node) error {
	switch n := node.(type) {
	case *parse.ListNode:
		if n == nil {
			return nil
		}
		return v.walkAll(n.Nodes)
	case *parse.IfNode:
		if err := v.walk(n.Pipe); err != nil {
			return err
		}
		if err := v.walk(n.List); err != nil {
			return err
		}
		return v.walk(n.ElseList)
	case *parse.ActionNode:
		return v.walk(n.Pipe)
	case *parse.PipeNode:
		if len(n.Decl) > 0 {
			return errors.New("a variable is not supported in the template of a claim")
		}
		for _, c := range n.Cmds {
			if err := v.walk(c); err != nil {
				return err
			}
		}
		return nil
	case *parse.CommandNode:
		if f, ok := n.Args[0].(*parse.IdentifierNode); ok && f.Ident == "index" {
			return v.walkIndex(n.Args[1:])
		}
		return v.walkAll(n.Args)
	case *parse.FieldNode:
		if len(n.Ident) != 1 {
			return fmt.Errorf("%s: claims have no fields", n)
		}
		v.refers(n.Ident[0], false)
		return nil
	case *parse.TextNode, *parse.CommentNode, *parse.IdentifierNode, *parse.StringNode, *parse.NumberNode, *parse.BoolNode:
		return nil
	}
	return fmt.Errorf("%s is not supported in the template of a claim", brief(errors.New(node.String())))
}

func (v *value) walkAll(nodes []parse.Node) error {
	for _, n := range nodes {
		if err := v.walk(n); err != nil {
			return err
		}
	}
	return nil
}

// walkIndex reads the arguments of index: the claims, and the name of one.
func (v *value) walkIndex(args []parse.Node) error {
	if len(args) == 2 {
		_, all := args[0].(*parse.DotNode)
		if name, ok := args[1].(*parse.StringNode); ok && all {
			v.refers(name.Text, true)
			return nil
		}
	}
	return errors.New(`index is used as {{ index . "name" }} only`)
}

func (v *value) refers(name string, optional bool) {
	for k := range v.claims {
		if v.claims[k].name == name {
			v.claims[k].optional = v.claims[k].optional && optional
			return
		}
	}
	v.claims = append(v.claims, reference{name, optional})
}

// resolve makes the names of a certificate from claims.
func (p *compiled) resolve(c claims) (resolved, error) {
	var r resolved
	text, err := p.render(p.san, c)
	if err != nil {
		return resolved{}, fmt.Errorf("subject alternative name: %w", err)
	}
	name, err := url.Parse(text)
	if err != nil || !name.IsAbs() || name.Host == "" || name.User != nil {
		return resolved{}, errors.New("subject alternative name: what the claims give is not an absolute URI")
	}
	if p.san.alone && name.String() != text {
		return resolved{}, fmt.Errorf("subject alternative name: the claim %q is not a URI in its normal spelling", p.san.claims[0].name)
	}
	r.san = ext.SAN{Kind: ext.URI, Value: name.String()}
	for _, v := range p.extensions {
		field, _ := r.values.Field(v.key)
		if *field, err = p.render(v, c); err != nil {
			return resolved{}, fmt.Errorf("extension %q: %w", v.key, err)
		}
	}
	return r, nil
}

// render makes one value. Claims that are part of a subject alternative name have their percent
// signs encoded: it is a URI, and no two texts may become the same.
func (p *compiled) render(v *value, c claims) (string, error) {
	data := make(map[string]string, len(v.claims))
	san := v.key == ""
	for _, r := range v.claims {
		text, ok, err := c.scalar(r.name)
		if err != nil {
			return "", err
		}
		value, standsIn := p.defaults[r.name]
		switch {
		case ok && value != "" && text != value && !slices.Contains(p.overridable, r.name):
			return "", fmt.Errorf("the claim %q is %s, where the configuration has the constant %q", r.name, quote(text), value)
		case !ok && !standsIn && !(r.optional && v.alone && !san):
			return "", fmt.Errorf("the claim %q is missing", r.name)
		case !ok:
			data[r.name] = value
			if value == "" && san {
				return "", fmt.Errorf("the claim %q is missing", r.name)
			}
			continue
		case text == "" && (san || !v.alone && !standsIn):
			return "", fmt.Errorf("the claim %q is empty", r.name)
		case text != "" && (san || !v.alone) && text != value && !plainPath(text):
			return "", fmt.Errorf(`the claim %q cannot be part of a path: it has a slash at its end, or a segment "." or ".."`, r.name)
		}
		if san && !v.alone {
			text = strings.ReplaceAll(text, "%", "%25")
		}
		data[r.name] = text
	}
	if v.text == nil {
		return data[v.claims[0].name], nil
	}
	var out bounded
	if err := v.text.Execute(&out, data); err != nil {
		return "", errors.New(brief(err))
	}
	return out.String(), nil
}

// bounded is a buffer for one value.
type bounded struct{ bytes.Buffer }

func (b *bounded) Write(p []byte) (int, error) {
	if b.Len()+len(p) > ext.MaxValue {
		return 0, fmt.Errorf("the value is longer than %d bytes", ext.MaxValue)
	}
	return b.Buffer.Write(p)
}

// plainPath reports whether s can stand between slashes: without a slash at an end, and without a
// segment that would name another place than it seems to. Two slashes in the middle are plain:
// GitLab has them between project and file.
func plainPath(s string) bool {
	if strings.HasPrefix(s, "/") || strings.HasSuffix(s, "/") {
		return false
	}
	for segment := range strings.SplitSeq(s, "/") {
		if segment == "." || segment == ".." {
			return false
		}
	}
	return true
}

// scalar returns a claim that is a string, a number or a boolean as text, and whether it is there.
// A whole number is its digits, without an exponent, as it was written.
func (c claims) scalar(name string) (text string, ok bool, err error) {
	raw, ok := c.get(name)
	if !ok {
		return "", false, nil
	}
	switch raw[0] {
	case '"':
		text, err := c.optionalText(name)
		return text, true, err
	case 't', 'f':
		return string(raw), true, nil
	case '{', '[':
		return "", false, fmt.Errorf("the claim %q is an object or a list, which has no text", name)
	}
	if bytes.ContainsAny(raw, ".eE") {
		var f float64
		if err := json.Unmarshal(raw, &f); err != nil {
			return "", false, fmt.Errorf("the claim %q is a number that is too large", name)
		}
		if whole := int64(f); float64(whole) == f && whole > -1<<53 && whole < 1<<53 {
			return strconv.FormatInt(whole, 10), true, nil
		}
		return fmt.Sprint(f), true, nil
	}
	return string(raw), true, nil
}
