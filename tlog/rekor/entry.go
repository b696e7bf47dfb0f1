package rekor

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/sigstack/sigstack/tlog"
	"github.com/sigstack/sigstack/tlog/entry"
)

// A LogEntry is an entry together with everything that proves it. Its bytes are
// shared with other answers about the entry: nobody changes them.
type LogEntry struct {
	UUID           string // 80 lower-case hexadecimal digits
	Body           []byte // canonical JSON: the leaf value
	IntegratedTime int64  // seconds since 1970 UTC
	LogID          string // 64 lower-case hexadecimal digits
	LogIndex       uint64 // virtual
	Proof          InclusionProof
	SET            []byte // signed entry timestamp, ASN.1 DER
}

// An InclusionProof proves that a leaf is in the tree of a checkpoint (RFC
// 6962, section 2.1.1).
type InclusionProof struct {
	Index, Size uint64 // of the leaf, and of the tree
	Root        tlog.Hash
	Hashes      []tlog.Hash // audit path, from the leaf's sibling up
	Checkpoint  []byte      // the signed note for Size and Root
}

// ErrExists is what an ExistsError is.
var ErrExists = errors.New("an equivalent entry already exists in the transparency log")

// An ExistsError is the refusal of an entry whose leaf hash the log has.
type ExistsError struct{ UUID string } // of the entry that is there; it can be fetched

func (e *ExistsError) Error() string { return ErrExists.Error() + " with UUID " + e.UUID }

// Is makes errors.Is(err, ErrExists) true.
func (e *ExistsError) Is(target error) bool { return target == ErrExists }

// Create adds an entry and returns it once it is durable and included in a
// published checkpoint.
//
// It returns an ExistsError for an entry that is there already, and the errors
// of [tlog.Log.Add]. Where the signer fails after the entry was stored, that is
// tlog.ErrUnknown to the caller, too: submitting the entry again gives an
// ExistsError, and fetching it a new signature.
func (l *Log) Create(ctx context.Context, e *entry.Entry) (*LogEntry, error) {
	in, err := l.log.Add(ctx, tlog.Leaf{Value: e.Body, Extra: e.Extra, Keys: stored(e.Keys)})
	if err != nil {
		return nil, err
	}
	uuid := l.uuid(tlog.LeafHash(e.Body))
	if in.Dup {
		return nil, &ExistsError{UUID: uuid}
	}
	signed, err := l.sign(uuid, tlog.Entry{Index: in.Index, Time: in.Time, Value: e.Body})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", tlog.ErrUnknown, err)
	}
	return signed.in(in.Tree, in.Proof), nil
}

// ByIndex returns the entry with a virtual index, or tlog.ErrNotFound.
func (l *Log) ByIndex(ctx context.Context, index uint64) (*LogEntry, error) {
	if index >= math.MaxInt64 { // no tree is that large, and no store counts further
		return nil, fmt.Errorf("%w: no entry %d", tlog.ErrNotFound, index)
	}
	e, ok := l.recent.get(index)
	if !ok {
		entries, err := l.log.Entries(ctx, index, index+1)
		if err != nil {
			return nil, err
		}
		if e, err = l.sign(l.uuid(tlog.LeafHash(entries[0].Value)), entries[0]); err != nil {
			return nil, err
		}
	}
	// A published tree is a prefix of those after it, so this one has the
	// entry, too.
	tree := l.log.Published()
	proof, err := tree.Inclusion(ctx, index, tree.Size)
	if err != nil {
		return nil, err
	}
	return e.in(tree, proof), nil
}

// ByUUID returns the entry with a UUID of 64 or 80 hexadecimal digits in any
// case. It returns tlog.ErrNotFound also for a tree that is not this log's, and
// an InputError for what is not a UUID.
func (l *Log) ByUUID(ctx context.Context, uuid string) (*LogEntry, error) {
	id, err := ParseID(uuid)
	if err != nil {
		return nil, err
	}
	if id.Tree != 0 && id.Tree != l.treeID {
		return nil, fmt.Errorf("%w: no tree %d", tlog.ErrNotFound, id.Tree)
	}
	return l.ByLeaf(ctx, id.Leaf)
}

// ByLeaf returns the entry with a leaf hash, or tlog.ErrNotFound.
func (l *Log) ByLeaf(ctx context.Context, leaf tlog.Hash) (*LogEntry, error) {
	index, err := l.log.Find(ctx, leaf)
	if err != nil {
		return nil, err
	}
	return l.ByIndex(ctx, index)
}

// sign returns an entry with its SET and without a proof, and remembers it.
func (l *Log) sign(uuid string, e tlog.Entry) (*LogEntry, error) {
	out := &LogEntry{UUID: uuid, Body: e.Value, IntegratedTime: e.Time.Unix(), LogID: l.logID, LogIndex: e.Index}
	digest := sha256.Sum256(out.signedText())
	var err error
	out.SET, err = l.signer.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("%w: signing entry %d: %w", tlog.ErrUnavailable, e.Index, err)
	}
	if !l.local && !ecdsa.VerifyASN1(l.key, digest[:], out.SET) {
		return nil, fmt.Errorf("%w: signing entry %d: what the signer returned does not verify with its public key", tlog.ErrUnavailable, e.Index)
	}
	l.recent.put(out)
	return out, nil
}

// in returns the entry with its proof in a tree.
func (e *LogEntry) in(tree *tlog.Tree, proof []tlog.Hash) *LogEntry {
	out := *e
	out.Proof = InclusionProof{Index: e.LogIndex, Size: tree.Size, Root: tree.Root, Hashes: proof, Checkpoint: tree.Checkpoint}
	return &out
}

// signedText returns the text that the SET signs: an object with the members
// in this order and without white space is its own canonical form (RFC 8785),
// because base64 and hexadecimal need no escapes and a canonical number below
// 2^53 is its decimal digits.
func (e *LogEntry) signedText() []byte {
	const fixed = len(`{"body":"","integratedTime":,"logID":"","logIndex":}`) + 2*20
	b := make([]byte, 0, fixed+base64.StdEncoding.EncodedLen(len(e.Body))+len(e.LogID))
	b = append(b, `{"body":"`...)
	b = base64.StdEncoding.AppendEncode(b, e.Body)
	b = append(b, `","integratedTime":`...)
	b = strconv.AppendInt(b, e.IntegratedTime, 10)
	b = append(b, `,"logID":"`...)
	b = append(b, e.LogID...)
	b = append(b, `","logIndex":`...)
	b = strconv.AppendUint(b, e.LogIndex, 10)
	return append(b, '}')
}
