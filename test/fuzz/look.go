package fuzz

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"strings"
	"unicode/utf8"
)

// maxDepth bounds how deep Look looks. The deepest input of this module is a
// certificate in PEM in base64 in a JSON string.
const maxDepth = 24

// Look finds the structure of an input by its looks: JSON, PEM, DER, the strings
// of SSH, a compact JWS, base64, what a form encodes, lines and words. Whatever it finds inside
// of one of these it looks at again.
//
// It renders to the bytes that it was given, unless something is mutated. What
// it takes for something that it is not does no harm: it is mutated all the
// same.
func Look(b []byte) *Node { return look(b, 0) }

func look(b []byte, depth int) *Node {
	if depth > maxDepth || len(b) == 0 {
		return Leaf(b)
	}
	for _, try := range []func([]byte, int) *Node{lookJSON, lookPEM, lookDER, lookStrings, lookJWS, lookBase64, lookForm, lookLines, lookWords} {
		// Where an encoding has more than one form and ours is another, this is
		// not the structure of these bytes.
		if n := try(b, depth+1); n != nil && bytes.Equal(n.raw, b) {
			return n
		}
	}
	return Leaf(b)
}

// lookJSON takes a JSON object or array apart. White space between its tokens
// does not survive a mutation.
func lookJSON(b []byte, depth int) *Node {
	if text := bytes.TrimSpace(b); len(text) < 2 || text[0] != '{' && text[0] != '[' || !json.Valid(b) {
		return nil
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	n := jsonValue(dec, depth)
	if n == nil {
		return nil
	}
	return n.spelled(b)
}

func jsonValue(dec *json.Decoder, depth int) *Node {
	token, err := dec.Token()
	if err != nil {
		return nil
	}
	switch v := token.(type) {
	case string:
		return Join(func(kids [][]byte) []byte { return quote(bytes.Join(kids, nil)) }, look([]byte(v), depth+1))
	case json.Delim:
		var kids []*Node
		for dec.More() {
			kid := jsonValue(dec, depth+1)
			if v == '{' && kid != nil {
				if value := jsonValue(dec, depth+1); value != nil {
					kid = Join(func(kids [][]byte) []byte { return bytes.Join(kids, []byte{':'}) }, kid, value)
				}
			}
			if kid == nil {
				return nil
			}
			kids = append(kids, kid)
		}
		if _, err := dec.Token(); err != nil {
			return nil
		}
		end := byte(v) + 2 // '{' and '}', '[' and ']' are two apart
		return Join(func(kids [][]byte) []byte {
			return bytes.Join([][]byte{{byte(v)}, bytes.Join(kids, []byte{','}), {end}}, nil)
		}, kids...)
	}
	return Text(fmt.Sprint(jsonScalar(token)))
}

func jsonScalar(token json.Token) any {
	if token == nil {
		return "null"
	}
	return token
}

// quote writes a JSON string. Unlike json.Marshal it leaves bytes that are not
// UTF-8 as they are.
func quote(b []byte) []byte {
	out := make([]byte, 0, len(b)+2)
	out = append(out, '"')
	for _, c := range b {
		switch {
		case c == '"' || c == '\\':
			out = append(out, '\\', c)
		case c == '\n':
			out = append(out, `\n`...)
		case c < ' ':
			out = fmt.Appendf(out, `\u%04x`, c)
		default:
			out = append(out, c)
		}
	}
	return append(out, '"')
}

// lookPEM takes PEM blocks apart: the label, and what is in it.
func lookPEM(b []byte, depth int) *Node {
	if !bytes.HasPrefix(b, []byte("-----BEGIN ")) {
		return nil
	}
	var blocks []*Node
	for rest := b; len(rest) > 0; {
		block, after := pem.Decode(rest)
		if block == nil || len(block.Headers) > 0 {
			blocks = append(blocks, Leaf(rest))
			break
		}
		text := rest[:len(rest)-len(after)]
		n := Join(func(kids [][]byte) []byte {
			if len(kids) == 0 {
				return nil
			}
			return pem.EncodeToMemory(&pem.Block{Type: string(kids[0]), Bytes: bytes.Join(kids[1:], nil)})
		}, Text(block.Type), look(block.Bytes, depth))
		blocks = append(blocks, n.spelled(text))
		rest = after
	}
	return Seq(blocks...)
}

// lookDER takes elements in DER apart, of which the first is constructed: the
// tag, and what is in it. Lengths follow a mutation.
func lookDER(b []byte, depth int) *Node {
	if len(b) < 2 || b[0]&0x20 == 0 {
		return nil
	}
	return elements(b, depth)
}

func elements(b []byte, depth int) *Node {
	var all []*Node
	for len(b) > 0 {
		tag, content, rest, ok := element(b)
		if !ok || depth > maxDepth {
			return nil
		}
		var inner *Node
		switch {
		case tag&0x20 != 0:
			inner = elements(content, depth+1)
		case tag == 4 && len(content) > 0: // OCTET STRING
			inner = elements(content, depth+1)
		case tag == 3 && len(content) > 1 && content[0] == 0: // BIT STRING
			if n := elements(content[1:], depth+1); n != nil {
				inner = Seq(Leaf(content[:1]), n)
			}
		}
		if inner == nil {
			inner = Leaf(content)
		}
		all = append(all, Join(func(kids [][]byte) []byte {
			if len(kids) == 0 {
				return nil
			}
			return appendElement(kids[0], bytes.Join(kids[1:], nil))
		}, Leaf([]byte{tag}), inner))
		b = rest
	}
	if len(all) == 1 {
		return all[0]
	}
	return Seq(all...)
}

// element cuts one DER element with a tag of one byte off b.
func element(b []byte) (tag byte, content, rest []byte, ok bool) {
	if len(b) < 2 || b[0]&0x1f == 0x1f {
		return 0, nil, nil, false
	}
	tag, n := b[0], int(b[1])
	b = b[2:]
	if n >= 0x80 {
		digits := n - 0x80
		if digits < 1 || digits > 3 || len(b) < digits {
			return 0, nil, nil, false
		}
		n = 0
		for _, c := range b[:digits] {
			n = n<<8 | int(c)
		}
		b = b[digits:]
	}
	if len(b) < n {
		return 0, nil, nil, false
	}
	return tag, b[:n], b[n:], true
}

// appendElement puts a tag and a DER length before content of less than 2^24 bytes.
func appendElement(tag, content []byte) []byte {
	out := bytes.Clone(tag)
	switch n := len(content); {
	case n < 0x80:
		out = append(out, byte(n))
	case n < 1<<8:
		out = append(out, 0x81, byte(n))
	case n < 1<<16:
		out = append(out, 0x82, byte(n>>8), byte(n))
	default:
		out = append(out, 0x83, byte(n>>16), byte(n>>8), byte(n))
	}
	return append(out, content...)
}

// lookStrings takes strings with four bytes of length before them apart (RFC
// 4251, section 5), which may stand behind the first ten bytes of a signature
// of ssh-keygen.
func lookStrings(b []byte, depth int) *Node {
	var kids []*Node
	if bytes.HasPrefix(b, []byte("SSHSIG")) && len(b) > 10 {
		kids = append(kids, Leaf(b[:6]), Leaf(b[6:10]))
		b = b[10:]
	}
	if len(b) < 8 || bytes.HasPrefix(b, []byte{0, 0, 0, 0, 0}) {
		return nil
	}
	for len(b) > 0 {
		if len(b) < 4 || uint64(len(b)-4) < uint64(binary.BigEndian.Uint32(b)) {
			return nil
		}
		n := 4 + int(binary.BigEndian.Uint32(b))
		kids = append(kids, Prefixed(4, look(b[4:n], depth)))
		b = b[n:]
	}
	return Seq(kids...)
}

// lookJWS takes a compact JWS apart (RFC 7515, section 7.1).
func lookJWS(b []byte, depth int) *Node {
	parts := strings.Split(string(b), ".")
	if len(parts) != 3 || len(b) < 20 {
		return nil
	}
	var kids []*Node
	for _, p := range parts {
		raw, err := base64.RawURLEncoding.DecodeString(p)
		if err != nil {
			return nil
		}
		kids = append(kids, Join(func(kids [][]byte) []byte {
			return base64.RawURLEncoding.AppendEncode(nil, bytes.Join(kids, nil))
		}, look(raw, depth)))
	}
	return Join(func(kids [][]byte) []byte { return bytes.Join(kids, []byte{'.'}) }, kids...)
}

// lookBase64 takes standard base64 with padding off what it encodes.
func lookBase64(b []byte, depth int) *Node {
	if len(b) < 8 || len(b)%4 != 0 {
		return nil
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(string(b))
	if err != nil {
		return nil
	}
	return Join(func(kids [][]byte) []byte {
		return base64.StdEncoding.AppendEncode(nil, bytes.Join(kids, nil))
	}, look(raw, depth))
}

// lookForm takes parameters apart, as in the query of a URL.
func lookForm(b []byte, depth int) *Node {
	if !bytes.ContainsRune(b, '=') || bytes.ContainsAny(b, " \n\"{") || b[0] == '-' || !utf8.Valid(b) {
		return nil
	}
	var kids []*Node
	for pair := range bytes.SplitSeq(b, []byte{'&'}) {
		kids = append(kids, split(pair, "=", depth))
	}
	return Join(func(kids [][]byte) []byte { return bytes.Join(kids, []byte{'&'}) }, kids...)
}

// lookLines takes text apart at line breaks.
func lookLines(b []byte, depth int) *Node {
	if !bytes.ContainsRune(b, '\n') || !utf8.Valid(b) {
		return nil
	}
	return split(b, "\n", depth)
}

// lookWords takes text apart at spaces, or at the slashes of a path.
func lookWords(b []byte, depth int) *Node {
	if !utf8.Valid(b) {
		return nil
	}
	for _, sep := range []string{" ", "/"} {
		if bytes.Contains(b, []byte(sep)) {
			return split(b, sep, depth)
		}
	}
	return nil
}

func split(b []byte, sep string, depth int) *Node {
	var kids []*Node
	for part := range bytes.SplitSeq(b, []byte(sep)) {
		kids = append(kids, look(part, depth))
	}
	return Join(func(kids [][]byte) []byte { return bytes.Join(kids, []byte(sep)) }, kids...)
}
