package fulcio

import (
	"context"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/api/httpbody"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/sigstack/sigstack/ca/catest"
	"github.com/sigstack/sigstack/ca/identity"
	"github.com/sigstack/sigstack/proto/fulcio/v1beta"
	fulciov2 "github.com/sigstack/sigstack/proto/fulcio/v2"
)

// An attempt is a request for a certificate, in any of the protocols.
type attempt struct {
	token, key, proof, csr []byte
}

func (w *world) attempt() attempt {
	key, proof := keyAndProof(w, email)
	return attempt{token: []byte(w.token()), key: key, proof: proof}
}

// An outcome is what a client learns.
type outcome struct {
	status     int // of HTTP; 0 over gRPC
	code       codes.Code
	message    string
	retryAfter string
}

// outcomes makes the attempt by each protocol.
func (w *world) outcomes(a attempt) map[string]outcome {
	w.Helper()
	overHTTP := func(path string, body object, headers ...string) outcome {
		resp, text := w.do("POST", path, body, headers...)
		var e struct {
			Code    codes.Code
			Message string
		}
		if resp.StatusCode >= 300 {
			if err := json.Unmarshal([]byte(text), &e); err != nil {
				w.Errorf("%s: %d %q: %v", path, resp.StatusCode, text, err)
			}
		}
		return outcome{resp.StatusCode, e.Code, e.Message, resp.Header.Get("Retry-After")}
	}
	overGRPC := func(err error) outcome {
		return outcome{code: status.Code(err), message: status.Convert(err).Message()}
	}
	v2 := object{"credentials": object{"oidcIdentityToken": string(a.token)}}
	v1 := object{}
	request := &fulciov2.CreateSigningCertificateRequest{
		Credentials: &fulciov2.Credentials{Credentials: &fulciov2.Credentials_OidcIdentityToken{OidcIdentityToken: string(a.token)}},
	}
	old := &fulciov1beta.CreateSigningCertificateRequest{SignedEmailAddress: a.proof, CertificateSigningRequest: a.csr}
	if a.csr != nil {
		v2["certificateSigningRequest"], v1["certificateSigningRequest"] = a.csr, a.csr
		request.Key = &fulciov2.CreateSigningCertificateRequest_CertificateSigningRequest{CertificateSigningRequest: a.csr}
	} else {
		v2["publicKeyRequest"] = object{"publicKey": object{"content": string(a.key)}, "proofOfPossession": a.proof}
		v1["publicKey"], v1["signedEmailAddress"] = object{"content": a.key}, a.proof
		request.Key = &fulciov2.CreateSigningCertificateRequest_PublicKeyRequest{PublicKeyRequest: &fulciov2.PublicKeyRequest{
			PublicKey: &fulciov2.PublicKey{Content: string(a.key)}, ProofOfPossession: a.proof,
		}}
		old.PublicKey = &fulciov1beta.PublicKey{Content: a.key}
	}
	conn := w.dial()
	defer conn.Close()
	ctx := context.Background()
	_, err2 := fulciov2.NewCAClient(conn).CreateSigningCertificate(ctx, request)
	if len(a.token) > 0 {
		ctx = metadata.AppendToOutgoingContext(ctx, tokenKey, string(a.token))
	}
	err1 := conn.Invoke(ctx, fulciov1beta.CA_CreateSigningCertificate_FullMethodName, old, &httpbody.HttpBody{})
	var headers []string
	if len(a.token) > 0 {
		headers = []string{"Authorization", "Bearer " + string(a.token)}
	}
	return map[string]outcome{
		"v2 over HTTP": overHTTP("/api/v2/signingCert", v2), "v1 over HTTP": overHTTP("/api/v1/signingCert", v1, headers...),
		"v2 over gRPC": overGRPC(err2), "v1beta over gRPC": overGRPC(err1),
	}
}

// secrets are the parts of a token that no answer and no line of a log may have: each
// part of its signature and of its payload as it was sent.
func secrets(token []byte) []string {
	const size = 16
	parts := strings.Split(string(token), ".")
	if len(parts) != 3 {
		return nil
	}
	var list []string
	for _, part := range parts[1:] {
		for i := 0; i+size <= len(part); i += size / 2 {
			list = append(list, part[i:i+size])
		}
	}
	return list
}

// checkOutcomes holds what clients learned by each protocol against one verdict.
func (w *world) checkOutcomes(name string, a attempt, code codes.Code, httpStatus int, prefix string, says ...string) {
	w.Helper()
	logged := len(w.lines.String())
	for protocol, got := range w.outcomes(a) {
		if got.code != code || got.status != httpStatus && got.status != 0 || !strings.HasPrefix(got.message, prefix) {
			w.Errorf("%s, %s: %d %s %q, want %d %s %q", name, protocol, got.status, got.code, got.message, httpStatus, code, prefix)
		}
		for _, text := range says {
			if !strings.Contains(got.message, text) {
				w.Errorf("%s, %s: %q does not say %s", name, protocol, got.message, text)
			}
		}
		if strings.ContainsAny(got.message, "\r\n") || len(got.message) > 1100 {
			w.Errorf("%s, %s: not one line: %q", name, protocol, got.message)
		}
		if want := map[int]string{http.StatusServiceUnavailable: "1"}[got.status]; got.retryAfter != want {
			w.Errorf("%s, %s: Retry-After %q, want %q", name, protocol, got.retryAfter, want)
		}
		for _, secret := range secrets(a.token) {
			if strings.Contains(got.message, secret) {
				w.Errorf("%s, %s: the answer has a part of the token: %q", name, protocol, got.message)
			}
		}
	}
	lines := w.lines.String()[logged:]
	for _, secret := range secrets(a.token) {
		if strings.Contains(lines, secret) {
			w.Errorf("%s: the log has a part of the token: %s", name, lines)
		}
	}
	if n := strings.Count(lines, "\n"); n != 4 {
		w.Errorf("%s: %d lines in the log for 4 requests: %s", name, n, lines)
	}
}

// TestErrorTable is the table of errors: each trigger by each protocol, with its
// status, its code, the words that Fulcio's users know, and what it says beyond them:
// which claim, of which issuer, and what was expected.
func TestErrorTable(t *testing.T) {
	w := newWorld(t)
	const (
		badToken = "There was an error processing the identity token: "
		badKey   = "The public key supplied in the request could not be parsed: "
		weakKey  = "The public key supplied in the request is insecure: "
		badCSR   = "The certificate signing request could not be parsed: "
		badProof = "The signature supplied in the request could not be verified: "
	)
	token := func(claims object) []byte {
		all := object{"sub": "subject-1", "email": email, "email_verified": true}
		maps.Copy(all, claims)
		return []byte(w.issuer.Token(t, w.now, all))
	}
	header, rest, _ := strings.Cut(w.token(), ".")
	body, signature, _ := strings.Cut(rest, ".")
	otherBody := base64.RawURLEncoding.EncodeToString([]byte(fmt.Sprintf(`{"iss":%q,"sub":"x","aud":"sigstore","exp":%d,"email":"root@example.com","email_verified":true}`, issuerURL, w.now.Add(time.Minute).Unix())))
	hs256 := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256","kid":"1"}`))
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p224, err := x509.MarshalPKIXPublicKey(catest.ECDSA(t, elliptic.P224()).Public())
	if err != nil {
		t.Fatal(err)
	}
	withToken := func(token []byte) attempt { a := w.attempt(); a.token = token; return a }
	withKey := func(key []byte) attempt { a := w.attempt(); a.key = key; return a }
	withProof := func(proof []byte) attempt { a := w.attempt(); a.proof = proof; return a }
	withCSR := func(csr []byte) attempt { a := w.attempt(); a.csr = csr; return a }
	quotedIssuer := fmt.Sprintf("%q", issuerURL)
	broken := csrPEM(t, catest.ECDSA(t, elliptic.P256()), 0)
	block, _ := pem.Decode(broken)
	block.Bytes[len(block.Bytes)-1] ^= 1
	_, proofOfOther := keyAndProof(t, email)

	for _, c := range []struct {
		name    string
		attempt attempt
		prefix  string
		says    []string
	}{
		{"no token", withToken(nil), badToken, []string{"there is none", "credentials.oidcIdentityToken", "Authorization"}},
		{"malformed", withToken([]byte("x.y")), badToken, []string{"1 dots", "a compact JWS has 2"}},
		{"unknown issuer", withToken([]byte(catest.NewIssuer(t, "https://other.example.com").EmailToken(t, w.now, email))), badToken, []string{`"https://other.example.com" is not configured`}},
		{"no issuer", withToken(token(object{"iss": nil})), badToken, []string{`the claim "iss" is missing`}},
		{"another's signature", withToken([]byte(header + "." + otherBody + "." + signature)), badToken, []string{quotedIssuer, "the signature is not of a key of the issuer"}},
		{"algorithm", withToken([]byte(hs256 + "." + body + "." + signature)), badToken, []string{`algorithm is "HS256"`, "one of [RS256 ", "is required"}},
		{"audience", withToken(token(object{"aud": "someone"})), badToken, []string{quotedIssuer, `the claim "aud" is "someone", it must contain "sigstore"`}},
		{"no audience", withToken(token(object{"aud": nil})), badToken, []string{quotedIssuer, `the claim "aud" is missing`}},
		{"expired", withToken(token(object{"exp": w.now.Add(-time.Minute).Unix()})), badToken, []string{quotedIssuer, "the token expired at", "it is"}},
		{"no expiry", withToken(token(object{"exp": nil})), badToken, []string{quotedIssuer, `the claim "exp" is missing`}},
		{"not yet", withToken(token(object{"nbf": w.now.Add(time.Hour).Unix()})), badToken, []string{quotedIssuer, "not valid before"}},
		{"from the future", withToken(token(object{"iat": w.now.Add(time.Hour).Unix()})), badToken, []string{quotedIssuer, "in the future"}},
		{"no subject", withToken(token(object{"sub": nil})), badToken, []string{quotedIssuer, `the claim "sub" is missing or empty`}},
		{"no address", withToken(token(object{"email": nil})), badToken, []string{quotedIssuer, `the claim "email" is missing or empty`}},
		{"address not verified", withToken(token(object{"email_verified": false})), badToken, []string{quotedIssuer, `the claim "email_verified" must be true`}},
		{"address malformed", withToken(token(object{"email": "dev"})), badToken, []string{quotedIssuer, "local@domain"}},
		{"two lines in a claim", withToken(token(object{"sub": "a\nb"})), badToken, []string{quotedIssuer, `the claim "sub" has a control character`}},

		{"no key", withKey(nil), badKey, []string{"missing"}},
		{"key is text", withKey([]byte("key")), badKey, []string{`one PEM block "PUBLIC KEY" or "RSA PUBLIC KEY"`}},
		{"weak key", withKey(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: p224})), weakKey, []string{"P-224", "P-256"}},
		{"no proof", withProof(nil), badProof, []string{"0 bytes"}},
		{"another's proof", withProof(proofOfOther), badProof, []string{"verified e-mail address or its subject"}},
		{"CSR is text", withCSR([]byte("request")), badCSR, []string{`one PEM block "CERTIFICATE REQUEST"`}},
		{"CSR signature", withCSR(pem.EncodeToMemory(block)), badProof, nil},
		{"CSR with a weak key", withCSR(csrPEM(t, catest.ECDSA(t, elliptic.P224()), 0)), weakKey, []string{"P-224"}},
		{"CSR with PSS", withCSR(csrPEM(t, rsaKey, x509.SHA256WithRSAPSS)), "unrecognized signature algorithm: SHA256-RSAPSS", nil},
		{"CSR with SHA-512", withCSR(csrPEM(t, rsaKey, x509.SHA512WithRSA)), "signing algorithm not permitted: *rsa.PublicKey, SHA-512", nil},
	} {
		w.checkOutcomes(c.name, c.attempt, codes.InvalidArgument, http.StatusBadRequest, c.prefix, c.says...)
	}
	if w.log.Len() != 0 || len(w.audit.rows) != 0 {
		t.Errorf("%d log entries, %d audit rows", w.log.Len(), len(w.audit.rows))
	}

	// Our own trouble: the same request may succeed later.
	for name, c := range map[string]struct {
		breakIt func(*world)
		message string
	}{
		"the log":         {func(w *world) { w.log.Err = errors.New("down") }, "Error entering certificate in CTL"},
		"the log's SCT":   {func(w *world) { w.log.Change = func([]byte) []byte { return []byte("nonsense") } }, "Error entering certificate in CTL"},
		"the signing key": {func(w *world) { w.signer.err = errors.New("down") }, "error communicating with CA backend"},
		"the audit log":   {func(w *world) { w.audit.err = errors.New("down") }, "error recording the certificate"},
		"the issuer":      {func(w *world) { w.issuer.Down = true }, identity.ErrIssuerUnavailable.Error()},
		"the CA's chain":  {func(w *world) { w.now = w.now.AddDate(3, 0, 0) }, "error communicating with CA backend"},
	} {
		w := newWorld(t)
		c.breakIt(w)
		w.checkOutcomes(name, w.attempt(), codes.Unavailable, http.StatusServiceUnavailable, c.message)
		if len(w.audit.rows) != 0 {
			t.Errorf("%s: %d audit rows", name, len(w.audit.rows))
		}
	}
}

// goodClaims are tokens of each type with the claims that the type needs, and no more.
var goodClaims = map[string]object{
	"email":               {"sub": "s", "email": email, "email_verified": true},
	"uri":                 {"sub": "https://uri.example.com/job"},
	"username":            {"sub": "dev"},
	"kubernetes":          {"sub": "system:serviceaccount:ns:builder", "kubernetes.io": object{"namespace": "ns", "serviceaccount": object{"name": "builder"}}},
	"spiffe":              {"sub": "spiffe://spiffe.example.com/job"},
	"chainguard-identity": {"sub": "4d3f/8a9b"},
	"github-workflow": {
		"sub": "repo:acme/widget:ref:refs/heads/main", "job_workflow_ref": "acme/widget/.github/workflows/w.yml@refs/heads/main", "sha": "01", "event_name": "push",
		"repository": "acme/widget", "workflow": "w", "ref": "refs/heads/main", "job_workflow_sha": "02", "runner_environment": "github-hosted", "repository_id": "1",
		"repository_owner": "acme", "repository_owner_id": "2", "repository_visibility": "public", "workflow_ref": "acme/widget/.github/workflows/w.yml@refs/heads/main",
		"workflow_sha": "03", "run_id": "4", "run_attempt": "1",
	},
	"gitlab-pipeline": {
		"sub": "project_path:acme/widget:ref_type:branch:ref:main", "project_path": "acme/widget", "project_id": "1", "pipeline_source": "push", "pipeline_id": "2",
		"ci_config_ref_uri": "gitlab.com/acme/widget//.gitlab-ci.yml@refs/heads/main", "job_id": "3", "ref": "main", "ref_type": "branch", "namespace_path": "acme",
		"namespace_id": "4", "sha": "05", "runner_environment": "gitlab-hosted", "runner_id": 6,
	},
	"buildkite-job":      {"sub": "organization:acme:pipeline:widget", "organization_slug": "acme", "pipeline_slug": "widget"},
	"codefresh-workflow": {"sub": "account:1:pipeline:2", "account_id": "1", "account_name": "acme", "pipeline_id": "2", "pipeline_name": "widget", "workflow_id": "3"},
	"ci-provider":        {"sub": "acme/widget", "project": "acme/widget", "sha": "01"},
}

// identityTypes are all types, as the verifier's own error lists them.
func identityTypes(t *testing.T) (types []string) {
	t.Helper()
	_, err := identity.NewVerifier(identity.Config{Issuers: []identity.Issuer{{URL: issuerURL, ClientID: "sigstore", Type: "none"}}}, identity.Options{})
	if err == nil {
		t.Fatal("there is a type none")
	}
	for i, part := range strings.Split(err.Error(), `"`) {
		if i%2 == 1 && part != issuerURL && part != "none" {
			types = append(types, part)
		}
	}
	if len(types) < 11 {
		t.Fatalf("%d types in %q", len(types), err)
	}
	return types
}

// TestMissingClaims takes each claim away from a good token of each type. The answer
// names that claim and the issuer, by each protocol.
func TestMissingClaims(t *testing.T) {
	issuers := map[string]*catest.Issuer{}
	var configured []identity.Issuer
	for typ := range goodClaims {
		url := "https://" + typ + ".example.com"
		issuers[typ] = catest.NewIssuer(t, url)
		i := identity.Issuer{URL: url, ClientID: "sigstore", Type: typ, Transport: issuers[typ]}
		switch typ {
		case "uri":
			i.SubjectDomain = url
		case "username":
			i.SubjectDomain = "username.example.com"
		case "spiffe":
			i.SPIFFETrustDomain = "spiffe.example.com"
		case "ci-provider":
			i.Templates = &identity.Templates{SAN: "https://ci.example.com/{{.project}}", Extensions: map[string]string{"source-repository-digest": "sha"}}
		}
		configured = append(configured, i)
	}
	w := newWorld(t, configured...)
	for _, i := range identityTypes(t) {
		if goodClaims[i] == nil {
			t.Errorf("the type %s has no token here", i)
		}
	}
	claims := 0
	for _, typ := range slices.Sorted(maps.Keys(goodClaims)) {
		all, issuer := goodClaims[typ], issuers[typ]
		subject := all["sub"].(string)
		if typ == "email" {
			subject = email
		}
		request := func(claims object) attempt {
			a := attempt{token: []byte(issuer.Token(t, w.now, claims))}
			a.key, a.proof = keyAndProof(t, subject)
			return a
		}
		for protocol, got := range w.outcomes(request(all)) {
			if got.code != codes.OK || got.status/100 > 2 {
				t.Errorf("%s, %s: a token with all claims: %+v", typ, protocol, got)
			}
		}
		for _, name := range slices.Sorted(maps.Keys(all)) {
			claims++
			for what, value := range map[string]any{"null": nil, "empty": ""} {
				if typ == "ci-provider" && name == "sha" && what == "empty" {
					continue // no part of the SAN: the certificate goes without that extension
				}
				change := maps.Clone(all)
				change[name] = value
				w.checkOutcomes(fmt.Sprintf("%s: %s is %s", typ, name, what), request(change), codes.InvalidArgument, http.StatusBadRequest,
					"There was an error processing the identity token: ", fmt.Sprintf("%q", issuer.URL), name)
			}
			change := maps.Clone(all)
			delete(change, name)
			w.checkOutcomes(fmt.Sprintf("%s without %s", typ, name), request(change), codes.InvalidArgument, http.StatusBadRequest,
				"There was an error processing the identity token: ", fmt.Sprintf("%q", issuer.URL), name)
		}
	}
	t.Logf("%d claims of %d types", claims, len(goodClaims))
}
