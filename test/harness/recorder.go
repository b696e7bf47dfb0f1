package harness

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// pollInterval is how often a Recorder asks.
const pollInterval = 100 * time.Millisecond

// The logs that a Recorder asks.
const (
	LogRekor = "rekor"
	LogCT    = "ct"
)

// A SeenTree is one signed tree, as an endpoint showed it.
type SeenTree struct {
	Log       string `json:"log"`
	Tree      string `json:"tree,omitempty"` // Rekor: its tree ID, decimal
	Size      uint64 `json:"size"`
	Root      []byte `json:"root"`
	Note      string `json:"note,omitempty"`      // Rekor: the checkpoint
	Timestamp uint64 `json:"timestamp,omitempty"` // CT: milliseconds
	Signature []byte `json:"signature,omitempty"` // CT

	Polled bool      `json:"polled"` // by the recorder, in this order; or else in the answer to a write
	Floor  uint64    `json:"floor"`  // the largest size that was known before it was asked for
	Since  time.Time `json:"since"`  // when the recorder last had another answer; zero where that says nothing
	Seen   time.Time `json:"seen"`   // by the servers' clock; zero where that was set meanwhile
}

// same says whether two trees are one.
func (a SeenTree) same(b SeenTree) bool {
	return a.Tree == b.Tree && a.Size == b.Size && a.Timestamp == b.Timestamp && bytes.Equal(a.Root, b.Root)
}

// A tree is that of a SeenTree.
type tree struct{ log, id string }

// A Recorder keeps every distinct signed tree that it was ever shown, across
// restarts of the server.
type Recorder struct {
	t      testing.TB
	server *Server
	clock  *Clock
	leaks  *Leaks
	file   *os.File
	client *http.Client

	mu    sync.Mutex // guards what follows
	trees []SeenTree
	last  map[string]SeenTree  // by log, as polled
	asked map[string]time.Time // when the last answer was asked for
	turns map[string]int       // of the clock then
	floor map[tree]uint64
	notes map[string]bool // checkpoints of answers that are kept

	polling sync.Mutex // held while the server is asked
	stop    func()
}

// NewRecorder makes a recorder for a server, or goes on with what is in a file.
// It asks nothing until Start.
func NewRecorder(t testing.TB, server *Server, path string) *Recorder {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	r := &Recorder{
		t: t, server: server, clock: server.options.Clock, leaks: server.options.Leaks, file: f,
		client: &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{}},
		last:   map[string]SeenTree{}, asked: map[string]time.Time{}, turns: map[string]int{},
		floor: map[tree]uint64{}, notes: map[string]bool{}, stop: func() {},
	}
	t.Cleanup(func() {
		r.Stop()
		f.Close()
	})
	readLines(t, f, func(line []byte) error {
		var s SeenTree
		err := json.Unmarshal(line, &s)
		r.trees = append(r.trees, s)
		if s.Polled {
			r.last[s.Log] = s
		} else {
			r.notes[s.Note] = true
		}
		r.floor[tree{s.Log, s.Tree}] = max(r.floor[tree{s.Log, s.Tree}], s.Size)
		return err
	})
	return r
}

// Start polls until Stop. While the server is gone it goes on asking.
func (r *Recorder) Start() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(pollInterval)
		defer tick.Stop()
		for {
			r.Poll(ctx)
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	}()
	var once sync.Once
	r.stop = func() {
		once.Do(func() {
			cancel()
			<-done
			r.client.CloseIdleConnections()
		})
	}
}

// Stop ends Start.
func (r *Recorder) Stop() { r.stop() }

// Poll asks both logs once. One poll is after the other: that is what says which
// of two answers is the later one.
func (r *Recorder) Poll(ctx context.Context) {
	r.polling.Lock()
	defer r.polling.Unlock()
	for _, log := range []string{LogRekor, LogCT} {
		r.poll(ctx, log)
	}
}

func (r *Recorder) poll(ctx context.Context, log string) {
	path := "/api/v1/log"
	if log == LogCT {
		path = "/ct/v1/get-sth"
	}
	r.mu.Lock()
	floors := maps.Clone(r.floor)
	r.mu.Unlock()
	asked, turns := r.clock.now()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.server.URL+path, nil)
	if err != nil {
		r.t.Error(err)
		return
	}
	res, err := r.client.Do(req)
	if err != nil {
		return
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return
	}
	r.leaks.answer(path, string(text))
	if res.StatusCode != http.StatusOK {
		return // an answer that promises nothing
	}
	shown, err := parseTree(log, text)
	if err != nil {
		r.t.Errorf("%s: %v: %s", path, err, text)
		return
	}
	shown.Polled, shown.Floor = true, floors[tree{log, shown.Tree}]
	seen, turned := r.clock.now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if turned == turns {
		shown.Seen = seen
		if before, ok := r.turns[log]; ok && before == turns {
			shown.Since = r.asked[log]
		}
	}
	r.asked[log], r.turns[log] = asked, turns
	if last, ok := r.last[log]; ok && last.same(shown) && shown.Size >= shown.Floor {
		return
	}
	r.last[log] = shown
	r.keep(shown)
}

// parseTree reads an answer of /api/v1/log or get-sth.
func parseTree(log string, text []byte) (SeenTree, error) {
	if log == LogRekor {
		var info struct{ SignedTreeHead string }
		if err := json.Unmarshal(text, &info); err != nil {
			return SeenTree{}, err
		}
		return parseNote(info.SignedTreeHead)
	}
	var sth struct {
		Size      uint64 `json:"tree_size"`
		Timestamp uint64 `json:"timestamp"`
		Root      []byte `json:"sha256_root_hash"`
		Signature []byte `json:"tree_head_signature"`
	}
	err := json.Unmarshal(text, &sth)
	return SeenTree{Log: LogCT, Size: sth.Size, Timestamp: sth.Timestamp, Root: sth.Root, Signature: sth.Signature}, err
}

// parseNote reads the text of a checkpoint; its signature is looked at by the
// checker.
func parseNote(note string) (SeenTree, error) {
	tree := SeenTree{Log: LogRekor, Note: note}
	lines := strings.SplitN(note, "\n", 4)
	if len(lines) < 4 {
		return tree, io.ErrUnexpectedEOF
	}
	tree.Tree = lines[0][strings.LastIndex(lines[0], " ")+1:]
	var err error
	if tree.Size, err = strconv.ParseUint(lines[1], 10, 64); err != nil {
		return tree, err
	}
	tree.Root, err = unbase64(lines[2])
	return tree, err
}

// Saw takes the checkpoint of an answer to a write.
func (r *Recorder) Saw(note string) {
	shown, err := parseNote(note)
	if err != nil {
		r.t.Errorf("checkpoint %q: %v", note, err)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.notes[note] {
		return
	}
	r.notes[note] = true
	r.keep(shown)
}

// keep appends a tree; r.mu is held.
func (r *Recorder) keep(shown SeenTree) {
	of := tree{shown.Log, shown.Tree}
	r.floor[of] = max(r.floor[of], shown.Size)
	r.trees = append(r.trees, shown)
	line, err := json.Marshal(shown)
	if err == nil {
		_, err = r.file.Write(append(line, '\n'))
	}
	if err != nil {
		r.t.Errorf("recorder: %v", err)
	}
}

// Trees returns what was recorded, from the given one on.
func (r *Recorder) Trees(from int) []SeenTree {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]SeenTree(nil), r.trees[from:]...)
}

// Size returns the largest size of a log that was shown, of all its trees together.
func (r *Recorder) Size(log string) (size uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for of, n := range r.floor {
		if of.log == log {
			size += n
		}
	}
	return size
}

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		return nil
	}
	return b
}
