package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/sigstack/sigstack/ca/identity"
)

// Bounds of a configuration file. It is the operator's own, but a mistake in it,
// or a file of another kind, must not cost more than a message.
const (
	maxConfig   = 1 << 20 // bytes
	maxMembers  = 200_000 // of mappings and lists that are looked at, anchors expanded; a file of maxConfig has some 100,000
	maxMistakes = 100     // that are listed
)

// A mistake is one thing in a configuration that has to be put right. Its text
// says what is wrong and what would be right.
type mistake struct {
	file string // "" where the value comes from a flag or the environment
	line int    // 0 where the key is not in the file
	key  string // as it is written, with dots between nested keys; "" where there is none
	text string
}

func (m mistake) String() string {
	var b strings.Builder
	if m.file != "" {
		b.WriteString(m.file)
		if m.line > 0 {
			fmt.Fprintf(&b, ":%d", m.line)
		}
		b.WriteString(": ")
	}
	if m.key != "" {
		b.WriteString(m.key + ": ")
	}
	b.WriteString(m.text)
	return b.String()
}

// mistakes are all that was found, sorted by line, one a line.
type mistakes []mistake

func (m mistakes) Error() string {
	lines := make([]string, len(m))
	for i := range m {
		lines[i] = m[i].String()
	}
	return strings.Join(lines, "\n")
}

// A place is a key in a configuration file.
type place struct {
	line int
	key  string // with those around it, and dots between them
}

// in returns the place of a key below p.
func (p place) in(key string, line int) place {
	if key = shown(key); p.key != "" {
		key = p.key + "." + key
	}
	return place{line: line, key: key}
}

// shown is a key as a message has it: on one line, and not longer than that.
func shown(key string) string {
	const most = 120
	quoted := strconv.Quote(key)
	if len(key) > most {
		return strconv.Quote(strings.ToValidUTF8(key[:most], "")) + "..."
	}
	if key == "" || quoted[1:len(quoted)-1] != key {
		return quoted
	}
	return key
}

// A configFile is a configuration file that was read. It has two parts.
//
// The identity providers stand in sections whose keys are Fulcio's
// (issuers.go). They are decoded here, because their keys are URLs and names in
// which capitals count.
//
// The other keys are settings: those of defaults, which the environment and
// flags may change, by way of viper.
//
// Nothing that is written in the file is passed over in silence: it is known,
// or it is a mistake.
type configFile struct {
	name     string
	settings map[string]any     // as viper takes them
	given    map[string]setting // by their keys with dots
	issuers  []identity.Issuer
	policy   policySection

	mistakes  mistakes
	wrong     map[string]bool // the keys of mistakes
	members   int
	expanding map[*yaml.Node]bool // by merge keys, around the present one
}

// A setting is a value in the file, as it is written there.
type setting struct {
	line  int
	value string
}

// openConfigFile reads and decodes a configuration file. The error is about
// reading; mistakes are kept in what is returned.
func openConfigFile(name string) (*configFile, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("reading configuration: %w", err)
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxConfig+1))
	if err != nil {
		return nil, fmt.Errorf("reading configuration: %w", err)
	}
	return parseConfigFile(name, data), nil
}

// parseConfigFile decodes a configuration file, YAML or JSON.
func parseConfigFile(name string, data []byte) *configFile {
	f := &configFile{
		name: name, settings: map[string]any{}, given: map[string]setting{},
		wrong: map[string]bool{}, expanding: map[*yaml.Node]bool{},
	}
	if len(data) > maxConfig {
		f.mistake(place{}, "the file has more than %d bytes; a configuration is smaller", maxConfig)
		return f
	}
	root, err := parseTree(data)
	if err != nil {
		f.syntax(data, err)
		return f
	}
	f.decode(root)
	return f
}

// parseTree returns the one value of a file.
//
// JSON is nearly YAML: the YAML decoder knows neither all of JSON's escapes nor
// its tabs everywhere. So what is JSON is read as JSON.
func parseTree(data []byte) (*yaml.Node, error) {
	if utf8.Valid(data) && json.Valid(data) {
		return parseJSON(data)
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var document, next yaml.Node
	switch err := decoder.Decode(&document); {
	case errors.Is(err, io.EOF): // empty, or only comments
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: nullTag}, nil
	case err != nil:
		return nil, err
	}
	switch err := decoder.Decode(&next); {
	case err == nil:
		return nil, fmt.Errorf("yaml: line %d: a second document begins here; one file is one document", next.Line)
	case !errors.Is(err, io.EOF):
		return nil, err
	}
	return document.Content[0], nil
}

// Short tags, as yaml.Node.ShortTag has them.
const (
	nullTag   = "!!null"
	boolTag   = "!!bool"
	intTag    = "!!int"
	floatTag  = "!!float"
	textTag   = "!!str"
	timeTag   = "!!timestamp"
	mergeTag  = "!!merge"
	binaryTag = "!!binary"
)

// parseJSON returns the tree of valid JSON, with the lines of its values.
func parseJSON(data []byte) (*yaml.Node, error) {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	line, counted := 1, int64(0)
	var value func() (*yaml.Node, error)
	value = func() (*yaml.Node, error) {
		token, err := decoder.Token()
		if err != nil {
			return nil, err
		}
		at := decoder.InputOffset()
		line += bytes.Count(data[counted:at], []byte("\n"))
		counted = at
		n := &yaml.Node{Kind: yaml.ScalarNode, Line: line}
		switch t := token.(type) {
		case string:
			n.Tag, n.Value, n.Style = textTag, t, yaml.DoubleQuotedStyle
		case json.Number:
			n.Tag, n.Value = floatTag, t.String()
			if _, err := t.Int64(); err == nil {
				n.Tag = intTag
			}
		case bool:
			n.Tag, n.Value = boolTag, strconv.FormatBool(t)
		case nil:
			n.Tag = nullTag
		case json.Delim:
			n.Kind = yaml.SequenceNode
			if t == '{' {
				n.Kind = yaml.MappingNode
			}
			for decoder.More() { // in a mapping, keys and values take turns
				child, err := value()
				if err != nil {
					return nil, err
				}
				n.Content = append(n.Content, child)
			}
			_, err = decoder.Token()
		}
		return n, err
	}
	return value()
}

// How the YAML decoder words what it cannot read.
var (
	syntaxError   = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)
	unknownAnchor = regexp.MustCompile(`^unknown anchor '(.*)' referenced`)
)

// syntax notes that a file could not be read at all. Where the decoder does not
// say the line, it is looked for.
func (f *configFile) syntax(data []byte, err error) {
	text := err.Error()
	at := place{}
	if m := syntaxError.FindStringSubmatch(text); m != nil {
		at.line, _ = strconv.Atoi(m[1])
		text = text[len(m[0]):]
	}
	if at.line == 0 {
		offset := 0
		if m := unknownAnchor.FindStringSubmatch(text); m != nil {
			offset = bytes.Index(data, []byte("*"+m[1]))
		} else {
			for offset < len(data) {
				r, size := utf8.DecodeRune(data[offset:])
				if r == utf8.RuneError && size == 1 {
					break
				}
				offset += size
			}
		}
		if offset >= 0 && offset < len(data) {
			at.line = bytes.Count(data[:offset], []byte("\n")) + 1
		}
	}
	f.mistake(at, "cannot be read as YAML or JSON: %s", text)
}

// mistake notes what is wrong at a place of the file.
func (f *configFile) mistake(at place, format string, args ...any) {
	f.add(mistake{file: f.name, line: at.line, key: at.key, text: fmt.Sprintf(format, args...)})
}

func (f *configFile) add(m mistake) {
	f.wrong[m.key] = true
	// One more than is listed says that there are more.
	if len(f.mistakes) <= maxMistakes {
		f.mistakes = append(f.mistakes, m)
	}
}

// err returns the mistakes, if there are any.
func (f *configFile) err() error {
	if len(f.mistakes) == 0 {
		return nil
	}
	slices.SortStableFunc(f.mistakes, func(a, b mistake) int { return a.line - b.line })
	list := f.mistakes
	if len(list) > maxMistakes {
		list = append(list[:maxMistakes:maxMistakes], mistake{file: f.name, text: "there are more mistakes than these; they are listed when these are put right"})
	}
	return list
}

// A member is a key of a mapping with its value.
type member struct {
	key    string
	line   int
	value  *yaml.Node
	merged bool // by a merge key, so that a key of the mapping's own goes first
}

// mapping returns the members of a mapping, with those that its merge keys bring
// behind its own. No value is like an empty mapping.
func (f *configFile) mapping(at place, n *yaml.Node) []member {
	n = expanded(n)
	if isNull(n) {
		return nil
	}
	if n.Kind != yaml.MappingNode {
		f.mistake(at, "is %s; keys with values are required", kind(n))
		return nil
	}
	var members []member
	var merges []*yaml.Node
	seen := map[string]int{} // the lines of keys
	for i := 0; i+1 < len(n.Content); i += 2 {
		if !f.count() {
			return nil
		}
		key, value := expanded(n.Content[i]), n.Content[i+1]
		line := n.Content[i].Line
		switch {
		case key.Kind != yaml.ScalarNode || isNull(key):
			f.mistake(place{line, at.key}, "a key is %s; a key is text", kind(key))
		case seen[key.Value] > 0:
			f.mistake(at.in(key.Value, line), "stands in line %d already; a key stands once", seen[key.Value])
		case key.ShortTag() == mergeTag:
			seen[key.Value] = line
			merges = append(merges, value)
		default:
			seen[key.Value] = line
			members = append(members, member{key: key.Value, line: line, value: value})
		}
	}
	for _, n := range merges {
		for _, m := range f.merge(at, n) {
			if seen[m.key] == 0 { // the first to bring a key goes first
				seen[m.key] = m.line
				members = append(members, m)
			}
		}
	}
	return members
}

// merge returns what a merge key brings: the members of a mapping or of several.
func (f *configFile) merge(at place, n *yaml.Node) (members []member) {
	line := n.Line
	n = expanded(n)
	from := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode {
		from = n.Content
	}
	for _, source := range from {
		if !f.count() {
			return nil
		}
		source = expanded(source)
		switch {
		case source.Kind != yaml.MappingNode:
			f.mistake(place{line, at.key}, "<< brings %s; it is followed by an alias of keys with values", kind(source))
		case f.expanding[source]:
			f.mistake(place{line, at.key}, "<< brings the mapping that it stands in; name another one")
		default:
			f.expanding[source] = true
			for _, m := range f.mapping(at, source) {
				if !f.count() { // a chain of merges copies the same ones again and again
					return nil
				}
				m.merged = true
				members = append(members, m)
			}
			delete(f.expanding, source)
		}
	}
	return members
}

// list returns the members of a list.
func (f *configFile) list(at place, n *yaml.Node) []*yaml.Node {
	n = expanded(n)
	if isNull(n) {
		return nil
	}
	if n.Kind != yaml.SequenceNode {
		f.mistake(at, "is %s; a list is required", kind(n))
		return nil
	}
	for range n.Content {
		if !f.count() {
			return nil
		}
	}
	return n.Content
}

// count bounds the work: anchors of anchors of anchors make a large tree of a
// small file. It also ends it when there are more mistakes than are listed.
func (f *configFile) count() bool {
	f.members++
	if f.members == maxMembers {
		f.mistake(place{}, "the file has more than %d keys and values when its anchors are expanded; a configuration has fewer", maxMembers)
	}
	return f.members < maxMembers && len(f.mistakes) <= maxMistakes
}

// text returns a text. Fulcio takes a number without quotes for a text, too.
// No value is the empty text.
func (f *configFile) text(at place, n *yaml.Node) string {
	n = expanded(n)
	if n.Kind == yaml.ScalarNode {
		switch n.ShortTag() {
		case nullTag:
			return ""
		case textTag, intTag, floatTag, boolTag, timeTag:
			return n.Value
		}
	}
	f.mistake(at, "is %s; a text is required", kind(n))
	return ""
}

// truth returns a boolean, as Fulcio's YAML decoder reads it.
func (f *configFile) truth(at place, n *yaml.Node) (b bool) {
	n = expanded(n)
	if n.Kind != yaml.ScalarNode || n.Decode(&b) != nil {
		f.mistake(at, "is %s; true or false is required", kind(n))
	}
	return b
}

// duration is a time with its unit, for example 90s.
func (f *configFile) duration(at place, n *yaml.Node) time.Duration {
	n = expanded(n)
	if isNull(n) {
		return 0
	}
	d, err := time.ParseDuration(n.Value)
	if n.Kind != yaml.ScalarNode || err != nil || d <= 0 {
		f.mistake(at, "is %s; a time with its unit is required, for example 5m", kind(n))
		return 0 // not another mistake in the verifier's eyes
	}
	return d
}

// expanded returns what an alias stands for, and other nodes as they are.
func expanded(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == nullTag }

// kind says what stands where something else is required.
func kind(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	switch n.ShortTag() {
	case nullTag:
		return "nothing"
	case mergeTag:
		return "<<"
	case binaryTag:
		return "binary"
	}
	return shown(n.Value)
}

// A field is a key that a mapping may have, and who takes its value.
type field struct {
	key  string
	take func(place, *yaml.Node)
}

// fields gives the members of a mapping to whom they are for.
func (f *configFile) fields(at place, members []member, known []field) {
	taken := map[string]int{} // the lines of keys, spelled with hyphens
	for _, m := range members {
		here := at.in(m.key, m.line)
		i := slices.IndexFunc(known, func(k field) bool { return k.spells(m.key) })
		if i < 0 {
			f.unknown(here, m.key, names(known))
			continue
		}
		switch line := taken[known[i].key]; {
		case line == 0:
			taken[known[i].key] = m.line
			known[i].take(here, m.value)
		case !m.merged:
			f.mistake(here, "is another spelling of %s, which stands in line %d already; a key stands once", known[i].key, line)
		}
	}
}

// spells reports whether a key is that of the field. It has two spellings: with
// hyphens, as in YAML, and as Fulcio's JSON has it.
func (k field) spells(key string) bool { return key == k.key || key == camel(k.key) }

func names(known []field) (out []string) {
	for _, k := range known {
		out = append(out, k.key)
	}
	return out
}

// unknown notes a key that nobody knows, with those that may have been meant.
func (f *configFile) unknown(at place, key string, known []string) {
	if len(f.mistakes) <= maxMistakes {
		f.mistake(at, "is not known; %s", meant(key, known))
	}
}

// meant says which names there are instead of one that is not known: those that
// are near, or else all.
func meant(name string, known []string) string {
	const most = 30
	near := nearest(name, known)
	switch {
	case len(near) == 1:
		return near[0] + " is near"
	case len(near) > 1:
		return strings.Join(near, " and ") + " are near"
	case len(known) == 0:
		return "there is none"
	case len(known) > most:
		return fmt.Sprintf("known are %s and %d more", shownList(known[:most]), len(known)-most)
	}
	return "known are " + shownList(known)
}

func shownList(names []string) string {
	list := make([]string, len(names))
	for i, name := range names {
		list[i] = shown(name)
	}
	return strings.Join(list, ", ")
}

// camel is the spelling of a key in Fulcio's JSON: build-signer-uri is
// BuildSignerURI there.
func camel(key string) string {
	var b strings.Builder
	for word := range strings.SplitSeq(key, "-") {
		switch word {
		case "oidc", "ci", "url", "uri", "id", "ca", "sha", "spiffe":
			b.WriteString(strings.ToUpper(word))
		default:
			b.WriteString(strings.ToUpper(word[:1]) + word[1:])
		}
	}
	return b.String()
}

// nearest returns the names that one was probably meant to be: the same letters
// in another spelling, or else those with the fewest letters wrong, one or
// a third at most. It looks no further where there are very many.
func nearest(name string, known []string) (near []string) {
	const mostLetters, mostNames = 100, 200
	if len(name) > mostLetters || len(known) > mostNames {
		return nil
	}
	plain := func(s string) string { return strings.ToLower(strings.NewReplacer("-", "", "_", "").Replace(s)) }
	name = plain(name)
	least := max(len(name)/3+1, 2)
	for _, k := range known {
		if len(k) > mostLetters {
			continue
		}
		switch d := distance(name, plain(k)); {
		case d < least:
			least, near = d, []string{k}
		case d == least && near != nil:
			near = append(near, k)
		}
	}
	return near
}

// distance is how many letters have to be added, left out or replaced to make
// one word of the other (the Levenshtein distance).
func distance(a, b string) int {
	row := make([]int, len(b)+1) // the distances of a[:i] to each b[:j]
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(replaced, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// decode takes the file apart.
func (f *configFile) decode(root *yaml.Node) {
	var metadata, exact, patterns section
	sections := []field{
		{"oidc-issuers", exact.take},
		{"meta-issuers", patterns.take},
		{"ci-issuer-metadata", metadata.take},
		{"policy", f.readPolicy},
		{"define", func(place, *yaml.Node) {}}, // a place for anchors
	}
	var ours, rest []member
	for _, m := range f.mapping(place{line: root.Line}, root) {
		if slices.ContainsFunc(sections, func(s field) bool { return s.spells(m.key) }) {
			ours = append(ours, m)
		} else {
			rest = append(rest, m)
		}
	}
	f.fields(place{}, ours, sections)
	f.setting(place{}, "", rest, f.settings, names(sections))
	f.readIssuers(metadata, exact, patterns)
}

// setting takes the settings among the members of a mapping, whose keys all
// begin with prefix in defaults. Viper makes no difference between capitals and
// small letters, so a key of any is known.
func (f *configFile) setting(at place, prefix string, members []member, into map[string]any, sections []string) {
	known := slices.Clone(sections)
	for key := range defaults {
		if rest, ok := strings.CutPrefix(key, prefix); ok {
			key, _, _ = strings.Cut(rest, "::")
			known = append(known, key)
		}
	}
	slices.Sort(known)
	known = slices.Compact(known)
	for _, m := range members {
		key, here := strings.ToLower(m.key), at.in(m.key, m.line)
		if into[key] != nil {
			if !m.merged {
				f.mistake(here, "stands in the file already, with other capitals; a key stands once")
			}
			continue
		}
		switch standard, ok := defaults[prefix+key]; {
		case ok:
			value, ok := "", true
			if slices.Contains(lists, prefix+key) && expanded(m.value).Kind == yaml.SequenceNode {
				var members []string
				for _, n := range f.list(here, m.value) {
					members = append(members, f.text(here, n))
				}
				value = strings.Join(members, ",")
			} else {
				value, ok = f.scalar(here, m.value, standard)
			}
			if ok {
				into[key] = value
				f.given[dotted(prefix+key)] = setting{m.line, value}
			}
		case slices.Contains(known, key) && !slices.Contains(sections, key):
			below := map[string]any{}
			into[key] = below
			f.setting(here, prefix+key+"::", f.mapping(here, m.value), below, nil)
		default:
			f.unknown(here, m.key, known)
		}
	}
}

// dotted is a key of defaults as a reader knows it.
func dotted(key string) string { return strings.ReplaceAll(key, "::", ".") }

// scalar returns the value of a setting as it is written, so that it is read as one of
// a flag or the environment is: no number is cut, and none becomes true. No value is as
// if the key were not there.
func (f *configFile) scalar(at place, n *yaml.Node, standard any) (value string, ok bool) {
	n = expanded(n)
	if isNull(n) {
		return "", false
	}
	var decoded any
	_, isText := standard.(string)
	switch {
	case n.Kind != yaml.ScalarNode || n.ShortTag() == binaryTag:
		f.mistake(at, "is %s; %s is required", kind(n), example(standard))
	case n.Decode(&decoded) != nil:
		f.mistake(at, "is %s, which does not fit its tag; %s is required", kind(n), example(standard))
	case n.Value == "" && !isText:
		f.mistake(at, "is empty; %s is required", example(standard))
	default:
		return n.Value, true
	}
	return "", false
}

// example says what a setting looks like, by its default.
func example(standard any) string {
	switch v := standard.(type) {
	case bool:
		return "true or false"
	case int:
		return fmt.Sprintf("a number such as %d", v)
	case string:
		if v != "" {
			return fmt.Sprintf("a text such as %q", v)
		}
	}
	return "a text"
}
