package sqlite_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"database/sql"

	"github.com/sigstack/sigstack/storage/sqlite"
)

func TestAudit(t *testing.T) {
	file := filepath.Join(t.TempDir(), "audit.db")
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	open := func() *sqlite.Audit {
		t.Helper()
		a, err := sqlite.OpenAudit(file)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	a := open()
	for _, serial := range []string{"02", "01", "03"} {
		if err := a.Add(t.Context(), now, serial, []byte(`{"serial":"`+serial+`"}`)); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Add(t.Context(), now, "01", []byte("{}")); err == nil {
		t.Error("a serial is taken twice")
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := a.Add(cancelled, now, "04", []byte("{}")); !errors.Is(err, context.Canceled) {
		t.Errorf("add with a context that has ended: %v", err)
	}
	if err := a.Ready(t.Context()); err != nil {
		t.Error(err)
	}
	// Many at once share transactions; each answer is the row's own.
	results := make(chan error, 200)
	for n := range cap(results) {
		go func() {
			serial := fmt.Sprintf("f%d", n%100) // each serial twice
			results <- a.Add(t.Context(), now, serial, []byte(`{"serial":"`+serial+`"}`))
		}()
	}
	refused := 0
	for range cap(results) {
		if <-results != nil {
			refused++
		}
	}
	if refused != 100 {
		t.Errorf("%d of 100 second rows with a serial were refused", refused)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	a = open()
	defer a.Close()
	var serials []string
	err := a.Records(t.Context(), func(_ time.Time, serial string, record []byte) error {
		if string(record) != `{"serial":"`+serial+`"}` {
			t.Errorf("serial %s has record %s", serial, record)
		}
		serials = append(serials, serial)
		return nil
	})
	if err != nil || len(serials) != 103 || strings.Join(serials[:3], " ") != "02 01 03" {
		t.Errorf("%q, %v", serials, err)
	}
	stop := errors.New("enough")
	if err := a.Records(t.Context(), func(time.Time, string, []byte) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("%v, want the callback's error", err)
	}
}

func TestFiles(t *testing.T) {
	file := filepath.Join(t.TempDir(), "log.db")
	s, err := sqlite.Open(file, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	id := s.TreeID()
	if id <= 0 {
		t.Errorf("tree ID %d", id)
	}
	for _, name := range []string{file, file + "-wal", file + "-shm"} {
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v, want mode 0600", name, info, err)
		}
	}
	s.Close()
	if s, err = sqlite.Open(file, time.Now); err != nil {
		t.Fatal(err)
	}
	if s.TreeID() != id {
		t.Errorf("tree ID %d after reopening, want %d", s.TreeID(), id)
	}
	s.Close()

	// What a newer sigstack wrote is refused.
	db, err := sql.Open("sqlite", file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec("PRAGMA user_version = 99"); err != nil {
		t.Fatal(err)
	}
	db.Close()
	if s, err := sqlite.Open(file, time.Now); err == nil || !strings.Contains(err.Error(), "newer sigstack") {
		if err == nil {
			s.Close()
		}
		t.Errorf("a newer schema: %v", err)
	}
}
