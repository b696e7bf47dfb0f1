package rekor

import (
	"encoding/binary"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/sigstack/sigstack/test/fuzz"
)

// An ID is read as its bytes say, in either case, and has one spelling in what
// we write.
func FuzzParseID(f *testing.F) {
	seeds := fuzz.Seeds(strings.Repeat("0123456789abcdef", 4), strings.Repeat("0123456789ABCDEF", 5), strings.Repeat("f", 80), strings.Repeat("0", 80))
	parse := func(in []byte) (ID, error) { return ParseID(string(in)) }
	fuzz.Run(f, seeds, parse, func(t *testing.T, in []byte, id ID, err error) {
		s := string(in)
		raw, hexErr := hex.DecodeString(s)
		shaped := hexErr == nil && (len(raw) == 32 || len(raw) == 40)
		if IsID(s) != shaped {
			t.Errorf("IsID(%q) is %v", s, IsID(s))
		}
		if err != nil {
			if shaped && len(raw) == 32 {
				t.Errorf("%q is refused: %v", s, err)
			}
			return
		}
		if !shaped || id.String() != strings.ToLower(s) {
			t.Fatalf("%q reads back as %q", s, id)
		}
		if len(raw) == 40 && int64(binary.BigEndian.Uint64(raw)) != id.Tree || [32]byte(raw[len(raw)-32:]) != id.Leaf {
			t.Errorf("%q is read as %+v", s, id)
		}
		if again, err := ParseID(id.String()); err != nil || again != id {
			t.Errorf("%q: %v", id, err)
		}
	})
}
