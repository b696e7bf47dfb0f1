// Package events delivers the new entries of a Rekor log as CloudEvents, to a
// webhook and to a file.
//
// A [Follower] reads the log by index, from a [Cursor], and hands each entry to
// one [Sink]. Every sink has a follower of its own, so that one that is down keeps
// back neither the others nor the log, which waits for none of them: a follower is
// woken when a tree is published, and reads what others may read, too. The log is
// the queue, however far behind a sink is.
//
// # Guarantees
//
//   - Every entry from the cursor's first position on is delivered at least once.
//     The cursor is durable, and moves only behind entries that the sink has for
//     good. What it had delivered since it moved last it delivers again after a
//     crash: receivers tell by the id.
//   - Events come in the order of the log. No entry is passed over: where a sink
//     refuses one, that one is tried again until it is taken.
//   - Of several replicas one delivers at a time.
//
// # The event
//
// As rekor-server publishes it: the id is the UUID of the entry, the type
// dev.sigstore.rekor.events.v1.NewEntry, the source /createLogEntry, and the data
// is the entry as JSON of a TransparencyLogEntry (sigstore_rekor.proto), with its
// inclusion proof and checkpoint. See [Format] for the two spellings.
package events

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/sigstack/sigstack/tlog/entry"
	"github.com/sigstack/sigstack/tlog/rekor"
)

// An Event is an entry as a sink gets it: one CloudEvent in JSON (structured mode),
// without a line break.
type Event []byte

// A Sink takes events. It is called by one goroutine at a time.
type Sink interface {
	// Deliver hands over events and returns how many of them, from the first on,
	// were taken. An error says why those after them were not: they come again. It
	// may be a Delay.
	Deliver(ctx context.Context, events []Event) (taken int, err error)

	// Sync returns when everything that was taken will outlive a crash. After an
	// error, what was taken since the last Sync comes again.
	Sync() error
}

// A Delay is an error of a sink that knows when to try again.
type Delay struct {
	Err   error
	After time.Duration // at the earliest
}

func (d *Delay) Error() string { return d.Err.Error() }
func (d *Delay) Unwrap() error { return d.Err }

// A Format is how attributes and data of an event are spelled.
type Format string

const (
	// Rekor is what rekor-server publishes: the attributes rekor_entry_kind and
	// rekor_signing_subjects, and data in a string.
	Rekor Format = "rekor"

	// CloudEvents keeps to CloudEvents 1.0, which has no underscores in the names of
	// attributes and JSON in data: rekorentrykind and rekorsigningsubjects, and data
	// as an object. Libraries that check names refuse the other.
	CloudEvents Format = "cloudevents"
)

// Formats are all formats.
func Formats() []string { return []string{string(Rekor), string(CloudEvents)} }

// attributes are those of CloudEvents 1.0 that every event has.
type attributes struct {
	SpecVersion     string `json:"specversion"`
	ID              string `json:"id"`
	Source          string `json:"source"`
	Type            string `json:"type"`
	Time            string `json:"time"`
	DataContentType string `json:"datacontenttype"`
}

// encode makes the event of an entry.
func (f Format) encode(e *rekor.LogEntry) (Event, error) {
	// What is in the log must be delivered: an entry that cannot be described has
	// a kind that is not known, and no subjects.
	d, err := entry.Describe(e.Body)
	if err != nil {
		d = entry.Description{}
	}
	data, err := transparencyLogEntry(e, d)
	if err != nil {
		return nil, err
	}
	common := attributes{
		SpecVersion: "1.0", ID: e.UUID, Source: "/createLogEntry", Type: "dev.sigstore.rekor.events.v1.NewEntry",
		Time: time.Unix(e.IntegratedTime, 0).UTC().Format(time.RFC3339), DataContentType: "application/json",
	}
	subjects := strings.Join(d.Subjects, ",")
	if f == CloudEvents {
		// CloudEvents 1.0, "Naming conventions": a to z and 0 to 9, 20 at most; an
		// attribute without a value is left out.
		return json.Marshal(struct {
			attributes
			Kind     string          `json:"rekorentrykind,omitempty"`
			Subjects string          `json:"rekorsigningsubjects,omitempty"`
			Data     json.RawMessage `json:"data"`
		}{common, d.Kind, subjects, data})
	}
	return json.Marshal(struct {
		attributes
		Kind     string `json:"rekor_entry_kind"`
		Subjects string `json:"rekor_signing_subjects"`
		Data     string `json:"data"`
	}{common, d.Kind, subjects, string(data)})
}

// transparencyLogEntry returns the message TransparencyLogEntry of
// sigstore_rekor.proto in the JSON of protocol buffers: 64-bit numbers are strings,
// bytes are base64.
func transparencyLogEntry(e *rekor.LogEntry, d entry.Description) ([]byte, error) {
	type logID struct {
		KeyID []byte `json:"keyId"`
	}
	type kindVersion struct {
		Kind    string `json:"kind"`
		Version string `json:"version"`
	}
	type promise struct {
		SET []byte `json:"signedEntryTimestamp"`
	}
	type checkpoint struct {
		Envelope string `json:"envelope"`
	}
	type proof struct {
		LogIndex   string     `json:"logIndex"`
		RootHash   []byte     `json:"rootHash"`
		TreeSize   string     `json:"treeSize"`
		Hashes     [][]byte   `json:"hashes,omitempty"`
		Checkpoint checkpoint `json:"checkpoint"`
	}
	id, err := hex.DecodeString(e.LogID)
	if err != nil {
		return nil, fmt.Errorf("log ID %q: %w", e.LogID, err)
	}
	var hashes [][]byte
	for _, h := range e.Proof.Hashes {
		hashes = append(hashes, h[:])
	}
	number := func(n uint64) string { return strconv.FormatUint(n, 10) }
	return json.Marshal(struct {
		LogIndex       string      `json:"logIndex"`
		LogID          logID       `json:"logId"`
		KindVersion    kindVersion `json:"kindVersion"`
		IntegratedTime string      `json:"integratedTime"`
		Promise        promise     `json:"inclusionPromise"`
		Proof          proof       `json:"inclusionProof"`
		Body           []byte      `json:"canonicalizedBody"`
	}{
		number(e.LogIndex), logID{id}, kindVersion{d.Kind, d.Version}, strconv.FormatInt(e.IntegratedTime, 10), promise{e.SET},
		proof{number(e.Proof.Index), e.Proof.Root[:], number(e.Proof.Size), hashes, checkpoint{string(e.Proof.Checkpoint)}}, e.Body,
	})
}
