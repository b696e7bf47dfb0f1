package bench

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/sigstack/sigstack/test/harness"
)

// TestVersusRekor measures sigstack and the public implementation, which is
// rekor-server with a log server and a log signer of Trillian.
//
//	scripts/bench-vs-rekor
func TestVersusRekor(t *testing.T) {
	bin, length := versusSettings(t, "bench-vs-rekor")
	db := harness.StartMariaDB(t)
	_, own := sigstackWith(t, harness.Options{DSN: db.NewDatabase(t)})
	ours := entriesAndReads(t, db, own, length)
	theirs := entriesAndReads(t, db, rekorOver(t, db, bin), length)
	beside(t, length, column{"rekor-server", theirs}, column{"sigstack", ours})
}

// rekorOver starts the public implementation.
func rekorOver(t *testing.T, db *harness.MariaDB, bin string) stack {
	p := harness.NewPrograms(t, bin)
	return stack{addr: p.Rekor(db.NewDatabase(t)), cpu: p.CPU, stop: p.Stop}
}

// entriesAndReads measures a stack with a Rekor v1 API, and stops it.
func entriesAndReads(t *testing.T, db *harness.MariaDB, s stack, length time.Duration) []figure {
	defer s.stop()
	key := newSigner(t)
	artifacts := 0
	entries := func(n int) [][]byte {
		out := make([][]byte, n)
		for i := range out {
			artifacts++
			out[i] = key.entry(t, s.addr, fmt.Append(nil, artifacts))
		}
		return out
	}
	var all []figure
	for _, c := range []struct {
		what    string
		clients int
	}{{"entries, 1 client", 1}, {"entries, 64 clients", 64}, {"entries, 256 clients", 256}} {
		all = append(all, s.measure(t, db, c.what, c.clients, http.StatusCreated, entries, length))
	}
	reads := func(of int) func(n int) [][]byte {
		return func(n int) [][]byte {
			out := make([][]byte, n)
			for i := range out {
				out[i] = request(s.addr, "GET", fmt.Sprintf("/api/v1/log/entries?logIndex=%d", i*7919%of), nil)
			}
			return out
		}
	}
	all = append(all, s.measure(t, db, "reads by index of 1,000 entries, 64 clients", 64, http.StatusOK, reads(1000), length))
	half := artifacts / 2 // are there in any case: some uploads may have been refused
	return append(all, s.measure(t, db, "reads by index of half of the log, 64 clients", 64, http.StatusOK, reads(half), length))
}
