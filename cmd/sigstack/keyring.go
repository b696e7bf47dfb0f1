package main

import (
	"cmp"
	"context"
	"crypto"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sigstack/sigstack/ca"
	"github.com/sigstack/sigstack/trust"
	"github.com/sigstack/sigstack/trust/keys"
)

// A keyring holds every key that the server signs with, opened once, but for
// those that may change while the server runs: see chains and shardKeys.
type keyring struct {
	ctlog  crypto.Signer
	tuf    trust.RoleKeys
	issuer crypto.Signer // of the development issuer, nil without it
}

// makeKeys makes what the data directory lacks of the keys that are not
// configured to lie elsewhere, and the CA's certificates. It replaces nothing,
// and it does not make a root key again that was moved offline.
func makeKeys(c *Config, now time.Time) (made []string, err error) {
	dir := filepath.Join(c.DataDir, "keys")
	if err := makeDir(dir); err != nil {
		return nil, err
	}
	create := func(name string, kind keys.Kind) (crypto.Signer, error) {
		signer, created, err := keys.OpenOrCreate(filepath.Join(dir, name), kind)
		if created {
			made = append(made, filepath.Join(dir, name))
		}
		return signer, err
	}
	hasTUF, err := exists(filepath.Join(c.tufDir(), "1.root.json"))
	if err != nil {
		return nil, err
	}
	hasShards, err := exists(c.shardsFile())
	if err != nil {
		return nil, err
	}
	for _, k := range []struct {
		name   string
		kind   keys.Kind
		needed bool
	}{
		{ctlogKey, keys.P256, c.Keys.CTLog == ""},
		{rekorV1Key, keys.P256, c.Keys.RekorV1 == "" && !hasShards},
		{tufRootKey, keys.P256, c.Keys.TUFRoot == "" && !hasTUF},
		{tufTargetsKey, keys.P256, c.Keys.TUFTargets == ""},
		{tufSnapshotKey, keys.P256, c.Keys.TUFSnapshot == ""},
		{tufTimestampKey, keys.P256, c.Keys.TUFTimestamp == ""},
		{issuerKey, keys.RSA2048, c.Dev},
	} {
		if k.needed {
			if _, err := create(k.name, k.kind); err != nil {
				return made, err
			}
		}
	}
	file := filepath.Join(dir, caChain)
	hasChain, err := exists(file)
	if err != nil || hasChain || c.Keys.CA != "" || c.CA.Chain != "" {
		return made, err // the CA is there, or comes from elsewhere as a whole
	}
	root, err := create(caRootKey, c.keyKind())
	if err != nil {
		return made, err
	}
	intermediate, err := create(caKey, c.keyKind())
	if err != nil {
		return made, err
	}
	certs, err := ca.CreateHierarchy(cmp.Or(c.CA.Organization, c.Operator), root, intermediate, now)
	if err != nil {
		return made, err
	}
	if err := writeFile(file, chainFile{certs: certs}.text()); err != nil {
		return made, err
	}
	return append(made, file), nil
}

// keyKind is the kind of the CA's keys that sigstack makes.
func (c *Config) keyKind() keys.Kind {
	if c.CA.KeyType == "p256" {
		return keys.P256
	}
	return keys.P384
}

func exists(name string) (bool, error) {
	_, err := os.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// The names of what makeKeys makes, below <data-dir>/keys.
const (
	caRootKey       = "ca-root.pem" // needed again only for the next intermediate: keep it offline
	caKey           = "ca.pem"
	caChain         = "ca-chain.pem"
	ctlogKey        = "ctlog.pem"
	rekorV1Key      = "rekorv1.pem"
	tufRootKey      = "tuf-root.pem"
	tufTargetsKey   = "tuf-targets.pem"
	tufSnapshotKey  = "tuf-snapshot.pem"
	tufTimestampKey = "tuf-timestamp.pem"
	issuerKey       = "dev-issuer.pem"
)

// openKey opens one key. Of those outside of this process, signatures are observed.
func openKey(ctx context.Context, uri string, observe func(took time.Duration, err error)) (crypto.Signer, error) {
	if strings.HasPrefix(uri, "hashivault:") {
		// The driver heeds no context, and would wait for a server three times a
		// minute long. What the environment says counts.
		for name, value := range map[string]string{"VAULT_CLIENT_TIMEOUT": keys.SignTimeout.String(), "VAULT_MAX_RETRIES": "0"} {
			if _, ok := os.LookupEnv(name); !ok {
				os.Setenv(name, value)
			}
		}
	}
	return keys.OpenWith(ctx, uri, keys.Options{Observe: observe, Secrets: driverSecrets()})
}

// driverSecrets are what the drivers of key stores find in the environment and
// send to their servers, which may quote it in an error.
func driverSecrets() (values []string) {
	for _, name := range []string{
		"VAULT_TOKEN", "BAO_TOKEN", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN",
		"AZURE_CLIENT_SECRET", "AZURE_CLIENT_CERTIFICATE_PASSWORD", "AZURE_PASSWORD", "IDENTITY_HEADER",
	} {
		if value := os.Getenv(name); value != "" {
			values = append(values, value)
		}
	}
	return values
}

// openKeys opens all keys but that of the CA.
func openKeys(ctx context.Context, c *Config, metrics *keyMetrics) (*keyring, error) {
	dir := filepath.Join(c.DataDir, "keys")
	k := &keyring{}
	open := func(to *crypto.Signer, configured, name string) error {
		signer, err := openKey(ctx, cmp.Or(configured, "file:"+filepath.Join(dir, name)), metrics.observe(strings.TrimSuffix(name, ".pem")))
		if errors.Is(err, fs.ErrNotExist) && configured == "" {
			if name == tufRootKey {
				return nil // offline; the repository says so where it needs it
			}
			return fmt.Errorf("%w; make the keys with `sigstack init`, or name the key in the configuration", err)
		}
		*to = signer
		return err
	}
	err := errors.Join(
		open(&k.ctlog, c.Keys.CTLog, ctlogKey),
		open(&k.tuf.Root, c.Keys.TUFRoot, tufRootKey),
		open(&k.tuf.Targets, c.Keys.TUFTargets, tufTargetsKey),
		open(&k.tuf.Snapshot, c.Keys.TUFSnapshot, tufSnapshotKey),
		open(&k.tuf.Timestamp, c.Keys.TUFTimestamp, tufTimestampKey),
	)
	if c.Dev && err == nil {
		err = open(&k.issuer, "", issuerKey)
	}
	if err != nil {
		return nil, err
	}
	return k, nil
}

// writeFile writes a new file, whole and durable or not at all.
func writeFile(name string, data []byte) (err error) {
	dir, err := os.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	defer dir.Close()
	f, err := os.CreateTemp(filepath.Dir(name), ".new-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	_, err = f.Write(data)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), name); err != nil {
		return err
	}
	return dir.Sync()
}

// makeDir makes a directory, and those above it, and syncs its name, also where
// it was there: a crash may have come between the two.
func makeDir(path string) error {
	err := os.Mkdir(path, 0o700)
	if errors.Is(err, fs.ErrNotExist) {
		if err = makeDir(filepath.Dir(path)); err == nil {
			err = os.Mkdir(path, 0o700)
		}
	}
	there := errors.Is(err, fs.ErrExist)
	if err != nil && !there {
		return err
	}
	err = syncDir(filepath.Dir(path))
	if there && errors.Is(err, fs.ErrPermission) {
		return nil // an administrator made it, where we cannot look
	}
	return err
}

// syncDir makes the names in a directory durable.
func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

func initCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make the keys and the CA's certificates that the data directory lacks",
		Long: `init makes what "sigstack serve" needs and the data directory lacks: the keys of
the CA, the logs and the TUF roles, and the CA's root and intermediate
certificates. It replaces nothing, and lists what it made.

ca-root.pem and tuf-root.pem sign rarely; back them up. ca-root.pem is not
opened by the server: move it offline.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := loadConfig(cmd)
			if err != nil {
				return err
			}
			made, err := makeKeys(&c, time.Now())
			for _, name := range made {
				fmt.Fprintln(cmd.OutOrStdout(), name)
			}
			return err
		},
	}
	configFlags(cmd)
	return cmd
}
