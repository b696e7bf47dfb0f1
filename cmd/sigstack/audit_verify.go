package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"github.com/spf13/cobra"

	"github.com/sigstack/sigstack/storage/mysql"
	"github.com/sigstack/sigstack/tlog/fsck"
)

func auditCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "audit", Short: "The audit log of the certificate authority"}
	cmd.AddCommand(auditVerifyCommand())
	return cmd
}

func auditVerifyCommand() *cobra.Command {
	var file, dir string
	var heads []string
	cmd := &cobra.Command{
		Use:   "verify --config FILE | --data-dir DIR",
		Short: "Re-read the audit log and say what is wrong with it",
		Long: `verify re-reads every row of the audit log, with a reader of its own, and holds it
against the chain of hashes and against the CT log: every certificate was intended
before it was signed, with the same name, key and validity; serial numbers are
unique; what was issued is in the CT log, and what our chain has signed there was
intended. The server may be running.

It prints the head of the chain. Keep it elsewhere, and give it with --head the
next time: rows that were taken away from the end since are noticed.

It exits with 0 when everything agrees, with 1 when it found something, and with 2
when it could not look.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c := Config{DataDir: dir, Storage: "sqlite"}
			if file != "" {
				var err error
				if c, err = loadFile(file); err != nil {
					return err
				}
			}
			var o fsck.AuditOptions
			for _, text := range heads {
				head, err := hex.DecodeString(text)
				if err != nil || len(head) != sha256.Size {
					return fmt.Errorf("--head: %q is not a hash of %d hexadecimal characters", text, hex.EncodedLen(sha256.Size))
				}
				o.Heads = append(o.Heads, [32]byte(head))
			}
			return verifyAudit(cmd.Context(), &c, o, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "configuration file of the server")
	cmd.Flags().StringVar(&dir, "data-dir", "", "its data directory, where that has the audit log")
	cmd.Flags().StringArrayVar(&heads, "head", nil, "hash of the chain from earlier, which must still be in it (repeatable)")
	cmd.MarkFlagsOneRequired("config", "data-dir")
	cmd.MarkFlagsMutuallyExclusive("config", "data-dir")
	return cmd
}

func verifyAudit(ctx context.Context, c *Config, o fsck.AuditOptions, stdout, stderr io.Writer) error {
	source, err := auditSource(c, stderr)
	if err != nil {
		return err
	}
	defer source.Close()
	// The rows name the issuing keys as well; without any there are the chains.
	switch found, err := readChains(c); {
	case err == nil:
		for _, certs := range certsOf(slices.Concat([]chainFile{found.active}, found.next, found.retired)) {
			o.Issuers = append(o.Issuers, sha256.Sum256(certs[0].RawSubjectPublicKeyInfo))
		}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	report, err := fsck.CheckAudit(ctx, source, o)
	if err != nil {
		return err
	}
	if err := report.Write(stdout); err != nil {
		return err
	}
	if len(report.Findings) > 0 {
		return errFindings
	}
	return nil
}

func auditSource(c *Config, stderr io.Writer) (*fsck.AuditSource, error) {
	if c.Storage != "mysql" {
		return fsck.AuditDir(c.DataDir)
	}
	dsn, err := readSecret(c.MySQL.DSNFile)
	if err != nil {
		return nil, fmt.Errorf("mysql.dsn-file: %w", err)
	}
	db, err := mysql.Connect(dsn, warnings(stderr))
	if err != nil {
		return nil, err
	}
	return fsck.AuditDatabase(db), nil
}
