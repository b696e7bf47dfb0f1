package harness

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// loaded is a server that has taken some load, and what was kept of that.
func loaded(t *testing.T) *Evidence {
	t.Helper()
	leaks := NewLeaks()
	s := StartWith(t, Options{Leaks: leaks})
	leaks.Keys(t, s.Dir)
	baseline, err := s.Figures()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	ledger := NewLedger(t, filepath.Join(dir, "ledger"))
	recorder := NewRecorder(t, s, filepath.Join(dir, "trees"))
	load := NewLoad(t, s, ledger, recorder, 1)
	recorder.Start()
	load.Entries(300)
	load.Certificates(5)
	load.Mix = Mix{Duplicates: 20, Invalid: 20, Certificates: 10, Searches: 20}
	load.Start(8)
	s.Poll(time.Minute, "500 requests are answered", func() bool { return ledger.Len() >= 500 })
	load.Stop()
	recorder.Poll(t.Context())
	recorder.Stop()

	// What is in the files is what is in memory.
	again := NewLedger(t, filepath.Join(dir, "ledger"))
	if again.Len() != ledger.Len() || again.Len() < 500 {
		t.Fatalf("the ledger's file has %d records, want %d", again.Len(), ledger.Len())
	}
	trees := NewRecorder(t, s, filepath.Join(dir, "trees")).Trees(0)
	if len(trees) != len(recorder.Trees(0)) {
		t.Fatalf("the recorder's file has %d trees, want %d", len(trees), len(recorder.Trees(0)))
	}
	return &Evidence{Server: s, Records: again.Records(0), Trees: trees, Baseline: &baseline}
}

// TestCheck shows that each invariant can fail: evidence that is doctored in one
// place leads to a violation of the invariant that it is about.
func TestCheck(t *testing.T) {
	t.Parallel()
	whole := loaded(t)
	whole.Verify(t)
	if found := whole.CheckSince(t.Context(), 10, 1); len(found) > 0 {
		t.Errorf("the cheap part: %v", found)
	}
	if t.Failed() {
		return
	}
	counts := map[string]int{}
	for _, r := range whole.Records {
		counts[r.Kind]++
	}
	t.Logf("%v, %d trees", counts, len(whole.Trees))

	first := func(e *Evidence, f func(Record) bool) *Record {
		t.Helper()
		for i := range e.Records {
			if f(e.Records[i]) {
				return &e.Records[i]
			}
		}
		t.Fatal("no record to doctor")
		return nil
	}
	entry := func(e *Evidence) *Record {
		r := first(e, func(r Record) bool { return r.Answer != nil })
		a := *r.Answer
		r.Answer = &a
		return r
	}
	certificate := func(e *Evidence) *Record {
		return first(e, func(r Record) bool { return r.Kind == KindCertificate && r.Status == 200 })
	}
	tree := func(e *Evidence, log string, n int) *SeenTree {
		t.Helper()
		for i := range e.Trees {
			if s := &e.Trees[i]; s.Log == log && s.Size > 0 {
				if n--; n < 0 {
					return s
				}
			}
		}
		t.Fatal("no tree to doctor")
		return nil
	}
	flip := func(b []byte) []byte {
		b = bytes.Clone(b)
		b[len(b)/2] ^= 1
		return b
	}
	for _, tt := range []struct {
		name, want string
		doctor     func(e *Evidence)
	}{
		{"an acknowledged entry is lost", "I1", func(e *Evidence) {
			// It is another log's: its leaf is not in this one.
			r := entry(e)
			r.Body = flip(r.Body)
			r.Leaf = flip(r.Leaf)
			r.UUID = r.UUID[:16] + strings.Repeat("0", 64)
			r.Leaf = make([]byte, 32)
		}},
		{"an unknown status", "I1", func(e *Evidence) { entry(e).Status = 500 }},
		{"another index than the final one", "I2", func(e *Evidence) { entry(e).Answer.LogIndex++ }},
		{"one index for two entries", "I2", func(e *Evidence) {
			a := entry(e)
			b := first(e, func(r Record) bool { return r.Answer != nil && r.UUID != a.UUID })
			other := *b.Answer
			other.LogIndex = a.Answer.LogIndex
			b.Answer = &other
		}},
		{"an entry that nobody sent", "I2", func(e *Evidence) {
			r := entry(e)
			e.Records = slices.DeleteFunc(e.Records, func(o Record) bool { return bytes.Equal(o.Leaf, r.Leaf) })
		}},
		{"a tree with another root", "I3", func(e *Evidence) { s := tree(e, LogRekor, 2); s.Root = flip(s.Root) }},
		{"a tree head with another root", "I3", func(e *Evidence) { s := tree(e, LogCT, 1); s.Root = flip(s.Root) }},
		{"a tree that is larger than the log", "I3", func(e *Evidence) { tree(e, LogRekor, 3).Size += 1000 }},
		{"a size that goes back", "I3", func(e *Evidence) {
			s := *tree(e, LogRekor, 0)
			for _, o := range e.Trees {
				if o.Log == LogRekor && o.Size < s.Size {
					s = o
				}
			}
			s.Polled = true
			e.Trees = append(e.Trees, s)
		}},
		{"a poll that misses what was acknowledged", "I3", func(e *Evidence) {
			for i := range e.Trees {
				if e.Trees[i].Polled {
					e.Trees[i].Floor = e.Trees[i].Size + 1
				}
			}
		}},
		{"a checkpoint that is not signed", "I3", func(e *Evidence) {
			s := tree(e, LogRekor, 1)
			s.Note = strings.Replace(s.Note, "\n\n", "\nx\n\n", 1)
		}},
		{"an integrated time that is off", "I4", func(e *Evidence) { r := entry(e); r.Sent = r.Sent.Add(5 * time.Second); r.Received = r.Sent }},
		{"a tree head from the future", "I4", func(e *Evidence) { s := tree(e, LogCT, 1); s.Seen = s.Seen.Add(-time.Hour) }},
		{"a tree head that is old", "I4", func(e *Evidence) { s := tree(e, LogCT, 1); s.Since = s.Seen.Add(time.Hour) }},
		{"tree heads whose time goes back", "I4", func(e *Evidence) {
			s := *tree(e, LogCT, 0)
			s.Timestamp -= 10
			s.Polled = true
			e.Trees = append(e.Trees, s)
		}},
		{"a SET over something else", "I5", func(e *Evidence) { entry(e).Answer.IntegratedTime++ }},
		{"a SET that is broken", "I5", func(e *Evidence) {
			r := entry(e)
			r.Answer.Verification.SignedEntryTimestamp = flip(r.Answer.Verification.SignedEntryTimestamp)
		}},
		{"a proof of another size than its checkpoint", "I6", func(e *Evidence) { entry(e).Answer.Verification.InclusionProof.TreeSize++ }},
		{"a checkpoint of another answer", "I6", func(e *Evidence) {
			a := entry(e)
			b := first(e, func(r Record) bool {
				return r.Answer != nil && r.Answer.Verification.InclusionProof.TreeSize != a.Answer.Verification.InclusionProof.TreeSize
			})
			a.Answer.Verification.InclusionProof.Checkpoint = b.Answer.Verification.InclusionProof.Checkpoint
		}},
		{"a proof that does not verify", "I6", func(e *Evidence) {
			r := first(e, func(r Record) bool { return r.Answer != nil && len(r.Answer.Verification.InclusionProof.Hashes) > 1 })
			a := *r.Answer
			a.Verification.InclusionProof.Hashes = a.Verification.InclusionProof.Hashes[1:]
			r.Answer = &a
		}},
		{"a certificate with a flipped bit", "I7", func(e *Evidence) {
			r := certificate(e)
			r.Chain = slices.Clone(r.Chain)
			r.Chain[0] = flip(r.Chain[0])
		}},
		{"a certificate of a chain that the trust root does not have", "I7", func(e *Evidence) {
			r := certificate(e)
			r.Chain = slices.Clone(r.Chain)
			r.Chain[1] = flip(r.Chain[1])
		}},
		{"a certificate without its chain", "I7", func(e *Evidence) {
			r := certificate(e)
			r.Chain = r.Chain[:1]
		}},
		{"a certificate for somebody else", "I7", func(e *Evidence) { certificate(e).Email = "other@example.com" }},
		{"a certificate of another issuer", "I7", func(e *Evidence) { certificate(e).Issuer = "https://other.example" }},
		{"a serial that is given twice", "I7", func(e *Evidence) { e.Records = append(e.Records, *certificate(e)) }},
		{"a certificate that nobody asked for", "I7", func(e *Evidence) { certificate(e).PublicKey = strings.Repeat("0", 64) }},
		{"a refusal with an audit row", "I8", func(e *Evidence) {
			r := certificate(e)
			r.Status, r.Chain, e.Allow = 503, nil, []int{503}
		}},
		{"an error that holds certificates", "I8", func(e *Evidence) {
			r := certificate(e)
			e.Records = append(e.Records, Record{Kind: KindCertificate, Status: 503, PublicKey: strings.Repeat("0", 64), Chain: r.Chain})
			e.Allow = []int{503}
		}},
		{"a duplicate of another entry", "I9", func(e *Evidence) {
			r := first(e, func(r Record) bool { return r.Status == http.StatusConflict })
			r.UUID = first(e, func(o Record) bool { return o.UUID != "" && o.UUID != r.UUID }).UUID
		}},
		{"a duplicate that does not resolve", "I9", func(e *Evidence) {
			r := first(e, func(r Record) bool { return r.Status == http.StatusConflict })
			r.Leaf, r.UUID = make([]byte, 32), r.UUID[:16]+strings.Repeat("0", 64)
		}},
		{"an entry that is added twice", "I9", func(e *Evidence) { e.Records = append(e.Records, *entry(e)) }},
		{"an invalid entry that is there", "I9", func(e *Evidence) {
			first(e, func(r Record) bool { return r.Kind == KindInvalid && r.Leaf != nil }).Leaf = entry(e).Leaf
		}},
		{"an invalid entry that is taken", "I1", func(e *Evidence) {
			first(e, func(r Record) bool { return r.Kind == KindInvalid }).Status = 201
		}},
		{"a search that finds nothing", "I11", func(e *Evidence) {
			first(e, func(r Record) bool { return r.Kind == KindSearch }).Found = nil
		}},
		{"memory is left", "I14", func(e *Evidence) { e.Baseline, e.MaxRSS, e.Rest = nil, 1, 1 }},
		{"goroutines are left", "I14", func(e *Evidence) { e.Baseline, e.Rest = &Figures{Goroutines: -9, Descriptors: 1e6}, 1 }},
		{"descriptors are left", "I14", func(e *Evidence) { e.Baseline, e.Rest = &Figures{Goroutines: 1e6, Descriptors: -99}, 1 }},
		{"a secret in an answer", "I15", func(e *Evidence) {
			e.Leaks = NewLeaks()
			e.Leaks.Secret(e.Records[0].UUID, "what is planted")
			e.Leaks.answer("an answer", e.Records[0].UUID)
		}},
		{"SQL in a log line", "I15", func(e *Evidence) {
			e.Leaks = NewLeaks()
			e.Leaks.logLine(`{"level":"INFO","msg":"SELECT id FROM entry"}`)
		}},
		{"the data directory in a log line", "I15", func(e *Evidence) {
			e.Leaks = NewLeaks()
			e.Leaks.Keys(t, e.Server.Dir)
			e.Leaks.logLine(`{"level":"INFO","msg":"opened ` + e.Server.Dir + `"}`)
		}},
		{"a key in a log line", "I15", func(e *Evidence) {
			text, err := os.ReadFile(filepath.Join(e.Server.Dir, "keys", "ctlog.pem"))
			if err != nil {
				t.Fatal(err)
			}
			e.Leaks = NewLeaks()
			e.Leaks.Keys(t, e.Server.Dir)
			e.Leaks.logLine(strings.ReplaceAll(string(text), "\n", "\\n")[:160])
			e.Leaks.logLine(strings.Split(string(text), "\n")[2])
		}},
		{"a row in no search", "I11", sqlDoctor(t, "rekorv1/log.db", "DELETE FROM search WHERE key = (SELECT key FROM search WHERE key LIKE 'sha256:%' LIMIT 1)")},
		{"a row too many in the index", "I11", sqlDoctor(t, "rekorv1/log.db", "INSERT INTO search SELECT 'SHA256:' || substr(key, 8), at, hash FROM search WHERE key LIKE 'sha256:%' LIMIT 1")},
		{"a stored entry that changed", "I10", sqlDoctor(t, "rekorv1/log.db", "UPDATE entry SET value = value || ' ' WHERE idx = 17")},
		{"a tile that changed", "I10", sqlDoctor(t, "ct/log.db", "UPDATE tile SET hashes = zeroblob(length(hashes)) WHERE pos = 0")},
		{"a certificate without audit row", "I7", sqlDoctor(t, "audit.db", "DELETE FROM audit WHERE kind = 'issued' AND seq < 9")},
		{"a certificate that nothing intended", "I7", sqlDoctor(t, "audit.db", "DELETE FROM audit WHERE seq = 1")},
		{"an audit row in another place", "I7", sqlDoctor(t, "audit.db", "UPDATE audit SET seq = -seq WHERE seq IN (1, 3)")},
		{"an audit row of another time", "I7", sqlDoctor(t, "audit.db", "UPDATE audit SET time = time + 1 WHERE seq = 3")},
		{"a head of another audit log", "I7", sqlDoctor(t, "audit.db", "UPDATE audit_head SET hash = zeroblob(32)")},
		{"an audit row of another certificate", "I7", sqlDoctor(t, "audit.db", `UPDATE audit SET record = json_set(record, '$.serial', '00') WHERE seq = 1`)},
	} {
		e := *whole
		e.Records, e.Trees = slices.Clone(whole.Records), slices.Clone(whole.Trees)
		e.Allow = nil
		tt.doctor(&e)
		found := e.Check(t.Context())
		if !slices.ContainsFunc(found, func(v Violation) bool { return v.Invariant == tt.want }) {
			t.Errorf("%s: %v, want a violation of %s", tt.name, found, tt.want)
		}
		for _, v := range found[:min(1, len(found))] {
			t.Logf("%s: %d found, first: %.150s", tt.name, len(found), v)
		}
	}
}

// sqlDoctor returns a change of one row in a copy of the data directory.
func sqlDoctor(t *testing.T, name, statement string) func(e *Evidence) {
	return func(e *Evidence) {
		t.Helper()
		dir := filepath.Join(t.TempDir(), "copy")
		CopyData(t, e.Server.Dir, dir)
		if err := Alter(filepath.Join(dir, name), statement); err != nil {
			t.Fatal(err)
		}
		e.Dir = dir
	}
}

// TestGoroutinesAreCounted compares the process with figures that it cannot have.
func TestGoroutinesAreCounted(t *testing.T) {
	t.Parallel()
	s := Start(t)
	f, err := s.Figures()
	if err != nil || f.Goroutines < 5 || f.Descriptors < 5 || f.RSS < 1<<20 {
		t.Errorf("figures %+v, %v", f, err)
	}
}

func TestFoldRoots(t *testing.T) {
	// The roots of RFC 6962's test vectors, as in certificate-transparency
	// implementations: sizes 0, 1, 2 and 8.
	values := [][]byte{{}, {0x00}, {0x10}, {0x20, 0x21}, {0x30, 0x31}, {0x40, 0x41, 0x42, 0x43},
		{0x50, 0x51, 0x52, 0x53, 0x54, 0x55, 0x56, 0x57}, {0x60, 0x61, 0x62, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x6b, 0x6c, 0x6d, 0x6e, 0x6f}}
	roots := foldRoots(values)
	for size, want := range map[int]string{
		0: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
		1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
		2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
		8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
	} {
		if !bytes.Equal(roots[size], unhex(want)) {
			t.Errorf("size %d: root %x, want %s", size, roots[size], want)
		}
	}
}
