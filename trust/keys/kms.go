package keys

import (
	"context"
	"crypto"
	"io"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/options"
)

// kms is what the drivers of sigstore/sigstore have in common. They are called by
// name, so what they register when the program starts is not used.
type kms interface {
	PublicKey(opts ...signature.PublicKeyOption) (crypto.PublicKey, error)
	SignMessage(message io.Reader, opts ...signature.SignOption) ([]byte, error)
}

// openKMS opens a key by its driver. The context that load is given does not
// end, because drivers keep it.
func openKMS(ctx context.Context, o Options, load func(context.Context) (kms, error)) (*remote, error) {
	var store kms
	public, err := within(ctx, func() (crypto.PublicKey, error) {
		var err error
		if store, err = load(context.WithoutCancel(ctx)); err != nil {
			return nil, err
		}
		return store.PublicKey(options.WithContext(ctx))
	})
	if err != nil {
		return nil, o.plain(err)
	}
	return newRemote(public, func(ctx context.Context, digest []byte, hash crypto.Hash) ([]byte, error) {
		return store.SignMessage(nil, options.WithContext(ctx), options.WithDigest(digest), options.WithCryptoSignerOpts(hash))
	}, o)
}
