package tlog_test

import (
	"errors"
	"log/slog"
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

// TestSilentServer has a store that others share not answer. Those who wait for
// a batch are told together with it, and not one batch after the other; and only
// those of the batch are told that nobody knows what became of their leaves.
func TestSilentServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		l, err := tlog.Open(t.Context(), f.faulty, tlog.Options{
			Signer: f.signer, Memory: f.memory(), Now: f.clock.Now, Logger: slog.New(slog.DiscardHandler), Shared: true,
		})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		add(t, l, 0, nil)
		for _, took := range []time.Duration{1500 * time.Millisecond, 100 * time.Millisecond} {
			f.hold, f.entered, f.appendErr = make(chan struct{}), make(chan struct{}, 2), errDisk
			start := time.Now()
			submit := func(n int) chan error {
				done := make(chan error, 1)
				go func() {
					_, err := l.Add(t.Context(), leaf(n))
					done <- err
				}()
				synctest.Wait()
				return done
			}
			first := submit(1)
			<-f.entered
			second, third := submit(2), submit(3)
			time.Sleep(took)
			close(f.hold)
			for n, done := range []chan error{first, second, third} {
				err := <-done
				if tried := n == 0 || took < time.Second; !errors.Is(err, tlog.ErrUnavailable) || errors.Is(err, tlog.ErrUnknown) != tried {
					t.Errorf("%v, submission %d: %v, want that it is unknown: %v", took, n, err, tried)
				}
			}
			if waited := time.Since(start); waited != took {
				t.Errorf("answered after %v, want %v", waited, took)
			}
			synctest.Wait()
			f.hold, f.entered, f.appendErr = nil, nil, nil
		}
		for n := range 4 {
			if in := add(t, l, n, nil); in.Dup != (n == 0) {
				t.Errorf("leaf %d: dup %v", n, in.Dup)
			}
		}
	})
}
