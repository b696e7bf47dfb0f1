package checkpoint

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/binary"
	"math"
	"testing"

	"golang.org/x/mod/sumdb/note"
	sumdb "golang.org/x/mod/sumdb/tlog"

	"github.com/sigstack/sigstack/test/fuzz"
)

// goVerifier shows a Verifier to the note package of x/mod.
type goVerifier struct{ *Verifier }

func (v goVerifier) Name() string    { return v.name }
func (v goVerifier) KeyHash() uint32 { return binary.BigEndian.Uint32(v.hash[:]) }
func (v goVerifier) Verify(msg, sig []byte) bool {
	digest := sha256.Sum256(msg)
	return ecdsa.VerifyASN1(v.key, digest[:], sig)
}

// The key is not ours, so only what it signed may open; and what opens here
// opens as a note for the implementation that the format comes from.
func FuzzOpen(f *testing.F) {
	v := recordedVerifier(f)
	want, err := v.Open([]byte(recordedNote))
	if err != nil {
		f.Fatal(err)
	}
	const cosignature = "\u2014 witness.example.org AAAAAQIDBAU=\n"
	seeds := fuzz.Seeds(recordedNote, recordedNote+cosignature,
		recordedNote[:len(want.Body())+1]+cosignature+recordedNote[len(want.Body())+1:])
	fuzz.Run(f, seeds, v.Open, func(t *testing.T, in []byte, cp Checkpoint, err error) {
		if err != nil {
			return
		}
		if cp != want {
			t.Fatalf("forged: %+v", cp)
		}
		other, err := note.Open(in, note.VerifierList(goVerifier{v}))
		if err != nil || other.Text != string(cp.Body()) || len(other.Sigs) == 0 {
			t.Fatalf("opens here, but not for x/mod: %v", err)
		}
	})
}

// A checkpoint has one spelling, and the tree in it is what Go's checksum
// database reads under its own origin.
func FuzzParse(f *testing.F) {
	const root = "SlN+jM815lbI/BNaIkhwO6DdglG7nD+hMXQZ0exUB6s="
	seeds := fuzz.Seeds("o\n5\n"+root+"\n", "rekor.example.com - 5145302504239990339\n18446744073709551615\n"+root+"\n", "go.sum database tree\n0\n"+root+"\n")
	fuzz.Run(f, seeds, Parse, func(t *testing.T, in []byte, cp Checkpoint, err error) {
		if err == nil && !bytes.Equal(cp.Body(), in) {
			t.Fatalf("%q has a second spelling %q", in, cp.Body())
		}
		_, rest, ok := bytes.Cut(in, []byte("\n"))
		if !ok || err != nil || cp.Size > math.MaxInt64 {
			return
		}
		tree, err := sumdb.ParseTree(append([]byte("go.sum database tree\n"), rest...))
		if err != nil || uint64(tree.N) != cp.Size || tree.Hash != sumdb.Hash(cp.Root) {
			t.Fatalf("read here as %+v, by x/mod as %+v: %v", cp, tree, err)
		}
	})
}
