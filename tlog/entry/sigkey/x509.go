package sigkey

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"sync"
	"unicode/utf8"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

const (
	// maxChain is the largest number of certificates in one key.
	maxChain = 10
	// maxChainRSABits bounds the RSA keys of a chain of more than one. Finding
	// the path through a hostile chain takes up to 100 verifications.
	maxChainRSABits = 4096
)

const (
	pemPublicKey   = "PUBLIC KEY"
	pemCertificate = "CERTIFICATE"
)

// X509 is a key of format x509: a PKIX public key, a certificate or a chain of
// certificates. The keys are RSA (1024 to 8192 bits), ECDSA on P-256, P-384
// or P-521, and Ed25519.
type X509 struct {
	pub       crypto.PublicKey
	chain     []*x509.Certificate // leaf first; empty for a bare public key
	canonical []byte
	// verifyChain verifies the chain at its first call and remembers the result.
	verifyChain func() error
}

// X509Signature is the raw bytes of a signature: ASN.1 or IEEE P1363 for
// ECDSA, PKCS #1 v1.5 for RSA, RFC 8032 for Ed25519.
type X509Signature []byte

// Canonical returns the bytes as they were sent.
func (s X509Signature) Canonical() []byte { return s }

func parseX509Signature(data []byte) (X509Signature, error) {
	if len(data) == 0 {
		return nil, errors.New("X509 signature is empty")
	}
	return X509Signature(bytes.Clone(data)), nil
}

// ParseX509 reads PEM text: one block PUBLIC KEY (RFC 5280 SubjectPublicKeyInfo)
// or one to ten blocks CERTIFICATE. The canonical text is the same blocks,
// encoded anew: no headers, no text around them, lines of 64 characters, a
// newline at the end.
func ParseX509(data []byte) (*X509, error) {
	if len(data) > MaxKeySize {
		return nil, fmt.Errorf("invalid public key: it has %d bytes, at most %d are accepted", len(data), MaxKeySize)
	}
	block, rest := pem.Decode(bytes.TrimSpace(data))
	if block == nil {
		return nil, errors.New("invalid public key: failure decoding PEM")
	}
	var k *X509
	var err error
	switch {
	case block.Type == pemPublicKey && len(rest) == 0:
		k, err = parsePKIX(block.Bytes)
	case block.Type == pemCertificate:
		k, err = parseChain(block, rest)
	case block.Type == pemPublicKey:
		return nil, errors.New("invalid public key: only certificates may follow one another, a public key must stand alone")
	default:
		return nil, foreign("", fmt.Errorf("invalid public key: cannot handle type %.64s", block.Type))
	}
	if err == nil {
		err = checkCanonical("invalid public key: it", k.canonical, MaxKeySize)
	}
	if err != nil {
		return nil, err
	}
	return k, nil
}

// p256Prefix is what comes before X and Y in the DER of a P-256 key: the
// identifiers of RFC 5480, section 2, and the header of a BIT STRING with an
// uncompressed point. The coordinates, which the parser has checked to be
// reduced, are all that differs between keys.
var p256Prefix = []byte{
	0x30, 0x59, 0x30, 0x13,
	0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, // id-ecPublicKey
	0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, // secp256r1
	0x03, 0x42, 0x00, 0x04,
}

const p256Size = 27 + 2*32

func parsePKIX(der []byte) (*X509, error) {
	pub, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, foreign("invalid public key", err)
	}
	if err := checkPublicKey(pub); err != nil {
		return nil, foreign("invalid public key", err)
	}
	// Marshalled anew: a decoder that accepts two spellings of one key must
	// not give one key two canonical texts. The commonest keys have only one.
	if !bytes.HasPrefix(der, p256Prefix) || len(der) != p256Size {
		if der, err = x509.MarshalPKIXPublicKey(pub); err != nil {
			return nil, foreign("invalid public key", err)
		}
	}
	return &X509{
		pub:         pub,
		canonical:   pem.EncodeToMemory(&pem.Block{Type: pemPublicKey, Bytes: der}),
		verifyChain: func() error { return nil },
	}, nil
}

// NewX509 returns a bare public key that was read from another format.
func NewX509(pub crypto.PublicKey) (*X509, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, foreign("invalid public key", err)
	}
	return parsePKIX(der)
}

func parseChain(block *pem.Block, rest []byte) (*X509, error) {
	k := &X509{}
	for {
		if len(k.chain) == maxChain {
			return nil, fmt.Errorf("too many certificates specified in PEM block: at most %d are accepted", maxChain)
		}
		if block.Type != pemCertificate {
			return nil, foreign("", fmt.Errorf("invalid certificate chain: PEM block of type %.64s among the certificates", block.Type))
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, foreign("invalid certificate", err)
		}
		if err := checkPublicKey(c.PublicKey); err != nil {
			return nil, foreign("invalid certificate", err)
		}
		k.chain = append(k.chain, c)
		k.canonical = append(k.canonical, pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: c.Raw})...)
		if len(rest) == 0 {
			break
		}
		if block, rest = pem.Decode(rest); block == nil {
			return nil, errors.New("invalid certificate chain: text after the last certificate")
		}
	}
	if len(k.chain) > 1 {
		for _, c := range k.chain {
			if pub, ok := c.PublicKey.(*rsa.PublicKey); ok && pub.N.BitLen() > maxChainRSABits {
				return nil, fmt.Errorf("invalid certificate chain: RSA key of %d bits, at most %d are accepted in a chain", pub.N.BitLen(), maxChainRSABits)
			}
		}
	}
	k.pub = k.chain[0].PublicKey
	k.verifyChain = sync.OnceValue(func() error { return verifyChain(k.chain) })
	return k, nil
}

// checkPublicKey refuses the keys that nothing here verifies with, and the
// ones that are too large to verify cheaply.
func checkPublicKey(pub crypto.PublicKey) error {
	switch pub := pub.(type) {
	case *rsa.PublicKey:
		if bits := pub.N.BitLen(); bits < 1024 || bits > maxRSABits {
			return fmt.Errorf("RSA key of %d bits, 1024 to %d are accepted", bits, maxRSABits)
		}
	case *ecdsa.PublicKey:
		switch pub.Curve {
		case elliptic.P256(), elliptic.P384(), elliptic.P521():
		default:
			return errors.New("ECDSA key on an unsupported curve, P-256, P-384 and P-521 are accepted")
		}
	case ed25519.PublicKey:
	default:
		return fmt.Errorf("unsupported public key type %T", pub)
	}
	return nil
}

// Canonical implements [Key].
func (k *X509) Canonical() []byte { return k.canonical }

// PublicKey returns the key that verifies: *rsa.PublicKey, *ecdsa.PublicKey or
// ed25519.PublicKey.
func (k *X509) PublicKey() crypto.PublicKey { return k.pub }

// Certificate returns the certificate that the key is in, the first of a chain;
// nil for a bare public key.
func (k *X509) Certificate() *x509.Certificate {
	if len(k.chain) == 0 {
		return nil
	}
	return k.chain[0]
}

// Verify implements [Key]: SHA-256 for RSA (PKCS #1 v1.5) and for ECDSA on
// every curve, the message itself for Ed25519. A chain must verify, see
// [X509.VerifyDigest].
func (k *X509) Verify(message []byte, sig Signature) error {
	s, ok := sig.(X509Signature)
	if !ok {
		return mismatch(FormatX509, sig)
	}
	if pub, ok := k.pub.(ed25519.PublicKey); ok {
		if err := k.verifyChain(); err != nil {
			return err
		}
		if !ed25519.Verify(pub, message, s) {
			return errors.New("failed to verify signature")
		}
		return nil
	}
	digest := sha256.Sum256(message)
	return k.VerifyDigest(crypto.SHA256, digest[:], s)
}

// VerifyDigest verifies sig over a digest that somebody else computed with h,
// whose size len(digest) must be. RSA is PKCS #1 v1.5. An Ed25519 key verifies
// Ed25519ph (RFC 8032, section 5.1), which needs SHA-512.
//
// If the key is a chain, its leaf must lead to the last certificate, which is
// taken as the root, through those between. The clock is the leaf's NotBefore
// and every extended key usage is accepted, so a chain stays as valid as it was.
func (k *X509) VerifyDigest(h crypto.Hash, digest []byte, sig X509Signature) error {
	if err := k.verifyChain(); err != nil {
		return err
	}
	if len(digest) != h.Size() {
		return errors.New("unexpected length of digest for hash function specified")
	}
	switch pub := k.pub.(type) {
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(pub, h, digest, sig)
	case *ecdsa.PublicKey:
		return verifyECDSA(pub, digest, sig)
	case ed25519.PublicKey:
		if h != crypto.SHA512 {
			return fmt.Errorf("Ed25519ph needs SHA-512, not %s", h)
		}
		if err := ed25519.VerifyWithOptions(pub, digest, sig, &ed25519.Options{Hash: crypto.SHA512}); err != nil {
			return foreign("failed to verify signature", err)
		}
		return nil
	}
	return fmt.Errorf("unsupported public key type %T", k.pub)
}

// VerifyChain returns nil unless the key is a chain that does not verify. It is
// for callers who verify with [X509.PublicKey]; Verify and VerifyDigest call it.
func (k *X509) VerifyChain() error { return k.verifyChain() }

// verifyECDSA accepts the ASN.1 encoding, or r and s at the fixed width of the
// curve (IEEE P1363). Other widths are refused: padding would give one
// signature many spellings, and so many entries.
func verifyECDSA(pub *ecdsa.PublicKey, digest, sig []byte) error {
	if ecdsa.VerifyASN1(pub, digest, sig) {
		return nil
	}
	width := (pub.Curve.Params().BitSize + 7) / 8
	if len(sig) == 2*width {
		r, s := new(big.Int).SetBytes(sig[:width]), new(big.Int).SetBytes(sig[width:])
		if ecdsa.Verify(pub, digest, r, s) {
			return nil
		}
		return errors.New("invalid signature when validating IEEE_P1363 encoded signature")
	}
	var parsed struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(sig, &parsed); err != nil {
		return errors.New("ecdsa: Invalid IEEE_P1363 encoded bytes")
	}
	return errors.New("invalid signature when validating ASN.1 encoded signature")
}

func verifyChain(chain []*x509.Certificate) error {
	if len(chain) < 2 {
		return nil
	}
	roots, inter := x509.NewCertPool(), x509.NewCertPool()
	last := len(chain) - 1
	roots.AddCert(chain[last])
	for _, c := range chain[1:last] {
		inter.AddCert(c)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{
		Roots:         roots,
		Intermediates: inter,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
		CurrentTime:   chain[0].NotBefore,
	})
	if err != nil {
		return foreign("invalid certificate chain", err)
	}
	return nil
}

// Subjects implements [Key]: the DNS names, e-mail addresses, IP addresses,
// URIs and Fulcio user names (OtherName 1.3.6.1.4.1.57264.1.7) of the leaf
// certificate's SAN extension. A bare public key has none.
func (k *X509) Subjects() []string {
	if len(k.chain) == 0 {
		return nil
	}
	c := k.chain[0]
	var names []string
	names = append(names, c.DNSNames...)
	names = append(names, c.EmailAddresses...)
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	for _, u := range c.URIs {
		names = append(names, u.String())
	}
	for _, e := range c.Extensions {
		if e.Id.Equal(oidSAN) {
			names = append(names, otherNames(e.Value)...)
		}
	}
	return names
}

// Claims are what the leaf certificate says of who signed, beside its names: the
// extensions below 1.3.6.1.4.1.57264.1 by which entries are looked for. Nothing here
// says that whoever has signed the certificate may say so.
type Claims struct {
	Issuers      []string // .1 and .8: of the identity token
	Repositories []string // .5, owner/name, and .12, the URI of the source repository
	Commits      []string // .3 and .13: of the source, as hexadecimal digits
}

// Claims returns those of the leaf certificate, each value once. A bare public key
// has none, and what is not encoded as it should be is none.
func (k *X509) Claims() Claims {
	var c Claims
	if len(k.chain) == 0 {
		return c
	}
	for _, e := range k.chain[0].Extensions {
		last := len(oidClaims)
		if len(e.Id) != last+1 || !e.Id[:last].Equal(oidClaims) {
			continue
		}
		var to *[]string
		switch e.Id[last] {
		case 1, 8:
			to = &c.Issuers
		case 5, 12:
			to = &c.Repositories
		case 3, 13:
			to = &c.Commits
		default:
			continue
		}
		text := cryptobyte.String(e.Value)
		if e.Id[last] >= 8 { // the older ones are bare bytes
			var inner cryptobyte.String
			if !text.ReadASN1(&inner, cbasn1.UTF8String) || !text.Empty() {
				continue
			}
			text = inner
		}
		if s := string(text); s != "" && utf8.ValidString(s) && !slices.Contains(*to, s) {
			*to = append(*to, s)
		}
	}
	return c
}

var (
	oidClaims   = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1}
	oidSAN      = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidUserName = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 7}
)

// otherNames returns the values of the OtherNames of type 1.3.6.1.4.1.57264.1.7
// in a SAN extension (RFC 5280, section 4.2.1.6):
//
//	OtherName ::= SEQUENCE { type-id OBJECT IDENTIFIER, value [0] EXPLICIT UTF8String }
//
// What is not such a name is skipped: crypto/x509 has read the others.
func otherNames(san []byte) []string {
	in := cryptobyte.String(san)
	var names cryptobyte.String
	if !in.ReadASN1(&names, cbasn1.SEQUENCE) {
		return nil
	}
	var found []string
	for !names.Empty() {
		var name, value, text cryptobyte.String
		var tag cbasn1.Tag
		var id asn1.ObjectIdentifier
		if !names.ReadAnyASN1(&name, &tag) {
			return found
		}
		if tag == cbasn1.Tag(0).ContextSpecific().Constructed() &&
			name.ReadASN1ObjectIdentifier(&id) && id.Equal(oidUserName) &&
			name.ReadASN1(&value, cbasn1.Tag(0).ContextSpecific().Constructed()) &&
			value.ReadASN1(&text, cbasn1.UTF8String) {
			found = append(found, string(text))
		}
	}
	return found
}
