package main

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/sigstack/sigstack/storage/mysql"
	"github.com/sigstack/sigstack/storage/sqlite"
	"github.com/sigstack/sigstack/tlog"
	"github.com/sigstack/sigstack/tlog/rekor"
)

func indexCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "index", Short: "The search index of the transparency log"}
	cmd.AddCommand(indexRebuildCommand())
	return cmd
}

func indexRebuildCommand() *cobra.Command {
	var file string
	var check bool
	cmd := &cobra.Command{
		Use:   "rebuild --config FILE [--check]",
		Short: "Make the search index what the entries of the log say",
		Long: `rebuild reads every entry of the transparency log, compares the search keys that it
gives with those that are stored, adds what is missing and removes what is stray.
Keys are stored in the transaction that stores their entry: there is something to
do only after an upgrade that brings new kinds of keys, or after somebody else has
changed the index.

With storage sqlite stop the server first; it must have been started with this
version once. With mysql servers of this version may run meanwhile, and a database
of an earlier version is brought to this one, as by a start of a server.

With --check it changes nothing, and exits with 1 if there is a difference.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := loadFile(file)
			if err != nil {
				return err
			}
			return rebuildIndex(cmd.Context(), &c, check, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "configuration file of the server")
	cmd.Flags().BoolVar(&check, "check", false, "only say what differs")
	cmd.MarkFlagRequired("config")
	return cmd
}

// An indexLog is a log whose search index is rebuilt.
type indexLog interface {
	tlog.Store
	rekor.IndexStore
	TreeID() int64
	Close() error
}

// maxDifferences bounds the differences that are printed one by one.
const maxDifferences = 100

// rebuildIndex goes through the trees of the log, the oldest first.
func rebuildIndex(ctx context.Context, c *Config, check bool, stdout, stderr io.Writer) error {
	list, _, err := readShards(c)
	if err != nil {
		return err
	}
	differ := false
	for i, name := range list.names {
		key, err := openKey(ctx, c.shardURI(name), nil)
		if err != nil {
			return fmt.Errorf("the key of log %s: %w", shardName(i), err)
		}
		found, frozen, err := rebuildTree(ctx, c, shardName(i), key, check, stdout, stderr)
		if err != nil {
			return fmt.Errorf("log %s: %w", shardName(i), err)
		}
		differ = differ || found
		if !frozen { // the one in use
			break
		}
	}
	if check && differ {
		return errFindings
	}
	return nil
}

// rebuildTree rebuilds the index of a tree, and says whether it was another, and
// whether the tree is frozen.
func rebuildTree(ctx context.Context, c *Config, name string, key crypto.Signer, check bool, stdout, stderr io.Writer) (differs, frozen bool, err error) {
	store, closeAll, err := indexStore(ctx, c, name, key, check, stderr)
	if err != nil {
		return false, false, err
	}
	defer func() { err = errors.Join(err, closeAll()) }()
	head, err := store.Head(ctx)
	if err != nil {
		return false, false, err
	}
	told := 0
	report, err := rekor.RebuildIndex(ctx, store, !check, func(what string, k tlog.SearchKey) {
		if told++; told <= maxDifferences {
			fmt.Fprintf(stdout, "%s: %s: key %q of entry %d\n", name, what, k.Name, k.Index)
		}
	})
	if err != nil {
		return false, false, err
	}
	if told > maxDifferences {
		fmt.Fprintf(stdout, "%s: ... and %d more\n", name, told-maxDifferences)
	}
	missing, stray := "added", "removed"
	if check {
		missing, stray = "missing", "stray"
	}
	_, err = fmt.Fprintf(stdout, "%s: %d entries, %d search keys: %d %s, %d %s, %d kept that the entries cannot prove\n",
		name, report.Entries, report.Keys, report.Missing, missing, report.Stray, stray, report.Kept)
	if err == nil && report.Unread > 0 {
		_, err = fmt.Fprintf(stdout, "%s: %d entries are of a kind or a form that this version does not read; they have no search keys\n", name, report.Unread)
	}
	return report.Missing+report.Stray > 0, head.Frozen, err
}

// indexStore opens the log as its storage wants it.
func indexStore(ctx context.Context, c *Config, name string, key crypto.Signer, check bool, stderr io.Writer) (indexLog, func() error, error) {
	if c.Storage != "mysql" {
		return holdIndex(ctx, c, name, key, check)
	}
	id, err := keyID(key.Public())
	if err != nil {
		return nil, nil, err
	}
	dsn, err := readSecret(c.MySQL.DSNFile)
	if err != nil {
		return nil, nil, fmt.Errorf("mysql.dsn-file: %w", err)
	}
	db, err := mysql.OpenPatiently(ctx, dsn, time.Now, warnings(stderr))
	if err != nil {
		return nil, nil, err
	}
	store, err := db.Existing(ctx, name, id)
	if err != nil {
		return nil, nil, errors.Join(err, db.Close())
	}
	return store, db.Close, nil
}

// holdIndex opens the log in a data directory that no server uses, and that none can
// use before it is closed. Before that is sure nothing of it is changed.
func holdIndex(ctx context.Context, c *Config, name string, key crypto.Signer, check bool) (indexLog, func() error, error) {
	path := filepath.Join(c.DataDir, name, "log.db")
	store, err := sqlite.OpenReadOnly(path)
	if err != nil {
		return nil, nil, err
	}
	held, err := holdRekor(ctx, c, name, store, key)
	if err != nil {
		return nil, nil, errors.Join(err, store.Close())
	}
	if check {
		return store, func() error { return errors.Join(store.Close(), held.Close()) }, nil
	}
	if err := store.Close(); err != nil {
		return nil, nil, errors.Join(err, held.Close())
	}
	if store, err = sqlite.Open(path, time.Now); err != nil {
		return nil, nil, errors.Join(err, held.Close())
	}
	return store, func() error { return errors.Join(store.Close(), held.Close()) }, nil
}

// holdRekor locks the second memory of the log, and checks that a store continues it.
func holdRekor(ctx context.Context, c *Config, name string, store indexLog, key crypto.Signer) (*tlog.Held, error) {
	signer, err := c.checkpointSigner(store.TreeID(), key)
	if err != nil {
		return nil, err
	}
	return tlog.Hold(ctx, store, tlog.Options{Signer: signer, Memory: memoryFile(c, name)})
}
