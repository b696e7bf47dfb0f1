package main

import (
	"cmp"
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/sigstack/sigstack/storage/bucket"
	"github.com/sigstack/sigstack/storage/mysql"
	"github.com/sigstack/sigstack/tlog"
	"github.com/sigstack/sigstack/tlog/migrate"
)

func importCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "import", Short: "Take over what another server has written"}
	cmd.AddCommand(importRekorCommand())
	return cmd
}

func importRekorCommand() *cobra.Command {
	i := &importer{now: time.Now}
	var file string
	cmd := &cobra.Command{
		Use:   "rekor --config FILE (--url URL | --trillian-dsn-file FILE --tree-id ID) --key URI",
		Short: "Take over the log of a Rekor v1 server",
		Long: `rekor copies the log of a server with the Rekor v1 API: every tree of it becomes a
frozen tree of this log, with its ID, its key, and its entries, which keep their
indices, UUIDs and times. This log goes on behind them in a tree of its own.

Run it after "sigstack init" and before the first start. The source is its API
(--url), or the database of its Trillian (--trillian-dsn-file, with the --tree-id of
each tree, the oldest first), which has no attestations. The tree that all entries
lead to must be the one that the source has signed, or nothing is served.

Who reads an old entry gets it with a signature of now, so the private key of each
tree is needed (--key, a URI as in keys.rekorv1, once for each tree). Keep them all.

The source may be written to at first. Then the import ends by saying so: stop the
writers, and run it again. It goes on where it was, as after any interruption.`,
		Example: "  sigstack import rekor --config sigstack.yaml --url https://rekor.example.com --key file:/etc/rekor/key.pem",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := loadFile(file)
			if err != nil {
				return err
			}
			i.config, i.stdout, i.stderr = &c, cmd.OutOrStdout(), cmd.ErrOrStderr()
			return errors.Join(i.run(cmd.Context()), i.closers.close())
		},
	}
	f := cmd.Flags()
	f.StringVar(&file, "config", "", "configuration file of the server")
	f.StringVar(&i.url, "url", "", "the source: the server below whose URL /api/v1/log is")
	f.StringVar(&i.dsnFile, "trillian-dsn-file", "", "the source: file with the DSN of its Trillian's MySQL database")
	f.Int64SliceVar(&i.treeIDs, "tree-id", nil, "a tree in that database (repeatable, the oldest first)")
	f.StringArrayVar(&i.keyURIs, "key", nil, "URI of the private key of a tree (repeatable)")
	cmd.MarkFlagRequired("config")
	cmd.MarkFlagRequired("key")
	cmd.MarkFlagsOneRequired("url", "trillian-dsn-file")
	cmd.MarkFlagsMutuallyExclusive("url", "trillian-dsn-file")
	cmd.MarkFlagsRequiredTogether("trillian-dsn-file", "tree-id")
	return cmd
}

// importTimeout bounds one request to the source.
const importTimeout = 2 * time.Minute

// An importer takes a log over. Its fields are set in the order of run.
type importer struct {
	config         *Config
	stdout, stderr io.Writer
	now            func() time.Time

	url, dsnFile string // of the source; one of them
	treeIDs      []int64
	keyURIs      []string

	source func(ctx context.Context) ([]migrate.Tree, error)
	trees  []*importedTree
	list   shardKeys // as it is to be
	begun  bool      // the list is there already
	side   side
	bucket *bucket.Bucket // of attestations; nil where they are kept elsewhere

	closers closers
}

// An importedTree becomes a tree of the log.
type importedTree struct {
	migrate.Tree
	name     string // of the log that it becomes
	signer   crypto.Signer
	keyID    [32]byte // SHA-256 of the SubjectPublicKeyInfo
	reserved *tlog.Reserved
	store    copyLog
}

// run imports. The order of its steps is what makes a half import one that no server
// starts on: the list of keys says that one is under way before the first entry comes,
// until all is done; and so does a database, to replicas that have other lists.
func (i *importer) run(ctx context.Context) error {
	unlock, err := i.lock()
	if err != nil {
		return err
	}
	defer unlock()
	for _, step := range []func(context.Context) error{
		i.openSource, i.findTrees, i.matchKeys, i.planList, i.openTrees, i.begin, i.copyTrees, i.freeze, i.end,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// lock keeps a second import, and a rotation, out.
func (i *importer) lock() (unlock func(), err error) {
	dir := filepath.Dir(i.config.shardsFile())
	if err := makeDir(dir); err != nil {
		return nil, err
	}
	return lockDir(dir)
}

func (i *importer) openSource(context.Context) error {
	if i.url != "" {
		api, err := migrate.NewAPI(i.url, &http.Client{Timeout: importTimeout})
		if err != nil {
			return fmt.Errorf("--url: %w", err)
		}
		i.source = api.Trees
		return nil
	}
	dsn, err := readSecret(i.dsnFile)
	if err != nil {
		return fmt.Errorf("--trillian-dsn-file: %w", err)
	}
	db, err := mysql.ConnectTrillian(dsn, warnings(i.stderr))
	if err != nil {
		return fmt.Errorf("--trillian-dsn-file: %w", err)
	}
	i.closers = append(i.closers, db.Close)
	i.source = func(ctx context.Context) (trees []migrate.Tree, err error) {
		for _, id := range i.treeIDs {
			head, err := db.Head(ctx, id)
			if err != nil {
				return nil, err
			}
			if head.Size > 0 {
				trees = append(trees, migrate.Tree{ID: id, Size: head.Size, Root: head.Root, Source: trillianTree{db, id}})
			}
		}
		return trees, nil
	}
	return nil
}

// A trillianTree is the source that a tree in a database is.
type trillianTree struct {
	db *mysql.Trillian
	id int64
}

func (t trillianTree) Entries(ctx context.Context, begin uint64, most int) ([]migrate.Entry, error) {
	records, err := t.db.Records(ctx, t.id, begin, most)
	entries := make([]migrate.Entry, len(records))
	for n, r := range records {
		entries[n].Record = r
	}
	return entries, err
}

func (i *importer) findTrees(ctx context.Context) error {
	trees, err := i.source(ctx)
	if err != nil {
		return fmt.Errorf("the source: %w", err)
	}
	if len(trees) == 0 {
		return errors.New("the source has no entries; there is nothing to import")
	}
	for n, tree := range trees {
		if slices.ContainsFunc(trees[:n], func(other migrate.Tree) bool { return other.ID == tree.ID }) {
			return fmt.Errorf("the source has tree %d twice", tree.ID)
		}
		i.trees = append(i.trees, &importedTree{Tree: tree, name: shardName(n)})
	}
	return nil
}

// matchKeys finds the key of each tree: the one that the source shows, or else the one
// that stands in its place.
func (i *importer) matchKeys(ctx context.Context) error {
	if len(i.keyURIs) != len(i.trees) {
		return fmt.Errorf("--key: %d keys are given, and the source has %d trees with entries; want the key of each", len(i.keyURIs), len(i.trees))
	}
	dir := filepath.Dir(i.config.shardsFile())
	signers := make([]crypto.Signer, len(i.keyURIs))
	names := make([]string, len(i.keyURIs))
	for n, uri := range i.keyURIs {
		var err error
		if signers[n], err = openKey(ctx, uri, nil); err != nil {
			return fmt.Errorf("--key: %w", err)
		}
		if names[n], err = keyNameIn(dir, uri); err != nil {
			return err
		}
	}
	for n, tree := range i.trees {
		if tree.Key != nil {
			n = slices.IndexFunc(signers, func(s crypto.Signer) bool { return samePublic(s.Public(), tree.Key) })
			if n < 0 {
				id, err := keyID(tree.Key)
				return cmp.Or(err, fmt.Errorf("--key: none of the keys is that of tree %d, which has the ID %x", tree.ID, id))
			}
		}
		if err := i.config.checkShardKey(ctx, i.list, names[n]); err != nil {
			return fmt.Errorf("--key: %w", err)
		}
		i.list.names = append(i.list.names, names[n])
		tree.signer = signers[n]
		var err error
		if tree.keyID, err = keyID(tree.signer.Public()); err != nil {
			return err
		}
	}
	return nil
}

// planList puts this log's own key behind those of the source, and refuses a log that
// has gone on already.
func (i *importer) planList(ctx context.Context) error {
	list, data, err := readShardList(i.config)
	if err != nil {
		return err
	}
	own := list.names[len(list.names)-1]
	if data == nil {
		if own, err = keyNameIn(filepath.Dir(i.config.shardsFile()), own); err != nil {
			return err
		}
	}
	i.begun = data != nil
	imported := i.list.names
	if i.begun && (list.next != "" || !slices.Equal(list.names[:len(list.names)-1], imported)) {
		return fmt.Errorf("%s does not list the keys of these trees before one of its own: the log has been rotated, or has taken over another one; import into a new installation", i.config.shardsFile())
	}
	if err := i.config.checkShardKey(ctx, i.list, own); err != nil {
		return fmt.Errorf("this log's own key: %w", err)
	}
	if i.list.names = append(imported, own); len(i.list.names) > maxShards {
		return fmt.Errorf("the log would have %d trees, and no more than %d are possible", len(i.list.names), maxShards)
	}
	return nil
}

// openTrees opens what the trees become, and keeps servers from them.
func (i *importer) openTrees(ctx context.Context) (err error) {
	if i.side, err = openSide(ctx, i.config, warnings(i.stderr)); err != nil {
		return err
	}
	i.closers = append(i.closers, i.side.close)
	if i.bucket, err = i.config.openBucket(ctx); err != nil {
		return err
	}
	if i.bucket != nil {
		i.closers = append(i.closers, i.bucket.Close)
	}
	for _, tree := range i.trees {
		if err := makeDir(filepath.Join(i.config.DataDir, tree.name)); err != nil {
			return err
		}
		signer, err := i.config.checkpointSigner(tree.ID, tree.signer)
		if err != nil {
			return err
		}
		if tree.reserved, err = tlog.Reserve(memoryFile(i.config, tree.name), signer); err != nil {
			return fmt.Errorf("tree %d: %w", tree.ID, err)
		}
		i.closers = append(i.closers, tree.reserved.Close)
		if tree.store, err = i.side.target(ctx, tree.name, tree.ID, tree.keyID); err != nil {
			return fmt.Errorf("tree %d: %w; import into an installation that was not started yet", tree.ID, err)
		}
		i.closers = append(i.closers, tree.store.Close)
	}
	return nil
}

// begin writes the list that no server starts on.
func (i *importer) begin(context.Context) error {
	if i.begun {
		return nil
	}
	list := i.list
	list.importing = true
	return writeFile(i.config.shardsFile(), list.text())
}

func (i *importer) copyTrees(ctx context.Context) error {
	for _, tree := range i.trees {
		head, err := tree.store.Head(ctx)
		if err != nil {
			return fmt.Errorf("tree %d: %w", tree.ID, err)
		}
		bar := newProgress(i.stderr, fmt.Sprintf("tree %d", tree.ID), head.Size, i.now)
		unread, err := migrate.Import(ctx, tree.Tree, tree.store, migrate.Options{Keep: i.keeper(tree.store), Progress: bar.tell})
		if err != nil {
			return fmt.Errorf("tree %d: %w", tree.ID, err)
		}
		if unread > 0 {
			fmt.Fprintf(i.stderr, "tree %d: %d of the entries that came now are of a kind or a form that this version does not read; they have no search keys\n", tree.ID, unread)
		}
	}
	return nil
}

// keeper returns what keeps attestations as the configuration says, nil where nothing
// does.
func (i *importer) keeper(store copyLog) func(context.Context, []tlog.Attestation) error {
	c := i.config.Rekor.Attestations
	keep := store.ImportAttestations
	switch {
	case i.bucket != nil:
		keep = i.bucket.KeepAll
	case c.Storage == "none":
		return nil
	}
	return func(ctx context.Context, attestations []tlog.Attestation) error {
		return keep(ctx, slices.DeleteFunc(attestations, func(a tlog.Attestation) bool { return len(a.Bytes) > c.MaxBytes }))
	}
}

// freeze freezes the trees, if the source has nothing more.
func (i *importer) freeze(ctx context.Context) error {
	now, err := i.source(ctx)
	if err != nil {
		return fmt.Errorf("the source: %w", err)
	}
	if len(now) != len(i.trees) {
		return fmt.Errorf("the source had %d trees with entries, and has %d now; run the import again, with the keys of all", len(i.trees), len(now))
	}
	for n, tree := range i.trees {
		if now[n].ID != tree.ID || now[n].Size != tree.Size || now[n].Root != tree.Root {
			return fmt.Errorf("the source is written to: tree %d had %d entries, and tree %d has %d now; stop who writes, and run the import again: it goes on there", tree.ID, tree.Size, now[n].ID, now[n].Size)
		}
	}
	for _, tree := range i.trees {
		if err := tree.store.Freeze(ctx); err != nil {
			return fmt.Errorf("freezing tree %d: %w", tree.ID, err)
		}
		if err := tree.reserved.Remember(tree.Size, tree.Root); err != nil {
			return fmt.Errorf("tree %d: %w", tree.ID, err)
		}
	}
	return nil
}

// end lets servers serve the log, and says what it has.
func (i *importer) end(ctx context.Context) error {
	if err := writeFile(i.config.shardsFile(), i.list.text()); err != nil {
		return err
	}
	for _, tree := range i.trees {
		if err := i.side.end(ctx, tree.name, tree.keyID); err != nil {
			return err
		}
		if _, err := fmt.Fprintf(i.stdout, "tree %d: %d entries, root %x: equal\n", tree.ID, tree.Size, tree.Root); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(i.stdout, `The log goes on behind them with the key %s.
Next:
  start the server: its trust root has the keys of all trees
  keep those keys: what is in the trees is signed with them for whoever asks
`, shownKey(i.config.shardURI(i.list.names[len(i.trees)])))
	return err
}
