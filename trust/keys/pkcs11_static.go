//go:build !cgo

package keys

import (
	"context"
	"crypto"
	"errors"
)

// openPKCS11 cannot load a module: that takes the loader of the C library.
func openPKCS11(context.Context, string, Options) (crypto.Signer, error) {
	return nil, errors.New("this sigstack is a static program, which cannot load a PKCS #11 module; build the other one with `make build-pkcs11` and run bin/sigstack-pkcs11")
}
