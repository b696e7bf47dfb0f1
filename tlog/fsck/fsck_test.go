package fsck_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"database/sql"
	"encoding/asn1"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sigstack/sigstack/api"
	"github.com/sigstack/sigstack/api/ctlog"
	"github.com/sigstack/sigstack/api/rekorv1"
	"github.com/sigstack/sigstack/storage/sqlite"
	"github.com/sigstack/sigstack/tlog"
	"github.com/sigstack/sigstack/tlog/checkpoint"
	"github.com/sigstack/sigstack/tlog/ct"
	"github.com/sigstack/sigstack/tlog/entry"
	"github.com/sigstack/sigstack/tlog/fsck"
	"github.com/sigstack/sigstack/tlog/rekor"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func newKey(curve elliptic.Curve) *ecdsa.PrivateKey {
	return must(ecdsa.GenerateKey(curve, rand.Reader))
}

// A server has a Rekor log and a CT log, over HTTP and in a directory.
type server struct {
	*httptest.Server
	dir               string
	rekorKey, ctKey   *ecdsa.PrivateKey
	caKey             *ecdsa.PrivateKey
	root              *x509.Certificate
	rekorLog, ctTlog  *tlog.Log
	rekor             *rekor.Log
	ct                *ct.Log
	notes             [][]byte // a checkpoint after each entry of the Rekor log
	heads             [][]byte // get-sth after each entry of the CT log
	clock             atomic.Int64
	rekorSize, ctSize int
	origin            string
	stop              []func()            // closes the logs
	trees             []*ecdsa.PrivateKey // of the Rekor log, each with its key
}

func newServer(t testing.TB, rekorSize, ctSize int) *server {
	s := &server{dir: t.TempDir(), rekorKey: newKey(elliptic.P256()), ctKey: newKey(elliptic.P256()), caKey: newKey(elliptic.P256())}
	s.clock.Store(1795240223_000000000)
	now := func() time.Time { return time.Unix(0, s.clock.Add(int64(time.Millisecond))) }
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root"}, IsCA: true, BasicConstraintsValid: true}
	s.root = must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, tmpl, tmpl, s.caKey.Public(), s.caKey))))
	logger := slog.New(slog.NewTextHandler(io.Discard, nil))
	open := func(name string, key crypto.Signer) (*tlog.Log, *sqlite.Store) {
		dir := filepath.Join(s.dir, name)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		store := must(sqlite.Open(filepath.Join(dir, "log.db"), now))
		s.origin = fmt.Sprintf("localhost - %d", store.TreeID())
		log := must(tlog.Open(context.Background(), store, tlog.Options{
			Signer: must(checkpoint.NewSigner(s.origin, "localhost", key)),
			Memory: filepath.Join(dir, "signed"), Now: now, Logger: logger,
		}))
		s.stop = append(s.stop, sync.OnceFunc(func() {
			log.Close()
			store.Close()
		}))
		t.Cleanup(s.stop[len(s.stop)-1])
		return log, store
	}
	s.ctTlog, _ = open("ct", s.ctKey)
	next := func(context.Context) (rekor.Shard, error) {
		key, name := newKey(elliptic.P256()), fmt.Sprintf("rekorv1-%d", len(s.trees)+1)
		if len(s.trees) == 0 {
			key, name = s.rekorKey, "rekorv1"
		}
		var store *sqlite.Store
		s.rekorLog, store = open(name, key)
		s.trees = append(s.trees, key)
		return rekor.Shard{Log: s.rekorLog, TreeID: store.TreeID(), Signer: key, Index: store, Attestations: store}, nil
	}
	s.rekor = must(rekor.New(rekor.Config{Shards: []rekor.Shard{must(next(context.Background()))}, Next: next, MaxAttestation: 1000}))
	s.ct = must(ct.New(s.ctTlog, ct.Config{Signer: s.ctKey, Now: now, Roots: func() []*x509.Certificate { return []*x509.Certificate{s.root} }}))
	mux := http.NewServeMux()
	mux.Handle("/ct/v1/", ctlog.New(ctlog.Config{Log: s.ct, Status: api.Status, Logger: logger}))
	mux.Handle("/", rekorv1.New(rekorv1.Config{Log: s.rekor, Status: api.Status, Logger: logger}))
	s.Server = httptest.NewServer(mux)
	t.Cleanup(s.Close)
	for range rekorSize {
		s.addRekor(t)
	}
	for range ctSize {
		s.addCT(t)
	}
	return s
}

func (s *server) addRekor(t testing.TB) {
	e := &entry.Entry{
		Body: fmt.Appendf(nil, `{"apiVersion":"0.0.1","kind":"hashedrekord","spec":{"n":%d}}`, s.rekorSize),
		Keys: []string{fmt.Sprintf("sha256:%064d", s.rekorSize), "dev@example.com"},
	}
	switch s.rekorSize % 10 { // what was signed is kept beside the entry
	case 8:
		e.Attestation = fmt.Appendf(nil, "message %d", s.rekorSize)
		e.Body = fmt.Appendf(nil, `{"apiVersion":"0.0.1","kind":"cose","spec":{"data":{"envelopeHash":{"algorithm":"sha256","value":"%x"}}}}`, sha256.Sum256(e.Attestation))
	case 9:
		e.Attestation = fmt.Appendf(nil, "payload %d", s.rekorSize)
		e.Body = fmt.Appendf(nil, `{"apiVersion":"0.0.1","kind":"intoto","spec":{"content":{"payloadHash":{"algorithm":"sha256","value":"%x"}}}}`, sha256.Sum256(e.Attestation))
	}
	if _, err := s.rekor.Create(context.Background(), e); err != nil {
		t.Fatal(err)
	}
	s.rekorSize++
	s.notes = append(s.notes, s.rekorLog.Published().Checkpoint)
}

func (s *server) addCT(t testing.TB) {
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(int64(100 + s.ctSize)), DNSNames: []string{"leaf.example"}}
	add := s.ct.AddChain
	if s.ctSize%3 > 0 {
		tmpl.ExtraExtensions = []pkix.Extension{
			{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 3}, Critical: true, Value: []byte{5, 0}},
			{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 1}, Value: bytes.Repeat([]byte("x"), 1+40*s.ctSize)},
		}
		add = s.ct.AddPreChain
	}
	cert := must(x509.CreateCertificate(rand.Reader, tmpl, s.root, s.rekorKey.Public(), s.caKey))
	if _, err := add(context.Background(), cert, nil); err != nil {
		t.Fatal(err)
	}
	s.ctSize++
	resp := must(http.Get(s.URL + "/ct/v1/get-sth"))
	defer resp.Body.Close()
	s.heads = append(s.heads, must(io.ReadAll(resp.Body)))
}

// A proxy changes what the server answers.
type proxy struct {
	status func(path, body string) int // other than 200: answered instead
	change func(r *http.Request, answer []byte) []byte
}

func (p proxy) RoundTrip(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		body = must(io.ReadAll(r.Body))
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil { // the checker stops what is under way once it knows enough
		return nil, err
	}
	if p.status != nil {
		if code := p.status(r.URL.RequestURI(), string(body)); code != 200 {
			resp.StatusCode, b = code, []byte("no")
		}
	}
	if p.change != nil && resp.StatusCode == 200 {
		b = p.change(r, b)
	}
	resp.Body = io.NopCloser(bytes.NewReader(b))
	return resp, nil
}

// expectFindings checks that a report has findings that begin with each of
// want, and nothing that begins otherwise.
func expectFindings(t *testing.T, r fsck.Report, want ...string) {
	t.Helper()
	var text bytes.Buffer
	r.Write(&text)
	var got []string
	for _, l := range r.Logs {
		for _, f := range l.Findings {
			got = append(got, f.String())
		}
	}
	for _, w := range want {
		found := false
		for _, g := range got {
			found = found || strings.HasPrefix(g, w)
		}
		if !found {
			t.Errorf("nothing found that begins with %q in\n%s", w, &text)
		}
	}
	for _, g := range got {
		known := false
		for _, w := range want {
			object, _, _ := strings.Cut(w, ":")
			known = known || strings.HasPrefix(g, object+":")
		}
		if !known {
			t.Errorf("unexpected: %s", g)
		}
	}
	if r.OK() != (len(want) == 0) {
		t.Errorf("OK is %v", r.OK())
	}
}

func (s *server) checkRekor(t *testing.T, p proxy, edit func(*fsck.Options)) fsck.Report {
	t.Helper()
	o := fsck.Options{URL: s.URL, HTTPClient: &http.Client{Transport: p}, PublicKey: s.rekorKey.Public(), Workers: 3}
	if edit != nil {
		edit(&o)
	}
	r, err := fsck.CheckRekor(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (s *server) checkCT(t *testing.T, p proxy, edit func(*fsck.Options)) fsck.Report {
	t.Helper()
	o := fsck.Options{URL: s.URL + "/", HTTPClient: &http.Client{Transport: p}, PublicKey: s.ctKey.Public(), Workers: 3}
	if edit != nil {
		edit(&o)
	}
	r, err := fsck.CheckCT(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// editJSON returns a change of the answers of one path: f gets the decoded answer.
func editJSON(path string, f func(v any) any) proxy {
	return proxy{change: func(r *http.Request, b []byte) []byte {
		if r.URL.Path != path {
			return b
		}
		dec := json.NewDecoder(bytes.NewReader(b))
		dec.UseNumber()
		var v any
		if err := dec.Decode(&v); err != nil {
			return b
		}
		return must(json.Marshal(f(v)))
	}}
}

// editEntry changes one entry of the Rekor log wherever it is returned.
func editEntry(index int, f func(e map[string]any)) proxy {
	return editJSON("/api/v1/log/entries/retrieve", func(v any) any {
		for _, m := range v.([]any) {
			for _, e := range m.(map[string]any) {
				if e := e.(map[string]any); fmt.Sprint(e["logIndex"]) == fmt.Sprint(index) {
					f(e)
				}
			}
		}
		return v
	})
}

// flip changes the character in the middle of a string of base64 or hex.
func flip(v any) string {
	b := []byte(v.(string))
	i := len(b) / 2
	if b[i] == '0' {
		b[i] = '1'
	} else {
		b[i] = '0'
	}
	return string(b)
}

// fork signs a state that the log never had.
func (s *server) fork(key *ecdsa.PrivateKey, size uint64) []byte {
	origin, _, _ := strings.Cut(string(s.notes[0]), "\n")
	signer := must(checkpoint.NewSigner(origin, "localhost", key))
	return must(signer.Sign(size, sha256.Sum256([]byte("fork"))))
}

func verification(e map[string]any) map[string]any { return e["verification"].(map[string]any) }
func inclusion(e map[string]any) map[string]any {
	return verification(e)["inclusionProof"].(map[string]any)
}

func TestRekor(t *testing.T) {
	s := newServer(t, 43, 0)
	all := func(o *fsck.Options) { o.Older = s.notes }
	r := s.checkRekor(t, proxy{}, all)
	expectFindings(t, r)
	l := r.Logs[0]
	if l.Kind != "rekor" || l.Size != 43 || l.Counts.Entries != 43 || l.Counts.Proofs < 43+42 || l.Counts.Signatures < 2*43 || l.Counts.Attestations != 8 || l.Origin != s.origin || len(l.KeyID) != 64 {
		t.Fatalf("report %+v", l)
	}
	r = s.checkRekor(t, proxy{}, func(o *fsck.Options) { o.PublicKey = nil })
	expectFindings(t, r)
	if r.Logs[0].KeyID != l.KeyID {
		t.Fatal("the key of the log is not reported")
	}

	for name, tc := range map[string]struct {
		p    proxy
		edit func(*fsck.Options)
		want []string
	}{
		"flipped body": {editEntry(17, func(e map[string]any) { e["body"] = flip(e["body"]) }), nil, []string{
			"entry 17: its UUID is", "entry 17: its SignedEntryTimestamp", "entry 17: its inclusion proof does not verify", "checkpoint: it says that the root"}},
		"flipped SET": {editEntry(3, func(e map[string]any) {
			verification(e)["signedEntryTimestamp"] = flip(verification(e)["signedEntryTimestamp"])
		}), nil, []string{"entry 3: its SignedEntryTimestamp"}},
		"other time":                  {editEntry(3, func(e map[string]any) { e["integratedTime"] = 1 }), nil, []string{"entry 3: its SignedEntryTimestamp", "entry 3: its integratedTime is 1"}},
		"other message":               {editEntry(8, func(e map[string]any) { e["attestation"] = map[string]any{"data": "bWVzc2FnZSA5"} }), nil, []string{"entry 8: its attestation hashes to"}},
		"other payload":               {editEntry(9, func(e map[string]any) { e["attestation"] = map[string]any{"data": "cGF5bG9hZCA4"} }), nil, []string{"entry 9: its attestation hashes to"}},
		"attestation of another kind": {editEntry(10, func(e map[string]any) { e["attestation"] = map[string]any{"data": ""} }), nil, []string{"entry 10: its attestation hashes to"}},
		"other logID":                 {editEntry(3, func(e map[string]any) { e["logID"] = flip(e["logID"]) }), nil, []string{"entry 3: its logID"}},
		"flipped proof":               {editEntry(42, func(e map[string]any) { h := inclusion(e)["hashes"].([]any); h[0] = flip(h[0]) }), nil, []string{"entry 42: its inclusion proof does not verify"}},
		"other root":                  {editEntry(4, func(e map[string]any) { inclusion(e)["rootHash"] = flip(inclusion(e)["rootHash"]) }), nil, []string{"entry 4: its inclusion proof is for size 43", "entry 4: its inclusion proof does not verify"}},
		"other index":                 {editEntry(4, func(e map[string]any) { inclusion(e)["logIndex"] = 5 }), nil, []string{"entry 4: its inclusion proof is for index 5"}},
		"flipped note":                {editEntry(5, func(e map[string]any) { inclusion(e)["checkpoint"] = flip(inclusion(e)["checkpoint"]) }), nil, []string{"entry 5: the checkpoint of its inclusion proof"}},
		"forked note":                 {editEntry(5, func(e map[string]any) { inclusion(e)["checkpoint"] = string(s.fork(s.rekorKey, 43)) }), nil, []string{"entry 5: its inclusion proof is for size 43", "checkpoint of size 43: the log signed the root"}},
		"not an entry":                {editEntry(6, func(e map[string]any) { e["body"] = "e30=" }), nil, []string{"entry 6: its body is not a JSON object with exactly", "checkpoint: it says"}},
		"body not base64":             {editEntry(6, func(e map[string]any) { e["body"] = "!" }), nil, []string{"entry 6: its body is not standard base64", "checkpoint: its root was not compared"}},
		"missing entry": {editJSON("/api/v1/log/entries/retrieve", func(v any) any {
			if list := v.([]any); len(list) == 3 {
				return list[:2]
			}
			return v
		}), nil, []string{"entry 42: the log did not return it", "checkpoint: its root was not compared"}},
		"swapped entries": {editJSON("/api/v1/log/entries/retrieve", func(v any) any {
			get := func(i int) map[string]any {
				for _, e := range v.([]any)[i].(map[string]any) {
					return e.(map[string]any)
				}
				return nil
			}
			if a, b := get(0), get(1); fmt.Sprint(a["logIndex"]) == "20" {
				a["logIndex"], b["logIndex"] = b["logIndex"], a["logIndex"]
				inclusion(a)["logIndex"], inclusion(b)["logIndex"] = inclusion(b)["logIndex"], inclusion(a)["logIndex"]
			}
			return v
		}), nil, []string{"entry 20: its SignedEntryTimestamp", "entry 20: its inclusion proof does not verify", "entry 21: its inclusion proof does not verify", "checkpoint: it says"}},
		"doubled entry": {editJSON("/api/v1/log/entries/retrieve", func(v any) any { l := v.([]any); return append(l, l[0]) }), nil, []string{
			"entry 0: it was returned again", "entry 10: it was", "entry 20: it was", "entry 30: it was", "entry 40: it was"}},
		"refused entry": {proxy{status: func(path, body string) int {
			if strings.Contains(body, "25") || strings.HasSuffix(path, "logIndex=25") {
				return 500
			}
			return 200
		}}, nil, []string{"entry 25: " + s.URL + "/api/v1/log/entries?logIndex=25 answered 500", "checkpoint: its root was not compared"}},
		"flipped head":   {editJSON("/api/v1/log", func(v any) any { m := v.(map[string]any); m["signedTreeHead"] = flip(m["signedTreeHead"]); return m }), nil, []string{"checkpoint:"}},
		"head disagrees": {editJSON("/api/v1/log", func(v any) any { m := v.(map[string]any); m["treeSize"] = 42; return m }), nil, []string{"log info: it says size 42"}},
		"forked head": {editJSON("/api/v1/log", func(v any) any {
			m := v.(map[string]any)
			cp := s.fork(s.rekorKey, 43)
			m["signedTreeHead"], m["rootHash"] = string(cp), fmt.Sprintf("%x", sha256.Sum256([]byte("fork")))
			return m
		}), nil, []string{"checkpoint: it says that the root at size 43", "checkpoint of size 43: the log signed"}},
		"inactive shard": {editJSON("/api/v1/log", func(v any) any {
			m := v.(map[string]any)
			m["inactiveShards"] = []any{map[string]any{"treeID": "7", "treeSize": 0}}
			return m
		}), nil, []string{"public key:", "checkpoint:"}},
		"other key":      {proxy{}, func(o *fsck.Options) { o.PublicKey = s.ctKey.Public() }, []string{"public key: the log shows", "checkpoint:"}},
		"forked older":   {proxy{}, func(o *fsck.Options) { o.Older = [][]byte{s.notes[3], s.fork(s.rekorKey, 20)} }, []string{"older checkpoint 1: it says that the root at size 20", "checkpoint of size 20: it was not shown"}},
		"shrunken":       {proxy{}, func(o *fsck.Options) { o.Older = [][]byte{s.fork(s.rekorKey, 44)} }, []string{"older checkpoint 0: it has size 44"}},
		"unsigned older": {proxy{}, func(o *fsck.Options) { o.Older = [][]byte{s.fork(s.ctKey, 5), []byte("junk")} }, []string{"older checkpoint 0:", "older checkpoint 1: it is not a signed note"}},
		"wrong consistency": {editJSON("/api/v1/log/proof", func(v any) any {
			h := v.(map[string]any)["hashes"].([]any)
			h[0] = flip(h[0])
			return v
		}), func(o *fsck.Options) { o.Older = s.notes[5:6] }, []string{"checkpoint of size 6: it was not shown"}},
	} {
		t.Run(name, func(t *testing.T) { expectFindings(t, s.checkRekor(t, tc.p, tc.edit), tc.want...) })
	}

	for name, status := range map[string]int{"unavailable": 503, "too many": 429, "gateway": 502} {
		t.Run(name, func(t *testing.T) {
			p := proxy{status: func(path, _ string) int {
				if strings.Contains(path, "retrieve") {
					return status
				}
				return 200
			}}
			_, err := fsck.CheckRekor(context.Background(), fsck.Options{URL: s.URL, HTTPClient: &http.Client{Transport: p}})
			if err == nil || !strings.Contains(err.Error(), fmt.Sprint(status)) {
				t.Fatalf("got %v, want an error with the status", err)
			}
		})
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := fsck.CheckRekor(ctx, fsck.Options{URL: s.URL}); err == nil {
		t.Error("a cancelled check has no error")
	}
}

// TestGrowing: a log that grows during the check is checked up to the size
// that it had, and the larger checkpoints that show up must be consistent.
// TestRotated checks every tree of a log that was rotated twice.
func TestRotated(t *testing.T) {
	s := newServer(t, 23, 0)
	for _, more := range []int{15, 5} {
		if err := s.rekor.Rotate(t.Context()); err != nil {
			t.Fatal(err)
		}
		for range more {
			s.addRekor(t)
		}
	}
	keys := func(o *fsck.Options) {
		o.PublicKey, o.Others = s.trees[2].Public(), []crypto.PublicKey{s.trees[0].Public(), s.trees[1].Public()}
	}
	r := s.checkRekor(t, proxy{}, func(o *fsck.Options) {
		keys(o)
		o.Older = [][]byte{s.notes[3], s.notes[25], s.notes[42]}
	})
	expectFindings(t, r)
	var sizes, entries []uint64
	for _, l := range r.Logs {
		sizes, entries = append(sizes, l.Size), append(entries, l.Counts.Entries)
	}
	if want := []uint64{5, 23, 15}; !slices.Equal(sizes, want) || !slices.Equal(entries, want) {
		t.Errorf("trees of sizes %v with %v entries were checked, want %v", sizes, entries, want)
	}
	if r.Logs[0].Origin != s.origin {
		t.Errorf("the first report is of %q, want that of the tree in use, %q", r.Logs[0].Origin, s.origin)
	}
	for name, tt := range map[string]struct {
		p    proxy
		edit func(*fsck.Options)
		want []string
	}{
		"an entry of a frozen tree": {editEntry(30, func(e map[string]any) {
			verification(e)["signedEntryTimestamp"] = flip(verification(e)["signedEntryTimestamp"])
		}), keys, []string{"entry 7: its SignedEntryTimestamp"}},
		"the key of a frozen tree":          {proxy{}, func(o *fsck.Options) { keys(o); o.Others = o.Others[1:] }, []string{"public key: the log shows the key", "checkpoint:"}},
		"a checkpoint that a tree has not":  {proxy{}, func(o *fsck.Options) { keys(o); o.Older = [][]byte{s.fork(s.trees[0], 20)} }, []string{"older checkpoint 0: it says that the root at size 20", "checkpoint of size 20: it was not shown"}},
		"a frozen tree that has grown less": {proxy{}, func(o *fsck.Options) { keys(o); o.Older = [][]byte{s.fork(s.trees[0], 24)} }, []string{"older checkpoint 0: it has size 24"}},
	} {
		t.Run(name, func(t *testing.T) { expectFindings(t, s.checkRekor(t, tt.p, tt.edit), tt.want...) })
	}
}

func TestGrowing(t *testing.T) {
	s := newServer(t, 35, 4)
	var mu sync.Mutex
	grow := proxy{change: func(r *http.Request, b []byte) []byte {
		mu.Lock()
		defer mu.Unlock()
		if path := r.URL.Path; strings.HasSuffix(path, "retrieve") || strings.HasSuffix(path, "get-sth") {
			s.addRekor(t)
			if s.ctSize < 6 {
				s.addCT(t)
			}
		}
		return b
	}}
	r := s.checkRekor(t, grow, nil)
	expectFindings(t, r)
	if r.Logs[0].Size != 35 || r.Logs[0].Counts.Checkpoints < 3 {
		t.Fatalf("report %+v", r.Logs[0])
	}
	expectFindings(t, s.checkCT(t, grow, nil))
	for _, size := range []int{0, 1} {
		s := newServer(t, size, size)
		expectFindings(t, s.checkRekor(t, proxy{}, nil))
		expectFindings(t, s.checkCT(t, proxy{}, nil))
	}
}

// editEntries changes the answers of get-entries; start is the index of the
// first of the list.
func editEntries(f func(start int, list []map[string][]byte)) proxy {
	return proxy{change: func(r *http.Request, b []byte) []byte {
		if r.URL.Path != "/ct/v1/get-entries" {
			return b
		}
		var v struct {
			Entries []map[string][]byte `json:"entries"`
		}
		if err := json.Unmarshal(b, &v); err != nil {
			return b
		}
		f(must(strconv.Atoi(r.URL.Query().Get("start"))), v.Entries)
		return must(json.Marshal(v))
	}}
}

// flipEntry flips a bit of leaf_input or extra_data of entry 5, whether it
// comes alone or with others.
func flipEntry(member string, at int) proxy {
	return editEntries(func(start int, list []map[string][]byte) {
		if i := 5 - start; 0 <= i && i < len(list) {
			b := list[i][member]
			b[(at+len(b))%len(b)] ^= 1
		}
	})
}

func TestCT(t *testing.T) {
	s := newServer(t, 0, 12)
	r := s.checkCT(t, proxy{}, func(o *fsck.Options) { o.Older = s.heads })
	expectFindings(t, r)
	if l := r.Logs[0]; l.Kind != "ct" || l.Size != 12 || l.Counts.Entries != 12 || l.Counts.Proofs != 11 || l.Counts.Signatures != 13 {
		t.Fatalf("report %+v", l)
	}
	sth := func(f func(m map[string]any)) proxy {
		return editJSON("/ct/v1/get-sth", func(v any) any { f(v.(map[string]any)); return v })
	}
	edited := func(b []byte, f func(m map[string]any)) []byte {
		var m map[string]any
		dec := json.NewDecoder(bytes.NewReader(b))
		dec.UseNumber()
		dec.Decode(&m)
		f(m)
		return must(json.Marshal(m))
	}
	other := newServer(t, 0, 0)
	other.ctKey = s.ctKey
	for name, tc := range map[string]struct {
		p    proxy
		edit func(*fsck.Options)
		want []string
	}{
		// Entry 5 is a precertificate.
		"flipped version":         {flipEntry("leaf_input", 0), nil, []string{"entry 5: its MerkleTreeLeaf has version 1", "tree head: it says"}},
		"flipped timestamp":       {flipEntry("leaf_input", 9), nil, []string{"tree head: it says", "entry 5: it is not in the tree that the log has signed"}},
		"flipped far timestamp":   {flipEntry("leaf_input", 2), nil, []string{"entry 5: its timestamp is", "tree head: it says"}},
		"flipped entry type":      {flipEntry("leaf_input", 11), nil, []string{"entry 5: ", "tree head: it says"}},
		"flipped issuer key hash": {flipEntry("leaf_input", 20), nil, []string{"entry 5: its issuer key hash", "tree head: it says"}},
		"flipped TBS":             {flipEntry("leaf_input", 80), nil, []string{"entry 5: its TBSCertificate is not", "tree head: it says"}},
		"flipped extension":       {flipEntry("leaf_input", -1), nil, []string{"entry 5: its MerkleTreeLeaf is cut short", "tree head: it says"}},
		"flipped precertificate":  {flipEntry("extra_data", 100), nil, []string{"entry 5: "}},
		"flipped chain":           {flipEntry("extra_data", -1), nil, []string{"entry 5: certificate 1 of its chain was not signed"}},
		"flipped chain length":    {flipEntry("extra_data", 2), nil, []string{"entry 5: its extra_data"}},
		"swapped": {editEntries(func(start int, list []map[string][]byte) {
			for i := range list { // 4 in the place of 3, and 3 in that of 4
				if n := start + i; (n == 3 || n == 4) && len(list) == 12 {
					list[3], list[4] = list[4], list[3]
					return
				} else if n == 3 || n == 4 {
					e := must(s.ct.Entries(context.Background(), uint64(7-n), uint64(8-n)))[0]
					list[i] = map[string][]byte{"leaf_input": e.LeafInput, "extra_data": e.ExtraData}
				}
			}
		}), nil, []string{"tree head: it says", "entry 3: it is not in the tree", "entry 4: it is not in the tree"}},
		"refused": {proxy{status: func(path, _ string) int {
			if strings.HasSuffix(path, "start=0&end=11") || strings.Contains(path, "start=7&") {
				return 500
			}
			return 200
		}}, nil, []string{"entry 7: " + s.URL + "/ct/v1/get-entries?start=7&end=7 answered 500", "tree head: its root was not compared"}},
		"fewer at a time":   {editJSON("/ct/v1/get-entries", func(v any) any { m := v.(map[string]any); m["entries"] = m["entries"].([]any)[:1]; return m }), nil, nil},
		"none":              {editJSON("/ct/v1/get-entries", func(v any) any { return map[string]any{"entries": []any{}} }), nil, []string{"entry 0:", "entry 1:", "entry 2:", "entry 3:", "entry 4:", "entry 5:", "entry 6:", "entry 7:", "entry 8:", "entry 9:", "entry 10:", "entry 11:", "tree head: its root was not compared"}},
		"flipped signature": {sth(func(m map[string]any) { m["tree_head_signature"] = flip(m["tree_head_signature"]) }), nil, []string{"tree head: its signature does not verify"}},
		"other size":        {sth(func(m map[string]any) { m["tree_size"] = 11 }), nil, []string{"tree head: its signature does not verify", "entry 0:", "entry 10:", "entry 1:", "entry 2:", "entry 3:", "entry 4:", "entry 5:", "entry 6:", "entry 7:", "entry 8:", "entry 9:"}},
		"short root":        {sth(func(m map[string]any) { m["sha256_root_hash"] = "QUJD" }), nil, []string{"tree head: its root hash has 3 bytes"}},
		"no head":           {proxy{status: func(string, string) int { return 404 }}, nil, []string{"tree head: " + s.URL + "/ct/v1/get-sth answered 404"}},
		"shrunken":          {sth(func(m map[string]any) { json.Unmarshal(s.heads[4], &m) }), func(o *fsck.Options) { o.Older = s.heads[9:10] }, []string{"older tree head 0: it has size 10"}},
		"older not signed": {proxy{}, func(o *fsck.Options) {
			o.Older = [][]byte{edited(s.heads[2], func(m map[string]any) { m["timestamp"] = 5 }), []byte("junk")}
		}, []string{"older tree head 0: its signature", "older tree head 1: it is not an answer"}},
		"wrong consistency":  {editJSON("/ct/v1/get-sth-consistency", func(v any) any { return map[string]any{"consistency": []any{}} }), func(o *fsck.Options) { o.Older = s.heads[5:6] }, []string{"tree head of size 6: it was not shown"}},
		"older of other log": {proxy{}, func(o *fsck.Options) { o.Older = other.forkedHead(t) }, []string{"older tree head 0: it says that the root at size 1 is", "tree head of size 1: it was not shown"}},
	} {
		t.Run(name, func(t *testing.T) { expectFindings(t, s.checkCT(t, tc.p, tc.edit), tc.want...) })
	}
	if _, err := fsck.CheckCT(context.Background(), fsck.Options{URL: s.URL}); err == nil || !strings.Contains(err.Error(), "public key") {
		t.Errorf("without a key: %v", err)
	}
	if _, err := fsck.CheckCT(context.Background(), fsck.Options{URL: s.URL, PublicKey: newKey(elliptic.P384()).Public()}); err == nil {
		t.Error("a P-384 key was taken")
	}
}

// forkedHead returns a tree head of another log with the same key.
func (s *server) forkedHead(t *testing.T) [][]byte {
	key := s.ctKey
	twin := newServer(t, 0, 0)
	log := must(ct.New(twin.ctTlog, ct.Config{Signer: key, Now: func() time.Time { return time.Unix(1700000000, 0) }, Roots: func() []*x509.Certificate { return []*x509.Certificate{twin.root} }}))
	if _, err := log.AddChain(context.Background(), twin.root.Raw, nil); err != nil {
		t.Fatal(err)
	}
	// The store's clock is later than that.
	log = must(ct.New(twin.ctTlog, ct.Config{Signer: key, Now: func() time.Time { return time.Unix(1795240224, 0) }, Roots: func() []*x509.Certificate { return nil }}))
	sth := must(log.STH(context.Background()))
	return [][]byte{must(json.Marshal(map[string]any{"tree_size": sth.Size, "timestamp": sth.Timestamp, "sha256_root_hash": sth.Root[:], "tree_head_signature": sth.Signature}))}
}

// copyDir copies a data directory whose logs are closed.
func copyDir(t *testing.T, from string) string {
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return to
}

func exec(t *testing.T, dir, query string, args ...any) {
	t.Helper()
	db := must(sql.Open("sqlite", filepath.Join(dir, "log.db")))
	defer db.Close()
	if _, err := db.Exec(query, args...); err != nil {
		t.Fatal(err)
	}
}

// flipBlob flips a bit of a blob in a database.
func flipBlob(t *testing.T, dir, table, column, where string, at int) {
	t.Helper()
	db := must(sql.Open("sqlite", filepath.Join(dir, "log.db")))
	defer db.Close()
	var b []byte
	if err := db.QueryRow("SELECT " + column + " FROM " + table + " WHERE " + where).Scan(&b); err != nil {
		t.Fatal(err)
	}
	b[(at+len(b))%len(b)] ^= 1
	if _, err := db.Exec("UPDATE "+table+" SET "+column+" = ? WHERE "+where, b); err != nil {
		t.Fatal(err)
	}
}

func editFile(t *testing.T, path string, f func(b []byte) []byte) {
	t.Helper()
	if err := os.WriteFile(path, f(must(os.ReadFile(path))), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestDir(t *testing.T) {
	const n, m = 600, 20
	s := newServer(t, n, m)
	ctx := context.Background()
	keys := fsck.DirOptions{PublicKeys: []crypto.PublicKey{s.rekorKey.Public(), s.ctKey.Public()}}
	check := func(t *testing.T, dir string, o fsck.DirOptions) fsck.Report {
		t.Helper()
		r, err := fsck.CheckDir(ctx, dir, o)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}

	// While the server has it open, with keys and older checkpoints, and without.
	older := keys
	older.Older = s.notes
	r := check(t, s.dir, older)
	expectFindings(t, r)
	if len(r.Logs) != 2 || r.Logs[0].Kind != "ct" || r.Logs[1].Kind != "rekor" {
		t.Fatalf("report %+v", r)
	}
	if l := r.Logs[1]; l.Size != n || l.Counts.Entries != n || l.Counts.Tiles != 3+1 || l.Counts.SearchKeys != 2*n || l.Counts.Attestations != n/5 || l.Counts.Checkpoints != n+2 || l.Origin != s.origin {
		t.Errorf("report %+v", l)
	}
	if l := r.Logs[0]; l.Size != m || l.Counts.Entries != m || l.Counts.Signatures != m+2 {
		t.Errorf("report %+v", l)
	}
	expectFindings(t, check(t, s.dir, fsck.DirOptions{}))
	expectFindings(t, check(t, filepath.Join(s.dir, "ct"), keys))

	// What an older copy of the database lacks.
	for _, stop := range s.stop {
		stop()
	}
	exec(t, filepath.Join(s.dir, "rekorv1"), "PRAGMA wal_checkpoint(TRUNCATE)")
	exec(t, filepath.Join(s.dir, "ct"), "PRAGMA wal_checkpoint(TRUNCATE)")
	expectFindings(t, check(t, copyDir(t, s.dir), keys))

	for name, tc := range map[string]struct {
		log    string
		damage func(t *testing.T, dir string)
		want   []string
	}{
		"attestation byte": {"rekorv1", func(t *testing.T, dir string) {
			flipBlob(t, dir, "attestation", "bytes", "bytes = x'"+hex.EncodeToString([]byte("payload 9"))+"'", 3)
		}, []string{fmt.Sprintf("attestation %x: its 9 bytes hash to", sha256.Sum256([]byte("payload 9")))}},
		"entry byte":              {"rekorv1", func(t *testing.T, dir string) { flipBlob(t, dir, "entry", "value", "idx = 17", 40) }, []string{"entry 17: its value hashes to"}},
		"entry byte and its hash": {"rekorv1", replaceEntry, []string{"tile 0/1: its hash 44 is", "tile 1/0: its hash 1 is", "head: it says that the root at size 600", "signed checkpoint of size 600: it says", "signed checkpoint of size 599: it says"}},
		"first byte":              {"rekorv1", func(t *testing.T, dir string) { flipBlob(t, dir, "entry", "value", "idx = 0", 0) }, []string{"entry 0: its body is not a JSON", "entry 0: its value hashes to"}},
		"first entry": {"rekorv1", func(t *testing.T, dir string) {
			exec(t, dir, "DELETE FROM entry WHERE idx = 0")
			exec(t, dir, "DELETE FROM search")
		}, []string{"entry 0: it is missing", "tree: neither"}},
		"CT first byte":     {"ct", func(t *testing.T, dir string) { flipBlob(t, dir, "entry", "value", "idx = 0", 0) }, []string{"entry 0: its MerkleTreeLeaf has version", "entry 0: its value hashes to"}},
		"recorded hash":     {"rekorv1", func(t *testing.T, dir string) { flipBlob(t, dir, "entry", "id", "idx = 599", 0) }, []string{"entry 599: its value hashes to", "tile 0/2: its hash 87", "head: it says", "signed checkpoint of size 600: it says", "search key \"dev@example.com\": it leads to", "search key \"" + fmt.Sprintf("sha256:%064d", 599) + "\": it leads to"}},
		"not an entry":      {"rekorv1", func(t *testing.T, dir string) { exec(t, dir, "UPDATE entry SET value = '{}' WHERE idx = 5") }, []string{"entry 5: its body is not a JSON object", "entry 5: its value hashes to"}},
		"entry time":        {"rekorv1", func(t *testing.T, dir string) { exec(t, dir, "UPDATE entry SET time = 5 WHERE idx = 30") }, []string{"entry 30: its time is 5"}},
		"last entry's time": {"rekorv1", func(t *testing.T, dir string) { exec(t, dir, "UPDATE entry SET time = time+1 WHERE idx = 599") }, []string{"head: its time is"}},
		"full tile":         {"rekorv1", func(t *testing.T, dir string) { flipBlob(t, dir, "tile", "hashes", "pos = 1", 32*9) }, []string{"tile 0/1: its hash 9 is"}},
		"partial tile":      {"rekorv1", func(t *testing.T, dir string) { flipBlob(t, dir, "tile", "hashes", "pos = 2", -1) }, []string{"tile 0/2: its hash 87 is"}},
		"upper tile":        {"rekorv1", func(t *testing.T, dir string) { flipBlob(t, dir, "tile", "hashes", "pos = 1<<56", 33) }, []string{"tile 1/0: its hash 1 is"}},
		"many hashes":       {"rekorv1", func(t *testing.T, dir string) { exec(t, dir, "UPDATE tile SET hashes = zeroblob(8192) WHERE pos = 0") }, []string{"tile 0/0: its hash 0 is", "tile 0/0: 253 more"}},
		"short tile": {"rekorv1", func(t *testing.T, dir string) {
			exec(t, dir, "UPDATE tile SET hashes = substr(hashes, 1, 64) WHERE pos = 0")
		}, []string{"tile 0/0: hash tile has 64 bytes"}},
		"no tile": {"rekorv1", func(t *testing.T, dir string) { exec(t, dir, "DELETE FROM tile WHERE pos = 0") }, []string{"tile 0/0: it is missing"}},
		"stray tiles": {"rekorv1", func(t *testing.T, dir string) {
			exec(t, dir, "INSERT INTO tile VALUES (3, zeroblob(32)), (2<<56, zeroblob(32)), (1<<56|1, x'00')")
		}, []string{"tile 0/3: a tree of size 600", "tile 2/0: a tree of size 600", "tile 1/1: a tree"}},
		"swapped entries": {"rekorv1", func(t *testing.T, dir string) {
			exec(t, dir, "UPDATE entry SET idx = -1 WHERE idx = 4; UPDATE entry SET idx = 4, time = (SELECT time FROM entry WHERE idx = -1) WHERE idx = 9; UPDATE entry SET idx = 9, time = (SELECT time FROM entry WHERE idx = 8) WHERE idx = -1")
		}, []string{"tile 0/0: its hash 4 is", "tile 0/0: its hash 9 is", "tile 1/0: its hash 0 is", "head: it says", "signed checkpoint of size 600: it says", "signed checkpoint of size 599: it says"}},
		"missing entry": {"rekorv1", func(t *testing.T, dir string) { exec(t, dir, "DELETE FROM entry WHERE idx = 300") }, []string{"entry 300: it is missing", "tree: neither", "search key \"dev@example.com\": it leads to", "search key \"" + fmt.Sprintf("sha256:%064d", 300) + "\": it leads to"}},
		"missing entries": {"rekorv1", func(t *testing.T, dir string) {
			exec(t, dir, "DELETE FROM entry WHERE idx IN (3, 4)")
			exec(t, dir, "DELETE FROM search")
		}, []string{"entries 3 to 4: they are missing", "tree: neither"}},
		"truncated table": {"rekorv1", func(t *testing.T, dir string) {
			exec(t, dir, "DELETE FROM entry WHERE idx >= 598")
			exec(t, dir, "DELETE FROM search")
		}, []string{"entries 598 to 599: they are missing", "head: its size is 600, but there are 598 entries", "tile 0/2: hash tile has 2816 bytes"}},
		"truncated file": {"rekorv1", func(t *testing.T, dir string) {
			editFile(t, filepath.Join(dir, "log.db"), func(b []byte) []byte { return b[:len(b)/2] })
		}, []string{"database: "}},
		"not a database": {"rekorv1", func(t *testing.T, dir string) {
			editFile(t, filepath.Join(dir, "log.db"), func(b []byte) []byte { return make([]byte, len(b)) })
		}, []string{"database: "}},
		"no table": {"rekorv1", func(t *testing.T, dir string) { exec(t, dir, "DROP TABLE search") }, []string{"database: "}},
		"broken page": {"rekorv1", func(t *testing.T, dir string) {
			editFile(t, filepath.Join(dir, "log.db"), func(b []byte) []byte { clear(b[len(b)/2 : len(b)/2+4096]); return b })
		}, []string{"database: "}},
		"head root":   {"rekorv1", func(t *testing.T, dir string) { flipBlob(t, dir, "log", "root", "one = 1", 3) }, []string{"head: it says that the root at size 600"}},
		"head size":   {"rekorv1", func(t *testing.T, dir string) { exec(t, dir, "UPDATE log SET size = 601") }, []string{"entries 600 to 600: they are missing", "head: its size is 601"}},
		"head behind": {"rekorv1", func(t *testing.T, dir string) { exec(t, dir, "UPDATE log SET size = 599") }, []string{"head: its size is 599", "signed checkpoint of size 600: the log has only 599", "head: it says"}},
		"tree ID":     {"rekorv1", func(t *testing.T, dir string) { exec(t, dir, "UPDATE log SET tree_id = -5") }, []string{"head: its tree ID is -5"}},
		"search key": {"rekorv1", func(t *testing.T, dir string) {
			flipBlob(t, dir, "search", "hash", fmt.Sprintf("key = 'sha256:%064d'", 77), 0)
		}, []string{"search key \"" + fmt.Sprintf("sha256:%064d", 77) + "\": it leads to"}},

		"checkpoint byte": {"rekorv1", func(t *testing.T, dir string) {
			editFile(t, filepath.Join(dir, "signed"), func(b []byte) []byte { b[30] ^= 1; return b })
		}, []string{"second memory, slot 0: its signature line"}},
		"other slot's byte": {"rekorv1", func(t *testing.T, dir string) {
			editFile(t, filepath.Join(dir, "signed"), func(b []byte) []byte { b[4096+100] ^= 1; return b })
		}, []string{"second memory, slot 1: "}},
		"behind the note": {"rekorv1", func(t *testing.T, dir string) {
			editFile(t, filepath.Join(dir, "signed"), func(b []byte) []byte { b[8191] = 1; return b })
		}, []string{"second memory, slot 1: there is something behind"}},
		"short memory": {"rekorv1", func(t *testing.T, dir string) {
			editFile(t, filepath.Join(dir, "signed"), func(b []byte) []byte { return b[:4096] })
		}, []string{"second memory: it has 4096 bytes"}},
		"empty memory": {"rekorv1", func(t *testing.T, dir string) {
			editFile(t, filepath.Join(dir, "signed"), func(b []byte) []byte { clear(b); return b })
		}, []string{"second memory: it holds no checkpoint, but"}},
		"no memory": {"rekorv1", func(t *testing.T, dir string) { os.Remove(filepath.Join(dir, "signed")) }, []string{"second memory: there is no file", "second memory: it holds no checkpoint"}},
		"memory ahead": {"rekorv1", func(t *testing.T, dir string) {
			editFile(t, filepath.Join(dir, "signed"), func(b []byte) []byte { clear(b[:4096]); copy(b, s.fork(s.rekorKey, 601)); return b })
		}, []string{"signed checkpoint of size 601: the log has only 600"}},
		"memory forked": {"rekorv1", func(t *testing.T, dir string) {
			editFile(t, filepath.Join(dir, "signed"), func(b []byte) []byte { clear(b[:4096]); copy(b, s.fork(s.rekorKey, 600)); return b })
		}, []string{"signed checkpoint of size 600: it says that the root"}},

		// CT: entry 4 is a precertificate, entry 3 a certificate.
		"CT leaf byte": {"ct", func(t *testing.T, dir string) { flipBlob(t, dir, "entry", "value", "idx = 4", 60) }, []string{"entry 4: its value hashes to", "entry 4: its identity", "entry 4: the signature of its SCT", "entry 4: its TBSCertificate"}},
		"CT identity":  {"ct", func(t *testing.T, dir string) { flipBlob(t, dir, "entry", "id", "idx = 4", 0) }, []string{"entry 4: its identity is"}},
		"CT SCT":       {"ct", func(t *testing.T, dir string) { flipBlob(t, dir, "entry", "extra", "idx = 4", 20) }, []string{"entry 4: the signature of its SCT does not verify"}},
		"CT no SCT":    {"ct", func(t *testing.T, dir string) { exec(t, dir, "UPDATE entry SET extra = x'ffff' WHERE idx = 3") }, []string{"entry 3: the signature of its SCT is cut short"}},
		"CT chain":     {"ct", func(t *testing.T, dir string) { flipBlob(t, dir, "entry", "extra", "idx = 3", -1) }, []string{"entry 3: certificate 1 of its chain"}},
		"CT junk":      {"ct", func(t *testing.T, dir string) { exec(t, dir, "UPDATE entry SET value = x'00' WHERE idx = 3") }, []string{"entry 3: its MerkleTreeLeaf has 1 bytes", "entry 3: its value hashes"}},
		"CT cert for precert": {"ct", func(t *testing.T, dir string) {
			exec(t, dir, "UPDATE entry SET extra = (SELECT extra FROM entry WHERE idx = 5) WHERE idx = 4")
		}, []string{"entry 4: the signature of its SCT", "entry 4: its TBSCertificate is not that"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := copyDir(t, s.dir)
			tc.damage(t, filepath.Join(dir, tc.log))
			r := check(t, dir, keys)
			for _, l := range r.Logs { // the other log is not touched
				if filepath.Base(l.Log) != tc.log && len(l.Findings) > 0 {
					t.Errorf("findings in the other log: %v", l.Findings)
				}
			}
			if len(tc.want) == 1 && tc.want[0] == "database: " {
				if r.OK() {
					t.Error("nothing found")
				}
				return
			}
			expectFindings(t, r, tc.want...)
		})
	}

	t.Run("forked older", func(t *testing.T) {
		o := keys
		o.Older = [][]byte{s.fork(s.rekorKey, 100), s.fork(s.rekorKey, 601), s.fork(s.ctKey, 5)}
		// The third is signed by a key that is known, if of another log.
		expectFindings(t, check(t, s.dir, o), "older checkpoint 0: it says that the root at size 100", "older checkpoint 1: the log has only 600", "older checkpoint 2: it says")
	})
	t.Run("other key", func(t *testing.T) {
		r := check(t, s.dir, fsck.DirOptions{PublicKeys: []crypto.PublicKey{s.caKey.Public()}})
		expectFindings(t, r, "second memory, slot 0: its signature line", "second memory, slot 1: its signature line", "second memory: it holds no checkpoint")
	})
	for name, f := range map[string]func() error{
		"no log": func() error { _, err := fsck.CheckDir(ctx, t.TempDir(), keys); return err },
		"no dir": func() error { _, err := fsck.CheckDir(ctx, filepath.Join(s.dir, "none"), keys); return err },
		"unknown origin": func() error {
			_, err := fsck.CheckDir(ctx, s.dir, fsck.DirOptions{Older: [][]byte{[]byte("elsewhere\n5\n")}})
			return err
		},
		"bad key": func() error {
			_, err := fsck.CheckDir(ctx, s.dir, fsck.DirOptions{PublicKeys: []crypto.PublicKey{newKey(elliptic.P384()).Public()}})
			return err
		},
		"newer schema": func() error {
			dir := copyDir(t, s.dir)
			exec(t, filepath.Join(dir, "ct"), "PRAGMA user_version = 99")
			_, err := fsck.CheckDir(ctx, dir, keys)
			return err
		},
		"cancelled": func() error {
			ctx, cancel := context.WithCancel(ctx)
			cancel()
			_, err := fsck.CheckDir(ctx, s.dir, keys)
			return err
		},
	} {
		if err := f(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// replaceEntry writes another value with its right leaf hash, and lets the
// search keys lead there: only the tree can tell.
func replaceEntry(t *testing.T, dir string) {
	value := []byte(`{"apiVersion":"0.0.1","kind":"hashedrekord","spec":{"n":"forged"}}`)
	hash := sha256.Sum256(append([]byte{0}, value...))
	exec(t, dir, "UPDATE search SET hash = ? WHERE hash = (SELECT id FROM entry WHERE idx = 300)", hash[:])
	exec(t, dir, "UPDATE entry SET value = ?, id = ? WHERE idx = 300", value, hash[:])
}

func TestReportIsBounded(t *testing.T) {
	s := newServer(t, 1100, 0)
	r := s.checkRekor(t, editJSON("/api/v1/log/entries/retrieve", func(v any) any {
		for _, m := range v.([]any) {
			for _, e := range m.(map[string]any) {
				e.(map[string]any)["logID"] = "x"
			}
		}
		return v
	}), nil)
	if l := r.Logs[0]; len(l.Findings) != 1000 || l.Omitted != 100 {
		t.Fatalf("%d findings, %d omitted", len(l.Findings), l.Omitted)
	}
}

// TestMissingWithoutEnd: a log that signs a size that it never had is not asked
// for each of its entries.
func TestMissingWithoutEnd(t *testing.T) {
	s := newServer(t, 3, 3)
	const size = 1 << 62
	note := s.fork(s.rekorKey, size)
	r := s.checkRekor(t, editJSON("/api/v1/log", func(v any) any { v.(map[string]any)["signedTreeHead"] = string(note); return v }), nil)
	if l := r.Logs[0]; l.Omitted == 0 || l.Counts.Entries != 3 {
		t.Fatalf("%d omitted, %d entries", l.Omitted, l.Counts.Entries)
	}
	r = s.checkCT(t, editJSON("/ct/v1/get-sth", func(v any) any { v.(map[string]any)["tree_size"] = size; return v }), nil)
	if l := r.Logs[0]; l.Omitted == 0 || l.Counts.Entries != 3 {
		t.Fatalf("%d omitted, %d entries", l.Omitted, l.Counts.Entries)
	}
}

func TestShownKey(t *testing.T) {
	s := newServer(t, 1, 0)
	for name, answer := range map[string][]byte{
		"junk":  []byte("junk"),
		"P-384": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: must(x509.MarshalPKIXPublicKey(newKey(elliptic.P384()).Public()))}),
	} {
		r := s.checkRekor(t, proxy{change: func(r *http.Request, b []byte) []byte {
			if strings.HasSuffix(r.URL.Path, "publicKey") {
				return answer
			}
			return b
		}}, func(o *fsck.Options) { o.PublicKey = nil })
		t.Run(name, func(t *testing.T) { expectFindings(t, r, "public key: ") })
	}
}
