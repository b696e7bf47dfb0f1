package sqlite_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/sigstack/sigstack/storage/sqlite"
	"github.com/sigstack/sigstack/tlog/tlogtest"
)

func TestConformance(t *testing.T) {
	dir := t.TempDir()
	tlogtest.Run(t, func(t testing.TB, name string, now func() time.Time) tlogtest.Store {
		s, err := sqlite.Open(filepath.Join(dir, name+".db"), now)
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
}
