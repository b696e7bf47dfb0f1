package entry

import (
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/sigstack/sigstack/tlog/entry/sigkey"
)

// intoto 0.0.1 and 0.0.2: a DSSE envelope (DSSE specification v1.0) whose
// payload is kept as the attestation of the entry. It is an in-toto statement
// as a rule, but the payload type may be any. Neither the payload nor its type
// may be empty.
//
// 0.0.1, proposed:
//
//	spec.content.envelope  the JSON text of the envelope, in a string
//	spec.publicKey         base64 of PEM: key, certificate or chain
//
// Stored:
//
//	spec.content.hash         SHA-256 of the envelope's text, byte for byte as sent
//	spec.content.payloadHash  SHA-256 of the decoded payload
//	spec.publicKey
//
// One signature of the envelope must be the key's. The others are not looked
// at; neither are a hash and a payloadHash that a client sends.
//
// 0.0.2, proposed:
//
//	spec.content.envelope.payloadType  text, at most maxLabel bytes
//	spec.content.envelope.payload      base64 of the base64 in the envelope
//	spec.content.envelope.signatures   list of 1 to 10 {keyid, sig, publicKey}
//	spec.content.hash                  {algorithm: "sha256", value} of the client's envelope
//
// Each sig is base64 of the base64 in the envelope, and the signature of the
// publicKey beside it (base64 of PEM). The keyid is optional, of at most
// maxLabel bytes, and says nothing that is checked. Public logs encode payload
// and sig twice, and so do their clients.
//
// Stored is the same without the payload, with its SHA-256 as
// spec.content.payloadHash. Everything is in the order and the spelling that
// it was sent in, the public keys too: public logs keep their text here, and
// not the canonical one. Nobody can check spec.content.hash without the
// client's envelope, so the entry is not found by it.

// maxLabel bounds, in bytes, the payload type and each keyid of intoto 0.0.2,
// which are stored and which no key or hash bounds.
const maxLabel = 1 << 10

// checkAttestation refuses an envelope that attests nothing.
func checkAttestation(payloadType string, payload []byte) error {
	if payloadType == "" || len(payload) == 0 {
		return errors.New("invalid DSSE envelope: payloadType and payload must not be empty")
	}
	return nil
}

// inTotoProposal is what a verified intoto entry of either version comes to.
func inTotoProposal(body []byte, keys *keySet, payloadType string, payload []byte, sum digest) *proposal {
	if payloadType == inTotoPayloadType {
		addStatementKeys(keys, payload)
	}
	return &proposal{body: body, keys: keys, attestation: payload, attestationKey: sum.searchKey()}
}

// statedInToto adds the keys of the payload of a stored spec of either version.
func statedInToto(spec value, keys *keySet, payload []byte) {
	m, err := spec.members("content")
	if err != nil {
		return
	}
	if m, err = m[0].members("envelope"); err != nil {
		return
	}
	if m[0].isObject() { // of 0.0.2
		m, err := m[0].members("payloadType")
		if err != nil {
			return
		}
		if text, err := m[0].text(); err != nil || text != inTotoPayloadType {
			return
		}
	}
	addStatementKeys(keys, payload)
}

// attestedInToto returns the hash of the payload of a stored spec of either version.
func attestedInToto(spec value) (digest, error) {
	m, err := spec.members("content")
	if err != nil {
		return digest{}, err
	}
	content, err := requiredMembers(m[0], "content", "payloadHash")
	if err != nil {
		return digest{}, err
	}
	return readDigest(content[0], "content.payloadHash", "sha256")
}

type inToto001 struct {
	envelope, payload digest
	key               *sigkey.X509
}

// readInToto001 reads what a proposed and a stored spec have in common, the
// key, and returns the members envelope, hash and payloadHash of the content.
func readInToto001(spec value) (*inToto001, []value, error) {
	m, err := spec.members("content", "publicKey")
	if err != nil {
		return nil, nil, err
	}
	content, err := requiredMembers(m[0], "content", "envelope", "hash", "payloadHash")
	if err != nil {
		return nil, nil, err
	}
	keyText, err := requiredBytes(m[1], "publicKey")
	if err != nil {
		return nil, nil, err
	}
	key, err := sigkey.ParseX509(keyText)
	if err != nil {
		return nil, nil, err
	}
	return &inToto001{key: key}, content, nil
}

func proposeInToto001(spec value) (*proposal, error) {
	e, content, err := readInToto001(spec)
	if err != nil {
		return nil, err
	}
	text, err := content[0].bytes()
	if err != nil {
		return nil, fmt.Errorf("content.envelope: %w", err)
	}
	if len(text) == 0 {
		return nil, errors.New("entry not insertable into log: missing envelope content")
	}
	env, err := readEnvelope(text)
	if err != nil {
		return nil, err
	}
	if err := checkAttestation(env.payloadType, env.payload); err != nil {
		return nil, err
	}
	if err := env.verifyOne(e.key); err != nil {
		return nil, err
	}
	e.envelope, e.payload = sha256Digest(text), sha256Digest(env.payload)
	return inTotoProposal(e.body(), e.keys(), env.payloadType, env.payload, e.payload), nil
}

// verifyOne returns nil if one of the signatures is the key's.
func (env *envelope) verifyOne(key *sigkey.X509) error {
	check := env.verification()
	for _, s := range env.sigs {
		if ok, err := check.by(key, s.raw); ok || err != nil {
			return err
		}
	}
	return errNoSignature
}

func keysInToto001(spec value) (*keySet, error) {
	e, content, err := readInToto001(spec)
	if err != nil {
		return nil, err
	}
	if e.envelope, err = readDigest(content[1], "content.hash", "sha256"); err != nil {
		return nil, err
	}
	if e.payload, err = readDigest(content[2], "content.payloadHash", "sha256"); err != nil {
		return nil, err
	}
	return e.keys(), nil
}

func (e *inToto001) body() []byte {
	key := e.key.Canonical()
	out := make([]byte, 0, 512+base64.StdEncoding.EncodedLen(len(key)))
	out = appendHeader(out, "intoto", "0.0.1")
	out = append(out, `"content":{"hash":`...)
	out = appendDigest(out, e.envelope)
	out = append(out, `,"payloadHash":`...)
	out = appendDigest(out, e.payload)
	out = append(out, `},"publicKey":"`...)
	out = base64.StdEncoding.AppendEncode(out, key)
	return append(out, `"}}`...)
}

func (e *inToto001) keys() *keySet {
	s := &keySet{}
	s.addSigner(e.key, bySHA256)
	s.add(e.payload.searchKey(), e.envelope.searchKey())
	return s
}

type inToto002 struct {
	payloadType   string
	sigs          []inTotoSignature // in the order that they were sent in
	hash, payload digest
}

type inTotoSignature struct {
	keyID   string
	text    []byte // base64, as in the envelope
	raw     []byte
	keyText []byte // PEM, as it was sent
	key     *sigkey.X509
}

// readInToto002 reads what a proposed and a stored spec have in common, and
// returns the payload, which a stored one has not, and its hash, which a
// proposed one need not have.
func readInToto002(spec value) (e *inToto002, payload, payloadHash value, err error) {
	m, err := spec.members("content")
	if err != nil {
		return nil, nil, nil, err
	}
	content, err := requiredMembers(m[0], "content", "envelope", "hash", "payloadHash")
	if err != nil {
		return nil, nil, nil, err
	}
	env, err := requiredMembers(content[0], "content.envelope", "payloadType", "payload", "signatures")
	if err != nil {
		return nil, nil, nil, err
	}
	e = &inToto002{}
	if e.payloadType, err = label(env[0]); err != nil {
		return nil, nil, nil, fmt.Errorf("content.envelope.payloadType: %w", err)
	}
	if content[1] == nil {
		return nil, nil, nil, errors.New("content.hash in body is required")
	}
	if e.hash, err = readDigest(content[1], "content.hash", "sha256"); err != nil {
		return nil, nil, nil, err
	}
	if env[2] == nil {
		return nil, nil, nil, errors.New("content.envelope.signatures in body is required")
	}
	if err := env[2].eachElement(e.addSignature); err != nil {
		return nil, nil, nil, fmt.Errorf("content.envelope.signatures: %w", err)
	}
	if len(e.sigs) == 0 {
		return nil, nil, nil, errors.New("content.envelope.signatures in body should have at least 1 items")
	}
	return e, env[1], content[2], nil
}

// label returns a text of at most maxLabel bytes.
func label(v value) (string, error) {
	s, err := v.text()
	if err == nil && len(s) > maxLabel {
		err = fmt.Errorf("it has %d bytes, at most %d are accepted", len(s), maxLabel)
	}
	return s, err
}

func (e *inToto002) addSignature(v value) error {
	if len(e.sigs) == maxSignatures {
		return fmt.Errorf("at most %d are accepted", maxSignatures)
	}
	m, err := v.members("keyid", "sig", "publicKey")
	if err != nil {
		return err
	}
	var s inTotoSignature
	if s.keyID, err = label(m[0]); err != nil {
		return fmt.Errorf("keyid: %w", err)
	}
	if s.text, err = requiredBytes(m[1], "sig"); err != nil {
		return err
	}
	if s.raw, err = decodeBase64(s.text); err != nil {
		return fmt.Errorf("sig: %w", err)
	}
	if s.keyText, err = requiredBytes(m[2], "publicKey"); err != nil {
		return err
	}
	if s.key, err = sigkey.ParseX509(s.keyText); err != nil {
		return fmt.Errorf("could not parse public key as x509: %w", err)
	}
	e.sigs = append(e.sigs, s)
	return nil
}

func proposeInToto002(spec value) (*proposal, error) {
	e, v, _, err := readInToto002(spec)
	if err != nil {
		return nil, err
	}
	text, err := v.base64()
	if err != nil {
		return nil, fmt.Errorf("content.envelope.payload: %w", err)
	}
	if len(text) == 0 {
		return nil, errors.New("entry not insertable into log: missing envelope content")
	}
	env := &envelope{payloadType: e.payloadType}
	if env.payload, err = decodePayload(text); err != nil {
		return nil, fmt.Errorf("content.envelope.payload: the base64 inside: %w", err)
	}
	if err := checkAttestation(env.payloadType, env.payload); err != nil {
		return nil, err
	}
	check := env.verification()
	for _, s := range e.sigs {
		ok, err := check.by(s.key, s.raw)
		if err != nil {
			return nil, err
		}
		if !ok {
			return nil, fmt.Errorf("could not verify envelope: %w", errNoSignature)
		}
	}
	e.payload = sha256Digest(env.payload)
	return inTotoProposal(e.body(), e.keys(), env.payloadType, env.payload, e.payload), nil
}

func keysInToto002(spec value) (*keySet, error) {
	e, _, payloadHash, err := readInToto002(spec)
	if err != nil {
		return nil, err
	}
	if e.payload, err = readDigest(payloadHash, "content.payloadHash", "sha256"); err != nil {
		return nil, err
	}
	return e.keys(), nil
}

func (e *inToto002) body() []byte {
	out := make([]byte, 0, 1024)
	out = appendHeader(out, "intoto", "0.0.2")
	out = append(out, `"content":{"envelope":{"payloadType":`...)
	out = appendString(out, e.payloadType)
	out = append(out, `,"signatures":[`...)
	for i, s := range e.sigs {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, '{')
		if s.keyID != "" {
			out = append(out, `"keyid":`...)
			out = appendString(out, s.keyID)
			out = append(out, ',')
		}
		out = append(out, `"publicKey":"`...)
		out = base64.StdEncoding.AppendEncode(out, s.keyText)
		out = append(out, `","sig":"`...)
		out = base64.StdEncoding.AppendEncode(out, s.text)
		out = append(out, `"}`...)
	}
	out = append(out, `]},"hash":`...)
	out = appendDigest(out, e.hash)
	out = append(out, `,"payloadHash":`...)
	out = appendDigest(out, e.payload)
	return append(out, `}}}`...)
}

func (e *inToto002) keys() *keySet {
	s := &keySet{}
	for _, sig := range e.sigs {
		s.addSigner(sig.key, bySHA256)
	}
	s.add(e.payload.searchKey())
	return s
}
