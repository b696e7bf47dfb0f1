package tlog

import (
	"context"
	"fmt"
	"math/bits"
	"sync"

	"github.com/transparency-dev/merkle/proof"
)

// A Tree is a published state of a log: a head, the checkpoint that was signed
// for it, and proofs that belong to it. It never changes; any goroutine may
// use it for as long as it likes.
type Tree struct {
	Head
	Checkpoint []byte // the signed note for exactly this head

	edge  edge
	tiles *tiles
}

// Inclusion returns the audit path (RFC 6962, section 2.1.1) of the leaf
// index in the tree of the given size, which may be smaller than t's. It
// returns ErrNotFound where t does not reach.
func (t *Tree) Inclusion(ctx context.Context, index, size uint64) ([]Hash, error) {
	if size > t.Size || index >= size {
		return nil, fmt.Errorf("%w: no leaf %d in a tree of size %d; the published tree has size %d", ErrNotFound, index, size, t.Size)
	}
	nodes, err := proof.Inclusion(index, size)
	if err != nil {
		return nil, err
	}
	return t.prove(ctx, nodes)
}

// Consistency returns the proof (RFC 6962, section 2.1.2) that the tree of
// size from is a prefix of the tree of size to. It is empty where from is zero
// or equal to to.
func (t *Tree) Consistency(ctx context.Context, from, to uint64) ([]Hash, error) {
	if to > t.Size || from > to {
		return nil, fmt.Errorf("%w: no sizes %d and %d; the published tree has size %d", ErrNotFound, from, to, t.Size)
	}
	if from == 0 || from == to {
		return nil, nil
	}
	nodes, err := proof.Consistency(from, to)
	if err != nil {
		return nil, err
	}
	return t.prove(ctx, nodes)
}

// LeafHash returns the leaf hash at an index.
func (t *Tree) LeafHash(ctx context.Context, index uint64) (Hash, error) {
	if index >= t.Size {
		return Hash{}, fmt.Errorf("%w: no leaf %d; the published tree has size %d", ErrNotFound, index, t.Size)
	}
	return t.node(ctx, 0, index)
}

// RootAt returns the root that the log had at a size.
func (t *Tree) RootAt(ctx context.Context, size uint64) (Hash, error) {
	if size > t.Size {
		return Hash{}, fmt.Errorf("%w: no size %d; the published tree has size %d", ErrNotFound, size, t.Size)
	}
	if size == 0 {
		return emptyRoot, nil
	}
	// The peaks of an older tree are complete nodes of the newer one.
	height := bits.TrailingZeros64(size)
	root, err := t.node(ctx, height, size>>height-1)
	for height++; err == nil && size>>height > 0; height++ {
		if size>>height&1 == 1 {
			var peak Hash
			peak, err = t.node(ctx, height, size>>height-1)
			root = NodeHash(peak, root)
		}
	}
	return root, err
}

// prove reads the nodes of a proof.
func (t *Tree) prove(ctx context.Context, nodes proof.Nodes) ([]Hash, error) {
	hashes := make([][]byte, len(nodes.IDs))
	for i, id := range nodes.IDs {
		h, err := t.node(ctx, int(id.Level), id.Index)
		if err != nil {
			return nil, err
		}
		hashes[i] = h[:]
	}
	hashes, err := nodes.Rehash(hashes, func(left, right []byte) []byte {
		h := NodeHash(Hash(left), Hash(right))
		return h[:]
	})
	if err != nil {
		return nil, err
	}
	out := make([]Hash, len(hashes))
	for i := range hashes {
		out[i] = Hash(hashes[i])
	}
	return out, nil
}

// node returns a complete node, from the edge or from a full tile.
func (t *Tree) node(ctx context.Context, height int, index uint64) (Hash, error) {
	if h, ok := t.edge.node(height, index); ok {
		return h, nil
	}
	level, k := height/tileHeight, height%tileHeight
	full, err := t.fullTile(ctx, level, index>>(tileHeight-k))
	if err != nil {
		return Hash{}, err
	}
	return full[k][index&(1<<(tileHeight-k)-1)], nil
}

// fullTile returns a full tile. A tile that is read from the store is checked
// against its top node, which lies in the row above, which was checked in the
// same way, up to the edge, whose root was signed.
func (t *Tree) fullTile(ctx context.Context, level int, index uint64) (tileNodes, error) {
	if tile, ok := t.tiles.get(level, index); ok {
		return tile, nil
	}
	want, err := t.node(ctx, (level+1)*tileHeight, index)
	if err != nil {
		return tileNodes{}, err
	}
	bottom, err := t.tiles.store.Tile(ctx, level, index, tileWidth)
	if err != nil {
		return tileNodes{}, unavailable("reading tile %d/%d: %w", level, index, err)
	}
	if len(bottom) != tileWidth {
		return tileNodes{}, fmt.Errorf("%w: tile %d/%d has %d hashes, not %d", ErrIntegrity, level, index, len(bottom), tileWidth)
	}
	tile := newTile(bottom)
	if tile.top() != want {
		return tileNodes{}, fmt.Errorf("%w: tile %d/%d does not hash to its node in the tree", ErrIntegrity, level, index)
	}
	t.tiles.put(level, index, tile)
	return tile, nil
}

// tiles caches full tiles that were checked. They are immutable, so one cache
// serves every Tree of a log. It keeps two generations of at most half its
// bound each; what is used moves to the young one, and the old one is dropped
// when the young one is full.
type tiles struct {
	store Store

	mu         sync.Mutex
	young, old map[tileID]tileNodes
}

type tileID struct {
	level int
	index uint64
}

// maxTiles bounds the cache: 512 tiles of 16 KiB are 8 MiB a log.
const maxTiles = 512

func newTiles(store Store) *tiles {
	return &tiles{store: store, young: make(map[tileID]tileNodes)}
}

func (c *tiles) get(level int, index uint64) (tileNodes, bool) {
	id := tileID{level, index}
	c.mu.Lock()
	defer c.mu.Unlock()
	t, ok := c.young[id]
	if !ok {
		if t, ok = c.old[id]; ok {
			c.keep(id, t)
		}
	}
	return t, ok
}

func (c *tiles) put(level int, index uint64, t tileNodes) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keep(tileID{level, index}, t)
}

func (c *tiles) keep(id tileID, t tileNodes) {
	if len(c.young) >= maxTiles/2 {
		c.old, c.young = c.young, make(map[tileID]tileNodes)
	}
	c.young[id] = t
}
