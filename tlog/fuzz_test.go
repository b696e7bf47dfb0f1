package tlog

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"os"
	"path/filepath"
	"testing"

	"github.com/sigstack/sigstack/test/fuzz"
	"github.com/sigstack/sigstack/tlog/checkpoint"
)

// Whatever is in the file of the second memory: it opens, what it remembers
// was signed, nothing larger that was signed stands in the other slot, and the
// next write spares the slot that counts.
func FuzzMemory(f *testing.F) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	signer, err := checkpoint.NewSigner("example.com - 1", "example.com", key)
	if err != nil {
		f.Fatal(err)
	}
	const sizes = 4
	var notes [sizes][]byte
	for size := range notes {
		if notes[size], err = signer.Sign(uint64(size), Hash{byte(size)}); err != nil {
			f.Fatal(err)
		}
	}
	slot := func(note []byte) *fuzz.Node {
		return fuzz.Seq(fuzz.Look(note), fuzz.Leaf(make([]byte, slotSize-len(note))))
	}
	seeds := []*fuzz.Node{
		fuzz.Leaf(make([]byte, 2*slotSize)),
		fuzz.Seq(slot(notes[1]), slot(nil)),
		fuzz.Seq(slot(notes[2]), slot(notes[1])),
		fuzz.Seq(slot(notes[2]), slot(notes[3])),
		fuzz.Seq(slot(notes[0]), slot(notes[0])),
	}
	path := filepath.Join(f.TempDir(), "signed")
	type opened struct {
		cp   checkpoint.Checkpoint
		ok   bool
		next int64
	}
	parse := func(in []byte) (o opened, err error) {
		if err := os.WriteFile(path, in, 0o600); err != nil {
			return o, err
		}
		m, cp, ok, err := openMemory(path, signer.Verifier)
		if err != nil {
			return o, err
		}
		return opened{cp, ok, m.next}, m.close()
	}
	fuzz.Run(f, seeds, parse, func(t *testing.T, in []byte, o opened, err error) {
		if err != nil {
			t.Fatalf("it does not open: %v", err)
		}
		if o.ok && (o.cp.Size >= sizes || o.cp.Root != Hash{byte(o.cp.Size)} || o.cp.Origin != signer.Origin()) {
			t.Fatalf("nobody signed %+v", o.cp)
		}
		for n := range int64(2) {
			if int64(len(in)) < (n+1)*slotSize {
				continue
			}
			text, _, _ := bytes.Cut(in[n*slotSize:(n+1)*slotSize], []byte{0})
			for size, note := range notes {
				if !bytes.Equal(text, note) {
					continue
				}
				if !o.ok || o.cp.Size < uint64(size) {
					t.Fatalf("slot %d has size %d, remembered is %v %d", n, size, o.ok, o.cp.Size)
				}
				if other := in[(1-n)*slotSize:]; o.next == n && o.cp.Size == uint64(size) && !bytes.HasPrefix(other, text) {
					t.Fatalf("the next write destroys slot %d, which alone has size %d", n, size)
				}
			}
		}
	})
}
