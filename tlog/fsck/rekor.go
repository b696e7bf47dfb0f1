package fsck

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/sigstack/sigstack/tlog/checkpoint"
)

// A rekorCheck is one run of CheckRekor.
type rekorCheck struct {
	client client
	out    *LogReport
	key    *ecdsa.PublicKey
	keyID  string // hex
	treeID string // decimal
	prefix string // of UUIDs: the tree ID in 16 hexadecimal digits
	offset uint64 // of the virtual index: the entries of older trees

	frozen []rekorTree // that the log names beside the one that is in use

	head      checkpoint.Checkpoint
	linked    checkpoint.Checkpoint // the last state that was shown to be consistent with head
	integrate int64                 // integratedTime of the entry before, in seconds
}

// A rekorTree is what the log says of one of its trees.
type rekorTree struct {
	RootHash       string `json:"rootHash"`
	SignedTreeHead string `json:"signedTreeHead"`
	TreeID         string `json:"treeID"`
	TreeSize       uint64 `json:"treeSize"`
}

// CheckRekor checks a Rekor v1 log. Of the tree that is in use, and of each that is
// frozen: its public key, its checkpoint, each entry by its index (body, attestation,
// UUID, SignedEntryTimestamp, inclusion proof and the checkpoint that comes with it),
// the root over all of them, and that older checkpoints are consistent with it.
func CheckRekor(ctx context.Context, o Options) (Report, error) {
	base := strings.TrimRight(o.URL, "/")
	active := &rekorCheck{client: newClient(o), out: &LogReport{Log: base, Kind: "rekor"}}
	report := Report{[]*LogReport{active.out}}
	ok, err := active.publicKey(ctx, o, "")
	if ok && err == nil {
		ok, err = active.logInfo(ctx)
	}
	checks := []*rekorCheck{active}
	if ok && err == nil {
		var offset uint64
		for _, tree := range active.frozen {
			c := &rekorCheck{client: active.client, out: &LogReport{Log: base + ", tree " + tree.TreeID, Kind: "rekor"}, offset: offset}
			offset += tree.TreeSize
			report.Logs = append(report.Logs, c.out)
			found, failed := c.publicKey(ctx, o, tree.TreeID)
			if found && failed == nil && c.begin(tree) {
				checks = append(checks, c)
			}
			err = errors.Join(err, failed)
		}
		for _, c := range checks {
			err = errors.Join(err, c.run(ctx, o, func(i int) bool { return c == owner(checks, o.Older[i]) }))
		}
	}
	if err != nil {
		err = fmt.Errorf("checking the Rekor log at %s: %w", base, err)
	}
	return report, err
}

// owner returns the check of the tree that a checkpoint says it is of, and the first
// one where that is none of them.
func owner(checks []*rekorCheck, note []byte) *rekorCheck {
	origin, _, _ := strings.Cut(string(note), "\n")
	for _, c := range checks {
		if c.head.Origin == origin {
			return c
		}
	}
	return checks[0]
}

// run checks the entries of a tree, and those of the older checkpoints that are its.
func (c *rekorCheck) run(ctx context.Context, o Options, owns func(older int) bool) error {
	f := newFold(c.out)
	f.want(c.head.Size, c.head.Root, "checkpoint")
	var older []checkpoint.Checkpoint
	for i, note := range o.Older {
		if !owns(i) {
			continue
		}
		object := fmt.Sprintf("older checkpoint %d", i)
		cp, _, err := openNote(note, c.key)
		if err != nil {
			c.out.find(object, "%v", err)
			continue
		}
		c.out.Counts.Checkpoints++
		c.out.Counts.Signatures++
		switch {
		case cp.Origin != c.head.Origin:
			c.out.find(object, "it is of log %q, not of %q", cp.Origin, c.head.Origin)
		case cp.Size > c.head.Size:
			c.out.find(object, "it has size %d, but the log has only %d entries", cp.Size, c.head.Size)
		default:
			f.want(cp.Size, cp.Root, object)
			older = append(older, cp)
		}
	}

	const batch = 10 // what one request may ask for
	windows := c.head.Size/batch + min(1, c.head.Size%batch)
	err := ordered(ctx, windows, o.Workers, func(ctx context.Context, i uint64) (rekorWindow, error) {
		return c.fetch(ctx, i*batch, min((i+1)*batch, c.head.Size))
	}, func(_ uint64, w rekorWindow) error { return c.use(ctx, f, w) })
	if err != nil && err != errFull {
		return err
	}
	if f.broken {
		c.out.find("checkpoint", "its root was not compared, because entries are missing")
	}
	for _, cp := range older {
		if err := c.link(ctx, cp); err != nil {
			return err
		}
	}
	return nil
}

// publicKey reads the key that the log shows for a tree; "" is the one in use. ok is
// false where there is none to go on with.
func (c *rekorCheck) publicKey(ctx context.Context, o Options, treeID string) (ok bool, err error) {
	others := map[[32]byte]bool{}
	if o.PublicKey != nil {
		var id [32]byte
		if c.key, id, err = checkKey(o.PublicKey); err != nil {
			return false, err
		}
		c.keyID = hex.EncodeToString(id[:])
		for _, key := range o.Others {
			_, id, err := checkKey(key)
			if err != nil {
				return false, err
			}
			others[id] = true
		}
	}
	path := "/api/v1/log/publicKey"
	if treeID != "" {
		path += "?treeID=" + url.QueryEscape(treeID)
	}
	b, err := c.client.do(ctx, "GET", path, nil)
	if err != nil && !wrong(err) {
		return false, err
	}
	shown, id, perr := parseKey(b)
	switch {
	case err != nil:
		c.out.find("public key", "%v", err)
	case perr != nil:
		c.out.find("public key", "%v", perr)
	case c.key == nil, others[id]:
		c.key, c.keyID = shown, hex.EncodeToString(id[:])
	case !c.key.Equal(shown):
		c.out.find("public key", "the log shows the key with ID %x, want %s", id, c.keyID)
	}
	c.out.KeyID = c.keyID
	return c.key != nil, nil
}

func parseKey(b []byte) (*ecdsa.PublicKey, [32]byte, error) {
	block, _ := pem.Decode(b)
	if block == nil || block.Type != "PUBLIC KEY" {
		return nil, [32]byte{}, errors.New("it is not PEM with the type PUBLIC KEY")
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, [32]byte{}, err
	}
	return checkKey(key)
}

// logInfo reads the state of the log. ok is false where there is none to go on with.
func (c *rekorCheck) logInfo(ctx context.Context) (ok bool, err error) {
	var info struct {
		InactiveShards []rekorTree `json:"inactiveShards"`
		rekorTree
	}
	if err := c.client.get(ctx, "/api/v1/log", &info); err != nil {
		if wrong(err) {
			c.out.find("log info", "%v", err)
			err = nil
		}
		return false, err
	}
	c.frozen = info.InactiveShards
	for _, tree := range c.frozen {
		c.offset += tree.TreeSize
	}
	return c.begin(info.rekorTree), nil
}

// begin takes what the log says of a tree. It returns false where there is no
// checkpoint to go on with.
func (c *rekorCheck) begin(info rekorTree) bool {
	id, err := strconv.ParseInt(info.TreeID, 10, 64)
	if err != nil || id <= 0 || strconv.FormatInt(id, 10) != info.TreeID {
		c.out.find("log info", "treeID is %.30q, want a positive decimal number", info.TreeID)
		return false
	}
	c.treeID, c.prefix = info.TreeID, fmt.Sprintf("%016x", id)
	cp, problem := c.checkpoint(info.SignedTreeHead)
	if problem != "" {
		c.out.find("checkpoint", "%s", problem)
		return false
	}
	c.out.Counts.Checkpoints++
	c.out.Counts.Signatures++
	if info.TreeSize != cp.Size || info.RootHash != hex.EncodeToString(cp.Root[:]) {
		c.out.find("log info", "it says size %d and root %.64s, its checkpoint says %d and %x", info.TreeSize, info.RootHash, cp.Size, cp.Root)
	}
	c.head, c.linked = cp, cp
	c.out.Origin, c.out.Size, c.out.Root = cp.Origin, cp.Size, cp.Root
	return true
}

// checkpoint opens a checkpoint of this log, and says what is wrong with it.
func (c *rekorCheck) checkpoint(note string) (checkpoint.Checkpoint, string) {
	cp, name, err := openNote([]byte(note), c.key)
	switch {
	case err != nil:
		return cp, err.Error()
	case cp.Origin != name+" - "+c.treeID:
		return cp, fmt.Sprintf("its origin is %q, but it is signed by %q for tree %s", cp.Origin, name, c.treeID)
	case strings.Count(note, "\n\u2014 ") != 1:
		return cp, "it has more than one signature line, which Rekor v1 clients do not take"
	}
	return cp, ""
}

// rekorEntry is an entry as Rekor v1 shows it.
type rekorEntry struct {
	Attestation *struct {
		Data []byte `json:"data"`
	} `json:"attestation"`
	Body           string `json:"body"`
	IntegratedTime int64  `json:"integratedTime"`
	LogID          string `json:"logID"`
	LogIndex       uint64 `json:"logIndex"`
	Verification   struct {
		InclusionProof struct {
			Checkpoint string   `json:"checkpoint"`
			Hashes     []string `json:"hashes"`
			LogIndex   uint64   `json:"logIndex"`
			RootHash   string   `json:"rootHash"`
			TreeSize   uint64   `json:"treeSize"`
		} `json:"inclusionProof"`
		SignedEntryTimestamp []byte `json:"signedEntryTimestamp"`
	} `json:"verification"`
}

// A rekorWindow is what was learned of some entries in a row.
type rekorWindow struct {
	entries  []rekorLeaf
	findings []Finding
	counts   Counts
}

type rekorLeaf struct {
	index     uint64
	have      bool // the entry was there and had a body
	hash      [32]byte
	integrate int64
	states    []checkpoint.Checkpoint // that came with it
}

// fetch reads and checks the entries of [begin, end).
func (c *rekorCheck) fetch(ctx context.Context, begin, end uint64) (rekorWindow, error) {
	var w rekorWindow
	var req struct {
		LogIndexes []uint64 `json:"logIndexes"`
	}
	for i := begin; i < end; i++ {
		req.LogIndexes = append(req.LogIndexes, i+c.offset)
	}
	body, err := json.Marshal(req)
	if err != nil {
		return w, err
	}
	const path = "/api/v1/log/entries/retrieve"
	var answer []map[string]rekorEntry
	b, err := c.client.do(ctx, "POST", path, body)
	if err == nil {
		err = c.client.decode(path, b, &answer)
	}
	var single []error
	if wrong(err) {
		// Which of them is it?
		answer, single = nil, make([]error, end-begin)
		for i := begin; i < end; i++ {
			var one map[string]rekorEntry
			err := c.client.get(ctx, "/api/v1/log/entries?logIndex="+strconv.FormatUint(i+c.offset, 10), &one)
			if err != nil && !wrong(err) {
				return w, err
			}
			single[i-begin] = err
			answer = append(answer, one)
		}
	} else if err != nil {
		return w, err
	}

	type named struct {
		uuid string
		e    rekorEntry
	}
	got := make(map[uint64]named)
	for _, m := range answer {
		for uuid, e := range m {
			if _, again := got[e.LogIndex]; again || e.LogIndex < begin+c.offset || e.LogIndex >= end+c.offset {
				w.findings = append(w.findings, Finding{fmt.Sprintf("entry %d", e.LogIndex), fmt.Sprintf("it was returned again, or in the place of one of the entries %d to %d", begin, end-1)})
				continue
			}
			got[e.LogIndex] = named{uuid, e}
		}
	}
	notes := make(map[string]checkpoint.Checkpoint) // those that verified
	for i := begin; i < end; i++ {
		n, ok := got[i+c.offset]
		leaf := rekorLeaf{index: i}
		object := fmt.Sprintf("entry %d", i)
		switch {
		case !ok && single != nil && single[i-begin] != nil:
			w.findings = append(w.findings, Finding{object, single[i-begin].Error()})
		case !ok:
			w.findings = append(w.findings, Finding{object, "the log did not return it"})
		default:
			w.counts.Entries++
			for _, problem := range c.entry(n.uuid, n.e, &leaf, notes, &w.counts) {
				w.findings = append(w.findings, Finding{object, problem})
			}
		}
		w.entries = append(w.entries, leaf)
	}
	return w, nil
}

// entry checks one entry by itself, fills in the leaf, and returns what is wrong.
func (c *rekorCheck) entry(uuid string, e rekorEntry, leaf *rekorLeaf, notes map[string]checkpoint.Checkpoint, counts *Counts) (problems []string) {
	bad := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	body, err := base64.StdEncoding.Strict().DecodeString(e.Body)
	if err != nil {
		bad("its body is not standard base64")
		return problems
	}
	leaf.have, leaf.hash, leaf.integrate = true, [32]byte(rfc6962.DefaultHasher.HashLeaf(body)), e.IntegratedTime
	if problem := rekorBody(body); problem != "" {
		bad("%s", problem)
	}
	if e.Attestation != nil {
		if sum := sha256.Sum256(e.Attestation.Data); attested(body) == hex.EncodeToString(sum[:]) {
			counts.Attestations++
		} else {
			bad("its attestation hashes to %x, which is not what its body says", sum)
		}
	}
	if want := c.prefix + hex.EncodeToString(leaf.hash[:]); uuid != want {
		bad("its UUID is %.80s, but its tree and body say %s", uuid, want)
	}
	if e.LogID != c.keyID {
		bad("its logID is %.64s, want %s", e.LogID, c.keyID)
	}

	// The SET signs the canonical JSON (RFC 8785) of these four members.
	text := fmt.Sprintf(`{"body":"%s","integratedTime":%d,"logID":"%s","logIndex":%d}`, e.Body, e.IntegratedTime, c.keyID, e.LogIndex)
	digest := sha256.Sum256([]byte(text))
	if ecdsa.VerifyASN1(c.key, digest[:], e.Verification.SignedEntryTimestamp) {
		counts.Signatures++
	} else {
		bad("its SignedEntryTimestamp does not verify")
	}

	p := e.Verification.InclusionProof
	if p.LogIndex != leaf.index {
		bad("its inclusion proof is for index %d", p.LogIndex)
	}
	root, err := hex.DecodeString(p.RootHash)
	if err != nil || len(root) != 32 {
		bad("the root hash of its inclusion proof is not 64 hexadecimal digits")
		return problems
	}
	cp, ok := notes[p.Checkpoint]
	if !ok {
		var problem string
		if cp, problem = c.checkpoint(p.Checkpoint); problem == "" {
			ok = true
			notes[p.Checkpoint] = cp
			counts.Signatures++
			counts.Checkpoints++
		} else {
			bad("the checkpoint of its inclusion proof: %s", problem)
		}
	}
	if ok {
		if cp.Size != p.TreeSize || !bytes.Equal(cp.Root[:], root) {
			bad("its inclusion proof is for size %d and root %x, the checkpoint beside it for %d and %x", p.TreeSize, root, cp.Size, cp.Root)
		}
		leaf.states = append(leaf.states, cp)
	}
	hashes, err := decodeHashes(p.Hashes)
	if err == nil {
		err = proof.VerifyInclusion(rfc6962.DefaultHasher, leaf.index, p.TreeSize, leaf.hash[:], hashes, root)
	}
	if err != nil {
		bad("its inclusion proof does not verify: %v", err)
	} else {
		counts.Proofs++
	}
	return problems
}

// rekorBody says what is wrong with the body of an entry: it must be an object
// with exactly a kind, a version and a spec.
func rekorBody(body []byte) string {
	var members map[string]json.RawMessage
	var kind, version string
	err := json.Unmarshal(body, &members)
	if err == nil {
		err = errors.Join(json.Unmarshal(members["kind"], &kind), json.Unmarshal(members["apiVersion"], &version))
	}
	if err != nil || len(members) != 3 || kind == "" || version == "" || !bytes.HasPrefix(members["spec"], []byte("{")) {
		return "its body is not a JSON object with exactly kind, apiVersion and spec"
	}
	return ""
}

// attested returns the hexadecimal SHA-256 of the attestation of an entry: of the
// payload of an intoto envelope, of the message of a cose entry. It is empty for
// other kinds.
func attested(body []byte) string {
	var e struct {
		Kind string `json:"kind"`
		Spec struct {
			Content struct {
				PayloadHash struct{ Algorithm, Value string } `json:"payloadHash"`
			} `json:"content"`
			Data struct {
				EnvelopeHash struct{ Algorithm, Value string } `json:"envelopeHash"`
			} `json:"data"`
		} `json:"spec"`
	}
	if json.Unmarshal(body, &e) != nil {
		return ""
	}
	hash := e.Spec.Content.PayloadHash
	if e.Kind == "cose" {
		hash = e.Spec.Data.EnvelopeHash
	}
	if e.Kind != "intoto" && e.Kind != "cose" || hash.Algorithm != "sha256" {
		return ""
	}
	return hash.Value
}

func decodeHashes(list []string) ([][]byte, error) {
	if len(list) > 64 {
		return nil, fmt.Errorf("%d hashes, want at most 64", len(list))
	}
	out := make([][]byte, len(list))
	for i, s := range list {
		h, err := hex.DecodeString(s)
		if err != nil || len(h) != 32 {
			return nil, fmt.Errorf("hash %d is not 64 hexadecimal digits", i)
		}
		out[i] = h
	}
	return out, nil
}

// use folds a window into the tree.
func (c *rekorCheck) use(ctx context.Context, f *fold, w rekorWindow) error {
	c.out.take(w.findings...)
	c.out.Counts.Entries += w.counts.Entries
	c.out.Counts.Attestations += w.counts.Attestations
	c.out.Counts.Signatures += w.counts.Signatures
	c.out.Counts.Proofs += w.counts.Proofs
	c.out.Counts.Checkpoints += w.counts.Checkpoints
	for _, leaf := range w.entries {
		if !leaf.have {
			f.broken = true
			continue
		}
		if leaf.integrate < c.integrate || leaf.integrate <= 0 {
			c.out.find(fmt.Sprintf("entry %d", leaf.index), "its integratedTime is %d, but an entry before it has %d", leaf.integrate, c.integrate)
		}
		c.integrate = max(c.integrate, leaf.integrate)
		for _, cp := range leaf.states {
			if cp != c.head && cp != c.linked {
				if err := c.link(ctx, cp); err != nil {
					return err
				}
				c.linked = cp
			}
		}
		if err := f.push(leaf.hash); err != nil {
			return err
		}
	}
	return c.out.full(f.broken)
}

// link checks that a state and the head are of one append-only log.
func (c *rekorCheck) link(ctx context.Context, cp checkpoint.Checkpoint) error {
	object := fmt.Sprintf("checkpoint of size %d", cp.Size)
	first, last := cp, c.head
	if first.Size > last.Size {
		first, last = last, first
	}
	if first.Size == last.Size {
		if first.Root != last.Root {
			c.out.find(object, "the log signed the root %x and the root %x for one size", cp.Root, c.head.Root)
		}
		return nil
	}
	if first.Size == 0 {
		return nil
	}
	var answer struct {
		Hashes []string `json:"hashes"`
	}
	err := c.client.get(ctx, fmt.Sprintf("/api/v1/log/proof?firstSize=%d&lastSize=%d&treeID=%s", first.Size, last.Size, c.treeID), &answer)
	if err != nil && !wrong(err) {
		return err
	}
	var hashes [][]byte
	if err == nil {
		hashes, err = decodeHashes(answer.Hashes)
	}
	if err == nil {
		err = proof.VerifyConsistency(rfc6962.DefaultHasher, first.Size, last.Size, hashes, first.Root[:], last.Root[:])
	}
	if err != nil {
		c.out.find(object, "it was not shown to be consistent with size %d: %v", c.head.Size, err)
	} else {
		c.out.Counts.Proofs++
	}
	return nil
}
