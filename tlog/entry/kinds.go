package entry

// A kind is one version of one kind of entry.
type kind struct {
	// propose verifies a proposed spec and returns the leaf value and the
	// search keys. It returns plain errors, whose text the client sees.
	propose func(spec value) (body []byte, keys *keySet, err error)
	// keys returns the search keys that a stored spec gives.
	keys func(spec value) (*keySet, error)
}

// kinds is every kind and version that this log accepts and reads: name, then
// apiVersion. It is never written.
var kinds = map[string]map[string]kind{
	"dsse":         {"0.0.1": {propose: proposeDSSE, keys: keysDSSE}},
	"hashedrekord": {"0.0.1": {propose: proposeHashedRekord, keys: keysHashedRekord}},
	"rekord":       {"0.0.1": {propose: proposeRekord, keys: keysRekord}},
}
