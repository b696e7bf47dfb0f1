package badinput

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// A carrier is a place in a request where a key or certificate stands.
type carrier struct {
	name string
	// request is one with this in place of the key; all else fits the P-256 key.
	request func(key []byte) request
	ok      int // where the key is taken
	pem     bool
	der     bool
}

func (s *suite) carriers() []carrier {
	digest := digestOf("sha256", []byte("carrier"))
	sig := signASN1(s.keys.p256, digest)
	payload := []byte("carrier")
	env := marshal(envelope("text/plain", payload, s.keys.p256))
	token := s.token()
	return []carrier{
		{"hashedrekord", func(key []byte) request { return postJSON(pathEntry, hashedRekord("sha256", digest, sig, key)) }, http.StatusConflict, true, false},
		{"rekord x509", func(key []byte) request {
			return postJSON(pathEntry, rekord("x509", payload, signMessage(s.keys.p256, payload), key))
		}, http.StatusConflict, true, false},
		{"dsse", func(key []byte) request { return postJSON(pathEntry, dsse(env, key)) }, http.StatusConflict, true, false},
		{"search", func(key []byte) request {
			return postJSON("/api/v1/index/retrieve", marshal(object{"publicKey": object{"format": "x509", "content": base64Of(key)}}))
		}, http.StatusOK, true, false},
		{"signingCert v2", func(key []byte) request {
			r := s.certRequest(token)
			r["publicKeyRequest"].(object)["publicKey"] = object{"content": string(key)}
			return postJSON(pathV2, marshal(r))
		}, http.StatusOK, true, false},
		{"signingCert v1", func(key []byte) request {
			r := s.oldRequest()
			r["publicKey"] = object{"content": base64Of(key)}
			return postJSON(pathV1, marshal(r)).with("Authorization", "Bearer "+token)
		}, http.StatusCreated, true, true},
	}
}

// signMessage is ECDSA with SHA-256 over a message. It is the same each time,
// so that one message gives one entry.
func signMessage(k *ecdsa.PrivateKey, message []byte) []byte {
	digest := sha256.Sum256(message)
	return must(k.Sign(nil, digest[:], crypto.SHA256)) // RFC 6979
}

func rekord(format string, content, sig, key []byte) []byte {
	return marshal(object{"kind": "rekord", "apiVersion": "0.0.1", "spec": object{
		"data":      object{"content": base64Of(content)},
		"signature": object{"format": format, "content": base64Of(sig), "publicKey": object{"content": base64Of(key)}},
	}})
}

// signedPackage returns the package and the key of a vector.
func (k *keys) signedPackage(name string) (content, key []byte) {
	var v struct {
		Spec struct{ Package, PublicKey struct{ Content []byte } }
	}
	if err := json.Unmarshal(k.vectors[name], &v); err != nil {
		panic(err)
	}
	return v.Spec.Package.Content, v.Spec.PublicKey.Content
}

func signedPackage(kind string, content, key []byte) []byte {
	return marshal(object{"kind": kind, "apiVersion": "0.0.1", "spec": object{
		"publicKey": object{"content": base64Of(key)}, "package": object{"content": base64Of(content)}}})
}

// provenance returns the provenance file and the key of the vector for helm.
func (k *keys) provenance() (content, key []byte) {
	var v struct {
		Spec struct {
			PublicKey struct{ Content []byte }
			Chart     struct{ Provenance struct{ Content []byte } }
		}
	}
	if err := json.Unmarshal(k.vectors["helm"], &v); err != nil {
		panic(err)
	}
	return v.Spec.Chart.Provenance.Content, v.Spec.PublicKey.Content
}

func provenance(content, key []byte) []byte {
	return marshal(object{"kind": "helm", "apiVersion": "0.0.1", "spec": object{
		"publicKey": object{"content": base64Of(key)}, "chart": object{"provenance": object{"content": base64Of(content)}}}})
}

// zippedTar is an archive of files, name and content in turns.
func zippedTar(files ...string) []byte {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	w := tar.NewWriter(z)
	for i := 0; i < len(files); i += 2 {
		if err := w.WriteHeader(&tar.Header{Name: files[i], Size: int64(len(files[i+1]))}); err != nil {
			panic(err)
		}
		must(w.Write([]byte(files[i+1])))
	}
	w.Close()
	z.Close()
	return out.Bytes()
}

// rpmHeader is an RPM package that ends with its signature header, which has
// one entry many times.
func rpmHeader(entries int, entry, data []byte) []byte {
	out := make([]byte, 96)
	copy(out, "\xed\xab\xee\xdb")
	out = append(out, "\x8e\xad\xe8\x01\x00\x00\x00\x00"...)
	out = binary.BigEndian.AppendUint32(out, uint32(entries))
	out = binary.BigEndian.AppendUint32(out, uint32(len(data)))
	return slices.Concat(out, bytes.Repeat(entry, entries), data)
}

// badKeys sends keys that are cut, followed by something, or weak.
func (s *suite) badKeys(t *testing.T) {
	total := 0
	good, der := publicPEM(s.keys.p256), spki(s.keys.p256.Public())
	cert := pemOf("CERTIFICATE", certificate(s.keys.p256, nil))
	for _, c := range s.carriers() {
		if a := s.send(c.request(good)); a.status/100 != 2 && a.status != http.StatusConflict {
			t.Errorf("%s: the good key gets %d %s", c.name, a.status, clip(string(a.body)))
		}
		isCert := strings.HasPrefix(c.name, "signingCert")
		takes := func(yes bool) int {
			if yes {
				return c.ok
			}
			return http.StatusBadRequest
		}
		check := func(what string, key []byte, want int) {
			total++
			s.expect(want, c.name+": "+what, c.request(key))
		}
		for i := range good {
			check(fmt.Sprintf("PEM cut at %d", i), good[:i], takes(i == len(good)-1))
		}
		for i := range der {
			check(fmt.Sprintf("DER cut at %d", i), der[:i], http.StatusBadRequest)
			check(fmt.Sprintf("DER in PEM cut at %d", i), pemOf("PUBLIC KEY", der[:i]), http.StatusBadRequest)
		}
		check("DER", der, takes(c.der))
		check("DER and a byte", append(der[:len(der):len(der)], 0), http.StatusBadRequest)
		check("PEM around DER and a byte", pemOf("PUBLIC KEY", append(der[:len(der):len(der)], 0)), http.StatusBadRequest)
		check("white space around", slices.Concat([]byte("\n \t"), good, []byte("\r\n  ")), c.ok)
		check("text before", slices.Concat([]byte("hello\n"), good), takes(!isCert))
		check("text behind", slices.Concat(good, []byte("hello\n")), http.StatusBadRequest)
		check("NUL behind", slices.Concat(good, []byte{0}), http.StatusBadRequest)
		check("two blocks", slices.Concat(good, good), http.StatusBadRequest)
		check("another key behind", slices.Concat(good, publicPEM(s.keys.p384)), http.StatusBadRequest)
		check("a certificate behind", slices.Concat(good, cert), http.StatusBadRequest)
		check("a half block behind", slices.Concat(good, good[:60]), http.StatusBadRequest)
		check("headers", bytes.Replace(good, []byte("KEY-----\n"), []byte("KEY-----\nProc-Type: 4,ENCRYPTED\nX: y\n\n"), 1), takes(!isCert))
		check("CRLF", bytes.ReplaceAll(good, []byte("\n"), []byte("\r\n")), c.ok)
		check("invalid UTF-8 text before", slices.Concat([]byte{0xff, 0xfe, '\n'}, good), takes(!isCert))
		for _, kind := range []string{"EC PUBLIC KEY", "RSA PUBLIC KEY", "PRIVATE KEY", "CERTIFICATE", "CERTIFICATE REQUEST", "PGP PUBLIC KEY BLOCK", "", "PUBLIC  KEY", "public key", "X\x00", strings.Repeat("A", 5000)} {
			check("PEM type "+clip(kind), pemOf(kind, der), http.StatusBadRequest)
		}
		// BER: a length with a byte too many, and the indefinite length.
		check("long length", pemOf("PUBLIC KEY", slices.Concat([]byte{0x30, 0x81, der[1]}, der[2:])), http.StatusBadRequest)
		check("longer length", pemOf("PUBLIC KEY", slices.Concat([]byte{0x30, 0x82, 0, der[1]}, der[2:])), http.StatusBadRequest)
		check("indefinite length", pemOf("PUBLIC KEY", slices.Concat([]byte{0x30, 0x80}, der[2:], []byte{0, 0})), http.StatusBadRequest)
		check("length of 4 GiB", pemOf("PUBLIC KEY", slices.Concat([]byte{0x30, 0x84, 0xff, 0xff, 0xff, 0xff}, der[2:])), http.StatusBadRequest)
		check("nested", pemOf("PUBLIC KEY", bytes.Repeat([]byte{0x30, 0x80}, 2000)), http.StatusBadRequest)

		for name, key := range s.badPublicKeys() {
			// No signature fits these keys; a search only needs to parse them.
			want := http.StatusBadRequest
			if c.name == "search" && (strings.HasPrefix(name, "exponent") || name == "RSA 2048, even") {
				want = s.parsed(key)
			}
			check(name, pemOf("PUBLIC KEY", key), want)
		}
		// Private keys are nobody's business here.
		check("private key", pemOf("PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(s.keys.p256))), http.StatusBadRequest)
		check("EC private key", pemOf("EC PRIVATE KEY", must(x509.MarshalECPrivateKey(s.keys.p256))), http.StatusBadRequest)
	}

	// The parts of certificates, where a certificate may stand.
	leaf := certificate(s.keys.p256, nil)
	digest := digestOf("sha256", []byte("certificates"))
	sig := signASN1(s.keys.p256, digest)
	with := func(key []byte) request { return postJSON(pathEntry, hashedRekord("sha256", digest, sig, key)) }
	check := func(want int, what string, key []byte) { total++; s.expect(want, "certificate: "+what, with(key)) }
	check(201, "good", pemOf("CERTIFICATE", leaf))
	for i := range leaf {
		check(400, fmt.Sprintf("cut at %d", i), pemOf("CERTIFICATE", leaf[:i]))
	}
	text := pemOf("CERTIFICATE", leaf)
	for i := range text {
		want := 400
		if i == len(text)-1 {
			want = 409 // only the last line break is missing
		}
		check(want, fmt.Sprintf("PEM cut at %d", i), text[:i])
	}
	check(400, "and a byte", pemOf("CERTIFICATE", append(leaf[:len(leaf):len(leaf)], 0)))
	check(400, "and text", append(text[:len(text):len(text)], "x"...))
	check(400, "another, that did not sign it", slices.Concat(text, pemOf("CERTIFICATE", certificate(s.keys.p384, nil))))
	check(400, "and a public key", slices.Concat(text, publicPEM(s.keys.p256)))
	check(400, "eleven", bytes.Repeat(text, 11))
	for name, change := range badCertificates {
		check(change.want, name, pemOf("CERTIFICATE", changed(leaf, change.edit)))
	}

	total += s.badRequests(t)
	t.Logf("%d keys and certificates", total)
}

// parsed is the status of a search by a key that crypto/x509 reads.
func (s *suite) parsed(der []byte) int {
	if _, err := x509.ParsePKIXPublicKey(der); err != nil {
		return http.StatusBadRequest
	}
	return http.StatusOK
}

// badPublicKeys are SubjectPublicKeyInfos that nobody should use.
func (s *suite) badPublicKeys() map[string][]byte {
	rsaKey := func(n *big.Int, e int64) []byte {
		inner := must(asn1.Marshal(struct{ N, E *big.Int }{n, big.NewInt(e)}))
		return must(asn1.Marshal(struct {
			Algorithm pkix.AlgorithmIdentifier
			Key       asn1.BitString
		}{pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}, Parameters: asn1.NullRawValue}, asn1.BitString{Bytes: inner, BitLength: 8 * len(inner)}}))
	}
	ec := func(oid asn1.ObjectIdentifier, point []byte) []byte {
		return must(asn1.Marshal(struct {
			Algorithm pkix.AlgorithmIdentifier
			Key       asn1.BitString
		}{pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}, Parameters: asn1.RawValue{FullBytes: must(asn1.Marshal(oid))}}, asn1.BitString{Bytes: point, BitLength: 8 * len(point)}}))
	}
	p256, p224 := asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7}, asn1.ObjectIdentifier{1, 3, 132, 0, 33}
	point := must(s.keys.p256.PublicKey.Bytes())
	off := slices.Clone(point)
	off[64] ^= 1
	n := s.keys.rsa2048.N
	huge := new(big.Int).Lsh(big.NewInt(1), 100_000)
	long := asn1.ObjectIdentifier{1, 3}
	for i := range 2000 {
		long = append(long, 1<<20+i)
	}
	return map[string][]byte{
		"RSA 1 bit":                  rsaKey(big.NewInt(1), 65537),
		"RSA 0":                      rsaKey(big.NewInt(0), 65537),
		"RSA negative":               rsaKey(big.NewInt(-15), 65537),
		"RSA 512":                    rsaKey(new(big.Int).SetBit(big.NewInt(1), 511, 1), 65537),
		"RSA 1023":                   rsaKey(new(big.Int).SetBit(big.NewInt(1), 1022, 1), 65537),
		"RSA 16384":                  rsaKey(new(big.Int).SetBit(big.NewInt(1), 16383, 1), 65537),
		"RSA 100,000":                rsaKey(huge.Add(huge, big.NewInt(1)), 65537),
		"RSA 2048, even":             rsaKey(new(big.Int).SetBit(n, 0, 0), 65537),
		"exponent 0":                 rsaKey(n, 0),
		"exponent 1":                 rsaKey(n, 1),
		"exponent 2":                 rsaKey(n, 2),
		"exponent 3":                 rsaKey(n, 3),
		"exponent -3":                rsaKey(n, -3),
		"exponent 65536":             rsaKey(n, 65536),
		"exponent 2^31":              rsaKey(n, 1<<31),
		"exponent 2^40+1":            rsaKey(n, 1<<40+1),
		"P-224":                      spki(s.keys.p224.Public()),
		"P-224 key as P-256":         ec(p256, must(s.keys.p224.PublicKey.Bytes())),
		"P-256 key as P-224":         ec(p224, point),
		"point not on the curve":     ec(p256, off),
		"point at infinity":          ec(p256, []byte{0}),
		"point (0, 0)":               ec(p256, append([]byte{4}, make([]byte, 64)...)),
		"point without y":            ec(p256, point[:33]),
		"compressed point":           ec(p256, append([]byte{2 + point[64]&1}, point[1:33]...)),
		"coordinates too large":      ec(p256, append([]byte{4}, bytes.Repeat([]byte{0xff}, 64)...)),
		"unknown curve":              ec(asn1.ObjectIdentifier{1, 2, 3}, point),
		"secp256k1":                  ec(asn1.ObjectIdentifier{1, 3, 132, 0, 10}, point),
		"curve with a long name":     ec(long, point),
		"Ed25519 of 31 bytes":        ed(make([]byte, 31)),
		"Ed25519 of 33 bytes":        ed(make([]byte, 33)),
		"X25519":                     ed25519As(asn1.ObjectIdentifier{1, 3, 101, 110}, make([]byte, 32)),
		"Ed448":                      ed25519As(asn1.ObjectIdentifier{1, 3, 101, 113}, make([]byte, 57)),
		"algorithm with a long name": ed25519As(long, make([]byte, 32)),
		"DSA":                        ed25519As(asn1.ObjectIdentifier{1, 2, 840, 10040, 4, 1}, make([]byte, 64)),
	}
}

func ed(key []byte) []byte { return ed25519As(asn1.ObjectIdentifier{1, 3, 101, 112}, key) }

func ed25519As(oid asn1.ObjectIdentifier, key []byte) []byte {
	return must(asn1.Marshal(struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}{pkix.AlgorithmIdentifier{Algorithm: oid}, asn1.BitString{Bytes: key, BitLength: 8 * len(key)}}))
}

// tbs is a TBSCertificate (RFC 5280, section 4.1) in parts that can be changed.
type tbs struct {
	Version    asn1.RawValue `asn1:"explicit,tag:0,optional"`
	Serial     *big.Int
	Algorithm  asn1.RawValue
	Issuer     asn1.RawValue
	Validity   asn1.RawValue
	Subject    asn1.RawValue
	Key        asn1.RawValue
	Extensions []pkix.Extension `asn1:"explicit,tag:3,optional"`
}

// parts takes a certificate apart.
func parts(cert []byte) (t tbs, rest [2]asn1.RawValue) {
	var c struct {
		TBS       asn1.RawValue
		Algorithm asn1.RawValue
		Signature asn1.RawValue
	}
	must(asn1.Unmarshal(cert, &c))
	must(asn1.Unmarshal(c.TBS.FullBytes, &t))
	return t, [2]asn1.RawValue{c.Algorithm, c.Signature}
}

// changed changes a certificate without signing it again: who only reads its
// key cannot tell.
func changed(cert []byte, edit func(*tbs)) []byte {
	t, rest := parts(cert)
	edit(&t)
	return must(asn1.Marshal(struct {
		TBS       tbs
		Algorithm asn1.RawValue
		Signature asn1.RawValue
	}{t, rest[0], rest[1]}))
}

// badCertificates are changes to a certificate and what an entry with it gets:
// the log stores certificates and does not judge them, but what does not parse
// is refused.
var badCertificates = map[string]struct {
	want int
	edit func(*tbs)
}{
	"negative serial":       {400, func(t *tbs) { t.Serial = big.NewInt(-1) }},
	"serial 0":              {201, func(t *tbs) { t.Serial = big.NewInt(0) }},
	"serial of 3 KB":        {201, func(t *tbs) { t.Serial = new(big.Int).Lsh(big.NewInt(1), 24000) }},
	"version 0":             {201, func(t *tbs) { t.Version = asn1.RawValue{FullBytes: []byte{0xa0, 3, 2, 1, 0}} }},
	"version 9":             {400, func(t *tbs) { t.Version = asn1.RawValue{FullBytes: []byte{0xa0, 3, 2, 1, 9}} }},
	"version -1":            {400, func(t *tbs) { t.Version = asn1.RawValue{FullBytes: []byte{0xa0, 3, 2, 1, 0xff}} }},
	"other algorithm":       {400, func(t *tbs) { t.Algorithm = asn1.RawValue{FullBytes: []byte{0x30, 3, 6, 1, 0x2a}} }},
	"no validity":           {400, func(t *tbs) { t.Validity = asn1.RawValue{FullBytes: []byte{0x30, 0}} }},
	"year 0":                {400, func(t *tbs) { t.Validity = validity("000001000000Z", "000001000000Z") }},
	"month 13":              {400, func(t *tbs) { t.Validity = validity("251301000000Z", "251301000000Z") }},
	"ends before it begins": {201, func(t *tbs) { t.Validity = validity("260101000000Z", "250101000000Z") }},
	"subject is no name":    {400, func(t *tbs) { t.Subject = asn1.RawValue{FullBytes: []byte{0x30, 2, 5, 0}} }},
	"subject not UTF-8": {400, func(t *tbs) {
		t.Subject = asn1.RawValue{FullBytes: []byte{0x30, 0x0d, 0x31, 0x0b, 0x30, 9, 6, 3, 0x55, 4, 3, 0x0c, 2, 0xff, 0xfe}}
	}},
	"the same extension twice": {400, func(t *tbs) { t.Extensions = append(t.Extensions, t.Extensions[0]) }},
	"extension of 10 KB": {201, func(t *tbs) {
		t.Extensions = append(t.Extensions, pkix.Extension{Id: []int{1, 2, 3}, Value: make([]byte, 10000)})
	}},
	"SAN that is no sequence": {400, func(t *tbs) { t.Extensions = san([]byte{5, 0}) }},
	"SAN with bad UTF-8":      {400, func(t *tbs) { t.Extensions = san([]byte{0x30, 4, 0x81, 2, 0xff, 0xfe}) }},
	"SAN with NUL":            {201, func(t *tbs) { t.Extensions = san([]byte{0x30, 5, 0x81, 3, 'a', 0, 'b'}) }},
	"SAN with a bad URI":      {400, func(t *tbs) { t.Extensions = san([]byte{0x30, 5, 0x86, 3, ':', ':', '%'}) }},
	"SAN with 3 bytes of IP":  {400, func(t *tbs) { t.Extensions = san([]byte{0x30, 5, 0x87, 3, 1, 2, 3}) }},
	"empty SAN":               {201, func(t *tbs) { t.Extensions = san([]byte{0x30, 0}) }},
	"SAN with 200 names": {201, func(t *tbs) {
		t.Extensions = san(must(asn1.Marshal(slices.Repeat([]asn1.RawValue{{FullBytes: []byte{0x81, 3, 'a', '@', 'b'}}}, 200))))
	}},
}

func validity(from, to string) asn1.RawValue {
	time := func(s string) asn1.RawValue { return asn1.RawValue{Tag: asn1.TagUTCTime, Bytes: []byte(s)} }
	return asn1.RawValue{FullBytes: must(asn1.Marshal([]asn1.RawValue{time(from), time(to)}))}
}

func san(value []byte) []pkix.Extension {
	return []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: value}}
}

func withExtension(e pkix.Extension) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.ExtraExtensions = append(c.ExtraExtensions, e) }
}

// badRequests sends certificate requests (PKCS #10).
func (s *suite) badRequests(t *testing.T) int {
	total := 0
	token := s.token()
	check := func(want int, what string, csr []byte) {
		total += 2
		s.expect(want, "CSR: "+what, postJSON(pathV2, marshal(object{"credentials": object{"oidcIdentityToken": token}, "certificateSigningRequest": base64Of(csr)})))
		v1 := want
		if want == http.StatusOK {
			v1 = http.StatusCreated
		}
		s.expect(v1, "CSR, v1: "+what, postJSON(pathV1, marshal(object{"certificateSigningRequest": base64Of(csr)})).with("Authorization", "Bearer "+token))
	}
	good := csrPEM(s.keys.p256, nil)
	check(200, "good", good)
	for i := 1; i < len(good); i++ { // of nothing there is none: a key is looked for
		want := 400
		if i == len(good)-1 {
			want = 200
		}
		check(want, fmt.Sprintf("cut at %d", i), good[:i])
	}
	check(400, "two", slices.Concat(good, good))
	check(400, "text before", slices.Concat([]byte("x\n"), good))
	check(400, "a key", publicPEM(s.keys.p256))
	check(400, "a certificate", pemOf("CERTIFICATE", certificate(s.keys.p256, nil)))
	block := csrDER(good)
	check(400, "DER", block)
	check(400, "and a byte", pemOf("CERTIFICATE REQUEST", append(block[:len(block):len(block)], 0)))
	check(200, "the old name of the block", pemOf("NEW CERTIFICATE REQUEST", block))
	for i := range block {
		if i%2 == 1 {
			continue
		}
		flipped := slices.Clone(block)
		flipped[i] ^= 0x10
		check(400, fmt.Sprintf("bit of byte %d flipped", i), pemOf("CERTIFICATE REQUEST", flipped))
	}
	check(400, "P-224", csrPEM(s.keys.p224, nil))
	check(400, "RSA 1024", rsaCSR(s.keys.rsa1024))
	check(200, "RSA 2048", csrPEM(s.keys.rsa2048, nil))
	check(200, "Ed25519", csrPEM(s.keys.ed, nil))
	check(200, "P-384 with SHA-256", csrPEM(s.keys.p384, func(c *x509.CertificateRequest) { c.SignatureAlgorithm = x509.ECDSAWithSHA256 }))
	check(400, "P-256 with SHA-384", csrPEM(s.keys.p256, func(c *x509.CertificateRequest) { c.SignatureAlgorithm = x509.ECDSAWithSHA384 }))
	check(400, "RSA-PSS", csrPEM(s.keys.rsa2048, func(c *x509.CertificateRequest) { c.SignatureAlgorithm = x509.SHA256WithRSAPSS }))
	check(400, "RSA with SHA-512", csrPEM(s.keys.rsa2048, func(c *x509.CertificateRequest) { c.SignatureAlgorithm = x509.SHA512WithRSA }))
	check(200, "CA:TRUE in its attributes", csrPEM(s.keys.p256, func(c *x509.CertificateRequest) {
		c.ExtraExtensions = []pkix.Extension{{Id: []int{2, 5, 29, 19}, Critical: true, Value: []byte{0x30, 3, 1, 1, 0xff}}}
	}))
	check(400, "more than 32 KiB", append(slices.Repeat([]byte("\n"), 32<<10), good...))
	return total
}

func csrDER(text []byte) []byte {
	block, _ := pemDecode(text)
	return block
}

// rsaCSR is a request for a key that crypto/x509 does not sign with.
func rsaCSR(k *rsa.PrivateKey) []byte {
	type info struct {
		Version    int
		Subject    asn1.RawValue
		Key        asn1.RawValue
		Attributes []asn1.RawValue `asn1:"tag:0"`
	}
	tbs := must(asn1.Marshal(info{Subject: asn1.RawValue{FullBytes: []byte{0x30, 0}}, Key: asn1.RawValue{FullBytes: spki(k.Public())}}))
	sig := signPKCS1(k, crypto.SHA256, digestOf("sha256", tbs))
	return pemOf("CERTIFICATE REQUEST", must(asn1.Marshal(struct {
		Info      asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}{asn1.RawValue{FullBytes: tbs}, pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}, Parameters: asn1.NullRawValue}, asn1.BitString{Bytes: sig, BitLength: 8 * len(sig)}})))
}

// badChains sends chains to the CT log, most of them signed by the CA.
func (s *suite) badChains(t *testing.T) {
	total := 0
	check := func(want int, what string, pre bool, certs ...[]byte) answer {
		total++
		path := "/ct/v1/add-chain"
		if pre {
			path = "/ct/v1/add-pre-chain"
		}
		return s.expect(want, "chain: "+what, postJSON(path, chainBody(certs...)))
	}
	ca, root := s.ca.chain[0], s.ca.chain[1]
	leaf, pre := s.ca.issue(nil), s.precert()
	check(200, "good", false, leaf, ca)
	check(200, "good, with the root", false, leaf, ca, root)
	check(200, "good precertificate", true, pre, ca)
	for i := range leaf {
		check(400, fmt.Sprintf("cut at %d", i), false, leaf[:i], ca)
		if i%8 == 0 {
			check(400, fmt.Sprintf("issuer cut at %d", i), false, leaf, ca[:i])
		}
	}
	for i := range pre { // a flipped bit: the signature is over all of it
		if i%3 == 0 && i > 0 {
			flipped := slices.Clone(pre)
			flipped[i] ^= 1
			check(400, fmt.Sprintf("bit of byte %d flipped", i), true, flipped, ca)
		}
	}
	check(400, "and a byte", false, append(leaf[:len(leaf):len(leaf)], 0), ca)
	check(400, "a precertificate as a certificate", false, pre, ca)
	check(400, "a certificate as a precertificate", true, leaf, ca)
	check(400, "without its issuer", false, leaf)
	check(400, "with the root for an issuer", false, leaf, root)
	check(400, "in another order", false, leaf, root, ca)
	check(400, "the issuer twice", false, leaf, ca, ca)
	check(400, "something behind the root", false, leaf, ca, root, ca)
	check(400, "self-signed", false, certificate(s.keys.p256, nil))
	check(400, "eleven", false, append([][]byte{leaf}, slices.Repeat([][]byte{ca}, 10)...)...)
	check(400, "a certificate of 65 KB", false, s.ca.issue(withExtension(pkix.Extension{Id: []int{1, 2, 3}, Value: make([]byte, 64<<10)})), ca)
	check(400, "two poisons", true, s.ca.resigned(pre, func(t *tbs) { t.Extensions = append(t.Extensions, poison) }), ca)
	check(400, "a poison that is not critical", true, s.ca.resigned(pre, func(t *tbs) { t.Extensions[len(t.Extensions)-1].Critical = false }), ca)
	check(400, "a poison that is not NULL", true, s.ca.resigned(pre, func(t *tbs) { t.Extensions[len(t.Extensions)-1].Value = []byte{4, 0} }), ca)
	check(400, "a poison of 2 bytes too much", true, s.ca.resigned(pre, func(t *tbs) { t.Extensions[len(t.Extensions)-1].Value = []byte{5, 0, 5, 0} }), ca)
	for _, name := range sortedKeys(badCertificates) {
		change := badCertificates[name]
		want := change.want
		if want == http.StatusCreated {
			want = http.StatusOK
		}
		bad := s.ca.resigned(s.ca.issue(nil), change.edit)
		if name == "other algorithm" {
			want = 400
		}
		check(want, name, false, bad, ca)
	}
	// An issuer that the CA has signed but that may sign nothing.
	check(400, "issued by an end entity", false, certificate(s.keys.p256, nil), leaf, ca)
	t.Logf("%d chains", total)
}

// resigned changes a certificate and signs it again as the CA.
func (a *authority) resigned(cert []byte, edit func(*tbs)) []byte {
	t, _ := parts(cert)
	edit(&t)
	return a.resign(cert, must(asn1.Marshal(t)))
}

// entryAlgorithms is the whole matrix of keys, declared algorithms, hashes that
// were signed and encodings of the signature, for hashedrekord.
func (s *suite) entryAlgorithms(t *testing.T) {
	algorithms := []string{"sha256", "sha384", "sha512"}
	registry := map[string]string{ // the one hash of each kind of key
		"P-256": "sha256", "P-384": "sha384", "P-521": "sha512", "Ed25519": "sha512",
		"RSA 2048": "sha256", "RSA 3072": "sha256", "RSA 4096": "sha256",
	}
	hashes := map[string]crypto.Hash{"sha256": crypto.SHA256, "sha384": crypto.SHA384, "sha512": crypto.SHA512}
	total, accepted := 0, 0
	for _, name := range []string{"P-224", "P-256", "P-384", "P-521", "RSA 1024", "RSA 2048", "RSA 3072", "RSA 4096", "Ed25519"} {
		key := s.keys.byName(name)
		for _, signed := range algorithms {
			if name == "Ed25519" && signed != "sha512" {
				continue
			}
			for _, encoding := range encodings(key) {
				// A message of its own for each: every acceptance is a new entry.
				message := []byte(name + signed + encoding.name)
				sig := encoding.sign(hashes[signed], message)
				for _, declared := range append(algorithms, "sha1", "md5", "SHA256", "sha-256", "") {
					digest := make([]byte, 20)
					if hashes[declared] != 0 {
						digest = digestOf(declared, message)
					}
					want := http.StatusBadRequest
					if encoding.good && declared == registry[name] && signed == declared {
						want = http.StatusCreated
						accepted++
					}
					total++
					s.expect(want, fmt.Sprintf("%s, signed %s, declared %s, %s", name, signed, declared, encoding.name),
						postJSON(pathEntry, hashedRekord(declared, digest, sig, publicPEM(key))))
					// The key of another, of every kind: its signature is not this one's.
					if signed == declared && encoding.good {
						other := s.keys.byName("P-256")
						if name == "P-256" {
							other = s.keys.byName("P-384")
						}
						total++
						s.expect(http.StatusBadRequest, fmt.Sprintf("%s with another key, %s", name, encoding.name),
							postJSON(pathEntry, hashedRekord(declared, digest, sig, publicPEM(other))))
					}
				}
			}
		}
	}
	t.Logf("%d combinations, %d of them good", total, accepted)
	if total < 600 {
		t.Errorf("%d combinations, want at least 600", total)
	}
}

func (k *keys) byName(name string) crypto.Signer {
	return map[string]crypto.Signer{
		"P-224": k.p224, "P-256": k.p256, "P-384": k.p384, "P-521": k.p521,
		"RSA 1024": k.rsa1024, "RSA 2048": k.rsa2048, "RSA 3072": k.rsa3072, "RSA 4096": k.rsa4096, "Ed25519": k.ed,
	}[name]
}

// An encoding is one way to write a signature of a key.
type encoding struct {
	name string
	good bool // the log takes it, if the key and the hash are right
	sign func(h crypto.Hash, message []byte) []byte
}

func hashWith(h crypto.Hash, message []byte) []byte {
	d := h.New()
	d.Write(message)
	return d.Sum(nil)
}

// encodings are the signatures that somebody may try with a key. The first one
// is the plain one.
func encodings(key crypto.Signer) []encoding {
	switch k := key.(type) {
	case *rsa.PrivateKey:
		pkcs1 := func(h crypto.Hash, m []byte) []byte { return signPKCS1(k, h, hashWith(h, m)) }
		all := []encoding{
			{"PKCS #1 v1.5", true, pkcs1},
			{"PKCS #1 v1.5 with a leading zero", false, func(h crypto.Hash, m []byte) []byte { return append([]byte{0}, pkcs1(h, m)...) }},
			{"PKCS #1 v1.5 with a byte behind", false, func(h crypto.Hash, m []byte) []byte { return append(pkcs1(h, m), 0) }},
			{"plus the modulus", false, func(h crypto.Hash, m []byte) []byte {
				n := new(big.Int).SetBytes(pkcs1(h, m))
				return n.Add(n, k.N).Bytes()
			}},
			{"zero", false, func(crypto.Hash, []byte) []byte { return make([]byte, (k.N.BitLen()+7)/8) }},
			{"one", false, func(crypto.Hash, []byte) []byte { return big.NewInt(1).FillBytes(make([]byte, (k.N.BitLen()+7)/8)) }},
			{"HMAC with the public key", false, func(h crypto.Hash, m []byte) []byte { return hmacOf(h, publicPEM(k), m) }},
		}
		if k.N.BitLen() >= 2048 {
			all = append(all, encoding{"PSS", false, func(h crypto.Hash, m []byte) []byte {
				return must(rsa.SignPSS(randReader{}, k, h, hashWith(h, m), nil))
			}})
		}
		return all
	case *ecdsa.PrivateKey:
		der := func(h crypto.Hash, m []byte) []byte { return signASN1(k, hashWith(h, m)) }
		rs := func(h crypto.Hash, m []byte) (r, s *big.Int) {
			var sig struct{ R, S *big.Int }
			must(asn1.Unmarshal(der(h, m), &sig))
			return sig.R, sig.S
		}
		pair := func(r, s *big.Int) []byte { return must(asn1.Marshal(struct{ R, S *big.Int }{r, s})) }
		zero, n := big.NewInt(0), k.Curve.Params().N
		width := (k.Curve.Params().BitSize + 7) / 8
		return []encoding{
			{"ASN.1", true, der},
			{"IEEE P1363", true, func(h crypto.Hash, m []byte) []byte { return p1363(k, der(h, m)) }},
			// Both s and n-s verify; nobody asks for the lower one.
			{"high s", true, func(h crypto.Hash, m []byte) []byte {
				r, s := rs(h, m)
				if s.Cmp(new(big.Int).Rsh(n, 1)) <= 0 {
					s = new(big.Int).Sub(n, s)
				}
				return pair(r, s)
			}},
			{"r = 0", false, func(h crypto.Hash, m []byte) []byte { _, s := rs(h, m); return pair(zero, s) }},
			{"s = 0", false, func(h crypto.Hash, m []byte) []byte { r, _ := rs(h, m); return pair(r, zero) }},
			{"r = s = 0", false, func(crypto.Hash, []byte) []byte { return pair(zero, zero) }},
			{"r = s = 0 in P1363", false, func(crypto.Hash, []byte) []byte { return make([]byte, 2*width) }},
			{"r = n", false, func(h crypto.Hash, m []byte) []byte { _, s := rs(h, m); return pair(n, s) }},
			{"s = n", false, func(h crypto.Hash, m []byte) []byte { r, _ := rs(h, m); return pair(r, n) }},
			{"s + n", false, func(h crypto.Hash, m []byte) []byte { r, s := rs(h, m); return pair(r, new(big.Int).Add(s, n)) }},
			{"negative", false, func(h crypto.Hash, m []byte) []byte {
				r, s := rs(h, m)
				return pair(new(big.Int).Neg(r), new(big.Int).Neg(s))
			}},
			{"swapped", false, func(h crypto.Hash, m []byte) []byte { r, s := rs(h, m); return pair(s, r) }},
			{"with a byte behind", false, func(h crypto.Hash, m []byte) []byte { return append(der(h, m), 0) }},
			{"long length", false, func(h crypto.Hash, m []byte) []byte {
				sig := der(h, m)
				if sig[1] == 0x81 { // P-521 needs that form
					return slices.Concat([]byte{sig[0], 0x82, 0, sig[2]}, sig[3:])
				}
				return slices.Concat([]byte{sig[0], 0x81}, sig[1:])
			}},
			{"padded P1363", false, func(h crypto.Hash, m []byte) []byte {
				sig := p1363(k, der(h, m))
				return slices.Concat([]byte{0}, sig[:width], []byte{0}, sig[width:])
			}},
			{"in PEM", false, func(h crypto.Hash, m []byte) []byte { return pemOf("SIGNATURE", der(h, m)) }},
			{"HMAC with the public key", false, func(h crypto.Hash, m []byte) []byte { return hmacOf(h, publicPEM(k), m) }},
			{"huge r", false, func(h crypto.Hash, m []byte) []byte {
				_, s := rs(h, m)
				return pair(new(big.Int).Lsh(big.NewInt(1), 8*60000), s)
			}},
		}
	case ed25519.PrivateKey:
		ph := func(h crypto.Hash, m []byte) []byte {
			return must(k.Sign(nil, hashWith(crypto.SHA512, m), &ed25519.Options{Hash: crypto.SHA512}))
		}
		return []encoding{
			{"Ed25519ph", true, ph},
			{"Ed25519ph with a context", false, func(h crypto.Hash, m []byte) []byte {
				return must(k.Sign(nil, hashWith(crypto.SHA512, m), &ed25519.Options{Hash: crypto.SHA512, Context: "x"}))
			}},
			{"Ed25519 over the message", false, func(_ crypto.Hash, m []byte) []byte { return ed25519.Sign(k, m) }},
			{"Ed25519 over the digest", false, func(h crypto.Hash, m []byte) []byte { return ed25519.Sign(k, hashWith(h, m)) }},
			{"with a byte behind", false, func(h crypto.Hash, m []byte) []byte { return append(ph(h, m), 0) }},
			{"s + L", false, func(h crypto.Hash, m []byte) []byte { return edPlusOrder(ph(h, m)) }},
			{"zero", false, func(crypto.Hash, []byte) []byte { return make([]byte, 64) }},
		}
	}
	panic("no encodings")
}

// proofAlgorithms is the same for the proof of possession: PKCS #1 v1.5 with
// SHA-256 for RSA, ASN.1 with SHA-256 or the hash of the curve for ECDSA, plain
// Ed25519, over the address of the token.
func (s *suite) proofAlgorithms(t *testing.T) {
	token := s.token()
	total, accepted := 0, 0
	for _, name := range []string{"P-224", "P-256", "P-384", "P-521", "RSA 1024", "RSA 2048", "RSA 3072", "RSA 4096", "Ed25519"} {
		key := s.keys.byName(name)
		for hashName, hash := range map[string]crypto.Hash{"SHA-256": crypto.SHA256, "SHA-384": crypto.SHA384, "SHA-512": crypto.SHA512} {
			for _, encoding := range encodings(key) {
				for _, subject := range []string{email, "Dev@example.com", ""} {
					good := subject == email && (encoding.good && encoding.name != "IEEE P1363" && name != "Ed25519" || encoding.name == "Ed25519 over the message")
					switch {
					case name == "P-224" || name == "RSA 1024":
						good = false
					case name == "Ed25519": // whose hash is its own
					case hash == crypto.SHA384:
						good = good && name == "P-384"
					case hash == crypto.SHA512:
						good = good && name == "P-521"
					}
					if encoding.name == "huge r" {
						continue // more than a request may hold
					}
					request := s.certRequest(token)
					request["publicKeyRequest"] = object{
						"publicKey":         object{"content": string(publicPEM(key))},
						"proofOfPossession": base64Of(encoding.sign(hash, []byte(subject))),
					}
					want := http.StatusBadRequest
					if good {
						want = http.StatusOK
						accepted++
					}
					total++
					s.expect(want, fmt.Sprintf("%s, %s, %s over %q", name, hashName, encoding.name, subject), postJSON(pathV2, marshal(request)))
				}
			}
		}
	}
	t.Logf("%d combinations, %d of them good", total, accepted)
}
