package tlog

import (
	"context"
	"fmt"

	"github.com/sigstack/sigstack/tlog/checkpoint"
)

// A Held log is one that nobody serves from its directory, and nobody can while
// it is held: its second memory is locked.
type Held struct {
	Tree *Tree // what the store holds; it has no checkpoint

	log *Log
}

// Hold opens the second memory of a log and checks that a store continues it,
// as Open does. It signs nothing and runs nothing.
//
// The store need not be the one that lies beside the memory. That of a copy
// which is not complete is held over the store that is copied.
func Hold(ctx context.Context, store Store, opts Options) (*Held, error) {
	l, err := newLog(ctx, store, opts)
	if err != nil {
		return nil, err
	}
	tree, err := l.read(ctx)
	if err != nil {
		l.memory.close()
		return nil, fmt.Errorf("checking log %q: %w", opts.Signer.Origin(), err)
	}
	return &Held{Tree: tree, log: l}, nil
}

// Remember signs the tree that was read, and makes that durable in the second
// memory: a Log that is opened on it refuses every store that has not got as
// far.
func (h *Held) Remember() error {
	if h.Tree.Size == h.log.last.Size && h.Tree.Size > 0 {
		return nil // and the root is the same
	}
	note, err := h.log.opts.Signer.Sign(h.Tree.Size, h.Tree.Root)
	if err != nil {
		return err
	}
	if err := h.log.memory.write(note); err != nil {
		return fmt.Errorf("writing the second memory: %w", err)
	}
	return nil
}

// Close gives the log free.
func (h *Held) Close() error { return h.log.memory.close() }

// A Reserved log is one whose store does not have its tree yet.
type Reserved struct {
	memory *memory
	signer *checkpoint.Signer
}

// Reserve opens the second memory of a log. Nobody else can open it until Close.
func Reserve(memory string, signer *checkpoint.Signer) (*Reserved, error) {
	m, _, _, err := openMemory(memory, signer.Verifier)
	if err != nil {
		return nil, err
	}
	return &Reserved{m, signer}, nil
}

// Remember signs the tree that the store has got, and makes that durable in the second
// memory: a Log may be opened on it.
func (r *Reserved) Remember(size uint64, root Hash) error {
	note, err := r.signer.Sign(size, root)
	if err != nil {
		return err
	}
	if err := r.memory.write(note); err != nil {
		return fmt.Errorf("writing the second memory: %w", err)
	}
	return nil
}

// Close gives the log free.
func (r *Reserved) Close() error { return r.memory.close() }
