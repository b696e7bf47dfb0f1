package sqlite

import "testing"

// EnforceForeignKeys has SQLite look at foreign keys on the connection that
// writes, so that a test can make a commit fail.
func (s *Store) EnforceForeignKeys(t testing.TB) {
	t.Helper()
	if _, err := s.db.write.Exec("PRAGMA foreign_keys = ON"); err != nil {
		t.Fatal(err)
	}
}
