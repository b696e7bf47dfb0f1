package rekorv1

import (
	"encoding/hex"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/sigstack/sigstack/tlog/rekor"
)

// info serves GET /api/v1/log.
func (h *handler) info(w http.ResponseWriter, r *http.Request) error {
	active, frozen, err := h.cfg.Log.Info(r.Context())
	if err != nil {
		return err
	}
	b := append(make([]byte, 0, 512*(1+len(frozen))), `{"inactiveShards":`...)
	for i, info := range frozen {
		b = append(b, "[,"[min(i, 1)], '{')
		b = appendInfo(b, info)
	}
	if len(frozen) > 0 {
		b = append(b, `],`...)
	} else {
		b = append(b, `null,`...)
	}
	b = appendInfo(b, active)
	send(w, http.StatusOK, typeJSON, append(b, '\n'))
	return nil
}

// appendInfo appends what is said of a tree, and the end of its object.
func appendInfo(b []byte, info rekor.Info) []byte {
	b = append(b, `"rootHash":"`...)
	b = hex.AppendEncode(b, info.Root[:])
	b = append(b, `","signedTreeHead":`...)
	b = appendString(b, string(info.Checkpoint))
	b = append(b, `,"treeID":"`...)
	b = strconv.AppendInt(b, info.TreeID, 10)
	b = append(b, `","treeSize":`...)
	b = strconv.AppendUint(b, info.Size, 10)
	return append(b, '}')
}

// publicKey serves GET /api/v1/log/publicKey: PEM, or the PEM as a JSON
// string for a client that accepts only JSON.
func (h *handler) publicKey(w http.ResponseWriter, r *http.Request) error {
	tree, err := treeID(r.URL.Query())
	if err != nil {
		return err
	}
	asPEM := accepted(r.Header.Values("Accept"), typePEM)
	key, err := h.cfg.Log.PublicKey(r.Context(), tree)
	var wrong *rekor.InputError
	if errors.As(err, &wrong) {
		p := &problem{status: http.StatusBadRequest, code: http.StatusBadRequest, message: http.StatusText(http.StatusBadRequest)}
		if asPEM {
			p.bare, p.media = true, typePEM
		}
		return p
	}
	if err != nil {
		return err
	}
	if asPEM {
		send(w, http.StatusOK, typePEM, key)
		return nil
	}
	send(w, http.StatusOK, typeJSON, append(appendString(nil, string(key)), '\n'))
	return nil
}

// proof serves GET /api/v1/log/proof. The root in the answer is the newest
// one, not the one of lastSize.
func (h *handler) proof(w http.ResponseWriter, r *http.Request) error {
	query := r.URL.Query()
	first, given, err := integer(query, "firstSize", 1)
	if err != nil {
		return err
	}
	if !given {
		first = 1
	}
	last, given, err := integer(query, "lastSize", 1)
	if err != nil {
		return err
	}
	if !given {
		return badShape(codeRequired, "lastSize in query is required")
	}
	tree, err := treeID(query)
	if err != nil {
		return err
	}
	hashes, root, err := h.cfg.Log.Consistency(r.Context(), tree, first, last)
	if err != nil {
		return err
	}
	b := append(make([]byte, 0, 128+68*len(hashes)), `{"hashes":`...)
	b = appendHashes(b, hashes)
	b = append(b, `,"rootHash":"`...)
	b = hex.AppendEncode(b, root[:])
	b = append(b, "\"}\n"...)
	send(w, http.StatusOK, typeJSON, b)
	return nil
}

// last returns the last value of a query parameter.
func last(query url.Values, name string) string {
	if v := query[name]; len(v) > 0 {
		return v[len(v)-1]
	}
	return ""
}

// treeID returns the parameter treeID, decimal digits or empty.
func treeID(query url.Values) (string, error) {
	s := last(query, "treeID")
	if strings.Trim(s, "0123456789") != "" {
		return "", badShape(codePattern, "treeID in query should match '^[0-9]+$'")
	}
	return s, nil
}

// integer returns an integer parameter of at least minimum, and whether it is
// there. Empty counts as absent.
func integer(query url.Values, name string, minimum int64) (uint64, bool, error) {
	s := last(query, name)
	if s == "" {
		return 0, false, nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0, true, badShape(codeType, "%s in query must be of type int64: %q", name, cut(s))
	}
	if n < minimum {
		return 0, true, badShape(codeMinimum, "%s in query should be greater than or equal to %d", name, minimum)
	}
	return uint64(n), true, nil
}
