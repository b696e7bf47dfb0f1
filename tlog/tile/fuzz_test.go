package tile

import (
	"bytes"
	"encoding/binary"
	"math"
	"strings"
	"testing"

	sumdb "golang.org/x/mod/sumdb/tlog"

	"github.com/sigstack/sigstack/test/fuzz"
)

// A path has one spelling, and Go's checksum database, whose paths say the
// height of a tile first, reads the same out of it.
func FuzzPath(f *testing.F) {
	seeds := fuzz.Seeds("tile/0/000", "tile/3/x001/x234/067.p/8", "tile/entries/x001/000", "tile/63/x999/999.p/255",
		"tile/0/x018/x446/x744/x073/x709/x551/615")
	parse := func(in []byte) (Tile, error) { return ParsePath(string(in)) }
	fuzz.Run(f, seeds, parse, func(t *testing.T, in []byte, got Tile, err error) {
		path := string(in)
		if err == nil && got.Path() != path {
			t.Fatalf("%q has a second spelling %q", path, got.Path())
		}
		rest, ok := strings.CutPrefix(path, "tile/")
		if !ok || strings.HasPrefix(rest, "data/") {
			return
		}
		if after, entries := strings.CutPrefix(rest, "entries/"); entries {
			rest = "data/" + after
		}
		other, otherErr := sumdb.ParseTilePath("tile/8/" + rest)
		switch {
		case err == nil && got.Index > math.MaxInt64: // theirs are signed
		case err == nil && otherErr != nil:
			t.Fatalf("%q is accepted here and refused by x/mod: %v", path, otherErr)
		case err != nil && otherErr == nil && other.L <= MaxLevel:
			t.Fatalf("%q is refused here and read by x/mod as %+v", path, other)
		case err == nil:
			want := sumdb.Tile{H: 8, L: got.Level, N: int64(got.Index), W: got.Width}
			if got.Entries {
				want.L = -1
			}
			if other != want {
				t.Fatalf("%q is %+v here and %+v for x/mod", path, got, other)
			}
		}
	})
}

// widthOf cuts the width, two bytes, off an input.
func widthOf(in []byte) (width int, body []byte) {
	if len(in) < 2 {
		return 0, nil
	}
	return int(binary.BigEndian.Uint16(in)), in[2:]
}

func FuzzEntries(f *testing.F) {
	var full []*fuzz.Node
	for range Width {
		full = append(full, fuzz.Prefixed(2, fuzz.Text("value")))
	}
	seeds := []*fuzz.Node{
		fuzz.Seq(fuzz.Leaf([]byte{0, 2}), fuzz.Prefixed(2, fuzz.Text("a")), fuzz.Prefixed(2)),
		fuzz.Seq(append([]*fuzz.Node{fuzz.Leaf([]byte{1, 0})}, full...)...),
	}
	parse := func(in []byte) ([][]byte, error) {
		width, bundle := widthOf(in)
		return ParseEntries(bundle, width)
	}
	fuzz.Run(f, seeds, parse, func(t *testing.T, in []byte, values [][]byte, err error) {
		if err != nil {
			return
		}
		var again []byte
		for _, v := range values {
			if again, err = AppendEntry(again, v); err != nil {
				t.Fatal(err)
			}
		}
		if width, bundle := widthOf(in); !bytes.Equal(again, bundle) || len(values) != width {
			t.Fatalf("%x has a second spelling %x", bundle, again)
		}
	})
}

func FuzzHashes(f *testing.F) {
	seeds := []*fuzz.Node{
		fuzz.Seq(fuzz.Leaf([]byte{0, 1}), fuzz.Leaf(make([]byte, HashSize))),
		fuzz.Seq(fuzz.Leaf([]byte{1, 0}), fuzz.Leaf(make([]byte, Width*HashSize))),
	}
	parse := func(in []byte) ([][HashSize]byte, error) {
		width, body := widthOf(in)
		return ParseHashes(body, width)
	}
	fuzz.Run(f, seeds, parse, func(t *testing.T, in []byte, hashes [][HashSize]byte, err error) {
		width, body := widthOf(in)
		if err == nil && (len(hashes) != width || !bytes.Equal(AppendHashes(nil, hashes), body)) {
			t.Fatal("a tile has a second spelling")
		}
	})
}
