package faults

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sigstack/sigstack/test/harness"
)

// A hook is a webhook that records what it has taken, in order, and sometimes
// answers 500, hangs, or closes the connection, with and without having read.
type hook struct {
	*httptest.Server
	t testing.TB

	mu     sync.Mutex
	rng    *rand.Rand
	faults int // that are left
	hangs  int
	down   bool
	taken  []event
	failed map[string]int
	closed chan struct{}
}

// An event is what a receiver reads of one.
type event struct {
	ID    string
	Index uint64
}

// UnmarshalJSON reads the index out of the data, as text or as an object.
func (e *event) UnmarshalJSON(text []byte) error {
	var all struct {
		ID, Type string
		Data     json.RawMessage
	}
	if err := json.Unmarshal(text, &all); err != nil {
		return err
	}
	data := []byte(all.Data)
	if bytes.HasPrefix(data, []byte(`"`)) {
		var inner string
		if err := json.Unmarshal(data, &inner); err != nil {
			return err
		}
		data = []byte(inner)
	}
	var entry struct {
		LogIndex uint64 `json:",string"`
	}
	if all.Type != "dev.sigstore.rekor.events.v1.NewEntry" {
		return fmt.Errorf("an event of type %q", all.Type)
	}
	*e = event{ID: all.ID}
	err := json.Unmarshal(data, &entry)
	e.Index = entry.LogIndex
	return err
}

func newHook(t testing.TB, seed uint64, faults, hangs int) *hook {
	h := &hook{t: t, rng: rand.New(rand.NewPCG(seed, 7)), faults: faults, hangs: hangs, failed: map[string]int{}, closed: make(chan struct{})}
	h.Server = httptest.NewServer(h)
	t.Cleanup(h.Close)
	t.Cleanup(func() { close(h.closed) })
	return h
}

// fault draws what happens to a request: nothing, most of the time.
func (h *hook) fault() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	fault := ""
	switch {
	case h.down:
		fault = "500"
	case h.faults > 0 && h.rng.IntN(50) == 0:
		fault = []string{"500", "closes", "closes before it reads"}[h.rng.IntN(3)]
		h.faults--
	case h.hangs > 0 && h.rng.IntN(50) == 0:
		fault = "hangs"
		h.hangs--
	}
	h.failed[fault]++
	return fault
}

func (h *hook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	fault := h.fault()
	if fault == "closes before it reads" {
		panic(http.ErrAbortHandler)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // of a server that was killed
	}
	var events []event
	if bytes.HasPrefix(body, []byte("[")) {
		err = json.Unmarshal(body, &events)
	} else {
		events = make([]event, 1)
		err = json.Unmarshal(body, &events[0])
	}
	if err != nil {
		h.t.Errorf("%v: %s", err, body)
	}
	switch fault {
	case "500":
		w.WriteHeader(http.StatusInternalServerError)
	case "closes":
		panic(http.ErrAbortHandler)
	case "hangs":
		select {
		case <-r.Context().Done():
		case <-h.closed:
		}
	default:
		h.mu.Lock()
		h.taken = append(h.taken, events...)
		h.mu.Unlock()
	}
}

// setDown has every request answered with 500, or not.
func (h *hook) setDown(down bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.down = down
}

func (h *hook) got() []event {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.taken)
}

// firsts checks that the first delivery of each entry comes in the order of the
// log and that none is passed over, and returns their UUIDs.
func firsts(t testing.TB, what string, taken []event) map[string]bool {
	t.Helper()
	ids, next := map[string]bool{}, uint64(0)
	for i, e := range taken {
		if ids[e.ID] {
			continue
		}
		if ids[e.ID] = true; e.Index != next {
			t.Fatalf("%s: event %d is the first one of entry %d, want entry %d", what, i, e.Index, next)
		}
		next++
	}
	return ids
}

// lines reads a file of events.
func lines(t testing.TB, path string) (all []event) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(text) > 0 && !bytes.HasSuffix(text, []byte("\n")) {
		t.Errorf("%s ends within a line", path)
	}
	for line := range bytes.Lines(text) {
		var e event
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatalf("%s: %v: %s", path, err, line)
		}
		all = append(all, e)
	}
	return all
}

// acknowledged are the UUIDs of the entries that somebody was told of.
func acknowledged(ledger *harness.Ledger) (uuids []string) {
	for _, r := range ledger.Records(0) {
		if r.UUID != "" && (r.Status == http.StatusCreated || r.Status == http.StatusConflict) {
			uuids = append(uuids, r.UUID)
		}
	}
	return uuids
}

// missing returns those of some UUIDs that were not delivered.
func missing(uuids []string, taken []event) []string {
	ids := map[string]bool{}
	for _, e := range taken {
		ids[e.ID] = true
	}
	return slices.DeleteFunc(slices.Clone(uuids), func(uuid string) bool { return ids[uuid] })
}

// eventKills is how often TestEvents kills a server.
const eventKills = 8

// deliveryLimit covers a webhook that hangs, and the lease of a replica that is
// gone.
const deliveryLimit = time.Minute

// TestEvents kills a server at random while 64 clients add entries and their events
// go to a file and to a webhook that fails, hangs and hangs up: in the end every
// entry that was acknowledged was delivered to both, in order.
func TestEvents(t *testing.T) { overEach(t, eventsKilled) }

func eventsKilled(t *testing.T, s storage) {
	seed := seed(t)
	rng := rand.New(rand.NewPCG(seed, 6))
	h := newHook(t, seed, 12, 1)
	file := filepath.Join(t.TempDir(), "events.jsonl")
	// One way to post over each storage.
	batch, format := 1, "rekor"
	if s == mysql {
		batch, format = 16, "cloudevents"
	}
	b := startBench(t, s, harness.Options{Args: []string{"--config", harness.Config(t, fmt.Sprintf(
		"rekor: {events: {from: start, webhook: %q, webhook-batch: %d, format: %s, file: %q}}\n", h.URL, batch, format, file))}})
	b.load = harness.NewLoad(t, b.Server, b.ledger, b.recorder, seed)
	b.load.Mix = harness.Mix{Duplicates: 2}
	for range eventKills {
		b.load.Start(64)
		timer := time.NewTimer(time.Duration(50+rng.IntN(500)) * time.Millisecond)
		<-timer.C
		b.Kill()
		if rng.IntN(3) == 0 { // a crash leaves what a write had come to
			tail, err := os.OpenFile(file, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o640)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tail.WriteString(`{"specversion":"1.`); err != nil {
				t.Fatal(err)
			}
			tail.Close()
		}
		b.Restart()
		b.load.Stop()
	}
	uuids := acknowledged(b.ledger)
	if len(uuids) == 0 {
		t.Fatal("nothing was acknowledged")
	}
	b.Poll(deliveryLimit, "every entry is delivered to the webhook", func() bool { return len(missing(uuids, h.got())) == 0 })
	b.Poll(deliveryLimit, "no sink is behind", func() bool {
		return metric(b, `sigstack_events_lag{name="webhook"}`) == 0 && metric(b, `sigstack_events_lag{name="file"}`) == 0 &&
			metric(b, `sigstack_events_delivering{name="file"}`) == 1
	})
	b.Stop()
	ids := firsts(t, "webhook", h.got())
	inFile := lines(t, file)
	firsts(t, "file", inFile)
	if lost := missing(uuids, inFile); len(lost) > 0 {
		t.Errorf("%d entries are not in the file: %v", len(lost), lost[:min(len(lost), 5)])
	}
	b.Restart()
	b.measure()
	b.verify()
	t.Logf("%d entries acknowledged, %d delivered to the webhook in %d events, to the file in %d; requests by fault %v",
		len(uuids), len(ids), len(h.got()), len(inFile), h.failed)
}

func metric(b *bench, name string) float64 {
	value, err := b.Metric(name)
	if err != nil {
		return -1
	}
	return value
}

// TestEventsAway has the webhook be away: entries are added and the file gets its
// events as ever, the server is ready, and the webhook gets everything when it is
// back.
func TestEventsAway(t *testing.T) {
	t.Parallel()
	h := newHook(t, 1, 0, 0)
	h.setDown(true)
	file := filepath.Join(t.TempDir(), "events.jsonl")
	b := startBench(t, sqlite, harness.Options{Args: []string{"--config", harness.Config(t,
		fmt.Sprintf("rekor: {events: {webhook: %q, file: %q}}\n", h.URL+"/?code=hunter2", file))}})
	b.leaks.Secret("hunter2", "the query of the webhook's URL")
	b.load.Entries(50)
	uuids := acknowledged(b.ledger)
	b.Poll(deliveryLimit, "the file has everything", func() bool { return metric(b, `sigstack_events_lag{name="file"}`) == 0 })
	if lag := metric(b, `sigstack_events_lag{name="webhook"}`); lag != float64(len(uuids)) {
		t.Errorf("the webhook is %v behind, want %d", lag, len(uuids))
	}
	if metric(b, `sigstack_events_failures_total{name="webhook"}`) < 1 || !strings.Contains(b.Log(), "events are not delivered") {
		t.Error("nothing says that the webhook is away")
	}
	if ready, text := b.Ready(); !ready {
		t.Errorf("not ready: %s", text)
	}
	h.setDown(false)
	b.Poll(deliveryLimit, "the webhook has everything", func() bool { return len(missing(uuids, h.got())) == 0 })
	firsts(t, "webhook", h.got())
	b.Stop()
	firsts(t, "file", lines(t, file))

	// A log that is older than the cursor is not served silently.
	cursor := filepath.Join(b.Dir, "rekorv1", "events-webhook")
	if err := os.WriteFile(cursor, []byte("1000\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b.Launch()
	if code := b.Wait(readyLimit); code != 2 || !strings.Contains(b.Log(), "1000 entries were delivered, but the log has 50") || !strings.Contains(b.Log(), cursor) {
		t.Errorf("exit code %d: %s", code, b.Log())
	}
	if err := os.Remove(cursor); err != nil {
		t.Fatal(err)
	}
	b.Restart()
	b.load.Entries(3)
	b.Poll(deliveryLimit, "the webhook goes on at the end of the log", func() bool { return len(missing(acknowledged(b.ledger), h.got())) == 0 })
}

// TestEventsOfReplicas kills replicas over one database in turn: another one goes
// on from where the one before has come.
func TestEventsOfReplicas(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(seed(t), 8))
	h := newHook(t, 1, 4, 0)
	servers := replicas(t, harness.Options{
		DSN:  harness.SharedMariaDB(t).NewDatabase(t) + harness.Patient,
		Args: []string{"--config", harness.Config(t, fmt.Sprintf("rekor: {events: {from: start, webhook: %q, webhook-batch: 32}}\n", h.URL))},
	})
	dir := t.TempDir()
	ledger := harness.NewLedger(t, filepath.Join(dir, "ledger"))
	var loads []*harness.Load
	for i, s := range servers {
		l := harness.NewLoad(t, s, ledger, nil, uint64(i+1))
		l.Mix = harness.Mix{}
		l.Start(8)
		loads = append(loads, l)
	}
	granted := counter(ledger)
	for range 4 {
		target := granted() + 50 + rng.IntN(100)
		poll(t, time.Minute, "something is granted", func() bool { return granted() >= target })
		s := servers[rng.IntN(len(servers))]
		s.Kill()
		s.Restart()
	}
	for _, l := range loads {
		l.Stop()
	}
	uuids := acknowledged(ledger)
	poll(t, deliveryLimit, "every entry is delivered", func() bool { return len(missing(uuids, h.got())) == 0 })
	ids := firsts(t, "webhook", h.got())
	delivering := 0
	for _, s := range servers {
		n, err := s.Metric(`sigstack_events_delivering{name="webhook"}`)
		if err != nil {
			t.Error(err)
		}
		delivering += int(n)
	}
	if delivering != 1 {
		t.Errorf("%d replicas deliver", delivering)
	}
	t.Logf("%d entries acknowledged, %d delivered in %d events", len(uuids), len(ids), len(h.got()))
}
