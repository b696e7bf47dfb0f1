package trust

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// maxVersion bounds version numbers in file names and metadata; a daily
// publication takes three million years to get there.
const maxVersion = 1_000_000_000

const tempPrefix = ".new-"

// store is the directory of the repository.
type store struct {
	dir string
	// step is called after everything that an interruption can separate from
	// what follows. Tests stop there; nil otherwise.
	step func(what string) error
}

func (s *store) stepped(what string) error {
	if s.step == nil {
		return nil
	}
	return s.step(what)
}

// open makes the directories, removes what interrupted writes left, and syncs
// the names that they gave.
func (s *store) open() error {
	if err := os.MkdirAll(filepath.Join(s.dir, "targets"), 0o755); err != nil {
		return err
	}
	if err := syncDir(filepath.Dir(s.dir)); err != nil {
		return err
	}
	for _, dir := range []string{s.dir, filepath.Join(s.dir, "targets")} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), tempPrefix) && e.Type().IsRegular() {
				if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
					return err
				}
			}
		}
		if err := syncDir(dir); err != nil {
			return err
		}
	}
	return nil
}

// write puts data under name, whole and durable or not at all. name has
// slashes and comes from this package, never from a request.
func (s *store) write(name string, data []byte) error {
	path := filepath.Join(s.dir, filepath.FromSlash(name))
	tmp, err := os.CreateTemp(filepath.Dir(path), tempPrefix+"*")
	if err != nil {
		return err
	}
	_, err = tmp.Write(data)
	if err == nil {
		// Public bytes: a mirror that runs as another user copies them.
		err = tmp.Chmod(0o644)
	}
	if err == nil {
		err = tmp.Sync()
	}
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		os.Remove(tmp.Name())
		return err
	}
	if err := s.stepped("write " + name); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		os.Remove(tmp.Name())
		return err
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return err
	}
	return s.stepped("rename " + name)
}

// read returns the bytes of name, at most limit. A symbolic link is not
// followed: what is served must lie in the repository.
func (s *store) read(name string, limit int) ([]byte, error) {
	path := filepath.Join(s.dir, filepath.FromSlash(name))
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, int64(limit)+1))
	if err != nil {
		return nil, err
	}
	if len(data) > limit {
		return nil, fmt.Errorf("%s is longer than %d bytes", path, limit)
	}
	return data, nil
}

func (s *store) exists(name string) (bool, error) {
	_, err := os.Lstat(filepath.Join(s.dir, filepath.FromSlash(name)))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// highest returns the highest version on disk of each role, 0 for none, the
// timestamp's being 1 when there is one.
func (s *store) highest() (map[Role]int64, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, err
	}
	out := map[Role]int64{}
	for _, e := range entries {
		if e.Name() == "timestamp.json" {
			out[Timestamp] = 1
		}
		for _, role := range []Role{Root, Targets, Snapshot} {
			if v, ok := parseVersioned(e.Name(), role); ok {
				out[role] = max(out[role], v)
			}
		}
	}
	return out, nil
}

// versioned returns the file name of a version of a role, as in "7.root.json".
func versioned(version int64, role Role) string {
	return strconv.FormatInt(version, 10) + "." + string(role) + ".json"
}

// parseVersioned reverses versioned; there is one spelling of each version.
func parseVersioned(name string, role Role) (int64, bool) {
	digits, ok := strings.CutSuffix(name, "."+string(role)+".json")
	if !ok {
		return 0, false
	}
	v, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || v < 1 || v > maxVersion || versioned(v, role) != name {
		return 0, false
	}
	return v, true
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	return err
}
