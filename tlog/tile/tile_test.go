package tile

import (
	"bytes"
	"math"
	"slices"
	"strings"
	"testing"
)

func TestPath(t *testing.T) {
	for path, want := range map[string]Tile{
		"tile/0/000":                               {Level: 0, Index: 0, Width: 256},
		"tile/63/999":                              {Level: 63, Index: 999, Width: 256},
		"tile/3/x001/x234/067":                     {Level: 3, Index: 1234067, Width: 256}, // the example of C2SP tlog-tiles
		"tile/3/x001/x234/067.p/8":                 {Level: 3, Index: 1234067, Width: 8},
		"tile/entries/x001/000":                    {Entries: true, Index: 1000, Width: 256},
		"tile/entries/x001/000.p/255":              {Entries: true, Index: 1000, Width: 255},
		"tile/0/x018/x446/x744/x073/x709/x551/615": {Level: 0, Index: math.MaxUint64, Width: 256},
	} {
		got, err := ParsePath(path)
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v", path, got, err)
		}
		if p := want.Path(); p != path {
			t.Errorf("%+v: %s, want %s", want, p, path)
		}
	}
	for _, path := range []string{
		"", "tile", "tile/", "tile/0", "tile/0/", "tile/0/0", "tile/0/00", "tile/0/0000", "tile/00/000", "tile/64/000",
		"tile/-1/000", "tile/+1/000", "tile/0/x000/000", "tile/0/001/000", "tile/0/x001", "tile/0/x001/x000", "/tile/0/000",
		"tile/0/000/", "tile/0/000.p/0", "tile/0/000.p/256", "tile/0/000.p/01", "tile/0/000.p/+1", "tile/0/000.p/", "tile/0/000.p/1/",
		"tile/0/../000", "tile/0/%2e%2e/000", "tile/0/x001//000", `tile\0\000`, "tile/0/\u0660\u0660\u0660", "tile/0/xx01/000",
		"tile/0/000\x00", "tile/entries", "tile/entries/000.p/x", "tile/data/000", "tile/0/x018/x446/x744/x073/x709/x551/616",
		"tile/0/" + strings.Repeat("x000/", 100) + "000",
	} {
		if got, err := ParsePath(path); err == nil {
			t.Errorf("%q is accepted as %+v", path, got)
		}
	}
}

func TestHashes(t *testing.T) {
	hashes := [][HashSize]byte{{1}, {2}, {3}}
	body := AppendHashes(nil, hashes)
	got, err := ParseHashes(body, 3)
	if err != nil || !slices.Equal(got, hashes) {
		t.Fatalf("%v, %v", got, err)
	}
	for _, width := range []int{2, 4} {
		if _, err := ParseHashes(body, width); err == nil {
			t.Errorf("3 hashes are accepted as %d", width)
		}
	}
	if _, err := ParseHashes(body[1:], 3); err == nil {
		t.Error("a cut tile is accepted")
	}
}

func TestEntries(t *testing.T) {
	var bundle []byte
	values := [][]byte{[]byte("a"), {}, bytes.Repeat([]byte("b"), MaxEntry)}
	for _, v := range values {
		var err error
		if bundle, err = AppendEntry(bundle, v); err != nil {
			t.Fatal(err)
		}
	}
	got, err := ParseEntries(bundle, 3)
	if err != nil || !slices.EqualFunc(got, values, bytes.Equal) {
		t.Fatalf("%d values, %v", len(got), err)
	}
	for name, b := range map[string][]byte{"cut": bundle[:len(bundle)-1], "trailing": append(bytes.Clone(bundle), 0)} {
		if _, err := ParseEntries(b, 3); err == nil {
			t.Errorf("%s bundle is accepted", name)
		}
	}
	for _, width := range []int{-1, 0, 2, 4, 257} {
		if _, err := ParseEntries(bundle, width); err == nil {
			t.Errorf("a bundle of 3 is accepted as %d", width)
		}
	}
	if _, err := AppendEntry(nil, make([]byte, MaxEntry+1)); err == nil {
		t.Error("an entry beyond the length prefix is accepted")
	}
}
