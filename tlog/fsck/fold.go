package fsck

import (
	"bytes"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/sigstack/sigstack/tlog/tile"
)

// tileHeight is how many heights of the tree one level of tiles spans.
const tileHeight = 8

// A fold computes the tree over the leaf hashes that are pushed, and compares
// the roots on its way with those that were signed. It keeps the right edge only.
type fold struct {
	nodes  *compact.Range
	expect map[uint64][]expected // by size
	out    *LogReport
	broken bool // a leaf was missing: nothing can be said about the tree after it
	wrong  bool // a root was not the expected one

	// tile, if set, is told of each tile: the full ones when they are
	// filled, the partial ones by finish.
	tile    func(level int, index uint64, hashes [][tile.HashSize]byte) error
	partial [][][tile.HashSize]byte // by level
}

// An expected root, and who says so.
type expected struct {
	root   [32]byte
	object string
}

func newFold(out *LogReport) *fold {
	ranges := &compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}
	return &fold{nodes: ranges.NewEmptyRange(0), expect: make(map[uint64][]expected), out: out}
}

func (f *fold) size() uint64 { return f.nodes.End() }

// want has the root compared when the tree has the given size. It is to be
// called before anything is pushed.
func (f *fold) want(size uint64, root [32]byte, object string) {
	f.expect[size] = append(f.expect[size], expected{root, object})
	if size == 0 {
		f.compare()
	}
}

func (f *fold) push(leafHash [32]byte) error {
	if f.broken {
		return nil
	}
	var failed error
	err := f.nodes.Append(leafHash[:], func(id compact.NodeID, hash []byte) {
		if f.tile == nil || id.Level%tileHeight != 0 || failed != nil {
			return
		}
		level := int(id.Level / tileHeight)
		for len(f.partial) <= level {
			f.partial = append(f.partial, nil)
		}
		f.partial[level] = append(f.partial[level], [32]byte(hash))
		if len(f.partial[level]) == tile.Width {
			failed = f.tile(level, id.Index/tile.Width, f.partial[level])
			f.partial[level] = f.partial[level][:0]
		}
	})
	if err != nil {
		return err
	}
	f.compare()
	return failed
}

// finish reports the partial tiles of the right edge.
func (f *fold) finish() error {
	if f.broken || f.tile == nil {
		return nil
	}
	for level, hashes := range f.partial {
		if len(hashes) > 0 {
			if err := f.tile(level, f.size()>>(tileHeight*(level+1)), hashes); err != nil {
				return err
			}
		}
	}
	return nil
}

// root returns the root at the present size.
func (f *fold) root() []byte {
	root, err := f.nodes.GetRootHash(nil)
	if err != nil || root == nil { // the range starts at 0: no error, nil where it is empty
		return rfc6962.DefaultHasher.EmptyRoot()
	}
	return root
}

func (f *fold) compare() {
	list, ok := f.expect[f.size()]
	if !ok {
		return
	}
	delete(f.expect, f.size())
	root := f.root()
	for _, e := range list {
		if !bytes.Equal(e.root[:], root) {
			f.wrong = true
			f.out.find(e.object, "it says that the root at size %d is %x, but the entries hash to %x", f.size(), e.root, root)
		}
	}
}
