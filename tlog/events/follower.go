package events

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/sigstack/sigstack/tlog/rekor"
)

// A Log is what is followed. It is a *rekor.Log.
type Log interface {
	// Size is how many entries were published by this process, and Grows is closed
	// when that is next more.
	Size() uint64
	Grows() <-chan struct{}
	// Latest asks for what others have added, too, publishes it, and says how many
	// there are then.
	Latest(ctx context.Context) (size uint64, err error)
	Range(ctx context.Context, begin, end uint64) ([]*rekor.LogEntry, error)
}

// A Cursor keeps the index of the next entry that a sink is to get.
type Cursor interface {
	// Load returns the index; it is false where there is no cursor.
	Load(ctx context.Context) (next uint64, ok bool, err error)
	// Create makes the cursor, unless somebody else just has.
	Create(ctx context.Context, next uint64) error
	// Move moves the cursor and is durable on return. It is an error where the
	// cursor is not where it is moved from.
	Move(ctx context.Context, from, to uint64) error
	// Exclusive calls f while nobody else, in whatever replica, is in it. The
	// context of f ends when that is no longer certain.
	Exclusive(ctx context.Context, f func(ctx context.Context) error) error
	// String says what would have to be removed to be rid of the cursor.
	String() string
}

// Config is what a Follower needs.
type Config struct {
	Name   string // of the sink, in the log
	Log    Log
	Sink   Sink
	Cursor Cursor
	Format Format

	// FromStart has a sink that has no cursor yet begin with the first entry of the
	// log, instead of with the next one.
	FromStart bool

	// Poll is how often a log is asked for the entries of other processes; 0 where
	// there are none.
	Poll time.Duration

	After  func(time.Duration) <-chan time.Time // time.After
	Logger *slog.Logger
}

const (
	// A batch is read until it has maxBatch entries or maxBatchBytes bytes. An entry
	// may have 4 MiB, so that they are read few at a time.
	maxBatch      = 256
	maxBatchBytes = 1 << 20
	maxRead       = 16

	// saveEvery is how often the cursor moves while entries come: each time is a
	// sync of the disk that the log is on, too. It bounds what is delivered again
	// after a crash.
	saveEvery   = 250 * time.Millisecond
	saveTimeout = 5 * time.Second // of the last time, when the server ends

	// What failed is tried again after firstRetry, and after twice as long each
	// time, up to lastRetry, or when the sink has said.
	firstRetry = 250 * time.Millisecond
	lastRetry  = time.Minute
)

// A Follower delivers the entries of a log to one sink.
type Follower struct {
	cfg Config

	next       atomic.Uint64 // the next entry to deliver
	delivered  atomic.Uint64
	failures   atomic.Uint64
	delivering atomic.Bool // this process is the one that delivers

	wait time.Duration // before the last retry; belongs to Run
}

// Open makes the cursor of a sink, where there is none: entries that are added
// from then on are delivered. It refuses a cursor that the log does not reach.
func Open(ctx context.Context, cfg Config) (*Follower, error) {
	f := &Follower{cfg: cfg}
	next, ok, err := cfg.Cursor.Load(ctx)
	if err == nil && !ok {
		var first uint64
		if !cfg.FromStart {
			first, err = cfg.Log.Latest(ctx)
		}
		if err == nil {
			err = cfg.Cursor.Create(ctx, first)
		}
		if err == nil {
			next, ok, err = cfg.Cursor.Load(ctx)
		}
	}
	if err == nil {
		err = f.check(ctx, next, ok)
	}
	if err != nil {
		return nil, fmt.Errorf("the cursor of the sink %q: %w", cfg.Name, err)
	}
	f.next.Store(next)
	return f, nil
}

// check refuses a cursor that was removed, or that the log does not reach.
func (f *Follower) check(ctx context.Context, next uint64, ok bool) error {
	if !ok {
		return fmt.Errorf("%s was removed while the server ran; restart it", f.cfg.Cursor)
	}
	if next <= f.cfg.Log.Size() {
		return nil
	}
	size, err := f.cfg.Log.Latest(ctx)
	if err == nil && next > size {
		err = fmt.Errorf("%d entries were delivered, but the log has %d: it is older than the cursor; put back the newer log, or remove %s, and the sink begins anew as rekor.events.from says",
			next, size, f.cfg.Cursor)
	}
	return err
}

// Delivered is how many entries this process has delivered, counted each time.
func (f *Follower) Delivered() uint64 { return f.delivered.Load() }

// Failures is how often this process could not deliver.
func (f *Follower) Failures() uint64 { return f.failures.Load() }

// Delivering says whether this process is the one that delivers to the sink.
func (f *Follower) Delivering() bool { return f.delivering.Load() }

// Lag is how many entries the sink is behind; 0 where another process delivers.
func (f *Follower) Lag() uint64 {
	next, size := f.next.Load(), f.cfg.Log.Size()
	if size < next || f.cfg.Poll > 0 && !f.Delivering() {
		return 0
	}
	return size - next
}

// Run delivers until ctx is done.
func (f *Follower) Run(ctx context.Context) {
	for ctx.Err() == nil {
		err := f.cfg.Cursor.Exclusive(ctx, f.turn)
		f.delivering.Store(false)
		if ctx.Err() == nil {
			f.failed(ctx, err)
		}
	}
}

// failed says what failed, and waits.
func (f *Follower) failed(ctx context.Context, err error) {
	f.failures.Add(1)
	f.wait = min(max(2*f.wait, firstRetry), lastRetry)
	wait := f.wait
	if delay := (*Delay)(nil); errors.As(err, &delay) {
		wait = max(wait, delay.After)
	}
	f.cfg.Logger.Error("events are not delivered", "sink", f.cfg.Name, "next", f.next.Load(), "lag", f.Lag(), "err", err, "retry_in", wait.String())
	select {
	case <-f.cfg.After(wait):
	case <-ctx.Done():
	}
}

// turn delivers while this process is the one that does. It goes on from the
// cursor, wherever whoever delivered before has come.
func (f *Follower) turn(ctx context.Context) error {
	saved, ok, err := f.cfg.Cursor.Load(ctx)
	if err == nil {
		err = f.check(ctx, saved, ok)
	}
	if err != nil {
		return fmt.Errorf("the cursor: %w", err)
	}
	next := saved
	f.next.Store(next)
	f.delivering.Store(true)
	save := func(ctx context.Context) error {
		if next == saved {
			return nil
		}
		if err := f.cfg.Sink.Sync(); err != nil {
			return err
		}
		// After this line the entries are never delivered again.
		if err := f.cfg.Cursor.Move(ctx, saved, next); err != nil {
			return fmt.Errorf("moving the cursor: %w", err)
		}
		saved = next
		return nil
	}
	var due <-chan time.Time // for moving the cursor; nil while there is nothing to move it for
	for {
		grows := f.cfg.Log.Grows()
		select {
		case <-due:
			if err := save(ctx); err != nil {
				return err
			}
			due = nil
			continue
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveTimeout)
			defer cancel()
			return errors.Join(ctx.Err(), save(last))
		default:
		}
		if size := f.cfg.Log.Size(); next < size {
			taken, err := f.deliver(ctx, next, size)
			if next += uint64(taken); taken > 0 {
				f.next.Store(next)
				f.delivered.Add(uint64(taken))
				f.wait = 0
				if due == nil {
					due = f.cfg.After(saveEvery)
				}
			}
			if err != nil && ctx.Err() == nil {
				if err := save(ctx); err != nil {
					return err
				}
				due = nil
				f.failed(ctx, err)
			}
			continue
		}
		var poll <-chan time.Time
		if f.cfg.Poll > 0 {
			poll = f.cfg.After(f.cfg.Poll)
		}
		select {
		case <-due:
			if err := save(ctx); err != nil {
				return err
			}
			due = nil
		case <-grows:
		case <-poll:
			if _, err := f.cfg.Log.Latest(ctx); err != nil && ctx.Err() == nil {
				f.failed(ctx, err)
			}
		case <-ctx.Done():
		}
	}
}

// deliver delivers a batch of [next, size).
func (f *Follower) deliver(ctx context.Context, next, size uint64) (int, error) {
	var batch []Event
	for bytes := 0; next < size && len(batch) < maxBatch && bytes < maxBatchBytes; {
		entries, err := f.cfg.Log.Range(ctx, next, min(size, next+maxRead))
		if err != nil && len(batch) > 0 {
			break // which says so again, once what was read is delivered
		}
		if err != nil {
			return 0, err
		}
		for _, e := range entries {
			event, err := f.cfg.Format.encode(e)
			if err != nil {
				return 0, err
			}
			batch = append(batch, event)
			bytes += len(event)
		}
		next += uint64(len(entries))
	}
	return f.cfg.Sink.Deliver(ctx, batch)
}
