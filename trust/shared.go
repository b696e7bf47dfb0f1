package trust

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

// A Place keeps the files of one repository for several processes.
type Place interface {
	// Exclusive calls f while no other process is in Exclusive. The context
	// that it hands over ends when that can no longer be promised.
	Exclusive(ctx context.Context, f func(ctx context.Context) error) error

	// Version grows with every Replace; it is 0 before the first.
	Version(ctx context.Context) (int64, error)

	// Files returns all files, by name with slashes, as one Replace left them.
	Files(ctx context.Context) (files map[string][]byte, version int64, err error)

	// Replace makes these the files, all or none, durably. It fails where the
	// version is not the given one any more.
	Replace(ctx context.Context, files map[string][]byte, version int64) (next int64, err error)
}

// placeTimeout bounds how long a reader waits for a Place. What is published
// here already is good enough for a client if the Place does not answer.
const placeTimeout = 2 * time.Second

// Shared is the TUF repository of several processes, kept in a Place. One
// process at a time publishes; all of them show what was published last. A
// client may ask one process for the timestamp and another for what it leads
// to, and must not be shown an older generation after a newer one: so the
// reading methods ask the Place for its version where an answer could be old.
//
// Its directory holds a copy of the Place's files, from which a Repository is
// opened. A generation counts once it is in the Place: it is shown after that.
type Shared struct {
	place Place
	dir   string
	keys  RoleKeys
	opts  Options

	current atomic.Pointer[sharedState]

	mu sync.Mutex // held by whoever replaces current
}

type sharedState struct {
	*Repository
	version int64
	files   map[string][]byte // all that the place had or got
}

// File also finds the versioned files of every earlier generation: the client
// that asks may be in the middle of a refresh that began elsewhere.
func (s *sharedState) File(name string) ([]byte, bool) {
	if data, ok := s.Repository.File(name); ok || !Immutable(name) {
		return data, ok
	}
	data, ok := s.files[name]
	return data, ok
}

// OpenShared opens the repository in a place. The directory is a copy that may
// be lost; nothing else may be in it. OpenRepository says the rest.
func OpenShared(ctx context.Context, place Place, dir string, keys RoleKeys, opts Options) (*Shared, error) {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Shared{place: place, dir: dir, keys: keys, opts: opts}
	if err := s.update(ctx, func(*Repository) error { return nil }); err != nil {
		return nil, err
	}
	return s, nil
}

// update takes over what is in the place, has f change it, and shows the result
// once that is in the place.
func (s *Shared) update(ctx context.Context, f func(*Repository) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.place.Exclusive(ctx, func(ctx context.Context) error {
		files, version, err := s.place.Files(ctx)
		if err != nil {
			return fmt.Errorf("reading the TUF repository: %w", err)
		}
		if err := writeFiles(s.dir, files); err != nil {
			return fmt.Errorf("copying the TUF repository: %w", err)
		}
		r, err := OpenRepository(s.dir, s.keys, s.opts)
		if err != nil {
			return err
		}
		if err := f(r); err != nil {
			return err
		}
		after, err := readFiles(s.dir)
		if err != nil {
			return fmt.Errorf("reading the copy of the TUF repository: %w", err)
		}
		if !maps.EqualFunc(files, after, bytes.Equal) {
			if version, err = s.place.Replace(ctx, after, version); err != nil {
				return fmt.Errorf("storing the TUF repository: %w", err)
			}
		}
		s.current.Store(&sharedState{r, version, after})
		return nil
	})
}

// Publish is Repository.Publish, for all processes.
func (s *Shared) Publish(ctx context.Context, m Material) error {
	return s.update(ctx, func(r *Repository) error { return r.Publish(ctx, m) })
}

// Renew is Repository.Renew, for all processes. What another one has renewed is
// taken over.
func (s *Shared) Renew(ctx context.Context) error {
	var renewal error
	err := s.update(ctx, func(r *Repository) error {
		renewal = r.Renew(ctx) // the other roles are renewed nevertheless
		return nil
	})
	return errors.Join(err, renewal)
}

// Run calls Renew at every tick until ctx ends, and then returns nil.
func (s *Shared) Run(ctx context.Context, ticks <-chan time.Time) error {
	return run(ctx, ticks, s.opts.Logger, s)
}

// refresh takes over what another process has published.
func (s *Shared) refresh() *sharedState {
	ctx, cancel := context.WithTimeout(context.Background(), placeTimeout)
	defer cancel()
	version, err := s.place.Version(ctx)
	if err == nil && version != s.current.Load().version {
		err = s.update(ctx, func(*Repository) error { return nil })
	}
	if err != nil {
		s.opts.Logger.Warn("what other processes have published is not known; the TUF repository is served as it was", "err", err)
	}
	return s.current.Load()
}

// File is Repository.File. A versioned name that is known never changes; for
// every other name the place is asked first.
func (s *Shared) File(name string) ([]byte, bool) {
	if Immutable(name) {
		if data, ok := s.current.Load().File(name); ok {
			return data, true
		}
	}
	return s.refresh().File(name)
}

// Contains is Repository.Contains, as of what was last taken over.
func (s *Shared) Contains(pub crypto.PublicKey) bool { return s.current.Load().Contains(pub) }

// Trusts is Repository.Trusts, as of what was last taken over.
func (s *Shared) Trusts(chain []*x509.Certificate, until time.Time) bool {
	return s.current.Load().Trusts(chain, until)
}

// Expiries is Repository.Expiries, as of what was last taken over.
func (s *Shared) Expiries() map[Role]time.Time { return s.current.Load().Expiries() }

// writeFiles makes dir hold these files and nothing else.
func writeFiles(dir string, files map[string][]byte) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	for name, data := range files {
		path := filepath.FromSlash(name)
		if !filepath.IsLocal(path) {
			return fmt.Errorf("file name %q", name)
		}
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			return err
		}
	}
	return os.MkdirAll(dir, 0o755)
}

// readFiles returns the files in dir.
func readFiles(dir string) (map[string][]byte, error) {
	files := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		files[filepath.ToSlash(name)], err = os.ReadFile(path)
		return err
	})
	return files, err
}
