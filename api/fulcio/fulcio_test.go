package fulcio

import (
	"bytes"
	"context"
	"crypto"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/sigstack/sigstack/ca"
	"github.com/sigstack/sigstack/ca/catest"
	"github.com/sigstack/sigstack/ca/identity"
	"github.com/sigstack/sigstack/ca/limit"
	"github.com/sigstack/sigstack/ca/policy"
	"github.com/sigstack/sigstack/proto/fulcio/v1beta"
	fulciov2 "github.com/sigstack/sigstack/proto/fulcio/v2"
)

const (
	email     = "dev@example.com"
	issuerURL = "https://issuer.example.com"
)

// A world is the service behind one HTTP/1.1 and h2c port.
type world struct {
	*testing.T
	url     string
	issuer  *catest.Issuer
	log     *catest.Log
	audit   *auditor
	signer  *signer
	policy  gate
	lines   *lockedBuffer // the service's log
	panics  atomic.Int32
	now     time.Time
	service *Service
}

type auditor struct {
	mu   sync.Mutex
	used error // of Intend
	err  error // of Issued
	rows []ca.Record
}

func (a *auditor) Intend(context.Context, ca.Intent) (ca.Intended, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a, a.used
}

func (a *auditor) Failed(ca.Failure) {}

func (a *auditor) Issued(_ context.Context, r ca.Record) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.err == nil {
		a.rows = append(a.rows, r)
	}
	return a.err
}

// A signer fails, or panics, on demand.
type signer struct {
	crypto.Signer
	err    error
	panics bool
}

func (s *signer) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if s.panics {
		panic("planted panic text")
	}
	if s.err != nil {
		return nil, s.err
	}
	return s.Signer.Sign(random, digest, opts)
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// statusOf is the part of api.Status that concerns this service.
func statusOf(err error) int {
	switch {
	case errors.Is(err, ca.ErrUnavailable), errors.Is(err, identity.ErrIssuerUnavailable):
		return http.StatusServiceUnavailable
	case errors.Is(err, identity.ErrToken), errors.Is(err, ca.ErrRequest):
		return http.StatusBadRequest
	case errors.Is(err, policy.ErrDenied):
		return http.StatusForbidden
	case errors.Is(err, policy.ErrLimited):
		return http.StatusTooManyRequests
	}
	return http.StatusInternalServerError
}

func newWorld(t *testing.T, more ...identity.Issuer) *world {
	t.Helper()
	w := &world{T: t, now: time.Now(), audit: &auditor{}, lines: &lockedBuffer{}}
	clock := func() time.Time { return w.now }
	w.issuer, w.log = catest.NewIssuer(t, issuerURL), catest.NewLog(t, clock)
	w.signer = &signer{Signer: catest.ECDSA(t, elliptic.P256())}
	certs, err := ca.CreateHierarchy("Example", catest.ECDSA(t, elliptic.P256()), w.signer, w.now.Add(-time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	chain, err := ca.NewChain(certs, w.signer)
	if err != nil {
		t.Fatal(err)
	}
	retired, err := ca.CreateHierarchy("Retired", catest.ECDSA(t, elliptic.P256()), catest.ECDSA(t, elliptic.P256()), w.now.Add(-time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	authority, err := ca.New(ca.Config{Chain: chain, CTLog: w.log, Audit: w.audit, Policy: &w.policy, Now: clock, Retired: [][]*x509.Certificate{retired}})
	if err != nil {
		t.Fatal(err)
	}
	verifier := w.issuer.Verifier(t, clock, append([]identity.Issuer{
		identity.Issuer{URL: "https://*.uri.example.com", ClientID: "sigstore", Type: "github-workflow"},
		identity.Issuer{URL: "https://uri.example.net", ClientID: "other", Type: "uri", SubjectDomain: "https://uri.example.net", Transport: w.issuer},
		identity.Issuer{URL: "https://spiffe.example.net", ClientID: "sigstore", Type: "spiffe", SPIFFETrustDomain: "example.net", Challenge: "email", Transport: w.issuer},
	}, more...)...)
	s, err := New(Config{Parts: Parts{CA: authority, Verifier: verifier}, Status: statusOf, Logger: slog.New(slog.NewJSONHandler(w.lines, nil)),
		RequestID: func(context.Context) string { return "request-1" }, Panicked: func() { w.panics.Add(1) }})
	if err != nil {
		t.Fatal(err)
	}
	w.service = s
	t.Cleanup(s.Close)
	server := httptest.NewUnstartedServer(s.Handler())
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetHTTP1(true)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	t.Cleanup(server.Close)
	w.url = server.URL
	return w
}

func (w *world) token() string { return w.issuer.EmailToken(w, w.now, email) }

// keyAndProof is a PEM key and a signature over subject.
func keyAndProof(t testing.TB, subject string) (key, proof []byte) {
	t.Helper()
	private := catest.ECDSA(t, elliptic.P256())
	der, err := x509.MarshalPKIXPublicKey(private.Public())
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte(subject))
	if proof, err = private.Sign(rand.Reader, digest[:], crypto.SHA256); err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), proof
}

func csrPEM(t testing.TB, key crypto.Signer, alg x509.SignatureAlgorithm) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{SignatureAlgorithm: alg}, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}

// do sends a request; a body that is not a string or bytes is sent as JSON.
func (w *world) do(method, path string, body any, headers ...string) (*http.Response, string) {
	w.Helper()
	var reader io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		reader = strings.NewReader(b)
	case []byte:
		reader = bytes.NewReader(b)
	default:
		text, err := json.Marshal(body)
		if err != nil {
			w.Fatal(err)
		}
		reader = bytes.NewReader(text)
	}
	req, err := http.NewRequest(method, w.url+path, reader)
	if err != nil {
		w.Fatal(err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		w.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		w.Fatal(err)
	}
	for name := range resp.Header {
		if strings.HasPrefix(name, "Grpc-") {
			w.Errorf("%s %s: header %s", method, path, name)
		}
	}
	return resp, string(text)
}

type object = map[string]any

func (w *world) v2Body(subject string) object {
	key, proof := keyAndProof(w, subject)
	return object{
		"credentials": object{"oidcIdentityToken": w.token()},
		"publicKeyRequest": object{
			"publicKey":         object{"algorithm": "ECDSA", "content": string(key)},
			"proofOfPossession": base64.StdEncoding.EncodeToString(proof),
		},
	}
}

func (w *world) v1Body(subject string) object {
	key, proof := keyAndProof(w, subject)
	return object{
		"publicKey":          object{"algorithm": "ecdsa", "content": base64.StdEncoding.EncodeToString(key)},
		"signedEmailAddress": base64.StdEncoding.EncodeToString(proof),
	}
}

// checkChain reads a chain of PEM texts and verifies it.
func (w *world) checkChain(chain []string) *x509.Certificate {
	w.Helper()
	var certs []*x509.Certificate
	for i, text := range chain {
		block, rest := pem.Decode([]byte(text))
		if block == nil || len(rest) != 0 || strings.TrimSpace(text) != text {
			w.Fatalf("certificate %d is not one trimmed PEM block: %q", i, text)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			w.Fatal(err)
		}
		certs = append(certs, cert)
	}
	if len(certs) != 3 {
		w.Fatalf("%d certificates, want 3", len(certs))
	}
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(certs[2])
	intermediates.AddCert(certs[1])
	if _, err := certs[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates, CurrentTime: w.now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}}); err != nil {
		w.Error(err)
	}
	if len(certs[0].EmailAddresses) != 1 || certs[0].EmailAddresses[0] != email {
		w.Errorf("the certificate is for %v", certs[0].EmailAddresses)
	}
	return certs[0]
}

func (w *world) checkV2(resp *http.Response, body string) {
	w.Helper()
	var answer struct {
		SignedCertificateEmbeddedSct struct {
			Chain struct{ Certificates []string }
		}
	}
	decoder := json.NewDecoder(strings.NewReader(body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&answer); err != nil || resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "application/json" {
		w.Fatalf("%d %s: %v\n%s", resp.StatusCode, resp.Header.Get("Content-Type"), err, body)
	}
	w.checkChain(answer.SignedCertificateEmbeddedSct.Chain.Certificates)
}

func TestV2(t *testing.T) {
	w := newWorld(t)
	for _, subject := range []string{email, "subject-1"} { // both are proofs
		resp, body := w.do("POST", "/api/v2/signingCert", w.v2Body(subject))
		w.checkV2(resp, body)
	}
	if len(w.audit.rows) != 2 || w.audit.rows[0].RequestID != "request-1" {
		t.Errorf("audit: %+v", w.audit.rows)
	}

	// The token in the header, in the forms that are in use; unknown fields and
	// enum values; names in snake_case; a base URL with a slash; odd Accept.
	for name, headers := range map[string][]string{
		"bearer": {"Authorization", "Bearer " + w.token()},
		"bare":   {"Authorization", w.token()},
		"python": {"Authorization", "Bearer " + w.token(), "Accept", "application/pem-certificate-chain"},
		"text":   {"Authorization", "Bearer " + w.token(), "Content-Type", "text/plain"},
	} {
		body := w.v2Body(email)
		delete(body, "credentials")
		body["publicKeyRequest"].(object)["publicKey"].(object)["algorithm"] = "RSA"
		body["unknown"] = []int{1}
		body["public_key_request"] = body["publicKeyRequest"]
		delete(body, "publicKeyRequest")
		resp, text := w.do("POST", "//api//v2/signingCert", body, headers...)
		t.Log(name)
		w.checkV2(resp, text)
	}

	// A token in the body is preferred to the header.
	resp, text := w.do("POST", "/api/v2/signingCert", w.v2Body(email), "Authorization", "Bearer nonsense")
	w.checkV2(resp, text)

	// A certificate request.
	for _, key := range []crypto.Signer{catest.ECDSA(t, elliptic.P256()), catest.ECDSA(t, elliptic.P384())} {
		resp, text := w.do("POST", "/api/v2/signingCert", object{
			"credentials":               object{"oidcIdentityToken": w.token()},
			"certificateSigningRequest": csrPEM(t, key, 0),
		})
		w.checkV2(resp, text)
	}
}

func TestV1(t *testing.T) {
	w := newWorld(t)
	derBody := w.v1Body(email) // gitsign sends DER
	content, err := base64.StdEncoding.DecodeString(derBody["publicKey"].(object)["content"].(string))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(content)
	derBody["publicKey"].(object)["content"] = block.Bytes
	for name, body := range map[string]object{
		"PEM": w.v1Body(email),
		"DER": derBody,
		"CSR": {"certificateSigningRequest": csrPEM(t, catest.ECDSA(t, elliptic.P256()), 0)},
	} {
		resp, text := w.do("POST", "/api/v1/signingCert", body, "Authorization", "Bearer "+w.token())
		if resp.StatusCode != 201 || resp.Header.Get("Content-Type") != "application/pem-certificate-chain" || resp.Header.Get("SCT") != "" {
			t.Fatalf("%s: %d %v\n%s", name, resp.StatusCode, resp.Header, text)
		}
		if strings.TrimSpace(text) != text {
			t.Errorf("%s: white space around the body", name)
		}
		var chain []string
		for rest := []byte(text); len(rest) > 0; {
			var block *pem.Block
			if block, rest = pem.Decode(rest); block == nil {
				t.Fatalf("%s: %q", name, rest)
			}
			chain = append(chain, strings.TrimSpace(string(pem.EncodeToMemory(block))))
		}
		if strings.Join(chain, "\n") != text {
			t.Errorf("%s: not PEM blocks joined by newlines", name)
		}
		w.checkChain(chain)
	}
	// The first protocol has no place for a token in the body.
	body := w.v1Body(email)
	body["credentials"] = object{"oidcIdentityToken": w.token()}
	w.wantError("POST", "/api/v1/signingCert", body, 400, 3, "There was an error processing the identity token")
}

// wantError checks the shape of an error.
func (w *world) wantError(method, path string, body any, httpStatus, code int, message string, headers ...string) {
	w.Helper()
	resp, text := w.do(method, path, body, headers...)
	var answer map[string]any
	if err := json.Unmarshal([]byte(text), &answer); err != nil {
		w.Errorf("%s %s: %d %q: %v", method, path, resp.StatusCode, text, err)
		return
	}
	got, _ := answer["message"].(string)
	details, isList := answer["details"].([]any)
	if resp.StatusCode != httpStatus || answer["code"] != float64(code) || !strings.HasPrefix(got, message) || !isList || len(details) != 0 ||
		len(answer) != 3 || resp.Header.Get("Content-Type") != "application/json" {
		w.Errorf("%s %s: %d %s %s\nwant %d, code %d, %q", method, path, resp.StatusCode, resp.Header.Get("Content-Type"), text, httpStatus, code, message)
	}
}

func TestGets(t *testing.T) {
	w := newWorld(t)
	resp, text := w.do("GET", "/api/v1/rootCert", nil)
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "application/pem-certificate-chain" || strings.Count(text, "-----BEGIN CERTIFICATE-----") != 4 {
		t.Errorf("rootCert: %d %v\n%s", resp.StatusCode, resp.Header, text)
	}
	var names []string
	for rest := []byte(text); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, cert.Subject.String())
	}
	if got := strings.Join(names, " "); got != "CN=sigstack-intermediate,O=Example CN=sigstack,O=Example CN=sigstack-intermediate,O=Retired CN=sigstack,O=Retired" {
		t.Errorf("rootCert: %s", got)
	}

	var bundle struct {
		Chains []struct{ Certificates []string }
	}
	resp, text = w.do("GET", "/api/v2/trustBundle", nil)
	if err := json.Unmarshal([]byte(text), &bundle); err != nil || resp.StatusCode != 200 || len(bundle.Chains) != 2 || len(bundle.Chains[0].Certificates) != 2 {
		t.Fatalf("trustBundle: %d %s", resp.StatusCode, text)
	}
	if !strings.HasSuffix(bundle.Chains[0].Certificates[0], "-----END CERTIFICATE-----\n") {
		t.Error("trustBundle: the PEM encoder's newline is gone")
	}

	resp, text = w.do("GET", "/api/v2/configuration", nil)
	var got, want any
	wanted := `{"issuers":[
		{"issuerUrl":"https://issuer.example.com","audience":"sigstore","challengeClaim":"email","spiffeTrustDomain":"","issuerType":"email","subjectDomain":"","skipEmailVerification":false},
		{"wildcardIssuerUrl":"https://*.uri.example.com","audience":"sigstore","challengeClaim":"sub","spiffeTrustDomain":"","issuerType":"github-workflow","subjectDomain":"","skipEmailVerification":false},
		{"issuerUrl":"https://uri.example.net","audience":"other","challengeClaim":"sub","spiffeTrustDomain":"","issuerType":"uri","subjectDomain":"https://uri.example.net","skipEmailVerification":false},
		{"issuerUrl":"https://spiffe.example.net","audience":"sigstore","challengeClaim":"email","spiffeTrustDomain":"example.net","issuerType":"spiffe","subjectDomain":"","skipEmailVerification":false}]}`
	if err := json.Unmarshal([]byte(text), &got); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(wanted), &want); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) || resp.StatusCode != 200 {
		t.Errorf("configuration: %d\n%v\n%v", resp.StatusCode, got, want)
	}

	resp, text = w.do("HEAD", "/api/v1/rootCert", nil, "Origin", "https://web.example")
	if resp.StatusCode != 200 || text != "" || resp.Header.Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("HEAD: %d %q %v", resp.StatusCode, text, resp.Header)
	}
	resp, _ = w.do("OPTIONS", "/api/v2/signingCert", nil, "Origin", "https://web.example", "Access-Control-Request-Method", "POST")
	if resp.StatusCode != 204 || resp.Header.Get("Access-Control-Allow-Methods") != "GET, POST, HEAD" {
		t.Errorf("preflight: %d %v", resp.StatusCode, resp.Header)
	}
}

func TestErrors(t *testing.T) {
	w := newWorld(t)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p224, err := x509.MarshalPKIXPublicKey(catest.ECDSA(t, elliptic.P224()).Public())
	if err != nil {
		t.Fatal(err)
	}
	weakPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: p224})
	otherIssuer := catest.NewIssuer(t, "https://other.example.com")
	expired := w.issuer.Token(t, w.now.Add(-time.Hour), map[string]any{"sub": "s", "email": email, "email_verified": true})

	const badToken = "There was an error processing the identity token"
	const badKey = "The public key supplied in the request could not be parsed"
	const weakKey = "The public key supplied in the request is insecure"
	const badCSR = "The certificate signing request could not be parsed"
	const badProof = "The signature supplied in the request could not be verified"

	// For both protocols: set replaces the token, the PEM key, the proof or a CSR.
	for _, c := range []struct {
		name               string
		token              any
		key, proof, csr    []byte
		keyless, proofless bool
		want               string
	}{
		{name: "no token", token: "", want: badToken + ": there is none"},
		{name: "not a token", token: "x", want: badToken},
		{name: "dots", token: "..", want: badToken},
		{name: "unknown issuer", token: otherIssuer.EmailToken(t, w.now, email), want: badToken},
		{name: "expired", token: expired, want: badToken},
		{name: "audience", token: w.issuer.Token(t, w.now, map[string]any{"sub": "s", "email": email, "email_verified": true, "aud": "x"}), want: badToken},
		{name: "not verified", token: w.issuer.Token(t, w.now, map[string]any{"sub": "s", "email": email, "email_verified": false}), want: badToken},
		{name: "no key", keyless: true, want: badKey},
		{name: "key is text", key: []byte("x"), want: badKey},
		{name: "key is a certificate", key: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{0x30, 0}}), want: badKey},
		{name: "weak key", key: weakPEM, want: weakKey},
		{name: "no proof", proofless: true, want: badProof},
		{name: "wrong proof", proof: []byte("x"), want: badProof},
		{name: "CSR is text", csr: []byte("x"), want: badCSR},
		{name: "CSR with a weak key", csr: csrPEM(t, catest.ECDSA(t, elliptic.P224()), 0), want: weakKey},
		{name: "CSR with PSS", csr: csrPEM(t, rsaKey, x509.SHA256WithRSAPSS), want: "unrecognized signature algorithm: SHA256-RSAPSS"},
		{name: "CSR with SHA-512", csr: csrPEM(t, rsaKey, x509.SHA512WithRSA), want: "signing algorithm not permitted: *rsa.PublicKey, SHA-512"},
	} {
		v2, v1 := w.v2Body(email), w.v1Body(email)
		var headers []string
		if c.token == nil {
			headers = []string{"Authorization", "Bearer " + w.token()}
		} else {
			v2["credentials"] = object{"oidcIdentityToken": c.token}
			if c.token != "" {
				headers = []string{"Authorization", fmt.Sprint("Bearer ", c.token)}
			}
		}
		request := v2["publicKeyRequest"].(object)
		switch {
		case c.keyless:
			delete(request, "publicKey")
			delete(v1, "publicKey")
		case c.key != nil:
			request["publicKey"] = object{"content": string(c.key)}
			v1["publicKey"] = object{"content": c.key}
		}
		switch {
		case c.proofless:
			delete(request, "proofOfPossession")
			delete(v1, "signedEmailAddress")
		case c.proof != nil:
			request["proofOfPossession"] = c.proof
			v1["signedEmailAddress"] = c.proof
		}
		if c.csr != nil {
			delete(v2, "publicKeyRequest")
			v2["certificateSigningRequest"] = c.csr
			v1["certificateSigningRequest"] = c.csr
		}
		t.Log(c.name)
		w.wantError("POST", "/api/v2/signingCert", v2, 400, 3, c.want)
		w.wantError("POST", "/api/v1/signingCert", v1, 400, 3, c.want, headers...)
	}
	if w.log.Len() != 0 || len(w.audit.rows) != 0 {
		t.Errorf("%d log entries, %d audit rows", w.log.Len(), len(w.audit.rows))
	}

	// Shapes of HTTP.
	for _, path := range []string{"/api/v2/signingCert", "/api/v1/signingCert"} {
		w.wantError("POST", path, nil, 400, 3, badToken)
		w.wantError("POST", path, "{", 400, 3, "the request body is not one JSON value")
		w.wantError("POST", path, "{}{}", 400, 3, "the request body is not one JSON value")
		w.wantError("POST", path, "[]", 400, 3, "proto:")
		w.wantError("POST", path, `{"certificateSigningRequest":"\ud800"}`, 400, 3, "proto:")
		w.wantError("POST", path, bytes.Repeat([]byte{' '}, DefaultMaxBody+1), 413, 8, "the request is larger than 65536 bytes")
		w.wantError("POST", path, bytes.Repeat([]byte{' '}, DefaultMaxBody), 400, 3, "the request body is not one JSON value")
		w.wantError("GET", path, nil, 405, 12, "Method Not Allowed")
		w.wantError("POST", path, "{}", 400, 3, badToken, "X-HTTP-Method-Override", "GET", "Content-Type", "application/x-www-form-urlencoded")
	}
	for _, path := range []string{"/", "/api/v2/nothing", "/api/v2/signingCert/", "/api/v2/trustBundle:x", "/api/v2/%2e%2e/v2/trustBundle"} {
		w.wantError("GET", path, nil, 404, 5, "Not Found")
	}
	w.wantError("POST", "/api/v2/trustBundle", "{}", 405, 12, "Method Not Allowed")
}

// Our own trouble is 503, in both protocols and over gRPC, and shows nothing.
func TestTrouble(t *testing.T) {
	secret := errors.New("dial tcp 10.0.0.1:3306: planted detail")
	for name, c := range map[string]struct {
		breakIt func(*world)
		status  int
		code    codes.Code
		message string
	}{
		"log":    {func(w *world) { w.log.Err = secret }, 503, codes.Unavailable, "Error entering certificate in CTL"},
		"signer": {func(w *world) { w.signer.err = secret }, 503, codes.Unavailable, "error communicating with CA backend"},
		"used":   {func(w *world) { w.audit.used = ca.ErrTokenUsed }, 400, codes.InvalidArgument, "There was an error processing the identity token: " + ca.ErrTokenUsed.Error()},
		"audit":  {func(w *world) { w.audit.err = secret }, 503, codes.Unavailable, "error recording the certificate"},
		"issuer": {func(w *world) { w.issuer.Down = true }, 503, codes.Unavailable, identity.ErrIssuerUnavailable.Error()},
		"chain":  {func(w *world) { w.now = w.now.AddDate(3, 0, 0) }, 503, codes.Unavailable, "error communicating with CA backend"},
		"panic":  {func(w *world) { w.signer.panics = true }, 500, codes.Internal, "internal error"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			c.breakIt(w)
			token := w.token()
			v2 := w.v2Body(email)
			for path, body := range map[string]object{"/api/v2/signingCert": v2, "/api/v1/signingCert": w.v1Body(email)} {
				resp, text := w.do("POST", path, body, "Authorization", "Bearer "+token)
				if want := fmt.Sprintf(`{"code":%d,"message":%q,"details":[]}`, c.code, c.message); resp.StatusCode != c.status || strings.ReplaceAll(text, ", ", ",") != want {
					t.Errorf("%s: %d %s\nwant %s", path, resp.StatusCode, text, want)
				}
				if got, want := resp.Header.Get("Retry-After"), map[int]string{503: "1"}[c.status]; got != want {
					t.Errorf("%s: Retry-After %q, want %q", path, got, want)
				}
			}
			client := fulciov2.NewCAClient(w.dial())
			text, err := json.Marshal(v2)
			if err != nil {
				t.Fatal(err)
			}
			request := &fulciov2.CreateSigningCertificateRequest{}
			if err := protojson.Unmarshal(text, request); err != nil {
				t.Fatal(err)
			}
			_, err = client.CreateSigningCertificate(context.Background(), request)
			if status.Code(err) != c.code || status.Convert(err).Message() != c.message {
				t.Errorf("gRPC: %v", err)
			}
			if want := map[bool]int32{true: 3}[name == "panic"]; w.panics.Load() != want {
				t.Errorf("%d panics counted, want %d", w.panics.Load(), want)
			}
			if len(w.audit.rows) != 0 {
				t.Error("an audit row was written")
			}
			lines := w.lines.String()
			if strings.Contains(lines, token) || strings.Contains(lines, strings.Split(token, ".")[2]) {
				t.Error("the token is in the log")
			}
			if name != "panic" && name != "issuer" && name != "chain" && name != "used" && !strings.Contains(lines, "planted detail") {
				t.Errorf("the log does not say why: %s", lines)
			}
		})
	}
}

// A gate is a policy that says the same to everybody.
type gate struct{ refusal error }

func (g *gate) Admit(context.Context, identity.Identity) error { return g.refusal }

// refusal is what a policy says to somebody.
func refusal(t *testing.T, id identity.Identity, c policy.Config) error {
	t.Helper()
	now := time.Now()
	p, err := policy.New(c, policy.Options{Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // a limit refuses the second
		err = p.Admit(context.Background(), id)
	}
	if err == nil {
		t.Fatal("the policy refuses nothing")
	}
	return err
}

// TestPolicy: a refusal of the policy, in both protocols and over gRPC.
func TestPolicy(t *testing.T) {
	for name, c := range map[string]struct {
		config     policy.Config
		status     int
		code       codes.Code
		message    string
		retryAfter string
	}{
		"denied": {policy.Config{Rules: []policy.Rule{{Name: "freeze", Deny: "true", Message: "come back on Monday"}}, Default: "allow"},
			403, codes.PermissionDenied, `denied by the policy, rule "freeze": come back on Monday`, ""},
		"limited": {policy.Config{PerIssuer: limit.Limit{Number: 1, Per: 24 * time.Hour}},
			429, codes.ResourceExhausted, "too many certificates for tokens of this issuer: 1 per 24h0m0s are allowed; try again in 86400 s", "86400"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.policy.refusal = refusal(t, w.issuer.Identity(t, w.now, email), c.config)
			token := w.token()
			v2 := w.v2Body(email)
			for path, body := range map[string]object{"/api/v2/signingCert": v2, "/api/v1/signingCert": w.v1Body(email)} {
				resp, text := w.do("POST", path, body, "Authorization", "Bearer "+token)
				var answer struct {
					Code    codes.Code
					Message string
					Details []any
				}
				if err := json.Unmarshal([]byte(text), &answer); err != nil || resp.StatusCode != c.status || answer.Code != c.code || len(answer.Details) != 0 {
					t.Errorf("%s: %d %s", path, resp.StatusCode, text)
				}
				if answer.Message != c.message {
					t.Errorf("%s: %q, want %q", path, answer.Message, c.message)
				}
				if got := resp.Header.Get("Retry-After"); got != c.retryAfter {
					t.Errorf("%s: Retry-After %q, want %q", path, got, c.retryAfter)
				}
			}
			request := &fulciov2.CreateSigningCertificateRequest{}
			body, err := json.Marshal(v2)
			if err == nil {
				err = protojson.Unmarshal(body, request)
			}
			if err != nil {
				t.Fatal(err)
			}
			_, err = fulciov2.NewCAClient(w.dial()).CreateSigningCertificate(context.Background(), request)
			got := status.Convert(err)
			if got.Code() != c.code {
				t.Errorf("gRPC: %v", err)
			}
			if c.retryAfter != "" {
				if details := got.Details(); len(details) != 1 {
					t.Errorf("gRPC: details %v", details)
				} else if retry, ok := details[0].(*errdetails.RetryInfo); !ok || retry.GetRetryDelay().AsDuration() != 24*time.Hour {
					t.Errorf("gRPC: detail %v", details[0])
				}
			}
			if len(w.audit.rows) != 0 || w.log.Len() != 0 {
				t.Error("something was issued")
			}
		})
	}
}

func (w *world) dial() *grpc.ClientConn {
	w.Helper()
	conn, err := grpc.NewClient("passthrough:///"+strings.TrimPrefix(w.url, "http://"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { conn.Close() })
	return conn
}

func TestGRPC(t *testing.T) {
	w := newWorld(t)
	conn := w.dial()
	ctx := context.Background()
	client := fulciov2.NewCAClient(conn)
	request := func() *fulciov2.CreateSigningCertificateRequest {
		key, proof := keyAndProof(t, email)
		return &fulciov2.CreateSigningCertificateRequest{
			Credentials: &fulciov2.Credentials{Credentials: &fulciov2.Credentials_OidcIdentityToken{OidcIdentityToken: w.token()}},
			Key: &fulciov2.CreateSigningCertificateRequest_PublicKeyRequest{PublicKeyRequest: &fulciov2.PublicKeyRequest{
				PublicKey:         &fulciov2.PublicKey{Algorithm: fulciov2.PublicKeyAlgorithm_ECDSA, Content: string(key)},
				ProofOfPossession: proof,
			}},
		}
	}
	answer, err := client.CreateSigningCertificate(ctx, request())
	if err != nil {
		t.Fatal(err)
	}
	w.checkChain(answer.GetSignedCertificateEmbeddedSct().GetChain().GetCertificates())

	// The token as metadata: one value is used, two are none.
	bare := request()
	bare.Credentials = nil
	if _, err := client.CreateSigningCertificate(metadata.AppendToOutgoingContext(ctx, tokenKey, w.token()), bare); err != nil {
		t.Error(err)
	}
	_, err = client.CreateSigningCertificate(metadata.AppendToOutgoingContext(ctx, tokenKey, w.token(), tokenKey, w.token()), bare)
	if status.Code(err) != codes.InvalidArgument {
		t.Errorf("two tokens: %v", err)
	}
	// Requests with parts missing.
	for name, req := range map[string]*fulciov2.CreateSigningCertificateRequest{
		"empty":            {},
		"no inner token":   {Credentials: &fulciov2.Credentials{}},
		"nothing but CSR":  {Credentials: request().Credentials, Key: &fulciov2.CreateSigningCertificateRequest_CertificateSigningRequest{}},
		"no key":           {Credentials: request().Credentials},
		"empty key":        {Credentials: request().Credentials, Key: &fulciov2.CreateSigningCertificateRequest_PublicKeyRequest{}},
		"empty public key": {Credentials: request().Credentials, Key: &fulciov2.CreateSigningCertificateRequest_PublicKeyRequest{PublicKeyRequest: &fulciov2.PublicKeyRequest{PublicKey: &fulciov2.PublicKey{}}}},
	} {
		if _, err := client.CreateSigningCertificate(ctx, req); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
	}
	big := request()
	big.GetPublicKeyRequest().ProofOfPossession = make([]byte, DefaultMaxBody)
	if _, err := client.CreateSigningCertificate(ctx, big); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("too big: %v", err)
	}
	if b, err := client.GetTrustBundle(ctx, &fulciov2.GetTrustBundleRequest{}); err != nil || len(b.GetChains()) != 2 {
		t.Errorf("bundle: %v", err)
	}
	if c, err := client.GetConfiguration(ctx, &fulciov2.GetConfigurationRequest{}); err != nil || len(c.GetIssuers()) != 4 {
		t.Errorf("configuration: %v", err)
	}

	legacy := fulciov1beta.NewCAClient(conn)
	key, proof := keyAndProof(t, email)
	//lint:ignore SA1019 deprecated, and still spoken
	body, err := legacy.CreateSigningCertificate(metadata.AppendToOutgoingContext(ctx, tokenKey, w.token()), &fulciov1beta.CreateSigningCertificateRequest{
		PublicKey: &fulciov1beta.PublicKey{Content: key}, SignedEmailAddress: proof,
	})
	if err != nil || body.GetContentType() != pemChainType || bytes.Count(body.GetData(), []byte("BEGIN")) != 3 {
		t.Errorf("v1beta: %v %v", body, err)
	}
	//lint:ignore SA1019 deprecated, and still spoken
	if body, err := legacy.GetRootCertificate(ctx, &emptypb.Empty{}); err != nil || bytes.Count(body.GetData(), []byte("BEGIN")) != 4 {
		t.Errorf("v1beta root: %v %v", body, err)
	}

	checker := grpc_health_v1.NewHealthClient(conn)
	for _, service := range []string{"", "dev.sigstore.fulcio.v2.CA", "anything"} {
		if h, err := checker.Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: service}); err != nil || h.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
			t.Errorf("health: %v %v", h, err)
		}
	}
	if stream, err := checker.Watch(ctx, &grpc_health_v1.HealthCheckRequest{}); err == nil {
		if _, err = stream.Recv(); status.Code(err) != codes.Unimplemented {
			t.Errorf("health watch: %v", err)
		}
	}
}

// paths lists every field of a JSON object, as a list of keys.
func paths(o object) [][]string {
	var list [][]string
	for name, value := range o {
		list = append(list, []string{name})
		if inner, ok := value.(object); ok {
			for _, p := range paths(inner) {
				list = append(list, append([]string{name}, p...))
			}
		}
	}
	return list
}

// encode writes a body, with one field replaced. A replacement of nil deletes
// it; "dup" writes it twice.
func encode(o object, path []string, replace *string) string {
	var parts []string
	for name, value := range o {
		label, err := json.Marshal(name)
		if err != nil {
			panic(err)
		}
		var text string
		if inner, ok := value.(object); ok && (len(path) < 2 || path[0] != name) {
			text = encode(inner, nil, nil)
		} else if ok {
			text = encode(inner, path[1:], replace)
		} else {
			b, err := json.Marshal(value)
			if err != nil {
				panic(err)
			}
			text = string(b)
		}
		if len(path) == 1 && path[0] == name {
			switch {
			case replace == nil:
				continue
			case *replace == "dup":
				parts = append(parts, string(label)+":"+text)
			default:
				text = strings.ReplaceAll(*replace, "SELF", text)
			}
		}
		parts = append(parts, string(label)+":"+text)
	}
	return "{" + strings.Join(parts, ",") + "}"
}

// From one valid request of each kind, delete, null, retype, duplicate and nest
// each field. Nothing may be our fault, and what is accepted must not matter.
func TestFieldMutations(t *testing.T) {
	w := newWorld(t)
	csr := object{"credentials": object{"oidcIdentityToken": w.token()}, "certificateSigningRequest": csrPEM(t, catest.ECDSA(t, elliptic.P256()), 0)}
	nest := strings.Repeat(`{"a":`, 5000) + "SELF" + strings.Repeat("}", 5000)
	list := strings.Repeat("[", 5000) + strings.Repeat("]", 5000)
	mutations := []*string{nil}
	for _, m := range []string{
		"null", "true", "0", "-1", "1e400", `""`, `"x"`, `"\u0000"`, `"AAAA"`, "[]", "{}", "[SELF]", `{"a":SELF}`, `{"oidcIdentityToken":SELF}`, "dup",
		`"` + strings.Repeat("A", 60000) + `"`, `"` + strings.Repeat(".", 60000) + `"`, nest, list,
	} {
		mutations = append(mutations, &m)
	}
	count := 0
	for path, body := range map[string]object{"/api/v2/signingCert": w.v2Body(email), "/api/v2/signingCert#csr": csr, "/api/v1/signingCert": w.v1Body(email)} {
		for _, p := range paths(body) {
			for _, m := range mutations {
				var headers []string
				if strings.Contains(path, "v1") {
					headers = []string{"Authorization", w.token()}
				}
				text := encode(body, p, m)
				resp, answer := w.do("POST", strings.TrimSuffix(path, "#csr"), text, headers...)
				count++
				// The algorithm is a hint: whatever has the right JSON type is
				// ignored. Everything else has to be there as it is.
				if resp.StatusCode < 300 && p[len(p)-1] == "algorithm" {
					continue
				}
				if resp.StatusCode != 400 && resp.StatusCode != 413 {
					t.Errorf("%s %v %.60v: %d %.200s", path, p, text, resp.StatusCode, answer)
				}
			}
		}
	}
	t.Logf("%d mutated requests", count)
}
