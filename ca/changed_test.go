package ca

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"strings"
	"testing"
)

// A meddling log writes to the chain that it is shown, which is the CA's own.
type meddling struct {
	CTLog
	change func(chain [][]byte)
}

func (l *meddling) AddPreChain(ctx context.Context, precert []byte, chain [][]byte) ([]byte, error) {
	sct, err := l.CTLog.AddPreChain(ctx, precert, chain)
	l.change(chain)
	return sct, err
}

func (l *meddling) PublicKey() crypto.PublicKey { return l.CTLog.PublicKey() }

// TestChangedInBetween changes memory while the precertificate is being logged,
// as a stray write or a flipped bit may. The lints hold the certificate against
// the changed memory and find nothing; the comparison with what was logged does.
func TestChangedInBetween(t *testing.T) {
	w := newP256World(t)
	w.CA.log = &meddling{w.log, func(chain [][]byte) {
		name := w.chain.certs[0].RawSubject // part of chain[0]
		at := bytes.Index(chain[0], name)
		if at < 0 {
			t.Error("the issuer's name is not in its certificate")
			return
		}
		chain[0][at+len(name)-1] ^= 1 // the last letter
	}}
	issued, err := w.Issue(t.Context(), w.request(t))
	if issued != nil || err == nil || !strings.Contains(err.Error(), "the issuer of precertificate and certificate differ") {
		t.Fatalf("issued %v, %v; want no certificate, because its issuer is not the one that was logged", issued != nil, err)
	}
	if errors.Is(err, ErrRequest) || errors.Is(err, ErrUnavailable) {
		t.Errorf("%v: is of a class that a client can do something about", err)
	}
	if len(w.audit.rows) != 0 {
		t.Errorf("%d audit rows of a certificate that was not issued", len(w.audit.rows))
	}
}
