package compare

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"maps"
	random "math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
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

	"github.com/veraison/go-cose"

	"github.com/sigstack/sigstack/test/harness"
)

const (
	importSize  = 10_000 // entries at least
	importBatch = 1000   // entries that an import writes at once
	fillers     = 128    // clients that fill the log; each waits for Trillian
	freshTimes  = 4      // how often there are new entries of all kinds
)

// TestImportFromRekor imports a log that rekor-server has written, of 10,000 entries of
// all kinds, and looks at each of them. The import is killed in the middle first. The
// same log comes from the database of its Trillian, too.
func TestImportFromRekor(t *testing.T) {
	bin := os.Getenv(binaries)
	if bin == "" {
		t.Skip("scripts/compare-with-rekor installs what this needs")
	}
	begin := time.Now()
	took := func(what string) {
		t.Logf("%5.1f s  %s", time.Since(begin).Seconds(), what)
		begin = time.Now()
	}
	client := harness.NewClient(t)
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	client.Write("rekor.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: must(x509.MarshalPKCS8PrivateKey(key))}))
	db := harness.StartMariaDB(t)
	dsn := db.NewDatabase(t)
	client.Write("trillian.dsn", []byte(dsn))
	programs := harness.NewPrograms(t, bin)
	programs.Key = client.Path("rekor.pem")
	s := &source{side: newSide("http://" + programs.Rekor(dsn)), key: key, statements: make(map[string][]string)}
	s.client.Transport.(*http.Transport).MaxIdleConnsPerHost = fillers
	took("to start rekor-server")
	s.fill(t)
	(&run{t: t, ours: s.side, theirs: s.side}).settle(dsn)
	if s.size < importSize {
		t.Fatalf("the log of rekor-server has %d entries, want at least %d", s.size, importSize)
	}
	took(fmt.Sprintf("to fill it with %d entries", s.size))
	s.read(t)
	took("to read them there")

	// An import that is killed while the source does not answer goes on behind what it
	// has written.
	gate := newGate(t, s)
	server, config := installation(t, client)
	run := []string{"import", "rekor", "--config", config, "--url", gate.URL, "--key", "file:" + client.Path("rekor.pem")}
	gate.shut.Store(importBatch + importBatch/2)
	process := client.Start("sigstack", run...)
	log := filepath.Join(server.Dir, "rekorv1", "log.db")
	await(t, "the import has 1,000 entries, and waits for others", func() bool { return written(log) == importBatch && gate.held.Load() > 0 })
	process.Kill()
	if n := written(log); n != importBatch {
		t.Fatalf("the import that was killed has %d entries, want %d", n, importBatch)
	}
	gate.shut.Store(0)
	gate.take()
	t.Logf("half an import: %s", client.Refuse("an import into the transparency log is not complete", "sigstack", "serve", "--dev", "--config", config).Output())
	took("to import half of it, and not to start on that")

	result := client.Run("sigstack", run...)
	t.Logf("the import says\n%s", result.Output())
	took("to import the rest")
	asked := gate.take()
	for index := range s.size {
		want := 1
		if index < importBatch {
			want = 0
		}
		if asked[index] != want {
			t.Fatalf("the import that went on has asked %d times for entry %d, want %d", asked[index], index, want)
		}
	}
	s.checkOutput(t, result)
	server.Restart()
	ours := newSide(server.URL)
	s.checkEntries(t, ours, true)
	took("to read each entry three times here")
	s.checkSearch(t, ours)
	took("to search on both sides")
	checkAtRest(t, client, server, config)
	took("to check it at rest")

	programs.Stop()
	server, config = installation(t, client)
	result = client.Run("sigstack", "import", "rekor", "--config", config,
		"--trillian-dsn-file", client.Path("trillian.dsn"), "--tree-id", strconv.FormatInt(s.tree, 10), "--key", "file:"+client.Path("rekor.pem"))
	took("to import it from Trillian's database")
	s.checkOutput(t, result)
	server.Restart()
	s.checkEntries(t, newSide(server.URL), false)
	checkAtRest(t, client, server, config)
	took("to read and check that")
}

// installation returns a server that was not started yet, with all keys, and its
// configuration.
func installation(t *testing.T, client *harness.Client) (*harness.Server, string) {
	t.Helper()
	addr := harness.FreeAddr(t)
	server := harness.NewServer(t, harness.Options{Args: []string{"--listen", addr}})
	config := harness.Config(t, fmt.Sprintf("url: http://%s\nlisten: %s\nops-listen: %s\ndata-dir: %s\n", addr, addr, harness.FreeAddr(t), server.Dir))
	client.Run("sigstack", "init", "--config", config)
	return server, config
}

// await asks again and again until something is true.
func await(t *testing.T, what string, f func() bool) {
	t.Helper()
	for limit := time.Now().Add(time.Minute); !f(); <-time.After(5 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

// written returns how many entries are in a log, 0 where there is none yet.
func written(file string) (n int) {
	db, err := sql.Open("sqlite", "file:"+file+"?mode=ro")
	if err != nil {
		return 0
	}
	defer db.Close()
	if db.QueryRow("SELECT size FROM log").Scan(&n) != nil {
		return 0
	}
	return n
}

// A gate stands before a source, and may stop to answer.
type gate struct {
	*httptest.Server
	shut atomic.Uint64 // requests for entries from here on get no answer; 0: all get one
	held atomic.Int64  // requests that got none

	mu    sync.Mutex     // guards what follows
	asked map[uint64]int // how often entries were asked for, by index
}

func newGate(t *testing.T, s *source) *gate {
	g := &gate{asked: make(map[uint64]int)}
	forward := httputil.NewSingleHostReverseProxy(must(url.Parse(s.url)))
	forward.Transport = s.client.Transport
	forward.ErrorHandler = func(_ http.ResponseWriter, r *http.Request, err error) {
		if r.Context().Err() == nil { // else the client is gone
			t.Error(err)
		}
	}
	g.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the client is gone
		}
		var query struct{ LogIndexes []uint64 }
		if len(body) > 0 && json.Unmarshal(body, &query) != nil {
			t.Errorf("the import asks with %q", body)
		}
		g.mu.Lock()
		for _, index := range query.LogIndexes {
			g.asked[index]++
		}
		g.mu.Unlock()
		if shut := g.shut.Load(); shut > 0 && slices.ContainsFunc(query.LogIndexes, func(index uint64) bool { return index >= shut }) {
			g.held.Add(1)
			<-r.Context().Done()
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		forward.ServeHTTP(w, r)
	}))
	t.Cleanup(g.Close)
	return g
}

// take returns what was asked for, and begins anew.
func (g *gate) take() map[uint64]int {
	g.mu.Lock()
	defer g.mu.Unlock()
	asked := g.asked
	g.asked = make(map[uint64]int)
	return asked
}

// A source is rekor-server with a log that is imported.
type source struct {
	*side
	key     *ecdsa.PrivateKey
	signers [][]byte // keys and certificates that have signed the most entries

	// statements are the search keys that entries of the kind dsse have from their
	// statements, and those of the kind helm from their provenance files, by leaf hash.
	statements map[string][]string

	root  string
	shown []shown // by index
}

// A shown entry is what a server shows of an entry.
type shown struct {
	uuid string
	harness.Answer
	Attestation struct{ Data []byte }
}

// fill posts all vectors, new entries of all kinds, and others until there are enough.
func (s *source) fill(t *testing.T) {
	t.Helper()
	special := vectors(t)
	for range freshTimes {
		special = append(special, fresh(t)...)
	}
	r := random.New(random.NewPCG(1, 1))
	r.Shuffle(len(special), func(i, j int) { special[i], special[j] = special[j], special[i] })
	m := newMaker(r)
	s.signers = m.keys
	next := make(chan proposal)
	var created, refused atomic.Int64
	var wg sync.WaitGroup
	for range fillers {
		wg.Go(func() {
			for p := range next {
				a := s.send(post(p.name, "create", pathEntries, p.body))
				switch {
				case a.status == http.StatusCreated:
					created.Add(1)
					for uuid := range entries(a.body) {
						s.mu.Lock()
						s.statements[leafOf(uuid)] = statementKeys(p.body)
						s.mu.Unlock()
					}
				case strings.HasPrefix(p.name, made):
					t.Errorf("%s is refused with %d: %s", p.name, a.status, a.body)
				default:
					refused.Add(1)
				}
			}
		})
	}
	for n := 0; (created.Load() < importSize || n < 8*len(special)) && !t.Failed(); n++ {
		if n%8 == 0 && n/8 < len(special) {
			next <- special[n/8]
		} else {
			next <- m.make()
		}
	}
	close(next)
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	t.Logf("rekor-server has taken %d entries, and refused %d of %d that are vectors or like them", created.Load(), refused.Load(), len(special))
}

// made begins the names of the entries of a maker.
const made = "made: "

// A maker makes entries that no log has seen, of the kinds that logs are full of.
type maker struct {
	random  *random.Rand
	signers []*ecdsa.PrivateKey
	keys    [][]byte // of them; every other one is a certificate
	n       int
}

func newMaker(r *random.Rand) *maker {
	m := &maker{random: r}
	for i := range 64 {
		k := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
		key := publicPEM(k)
		if i%2 == 1 {
			key = certificatePEM(k, k, nil, func(c *x509.Certificate) { c.EmailAddresses = []string{fmt.Sprintf("dev%d@example.com", i/8)} })
		}
		m.signers, m.keys = append(m.signers, k), append(m.keys, key)
	}
	return m
}

// make makes one.
func (m *maker) make() proposal {
	m.n++
	i := m.random.IntN(len(m.signers))
	k, key := m.signers[i], m.keys[i]
	artifact := fmt.Appendf(nil, "import: artifact %d", m.n)
	digest := sha256.Sum256(artifact)
	statement := marshal(object{
		"_type": "https://in-toto.io/Statement/v0.1", "predicateType": "https://slsa.dev/provenance/v0.2",
		"subject":   array{object{"name": "a", "digest": object{"sha256": hex.EncodeToString(digest[:]), "sha1": fmt.Sprintf("%040x", m.n/10)}}},
		"predicate": object{"materials": array{object{"uri": "b", "digest": object{"sha256": fmt.Sprintf("%064x", m.n/100)}}}},
	})
	const inToto = "application/vnd.in-toto+json"
	p := proposal{}
	switch n := m.random.IntN(100); {
	case n < 45:
		p = propose("hashedrekord", "0.0.1", object{
			"data":      object{"hash": object{"algorithm": "sha256", "value": hex.EncodeToString(digest[:])}},
			"signature": object{"content": sign(k, crypto.SHA256, artifact), "publicKey": object{"content": key}},
		})
	case n < 60:
		p = propose("rekord", "0.0.1", object{
			"data":      object{"content": artifact},
			"signature": object{"format": "x509", "content": sign(k, crypto.SHA256, artifact), "publicKey": object{"content": key}},
		})
	case n < 75:
		p = propose("dsse", "0.0.1", object{"proposedContent": object{"envelope": string(envelope(inToto, statement, k)), "verifiers": array{key}}})
	case n < 82:
		p = propose("intoto 0.0.1", "0.0.1", object{"content": object{"envelope": string(envelope(inToto, statement, k))}, "publicKey": key})
	case n < 92:
		p = inToto002("intoto 0.0.2", inToto, statement, func(crypto.Signer) []byte { return key }, k)
	default:
		message := cose.NewSign1Message()
		message.Headers.Protected.SetAlgorithm(cose.AlgorithmES256)
		message.Payload = artifact
		if n%2 == 0 {
			message.Headers.Protected[cose.HeaderLabelContentType], message.Payload = inToto, statement
		}
		if err := message.Sign(rand.Reader, nil, must(cose.NewSigner(cose.AlgorithmES256, k))); err != nil {
			panic(err)
		}
		p = propose("cose", "0.0.1", object{"message": must(message.MarshalCBOR()), "publicKey": publicPEM(k), "data": object{}})
	}
	p.name = fmt.Sprintf("%s%s %d", made, p.name, m.n)
	return p
}

// statementKeys returns the search keys that an entry of the kind dsse has from its
// statement, and one of the kind helm from its provenance file, none for another kind.
func statementKeys(body []byte) (keys []string) {
	var p struct {
		Kind string
		Spec struct {
			ProposedContent struct{ Envelope string }
			Chart           struct{ Provenance struct{ Content []byte } }
		}
	}
	var env struct {
		PayloadType string
		Payload     []byte
	}
	type digests struct{ Digest map[string]string }
	var statement struct {
		Subject   []digests
		Predicate struct{ Materials []digests }
	}
	if json.Unmarshal(body, &p) == nil && p.Kind == "helm" {
		return chartDigest.FindAllString(string(p.Spec.Chart.Provenance.Content), -1)
	}
	if p.Kind != "dsse" || json.Unmarshal([]byte(p.Spec.ProposedContent.Envelope), &env) != nil ||
		env.PayloadType != "application/vnd.in-toto+json" || json.Unmarshal(env.Payload, &statement) != nil {
		return nil
	}
	for _, d := range slices.Concat(statement.Subject, statement.Predicate.Materials) {
		for algorithm, digest := range d.Digest {
			keys = append(keys, strings.ToLower(algorithm+":"+digest))
		}
	}
	return keys
}

var chartDigest = regexp.MustCompile(`sha256:[0-9a-f]{64}`)

// each calls f for 0 to n-1, many at a time, and fails the test with the first of the
// errors.
func each(t *testing.T, n int, f func(i int) error) {
	t.Helper()
	next := make(chan int)
	errs := make([]error, n)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for i := range next {
				errs[i] = f(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
	errs = slices.DeleteFunc(errs, func(err error) bool { return err == nil })
	for _, err := range errs[:min(10, len(errs))] {
		t.Error(err)
	}
	if len(errs) > 0 {
		t.Fatalf("%d mistakes of that sort, in %d", len(errs), n)
	}
}

// entry returns what a server shows at a path.
func (s *side) entry(path string) (shown, error) {
	a := s.send(request{method: "GET", path: path})
	var all map[string]shown
	if err := json.Unmarshal(a.body, &all); err != nil || a.status != http.StatusOK || len(all) != 1 {
		return shown{}, fmt.Errorf("%s%s: status %d, %.300q", s.url, path, a.status, a.body)
	}
	for uuid, e := range all {
		e.uuid = uuid
		return e, nil
	}
	panic("unreachable")
}

func byIndex(i int) string { return fmt.Sprintf("%s?logIndex=%d", pathEntries, i) }

// read reads the log, whose attestations are written behind the answers.
func (s *source) read(t *testing.T) {
	t.Helper()
	var log struct{ RootHash string }
	if a := s.send(request{method: "GET", path: pathLog}); json.Unmarshal(a.body, &log) != nil {
		t.Fatalf("%s", a.body)
	}
	s.root = log.RootHash
	s.shown = make([]shown, s.size)
	each(t, len(s.shown), func(i int) (err error) {
		s.shown[i], err = s.entry(byIndex(i))
		return err
	})
	kinds := make(map[string]int)
	for i := range s.shown {
		var stored struct{ Kind, APIVersion string }
		if err := json.Unmarshal(s.shown[i].Body, &stored); err != nil {
			t.Fatal(err)
		}
		kinds[stored.Kind+" "+stored.APIVersion]++
		if stored.Kind != "intoto" && stored.Kind != "cose" {
			continue
		}
		await(t, fmt.Sprintf("entry %d has its attestation", i), func() bool {
			if len(s.shown[i].Attestation.Data) == 0 {
				s.shown[i] = must(s.entry(byIndex(i)))
			}
			return len(s.shown[i].Attestation.Data) > 0
		})
	}
	t.Logf("they are %v", kinds)
	if len(kinds) != 12 {
		t.Errorf("they are of %d kinds and versions, want all 12", len(kinds))
	}
}

// checkOutput wants that an import says that it has the tree of the source.
func (s *source) checkOutput(t *testing.T, r harness.Result) {
	t.Helper()
	if want := fmt.Sprintf("tree %d: %d entries, root %s: equal\n", s.tree, s.size, s.root); !strings.Contains(r.Stdout, want) {
		t.Fatalf("an import says\n%swant %s", r.Output(), want)
	}
}

// checkEntries compares every entry with what another server shows of it, by index and
// by both forms of its UUID.
func (s *source) checkEntries(t *testing.T, ours *side, attested bool) {
	t.Helper()
	each(t, len(s.shown), func(i int) error {
		want := s.shown[i]
		if !attested {
			want.Attestation.Data = nil
		}
		paths := []string{byIndex(i)}
		if attested { // elsewhere the UUIDs lead to the same
			paths = append(paths, pathEntries+"/"+want.uuid, pathEntries+"/"+leafOf(want.uuid))
		}
		for _, path := range paths {
			got, err := ours.entry(path)
			if err != nil {
				return err
			}
			if err := s.same(got, want); err != nil {
				return fmt.Errorf("%s: %w\n\tours   %+v\n\ttheirs %+v", path, err, got, want)
			}
		}
		return nil
	})
}

// same says what differs, beside the names of the servers and the signatures, which
// are looked at.
func (s *source) same(got, want shown) error {
	p, q := got.Verification.InclusionProof, want.Verification.InclusionProof
	switch {
	case got.uuid != want.uuid:
		return fmt.Errorf("another UUID")
	case !bytes.Equal(got.Body, want.Body):
		return fmt.Errorf("another body")
	case got.IntegratedTime != want.IntegratedTime:
		return fmt.Errorf("another time")
	case got.LogIndex != want.LogIndex:
		return fmt.Errorf("another index")
	case got.LogID != want.LogID:
		return fmt.Errorf("another log ID")
	case !bytes.Equal(got.Attestation.Data, want.Attestation.Data):
		return fmt.Errorf("another attestation")
	case p.RootHash != q.RootHash || p.RootHash != s.root || p.TreeSize != q.TreeSize || p.LogIndex != q.LogIndex || !slices.Equal(p.Hashes, q.Hashes):
		return fmt.Errorf("another inclusion proof")
	}
	tree := func(checkpoint string) []string { return slices.Collect(strings.Lines(checkpoint)) }
	if a, b := tree(p.Checkpoint), tree(q.Checkpoint); len(a) < 5 || len(b) < 5 || !slices.Equal(a[1:4], b[1:4]) {
		return fmt.Errorf("a checkpoint of another tree")
	}
	// The members are in the order and the form of RFC 8785.
	digest := sha256.Sum256(marshal(struct {
		Body           []byte `json:"body"`
		IntegratedTime int64  `json:"integratedTime"`
		LogID          string `json:"logID"`
		LogIndex       uint64 `json:"logIndex"`
	}{got.Body, got.IntegratedTime, got.LogID, got.LogIndex}))
	for _, e := range []shown{got, want} {
		if !ecdsa.VerifyASN1(&s.key.PublicKey, digest[:], e.Verification.SignedEntryTimestamp) {
			return fmt.Errorf("its signed entry timestamp does not verify")
		}
	}
	return nil
}

// search returns the UUIDs that a search finds.
func (s *side) search(query object) ([]string, error) {
	a := s.send(post("", "search", pathSearch, marshal(query)))
	var uuids []string
	if err := json.Unmarshal(a.body, &uuids); err != nil || a.status != http.StatusOK {
		return nil, fmt.Errorf("%s: search for %v: status %d, %.300q", s.url, query, a.status, a.body)
	}
	slices.Sort(uuids)
	return uuids, nil
}

// digestKey matches a search key that a search by hash may name.
var digestKey = regexp.MustCompile(`^(sha1:[0-9a-f]{40}|sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$`)

// checkSearch searches by every key of rekor-server's index, on both sides.
func (s *source) checkSearch(t *testing.T, ours *side) {
	t.Helper()
	queries := make([]object, len(s.keys))
	theirs := make([][]string, len(s.keys))
	each(t, len(s.keys), func(i int) (err error) {
		key := s.keys[i]
		switch {
		case digestKey.MatchString(key):
			queries[i] = object{"hash": key}
		case strings.Contains(key, "@") && !strings.Contains(key, "/"):
			queries[i] = object{"email": key}
		default: // such as the hash of a public key, which a search by hash cannot name
			queries[i] = object{"subject": key}
		}
		theirs[i], err = s.search(queries[i])
		if err == nil && len(theirs[i]) == 0 {
			err = fmt.Errorf("%v leads nowhere", queries[i])
		}
		return err
	})
	found := make(map[string][]string, len(s.keys))
	for i, key := range s.keys {
		found[strings.ToLower(key)] = theirs[i]
	}

	// Of a provenance file that names two charts rekor-server logs one, and finds the
	// entry by one, which need not be the same. Here it is the one that is logged.
	helm := make(map[string]bool)
	charts := make(map[string][]string)
	for _, e := range s.shown {
		var stored struct {
			Kind string
			Spec struct {
				Chart struct{ Hash struct{ Value string } }
			}
		}
		if err := json.Unmarshal(e.Body, &stored); err == nil && stored.Kind == "helm" {
			key := "sha256:" + stored.Spec.Chart.Hash.Value
			helm[e.uuid], charts[key] = true, append(charts[key], e.uuid)
		}
	}
	// What the statement of a dsse entry names is in no log: rekor-server remembers it,
	// and does not show it. So an import cannot know it.
	var unknown atomic.Int64
	want := func(key string) []string {
		key = strings.ToLower(key)
		uuids := slices.DeleteFunc(slices.Clone(found[key]), func(uuid string) bool {
			named := slices.Contains(s.statements[leafOf(uuid)], key)
			if named && !helm[uuid] {
				unknown.Add(1)
			}
			return named
		})
		uuids = append(uuids, charts[key]...)
		// The hash of a public key leads to all of its entries here; there to those of
		// some kinds with its algorithm before it, to those of others without.
		if plain, ok := strings.CutPrefix(key, "sha256:"); ok {
			uuids = append(uuids, found[plain]...)
		} else {
			uuids = append(uuids, found["sha256:"+key]...)
		}
		slices.Sort(uuids)
		return slices.Compact(uuids)
	}
	compare := func(query object, key string) error {
		got, err := ours.search(query)
		if want := want(key); err == nil && !slices.Equal(got, want) {
			err = fmt.Errorf("%v leads to %d entries, want %d: only here %s, only there %s", query, len(got), len(want), s.describe(got, want), s.describe(want, got))
		}
		return err
	}
	each(t, len(s.keys), func(i int) error { return compare(queries[i], s.keys[i]) })
	t.Logf("%d search keys; they lead to %d entries by what a dsse statement names", len(s.keys), unknown.Load())
	if unknown.Load() == 0 {
		t.Error("no dsse statement names anything")
	}
	each(t, len(s.signers), func(i int) error {
		sum := sha256.Sum256(s.signers[i])
		return compare(object{"publicKey": object{"format": "x509", "content": s.signers[i]}}, hex.EncodeToString(sum[:]))
	})
}

// describe says which entries are in one list only.
func (s *source) describe(in, notIn []string) string {
	list := make(map[string]int)
	for _, uuid := range in {
		if !slices.Contains(notIn, uuid) {
			e, _ := s.entry(pathEntries + "/" + uuid)
			list[clip(string(e.Body))]++
		}
	}
	return fmt.Sprint(slices.Sorted(maps.Keys(list)))
}

// checkAtRest stops a server, and checks its index and its files.
func checkAtRest(t *testing.T, client *harness.Client, server *harness.Server, config string) {
	t.Helper()
	server.Stop()
	t.Log(client.Run("sigstack", "index", "rebuild", "--check", "--config", config).Output())
	if r := server.Fsck(); r.Code != 0 {
		t.Errorf("fsck exits with %d\n%s", r.Code, r.Output())
	}
}
