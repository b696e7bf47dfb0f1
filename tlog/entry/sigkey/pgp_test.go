package sigkey

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"encoding/binary"
	"io"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

var pgpTime = time.Unix(1_600_000_000, 0)

func pgpConfig(at time.Time) *packet.Config {
	return &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA, Time: func() time.Time { return at }}
}

func pgpEntity(t testing.TB, name, email string, config *packet.Config) *openpgp.Entity {
	t.Helper()
	e, err := openpgp.NewEntity(name, "", email, config)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func pgpExport(t testing.TB, entities ...*openpgp.Entity) []byte {
	t.Helper()
	var out bytes.Buffer
	for _, e := range entities {
		if err := e.Serialize(&out); err != nil {
			t.Fatal(err)
		}
	}
	return out.Bytes()
}

func pgpArmor(t testing.TB, kind string, headers map[string]string, body []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := armor.Encode(&out, kind, headers)
	if err == nil {
		_, err = w.Write(body)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return append(out.Bytes(), '\n')
}

func pgpSign(t testing.TB, e *openpgp.Entity, message string, config *packet.Config) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := openpgp.DetachSign(&out, e, strings.NewReader(message), config); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func pgpVerify(key, sig []byte, message string) error {
	k, err := ParseKey(FormatPGP, key)
	if err != nil {
		return err
	}
	s, err := ParseSignature(FormatPGP, sig)
	if err != nil {
		return err
	}
	return k.Verify([]byte(message), s)
}

func TestPGPForms(t *testing.T) {
	config := pgpConfig(pgpTime)
	a, b := pgpEntity(t, "A", "a@example.com", config), pgpEntity(t, "B", "B@Example.com", config)
	ring, sigA, sigB := pgpExport(t, a, b), pgpSign(t, a, "m", config), pgpSign(t, b, "m", config)
	armored := pgpArmor(t, openpgp.SignatureType, map[string]string{"Comment": "x"}, sigA)
	var secret bytes.Buffer
	if err := a.SerializePrivateWithoutSigning(&secret, config); err != nil {
		t.Fatal(err)
	}
	armoredA := pgpArmor(t, openpgp.PublicKeyType, nil, pgpExport(t, a))
	armoredB := pgpArmor(t, openpgp.PublicKeyType, map[string]string{"Comment": "x"}, pgpExport(t, b))
	crlf := func(b []byte) []byte { return bytes.ReplaceAll(b, []byte("\n"), []byte("\r\n")) }
	for _, c := range []struct {
		name     string
		key, sig []byte
		err      string // "" verifies
	}{
		{"binary", ring, sigA, ""},
		{"binary, B", ring, sigB, ""},
		{"armored", slices.Concat(armoredA, armoredB), armored, ""},
		{"armored, CRLF", crlf(slices.Concat(armoredA, armoredB)), crlf(armored), ""},
		{"armored, text between", slices.Concat(armoredA, []byte("KEYS of B\n\n"), armoredB), sigB, ""},
		{"armored, space around", slices.Concat([]byte("\n"), armoredA, []byte("\n\n")), slices.Concat([]byte("\n"), armored, []byte("\n\n")), ""},
		{"two signatures", ring, slices.Concat(sigA, sigB), ""},
		{"two signatures, one key", pgpExport(t, a), slices.Concat(sigA, sigB), "openpgp: signature made by unknown entity"},
		{"unknown key", pgpExport(t, b), sigA, "openpgp: signature made by unknown entity"},
		{"text after the signature", ring, append(slices.Clone(armored), "forged\n"...), "invalid PGP signature: text after the armored block"},
		{"two armored signatures", ring, slices.Concat(armored, armored), "invalid PGP signature: text after the armored block"},
		{"text before the signature", ring, append([]byte("forged\n"), armored...), "not OpenPGP data"},
		{"bytes after the signature", ring, append(slices.Clone(sigA), 0xcd, 1, 'x'), "valid PGP signature was not detected"},
		{"eleven signatures", ring, bytes.Repeat(sigA, 11), "more than 10 PGP signatures"},
		{"a key as signature", ring, ring, "valid PGP signature was not detected"},
		{"an armored key as signature", ring, armoredA, "invalid PGP signature provided"},
		{"a signature as key", sigA, sigA, "error reading PGP public key"},
		{"an armored signature as key", armored, sigA, "invalid PGP type detected"},
		{"secret key", secret.Bytes(), sigA, "no PGP public keys could be read: this is a secret key"},
		{"secret and public key", slices.Concat(ring, secret.Bytes()), sigA, "no PGP public keys could be read: this is a secret key"},
		{"armored secret key", pgpArmor(t, openpgp.PrivateKeyType, nil, secret.Bytes()), sigA, "no PGP public keys could be read: this is a secret key"},
		{"no end line", armoredA[:len(armoredA)-40], sigA, "invalid PGP public key provided"},
		{"wrong end line", bytes.ReplaceAll(armoredA, []byte("END PGP PUBLIC"), []byte("END PGP PUBLIK")), sigA, "invalid PGP public key provided"},
		{"no empty line", bytes.Replace(armoredA, []byte("\n\n"), []byte("\n"), 1), sigA, "invalid PGP public key provided"},
		{"empty", nil, sigA, "unable to read PGP public key: it is empty"},
		{"literal data", append(slices.Clone(ring), 0xcb, 1, 'x'), sigA, "PGP key ring holds a packet of type 11"},
		{"partial length", append(slices.Clone(ring), 0xc6, 0xe0, 'x'), sigA, "OpenPGP packet of partial length"},
		{"indeterminate length", append(slices.Clone(ring), 0x9b, 'x'), sigA, "OpenPGP packet of indeterminate length"},
		{"cut", ring[:len(ring)-1], sigA, "OpenPGP packet is cut short"},
	} {
		err := pgpVerify(c.key, c.sig, "m")
		if (err == nil) != (c.err == "") || err != nil && !strings.HasPrefix(err.Error(), c.err) {
			t.Errorf("%s: error %v, want %q", c.name, err, c.err)
		}
	}
	k, err := ParseKey(FormatPGP, slices.Concat(armoredA, armoredB))
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"B@Example.com", "a@example.com"}; !slices.Equal(k.Subjects(), want) {
		t.Errorf("subjects %q", k.Subjects())
	}
	if k2, err := ParseKey(FormatPGP, ring); err != nil || !bytes.Equal(k.Canonical(), k2.Canonical()) {
		t.Errorf("armored and binary rings differ: %v", err)
	}
}

// A ring has one canonical text, in whatever order a map gives its user IDs.
func TestPGPUserIDOrder(t *testing.T) {
	config := pgpConfig(pgpTime)
	e := pgpEntity(t, "A", "a@example.com", config)
	for _, name := range []string{"b", "c", "d", "e", "f", "not an address"} {
		email := name + "@example.com"
		if strings.Contains(name, " ") {
			email = name
		}
		if err := e.AddUserId(strings.ToUpper(name), "", email, config); err != nil {
			t.Fatal(err)
		}
	}
	var first Key
	for range 50 {
		k, err := ParseKey(FormatPGP, pgpExport(t, e)) // in another order each time
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = k
		}
		if !bytes.Equal(k.Canonical(), first.Canonical()) {
			t.Fatal("two canonical texts of one ring")
		}
	}
	if len(first.Subjects()) != 6 {
		t.Errorf("subjects %q", first.Subjects())
	}
}

// A key that has expired since verifies what it signed; one that had expired
// already does not.
func TestPGPExpired(t *testing.T) {
	config := pgpConfig(pgpTime)
	config.KeyLifetimeSecs = 1000
	e := pgpEntity(t, "A", "a@example.com", config)
	in := pgpSign(t, e, "m", pgpConfig(pgpTime.Add(999*time.Second)))
	if err := pgpVerify(pgpExport(t, e), in, "m"); err != nil {
		t.Errorf("signed in time: %v", err)
	}
	unlimited := *e
	unlimited.Identities = map[string]*openpgp.Identity{}
	for name, id := range e.Identities {
		c := *id
		s := *id.SelfSignature
		s.KeyLifetimeSecs = nil
		c.SelfSignature = &s
		unlimited.Identities[name] = &c
	}
	late := pgpSign(t, &unlimited, "m", pgpConfig(pgpTime.Add(1001*time.Second)))
	if err := pgpVerify(pgpExport(t, e), late, "m"); err == nil {
		t.Error("signed after expiry: accepted")
	}
}

// A user ID that was revoked and never certified made the library read through
// a nil pointer while it verified.
func TestPGPRevokedUserIDOnly(t *testing.T) {
	config := pgpConfig(pgpTime)
	config.SigningKeyId = 0
	e := pgpEntity(t, "A", "a@example.com", config)
	if err := e.AddSigningSubkey(config); err != nil {
		t.Fatal(err)
	}
	sig := pgpSign(t, e, "m", config)
	for _, id := range e.Identities {
		revocation := &packet.Signature{
			Version: 4, SigType: packet.SigTypeCertificationRevocation, PubKeyAlgo: e.PrimaryKey.PubKeyAlgo, Hash: crypto.SHA256,
			CreationTime: pgpTime, IssuerKeyId: &e.PrimaryKey.KeyId,
		}
		if err := revocation.SignUserId(id.UserId.Id, e.PrimaryKey, e.PrivateKey, config); err != nil {
			t.Fatal(err)
		}
		id.Signatures = []*packet.Signature{revocation}
	}
	err := pgpVerify(pgpExport(t, e), sig, "m")
	if err == nil || !strings.Contains(err.Error(), "no self-signature") {
		t.Errorf("error %v", err)
	}
}

// Rings that would be slow to read are refused before anything is verified.
func TestPGPRingCost(t *testing.T) {
	config := pgpConfig(pgpTime)
	e := pgpEntity(t, "A", "a@example.com", config)
	ring := pgpExport(t, e)
	newPacket := func(tag byte, body []byte) []byte {
		out := binary.BigEndian.AppendUint32([]byte{0xc0 | tag, 0xff}, uint32(len(body)))
		return append(out, body...)
	}
	mpi := func(n *big.Int) []byte {
		return append(binary.BigEndian.AppendUint16(nil, uint16(n.BitLen())), n.Bytes()...)
	}
	rsaKeyPacket := func(bits uint) []byte {
		n := new(big.Int).Lsh(big.NewInt(1), bits-1)
		n.SetBit(n, 0, 1)
		return newPacket(tagPublicKey, slices.Concat([]byte{4, 0, 0, 0, 0, 1}, mpi(n), mpi(big.NewInt(65537))))
	}
	dsaKeyPacket := func(p, q uint) []byte {
		n, m := new(big.Int).Lsh(big.NewInt(1), p-1), new(big.Int).Lsh(big.NewInt(1), q-1)
		return newPacket(tagPublicKey, slices.Concat([]byte{4, 0, 0, 0, 0, 17}, mpi(n), mpi(m), mpi(big.NewInt(3)), mpi(big.NewInt(5))))
	}
	// A binding signature by anybody: the reader tries the primary key on it. A
	// certification by another key is only kept.
	signature := func(kind byte) []byte {
		return newPacket(tagSignature, slices.Concat([]byte{4, kind, 1, 8, 0, 6, 5, 2, 0, 0, 0, 1, 0, 0, 0, 0}, mpi(big.NewInt(7))))
	}
	binding := signature(0x18)
	if p, err := packet.Read(bytes.NewReader(binding)); err != nil || p.(*packet.Signature).SigType != packet.SigTypeSubkeyBinding {
		t.Fatalf("the test's signature packet: %v", err)
	}
	if p, err := packet.Read(bytes.NewReader(rsaKeyPacket(8192))); err != nil || p.(*packet.PublicKey).PublicKey.(*rsa.PublicKey).N.BitLen() != 8192 {
		t.Fatalf("the test's key packet: %v", err)
	}
	for name, c := range map[string]struct {
		in  []byte
		err string
	}{
		"RSA 8193":                    {append(slices.Clone(ring), rsaKeyPacket(8193)...), "RSA key of 8193 bits"},
		"RSA 65535":                   {append(slices.Clone(ring), rsaKeyPacket(65535)...), "RSA key of 65535 bits"},
		"DSA 4096":                    {append(slices.Clone(ring), dsaKeyPacket(4096, 256)...), "DSA key with more than 3072 bits"},
		"DSA subgroup of 3000":        {append(slices.Clone(ring), dsaKeyPacket(3072, 3000)...), "DSA key with more than 3072 bits"},
		"101 keys":                    {bytes.Repeat(rsaKeyPacket(1024), 101), "more than 100 keys"},
		"201 user IDs":                {append(slices.Clone(ring), bytes.Repeat(newPacket(tagUserID, []byte("x")), 201)...), "more than 200 user IDs"},
		"501 signatures":              {append(slices.Clone(ring), bytes.Repeat(signature(0x10), 501)...), "more than 500 signatures"},
		"60 bindings by RSA 8192":     {append(rsaKeyPacket(8192), bytes.Repeat(binding, 62)...), "too many self-signatures"},
		"30 bindings by DSA":          {append(dsaKeyPacket(3072, 256), bytes.Repeat(binding, 30)...), "too many self-signatures"},
		"length past the end":         {append(slices.Clone(ring), 0xcd, 0xff, 0xff, 0xff, 0xff, 0xff), "cut short"},
		"length past the end, legacy": {append(slices.Clone(ring), 0xb6, 0xff, 0xff, 0xff, 0xff), "cut short"},
	} {
		start := time.Now()
		_, err := ParseKey(FormatPGP, c.in)
		if err == nil || !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: error %v, want %q", name, err, c.err)
		}
		if d := time.Since(start); d > 2*time.Second {
			t.Errorf("%s: took %v", name, d)
		}
	}
	if _, err := ParseKey(FormatPGP, bytes.Repeat([]byte{0xca, 0}, MaxRingSize)); err == nil || !strings.Contains(err.Error(), "at most 262144") {
		t.Errorf("too long: %v", err)
	}
}

// The packet walk agrees with the library's about where packets end.
func TestEachPacket(t *testing.T) {
	for _, s := range samples(t) {
		if s.format != FormatPGP {
			continue
		}
		raw, err := pgpRingBytes(s.key)
		if err != nil {
			t.Fatal(err)
		}
		var got [][]byte
		if err := eachPacket(raw, func(_ byte, _, body []byte) error { got = append(got, body); return nil }); err != nil {
			t.Fatal(err)
		}
		r := packet.NewOpaqueReader(bytes.NewReader(raw))
		for i := 0; ; i++ {
			p, err := r.Next()
			if err == io.EOF && i == len(got) {
				break
			}
			if err != nil || i == len(got) || !bytes.Equal(p.Contents, got[i]) {
				t.Fatalf("packet %d of %d: %v", i, len(got), err)
			}
		}
	}
	// Every length encoding.
	for _, n := range []int{0, 1, 191, 192, 500, 8383, 8384, 70000} {
		body := bytes.Repeat([]byte("x"), n)
		forms := [][]byte{append(binary.BigEndian.AppendUint32([]byte{0xcd, 0xff}, uint32(n)), body...), append(binary.BigEndian.AppendUint32([]byte{0xb6}, uint32(n)), body...)}
		if n < 192 {
			forms = append(forms, append([]byte{0xcd, byte(n)}, body...))
		} else if n < 8384 {
			forms = append(forms, append([]byte{0xcd, byte((n-192)>>8 + 192), byte(n - 192)}, body...))
		}
		for _, f := range forms {
			p, err := packet.NewOpaqueReader(bytes.NewReader(f)).Next()
			if err != nil || len(p.Contents) != n {
				t.Fatalf("the test's packet of %d: %v", n, err)
			}
			err = eachPacket(f, func(tag byte, whole, got []byte) error {
				if tag != tagUserID || !bytes.Equal(whole, f) || !bytes.Equal(got, body) {
					t.Errorf("packet of %d bytes, %x...: tag %d, %d bytes", n, f[:3], tag, len(got))
				}
				return nil
			})
			if err != nil {
				t.Errorf("packet of %d bytes, %x...: %v", n, f[:3], err)
			}
		}
	}
}
