package e2e

import (
	"testing"

	"github.com/sigstack/sigstack/test/harness"
)

// The lines of "sigstack client-config" are for pasting into a shell. These
// tests paste them and then sign and verify, without any other argument that
// names the server. The shell stops at the first failure and at every variable
// that is not set.

// paste runs the printed lines and then script in one shell.
func (u *user) paste(tool, script string) harness.Result {
	u.t.Helper()
	lines := u.Run("sigstack", "client-config", tool, "--url", u.server.URL).Stdout
	u.t.Logf("client-config %s:\n%s", tool, lines)
	u.Write("paste.sh", []byte(lines+"\n"+script+"\n"))
	return u.Run("sh", "-eu", "paste.sh")
}

func pasteCosign2(t *testing.T, server *harness.Server) {
	u := newUser(t, server, "ursula@example.com")
	u.Install("cosign", `exec cosign2 "$@"`)
	u.Write("blob", []byte("pasted for cosign 2\n"))
	image := startRegistry(t, u.Client).push("app")
	u.Setenv("WHO", u.email)
	u.Setenv("ISSUER", server.URL+"/oidc")
	u.Setenv("IMAGE", image)
	u.Setenv("TOKEN", u.token())
	u.paste("cosign2", `
cosign sign --yes --identity-token "$TOKEN" "$IMAGE"
cosign verify --certificate-identity "$WHO" --certificate-oidc-issuer "$ISSUER" "$IMAGE"
cosign sign-blob --yes --identity-token "$TOKEN" --output-signature blob.sig --output-certificate blob.crt blob
cosign verify-blob --certificate-identity "$WHO" --certificate-oidc-issuer "$ISSUER" --signature blob.sig --certificate blob.crt blob`)
}

func pasteCosign3(t *testing.T, server *harness.Server) {
	u := newUser(t, server, "victor@example.com")
	u.Install("cosign", `exec cosign3 "$@"`)
	u.Write("blob", []byte("pasted for cosign 3\n"))
	u.Setenv("WHO", u.email)
	u.Setenv("ISSUER", server.URL+"/oidc")
	u.Setenv("TOKEN", u.token())
	u.paste("cosign3", `
cosign sign-blob --yes --identity-token "$TOKEN" --bundle blob.json blob
cosign verify-blob --certificate-identity "$WHO" --certificate-oidc-issuer "$ISSUER" --bundle blob.json blob`)
}

func pasteRekorCLI(t *testing.T, server *harness.Server) {
	u := newUser(t, server, "")
	u.artifact()
	u.signWithOpenSSL()
	u.paste("rekor-cli", `
rekor-cli upload --artifact README.txt --signature README.txt.sig --public-key key.pub --pki-format x509
rekor-cli verify --artifact README.txt --signature README.txt.sig --public-key key.pub --pki-format x509
rekor-cli loginfo`)
}
