package identity

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// The types "github-workflow", "gitlab-pipeline", "buildkite-job" and "codefresh-workflow": runs of
// CI systems at one fixed place, by templates that are part of this program. They are older than
// the type "ci-provider", which does the same for any place.

// A fixedType is such a type.
type fixedType struct {
	required  []string // claims that have to be strings and not empty, whether a template uses them or not
	check     func(claims) error
	templates Templates
}

// prepare makes the type's resolver. The templates are compiled once for each issuer; that they can
// be is a matter of this program, and shown by its tests.
func (f fixedType) prepare(i Issuer) (resolver, error) {
	if err := i.onlyFields(); err != nil {
		return nil, err
	}
	p, err := f.templates.compile()
	if err != nil {
		return nil, err
	}
	return func(_ string, c claims) (resolved, error) {
		for _, name := range f.required {
			if _, err := c.text(name); err != nil {
				return resolved{}, err
			}
		}
		if f.check != nil {
			if err := f.check(c); err != nil {
				return resolved{}, err
			}
		}
		return p.resolve(c)
	}, nil
}

var githubWorkflow = fixedType{
	required: []string{
		"job_workflow_ref", "sha", "event_name", "repository", "workflow", "ref", "job_workflow_sha", "runner_environment",
		"repository_id", "repository_owner", "repository_owner_id", "repository_visibility", "workflow_ref", "workflow_sha",
		"run_id", "run_attempt",
	},
	check: func(c claims) error {
		for _, name := range []string{"job_workflow_ref", "repository", "repository_owner", "workflow_ref", "run_id", "run_attempt"} {
			if text, _, err := c.str(name); err != nil || strings.Contains(text, "//") { // plain for GitLab only
				return fmt.Errorf("the claim %q has an empty segment, it must be the path of a URL", name)
			}
		}
		return nil
	},
	templates: Templates{
		Defaults: map[string]string{"url": "https://github.com"},
		SAN:      "{{.url}}/{{.job_workflow_ref}}",
		Extensions: map[string]string{
			"github-workflow-trigger":                 "event_name",
			"github-workflow-sha":                     "sha",
			"github-workflow-name":                    "workflow",
			"github-workflow-repository":              "repository",
			"github-workflow-ref":                     "ref",
			"build-signer-uri":                        "{{.url}}/{{.job_workflow_ref}}",
			"build-signer-digest":                     "job_workflow_sha",
			"runner-environment":                      "runner_environment",
			"source-repository-uri":                   "{{.url}}/{{.repository}}",
			"source-repository-digest":                "sha",
			"source-repository-ref":                   "ref",
			"source-repository-identifier":            "repository_id",
			"source-repository-owner-uri":             "{{.url}}/{{.repository_owner}}",
			"source-repository-owner-identifier":      "repository_owner_id",
			"build-config-uri":                        "{{.url}}/{{.workflow_ref}}",
			"build-config-digest":                     "workflow_sha",
			"build-trigger":                           "event_name",
			"run-invocation-uri":                      "{{.url}}/{{.repository}}/actions/runs/{{.run_id}}/attempts/{{.run_attempt}}",
			"source-repository-visibility-at-signing": "repository_visibility",
		},
	},
}

var gitlabPipeline = fixedType{
	required: []string{
		"project_path", "project_id", "pipeline_source", "pipeline_id", "ci_config_ref_uri", "job_id", "ref", "ref_type",
		"namespace_path", "namespace_id", "sha", "runner_environment",
	},
	check: func(c claims) error {
		if kind, err := c.text("ref_type"); err != nil || kind != "branch" && kind != "tag" {
			return errors.New(`the claim "ref_type" is neither "branch" nor "tag"`)
		}
		runner, _ := c.get("runner_id")
		if id, err := strconv.ParseInt(string(runner), 10, 64); err != nil || id == 0 {
			return errors.New(`the claim "runner_id" is not a whole number other than 0`)
		}
		return nil
	},
	templates: Templates{
		Defaults: map[string]string{"url": "https://gitlab.com", "ci_config_sha": "", "project_visibility": ""},
		SAN:      "https://{{.ci_config_ref_uri}}",
		Extensions: map[string]string{
			"build-signer-uri":                        "https://{{.ci_config_ref_uri}}",
			"build-signer-digest":                     "ci_config_sha",
			"runner-environment":                      "runner_environment",
			"source-repository-uri":                   "{{.url}}/{{.project_path}}",
			"source-repository-digest":                "sha",
			"source-repository-ref":                   `refs/{{if eq .ref_type "branch"}}heads{{else}}tags{{end}}/{{.ref}}`,
			"source-repository-identifier":            "project_id",
			"source-repository-owner-uri":             "{{.url}}/{{.namespace_path}}",
			"source-repository-owner-identifier":      "namespace_id",
			"build-config-uri":                        "https://{{.ci_config_ref_uri}}",
			"build-config-digest":                     "ci_config_sha",
			"build-trigger":                           "pipeline_source",
			"run-invocation-uri":                      "{{.url}}/{{.project_path}}/-/jobs/{{.job_id}}",
			"source-repository-visibility-at-signing": "project_visibility",
		},
	},
}

var buildkiteJob = fixedType{
	required: []string{"organization_slug", "pipeline_slug"},
	templates: Templates{
		Defaults: map[string]string{"url": "https://buildkite.com"},
		SAN:      "{{.url}}/{{.organization_slug}}/{{.pipeline_slug}}",
	},
}

// An installation of Codefresh says itself where it is.
var codefreshWorkflow = fixedType{
	required: []string{"account_id", "account_name", "pipeline_id", "pipeline_name", "workflow_id"},
	check: func(c claims) error {
		if platform, _, err := c.str("platform_url"); err != nil || platform != "" && checkOrigin(platform) != nil {
			return fmt.Errorf(`the claim "platform_url" is not a scheme and a host alone`)
		}
		return nil
	},
	templates: Templates{
		Defaults:    map[string]string{"platform_url": "https://g.codefresh.io", "runner_environment": "", "scm_repo_url": "", "scm_ref": ""},
		Overridable: []string{"platform_url"},
		SAN:         "{{.platform_url}}/{{.account_name}}/{{.pipeline_name}}:{{.account_id}}/{{.pipeline_id}}",
		Extensions: map[string]string{
			"build-signer-uri":      "{{.platform_url}}/build/{{.workflow_id}}",
			"runner-environment":    "runner_environment",
			"source-repository-uri": "scm_repo_url",
			"source-repository-ref": "scm_ref",
			"build-config-uri":      "{{.platform_url}}/api/pipelines/{{.pipeline_id}}",
			"run-invocation-uri":    "{{.platform_url}}/build/{{.workflow_id}}",
		},
	},
}
