package main

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"

	"github.com/sigstack/sigstack/storage/bucket"
	"github.com/sigstack/sigstack/tlog/checkpoint"
)

// This file has what the server and the commands that work on its storage share.

// closers are what was opened, in that order.
type closers []func() error

// close closes it, the last first.
func (c closers) close() error {
	var errs []error
	for i := len(c) - 1; i >= 0; i-- {
		errs = append(errs, c[i]())
	}
	return errors.Join(errs...)
}

// warnings is the log of a command, which tells of trouble only.
func warnings(stderr io.Writer) *slog.Logger {
	return slog.New(slog.NewJSONHandler(stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// keyID is the ID of a key: the SHA-256 of its SubjectPublicKeyInfo.
func keyID(key crypto.PublicKey) ([sha256.Size]byte, error) {
	spki, err := x509.MarshalPKIXPublicKey(key)
	return sha256.Sum256(spki), err
}

// checkpointSigner signs the checkpoints of a tree of the transparency log.
func (c *Config) checkpointSigner(treeID int64, key crypto.Signer) (*checkpoint.Signer, error) {
	if err := c.completeURL(); err != nil {
		return nil, err
	}
	base, err := url.Parse(c.URL)
	if err != nil {
		return nil, err
	}
	return checkpoint.NewSigner(rekorOrigin(base, treeID), base.Hostname(), key)
}

// openBucket opens where attestations are kept, nil if that is no bucket.
func (c *Config) openBucket(ctx context.Context) (*bucket.Bucket, error) {
	if c.Rekor.Attestations.Storage != "bucket" {
		return nil, nil
	}
	b, err := bucket.Open(ctx, c.Rekor.Attestations.Bucket)
	if err != nil {
		return nil, fmt.Errorf("opening the attestations of the Rekor v1 log: %w", err)
	}
	return b, nil
}
