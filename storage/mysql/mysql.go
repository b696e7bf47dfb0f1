// Package mysql keeps logs and audit rows in a MySQL or MariaDB database, or in
// what speaks their protocol: the storage that several replicas share.
//
// A [DB] is one database. A [Store] is one log in it: a tree of Trillian, whose
// tables, driver and sequencer are used as a library in this process. There is
// no other process, no polling and no election.
//
//   - Append takes new leaves into the tree past the queue, in one transaction.
//     Where that meets another sequencer, or a leaf that is known, it takes two: a
//     leaf is safe once the first is committed, and whoever appends next to this
//     log, in whatever replica, integrates it.
//   - Replicas may append at the same time. Primary keys let one sequencer win;
//     the other reads where its leaves went. A leaf is in the tree once, and
//     every replica answers with the same index and time.
//   - An answer that was lost, of whichever commit, is found out by reading
//     back: the timestamps of the queue say which leaves were ours.
//   - A server that is away is waited for once, for little more than a second,
//     and not once for each statement or each caller; and it is not stormed when it is back.
//   - The password in the DSN is in no error and in no line of a log.
//
// The tables are Trillian's own, so that an unmodified trillian_log_server and
// trillian_log_signer, built with the tag batched_queue as this package wants
// to be, work on them at the same time.
package mysql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/trillian"
	"github.com/google/trillian/log"
	"github.com/google/trillian/storage"
	trillianmysql "github.com/google/trillian/storage/mysql"
	"github.com/google/trillian/types"
	"github.com/transparency-dev/merkle/rfc6962"
	"google.golang.org/protobuf/types/known/durationpb"
	"k8s.io/klog/v2"

	"github.com/sigstack/sigstack/tlog"
)

const (
	// maxWriters bounds the connections that write. Each log and the audit rows
	// use one at a time, and Trillian's driver a second one for an instant.
	maxWriters = 8

	// maxReaders bounds the connections that read.
	maxReaders = 16
)

// trillianOnce sets up what Trillian has only once in a process.
var trillianOnce sync.Once

// A DB is a database. It is safe for concurrent use.
type DB struct {
	read, write *sql.DB
	reach       *reach // of both
	patient     *connector
	now         func() time.Time

	writer storage.LogStorage // Trillian over write
}

// Open connects to the database that a DSN names, user:password@tcp(host:port)/name,
// and brings its schema to the version of this binary.
func Open(ctx context.Context, dsn string, now func() time.Time, logger *slog.Logger) (*DB, error) {
	return open(ctx, dsn, ioTimeout, now, logger)
}

// OpenPatiently is Open for work that no client waits for: a statement may take
// as long as the server needs for it, within minutes.
func OpenPatiently(ctx context.Context, dsn string, now func() time.Time, logger *slog.Logger) (*DB, error) {
	return open(ctx, dsn, patience, now, logger)
}

// Connect returns connections to a database for whoever reads it with statements of
// its own. Nothing of it is looked at or changed.
func Connect(dsn string, logger *slog.Logger) (*sql.DB, error) {
	c, err := newConnector(dsn, patience, logger)
	if err != nil {
		return nil, fmt.Errorf("opening database: %w", err)
	}
	return connect(c, 2), nil
}

func open(ctx context.Context, dsn string, timeout time.Duration, now func() time.Time, logger *slog.Logger) (*DB, error) {
	trillianOnce.Do(func() {
		log.InitMetrics(nil)
		// Its errors come back to us; what it prints are stacks of
		// transactions that were rolled back.
		klog.SetSlogLogger(slog.New(slog.DiscardHandler))
	})
	quick, err := newConnector(dsn, timeout, logger)
	if err != nil {
		return nil, fmt.Errorf("opening database: %w", err)
	}
	patient, err := newConnector(dsn, patience, logger)
	if err != nil {
		return nil, fmt.Errorf("opening database: %w", err)
	}
	d := &DB{read: connect(quick, maxReaders), write: connect(quick, maxWriters), reach: quick.reach, patient: patient, now: now}
	d.writer = trillianmysql.NewLogStorage(d.write, nil)
	if err := d.migrate(ctx); err != nil {
		d.Close()
		return nil, fmt.Errorf("opening database: %w", err)
	}
	if err := d.mayBeLong(ctx); err != nil {
		d.Close()
		return nil, fmt.Errorf("opening database: %w", err)
	}
	if err := d.nameQueued(ctx); err != nil {
		d.Close()
		return nil, fmt.Errorf("opening database: %w", err)
	}
	return d, nil
}

// Close closes all connections. No other call may be under way.
func (d *DB) Close() error {
	d.reach.close()
	return errors.Join(d.read.Close(), d.write.Close())
}

// mayBeLong refuses a server that does not take the longest request, that of
// a batch in which each byte has to be escaped.
func (d *DB) mayBeLong(ctx context.Context) error {
	const want = 2*tlog.MaxBatchBytes + 2<<20
	var got int64
	if err := d.write.QueryRowContext(ctx, "SELECT @@max_allowed_packet").Scan(&got); err != nil {
		return err
	}
	if got < want {
		return fmt.Errorf("the server takes statements of %d bytes (max_allowed_packet), want at least %d", got, want)
	}
	return nil
}

// nameQueued gives the leaves that a server without the tag batched_queue has
// queued the ID that a sequencer with the tag removes them by. Any unique one
// will do.
func (d *DB) nameQueued(ctx context.Context) error {
	_, err := d.write.ExecContext(ctx, `UPDATE Unsequenced
		SET QueueID = UNHEX(SHA2(CONCAT_WS(':', TreeId, QueueTimestampNanos, HEX(LeafIdentityHash)), 256))
		WHERE QueueID IS NULL`)
	if err != nil {
		return fmt.Errorf("naming queued leaves: %w", err)
	}
	return nil
}

// Log opens the log with a name, or makes it. Which tree it is is decided once,
// for all replicas. Search keys that a process which has ended could not place are
// placed.
func (d *DB) Log(ctx context.Context, name string) (*Store, error) {
	id, err := d.treeID(ctx, d.write, name)
	if errors.Is(err, sql.ErrNoRows) {
		err = d.locked(ctx, func(c *sql.Conn) error {
			if id, err = d.treeID(ctx, c, name); errors.Is(err, sql.ErrNoRows) {
				id, err = d.createTree(ctx, c, name)
			}
			return err
		})
		// The nodes of a cluster do not see each other's locks.
		if isError(err, errDuplicate, errDeadlock) {
			id, err = d.treeID(ctx, d.write, name)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("opening log %q: %w", name, err)
	}
	if err := d.place(ctx, id); err != nil {
		return nil, fmt.Errorf("opening log %q: %w", name, err)
	}
	return d.store(ctx, name, id)
}

// store returns the log that a tree is.
func (d *DB) store(ctx context.Context, name string, id int64) (*Store, error) {
	tree, err := storage.GetTree(ctx, trillianmysql.NewAdminStorage(d.write), id)
	if err != nil {
		return nil, fmt.Errorf("opening log %q: %w", name, err)
	}
	if tree.TreeType != trillian.TreeType_LOG || tree.TreeState != trillian.TreeState_ACTIVE && tree.TreeState != trillian.TreeState_FROZEN || tree.Deleted {
		return nil, fmt.Errorf("opening log %q: tree %d is not a log that is active or frozen", name, id)
	}
	return &Store{db: d, path: "mysql/" + name + "/log", tree: tree}, nil
}

func (d *DB) treeID(ctx context.Context, q querier, name string) (id int64, err error) {
	err = q.QueryRowContext(ctx, "SELECT tree_id FROM sigstack_log WHERE name = ?", name).Scan(&id)
	return id, err
}

// createTree makes an empty tree, then names it: after that it is the log. A
// tree without a name, of a process that ended in between, is never looked at.
func (d *DB) createTree(ctx context.Context, c *sql.Conn, name string) (int64, error) {
	tree, err := d.newTree(ctx, name)
	if err != nil {
		return 0, err
	}
	if err := d.initTree(ctx, tree); err != nil {
		return 0, err
	}
	_, err = c.ExecContext(ctx, "INSERT INTO sigstack_log (name, tree_id, created) VALUES (?, ?, ?)", name, tree.TreeId, d.now().UnixNano())
	return tree.TreeId, err
}

// newTree makes a tree, which has no head yet. Its ID is random.
func (d *DB) newTree(ctx context.Context, name string) (*trillian.Tree, error) {
	tree, err := storage.CreateTree(ctx, trillianmysql.NewAdminStorage(d.write), &trillian.Tree{
		TreeState:       trillian.TreeState_ACTIVE,
		TreeType:        trillian.TreeType_LOG,
		DisplayName:     name,
		MaxRootDuration: durationpb.New(0),
	})
	if err != nil {
		return nil, fmt.Errorf("making a tree: %w", err)
	}
	return tree, nil
}

// initTree gives a tree its first head, of size 0.
func (d *DB) initTree(ctx context.Context, tree *trillian.Tree) error {
	root, err := (&types.LogRootV1{
		RootHash:       rfc6962.DefaultHasher.EmptyRoot(),
		TimestampNanos: uint64(d.now().UnixNano()),
	}).MarshalBinary()
	if err != nil {
		return err
	}
	err = d.writer.ReadWriteTransaction(ctx, tree, func(ctx context.Context, tx storage.LogTreeTX) error {
		return tx.StoreSignedLogRoot(ctx, &trillian.SignedLogRoot{LogRoot: root})
	})
	if err != nil {
		return fmt.Errorf("initializing tree %d: %w", tree.TreeId, err)
	}
	return nil
}
