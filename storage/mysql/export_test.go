package mysql

import (
	"database/sql"
	"testing"
)

// Pools returns the connections of every kind.
func (d *DB) Pools(t testing.TB) map[string]*sql.DB {
	t.Helper()
	patient := connect(d.patient, 1)
	t.Cleanup(func() { patient.Close() })
	return map[string]*sql.DB{"read": d.read, "write": d.write, "patient": patient}
}
