package main

import (
	"strings"
	"testing"
	"time"
)

// TestProgress tells of 1,000 entries, of which 200 were there.
func TestProgress(t *testing.T) {
	for _, c := range []struct {
		terminal bool
		want     string
	}{
		{false, "tree 5: 50% 500 of 1000 entries, 30/s, 17s left\ntree 5: 100% 1000 of 1000 entries, 62/s\n"},
		{true, "\rtree 5: [======                        ]  20% 201 of 1000 entries, 1/s, 13m19s left\x1b[K" +
			"\rtree 5: [===============               ]  50% 500 of 1000 entries, 30/s, 17s left\x1b[K" +
			"\rtree 5: [==============================] 100% 1000 of 1000 entries, 62/s\x1b[K\n"},
	} {
		now := time.Unix(1_700_000_000, 0)
		var out strings.Builder
		p := newProgress(&out, "tree 5", 200, func() time.Time { return now })
		p.terminal = c.terminal
		now = now.Add(50 * time.Millisecond)
		p.tell(200, 1000) // too soon
		now = now.Add(950 * time.Millisecond)
		p.tell(201, 1000)
		now = now.Add(9 * time.Second)
		p.tell(500, 1000)
		now = now.Add(3 * time.Second)
		p.tell(1000, 1000)
		if out.String() != c.want {
			t.Errorf("terminal %v:\n%q, want\n%q", c.terminal, out.String(), c.want)
		}
	}
}
