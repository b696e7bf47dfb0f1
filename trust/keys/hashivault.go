package keys

import (
	"context"
	"crypto"

	"github.com/sigstore/sigstore/pkg/signature/kms/hashivault"
)

// openVault opens a key of the transit engine of HashiCorp Vault or OpenBao, in
// its latest version. The driver finds server and token in the environment, and
// heeds no context.
func openVault(ctx context.Context, uri string, o Options) (crypto.Signer, error) {
	return signer(openKMS(ctx, o, func(context.Context) (kms, error) { return hashivault.LoadSignerVerifier(uri, crypto.SHA256) }))
}
