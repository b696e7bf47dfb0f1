package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"math"
	"strings"
	"time"

	"github.com/sigstack/sigstack/tlog"
)

// Lookup returns the leaf hashes of the entries that were stored with a search
// key, in no particular order.
func (s *Store) Lookup(ctx context.Context, key string) ([]tlog.Hash, error) {
	rows, err := s.lookup.QueryContext(ctx, key)
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
		hashes = append(hashes, splitHashes(b)...)
	}
	return hashes, rows.Err()
}

// Postings returns the first entries of a span that were stored with a search key,
// at most so many, from the oldest on or from the newest on.
func (s *Store) Postings(ctx context.Context, key string, in tlog.Span, newest bool, most int) ([]tlog.SearchKey, error) {
	query := s.oldest
	if newest {
		query = s.newest
	}
	rows, err := query.QueryContext(ctx, key, min(in.Begin, math.MaxInt64), min(in.End, math.MaxInt64), most)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var found []tlog.SearchKey
	for rows.Next() {
		k := tlog.SearchKey{Name: key}
		var hash []byte
		if err := rows.Scan(&k.Index, &hash); err != nil {
			return nil, err
		}
		if k.Hash, err = keyHash(key, hash); err != nil {
			return nil, err
		}
		found = append(found, k)
	}
	return found, rows.Err()
}

// KeysWith returns the search keys that begin with a prefix, in order, at most so
// many. Each is one step into the table, however many entries have it.
func (s *Store) KeysWith(ctx context.Context, prefix string, most int) ([]string, error) {
	var keys []string
	key := prefix
	err := s.db.read.QueryRowContext(ctx, "SELECT key FROM search WHERE key >= ? ORDER BY key LIMIT 1", prefix).Scan(&key)
	for err == nil && strings.HasPrefix(key, prefix) && len(keys) < most {
		keys = append(keys, key)
		err = s.nextKey.QueryRowContext(ctx, key).Scan(&key)
	}
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return keys, err
}

// maxTimes bounds how many times are asked for at once.
const maxTimes = 32

// Times returns when entries that are there were integrated, at most maxTimes.
func (s *Store) Times(ctx context.Context, indexes []uint64) ([]time.Time, error) {
	args := make([]any, maxTimes)
	for i := range args {
		args[i] = indexes[min(i, len(indexes)-1)]
	}
	rows, err := s.times.QueryContext(ctx, args...)
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

// SearchKeys returns all search keys in the order of name and index.
func (s *Store) SearchKeys(ctx context.Context) iter.Seq2[tlog.SearchKey, error] {
	return func(yield func(tlog.SearchKey, error) bool) {
		rows, err := s.db.read.QueryContext(ctx, "SELECT key, at, hash FROM search ORDER BY key, at, hash")
		if err != nil {
			yield(tlog.SearchKey{}, err)
			return
		}
		defer rows.Close()
		for rows.Next() {
			var k tlog.SearchKey
			var hash []byte
			err := rows.Scan(&k.Name, &k.Index, &hash)
			if err == nil {
				k.Hash, err = keyHash(k.Name, hash)
			}
			if !yield(k, err) || err != nil {
				return
			}
		}
		if err := rows.Err(); err != nil {
			yield(tlog.SearchKey{}, err)
		}
	}
}

func keyHash(name string, b []byte) (tlog.Hash, error) {
	if len(b) != tlog.HashSize {
		return tlog.Hash{}, fmt.Errorf("search key %q with a hash of %d bytes", name, len(b))
	}
	return tlog.Hash(b), nil
}

// ImportSearchKeys adds search keys, in one transaction. One that is there already
// stays.
func (s *Store) ImportSearchKeys(ctx context.Context, keys []tlog.SearchKey) error {
	return s.eachKey(ctx, keys, "INSERT OR IGNORE INTO search (key, at, hash) VALUES (?, ?, ?)")
}

// RemoveSearchKeys removes search keys, in one transaction.
func (s *Store) RemoveSearchKeys(ctx context.Context, keys []tlog.SearchKey) error {
	return s.eachKey(ctx, keys, "DELETE FROM search WHERE key = ? AND at = ? AND hash = ?")
}

func (s *Store) eachKey(ctx context.Context, keys []tlog.SearchKey, statement string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	tx, err := s.db.write.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback()
	each, err := tx.Prepare(statement)
	if err != nil {
		return err
	}
	defer each.Close()
	for _, k := range keys {
		if _, err := each.Exec(k.Name, k.Index, k.Hash[:]); err != nil {
			return fmt.Errorf("changing search keys: %w", err)
		}
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	s.db.wrote(int64(len(keys)) * 256) // they come in order: many a page
	return nil
}

// MissingSearchKeys returns those of some search keys that are not there.
func (s *Store) MissingSearchKeys(ctx context.Context, keys []tlog.SearchKey) ([]tlog.SearchKey, error) {
	there, err := s.db.read.PrepareContext(ctx, "SELECT 1 FROM search WHERE key = ? AND at = ? AND hash = ?")
	if err != nil {
		return nil, err
	}
	defer there.Close()
	var missing []tlog.SearchKey
	for _, k := range keys {
		var one int
		switch err := there.QueryRowContext(ctx, k.Name, k.Index, k.Hash[:]).Scan(&one); {
		case errors.Is(err, sql.ErrNoRows):
			missing = append(missing, k)
		case err != nil:
			return nil, err
		}
	}
	return missing, nil
}
