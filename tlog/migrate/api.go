package migrate

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sigstack/sigstack/tlog"
	"github.com/sigstack/sigstack/tlog/checkpoint"
)

const (
	// askAtOnce is how many entries one request may ask for, by the API.
	askAtOnce = 10

	// askers is how many requests are under way at a time.
	askers = 8

	// maxAnswer bounds an answer, in bytes: ten entries with their attestations.
	maxAnswer = 128 << 20

	// maxSmall bounds the other answers.
	maxSmall = 1 << 20

	// attempts is how often something is asked for that a server fails to answer.
	// The time between two of them begins with pause, and doubles.
	attempts = 5
	pause    = time.Second

	// maxPause bounds how long a server may have us wait.
	maxPause = time.Minute

	// maxTrees bounds the trees of a log.
	maxTrees = 100
)

// An API is the Rekor v1 API of a server.
type API struct {
	base   string
	client *http.Client
	wait   func(ctx context.Context, d time.Duration) error
}

// NewAPI returns the API below a URL. What is fetched is bounded, the time of one
// request is not, but for that of the client.
func NewAPI(base string, client *http.Client) (*API, error) {
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("the URL of the log must be http(s)://host[:port][/path]")
	}
	return &API{base: strings.TrimSuffix(base, "/"), client: client, wait: wait}, nil
}

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// treeInfo is what /api/v1/log says of a tree.
type treeInfo struct {
	RootHash       string `json:"rootHash"`
	TreeSize       uint64 `json:"treeSize"`
	SignedTreeHead string `json:"signedTreeHead"`
	TreeID         string `json:"treeID"`
}

// Trees returns the trees of the log that have entries, the oldest first, as large as
// they are now. The head of each is signed by the key that the server shows for it.
func (a *API) Trees(ctx context.Context) ([]Tree, error) {
	body, err := a.ask(ctx, http.MethodGet, "/api/v1/log", nil, maxSmall)
	if err != nil {
		return nil, err
	}
	infos, err := parseLog(body)
	if err != nil {
		return nil, fmt.Errorf("%s/api/v1/log: %w", a.base, err)
	}
	var trees []Tree
	first := uint64(0)
	for _, info := range infos {
		tree, err := a.tree(ctx, info, first)
		if err != nil {
			return nil, fmt.Errorf("tree %.100q of %s: %w", info.TreeID, a.base, err)
		}
		first += tree.Size
		trees = append(trees, tree)
	}
	return trees, nil
}

// parseLog returns the trees with entries that an answer of /api/v1/log speaks of, the
// oldest first.
func parseLog(body []byte) ([]treeInfo, error) {
	var log struct {
		treeInfo
		InactiveShards [maxTrees]treeInfo `json:"inactiveShards"` // with one more place than it may fill
	}
	if err := json.Unmarshal(body, &log); err != nil {
		return nil, err
	}
	if log.InactiveShards[maxTrees-1] != (treeInfo{}) {
		return nil, fmt.Errorf("the log has more than %d trees", maxTrees)
	}
	var infos []treeInfo
	total := uint64(0)
	for _, info := range append(log.InactiveShards[:], log.treeInfo) {
		if info.TreeSize == 0 {
			continue
		}
		if total += info.TreeSize; info.TreeSize > math.MaxInt64 || total > math.MaxInt64 {
			return nil, errors.New("the trees are larger than a log can be")
		}
		infos = append(infos, info)
	}
	return infos, nil
}

// tree returns a tree, whose first entry has a virtual index.
func (a *API) tree(ctx context.Context, info treeInfo, first uint64) (Tree, error) {
	id, err := strconv.ParseInt(info.TreeID, 10, 64)
	if err != nil || id <= 0 {
		return Tree{}, errors.New("its ID is no positive number of 63 bits")
	}
	body, err := a.ask(ctx, http.MethodGet, "/api/v1/log/publicKey?treeID="+info.TreeID, nil, maxSmall)
	if err != nil {
		return Tree{}, err
	}
	key, keyID, err := parseKey(body)
	if err != nil {
		return Tree{}, err
	}
	root, err := info.verify(key)
	if err != nil {
		return Tree{}, err
	}
	source := &apiTree{api: a, id: uint64(id), first: first, logID: hex.EncodeToString(keyID[:])}
	return Tree{ID: id, Size: info.TreeSize, Root: root, Key: key, Source: source}, nil
}

// verify returns the root of a tree, which the key has signed together with its size.
func (i treeInfo) verify(key *ecdsa.PublicKey) (tlog.Hash, error) {
	origin, _, _ := strings.Cut(i.SignedTreeHead, "\n")
	name, of, ok := strings.Cut(origin, " - ")
	if !ok || of != i.TreeID {
		return tlog.Hash{}, errors.New("the origin of its signed tree head is not a name with the tree's ID")
	}
	verifier, err := checkpoint.NewVerifier(name, key)
	if err != nil {
		return tlog.Hash{}, fmt.Errorf("its signed tree head: %w", err)
	}
	head, err := verifier.Open([]byte(i.SignedTreeHead))
	if err != nil {
		return tlog.Hash{}, fmt.Errorf("its signed tree head: %w", err)
	}
	if head.Origin != origin || head.Size != i.TreeSize || hex.EncodeToString(head.Root[:]) != strings.ToLower(i.RootHash) {
		return tlog.Hash{}, errors.New("its size and root are not those of its signed tree head")
	}
	return head.Root, nil
}

// parseKey returns a public key in PEM, with its SHA-256.
func parseKey(text []byte) (*ecdsa.PublicKey, [sha256.Size]byte, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, [sha256.Size]byte{}, errors.New("its public key is not PEM")
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, [sha256.Size]byte{}, fmt.Errorf("its public key: %w", err)
	}
	key, ok := parsed.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, [sha256.Size]byte{}, errors.New("its public key is not ECDSA P-256, the one kind that all clients verify")
	}
	return key, sha256.Sum256(block.Bytes), nil
}

// An apiTree is a tree behind an API.
type apiTree struct {
	api   *API
	id    uint64
	first uint64 // the virtual index of its first entry
	logID string
}

// Entries returns entries, ten with each request.
func (t *apiTree) Entries(ctx context.Context, begin uint64, most int) ([]Entry, error) {
	entries := make([]Entry, most)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(askers)
	for at := 0; at < most; at += askAtOnce {
		group.Go(func() error { return t.fetch(ctx, begin+uint64(at), entries[at:min(at+askAtOnce, most)]) })
	}
	return entries, group.Wait()
}

// apiEntry is an entry in an answer.
type apiEntry struct {
	Body           []byte `json:"body"`
	IntegratedTime int64  `json:"integratedTime"`
	LogID          string `json:"logID"`
	LogIndex       uint64 `json:"logIndex"`
	Attestation    struct {
		Data []byte `json:"data"`
	} `json:"attestation"`
}

// fetch fetches the entries from begin on that fit into a list.
func (t *apiTree) fetch(ctx context.Context, begin uint64, into []Entry) error {
	var query struct {
		LogIndexes []uint64 `json:"logIndexes"`
	}
	for i := range into {
		query.LogIndexes = append(query.LogIndexes, t.first+begin+uint64(i))
	}
	body, err := json.Marshal(query)
	if err != nil {
		return err
	}
	answer, err := t.api.ask(ctx, http.MethodPost, "/api/v1/log/entries/retrieve", body, maxAnswer)
	if err != nil {
		return err
	}
	return t.parseEntries(answer, begin, into)
}

// parseEntries reads an answer with the entries from begin on, in any order: a list of
// objects, each with a UUID and its entry.
func (t *apiTree) parseEntries(answer []byte, begin uint64, into []Entry) error {
	had := make([]bool, len(into))
	d := json.NewDecoder(bytes.NewReader(answer))
	err := expect(d, json.Delim('['))
	for err == nil && d.More() {
		err = t.parseEntry(d, begin, into, had)
	}
	if err == nil {
		err = expect(d, json.Delim(']'))
	}
	if _, end := d.Token(); err == nil && end != io.EOF {
		err = errors.New("there is something behind the list of entries")
	}
	if err != nil {
		return fmt.Errorf("the answer of the server: %w", err)
	}
	if i := slices.Index(had, false); i >= 0 {
		return fmt.Errorf("the server does not return the entry with the index %d", t.first+begin+uint64(i))
	}
	return nil
}

// expect takes what has to come next.
func expect(d *json.Decoder, want json.Token) error {
	switch got, err := d.Token(); {
	case err != nil:
		return err
	case got != want:
		return fmt.Errorf("%v comes where %v should", got, want)
	}
	return nil
}

func (t *apiTree) parseEntry(d *json.Decoder, begin uint64, into []Entry, had []bool) error {
	if err := expect(d, json.Delim('{')); err != nil {
		return err
	}
	uuid, err := d.Token()
	if err != nil {
		return err
	}
	var e apiEntry
	if err := d.Decode(&e); err != nil {
		return err
	}
	if err := expect(d, json.Delim('}')); err != nil {
		return err
	}
	i := e.LogIndex - t.first - begin
	if e.LogIndex < t.first+begin || i >= uint64(len(into)) || had[i] {
		return fmt.Errorf("it has the entry with the index %d, which was not asked for, or twice", e.LogIndex)
	}
	had[i] = true
	hash := tlog.LeafHash(e.Body)
	if leaf := hex.EncodeToString(hash[:]); uuid != leaf && uuid != fmt.Sprintf("%016x", t.id)+leaf {
		return fmt.Errorf("the entry with the index %d has the UUID %.100q, which is not that of its body in tree %d", e.LogIndex, uuid, t.id)
	}
	if e.LogID != t.logID {
		return fmt.Errorf("the entry with the index %d is signed by the log %.100q, not by %s", e.LogIndex, e.LogID, t.logID)
	}
	into[i] = Entry{
		Record:      tlog.Record{Entry: tlog.Entry{Index: begin + i, Time: time.Unix(e.IntegratedTime, 0).UTC(), Value: e.Body}, ID: hash},
		Attestation: e.Attestation.Data,
	}
	return nil
}

// ask returns the body of an answer. A server that fails, or has us wait, is asked
// again.
func (a *API) ask(ctx context.Context, method, path string, body []byte, most int64) ([]byte, error) {
	for n := 1; ; n++ {
		answer, after, err := a.askOnce(ctx, method, path, body, most)
		if err == nil {
			return answer, nil
		}
		if err = fmt.Errorf("%s %s%s: %w", method, a.base, path, err); n == attempts || after < 0 {
			return nil, err
		}
		if a.wait(ctx, min(max(after, pause<<(n-1)), maxPause)) != nil {
			return nil, err
		}
	}
}

// askOnce asks once. With an error it returns how long to wait before the next time,
// less than 0 where that would not help.
func (a *API) askOnce(ctx context.Context, method, path string, body []byte, most int64) (answer []byte, after time.Duration, err error) {
	r, err := http.NewRequestWithContext(ctx, method, a.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, -1, err
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	resp, err := a.client.Do(r)
	if err != nil {
		var failed *url.Error
		if errors.As(err, &failed) { // which says method and URL again
			err = failed.Err
		}
		return nil, 0, err
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(resp.Body, most+1))
	switch {
	case err != nil:
		return nil, 0, err
	case int64(len(answer)) > most:
		return nil, -1, fmt.Errorf("the answer has more than %d bytes", most)
	case resp.StatusCode == http.StatusOK:
		return answer, 0, nil
	}
	err = fmt.Errorf("status %d: %.200q", resp.StatusCode, bytes.TrimSpace(answer))
	if resp.StatusCode != http.StatusTooManyRequests && resp.StatusCode < http.StatusInternalServerError {
		return nil, -1, err
	}
	seconds, _ := strconv.ParseUint(resp.Header.Get("Retry-After"), 10, 16) // or 0
	return nil, time.Duration(seconds) * time.Second, err
}
