package main

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/sigstack/sigstack/ca/catest"
	"github.com/sigstack/sigstack/ca/ext"
	"github.com/sigstack/sigstack/ca/identity"
)

// A readyRow is a token as a provider writes them, and the names that it leads to
// with the entry of deploy/issuers.yaml for that provider.
type readyRow struct {
	entry  string // of oidc-issuers or meta-issuers
	issuer string // iss, where the entry is a pattern
	claims map[string]any
	absent []string // claims that may be absent
	unused []string // claims that no name is made of
	san    ext.SAN
	values ext.Values // without issuer and subject, which are those of the token unless set
}

func readyRows() []readyRow {
	uri := func(s string) ext.SAN { return ext.SAN{Kind: ext.URI, Value: s} }
	login := func(entry string, more map[string]any) readyRow {
		claims := map[string]any{"sub": "00u1abc", "email": "dev@example.com", "email_verified": true}
		maps.Copy(claims, more)
		return readyRow{entry: entry, claims: claims, san: ext.SAN{Kind: ext.Email, Value: "dev@example.com"}}
	}
	dex := login("https://dex.example.com/auth", map[string]any{"federated_claims": map[string]any{"connector_id": "https://accounts.google.com", "user_id": "7"}})
	dex.values.Issuer = "https://accounts.google.com"
	entra := login("https://login.microsoftonline.com/11111111-2222-3333-4444-555555555555/v2.0", map[string]any{"aud": "66666666-7777-8888-9999-000000000000"})
	delete(entra.claims, "email_verified")

	github := func(entry, issuer, base string) readyRow {
		signer := base + "/acme/shared/.github/workflows/build.yml@refs/tags/v1"
		return readyRow{
			entry: entry, issuer: issuer,
			claims: map[string]any{
				"sub": "repo:acme/widget:ref:refs/heads/main", "job_workflow_ref": "acme/shared/.github/workflows/build.yml@refs/tags/v1", "job_workflow_sha": "c0ffee01",
				"sha": "c0ffee02", "event_name": "push", "repository": "acme/widget", "workflow": "release", "ref": "refs/heads/main", "runner_environment": "github-hosted",
				"repository_id": "1001", "repository_owner": "acme", "repository_owner_id": "2002", "repository_visibility": "public", "environment": "production",
				"workflow_ref": "acme/widget/.github/workflows/release.yml@refs/heads/main", "workflow_sha": "c0ffee03", "run_id": "3003", "run_attempt": "2",
				"actor": "dev", "run_number": "9", "ref_type": "branch",
			},
			absent: []string{"environment"}, unused: []string{"actor", "run_number", "ref_type"}, san: uri(signer),
			values: ext.Values{
				GitHubWorkflowTrigger: "push", GitHubWorkflowSHA: "c0ffee02", GitHubWorkflowName: "release", GitHubWorkflowRepository: "acme/widget", GitHubWorkflowRef: "refs/heads/main",
				BuildSignerURI: signer, BuildSignerDigest: "c0ffee01", RunnerEnvironment: "github-hosted", SourceRepositoryURI: base + "/acme/widget", SourceRepositoryDigest: "c0ffee02",
				SourceRepositoryRef: "refs/heads/main", SourceRepositoryIdentifier: "1001", SourceRepositoryOwnerURI: base + "/acme", SourceRepositoryOwnerIdentifier: "2002",
				BuildConfigURI: base + "/acme/widget/.github/workflows/release.yml@refs/heads/main", BuildConfigDigest: "c0ffee03", BuildTrigger: "push",
				RunInvocationURI: base + "/acme/widget/actions/runs/3003/attempts/2", SourceRepositoryVisibilityAtSigning: "public", DeploymentEnvironment: "production",
			},
		}
	}
	gitlab := func(host string) readyRow {
		base := "https://" + host
		signer := base + "/acme/widget//.gitlab-ci.yml@refs/heads/main"
		return readyRow{
			entry: base,
			claims: map[string]any{
				"sub": "project_path:acme/widget:ref_type:branch:ref:main", "namespace_id": "72", "namespace_path": "acme", "project_id": "20", "project_path": "acme/widget",
				"pipeline_source": "push", "pipeline_id": "574", "job_id": "302", "ref": "main", "ref_type": "branch", "ref_protected": "true", "runner_id": 1,
				"runner_environment": "self-hosted", "sha": "714a629c", "project_visibility": "private", "ci_config_sha": "714a629d", "environment": "staging",
				"ci_config_ref_uri": host + "/acme/widget//.gitlab-ci.yml@refs/heads/main", "user_login": "dev",
			},
			absent: []string{"environment", "project_visibility"}, unused: []string{"pipeline_id", "ref_protected", "runner_id", "user_login"}, san: uri(signer),
			values: ext.Values{
				BuildSignerURI: signer, BuildSignerDigest: "714a629d", RunnerEnvironment: "self-hosted", SourceRepositoryURI: base + "/acme/widget", SourceRepositoryDigest: "714a629c",
				SourceRepositoryRef: "refs/heads/main", SourceRepositoryIdentifier: "20", SourceRepositoryOwnerURI: base + "/acme", SourceRepositoryOwnerIdentifier: "72",
				BuildConfigURI: signer, BuildConfigDigest: "714a629d", BuildTrigger: "push", RunInvocationURI: base + "/acme/widget/-/jobs/302",
				SourceRepositoryVisibilityAtSigning: "private", DeploymentEnvironment: "staging",
			},
		}
	}
	account := func(entry, issuer string) readyRow {
		return readyRow{
			entry: entry, issuer: issuer,
			claims: map[string]any{
				"sub":           "system:serviceaccount:prod:builder",
				"kubernetes.io": map[string]any{"namespace": "prod", "serviceaccount": map[string]any{"name": "builder", "uid": "4fa1"}, "pod": map[string]any{"name": "builder-1"}},
			},
			san: uri("https://kubernetes.io/namespaces/prod/serviceaccounts/builder"),
		}
	}
	const circle = "oidc.circleci.com/"
	const workspace, repository = "{7baee083-4f25-4a97-8a9a-0fde1b623b45}", "{2e9e429c-7b8b-404f-8648-8c40c27c9ebd}"
	return []readyRow{
		login("https://accounts.google.com", map[string]any{"hd": "example.com"}),
		dex,
		login("https://keycloak.example.com/realms/main", map[string]any{"preferred_username": "dev"}),
		entra,
		login("https://example.okta.com", map[string]any{"aud": "0oa1sigstore"}),
		github("https://token.actions.githubusercontent.com", "", "https://github.com"),
		github("https://token.actions.githubusercontent.com/*", "https://token.actions.githubusercontent.com/acme-corp", "https://github.com"),
		github("https://github.example.com/_services/token", "", "https://github.example.com"),
		gitlab("gitlab.com"),
		gitlab("gitlab.example.com"),
		{
			entry: "https://agent.buildkite.com",
			claims: map[string]any{
				"sub":               "organization:acme:pipeline:widget:ref:refs/heads/main:commit:9f3182061f1e2cca4702c368cbc039b7dc9d4485:step:build",
				"organization_slug": "acme", "pipeline_slug": "widget", "build_number": 42, "build_commit": "9f318206", "build_branch": "main", "step_key": "build",
				"job_id": "0184990a", "agent_id": "0184990b", "build_source": "webhook", "runner_environment": "buildkite-hosted",
			},
			unused: []string{"build_branch", "step_key", "agent_id"}, san: uri("https://buildkite.com/acme/widget"),
			values: ext.Values{RunnerEnvironment: "buildkite-hosted", SourceRepositoryDigest: "9f318206", BuildTrigger: "webhook", RunInvocationURI: "https://buildkite.com/acme/widget/builds/42#0184990a"},
		},
		{
			entry: "https://oidc.codefresh.io",
			claims: map[string]any{
				"sub": "account:628a80b693a15c0f9c13ab75:pipeline:65e5a53e52853dc51a5b0cc1", "account_id": "628a80b6", "account_name": "acme", "pipeline_id": "65e5a53e",
				"pipeline_name": "web/build", "workflow_id": "65e6d5551e47e5bc243ca93f", "platform_url": "https://g.codefresh.io", "scm_repo_url": "https://github.com/acme/widget",
				"scm_ref": "main", "runner_environment": "hybrid", "initiator": "codefresh-user",
			},
			absent: []string{"platform_url", "scm_repo_url", "scm_ref", "runner_environment"}, unused: []string{"initiator"},
			san: uri("https://g.codefresh.io/acme/web/build:628a80b6/65e5a53e"),
			values: ext.Values{
				BuildSignerURI: "https://g.codefresh.io/build/65e6d5551e47e5bc243ca93f", RunnerEnvironment: "hybrid", SourceRepositoryURI: "https://github.com/acme/widget", SourceRepositoryRef: "main",
				BuildConfigURI: "https://g.codefresh.io/api/pipelines/65e5a53e", RunInvocationURI: "https://g.codefresh.io/build/65e6d5551e47e5bc243ca93f",
			},
		},
		{
			entry: "https://oidc.circleci.com/org/*", issuer: "https://oidc.circleci.com/org/3e6b7c1a-0001-4000-8000-000000000001",
			claims: map[string]any{
				"sub": "org/3e6b7c1a/project/p1/user/u1/vcs-origin/github.com/acme/widget/vcs-ref/refs/heads/main", circle + "project-id": "p1", circle + "pipeline-definition-id": "d1",
				circle + "pipeline-id": "i1", circle + "workflow-id": "w1", circle + "job-id": "j1", circle + "vcs-origin": "github.com/acme/widget", circle + "vcs-ref": "refs/heads/main",
				circle + "ssh-rerun": false, circle + "context-ids": []string{"c1"}, circle + "org-id": "3e6b7c1a",
			},
			absent: []string{circle + "vcs-origin", circle + "vcs-ref"}, unused: []string{circle + "context-ids", circle + "org-id"},
			san: uri("https://circleci.com/api/v2/projects/p1/pipeline-definitions/d1"),
			values: ext.Values{
				BuildSignerURI: "https://circleci.com/api/v2/projects/p1/pipeline-definitions/d1", RunnerEnvironment: `""`, SourceRepositoryURI: "github.com/acme/widget",
				SourceRepositoryRef: "refs/heads/main", BuildConfigURI: "https://circleci.com/api/v2/pipeline/i1/config", RunInvocationURI: "https://app.circleci.com//workflow/w1/job/j1",
			},
		},
		{
			entry: "https://oidc.buddyusercontent.com",
			claims: map[string]any{
				"sub": "acme/abc123", "workspace_domain": "acme", "project_name": "widget", "pipeline_id": "123456", "execution_id": "exec-456", "revision": "a1b2c3d4", "ref": "refs/heads/main",
				"triggered_on": "push", "runner_environment": "buddy-hosted", "action_name": "Build",
			},
			absent: []string{"revision", "ref"}, unused: []string{"action_name"}, san: uri("https://app.buddy.works/acme/widget/pipelines/pipeline/123456"),
			values: ext.Values{
				BuildSignerURI: "https://app.buddy.works/acme/widget/pipelines/pipeline/123456", RunnerEnvironment: "buddy-hosted", SourceRepositoryURI: "https://app.buddy.works/acme/widget",
				SourceRepositoryDigest: "a1b2c3d4", SourceRepositoryRef: "refs/heads/main", SourceRepositoryOwnerURI: "https://app.buddy.works/acme", BuildTrigger: "push",
				RunInvocationURI: "https://app.buddy.works/acme/widget/pipelines/pipeline/123456/execution/exec-456",
			},
		},
		{
			entry: "https://api.bitbucket.org/2.0/workspaces/acme/pipelines-config/identity/oidc",
			claims: map[string]any{
				"sub": repository + ":{step-1}", "aud": []string{"ari:cloud:bitbucket::workspace/7baee083-4f25-4a97-8a9a-0fde1b623b45", "sigstore"}, "workspaceUuid": workspace,
				"repositoryUuid": repository, "pipelineUuid": "{run-1}", "stepUuid": "{step-1}", "branchName": "main", "deploymentEnvironment": "production", "pipelineRunUuid": "{run-2}",
			},
			absent: []string{"branchName", "deploymentEnvironment"}, unused: []string{"pipelineRunUuid"},
			san: uri("https://bitbucket.org/%7B7baee083-4f25-4a97-8a9a-0fde1b623b45%7D/%7B2e9e429c-7b8b-404f-8648-8c40c27c9ebd%7D"),
			values: ext.Values{
				BuildSignerURI: "https://bitbucket.org/" + workspace + "/" + repository, SourceRepositoryURI: "https://bitbucket.org/" + workspace + "/" + repository, SourceRepositoryRef: "refs/heads/main",
				SourceRepositoryIdentifier: repository, SourceRepositoryOwnerURI: "https://bitbucket.org/" + workspace, SourceRepositoryOwnerIdentifier: workspace,
				RunInvocationURI: "https://bitbucket.org/" + workspace + "/" + repository + "/pipelines/results/{run-1}/steps/{step-1}", DeploymentEnvironment: "production",
			},
		},
		{
			entry: "https://vstoken.dev.azure.com/11111111-2222-3333-4444-555555555555",
			claims: map[string]any{
				"sub": "p://acme/widget/release", "aud": "api://AzureADTokenExchange", "org_id": "11111111", "prj_id": "271ef6f7", "def_id": "12", "run_id": "345", "rpo_id": "acme/widget",
				"rpo_uri": "https://github.com/acme/widget.git", "rpo_ver": "c291ea71", "rpo_ref": "refs/heads/main",
			},
			san: uri("https://dev.azure.com/11111111/271ef6f7/_build?definitionId=12"),
			values: ext.Values{
				BuildSignerURI: "https://dev.azure.com/11111111/271ef6f7/_build?definitionId=12", SourceRepositoryURI: "https://github.com/acme/widget.git", SourceRepositoryDigest: "c291ea71",
				SourceRepositoryRef: "refs/heads/main", SourceRepositoryIdentifier: "acme/widget", SourceRepositoryOwnerIdentifier: "11111111",
				RunInvocationURI: "https://dev.azure.com/11111111/271ef6f7/_build/results?buildId=345",
			},
		},
		{
			entry:  "https://jenkins.example.com/oidc",
			claims: map[string]any{"sub": "https://jenkins.example.com/job/widget/job/main/", "build_number": "12"},
			unused: []string{"build_number"}, san: uri("https://jenkins.example.com/job/widget/job/main/"),
		},
		{
			entry: "https://forge.example.com/api/actions",
			claims: map[string]any{
				"sub": "repo:acme/widget:ref:refs/heads/main", "event_name": "push", "sha": "c0ffee02", "workflow": "release.yml", "repository": "acme/widget", "repository_owner": "acme",
				"ref": "refs/heads/main", "workflow_ref": "acme/widget/.forgejo/workflows/release.yml@refs/heads/main", "run_number": "9", "run_id": "3003", "actor": "dev",
			},
			unused: []string{"run_id", "actor"}, san: uri("https://forge.example.com/acme/widget/.forgejo/workflows/release.yml@refs/heads/main"),
			values: ext.Values{
				GitHubWorkflowTrigger: "push", GitHubWorkflowSHA: "c0ffee02", GitHubWorkflowName: "release.yml", GitHubWorkflowRepository: "acme/widget", GitHubWorkflowRef: "refs/heads/main",
				BuildSignerURI: "https://forge.example.com/acme/widget/.forgejo/workflows/release.yml@refs/heads/main", SourceRepositoryURI: "https://forge.example.com/acme/widget",
				SourceRepositoryDigest: "c0ffee02", SourceRepositoryRef: "refs/heads/main", SourceRepositoryOwnerURI: "https://forge.example.com/acme",
				BuildConfigURI: "https://forge.example.com/acme/widget/.forgejo/workflows/release.yml@refs/heads/main", BuildTrigger: "push",
				RunInvocationURI: "https://forge.example.com/acme/widget/actions/runs/9",
			},
		},
		{
			entry:  "https://spire.example.com",
			claims: map[string]any{"sub": "spiffe://example.com/ns/prod/sa/builder"},
			san:    uri("spiffe://example.com/ns/prod/sa/builder"),
		},
		account("https://kubernetes.default.svc.cluster.local", ""),
		account("https://oidc.eks.*.amazonaws.com/id/*", "https://oidc.eks.eu-west-1.amazonaws.com/id/0A1B2C3D"),
		account("https://container.googleapis.com/v1/projects/*/locations/*/clusters/*", "https://container.googleapis.com/v1/projects/acme/locations/europe-west1/clusters/prod"),
		account("https://*.oic.prod-aks.azure.com/*", "https://westeurope.oic.prod-aks.azure.com/11111111-2222"),
	}
}

// TestReadyIssuers issues names from every entry of deploy/issuers.yaml, and none
// when a claim is missing that a name is made of.
func TestReadyIssuers(t *testing.T) {
	c, err := loadFile("../../deploy/issuers.yaml")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	seen := map[string]bool{}
	for _, row := range readyRows() {
		t.Run(row.entry, func(t *testing.T) {
			if row.issuer == "" {
				row.issuer = row.entry
			}
			at := slices.IndexFunc(c.issuers, func(i identity.Issuer) bool { return i.URL == row.entry })
			if at < 0 {
				t.Fatal("there is no such entry")
			}
			seen[row.entry] = true
			provider := catest.NewIssuer(t, row.issuer)
			issuer := c.issuers[at]
			issuer.Transport = provider
			v, err := identity.NewVerifier(identity.Config{Issuers: []identity.Issuer{issuer}}, identity.Options{Now: func() time.Time { return now }})
			if err != nil {
				t.Fatal(err)
			}
			id, err := v.Verify(t.Context(), provider.Token(t, now, row.claims))
			if err != nil {
				t.Fatal(err)
			}
			want := row.values
			if want.Issuer == "" {
				want.Issuer = row.issuer
			}
			want.Subject = row.claims["sub"].(string)
			if id.SAN() != row.san || id.Extensions() != want {
				t.Errorf("%v\n%+v\nwant %v\n%+v", id.SAN(), id.Extensions(), row.san, want)
			}
			for _, name := range slices.Sorted(maps.Keys(row.claims)) {
				left := maps.Clone(row.claims)
				left[name] = nil // is absent to whoever reads it
				without, err := v.Verify(t.Context(), provider.Token(t, now, left))
				switch {
				case slices.Contains(row.unused, name):
					if err != nil || without.SAN() != id.SAN() || without.Extensions() != id.Extensions() {
						t.Errorf("without %s, of which nothing is made: %v %v", name, without.SAN(), err)
					}
				case slices.Contains(row.absent, name):
					if err != nil || without.SAN() != id.SAN() {
						t.Errorf("without %s, which may be absent: %v %v", name, without.SAN(), err)
					}
				case name == "hd" || name == "preferred_username": // of a login
				case err == nil:
					t.Errorf("without %s: %v %+v", name, without.SAN(), without.Extensions())
				}
			}
		})
	}
	for _, i := range c.issuers {
		if !seen[i.URL] {
			t.Errorf("%s has no token here", i.URL)
		}
	}
}
