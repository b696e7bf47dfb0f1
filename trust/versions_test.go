package trust

import (
	"crypto/elliptic"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestVersionsAreUsedOnce fails publications after a file of theirs got its
// name, where a mirror may have copied it, and then publishes something else. A
// name that tells a version never gets other bytes.
func TestVersionsAreUsedOnce(t *testing.T) {
	c, dir, keys := newClock(), t.TempDir(), newRoleKeys(t)
	full := errors.New("no space left on device")
	failing := ""
	open := func() *Repository {
		r, err := OpenRepository(dir, keys, Options{Now: c.now, testStep: func(step string) error {
			if failing != "" && strings.HasPrefix(step, "rename ") && strings.HasSuffix(step, failing) {
				return full
			}
			return nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	m := newMaterial(t, c)
	r := open()
	mustPublish(t, r, m)
	seen := listing(t, dir)
	for _, file := range []string{"targets.json", "snapshot.json", "targets.json", "snapshot.json"} {
		for _, reopen := range []bool{false, true} {
			next := m
			next.RekorV1 = []Log{{URL: m.RekorV1[0].URL, Key: newKey(t, elliptic.P256()).Public()}}
			failing = file
			if err := r.Publish(ctx, next); !errors.Is(err, full) {
				t.Fatalf("%s: Publish = %v", file, err)
			}
			failing = ""
			for name, data := range listing(t, dir) {
				seen[name] = data
			}
			if reopen {
				r = open()
			}
			m.RekorV1 = []Log{{URL: m.RekorV1[0].URL, Key: newKey(t, elliptic.P256()).Public()}}
			mustPublish(t, r, m)
			for name, data := range listing(t, dir) {
				if was, ok := seen[name]; ok && was != data && Immutable(filepath.ToSlash(name)) {
					t.Fatalf("after a failure at %s, %s has other bytes than before", file, name)
				}
				seen[name] = data
			}
			check(t, r, m, c.t)
		}
	}
}

// TestForeignRoot puts a second root beside the first that is good by itself,
// but not signed by the key of the first.
func TestForeignRoot(t *testing.T) {
	c, dir, keys := newClock(), t.TempDir(), newRoleKeys(t)
	mustPublish(t, mustOpen(t, dir, keys, c), newMaterial(t, c))
	foreign, theirs := t.TempDir(), newRoleKeys(t)
	r := mustOpen(t, foreign, theirs, c)
	mustPublish(t, r, newMaterial(t, c))
	c.advance(200 * day)
	if err := r.Renew(ctx); err != nil {
		t.Fatal(err)
	}
	root, err := os.ReadFile(filepath.Join(foreign, "2.root.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "2.root.json"), root, 0o644); err != nil {
		t.Fatal(err)
	}
	for name, k := range map[string]RoleKeys{"our keys": keys, "their keys": theirs} {
		if _, err := OpenRepository(dir, k, Options{Now: c.now}); err == nil || !strings.Contains(err.Error(), "2.root.json is not signed as root version 1 demands") {
			t.Errorf("a root of others, with %s: %v", name, err)
		}
	}
}
