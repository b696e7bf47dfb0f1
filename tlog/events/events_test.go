package events

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"testing"
	"time"

	pb "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/sigstack/sigstack/tlog"
	"github.com/sigstack/sigstack/tlog/rekor"
)

// recorded returns an answer of a public implementation as an entry, and false
// where it was none.
func recorded(t *testing.T, file string) (*rekor.LogEntry, bool) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var vector struct {
		Status   int
		Response json.RawMessage
	}
	if err := json.Unmarshal(text, &vector); err != nil {
		t.Fatal(err)
	}
	if vector.Status != 201 {
		return nil, false
	}
	var answer map[string]struct {
		Body           []byte
		IntegratedTime int64
		LogID          string
		LogIndex       uint64
		Verification   struct {
			InclusionProof struct {
				Checkpoint, RootHash string
				Hashes               []string
				LogIndex, TreeSize   uint64
			}
			SignedEntryTimestamp []byte
		}
	}
	if err := json.Unmarshal(vector.Response, &answer); err != nil || len(answer) != 1 {
		t.Fatalf("%s: %d entries, %v", file, len(answer), err)
	}
	hash := func(text string) (h tlog.Hash) {
		t.Helper()
		if n, err := hex.Decode(h[:], []byte(text)); n != len(h) || err != nil {
			t.Fatalf("%s: hash %q", file, text)
		}
		return h
	}
	e := &rekor.LogEntry{}
	for uuid, a := range answer {
		p := a.Verification.InclusionProof
		*e = rekor.LogEntry{
			UUID: uuid, Body: a.Body, IntegratedTime: a.IntegratedTime, LogID: a.LogID, LogIndex: a.LogIndex, SET: a.Verification.SignedEntryTimestamp,
			Proof: rekor.InclusionProof{Index: p.LogIndex, Size: p.TreeSize, Root: hash(p.RootHash), Checkpoint: []byte(p.Checkpoint)},
		}
		for _, h := range p.Hashes {
			e.Proof.Hashes = append(e.Proof.Hashes, hash(h))
		}
	}
	return e, true
}

// members returns an event as it reads, with its data as JSON.
func members(t *testing.T, event []byte) map[string]any {
	t.Helper()
	var all map[string]any
	if err := json.Unmarshal(event, &all); err != nil {
		t.Fatalf("%v: %s", err, event)
	}
	if text, ok := all["data"].(string); ok {
		var data any
		if err := json.Unmarshal([]byte(text), &data); err != nil {
			t.Fatalf("data: %v: %s", err, text)
		}
		all["data"] = data
	}
	return all
}

const vectorDir = "../../test/vectors/rekor/"

// TestRekorEvent compares an event, member by member, with what the code of
// rekor v1.5.4 (pkg/events) has made of the same entry.
func TestRekorEvent(t *testing.T) {
	e, ok := recorded(t, vectorDir+"hashedrekord-cert-sans.json")
	if !ok {
		t.Fatal("the vector has no answer")
	}
	want, err := os.ReadFile("testdata/hashedrekord-cert-sans.json")
	if err != nil {
		t.Fatal(err)
	}
	got, err := Rekor.encode(e)
	if err != nil {
		t.Fatal(err)
	}
	if g, w := members(t, got), members(t, want); !reflect.DeepEqual(g, w) {
		t.Errorf("got  %v\nwant %v", g, w)
	}
	var data struct{ Data string }
	if err := json.Unmarshal(got, &data); err != nil || data.Data == "" {
		t.Errorf("data is no text, as rekor-server has it: %v", err)
	}
}

// TestEvents makes an event in both spellings of an entry of every kind, and reads
// the entry back out of each.
func TestEvents(t *testing.T) {
	files, err := filepath.Glob(vectorDir + "*.json")
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]bool{}
	name := regexp.MustCompile(`^[a-z0-9]{1,20}$`) // CloudEvents 1.0, "Naming conventions"
	for _, file := range files {
		e, ok := recorded(t, file)
		if !ok {
			continue
		}
		var header struct{ Kind, APIVersion string }
		if err := json.Unmarshal(e.Body, &header); err != nil {
			t.Fatal(err)
		}
		kinds[header.Kind] = true
		for format, names := range map[Format][2]string{Rekor: {"rekor_entry_kind", "rekor_signing_subjects"}, CloudEvents: {"rekorentrykind", "rekorsigningsubjects"}} {
			event, err := format.encode(e)
			if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			if slices.Contains(event, '\n') {
				t.Errorf("%s: the event has more than one line", file)
			}
			all := members(t, event)
			for key, want := range map[string]string{
				"specversion": "1.0", "id": e.UUID, "source": "/createLogEntry", "type": "dev.sigstore.rekor.events.v1.NewEntry",
				"time": time.Unix(e.IntegratedTime, 0).UTC().Format(time.RFC3339), "datacontenttype": "application/json", names[0]: header.Kind,
			} {
				if all[key] != want {
					t.Errorf("%s, %s: %s is %v, want %s", file, format, key, all[key], want)
				}
			}
			if _, ok := all[names[1]]; !ok && format == Rekor {
				t.Errorf("%s: no %s", file, names[1])
			}
			for key, value := range all {
				if format == CloudEvents && (!name.MatchString(key) || value == "") {
					t.Errorf("%s: %q: %q is no attribute of CloudEvents 1.0", file, key, value)
				}
			}
			data, err := json.Marshal(all["data"])
			if err != nil {
				t.Fatal(err)
			}
			var entry pb.TransparencyLogEntry
			if err := protojson.Unmarshal(data, &entry); err != nil {
				t.Fatalf("%s, %s: %v", file, format, err)
			}
			p := entry.InclusionProof
			var hashes []tlog.Hash
			for _, h := range p.Hashes {
				hashes = append(hashes, tlog.Hash(h))
			}
			back := &rekor.LogEntry{
				UUID: e.UUID, Body: entry.CanonicalizedBody, IntegratedTime: entry.IntegratedTime, LogID: hex.EncodeToString(entry.LogId.KeyId),
				LogIndex: uint64(entry.LogIndex), SET: entry.InclusionPromise.SignedEntryTimestamp,
				Proof: rekor.InclusionProof{Index: uint64(p.LogIndex), Size: uint64(p.TreeSize), Root: tlog.Hash(p.RootHash), Hashes: hashes, Checkpoint: []byte(p.Checkpoint.Envelope)},
			}
			if !reflect.DeepEqual(back, e) || entry.KindVersion.Kind != header.Kind || entry.KindVersion.Version != header.APIVersion {
				t.Errorf("%s, %s: read back as %+v, want %+v", file, format, back, e)
			}
		}
	}
	if len(kinds) < 8 {
		t.Errorf("entries of %d kinds, want all of the recorded ones", len(kinds))
	}
}

// TestUnknownEntry delivers an entry that this version cannot read, too.
func TestUnknownEntry(t *testing.T) {
	for _, format := range []Format{Rekor, CloudEvents} {
		event, err := format.encode(&rekor.LogEntry{UUID: "1", LogID: "00", Body: []byte(`{"kind":"later"}`)})
		if err != nil {
			t.Fatal(err)
		}
		if all := members(t, event); all["id"] != "1" || all["data"].(map[string]any)["canonicalizedBody"] != "eyJraW5kIjoibGF0ZXIifQ==" {
			t.Errorf("%s", event)
		}
	}
}
