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
	var found []tlog.Hash
	for i, key := range keys {
		hashes, err := l.index.Lookup(ctx, strings.ToLower(key))
		if err != nil {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			return nil, fmt.Errorf("%w: looking up a search key: %w", tlog.ErrUnavailable, err)
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
	uuids := make([]string, 0, len(found))
	seen := make(map[tlog.Hash]bool, len(found))
	for _, h := range found {
		if !seen[h] {
			seen[h] = true
			uuids = append(uuids, l.uuid(h))
		}
	}
	return uuids, nil
}
