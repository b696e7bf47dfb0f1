package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sigstack/sigstack/tlog/rekor"
	"github.com/sigstack/sigstack/trust"
)

// The transparency log goes on in a new tree, with a key of its own, each time it is
// rotated. A file lists the keys, that of the oldest tree first:
//
//	rekorv1.pem
//	rekorv1-2.pem
//	next awskms:///alias/rekorv1-3
//
// Each line is the name of a file beside it, or a URI as in keys.rekorv1. The last
// line signs. One behind "next" is published, and does not sign yet. What follows a
// # is a comment. Without the file there is one tree, with the key keys.rekorv1.
//
// A line "importing" says that the trees of all keys but the last are not complete.

// Bounds of that file.
const (
	maxShardsFile = 64 << 10 // bytes
	maxShards     = 100      // lines with a key
)

const (
	nextShard       = "next"
	importingShards = "importing"
)

// shardKeys are what the file lists.
type shardKeys struct {
	names []string // as they stand there
	next  string   // that of the tree after them; "" where none is announced

	importing bool
}

// parseShards reads the list.
func parseShards(data []byte) (k shardKeys, err error) {
	n := 0
	for line := range bytes.Lines(data) {
		n++
		text, _, _ := strings.Cut(string(line), "#")
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		if text == importingShards {
			k.importing = true
			continue
		}
		name, isNext := text, false
		if words := strings.Fields(text); words[0] == nextShard {
			name, isNext = strings.TrimSpace(text[len(nextShard):]), true
		}
		if !goodKeyName(name) {
			return k, fmt.Errorf("line %d is not the name of a file beside it, or a URI", n)
		}
		switch {
		case k.next != "":
			return k, fmt.Errorf("line %d comes behind the one that begins with %q, which is the last", n, nextShard)
		case slices.Contains(k.names, name):
			return k, fmt.Errorf("line %d names a key that stands above; each tree has its own", n)
		case len(k.names) == maxShards:
			return k, fmt.Errorf("line %d is one too many; want at most %d keys", n, maxShards)
		case isNext:
			k.next = name
		default:
			k.names = append(k.names, name)
		}
	}
	if len(k.names) == 0 {
		return k, errors.New("it names no key that signs")
	}
	return k, nil
}

// text is the file that parseShards reads.
func (k shardKeys) text() []byte {
	var b bytes.Buffer
	if k.importing {
		b.WriteString(importingShards + "\n")
	}
	for _, name := range k.names {
		b.WriteString(name + "\n")
	}
	if k.next != "" {
		b.WriteString(nextShard + " " + k.next + "\n")
	}
	return b.Bytes()
}

// all returns the keys of all trees, with that of the next.
func (k shardKeys) all() []string {
	if k.next == "" {
		return k.names
	}
	return append(k.names[:len(k.names):len(k.names)], k.next)
}

// shardsFile is where the list is.
func (c *Config) shardsFile() string {
	return cmp.Or(c.Rekor.Shards, filepath.Join(c.DataDir, "keys", "rekorv1-shards"))
}

// shardURI is the URI of a key that the list names.
func (c *Config) shardURI(name string) string {
	if strings.Contains(name, ":") {
		return name
	}
	return "file:" + filepath.Join(filepath.Dir(c.shardsFile()), name)
}

// readShards reads the list of a log that may be used, and returns its bytes as well.
func readShards(c *Config) (shardKeys, []byte, error) {
	k, data, err := readShardList(c)
	if err == nil && k.importing {
		err = fmt.Errorf("an import into the transparency log is not complete; run it again, or, to give it up, remove %s and the directories of its trees in %s", c.shardsFile(), c.DataDir)
	}
	return k, data, err
}

// readShardList reads the list. Where there is no file it has the key keys.rekorv1.
func readShardList(c *Config) (shardKeys, []byte, error) {
	data, err := readBounded(c.shardsFile(), maxShardsFile)
	if errors.Is(err, fs.ErrNotExist) && c.Rekor.Shards == "" {
		uri := cmp.Or(c.Keys.RekorV1, "file:"+filepath.Join(c.DataDir, "keys", rekorV1Key))
		return shardKeys{names: []string{uri}}, nil, nil
	}
	if err != nil {
		return shardKeys{}, nil, fmt.Errorf("the keys of the transparency log: %w", err)
	}
	k, err := parseShards(data)
	if err != nil {
		return k, nil, fmt.Errorf("the keys of the transparency log in %s: %w", c.shardsFile(), err)
	}
	return k, data, nil
}

// shardName is the name of the log that a tree is, counted from 0: that of its
// directory, and in the database.
func shardName(i int) string {
	if i == 0 {
		return "rekorv1"
	}
	return fmt.Sprintf("rekorv1-%d", i+1)
}

// openShards are the keys of the trees, open. They never change.
type openShards struct {
	signers []crypto.Signer // of all trees, and of the next
	signing int             // how many of them may sign
	content digest          // of the file
}

// loadShards opens the keys that the list names. Before is what was open, nil at the
// start: a key that is there still is not opened anew.
func (s *server) loadShards(ctx context.Context, before *openShards) (*openShards, error) {
	k, data, err := readShards(s.config)
	if err != nil {
		return nil, err
	}
	if before != nil && before.content == sum(data) {
		return before, nil
	}
	opened := &openShards{signing: len(k.names), content: sum(data)}
	for i, name := range k.all() {
		signer, err := openKey(ctx, s.config.shardURI(name), s.keyMetrics.observe(shardName(i)))
		if errors.Is(err, fs.ErrNotExist) && data == nil && s.config.Keys.RekorV1 == "" {
			err = fmt.Errorf("%w; make the keys with `sigstack init`, or name the key in the configuration", err)
		}
		if err != nil {
			return nil, fmt.Errorf("the key of the transparency log's tree %d: %w", i+1, err)
		}
		opened.signers = append(opened.signers, signer)
	}
	if before == nil {
		return opened, nil
	}
	for i := range s.rekor.Active() + 1 {
		if i >= opened.signing || !samePublic(opened.signers[i].Public(), before.signers[i].Public()) {
			return nil, fmt.Errorf("%s does not name the key of tree %d any more, which is in use; the keys of all trees stay", s.config.shardsFile(), i+1)
		}
	}
	return opened, nil
}

func samePublic(a, b crypto.PublicKey) bool {
	key, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && key.Equal(b)
}

// openShard opens a tree of the log, counted from 0.
func (s *server) openShard(ctx context.Context, i int) (rekor.Shard, error) {
	signers := s.shards.Load().signers
	if i >= len(signers) {
		return rekor.Shard{}, fmt.Errorf("another replica goes on in tree %d, whose key is not here; copy %s and the key from there", i+1, s.config.shardsFile())
	}
	base, err := url.Parse(s.config.URL)
	if err != nil {
		return rekor.Shard{}, err
	}
	log, err := s.openLog(ctx, shardName(i), signers[i], func(treeID int64) string { return rekorOrigin(base, treeID) })
	if err != nil {
		return rekor.Shard{}, err
	}
	tree := rekor.Shard{Log: log.Log, TreeID: log.store.TreeID(), Signer: signers[i], Index: log.store}
	switch s.config.Rekor.Attestations.Storage {
	case "database":
		tree.Attestations = log.store
	case "bucket":
		tree.Attestations = s.bucket
	}
	return tree, nil
}

// openRekor opens the trees of the transparency log, up to the one that is not frozen.
// A rotation that the list asks for comes once its key is published: see takeShards.
func (s *server) openRekor(ctx context.Context) error {
	shards, err := s.loadShards(ctx, nil)
	if err != nil {
		return err
	}
	s.shards.Store(shards)
	if s.bucket, err = s.config.openBucket(ctx); err != nil {
		return err
	}
	if s.bucket != nil {
		s.closers = append(s.closers, s.bucket.Close)
	}
	var trees []rekor.Shard
	for frozen := true; frozen; {
		tree, err := s.openShard(ctx, len(trees))
		if err != nil {
			return fmt.Errorf("opening the Rekor v1 log: %w", err)
		}
		trees = append(trees, tree)
		if frozen = tree.Log.Published().Frozen; frozen {
			if err := s.retireTree(ctx, tree); err != nil {
				return fmt.Errorf("opening the Rekor v1 log: %w", err)
			}
		}
	}
	// Somebody's request may be the first to find that a tree is frozen. Whether
	// that somebody waits counts for nothing.
	next := func(ctx context.Context) (rekor.Shard, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), openShardTimeout)
		defer cancel()
		i := s.rekor.Active() + 1
		if signers := s.shards.Load().signers; i < len(signers) && !s.trust.Contains(signers[i].Public()) {
			return rekor.Shard{}, fmt.Errorf("the trust root does not hold the key of tree %d, which would sign", i+1)
		}
		return s.openShard(ctx, i)
	}
	s.rekor, err = rekor.New(rekor.Config{
		Shards: trees, Next: next,
		MaxAttestation: s.config.Rekor.Attestations.MaxBytes, Trouble: attestationTrouble(s.metrics, s.logger),
	})
	return err
}

// retireTree has the trust root hold the key of a tree that is frozen: one that was
// imported never signed for anybody here.
func (s *server) retireTree(ctx context.Context, tree rekor.Shard) error {
	size := tree.Log.Published().Size
	if size == 0 {
		return nil
	}
	times, err := tree.Index.Times(ctx, []uint64{0, size - 1})
	if err != nil {
		return err
	}
	log := trust.Log{URL: s.config.URL, Key: tree.Signer.Public()}
	s.retiredTrees = append(s.retiredTrees, trust.RetiredLog{Log: log, First: times[0], Last: times[1]})
	return nil
}

// openShardTimeout bounds how long a request waits for a tree to be opened.
const openShardTimeout = 10 * time.Second

// rekorLogs are the trees that are in use or will be, for the trust root: those
// before them are retired, and stay there with an end.
func (s *server) rekorLogs(at string) (logs []trust.Log) {
	for _, signer := range s.shards.Load().signers[s.rekor.Active():] {
		logs = append(logs, trust.Log{URL: at, Key: signer.Public()})
	}
	return logs
}

// takeShards is that of the watch over the list of keys. What the list has anew is
// published first; then the log goes on in the last tree that may sign; and then the
// keys of the trees before it are retired.
func (s *server) takeShards(ctx context.Context, inForce digest) (digest, error) {
	now, err := s.loadShards(ctx, s.shards.Load())
	if err != nil {
		return inForce, err
	}
	active := s.rekor.Active()
	if now.content == inForce && active == s.publishedShard {
		return inForce, nil
	}
	s.shards.Store(now)
	if err := s.publishShards(ctx); err != nil {
		return inForce, err
	}
	for ; active < now.signing-1; active = s.rekor.Active() {
		if err := s.rekor.Rotate(ctx); err != nil {
			return inForce, fmt.Errorf("rotating the transparency log: %w", err)
		}
		s.logger.Info("the transparency log goes on in a new tree", "name", shardName(s.rekor.Active()))
	}
	return now.content, s.publishShards(ctx)
}

func (s *server) publishShards(ctx context.Context) error {
	active := s.rekor.Active()
	if err := s.publish(ctx, s.inForce.Load()); err != nil {
		return err
	}
	s.publishedShard = active
	return nil
}
