package mysql

import (
	"encoding/base64"
	"testing"

	"github.com/google/trillian/storage/storagepb"
	"google.golang.org/protobuf/proto"

	"github.com/sigstack/sigstack/test/fuzz"
	"github.com/sigstack/sigstack/tlog"
)

// What is read of a row is what Trillian reads of it.
func FuzzSubtree(f *testing.F) {
	row := func(leaves int) []byte {
		tile := &storagepb.SubtreeProto{Prefix: []byte{0, 0, 1}, Depth: 8, Leaves: map[string][]byte{}, InternalNodes: map[string][]byte{"BwA=": make([]byte, 32)}, InternalNodeCount: 1}
		for i := range leaves {
			hash := tlog.LeafHash([]byte{byte(i)})
			tile.Leaves[suffix(i)] = hash[:]
		}
		b, err := proto.MarshalOptions{Deterministic: true}.Marshal(tile)
		if err != nil {
			f.Fatal(err)
		}
		return b
	}
	const width = 200
	parse := func(in []byte) ([]tlog.Hash, error) { return parseSubtree(in, width) }
	fuzz.Run(f, fuzz.Seeds(row(1), row(3), row(256)), parse, func(t *testing.T, in []byte, got []tlog.Hash, err error) {
		if err != nil {
			return
		}
		var tile storagepb.SubtreeProto
		if proto.Unmarshal(in, &tile) != nil {
			return // text that is no UTF-8, in what is passed over
		}
		for i := range width {
			hash, ok := tile.Leaves[suffix(i)]
			if !ok {
				if len(got) != i {
					t.Fatalf("%d hashes, Trillian has %d", len(got), i)
				}
				return
			}
			if i >= len(got) || string(hash) != string(got[i][:]) {
				t.Fatalf("hash %d of %d is not %x", i, len(got), hash)
			}
		}
		if len(got) != width {
			t.Fatalf("%d hashes, want %d", len(got), width)
		}
	})
}

// suffix is the place of a hash as Trillian writes it.
func suffix(i int) string { return base64.StdEncoding.EncodeToString([]byte{8, byte(i)}) }
