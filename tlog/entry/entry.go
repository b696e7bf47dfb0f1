// Package entry turns the JSON of a proposed entry (Rekor v1: kind,
// apiVersion, spec) into what a transparency log stores: the canonical leaf
// value and the search keys.
//
// [Propose] is the whole way in. When it returns an [Entry], the signatures in
// it were verified with the keys in it, and Body is a function of what was
// verified: unknown members, comments of keys, formatting and the artifact
// itself are gone. (The headers in the armor of a pgp signature stay, see
// package sigkey.) Body is JSON in canonical form (RFC 8785) with three members:
//
//	{"apiVersion":"0.0.1","kind":"hashedrekord","spec":{ ... }}
//
// The leaf hash, and with it the identity of the entry, is SHA-256(0x00 ||
// Body) (RFC 6962, section 2.1). Equal proposals give equal bytes in every
// process and at every time: there is no randomness and no configuration here,
// and no clock, but for one thing that it says: the kind tuf refuses metadata
// that has expired.
//
// [StoredKeys] finds the search keys of a stored Body again, to rebuild an index,
// and [Summarize] what it is about.
//
// The kinds are the rows of one table, in kinds.go; each kind is one file,
// whose comment says what it accepts, verifies and stores.
//
// Errors are of two classes, because clients see two HTTP statuses. A
// [*SchemaError] (422) means that the outer shape is wrong: kind, apiVersion
// or spec. Everything else wraps [ErrInvalid] (400). There is no third class:
// no input is a fault of the server.
//
// What an input may cost is bounded: keys and signatures by package sigkey,
// lists by the limits below, what is decompressed by the limits of its kind, and
// everything else is read once per level, so that time and memory grow linearly
// with the input. Callers bound the size of the input itself.
package entry

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"regexp"
	"slices"
)

// An Entry is a proposed entry that was parsed, verified and canonicalised.
type Entry struct {
	Kind    string // "hashedrekord"
	Version string // "0.0.1"
	// Body is the leaf value, in canonical JSON (RFC 8785).
	Body []byte
	// Keys are the search keys: lower case, sorted, each once, at most
	// [MaxKeyLength] bytes. Hashes are written "sha256:" and 64 hex digits;
	// hashes of public keys also without the prefix. Those of a [Claim] begin
	// with a capital.
	Keys []string
	// Extra is kept beside Body, for [StoredKeys]: the search keys that Body does
	// not have. Nil for the kinds whose Body has them all.
	Extra []byte
	// Signers are those of its signatures, at least one. Of tuf they are the keys
	// that count for the role, of jar the signer of the archive, of rfc3161 the
	// timestamp authority.
	Signers []Signer
	// Attestation is what was signed, for the kinds whose clients ask the log
	// for it: the payload of an intoto envelope, the whole message of a cose
	// entry. The log may keep it beside the entry; no hash covers that it does.
	// Nil for other kinds.
	Attestation []byte
	// AttestationKey is the name to keep Attestation under, "sha256:" and 64 hex
	// digits of its hash. It is one of Keys and in Body.
	AttestationKey string
}

// Limits.
const (
	// MaxKeyLength is the largest length of a search key in bytes. Longer names
	// are not indexed; no query can hold one.
	MaxKeyLength = 512
	// MaxKeys is the largest number of search keys of one entry. An entry with
	// more is refused rather than indexed in part.
	MaxKeys = 10_000

	maxNameEcho = 64 // bytes of a client's name that an error repeats
)

// ErrInvalid is wrapped by the error for every proposal that has the right
// outer shape and is refused all the same: bad JSON, a missing member, a key
// that does not parse, a signature that does not verify. HTTP status 400. The
// text of the error is the whole message and does not contain ErrInvalid's.
var ErrInvalid = errors.New("invalid entry")

// invalidError carries a message that clients see as it is.
type invalidError struct{ err error }

func (e *invalidError) Error() string   { return e.err.Error() }
func (e *invalidError) Unwrap() []error { return []error{ErrInvalid, e.err} }

func invalid(err error) error { return &invalidError{err} }

// A SchemaError says that the outer shape of a proposal is wrong. HTTP status 422.
type SchemaError struct {
	Code    int    // 422, or one of the Code constants
	Member  string // kind, apiVersion or spec; "" is the proposal itself
	Message string
}

func (e *SchemaError) Error() string { return e.Message }

// Codes of a [SchemaError], as go-openapi numbers them.
const (
	CodeType     = 601
	CodeRequired = 602
	CodePattern  = 605
	CodeKind     = 422 // no code of its own
)

// semver is the pattern of apiVersion (semver.org, version 2.0.0).
var semver = regexp.MustCompile(`^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:-((?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(?:\.(?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*))?(?:\+([0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*))?$`)

// Propose reads the JSON of a proposed entry, verifies its signatures and
// returns what the log stores. The error is a [*SchemaError] or wraps
// [ErrInvalid].
//
// Members are matched by their exact name. Members that are not known are
// ignored; a member that is null is absent; a member that is there twice, or
// that differs from a known one only by case, is an error, as is anything
// after the JSON value.
func Propose(proposed []byte) (*Entry, error) {
	if len(bytes.TrimSpace(proposed)) == 0 {
		return nil, &SchemaError{CodeRequired, "", "proposedEntry in body is required"}
	}
	if err := checkJSON(proposed); err != nil {
		return nil, invalid(fmt.Errorf("proposed entry is not JSON: %w", err))
	}
	name, version, spec, err := header(trimmed(proposed))
	if err != nil {
		return nil, err
	}
	k, err := lookup(name, version)
	if err != nil {
		return nil, err
	}
	p, err := k.propose(spec)
	if err != nil {
		return nil, invalid(err)
	}
	sorted, err := p.keys.sorted()
	if err != nil {
		return nil, invalid(err)
	}
	var extra []byte
	if k.statement {
		extra = appendExtra(nil, p.keys.statement)
	}
	return &Entry{
		Kind:           name,
		Version:        version,
		Body:           p.body,
		Keys:           sorted,
		Signers:        p.keys.signers,
		Extra:          extra,
		Attestation:    p.attestation,
		AttestationKey: p.attestationKey,
	}, nil
}

// Keys returns the search keys of a stored leaf value, sorted. They are those
// of the [Entry] that it was made from, with one exception: the subjects and
// materials of an in-toto statement in a dsse, intoto or cose entry come from
// its payload, which is not in the body, and are missing here. [StoredKeys] has
// them.
//
// Signatures are not verified again. The error is as for [Propose].
func Keys(body []byte) ([]string, error) {
	_, _, keys, err := readKeys(body)
	if err != nil {
		return nil, err
	}
	sorted, err := keys.sorted()
	if err != nil {
		return nil, invalid(err)
	}
	return sorted, nil
}

// A Description is what a stored leaf value says of itself.
type Description struct {
	Kind, Version string
	// Subjects are the names that the keys of the signatures claim for their
	// holders: sorted, each once, in their own spelling. The kinds rfc3161 and tuf
	// have none.
	Subjects []string
}

// Describe describes a stored leaf value. The error is as for [Keys].
func Describe(body []byte) (Description, error) {
	kind, version, keys, err := readKeys(body)
	if err != nil {
		return Description{}, err
	}
	d := Description{Kind: kind, Version: version}
	for _, signer := range keys.signers {
		d.Subjects = append(d.Subjects, signer.Names()...)
	}
	slices.Sort(d.Subjects)
	d.Subjects = slices.Compact(d.Subjects)
	return d, nil
}

// Attested returns the SHA-256 of the attestation of a stored leaf value; ok is
// false for the kinds that have none. It is that of the [Entry.Attestation] that
// the value was made with. The error is as for [Propose].
func Attested(body []byte) (sum [sha256.Size]byte, ok bool, err error) {
	k, spec, _, _, err := readBody(body)
	if err != nil || k.attested == nil {
		return sum, false, err
	}
	d, err := k.attested(spec)
	if err != nil {
		return sum, false, invalid(err)
	}
	return [sha256.Size]byte(d.raw()), true, nil
}

// readBody returns the kind of a stored leaf value with its name and version, and its
// spec.
func readBody(body []byte) (k kind, spec value, name, version string, err error) {
	if err := checkJSON(body); err != nil {
		return k, nil, "", "", invalid(fmt.Errorf("entry is not JSON: %w", err))
	}
	if name, version, spec, err = header(trimmed(body)); err == nil {
		k, err = lookup(name, version)
	}
	return k, spec, name, version, err
}

// StoredKeys returns all search keys of a stored leaf value with what is kept beside
// it, sorted. They are whole unless they may lack those of a statement: nothing was
// kept beside the entries of older versions.
func StoredKeys(body, extra []byte) (sorted []string, whole bool, err error) {
	kind, version, keys, err := readKeys(body)
	if err != nil {
		return nil, false, err
	}
	whole = !kinds[kind][version].statement
	if !whole && len(extra) > 0 {
		if err := readExtra(keys, extra); err != nil {
			return nil, false, invalid(fmt.Errorf("what is kept beside the entry: %w", err))
		}
		whole = true
	}
	if sorted, err = keys.sorted(); err != nil {
		return nil, false, invalid(err)
	}
	return sorted, whole, nil
}

// Beside returns what is kept beside a stored leaf value whose attestation is at hand:
// the [Entry.Extra] of the entry that it was made from, nil for a kind that has no
// attestation.
// A payload of intoto 0.0.1, of which the value does not say what it is, is taken for
// a statement if it names subjects as one does. The error is as for [Propose].
func Beside(body, attestation []byte) ([]byte, error) {
	k, spec, _, _, err := readBody(body)
	if err != nil || k.stated == nil {
		return nil, err
	}
	keys := &keySet{}
	k.stated(spec, keys, attestation)
	return appendExtra(nil, keys.statement), nil
}

// appendExtra appends search keys as a JSON array, sorted, each once.
func appendExtra(out []byte, keys []string) []byte {
	keys = slices.Clone(keys)
	slices.Sort(keys)
	out = append(out, '[')
	for i, key := range slices.Compact(keys) {
		if i > 0 {
			out = append(out, ',')
		}
		out = appendString(out, key)
	}
	return append(out, ']')
}

// readExtra adds the search keys that appendExtra has written.
func readExtra(keys *keySet, extra []byte) error {
	if err := checkJSON(extra); err != nil {
		return err
	}
	return trimmed(extra).eachElement(func(v value) error {
		text, err := v.text()
		keys.add(text)
		return err
	})
}

// readKeys reads a stored leaf value.
func readKeys(body []byte) (name, version string, keys *keySet, err error) {
	k, spec, name, version, err := readBody(body)
	if err != nil {
		return "", "", nil, err
	}
	if keys, err = k.keys(spec); err != nil {
		return "", "", nil, invalid(err)
	}
	return name, version, keys, nil
}

// header returns the members of the outer object. It checks that kind is not
// empty, that version has the form of a version, and that spec is an object.
func header(v value) (kind, version string, spec value, err error) {
	if v != nil && !v.isObject() {
		return "", "", nil, invalid(fmt.Errorf("proposed entry must be a JSON object, not %s", v.kind()))
	}
	m := make([]value, 3)
	if v != nil {
		if m, err = v.members("kind", "apiVersion", "spec"); err != nil {
			return "", "", nil, invalid(err)
		}
	}
	if kind, err = outerText("kind", m[0]); err != nil {
		return "", "", nil, err
	}
	if kind == "" {
		return "", "", nil, required("kind")
	}
	if _, ok := kinds[kind]; !ok {
		return "", "", nil, &SchemaError{CodeKind, "kind", fmt.Sprintf("invalid kind value: %q", clip(kind))}
	}
	if version, err = outerText("apiVersion", m[1]); err != nil {
		return "", "", nil, err
	}
	if !semver.MatchString(version) {
		return "", "", nil, &SchemaError{CodePattern, "apiVersion", fmt.Sprintf("apiVersion in body should match '%s'", semver)}
	}
	if m[2] == nil {
		return "", "", nil, required("spec")
	}
	if !m[2].isObject() {
		return "", "", nil, invalid(fmt.Errorf("spec must be a JSON object, not %s", m[2].kind()))
	}
	return kind, version, m[2], nil
}

// outerText returns a member of the outer object that must be a string.
func outerText(name string, v value) (string, error) {
	if v == nil {
		return "", required(name)
	}
	if !v.isString() {
		return "", &SchemaError{CodeType, name, fmt.Sprintf("%s in body must be of type string: %q", name, v.kind())}
	}
	s, err := v.text()
	if err != nil {
		return "", invalid(fmt.Errorf("%s: %w", name, err))
	}
	return s, nil
}

func required(name string) error {
	return &SchemaError{CodeRequired, name, name + " in body is required"}
}

// lookup returns the row of the table. The kind is known already.
func lookup(name, version string) (kind, error) {
	k, ok := kinds[name][version]
	if !ok {
		v := clip(version)
		return kind{}, invalid(fmt.Errorf("%s implementation for version '%s' not found: unable to locate entry for version %s", name, v, v))
	}
	return k, nil
}

func clip(s string) string {
	if len(s) > maxNameEcho {
		return s[:maxNameEcho] + "..."
	}
	return s
}
