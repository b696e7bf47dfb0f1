package trust

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/sigstack/sigstack/test/fuzz"
)

// Every file of the repository, read as each of the sorts of them.
func FuzzParse(f *testing.F) {
	files := valid(f)
	names := make([]string, 0, len(files))
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	var seeds []*fuzz.Node
	for _, name := range names {
		seeds = append(seeds, fuzz.Look(files[name]))
	}
	seeds = append(seeds, fuzz.Seeds(
		`{"signed":{"_type":"root","version":1,"spec_version":"1.0","consistent_snapshot":true,"keys":{"a":null},"roles":{"root":null}},"signatures":[null]}`,
		`{"signed":{"_type":"timestamp","version":1,"spec_version":"1.0","meta":{"snapshot.json":null}}}`)...)
	parse := func(in []byte) (struct{}, error) {
		parseAny(in)
		return struct{}{}, nil
	}
	// Six parsers, of which each may take what one may, and signatures.
	allow := func(in []byte) int { return 5*(10*len(in)+1<<20) + 1<<20 }
	fuzz.RunWith(f, fuzz.Options{Allow: allow}, seeds, parse, func(t *testing.T, in []byte, _ struct{}, _ error) {
		// What is read is JSON, to encoding/json as well.
		if _, err := parseRoot(in); err == nil && !json.Valid(in) {
			t.Fatal("a root that is not JSON")
		}
	})
}

// The documents that clients read: what is read is published again as the same.
func FuzzTrustedRoot(f *testing.F) {
	files := valid(f)
	seeds := fuzz.Seeds(files["targets/trusted_root.json"])
	type result struct{ text []byte }
	parse := func(in []byte) (result, error) {
		tr, err := parseTrustedRoot(in)
		if err != nil {
			return result{}, err
		}
		text, err := marshalDocument(tr)
		if err != nil {
			return result{}, nil // time ranges are checked, but nothing else in it
		}
		return result{text}, nil
	}
	// It is written again, with its white space.
	allow := func(in []byte) int { return 30*len(in) + 1<<20 }
	fuzz.RunWith(f, fuzz.Options{Allow: allow}, seeds, parse, func(t *testing.T, in []byte, r result, err error) {
		if err != nil || r.text == nil {
			return
		}
		again, err := parseTrustedRoot(r.text)
		if err != nil {
			t.Fatalf("what was read cannot be read back: %v", err)
		}
		if text, err := marshalDocument(again); err != nil || string(text) != string(r.text) {
			t.Fatalf("it changed from\n%s\nto\n%s\n%v", r.text, text, err)
		}
	})
}

func FuzzVersioned(f *testing.F) {
	seeds := fuzz.Seeds("1.root.json", "01.targets.json", "999999999999999999999.snapshot.json", "1000000000.root.json")
	type versions [3]int64
	roles := []Role{Root, Targets, Snapshot}
	parse := func(in []byte) (v versions, _ error) {
		for i, role := range roles {
			v[i], _ = parseVersioned(string(in), role)
		}
		_ = Immutable(string(in))
		return v, nil
	}
	fuzz.Run(f, seeds, parse, func(t *testing.T, in []byte, v versions, _ error) {
		for i, role := range roles {
			if v[i] != 0 && strconv.FormatInt(v[i], 10)+"."+string(role)+".json" != string(in) {
				t.Fatalf("%q is version %d of %s, whose name is another", in, v[i], role)
			}
		}
	})
}

// Whatever stands in a file of the repository: it is opened as it was, or
// repaired, or refused with the name of what is wrong; and what it then serves
// was there before. An input begins with the number of the file.
func FuzzRepository(f *testing.F) {
	c, dir, keys := newClock(), f.TempDir(), newRoleKeys(f)
	mustPublish(f, mustOpen(f, dir, keys, c), newMaterial(f, c))
	was := listing(f, dir)
	names := make([]string, 0, len(was))
	for name := range was {
		names = append(names, name)
	}
	slices.Sort(names)
	var seeds []*fuzz.Node
	for i, name := range names {
		if strings.HasSuffix(name, ".json") {
			seeds = append(seeds, fuzz.Seq(fuzz.Leaf([]byte{byte(i)}), fuzz.Look([]byte(was[name]))))
		}
	}
	work := f.TempDir()
	must := func(err error) { // f is not to be used inside of the target
		if err != nil {
			panic(err)
		}
	}
	parse := func(in []byte) (*Repository, error) {
		if len(in) == 0 {
			in = []byte{0}
		}
		changed := names[int(in[0])%len(names)]
		// Only what differs is written: files, and what the run before left.
		must(filepath.WalkDir(work, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			rel, err := filepath.Rel(work, path)
			if _, ok := was[filepath.ToSlash(rel)]; err == nil && !ok {
				err = os.Remove(path)
			}
			return err
		}))
		for _, name := range names {
			text, path := was[name], filepath.Join(work, name)
			if name == changed {
				text = string(in[1:])
			}
			if old, err := os.ReadFile(path); err == nil && string(old) == text {
				continue
			}
			must(os.MkdirAll(filepath.Dir(path), 0o755))
			must(os.WriteFile(path, []byte(text), 0o644))
		}
		return OpenRepository(work, keys, Options{Now: c.now})
	}
	// The whole repository is read, and signatures are verified.
	allow := func(in []byte) int { return 4 << 20 }
	fuzz.RunWith(f, fuzz.Options{Allow: allow, Slow: true}, seeds, parse, func(t *testing.T, in []byte, r *Repository, err error) {
		if err != nil {
			// A root that somebody else made is complete in itself, but not by
			// the keys that were given.
			if s := err.Error(); !strings.Contains(s, ".json") && !strings.Contains(s, "target") && !strings.Contains(s, "root version") {
				t.Fatalf("the error names neither a file nor a root version: %v", err)
			}
			return
		}
		// Not the bytes: names of members are read without regard to case, and
		// what was signed is what was read.
		for _, name := range []string{"root.json", "1.root.json"} {
			checkSame(t, name, r, was, parseRoot)
		}
		checkSame(t, "timestamp.json", r, was, parseTimestamp)
		checkSame(t, "1.snapshot.json", r, was, parseSnapshot)
		checkSame(t, "1.targets.json", r, was, parseTargets)
	})
}

// checkSame checks that a file which is served says what it said.
func checkSame[T metadata.Roles](t *testing.T, name string, r *Repository, was map[string]string, parse parser[T]) {
	t.Helper()
	data, ok := r.File(name)
	if !ok {
		t.Fatalf("opened without %s", name)
	}
	old, err := parse([]byte(was[name]))
	if err != nil {
		t.Fatal(err)
	}
	if now, err := parse(data); err != nil || !reflect.DeepEqual(now.Signed, old.Signed) {
		t.Fatalf("%s is another, %v:\n%s", name, err, data)
	}
}
