// Package cms makes PKCS #7 signatures, timestamps and signed Java archives
// for tests, with encoding/asn1 and nothing of what it tests. Every field can
// be made wrong.
package cms

import (
	"archive/zip"
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"
)

// Object identifiers of CMS (RFC 5652) and of timestamps (RFC 3161).
var (
	Data          = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	SignedData    = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}
	TSTInfo       = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 1, 4}
	ContentType   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 3}
	MessageDigest = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 4}
	CounterSign   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 6}
	Token         = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 14}
	RSA           = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
	ECDSA         = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}
	PSS           = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 10}
)

// hashes are the identifiers of hash functions.
var hashes = map[crypto.Hash]asn1.ObjectIdentifier{
	crypto.MD5: {1, 2, 840, 113549, 2, 5}, crypto.SHA1: {1, 3, 14, 3, 2, 26}, crypto.SHA224: {2, 16, 840, 1, 101, 3, 4, 2, 4},
	crypto.SHA256: {2, 16, 840, 1, 101, 3, 4, 2, 1}, crypto.SHA384: {2, 16, 840, 1, 101, 3, 4, 2, 2}, crypto.SHA512: {2, 16, 840, 1, 101, 3, 4, 2, 3},
}

// Certificate issues a certificate for a key, by itself.
func Certificate(t testing.TB, key crypto.Signer, name string) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(int64(len(name)) + 1000), Subject: pkix.Name{CommonName: name}, EmailAddresses: []string{name + "@example.com"},
		NotBefore: time.Unix(1_700_000_000, 0), NotAfter: time.Unix(1_800_000_000, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// An Attribute is one with its values, in DER.
type Attribute struct {
	Type   asn1.ObjectIdentifier
	Values []asn1.RawValue `asn1:"set"`
}

// A Message is what is to be signed, and how. The zero values of all but Key
// and Certificate are the ordinary ones.
type Message struct {
	Key         crypto.Signer
	Certificate *x509.Certificate
	Type        asn1.ObjectIdentifier // of the content; Data if nil
	Content     []byte
	Detached    bool
	Hash        crypto.Hash              // SHA-256 if 0
	Algorithm   pkix.AlgorithmIdentifier // RSA or ECDSA, without a hash
	Certs       [][]byte                 // if not nil, instead of the signer's
	Plain       bool                     // no signed attributes
	Signed      func([]Attribute) []Attribute
	Unsigned    func(signature []byte) []Attribute
	Signers     func(one asn1.RawValue) []asn1.RawValue
	Outer       asn1.ObjectIdentifier // SignedData if nil
}

type signerInfo struct {
	Version   int
	Name      issuerAndSerial
	Digest    pkix.AlgorithmIdentifier
	Signed    asn1.RawValue `asn1:"optional"`
	Algorithm pkix.AlgorithmIdentifier
	Signature []byte
	Unsigned  asn1.RawValue `asn1:"optional"`
}

type issuerAndSerial struct {
	Issuer asn1.RawValue
	Serial *big.Int
}

// DER returns the signature.
func (m Message) DER(t testing.TB) []byte {
	t.Helper()
	if m.Type == nil {
		m.Type = Data
	}
	if m.Hash == 0 {
		m.Hash = crypto.SHA256
	}
	if m.Outer == nil {
		m.Outer = SignedData
	}
	if m.Certs == nil {
		m.Certs = [][]byte{m.Certificate.Raw}
	}
	if m.Algorithm.Algorithm == nil {
		m.Algorithm.Algorithm = RSA
		if _, ok := m.Key.Public().(*ecdsa.PublicKey); ok {
			m.Algorithm.Algorithm = ECDSA
		}
	}
	digest := sum(m.Hash, m.Content)
	info := signerInfo{Version: 1, Name: issuerAndSerial{asn1.RawValue{FullBytes: m.Certificate.RawIssuer}, m.Certificate.SerialNumber},
		Digest: pkix.AlgorithmIdentifier{Algorithm: hashes[m.Hash]}, Algorithm: m.Algorithm}
	if !m.Plain {
		attributes := []Attribute{{ContentType, values(t, m.Type)}, {MessageDigest, values(t, digest)}}
		if m.Signed != nil {
			attributes = m.Signed(attributes)
		}
		list := set(t, attributes)
		digest = sum(m.Hash, list)
		list[0] = 0xa0
		info.Signed = asn1.RawValue{FullBytes: list}
	}
	var options crypto.SignerOpts = m.Hash
	if m.Algorithm.Algorithm.Equal(PSS) {
		options = &rsa.PSSOptions{SaltLength: m.Hash.Size(), Hash: m.Hash}
	}
	var err error
	if info.Signature, err = m.Key.Sign(rand.Reader, digest, options); err != nil {
		t.Fatal(err)
	}
	if m.Unsigned != nil {
		list := set(t, m.Unsigned(info.Signature))
		list[0] = 0xa1
		info.Unsigned = asn1.RawValue{FullBytes: list}
	}
	signers := []asn1.RawValue{{FullBytes: Marshal(t, info)}}
	if m.Signers != nil {
		signers = m.Signers(signers[0])
	}
	content := struct {
		Type    asn1.ObjectIdentifier
		Content asn1.RawValue `asn1:"optional"`
	}{Type: m.Type}
	if !m.Detached {
		content.Content = explicit(Marshal(t, m.Content))
	}
	certs := asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: bytes.Join(m.Certs, nil)}
	signed := Marshal(t, struct {
		Version int
		Digests []pkix.AlgorithmIdentifier `asn1:"set"`
		Content any
		Certs   asn1.RawValue
		Signers []asn1.RawValue `asn1:"set"`
	}{1, []pkix.AlgorithmIdentifier{info.Digest}, content, certs, signers})
	return Marshal(t, struct {
		Type    asn1.ObjectIdentifier
		Content asn1.RawValue
	}{m.Outer, explicit(signed)})
}

// Certificates returns the certificates in a signature.
func Certificates(t testing.TB, der []byte) [][]byte {
	t.Helper()
	var message struct {
		Type asn1.ObjectIdentifier
		Body struct {
			Version int
			Digests asn1.RawValue
			Content asn1.RawValue
			Certs   asn1.RawValue
			Signers asn1.RawValue
		} `asn1:"explicit,tag:0"`
	}
	if _, err := asn1.Unmarshal(der, &message); err != nil {
		t.Fatal(err)
	}
	var certs [][]byte
	for rest := message.Body.Certs.Bytes; len(rest) > 0; {
		var cert asn1.RawValue
		var err error
		if rest, err = asn1.Unmarshal(rest, &cert); err != nil {
			t.Fatal(err)
		}
		certs = append(certs, cert.FullBytes)
	}
	return certs
}

func sum(h crypto.Hash, b []byte) []byte {
	if h == crypto.MD5 {
		return make([]byte, 16) // to be refused
	}
	w := h.New()
	w.Write(b)
	return w.Sum(nil)
}

func set(t testing.TB, attributes []Attribute) []byte {
	list := Marshal(t, attributes)
	list[0] = 0x31
	return list
}

func values(t testing.TB, v any) []asn1.RawValue {
	return []asn1.RawValue{{FullBytes: Marshal(t, v)}}
}

func explicit(der []byte) asn1.RawValue {
	return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: der}
}

// Marshal is asn1.Marshal for values that can be.
func Marshal(t testing.TB, v any) []byte {
	t.Helper()
	der, err := asn1.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// Imprint returns a TSTInfo over a message, by SHA-256.
func Imprint(t testing.TB, message []byte) []byte {
	t.Helper()
	h := sha256.Sum256(message)
	return Marshal(t, struct {
		Version int
		Policy  asn1.ObjectIdentifier
		Imprint struct {
			Algorithm pkix.AlgorithmIdentifier
			Hashed    []byte
		}
		Serial int
		Time   time.Time `asn1:"generalized"`
	}{1, asn1.ObjectIdentifier{1, 2, 3}, struct {
		Algorithm pkix.AlgorithmIdentifier
		Hashed    []byte
	}{pkix.AlgorithmIdentifier{Algorithm: hashes[crypto.SHA256]}, h[:]}, 7, time.Unix(1_700_000_000, 0).UTC()})
}

// Response returns a TimeStampResp. The token may be nil.
func Response(t testing.TB, status int, token []byte) []byte {
	t.Helper()
	return Marshal(t, struct {
		Status struct{ Status int }
		Token  asn1.RawValue `asn1:"optional"`
	}{struct{ Status int }{status}, asn1.RawValue{FullBytes: token}})
}

// A File is a file of an archive.
type File struct {
	Name    string
	Content []byte
}

// Zip packs files, deflated.
func Zip(t testing.TB, files ...File) []byte {
	t.Helper()
	out, err := Pack(files...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Pack is Zip for names and sizes that may be too long. A name that ends with
// a slash is a directory, without content.
func Pack(files ...File) ([]byte, error) {
	var out bytes.Buffer
	z := zip.NewWriter(&out)
	for _, f := range files {
		w, err := z.Create(f.Name)
		if err == nil && !strings.HasSuffix(f.Name, "/") {
			_, err = w.Write(f.Content)
		}
		if err != nil {
			return nil, err
		}
	}
	err := z.Close()
	return out.Bytes(), err
}

// Digest returns an attribute of a manifest.
func Digest(content []byte) string {
	h := sha256.Sum256(content)
	return "SHA-256-Digest: " + base64.StdEncoding.EncodeToString(h[:]) + "\r\n"
}

// Manifest returns one that names files.
func Manifest(files ...File) string {
	var b strings.Builder
	b.WriteString("Manifest-Version: 1.0\r\n\r\n")
	for _, f := range files {
		fmt.Fprintf(&b, "Name: %s\r\n%s\r\n", f.Name, Digest(f.Content))
	}
	return b.String()
}

// SignatureFile returns one over the whole of a manifest.
func SignatureFile(manifest string) string {
	h := sha256.Sum256([]byte(manifest))
	return "Signature-Version: 1.0\r\nSHA-256-Digest-Manifest: " + base64.StdEncoding.EncodeToString(h[:]) + "\r\n\r\n"
}

// Jar signs a manifest, and packs it with its signature and the files. Block
// may be changed before.
func Jar(t testing.TB, block Message, manifest, signatureFile string, files ...File) []byte {
	t.Helper()
	block.Content = []byte(signatureFile)
	return Zip(t, append([]File{
		{"META-INF/MANIFEST.MF", []byte(manifest)},
		{"META-INF/TEST.SF", []byte(signatureFile)},
		{"META-INF/TEST.EC", block.DER(t)},
	}, files...)...)
}
