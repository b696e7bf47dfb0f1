// Package rekor gives a transparency log the meaning that Rekor v1 clients
// know: it turns the entries of a [tlog.Log] into answers with a UUID, a
// virtual index, a signed entry timestamp and an inclusion proof.
//
// # Identifiers
//
//   - The tree ID is a positive 63-bit number that a log keeps for life.
//   - The leaf hash is SHA-256(0x00 || body) (RFC 6962, section 2.1).
//   - The UUID of an entry is the tree ID as 16 hexadecimal digits, followed by
//     the leaf hash as 64. It is always written in lower case; requests may use
//     any case and may leave the tree ID out. See [ID].
//   - The log ID is the lower-case hexadecimal SHA-256 of the log's public key
//     (DER SubjectPublicKeyInfo).
//   - The virtual index counts entries over all trees that a log has ever used,
//     and the index in the inclusion proof counts those of its own tree.
//
// # Shards
//
// A log that is rotated goes on in a new tree with a key of its own. Each tree is
// a [Shard]. The last one takes entries; those before it are frozen, and answer
// under their own tree IDs and keys for ever. The virtual indices of a shard
// begin where those of the shard before it end.
//
// Where several processes share the stores, one of them rotates. The others find
// their shard frozen when they are asked to add to it, or for what it does not
// have, and follow.
//
// # The signed entry timestamp
//
// The SET is the promise of the log about one entry. It is an ECDSA P-256
// signature, ASN.1 DER, over the SHA-256 of
//
//	{"body":"<base64>","integratedTime":<seconds>,"logID":"<hex>","logIndex":<virtual index>}
//
// in exactly this spelling, which is the RFC 8785 canonical form. The key is
// the one that signs the log's checkpoints. Clients refuse every other type of
// key, so [New] does, too.
//
// # Guarantees
//
//   - An entry is returned only if it is durable and included in a published
//     checkpoint, and its proof and its checkpoint belong to the same tree.
//   - A SET by a key that is not in this process (a KMS, an HSM) was verified
//     with the log's public key before it is returned. A key in this process is
//     not doubted: verifying costs twice as much as signing, and every client
//     verifies. Checkpoints, which are remembered for ever, are verified always.
//   - An entry that was added or read lately is answered as it was then, with the
//     same SET, in the newest tree. The store is asked for its attestation at most.
//     Any other is read, compared with the tree, and signed anew.
//   - An attestation is returned only if it has the hash that its entry says. It is
//     kept before its entry is in the log: a log that keeps them lacks none but
//     those that were too large.
//   - The integrated time is the time at which the entry was stored, cut to
//     whole seconds. It is the same in every answer about the entry.
//   - A duplicate is answered with the UUID of the entry that is there, which
//     can be fetched at once.
package rekor

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sigstack/sigstack/tlog"
	"github.com/sigstack/sigstack/tlog/checkpoint"
)

// An Index finds entries by search key.
type Index interface {
	// Lookup returns the leaf hashes of the entries that were stored with a
	// search key, in any order, each once. A key that no entry has is no
	// error. An entry that was acknowledged is found from then on.
	Lookup(ctx context.Context, key string) ([]tlog.Hash, error)

	// Postings returns the first entries of a span with a search key, at most so
	// many, in the order of the log or from the newest on. What it reads does not
	// grow with the entries that have the key.
	Postings(ctx context.Context, key string, in tlog.Span, newest bool, most int) ([]tlog.SearchKey, error)

	// KeysWith returns the search keys that begin with a prefix, at most so many.
	KeysWith(ctx context.Context, prefix string, most int) ([]string, error)

	// Times returns when entries were integrated, at most 32 of them.
	Times(ctx context.Context, indexes []uint64) ([]time.Time, error)
}

// Attestations are what entries were made of, each by its SHA-256.
type Attestations interface {
	// Attestation returns the one with a hash, nil where none is kept. It is not
	// trusted with its bytes.
	Attestation(ctx context.Context, sum tlog.Hash) ([]byte, error)
}

// A Keeper keeps attestations elsewhere than in the store of the log.
type Keeper interface {
	Attestations

	// Keep makes an attestation with this hash durable. It may be there already.
	Keep(ctx context.Context, sum tlog.Hash, attestation []byte) error
}

// A Shard is one tree of a log.
type Shard struct {
	Log    *tlog.Log
	TreeID int64         // positive; the origin of its checkpoints ends with it
	Signer crypto.Signer // ECDSA P-256: the key that signs its checkpoints
	Index  Index

	// Attestations are kept and shown with their entries: by a Keeper, or else in the
	// store of the tree, which Attestations then reads. Nil keeps and shows none.
	Attestations Attestations
}

// Config is what a Log needs.
type Config struct {
	// Shards are the trees of the log, the oldest first: at least one, and all but
	// the last are frozen.
	Shards []Shard

	// Next opens the shard that follows the last one, which is frozen. Nil where
	// there is none.
	Next func(ctx context.Context) (Shard, error)

	// MaxAttestation bounds the attestations that are kept, in bytes.
	MaxAttestation int

	// Trouble is told of each attestation that could not be kept or read, or that
	// does not hash to what its entry says. Nil is told of none.
	Trouble func(error)
}

// A Log answers in the terms of Rekor. It is safe for concurrent use.
type Log struct {
	next   func(ctx context.Context) (Shard, error)
	recent *recent
	shards atomic.Pointer[[]*shard] // the oldest first
	mu     sync.Mutex               // held by who adds one

	maxAttestation int
	trouble        func(error)
}

// A shard is a Shard with what follows from it.
type shard struct {
	Shard
	keeper   Keeper        // Attestations, or nil where the store of the tree keeps them
	base     uint64        // virtual index of its first entry
	followed chan struct{} // closed when there is a shard after it
	local    bool          // the key is in this process
	key      *ecdsa.PublicKey
	logID    string // hex SHA-256 of the SubjectPublicKeyInfo
	pem      []byte
}

// An InputError is a request that no state of the log could answer: a
// malformed identifier, a range that does not exist. Its text is meant for
// whoever asked.
type InputError struct{ Text string }

func (e *InputError) Error() string { return e.Text }

func inputError(format string, args ...any) error {
	return &InputError{fmt.Sprintf(format, args...)}
}

// New returns a Log over open trees.
//
// The published checkpoint of each must be signed by its Signer's key, have the
// origin "<name> - <tree ID>", and carry the name alone on its signature line:
// clients derive each of these from the others.
func New(cfg Config) (*Log, error) {
	if len(cfg.Shards) == 0 {
		return nil, errors.New("a log needs a tree")
	}
	l := &Log{next: cfg.Next, recent: newRecent(maxRecent), maxAttestation: cfg.MaxAttestation, trouble: cfg.Trouble}
	if l.trouble == nil {
		l.trouble = func(error) {}
	}
	l.shards.Store(&[]*shard{})
	for _, s := range cfg.Shards {
		if err := l.add(s); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// add makes a shard the last one. The one before it is frozen.
func (l *Log) add(cfg Shard) error {
	if cfg.TreeID <= 0 {
		return fmt.Errorf("tree ID %d: want a positive number", cfg.TreeID)
	}
	key, ok := cfg.Signer.Public().(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return fmt.Errorf("log key of type %T: want ECDSA P-256, the only type that all clients verify", cfg.Signer.Public())
	}
	note := cfg.Log.Published().Checkpoint
	origin, _, _ := strings.Cut(string(note), "\n")
	name, ok := strings.CutSuffix(origin, " - "+strconv.FormatInt(cfg.TreeID, 10))
	if !ok {
		return fmt.Errorf("the checkpoints of this log have the origin %q, want one that ends in \" - %d\", its tree ID", origin, cfg.TreeID)
	}
	verifier, err := checkpoint.NewVerifier(name, key)
	if err != nil {
		return err
	}
	if _, err := verifier.Open(note); err != nil {
		return fmt.Errorf("the signer for entries of log %q does not match its checkpoint: %w", origin, err)
	}
	spki, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return err
	}
	id := sha256.Sum256(spki)
	_, local := cfg.Signer.(*ecdsa.PrivateKey)
	keeper, _ := cfg.Attestations.(Keeper)
	s := &shard{
		Shard:    cfg,
		keeper:   keeper,
		followed: make(chan struct{}),
		local:    local,
		key:      key,
		logID:    hex.EncodeToString(id[:]),
		pem:      pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki}),
	}
	before := l.all()
	for _, other := range before {
		if other.TreeID == s.TreeID || other.logID == s.logID {
			return fmt.Errorf("two shards of the log have the tree ID %d or the key with ID %s; each needs its own", s.TreeID, s.logID)
		}
	}
	if len(before) > 0 {
		last := before[len(before)-1]
		tree := last.Log.Published()
		if !tree.Frozen {
			return fmt.Errorf("tree %d comes behind tree %d, which is not frozen", s.TreeID, last.TreeID)
		}
		s.base = last.base + tree.Size
	}
	all := append(before[:len(before):len(before)], s)
	l.shards.Store(&all)
	if len(before) > 0 {
		close(before[len(before)-1].followed)
	}
	return nil
}

// all returns the shards, the oldest first.
func (l *Log) all() []*shard { return *l.shards.Load() }

// active returns the shard that takes entries, as far as this process knows.
func (l *Log) active() *shard {
	all := l.all()
	return all[len(all)-1]
}

// follow adds the shards that follow one that is frozen, and says whether there
// are any.
func (l *Log) follow(ctx context.Context, s *shard) (bool, error) {
	if l.active() != s {
		return true, nil
	}
	if !s.Log.Published().Frozen {
		return false, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.active() != s {
		return true, nil
	}
	if l.next == nil {
		return false, fmt.Errorf("%w: tree %d is frozen, and none follows it", tlog.ErrUnavailable, s.TreeID)
	}
	next, err := l.next(ctx)
	if err == nil {
		err = l.add(next)
	}
	if err != nil {
		return false, fmt.Errorf("%w: opening the tree that follows tree %d: %w", tlog.ErrUnavailable, s.TreeID, err)
	}
	return true, nil
}

// newest returns the shards, with those that other processes have begun.
func (l *Log) newest(ctx context.Context) ([]*shard, error) {
	for {
		all := l.all()
		s := all[len(all)-1]
		if _, err := s.Log.Latest(ctx); err != nil {
			return nil, err
		}
		if more, err := l.follow(ctx, s); err != nil || !more {
			return all, err
		}
	}
}

// Rotate freezes the tree that takes entries, and goes on in the next. Next must
// open it then; before that, clients must be able to know its key.
func (l *Log) Rotate(ctx context.Context) error {
	s := l.active()
	if _, err := s.Log.Freeze(ctx); err != nil {
		return err
	}
	_, err := l.follow(ctx, s)
	return err
}

// Ready says whether an entry could be added.
func (l *Log) Ready(ctx context.Context) error { return l.active().Log.Ready(ctx) }

// Active returns the place of the tree that takes entries among all, counted from
// 0, as far as this process knows.
func (l *Log) Active() int { return len(l.all()) - 1 }

// An Info is a published state of a tree.
type Info struct {
	TreeID     int64
	Size       uint64
	Root       tlog.Hash
	Checkpoint []byte // the signed note for exactly this size and root
}

func (s *shard) info() Info {
	tree := s.Log.Published()
	return Info{TreeID: s.TreeID, Size: tree.Size, Root: tree.Root, Checkpoint: tree.Checkpoint}
}

// Size returns how many entries the newest state has that this process has
// published, those of all trees.
func (l *Log) Size() uint64 {
	s := l.active()
	return s.base + s.Log.Published().Size
}

// Latest returns how many entries there are in all trees, those that others have
// added included, and publishes them.
func (l *Log) Latest(ctx context.Context) (size uint64, err error) {
	if _, err := l.newest(ctx); err != nil {
		return 0, err
	}
	return l.Size(), nil
}

// Grows returns a channel that is closed when this process next publishes a
// state. Whoever asks for it before asking for Size misses none.
func (l *Log) Grows() <-chan struct{} {
	s := l.active()
	grows := s.Log.Grows()
	if s.Log.Published().Frozen { // its last state, but for what follows it
		return s.followed
	}
	return grows
}

// Info returns the newest published state of the tree that takes entries, and the
// last state of each that is frozen, the oldest first. The checkpoint is the one
// that was signed when the state was published: asking again signs nothing.
func (l *Log) Info(ctx context.Context) (active Info, frozen []Info, err error) {
	all, err := l.newest(ctx)
	if err != nil {
		return Info{}, nil, err
	}
	for _, s := range all[:len(all)-1] {
		frozen = append(frozen, s.info())
	}
	return all[len(all)-1].info(), frozen, nil
}

// tree returns the shard with a tree ID, which is written in decimal; the empty
// string stands for the one that is in use. There may be none: an InputError.
func (l *Log) tree(ctx context.Context, id string) (*shard, error) {
	var n int64
	if id != "" {
		var err error
		if n, err = strconv.ParseInt(id, 10, 64); err != nil {
			return nil, inputError("invalid tree ID specified: want a decimal number below 2^63")
		}
		for _, s := range l.all() {
			if s.TreeID == n {
				return s, nil
			}
		}
	}
	all, err := l.newest(ctx)
	if err != nil && id == "" {
		return l.active(), nil // as far as is known: a key can be told without the store
	}
	if err != nil {
		return nil, err
	}
	last := all[len(all)-1]
	if id != "" && last.TreeID != n {
		return nil, inputError("no log range found for tree ID %d", n)
	}
	return last, nil
}

// PublicKey returns the public key of a tree, as Consistency names it: one PEM
// block of type PUBLIC KEY. The caller must not change it.
func (l *Log) PublicKey(ctx context.Context, treeID string) ([]byte, error) {
	s, err := l.tree(ctx, treeID)
	if err != nil {
		return nil, err
	}
	return s.pem, nil
}

// Consistency returns the proof (RFC 6962, section 2.1.2) that the tree of
// size first is a prefix of the tree of size last, both counted from 1, and
// the root of the newest published tree, which may be larger than last. Sizes
// that are in the wrong order or not published yet are an InputError, and so is an
// ID, written in decimal, that no tree of the log has; the empty string stands for
// the tree that is in use.
func (l *Log) Consistency(ctx context.Context, treeID string, first, last uint64) (hashes []tlog.Hash, root tlog.Hash, err error) {
	if first > last {
		return nil, root, inputError("firstSize(%d) must be less than lastSize(%d)", first, last)
	}
	s, err := l.tree(ctx, treeID)
	if err != nil {
		return nil, root, err
	}
	tree, err := s.Log.Reaching(ctx, last)
	if err != nil {
		return nil, root, err
	}
	if last > tree.Size {
		return nil, root, inputError("the tree size requested(%d) was greater than what is currently observable(%d)", last, tree.Size)
	}
	hashes, err = tree.Consistency(ctx, first, last)
	return hashes, tree.Root, err
}
