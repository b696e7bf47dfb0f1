//go:build !cgo

package keys

import (
	"context"
	"testing"
)

// The static program says that it cannot load a module, and which program can.
func TestStaticProgram(t *testing.T) {
	_, err := Open(context.Background(), "pkcs11:token=sigstack;object=ca?module-path=/m.so&pin-source=file:/pin")
	wantError(t, err, "static program", "make build-pkcs11", "bin/sigstack-pkcs11")
}
