package rekorv1

import (
	"encoding/hex"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// info serves GET /api/v1/log.
func (h *handler) info(w http.ResponseWriter, r *http.Request) error {
	info, err := h.cfg.Log.Info(r.Context())
	if err != nil {
		return err
	}
	b := append(make([]byte, 0, 512), `{"inactiveShards":null,"rootHash":"`...)
	b = hex.AppendEncode(b, info.Root[:])
	b = append(b, `","signedTreeHead":`...)
	b = appendString(b, string(info.Checkpoint))
	b = append(b, `,"treeID":"`...)
	b = strconv.AppendInt(b, info.TreeID, 10)
	b = append(b, `","treeSize":`...)
	b = strconv.AppendUint(b, info.Size, 10)
	b = append(b, "}\n"...)
	send(w, http.StatusOK, typeJSON, b)
	return nil
}

// publicKey serves GET /api/v1/log/publicKey: PEM, or the PEM as a JSON
// string for a client that accepts only JSON.
func (h *handler) publicKey(w http.ResponseWriter, r *http.Request) error {
	tree, err := treeID(r.URL.Query())
	if err != nil {
		return err
	}
	asPEM := accepted(r.Header.Values("Accept"), typePEM)
	if err := h.cfg.Log.CheckTree(tree); err != nil {
		p := &problem{status: http.StatusBadRequest, code: http.StatusBadRequest, message: http.StatusText(http.StatusBadRequest)}
		if asPEM {
			p.bare, p.media = true, typePEM
		}
		return p
	}
	key := h.cfg.Log.PublicKey()
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
	if first > last {
		// Before the tree, as Rekor does.
		tree = ""
	}
	if err := h.cfg.Log.CheckTree(tree); err != nil {
		return err
	}
	hashes, root, err := h.cfg.Log.Consistency(r.Context(), first, last)
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
