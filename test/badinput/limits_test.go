package badinput

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sigstack/sigstack/api"
	"github.com/sigstack/sigstack/api/ctlog"
	"github.com/sigstack/sigstack/api/fulcio"
	"github.com/sigstack/sigstack/api/search"
	"github.com/sigstack/sigstack/api/writes"
	"github.com/sigstack/sigstack/ca/ext"
	"github.com/sigstack/sigstack/ca/policy"
	"github.com/sigstack/sigstack/storage/audit"
	"github.com/sigstack/sigstack/storage/bucket"
	"github.com/sigstack/sigstack/test/harness"
	"github.com/sigstack/sigstack/tlog"
	"github.com/sigstack/sigstack/tlog/ct"
	"github.com/sigstack/sigstack/tlog/entry"
	"github.com/sigstack/sigstack/tlog/entry/sigkey"
	"github.com/sigstack/sigstack/tlog/events"
	trustkeys "github.com/sigstack/sigstack/trust/keys"
)

// TestLimitsTable compares the table of limits in docs/configuration.md with
// the code: every row has its limits here, as the constants are now, and the
// other way round. What is a constant of its package alone stands here as text;
// the cases of B3, B4 and B6 meet most of them.
func TestLimitsTable(t *testing.T) {
	kib := func(n int) string { return fmt.Sprintf("%d KiB", n>>10) }
	mib := func(n int) string { return fmt.Sprintf("%d MiB", n>>20) }
	seconds := func(d time.Duration) string { return fmt.Sprintf("%d s", int(d.Seconds())) }
	count := func(n int) string {
		if n >= 10_000 {
			return fmt.Sprintf("%d,%03d", n/1000, n%1000)
		}
		return fmt.Sprint(n)
	}
	want := map[string][]string{
		"configuration file":                                                  {"1 MiB", "200,000"},
		"template over the claims of a token":                                 {fmt.Sprint(ext.MaxValue)},
		"rules of the policy; an expression":                                  {count(policy.MaxRules), count(policy.MaxExpression)},
		"cost of the policy's rules for one request":                          {"250,000", "32 levels", "403"},
		"certificates of one identity, of one issuer":                         {"policy.limits", "65,536", "429"},
		"request line and headers":                                            {kib(api.MaxHeaderBytes), seconds(api.ReadHeaderTimeout), "431"},
		"headers and body together":                                           {seconds(api.ReadTimeout)},
		"writing an answer":                                                   {seconds(api.WriteTimeout)},
		"idle connection":                                                     {seconds(api.IdleTimeout)},
		"file of `ca.blocked-keys`":                                           {"64 MiB"},
		"record of an audit row":                                              {kib(audit.MaxRecord), "12 KiB", "503"},
		"list of the transparency log's keys":                                 {"64 KiB", "100 keys"},
		"chain of the CA":                                                     {"64 KiB", "8 certificates", "100"},
		"idle connections when the process has no file descriptor left":       {"250 ms"},
		"HTTP/2 streams of one connection":                                    {count(api.MaxStreams)},
		"depth of JSON":                                                       {"10,000", "400"},
		"parameters of a URL (Rekor v1, CT log)":                              {"100", "400"},
		"members of a JSON object (search, retrieve, CT log)":                 {"100", "400"},
		"certificate request (HTTP and gRPC)":                                 {kib(fulcio.DefaultMaxBody), "413"},
		"public key, PKCS #10 request, proof in it":                           {"8 KiB", "32 KiB", "1 KiB", "400"},
		"identity token":                                                      {"16 KiB", "1024", "400"},
		"submissions from one address, entries of one identity":               {"rekor.write", "65,536", "429"},
		"file of `rekor.write.tokens-file`":                                   {kib(writes.MaxTokenFile), count(writes.MaxTokens)},
		"file of `rekor.write.client-ca`":                                     {"1 MiB"},
		"certificates of a TLS client that adds an entry":                     {count(writes.MaxChain), "403"},
		"proxies in a row that are believed":                                  {"16"},
		"submission to the transparency log, request to retrieve entries":     {"rekor.max-entry-bytes", mib(tlog.MaxBatchBytes), "413"},
		"entries in one retrieve request":                                     {"10", "422"},
		"attestation beside an entry":                                         {"rekor.attestations.max-bytes", mib(bucket.MaxAttestation)},
		"one object of the attestation bucket, written or read":               {"5 s", "16", "503"},
		"opening the attestation bucket":                                      {"20 s"},
		"search with pages":                                                   {fmt.Sprint(search.MaxLimit), "50 names", "20 parameters", "4 MiB", "10 s", "400", "504"},
		"search request":                                                      {"1 MiB", "320", "512", "413", "422"},
		"key, pgp key ring, signature in an entry":                            {kib(sigkey.MaxKeySize), kib(sigkey.MaxRingSize), kib(sigkey.MaxSignatureSize), "400"},
		"RSA key in an entry":                                                 {"1024", "8192", "4096", "400"},
		"subpackets of a signature in a pgp key ring or signature":            {"200", "400"},
		"certificates in a chain, signatures or verifiers of a DSSE envelope": {"10 each", "400"},
		"payload times keys times signatures of a DSSE envelope, for Ed25519": {"128 MiB", "400"},
		"payload type, `keyid` of an `intoto` 0.0.2 entry":                    {"1 KiB", "400"},
		"headers of a COSE message":                                           {"32 KiB", "256", "4 levels", "400"},
		"search keys of one entry":                                            {count(entry.MaxKeys), count(entry.MaxKeyLength), "400"},
		"chain submitted to the CT log":                                       {fmt.Sprint(ctlog.MaxBody), count(ct.MaxChain), kib(ct.MaxCertificate), "413", "400"},
		"`get-entries`":                                                       {count(ctlog.MaxEntries)},
		"development issuer: body or query":                                   {"64 KiB", "64 parameters", "413", "400"},
		"development issuer: pending logins":                                  {"5000"},
		"submissions that wait for the log":                                   {count(4 * tlog.MaxBatchLeaves), "503"},
		"free space on the disk of the data directory":                        {"min-free-bytes", "503"},
		"one round of the log's store":                                        {"15 s", "503"},
		"one submission, in the queue and in its round":                       {"25 s", "503"},
		"a database that does not answer":                                     {"1.25 s", "503"},
		"requests under way at SIGTERM, after `drain-delay`":                  {"10 s"},
		"the webhook of events: one request, its answer, events in it":        {seconds(events.WebhookTimeout), "64 KiB", "1 MiB", "10 minutes", "rekor.events.webhook-batch"},
		"an ACME server: one request, its answer, a failed attempt":           {"30 s", "1 MiB", "2 to 60 minutes"},
		"requests to an identity provider":                                    {"10 s", "1 MiB", "same host", "503"},
		"keys of an identity provider":                                        {"100", "32 KiB", "once a minute"},
		"one signature by a key outside of this process":                      {seconds(trustkeys.SignTimeout), count(trustkeys.MaxSigning), "503"},
		"opening a key":                                                       {seconds(trustkeys.OpenTimeout), "at start"},
		"key, passphrase or PIN file":                                         {"8 KiB", "5,000,000", "128 MiB", "at start"},
		"issuers that one pattern finds":                                      {"128", "60", "8", "503"},
	}
	text, err := os.ReadFile(filepath.Join(harness.Root(t), "docs", "configuration.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(text), "\n## Limits\n")
	if !ok {
		t.Fatal("docs/configuration.md has no section Limits")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	for line := range strings.Lines(section) {
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| what ") {
			continue
		}
		name, rest, _ := strings.Cut(strings.TrimPrefix(line, "| "), " | ")
		limits, ok := want[name]
		if !ok {
			t.Errorf("the row %q of the table is not known here", name)
		}
		for _, limit := range limits {
			if !strings.Contains(rest, limit) {
				t.Errorf("%s: the table says %q, the code %q", name, strings.TrimSpace(rest), limit)
			}
		}
		delete(want, name)
	}
	for name := range want {
		t.Errorf("the table has no row %q", name)
	}
	// The limits of bodies that B3 meets to the byte are those of the table.
	for _, r := range table {
		switch r.limit {
		case 0, fulcio.DefaultMaxBody, ctlog.MaxBody, 1 << 20, 32 << 20: // the last is the default of rekor.max-entry-bytes
		default:
			t.Errorf("%s has a limit of %d bytes, which no row of the table has", r.route, r.limit)
		}
	}
}
