// Package fsck re-derives a log and says what is wrong with it. It is the
// checker that anybody can run against anybody's log: it knows the wire formats
// and nothing of the code that writes them.
//
// It looks at a log from three sides:
//
//   - [CheckRekor], at a Rekor v1 log, from what it serves over HTTP;
//   - [CheckCT], at a CT log (RFC 6962), from what it serves over HTTP;
//   - [CheckDir], at the logs of a data directory, from their files.
//
// [CheckAudit] looks at the audit log of a CA beside its CT log, in a data directory
// or in a database.
//
// Each reads every entry, hashes it, folds the hashes into a root (RFC 6962,
// section 2.1) and compares that with what was signed; it verifies each
// signature, each stored tile, each proof that comes with an entry, and that
// each entry is well-formed. Given checkpoints or tree heads from earlier, it
// shows that the log has only grown since.
//
// # Findings and errors
//
// A [Finding] is something that is wrong with the log: it names the object and
// says what is wrong with it. An error means that the check could not be
// carried out: the server did not answer, a file could not be opened, the
// context ended. A report without findings that came with an error says nothing.
//
// # Cost
//
// Time grows linearly with the log. Memory does not grow with it, but for
// CheckAudit, which keeps what it has seen of each certificate: entries
// stream through, and of the tree only the right edge is kept. Two things are
// sought only after something else was found wrong: which entries a wrong root
// is due to, and which entries of a range that the server refuses it refuses.
//
// # Known holes
//
// Only the active shard of a Rekor log is read; older ones are a finding. A log
// that is checked over HTTP can show two faces to two clients: compare the
// checkpoints that they saw, with Options.Older. That the search keys of an
// entry are the right ones is shown by rebuilding the index, not here; here
// they lead to entries that exist.
package fsck

import (
	"context"
	"crypto"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
)

// Options say what to check over HTTP.
type Options struct {
	URL        string       // of the log, without the path of its API
	HTTPClient *http.Client // nil: one with a timeout of a minute for each request

	// PublicKey is the key that the log should have: ECDSA P-256. Without it
	// CheckRekor trusts the key that the log shows, and reports it; CheckCT
	// needs it.
	PublicKey crypto.PublicKey

	// Others are further keys that trees of a Rekor log may have: those of trees that
	// are frozen, or of the next.
	Others []crypto.PublicKey

	// Older are states that the log has signed before: checkpoints (signed
	// notes) for CheckRekor, answers of get-sth (JSON) for CheckCT.
	Older [][]byte

	// Workers is how many requests are under way at a time; 0 means 4.
	Workers int
}

// A Report says what was checked and what was found.
type Report struct {
	Logs []*LogReport
}

// OK says whether nothing was found.
func (r Report) OK() bool {
	for _, l := range r.Logs {
		if len(l.Findings) > 0 {
			return false
		}
	}
	return true
}

// A LogReport is the report about one log.
type LogReport struct {
	Log    string // its URL, or its directory
	Kind   string // "rekor", "ct", or "empty" for a directory without entries
	Origin string // the first line of its checkpoints; "" for CT over HTTP
	Size   uint64
	Root   [32]byte // as signed, or as its database says
	KeyID  string   // hexadecimal SHA-256 of the SubjectPublicKeyInfo; "" where no key was given

	Counts   Counts
	Findings []Finding
	Omitted  int // findings beyond the first maxFindings; a log that has these and lacks entries is not read to its end
}

// Counts says how much was looked at.
type Counts struct {
	Entries      uint64
	Signatures   uint64 // verified
	Proofs       uint64 // of inclusion and consistency, verified
	Checkpoints  uint64 // and tree heads
	Tiles        uint64
	SearchKeys   uint64
	Attestations uint64 // over HTTP once for each entry
}

// A Finding is one thing that is wrong.
type Finding struct {
	Object  string // "entry 17", "tile 0/3", "checkpoint", ...
	Problem string
}

func (f Finding) String() string { return f.Object + ": " + f.Problem }

// maxFindings bounds a report: a log of another key has one for every entry.
const maxFindings = 1000

// errFull ends a check of a log that says that it has entries, and does not
// have them: it may say that it has 2^63.
var errFull = errors.New("the report is full")

// full returns errFull where it makes no sense to go on.
func (r *LogReport) full(missing bool) error {
	if missing && r.Omitted > 0 {
		return errFull
	}
	return nil
}

func (r *LogReport) find(object, format string, args ...any) {
	r.take(Finding{object, fmt.Sprintf(format, args...)})
}

func (r *LogReport) take(findings ...Finding) {
	for _, f := range findings {
		if len(r.Findings) == maxFindings {
			r.Omitted++
			continue
		}
		r.Findings = append(r.Findings, f)
	}
}

// Write writes the report for a person to read.
func (r Report) Write(w io.Writer) error {
	var err error
	line := func(format string, args ...any) {
		if err == nil {
			_, err = fmt.Fprintf(w, format+"\n", args...)
		}
	}
	for _, l := range r.Logs {
		line("%s (%s)", l.Log, l.Kind)
		if l.Origin != "" {
			line("  origin  %s", l.Origin)
		}
		line("  size    %d", l.Size)
		line("  root    %s", hex.EncodeToString(l.Root[:]))
		if l.KeyID != "" {
			line("  key     %s", l.KeyID)
		}
		c := l.Counts
		line("  checked %d entries, %d signatures, %d proofs, %d checkpoints, %d tiles, %d search keys, %d attestations",
			c.Entries, c.Signatures, c.Proofs, c.Checkpoints, c.Tiles, c.SearchKeys, c.Attestations)
		for _, f := range l.Findings {
			line("  WRONG   %s", f)
		}
		if l.Omitted > 0 {
			line("  WRONG   %d more", l.Omitted)
		}
		if len(l.Findings) == 0 {
			line("  OK")
		}
	}
	return err
}

// ordered calls fetch for 0 to n-1, several at a time, and use with each
// result in order. It stops at the first error, and returns when nothing that
// it started runs any more.
func ordered[T any](ctx context.Context, n uint64, workers int, fetch func(ctx context.Context, i uint64) (T, error), use func(i uint64, v T) error) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	type result struct {
		v   T
		err error
	}
	if workers <= 0 {
		workers = 4
	}
	// Its capacity bounds what is under way: the producer waits for a place.
	queue := make(chan chan result, workers-1)
	wg.Go(func() {
		defer close(queue)
		for i := range n {
			c := make(chan result, 1)
			select {
			case queue <- c:
			case <-ctx.Done():
				return
			}
			wg.Go(func() {
				v, err := fetch(ctx, i)
				c <- result{v, err}
			})
		}
	})
	i := uint64(0)
	for c := range queue {
		r := <-c
		if r.err != nil {
			return r.err
		}
		if err := use(i, r.v); err != nil {
			return err
		}
		i++
	}
	return ctx.Err()
}
