package e2e

import (
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/sigstack/sigstack/test/harness"
)

// signBlobWithToken: initialize, then sign and verify with no URL flag.
func signBlobWithToken(t *testing.T, server *harness.Server) {
	u := newUser(t, server, "alice@example.com")
	u.initialize("cosign3")
	u.signBlob("blob", "--identity-token", u.token())
	u.Write("other", []byte("another blob\n"))
	u.Refuse("", "cosign3", args("verify-blob", "--bundle", "blob.json", u.identity(), "other")...)
}

// signBlob writes a blob, signs it with cosign 3 into NAME.json, and verifies
// the bundle.
func (u *user) signBlob(name string, how ...string) {
	u.t.Helper()
	u.Write(name, []byte("blob of "+u.t.Name()+"\n"))
	u.Run("cosign3", args("sign-blob", "--yes", how, "--bundle", name+".json", name)...)
	u.verifyBlob(name)
}

func (u *user) verifyBlob(name string) {
	u.t.Helper()
	r := u.Run("cosign3", args("verify-blob", "--bundle", name+".json", u.identity(), name)...)
	if !strings.Contains(r.Output(), "Verified OK") {
		u.t.Fatalf("verify-blob does not print \"Verified OK\"\n%s", r.Output())
	}
}

// signBlobWithKey signs and verifies with a key pair, and logs the signature.
func signBlobWithKey(t *testing.T, server *harness.Server) {
	u := newUser(t, server, "")
	u.initialize("cosign3")
	u.generateKey("cosign")
	u.generateKey("other")
	u.Write("blob", []byte("blob of "+t.Name()+"\n"))
	u.Run("cosign3", "sign-blob", "--yes", "--key", "cosign.key", "--bundle", "blob.json", "blob")
	u.Run("cosign3", "verify-blob", "--key", "cosign.pub", "--bundle", "blob.json", "blob")
	u.Refuse("", "cosign3", "verify-blob", "--key", "other.pub", "--bundle", "blob.json", "blob")
}

// signWithEveryAlgorithm has the CA certify each kind of key that cosign makes.
func signWithEveryAlgorithm(t *testing.T, server *harness.Server) {
	u := newUser(t, server, "boris@example.com")
	u.initialize("cosign3")
	for _, algorithm := range []string{
		"ecdsa-sha2-256-nistp256", "ecdsa-sha2-384-nistp384", "ecdsa-sha2-512-nistp521",
		"rsa-sign-pkcs1-2048-sha256", "rsa-sign-pkcs1-3072-sha256", "rsa-sign-pkcs1-4096-sha256",
	} {
		u.signBlob(algorithm, "--signing-algorithm", algorithm, "--identity-token", u.token())
	}
}

// signWithServiceFlags uses cosign 3 as people used cosign 2.
func signWithServiceFlags(t *testing.T, server *harness.Server) {
	u := newUser(t, server, "conrad@example.com")
	u.initialize("cosign3")
	u.signBlob("blob", args("--use-signing-config=false", u.urls(), "--identity-token", u.token())...)
	u.Write("old", []byte("old blob of "+t.Name()+"\n"))
	u.Run("cosign3", args("sign-blob", "--yes", "--use-signing-config=false", "--new-bundle-format=false", u.urls(),
		"--identity-token", u.token(), "--bundle", "old.json", "old")...)
	u.Run("cosign3", args("verify-blob", "--new-bundle-format=false", "--bundle", "old.json", u.identity(), "old")...)
	u.verifyOldBlob("old")
}

// signBlobIntoBundle makes the bundle of today with cosign 2 and the services
// that the trust root names; cosign 3 verifies it.
func signBlobIntoBundle(t *testing.T, server *harness.Server) {
	u := newUser(t, server, "doris@example.com")
	u.initialize("cosign2")
	u.Write("blob", []byte("blob of "+t.Name()+"\n"))
	u.Run("cosign2", "sign-blob", "--yes", "--use-signing-config", "--new-bundle-format", "--identity-token", u.token(), "--bundle", "blob.json", "blob")
	u.Run("cosign2", args("verify-blob", "--new-bundle-format", "--bundle", "blob.json", u.identity(), "blob")...)
	u.verifyBlob("blob")
}

// signAsWorkflow signs with a token like that of a GitHub Actions job.
func signAsWorkflow(t *testing.T, server *harness.Server) {
	u := newUser(t, server, "")
	u.initialize("cosign3")
	registry := startRegistry(t, u.Client)
	image := registry.push("workflow")
	token := u.oneToken("--github", "acme/widget")
	u.Run("cosign3", "sign", "--yes", "--identity-token", token, image)

	workflow := workflowOf(t, token)
	who := []string{
		"--certificate-identity", "https://github.com/" + workflow["job_workflow_ref"],
		"--certificate-oidc-issuer", server.URL + "/oidc/github",
	}
	u.Run("cosign3", args("verify", who,
		"--certificate-github-workflow-name", workflow["workflow"],
		"--certificate-github-workflow-ref", workflow["ref"],
		"--certificate-github-workflow-repository", workflow["repository"],
		"--certificate-github-workflow-sha", workflow["sha"],
		"--certificate-github-workflow-trigger", workflow["event_name"], image)...)
	u.Refuse("", "cosign3", args("verify", who, "--certificate-github-workflow-repository", "acme/gadget", image)...)

	// The log is searched by what the certificate says.
	for _, query := range []string{
		"issuer=" + server.URL + "/oidc/github", "repository=" + workflow["repository"], "repository=https://github.com/" + workflow["repository"],
		"commit=" + workflow["sha"], "subject=https://github.com/acme/&prefix=subject", "subject=https://github.com/" + workflow["job_workflow_ref"] + "&issuer=" + server.URL + "/oidc/github",
	} {
		var page struct {
			Entries []struct{ Repositories, Issuers []string }
		}
		getJSON(t, server.URL+"/api/sigstack/v1/search?"+query, &page)
		if len(page.Entries) == 0 || !slices.Contains(page.Entries[0].Repositories, workflow["repository"]) || !slices.Equal(page.Entries[0].Issuers, []string{server.URL + "/oidc/github"}) {
			t.Errorf("a search for %s finds %+v", query, page)
		}
	}

	// With the old format the answer lists the members. The image is another
	// one: where there is a bundle cosign 2 looks for no signature tag.
	image = registry.push("old")
	u.Run("cosign2", args("sign", "--yes", u.urls(), "--identity-token", u.oneToken("--github", "acme/widget"), image)...)
	r := u.Run("cosign2", args("verify", "--rekor-url", server.URL, who, image)...)
	var found []struct{ Optional map[string]any }
	if err := json.Unmarshal([]byte(r.Stdout), &found); err != nil || len(found) != 1 {
		t.Fatalf("cosign2 verify prints no list of one signature: %v\n%s", err, r.Output())
	}
	for member, claim := range map[string]string{
		"Subject":                  "",
		"Issuer":                   "",
		"githubWorkflowName":       "workflow",
		"githubWorkflowRef":        "ref",
		"githubWorkflowRepository": "repository",
		"githubWorkflowSha":        "sha",
		"githubWorkflowTrigger":    "event_name",
	} {
		got, _ := found[0].Optional[member].(string)
		if got == "" || claim != "" && got != workflow[claim] {
			t.Errorf("%s = %q, want the token's %q", member, got, workflow[claim])
		}
	}
}

// workflowOf reads the text claims of a token.
func workflowOf(t *testing.T, token string) map[string]string {
	t.Helper()
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	var claims map[string]any
	if err := json.Unmarshal(payload, &claims); err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{}
	for name, value := range claims {
		if text, ok := value.(string); ok {
			texts[name] = text
		}
	}
	for _, name := range []string{"job_workflow_ref", "workflow", "ref", "repository", "sha", "event_name"} {
		if texts[name] == "" {
			t.Fatalf("the GitHub token has no claim %s", name)
		}
	}
	return texts
}

// wrongIdentity is how cosign 2, and cosign 3 for the old formats, refuse a
// signature of somebody else; wrongIdentityInBundle is how cosign 3 does it for
// a Sigstore bundle.
const (
	wrongIdentity         = "none of the expected identities matched what was in the certificate"
	wrongIdentityInBundle = "no matching CertificateIdentity found"
)

func refuseOtherIdentity(t *testing.T, server *harness.Server) {
	u := newUser(t, server, "carol@example.com")
	u.initialize("cosign3")
	u.signBlob("blob", "--identity-token", u.token())
	u.signOldBlob("old")
	for _, other := range [][]string{
		{"--certificate-identity", "mallory@example.com", "--certificate-oidc-issuer", server.URL + "/oidc"},
		{"--certificate-identity", u.email, "--certificate-oidc-issuer", "https://accounts.example.com"},
	} {
		u.Refuse(wrongIdentityInBundle, "cosign3", args("verify-blob", "--bundle", "blob.json", other, "blob")...)
		u.Refuse(wrongIdentity, "cosign3", args("verify-blob", "--new-bundle-format=false", "--bundle", "old.json", other, "old")...)
		u.Refuse(wrongIdentity, "cosign2", args("verify-blob", "--offline", "--bundle", "old.json", other, "old")...)
	}
}
