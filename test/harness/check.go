package harness

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
)

// Evidence is what was kept of a server's life, to be compared with the server
// as it is now. Nothing may write while it is checked.
type Evidence struct {
	Server  *Server
	Records []Record
	Trees   []SeenTree

	// Elsewhere says that another replica has shown the trees.
	Elsewhere bool

	// Allow are statuses that the ledger may hold beside those of a healthy
	// server, such as 503.
	Allow []int

	// Unresolved says that the storage may have ended in the middle of a commit:
	// a certificate that was refused with 503 may have an audit row then.
	Unresolved bool

	// Dir is the data directory to look at; empty means the server's.
	Dir string

	Baseline *Figures      // what the process used before the load; nil skips I14's comparison
	MaxRSS   float64       // bytes; 0 means 512 MiB
	Rest     time.Duration // how long the process may take to come to rest; 0 means 30 s
	Leaks    *Leaks        // nil: the server's
}

// A Violation is a broken promise. Its invariant is I1 to I15 (I12 and I13 are
// of the trust root and of timestamps, which are tested elsewhere).
type Violation struct{ Invariant, Text string }

func (v Violation) String() string { return v.Invariant + ": " + v.Text }

// Verify runs Check and fails the test with what it found.
func (e *Evidence) Verify(t testing.TB) {
	t.Helper()
	report(t, e.Check(t.Context()))
}

func report(t testing.TB, found []Violation) {
	t.Helper()
	for i, v := range found {
		if i == 20 {
			t.Errorf("and %d more", len(found)-i)
			break
		}
		t.Errorf("%s", v)
	}
}

// Check compares everything, and samples nothing:
//
//	I1   every acknowledged write is found by index and by UUID, with a proof in the final checkpoint
//	I2   indexes are 0 to N-1, each for one leaf, the same in every answer
//	I3   every tree that was shown is a beginning of the final one
//	I4   signed times grow, and are those of the servers' clock
//	I5   signed entry timestamps verify, and say what the entry says
//	I6   proof and checkpoint of one answer belong together
//	I7   certificates: profile, SCT, precertificate in the CT log, audit row
//	I8   a request that was not granted left at most one precertificate, and no audit row
//	I9   duplicates are answered with the entry that is there; what is unknown is there once or not
//	I10  fsck has no finding
//	I11  the search index is what the entries imply, byte for byte
//	I14  no panic; goroutines, descriptors and memory are back to normal
//	I15  neither secrets nor internals in answers and logs
func (e *Evidence) Check(ctx context.Context) []Violation {
	c := e.checker(ctx)
	if c.trust(); len(c.found) > 0 {
		return c.found
	}
	c.statuses()
	c.rekor()
	c.rekorTrees()
	c.ct()
	c.trees(LogCT, "", c.ctFinal, c.ctRoots)
	c.certificates()
	c.index()
	c.fsck()
	c.process()
	c.leaks()
	return c.found
}

// CheckSince does the cheap part, for a server that was just restarted: the
// records and trees from the given ones on are found in the trees as they are,
// and the trees came in order.
func (e *Evidence) CheckSince(ctx context.Context, records, trees int) []Violation {
	part := *e
	part.Records, part.Trees = e.Records[records:], e.Trees[trees:]
	c := part.checker(ctx)
	if c.trust(); len(c.found) > 0 {
		return c.found
	}
	c.statuses()
	c.head()
	c.acknowledged()
	c.ctHead()
	for _, s := range c.shards {
		c.consistent(LogRekor, s.id, s.final)
	}
	c.consistent(LogCT, "", c.ctFinal)
	if !e.Elsewhere {
		c.rekorOrder()
		c.order(LogCT, "", c.ctFinal)
	}
	return c.found
}

func (e *Evidence) checker(ctx context.Context) *checker {
	c := &checker{Evidence: e, ctx: ctx, notes: map[string]error{}, leaves: map[[32]byte][]uint64{}, rekorKeys: map[string]*ecdsa.PublicKey{}, ctLeaves: map[[32]byte]uint64{}}
	c.client = &http.Client{Timeout: time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: checkWorkers}}
	if c.Leaks == nil {
		c.Leaks = e.Server.options.Leaks
	}
	if c.Dir == "" {
		c.Dir = e.Server.Dir
	}
	return c
}

// checkWorkers is how many requests of a checker are under way.
const checkWorkers = 4

type checker struct {
	*Evidence
	ctx    context.Context
	client *http.Client

	mu    sync.Mutex // guards found and notes
	found []Violation
	notes map[string]error // checkpoints whose signature was looked at

	rekorKeys   map[string]*ecdsa.PublicKey // of the trust root, by log ID
	ctKey       *ecdsa.PublicKey
	authorities []authority // of the trust root

	shards []*shard // the trees of Rekor, the oldest first
	size   uint64   // of all of them together

	bodies [][]byte // by index
	leaves map[[32]byte][]uint64

	ctFinal   SeenTree
	ctEntries []ctEntry
	ctLeaves  map[[32]byte]uint64
	ctRoots   [][]byte
}

// A shard is one tree of the transparency log.
type shard struct {
	number int    // counted from 0
	id     string // decimal
	prefix string // the same as 16 hexadecimal digits
	key    *ecdsa.PublicKey
	logID  string
	base   uint64 // index of its first entry
	final  SeenTree
	roots  [][]byte // by size
}

// shard returns the tree with an ID, or nil.
func (c *checker) shard(id string) *shard {
	for _, s := range c.shards {
		if s.id == id || s.prefix == id {
			return s
		}
	}
	return nil
}

// holding returns the tree that has an index.
func (c *checker) holding(index uint64) *shard {
	for _, s := range slices.Backward(c.shards) {
		if s.base <= index {
			return s
		}
	}
	return nil
}

func (c *checker) bad(invariant, format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.found = append(c.found, Violation{invariant, fmt.Sprintf(format, args...)})
}

// each calls f for 0 to n-1, several at a time.
func (c *checker) each(n int, f func(i int)) {
	var wg sync.WaitGroup
	next := make(chan int)
	for range checkWorkers {
		wg.Go(func() {
			for i := range next {
				f(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
	c.client.CloseIdleConnections()
}

// fetch sends a request and decodes an answer of 200.
func (c *checker) fetch(method, path string, body []byte, answer any) error {
	req, err := http.NewRequestWithContext(c.ctx, method, c.Server.URL+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := c.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	c.Leaks.answer(path, string(text))
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s: %.200s", path, res.Status, text)
	}
	if raw, ok := answer.(*[]byte); ok {
		*raw = text
		return nil
	}
	return json.Unmarshal(text, answer)
}

func (c *checker) get(path string, answer any) error {
	return c.fetch(http.MethodGet, path, nil, answer)
}

// trust reads the keys of the logs and the CA from the trust root.
func (c *checker) trust() {
	var root struct {
		Tlogs, Ctlogs          []struct{ PublicKey struct{ RawBytes []byte } }
		CertificateAuthorities []struct {
			CertChain struct{ Certificates []struct{ RawBytes []byte } }
			ValidFor  struct{ Start, End time.Time }
		}
	}
	err := c.get("/tuf/targets/trusted_root.json", &root)
	if err == nil && (len(root.Tlogs) == 0 || len(root.Ctlogs) == 0 || len(root.CertificateAuthorities) == 0) {
		err = errors.New("trusted_root.json lacks a log or a CA")
	}
	for _, log := range root.Tlogs {
		var key *ecdsa.PublicKey
		if err == nil {
			key, err = ecdsaKey(log.PublicKey.RawBytes)
		}
		id := sha256.Sum256(log.PublicKey.RawBytes)
		c.rekorKeys[hex.EncodeToString(id[:])] = key
	}
	if err == nil {
		c.ctKey, err = ecdsaKey(root.Ctlogs[0].PublicKey.RawBytes)
	}
	if err != nil {
		c.bad("I1", "the keys cannot be had: %v", err)
		return
	}
	for _, ca := range root.CertificateAuthorities {
		a := authority{start: ca.ValidFor.Start, end: ca.ValidFor.End}
		for _, raw := range ca.CertChain.Certificates {
			cert, err := x509.ParseCertificate(raw.RawBytes)
			if err != nil {
				c.bad("I7", "a chain in the trust root: %v", err)
				return
			}
			a.certs = append(a.certs, cert)
		}
		c.authorities = append(c.authorities, a)
	}
}

// An authority is a chain in the trust root, issuing certificate first.
type authority struct {
	certs      []*x509.Certificate
	start, end time.Time // when it is valid; no end is zero
}

func ecdsaKey(spki []byte) (*ecdsa.PublicKey, error) {
	key, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return nil, err
	}
	pub, ok := key.(*ecdsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("a key of type %T", key)
	}
	return pub, nil
}

// statuses says which answers a server may give at all.
func (c *checker) statuses() {
	for _, r := range c.Records {
		ok := r.Status == 0 || slices.Contains(c.Allow, r.Status)
		invariant := "I1"
		switch r.Kind {
		case KindEntry:
			ok = ok || r.Status == http.StatusCreated
		case KindDuplicate:
			// The first may have been lost.
			ok, invariant = ok || r.Status == http.StatusConflict || r.Status == http.StatusCreated, "I9"
		case KindInvalid:
			ok = ok || r.Status >= 400 && r.Status < 500
		case KindCertificate, KindSearch:
			ok = ok || r.Status == http.StatusOK
		}
		if !ok {
			c.bad(invariant, "%s %s was answered with %d: %s", r.Kind, r.Request[:min(16, len(r.Request))], r.Status, r.Error)
		}
		if r.Kind == KindSearch && r.Status == http.StatusOK && !slices.Contains(r.Found, r.UUID) {
			c.bad("I11", "a search did not find %s, which was acknowledged before", r.UUID)
		}
	}
}

// A treeInfo is what /api/v1/log says of a tree.
type treeInfo struct {
	SignedTreeHead, RootHash, TreeID string
	TreeSize                         uint64
}

// head reads the final trees of Rekor.
func (c *checker) head() {
	var info struct {
		treeInfo
		InactiveShards []treeInfo
	}
	if err := c.get("/api/v1/log", &info); err != nil {
		c.bad("I1", "the log does not answer: %v", err)
		return
	}
	for i, tree := range append(info.InactiveShards, info.treeInfo) {
		s := &shard{number: i, id: tree.TreeID, base: c.size}
		var id uint64
		_, err := fmt.Sscan(tree.TreeID, &id)
		if err == nil {
			s.final, err = parseNote(tree.SignedTreeHead)
		}
		var text []byte
		if err == nil {
			err = c.get("/api/v1/log/publicKey?treeID="+tree.TreeID, &text)
		}
		if err != nil {
			c.bad("I1", "tree %s: %v", tree.TreeID, err)
			return
		}
		s.prefix = fmt.Sprintf("%016x", id)
		if tree.TreeSize != s.final.Size || tree.RootHash != hex.EncodeToString(s.final.Root) || s.final.Tree != tree.TreeID {
			c.bad("I6", "/api/v1/log says size %d and root %s beside a checkpoint of tree %s with %d and %x", tree.TreeSize, tree.RootHash, s.final.Tree, s.final.Size, s.final.Root)
		}
		if block, _ := pem.Decode(text); block != nil {
			sum := sha256.Sum256(block.Bytes)
			s.logID = hex.EncodeToString(sum[:])
		}
		if s.key = c.rekorKeys[s.logID]; s.key == nil {
			c.bad("I5", "tree %s shows a key that the trust root has not", tree.TreeID)
			return
		}
		c.shards = append(c.shards, s)
		c.size += s.final.Size
		if err := c.note(s.final.Note); err != nil {
			c.bad("I3", "the final checkpoint of tree %s: %v", s.id, err)
		}
	}
}

// note verifies a checkpoint's signature, once.
func (c *checker) note(note string) error {
	c.mu.Lock()
	err, known := c.notes[note]
	c.mu.Unlock()
	if !known {
		if tree, perr := parseNote(note); perr != nil {
			err = perr
		} else if s := c.shard(tree.Tree); s == nil {
			err = fmt.Errorf("a checkpoint of tree %q, which the log has not", tree.Tree)
		} else {
			err = verifyNote(s.key, note)
		}
		c.mu.Lock()
		c.notes[note] = err
		c.mu.Unlock()
	}
	return err
}

// verifyNote wants text, an empty line, and a signature line with the base64 of 4
// bytes of key hash and an ASN.1 signature over the SHA-256 of the text.
func verifyNote(key *ecdsa.PublicKey, note string) error {
	text, line, ok := strings.Cut(strings.TrimSuffix(note, "\n"), "\n\n")
	signature, err := unbase64(line[strings.LastIndex(line, " ")+1:])
	if !ok || err != nil || len(signature) < 5 {
		return fmt.Errorf("not a signed note: %q", note)
	}
	digest := sha256.Sum256([]byte(text + "\n"))
	if !ecdsa.VerifyASN1(key, digest[:], signature[4:]) {
		return fmt.Errorf("the signature of the checkpoint does not verify: %q", note)
	}
	return nil
}

// perRequest is how many entries one request may ask for.
const perRequest = 10

// retrieve asks for entries by one of the members of the request, and returns
// them by UUID.
func (c *checker) retrieve(member string, values any) (map[string]Answer, error) {
	body, err := json.Marshal(map[string]any{member: values})
	if err != nil {
		return nil, err
	}
	var answers []map[string]Answer
	if err := c.fetch(http.MethodPost, pathEntries+"/retrieve", body, &answers); err != nil {
		return nil, err
	}
	out := map[string]Answer{}
	for _, a := range answers {
		for uuid, e := range a {
			if err := c.answer(uuid, e); err != nil {
				return nil, err
			}
			out[uuid] = e
		}
	}
	return out, nil
}

// answer verifies everything that one entry's answer says by itself, and adds
// what is wrong.
func (c *checker) answer(uuid string, e Answer) error {
	leaf := rfc6962.DefaultHasher.HashLeaf(e.Body)
	s := c.holding(e.LogIndex)
	if s == nil {
		return errors.New("the log has no tree")
	}
	if uuid != s.prefix+hex.EncodeToString(leaf) {
		c.bad("I1", "entry %d has the UUID %s, its tree and leaf are %s%x", e.LogIndex, uuid, s.prefix, leaf)
	}
	// The members are in the order and the form of RFC 8785.
	signed, err := json.Marshal(struct {
		Body           []byte `json:"body"`
		IntegratedTime int64  `json:"integratedTime"`
		LogID          string `json:"logID"`
		LogIndex       uint64 `json:"logIndex"`
	}{e.Body, e.IntegratedTime, e.LogID, e.LogIndex})
	if err != nil {
		return err
	}
	digest := sha256.Sum256(signed)
	if !ecdsa.VerifyASN1(s.key, digest[:], e.Verification.SignedEntryTimestamp) {
		c.bad("I5", "the SET of entry %d does not verify over what the answer says", e.LogIndex)
	}
	if e.LogID != s.logID {
		c.bad("I5", "entry %d has log ID %s, the key's is %s", e.LogIndex, e.LogID, s.logID)
	}
	p := e.Verification.InclusionProof
	tree, err := parseNote(p.Checkpoint)
	if err == nil {
		err = c.note(p.Checkpoint)
	}
	if err != nil {
		c.bad("I6", "entry %d: %v", e.LogIndex, err)
		return nil
	}
	if tree.Tree != s.id || tree.Size != p.TreeSize || hex.EncodeToString(tree.Root) != p.RootHash || p.LogIndex+s.base != e.LogIndex {
		c.bad("I6", "entry %d: its proof is for index %d in size %d and root %s, its checkpoint has %d and %x", e.LogIndex, p.LogIndex, p.TreeSize, p.RootHash, tree.Size, tree.Root)
	}
	var path [][]byte
	for _, h := range p.Hashes {
		path = append(path, unhex(h))
	}
	if err := proof.VerifyInclusion(rfc6962.DefaultHasher, p.LogIndex, tree.Size, leaf, path, tree.Root); err != nil {
		c.bad("I6", "entry %d: %v", e.LogIndex, err)
	}
	return nil
}

// rekor reads the whole log by index, and compares the ledger with it.
func (c *checker) rekor() {
	c.head()
	c.bodies = make([][]byte, c.size)
	c.each(int((c.size+perRequest-1)/perRequest), func(i int) {
		var indexes []uint64
		for n := uint64(i) * perRequest; n < min(uint64(i+1)*perRequest, c.size); n++ {
			indexes = append(indexes, n)
		}
		entries, err := c.retrieve("logIndexes", indexes)
		if err != nil {
			c.bad("I1", "reading entries %d to %d: %v", indexes[0], indexes[len(indexes)-1], err)
			return
		}
		for _, e := range entries {
			if !slices.Contains(indexes, e.LogIndex) {
				c.bad("I2", "asked for the indexes %d, the log answers with %d", indexes, e.LogIndex)
				continue
			}
			c.bodies[e.LogIndex] = e.Body
			if size, want := e.Verification.InclusionProof.TreeSize, c.holding(e.LogIndex).final.Size; size != want {
				c.bad("I1", "entry %d comes with a proof in size %d, the log has %d", e.LogIndex, size, want)
			}
		}
	})
	for i, body := range c.bodies {
		if body == nil {
			c.bad("I2", "index %d is not there, the log has %d entries", i, c.size)
			continue
		}
		leaf := [32]byte(rfc6962.DefaultHasher.HashLeaf(body))
		for _, at := range c.leaves[leaf] { // another tree may have it, too
			if c.holding(at) == c.holding(uint64(i)) {
				c.bad("I9", "leaf %x is at index %d and at %d", leaf, at, i)
			}
		}
		c.leaves[leaf] = append(c.leaves[leaf], uint64(i))
	}
	for _, s := range c.shards {
		s.roots = foldRoots(c.bodies[s.base : s.base+s.final.Size])
		if !bytes.Equal(s.roots[s.final.Size], s.final.Root) {
			c.bad("I3", "the entries of tree %s lead to root %x, the checkpoint has %x", s.id, s.roots[s.final.Size], s.final.Root)
		}
	}
	c.acknowledged()
	c.outcomes()
}

// foldRoots returns the root at each size (RFC 6962, section 2.1).
func foldRoots(values [][]byte) [][]byte {
	empty := sha256.Sum256(nil)
	roots := [][]byte{empty[:]}
	h := rfc6962.DefaultHasher
	var peaks [][]byte // of growing index, so of falling height
	for i, v := range values {
		peaks = append(peaks, h.HashLeaf(v))
		for n := i + 1; n%2 == 0; n /= 2 {
			k := len(peaks)
			peaks = append(peaks[:k-2:k-2], h.HashChildren(peaks[k-2], peaks[k-1]))
		}
		root := peaks[len(peaks)-1]
		for k := len(peaks) - 2; k >= 0; k-- {
			root = h.HashChildren(peaks[k], root)
		}
		roots = append(roots, root)
	}
	return roots
}

// acknowledged looks every write that was granted, and every duplicate, up by
// UUID, and verifies what was handed out then.
func (c *checker) acknowledged() {
	index := map[uint64]string{} // -> UUID
	wanted := map[string]*Record{}
	var uuids []string
	for i := range c.Records {
		r := &c.Records[i]
		if r.UUID == "" || r.Kind == KindSearch {
			continue
		}
		if leaf := hex.EncodeToString(r.Leaf); !strings.HasSuffix(r.UUID, leaf) || c.shard(strings.TrimSuffix(r.UUID, leaf)) == nil {
			c.bad("I9", "%s was answered with UUID %s (status %d), its leaf is %s", r.Kind, r.UUID, r.Status, leaf)
			continue
		}
		if r.Answer != nil {
			if err := c.answer(r.UUID, *r.Answer); err != nil {
				c.bad("I1", "%v", err)
			}
			if !bytes.Equal(r.Answer.Body, r.Body) {
				c.bad("I1", "entry %s was stored as %s, sent as %s", r.UUID, r.Answer.Body, r.Body)
			}
			if other, ok := index[r.Answer.LogIndex]; ok && other != r.UUID {
				c.bad("I2", "index %d was given to %s and to %s", r.Answer.LogIndex, other, r.UUID)
			}
			index[r.Answer.LogIndex] = r.UUID
			c.integrated(r)
		}
		if w, ok := wanted[r.UUID]; !ok {
			uuids = append(uuids, r.UUID)
			wanted[r.UUID] = r
		} else if w.Answer != nil && r.Answer != nil {
			c.bad("I9", "%s was added twice: at index %d and at %d", r.UUID, w.Answer.LogIndex, r.Answer.LogIndex)
		} else if r.Answer != nil {
			wanted[r.UUID] = r
		}
	}
	c.each((len(uuids)+perRequest-1)/perRequest, func(i int) {
		part := uuids[i*perRequest : min(len(uuids), (i+1)*perRequest)]
		entries, err := c.retrieve("entryUUIDs", part)
		if err != nil {
			c.bad("I1", "reading by UUID: %v", err)
			return
		}
		for _, uuid := range part {
			e, ok := entries[uuid]
			was := wanted[uuid].Answer
			switch {
			case !ok && was != nil:
				c.bad("I1", "entry %s was acknowledged at index %d and is lost", uuid, was.LogIndex)
			case !ok:
				c.bad("I9", "a duplicate was answered with %s, which is not there", uuid)
			case e.Verification.InclusionProof.TreeSize < c.shard(uuid[:16]).final.Size:
				c.bad("I1", "entry %s comes with a proof in size %d, the log has %d", uuid, e.Verification.InclusionProof.TreeSize, c.shard(uuid[:16]).final.Size)
			case was != nil && e.LogIndex != was.LogIndex:
				c.bad("I2", "entry %s was given index %d and has %d", uuid, was.LogIndex, e.LogIndex)
			case was != nil && (e.IntegratedTime != was.IntegratedTime || e.LogID != was.LogID || !bytes.Equal(e.Body, was.Body)):
				c.bad("I5", "entry %s was acknowledged with time %d and log %s, and has %d and %s", uuid, was.IntegratedTime, was.LogID, e.IntegratedTime, e.LogID)
			}
		}
	})
}

// clockError is how far a signed time may be off, beside its own precision.
const clockError = time.Second

func (c *checker) integrated(r *Record) {
	at := time.Unix(r.Answer.IntegratedTime, 0)
	if at.Add(time.Second+clockError).Before(r.Sent) || at.After(r.Received.Add(clockError)) {
		c.bad("I4", "entry %s was integrated at %s, and was asked for from %s to %s", r.UUID, at.UTC(), r.Sent.UTC(), r.Received.UTC())
	}
}

// outcomes compares requests with the leaves of the log, in both directions.
func (c *checker) outcomes() {
	asked := map[[32]byte]bool{}
	for _, r := range c.Records {
		if r.Leaf == nil {
			continue
		}
		leaf := [32]byte(r.Leaf)
		at := c.leaves[leaf]
		switch {
		case r.Kind == KindInvalid && at != nil:
			c.bad("I9", "what had to be refused is at index %d", at)
		case r.Kind != KindInvalid && (r.Status < 400 || r.Status >= 500 || r.Status == http.StatusConflict):
			asked[leaf] = true
		}
		if r.Answer != nil && !slices.Contains(at, r.Answer.LogIndex) {
			c.bad("I2", "entry %s was given index %d, which the final log has not (%d)", r.UUID, r.Answer.LogIndex, at)
		}
	}
	for leaf, at := range c.leaves {
		if !asked[leaf] {
			c.bad("I2", "index %d holds leaf %x, which nobody sent", at, leaf)
		}
	}
}

// rekorTrees compares what was recorded of Rekor's trees with their entries.
func (c *checker) rekorTrees() {
	for _, s := range c.shards {
		c.trees(LogRekor, s.id, s.final, s.roots)
	}
	c.rekorOrder()
}

// rekorOrder looks at the order in which Rekor's trees were shown: who was shown the
// next one is not shown the one before.
func (c *checker) rekorOrder() {
	number := 0
	for _, s := range c.Trees {
		if s.Log != LogRekor || !s.Polled {
			continue
		}
		tree := c.shard(s.Tree)
		if tree == nil || tree.number < number {
			c.bad("I3", "tree %q was shown, which the log has not, or after the one that follows it", s.Tree)
			continue
		}
		number = tree.number
	}
	for _, s := range c.shards {
		c.order(LogRekor, s.id, s.final)
	}
}

// trees compares what was recorded of one tree with the roots of its entries.
func (c *checker) trees(log, tree string, final SeenTree, roots [][]byte) {
	bySize := map[uint64]SeenTree{}
	for _, s := range append(slices.Clone(c.Trees), final) {
		if s.Log != log || s.Tree != tree {
			continue
		}
		if err := c.treeSignature(s); err != nil {
			c.bad("I3", "%s, size %d: %v", log, s.Size, err)
		}
		if other, ok := bySize[s.Size]; ok && !bytes.Equal(other.Root, s.Root) {
			c.bad("I3", "%s: two roots for size %d: %x and %x", log, s.Size, other.Root, s.Root)
		}
		bySize[s.Size] = s
		switch {
		case s.Size >= uint64(len(roots)):
			c.bad("I3", "%s: a tree of size %d was shown, the final one has %d", log, s.Size, final.Size)
		case !bytes.Equal(s.Root, roots[s.Size]):
			c.bad("I3", "%s: the tree of size %d had root %x, the entries lead to %x", log, s.Size, s.Root, roots[s.Size])
		}
	}
	if log == LogCT {
		c.order(log, tree, final)
	}
	c.consistent(log, tree, final)
}

func (c *checker) treeSignature(s SeenTree) error {
	if s.Log == LogRekor {
		return c.note(s.Note)
	}
	// RFC 6962, section 3.5: version, signature type 1, time, size, root.
	b := binary.BigEndian.AppendUint64([]byte{0, 1}, s.Timestamp)
	b = binary.BigEndian.AppendUint64(b, s.Size)
	return verifyDigitallySigned(c.ctKey, append(b, s.Root...), s.Signature)
}

// order looks at what the recorder was shown one after the other, and at the
// final tree: sizes and times never go back. What an answer to a write held may
// have been recorded before the poll that was asked first.
func (c *checker) order(log, tree string, final SeenTree) {
	var before *SeenTree
	for i, s := range append(slices.Clone(c.Trees), final) {
		if s.Log != log || s.Tree != tree || !s.Polled && i < len(c.Trees) {
			continue
		}
		if s.Size < s.Floor {
			c.bad("I3", "%s showed size %d after size %d had been seen", log, s.Size, s.Floor)
		}
		if before != nil && s.Size < before.Size {
			c.bad("I3", "%s showed size %d after size %d", log, s.Size, before.Size)
		}
		if log == LogCT && before != nil {
			if s.Timestamp < before.Timestamp || s.Timestamp == before.Timestamp && !s.same(*before) {
				c.bad("I4", "the CT log signed time %d for size %d after %d for size %d", s.Timestamp, s.Size, before.Timestamp, before.Size)
			}
		}
		at := time.UnixMilli(int64(s.Timestamp))
		if log == LogCT && !s.Seen.IsZero() && at.After(s.Seen.Add(clockError)) {
			c.bad("I4", "the CT log's tree head of size %d is of %s, and was shown at %s", s.Size, at.UTC(), s.Seen.UTC())
		}
		// It is signed when it is first asked for after the tree has grown.
		if log == LogCT && !s.Since.IsZero() && at.Before(s.Since.Add(-clockError)) {
			c.bad("I4", "the CT log's tree head of size %d is of %s, but another was shown at %s", s.Size, at.UTC(), s.Since.UTC())
		}
		before = &s
	}
}

// consistent has the server prove that each tree that was recorded is a
// beginning of the final one.
func (c *checker) consistent(log, tree string, final SeenTree) {
	sizes := map[uint64]SeenTree{}
	for _, s := range c.Trees {
		if s.Log == log && s.Tree == tree && s.Size > 0 {
			sizes[s.Size] = s
		}
	}
	var list []SeenTree
	for _, s := range sizes {
		list = append(list, s)
	}
	c.each(len(list), func(i int) {
		s := list[i]
		path, err := c.consistency(log, tree, s.Size, final.Size)
		if err == nil {
			err = proof.VerifyConsistency(rfc6962.DefaultHasher, s.Size, final.Size, path, s.Root, final.Root)
		}
		if err != nil {
			c.bad("I3", "%s: the tree of size %d is not a beginning of the one of size %d: %v", log, s.Size, final.Size, err)
		}
	})
}

func (c *checker) consistency(log, tree string, first, last uint64) ([][]byte, error) {
	if log == LogCT {
		var answer struct{ Consistency [][]byte }
		err := c.get(fmt.Sprintf("/ct/v1/get-sth-consistency?first=%d&second=%d", first, last), &answer)
		return answer.Consistency, err
	}
	var answer struct{ Hashes []string }
	err := c.get(fmt.Sprintf("/api/v1/log/proof?firstSize=%d&lastSize=%d&treeID=%s", first, last, tree), &answer)
	var path [][]byte
	for _, h := range answer.Hashes {
		path = append(path, unhex(h))
	}
	return path, err
}

// fsck runs the independent checker, on the files and over HTTP.
func (c *checker) fsck() {
	client := &Client{t: c.Server.t, Dir: c.Server.t.TempDir()}
	run := []Result{client.Try(Binary(c.Server.t), "fsck", "--url", c.Server.Public)}
	switch {
	case c.Server.options.DSN != "": // it reads files, not databases
	case c.Dir == c.Server.Dir:
		run = append(run, c.Server.Fsck())
	default:
		run = append(run, client.Try(Binary(c.Server.t), "fsck", "--dir", c.Dir))
	}
	for _, r := range run {
		if r.Code == 0 {
			continue
		}
		var wrong []string
		for _, line := range strings.Split(r.Output(), "\n") {
			// A crash in the middle of writing a slot leaves it torn, and the
			// next write repairs it.
			if strings.Contains(line, "WRONG") || r.Code > 1 {
				wrong = append(wrong, strings.TrimSpace(line))
			}
		}
		c.bad("I10", "fsck exits with %d: %.1000s", r.Code, strings.Join(wrong, "; "))
	}
}

// Figures are what a process uses.
type Figures struct{ Goroutines, Descriptors, RSS float64 }

// Figures reads the figures of a server.
func (s *Server) Figures() (f Figures, err error) {
	http.DefaultClient.CloseIdleConnections()
	for name, to := range map[string]*float64{"go_goroutines": &f.Goroutines, "process_open_fds": &f.Descriptors, "process_resident_memory_bytes": &f.RSS} {
		v, merr := s.Metric(name)
		*to, err = v, errors.Join(err, merr)
	}
	return f, err
}

// slack is how many goroutines and descriptors more than before may be left.
const slack = 10

// readers is how many descriptors more the storage may hold that nothing had to
// be read from before: eight connections to each of three files, with two
// descriptors each.
const readers = 3 * 8 * 2

// What a further tree of the log may use: its store with eight readers and a writer,
// the second memory, and who commits, copies and waits.
const (
	treeGoroutines  = 8
	treeDescriptors = 8*2 + 6
)

// connections is how many connections to a database it may keep, each with a
// descriptor and a goroutine.
const connections = 16 + 8

// process waits for the process to come to rest.
func (c *checker) process() {
	if panics, err := c.Server.Metric("sigstack_http_panics_total"); err != nil || panics != 0 {
		c.bad("I14", "%v recovered panics (%v)", panics, err)
	}
	limit := c.MaxRSS
	if limit == 0 {
		limit = 512 << 20
	}
	c.client.CloseIdleConnections()
	goroutines, descriptors := float64(slack), float64(slack+readers)
	if older := len(c.shards) - 1; older > 0 { // each tree of the log has a store of its own
		goroutines, descriptors = goroutines+float64(older*treeGoroutines), descriptors+float64(older*treeDescriptors)
	}
	if c.Server.options.DSN != "" {
		goroutines += connections
	}
	deadline := time.NewTimer(cmp.Or(c.Rest, 30*time.Second))
	defer deadline.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		f, err := c.Server.Figures()
		if err == nil && f.RSS <= limit && (c.Baseline == nil || f.Goroutines <= c.Baseline.Goroutines+goroutines && f.Descriptors <= c.Baseline.Descriptors+descriptors) {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			c.bad("I14", "the process uses %+v (%v), before %+v; %v bytes are allowed", f, err, c.Baseline, limit)
			return
		}
	}
}

func (c *checker) leaks() {
	if c.Leaks == nil {
		return
	}
	found, scanned := c.Leaks.Found()
	for _, f := range found {
		c.bad("I15", "%s", f)
	}
	if scanned == 0 {
		c.bad("I15", "nothing was looked at")
	}
}

func unbase64(s string) ([]byte, error) { return base64.StdEncoding.DecodeString(s) }
