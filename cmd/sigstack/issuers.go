package main

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/sigstack/sigstack/ca/ext"
	"github.com/sigstack/sigstack/ca/identity"
)

// The sections about identity providers have the keys of Fulcio's configuration,
// so that its file is one of ours. What Fulcio finds out when a token comes, or
// never, is a mistake here.
//
//	oidc-issuers:                          # by their URL, or by any name
//	  https://token.actions.githubusercontent.com:
//	    type: ci-provider
//	    ci-provider: github
//	meta-issuers:                          # patterns
//	  https://oidc.eks.*.amazonaws.com/id/*:
//	    type: kubernetes
//	ci-issuer-metadata:
//	  github:
//	    default-template-values: {url: https://github.com}
//	    extension-templates: {source-repository-uri: "{{.url}}/{{.repository}}"}
//	    subject-alternative-name-template: "{{.url}}/{{.job_workflow_ref}}"

// A section is the value of a top-level key.
type section struct {
	at   place
	node *yaml.Node // nil where the key is missing
}

func (s *section) take(at place, n *yaml.Node) { s.at, s.node = at, n }

// members returns the members of a section.
func (s section) members(f *configFile) []member {
	if s.node == nil {
		return nil
	}
	return f.mapping(s.at, s.node)
}

// Providers are the entries of ci-issuer-metadata, by their names.
type providers struct {
	templates map[string]*identity.Templates
	names     []string // sorted
}

// readIssuers decodes the identity providers, in the order of the file.
func (f *configFile) readIssuers(metadata, exact, patterns section) {
	ci := providers{templates: map[string]*identity.Templates{}}
	for _, m := range metadata.members(f) {
		at := metadata.at.in(m.key, m.line)
		t := f.templates(at, m)
		// What is wrong with templates is said once, not for each issuer that shares them.
		if err := (identity.Issuer{URL: "https://issuer.invalid", ClientID: defaultClientID, Type: ciProvider, Templates: t}).Check(); err != nil {
			f.mistake(at, "%v", err)
		}
		ci.templates[m.key] = t
		ci.names = append(ci.names, m.key)
	}
	slices.Sort(ci.names)
	lines := map[string]int{} // of issuers, by their URLs
	read := func(s section, url func(at place, m member, given string) string) {
		for _, m := range s.members(f) {
			at := s.at.in(m.key, m.line)
			issuer := f.issuer(at, m, ci, url)
			if issuer.URL == "" { // which has been noted
				continue
			}
			if line := lines[issuer.URL]; line > 0 {
				f.mistake(at, "its URL %s is that of the issuer in line %d; an issuer stands once", shown(issuer.URL), line)
				continue
			}
			lines[issuer.URL] = m.line
			f.issuers = append(f.issuers, issuer)
		}
	}
	read(exact, f.exactURL)
	read(patterns, f.patternURL)
}

const (
	ciProvider      = "ci-provider" // the issuer type
	defaultClientID = "sigstore"    // what clients have in the aud of their tokens
)

// issuer decodes one identity provider.
func (f *configFile) issuer(at place, m member, ci providers, url func(place, member, string) string) identity.Issuer {
	var i identity.Issuer
	var given, name string
	named := at
	text := func(to *string) func(place, *yaml.Node) {
		return func(at place, n *yaml.Node) { *to = f.text(at, n) }
	}
	f.fields(at, f.mapping(at, m.value), []field{
		{"issuer-url", text(&given)},
		{"client-id", text(&i.ClientID)},
		{"type", text(&i.Type)},
		{"ci-provider", func(at place, n *yaml.Node) { named, name = at, f.text(at, n) }},
		{"issuer-claim", text(&i.IssuerClaim)},
		{"subject-domain", text(&i.SubjectDomain)},
		{"spiffe-trust-domain", text(&i.SPIFFETrustDomain)},
		{"challenge-claim", text(&i.Challenge)},
		{"skip-email-verification", func(at place, n *yaml.Node) { i.SkipEmailVerification = f.truth(at, n) }},
		{"max-token-age", func(at place, n *yaml.Node) { i.MaxTokenAge = f.duration(at, n) }}, // ours
		{"one-time-tokens", func(at place, n *yaml.Node) { i.OneTime = f.truth(at, n) }},      // ours
		{"ca-cert", text(&i.CACert)},
		{"description", text(&i.Description)},
		{"contact", text(&i.Contact)},
		{"environment", func(at place, n *yaml.Node) { f.text(at, n) }}, // a label of the public instance's own tools
	})
	if i.ClientID == "" {
		i.ClientID = defaultClientID
	}
	i.URL = url(at, m, given)
	i.Templates = ci.templates[name]
	switch {
	case i.Type != ciProvider && name != "":
		f.mistake(named, "is given, but type is %s; say type: ci-provider, or leave it away", shown(i.Type))
	case i.Type == ciProvider && name == "":
		f.mistake(at, "ci-provider is missing, which the type ci-provider needs; name an entry of ci-issuer-metadata: %s", meant(name, ci.names))
	case i.Type == ciProvider && i.Templates == nil:
		f.mistake(named, "ci-issuer-metadata has no %s; %s", shown(name), meant(name, ci.names))
	}
	if i.URL != "" {
		checked := i
		checked.Templates = nil
		if i.Type == ciProvider { // its own have been checked
			checked.Templates = &identity.Templates{Name: "other", SAN: "sub"}
		}
		if err := checked.Check(); err != nil {
			f.mistake(at, "%v", err)
		}
	}
	return i
}

// exactURL is the URL of an entry of oidc-issuers. Fulcio compares the key with
// the issuer of a token, and asks issuer-url for its keys; two are a mistake.
func (f *configFile) exactURL(at place, m member, given string) string {
	isURL := strings.Contains(m.key, "://")
	switch {
	case given == "" && !isURL:
		f.mistake(at, "issuer-url is missing, and the key is not a URL; write issuer-url: https://...")
	case given != "" && isURL && given != m.key:
		f.mistake(at, "the key is not the issuer-url, %s; a key that is a URL is the issuer-url", shown(given))
	case strings.Contains(given+m.key, "*"):
		f.mistake(at, "is a pattern; patterns stand in meta-issuers, as keys")
	case given == "":
		return m.key
	default:
		return given
	}
	return ""
}

// patternURL is the pattern of an entry of meta-issuers.
func (f *configFile) patternURL(at place, m member, given string) string {
	switch {
	case !strings.Contains(m.key, "*"):
		f.mistake(at, "is not a pattern: it has no *; an issuer with one URL stands in oidc-issuers")
	case given != "" && given != m.key:
		f.mistake(at, "the key is not the issuer-url, %s; the key is the pattern, leave issuer-url away", shown(given))
	default:
		return m.key
	}
	return ""
}

// templates decodes one entry of ci-issuer-metadata.
func (f *configFile) templates(at place, m member) *identity.Templates {
	t := &identity.Templates{Name: m.key, Extensions: map[string]string{}, Defaults: map[string]string{}}
	var extensions []field
	for _, key := range ext.Keys() {
		extensions = append(extensions, field{key, func(at place, n *yaml.Node) {
			if text := f.text(at, n); text != "" {
				t.Extensions[key] = text
			}
		}})
	}
	for _, key := range []string{"issuer", "subject"} { // Fulcio passes over them as well: the token says both
		extensions = append(extensions, field{key, func(at place, n *yaml.Node) { f.text(at, n) }})
	}
	type named struct {
		at   place
		name string
	}
	var overridable []named
	f.fields(at, f.mapping(at, m.value), []field{
		{"default-template-values", func(at place, n *yaml.Node) {
			for _, m := range f.mapping(at, n) {
				t.Defaults[m.key] = f.text(at.in(m.key, m.line), m.value)
			}
		}},
		{"extension-templates", func(at place, n *yaml.Node) { f.fields(at, f.mapping(at, n), extensions) }},
		{"subject-alternative-name-template", func(at place, n *yaml.Node) { t.SAN = f.text(at, n) }},
		{"overridable-template-values", func(at place, n *yaml.Node) {
			for _, n := range f.list(at, n) {
				at := place{n.Line, at.key}
				overridable = append(overridable, named{at, f.text(at, n)})
			}
		}},
	})
	values := slices.Sorted(maps.Keys(t.Defaults))
	for _, o := range overridable {
		if !f.count() {
			break
		}
		if _, ok := t.Defaults[o.name]; !ok {
			f.mistake(o.at, "%s is not in default-template-values; %s", shown(o.name), meant(o.name, values))
			continue
		}
		t.Overridable = append(t.Overridable, o.name)
	}
	return t
}

// devIssuers are the two faces of the development issuer, if there is one. Without
// a URL of its own it is where Listen is.
func (c *Config) devIssuers() []identity.Issuer {
	if !c.Dev {
		return nil
	}
	base := cmp.Or(c.URL, c.scheme()+"://"+c.Listen) + "/oidc"
	return []identity.Issuer{
		{URL: base, ClientID: defaultClientID, Type: "email", InsecureHTTP: true},
		{URL: base + "/github", ClientID: defaultClientID, Type: "github-workflow", InsecureHTTP: true},
	}
}

// checkIssuers refuses a configuration that lets nobody have a certificate.
func (c *Config) checkIssuers() error {
	if !c.Dev && len(c.issuers) == 0 {
		return errors.New("oidc-issuers: none is configured, so no certificate could be issued; name one, or use --dev for a development issuer")
	}
	return nil
}

// issuerCount says how many identity providers a configuration has.
func (c *Config) issuerCount() string {
	if len(c.issuers) == 1 {
		return "1 issuer"
	}
	return fmt.Sprintf("%d issuers", len(c.issuers))
}
