package main

import (
	"cmp"
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"github.com/sigstack/sigstack/api"
	"github.com/sigstack/sigstack/api/ctlog"
	"github.com/sigstack/sigstack/api/devoidc"
	"github.com/sigstack/sigstack/api/fulcio"
	"github.com/sigstack/sigstack/api/ops"
	"github.com/sigstack/sigstack/api/rekorv1"
	"github.com/sigstack/sigstack/api/tuf"
	"github.com/sigstack/sigstack/ca"
	"github.com/sigstack/sigstack/ca/identity"
	"github.com/sigstack/sigstack/tlog"
	"github.com/sigstack/sigstack/tlog/checkpoint"
	"github.com/sigstack/sigstack/tlog/ct"
	"github.com/sigstack/sigstack/tlog/failpoint"
	"github.com/sigstack/sigstack/tlog/rekor"
	"github.com/sigstack/sigstack/trust"
)

func serveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the whole stack",
		Example: `  sigstack serve --dev                    # try it: keys and a development issuer are made
  sigstack serve --config sigstack.yaml   # production`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := loadConfig(cmd)
			if err != nil {
				return err
			}
			if !c.Dev && len(c.OIDCIssuers) == 0 {
				return errors.New("oidc-issuers: none is configured, so no certificate could be issued; name one, or use --dev for a development issuer")
			}
			return serve(cmd.Context(), &c, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	configFlags(cmd)
	return cmd
}

// A server is the wired stack. Its fields are set once, in the order of serve.
type server struct {
	config   *Config
	logger   *slog.Logger
	metrics  *prometheus.Registry
	requests *api.Metrics
	now      func() time.Time
	keys     *keyring

	storage         storage
	rekorLog, ctLog *openLog
	rekor           *rekor.Log
	ct              *ct.Log
	audit           auditLog
	issuer          *devoidc.Issuer // nil without Dev
	verifier        *identity.Verifier
	ca              *ca.CA
	fulcio          *fulcio.Service
	trust           repository

	draining atomic.Bool // SIGTERM has come

	closers []func() error // in the order of opening
}

// serve runs the stack until ctx is done, then drains it.
func serve(ctx context.Context, c *Config, stdout, stderr io.Writer) (err error) {
	s := &server{
		config:  c,
		logger:  slog.New(slog.NewJSONHandler(stderr, &slog.HandlerOptions{Level: c.LogLevel})),
		metrics: newRegistry(),
		now:     failpoint.Now, // time.Now, but in fault tests
	}
	s.requests = api.NewMetrics(s.metrics)
	defer func() { err = errors.Join(err, s.close()) }()

	public, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return fmt.Errorf("listening for clients (listen): %w", err)
	}
	defer public.Close()
	private, err := net.Listen("tcp", c.OpsListen)
	if err != nil {
		return fmt.Errorf("listening for operators (ops-listen): %w", err)
	}
	defer private.Close()
	if c.URL == "" { // as the address was written, with the port that was taken
		host, _, _ := net.SplitHostPort(c.Listen)
		_, port, _ := net.SplitHostPort(public.Addr().String())
		c.URL = "http://" + net.JoinHostPort(cmp.Or(host, "localhost"), port)
	}
	base, err := url.Parse(c.URL)
	if err != nil {
		return err
	}
	c.Operator = cmp.Or(c.Operator, base.Hostname())

	for _, step := range []func(context.Context) error{
		s.openKeys, s.openStorage, s.openRekor, s.openCT, s.openIdentity, s.openCA, s.publishTrust,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return s.run(ctx, public, private, stdout)
}

func (s *server) openKeys(ctx context.Context) (err error) {
	if err := makeDir(s.config.DataDir); err != nil {
		return err
	}
	if s.config.Dev {
		if _, err := makeKeys(s.config, s.now()); err != nil {
			return fmt.Errorf("making keys: %w", err)
		}
	}
	// The names of keys that an earlier start or "sigstack init" made, but could
	// not sync.
	if err := syncDir(filepath.Join(s.config.DataDir, "keys")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("syncing the directory of the keys: %w", err)
	}
	s.keys, err = openKeys(ctx, s.config)
	return err
}

func (s *server) openStorage(ctx context.Context) (err error) {
	if s.storage, err = openStorage(ctx, s.config, s.now, s.logger); err != nil {
		return fmt.Errorf("opening the storage: %w", err)
	}
	s.closers = append(s.closers, s.storage.close)
	return nil
}

// An openLog is a log with its store.
type openLog struct {
	*tlog.Log
	store logStore
}

// openLog opens one log in a directory of its own. The origin of its
// checkpoints may depend on the tree ID that the store has given it.
func (s *server) openLog(ctx context.Context, name string, key crypto.Signer, origin func(treeID int64) string) (*openLog, error) {
	dir := filepath.Join(s.config.DataDir, name)
	if err := makeDir(dir); err != nil {
		return nil, err
	}
	store, err := s.storage.log(ctx, name, key.Public())
	if err != nil {
		return nil, err
	}
	s.closers = append(s.closers, store.Close)
	base, err := url.Parse(s.config.URL)
	if err != nil {
		return nil, err
	}
	signer, err := checkpoint.NewSigner(origin(store.TreeID()), base.Hostname(), key)
	if err != nil {
		return nil, err
	}
	l, err := tlog.Open(ctx, store, tlog.Options{
		Signer:  signer,
		Memory:  filepath.Join(dir, "signed"),
		Now:     s.now,
		Logger:  s.logger,
		Room:    s.storage.room,
		Shared:  s.storage.shared(),
		Observe: observeLog(s.metrics, name),
	})
	if err != nil {
		return nil, err
	}
	s.closers = append(s.closers, l.Close)
	gauge(s.metrics, "sigstack_log_size", "Entries in the published tree.", name, func() float64 { return float64(l.Published().Size) })
	return &openLog{Log: l, store: store}, nil
}

// rekorOrigin is the origin of the Rekor v1 log: its clients tell checkpoints by
// this form.
func rekorOrigin(base *url.URL, treeID int64) string {
	return fmt.Sprintf("%s - %d", base.Hostname(), treeID)
}

// ctOrigin is the origin of the CT log, whose checkpoints only its second memory
// holds.
func ctOrigin(base *url.URL) string { return base.Host + "/ct" }

func (s *server) openRekor(ctx context.Context) (err error) {
	base, err := url.Parse(s.config.URL)
	if err != nil {
		return err
	}
	s.rekorLog, err = s.openLog(ctx, "rekorv1", s.keys.rekorV1, func(treeID int64) string { return rekorOrigin(base, treeID) })
	if err != nil {
		return fmt.Errorf("opening the Rekor v1 log: %w", err)
	}
	s.rekor, err = rekor.New(s.rekorLog.Log, rekor.Config{TreeID: s.rekorLog.store.TreeID(), Signer: s.keys.rekorV1, Index: s.rekorLog.store})
	return err
}

func (s *server) openCT(ctx context.Context) (err error) {
	base, err := url.Parse(s.config.URL)
	if err != nil {
		return err
	}
	s.ctLog, err = s.openLog(ctx, "ct", s.keys.ctlog, func(int64) string { return ctOrigin(base) })
	if err != nil {
		return fmt.Errorf("opening the CT log: %w", err)
	}
	root := s.keys.certs[len(s.keys.certs)-1]
	s.ct, err = ct.New(s.ctLog.Log, ct.Config{
		Signer: s.keys.ctlog,
		Roots:  func() []*x509.Certificate { return []*x509.Certificate{root} },
		Now:    s.now,
	})
	return err
}

// openIdentity wires the verifier of tokens. The development issuer is reached
// in process: its URL need not be reachable from here.
func (s *server) openIdentity(context.Context) (err error) {
	issuers := s.config.issuers()
	if s.config.Dev {
		s.issuer, err = devoidc.New(devoidc.Config{BaseURL: s.config.URL, Key: s.keys.issuer, Now: s.now, Log: s.logger})
		if err != nil {
			return err
		}
		here := inProcess{s.issuer}
		issuers = append(issuers,
			identity.Issuer{URL: s.issuer.IssuerURL(), ClientID: "sigstore", Type: "email", Transport: here},
			identity.Issuer{URL: s.issuer.GitHubIssuerURL(), ClientID: "sigstore", Type: "github-workflow", Transport: here})
	}
	s.verifier, err = identity.NewVerifier(identity.Config{Issuers: issuers}, identity.Options{Now: s.now})
	return err
}

func (s *server) openCA(context.Context) (err error) {
	s.audit, err = s.storage.audit()
	if err != nil {
		return err
	}
	s.closers = append(s.closers, s.audit.Close)
	s.ca, err = ca.New(ca.Config{Chain: s.keys.chain, CTLog: s.ct, Audit: auditor{s.audit}, Now: s.now})
	if err != nil {
		return err
	}
	s.fulcio, err = fulcio.New(fulcio.Config{CA: s.ca, Verifier: s.verifier, Status: api.Status, RequestID: api.RequestID, Panicked: s.requests.Panicked, Logger: s.logger})
	if err != nil {
		return err
	}
	s.closers = append(s.closers, func() error { s.fulcio.Close(); return nil })
	return nil
}

// publishTrust publishes what the server signs with. It comes last, and before
// anything is served: nothing is ever signed by a key that clients cannot know.
func (s *server) publishTrust(ctx context.Context) (err error) {
	s.trust, err = s.storage.repository(ctx, s.keys.tuf, trust.Options{Now: s.now, Logger: s.logger})
	if err != nil {
		return fmt.Errorf("opening the TUF repository: %w", err)
	}
	m := trust.Material{
		Operator:    s.config.Operator,
		Authorities: []trust.Authority{{URL: s.config.URL, Chain: s.keys.certs}},
		CTLogs:      []trust.Log{{URL: s.config.URL, Key: s.ct.PublicKey()}},
		RekorV1:     []trust.Log{{URL: s.config.URL, Key: s.keys.rekorV1.Public()}},
	}
	for _, i := range s.verifier.Issuers() {
		if i.Type == "email" && !i.IsPattern() { // where a person can log in
			m.OIDC = append(m.OIDC, i.URL)
		}
	}
	if err := s.trust.Publish(ctx, m); err != nil {
		return fmt.Errorf("publishing the trust root: %w", err)
	}
	for name, key := range map[string]crypto.PublicKey{
		"ca": s.keys.certs[0].PublicKey, "ctlog": s.ct.PublicKey(), "rekorv1": s.keys.rekorV1.Public(),
	} {
		if !s.trust.Contains(key) {
			return fmt.Errorf("the trust root does not hold the key %q that would sign", name)
		}
	}
	for role := range s.trust.Expiries() {
		gauge(s.metrics, "sigstack_tuf_expiry_timestamp_seconds", "When the metadata of a TUF role expires.", string(role), func() float64 {
			return float64(s.trust.Expiries()[role].Unix())
		})
	}
	return nil
}

// handler puts all protocols on one mux.
func (s *server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/", api.NotFound)
	mux.HandleFunc("GET /healthz", ops.Health)

	for _, path := range fulcio.Paths() {
		mux.Handle(path, s.fulcio.Handler())
	}
	entries := rekorv1.New(rekorv1.Config{Log: s.rekor, MaxBody: s.config.Rekor.MaxEntryBytes, Status: api.Status, Logger: s.logger})
	for _, path := range []string{"/api/v1/log", "/api/v1/log/", "/api/v1/index/retrieve", "/api/v1/index/retrieve/", "/ping"} {
		mux.Handle(path, entries)
	}
	mux.Handle("/ct/v1/", ctlog.New(ctlog.Config{Log: s.ct, Status: api.Status, Logger: s.logger}))
	tuf.Register(mux, s.trust)
	if s.issuer != nil {
		mux.Handle("/oidc/", s.issuer)
	}
	return api.Wrap(mux, s.requests, s.logger)
}

// checks are what /readyz asks.
func (s *server) checks() map[string]ops.Check {
	return map[string]ops.Check{
		"draining": func(context.Context) error {
			if s.draining.Load() {
				return errors.New("the server is about to end; send requests elsewhere")
			}
			return nil
		},
		"rekorv1": s.rekorLog.Ready,
		"ct":      s.ctLog.Ready,
		"trust": func(context.Context) error {
			for role, at := range s.trust.Expiries() {
				if !s.now().Before(at) {
					return fmt.Errorf("the TUF metadata of role %s expired at %s", role, at.UTC().Format(time.RFC3339))
				}
			}
			return nil
		},
		"ca":    s.caReady,
		"audit": s.audit.Ready,
	}
}

func (s *server) caReady(context.Context) error {
	if cert := s.keys.certs[0]; s.now().Add(ca.DefaultLifetime).After(cert.NotAfter) {
		return fmt.Errorf("the issuing certificate expires at %s", cert.NotAfter.UTC().Format(time.RFC3339))
	}
	return nil
}

// run serves until ctx is done, then says that it is not ready, then drains.
func (s *server) run(ctx context.Context, public, private net.Listener, stdout io.Writer) error {
	clients := api.NewServer(s.handler(), s.logger)
	operators := api.NewServer(ops.New(s.metrics, s.checks()), s.logger)

	background, stop := context.WithCancel(context.Background())
	defer stop()
	renewed := make(chan error, 1)
	ticker := time.NewTicker(renewInterval)
	defer ticker.Stop()
	go func() { renewed <- s.trust.Run(background, ticker.C) }()

	failed := make(chan error, 2)
	go func() { failed <- clients.Serve(api.Reclaim(public, clients)) }()
	go func() { failed <- operators.Serve(api.Reclaim(private, operators)) }()
	opsURL := "http://" + private.Addr().String()
	s.logger.Info("serving", "url", s.config.URL, "ops", opsURL, "data_dir", s.config.DataDir, "version", version())
	if s.config.Dev {
		s.logger.Warn("development issuer is on: anybody who reaches this server gets a token for any identity", "issuer", s.issuer.IssuerURL())
	}
	if err := s.banner(stdout, opsURL); err != nil {
		return err
	}

	var err error
	select {
	case <-ctx.Done():
		s.draining.Store(true)
		s.logger.Info("draining", "delay", s.config.DrainDelay.String(), "timeout", drainTimeout.String())
		delay := time.NewTimer(s.config.DrainDelay)
		defer delay.Stop()
		select {
		case <-delay.C:
		case err = <-failed:
		}
	case err = <-failed:
	}
	drain, cancel := context.WithTimeout(context.Background(), drainTimeout)
	defer cancel()
	if shutdown := errors.Join(clients.Shutdown(drain), operators.Shutdown(drain)); shutdown != nil {
		err = errors.Join(err, fmt.Errorf("requests were cut off after %v: %w", drainTimeout, shutdown))
	}
	stop()
	<-renewed
	return err
}

// banner tells a person what is served, and with Dev what to try.
func (s *server) banner(w io.Writer, opsURL string) error {
	u := s.config.URL
	fmt.Fprintf(w, `sigstack serves at %[1]s

  certificate authority   %[1]s/api/v2/trustBundle
  transparency log        %[1]s/api/v1/log
  CT log                  %[1]s/ct/v1/get-sth
  TUF repository          %[1]s/tuf/root.json
  metrics and readiness   %[2]s/metrics  %[2]s/readyz
`, u, opsURL)
	if !s.config.Dev {
		return nil
	}
	root, _ := s.trust.File("root.json")
	flags, err := rootFlags(u, root)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, `  development issuer      %[1]s/oidc  (anybody gets a token for any identity: for trying only)

Try it with cosign 3:

  cosign initialize --mirror %[1]s/tuf %[2]s
  echo hello > hello.txt
  cosign sign-blob --yes --identity-token "$(bin/sigstack token --url %[1]s)" --bundle hello.json hello.txt
  cosign verify-blob --bundle hello.json --certificate-identity dev@example.com \
    --certificate-oidc-issuer %[1]s/oidc hello.txt

More: bin/sigstack client-config cosign2|cosign3|rekor-cli --url %[1]s
`, u, flags)
	return nil
}

// close closes what was opened, the last first.
func (s *server) close() error {
	var errs []error
	for i := len(s.closers) - 1; i >= 0; i-- {
		errs = append(errs, s.closers[i]())
	}
	return errors.Join(errs...)
}
