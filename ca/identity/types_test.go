package identity

import (
	"encoding/json"
	"maps"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/sigstack/sigstack/ca/ext"
)

const githubURL = "https://token.actions.githubusercontent.com"

// githubClaims is a good token of GitHub Actions, changed by the pairs name, value.
func githubClaims(change ...any) map[string]any {
	c := map[string]any{
		"iss": githubURL, "sub": "repo:acme/widget:ref:refs/heads/main", "aud": "sigstore",
		"exp": t0.Add(5 * time.Minute).Unix(), "iat": t0.Unix(), "jti": "id-1",
		"job_workflow_ref": "acme/shared/.github/workflows/build.yml@refs/tags/v1", "job_workflow_sha": "c0ffee01",
		"sha": "c0ffee02", "event_name": "push", "repository": "acme/widget", "workflow": "release",
		"ref": "refs/heads/main", "runner_environment": "github-hosted", "repository_id": "1001",
		"repository_owner": "acme", "repository_owner_id": "2002", "repository_visibility": "public",
		"workflow_ref": "acme/widget/.github/workflows/release.yml@refs/heads/main", "workflow_sha": "c0ffee03",
		"run_id": "3003", "run_attempt": "2",
	}
	return changed(c, change)
}

func githubIssuer() Issuer {
	return Issuer{URL: githubURL, ClientID: "sigstore", Type: "github-workflow"}
}

func TestEmail(t *testing.T) {
	v, _, _ := setup(t, []Issuer{emailIssuer()}, newFake(emailURL))
	id, _, err := verify(t, v, rs256().token(emailClaims("jti", "token-1")))
	if err != nil {
		t.Fatal(err)
	}
	if id.Issuer() != emailURL || id.Subject() != "subject-1" || id.SAN() != (ext.SAN{Kind: ext.Email, Value: "dev@example.com"}) ||
		id.Extensions() != (ext.Values{Issuer: emailURL, Subject: "subject-1"}) {
		t.Errorf("%+v", id)
	}
	if got, want := id.ProofSubjects(), []string{"dev@example.com", "subject-1"}; !reflect.DeepEqual(got, want) {
		t.Errorf("ProofSubjects: %q, want %q", got, want)
	}
	want := Audit{Issuer: emailURL, IssuerType: "email", Subject: "subject-1", Email: "dev@example.com", TokenID: "token-1", KeyID: "rsa-1", IssuedAt: t0, Expiry: t0.Add(10 * time.Minute)}
	if id.Audit() != want {
		t.Errorf("Audit: %+v\nwant %+v", id.Audit(), want)
	}
	var claims map[string]any
	if err := json.Unmarshal(id.Claims(), &claims); err != nil || claims["jti"] != "token-1" || claims["email"] != "dev@example.com" {
		t.Errorf("Claims: %s (%v)", id.Claims(), err)
	}
	clear(id.Claims())
	if id.Claims()[0] != '{' {
		t.Error("Claims gives its own slice away")
	}
	id.ProofSubjects()[0] = "changed"
	if id.ProofSubjects()[0] != "dev@example.com" {
		t.Error("ProofSubjects gives its own slice away")
	}
	if (Identity{}).Valid() || len((Identity{}).ProofSubjects()) != 0 {
		t.Error("the zero Identity is valid")
	}
	if _, err := (Identity{}).SAN().Extension(); err == nil {
		t.Error("the zero Identity has a name")
	}
}

func TestSkipEmailVerification(t *testing.T) {
	issuer := emailIssuer()
	issuer.SkipEmailVerification = true
	v, _, _ := setup(t, []Issuer{issuer}, newFake(emailURL))
	for name, c := range map[string]struct {
		value any
		want  verdict
	}{
		"absent": {absent, accepted}, "false": {false, accepted}, "True": {"True", accepted}, "garbage": {"maybe", tokenError},
	} {
		id, got, err := verify(t, v, with("email_verified", c.value))
		if got != c.want {
			t.Errorf("%s: %v", name, err)
		}
		if got == accepted && !reflect.DeepEqual(id.ProofSubjects(), []string{"dev@example.com", "subject-1"}) {
			t.Errorf("%s: ProofSubjects %q", name, id.ProofSubjects())
		}
	}
	// The syntax is checked all the same.
	if _, got, _ := verify(t, v, with("email", "dev")); got != tokenError {
		t.Error("accepted an address without a domain")
	}
}

func TestMaxTokenAge(t *testing.T) {
	issuer := emailIssuer()
	issuer.MaxTokenAge = 2 * time.Minute
	v, _, _ := setup(t, []Issuer{issuer}, newFake(emailURL))
	for name, c := range map[string]struct {
		issued any
		want   string
	}{
		"new":        {t0.Unix(), ""},
		"old enough": {t0.Add(-2 * time.Minute).Unix(), ""},
		"too old":    {t0.Add(-2*time.Minute - time.Second).Unix(), "it may be 2m0s old"},
		"no age":     {absent, `the claim "iat" is missing`},
		"the future": {t0.Add(time.Hour).Unix(), "in the future"},
	} {
		if _, got, err := verify(t, v, with("iat", c.issued)); (got == accepted) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %s %v", name, got, err)
		}
	}
	issuer.MaxTokenAge = -1
	if err := issuer.Check(); err == nil || !strings.Contains(err.Error(), "negative") {
		t.Errorf("a negative age: %v", err)
	}
}

func TestIssuerClaim(t *testing.T) {
	issuer := emailIssuer()
	issuer.IssuerClaim = "$.federated_claims.connector_id"
	v, _, _ := setup(t, []Issuer{issuer}, newFake(emailURL))
	fed := func(value any) any { return map[string]any{"connector_id": value, "user_id": "7"} }
	id, _, err := verify(t, v, with("federated_claims", fed("https://github.com/login/oauth")))
	if err != nil || id.Extensions().Issuer != "https://github.com/login/oauth" || id.Issuer() != emailURL {
		t.Errorf("%+v, %v", id.Extensions(), err)
	}
	for name, raw := range map[string]string{
		"absent":           with(),
		"not an object":    with("federated_claims", "x"),
		"a list":           with("federated_claims", []string{"connector_id"}),
		"null":             with("federated_claims", nil),
		"inner absent":     with("federated_claims", map[string]any{}),
		"inner null":       with("federated_claims", fed(nil)),
		"inner empty":      with("federated_claims", fed("")),
		"inner a number":   with("federated_claims", fed(5)),
		"inner an object":  with("federated_claims", fed(map[string]any{})),
		"inner control":    with("federated_claims", fed("a\nb")),
		"inner twice":      payload(claimsText(`,"federated_claims":{"connector_id":"a","connector_id":"b"}`)),
		"another spelling": with("federated_claims", map[string]any{"Connector_ID": "x"}),
		"dotted name":      with("federated_claims.connector_id", "x"),
	} {
		if _, got, err := verify(t, v, raw); got != tokenError || !strings.Contains(err.Error(), "federated_claims") {
			t.Errorf("%s: %s %v", name, got, err)
		}
	}
}

func TestURI(t *testing.T) {
	issuer := Issuer{URL: emailURL, ClientID: "sigstore", Type: "uri", SubjectDomain: "https://work.example.com"}
	v, _, _ := setup(t, []Issuer{issuer}, newFake(emailURL))
	plain := func(sub string) string {
		return rs256().token(emailClaims("sub", sub, "email", absent, "email_verified", absent))
	}
	id, _, err := verify(t, v, plain("https://work.example.com/a/b?c=d#e"))
	if err != nil {
		t.Fatal(err)
	}
	if id.SAN() != (ext.SAN{Kind: ext.URI, Value: "https://work.example.com/a/b?c=d#e"}) ||
		id.Extensions() != (ext.Values{Issuer: emailURL, Subject: "https://work.example.com/a/b?c=d#e"}) ||
		!reflect.DeepEqual(id.ProofSubjects(), []string{"https://work.example.com/a/b?c=d#e"}) {
		t.Errorf("%+v", id)
	}
	// Clients sign the verified address if there is one, whatever the type is.
	id, _, err = verify(t, v, with("sub", "https://work.example.com/"))
	if err != nil || !reflect.DeepEqual(id.ProofSubjects(), []string{"https://work.example.com/", "dev@example.com"}) {
		t.Errorf("%q, %v", id.ProofSubjects(), err)
	}
	id, _, err = verify(t, v, with("sub", "https://work.example.com/", "email_verified", false))
	if err != nil || !reflect.DeepEqual(id.ProofSubjects(), []string{"https://work.example.com/"}) {
		t.Errorf("unverified address: %q, %v", id.ProofSubjects(), err)
	}
	for _, sub := range []string{
		"work.example.com/a", "/a", "//work.example.com/a", "dev@work.example.com", "mailto:dev@work.example.com",
		"http://work.example.com/a", "HTTPS://work.example.com/a", "https://WORK.example.com/a", "https://work.example.com:443/a",
		"https://work.example.com./a", "https://work.example.com.evil.net/a", "https://evil.net/https://work.example.com/a",
		"https://example.com/a", "https://a.work.example.com/a", "https://dev@work.example.com/a", "https://work.example.com@evil.net/",
		"https://work.example.com\\@evil.net/", "https:work.example.com", "https:///a", "https://work.example.com/a b",
		"https://work.example.com/\u00fc", "https://work.example.com/%zz", "https://work%2eexample.com/a", "https://w\u00f6rk.example.com/",
		"https://work.example.com#",
	} {
		if id, got, err := verify(t, v, plain(sub)); got != tokenError {
			t.Errorf("%q: %s %v %v", sub, got, id.SAN(), err)
		}
	}
}

func TestGitHub(t *testing.T) {
	v, _, _ := setup(t, []Issuer{githubIssuer()}, newFake(githubURL))
	id, _, err := verify(t, v, es256().token(githubClaims()))
	if err != nil {
		t.Fatal(err)
	}
	signer := "https://github.com/acme/shared/.github/workflows/build.yml@refs/tags/v1"
	want := ext.Values{
		Issuer:                              githubURL,
		GitHubWorkflowTrigger:               "push",
		GitHubWorkflowSHA:                   "c0ffee02",
		GitHubWorkflowName:                  "release",
		GitHubWorkflowRepository:            "acme/widget",
		GitHubWorkflowRef:                   "refs/heads/main",
		BuildSignerURI:                      signer,
		BuildSignerDigest:                   "c0ffee01",
		RunnerEnvironment:                   "github-hosted",
		SourceRepositoryURI:                 "https://github.com/acme/widget",
		SourceRepositoryDigest:              "c0ffee02",
		SourceRepositoryRef:                 "refs/heads/main",
		SourceRepositoryIdentifier:          "1001",
		SourceRepositoryOwnerURI:            "https://github.com/acme",
		SourceRepositoryOwnerIdentifier:     "2002",
		BuildConfigURI:                      "https://github.com/acme/widget/.github/workflows/release.yml@refs/heads/main",
		BuildConfigDigest:                   "c0ffee03",
		BuildTrigger:                        "push",
		RunInvocationURI:                    "https://github.com/acme/widget/actions/runs/3003/attempts/2",
		SourceRepositoryVisibilityAtSigning: "public",
		Subject:                             "repo:acme/widget:ref:refs/heads/main",
	}
	if id.Extensions() != want {
		t.Errorf("got  %+v\nwant %+v", id.Extensions(), want)
	}
	if id.SAN() != (ext.SAN{Kind: ext.URI, Value: signer}) || !reflect.DeepEqual(id.ProofSubjects(), []string{id.Subject()}) {
		t.Errorf("%v %q", id.SAN(), id.ProofSubjects())
	}

	// Every claim is needed, is a string, and cannot smuggle a control character.
	names := 0
	for name := range maps.Keys(githubClaims()) {
		switch name {
		case "iss", "aud", "exp", "iat", "jti", "sub":
			continue
		}
		names++
		for _, value := range []any{absent, "", nil, 1, true, []string{"a"}, "a\x00b", "a\nb", "a\u009bb"} {
			_, got, err := verify(t, v, es256().token(githubClaims(name, value)))
			if got != tokenError || !strings.Contains(err.Error(), `"`+name+`"`) {
				t.Errorf("%s = %v: %s %v", name, value, got, err)
			}
		}
	}
	if names != 16 {
		t.Errorf("%d claims, want 16", names)
	}
	for _, name := range []string{"job_workflow_ref", "repository", "repository_owner", "workflow_ref", "run_id", "run_attempt"} {
		for _, value := range []string{"/acme", "acme/", "acme//x", "../x", "acme/../evil", "acme/./x", "."} {
			if _, got, _ := verify(t, v, es256().token(githubClaims(name, value))); got != tokenError {
				t.Errorf("%s = %q: %s", name, value, got)
			}
		}
	}
}

// Refs and file names have letters that a URI has not; different refs have different names.
func TestGitHubNames(t *testing.T) {
	v, _, _ := setup(t, []Issuer{githubIssuer()}, newFake(githubURL))
	const prefix = "a/b/.github/workflows/"
	seen := map[string]string{}
	for ref, want := range map[string]string{
		"x.yml@refs/heads/main":   "x.yml@refs/heads/main",
		"x.yml@refs/heads/\u00fc": "x.yml@refs/heads/%C3%BC",
		"x.yml@refs/heads/%C3%BC": "x.yml@refs/heads/%25C3%25BC",
		"x.yml@refs/heads/50%":    "x.yml@refs/heads/50%25",
		"x.yml@refs/heads/a#b":    "x.yml@refs/heads/a#b",
		"x.yml@refs/heads/a&b+c":  "x.yml@refs/heads/a&b+c",
		"my file.yml@refs/x":      "my%20file.yml@refs/x",
		"x.yml@refs/pull/1/merge": "x.yml@refs/pull/1/merge",
	} {
		id, _, err := verify(t, v, es256().token(githubClaims("job_workflow_ref", prefix+ref)))
		if err != nil {
			t.Errorf("%q: %v", ref, err)
			continue
		}
		if got := id.SAN().Value; got != "https://github.com/"+prefix+want {
			t.Errorf("%q: %s", ref, got)
		}
		if id.Extensions().BuildSignerURI != "https://github.com/"+prefix+ref {
			t.Errorf("%q: build signer %s", ref, id.Extensions().BuildSignerURI)
		}
		if other, ok := seen[id.SAN().Value]; ok {
			t.Errorf("%q and %q share a name", ref, other)
		}
		seen[id.SAN().Value] = ref
	}
}

func TestConfig(t *testing.T) {
	uri := func(url, domain string) Issuer {
		return Issuer{URL: url, ClientID: "sigstore", Type: "uri", SubjectDomain: domain}
	}
	email := func(url string) Issuer { return Issuer{URL: url, ClientID: "sigstore", Type: "email"} }
	change := func(i Issuer, f func(*Issuer)) Issuer { f(&i); return i }
	for _, c := range []struct {
		issuer Issuer
		text   string // in the message; empty: accepted
	}{
		{email("https://a.example.com"), ""},
		{email("https://a.example.com/x/"), ""},
		{email("https://a.example.com:8443/x"), ""},
		{email("http://localhost:8080/oidc"), ""},
		{email("http://127.0.0.1:1/x"), ""},
		{email("http://[::1]:1/x"), ""},
		{email("https://[2001:db8::1]/x"), ""},
		{email(""), "URL is missing"},
		{email("a.example.com"), "URL is not of the form"},
		{email("HTTPS://a.example.com"), "URL is not of the form"},
		{email("https://"), "URL is not of the form"},
		{email("https:a"), "URL is not of the form"},
		{email("https://u:p@a.example.com"), "URL is not of the form"},
		{email("https://a.example.com?x"), "query"},
		{email("https://a.example.com?"), "query"},
		{email("https://a.example.com#x"), "query"},
		{email("https://a.example.com/ x"), "printable"},
		{email("https://\u00fc.example.com"), "printable"},
		{email("https://a.example.com/" + strings.Repeat("x", maxIssuer)), "at most 1024"},
		{email("http://a.example.com"), "InsecureHTTP"},
		{email("http://localhost.example.com"), "InsecureHTTP"},
		{change(email("http://a.example.com"), func(i *Issuer) { i.InsecureHTTP = true }), ""},
		{change(email("http://a.example.com"), func(i *Issuer) { i.Transport = newNetwork() }), ""},
		{email("ftp://a.example.com"), "https is required"},
		{email("file:///etc/passwd"), "URL is not of the form"},
		{change(email("https://a.example.com"), func(i *Issuer) { i.ClientID = "" }), "ClientID is missing"},
		{change(email("https://a.example.com"), func(i *Issuer) { i.Type = "" }), `"email", "uri", "username"`},
		{change(email("https://a.example.com"), func(i *Issuer) { i.Type = "Email" }), `type is "Email"`},
		{change(email("https://a.example.com"), func(i *Issuer) { i.SubjectDomain = "https://example.com" }), "SubjectDomain is set"},
		{change(email("https://a.example.com"), func(i *Issuer) { i.IssuerClaim = "$.a" }), ""},
		{change(email("https://a.example.com"), func(i *Issuer) { i.IssuerClaim = "a.b" }), "IssuerClaim"},
		{change(email("https://a.example.com"), func(i *Issuer) { i.IssuerClaim = "$." }), "IssuerClaim"},
		{change(email("https://a.example.com"), func(i *Issuer) { i.IssuerClaim = "$..a" }), "IssuerClaim"},
		{change(email("https://a.example.com"), func(i *Issuer) { i.IssuerClaim = "$.a[0]" }), "IssuerClaim"},
		{change(email("https://a.example.com"), func(i *Issuer) { i.IssuerClaim = "$.a.*" }), "IssuerClaim"},
		{change(email("https://a.example.com"), func(i *Issuer) { i.IssuerClaim = "$" + strings.Repeat(".a", 9) }), "IssuerClaim"},
		{change(email("https://a.example.com"), func(i *Issuer) { i.CACert = "x" }), "CACert"},
		{change(email("https://a.example.com"), func(i *Issuer) { i.Transport, i.CACert = newNetwork(), "x" }), "CACert"},
		{uri("https://issuer.example.com", "https://example.com"), ""},
		{uri("https://issuer.example.com", "https://work.example.com"), ""},
		{uri("https://issuer.example.com", "https://work.example.com:8443"), ""},
		{uri("http://localhost:8080/oidc", "http://localhost:9090"), ""},
		{uri("https://issuer.example.co.uk", "https://work.example.co.uk"), ""},
		{uri("https://issuer.example.com", ""), "SubjectDomain is missing"},
		{uri("https://issuer.example.com", "example.com"), "not a scheme and a host alone"},
		{uri("https://issuer.example.com", "https://example.com/"), "not a scheme and a host alone"},
		{uri("https://issuer.example.com", "https://example.com/x"), "not a scheme and a host alone"},
		{uri("https://issuer.example.com", "https://u@example.com"), "not a scheme and a host alone"},
		{uri("https://issuer.example.com", "https://example.com?x"), "not a scheme and a host alone"},
		{uri("https://issuer.example.com", "HTTPS://example.com"), "not a scheme and a host alone"},
		{uri("https://issuer.example.com", "http://example.com"), "another scheme"},
		{uri("https://issuer.example.com", "spiffe://example.com"), "another scheme"},
		{uri("https://issuer.example.com", "https://example.net"), "registered domain"},
		{uri("https://issuer.example.com", "https://example.com.evil.net"), "registered domain"},
		{uri("https://a.example.co.uk", "https://b.evil.co.uk"), "registered domain"},
		{uri("https://a.github.io", "https://b.github.io"), "registered domain"},
		{uri("https://10.0.0.1", "https://11.0.0.1"), "registered domain"},
		{change(uri("https://issuer.example.com", "https://example.com"), func(i *Issuer) { i.IssuerClaim = "$.a" }), "IssuerClaim is set"},
		{change(uri("https://issuer.example.com", "https://example.com"), func(i *Issuer) { i.SkipEmailVerification = true }), "SkipEmailVerification is set"},
		{githubIssuer(), ""},
		{change(githubIssuer(), func(i *Issuer) { i.SubjectDomain = "https://example.com" }), "SubjectDomain is set"},
		// Patterns.
		{email("https://oidc.eks.*.amazonaws.com/id/*"), ""},
		{email("https://container.googleapis.com/v1/projects/*/locations/*/clusters/*"), ""},
		{email("https://*.oic.prod-aks.azure.com/*"), ""},
		{email("https://token.actions.githubusercontent.com/*"), ""},
		{uri("https://*.example.com", "https://example.com"), ""},
		{uri("https://*.example.com", "https://example.net"), "registered domain"},
		{email("https://*"), "anybody"},
		{email("https://*/x"), "anybody"},
		{email("https://*.com"), "anybody"},
		{email("https://*.co.uk"), "anybody"},
		{email("https://*.github.io"), "anybody"},
		{email("https://issuer.*"), "anybody"},
		{email("https://issuer.example.*"), "anybody"},
		{email("https://a*.example.com"), "whole host label"},
		{email("https://issuer.example.com/a*"), "whole host label"},
		{email("https://issuer.example.com/**"), "whole host label"},
		{email("https://issuer.example.com/*/\"*0"), "whole host label"}, // a path that is escaped when printed
		{email("https://issuer.example.com:*"), "URL is not of the form"},
		{email("*"), "URL is not of the form"},
		{email("*://issuer.example.com"), "URL is not of the form"},
		{email("https://*@issuer.example.com"), "URL is not of the form"},
	} {
		v, err := NewVerifier(Config{Issuers: []Issuer{c.issuer}}, Options{})
		switch {
		case c.text == "" && err != nil:
			t.Errorf("%q: %v", c.issuer.URL, err)
		case c.text != "" && (err == nil || !strings.Contains(err.Error(), c.text)):
			t.Errorf("%q %q: %v, want %q", c.issuer.URL, c.issuer.SubjectDomain, err, c.text)
		case err == nil && len(v.Issuers()) != 1:
			t.Errorf("%q: Issuers %v", c.issuer.URL, v.Issuers())
		}
	}
	if _, err := NewVerifier(Config{}, Options{}); err == nil {
		t.Error("accepted no issuer")
	}
	if _, err := NewVerifier(Config{Issuers: []Issuer{emailIssuer(), githubIssuer(), emailIssuer()}}, Options{}); err == nil || !strings.Contains(err.Error(), "twice") {
		t.Errorf("a duplicate: %v", err)
	}
	v, err := NewVerifier(Config{Issuers: []Issuer{githubIssuer(), emailIssuer()}}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	list := v.Issuers()
	if list[0].ChallengeClaim() != "sub" || list[1].ChallengeClaim() != "email" || list[0].IsPattern() || (Issuer{}).ChallengeClaim() != "" {
		t.Errorf("%+v", list)
	}
	list[0].URL = "changed"
	if v.Issuers()[0].URL != githubURL {
		t.Error("Issuers gives its own slice away")
	}
}

// oneOfEach is an issuer of each type.
func oneOfEach() []Issuer {
	all := make([]Issuer, 0, len(types))
	for _, typ := range types {
		i := Issuer{URL: emailURL, ClientID: "sigstore", Type: typ.name}
		switch typ.name {
		case "uri":
			i.SubjectDomain = "https://example.com"
		case "username":
			i.SubjectDomain = "example.com"
		case "spiffe":
			i.SPIFFETrustDomain = "example.com"
		case "ci-provider":
			i.Templates = &Templates{
				SAN:        "{{.url}}/{{.repo}}/{{.sub}}",
				Extensions: map[string]string{"build-signer-uri": "{{.url}}/{{.repo}}", "build-trigger": "event", "deployment-environment": `{{ index . "a" }}`},
				Defaults:   map[string]string{"url": "https://ci.example.com", "repo": ""},
			}
		}
		all = append(all, i)
	}
	return all
}

func TestUsername(t *testing.T) {
	issuer := Issuer{URL: emailURL, ClientID: "sigstore", Type: "username", SubjectDomain: "users.example.com"}
	v, _, _ := setup(t, []Issuer{issuer}, newFake(emailURL))
	id, _, err := verify(t, v, with("sub", "alice", "email", absent))
	if err != nil {
		t.Fatal(err)
	}
	if id.SAN() != (ext.SAN{Kind: ext.Username, Value: "alice!users.example.com"}) || id.Extensions() != (ext.Values{Issuer: emailURL, Subject: "alice"}) ||
		!reflect.DeepEqual(id.ProofSubjects(), []string{"alice"}) {
		t.Errorf("%v %+v %q", id.SAN(), id.Extensions(), id.ProofSubjects())
	}
	for _, sub := range []string{"alice!users.example.com", "!", "alice!", "dev@example.com", "Dev <dev@example.com>", "a\x7fb", ""} {
		if id, got, err := verify(t, v, with("sub", sub)); got != tokenError || !strings.Contains(err.Error(), `"sub"`) {
			t.Errorf("%q: %v %v", sub, id.SAN(), err)
		}
	}
	for domain, want := range map[string]string{
		"": "SubjectDomain is missing", "https://example.com": "not a host alone", "example.com/x": "not a host alone", "example.com:80": "not a host alone",
		"u@example.com": "not a host alone", "ex ample.com": "not a host alone", "example.net": "registered domain", "com": "registered domain",
		"example.com": "", "a.b.example.com": "", "issuer.example.com": "",
	} {
		issuer.SubjectDomain = domain
		if err := issuer.Check(); (want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", domain, err, want)
		}
	}
}

func TestKubernetes(t *testing.T) {
	v, _, _ := setup(t, []Issuer{{URL: emailURL, ClientID: "sigstore", Type: "kubernetes"}}, newFake(emailURL))
	object := func(namespace, account any) map[string]any {
		return map[string]any{"namespace": namespace, "serviceaccount": map[string]any{"name": account, "uid": "1"}, "pod": map[string]any{"name": "p"}}
	}
	token := func(claim any) string {
		return with("sub", "system:serviceaccount:prod:builder", "email", absent, "email_verified", absent, "kubernetes.io", claim)
	}
	id, _, err := verify(t, v, token(object("prod", "builder.v2")))
	if err != nil {
		t.Fatal(err)
	}
	if id.SAN() != (ext.SAN{Kind: ext.URI, Value: "https://kubernetes.io/namespaces/prod/serviceaccounts/builder.v2"}) ||
		id.Extensions() != (ext.Values{Issuer: emailURL, Subject: "system:serviceaccount:prod:builder"}) {
		t.Errorf("%v %+v", id.SAN(), id.Extensions())
	}
	for name, claim := range map[string]any{
		"absent": absent, "null": nil, "a string": "prod", "a list": []string{"prod"}, "no account": map[string]any{"namespace": "prod"},
		"empty namespace": object("", "builder"), "empty account": object("prod", ""), "null account": object("prod", nil), "a number": object(1, "builder"),
		"a slash": object("prod/serviceaccounts/root", "x"), "dots": object("..", "builder"), "upper case": object("Prod", "builder"),
		"a long name": object("prod", strings.Repeat("a", 254)), "a hyphen first": object("-prod", "builder"), "an escape": object("prod%2f", "builder"),
	} {
		if id, got, err := verify(t, v, token(claim)); got != tokenError {
			t.Errorf("%s: %v %v", name, id.SAN(), err)
		}
	}
}

func TestSPIFFE(t *testing.T) {
	issuer := Issuer{URL: emailURL, ClientID: "sigstore", Type: "spiffe", SPIFFETrustDomain: "prod.example.com"}
	v, _, _ := setup(t, []Issuer{issuer}, newFake(emailURL))
	const name = "spiffe://prod.example.com/ns/web/sa/builder"
	id, _, err := verify(t, v, with("sub", name, "email", absent))
	if err != nil || id.SAN() != (ext.SAN{Kind: ext.URI, Value: name}) || id.Extensions() != (ext.Values{Issuer: emailURL, Subject: name}) {
		t.Errorf("%v %+v %v", id.SAN(), id.Extensions(), err)
	}
	for _, sub := range []string{
		"spiffe://example.com/a", "spiffe://a.prod.example.com/a", "spiffe://prod.example.com.evil.net/a", "spiffe://prod.example.com:80/a", "SPIFFE://prod.example.com/a",
		"spiffe://PROD.example.com/a", "spiffe://prod.example.com/a/../b", "spiffe://prod.example.com//a", "spiffe://prod.example.com/a/", "spiffe://prod.example.com/a?b",
		"spiffe://prod.example.com/a#b", "spiffe://u@prod.example.com/a", "https://prod.example.com/a", "prod.example.com", "spiffe:///a", "spiffe://prod.example.com/a%41",
	} {
		if id, got, err := verify(t, v, with("sub", sub)); got != tokenError {
			t.Errorf("%q: %v %v", sub, id.SAN(), err)
		}
	}
	for domain, ok := range map[string]bool{"example.com": true, "": false, "spiffe://example.com": false, "Example.com": false, "example.com/a": false, "example.com:80": false} {
		issuer.SPIFFETrustDomain = domain
		if err := issuer.Check(); (err == nil) != ok {
			t.Errorf("%q: %v", domain, err)
		}
	}
	issuer.URL, issuer.SPIFFETrustDomain = "https://*.example.com", "example.com"
	if err := issuer.Check(); err == nil || !strings.Contains(err.Error(), "pattern") {
		t.Errorf("a pattern: %v", err)
	}
}

func TestChainguard(t *testing.T) {
	v, _, _ := setup(t, []Issuer{{URL: emailURL, ClientID: "sigstore", Type: "chainguard-identity"}}, newFake(emailURL))
	id, _, err := verify(t, v, with("sub", "0475f6baca584a89/6c4b1b", "email", absent))
	if err != nil || id.SAN() != (ext.SAN{Kind: ext.URI, Value: emailURL + "/0475f6baca584a89/6c4b1b"}) || !reflect.DeepEqual(id.ProofSubjects(), []string{"0475f6baca584a89/6c4b1b"}) {
		t.Errorf("%v %q %v", id.SAN(), id.ProofSubjects(), err)
	}
	id, _, err = verify(t, v, with("sub", "0475f6baca584a89"))
	if err != nil || !reflect.DeepEqual(id.ProofSubjects(), []string{"dev@example.com", "0475f6baca584a89"}) {
		t.Errorf("with a verified address: %q %v", id.ProofSubjects(), err)
	}
	for _, sub := range []string{"../other", "a/../../b", "/a", "a/", ".", "a//b", "a/./b"} {
		if id, got, err := verify(t, v, with("sub", sub)); got != tokenError {
			t.Errorf("%q: %v %v", sub, id.SAN(), err)
		}
	}
}

func TestGitLab(t *testing.T) {
	const url = "https://gitlab.com"
	claims := func(change ...any) map[string]any {
		c := map[string]any{
			"iss": url, "sub": "project_path:acme/widget:ref_type:branch:ref:main", "aud": "sigstore", "exp": t0.Add(5 * time.Minute).Unix(), "jti": "id-1",
			"namespace_id": "72", "namespace_path": "acme", "project_id": "20", "project_path": "acme/widget", "user_id": "1", "user_login": "dev",
			"pipeline_id": "574", "pipeline_source": "push", "job_id": "302", "ref": "main", "ref_type": "branch", "ref_protected": "true",
			"runner_id": 1, "runner_environment": "gitlab-hosted", "sha": "714a629c", "project_visibility": "public",
			"ci_config_ref_uri": "gitlab.com/acme/widget//.gitlab-ci.yml@refs/heads/main", "ci_config_sha": "714a629d",
		}
		return changed(c, change)
	}
	v, _, _ := setup(t, []Issuer{{URL: url, ClientID: "sigstore", Type: "gitlab-pipeline"}}, newFake(url))
	signer := "https://gitlab.com/acme/widget//.gitlab-ci.yml@refs/heads/main"
	want := ext.Values{
		Issuer: url, Subject: "project_path:acme/widget:ref_type:branch:ref:main",
		BuildSignerURI: signer, BuildSignerDigest: "714a629d", RunnerEnvironment: "gitlab-hosted", SourceRepositoryURI: "https://gitlab.com/acme/widget",
		SourceRepositoryDigest: "714a629c", SourceRepositoryRef: "refs/heads/main", SourceRepositoryIdentifier: "20", SourceRepositoryOwnerURI: "https://gitlab.com/acme",
		SourceRepositoryOwnerIdentifier: "72", BuildConfigURI: signer, BuildConfigDigest: "714a629d", BuildTrigger: "push",
		RunInvocationURI: "https://gitlab.com/acme/widget/-/jobs/302", SourceRepositoryVisibilityAtSigning: "public",
	}
	id, _, err := verify(t, v, es256().token(claims()))
	if err != nil || id.Extensions() != want || id.SAN() != (ext.SAN{Kind: ext.URI, Value: signer}) {
		t.Fatalf("%v %+v\nwant %+v, %v", id.SAN(), id.Extensions(), want, err)
	}
	id, _, err = verify(t, v, es256().token(claims("ref_type", "tag", "ref", "v1", "ci_config_sha", absent, "project_visibility", absent)))
	want.SourceRepositoryRef, want.BuildSignerDigest, want.BuildConfigDigest, want.SourceRepositoryVisibilityAtSigning = "refs/tags/v1", "", "", ""
	if err != nil || id.Extensions() != want {
		t.Errorf("a tag: %+v, %v", id.Extensions(), err)
	}
	for _, name := range gitlabPipeline.required {
		for _, value := range []any{absent, "", nil, 1, true, "a\nb"} {
			if _, got, err := verify(t, v, es256().token(claims(name, value))); got != tokenError || !strings.Contains(err.Error(), `"`+name+`"`) {
				t.Errorf("%s = %v: %s %v", name, value, got, err)
			}
		}
	}
	for _, change := range [][]any{{"runner_id", 0}, {"runner_id", absent}, {"runner_id", "1"}, {"runner_id", 1.5}, {"ref_type", "merge"}, {"url", "https://evil.example.net"}} {
		if _, got, err := verify(t, v, es256().token(claims(change...))); got != tokenError {
			t.Errorf("%v: %v", change, err)
		}
	}
}

func TestBuildkite(t *testing.T) {
	const url = "https://agent.buildkite.com"
	v, _, _ := setup(t, []Issuer{{URL: url, ClientID: "sigstore", Type: "buildkite-job"}}, newFake(url))
	token := func(change ...any) string {
		return es256().token(ciClaims(append([]any{"iss", url, "organization_slug", "acme", "pipeline_slug", "widget", "build_number", 5}, change...)...))
	}
	id, _, err := verify(t, v, token())
	if err != nil || id.SAN() != (ext.SAN{Kind: ext.URI, Value: "https://buildkite.com/acme/widget"}) || id.Extensions() != (ext.Values{Issuer: url, Subject: "project/widget"}) {
		t.Errorf("%v %+v %v", id.SAN(), id.Extensions(), err)
	}
	for _, name := range buildkiteJob.required {
		for _, value := range []any{absent, "", 1, "..", "/a"} {
			if _, got, err := verify(t, v, token(name, value)); got != tokenError {
				t.Errorf("%s = %v: %v", name, value, err)
			}
		}
	}
}

func TestCodefresh(t *testing.T) {
	const url = "https://oidc.codefresh.io"
	v, _, _ := setup(t, []Issuer{{URL: url, ClientID: "sigstore", Type: "codefresh-workflow"}}, newFake(url))
	token := func(change ...any) string {
		return es256().token(ciClaims(append([]any{"iss", url, "account_id", "a1", "account_name", "acme", "pipeline_id", "p1", "pipeline_name", "web/build",
			"workflow_id", "w1", "runner_environment", "hybrid", "scm_repo_url", "https://github.com/acme/widget", "scm_ref", "main"}, change...)...))
	}
	for base, change := range map[string][]any{
		"https://g.codefresh.io":        nil,
		"https://codefresh.example.com": {"platform_url", "https://codefresh.example.com"},
	} {
		id, _, err := verify(t, v, token(change...))
		want := ext.Values{
			Issuer: url, Subject: "project/widget", BuildSignerURI: base + "/build/w1", RunnerEnvironment: "hybrid", SourceRepositoryURI: "https://github.com/acme/widget",
			SourceRepositoryRef: "main", BuildConfigURI: base + "/api/pipelines/p1", RunInvocationURI: base + "/build/w1",
		}
		if err != nil || id.Extensions() != want || id.SAN() != (ext.SAN{Kind: ext.URI, Value: base + "/acme/web/build:a1/p1"}) {
			t.Errorf("%v %+v\nwant %+v, %v", id.SAN(), id.Extensions(), want, err)
		}
	}
	if id, _, err := verify(t, v, token("scm_repo_url", absent, "scm_ref", absent, "runner_environment", absent)); err != nil || id.Extensions().SourceRepositoryURI != "" {
		t.Errorf("without a repository: %+v %v", id.Extensions(), err)
	}
	for _, name := range codefreshWorkflow.required {
		for _, value := range []any{absent, "", 1, ".."} {
			if _, got, err := verify(t, v, token(name, value)); got != tokenError {
				t.Errorf("%s = %v: %v", name, value, err)
			}
		}
	}
	for _, platform := range []any{"https://evil.example.net/x", "evil", 5, "https://u@evil.example.net", "https://evil.example.net?x"} {
		if id, got, err := verify(t, v, token("platform_url", platform)); got != tokenError {
			t.Errorf("platform %v: %v %v", platform, id.SAN(), err)
		}
	}
}
