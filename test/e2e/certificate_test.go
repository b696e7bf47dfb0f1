package e2e

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sigstack/sigstack/test/harness"
)

// published is what the TUF repository tells clients to trust, as PEM.
type published struct {
	root, intermediate []byte // of the certificate authority
	rekorKey, ctKey    []byte
}

// publishedTrust walks the metadata from the timestamp to trusted_root.json, as
// a TUF client does, but verifies nothing: clients do that in the other tests.
func publishedTrust(t *testing.T, server *harness.Server) published {
	t.Helper()
	type metadata struct {
		Signed struct {
			Meta    map[string]struct{ Version int }
			Targets map[string]struct{ Hashes map[string]string }
		}
	}
	var timestamp, snapshot, targets metadata
	getJSON(t, server.URL+"/tuf/timestamp.json", &timestamp)
	getJSON(t, fmt.Sprintf("%s/tuf/%d.snapshot.json", server.URL, timestamp.Signed.Meta["snapshot.json"].Version), &snapshot)
	getJSON(t, fmt.Sprintf("%s/tuf/%d.targets.json", server.URL, snapshot.Signed.Meta["targets.json"].Version), &targets)

	type log struct {
		PublicKey struct{ RawBytes []byte }
	}
	var trust struct {
		Tlogs, Ctlogs          []log
		CertificateAuthorities []struct {
			CertChain struct {
				Certificates []struct{ RawBytes []byte }
			}
		}
	}
	digest := targets.Signed.Targets["trusted_root.json"].Hashes["sha256"]
	getJSON(t, server.URL+"/tuf/targets/"+digest+".trusted_root.json", &trust)
	if len(trust.Tlogs) == 0 || len(trust.Ctlogs) == 0 || len(trust.CertificateAuthorities) == 0 {
		t.Fatalf("trusted_root.json lacks a log, a CT log or a CA: %+v", trust)
	}
	chain := trust.CertificateAuthorities[0].CertChain.Certificates
	if len(chain) != 2 {
		t.Fatalf("%d certificates of the CA in trusted_root.json, want the intermediate and the root", len(chain))
	}
	block := func(kind string, der []byte) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	}
	return published{
		intermediate: block("CERTIFICATE", chain[0].RawBytes),
		root:         block("CERTIFICATE", chain[1].RawBytes),
		rekorKey:     block("PUBLIC KEY", trust.Tlogs[0].PublicKey.RawBytes),
		ctKey:        block("PUBLIC KEY", trust.Ctlogs[0].PublicKey.RawBytes),
	}
}

func inspectEmailCertificate(t *testing.T, server *harness.Server) {
	u := newUser(t, server, "rupert@example.com")
	u.inspect(u.token(), "email:"+u.email, server.URL+"/oidc")
}

func inspectWorkflowCertificate(t *testing.T, server *harness.Server) {
	u := newUser(t, server, "")
	token := u.oneToken("--github", "acme/widget")
	u.inspect(token, "URI:https://github.com/"+workflowOf(t, token)["job_workflow_ref"], server.URL+"/oidc/github")
}

// inspect gets a certificate with cosign 2 and reads it with openssl.
func (u *user) inspect(token, san, issuer string) {
	u.t.Helper()
	u.initialize("cosign2")
	u.Write("blob", []byte("blob of "+u.t.Name()+"\n"))
	u.Run("cosign2", args("sign-blob", "--yes", u.urls(), "--identity-token", token,
		"--output-certificate", "fulcio.crt.base64", "blob")...)
	u.Write("fulcio.crt", unbase64(u.t, string(u.Read("fulcio.crt.base64"))))
	u.readCertificate("fulcio.crt", san, issuer)
}

// readCertificate reads a certificate with openssl, and fails the test unless it
// has what tutorials show.
func (u *user) readCertificate(file, san, issuer string) {
	u.t.Helper()
	trust := publishedTrust(u.t, u.server)
	u.Write("root.pem", trust.root)
	u.Write("intermediate.pem", trust.intermediate)

	out := u.Run("openssl", "x509", "-in", file, "-noout", "-text").Stdout
	// OpenSSL pads every line; its words are what counts.
	lines := regexp.MustCompile(`\s*\n\s*`).ReplaceAllString(out, "\n")
	for what, want := range map[string]string{
		"no subject":                    `\nSubject:\n`,
		"issued by the intermediate":    `\nIssuer: O = .+, CN = .*-intermediate\n`,
		"a P-256 key":                   `\nASN1 OID: prime256v1\n`,
		"a critical key usage":          `\nX509v3 Key Usage: critical\nDigital Signature\n`,
		"an extended key usage":         `\nX509v3 Extended Key Usage:\nCode Signing\n`,
		"a subject key identifier":      `\nX509v3 Subject Key Identifier:\n([0-9A-F]{2}:){19}[0-9A-F]{2}\n`,
		"an authority key identifier":   `\nX509v3 Authority Key Identifier:\n(keyid:)?([0-9A-F]{2}:){19}[0-9A-F]{2}\n`,
		"a critical SAN":                `\nX509v3 Subject Alternative Name: critical\n` + regexp.QuoteMeta(san) + `\n`,
		"the issuer as raw text":        `\n1\.3\.6\.1\.4\.1\.57264\.1\.1:\n` + regexp.QuoteMeta(issuer) + `\n`,
		"the issuer as DER UTF8String":  `\n1\.3\.6\.1\.4\.1\.57264\.1\.8:\n.{2,}` + regexp.QuoteMeta(issuer) + `\n`,
		"one SCT of version 1":          `\nCT Precertificate SCTs:\nSigned Certificate Timestamp:\nVersion\s*: v1 \(0x0\)\n`,
		"an SCT signature with SHA-256": `\nSignature\s*: ecdsa-with-SHA256\n`,
		"an SCT without extensions":     `\nExtensions\s*: none\n`,
		"signed with SHA-384":           `\nSignature Algorithm: ecdsa-with-SHA384\n`,
	} {
		if !regexp.MustCompile(want).MatchString(lines) {
			u.t.Errorf("openssl does not show %s: %s\n%s", what, want, out)
		}
	}
	if n := strings.Count(lines, "Signed Certificate Timestamp:"); n != 1 {
		u.t.Errorf("%d SCTs, want 1", n)
	}

	block, _ := pem.Decode(u.Read(file))
	if block == nil {
		u.t.Fatalf("%s is not PEM", file)
	}
	certificate := parseCertificate(u.t, block.Bytes)
	if lifetime := certificate.NotAfter.Sub(certificate.NotBefore); lifetime != 10*time.Minute {
		u.t.Errorf("valid for %s, want 10 minutes", lifetime)
	}
	intermediate, _ := pem.Decode(trust.intermediate)
	checkCertificate(u.t, u.server, certificate, parseCertificate(u.t, intermediate.Bytes))

	values := map[string][]byte{}
	for _, e := range certificate.Extensions {
		values[e.Id.String()] = e.Value
	}
	// An UTF8String has the tag 0x0c (X.690, section 8.23).
	for id, want := range map[string][]byte{
		"1.3.6.1.4.1.57264.1.1": []byte(issuer),
		"1.3.6.1.4.1.57264.1.8": append([]byte{0x0c, byte(len(issuer))}, issuer...),
	} {
		if !bytes.Equal(values[id], want) {
			u.t.Errorf("%s = %q, want %q", id, values[id], want)
		}
	}

	u.Run("openssl", "verify", "-CAfile", "root.pem", "-untrusted", "intermediate.pem", file)
	u.Refuse("unable to get local issuer certificate", "openssl", "verify", "-CAfile", "root.pem", file)
}

func parseCertificate(t *testing.T, der []byte) *x509.Certificate {
	t.Helper()
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}
