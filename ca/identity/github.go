package identity

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/sigstack/sigstack/ca/ext"
)

// The type "github-workflow": one run of a GitHub Actions workflow, named by the file of
// instructions that the job ran, at its ref.

const defaultGitHubURL = "https://github.com"

func checkGitHubIssuer(i Issuer) error {
	if err := i.onlyFields("GitHubURL"); err != nil {
		return err
	}
	if i.GitHubURL == "" {
		return nil
	}
	u, err := url.Parse(i.GitHubURL)
	if err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Hostname() == "" || (&url.URL{Scheme: u.Scheme, Host: u.Host}).String() != i.GitHubURL {
		return fmt.Errorf("GitHubURL %q is not a scheme and a host alone, for example https://github.example.com", i.GitHubURL)
	}
	return nil
}

func resolveGitHub(i Issuer, c claims) (resolved, error) {
	base := i.GitHubURL
	if base == "" {
		base = defaultGitHubURL
	}
	base += "/"

	var (
		jobWorkflowRef, jobWorkflowSHA, workflowRef, workflowSHA, workflow string
		sha, ref, event, runID, runAttempt, runner                         string
		repository, repositoryID, visibility, repositoryOwner, repoOwnerID string
	)
	for _, want := range []struct {
		name string
		to   *string
		path bool // becomes part of a URL's path
	}{
		{"job_workflow_ref", &jobWorkflowRef, true},
		{"sha", &sha, false},
		{"event_name", &event, false},
		{"repository", &repository, true},
		{"workflow", &workflow, false},
		{"ref", &ref, false},
		{"job_workflow_sha", &jobWorkflowSHA, false},
		{"runner_environment", &runner, false},
		{"repository_id", &repositoryID, false},
		{"repository_owner", &repositoryOwner, true},
		{"repository_owner_id", &repoOwnerID, false},
		{"repository_visibility", &visibility, false},
		{"workflow_ref", &workflowRef, true},
		{"workflow_sha", &workflowSHA, false},
		{"run_id", &runID, true},
		{"run_attempt", &runAttempt, true},
	} {
		value, err := c.text(want.name)
		if err != nil {
			return resolved{}, err
		}
		if want.path && !plainPath(value) {
			return resolved{}, fmt.Errorf("the claim %q has an empty or a dot segment, it must be the path of a URL", want.name)
		}
		*want.to = value
	}
	environment, err := c.optionalText("environment")
	if err != nil {
		return resolved{}, err
	}

	// The name is percent-encoded where a URI must be (a ref can have any letter). A percent sign
	// of the ref is encoded as well, so that no two refs share a name.
	name, err := url.Parse(base + strings.ReplaceAll(jobWorkflowRef, "%", "%25"))
	if err != nil {
		return resolved{}, errors.New(`the claim "job_workflow_ref" cannot be written as a URI`)
	}
	subject, err := c.text("sub")
	if err != nil {
		return resolved{}, err
	}
	return resolved{
		san: ext.SAN{Kind: ext.URI, Value: name.String()},
		values: ext.Values{
			GitHubWorkflowTrigger:               event,
			GitHubWorkflowSHA:                   sha,
			GitHubWorkflowName:                  workflow,
			GitHubWorkflowRepository:            repository,
			GitHubWorkflowRef:                   ref,
			BuildSignerURI:                      base + jobWorkflowRef,
			BuildSignerDigest:                   jobWorkflowSHA,
			RunnerEnvironment:                   runner,
			SourceRepositoryURI:                 base + repository,
			SourceRepositoryDigest:              sha,
			SourceRepositoryRef:                 ref,
			SourceRepositoryIdentifier:          repositoryID,
			SourceRepositoryOwnerURI:            base + repositoryOwner,
			SourceRepositoryOwnerIdentifier:     repoOwnerID,
			BuildConfigURI:                      base + workflowRef,
			BuildConfigDigest:                   workflowSHA,
			BuildTrigger:                        event,
			RunInvocationURI:                    base + repository + "/actions/runs/" + runID + "/attempts/" + runAttempt,
			SourceRepositoryVisibilityAtSigning: visibility,
			DeploymentEnvironment:               environment,
		},
		proof: subject,
	}, nil
}

// plainPath reports whether s is a relative path without an empty, "." or ".." segment. Behind a
// prefix such segments would name another place than they seem to.
func plainPath(s string) bool {
	for segment := range strings.SplitSeq(s, "/") {
		if segment == "" || segment == "." || segment == ".." {
			return false
		}
	}
	return true
}
