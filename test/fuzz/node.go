package fuzz

import "bytes"

// A Node is a piece of an input with its inner structure: either bytes, or
// pieces and the rule that joins them. It is not changed after it was made.
type Node struct {
	raw   []byte
	kids  []*Node
	join  func(kids [][]byte) []byte
	count int // of pieces, with this one
}

// Leaf is a piece without inner structure.
func Leaf(raw []byte) *Node { return &Node{raw: raw, count: 1} }

// Text is Leaf of a string.
func Text(s string) *Node { return Leaf([]byte(s)) }

// Join is a piece that a rule makes of others. The rule gets their bytes, or
// what a mutation put into their place: more pieces, fewer, or damaged ones.
func Join(rule func(kids [][]byte) []byte, kids ...*Node) *Node {
	n := &Node{kids: kids, join: rule, count: 1}
	parts := make([][]byte, len(kids))
	for i, k := range kids {
		parts[i] = k.raw
		n.count += k.count
	}
	n.raw = rule(parts)
	return n
}

// spelled is n where the input spells it in another way than its rule does. A
// mutation inside of it changes that spelling.
func (n *Node) spelled(raw []byte) *Node {
	return &Node{raw: raw, kids: n.kids, join: n.join, count: n.count}
}

// Seq is pieces one after the other.
func Seq(kids ...*Node) *Node {
	return Join(func(kids [][]byte) []byte { return bytes.Join(kids, nil) }, kids...)
}

// Prefixed is pieces with their length before them, as a big-endian number of
// size bytes.
func Prefixed(size int, kids ...*Node) *Node {
	return Join(func(kids [][]byte) []byte {
		content := bytes.Join(kids, nil)
		out := make([]byte, size, size+len(content))
		for i, n := size-1, len(content); i >= 0; i, n = i-1, n>>8 {
			out[i] = byte(n)
		}
		return append(out, content...)
	}, kids...)
}

// Bytes returns the input as it is without mutation.
func (n *Node) Bytes() []byte { return n.raw }

// at returns the piece at a place; places count from n, in the order in which
// pieces begin.
func (n *Node) at(place int) *Node {
	for place > 0 {
		place--
		for _, k := range n.kids {
			size := k.count
			if place < size {
				n = k
				break // with the places that are left in it
			}
			place -= size
		}
	}
	return n
}

// with renders n with the piece at a place replaced by others, of which there
// may be none.
func (n *Node) with(place int, pieces ...[]byte) []byte {
	if place == 0 {
		return bytes.Join(pieces, nil)
	}
	place--
	parts := make([][]byte, 0, len(n.kids)+len(pieces))
	for _, k := range n.kids {
		size := k.count
		switch {
		case place == 0:
			parts = append(parts, pieces...)
		case 0 < place && place < size:
			parts = append(parts, k.with(place, pieces...))
		default:
			parts = append(parts, k.raw)
		}
		place -= size
	}
	return n.join(parts)
}

// The ways to change a piece.
const (
	keep    = iota // the input as it is
	set            // the patch in its place
	remove         // nothing in its place
	twice          // the piece again behind it
	before         // the patch as a piece before it
	after          // the patch as a piece behind it
	extend         // the patch at the end of its bytes
	flip           // one byte changed
	cut            // its bytes up to somewhere
	drop           // one byte left out
	graft          // another piece of the input in its place
	upper          // its letters in capitals
	many           // the piece many times
	emptied        // the piece without what is in it
	howMany        // the number of ways
)

// maxMany bounds, in bytes, what "many" makes of a piece.
const maxMany = 64 << 10

// Mutate renders the input with one piece changed. Every value of place and
// how means something; patch says by what, or where.
func (n *Node) Mutate(place uint16, how uint8, patch []byte) []byte {
	total := n.count
	where := int(place) % total
	piece := n.at(where)
	// byteAt is where in the piece a byte is changed.
	byteAt := func() int {
		return (int(first(patch, 0)) | int(first(patch, 1))<<8) % len(piece.raw)
	}
	switch how := how % howMany; how {
	case keep:
		return bytes.Clone(n.raw)
	case remove:
		return n.with(where)
	case twice:
		return n.with(where, piece.raw, piece.raw)
	case before:
		return n.with(where, patch, piece.raw)
	case after:
		return n.with(where, piece.raw, patch)
	case extend:
		return n.with(where, bytes.Join([][]byte{piece.raw, patch}, nil))
	case graft:
		other := (int(first(patch, 0)) | int(first(patch, 1))<<8) % total
		return n.with(where, n.at(other).raw)
	case upper:
		return n.with(where, bytes.ToUpper(piece.raw))
	case many:
		times := min(1<<(first(patch, 0)%13), maxMany/max(len(piece.raw), 1)+1)
		return n.with(where, repeated(piece.raw, times)...)
	case emptied:
		if piece.join == nil {
			return n.with(where, nil)
		}
		return n.with(where, piece.join(nil))
	case flip, cut, drop:
		if len(piece.raw) == 0 {
			return n.with(where, patch)
		}
		b, i := bytes.Clone(piece.raw), byteAt()
		switch how {
		case flip:
			b[i] ^= max(first(patch, 2), 1)
		case cut:
			b = b[:i]
		case drop:
			b = append(b[:i], b[i+1:]...)
		}
		return n.with(where, b)
	}
	return n.with(where, patch)
}

func repeated(b []byte, times int) [][]byte {
	out := make([][]byte, times)
	for i := range out {
		out[i] = b
	}
	return out
}

// first returns a byte of b, or 0 behind its end.
func first(b []byte, i int) byte {
	if i < len(b) {
		return b[i]
	}
	return 0
}
