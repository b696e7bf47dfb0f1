package rekorv1

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cyberphone/json-canonicalization/go/src/webpki.org/jsoncanonicalizer"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/sigstack/sigstack/api"
	"github.com/sigstack/sigstack/storage/sqlite"
	"github.com/sigstack/sigstack/tlog"
	"github.com/sigstack/sigstack/tlog/checkpoint"
	"github.com/sigstack/sigstack/tlog/rekor"
)

const (
	vectorDir = "../../test/vectors/rekor"

	// The log that the vectors were recorded from.
	goldenTree = 5145302504239990339
	goldenName = "rekor.lab.test"
)

// brokenSigner fails while broken is set.
type brokenSigner struct {
	crypto.Signer
	broken atomic.Bool
}

const secret = "/var/lib/secret/key.pem"

func (s *brokenSigner) Sign(r io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if s.broken.Load() {
		return nil, errors.New("open " + secret + ": permission denied")
	}
	return s.Signer.Sign(r, digest, opts)
}

// brokenIndex fails with err while it is set.
type brokenIndex struct {
	rekor.Index
	err atomic.Pointer[error]
}

func (x *brokenIndex) Lookup(ctx context.Context, key string) ([]tlog.Hash, error) {
	if err := x.err.Load(); err != nil {
		return nil, *err
	}
	return x.Index.Lookup(ctx, key)
}

// brokenAttestations fail with err while it is set.
type brokenAttestations struct {
	rekor.Attestations
	err atomic.Pointer[error]
}

func (a *brokenAttestations) Attestation(ctx context.Context, sum tlog.Hash) ([]byte, error) {
	if err := a.err.Load(); err != nil {
		return nil, *err
	}
	return a.Attestations.Attestation(ctx, sum)
}

// A server is the API over a log in a file.
type server struct {
	*httptest.Server
	handler http.Handler
	logIdentity
	engine *tlog.Log
	signer *brokenSigner // of SETs
	index  *brokenIndex
	kept   *brokenAttestations
	logged *bytes.Buffer
}

// A logIdentity is what a client knows of a log.
type logIdentity struct {
	tree int64
	name string
	key  *ecdsa.PublicKey
}

func newServer(t testing.TB, maxBody int64) *server {
	t.Helper()
	return newServerWith(t, maxBody, func(*Config) {})
}

func newServerWith(t testing.TB, maxBody int64, change func(*Config)) *server {
	t.Helper()
	now := func() time.Time { return time.Date(2026, 11, 21, 8, 0, 0, 5e8, time.UTC) }
	dir := t.TempDir()
	store, err := sqlite.Open(filepath.Join(dir, "log.db"), now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := checkpoint.NewSigner(fmt.Sprintf("rekor.test - %d", store.TreeID()), "rekor.test", key)
	if err != nil {
		t.Fatal(err)
	}
	engine, err := tlog.Open(context.Background(), store, tlog.Options{
		Signer: signer, Memory: filepath.Join(dir, "log.memory"), Now: now, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { engine.Close() })
	s := &server{
		logIdentity: logIdentity{store.TreeID(), "rekor.test", &key.PublicKey},
		engine:      engine,
		signer:      &brokenSigner{Signer: key},
		index:       &brokenIndex{Index: store},
		kept:        &brokenAttestations{Attestations: store},
		logged:      new(bytes.Buffer),
	}
	log, err := rekor.New(rekor.Config{
		Shards:         []rekor.Shard{{Log: engine, TreeID: store.TreeID(), Signer: s.signer, Index: s.index, Attestations: s.kept}},
		MaxAttestation: 100 << 10,
		Trouble:        func(err error) { fmt.Fprintln(s.logged, "trouble:", err) },
	})
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Log: log, MaxBody: maxBody, Status: api.Status, Logger: slog.New(slog.NewTextHandler(s.logged, nil))}
	change(&cfg)
	s.handler = New(cfg)
	mux := http.NewServeMux()
	for _, p := range Paths() {
		mux.Handle(p, s.handler)
	}
	s.Server = httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

type answer struct {
	status int
	header http.Header
	body   string
}

func (s *server) do(t testing.TB, method, path, body string, header ...string) answer {
	t.Helper()
	req, err := http.NewRequest(method, s.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Del(header[i])
		if header[i+1] != "" {
			req.Header.Set(header[i], header[i+1])
		}
	}
	resp, err := s.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(b)}
}

// upload posts an entry that must be new and returns its UUID.
func (s *server) upload(t testing.TB, request []byte) string {
	t.Helper()
	a := s.do(t, "POST", "/api/v1/log/entries", string(request))
	if a.status != 201 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	return a.header.Get("ETag")
}

// A vector is one submission to a public implementation and what came of it.
type vector struct {
	Name        string
	Request     json.RawMessage
	Status      int
	Headers     map[string]string
	Response    json.RawMessage
	DecodedBody string `json:"decoded_body"`
}

func vectors(t testing.TB) []vector {
	t.Helper()
	var all []vector
	for _, kind := range []string{"hashedrekord", "rekord", "dsse", "intoto", "alpine", "helm", "rpm", "jar", "rfc3161"} {
		files, err := filepath.Glob(filepath.Join(vectorDir, kind+"*.json"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			data, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			var v vector
			if err := json.Unmarshal(data, &v); err != nil {
				t.Fatalf("%s: %v", f, err)
			}
			all = append(all, v)
		}
	}
	if len(all) < 34 {
		t.Fatalf("%d vectors", len(all))
	}
	return all
}

func vectorNamed(t testing.TB, name string) vector {
	t.Helper()
	for _, v := range vectors(t) {
		if v.Name == name {
			return v
		}
	}
	t.Fatalf("no vector %s", name)
	return vector{}
}

// A read is a recorded request that changes nothing, and its answer.
type read struct {
	Path     string
	Body     json.RawMessage
	Status   int
	Headers  map[string]string
	Response json.RawMessage
}

func reads(t testing.TB) []read {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(vectorDir, "log", "reads.json"))
	if err != nil {
		t.Fatal(err)
	}
	var all []read
	if err := json.Unmarshal(data, &all); err != nil {
		t.Fatal(err)
	}
	if len(all) < 10 {
		t.Fatalf("%d reads", len(all))
	}
	return all
}

func goldenLog(t testing.TB) logIdentity {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(vectorDir, "log", "log-publickey.pem"))
	if err != nil {
		t.Fatal(err)
	}
	return logIdentity{goldenTree, goldenName, parseKey(t, data)}
}

func parseKey(t testing.TB, data []byte) *ecdsa.PublicKey {
	t.Helper()
	block, rest := pem.Decode(data)
	if block == nil || block.Type != "PUBLIC KEY" || len(rest) > 0 {
		t.Fatalf("not one PEM public key: %s", data)
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return key.(*ecdsa.PublicKey)
}

// A wireEntry is an entry as clients read it.
type wireEntry struct {
	Body           []byte
	IntegratedTime int64
	LogID          string
	LogIndex       int64
	Verification   struct {
		InclusionProof struct {
			Checkpoint string
			Hashes     []string
			LogIndex   int64
			RootHash   string
			TreeSize   int64
		}
		SignedEntryTimestamp []byte
	}
}

// checkEntries verifies everything that a client can verify of an object of
// entries, and returns the one UUID in it. It serves our answers and the
// recorded ones alike.
func (l logIdentity) checkEntries(t testing.TB, data []byte) (string, wireEntry) {
	t.Helper()
	var entries map[string]wireEntry
	if err := json.Unmarshal(data, &entries); err != nil {
		t.Fatalf("%v: %s", err, data)
	}
	if len(entries) != 1 {
		t.Fatalf("%d entries in one object", len(entries))
	}
	uuid := slices.Collect(maps.Keys(entries))[0]
	e := entries[uuid]
	leaf := sha256.Sum256(append([]byte{0}, e.Body...))
	if want := fmt.Sprintf("%016x%x", l.tree, leaf); uuid != want {
		t.Errorf("UUID %s, want %s", uuid, want)
	}
	spki, err := x509.MarshalPKIXPublicKey(l.key)
	if err != nil {
		t.Fatal(err)
	}
	id := sha256.Sum256(spki)
	if e.LogID != hex.EncodeToString(id[:]) {
		t.Errorf("log ID %s, want %x", e.LogID, id)
	}
	signed, err := json.Marshal(map[string]any{"body": e.Body, "integratedTime": e.IntegratedTime, "logID": e.LogID, "logIndex": e.LogIndex})
	if err != nil {
		t.Fatal(err)
	}
	if signed, err = jsoncanonicalizer.Transform(signed); err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(signed)
	if !ecdsa.VerifyASN1(l.key, digest[:], e.Verification.SignedEntryTimestamp) {
		t.Errorf("%s: the SET does not verify", uuid)
	}
	p := e.Verification.InclusionProof
	cp := l.checkNote(t, p.Checkpoint)
	if int64(cp.Size) != p.TreeSize || hex.EncodeToString(cp.Root[:]) != p.RootHash {
		t.Errorf("%s: proof of size %d and root %s, checkpoint of %d and %x", uuid, p.TreeSize, p.RootHash, cp.Size, cp.Root)
	}
	if err := proof.VerifyInclusion(rfc6962.DefaultHasher, uint64(p.LogIndex), cp.Size, leaf[:], unhex(t, p.Hashes), cp.Root[:]); err != nil {
		t.Errorf("%s: %v", uuid, err)
	}
	if e.IntegratedTime < 1e9 || e.LogIndex < p.LogIndex {
		t.Errorf("%s: integrated time %d, indices %d and %d", uuid, e.IntegratedTime, e.LogIndex, p.LogIndex)
	}
	return uuid, e
}

// originShape is what clients demand of the origin of a v1 log.
var originShape = regexp.MustCompile(`^.* - [0-9]+$`)

func (l logIdentity) checkNote(t testing.TB, note string) checkpoint.Checkpoint {
	t.Helper()
	v, err := checkpoint.NewVerifier(l.name, l.key)
	if err != nil {
		t.Fatal(err)
	}
	cp, err := v.Open([]byte(note))
	if err != nil {
		t.Fatalf("%v: %q", err, note)
	}
	if cp.Origin != fmt.Sprintf("%s - %d", l.name, l.tree) || !originShape.MatchString(cp.Origin) {
		t.Errorf("origin %q", cp.Origin)
	}
	if strings.Count(note, "\n") != 5 {
		t.Errorf("a note with other lines than its own: %q", note)
	}
	return cp
}

func unhex(t testing.TB, hashes []string) [][]byte {
	t.Helper()
	var out [][]byte
	for _, h := range hashes {
		b, err := hex.DecodeString(h)
		if err != nil || len(b) != 32 || h != strings.ToLower(h) {
			t.Fatalf("hash %q", h)
		}
		out = append(out, b)
	}
	return out
}

// shape describes a JSON text: the members in their order, the types of the
// values. UUIDs are all the same, and so are elements of an array.
func shape(t testing.TB, data []byte) string {
	t.Helper()
	var b strings.Builder
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var walk func()
	walk = func() {
		token, err := dec.Token()
		if err != nil {
			t.Fatalf("%v: %s", err, data)
		}
		switch v := token.(type) {
		case json.Delim:
			b.WriteString(v.String())
			var first string
			for i := 0; dec.More(); i++ {
				if v == '{' {
					name, err := dec.Token()
					if err != nil {
						t.Fatal(err)
					}
					s := name.(string)
					if rekor.IsID(s) {
						s = "UUID"
					}
					b.WriteString(s + ":")
					walk()
					b.WriteString(",")
					continue
				}
				start := b.Len()
				walk()
				element := b.String()[start:]
				if i == 0 {
					first = element
					continue
				}
				if element != first {
					t.Errorf("elements of several shapes: %s and %s", first, element)
				}
				rest := b.String()[:start]
				b.Reset()
				b.WriteString(rest)
			}
			end, err := dec.Token()
			if err != nil {
				t.Fatal(err)
			}
			b.WriteString(end.(json.Delim).String())
		case string:
			b.WriteString("string")
		case json.Number:
			b.WriteString("number")
			if strings.ContainsAny(v.String(), ".eE") {
				t.Errorf("number %s", v)
			}
		default:
			fmt.Fprint(&b, v)
		}
	}
	walk()
	return b.String()
}

// The recorded answers verify with the code that verifies ours.
func TestRecordedAnswersVerify(t *testing.T) {
	golden, n := goldenLog(t), 0
	for _, v := range vectors(t) {
		if v.Status == 201 {
			golden.checkEntries(t, v.Response)
			n++
		}
	}
	for _, r := range reads(t) {
		switch {
		case r.Path == "/api/v1/log":
			var info struct{ SignedTreeHead string }
			if err := json.Unmarshal(r.Response, &info); err != nil {
				t.Fatal(err)
			}
			golden.checkNote(t, info.SignedTreeHead)
		case strings.HasSuffix(r.Path, "/retrieve"):
			var list []json.RawMessage
			if err := json.Unmarshal(r.Response, &list); err != nil {
				t.Fatal(err)
			}
			for _, e := range list {
				golden.checkEntries(t, e)
				n++
			}
		case strings.HasPrefix(r.Path, "/api/v1/log/entries"):
			golden.checkEntries(t, r.Response)
			n++
		}
	}
	if n < 24 {
		t.Errorf("%d recorded entries verified, want at least 24", n)
	}
}

// Every recorded submission gets the recorded status, an answer of the same
// shape, and the same canonical body.
func TestGoldenReplay(t *testing.T) {
	s := newServer(t, 0)
	// The proofs of the recorded answers are not empty; neither are ours.
	if _, err := s.engine.Add(context.Background(), tlog.Leaf{Value: []byte("first")}); err != nil {
		t.Fatal(err)
	}
	for _, v := range vectors(t) {
		t.Run(v.Name, func(t *testing.T) {
			a := s.do(t, "POST", "/api/v1/log/entries", string(v.Request))
			if v.Status == 409 && a.status == 201 {
				// What it is a duplicate of was not recorded.
				a = s.do(t, "POST", "/api/v1/log/entries", string(v.Request))
			}
			want := v.Status
			if want == 500 {
				want = 400 // bad input, which that server took for a fault of its own
			}
			if a.status != want {
				t.Fatalf("status %d, want %d: %s", a.status, want, a.body)
			}
			if got, want := shape(t, []byte(a.body)), shape(t, v.Response); got != want {
				t.Errorf("shape\n got %s\nwant %s", got, want)
			}
			for name, value := range v.Headers {
				got := a.header.Get(name)
				switch name {
				case "Etag", "Location":
					if len(got) != len(value) {
						t.Errorf("%s: %q, want the form of %q", name, got, value)
					}
				case "Content-Type", "Vary":
					if got != value {
						t.Errorf("%s: %q, want %q", name, got, value)
					}
				}
			}
			if !strings.HasSuffix(a.body, "}\n") {
				t.Errorf("the body does not end with a newline")
			}
			if a.header.Get("Cache-Control") != "" {
				t.Errorf("Cache-Control on an answer to POST")
			}
			var uuid string
			switch v.Status {
			case 201:
				var e wireEntry
				uuid, e = s.checkEntries(t, []byte(a.body))
				if string(e.Body) != v.DecodedBody {
					t.Errorf("body\n got %s\nwant %s", e.Body, v.DecodedBody)
				}
				goldenID, _ := goldenLog(t).checkEntries(t, v.Response)
				if uuid[16:] != goldenID[16:] {
					t.Errorf("leaf hash %s, want %s", uuid[16:], goldenID[16:])
				}
				if a.header.Get("ETag") != uuid {
					t.Errorf("ETag %q, want %q", a.header.Get("ETag"), uuid)
				}
			case 409:
				if a.header.Get("ETag") != "" {
					t.Errorf("a duplicate has the ETag %q", a.header.Get("ETag"))
				}
				uuid = strings.TrimPrefix(a.header.Get("Location"), "/api/v1/log/entries/")
				if want := "an equivalent entry already exists in the transparency log with UUID " + uuid; !strings.Contains(a.body, want) {
					t.Errorf("message %s, want %s", a.body, want)
				}
			default:
				return
			}
			if want := "/api/v1/log/entries/" + uuid; a.header.Get("Location") != want {
				t.Errorf("Location %q, want %q", a.header.Get("Location"), want)
			}
			again := s.do(t, "GET", a.header.Get("Location"), "")
			if again.status != 200 {
				t.Fatalf("following Location: %d %s", again.status, again.body)
			}
			s.checkEntries(t, []byte(again.body))
		})
	}
}

// Every recorded read has a counterpart here, with the same headers and shape.
func TestGoldenReads(t *testing.T) {
	s := newServer(t, 0)
	var first string
	for _, v := range vectors(t) {
		if v.Status == 201 {
			uuid := s.upload(t, v.Request)
			if first == "" {
				first = uuid
			}
		}
	}
	golden := fmt.Sprintf("%016x", int64(goldenTree))
	ours := fmt.Sprintf("%016x", s.tree)
	n := 0
	for _, r := range reads(t) {
		t.Run(r.Path, func(t *testing.T) {
			// The same leaf hashes under our tree ID.
			path := strings.Replace(strings.Replace(r.Path, golden, ours, 1), strings.ToUpper(golden), strings.ToUpper(ours), 1)
			path = strings.Replace(path, "lastSize=260", "lastSize=9", 1)
			method, body := "GET", ""
			if string(r.Body) != "null" {
				method, body = "POST", strings.ReplaceAll(string(r.Body), golden, ours)
			}
			a := s.do(t, method, path, body)
			if a.status != r.Status {
				t.Fatalf("status %d, want %d: %s", a.status, r.Status, a.body)
			}
			for _, name := range []string{"Cache-Control", "Content-Type", "Expires", "Pragma", "Vary", "X-Accel-Expires"} {
				if got := a.header.Get(name); got != r.Headers[name] {
					t.Errorf("%s: %q, want %q", name, got, r.Headers[name])
				}
			}
			n++
			if a.header.Get("Content-Type") == typeJSON {
				if got, want := shape(t, []byte(a.body)), shape(t, r.Response); got != want {
					t.Errorf("shape\n got %s\nwant %s", got, want)
				}
				return
			}
			var text string
			if err := json.Unmarshal(r.Response, &text); err != nil {
				t.Fatal(err)
			}
			if len(text) != len(a.body) {
				t.Errorf("body %q, want the form of %q", a.body, text)
			}
		})
	}
	if n < 10 {
		t.Errorf("%d reads replayed, want at least 10", n)
	}
}

func TestInfoProofAndKey(t *testing.T) {
	s := newServer(t, 0)
	type info struct {
		RootHash, SignedTreeHead, TreeID string
		TreeSize                         uint64
	}
	get := func() info {
		t.Helper()
		var i info
		a := s.do(t, "GET", "/api/v1/log", "")
		if err := json.Unmarshal([]byte(a.body), &i); err != nil {
			t.Fatal(err)
		}
		cp := s.checkNote(t, i.SignedTreeHead)
		if cp.Size != i.TreeSize || hex.EncodeToString(cp.Root[:]) != i.RootHash || i.TreeID != strconv.FormatInt(s.tree, 10) {
			t.Errorf("%s", a.body)
		}
		if !strings.HasPrefix(a.body, `{"inactiveShards":null,"rootHash":"`) {
			t.Errorf("%s", a.body)
		}
		return i
	}
	empty := get()
	if empty.TreeSize != 0 || !strings.HasPrefix(empty.RootHash, "e3b0c442") {
		t.Errorf("empty log: %+v", empty)
	}
	states := []info{empty}
	for _, v := range vectors(t) {
		if v.Status == 201 {
			s.upload(t, v.Request)
			states = append(states, get())
		}
	}
	last := states[len(states)-1]
	for _, from := range states[1:] {
		a := s.do(t, "GET", fmt.Sprintf("/api/v1/log/proof?firstSize=%d&lastSize=%d&treeID=%s", from.TreeSize, last.TreeSize, last.TreeID), "")
		var p struct {
			Hashes   []string
			RootHash string
		}
		if err := json.Unmarshal([]byte(a.body), &p); err != nil || a.status != 200 {
			t.Fatalf("%d %s", a.status, a.body)
		}
		roots := unhex(t, []string{from.RootHash, p.RootHash})
		if err := proof.VerifyConsistency(rfc6962.DefaultHasher, from.TreeSize, last.TreeSize, unhex(t, p.Hashes), roots[0], roots[1]); err != nil {
			t.Error(err)
		}
	}
	// firstSize is 1 unless given; the root is always the newest.
	a := s.do(t, "GET", "/api/v1/log/proof?lastSize=1", "")
	if want := `{"hashes":[],"rootHash":"` + last.RootHash + "\"}\n"; a.body != want {
		t.Errorf("proof %s, want %s", a.body, want)
	}

	for _, path := range []string{"/api/v1/log/publicKey", "/api/v1/log/publicKey?treeID=", "/api/v1/log/publicKey?treeID=" + last.TreeID} {
		a := s.do(t, "GET", path, "", "Accept", typePEM)
		if a.status != 200 || a.header.Get("Content-Type") != typePEM || !parseKey(t, []byte(a.body)).Equal(s.key) || !strings.HasSuffix(a.body, "-----\n") {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
	a = s.do(t, "GET", "/api/v1/log/publicKey", "", "Accept", typeJSON)
	var text string
	if err := json.Unmarshal([]byte(a.body), &text); err != nil || !parseKey(t, []byte(text)).Equal(s.key) || a.header.Get("Content-Type") != typeJSON {
		t.Errorf("key as JSON: %v: %s", err, a.body)
	}
	a = s.do(t, "GET", "/api/v1/log/publicKey?treeID=1", "", "Accept", typeJSON)
	if a.status != 400 || a.header.Get("Content-Type") != typeJSON || a.body != `{"code":400,"message":"Bad Request"}`+"\n" {
		t.Errorf("key of another tree as JSON: %d %v %s", a.status, a.header, a.body)
	}
	a = s.do(t, "GET", "/swagger.json", "", "Accept", "text/html")
	if a.status != 200 || a.header.Get("Cache-Control") != "" {
		t.Errorf("description for a browser: %d %v", a.status, a.header)
	}
}

func TestConcurrentDuplicates(t *testing.T) {
	s := newServer(t, 0)
	request := string(vectorNamed(t, "hashedrekord-p256").Request)
	answers := make([]answer, 8)
	var wg sync.WaitGroup
	for i := range answers {
		wg.Go(func() {
			a := s.do(t, "POST", "/api/v1/log/entries", request)
			answers[i] = a
			if got := s.do(t, "GET", a.header.Get("Location"), ""); got.status != 200 {
				t.Errorf("Location %q of a %d does not resolve: %d", a.header.Get("Location"), a.status, got.status)
			}
		})
	}
	wg.Wait()
	count := map[int]int{}
	for _, a := range answers {
		count[a.status]++
		if a.header.Get("Location") != answers[0].header.Get("Location") {
			t.Errorf("two locations: %q and %q", a.header.Get("Location"), answers[0].header.Get("Location"))
		}
	}
	if count[201] != 1 || count[409] != 7 {
		t.Errorf("statuses %v, want one 201 and seven 409", count)
	}
}

// retrieveUUIDs posts to log/entries/retrieve and returns the UUIDs of the
// answer in their order.
func (s *server) retrieveUUIDs(t *testing.T, body string) []string {
	t.Helper()
	a := s.do(t, "POST", "/api/v1/log/entries/retrieve", body)
	if a.status != 200 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if a.header.Get("Cache-Control") != "" || a.header.Get("Vary") != "Origin" {
		t.Errorf("headers %v", a.header)
	}
	var list []json.RawMessage
	if err := json.Unmarshal([]byte(a.body), &list); err != nil || list == nil {
		t.Fatalf("%v: %s", err, a.body)
	}
	uuids := []string{}
	for _, e := range list {
		uuid, _ := s.checkEntries(t, e)
		uuids = append(uuids, uuid)
	}
	return uuids
}

func TestRetrieve(t *testing.T) {
	s := newServer(t, 0)
	hashed, dsse := vectorNamed(t, "hashedrekord-p256"), vectorNamed(t, "dsse-p256")
	a, b := s.upload(t, hashed.Request), s.upload(t, dsse.Request)
	intoto := string(vectorNamed(t, "intoto-001").Request)
	absent := fmt.Sprintf("%016x", s.tree) + strings.Repeat("0", 64)
	for _, tt := range []struct {
		name, body string
		want       []string
	}{
		{"nothing asked", `{}`, nil},
		{"nulls", `{"entries":null,"entryUUIDs":null,"logIndexes":null}`, nil},
		{"unknown member", `{"x":[1,{"y":2}]}`, nil},
		{"by UUID", `{"entryUUIDs":["` + b + `","` + a + `"]}`, []string{b, a}},
		{"upper case", `{"entryUUIDs":["` + strings.ToUpper(b) + `"]}`, []string{b}},
		{"by leaf hash", `{"entryUUIDs":["` + b[16:] + `"]}`, []string{b}},
		{"by index", `{"logIndexes":[1,0,1]}`, []string{b, a, b}},
		{"absent ones", `{"entryUUIDs":["` + absent + `","` + absent[16:] + `","0000000000000001` + a[16:] + `"],"logIndexes":[2,9223372036854775807]}`, nil},
		{"by proposal", `{"entries":[` + string(hashed.Request) + `]}`, []string{a}},
		{"two proposals of one attestation", `{"entries":[` + string(dsse.Request) + `,` + intoto + `]}`, []string{b}},
		{"a proposal that is not there", `{"entries":[` + string(vectorNamed(t, "rekord-ssh").Request) + `]}`, nil},
		{"order", `{"logIndexes":[0],"entries":[` + string(dsse.Request) + `],"entryUUIDs":["` + b[16:] + `","` + a + `"]}`, []string{a, b, b, a}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := s.retrieveUUIDs(t, tt.body); !slices.Equal(got, tt.want) {
				t.Errorf("\n got %q\nwant %q", got, tt.want)
			}
		})
	}
	if a := s.do(t, "POST", "/api/v1/log/entries/retrieve", `{}`); a.body != "[]\n" {
		t.Errorf("nothing found is %q", a.body)
	}
}

func TestSearch(t *testing.T) {
	s := newServer(t, 0)
	uuids := map[string]string{}
	for _, v := range vectors(t) {
		if v.Status == 201 {
			uuids[v.Name] = s.upload(t, v.Request)
		}
	}
	var spec struct {
		Spec struct {
			Signature struct{ PublicKey struct{ Content []byte } }
			Data      struct{ Hash struct{ Value string } }
		}
	}
	if err := json.Unmarshal([]byte(vectorNamed(t, "hashedrekord-cert-sans").DecodedBody), &spec); err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(spec.Spec.Signature.PublicKey.Content)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil || len(cert.URIs) == 0 || len(cert.EmailAddresses) == 0 {
		t.Fatalf("the certificate of the vector has no URI or no email: %v", err)
	}
	sans := uuids["hashedrekord-cert-sans"]
	digest := spec.Spec.Data.Hash.Value
	email, uri := cert.EmailAddresses[0], cert.URIs[0].String()
	quote := strconv.Quote
	key := base64.StdEncoding.EncodeToString(spec.Spec.Signature.PublicKey.Content)

	search := func(t *testing.T, body string) []string {
		t.Helper()
		a := s.do(t, "POST", "/api/v1/index/retrieve", body)
		var got []string
		if err := json.Unmarshal([]byte(a.body), &got); err != nil || got == nil || a.status != 200 {
			t.Fatalf("%d %s: %v", a.status, a.body, err)
		}
		for _, uuid := range got {
			if len(uuid) != 80 {
				t.Errorf("UUID %q", uuid)
			}
		}
		return got
	}
	for _, tt := range []struct {
		name, body string
		found      bool
	}{
		{"hash", `{"hash":"sha256:` + digest + `"}`, true},
		{"bare hash", `{"hash":"` + digest + `"}`, true},
		{"upper-case hash", `{"hash":"sha256:` + strings.ToUpper(digest) + `"}`, true},
		{"email", `{"email":` + quote(email) + `}`, true},
		{"upper-case email", `{"email":` + quote(strings.ToUpper(email)) + `}`, true},
		{"subject", `{"subject":` + quote(uri) + `}`, true},
		{"upper-case subject", `{"subject":` + quote(strings.ToUpper(uri)) + `}`, true},
		{"public key", `{"publicKey":{"format":"x509","content":"` + key + `"}}`, true},
		{"and", `{"operator":"and","email":` + quote(email) + `,"hash":"` + digest + `"}`, true},
		{"and, one fails", `{"operator":"and","email":"nobody@example.com","hash":"` + digest + `"}`, false},
		{"or, one fails", `{"operator":"or","email":"nobody@example.com","hash":"` + digest + `"}`, true},
		{"or is the default", `{"email":"nobody@example.com","hash":"` + digest + `"}`, true},
		{"other hash", `{"hash":"` + strings.Repeat("0", 64) + `"}`, false},
		{"sha1", `{"hash":"sha1:` + strings.Repeat("0", 40) + `"}`, false},
		{"sha512", `{"hash":"` + strings.Repeat("0", 128) + `"}`, false},
		{"nothing", `{}`, false},
		{"only an operator", `{"operator":"and"}`, false},
		{"empty members", `{"email":"","hash":"","subject":"","operator":"","publicKey":null}`, false},
		{"unknown member", `{"x":{"y":[]}}`, false},
		{"trailing space", "{} \r\n\t", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := search(t, tt.body)
			if slices.Contains(got, sans) != tt.found {
				t.Errorf("found %q", got)
			}
			if !tt.found && len(got) > 0 {
				t.Errorf("found %q, want nothing", got)
			}
		})
	}
	// A search by key finds entries of every kind that were signed with it.
	if err := json.Unmarshal([]byte(vectorNamed(t, "hashedrekord-p256").DecodedBody), &spec); err != nil {
		t.Fatal(err)
	}
	got := search(t, `{"publicKey":{"format":"x509","content":"`+base64.StdEncoding.EncodeToString(spec.Spec.Signature.PublicKey.Content)+`"}}`)
	for _, name := range []string{"hashedrekord-p256", "dsse-p256"} {
		if !slices.Contains(got, uuids[name]) {
			t.Errorf("%s is not among the %d entries of its key", name, len(got))
		}
	}
}

// What a bad request gets: the status, the code in the body, and the message.
func TestBadInput(t *testing.T) {
	s := newServer(t, 0)
	uuid := s.upload(t, vectorNamed(t, "hashedrekord-p256").Request)
	const (
		entries  = "/api/v1/log/entries"
		retrieve = "/api/v1/log/entries/retrieve"
		index    = "/api/v1/index/retrieve"
		proof    = "/api/v1/log/proof"
		key      = "/api/v1/log/publicKey"
		uuidText = "should match '^([0-9a-fA-F]{64}|[0-9a-fA-F]{80})$'"
	)
	eleven := strings.Repeat("0,", 10) + "0"
	six := `"` + uuid + `"` + strings.Repeat(`,"`+uuid+`"`, 5)
	tree := uuid[:16]
	for _, tt := range []struct {
		name, method, path, body string
		status, code             int
		message                  string // the whole, or the part before "..."
		newline                  bool
	}{
		{"no such path", "GET", "/api/v1/log/x", "", 404, 404, "path /api/v1/log/x was not found", false},
		{"no such path below entries", "GET", entries + "/" + uuid + "/x", "", 404, 404, "path " + entries + "/" + uuid + "/x was not found", false},
		{"method of log", "DELETE", "/api/v1/log", "", 405, 405, "method DELETE is not allowed, but [GET] are", false},
		{"method of entries", "PUT", entries, "", 405, 405, "method PUT is not allowed, but [GET,POST] are", false},
		{"method of entry", "POST", entries + "/" + uuid, "{}", 405, 405, "method POST is not allowed, but [GET] are", false},
		{"method of index", "GET", index, "", 405, 405, "method GET is not allowed, but [POST] are", false},
		{"method of key", "POST", key, "{}", 405, 405, "method POST is not allowed, but [GET] are", false},

		{"entry without body", "POST", entries, "", 422, 602, "proposedEntry in body is required", false},
		{"entry of space", "POST", entries, " \n", 422, 602, "proposedEntry in body is required", false},
		{"entry without kind", "POST", entries, `{"apiVersion":"0.0.1","spec":{}}`, 422, 602, "kind in body is required", false},
		{"entry without version", "POST", entries, `{"kind":"dsse","spec":{}}`, 422, 602, "apiVersion in body is required", false},
		{"bad version", "POST", entries, `{"kind":"dsse","apiVersion":"1","spec":{}}`, 422, 605, "apiVersion in body should match ...", false},
		{"unknown kind", "POST", entries, `{"kind":"nope","apiVersion":"0.0.1","spec":{}}`, 422, 422, `invalid kind value: "nope"`, false},
		{"kind without a spec", "POST", entries, `{"kind":"tuf","apiVersion":"0.0.1","spec":{}}`, 400, 400, "error processing entry: metadata in body is required", true},
		{"unknown version", "POST", entries, `{"kind":"hashedrekord","apiVersion":"0.0.9","spec":{}}`, 400, 400, "error processing entry: hashedrekord implementation for version '0.0.9' not found: unable to locate entry for version 0.0.9", true},
		{"malformed", "POST", entries, `{"kind":`, 400, 400, "error processing entry: ...", true},
		{"empty spec", "POST", entries, `{"kind":"hashedrekord","apiVersion":"0.0.1","spec":{}}`, 400, 400, "error processing entry: ...", true},

		{"no index", "GET", entries, "", 422, 602, "logIndex in query is required", false},
		{"empty index", "GET", entries + "?logIndex=", "", 422, 602, "logIndex in query is required", false},
		{"negative index", "GET", entries + "?logIndex=-1", "", 422, 609, "logIndex in query should be greater than or equal to 0", false},
		{"word as index", "GET", entries + "?logIndex=abc", "", 422, 601, `logIndex in query must be of type int64: "abc"`, false},
		{"fraction as index", "GET", entries + "?logIndex=1.5", "", 422, 601, `logIndex in query must be of type int64: "1.5"`, false},
		{"huge index", "GET", entries + "?logIndex=9223372036854775808", "", 422, 601, `logIndex in query must be of type int64: "9223372036854775808"`, false},
		{"short UUID", "GET", entries + "/abc", "", 422, 605, "entryUUID in path " + uuidText, false},
		{"UUID of 72", "GET", entries + "/" + uuid[8:], "", 422, 605, "entryUUID in path " + uuidText, false},
		{"UUID not hex", "GET", entries + "/" + strings.Repeat("g", 64), "", 422, 605, "entryUUID in path " + uuidText, false},
		{"retrieve is no UUID", "GET", retrieve, "", 422, 605, "entryUUID in path " + uuidText, false},
		{"tree ID beyond 2^63", "GET", entries + "/ffffffffffffffff" + uuid[16:], "", 400, 400, "validation error: ffffffffffffffff is not a valid TreeID", true},
		{"tree ID 0", "GET", entries + "/0000000000000000" + uuid[16:], "", 400, 400, "validation error: 0000000000000000 is not a valid TreeID", true},

		{"proof without end", "GET", proof, "", 422, 602, "lastSize in query is required", false},
		{"proof to 0", "GET", proof + "?lastSize=0", "", 422, 609, "lastSize in query should be greater than or equal to 1", false},
		{"proof from 0", "GET", proof + "?firstSize=0&lastSize=1", "", 422, 609, "firstSize in query should be greater than or equal to 1", false},
		{"proof of words", "GET", proof + "?firstSize=a&lastSize=1", "", 422, 601, `firstSize in query must be of type int64: "a"`, false},
		{"proof backwards", "GET", proof + "?firstSize=5&lastSize=2", "", 400, 400, "firstSize(5) must be less than lastSize(2)", true},
		{"proof beyond the log", "GET", proof + "?lastSize=7", "", 400, 400, "the tree size requested(7) was greater than what is currently observable(1)", true},
		{"proof of another tree", "GET", proof + "?lastSize=1&treeID=1", "", 400, 400, "no log range found for tree ID 1", true},
		{"proof of a word", "GET", proof + "?lastSize=1&treeID=a", "", 422, 605, "treeID in query should match '^[0-9]+$'", false},
		{"proof of a huge tree", "GET", proof + "?lastSize=1&treeID=99999999999999999999", "", 400, 400, "invalid tree ID specified: ...", true},

		{"key of another tree", "GET", key + "?treeID=1", "", 400, 400, "Bad Request", false},
		{"key of a word", "GET", key + "?treeID=-1", "", 422, 605, "treeID in query should match '^[0-9]+$'", false},

		{"retrieve nothing", "POST", retrieve, "", 422, 602, "entry in body is required", false},
		{"retrieve malformed", "POST", retrieve, `{"logIndexes":[1`, 400, 400, `parsing entry body from "" failed, because ...`, false},
		{"retrieve an array", "POST", retrieve, `[]`, 400, 400, `parsing entry body from "" failed, because want an object`, false},
		{"retrieve null", "POST", retrieve, `null`, 400, 400, `parsing entry body from "" failed, because ...`, false},
		{"retrieve twice", "POST", retrieve, `{"logIndexes":[1],"logIndexes":[2]}`, 400, 400, `parsing entry body from "" failed, because member "logIndexes" is there twice`, false},
		{"retrieve in capitals", "POST", retrieve, `{"LOGINDEXES":[1]}`, 400, 400, `parsing entry body from "" failed, because member "LOGINDEXES" must be spelled "logIndexes"`, false},
		{"retrieve and more", "POST", retrieve, `{} {}`, 400, 400, `parsing entry body from "" failed, because something follows the object`, false},
		{"retrieve 11", "POST", retrieve, `{"logIndexes":[` + eleven + `]}`, 422, 611, "logIndexes in body should have at most 10 items", false},
		{"retrieve 11 UUIDs", "POST", retrieve, `{"entryUUIDs":[` + six + "," + six + `]}`, 422, 611, "entryUUIDs in body should have at most 10 items", false},
		{"retrieve 11 proposals", "POST", retrieve, `{"entries":[` + strings.ReplaceAll(eleven, "0", "{}") + `]}`, 422, 611, "entries in body should have at most 10 items", false},
		{"retrieve 6 and 6", "POST", retrieve, `{"logIndexes":[0,0,0,0,0,0],"entryUUIDs":[` + six + `]}`, 422, 422, "more than max allowed 10 entries in request", true},
		{"retrieve none", "POST", retrieve, `{"logIndexes":[]}`, 422, 612, "logIndexes in body should have at least 1 items", false},
		{"retrieve no proposals", "POST", retrieve, `{"entries":[]}`, 422, 612, "entries in body should have at least 1 items", false},
		{"retrieve no list", "POST", retrieve, `{"logIndexes":3}`, 400, 400, `parsing entry body from "" failed, because logIndexes: want an array`, false},
		{"retrieve words", "POST", retrieve, `{"logIndexes":["a"]}`, 400, 400, `parsing entry body from "" failed, because ...`, false},
		{"retrieve negative", "POST", retrieve, `{"logIndexes":[0,-1]}`, 422, 609, "logIndexes.1 in body should be greater than or equal to 0", false},
		{"retrieve null index", "POST", retrieve, `{"logIndexes":[null]}`, 422, 602, "logIndexes.0 in body is required", false},
		{"retrieve bad UUID", "POST", retrieve, `{"entryUUIDs":["x"]}`, 422, 605, "entryUUIDs.0 in body " + uuidText, false},
		{"retrieve null UUID", "POST", retrieve, `{"entryUUIDs":[null]}`, 422, 605, "entryUUIDs.0 in body " + uuidText, false},
		{"retrieve bad tree", "POST", retrieve, `{"entryUUIDs":["ffffffffffffffff` + uuid[16:] + `"]}`, 400, 400, "invalid entryID ffffffffffffffff" + uuid[16:] + ": ...", true},
		{"retrieve unknown kind", "POST", retrieve, `{"entries":[{"kind":"nope","apiVersion":"0.0.1","spec":{}}]}`, 400, 400, `parsing entry body from "" failed, because invalid kind value: "nope"`, false},
		{"retrieve no kind", "POST", retrieve, `{"entries":[{}]}`, 400, 400, `parsing entry body from "" failed, because kind in body is required`, false},
		{"retrieve kind of a number", "POST", retrieve, `{"entries":[{"kind":1}]}`, 400, 400, `parsing entry body from "" failed, because ...`, false},
		{"retrieve no version", "POST", retrieve, `{"entries":[{"kind":"dsse","spec":{}}]}`, 422, 602, `entries.0.apiVersion in body is required`, false},
		{"retrieve bad proposal", "POST", retrieve, `{"entries":[{"kind":"hashedrekord","apiVersion":"0.0.1","spec":{}}]}`, 400, 400, "...", true},
		{"retrieve null proposal", "POST", retrieve, `{"entries":[null]}`, 400, 400, `parsing entry body from "" failed, because kind in body is required`, false},

		{"search without body", "POST", index, "", 422, 602, "query in body is required", false},
		{"search malformed", "POST", index, `{"email"`, 400, 400, `parsing query body from "" failed, because ...`, false},
		{"search a string", "POST", index, `"x"`, 400, 400, `parsing query body from "" failed, because want an object`, false},
		{"search twice", "POST", index, `{"hash":"","hash":""}`, 400, 400, `parsing query body from "" failed, because member "hash" is there twice`, false},
		{"search wrong type", "POST", index, `{"hash":1}`, 400, 400, `parsing query body from "" failed, because ...`, false},
		{"search bad email", "POST", index, `{"email":"nope"}`, 422, 601, `email in body must be of type email: "nope"`, false},
		{"search long email", "POST", index, `{"email":"` + strings.Repeat("a", 400) + `@example.com"}`, 422, 601, "email in body must be of type email: ...", false},
		{"search short hash", "POST", index, `{"hash":"abcd"}`, 422, 605, "hash in body should match '...", false},
		{"search sha384", "POST", index, `{"hash":"sha384:` + strings.Repeat("a", 96) + `"}`, 422, 605, "hash in body should match '...", false},
		{"search mixed hash", "POST", index, `{"hash":"sha1:` + strings.Repeat("a", 64) + `"}`, 422, 605, "hash in body should match '...", false},
		{"search no hash", "POST", index, `{"hash":":` + strings.Repeat("a", 64) + `"}`, 422, 605, "hash in body should match '...", false},
		{"search hash not hex", "POST", index, `{"hash":"` + strings.Repeat("g", 64) + `"}`, 422, 605, "hash in body should match '...", false},
		{"search bad operator", "POST", index, `{"operator":"xor"}`, 422, 606, "operator in body should be one of [and or]", false},
		{"search long subject", "POST", index, `{"subject":"` + strings.Repeat("é", 513) + `"}`, 422, 603, "subject in body should be at most 512 chars long", false},
		{"search key without format", "POST", index, `{"publicKey":{"content":"eA=="}}`, 422, 602, "publicKey.format in body is required", false},
		{"search key of no format", "POST", index, `{"publicKey":{"format":"der"}}`, 422, 606, "publicKey.format in body should be one of [pgp x509 minisign ssh tuf]", false},
		{"search bad key", "POST", index, `{"publicKey":{"format":"x509","content":"eA=="}}`, 400, 400, "public key provided could not be parsed", true},
		{"search no key", "POST", index, `{"publicKey":{"format":"ssh"}}`, 400, 400, "public key provided could not be parsed", true},
		{"search tuf key", "POST", index, `{"publicKey":{"format":"tuf","content":"e30="}}`, 400, 400, "public key provided could not be parsed", true},
		{"search bad base64", "POST", index, `{"publicKey":{"format":"x509","content":"%"}}`, 400, 400, `parsing query body from "" failed, because ...`, false},
		{"search key is a string", "POST", index, `{"publicKey":"x"}`, 400, 400, `parsing query body from "" failed, because want an object`, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := s.do(t, tt.method, tt.path, tt.body)
			if a.status != tt.status {
				t.Fatalf("status %d, want %d: %s", a.status, tt.status, a.body)
			}
			var e struct {
				Code    int
				Message string
			}
			if err := json.Unmarshal([]byte(a.body), &e); err != nil {
				t.Fatal(err)
			}
			if got := shape(t, []byte(a.body)); got != "{code:number,message:string,}" {
				t.Errorf("shape %s", got)
			}
			if part, cut := strings.CutSuffix(tt.message, "..."); e.Code != tt.code || cut && !strings.HasPrefix(e.Message, part) || !cut && e.Message != tt.message {
				t.Errorf("\n got %d %q\nwant %d %q", e.Code, e.Message, tt.code, tt.message)
			}
			if got := strings.HasSuffix(a.body, "\n"); got != tt.newline {
				t.Errorf("the body ends with a newline: %v, want %v", got, tt.newline)
			}
			if tt.status == 405 {
				list := e.Message[strings.Index(e.Message, "[")+1 : strings.Index(e.Message, "]")]
				if got := a.header.Get("Allow"); got != list {
					t.Errorf("Allow %q, want %q", got, list)
				}
			}
			wantType := typeJSON
			if tt.name == "key of another tree" {
				wantType = typePEM
			}
			if got := a.header.Get("Content-Type"); got != wantType {
				t.Errorf("Content-Type %q", got)
			}
			if a.header.Get("Vary") != "Origin" {
				t.Errorf("Vary %q", a.header.Get("Vary"))
			}
		})
	}

	// An entry that is not there: no body, no type.
	for _, path := range []string{
		entries + "?logIndex=1", entries + "?logIndex=9223372036854775807",
		entries + "/" + strings.Repeat("0", 64), entries + "/" + tree + strings.Repeat("0", 64), entries + "/0000000000000001" + uuid[16:],
	} {
		a := s.do(t, "GET", path, "")
		if _, typed := a.header["Content-Type"]; a.status != 404 || a.body != "" || typed {
			t.Errorf("%s: %d %q %v", path, a.status, a.body, a.header)
		}
	}
	if s.logged.Len() > 0 {
		t.Errorf("bad requests are logged as failures: %s", s.logged)
	}
}

func TestNegotiation(t *testing.T) {
	s := newServer(t, 0)
	for _, tt := range []struct {
		name, method, path, body string
		header                   []string
		status                   int
		message                  string
	}{
		{"text", "POST", "/api/v1/log/entries", "{}", []string{"Content-Type", "text/plain"}, 415, `unsupported media type "text/plain", only [application/json] are allowed`},
		{"yaml", "POST", "/api/v1/log/entries/retrieve", "{}", []string{"Content-Type", "application/yaml"}, 415, `unsupported media type "application/yaml", only [application/json] are allowed`},
		{"no type", "POST", "/api/v1/index/retrieve", "{}", []string{"Content-Type", ""}, 415, `unsupported media type "application/octet-stream", only [application/json] are allowed`},
		{"nonsense", "POST", "/api/v1/index/retrieve", "{}", []string{"Content-Type", "/"}, 415, `unsupported media type "/", only [application/json] are allowed`},
		{"charset", "POST", "/api/v1/index/retrieve", "{}", []string{"Content-Type", "Application/JSON; charset=utf-8"}, 200, ""},
		{"no body, any type", "POST", "/api/v1/index/retrieve", "", []string{"Content-Type", "text/plain"}, 422, "query in body is required"},
		{"accept html", "GET", "/api/v1/log", "", []string{"Accept", "text/html"}, 406, "unsupported media type requested, only [application/json] are available"},
		{"accept nothing", "GET", "/api/v1/log", "", []string{"Accept", "application/json;q=0"}, 406, "unsupported media type requested, only [application/json] are available"},
		{"accept html for the key", "GET", "/api/v1/log/publicKey", "", []string{"Accept", "text/html"}, 406, "unsupported media type requested, only [application/x-pem-file] are available"},
		{"accept html for a search", "POST", "/api/v1/index/retrieve", "{}", []string{"Accept", "text/html", "Content-Type", typeJSON}, 200, ""},
		{"accept of a browser", "GET", "/api/v1/log", "", []string{"Accept", "text/html,application/xml;q=0.9,*/*;q=0.8"}, 200, ""},
		{"accept application", "GET", "/api/v1/log", "", []string{"Accept", "application/*"}, 200, ""},
		{"accept JSON", "GET", "/api/v1/log", "", []string{"Accept", "Application/JSON; charset=utf-8"}, 200, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := s.do(t, tt.method, tt.path, tt.body, tt.header...)
			if a.status != tt.status {
				t.Fatalf("status %d, want %d: %s", a.status, tt.status, a.body)
			}
			var e struct{ Message string }
			if tt.message != "" && (json.Unmarshal([]byte(a.body), &e) != nil || e.Message != tt.message || strings.HasSuffix(a.body, "\n")) {
				t.Errorf("body %q, want %q", a.body, tt.message)
			}
		})
	}
	// A chunked body without type, and one without bytes.
	for body, want := range map[string]int{"{}": 415, "": 422} {
		req, err := http.NewRequest("POST", s.URL+"/api/v1/index/retrieve", struct{ io.Reader }{strings.NewReader(body)})
		if err != nil {
			t.Fatal(err)
		}
		resp, err := s.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("chunked %q: status %d, want %d", body, resp.StatusCode, want)
		}
	}
}

func TestPathsAndCORS(t *testing.T) {
	s := newServer(t, 0)
	uuid := s.upload(t, vectorNamed(t, "hashedrekord-p256").Request)
	for _, path := range []string{"/api/v1/log", "/api/v1/log/", "/api/v1/log/publicKey/", "/api/v1/log/entries/?logIndex=0", "/api/v1/log/entries/" + uuid + "/", "/ping"} {
		a := s.do(t, "GET", path, "", "Origin", "https://ui.example.com")
		if a.status != 200 || a.header.Get("Access-Control-Allow-Origin") != "*" || a.header.Get("Vary") != "Origin" {
			t.Errorf("GET %s: %d %v", path, a.status, a.header)
		}
		if a := s.do(t, "GET", path, ""); a.header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("GET %s: %v", path, a.header)
		}
		a = s.do(t, "OPTIONS", path, "", "Origin", "https://ui.example.com", "Access-Control-Request-Method", "POST")
		if a.status != 204 || a.body != "" || a.header.Get("Access-Control-Allow-Origin") != "*" || !strings.Contains(a.header.Get("Access-Control-Allow-Methods"), "POST") {
			t.Errorf("OPTIONS %s: %d %v", path, a.status, a.header)
		}
		want := 405
		if path == "/ping" {
			want = 200
		}
		if a := s.do(t, "HEAD", path, ""); a.status != want || a.body != "" {
			t.Errorf("HEAD %s: %d", path, a.status)
		}
	}
	if a := s.do(t, "GET", "/ping", ""); a.body != "." || a.header.Get("Content-Type") != "text/plain" || a.header.Get("Cache-Control") != "" {
		t.Errorf("ping %q %v", a.body, a.header)
	}
	if a := s.do(t, "POST", "/ping", "{}"); a.status != 405 || a.header.Get("Allow") != "GET,HEAD" {
		t.Errorf("POST /ping: %d %v", a.status, a.header)
	}
	if a := s.do(t, "POST", "/api/v1/index/retrieve/", "{}"); a.status != 200 || a.body != "[]\n" {
		t.Errorf("search with a trailing slash: %d %s", a.status, a.body)
	}

	// The route that metrics count.
	for path, want := range map[string]string{
		"/api/v1/log": "/api/v1/log", "/api/v1/log/entries/" + uuid: "/api/v1/log/entries/{entryUUID}", "/ping": "/ping", "/api/v1/log//entries/": "/api/v1/log/entries",
	} {
		r := httptest.NewRequest("GET", path, nil)
		s.handler.ServeHTTP(httptest.NewRecorder(), r)
		if r.Pattern != want {
			t.Errorf("pattern of %s is %q, want %q", path, r.Pattern, want)
		}
	}
}

func TestLocationKeepsQuery(t *testing.T) {
	s := newServer(t, 0)
	request := string(vectorNamed(t, "hashedrekord-p256").Request)
	for _, status := range []int{201, 409} {
		a := s.do(t, "POST", "/api/v1/log/entries/?tenant=a%0d%0ab&apiKey=secret", request)
		got := a.header.Get("Location")
		if a.status != status || !strings.HasSuffix(got, "?tenant=a%0D%0Ab") {
			t.Errorf("%d, Location %q", a.status, got)
		}
		if a := s.do(t, "GET", got, ""); a.status != 200 {
			t.Errorf("following %q: %d", got, a.status)
		}
	}
}

func TestBodyLimits(t *testing.T) {
	const limit = 64 << 10
	s := newServer(t, limit)
	big := func(n int) string { // valid JSON of n bytes
		return `{"kind":"rekord","apiVersion":"0.0.1","x":"` + strings.Repeat("a", n-45) + `"}`
	}
	for _, tt := range []struct {
		name, path string
		size       int
		limit      int
	}{
		{"entry", "/api/v1/log/entries", limit + 1, limit},
		{"large entry", "/api/v1/log/entries", 4 << 20, limit},
		{"retrieve", "/api/v1/log/entries/retrieve", limit + 1, limit},
		{"search", "/api/v1/index/retrieve", maxQuery + 1, maxQuery},
	} {
		for _, chunked := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s chunked=%v", tt.name, chunked), func(t *testing.T) {
				text := big(tt.size)
				if len(text) != tt.size {
					t.Fatalf("%d bytes", len(text))
				}
				r := httptest.NewRequest("POST", tt.path, strings.NewReader(text))
				r.Header.Set("Content-Type", "application/json")
				if chunked {
					r.ContentLength = -1
				}
				w := httptest.NewRecorder()
				s.handler.ServeHTTP(w, r)
				want := fmt.Sprintf(`{"code":413,"message":"Request Entity Too Large. Limit set to %d"}`, tt.limit)
				if w.Code != 413 || w.Body.String() != want {
					t.Errorf("%d %s", w.Code, w.Body)
				}
			})
		}
	}
	// Over a real connection, in chunks that do not end for long.
	pr, pw := io.Pipe()
	go func() {
		defer pw.Close()
		io.WriteString(pw, `{"kind":"rekord","x":"`)
		for range 1000 * limit / 4096 {
			if _, err := io.WriteString(pw, strings.Repeat("a", 4096)); err != nil {
				return
			}
		}
	}()
	req, err := http.NewRequest("POST", s.URL+"/api/v1/log/entries", pr)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := s.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	pr.Close()
	if resp.StatusCode != 413 {
		t.Errorf("endless body: %d", resp.StatusCode)
	}
	// One that fits is read to its end.
	if a := s.do(t, "POST", "/api/v1/log/entries", big(limit)); a.status != 422 {
		t.Errorf("a body of the limit: %d %s", a.status, a.body)
	}
}

// Trouble of ours is told in general terms and logged in full.
func TestTroubleIsNotTold(t *testing.T) {
	s := newServer(t, 0)
	request := string(vectorNamed(t, "hashedrekord-p256").Request)
	s.signer.broken.Store(true)
	a := s.do(t, "POST", "/api/v1/log/entries", request)
	check := func(a answer, status int) {
		t.Helper()
		if a.status != status || strings.Contains(a.body, secret) || strings.Contains(a.body, "SQL") {
			t.Errorf("%d %s, want %d", a.status, a.body, status)
		}
		if got, want := a.header.Get("Retry-After"), map[int]string{503: "1"}[status]; got != want {
			t.Errorf("Retry-After %q, want %q", got, want)
		}
		if !strings.Contains(s.logged.String(), secret) {
			t.Errorf("the cause is not logged: %s", s.logged)
		}
		s.logged.Reset()
	}
	check(a, 503)
	if !strings.Contains(a.body, "is not known") {
		t.Errorf("an entry that was stored is refused with %s", a.body)
	}
	check(s.do(t, "GET", "/api/v1/log/entries?logIndex=0", ""), 503)
	check(s.do(t, "POST", "/api/v1/log/entries/retrieve", `{"logIndexes":[0]}`), 503)
	s.signer.broken.Store(false)

	// The retry of the client: the entry was stored.
	a = s.do(t, "POST", "/api/v1/log/entries", request)
	if a.status != 409 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	location := a.header.Get("Location")
	a = s.do(t, "GET", location, "")
	if a.status != 200 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	s.checkEntries(t, []byte(a.body))

	search := `{"email":"a@example.com"}`
	for status, err := range map[int]error{
		503: errors.New("SQL logic error in " + secret),
	} {
		s.index.err.Store(&err)
		check(s.do(t, "POST", "/api/v1/index/retrieve", search), status)
	}
	h := &handler{cfg: Config{Status: api.Status, Logger: slog.New(slog.NewTextHandler(s.logged, nil))}}
	for status, err := range map[int]error{
		500: fmt.Errorf("%w: row of SQL in %s", tlog.ErrIntegrity, secret),
		504: fmt.Errorf("%w: %s", context.DeadlineExceeded, secret),
	} {
		w := httptest.NewRecorder()
		h.fail(w, httptest.NewRequest("GET", "/api/v1/log", nil), err)
		check(answer{w.Code, w.Header(), w.Body.String()}, status)
	}
	w := httptest.NewRecorder()
	h.fail(w, httptest.NewRequest("POST", "/api/v1/log/entries", nil), fmt.Errorf("%w: it has 5 bytes, want at most 4", tlog.ErrTooLarge))
	if want := `{"code":413,"message":"entry too large for the log: it has 5 bytes, want at most 4"}` + "\n"; w.Code != 413 || w.Body.String() != want {
		t.Errorf("%d %s", w.Code, w.Body)
	}

	// A client that is gone is nobody's failure, whatever it interrupts.
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for _, r := range []*http.Request{
		httptest.NewRequest("POST", "/api/v1/log/entries", strings.NewReader(string(vectorNamed(t, "dsse-p256").Request))),
		httptest.NewRequest("GET", location, nil),
		httptest.NewRequest("POST", "/api/v1/index/retrieve", strings.NewReader(search)),
	} {
		r.Header.Set("Content-Type", "application/json")
		w = httptest.NewRecorder()
		s.handler.ServeHTTP(w, r.WithContext(ctx))
		if w.Code != api.StatusClientClosedRequest {
			t.Errorf("%s: %d %s", r.URL, w.Code, w.Body)
		}
	}
	if s.logged.Len() > 0 {
		t.Errorf("logged: %s", s.logged)
	}
}

// A message is valid JSON whatever a request holds.
func TestMessagesAreJSON(t *testing.T) {
	s := newServer(t, 0)
	for _, message := range []string{"\"\\\x00\x1f\x7f\n", "\xff\xfe", "\u2028 é 😀", strings.Repeat("\x80", 300)} {
		w := httptest.NewRecorder()
		(&handler{cfg: Config{Status: api.Status}}).fail(w, httptest.NewRequest("GET", "/", nil), badRequest("%s", message))
		var e struct{ Message string }
		if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || e.Message != strings.ToValidUTF8(message, "\uFFFD") {
			t.Errorf("%q: %v: %q", message, err, w.Body)
		}
	}
	a := s.do(t, "GET", "/api/v1/log/"+strings.Repeat("%22%00%FF", 200), "")
	if a.status != 404 || !json.Valid([]byte(a.body)) || len(a.body) > 1000 {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// One write over HTTP: parsed, verified, durable, included and signed.
func BenchmarkCreate(b *testing.B) {
	s := newServer(b, 0)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		b.Fatal(err)
	}
	public := base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki}))
	var took []time.Duration
	for i := 0; b.Loop(); i++ {
		digest := sha256.Sum256(strconv.AppendInt(nil, int64(i), 10))
		sig, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
		if err != nil {
			b.Fatal(err)
		}
		request := fmt.Appendf(nil, `{"kind":"hashedrekord","apiVersion":"0.0.1","spec":{"data":{"hash":{"algorithm":"sha256","value":"%x"}},"signature":{"content":"%s","publicKey":{"content":"%s"}}}}`,
			digest, base64.StdEncoding.EncodeToString(sig), public)
		start := time.Now()
		s.upload(b, request)
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
}
