// Package audittest is the conformance suite of audit logs: what package audit
// promises, whatever storage has the rows. Each storage runs it.
package audittest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/sigstack/sigstack/storage/audit"
)

// A Log is an audit log under test.
type Log interface {
	Add(ctx context.Context, row audit.Row) error
	AddAll(ctx context.Context, rows []audit.Row) error
	Note(row audit.Row)
	Records(ctx context.Context, f func(audit.Row) error) error
	Claims(ctx context.Context, f func(audit.Claim) error) error
	ImportClaims(ctx context.Context, claims []audit.Claim) error
	Ready(ctx context.Context) error
	Close() error
}

// Open opens the log that a test is about, in place n of it: another process over
// the same rows where the storage knows such, and the same one where it does not.
// What Open returned before may be closed.
type Open func(n int) Log

// now is what rows are written at.
func now() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 678, time.UTC) }

// Run runs the suite. New makes a log that is empty.
func Run(t *testing.T, empty func(t *testing.T) Open) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, Open)
	}{
		{"Steps", steps}, {"Chain", chain}, {"Concurrent", concurrent}, {"Note", note}, {"Bounds", bounds},
		{"Claims", claims}, {"ClaimRace", claimRace}, {"Forget", forget}, {"Import", imported}, {"Closed", closed},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, empty(t)) })
	}
}

// Row returns a row of a kind.
func Row(kind audit.Kind, serial string) audit.Row {
	return audit.Row{At: now(), Kind: kind, Serial: serial, Record: fmt.Appendf(nil, `{"serial":%q,"kind":%q}`, serial, kind)}
}

// Rows returns all rows, and fails unless they are a chain.
func Rows(t *testing.T, log Log) []audit.Row {
	t.Helper()
	var rows []audit.Row
	var head audit.Hash
	if err := log.Records(t.Context(), func(r audit.Row) error {
		if head = r.Chain(head); r.Hash != head {
			t.Errorf("row %d (%s %s) has hash %x, want %x", len(rows), r.Kind, r.Serial, r.Hash, head)
		}
		rows = append(rows, r)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return rows
}

// steps adds rows in every order.
func steps(t *testing.T, open Open) {
	log := open(0)
	for _, c := range []struct {
		kind   audit.Kind
		serial string
		want   error
	}{
		{audit.Issued, "01", audit.ErrNotIntended},
		{audit.Failed, "01", audit.ErrNotIntended},
		{audit.Intended, "01", nil},
		{audit.Intended, "01", audit.ErrSerial},
		{audit.Issued, "01", nil},
		{audit.Issued, "01", audit.ErrSerial},
		{audit.Failed, "01", audit.ErrSerial},
		{audit.Intended, "01", audit.ErrSerial},
		{audit.Intended, "02", nil},
		{audit.Failed, "02", nil},
		{audit.Issued, "02", audit.ErrSerial},
		{audit.Recorded, "02", audit.ErrSerial},
		{audit.Recorded, "03", nil},
		{audit.Issued, "03", audit.ErrNotIntended},
		{audit.Intended, "03", audit.ErrSerial},
	} {
		if err := log.Add(t.Context(), Row(c.kind, c.serial)); !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%s %s: %v, want %v", c.kind, c.serial, err, c.want)
		}
		log = open(0) // it is kept
	}
	var got []string
	for _, r := range Rows(t, log) {
		got = append(got, string(r.Kind)+" "+r.Serial)
		if want := Row(r.Kind, r.Serial); !r.At.Equal(want.At) || !bytes.Equal(r.Record, want.Record) {
			t.Errorf("row %+v, want %+v", r, want)
		}
	}
	if want := "[intended 01 issued 01 intended 02 failed 02 recorded 03]"; fmt.Sprint(got) != want {
		t.Errorf("rows %v, want %v", got, want)
	}
}

// chain holds the hashes against bytes that are put together here.
func chain(t *testing.T, open Open) {
	log := open(0)
	for _, r := range []audit.Row{Row(audit.Intended, "aa"), Row(audit.Intended, "bb"), Row(audit.Issued, "aa")} {
		if err := log.Add(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	rows := Rows(t, log)
	if len(rows) != 3 {
		t.Fatalf("%d rows", len(rows))
	}
	stop := errors.New("enough")
	if err := log.Records(t.Context(), func(audit.Row) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("%v, want the callback's error", err)
	}
	if err := log.Ready(t.Context()); err != nil {
		t.Error(err)
	}
}

// concurrent adds many rows in two places: each answer is the row's own, and the
// chain is one.
func concurrent(t *testing.T, open Open) {
	const serials = 300
	logs := []Log{open(0), open(1)}
	var wg sync.WaitGroup
	var mu sync.Mutex
	intended, issued := map[string]int{}, map[string]int{}
	for n := range 2 * serials {
		wg.Go(func() {
			log, serial := logs[n/serials], fmt.Sprintf("%04x", n%serials) // each serial in each place
			if log.Add(t.Context(), Row(audit.Intended, serial)) == nil {
				mu.Lock()
				intended[serial]++
				mu.Unlock()
				if log.Add(t.Context(), Row(audit.Issued, serial)) == nil {
					mu.Lock()
					issued[serial]++
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	for n := range serials {
		if serial := fmt.Sprintf("%04x", n); intended[serial] != 1 || issued[serial] != 1 {
			t.Errorf("serial %s was intended %d times and issued %d times", serial, intended[serial], issued[serial])
		}
	}
	if rows := Rows(t, logs[1]); len(rows) != 2*serials {
		t.Errorf("%d rows, want %d", len(rows), 2*serials)
	}
}

// note adds rows that nobody waits for.
func note(t *testing.T, open Open) {
	log := open(0)
	log.Note(Row(audit.Failed, "01")) // nobody intended it
	if err := log.Add(t.Context(), Row(audit.Intended, "01")); err != nil {
		t.Fatal(err)
	}
	log.Note(Row(audit.Failed, "01"))
	// Rows are written in their order.
	if err := log.Add(t.Context(), Row(audit.Intended, "02")); err != nil {
		t.Fatal(err)
	}
	if rows := Rows(t, log); len(rows) != 3 || rows[1].Kind != audit.Failed {
		t.Errorf("%d rows: %+v", len(rows), rows)
	}
}

// bounds adds a row that is too large, and rows whose context has ended.
func bounds(t *testing.T, open Open) {
	log := open(0)
	large := Row(audit.Intended, "01")
	large.Record = make([]byte, audit.MaxRecord+1)
	if err := log.Add(t.Context(), large); err == nil {
		t.Error("a record that is too large is taken")
	}
	log.Note(large)
	large.Record = bytes.Repeat([]byte("x"), audit.MaxRecord)
	if err := log.Add(t.Context(), large); err != nil {
		t.Errorf("the largest record: %v", err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := log.Add(cancelled, Row(audit.Intended, "02")); !errors.Is(err, context.Canceled) {
		t.Errorf("a context that has ended: %v", err)
	}
	if rows := Rows(t, log); len(rows) != 1 {
		t.Errorf("%d rows", len(rows))
	}
}

func claim(token, key byte, expiry time.Time) *audit.Claim {
	return &audit.Claim{Token: [32]byte{token}, Key: [32]byte{key}, Expiry: expiry.Unix()}
}

func claiming(serial string, c *audit.Claim) audit.Row {
	row := Row(audit.Intended, serial)
	row.Claim = c
	return row
}

// allClaims returns all claims, by token and key.
func allClaims(t *testing.T, log Log) string {
	t.Helper()
	var all []string
	if err := log.Claims(t.Context(), func(c audit.Claim) error {
		all = append(all, fmt.Sprintf("%d:%d", c.Token[0], c.Key[0]))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(all)
}

// claims uses a token for the same key again, and for another one.
func claims(t *testing.T, open Open) {
	later := now().Add(time.Minute)
	log := open(0)
	for _, c := range []struct {
		serial     string
		token, key byte
		want       error
	}{
		{"01", 1, 1, nil},
		{"02", 1, 1, nil}, // a client's retry
		{"03", 1, 2, audit.ErrTokenUsed},
		{"01", 2, 2, audit.ErrSerial}, // the token stays unused
		{"04", 2, 3, nil},
		{"05", 2, 2, audit.ErrTokenUsed},
	} {
		if err := log.Add(t.Context(), claiming(c.serial, claim(c.token, c.key, later))); !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("token %d with key %d: %v, want %v", c.token, c.key, err, c.want)
		}
		log = open(0)
	}
	if rows := Rows(t, log); len(rows) != 3 {
		t.Errorf("%d rows, want 3", len(rows))
	}
	if got := allClaims(t, log); got != "[1:1 2:3]" {
		t.Errorf("claims %s", got)
	}
	// Both in one batch.
	both := []audit.Row{claiming("06", claim(9, 1, later)), claiming("07", claim(9, 2, later))}
	if err := log.AddAll(t.Context(), both); !errors.Is(err, audit.ErrTokenUsed) {
		t.Errorf("a token for two keys in one batch: %v", err)
	}
	if rows := Rows(t, log); len(rows) != 4 {
		t.Errorf("%d rows, want 4", len(rows))
	}
}

// claimRace uses one token for many keys at once, in two places: for one key it is
// granted, and for that one always.
func claimRace(t *testing.T, open Open) {
	logs := []Log{open(0), open(1)}
	const keys, tries = 20, 4
	var wg sync.WaitGroup
	var mu sync.Mutex
	granted := map[int]int{}
	for n := range keys * tries {
		wg.Go(func() {
			key := n % keys
			row := claiming(fmt.Sprintf("%04x", n), claim(1, byte(key), now().Add(time.Minute)))
			switch err := logs[n/keys%2].Add(t.Context(), row); {
			case err == nil:
				mu.Lock()
				granted[key]++
				mu.Unlock()
			case !errors.Is(err, audit.ErrTokenUsed):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if len(granted) != 1 {
		t.Errorf("the token was good for %d keys", len(granted))
	}
	for key, n := range granted {
		if n != tries {
			t.Errorf("key %d was granted %d of %d times", key, n, tries)
		}
		if got := allClaims(t, logs[1]); got != fmt.Sprintf("[1:%d]", key) {
			t.Errorf("claims %s, want key %d", got, key)
		}
	}
}

// forget has claims expire: an hour after their tokens they are removed with the
// next claim.
func forget(t *testing.T, open Open) {
	log := open(0)
	old := now().Add(-time.Hour - 2*time.Second)
	for n, expiry := range []time.Time{old, now().Add(-time.Hour + 2*time.Second), now()} {
		row := claiming(fmt.Sprint(n), claim(byte(n), 7, expiry))
		row.At = old
		if err := log.Add(t.Context(), row); err != nil {
			t.Fatal(err)
		}
	}
	if got := allClaims(t, log); got != "[0:7 1:7 2:7]" {
		t.Errorf("claims %s before they expire", got)
	}
	if err := log.Add(t.Context(), claiming("3", claim(3, 7, now()))); err != nil {
		t.Fatal(err)
	}
	if got := allClaims(t, log); got != "[1:7 2:7 3:7]" {
		t.Errorf("claims %s after one has expired", got)
	}
}

// imported adds claims of another storage.
func imported(t *testing.T, open Open) {
	log := open(0)
	if err := log.Add(t.Context(), claiming("01", claim(2, 1, now()))); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(log.ImportClaims(t.Context(), nil),
		log.ImportClaims(t.Context(), []audit.Claim{*claim(3, 3, now()), *claim(2, 9, now()), *claim(1, 1, now())})); err != nil {
		t.Fatal(err)
	}
	if got := allClaims(t, log); got != "[1:1 2:1 3:3]" {
		t.Errorf("claims %s", got)
	}
	stop := errors.New("enough")
	if err := log.Claims(t.Context(), func(audit.Claim) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("%v, want the callback's error", err)
	}
	if err := log.Add(t.Context(), claiming("02", claim(3, 4, now()))); !errors.Is(err, audit.ErrTokenUsed) {
		t.Errorf("a token that was claimed elsewhere: %v", err)
	}
}

// closed asks for rows when nobody writes them.
func closed(t *testing.T, open Open) {
	log := open(0)
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	if err := log.Add(t.Context(), Row(audit.Intended, "01")); err == nil {
		t.Error("a closed audit log takes rows")
	}
	log.Note(Row(audit.Intended, "02"))
	if rows := Rows(t, open(0)); len(rows) != 0 {
		t.Errorf("%d rows", len(rows))
	}
}
