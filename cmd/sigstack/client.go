package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// defaultURL is where `sigstack serve --dev` is reached.
const defaultURL = "http://localhost:8080"

func tokenCommand() *cobra.Command {
	var base, email, repository string
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Print an ID token of a running development issuer",
		Example: `  sigstack token --email dev@example.com
  sigstack token --github acme/widget`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			token, err := fetchToken(cmd.Context(), base, email, repository)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), token)
			return err
		},
	}
	cmd.Flags().StringVar(&base, "url", defaultURL, "the server")
	cmd.Flags().StringVar(&email, "email", "dev@example.com", "a token for this e-mail address")
	cmd.Flags().StringVar(&repository, "github", "", "a token as a GitHub Actions job of this repository gets it (owner/name)")
	cmd.MarkFlagsMutuallyExclusive("email", "github")
	return cmd
}

// fetchToken asks the development issuer for an ID token.
func fetchToken(ctx context.Context, base, email, repository string) (string, error) {
	base = strings.TrimSuffix(base, "/")
	var req *http.Request
	var err error
	if repository != "" {
		query := url.Values{"repository": {repository}, "audience": {"sigstore"}}
		req, err = http.NewRequestWithContext(ctx, http.MethodGet, base+"/oidc/github/token?"+query.Encode(), nil)
		if err == nil {
			req.Header.Set("Authorization", "Bearer any")
		}
	} else {
		form := url.Values{"email": {email}}
		req, err = http.NewRequestWithContext(ctx, http.MethodPost, base+"/oidc/mint", strings.NewReader(form.Encode()))
		if err == nil {
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			req.Header.Set("X-Sigstack-Dev", "1")
		}
	}
	if err != nil {
		return "", err
	}
	body, err := do(client(), req)
	if err != nil {
		return "", fmt.Errorf("asking the development issuer, which needs `sigstack serve --dev`: %w", err)
	}
	if repository == "" {
		return strings.TrimSpace(string(body)), nil
	}
	var answer struct{ Value string }
	if err := json.Unmarshal(body, &answer); err != nil || answer.Value == "" {
		return "", errors.New("the development issuer's answer has no token")
	}
	return answer.Value, nil
}

// clientConfigs are the lines to paste for each client. %[1]s is the base URL
// of the server, %[2]s how the client gets its first TUF root.
var clientConfigs = map[string]string{
	"cosign2": `# cosign 2: take the trust root from this server, then name its services
cosign initialize --mirror %[1]s/tuf %[2]s
export COSIGN_FULCIO_URL=%[1]s
export COSIGN_REKOR_URL=%[1]s
export COSIGN_OIDC_ISSUER=%[1]s/oidc
# cosign sign --yes IMAGE@DIGEST
# cosign verify --certificate-identity WHO --certificate-oidc-issuer ISSUER IMAGE@DIGEST
`,
	"cosign3": `# cosign 3: the trust root names the services, nothing else is needed
cosign initialize --mirror %[1]s/tuf %[2]s
# cosign sign-blob --yes --bundle artifact.sigstore.json artifact
# cosign verify-blob --bundle artifact.sigstore.json --certificate-identity WHO --certificate-oidc-issuer ISSUER artifact
`,
	"rekor-cli": `# rekor-cli
export REKOR_REKOR_SERVER=%[1]s
# rekor-cli loginfo
# rekor-cli get --log-index 0
`,
}

func clientConfigCommand() *cobra.Command {
	clients := slices.Sorted(maps.Keys(clientConfigs))
	var base string
	cmd := &cobra.Command{
		Use:   "client-config " + strings.Join(clients, "|"),
		Short: "Print the shell lines that point a client at a running server",
		Long: `client-config prints shell lines to paste. The TUF root that it names is the
one that the server has now, with its checksum: what is printed stays valid
when the root is renewed, and tells whoever pastes it which root to trust.`,
		ValidArgs: clients,
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		RunE: func(cmd *cobra.Command, args []string) error {
			base = strings.TrimSuffix(base, "/")
			if err := checkBaseURL(base); err != nil {
				return fmt.Errorf("--url: %w", err)
			}
			root, err := get(cmd.Context(), base+"/tuf/root.json")
			if err != nil {
				return err
			}
			flags, err := rootFlags(base, root)
			if err != nil {
				return fmt.Errorf("%s/tuf/root.json: %w", base, err)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), clientConfigs[args[0]], base, flags)
			return err
		},
	}
	cmd.Flags().StringVar(&base, "url", defaultURL, "the server")
	return cmd
}

// rootFlags returns the flags of `cosign initialize` that pin a TUF root: its
// file, which is immutable, and its checksum.
func rootFlags(base string, root []byte) (string, error) {
	var metadata struct{ Signed struct{ Version int } }
	if err := json.Unmarshal(root, &metadata); err != nil || metadata.Signed.Version < 1 {
		return "", errors.New("is not TUF root metadata")
	}
	return fmt.Sprintf("--root %s/tuf/%d.root.json --root-checksum %x", base, metadata.Signed.Version, sha256.Sum256(root)), nil
}

func get(ctx context.Context, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	return do(client(), req)
}

// client asks a server, which may be behind a proxy.
func client() *http.Client { return &http.Client{Timeout: 10 * time.Second} }

// do returns the body of a 200 answer.
func do(client *http.Client, req *http.Request) ([]byte, error) {
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%w (does `sigstack serve` run there?)", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s %s: %s: %.500s", req.Method, req.URL.Redacted(), resp.Status, strings.TrimSpace(string(body)))
	}
	return body, nil
}
