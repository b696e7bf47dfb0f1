package entry

import (
	"encoding/base64"
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/sigstack/sigstack/tlog/entry/sigkey"
)

// rfc3161 0.0.1: a timestamp (RFC 3161). Proposed and stored form are the same:
//
//	spec.tsr.content  base64 of a TimeStampResp in DER (section 2.4.2), at most 10 KiB
//
// The response must be granted and its token signed by a certificate in it.
// Whether that certificate belongs to an authority that anybody trusts, and
// what was timestamped, is not looked at.

// maxTimestamp is the largest response in bytes.
const maxTimestamp = 10 << 10

func readTimestamp(spec value) ([]byte, error) {
	m, err := spec.members("tsr")
	if err != nil {
		return nil, err
	}
	tsr, err := requiredMembers(m[0], "tsr", "content")
	if err != nil {
		return nil, err
	}
	der, err := requiredBytes(tsr[0], "tsr.content")
	if err != nil {
		return nil, err
	}
	if len(der) > maxTimestamp {
		return nil, errors.New("tsr exceeds maximum allowed size (10kB)")
	}
	return der, nil
}

func proposeTimestamp(spec value) ([]byte, *keySet, error) {
	der, err := readTimestamp(spec)
	if err != nil {
		return nil, nil, err
	}
	signer, err := verifyTimestamp(der)
	if err != nil {
		return nil, nil, err
	}
	keys := timestampKeys(der)
	keys.signers = []Signer{signer}
	out := appendHeader(make([]byte, 0, 128+base64.StdEncoding.EncodedLen(len(der))), "rfc3161", "0.0.1")
	out = append(out, `"tsr":{"content":"`...)
	out = base64.StdEncoding.AppendEncode(out, der)
	return append(out, `"}}}`...), keys, nil
}

func keysTimestamp(spec value) (*keySet, error) {
	der, err := readTimestamp(spec)
	if err != nil {
		return nil, err
	}
	return timestampKeys(der), nil
}

func timestampKeys(der []byte) *keySet {
	s := &keySet{}
	s.add(sha256Digest(der).searchKey())
	return s
}

// verifyTimestamp verifies a TimeStampResp and returns who signed it:
//
//	SEQUENCE { status SEQUENCE { INTEGER, ... }, timeStampToken OPTIONAL }
func verifyTimestamp(der []byte) (Signer, error) {
	in := cryptobyte.String(der)
	var response, info, token cryptobyte.String
	var status int64
	if !in.ReadASN1(&response, cbasn1.SEQUENCE) || !response.ReadASN1(&info, cbasn1.SEQUENCE) || !info.ReadASN1Integer(&status) {
		return Signer{}, errors.New("tsr is not a TimeStampResp in DER (RFC 3161, section 2.4.2)")
	}
	if !in.Empty() {
		return Signer{}, fmt.Errorf("tsr has %d bytes after its end", len(in))
	}
	if status != 0 && status != 1 { // granted, grantedWithMods
		return Signer{}, fmt.Errorf("tsr status not granted: %d", status)
	}
	if response.Empty() {
		return Signer{}, errors.New("tsr has no token")
	}
	if !response.ReadASN1Element(&token, cbasn1.SEQUENCE) || !response.Empty() {
		return Signer{}, errors.New("tsr is not a TimeStampResp in DER (RFC 3161, section 2.4.2)")
	}
	p, err := sigkey.ParsePKCS7(token)
	if err != nil {
		return Signer{}, fmt.Errorf("tsr: %w", err)
	}
	if !p.IsTimestamp() {
		return Signer{}, errors.New("tsr: what is signed is not a TSTInfo")
	}
	if err := p.Verify(nil); err != nil {
		return Signer{}, fmt.Errorf("tsr verification error: %w", err)
	}
	return pkcs7Signer(p)
}
