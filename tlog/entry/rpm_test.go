package entry

import (
	"bytes"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"github.com/sigstack/sigstack/test/fuzz"
)

var pgpConfig = &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA, Time: func() time.Time { return time.Unix(1_600_000_000, 0) }}

func pgpEntity(t testing.TB, email string) (e *openpgp.Entity, ring []byte) {
	t.Helper()
	e, err := openpgp.NewEntity("Test", "", email, pgpConfig)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := e.Serialize(&out); err != nil {
		t.Fatal(err)
	}
	return e, out.Bytes()
}

func pgpSign(t testing.TB, e *openpgp.Entity, message []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := openpgp.DetachSign(&out, e, bytes.NewReader(message), pgpConfig); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// An rpmTag is an entry of a header. Its count is the number of zero bytes in
// the data of strings, and else the number of values.
type rpmTag struct {
	tag, kind uint32
	data      []byte
}

func rpmText(tag uint32, s string) rpmTag { return rpmTag{tag, rpmTypeString, []byte(s + "\x00")} }

func rpmHeaderOf(tags ...rpmTag) []byte {
	var entries, data []byte
	for _, e := range tags {
		count := bytes.Count(e.data, []byte{0})
		if size, ok := rpmTypeSizes[e.kind]; ok && size > 0 {
			for len(data)%size > 0 {
				data = append(data, 0)
			}
			count = len(e.data) / size
		}
		for _, n := range []uint32{e.tag, e.kind, uint32(len(data)), uint32(count)} {
			entries = binary.BigEndian.AppendUint32(entries, n)
		}
		data = append(data, e.data...)
	}
	out := binary.BigEndian.AppendUint64(nil, 0x8eade801<<32)
	out = binary.BigEndian.AppendUint32(out, uint32(len(entries)/16))
	out = binary.BigEndian.AppendUint32(out, uint32(len(data)))
	return slices.Concat(out, entries, data)
}

// rpmOf joins a lead, the signature header, padded, and what it is for.
func rpmOf(sigs []byte, rest ...[]byte) []byte {
	lead := make([]byte, rpmLead)
	binary.BigEndian.PutUint32(lead, 0xedabeedb)
	for len(sigs)%8 > 0 {
		sigs = append(sigs, 0)
	}
	return slices.Concat(lead, sigs, slices.Concat(rest...))
}

// nevra is the header of a package with more tags behind it.
func nevra(more ...rpmTag) []byte {
	return rpmHeaderOf(append([]rpmTag{
		rpmText(rpmName, "test"), rpmText(rpmVersion, "1.0~rc1"), rpmText(rpmRelease, "2.fc40"), rpmText(rpmArch, "x86_64"),
	}, more...)...)
}

func digestTags(payload []byte) []rpmTag {
	return []rpmTag{
		{rpmPayloadDigest, rpmTypeStringArray, fmt.Appendf(nil, "%x\x00", sha256.Sum256(payload))},
		{rpmPayloadDigestAlgo, 4, []byte{0, 0, 0, 8}},
	}
}

func TestRPM(t *testing.T) {
	e, key := pgpEntity(t, "rpm@example.com")
	other, otherKey := pgpEntity(t, "other@example.com")
	payload := gzipOf([]byte("the files"))
	md := func(b ...[]byte) []byte { sum := md5.Sum(slices.Concat(b...)); return sum[:] }
	header := nevra(digestTags(payload)...)
	old := nevra() // without a digest of the payload
	sigHeader := func(tag uint32) rpmTag { return rpmTag{tag, rpmTypeBinary, pgpSign(t, e, header)} }
	sigWhole := func(tag uint32, header []byte) rpmTag {
		return rpmTag{tag, rpmTypeBinary, pgpSign(t, e, slices.Concat(header, payload))}
	}
	// of returns a package that is signed as modern ones are.
	of := func(header []byte) []byte {
		return rpmOf(rpmHeaderOf(rpmTag{rpmSigRSA, rpmTypeBinary, pgpSign(t, e, header)}), header, payload)
	}
	good := of(header)
	with := func(sigs ...rpmTag) []byte { return rpmOf(rpmHeaderOf(sigs...), header, payload) }
	withOld := func(sigs ...rpmTag) []byte { return rpmOf(rpmHeaderOf(sigs...), old, payload) }
	digest := func(algorithm byte, sum string) []byte {
		return of(nevra(rpmText(rpmPayloadDigest, sum), rpmTag{rpmPayloadDigestAlgo, 4, []byte{0, 0, 0, algorithm}}))
	}
	hex := func(b []byte) string { return fmt.Sprintf("%x", b) }
	sum1, sum384, sum512, sum224 := sha1.Sum(payload), sha512.Sum384(payload), sha512.Sum512(payload), sha256.Sum224(payload)
	head1, head256 := sha1.Sum(header), sha256.Sum256(header)
	sig := sigHeader(rpmSigRSA)
	flipped := func(b []byte, at int) []byte {
		b = slices.Clone(b)
		b[at] ^= 1
		return b
	}
	// at returns the good package with a number of its signature header changed.
	at := func(offset int, n uint32) []byte {
		b := slices.Clone(good)
		binary.BigEndian.PutUint32(b[rpmLead+offset:], n)
		return b
	}
	text := func(tag uint32, data string) rpmTag { return rpmTag{tag, rpmTypeString, []byte(data)} }
	request := func(content []byte) []byte { return packageRequest(t, "rpm", key, content) }
	const notThere = "the data of tag 268 is not there, or overlaps other data"
	checkVerdicts(t, append(specVerdicts(t, "rpm", key, good), []verdict{
		{"signed by DSA's tag", request(with(sigHeader(rpmSigDSA))), ""},
		{"header and payload signed", request(with(sigWhole(rpmSigPGP, header))), ""},
		{"header and payload signed, GPG's tag", request(with(sigWhole(rpmSigGPG, header))), ""},
		{"all signatures", request(with(sigHeader(rpmSigDSA), sig, sigWhole(rpmSigPGP, header), sigWhole(rpmSigGPG, header))), ""},
		{"old, header and payload signed", request(withOld(sigWhole(rpmSigPGP, old), rpmTag{rpmSigMD5, rpmTypeBinary, md(old, payload)})), ""},
		{"its digests", request(with(sig, rpmText(rpmSigSHA1, hex(head1[:])), rpmText(rpmSigSHA256, hex(head256[:])))), ""},
		{"SHA-1 alone", request(with(sig, rpmText(rpmSigSHA1, hex(head1[:])))), ""},
		{"SHA-256 counts", request(with(sig, rpmText(rpmSigSHA1, "x"), rpmText(rpmSigSHA256, hex(head256[:])))), ""},
		{"the last of two tags counts", request(with(rpmTag{rpmSigRSA, rpmTypeBinary, []byte("x")}, sig)), ""},
		{"MD5 of the payload", request(digest(1, hex(md(payload)))), ""},
		{"SHA-1 of the payload", request(digest(2, hex(sum1[:]))), ""},
		{"SHA-384 of the payload", request(digest(9, hex(sum384[:]))), ""},
		{"SHA-512 of the payload", request(digest(10, hex(sum512[:]))), ""},
		{"SHA-224 of the payload", request(digest(11, hex(sum224[:]))), ""},
		{"an epoch", request(of(nevra(append(digestTags(payload), rpmTag{rpmEpoch, 4, []byte{0, 0, 0, 7}})...))), ""},
		{"no payload", request(rpmOf(rpmHeaderOf(rpmTag{rpmSigPGP, rpmTypeBinary, pgpSign(t, e, nevra(digestTags(nil)...))}), nevra(digestTags(nil)...))), ""},

		{"another key", packageRequest(t, "rpm", otherKey, good), "verifying signature of the RPM: openpgp: signature made by unknown entity"},
		{"a key that is none", packageRequest(t, "rpm", []byte("x"), good), "not OpenPGP data: a packet must begin with the high bit set"},
		{"one signature of two is another's", request(with(sig, rpmTag{rpmSigPGP, rpmTypeBinary, pgpSign(t, other, slices.Concat(header, payload))})),
			"verifying signature of the RPM: openpgp: signature made by unknown entity"},
		{"a signature over something else", request(with(rpmTag{rpmSigRSA, rpmTypeBinary, pgpSign(t, e, payload)})),
			"verifying signature of the RPM: openpgp: invalid signature: EdDSA verification failure"},
		{"a signature of the whole over the header", request(with(rpmTag{rpmSigPGP, rpmTypeBinary, pgpSign(t, e, header)})),
			"verifying signature of the RPM: openpgp: invalid signature: EdDSA verification failure"},
		{"two packets", request(with(rpmTag{rpmSigRSA, rpmTypeBinary, slices.Repeat(sig.data, 2)})), "signature of the RPM: invalid PGP signature: 2 packets, want one"},
		{"an armored signature", request(with(rpmTag{rpmSigRSA, rpmTypeBinary, []byte("-----BEGIN PGP SIGNATURE-----\n")})),
			"signature of the RPM: invalid PGP signature: want a packet, which begins with the high bit set"},
		{"an empty signature", request(with(rpmTag{rpmSigRSA, rpmTypeBinary, nil})), "signature of the RPM: valid PGP signature was not detected"},
		{"a signature as text", request(with(rpmText(rpmSigRSA, "x"))), "signature of the RPM: tag 268 must be binary"},
		{"no signature", request(with(rpmText(rpmSigSHA256, hex(head256[:])))), "no supported PGP signature found in RPM"},
		{"no signature over the payload", request(withOld(rpmTag{rpmSigRSA, rpmTypeBinary, pgpSign(t, e, old)}, rpmTag{rpmSigMD5, rpmTypeBinary, md(old, payload)})),
			"no signature of the RPM covers its payload"},
		{"no digest", request(withOld(sigWhole(rpmSigPGP, old))), "no usable payload digest found"},
		{"MD5 as text", request(withOld(sigWhole(rpmSigPGP, old), rpmText(rpmSigMD5, "x"))), "no usable payload digest found"},
		{"a digest of an unknown algorithm", request(digest(99, "x")), "no usable payload digest found"},
		{"another MD5", request(withOld(sigWhole(rpmSigPGP, old), rpmTag{rpmSigMD5, rpmTypeBinary, md(payload)})), "the RPM does not have the MD5 that its signature header states"},
		{"another payload", request(append(slices.Clone(good), 'x')), "the payload of the RPM does not have the SHA-256 that its header states"},
		{"another SHA-256 of the header", request(with(sig, rpmText(rpmSigSHA256, hex(head256[1:])))), "the header of the RPM does not have the SHA-256 that the signature header states"},
		{"another SHA-1 of the header", request(with(sig, rpmText(rpmSigSHA1, hex(head1[1:])))), "the header of the RPM does not have the SHA-1 that the signature header states"},
		{"another header", request(flipped(good, bytes.Index(good, []byte("1.0~rc1")))), "verifying signature of the RPM: openpgp: invalid signature: EdDSA verification failure"},

		{"no RPM", request([]byte("hello")), "file is not an RPM"},
		{"a short lead", request(good[:95]), "file is not an RPM"},
		{"another magic number", request(flipped(good, 0)), "file is not an RPM"},
		{"a lead alone", request(good[:96]), "signature header of the RPM: want the magic number 8eade801"},
		{"another version of the header", request(flipped(good, 99)), "signature header of the RPM: want the magic number 8eade801"},
		{"the signature header alone", request(good[:bytes.Index(good, header)]), "header of the RPM: want the magic number 8eade801"},
		{"a signature header that is cut", request(good[:rpmLead+20]), "signature header of the RPM: it is cut short"},
		{"no padding", request(slices.Concat(good[:rpmLead], rpmHeaderOf(rpmTag{rpmSigRSA, rpmTypeBinary, []byte("x")}))), "signature header of the RPM: it is cut short"},
		{"4,294,967,295 entries", request(at(8, 1<<32-1)), "signature header of the RPM: it is cut short"},
		{"4,294,967,295 bytes", request(at(12, 1<<32-1)), "signature header of the RPM: it is cut short"},
		{"offset 4,294,967,295", request(at(24, 1<<32-1)), "signature header of the RPM: " + notThere},
		{"an offset beyond the data", request(at(24, 1)), "signature header of the RPM: " + notThere},
		{"count 4,294,967,295", request(at(28, 1<<32-1)), "signature header of the RPM: " + notThere},
		{"4,294,967,295 strings", request(slices.Concat(at(20, 9)[:rpmLead+28], []byte{255, 255, 255, 255}, good[rpmLead+32:])), "signature header of the RPM: " + notThere},
		{"data of two entries", request(slices.Concat(good[:rpmLead+8], []byte{0, 0, 0, 2}, good[rpmLead+12:rpmLead+32], good[rpmLead+16:])), "signature header of the RPM: " + notThere},
		{"a type that nobody knows", request(of(nevra(append(digestTags(payload), rpmTag{9999, 77, []byte("\x00x")}, rpmTag{9998, rpmTypeBinary, []byte{1}})...))), ""},
		{"no name", request(of(rpmHeaderOf(append(digestTags(payload), rpmText(rpmVersion, "1"), rpmText(rpmRelease, "1"), rpmText(rpmArch, "x"))...))), "header of the RPM: Name is missing"},
		{"no architecture", request(of(rpmHeaderOf(append(digestTags(payload), rpmText(rpmName, "1"))...))), "header of the RPM: Architecture is missing"},
		{"a version that is binary", request(of(nevra(append(digestTags(payload), rpmTag{rpmVersion, rpmTypeBinary, []byte("1\x00")})...))), "header of the RPM: Version is missing"},
		{"no release in it", request(of(nevra(append(digestTags(payload), rpmTag{rpmRelease, rpmTypeStringArray, nil})...))), "header of the RPM: Release is missing"},
		{"a name that is no text", request(of(nevra(append(digestTags(payload), text(rpmName, "\xff\x00"))...))), "header of the RPM: Name is not valid UTF-8"},
		{"an epoch that is text", request(of(nevra(append(digestTags(payload), rpmText(rpmEpoch, "1"))...))), "header of the RPM: the epoch is not a number"},
	}...))

	stored := func(content []byte) (*Entry, map[string]string) {
		e, err := Propose(request(content))
		if err != nil {
			t.Fatal(err)
		}
		var body struct {
			Spec struct {
				Package struct{ Headers map[string]string }
			}
		}
		if err := json.Unmarshal(e.Body, &body); err != nil {
			t.Fatal(err)
		}
		return e, body.Spec.Package.Headers
	}
	entry, headers := stored(good)
	want := map[string]string{"Name": "test", "Epoch": "0", "Version": "1.0~rc1", "Release": "2.fc40", "Architecture": "x86_64"}
	if !maps.Equal(headers, want) {
		t.Errorf("headers %q, want %q", headers, want)
	}
	if !slices.Contains(entry.Keys, "rpm@example.com") {
		t.Errorf("keys %q", entry.Keys)
	}
	checkStored(t, "rpm", key, entry, "package.hash in body is required")
	want["RPMSIGTAG_MD5"] = "00ff"
	if _, headers = stored(with(sig, rpmTag{rpmSigMD5, rpmTypeBinary, []byte{0, 255}})); !maps.Equal(headers, want) {
		t.Errorf("headers %q, want %q", headers, want)
	}
	delete(want, "RPMSIGTAG_MD5")
	for _, c := range []struct {
		kind  uint32
		data  []byte
		epoch string
	}{
		{1, []byte{200}, "200"}, {2, []byte{7, 8}, "7"}, {3, []byte{1, 0}, "256"}, {4, []byte{255, 255, 255, 255}, "4294967295"},
		{5, bytes.Repeat([]byte{255}, 8), "18446744073709551615"}, {4, nil, "0"},
	} {
		want["Epoch"] = c.epoch
		if _, headers = stored(of(nevra(append(digestTags(payload), rpmTag{rpmEpoch, c.kind, c.data})...))); !maps.Equal(headers, want) {
			t.Errorf("headers %q, want %q", headers, want)
		}
	}
	// What a package says of itself may be any text.
	odd := nevra(append(digestTags(payload), rpmText(rpmName, "a\"\\\n\x01<\u2028\U0001f600"), rpmTag{rpmArch, rpmTypeStringArray, []byte("b\x00c\x00")})...)
	want["Name"], want["Architecture"], want["Epoch"] = "a\"\\\n\x01<\u2028\U0001f600", "b", "0"
	if _, headers = stored(of(odd)); !maps.Equal(headers, want) {
		t.Errorf("headers %q, want %q", headers, want)
	}
	checkCanonical(t, request(of(odd)))
}

func TestRPMBombs(t *testing.T) {
	e, ring := pgpEntity(t, "rpm@example.com")
	of := func(header, payload []byte) []byte {
		sig := rpmTag{rpmSigRSA, rpmTypeBinary, pgpSign(t, e, header)}
		return packageRequest(t, "rpm", ring, rpmOf(rpmHeaderOf(sig), header, payload))
	}
	// entries returns a header that has one entry many times.
	entries := func(n int, entry, data []byte) []byte {
		out := binary.BigEndian.AppendUint64(nil, 0x8eade801<<32)
		out = binary.BigEndian.AppendUint32(out, uint32(n))
		out = binary.BigEndian.AppendUint32(out, uint32(len(data)))
		return slices.Concat(out, bytes.Repeat(entry, n), data)
	}
	zeros := gzipOf(make([]byte, 64*mega))
	manyStrings := []byte{0, 0, 0, 1, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0x0f, 0xff, 0xff} // a million, at offset 0
	checkBombs(t, []bomb{
		{verdict{"payload 1000:1", of(nevra(digestTags(zeros)...), zeros), ""}, 0},
		{verdict{"entries", of(entries(200_000, make([]byte, 16), nil), nil), "no usable payload digest found"}, 0},
		{verdict{"entries that share strings", of(entries(200_000, manyStrings, make([]byte, mega)), nil),
			"header of the RPM: the data of tag 1 is not there, or overlaps other data"}, 0},
	})
}

// Each bit of a package is signed, or says nothing: no change of one byte is
// accepted with other headers.
func TestRPMBytes(t *testing.T) {
	e, key := pgpEntity(t, "rpm@example.com")
	payload := []byte("the files")
	header := nevra(digestTags(payload)...)
	good := rpmOf(rpmHeaderOf(rpmTag{rpmSigRSA, rpmTypeBinary, pgpSign(t, e, header)}), header, payload)
	signed := bytes.Index(good, header)
	for at := range good {
		b := slices.Clone(good)
		b[at] ^= 0x41
		if err := checkVerdict(t, fmt.Sprint("byte ", at), packageRequest(t, "rpm", key, b)); err == nil && at >= signed {
			t.Errorf("accepted with another byte %d", at)
		}
		if err := checkVerdict(t, fmt.Sprint("cut at ", at), packageRequest(t, "rpm", key, good[:at])); err == nil {
			t.Errorf("accepted when cut after %d bytes", at)
		}
	}
}

// rpmNode takes a package apart, so that a mutation of the data of a header
// leaves the rest in its place.
func rpmNode(b []byte) *fuzz.Node {
	pkg, err := readRPMFile(b)
	if err != nil {
		return fuzz.Leaf(b)
	}
	header := func(h rpmHeader) *fuzz.Node {
		var entries []*fuzz.Node
		for e := range slices.Chunk(h.entries, 16) {
			entries = append(entries, fuzz.Seq(fuzz.Leaf(e[:4]), fuzz.Leaf(e[4:8]), fuzz.Leaf(e[8:12]), fuzz.Leaf(e[12:])))
		}
		return fuzz.Join(func(kids [][]byte) []byte {
			if len(kids) < 3 {
				return bytes.Join(kids, nil)
			}
			out := append(slices.Clone(kids[0]), binary.BigEndian.AppendUint32(nil, uint32(len(kids[1])/16))...)
			out = binary.BigEndian.AppendUint32(out, uint32(len(kids[2])))
			return append(out, bytes.Join(kids[1:], nil)...)
		}, fuzz.Leaf(h.raw[:8]), fuzz.Seq(entries...), fuzz.Leaf(h.data))
	}
	at := rpmLead + len(pkg.sigs.raw)
	return fuzz.Seq(fuzz.Leaf(b[:rpmLead]), header(pkg.sigs), fuzz.Leaf(b[at:len(b)-len(pkg.signed)]), header(pkg.header), fuzz.Leaf(pkg.payload))
}

// A package of any bytes: it is refused, or what is stored of it is text.
func FuzzRPM(f *testing.F) {
	e, ring := pgpEntity(f, "rpm@example.com")
	payload := []byte("the files")
	header := nevra(append(digestTags(payload), rpmTag{rpmEpoch, 4, []byte{0, 0, 0, 7}})...)
	whole := slices.Concat(header, payload)
	sum := md5.Sum(whole)
	seeds := []*fuzz.Node{
		rpmNode(rpmOf(rpmHeaderOf(rpmTag{rpmSigRSA, rpmTypeBinary, pgpSign(f, e, header)}, rpmText(rpmSigSHA256, fmt.Sprintf("%x", sha256.Sum256(header)))), header, payload)),
		rpmNode(rpmOf(rpmHeaderOf(rpmTag{rpmSigPGP, rpmTypeBinary, pgpSign(f, e, whole)}, rpmTag{rpmSigMD5, rpmTypeBinary, sum[:]}), header, payload)),
		rpmNode(vectorPackage(f, "rpm")),
	}
	parsed, err := readRPM(value(packageSpecOf(ring)))
	if err != nil {
		f.Fatal(err)
	}
	parse := func(in []byte) ([]rpmField, error) {
		p, err := readRPMFile(in)
		if err != nil {
			return nil, err
		}
		if err := p.verify(parsed.key); err != nil && !strings.Contains(err.Error(), "verifying signature") {
			return nil, err
		}
		return p.fields()
	}
	fuzz.Run(f, seeds, parse, func(t *testing.T, in []byte, fields []rpmField, err error) {
		if err == nil && (len(fields) < 5 || len(fields) > 6 || !slices.IsSortedFunc(fields, func(a, b rpmField) int { return strings.Compare(a.name, b.name) })) {
			t.Fatalf("fields %q", fields)
		}
	})
}

// packageSpecOf is the JSON of a spec with a key alone.
func packageSpecOf(key []byte) string {
	b, _ := json.Marshal(map[string]any{"publicKey": map[string]any{"content": key}, "package": map[string]any{}})
	return string(b)
}
