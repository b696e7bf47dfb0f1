package mysql

import (
	"context"
	"database/sql"
	"testing"

	"github.com/sigstack/sigstack/tlog"
)

// Pools returns the connections of every kind.
func (d *DB) Pools(t testing.TB) map[string]*sql.DB {
	t.Helper()
	patient := connect(d.patient, 1)
	t.Cleanup(func() { patient.Close() })
	return map[string]*sql.DB{"read": d.read, "write": d.write, "patient": patient}
}

// Enqueue queues leaves, and leaves it to others to integrate them.
func (s *Store) Enqueue(ctx context.Context, leaves []tlog.Leaf) error {
	b := newBatch(leaves, s.db.now())
	return s.enqueue(ctx, b, b.missing())
}

// SearchPage returns the search keys after one, at most so many.
func (s *Store) SearchPage(ctx context.Context, after tlog.SearchKey, most int) ([]tlog.SearchKey, error) {
	return s.searchKeys(ctx, after, most)
}
