package ct

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/sigstack/sigstack/storage/sqlite"
	"github.com/sigstack/sigstack/tlog"
	"github.com/sigstack/sigstack/tlog/checkpoint"
)

// A testCA is a P-384 hierarchy: root, intermediate.
type testCA struct {
	root, inter       *x509.Certificate
	rootKey, interKey *ecdsa.PrivateKey
	leafKey           *ecdsa.PrivateKey
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func newKey(curve elliptic.Curve) *ecdsa.PrivateKey {
	return must(ecdsa.GenerateKey(curve, rand.Reader))
}

func newCA(name string) *testCA {
	ca := &testCA{rootKey: newKey(elliptic.P384()), interKey: newKey(elliptic.P384()), leafKey: newKey(elliptic.P256())}
	ca.root = issue(nil, ca.rootKey, ca.rootKey, caTemplate(name))
	ca.inter = issue(ca.root, ca.rootKey, ca.interKey, caTemplate(name+"-intermediate"))
	return ca
}

func caTemplate(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Unix(1700000000, 0), NotAfter: time.Unix(1700000001, 0), // expired: a log takes that
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
}

func issue(parent *x509.Certificate, parentKey, key *ecdsa.PrivateKey, t *x509.Certificate) *x509.Certificate {
	if parent == nil {
		parent = t
	}
	return must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, t, parent, key.Public(), parentKey))))
}

func leafTemplate(serial int64) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(serial), NotBefore: time.Unix(1700000000, 0), NotAfter: time.Unix(1700000600, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
		EmailAddresses:  []string{"dev@example.com"},
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 1}, Value: []byte("https://issuer.example")}},
	}
}

func poison() pkix.Extension {
	return pkix.Extension{Id: poisonOID(), Critical: true, Value: []byte{5, 0}}
}

// precert returns a precertificate and the same without poison.
func (ca *testCA) precert(serial int64) (precert, clean *x509.Certificate) {
	t := leafTemplate(serial)
	clean = issue(ca.inter, ca.interKey, ca.leafKey, t)
	// In the middle, so that there is something on both sides of the gap.
	t.ExtraExtensions = append([]pkix.Extension{poison()}, t.ExtraExtensions...)
	return issue(ca.inter, ca.interKey, ca.leafKey, t), clean
}

func (ca *testCA) chain() [][]byte { return [][]byte{ca.inter.Raw, ca.root.Raw} }

// A testLog is a CT log in a directory, and what it was made of.
type testLog struct {
	*Log
	dir    string
	key    *ecdsa.PrivateKey
	ca     *testCA
	clock  *atomic.Int64 // nanoseconds since 1970
	wrap   func(tlog.Store) tlog.Store
	signer crypto.Signer
	close  func()
}

func newTestLog(t testing.TB) *testLog {
	l := &testLog{dir: t.TempDir(), key: newKey(elliptic.P256()), ca: newCA("test"), clock: new(atomic.Int64)}
	l.signer = l.key
	l.clock.Store(1795240223_123456789)
	l.open(t)
	t.Cleanup(func() { l.close() })
	return l
}

func (l *testLog) now() time.Time { return time.Unix(0, l.clock.Load()) }

func (l *testLog) tick() { l.clock.Add(int64(time.Millisecond)) }

func (l *testLog) open(t testing.TB) {
	t.Helper()
	store := must(sqlite.Open(filepath.Join(l.dir, "log.db"), l.now))
	var s tlog.Store = store
	if l.wrap != nil {
		s = l.wrap(s)
	}
	log := must(tlog.Open(context.Background(), s, tlog.Options{
		Signer: must(checkpoint.NewSigner("localhost - 1", "localhost", l.key)),
		Memory: filepath.Join(l.dir, "signed"), Now: l.now, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}))
	l.Log = must(New(log, Config{Signer: l.signer, Now: l.now, Roots: func() []*x509.Certificate { return []*x509.Certificate{l.ca.root} }}))
	l.close = func() {
		log.Close()
		store.Close()
	}
}

func (l *testLog) reopen(t testing.TB) {
	l.close()
	l.open(t)
}

// verifySCT is a verifier of its own: it builds what RFC 6962, section 3.2
// says is signed, and the leaf of section 3.4, from a certificate (issuerKey
// nil) or a TBSCertificate, and returns the timestamp and the leaf hash.
func verifySCT(t testing.TB, pub *ecdsa.PublicKey, sct, signed, issuerKey []byte) (uint64, tlog.Hash) {
	t.Helper()
	id := sha256.Sum256(must(x509.MarshalPKIXPublicKey(pub)))
	if len(sct) < 47 || sct[0] != 0 || !bytes.Equal(sct[1:33], id[:]) || !bytes.Equal(sct[41:45], []byte{0, 0, 4, 3}) || int(binary.BigEndian.Uint16(sct[45:])) != len(sct)-47 {
		t.Fatalf("malformed SCT %x", sct)
	}
	tail := append([]byte{}, sct[33:41]...)
	if issuerKey == nil {
		tail = append(tail, 0, 0)
	} else {
		h := sha256.Sum256(issuerKey)
		tail = append(append(tail, 0, 1), h[:]...)
	}
	tail = append(tail, byte(len(signed)>>16), byte(len(signed)>>8), byte(len(signed)))
	tail = append(append(tail, signed...), 0, 0)
	digest := sha256.Sum256(append([]byte{0 /* v1 */, 0 /* certificate_timestamp */}, tail...))
	if !ecdsa.VerifyASN1(pub, digest[:], sct[47:]) {
		t.Fatal("SCT signature does not verify")
	}
	leaf := append([]byte{0 /* prefix */, 0 /* v1 */, 0 /* timestamped_entry */}, tail...)
	return binary.BigEndian.Uint64(sct[33:]), sha256.Sum256(leaf)
}

// verifySTH is a verifier of its own for RFC 6962, section 3.5.
func verifySTH(t testing.TB, pub *ecdsa.PublicKey, sth SignedTreeHead) {
	t.Helper()
	msg := append([]byte{0, 1}, binary.BigEndian.AppendUint64(nil, sth.Timestamp)...)
	msg = append(binary.BigEndian.AppendUint64(msg, sth.Size), sth.Root[:]...)
	digest := sha256.Sum256(msg)
	if len(sth.Signature) < 4 || !bytes.Equal(sth.Signature[:2], []byte{4, 3}) || !ecdsa.VerifyASN1(pub, digest[:], sth.Signature[4:]) {
		t.Fatal("STH signature does not verify")
	}
}

func raw(hashes []tlog.Hash) [][]byte {
	out := make([][]byte, len(hashes))
	for i := range hashes {
		out[i] = hashes[i][:]
	}
	return out
}

// check verifies everything that the log says about an SCT that it gave out.
func (l *testLog) check(t testing.TB, sct, signed, issuerKey []byte) uint64 {
	t.Helper()
	ctx := context.Background()
	ts, leaf := verifySCT(t, &l.key.PublicKey, sct, signed, issuerKey)
	sth := must(l.STH(ctx))
	verifySTH(t, &l.key.PublicKey, sth)
	if sth.Timestamp < ts {
		t.Fatalf("STH at %d is before the SCT at %d", sth.Timestamp, ts)
	}
	index, path, err := l.ProofByHash(ctx, leaf, sth.Size)
	if err != nil {
		t.Fatal(err)
	}
	if err := proof.VerifyInclusion(rfc6962.DefaultHasher, index, sth.Size, leaf[:], raw(path), sth.Root[:]); err != nil {
		t.Fatal(err)
	}
	return index
}

func TestPreChain(t *testing.T) {
	l := newTestLog(t)
	ctx := context.Background()
	var heads []SignedTreeHead
	heads = append(heads, must(l.STH(ctx)))
	for i := range 20 {
		pre, clean := l.ca.precert(int64(i + 1))
		chain := l.ca.chain()
		if i%2 == 1 {
			chain = chain[:1] // the root may be left out
		}
		sct, err := l.AddPreChain(ctx, pre.Raw, chain)
		if err != nil {
			t.Fatal(err)
		}
		// The TBSCertificate that x509 writes without poison is what must be signed.
		index := l.check(t, sct, clean.RawTBSCertificate, l.ca.inter.RawSubjectPublicKeyInfo)
		if index != uint64(i) {
			t.Fatalf("index %d, want %d", index, i)
		}
		heads = append(heads, must(l.STH(ctx)))
		e, path, err := l.EntryAndProof(ctx, index, index+1)
		if err != nil {
			t.Fatal(err)
		}
		want := u24(pre.Raw)
		want = append(want, u24(append(u24(l.ca.inter.Raw), u24(l.ca.root.Raw)...))...)
		if !bytes.Equal(e.ExtraData, want) {
			t.Fatal("extra_data is not the precertificate and its chain with the root")
		}
		leaf := tlog.LeafHash(e.LeafInput)
		if err := proof.VerifyInclusion(rfc6962.DefaultHasher, index, index+1, leaf[:], raw(path), heads[i+1].Root[:]); err != nil {
			t.Fatal(err)
		}
		if i%3 == 0 {
			l.tick()
		}
	}
	for i, a := range heads {
		for _, b := range heads[i+1:] {
			if b.Timestamp <= a.Timestamp || b.Size <= a.Size {
				t.Fatalf("heads at %d and %d do not grow", a.Timestamp, b.Timestamp)
			}
			p := must(l.Consistency(ctx, a.Size, b.Size))
			if a.Size == 0 {
				if len(p) != 0 {
					t.Fatal("proof from the empty tree is not empty")
				}
			} else if err := proof.VerifyConsistency(rfc6962.DefaultHasher, a.Size, b.Size, raw(p), a.Root[:], b.Root[:]); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func u24(b []byte) []byte {
	return append([]byte{byte(len(b) >> 16), byte(len(b) >> 8), byte(len(b))}, b...)
}

func TestChain(t *testing.T) {
	l := newTestLog(t)
	ctx := context.Background()
	_, clean := l.ca.precert(7)
	sct, err := l.AddChain(ctx, clean.Raw, l.ca.chain())
	if err != nil {
		t.Fatal(err)
	}
	l.check(t, sct, clean.Raw, nil)
	e := must(l.Entries(ctx, 0, 1))
	if want := u24(append(u24(l.ca.inter.Raw), u24(l.ca.root.Raw)...)); !bytes.Equal(e[0].ExtraData, want) {
		t.Fatal("extra_data is not the chain with the root")
	}
	// A root is a chain of its own.
	if sct, err = l.AddChain(ctx, l.ca.root.Raw, nil); err != nil {
		t.Fatal(err)
	}
	l.check(t, sct, l.ca.root.Raw, nil)
	if parsed := must(ParseSCT(sct)); !bytes.Equal(parsed.Bytes(), sct) || parsed.LogID != l.ID() {
		t.Fatal("ParseSCT and Bytes are not each other's reverse")
	}
	if l.PublicKey().(*ecdsa.PublicKey) != &l.key.PublicKey || !bytes.Equal(l.Roots()[0], l.ca.root.Raw) {
		t.Fatal("wrong key or roots")
	}
}

func TestResubmission(t *testing.T) {
	l := newTestLog(t)
	ctx := context.Background()
	pre, clean := l.ca.precert(1)
	submit := func() []byte {
		t.Helper()
		l.tick()
		sct, err := l.AddPreChain(ctx, pre.Raw, l.ca.chain())
		if err != nil {
			t.Fatal(err)
		}
		l.check(t, sct, clean.RawTBSCertificate, l.ca.inter.RawSubjectPublicKeyInfo)
		return sct
	}
	first := submit()
	if again := submit(); !bytes.Equal(first, again) {
		t.Fatal("resubmission got another SCT")
	}
	l.reopen(t)
	if again := submit(); !bytes.Equal(first, again) {
		t.Fatal("resubmission after a restart got another SCT")
	}
	// The same TBSCertificate under another signature that is as valid: DER
	// that differs, a leaf that does not.
	twin := respell(pre, l.ca.inter.PublicKey.(*ecdsa.PublicKey))
	if bytes.Equal(twin, pre.Raw) {
		t.Fatal("the twin does not differ")
	}
	if sct, err := l.AddPreChain(ctx, twin, l.ca.chain()); err != nil || !bytes.Equal(sct, first) {
		t.Fatalf("the twin got another SCT: %v", err)
	}
	if l.Size() != 1 {
		t.Fatalf("size %d, want 1", l.Size())
	}
}

// respell writes the ECDSA signature (r, s) of a certificate as (r, n-s).
func respell(c *x509.Certificate, pub *ecdsa.PublicKey) []byte {
	var sig struct{ R, S *big.Int }
	must(asn1.Unmarshal(c.Signature, &sig))
	sig.S.Sub(pub.Params().N, sig.S)
	var cert struct {
		TBS, Alg asn1.RawValue
		Sig      asn1.BitString
	}
	must(asn1.Unmarshal(c.Raw, &cert))
	der := must(asn1.Marshal(sig))
	cert.Sig = asn1.BitString{Bytes: der, BitLength: 8 * len(der)}
	return must(asn1.Marshal(cert))
}

func TestConcurrent(t *testing.T) {
	l := newTestLog(t)
	ctx := context.Background()
	const certs, clients = 12, 4
	type sub struct{ pre, clean *x509.Certificate }
	var subs []sub
	for i := range certs {
		pre, clean := l.ca.precert(int64(i + 1))
		subs = append(subs, sub{pre, clean})
	}
	var mu sync.Mutex
	scts := make(map[int][][]byte)
	var wg sync.WaitGroup
	for c := range clients {
		wg.Go(func() {
			for i := range certs {
				n := (i + c*3) % certs
				der := subs[n].pre.Raw
				if c%2 == 1 {
					der = respell(subs[n].pre, l.ca.inter.PublicKey.(*ecdsa.PublicKey))
				}
				sct, err := l.AddPreChain(ctx, der, l.ca.chain())
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := l.STH(ctx); err != nil {
					t.Error(err)
				}
				mu.Lock()
				scts[n] = append(scts[n], sct)
				mu.Unlock()
				l.tick()
			}
		})
	}
	wg.Wait()
	if l.Size() != certs {
		t.Fatalf("size %d, want %d", l.Size(), certs)
	}
	for n, list := range scts {
		for _, sct := range list {
			if !bytes.Equal(sct, list[0]) {
				t.Fatal("one precertificate got two SCTs")
			}
		}
		l.check(t, list[0], subs[n].clean.RawTBSCertificate, l.ca.inter.RawSubjectPublicKeyInfo)
	}
}

func TestRefusedChains(t *testing.T) {
	l := newTestLog(t)
	ctx := context.Background()
	ca, other := l.ca, newCA("test") // the same names, other keys
	stranger := newCA("stranger")
	pre, clean := ca.precert(1)
	otherPre, _ := other.precert(2)
	strangerPre, _ := stranger.precert(3)
	flipped := bytes.Clone(pre.Raw)
	flipped[len(flipped)-1] ^= 1
	odd := func(e ...pkix.Extension) []byte {
		tmpl := leafTemplate(9)
		tmpl.ExtraExtensions = e
		return issue(ca.inter, ca.interKey, ca.leafKey, tmpl).Raw
	}
	p := poison()
	p.Critical = false
	lax := odd(p)
	p = poison()
	p.Value = []byte{4, 0}
	wrong := odd(p)
	signer := caTemplate("precert signer")
	signer.UnknownExtKeyUsage = []asn1.ObjectIdentifier{{1, 3, 6, 1, 4, 1, 11129, 2, 4, 4}}
	preSigner := issue(ca.inter, ca.interKey, other.interKey, signer)
	tmpl := leafTemplate(10)
	tmpl.ExtraExtensions = []pkix.Extension{poison()}
	bySigner := issue(preSigner, other.interKey, ca.leafKey, tmpl)
	// A leaf that acts as an issuer.
	byLeaf := func() ([]byte, [][]byte) {
		end := leafTemplate(11)
		end.Subject = pkix.Name{CommonName: "leaf"}
		parent := issue(ca.inter, ca.interKey, ca.leafKey, end)
		tmpl := leafTemplate(12)
		tmpl.ExtraExtensions = []pkix.Extension{poison()}
		return issue(parent, ca.leafKey, ca.leafKey, tmpl).Raw, [][]byte{parent.Raw, ca.inter.Raw}
	}
	leafIssued, leafChain := byLeaf()
	for _, tc := range []struct {
		name  string
		cert  []byte
		chain [][]byte
		plain bool
		want  string
	}{
		{"empty", nil, nil, false, "certificate 0 does not parse"},
		{"junk", []byte("junk"), ca.chain(), false, "certificate 0 does not parse"},
		{"trailing byte", append(bytes.Clone(pre.Raw), 0), ca.chain(), false, "certificate 0 does not parse"},
		{"junk in the chain", pre.Raw, [][]byte{ca.inter.Raw, {1}}, false, "certificate 2 does not parse"},
		{"no issuer", pre.Raw, nil, false, "neither a root of this log nor issued by one"},
		{"issuer missing", pre.Raw, [][]byte{ca.root.Raw}, false, "want each signed by the next"},
		{"wrong order", pre.Raw, [][]byte{ca.root.Raw, ca.inter.Raw}, false, "want each signed by the next"},
		{"unknown root", strangerPre.Raw, stranger.chain(), false, "certificate 2 is neither a root"},
		{"unknown root left out", strangerPre.Raw, stranger.chain()[:1], false, "certificate 1 is neither a root"},
		{"same name, other root", otherPre.Raw, other.chain(), false, "certificate 2 names a root of this log"},
		{"same name, other root left out", otherPre.Raw, other.chain()[:1], false, "certificate 1 names a root of this log"},
		{"other intermediate under our root", otherPre.Raw, [][]byte{other.inter.Raw, ca.root.Raw}, false, "certificate 1 was not signed by certificate 2"},
		{"leaf of another intermediate", otherPre.Raw, ca.chain(), false, "certificate 0 was not signed by certificate 1"},
		{"flipped signature bit", flipped, ca.chain(), false, "certificate 0 was not signed by certificate 1"},
		{"issued by a leaf", leafIssued, leafChain, false, "certificate 0 was not signed by certificate 1"},
		{"chain goes on behind the root", pre.Raw, append(ca.chain(), stranger.root.Raw), false, "want each signed by the next"},
		{"too long", pre.Raw, make([][]byte, MaxChain), false, "want at most 10"},
		{"too large", make([]byte, MaxCertificate+1), nil, false, "want at most 65536"},
		{"certificate as precertificate", clean.Raw, ca.chain(), false, "no poison extension"},
		{"precertificate as certificate", pre.Raw, ca.chain(), true, "has the poison extension"},
		{"poison not critical", lax, ca.chain(), false, "not critical"},
		{"poison without NULL", wrong, ca.chain(), false, "05 00"},
		{"precertificate signing certificate", bySigner.Raw, [][]byte{preSigner.Raw, ca.inter.Raw}, false, "Precertificate Signing Certificates"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			add := l.AddPreChain
			if tc.plain {
				add = l.AddChain
			}
			sct, err := add(ctx, tc.cert, tc.chain)
			if !errors.Is(err, ErrChain) || sct != nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "\n") {
				t.Fatalf("got %x, %v; want ErrChain with %q in one line", sct, err, tc.want)
			}
		})
	}
	if l.Size() != 0 {
		t.Fatalf("refused chains were logged: size %d", l.Size())
	}
	// Ten certificates with the root are taken, eleven are not.
	parent, key := ca.inter, ca.interKey
	chain := ca.chain()
	for i := range 9 {
		next := issue(parent, key, other.interKey, caTemplate(fmt.Sprint("deep ", i)))
		tmpl := leafTemplate(int64(100 + i))
		tmpl.ExtraExtensions = []pkix.Extension{poison()}
		chain = append([][]byte{next.Raw}, chain...)
		parent, key = next, other.interKey
		_, err := l.AddPreChain(ctx, issue(parent, key, ca.leafKey, tmpl).Raw, chain[:len(chain)-1])
		if took, want := err == nil, 1+len(chain) <= MaxChain; took != want || !took && !errors.Is(err, ErrChain) {
			t.Fatalf("path of %d: %v", 1+len(chain), err)
		}
	}
}

// TestIssuersRemembered: what is remembered of a path are its issuers, once it was
// verified, and not more than some; and it vouches for nothing.
func TestIssuersRemembered(t *testing.T) {
	l := newTestLog(t)
	ctx := context.Background()
	other := newCA("other")
	foreign, _ := other.precert(1)
	if _, err := l.AddPreChain(ctx, foreign.Raw, other.chain()); !errors.Is(err, ErrChain) {
		t.Fatalf("a chain to another root: %v, want ErrChain", err)
	}
	if n := len(l.links.issuers); n != 0 {
		t.Errorf("%d issuers of a path that was refused are remembered", n)
	}
	for serial := range int64(2) {
		precert, _ := l.ca.precert(serial)
		must(l.AddPreChain(ctx, precert.Raw, l.ca.chain()))
		for _, c := range []*x509.Certificate{l.ca.inter, l.ca.root} {
			if known := l.links.issuer(c.Raw); known == nil || !known.Equal(c) {
				t.Errorf("the issuer %s of a path that was verified is not remembered", c.Subject)
			}
		}
	}
	named := *l.ca.inter
	named.PublicKey = nil // or crypto/x509 would not sign with another key
	forged := &testCA{inter: &named, interKey: other.interKey, leafKey: other.leafKey}
	precert, _ := forged.precert(9)
	if _, err := l.AddPreChain(ctx, precert.Raw, l.ca.chain()); !errors.Is(err, ErrChain) {
		t.Errorf("a precertificate that a remembered issuer has not signed: %v, want ErrChain", err)
	}
	for i := range maxIssuers + 1 {
		inter := issue(l.ca.root, l.ca.rootKey, l.ca.interKey, caTemplate(fmt.Sprint("intermediate ", i)))
		ca := &testCA{inter: inter, interKey: l.ca.interKey, leafKey: l.ca.leafKey}
		precert, _ := ca.precert(int64(i))
		must(l.AddPreChain(ctx, precert.Raw, [][]byte{inter.Raw}))
		if n := len(l.links.issuers); n > maxIssuers {
			t.Fatalf("%d issuers are remembered, want at most %d", n, maxIssuers)
		}
	}
}

// collide gives every leaf the same identity.
type collide struct{ tlog.Store }

func (c collide) Append(ctx context.Context, leaves []tlog.Leaf) ([]tlog.Placed, tlog.Head, error) {
	for i := range leaves {
		leaves[i].ID = tlog.Hash{1}
	}
	return c.Store.Append(ctx, leaves)
}

func TestIdentityCollision(t *testing.T) {
	l := newTestLog(t)
	l.wrap = func(s tlog.Store) tlog.Store { return collide{s} }
	l.reopen(t)
	ctx := context.Background()
	a, _ := l.ca.precert(1)
	b, _ := l.ca.precert(2)
	must(l.AddPreChain(ctx, a.Raw, l.ca.chain()))
	if sct, err := l.AddPreChain(ctx, b.Raw, l.ca.chain()); !errors.Is(err, tlog.ErrIntegrity) || sct != nil {
		t.Fatalf("got %x, %v; want ErrIntegrity", sct, err)
	}
}

// badSigner fails, or signs something else.
type badSigner struct {
	*ecdsa.PrivateKey
	mode *atomic.Int32
}

func (s badSigner) Sign(r io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
	switch s.mode.Load() {
	case 1:
		return nil, errors.New("the HSM is on fire")
	case 2:
		digest = make([]byte, len(digest))
	}
	return s.PrivateKey.Sign(r, digest, o)
}

func TestSignerTrouble(t *testing.T) {
	l := newTestLog(t)
	var mode atomic.Int32
	l.signer = badSigner{l.key, &mode}
	l.reopen(t)
	ctx := context.Background()
	pre, clean := l.ca.precert(1)
	for m := int32(1); m <= 2; m++ {
		mode.Store(m)
		if sct, err := l.AddPreChain(ctx, pre.Raw, l.ca.chain()); !errors.Is(err, tlog.ErrUnavailable) || sct != nil {
			t.Fatalf("got %x, %v; want ErrUnavailable", sct, err)
		}
		if _, err := l.STH(ctx); !errors.Is(err, tlog.ErrUnavailable) {
			t.Fatalf("got %v; want ErrUnavailable", err)
		}
	}
	if l.Size() != 0 {
		t.Fatal("an entry was logged without an SCT")
	}
	mode.Store(0)
	l.check(t, must(l.AddPreChain(ctx, pre.Raw, l.ca.chain())), clean.RawTBSCertificate, l.ca.inter.RawSubjectPublicKeyInfo)
}

func TestClock(t *testing.T) {
	l := newTestLog(t)
	ctx := context.Background()
	add := func(serial int64) ([]byte, error) {
		pre, _ := l.ca.precert(serial)
		return l.AddPreChain(ctx, pre.Raw, l.ca.chain())
	}
	first := must(ParseSCT(must(add(1))))
	if first.Timestamp != uint64(l.now().UnixMilli()) {
		t.Fatalf("SCT at %d, the clock says %d", first.Timestamp, l.now().UnixMilli())
	}
	h1 := must(l.STH(ctx))
	l.clock.Add(-int64(500 * time.Millisecond))
	second := must(ParseSCT(must(add(2))))
	h2 := must(l.STH(ctx))
	if second.Timestamp != first.Timestamp || h2.Timestamp <= h1.Timestamp {
		t.Fatal("a clock that is a little behind made a timestamp go back")
	}
	l.clock.Add(-int64(2 * time.Second))
	if _, err := add(3); !errors.Is(err, tlog.ErrUnavailable) || !errors.Is(err, tlog.ErrClock) {
		t.Fatalf("got %v; want ErrUnavailable and ErrClock", err)
	}
	if h := must(l.STH(ctx)); h.Timestamp != h2.Timestamp {
		t.Fatal("the head was signed again without growing")
	}
	// After a restart the entries tell where time was.
	l.reopen(t)
	if _, err := l.STH(ctx); !errors.Is(err, tlog.ErrClock) {
		t.Fatalf("got %v; want ErrClock", err)
	}
	l.clock.Add(int64(10 * time.Second))
	verifySTH(t, &l.key.PublicKey, must(l.STH(ctx)))
	must(add(4))
}

func TestNotFound(t *testing.T) {
	l := newTestLog(t)
	ctx := context.Background()
	pre, _ := l.ca.precert(1)
	must(l.AddPreChain(ctx, pre.Raw, l.ca.chain()))
	e := must(l.Entries(ctx, 0, 99))
	if len(e) != 1 {
		t.Fatalf("%d entries, want 1", len(e))
	}
	hash := tlog.LeafHash(e[0].LeafInput)
	for name, f := range map[string]func() error{
		"unknown hash":   func() error { _, _, err := l.ProofByHash(ctx, tlog.Hash{}, 1); return err },
		"size too large": func() error { _, _, err := l.ProofByHash(ctx, hash, 2); return err },
		"size too small": func() error { _, _, err := l.ProofByHash(ctx, hash, 0); return err },
		"entry":          func() error { _, err := l.Entries(ctx, 1, 2); return err },
		"empty range":    func() error { _, err := l.Entries(ctx, 1, 1); return err },
		"entry proof":    func() error { _, _, err := l.EntryAndProof(ctx, 1, 1); return err },
		"consistency":    func() error { _, err := l.Consistency(ctx, 1, 2); return err },
	} {
		if err := f(); !errors.Is(err, tlog.ErrNotFound) {
			t.Errorf("%s: %v, want ErrNotFound", name, err)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	roots := func() []*x509.Certificate { return nil }
	if _, err := New(nil, Config{Signer: newKey(elliptic.P384()), Roots: roots}); err == nil {
		t.Error("P-384 key taken")
	}
	if _, err := New(nil, Config{Signer: newKey(elliptic.P256())}); err == nil {
		t.Error("no roots taken")
	}
}

// allocated returns the bytes that f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func TestAllocationBudget(t *testing.T) {
	l := newTestLog(t)
	big := leafTemplate(5)
	big.ExtraExtensions = []pkix.Extension{poison()}
	for i := range 900 {
		big.ExtraExtensions = append(big.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3, i}, Value: make([]byte, 40)})
	}
	fat := issue(l.ca.inter, l.ca.interKey, l.ca.leafKey, big)
	leaf := Leaf{Type: TypePrecert, Signed: make([]byte, 1<<20)}.Bytes()
	for name, tc := range map[string]struct {
		size int
		f    func()
	}{
		"leaf":          {len(leaf), func() { must(ParseLeaf(leaf)) }},
		"poison":        {len(fat.RawTBSCertificate), func() { must(removePoison(fat.RawTBSCertificate)) }},
		"large precert": {len(fat.Raw), func() { must(l.checkChain(fat.Raw, l.ca.chain())) }},
		"foreign chain": {10 * len(fat.Raw), func() {
			chain := make([][]byte, 9)
			for i := range chain {
				chain[i] = fat.Raw
			}
			l.checkChain(fat.Raw, chain)
		}},
		"junk": {MaxCertificate, func() { l.checkChain(bytes.Repeat([]byte{0x30, 0x80}, MaxCertificate/2), l.ca.chain()) }},
		"sct":  {1 << 16, func() { ParseSCT(make([]byte, 1<<16)) }},
	} {
		if got, want := allocated(tc.f), uint64(10*tc.size+1<<20); got > want {
			t.Errorf("%s: %d bytes allocated for %d bytes, want at most %d", name, got, tc.size, want)
		}
	}
}

func BenchmarkAddPreChain(b *testing.B) {
	l := newTestLog(b)
	ctx := context.Background()
	pres := make([]*x509.Certificate, 500)
	for i := range pres {
		pres[i], _ = l.ca.precert(int64(i + 1))
	}
	i := 0
	for b.Loop() {
		must(l.AddPreChain(ctx, pres[i%len(pres)].Raw, l.ca.chain()))
		i++
	}
}
