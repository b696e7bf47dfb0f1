// Package bucket keeps attestations in a bucket of an object store, beside the
// database of the log: S3 and what speaks its protocol, Google Cloud Storage,
// Azure Blob Storage, or a directory.
//
// An object is one attestation, under the name that rekor-server gives it:
// "sha256:" and the SHA-256 of its bytes in hexadecimal. What a bucket of
// rekor-server holds is found; and since a name says what the bytes are, writing
// an attestation twice changes nothing.
//
// A URL names the bucket. Credentials are where the drivers of the Go Cloud
// Development Kit look for them: in the environment, in the files of each cloud's
// own tools, or with the machine.
package bucket

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"gocloud.dev/blob"
	"gocloud.dev/blob/azureblob"
	"gocloud.dev/blob/fileblob"
	"gocloud.dev/blob/gcsblob"
	"gocloud.dev/blob/memblob"
	"gocloud.dev/blob/s3blob"
	"gocloud.dev/gcerrors"
	"golang.org/x/sync/errgroup"

	"github.com/sigstack/sigstack/tlog"
)

const (
	// openTimeout bounds the opening of a bucket, and callTimeout each object that
	// is written or read.
	openTimeout = 20 * time.Second
	callTimeout = 5 * time.Second

	// maxWrites bounds the objects that are being written; the others wait. A
	// driver has a buffer for each: bufferSize is the smallest that S3 takes.
	maxWrites  = 16
	bufferSize = 5 << 20

	// MaxAttestation bounds an attestation, in bytes. A larger object is none.
	MaxAttestation = 1 << 20
)

// Forgetful is the scheme of a bucket that lasts as long as the process.
const Forgetful = memblob.Scheme + "://"

// schemes are those of the drivers. Each driver has told package blob of itself.
var schemes = []string{s3blob.Scheme, gcsblob.Scheme, azureblob.Scheme, fileblob.Scheme, memblob.Scheme}

// A Bucket is an open bucket. It is safe for concurrent use.
type Bucket struct {
	objects *blob.Bucket
	there   func(ctx context.Context) (bool, error) // says whether there is such a bucket
	writes  chan struct{}                           // a token for each object that is being written
}

// Check says why a text cannot be the URL of a bucket. It asks nobody.
func Check(text string) error {
	_, err := parse(text)
	return err
}

func parse(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil || !slices.Contains(schemes, u.Scheme):
		return nil, fmt.Errorf("it is no URL that begins with one of %s://", strings.Join(schemes, "://, "))
	case u.User != nil:
		return nil, errors.New("it has a user in it; credentials come from the environment")
	case u.Scheme == fileblob.Scheme && (u.Host != "" || len(u.Path) < 2):
		return nil, errors.New("it names no directory; want file:///path/of/directory")
	case u.Scheme != fileblob.Scheme && u.Scheme != memblob.Scheme && u.Host == "":
		return nil, fmt.Errorf("it names no bucket; want %s://bucket", u.Scheme)
	case u.Scheme != fileblob.Scheme && u.Path != "" && u.Path != "/":
		return nil, fmt.Errorf("it has a path; want %s://bucket, and ?prefix=path/ for a part of it", u.Scheme)
	}
	if u.Scheme == fileblob.Scheme {
		// Beside the objects: a rename does not cross file systems.
		query := u.Query()
		query.Set("no_tmp_dir", "true")
		u.RawQuery = query.Encode()
	}
	return u, nil
}

// Open opens the bucket of a URL. Whether it can be reached is seen when it is used.
func Open(ctx context.Context, text string) (*Bucket, error) {
	u, err := parse(text)
	if err != nil {
		return nil, fmt.Errorf("opening the bucket: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	objects, err := blob.DefaultURLMux().OpenBucketURL(ctx, u)
	if err != nil {
		return nil, fmt.Errorf("opening the bucket: %w", err)
	}
	there := objects.IsAccessible
	if u.Scheme == fileblob.Scheme {
		// To look for an object in it is no answer: it meets files that are being
		// renamed.
		there = func(context.Context) (bool, error) { return isDir(u.Path) }
	}
	return &Bucket{objects, there, make(chan struct{}, maxWrites)}, nil
}

func isDir(path string) (bool, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && info.IsDir(), err
}

// Close closes the bucket. No other call may be under way.
func (b *Bucket) Close() error { return b.objects.Close() }

func name(sum tlog.Hash) string { return "sha256:" + hex.EncodeToString(sum[:]) }

// Keep writes an attestation whose SHA-256 is sum. It is as durable on return as
// the bucket is.
func (b *Bucket) Keep(ctx context.Context, sum tlog.Hash, attestation []byte) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	select {
	case b.writes <- struct{}{}:
		defer func() { <-b.writes }()
	case <-ctx.Done():
		return fmt.Errorf("waiting for the bucket: %w", ctx.Err())
	}
	err := b.objects.Upload(ctx, name(sum), bytes.NewReader(attestation), &blob.WriterOptions{
		BufferSize: bufferSize, MaxConcurrency: 1, ContentType: "application/octet-stream", DisableContentTypeDetection: true,
	})
	if err != nil {
		return fmt.Errorf("writing %s to the bucket: %w", name(sum), quiet(err))
	}
	return nil
}

// KeepAll does the same with several.
func (b *Bucket) KeepAll(ctx context.Context, attestations []tlog.Attestation) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(maxWrites)
	for _, a := range attestations {
		group.Go(func() error { return b.Keep(ctx, a.Hash, a.Bytes) })
	}
	return group.Wait()
}

// Attestation returns the object for a SHA-256, nil where there is none. Whoever
// can write to the bucket has chosen its bytes.
func (b *Bucket) Attestation(ctx context.Context, sum tlog.Hash) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	attestation, err := b.read(ctx, name(sum))
	if gcerrors.Code(err) == gcerrors.NotFound {
		// A bucket that is gone has no object either.
		there, err := b.there(ctx)
		if err == nil && !there {
			err = errors.New("there is no such bucket")
		}
		if err != nil {
			return nil, fmt.Errorf("looking for %s in the bucket: %w", name(sum), quiet(err))
		}
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s from the bucket: %w", name(sum), quiet(err))
	}
	return attestation, nil
}

// read returns the beginning of an object: one byte more than an attestation may
// have.
func (b *Bucket) read(ctx context.Context, object string) ([]byte, error) {
	r, err := b.objects.NewRangeReader(ctx, object, 0, MaxAttestation+1, nil)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// quiet takes the URL of a request out of an error: it may have a signature in it.
func quiet(err error) error {
	if failed := (*url.Error)(nil); errors.As(err, &failed) {
		return failed.Err
	}
	return err
}
