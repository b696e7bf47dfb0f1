package keys

import (
	"bytes"
	"cmp"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"
	"unicode"
)

// Limits of a key that is kept outside of this process.
const (
	// OpenTimeout is how long opening a key may take.
	OpenTimeout = 20 * time.Second

	// SignTimeout is how long one signature may take, waiting for its turn
	// included.
	SignTimeout = 5 * time.Second

	// MaxSigning is how many signatures of one key may be under way.
	MaxSigning = 32
)

// A remote is a signer whose key is outside of this process: a key service or a
// security module that may be slow, away, or out of its mind. It bounds the time
// that a caller waits and how many calls are under way.
//
// It does not verify what it returns. Every user of a signer does that already,
// with the public key that clients will use.
type remote struct {
	public  crypto.PublicKey
	sign    signFunc
	turns   chan struct{} // holds one element for each call that is under way
	options Options
}

// A signFunc asks for a signature over a digest: ASN.1 DER of an ECDSA key, PKCS
// #1 v1.5 of an RSA key.
type signFunc func(ctx context.Context, digest []byte, hash crypto.Hash) ([]byte, error)

// newRemote refuses kinds of keys that nothing here signs with.
func newRemote(public crypto.PublicKey, sign signFunc, o Options) (*remote, error) {
	kind := "another kind"
	switch key := public.(type) {
	case *ecdsa.PublicKey:
		if key.Curve == elliptic.P256() || key.Curve == elliptic.P384() {
			kind = ""
		}
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits >= minRSABits && bits <= maxRSABits {
			kind = ""
		} else {
			kind = fmt.Sprintf("RSA with %d bits", bits)
		}
	}
	if kind != "" {
		return nil, fmt.Errorf("the key is of %s; want %s, %s or RSA of %d to %d bits", kind, P256, P384, minRSABits, maxRSABits)
	}
	return &remote{public: public, sign: sign, turns: make(chan struct{}, MaxSigning), options: o}, nil
}

// signer returns what newRemote and openKMS return as the interface that it is.
func signer(r *remote, err error) (crypto.Signer, error) {
	if err != nil {
		return nil, err
	}
	return r, nil
}

// Public returns the key as it was when it was opened.
func (r *remote) Public() crypto.PublicKey { return r.public }

// Sign returns a signature, or an error within SignTimeout.
func (r *remote) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	begin := time.Now()
	signature, err := r.ask(digest, opts)
	if r.options.Observe != nil {
		r.options.Observe(time.Since(begin), err)
	}
	return signature, err
}

func (r *remote) ask(digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	hash := opts.HashFunc()
	if _, pss := opts.(*rsa.PSSOptions); pss || (hash != crypto.SHA256 && hash != crypto.SHA384) || hash.Size() != len(digest) {
		return nil, errors.New("a key outside of this process signs digests of SHA-256 and SHA-384, RSA by PKCS #1 v1.5")
	}
	limit := cmp.Or(r.options.limit, SignTimeout)
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	select {
	case r.turns <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("the key store is busy or does not answer: %d signatures are under way, and none ended within %s", MaxSigning, limit)
	}
	digest = bytes.Clone(digest) // the call may outlive the caller
	signature, err := within(ctx, func() ([]byte, error) {
		defer func() { <-r.turns }()
		return r.sign(ctx, digest, hash)
	})
	if ctx.Err() != nil && err != nil {
		return nil, fmt.Errorf("the key store did not answer within %s", limit)
	}
	if err != nil {
		return nil, r.options.plain(err)
	}
	if len(signature) == 0 {
		return nil, errors.New("the key store's answer holds no signature")
	}
	return signature, nil
}

// within calls f and waits for it until ctx is done. Not every driver heeds a
// context, so the call itself may go on; and some panic at an answer that they
// did not expect.
func within[T any](ctx context.Context, f func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		var r result
		defer func() {
			if p := recover(); p != nil {
				r = result{err: errors.New("the key store's answer makes no sense to its driver")}
			}
			done <- r
		}()
		r.value, r.err = f()
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}

// maxError is how much of a driver's error is shown, in bytes.
const maxError = 500

// userinfo is what stands before the host in a URL.
var userinfo = regexp.MustCompile(`//[^/@\s]+@`)

// plain returns the text of a driver's error, which may quote anything that the
// other side has answered, on one line and without the secrets that are known.
func (o Options) plain(err error) error {
	text := err.Error()
	for _, secret := range o.Secrets {
		if secret != "" {
			text = strings.ReplaceAll(text, secret, "[secret]")
		}
	}
	text = userinfo.ReplaceAllString(text, "//[secret]@")
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > maxError {
		text = strings.ToValidUTF8(text[:maxError], "") + "..."
	}
	return errors.New(text)
}
