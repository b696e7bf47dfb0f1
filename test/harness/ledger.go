package harness

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// The kinds of requests in a Ledger.
const (
	KindEntry       = "entry"       // a new entry
	KindDuplicate   = "duplicate"   // an entry that was sent before
	KindInvalid     = "invalid"     // what must be refused
	KindCertificate = "certificate" // a request for a certificate
	KindSearch      = "search"      // a search for an entry that was acknowledged
)

// A Record is one request and what came back.
type Record struct {
	Kind     string    `json:"kind"`
	Sent     time.Time `json:"sent"` // by the servers' clock, as Received
	Received time.Time `json:"received"`
	Request  string    `json:"request"`          // hexadecimal SHA-256 of its body
	Status   int       `json:"status"`           // 0: no answer, so that the outcome is unknown
	Error    string    `json:"error,omitempty"`  // the answer to what was not granted, or why there was none
	Leaf     []byte    `json:"leaf,omitempty"`   // of an entry: the leaf hash that follows from the request
	Body     []byte    `json:"body,omitempty"`   // of an entry: the request, which is the canonical body
	Retry    string    `json:"retry,omitempty"`  // the Retry-After of the answer
	Answer   *Answer   `json:"answer,omitempty"` // of an entry with status 201
	UUID     string    `json:"uuid,omitempty"`   // of the answer, or what a 409 points at

	// Of certificates: the hexadecimal SHA-256 of the SubjectPublicKeyInfo, no
	// two requests with the same, who the token speaks of and who made it, and
	// the chain.
	PublicKey string   `json:"publicKey,omitempty"`
	Email     string   `json:"email,omitempty"`
	Issuer    string   `json:"issuer,omitempty"`
	Chain     [][]byte `json:"chain,omitempty"`

	Found []string `json:"found,omitempty"` // UUIDs that a search found
}

// An Answer is an entry as Rekor's API shows it.
type Answer struct {
	Body           []byte       `json:"body"`
	IntegratedTime int64        `json:"integratedTime"`
	LogID          string       `json:"logID"`
	LogIndex       uint64       `json:"logIndex"`
	Verification   Verification `json:"verification"`
}

// A Verification is what proves an entry.
type Verification struct {
	InclusionProof struct {
		Checkpoint string   `json:"checkpoint"`
		Hashes     []string `json:"hashes"`
		LogIndex   uint64   `json:"logIndex"`
		RootHash   string   `json:"rootHash"`
		TreeSize   uint64   `json:"treeSize"`
	} `json:"inclusionProof"`
	SignedEntryTimestamp []byte `json:"signedEntryTimestamp"`
}

// A Ledger keeps every request with its answer, in a file with one JSON object a
// line. It is safe for concurrent use.
type Ledger struct {
	t    testing.TB
	file *os.File

	mu      sync.Mutex // guards what follows
	records []Record

	syncing sync.Mutex // held by whoever syncs
	synced  int        // how many records are on the disk; guarded by syncing
}

// NewLedger makes a ledger, or goes on with the one in a file.
func NewLedger(t testing.TB, path string) *Ledger {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	l := &Ledger{t: t, file: f}
	readLines(t, f, func(line []byte) error {
		var r Record
		err := json.Unmarshal(line, &r)
		l.records = append(l.records, r)
		return err
	})
	l.synced = len(l.records)
	return l
}

func readLines(t testing.TB, f *os.File, take func(line []byte) error) {
	t.Helper()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		if err := take(lines.Bytes()); err != nil {
			t.Fatalf("%s: %v", f.Name(), err)
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatalf("%s: %v", f.Name(), err)
	}
}

// Add appends a record and returns when it is on the disk. Records of several
// goroutines share one sync.
func (l *Ledger) Add(r Record) error {
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	l.mu.Lock()
	_, err = l.file.Write(append(line, '\n'))
	l.records = append(l.records, r)
	n := len(l.records)
	l.mu.Unlock()
	if err != nil {
		return err
	}
	l.syncing.Lock()
	defer l.syncing.Unlock()
	if l.synced >= n {
		return nil
	}
	n = l.Len()
	if err := l.file.Sync(); err != nil {
		return err
	}
	l.synced = n
	return nil
}

// Len returns how many records there are.
func (l *Ledger) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.records)
}

// Records returns the records from the given one on.
func (l *Ledger) Records(from int) []Record {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]Record(nil), l.records[from:]...)
}

// Count returns how many records satisfy f.
func (l *Ledger) Count(f func(Record) bool) int {
	n := 0
	for _, r := range l.Records(0) {
		if f(r) {
			n++
		}
	}
	return n
}

// Acknowledged says whether a record is a write that was granted.
func Acknowledged(r Record) bool {
	return r.Kind == KindCertificate && r.Status == 200 || r.Status == 201
}
