package ctlog

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
	"encoding/asn1"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/sigstack/sigstack/storage/sqlite"
	"github.com/sigstack/sigstack/tlog"
	"github.com/sigstack/sigstack/tlog/checkpoint"
	"github.com/sigstack/sigstack/tlog/ct"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// A fixture is a CT log behind its handler, and the CA whose root it knows.
type fixture struct {
	h              http.Handler
	log            *ct.Log
	key            *ecdsa.PrivateKey
	signer         *faulty
	caKey, leafKey *ecdsa.PrivateKey
	root           *x509.Certificate
	clock          atomic.Int64
	logged         bytes.Buffer
}

type faulty struct {
	crypto.Signer
	on bool
}

func (s *faulty) Sign(r io.Reader, d []byte, o crypto.SignerOpts) ([]byte, error) {
	if s.on {
		return nil, errors.New("token PIN 12345 at /secret/path")
	}
	return s.Signer.Sign(r, d, o)
}

func newFixture(t testing.TB) *fixture {
	f := &fixture{
		key:     must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)),
		caKey:   must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)),
		leafKey: must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)),
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root"}, IsCA: true, BasicConstraintsValid: true}
	f.root = must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, tmpl, tmpl, f.caKey.Public(), f.caKey))))
	f.clock.Store(1795240223_000000000)
	now := func() time.Time { return time.Unix(0, f.clock.Load()) }
	dir := t.TempDir()
	store := must(sqlite.Open(filepath.Join(dir, "log.db"), now))
	log := must(tlog.Open(context.Background(), store, tlog.Options{
		Signer: must(checkpoint.NewSigner("localhost - 1", "localhost", f.key)),
		Memory: filepath.Join(dir, "signed"), Now: now, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}))
	t.Cleanup(func() {
		log.Close()
		store.Close()
	})
	f.signer = &faulty{Signer: f.key}
	f.log = must(ct.New(log, ct.Config{Signer: f.signer, Now: now, Roots: func() []*x509.Certificate { return []*x509.Certificate{f.root} }}))
	f.h = New(Config{Log: f.log, Logger: slog.New(slog.NewTextHandler(&f.logged, nil)), Status: func(err error) int {
		switch {
		case errors.Is(err, ct.ErrChain):
			return http.StatusBadRequest
		case errors.Is(err, tlog.ErrUnavailable):
			return http.StatusServiceUnavailable
		}
		return http.StatusInternalServerError
	}})
	return f
}

// cert returns a certificate or, with poison, a precertificate.
func (f *fixture) cert(serial int64, poison bool) []byte {
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(serial), DNSNames: []string{"leaf.example"}}
	if poison {
		tmpl.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 3}, Critical: true, Value: []byte{5, 0}}}
	}
	return must(x509.CreateCertificate(rand.Reader, tmpl, f.root, f.leafKey.Public(), f.caKey))
}

func (f *fixture) do(method, path, body string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	f.h.ServeHTTP(w, httptest.NewRequest(method, "/ct/v1/"+path, strings.NewReader(body)))
	return w
}

// get decodes an answer, whose members must be exactly those of out, in their order.
func (f *fixture) get(t *testing.T, method, path, body, cache string, out any) {
	t.Helper()
	w := f.do(method, path, body)
	if w.Code != 200 {
		t.Fatalf("%s: %d %s", path, w.Code, w.Body)
	}
	if ct, cc := w.Header().Get("Content-Type"), w.Header().Get("Cache-Control"); ct != "application/json" || cc != cache {
		t.Fatalf("%s: Content-Type %q, Cache-Control %q; want %q", path, ct, cc, cache)
	}
	if err := json.Unmarshal(w.Body.Bytes(), out); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	if again := must(json.Marshal(out)); !bytes.Equal(again, w.Body.Bytes()) {
		t.Fatalf("%s: got %s, want the shape %s", path, w.Body, again)
	}
}

// The shapes of RFC 6962, section 4, spelled out again.
type (
	sctJSON struct {
		SctVersion int    `json:"sct_version"`
		ID         []byte `json:"id"`
		Timestamp  int64  `json:"timestamp"`
		Extensions []byte `json:"extensions"`
		Signature  []byte `json:"signature"`
	}
	sthJSON struct {
		TreeSize  uint64 `json:"tree_size"`
		Timestamp uint64 `json:"timestamp"`
		Root      []byte `json:"sha256_root_hash"`
		Signature []byte `json:"tree_head_signature"`
	}
	proofJSON struct {
		LeafIndex uint64   `json:"leaf_index"`
		AuditPath [][]byte `json:"audit_path"`
	}
	entryJSON struct {
		LeafInput []byte `json:"leaf_input"`
		ExtraData []byte `json:"extra_data"`
	}
	entriesJSON struct {
		Entries []entryJSON `json:"entries"`
	}
	entryAndProofJSON struct {
		LeafInput []byte   `json:"leaf_input"`
		ExtraData []byte   `json:"extra_data"`
		AuditPath [][]byte `json:"audit_path"`
	}
	consistencyJSON struct {
		Consistency [][]byte `json:"consistency"`
	}
	rootsJSON struct {
		Certificates [][]byte `json:"certificates"`
	}
)

func chainJSON(certs ...[]byte) string {
	return string(must(json.Marshal(map[string][][]byte{"chain": certs})))
}

func (f *fixture) sth(t *testing.T) sthJSON {
	t.Helper()
	var sth sthJSON
	f.get(t, "GET", "get-sth", "", "no-store", &sth)
	msg := binary.BigEndian.AppendUint64([]byte{0, 1}, sth.Timestamp)
	msg = append(binary.BigEndian.AppendUint64(msg, sth.TreeSize), sth.Root...)
	f.verify(t, msg, sth.Signature)
	return sth
}

func (f *fixture) verify(t *testing.T, msg, sig []byte) {
	t.Helper()
	digest := sha256.Sum256(msg)
	if len(sig) < 4 || !bytes.Equal(sig[:2], []byte{4, 3}) || int(binary.BigEndian.Uint16(sig[2:])) != len(sig)-4 || !ecdsa.VerifyASN1(&f.key.PublicKey, digest[:], sig[4:]) {
		t.Fatal("signature does not verify")
	}
}

func TestEndpoints(t *testing.T) {
	f := newFixture(t)
	const n = 9
	heads := []sthJSON{f.sth(t)}
	if heads[0].TreeSize != 0 || !bytes.Equal(heads[0].Root, rfc6962.DefaultHasher.EmptyRoot()) {
		t.Fatal("wrong head of an empty tree")
	}
	for i := range n {
		path, der := "add-chain", f.cert(int64(i+1), i%2 == 1)
		body := chainJSON(der, f.root.Raw)
		if i%2 == 1 {
			path, body = "add-pre-chain", chainJSON(der)
		}
		var sct, again sctJSON
		f.get(t, "POST", path, body, "no-store", &sct)
		f.clock.Add(int64(time.Millisecond))
		f.get(t, "POST", path, body, "no-store", &again)
		if string(must(json.Marshal(sct))) != string(must(json.Marshal(again))) {
			t.Fatal("resubmission got another SCT")
		}
		spki := sha256.Sum256(must(x509.MarshalPKIXPublicKey(f.key.Public())))
		if sct.SctVersion != 0 || !bytes.Equal(sct.ID, spki[:]) || len(sct.Extensions) != 0 {
			t.Fatalf("wrong SCT %+v", sct)
		}
		heads = append(heads, f.sth(t))
		var e entriesJSON
		f.get(t, "GET", fmt.Sprintf("get-entries?start=%d&end=%d", i, i), "", "public, max-age=86400", &e)
		// The SCT signs the bytes of the leaf (RFC 6962, sections 3.2 and 3.4).
		f.verify(t, e.Entries[0].LeafInput, sct.Signature)
		if got := int64(binary.BigEndian.Uint64(e.Entries[0].LeafInput[2:])); got != sct.Timestamp {
			t.Fatalf("leaf at %d, SCT at %d", got, sct.Timestamp)
		}
	}
	for second := uint64(1); second <= n; second++ {
		for first := uint64(0); first <= second; first++ {
			var c consistencyJSON
			f.get(t, "GET", fmt.Sprintf("get-sth-consistency?first=%d&second=%d", first, second), "", "public, max-age=86400", &c)
			if first == 0 || first == second {
				if c.Consistency == nil || len(c.Consistency) != 0 {
					t.Fatalf("proof from %d to %d is not []", first, second)
				}
			} else if err := proof.VerifyConsistency(rfc6962.DefaultHasher, first, second, c.Consistency, heads[first].Root, heads[second].Root); err != nil {
				t.Fatal(err)
			}
		}
		for index := range second {
			var e entryAndProofJSON
			f.get(t, "GET", fmt.Sprintf("get-entry-and-proof?leaf_index=%d&tree_size=%d", index, second), "", "public, max-age=86400", &e)
			leaf := rfc6962.DefaultHasher.HashLeaf(e.LeafInput)
			if err := proof.VerifyInclusion(rfc6962.DefaultHasher, index, second, leaf, e.AuditPath, heads[second].Root); err != nil {
				t.Fatal(err)
			}
			var p proofJSON
			f.get(t, "GET", fmt.Sprintf("get-proof-by-hash?hash=%s&tree_size=%d", url.QueryEscape(base64.StdEncoding.EncodeToString(leaf)), second), "", "public, max-age=86400", &p)
			if p.LeafIndex != index || fmt.Sprint(p.AuditPath) != fmt.Sprint(e.AuditPath) {
				t.Fatal("the two proofs differ")
			}
		}
	}
	var r rootsJSON
	f.get(t, "GET", "get-roots", "", "no-store", &r)
	if len(r.Certificates) != 1 || !bytes.Equal(r.Certificates[0], f.root.Raw) {
		t.Fatal("wrong roots")
	}
	var e entriesJSON
	f.get(t, "GET", "get-entries?start=3&end=9223372036854775807", "", "public, max-age=60", &e)
	if len(e.Entries) != n-3 {
		t.Fatalf("%d entries", len(e.Entries))
	}
	f.get(t, "GET", "get-entries?start=3&end=8", "", "public, max-age=86400", &e)
}

// TestAlignment: a range is cut at a multiple of 1,000.
func TestAlignment(t *testing.T) {
	f := newFixture(t)
	const n = 1003
	ctx := context.Background()
	errs := make(chan error, n)
	for i := range n {
		go func() {
			_, err := f.log.AddChain(ctx, f.cert(int64(i+1), false), nil)
			errs <- err
		}()
	}
	for range n {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct {
		start, end, want int
		cache            string
	}{
		{0, 5000, 1000, "public, max-age=60"},
		{0, 999, 1000, "public, max-age=86400"},
		{1, 1000, 999, "public, max-age=60"},
		{999, 1002, 1, "public, max-age=60"},
		{1000, 1002, 3, "public, max-age=86400"},
		{1000, 1999, 3, "public, max-age=60"},
	} {
		var e entriesJSON
		f.get(t, "GET", fmt.Sprintf("get-entries?start=%d&end=%d", tc.start, tc.end), "", tc.cache, &e)
		if len(e.Entries) != tc.want {
			t.Errorf("%d to %d: %d entries, want %d", tc.start, tc.end, len(e.Entries), tc.want)
		}
	}
}

func TestBadRequests(t *testing.T) {
	f := newFixture(t)
	if w := f.do("POST", "add-chain", chainJSON(f.cert(1, false))); w.Code != 200 {
		t.Fatal(w.Body)
	}
	zero := url.QueryEscape(base64.StdEncoding.EncodeToString(make([]byte, 32)))
	for _, tc := range []struct {
		method, path, body string
		status             int
		text               string
	}{
		{"GET", "add-chain", "", 405, "want POST"},
		{"GET", "add-pre-chain", "", 405, "want POST"},
		{"POST", "get-sth", "", 405, "want GET"},
		{"HEAD", "get-roots", "", 405, "want GET"},
		{"DELETE", "get-entries?start=0&end=0", "", 405, "want GET"},
		{"GET", "get-everything", "", 404, "no such path"},
		{"GET", "", "", 404, "no such path"},
		{"POST", "add-chain", "", 400, "not {\"chain\""},
		{"POST", "add-chain", "{}", 400, "missing or empty"},
		{"POST", "add-chain", `{"chain":[]}`, 400, "missing or empty"},
		{"POST", "add-chain", `{"chain":null}`, 400, "not an array"},
		{"POST", "add-chain", `{"chain":"x"}`, 400, "not an array"},
		{"POST", "add-chain", `{"chain":[1]}`, 400, "not a string"},
		{"POST", "add-chain", `{"chain":["_w=="]}`, 400, "standard base64"},
		{"POST", "add-chain", `{"chain":["QQ"]}`, 400, "standard base64"},
		{"POST", "add-chain", `{"chain":["","","","","","","","","","",""]}`, 400, "more than 10"},
		{"POST", "add-chain", `{"chain":["QUJD"]} x`, 400, "not {\"chain\""},
		{"POST", "add-chain", `{"chain":["QUJD"]}`, 400, "certificate 0 does not parse"},
		{"POST", "add-chain", chainJSON(f.cert(2, true)), 400, "submit a precertificate with add-pre-chain"},
		{"POST", "add-pre-chain", chainJSON(f.cert(2, false)), 400, "submit a certificate with add-chain"},
		{"POST", "add-pre-chain", chainJSON(f.cert(2, true), f.cert(3, false)), 400, "want each signed by the next"},
		{"POST", "add-chain", strings.Repeat(" ", MaxBody+1), 413, "more than 512000 bytes"},
		{"GET", "get-sth-consistency", "", 400, "first is \"\""},
		{"GET", "get-sth-consistency?first=1", "", 400, "second is \"\""},
		{"GET", "get-sth-consistency?first=-1&second=1", "", 400, "first is \"-1\""},
		{"GET", "get-sth-consistency?first=1&second=0", "", 400, "not above second"},
		{"GET", "get-sth-consistency?first=0&second=2", "", 400, "the tree has size 1"},
		{"GET", "get-sth-consistency?first=1&second=9223372036854775808", "", 400, "second is"},
		{"GET", "get-sth-consistency?first=1;&second=2", "", 400, "does not parse"},
		{"GET", "get-proof-by-hash?tree_size=1", "", 400, "hash is not"},
		{"GET", "get-proof-by-hash?hash=QUJD&tree_size=1", "", 400, "hash is not"},
		{"GET", "get-proof-by-hash?hash=" + zero, "", 400, "tree_size is \"\""},
		{"GET", "get-proof-by-hash?tree_size=0&hash=" + zero, "", 400, "tree_size is 0"},
		{"GET", "get-proof-by-hash?tree_size=1&hash=" + zero, "", 404, "no such leaf"},
		{"GET", "get-proof-by-hash?tree_size=7&hash=" + zero, "", 404, "no such leaf"},
		{"GET", "get-entries?start=0", "", 400, "end is"},
		{"GET", "get-entries?start=1&end=0", "", 400, "not above end"},
		{"GET", "get-entries?start=1&end=1", "", 400, "the tree has size 1"},
		{"GET", "get-entries?start=9223372036854775807&end=9223372036854775807", "", 400, "the tree has size 1"},
		{"GET", "get-entries?start=a&end=1", "", 400, "start is"},
		{"GET", "get-entry-and-proof?leaf_index=1&tree_size=1", "", 400, "below tree_size"},
		{"GET", "get-entry-and-proof?leaf_index=0&tree_size=2", "", 400, "the tree has size 1"},
		{"GET", "get-entry-and-proof?leaf_index=0", "", 400, "tree_size is"},
	} {
		w := f.do(tc.method, tc.path, tc.body)
		name := tc.method + " " + tc.path + " " + tc.body[:min(len(tc.body), 60)]
		if w.Code != tc.status {
			t.Errorf("%s: status %d, want %d: %s", name, w.Code, tc.status, w.Body)
			continue
		}
		first, rest, _ := strings.Cut(w.Body.String(), "\n")
		if first != http.StatusText(tc.status) || !strings.Contains(rest, tc.text) || strings.Count(rest, "\n") != 1 {
			t.Errorf("%s: body %q, want %q", name, w.Body, tc.text)
		}
		if h := w.Header(); !strings.HasPrefix(h.Get("Content-Type"), "text/plain") || h.Get("Cache-Control") != "no-store" || (tc.status == 405) != (h.Get("Allow") != "") {
			t.Errorf("%s: headers %v", name, h)
		}
	}
	if f.log.Size() != 1 {
		t.Error("a refused chain was logged")
	}
	if f.logged.Len() > 0 {
		t.Errorf("the fault of a client is in the operator's log: %s", &f.logged)
	}
	// A body whose length is not announced is cut off as well.
	r := httptest.NewRequest("POST", "/ct/v1/add-chain", io.LimitReader(spaces{}, MaxBody+1))
	r.ContentLength = -1
	w := httptest.NewRecorder()
	f.h.ServeHTTP(w, r)
	if w.Code != 413 {
		t.Errorf("chunked body: %d", w.Code)
	}
}

type spaces struct{}

func (spaces) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

func TestUnavailable(t *testing.T) {
	f := newFixture(t)
	f.signer.on = true
	for _, w := range []*httptest.ResponseRecorder{
		f.do("POST", "add-chain", chainJSON(f.cert(1, false))),
		f.do("GET", "get-sth", ""),
	} {
		if w.Code != 503 || w.Header().Get("Retry-After") != "1" || strings.Contains(w.Body.String(), "12345") {
			t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
		}
	}
	if strings.Count(f.logged.String(), "request failed") != 2 {
		t.Errorf("the operator's log has %s", &f.logged)
	}
	w := httptest.NewRecorder()
	h := &handler{Config{Status: func(error) int { return 503 }, Logger: slog.New(slog.DiscardHandler)}}
	h.fail(w, httptest.NewRequest("POST", "/ct/v1/add-chain", nil), fmt.Errorf("%w: %w", tlog.ErrUnknown, tlog.ErrUnavailable))
	if w.Code != 503 || !strings.Contains(w.Body.String(), "is not known") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestAllocationBudget(t *testing.T) {
	many := `{"chain":[` + strings.Repeat(`"",`, MaxBody/3-20) + `""]}`
	big := chainJSON(make([]byte, MaxBody*3/4-100))
	deep := `{"chain":` + strings.Repeat("[", MaxBody-100)
	for name, body := range map[string]string{"many": many, "big": big, "deep": deep, "members": `{` + strings.Repeat(`"a":1,`, MaxBody/6-20) + `"a":1}`} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		parseChain([]byte(body))
		runtime.ReadMemStats(&after)
		if got, want := after.TotalAlloc-before.TotalAlloc, uint64(10*len(body)+1<<20); got > want {
			t.Errorf("%s: %d bytes allocated for %d, want at most %d", name, got, len(body), want)
		}
	}
}
