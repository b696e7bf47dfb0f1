package e2e

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/sigstack/sigstack/ca/catest"
	"github.com/sigstack/sigstack/test/harness"
)

// An issuerCase is an issuer of some type, a token of it, and what cosign is told
// to expect.
type issuerCase struct {
	name   string         // the path of the issuer
	config string         // its keys beside issuer-url and client-id
	claims map[string]any // of a token
	san    string         // --certificate-identity
	flags  []string       // that a verifier may give beside it
	wrong  []string       // one of them with another value
}

func issuerCases(base string) []issuerCase {
	const workflow = "acme/widget/.github/workflows/release.yml@refs/heads/main"
	github := map[string]any{
		"sub": "repo:acme/widget:ref:refs/heads/main", "job_workflow_ref": workflow, "job_workflow_sha": "c0ffee01", "sha": "c0ffee02", "event_name": "push",
		"repository": "acme/widget", "workflow": "release", "ref": "refs/heads/main", "runner_environment": "github-hosted", "repository_id": "1001",
		"repository_owner": "acme", "repository_owner_id": "2002", "repository_visibility": "public", "workflow_ref": workflow, "workflow_sha": "c0ffee03",
		"run_id": "3003", "run_attempt": "2",
	}
	flags := []string{
		"--certificate-github-workflow-trigger", "push", "--certificate-github-workflow-sha", "c0ffee02", "--certificate-github-workflow-name", "release",
		"--certificate-github-workflow-repository", "acme/widget", "--certificate-github-workflow-ref", "refs/heads/main",
	}
	wrong := []string{"--certificate-github-workflow-ref", "refs/heads/other"}
	return []issuerCase{
		{"email", "type: email", map[string]any{"sub": "1", "email": "dev@example.com", "email_verified": true}, "dev@example.com", nil, nil},
		{"uri", "type: uri\n    subject-domain: " + base, map[string]any{"sub": base + "/job/widget/"}, base + "/job/widget/", nil, nil},
		{"username", "type: username\n    subject-domain: localhost", map[string]any{"sub": "alice"}, "alice!localhost", nil, nil},
		{
			"kubernetes", "type: kubernetes",
			map[string]any{"sub": "system:serviceaccount:prod:builder", "kubernetes.io": map[string]any{"namespace": "prod", "serviceaccount": map[string]any{"name": "builder"}}},
			"https://kubernetes.io/namespaces/prod/serviceaccounts/builder", nil, nil,
		},
		{"spiffe", "type: spiffe\n    spiffe-trust-domain: example.com", map[string]any{"sub": "spiffe://example.com/sa/builder"}, "spiffe://example.com/sa/builder", nil, nil},
		{"chainguard", "type: chainguard-identity", map[string]any{"sub": "0475f6ba/6c4b1b"}, base + "/chainguard/0475f6ba/6c4b1b", nil, nil},
		{"github", "type: github-workflow", github, "https://github.com/" + workflow, flags, wrong},
		{"ci", "type: ci-provider\n    ci-provider: forge", github, "https://forge.example.com/" + workflow, flags, wrong},
		{
			"gitlab", "type: gitlab-pipeline",
			map[string]any{
				"sub": "project_path:acme/widget:ref_type:branch:ref:main", "namespace_id": "72", "namespace_path": "acme", "project_id": "20", "project_path": "acme/widget",
				"pipeline_source": "push", "pipeline_id": "574", "job_id": "302", "ref": "main", "ref_type": "branch", "runner_id": 1, "runner_environment": "gitlab-hosted",
				"sha": "714a629c", "ci_config_ref_uri": "gitlab.com/acme/widget//.gitlab-ci.yml@refs/heads/main",
			},
			"https://gitlab.com/acme/widget//.gitlab-ci.yml@refs/heads/main", nil, nil,
		},
		{"buildkite", "type: buildkite-job", map[string]any{"sub": "organization:acme", "organization_slug": "acme", "pipeline_slug": "widget"}, "https://buildkite.com/acme/widget", nil, nil},
		{
			"codefresh", "type: codefresh-workflow",
			map[string]any{"sub": "account:a1:pipeline:p1", "account_id": "a1", "account_name": "acme", "pipeline_id": "p1", "pipeline_name": "web/build", "workflow_id": "w1"},
			"https://g.codefresh.io/acme/web/build:a1/p1", nil, nil,
		},
	}
}

// entry is the issuer in oidc-issuers.
func (c issuerCase) entry(base string) string {
	return fmt.Sprintf("  %s:\n    issuer-url: %s/%s\n    client-id: %s\n    %s\n", c.name, base, c.name, catest.Audience, c.config)
}

// startIssuers serves identity providers by their names below a URL. They are added
// to the map before anybody asks for them.
func startIssuers(t *testing.T) (base string, issuers map[string]*catest.Issuer) {
	t.Helper()
	issuers = map[string]*catest.Issuer{}
	provider := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, _, _ := strings.Cut(r.URL.Path[1:], "/")
		issuer := issuers[name]
		if issuer == nil {
			http.NotFound(w, r)
			return
		}
		issuer.ServeHTTP(w, r)
	}))
	t.Cleanup(provider.Close)
	return strings.Replace(provider.URL, "127.0.0.1", "localhost", 1), issuers
}

// TestIdentities signs with cosign and a token of each type of issuer, given in
// the environment, and verifies with the name that it leads to, and with others.
func TestIdentities(t *testing.T) {
	t.Parallel()
	base, issuers := startIssuers(t)
	var config strings.Builder
	config.WriteString(`ci-issuer-metadata:
  forge:
    default-template-values: {url: https://forge.example.com}
    extension-templates:
      github-workflow-trigger: event_name
      github-workflow-sha: sha
      github-workflow-name: workflow
      github-workflow-repository: repository
      github-workflow-ref: ref
      build-signer-uri: "{{ .url }}/{{ .job_workflow_ref }}"
    subject-alternative-name-template: "{{ .url }}/{{ .job_workflow_ref }}"
oidc-issuers:
`)
	cases := issuerCases(base)
	for _, c := range cases {
		issuers[c.name] = catest.NewIssuer(t, base+"/"+c.name)
		config.WriteString(c.entry(base))
	}
	server := harness.Start(t, "--config", harness.Config(t, config.String()))
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			u := newUser(t, server, "")
			u.initialize("cosign3")
			u.Write("blob", []byte("blob of "+t.Name()+"\n"))
			u.Setenv("SIGSTORE_ID_TOKEN", issuers[c.name].Token(t, time.Now(), c.claims))
			u.Run("cosign3", "sign-blob", "--yes", "--bundle", "blob.json", "blob")
			verify := func(san, issuer string, flags ...string) []string {
				return args("verify-blob", "--bundle", "blob.json", "--certificate-identity", san, "--certificate-oidc-issuer", issuer, flags, "blob")
			}
			issuer := base + "/" + c.name
			u.Run("cosign3", verify(c.san, issuer, c.flags...)...)
			u.Refuse("", "cosign3", verify(c.san+"x", issuer)...)
			u.Refuse("", "cosign3", verify(c.san, issuer+"x")...)
			if c.wrong != nil {
				u.Refuse("", "cosign3", verify(c.san, issuer, c.wrong...)...)
			}

			// Another issuer's token for the same name is another identity, or none.
			other := catest.NewIssuer(t, issuer)
			u.Setenv("SIGSTORE_ID_TOKEN", other.Token(t, time.Now(), maps.Clone(c.claims)))
			u.Refuse("", "cosign3", "sign-blob", "--yes", "--bundle", "other.json", "blob")
		})
	}
}
