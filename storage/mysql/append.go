package mysql

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/trillian"
	"github.com/google/trillian/log"
	"github.com/google/trillian/quota"
	"github.com/google/trillian/storage"
	"github.com/google/trillian/trees"
	"github.com/google/trillian/types"
	"github.com/google/trillian/util/clock"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sigstack/sigstack/tlog"
	"github.com/sigstack/sigstack/tlog/failpoint"
)

const (
	// maxConflicts bounds how often an Append starts again because somebody
	// else was in its way. Each time somebody else has got on.
	maxConflicts = 16

	// maxFailures is the same for everything else, such as a connection that
	// was lost: once, to find out what became of the commit.
	maxFailures = 2

	// maxIntegrate bounds the leaves of one integration: ours, and those that
	// somebody queued who could not integrate them.
	maxIntegrate = 2 * tlog.MaxBatchLeaves

	// maxValues bounds the leaves that one statement looks up.
	maxValues = 500

	// maxKeyRows bounds the search keys of one statement.
	maxKeyRows = 1000
)

// errConflict: somebody else appends to the same log, and was faster.
var errConflict = errors.New("another sequencer was in the way")

// A batch is what one Append adds.
type batch struct {
	leaves []tlog.Leaf
	hashes []tlog.Hash         // of each leaf
	ids    []tlog.Hash         // of each leaf; its hash, if it has no other
	first  map[tlog.Hash]int   // the leaf that comes first with an ID
	sorted []int               // the leaves of first, by ID
	queue  int64               // leaf i has the queue timestamp queue+i
	found  map[tlog.Hash]place // what the database has of them, as far as that is known
}

// A place is what the database knows of a leaf.
type place struct {
	queued     int64 // timestamp
	sequenced  bool
	index      uint64
	integrated int64 // timestamp
}

func newBatch(leaves []tlog.Leaf, at time.Time) *batch {
	b := &batch{
		leaves: leaves,
		hashes: make([]tlog.Hash, len(leaves)),
		ids:    make([]tlog.Hash, len(leaves)),
		first:  make(map[tlog.Hash]int, len(leaves)),
		queue:  at.UnixNano(),
		found:  make(map[tlog.Hash]place, len(leaves)),
	}
	for i, leaf := range leaves {
		b.hashes[i], b.ids[i] = tlog.LeafHash(leaf.Value), leaf.ID
		if leaf.ID == (tlog.Hash{}) {
			b.ids[i] = b.hashes[i]
		}
		if _, ok := b.first[b.ids[i]]; !ok {
			b.first[b.ids[i]] = i
			b.sorted = append(b.sorted, i)
		}
	}
	// Everybody locks rows in the same order.
	slices.SortFunc(b.sorted, func(i, j int) int { return bytes.Compare(b.ids[i][:], b.ids[j][:]) })
	return b
}

// missing returns the leaves that the database is not known to have, by ID.
func (b *batch) missing() []int {
	return slices.DeleteFunc(slices.Clone(b.sorted), func(i int) bool {
		_, ok := b.found[b.ids[i]]
		return ok
	})
}

// waiting says whether leaves are not in the tree, and how late the queue
// timestamp of the last of them is.
func (b *batch) waiting() (last int64, ok bool) {
	for _, p := range b.found {
		if !p.sequenced {
			last, ok = max(last, p.queued), true
		}
	}
	return last, ok || len(b.found) < len(b.sorted)
}

// placed returns where the leaves are. One that has not our queue timestamp
// was queued by somebody else, or by us in another batch.
func (b *batch) placed() []tlog.Placed {
	out := make([]tlog.Placed, len(b.leaves))
	for i, id := range b.ids {
		p := b.found[id]
		out[i] = tlog.Placed{
			Index: p.index,
			Time:  time.Unix(0, p.integrated).UTC(),
			Dup:   b.first[id] != i || p.queued != b.queue+int64(i),
		}
	}
	return out
}

// Append takes leaves into the tree, in one transaction where all of them are new
// and nobody else appends. Each statement is a round trip, so that nothing is read
// that is known, and every leaf is taken for a new one at first: that one is not,
// its key tells. Such leaves are never in the queue: they would enter and leave it
// unseen.
//
// Where that fails it takes two transactions. After the first, that of enqueue, the
// leaves are safe, and whoever is faster takes them along: this Append, or one of
// somebody else. After the second, that of integrate, they have their indices.
func (s *Store) Append(ctx context.Context, leaves []tlog.Leaf) ([]tlog.Placed, tlog.Head, error) {
	t := s.tip
	s.tip = nil // until all is well
	if t == nil {
		var err error
		if t, err = s.readTip(ctx, s.db.write); err != nil {
			return nil, tlog.Head{}, err
		}
	}
	if t.head.Frozen {
		s.tip = t
		return nil, tlog.Head{}, tlog.ErrFrozen
	}
	now := s.db.now()
	if behind := t.head.Time.Sub(now); behind > tlog.MaxClockStep {
		s.tip = t
		return nil, tlog.Head{}, fmt.Errorf("%w by %v", tlog.ErrClock, behind)
	}
	b := newBatch(leaves, now)
	trying, tried := newAttempt(ctx)
	next, err := s.integrate(trying, b, t, now, b.queue+int64(len(leaves)), s.fresh(b))
	direct := err == nil
	for conflicts, failures := 0, 0; err != nil; {
		if isConflict(err) || tried.conflict.Load() || errors.Is(err, errConflict) {
			conflicts++
		} else {
			failures++
		}
		if conflicts == maxConflicts || failures == maxFailures || ctx.Err() != nil || tried.vain(err) {
			return nil, tlog.Head{}, err
		}
		was := t.head.Size
		if t, err = s.readTip(ctx, s.db.write); err != nil {
			return nil, tlog.Head{}, err
		}
		if t.head.Size < was {
			return nil, tlog.Head{}, fmt.Errorf("%w: the tree had size %d, and has size %d now", tlog.ErrIntegrity, was, t.head.Size)
		}
		if t.head.Frozen { // perhaps with these leaves, which were in the queue
			if err := s.find(ctx, b); err != nil {
				return nil, tlog.Head{}, err
			}
			if _, waiting := b.waiting(); waiting {
				return nil, tlog.Head{}, tlog.ErrFrozen
			}
			return b.placed(), t.head, nil
		}
		if now = s.db.now(); t.head.Time.Sub(now) > tlog.MaxClockStep {
			// Not an ErrClock: some leaves may be queued.
			return nil, tlog.Head{}, fmt.Errorf("the clock is behind another sequencer's by %v", t.head.Time.Sub(now))
		}
		trying, tried = newAttempt(ctx)
		next, err = s.add(trying, b, t, now)
	}
	s.tip = next
	if !direct {
		// What cannot be placed now is found all the same, and placed later.
		_ = s.db.place(ctx, s.tree.TreeId)
	}
	return b.placed(), next.head, nil
}

// add takes a batch, of which the database may have some, as far as it is not in
// the tree yet. All of it is when add returns the tip without an error; otherwise
// calling it again goes on from there.
func (s *Store) add(ctx context.Context, b *batch, t *tip, now time.Time) (*tip, error) {
	if err := s.find(ctx, b); err != nil {
		return nil, err
	}
	if missing := b.missing(); len(missing) > 0 {
		if err := s.enqueue(ctx, b, missing); err != nil {
			return nil, err
		}
	}
	last, waiting := b.waiting()
	if !waiting {
		return s.readTip(ctx, s.db.write)
	}
	next, failed := s.integrate(ctx, b, t, now, max(last, b.queue+int64(len(b.leaves))), fresh{})
	if failed != nil && s.db.reach.away() {
		return nil, failed
	}
	if _, waiting := b.waiting(); !waiting && failed == nil {
		return next, nil
	}
	if err := s.find(ctx, b); err != nil {
		return nil, err
	}
	if _, waiting := b.waiting(); !waiting {
		return s.readTip(ctx, s.db.write) // by whomever
	}
	if failed == nil {
		return nil, errConflict
	}
	if err := s.db.nameQueued(ctx); err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("%w: %w", errConflict, failed)
}

// find reads what the database has of a batch, by two key look-ups a leaf. The
// keys are named: a server whose statistics are of a minute ago, when the log was
// small, would rather walk through the whole tree, for each leaf.
func (s *Store) find(ctx context.Context, b *batch) error {
	clear(b.found)
	for some := range slices.Chunk(b.sorted, maxValues) {
		args := make([]any, 0, len(some)+1)
		for _, i := range some {
			args = append(args, b.ids[i][:])
		}
		args = append(args, s.tree.TreeId)
		rows, err := s.db.write.QueryContext(ctx, `SELECT l.LeafIdentityHash, l.QueueTimestampNanos, s.SequenceNumber, s.IntegrateTimestampNanos
			FROM (SELECT ? AS id`+strings.Repeat(" UNION ALL SELECT ?", len(some)-1)+`) ids
			STRAIGHT_JOIN LeafData l FORCE INDEX (PRIMARY) ON l.TreeId = ? AND l.LeafIdentityHash = ids.id
			LEFT JOIN SequencedLeafData s FORCE INDEX (TreeId) ON s.TreeId = l.TreeId AND s.LeafIdentityHash = l.LeafIdentityHash`, args...)
		if err != nil {
			return fmt.Errorf("looking up leaves: %w", err)
		}
		for rows.Next() {
			var id []byte
			var index, integrated sql.NullInt64
			var p place
			if err := rows.Scan(&id, &p.queued, &index, &integrated); err != nil {
				rows.Close()
				return err
			}
			if index.Valid {
				p.sequenced, p.index, p.integrated = true, uint64(index.Int64), integrated.Int64
			}
			b.found[tlog.Hash(id)] = p
		}
		if err := rows.Err(); err != nil {
			return fmt.Errorf("looking up leaves: %w", err)
		}
	}
	return nil
}

// data returns what stores leaves with their attestations: the rows that Trillian's
// driver would write. Leaf i gets the queue timestamp of the batch plus i nanoseconds:
// the order of submission becomes the order of the log.
func (s *Store) data(b *batch, missing []int) request {
	data := make([]any, 0, 5*len(missing))
	var attestations []tlog.Attestation
	for _, i := range missing {
		leaf, value := b.leaves[i], b.leaves[i].Value
		if value == nil {
			value = []byte{} // not NULL
		}
		data = append(data, s.tree.TreeId, b.ids[i][:], value, leaf.Extra, b.queue+int64(i))
		if len(leaf.Attestation) > 0 {
			attestations = append(attestations, tlog.Attestation{Hash: sha256.Sum256(leaf.Attestation), Bytes: leaf.Attestation})
		}
	}
	var r request
	r.insert("LeafData (TreeId, LeafIdentityHash, LeafValue, ExtraData, QueueTimestampNanos)", "(?,?,?,?,?)", "", data)
	if len(attestations) > 0 {
		slices.SortFunc(attestations, func(a, b tlog.Attestation) int { return bytes.Compare(a.Hash[:], b.Hash[:]) })
		s.attest(&r, attestations)
	}
	return r
}

// attest adds the statement that stores attestations. One that is there stays.
func (s *Store) attest(r *request, attestations []tlog.Attestation) {
	values := make([]any, 0, 3*len(attestations))
	for _, a := range attestations {
		values = append(values, s.tree.TreeId, a.Hash[:], a.Bytes)
	}
	r.insert("sigstack_attestation (tree_id, hash, bytes)", "(?,?,?)", " ON DUPLICATE KEY UPDATE hash = VALUES(hash)", values)
}

// enqueue queues leaves, and leaves it to others to integrate them.
func (s *Store) enqueue(ctx context.Context, b *batch, missing []int) error {
	if err := failpoint.Hit(failpoint.Begin, s.path); err != nil {
		return err
	}
	id := s.tree.TreeId
	queue := make([]any, 0, 5*len(missing))
	for _, i := range missing {
		at := b.queue + int64(i)
		queue = append(queue, id, b.ids[i][:], b.hashes[i][:], at, queueID(id, b.ids[i], at))
	}
	first := s.data(b, missing)
	first.insert("Unsequenced (TreeId, Bucket, LeafIdentityHash, MerkleLeafHash, QueueTimestampNanos, QueueID)", "(?,0,?,?,?,?)", "", queue)
	var keys []tlog.SearchKey
	for _, i := range missing {
		keys = appendKeys(keys, b.leaves[i].Keys, 0, b.hashes[i])
	}
	requests := s.queuedKeys(first, keys)
	tx, err := s.db.write.BeginTx(opening(ctx, requests), nil)
	if err != nil {
		return fmt.Errorf("queueing leaves: %w", err)
	}
	defer tx.Rollback()
	if err := failpoint.Hit(failpoint.Insert, s.path); err != nil {
		return err
	}
	// Nobody would ever integrate them. Their rows hold that of the tree: what it
	// says stays true until the commit.
	var state string
	if err := tx.QueryRowContext(ctx, "SELECT TreeState FROM Trees WHERE TreeId = ?", id).Scan(&state); err != nil {
		return fmt.Errorf("reading the state of the tree: %w", err)
	}
	if state == frozenState {
		return errConflict // which finds out what became of the tree
	}
	if err := failpoint.Hit(failpoint.Commit, s.path); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("committing: %w", err)
	}
	if err := failpoint.Hit(failpoint.Committed, s.path); err != nil {
		return err
	}
	for _, i := range missing {
		b.found[b.ids[i]] = place{queued: b.queue + int64(i)}
	}
	return nil
}

// queueID is the ID by which a sequencer removes a leaf from the queue, made as
// Trillian's driver makes it.
func queueID(tree int64, id tlog.Hash, at int64) []byte {
	var b [2*binary.MaxVarintLen64 + tlog.HashSize]byte
	binary.PutVarint(b[:binary.MaxVarintLen64], tree)
	binary.PutVarint(b[binary.MaxVarintLen64:], at)
	copy(b[2*binary.MaxVarintLen64:], id[:])
	sum := sha256.Sum256(b[:])
	return sum[:]
}

// fresh returns a batch, none of which the database has, in the order of
// submission, with what stores it.
func (s *Store) fresh(b *batch) fresh {
	f := fresh{data: s.data(b, b.sorted), leaves: make([]*trillian.LogLeaf, 0, len(b.sorted))}
	for i, id := range b.ids {
		if b.first[id] == i {
			f.leaves = append(f.leaves, &trillian.LogLeaf{
				LeafIdentityHash: id[:],
				MerkleLeafHash:   b.hashes[i][:],
				QueueTimestamp:   timestamppb.New(time.Unix(0, b.queue+int64(i))),
			})
			f.keys = append(f.keys, b.leaves[i].Keys)
		}
	}
	return f
}

// integrate takes fresh leaves, and what is queued up to a queue timestamp, into
// the tree, notes where that puts the leaves of a batch, and returns the new tip.
// It never waits and needs no guard window: queue and tree are in one database, and
// what is committed later is integrated by who committed it.
//
// All entries of an integration get the time now, but never one before that of
// the entry before them. The tree head may have to be later: two of them cannot
// share a timestamp, and it bounds the queue timestamps that are looked at.
func (s *Store) integrate(ctx context.Context, b *batch, t *tip, now time.Time, last int64, f fresh) (*tip, error) {
	ctx = trees.NewContext(ctx, s.tree)
	q := &sequencer{LogStorage: s.db.writer, path: s.path, fresh: f, size: t.head.Size, at: now.UnixNano()}
	if t.head.Size > 0 {
		q.at = max(q.at, t.head.Time.UnixNano())
	}
	for root := max(q.at, last, t.root+1); ; root++ {
		n, err := log.IntegrateBatch(ctx, s.tree, maxIntegrate, 0, 0, stopped{time.Unix(0, root)}, q, quota.Noop())
		if err == nil {
			err = failpoint.Hit(failpoint.Integrated, s.path)
		}
		if err != nil {
			return nil, err
		}
		for _, leaf := range q.taken {
			id := tlog.Hash(leaf.LeafIdentityHash)
			if _, ours := b.first[id]; ours {
				b.found[id] = place{leaf.QueueTimestamp.AsTime().UnixNano(), true, uint64(leaf.LeafIndex), q.at}
			}
		}
		if n < maxIntegrate {
			return q.tip, nil
		}
		q.size += uint64(n)
		q.fresh = fresh{}
	}
}

// fresh is leaves that go into the tree past the queue: at its head, in the
// transaction that stores them.
type fresh struct {
	leaves []*trillian.LogLeaf
	keys   [][]string // the search keys of each
	data   request    // stores them
}

// A sequencer is Trillian's storage as one integration sees it.
type sequencer struct {
	storage.LogStorage
	path  string // for failpoints
	fresh fresh
	size  uint64 // of the tree that is added to
	at    int64  // the time of the new entries

	taken []*trillian.LogLeaf // what became entries
	tip   *tip                // after that

	records map[tlog.Hash]tlog.Record // of an Import, by ID: each has its own time
}

func (q *sequencer) ReadWriteTransaction(ctx context.Context, tree *trillian.Tree, f storage.LogTXFunc) error {
	point := func(name string) error {
		if len(q.fresh.leaves) == 0 {
			return nil
		}
		return failpoint.Hit(name, q.path)
	}
	if err := point(failpoint.Begin); err != nil {
		return err
	}
	var data []request
	if len(q.fresh.leaves) > 0 {
		data = []request{q.fresh.data}
	}
	return q.LogStorage.ReadWriteTransaction(opening(ctx, data), tree, func(_ context.Context, tx storage.LogTreeTX) error {
		if err := point(failpoint.Insert); err != nil {
			return err
		}
		return f(ctx, &sequencerTX{tx, q, tree.TreeId})
	})
}

type sequencerTX struct {
	storage.LogTreeTX
	q    *sequencer
	tree int64
}

// LatestSignedLogRoot returns the root that is added to. It is refused when it
// is smaller than what was seen, because the driver takes a failure to read it
// for an empty tree; and when somebody has added to it what may be later than
// our entries.
func (tx *sequencerTX) LatestSignedLogRoot(ctx context.Context) (*trillian.SignedLogRoot, error) {
	signed, err := tx.LogTreeTX.LatestSignedLogRoot(ctx)
	if err != nil {
		return nil, err
	}
	var root types.LogRootV1
	if err := root.UnmarshalBinary(signed.LogRoot); err != nil {
		return nil, err
	}
	if root.TreeSize < tx.q.size {
		return nil, fmt.Errorf("the tree had size %d, and has size %d now", tx.q.size, root.TreeSize)
	}
	if root.TreeSize > tx.q.size && root.TimestampNanos > uint64(tx.q.at) {
		return nil, errConflict
	}
	tx.q.size = root.TreeSize
	return signed, nil
}

// DequeueLeaves returns the fresh leaves before what is queued. Their rows of the
// tree, which say what UpdateSequencedLeaves would, and their search keys, which want
// the index, go with the question.
func (tx *sequencerTX) DequeueLeaves(ctx context.Context, limit int, cutoff time.Time) ([]*trillian.LogLeaf, error) {
	fresh := tx.q.fresh.leaves
	if len(fresh) == 0 {
		return tx.LogTreeTX.DequeueLeaves(ctx, limit, cutoff)
	}
	values := make([]any, 0, 5*len(fresh))
	for i, leaf := range fresh {
		values = append(values, tx.tree, leaf.LeafIdentityHash, leaf.MerkleLeafHash, tx.q.size+uint64(i), tx.q.at)
	}
	var first request
	first.insert("SequencedLeafData (TreeId, LeafIdentityHash, MerkleLeafHash, SequenceNumber, IntegrateTimestampNanos)", "(?,?,?,?,?)", "", values)
	var keys []tlog.SearchKey
	for i, leaf := range fresh {
		keys = appendKeys(keys, tx.q.fresh.keys[i], tx.q.size+uint64(i), tlog.Hash(leaf.MerkleLeafHash))
	}
	queued, err := tx.LogTreeTX.DequeueLeaves(preceded(ctx, placedKeys(first, tx.tree, keys)), limit-len(fresh), cutoff)
	return slices.Concat(fresh, queued), err
}

// UpdateSequencedLeaves gives leaves their times, and moves those that were queued
// into the tree.
func (tx *sequencerTX) UpdateSequencedLeaves(ctx context.Context, leaves []*trillian.LogLeaf) error {
	at := timestamppb.New(time.Unix(0, tx.q.at))
	for _, leaf := range leaves {
		leaf.IntegrateTimestamp = at
		if tx.q.records == nil {
			continue
		}
		r, ok := tx.q.records[tlog.Hash(leaf.LeafIdentityHash)]
		if !ok || r.Index != uint64(leaf.LeafIndex) {
			return fmt.Errorf("the queue has leaf %x for index %d, where it does not belong", leaf.LeafIdentityHash, leaf.LeafIndex)
		}
		leaf.IntegrateTimestamp = timestamppb.New(r.Time)
	}
	tx.q.taken = leaves
	queued := leaves[len(tx.q.fresh.leaves):]
	if len(queued) == 0 {
		return nil
	}
	return tx.LogTreeTX.UpdateSequencedLeaves(ctx, queued)
}

// StoreSignedLogRoot is the last thing that an integration writes.
func (tx *sequencerTX) StoreSignedLogRoot(ctx context.Context, signed *trillian.SignedLogRoot) error {
	if err := tx.LogTreeTX.StoreSignedLogRoot(ctx, signed); err != nil {
		return err
	}
	var root types.LogRootV1
	if err := root.UnmarshalBinary(signed.LogRoot); err != nil {
		return err
	}
	tx.q.tip = &tip{
		head: tlog.Head{Size: root.TreeSize, Root: tlog.Hash(root.RootHash), Time: time.Unix(0, tx.q.at).UTC()},
		root: int64(root.TimestampNanos),
	}
	return failpoint.Hit(failpoint.Sequenced, tx.q.path)
}

// stopped is a clock that stands still.
type stopped struct{ time.Time }

func (c stopped) Now() time.Time { return c.Time }

func (c stopped) NewTimer(d time.Duration) clock.Timer { return clock.System.NewTimer(d) }
