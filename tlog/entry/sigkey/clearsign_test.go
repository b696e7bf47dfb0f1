package sigkey

import (
	"bytes"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"

	"github.com/sigstack/sigstack/test/fuzz"
)

func pgpClearSign(t testing.TB, e *openpgp.Entity, text string) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := clearsign.Encode(&out, e.PrivateKey, pgpConfig(pgpTime))
	if err == nil {
		_, err = w.Write([]byte(text))
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestParseClearSigned(t *testing.T) {
	e := pgpEntity(t, "A", "a@example.com", pgpConfig(pgpTime))
	key, err := ParseKey(FormatPGP, pgpExport(t, e))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ in, text string }{
		{"a\nb\n", "a\nb\n"},
		{"a", "a"},
		{"", ""},
		{"\n\n", "\n\n"},
		{"- a\n-----BEGIN PGP SIGNATURE-----\n--\n", "- a\n-----BEGIN PGP SIGNATURE-----\n--\n"},
		{"a \t \nb\r\n c", "a\nb\n c"},
	} {
		m, err := ParseClearSigned(pgpClearSign(t, e, c.in))
		if err != nil {
			t.Errorf("%q: %v", c.in, err)
			continue
		}
		if string(m.Text) != c.text || string(m.Signed) != strings.ReplaceAll(c.text, "\n", "\r\n") {
			t.Errorf("%q: text %q, signed %q", c.in, m.Text, m.Signed)
		}
		if err := key.Verify(m.Signed, m.Signature); err != nil {
			t.Errorf("%q: %v", c.in, err)
		}
		if key.Verify(append(m.Signed, 'x'), m.Signature) == nil {
			t.Errorf("%q: verifies another text", c.in)
		}
	}
	good := string(pgpClearSign(t, e, "a\nb\n"))
	begin, signature := "-----BEGIN PGP SIGNED MESSAGE-----\n", good[strings.Index(good, "-----BEGIN PGP SIGNATURE-----"):]
	armored := func(body []byte) string {
		return begin + "\na\n" + string(pgpArmor(t, openpgp.SignatureType, nil, body))
	}
	sig := pgpSign(t, e, "a", pgpConfig(pgpTime))
	for _, c := range []struct{ name, in, err string }{
		{"plain", good, ""},
		{"text around", "x\n" + good + "\nx", ""},
		{"no header", begin + "\na\n" + signature, ""},
		{"headers", begin + "Hash: SHA256, sha512\nHash: SHA1\n\na\n" + signature, ""},
		{"not at the beginning of a line", "x" + good, "want a line -----BEGIN PGP SIGNED MESSAGE-----"},
		{"nothing", "", "want a line -----BEGIN PGP SIGNED MESSAGE-----"},
		{"text on the line", strings.Replace(good, "MESSAGE-----", "MESSAGE----- ", 1), "text after -----BEGIN PGP SIGNED MESSAGE----- on its line"},
		{"another header", begin + "Hash: SHA256\nComment: x\n\na\n" + signature, "the only header that a signed message may have is Hash"},
		{"another hash", begin + "Hash: SHA256,SHA257\n\na\n" + signature, `hash "SHA257" of a signed message is not known`},
		{"a tab in a header", begin + "Hash:\tSHA256\n\na\n" + signature, "a header of a signed message must be printable ASCII"},
		{"cut in its headers", begin + "Hash: SHA256\n", "the signed message is cut short"},
		{"no signature", begin + "\na\n", "the signed message has no signature"},
		{"a signature that is cut", good[:len(good)-40], "the signature of the signed message is cut short"},
		{"armor without an empty line", strings.Replace(good, "SIGNATURE-----\n\n", "SIGNATURE-----\n", 1), "signature of a signed message: armor must have an empty line before its data"},
		{"no packet", armored(nil), "valid PGP signature was not detected"},
		{"two packets", armored(slices.Repeat(sig, 2)), "invalid PGP signature: 2 packets, want one"},
		{"armor in armor", armored(pgpArmor(t, openpgp.SignatureType, nil, sig)), "invalid PGP signature: want a packet, which begins with the high bit set"},
		{"a long signature", armored(bytes.Repeat([]byte{0xc2}, MaxSignatureSize+1)), "signature has 65537 bytes, at most 65536 are accepted"},
	} {
		_, err := ParseClearSigned([]byte(c.in))
		if (err != nil) != (c.err != "") || err != nil && err.Error() != c.err {
			t.Errorf("%s: error %v, want %q", c.name, err, c.err)
		}
	}
}

// A signed message is read as the OpenPGP library reads it, but for long lines,
// which the library refuses in armor.
func FuzzClearSigned(f *testing.F) {
	e := pgpEntity(f, "A", "a@example.com", pgpConfig(pgpTime))
	seeds := fuzz.Seeds(pgpClearSign(f, e, "a \n- b\n\n"), append([]byte("x\n"), pgpClearSign(f, e, "a\r\nb")...))
	fuzz.Run(f, seeds, ParseClearSigned, func(t *testing.T, in []byte, m *ClearSigned, err error) {
		if err != nil || slices.ContainsFunc(bytes.Split(in, []byte("\n")), func(line []byte) bool { return len(line) > 96 }) {
			return
		}
		block, _ := clearsign.Decode(in)
		if block == nil {
			t.Fatal("accepted, and the library reads no message")
		}
		body, err := io.ReadAll(block.ArmoredSignature.Body)
		if err != nil {
			t.Fatalf("accepted, and the library reads no signature: %v", err)
		}
		sig, err := ParsePGPPacket(body)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(block.Plaintext, m.Text) || !bytes.Equal(block.Bytes, m.Signed) || !bytes.Equal(sig.Canonical(), m.Signature.Canonical()) {
			t.Fatalf("text %q, and the library reads %q", m.Text, block.Plaintext)
		}
	})
}
