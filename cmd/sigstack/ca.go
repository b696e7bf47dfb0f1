package main

import (
	"cmp"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sigstack/sigstack/ca"
	"github.com/sigstack/sigstack/trust/keys"
)

func caCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ca",
		Short: "Give the CA another intermediate",
		Long: `Give the CA another intermediate, whose root is offline.

csr makes a request for the intermediate's key, sign answers it where the root's
key is, and install puts the chain in place, which a running server takes over.
docs/ca.md goes through all of it.`,
	}
	cmd.AddCommand(caRequestCommand(), caSignCommand(), caInstallCommand(), caShowCommand())
	return cmd
}

func caRequestCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "csr",
		Short: "Make a request for an intermediate, for the root to sign",
		Long: `csr writes a PKCS #10 request in PEM for the key of an intermediate: a new key
with --new-key, which is made as ca.key-type says, or one that exists with --key.
It asks for a CA for code signing that has no other below it. The subject is that
of "sigstack init", with ca.organization.`,
		Example: "  sigstack ca csr --config sigstack.yaml --new-key sigstack-data/keys/ca-2027.pem --out intermediate.csr",
		Args:    cobra.NoArgs,
	}
	configFlags(cmd)
	key := cmd.Flags().String("key", "", "URI of a key that exists, as in keys.ca")
	newKey := cmd.Flags().String("new-key", "", "file to make a new key in")
	out := cmd.Flags().String("out", "", "file to write the request to, which must not exist (default: standard output)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if (*key == "") == (*newKey == "") {
			return errors.New("name one key: --key URI for one that exists, or --new-key FILE to make one")
		}
		c, err := loadConfig(cmd)
		if err != nil {
			return err
		}
		if err := mustNotExist(*out); err != nil {
			return err
		}
		signer, err := openOrMake(cmd.Context(), *key, *newKey, c.keyKind())
		if err != nil {
			return err
		}
		request, err := ca.CreateIntermediateRequest(ca.IntermediateName(cmp.Or(c.CA.Organization, c.Operator)), signer)
		if err != nil {
			return err
		}
		return writeOut(cmd.OutOrStdout(), *out, request)
	}
	return cmd
}

// openOrMake returns the key at a URI, or one that is made in a file.
func openOrMake(ctx context.Context, uri, file string, kind keys.Kind) (crypto.Signer, error) {
	if uri != "" {
		return openKey(ctx, uri, nil)
	}
	signer, err := keys.Create(file, kind)
	if errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("%w; use it with --key file:%s, or name another", err, file)
	}
	return signer, err
}

// mustNotExist refuses to write over a file.
func mustNotExist(name string) error {
	if name == "" {
		return nil
	}
	there, err := exists(name)
	if err == nil && there {
		err = fmt.Errorf("%s is there already; name another file, or take it away", name)
	}
	return err
}

// writeOut writes to a file, or to standard output where none is named.
func writeOut(stdout io.Writer, name string, data []byte) error {
	if name == "" {
		_, err := stdout.Write(data)
		return err
	}
	return writeFile(name, data)
}

func caSignCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "sign",
		Short: "Sign a request for an intermediate, where the root's key is",
		Long: `sign answers a request of "sigstack ca csr" with a certificate that is valid for
three years, or until the root ends, and writes it with the root behind it: what
"sigstack ca install" takes. It needs no configuration and no network. Of the
request only the name and the key count.`,
		Example: "  sigstack ca sign --root-key file:ca-root.pem --root-cert root.crt --csr intermediate.csr --out chain.pem",
		Args:    cobra.NoArgs,
	}
	rootKey := cmd.Flags().String("root-key", "", "URI of the root's key (required)")
	rootCert := cmd.Flags().String("root-cert", "", "PEM file with the root's certificate, or with a chain that ends in it (required)")
	csr := cmd.Flags().String("csr", "", "PEM file with the request (required)")
	out := cmd.Flags().String("out", "", "file to write the chain to, which must not exist (default: standard output)")
	for _, name := range []string{"root-key", "root-cert", "csr"} {
		_ = cmd.MarkFlagRequired(name) // they are declared above
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := mustNotExist(*out); err != nil {
			return err
		}
		parents, _, err := readChainFile(*rootCert)
		if err != nil {
			return err
		}
		root := parents.certs[len(parents.certs)-1]
		if err := ca.CheckChain([]*x509.Certificate{root}); err != nil {
			return fmt.Errorf("%s: the last certificate is no root: %w", *rootCert, err)
		}
		request, err := readBounded(*csr, maxChainFile)
		if err != nil {
			return err
		}
		signer, err := openKey(cmd.Context(), *rootKey, nil)
		if err != nil {
			return err
		}
		cert, err := ca.SignIntermediate(request, root, signer, time.Now())
		if err != nil {
			return err
		}
		return writeOut(cmd.OutOrStdout(), *out, chainFile{certs: []*x509.Certificate{cert, root}}.text())
	}
	return cmd
}

func caInstallCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "install",
		Short: "Put a chain in place that a root has signed",
		Long: `install checks a chain (issuing certificate first, self-signed root last) and its
key, and makes it the one that signs. The one before goes to ca.retired, so that
what it signed still verifies. A server that runs takes the new one over within
10 seconds, or at SIGHUP: it publishes it first, then signs with it.

With --announce the chain is published, but does not sign yet. Clients that keep
a trust root for a day know it then, before they meet what it signs: announce it,
wait for a day, and install it.

The key is --key, or the one that the file of the chain names, or else the one in
use. An interruption leaves the chain before or the new one, each with its key;
to do it again is safe.`,
		Example: "  sigstack ca install --config sigstack.yaml --chain chain.pem --key file:sigstack-data/keys/ca-2027.pem",
		Args:    cobra.NoArgs,
	}
	configFlags(cmd)
	chain := cmd.Flags().String("chain", "", "PEM file with the chain (required)")
	key := cmd.Flags().String("key", "", "URI of its key, as in keys.ca")
	announce := cmd.Flags().Bool("announce", false, "publish the chain, but do not sign with it yet")
	_ = cmd.MarkFlagRequired("chain") // it is declared above
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := loadConfig(cmd)
		if err != nil {
			return err
		}
		i := installation{config: &c, now: time.Now}
		told, err := i.run(cmd.Context(), *chain, *key, *announce)
		if err != nil {
			return err
		}
		_, err = io.WriteString(cmd.OutOrStdout(), told)
		return err
	}
	return cmd
}

func caShowCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show",
		Short: "List the chains of the CA, and when they end",
		Args:  cobra.NoArgs,
	}
	configFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := loadConfig(cmd)
		if err != nil {
			return err
		}
		found, err := readChains(&c)
		if err != nil {
			return err
		}
		if err := found.open(cmd.Context(), &c, func(ctx context.Context, uri string, _ crypto.PublicKey) (crypto.Signer, error) {
			return openKey(ctx, uri, nil)
		}); err != nil {
			return err
		}
		_, err = io.WriteString(cmd.OutOrStdout(), found.describe(&c))
		return err
	}
	return cmd
}

// describe lists all chains for a reader.
func (s *chains) describe(c *Config) string {
	var b strings.Builder
	for _, group := range []struct {
		state string
		files []chainFile
	}{{"active", []chainFile{s.active}}, {"next", s.next}, {"retired", s.retired}} {
		for _, f := range group.files {
			root := f.certs[len(f.certs)-1]
			id := chainID(f.certs)
			fmt.Fprintf(&b, "%s\n", group.state)
			fmt.Fprintf(&b, "  chain    %x\n", id[:8])
			fmt.Fprintf(&b, "  issuing  %s, serial %s, until %s\n", f.certs[0].Subject, serial(f), day(f.certs[0].NotAfter))
			fmt.Fprintf(&b, "  root     %s, serial %s, until %s\n", root.Subject, hex.EncodeToString(root.SerialNumber.Bytes()), day(root.NotAfter))
			if group.state != "retired" {
				fmt.Fprintf(&b, "  key      %s\n", shownKey(c.keyURI(f)))
			}
		}
	}
	return b.String()
}

func day(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// shownKey is a key's URI for a reader. Of a key that is in no file, only the
// scheme is shown: what follows may hold what opens it.
func shownKey(uri string) string {
	scheme, _, _ := strings.Cut(uri, ":")
	if scheme == "file" {
		return uri
	}
	return scheme + ":..."
}

// readBounded reads a file of at most so many bytes.
func readBounded(name string, most int64) ([]byte, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, most+1))
	if err == nil && int64(len(data)) > most {
		err = fmt.Errorf("%s: is longer than %d bytes", name, most)
	}
	return data, err
}
