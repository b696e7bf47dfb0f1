package keys

import (
	"context"
	"crypto"

	"github.com/sigstore/sigstore/pkg/signature/kms/aws"
)

// openAWS opens a key of AWS KMS. The SDK finds region and credentials in the
// environment, in its files, or at the instance. An RSA key signs with the first
// algorithm that AWS lists for it, which is PKCS #1 v1.5 with SHA-256.
func openAWS(ctx context.Context, uri string, o Options) (crypto.Signer, error) {
	return signer(openKMS(ctx, o, func(ctx context.Context) (kms, error) { return aws.LoadSignerVerifier(ctx, uri) }))
}
