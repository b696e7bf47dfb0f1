package compare

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/veraison/go-cose"
	"golang.org/x/crypto/blake2b"
	"golang.org/x/crypto/ssh"

	"github.com/sigstack/sigstack/test/harness"
)

type (
	object = map[string]any
	array  = []any
)

// A proposal is an entry that may be posted.
type proposal struct {
	name string // begins with the kind
	body []byte
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func marshal(v any) []byte { return must(json.Marshal(v)) }

// propose makes a proposal.
func propose(name, version string, spec object) proposal {
	kind, _, _ := strings.Cut(name, " ")
	return proposal{name, marshal(object{"kind": kind, "apiVersion": version, "spec": spec})}
}

// vectors are the recorded requests of the tests of package tlog/entry.
func vectors(t *testing.T) []proposal {
	var all []proposal
	for _, pattern := range []string{"test/vectors/rekor/*.json", "test/vectors/entries/*.json", "tlog/entry/testdata/cose-*.json"} {
		for _, file := range must(filepath.Glob(filepath.Join(harness.Root(t), pattern))) {
			var v struct {
				Name    string
				Request json.RawMessage
			}
			if err := json.Unmarshal(must(os.ReadFile(file)), &v); err != nil {
				t.Fatal(err)
			}
			all = append(all, proposal{strings.Replace(v.Name, "-", " vector ", 1), v.Request})
		}
	}
	if len(all) < 66 {
		t.Fatalf("%d vectors, want at least 66", len(all))
	}
	return all
}

func publicPEM(k crypto.Signer) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: must(x509.MarshalPKIXPublicKey(k.Public()))})
}

func certificatePEM(k, by crypto.Signer, parent *x509.Certificate, change func(*x509.Certificate)) []byte {
	c := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "compare"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
	}
	change(c)
	if parent == nil {
		parent = c
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: must(x509.CreateCertificate(rand.Reader, c, parent, k.Public(), by))})
}

func sign(k crypto.Signer, h crypto.Hash, message []byte) []byte {
	if h == 0 {
		return must(k.Sign(rand.Reader, message, h))
	}
	w := h.New()
	w.Write(message)
	return must(k.Sign(rand.Reader, w.Sum(nil), h))
}

func p1363(k *ecdsa.PrivateKey, der []byte) []byte {
	var sig struct{ R, S *big.Int }
	must(asn1.Unmarshal(der, &sig))
	width := (k.Curve.Params().BitSize + 7) / 8
	return append(sig.R.FillBytes(make([]byte, width)), sig.S.FillBytes(make([]byte, width))...)
}

// fresh are new entries of all kinds, with new keys: no log has seen them.
func fresh(t *testing.T) []proposal {
	var all []proposal
	add := func(p ...proposal) { all = append(all, p...) }

	p256 := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	p384 := must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
	p521 := must(ecdsa.GenerateKey(elliptic.P521(), rand.Reader))
	rsaKey := must(rsa.GenerateKey(rand.Reader, 2048))
	rsa3072 := must(rsa.GenerateKey(rand.Reader, 3072))
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	leaf := certificatePEM(p256, p256, nil, func(c *x509.Certificate) {
		c.EmailAddresses, c.DNSNames = []string{"Dev@Example.com"}, []string{"example.com"}
	})
	rootCert := &x509.Certificate{Subject: pkix.Name{CommonName: "root"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	root := certificatePEM(p384, p384, nil, func(c *x509.Certificate) {
		c.Subject, c.IsCA, c.BasicConstraintsValid, c.KeyUsage = rootCert.Subject, true, true, x509.KeyUsageCertSign
	})
	block, _ := pem.Decode(root)
	issued := certificatePEM(p256, p384, must(x509.ParseCertificate(block.Bytes)), func(c *x509.Certificate) {
		c.EmailAddresses = []string{"issued@example.com"}
	})
	chain := append(bytes.Clone(issued), root...)

	hashed := func(name, algorithm string, digest, sig, key []byte) proposal {
		return propose("hashedrekord "+name, "0.0.1", object{
			"data":      object{"hash": object{"algorithm": algorithm, "value": hex.EncodeToString(digest)}},
			"signature": object{"content": sig, "publicKey": object{"content": key}},
		})
	}
	artifact := []byte("compare: an artifact")
	s256, s384, s512 := sha256.Sum256(artifact), sha512.Sum384(artifact), sha512.Sum512(artifact)
	add(
		hashed("P-256", "sha256", s256[:], sign(p256, crypto.SHA256, artifact), publicPEM(p256)),
		hashed("P-256 as IEEE P1363", "sha256", s256[:], p1363(p256, sign(p256, crypto.SHA256, artifact)), publicPEM(p256)),
		hashed("P-384", "sha384", s384[:], sign(p384, crypto.SHA384, artifact), publicPEM(p384)),
		hashed("P-384 over SHA-256", "sha256", s256[:], sign(p384, crypto.SHA256, artifact), publicPEM(p384)),
		hashed("P-521", "sha512", s512[:], sign(p521, crypto.SHA512, artifact), publicPEM(p521)),
		hashed("RSA 2048", "sha256", s256[:], sign(rsaKey, crypto.SHA256, artifact), publicPEM(rsaKey)),
		hashed("RSA 3072", "sha256", s256[:], sign(rsa3072, crypto.SHA256, artifact), publicPEM(rsa3072)),
		hashed("RSA over SHA-512", "sha512", s512[:], sign(rsaKey, crypto.SHA512, artifact), publicPEM(rsaKey)),
		hashed("Ed25519ph", "sha512", s512[:], must(ed.Sign(nil, s512[:], &ed25519.Options{Hash: crypto.SHA512})), publicPEM(ed)),
		hashed("Ed25519", "sha512", s512[:], sign(ed, 0, artifact), publicPEM(ed)),
		hashed("certificate", "sha256", s256[:], sign(p256, crypto.SHA256, artifact), leaf),
		hashed("chain", "sha256", s256[:], sign(p256, crypto.SHA256, artifact), chain),
		hashed("wrong chain", "sha256", s256[:], sign(p256, crypto.SHA256, artifact), append(bytes.Clone(leaf), root...)),
		hashed("PKCS #1 key", "sha256", s256[:], sign(rsaKey, crypto.SHA256, artifact),
			pem.EncodeToMemory(&pem.Block{Type: "RSA PUBLIC KEY", Bytes: x509.MarshalPKCS1PublicKey(&rsaKey.PublicKey)})),
	)
	upper := hashed("capital digits", "sha256", s256[:], sign(p256, crypto.SHA256, artifact), publicPEM(p256))
	upper.body = bytes.Replace(upper.body, []byte(hex.EncodeToString(s256[:])), []byte(strings.ToUpper(hex.EncodeToString(s256[:]))), 1)
	add(upper)

	rekord := func(name, format string, sig, key []byte) proposal {
		return propose("rekord "+name, "0.0.1", object{
			"data":      object{"content": artifact},
			"signature": object{"format": format, "content": sig, "publicKey": object{"content": key}},
		})
	}
	withHash := rekord("with its hash", "x509", sign(p256, crypto.SHA256, artifact), publicPEM(p256))
	withHash.body = bytes.Replace(withHash.body, []byte(`"data":{`), fmt.Appendf(nil, `"data":{"hash":{"algorithm":"sha256","value":"%x"},`, s256), 1)
	add(
		rekord("x509 P-256", "x509", sign(p256, crypto.SHA256, artifact), publicPEM(p256)),
		rekord("x509 P-384", "x509", sign(p384, crypto.SHA256, artifact), publicPEM(p384)),
		rekord("x509 RSA", "x509", sign(rsaKey, crypto.SHA256, artifact), publicPEM(rsaKey)),
		rekord("x509 Ed25519", "x509", sign(ed, 0, artifact), publicPEM(ed)),
		rekord("x509 certificate", "x509", sign(p256, crypto.SHA256, artifact), leaf),
		withHash,
	)
	signer := newPGP()
	add(
		rekord("pgp", "pgp", signer.detached(artifact, false), signer.ring(false)),
		rekord("pgp armored", "pgp", signer.detached(artifact, true), signer.ring(true)),
		rekord("minisign", "minisign", minisign(ed, "Ed", artifact), minisignKey(ed)),
		rekord("minisign hashed", "minisign", minisign(ed, "ED", artifact), minisignKey(ed)),
		rekord("minisign of another key ID", "minisign", bytes.Replace(minisign(ed, "Ed", artifact), []byte(base64.StdEncoding.EncodeToString([]byte("Ed" + minisignID + "x"))[:10]), []byte(base64.StdEncoding.EncodeToString([]byte("Edcompare?x"))[:10]), 1), minisignKey(ed)),
		rekord("pgp, armor with a long line", "pgp", signer.detached(artifact, true), oneLine(signer.ring(true))),
		rekord("pgp, zeros behind the armor", "pgp", signer.detached(artifact, true), append(signer.ring(true), 0, 0)),
		rekord("ssh key behind a comment", "ssh", sshSignature(ed, "file", artifact), append([]byte("# mine\n"), ssh.MarshalAuthorizedKey(must(ssh.NewPublicKey(ed.Public())))...)),
		rekord("ssh", "ssh", sshSignature(ed, "file", artifact), ssh.MarshalAuthorizedKey(must(ssh.NewPublicKey(ed.Public())))),
		rekord("ssh ECDSA", "ssh", sshSignature(p256, "file", artifact), ssh.MarshalAuthorizedKey(must(ssh.NewPublicKey(p256.Public())))),
		rekord("ssh for another purpose", "ssh", sshSignature(ed, "git", artifact), ssh.MarshalAuthorizedKey(must(ssh.NewPublicKey(ed.Public())))),
		rekord("pgp of another artifact", "pgp", signer.detached(artifact[1:], true), signer.ring(true)),
	)

	statement := []byte(`{"_type":"https://in-toto.io/Statement/v0.1","subject":[{"name":"a","digest":{"sha256":"` + strings.Repeat("5a", 32) + `","sha1":"` +
		strings.Repeat("5b", 20) + `"}}],"predicateType":"https://slsa.dev/provenance/v0.2","predicate":{"materials":[{"uri":"b","digest":{"sha256":"` + strings.Repeat("5c", 32) + `"}}]}}`)
	const inToto = "application/vnd.in-toto+json"
	dsse := func(name string, envelope []byte, keys ...[]byte) proposal {
		return propose("dsse "+name, "0.0.1", object{"proposedContent": object{"envelope": string(envelope), "verifiers": keys}})
	}
	add(
		dsse("P-256", envelope(inToto, statement, p256), publicPEM(p256)),
		dsse("Ed25519", envelope(inToto, statement, ed), publicPEM(ed)),
		dsse("RSA", envelope(inToto, statement, rsaKey), publicPEM(rsaKey)),
		dsse("certificate", envelope(inToto, statement, p256), leaf),
		dsse("chain", envelope(inToto, statement, p256), chain),
		dsse("wrong chain", envelope(inToto, statement, p256), append(bytes.Clone(leaf), root...)),
		dsse("three keys", envelope(inToto, statement, p256, p384, ed), publicPEM(ed), publicPEM(p384), publicPEM(p256)),
		dsse("other payload", envelope("text/plain", []byte("hello"), p256), publicPEM(p256)),
		dsse("a key too many", envelope(inToto, statement, p384), publicPEM(p256), publicPEM(p384)),
		dsse("a key too few", envelope(inToto, statement, p384, ed), publicPEM(p384)),
	)
	old := func(name string, envelope, key []byte) proposal {
		return propose("intoto "+name, "0.0.1", object{"content": object{"envelope": string(envelope)}, "publicKey": key})
	}
	add(
		old("0.0.1 P-256", envelope(inToto, statement, p256), publicPEM(p256)),
		old("0.0.1 certificate", envelope(inToto, statement, p256), leaf),
		old("0.0.1 another keyid", bytes.Replace(envelope(inToto, statement, p256), []byte(`"sig":`), []byte(`"keyid":"other","sig":`), 1), publicPEM(p256)),
		old("0.0.1 empty signature", bytes.Replace(envelope(inToto, statement, p256), []byte(`"signatures":[`), []byte(`"signatures":[{"sig":""},`), 1), publicPEM(p256)),
		old("0.0.1 two signatures", envelope(inToto, statement, p384, p256), publicPEM(p256)),
		inToto002("intoto 0.0.2 P-256", inToto, statement, publicPEM, p256),
		inToto002("intoto 0.0.2 two signatures", inToto, statement, publicPEM, p256, p384),
		inToto002("intoto 0.0.2 Ed25519", inToto, statement, publicPEM, ed),
		inToto002("intoto 0.0.2 two of one key", inToto, statement, publicPEM, p256, p256),
		inToto002("intoto 0.0.2 swapped keys", inToto, statement, func(k crypto.Signer) []byte {
			if k == crypto.Signer(p256) {
				return publicPEM(p384)
			}
			return publicPEM(p256)
		}, p256, p384),
	)

	message := func(name string, alg cose.Algorithm, k crypto.Signer, aad, payload []byte, contentType string) proposal {
		m := cose.NewSign1Message()
		if name == "long headers" {
			m.Headers.Unprotected["x"] = make([]byte, 40_000)
		}
		m.Headers.Protected.SetAlgorithm(alg)
		if contentType != "" {
			m.Headers.Protected[cose.HeaderLabelContentType] = contentType
		}
		m.Payload = payload
		if err := m.Sign(rand.Reader, aad, must(cose.NewSigner(alg, k))); err != nil {
			t.Fatal(err)
		}
		return propose("cose "+name, "0.0.1", object{"message": must(m.MarshalCBOR()), "publicKey": publicPEM(k), "data": object{"aad": aad}})
	}
	add(
		message("ES256", cose.AlgorithmES256, p256, nil, []byte("payload"), ""),
		message("ES256 with data", cose.AlgorithmES256, p256, []byte("aad"), []byte("payload"), ""),
		message("ES256 statement", cose.AlgorithmES256, p256, nil, statement, inToto),
		message("PS256", cose.AlgorithmPS256, rsaKey, nil, []byte("payload"), ""),
		message("long headers", cose.AlgorithmES256, p256, nil, []byte("payload"), ""),
		message("ES384", cose.AlgorithmES384, p384, nil, []byte("payload"), ""),
	)

	sums := "files:\n  test-0.1.0.tgz: sha256:" + hex.EncodeToString(s256[:]) + "\n"
	helm := func(name string, text string) proposal {
		return propose("helm "+name, "0.0.1", object{
			"publicKey": object{"content": signer.ring(true)}, "chart": object{"provenance": object{"content": signer.clear(text)}},
		})
	}
	const chart = "apiVersion: v2\nname: test\nversion: 0.1.0\n"
	add(
		helm("", chart+"\n...\n"+sums),
		helm("with images", chart+"\n...\n"+sums+"images:\n  a: b\n"),
		helm("without checksums", chart),
		helm("with two files", chart+"\n...\n"+sums+"  other.tgz: sha256:"+strings.Repeat("0a", 32)+"\n"),
	)
	for _, role := range []string{"root", "timestamp", "snapshot", "targets"} {
		add(tuf(role, ed, time.Now().Add(time.Hour)))
	}
	twice := tuf("timestamp", ed, time.Now().Add(2*time.Hour))
	twice.name += " signed twice"
	var doc object
	if err := json.Unmarshal(twice.body, &doc); err != nil {
		t.Fatal(err)
	}
	content := doc["spec"].(object)["metadata"].(object)["content"].(object)
	content["signatures"] = append(content["signatures"].(array), content["signatures"].(array)...)
	twice.body = marshal(doc)
	add(tuf("timestamp", ed, time.Now().Add(-time.Hour)), twice)
	add(timestamps(t)...)
	return append(all, repacked(t)...)
}

// envelope makes a DSSE envelope with a signature of each key.
func envelope(payloadType string, payload []byte, signers ...crypto.Signer) []byte {
	sigs := array{}
	for _, k := range signers {
		sigs = append(sigs, object{"sig": signPAE(k, payloadType, payload)})
	}
	return marshal(object{"payloadType": payloadType, "payload": payload, "signatures": sigs})
}

func signPAE(k crypto.Signer, payloadType string, payload []byte) []byte {
	h := crypto.SHA256
	if _, ok := k.(ed25519.PrivateKey); ok {
		h = 0
	}
	return sign(k, h, fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(payloadType), payloadType, len(payload), payload))
}

func inToto002(name, payloadType string, payload []byte, key func(crypto.Signer) []byte, signers ...crypto.Signer) proposal {
	twice := func(b []byte) string {
		return base64.StdEncoding.EncodeToString([]byte(base64.StdEncoding.EncodeToString(b)))
	}
	sigs := array{}
	for _, k := range signers {
		sigs = append(sigs, object{"sig": twice(signPAE(k, payloadType, payload)), "publicKey": key(k)})
	}
	return propose(name, "0.0.2", object{"content": object{
		"envelope": object{"payloadType": payloadType, "payload": twice(payload), "signatures": sigs},
		"hash":     object{"algorithm": "sha256", "value": strings.Repeat("5e", 32)},
	}})
}

// A pgpSigner has an OpenPGP key.
type pgpSigner struct{ entity *openpgp.Entity }

func newPGP() pgpSigner {
	return pgpSigner{must(openpgp.NewEntity("Compare", "", "pgp@example.com", &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA}))}
}

func (s pgpSigner) detached(message []byte, armored bool) []byte {
	var out bytes.Buffer
	sign := openpgp.DetachSign
	if armored {
		sign = openpgp.ArmoredDetachSign
	}
	if err := sign(&out, s.entity, bytes.NewReader(message), nil); err != nil {
		panic(err)
	}
	return out.Bytes()
}

func (s pgpSigner) ring(armored bool) []byte {
	var out, text bytes.Buffer
	if err := s.entity.Serialize(&out); err != nil {
		panic(err)
	}
	if !armored {
		return out.Bytes()
	}
	w := must(armor.Encode(&text, openpgp.PublicKeyType, nil))
	must(w.Write(out.Bytes()))
	w.Close()
	return text.Bytes()
}

func (s pgpSigner) clear(text string) []byte {
	var out bytes.Buffer
	w := must(clearsign.Encode(&out, s.entity.PrivateKey, nil))
	must(w.Write([]byte(text)))
	w.Close()
	return out.Bytes()
}

// oneLine writes all that armor holds in one line.
func oneLine(armored []byte) []byte {
	head, rest, _ := strings.Cut(string(armored), "\n\n")
	end := strings.LastIndex(rest, "\n=")
	if end < 0 {
		end = strings.LastIndex(rest, "\n-----END")
	}
	return []byte(head + "\n\n" + strings.ReplaceAll(rest[:end], "\n", "") + rest[end:])
}

const minisignID = "compare!" // of the key, eight bytes

func minisignKey(k ed25519.PrivateKey) []byte {
	return []byte("untrusted comment: a key\n" + base64.StdEncoding.EncodeToString(append([]byte("Ed"+minisignID), k.Public().(ed25519.PublicKey)...)) + "\n")
}

func minisign(k ed25519.PrivateKey, algorithm string, message []byte) []byte {
	if algorithm == "ED" {
		sum := blake2b.Sum512(message)
		message = sum[:]
	}
	sig := ed25519.Sign(k, message)
	const comment = "a comment"
	global := ed25519.Sign(k, append(bytes.Clone(sig), comment...))
	encode := base64.StdEncoding.EncodeToString
	return []byte("untrusted comment: a signature\n" + encode(append([]byte(algorithm+minisignID), sig...)) + "\ntrusted comment: " + comment + "\n" + encode(global) + "\n")
}

// sshSignature is a signature of ssh-keygen -Y sign.
func sshSignature(k crypto.Signer, namespace string, message []byte) []byte {
	signer := must(ssh.NewSignerFromSigner(k))
	sum := sha512.Sum512(message)
	signed := ssh.Marshal(struct {
		Namespace, Reserved, Algorithm string
		Sum                            []byte
	}{namespace, "", "sha512", sum[:]})
	sig := must(signer.Sign(rand.Reader, append([]byte("SSHSIG"), signed...)))
	blob := ssh.Marshal(struct {
		Version                        uint32
		Key                            []byte
		Namespace, Reserved, Algorithm string
		Signature                      []byte
	}{1, signer.PublicKey().Marshal(), namespace, "", "sha512", ssh.Marshal(sig)})
	return pem.EncodeToMemory(&pem.Block{Type: "SSH SIGNATURE", Bytes: append([]byte("SSHSIG"), blob...)})
}

// tuf is an entry of the metadata of a role, with a root that knows one key.
func tuf(role string, k ed25519.PrivateKey, expires time.Time) proposal {
	// The members of a map are written in their order, so this is canonical JSON.
	key := object{"keytype": "ed25519", "scheme": "ed25519", "keyval": object{"public": hex.EncodeToString(k.Public().(ed25519.PublicKey))}}
	id := fmt.Sprintf("%x", sha256.Sum256(marshal(key)))
	document := func(role string, version int, expires time.Time, more object) object {
		signed := object{"_type": role, "spec_version": "1.0.31", "version": version, "expires": expires.UTC().Format(time.RFC3339)}
		for name, value := range more {
			signed[name] = value
		}
		return object{"signed": signed, "signatures": array{object{"keyid": id, "sig": hex.EncodeToString(ed25519.Sign(k, marshal(signed)))}}}
	}
	roles := object{}
	for _, role := range []string{"root", "timestamp", "snapshot", "targets"} {
		roles[role] = object{"keyids": array{id}, "threshold": 1}
	}
	root := document("root", 1, time.Now().Add(time.Hour), object{"consistent_snapshot": true, "keys": object{id: key}, "roles": roles})
	meta := root
	switch role {
	case "timestamp":
		meta = document(role, 7, expires, object{"meta": object{"snapshot.json": object{"version": 1}}})
	case "snapshot":
		meta = document(role, 8, expires, object{"meta": object{"targets.json": object{"version": 1}}})
	case "targets":
		meta = document(role, 9, expires, object{"targets": object{"a": object{"length": 1, "hashes": object{"sha256": strings.Repeat("5d", 32)}}}})
	}
	name := "tuf " + role
	if time.Until(expires) < 0 {
		name += " expired"
	}
	return propose(name, "0.0.1", object{"metadata": object{"content": meta}, "root": object{"content": root}})
}

// timestamps are made by openssl.
func timestamps(t *testing.T) []proposal {
	c := harness.NewClient(t)
	c.Write("tsa.cnf", []byte("[tsa]\ndefault_tsa = own\n[own]\nserial = serial\ncrypto_device = builtin\nsigner_cert = tsa.pem\nsigner_key = tsa.key\nsigner_digest = sha256\n"+
		"default_policy = 1.2.3.4\ndigests = sha256, sha512\nordering = yes\ness_cert_id_alg = sha256\n"))
	c.Write("serial", []byte("01\n"))
	c.Write("data", []byte("data"))
	c.Run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "tsa.key", "-out", "tsa.pem", "-days", "2",
		"-subj", "/CN=tsa", "-addext", "extendedKeyUsage=critical,timeStamping")
	var all []proposal
	for _, kind := range []struct {
		name string
		args []string
	}{{"with its certificate", []string{"-cert"}}, {"without certificate", nil}} {
		c.Run("openssl", append([]string{"ts", "-query", "-data", "data", "-sha256", "-out", "query"}, kind.args...)...)
		c.Run("openssl", "ts", "-reply", "-config", "tsa.cnf", "-section", "own", "-queryfile", "query", "-out", "reply")
		all = append(all, propose("rfc3161 "+kind.name, "0.0.1", object{"tsr": object{"content": c.Read("reply")}}))
	}
	return all
}

// repacked are packages of the vectors with other bytes where nothing is signed:
// each is an entry of its own.
func repacked(t *testing.T) []proposal {
	var all []proposal
	stamp := binary.LittleEndian.AppendUint32(nil, uint32(time.Now().UnixNano()))
	for _, v := range vectors(t) {
		kind, vector, _ := strings.Cut(v.name, " ")
		member := map[string]string{"alpine": "package", "rpm": "package", "jar": "archive"}[kind]
		if member == "" {
			continue
		}
		var doc object
		if err := json.Unmarshal(v.body, &doc); err != nil {
			t.Fatal(err)
		}
		holder := doc["spec"].(object)[member].(object)
		content := must(base64.StdEncoding.DecodeString(holder["content"].(string)))
		switch kind {
		case "alpine":
			copy(content[4:8], stamp) // the time in the header of gzip
		case "rpm":
			copy(content[20:24], stamp) // the name in the lead
		case "jar":
			end := bytes.LastIndex(content, []byte("PK\x05\x06"))
			content = append(content[:end+20:end+20], 4, 0) // the comment of the archive
			content = append(content, stamp...)
		}
		holder["content"] = content
		all = append(all, proposal{kind + " repacked" + strings.TrimPrefix(vector, "vector"), marshal(doc)})
	}
	return all
}
