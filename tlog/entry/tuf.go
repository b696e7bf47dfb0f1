package entry

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/sigstack/sigstack/tlog/entry/sigkey"
)

// tuf 0.0.1: metadata of The Update Framework (TUF specification, version
// 1.0) and the root whose keys signed it. Proposed:
//
//	spec.metadata.content  metadata of the role root, targets, snapshot or timestamp
//	spec.root.content      root metadata
//
// Both are JSON objects, or strings with the base64 of the text of one, and
// have the members signed and signatures (section 4.2.1). Stored:
//
//	spec.metadata.content  base64 of {signatures: [{keyid, sig}], signed} in canonical JSON (RFC 8785)
//	spec.root.content      the same of the root
//	spec.spec_version      the root's, unless it has none
//
// The root must be signed by its own root role, the metadata by the role of
// its type in the root, each by as many keys as the role's threshold says.
// Both must not have expired: of all kinds, this one looks at the clock, as
// public logs do. Targets of a delegated role are refused unless the top-level
// role has signed them.

const (
	// maxTUFRoot and maxTUFMetadata are the largest sizes of the two, in bytes of
	// JSON. They are those of TUF clients (python-tuf, go-tuf) for roots and
	// targets.
	maxTUFRoot     = 512_000
	maxTUFMetadata = 5_000_000

	// maxTUFKeys bounds the keys, the roles, the keys of each role and the
	// signatures.
	maxTUFKeys = 100
)

// tufMetadata is metadata of any role as it was read.
type tufMetadata struct {
	signed  []byte // in canonical form
	sigs    []tufSignature
	role    string
	version int64
	expires time.Time
}

type tufSignature struct {
	key string
	sig []byte
}

// tufRoot is what a root says who may sign.
type tufRoot struct {
	*tufMetadata
	specVersion string
	keys        map[string]crypto.PublicKey // by key ID
	roles       map[string]tufRole
}

type tufRole struct {
	keys      []string
	threshold int64
}

// proposeTUF is proposeTUFAt the present time.
func proposeTUF(spec value) ([]byte, *keySet, error) { return proposeTUFAt(spec, time.Now()) }

func proposeTUFAt(spec value, now time.Time) ([]byte, *keySet, error) {
	metadata, root, err := readTUF(spec)
	if err != nil {
		return nil, nil, err
	}
	budget := maxEdDSABytes
	if _, err := root.verify(root.tufMetadata, &budget); err != nil {
		return nil, nil, fmt.Errorf("root.content: %w", err)
	}
	signers, err := root.verify(metadata, &budget)
	if err != nil {
		return nil, nil, fmt.Errorf("metadata.content: %w", err)
	}
	for _, m := range []*tufMetadata{root.tufMetadata, metadata} {
		if !now.Before(m.expires) {
			return nil, nil, fmt.Errorf("%s expired at %s", m.role, m.expires.Format(time.RFC3339))
		}
	}
	m, r := metadata.canonical(), root.canonical()
	out := make([]byte, 0, 256+base64.StdEncoding.EncodedLen(len(m)+len(r)))
	out = appendHeader(out, "tuf", "0.0.1")
	out = append(out, `"metadata":{"content":"`...)
	out = base64.StdEncoding.AppendEncode(out, m)
	out = append(out, `"},"root":{"content":"`...)
	out = base64.StdEncoding.AppendEncode(out, r)
	out = append(out, `"}`...)
	if root.specVersion != "" {
		out = append(out, `,"spec_version":`...)
		out = appendString(out, root.specVersion)
	}
	keys := tufKeys(metadata, m, r)
	for _, pub := range signers {
		key, err := sigkey.NewX509(pub)
		if err != nil {
			return nil, nil, fmt.Errorf("metadata.content: %w", err)
		}
		keys.signers = append(keys.signers, Signer{key, scheme{hash: crypto.SHA256, pss: true}})
	}
	return append(out, "}}"...), keys, nil
}

func keysTUF(spec value) (*keySet, error) {
	metadata, root, err := readTUF(spec)
	if err != nil {
		return nil, err
	}
	return tufKeys(metadata, metadata.canonical(), root.canonical()), nil
}

// tufKeys returns the hashes of both texts in both spellings, the role and the
// version.
func tufKeys(m *tufMetadata, texts ...[]byte) *keySet {
	s := &keySet{}
	for _, text := range texts {
		h := sha256Digest(text)
		s.add(h.value, h.searchKey())
	}
	s.add(m.role, strconv.FormatInt(m.version, 10))
	return s
}

// hashTUFRoot returns the hash by which the root is searched. It must be signed
// by itself; whether it has expired does not matter to who looks for it.
func hashTUFRoot(text []byte) (string, error) {
	if err := checkJSON(text); err != nil {
		return "", err
	}
	root, err := readTUFRoot(trimmed(text))
	if err != nil {
		return "", err
	}
	budget := maxEdDSABytes
	if _, err := root.verify(root.tufMetadata, &budget); err != nil {
		return "", err
	}
	return sha256Digest(root.canonical()).value, nil
}

func readTUF(spec value) (*tufMetadata, *tufRoot, error) {
	m, err := spec.members("metadata", "root")
	if err != nil {
		return nil, nil, err
	}
	text, err := readTUFContent(m[0], "metadata", maxTUFMetadata)
	if err != nil {
		return nil, nil, err
	}
	rootText, err := readTUFContent(m[1], "root", maxTUFRoot)
	if err != nil {
		return nil, nil, err
	}
	metadata, _, err := readTUFMetadata(text)
	if err != nil {
		return nil, nil, fmt.Errorf("metadata.content: %w", err)
	}
	root, err := readTUFRoot(rootText)
	if err != nil {
		return nil, nil, fmt.Errorf("root.content: %w", err)
	}
	return metadata, root, nil
}

// readTUFContent returns the object that is, or is encoded in, v.content.
func readTUFContent(v value, where string, most int) (value, error) {
	m, err := requiredMembers(v, where, "content")
	if err != nil {
		return nil, err
	}
	content := m[0]
	where += ".content"
	switch {
	case content == nil:
		return nil, fmt.Errorf("%s in body is required", where)
	case content.isString():
		text, err := content.base64()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", where, err)
		}
		if err := checkJSON(text); err != nil {
			return nil, fmt.Errorf("%s is not JSON: %w", where, err)
		}
		content = trimmed(text)
	}
	if !content.isObject() {
		return nil, fmt.Errorf("%s: want an object, or base64 of one, not %s", where, content.kind())
	}
	if len(content) > most {
		return nil, fmt.Errorf("%s has %d bytes, at most %d are accepted", where, len(content), most)
	}
	return content, nil
}

// readTUFMetadata reads what metadata of every role has (section 4.3), and
// returns signed as well, as it was sent.
func readTUFMetadata(v value) (*tufMetadata, value, error) {
	top, err := v.members("signed", "signatures")
	if err != nil {
		return nil, nil, err
	}
	signed, err := requiredMembers(top[0], "signed", "_type", "version", "expires")
	if err != nil {
		return nil, nil, err
	}
	if top[1] == nil {
		return nil, nil, errors.New("signatures in body is required")
	}
	m := &tufMetadata{}
	err = top[1].eachElement(func(v value) error {
		if len(m.sigs) == maxTUFKeys {
			return fmt.Errorf("at most %d are accepted", maxTUFKeys)
		}
		s, err := readTUFSignature(v)
		m.sigs = append(m.sigs, s)
		return err
	})
	if err != nil {
		return nil, nil, fmt.Errorf("signatures: %w", err)
	}
	if m.role, err = signed[0].text(); err != nil {
		return nil, nil, fmt.Errorf("signed._type: %w", err)
	}
	switch m.role {
	case "root", "targets", "snapshot", "timestamp":
	default:
		return nil, nil, errors.New("signed._type in body should be one of [root targets snapshot timestamp]")
	}
	if m.version, err = signed[1].integer(); err != nil || m.version < 0 {
		return nil, nil, errors.New("signed.version: want an integer that is not negative")
	}
	expires, err := signed[2].text()
	if err == nil {
		m.expires, err = time.Parse(time.RFC3339, expires)
	}
	if err != nil {
		return nil, nil, errors.New("signed.expires: want a time such as 2030-01-02T03:04:05Z")
	}
	if m.signed, err = formJCS.canonical(top[0]); err != nil {
		return nil, nil, fmt.Errorf("signed: %w", err)
	}
	return m, top[0], nil
}

// readTUFSignature reads {keyid, sig}. Tools leave sig empty where a key has
// not signed yet.
func readTUFSignature(v value) (tufSignature, error) {
	var s tufSignature
	m, err := requiredMembers(v, "signature", "keyid", "sig")
	if err != nil {
		return s, err
	}
	if s.key, err = m[0].text(); err != nil {
		return s, fmt.Errorf("keyid: %w", err)
	}
	if s.key == "" {
		return s, errors.New("keyid in body is required")
	}
	if !m[1].isString() {
		return s, errors.New("sig: want a string of hex digits")
	}
	text, err := m[1].bytes()
	if err != nil {
		return s, fmt.Errorf("sig: %w", err)
	}
	if s.sig, err = hex.AppendDecode(nil, text); err != nil {
		return s, errors.New("sig: want a string of hex digits")
	}
	return s, nil
}

func readTUFRoot(v value) (*tufRoot, error) {
	m, signed, err := readTUFMetadata(v)
	if err != nil {
		return nil, err
	}
	if m.role != "root" {
		return nil, fmt.Errorf("want metadata of the role root, not %s", m.role)
	}
	r := &tufRoot{tufMetadata: m, keys: map[string]crypto.PublicKey{}, roles: map[string]tufRole{}}
	members, err := signed.members("keys", "roles", "spec_version")
	if err != nil {
		return nil, err
	}
	if r.specVersion, err = members[2].text(); err != nil {
		return nil, fmt.Errorf("signed.spec_version: %w", err)
	}
	err = members[0].eachMember(func(name []byte, v value) error {
		if len(r.keys) == maxTUFKeys {
			return fmt.Errorf("at most %d are accepted", maxTUFKeys)
		}
		key, err := readTUFKey(v)
		if err != nil {
			return fmt.Errorf("%q: %w", clip(string(name)), err)
		}
		r.keys[string(name)] = key
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("signed.keys: %w", err)
	}
	err = members[1].eachMember(func(name []byte, v value) error {
		if len(r.roles) == maxTUFKeys {
			return fmt.Errorf("at most %d are accepted", maxTUFKeys)
		}
		role, err := readTUFRole(v)
		if err != nil {
			return fmt.Errorf("%q: %w", clip(string(name)), err)
		}
		r.roles[string(name)] = role
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("signed.roles: %w", err)
	}
	return r, nil
}

func readTUFRole(v value) (tufRole, error) {
	var r tufRole
	m, err := requiredMembers(v, "role", "keyids", "threshold")
	if err != nil {
		return r, err
	}
	if r.threshold, err = m[1].integer(); err != nil || r.threshold < 1 {
		return r, errors.New("threshold: want an integer of at least 1")
	}
	err = m[0].eachElement(func(v value) error {
		if len(r.keys) == maxTUFKeys {
			return fmt.Errorf("at most %d are accepted", maxTUFKeys)
		}
		id, err := v.text()
		r.keys = append(r.keys, id)
		return err
	})
	if err != nil {
		return r, fmt.Errorf("keyids: %w", err)
	}
	return r, nil
}

// readTUFKey reads a key (section 4.2.2): ed25519 in 64 hex digits, ecdsa and
// rsa in PEM, or ecdsa on P-256 as the hex digits of its point, as Sigstore's
// first roots have it.
func readTUFKey(v value) (crypto.PublicKey, error) {
	m, err := requiredMembers(v, "key", "keytype", "keyval")
	if err != nil {
		return nil, err
	}
	kind, err := m[0].text()
	if err != nil {
		return nil, fmt.Errorf("keytype: %w", err)
	}
	val, err := requiredMembers(m[1], "keyval", "public")
	if err != nil {
		return nil, err
	}
	text, err := val[0].bytes()
	if err != nil {
		return nil, fmt.Errorf("keyval.public: %w", err)
	}
	switch kind {
	case "ed25519":
		if key, err := hex.AppendDecode(nil, text); err == nil && len(key) == ed25519.PublicKeySize {
			return ed25519.PublicKey(key), nil
		}
		return nil, errors.New("keyval.public: want an Ed25519 key in 64 hex digits")
	case "ecdsa", "ecdsa-sha2-nistp256":
		if point, err := hex.AppendDecode(nil, text); err == nil {
			key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
			if err != nil {
				return nil, errors.New("keyval.public: want a point of P-256 in 130 hex digits")
			}
			return key, nil
		}
	case "rsa":
	default:
		return nil, errors.New("keytype in body should be one of [ed25519 ecdsa ecdsa-sha2-nistp256 rsa]")
	}
	key, err := sigkey.ParseX509(text)
	if err != nil {
		return nil, fmt.Errorf("keyval.public: %w", err)
	}
	_, isRSA := key.PublicKey().(*rsa.PublicKey)
	_, isECDSA := key.PublicKey().(*ecdsa.PublicKey)
	if !bytes.HasPrefix(key.Canonical(), []byte("-----BEGIN PUBLIC KEY-----")) || isRSA != (kind == "rsa") || isECDSA != (kind != "rsa") {
		return nil, fmt.Errorf("keyval.public: want a public key of the type %s", kind)
	}
	return key.PublicKey(), nil
}

// verify verifies metadata with the keys of its role (section 5.3.4). A key
// counts once, under whatever IDs, and signs once under each: what another log has
// taken with two is read, but not accepted. It returns those that count. Budget is
// what Ed25519 may still hash.
func (r *tufRoot) verify(m *tufMetadata, budget *int) (counted []crypto.PublicKey, err error) {
	signed := make(map[string]bool, len(m.sigs))
	for _, s := range m.sigs {
		if signed[s.key] {
			return nil, fmt.Errorf("signatures: key %q has two", clip(s.key))
		}
		signed[s.key] = true
	}
	role, ok := r.roles[m.role]
	if !ok {
		return nil, fmt.Errorf("the root has no role %s", m.role)
	}
	message, err := formOLPC.canonical(m.signed)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(message)
	for _, s := range m.sigs {
		key := r.keys[s.key]
		if key == nil || !slices.Contains(role.keys, s.key) || len(s.sig) == 0 {
			continue
		}
		verified := false
		switch pub := key.(type) {
		case ed25519.PublicKey:
			if *budget -= len(message); *budget < 0 {
				return nil, errors.New("the metadata is too large for this many Ed25519 signatures")
			}
			verified = ed25519.Verify(pub, message, s.sig)
		case *ecdsa.PublicKey:
			verified = ecdsa.VerifyASN1(pub, sum[:], s.sig)
		case *rsa.PublicKey:
			verified = rsa.VerifyPSS(pub, crypto.SHA256, sum[:], s.sig, nil) == nil
		}
		if verified && !slices.ContainsFunc(counted, func(c crypto.PublicKey) bool { return equalKeys(c, key) }) {
			counted = append(counted, key)
		}
	}
	if int64(len(counted)) < role.threshold {
		return nil, fmt.Errorf("signatures of %d keys of the role %s verify, %d are needed", len(counted), m.role, role.threshold)
	}
	return counted, nil
}

// canonical returns the metadata in canonical JSON (RFC 8785).
func (m *tufMetadata) canonical() []byte {
	size := 64 + len(m.signed)
	for _, s := range m.sigs {
		size += 32 + len(s.key) + hex.EncodedLen(len(s.sig))
	}
	out := append(make([]byte, 0, size), `{"signatures":[`...)
	for i, s := range m.sigs {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, `{"keyid":`...)
		out = formJCS.appendString(out, []byte(s.key))
		out = append(out, `,"sig":"`...)
		out = hex.AppendEncode(out, s.sig)
		out = append(out, `"}`...)
	}
	out = append(out, `],"signed":`...)
	out = append(out, m.signed...)
	return append(out, '}')
}
