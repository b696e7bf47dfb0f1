package rekor

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/sigstack/sigstack/tlog"
)

// Search returns the UUIDs of the entries that have any of the search keys or,
// with all set, of those that have every one. No keys find nothing. Keys are
// compared in lower case. Each UUID is there once; their order means nothing.
//
// The answer is as long as the number of matches, 80 bytes each; the protocol
// has neither pages nor a limit. A UUID may be found a moment before its entry
// can be fetched, because search keys are stored together with the entry and
// its checkpoint is published after that.
func (l *Log) Search(ctx context.Context, keys []string, all bool) ([]string, error) {
	shards, err := l.newest(ctx)
	if err != nil {
		return nil, err
	}
	uuids := []string{}
	for _, s := range shards {
		found, err := s.search(ctx, keys, all)
		if err != nil {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			return nil, fmt.Errorf("%w: looking up a search key: %w", tlog.ErrUnavailable, err)
		}
		uuids = slices.Grow(uuids, len(found))
		for _, h := range found {
			uuids = append(uuids, s.uuid(h))
		}
	}
	return uuids, nil
}

// search returns the leaf hashes of the entries of a shard, each once.
func (s *shard) search(ctx context.Context, keys []string, all bool) ([]tlog.Hash, error) {
	var found []tlog.Hash
	for i, key := range keys {
		hashes, err := s.lookup(ctx, strings.ToLower(key))
		if err != nil {
			return nil, err
		}
		switch {
		case i == 0 || !all:
			found = append(found, hashes...)
		default:
			match := make(map[tlog.Hash]bool, len(hashes))
			for _, h := range hashes {
				match[h] = true
			}
			found = slices.DeleteFunc(found, func(h tlog.Hash) bool { return !match[h] })
		}
		if all && len(found) == 0 {
			break
		}
	}
	seen := make(map[tlog.Hash]bool, len(found))
	return slices.DeleteFunc(found, func(h tlog.Hash) bool {
		again := seen[h]
		seen[h] = true
		return again
	}), nil
}

// lookup returns the leaf hashes of the entries with a key, some twice.
func (s *shard) lookup(ctx context.Context, key string) ([]tlog.Hash, error) {
	hashes, err := s.Index.Lookup(ctx, key)
	plain, ok := plainHash(key)
	if err != nil || !ok {
		return hashes, err
	}
	more, err := s.Index.Lookup(ctx, plain)
	return append(hashes, more...), err
}

// stored returns the search keys of an entry that are stored. Hashes of public keys
// are among them in two spellings, with their algorithm and without; one is stored,
// and Search looks for both.
func stored(keys []string) []string {
	return slices.DeleteFunc(slices.Clone(keys), func(key string) bool {
		plain, ok := plainHash(key)
		if ok {
			_, ok = slices.BinarySearch(keys, plain)
		}
		return ok
	})
}

// plainHash returns a SHA-256 without its algorithm before it.
func plainHash(key string) (string, bool) {
	plain, ok := strings.CutPrefix(key, "sha256:")
	return plain, ok && len(plain) == 2*tlog.HashSize
}
