package mysql_test

import (
	"fmt"
	"log/slog"
	"slices"
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

// TestSearchKeysOfQueue has leaves in the queue. Their search keys are none of the
// log's before somebody takes them into the tree, and then they are found before they
// are placed, and by the process that placed them and every other.
func TestSearchKeysOfQueue(t *testing.T) {
	ctx := t.Context()
	dsn := slow(harness.SharedMariaDB(t).NewDatabase(t))
	s := openLog(t, openDB(t, dsn, time.Now), "rekorv1")
	leaf := func(name string) tlog.Leaf { return tlog.Leaf{Value: []byte(name), Keys: []string{"both", name}} }
	if _, _, err := s.Append(ctx, []tlog.Leaf{leaf("a")}); err != nil {
		t.Fatal(err)
	}
	if err := s.Enqueue(ctx, []tlog.Leaf{leaf("b"), leaf("c")}); err != nil {
		t.Fatal(err)
	}
	check := func(names ...string) {
		t.Helper()
		var want []tlog.SearchKey
		for index, name := range names {
			want = append([]tlog.SearchKey{{Name: "both", Index: uint64(index), Hash: tlog.LeafHash([]byte(name))}}, want...)
		}
		for most := range len(want) {
			got, err := s.Postings(ctx, "both", tlog.Span{End: 9}, true, most+1)
			if err != nil || !slices.Equal(got, want[:most+1]) {
				t.Errorf("%v, %v, want %v", got, err, want[:most+1])
			}
		}
		for _, name := range names {
			if found, err := s.Lookup(ctx, name); err != nil || len(found) != 1 {
				t.Errorf("%d found by %q, %v", len(found), name, err)
			}
			if keys, err := s.KeysWith(ctx, name, 9); err != nil || !slices.Contains(keys, name) {
				t.Errorf("%q begins %q, %v", name, keys, err)
			}
		}
	}
	check("a")
	db := raw(t, dsn)
	unplaced := func() string { return table(t, db, "SELECT COUNT(*) FROM sigstack_search")[0] }
	if got := unplaced(); got != "[{4 true}]" {
		t.Errorf("%s search keys wait for their places", got)
	}
	if _, _, err := s.Append(ctx, []tlog.Leaf{leaf("d")}); err != nil { // it takes them along, and does not know their keys
		t.Fatal(err)
	}
	names := []string{"a"}
	entries, err := s.Entries(ctx, 1, 9)
	if err != nil || len(entries) != 3 {
		t.Fatal(len(entries), err)
	}
	for _, e := range entries {
		names = append(names, string(e.Value))
	}
	check(names...)
	if placed, _, err := s.Append(ctx, []tlog.Leaf{leaf("b")}); err != nil || !placed[0].Dup {
		t.Fatal(placed, err)
	}
	if got := unplaced(); got != "[{0 true}]" {
		t.Errorf("%s search keys were not placed", got)
	}
	check(names...)
}

// TestMigrateSearchKeys opens a database of version 2, where the search keys were by
// name and hash.
func TestMigrateSearchKeys(t *testing.T) {
	ctx := t.Context()
	dsn := slow(harness.SharedMariaDB(t).NewDatabase(t))
	s := openLog(t, openDB(t, dsn, time.Now), "rekorv1")
	const size = 700
	var leaves []tlog.Leaf
	for n := range size {
		leaves = append(leaves, tlog.Leaf{Value: fmt.Append(nil, n), Keys: []string{fmt.Sprint("key ", n%7), fmt.Sprint("only ", n)}})
	}
	if _, _, err := s.Append(ctx, leaves); err != nil {
		t.Fatal(err)
	}
	db := raw(t, dsn)
	all := "SELECT * FROM sigstack_posting ORDER BY name, at"
	before := table(t, db, all)
	for _, statement := range []string{
		"INSERT INTO sigstack_search SELECT tree_id, name, hash FROM sigstack_posting", "DROP TABLE sigstack_posting", "DELETE FROM sigstack_schema WHERE version = 3",
	} {
		if _, err := db.Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
	openLog(t, openDB(t, dsn, time.Now), "rekorv1")
	if after := table(t, db, all); len(before) != 2*size || !slices.Equal(before, after) {
		t.Errorf("%d search keys, %d after the migration", len(before), len(after))
	}
	if left := table(t, db, "SELECT * FROM sigstack_search"); len(left) > 0 {
		t.Errorf("%d search keys have no place", len(left))
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
