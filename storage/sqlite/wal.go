package sqlite

import (
	"database/sql"
	"errors"
	"sync/atomic"
)

// walBytes is about how much is written to the write-ahead log before it is
// copied into the database: pages that every batch changes (the head, the last
// tile) are then copied once for many batches.
const walBytes = 16 << 20

const (
	// maxRest is how many pages of the write-ahead log may be left for the writer
	// to copy: what takes about as long as a commit.
	maxRest = 512

	// maxPasses is how often the copier goes after what was written meanwhile.
	// Then the writer, which is as fast as it, copies what is left, and waits for
	// that.
	maxPasses = 4
)

// A walCopier copies the write-ahead log of a database into the database
// (sqlite.org/wal.html calls that a checkpoint) beside the connection that writes.
// SQLite would do it inside of a commit, for which everybody would wait: tens of
// milliseconds, several times a second under load.
//
// What was committed is safe in the write-ahead log, so nothing depends on when it
// is copied. But the log can only begin anew, instead of growing, when all of it
// has been copied and nobody writes. So the copier does most of the work, and the
// writer, between two of its transactions, the rest.
type walCopier struct {
	copier *sql.DB       // one connection; belongs to run
	due    chan struct{} // holds a value when there is enough to copy
	done   chan struct{} // closed when run has ended
	nearly atomic.Bool   // all is copied but for a rest

	written int64 // since due was sent last; belongs to the writer
}

func newWALCopier(path string) (*walCopier, error) {
	db, err := connect(path, 1, "_pragma=synchronous(FULL)")
	if err != nil {
		return nil, err
	}
	w := &walCopier{copier: db, due: make(chan struct{}, 1), done: make(chan struct{})}
	go w.run()
	return w, nil
}

// run copies whenever enough was written, until due is closed. A failure is not an error
// of anybody's: everything stays in the write-ahead log, and the next time comes.
func (w *walCopier) run() {
	defer close(w.done)
	for range w.due {
		before := 0
		for pass := 1; ; pass++ {
			pages, copied, err := copyWAL(w.copier)
			if err != nil || copied < pages { // a reader holds on to what is older
				break
			}
			if copied-before <= maxRest || pass == maxPasses {
				w.nearly.Store(true)
				break
			}
			before = copied
		}
	}
}

var errCopying = errors.New("somebody else copies the write-ahead log")

// copyWAL copies what no reader holds on to. It returns how many pages the log has, and
// how many of them are copied.
func copyWAL(db *sql.DB) (pages, copied int, err error) {
	var busy bool
	err = db.QueryRow("PRAGMA wal_checkpoint(PASSIVE)").Scan(&busy, &pages, &copied)
	if err == nil && busy {
		err = errCopying
	}
	return pages, copied, err
}

// wrote is called by the writer after each commit, with about as many bytes as it wrote.
func (w *walCopier) wrote(db *sql.DB, n int64) {
	if w.nearly.Swap(false) {
		_, _, _ = copyWAL(db) // as in run
	}
	if w.written += n; w.written >= walBytes {
		w.written = 0
		select {
		case w.due <- struct{}{}:
		default: // it is at it
		}
	}
}

// close ends the copying. The writer is at rest by then.
func (w *walCopier) close() error {
	close(w.due)
	<-w.done
	return w.copier.Close()
}
