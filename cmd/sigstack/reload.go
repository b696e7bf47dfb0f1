package main

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sigstack/sigstack/api"
	"github.com/sigstack/sigstack/api/fulcio"
	"github.com/sigstack/sigstack/ca"
	"github.com/sigstack/sigstack/ca/identity"
	"github.com/sigstack/sigstack/ca/policy"
	"github.com/sigstack/sigstack/trust"
)

// What certificates are issued with can change while the server runs: the chains
// of the CA, and whose tokens are accepted. All of it is read and checked first.
// Then the chains are published, and only then is it put in force, so that
// nothing is ever signed by what clients cannot know. A start does the same.

// A configSource is where a configuration comes from: a file, the environment and
// flags. It is read again while the server runs.
type configSource struct {
	file string // "" where there is none
	read func() (Config, error)
}

// issuing is what certificates are issued with. It never changes.
type issuing struct {
	read     Config // as the files have it
	config   Config // what of it counts now
	chains   *chains
	verifier *identity.Verifier
	policy   *policy.Policy      // nil without one
	blocked  map[[32]byte]string // keys that get no certificate, and why
	content  digest              // of the files of config and chains, and of the list of the log's keys
	ca       *ca.CA              // once it is in force
}

// load reads and checks what the files say now. Before is what is in force, nil
// at the start; where the files hold the same, load returns it.
func (s *server) load(ctx context.Context, before *issuing) (*issuing, error) {
	var text []byte
	var err error
	if s.source.file != "" { // before it is read: what is newer is read again
		if text, err = os.ReadFile(s.source.file); err != nil {
			return nil, err
		}
	}
	next := &issuing{}
	if next.read, err = s.source.read(); err != nil {
		return nil, err
	}
	next.config = *s.config
	next.config.CA.Chain, next.config.CA.Next, next.config.CA.Retired = next.read.CA.Chain, next.read.CA.Next, next.read.CA.Retired
	next.config.Keys.CA, next.config.CA.BlockedKeys = next.read.Keys.CA, next.read.CA.BlockedKeys
	next.config.issuers, next.config.policy = next.read.issuers, next.read.policy
	if err := next.config.checkIssuers(); err != nil {
		return nil, err
	}
	if next.chains, err = readChains(&next.config); err != nil {
		return nil, err
	}
	blocked, err := readBlockedKeys(&next.config)
	if err != nil {
		return nil, err
	}
	shards := s.shards.Load()
	next.content = sum(text, next.chains.content[:], blocked, shards.content[:])
	if before != nil && before.content == next.content {
		return before, nil
	}
	if err := next.chains.open(ctx, &next.config, s.openCAKey); err != nil {
		return nil, err
	}
	if next.blocked, err = blockedKeys(&next.config, blocked, s.keys, shards.signers); err != nil {
		return nil, err
	}
	options := identity.Options{Now: s.now}
	var rules *policy.Policy
	if before != nil {
		options.Before, rules = before.verifier, before.policy
		// A chain that was replaced by hand, without keeping it in ca.retired.
		kept := append(slices.Clone(before.chains.kept), before.chains.active)
		next.chains.kept = without(kept, []chainFile{next.chains.active}, next.chains.next, next.chains.retired)
	}
	if next.policy, err = s.openPolicy(next.config.policy, rules); err != nil {
		return nil, err
	}
	next.verifier, err = identity.NewVerifier(identity.Config{Issuers: s.issuers(next.config.issuers)}, options)
	return next, err
}

// issuers adds to those of a configuration how they are reached, and the
// development issuers, which are reached in process: their URL need not be
// reachable from here.
func (s *server) issuers(configured []identity.Issuer) []identity.Issuer {
	all := slices.Clone(configured)
	for i := range all {
		all[i].Transport = clusterOf(all[i])
	}
	if s.issuer != nil {
		for _, i := range s.config.devIssuers() {
			i.Transport = inProcess{s.issuer}
			all = append(all, i)
		}
	}
	return all
}

// enforce publishes what was loaded and puts it in force. With an error, what
// was in force before still is.
func (s *server) enforce(ctx context.Context, next *issuing) (err error) {
	retired := slices.Concat(next.chains.retired, next.chains.kept)
	certs := next.chains.active.certs
	config := ca.Config{
		Chain: next.chains.issuing, CTLog: s.ct, Audit: auditor{s.audit, s.now}, Now: s.now,
		Retired:  certsOf(slices.Concat(next.chains.next, retired)),
		Trusted:  func(until time.Time) bool { return s.trust.Trusts(certs, until) },
		Lifetime: next.config.CA.Lifetime, Backdate: next.config.CA.Backdate, Blocked: next.blocked,
	}
	if next.policy != nil { // a nil *policy.Policy would be no nil Policy
		config.Policy = next.policy
	}
	if next.ca, err = ca.New(config); err != nil {
		return err
	}
	s.acceptRoots(next.chains)
	if err := s.publish(ctx, next); err != nil {
		return err
	}
	parts := fulcio.Parts{CA: next.ca, Verifier: next.verifier}
	if s.fulcio == nil {
		s.fulcio, err = fulcio.New(fulcio.Config{Parts: parts, Status: api.Status, RequestID: api.RequestID, Panicked: s.requests.Panicked, Logger: s.logger})
	} else {
		// After this line certificates are issued with it.
		err = s.fulcio.Replace(parts)
	}
	if err != nil {
		return err
	}
	s.inForce.Store(next)
	for _, f := range next.chains.kept {
		s.logger.Warn("the chain that signed before is in no file; put it into ca.retired, or the trust bundle forgets it at the next start",
			"serial", serial(f), "file", next.config.retiredDir()+"/"+chainName(f.certs))
	}
	return nil
}

// acceptRoots has the CT log accept the roots of all chains. The one that signed
// before is one of them: requests may be under way with it.
func (s *server) acceptRoots(c *chains) {
	var roots []*x509.Certificate
	for _, certs := range certsOf(slices.Concat([]chainFile{c.active}, c.next, c.retired, c.kept)) {
		root := certs[len(certs)-1]
		if !slices.ContainsFunc(roots, root.Equal) {
			roots = append(roots, root)
		}
	}
	s.roots.Store(&roots)
}

// publish makes what the server signs with what clients trust.
func (s *server) publish(ctx context.Context, i *issuing) error {
	authorities := func(files ...chainFile) (out []trust.Authority) {
		for _, certs := range certsOf(files) {
			out = append(out, trust.Authority{URL: i.config.URL, Chain: certs})
		}
		return out
	}
	m := trust.Material{
		Operator:    i.config.Operator,
		Authorities: authorities(append([]chainFile{i.chains.active}, i.chains.next...)...),
		Retired:     authorities(append(slices.Clone(i.chains.retired), i.chains.kept...)...),
		CTLogs:      []trust.Log{{URL: i.config.URL, Key: s.ct.PublicKey()}},
		RekorV1:     s.rekorLogs(i.config.URL),

		RetiredRekorV1: s.retiredTrees,
	}
	for _, issuer := range i.verifier.Issuers() {
		if issuer.Type == "email" && !issuer.IsPattern() { // where a person can log in
			m.OIDC = append(m.OIDC, issuer.URL)
		}
	}
	if err := s.trust.Publish(ctx, m); err != nil {
		return fmt.Errorf("publishing the trust root: %w", err)
	}
	signing := map[string]crypto.PublicKey{"ca": i.chains.active.certs[0].PublicKey, "ctlog": s.ct.PublicKey()}
	for n, log := range m.RekorV1 {
		signing[shardName(s.rekor.Active()+n)] = log.Key
	}
	for name, key := range signing {
		if !s.trust.Contains(key) {
			return fmt.Errorf("the trust root does not hold the key %q that would sign", name)
		}
	}
	return nil
}

// take is that of the watch over the configuration and the chains.
func (s *server) take(ctx context.Context, inForce digest) (digest, error) {
	before := s.inForce.Load()
	next, err := s.load(ctx, before)
	if err == nil && next != before {
		err = s.enforce(ctx, next)
	}
	switch {
	case err != nil && before == nil: // at the start
		return inForce, err
	case err != nil:
		return inForce, errors.Join(err, s.stayTrusted(ctx, before))
	case next == before:
		return inForce, s.stayTrusted(ctx, before)
	}
	if keys := fixed(s.first, next.read); len(keys) > 0 {
		s.logger.Warn("these settings changed in the configuration, and count from the next start on", "settings", strings.Join(keys, ", "))
	}
	s.logger.Info("certificates are issued by this chain", "serial", serial(next.chains.active), "not_after", next.chains.issuing.NotAfter().UTC(),
		"issuers", len(next.verifier.Issuers()), "next", len(next.chains.next), "retired", len(next.chains.retired))
	return next.content, nil
}

// trustAhead is how long before the end of the chain in use it is published
// anew: see stayTrusted.
const trustAhead = time.Hour

// stayTrusted publishes the chain in use anew where another replica, with another
// configuration, has retired it and its end is near. Nothing is done at once:
// while a new chain is rolled out from one replica to the next, each would undo
// what the other has done.
func (s *server) stayTrusted(ctx context.Context, i *issuing) error {
	s.trust.File("timestamp.json") // has it ask for what others have published
	if s.trust.Trusts(i.chains.active.certs, s.now().Add(i.config.CA.Lifetime+trustAhead)) {
		return nil
	}
	s.logger.Warn("the chain in use was retired by another replica, and is published anew; have all replicas use the same chain", "serial", serial(i.chains.active))
	return s.publish(ctx, i)
}

// reloadable are the settings that count while the server runs.
var reloadable = []string{"ca.chain", "ca.next", "ca.retired", "ca.blocked-keys", "keys.ca"}

// fixed names the settings that differ, and count from the next start on only.
func fixed(before, after Config) (keys []string) {
	var compare func(prefix string, a, b reflect.Value)
	compare = func(prefix string, a, b reflect.Value) {
		for i := range a.NumField() {
			tag := a.Type().Field(i).Tag.Get("mapstructure")
			key := prefix + tag
			switch {
			case tag == "" || slices.Contains(reloadable, key):
			case a.Field(i).Kind() == reflect.Struct:
				compare(key+".", a.Field(i), b.Field(i))
			case !reflect.DeepEqual(a.Field(i).Interface(), b.Field(i).Interface()):
				keys = append(keys, key)
			}
		}
	}
	compare("", reflect.ValueOf(before), reflect.ValueOf(after))
	return keys
}

// serial is the serial number of a chain's issuing certificate, as audit rows have
// that of a certificate.
func serial(f chainFile) string { return hex.EncodeToString(f.certs[0].SerialNumber.Bytes()) }

// chainMetrics shows when each chain ends.
type chainMetrics struct{ s *server }

func (chainMetrics) description() *prometheus.Desc {
	return prometheus.NewDesc("sigstack_ca_chain_expiry_timestamp_seconds",
		"When the first certificate of a chain expires, in seconds since 1970. The state is active, next or retired.", []string{"serial", "root", "state"}, nil)
}

// Describe implements prometheus.Collector.
func (m chainMetrics) Describe(to chan<- *prometheus.Desc) { to <- m.description() }

// Collect implements prometheus.Collector.
func (m chainMetrics) Collect(to chan<- prometheus.Metric) {
	c := m.s.inForce.Load().chains
	for _, group := range []struct {
		state string
		files []chainFile
	}{{"active", []chainFile{c.active}}, {"next", c.next}, {"retired", slices.Concat(c.retired, c.kept)}} {
		for _, f := range group.files {
			root := chainFile{certs: f.certs[len(f.certs)-1:]}
			to <- prometheus.MustNewConstMetric(m.description(), prometheus.GaugeValue, float64(f.notAfter().Unix()), serial(f), serial(root), group.state)
		}
	}
}

// notAfter is when the first certificate of a chain ends.
func (f chainFile) notAfter() time.Time {
	first := slices.MinFunc(f.certs, func(a, b *x509.Certificate) int { return a.NotAfter.Compare(b.NotAfter) })
	return first.NotAfter
}
