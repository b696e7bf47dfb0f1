package entry

import (
	"maps"
	"slices"
)

// A kind is one version of one kind of entry.
type kind struct {
	// propose verifies a proposed spec. It returns plain errors, whose text the
	// client sees.
	propose func(spec value) (*proposal, error)
	// keys returns the search keys that a stored spec gives.
	keys func(spec value) (*keySet, error)
	// attested returns the digest of what a stored spec attests; nil for a kind
	// that keeps nothing beside the entry.
	attested func(spec value) (digest, error)
	// statement says that more search keys may come from a statement, which is
	// not in the stored spec.
	statement bool
	// stated adds those of the statement in an attestation; nil for a kind that
	// keeps none.
	stated func(spec value, keys *keySet, attestation []byte)
}

// A proposal is what a proposed spec that was verified comes to.
type proposal struct {
	body []byte  // the leaf value
	keys *keySet // with the signers
	// attestation is what is kept beside the entry, under attestationKey.
	attestation    []byte
	attestationKey string
}

// unattested makes the propose of a kind that keeps nothing beside the entry.
func unattested(propose func(spec value) ([]byte, *keySet, error)) func(value) (*proposal, error) {
	return func(spec value) (*proposal, error) {
		body, keys, err := propose(spec)
		if err != nil {
			return nil, err
		}
		return &proposal{body: body, keys: keys}, nil
	}
}

// kinds is every kind and version that this log accepts and reads: name, then
// apiVersion. It is never written.
var kinds = map[string]map[string]kind{
	"alpine":       {"0.0.1": {propose: unattested(proposeAlpine), keys: keysAlpine}},
	"cose":         {"0.0.1": {propose: proposeCOSE, keys: keysCOSE, attested: attestedCOSE, statement: true, stated: statedCOSE}},
	"dsse":         {"0.0.1": {propose: unattested(proposeDSSE), keys: keysDSSE, statement: true}},
	"hashedrekord": {"0.0.1": {propose: unattested(proposeHashedRekord), keys: keysHashedRekord}},
	"helm":         {"0.0.1": {propose: unattested(proposeHelm), keys: keysHelm}},
	"intoto": {
		"0.0.1": {propose: proposeInToto001, keys: keysInToto001, attested: attestedInToto, statement: true, stated: statedInToto},
		"0.0.2": {propose: proposeInToto002, keys: keysInToto002, attested: attestedInToto, statement: true, stated: statedInToto},
	},
	"jar":     {"0.0.1": {propose: unattested(proposeJar), keys: keysJar}},
	"rekord":  {"0.0.1": {propose: unattested(proposeRekord), keys: keysRekord}},
	"rfc3161": {"0.0.1": {propose: unattested(proposeTimestamp), keys: keysTimestamp}},
	"rpm":     {"0.0.1": {propose: unattested(proposeRPM), keys: keysRPM}},
	"tuf":     {"0.0.1": {propose: unattested(proposeTUF), keys: keysTUF}},
}

// Kinds are the names of all kinds, sorted.
func Kinds() []string { return slices.Sorted(maps.Keys(kinds)) }
