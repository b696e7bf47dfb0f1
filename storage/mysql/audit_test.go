package mysql_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sigstack/sigstack/storage/mysql"
	"github.com/sigstack/sigstack/test/harness"
)

func TestAudit(t *testing.T) {
	server := harness.SharedMariaDB(t)
	dsn := server.NewDatabase(t)
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	audits := []*mysql.Audit{openDB(t, dsn, time.Now).Audit(), openDB(t, dsn, time.Now).Audit()}
	a := audits[0]
	for _, serial := range []string{"02", "01", "03"} {
		if err := a.Add(t.Context(), now, serial, []byte(`{"serial":"`+serial+`"}`)); err != nil {
			t.Fatal(err)
		}
	}
	for _, a := range audits {
		if err := a.Add(t.Context(), now, "01", []byte(`{"serial":"01"}`)); err == nil {
			t.Error("a serial is taken twice")
		}
		if err := a.Ready(t.Context()); err != nil {
			t.Error(err)
		}
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := a.Add(cancelled, now, "04", []byte("{}")); !errors.Is(err, context.Canceled) {
		t.Errorf("add with a context that has ended: %v", err)
	}
	// Many at once, in two replicas, share transactions; each answer is the
	// row's own.
	const serials = 700
	var wg sync.WaitGroup
	var mu sync.Mutex
	added := map[string]int{}
	for n := range 2 * serials {
		wg.Go(func() {
			serial := fmt.Sprintf("f%d", n%serials) // each serial in each replica
			if err := audits[n/serials].Add(t.Context(), now, serial, []byte(`{"serial":"`+serial+`"}`)); err == nil {
				mu.Lock()
				added[serial]++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	for n := range serials {
		if serial := fmt.Sprintf("f%d", n); added[serial] != 1 {
			t.Errorf("serial %s was added %d times", serial, added[serial])
		}
	}
	var found []string
	err := audits[1].Records(t.Context(), func(_ time.Time, serial string, record []byte) error {
		if string(record) != `{"serial":"`+serial+`"}` {
			t.Errorf("serial %s has record %s", serial, record)
		}
		found = append(found, serial)
		return nil
	})
	if err != nil || len(found) != serials+3 || strings.Join(found[:3], " ") != "02 01 03" {
		t.Errorf("%d records, %v", len(found), err)
	}
	stop := errors.New("enough")
	if err := a.Records(t.Context(), func(time.Time, string, []byte) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("%v, want the callback's error", err)
	}
	for _, a := range audits {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
		if err := a.Add(t.Context(), now, "05", []byte("{}")); err == nil {
			t.Error("a closed audit log takes rows")
		}
	}
}

// TestAuditLostCommit cuts the connection at the commit: the row is found to be
// ours.
func TestAuditLostCommit(t *testing.T) {
	server := harness.SharedMariaDB(t)
	for _, at := range []harness.Direction{harness.ToServer, harness.ToClient} {
		dsn := server.NewDatabase(t)
		proxy := harness.NewProxy(t, server.Addr)
		a := openDB(t, strings.Replace(dsn, server.Addr, proxy.Addr, 1), time.Now).Audit()
		var mu sync.Mutex
		cuts, cutting := 0, false
		proxy.Inspect(func(d harness.Direction, data []byte) harness.Verdict {
			mu.Lock()
			defer mu.Unlock()
			if cuts == 0 && d == harness.ToServer && strings.HasSuffix(string(data), "COMMIT") {
				cutting = true
			}
			if cutting && d == at {
				cuts, cutting = cuts+1, false
				return harness.Cut
			}
			return harness.Pass
		})
		if err := a.Add(t.Context(), time.Now(), "01", []byte("{}")); err != nil || cuts != 1 {
			t.Errorf("direction %d: %v after %d cuts", at, err, cuts)
		}
		if err := a.Add(t.Context(), time.Now(), "01", []byte("{}")); err == nil {
			t.Errorf("direction %d: a serial is taken twice", at)
		}
		rows := 0
		if err := a.Records(t.Context(), func(time.Time, string, []byte) error { rows++; return nil }); err != nil || rows != 1 {
			t.Errorf("direction %d: %d rows, %v", at, rows, err)
		}
		a.Close()
	}
}
