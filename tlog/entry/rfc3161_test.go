package entry

import (
	"crypto/elliptic"
	"encoding/base64"
	"fmt"
	"testing"

	"github.com/sigstack/sigstack/test/cms"
)

// request returns a proposed entry of version 0.0.1.
func request(kind, spec string) []byte {
	return []byte(`{"kind":"` + kind + `","apiVersion":"0.0.1","spec":` + spec + `}`)
}

func timestampRequest(der []byte) []byte {
	return request("rfc3161", `{"tsr":{"content":"`+base64.StdEncoding.EncodeToString(der)+`"}}`)
}

// refusal proposes what must be refused with a message.
func refusal(t *testing.T, what string, in []byte, want string) {
	t.Helper()
	if err := checkVerdict(t, what, in); err == nil || err.Error() != want {
		t.Errorf("%s: %v\nwant %s", what, err, want)
	}
}

func TestTimestamp(t *testing.T) {
	key := ecKey(t, elliptic.P256())
	cert := cms.Certificate(t, key, "tsa")
	token := func(change func(*cms.Message)) []byte {
		m := cms.Message{Key: key, Certificate: cert, Type: cms.TSTInfo, Content: cms.Imprint(t, []byte("x"))}
		change(&m)
		return m.DER(t)
	}
	good := token(func(*cms.Message) {})
	for _, status := range []int{0, 1} {
		e, err := Propose(timestampRequest(cms.Response(t, status, good)))
		if err != nil || len(e.Keys) != 1 {
			t.Errorf("status %d: %v", status, err)
		}
	}
	for _, c := range []struct{ name, spec, want string }{
		{"no tsr", `{}`, "tsr in body is required"},
		{"a tsr that is none", `{"tsr":"x"}`, "tsr: want an object"},
		{"a URL", `{"tsr":{"url":"http://localhost/x"}}`, "tsr.content in body is required"},
		{"empty content", `{"tsr":{"content":""}}`, "tsr.content in body is required"},
		{"no base64", `{"tsr":{"content":"*"}}`, "tsr.content: failed parsing base64 data: illegal base64 data at input byte 0"},
	} {
		refusal(t, c.name, request("rfc3161", c.spec), c.want)
	}
	shape := "tsr is not a TimeStampResp in DER (RFC 3161, section 2.4.2)"
	response := cms.Response(t, 0, good)
	for _, c := range []struct {
		name string
		der  []byte
		want string
	}{
		{"not DER", []byte("hello"), shape},
		{"a bare token", good, shape},
		{"cut", response[:len(response)-1], shape},
		{"something after it", append(response[:len(response):len(response)], 0, 0), "tsr has 2 bytes after its end"},
		{"rejected", cms.Response(t, 2, good), "tsr status not granted: 2"},
		{"negative status", cms.Response(t, -1, good), "tsr status not granted: -1"},
		{"no token", cms.Response(t, 0, nil), "tsr has no token"},
		{"a token that is none", cms.Response(t, 0, []byte{4, 0}), shape},
		{"two tokens", cms.Response(t, 0, append(good[:len(good):len(good)], good...)), shape},
		{"another type", cms.Response(t, 0, token(func(m *cms.Message) { m.Outer = cms.Data })),
			"tsr: PKCS7: content type 1.2.840.113549.1.7.1, want SignedData (1.2.840.113549.1.7.2)"},
		{"another content", cms.Response(t, 0, token(func(m *cms.Message) { m.Type = cms.Data })), "tsr: what is signed is not a TSTInfo"},
		{"another key", cms.Response(t, 0, token(func(m *cms.Message) { m.Key = ecKey(t, elliptic.P256()) })),
			"tsr verification error: PKCS7: the signature does not verify"},
		{"no content", cms.Response(t, 0, token(func(m *cms.Message) { m.Detached = true })), "tsr verification error: PKCS7: there is no content"},
		{"10 KiB and more", make([]byte, 10<<10+1), "tsr exceeds maximum allowed size (10kB)"},
		{"10 KiB", make([]byte, 10<<10), shape},
	} {
		refusal(t, c.name, timestampRequest(c.der), c.want)
	}
	// What is stored is not verified again, but must have its form.
	for in, want := range map[string]string{`{}`: "tsr in body is required", `{"tsr":{}}`: "tsr.content in body is required"} {
		if _, err := Keys(request("rfc3161", in)); fmt.Sprint(err) != want {
			t.Errorf("keys of %s: %v, want %s", in, err, want)
		}
	}
}
