package mysql

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/sigstack/sigstack/tlog"
)

// This file keeps the search keys. Those of an entry are in sigstack_posting, in the
// order of the tree, so that a page of a key that a million entries have is a page of
// the table. Those of a leaf that is queued, whose index nobody knows yet, are in
// sigstack_search, where version 1 had all of them: whoever reads looks into both, and
// place moves them.

// appendKeys appends the search keys of a leaf, each once.
func appendKeys(keys []tlog.SearchKey, names []string, index uint64, hash tlog.Hash) []tlog.SearchKey {
	begin := len(keys)
	for _, name := range names {
		keys = append(keys, tlog.SearchKey{Name: name, Index: index, Hash: hash})
	}
	slices.SortFunc(keys[begin:], byNameAndIndex)
	return keys[:begin+len(slices.Compact(keys[begin:]))]
}

func byNameAndIndex(a, b tlog.SearchKey) int {
	return cmp.Or(strings.Compare(a.Name, b.Name), cmp.Compare(a.Index, b.Index), bytes.Compare(a.Hash[:], b.Hash[:]))
}

// placedKeys returns a request, and behind it what stores the search keys of entries.
func placedKeys(first request, tree int64, keys []tlog.SearchKey) []request {
	return keyRows(first, keys, "sigstack_posting (tree_id, name, at, hash)", "(?,?,?,?)", func(k tlog.SearchKey) []any {
		return []any{tree, []byte(k.Name), k.Index, k.Hash[:]}
	})
}

// queuedKeys does the same with those of leaves that have no index yet.
func (s *Store) queuedKeys(first request, keys []tlog.SearchKey) []request {
	return keyRows(first, keys, "sigstack_search (tree_id, name, hash)", "(?,?,?)", func(k tlog.SearchKey) []any {
		return []any{s.tree.TreeId, []byte(k.Name), k.Hash[:]}
	})
}

// keyRows has the first rows go with a request, and the others by themselves where
// there are very many. Everybody locks rows in the same order.
func keyRows(first request, keys []tlog.SearchKey, into, row string, values func(tlog.SearchKey) []any) []request {
	slices.SortFunc(keys, byNameAndIndex)
	keys = slices.Compact(keys)
	requests := []request{first}
	for n, some := range slices.Collect(slices.Chunk(keys, maxKeyRows)) {
		if n > 0 {
			requests = append(requests, nil)
		}
		all := make([]any, 0, 4*len(some))
		for _, k := range some {
			all = append(all, values(k)...)
		}
		requests[n].insert(into, row, " ON DUPLICATE KEY UPDATE hash = VALUES(hash)", all)
	}
	return requests
}

// notPlaced are the search keys in sigstack_search whose leaves are in the tree.
const notPlaced = ` FROM sigstack_search k FORCE INDEX (PRIMARY)
	STRAIGHT_JOIN SequencedLeafData s FORCE INDEX (SequencedLeafMerkleIdx) ON s.TreeId = k.tree_id AND s.MerkleLeafHash = k.hash
	WHERE k.tree_id = ? `

// place moves the search keys of leaves that have got into the tree, a page in each
// transaction. Others may do the same at the same time.
func (d *DB) place(ctx context.Context, tree int64) error {
	for conflicts := 0; ; {
		n, err := d.placePage(ctx, tree)
		switch {
		case isConflict(err) && conflicts < maxConflicts:
			conflicts++
		case err != nil:
			return fmt.Errorf("placing search keys: %w", err)
		case n < placePage:
			return nil
		}
	}
}

// placePage is how many search keys are placed in a transaction.
const placePage = 500

func (d *DB) placePage(ctx context.Context, tree int64) (int, error) {
	rows, err := d.write.QueryContext(ctx, "SELECT k.name, s.SequenceNumber, k.hash"+notPlaced+"LIMIT ?", tree, placePage)
	if err != nil {
		return 0, err
	}
	keys, err := scanKeys(rows)
	if err != nil || len(keys) == 0 {
		return 0, err
	}
	requests := placedKeys(nil, tree, keys)
	tx, err := d.write.BeginTx(opening(ctx, requests), nil)
	if err != nil {
		return 0, err
	}
	defer tx.Rollback()
	where, args := orOf(keys, "name = ? AND hash = ?", func(k tlog.SearchKey) []any { return []any{[]byte(k.Name), k.Hash[:]} })
	if _, err := tx.ExecContext(ctx, "DELETE FROM sigstack_search WHERE tree_id = ? AND ("+where+")", append([]any{tree}, args...)...); err != nil {
		return 0, err
	}
	return len(keys), tx.Commit()
}

// orOf returns a condition that any of some search keys satisfies.
func orOf(keys []tlog.SearchKey, one string, values func(tlog.SearchKey) []any) (string, []any) {
	var args []any
	for _, k := range keys {
		args = append(args, values(k)...)
	}
	return one + strings.Repeat(" OR "+one, len(keys)-1), args
}

// scanKeys reads rows of name, index and hash, and closes them.
func scanKeys(rows *sql.Rows) ([]tlog.SearchKey, error) {
	defer rows.Close()
	var keys []tlog.SearchKey
	for rows.Next() {
		var k tlog.SearchKey
		var hash []byte
		if err := rows.Scan(&k.Name, &k.Index, &hash); err != nil {
			return nil, err
		}
		if len(hash) != tlog.HashSize {
			return nil, fmt.Errorf("search key %q with a hash of %d bytes", k.Name, len(hash))
		}
		k.Hash = tlog.Hash(hash)
		keys = append(keys, k)
	}
	return keys, rows.Err()
}

// Lookup returns the leaf hashes of the entries that were stored with a search
// key, in no particular order.
func (s *Store) Lookup(ctx context.Context, key string) ([]tlog.Hash, error) {
	id, name := s.tree.TreeId, []byte(key)
	rows, err := s.db.read.QueryContext(ctx, `SELECT hash FROM sigstack_posting WHERE tree_id = ? AND name = ?
		UNION ALL SELECT hash FROM sigstack_search WHERE tree_id = ? AND name = ?`, id, name, id, name)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var hashes []tlog.Hash
	for rows.Next() {
		var b []byte
		if err := rows.Scan(&b); err != nil {
			return nil, err
		}
		if len(b) != tlog.HashSize {
			return nil, fmt.Errorf("search key with a hash of %d bytes", len(b))
		}
		hashes = append(hashes, tlog.Hash(b))
	}
	return hashes, rows.Err()
}

// Postings returns the first entries of a span that were stored with a search key,
// at most so many, from the oldest on or from the newest on.
func (s *Store) Postings(ctx context.Context, key string, in tlog.Span, newest bool, most int) ([]tlog.SearchKey, error) {
	order := ""
	if newest {
		order = "DESC "
	}
	id, name := s.tree.TreeId, []byte(key)
	rows, err := s.db.read.QueryContext(ctx, `(SELECT name, at, hash FROM sigstack_posting FORCE INDEX (PRIMARY)
		WHERE tree_id = ? AND name = ? AND at >= ? AND at < ? ORDER BY at `+order+`LIMIT ?)
		UNION ALL (SELECT k.name, s.SequenceNumber, k.hash`+notPlaced+`AND k.name = ? AND s.SequenceNumber >= ? AND s.SequenceNumber < ?)`,
		id, name, in.Begin, min(in.End, math.MaxInt64), most, id, name, in.Begin, min(in.End, math.MaxInt64))
	if err != nil {
		return nil, err
	}
	keys, err := scanKeys(rows)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(keys, byNameAndIndex)
	keys = slices.Compact(keys)
	if newest {
		slices.Reverse(keys)
	}
	return keys[:min(len(keys), most)], nil
}

// KeysWith returns the search keys that begin with a prefix, in order, at most so
// many. Each is one step into the table, however many entries have it.
func (s *Store) KeysWith(ctx context.Context, prefix string, most int) ([]string, error) {
	var keys []string
	at := prefix
	for compare := ">="; len(keys) < most; compare = ">" {
		var name []byte
		err := s.db.read.QueryRowContext(ctx, "SELECT name FROM sigstack_posting FORCE INDEX (PRIMARY) WHERE tree_id = ? AND name "+compare+" ? ORDER BY name LIMIT 1",
			s.tree.TreeId, []byte(at)).Scan(&name)
		if errors.Is(err, sql.ErrNoRows) || err == nil && !strings.HasPrefix(string(name), prefix) {
			break
		}
		if err != nil {
			return nil, err
		}
		at = string(name)
		keys = append(keys, at)
	}
	rows, err := s.db.read.QueryContext(ctx, "SELECT DISTINCT name FROM sigstack_search FORCE INDEX (PRIMARY) WHERE tree_id = ? AND LEFT(name, ?) = ? AND name >= ? ORDER BY name LIMIT ?",
		s.tree.TreeId, len(prefix), []byte(prefix), []byte(prefix), most)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, err
		}
		keys = append(keys, name)
	}
	slices.Sort(keys)
	keys = slices.Compact(keys)
	return keys[:min(len(keys), most)], rows.Err()
}

// Times returns when entries that are there were integrated.
func (s *Store) Times(ctx context.Context, indexes []uint64) ([]time.Time, error) {
	args := []any{s.tree.TreeId}
	for _, index := range indexes {
		args = append(args, index)
	}
	rows, err := s.db.read.QueryContext(ctx, `SELECT SequenceNumber, IntegrateTimestampNanos FROM SequencedLeafData FORCE INDEX (PRIMARY)
		WHERE TreeId = ? AND SequenceNumber IN (?`+strings.Repeat(",?", len(indexes)-1)+")", args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	found := make(map[uint64]time.Time, len(indexes))
	for rows.Next() {
		var index uint64
		var nanos int64
		if err := rows.Scan(&index, &nanos); err != nil {
			return nil, err
		}
		found[index] = time.Unix(0, nanos).UTC()
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	times := make([]time.Time, len(indexes))
	for i, index := range indexes {
		at, ok := found[index]
		if !ok {
			return nil, fmt.Errorf("there is no entry %d", index)
		}
		times[i] = at
	}
	return times, nil
}

// searchPage is how many search keys are read at once.
const searchPage = 1000

// SearchKeys returns all search keys in the order of name and index. Those of a leaf
// that is queued, and in no tree yet, are none of the log's.
func (s *Store) SearchKeys(ctx context.Context) iter.Seq2[tlog.SearchKey, error] {
	return func(yield func(tlog.SearchKey, error) bool) {
		if err := s.db.place(ctx, s.tree.TreeId); err != nil {
			yield(tlog.SearchKey{}, err)
			return
		}
		for after := (tlog.SearchKey{}); ; {
			keys, err := s.searchKeys(ctx, after, searchPage)
			if err != nil {
				yield(tlog.SearchKey{}, err)
				return
			}
			if len(keys) == 0 {
				return
			}
			for _, k := range keys {
				if !yield(k, nil) {
					return
				}
			}
			after = keys[len(keys)-1]
		}
	}
}

// searchKeys returns the search keys after one, at most so many. No key has the empty
// name.
func (s *Store) searchKeys(ctx context.Context, after tlog.SearchKey, most int) ([]tlog.SearchKey, error) {
	name := []byte(after.Name)
	rows, err := s.db.read.QueryContext(ctx, `SELECT name, at, hash FROM sigstack_posting FORCE INDEX (PRIMARY)
		WHERE tree_id = ? AND (name > ? OR name = ? AND at > ?) ORDER BY name, at LIMIT ?`, s.tree.TreeId, name, name, after.Index, most)
	if err != nil {
		return nil, err
	}
	return scanKeys(rows)
}

// ImportSearchKeys adds search keys, in one transaction, by one statement for each
// thousand. One that is there already stays.
func (s *Store) ImportSearchKeys(ctx context.Context, keys []tlog.SearchKey) error {
	if len(keys) == 0 {
		return nil
	}
	if err := s.db.transact(ctx, placedKeys(nil, s.tree.TreeId, slices.Clone(keys))); err != nil {
		return fmt.Errorf("inserting search keys: %w", err)
	}
	return nil
}

// RemoveSearchKeys removes search keys.
func (s *Store) RemoveSearchKeys(ctx context.Context, keys []tlog.SearchKey) error {
	for some := range slices.Chunk(keys, placePage) {
		where, args := orOf(some, "name = ? AND at = ? AND hash = ?", func(k tlog.SearchKey) []any { return []any{[]byte(k.Name), k.Index, k.Hash[:]} })
		if _, err := s.db.write.ExecContext(ctx, "DELETE FROM sigstack_posting WHERE tree_id = ? AND ("+where+")", append([]any{s.tree.TreeId}, args...)...); err != nil {
			return fmt.Errorf("removing search keys: %w", err)
		}
	}
	return nil
}

// MissingSearchKeys returns those of some search keys that are not there.
func (s *Store) MissingSearchKeys(ctx context.Context, keys []tlog.SearchKey) (missing []tlog.SearchKey, err error) {
	for some := range slices.Chunk(keys, placePage) {
		lacks, err := s.lacks(ctx, some)
		if err == nil && len(lacks) > 0 {
			// They may be of entries that came just now, by the queue.
			if err = s.db.place(ctx, s.tree.TreeId); err == nil {
				lacks, err = s.lacks(ctx, lacks)
			}
		}
		if err != nil {
			return nil, fmt.Errorf("looking for search keys: %w", err)
		}
		missing = append(missing, lacks...)
	}
	return missing, nil
}

func (s *Store) lacks(ctx context.Context, keys []tlog.SearchKey) ([]tlog.SearchKey, error) {
	var args []any
	for _, k := range keys {
		args = append(args, []byte(k.Name), k.Index)
	}
	rows, err := s.db.write.QueryContext(ctx, `SELECT p.name, p.at, p.hash
		FROM (SELECT ? AS name, ? AS at`+strings.Repeat(" UNION ALL SELECT ?, ?", len(keys)-1)+`) w
		STRAIGHT_JOIN sigstack_posting p FORCE INDEX (PRIMARY) ON p.tree_id = ? AND p.name = w.name AND p.at = w.at`, append(args, s.tree.TreeId)...)
	if err != nil {
		return nil, err
	}
	found, err := scanKeys(rows)
	if err != nil {
		return nil, err
	}
	there := make(map[tlog.SearchKey]bool, len(found))
	for _, k := range found {
		there[k] = true
	}
	var missing []tlog.SearchKey
	for _, k := range keys {
		if !there[k] {
			missing = append(missing, k)
		}
	}
	return missing, nil
}
