package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/sigstack/sigstack/ca/identity"
	"github.com/sigstack/sigstack/test/fuzz"
)

// writeConfig writes a configuration file and returns its name.
func writeConfig(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "sigstack.yaml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestIssuers reads identity providers in all ways to write them.
func TestIssuers(t *testing.T) {
	login := identity.Issuer{URL: "https://login.example.com", ClientID: "sigstore", Type: "email"}
	build := identity.Issuer{URL: "https://ci.example.com", ClientID: "sigstore", Type: "ci-provider", Templates: &identity.Templates{
		Name: "ours", SAN: "{{.url}}/{{.job}}",
		Extensions: map[string]string{"build-signer-uri": "{{.url}}/{{.job}}", "github-workflow-sha": "sha"},
		Defaults:   map[string]string{"url": "https://ci.example.com", "environment": ""},
	}}
	overridable := build
	overridable.Templates = new(*build.Templates)
	overridable.Templates.Overridable = []string{"url"}
	second := build
	second.URL = "https://ci.example.org"
	pattern := identity.Issuer{URL: "https://*.example.com/id/*", ClientID: "sigstore", Type: "kubernetes"}

	for name, test := range map[string]struct {
		text string
		want []identity.Issuer
	}{
		"empty":          {"", nil},
		"comments":       {"# nothing\n", nil},
		"null":           {"null\n", nil},
		"empty section":  {"oidc-issuers:\nmeta-issuers: {}\nca:\ndata-dir:\n", nil},
		"by any name":    {"oidc-issuers: {login: {issuer-url: https://login.example.com, type: email}}\n", []identity.Issuer{login}},
		"by URL":         {"oidc-issuers: {https://login.example.com: {type: email}}\n", []identity.Issuer{login}},
		"by URL, twice":  {"oidc-issuers: {https://login.example.com: {issuer-url: https://login.example.com, type: email}}\n", []identity.Issuer{login}},
		"client-id null": {"oidc-issuers: {https://login.example.com: {type: email, client-id: }}\n", []identity.Issuer{login}},
		"JSON":           {`{"OIDCIssuers": {"https://login.example.com": {"IssuerURL": "https:\/\/login.example.com", "Type": "email"}}}`, []identity.Issuer{login}},
		"JSON with tabs": {"{\n\t\"OIDCIssuers\":\t{\n\t\t\"login\":\t{\n\t\t\t\"IssuerURL\":\t\"https://login.example.com\",\n\t\t\t\"Type\":\t\"email\"\n\t\t}\n\t}\n}\n", []identity.Issuer{login}},
		"JSON with a surrogate pair": {`{"OIDCIssuers": {"https://login.example.com": {"Type": "email", "Description": "\ud83d\ude00"}}}`,
			[]identity.Issuer{{URL: login.URL, ClientID: "sigstore", Type: "email", Description: "\U0001F600"}}},
		"JSON with the keys of YAML": {`{"oidc-issuers": {"https://login.example.com": {"type": "email"}}}`, []identity.Issuer{login}},
		"YAML with the keys of JSON": {"OIDCIssuers:\n  https://login.example.com:\n    Type: email\n", []identity.Issuer{login}},
		"beside settings":            {"url: https://sigstore.example.com\nca: {key-type: p256}\noidc-issuers: {https://login.example.com: {type: email}}\nListen: localhost:1\n", []identity.Issuer{login}},
		"capitals in a name":         {"oidc-issuers: {https://login.example.com/Realm: {type: email}}\n", []identity.Issuer{{URL: "https://login.example.com/Realm", ClientID: "sigstore", Type: "email"}}},
		"every key": {`oidc-issuers:
  one:
    issuer-url: https://login.example.com
    client-id: 4711
    type: email
    issuer-claim: $.connector
    challenge-claim: email
    skip-email-verification: true
    one-time-tokens: true
    description: 2026-11-21
    contact: a@example.com
    environment: staging
  two: {issuer-url: https://uri.example.com, type: uri, subject-domain: https://uri.example.com}
  three: {issuer-url: https://spiffe.example.com, type: spiffe, spiffe-trust-domain: example.com, skip-email-verification: , max-token-age: , one-time-tokens: }
`, []identity.Issuer{
			{URL: "https://login.example.com", ClientID: "4711", Type: "email", IssuerClaim: "$.connector", Challenge: "email", SkipEmailVerification: true, OneTime: true, Description: "2026-11-21", Contact: "a@example.com"},
			{URL: "https://uri.example.com", ClientID: "sigstore", Type: "uri", SubjectDomain: "https://uri.example.com"},
			{URL: "https://spiffe.example.com", ClientID: "sigstore", Type: "spiffe", SPIFFETrustDomain: "example.com"},
		}},
		"every key of JSON": {`{"OIDCIssuers": {
			"https://login.example.com": {"IssuerURL": "https://login.example.com", "ClientID": "sigstore", "Type": "email", "IssuerClaim": "$.connector", "ChallengeClaim": "email", "SkipEmailVerification": true, "OneTimeTokens": true, "Description": "d", "Contact": "c", "Environment": "e"},
			"https://uri.example.com": {"ClientID": "sigstore", "Type": "uri", "SubjectDomain": "https://uri.example.com"},
			"https://spiffe.example.com": {"ClientID": "sigstore", "Type": "spiffe", "SPIFFETrustDomain": "example.com"}}}`, []identity.Issuer{
			{URL: "https://login.example.com", ClientID: "sigstore", Type: "email", IssuerClaim: "$.connector", Challenge: "email", SkipEmailVerification: true, OneTime: true, Description: "d", Contact: "c"},
			{URL: "https://uri.example.com", ClientID: "sigstore", Type: "uri", SubjectDomain: "https://uri.example.com"},
			{URL: "https://spiffe.example.com", ClientID: "sigstore", Type: "spiffe", SPIFFETrustDomain: "example.com"},
		}},
		"a pattern":                  {"meta-issuers: {'https://*.example.com/id/*': {type: kubernetes}}\n", []identity.Issuer{pattern}},
		"a pattern with its own URL": {"meta-issuers: {'https://*.example.com/id/*': {type: kubernetes, issuer-url: 'https://*.example.com/id/*'}}\n", []identity.Issuer{pattern}},
		"JSON pattern":               {`{"MetaIssuers": {"https://*.example.com/id/*": {"Type": "kubernetes"}}}`, []identity.Issuer{pattern}},
		"the order of the file": {"meta-issuers: {'https://*.example.com/id/*': {type: kubernetes}}\noidc-issuers: {z: {issuer-url: https://z.example.com, type: email}, https://login.example.com: {type: email}}\n",
			[]identity.Issuer{{URL: "https://z.example.com", ClientID: "sigstore", Type: "email"}, login, pattern}},
		"templates": {`ci-issuer-metadata:
  ours:
    default-template-values: {url: https://ci.example.com, environment: }
    extension-templates: {build-signer-uri: "{{.url}}/{{.job}}", github-workflow-sha: sha, issuer: iss, subject: sub, build-trigger: ""}
    subject-alternative-name-template: "{{.url}}/{{.job}}"
oidc-issuers: {https://ci.example.com: {type: ci-provider, ci-provider: ours}, https://ci.example.org: {type: ci-provider, ci-provider: ours}}
`, []identity.Issuer{build, second}},
		"JSON templates": {`{"OIDCIssuers": {"https://ci.example.com": {"Type": "ci-provider", "CIProvider": "ours"}}, "CIIssuerMetadata": {"ours": {
			"DefaultTemplateValues": {"url": "https://ci.example.com", "environment": ""},
			"ExtensionTemplates": {"BuildSignerURI": "{{.url}}/{{.job}}", "GithubWorkflowSHA": "sha", "Issuer": "iss", "Subject": "sub"},
			"SubjectAlternativeNameTemplate": "{{.url}}/{{.job}}",
			"OverridableTemplateValues": ["url"]}}}`, []identity.Issuer{overridable}},
		"templates that nobody uses": {"ci-issuer-metadata: {ours: {subject-alternative-name-template: '{{.url}}'}}\n", nil},
		"anchors": {`define:
  - &common {client-id: other, type: email}
  - &person {<<: *common, client-id: sigstore}
  - &key https://login.example.com
  - deep: {anything: [goes, {here: true}]}
oidc-issuers:
  *key : *person
`, []identity.Issuer{login}},
		"a merge of several: the first goes first": {`define: {a: &a {client-id: sigstore}, b: &b {client-id: other, type: email}}
oidc-issuers:
  https://login.example.com: {<<: [*a, *b]}
`, []identity.Issuer{login}},
		"a merge, in both spellings": {"define: {a: &a {ClientID: other, Type: uri}}\noidc-issuers: {https://login.example.com: {<<: *a, client-id: sigstore, type: email}}\n", []identity.Issuer{login}},
		"a merge of issuers":         {"define: {a: &a {https://login.example.com: {type: email}}}\noidc-issuers: {<<: *a}\n", []identity.Issuer{login}},
		"a merge of names that are free": {`define: &a {environment: prod, url: https://ci.example.org}
ci-issuer-metadata:
  ours:
    default-template-values: {<<: *a, url: https://ci.example.com, environment: ""}
    extension-templates: {build-signer-uri: "{{.url}}/{{.job}}", github-workflow-sha: sha}
    subject-alternative-name-template: "{{.url}}/{{.job}}"
oidc-issuers: {https://ci.example.com: {type: ci-provider, ci-provider: ours}}
`, []identity.Issuer{build}},
		"a merge at the top":   {"define: &a {oidc-issuers: {https://login.example.com: {type: email}}}\n<<: *a\n", []identity.Issuer{login}},
		"a quoted << is a key": {"ci-issuer-metadata: {\"<<\": {subject-alternative-name-template: sub}}\noidc-issuers: {https://login.example.com: {type: email}}\n", []identity.Issuer{login}},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := loadFile(writeConfig(t, test.text))
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(c.issuers, test.want) {
				t.Fatalf("got  %+v\nwant %+v", c.issuers, test.want)
			}
		})
	}
}

// TestPublicConfiguration reads what the public instance accepts, as YAML and as
// JSON.
func TestPublicConfiguration(t *testing.T) {
	const file = "testdata/fulcio.yaml"
	c, err := loadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	types, shared := map[string]int{}, map[*identity.Templates]int{}
	for _, i := range c.issuers {
		types[i.Type]++
		if i.ClientID != "sigstore" || (i.Type == "ci-provider") != (i.Templates != nil) {
			t.Errorf("%+v", i)
		}
		shared[i.Templates]++
	}
	if want := map[string]int{"email": 7, "chainguard-identity": 1, "ci-provider": 16, "kubernetes": 7}; !reflect.DeepEqual(types, want) {
		t.Errorf("issuers: %v, want %v", types, want)
	}
	if len(shared) != 7 { // with nil, for those without
		t.Errorf("%d sets of templates are in use, want 6", len(shared)-1)
	}
	if code, stdout, _ := command(t, "config", "check", file); code != exitOK || stdout != file+": 31 issuers, no mistake\n" {
		t.Errorf("config check: exit code %d, %q", code, stdout)
	}

	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var tree map[string]any
	if err := yaml.Unmarshal(text, &tree); err != nil {
		t.Fatal(err)
	}
	delete(tree, "define")
	for _, section := range []string{"oidc-issuers", "meta-issuers", "ci-issuer-metadata"} {
		for name, entry := range tree[section].(map[string]any) {
			entry := entry.(map[string]any)
			if templates, ok := entry["extension-templates"]; ok {
				entry["extension-templates"] = inJSON(templates.(map[string]any))
			}
			tree[section].(map[string]any)[name] = inJSON(entry)
		}
	}
	text, err = json.MarshalIndent(inJSON(tree), "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	again, err := loadFile(writeConfig(t, string(text)))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []Config{c, again} {
		slices.SortFunc(c.issuers, func(a, b identity.Issuer) int { return cmp.Compare(a.URL, b.URL) })
	}
	if !reflect.DeepEqual(c.issuers, again.issuers) {
		t.Errorf("as JSON:\n%+v\nas YAML:\n%+v", again.issuers, c.issuers)
	}
}

// TestServedConfiguration asks a server with the public instance's configuration
// which issuers it takes.
func TestServedConfiguration(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	args := []string{"--config", "testdata/fulcio.yaml", "--data-dir", filepath.Join(t.TempDir(), "data"), "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"}
	if code, _, stderr := command(t, append([]string{"init", "--url", "https://sigstore.example.com"}, args...)...); code != exitOK {
		t.Fatalf("init: exit code %d, %q", code, stderr)
	}
	stdout, w := io.Pipe()
	var stderr bytes.Buffer // read when serve has ended
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, append([]string{"serve"}, args...), w, &stderr)
		w.Close()
	}()
	defer func() {
		cancel()
		io.Copy(io.Discard, stdout)
		if code := <-code; code != exitOK {
			t.Errorf("serve: exit code %d, %s", code, stderr.String())
		}
	}()
	var url string
	banner := bufio.NewScanner(stdout)
	for url == "" && banner.Scan() {
		url, _ = strings.CutPrefix(banner.Text(), "sigstack serves at ")
		url = strings.TrimPrefix(url, banner.Text())
	}
	go io.Copy(io.Discard, stdout)
	resp, err := http.Get(url + "/api/v2/configuration")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	type issuer struct {
		IssuerURL, WildcardIssuerURL, Audience, ChallengeClaim, SPIFFETrustDomain, IssuerType, SubjectDomain string
		SkipEmailVerification                                                                                bool
	}
	var got struct{ Issuers []issuer }
	if err := json.NewDecoder(resp.Body).Decode(&got); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("status %d, %v", resp.StatusCode, err)
	}
	text, err := os.ReadFile("testdata/fulcio.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var public struct {
		Exact    map[string]struct{ Type string } `yaml:"oidc-issuers"`
		Patterns map[string]struct{ Type string } `yaml:"meta-issuers"`
	}
	if err := yaml.Unmarshal(text, &public); err != nil {
		t.Fatal(err)
	}
	challenge := func(kind string) string {
		if kind == "email" {
			return "email"
		}
		return "sub"
	}
	want := map[issuer]bool{}
	for url, i := range public.Exact {
		want[issuer{IssuerURL: url, Audience: "sigstore", ChallengeClaim: challenge(i.Type), IssuerType: i.Type}] = true
	}
	for url, i := range public.Patterns {
		want[issuer{WildcardIssuerURL: url, Audience: "sigstore", ChallengeClaim: challenge(i.Type), IssuerType: i.Type}] = true
	}
	for _, i := range got.Issuers {
		if !want[i] {
			t.Errorf("%+v is not in the file", i)
		}
	}
	if len(got.Issuers) != len(want) || len(want) != 31 {
		t.Errorf("%d issuers are served, %d are in the file", len(got.Issuers), len(want))
	}
}

// inJSON spells the keys of a mapping as Fulcio's JSON has them.
func inJSON(m map[string]any) map[string]any {
	out := map[string]any{}
	for key, value := range m {
		out[map[string]string{
			"oidc-issuers": "OIDCIssuers", "meta-issuers": "MetaIssuers", "ci-issuer-metadata": "CIIssuerMetadata",
			"issuer-url": "IssuerURL", "client-id": "ClientID", "type": "Type", "ci-provider": "CIProvider", "issuer-claim": "IssuerClaim",
			"description": "Description", "contact": "Contact", "environment": "Environment",
			"default-template-values": "DefaultTemplateValues", "extension-templates": "ExtensionTemplates", "subject-alternative-name-template": "SubjectAlternativeNameTemplate",
			"github-workflow-trigger": "GithubWorkflowTrigger", "github-workflow-sha": "GithubWorkflowSHA", "github-workflow-name": "GithubWorkflowName",
			"github-workflow-repository": "GithubWorkflowRepository", "github-workflow-ref": "GithubWorkflowRef",
			"build-signer-uri": "BuildSignerURI", "build-signer-digest": "BuildSignerDigest", "runner-environment": "RunnerEnvironment",
			"source-repository-uri": "SourceRepositoryURI", "source-repository-digest": "SourceRepositoryDigest", "source-repository-ref": "SourceRepositoryRef",
			"source-repository-identifier": "SourceRepositoryIdentifier", "source-repository-owner-uri": "SourceRepositoryOwnerURI",
			"source-repository-owner-identifier": "SourceRepositoryOwnerIdentifier", "build-config-uri": "BuildConfigURI", "build-config-digest": "BuildConfigDigest",
			"build-trigger": "BuildTrigger", "run-invocation-uri": "RunInvocationURI",
			"source-repository-visibility-at-signing": "SourceRepositoryVisibilityAtSigning", "deployment-environment": "DeploymentEnvironment",
		}[key]] = value
	}
	return out
}

// TestMistakes holds each mistake to its line and its text, and to being the only one.
func TestMistakes(t *testing.T) {
	const (
		email = "oidc-issuers:\n  https://login.example.com:\n    type: email\n" // lines 1 to 3
		ci    = "ci-issuer-metadata:\n  ours:\n    subject-alternative-name-template: sub\n"
	)
	for name, test := range map[string]struct {
		text string
		want []string // the line, the key and a piece of what is wrong
	}{
		"not YAML":                      {"a: [\n", []string{":1: cannot be read as YAML or JSON: did not find"}},
		"not YAML, later":               {"dev: true\nca: {\n\tkey-type: p256}\n]\n", []string{":3: cannot be read as YAML or JSON: did not find expected key"}},
		"not UTF-8":                     {"dev: true\nurl: \xff\xfe\n", []string{":2: cannot be read as YAML or JSON: invalid"}},
		"unknown anchor":                {"dev: true\noidc-issuers: *none\n", []string{":2: cannot be read as YAML or JSON: unknown anchor 'none'"}},
		"a text":                        {"hello\n", []string{":1: is hello; keys with values are required"}},
		"a list":                        {"\n- url\n", []string{":2: is a list; keys"}},
		"a JSON list":                   {"\n[1]", []string{":2: is a list; keys"}},
		"two documents":                 {"dev: true\n---\ndev: false\n", []string{":2: cannot be read as YAML or JSON: a second document begins here"}},
		"unknown key":                   {"dev: true\nlisen: localhost:1\n", []string{":2: lisen: is not known; listen is near"}},
		"unknown key, far":              {"\n\ncolour: red\n", []string{":3: colour: is not known; known are ca, ci-issuer-metadata, "}},
		"unknown section":               {"oidc-issuer: {}\n", []string{":1: oidc-issuer: is not known; oidc-issuers is near"}},
		"a section with a wrong letter": {"OidcIssuers: {}\n", []string{":1: OidcIssuers: is not known; oidc-issuers is near"}},
		"unknown nested key":            {"ca:\n  keytype: p256\n", []string{":2: ca.keytype: is not known; key-type is near"}},
		"unknown key in JSON":           {"{\"dev\": true,\n\"ca\": {\n\"key_type\": \"p256\"}}", []string{":3: ca.key_type: is not known; key-type is near"}},
		"a strange key":                 {"\"a\\nb\": 1\n", []string{`:1: "a\nb": is not known`}},
		"a key twice":                   {"dev: true\nurl: https://a.example.com\ndev: false\n", []string{":3: dev: stands in line 1 already"}},
		"a key twice in JSON":           {"{\"dev\": true,\n\"dev\": false}", []string{":2: dev: stands in line 1 already"}},
		"a key twice, other capitals":   {"dev: true\nDEV: true\n", []string{":2: DEV: stands in the file already"}},
		"a section twice":               {email + "OIDCIssuers: {}\n", []string{":4: OIDCIssuers: is another spelling of oidc-issuers, which stands in line 1"}},
		"a list for a setting":          {"dev: true\nlisten: [a, b]\n", []string{`:2: listen: is a list; a text such as "localhost:8080" is required`}},
		"a mapping for a setting":       {"dev: {a: b}\n", []string{":1: dev: is a mapping; true or false is required"}},
		"a text for a section":          {"ca: p256\n", []string{":1: ca: is p256; keys with values"}},
		"a wrong boolean":               {"url: https://a.example.com\ndev: perhaps\n", []string{":2: dev: cannot parse value as 'bool'"}},
		"a wrong number":                {"rekor:\n  max-entry-bytes: many\n", []string{":2: rekor.max-entry-bytes: cannot parse"}},
		"a fraction":                    {"rekor:\n  max-entry-bytes: 4096.5\n", []string{":2: rekor.max-entry-bytes: cannot parse value as 'int64'"}},
		"a number for true or false":    {"dev: 5\n", []string{":1: dev: cannot parse value as 'bool'"}},
		"a boolean for a number":        {"min-free-bytes: true\n", []string{":1: min-free-bytes: cannot parse value as 'int64'"}},
		"a number of 70 bits":           {"min-free-bytes: 999999999999999999999\n", []string{":1: min-free-bytes: cannot parse value as 'int64': strconv.ParseInt: value out of range"}},
		"a fraction in JSON":            {"{\"min-free-bytes\": 1e30}", []string{":1: min-free-bytes: cannot parse value as 'int64'"}},
		"an empty number":               {"min-free-bytes: ''\n", []string{":1: min-free-bytes: is empty; a number such as"}},
		"a duration without a unit":     {"drain-delay: 5\n", []string{":1: drain-delay: time: missing unit in duration"}},
		"a binary setting":              {"operator: !!binary aGk=\n", []string{":1: operator: is binary; a text is required"}},
		"a wrong level":                 {"log-level: loud\n", []string{":1: log-level: "}},
		"a wrong duration":              {"drain-delay: soon\n", []string{":1: drain-delay: "}},
		"a wrong tag":                   {"url: !!int hello\n", []string{":1: url: is hello, which does not fit its tag"}},
		"a setting out of bounds":       {"\nrekor: {max-entry-bytes: 1}\n", []string{":2: rekor.max-entry-bytes: 1 is not between"}},
		"a setting that is missing":     {"storage: mysql\n", []string{": mysql.dsn-file: is empty"}},
		"several settings":              {"url: https://a.example.com/\nlisten: 8080\nca: {key-type: rsa}\n", []string{":1: url: ", ":2: listen: ", ":3: ca.key-type: "}},

		"issuers that are a list":    {"oidc-issuers:\n- issuer-url: https://login.example.com\n", []string{":1: oidc-issuers: is a list; keys"}},
		"an issuer that is a text":   {"oidc-issuers:\n  login: https://login.example.com\n", []string{":2: oidc-issuers.login: is https://login.example.com; keys", ":2: oidc-issuers.login: issuer-url is missing"}},
		"a key that is a list":       {"oidc-issuers:\n  ? [a]\n  : {type: email}\n", []string{":2: oidc-issuers: a key is a list; a key is text"}},
		"a key that is nothing":      {"oidc-issuers:\n  ~: {type: email}\n", []string{":2: oidc-issuers: a key is nothing"}},
		"unknown key of an issuer":   {email + "    issuer_url: https://login.example.com\n", []string{":4: oidc-issuers.https://login.example.com.issuer_url: is not known; issuer-url is near"}},
		"one time or more":           {email + "    one-time-tokens: perhaps\n", []string{":4: oidc-issuers.https://login.example.com.one-time-tokens: is perhaps"}},
		"an age below zero":          {email + "    max-token-age: -5m\n", []string{":4: oidc-issuers.https://login.example.com.max-token-age: is -5m; a time with its unit"}},
		"an age without a unit":      {email + "    max-token-age: 300\n", []string{":4: oidc-issuers.https://login.example.com.max-token-age: is 300; a time with its unit"}},
		"another unknown key":        {email + "    colour: red\n", []string{":4: oidc-issuers.https://login.example.com.colour: is not known; known are issuer-url, client-id, "}},
		"a key of an issuer twice":   {email + "    type: email\n", []string{":4: oidc-issuers.https://login.example.com.type: stands in line 3 already"}},
		"both spellings of a key":    {email + "    Type: email\n", []string{":4: oidc-issuers.https://login.example.com.Type: is another spelling of type, which stands in line 3"}},
		"a list for a text":          {email + "    client-id: [sigstore]\n", []string{":4: oidc-issuers.https://login.example.com.client-id: is a list; a text"}},
		"binary for a text":          {email + "    contact: !!binary aGVsbG8=\n", []string{":4: oidc-issuers.https://login.example.com.contact: is binary; a text"}},
		"a text for a boolean":       {email + "    skip-email-verification: maybe\n", []string{":4: oidc-issuers.https://login.example.com.skip-email-verification: is maybe; true or false"}},
		"a number for a boolean":     {email + "    skip-email-verification: 1\n", []string{":4: oidc-issuers.https://login.example.com.skip-email-verification: is 1; true or false"}},
		"no URL":                     {"oidc-issuers:\n\n  login: {type: email}\n", []string{":3: oidc-issuers.login: issuer-url is missing"}},
		"two URLs":                   {email + "    issuer-url: https://login.example.org\n", []string{":2: oidc-issuers.https://login.example.com: the key is not the issuer-url, https://login.example.org"}},
		"a slash more":               {email + "    issuer-url: https://login.example.com/\n", []string{":2: oidc-issuers.https://login.example.com: the key is not the issuer-url, https://login.example.com/"}},
		"the same URL twice":         {email + "  login:\n    issuer-url: https://login.example.com\n    type: email\n", []string{":4: oidc-issuers.login: its URL https://login.example.com is that of the issuer in line 2"}},
		"a pattern as an issuer":     {"oidc-issuers:\n  https://*.login.example.com: {type: email}\n", []string{":2: oidc-issuers.https://*.login.example.com: is a pattern; patterns stand in meta-issuers"}},
		"a pattern as issuer-url":    {"oidc-issuers:\n  login: {type: email, issuer-url: 'https://*.login.example.com'}\n", []string{":2: oidc-issuers.login: is a pattern"}},
		"no pattern":                 {"meta-issuers:\n  https://login.example.com: {type: email}\n", []string{":2: meta-issuers.https://login.example.com: is not a pattern: it has no *"}},
		"a pattern and another":      {"meta-issuers:\n  https://login.example.com/*:\n    type: email\n    issuer-url: https://login.example.org/*\n", []string{":2: meta-issuers.https://login.example.com/*: the key is not the issuer-url, https://login.example.org/*"}},
		"a pattern for everybody":    {"meta-issuers:\n  https://*.com: {type: email}\n", []string{":2: meta-issuers.https://*.com: "}},
		"a pattern that is no URL":   {"meta-issuers:\n  '*': {type: email}\n", []string{":2: meta-issuers.*: "}},
		"unknown type":               {"oidc-issuers:\n  https://login.example.com: {type: mail}\n", []string{`:2: oidc-issuers.https://login.example.com: type is "mail"`}},
		"no type":                    {"oidc-issuers:\n  https://login.example.com:\n", []string{`:2: oidc-issuers.https://login.example.com: type is ""`}},
		"http":                       {"oidc-issuers:\n  http://login.example.com: {type: email}\n", []string{":2: oidc-issuers.http://login.example.com: "}},
		"uri without its domain":     {"oidc-issuers:\n  https://login.example.com: {type: uri}\n", []string{":2: oidc-issuers.https://login.example.com: "}},
		"a wrong certificate":        {email + "    ca-cert: hello\n", []string{":2: oidc-issuers.https://login.example.com: "}},
		"issuer-claim of a uri":      {"oidc-issuers:\n  https://a.example.com: {type: uri, subject-domain: https://a.example.com, issuer-claim: $.a}\n", []string{":2: oidc-issuers.https://a.example.com: "}},
		"two mistakes of one issuer": {"oidc-issuers:\n  http://login.example.com:\n    typ: email\n    type: email\n", []string{":2: oidc-issuers.http://login.example.com: ", ":3: oidc-issuers.http://login.example.com.typ: is not known; type is near"}},

		"ci-provider of a person":      {ci + email + "    ci-provider: ours\n", []string{":7: oidc-issuers.https://login.example.com.ci-provider: is given, but type is email"}},
		"ci-provider is missing":       {ci + "oidc-issuers:\n  https://ci.example.com: {type: ci-provider}\n", []string{":5: oidc-issuers.https://ci.example.com: ci-provider is missing"}},
		"ci-provider is not there":     {ci + "oidc-issuers:\n  https://ci.example.com:\n    type: ci-provider\n    ci-provider: your\n", []string{":7: oidc-issuers.https://ci.example.com.ci-provider: ci-issuer-metadata has no your; known are ours"}},
		"ci-provider nearly there":     {ci + "oidc-issuers:\n  https://ci.example.com:\n    type: ci-provider\n    ci-provider: Ours\n", []string{":7: oidc-issuers.https://ci.example.com.ci-provider: ci-issuer-metadata has no Ours; ours is near"}},
		"no metadata at all":           {"oidc-issuers:\n  https://ci.example.com:\n    type: ci-provider\n    ci-provider: ours\n", []string{":4: oidc-issuers.https://ci.example.com.ci-provider: ci-issuer-metadata has no ours; there is none"}},
		"unknown key of metadata":      {ci + "    templates: {}\n", []string{":4: ci-issuer-metadata.ours.templates: is not known; "}},
		"unknown extension":            {ci + "    extension-templates:\n      build-signer-url: job\n", []string{":5: ci-issuer-metadata.ours.extension-templates.build-signer-url: is not known; build-signer-uri is near"}},
		"unknown extension, far":       {ci + "    extension-templates: {colour: job}\n", []string{":4: ci-issuer-metadata.ours.extension-templates.colour: is not known; known are github-workflow-trigger, "}},
		"capitals of an extension":     {ci + "    extension-templates: {GitHubWorkflowSHA: sha}\n", []string{":4: ci-issuer-metadata.ours.extension-templates.GitHubWorkflowSHA: is not known; github-workflow-sha is near"}},
		"an extension twice":           {ci + "    extension-templates:\n      build-signer-uri: a\n      BuildSignerURI: b\n", []string{":6: ci-issuer-metadata.ours.extension-templates.BuildSignerURI: is another spelling of build-signer-uri, which stands in line 5"}},
		"a default that is a list":     {ci + "    default-template-values: {url: [a]}\n", []string{":4: ci-issuer-metadata.ours.default-template-values.url: is a list; a text"}},
		"a default twice":              {ci + "    default-template-values: {url: a, url: b}\n", []string{":4: ci-issuer-metadata.ours.default-template-values.url: stands in line 4 already"}},
		"overridable, but no list":     {ci + "    overridable-template-values: url\n", []string{":4: ci-issuer-metadata.ours.overridable-template-values: is url; a list"}},
		"overridable, but no default":  {ci + "    default-template-values: {url: a}\n    overridable-template-values:\n    - ur\n", []string{":6: ci-issuer-metadata.ours.overridable-template-values: ur is not in default-template-values; url is near"}},
		"no name":                      {"ci-issuer-metadata:\n  ours: {}\n", []string{":2: ci-issuer-metadata.ours: "}},
		"a template that does not end": {"ci-issuer-metadata:\n  ours: {subject-alternative-name-template: '{{.url'}\noidc-issuers:\n  https://a.example.com: {type: ci-provider, ci-provider: ours}\n  https://b.example.com: {type: ci-provider, ci-provider: ours}\n", []string{":2: ci-issuer-metadata.ours: "}},

		"a merge of a text":        {"oidc-issuers:\n  https://login.example.com:\n    <<: email\n    type: email\n", []string{":3: oidc-issuers.https://login.example.com: << brings email"}},
		"a merge of texts":         {"oidc-issuers:\n  https://login.example.com: {<<: [email], type: email}\n", []string{":2: oidc-issuers.https://login.example.com: << brings email"}},
		"a merge of itself":        {"oidc-issuers:\n  https://login.example.com: &a\n    <<: *a\n    type: email\n", []string{":3: oidc-issuers.https://login.example.com: << brings the mapping"}},
		"two merges":               {"define: &a {type: email}\noidc-issuers:\n  https://login.example.com:\n    <<: *a\n    <<: *a\n", []string{":5: oidc-issuers.https://login.example.com.<<: stands in line 4 already"}},
		"a mistake that is merged": {"define:\n  a: &a\n    typ: email\noidc-issuers:\n  https://login.example.com: {<<: *a, type: email}\n", []string{":3: oidc-issuers.https://login.example.com.typ: is not known"}},
	} {
		t.Run(name, func(t *testing.T) {
			file := writeConfig(t, test.text)
			_, err := loadFile(file)
			if err == nil {
				t.Fatal("accepted")
			}
			got := strings.Split(err.Error(), "\n")
			for i, line := range got {
				if i < len(test.want) && !strings.HasPrefix(line, file+test.want[i]) {
					t.Errorf("%q\nwant %q", line, test.want[i])
				}
			}
			if len(got) != len(test.want) {
				t.Errorf("%d mistakes, want %d: %s", len(got), len(test.want), err)
			}
		})
	}
}

// TestConfigCheck runs the command, and the others that read a configuration:
// all refuse with the same list.
func TestConfigCheck(t *testing.T) {
	t.Setenv("SIGSTACK_LISTEN", "nonsense") // which check does not read
	good := writeConfig(t, "url: https://a.example.com\noidc-issuers: {https://login.example.com: {type: email}}\n")
	if code, stdout, stderr := command(t, "config", "check", good); code != exitOK || stdout != good+": 1 issuer, no mistake\n" || stderr != "" {
		t.Errorf("a good file: exit code %d, %q, %q", code, stdout, stderr)
	}
	if _, err := os.Stat("sigstack-data"); err == nil {
		t.Error("a data directory was made")
	}
	nobody := writeConfig(t, "url: https://a.example.com\n")
	if code, stdout, _ := command(t, "config", "check", nobody); code != exitFindings || !strings.HasPrefix(stdout, nobody+": oidc-issuers: none is configured") {
		t.Errorf("no issuer: exit code %d, %q", code, stdout)
	}
	if code, stdout, _ := command(t, "config", "check", writeConfig(t, "dev: true\n")); code != exitOK || !strings.HasSuffix(stdout, ": 0 issuers, no mistake\n") {
		t.Errorf("dev: exit code %d, %q", code, stdout)
	}
	if code, _, stderr := command(t, "config", "check", filepath.Join(t.TempDir(), "none.yaml")); code != exitError || !strings.Contains(stderr, "no such file") {
		t.Errorf("no file: exit code %d, %q", code, stderr)
	}
	if code, _, _ := command(t, "config", "check"); code != exitError {
		t.Errorf("no argument: exit code %d", code)
	}

	bad := writeConfig(t, "oidc-issuers:\n  login: {typ: email}\nurl: ftp://a.example.com\nlisten: localhost:1\n")
	code, list, _ := command(t, "config", "check", bad)
	lines := strings.Split(strings.TrimSuffix(list, "\n"), "\n")
	if code != exitFindings || len(lines) != 3 {
		t.Fatalf("a bad file: exit code %d, %q", code, list)
	}
	for i, line := range []int{2, 2, 3} {
		if !strings.HasPrefix(lines[i], fmt.Sprintf("%s:%d: ", bad, line)) {
			t.Errorf("%q, want line %d", lines[i], line)
		}
	}
	t.Setenv("SIGSTACK_LISTEN", "localhost:1")
	for _, name := range []string{"serve", "init"} {
		if code, _, stderr := command(t, name, "--config", bad, "--data-dir", filepath.Join(t.TempDir(), "data")); code != exitError || stderr != "sigstack: "+list {
			t.Errorf("%s: exit code %d, %q, want %q", name, code, stderr, list)
		}
	}
	// A value that is not the file's has not its line.
	code, _, stderr := command(t, "init", "--config", good, "--url", "ftp://b.example.com", "--data-dir", filepath.Join(t.TempDir(), "data"))
	if code != exitError || !strings.HasPrefix(stderr, `sigstack: url: "ftp://b.example.com" is not`) {
		t.Errorf("a wrong flag: exit code %d, %q", code, stderr)
	}
}

// TestHostileConfiguration reads files that would take long, or much memory.
func TestHostileConfiguration(t *testing.T) {
	var laughs, merges, chain strings.Builder
	laughs.WriteString("define:\n  a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]\n")
	merges.WriteString("define:\n  m0: &m0 {type: email}\n")
	chain.WriteString("define:\n  m0: &m0 {")
	for i := range 5000 {
		fmt.Fprintf(&chain, "k%d: v, ", i)
	}
	chain.WriteString("}\n")
	for i := 1; i < 30; i++ {
		fmt.Fprintf(&laughs, "  a%d: &a%d [%s*a%d]\n", i, i, strings.Repeat(fmt.Sprintf("*a%d, ", i-1), 9), i-1)
		fmt.Fprintf(&merges, "  m%d: &m%d {<<: [%s*m%d]}\n", i, i, strings.Repeat(fmt.Sprintf("*m%d, ", i-1), 9), i-1)
	}
	for i := 1; i < 5000; i++ {
		fmt.Fprintf(&chain, "  m%d: &m%d {<<: *m%d}\n", i, i, i-1)
	}
	many := func(format string) string {
		var b strings.Builder
		for i := 0; b.Len() < maxConfig-300; i++ {
			fmt.Fprintf(&b, format, i)
		}
		return b.String()
	}
	for name, test := range map[string]struct{ text, want string }{
		"10 MB":                      {strings.Repeat("#\n", 5<<20), "more than 1048576 bytes"},
		"10 MB of JSON":              {`{"a": [` + strings.Repeat("1,", 5<<20) + "1]}", "more than 1048576 bytes"},
		"deep lists":                 {"define: " + strings.Repeat("[", 500_000), "exceeded max depth"},
		"deep mappings":              {"define: " + strings.Repeat("{a: ", 200_000), "exceeded max depth"},
		"deep JSON":                  {`{"define": ` + strings.Repeat("[", 500_000) + strings.Repeat("]", 500_000) + "}", "exceeded max depth"},
		"deep blocks":                {strings.Repeat("- ", 500_000), "exceeded max depth"},
		"a billion laughs, unused":   {laughs.String(), ""},
		"a billion laughs as a text": {laughs.String() + "url: *a29\n", "url: is a list"},
		"a billion laughs as values": {laughs.String() + "oidc-issuers: *a29\n", "oidc-issuers: is a list"},
		"a billion laughs as names":  {laughs.String() + "ci-issuer-metadata: {ours: {subject-alternative-name-template: sub, overridable-template-values: *a29}}\n", "is a list"},
		"a billion merges":           {merges.String() + "oidc-issuers: {https://login.example.com: *m29}\n", "when its anchors are expanded"},
		"a chain of merges":          {chain.String() + "oidc-issuers: {https://login.example.com: *m4999}\n", "when its anchors are expanded"},
		"unknown keys":               {many("k%d: v\n"), "there are more mistakes"},
		"the same key":               {strings.Repeat("k: v\n", maxConfig/5), "there are more mistakes"},
		"unknown providers":          {"ci-issuer-metadata:\n" + many("  p%d: {}\n"), "there are more mistakes"},
		"many issuers":               {"oidc-issuers:\n" + many("  https://i%d.example.com: {type: email}\n"), ""},
		"many overridable":           {"ci-issuer-metadata:\n  ours:\n    subject-alternative-name-template: sub\n    overridable-template-values:\n" + many("    - a%d\n"), "there are more mistakes"},
		"a long key":                 {strings.Repeat("k", maxConfig-100) + ": v\n", "mapping values are not allowed"},
		"a long key in JSON":         {`{"` + strings.Repeat("k", maxConfig-100) + `": 1}`, "is not known"},
		"deep templates":             {"ci-issuer-metadata: {ours: {subject-alternative-name-template: '{{" + strings.Repeat("(", maxConfig-300) + "'}}", "at most 4096 are allowed"},
		"deep branches":              {"ci-issuer-metadata: {ours: {subject-alternative-name-template: '" + strings.Repeat("{{if .a}}", maxConfig/9-300) + "'}}", "at most 4096 are allowed"},
		"a long value":               {"oidc-issuers: {a: {type: " + strings.Repeat("k", maxConfig-100) + "}}", "issuer-url is missing"},
	} {
		t.Run(name, func(t *testing.T) {
			begin := time.Now()
			f := parseConfigFile("sigstack.yaml", []byte(test.text))
			err := f.err()
			// Some take a second on a busy machine; without their bounds, hours.
			if took := time.Since(begin); took > 20*time.Second {
				t.Errorf("took %v", took)
			}
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Fatalf("%.300v, want %q", err, test.want)
			}
			if err != nil && len(err.Error()) > 100_000 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
		})
	}
}

// TestConfigBudget holds the reading of a file to a multiple of its size, for
// those of whose bytes most is made.
func TestConfigBudget(t *testing.T) {
	public, err := os.ReadFile("testdata/fulcio.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"the public instance":  string(public),
		"keys with comments":   strings.Repeat("a:\n#\n", maxConfig/5),
		"lists with comments":  strings.Repeat("- # c\n", maxConfig/6),
		"a flat list":          "define: [" + strings.Repeat("a,", maxConfig/2-10) + "]",
		"a flat list of JSON":  `{"define": [` + strings.Repeat("1,", maxConfig/2-10) + "1]}",
		"empty lists of JSON":  `{"define": [` + strings.Repeat("[],", maxConfig/3-10) + "1]}",
		"names":                "ci-issuer-metadata:\n  ours: {subject-alternative-name-template: sub, default-template-values: {" + strings.Repeat("a: ,", maxConfig/4-100) + "}}",
		"a file that is large": strings.Repeat("a: b\n", 10*maxConfig/5),
	} {
		in := []byte(text)
		size := len(in) + configBudget(in)/10 // Budget allows ten times that
		fuzz.Budget(t, size, func() { _ = parseConfigFile(name, in).err() })
	}
}
