package rekor

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sigstack/sigstack/tlog"
	"github.com/sigstack/sigstack/tlog/entry"
)

// TestRebuildIndex damages the index of a log with recorded entries, one of which an
// older version has added, which kept nothing beside it.
func TestRebuildIndex(t *testing.T) {
	l := newTestLog(t)
	names, err := filepath.Glob("../../test/vectors/rekor/*.json")
	if err != nil {
		t.Fatal(err)
	}
	statements, old := 0, uint64(0)
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var v struct {
			Request json.RawMessage
			Status  int
		}
		if err := json.Unmarshal(text, &v); err != nil {
			t.Fatal(err)
		}
		if v.Status != 201 {
			continue
		}
		e, err := entry.Propose(v.Request)
		if err != nil {
			t.Fatal(err)
		}
		if len(e.Extra) > 2 && statements == 0 {
			old, statements, e.Extra = l.engine.Published().Size, strings.Count(string(e.Extra), ":"), nil
		}
		if _, err := l.Create(t.Context(), e); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	size := l.engine.Published().Size
	all := func() (keys []tlog.SearchKey) {
		t.Helper()
		for key, err := range l.store.SearchKeys(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			keys = append(keys, key)
		}
		return keys
	}
	before := all()
	rebuild := func(repair bool, missing, stray []tlog.SearchKey) {
		t.Helper()
		var told []string
		report, err := RebuildIndex(t.Context(), l.store, repair, func(what string, key tlog.SearchKey) { told = append(told, fmt.Sprint(what, key.Name, key.Index)) })
		if err != nil {
			t.Fatal(err)
		}
		var want []string
		for _, key := range missing {
			want = append(want, fmt.Sprint("missing", key.Name, key.Index))
		}
		for _, key := range stray {
			want = append(want, fmt.Sprint("stray", key.Name, key.Index))
		}
		slices.Sort(told)
		if slices.Sort(want); !slices.Equal(told, want) {
			t.Errorf("told %q, want %q", told, want)
		}
		if w := (IndexReport{size, uint64(len(before) - statements), uint64(len(missing)), uint64(len(stray)), uint64(statements), 0}); report != w {
			t.Errorf("report %+v, want %+v", report, w)
		}
	}
	rebuild(false, nil, nil)
	rebuild(true, nil, nil)
	if after := all(); statements == 0 || !slices.Equal(after, before) {
		t.Fatalf("%d search keys of statements; %d search keys, %d before", statements, len(after), len(before))
	}
	missing := slices.DeleteFunc(slices.Clone(before), func(k tlog.SearchKey) bool {
		return strings.HasPrefix(k.Name, "sha256:") || k.Index%2 == 0 || k.Index == old
	})
	stray := []tlog.SearchKey{
		{Name: "stray@example.com", Index: 3, Hash: before[0].Hash},
		{Name: before[0].Name, Index: (before[0].Index + 1) % size, Hash: before[0].Hash},
		{Name: before[0].Name, Index: size + 5, Hash: before[0].Hash},
		{Name: before[len(before)-1].Name, Index: before[len(before)-1].Index, Hash: tlog.Hash{1}},
	}
	if err := l.store.RemoveSearchKeys(t.Context(), missing); err != nil {
		t.Fatal(err)
	}
	if err := l.store.ImportSearchKeys(t.Context(), stray); err != nil {
		t.Fatal(err)
	}
	rebuild(false, missing, stray)
	rebuild(true, missing, stray)
	rebuild(false, nil, nil)
	if after := all(); !slices.Equal(after, before) {
		t.Errorf("%d search keys, %d before, or others", len(after), len(before))
	}
}
