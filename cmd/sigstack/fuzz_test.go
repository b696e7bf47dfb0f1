package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/sigstack/sigstack/ca"
	"github.com/sigstack/sigstack/test/fuzz"
)

// A configuration file: what is accepted keeps to the rules that the rest of
// the server relies on.
func FuzzConfig(f *testing.F) {
	file := filepath.Join(f.TempDir(), "sigstack.yaml")
	seeds := fuzz.Seeds(`url: https://sigstore.example.com
listen: 127.0.0.1:8080
data-dir: /var/lib/sigstack
log-level: debug
ca: {key-type: p256, organization: Example}
rekor:
  max-entry-bytes: 1048576
keys:
  ctlog: file:/etc/sigstack/ctlog.pem
oidc-issuers:
  github:
    issuer-url: https://token.actions.githubusercontent.com
    type: github-workflow
  login.example.com:
    issuer-url: https://login.example.com
    type: email
    skip-email-verification: true
`, "dev: true\n", "{}", "a: &a [1]\nb: *a\n")
	parse := func(in []byte) (Config, error) {
		if len(in) > 2<<10 { // duplicates become an error that lists all pairs of them
			return Config{}, errors.New("longer than a configuration")
		}
		if err := os.WriteFile(file, in, 0o600); err != nil {
			return Config{}, err
		}
		cmd := &cobra.Command{}
		configFlags(cmd)
		if err := cmd.Flags().Set("config", file); err != nil {
			return Config{}, err
		}
		return loadConfig(cmd)
	}
	// The file is the operator's own and read once, and what YAML and viper
	// make of it is theirs. This holds it to a constant.
	allow := func([]byte) int { return 32 << 20 }
	fuzz.RunWith(f, fuzz.Options{Allow: allow, Slow: true}, seeds, parse, func(t *testing.T, in []byte, c Config, err error) {
		if err != nil {
			return
		}
		if c.Dev && !c.DevAllowRemote && !loopback(c.Listen) || c.DataDir == "" || c.Rekor.MaxEntryBytes < 1<<10 ||
			c.URL != "" && (strings.HasSuffix(c.URL, "/") || !strings.HasPrefix(c.URL, "http")) {
			t.Fatalf("accepted: %+v", c)
		}
		if len(c.issuers()) != len(c.OIDCIssuers) {
			t.Fatal("an issuer is lost")
		}
	})
}

// The file with the CA's certificates, read and checked.
func FuzzCertificates(f *testing.F) {
	key := func() *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			f.Fatal(err)
		}
		return k
	}
	issuing := key()
	certs, err := ca.CreateHierarchy("Example", key(), issuing, time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC))
	if err != nil {
		f.Fatal(err)
	}
	var text []byte
	for _, c := range certs {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	file := filepath.Join(f.TempDir(), "ca-chain.pem")
	type result struct {
		certs []*x509.Certificate
		chain *ca.Chain
	}
	parse := func(in []byte) (r result, err error) {
		if len(in) > 8<<10 {
			return r, errors.New("longer than a chain")
		}
		if err := os.WriteFile(file, in, 0o600); err != nil {
			return r, err
		}
		if r.certs, err = readCertificates(file); err == nil {
			r.chain, err = ca.NewChain(r.certs, issuing)
		}
		return r, err
	}
	// The file is the operator's own, and an error says the names in it, which
	// crypto/x509 writes in the square of their length.
	allow := func([]byte) int { return 16 << 20 }
	fuzz.RunWith(f, fuzz.Options{Allow: allow}, fuzz.Seeds(text, text[:len(text)/2]), parse, func(t *testing.T, in []byte, r result, err error) {
		if err != nil {
			return
		}
		// Another self-signed root, or another order, is not to be had by damage.
		// (crypto/x509 passes over what follows the signature.)
		if !slices.EqualFunc(r.chain.Certificates(), certs, func(a, b *x509.Certificate) bool {
			return bytes.Equal(a.RawTBSCertificate, b.RawTBSCertificate)
		}) {
			t.Fatalf("%d certificates that are not the ones that were made", len(r.certs))
		}
	})
}

// The trust root that fsck takes the keys of the logs from.
func FuzzTrustedRoot(f *testing.F) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(k.Public())
	if err != nil {
		f.Fatal(err)
	}
	instance := func(url, end string) string {
		return fmt.Sprintf(`{"baseUrl":%q,"hashAlgorithm":"SHA2_256","publicKey":{"rawBytes":%q,"keyDetails":"PKIX_ECDSA_P256_SHA_256","validFor":{"start":"2026-03-01T12:00:00Z"%s}},"logId":{"keyId":"AAAA"}}`,
			url, base64.StdEncoding.EncodeToString(spki), end)
	}
	seeds := fuzz.Seeds(`{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1","tlogs":[`+
		instance("https://old.example.com", `,"end":"2026-04-01T12:00:00Z"`)+`,`+instance("https://example.com", "")+`],"ctlogs":[`+instance("https://example.com", "")+`]}`, `{}`)
	fuzz.Run(f, seeds, logInstances, func(t *testing.T, in []byte, list []logInstance, err error) {
		if err != nil {
			return
		}
		for _, ct := range []bool{false, true} {
			if found, ok := newest(list, "https://example.com", ct); ok {
				if found == nil || !slices.ContainsFunc(list, func(i logInstance) bool { return i.ct == ct && i.same(found) && i.end.IsZero() }) {
					t.Fatalf("key %v is not of a log in use", found)
				}
			}
		}
	})
}
