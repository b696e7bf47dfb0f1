package fsck

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
)

// ctLeaf is a MerkleTreeLeaf (RFC 6962, section 3.4).
type ctLeaf struct {
	timestamp     uint64 // ms since 1970 UTC
	precert       bool
	issuerKeyHash []byte // 32 bytes, of a precertificate
	signed        []byte // DER certificate, or TBSCertificate without poison
}

// parseLeaf reads a MerkleTreeLeaf of version 1 without extensions.
func parseLeaf(b []byte) (ctLeaf, error) {
	if len(b) < 12 {
		return ctLeaf{}, fmt.Errorf("its MerkleTreeLeaf has %d bytes and is cut short", len(b))
	}
	if b[0] != 0 || b[1] != 0 {
		return ctLeaf{}, fmt.Errorf("its MerkleTreeLeaf has version %d and type %d, want 0 and 0", b[0], b[1])
	}
	l := ctLeaf{timestamp: binary.BigEndian.Uint64(b[2:])}
	kind, rest := binary.BigEndian.Uint16(b[10:]), b[12:]
	switch {
	case kind == 1 && len(rest) >= 32:
		l.precert, l.issuerKeyHash, rest = true, rest[:32], rest[32:]
	case kind != 0:
		return ctLeaf{}, fmt.Errorf("its entry type is %d, or it is cut short", kind)
	}
	var ok bool
	if l.signed, rest, ok = cut24(rest); !ok || len(l.signed) == 0 || !bytes.Equal(rest, []byte{0, 0}) {
		return ctLeaf{}, errors.New("its MerkleTreeLeaf is cut short, has extensions or something behind it")
	}
	return l, nil
}

// cut24 takes a string with three bytes of length before it off b.
func cut24(b []byte) (s, rest []byte, ok bool) {
	if len(b) < 3 {
		return nil, nil, false
	}
	n := int(b[0])<<16 | int(b[1])<<8 | int(b[2])
	if b = b[3:]; len(b) < n {
		return nil, nil, false
	}
	return b[:n], b[n:], true
}

// maxChain bounds the certificates of a chain.
const maxChain = 100

// parseExtra reads extra_data (RFC 6962, section 4.6).
func parseExtra(b []byte, precert bool) (pre []byte, chain [][]byte, err error) {
	bad := errors.New("its extra_data is not a chain of certificates with lengths before them")
	ok := true
	if precert {
		if pre, b, ok = cut24(b); !ok {
			return nil, nil, bad
		}
	}
	list, rest, ok := cut24(b)
	if !ok || len(rest) > 0 {
		return nil, nil, bad
	}
	for len(list) > 0 {
		var cert []byte
		if cert, list, ok = cut24(list); !ok || len(chain) == maxChain {
			return nil, nil, bad
		}
		chain = append(chain, cert)
	}
	return pre, chain, nil
}

// checkCert says what is wrong with an entry of a CT log: its certificate must
// be signed by its chain, and the TBSCertificate of a precertificate must be
// that of the precertificate in extra_data without poison, under the hash of
// the key that signed it.
func checkCert(leaf ctLeaf, extra []byte, known *links) (problems []string) {
	bad := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	der, ders, err := parseExtra(extra, leaf.precert)
	if err != nil {
		return []string{err.Error()}
	}
	if !leaf.precert {
		der = leaf.signed
	}
	path := make([]*x509.Certificate, 0, 1+len(ders))
	for i, d := range append([][]byte{der}, ders...) {
		if crowded(d) {
			bad("certificate %d of its chain has more elements than a certificate of %d bytes", i, len(d))
			return problems
		}
		cert, err := x509.ParseCertificate(d)
		if err != nil {
			bad("certificate %d of its chain does not parse: %v", i, err)
			return problems
		}
		path = append(path, cert)
	}
	poisoned := bytes.Contains(path[0].RawTBSCertificate, poison())
	if leaf.precert {
		tbs, err := withoutPoison(path[0].RawTBSCertificate)
		switch {
		case err != nil:
			bad("the precertificate in its extra_data: %v", err)
		case !bytes.Equal(tbs, leaf.signed):
			bad("its TBSCertificate is not that of the precertificate in its extra_data without poison")
		}
		if len(path) < 2 {
			bad("its extra_data does not have the certificate that signed the precertificate")
		} else if h := sha256.Sum256(path[1].RawSubjectPublicKeyInfo); !bytes.Equal(h[:], leaf.issuerKeyHash) {
			bad("its issuer key hash is %x, but the issuer in its extra_data has %x", leaf.issuerKeyHash, h)
		}
	} else if poisoned {
		bad("it is a precertificate that was logged as a certificate")
	}
	last := len(path) - 1
	for i := range path {
		if err := known.check(path[i], path[min(i+1, last)], i > 0); err != nil {
			bad("certificate %d of its chain was not signed by certificate %d: %v", i, min(i+1, last), err)
		}
	}
	return problems
}

// crowded says whether DER has more elements than a log takes: 300, and one
// for 16 bytes. crypto/x509 makes many times its length of a name of many
// attributes, and a server that is checked may have written anything.
func crowded(der []byte) bool {
	n := 0
	for i := 0; i+1 < len(der); n++ {
		tag, size := der[i], int(der[i+1])
		i += 2
		if size >= 0x80 { // the length has more bytes
			digits := size - 0x80
			if digits > 3 || i+digits > len(der) {
				break
			}
			size = 0
			for _, b := range der[i : i+digits] {
				size = size<<8 | int(b)
			}
			i += digits
		}
		if tag&0x20 == 0 { // of a constructed one, the elements come next
			i += size
		}
	}
	return n > 300+len(der)/16
}

// links remembers which issuer certificates were found to be signed by which.
type links struct {
	mu    sync.Mutex
	known map[[32]byte]bool
}

const maxLinks = 1024

// check verifies that parent signed child, with names that match. The last
// certificate of a chain is its own parent.
func (k *links) check(child, parent *x509.Certificate, issuer bool) error {
	if !bytes.Equal(child.RawIssuer, parent.RawSubject) {
		return fmt.Errorf("its issuer is %.200q, not %.200q", shown(child.RawIssuer, child.Issuer), shown(parent.RawSubject, parent.Subject))
	}
	if !issuer {
		return child.CheckSignatureFrom(parent)
	}
	h := sha256.New()
	h.Write(child.Raw)
	h.Write(parent.Raw)
	id := [32]byte(h.Sum(nil))
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.known[id] {
		return nil
	}
	if err := child.CheckSignatureFrom(parent); err != nil {
		return err
	}
	if k.known == nil || len(k.known) == maxLinks {
		k.known = make(map[[32]byte]bool)
	}
	k.known[id] = true
	return nil
}

// shown is a name for a report. crypto/x509 writes one in time and memory that
// grow with the square of its attributes, so a long one is not written.
func shown(der []byte, name pkix.Name) string {
	if len(der) > 1024 {
		return fmt.Sprintf("a name of %d bytes", len(der))
	}
	return name.String()
}

// poison returns the one encoding of the poison extension (RFC 6962, section
// 3.1): 1.3.6.1.4.1.11129.2.4.3, critical, an ASN.1 NULL.
func poison() []byte {
	return []byte{0x30, 0x13, 0x06, 0x0a, 0x2b, 0x06, 0x01, 0x04, 0x01, 0xd6, 0x79, 0x02, 0x04, 0x03, 0x01, 0x01, 0xff, 0x04, 0x02, 0x05, 0x00}
}

// withoutPoison takes the poison extension out of a TBSCertificate.
func withoutPoison(tbs []byte) ([]byte, error) {
	fields, err := elements(tbs, 0x30)
	if err != nil || len(fields) == 0 {
		return nil, errors.New("its TBSCertificate does not parse")
	}
	last := len(fields) - 1
	list, err := elements(fields[last], 0xa3)
	if err != nil || len(list) != 1 {
		return nil, errors.New("its TBSCertificate does not end with extensions")
	}
	extensions, err := elements(list[0], 0x30)
	if err != nil {
		return nil, errors.New("its extensions do not parse")
	}
	var kept []byte
	for _, ext := range extensions {
		if !bytes.Equal(ext, poison()) {
			kept = append(kept, ext...)
		}
	}
	if len(bytes.Join(extensions, nil))-len(kept) != len(poison()) {
		return nil, errors.New("it does not have exactly one poison extension")
	}
	out := bytes.Join(fields[:last], nil)
	if len(kept) > 0 {
		out = append(out, wrap(0xa3, wrap(0x30, kept))...)
	}
	return wrap(0x30, out), nil
}

// elements returns the DER elements inside a constructed one with a given tag byte.
func elements(der []byte, tag byte) ([][]byte, error) {
	var outer asn1.RawValue
	if rest, err := asn1.Unmarshal(der, &outer); err != nil || len(rest) > 0 || der[0] != tag {
		return nil, errors.New("not the element that was expected")
	}
	var out [][]byte
	for rest := outer.Bytes; len(rest) > 0; {
		var v asn1.RawValue
		var err error
		if rest, err = asn1.Unmarshal(rest, &v); err != nil {
			return nil, err
		}
		out = append(out, v.FullBytes)
	}
	return out, nil
}

// wrap puts a tag byte and a DER length before content of less than 2^24 bytes.
func wrap(tag byte, content []byte) []byte {
	var head []byte
	switch n := len(content); {
	case n < 1<<7:
		head = []byte{tag, byte(n)}
	case n < 1<<8:
		head = []byte{tag, 0x81, byte(n)}
	case n < 1<<16:
		head = []byte{tag, 0x82, byte(n >> 8), byte(n)}
	default:
		head = []byte{tag, 0x83, byte(n >> 16), byte(n >> 8), byte(n)}
	}
	return append(head, content...)
}

// verifySigned checks a DigitallySigned (RFC 5246, section 4.7) over a message,
// with SHA-256 (4) and ECDSA (3).
func verifySigned(key *ecdsa.PublicKey, message, signed []byte) bool {
	digest := sha256.Sum256(message)
	return len(signed) > 4 && signed[0] == 4 && signed[1] == 3 &&
		int(binary.BigEndian.Uint16(signed[2:])) == len(signed)-4 &&
		ecdsa.VerifyASN1(key, digest[:], signed[4:])
}
