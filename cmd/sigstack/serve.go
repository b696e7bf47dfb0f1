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
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"github.com/sigstack/sigstack/api"
	"github.com/sigstack/sigstack/api/ctlog"
	"github.com/sigstack/sigstack/api/devoidc"
	"github.com/sigstack/sigstack/api/fulcio"
	"github.com/sigstack/sigstack/api/ops"
	"github.com/sigstack/sigstack/api/rekorv1"
	"github.com/sigstack/sigstack/api/search"
	"github.com/sigstack/sigstack/api/tuf"
	"github.com/sigstack/sigstack/api/writes"
	"github.com/sigstack/sigstack/storage/bucket"
	"github.com/sigstack/sigstack/tlog"
	"github.com/sigstack/sigstack/tlog/checkpoint"
	"github.com/sigstack/sigstack/tlog/ct"
	"github.com/sigstack/sigstack/tlog/events"
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
			if err := c.checkIssuers(); err != nil {
				return err
			}
			source := configSource{cmd.Flags().Lookup("config").Value.String(), func() (Config, error) { return loadConfig(cmd) }}
			return serve(cmd.Context(), &c, source, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	configFlags(cmd)
	return cmd
}

// A server is the wired stack. Its fields are set once, in the order of serve.
type server struct {
	config   *Config
	first    Config // as it was read at the start
	source   configSource
	logger   *slog.Logger
	metrics  *prometheus.Registry
	requests *api.Metrics
	now      func() time.Time
	keys     *keyring

	keyMetrics *keyMetrics
	caKey      openedKey // belongs to the start, and then to the watch over the chains

	storage        storage
	ctLog          *openLog
	rekor          *rekor.Log
	shards         atomic.Pointer[openShards] // the keys of its trees
	retiredTrees   []trust.RetiredLog         // those that were frozen at the start
	bucket         *bucket.Bucket             // of attestations; nil where they are kept elsewhere
	publishedShard int                        // which of them was in use when the trust root was last published
	followers      []*events.Follower         // of the transparency log, one for each sink of events
	ct             *ct.Log
	audit          auditLog
	issuer         *devoidc.Issuer // nil without Dev
	fulcio         *fulcio.Service
	trust          repository
	tls            listenerCertificate    // nil without TLS
	acme           *acmeCertificate       // tls, where it is that of an ACME server
	decisions      *prometheus.CounterVec // of the policy

	roots   atomic.Pointer[[]*x509.Certificate] // that the CT log accepts
	inForce atomic.Pointer[issuing]
	writers atomic.Pointer[writes.Credentials] // nil where everybody may add entries
	watches []*watch
	hangup  chan os.Signal // SIGHUP

	draining atomic.Bool // SIGTERM has come

	mu      sync.Mutex
	closers closers
}

// serve runs the stack until ctx is done, then drains it.
func serve(ctx context.Context, c *Config, source configSource, stdout, stderr io.Writer) (err error) {
	s := &server{
		config:  c,
		first:   *c,
		source:  source,
		logger:  slog.New(slog.NewJSONHandler(stderr, &slog.HandlerOptions{Level: c.LogLevel})),
		metrics: newRegistry(),
		now:     failpoint.Now, // time.Now, but in fault tests
	}
	s.requests = api.NewMetrics(s.metrics)
	// From here on: a signal that comes before anything is watched must not end
	// the process.
	s.hangup = make(chan os.Signal, 1)
	signal.Notify(s.hangup, syscall.SIGHUP)
	defer signal.Stop(s.hangup)
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
		c.URL = c.scheme() + "://" + net.JoinHostPort(cmp.Or(host, "localhost"), port)
	}
	base, err := url.Parse(c.URL)
	if err != nil {
		return err
	}
	c.Operator = cmp.Or(c.Operator, base.Hostname())
	if err := s.openTLS(ctx); err != nil {
		return fmt.Errorf("the server's certificate: %w", err)
	}
	challenges, err := s.listenACME()
	if err != nil {
		return err
	}
	if challenges != nil {
		defer challenges.Close()
	}

	if err := s.open(ctx); err != nil {
		return err
	}
	return s.run(ctx, public, private, challenges, stdout)
}

// open opens everything that is behind the listeners.
func (s *server) open(ctx context.Context) error {
	for _, step := range []func(context.Context) error{
		s.openWriters, s.openKeys, s.openIssuer, s.openStorage, s.openRekor, s.openEvents, s.openCT, s.openAudit, s.openTrust, s.openCA,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
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
	s.keyMetrics = newKeyMetrics(s.metrics)
	if s.keys, err = openKeys(ctx, s.config, s.keyMetrics); err != nil {
		return err
	}
	found, err := readChains(s.config) // before anything is made that would be there for nothing
	if err != nil {
		return err
	}
	return found.open(ctx, s.config, s.openCAKey)
}

// openCAKey opens the key of the CA, or returns the one that is open already, if
// that is what the certificate is about: a session with a key store is not opened
// anew each time something else in the configuration changes.
func (s *server) openCAKey(ctx context.Context, uri string, of crypto.PublicKey) (crypto.Signer, error) {
	if s.caKey.uri == uri {
		if key, ok := of.(interface{ Equal(crypto.PublicKey) bool }); ok && key.Equal(s.caKey.Public()) {
			return s.caKey, nil
		}
	}
	signer, err := openKey(ctx, uri, s.keyMetrics.observe("ca"))
	if err == nil {
		s.caKey = openedKey{signer, uri}
	}
	return signer, err
}

// An openedKey is a key and where it lies.
type openedKey struct {
	crypto.Signer
	uri string
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
	opened := false
	defer func() {
		if !opened {
			store.Close()
		}
	}()
	base, err := url.Parse(s.config.URL)
	if err != nil {
		return nil, err
	}
	observe := observeLog(name)
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
		Observe: observe.batch,
	})
	if err != nil {
		return nil, err
	}
	opened = true
	s.mu.Lock()
	s.closers = append(s.closers, store.Close, l.Close)
	s.mu.Unlock()
	s.metrics.MustRegister(observe)
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

func (s *server) openCT(ctx context.Context) (err error) {
	base, err := url.Parse(s.config.URL)
	if err != nil {
		return err
	}
	s.ctLog, err = s.openLog(ctx, "ct", s.keys.ctlog, func(int64) string { return ctOrigin(base) })
	if err != nil {
		return fmt.Errorf("opening the CT log: %w", err)
	}
	s.roots.Store(&[]*x509.Certificate{})
	s.ct, err = ct.New(s.ctLog.Log, ct.Config{
		Signer: s.keys.ctlog,
		Roots:  func() []*x509.Certificate { return *s.roots.Load() },
		Now:    s.now,
	})
	return err
}

// openIssuer makes the development issuer.
func (s *server) openIssuer(context.Context) (err error) {
	if !s.config.Dev {
		return nil
	}
	s.issuer, err = devoidc.New(devoidc.Config{BaseURL: s.config.URL, Key: s.keys.issuer, Now: s.now, Log: s.logger})
	return err
}

func (s *server) openAudit(context.Context) (err error) {
	s.audit, err = s.storage.audit()
	if err != nil {
		return err
	}
	s.closers = append(s.closers, s.audit.Close)
	return nil
}

func (s *server) openTrust(ctx context.Context) (err error) {
	s.trust, err = s.storage.repository(ctx, s.keys.tuf, trust.Options{Now: s.now, Logger: s.logger})
	if err != nil {
		return fmt.Errorf("opening the TUF repository: %w", err)
	}
	return nil
}

// openCA publishes what the server signs with, and puts it in force. It comes
// last, and before anything is served: nothing is ever signed by a key that
// clients cannot know.
func (s *server) openCA(ctx context.Context) error {
	s.decisions = policyDecisions(s.metrics)
	w := &watch{name: "ca", now: s.now, logger: s.logger, take: s.take}
	if err := startWatch(ctx, w, s.metrics); err != nil {
		return err
	}
	s.watches = append(s.watches, w)
	s.closers = append(s.closers, func() error { s.fulcio.Close(); return nil })
	trees := &watch{name: "rekorv1", now: s.now, logger: s.logger, take: s.takeShards}
	if err := startWatch(ctx, trees, s.metrics); err != nil {
		return err
	}
	s.watches = append(s.watches, trees)
	s.metrics.MustRegister(chainMetrics{s})
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
	entries := rekorv1.New(rekorv1.Config{
		Log: s.rekor, MaxBody: s.config.Rekor.MaxEntryBytes, Operations: s.config.Rekor.Operations, Kinds: s.config.Rekor.Kinds,
		Algorithms: s.config.Rekor.Algorithms, Writes: s.writeControl(), Refused: writeRefusals(s.metrics), Status: api.Status, Logger: s.logger,
	})
	for _, path := range rekorv1.Paths() {
		mux.Handle(path, entries)
	}
	found := search.New(search.Config{Log: s.rekor, Status: api.Status, Logger: s.logger})
	for _, path := range search.Paths() {
		mux.Handle(path, found)
	}
	mux.Handle("/ct/v1/", ctlog.New(ctlog.Config{Log: s.ct, Status: api.Status, Logger: s.logger}))
	tuf.Register(mux, s.trust)
	if s.issuer != nil {
		mux.Handle("/oidc/", s.issuer)
	}
	return api.Wrap(mux, s.requests, s.config.proxies(), s.logger)
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
		"rekorv1": s.rekor.Ready,
		"ct":      s.ctLog.Ready,
		"trust": func(context.Context) error {
			for role, at := range s.trust.Expiries() {
				if !s.now().Before(at) {
					return fmt.Errorf("the TUF metadata of role %s expired at %s", role, at.UTC().Format(time.RFC3339))
				}
			}
			return nil
		},
		"ca":    func(context.Context) error { return s.inForce.Load().ca.Ready() },
		"audit": s.audit.Ready,
	}
}

// run serves until ctx is done, then says that it is not ready, then drains.
// Listener challenges is nil without tls.acme.http-listen.
func (s *server) run(ctx context.Context, public, private, challenges net.Listener, stdout io.Writer) error {
	clients := api.NewServer(s.handler(), s.logger)
	operators := api.NewServer(ops.New(s.metrics, s.checks()), s.logger)

	background, stop := context.WithCancel(context.Background())
	defer stop()
	renewed := make(chan error, 1)
	ticker := time.NewTicker(renewInterval)
	defer ticker.Stop()
	go func() { renewed <- s.trust.Run(background, ticker.C) }()

	look := time.NewTicker(lookInterval)
	defer look.Stop()
	watched := make(chan struct{})
	go func() { watchFiles(background, look.C, s.hangup, s.watches); close(watched) }()
	var following sync.WaitGroup
	for _, f := range s.followers {
		following.Go(func() { f.Run(background) })
	}
	if s.acme != nil {
		ask := time.NewTicker(lookInterval)
		defer ask.Stop()
		go s.acme.run(background, ask.C)
	}

	failed := make(chan error, 3)
	if s.tls == nil {
		go func() { failed <- clients.Serve(api.Reclaim(public, clients)) }()
	} else {
		clients.TLSConfig = s.tls.config()
		s.askForCertificates(clients.TLSConfig)
		go func() { failed <- clients.ServeTLS(api.Reclaim(public, clients), "", "") }()
	}
	if challenges != nil {
		answers := api.NewServer(s.acme.handler(s.requests, s.logger), s.logger)
		defer answers.Close()
		go func() { failed <- answers.Serve(api.Reclaim(challenges, answers)) }()
	}
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
	<-watched
	following.Wait()
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
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closers.close()
}
