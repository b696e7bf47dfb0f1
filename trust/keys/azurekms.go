package keys

import (
	"context"
	"crypto"
	"crypto/rsa"
	"errors"

	"github.com/sigstore/sigstore/pkg/signature/kms/azure"
)

// openAzure opens a key of Azure Key Vault with the default credentials. The
// driver signs with SHA-384 or SHA-512 where an RSA key has more than 2048 bits,
// and nothing here does.
func openAzure(ctx context.Context, uri string, o Options) (crypto.Signer, error) {
	r, err := openKMS(ctx, o, func(ctx context.Context) (kms, error) { return azure.LoadSignerVerifier(ctx, uri) })
	if err != nil {
		return nil, err
	}
	if key, ok := r.public.(*rsa.PublicKey); ok && key.N.BitLen() != 2048 {
		return nil, errors.New("an RSA key in Azure Key Vault must have 2048 bits; better make an EC key on P-256 or P-384")
	}
	return r, nil
}
