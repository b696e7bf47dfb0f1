// Package keystore holds key stores for tests: servers that speak the protocols of
// HashiCorp Vault, AWS KMS, Azure Key Vault and Google Cloud KMS, and a token of
// SoftHSM behind a module that can be told to fail.
//
// The servers sign for real with keys that they hold, demand the credentials and
// the shape of requests that the real ones document, and complain to their test
// about what they would not understand. Each can be given a [Fault], and be well
// again:
//
//	vault := keystore.NewVault(t, key)
//	t.Setenv("VAULT_ADDR", vault.URL)
//	vault.Set(keystore.Throttled)
package keystore

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"
)

// A Fault is what is wrong with a key store.
type Fault int

// What a key store can be told to do.
const (
	None      Fault = iota
	Silent          // takes requests and does not answer them
	Throttled       // answers that there were too many
	Broken          // answers that it has failed
	Nonsense        // answers something that is no answer
	Gone            // is not there: connections are refused
	WrongKey        // signs with another key than it says
)

// Faults are all of them, by name.
func Faults() map[string]Fault {
	return map[string]Fault{"silent": Silent, "throttled": Throttled, "broken": Broken, "nonsense": Nonsense, "gone": Gone, "wrong key": WrongKey}
}

// A Store is a key store with some keys, or with one. It is safe for concurrent use.
type Store struct {
	URL string // of its API

	t     testing.TB
	keys  map[string]crypto.Signer
	other crypto.Signer // for WrongKey
	start func(net.Listener) (stop func())
	addr  string

	mu     sync.Mutex
	fault  Fault
	well   chan struct{} // closed when Silent ends
	stop   func()
	signed int
}

// newStore starts serving on a free port.
func newStore(t testing.TB, keys map[string]crypto.Signer, start func(*Store, net.Listener) (stop func())) *Store {
	t.Helper()
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s := &Store{t: t, keys: keys, other: other, well: make(chan struct{})}
	close(s.well)
	s.start = func(l net.Listener) func() { return start(s, l) }
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = l.Addr().String()
	s.stop = s.start(l)
	t.Cleanup(func() {
		s.Set(None)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.stop()
	})
	return s
}

// Set gives the store a fault, or None.
func (s *Store) Set(f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.fault
	s.fault = f
	switch {
	case f == Silent && was != Silent:
		s.well = make(chan struct{})
	case f != Silent && was == Silent:
		close(s.well)
	}
	switch {
	case f == Gone && was != Gone:
		s.stop()
	case f != Gone && was == Gone:
		l, err := net.Listen("tcp", s.addr)
		if err != nil {
			s.t.Errorf("keystore: coming back: %v", err)
			return
		}
		s.stop = s.start(l)
	}
}

// Signed says how many signatures were given.
func (s *Store) Signed() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.signed
}

// now returns the present fault. While that is Silent it waits, and returns None when
// it has ended, Silent when the caller's patience has.
func (s *Store) now(ctx context.Context) Fault {
	s.mu.Lock()
	fault, well := s.fault, s.well
	s.mu.Unlock()
	if fault == Silent {
		select {
		case <-well:
			return None
		case <-ctx.Done():
		}
	}
	return fault
}

// only is the name of the key of a store that has one.
const only = ""

// one is a set of one key.
func one(key crypto.Signer) map[string]crypto.Signer { return map[string]crypto.Signer{only: key} }

// sign returns a signature by one of the store's keys, or by another one.
func (s *Store) sign(name string, digest []byte, hash crypto.Hash) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := s.keys[name]
	if s.fault == WrongKey {
		key = s.other
	}
	signature, err := key.Sign(rand.Reader, digest, hash)
	if err != nil {
		s.t.Errorf("keystore: signing: %v", err)
	}
	s.signed++
	return signature
}

// strange notes a request that the real store would not understand, and answers
// it with 400.
func (s *Store) strange(w http.ResponseWriter, format string, args ...any) {
	s.t.Errorf("keystore: "+format, args...)
	w.WriteHeader(http.StatusBadRequest)
}

// serveHTTP serves over HTTP, or HTTPS with a certificate. Troubled answers in the
// store's own words what is wrong, with a status.
func serveHTTP(certificate *tls.Certificate, troubled func(s *Store, w http.ResponseWriter, status int), handle func(s *Store, w http.ResponseWriter, r *http.Request)) func(*Store, net.Listener) func() {
	return func(s *Store, l net.Listener) func() {
		server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch s.now(r.Context()) {
			case Silent:
				panic(http.ErrAbortHandler) // not a word, not even now
			case Throttled:
				troubled(s, w, http.StatusTooManyRequests)
			case Broken:
				troubled(s, w, http.StatusServiceUnavailable)
			case Nonsense:
				w.WriteHeader(http.StatusNoContent)
			default:
				handle(s, w, r)
			}
		})}
		if certificate != nil {
			server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{*certificate}, MinVersion: tls.VersionTLS12}
			go server.ServeTLS(l, "", "")
		} else {
			go server.Serve(l)
		}
		return func() { server.Close() }
	}
}

// read decodes the JSON body of a request.
func (s *Store) read(r *http.Request, to any) error {
	data, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		return err
	}
	return json.Unmarshal(data, to)
}

func answer(w http.ResponseWriter, status int, media string, body any) {
	w.Header().Set("Content-Type", media)
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(body)
}

// hashOf is the hash with a digest of so many bytes.
func hashOf(digest []byte) (crypto.Hash, error) {
	switch len(digest) {
	case 32:
		return crypto.SHA256, nil
	case 48:
		return crypto.SHA384, nil
	}
	return 0, fmt.Errorf("a digest of %d bytes", len(digest))
}
