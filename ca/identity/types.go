package identity

import (
	"fmt"
	"strings"

	"github.com/sigstack/sigstack/ca/ext"
)

// An issuerType is one way to turn claims into a certificate.
type issuerType struct {
	name           string
	challengeClaim string

	// check refuses a configuration that this type cannot work with. It is called for every
	// issuer of the type after the rules that all types share.
	check func(Issuer) error

	// resolve maps verified claims. The caller fills in the "sub" extension, and the issuer if
	// resolve leaves it empty.
	resolve func(Issuer, claims) (resolved, error)
}

// resolved is what an issuer type makes of the claims.
type resolved struct {
	san    ext.SAN
	values ext.Values
	proof  string // what a client is told to sign
	email  string // the address that counts as verified, if the type decides that
}

// types is the table of all issuer types; it is never changed.
var types = [...]issuerType{
	{name: "email", challengeClaim: "email", check: checkEmailIssuer, resolve: resolveEmail},
	{name: "uri", challengeClaim: "sub", check: checkURIIssuer, resolve: resolveURI},
	{name: "github-workflow", challengeClaim: "sub", check: checkGitHubIssuer, resolve: resolveGitHub},
}

func typeByName(name string) (issuerType, bool) {
	for _, t := range types {
		if t.name == name {
			return t, true
		}
	}
	return issuerType{}, false
}

func typeNames() string {
	names := make([]string, 0, len(types))
	for _, t := range types {
		names = append(names, fmt.Sprintf("%q", t.name))
	}
	return strings.Join(names, ", ")
}
