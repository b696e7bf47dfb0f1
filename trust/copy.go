package trust

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// errOther: a repository is not replaced by another one.
var errOther = errors.New("there is another TUF repository, want none or the same")

// ReadFiles returns the files of the repository in dir, by name with slashes,
// and none where there is no repository.
func ReadFiles(dir string) (map[string][]byte, error) {
	files, err := readFiles(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	maps.DeleteFunc(files, func(name string, _ []byte) bool { // of a write that was interrupted
		return strings.HasPrefix(name[strings.LastIndex(name, "/")+1:], tempPrefix)
	})
	return files, err
}

// CopyFiles makes these the files of the repository in dir, durably, all or none.
// There must be no repository, or the same.
func CopyFiles(dir string, files map[string][]byte) error {
	had, err := ReadFiles(dir)
	if err != nil {
		return err
	}
	if maps.EqualFunc(had, files, bytes.Equal) {
		return nil
	}
	if len(had) > 0 {
		return fmt.Errorf("%s: %w", dir, errOther)
	}
	s := &store{dir: dir + ".new"}
	if err := os.RemoveAll(s.dir); err != nil {
		return err
	}
	if err := s.open(); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if !filepath.IsLocal(filepath.FromSlash(name)) {
			return fmt.Errorf("file name %q", name)
		}
		if err := s.write(name, files[name]); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(dir); err != nil { // it is empty
		return err
	}
	if err := os.Rename(s.dir, dir); err != nil {
		return err
	}
	return syncDir(filepath.Dir(dir))
}

// CopyTo makes these the files of the repository in a place. There must be no
// repository, or the same.
func CopyTo(ctx context.Context, place Place, files map[string][]byte) error {
	return place.Exclusive(ctx, func(ctx context.Context) error {
		had, version, err := place.Files(ctx)
		if err != nil {
			return err
		}
		if maps.EqualFunc(had, files, bytes.Equal) {
			return nil
		}
		if len(had) > 0 {
			return errOther
		}
		_, err = place.Replace(ctx, files, version)
		return err
	})
}
