package e2e

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"encoding/pem"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sigstack/sigstack/test/harness"
)

// registry is a container registry on the loopback address.
type registry struct {
	t      *testing.T
	client *harness.Client
	host   string
}

func startRegistry(t *testing.T, client *harness.Client) *registry {
	t.Helper()
	served := regexp.MustCompile(`serving on port (\d+)`)
	line := client.Start("crane", "registry", "serve", "--address", "127.0.0.1:0").
		Line(30*time.Second, "port", served.MatchString)
	return &registry{t: t, client: client, host: "127.0.0.1:" + served.FindStringSubmatch(line)[1]}
}

// push makes an image with one layer and returns its reference by digest.
func (r *registry) push(name string) string {
	r.t.Helper()
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	content := []byte("content of " + r.t.Name() + "/" + name)
	if err := w.WriteHeader(&tar.Header{Name: "file", Mode: 0o644, Size: int64(len(content))}); err != nil {
		r.t.Fatal(err)
	}
	if _, err := w.Write(content); err != nil {
		r.t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		r.t.Fatal(err)
	}
	r.client.Write("layer.tar", layer.Bytes())
	tag := r.host + "/demo/" + name + ":v1"
	r.client.Run("crane", "append", "--oci-empty-base", "-f", "layer.tar", "-t", tag)
	return r.byDigest(tag)
}

// byDigest returns the reference by digest of a tag.
func (r *registry) byDigest(tag string) string {
	r.t.Helper()
	digest := strings.TrimSpace(r.client.Run("crane", "digest", tag).Stdout)
	return tag[:strings.LastIndex(tag, ":")] + "@" + digest
}

// imageUser is a user of cosign 2 with an image to sign.
func imageUser(t *testing.T, server *harness.Server, email string) (u *user, r *registry, image string) {
	t.Helper()
	u = newUser(t, server, email)
	u.initialize("cosign2")
	r = startRegistry(t, u.Client)
	return u, r, r.push("app")
}

// sign signs an image without a key and returns the index of the log entry.
func (u *user) sign(image string, more ...string) int {
	u.t.Helper()
	return logIndex(u.t, u.Run("cosign2", args("sign", "--yes", u.urls(), "--identity-token", u.token(), more, image)...))
}

// signature is what cosign 2 lists of each signature that it verified.
type signature struct {
	Critical struct {
		Identity struct {
			DockerReference string `json:"docker-reference"`
		}
		Image struct {
			Digest string `json:"docker-manifest-digest"`
		}
	}
	Optional struct {
		Subject, Issuer string
		Bundle          rekorBundle
	}
}

// rekorBundle is the proof of logging that cosign 2 keeps beside a signature.
type rekorBundle struct {
	SignedEntryTimestamp []byte
	Payload              struct {
		Body           []byte `json:"body"`
		IntegratedTime int64  `json:"integratedTime"`
		LogIndex       int    `json:"logIndex"`
		LogID          string `json:"logID"`
	}
}

// verify verifies an image and returns the signatures that it found.
func (u *user) verify(image string, who ...string) []signature {
	u.t.Helper()
	r := u.Run("cosign2", args("verify", "--rekor-url", u.server.URL, who, image)...)
	for _, want := range []string{
		"The cosign claims were validated",
		"Existence of the claims in the transparency log was verified offline",
	} {
		if !strings.Contains(r.Stderr, want) {
			u.t.Errorf("cosign2 verify does not print %q\n%s", want, r.Stderr)
		}
	}
	var found []signature
	if err := json.Unmarshal([]byte(r.Stdout), &found); err != nil || len(found) == 0 {
		u.t.Fatalf("cosign2 verify prints no list of signatures: %v\n%s", err, r.Output())
	}
	return found
}

func signImage(t *testing.T, server *harness.Server) {
	u, _, image := imageUser(t, server, "heidi@example.com")
	index := u.sign(image)
	found := u.verify(image, u.identity()...)
	if len(found) != 1 {
		t.Fatalf("%d signatures, want 1", len(found))
	}
	s := found[0]
	if !strings.HasSuffix(image, s.Critical.Image.Digest) || s.Optional.Subject != u.email ||
		s.Optional.Issuer != server.URL+"/oidc" || s.Optional.Bundle.Payload.LogIndex != index {
		t.Errorf("cosign2 verify lists %+v, want image %s, subject %s and log index %d", s, image, u.email, index)
	}
	for _, other := range [][]string{
		{"--certificate-identity", "mallory@example.com", "--certificate-oidc-issuer", server.URL + "/oidc"},
		{"--certificate-identity", u.email, "--certificate-oidc-issuer", "https://accounts.example.com"},
	} {
		u.Refuse(wrongIdentity, "cosign2", args("verify", "--rekor-url", server.URL, other, image)...)
	}
}

// signImageWithReferrers signs an image in the format of cosign 3.
func signImageWithReferrers(t *testing.T, server *harness.Server) {
	u := newUser(t, server, "ivan@example.com")
	u.initialize("cosign3")
	image := startRegistry(t, u.Client).push("app")
	u.Refuse("no signatures found", "cosign3", args("verify", u.identity(), image)...)
	u.Run("cosign3", "sign", "--yes", "--identity-token", u.token(), image)
	u.Run("cosign3", args("verify", u.identity(), image)...)
	u.Refuse(wrongIdentityInBundle, "cosign3", "verify", "--certificate-identity", "mallory@example.com",
		"--certificate-oidc-issuer", server.URL+"/oidc", image)

	u.Write("predicate.json", []byte(predicate))
	u.Run("cosign3", "attest", "--yes", "--identity-token", u.token(), "--type", "spdxjson", "--predicate", "predicate.json", image)
	u.Run("cosign3", args("verify-attestation", "--type", "spdxjson", u.identity(), image)...)
}

func signWithAnnotations(t *testing.T, server *harness.Server) {
	u, _, image := imageUser(t, server, "judy@example.com")
	u.sign(image, "-a", "build=7", "-a", "stage=test")
	u.verify(image, args(u.identity(), "-a", "build=7")...)
	u.verify(image, args(u.identity(), "-a", "build=7", "-a", "stage=test")...)
	u.Refuse("", "cosign2", args("verify", "--rekor-url", server.URL, u.identity(), "-a", "build=8", image)...)
}

// signTwice has two people and a key sign one image.
func signTwice(t *testing.T, server *harness.Server) {
	u, r, image := imageUser(t, server, "kate@example.com")
	first := u.sign(image)
	u.email = "leo@example.com"
	second := u.sign(image)
	u.generateKey("cosign")
	third := u.signByKey("cosign", image)

	if found := u.verify(image, u.identity()...); len(found) != 1 || found[0].Optional.Bundle.Payload.LogIndex != second {
		t.Errorf("signatures of leo: %+v, want one with log index %d", found, second)
	}
	u.email = "kate@example.com"
	if found := u.verify(image, u.identity()...); len(found) != 1 || found[0].Optional.Bundle.Payload.LogIndex != first {
		t.Errorf("signatures of kate: %+v, want one with log index %d", found, first)
	}
	if found := u.verify(image, "--key", "cosign.pub"); len(found) != 1 || found[0].Optional.Bundle.Payload.LogIndex != third {
		t.Errorf("signatures of the key: %+v, want one with log index %d", found, third)
	}
	if got := len(r.signatures(image)); got != 3 {
		t.Errorf("%d signatures in the registry, want 3", got)
	}
}

// signatures returns the proofs of logging at the signatures of an image.
func (r *registry) signatures(image string) []rekorBundle {
	r.t.Helper()
	tag := strings.TrimSpace(r.client.Run("cosign2", "triangulate", image).Stdout)
	var manifest struct {
		Layers []struct {
			Annotations map[string]string
		}
	}
	if err := json.Unmarshal([]byte(r.client.Run("crane", "manifest", tag).Stdout), &manifest); err != nil {
		r.t.Fatal(err)
	}
	var bundles []rekorBundle
	for _, layer := range manifest.Layers {
		var bundle rekorBundle
		if err := json.Unmarshal([]byte(layer.Annotations["dev.sigstore.cosign/bundle"]), &bundle); err != nil {
			r.t.Fatalf("annotation dev.sigstore.cosign/bundle: %v", err)
		}
		bundles = append(bundles, bundle)
	}
	return bundles
}

// counterSign signs the signature of an image.
func counterSign(t *testing.T, server *harness.Server) {
	u, r, image := imageUser(t, server, "mia@example.com")
	u.sign(image)
	tag := strings.TrimSpace(u.Run("cosign2", "triangulate", image).Stdout)
	digest := image[strings.LastIndex(image, "@")+1:]
	if want := r.host + "/demo/app:" + strings.Replace(digest, ":", "-", 1) + ".sig"; tag != want {
		t.Fatalf("cosign2 triangulate = %s, want %s", tag, want)
	}
	signed := r.byDigest(tag)
	u.email = "notary@example.com"
	index := u.sign(signed)
	found := u.verify(signed, u.identity()...)
	if len(found) != 1 || found[0].Optional.Bundle.Payload.LogIndex != index {
		t.Errorf("counter-signatures: %+v, want one with log index %d", found, index)
	}
}

const predicate = `{"spdxVersion":"SPDX-2.3","SPDXID":"SPDXRef-DOCUMENT","name":"demo","dataLicense":"CC0-1.0"}`

func attest(t *testing.T, server *harness.Server) {
	attestAs(t, server, "nina@example.com", "dsse")
}

// attestInToto logs the attestation as earlier releases of cosign did.
func attestInToto(t *testing.T, server *harness.Server) {
	attestAs(t, server, "walter@example.com", "intoto", "--rekor-entry-type", "intoto")
}

func attestAs(t *testing.T, server *harness.Server, email, kind string, how ...string) {
	u, _, image := imageUser(t, server, email)
	u.Write("predicate.json", []byte(predicate))
	index := logIndex(t, u.Run("cosign2", args("attest", "--yes", u.urls(), "--identity-token", u.token(), how,
		"--type", "spdxjson", "--predicate", "predicate.json", image)...))
	r := u.Run("cosign2", args("verify-attestation", "--rekor-url", server.URL, "--type", "spdxjson", u.identity(), image)...)
	var envelope struct{ Payload []byte }
	if err := json.Unmarshal([]byte(r.Stdout), &envelope); err != nil || !bytes.Contains(envelope.Payload, []byte("SPDXRef-DOCUMENT")) {
		t.Errorf("cosign2 verify-attestation prints no envelope with the predicate: %v\n%s", err, r.Output())
	}
	u.Refuse("", "cosign2", args("verify-attestation", "--rekor-url", server.URL, "--type", "cyclonedx", u.identity(), image)...)
	u.Refuse(wrongIdentity, "cosign2", "verify-attestation", "--rekor-url", server.URL, "--type", "spdxjson",
		"--certificate-identity", "mallory@example.com", "--certificate-oidc-issuer", server.URL+"/oidc", image)

	_, entry := entryAt(t, server, index)
	if !bytes.Contains(entry.Body, []byte(`"kind":"`+kind+`"`)) {
		t.Errorf("the attestation is logged as %s, want kind %s", entry.Body, kind)
	}
	if kept := bytes.Equal(entry.Attestation.Data, envelope.Payload); kept != (kind == "intoto") || !kept && entry.Attestation.Data != nil {
		t.Errorf("the log shows the attestation %q beside an entry of kind %s", entry.Attestation.Data, kind)
	}
}

// signSBOM attaches an SBOM to an image and signs it.
func signSBOM(t *testing.T, server *harness.Server) {
	u, r, image := imageUser(t, server, "emil@example.com")
	u.Write("sbom.json", []byte(predicate))
	u.Run("cosign2", "attach", "sbom", "--sbom", "sbom.json", "--type", "spdx", "--input-format", "json", image)
	tag := strings.TrimSpace(u.Run("cosign2", "triangulate", "--type", "sbom", image).Stdout)
	sbom := r.byDigest(tag)
	index := u.sign(sbom)
	if found := u.verify(sbom, u.identity()...); len(found) != 1 || found[0].Optional.Bundle.Payload.LogIndex != index {
		t.Errorf("signatures of the SBOM: %+v, want one with log index %d", found, index)
	}
}

// generateKey makes NAME.key and NAME.pub.
func (u *user) generateKey(name string) {
	u.t.Helper()
	u.Setenv("COSIGN_PASSWORD", "a password of the test")
	u.Run("cosign2", "generate-key-pair", "--output-key-prefix", name)
}

func (u *user) signByKey(name, image string) int {
	u.t.Helper()
	return logIndex(u.t, u.Run("cosign2", "sign", "--yes", "--rekor-url", u.server.URL, "--key", name+".key", image))
}

// signWithKey signs with a key pair and compares the annotation at the signature
// with the entry in the log.
func signWithKey(t *testing.T, server *harness.Server) {
	u, r, image := imageUser(t, server, "")
	u.generateKey("cosign")
	index := u.signByKey("cosign", image)
	u.verify(image, "--key", "cosign.pub")

	u.generateKey("other")
	u.Refuse("", "cosign2", "verify", "--rekor-url", server.URL, "--key", "other.pub", image)

	bundles := r.signatures(image)
	if len(bundles) != 1 {
		t.Fatalf("%d signatures in the registry, want 1", len(bundles))
	}
	payload := bundles[0].Payload
	var entry struct {
		Body           json.RawMessage
		LogIndex       int
		IntegratedTime int64
		UUID, LogID    string
	}
	out := u.Run("rekor-cli", "--rekor_server", server.URL, "get", "--log-index", strconv.Itoa(index), "--format", "json").Stdout
	if err := json.Unmarshal([]byte(out), &entry); err != nil {
		t.Fatal(err)
	}
	if payload.LogIndex != index || entry.LogIndex != index || payload.IntegratedTime != entry.IntegratedTime ||
		payload.LogID != entry.LogID || len(bundles[0].SignedEntryTimestamp) == 0 {
		t.Errorf("annotation %+v, rekor-cli get %s, want log index %d in both", payload, out, index)
	}
	// rekor-cli prints the spec under the name of the kind.
	var logged struct {
		Kind string
		Spec json.RawMessage
	}
	if err := json.Unmarshal(payload.Body, &logged); err != nil {
		t.Fatal(err)
	}
	var shown map[string]json.RawMessage
	if err := json.Unmarshal(entry.Body, &shown); err != nil {
		t.Fatal(err)
	}
	if logged.Kind != "hashedrekord" || !sameJSON(t, logged.Spec, shown["HashedRekordObj"]) {
		t.Errorf("annotation body %s, rekor-cli body %s", payload.Body, entry.Body)
	}
}

func sameJSON(t *testing.T, a, b []byte) bool {
	t.Helper()
	normal := func(data []byte) string {
		var value any
		if err := json.Unmarshal(data, &value); err != nil {
			t.Fatalf("%v in %q", err, data)
		}
		text, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	return normal(a) == normal(b)
}

// signBlobWithFiles is the tutorial of the time before bundles.
func signBlobWithFiles(t *testing.T, server *harness.Server) {
	u := newUser(t, server, "olga@example.com")
	u.initialize("cosign2")
	u.signBlobIntoFiles()
}

// signBlobIntoFiles signs a blob into a signature and a certificate file, and
// verifies them.
func (u *user) signBlobIntoFiles() {
	u.t.Helper()
	u.Write("blob", []byte("blob of "+u.t.Name()+"\n"))
	r := u.Run("cosign2", args("sign-blob", "--yes", u.urls(), "--identity-token", u.token(),
		"--output-signature", "blob.sig", "--output-certificate", "blob.crt.base64", "blob")...)
	logIndex(u.t, r)
	if !strings.Contains(r.Output(), "Successfully verified SCT") {
		u.t.Errorf("cosign2 sign-blob does not print \"Successfully verified SCT\"\n%s", r.Output())
	}
	text := unbase64(u.t, string(u.Read("blob.crt.base64")))
	if block, _ := pem.Decode(text); block == nil || block.Type != "CERTIFICATE" {
		u.t.Errorf("--output-certificate wrote no base64 of a PEM certificate")
	}
	u.Run("cosign2", args("verify-blob", "--rekor-url", u.server.URL,
		"--certificate", "blob.crt.base64", "--signature", "blob.sig", u.identity(), "blob")...)
}

// trustFromFiles verifies with the SIGSTORE_* files instead of TUF.
func trustFromFiles(t *testing.T, server *harness.Server) {
	trust := publishedTrust(t, server)
	u := newUser(t, server, "peggy@example.com")
	u.Write("fulcio.pem", append(bytes.Clone(trust.intermediate), trust.root...))
	u.Write("rekor.pub", trust.rekorKey)
	u.Write("ctfe.pub", trust.ctKey)
	u.Setenv("SIGSTORE_ROOT_FILE", u.Path("fulcio.pem"))
	u.Setenv("SIGSTORE_REKOR_PUBLIC_KEY", u.Path("rekor.pub"))
	u.Setenv("SIGSTORE_CT_LOG_PUBLIC_KEY_FILE", u.Path("ctfe.pub"))
	u.signBlobIntoFiles()

	image := startRegistry(t, u.Client).push("app")
	u.sign(image)
	u.verify(image, u.identity()...)
}

func refuseUnsigned(t *testing.T, server *harness.Server) {
	u, r, image := imageUser(t, server, "quinn@example.com")
	u.Refuse("no signatures found", "cosign2", args("verify", "--rekor-url", server.URL, u.identity(), image)...)
	// The signature of one image says nothing about another one.
	u.sign(image)
	u.Refuse("no signatures found", "cosign2", args("verify", "--rekor-url", server.URL, u.identity(), r.push("other"))...)
}
