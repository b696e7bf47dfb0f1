package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-viper/mapstructure/v2"
	"github.com/spf13/cobra"
	"github.com/spf13/viper"

	"github.com/sigstack/sigstack/ca/identity"
)

// Config is the whole configuration of `sigstack serve` and `sigstack init`.
//
// Each key may stand in the configuration file (YAML), in the environment
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
	// stands in the trust root and in the signing config. The default is http
	// and the address in Listen.
	URL string `mapstructure:"url"`

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

	// OIDCIssuers are the identity providers whose tokens are accepted, by any
	// name; issuer-url is what counts.
	OIDCIssuers map[string]IssuerConfig `mapstructure:"oidc-issuers"`
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
}

// KeysConfig names the signing keys: "file:" and a path.
type KeysConfig struct {
	CA           string `mapstructure:"ca"`      // of the issuing certificate
	CTLog        string `mapstructure:"ctlog"`   // ECDSA P-256
	RekorV1      string `mapstructure:"rekorv1"` // ECDSA P-256
	TUFRoot      string `mapstructure:"tuf-root"`
	TUFTargets   string `mapstructure:"tuf-targets"`
	TUFSnapshot  string `mapstructure:"tuf-snapshot"`
	TUFTimestamp string `mapstructure:"tuf-timestamp"`
}

// IssuerConfig is one identity provider; the keys are Fulcio's.
type IssuerConfig struct {
	// IssuerURL is compared with the token's iss byte for byte.
	IssuerURL string `mapstructure:"issuer-url"`
	// ClientID must be in the token's aud. The default is sigstore.
	ClientID string `mapstructure:"client-id"`
	// Type is email, uri or github-workflow.
	Type string `mapstructure:"type"`
	// IssuerClaim: for email, the JSONPath of the claim that names the issuer in certificates.
	IssuerClaim string `mapstructure:"issuer-claim"`
	// SubjectDomain: for uri, the scheme and host that every subject has.
	SubjectDomain string `mapstructure:"subject-domain"`
	// CACert: PEM certificates trusted for the TLS of this issuer, beside the system's.
	CACert string `mapstructure:"ca-cert"`
	// SkipEmailVerification accepts addresses that the issuer does not call verified.
	SkipEmailVerification bool `mapstructure:"skip-email-verification"`
	// Description and Contact are for the reader.
	Description string `mapstructure:"description"`
	Contact     string `mapstructure:"contact"`
}

// defaults holds every key, so that the environment reaches each of them.
var defaults = map[string]any{
	"dev": false, "dev-allow-remote": false,
	"listen": "localhost:8080", "ops-listen": "localhost:8081", "url": "",
	"data-dir": "./sigstack-data", "min-free-bytes": 256 << 20, "operator": "", "log-level": "info",
	"storage": "sqlite", "mysql::dsn-file": "", "drain-delay": "0s",
	"ca::organization": "", "ca::key-type": "p384", "ca::chain": "",
	"rekor::max-entry-bytes": 32 << 20,
	"keys::ca":               "", "keys::ctlog": "", "keys::rekorv1": "",
	"keys::tuf-root": "", "keys::tuf-targets": "", "keys::tuf-snapshot": "", "keys::tuf-timestamp": "",
}

// configFlags declares the flags that loadConfig reads.
func configFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.String("config", "", "configuration file (YAML)")
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

func readConfig(v *viper.Viper, file string) (Config, error) {
	if file != "" {
		v.SetConfigFile(file)
		v.SetConfigType("yaml")
		if err := v.ReadInConfig(); err != nil {
			return Config{}, fmt.Errorf("reading configuration %s: %w", file, err)
		}
	}
	var c Config
	if err := v.UnmarshalExact(&c, viper.DecodeHook(mapstructure.ComposeDecodeHookFunc(
		mapstructure.TextUnmarshallerHookFunc(), mapstructure.StringToTimeDurationHookFunc()))); err != nil {
		return Config{}, fmt.Errorf("configuration: %w", err)
	}
	return c, c.validate()
}

// validate checks what can be checked without opening anything, and fills in
// what follows from something else.
func (c *Config) validate() error {
	var errs []error
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		errs = append(errs, fmt.Errorf("listen: %q is not host:port", c.Listen))
	}
	if _, _, err := net.SplitHostPort(c.OpsListen); err != nil {
		errs = append(errs, fmt.Errorf("ops-listen: %q is not host:port", c.OpsListen))
	}
	if c.URL != "" {
		if err := checkBaseURL(c.URL); err != nil {
			errs = append(errs, fmt.Errorf("url: %w", err))
		}
	}
	if c.DataDir == "" {
		errs = append(errs, errors.New("data-dir: is empty"))
	}
	if c.MinFreeBytes < 0 {
		errs = append(errs, fmt.Errorf("min-free-bytes: %d is negative; 0 means that the disk may run full", c.MinFreeBytes))
	}
	if c.DrainDelay < 0 || c.DrainDelay > maxDrainDelay {
		errs = append(errs, fmt.Errorf("drain-delay: %s is not between 0s and %s", c.DrainDelay, maxDrainDelay))
	}
	switch {
	case c.Storage != "sqlite" && c.Storage != "mysql":
		errs = append(errs, fmt.Errorf("storage: %q is neither sqlite nor mysql", c.Storage))
	case c.Storage == "mysql" && c.MySQL.DSNFile == "":
		errs = append(errs, errors.New("mysql.dsn-file: is empty; name the file that holds user:password@tcp(host:port)/database"))
	case c.Storage == "sqlite" && c.MySQL.DSNFile != "":
		errs = append(errs, errors.New("mysql.dsn-file: is given, but storage is sqlite; say storage: mysql, or leave it away"))
	}
	if c.CA.KeyType != "p384" && c.CA.KeyType != "p256" {
		errs = append(errs, fmt.Errorf("ca.key-type: %q is neither p384 nor p256", c.CA.KeyType))
	}
	if c.Rekor.MaxEntryBytes < 1<<10 || c.Rekor.MaxEntryBytes > 1<<30 {
		errs = append(errs, fmt.Errorf("rekor.max-entry-bytes: %d is not between 1 KiB and 1 GiB", c.Rekor.MaxEntryBytes))
	}
	if c.Dev && !c.DevAllowRemote && !loopback(c.Listen) {
		errs = append(errs, fmt.Errorf("dev: the development issuer gives anybody a token for any identity, so it listens on loopback only, not on %q; --dev-allow-remote overrides that", c.Listen))
	}
	if c.Operator == "" && c.URL != "" {
		if u, err := url.Parse(c.URL); err == nil {
			c.Operator = u.Hostname()
		}
	}
	return errors.Join(errs...)
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

// issuers returns the configured identity providers as the verifier wants them.
func (c *Config) issuers() []identity.Issuer {
	var out []identity.Issuer
	for _, i := range c.OIDCIssuers {
		if i.ClientID == "" {
			i.ClientID = "sigstore"
		}
		out = append(out, identity.Issuer{
			URL: i.IssuerURL, ClientID: i.ClientID, Type: i.Type, SubjectDomain: i.SubjectDomain,
			IssuerClaim: i.IssuerClaim, SkipEmailVerification: i.SkipEmailVerification, CACert: i.CACert,
			Description: i.Description, Contact: i.Contact,
		})
	}
	return out
}

// Times of the server that nobody needs to change.
const (
	drainTimeout  = 10 * time.Second // for requests under way when connections are refused
	maxDrainDelay = 5 * time.Minute
	renewInterval = time.Hour // between looks at the TUF repository's expiries
)
