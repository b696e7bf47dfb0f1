package trust

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCopyFiles takes a repository from a directory to a place and to another
// directory, where it is opened and goes on.
func TestCopyFiles(t *testing.T) {
	c := newClock()
	keys, m := newRoleKeys(t), newMaterial(t, c)
	dir := filepath.Join(t.TempDir(), "tuf")
	if files, err := ReadFiles(dir); err != nil || len(files) != 0 {
		t.Fatalf("no repository has %d files, %v", len(files), err)
	}
	r, err := OpenRepository(dir, keys, Options{Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Publish(ctx, m); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "targets", tempPrefix+"1"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	files, err := ReadFiles(dir)
	if err != nil || len(files["timestamp.json"]) == 0 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for name := range files {
		if strings.Contains(name, tempPrefix) {
			t.Errorf("%s is no file of the repository", name)
		}
	}

	place := &memoryPlace{}
	to := filepath.Join(t.TempDir(), "tuf")
	if err := os.MkdirAll(filepath.Join(to+".new", "targets"), 0o700); err != nil { // of a copy that was interrupted
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(to+".new", "9.root.json"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time there is nothing to do
		if err := CopyTo(ctx, place, files); err != nil {
			t.Fatal(err)
		}
		if err := CopyFiles(to, place.files); err != nil {
			t.Fatal(err)
		}
	}
	if copied, err := ReadFiles(to); err != nil || !maps.EqualFunc(copied, files, bytes.Equal) || place.version != 1 {
		t.Errorf("%d files, version %d, %v; want the %d of the source once", len(copied), place.version, err, len(files))
	}
	opened, err := OpenRepository(to, keys, Options{Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		if got, ok := opened.File(name); ok && !bytes.Equal(got, want) {
			t.Errorf("%s is another", name)
		}
	}
	if err := opened.Publish(ctx, m); err != nil {
		t.Fatal(err)
	}

	// Another repository stays.
	other := maps.Clone(files)
	other["1.root.json"] = []byte("another")
	if err := CopyFiles(to, other); err == nil {
		t.Error("a repository was replaced in a directory")
	}
	if err := CopyTo(ctx, place, other); err == nil || place.version != 1 {
		t.Errorf("a repository was replaced in a place: %v", err)
	}
	if err := CopyFiles(filepath.Join(t.TempDir(), "tuf"), map[string][]byte{"../x": nil}); err == nil {
		t.Error("a file was written beside the repository")
	}
}
