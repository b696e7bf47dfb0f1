package main

import (
	"context"
	"crypto"
	"crypto/x509"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/sigstack/sigstack/api/tuf"
	"github.com/sigstack/sigstack/storage/audit"
	"github.com/sigstack/sigstack/storage/mysql"
	"github.com/sigstack/sigstack/storage/sqlite"
	"github.com/sigstack/sigstack/tlog"
	"github.com/sigstack/sigstack/tlog/events"
	"github.com/sigstack/sigstack/tlog/rekor"
	"github.com/sigstack/sigstack/trust"
	"github.com/sigstack/sigstack/trust/keys"
)

// A storage is where everything is kept that outlives the process, but for keys
// and the second memory of each log.
type storage interface {
	// log opens the log with a name, which the key signs, or makes it.
	log(ctx context.Context, name string, key crypto.PublicKey) (logStore, error)
	audit() (auditLog, error)
	repository(ctx context.Context, roles trust.RoleKeys, opts trust.Options) (repository, error)
	// cursor returns that of a sink of events.
	cursor(sink string) events.Cursor

	// shared says whether other processes use it, too.
	shared() bool
	// room says why there is no room for another batch.
	room() error
	close() error
}

// A logStore keeps one log with its search keys and attestations.
type logStore interface {
	tlog.Store
	rekor.Index
	rekor.Attestations
	TreeID() int64
	Close() error
}

// An auditLog keeps the rows of package audit.
type auditLog interface {
	Add(ctx context.Context, row audit.Row) error
	Note(row audit.Row)
	Ready(ctx context.Context) error
	Close() error
}

// A repository is the TUF repository.
type repository interface {
	tuf.Files
	Publish(ctx context.Context, m trust.Material) error
	Run(ctx context.Context, ticks <-chan time.Time) error
	Contains(pub crypto.PublicKey) bool
	Trusts(chain []*x509.Certificate, until time.Time) bool
	Expiries() map[trust.Role]time.Time
}

func openStorage(ctx context.Context, c *Config, now func() time.Time, logger *slog.Logger) (storage, error) {
	if c.Storage == "mysql" {
		return openDatabase(ctx, c, now, logger)
	}
	return &files{c, now}, nil
}

// files is the storage in the data directory: SQLite, and plain files for TUF.
type files struct {
	config *Config
	now    func() time.Time
}

func (f *files) log(_ context.Context, name string, _ crypto.PublicKey) (logStore, error) {
	return sqlite.Open(filepath.Join(f.config.DataDir, name, "log.db"), f.now)
}

func (f *files) audit() (auditLog, error) {
	return sqlite.OpenAudit(filepath.Join(f.config.DataDir, "audit.db"), f.now)
}

func (f *files) repository(_ context.Context, roles trust.RoleKeys, opts trust.Options) (repository, error) {
	return trust.OpenRepository(f.config.tufDir(), roles, opts)
}

func (f *files) cursor(sink string) events.Cursor { return fileCursor(f.config, sink) }

func (f *files) shared() bool { return false }

// room refuses batches while the disk of the data directory is nearly full.
func (f *files) room() error {
	if f.config.MinFreeBytes == 0 {
		return nil
	}
	var disk syscall.Statfs_t
	if err := syscall.Statfs(f.config.DataDir, &disk); err != nil {
		return fmt.Errorf("asking for the free space of the data directory: %w", err)
	}
	if free := disk.Bavail * uint64(disk.Bsize); free < uint64(f.config.MinFreeBytes) {
		return fmt.Errorf("the disk of the data directory has %d bytes free, want min-free-bytes, %d", free, f.config.MinFreeBytes)
	}
	return nil
}

func (f *files) close() error { return nil }

// database is the storage that replicas share. In the data directory of each
// are the second memories of the logs, and a copy of the TUF repository.
type database struct {
	*mysql.DB
	config *Config
}

// How long a start waits for the database, and how often it asks.
const (
	patience     = 2 * time.Minute
	patienceTurn = time.Second
)

// openDatabase opens the database, which may be starting just now, too.
func openDatabase(ctx context.Context, c *Config, now func() time.Time, logger *slog.Logger) (storage, error) {
	if !mysql.Batched {
		logger.Warn("built without the tag batched_queue: the database is written to at a quarter of the speed")
	}
	dsn, err := readSecret(c.MySQL.DSNFile)
	if err != nil {
		return nil, fmt.Errorf("mysql.dsn-file: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	turn := time.NewTicker(patienceTurn)
	defer turn.Stop()
	for {
		db, err := mysql.Open(ctx, dsn, now, logger)
		if err == nil {
			return &database{db, c}, nil
		}
		if !mysql.Unreachable(err) {
			return nil, err
		}
		logger.Warn("the database cannot be reached yet", "err", err)
		select {
		case <-turn.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("the database could not be reached within %v: %w", patience, err)
		}
	}
}

func (d *database) log(ctx context.Context, name string, key crypto.PublicKey) (logStore, error) {
	s, err := d.Log(ctx, name)
	if err != nil {
		return nil, err
	}
	id, err := keyID(key)
	if err != nil {
		return nil, err
	}
	return s, s.Claim(ctx, id)
}

func (d *database) audit() (auditLog, error) { return d.Audit(), nil }

func (d *database) repository(ctx context.Context, roles trust.RoleKeys, opts trust.Options) (repository, error) {
	place, err := d.TUF(ctx)
	if err != nil {
		return nil, err
	}
	return trust.OpenShared(ctx, place, d.config.tufDir(), roles, opts)
}

func (d *database) cursor(sink string) events.Cursor { return d.Cursor(sink) }

func (d *database) shared() bool { return true }
func (d *database) room() error  { return nil } // the server's own affair
func (d *database) close() error { return d.Close() }

// maxSecret bounds a file that holds a secret, in bytes.
const maxSecret = 4 << 10

// readSecret reads a file that nobody else may read, up to a newline at its end.
func readSecret(path string) (string, error) {
	text, err := keys.ReadFile(path)
	if err != nil {
		return "", err
	}
	if len(text) > maxSecret {
		return "", fmt.Errorf("%s has %d bytes, want at most %d", path, len(text), maxSecret)
	}
	secret := strings.TrimRight(string(text), "\r\n")
	if secret == "" {
		return "", fmt.Errorf("%s is empty", path)
	}
	return secret, nil
}
