package trust

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// Role is a top-level role of TUF.
type Role string

// The four roles.
const (
	Root      Role = metadata.ROOT
	Targets   Role = metadata.TARGETS
	Snapshot  Role = metadata.SNAPSHOT
	Timestamp Role = metadata.TIMESTAMP
)

// What clients download at most of each role, in bytes (go-tuf and python-tuf
// have the same bounds). Nothing longer is published or read back.
const (
	maxRoot      = 512_000
	maxTimestamp = 16_384
	maxSnapshot  = 2_000_000
	maxTargets   = 5_000_000
)

// Bounds of the shape of JSON that is parsed. Parsers pay far more for a member
// than for a byte, so a small file of many tiny members would cost much memory.
const (
	maxJSONDepth = 16
	// maxJSONMembers is what a document of any length may have.
	maxJSONMembers = 1024
	// bytesPerMember allows longer documents one more member for so many
	// bytes. Those published here have fewer: a target takes 8 members in 230
	// bytes, an instance in the trusted root 15 to 20 in 900.
	bytesPerMember = 16
)

// checkJSON refuses data that is longer than limit bytes, nested too deeply or
// made of more than the given number of members. It looks at structure only, in
// one pass and without allocating; whether data is JSON at all is for the
// parser after it.
func checkJSON(data []byte, limit, most int) error {
	if len(data) > limit {
		return fmt.Errorf("%d bytes long, the limit is %d", len(data), limit)
	}
	depth, members, inString := 0, 0, false
	for i := 0; i < len(data); i++ {
		c := data[i]
		if inString {
			if c == '\\' {
				i++
			}
			inString = c != '"'
			continue
		}
		switch c {
		case '"':
			inString = true
		case '{', '[':
			depth++
			members++
			if depth > maxJSONDepth {
				return fmt.Errorf("nested deeper than %d levels", maxJSONDepth)
			}
		case '}', ']':
			depth--
		case ',':
			members++
		}
	}
	if members > most {
		return fmt.Errorf("%d members in %d bytes, the limit is %d", members, len(data), most)
	}
	return nil
}

// parser reads the metadata of one role. It checks what go-tuf takes for
// granted, and verifies no signature.
type parser[T metadata.Roles] func(data []byte) (*metadata.Metadata[T], error)

// parseRoot reads a root. It may come from elsewhere and then have fields of
// its own, which count in its signature, so go-tuf parses it. go-tuf goes over
// its input four times; a root is short.
func parseRoot(data []byte) (*metadata.Metadata[metadata.RootType], error) {
	if err := checkJSON(data, maxRoot, maxJSONMembers); err != nil {
		return nil, err
	}
	m, err := new(metadata.Metadata[metadata.RootType]).FromBytes(data)
	if err != nil {
		return nil, err
	}
	s := &m.Signed
	if err := checkHeader(s.Type, Root, s.SpecVersion, s.Version); err != nil {
		return nil, err
	}
	if !s.ConsistentSnapshot {
		return nil, errors.New("consistent_snapshot is false, but clients ask for hash-prefixed targets")
	}
	for _, role := range []Role{Root, Targets, Snapshot, Timestamp} {
		if s.Roles[string(role)] == nil {
			return nil, fmt.Errorf("role %s is missing", role)
		}
	}
	for id, key := range s.Keys {
		if key == nil {
			return nil, fmt.Errorf("key %s is null", id)
		}
		// The identity is derived, not believed.
		if got, err := key.ID(); err != nil || got != id {
			return nil, fmt.Errorf("key %s does not have that identity", id)
		}
	}
	return m, nil
}

// header is what every role begins with.
type header struct {
	Type        string    `json:"_type"`
	SpecVersion string    `json:"spec_version"`
	Version     int64     `json:"version"`
	Expires     time.Time `json:"expires"`
}

// fileMeta is a metadata file that a role vouches for.
type fileMeta struct {
	Version int64           `json:"version"`
	Length  int64           `json:"length"`
	Hashes  metadata.Hashes `json:"hashes"`
}

type signedFiles struct {
	header
	Meta map[string]fileMeta `json:"meta"`
}

type signedTargets struct {
	header
	Targets map[string]struct {
		Length int64            `json:"length"`
		Hashes metadata.Hashes  `json:"hashes"`
		Custom *json.RawMessage `json:"custom"`
	} `json:"targets"`
}

// parseOwn reads metadata that this package wrote: one signature, and no field
// that it does not know.
func parseOwn[S any](data []byte, limit int) (signed S, sigs []metadata.Signature, err error) {
	if err := checkJSON(data, limit, maxJSONMembers+len(data)/bytesPerMember); err != nil {
		return signed, nil, err
	}
	var envelope struct {
		Signed     S `json:"signed"`
		Signatures []struct {
			KeyID string            `json:"keyid"`
			Sig   metadata.HexBytes `json:"sig"`
		} `json:"signatures"`
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&envelope); err != nil {
		return signed, nil, fmt.Errorf("not the expected JSON: %w", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return signed, nil, errors.New("there is more after the JSON object")
	}
	if len(envelope.Signatures) != 1 {
		return signed, nil, fmt.Errorf("%d signatures, want one", len(envelope.Signatures))
	}
	sig := envelope.Signatures[0]
	return envelope.Signed, []metadata.Signature{{KeyID: sig.KeyID, Signature: sig.Sig}}, nil
}

func parseTimestamp(data []byte) (*metadata.Metadata[metadata.TimestampType], error) {
	s, sigs, err := parseOwn[signedFiles](data, maxTimestamp)
	if err != nil {
		return nil, err
	}
	meta, err := s.only("snapshot.json", Timestamp)
	if err != nil {
		return nil, err
	}
	m := metadata.Timestamp(s.Expires)
	m.Signed.SpecVersion, m.Signed.Version, m.Signed.Meta, m.Signatures = s.SpecVersion, s.Version, meta, sigs
	return m, nil
}

func parseSnapshot(data []byte) (*metadata.Metadata[metadata.SnapshotType], error) {
	s, sigs, err := parseOwn[signedFiles](data, maxSnapshot)
	if err != nil {
		return nil, err
	}
	meta, err := s.only("targets.json", Snapshot)
	if err != nil {
		return nil, err
	}
	m := metadata.Snapshot(s.Expires)
	m.Signed.SpecVersion, m.Signed.Version, m.Signed.Meta, m.Signatures = s.SpecVersion, s.Version, meta, sigs
	return m, nil
}

// only returns the one file that s, the signed part of role, vouches for, with
// its version, length and hash.
func (s signedFiles) only(name string, role Role) (map[string]*metadata.MetaFiles, error) {
	if err := checkHeader(s.Type, role, s.SpecVersion, s.Version); err != nil {
		return nil, err
	}
	f, ok := s.Meta[name]
	if !ok || len(s.Meta) != 1 || f.Version < 1 || f.Version > maxVersion || f.Length < 1 || !onlySHA256(f.Hashes) {
		return nil, fmt.Errorf("it does not vouch for %s alone, with version, length and SHA-256", name)
	}
	return map[string]*metadata.MetaFiles{name: {Version: f.Version, Length: f.Length, Hashes: f.Hashes}}, nil
}

func parseTargets(data []byte) (*metadata.Metadata[metadata.TargetsType], error) {
	s, sigs, err := parseOwn[signedTargets](data, maxTargets)
	if err != nil {
		return nil, err
	}
	if err := checkHeader(s.Type, Targets, s.SpecVersion, s.Version); err != nil {
		return nil, err
	}
	m := metadata.Targets(s.Expires)
	m.Signed.SpecVersion, m.Signed.Version, m.Signatures = s.SpecVersion, s.Version, sigs
	for name, f := range s.Targets {
		if name == "" || strings.ContainsAny(name, "/\\\x00") {
			return nil, fmt.Errorf("target name %q is empty or has a slash, a backslash or a zero byte", name)
		}
		// One hash, of the kind that names the file; see target.file.
		if !onlySHA256(f.Hashes) {
			return nil, fmt.Errorf("target %q does not have a SHA-256 as its only hash", name)
		}
		m.Signed.Targets[name] = &metadata.TargetFiles{Length: f.Length, Hashes: f.Hashes, Custom: f.Custom, Path: name}
	}
	return m, nil
}

func onlySHA256(h metadata.Hashes) bool { return len(h) == 1 && len(h["sha256"]) == sha256.Size }

func checkHeader(typ string, role Role, spec string, version int64) error {
	if typ != string(role) {
		return fmt.Errorf("metadata of type %q, want %q", typ, role)
	}
	if !strings.HasPrefix(spec, "1.") {
		return fmt.Errorf("spec_version %q, want 1.x", spec)
	}
	if version < 1 || version > maxVersion {
		return fmt.Errorf("version %d, want 1 to %d", version, int64(maxVersion))
	}
	return nil
}

// describes tells whether f is a true description of data.
func describes(f *metadata.MetaFiles, data []byte) bool {
	return f.VerifyLengthHashes(data) == nil
}

func describe(version int64, data []byte) *metadata.MetaFiles {
	sum := sha256.Sum256(data)
	return &metadata.MetaFiles{Version: version, Length: int64(len(data)), Hashes: metadata.Hashes{"sha256": sum[:]}}
}

// roleKey is the key of a role as TUF sees it.
type roleKey struct {
	signer crypto.Signer
	key    *metadata.Key
	id     string // SHA-256 of the key's canonical JSON, hexadecimal
}

// newRoleKey accepts ECDSA P-256 only: the one kind that go-tuf v2, the go-tuf
// v0.7 inside cosign, python-tuf and tuf-js all verify with SHA-256. It is
// written as keytype "ecdsa", scheme "ecdsa-sha2-nistp256", PEM.
func newRoleKey(role Role, signer crypto.Signer) (*roleKey, error) {
	pub, ok := signer.Public().(*ecdsa.PublicKey)
	if !ok || pub.Curve != elliptic.P256() {
		return nil, fmt.Errorf("the key of TUF role %s is not ECDSA P-256, the kind that every client verifies", role)
	}
	key, err := metadata.KeyFromPublicKey(pub)
	if err != nil {
		return nil, fmt.Errorf("the key of TUF role %s: %w", role, err)
	}
	id, err := key.ID()
	if err != nil {
		return nil, fmt.Errorf("the key of TUF role %s: %w", role, err)
	}
	return &roleKey{signer: signer, key: key, id: id}, nil
}

// sign replaces the signatures of m by one of k and returns the bytes to
// publish. They are parsed and verified like those of a stranger first: a
// signer that fails silently must not publish anything.
func sign[T metadata.Roles](m *metadata.Metadata[T], role Role, k *roleKey, root *metadata.Metadata[metadata.RootType], parse parser[T]) ([]byte, *metadata.Metadata[T], error) {
	m.ClearSignatures()
	s := &messageSigner{signer: k.signer}
	if _, err := m.Sign(s); err != nil {
		if s.err != nil { // go-tuf drops the cause
			err = s.err
		}
		return nil, nil, fmt.Errorf("sign %s: %w", role, err)
	}
	data, err := m.ToBytes(false)
	if err != nil {
		return nil, nil, fmt.Errorf("encode %s: %w", role, err)
	}
	parsed, err := parse(data)
	if err != nil {
		return nil, nil, fmt.Errorf("new %s cannot be published: %w", role, err)
	}
	if err := root.VerifyDelegate(string(role), parsed); err != nil {
		return nil, nil, fmt.Errorf("new %s cannot be published: %w", role, err)
	}
	return data, parsed, nil
}

// messageSigner makes a crypto.Signer look as go-tuf wants it. The loader of
// sigstore/sigstore knows in-memory keys only.
type messageSigner struct {
	signer crypto.Signer
	err    error
}

func (s *messageSigner) PublicKey(...signature.PublicKeyOption) (crypto.PublicKey, error) {
	return s.signer.Public(), nil
}

// SignMessage returns an ASN.1 DER signature over SHA-256 of the message.
func (s *messageSigner) SignMessage(message io.Reader, _ ...signature.SignOption) ([]byte, error) {
	h := sha256.New()
	if _, s.err = io.Copy(h, message); s.err != nil {
		return nil, s.err
	}
	var sig []byte
	sig, s.err = s.signer.Sign(rand.Reader, h.Sum(nil), crypto.SHA256)
	return sig, s.err
}
