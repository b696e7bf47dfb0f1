package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// A mutant is one seeded fault.
type mutant struct {
	name  string // the folder of the fault, a slash, and a word or two
	fault string // what is wrong with the code then, in one line
	edits []edit
	tests []tests // in the order in which they are tried, the cheapest first
}

// An edit replaces a text that a file has exactly once.
type edit struct {
	file     string // relative to the module, with slashes
	old, new string
}

// Tests are what one command of "go test" runs.
type tests struct {
	pkg  string // ./tlog
	run  string // -run; all tests of the package, but no fuzz targets, where it is empty
	tags string // -tags
}

// pattern is what -run gets.
func (t tests) pattern() string {
	if t.run == "" {
		return "^Test"
	}
	return t.run
}

func (t tests) String() string {
	s := "go test "
	if t.tags != "" {
		s += "-tags " + t.tags + " "
	}
	return s + t.pkg + " -run '" + t.pattern() + "'"
}

// fits says whether a mutant can be applied to the module in dir.
func (m mutant) fits(dir string) error {
	_, err := m.mutate(dir)
	return err
}

// apply changes the files of a copy, and returns what undoes that.
func (m mutant) apply(dir string) (restore func() error, err error) {
	mutated, err := m.mutate(dir)
	if err != nil {
		return nil, err
	}
	before := make(map[string][]byte)
	restore = func() error {
		var errs []error
		for file, text := range before {
			errs = append(errs, os.WriteFile(file, text, 0o644))
		}
		return errors.Join(errs...)
	}
	for file, text := range mutated {
		if before[file], err = os.ReadFile(file); err == nil {
			err = os.WriteFile(file, []byte(text), 0o644)
		}
		if err != nil {
			return nil, errors.Join(err, restore())
		}
	}
	return restore, nil
}

// mutate returns the new contents of the files that a mutant changes. Edits of
// one file are made one after the other.
func (m mutant) mutate(dir string) (map[string]string, error) {
	out := make(map[string]string)
	for _, e := range m.edits {
		file := filepath.Join(dir, filepath.FromSlash(e.file))
		text, ok := out[file]
		if !ok {
			b, err := os.ReadFile(file)
			if err != nil {
				return nil, fmt.Errorf("mutant %s: %w", m.name, err)
			}
			text = string(b)
		}
		if n := strings.Count(text, e.old); n != 1 {
			return nil, fmt.Errorf("mutant %s: its old text is in %s %d times, want once; write the mutant anew for the code as it is:\n%s", m.name, e.file, n, e.old)
		}
		if e.old == e.new {
			return nil, fmt.Errorf("mutant %s: it changes nothing in %s", m.name, e.file)
		}
		out[file] = strings.Replace(text, e.old, e.new, 1)
	}
	return out, nil
}

// moduleRoot walks up from the working directory to the folder of go.mod.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("no go.mod above the working directory")
		}
		dir = parent
	}
}

// copyModule copies the regular files of a module, but none below a folder
// whose name begins with a dot, and not what was built or served there. The
// tools that some tests use are linked, not copied.
func copyModule(to, from string) error {
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		switch {
		case d.IsDir() && (rel == "bin" || rel == "sigstack-data" || len(rel) > 1 && strings.HasPrefix(d.Name(), ".")):
			return fs.SkipDir
		case d.IsDir():
			return os.MkdirAll(filepath.Join(to, rel), 0o755)
		case !d.Type().IsRegular():
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), text, info.Mode().Perm())
	})
	if err != nil {
		return err
	}
	tools, err := filepath.EvalSymlinks(filepath.Join(from, ".tools"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return os.Symlink(tools, filepath.Join(to, ".tools"))
}
