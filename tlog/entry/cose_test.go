package entry

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sigstack/sigstack/test/fuzz"
)

// CBOR is written by hand here: what reads it is a library.

func cborItem(major byte, n int, content ...[]byte) []byte {
	out := []byte{major<<5 | byte(min(n, 24))}
	switch {
	case n < 24:
	case n < 1<<8:
		out = append(out, byte(n))
	case n < 1<<16:
		out[0]++
		out = binary.BigEndian.AppendUint16(out, uint16(n))
	default:
		out[0] += 2
		out = binary.BigEndian.AppendUint32(out, uint32(n))
	}
	return append(out, bytes.Join(content, nil)...)
}

func cborBytes(b []byte) []byte           { return cborItem(2, len(b), b) }
func cborText(s string) []byte            { return cborItem(3, len(s), []byte(s)) }
func cborList(items ...[]byte) []byte     { return cborItem(4, len(items), items...) }
func cborMap(keysValues ...[]byte) []byte { return cborItem(5, len(keysValues)/2, keysValues...) }

// cborInt writes an integer.
func cborInt(n int) []byte {
	if n < 0 {
		return cborItem(1, -1-n)
	}
	return cborItem(0, n)
}

const (
	es256 = -7
	ps256 = -37
)

func sign1(protected, unprotected, payload, sig []byte) []byte {
	return slices.Concat([]byte{0xd2}, cborList(cborBytes(protected), unprotected, payload, cborBytes(sig)))
}

// signCOSE signs by RFC 9052, section 4.4.
func signCOSE(t testing.TB, k crypto.Signer, protected, aad, payload []byte) []byte {
	t.Helper()
	sum := sha256.Sum256(cborList(cborText("Signature1"), cborBytes(protected), cborBytes(aad), cborBytes(payload)))
	opts := crypto.SignerOpts(crypto.SHA256)
	if _, ok := k.(*rsa.PrivateKey); ok {
		opts = &rsa.PSSOptions{SaltLength: sha256.Size, Hash: crypto.SHA256}
	}
	sig, err := k.Sign(rand.Reader, sum[:], opts)
	if err != nil {
		t.Fatal(err)
	}
	if ec, ok := k.(*ecdsa.PrivateKey); ok {
		sig = p1363(t, sig, (ec.Params().BitSize+7)/8)
	}
	return sig
}

func coseRequest(t testing.TB, message, key []byte, data any) []byte {
	t.Helper()
	return mustJSON(t, map[string]any{"kind": "cose", "apiVersion": "0.0.1", "spec": map[string]any{"message": message, "publicKey": key, "data": data}})
}

// coseMessage is a message with the algorithm and more in its header.
func coseMessage(t testing.TB, k crypto.Signer, alg int, aad, payload []byte, header ...[]byte) []byte {
	protected := cborMap(slices.Concat([][]byte{cborInt(1), cborInt(alg)}, header)...)
	return sign1(protected, cborMap(), cborBytes(payload), signCOSE(t, k, protected, aad, payload))
}

type object = map[string]any

func TestCOSE(t *testing.T) {
	ec, r, r1024 := ecKey(t, elliptic.P256()), rsaKey(t, 3072), smallKey(t)
	payload := []byte("hello")
	for name, c := range map[string]struct {
		k    crypto.Signer
		alg  int
		aad  []byte
		data object
	}{
		"ES256":          {ec, es256, nil, object{}},
		"PS256":          {r, ps256, nil, object{}},
		"ES256 with aad": {ec, es256, []byte("aad"), object{"aad": []byte("aad")}},
	} {
		message := coseMessage(t, c.k, c.alg, c.aad, payload)
		in := coseRequest(t, message, pubPEM(t, c.k), c.data)
		e, err := Propose(in)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		checkCanonical(t, in)
		if key := fmt.Sprintf("sha256:%x", sha256.Sum256(message)); e.AttestationKey != key || !bytes.Equal(e.Attestation, message) {
			t.Errorf("%s: attestation %q under %q", name, e.Attestation, e.AttestationKey)
		}
		for _, what := range [][]byte{message, payload, pubPEM(t, c.k)} {
			if !slices.Contains(e.Keys, fmt.Sprintf("sha256:%x", sha256.Sum256(what))) {
				t.Errorf("%s: %.20q is not found by its hash", name, what)
			}
		}
	}

	key, alg := pubPEM(t, ec), cborMap(cborInt(1), cborInt(es256))
	good := coseMessage(t, ec, es256, nil, payload)
	sig := signCOSE(t, ec, alg, nil, payload)
	of := func(message []byte) []byte { return coseRequest(t, message, key, object{}) }
	// withHeaders is a message that is signed, with these headers.
	withHeaders := func(unprotected []byte, protected ...[]byte) []byte {
		p := cborMap(slices.Concat([][]byte{cborInt(1), cborInt(es256)}, protected)...)
		return of(sign1(p, unprotected, cborBytes(payload), signCOSE(t, ec, p, nil, payload)))
	}
	pss20, err := rsa.SignPSS(rand.Reader, r.(*rsa.PrivateKey), crypto.SHA256, make([]byte, 32), &rsa.PSSOptions{SaltLength: 20})
	if err != nil {
		t.Fatal(err)
	}
	der, err := ec.Sign(rand.Reader, make([]byte, 32), crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	spec := func(text string) []byte { return []byte(`{"kind":"cose","apiVersion":"0.0.1","spec":` + text + `}`) }
	keyText := string(mustJSON(t, key))
	nested := func(depth int) []byte {
		v := cborInt(0)
		for range depth {
			v = cborList(v)
		}
		return v
	}
	items := func(n int) []byte { return cborMap(cborInt(99), cborList(slices.Repeat([][]byte{cborInt(0)}, n)...)) }
	textAlg := cborMap(cborInt(1), cborText("a\n"+strings.Repeat("b", 1000)))
	const verify, invalid = "could not verify COSE_Sign1 message: ", "invalid COSE_Sign1 message: "
	checkRefusals(t, []refused{
		{"another key", coseRequest(t, good, pubPEM(t, ecKey(t, elliptic.P256())), object{}), verify + `"verification error"`},
		{"another payload", of(sign1(alg, cborMap(), cborBytes([]byte("hallo")), sig)), verify + `"verification error"`},
		{"aad that is not signed", coseRequest(t, good, key, object{"aad": []byte("aad")}), verify + `"verification error"`},
		{"aad that is missing", of(coseMessage(t, ec, es256, []byte("aad"), payload)), verify + `"verification error"`},
		{"signature in ASN.1", of(sign1(alg, cborMap(), cborBytes(payload), der)), verify + `"verification error"`},
		{"short salt", coseRequest(t, sign1(cborMap(cborInt(1), cborInt(ps256)), cborMap(), cborBytes(payload), pss20), pubPEM(t, r), object{}), verify + `"verification error"`},
		{"another algorithm", of(coseMessage(t, ec, -35, nil, payload)), verify + `"algorithm mismatch: verifier ES256: header ES384"`},
		{"no algorithm", of(sign1(nil, cborMap(), cborBytes(payload), signCOSE(t, ec, nil, nil, payload))), verify + `"algorithm not found"`},
		{"algorithm in the other header", of(sign1(nil, alg, cborBytes(payload), signCOSE(t, ec, nil, nil, payload))), verify + `"algorithm not found"`},
		{"P-384", coseRequest(t, good, pubPEM(t, ecKey(t, elliptic.P384())), object{}), "unsupported elliptic curve P-384, P-256 is accepted"},
		{"Ed25519", coseRequest(t, good, pubPEM(t, edKey(t)), object{}), "unsupported algorithm type ed25519.PublicKey, RSA and ECDSA on P-256 are accepted"},
		{"RSA of 1024 bits", coseRequest(t, good, r1024, object{}), verify + `"RSA key must be at least 2048 bits long"`},
		{"a chain that is none", coseRequest(t, good, append(certPEM(t, ec), certPEM(t, r)...), object{}), "invalid certificate chain: x509: certificate signed by unknown authority"},
		{"detached payload", of(sign1(alg, cborMap(), []byte{0xf6}, sig)), verify + `"missing payload"`},
		{"no signature", of(sign1(alg, cborMap(), cborBytes(payload), nil)), invalid + `"empty signature"`},
		{"no tag", of(good[1:]), invalid + "it must begin with tag 18 and an array of four items"},
		{"another tag", of(append([]byte{0xd1}, good[1:]...)), invalid + "it must begin with tag 18 and an array of four items"},
		{"not CBOR", of([]byte("hello")), invalid + "it must begin with tag 18 and an array of four items"},
		{"something after it", of(append(slices.Clone(good), 0)), invalid + fmt.Sprintf(`"cbor: 1 bytes of extraneous data starting at index %d"`, len(good)-1)},
		{"cut", of(good[:len(good)-1]), invalid + `"unexpected EOF"`},
		{"only the beginning", of(good[:2]), invalid + "CBOR ends within an item"},
		{"cut in a length", of([]byte{0xd2, 0x84, 0x58}), invalid + "CBOR ends within an item"},
		{"cut in a header", of(good[:5]), invalid + "CBOR ends within an item"},
		{"cut between headers", of(good[:6]), invalid + "unprotected header: CBOR ends within an item"},
		{"protected header as a map", of(slices.Concat([]byte{0xd2}, cborList(alg, cborMap(), cborBytes(payload), cborBytes(sig)))), invalid + "the protected header must be a byte string"},
		{"protected header too long", of([]byte{0xd2, 0x84, 0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0}), invalid + "CBOR ends within an item"},
		{"protected header is no map", of(sign1(cborInt(1), cborMap(), cborBytes(payload), sig)), invalid + "the protected header must be a map of parameters as in RFC 9052, section 3"},
		{"label twice", withHeaders(cborMap(cborInt(4), cborBytes(nil), cborInt(4), cborBytes(nil))), invalid + "the unprotected header must be a map of parameters as in RFC 9052, section 3"},
		{"critical label that is not there", withHeaders(cborMap(), cborInt(2), cborList(cborText("a\n"+strings.Repeat("b", 1000)))), invalid + "the protected header must be a map of parameters as in RFC 9052, section 3"},
		{"indefinite length", withHeaders([]byte{5<<5 | 31, 0xff}), invalid + "unprotected header: CBOR of indefinite length is not accepted"},
		{"a map of 2^63 pairs", withHeaders([]byte{5<<5 | 27, 0x80, 0, 0, 0, 0, 0, 0, 0}), invalid + "unprotected header: CBOR ends within an item"},
		{"a text of 2^63 bytes", withHeaders([]byte{3<<5 | 27, 0x80, 0, 0, 0, 0, 0, 0, 0}), invalid + "unprotected header: CBOR ends within an item"},
		{"many items", withHeaders(items(maxCOSEItems - 3 - 3 + 1)), invalid + "unprotected header: more than 256 items"},
		{"many protected items", withHeaders(cborMap(), cborInt(99), cborList(slices.Repeat([][]byte{cborInt(0)}, maxCOSEItems)...)), invalid + "protected header: more than 256 items"},
		{"deep", withHeaders(cborMap(cborInt(99), nested(maxCOSEDepth))), invalid + "unprotected header: more than 4 levels"},
		{"tag in the unprotected header", withHeaders(cborMap(cborInt(99), []byte{0xc1, 0})), invalid + `"cbor: CBOR tag isn't allowed"`},
		{"deep tags", withHeaders(cborMap(cborInt(99), []byte{0xc1, 0xc1, 0xc1, 0xc1, 0})), invalid + "unprotected header: more than 4 levels"},
		{"deep and protected", withHeaders(cborMap(), cborInt(99), nested(maxCOSEDepth)), invalid + "protected header: more than 4 levels"},
		{"long protected header", withHeaders(cborMap(), cborInt(99), cborBytes(make([]byte, maxCOSEHeaders))), invalid + "its headers have more than 32768 bytes"},
		{"long headers", withHeaders(cborMap(cborInt(99), cborBytes(make([]byte, maxCOSEHeaders/2))), cborInt(99), cborBytes(make([]byte, maxCOSEHeaders/2))), invalid + "its headers have more than 32768 bytes"},
		{"algorithm as a text", of(sign1(textAlg, cborMap(), cborBytes(payload), sig)), verify + `"Algorithm(\"a\\n` + strings.Repeat("b", 66) + `"`},
		{"no message", coseRequest(t, nil, key, object{}), "entry not insertable into log: missing COSE Sign1 message"},
		{"a URL", spec(`{"url":"https://example.com/","data":{},"publicKey":` + keyText + `}`), "entry not insertable into log: missing COSE Sign1 message"},
		{"message as an object", spec(`{"message":{},"publicKey":` + keyText + `}`), "message: want a string, not object"},
		{"message not in base64", spec(`{"message":"!","publicKey":` + keyText + `}`), "message: failed parsing base64 data: illegal base64 data at input byte 0"},
		{"DER key", coseRequest(t, good, []byte("x"), object{}), "invalid public key: failure decoding PEM"},
		{"data as a list", coseRequest(t, good, key, []any{}), "data: want an object"},
		{"no key", coseRequest(t, good, nil, object{}), "publicKey in body is required"},
		{"no data", coseRequest(t, good, key, nil), "data in body is required"},
		{"aad as an object", coseRequest(t, good, key, object{"aad": object{}}), "data.aad: want a string, not object"},
		{"stored form", []byte(vectorNamed(t, "cose-es256").DecodedBody), "entry not insertable into log: missing COSE Sign1 message"},
	})

	// Whichever of two bad parameters the library comes upon first.
	bad := withHeaders(cborMap(cborInt(4), cborInt(0), cborInt(5), cborInt(0), cborInt(6), cborInt(0)))
	for range 100 {
		checkRefusals(t, []refused{{"three bad parameters", bad, invalid + "the unprotected header must be a map of parameters as in RFC 9052, section 3"}})
	}

	// Up to the bounds, and what may be in a header that says nothing here.
	for name, in := range map[string][]byte{
		"items":            withHeaders(items(maxCOSEItems - 3 - 3)),
		"depth":            withHeaders(cborMap(cborInt(99), nested(maxCOSEDepth-1))),
		"bytes":            withHeaders(cborMap(cborInt(99), cborBytes(make([]byte, maxCOSEHeaders-100)))),
		"countersignature": withHeaders(cborMap(cborInt(11), cborList(cborList(cborBytes(nil), cborMap(cborInt(4), cborBytes(nil)), cborBytes([]byte("x")))))),
		"certificates":     withHeaders(cborMap(), cborInt(33), cborList(cborBytes([]byte("a")), cborBytes([]byte("b")))),
		"critical label":   withHeaders(cborMap(), cborInt(2), cborList(cborInt(99)), cborInt(99), []byte{0xf5}),
		"text as a label":  withHeaders(cborMap(cborText("x"), []byte{0xfb, 0x40, 9, 0x21, 0xfb, 0x54, 0x44, 0x2d, 0x18})),
		"tag in a header":  withHeaders(cborMap(), cborInt(99), []byte{0xc1, 0}),
		"a chain":          coseRequest(t, good, bytes.Repeat(certPEM(t, ec), 2), object{}),
		"no algorithm, but aad": coseRequest(t, sign1(nil, cborMap(), cborBytes(payload), signCOSE(t, ec, nil, []byte("aad"), payload)), key,
			object{"aad": []byte("aad")}),
	} {
		if _, err := Propose(in); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// smallKey is the PEM of an RSA key that COSE does not allow: the public half
// of no key, 2^1023 + 1.
func smallKey(t testing.TB) []byte {
	t.Helper()
	n := new(big.Int).SetBit(big.NewInt(1), 1023, 1)
	der, err := x509.MarshalPKIXPublicKey(&rsa.PublicKey{N: n, E: 65537})
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// certPEM is a certificate that a key has signed for itself.
func certPEM(t testing.TB, k crypto.Signer) []byte {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: fmt.Sprintf("%T", k)},
		NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<32, 0), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// The subjects of an in-toto statement are found; its materials are not, as
// public logs do it. Keys finds the rest again.
func TestCOSEKeys(t *testing.T) {
	k := ecKey(t, elliptic.P256())
	contentType := func(v []byte) [][]byte { return [][]byte{cborInt(3), v} }
	for _, c := range []struct {
		header  [][]byte
		payload string
		want    []string
	}{
		{contentType(cborText(inTotoPayloadType)), statement, []string{"sha256:ab"}},
		{contentType(cborText(inTotoPayloadType)), "not JSON", nil},
		{contentType(cborText(inTotoPayloadType)), "[]", nil},
		{contentType(cborText("text/plain")), statement, nil},
		{contentType(cborInt(50)), statement, nil},
		{nil, statement, nil},
	} {
		e, err := Propose(coseRequest(t, coseMessage(t, k, es256, nil, []byte(c.payload), c.header...), pubPEM(t, k), object{}))
		if err != nil {
			t.Errorf("%s: %v", c.payload, err)
			continue
		}
		stored, err := Keys(e.Body)
		if err != nil {
			t.Fatal(err)
		}
		got := slices.DeleteFunc(slices.Clone(e.Keys), func(k string) bool { return slices.Contains(stored, k) })
		if !slices.Equal(got, c.want) || len(got)+len(stored) != len(e.Keys) {
			t.Errorf("%s: keys %q, want %q", c.payload, got, c.want)
		}
	}
	stored := vectorNamed(t, "cose-es256").DecodedBody
	for member, want := range map[string]string{
		"data": "data in body is required", "envelopeHash": "data.envelopeHash: want an object", "payloadHash": "data.payloadHash: want an object",
	} {
		if _, err := Keys([]byte(strings.Replace(stored, `"`+member+`"`, `"x"`, 1))); err == nil || err.Error() != want {
			t.Errorf("without %s: error %v, want %s", member, err, want)
		}
	}
}

// Messages as they are, without JSON and base64 around them. What is accepted
// is within the bounds by the library's own account of where the headers end.
func FuzzCOSE(f *testing.F) {
	sig := bytes.Repeat([]byte("s"), 64)
	chain := cborMap(cborInt(33), cborList(cborBytes([]byte("a")), cborBytes([]byte("b"))), cborInt(4), cborBytes([]byte("kid")))
	counter := cborMap(cborInt(11), cborList(cborBytes(nil), cborMap(cborInt(4), cborBytes(nil)), cborBytes([]byte("x"))))
	header := cborMap(cborInt(1), cborInt(es256), cborInt(3), cborText(inTotoPayloadType), cborInt(15), cborMap(cborInt(1), cborText("issuer")))
	maps := cborMap(cborInt(99), cborList(slices.Repeat([][]byte{cborMap(cborInt(0), cborList())}, 80)...))
	seeds := fuzz.Seeds(
		sign1(header, chain, cborBytes([]byte("payload")), sig),
		sign1(header, counter, cborBytes([]byte("payload")), sig),
		sign1(nil, cborMap(), cborBytes(nil), sig),
		sign1(maps, cborMap(), cborBytes(nil), sig),
		sign1(nil, maps, cborBytes(nil), sig),
		sign1(header, cborMap(), []byte{0xf6}, sig),
		sign1(cborMap(cborInt(2), cborList(cborInt(9)), cborInt(9), []byte{0xf5}), cborMap(cborText("x"), []byte{0xf9, 0, 0}), cborBytes(nil), sig),
	)
	fuzz.Run(f, seeds, func(in []byte) (int, error) {
		m, err := parseCOSE(in)
		if err != nil {
			return 0, err
		}
		return len(m.Headers.RawProtected) + len(m.Headers.RawUnprotected), nil
	}, func(t *testing.T, in []byte, headers int, err error) {
		if err != nil && (strings.ContainsAny(err.Error(), "\r\n") || len(err.Error()) > 1000) {
			t.Fatalf("error %q", err)
		}
		if headers > maxCOSEHeaders+9 { // and the head of a byte string
			t.Fatalf("headers of %d bytes", headers)
		}
	})
}
