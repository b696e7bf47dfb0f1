package entry

import (
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/sigstack/sigstack/tlog/entry/sigkey"
)

// rekord 0.0.1: a signature over an artifact that is sent along. Proposed:
//
//	spec.signature.format             pgp, minisign, x509 or ssh
//	spec.signature.content            base64 of the signature in that format
//	spec.signature.publicKey.content  base64 of the key in that format
//	spec.data.content                 base64 of the artifact
//	spec.data.hash                    optional {algorithm: "sha256", value}, must match
//
// Stored are the canonical texts of signature and key, and the artifact's
// SHA-256 in lower-case hex in place of the artifact.

type rekord struct {
	format string
	sig    sigkey.Signature
	key    sigkey.Key
	hash   digest
}

// readRekord reads a proposed or stored spec and returns the artifact, which a
// stored one has not.
func readRekord(spec value) (r *rekord, content []byte, err error) {
	m, err := spec.members("signature", "data")
	if err != nil {
		return nil, nil, err
	}
	signature, err := requiredMembers(m[0], "signature", "format", "content", "publicKey")
	if err != nil {
		return nil, nil, err
	}
	data, err := requiredMembers(m[1], "data", "hash", "content")
	if err != nil {
		return nil, nil, err
	}
	publicKey, err := requiredMembers(signature[2], "signature.publicKey", "content")
	if err != nil {
		return nil, nil, err
	}
	r = &rekord{}
	if r.format, err = signature[0].text(); err != nil {
		return nil, nil, fmt.Errorf("signature.format: %w", err)
	}
	switch r.format {
	case sigkey.FormatPGP, sigkey.FormatMinisign, sigkey.FormatX509, sigkey.FormatSSH:
	case "":
		return nil, nil, errors.New("signature.format in body is required")
	default:
		return nil, nil, errors.New("signature.format in body should be one of [pgp minisign x509 ssh]")
	}
	sig, err := requiredBytes(signature[1], "signature.content")
	if err != nil {
		return nil, nil, err
	}
	key, err := requiredBytes(publicKey[0], "signature.publicKey.content")
	if err != nil {
		return nil, nil, err
	}
	if data[0] != nil {
		if r.hash, err = readDigest(data[0], "data.hash", "sha256"); err != nil {
			return nil, nil, err
		}
	}
	if content, err = data[1].base64(); err != nil {
		return nil, nil, fmt.Errorf("data.content: %w", err)
	}
	if r.sig, err = sigkey.ParseSignature(r.format, sig); err != nil {
		return nil, nil, err
	}
	if r.key, err = sigkey.ParseKey(r.format, key); err != nil {
		return nil, nil, err
	}
	return r, content, nil
}

func proposeRekord(spec value) ([]byte, *keySet, error) {
	r, content, err := readRekord(spec)
	if err != nil {
		return nil, nil, err
	}
	if len(content) == 0 {
		return nil, nil, errors.New("'content' must be specified for data")
	}
	if r.hash, err = matchDigest(content, r.hash); err != nil {
		return nil, nil, err
	}
	if err := r.key.Verify(content, r.sig); err != nil {
		return nil, nil, err
	}
	return r.body(), r.keys(), nil
}

func keysRekord(spec value) (*keySet, error) {
	r, _, err := readRekord(spec)
	if err != nil {
		return nil, err
	}
	if r.hash.value == "" {
		return nil, errors.New("data.hash in body is required")
	}
	return r.keys(), nil
}

func (r *rekord) body() []byte {
	sig, key := r.sig.Canonical(), r.key.Canonical()
	out := make([]byte, 0, 512+base64.StdEncoding.EncodedLen(len(sig)+len(key)))
	out = appendHeader(out, "rekord", "0.0.1")
	out = append(out, `"data":{"hash":`...)
	out = appendDigest(out, r.hash)
	out = append(out, `},"signature":{"content":"`...)
	out = base64.StdEncoding.AppendEncode(out, sig)
	out = append(out, `","format":"`...)
	out = append(out, r.format...)
	out = append(out, `","publicKey":{"content":"`...)
	out = base64.StdEncoding.AppendEncode(out, key)
	return append(out, `"}}}}`...)
}

func (r *rekord) keys() *keySet {
	s := &keySet{}
	by := scheme{format: r.format}
	if r.format == sigkey.FormatX509 {
		by = bySHA256
	}
	s.addSigner(r.key, by)
	s.add(r.hash.searchKey())
	return s
}
