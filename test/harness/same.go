package harness

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
)

// SameAnswers compares what several servers of the same logs say of each entry,
// all of them: the entry, its place, its time, its proof and the tree of that
// proof. Nothing may write meanwhile. Signatures differ, and each answer of the
// transparency log is verified.
func SameAnswers(ctx context.Context, servers ...*Server) []Violation {
	var checkers []*checker
	for _, s := range servers {
		c := (&Evidence{Server: s}).checker(ctx)
		if c.trust(); len(c.found) == 0 {
			c.head()
			c.ctHead()
		}
		checkers = append(checkers, c)
	}
	first := checkers[0]
	for i, c := range checkers {
		switch {
		case len(c.found) > 0:
			return c.found
		case !slices.EqualFunc(c.shards, first.shards, (*shard).same):
			first.bad("I3", "server %d shows the trees %s, server 0 %s", i, c.describe(), first.describe())
		case c.ctFinal.Size != first.ctFinal.Size || !bytes.Equal(c.ctFinal.Root, first.ctFinal.Root):
			first.bad("I3", "server %d shows a CT log of size %d with root %x, server 0 one of size %d with root %x", i, c.ctFinal.Size, c.ctFinal.Root, first.ctFinal.Size, first.ctFinal.Root)
		}
	}
	if len(first.found) > 0 {
		return first.found
	}
	first.each(int((first.size+perRequest-1)/perRequest), func(part int) {
		begin := uint64(part) * perRequest
		end := min(begin+perRequest, first.size)
		var want []string
		for i, c := range checkers {
			got, err := c.plainAnswers(begin, end)
			if err != nil {
				first.bad("I1", "server %d, entries %d to %d: %v", i, begin, end-1, err)
				return
			}
			if i == 0 {
				want = got
			}
			for n := range want {
				if len(got) != len(want) || got[n] != want[n] {
					first.bad("I6", "server %d answers for the entries %d to %d with %q, server 0 with %q", i, begin, end-1, got, want)
					break
				}
			}
		}
	})
	first.each(int(first.ctFinal.Size), func(index int) {
		var want []byte
		for i, c := range checkers {
			var got []byte
			if err := c.get(fmt.Sprintf("/ct/v1/get-entry-and-proof?leaf_index=%d&tree_size=%d", index, first.ctFinal.Size), &got); err != nil {
				first.bad("I1", "server %d, CT entry %d: %v", i, index, err)
				return
			}
			if i == 0 {
				want = got
			}
			if !bytes.Equal(got, want) {
				first.bad("I6", "server %d answers for CT entry %d with %s, server 0 with %s", i, index, got, want)
			}
		}
	})
	for _, c := range checkers[1:] {
		first.found = append(first.found, c.found...)
	}
	return first.found
}

func (s *shard) same(other *shard) bool {
	return s.id == other.id && s.final.Size == other.final.Size && bytes.Equal(s.final.Root, other.final.Root)
}

// describe lists the trees of Rekor.
func (c *checker) describe() string {
	var list []string
	for _, s := range c.shards {
		list = append(list, fmt.Sprintf("%s of size %d with root %x", s.id, s.final.Size, s.final.Root))
	}
	return strings.Join(list, ", ")
}

// plainAnswers returns what the server says of the entries of [begin, end),
// without what is different in each signature.
func (c *checker) plainAnswers(begin, end uint64) ([]string, error) {
	var indexes []uint64
	for n := begin; n < end; n++ {
		indexes = append(indexes, n)
	}
	entries, err := c.retrieve("logIndexes", indexes)
	if err != nil {
		return nil, err
	}
	if len(entries) != len(indexes) {
		return nil, fmt.Errorf("%d entries in the answer", len(entries))
	}
	var out []string
	for uuid, e := range entries {
		p := e.Verification.InclusionProof
		tree, _, _ := strings.Cut(p.Checkpoint, "\n\n")
		out = append(out, fmt.Sprintf("%020d %s %x %d %s; %d in %d, %s: %v; %s", e.LogIndex, uuid, e.Body, e.IntegratedTime, e.LogID, p.LogIndex, p.TreeSize, p.RootHash, p.Hashes, tree))
	}
	slices.Sort(out)
	return out, nil
}
