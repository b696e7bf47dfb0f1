package e2e

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/sigstack/sigstack/test/harness"
)

// object is a JSON object that a test edits.
type object = map[string]any

// refuseChangedBundle flips one byte at a time in what cosign 3 verifies.
func refuseChangedBundle(t *testing.T, server *harness.Server) {
	u := newUser(t, server, "dave@example.com")
	u.initialize("cosign3")
	u.signBlob("first", "--identity-token", u.token()) // so that a proof has hashes
	u.signBlob("blob", "--identity-token", u.token())

	for name, change := range map[string]func(bundle object){
		"body":            func(b object) { flip(t, tlogEntry(b), "canonicalizedBody", insideDigest) },
		"body's spelling": func(b object) { flip(t, tlogEntry(b), "canonicalizedBody", spelling) },
		"SET": func(b object) {
			flip(t, tlogEntry(b)["inclusionPromise"].(object), "signedEntryTimestamp", middle)
		},
		"proof": func(b object) {
			hashes := tlogEntry(b)["inclusionProof"].(object)["hashes"].([]any)
			if len(hashes) == 0 {
				t.Fatal("the inclusion proof has no hashes")
			}
			hash := object{"hash": hashes[0]}
			flip(t, hash, "hash", middle)
			hashes[0] = hash["hash"]
		},
		"root hash": func(b object) { flip(t, tlogEntry(b)["inclusionProof"].(object), "rootHash", middle) },
		"checkpoint": func(b object) {
			checkpoint := tlogEntry(b)["inclusionProof"].(object)["checkpoint"].(object)
			text := checkpoint["envelope"].(string)
			end := strings.TrimSuffix(text, "\n")
			checkpoint["envelope"] = end[:len(end)-8] + flipDigit(end[len(end)-8:len(end)-7]) + end[len(end)-7:] + "\n"
		},
		"integrated time": func(b object) {
			text := tlogEntry(b)["integratedTime"].(string)
			tlogEntry(b)["integratedTime"] = text[:len(text)-1] + flipDigit(text[len(text)-1:])
		},
		"SCT": func(b object) {
			flip(t, b["verificationMaterial"].(object)["certificate"].(object), "rawBytes", insideSCT)
		},
		"signature": func(b object) { flip(t, b["messageSignature"].(object), "signature", middle) },
	} {
		u.refuseBundle(name, change, "cosign3", "verify-blob")
	}
}

// tlogEntry returns the log entry in a Sigstore bundle.
func tlogEntry(bundle object) object {
	return bundle["verificationMaterial"].(object)["tlogEntries"].([]any)[0].(object)
}

// refuseChangedOldBundle does the same with the format of cosign 2.
func refuseChangedOldBundle(t *testing.T, server *harness.Server) {
	u := newUser(t, server, "erin@example.com")
	u.initialize("cosign2")
	u.Write("blob", []byte("blob of "+t.Name()+"\n"))
	u.Run("cosign2", args("sign-blob", "--yes", u.urls(), "--identity-token", u.token(), "--bundle", "blob.json", "blob")...)
	u.Run("cosign2", args("verify-blob", "--offline", "--bundle", "blob.json", u.identity(), "blob")...)
	for name, change := range map[string]func(bundle object){
		"body":            func(b object) { flip(t, b["rekorBundle"].(object)["Payload"].(object), "body", insideDigest) },
		"body's spelling": func(b object) { flip(t, b["rekorBundle"].(object)["Payload"].(object), "body", spelling) },
		"SET":             func(b object) { flip(t, b["rekorBundle"].(object), "SignedEntryTimestamp", middle) },
		"SCT": func(b object) {
			block, _ := pem.Decode(unbase64(t, b["cert"].(string)))
			at, mask := insideSCT(t, block.Bytes)
			block.Bytes[at] ^= mask
			b["cert"] = encodeBase64(pem.EncodeToMemory(block))
		},
	} {
		u.refuseBundle(name, change, "cosign2", "verify-blob", "--offline")
	}
}

// refuseBundle expects that cosign refuses blob.json with a change for what is in
// it, not because it cannot read it.
func (u *user) refuseBundle(name string, change func(bundle object), cosign string, verify ...string) {
	u.t.Helper()
	bundle := u.readObject("blob.json")
	change(bundle)
	u.writeObject("changed.json", bundle)
	r := u.Try(cosign, args(verify, "--bundle", "changed.json", u.identity(), "blob")...)
	switch {
	case r.Code <= 0:
		u.t.Errorf("%s accepts a bundle with a changed %s: exit code %d\n%s", cosign, name, r.Code, r.Output())
	case strings.Contains(r.Output(), "unmarshal"), strings.Contains(r.Output(), "unknown flag"):
		u.t.Errorf("%s refuses a bundle with a changed %s for another reason\n%s", cosign, name, r.Output())
	default:
		reason, _, _ := strings.Cut(r.Stderr, "\n")
		u.t.Logf("%s, changed %s: %s", cosign, name, reason)
	}
}

// refuseChangedSCT is about a CA that went bad. A flipped byte in the SCT of a
// finished certificate breaks the CA's signature as well, which hides whether
// anybody looks at the SCT. Here the certificate with the flipped byte is signed
// again with the key of the CA and logged again, so that the SCT is all that is
// wrong. The same steps without the flip are the control.
func refuseChangedSCT(t *testing.T, server *harness.Server) {
	u := newUser(t, server, "judas@example.com")
	u.initialize("cosign3")
	u.signBlob("blob", "--identity-token", u.token())
	bundle := u.readObject("blob.json")
	der := unbase64(t, bundle["verificationMaterial"].(object)["certificate"].(object)["rawBytes"].(string))
	signature := unbase64(t, bundle["messageSignature"].(object)["signature"].(string))
	digest := sha256.Sum256(u.Read("blob"))

	verify := map[string][]string{ // how each format is verified, by the file of the bundle
		"new.json": {"cosign3", "verify-blob"},
		"old.json": {"cosign2", "verify-blob", "--offline"},
	}
	for _, bad := range []bool{false, true} {
		certificate := bytes.Clone(der)
		if bad {
			at, mask := insideSCT(t, certificate)
			certificate[at] ^= mask
		}
		certificate = signAgain(t, server, certificate)
		text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate})
		ack, err := newWriter(t).log(server, digest[:], signature, text)
		if err != nil {
			t.Fatal(err)
		}
		proof := ack.entry.Verification.InclusionProof
		hashes := []any{}
		for _, hash := range unhexAll(t, proof.Hashes) {
			hashes = append(hashes, hash)
		}

		bundle["verificationMaterial"].(object)["certificate"].(object)["rawBytes"] = certificate
		entry := tlogEntry(bundle)
		entry["canonicalizedBody"] = ack.entry.Body
		entry["logIndex"] = fmt.Sprint(ack.entry.LogIndex)
		entry["integratedTime"] = fmt.Sprint(ack.entry.IntegratedTime)
		entry["inclusionPromise"] = object{"signedEntryTimestamp": ack.entry.Verification.SignedEntryTimestamp}
		entry["inclusionProof"] = object{
			"logIndex": fmt.Sprint(proof.LogIndex), "treeSize": fmt.Sprint(proof.TreeSize),
			"rootHash": unhex(t, proof.RootHash), "hashes": hashes,
			"checkpoint": object{"envelope": proof.Checkpoint},
		}
		u.writeObject("new.json", bundle)
		u.writeObject("old.json", object{
			"base64Signature": signature,
			"cert":            text,
			"rekorBundle": object{
				"SignedEntryTimestamp": ack.entry.Verification.SignedEntryTimestamp,
				"Payload": object{
					"body": ack.entry.Body, "integratedTime": ack.entry.IntegratedTime,
					"logIndex": ack.entry.LogIndex, "logID": ack.entry.LogID,
				},
			},
		})
		for name, command := range verify {
			with := args(command[1:], "--bundle", name, u.identity(), "blob")
			if bad {
				u.Refuse("SCT", command[0], with...)
			} else {
				u.Run(command[0], with...)
			}
		}
	}
}

// refuseAlteredToken shows the CA a token with another subject under the old
// signature.
func refuseAlteredToken(t *testing.T, server *harness.Server) {
	u := newUser(t, server, "ludwig@example.com")
	u.initialize("cosign3")
	u.signBlob("blob", "--identity-token", u.token()) // so much for the token as it is
	part := strings.Split(u.token(), ".")
	claims, err := base64.RawURLEncoding.DecodeString(part[1])
	if err != nil {
		t.Fatal(err)
	}
	part[1] = base64.RawURLEncoding.EncodeToString(bytes.ReplaceAll(claims, []byte("ludwig@"), []byte("victim@")))
	u.Refuse("There was an error processing the identity token", "cosign3",
		"sign-blob", "--yes", "--identity-token", strings.Join(part, "."), "--bundle", "blob.json", "blob")
	if strings.Contains(server.Log(), part[2]) {
		t.Error("the server logs the signature of a token")
	}
}

// signAgain returns a certificate with a new signature of the server's CA.
func signAgain(t *testing.T, server *harness.Server, der []byte) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(server.Dir, "keys", "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	// RFC 5280, section 4.1.
	var certificate struct {
		TBS       asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}
	if _, err := asn1.Unmarshal(der, &certificate); err != nil {
		t.Fatal(err)
	}
	digest := sha512.Sum384(certificate.TBS.FullBytes)
	signature, err := ecdsa.SignASN1(rand.Reader, key.(*ecdsa.PrivateKey), digest[:])
	if err != nil {
		t.Fatal(err)
	}
	certificate.Signature = asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)}
	signed, err := asn1.Marshal(certificate)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// readObject reads a JSON file and keeps its numbers as they are.
func (u *user) readObject(name string) object {
	u.t.Helper()
	decoder := json.NewDecoder(bytes.NewReader(u.Read(name)))
	decoder.UseNumber()
	var o object
	if err := decoder.Decode(&o); err != nil {
		u.t.Fatal(err)
	}
	return o
}

func (u *user) writeObject(name string, o object) {
	u.t.Helper()
	text, err := json.Marshal(o)
	if err != nil {
		u.t.Fatal(err)
	}
	u.Write(name, text)
}

// flip changes one bit of the base64 bytes in a member of an object.
func flip(t *testing.T, in object, member string, where func(*testing.T, []byte) (at int, mask byte)) {
	t.Helper()
	data := unbase64(t, in[member].(string))
	at, mask := where(t, data)
	data[at] ^= mask
	in[member] = encodeBase64(data)
}

// flipDigit changes one character to another one of the same alphabet.
func flipDigit(c string) string {
	if c == "1" {
		return "2"
	}
	return "1"
}

func middle(_ *testing.T, data []byte) (at int, mask byte) { return len(data) / 2, 1 }

// insideDigest returns the place of a decimal digit in the digest that the body
// of a hashedrekord holds: with its last bit flipped it is another digit.
func insideDigest(t *testing.T, body []byte) (at int, mask byte) {
	t.Helper()
	return placeOf(t, body, `"value":"[a-f]*([0-9])`), 1
}

// spelling returns the place of a letter in that digest, which as a capital
// means the same: the entry stays valid in itself, and only what the log signed
// shows the change. An entry that has no digest has a content, in which it is
// another letter of base64.
func spelling(t *testing.T, body []byte) (at int, mask byte) {
	t.Helper()
	return placeOf(t, body, `"(?:value|content)":"[0-9A-Z+/]*([a-z])`), 'a' ^ 'A'
}

// placeOf returns where the first group of a pattern is.
func placeOf(t *testing.T, in []byte, pattern string) int {
	t.Helper()
	at := regexp.MustCompile(pattern).FindSubmatchIndex(in)
	if at == nil {
		t.Fatalf("no %s in %s", pattern, in)
	}
	return at[2]
}

// insideSCT returns the place of a byte in the signature of the SCT of a DER
// certificate (RFC 6962, section 3.3).
func insideSCT(t *testing.T, der []byte) (at int, mask byte) {
	t.Helper()
	list := sctList(t, der)
	return bytes.Index(der, list) + len(list) - 4, 1
}

// oidSCTList is the extension with the SCTs (RFC 6962, section 3.3).
var oidSCTList = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 2}

// sctList returns the value of the SCT list extension, an OCTET STRING in an
// OCTET STRING.
func sctList(t *testing.T, der []byte) []byte {
	t.Helper()
	for _, e := range parseCertificate(t, der).Extensions {
		if e.Id.Equal(oidSCTList) {
			return e.Value
		}
	}
	t.Fatal("the certificate has no SCT list")
	return nil
}
