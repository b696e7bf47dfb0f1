package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// command runs sigstack and returns its exit code and output.
func command(t *testing.T, args ...string) (int, string, string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	// A server that starts although it should not is stopped, and then ends well.
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	code := run(ctx, args, &stdout, &stderr)
	return code, stdout.String(), stderr.String()
}

func TestBadConfiguration(t *testing.T) {
	dir := t.TempDir()
	file := func(text string) string {
		name := filepath.Join(dir, "sigstack.yaml")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	for name, test := range map[string]struct {
		args []string
		file string
		want string
	}{
		"unknown key":               {file: "lisen: localhost:1\n", want: "lisen"},
		"unknown nested key":        {file: "ca: {colour: red}\n", want: "colour"},
		"wrong type":                {file: "dev: perhaps\n", want: "dev"},
		"not YAML":                  {file: "{", want: "cannot be read as YAML"},
		"missing file":              {args: []string{"--config", filepath.Join(dir, "none.yaml")}, want: "no such file"},
		"no issuer":                 {want: "oidc-issuers: none is configured"},
		"listen":                    {args: []string{"--dev", "--listen", "8080"}, want: "not host:port"},
		"ops-listen":                {args: []string{"--dev", "--ops-listen", "x"}, want: "ops-listen"},
		"dev on the network":        {args: []string{"--dev", "--listen", "0.0.0.0:0"}, want: "loopback only"},
		"url with path":             {args: []string{"--dev", "--url", "https://example.com/sigstore"}, want: "without path"},
		"url with slash":            {args: []string{"--dev", "--url", "https://example.com/"}, want: "without path"},
		"url scheme":                {args: []string{"--dev", "--url", "ftp://example.com"}, want: "http(s)"},
		"key type":                  {args: []string{"--dev"}, file: "ca: {key-type: rsa}\n", want: "neither p384 nor p256"},
		"log level":                 {args: []string{"--dev"}, file: "log-level: loud\n", want: "log-level"},
		"lifetime short":            {args: []string{"--dev"}, file: "ca: {lifetime: 59s}\n", want: "ca.lifetime: 59s is not whole seconds from 1m0s to 24h0m0s"},
		"lifetime long":             {args: []string{"--dev"}, file: "ca: {lifetime: 25h}\n", want: "ca.lifetime: 25h0m0s is not"},
		"lifetime odd":              {args: []string{"--dev"}, file: "ca: {lifetime: 90500ms}\n", want: "ca.lifetime: 1m30.5s is not"},
		"lifetime no unit":          {args: []string{"--dev"}, file: "ca: {lifetime: ten}\n", want: "ca.lifetime: "},
		"backdate long":             {args: []string{"--dev"}, file: "ca: {backdate: 301s}\n", want: "ca.backdate: 5m1s is not whole seconds from 0s to 5m0s"},
		"backdate negative":         {args: []string{"--dev"}, file: "ca: {backdate: -1s}\n", want: "ca.backdate: -1s is not"},
		"no blocked keys":           {args: []string{"--dev", "--data-dir", filepath.Join(dir, "blocked"), "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"}, file: "ca: {blocked-keys: /nowhere/blocked}\n", want: "ca.blocked-keys: /nowhere/blocked: "},
		"entry limit":               {args: []string{"--dev"}, file: "rekor: {max-entry-bytes: 1}\n", want: "max-entry-bytes"},
		"attestations nowhere":      {args: []string{"--dev"}, file: "rekor: {attestations: {storage: redis}}\n", want: "rekor.attestations.storage: \"redis\" is none of database, bucket, none"},
		"attestations, no bucket":   {args: []string{"--dev"}, file: "rekor: {attestations: {storage: bucket}}\n", want: "rekor.attestations.bucket: is empty; name the bucket"},
		"attestations, two places":  {args: []string{"--dev"}, file: "rekor: {attestations: {bucket: 's3://x'}}\n", want: "rekor.attestations.bucket: is given, but rekor.attestations.storage is database"},
		"attestations, other cloud": {args: []string{"--dev"}, file: "rekor: {attestations: {storage: bucket, bucket: 'ftp://x'}}\n", want: "begins with one of s3://, gs://, azblob://, file://, mem://"},
		"attestations, a password":  {args: []string{"--dev"}, file: "rekor: {attestations: {storage: bucket, bucket: 's3://a:b@x'}}\n", want: "credentials come from the environment"},
		"attestations, forgotten":   {file: "rekor: {attestations: {storage: bucket, bucket: 'mem://'}}\n", want: "is one that is empty after each start"},
		"attestations of nothing":   {args: []string{"--dev"}, file: "rekor: {attestations: {max-bytes: 0}}\n", want: "rekor.attestations.max-bytes: 0 is not between 1 and 1048576"},
		"large attestations":        {args: []string{"--dev"}, file: "rekor: {attestations: {max-bytes: 1048577}}\n", want: "rekor.attestations.max-bytes: 1048577 is not"},
		"attestations, no such directory": {args: []string{"--dev", "--data-dir", filepath.Join(dir, "attestations"), "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"},
			file: "ca: {key-type: p256}\nrekor: {attestations: {storage: bucket, bucket: 'file:///does/not/exist'}}\n", want: "opening the attestations of the Rekor v1 log: opening the bucket: "},
		"algorithm":          {args: []string{"--dev"}, file: "rekor: {algorithms: [ecdsa-sha2-256-nistp256, md5]}\n", want: `rekor.algorithms: "md5" is none of ecdsa-sha2-256-nistp256, `},
		"no entries":         {args: []string{"--dev"}, file: "rekor: {write: {per-ip: {per: 1m}}}\n", want: "rekor.write.per-ip.entries: has 0 entries; 1 to 1000000 are possible"},
		"no time":            {args: []string{"--dev"}, file: "rekor:\n  write:\n    per-identity:\n      entries: 60\n", want: "rekor.write.per-identity.per: is per 0s; 1s to 24h0m0s are possible"},
		"too much time":      {args: []string{"--dev"}, file: "rekor:\n  write:\n    per-identity:\n      entries: 60\n      per: 25h\n", want: ":5: rekor.write.per-identity.per: is per 25h0m0s"},
		"client CA, no TLS":  {args: []string{"--dev"}, file: "rekor: {write: {client-ca: ca.pem}}\n", want: "rekor.write.client-ca: is given, but there is no certificate in tls"},
		"no tokens":          {args: []string{"--dev", "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"}, file: "rekor: {write: {tokens-file: /nowhere/tokens}}\n", want: "rekor.write.tokens-file: stat /nowhere/tokens: "},
		"proxy's name":       {args: []string{"--dev"}, file: "trusted-proxies: [10.0.0.1, proxy.example.com]\n", want: `trusted-proxies: "proxy.example.com" is neither an address nor a network such as 10.0.0.0/8`},
		"every proxy":        {args: []string{"--dev"}, file: "trusted-proxies: 0.0.0.0/0\n", want: `trusted-proxies: "0.0.0.0/0" is every address`},
		"proxy of two kinds": {args: []string{"--dev"}, file: "trusted-proxies: '::ffff:10.0.0.1'\n", want: "write it as that of IPv4"},
		"proxy header":       {args: []string{"--dev"}, file: "proxy-header: X-Real-IP\n", want: `proxy-header: "X-Real-IP" is neither X-Forwarded-For nor Forwarded`},
		"events from":        {args: []string{"--dev"}, file: "rekor: {events: {from: now}}\n", want: "rekor.events.from: \"now\" is neither end nor start"},
		"events format":      {args: []string{"--dev"}, file: "rekor: {events: {format: xml}}\n", want: "rekor.events.format: \"xml\" is neither rekor nor cloudevents"},
		"events over http":   {args: []string{"--dev"}, file: "rekor: {events: {webhook: 'http://hooks.example.com'}}\n", want: "rekor.events.webhook: is http, by which"},
		"events batch":       {args: []string{"--dev"}, file: "rekor: {events: {webhook-batch: 101}}\n", want: "rekor.events.webhook-batch: 101 is not between 1 and 100"},
		"no events batch":    {args: []string{"--dev"}, file: "rekor: {events: {webhook-batch: 0}}\n", want: "rekor.events.webhook-batch: 0 is not"},
		"events token alone": {args: []string{"--dev"}, file: "rekor: {events: {webhook-token-file: t}}\n", want: "rekor.events.webhook-token-file: is given, but rekor.events.webhook is not"},
		"drain delay":        {args: []string{"--dev"}, file: "drain-delay: 6m\n", want: "drain-delay: 6m0s"},
		"storage":            {args: []string{"--dev"}, file: "storage: postgres\n", want: "neither sqlite nor mysql"},
		"no database":        {args: []string{"--dev"}, file: "storage: mysql\n", want: "mysql.dsn-file: is empty"},
		"unused database":    {args: []string{"--dev"}, file: "mysql: {dsn-file: dsn}\n", want: "but storage is sqlite"},
		"TLS without a key":  {args: []string{"--dev"}, file: "tls: {cert: a.pem}\n", want: "tls.key: is empty"},
		"TLS without a cert": {args: []string{"--dev"}, file: "tls: {key: a.key}\n", want: "tls.cert: is empty"},
		"http with TLS":      {args: []string{"--dev"}, file: "url: http://localhost:1\ntls: {cert: a.pem, key: a.key}\n", want: "url: is http, but"},
		"no certificate":     {args: []string{"--dev", "--listen", "localhost:0", "--ops-listen", "localhost:0"}, file: "tls: {cert: /does/not/exist, key: a.key}\n", want: "the server's certificate: tls.cert: "},
		"unknown flag":       {args: []string{"--verbose"}, want: "unknown flag"},
		"argument":           {args: []string{"now"}, want: "unknown command"},
	} {
		t.Run(name, func(t *testing.T) {
			args := append([]string{"serve", "--data-dir", filepath.Join(dir, "data")}, test.args...)
			if test.file != "" {
				args = append(args, "--config", file(test.file))
			}
			code, _, stderr := command(t, args...)
			if code != exitError || !strings.Contains(stderr, test.want) {
				t.Fatalf("exit code %d, %q; want %d and %q", code, stderr, exitError, test.want)
			}
			if _, err := os.Stat(filepath.Join(dir, "data")); err == nil {
				t.Fatal("a data directory was made")
			}
		})
	}
}

// TestSecretFile reads the DSN from files of every sort. None of them gets into
// an error.
func TestSecretFile(t *testing.T) {
	dir := t.TempDir()
	for name, test := range map[string]struct {
		text string
		mode os.FileMode
		want string
	}{
		"others can read it": {"hunter2", 0o644, "0600"},
		"group can write it": {"hunter2", 0o620, "0600"},
		"empty":              {"\n", 0o600, "is empty"},
		"long":               {strings.Repeat("hunter2", 1000), 0o600, "at most 4096"},
		"a newline":          {"hunter2\r\n", 0o400, ""},
		"no newline":         {"hunter2", 0o600, ""},
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(test.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, test.mode); err != nil {
			t.Fatal(err)
		}
		got, err := readSecret(path)
		switch {
		case test.want == "":
			if got != "hunter2" || err != nil {
				t.Errorf("%s: %q, %v", name, got, err)
			}
		case err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "hunter2"):
			t.Errorf("%s: %v, want %q and no secret", name, err, test.want)
		}
	}
	if _, err := readSecret(dir); err == nil {
		t.Error("a directory is a secret")
	}
	if _, err := readSecret(filepath.Join(dir, "none")); err == nil {
		t.Error("a missing file is a secret")
	}
}

func TestProductionWantsKeys(t *testing.T) {
	config := filepath.Join(t.TempDir(), "sigstack.yaml")
	text := "oidc-issuers: {login: {issuer-url: https://login.example.com, type: email}}\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"--config", config, "--data-dir", filepath.Join(t.TempDir(), "data"), "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0", "--url", "https://sigstore.example.com"}
	code, _, stderr := command(t, append([]string{"serve"}, args...)...)
	if code != exitError || !strings.Contains(stderr, "sigstack init") {
		t.Fatalf("serve without keys: exit code %d, %q", code, stderr)
	}
	code, stdout, stderr := command(t, append([]string{"init"}, args...)...)
	if code != exitOK || !strings.Contains(stdout, "ca-chain.pem") {
		t.Fatalf("init: exit code %d, %q, %q", code, stdout, stderr)
	}
	for _, name := range strings.Fields(stdout) {
		info, err := os.Stat(name)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	if code, stdout, stderr = command(t, append([]string{"init"}, args...)...); code != exitOK || stdout != "" {
		t.Fatalf("init again: exit code %d, made %q, %q", code, stdout, stderr)
	}
}

// TestReady asks a server that is ready, one that is not, and none, at addresses
// as ops-listen has them.
func TestReady(t *testing.T) {
	status, asked := http.StatusOK, ""
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.URL.Path
		w.WriteHeader(status)
		fmt.Fprint(w, "the checks")
	}))
	defer server.Close()
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"127.0.0.1", "0.0.0.0", "localhost", ""} {
		listen := net.JoinHostPort(host, port)
		if code, stdout, stderr := command(t, "ready", "--ops-listen", listen); code != exitOK || stdout != "ready\n" || asked != "/readyz" {
			t.Errorf("%s: exit code %d, %q, %q; asked for %q", listen, code, stdout, stderr, asked)
		}
	}
	address := server.Listener.Addr().String()
	status = http.StatusServiceUnavailable
	if code, stdout, _ := command(t, "ready", "--ops-listen", address); code != exitFindings || !strings.Contains(stdout, "503") || !strings.Contains(stdout, "the checks") {
		t.Errorf("a server that is not ready: exit code %d, %q", code, stdout)
	}
	server.Close()
	if code, stdout, _ := command(t, "ready", "--ops-listen", address); code != exitFindings || !strings.Contains(stdout, "refused") {
		t.Errorf("no server: exit code %d, %q", code, stdout)
	}
	if code, _, stderr := command(t, "ready", "--ops-listen", "nowhere"); code != exitError || !strings.Contains(stderr, "ops-listen") {
		t.Errorf("no address: exit code %d, %q", code, stderr)
	}
}

func TestExitCodes(t *testing.T) {
	for _, args := range [][]string{
		{"nonsense"},
		{"token", "--url", "http://127.0.0.1:1"},
		{"token", "--email", "a@example.com", "--github", "acme/widget"},
		{"client-config"},
		{"client-config", "telnet"},
		{"client-config", "cosign3", "--url", "example.com"},
		{"client-config", "cosign3", "--url", "http://127.0.0.1:1"},
	} {
		if code, _, stderr := command(t, args...); code != exitError || stderr == "" {
			t.Errorf("%q: exit code %d, %q", args, code, stderr)
		}
	}
	if code, stdout, _ := command(t, "version"); code != exitOK || !strings.HasPrefix(stdout, "sigstack ") {
		t.Errorf("version: exit code %d, %q", code, stdout)
	}
}
