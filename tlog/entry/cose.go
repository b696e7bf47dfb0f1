package entry

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"fmt"
	"math/bits"
	"strings"

	gocose "github.com/veraison/go-cose"

	"github.com/sigstack/sigstack/tlog/entry/sigkey"
)

// cose 0.0.1: a COSE_Sign1 message (RFC 9052, section 4.2), with its tag 18
// and its payload inside. Proposed:
//
//	spec.message    base64 of the message, which is CBOR (RFC 8949)
//	spec.publicKey  base64 of PEM: key, certificate or chain
//	spec.data       must be there, and may be empty
//	spec.data.aad   optional, base64 of the data that is signed along and not in the message
//
// Stored:
//
//	spec.data.envelopeHash  SHA-256 of the message
//	spec.data.payloadHash   SHA-256 of its payload
//	spec.publicKey
//
// The key says by which algorithm the message is signed, and its header must
// say the same: ES256 (64 bytes, r and s) for ECDSA on P-256, and PS256 (salt
// of 32 bytes) for RSA of 2048 bits or more. Without a header parameter for it
// there must be aad (RFC 8152, section 4.4). The message is kept as the
// attestation of the entry.
//
// A library decodes the headers, into maps that take up to a hundred times as
// much memory; checkCOSE bounds what it is given.

const (
	maxCOSEHeaders = 32 << 10 // bytes of both headers of a message
	maxCOSEItems   = 256      // CBOR items in both headers
	// maxCOSEDepth is how deep arrays, maps and tags of a header may nest. The
	// deepest that RFC 9338 knows are the headers of a list of countersignatures.
	maxCOSEDepth = 4
)

type cose struct {
	envelope, payload digest
	key               *sigkey.X509
}

// readCOSE reads what a proposed and a stored spec have in common, the key,
// and returns the other members: message and data, which may be nil.
func readCOSE(spec value) (c *cose, message, data value, err error) {
	m, err := spec.members("message", "publicKey", "data")
	if err != nil {
		return nil, nil, nil, err
	}
	keyText, err := requiredBytes(m[1], "publicKey")
	if err != nil {
		return nil, nil, nil, err
	}
	key, err := sigkey.ParseX509(keyText)
	if err != nil {
		return nil, nil, nil, err
	}
	return &cose{key: key}, m[0], m[2], nil
}

func proposeCOSE(spec value) (*proposal, error) {
	c, v, data, err := readCOSE(spec)
	if err != nil {
		return nil, err
	}
	message, err := v.base64()
	if err != nil {
		return nil, fmt.Errorf("message: %w", err)
	}
	if len(message) == 0 {
		return nil, errors.New("entry not insertable into log: missing COSE Sign1 message")
	}
	m, err := requiredMembers(data, "data", "aad")
	if err != nil {
		return nil, err
	}
	aad, err := m[0].base64()
	if err != nil {
		return nil, fmt.Errorf("data.aad: %w", err)
	}
	sign1, err := parseCOSE(message)
	if err != nil {
		return nil, err
	}
	if err := verifyCOSE(sign1, aad, c.key); err != nil {
		return nil, err
	}
	c.envelope, c.payload = sha256Digest(message), sha256Digest(sign1.Payload)
	keys := c.keys()
	addCOSEKeys(keys, sign1)
	return &proposal{body: c.body(), keys: keys, attestation: message, attestationKey: c.envelope.searchKey()}, nil
}

// addCOSEKeys adds the digests of the subjects of a message that says that it is an
// in-toto statement.
func addCOSEKeys(keys *keySet, sign1 *gocose.Sign1Message) {
	if sign1.Headers.Protected[gocose.HeaderLabelContentType] == inTotoPayloadType {
		addSubjectKeys(keys, sign1.Payload)
	}
}

// statedCOSE adds the keys of the message that a stored spec attests.
func statedCOSE(_ value, keys *keySet, message []byte) {
	if sign1, err := parseCOSE(message); err == nil {
		addCOSEKeys(keys, sign1)
	}
}

// attestedCOSE returns the hash of the message of a stored spec.
func attestedCOSE(spec value) (digest, error) {
	m, err := spec.members("data")
	if err != nil {
		return digest{}, err
	}
	data, err := requiredMembers(m[0], "data", "envelopeHash")
	if err != nil {
		return digest{}, err
	}
	return readDigest(data[0], "data.envelopeHash", "sha256")
}

// parseCOSE reads a tagged COSE_Sign1 message.
func parseCOSE(message []byte) (*gocose.Sign1Message, error) {
	if err := checkCOSE(message); err != nil {
		return nil, fmt.Errorf("invalid COSE_Sign1 message: %w", err)
	}
	sign1 := gocose.NewSign1Message()
	err := sign1.UnmarshalCBOR(message)
	if err == nil {
		return sign1, nil
	}
	// The library looks at parameters in the order of a map. Which of two bad
	// ones it names is chance, and the same request gets the same answer.
	for _, which := range []string{"protected", "unprotected"} {
		if strings.HasPrefix(err.Error(), "cbor: invalid "+which+" header") {
			return nil, fmt.Errorf("invalid COSE_Sign1 message: the %s header must be a map of parameters as in RFC 9052, section 3", which)
		}
	}
	return nil, coseError("invalid COSE_Sign1 message", err)
}

// coseError keeps the error of the library to one short line: it may quote
// what the client has sent.
func coseError(context string, err error) error {
	return fmt.Errorf("%s: %.80q", context, err.Error())
}

// verifyCOSE verifies the signature of a message by the algorithm of the key.
func verifyCOSE(m *gocose.Sign1Message, aad []byte, key *sigkey.X509) error {
	if err := key.VerifyChain(); err != nil {
		return err
	}
	pub := key.PublicKey()
	alg, err := coseAlgorithm(pub)
	if err != nil {
		return err
	}
	verifier, err := gocose.NewVerifier(alg, pub)
	if err == nil {
		err = m.Verify(aad, verifier)
	}
	if err != nil {
		return coseError("could not verify COSE_Sign1 message", err)
	}
	return nil
}

// coseAlgorithm returns the one algorithm that a key may be used with.
func coseAlgorithm(pub crypto.PublicKey) (gocose.Algorithm, error) {
	switch pub := pub.(type) {
	case *rsa.PublicKey:
		return gocose.AlgorithmPS256, nil
	case *ecdsa.PublicKey:
		if pub.Curve == elliptic.P256() {
			return gocose.AlgorithmES256, nil
		}
		return 0, fmt.Errorf("unsupported elliptic curve %s, P-256 is accepted", pub.Params().Name)
	}
	return 0, fmt.Errorf("unsupported algorithm type %T, RSA and ECDSA on P-256 are accepted", pub)
}

// sign1Prefix is how a tagged COSE_Sign1 message begins: tag 18, and an array
// of four items.
var sign1Prefix = []byte{6<<5 | 18, 4<<5 | 4}

// checkCOSE bounds the headers of a message, which are its first two items:
//
//	COSE_Sign1 = [protected : bstr .cbor map, unprotected : map, payload : bstr, signature : bstr]
func checkCOSE(message []byte) error {
	in, ok := bytes.CutPrefix(message, sign1Prefix)
	if !ok {
		return errors.New("it must begin with tag 18 and an array of four items")
	}
	major, size, rest, err := cborHead(in)
	if err != nil {
		return err
	}
	switch {
	case major != 2:
		return errors.New("the protected header must be a byte string")
	case size > uint64(len(rest)):
		return errCBORCut
	case size > maxCOSEHeaders:
		return errCOSEHeaders
	}
	w := cborWalk{items: maxCOSEItems}
	protected := rest[:size]
	for inside := protected; len(inside) > 0; {
		if inside, err = w.skip(inside, maxCOSEDepth); err != nil {
			return fmt.Errorf("protected header: %w", err)
		}
	}
	unprotected := rest[size:]
	after, err := w.skip(unprotected, maxCOSEDepth)
	if err != nil {
		return fmt.Errorf("unprotected header: %w", err)
	}
	if len(protected)+len(unprotected)-len(after) > maxCOSEHeaders {
		return errCOSEHeaders
	}
	return nil
}

var (
	errCOSEHeaders = fmt.Errorf("its headers have more than %d bytes", maxCOSEHeaders)
	errCBORCut     = errors.New("CBOR ends within an item")
)

// A cborWalk counts CBOR items while it passes over them.
type cborWalk struct {
	items int // that may still come
}

// skip returns what follows the first item of in. Arrays, maps and tags in it
// may nest depth deep.
func (w *cborWalk) skip(in []byte, depth int) ([]byte, error) {
	if w.items--; w.items < 0 {
		return nil, fmt.Errorf("more than %d items", maxCOSEItems)
	}
	major, n, rest, err := cborHead(in)
	if err != nil {
		return nil, err
	}
	switch major {
	case 0, 1, 7: // numbers, and simple values
		return rest, nil
	case 2, 3: // byte and text strings
		if n > uint64(len(rest)) {
			return nil, errCBORCut
		}
		return rest[n:], nil
	case 5: // a map
		over, pairs := bits.Mul64(n, 2)
		if over > 0 {
			return nil, errCBORCut
		}
		n = pairs
	case 6: // a tag
		n = 1
	}
	if depth == 0 {
		return nil, fmt.Errorf("more than %d levels", maxCOSEDepth)
	}
	for ; n > 0; n-- {
		if rest, err = w.skip(rest, depth-1); err != nil {
			return nil, err
		}
	}
	return rest, nil
}

// cborHead reads the head of an item (RFC 8949, section 3): the major type and
// its argument, of 0, 1, 2, 4 or 8 bytes.
func cborHead(in []byte) (major byte, n uint64, rest []byte, err error) {
	if len(in) == 0 {
		return 0, 0, nil, errCBORCut
	}
	major, info := in[0]>>5, in[0]&31
	in = in[1:]
	switch {
	case info < 24:
		return major, uint64(info), in, nil
	case info > 27:
		return 0, 0, nil, errors.New("CBOR of indefinite length is not accepted")
	}
	size := 1 << (info - 24)
	if len(in) < size {
		return 0, 0, nil, errCBORCut
	}
	for _, b := range in[:size] {
		n = n<<8 | uint64(b)
	}
	return major, n, in[size:], nil
}

func keysCOSE(spec value) (*keySet, error) {
	c, _, data, err := readCOSE(spec)
	if err != nil {
		return nil, err
	}
	m, err := requiredMembers(data, "data", "envelopeHash", "payloadHash")
	if err != nil {
		return nil, err
	}
	if c.envelope, err = readDigest(m[0], "data.envelopeHash", "sha256"); err != nil {
		return nil, err
	}
	if c.payload, err = readDigest(m[1], "data.payloadHash", "sha256"); err != nil {
		return nil, err
	}
	return c.keys(), nil
}

func (c *cose) body() []byte {
	key := c.key.Canonical()
	out := make([]byte, 0, 512+base64.StdEncoding.EncodedLen(len(key)))
	out = appendHeader(out, "cose", "0.0.1")
	out = append(out, `"data":{"envelopeHash":`...)
	out = appendDigest(out, c.envelope)
	out = append(out, `,"payloadHash":`...)
	out = appendDigest(out, c.payload)
	out = append(out, `},"publicKey":"`...)
	out = base64.StdEncoding.AppendEncode(out, key)
	return append(out, `"}}`...)
}

func (c *cose) keys() *keySet {
	s := &keySet{}
	s.addSigner(c.key, scheme{hash: crypto.SHA256, pss: true})
	s.add(c.envelope.searchKey(), c.payload.searchKey())
	return s
}
