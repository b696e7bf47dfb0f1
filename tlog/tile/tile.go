// Package tile spells the paths and bodies of C2SP tlog-tiles: how a log is
// cut into files that any cache can serve.
//
// A hash tile holds up to 256 consecutive nodes of one height, 32 bytes each.
// An entry bundle holds the values of up to 256 consecutive leaves, each with
// a big-endian 16-bit length before it. Paths are
//
//	tile/<level>/<index>[.p/<width>]
//	tile/entries/<index>[.p/<width>]
//
// where level counts in steps of eight heights (0 to 63), the index is written
// in groups of three digits, all but the last with an x before them (1234067
// is x001/x234/067), and the width (1 to 255) is there for partial tiles only.
//
// Every value has exactly one spelling: a path is accepted only if formatting
// its value gives the same path back.
package tile

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
)

// Width is the number of hashes in a full tile and of entries in a full bundle.
const Width = 256

// HashSize is the length of a node hash in bytes.
const HashSize = 32

// MaxLevel is the highest level that the specification allows.
const MaxLevel = 63

// A Tile names a hash tile, or an entry bundle.
type Tile struct {
	Entries bool   // an entry bundle; Level is then zero
	Level   int    // 0 to MaxLevel
	Index   uint64 // from the left
	Width   int    // 1 to 256; 256 is a full tile
}

// Path returns the path of t, without a leading slash.
func (t Tile) Path() string {
	var b strings.Builder
	b.WriteString("tile/")
	if t.Entries {
		b.WriteString("entries")
	} else {
		b.WriteString(strconv.Itoa(t.Level))
	}
	var groups []string
	for n := t.Index; ; n /= 1000 {
		groups = append(groups, fmt.Sprintf("%03d", n%1000))
		if n < 1000 {
			break
		}
	}
	for i := len(groups) - 1; i > 0; i-- {
		b.WriteString("/x" + groups[i])
	}
	b.WriteString("/" + groups[0])
	if t.Width != Width {
		fmt.Fprintf(&b, ".p/%d", t.Width)
	}
	return b.String()
}

// maxPath bounds a path: seven groups for 2^64 and the rest around them.
const maxPath = 64

// ParsePath reads a path as Path writes it.
func ParsePath(path string) (Tile, error) {
	bad := fmt.Errorf("tile path %.80q: want tile/<level or entries>/<index in x-groups of three digits>[.p/<1 to 255>]", path)
	if len(path) > maxPath {
		return Tile{}, bad
	}
	rest, ok := strings.CutPrefix(path, "tile/")
	level, rest, ok2 := strings.Cut(rest, "/")
	if !ok || !ok2 {
		return Tile{}, bad
	}
	t := Tile{Entries: level == "entries", Width: Width}
	var err error
	if !t.Entries {
		if t.Level, err = strconv.Atoi(level); err != nil || t.Level < 0 || t.Level > MaxLevel {
			return Tile{}, bad
		}
	}
	if index, width, partial := strings.Cut(rest, ".p/"); partial {
		rest = index
		if t.Width, err = strconv.Atoi(width); err != nil || t.Width < 1 || t.Width >= Width {
			return Tile{}, bad
		}
	}
	digits := strings.NewReplacer("/", "", "x", "").Replace(rest)
	if t.Index, err = strconv.ParseUint(digits, 10, 64); err != nil || t.Path() != path {
		return Tile{}, bad
	}
	return t, nil
}

// ParseHashes cuts the body of a hash tile of the given width.
func ParseHashes(body []byte, width int) ([][HashSize]byte, error) {
	if len(body) != width*HashSize {
		return nil, fmt.Errorf("hash tile has %d bytes, want %d for a width of %d", len(body), width*HashSize, width)
	}
	hashes := make([][HashSize]byte, width)
	for i := range hashes {
		hashes[i] = [HashSize]byte(body[i*HashSize:])
	}
	return hashes, nil
}

// AppendHashes appends the body of a hash tile.
func AppendHashes(body []byte, hashes [][HashSize]byte) []byte {
	for _, h := range hashes {
		body = append(body, h[:]...)
	}
	return body
}

// MaxEntry is the length of the longest leaf value that fits into a bundle, in bytes.
const MaxEntry = 1<<16 - 1

// AppendEntry appends one leaf value to an entry bundle.
func AppendEntry(bundle, value []byte) ([]byte, error) {
	if len(value) > MaxEntry {
		return nil, fmt.Errorf("leaf value has %d bytes, an entry bundle holds at most %d", len(value), MaxEntry)
	}
	bundle = binary.BigEndian.AppendUint16(bundle, uint16(len(value)))
	return append(bundle, value...), nil
}

// ParseEntries cuts an entry bundle into its leaf values, which must be
// exactly width many. The values share memory with the bundle.
func ParseEntries(bundle []byte, width int) ([][]byte, error) {
	if width < 1 || width > Width {
		return nil, fmt.Errorf("entry bundle width %d, want 1 to %d", width, Width)
	}
	values := make([][]byte, 0, width)
	for len(bundle) > 0 {
		if len(bundle) < 2 || len(bundle)-2 < int(binary.BigEndian.Uint16(bundle)) || len(values) == width {
			return nil, fmt.Errorf("entry bundle does not hold %d entries with 16-bit lengths before them", width)
		}
		n := 2 + int(binary.BigEndian.Uint16(bundle))
		values = append(values, bundle[2:n:n])
		bundle = bundle[n:]
	}
	if len(values) != width {
		return nil, fmt.Errorf("entry bundle has %d entries, want %d", len(values), width)
	}
	return values, nil
}
