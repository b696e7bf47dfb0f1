package tlog_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sigstack/sigstack/tlog"
)

// TestHangingStore has the store take minutes for one batch. Nobody waits for it
// longer than 25 seconds, those who come late are refused at once, and when the
// store goes on so does the log.
func TestHangingStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		l := f.mustOpen(t)
		defer l.Close()
		add(t, l, 0, nil)
		f.hold, f.entered = make(chan struct{}), make(chan struct{})
		asked := func(n int) (chan error, time.Time) {
			done := make(chan error, 1)
			go func() {
				_, err := l.Add(t.Context(), leaf(n))
				done <- err
			}()
			return done, time.Now()
		}
		refused := func(what string, done chan error, since time.Time, want time.Duration) {
			t.Helper()
			if err := <-done; !errors.Is(err, tlog.ErrUnavailable) {
				t.Errorf("%s: %v", what, err)
			}
			if took := time.Since(since); took != want {
				t.Errorf("%s: answered after %v, want %v", what, took, want)
			}
		}
		first, start := asked(1)
		<-f.entered
		time.Sleep(10 * time.Second)
		second, later := asked(2) // waits in the queue
		synctest.Wait()
		time.Sleep(6 * time.Second) // the batch takes longer than one may
		late, now := asked(3)
		refused("behind a store that hangs", late, now, 0)
		if err := l.Ready(t.Context()); !errors.Is(err, tlog.ErrUnavailable) {
			t.Errorf("ready behind a store that hangs: %v", err)
		}
		refused("in the batch", first, start, 25*time.Second)
		refused("in the queue", second, later, 25*time.Second)

		close(f.hold)
		<-f.entered // the batch with the second
		synctest.Wait()
		f.hold, f.entered = nil, nil
		// The store saw that the time of the first batch was over, and not that
		// the caller of the second had left.
		for n, want := range map[int]bool{1: false, 2: true, 3: false} {
			if in := add(t, l, n, nil); in.Dup != want || in.Tree.Size > 4 {
				t.Errorf("leaf %d: index %d, dup %v, in a tree of %d", n, in.Index, in.Dup, in.Tree.Size)
			}
		}
		if err := l.Ready(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
