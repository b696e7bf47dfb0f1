package entry

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
)

func TestSchema(t *testing.T) {
	for _, c := range []struct {
		in   string
		code int // 0: ErrInvalid
		text string
	}{
		{"", CodeRequired, "proposedEntry in body is required"},
		{" \n", CodeRequired, "proposedEntry in body is required"},
		{"null", CodeRequired, "kind in body is required"},
		{"{}", CodeRequired, "kind in body is required"},
		{`{"kind":null}`, CodeRequired, "kind in body is required"},
		{`{"kind":""}`, CodeRequired, "kind in body is required"},
		{`{"kind":5}`, CodeType, `kind in body must be of type string: "number"`},
		{`{"kind":["dsse"]}`, CodeType, `kind in body must be of type string: "array"`},
		{`{"kind":"nope"}`, CodeKind, `invalid kind value: "nope"`},
		{`{"kind":"DSSE"}`, CodeKind, `invalid kind value: "DSSE"`},
		{`{"kind":"` + strings.Repeat("x", 1000) + `"}`, CodeKind, `invalid kind value: "` + strings.Repeat("x", 64) + `..."`},
		{`{"kind":"dsse"}`, CodeRequired, "apiVersion in body is required"},
		{`{"kind":"dsse","apiVersion":1}`, CodeType, `apiVersion in body must be of type string: "number"`},
		{`{"kind":"dsse","apiVersion":""}`, CodePattern, "apiVersion in body should match '" + semver.String() + "'"},
		{`{"kind":"dsse","apiVersion":"1"}`, CodePattern, "apiVersion in body should match '" + semver.String() + "'"},
		{`{"kind":"dsse","apiVersion":"01.0.0"}`, CodePattern, "apiVersion in body should match '" + semver.String() + "'"},
		{`{"kind":"dsse","apiVersion":"0.0.1"}`, CodeRequired, "spec in body is required"},
		{`{"kind":"dsse","apiVersion":"0.0.1","spec":null}`, CodeRequired, "spec in body is required"},
		{`{"kind":"hashedrekord","apiVersion":"0.0.9","spec":{}}`, 0,
			"hashedrekord implementation for version '0.0.9' not found: unable to locate entry for version 0.0.9"},
		{`{"kind":"hashedrekord","apiVersion":"0.0.1","spec":{}}`, 0, "signature in body is required"},
		{`{"kind":"hashedrekord","apiVersion":"0.0.1","spec":"x"}`, 0, "spec must be a JSON object, not string"},
		{`{"kind":"dsse","apiVersion":"0.0.1","spec":{}}`, 0, "either proposedContent or envelopeHash, payloadHash, and signatures must be present"},
		{`{"kind":"dsse","KIND":"rekord","apiVersion":"0.0.1","spec":{}}`, 0, `member "KIND" must be spelled "kind"`},
		{"{\"\u212Aind\":\"dsse\",\"apiVersion\":\"0.0.1\",\"spec\":{}}", 0, "member \"\u212Aind\" must be spelled \"kind\""},
		{`{"kind":"dsse","k\u0069nd":"rekord","apiVersion":"0.0.1","spec":{}}`, 0, `member "kind" is there twice`},
		{"[]", 0, "proposed entry must be a JSON object, not array"},
		{`"x"`, 0, "proposed entry must be a JSON object, not string"},
		{"{\"kind\":\"\xff\"}", 0, "proposed entry is not JSON: not valid UTF-8"},
		{`{"kind":"\ud800"}`, 0, "kind: string holds half a surrogate pair"},
	} {
		_, err := Propose([]byte(c.in))
		var schema *SchemaError
		if errors.As(err, &schema) {
			if schema.Code != c.code || schema.Message != c.text {
				t.Errorf("%.80s: %d %s, want %d %s", c.in, schema.Code, schema.Message, c.code, c.text)
			}
		} else if c.code != 0 || !errors.Is(err, ErrInvalid) || err.Error() != c.text {
			t.Errorf("%.80s: error %v, want %d %s", c.in, err, c.code, c.text)
		}
	}
	if _, err := Keys([]byte("null")); err == nil {
		t.Error("Keys accepted null")
	}
	for _, in := range []string{strings.Repeat("[", 100_000), strings.Repeat(`{"kind":`, 100_000)} {
		if err := checkVerdict(t, "deep", []byte(in)); err == nil {
			t.Error("deep nesting accepted")
		}
	}
	// Unknown members are ignored, wherever and whatever they are.
	v := vectorNamed(t, "hashedrekord-p256")
	more := strings.Replace(string(v.Request), `"spec": {`, `"x":{"a":1,"a":[{}," \" } ",true]},"spec":{"y":1,"y":2,`, 1)
	e, err := Propose([]byte(more))
	if err != nil || string(e.Body) != v.DecodedBody {
		t.Errorf("with unknown members: %v", err)
	}
}

func mustKey[K crypto.Signer](t testing.TB) func(K, error) crypto.Signer {
	return func(k K, err error) crypto.Signer {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
}

func ecKey(t testing.TB, c elliptic.Curve) crypto.Signer {
	return mustKey[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(c, rand.Reader))
}

func rsaKey(t testing.TB, bits int) crypto.Signer {
	return mustKey[*rsa.PrivateKey](t)(rsa.GenerateKey(rand.Reader, bits))
}

func edKey(t testing.TB) crypto.Signer {
	_, k, err := ed25519.GenerateKey(rand.Reader)
	return mustKey[ed25519.PrivateKey](t)(k, err)
}

func pubPEM(t testing.TB, k crypto.Signer) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

func hashedRequest(algorithm string, digest, sig, key []byte) []byte {
	return fmt.Appendf(nil, `{"kind":"hashedrekord","apiVersion":"0.0.1","spec":{"data":{"hash":{"algorithm":%q,"value":"%x"}},"signature":{"content":%q,"publicKey":{"content":%q}}}}`,
		algorithm, digest, base64.StdEncoding.EncodeToString(sig), base64.StdEncoding.EncodeToString(key))
}

func p1363(t testing.TB, der []byte, width int) []byte {
	t.Helper()
	var s struct{ R, S *big.Int }
	if err := func() error { _, err := asn1.Unmarshal(der, &s); return err }(); err != nil {
		t.Fatal(err)
	}
	out := make([]byte, 2*width)
	s.R.FillBytes(out[:width])
	s.S.FillBytes(out[width:])
	return out
}

// Every key type with every hash and every way to sign: exactly the registry
// passes.
func TestHashedRekordAlgorithms(t *testing.T) {
	keys := map[string]crypto.Signer{
		"P-256": ecKey(t, elliptic.P256()), "P-384": ecKey(t, elliptic.P384()), "P-521": ecKey(t, elliptic.P521()),
		"P-224": ecKey(t, elliptic.P224()), "Ed25519": edKey(t),
		"RSA-2048": rsaKey(t, 2048), "RSA-3072": rsaKey(t, 3072), "RSA-2056": rsaKey(t, 2056),
	}
	if !testing.Short() {
		keys["RSA-4096"] = rsaKey(t, 4096)
	}
	hashes := map[string]crypto.Hash{"sha256": crypto.SHA256, "sha384": crypto.SHA384, "sha512": crypto.SHA512, "sha1": crypto.SHA1, "sha3-256": crypto.SHA3_256}
	allowed := []string{
		"P-256 sha256 asn1", "P-256 sha256 p1363", "P-384 sha384 asn1", "P-384 sha384 p1363", "P-521 sha512 asn1", "P-521 sha512 p1363",
		"Ed25519 sha512 ph", "RSA-2048 sha256 pkcs1", "RSA-3072 sha256 pkcs1", "RSA-4096 sha256 pkcs1",
	}
	message := []byte("artifact")
	cases := 0
	for name, k := range keys {
		key := pubPEM(t, k)
		for alg, h := range hashes {
			w := h.New()
			w.Write(message)
			digest := w.Sum(nil)
			sigs := map[string][]byte{}
			add := func(how string, opts crypto.SignerOpts, in []byte) {
				sig, err := k.Sign(rand.Reader, in, opts)
				if err != nil {
					t.Fatalf("%s %s %s: %v", name, alg, how, err)
				}
				sigs[how] = sig
			}
			switch pub := k.Public().(type) {
			case *ecdsa.PublicKey:
				add("asn1", h, digest)
				width := (pub.Params().BitSize + 7) / 8
				sigs["p1363"] = p1363(t, sigs["asn1"], width)
				sigs["p1363 wide"] = p1363(t, sigs["asn1"], width+1)
				sigs["asn1 and a byte"] = append(slices.Clone(sigs["asn1"]), 0)
				sigs["r = s = 0"] = make([]byte, 2*width)
			case *rsa.PublicKey:
				add("pkcs1", h, digest)
				if h != crypto.SHA3_256 {
					add("pss", &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: h}, digest)
				}
				sigs["pkcs1 short"] = sigs["pkcs1"][1:]
			case ed25519.PublicKey:
				add("pure over message", crypto.Hash(0), message)
				add("pure over digest", crypto.Hash(0), digest)
				if h == crypto.SHA512 {
					add("ph", crypto.SHA512, digest)
				}
			}
			for how, sig := range sigs {
				cases++
				_, err := Propose(hashedRequest(alg, digest, sig, key))
				row := name + " " + alg + " " + how
				if want := slices.Contains(allowed, row); (err == nil) != want {
					t.Errorf("%s: accepted %v, want %v (%v)", row, err == nil, want, err)
				}
				// The digest of another message, the signature of another key.
				if _, err := Propose(hashedRequest(alg, slices.Concat(digest[1:], digest[:1]), sig, key)); err == nil {
					t.Errorf("%s: accepted over another digest", row)
				}
			}
		}
	}
	if cases < 100 {
		t.Errorf("only %d cases", cases)
	}
}

// The hash keeps the case it was sent in; the search key has none.
func TestHashCase(t *testing.T) {
	k := ecKey(t, elliptic.P256())
	digest := sha256.Sum256([]byte("artifact"))
	sig, err := k.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	lower := hashedRequest("sha256", digest[:], sig, pubPEM(t, k))
	value := hex.EncodeToString(digest[:])
	upper := strings.Replace(string(lower), value, strings.ToUpper(value), 1)
	a, err := Propose(lower)
	if err != nil {
		t.Fatal(err)
	}
	b, err := Propose([]byte(upper))
	if err != nil {
		t.Fatal(err)
	}
	if string(a.Body) == string(b.Body) || !strings.Contains(string(b.Body), strings.ToUpper(value)) {
		t.Error("the case of the hash was not kept")
	}
	if !slices.Equal(a.Keys, b.Keys) || !slices.Contains(b.Keys, "sha256:"+value) {
		t.Errorf("keys %q and %q", a.Keys, b.Keys)
	}
}

func dssePAE(payloadType, payload string) []byte {
	return fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(payloadType), payloadType, len(payload), payload)
}

func signDSSE(t testing.TB, k crypto.Signer, payloadType, payload string) string {
	t.Helper()
	in, opts := dssePAE(payloadType, payload), crypto.Hash(0)
	if _, ok := k.(ed25519.PrivateKey); !ok {
		h := sha256.Sum256(in)
		in, opts = h[:], crypto.SHA256
	}
	sig, err := k.Sign(rand.Reader, in, opts)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(sig)
}

func dsseRequest(t testing.TB, payloadType, payload string, sigs []string, verifiers ...[]byte) []byte {
	t.Helper()
	type sig struct {
		KeyID string `json:"keyid"`
		Sig   string `json:"sig"`
	}
	env := struct {
		PayloadType string `json:"payloadType"`
		Payload     []byte `json:"payload"`
		Signatures  []sig  `json:"signatures"`
	}{PayloadType: payloadType, Payload: []byte(payload)}
	for _, s := range sigs {
		env.Signatures = append(env.Signatures, sig{Sig: s})
	}
	text, err := json.Marshal(env)
	if err != nil {
		t.Fatal(err)
	}
	out, err := json.Marshal(map[string]any{"kind": "dsse", "apiVersion": "0.0.1", "spec": map[string]any{
		"proposedContent": map[string]any{"envelope": string(text), "verifiers": verifiers}}})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestDSSEVerifiers(t *testing.T) {
	const typ, payload = "text/plain", "hello"
	a, b, ed, r := ecKey(t, elliptic.P384()), ecKey(t, elliptic.P256()), edKey(t), rsaKey(t, 2048)
	A, B, E, R := pubPEM(t, a), pubPEM(t, b), pubPEM(t, ed), pubPEM(t, r)
	sa, sa2, sb := signDSSE(t, a, typ, payload), signDSSE(t, a, typ, payload), signDSSE(t, b, typ, payload)
	se, sr := signDSSE(t, ed, typ, payload), signDSSE(t, r, typ, payload)
	const none, uncovered = "could not verify envelope: accepted signatures do not match threshold, Found: 0, Expected 1",
		"all signatures must have a key that verifies it"
	var elevenKeys [][]byte
	var elevenSigs []string
	for range 11 {
		elevenKeys = append(elevenKeys, A)
		elevenSigs = append(elevenSigs, signDSSE(t, a, typ, payload))
	}
	for _, c := range []struct {
		name      string
		sigs      []string
		verifiers [][]byte
		err       string // "" accepted
	}{
		{"one", []string{sa}, [][]byte{A}, ""},
		{"Ed25519", []string{se}, [][]byte{E}, ""},
		{"RSA", []string{sr}, [][]byte{R}, ""},
		{"all four, any order", []string{sr, sa, se, sb}, [][]byte{B, E, A, R}, ""},
		{"equal signatures", []string{sa, sa}, [][]byte{A}, ""},
		{"spare verifier after", []string{sa}, [][]byte{A, B}, ""},
		{"spare verifier after is not read", []string{sa}, [][]byte{A, []byte("junk")}, ""},
		{"spare verifier before", []string{sa}, [][]byte{B, A}, none},
		{"verifier twice", []string{sa, sb}, [][]byte{A, A, B}, ""},
		{"two signatures of one key", []string{sa, sa2}, [][]byte{A}, uncovered},
		{"two signatures of one key, twice", []string{sa, sa2}, [][]byte{A, A}, uncovered},
		{"missing verifier", []string{sa, sb}, [][]byte{A}, uncovered},
		{"wrong verifier", []string{sa}, [][]byte{B}, none},
		{"no signature", nil, [][]byte{A}, "DSSE envelope must contain 1 or more signatures"},
		{"no verifier", []string{sa}, nil, "proposedContent.verifiers in body is required"},
		{"empty list", []string{sa}, [][]byte{}, "proposedContent.verifiers in body should have at least 1 items"},
		{"eleven verifiers", []string{sa}, elevenKeys, "proposedContent.verifiers: at most 10 are accepted"},
		{"eleven signatures", elevenSigs, [][]byte{A}, "DSSE envelope signatures: at most 10 are accepted"},
		{"empty signature", []string{""}, [][]byte{A}, "DSSE envelope signatures: sig is empty"},
		{"URL alphabet", []string{strings.NewReplacer("+", "-", "/", "_").Replace(sr) + "__=="}, [][]byte{R},
			"DSSE envelope signatures: sig: failed parsing base64 data: illegal base64 data"},
	} {
		e, err := Propose(dsseRequest(t, typ, payload, c.sigs, c.verifiers...))
		switch {
		case c.err == "" && err != nil, c.err != "" && err == nil:
			t.Errorf("%s: error %v, want %q", c.name, err, c.err)
		case c.err != "" && !strings.HasPrefix(err.Error(), c.err):
			t.Errorf("%s: error %v, want %q", c.name, err, c.err)
		case err == nil:
			var body struct {
				Spec struct {
					Signatures []struct {
						Signature string
						Verifier  []byte
					}
				}
			}
			if err := json.Unmarshal(e.Body, &body); err != nil {
				t.Fatal(err)
			}
			want := slices.Compact(slices.Sorted(slices.Values(c.sigs)))
			var got []string
			for _, s := range body.Spec.Signatures {
				got = append(got, s.Signature)
				of := map[string][]byte{sa: A, sb: B, se: E, sr: R}[s.Signature]
				if string(s.Verifier) != string(of) {
					t.Errorf("%s: signature stored with another key than its own", c.name)
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s: signatures %q, want %q", c.name, got, want)
			}
		}
	}
}

func TestDSSEEd25519Budget(t *testing.T) {
	k := edKey(t)
	payload := strings.Repeat("x", 4<<20)
	sig := signDSSE(t, k, "t", payload)
	if _, err := Propose(dsseRequest(t, "t", payload, []string{sig}, pubPEM(t, k))); err != nil {
		t.Fatal(err)
	}
	// Ten keys, each tried with the signatures before its own: 55 attempts.
	sigs, verifiers := []string{}, [][]byte{}
	for range 10 {
		k := edKey(t)
		sigs = append(sigs, signDSSE(t, k, "t", payload))
		verifiers = append(verifiers, pubPEM(t, k))
	}
	_, err := Propose(dsseRequest(t, "t", payload, sigs, verifiers...))
	if err == nil || !strings.Contains(err.Error(), "too large for this many Ed25519") {
		t.Errorf("error %v", err)
	}
	// A key that was tried is not tried again: ten times one key, and the last of
	// ten signatures, cost ten attempts and then one each.
	sigs, verifiers = sigs[:0], verifiers[:0]
	for range 9 {
		sigs = append(sigs, signDSSE(t, edKey(t), "t", "other"))
	}
	sigs = append(sigs, sig)
	for range 10 {
		verifiers = append(verifiers, pubPEM(t, k))
	}
	_, err = Propose(dsseRequest(t, "t", payload, sigs, verifiers...))
	if err == nil || !strings.Contains(err.Error(), "must have a key that verifies it") {
		t.Errorf("error %v", err)
	}
}

func TestStatementKeys(t *testing.T) {
	k := ecKey(t, elliptic.P256())
	long := strings.Repeat("a", MaxKeyLength)
	for _, c := range []struct {
		payloadType, payload string
		want                 []string
	}{
		{inTotoPayloadType, `{"subject":[{"digest":{"sha256":"AB","sha512":"cd"}},{"digest":null},null,{"name":"x"}]}`, []string{"sha256:ab", "sha512:cd"}},
		{inTotoPayloadType, ` {"subject":[],"predicate":{"materials":[{"uri":"u","digest":{"sha1":"ff"}}]}} `, []string{"sha1:ff"}},
		{inTotoPayloadType, `{"subject":[{"digest":{"a":"b"}}],"predicate":{"materials":[{"digest":{"sha1":5}}]}}`, []string{"a:b"}},
		{inTotoPayloadType, `{"subject":[{"digest":{"a":"b"}},{"digest":{"sha1":5}}],"predicate":{"materials":[{"digest":{"c":"d"}}]}}`, nil},
		{inTotoPayloadType, `{"subject":[{"digest":{"a":"` + long + `","b":"c","d":""}}]}`, []string{"b:c"}},
		{inTotoPayloadType, `{"subject":[{"digest":{"a":"b"}}]} x`, nil},
		{inTotoPayloadType, `not JSON`, nil},
		{inTotoPayloadType, `[]`, nil},
		{inTotoPayloadType, ``, nil},
		{"text/plain", `{"subject":[{"digest":{"a":"b"}}]}`, nil},
	} {
		e, err := Propose(dsseRequest(t, c.payloadType, c.payload, []string{signDSSE(t, k, c.payloadType, c.payload)}, pubPEM(t, k)))
		if err != nil {
			t.Errorf("%.60s: %v", c.payload, err)
			continue
		}
		stored, err := Keys(e.Body)
		if err != nil {
			t.Fatal(err)
		}
		got := slices.DeleteFunc(slices.Clone(e.Keys), func(k string) bool { return slices.Contains(stored, k) })
		if !slices.Equal(got, c.want) || len(got)+len(stored) != len(e.Keys) {
			t.Errorf("%.60s: keys %q, want %q", c.payload, got, c.want)
		}
	}
	var many strings.Builder
	for i := range MaxKeys {
		fmt.Fprintf(&many, `{"digest":{"x":"%d"}},`, i)
	}
	payload := `{"subject":[` + strings.TrimSuffix(many.String(), ",") + `]}`
	_, err := Propose(dsseRequest(t, inTotoPayloadType, payload, []string{signDSSE(t, k, inTotoPayloadType, payload)}, pubPEM(t, k)))
	if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "more than 10000 search keys") {
		t.Errorf("too many subjects: %v", err)
	}
}

func TestDSSEStoredForm(t *testing.T) {
	v := vectorNamed(t, "dsse-p256")
	_, err := Propose([]byte(v.DecodedBody))
	if err == nil || err.Error() != "entry not insertable into log: missing proposed content" {
		t.Errorf("stored form alone: %v", err)
	}
	both := strings.Replace(string(v.Request), `"spec": {`, `"spec": {"payloadHash":{},`, 1)
	_, err = Propose([]byte(both))
	if err == nil || err.Error() != "either proposedContent or envelopeHash, payloadHash, and signatures must be present but not both" {
		t.Errorf("both forms: %v", err)
	}
}
