package devoidc

import (
	"crypto/sha1"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// GitHubClaims say which workflow run a token is about. Only Repository is
// required. An empty field gets the value that the field's comment names, so
// that all sixteen claims that the github-workflow issuer type wants are there
// and agree with each other. A field has at most 512 bytes, all together 4096.
type GitHubClaims struct {
	Audience             string // the client id
	Repository           string // "owner/name"
	RepositoryID         string // decimal; made from Repository
	RepositoryOwnerID    string // decimal; made from the owner
	RepositoryVisibility string // "public"; or private, internal
	Ref                  string // "refs/heads/main"
	SHA                  string // 40 or 64 hexadecimal digits; made from Repository and Ref
	Workflow             string // the workflow's name, "release"
	WorkflowRef          string // "<Repository>/.github/workflows/<Workflow>.yml@<Ref>"
	WorkflowSHA          string // SHA
	JobWorkflowRef       string // WorkflowRef; differs for a reusable workflow
	JobWorkflowSHA       string // WorkflowSHA
	EventName            string // "push"
	RunnerEnvironment    string // "github-hosted"; or self-hosted
	RunID                string // decimal, "1"
	RunNumber            string // decimal, "1"
	RunAttempt           string // decimal, "1"
	Actor                string // the owner
	ActorID              string // decimal; made from Actor
	Environment          string // none; the claim is left out
}

// gitHubToken is the payload in the order that GitHub documents. All values
// but the times are strings, numbers and booleans too: that is how GitHub
// spells them.
type gitHubToken struct {
	JTI                  string `json:"jti"`
	Subject              string `json:"sub"`
	Environment          string `json:"environment,omitempty"`
	Audience             string `json:"aud"`
	Ref                  string `json:"ref"`
	SHA                  string `json:"sha"`
	Repository           string `json:"repository"`
	RepositoryOwner      string `json:"repository_owner"`
	RepositoryOwnerID    string `json:"repository_owner_id"`
	RunID                string `json:"run_id"`
	RunNumber            string `json:"run_number"`
	RunAttempt           string `json:"run_attempt"`
	RepositoryVisibility string `json:"repository_visibility"`
	RepositoryID         string `json:"repository_id"`
	ActorID              string `json:"actor_id"`
	Actor                string `json:"actor"`
	Workflow             string `json:"workflow"`
	EventName            string `json:"event_name"`
	RefType              string `json:"ref_type"`
	WorkflowRef          string `json:"workflow_ref"`
	WorkflowSHA          string `json:"workflow_sha"`
	JobWorkflowRef       string `json:"job_workflow_ref"`
	JobWorkflowSHA       string `json:"job_workflow_sha"`
	RunnerEnvironment    string `json:"runner_environment"`
	Issuer               string `json:"iss"`
	NotBefore            int64  `json:"nbf"`
	Expiry               int64  `json:"exp"`
	IssuedAt             int64  `json:"iat"`
}

// GitHubToken returns a token of GitHubIssuerURL.
func (s *Issuer) GitHubToken(c GitHubClaims) (string, error) {
	if err := c.complete(s.cfg.ClientID); err != nil {
		return "", fmt.Errorf("devoidc: %w", err)
	}
	id, err := newCode(s.cfg.Rand)
	if err != nil {
		return "", err
	}
	owner, _, _ := strings.Cut(c.Repository, "/")
	refType := "branch"
	if strings.HasPrefix(c.Ref, "refs/tags/") {
		refType = "tag"
	}
	iat, exp := s.times()
	return s.sign(gitHubToken{
		JTI: id, Subject: c.subject(), Environment: c.Environment, Audience: c.Audience,
		Ref: c.Ref, SHA: c.SHA, Repository: c.Repository,
		RepositoryOwner: owner, RepositoryOwnerID: c.RepositoryOwnerID,
		RunID: c.RunID, RunNumber: c.RunNumber, RunAttempt: c.RunAttempt,
		RepositoryVisibility: c.RepositoryVisibility, RepositoryID: c.RepositoryID,
		ActorID: c.ActorID, Actor: c.Actor, Workflow: c.Workflow, EventName: c.EventName,
		RefType: refType, WorkflowRef: c.WorkflowRef, WorkflowSHA: c.WorkflowSHA,
		JobWorkflowRef: c.JobWorkflowRef, JobWorkflowSHA: c.JobWorkflowSHA,
		RunnerEnvironment: c.RunnerEnvironment,
		Issuer:            s.GitHubIssuerURL(), NotBefore: iat, Expiry: exp, IssuedAt: iat,
	})
}

// subject is GitHub's default: the environment wins over the event, the event
// over the ref.
func (c *GitHubClaims) subject() string {
	switch {
	case c.Environment != "":
		// GitHub escapes the colons of a name, because they separate the
		// parts of a subject.
		return "repo:" + c.Repository + ":environment:" + strings.ReplaceAll(c.Environment, ":", "%3A")
	case c.EventName == "pull_request":
		return "repo:" + c.Repository + ":pull_request"
	}
	return "repo:" + c.Repository + ":ref:" + c.Ref
}

// gitHubField joins a field of GitHubClaims, the claim or query parameter of
// the same meaning, and its rule.
type gitHubField struct {
	claim string
	value *string
	check func(string) error
}

// fields lists every field, in the order in which defaults depend on each
// other.
func (c *GitHubClaims) fields() []gitHubField {
	return []gitHubField{
		{"audience", &c.Audience, checkAudience},
		{"repository", &c.Repository, checkRepository},
		{"repository_id", &c.RepositoryID, checkDecimal},
		{"repository_owner_id", &c.RepositoryOwnerID, checkDecimal},
		{"repository_visibility", &c.RepositoryVisibility, oneOf("public", "private", "internal")},
		{"ref", &c.Ref, checkRef},
		{"sha", &c.SHA, checkSHA},
		{"workflow", &c.Workflow, checkText},
		{"workflow_ref", &c.WorkflowRef, checkWorkflowRef},
		{"workflow_sha", &c.WorkflowSHA, checkSHA},
		{"job_workflow_ref", &c.JobWorkflowRef, checkWorkflowRef},
		{"job_workflow_sha", &c.JobWorkflowSHA, checkSHA},
		{"event_name", &c.EventName, checkEvent},
		{"runner_environment", &c.RunnerEnvironment, oneOf("github-hosted", "self-hosted")},
		{"run_id", &c.RunID, checkDecimal},
		{"run_number", &c.RunNumber, checkDecimal},
		{"run_attempt", &c.RunAttempt, checkDecimal},
		{"actor", &c.Actor, checkText},
		{"actor_id", &c.ActorID, checkDecimal},
		{"environment", &c.Environment, checkText},
	}
}

// gitHubClaimNames are the names in the discovery document.
func gitHubClaimNames() []string {
	names := []string{"iss", "sub", "aud", "exp", "iat", "nbf", "jti", "repository_owner", "ref_type"}
	for _, f := range new(GitHubClaims).fields() {
		if f.claim != "audience" {
			names = append(names, f.claim)
		}
	}
	return names
}

// complete fills the empty fields and checks all of them.
func (c *GitHubClaims) complete(clientID string) error {
	if c.Repository == "" {
		return errors.New("repository is missing: want owner/name")
	}
	// The defaults are made from it.
	if err := checkRepository(c.Repository); err != nil {
		return fmt.Errorf("repository: %w", err)
	}
	owner, _, _ := strings.Cut(c.Repository, "/")
	set := func(field *string, value string) {
		if *field == "" {
			*field = value
		}
	}
	set(&c.Audience, clientID)
	set(&c.RepositoryID, decimalOf(c.Repository))
	set(&c.RepositoryOwnerID, decimalOf(owner))
	set(&c.RepositoryVisibility, "public")
	set(&c.Ref, "refs/heads/main")
	set(&c.SHA, commitOf(c.Repository+"@"+c.Ref))
	set(&c.Workflow, "release")
	if c.WorkflowRef == "" {
		file := c.Workflow
		if !allOf(file, isRepoChar) {
			return fmt.Errorf("workflow %.80q is no file name: give workflow_ref as well", file)
		}
		if !strings.HasSuffix(file, ".yml") && !strings.HasSuffix(file, ".yaml") {
			file += ".yml"
		}
		c.WorkflowRef = c.Repository + "/.github/workflows/" + file + "@" + c.Ref
	}
	set(&c.WorkflowSHA, c.SHA)
	set(&c.JobWorkflowRef, c.WorkflowRef)
	set(&c.JobWorkflowSHA, c.WorkflowSHA)
	set(&c.EventName, "push")
	set(&c.RunnerEnvironment, "github-hosted")
	set(&c.RunID, "1")
	set(&c.RunNumber, "1")
	set(&c.RunAttempt, "1")
	set(&c.Actor, owner)
	set(&c.ActorID, decimalOf(c.Actor))

	total := 0
	for _, f := range c.fields() {
		if *f.value == "" {
			continue // only Environment can be
		}
		total += len(*f.value)
		if len(*f.value) > 512 {
			return fmt.Errorf("%s has %d bytes: want at most 512", f.claim, len(*f.value))
		}
		if err := f.check(*f.value); err != nil {
			return fmt.Errorf("%s: %w", f.claim, err)
		}
	}
	if total > 4096 {
		// Then the token stays below maxToken.
		return fmt.Errorf("claims of %d bytes: want at most 4096 in all", total)
	}
	if !strings.HasPrefix(c.WorkflowRef, c.Repository+"/") {
		return fmt.Errorf("workflow_ref %.200q is not in the repository; only job_workflow_ref may be elsewhere", c.WorkflowRef)
	}
	return nil
}

// decimalOf makes a stable identifier of ten digits at most from a name.
func decimalOf(name string) string {
	sum := sha256.Sum256([]byte(name))
	return strconv.FormatUint(uint64(binary.BigEndian.Uint32(sum[:])), 10)
}

// commitOf makes a stable value with the shape of a git commit; nobody relies
// on it as a digest.
func commitOf(name string) string {
	sum := sha1.Sum([]byte(name))
	return hex.EncodeToString(sum[:])
}

func isRepoChar(c byte) bool { return isAlnum(c) || c == '-' || c == '_' || c == '.' }

func checkRepository(s string) error {
	owner, name, _ := strings.Cut(s, "/")
	for _, part := range []string{owner, name} {
		if part == "" || part == "." || part == ".." || len(part) > 100 || !allOf(part, isRepoChar) {
			return fmt.Errorf("%.80q: want owner/name, each of letters, digits, hyphens, dots and underscores", s)
		}
	}
	return nil
}

func checkRef(s string) error {
	if !strings.HasPrefix(s, "refs/") || !printable(s, 512) || strings.ContainsAny(s, " ~^:?*[\\") || strings.Contains(s, "..") || strings.HasSuffix(s, "/") {
		return fmt.Errorf("%.80q: want a full git ref like refs/heads/main", s)
	}
	return nil
}

func checkWorkflowRef(s string) error {
	path, ref, _ := strings.Cut(s, "@")
	repository, file, _ := strings.Cut(path, "/.github/workflows/")
	// A job's workflow may be pinned by commit, which is no ref.
	if checkRepository(repository) != nil || file == "" || !allOf(file, isRepoChar) || checkRef(ref) != nil && checkSHA(ref) != nil {
		return fmt.Errorf("%.200q: want owner/name/.github/workflows/file.yml@refs/heads/main", s)
	}
	return nil
}

func checkSHA(s string) error {
	if b, err := hex.DecodeString(s); err != nil || len(b) != 20 && len(b) != 32 {
		return fmt.Errorf("%.80q: want 40 or 64 hexadecimal digits", s)
	}
	return nil
}

func checkDecimal(s string) error {
	if len(s) > 20 || !allOf(s, func(c byte) bool { return '0' <= c && c <= '9' }) {
		return fmt.Errorf("%.80q: want a decimal number of at most 20 digits", s)
	}
	return nil
}

func checkEvent(s string) error {
	if len(s) > 64 || !allOf(s, func(c byte) bool { return 'a' <= c && c <= 'z' || c == '_' }) {
		return fmt.Errorf("%.80q: want an event name like push", s)
	}
	return nil
}

// checkText is for names that people choose, which GitHub barely restricts.
func checkText(s string) error {
	if !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
		return errors.New("want UTF-8 without control characters")
	}
	return nil
}

func oneOf(values ...string) func(string) error {
	return func(s string) error {
		if !slices.Contains(values, s) {
			return fmt.Errorf("%.80q: want %s", s, strings.Join(values, ", "))
		}
		return nil
	}
}

// claimsFrom reads GitHubClaims from a query whose parameters are named like
// the claims. A misspelt parameter is an error: its default would be signed
// in its place.
func claimsFrom(v url.Values) (GitHubClaims, error) {
	var c GitHubClaims
	fields := c.fields()
	for name, values := range v {
		i := slices.IndexFunc(fields, func(f gitHubField) bool { return f.claim == name })
		if i < 0 {
			if name == "api-version" { // in the real runner's URL
				continue
			}
			return c, fmt.Errorf("parameter %.40q: want the name of a claim, like repository, ref or environment", name)
		}
		*fields[i].value = values[0]
	}
	return c, nil
}

// gitHubRunner answers GET /oidc/github/token as a GitHub runner answers
// ACTIONS_ID_TOKEN_REQUEST_URL: with that variable set to
// <base>/oidc/github/token?repository=owner/name and any
// ACTIONS_ID_TOKEN_REQUEST_TOKEN, clients take this for GitHub Actions.
//
// A page of another origin can make the request only with a preflight, because
// of the Authorization header, and preflights are not answered here.
func (s *Issuer) gitHubRunner(w http.ResponseWriter, r *http.Request) {
	if err := fromWebPage(r); err != nil {
		writeJSON(w, http.StatusForbidden, oauthErrorf("invalid_request", "%s", err))
		return
	}
	scheme, bearer, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "bearer") || strings.TrimSpace(bearer) == "" {
		w.Header().Set("WWW-Authenticate", `Bearer realm="sigstack development issuer"`)
		writeJSON(w, http.StatusUnauthorized, oauthErrorf("invalid_token", "Authorization: want any bearer token"))
		return
	}
	v, err := parseForm(r.URL.RawQuery)
	if err != nil {
		writeJSON(w, formStatus(err), oauthErrorf("invalid_request", "%s", err))
		return
	}
	c, err := claimsFrom(v)
	if err == nil {
		err = c.complete(s.cfg.ClientID)
	}
	if err != nil {
		writeJSON(w, http.StatusBadRequest, oauthErrorf("invalid_request", "%s", err))
		return
	}
	token, err := s.GitHubToken(c)
	if err != nil {
		s.cfg.Log.ErrorContext(r.Context(), "development issuer cannot sign a token", "error", err)
		writeJSON(w, http.StatusInternalServerError, oauthErrorf("server_error", "the token could not be signed"))
		return
	}
	writeJSON(w, http.StatusOK, struct {
		Count int    `json:"count"` // bytes of the token
		Value string `json:"value"`
	}{len(token), token})
}
