package identity

import (
	"strings"
	"testing"
	"time"

	"github.com/sigstack/sigstack/ca/ext"
)

// ciClaims is a token of a CI system, changed by the pairs name, value.
func ciClaims(change ...any) map[string]any {
	c := map[string]any{
		"iss": emailURL, "sub": "project/widget", "aud": "sigstore", "exp": t0.Add(5 * time.Minute).Unix(),
		"repo": "acme/widget", "file": "ci/build.yml", "branch": "main", "kind": "branch", "event": "push", "run": 17, "big": 9007199254740993,
		"rate": 1.5, "even": 2e3, "forked": false, "ci.example.com/host": "runner-1", "nested": map[string]any{"a": "b"}, "empty": "", "nothing": nil,
	}
	return changed(c, change)
}

func ciIssuer(t *Templates) Issuer {
	return Issuer{URL: emailURL, ClientID: "sigstore", Type: "ci-provider", Templates: t}
}

// render asks for a certificate with one template, of the SAN or of the build signer URI.
func render(t *testing.T, templates Templates, claims map[string]any) (Identity, error) {
	t.Helper()
	v, _, _ := setup(t, []Issuer{ciIssuer(&templates)}, newFake(emailURL))
	id, got, err := verify(t, v, es256().token(claims))
	if (got == accepted) != (err == nil) || got == unavailable {
		t.Fatalf("%s: %v", got, err)
	}
	return id, err
}

func TestTemplates(t *testing.T) {
	defaults := map[string]string{"url": "https://ci.example.com", "repo": "", "late": "", "place": "eu"}
	for _, c := range []struct {
		text   string
		change []any
		want   string // the value, or what the error says if it starts with "!"
	}{
		{"event", nil, "push"},
		{"event", []any{"event", absent}, `!the claim "event" is missing`},
		{"event", []any{"event", nil}, `!the claim "event" is missing`},
		{"event", []any{"event", ""}, ""},
		{"event", []any{"event", "a\nb"}, "!control character"},
		{"event", []any{"event", "/with/ slashes/"}, "/with/ slashes/"}, // it stands alone
		{"{{.event}}", nil, "push"},
		{"{{ .event }}", []any{"event", absent}, `!the claim "event" is missing`},
		{`{{ index . "event" }}`, []any{"event", absent}, ""},
		{`{{ index . "ci.example.com/host" }}`, nil, "runner-1"},
		{`on-{{ index . "ci.example.com/host" }}`, nil, "on-runner-1"},
		{`on-{{ index . "ci.example.com/host" }}`, []any{"ci.example.com/host", absent}, `!the claim "ci.example.com/host" is missing`},
		{"{{.url}}/{{.file}}@{{.branch}}", nil, "https://ci.example.com/ci/build.yml@main"},
		{"{{.url}}/{{.file}}@{{.branch}}", []any{"branch", ""}, `!the claim "branch" is empty`},
		{"{{.url}}/{{.file}}@{{.branch}}", []any{"branch", absent}, `!the claim "branch" is missing`},
		{"{{.url}}/{{.file}}", []any{"file", "../evil"}, "!cannot be part of a path"},
		{"{{.url}}/{{.file}}", []any{"file", "a/./b"}, "!cannot be part of a path"},
		{"{{.url}}/{{.file}}", []any{"file", "/a"}, "!cannot be part of a path"},
		{"{{.url}}/{{.file}}", []any{"file", "a/"}, "!cannot be part of a path"},
		{"{{.url}}/{{.file}}", []any{"file", "a//b/...c/..d"}, "https://ci.example.com/a//b/...c/..d"},
		{"{{.url}}/{{.file}}", []any{"url", "https://ci.example.com"}, "https://ci.example.com/ci/build.yml"},
		{"{{.url}}/{{.file}}", []any{"url", "https://evil.example.net"}, `!where the configuration has the constant "https://ci.example.com"`},
		{"{{.url}}/{{.file}}", []any{"url", ""}, "!the constant"},
		{"{{.url}}/{{.file}}", []any{"url", 5}, "!the constant"},
		{"{{.place}}-{{.file}}", []any{"place", "us"}, "us-ci/build.yml"}, // Overridable
		{"{{.place}}-{{.file}}", nil, "eu-ci/build.yml"},
		{"late", nil, ""},
		{"late", []any{"late", "x"}, "x"},
		{"{{.url}}/{{.late}}", nil, "https://ci.example.com/"}, // an extension says what its default says
		{`{{if .late}}{{.url}}/{{.late}}{{end}}`, nil, ""},
		{`refs/{{if eq .kind "branch"}}heads{{else}}tags{{end}}/{{.branch}}`, nil, "refs/heads/main"},
		{`refs/{{if eq .kind "branch"}}heads{{else}}tags{{end}}/{{.branch}}`, []any{"kind", "tag"}, "refs/tags/main"},
		{`refs/{{if eq .kind "branch"}}heads{{else}}tags{{end}}/{{.branch}}`, []any{"kind", absent}, `!the claim "kind" is missing`},
		{"run-{{.run}}", nil, "run-17"},
		{"run-{{.run}}", []any{"run", -3}, "run--3"},
		{"big", nil, "9007199254740993"},
		{"rate", nil, "1.5"},
		{"even", nil, "2000"},
		{"forked", nil, "false"},
		{"nested", nil, "!is an object or a list"},
		{"nothing", nil, "!is missing"},
		{"run", []any{"run", []int{1}}, "!is an object or a list"},
		{`{{printf "%s:%s" .kind .branch}}`, nil, "branch:main"},
		{`{{.branch | printf "%q"}}`, nil, `"main"`},
		{"{{.event}}{{.event}}", []any{"event", strings.Repeat("x", 3000)}, "!longer than 4096 bytes"},
		{"<{{.event}}>", []any{"event", "<&\">"}, "<<&\">>"}, // as Fulcio has it since 1.7.1: nothing is escaped
	} {
		id, err := render(t, Templates{
			SAN: "https://ci.example.com/{{.sub}}", Extensions: map[string]string{"build-signer-uri": c.text}, Defaults: defaults, Overridable: []string{"place"},
		}, ciClaims(c.change...))
		refusal, refused := strings.CutPrefix(c.want, "!")
		switch {
		case refused && (err == nil || !strings.Contains(err.Error(), refusal) || !strings.Contains(err.Error(), "build-signer-uri")):
			t.Errorf("%s %v: %q, %v; want an error with %q", c.text, c.change, id.Extensions().BuildSignerURI, err, refusal)
		case !refused && (err != nil || id.Extensions().BuildSignerURI != c.want):
			t.Errorf("%s %v: %q, %v; want %q", c.text, c.change, id.Extensions().BuildSignerURI, err, c.want)
		}
	}
}

func TestTemplateSAN(t *testing.T) {
	for _, c := range []struct {
		text   string
		change []any
		want   string
	}{
		{"{{.url}}/{{.repo}}/{{.file}}", nil, "https://ci.example.com/acme/widget/ci/build.yml"},
		{"{{.url}}/{{.repo}}/{{.file}}", []any{"repo", ""}, `!the claim "repo" is empty`},
		{"{{.url}}/{{.repo}}/{{.file}}", []any{"repo", absent}, `!the claim "repo" is missing`}, // although a default stands for it
		{"{{.url}}/{{.repo}}/{{.file}}", []any{"file", "a b"}, "https://ci.example.com/acme/widget/a%20b"},
		{"{{.url}}/{{.repo}}/{{.file}}", []any{"file", "a%20b"}, "https://ci.example.com/acme/widget/a%2520b"},
		{"{{.url}}/{{.repo}}/{{.file}}", []any{"file", "../../x"}, "!cannot be part of a path"},
		{"{{.url}}/{{.repo}}", []any{"url", "https://evil.example.net"}, "!constant"},
		{`{{.url}}/{{ index . "file" }}`, nil, "https://ci.example.com/ci/build.yml"},
		{`{{.url}}/{{ index . "file" }}`, []any{"file", absent}, `!the claim "file" is missing`},
		{`{{ index . "file" }}`, []any{"file", absent}, `!the claim "file" is missing`},
		{"https://{{.file}}", []any{"file", "ci.example.com/a//b.yml@refs/heads/main"}, "https://ci.example.com/a//b.yml@refs/heads/main"},
		{"https://{{.file}}", []any{"file", "ci.example.com@evil.example.net/a"}, "!not an absolute URI"},
		{"{{.repo}}", nil, "!not an absolute URI"},
		{"repo", []any{"repo", "https://ci.example.com/a%20b"}, "https://ci.example.com/a%20b"},
		{"repo", []any{"repo", "https://ci.example.com/a b"}, "!normal spelling"},
		{"repo", []any{"repo", ""}, `!the claim "repo" is empty`},
		{"mailto:{{.repo}}", nil, "!not an absolute URI"},
	} {
		id, err := render(t, Templates{SAN: c.text, Defaults: map[string]string{"url": "https://ci.example.com", "repo": ""}}, ciClaims(c.change...))
		refusal, refused := strings.CutPrefix(c.want, "!")
		switch {
		case refused && (err == nil || !strings.Contains(err.Error(), refusal)):
			t.Errorf("%s %v: %v, %v; want an error with %q", c.text, c.change, id.SAN(), err, refusal)
		case !refused && (err != nil || id.SAN() != ext.SAN{Kind: ext.URI, Value: c.want}):
			t.Errorf("%s %v: %v, %v; want %q", c.text, c.change, id.SAN(), err, c.want)
		}
	}
}

// What cannot work with any token is refused with the configuration.
func TestTemplatesRefused(t *testing.T) {
	good := Templates{Name: "ours", SAN: "https://ci.example.com/{{.repo}}", Extensions: map[string]string{"build-trigger": "event"}, Defaults: map[string]string{"url": "https://ci.example.com"}}
	if err := ciIssuer(&good).Check(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		change func(*Templates)
		want   string
	}{
		{func(t *Templates) { t.SAN = " " }, "subject alternative name is missing"},
		{func(t *Templates) { t.SAN = "https://{{.repo" }, "subject alternative name"},
		{func(t *Templates) { t.SAN = "{{.repo.name}}" }, "claims have no fields"},
		{func(t *Templates) { t.SAN = "{{.repo}}" + strings.Repeat("x", ext.MaxValue) }, "at most 4096"},
		{func(t *Templates) { t.SAN = "{{nosuch .repo}}" }, "nosuch"},
		{func(t *Templates) { t.SAN = "https://ci.example.com/{{`everybody`}}" }, "uses no claim"},
		{func(t *Templates) { t.SAN = "{{range .repo}}{{.}}{{end}}" }, "not supported"},
		{func(t *Templates) { t.SAN = "{{with .repo}}{{.}}{{end}}" }, "not supported"},
		{func(t *Templates) { t.SAN = "{{$x := .repo}}{{$x}}" }, "variable"},
		{func(t *Templates) { t.SAN = "{{.}}" }, "not supported"},
		{func(t *Templates) { t.SAN = `{{define "x"}}{{end}}{{.repo}}` }, "inside a template"},
		{func(t *Templates) { t.SAN = `{{template "x" .repo}}` }, "not supported"},
		{func(t *Templates) { t.SAN = "{{index . .repo}}" }, "index is used as"},
		{func(t *Templates) { t.SAN = "{{index . `a` `b`}}" }, "index is used as"},
		{func(t *Templates) { t.SAN = "{{index .repo 1}}" }, "index is used as"},
		{func(t *Templates) { t.Extensions = map[string]string{"build-signer": "repo"} }, `extension "build-signer" is not known`},
		{func(t *Templates) { t.Extensions = map[string]string{"issuer": "repo"} }, `extension "issuer" is not known`},
		{func(t *Templates) { t.Extensions = map[string]string{"": "repo"} }, `extension "" is not known`},
		{func(t *Templates) { t.Extensions = map[string]string{"build-trigger": "{{"} }, `extension "build-trigger"`},
		{func(t *Templates) { t.Overridable = []string{"repo"} }, "overridable"},
		{func(t *Templates) { t.Defaults = map[string]string{"url": "a\nb"} }, "control character"},
	} {
		bad := good
		c.change(&bad)
		if err := ciIssuer(&bad).Check(); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), `templates "ours"`) {
			t.Errorf("%+v: %v, want %q", bad, err, c.want)
		}
	}
	if err := ciIssuer(nil).Check(); err == nil || !strings.Contains(err.Error(), "Templates are missing") {
		t.Errorf("no templates: %v", err)
	}
	for name, i := range map[string]Issuer{
		"email with templates":     {URL: emailURL, ClientID: "c", Type: "email", Templates: &good},
		"templates and a domain":   {URL: emailURL, ClientID: "c", Type: "ci-provider", Templates: &good, SubjectDomain: "https://example.com"},
		"github with templates":    {URL: emailURL, ClientID: "c", Type: "github-workflow", Templates: &good},
		"templates and a trust":    {URL: emailURL, ClientID: "c", Type: "ci-provider", Templates: &good, SPIFFETrustDomain: "example.com"},
		"kubernetes with a domain": {URL: emailURL, ClientID: "c", Type: "kubernetes", SubjectDomain: "example.com"},
	} {
		if err := i.Check(); err == nil || !strings.Contains(err.Error(), "which has no meaning") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// All keys of a configuration lead to a value of their own.
func TestExtensionKeys(t *testing.T) {
	keys := ext.Keys()
	if len(keys) != 20 {
		t.Fatalf("%d keys, want 20: .2 to .6 and .9 to .23", len(keys))
	}
	templates := Templates{SAN: "https://ci.example.com/{{.repo}}", Extensions: map[string]string{}}
	claims := ciClaims()
	for _, key := range keys {
		templates.Extensions[key] = "value-of-" + key
		claims["value-of-"+key] = key
	}
	id, err := render(t, templates, claims)
	if err != nil {
		t.Fatal(err)
	}
	values := id.Extensions()
	seen := map[string]bool{}
	for _, key := range keys {
		field, ok := values.Field(key)
		if !ok || *field != key || seen[key] {
			t.Errorf("%s: %v", key, field)
		}
		seen[key] = true
	}
	if values.Issuer != emailURL || values.Subject != "project/widget" {
		t.Errorf("%+v", values)
	}
	list, err := values.Extensions()
	if err != nil || len(list) != 23 {
		t.Errorf("%d extensions, want .1 to .6 and .8 to .24: %v", len(list), err)
	}
}
