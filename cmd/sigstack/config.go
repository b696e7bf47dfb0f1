package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/go-viper/mapstructure/v2"
	"github.com/spf13/cobra"
	"github.com/spf13/viper"
	"golang.org/x/crypto/acme"

	"github.com/sigstack/sigstack/api"
	"github.com/sigstack/sigstack/api/rekorv1"
	"github.com/sigstack/sigstack/ca"
	"github.com/sigstack/sigstack/ca/identity"
	"github.com/sigstack/sigstack/ca/limit"
	"github.com/sigstack/sigstack/ca/policy"
	"github.com/sigstack/sigstack/storage/bucket"
	"github.com/sigstack/sigstack/tlog/entry"
	"github.com/sigstack/sigstack/tlog/events"
	"github.com/sigstack/sigstack/trust/keys"
)

// Config is the whole configuration of `sigstack serve` and `sigstack init`.
//
// Each key may stand in the configuration file (YAML or JSON), in the environment
// (SIGSTACK_ and the key in capitals, with underscores: SIGSTACK_DATA_DIR,
// SIGSTACK_CA_KEY_TYPE), and the first ones as flags; a flag wins over the
// environment, the environment over the file. An unknown key is an error.
type Config struct {
	// Dev adds a development OIDC issuer, which gives a token for any identity
	// to anybody who asks, and makes all keys at first start. Loopback only.
	Dev bool `mapstructure:"dev"`

	// DevAllowRemote lets Dev listen on an address that is not loopback.
	DevAllowRemote bool `mapstructure:"dev-allow-remote"`

	// Listen is the TCP address of everything that clients use. Port 0 takes a free port.
	Listen string `mapstructure:"listen"`

	// OpsListen is the TCP address of /metrics, /healthz, /readyz and profiles.
	OpsListen string `mapstructure:"ops-listen"`

	// URL is how clients reach Listen: scheme, host and port, no path. It
	// stands in the trust root and in the signing config. The default is http, or
	// https with TLS, and the address in Listen.
	URL string `mapstructure:"url"`

	// TLS is the certificate of Listen: in files, or from an ACME server. Without
	// it Listen speaks HTTP, for a proxy that ends TLS, or for trying.
	TLS TLSConfig `mapstructure:"tls"`

	// TrustedProxies are the addresses, or networks such as 10.0.0.0/8, of proxies
	// that say in ProxyHeader for whom they ask. The access log and limits for an
	// address then have that of the client. None means that nobody is believed.
	TrustedProxies []string `mapstructure:"trusted-proxies"`

	// ProxyHeader is where they say it: X-Forwarded-For or Forwarded. A proxy has
	// to write it anew, or to append to it.
	ProxyHeader string `mapstructure:"proxy-header"`

	// DataDir holds keys, logs, audit rows and the TUF repository.
	DataDir string `mapstructure:"data-dir"`

	// MinFreeBytes is how many bytes must be free on the disk of DataDir. With
	// less the logs take no entries, and /readyz says so, until there is room
	// again: what is left is for what has to be written all the same. 0
	// switches that off.
	MinFreeBytes int64 `mapstructure:"min-free-bytes"`

	// Storage is where entries, audit rows and the TUF repository are kept:
	// sqlite, in DataDir, or mysql, in a MySQL or MariaDB database that several
	// replicas share.
	Storage string `mapstructure:"storage"`

	// DrainDelay is how long the server goes on taking requests after SIGTERM
	// while /readyz already answers 503, so that whoever distributes requests
	// among replicas stops sending them here before connections are refused.
	DrainDelay time.Duration `mapstructure:"drain-delay"`

	// MySQL is the database of the storage mysql.
	MySQL MySQLConfig `mapstructure:"mysql"`

	// Operator names who runs this deployment in the trust root. The default
	// is the host in URL.
	Operator string `mapstructure:"operator"`

	// LogLevel is debug, info, warn or error. The access log is info.
	LogLevel slog.Level `mapstructure:"log-level"`

	// CA is the certificate authority.
	CA CAConfig `mapstructure:"ca"`

	// Rekor is the transparency log.
	Rekor RekorConfig `mapstructure:"rekor"`

	// Keys are the signing keys, each a URI. The default of each is a file in
	// DataDir, made by `sigstack init` or at the first start with Dev.
	Keys KeysConfig `mapstructure:"keys"`

	// issuers are the identity providers whose tokens are accepted, in the order
	// of the file. Their sections have the keys of Fulcio's configuration: oidc-issuers,
	// meta-issuers and ci-issuer-metadata. They are decoded in issuers.go.
	issuers []identity.Issuer

	// policy says who may have a certificate, of those whom the issuers vouch
	// for. Its section is decoded in policy.go.
	policy policy.Config
}

// TLSConfig names the files of a TLS certificate. They are read again when they
// change, and on SIGHUP.
type TLSConfig struct {
	// Cert is a PEM file with the server's certificate and its chain, without the root.
	Cert string `mapstructure:"cert"`
	// Key is a PEM file with its key, which only its owner can read.
	Key string `mapstructure:"key"`

	// ACME gets the certificate, instead of Cert and Key, and renews it.
	ACME ACMEConfig `mapstructure:"acme"`
}

// ACMEConfig names an ACME server (RFC 8555), such as Let's Encrypt, and what it is
// to certify. What it gives is kept in the directory acme in DataDir.
type ACMEConfig struct {
	// AcceptTerms says that you accept the terms of the server: without it nothing
	// is asked of the server.
	AcceptTerms bool `mapstructure:"accept-terms"`

	// Domains are the host names that clients use; each gets a certificate of its
	// own. The default is the host in URL, which has to be among them.
	Domains []string `mapstructure:"domains"`

	// Email is where the server writes to when something is wrong.
	Email string `mapstructure:"email"`

	// DirectoryURL is where the server's directory is.
	DirectoryURL string `mapstructure:"directory-url"`

	// CACert is a PEM file with what the server's own certificate comes from, where
	// that is not among the system's.
	CACert string `mapstructure:"ca-cert"`

	// HTTPListen is a TCP address, reached from outside at port 80, for the
	// challenge http-01. Without it there is tls-alpn-01 alone, for which Listen has
	// to be reached at port 443.
	HTTPListen string `mapstructure:"http-listen"`
}

// given says whether anything of it is configured.
func (a ACMEConfig) given() bool {
	return a.AcceptTerms || len(a.Domains) > 0 || a.Email != "" || a.CACert != "" || a.HTTPListen != "" || a.DirectoryURL != acme.LetsEncryptURL
}

// CAConfig configures the certificate authority.
type CAConfig struct {
	// Organization stands in the subject of a root and intermediate that
	// sigstack makes. The default is the operator.
	Organization string `mapstructure:"organization"`

	// KeyType of a root and intermediate that sigstack makes: p384, as the
	// public instance has them, or p256, which signs faster.
	KeyType string `mapstructure:"key-type"`

	// Chain is the PEM file with the issuing certificate first and the root
	// last. The default is ca-chain.pem beside the keys in DataDir.
	Chain string `mapstructure:"chain"`

	// Lifetime is how long a certificate is valid from when it is issued: 1m to
	// 24h, whole seconds.
	Lifetime time.Duration `mapstructure:"lifetime"`

	// Backdate is how long before that a certificate begins, for verifiers whose
	// clocks are behind: 0s to 5m, whole seconds. None begins before its issuer.
	Backdate time.Duration `mapstructure:"backdate"`

	// BlockedKeys is a file with keys that get no certificate: on each line the
	// SHA-256 of a SubjectPublicKeyInfo, in hexadecimal.
	BlockedKeys string `mapstructure:"blocked-keys"`
	// Next is the directory with the chains that are published, so that clients
	// know them, but do not sign yet: each file *.pem is one. The default is
	// ca-next beside Chain. It need not be there.
	Next string `mapstructure:"next"`

	// Retired is the directory with the chains that sign no longer, but that
	// what they signed verifies by. The default is ca-retired beside Chain.
	Retired string `mapstructure:"retired"`
}

// MySQLConfig configures the database.
type MySQLConfig struct {
	// DSNFile is a file with user:password@tcp(host:port)/database in it, which
	// only its owner can read. The database must be there; what is in it is made.
	DSNFile string `mapstructure:"dsn-file"`
}

// RekorConfig configures the transparency log.
type RekorConfig struct {
	// MaxEntryBytes bounds the body of a submission, in bytes.
	MaxEntryBytes int64 `mapstructure:"max-entry-bytes"`

	// Kinds are those whose entries may be added; none means all.
	Kinds []string `mapstructure:"enabled-kinds"`

	// Shards is a file that lists the keys of the log's trees, which "sigstack rotate
	// rekor" writes. The default is rekorv1-shards in the directory keys of DataDir.
	// Without it the log has one tree, and the key keys.rekorv1.
	Shards string `mapstructure:"shards"`

	// Operations are those that are served, by the names that Rekor gives them; none
	// means all.
	Operations []string `mapstructure:"enabled-operations"`

	// Algorithms are those that entries may be signed with; none means all.
	Algorithms []string `mapstructure:"algorithms"`

	// Write says who may add entries, and how many; without it everybody, and any number.
	Write WriteConfig `mapstructure:"write"`

	// Attestations are what entries of the kinds intoto and cose are made of.
	Attestations AttestationsConfig `mapstructure:"attestations"`

	// Events are delivered for each entry that is added.
	Events EventsConfig `mapstructure:"events"`
}

// EventsConfig says where new entries are delivered to as CloudEvents (see package
// events). Without Webhook and File they are not.
type EventsConfig struct {
	// From is where a sink begins that is new: end, with the next entry, or start,
	// with the first one of the log.
	From string `mapstructure:"from"`

	// Format is rekor, as rekor-server publishes events, or cloudevents, for
	// receivers whose library insists on the names that CloudEvents 1.0 has.
	Format string `mapstructure:"format"`

	// Webhook is the https URL that events are posted to.
	Webhook string `mapstructure:"webhook"`

	// WebhookTokenFile is a file with a bearer token for the webhook, which only its
	// owner can read. It is read for each request.
	WebhookTokenFile string `mapstructure:"webhook-token-file"`

	// WebhookBatch is how many events one request may have: with 1 each is a
	// structured CloudEvent, with more there are batches, also of one.
	WebhookBatch int `mapstructure:"webhook-batch"`

	// File is a file that events are appended to, one a line. It may be renamed at
	// any time.
	File string `mapstructure:"file"`
}

// AttestationsConfig says where attestations are kept, to be shown with their entries.
type AttestationsConfig struct {
	// Storage is database, where the entries are; bucket; or none, which neither
	// keeps nor shows them. What was kept elsewhere before stays there.
	Storage string `mapstructure:"storage"`

	// Bucket is the URL of the bucket: s3://, gs://, azblob:// with its name, or
	// file:// with a directory. Credentials come from the environment, as the tools
	// of each cloud have it.
	Bucket string `mapstructure:"bucket"`

	// MaxBytes bounds an attestation that is kept. The entry of a larger one is
	// taken without it.
	MaxBytes int `mapstructure:"max-bytes"`
}

// WriteConfig limits who adds entries to the transparency log. Where TokensFile and ClientCA are
// given either is enough.
type WriteConfig struct {
	// PerIP is how many submissions are taken from one address, those that are refused included.
	PerIP LimitConfig `mapstructure:"per-ip"`

	// PerIdentity is how many entries one signer may add: the name in a certificate, or a key.
	PerIdentity LimitConfig `mapstructure:"per-identity"`

	// TokensFile is a file with the SHA-256 of bearer tokens, as sigstack write-token prints
	// them, which only its owner can read. It is read again when it changes.
	TokensFile string `mapstructure:"tokens-file"`

	// ClientCA is a PEM file with the CAs of TLS client certificates. It is read again when it
	// changes. Needs TLS.
	ClientCA string `mapstructure:"client-ca"`
}

// LimitConfig is so many entries at once, and as many more in Per, one after the other.
type LimitConfig struct {
	Entries int           `mapstructure:"entries"`
	Per     time.Duration `mapstructure:"per"`
}

func (l LimitConfig) limit() limit.Limit { return limit.Limit{Number: l.Entries, Per: l.Per} }

// KeysConfig names the signing keys, each by a URI: file:, pkcs11:, awskms:, gcpkms:,
// azurekms:, hashivault: or tink: (see package keys, and docs/keys.md).
type KeysConfig struct {
	CA           string `mapstructure:"ca"`      // of the issuing certificate
	CTLog        string `mapstructure:"ctlog"`   // ECDSA P-256
	RekorV1      string `mapstructure:"rekorv1"` // ECDSA P-256
	TUFRoot      string `mapstructure:"tuf-root"`
	TUFTargets   string `mapstructure:"tuf-targets"`
	TUFSnapshot  string `mapstructure:"tuf-snapshot"`
	TUFTimestamp string `mapstructure:"tuf-timestamp"`
}

// defaults holds every key, so that the environment reaches each of them.
var defaults = map[string]any{
	"dev": false, "dev-allow-remote": false,
	"listen": "localhost:8080", "ops-listen": "localhost:8081", "url": "", "tls::cert": "", "tls::key": "",
	"tls::acme::accept-terms": false, "tls::acme::domains": "", "tls::acme::email": "", "tls::acme::directory-url": acme.LetsEncryptURL,
	"tls::acme::ca-cert": "", "tls::acme::http-listen": "",
	"data-dir": "./sigstack-data", "min-free-bytes": 256 << 20, "operator": "", "log-level": "info",
	"storage": "sqlite", "mysql::dsn-file": "", "drain-delay": "0s",
	"ca::organization": "", "ca::key-type": "p384", "ca::chain": "", "ca::next": "", "ca::retired": "",
	"ca::lifetime": "10m", "ca::backdate": "0s", "ca::blocked-keys": "",
	"rekor::max-entry-bytes": 32 << 20, "rekor::enabled-kinds": "", "rekor::enabled-operations": "",
	"rekor::attestations::storage": "database", "rekor::attestations::bucket": "", "rekor::attestations::max-bytes": 100 << 10,
	"rekor::algorithms": "", "rekor::write::per-ip::entries": 0, "rekor::write::per-ip::per": "0s",
	"rekor::write::per-identity::entries": 0, "rekor::write::per-identity::per": "0s",
	"rekor::write::tokens-file": "", "rekor::write::client-ca": "",
	"trusted-proxies": "", "proxy-header": api.XForwardedFor,
	"rekor::events::from": "end", "rekor::events::format": string(events.Rekor), "rekor::events::webhook": "", "rekor::events::webhook-token-file": "",
	"rekor::events::webhook-batch": 1, "rekor::events::file": "",
	"keys::ca": "", "keys::ctlog": "", "keys::rekorv1": "",
	"keys::tuf-root": "", "keys::tuf-targets": "", "keys::tuf-snapshot": "", "keys::tuf-timestamp": "",
}

// lists are the keys whose values may be a list; as a text, and in the environment,
// there are commas between the members.
var lists = []string{"tls::acme::domains", "trusted-proxies", "rekor::enabled-kinds", "rekor::enabled-operations", "rekor::algorithms"}

// configFlags declares the flags that loadConfig reads.
func configFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.String("config", "", "configuration file (YAML or JSON)")
	f.String("listen", "localhost:8080", "address of everything that clients use")
	f.String("ops-listen", "localhost:8081", "address of /metrics, /healthz, /readyz and profiles")
	f.String("url", "", "how clients reach it (default: http and the listen address)")
	f.String("data-dir", "./sigstack-data", "keys, logs and the TUF repository")
	f.Bool("dev", false, "add a development OIDC issuer and make all keys at first start")
	f.Bool("dev-allow-remote", false, "let --dev listen on an address that is not loopback")
}

// loadConfig reads the configuration once, from file, environment and flags.
func loadConfig(cmd *cobra.Command) (Config, error) {
	v := newConfig()
	v.SetEnvPrefix("SIGSTACK")
	v.SetEnvKeyReplacer(strings.NewReplacer("::", "_", "-", "_"))
	v.AutomaticEnv()
	for _, name := range []string{"listen", "ops-listen", "url", "data-dir", "dev", "dev-allow-remote"} {
		if err := v.BindPFlag(name, cmd.Flags().Lookup(name)); err != nil {
			return Config{}, err
		}
	}
	return readConfig(v, cmd.Flags().Lookup("config").Value.String())
}

// loadFile reads a configuration from a file alone.
func loadFile(file string) (Config, error) { return readConfig(newConfig(), file) }

func newConfig() *viper.Viper {
	// Issuer names contain dots: the delimiter between nested keys is another.
	v := viper.NewWithOptions(viper.KeyDelimiter("::"))
	for key, value := range defaults {
		v.SetDefault(key, value)
	}
	return v
}

// readConfig reads a file, if one is named, and what v takes from elsewhere. The
// error says every mistake, not only the first.
func readConfig(v *viper.Viper, name string) (c Config, err error) {
	f := &configFile{wrong: map[string]bool{}}
	if name != "" {
		if f, err = openConfigFile(name); err != nil {
			return Config{}, err
		}
		if err := v.MergeConfigMap(f.settings); err != nil {
			return Config{}, fmt.Errorf("configuration: %w", err)
		}
	}
	// A mistake in a setting has the line of the key, unless the value is that
	// of a flag or of the environment.
	wrong := func(key, format string, args ...any) {
		m := mistake{key: key, text: fmt.Sprintf(format, args...)}
		path := strings.ReplaceAll(key, ".", "::")
		if given, ok := f.given[key]; ok && given.value == v.GetString(path) {
			m.file, m.line = f.name, given.line
		} else if fmt.Sprint(defaults[path]) == v.GetString(path) {
			m.file = f.name
		}
		if !f.wrong[key] { // what follows from a mistake is not another one
			f.add(m)
		}
	}
	if err := v.UnmarshalExact(&c, viper.DecodeHook(mapstructure.ComposeDecodeHookFunc(
		mapstructure.TextUnmarshallerHookFunc(), mapstructure.StringToTimeDurationHookFunc(), mapstructure.StringToSliceHookFunc(",")))); err != nil {
		eachDecodeError(err, func(key string, err error) {
			wrong(key, "%v; %s is required", err, example(defaults[strings.ReplaceAll(key, ".", "::")]))
		})
	}
	c.issuers = f.issuers
	c.validate(wrong)
	c.policy = f.policy.config
	f.checkPolicy(&c)
	return c, f.err()
}

// eachDecodeError calls do with every setting that has not its type.
func eachDecodeError(err error, do func(key string, err error)) {
	if several, ok := err.(interface{ Unwrap() []error }); ok {
		for _, err := range several.Unwrap() {
			eachDecodeError(err, do)
		}
		return
	}
	if one := (*mapstructure.DecodeError)(nil); errors.As(err, &one) {
		do(one.Name(), one.Unwrap())
		return
	}
	do("", err)
}

// validate checks what can be checked without opening anything, and fills in
// what follows from something else. It calls wrong with the key of each mistake.
func (c *Config) validate(wrong func(key, format string, args ...any)) {
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		wrong("listen", "%q is not host:port", c.Listen)
	}
	if _, _, err := net.SplitHostPort(c.OpsListen); err != nil {
		wrong("ops-listen", "%q is not host:port", c.OpsListen)
	}
	if c.URL != "" {
		if err := checkBaseURL(c.URL); err != nil {
			wrong("url", "%v", err)
		}
	}
	switch {
	case c.TLS.Cert == "" && c.TLS.Key != "":
		wrong("tls.cert", "is empty, but tls.key is given; name the file with the certificate")
	case c.TLS.Cert != "" && c.TLS.Key == "":
		wrong("tls.key", "is empty, but tls.cert is given; name the file with the key")
	case c.TLS.Cert != "" && strings.HasPrefix(c.URL, "http://"):
		wrong("url", "is http, but there is a certificate in tls; clients reach it by https")
	}
	if c.TLS.ACME.given() {
		c.validateACME(wrong)
	}
	if c.DataDir == "" {
		wrong("data-dir", "is empty; name a directory")
	}
	if c.MinFreeBytes < 0 {
		wrong("min-free-bytes", "%d is negative; 0 means that the disk may run full", c.MinFreeBytes)
	}
	if c.DrainDelay < 0 || c.DrainDelay > maxDrainDelay {
		wrong("drain-delay", "%s is not between 0s and %s", c.DrainDelay, maxDrainDelay)
	}
	switch {
	case c.Storage != "sqlite" && c.Storage != "mysql":
		wrong("storage", "%q is neither sqlite nor mysql", c.Storage)
	case c.Storage == "mysql" && c.MySQL.DSNFile == "":
		wrong("mysql.dsn-file", "is empty; name the file that holds user:password@tcp(host:port)/database")
	case c.Storage == "sqlite" && c.MySQL.DSNFile != "":
		wrong("mysql.dsn-file", "is given, but storage is sqlite; say storage: mysql, or leave it away")
	}
	if c.CA.KeyType != "p384" && c.CA.KeyType != "p256" {
		wrong("ca.key-type", "%q is neither p384 nor p256", c.CA.KeyType)
	}
	for _, key := range []struct{ name, uri string }{
		{"ca", c.Keys.CA}, {"ctlog", c.Keys.CTLog}, {"rekorv1", c.Keys.RekorV1}, {"tuf-root", c.Keys.TUFRoot},
		{"tuf-targets", c.Keys.TUFTargets}, {"tuf-snapshot", c.Keys.TUFSnapshot}, {"tuf-timestamp", c.Keys.TUFTimestamp},
	} {
		if key.uri == "" {
			continue
		}
		if err := keys.Check(key.uri); err != nil {
			wrong("keys."+key.name, "%v", err)
		}
	}
	if c.CA.Lifetime < ca.MinLifetime || c.CA.Lifetime > ca.MaxLifetime || c.CA.Lifetime%time.Second != 0 {
		wrong("ca.lifetime", "%s is not whole seconds from %s to %s", c.CA.Lifetime, ca.MinLifetime, ca.MaxLifetime)
	}
	if c.CA.Backdate < 0 || c.CA.Backdate > ca.MaxBackdate || c.CA.Backdate%time.Second != 0 {
		wrong("ca.backdate", "%s is not whole seconds from 0s to %s", c.CA.Backdate, ca.MaxBackdate)
	}
	if c.Rekor.MaxEntryBytes < 1<<10 || c.Rekor.MaxEntryBytes > 1<<30 {
		wrong("rekor.max-entry-bytes", "%d is not between 1 KiB and 1 GiB", c.Rekor.MaxEntryBytes)
	}
	for _, list := range []struct {
		key    string
		chosen []string
		known  []string
	}{
		{"rekor.enabled-kinds", c.Rekor.Kinds, entry.Kinds()},
		{"rekor.enabled-operations", c.Rekor.Operations, rekorv1.Operations()},
		{"rekor.algorithms", c.Rekor.Algorithms, entry.Algorithms()},
	} {
		for i, name := range list.chosen {
			if list.chosen[i] = strings.TrimSpace(name); !slices.Contains(list.known, list.chosen[i]) {
				wrong(list.key, "%q is none of %s", name, strings.Join(list.known, ", "))
			}
		}
	}
	c.validateAttestations(wrong)
	c.validateWrite(wrong)
	c.validateEvents(wrong)
	if c.Dev && !c.DevAllowRemote && !loopback(c.Listen) {
		wrong("dev", "the development issuer gives anybody a token for any identity, so it listens on loopback only, not on %q; --dev-allow-remote overrides that", c.Listen)
	}
	if c.Operator == "" && c.URL != "" {
		if u, err := url.Parse(c.URL); err == nil {
			c.Operator = u.Hostname()
		}
	}
}

// validateAttestations is validate for what belongs to attestations.
func (c *Config) validateAttestations(wrong func(key, format string, args ...any)) {
	a := c.Rekor.Attestations
	switch {
	case !slices.Contains([]string{"database", "bucket", "none"}, a.Storage):
		wrong("rekor.attestations.storage", "%q is none of database, bucket, none", a.Storage)
	case a.Storage == "bucket" && a.Bucket == "":
		wrong("rekor.attestations.bucket", "is empty; name the bucket, such as s3://attestations")
	case a.Storage != "bucket" && a.Bucket != "":
		wrong("rekor.attestations.bucket", "is given, but rekor.attestations.storage is %s; say storage: bucket, or leave it away", a.Storage)
	case a.Storage == "bucket":
		if err := bucket.Check(a.Bucket); err != nil {
			wrong("rekor.attestations.bucket", "%v", err)
		} else if strings.HasPrefix(a.Bucket, bucket.Forgetful) && !c.Dev {
			wrong("rekor.attestations.bucket", "is one that is empty after each start; without dev name one that lasts, such as s3://attestations")
		}
	}
	if a.MaxBytes < 1 || a.MaxBytes > bucket.MaxAttestation {
		wrong("rekor.attestations.max-bytes", "%d is not between 1 and %d; with storage: none no attestations are kept", a.MaxBytes, bucket.MaxAttestation)
	}
}

// validateWrite is validate for what belongs to who may write.
func (c *Config) validateWrite(wrong func(key, format string, args ...any)) {
	for _, l := range []struct {
		key string
		of  LimitConfig
	}{{"rekor.write.per-ip", c.Rekor.Write.PerIP}, {"rekor.write.per-identity", c.Rekor.Write.PerIdentity}} {
		if text := l.of.limit().WrongNumber("entries"); text != "" {
			wrong(l.key+".entries", "%s", text)
		}
		if text := l.of.limit().WrongPer(); text != "" {
			wrong(l.key+".per", "%s", text)
		}
	}
	if c.Rekor.Write.ClientCA != "" && c.scheme() != "https" {
		wrong("rekor.write.client-ca", "is given, but there is no certificate in tls, so no client is asked for one; set tls, or have the proxy that ends TLS ask for certificates")
	}
	for i, text := range c.TrustedProxies {
		c.TrustedProxies[i] = strings.TrimSpace(text)
		if _, err := parseNetwork(c.TrustedProxies[i]); err != nil {
			wrong("trusted-proxies", "%q %v", text, err)
		}
	}
	if c.ProxyHeader != api.XForwardedFor && c.ProxyHeader != api.Forwarded {
		wrong("proxy-header", "%q is neither %s nor %s", c.ProxyHeader, api.XForwardedFor, api.Forwarded)
	}
}

// parseNetwork reads an address, or a network such as 10.0.0.0/8.
func parseNetwork(text string) (netip.Prefix, error) {
	prefix, err := netip.ParsePrefix(text)
	if addr, notAddr := netip.ParseAddr(text); notAddr == nil && addr.Zone() == "" {
		prefix, err = netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	switch {
	case err != nil:
		return prefix, errors.New("is neither an address nor a network such as 10.0.0.0/8")
	case prefix.Bits() == 0:
		return prefix, errors.New("is every address, so anybody could be anybody; name the networks of the proxies")
	case prefix.Addr().Is4In6():
		return prefix, errors.New("is an address of IPv4 in the form of IPv6; write it as that of IPv4")
	}
	return prefix, nil
}

// proxies are those of a configuration that is valid.
func (c *Config) proxies() api.Proxies {
	p := api.Proxies{Header: c.ProxyHeader}
	for _, text := range c.TrustedProxies {
		if prefix, err := parseNetwork(text); err == nil {
			p.Trusted = append(p.Trusted, prefix)
		}
	}
	return p
}

// validateEvents is validate for what belongs to events.
func (c *Config) validateEvents(wrong func(key, format string, args ...any)) {
	e := &c.Rekor.Events
	if e.From != "end" && e.From != "start" {
		wrong("rekor.events.from", "%q is neither end nor start", e.From)
	}
	if !slices.Contains(events.Formats(), e.Format) {
		wrong("rekor.events.format", "%q is neither rekor nor cloudevents", e.Format)
	}
	if e.WebhookBatch < 1 || e.WebhookBatch > events.MaxWebhookBatch {
		wrong("rekor.events.webhook-batch", "%d is not between 1 and %d", e.WebhookBatch, events.MaxWebhookBatch)
	}
	if e.Webhook == "" && e.WebhookTokenFile != "" {
		wrong("rekor.events.webhook-token-file", "is given, but rekor.events.webhook is not; name the webhook, or leave it away")
	}
	if e.Webhook != "" {
		if err := events.CheckURL(e.Webhook); err != nil { // which may hold a secret
			wrong("rekor.events.webhook", "%v", err)
		}
	}
}

// validateACME is validate for what belongs to ACME.
func (c *Config) validateACME(wrong func(key, format string, args ...any)) {
	a := &c.TLS.ACME
	if !a.AcceptTerms {
		wrong("tls.acme.accept-terms", "is false; read the terms of the ACME server and say true, or leave tls.acme away")
	}
	if c.TLS.Cert != "" {
		wrong("tls.cert", "is given, and tls.acme as well; the certificate comes from one of them")
	}
	u, err := url.Parse(c.URL)
	switch {
	case c.URL == "":
		wrong("url", "is empty; with tls.acme it says by which host clients reach the server, such as https://sigstore.example.com")
	case err == nil && u.Scheme == "http" && c.TLS.Cert == "":
		wrong("url", "is http, but tls.acme gets a certificate; clients reach it by https")
	}
	for i, domain := range a.Domains {
		a.Domains[i] = strings.ToLower(strings.TrimSpace(domain))
	}
	if err == nil && c.URL != "" {
		switch host := strings.ToLower(u.Hostname()); {
		case len(a.Domains) == 0:
			a.Domains = []string{host}
		case !slices.Contains(a.Domains, host):
			wrong("tls.acme.domains", "%q, the host in url, is not among %s; clients reach the server by it", host, strings.Join(a.Domains, ", "))
		}
	}
	for _, domain := range a.Domains {
		if !publicName(domain) {
			wrong("tls.acme.domains", "%q is no host name with a dot in it; ACME servers certify names such as sigstore.example.com", domain)
		}
	}
	if d, err := url.Parse(a.DirectoryURL); err != nil || d.Scheme != "https" || d.Host == "" {
		wrong("tls.acme.directory-url", "%q is not the https URL of an ACME server's directory", a.DirectoryURL)
	}
	if _, _, err := net.SplitHostPort(a.HTTPListen); a.HTTPListen != "" && err != nil {
		wrong("tls.acme.http-listen", "%q is not host:port", a.HTTPListen)
	}
}

// publicName says whether a text is a host name of at least two labels, and not an
// address.
func publicName(name string) bool {
	labels := strings.Split(name, ".")
	for _, label := range labels {
		if label == "" || len(label) > 63 || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
	}
	_, err := netip.ParseAddr(name)
	return err != nil && len(labels) > 1 && len(name) <= 253
}

// tufDir is where the TUF repository lies: the repository itself, or the copy of
// the one in the database. The copy is written anew at each start, so it never
// lies where a repository may be that an earlier configuration has made.
func (c *Config) tufDir() string {
	if c.Storage == "mysql" {
		return filepath.Join(c.DataDir, "tuf-copy")
	}
	return filepath.Join(c.DataDir, "tuf")
}

// scheme is how Listen is reached without a proxy.
func (c *Config) scheme() string {
	if c.TLS.Cert != "" || c.TLS.ACME.AcceptTerms {
		return "https"
	}
	return "http"
}

// checkBaseURL wants scheme, host and port, spelled as clients join them.
func checkBaseURL(s string) error {
	u, err := url.Parse(s)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" || s != u.Scheme+"://"+u.Host {
		return fmt.Errorf("%q is not http(s)://host or http(s)://host:port, without path and slash at the end", s)
	}
	return nil
}

func loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// Times of the server that nobody needs to change.
const (
	drainTimeout  = 10 * time.Second // for requests under way when connections are refused
	maxDrainDelay = 5 * time.Minute
	renewInterval = time.Hour // between looks at the TUF repository's expiries
)
