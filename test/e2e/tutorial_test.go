package e2e

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sigstack/sigstack/ca/catest"
	"github.com/sigstack/sigstack/test/harness"
)

// TestJobs is what tutorials show of signing in a CI system: the job has its token
// in SIGSTORE_ID_TOKEN, signs an image and keeps the certificate; somebody reads
// that with openssl and verifies the image, and is refused where the identity, the
// issuer or the signature is another one.
func TestJobs(t *testing.T) {
	t.Parallel()
	base, issuers := startIssuers(t)
	listed := map[string]map[string]string{ // by cosign verify, beside name and issuer
		"buildkite": {},
		"github": {
			"githubWorkflowName": "release", "githubWorkflowRef": "refs/heads/main", "githubWorkflowRepository": "acme/widget",
			"githubWorkflowSha": "c0ffee02", "githubWorkflowTrigger": "push",
		},
	}
	jobs := slices.DeleteFunc(issuerCases(base), func(c issuerCase) bool { return listed[c.name] == nil })
	config := "oidc-issuers:\n"
	for _, job := range jobs {
		issuers[job.name] = catest.NewIssuer(t, base+"/"+job.name)
		config += job.entry(base)
	}
	server := harness.Start(t, "--config", harness.Config(t, config))
	for _, job := range jobs {
		t.Run(job.name, func(t *testing.T) {
			issuer := issuers[job.name]
			u, r, image := imageUser(t, server, "")
			who := []string{"--certificate-identity", job.san, "--certificate-oidc-issuer", issuer.URL}
			u.Refuse("no signatures found", "cosign2", args("verify", "--rekor-url", server.URL, who, image)...)

			u.Setenv("SIGSTORE_ID_TOKEN", issuer.Token(t, time.Now(), job.claims))
			index := logIndex(t, u.Run("cosign2", args("sign", "--yes", u.urls(), "--output-certificate", "fulcio.crt", image)...))
			digest := image[strings.LastIndex(image, "@")+1:]
			want := r.host + "/demo/app:" + strings.Replace(digest, ":", "-", 1) + ".sig"
			if tag := strings.TrimSpace(u.Run("cosign2", "triangulate", image).Stdout); tag != want || len(r.signatures(image)) != 1 {
				t.Errorf("%d signatures at %s, want one at %s", len(r.signatures(image)), tag, want)
			}
			u.readCertificate("fulcio.crt", "URI:"+job.san, issuer.URL)

			out := u.Run("cosign2", args("verify", "--rekor-url", server.URL, who, image)...)
			for _, check := range []string{
				"The cosign claims were validated",
				"Existence of the claims in the transparency log was verified offline",
				"The code-signing certificate was verified using trusted certificate authority certificates",
			} {
				if !strings.Contains(out.Stderr, check) {
					t.Errorf("cosign2 verify does not print %q\n%s", check, out.Stderr)
				}
			}
			var found []struct {
				Optional map[string]json.RawMessage
			}
			if err := json.Unmarshal([]byte(out.Stdout), &found); err != nil || len(found) != 1 {
				t.Fatalf("cosign2 verify prints no list of one signature: %v\n%s", err, out.Stdout)
			}
			members := maps.Clone(listed[job.name])
			members["Subject"], members["Issuer"] = job.san, issuer.URL
			for name, want := range members {
				var got string
				if err := json.Unmarshal(found[0].Optional[name], &got); err != nil || got != want {
					t.Errorf("cosign2 verify lists %s %s, want %q", name, found[0].Optional[name], want)
				}
			}
			var bundle rekorBundle
			if err := json.Unmarshal(found[0].Optional["Bundle"], &bundle); err != nil || bundle.Payload.LogIndex != index {
				t.Errorf("cosign2 verify lists log index %d, want %d (%v)", bundle.Payload.LogIndex, index, err)
			}

			const other = "https://ci.example.com/mallory"
			refused := wrongIdentity + ", got subjects [" + job.san + "] with issuer " + issuer.URL
			u.Refuse(refused, "cosign2", "verify", "--rekor-url", server.URL, "--certificate-identity", other, "--certificate-oidc-issuer", issuer.URL, image)
			u.Refuse(refused, "cosign2", "verify", "--rekor-url", server.URL, "--certificate-identity", job.san, "--certificate-oidc-issuer", other, image)

			// Today's format is a referrer of the image.
			image = r.push("today")
			u.initialize("cosign3")
			u.Refuse("no signatures found", "cosign3", args("verify", who, image)...)
			u.Run("cosign3", "sign", "--yes", image)
			u.Run("cosign3", args("verify", who, image)...)
			u.Refuse(wrongIdentityInBundle, "cosign3", "verify", "--certificate-identity", other, "--certificate-oidc-issuer", issuer.URL, image)
			u.Refuse(wrongIdentityInBundle, "cosign3", "verify", "--certificate-identity", job.san, "--certificate-oidc-issuer", other, image)
		})
	}
}

// signWithTwoKeys is what tutorials show of images and key pairs, in their order.
func signWithTwoKeys(t *testing.T, server *harness.Server) {
	u, r, image := imageUser(t, server, "")
	u.generateKey("cosign")
	u.generateKey("second")
	verify := func(key, image string, more ...string) []string {
		return args("verify", "--rekor-url", server.URL, "--key", key+".pub", more, image)
	}
	sign := func(key, image string, more ...string) int {
		return logIndex(t, u.Run("cosign2", args("sign", "--yes", "--rekor-url", server.URL, "--key", key+".key", more, image)...))
	}
	u.Refuse("no signatures found", "cosign2", verify("cosign", image)...)
	first := sign("cosign", image, "-a", "build=7")
	out := u.Run("cosign2", verify("cosign", image, "-a", "build=7")...)
	const byKey = "The signatures were verified against the specified public key"
	if !strings.Contains(out.Stderr, byKey) {
		t.Errorf("cosign2 verify does not print %q\n%s", byKey, out.Stderr)
	}
	u.Refuse("", "cosign2", verify("cosign", image, "-a", "build=8")...)
	u.Refuse("", "cosign2", verify("second", image)...)

	second := sign("second", image)
	bundles := r.signatures(image)
	if len(bundles) != 2 || bundles[0].Payload.LogIndex != first || bundles[1].Payload.LogIndex != second {
		t.Errorf("the registry has the signatures %+v, want two with log indices %d and %d", bundles, first, second)
	}
	for key, index := range map[string]int{"cosign": first, "second": second} {
		if found := u.verify(image, "--key", key+".pub"); len(found) != 1 || found[0].Optional.Bundle.Payload.LogIndex != index {
			t.Errorf("signatures of %s.key: %+v, want one with log index %d", key, found, index)
		}
	}

	signed := r.byDigest(strings.TrimSpace(u.Run("cosign2", "triangulate", image).Stdout))
	counter := sign("second", signed)
	if found := u.verify(signed, "--key", "second.pub"); len(found) != 1 || found[0].Optional.Bundle.Payload.LogIndex != counter {
		t.Errorf("counter-signatures: %+v, want one with log index %d", found, counter)
	}
	u.Refuse("", "cosign2", verify("cosign", signed)...)
}

// signBlobIntoFilesByKey is the tutorial of blobs and key pairs of the time before
// bundles.
func signBlobIntoFilesByKey(t *testing.T, server *harness.Server) {
	u := newUser(t, server, "")
	u.initialize("cosign2")
	u.generateKey("cosign")
	u.generateKey("other")
	u.Write("blob", []byte("blob of "+t.Name()+"\n"))
	logIndex(t, u.Run("cosign2", "sign-blob", "--yes", "--rekor-url", server.URL, "--key", "cosign.key", "--output-signature", "blob.sig", "blob"))
	verify := func(key, blob string) []string {
		return []string{"verify-blob", "--rekor-url", server.URL, "--key", key + ".pub", "--signature", "blob.sig", blob}
	}
	if out := u.Run("cosign2", verify("cosign", "blob")...).Output(); !strings.Contains(out, "Verified OK") {
		t.Errorf("cosign2 verify-blob does not print \"Verified OK\"\n%s", out)
	}
	u.Refuse("", "cosign2", verify("other", "blob")...)
	u.Write("changed", []byte("another blob\n"))
	u.Refuse("", "cosign2", verify("cosign", "changed")...)
}

// signBlobIntoFilesByBrowser is the keyless tutorial of blobs of that time.
func signBlobIntoFilesByBrowser(t *testing.T, server *harness.Server) {
	u := newUser(t, server, "ursula@example.com")
	u.initialize("cosign2")
	u.Install("xdg-open", "exit 0") // the test is the browser
	u.Write("blob", []byte("blob of "+t.Name()+"\n"))
	cosign := u.Start("cosign2", args("sign-blob", "--yes", u.urls(), "--oidc-issuer", server.URL+"/oidc", "--fulcio-auth-flow", "normal",
		"--output-certificate", "fulcio.crt.base64", "--output-signature", "fulcio.sig", "blob")...)
	page := cosign.Line(loginLimit, "URL to open", func(line string) bool {
		return strings.HasPrefix(line, server.URL) && strings.Contains(line, "code_challenge=")
	})
	logIn(t, page, u.email)
	if code := cosign.Wait(loginLimit); code != 0 {
		t.Fatalf("cosign2 sign-blob: exit code %d\n%s", code, cosign.Output())
	}
	if out := cosign.Output(); !strings.Contains(out, "Successfully verified SCT") || !strings.Contains(out, "tlog entry created with index: ") {
		t.Errorf("cosign2 sign-blob prints neither that it verified the SCT nor a log index\n%s", out)
	}
	u.Write("fulcio.crt", unbase64(t, string(u.Read("fulcio.crt.base64"))))
	u.readCertificate("fulcio.crt", "email:"+u.email, server.URL+"/oidc")
	u.Run("cosign2", args("verify-blob", "--rekor-url", server.URL, "--certificate", "fulcio.crt", "--signature", "fulcio.sig", u.identity(), "blob")...)
	u.Refuse(wrongIdentity, "cosign2", "verify-blob", "--rekor-url", server.URL, "--certificate", "fulcio.crt", "--signature", "fulcio.sig",
		"--certificate-identity", "mallory@example.com", "--certificate-oidc-issuer", server.URL+"/oidc", "blob")
}
