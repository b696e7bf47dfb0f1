package ca

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"math/big"
	"runtime"
	"strings"
	"testing"

	"github.com/sigstack/sigstack/ca/catest"
)

func spkiOf(t testing.TB, key crypto.PublicKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func pemOf(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func csrOf(t testing.TB, key crypto.Signer, alg x509.SignatureAlgorithm) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "ignored"}, DNSNames: []string{"ignored.example.com"}, SignatureAlgorithm: alg,
	}, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// wantRefused checks class and message.
func wantRefused(t testing.TB, name string, err error, message string) {
	t.Helper()
	var e *Error
	if !errors.Is(err, ErrRequest) || errors.Is(err, ErrUnavailable) || !errors.As(err, &e) || !strings.HasPrefix(e.Public(), message) {
		t.Errorf("%s: error %v, want ErrRequest %q", name, err, message)
	}
}

func TestParsePublicKey(t *testing.T) {
	for name, key := range testKeys(t) {
		der := spkiOf(t, key.Public())
		for form, data := range map[string][]byte{
			"DER": der, "PEM": pemOf("PUBLIC KEY", der),
			"PEM with white space":  []byte(" \n" + string(pemOf("PUBLIC KEY", der)) + "\r\n\n"),
			"PEM without a newline": bytes.TrimSpace(pemOf("PUBLIC KEY", der)),
			"PEM with CRLF":         bytes.ReplaceAll(pemOf("PUBLIC KEY", der), []byte("\n"), []byte("\r\n")),
		} {
			got, err := ParsePublicKey(data)
			if err != nil || !got.(interface{ Equal(crypto.PublicKey) bool }).Equal(key.Public()) {
				t.Errorf("%s %s: %v", name, form, err)
			}
		}
		// Truncated anywhere, with one more byte, or one block after the other.
		whole := pemOf("PUBLIC KEY", der)
		for i := range der {
			if _, err := ParsePublicKey(der[:i]); err == nil {
				t.Errorf("%s: %d bytes of DER are accepted", name, i)
			}
		}
		for i := range len(whole) - 1 {
			if _, err := ParsePublicKey(whole[:i]); err == nil {
				t.Errorf("%s: %d bytes of PEM are accepted", name, i)
			}
		}
		for form, data := range map[string][]byte{
			"trailing byte":     append(bytes.Clone(der), 0),
			"trailing in PEM":   pemOf("PUBLIC KEY", append(bytes.Clone(der), 0)),
			"two blocks":        append(bytes.Clone(whole), whole...),
			"text before":       append([]byte("text\n"), whole...),
			"text after":        append(bytes.Clone(whole), "text"...),
			"headers":           pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Headers: map[string]string{"a": "b"}, Bytes: der}),
			"wrong type":        pemOf("CERTIFICATE", der),
			"broken then whole": append([]byte("-----BEGIN PUBLIC KEY-----\n!\n"), whole...),
			"too long":          append(bytes.Repeat([]byte{'\n'}, maxKey), whole...),
		} {
			_, err := ParsePublicKey(data)
			wantRefused(t, name+" "+form, err, msgKeyUnparsable)
		}
	}
	for name, data := range map[string][]byte{"nil": nil, "empty": {}, "text": []byte("key"), "sequence": {0x30, 0}} {
		_, err := ParsePublicKey(data)
		wantRefused(t, name, err, msgKeyUnparsable)
	}
	key := testKeys(t)["RSA-2048"].Public().(*rsa.PublicKey)
	if got, err := ParsePublicKey(pemOf("RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(key))); err != nil || !key.Equal(got) {
		t.Errorf("PKCS #1: %v", err)
	}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	_, err = ParsePublicKey(pemOf("PRIVATE KEY", secret))
	wantRefused(t, "private key", err, msgKeyUnparsable)
}

// pointSPKI is the key of a point on a named curve, or beside it.
func pointSPKI(t testing.TB, curve asn1.ObjectIdentifier, point []byte) []byte {
	t.Helper()
	params, err := asn1.Marshal(curve)
	if err != nil {
		t.Fatal(err)
	}
	der, err := asn1.Marshal(struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}{
		pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}, Parameters: asn1.RawValue{FullBytes: params}},
		asn1.BitString{Bytes: point, BitLength: 8 * len(point)},
	})
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestWeakKeys(t *testing.T) {
	rsaOf := func(n *big.Int, e int) *rsa.PublicKey { return &rsa.PublicKey{N: n, E: e} }
	prime := func(bits int) *big.Int {
		p, err := rand.Prime(rand.Reader, bits)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	p, q := prime(1024), prime(1024)
	good := new(big.Int).Mul(p, q)
	for _, bits := range []int{2048, 3072, 4096} {
		if err := checkKey(rsaOf(new(big.Int).Mul(prime(bits/2), prime(bits/2)), 65537)); err != nil {
			t.Errorf("RSA-%d: %v", bits, err)
		}
	}
	// Two primes with a small difference: p and the next one.
	next := new(big.Int).Add(p, big.NewInt(2))
	for !next.ProbablyPrime(20) {
		next.Add(next, big.NewInt(2))
	}
	// A modulus as the Infineon library makes them: M is the product of the
	// first 126 primes (for 2048 bits), each factor k*M + 65537^a mod M.
	m := big.NewInt(1)
	for _, s := range smallPrimes(702) {
		m.Mul(m, big.NewInt(int64(s)))
	}
	infineon := func() *big.Int {
		limit := new(big.Int).Lsh(big.NewInt(1), 1024)
		low := new(big.Int).Div(new(big.Int).Rsh(limit, 1), m)
		for {
			a, err := rand.Int(rand.Reader, m)
			if err != nil {
				t.Fatal(err)
			}
			k, err := rand.Int(rand.Reader, low)
			if err != nil {
				t.Fatal(err)
			}
			x := new(big.Int).Exp(big.NewInt(65537), a, m)
			x.Add(x, k.Add(k, low).Mul(k, m))
			if x.BitLen() == 1024 && x.Bit(1022) == 1 && x.ProbablyPrime(5) {
				return x
			}
		}
	}
	rocaN := new(big.Int).Mul(infineon(), infineon())
	if rocaN.BitLen() != 2048 {
		t.Fatalf("%d bits", rocaN.BitLen())
	}
	divisible := func(f int64) *big.Int {
		// An odd multiple of f of exactly 2048 bits.
		n := new(big.Int).Div(good, big.NewInt(2*f))
		return n.Mul(n.Lsh(n, 1).Add(n, big.NewInt(1)), big.NewInt(f))
	}
	for name, c := range map[string]struct {
		key    crypto.PublicKey
		reason string
	}{
		"RSA-1024":     {rsaOf(new(big.Int).Mul(prime(512), prime(512)), 65537), "bits"},
		"RSA-2047":     {rsaOf(new(big.Int).Rsh(good, 1), 65537), "bits"},
		"RSA-2056":     {rsaOf(new(big.Int).Lsh(good, 8), 65537), "bits"},
		"RSA-8192":     {rsaOf(new(big.Int).Lsh(good, 6144), 65537), "bits"},
		"RSA e=1":      {rsaOf(good, 1), "exponent"},
		"RSA e=3":      {rsaOf(good, 3), "exponent"},
		"RSA e=65539":  {rsaOf(good, 65539), "exponent"},
		"RSA even":     {rsaOf(new(big.Int).Sub(good, big.NewInt(1)), 65537), "divisible by 2"},
		"RSA 3":        {rsaOf(divisible(3), 65537), "divisible by"},
		"RSA 751":      {rsaOf(divisible(751), 65537), "divisible by"},
		"RSA close":    {rsaOf(new(big.Int).Mul(p, next), 65537), "close"},
		"RSA square":   {rsaOf(new(big.Int).Mul(p, p), 65537), "close"},
		"RSA ROCA":     {rsaOf(rocaN, 65537), "ROCA"},
		"RSA nil":      {rsaOf(nil, 65537), "modulus"},
		"RSA negative": {rsaOf(new(big.Int).Neg(good), 65537), "modulus"},
		"P-224":        {catest.ECDSA(t, elliptic.P224()).Public(), "P-224"},
		//lint:ignore SA1019 the only way to a point that is not on its curve
		"off the curve": {&ecdsa.PublicKey{Curve: elliptic.P256(), X: big.NewInt(1), Y: big.NewInt(1)}, "ECDSA"},
		//lint:ignore SA1019 the only way to the point at infinity
		"infinity":         {&ecdsa.PublicKey{Curve: elliptic.P256(), X: new(big.Int), Y: new(big.Int)}, "ECDSA"},
		"no curve":         {&ecdsa.PublicKey{}, "ECDSA"},
		"Ed25519 short":    {ed25519.PublicKey(make([]byte, 31)), "bytes"},
		"nothing":          {nil, "not accepted"},
		"a private key":    {catest.ECDSA(t, elliptic.P256()), "not accepted"},
		"a key by value":   {catest.ECDSA(t, elliptic.P256()).PublicKey, "not accepted"},
		"an ECDH key":      {&ecdh.PublicKey{}, "not accepted"},
		"an empty RSA key": {&rsa.PublicKey{}, "modulus"},
	} {
		err := checkKey(c.key)
		if err == nil || !strings.Contains(err.Error(), c.reason) {
			t.Errorf("%s: %v, want %q", name, err, c.reason)
		}
		if _, err := VerifyProof(c.key, []string{"x"}, []byte("x")); err == nil {
			t.Errorf("%s: proof accepted", name)
		}
	}
	// Through the parser, where the request's bytes come in.
	key := rsaOf(rocaN, 65537)
	_, err := ParsePublicKey(spkiOf(t, key))
	wantRefused(t, "ROCA", err, msgKeyInsecure)
	_, err = ParsePublicKey(spkiOf(t, catest.ECDSA(t, elliptic.P224()).Public()))
	wantRefused(t, "P-224", err, msgKeyInsecure)
	x, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, err = ParsePublicKey(spkiOf(t, x.PublicKey()))
	wantRefused(t, "X25519", err, msgKeyInsecure)
	p256 := asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7}
	off := append([]byte{4}, make([]byte, 64)...)
	off[32], off[64] = 1, 1
	_, err = ParsePublicKey(pointSPKI(t, p256, off))
	wantRefused(t, "off the curve", err, msgKeyUnparsable)
	_, err = ParsePublicKey(pointSPKI(t, p256, []byte{0}))
	wantRefused(t, "infinity", err, msgKeyUnparsable)
}

// For each refused Ed25519 point a signature can be made without a key, which is
// why it is refused.
func TestEd25519SmallOrder(t *testing.T) {
	points := []string{
		"0000000000000000000000000000000000000000000000000000000000000000",
		"0100000000000000000000000000000000000000000000000000000000000000",
		"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
		"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		// The same with the sign of x set.
		"0000000000000000000000000000000000000000000000000000000000000080",
		"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
		"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
	}
	forged := append([]byte{1}, make([]byte, 63)...) // R is the neutral point, S is 0
	for _, p := range points {
		key, err := hex.DecodeString(p)
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for i := range 500 {
			message := sha512.Sum512([]byte{byte(i), byte(i >> 8)})
			found = found || ed25519.Verify(key, message[:], forged)
		}
		if !found {
			t.Errorf("%s: not a point of small order", p)
		}
		if err := checkKey(ed25519.PublicKey(key)); err == nil {
			t.Errorf("%s is accepted", p)
		}
	}
}

func TestVerifyProof(t *testing.T) {
	subjects := []string{"dev@example.com", "subject-1"}
	others := testKeys(t)
	for name, key := range testKeys(t) {
		for _, h := range append(hashesOf(key.Public()), crypto.SHA256) {
			for _, subject := range subjects {
				proof, err := signProof(key, h, subject)
				if err != nil {
					t.Fatal(err)
				}
				if k, err := VerifyProof(key.Public(), subjects, proof); err != nil || !k.valid() {
					t.Errorf("%s %v %s: %v", name, h, subject, err)
				}
				if subject != subjects[0] || h != hashesOf(key.Public())[0] {
					continue
				}
				for at := 0; at < len(proof); at += 1 + len(proof)/16 {
					proof[at] ^= 0x10
					if _, err := VerifyProof(key.Public(), subjects, proof); err == nil {
						t.Errorf("%s: a changed byte %d is accepted", name, at)
					}
					proof[at] ^= 0x10
				}
			}
		}
		wrongs := map[string]struct {
			hash    crypto.Hash
			subject string
		}{
			"other subject":  {crypto.SHA256, "mallory@example.com"},
			"empty subject":  {crypto.SHA256, ""},
			"SHA-512":        {crypto.SHA512, subjects[0]},
			"prefix":         {crypto.SHA256, "dev@example.co"},
			"other spelling": {crypto.SHA256, "Dev@example.com"},
		}
		for wrong, c := range wrongs {
			if wrong == "SHA-512" && (name == "P-521" || name == "Ed25519") {
				continue
			}
			proof, err := signProof(key, c.hash, c.subject)
			if err != nil {
				t.Fatal(err)
			}
			_, err = VerifyProof(key.Public(), append(subjects, ""), proof)
			wantRefused(t, name+" "+wrong, err, msgProof)
		}
		for empty, proof := range map[string][]byte{"nil": nil, "empty": {}, "zero": make([]byte, 64), "long": make([]byte, maxProof+1)} {
			_, err := VerifyProof(key.Public(), subjects, proof)
			wantRefused(t, name+" "+empty, err, msgProof)
		}
		proof, err := signProof(key, hashesOf(key.Public())[0], subjects[0])
		if err != nil {
			t.Fatal(err)
		}
		_, err = VerifyProof(key.Public(), nil, proof)
		wantRefused(t, name+" no subjects", err, msgProof)
		for otherName, other := range others {
			if _, err := VerifyProof(other.Public(), subjects, proof); err == nil {
				t.Errorf("a proof by %s passes for %s", name, otherName)
			}
		}
	}
	// r or s of zero, and RSA-PSS.
	key := catest.ECDSA(t, elliptic.P256())
	for _, proof := range []string{"\x30\x06\x02\x01\x00\x02\x01\x00", "\x30\x06\x02\x01\x01\x02\x01\x00", "\x30\x06\x02\x01\x00\x02\x01\x01"} {
		_, err := VerifyProof(key.Public(), subjects, []byte(proof))
		wantRefused(t, "zero", err, msgProof)
	}
	rsaKey := testKeys(t)["RSA-2048"]
	digest := crypto.SHA256.New()
	digest.Write([]byte(subjects[0]))
	pss, err := rsaKey.Sign(rand.Reader, digest.Sum(nil), &rsa.PSSOptions{Hash: crypto.SHA256})
	if err != nil {
		t.Fatal(err)
	}
	_, err = VerifyProof(rsaKey.Public(), subjects, pss)
	wantRefused(t, "PSS", err, msgProof)
}

func TestParseCSR(t *testing.T) {
	for name, key := range testKeys(t) {
		der := csrOf(t, key, 0)
		for _, kind := range []string{"CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"} {
			k, err := ParseCSR(pemOf(kind, der))
			if err != nil || !k.PublicKey().(interface{ Equal(crypto.PublicKey) bool }).Equal(key.Public()) {
				t.Errorf("%s %s: %v", name, kind, err)
			}
		}
		whole := pemOf("CERTIFICATE REQUEST", der)
		for i := range len(whole) - 1 {
			if _, err := ParseCSR(whole[:i]); err == nil {
				t.Errorf("%s: %d bytes are accepted", name, i)
			}
		}
		for i := range der {
			changed := bytes.Clone(der)
			changed[i] ^= 0x01
			// The parameters of the outer algorithm are neither signed nor
			// looked at; whatever passes is the same key.
			if k, err := ParseCSR(pemOf("CERTIFICATE REQUEST", changed)); err == nil && !bytes.Equal(k.spki, spkiOf(t, key.Public())) {
				t.Errorf("%s: a changed byte %d gives another key", name, i)
			}
		}
		_, err := ParseCSR(append(whole, whole...))
		wantRefused(t, name+" twice", err, msgCSRUnparsable)
	}
	for name, data := range map[string][]byte{
		"nil": nil, "text": []byte("csr"), "key": pemOf("PUBLIC KEY", spkiOf(t, testKeys(t)["P-256"].Public())),
		"DER": csrOf(t, testKeys(t)["P-256"], 0), "long": make([]byte, maxCSR+1),
	} {
		_, err := ParseCSR(data)
		wantRefused(t, name, err, msgCSRUnparsable)
	}
	rsaKey := testKeys(t)["RSA-2048"]
	for alg, message := range map[x509.SignatureAlgorithm]string{
		x509.SHA256WithRSA:    "",
		x509.SHA512WithRSA:    "signing algorithm not permitted: *rsa.PublicKey, SHA-512",
		x509.SHA256WithRSAPSS: "unrecognized signature algorithm: SHA256-RSAPSS",
	} {
		_, err := ParseCSR(pemOf("CERTIFICATE REQUEST", csrOf(t, rsaKey, alg)))
		if message == "" && err == nil {
			continue
		}
		wantRefused(t, alg.String(), err, message)
	}
	_, err := ParseCSR(pemOf("CERTIFICATE REQUEST", csrOf(t, catest.ECDSA(t, elliptic.P256()), x509.ECDSAWithSHA384)))
	wantRefused(t, "P-256 with SHA-384", err, "signing algorithm not permitted: *ecdsa.PublicKey, SHA-384")
	_, err = ParseCSR(pemOf("CERTIFICATE REQUEST", csrOf(t, catest.ECDSA(t, elliptic.P224()), x509.ECDSAWithSHA256)))
	wantRefused(t, "P-224", err, msgKeyInsecure)
	if k, err := ParseCSR(pemOf("CERTIFICATE REQUEST", csrOf(t, catest.ECDSA(t, elliptic.P384()), x509.ECDSAWithSHA256))); err != nil || !k.valid() {
		t.Errorf("P-384 with SHA-256: %v", err)
	}
	// Signed by another key than its own.
	der := csrOf(t, catest.ECDSA(t, elliptic.P256()), 0)
	var csr struct {
		Info      asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}
	if _, err := asn1.Unmarshal(der, &csr); err != nil {
		t.Fatal(err)
	}
	digest := crypto.SHA256.New()
	digest.Write(csr.Info.FullBytes)
	if csr.Signature.Bytes, err = catest.ECDSA(t, elliptic.P256()).Sign(rand.Reader, digest.Sum(nil), crypto.SHA256); err != nil {
		t.Fatal(err)
	}
	csr.Signature.BitLength = 8 * len(csr.Signature.Bytes)
	if der, err = asn1.Marshal(csr); err != nil {
		t.Fatal(err)
	}
	_, err = ParseCSR(pemOf("CERTIFICATE REQUEST", der))
	wantRefused(t, "another's signature", err, msgProof)
}

// allocated is how many bytes f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// Hostile input costs memory in proportion to its size.
func TestAllocationBudget(t *testing.T) {
	tlv := func(tag byte, body []byte) []byte {
		return append([]byte{tag, 0x83, byte(len(body) >> 16), byte(len(body) >> 8), byte(len(body))}, body...)
	}
	nested := []byte{}
	for len(nested) < 30<<10 {
		nested = tlv(0x30, nested)
	}
	rng := bytes.Repeat([]byte{0x30, 0}, 15<<10)
	hostile := map[string][]byte{
		"dashes":      bytes.Repeat([]byte("-----BEGIN PUBLIC KEY-----\n"), 150000),
		"begins":      bytes.Repeat([]byte("-----BEGIN "), 400000),
		"nested":      nested,
		"empty items": tlv(0x30, rng),
		"long OID":    tlv(0x30, tlv(0x30, tlv(0x06, bytes.Repeat([]byte{1}, 7<<10)))),
		"big number":  tlv(0x30, tlv(0x02, bytes.Repeat([]byte{0x7f}, 8<<10))),
		"4 MiB":       make([]byte, 4<<20),
		"headers":     append([]byte("-----BEGIN PUBLIC KEY-----\n"), bytes.Repeat([]byte("a: b\n"), 1600)...),
	}
	for name, data := range hostile {
		for form, input := range map[string][]byte{"": data, "PEM ": pemOf("PUBLIC KEY", data), "CSR ": pemOf("CERTIFICATE REQUEST", data)} {
			used := allocated(func() {
				if _, err := ParsePublicKey(input); err == nil {
					t.Errorf("%s%s is a key", form, name)
				}
				if _, err := ParseCSR(input); err == nil {
					t.Errorf("%s%s is a request", form, name)
				}
				if _, err := split(input); err == nil {
					t.Errorf("%s%s is a TBSCertificate", form, name)
				}
				if _, err := parseSCT(input); err == nil {
					t.Errorf("%s%s is an SCT", form, name)
				}
			})
			if limit := uint64(10*len(input) + 1<<20); used > limit {
				t.Errorf("%s%s: %d bytes allocated for %d", form, name, used, len(input))
			}
		}
	}
}
