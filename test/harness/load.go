package harness

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/transparency-dev/merkle/rfc6962"
)

// A Mix says how many of a hundred requests are of each kind; the rest are new
// entries.
type Mix struct{ Duplicates, Invalid, Certificates, Searches int }

// Load sends requests in a closed loop: each writer waits for its answer, writes
// it to the ledger, and sends the next. What it sends follows from its seed.
type Load struct {
	Ledger   *Ledger
	Recorder *Recorder // may be nil
	Mix      Mix
	Email    string // in the tokens

	// Pause is how long a writer of Start waits after an answer of 503.
	Pause time.Duration

	t      testing.TB
	server *Server
	client *http.Client
	keys   []*signKey
	seed   uint64
	next   atomic.Uint64 // numbers requests, so that no two entries are equal

	mu     sync.Mutex // guards what follows
	rng    *rand.Rand
	token  string
	minted time.Time // by the servers' clock

	stop    chan struct{}
	running sync.WaitGroup
}

type signKey struct {
	private *ecdsa.PrivateKey
	pem     []byte
}

// loadKeys is how many keys sign entries.
const loadKeys = 8

// NewLoad returns a load for a server. Equal seeds give equal requests; two
// loads of one log need two seeds.
func NewLoad(t testing.TB, server *Server, ledger *Ledger, recorder *Recorder, seed uint64) *Load {
	t.Helper()
	l := &Load{
		Ledger: ledger, Recorder: recorder, Email: "load@example.com",
		Mix: Mix{Duplicates: 10, Invalid: 10, Certificates: 5, Searches: 5},
		t:   t, server: server, seed: seed,
		client: &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 1024}},
		rng:    rand.New(rand.NewPCG(seed, 1)), stop: make(chan struct{}),
	}
	t.Cleanup(l.client.CloseIdleConnections)
	for i := range loadKeys {
		key := l.key(fmt.Sprintf("entries %d", i))
		l.keys = append(l.keys, key)
	}
	return l
}

// key returns a P-256 key that follows from the seed and a name.
func (l *Load) key(name string) *signKey {
	for n := 0; ; n++ {
		raw := sha256.Sum256(fmt.Appendf(nil, "key %d of %s, seed %d", n, name, l.seed))
		private, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), raw[:])
		if err != nil {
			continue // not below the order of the curve
		}
		spki, err := x509.MarshalPKIXPublicKey(private.Public())
		if err != nil {
			l.t.Fatal(err)
		}
		return &signKey{private, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki})}
	}
}

// sign signs deterministically (RFC 6979).
func (k *signKey) sign(digest []byte) []byte {
	sig, err := k.private.Sign(nil, digest, crypto.SHA256)
	if err != nil {
		panic(err) // a P-256 key signs every digest
	}
	return sig
}

// Start runs n writers until Stop.
func (l *Load) Start(n int) {
	l.stop = make(chan struct{})
	for range n {
		l.running.Go(func() {
			for {
				select {
				case <-l.stop:
					return
				default:
				}
				switch r := l.One(l.kind()); {
				case r.Status == 0:
					l.awaitServer()
				case r.Status == http.StatusServiceUnavailable && l.Pause > 0:
					timer := time.NewTimer(l.Pause)
					select {
					case <-timer.C:
					case <-l.stop:
						timer.Stop()
					}
				}
			}
		})
	}
}

// Stop lets each writer end its request, and returns when all have.
func (l *Load) Stop() {
	close(l.stop)
	l.running.Wait()
	l.client.CloseIdleConnections()
}

// awaitServer returns when something listens, or at Stop.
func (l *Load) awaitServer() {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if conn, err := net.Dial("tcp", strings.TrimPrefix(l.server.URL, "http://")); err == nil {
			conn.Close()
			return
		}
		select {
		case <-tick.C:
		case <-l.stop:
			return
		}
	}
}

// kind draws the kind of the next request.
func (l *Load) kind() string {
	l.mu.Lock()
	n := l.rng.IntN(100)
	l.mu.Unlock()
	for _, k := range []struct {
		kind  string
		share int
	}{{KindDuplicate, l.Mix.Duplicates}, {KindInvalid, l.Mix.Invalid}, {KindCertificate, l.Mix.Certificates}, {KindSearch, l.Mix.Searches}} {
		if n -= k.share; n < 0 {
			return k.kind
		}
	}
	return KindEntry
}

// Entries writes n entries, several at a time, and fails the test unless all are
// taken.
func (l *Load) Entries(n int) { l.parallel(KindEntry, n, http.StatusCreated) }

// Certificates does the same with certificates.
func (l *Load) Certificates(n int) { l.parallel(KindCertificate, n, http.StatusOK) }

func (l *Load) parallel(kind string, n, want int) {
	l.t.Helper()
	l.Burst(kind, n, min(n, 16), func(r Record) {
		if r.Status != want {
			l.t.Errorf("%s: status %d, want %d: %s", kind, r.Status, want, r.Error)
		}
	})
}

// Burst sends n requests of a kind, at most width at a time, and hands each
// record to f, one at a time.
func (l *Load) Burst(kind string, n, width int, f func(Record)) {
	var left atomic.Int64
	left.Store(int64(n))
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range width {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				r := l.One(kind)
				mu.Lock()
				f(r)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	l.client.CloseIdleConnections()
}

// One sends one request and returns its record, which is in the ledger then.
func (l *Load) One(kind string) Record {
	n := l.next.Add(1)
	var r Record
	switch kind {
	case KindDuplicate:
		if old, ok := l.draw(func(r Record) bool { return r.Kind == KindEntry }); ok {
			r = l.entry(Record{Kind: KindDuplicate, Body: old.Body})
			break
		}
		fallthrough // nothing was written yet
	case KindEntry:
		r = l.entry(Record{Kind: KindEntry, Body: l.newEntry(n)})
	case KindInvalid:
		r = l.invalid(n)
	case KindCertificate:
		r = l.certificate(n)
	case KindSearch:
		old, ok := l.draw(func(r Record) bool { return r.Kind == KindEntry && r.Status == http.StatusCreated })
		if !ok {
			return l.One(KindEntry)
		}
		r = l.search(old)
	default:
		panic("load: kind " + kind)
	}
	if err := l.Ledger.Add(r); err != nil {
		l.t.Errorf("ledger: %v", err)
	}
	return r
}

// Again sends the entry of a record once more.
func (l *Load) Again(old Record) Record {
	r := l.entry(Record{Kind: KindDuplicate, Body: old.Body})
	if err := l.Ledger.Add(r); err != nil {
		l.t.Errorf("ledger: %v", err)
	}
	return r
}

// draw returns a random record of those that f accepts, if it meets one soon.
func (l *Load) draw(f func(Record) bool) (Record, bool) {
	for range 20 {
		if n := l.Ledger.Len(); n > 0 {
			l.mu.Lock()
			i := l.rng.IntN(n)
			l.mu.Unlock()
			if r := l.Ledger.at(i); f(r) {
				return r, true
			}
		}
	}
	return Record{}, false
}

func (l *Ledger) at(i int) Record {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.records[i]
}

// newEntry returns a hashedrekord over a digest that nobody had before. It is
// spelled canonically (RFC 8785), so that its leaf hash is known.
func (l *Load) newEntry(n uint64) []byte {
	digest := sha256.Sum256(fmt.Appendf(nil, "artifact %d of seed %d", n, l.seed))
	key := l.keys[n%loadKeys]
	return hashedRekord(digest[:], key.sign(digest[:]), key.pem)
}

func hashedRekord(digest, signature, key []byte) []byte {
	return fmt.Appendf(nil, `{"apiVersion":"0.0.1","kind":"hashedrekord","spec":{"data":{"hash":{"algorithm":"sha256","value":"%x"}},"signature":{"content":"%s","publicKey":{"content":"%s"}}}}`,
		digest, base64.StdEncoding.EncodeToString(signature), base64.StdEncoding.EncodeToString(key))
}

// post sends a request and fills in what every record has.
func (l *Load) post(r *Record, path, media string, header http.Header, body []byte) (text []byte, location string) {
	digest := sha256.Sum256(body)
	r.Request = hex.EncodeToString(digest[:])
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, l.server.URL+path, bytes.NewReader(body))
	if err != nil {
		l.t.Fatal(err)
	}
	req.Header.Set("Content-Type", media)
	for name, values := range header {
		req.Header[name] = values
	}
	// A connection that the server closed just then would have the client send
	// the request again by itself, and hide the outcome of the first.
	req.GetBody = nil
	r.Sent = l.server.options.Clock.Now()
	defer func() { r.Received = l.server.options.Clock.Now() }()
	res, err := l.client.Do(req)
	if err == nil {
		text, err = io.ReadAll(res.Body)
		res.Body.Close()
	}
	if err != nil {
		r.Error = err.Error()
		return nil, ""
	}
	r.Status, r.Retry = res.StatusCode, res.Header.Get("Retry-After")
	leaks := l.server.options.Leaks
	leaks.answer(path, string(text))
	leaks.answer(path+" headers", fmt.Sprint(res.Header))
	if r.Status >= 300 {
		r.Error = string(text)
	}
	return text, res.Header.Get("Location")
}

const pathEntries = "/api/v1/log/entries"

func (l *Load) entry(r Record) Record {
	r.Leaf = rfc6962.DefaultHasher.HashLeaf(r.Body)
	text, location := l.post(&r, pathEntries, "application/json", nil, r.Body)
	switch r.Status {
	case http.StatusCreated:
		var answer map[string]Answer
		if err := json.Unmarshal(text, &answer); err != nil || len(answer) != 1 {
			r.Error = fmt.Sprintf("%d entries in the answer (%v)", len(answer), err)
			return r
		}
		for uuid, a := range answer {
			r.UUID, r.Answer = uuid, &a
		}
		if l.Recorder != nil {
			l.Recorder.Saw(r.Answer.Verification.InclusionProof.Checkpoint)
		}
	case http.StatusConflict:
		r.UUID = location[strings.LastIndex(location, "/")+1:]
	}
	return r
}

// invalid sends one of the things that must be refused.
func (l *Load) invalid(n uint64) Record {
	r := Record{Kind: KindInvalid}
	body := l.newEntry(n)
	other := l.newEntry(n + 1<<40)
	switch n / 7 % 7 {
	case 0: // a signature over something else
		body = bytes.Replace(body, body[bytes.Index(body, []byte(`"value":"`)):bytes.Index(body, []byte(`"}},"signature"`))],
			other[bytes.Index(other, []byte(`"value":"`)):bytes.Index(other, []byte(`"}},"signature"`))], 1)
	case 1: // cut off
		body = body[:len(body)/2]
	case 2: // no such kind
		body = bytes.Replace(body, []byte("hashedrekord"), []byte("hashedrecord"), 1)
	case 3: // no such member
		body = bytes.Replace(body, []byte(`"algorithm":"sha256"`), []byte(`"algorithm":"md5"`), 1)
	case 4: // a key that is none
		body = bytes.Replace(body, []byte(`"publicKey":{"content":"LS0`), []byte(`"publicKey":{"content":"AAA`), 1)
	case 5: // a certificate without a token
		l.post(&r, "/api/v2/signingCert", "application/json", nil, []byte(`{"credentials":{"oidcIdentityToken":"a.b.c"}}`))
		return r
	case 6: // a certificate for a key that was not proven
		if l.Token() == "" {
			r.Error = "the server is gone, and there is no token yet"
			return r
		}
		key, wrong := l.key(fmt.Sprintf("unproven %d", n)), sha256.Sum256([]byte("somebody else"))
		l.post(&r, "/api/v2/signingCert", "application/json", nil, l.certificateRequest(key, wrong[:]))
		return r
	}
	r.Leaf = rfc6962.DefaultHasher.HashLeaf(body)
	l.post(&r, pathEntries, "application/json", nil, body)
	return r
}

func (l *Load) certificateRequest(key *signKey, subject []byte) []byte {
	body, err := json.Marshal(map[string]any{
		"credentials": map[string]any{"oidcIdentityToken": l.Token()},
		"publicKeyRequest": map[string]any{
			"publicKey":         map[string]any{"algorithm": "ECDSA", "content": string(key.pem)},
			"proofOfPossession": key.sign(subject),
		},
	})
	if err != nil {
		l.t.Fatal(err)
	}
	return body
}

func (l *Load) certificate(n uint64) Record {
	key := l.key(fmt.Sprintf("certificate %d", n))
	block, _ := pem.Decode(key.pem)
	spki := sha256.Sum256(block.Bytes)
	r := Record{Kind: KindCertificate, PublicKey: hex.EncodeToString(spki[:]), Email: l.Email, Issuer: l.server.Public + "/oidc"}
	if l.Token() == "" {
		r.Error = "the server is gone, and there is no token yet"
		return r
	}
	subject := sha256.Sum256([]byte(l.Email))
	text, _ := l.post(&r, "/api/v2/signingCert", "application/json", nil, l.certificateRequest(key, subject[:]))
	if r.Status != http.StatusOK {
		return r
	}
	var answer struct {
		SignedCertificateEmbeddedSct struct {
			Chain struct{ Certificates []string }
		}
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		r.Error = err.Error()
		return r
	}
	for _, text := range answer.SignedCertificateEmbeddedSct.Chain.Certificates {
		if block, _ := pem.Decode([]byte(text)); block != nil {
			r.Chain = append(r.Chain, block.Bytes)
		}
	}
	return r
}

func (l *Load) search(old Record) Record {
	r := Record{Kind: KindSearch, UUID: old.UUID}
	value, _, _ := strings.Cut(string(old.Body[bytes.Index(old.Body, []byte(`"value":"`))+len(`"value":"`):]), `"`)
	text, _ := l.post(&r, "/api/v1/index/retrieve", "application/json", nil, fmt.Appendf(nil, `{"hash":"sha256:%s"}`, value))
	if r.Status == http.StatusOK {
		if err := json.Unmarshal(text, &r.Found); err != nil {
			r.Error = err.Error()
		}
	}
	return r
}

// tokenAge is when a token of the development issuer, which is valid for ten
// minutes, is replaced.
const tokenAge = 5 * time.Minute

// Token returns an ID token of the development issuer. It is the secret that is
// looked for in logs and answers. While the server is gone it is the old one,
// or none.
func (l *Load) Token() string {
	now := l.server.options.Clock.Now()
	l.mu.Lock()
	token, age := l.token, now.Sub(l.minted)
	l.mu.Unlock()
	if token != "" && age >= 0 && age < tokenAge {
		return token
	}
	fresh, err := l.mint()
	if err != nil {
		return token
	}
	if leaks := l.server.options.Leaks; leaks != nil {
		leaks.Secret(fresh[strings.LastIndex(fresh, ".")+1:], "the signature of a token")
		leaks.Secret(fresh[:strings.LastIndex(fresh, ".")], "a token")
	}
	l.mu.Lock()
	l.token, l.minted = fresh, now
	l.mu.Unlock()
	return fresh
}

func (l *Load) mint() (string, error) {
	form := url.Values{"email": {l.Email}}
	req, err := http.NewRequest(http.MethodPost, l.server.URL+"/oidc/mint", strings.NewReader(form.Encode()))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("X-Sigstack-Dev", "1")
	res, err := l.client.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	token, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = errors.New(res.Status)
	}
	return strings.TrimSpace(string(token)), err
}
