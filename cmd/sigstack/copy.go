package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/sigstack/sigstack/storage/mysql"
	"github.com/sigstack/sigstack/storage/sqlite"
	"github.com/sigstack/sigstack/storage/transfer"
	"github.com/sigstack/sigstack/tlog"
	"github.com/sigstack/sigstack/tlog/checkpoint"
	"github.com/sigstack/sigstack/tlog/events"
	"github.com/sigstack/sigstack/trust"
)

func copyCommand() *cobra.Command {
	var from, to string
	cmd := &cobra.Command{
		Use:   "copy --from FILE --to FILE",
		Short: "Copy everything from one storage to another",
		Long: `copy takes all that a storage keeps to another one: the entries of both logs with
their indices, times and identities, search keys, attestations, audit rows, the
TUF repository, and how far events were delivered. Then it reads both sides again
and compares.

Each side is the configuration file of a server (only that: neither flags nor the
environment count). Stop every server of both first. The target must be empty, or
a copy that was interrupted, which is taken up where it stopped. Keys are not
copied: those of the target must be the source's.

A target that is not complete yet is not served.`,
		Example: "  sigstack copy --from sqlite.yaml --to mysql.yaml",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			source, err := loadFile(from)
			if err != nil {
				return fmt.Errorf("--from: %w", err)
			}
			target, err := loadFile(to)
			if err != nil {
				return fmt.Errorf("--to: %w", err)
			}
			c := &copier{from: &source, to: &target, stdout: cmd.OutOrStdout(), stderr: cmd.ErrOrStderr()}
			return errors.Join(c.run(cmd.Context()), c.closers.close())
		},
	}
	cmd.Flags().StringVar(&from, "from", "", "configuration file of the source")
	cmd.Flags().StringVar(&to, "to", "", "configuration file of the target")
	cmd.MarkFlagsOneRequired("from", "to")
	cmd.MarkFlagsRequiredTogether("from", "to")
	return cmd
}

// A side is a storage that is copied, or becomes a copy.
type side interface {
	// source opens a log that is there, and that the key with an ID signs.
	source(ctx context.Context, name string, keyID [32]byte) (copyLog, error)
	// target opens a log that has a tree ID, or makes it. The key with an ID
	// is to sign it.
	target(ctx context.Context, name string, treeID int64, keyID [32]byte) (copyLog, error)
	// begin keeps others from serving a log, where the second memory does not
	// do that already; end lets them.
	begin(ctx context.Context, name string) error
	end(ctx context.Context, name string, keyID [32]byte) error

	auditSource() (copyAudit, error)
	auditTarget() (copyAudit, error)

	// repository returns the files of the TUF repository; putRepository makes
	// one of them, unless there is another.
	repository(ctx context.Context) (map[string][]byte, error)
	putRepository(ctx context.Context, files map[string][]byte) error

	// cursor returns that of a sink of events.
	cursor(sink string) events.Cursor

	shared() bool
	close() error
}

// A copyLog is a log of one side.
type copyLog interface {
	tlog.Store
	transfer.Target
	TreeID() int64
	Close() error
}

// A copyAudit is the audit log of one side.
type copyAudit interface {
	transfer.AuditTarget
	Close() error
}

// copyFiles is the storage in a data directory.
type copyFiles struct{ config *Config }

func (f *copyFiles) path(name string) string { return filepath.Join(f.config.DataDir, name, "log.db") }

func (f *copyFiles) source(_ context.Context, name string, _ [32]byte) (copyLog, error) {
	// A log without one is not served, and a source is not changed.
	if _, err := os.Stat(memoryFile(f.config, name)); err != nil {
		return nil, fmt.Errorf("the second memory: %w", err)
	}
	return sqlite.OpenReadOnly(f.path(name))
}

func (f *copyFiles) target(_ context.Context, name string, treeID int64, _ [32]byte) (copyLog, error) {
	return sqlite.OpenAs(f.path(name), treeID, time.Now)
}

// The second memory says what the log must have.
func (f *copyFiles) begin(context.Context, string) error         { return nil }
func (f *copyFiles) end(context.Context, string, [32]byte) error { return nil }

func (f *copyFiles) auditSource() (copyAudit, error) {
	return sqlite.OpenAuditReadOnly(filepath.Join(f.config.DataDir, "audit.db"))
}

func (f *copyFiles) auditTarget() (copyAudit, error) {
	return sqlite.OpenAudit(filepath.Join(f.config.DataDir, "audit.db"), time.Now)
}

func (f *copyFiles) repository(context.Context) (map[string][]byte, error) {
	return trust.ReadFiles(f.config.tufDir())
}

func (f *copyFiles) putRepository(_ context.Context, files map[string][]byte) error {
	return trust.CopyFiles(f.config.tufDir(), files)
}

func (f *copyFiles) cursor(sink string) events.Cursor { return fileCursor(f.config, sink) }

func (f *copyFiles) shared() bool { return false }
func (f *copyFiles) close() error { return nil }

// copyDatabase is the storage that replicas share.
type copyDatabase struct{ *mysql.DB }

func (d *copyDatabase) source(ctx context.Context, name string, keyID [32]byte) (copyLog, error) {
	return d.Existing(ctx, name, keyID)
}

func (d *copyDatabase) target(ctx context.Context, name string, treeID int64, keyID [32]byte) (copyLog, error) {
	return d.OpenAs(ctx, name, treeID, keyID)
}

func (d *copyDatabase) begin(ctx context.Context, name string) error { return d.BeginCopy(ctx, name) }
func (d *copyDatabase) end(ctx context.Context, name string, keyID [32]byte) error {
	return d.EndCopy(ctx, name, keyID)
}

func (d *copyDatabase) auditSource() (copyAudit, error) { return d.Audit(), nil }
func (d *copyDatabase) auditTarget() (copyAudit, error) { return d.Audit(), nil }

func (d *copyDatabase) repository(ctx context.Context) (map[string][]byte, error) {
	place, err := d.TUF(ctx)
	if err != nil {
		return nil, err
	}
	files, _, err := place.Files(ctx)
	return files, err
}

func (d *copyDatabase) putRepository(ctx context.Context, files map[string][]byte) error {
	place, err := d.TUF(ctx)
	if err != nil {
		return err
	}
	return trust.CopyTo(ctx, place, files)
}

func (d *copyDatabase) cursor(sink string) events.Cursor { return d.Cursor(sink) }

func (d *copyDatabase) shared() bool { return true }
func (d *copyDatabase) close() error { return d.Close() }

// openSide opens a storage that nobody else uses.
func openSide(ctx context.Context, c *Config, logger *slog.Logger) (side, error) {
	if c.Storage != "mysql" {
		return &copyFiles{c}, nil
	}
	dsn, err := readSecret(c.MySQL.DSNFile)
	if err != nil {
		return nil, fmt.Errorf("mysql.dsn-file: %w", err)
	}
	if err := mysql.Alone(ctx, dsn, logger); err != nil {
		return nil, err
	}
	db, err := mysql.OpenPatiently(ctx, dsn, time.Now, logger)
	if err != nil {
		return nil, err
	}
	return &copyDatabase{db}, nil
}

// A copier copies one storage to another. Its fields are set in the order of run.
type copier struct {
	from, to       *Config
	stdout, stderr io.Writer

	base               *url.URL
	source, target     side
	logs               []*copiedLog
	files              map[string][]byte // of the TUF repository
	auditFrom, auditTo copyAudit

	closers closers
}

// A copiedLog is one of the logs.
type copiedLog struct {
	name   string
	key    crypto.Signer
	keyID  [32]byte // SHA-256 of the SubjectPublicKeyInfo
	origin func(base *url.URL, treeID int64) string

	source, target copyLog
	held           *tlog.Held // with the second memory of the source
	remembered     *tlog.Held // with that of the target; the same where they share a directory
	begun          uint64     // entries that the target had
}

// run copies. The order of its steps is what makes a target that is not complete
// one that no server starts on: it has a second memory of the whole source, and
// in a database no key, before it has anything else; and its last entry is the
// last thing that it gets.
func (c *copier) run(ctx context.Context) error {
	for _, step := range []func(context.Context) error{
		c.compareConfigs, c.openKeys, c.openSides, c.openLogs, c.remember, c.copyRepository, c.copyCursors, c.copyAudit, c.copyLogs, c.compare,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// compareConfigs refuses what cannot be two sides of one deployment.
func (c *copier) compareConfigs(context.Context) error {
	for _, config := range []*Config{c.from, c.to} {
		if err := config.completeURL(); err != nil {
			return err
		}
	}
	if c.from.URL != c.to.URL {
		return fmt.Errorf("url: the source has %s, the target %s; a log keeps its URL", c.from.URL, c.to.URL)
	}
	var err error
	if c.base, err = url.Parse(c.from.URL); err != nil {
		return err
	}
	if c.from.Storage != c.to.Storage {
		return nil
	}
	same := c.sameDir()
	if c.from.Storage == "mysql" {
		a, err := readSecret(c.from.MySQL.DSNFile)
		if err != nil {
			return fmt.Errorf("mysql.dsn-file: %w", err)
		}
		b, err := readSecret(c.to.MySQL.DSNFile)
		if err != nil {
			return fmt.Errorf("mysql.dsn-file: %w", err)
		}
		same = a == b
	}
	if same {
		return errors.New("source and target are the same storage")
	}
	return nil
}

// completeURL makes the URL of a configuration that has none, as its server does.
func (c *Config) completeURL() error {
	if c.URL != "" {
		return nil
	}
	host, port, err := net.SplitHostPort(c.Listen)
	if err != nil || port == "0" {
		return errors.New("url: is empty; a checkpoint has the host in it")
	}
	c.URL = "http://" + net.JoinHostPort(cmp.Or(host, "localhost"), port)
	return nil
}

// sameDir says whether both sides have one data directory.
func (c *copier) sameDir() bool {
	a, err := os.Stat(c.from.DataDir)
	if err != nil {
		return false
	}
	b, err := os.Stat(c.to.DataDir)
	return err == nil && os.SameFile(a, b)
}

// openKeys opens the keys of the logs, which must be the same on both sides.
func (c *copier) openKeys(ctx context.Context) error {
	type keyed struct {
		name   string
		uris   [2]string // on both sides
		origin func(base *url.URL, treeID int64) string
	}
	var logs []keyed
	var trees [2]shardKeys
	ct := keyed{name: "ct", origin: func(base *url.URL, _ int64) string { return ctOrigin(base) }}
	for i, config := range []*Config{c.from, c.to} {
		var err error
		if trees[i], _, err = readShards(config); err != nil {
			return err
		}
		ct.uris[i] = cmp.Or(config.Keys.CTLog, "file:"+filepath.Join(config.DataDir, "keys", ctlogKey))
	}
	if len(trees[0].names) != len(trees[1].names) {
		return fmt.Errorf("the transparency log of the source has %d keys, that of the target %d; copy the keys first, with %s", len(trees[0].names), len(trees[1].names), c.from.shardsFile())
	}
	for i := range trees[0].names {
		logs = append(logs, keyed{shardName(i), [2]string{c.from.shardURI(trees[0].names[i]), c.to.shardURI(trees[1].names[i])}, rekorOrigin})
	}
	for _, l := range append(logs, ct) {
		var signers [2]crypto.Signer
		var ids [2][32]byte
		for i, uri := range l.uris {
			signer, err := openKey(ctx, uri, nil)
			if err != nil {
				return fmt.Errorf("the key of log %s of the %s: %w", l.name, []string{"source", "target"}[i], err)
			}
			if ids[i], err = keyID(signer.Public()); err != nil {
				return err
			}
			signers[i] = signer
		}
		if ids[0] != ids[1] {
			return fmt.Errorf("the source signs log %s with the key with ID %x, the target with %x; copy the keys first", l.name, ids[0], ids[1])
		}
		c.logs = append(c.logs, &copiedLog{name: l.name, key: signers[0], keyID: ids[0], origin: l.origin})
	}
	return nil
}

func (c *copier) openSides(ctx context.Context) error {
	logger := warnings(c.stderr)
	for _, s := range []struct {
		name   string
		config *Config
		to     *side
	}{{"source", c.from, &c.source}, {"target", c.to, &c.target}} {
		opened, err := openSide(ctx, s.config, logger)
		if err != nil {
			return fmt.Errorf("opening the %s: %w", s.name, err)
		}
		*s.to = opened
		c.closers = append(c.closers, opened.close)
	}
	var err error
	if c.files, err = c.source.repository(ctx); err != nil {
		return fmt.Errorf("reading the TUF repository of the source: %w", err)
	}
	had, err := c.target.repository(ctx)
	if err != nil {
		return fmt.Errorf("reading the TUF repository of the target: %w", err)
	}
	if len(had) > 0 && !maps.EqualFunc(had, c.files, bytes.Equal) {
		return errors.New("the target has another TUF repository than the source; copy into an empty storage")
	}
	return nil
}

// memoryFile is where a data directory has the second memory of a log.
func memoryFile(c *Config, name string) string { return filepath.Join(c.DataDir, name, "signed") }

// openLogs opens each log on both sides, and checks that the source has what it
// has signed, and that what the target has is a beginning of it.
//
// A tree of the transparency log is there when the one before it is frozen.
func (c *copier) openLogs(ctx context.Context) (err error) {
	var logs []*copiedLog
	frozen := true
	for _, l := range c.logs {
		if l.name != "ct" && !frozen {
			continue // the server will rotate to it
		}
		logs = append(logs, l)
		if l.source, err = c.source.source(ctx, l.name, l.keyID); err != nil {
			return fmt.Errorf("opening log %s of the source: %w", l.name, err)
		}
		c.closers = append(c.closers, l.source.Close)
		if l.held, err = c.hold(ctx, l, c.from, c.source.shared()); err != nil {
			return fmt.Errorf("log %s of the source: %w", l.name, err)
		}
		if err := makeDir(filepath.Join(c.to.DataDir, l.name)); err != nil {
			return err
		}
		l.remembered = l.held
		if !c.sameDir() {
			// It may have no memory yet.
			if l.remembered, err = c.hold(ctx, l, c.to, true); err != nil {
				return fmt.Errorf("log %s of the target: the source does not continue what its second memory has: %w", l.name, err)
			}
		}
		if l.target, err = c.target.target(ctx, l.name, l.source.TreeID(), l.keyID); err != nil {
			return fmt.Errorf("opening log %s of the target: %w", l.name, err)
		}
		c.closers = append(c.closers, l.target.Close)
		if l.begun, err = transfer.Begun(ctx, l.source, l.target); err != nil {
			return fmt.Errorf("log %s: the target is no beginning of a copy: %w", l.name, err)
		}
		frozen = l.held.Tree.Frozen
	}
	c.logs = logs
	return nil
}

// hold locks the second memory of a log in a data directory, and checks that the
// source continues it.
func (c *copier) hold(ctx context.Context, l *copiedLog, config *Config, shared bool) (*tlog.Held, error) {
	if err := makeDir(filepath.Join(config.DataDir, l.name)); err != nil {
		return nil, err
	}
	signer, err := checkpoint.NewSigner(l.origin(c.base, l.source.TreeID()), c.base.Hostname(), l.key)
	if err != nil {
		return nil, err
	}
	held, err := tlog.Hold(ctx, l.source, tlog.Options{Signer: signer, Memory: memoryFile(config, l.name), Shared: shared})
	if err != nil {
		return nil, err
	}
	c.closers = append(c.closers, held.Close)
	return held, nil
}

// remember makes the target one that no server starts on, as long as it lacks an
// entry.
func (c *copier) remember(ctx context.Context) error {
	for _, l := range c.logs {
		if err := l.remembered.Remember(); err != nil {
			return fmt.Errorf("log %s of the target: %w", l.name, err)
		}
		if l.begun < l.held.Tree.Size {
			if err := c.target.begin(ctx, l.name); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *copier) copyRepository(ctx context.Context) error {
	if err := c.target.putRepository(ctx, c.files); err != nil {
		return fmt.Errorf("copying the TUF repository: %w", err)
	}
	return nil
}

// copyCursors has the sinks of events go on where they were.
func (c *copier) copyCursors(ctx context.Context) error {
	for _, sink := range eventSinks {
		from, to := c.source.cursor(sink), c.target.cursor(sink)
		next, ok, err := from.Load(ctx)
		if err == nil && ok {
			var had uint64
			had, ok, err = to.Load(ctx)
			switch {
			case err != nil:
			case !ok:
				err = to.Create(ctx, next)
			case had != next:
				err = to.Move(ctx, had, next)
			}
		}
		if err != nil {
			return fmt.Errorf("copying the cursor of the events for the sink %q: %w", sink, err)
		}
	}
	return nil
}

func (c *copier) copyAudit(ctx context.Context) (err error) {
	if c.auditFrom, err = c.source.auditSource(); err != nil {
		return fmt.Errorf("opening the audit log of the source: %w", err)
	}
	c.closers = append(c.closers, c.auditFrom.Close)
	if c.auditTo, err = c.target.auditTarget(); err != nil {
		return fmt.Errorf("opening the audit log of the target: %w", err)
	}
	c.closers = append(c.closers, c.auditTo.Close)
	return transfer.Audit(ctx, c.auditFrom, c.auditTo)
}

// tell is after how many entries a line tells of progress.
const tell = 100_000

func (c *copier) copyLogs(ctx context.Context) error {
	for _, l := range c.logs {
		if l.begun > 0 {
			fmt.Fprintf(c.stderr, "%s: the target has %d entries already\n", l.name, l.begun)
		}
		if err := transfer.SearchKeys(ctx, l.source, l.target); err != nil {
			return fmt.Errorf("log %s: %w", l.name, err)
		}
		if err := transfer.Attestations(ctx, l.source, l.target); err != nil {
			return fmt.Errorf("log %s: %w", l.name, err)
		}
		told := l.begun
		err := transfer.Entries(ctx, l.source, l.target, func(done, total uint64) {
			if done/tell > told/tell || done == total {
				fmt.Fprintf(c.stderr, "%s: %d of %d entries\n", l.name, done, total)
				told = done
			}
		})
		if err != nil {
			return fmt.Errorf("log %s: %w", l.name, err)
		}
	}
	return nil
}

// compare reads both sides again. Only then the target may be served.
func (c *copier) compare(ctx context.Context) error {
	var lines []string
	for _, l := range c.logs {
		fmt.Fprintf(c.stderr, "%s: comparing\n", l.name)
		result, err := transfer.Compare(ctx, l.source, l.target)
		if err != nil {
			return fmt.Errorf("log %s: %w", l.name, err)
		}
		if result.Size != l.held.Tree.Size {
			return fmt.Errorf("log %s of the source had %d entries, and has %d now: somebody serves it; stop that and copy again", l.name, l.held.Tree.Size, result.Size)
		}
		lines = append(lines, fmt.Sprintf("%s: %d entries, root %x, tree %d, %d search keys, %d attestations", l.name, result.Size, result.Root, l.target.TreeID(), result.Keys, result.Attestations))
	}
	rows, err := transfer.CompareAudit(ctx, c.auditFrom, c.auditTo)
	if err != nil {
		return err
	}
	files, err := c.target.repository(ctx)
	if err != nil {
		return fmt.Errorf("reading the TUF repository of the target: %w", err)
	}
	if !maps.EqualFunc(files, c.files, bytes.Equal) {
		return errors.New("the TUF repository of the target is not the source's")
	}
	lines = append(lines, fmt.Sprintf("audit: %d rows, head %x, %d claims of tokens", rows.Rows, rows.Head, rows.Claims), fmt.Sprintf("tuf: %d files", len(files)))
	for _, l := range c.logs {
		if err := c.target.end(ctx, l.name, l.keyID); err != nil {
			return err
		}
	}
	for _, line := range lines {
		if _, err := fmt.Fprintln(c.stdout, line+": equal"); err != nil {
			return err
		}
	}
	return nil
}
