package fulcio

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/sigstack/sigstack/ca"
	"github.com/sigstack/sigstack/ca/catest"
	"github.com/sigstack/sigstack/proto/fulcio/v1beta"
	fulciov2 "github.com/sigstack/sigstack/proto/fulcio/v2"
	"github.com/sigstack/sigstack/test/fuzz"
)

// A fuzzWorld is a service in process whose clock stands still, and what a
// client needs for a certificate.
type fuzzWorld struct {
	*Service
	token      string
	key, proof []byte
	csr        []byte
	spki       [][]byte // of key and csr
}

func newFuzzWorld(f *testing.F) *fuzzWorld {
	f.Helper()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	clock := func() time.Time { return now }
	issuer := catest.NewIssuer(f, issuerURL)
	signer := catest.ECDSA(f, elliptic.P256())
	certs, err := ca.CreateHierarchy("Example", catest.ECDSA(f, elliptic.P256()), signer, now.Add(-time.Hour))
	if err != nil {
		f.Fatal(err)
	}
	chain, err := ca.NewChain(certs, signer)
	if err != nil {
		f.Fatal(err)
	}
	authority, err := ca.New(ca.Config{Chain: chain, CTLog: catest.NewLog(f, clock), Audit: &auditor{}, Now: clock})
	if err != nil {
		f.Fatal(err)
	}
	s, err := New(Config{Parts: Parts{CA: authority, Verifier: issuer.Verifier(f, clock)}, Status: statusOf, Logger: slog.New(slog.DiscardHandler),
		Panicked: func() { panic("recovered by the service") }})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(s.Close)
	w := &fuzzWorld{Service: s, token: issuer.EmailToken(f, now, email)}
	// The same keys and signatures in every process: the one that fuzzes gets
	// its first inputs from another.
	var keys [2]*ecdsa.PrivateKey
	for i := range keys {
		if keys[i], err = ecdsa.ParseRawPrivateKey(elliptic.P256(), bytes.Repeat([]byte{byte(i + 1)}, 32)); err != nil {
			f.Fatal(err)
		}
		spki, err := x509.MarshalPKIXPublicKey(keys[i].Public())
		if err != nil {
			f.Fatal(err)
		}
		w.spki = append(w.spki, spki)
	}
	w.key = pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: w.spki[0]})
	digest := sha256.Sum256([]byte(email))
	if w.proof, err = keys[0].Sign(nil, digest[:], crypto.SHA256); err != nil {
		f.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(nil, &x509.CertificateRequest{}, keys[1])
	if err != nil {
		f.Fatal(err)
	}
	w.csr = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
	return w
}

// checkCertificate says whether the first certificate in PEM text is for who
// asked and for one of the keys that were proven.
func (w *fuzzWorld) checkCertificate(t *testing.T, text string) {
	t.Helper()
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		t.Fatalf("no certificate in %q", text)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if len(cert.EmailAddresses) != 1 || cert.EmailAddresses[0] != email ||
		!bytes.Equal(cert.RawSubjectPublicKeyInfo, w.spki[0]) && !bytes.Equal(cert.RawSubjectPublicKeyInfo, w.spki[1]) {
		t.Fatalf("a certificate for %q, key %x", cert.EmailAddresses, cert.RawSubjectPublicKeyInfo)
	}
}

// issuing allows for what a certificate costs beyond parsing its request.
func issuing([]byte) int { return 2 << 20 }

// The JSON of both protocols. An input begins with the token of the
// Authorization header, and 0 or 1 for v1 or v2.
func FuzzHTTP(f *testing.F) {
	w := newFuzzWorld(f)
	seed := func(version byte, header string, body any) *fuzz.Node {
		text, err := json.Marshal(body)
		if err != nil {
			f.Fatal(err)
		}
		return fuzz.Seq(fuzz.Leaf([]byte{version}), fuzz.Prefixed(2, fuzz.Look([]byte(header))), fuzz.Look(text))
	}
	publicKey := object{"publicKey": object{"algorithm": "ECDSA", "content": string(w.key)}, "proofOfPossession": w.proof}
	seeds := []*fuzz.Node{
		seed(0, "Bearer "+w.token, object{"publicKey": object{"algorithm": "ecdsa", "content": w.key}, "signedEmailAddress": w.proof}),
		seed(0, w.token, object{"certificateSigningRequest": w.csr}),
		seed(1, "", object{"credentials": object{"oidcIdentityToken": w.token}, "publicKeyRequest": publicKey}),
		seed(1, "Bearer "+w.token, object{"certificateSigningRequest": w.csr}),
	}
	paths := []string{"/api/v1/signingCert", "/api/v2/signingCert"}
	cut := func(in []byte) (path, token string, body []byte) {
		if len(in) < 3 || len(in)-3 < int(in[1])<<8|int(in[2]) {
			return paths[0], "", in
		}
		n := 3 + (int(in[1])<<8 | int(in[2]))
		return paths[in[0]&1], string(in[3:n]), in[n:]
	}
	parse := func(in []byte) (*httptest.ResponseRecorder, error) {
		path, token, body := cut(in)
		r := httptest.NewRequest("POST", path, bytes.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		if token != "" {
			r.Header["Authorization"] = []string{token}
		}
		rec := httptest.NewRecorder()
		w.Handler().ServeHTTP(rec, r)
		return rec, nil
	}
	for i, s := range seeds { // all of them get a certificate
		if rec, _ := parse(s.Bytes()); rec.Code != 201-i/2 {
			f.Fatalf("seed %d: %d %s", i, rec.Code, rec.Body)
		}
	}
	fuzz.RunWith(f, fuzz.Options{Allow: issuing}, seeds, parse, func(t *testing.T, in []byte, rec *httptest.ResponseRecorder, _ error) {
		if rec.Code >= 500 {
			t.Fatalf("%d %s", rec.Code, rec.Body)
		}
		path, _, _ := cut(in)
		switch {
		case rec.Code == http.StatusCreated && path == paths[0]:
			w.checkCertificate(t, rec.Body.String())
		case rec.Code == http.StatusOK && path == paths[1]:
			var answer struct {
				SignedCertificateEmbeddedSct struct {
					Chain struct{ Certificates []string }
				}
			}
			if err := json.Unmarshal(rec.Body.Bytes(), &answer); err != nil {
				t.Fatal(err)
			}
			w.checkCertificate(t, strings.Join(answer.SignedCertificateEmbeddedSct.Chain.Certificates, "\n"))
		case rec.Code < 400:
			t.Fatalf("%s: %d %s", path, rec.Code, rec.Body)
		case !json.Valid(rec.Body.Bytes()):
			t.Fatalf("not JSON: %q", rec.Body)
		}
	})
}

// field is a field of a protobuf message that holds bytes.
func field(number protowire.Number, kids ...*fuzz.Node) *fuzz.Node {
	return fuzz.Join(func(kids [][]byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, number, protowire.BytesType), bytes.Join(kids, nil))
	}, kids...)
}

// The messages that gRPC decodes, of both protocols: an input begins with 0 or
// 1 for v1beta or v2.
func FuzzGRPC(f *testing.F) {
	w := newFuzzWorld(f)
	token := field(1, field(1, fuzz.Look([]byte(w.token))))
	algorithm := fuzz.Leaf(protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 2))
	seeds := []*fuzz.Node{
		fuzz.Seq(fuzz.Leaf([]byte{1}), token, field(2, field(1, algorithm, field(2, fuzz.Look(w.key))), field(2, fuzz.Look(w.proof)))),
		fuzz.Seq(fuzz.Leaf([]byte{1}), token, field(3, fuzz.Look(w.csr))),
		fuzz.Seq(fuzz.Leaf([]byte{0}), field(1, field(1, fuzz.Text("ecdsa")), field(2, fuzz.Look(w.key))), field(2, fuzz.Look(w.proof))),
		fuzz.Seq(fuzz.Leaf([]byte{0}), field(3, fuzz.Look(w.csr))),
	}
	parse := func(in []byte) (text string, err error) {
		if len(in) == 0 {
			return "", io.EOF
		}
		if len(in) > DefaultMaxBody { // grpc.MaxRecvMsgSize
			return "", io.ErrShortBuffer
		}
		ctx := context.Background()
		if in[0]&1 == 1 {
			var req fulciov2.CreateSigningCertificateRequest
			if err := proto.Unmarshal(in[1:], &req); err != nil {
				return "", io.ErrUnexpectedEOF
			}
			answer, err := v2{Service: w.Service}.CreateSigningCertificate(ctx, &req)
			return strings.Join(answer.GetSignedCertificateEmbeddedSct().GetChain().GetCertificates(), "\n"), err
		}
		var req fulciov1beta.CreateSigningCertificateRequest
		if err := proto.Unmarshal(in[1:], &req); err != nil {
			return "", io.ErrUnexpectedEOF
		}
		answer, err := v1{Service: w.Service}.CreateSigningCertificate(metadata.NewIncomingContext(ctx, metadata.Pairs(tokenKey, w.token)), &req)
		return string(answer.GetData()), err
	}
	for i, s := range seeds { // all of them get a certificate
		if text, err := parse(s.Bytes()); err != nil || text == "" {
			f.Fatalf("seed %d: %v", i, err)
		}
	}
	fuzz.RunWith(f, fuzz.Options{Allow: issuing}, seeds, parse, func(t *testing.T, in []byte, text string, err error) {
		if err == nil {
			w.checkCertificate(t, text)
			return
		}
		if s, ok := status.FromError(err); ok && (runtime.HTTPStatusFromCode(s.Code()) >= 500 || len(s.Message()) > 1500) {
			t.Fatal(s)
		}
	})
}
