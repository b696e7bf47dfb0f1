package entry

import (
	"bytes"
	"crypto"
	"crypto/md5"
	_ "crypto/sha1"   // behind crypto.SHA1
	_ "crypto/sha512" // behind crypto.SHA384 and crypto.SHA512
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/sigstack/sigstack/tlog/entry/sigkey"
)

// rpm 0.0.1: an RPM package (version 4) that is sent along. Proposed:
//
//	spec.publicKey.content  base64 of a pgp key ring, armored or binary
//	spec.package.content    base64 of the package
//	spec.package.hash       optional {algorithm: "sha256", value}, must match
//
// Stored are the key ring, the package's SHA-256 in lower-case hex, and in
// spec.package.headers Name, Epoch ("0" if there is none), Version, Release,
// Architecture and, if the package has it, RPMSIGTAG_MD5 in lower-case hex.
//
// A package is a lead of 96 bytes, a signature header that is padded to a
// multiple of 8 bytes, a header and the payload (rpm's docs/manual/format_v4.md).
// Both headers are:
//
//	8e ad e8 01 and 4 reserved bytes
//	number of entries, size of the data: 4 bytes each, big-endian
//	entries of 16 bytes: tag, type, offset in the data, count
//	data
//
// Every signature that the signature header holds must verify, and at least
// one must cover the payload: directly, or by a digest in a header that is
// signed. The payload is hashed and not decompressed.
//
// The parser is ours because those that exist believe the sizes that a header
// states. It reads in place: what is not there cannot be pointed to, and no
// byte of the data belongs to two entries.

const rpmLead = 96

// Tags of the signature header, and of the header, and what they hold
// (rpm's docs/manual/tags.md).
const (
	rpmSigDSA    = 267  // OpenPGP signature over the header
	rpmSigRSA    = 268  // the same
	rpmSigSHA1   = 269  // SHA-1 of the header, in hex
	rpmSigSHA256 = 273  // SHA-256 of the header, in hex
	rpmSigPGP    = 1002 // OpenPGP signature over header and payload
	rpmSigMD5    = 1004 // MD5 of header and payload
	rpmSigGPG    = 1005 // as rpmSigPGP

	rpmName              = 1000
	rpmVersion           = 1001
	rpmRelease           = 1002
	rpmEpoch             = 1003
	rpmArch              = 1022
	rpmPayloadDigest     = 5092 // of the payload as it is there, in hex
	rpmPayloadDigestAlgo = 5093 // numbered as in OpenPGP
)

// Types of entries. The others are strings that end with a zero byte.
const (
	rpmTypeString      = 6
	rpmTypeBinary      = 7
	rpmTypeStringArray = 8
	rpmTypeI18NString  = 9
)

// rpmTypeSizes is the length of one value of each type that has a fixed one, in
// bytes.
var rpmTypeSizes = map[uint32]int{0: 0, 1: 1, 2: 1, 3: 2, 4: 4, 5: 8, rpmTypeBinary: 1}

// rpmDigests are the hash functions that rpmPayloadDigestAlgo names (RFC 9580,
// section 9.5).
var rpmDigests = map[uint64]crypto.Hash{
	1: crypto.MD5, 2: crypto.SHA1, 8: crypto.SHA256, 9: crypto.SHA384, 10: crypto.SHA512, 11: crypto.SHA224,
}

type rpm struct {
	*packageSpec
	key     sigkey.Key
	headers []rpmField // in the order of their names
}

type rpmField struct{ name, value string }

func readRPM(spec value) (*rpm, error) {
	p, err := readPackageSpec(spec)
	if err != nil {
		return nil, err
	}
	key, err := sigkey.ParseKey(sigkey.FormatPGP, p.key)
	if err != nil {
		return nil, err
	}
	return &rpm{packageSpec: p, key: key}, nil
}

func proposeRPM(spec value) ([]byte, *keySet, error) {
	r, err := readRPM(spec)
	if err != nil {
		return nil, nil, err
	}
	if err := r.proposed(); err != nil {
		return nil, nil, err
	}
	pkg, err := readRPMFile(r.content)
	if err != nil {
		return nil, nil, err
	}
	if err := pkg.verify(r.key); err != nil {
		return nil, nil, err
	}
	if r.headers, err = pkg.fields(); err != nil {
		return nil, nil, err
	}
	return r.body(), r.keys(), nil
}

func keysRPM(spec value) (*keySet, error) {
	r, err := readRPM(spec)
	if err != nil {
		return nil, err
	}
	if err := r.stored(); err != nil {
		return nil, err
	}
	return r.keys(), nil
}

func (r *rpm) body() []byte {
	key := r.key.Canonical()
	out := make([]byte, 0, 1024+base64.StdEncoding.EncodedLen(len(key)))
	out = appendHeader(out, "rpm", "0.0.1")
	out = append(out, `"package":{"hash":`...)
	out = appendDigest(out, r.hash)
	out = append(out, `,"headers":{`...)
	for i, f := range r.headers {
		if i > 0 {
			out = append(out, ',')
		}
		out = appendString(out, f.name)
		out = append(out, ':')
		out = appendString(out, f.value)
	}
	out = append(out, `}},"publicKey":{"content":"`...)
	out = base64.StdEncoding.AppendEncode(out, key)
	return append(out, `"}}}`...)
}

func (r *rpm) keys() *keySet {
	s := &keySet{}
	s.addSigner(r.key, scheme{format: sigkey.FormatPGP})
	s.add(r.hash.searchKey())
	return s
}

// An rpmFile is a package whose structure was checked, and no signature.
type rpmFile struct {
	sigs, header rpmHeader
	signed       []byte // header and payload
	payload      []byte
}

func readRPMFile(content []byte) (*rpmFile, error) {
	if len(content) < rpmLead || binary.BigEndian.Uint32(content) != 0xedabeedb {
		return nil, errors.New("file is not an RPM")
	}
	p := &rpmFile{}
	var err error
	var rest []byte
	if p.sigs, rest, err = readRPMHeader(content[rpmLead:]); err != nil {
		return nil, fmt.Errorf("signature header of the RPM: %w", err)
	}
	pad := -len(p.sigs.data) & 7
	if pad > len(rest) {
		return nil, errors.New("signature header of the RPM: it is cut short")
	}
	p.signed = rest[pad:]
	if p.header, p.payload, err = readRPMHeader(p.signed); err != nil {
		return nil, fmt.Errorf("header of the RPM: %w", err)
	}
	return p, nil
}

// verify checks the digests of the package, and every signature with key.
func (p *rpmFile) verify(key sigkey.Key) error {
	if err := p.checkHeaderDigest(); err != nil {
		return err
	}
	digestInHeader, err := p.checkPayloadDigest()
	if err != nil {
		return err
	}
	signatures, covered := 0, false
	for _, s := range []struct {
		tag   uint32
		over  []byte
		whole bool // covers the payload
	}{
		{rpmSigRSA, p.header.raw, digestInHeader},
		{rpmSigDSA, p.header.raw, digestInHeader},
		{rpmSigPGP, p.signed, true},
		{rpmSigGPG, p.signed, true},
	} {
		packet, ok, err := p.sigs.bytes(s.tag)
		if err != nil {
			return fmt.Errorf("signature of the RPM: %w", err)
		}
		if !ok {
			continue
		}
		sig, err := sigkey.ParsePGPPacket(packet)
		if err != nil {
			return fmt.Errorf("signature of the RPM: %w", err)
		}
		if err := key.Verify(s.over, sig); err != nil {
			return fmt.Errorf("verifying signature of the RPM: %w", err)
		}
		signatures++
		covered = covered || s.whole
	}
	switch {
	case signatures == 0:
		return errors.New("no supported PGP signature found in RPM")
	case !covered:
		return errors.New("no signature of the RPM covers its payload")
	}
	return nil
}

// checkHeaderDigest compares the header with its digest in the signature
// header: SHA-256, or else SHA-1, or else there is none.
func (p *rpmFile) checkHeaderDigest() error {
	h := crypto.SHA256
	want, ok := p.sigs.text(rpmSigSHA256)
	if !ok || want == "" {
		h = crypto.SHA1
		want, ok = p.sigs.text(rpmSigSHA1)
	}
	if ok && want != "" && hexDigest(h, p.header.raw) != want {
		return fmt.Errorf("the header of the RPM does not have the %s that the signature header states", h)
	}
	return nil
}

// checkPayloadDigest compares the payload with the digest of it that the
// package states, of which there must be one: in the header, or else the MD5 in
// the signature header, which no signature covers.
func (p *rpmFile) checkPayloadDigest() (inHeader bool, err error) {
	if want, ok := p.header.text(rpmPayloadDigest); ok {
		if algorithms, ok := p.header.numbers(rpmPayloadDigestAlgo); ok && len(algorithms) > 0 {
			if h, ok := rpmDigests[algorithms[0]]; ok {
				if hexDigest(h, p.payload) != want {
					return false, fmt.Errorf("the payload of the RPM does not have the %s that its header states", h)
				}
				return true, nil
			}
		}
	}
	want, _, err := p.sigs.bytes(rpmSigMD5)
	if err != nil || len(want) == 0 {
		return false, errors.New("no usable payload digest found")
	}
	if sum := md5.Sum(p.signed); !bytes.Equal(sum[:], want) {
		return false, errors.New("the RPM does not have the MD5 that its signature header states")
	}
	return false, nil
}

func hexDigest(h crypto.Hash, b []byte) string {
	w := h.New()
	w.Write(b)
	return hex.EncodeToString(w.Sum(nil))
}

// fields returns what an entry stores of the headers.
func (p *rpmFile) fields() ([]rpmField, error) {
	epoch := "0"
	if numbers, ok := p.header.numbers(rpmEpoch); ok && len(numbers) > 0 {
		epoch = strconv.FormatUint(numbers[0], 10)
	} else if !ok && p.header.has(rpmEpoch) {
		return nil, errors.New("header of the RPM: the epoch is not a number")
	}
	fields := []rpmField{{"Architecture", ""}, {"Epoch", epoch}, {"Name", ""}, {"Release", ""}, {"Version", ""}}
	for i, tag := range []uint32{rpmArch, 0, rpmName, rpmRelease, rpmVersion} {
		if tag == 0 {
			continue
		}
		text, ok := p.header.text(tag)
		if !ok {
			return nil, fmt.Errorf("header of the RPM: %s is missing", fields[i].name)
		}
		if !utf8.ValidString(text) {
			return nil, fmt.Errorf("header of the RPM: %s is not valid UTF-8", fields[i].name)
		}
		fields[i].value = text
	}
	if sum, _, err := p.sigs.bytes(rpmSigMD5); err == nil && len(sum) > 0 {
		fields = slices.Insert(fields, 3, rpmField{"RPMSIGTAG_MD5", hex.EncodeToString(sum)})
	}
	return fields, nil
}

// An rpmHeader is a header in place.
type rpmHeader struct {
	raw     []byte // all of it, without padding
	entries []byte // 16 bytes each
	data    []byte
}

// readRPMHeader reads the header that b begins with, and checks that each entry
// has its data, in a place of its own.
func readRPMHeader(b []byte) (h rpmHeader, rest []byte, err error) {
	const intro, size = 16, 16
	if len(b) < intro || binary.BigEndian.Uint32(b) != 0x8eade801 {
		return h, nil, errors.New("want the magic number 8eade801")
	}
	entries, data := uint64(binary.BigEndian.Uint32(b[8:]))*size, uint64(binary.BigEndian.Uint32(b[12:]))
	if uint64(len(b)-intro) < entries+data {
		return h, nil, errors.New("it is cut short")
	}
	end := intro + int(entries) + int(data)
	h = rpmHeader{raw: b[:end], entries: b[intro : intro+int(entries)], data: b[intro+int(entries) : end]}
	left := len(h.data)
	for e := range slices.Chunk(h.entries, size) {
		content, err := h.content(e, left)
		if err != nil {
			return h, nil, err
		}
		left -= len(content)
	}
	return h, b[end:], nil
}

// content returns the data of an entry, which may have so many bytes.
func (h rpmHeader) content(entry []byte, most int) ([]byte, error) {
	kind, offset, count := binary.BigEndian.Uint32(entry[4:]), binary.BigEndian.Uint32(entry[8:]), binary.BigEndian.Uint32(entry[12:])
	fail := func() ([]byte, error) {
		return nil, fmt.Errorf("the data of tag %d is not there, or overlaps other data", binary.BigEndian.Uint32(entry))
	}
	if uint64(offset) > uint64(len(h.data)) {
		return fail()
	}
	data := h.data[offset:]
	data = data[:min(most, len(data))]
	if size, ok := rpmTypeSizes[kind]; ok {
		if uint64(count)*uint64(size) > uint64(len(data)) {
			return fail()
		}
		return data[:int(count)*size], nil
	}
	end := 0
	for range count {
		n := bytes.IndexByte(data[end:], 0)
		if n < 0 {
			return fail()
		}
		end += n + 1
	}
	return data[:end], nil
}

// find returns the type and the data of a tag; the last entry of it counts.
func (h rpmHeader) find(tag uint32) (kind uint32, content []byte, ok bool) {
	for at := len(h.entries) - 16; at >= 0; at -= 16 {
		if entry := h.entries[at : at+16]; binary.BigEndian.Uint32(entry) == tag {
			content, err := h.content(entry, len(h.data))
			return binary.BigEndian.Uint32(entry[4:]), content, err == nil
		}
	}
	return 0, nil, false
}

func (h rpmHeader) has(tag uint32) bool {
	_, _, ok := h.find(tag)
	return ok
}

// text returns the first string of a tag that has strings.
func (h rpmHeader) text(tag uint32) (string, bool) {
	kind, content, ok := h.find(tag)
	if !ok || kind != rpmTypeString && kind != rpmTypeStringArray && kind != rpmTypeI18NString {
		return "", false
	}
	s, _, ok := bytes.Cut(content, []byte{0})
	return string(s), ok
}

// numbers returns the value of a tag that has numbers, or none, or the first
// of several.
func (h rpmHeader) numbers(tag uint32) ([]uint64, bool) {
	kind, content, ok := h.find(tag)
	if !ok || kind < 1 || kind > 5 {
		return nil, false
	}
	if len(content) == 0 {
		return nil, true
	}
	var n uint64
	for _, b := range content[:rpmTypeSizes[kind]] {
		n = n<<8 | uint64(b)
	}
	return []uint64{n}, true
}

// bytes returns the data of a tag; any type but binary is an error.
func (h rpmHeader) bytes(tag uint32) (content []byte, ok bool, err error) {
	kind, content, ok := h.find(tag)
	if ok && kind != rpmTypeBinary {
		return nil, false, fmt.Errorf("tag %d must be binary", tag)
	}
	return content, ok, nil
}
