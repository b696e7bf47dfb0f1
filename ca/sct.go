package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// maxSCT is the most bytes that an SCT may have: the fixed fields are 47 bytes,
// an RSA-4096 signature 512.
const maxSCT = 2048

// A logKey verifies SCTs of one CT log.
type logKey struct {
	key crypto.PublicKey
	id  [32]byte // SHA-256 of the SubjectPublicKeyInfo (RFC 6962, section 3.2)
}

// newLogKey refuses what clients refuse: RFC 6962, section 2.1.4 knows P-256 and
// RSA keys only.
func newLogKey(key crypto.PublicKey) (*logKey, error) {
	if _, isRSA := key.(*rsa.PublicKey); !isRSA && curveName(key) != "P-256" {
		return nil, fmt.Errorf("a log key of type %T cannot be used: clients verify ECDSA P-256 and RSA only", key)
	}
	if err := checkKey(key); err != nil {
		return nil, err
	}
	spki, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, err
	}
	return &logKey{key: key, id: sha256.Sum256(spki)}, nil
}

// An sctFields is a parsed SignedCertificateTimestamp (RFC 6962, section 3.2).
type sctFields struct {
	logID      [32]byte
	timestamp  uint64 // milliseconds since 1970
	extensions []byte
	hash, sig  uint8 // of DigitallySigned (RFC 5246, section 7.4.1.4.1)
	signature  []byte
}

// parseSCT reads the TLS encoding and refuses trailing bytes.
func parseSCT(der []byte) (*sctFields, error) {
	if len(der) > maxSCT {
		return nil, fmt.Errorf("%d bytes: at most %d are expected", len(der), maxSCT)
	}
	var f sctFields
	var version uint8
	var id []byte
	var extensions, signature cryptobyte.String
	s := cryptobyte.String(der)
	if !s.ReadUint8(&version) || !s.ReadBytes(&id, len(f.logID)) || !s.ReadUint64(&f.timestamp) ||
		!s.ReadUint16LengthPrefixed(&extensions) ||
		!s.ReadUint8(&f.hash) || !s.ReadUint8(&f.sig) || !s.ReadUint16LengthPrefixed(&signature) {
		return nil, errors.New("shorter than its fields say")
	}
	if !s.Empty() {
		return nil, fmt.Errorf("%d bytes follow the signature", len(s))
	}
	if version != 0 {
		return nil, fmt.Errorf("version %d: version 0 (v1) is needed", version)
	}
	if f.timestamp > math.MaxInt64 {
		return nil, errors.New("the time does not fit into 63 bits")
	}
	copy(f.logID[:], id)
	f.extensions, f.signature = extensions, signature
	return &f, nil
}

// A timestamp is what a verified SCT tells.
type timestamp struct {
	time     time.Time
	leafHash [32]byte // of the log entry that the SCT promises
}

// verifySCT checks that sct is this log's promise, made within five minutes of
// now, to include the precertificate with this TBSCertificate (poison included),
// issued by the chain's first certificate.
func (k *logKey) verifySCT(sct, precertTBS []byte, chain *Chain, now time.Time) (*timestamp, error) {
	f, err := parseSCT(sct)
	if err != nil {
		return nil, err
	}
	if f.logID != k.id {
		return nil, fmt.Errorf("log id %x: the log's key has %x", f.logID, k.id)
	}
	at := time.UnixMilli(int64(f.timestamp)).UTC() // #nosec G115 -- parseSCT bounds it
	if skew := at.Sub(now); skew > maxSCTSkew || skew < -maxSCTSkew {
		return nil, fmt.Errorf("time %s: more than %v away from ours, which is %s", at.Format(time.RFC3339), maxSCTSkew, now.UTC().Format(time.RFC3339))
	}
	pre, err := split(precertTBS)
	if err != nil {
		return nil, err
	}
	tbs, _, err := pre.without(oidPoison())
	if err != nil {
		return nil, err
	}
	entry, err := timestampedEntry(f, chain.certs[0], tbs)
	if err != nil {
		return nil, err
	}
	// digitally-signed struct: version v1, signature_type certificate_timestamp,
	// then what a MerkleTreeLeaf holds after its version and leaf_type, both zero.
	message := append([]byte{0, 0}, entry...)
	if err := k.verify(f, message); err != nil {
		return nil, err
	}
	// RFC 6962, section 2.1: a leaf is hashed with a leading zero byte.
	return &timestamp{time: at, leafHash: sha256.Sum256(append([]byte{0}, message...))}, nil
}

// timestampedEntry is the TimestampedEntry of a precertificate (RFC 6962,
// section 3.4), whose TBSCertificate has no poison.
func timestampedEntry(f *sctFields, issuer *x509.Certificate, tbs []byte) ([]byte, error) {
	issuerKeyHash := sha256.Sum256(issuer.RawSubjectPublicKeyInfo)
	var b cryptobyte.Builder
	b.AddUint64(f.timestamp)
	b.AddUint16(1) // precert_entry
	b.AddBytes(issuerKeyHash[:])
	b.AddUint24LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(tbs) })
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(f.extensions) })
	return b.Bytes()
}

func (k *logKey) verify(f *sctFields, message []byte) error {
	const sha256ID, rsaID, ecdsaID = 4, 1, 3 // RFC 5246, section 7.4.1.4.1
	if f.hash != sha256ID {
		return fmt.Errorf("hash algorithm %d: %d (SHA-256) is needed", f.hash, sha256ID)
	}
	digest := sha256.Sum256(message)
	wanted, valid := uint8(ecdsaID), false
	switch key := k.key.(type) {
	case *ecdsa.PublicKey:
		valid = ecdsa.VerifyASN1(key, digest[:], f.signature)
	case *rsa.PublicKey:
		wanted, valid = rsaID, rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], f.signature) == nil
	}
	if f.sig != wanted {
		return fmt.Errorf("signature algorithm %d: the log's key needs %d", f.sig, wanted)
	}
	if !valid {
		return errors.New("the signature does not verify by the log's key")
	}
	return nil
}

// sctList is the extension that carries SCTs (RFC 6962, section 3.3): an octet
// string that holds a TLS list, here of one.
func sctList(sct []byte) (pkix.Extension, error) {
	var b cryptobyte.Builder
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
		b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(sct) })
	})
	list, err := b.Bytes()
	if err != nil {
		return pkix.Extension{}, err
	}
	value, err := octetString(list)
	return pkix.Extension{Id: oidSCTList(), Value: value}, err
}

// parseSCTList is its inverse for a list of any length.
func parseSCTList(value []byte) ([][]byte, error) {
	der, octets, list := cryptobyte.String(value), cryptobyte.String(nil), cryptobyte.String(nil)
	if !der.ReadASN1(&octets, cbasn1.OCTET_STRING) || !der.Empty() ||
		!octets.ReadUint16LengthPrefixed(&list) || !octets.Empty() {
		return nil, errors.New("not one octet string with one list")
	}
	var scts [][]byte
	for !list.Empty() {
		var sct cryptobyte.String
		if !list.ReadUint16LengthPrefixed(&sct) {
			return nil, errors.New("an SCT is shorter than its length says")
		}
		scts = append(scts, sct)
	}
	return scts, nil
}
