package e2e

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"testing"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/crypto/cryptobyte"
	der "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/sigstack/sigstack/test/harness"
)

// certify asks the CA for a certificate and returns it with its issuer.
func (w *writer) certify(server *harness.Server, email, token string) ([]*x509.Certificate, error) {
	digest := sha256.Sum256([]byte(email))
	possession, err := ecdsa.SignASN1(rand.Reader, w.key, digest[:])
	if err != nil {
		return nil, err
	}
	request, err := json.Marshal(object{
		"credentials": object{"oidcIdentityToken": token},
		"publicKeyRequest": object{
			"publicKey":         object{"algorithm": "ECDSA", "content": string(w.public)},
			"proofOfPossession": possession,
		},
	})
	if err != nil {
		return nil, err
	}
	res, err := w.client.Post(server.URL+"/api/v2/signingCert", "application/json", bytes.NewReader(request))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errGone, err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errGone, err)
	}
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", res.Status, text)
	}
	var answer struct {
		SignedCertificateEmbeddedSct struct {
			Chain struct{ Certificates []string }
		}
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return nil, err
	}
	var chain []*x509.Certificate
	for _, text := range answer.SignedCertificateEmbeddedSct.Chain.Certificates {
		block, _ := pem.Decode([]byte(text))
		if block == nil {
			return nil, fmt.Errorf("no PEM in the chain")
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		chain = append(chain, certificate)
	}
	if len(chain) < 2 {
		return nil, fmt.Errorf("%d certificates in the chain, want 2 or more", len(chain))
	}
	return chain[:2], nil
}

// checkCertificate fails unless the CT log includes the precertificate of a
// certificate (RFC 6962, sections 4.3 and 4.5).
func checkCertificate(t *testing.T, server *harness.Server, certificate, issuer *x509.Certificate) {
	t.Helper()
	var head struct {
		Size uint64 `json:"tree_size"`
		Root []byte `json:"sha256_root_hash"`
	}
	getJSON(t, server.URL+"/ct/v1/get-sth", &head)
	leaf := rfc6962.DefaultHasher.HashLeaf(precertLeaf(t, certificate, issuer))
	var at struct {
		Index uint64   `json:"leaf_index"`
		Path  [][]byte `json:"audit_path"`
	}
	query := url.Values{"hash": {encodeBase64(leaf)}, "tree_size": {fmt.Sprint(head.Size)}}
	getJSON(t, server.URL+"/ct/v1/get-proof-by-hash?"+query.Encode(), &at)
	if err := proof.VerifyInclusion(rfc6962.DefaultHasher, at.Index, head.Size, leaf, at.Path, head.Root); err != nil {
		t.Fatalf("certificate %x is not in the CT log: %v", certificate.SerialNumber, err)
	}
}

// precertLeaf returns the MerkleTreeLeaf of a certificate with one embedded SCT
// (RFC 6962, sections 3.2 and 3.4): its precertificate's TBSCertificate is its
// own without the SCT list.
func precertLeaf(t *testing.T, certificate, issuer *x509.Certificate) []byte {
	t.Helper()
	var b cryptobyte.Builder
	b.AddUint8(0) // version v1
	b.AddUint8(0) // leaf type timestamped_entry
	b.AddUint64(sctTimestamp(t, certificate))
	b.AddUint16(1) // entry type precert_entry
	issuerKey := sha256.Sum256(issuer.RawSubjectPublicKeyInfo)
	b.AddBytes(issuerKey[:])
	b.AddUint24LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(withoutSCT(t, certificate.RawTBSCertificate)) })
	b.AddUint16(0) // no extensions
	return b.BytesOrPanic()
}

// sctTimestamp returns the timestamp of the first SCT, in milliseconds.
func sctTimestamp(t *testing.T, certificate *x509.Certificate) uint64 {
	t.Helper()
	// Lengths of the list and of its first element, version, log ID, timestamp.
	var octets, list, sct cryptobyte.String
	var version uint8
	var logID []byte
	var timestamp uint64
	value := cryptobyte.String(sctList(t, certificate.Raw))
	if !value.ReadASN1(&octets, der.OCTET_STRING) || !octets.ReadUint16LengthPrefixed(&list) ||
		!list.ReadUint16LengthPrefixed(&sct) || !sct.ReadUint8(&version) ||
		!sct.ReadBytes(&logID, sha256.Size) || !sct.ReadUint64(&timestamp) {
		t.Fatalf("the SCT list does not parse: %x", sctList(t, certificate.Raw))
	}
	return timestamp
}

// withoutSCT returns a TBSCertificate without its SCT list extension.
func withoutSCT(t *testing.T, tbs []byte) []byte {
	t.Helper()
	extensionsTag := der.Tag(3).ContextSpecific().Constructed()
	input := cryptobyte.String(tbs)
	var fields cryptobyte.String
	if !input.ReadASN1(&fields, der.SEQUENCE) {
		t.Fatal("a TBSCertificate that is no SEQUENCE")
	}
	var b cryptobyte.Builder
	b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) {
		for !fields.Empty() {
			var field, explicit, extensions cryptobyte.String
			var tag der.Tag
			if !fields.ReadAnyASN1Element(&field, &tag) {
				t.Fatal("a TBSCertificate with a broken field")
			}
			if tag != extensionsTag {
				b.AddBytes(field)
				continue
			}
			if !field.ReadASN1(&explicit, extensionsTag) || !explicit.ReadASN1(&extensions, der.SEQUENCE) {
				t.Fatal("a TBSCertificate with broken extensions")
			}
			b.AddASN1(extensionsTag, func(b *cryptobyte.Builder) {
				b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) {
					for !extensions.Empty() {
						var element, content cryptobyte.String
						var id asn1.ObjectIdentifier
						if !extensions.ReadASN1Element(&element, der.SEQUENCE) {
							t.Fatal("a broken extension")
						}
						whole := element
						if !element.ReadASN1(&content, der.SEQUENCE) || !content.ReadASN1ObjectIdentifier(&id) {
							t.Fatal("an extension without an identifier")
						}
						if !id.Equal(oidSCTList) {
							b.AddBytes(whole)
						}
					}
				})
			})
		}
	})
	return b.BytesOrPanic()
}
