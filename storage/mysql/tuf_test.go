package mysql_test

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sigstack/sigstack/storage/mysql"
	"github.com/sigstack/sigstack/test/harness"
)

// TestTUF has two replicas replace the files of one repository.
func TestTUF(t *testing.T) {
	ctx := t.Context()
	dsn := slow(harness.SharedMariaDB(t).NewDatabase(t))
	open := func() *mysql.TUF {
		t.Helper()
		f, err := openDB(t, dsn, time.Now).TUF(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	a, b := open(), open()
	want := func(who *mysql.TUF, files map[string][]byte, version int64) {
		t.Helper()
		got, v, err := who.Files(ctx)
		if err != nil || v != version || !maps.EqualFunc(got, files, bytes.Equal) {
			t.Fatalf("version %d with %v (%v), want %d with %v", v, slices.Collect(maps.Keys(got)), err, version, slices.Collect(maps.Keys(files)))
		}
		if v, err := who.Version(ctx); v != version || err != nil {
			t.Fatalf("version %d, %v; want %d", v, err, version)
		}
	}
	want(a, map[string][]byte{}, 0)

	first := map[string][]byte{"1.root.json": []byte("{}"), "targets/a.pem": {0, 255, 10}, "empty": {}}
	if v, err := a.Replace(ctx, first, 0); v != 1 || err != nil {
		t.Fatalf("version %d, %v", v, err)
	}
	want(b, first, 1)
	if _, err := b.Replace(ctx, map[string][]byte{"x": {}}, 0); err == nil {
		t.Error("files that another replica has replaced are replaced")
	}
	want(a, first, 1)
	second := map[string][]byte{"1.root.json": []byte("{}"), "2.root.json": []byte("{ }")}
	if v, err := b.Replace(ctx, second, 1); v != 2 || err != nil {
		t.Fatalf("version %d, %v", v, err)
	}
	want(a, second, 2)

	// One at a time, whoever it is.
	var inside, turns int
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, f := range []*mysql.TUF{a, b, a, b, a} {
		wg.Go(func() {
			err := f.Exclusive(ctx, func(ctx context.Context) error {
				mu.Lock()
				inside, turns = inside+1, turns+1
				if inside != 1 {
					t.Errorf("%d are in it", inside)
				}
				mu.Unlock()
				_, err := f.Version(ctx) // and others have time to come in
				mu.Lock()
				inside--
				mu.Unlock()
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if turns != 5 {
		t.Errorf("%d turns, want 5", turns)
	}

	// Who takes long keeps the lease meanwhile, and learns that it is lost.
	db := raw(t, dsn)
	holder := func() string {
		t.Helper()
		return table(t, db, "SELECT holder FROM sigstack_lease WHERE until > UNIX_TIMESTAMP()")[0]
	}
	err := a.Exclusive(ctx, func(ctx context.Context) error {
		for seen := map[string]bool{}; len(seen) < 3; time.Sleep(10 * time.Millisecond) {
			seen[holder()] = true
		}
		if _, err := db.Exec("UPDATE sigstack_lease SET holder = 'somebody else'"); err != nil {
			t.Fatal(err)
		}
		<-ctx.Done()
		return ctx.Err()
	})
	if err == nil || !strings.Contains(err.Error(), "was lost") || ctx.Err() != nil {
		t.Errorf("a lease that somebody else has taken: %v", err)
	}

	// A holder that has died keeps others out until its lease ends.
	if _, err := db.Exec("UPDATE sigstack_lease SET holder = 'gone', until = UNIX_TIMESTAMP() + 1000"); err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	nothing := func(context.Context) error { return nil }
	if err := a.Exclusive(short, nothing); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the lease of another replica: %v", err)
	}
	if _, err := db.Exec("UPDATE sigstack_lease SET until = UNIX_TIMESTAMP() - 1"); err != nil {
		t.Fatal(err)
	}
	if err := a.Exclusive(ctx, nothing); err != nil {
		t.Error(err)
	}
	if until := table(t, db, "SELECT until FROM sigstack_lease")[0]; until != "[{0 true}]" {
		t.Errorf("a lease that is not needed any more ends at %s", until)
	}
}

// TestClaim has a log signed by one key only.
func TestClaim(t *testing.T) {
	dsn := slow(harness.SharedMariaDB(t).NewDatabase(t))
	one, other := openDB(t, dsn, time.Now), openDB(t, dsn, time.Now)
	for _, s := range []*mysql.Store{openLog(t, one, "ct"), openLog(t, other, "ct"), openLog(t, one, "ct")} {
		if err := s.Claim(t.Context(), [32]byte{1}); err != nil {
			t.Fatal(err)
		}
	}
	if err := openLog(t, other, "rekorv1").Claim(t.Context(), [32]byte{2}); err != nil {
		t.Errorf("another log with another key: %v", err)
	}
	if err := openLog(t, other, "ct").Claim(t.Context(), [32]byte{2}); err == nil || !strings.Contains(err.Error(), "same keys") {
		t.Errorf("another key: %v", err)
	}
}
