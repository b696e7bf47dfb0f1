// Package ct is a Certificate Transparency log (RFC 6962) in process: a
// [tlog.Log] with the entries, signatures and proofs of RFC 6962 on top. The
// certificate authority calls it as a function; api/ctlog shows it over HTTP.
//
// # What is logged
//
// The leaf value is a MerkleTreeLeaf (RFC 6962, section 3.4), big-endian:
//
//	version    1 byte, 0 (v1)
//	leaf type  1 byte, 0 (timestamped entry)
//	timestamp  8 bytes, milliseconds since 1970 UTC of the submission
//	entry type 2 bytes, 0 (certificate) or 1 (precertificate)
//	entry      certificate: 3 bytes of length, DER
//	           precertificate: 32 bytes SHA-256 of the issuer's
//	           SubjectPublicKeyInfo, 3 bytes of length, the TBSCertificate in
//	           DER without the poison extension and otherwise byte for byte
//	extensions 2 bytes of length, always 0
//
// Beside it, not hashed, the store keeps
//
//	signature  2 bytes of length, the DigitallySigned of the SCT
//	extra_data what get-entries returns (RFC 6962, section 4.6)
//
// The signature is stored because the same submission must get the same SCT,
// byte for byte, for ever, whatever the signer: a key in a KMS does not sign
// deterministically. It never leaves as part of extra_data.
//
// # Identity
//
// Two submissions are the same when their leaves are equal but for the
// timestamp; the identity is the SHA-256 of the leaf with timestamp zero. For
// a certificate that is as fine as a hash of its DER. For a precertificate it
// is one step coarser, on purpose: whoever sees an ECDSA signature can write
// it in a second valid way, which gives other DER around the same TBSCertificate,
// and two such submissions in one millisecond would make one leaf hash out of
// two identities.
//
// # Guarantees
//
//   - When AddChain or AddPreChain returns without error, the entry is durable
//     and included in the tree that STH signs. The maximum merge delay is zero.
//   - A resubmission returns the SCT that was returned first. What is stored is
//     compared with what was submitted: a submission never gets the SCT of
//     another entry, even where the store's idea of identity is broken.
//   - A signature by a key that is not in this process (a KMS, an HSM) is
//     verified before it is stored or returned. A key in this process is not
//     doubted; the CA verifies every SCT that it embeds all the same.
//   - STH timestamps strictly increase, and are never before the timestamp of
//     an entry in the tree. A clock that is behind them by more than
//     [tlog.MaxClockStep] is ErrUnavailable.
//   - Nothing is verified with a public key that did not come, in an unbroken
//     chain of signatures, from one of our roots: a sender cannot choose how
//     expensive a verification is.
//
// # Known holes
//
// Precertificate Signing Certificates (RFC 6962, section 3.1) are refused; the
// CA signs precertificates with its own key. The order of concurrent entries
// need not be the order of their timestamps.
package ct

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sigstack/sigstack/tlog"
)

// ErrChain is the class of everything that is wrong with a submitted chain.
// The text that wraps it says what was wrong and what would be right, and may
// be shown to whoever submitted the chain.
var ErrChain = errors.New("certificate chain refused")

// Config is what a CT log needs beside its tlog.Log.
type Config struct {
	// Signer signs SCTs and tree heads. It must be ECDSA P-256, which is what
	// all clients verify. It is the identity of the log.
	Signer crypto.Signer

	// Roots returns the certificates that a chain may end in. It is called for
	// each submission, so that a new CA needs no restart; it must be cheap and
	// safe for concurrent use, and what it returns must not be changed.
	Roots func() []*x509.Certificate

	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// A Log is a CT log. It is safe for concurrent use.
type Log struct {
	log    *tlog.Log
	signer crypto.Signer
	local  bool // the key is in this process
	key    *ecdsa.PublicKey
	id     [sha256.Size]byte
	roots  func() []*x509.Certificate
	now    func() time.Time

	links links // issuer certificates whose signature was verified

	clock struct {
		sync.Mutex
		newest uint64 // the largest timestamp of a leaf that was given out or read, in ms
	}

	sth     atomic.Pointer[SignedTreeHead] // the newest one; replaced under signing
	signing struct {
		sync.Mutex
		read uint64 // entries before this index were looked at by catchUp
	}
}

// New returns the CT log over a tlog.Log, which must hold nothing else.
func New(log *tlog.Log, cfg Config) (*Log, error) {
	key, ok := cfg.Signer.Public().(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, fmt.Errorf("CT log key of type %T: want ECDSA P-256, the only type that all clients verify", cfg.Signer.Public())
	}
	if cfg.Roots == nil {
		return nil, errors.New("CT log: no roots; want those of the CA")
	}
	spki, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, fmt.Errorf("CT log key: %w", err)
	}
	_, local := cfg.Signer.(*ecdsa.PrivateKey)
	l := &Log{log: log, signer: cfg.Signer, local: local, key: key, id: sha256.Sum256(spki), roots: cfg.Roots, now: cfg.Now}
	if l.now == nil {
		l.now = time.Now
	}
	return l, nil
}

// PublicKey returns the key that SCTs and tree heads verify with.
func (l *Log) PublicKey() crypto.PublicKey { return l.key }

// ID returns the log ID: SHA-256 of the DER SubjectPublicKeyInfo of the key
// (RFC 6962, section 3.2).
func (l *Log) ID() [sha256.Size]byte { return l.id }

// Roots returns the certificates, in DER, that a chain may end in.
func (l *Log) Roots() [][]byte {
	roots := l.roots()
	out := make([][]byte, len(roots))
	for i, c := range roots {
		out[i] = c.Raw
	}
	return out
}

// AddChain logs a certificate. The chain is the certificate that signed it and
// that one's parents in order, in DER; the root may be left out.
//
// It returns the TLS encoding of the SignedCertificateTimestamp (RFC 6962,
// section 3.2). It returns ErrChain for a chain that is refused, and the
// errors of [tlog.Log.Add].
func (l *Log) AddChain(ctx context.Context, cert []byte, chain [][]byte) (sct []byte, err error) {
	path, err := l.checkChain(cert, chain)
	if err != nil {
		return nil, err
	}
	if hasPoison(path[0]) {
		return nil, fmt.Errorf("%w: certificate 0 has the poison extension; submit a precertificate with add-pre-chain", ErrChain)
	}
	return l.add(ctx, Leaf{Type: TypeX509, Signed: cert}, x509Extra(path))
}

// AddPreChain logs a precertificate: a certificate with the poison extension.
// Otherwise it is AddChain.
func (l *Log) AddPreChain(ctx context.Context, precert []byte, chain [][]byte) (sct []byte, err error) {
	path, err := l.checkChain(precert, chain)
	if err != nil {
		return nil, err
	}
	if !hasPoison(path[0]) {
		return nil, fmt.Errorf("%w: certificate 0 has no poison extension; submit a certificate with add-chain", ErrChain)
	}
	if len(path) < 2 {
		return nil, fmt.Errorf("%w: certificate 0 is a root; want a precertificate and the certificate that signed it", ErrChain)
	}
	tbs, err := removePoison(path[0].RawTBSCertificate)
	if err != nil {
		return nil, fmt.Errorf("%w: certificate 0: %w", ErrChain, err)
	}
	leaf := Leaf{Type: TypePrecert, IssuerKeyHash: sha256.Sum256(path[1].RawSubjectPublicKeyInfo), Signed: tbs}
	return l.add(ctx, leaf, precertExtra(path))
}

// add logs a leaf, which has no timestamp yet, or finds it.
func (l *Log) add(ctx context.Context, leaf Leaf, extra []byte) ([]byte, error) {
	id := sha256.Sum256(leaf.Bytes())
	var err error
	if leaf.Timestamp, err = l.stamp(); err != nil {
		return nil, err
	}
	value := leaf.Bytes()
	// RFC 6962, section 3.2: the SCT signs version, signature type 0,
	// timestamp, entry and extensions. These are the bytes of the leaf, whose
	// leaf type is 0 as well.
	sig, err := l.sign(value)
	if err != nil {
		return nil, fmt.Errorf("%w: signing an SCT: %w", tlog.ErrUnavailable, err)
	}
	in, err := l.log.Add(ctx, tlog.Leaf{Value: value, Extra: joinExtra(sig, extra), ID: id})
	if err != nil {
		return nil, err
	}
	if !in.Dup {
		return SCT{LogID: l.id, Timestamp: leaf.Timestamp, Signature: sig}.Bytes(), nil
	}

	// It was known: the SCT is the one that was given out for what is stored,
	// if that is what was submitted.
	stored, err := l.log.Entries(ctx, in.Index, in.Index+1)
	if err != nil {
		return nil, err
	}
	was, err := ParseLeaf(stored[0].Value)
	if err != nil {
		return nil, fmt.Errorf("%w: entry %d: %w", tlog.ErrIntegrity, in.Index, err)
	}
	leaf.Timestamp = was.Timestamp
	if string(leaf.Bytes()) != string(stored[0].Value) {
		return nil, fmt.Errorf("%w: the store took a submission for entry %d, which is another one", tlog.ErrIntegrity, in.Index)
	}
	if sig, _, err = splitExtra(stored[0].Extra); err == nil {
		err = l.verify(stored[0].Value, sig)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: the stored SCT of entry %d: %w", tlog.ErrIntegrity, in.Index, err)
	}
	return SCT{LogID: l.id, Timestamp: was.Timestamp, Signature: sig}.Bytes(), nil
}

// stamp returns the timestamp for a new leaf. It never goes back.
func (l *Log) stamp() (uint64, error) {
	l.clock.Lock()
	defer l.clock.Unlock()
	t, err := l.notBefore(l.clock.newest)
	if err == nil {
		l.clock.newest = t
	}
	return t, err
}

// notBefore returns the time in ms, or floor where the clock is a little behind it.
func (l *Log) notBefore(floor uint64) (uint64, error) {
	now := uint64(max(0, l.now().UnixMilli()))
	if now >= floor {
		return now, nil
	}
	behind := time.Duration(floor-now) * time.Millisecond
	if floor-now > uint64(tlog.MaxClockStep.Milliseconds()) {
		return 0, fmt.Errorf("%w: %w: by %v", tlog.ErrUnavailable, tlog.ErrClock, behind)
	}
	return floor, nil
}

// sign returns the DigitallySigned (RFC 5246, section 4.7) over data: hash
// algorithm 4 (SHA-256), signature algorithm 3 (ECDSA), 2 bytes of length, and
// the ASN.1 DER signature.
func (l *Log) sign(data []byte) ([]byte, error) {
	digest := sha256.Sum256(data)
	der, err := l.signer.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		return nil, err
	}
	sig := append([]byte{4, 3, byte(len(der) >> 8), byte(len(der))}, der...)
	if l.local {
		return sig, nil
	}
	if err := l.verify(data, sig); err != nil {
		return nil, fmt.Errorf("what the signer returned: %w", err)
	}
	return sig, nil
}

// verify checks a DigitallySigned over data.
func (l *Log) verify(data, sig []byte) error {
	digest := sha256.Sum256(data)
	if len(sig) < 4 || sig[0] != 4 || sig[1] != 3 || int(sig[2])<<8|int(sig[3]) != len(sig)-4 {
		return errors.New("not a DigitallySigned with SHA-256 and ECDSA")
	}
	if !ecdsa.VerifyASN1(l.key, digest[:], sig[4:]) {
		return errors.New("the signature does not verify with the log's key")
	}
	return nil
}
