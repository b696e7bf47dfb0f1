package sigkey

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// A ClearSigned is a text and its pgp signature in the cleartext signature
// framework (RFC 9580, section 7), which is one packet. Nothing is verified yet.
type ClearSigned struct {
	// Text is the message: lines without the blanks at their end and without
	// the dashes that escape them, with a line feed between each two.
	Text []byte
	// Signed is what the signature is over: Text with CR LF between lines.
	Signed    []byte
	Signature Signature
}

var (
	clearSignedBegin = []byte("-----BEGIN PGP SIGNED MESSAGE-----")
	clearSignedSig   = []byte("-----BEGIN PGP SIGNATURE-----")
	clearSignedEnd   = []byte("\n-----END PGP SIGNATURE-----")
)

// clearSignedHashes are the values of the header Hash. It says nothing that the
// signature does not say.
var clearSignedHashes = []string{"MD5", "SHA1", "RIPEMD160", "SHA224", "SHA256", "SHA384", "SHA512", "SHA3-256", "SHA3-512"}

// ParseClearSigned reads the first signed message in data. Text before and after
// it is not part of it, is not signed and is ignored.
func ParseClearSigned(data []byte) (*ClearSigned, error) {
	rest, ok := bytes.CutPrefix(data, clearSignedBegin)
	if !ok {
		if _, rest, ok = bytes.Cut(data, append([]byte("\n"), clearSignedBegin...)); !ok {
			return nil, errors.New("want a line -----BEGIN PGP SIGNED MESSAGE-----")
		}
	}
	line := func() []byte {
		var l []byte
		l, rest, _ = bytes.Cut(rest, []byte("\n"))
		return bytes.TrimSuffix(l, []byte("\r"))
	}
	if len(line()) > 0 {
		return nil, errors.New("text after -----BEGIN PGP SIGNED MESSAGE----- on its line")
	}
	for {
		if len(rest) == 0 {
			return nil, errors.New("the signed message is cut short")
		}
		l := line()
		if len(bytes.TrimSpace(l)) == 0 {
			break
		}
		if bytes.ContainsFunc(l, func(r rune) bool { return r < ' ' || r > '~' }) {
			return nil, errors.New("a header of a signed message must be printable ASCII")
		}
		values, ok := bytes.CutPrefix(bytes.TrimSpace(l), []byte("Hash:"))
		if !ok {
			return nil, errors.New("the only header that a signed message may have is Hash")
		}
		for v := range bytes.SplitSeq(values, []byte(",")) {
			if name := strings.ToUpper(string(bytes.TrimSpace(v))); !slices.Contains(clearSignedHashes, name) {
				return nil, fmt.Errorf("hash %.32q of a signed message is not known", name)
			}
		}
	}
	text := make([]byte, 0, len(rest))
	for first := true; ; first = false {
		if len(rest) == 0 {
			return nil, errors.New("the signed message has no signature")
		}
		before := rest
		l := line()
		if bytes.Equal(l, clearSignedSig) {
			rest = before
			break
		}
		if !first {
			text = append(text, '\n')
		}
		l = bytes.TrimPrefix(l, []byte("- "))
		text = append(text, bytes.TrimRight(l, " \t")...)
	}
	end := bytes.Index(rest, clearSignedEnd)
	if end < 0 {
		return nil, errors.New("the signature of the signed message is cut short")
	}
	_, body, _, err := dearmor(rest[:end+len(clearSignedEnd)])
	if err != nil {
		return nil, foreign("signature of a signed message", err)
	}
	sig, err := ParsePGPPacket(body)
	if err != nil {
		return nil, err
	}
	return &ClearSigned{Text: text, Signed: bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n")), Signature: sig}, nil
}
