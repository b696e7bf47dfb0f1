package migrate

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"

	"github.com/sigstack/sigstack/test/fuzz"
	"github.com/sigstack/sigstack/tlog"
	"github.com/sigstack/sigstack/tlog/checkpoint"
)

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func publicPEM(t testing.TB, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// signed is what a server says of a tree.
func signed(t testing.TB, key *ecdsa.PrivateKey, id int64, size uint64, root tlog.Hash) string {
	t.Helper()
	signer, err := checkpoint.NewSigner(fmt.Sprintf("rekor.example.com - %d", id), "rekor.example.com", key)
	if err != nil {
		t.Fatal(err)
	}
	note, err := signer.Sign(size, root)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf(`"rootHash":"%x","treeSize":%d,"signedTreeHead":%q,"treeID":"%d"`, root, size, note, id)
}

// What is taken of a log is signed by its key, and its sizes add up.
func FuzzLog(f *testing.F) {
	key := newKey(f)
	one, two := signed(f, key, 5, 3, tlog.Hash{1}), signed(f, key, 6, 1<<40, tlog.Hash{2})
	seeds := fuzz.Seeds("{"+one+"}", "{"+one+`,"inactiveShards":[{`+two+"}]}", `{"inactiveShards":[{`+two+"},{"+one+`}],"treeSize":0,"treeID":"7"}`)
	fuzz.Run(f, seeds, parseLog, func(t *testing.T, in []byte, infos []treeInfo, err error) {
		total := uint64(0)
		for _, info := range infos {
			total += info.TreeSize
			root, err := info.verify(&key.PublicKey)
			if err != nil {
				continue
			}
			if id := root[0]; info.TreeID != fmt.Sprint(4+id) || info.TreeSize != [...]uint64{0, 3, 1 << 40}[id] {
				t.Errorf("nobody has signed %+v", info)
			}
		}
		if total > 1<<63-1 || err != nil && infos != nil {
			t.Errorf("%d entries, %d trees (%v)", total, len(infos), err)
		}
	})
}

// Entries that are taken hash to their UUIDs, and are those that were asked for.
func FuzzEntries(f *testing.F) {
	tree := &apiTree{id: 0x1234, first: 100, logID: strings.Repeat("ab", 32)}
	entry := func(index int, body, more string) string {
		hash := tlog.LeafHash([]byte(body))
		return fmt.Sprintf(`{"%016x%s":{"body":%q,"integratedTime":1700000000,"logID":%q,"logIndex":%d%s}}`,
			tree.id, hex.EncodeToString(hash[:]), base64.StdEncoding.EncodeToString([]byte(body)), tree.logID, index, more)
	}
	attested := `,"attestation":{"data":"YXR0ZXN0YXRpb24="},"verification":{"signedEntryTimestamp":"MEUCIQ=="}`
	seeds := fuzz.Seeds("["+entry(107, "one", "")+","+entry(108, "two", attested)+"]", "["+entry(108, "two", "")+","+entry(107, "one", attested)+"]")
	parse := func(in []byte) ([]Entry, error) {
		into := make([]Entry, 2)
		return into, tree.parseEntries(in, 7, into)
	}
	fuzz.Run(f, seeds, parse, func(t *testing.T, in []byte, entries []Entry, err error) {
		if err != nil {
			return
		}
		for i, e := range entries {
			if e.Index != 7+uint64(i) || e.ID != tlog.LeafHash(e.Value) || !strings.Contains(strings.ToLower(string(in)), hex.EncodeToString(e.ID[:])) {
				t.Errorf("entry %d is %+v", i, e)
			}
		}
	})
}

// A key that is taken is one that clients verify.
func FuzzKey(f *testing.F) {
	parse := func(in []byte) (*ecdsa.PublicKey, error) {
		key, _, err := parseKey(in)
		return key, err
	}
	fuzz.Run(f, fuzz.Seeds(publicPEM(f, newKey(f))), parse, func(t *testing.T, _ []byte, key *ecdsa.PublicKey, err error) {
		if err == nil && key.Curve != elliptic.P256() {
			t.Errorf("a key of %s is taken", key.Curve.Params().Name)
		}
	})
}
