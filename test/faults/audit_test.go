package faults

import (
	"database/sql"
	"fmt"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sigstack/sigstack/storage/audit"
	"github.com/sigstack/sigstack/test/harness"
	"github.com/sigstack/sigstack/tlog/failpoint"
)

// TestKilledBetweenRows kills the server when a certificate is intended and before
// anything says what came of it: that is no finding, and its serial stays taken.
func TestKilledBetweenRows(t *testing.T) { overEach(t, killedBetweenRows) }

func killedBetweenRows(t *testing.T, s storage) {
	b := newBench(t, s, t.TempDir(), 1, harness.Options{Faulty: true})
	b.Restart()
	b.leaks.Keys(t, b.Dir)
	b.load.Certificates(3)
	b.Stop()
	for n, spec := range []string{
		failpoint.AuditCommitted + "=kill",                                  // it is intended, and nothing is signed
		failpoint.Append + ":ct=kill@1", failpoint.Published + ":ct=kill@2", // the precertificate is signed; it is logged
		failpoint.AuditCommit + "=kill@2", // the certificate is signed
	} {
		b.SetFailpoints(spec)
		b.Restart()
		b.load.One(harness.KindCertificate)
		if code := b.Wait(20 * time.Second); code != -1 {
			t.Fatalf("%s: exit code %d, want that it was killed", spec, code)
		}
		r := b.AuditVerify() // before anybody has repaired anything
		if want := fmt.Sprintf("checked 3 certificates, 0 failures, %d intended and without outcome", n+1); r.Code != 0 || !strings.Contains(r.Stdout, want) {
			t.Errorf("%s: exit code %d, want %q in\n%s%s", spec, r.Code, want, r.Stdout, r.Stderr)
		}
		b.SetFailpoints("")
		b.Restart()
		b.verify()
		b.Stop()
	}
}

// openRows opens the audit log of a bench whose server does not run.
func openRows(t *testing.T, s storage, dir string) *sql.DB {
	t.Helper()
	driver, source := "sqlite", filepath.Join(dir, "data", "audit.db")
	if s == mysql {
		driver, source = "mysql", dsn(t, dir)
	}
	db, err := sql.Open(driver, source)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// tables are the audit log's rows and head, and the schema's version.
var tables = map[storage][2]string{sqlite: {"audit", "audit_head"}, mysql: {"sigstack_audit_row", "sigstack_audit_head"}}

// A doctor changes the rows of an audit log.
type doctor struct {
	name   string
	change func(rows []audit.Row) []audit.Row
	broken bool     // the hashes stay as they are; else the chain is made anew
	want   []string // of the findings
}

// with replaces text in the record of the first row of a kind behind another row.
func with(kind audit.Kind, behind int, from, to string) func([]audit.Row) []audit.Row {
	return func(rows []audit.Row) []audit.Row {
		i := behind + slices.IndexFunc(rows[behind:], func(r audit.Row) bool { return r.Kind == kind })
		text := regexp.MustCompile(from).ReplaceAllString(string(rows[i].Record), to)
		if text == string(rows[i].Record) {
			panic("nothing is changed by " + from)
		}
		rows[i].Record = []byte(text)
		return rows
	}
}

func without(f func(i int, r audit.Row) bool) func([]audit.Row) []audit.Row {
	return func(rows []audit.Row) []audit.Row {
		var kept []audit.Row
		for i, r := range rows {
			if !f(i, r) {
				kept = append(kept, r)
			}
		}
		return kept
	}
}

// doctors are one for each finding. Row 1 intends the first certificate, row 2 says
// that it was issued.
func doctors() []doctor {
	const zeros = "0000000000000000000000000000000000000000000000000000000000000000"
	both := func(fs ...func([]audit.Row) []audit.Row) func([]audit.Row) []audit.Row {
		return func(rows []audit.Row) []audit.Row {
			for _, f := range fs {
				rows = f(rows)
			}
			return rows
		}
	}
	more := func(kind audit.Kind, of int) func([]audit.Row) []audit.Row {
		return func(rows []audit.Row) []audit.Row {
			r := rows[of]
			r.Kind = kind
			return append(rows, r)
		}
	}
	return []doctor{
		{"nothing", func(rows []audit.Row) []audit.Row { return rows }, false, nil},
		{"a record that changed", with(audit.Intended, 0, `"subject":"`, `"subject":"x`), true, []string{"row 1 (intended, serial ", "it, or one before it, was changed"}},
		{"a time that changed", func(rows []audit.Row) []audit.Row { rows[1].At = rows[1].At.Add(1); return rows }, true, []string{"row 2 (issued, serial ", "was changed"}},
		{"a row that is missing", without(func(i int, _ audit.Row) bool { return i == 2 }), true, []string{"row 4 (", "it follows row 2"}},
		{"rows that changed places", func(rows []audit.Row) []audit.Row { rows[0], rows[2] = rows[2], rows[0]; return rows }, true, []string{"row 1 (", "was changed"}},
		{"an end that was cut off", without(func(i int, r audit.Row) bool { return r.Kind == audit.Failed }), false, []string{"head: ", "which was noted earlier, is not in the chain"}},
		{"issued and not intended", without(func(i int, _ audit.Row) bool { return i == 0 }), false, []string{"row 1 (issued, serial ", "no row before it intends its serial number"}},
		{"signed and not intended", without(func(i int, _ audit.Row) bool { return i < 2 }), false, []string{"CT entry 0: its precertificate was signed by our chain, and no row intends serial "}},
		{"intended after it was issued", func(rows []audit.Row) []audit.Row { rows[0], rows[1] = rows[1], rows[0]; return rows }, false, []string{"row 1 (issued, serial ", "no row before it intends"}},
		{"issued to another name", with(audit.Issued, 0, `"san":"`, `"san":"x`), false, []string{"row 2 (issued, serial ", "its name, key or validity is not the one that row 1 intended"}},
		{"issued for another time", with(audit.Issued, 0, `"not_after":"20`, `"not_after":"21`), false, []string{"row 2 (issued, serial ", "validity is not"}},
		{"issued for another key", with(audit.Issued, 0, `"public_key_sha256":"[0-9a-f]+"`, `"public_key_sha256":"`+zeros+`"`), false, []string{"row 2 (issued, serial ", "key or validity is not"}},
		{"intended and issued for another key", both(with(audit.Intended, 0, `"public_key_sha256":"[0-9a-f]+"`, `"public_key_sha256":"`+zeros+`"`), with(audit.Issued, 0, `"public_key_sha256":"[0-9a-f]+"`, `"public_key_sha256":"`+zeros+`"`)),
			false, []string{"row 1 (intended, serial ", "which is to be its precertificate, has serial ", "CT entry 0: its precertificate has key "}},
		{"another precertificate", with(audit.Issued, 0, `"precert_leaf_hash":"[0-9a-f]+"`, `"precert_leaf_hash":"`+zeros+`"`), false, []string{"row 1 (intended, serial ", "with leaf hash " + zeros + ", is not in the CT log"}},
		{"issued and failed", more(audit.Failed, 1), false, []string{"(failed, serial ", "another row says already what came of its serial number, which row 1 intended"}},
		{"a serial that is given twice", more(audit.Recorded, 1), false, []string{"(recorded, serial ", "its serial number is that of row 1"}},
		{"a row of version 1 behind others", both(more(audit.Recorded, 1), without(func(i int, _ audit.Row) bool { return i < 2 })), false, []string{"(recorded, serial ", "a row of version 1 stands behind rows of version 2"}},
		{"a migration in between", func(rows []audit.Row) []audit.Row {
			return append(rows, audit.Row{At: rows[0].At, Kind: audit.Migrated, Record: []byte("{}")})
		}, false, []string{"(migrated, serial ", "the schema was brought to version 2 once"}},
		{"a record of another serial", with(audit.Intended, 0, `"serial":"`, `"serial":"00`), false, []string{"row 1 (intended, serial ", `its record speaks of serial "00`}},
		{"no JSON", with(audit.Intended, 0, `^\{`, `[`), false, []string{"row 1 (intended, serial ", "its record is not that of an audit row"}},
		{"a kind that is none", func(rows []audit.Row) []audit.Row { rows[0].Kind = "wished"; return rows }, false, []string{"row 1 (wished, serial ", "its kind is not one of an audit row"}},
		{"a token for two keys", both(
			with(audit.Intended, 0, `"token_sha256":"[0-9a-f]+"`, `"token_sha256":"`+zeros+`","one_time":true`),
			with(audit.Intended, 1, `"token_sha256":"[0-9a-f]+"`, `"token_sha256":"`+zeros+`","one_time":true`),
		), false, []string{"row 3 (intended, serial ", "its token is good for one key, and was used for another one"}},
	}
}

// TestAuditVerify doctors an audit log in every way that "sigstack audit verify" is
// to notice.
func TestAuditVerify(t *testing.T) { overEach(t, auditVerify) }

func auditVerify(t *testing.T, s storage) {
	root := t.TempDir()
	b := newBench(t, s, root, 1, harness.Options{Failpoints: failpoint.Append + ":ct=error@4", Args: []string{"--config", harness.Config(t, "ca: {key-type: p256}\n")}})
	b.allow = []int{http.StatusServiceUnavailable}
	b.Restart()
	b.leaks.Keys(t, b.Dir)
	for range 3 { // one after the other, so that each is a batch
		b.load.Certificates(1)
	}
	if r := b.load.One(harness.KindCertificate); r.Status != http.StatusServiceUnavailable {
		t.Fatalf("the fourth certificate is answered with %d", r.Status)
	}
	b.load.Entries(1)
	b.verify()
	live := b.AuditVerify() // while the server runs
	b.Stop()
	head := regexp.MustCompile(`(?m)^head    ([0-9a-f]{64})$`).FindStringSubmatch(live.Stdout)
	if head == nil || !strings.Contains(live.Stdout, "rows    8\n") || !strings.Contains(live.Stdout, "3 certificates, 1 failures, 0 intended") {
		t.Fatalf("%s%s", live.Stdout, live.Stderr)
	}
	for _, d := range doctors() {
		dir := filepath.Join(memoryDir(t), "copy")
		copyBench(t, s, root, dir)
		d.apply(t, s, openRows(t, s, dir))
		copied := newBench(t, s, dir, 1, harness.Options{})
		r := copied.AuditVerify("--head", head[1])
		if r.Code != min(1, len(d.want)) {
			t.Errorf("%s: exit code %d\n%s%s", d.name, r.Code, r.Stdout, r.Stderr)
		}
		for _, want := range d.want {
			if !strings.Contains(r.Stdout, want) {
				t.Errorf("%s: want %q in\n%s", d.name, want, r.Stdout)
			}
		}
	}

	// A head that names something else.
	dir := filepath.Join(memoryDir(t), "copy")
	copyBench(t, s, root, dir)
	db := openRows(t, s, dir)
	if _, err := db.Exec("UPDATE " + tables[s][1] + " SET seq = seq + 1"); err != nil {
		t.Fatal(err)
	}
	copied := newBench(t, s, dir, 1, harness.Options{})
	if r := copied.AuditVerify(); r.Code != 1 || !strings.Contains(r.Stdout, "head: it names row 9 with hash "+head[1]+"; the last row is 8") {
		t.Errorf("a head of another row: exit code %d\n%s", r.Code, r.Stdout)
	}
	// What cannot be looked at is no finding.
	old := map[storage]string{sqlite: "PRAGMA user_version = 1", mysql: "DELETE FROM sigstack_schema WHERE version >= 2"}[s]
	if _, err := db.Exec(old); err != nil {
		t.Fatal(err)
	}
	if r := copied.AuditVerify(); r.Code != 2 || !strings.Contains(r.Stderr, "it has schema version 1, and this checker reads version "+map[storage]string{sqlite: "2", mysql: "3"}[s]) {
		t.Errorf("an older schema: exit code %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	if r := copied.AuditVerify("--head", "abc"); r.Code != 2 || !strings.Contains(r.Stderr, `"abc" is not a hash of 64 hexadecimal characters`) {
		t.Errorf("a head that is none: exit code %d\n%s", r.Code, r.Stderr)
	}
}

// apply changes the rows, and writes them again.
func (d doctor) apply(t *testing.T, s storage, db *sql.DB) {
	t.Helper()
	table := tables[s][0]
	found, err := db.Query("SELECT seq, time, kind, serial, record, hash FROM " + table + " ORDER BY seq")
	if err != nil {
		t.Fatal(err)
	}
	defer found.Close()
	var rows []audit.Row
	seqs := map[string]int64{}
	for found.Next() {
		var r audit.Row
		var seq, nanos int64
		var hash []byte
		if err := found.Scan(&seq, &nanos, &r.Kind, &r.Serial, &r.Record, &hash); err != nil {
			t.Fatal(err)
		}
		r.At, r.Hash = time.Unix(0, nanos), audit.Hash(hash)
		seqs[string(hash)] = seq
		rows = append(rows, r)
	}
	if err := found.Err(); err != nil {
		t.Fatal(err)
	}
	found.Close()
	count := len(rows)
	rows = d.change(rows)
	tx, err := db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	exec := func(text string, args ...any) {
		if _, err := tx.Exec(text, args...); err != nil {
			t.Fatalf("%s: %v", d.name, err)
		}
	}
	exec("DELETE FROM " + table)
	var head audit.Hash
	last := int64(0)
	for _, r := range rows {
		last++
		if d.broken {
			if head = r.Hash; len(rows) < count {
				last = seqs[string(head[:])]
			}
		} else {
			head = r.Chain(head)
		}
		exec("INSERT INTO "+table+" (seq, time, kind, serial, record, hash) VALUES (?, ?, ?, ?, ?, ?)", last, r.At.UnixNano(), string(r.Kind), r.Serial, string(r.Record), head[:])
	}
	exec("UPDATE "+tables[s][1]+" SET seq = ?, hash = ?", last, head[:])
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
}
