package keys

import (
	"context"
	"crypto"

	"github.com/sigstore/sigstore/pkg/signature/kms/gcp"
	"google.golang.org/api/option"
)

// openGCP opens a key of Google Cloud KMS with the application default
// credentials. The options of the client are for tests.
func openGCP(ctx context.Context, uri string, o Options, client ...option.ClientOption) (crypto.Signer, error) {
	return signer(openKMS(ctx, o, func(ctx context.Context) (kms, error) { return gcp.LoadSignerVerifier(ctx, uri, client...) }))
}
