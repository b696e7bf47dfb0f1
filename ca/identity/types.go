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

	// prepare returns the resolver for an issuer of this type, or says why the configuration does
	// not fit the type. It is called after the rules that all types share.
	prepare func(Issuer) (resolver, error)
}

// A resolver maps verified claims of one issuer: the exact "iss", and the claims. The caller fills
// in the "sub" extension, and the issuer where the resolver leaves it empty. It is safe for
// concurrent use.
type resolver func(issuer string, c claims) (resolved, error)

// resolved is what an issuer type makes of the claims.
type resolved struct {
	san    ext.SAN
	values ext.Values
	proof  string // what a client is told to sign; the subject if empty
	email  string // the address that counts as verified, if the type decides that
}

// types is the table of all issuer types; it is never changed.
var types = [...]issuerType{
	{"email", "email", prepareEmail},
	{"uri", "sub", prepareURI},
	{"username", "sub", prepareUsername},
	{"kubernetes", "sub", prepareKubernetes},
	{"spiffe", "sub", prepareSPIFFE},
	{"chainguard-identity", "sub", prepareChainguard},
	{"github-workflow", "sub", githubWorkflow.prepare},
	{"gitlab-pipeline", "sub", gitlabPipeline.prepare},
	{"buildkite-job", "sub", buildkiteJob.prepare},
	{"codefresh-workflow", "sub", codefreshWorkflow.prepare},
	{"ci-provider", "sub", prepareCIProvider},
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
