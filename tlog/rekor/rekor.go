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
//     and the index in the inclusion proof counts those of its own tree. A Log
//     here has one tree, so the two are equal.
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
//     same SET, in the newest tree. The store is not asked for it. Any other is
//     read, compared with the tree, and signed anew.
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
	"fmt"
	"strconv"
	"strings"
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

// Config is what a Log needs beside the engine.
type Config struct {
	TreeID int64         // positive; the origin of the log's checkpoints ends with it
	Signer crypto.Signer // ECDSA P-256: the key that signs the log's checkpoints
	Index  Index
}

// A Log answers in the terms of Rekor. It is safe for concurrent use.
type Log struct {
	log    *tlog.Log
	index  Index
	signer crypto.Signer
	local  bool // the key is in this process
	key    *ecdsa.PublicKey
	recent *recent
	treeID int64
	logID  string // hex SHA-256 of the SubjectPublicKeyInfo
	pem    []byte
}

// An InputError is a request that no state of the log could answer: a
// malformed identifier, a range that does not exist. Its text is meant for
// whoever asked.
type InputError struct{ Text string }

func (e *InputError) Error() string { return e.Text }

func inputError(format string, args ...any) error {
	return &InputError{fmt.Sprintf(format, args...)}
}

// New returns a Log over an open log.
//
// The published checkpoint of the log must be signed by cfg.Signer's key, have
// the origin "<name> - <tree ID>", and carry the name alone on its signature
// line: clients derive each of these from the others.
func New(log *tlog.Log, cfg Config) (*Log, error) {
	if cfg.TreeID <= 0 {
		return nil, fmt.Errorf("tree ID %d: want a positive number", cfg.TreeID)
	}
	key, ok := cfg.Signer.Public().(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, fmt.Errorf("log key of type %T: want ECDSA P-256, the only type that all clients verify", cfg.Signer.Public())
	}
	note := log.Published().Checkpoint
	origin, _, _ := strings.Cut(string(note), "\n")
	name, ok := strings.CutSuffix(origin, " - "+strconv.FormatInt(cfg.TreeID, 10))
	if !ok {
		return nil, fmt.Errorf("the checkpoints of this log have the origin %q, want one that ends in \" - %d\", its tree ID", origin, cfg.TreeID)
	}
	verifier, err := checkpoint.NewVerifier(name, key)
	if err != nil {
		return nil, err
	}
	if _, err := verifier.Open(note); err != nil {
		return nil, fmt.Errorf("the signer for entries of log %q does not match its checkpoint: %w", origin, err)
	}
	spki, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, err
	}
	id := sha256.Sum256(spki)
	_, local := cfg.Signer.(*ecdsa.PrivateKey)
	return &Log{
		log:    log,
		index:  cfg.Index,
		signer: cfg.Signer,
		local:  local,
		key:    key,
		recent: newRecent(maxRecent),
		treeID: cfg.TreeID,
		logID:  hex.EncodeToString(id[:]),
		pem:    pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki}),
	}, nil
}

// An Info is a published state of the log.
type Info struct {
	TreeID     int64
	Size       uint64
	Root       tlog.Hash
	Checkpoint []byte // the signed note for exactly this size and root
}

// Info returns the newest published state. The checkpoint is the one that was
// signed when the state was published: asking again signs nothing.
func (l *Log) Info(ctx context.Context) (Info, error) {
	tree, err := l.log.Latest(ctx)
	if err != nil {
		return Info{}, err
	}
	return Info{TreeID: l.treeID, Size: tree.Size, Root: tree.Root, Checkpoint: tree.Checkpoint}, nil
}

// PublicKey returns the log's public key: one PEM block of type PUBLIC KEY.
// The caller must not change it.
func (l *Log) PublicKey() []byte { return l.pem }

// CheckTree returns an InputError if no tree of the log has this ID, which is
// written in decimal. The empty string stands for the tree that is in use.
func (l *Log) CheckTree(id string) error {
	if id == "" {
		return nil
	}
	n, err := strconv.ParseInt(id, 10, 64)
	if err != nil {
		return inputError("invalid tree ID specified: want a decimal number below 2^63")
	}
	if n != l.treeID {
		return inputError("no log range found for tree ID %d", n)
	}
	return nil
}

// Consistency returns the proof (RFC 6962, section 2.1.2) that the tree of
// size first is a prefix of the tree of size last, both counted from 1, and
// the root of the newest published tree, which may be larger than last. Sizes
// that are in the wrong order or not published yet are an InputError.
func (l *Log) Consistency(ctx context.Context, first, last uint64) (hashes []tlog.Hash, root tlog.Hash, err error) {
	if first > last {
		return nil, root, inputError("firstSize(%d) must be less than lastSize(%d)", first, last)
	}
	tree, err := l.log.Reaching(ctx, last)
	if err != nil {
		return nil, root, err
	}
	if last > tree.Size {
		return nil, root, inputError("the tree size requested(%d) was greater than what is currently observable(%d)", last, tree.Size)
	}
	hashes, err = tree.Consistency(ctx, first, last)
	return hashes, tree.Root, err
}
