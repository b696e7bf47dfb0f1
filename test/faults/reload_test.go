package faults

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sigstack/sigstack/test/harness"
)

// TestReload (issue 5, g) swaps the chain of the CA every second, between three
// under two roots, and the configuration with it, while certificates are issued.
// RELOAD_CERTIFICATES is how many, 1,500 unless it is set, and there are 20 swaps
// at least. Over a database two replicas issue, which take the swaps over one
// after the other, and share the trust root.
//
// Each certificate is held against the trust root as it is published when the
// client has its answer: that holds the chain, from before the certificate until
// after it has expired. At the end the checker holds all of them against the CT
// log, the audit log and the last trust root.
func TestReload(t *testing.T) { overEach(t, reload) }

func reload(t *testing.T, s storage) {
	const swaps = 20
	want := int(fromEnv(t, "RELOAD_CERTIFICATES", 1500))
	dir := t.TempDir()
	config := filepath.Join(dir, "sigstack.yaml")
	writeConfig(t, config, 0)
	first := seed(t)
	b := newBench(t, s, dir, first, harness.Options{Args: []string{"--config", config}})
	b.Restart()
	b.leaks.Keys(t, b.Dir)
	b.measure()
	r := newReloads(b)
	r.chains(dir)
	if s == mysql {
		replica := b.Replica(t)
		replica.Restart()
		r.servers = append(r.servers, replica)
		r.loads = append(r.loads, harness.NewLoad(t, replica, b.ledger, nil, first+1))
	}

	writers, stop := sync.WaitGroup{}, make(chan struct{})
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for i := range 4 {
		load := r.loads[i%len(r.loads)]
		writers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					r.certificate(load)
				}
			}
		})
	}
	n := 0
	for ; n < swaps || r.count() < want; n++ {
		<-tick.C
		if t.Failed() {
			break
		}
		r.swap(n, config)
	}
	close(stop)
	writers.Wait()
	t.Logf("%d certificates, %d swaps; by chain: %v", r.count(), n, r.byChain)
	for serial := range r.files {
		if r.byChain[serial] == 0 {
			t.Errorf("the chain with serial %s has issued nothing", serial)
		}
	}
	for _, server := range r.servers {
		if got, err := server.Metric(`sigstack_reloads_total{name="ca"}`); err != nil || int(got) < n {
			t.Errorf("%v reloads, %v; want at least %d", got, err, n)
		}
		if got, err := server.Metric(`sigstack_reload_failures_total{name="ca"}`); err != nil || got != 0 {
			t.Errorf("%v reloads failed, %v", got, err)
		}
	}
	for _, replica := range r.servers[1:] {
		replica.Stop()
	}
	if got := b.statuses(harness.KindCertificate, 0); len(got) != 1 || got[http.StatusOK] != r.count() {
		t.Errorf("answers: %v", got)
	}
	b.verify()
}

// A reloads is what TestReload swaps, and what came out.
type reloads struct {
	*bench
	servers []*harness.Server // the bench's, and its replica
	loads   []*harness.Load   // of each
	client  *harness.Client
	files   map[string]string // of the chains, by the serial number of the issuing certificate
	order   []string          // these serial numbers

	mu      sync.Mutex
	issued  int
	byChain map[string]int
	roots   map[[32]byte]map[string]validity // what a trust root says of chains, by its hash
}

// A validity is that of an authority in a trust root.
type validity struct{ start, end time.Time }

func newReloads(b *bench) *reloads {
	return &reloads{
		bench: b, servers: []*harness.Server{b.Server}, loads: []*harness.Load{b.load}, client: harness.NewClient(b.t), files: map[string]string{},
		byChain: map[string]int{}, roots: map[[32]byte]map[string]validity{},
	}
}

// chains makes two more chains: another intermediate of the server's root, and one
// of another root.
func (r *reloads) chains(dir string) {
	r.t.Helper()
	keys := filepath.Join(r.Dir, "keys")
	other := filepath.Join(dir, "other")
	r.client.Run("sigstack", "init", "--data-dir", other, "--url", "https://sigstore.example.com")
	r.client.Run("sigstack", "ca", "csr", "--data-dir", r.Dir, "--new-key", filepath.Join(keys, "ca-2.pem"), "--out", filepath.Join(dir, "2.csr"))
	r.client.Run("sigstack", "ca", "sign", "--root-key", "file:"+filepath.Join(keys, "ca-root.pem"), "--root-cert", filepath.Join(keys, "ca-chain.pem"),
		"--csr", filepath.Join(dir, "2.csr"), "--out", filepath.Join(dir, "2.pem"))
	first := filepath.Join(dir, "1.pem")
	text, err := os.ReadFile(filepath.Join(keys, "ca-chain.pem"))
	if err == nil {
		err = os.WriteFile(first, append([]byte("sigstack-key: ca.pem\n"), text...), 0o600)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	// Each file names its key, as what "ca install" keeps does.
	r.name(filepath.Join(dir, "2.pem"), "ca-2.pem")
	third := filepath.Join(other, "keys", "ca-chain.pem")
	r.name(third, "file:"+filepath.Join(other, "keys", "ca.pem"))
	for _, file := range []string{first, filepath.Join(dir, "2.pem"), third} {
		serial := hex.EncodeToString(r.parse(file)[0].SerialNumber.Bytes())
		r.files[serial], r.order = file, append(r.order, serial)
	}
}

func (r *reloads) name(file, key string) {
	r.t.Helper()
	text, err := os.ReadFile(file)
	if err == nil {
		err = os.WriteFile(file, append([]byte("sigstack-key: "+key+"\n"), text...), 0o600)
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *reloads) parse(file string) (certs []*x509.Certificate) {
	r.t.Helper()
	rest, err := os.ReadFile(file)
	for err == nil {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return certs
		}
		var cert *x509.Certificate
		cert, err = x509.ParseCertificate(block.Bytes)
		certs = append(certs, cert)
	}
	r.t.Fatal(err)
	return nil
}

// writeConfig writes a configuration whose issuers and policy differ from turn to
// turn. Each policy lets the load in, in its own way.
func writeConfig(t *testing.T, file string, turn int) {
	t.Helper()
	text := fmt.Sprintf("oidc-issuers:\n  https://login-%d.example.com: {type: email}\n", turn)
	if turn%2 == 0 {
		text += fmt.Sprintf("policy:\n  rules: [{name: turn-%d, deny: 'identity.email == \"turn-%d@example.com\"'}]\n  default: allow\n", turn, turn)
	} else {
		text += fmt.Sprintf("policy:\n  rules: [{name: turn-%d, allow: 'identity.email.endsWith(\"@example.com\")'}]\n  default: deny\n  limits: {per-issuer: {certificates: 1000000, per: 1s}}\n", turn)
	}
	next := file + ".new"
	err := os.WriteFile(next, []byte(text), 0o600)
	if err == nil {
		err = os.Rename(next, file)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// swap has the servers use another configuration and another chain, and waits
// until they do.
func (r *reloads) swap(turn int, config string) {
	r.t.Helper()
	serial := r.order[(turn+1)%len(r.order)]
	writeConfig(r.t, config, turn+1)
	for _, server := range r.servers {
		r.client.Run("sigstack", "ca", "install", "--data-dir", server.Dir, "--chain", r.files[serial])
		if err := syscall.Kill(server.PID(), syscall.SIGHUP); err != nil {
			r.t.Fatal(err)
		}
		r.swapped(server, serial, fmt.Sprintf("https://login-%d.example.com", turn+1))
	}
}

func (r *reloads) swapped(server *harness.Server, serial, issuer string) {
	r.t.Helper()
	server.Poll(time.Minute, "the chain and the configuration are swapped", func() bool {
		var bundle struct {
			Chains []struct{ Certificates []string }
		}
		var configuration struct{ Issuers []struct{ IssuerURL string } }
		if document(server, "/api/v2/trustBundle", &bundle) != nil || document(server, "/api/v2/configuration", &configuration) != nil || len(bundle.Chains) == 0 {
			return false
		}
		block, _ := pem.Decode([]byte(bundle.Chains[0].Certificates[0]))
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			r.t.Fatal(err)
		}
		return hex.EncodeToString(cert.SerialNumber.Bytes()) == serial && configuration.Issuers[0].IssuerURL == issuer
	})
}

func document(server *harness.Server, path string, to any) error {
	text, err := fetch(server, path)
	if err == nil {
		err = json.Unmarshal(text, to)
	}
	return err
}

func fetch(server *harness.Server, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, server.URL+path, nil)
	if err != nil {
		return nil, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", path, res.Status)
	}
	return text, err
}

// certificate asks for one, and holds it against the trust root as it is then.
func (r *reloads) certificate(load *harness.Load) {
	record := load.One(harness.KindCertificate)
	if record.Status != http.StatusOK || len(record.Chain) < 2 {
		r.t.Errorf("status %d, %d certificates: %s", record.Status, len(record.Chain), record.Error)
		return
	}
	trusted, err := r.trustRoot()
	if err != nil {
		r.t.Error(err)
		return
	}
	leaf, err := x509.ParseCertificate(record.Chain[0])
	if err != nil {
		r.t.Error(err)
		return
	}
	issuer, err := x509.ParseCertificate(record.Chain[1])
	if err != nil {
		r.t.Error(err)
		return
	}
	switch v, ok := trusted[string(bytes.Join(record.Chain[1:], nil))]; {
	case !ok:
		r.t.Errorf("certificate %x is of a chain that the trust root does not have", leaf.SerialNumber)
	case leaf.NotBefore.Before(v.start) || !v.end.IsZero() && leaf.NotAfter.After(v.end):
		r.t.Errorf("certificate %x is valid from %s to %s, its chain from %s to %s", leaf.SerialNumber, leaf.NotBefore, leaf.NotAfter, v.start, v.end)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.issued++
	r.byChain[hex.EncodeToString(issuer.SerialNumber.Bytes())]++
}

func (r *reloads) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.issued
}

// trustRoot returns what trusted_root.json says of each chain, as the first server
// serves it now, also for a certificate of the second.
func (r *reloads) trustRoot() (map[string]validity, error) {
	text, err := fetch(r.Server, "/tuf/targets/trusted_root.json")
	if err != nil {
		return nil, err
	}
	hash := sha256.Sum256(text)
	r.mu.Lock()
	defer r.mu.Unlock()
	if known := r.roots[hash]; known != nil {
		return known, nil
	}
	var root struct {
		CertificateAuthorities []struct {
			CertChain struct {
				Certificates []struct{ RawBytes []byte }
			}
			ValidFor struct{ Start, End time.Time }
		}
	}
	if err := json.NewDecoder(strings.NewReader(string(text))).Decode(&root); err != nil {
		return nil, err
	}
	out := map[string]validity{}
	for _, ca := range root.CertificateAuthorities {
		var der []byte
		for _, cert := range ca.CertChain.Certificates {
			der = append(der, cert.RawBytes...)
		}
		out[string(der)] = validity{ca.ValidFor.Start, ca.ValidFor.End}
	}
	r.roots[hash] = out
	return out, nil
}
