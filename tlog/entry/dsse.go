package entry

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/sigstack/sigstack/tlog/entry/sigkey"
)

// dsse 0.0.1: a DSSE envelope (DSSE specification v1.0). Proposed:
//
//	spec.proposedContent.envelope   the JSON text of the envelope, in a string
//	spec.proposedContent.verifiers  list of base64 PEM: keys, certificates, chains
//
// Stored:
//
//	spec.envelopeHash  SHA-256 of the envelope's text, byte for byte as sent
//	spec.payloadHash   SHA-256 of the decoded payload
//	spec.signatures    list of {signature, verifier}, sorted by signature
//
// Every signature must verify with a verifier. The verifiers are tried in
// order until all signatures are covered; those after that are ignored, those
// before must each verify at least one signature. A verifier counts for the
// first signature that it verifies; if two count for the same one, the later
// is stored.

const (
	maxVerifiers  = 10
	maxSignatures = 10

	// maxEdDSABytes bounds what all attempts with Ed25519 keys hash together.
	// The other algorithms share one digest of the payload; Ed25519 must read
	// it anew for each pair of key and signature.
	maxEdDSABytes = 128 << 20

	inTotoPayloadType = "application/vnd.in-toto+json"
)

type dsse struct {
	envelope, payload digest
	sigs              []dsseSignature // sorted by text
}

type dsseSignature struct {
	text     string // base64, as in the envelope
	raw      []byte
	verifier *sigkey.X509
}

// envelope is a DSSE envelope as read.
type envelope struct {
	payloadType string
	payload     []byte
	sigs        []dsseSignature // in the order of the envelope, each text once
}

func proposeDSSE(spec value) ([]byte, *keySet, error) {
	m, err := spec.members("proposedContent", "envelopeHash", "payloadHash", "signatures")
	if err != nil {
		return nil, nil, err
	}
	stored := m[1] != nil || m[2] != nil || m[3] != nil
	switch {
	case m[0] == nil && stored:
		return nil, nil, errors.New("entry not insertable into log: missing proposed content")
	case m[0] == nil:
		return nil, nil, errors.New("either proposedContent or envelopeHash, payloadHash, and signatures must be present")
	case stored:
		return nil, nil, errors.New("either proposedContent or envelopeHash, payloadHash, and signatures must be present but not both")
	}
	content, err := requiredMembers(m[0], "proposedContent", "envelope", "verifiers")
	if err != nil {
		return nil, nil, err
	}
	text, err := content[0].bytes()
	if err != nil {
		return nil, nil, fmt.Errorf("proposedContent.envelope: %w", err)
	}
	if len(text) == 0 {
		return nil, nil, errors.New("proposedContent.envelope in body is required")
	}
	verifiers, err := readVerifiers(content[1])
	if err != nil {
		return nil, nil, err
	}
	env, err := readEnvelope(text)
	if err != nil {
		return nil, nil, err
	}
	if err := env.verify(verifiers); err != nil {
		return nil, nil, err
	}
	slices.SortFunc(env.sigs, func(a, b dsseSignature) int { return strings.Compare(a.text, b.text) })
	d := &dsse{envelope: sha256Digest(text), payload: sha256Digest(env.payload), sigs: env.sigs}
	keys := d.keys()
	if env.payloadType == inTotoPayloadType {
		addStatementKeys(keys, env.payload)
	}
	return d.body(), keys, nil
}

// readVerifiers decodes the list of verifiers and does not parse them yet.
func readVerifiers(v value) ([][]byte, error) {
	if v == nil {
		return nil, errors.New("proposedContent.verifiers in body is required")
	}
	var list [][]byte
	err := v.eachElement(func(v value) error {
		if len(list) == maxVerifiers {
			return fmt.Errorf("at most %d are accepted", maxVerifiers)
		}
		b, err := v.base64()
		if err == nil && len(b) == 0 {
			err = errors.New("an empty verifier")
		}
		list = append(list, b)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("proposedContent.verifiers: %w", err)
	}
	if len(list) == 0 {
		return nil, errors.New("proposedContent.verifiers in body should have at least 1 items")
	}
	return list, nil
}

// readEnvelope reads the JSON of an envelope: payload and payloadType, and
// signatures with sig and an optional keyid, which says nothing that is
// checked and is ignored.
func readEnvelope(text []byte) (*envelope, error) {
	if err := checkJSON(text); err != nil {
		return nil, fmt.Errorf("DSSE envelope is not JSON: %w", err)
	}
	m, err := trimmed(text).members("payload", "payloadType", "signatures")
	if err != nil {
		return nil, fmt.Errorf("DSSE envelope: %w", err)
	}
	env := &envelope{}
	if env.payloadType, err = m[1].text(); err != nil {
		return nil, fmt.Errorf("DSSE envelope payloadType: %w", err)
	}
	payload, err := m[0].bytes()
	if err != nil {
		return nil, fmt.Errorf("DSSE envelope payload: %w", err)
	}
	if env.payload, err = decodePayload(payload); err != nil {
		return nil, fmt.Errorf("DSSE envelope payload: %w", err)
	}
	if m[2] != nil {
		err = m[2].eachElement(func(v value) error { return env.addSignature(v) })
		if err != nil {
			return nil, fmt.Errorf("DSSE envelope signatures: %w", err)
		}
	}
	if len(env.sigs) == 0 {
		return nil, errors.New("DSSE envelope must contain 1 or more signatures")
	}
	return env, nil
}

// decodePayload decodes the payload of an envelope (DSSE protocol, "Signature
// Definition"): standard or URL-safe alphabet.
func decodePayload(text []byte) ([]byte, error) {
	encoding := base64.StdEncoding
	if bytes.ContainsAny(text, "-_") {
		encoding = base64.URLEncoding
	}
	out, err := encoding.AppendDecode(make([]byte, 0, encoding.DecodedLen(len(text))), text)
	if err != nil {
		return nil, fmt.Errorf("failed parsing base64 data: %w", err)
	}
	return out, nil
}

// addSignature reads one signature. Its text is stored and must be in the form
// that readers of the entry expect, which is the standard alphabet; one
// spelling also makes one entry.
func (env *envelope) addSignature(v value) error {
	m, err := v.members("sig", "keyid")
	if err != nil {
		return err
	}
	text, err := m[0].text()
	if err != nil {
		return fmt.Errorf("sig: %w", err)
	}
	if _, err := m[1].text(); err != nil {
		return fmt.Errorf("keyid: %w", err)
	}
	raw, err := decodeBase64([]byte(text))
	if err != nil {
		return fmt.Errorf("sig: %w", err)
	}
	if len(raw) == 0 {
		return errors.New("sig is empty")
	}
	if slices.ContainsFunc(env.sigs, func(s dsseSignature) bool { return s.text == text }) {
		return nil
	}
	if len(env.sigs) == maxSignatures {
		return fmt.Errorf("at most %d are accepted", maxSignatures)
	}
	env.sigs = append(env.sigs, dsseSignature{text: text, raw: raw})
	return nil
}

// verify assigns a verifier to each signature, or fails.
func (env *envelope) verify(verifiers [][]byte) error {
	check := env.verification()
	uncovered := len(env.sigs)
	var earlier []assigned
	for _, text := range verifiers {
		if uncovered == 0 {
			break
		}
		key, err := sigkey.ParseX509(text)
		if err != nil {
			return fmt.Errorf("could not parse public key as x509: %w", err)
		}
		// A key that was there before, bare or in another certificate, verifies
		// what it has verified then: ten certificates of one key must not cost a
		// hundred verifications.
		first, last := 0, len(env.sigs)
		for _, e := range earlier {
			if samePublicKey(e.key, key) {
				first, last = e.sig, e.sig+1
			}
		}
		found := false
		for i := first; i < last; i++ {
			s := &env.sigs[i]
			ok, err := check.by(key, s.raw)
			if err != nil {
				return err
			}
			if ok {
				if s.verifier == nil {
					uncovered--
				}
				s.verifier, found = key, true
				earlier = append(earlier, assigned{key, i})
				break
			}
		}
		if !found {
			return fmt.Errorf("could not verify envelope: %w", errNoSignature)
		}
	}
	if uncovered > 0 {
		return errors.New("all signatures must have a key that verifies it")
	}
	return nil
}

// errNoSignature is what the library of public logs says when nothing verifies.
var errNoSignature = errors.New("accepted signatures do not match threshold, Found: 0, Expected 1")

// A verification verifies signatures of one envelope.
type verification struct {
	pae    []byte
	sum    [sha256.Size]byte // of pae
	budget int               // bytes that Ed25519 keys may still hash
}

func (env *envelope) verification() *verification {
	pae := env.pae()
	return &verification{pae: pae, sum: sha256.Sum256(pae), budget: maxEdDSABytes}
}

// by reports whether sig is a signature of key. An error means that more
// attempts would cost too much.
func (v *verification) by(key *sigkey.X509, sig []byte) (bool, error) {
	if _, ok := key.PublicKey().(ed25519.PublicKey); !ok {
		return key.VerifyDigest(crypto.SHA256, v.sum[:], sig) == nil, nil
	}
	if v.budget -= len(v.pae); v.budget < 0 {
		return false, errors.New("could not verify envelope: the payload is too large for this many Ed25519 keys and signatures")
	}
	return key.Verify(v.pae, sigkey.X509Signature(sig)) == nil, nil
}

// assigned is a verifier and the first signature that it verifies.
type assigned struct {
	key *sigkey.X509
	sig int
}

func samePublicKey(a, b *sigkey.X509) bool { return equalKeys(a.PublicKey(), b.PublicKey()) }

func equalKeys(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

// pae returns the bytes that are signed (DSSE protocol, "Pre-Authentication
// Encoding"):
//
//	"DSSEv1" SP len(type) SP type SP len(payload) SP payload
func (env *envelope) pae() []byte {
	out := make([]byte, 0, 64+len(env.payloadType)+len(env.payload))
	out = append(out, "DSSEv1 "...)
	out = strconv.AppendInt(out, int64(len(env.payloadType)), 10)
	out = append(out, ' ')
	out = append(out, env.payloadType...)
	out = append(out, ' ')
	out = strconv.AppendInt(out, int64(len(env.payload)), 10)
	out = append(out, ' ')
	return append(out, env.payload...)
}

// addStatementKeys adds the digests that an in-toto statement names: those of
// its subjects, and those of the materials of a SLSA v0.2 predicate. A payload
// that is not a statement adds none; the entry is valid all the same.
func addStatementKeys(keys *keySet, payload []byte) {
	if !json.Valid(payload) {
		return
	}
	m, err := trimmed(payload).members("subject", "predicate")
	if err != nil {
		return
	}
	if addDigests(keys, m[0]) != nil || !m[1].isObject() {
		return
	}
	if m, err = m[1].members("materials"); err == nil {
		_ = addDigests(keys, m[0])
	}
}

// addSubjectKeys adds the digests of the subjects of an in-toto statement, if
// the payload is one.
func addSubjectKeys(keys *keySet, payload []byte) {
	if !json.Valid(payload) {
		return
	}
	if m, err := trimmed(payload).members("subject"); err == nil {
		_ = addDigests(keys, m[0])
	}
}

// addDigests adds the keys of a list of {digest: {algorithm: value}}. If the
// list is not of that form it adds none and returns an error.
func addDigests(keys *keySet, list value) error {
	if list == nil {
		return nil
	}
	found := &keySet{}
	err := list.eachElement(func(v value) error {
		if v == nil {
			return nil
		}
		m, err := v.members("digest")
		if err != nil || m[0] == nil {
			return err
		}
		return m[0].eachMember(func(algorithm []byte, v value) error {
			text, err := v.text()
			if err == nil && text != "" {
				found.add(string(algorithm) + ":" + text)
			}
			return err
		})
	})
	if err != nil {
		return err
	}
	keys.add(found.keys...)
	keys.statement = append(keys.statement, found.keys...)
	keys.full = keys.full || found.full
	return nil
}

func keysDSSE(spec value) (*keySet, error) {
	m, err := spec.members("envelopeHash", "payloadHash", "signatures")
	if err != nil {
		return nil, err
	}
	d := &dsse{}
	if d.envelope, err = readDigest(m[0], "envelopeHash", "sha256"); err != nil {
		return nil, err
	}
	if d.payload, err = readDigest(m[1], "payloadHash", "sha256"); err != nil {
		return nil, err
	}
	err = m[2].eachElement(func(v value) error {
		if len(d.sigs) == maxSignatures {
			return fmt.Errorf("more than %d signatures", maxSignatures)
		}
		s, err := v.members("verifier")
		if err != nil {
			return err
		}
		text, err := requiredBytes(s[0], "verifier")
		if err != nil {
			return err
		}
		key, err := sigkey.ParseX509(text)
		d.sigs = append(d.sigs, dsseSignature{verifier: key})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("signatures: %w", err)
	}
	return d.keys(), nil
}

func (d *dsse) body() []byte {
	out := make([]byte, 0, 1024)
	out = appendHeader(out, "dsse", "0.0.1")
	out = append(out, `"envelopeHash":`...)
	out = appendDigest(out, d.envelope)
	out = append(out, `,"payloadHash":`...)
	out = appendDigest(out, d.payload)
	out = append(out, `,"signatures":[`...)
	for i, s := range d.sigs {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, `{"signature":"`...)
		out = append(out, s.text...)
		out = append(out, `","verifier":"`...)
		out = base64.StdEncoding.AppendEncode(out, s.verifier.Canonical())
		out = append(out, `"}`...)
	}
	return append(out, `]}}`...)
}

func (d *dsse) keys() *keySet {
	s := &keySet{}
	for _, sig := range d.sigs {
		s.addSigner(sig.verifier, bySHA256)
	}
	s.add(d.payload.searchKey(), d.envelope.searchKey())
	return s
}
