package fsck

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/cryptobyte"

	"github.com/sigstack/sigstack/test/fuzz"
	"github.com/sigstack/sigstack/tlog/checkpoint"
)

// verification allows for the signatures and certificates that are checked
// while an object is read.
const verification = 256 << 10

func allowVerification([]byte) int { return verification }

// An entry of a CT log: leaf_input with three bytes of length, and extra_data.
func FuzzCTEntry(f *testing.F) {
	leaf, extra, pre, clean := precert(2)
	chain := extra[3+len(pre.Raw):]
	seeds := []*fuzz.Node{
		fuzz.Seq(
			fuzz.Prefixed(3, fuzz.Leaf(leaf[:2]), fuzz.Leaf(leaf[2:10]), fuzz.Leaf(leaf[10:12]), fuzz.Leaf(leaf[12:44]), fuzz.Prefixed(3, fuzz.Look(clean.RawTBSCertificate)), fuzz.Prefixed(2)),
			fuzz.Prefixed(3, fuzz.Look(pre.Raw)), fuzz.Prefixed(3, fuzz.Prefixed(3, fuzz.Look(chain[6:]))),
		),
		fuzz.Seq(
			fuzz.Prefixed(3, fuzz.Leaf(make([]byte, 12)), fuzz.Prefixed(3, fuzz.Look(clean.Raw)), fuzz.Prefixed(2)),
			fuzz.Prefixed(3, fuzz.Prefixed(3, fuzz.Look(chain[6:]))),
		),
	}
	cut := func(in []byte) (leaf, extra []byte, ok bool) {
		s := cryptobyte.String(in)
		var head cryptobyte.String
		if !s.ReadUint24LengthPrefixed(&head) {
			return nil, nil, false
		}
		return head, s, true
	}
	type entry struct {
		leaf     ctLeaf
		problems []string
	}
	parse := func(in []byte) (entry, error) {
		leaf, extra, _ := cut(in)
		l, err := parseLeaf(leaf)
		if err != nil {
			return entry{}, err
		}
		return entry{l, checkCert(l, extra, &links{})}, nil
	}
	// Both seeds are entries that have nothing wrong.
	for i, s := range seeds {
		if e, err := parse(s.Bytes()); err != nil || len(e.problems) > 0 {
			f.Fatalf("seed %d: %v, %q", i, err, e.problems)
		}
	}
	fuzz.RunWith(f, fuzz.Options{Allow: allowVerification}, seeds, parse, func(t *testing.T, in []byte, e entry, err error) {
		if err != nil {
			return
		}
		_, extra, _ := cut(in)
		if pre, chain, err := parseExtra(extra, e.leaf.precert); err == nil {
			var again []byte
			for _, c := range chain {
				again = append(again, u24(c)...)
			}
			again = u24(again)
			if e.leaf.precert {
				again = append(u24(pre), again...)
			}
			if !bytes.Equal(again, extra) {
				t.Fatal("extra_data has two spellings")
			}
		}
		if out, err := withoutPoison(e.leaf.signed); err == nil && len(out) >= len(e.leaf.signed) {
			t.Fatal("nothing was taken away")
		}
	})
}

func FuzzNote(f *testing.F) {
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	note := must(must(checkpoint.NewSigner("localhost - 1", "localhost", key)).Sign(5, [32]byte{1}))
	type opened struct {
		cp   checkpoint.Checkpoint
		name string
	}
	parse := func(in []byte) (o opened, err error) {
		o.cp, o.name, err = openNote(in, &key.PublicKey)
		return o, err
	}
	fuzz.Run(f, fuzz.Seeds(note), parse, func(t *testing.T, in []byte, o opened, err error) {
		if err == nil && (o.cp != checkpoint.Checkpoint{Origin: "localhost - 1", Size: 5, Root: [32]byte{1}} || o.name == "") {
			t.Fatal("opened as something else")
		}
	})
}

// The second memory of a data directory, as CheckDir reads it.
func FuzzMemory(f *testing.F) {
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	signer := must(checkpoint.NewSigner("localhost - 1", "localhost", key))
	slot := func(size uint64) *fuzz.Node {
		note := must(signer.Sign(size, [32]byte{byte(size)}))
		return fuzz.Seq(fuzz.Look(note), fuzz.Leaf(make([]byte, slotSize-len(note))))
	}
	dir := f.TempDir()
	_, id, err := checkKey(&key.PublicKey)
	if err != nil {
		f.Fatal(err)
	}
	type states struct {
		all []checkpoint.Checkpoint
		out *LogReport
	}
	parse := func(in []byte) (states, error) {
		if err := os.WriteFile(filepath.Join(dir, memoryFile), in, 0o600); err != nil {
			return states{}, err
		}
		c := &dirCheck{dir: dir, out: &LogReport{}, keys: map[[4]byte]*dirKey{[4]byte(id[:4]): {&key.PublicKey, "id"}}}
		all, err := c.memory()
		return states{all, c.out}, err
	}
	seeds := []*fuzz.Node{fuzz.Seq(slot(1), slot(2)), fuzz.Seq(slot(2), fuzz.Leaf(make([]byte, slotSize))), fuzz.Leaf(make([]byte, 2*slotSize))}
	fuzz.Run(f, seeds, parse, func(t *testing.T, in []byte, s states, err error) {
		if err != nil {
			t.Fatal(err)
		}
		for _, cp := range s.all {
			if cp.Size < 1 || cp.Size > 2 || cp.Root != [32]byte{byte(cp.Size)} {
				t.Fatalf("nobody signed %+v", cp)
			}
		}
		if len(in) != 2*slotSize && len(s.out.Findings) == 0 {
			t.Fatal("a file of another size is found good")
		}
	})
}

// The public key that a log shows.
func FuzzPublicKey(f *testing.F) {
	spki := must(x509.MarshalPKIXPublicKey(must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)).Public()))
	seeds := fuzz.Seeds(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki}))
	type parsed struct {
		key *ecdsa.PublicKey
		id  [32]byte
	}
	parse := func(in []byte) (p parsed, err error) {
		p.key, p.id, err = parseKey(in)
		return p, err
	}
	fuzz.RunWith(f, fuzz.Options{Allow: allowVerification}, seeds, parse, func(t *testing.T, in []byte, p parsed, err error) {
		if err == nil && (p.key.Curve != elliptic.P256() || p.id == [32]byte{}) {
			t.Fatalf("%v", p)
		}
	})
}

func FuzzRekorAnswer(f *testing.F) {
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	seeds := fuzz.Seeds(`[{"00":{"body":"e30=","integratedTime":1,"logID":"x","logIndex":0,"verification":{"inclusionProof":{"checkpoint":"a","hashes":["00"],"logIndex":0,"rootHash":"00","treeSize":1},"signedEntryTimestamp":"AA=="}}}]`)
	parse := func(in []byte) (answer []map[string]rekorEntry, err error) {
		err = unmarshal(in, &answer)
		return answer, err
	}
	fuzz.Run(f, seeds, parse, func(t *testing.T, in []byte, answer []map[string]rekorEntry, err error) {
		if err != nil {
			return
		}
		c := &rekorCheck{key: &key.PublicKey, keyID: "y", treeID: "1", prefix: "0000000000000001"}
		for _, m := range answer {
			for uuid, e := range m {
				if len(c.entry(uuid, e, &rekorLeaf{}, make(map[string]checkpoint.Checkpoint), &Counts{})) == 0 {
					t.Fatal("an entry that nobody signed is good")
				}
			}
		}
	})
}

// The record of an audit row: what is read of it is what is compared.
func FuzzAuditRecord(f *testing.F) {
	hash := strings.Repeat("0f", 32)
	seeds := fuzz.Seeds(
		`{"serial":"7f01","san":"dev@example.com","issuer":"https://issuer.example.com","token_sha256":"`+hash+`","one_time":true,"claims":{"sub":"1"},"not_before":"2026-01-02T03:04:05Z","not_after":"2026-01-02T03:14:05Z","public_key_sha256":"`+hash+`","issuer_key_sha256":"`+hash+`"}`,
		`{"serial":"7f01","san":"dev@example.com","not_before":"2026-01-02T03:04:05Z","not_after":"2026-01-02T03:14:05Z","public_key_sha256":"`+hash+`","precert_leaf_hash":"`+hash+`"}`)
	fuzz.Run(f, seeds, parseAuditRecord, func(t *testing.T, in []byte, r auditRecord, err error) {
		if err == nil && r.what() == (auditRecord{}).what() && r.SAN != "" {
			t.Error("a record with a name says as much as one without")
		}
	})
}

// A TBSCertificate, of which serial number and key are read.
func FuzzTBS(f *testing.F) {
	_, _, pre, clean := precert(2)
	type identity struct {
		serial *big.Int
		key    [32]byte
	}
	parse := func(in []byte) (identity, error) {
		serial, key, err := parseTBS(in)
		return identity{serial, key}, err
	}
	fuzz.Run(f, fuzz.Seeds(pre.RawTBSCertificate, clean.RawTBSCertificate), parse, func(t *testing.T, in []byte, got identity, err error) {
		if err != nil {
			return
		}
		// What crypto/x509 reads as a certificate has the same two.
		der, aerr := asn1.Marshal(struct {
			TBS       asn1.RawValue
			Algorithm asn1.RawValue
			Signature asn1.BitString
		}{asn1.RawValue{FullBytes: in}, asn1.RawValue{FullBytes: algorithmOf(in)}, asn1.BitString{}})
		cert, perr := x509.ParseCertificate(der)
		if aerr == nil && perr == nil && (cert.SerialNumber.Cmp(got.serial) != 0 || sha256.Sum256(cert.RawSubjectPublicKeyInfo) != got.key) {
			t.Errorf("serial %x and key %x, crypto/x509 reads %x", got.serial, got.key, cert.SerialNumber)
		}
	})
}

// algorithmOf is the signature algorithm inside a TBSCertificate.
func algorithmOf(tbs []byte) []byte {
	var fields []asn1.RawValue
	if rest, err := asn1.Unmarshal(tbs, &fields); err != nil || len(rest) > 0 || len(fields) < 3 {
		return nil
	}
	return fields[2].FullBytes
}
