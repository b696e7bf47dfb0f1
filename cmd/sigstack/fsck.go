package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	trustroot "github.com/sigstore/protobuf-specs/gen/pb-go/trustroot/v1"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/sigstack/sigstack/tlog/fsck"
)

func fsckCommand() *cobra.Command {
	var base, dir, trusted string
	var older []string
	cmd := &cobra.Command{
		Use:   "fsck --url URL | --dir DIR",
		Short: "Re-derive the logs and say what is wrong with them",
		Long: `fsck reads every entry of the transparency log and of the CT log, from public
bytes (--url) or from a data directory (--dir), and compares what follows from
them with what was signed. It exits with 0 when everything agrees, with 1 when
it found something, and with 2 when it could not look.

The keys of the logs are those in --trusted-root, a trusted_root.json that you
keep; without it, those that the server or the directory publishes itself.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			report, err := check(cmd.Context(), strings.TrimSuffix(base, "/"), dir, trusted, older)
			if werr := report.Write(cmd.OutOrStdout()); err == nil {
				err = werr
			}
			if err == nil && !report.OK() {
				err = errFindings
			}
			return err
		},
	}
	cmd.Flags().StringVar(&base, "url", "", "the server to check")
	cmd.Flags().StringVar(&dir, "dir", "", "the data directory to check")
	cmd.Flags().StringVar(&trusted, "trusted-root", "", "trusted_root.json with the keys of the logs")
	cmd.Flags().StringArrayVar(&older, "older", nil, "file with a checkpoint, or with an answer of get-sth, that the log has signed before (repeatable)")
	cmd.MarkFlagsOneRequired("url", "dir")
	cmd.MarkFlagsMutuallyExclusive("url", "dir")
	return cmd
}

// check runs the checker with the keys of a trust root.
func check(ctx context.Context, base, dir, trusted string, older []string) (fsck.Report, error) {
	var checkpoints, heads [][]byte
	for _, name := range older {
		b, err := os.ReadFile(name)
		if err != nil {
			return fsck.Report{}, err
		}
		if bytes.HasPrefix(bytes.TrimSpace(b), []byte("{")) {
			heads = append(heads, b)
		} else {
			checkpoints = append(checkpoints, b)
		}
	}
	if dir != "" {
		files := []string{trusted}
		if trusted == "" {
			var err error
			if files, err = filepath.Glob(filepath.Join(dir, "tuf", "targets", "*.trusted_root.json")); err != nil {
				return fsck.Report{}, err
			}
		}
		var keys []crypto.PublicKey
		for _, name := range files {
			root, err := os.ReadFile(name)
			if err != nil {
				return fsck.Report{}, err
			}
			instances, err := logInstances(root)
			if err != nil {
				return fsck.Report{}, fmt.Errorf("%s: %w", name, err)
			}
			for _, i := range instances {
				if !slices.ContainsFunc(keys, i.same) {
					keys = append(keys, i.key)
				}
			}
		}
		return fsck.CheckDir(ctx, dir, fsck.DirOptions{PublicKeys: keys, Older: checkpoints})
	}

	var root []byte
	var err error
	if trusted != "" {
		root, err = os.ReadFile(trusted)
	} else {
		root, err = get(ctx, base+"/tuf/targets/trusted_root.json")
	}
	if err != nil {
		return fsck.Report{}, err
	}
	instances, err := logInstances(root)
	if err != nil {
		return fsck.Report{}, fmt.Errorf("trust root: %w", err)
	}
	var report fsck.Report
	for _, l := range []struct {
		ct    bool
		check func(context.Context, fsck.Options) (fsck.Report, error)
		older [][]byte
	}{{false, fsck.CheckRekor, checkpoints}, {true, fsck.CheckCT, heads}} {
		key, ok := newest(instances, base, l.ct)
		if !ok {
			return report, errors.Join(err, fmt.Errorf("the trust root has no log in use with the base URL %s (CT log: %v)", base, l.ct))
		}
		var others []crypto.PublicKey
		for _, i := range instances {
			if i.ct == l.ct && i.url == base {
				others = append(others, i.key)
			}
		}
		r, cerr := l.check(ctx, fsck.Options{URL: base, PublicKey: key, Others: others, Older: l.older})
		report.Logs = append(report.Logs, r.Logs...)
		err = errors.Join(err, cerr)
	}
	return report, err
}

// A logInstance is a log in a trust root.
type logInstance struct {
	ct         bool
	url        string
	key        crypto.PublicKey
	start, end time.Time // end is zero while it is in use
}

func (i logInstance) same(key crypto.PublicKey) bool {
	k, ok := key.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(i.key)
}

// logInstances reads the logs of a trusted_root.json.
func logInstances(root []byte) ([]logInstance, error) {
	var r trustroot.TrustedRoot
	if err := protojson.Unmarshal(root, &r); err != nil {
		return nil, err
	}
	var out []logInstance
	for n, l := range append(slices.Clone(r.GetTlogs()), r.GetCtlogs()...) {
		key, err := x509.ParsePKIXPublicKey(l.GetPublicKey().GetRawBytes())
		if err != nil {
			return nil, fmt.Errorf("public key of log %s: %w", l.GetBaseUrl(), err)
		}
		i := logInstance{ct: n >= len(r.GetTlogs()), url: l.GetBaseUrl(), key: key}
		if v := l.GetPublicKey().GetValidFor(); v != nil {
			i.start = v.GetStart().AsTime()
			if v.GetEnd() != nil {
				i.end = v.GetEnd().AsTime()
			}
		}
		out = append(out, i)
	}
	return out, nil
}

// newest returns the key of the log in use at a URL.
func newest(instances []logInstance, base string, ct bool) (crypto.PublicKey, bool) {
	instances = slices.DeleteFunc(slices.Clone(instances), func(i logInstance) bool {
		return i.ct != ct || i.url != base || !i.end.IsZero()
	})
	if len(instances) == 0 {
		return nil, false
	}
	return slices.MaxFunc(instances, func(a, b logInstance) int { return cmp.Compare(a.start.UnixNano(), b.start.UnixNano()) }).key, true
}
