package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
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
  write: {per-ip: {entries: 60, per: 1m}, tokens-file: tokens}
trusted-proxies: [10.0.0.0/8, "2001:db8::1"]
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
policy:
  rules:
    - {name: people, issuers: [https://login.example.com], deny: identity.email.endsWith("@example.com"), message: m}
  default: deny
  limits: {per-identity: {certificates: 1, per: 1m}}
`, "dev: true\n", "{}", "a: &a [1]\nb: *a\n")
	parse := func(in []byte) (Config, error) {
		if len(in) > 2<<10 { // FuzzConfigFile reads longer ones, without viper
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
			c.Rekor.Write.PerIP.Entries < 0 || c.Rekor.Write.PerIP.Entries > 0 && c.Rekor.Write.PerIP.Per < time.Second ||
			len(c.proxies().Trusted) != len(c.TrustedProxies) || c.URL != "" && (strings.HasSuffix(c.URL, "/") || !strings.HasPrefix(c.URL, "http")) {
			t.Fatalf("accepted: %+v", c)
		}
	})
}

// A configuration file of any length, before viper: every issuer is one that the
// verifier takes, and every mistake has a line of the file.
func FuzzConfigFile(f *testing.F) {
	public, err := os.ReadFile("testdata/fulcio.yaml")
	if err != nil {
		f.Fatal(err)
	}
	seeds := fuzz.Seeds(public, []byte(`{"OIDCIssuers": {"https://login.example.com": {"IssuerURL": "https://login.example.com", "Type": "email"}},
 "MetaIssuers": {"https://*.example.com/id/*": {"Type": "github-workflow"}}, "ca": {"key-type": "p256"}}`),
		[]byte("define:\n- &a {type: email}\n- &b {<<: *a}\n- &c {<<: [*a, *b]}\noidc-issuers: {https://a.example.com: *c, b: {<<: *b, issuer-url: https://b.example.com}}\n"),
		[]byte("a: 1\n---\nb: 2\n"))
	parse := func(in []byte) (*configFile, error) {
		c := parseConfigFile("sigstack.yaml", in)
		return c, c.err()
	}
	fuzz.RunWith(f, fuzz.Options{Allow: configBudget, Slow: true}, seeds, parse, func(t *testing.T, in []byte, c *configFile, err error) {
		if (err == nil) != (len(c.mistakes) == 0) || err != nil && len(err.Error()) > 200*maxMistakes*10 {
			t.Fatalf("mistakes %v, error %v", c.mistakes, err)
		}
		lines := bytes.Count(in, []byte("\n")) + bytes.Count(in, []byte("\r")) + 2*bytes.Count(in, []byte("\xe2\x80")) + bytes.Count(in, []byte("\xc2\x85")) + 2
		for _, m := range c.mistakes {
			if m.line < 0 || m.line > lines || m.text == "" || strings.Contains(m.String(), "\n") {
				t.Fatalf("mistake %q in %d lines", m, lines)
			}
		}
		if err != nil {
			return
		}
		seen := map[string]bool{}
		for _, i := range c.issuers {
			if err := i.Check(); err != nil || seen[i.URL] {
				t.Fatalf("issuer %+v: %v", i, err)
			}
			seen[i.URL] = true
		}
	})
}

// A file of cases for "sigstack policy test": every mistake has a line of the
// file, and what is accepted can be asked about.
func FuzzCases(f *testing.F) {
	seeds := fuzz.Seeds(`define: [&dev {iss: https://login.example.com, sub: "1"}]
cases:
  - {name: a, claims: {<<: *dev, n: [1, 2.5, -3e7, true, null, {"kubernetes.io": x}], t: 2026-01-01}, now: 2026-03-04T05:06:07Z, expect: allow, rule: r}
  - {name: b, token: a.b.c, expect: deny, message: m}
`, `{"cases": [{"name": "a", "claims": {"iss": "x", "a": {"b": [9007199254740993]}}, "expect": "deny"}]}`, "cases:\n- &a {name: a, claims: {a: &b [*b]}}\n", "cases:\n-")
	parse := func(in []byte) ([]policyCase, error) { return parseCases("cases.yaml", in) }
	// Two bytes are enough for a case, with its place among the mistakes.
	budget := func(in []byte) int { return 2 * configBudget(in) }
	fuzz.RunWith(f, fuzz.Options{Allow: budget, Slow: true}, seeds, parse, func(t *testing.T, in []byte, cases []policyCase, err error) {
		if err != nil {
			var list mistakes
			if !errors.As(err, &list) || len(list) == 0 {
				t.Fatal(err)
			}
			return
		}
		for _, c := range cases {
			if c.name == "" || (c.token == "") == (c.claims == nil) || c.expect != "allow" && c.expect != "deny" || c.claims != nil && !json.Valid(c.claims) {
				t.Fatalf("accepted: %+v", c)
			}
		}
	})
}

// configBudget is what the YAML decoder makes of a file, which is the operator's
// own and read once: some 300 bytes of each byte, and for each issuer a check.
func configBudget(in []byte) int { return 400*len(in) + 1<<20 }

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
	text, named := chainFile{certs: certs}.text(), chainFile{certs: certs, key: "ca-2027.pem"}.text()
	type result struct {
		file  chainFile
		chain *ca.Chain
	}
	parse := func(in []byte) (r result, err error) {
		if len(in) > 8<<10 {
			return r, errors.New("longer than a chain")
		}
		if r.file, err = parseChainFile(in); err == nil {
			r.chain, err = ca.NewChain(r.file.certs, issuing)
		}
		return r, err
	}
	// The file is the operator's own, and an error says the names in it, which
	// crypto/x509 writes in the square of their length.
	allow := func([]byte) int { return 16 << 20 }
	fuzz.RunWith(f, fuzz.Options{Allow: allow}, fuzz.Seeds(text, named, text[:len(text)/2]), parse, func(t *testing.T, in []byte, r result, err error) {
		if err != nil {
			return
		}
		// Another self-signed root, or another order, is not to be had by damage.
		// (crypto/x509 passes over what follows the signature.)
		if !slices.EqualFunc(r.chain.Certificates(), certs, func(a, b *x509.Certificate) bool {
			return bytes.Equal(a.RawTBSCertificate, b.RawTBSCertificate)
		}) {
			t.Fatalf("%d certificates that are not the ones that were made", len(r.file.certs))
		}
		again, err := parseChainFile(r.file.text())
		if err != nil || again.key != r.file.key || chainID(again.certs) != chainID(r.file.certs) {
			t.Fatalf("read again it is %q, %v", again.key, err)
		}
		if r.file.key != "" && !goodKeyName(r.file.key) {
			t.Fatalf("key %q", r.file.key)
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

// What an ACME server says of a failure ends up in a line of the log.
func FuzzACMEProblem(f *testing.F) {
	seeds := fuzz.Seeds(`{"type":"urn:ietf:params:acme:error:rateLimited","detail":"too many failed authorizations recently","status":429}`,
		`{"status":"invalid","identifier":{"type":"dns","value":"sigstore.example.com"},"challenges":[{"type":"tls-alpn-01","status":"invalid","error":{"type":"urn:ietf:params:acme:error:connection","detail":"Connection refused","status":400}}]}`,
		`{"type":"urn:ietf:params:acme:error:badNonce","detail":"JWS has an invalid anti-replay nonce"}`)
	parse := func(in []byte) (string, error) { return parseACMEProblem(in), nil }
	fuzz.Run(f, seeds, parse, func(t *testing.T, in []byte, text string, _ error) {
		if len(text) > 510 || text != "" && (len(in) > 64<<10 || !bytes.Contains(bytes.ToLower(in), []byte("detail")) && !bytes.Contains(in, []byte(`\u`))) {
			t.Fatalf("%d bytes make %q", len(in), text)
		}
	})
}

// The CAs of client certificates: what is read is a pool of CAs.
func FuzzClientCAs(f *testing.F) {
	one := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: selfSigned(f, true).Raw})
	other := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: selfSigned(f, false).Raw})
	allow := func(in []byte) int { return 20 * len(in) } // a certificate that is parsed, its place in the pool
	fuzz.RunWith(f, fuzz.Options{Allow: allow}, fuzz.Seeds(one, append(bytes.Clone(one), one...), other), parseClientCAs, func(t *testing.T, in []byte, pool *x509.CertPool, err error) {
		if (pool == nil) != (err != nil) || err == nil && pool.Equal(x509.NewCertPool()) {
			t.Fatalf("%v, %v", pool, err)
		}
	})
}

// selfSigned makes a certificate, of a CA or not.
func selfSigned(t testing.TB, isCA bool) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "builders"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: isCA, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// The list of blocked keys: what is read is what the lines say.
func FuzzBlockedKeys(f *testing.F) {
	one, two := strings.Repeat("0a", 32), strings.Repeat("F7", 32)
	parse := func(in []byte) (map[[32]byte]string, error) {
		blocked := map[[32]byte]string{}
		return blocked, parseBlockedKeys(in, blocked)
	}
	allow := func(in []byte) int { return 40 * len(in) } // a table of small things
	fuzz.RunWith(f, fuzz.Options{Allow: allow}, fuzz.Seeds(one+"\n", "# of a device\n"+one+"  # lost\n\n"+two, ""), parse, func(t *testing.T, in []byte, blocked map[[32]byte]string, err error) {
		if err != nil {
			return
		}
		for hash := range blocked {
			if !strings.Contains(strings.ToLower(string(in)), fmt.Sprintf("%x", hash)) {
				t.Errorf("%x is not in the list", hash)
			}
		}
	})
}

// The list of the log's keys: what is read is written as it is read.
func FuzzShards(f *testing.F) {
	seeds := fuzz.Seeds("rekorv1.pem\n", "# the oldest first\na.pem # 2026\n\nawskms:///alias/b\nnext gcpkms://x/y\n", "a.pem\nnext b.pem\nc.pem\n", "importing\na.pem\nb.pem\n")
	fuzz.Run(f, seeds, parseShards, func(t *testing.T, in []byte, k shardKeys, err error) {
		if err != nil {
			return
		}
		if n := len(k.all()); n == 0 || n > maxShards+1 {
			t.Fatalf("%d keys", n)
		}
		again, err := parseShards(k.text())
		if err != nil || !slices.Equal(again.all(), k.all()) || again.next != k.next || again.importing != k.importing {
			t.Fatalf("%q is read as %q (%v)", k.text(), again.text(), err)
		}
		for _, name := range k.all() {
			if !goodKeyName(name) || !bytes.Contains(in, []byte(name)) {
				t.Fatalf("key %q", name)
			}
		}
	})
}
