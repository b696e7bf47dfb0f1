package e2e

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/sigstack/sigstack/test/harness"
)

// TestCrash kills the server in the middle of a burst of writes, three times.
// After each restart everything that was acknowledged, in this round or an
// earlier one, must be there as it was acknowledged, and the log must have grown
// out of every checkpoint that was handed out.
func TestCrash(t *testing.T) {
	t.Parallel()
	server := harness.Start(t)
	u := newUser(t, server, "walter@example.com")
	u.initialize("cosign3")
	u.signBlob("before", "--identity-token", u.token())
	u.signOldBlob("old")

	writer := newWriter(t)
	var older []states
	var entries []acknowledgement
	var chains [][]*x509.Certificate
	for round, enough := range []int{1, 60, 200} {
		older = append(older, statesOf(t, server))
		u.rekorCLI("loginfo") // keeps the state that it saw
		newEntries, newChains := writer.burst(server, enough, u.email, u.token())
		t.Logf("round %d: %d entries and %d certificates before SIGKILL", round, len(newEntries), len(newChains))
		entries = append(entries, newEntries...)
		chains = append(chains, newChains...)
		server.Restart()
		checkAcknowledged(t, server, entries)
		for _, chain := range chains {
			checkCertificate(t, server, chain[0], chain[1])
		}
		u.rekorCLI("loginfo") // and this one proves consistency with it
		u.verifyBlob("before")
		u.verifyOldBlob("old")
	}
	if len(chains) == 0 {
		t.Error("the server answered no request for a certificate before a SIGKILL")
	}
	// The server writes and signs as before.
	u.signBlob("after", "--identity-token", u.token())
	checkLog(t, server, older...)
	u.verifyBlob("before")
	u.verifyBlob("after")
}

// signOldBlob signs with cosign 2 into a bundle of the old format.
func (u *user) signOldBlob(name string) {
	u.t.Helper()
	u.Write(name, []byte("old blob of "+u.t.Name()+"\n"))
	u.Run("cosign2", args("sign-blob", "--yes", u.urls(), "--identity-token", u.token(), "--bundle", name+".json", name)...)
	u.verifyOldBlob(name)
}

func (u *user) verifyOldBlob(name string) {
	u.t.Helper()
	u.Run("cosign2", args("verify-blob", "--offline", "--bundle", name+".json", u.identity(), name)...)
}

// acknowledgement is an answer of 201 to a write.
type acknowledgement struct {
	uuid  string
	entry logEntry
}

// writer writes hashedrekord entries as fast as the server takes them.
type writer struct {
	t      *testing.T
	client *http.Client
	key    *ecdsa.PrivateKey
	public []byte // PEM
}

func newWriter(t *testing.T) *writer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 8}}
	t.Cleanup(client.CloseIdleConnections)
	return &writer{t: t, client: client, key: key, public: pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})}
}

// burst has eight goroutines log entries and two ask for certificates, and kills
// the server as soon as enough entries are acknowledged, while other requests
// are under way. It returns all that the server answered with success.
func (w *writer) burst(server *harness.Server, enough int, email, token string) (entries []acknowledgement, chains [][]*x509.Certificate) {
	w.t.Helper()
	var mu sync.Mutex
	reached := make(chan struct{})
	var writers sync.WaitGroup
	for range 8 {
		writers.Go(func() {
			for {
				ack, err := w.write(server)
				if w.ends(err) {
					return
				}
				mu.Lock()
				if entries = append(entries, ack); len(entries) == enough {
					close(reached)
				}
				mu.Unlock()
			}
		})
	}
	for range 2 {
		writers.Go(func() {
			for {
				chain, err := w.certify(server, email, token)
				if w.ends(err) {
					return
				}
				mu.Lock()
				chains = append(chains, chain)
				mu.Unlock()
			}
		})
	}
	ended := make(chan struct{})
	go func() { writers.Wait(); close(ended) }()
	select {
	case <-reached:
		server.Kill()
		<-ended
	case <-ended:
		w.t.Fatalf("the writers stopped after %d of %d entries, before the server was killed", len(entries), enough)
	}
	return entries, chains
}

// errGone is the error of a request that got no answer or half of one.
var errGone = errors.New("no answer")

// ends reports whether a writer has to stop. It fails the test if the server
// answered something else than success: a killed server says nothing.
func (w *writer) ends(err error) bool {
	if err != nil && !errors.Is(err, errGone) {
		w.t.Error(err)
	}
	return err != nil
}

// write logs one signature over a digest that nobody had before.
func (w *writer) write(server *harness.Server) (acknowledgement, error) {
	digest := make([]byte, sha256.Size)
	rand.Read(digest)
	signature, err := ecdsa.SignASN1(rand.Reader, w.key, digest)
	if err != nil {
		return acknowledgement{}, err
	}
	return w.log(server, digest, signature, w.public)
}

// log sends a hashedrekord with a signature over a SHA-256 digest. Verifier is
// the PEM of a public key or a certificate.
func (w *writer) log(server *harness.Server, digest, signature, verifier []byte) (acknowledgement, error) {
	body, err := json.Marshal(object{
		"kind": "hashedrekord", "apiVersion": "0.0.1",
		"spec": object{
			"data":      object{"hash": object{"algorithm": "sha256", "value": hex.EncodeToString(digest)}},
			"signature": object{"content": signature, "publicKey": object{"content": verifier}},
		},
	})
	if err != nil {
		return acknowledgement{}, err
	}
	res, err := w.client.Post(server.URL+"/api/v1/log/entries", "application/json", bytes.NewReader(body))
	if err != nil {
		return acknowledgement{}, fmt.Errorf("%w: %w", errGone, err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return acknowledgement{}, fmt.Errorf("%w: %w", errGone, err)
	}
	if res.StatusCode != http.StatusCreated {
		return acknowledgement{}, fmt.Errorf("%s: %s", res.Status, text)
	}
	var answer map[string]logEntry
	if err := json.Unmarshal(text, &answer); err != nil {
		return acknowledgement{}, err
	}
	for uuid, entry := range answer {
		return acknowledgement{uuid, entry}, nil
	}
	return acknowledgement{}, fmt.Errorf("no entry in the answer")
}

// checkAcknowledged compares every acknowledged write with the log as it is.
func checkAcknowledged(t *testing.T, server *harness.Server, acknowledged []acknowledgement) {
	t.Helper()
	key := rekorKey(t, server)
	used := map[int]string{}
	var sizes []uint64
	roots := map[uint64]string{} // by size, as handed out
	for _, ack := range acknowledged {
		var now map[string]logEntry
		getJSON(t, server.URL+"/api/v1/log/entries/"+ack.uuid, &now)
		entry, ok := now[ack.uuid]
		if !ok || entry.LogIndex != ack.entry.LogIndex || !bytes.Equal(entry.Body, ack.entry.Body) || entry.IntegratedTime != ack.entry.IntegratedTime {
			t.Fatalf("entry %s was acknowledged as\n%+v\nand is now\n%+v", ack.uuid, ack.entry, entry)
		}
		if other, ok := used[entry.LogIndex]; ok && other != ack.uuid {
			t.Fatalf("index %d was given to %s and to %s", entry.LogIndex, other, ack.uuid)
		}
		used[entry.LogIndex] = ack.uuid
		verifyEntry(t, key, ack.entry) // what was handed out then
		verifyEntry(t, key, entry)     // what is handed out now
		p := ack.entry.Verification.InclusionProof
		if root, ok := roots[p.TreeSize]; ok && root != p.RootHash {
			t.Fatalf("two roots for tree size %d: %s and %s", p.TreeSize, root, p.RootHash)
		} else if !ok {
			sizes = append(sizes, p.TreeSize)
		}
		roots[p.TreeSize] = p.RootHash
	}

	// Every tree that was handed out is a beginning of this one.
	var log struct {
		TreeSize uint64
		RootHash string
	}
	getJSON(t, server.URL+"/api/v1/log", &log)
	if largest := slices.Max(sizes); log.TreeSize < largest {
		t.Fatalf("tree size %d, but %d was handed out before", log.TreeSize, largest)
	}
	for _, size := range sizes {
		var answer struct {
			Hashes   []string
			RootHash string
		}
		getJSON(t, fmt.Sprintf("%s/api/v1/log/proof?firstSize=%d&lastSize=%d", server.URL, size, log.TreeSize), &answer)
		if err := proof.VerifyConsistency(rfc6962.DefaultHasher, size, log.TreeSize, unhexAll(t, answer.Hashes), unhex(t, roots[size]), unhex(t, log.RootHash)); err != nil {
			t.Fatalf("the tree of size %d is not a beginning of the one of size %d: %v", size, log.TreeSize, err)
		}
	}
}

// verifyEntry checks the two promises at an entry: the signed entry timestamp,
// and the inclusion in the tree of a signed checkpoint.
func verifyEntry(t *testing.T, key *ecdsa.PublicKey, entry logEntry) {
	t.Helper()
	// The members are in the order and form of RFC 8785.
	signed, err := json.Marshal(struct {
		Body           []byte `json:"body"`
		IntegratedTime int64  `json:"integratedTime"`
		LogID          string `json:"logID"`
		LogIndex       int    `json:"logIndex"`
	}{entry.Body, entry.IntegratedTime, entry.LogID, entry.LogIndex})
	if err != nil {
		t.Fatal(err)
	}
	if digest := sha256.Sum256(signed); !ecdsa.VerifyASN1(key, digest[:], entry.Verification.SignedEntryTimestamp) {
		t.Fatalf("the signed entry timestamp of index %d does not verify", entry.LogIndex)
	}
	p := entry.Verification.InclusionProof
	leaf := rfc6962.DefaultHasher.HashLeaf(entry.Body)
	if err := proof.VerifyInclusion(rfc6962.DefaultHasher, p.LogIndex, p.TreeSize, leaf, unhexAll(t, p.Hashes), unhex(t, p.RootHash)); err != nil {
		t.Fatalf("the inclusion proof of index %d: %v", entry.LogIndex, err)
	}
	// A checkpoint is a signed note: text, an empty line, and one signature
	// line with "name base64(4 bytes of key hash || signature)".
	text, line, ok := strings.Cut(strings.TrimSuffix(p.Checkpoint, "\n"), "\n\n")
	lines := strings.Split(text, "\n")
	if !ok || len(lines) < 3 || lines[1] != fmt.Sprint(p.TreeSize) || lines[2] != encodeBase64(unhex(t, p.RootHash)) {
		t.Fatalf("the checkpoint of index %d does not hold size %d and root %s:\n%s", entry.LogIndex, p.TreeSize, p.RootHash, p.Checkpoint)
	}
	signature := unbase64(t, line[strings.LastIndex(line, " ")+1:])
	if digest := sha256.Sum256([]byte(text + "\n")); len(signature) < 4 || !ecdsa.VerifyASN1(key, digest[:], signature[4:]) {
		t.Fatalf("the checkpoint of index %d does not verify:\n%s", entry.LogIndex, p.Checkpoint)
	}
}

func rekorKey(t *testing.T, server *harness.Server) *ecdsa.PublicKey {
	t.Helper()
	block, _ := pem.Decode(get(t, server.URL+"/api/v1/log/publicKey"))
	if block == nil {
		t.Fatal("the public key of the log is not PEM")
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return key.(*ecdsa.PublicKey)
}

func unhex(t *testing.T, text string) []byte {
	t.Helper()
	data, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func unhexAll(t *testing.T, texts []string) [][]byte {
	t.Helper()
	all := make([][]byte, len(texts))
	for i, text := range texts {
		all[i] = unhex(t, text)
	}
	return all
}

func unbase64(t *testing.T, text string) []byte {
	t.Helper()
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func encodeBase64(data []byte) string { return base64.StdEncoding.EncodeToString(data) }
