package fsck

import (
	"context"
	"crypto/ecdsa"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
)

// A ctCheck is one run of CheckCT.
type ctCheck struct {
	client client
	out    *LogReport
	key    *ecdsa.PublicKey
	head   treeHead
	links  links
}

// treeHead is an answer of get-sth (RFC 6962, section 4.3).
type treeHead struct {
	Size      uint64 `json:"tree_size"`
	Timestamp uint64 `json:"timestamp"` // ms since 1970 UTC
	Root      []byte `json:"sha256_root_hash"`
	Signature []byte `json:"tree_head_signature"`
}

// verify checks the signature (RFC 6962, section 3.5).
func (h treeHead) verify(key *ecdsa.PublicKey) error {
	if len(h.Root) != 32 {
		return fmt.Errorf("its root hash has %d bytes, want 32", len(h.Root))
	}
	msg := binary.BigEndian.AppendUint64([]byte{0, 1}, h.Timestamp)
	msg = binary.BigEndian.AppendUint64(msg, h.Size)
	if !verifySigned(key, append(msg, h.Root...), h.Signature) {
		return errors.New("its signature does not verify with the log's key")
	}
	return nil
}

// CheckCT checks a CT log (RFC 6962): its tree head, each entry (well-formed,
// signed by its chain, and for a precertificate that the TBSCertificate and
// the issuer key hash are those of what was submitted), the root over all of
// them, and that older tree heads are consistent with it.
//
// Options.URL is what "/ct/v1/get-sth" is appended to.
func CheckCT(ctx context.Context, o Options) (Report, error) {
	c := &ctCheck{client: newClient(o), out: &LogReport{Log: strings.TrimRight(o.URL, "/"), Kind: "ct"}}
	err := c.run(ctx, o)
	if err != nil {
		err = fmt.Errorf("checking the CT log at %s: %w", c.out.Log, err)
	}
	return Report{[]*LogReport{c.out}}, err
}

func (c *ctCheck) run(ctx context.Context, o Options) error {
	if o.PublicKey == nil {
		return errors.New("a CT log does not show its public key; want it given")
	}
	key, id, err := checkKey(o.PublicKey)
	if err != nil {
		return err
	}
	c.key, c.out.KeyID = key, hex.EncodeToString(id[:])
	if err = c.client.get(ctx, "/ct/v1/get-sth", &c.head); err == nil {
		if bad := c.head.verify(key); bad != nil {
			c.out.find("tree head", "%v", bad)
		} else {
			c.out.Counts.Signatures++
			c.out.Counts.Checkpoints++
		}
	} else if wrong(err) {
		c.out.find("tree head", "%v", err)
		return nil
	} else {
		return err
	}
	if len(c.head.Root) != 32 {
		return nil
	}
	c.out.Size, c.out.Root = c.head.Size, [32]byte(c.head.Root)

	f := newFold(c.out)
	f.want(c.head.Size, c.out.Root, "tree head")
	var older []treeHead
	for i, b := range o.Older {
		object := fmt.Sprintf("older tree head %d", i)
		var h treeHead
		if err := unmarshal(b, &h); err != nil {
			c.out.find(object, "it is not an answer of get-sth: %v", err)
			continue
		}
		if err := h.verify(key); err != nil {
			c.out.find(object, "%v", err)
			continue
		}
		c.out.Counts.Signatures++
		c.out.Counts.Checkpoints++
		if h.Size > c.head.Size {
			c.out.find(object, "it has size %d, but the log has only %d entries", h.Size, c.head.Size)
			continue
		}
		if h.Size < c.head.Size && h.Timestamp >= c.head.Timestamp {
			c.out.find(object, "it has size %d at time %d, which is not before the larger one of size %d at %d", h.Size, h.Timestamp, c.head.Size, c.head.Timestamp)
		}
		f.want(h.Size, [32]byte(h.Root), object)
		older = append(older, h)
	}

	const batch = 1000
	err = ordered(ctx, c.head.Size/batch+min(1, c.head.Size%batch), o.Workers, func(ctx context.Context, i uint64) (ctWindow, error) {
		return c.fetch(ctx, i*batch, min((i+1)*batch, c.head.Size))
	}, func(_ uint64, w ctWindow) error {
		c.out.take(w.findings...)
		for _, hash := range w.hashes {
			if hash == nil {
				f.broken = true
				continue
			}
			c.out.Counts.Entries++
			if err := f.push(*hash); err != nil {
				return err
			}
		}
		return c.out.full(f.broken)
	})
	if err == errFull {
		return nil
	}
	if err != nil {
		return err
	}
	if f.broken {
		c.out.find("tree head", "its root was not compared, because entries are missing")
	}
	for _, h := range older {
		if err := c.link(ctx, h); err != nil {
			return err
		}
	}
	if f.wrong || f.broken {
		return c.locate(ctx, o.Workers)
	}
	return nil
}

type ctWindow struct {
	hashes   []*[32]byte // leaf hashes; nil where an entry is missing
	findings []Finding
}

type ctEntry struct {
	LeafInput []byte `json:"leaf_input"`
	ExtraData []byte `json:"extra_data"`
}

// entries asks for the entries of [begin, end) and returns those that came: at
// least one.
func (c *ctCheck) entries(ctx context.Context, begin, end uint64) ([]ctEntry, error) {
	path := fmt.Sprintf("/ct/v1/get-entries?start=%d&end=%d", begin, end-1)
	var answer struct {
		Entries []ctEntry `json:"entries"`
	}
	if err := c.client.get(ctx, path, &answer); err != nil {
		return nil, err
	}
	if n := uint64(len(answer.Entries)); n == 0 || n > end-begin {
		return nil, &garbled{c.client.base + path, fmt.Errorf("it has %d entries", n)}
	}
	return answer.Entries, nil
}

// fetch reads and checks the entries of [begin, end).
func (c *ctCheck) fetch(ctx context.Context, begin, end uint64) (ctWindow, error) {
	var w ctWindow
	step := end // up to where to ask: the next entry alone after a refusal
	for begin < end {
		got, err := c.entries(ctx, begin, max(step, begin+1))
		switch {
		case err == nil:
		case !wrong(err):
			return w, err
		case step > begin+1:
			step = begin // one by one from here
			continue
		default:
			w.findings = append(w.findings, Finding{fmt.Sprintf("entry %d", begin), err.Error()})
			w.hashes = append(w.hashes, nil)
			begin++
			continue
		}
		for _, e := range got {
			hash := [32]byte(rfc6962.DefaultHasher.HashLeaf(e.LeafInput))
			w.hashes = append(w.hashes, &hash)
			object := fmt.Sprintf("entry %d", begin)
			leaf, err := parseLeaf(e.LeafInput)
			if err != nil {
				w.findings = append(w.findings, Finding{object, err.Error()})
			} else {
				if leaf.timestamp > c.head.Timestamp {
					w.findings = append(w.findings, Finding{object, fmt.Sprintf("its timestamp is %d, which is after the tree head's, %d", leaf.timestamp, c.head.Timestamp)})
				}
				for _, problem := range checkCert(leaf, e.ExtraData, &c.links) {
					w.findings = append(w.findings, Finding{object, problem})
				}
			}
			begin++
		}
	}
	return w, nil
}

// link checks that an older tree head and the newest are of one append-only log.
func (c *ctCheck) link(ctx context.Context, h treeHead) error {
	if h.Size == 0 || h.Size == c.head.Size {
		return nil // the root was compared
	}
	var answer struct {
		Consistency [][]byte `json:"consistency"`
	}
	err := c.client.get(ctx, fmt.Sprintf("/ct/v1/get-sth-consistency?first=%d&second=%d", h.Size, c.head.Size), &answer)
	if err != nil && !wrong(err) {
		return err
	}
	if err == nil {
		err = proof.VerifyConsistency(rfc6962.DefaultHasher, h.Size, c.head.Size, answer.Consistency, h.Root, c.head.Root)
	}
	if err != nil {
		c.out.find(fmt.Sprintf("tree head of size %d", h.Size), "it was not shown to be consistent with size %d: %v", c.head.Size, err)
	} else {
		c.out.Counts.Proofs++
	}
	return nil
}

// locate names the entries that are not in the tree of the head: it asks for
// each entry and the audit path at its index, until the report is full.
func (c *ctCheck) locate(ctx context.Context, workers int) error {
	err := ordered(ctx, c.head.Size, workers, func(ctx context.Context, i uint64) (error, error) {
		entries, err := c.entries(ctx, i, i+1)
		if wrong(err) {
			return nil, nil // was found already
		}
		if err != nil {
			return nil, err
		}
		var answer struct {
			Path [][]byte `json:"audit_path"`
		}
		err = c.client.get(ctx, fmt.Sprintf("/ct/v1/get-entry-and-proof?leaf_index=%d&tree_size=%d", i, c.head.Size), &answer)
		if err == nil {
			err = proof.VerifyInclusion(rfc6962.DefaultHasher, i, c.head.Size, rfc6962.DefaultHasher.HashLeaf(entries[0].LeafInput), answer.Path, c.head.Root)
		} else if !wrong(err) {
			return nil, err
		}
		return err, nil
	}, func(i uint64, problem error) error {
		if problem == nil {
			c.out.Counts.Proofs++
			return nil
		}
		c.out.find(fmt.Sprintf("entry %d", i), "it is not in the tree that the log has signed: %v", problem)
		return c.out.full(true)
	})
	if err == errFull {
		return nil
	}
	return err
}
