package sigkey

import (
	"bytes"
	//lint:ignore SA1019 OpenPGP keys of this type are still in use
	"crypto/dsa"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/mail"
	"slices"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// Bounds on what an OpenPGP input may hold.
const (
	maxRingKeys       = 100 // primary keys and subkeys of one ring
	maxRingUserIDs    = 200
	maxRingSignatures = 500
	maxPGPSignatures  = 10  // packets of one detached signature
	maxSubpackets     = 200 // of one signature or user attribute packet; GnuPG writes about ten

	// maxRingCost bounds the time that reading a ring takes, in microseconds
	// as pgpCost estimates them. The reader verifies every self-signature,
	// and a short ring can hold many that are slow.
	maxRingCost = 100_000
)

// OpenPGP packet types (RFC 9580, section 5).
const (
	tagSignature     = 2
	tagSecretKey     = 5
	tagPublicKey     = 6
	tagSecretSubkey  = 7
	tagMarker        = 10
	tagTrust         = 12
	tagUserID        = 13
	tagPublicSubkey  = 14
	tagUserAttribute = 17
	tagPadding       = 21
)

// subpacketEmbedded is the type of a signature subpacket that holds a signature
// (RFC 9580, section 5.2.3.34).
const subpacketEmbedded = 32

type pgpKey struct {
	ring      openpgp.EntityList
	canonical []byte
	emails    []string
}

type pgpSignature struct {
	packets   [][]byte // each a whole signature packet with its header
	canonical []byte
}

func (k *pgpKey) Canonical() []byte       { return k.canonical }
func (s *pgpSignature) Canonical() []byte { return s.canonical }

// Subjects implements [Key]: the e-mail addresses of the user IDs that the key
// has signed itself, sorted.
func (k *pgpKey) Subjects() []string { return slices.Clone(k.emails) }

// parsePGPKey reads a ring of public keys: binary, or one or more armored
// blocks. The canonical text is the whole ring in one armored block without
// headers: of each key the primary key, revocations, direct signatures, user
// IDs (sorted by name) with their signatures, subkeys with their revocations
// and latest binding signature.
//
// The user IDs are sorted because the library keeps them in a map: writing
// them in its order would give one ring another text at every call.
func parsePGPKey(data []byte) (k *pgpKey, err error) {
	defer recoverPGP("public key", &err)
	if len(data) > MaxRingSize {
		return nil, fmt.Errorf("PGP public key has %d bytes, at most %d are accepted", len(data), MaxRingSize)
	}
	raw, err := pgpRingBytes(data)
	if err != nil {
		return nil, err
	}
	if err := checkRing(raw); err != nil {
		return nil, err
	}
	ring, err := openpgp.ReadKeyRing(bytes.NewReader(raw))
	if err != nil {
		return nil, foreign("error reading PGP public key", err)
	}
	if len(ring) == 0 {
		return nil, errors.New("no PGP public keys could be read")
	}
	k = &pgpKey{ring: ring}
	var out bytes.Buffer
	w, err := armor.Encode(&out, openpgp.PublicKeyType, nil)
	if err != nil {
		return nil, foreign("error generating canonical value of PGP public key", err)
	}
	for _, e := range ring {
		if err := k.writeEntity(w, e); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, foreign("error generating canonical value of PGP public key", err)
	}
	k.canonical = out.Bytes()
	if err := checkCanonical("PGP public key", k.canonical, MaxRingSize); err != nil {
		return nil, err
	}
	slices.Sort(k.emails)
	k.emails = slices.Compact(k.emails)
	return k, nil
}

// writeEntity writes one key of the ring in canonical order and collects its
// addresses.
func (k *pgpKey) writeEntity(w io.Writer, e *openpgp.Entity) error {
	type part interface{ Serialize(io.Writer) error }
	parts := []part{e.PrimaryKey}
	for _, s := range e.Revocations {
		parts = append(parts, s)
	}
	for _, s := range e.Signatures {
		parts = append(parts, s)
	}
	names := make([]string, 0, len(e.Identities))
	for name := range e.Identities {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		id := e.Identities[name]
		if id.SelfSignature == nil {
			// Only revoked, never certified. The library dereferences the
			// certification when it verifies a signature.
			return errors.New("error reading PGP public key: a user ID has a revocation but no self-signature")
		}
		parts = append(parts, id.UserId)
		for _, s := range id.Signatures {
			parts = append(parts, s)
		}
		if isEmail(id.UserId.Email) {
			k.emails = append(k.emails, id.UserId.Email)
		}
	}
	for _, sub := range e.Subkeys {
		parts = append(parts, sub.PublicKey)
		for _, s := range sub.Revocations {
			parts = append(parts, s)
		}
		parts = append(parts, sub.Sig)
	}
	for _, p := range parts {
		if err := p.Serialize(w); err != nil {
			return foreign("error generating canonical value of PGP public key", err)
		}
	}
	return nil
}

// isEmail reports whether s is a bare address with a dotted domain.
func isEmail(s string) bool {
	if len(s) > 254 { // RFC 5321, section 4.5.3.1.3, less the angle brackets
		return false
	}
	a, err := mail.ParseAddress(s)
	if err != nil || a.Address != s {
		return false
	}
	_, domain, ok := strings.Cut(s, "@")
	return ok && strings.Contains(strings.Trim(domain, "."), ".")
}

// pgpRingBytes returns the packets of a ring. Text between armored blocks is
// skipped, as in the KEYS files that projects publish.
func pgpRingBytes(data []byte) ([]byte, error) {
	data = bytes.TrimLeft(data, " \t\r\n")
	if !bytes.HasPrefix(data, []byte("-----BEGIN PGP")) {
		if len(data) == 0 {
			return nil, errors.New("unable to read PGP public key: it is empty")
		}
		return data, nil
	}
	var ring []byte
	for {
		kind, body, rest, err := dearmor(data)
		if err != nil {
			return nil, foreign("invalid PGP public key provided", err)
		}
		switch kind {
		case openpgp.PublicKeyType:
		case openpgp.PrivateKeyType:
			return nil, errSecretKey()
		default:
			return nil, fmt.Errorf("invalid PGP type detected: %.64q", kind)
		}
		ring = append(ring, body...)
		for len(rest) > 0 && !bytes.HasPrefix(rest, []byte("-----BEGIN PGP")) {
			_, rest, _ = bytes.Cut(rest, []byte("\n"))
		}
		if len(rest) == 0 {
			return ring, nil
		}
		data = rest
	}
}

func errSecretKey() error {
	return errors.New("no PGP public keys could be read: this is a secret key, export the public one")
}

// checkRing bounds what reading the ring will cost, before anything is verified.
func checkRing(raw []byte) error {
	var keys, ids, sigs, cost int
	var primary *packet.PublicKey
	var primaryCost, subCost int
	return eachPacket(raw, func(tag byte, whole, body []byte) error {
		if tag == tagSignature || tag == tagUserAttribute {
			if err := checkSubpackets(tag, body); err != nil {
				return err
			}
		}
		switch tag {
		case tagPublicKey, tagPublicSubkey:
			if keys++; keys > maxRingKeys {
				return fmt.Errorf("PGP key ring holds more than %d keys", maxRingKeys)
			}
			p, err := packet.Read(bytes.NewReader(whole))
			if err != nil {
				// The reader skips what it cannot read, so this costs nothing.
				if tag == tagPublicKey {
					primary, primaryCost = nil, 0
				}
				subCost = 0
				return nil
			}
			pub, ok := p.(*packet.PublicKey)
			if !ok {
				return errors.New("PGP key ring holds a malformed key packet")
			}
			c, err := pgpCost(pub)
			if err != nil {
				return err
			}
			if tag == tagPublicKey {
				primary, primaryCost, subCost = pub, c, 0
			} else {
				subCost = c
			}
		case tagSignature:
			if sigs++; sigs > maxRingSignatures {
				return fmt.Errorf("PGP key ring holds more than %d signatures: export it with the option export-minimal", maxRingSignatures)
			}
			p, err := packet.Read(bytes.NewReader(whole))
			if err != nil {
				return nil
			}
			sig, ok := p.(*packet.Signature)
			if !ok || primary == nil {
				return nil
			}
			// Certifications by others are kept and not verified.
			if sig.SigType == packet.SigTypeSubkeyBinding || sig.SigType == packet.SigTypeSubkeyRevocation {
				cost += primaryCost + subCost
			} else if sig.CheckKeyIdOrFingerprint(primary) || sig.SigType == packet.SigTypeKeyRevocation {
				cost += primaryCost
			}
			if cost > maxRingCost {
				return errors.New("PGP key ring holds too many self-signatures for keys this slow to verify")
			}
		case tagUserID, tagUserAttribute:
			if ids++; ids > maxRingUserIDs {
				return fmt.Errorf("PGP key ring holds more than %d user IDs", maxRingUserIDs)
			}
		case tagSecretKey, tagSecretSubkey:
			return errSecretKey()
		case tagMarker, tagTrust, tagPadding:
		default:
			return fmt.Errorf("PGP key ring holds a packet of type %d, which does not belong there", tag)
		}
		return nil
	})
}

// pgpCost returns about how long one verification takes with a key, in
// microseconds on an ordinary core, and refuses keys that are too large.
func pgpCost(pub *packet.PublicKey) (int, error) {
	switch key := pub.PublicKey.(type) {
	case *rsa.PublicKey:
		bits := key.N.BitLen()
		if bits > maxRSABits {
			return 0, fmt.Errorf("PGP key ring holds an RSA key of %d bits, at most %d are accepted", bits, maxRSABits)
		}
		return 20 * (bits/1024 + 1) * (bits/1024 + 1), nil
	case *dsa.PublicKey:
		if key.P.BitLen() > 3072 || key.Q.BitLen() > 256 || key.G.BitLen() > 3072 || key.Y.BitLen() > 3072 {
			return 0, errors.New("PGP key ring holds a DSA key with more than 3072 bits, or a subgroup of more than 256")
		}
		return 4000, nil
	}
	switch pub.PubKeyAlgo {
	case packet.PubKeyAlgoECDSA:
		if c, err := pub.Curve(); err == nil && (c == packet.CurveNistP256 || c == packet.CurveNistP384 || c == packet.CurveNistP521) {
			return 600, nil
		}
		return 10_000, nil // Brainpool and secp256k1 run on generic arithmetic
	case packet.PubKeyAlgoSlhdsaShake128s, packet.PubKeyAlgoSlhdsaShake128f, packet.PubKeyAlgoSlhdsaShake256s:
		return 5000, nil
	}
	return 300, nil
}

// parsePGPSignature reads a detached signature: binary, or one armored block
// with nothing around it. Armored text is canonical as it was sent; binary
// input is armored without headers.
func parsePGPSignature(data []byte) (s *pgpSignature, err error) {
	defer recoverPGP("signature", &err)
	raw := data
	armored := bytes.HasPrefix(bytes.TrimLeft(data, " \t\r\n"), []byte("-----BEGIN "))
	if armored {
		kind, body, rest, err := dearmor(bytes.TrimLeft(data, " \t\r\n"))
		if err != nil {
			return nil, foreign("invalid PGP signature", err)
		}
		if kind != openpgp.SignatureType {
			return nil, fmt.Errorf("invalid PGP signature provided: armored block of type %.64q", kind)
		}
		if len(bytes.TrimSpace(rest)) > 0 {
			// It would be stored with the entry, and nobody has signed it.
			return nil, errors.New("invalid PGP signature: text after the armored block")
		}
		raw = body
	}
	s = &pgpSignature{}
	err = eachPacket(raw, func(tag byte, whole, body []byte) error {
		if tag != tagSignature {
			return errors.New("valid PGP signature was not detected")
		}
		if err := checkSubpackets(tag, body); err != nil {
			return err
		}
		if len(s.packets) == maxPGPSignatures {
			return fmt.Errorf("more than %d PGP signatures in one", maxPGPSignatures)
		}
		s.packets = append(s.packets, bytes.Clone(whole))
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(s.packets) == 0 {
		return nil, errors.New("valid PGP signature was not detected")
	}
	for _, p := range s.packets {
		if _, err := readSignaturePacket(p); err != nil {
			return nil, err
		}
	}
	if armored {
		s.canonical = bytes.Clone(data)
		return s, nil
	}
	var out bytes.Buffer
	w, err := armor.Encode(&out, openpgp.SignatureType, nil)
	if err != nil {
		return nil, foreign("error encoding canonical value of PGP signature", err)
	}
	if _, err := w.Write(raw); err != nil {
		return nil, foreign("error generating canonical value of PGP signature", err)
	}
	if err := w.Close(); err != nil {
		return nil, foreign("error generating canonical value of PGP signature", err)
	}
	s.canonical = out.Bytes()
	return s, nil
}

// ParsePGPPacket reads one signature packet without armor, as containers hold
// it. The result is of format pgp.
func ParsePGPPacket(data []byte) (Signature, error) {
	if len(data) > 0 && data[0]&0x80 == 0 {
		return nil, errors.New("invalid PGP signature: want a packet, which begins with the high bit set")
	}
	sig, err := ParseSignature(FormatPGP, data)
	if err != nil {
		return nil, err
	}
	if n := len(sig.(*pgpSignature).packets); n > 1 {
		return nil, fmt.Errorf("invalid PGP signature: %d packets, want one", n)
	}
	return sig, nil
}

func readSignaturePacket(whole []byte) (*packet.Signature, error) {
	p, err := packet.Read(bytes.NewReader(whole))
	if err != nil {
		return nil, foreign("invalid PGP signature", err)
	}
	sig, ok := p.(*packet.Signature)
	if !ok {
		return nil, errors.New("valid PGP signature was not detected")
	}
	return sig, nil
}

// Verify implements [Key]. Every signature packet must be made by a key of the
// ring: all of them are stored. The clock of each check is the signature's own
// creation time, so a key that has expired since still verifies.
func (k *pgpKey) Verify(message []byte, sig Signature) (err error) {
	defer recoverPGP("signature", &err)
	s, ok := sig.(*pgpSignature)
	if !ok {
		return mismatch(FormatPGP, sig)
	}
	for _, p := range s.packets {
		sig, err := readSignaturePacket(p)
		if err != nil {
			return err
		}
		config := &packet.Config{Time: func() time.Time { return sig.CreationTime }}
		if _, err := openpgp.CheckDetachedSignature(k.ring, bytes.NewReader(message), bytes.NewReader(p), config); err != nil {
			return foreign("", err)
		}
	}
	return nil
}

// checkSubpackets bounds the subpackets of a signature packet, or of a user
// attribute packet. The library keeps 40 to 80 bytes for each, and the shortest
// has two: 64 kB of them would become megabytes.
//
// It counts until something is malformed, where the library stops as well.
func checkSubpackets(tag byte, body []byte) error {
	size := 2 // bytes of the length of a list (RFC 9580, section 5.2.3)
	lists := [][]byte{body}
	if tag == tagSignature {
		if len(body) < 4 || body[0] < 4 {
			return nil // version 3 has none
		}
		if body[0] == 6 {
			size = 4
		}
		lists = nil
		for rest := body[4:]; len(lists) < 2; { // those that are hashed, and the others
			n := 0
			for i := 0; i < size && i < len(rest); i++ {
				n = n<<8 | int(rest[i])
			}
			rest = rest[min(size, len(rest)):]
			n = min(n, len(rest))
			lists, rest = append(lists, rest[:n]), rest[n:]
		}
	}
	count := 0
	for _, list := range lists {
		for len(list) > 0 {
			if count++; count > maxSubpackets {
				return fmt.Errorf("OpenPGP packet holds more than %d subpackets", maxSubpackets)
			}
			// RFC 9580, section 5.2.3.7
			header, length := 1, int(list[0])
			switch {
			case list[0] == 255 && len(list) >= 5:
				header, length = 5, int(list[1])<<24|int(list[2])<<16|int(list[3])<<8|int(list[4])
			case list[0] >= 192 && len(list) >= 2:
				header, length = 2, (length-192)<<8+int(list[1])+192
			}
			subpacket := list[min(header, len(list)):min(header+length, len(list))]
			if len(subpacket) > 0 && tag == tagSignature && subpacket[0]&0x7f == subpacketEmbedded {
				if err := checkSubpackets(tag, subpacket[1:]); err != nil {
					return err
				}
			}
			list = list[min(header+length, len(list)):]
		}
	}
	return nil
}

// recoverPGP turns a panic of the OpenPGP library into an error. The library
// has had several for keys that are well-formed but unusual; a log that
// anybody may write to must not depend on there being no more.
func recoverPGP(what string, err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("invalid PGP %s: the OpenPGP reader failed on it", what)
	}
}

// eachPacket walks a sequence of OpenPGP packets (RFC 9580, section 4.2). It
// calls f with the packet type, the whole packet and its body. Partial and
// indeterminate lengths are refused: they are for data, not for keys and
// signatures.
func eachPacket(data []byte, f func(tag byte, whole, body []byte) error) error {
	for len(data) > 0 {
		first, header, length := data[0], 0, 0
		number := func(at, n int) {
			header = at + n
			if header > len(data) {
				return
			}
			for _, b := range data[at:header] {
				length = length<<8 | int(b)
			}
		}
		var tag byte
		switch {
		case first&0x80 == 0:
			return errors.New("not OpenPGP data: a packet must begin with the high bit set")
		case first&0x40 == 0: // legacy format
			tag = first >> 2 & 0x0f
			if first&3 == 3 {
				return errors.New("OpenPGP packet of indeterminate length")
			}
			number(1, 1<<(first&3))
		default:
			tag = first & 0x3f
			switch {
			case len(data) < 2:
				header = 2
			case data[1] < 192:
				number(1, 1)
			case data[1] < 224:
				number(1, 2)
				length += 192 - 192<<8
			case data[1] < 255:
				return errors.New("OpenPGP packet of partial length")
			default:
				number(2, 4)
			}
		}
		if header > len(data) || length > len(data)-header {
			return errors.New("OpenPGP packet is cut short")
		}
		end := header + length
		if err := f(tag, data[:end], data[header:end]); err != nil {
			return err
		}
		data = data[end:]
	}
	return nil
}

// dearmor reads the armored block that text begins with (RFC 9580, section 6)
// and returns its type, its body, and the text after its last line. Headers
// are skipped and the checksum is not checked, as the RFC asks.
func dearmor(text []byte) (kind string, body, rest []byte, err error) {
	line := func() []byte {
		var l []byte
		l, text, _ = bytes.Cut(text, []byte("\n"))
		return bytes.TrimSpace(l)
	}
	name, ok := armorLine(line(), "-----BEGIN ")
	if !ok {
		return "", nil, nil, errors.New("armor must begin with a line -----BEGIN PGP ...-----")
	}
	for l := line(); len(l) > 0; l = line() {
		if !bytes.Contains(l, []byte(":")) {
			return "", nil, nil, errors.New("armor must have an empty line before its data")
		}
	}
	var coded []byte
	for len(text) > 0 {
		l := line()
		if end, ok := armorLine(l, "-----END "); ok {
			if end != name {
				return "", nil, nil, errors.New("armor ends with another type than it began with")
			}
			body, err = base64.StdEncoding.Strict().AppendDecode(nil, coded)
			if err != nil {
				return "", nil, nil, foreign("armor", err)
			}
			return name, body, text, nil
		}
		if len(l) == 5 && l[0] == '=' && bytes.HasPrefix(bytes.TrimLeft(text, " \t\r\n"), []byte("-----END ")) {
			continue // checksum
		}
		coded = append(coded, l...)
	}
	return "", nil, nil, errors.New("armor has no line -----END PGP ...-----")
}

func armorLine(l []byte, prefix string) (string, bool) {
	l, ok := bytes.CutPrefix(l, []byte(prefix))
	if !ok {
		return "", false
	}
	l, ok = bytes.CutSuffix(l, []byte("-----"))
	return string(l), ok
}
