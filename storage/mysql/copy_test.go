package mysql_test

import (
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sigstack/sigstack/storage/mysql"
	"github.com/sigstack/sigstack/test/harness"
	"github.com/sigstack/sigstack/tlog"
)

func refused(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Fatalf("%v, want %q", err, want)
	}
}

// TestOpenAs makes logs with the tree IDs that they have elsewhere. Nobody gets
// one to serve before the copy into it is complete.
func TestOpenAs(t *testing.T) {
	ctx := t.Context()
	d := openDB(t, slow(harness.SharedMariaDB(t).NewDatabase(t)), time.Now)
	key, other := [32]byte{1}, [32]byte{2}
	_, err := d.Existing(ctx, "ct", key)
	refused(t, err, "does not have it")

	abandoned := openLog(t, d, "rekorv1") // a start that came to nothing
	for name, id := range map[string]int64{"ct": 77, "rekorv1": 78} {
		s, err := d.OpenAs(ctx, name, id, key)
		if err != nil || s.TreeID() != id {
			t.Fatal(err)
		}
		for range 2 { // the second time after an interruption
			refused(t, openLog(t, d, name).Claim(ctx, key), "not complete")
			_, err = d.Existing(ctx, name, key)
			refused(t, err, "not complete")
			if s, err = d.OpenAs(ctx, name, id, key); err != nil || s.TreeID() != id {
				t.Fatal(err)
			}
		}
		if _, err := s.Import(ctx, records(0, 3)); err != nil {
			t.Fatal(err)
		}
		_, err = d.OpenAs(ctx, name, id+10, key)
		refused(t, err, "it is another log")
		if err := d.EndCopy(ctx, name, key); err != nil {
			t.Fatal(err)
		}
		if err := openLog(t, d, name).Claim(ctx, key); err != nil {
			t.Fatal(err)
		}
		refused(t, openLog(t, d, name).Claim(ctx, other), "all replicas need the same keys")
		_, err = d.OpenAs(ctx, name, id, other)
		refused(t, err, "it is signed by the key with ID 01")
		_, err = d.Existing(ctx, name, other)
		refused(t, err, "it is signed by the key with ID 01")
		if s, err = d.Existing(ctx, name, key); err != nil {
			t.Fatal(err)
		}
		if placed, head, err := s.Append(ctx, []tlog.Leaf{{Value: []byte("next")}}); err != nil || head.Size != 4 || placed[0].Index != 3 {
			t.Fatalf("append to a copy: %+v, %+v, %v", placed, head, err)
		}
		if err := d.BeginCopy(ctx, name); err != nil {
			t.Fatal(err)
		}
		refused(t, s.Claim(ctx, key), "not complete")
	}
	if id := openLog(t, d, "rekorv1").TreeID(); id != 78 || abandoned.TreeID() == 78 {
		t.Errorf("the log is tree %d, before it was %d", id, abandoned.TreeID())
	}
}

// records are entries of another store.
func records(first, last int) (out []tlog.Record) {
	for n := first; n < last; n++ {
		value := fmt.Appendf(nil, "entry %d", n)
		out = append(out, tlog.Record{Entry: tlog.Entry{Index: uint64(n), Time: time.Unix(int64(n), 5).UTC(), Value: value}, ID: tlog.LeafHash(value)})
	}
	return out
}

// TestImportInterrupted lets a process end between the two transactions of an
// import, and imports less, the same, or more then. The order does not depend on
// the clock, which goes backwards.
func TestImportInterrupted(t *testing.T) {
	ctx := t.Context()
	var hours atomic.Int64
	d := openDB(t, slow(harness.SharedMariaDB(t).NewDatabase(t)), func() time.Time {
		return time.Unix(2_000_000_000, 0).Add(time.Duration(-hours.Add(1)) * time.Hour)
	})
	leaves := func(records []tlog.Record) (out []tlog.Leaf) {
		for _, r := range records {
			out = append(out, tlog.Leaf{Value: r.Value, ID: r.ID})
		}
		return out
	}
	for i, last := range []int{7, 10, 15} {
		s, err := d.OpenAs(ctx, fmt.Sprint("log", i), int64(i+1), [32]byte{1})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Import(ctx, records(0, 4)); err != nil {
			t.Fatal(err)
		}
		if err := s.Enqueue(ctx, leaves(records(4, 10))); err != nil {
			t.Fatal(err)
		}
		for _, part := range [][]tlog.Record{records(4, last), records(last, 20)} {
			if head, err := s.Import(ctx, part); err != nil || head.Size != part[0].Index+uint64(len(part)) {
				t.Fatalf("%+v, %v", head, err)
			}
		}
		got, err := s.Records(ctx, 0, 100)
		want := records(0, 20)
		if err != nil || len(got) != len(want) {
			t.Fatal(len(got), err)
		}
		for n := range want {
			if string(got[n].Value) != string(want[n].Value) || !got[n].Time.Equal(want[n].Time) || got[n].ID != want[n].ID {
				t.Fatalf("entry %d is %q of %v, want %q of %v", n, got[n].Value, got[n].Time, want[n].Value, want[n].Time)
			}
		}
	}

	// A leaf that somebody else has queued would take the index of another one.
	d = openDB(t, slow(harness.SharedMariaDB(t).NewDatabase(t)), time.Now)
	s, err := d.OpenAs(ctx, "foreign", 99, [32]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Enqueue(ctx, []tlog.Leaf{{Value: []byte("foreign")}}); err != nil {
		t.Fatal(err)
	}
	_, err = s.Import(ctx, records(0, 3))
	refused(t, err, "where it does not belong")
	if head, err := s.Head(ctx); err != nil || head.Size != 0 {
		t.Errorf("%+v, %v", head, err)
	}
}

// TestSearchKeysOfQueue has a leaf in the queue. Its search keys are none of the
// log's.
func TestSearchKeysOfQueue(t *testing.T) {
	ctx := t.Context()
	s := openLog(t, openDB(t, slow(harness.SharedMariaDB(t).NewDatabase(t)), time.Now), "rekorv1")
	if _, _, err := s.Append(ctx, []tlog.Leaf{{Value: []byte("a"), Keys: []string{"both", "a"}}}); err != nil {
		t.Fatal(err)
	}
	if err := s.Enqueue(ctx, []tlog.Leaf{{Value: []byte("b"), Keys: []string{"both", "b"}}}); err != nil {
		t.Fatal(err)
	}
	keys, err := s.SearchPage(ctx, tlog.SearchKey{}, 9)
	if err != nil || len(keys) != 2 || keys[0].Name != "a" || keys[1].Name != "both" || keys[1].Hash != tlog.LeafHash([]byte("a")) {
		t.Errorf("%+v, %v", keys, err)
	}
}

// TestAlone looks for others in a database.
func TestAlone(t *testing.T) {
	server := harness.SharedMariaDB(t)
	dsn, logger := slow(server.NewDatabase(t)), slog.New(slog.DiscardHandler)
	openDB(t, server.NewDatabase(t), time.Now) // in another database
	if err := mysql.Alone(t.Context(), dsn, logger); err != nil {
		t.Fatal(err)
	}
	d, err := mysql.Open(t.Context(), dsn, time.Now, logger)
	if err != nil {
		t.Fatal(err)
	}
	refused(t, mysql.Alone(t.Context(), dsn, logger), "other connections use the database")
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if err := mysql.Alone(t.Context(), dsn, logger); err != nil {
		t.Fatal(err)
	}
}
