package entry

import (
	"crypto"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

const statement = `{"subject":[{"digest":{"sha256":"AB"}}],"predicate":{"materials":[{"digest":{"sha1":"ff"}}]}}`

// inTotoRequest proposes intoto 0.0.1.
func inTotoRequest(t testing.TB, envelope string, key []byte) []byte {
	t.Helper()
	return mustJSON(t, map[string]any{"kind": "intoto", "apiVersion": "0.0.1", "spec": map[string]any{
		"content": map[string]any{"envelope": envelope}, "publicKey": key}})
}

func envelopeText(t testing.TB, payloadType, payload string, sigs ...string) string {
	t.Helper()
	list := []any{}
	for _, s := range sigs {
		list = append(list, map[string]any{"sig": s})
	}
	return string(mustJSON(t, map[string]any{"payloadType": payloadType, "payload": []byte(payload), "signatures": list}))
}

func mustJSON(t testing.TB, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// checkRefusals proposes each request; the error must be the text.
func checkRefusals(t *testing.T, cases []refused) {
	t.Helper()
	for _, c := range cases {
		if _, err := Propose(c.request); !errors.Is(err, ErrInvalid) || err.Error() != c.err {
			t.Errorf("%s: error %v, want %s", c.name, err, c.err)
		}
	}
}

type refused struct {
	name    string
	request []byte
	err     string
}

func TestInToto001(t *testing.T) {
	a, ed, r := ecKey(t, elliptic.P384()), edKey(t), rsaKey(t, 2048)
	b := ecKey(t, elliptic.P256())
	for name, k := range map[string]crypto.Signer{"P-384": a, "Ed25519": ed, "RSA": r} {
		// The signature of the key is one of several.
		text := envelopeText(t, "text/plain", "hello", signDSSE(t, b, "text/plain", "hello"), signDSSE(t, k, "text/plain", "hello"))
		e, err := Propose(inTotoRequest(t, text, pubPEM(t, k)))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		checkCanonical(t, inTotoRequest(t, text, pubPEM(t, k)))
		for _, what := range []string{text, "hello"} {
			if !slices.Contains(e.Keys, fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(what)))) {
				t.Errorf("%s: %s is not found by its hash", name, what)
			}
		}
		if string(e.Attestation) != "hello" || e.AttestationKey != fmt.Sprintf("sha256:%x", sha256.Sum256([]byte("hello"))) {
			t.Errorf("%s: attestation %q under %q", name, e.Attestation, e.AttestationKey)
		}
	}

	const typ, payload = "text/plain", "hello"
	key, sig := pubPEM(t, a), signDSSE(t, a, typ, payload)
	good := envelopeText(t, typ, payload, sig)
	eleven := make([]string, 11)
	for i := range eleven {
		eleven[i] = signDSSE(t, a, typ, payload)
	}
	spec := func(text string) []byte { return []byte(`{"kind":"intoto","apiVersion":"0.0.1","spec":` + text + `}`) }
	const none = "accepted signatures do not match threshold, Found: 0, Expected 1"
	checkRefusals(t, []refused{
		{"another key", inTotoRequest(t, good, pubPEM(t, b)), none},
		{"another payload", inTotoRequest(t, envelopeText(t, typ, "hallo", sig), key), none},
		{"another type", inTotoRequest(t, envelopeText(t, "text/x", payload, sig), key), none},
		{"no signature", inTotoRequest(t, envelopeText(t, typ, payload), key), "DSSE envelope must contain 1 or more signatures"},
		{"eleven signatures", inTotoRequest(t, envelopeText(t, typ, payload, eleven...), key), "DSSE envelope signatures: at most 10 are accepted"},
		{"no payload", inTotoRequest(t, envelopeText(t, typ, "", signDSSE(t, a, typ, "")), key), "invalid DSSE envelope: payloadType and payload must not be empty"},
		{"no type", inTotoRequest(t, envelopeText(t, "", payload, signDSSE(t, a, "", payload)), key), "invalid DSSE envelope: payloadType and payload must not be empty"},
		{"not JSON", inTotoRequest(t, "hello", key), "DSSE envelope is not JSON: invalid character 'h' looking for beginning of value"},
		{"no envelope", inTotoRequest(t, "", key), "entry not insertable into log: missing envelope content"},
		{"no key", inTotoRequest(t, good, nil), "publicKey in body is required"},
		{"DER key", inTotoRequest(t, good, []byte("x")), "invalid public key: failure decoding PEM"},
		{"no content", spec(`{}`), "content in body is required"},
		{"a URL", spec(`{"content":{"url":"https://example.com/"},"publicKey":` + string(mustJSON(t, key)) + `}`), "entry not insertable into log: missing envelope content"},
		{"envelope as an object", spec(`{"content":{"envelope":{}},"publicKey":` + string(mustJSON(t, key)) + `}`), "content.envelope: want a string, not object"},
		{"stored form", []byte(vectorNamed(t, "intoto-001").DecodedBody), "entry not insertable into log: missing envelope content"},
	})

	// Hashes that a client sends are not looked at: they are computed.
	v := vectorNamed(t, "intoto-001")
	more := strings.Replace(string(v.Request), `"content": {`, `"content": {"hash":{"algorithm":"md5"},"payloadHash":5,`, 1)
	if e, err := Propose([]byte(more)); err != nil || string(e.Body) != v.DecodedBody {
		t.Errorf("with hashes of the client: %v", err)
	}
}

// inToto002 is the spec of intoto 0.0.2, to be changed by tests.
type inToto002Spec struct {
	Content struct {
		Envelope struct {
			PayloadType any              `json:"payloadType,omitempty"`
			Payload     any              `json:"payload,omitempty"`
			Signatures  []map[string]any `json:"signatures,omitempty"`
		} `json:"envelope"`
		Hash any `json:"hash,omitempty"`
	} `json:"content"`
}

// inToto002Request proposes an envelope that the keys have signed, after
// changing the spec.
func inToto002Request(t testing.TB, payloadType, payload string, change func(*inToto002Spec), keys ...crypto.Signer) []byte {
	t.Helper()
	var s inToto002Spec
	s.Content.Envelope.PayloadType = payloadType
	s.Content.Envelope.Payload = []byte(base64.StdEncoding.EncodeToString([]byte(payload)))
	for _, k := range keys {
		s.Content.Envelope.Signatures = append(s.Content.Envelope.Signatures, map[string]any{
			"sig": []byte(signDSSE(t, k, payloadType, payload)), "publicKey": pubPEM(t, k)})
	}
	s.Content.Hash = map[string]any{"algorithm": "sha256", "value": strings.Repeat("aB", 32)}
	if change != nil {
		change(&s)
	}
	return mustJSON(t, map[string]any{"kind": "intoto", "apiVersion": "0.0.2", "spec": s})
}

func TestInToto002(t *testing.T) {
	const typ, payload = "text/plain", "hello"
	a, b, ed, r := ecKey(t, elliptic.P384()), ecKey(t, elliptic.P256()), edKey(t), rsaKey(t, 2048)
	request := func(change func(*inToto002Spec), keys ...crypto.Signer) []byte {
		return inToto002Request(t, typ, payload, change, keys...)
	}

	// Every key type, two signatures of one key, and text that has to be escaped.
	odd := "\"\\/\b\t\n\f\r\x00\x1f\x7f<>&\u2028\u20ac\U0001f600"
	escaped := inToto002Request(t, odd, payload, func(s *inToto002Spec) { s.Content.Envelope.Signatures[1]["keyid"] = odd }, r, a, ed, a)
	checkCanonical(t, escaped)
	e, err := Propose(escaped)
	if err != nil {
		t.Fatal(err)
	}
	var stored, sent struct{ Spec inToto002Spec }
	if json.Unmarshal(e.Body, &stored) != nil || json.Unmarshal(escaped, &sent) != nil {
		t.Fatalf("%s", e.Body)
	}
	sent.Spec.Content.Envelope.Payload = nil
	if got, want := mustJSON(t, stored), mustJSON(t, sent); string(got) != string(want) {
		t.Errorf("stored %s\n  sent %s", got, want)
	}
	if string(e.Attestation) != payload || e.AttestationKey != fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(payload))) || !slices.Contains(e.Keys, e.AttestationKey) {
		t.Errorf("attestation %q under %q", e.Attestation, e.AttestationKey)
	}
	if slices.Contains(e.Keys, "sha256:"+strings.Repeat("ab", 32)) {
		t.Error("the entry is found by a hash that nobody has checked")
	}

	// The public key keeps its text, and is found by the canonical one.
	spaced := append([]byte("a comment\n"), pubPEM(t, a)...)
	e, err = Propose(request(func(s *inToto002Spec) { s.Content.Envelope.Signatures[0]["publicKey"] = spaced }, a))
	if err != nil {
		t.Fatal(err)
	}
	if keyHash := fmt.Sprintf("%x", sha256.Sum256(pubPEM(t, a))); !strings.Contains(string(e.Body), base64.StdEncoding.EncodeToString(spaced)) || !slices.Contains(e.Keys, keyHash) {
		t.Errorf("key in another spelling: %s, %q", e.Body, e.Keys)
	}

	sig := func(change func(map[string]any)) []byte {
		return request(func(s *inToto002Spec) { change(s.Content.Envelope.Signatures[0]) }, a)
	}
	with := func(change func(*inToto002Spec)) []byte { return request(change, a) }
	const none, in = "could not verify envelope: accepted signatures do not match threshold, Found: 0, Expected 1", "content.envelope.signatures: "
	long := strings.Repeat("x", maxLabel+1)
	checkRefusals(t, []refused{
		{"another key", sig(func(s map[string]any) { s["publicKey"] = pubPEM(t, b) }), none},
		{"the keys in another order", request(func(s *inToto002Spec) {
			l := s.Content.Envelope.Signatures
			l[0]["publicKey"], l[1]["publicKey"] = l[1]["publicKey"], l[0]["publicKey"]
		}, a, b), none},
		{"the last signature of another payload", request(func(s *inToto002Spec) {
			s.Content.Envelope.Signatures[1]["sig"] = []byte(signDSSE(t, b, typ, "hallo"))
		}, a, b), none},
		{"another type", with(func(s *inToto002Spec) { s.Content.Envelope.PayloadType = "text/x" }), none},
		{"eleven signatures", request(nil, a, a, a, a, a, a, a, a, a, a, a), in + "at most 10 are accepted"},
		{"no signatures", request(nil), "content.envelope.signatures in body is required"},
		{"an empty list", []byte(strings.Replace(string(request(nil)), `"payloadType"`, `"signatures":[],"payloadType"`, 1)), "content.envelope.signatures in body should have at least 1 items"},
		{"no sig", sig(func(s map[string]any) { delete(s, "sig") }), in + "sig in body is required"},
		{"no key", sig(func(s map[string]any) { delete(s, "publicKey") }), in + "publicKey in body is required"},
		{"a key that is none", sig(func(s map[string]any) { s["publicKey"] = []byte("x") }), in + "could not parse public key as x509: invalid public key: failure decoding PEM"},
		{"sig encoded once", sig(func(s map[string]any) { s["sig"] = []byte("\x30\x45") }), in + "sig: failed parsing base64 data: illegal base64 data at input byte 0"},
		{"long keyid", sig(func(s map[string]any) { s["keyid"] = long }), in + "keyid: it has 1025 bytes, at most 1024 are accepted"},
		{"long type", inToto002Request(t, long, payload, nil, a), "content.envelope.payloadType: it has 1025 bytes, at most 1024 are accepted"},
		{"no type", inToto002Request(t, "", payload, nil, a), "invalid DSSE envelope: payloadType and payload must not be empty"},
		{"an empty payload", inToto002Request(t, typ, "", func(s *inToto002Spec) { s.Content.Envelope.Payload = []byte("\n") }, a), "invalid DSSE envelope: payloadType and payload must not be empty"},
		{"no payload", with(func(s *inToto002Spec) { s.Content.Envelope.Payload = nil }), "entry not insertable into log: missing envelope content"},
		{"payload encoded once", with(func(s *inToto002Spec) { s.Content.Envelope.Payload = []byte("hello!") }), "content.envelope.payload: the base64 inside: failed parsing base64 data: illegal base64 data at input byte 5"},
		{"payload not encoded", with(func(s *inToto002Spec) { s.Content.Envelope.Payload = "!" }), "content.envelope.payload: failed parsing base64 data: illegal base64 data at input byte 0"},
		{"no hash", with(func(s *inToto002Spec) { s.Content.Hash = nil }), "content.hash in body is required"},
		{"another hash function", with(func(s *inToto002Spec) { s.Content.Hash.(map[string]any)["algorithm"] = "sha512" }), "content.hash.algorithm in body should be one of [sha256]"},
		{"short hash", with(func(s *inToto002Spec) { s.Content.Hash.(map[string]any)["value"] = "aa" }), "invalid value for hash: content.hash of sha256 needs 64 hex digits, got 2"},
		{"a URL", []byte(`{"kind":"intoto","apiVersion":"0.0.2","spec":{"content":{"url":"https://example.com/"}}}`), "content.envelope in body is required"},
		{"no content", []byte(`{"kind":"intoto","apiVersion":"0.0.2","spec":{}}`), "content in body is required"},
		{"stored form", []byte(vectorNamed(t, "intoto-002").DecodedBody), "entry not insertable into log: missing envelope content"},
	})
}

// A large payload is not hashed by more Ed25519 keys than fit the budget.
func TestInTotoEd25519Budget(t *testing.T) {
	k := edKey(t)
	payload := strings.Repeat("x", 14<<20)
	const tooLarge = "could not verify envelope: the payload is too large for this many Ed25519 keys and signatures"
	sig := signDSSE(t, k, "t", payload)
	var sigs []string
	for i := range 9 {
		sigs = append(sigs, base64.StdEncoding.EncodeToString(fmt.Append(nil, i)))
	}
	twice := func(n int) func(*inToto002Spec) {
		return func(s *inToto002Spec) {
			s.Content.Envelope.Signatures = slices.Repeat(s.Content.Envelope.Signatures, n)
		}
	}
	if _, err := Propose(inToto002Request(t, "t", payload, twice(9), k)); err != nil {
		t.Error(err)
	}
	checkRefusals(t, []refused{
		{"0.0.1", inTotoRequest(t, envelopeText(t, "t", payload, append(sigs, sig)...), pubPEM(t, k)), tooLarge},
		{"0.0.2", inToto002Request(t, "t", payload, twice(10), k), tooLarge},
	})
}

// What an in-toto statement names is found; Keys finds the rest again.
func TestInTotoStatementKeys(t *testing.T) {
	k := ecKey(t, elliptic.P256())
	for _, c := range []struct {
		payloadType, payload string
		want                 []string
	}{
		{inTotoPayloadType, statement, []string{"sha1:ff", "sha256:ab"}},
		{inTotoPayloadType, "not JSON", nil},
		{"text/plain", statement, nil},
	} {
		text := envelopeText(t, c.payloadType, c.payload, signDSSE(t, k, c.payloadType, c.payload))
		for version, in := range map[string][]byte{"0.0.1": inTotoRequest(t, text, pubPEM(t, k)), "0.0.2": inToto002Request(t, c.payloadType, c.payload, nil, k)} {
			e, err := Propose(in)
			if err != nil {
				t.Errorf("%s %s: %v", version, c.payload, err)
				continue
			}
			stored, err := Keys(e.Body)
			if err != nil {
				t.Fatal(err)
			}
			got := slices.DeleteFunc(slices.Clone(e.Keys), func(k string) bool { return slices.Contains(stored, k) })
			if !slices.Equal(got, c.want) || len(got)+len(stored) != len(e.Keys) {
				t.Errorf("%s %s: keys %q, want %q", version, c.payload, got, c.want)
			}
		}
	}
	for body, want := range map[string]string{
		strings.Replace(vectorNamed(t, "intoto-001").DecodedBody, `"hash"`, `"x"`, 1):        "content.hash: want an object",
		strings.Replace(vectorNamed(t, "intoto-001").DecodedBody, `"payloadHash"`, `"x"`, 1): "content.payloadHash: want an object",
		strings.Replace(vectorNamed(t, "intoto-002").DecodedBody, `"hash"`, `"x"`, 1):        "content.hash in body is required",
		strings.Replace(vectorNamed(t, "intoto-002").DecodedBody, `"payloadHash"`, `"x"`, 1): "content.payloadHash: want an object",
	} {
		if _, err := Keys([]byte(body)); err == nil || err.Error() != want {
			t.Errorf("error %v, want %s", err, want)
		}
	}
}
