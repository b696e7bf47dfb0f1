package tlog

import (
	"math/bits"
	"slices"
)

// tileHeight and tileWidth are the tile geometry of C2SP tlog-tiles.
const (
	tileHeight = 8
	tileWidth  = 1 << tileHeight
)

// A tileNodes holds the complete nodes of one tile: nodes[k] are those of
// height k above the tile's bottom row, from left to right. A full tile has
// 256, 128, ... 2 nodes; its top node belongs to the tile above.
type tileNodes [tileHeight][]Hash

// An edge is the right edge of a tree: for each row of tiles the rightmost
// one, with its inner nodes.
//
// Slices only grow at their end, and a clone shares their memory: an edge that
// was published is never changed by an append to its clone, because the
// append writes behind the lengths that the published edge sees.
type edge struct {
	size uint64
	rows []tileNodes
}

func (e edge) clone() edge {
	return edge{size: e.size, rows: slices.Clone(e.rows)}
}

// push appends a leaf hash and reports each tile that it fills.
func (e *edge) push(leaf Hash, full func(level int, index uint64, t tileNodes)) {
	e.size++
	h := leaf
	for level := 0; ; level++ {
		if level == len(e.rows) {
			e.rows = append(e.rows, tileNodes{})
		}
		row := &e.rows[level]
		k := 0
		for ; k < tileHeight; k++ {
			if row[k] == nil {
				row[k] = make([]Hash, 0, tileWidth>>k)
			}
			row[k] = append(row[k], h)
			n := len(row[k])
			if n%2 == 1 {
				return
			}
			h = NodeHash(row[k][n-2], row[k][n-1])
		}
		// The tile is full: h is its top node, which belongs to the row above.
		full(level, e.size>>(tileHeight*(level+1))-1, *row)
		*row = tileNodes{}
	}
}

// node returns the node (height, index) if it is complete and lies on the edge.
func (e edge) node(height int, index uint64) (Hash, bool) {
	level, k := height/tileHeight, height%tileHeight
	if level >= len(e.rows) {
		return Hash{}, false
	}
	first := e.size >> (tileHeight * (level + 1)) << (tileHeight - k)
	if index < first || index-first >= uint64(len(e.rows[level][k])) {
		return Hash{}, false
	}
	return e.rows[level][k][index-first], true
}

// root folds the peaks of the tree, from the smallest to the largest.
func (e edge) root() Hash {
	if e.size == 0 {
		return emptyRoot
	}
	height := bits.TrailingZeros64(e.size)
	root, _ := e.node(height, e.size>>height-1)
	for height++; e.size>>height > 0; height++ {
		if e.size>>height&1 == 1 {
			peak, _ := e.node(height, e.size>>height-1)
			root = NodeHash(peak, root)
		}
	}
	return root
}

// newTile computes the inner nodes over a tile's bottom row.
func newTile(bottom []Hash) tileNodes {
	var t tileNodes
	for k := 0; k < tileHeight && len(bottom) > 0; k++ {
		t[k] = append(make([]Hash, 0, tileWidth>>k), bottom...)
		up := make([]Hash, 0, len(bottom)/2)
		for i := 0; i+1 < len(bottom); i += 2 {
			up = append(up, NodeHash(bottom[i], bottom[i+1]))
		}
		bottom = up
	}
	return t
}

// top returns the top node of a full tile.
func (t tileNodes) top() Hash {
	return NodeHash(t[tileHeight-1][0], t[tileHeight-1][1])
}
