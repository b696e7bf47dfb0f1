package mysql_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sigstack/sigstack/storage/mysql"
	"github.com/sigstack/sigstack/test/harness"
)

// TestCursor has two replicas move one cursor: what one has moved the other goes on
// from, and whoever is behind cannot move it.
func TestCursor(t *testing.T) {
	ctx := t.Context()
	dsn := slow(harness.SharedMariaDB(t).NewDatabase(t))
	one, other := openDB(t, dsn, time.Now), openDB(t, dsn, time.Now)
	a, b, file := one.Cursor("webhook"), other.Cursor("webhook"), other.Cursor("file")
	want := func(c *mysql.Cursor, next uint64, there bool) {
		t.Helper()
		if got, ok, err := c.Load(ctx); got != next || ok != there || err != nil {
			t.Fatalf("the cursor is at %d, %v (%v); want %d, %v", got, ok, err, next, there)
		}
	}
	want(a, 0, false)
	for _, next := range []uint64{7, 9} { // the first one counts
		if err := errors.Join(a.Create(ctx, next), b.Create(ctx, next)); err != nil {
			t.Fatal(err)
		}
		want(a, 7, true)
		want(b, 7, true)
	}
	want(file, 0, false)
	if err := a.Move(ctx, 7, 12); err != nil {
		t.Fatal(err)
	}
	want(b, 12, true)
	if err := b.Move(ctx, 7, 10); err == nil || !strings.Contains(err.Error(), "another replica") {
		t.Errorf("a cursor is moved back: %v", err)
	}
	want(a, 12, true)

	// One replica delivers, the other waits.
	inside, leave := make(chan struct{}), make(chan struct{})
	done := make(chan error, 1)
	go func() {
		done <- a.Exclusive(ctx, func(context.Context) error {
			close(inside)
			<-leave
			return nil
		})
	}()
	<-inside
	short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	if err := b.Exclusive(short, func(context.Context) error { return nil }); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("two replicas deliver at a time: %v", err)
	}
	if err := file.Create(ctx, 0); err != nil {
		t.Fatal(err)
	}
	if err := file.Exclusive(ctx, func(context.Context) error { return nil }); err != nil {
		t.Errorf("another sink: %v", err)
	}
	close(leave)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := b.Exclusive(ctx, func(context.Context) error { return nil }); err != nil {
		t.Error(err)
	}
	if text := a.String(); !strings.Contains(text, `"events/webhook"`) {
		t.Errorf("the cursor calls itself %s", text)
	}
}
