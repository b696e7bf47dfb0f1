package events

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sigstack/sigstack/tlog"
	"github.com/sigstack/sigstack/tlog/rekor"
)

// A fakeLog has as many entries as it is told.
type fakeLog struct {
	mu      sync.Mutex
	size    uint64 // published by this process
	others  uint64 // added by others since
	grown   chan struct{}
	failing error
	asked   int // how often Info was
	bytes   int // of each body
	broken  func(index uint64) error
}

func (l *fakeLog) Size() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.size
}

func (l *fakeLog) Grows() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.grown == nil {
		l.grown = make(chan struct{})
	}
	return l.grown
}

func (l *fakeLog) add(n uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.size += n
	if l.grown != nil {
		close(l.grown)
		l.grown = nil
	}
}

// elsewhere has another process add entries.
func (l *fakeLog) elsewhere(n uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.others += n
}

// fails has Latest fail from now on, or not.
func (l *fakeLog) fails(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failing = err
}

func (l *fakeLog) Latest(context.Context) (uint64, error) {
	l.mu.Lock()
	l.asked++
	failing, others := l.failing, l.others
	l.others = 0
	l.mu.Unlock()
	if failing != nil {
		return 0, failing
	}
	if others > 0 {
		l.add(others)
	}
	return l.Size(), nil
}

func (l *fakeLog) Range(_ context.Context, begin, end uint64) (out []*rekor.LogEntry, err error) {
	if size := l.Size(); begin >= end || end > size {
		return nil, fmt.Errorf("%w: %d to %d of %d", tlog.ErrNotFound, begin, end, size)
	}
	for ; begin < end; begin++ {
		if l.broken != nil {
			if err := l.broken(begin); err != nil {
				return nil, err
			}
		}
		out = append(out, &rekor.LogEntry{UUID: fmt.Sprint(begin), LogID: "00", LogIndex: begin, Body: make([]byte, l.bytes)})
	}
	return out, nil
}

// A fakeSink does as it is told and remembers what it was given.
type fakeSink struct {
	mu       sync.Mutex
	taken    []string // ids
	synced   int      // how many of them
	batches  []int
	answer   func(ids []string) (int, error) // nil takes all
	syncErr  error
	attempts []time.Time
}

func (s *fakeSink) Deliver(_ context.Context, events []Event) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var got []string
	for _, e := range events {
		var event struct{ ID string }
		if err := json.Unmarshal(e, &event); err != nil {
			return 0, err
		}
		got = append(got, event.ID)
	}
	s.attempts = append(s.attempts, time.Now())
	s.batches = append(s.batches, len(got))
	n, err := len(got), error(nil)
	if s.answer != nil {
		n, err = s.answer(got)
	}
	s.taken = append(s.taken, got[:n]...)
	return n, err
}

func (s *fakeSink) Sync() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.syncErr != nil {
		return s.syncErr
	}
	s.synced = len(s.taken)
	return nil
}

// does has the sink answer so from now on.
func (s *fakeSink) does(answer func(ids []string) (int, error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = answer
}

// syncs has Sync say so from now on.
func (s *fakeSink) syncs(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.syncErr = err
}

func (s *fakeSink) got() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.taken)
}

// A fakeCursor is in memory, and checks that it moves behind what was synced.
type fakeCursor struct {
	t     testing.TB
	sink  *fakeSink
	mu    sync.Mutex
	next  uint64
	there bool
	moves []uint64
	fail  error
	turns int
}

func (c *fakeCursor) String() string { return "the cursor of the test" }

func (c *fakeCursor) Load(context.Context) (uint64, bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.next, c.there, c.fail
}

func (c *fakeCursor) Create(_ context.Context, next uint64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.next, c.there = next, true
	return c.fail
}

func (c *fakeCursor) Move(ctx context.Context, from, to uint64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fail != nil {
		return c.fail
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if from != c.next || to <= from {
		c.t.Errorf("the cursor is moved from %d to %d, it is at %d", from, to, c.next)
	}
	c.sink.mu.Lock()
	if last := fmt.Sprint(to - 1); !slices.Contains(c.sink.taken[:c.sink.synced], last) {
		c.t.Errorf("the cursor moves to %d, but entry %s is not durable", to, last)
	}
	c.sink.mu.Unlock()
	c.next, c.moves = to, append(c.moves, to)
	return nil
}

func (c *fakeCursor) Exclusive(ctx context.Context, f func(context.Context) error) error {
	c.mu.Lock()
	c.turns++
	c.mu.Unlock()
	return f(ctx)
}

// fails has everything fail from now on, or nothing.
func (c *fakeCursor) fails(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fail = err
}

func (c *fakeCursor) at() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.next
}

// A fixture is a follower of fakes.
type fixture struct {
	*Follower
	log    *fakeLog
	sink   *fakeSink
	cursor *fakeCursor
	cfg    Config
	lines  *bytes.Buffer
}

func newFixture(t *testing.T, size uint64) *fixture {
	f := &fixture{log: &fakeLog{size: size}, sink: &fakeSink{}, lines: &bytes.Buffer{}}
	f.cursor = &fakeCursor{t: t, sink: f.sink}
	f.cfg = Config{
		Name: "test", Log: f.log, Sink: f.sink, Cursor: f.cursor, Format: Rekor, After: time.After,
		Logger: slog.New(slog.NewTextHandler(f.lines, nil)),
	}
	return f
}

func (f *fixture) open(t *testing.T) {
	t.Helper()
	var err error
	if f.Follower, err = Open(t.Context(), f.cfg); err != nil {
		t.Fatal(err)
	}
}

// start opens the follower and runs it until the function that is returned is called.
func (f *fixture) start(t *testing.T) (stop func()) {
	t.Helper()
	f.open(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { f.Run(ctx); close(done) }()
	synctest.Wait()
	return func() { cancel(); <-done }
}

// want are the ids of the entries [begin, end).
func want(begin, end int) (out []string) {
	for i := begin; i < end; i++ {
		out = append(out, fmt.Sprint(i))
	}
	return out
}

func (f *fixture) expect(t *testing.T, what string, ids []string) {
	t.Helper()
	synctest.Wait()
	if got := f.sink.got(); !slices.Equal(got, ids) {
		t.Fatalf("%s: delivered %v, want %v\n%s", what, got, ids, f.lines)
	}
}

// TestFollower delivers what is there and what comes, at once, in order, and goes
// on from its cursor after a restart.
func TestFollower(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, 5)
		f.cfg.FromStart = true
		stop := f.start(t)
		f.expect(t, "at the start", want(0, 5))
		f.log.add(3)
		f.expect(t, "woken", want(0, 8))
		if f.cursor.at() != 0 || f.Lag() != 0 || f.Delivered() != 8 || !f.Delivering() {
			t.Errorf("cursor %d, lag %d, delivered %d, delivering %v", f.cursor.at(), f.Lag(), f.Delivered(), f.Delivering())
		}
		time.Sleep(saveEvery)
		synctest.Wait()
		if f.cursor.at() != 8 || len(f.cursor.moves) != 1 {
			t.Errorf("the cursor has moved %v, want once, to 8", f.cursor.moves)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(f.cursor.moves) != 1 || f.log.asked != 0 {
			t.Errorf("with nothing to do the cursor has moved %v, and the log was asked %d times", f.cursor.moves, f.log.asked)
		}
		f.log.add(1000)
		f.expect(t, "many", want(0, 1008))
		for _, n := range f.sink.batches {
			if n > maxBatch+maxRead {
				t.Errorf("a batch of %d", n)
			}
		}
		stop() // which moves the cursor a last time
		if f.cursor.at() != 1008 || f.Delivering() {
			t.Errorf("after the end the cursor is at %d", f.cursor.at())
		}
		f.log.add(2)
		defer f.start(t)()
		f.expect(t, "after a restart", want(0, 1010))
		if f.Failures() != 0 {
			t.Errorf("%d failures\n%s", f.Failures(), f.lines)
		}
	})
}

// TestBegin has new sinks begin at the end of the log and at its start, and old
// ones where they were.
func TestBegin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, test := range map[string]struct {
			fromStart bool
			cursor    int // -1: none
			want      int
		}{
			"new":                {false, -1, 5},
			"new, from start":    {true, -1, 0},
			"old":                {false, 2, 2},
			"old, from start":    {true, 2, 2},
			"old, and delivered": {true, 5, 5},
		} {
			f := newFixture(t, 5)
			f.cfg.FromStart = test.fromStart
			if test.cursor >= 0 {
				f.cursor.next, f.cursor.there = uint64(test.cursor), true
			}
			f.open(t)
			if !f.cursor.there || f.cursor.at() != uint64(test.want) {
				t.Errorf("%s: opened at %d, want %d, before anything is served", name, f.cursor.at(), test.want)
			}
			f.log.add(2)
			stop := f.start(t)
			f.expect(t, name, want(test.want, 7))
			stop()
		}
	})
}

// TestRestored is loud about a cursor that the log does not reach: at the start,
// and when another replica hands over.
func TestRestored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, 5)
		f.cursor.next, f.cursor.there = 6, true
		_, err := Open(t.Context(), f.cfg)
		if err == nil || !strings.Contains(err.Error(), "6 entries were delivered, but the log has 5") || !strings.Contains(err.Error(), "remove the cursor of the test") {
			t.Errorf("opened with a cursor beyond the log: %v", err)
		}
		f.log.elsewhere(1)
		f.open(t) // where another process has added the entry it is not beyond
		for text, fault := range map[string]func(){
			"but the log has": func() { f.cursor.next = 1000 },
			"was removed":     func() { f.cursor.there = false },
		} {
			f := f
			f.cursor.next, f.cursor.there = 6, true
			f.lines.Reset()
			f.open(t)
			fault()
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() { f.Run(ctx); close(done) }()
			time.Sleep(10 * time.Minute)
			synctest.Wait()
			if n := f.Failures(); n < 5 || n > 25 || !strings.Contains(f.lines.String(), text) || len(f.sink.got()) != 0 {
				t.Errorf("%d failures, %s", n, f.lines)
			}
			cancel()
			<-done
		}
		f.cursor.fail = errors.New("input/output error")
		if _, err := Open(t.Context(), f.cfg); !errors.Is(err, f.cursor.fail) {
			t.Errorf("opened without its cursor: %v", err)
		}
	})
}

// TestSinkFails has a sink refuse events, take some of them, and ask for time:
// what was not taken comes again, in order, and nothing else.
func TestSinkFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, 0)
		refuse := errors.New("not today")
		f.sink.does(func([]string) (int, error) { return 0, refuse })
		stop := f.start(t)
		began := time.Now()
		f.log.add(10)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		var waits []time.Duration
		for i, at := range f.sink.attempts[1:] {
			waits = append(waits, at.Sub(f.sink.attempts[i]))
		}
		if f.sink.attempts[0] != began || !slices.IsSorted(waits) || waits[0] != firstRetry || waits[1] != 2*firstRetry || waits[len(waits)-1] != lastRetry {
			t.Errorf("attempts after %v", waits)
		}
		if f.Failures() != uint64(len(f.sink.attempts)) || f.Lag() != 10 || f.cursor.at() != 0 {
			t.Errorf("%d failures of %d attempts, lag %d, cursor %d", f.Failures(), len(f.sink.attempts), f.Lag(), f.cursor.at())
		}
		three := 3
		f.sink.does(func([]string) (n int, err error) {
			n, three = three, 0
			return n, refuse
		})
		time.Sleep(lastRetry)
		f.expect(t, "some", want(0, 3))
		if f.cursor.at() != 3 {
			t.Errorf("the cursor is at %d, want behind what was taken", f.cursor.at())
		}
		f.sink.does(nil)
		time.Sleep(lastRetry) // the sink is back
		f.expect(t, "the rest", want(0, 10))

		f.sink.does(func([]string) (int, error) { return 0, fmt.Errorf("later: %w", &Delay{refuse, 20 * time.Minute}) })
		f.log.add(1)
		synctest.Wait()
		f.sink.does(nil)
		time.Sleep(20*time.Minute - time.Nanosecond)
		f.expect(t, "before the sink wants it", want(0, 10))
		time.Sleep(time.Nanosecond)
		f.expect(t, "when the sink wants it", want(0, 11))

		f.sink.does(func([]string) (int, error) { return 0, &Delay{refuse, time.Millisecond} })
		f.log.add(1)
		synctest.Wait()
		f.sink.does(nil)
		time.Sleep(firstRetry - time.Nanosecond)
		f.expect(t, "sooner than ever", want(0, 11))
		time.Sleep(time.Nanosecond)
		f.expect(t, "then", want(0, 12))
		stop()
	})
}

// TestCursorFails delivers again what the cursor was not moved behind, and never
// moves it behind what a crash would take.
func TestCursorFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, 0)
		stop := f.start(t)
		f.log.add(3)
		f.cursor.fails(errors.New("no space left"))
		f.expect(t, "delivered", want(0, 3))
		time.Sleep(saveEvery) // it cannot be moved, nor read
		synctest.Wait()
		if f.Failures() != 1 || f.Delivering() {
			t.Errorf("%d failures\n%s", f.Failures(), f.lines)
		}
		f.cursor.fails(nil)
		time.Sleep(firstRetry)
		f.expect(t, "again", append(want(0, 3), want(0, 3)...))
		time.Sleep(saveEvery)
		synctest.Wait()
		if f.cursor.at() != 3 || f.cursor.turns != 2 {
			t.Errorf("cursor %d, %d turns", f.cursor.at(), f.cursor.turns)
		}
		f.sink.syncs(errors.New("input/output error"))
		f.log.add(1)
		time.Sleep(saveEvery)
		synctest.Wait()
		if f.cursor.at() != 3 || f.Failures() != 2 {
			t.Errorf("cursor %d, %d failures", f.cursor.at(), f.Failures())
		}
		stop()
		if f.cursor.at() != 3 {
			t.Errorf("the cursor has moved to %d, the entry is not durable", f.cursor.at())
		}
	})
}

// TestOthersEntries asks for what other processes add, and only where there are
// any.
func TestOthersEntries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, 0)
		f.cfg.Poll = time.Second
		stop := f.start(t)
		f.log.elsewhere(2)
		f.expect(t, "not asked yet", nil)
		time.Sleep(time.Second)
		f.expect(t, "asked", want(0, 2))
		f.log.add(1)
		f.expect(t, "its own", want(0, 3))
		f.log.fails(tlog.ErrUnavailable)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if f.Failures() == 0 {
			t.Error("nothing says that the log cannot be asked")
		}
		f.log.fails(nil)
		f.log.elsewhere(1)
		time.Sleep(time.Minute)
		f.expect(t, "asked again", want(0, 4))
		if f.Lag() != 0 {
			t.Errorf("lag %d", f.Lag())
		}
		stop()
		f.log.add(5)
		if f.Lag() != 0 {
			t.Errorf("lag %d where another process delivers", f.Lag())
		}
	})
}

// TestLargeEntries keeps batches small where entries are large, and delivers what
// comes before an entry that cannot be read.
func TestLargeEntries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, 0)
		f.log.bytes = 300 << 10
		stop := f.start(t)
		f.log.mu.Lock()
		f.log.broken = func(i uint64) error {
			if i >= 32 {
				return tlog.ErrIntegrity
			}
			return nil
		}
		f.log.mu.Unlock()
		f.log.add(40)
		f.expect(t, "before the entry that is damaged", want(0, 32))
		if most := slices.Max(f.sink.batches); most != maxRead {
			t.Errorf("batches of %v", f.sink.batches)
		}
		if f.Failures() != 1 || f.Lag() != 8 {
			t.Errorf("%d failures, lag %d", f.Failures(), f.Lag())
		}
		stop()
	})
}

// TestFileCursor keeps a cursor over restarts.
func TestFileCursor(t *testing.T) {
	ctx := t.Context()
	path := filepath.Join(t.TempDir(), "events-test")
	c := NewFileCursor(path)
	if next, ok, err := c.Load(ctx); next != 0 || ok || err != nil {
		t.Fatalf("%d, %v, %v", next, ok, err)
	}
	if err := c.Create(ctx, 5); err != nil {
		t.Fatal(err)
	}
	if err := c.Move(ctx, 5, 1<<40); err != nil {
		t.Fatal(err)
	}
	if err := c.Move(ctx, 5, 6); err == nil {
		t.Error("a cursor is moved back")
	}
	if next, ok, err := NewFileCursor(path).Load(ctx); next != 1<<40 || !ok || err != nil {
		t.Errorf("%d, %v, %v", next, ok, err)
	}
	write(t, path, "12")
	if _, ok, err := c.Load(ctx); ok || err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("half a cursor is read: %v", err)
	}
	if err := c.Move(ctx, 12, 13); err == nil {
		t.Error("half a cursor is moved")
	}
}
