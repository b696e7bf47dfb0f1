package rekorv1

import (
	"cmp"
	"encoding/json"
	"errors"
	"net/http"
	"path"
	"slices"
	"strings"

	"github.com/sigstack/sigstack/api"
	"github.com/sigstack/sigstack/tlog"
	"github.com/sigstack/sigstack/tlog/entry"
	"github.com/sigstack/sigstack/tlog/rekor"
)

// create serves POST /api/v1/log/entries.
func (h *handler) create(w http.ResponseWriter, r *http.Request) error {
	err := h.write(w, r)
	if reason := reasonOf(err); reason != "" {
		h.cfg.Refused(reason)
	}
	return err
}

func (h *handler) write(w http.ResponseWriter, r *http.Request) error {
	if err := h.cfg.Writes.Arrive(api.Client(r.Context())); err != nil {
		return err
	}
	writer, err := h.cfg.Writes.Authenticate(r.Header, r.TLS)
	if err != nil {
		return err
	}
	api.SetWriter(r.Context(), writer)
	body, err := readBody(w, r, h.cfg.MaxBody)
	if err != nil {
		return err
	}
	if kind, taken := h.takes(body); !taken {
		return notTaken(kind)
	}
	proposed, err := entry.Propose(body)
	if err != nil {
		return refusal(err)
	}
	if err := h.checkAlgorithms(proposed.Signers); err != nil {
		return err
	}
	done, err := h.cfg.Writes.Admit(proposed.Signers)
	if err != nil {
		return err
	}
	e, err := h.cfg.Log.Create(r.Context(), proposed)
	done(err == nil || errors.Is(err, tlog.ErrUnknown))
	if err != nil {
		var exists *rekor.ExistsError
		if errors.As(err, &exists) {
			w.Header().Set("Location", location(r, exists.UUID))
		}
		return err
	}
	header := w.Header()
	header.Set("ETag", e.UUID) // bare: clients use it as a name
	header.Set("Location", location(r, e.UUID))
	send(w, http.StatusCreated, typeJSON, append(appendEntry(make([]byte, 0, entrySize(e)), e), '\n'))
	return nil
}

// location returns the relative URL of an entry. The query of the request is
// kept, because a gateway may route by it, but not a key that it may hold.
func location(r *http.Request, uuid string) string {
	l := pathEntries + "/" + uuid
	if r.URL.RawQuery != "" {
		query := r.URL.Query()
		query.Del("apiKey")
		if s := query.Encode(); s != "" {
			l += "?" + s
		}
	}
	return l
}

// takes says whether entries of the kind of a proposal may be added. One whose kind
// cannot be read is left to those who say what is wrong with it.
func (h *handler) takes(proposed []byte) (kind string, taken bool) {
	if len(h.cfg.Kinds) == 0 {
		return "", true
	}
	if readDocument(proposed, []string{"kind"}, func(_ string, dec *json.Decoder) error { return readText(dec, &kind) }) != nil || !slices.Contains(entry.Kinds(), kind) {
		return "", true
	}
	return kind, slices.Contains(h.cfg.Kinds, kind)
}

// checkAlgorithms refuses an entry that a signature of is made in a way that is not taken.
func (h *handler) checkAlgorithms(signers []entry.Signer) error {
	if len(h.cfg.Algorithms) == 0 {
		return nil
	}
	for _, s := range signers {
		if name := s.Algorithm(); !slices.Contains(h.cfg.Algorithms, name) {
			return refused(byAlgorithm, "error processing entry: entry algorithms are not allowed: it is signed by %s; this server takes %s",
				cmp.Or(name, "an algorithm without a name"), strings.Join(h.cfg.Algorithms, ", "))
		}
	}
	return nil
}

func notTaken(kind string) error {
	return refused(byKind, "error processing entry: entry kind '%s' is not enabled for submission on this server", kind)
}

// refusal returns the problem with a proposed entry that is not valid.
func refusal(err error) error {
	if errors.Is(err, entry.ErrInvalid) {
		return badRequest("error processing entry: %s", err)
	}
	return err
}

// byIndex serves GET /api/v1/log/entries?logIndex=.
func (h *handler) byIndex(w http.ResponseWriter, r *http.Request) error {
	index, given, err := integer(r.URL.Query(), "logIndex", 0)
	if err != nil {
		return err
	}
	if !given {
		return badShape(codeRequired, "logIndex in query is required")
	}
	e, err := h.cfg.Log.ByIndex(r.Context(), index)
	return sendEntry(w, e, err)
}

// uuidPattern is what messages say of a UUID; rekor.IsID checks it.
const uuidPattern = "^([0-9a-fA-F]{64}|[0-9a-fA-F]{80})$"

// byUUID serves GET /api/v1/log/entries/{entryUUID}.
func (h *handler) byUUID(w http.ResponseWriter, r *http.Request) error {
	uuid := path.Base(path.Clean(r.URL.Path))
	if !rekor.IsID(uuid) {
		return badShape(codePattern, "entryUUID in path should match '%s'", uuidPattern)
	}
	e, err := h.cfg.Log.ByUUID(r.Context(), uuid)
	return sendEntry(w, e, err)
}

// sendEntry answers with one entry, or passes on why not.
func sendEntry(w http.ResponseWriter, e *rekor.LogEntry, err error) error {
	if errors.Is(err, tlog.ErrNotFound) {
		return errNotFound
	}
	if err != nil {
		return err
	}
	send(w, http.StatusOK, typeJSON, append(appendEntry(make([]byte, 0, entrySize(e)), e), '\n'))
	return nil
}

// maxItems bounds what one request may ask for.
const maxItems = 10

// A request for entries. Each list has at most maxItems elements.
type retrieveRequest struct {
	entries []json.RawMessage
	uuids   []string
	indexes []uint64
}

// parseRetrieve reads the body of a request for entries and checks its shape.
func parseRetrieve(body []byte) (*retrieveRequest, error) {
	if isBlank(body) {
		return nil, badShape(codeRequired, "entry in body is required")
	}
	req := new(retrieveRequest)
	err := readDocument(body, []string{"entries", "entryUUIDs", "logIndexes"}, func(name string, dec *json.Decoder) error {
		return readArray(dec, name, func(i int, dec *json.Decoder) error {
			switch name {
			case "entries":
				var raw json.RawMessage
				err := dec.Decode(&raw)
				req.entries = append(req.entries, raw)
				return err
			case "entryUUIDs":
				var uuid string
				if err := readText(dec, &uuid); err != nil {
					return err
				}
				if !rekor.IsID(uuid) {
					return badShape(codePattern, "entryUUIDs.%d in body should match '%s'", i, uuidPattern)
				}
				req.uuids = append(req.uuids, uuid)
				return nil
			}
			var index *int64
			switch err := dec.Decode(&index); {
			case err != nil:
				return err
			case index == nil:
				return badShape(codeRequired, "logIndexes.%d in body is required", i)
			case *index < 0:
				return badShape(codeMinimum, "logIndexes.%d in body should be greater than or equal to 0", i)
			}
			req.indexes = append(req.indexes, uint64(*index))
			return nil
		})
	})
	if err != nil {
		return nil, malformed("entry", err)
	}
	if len(req.entries)+len(req.uuids)+len(req.indexes) > maxItems {
		return nil, &problem{status: http.StatusUnprocessableEntity, code: http.StatusUnprocessableEntity,
			message: "more than max allowed 10 entries in request"}
	}
	return req, nil
}

// retrieve serves POST /api/v1/log/entries/retrieve. Entries that are not in
// the log are left out. Those named by a full UUID come first, then those named
// by a leaf hash or a proposal, then those named by index.
//
// A proposal must verify, as if it were to be added. The body may be as large
// as that of a submission, because it carries the same proposals.
func (h *handler) retrieve(w http.ResponseWriter, r *http.Request) error {
	body, err := readBody(w, r, h.cfg.MaxBody)
	if err != nil {
		return err
	}
	req, err := parseRetrieve(body)
	if err != nil {
		return err
	}
	var full, leaves []rekor.ID
	for _, uuid := range req.uuids {
		id, err := rekor.ParseID(uuid)
		switch {
		case err != nil:
			return badRequest("invalid entryID %s: %s", uuid, err)
		case id.Tree != 0:
			full = append(full, id)
		default:
			leaves = append(leaves, id)
		}
	}
	for i, raw := range req.entries {
		proposed, err := entry.Propose(raw)
		var schema *entry.SchemaError
		switch {
		case errors.As(err, &schema) && (schema.Member == "kind" || schema.Code == entry.CodeType):
			// Without a kind the body cannot be read.
			return malformed("entry", err)
		case errors.As(err, &schema):
			return badShape(schema.Code, "entries.%d.%s", i, schema.Message)
		case errors.Is(err, entry.ErrInvalid):
			return badRequest("%s", err)
		case err != nil:
			return err
		}
		leaves = append(leaves, rekor.ID{Leaf: tlog.LeafHash(proposed.Body)})
	}

	b := []byte{'['}
	add := func(e *rekor.LogEntry, err error) error {
		if errors.Is(err, tlog.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = appendEntry(slices.Grow(b, entrySize(e)), e)
		return nil
	}
	for _, id := range append(full, leaves...) {
		if err := add(h.cfg.Log.ByID(r.Context(), id)); err != nil {
			return err
		}
	}
	for _, index := range req.indexes {
		if err := add(h.cfg.Log.ByIndex(r.Context(), index)); err != nil {
			return err
		}
	}
	send(w, http.StatusOK, typeJSON, append(b, "]\n"...))
	return nil
}
