package migrate

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sigstack/sigstack/tlog"
)

// A fake is a server of the API with two trees. A change stands before what it does.
type fake struct {
	*httptest.Server
	api    *API
	change func(w http.ResponseWriter, r *http.Request) (done bool)

	mu     sync.Mutex
	waited []time.Duration
	asked  []uint64 // indexes
}

func newFake(t *testing.T) *fake {
	keys := map[string][]byte{"5": nil, "6": nil}
	info := map[string]string{}
	ids := map[string]string{}
	for id, size := range map[int64]uint64{5: 30, 6: 25} {
		key := newKey(t)
		text := publicPEM(t, key)
		name := fmt.Sprint(id)
		keys[name], info[name] = text, signed(t, key, id, size, tlog.Hash{byte(id)})
		_, sum, err := parseKey(text)
		if err != nil {
			t.Fatal(err)
		}
		ids[name] = hex.EncodeToString(sum[:])
	}
	f := &fake{change: func(http.ResponseWriter, *http.Request) bool { return false }}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /at/api/v1/log", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{%s,"inactiveShards":[{"treeID":"4","treeSize":0},{%s}]}`, info["6"], info["5"])
	})
	mux.HandleFunc("GET /at/api/v1/log/publicKey", func(w http.ResponseWriter, r *http.Request) {
		w.Write(keys[r.FormValue("treeID")])
	})
	mux.HandleFunc("POST /at/api/v1/log/entries/retrieve", func(w http.ResponseWriter, r *http.Request) {
		var query struct{ LogIndexes []uint64 }
		if err := json.NewDecoder(r.Body).Decode(&query); err != nil || len(query.LogIndexes) > 10 {
			http.Error(w, "no", http.StatusUnprocessableEntity)
			return
		}
		var answers []string
		for _, index := range slices.Backward(query.LogIndexes) {
			tree := "5"
			if index >= 30 {
				tree = "6"
			}
			body := fmt.Appendf(nil, "entry %d", index)
			hash := tlog.LeafHash(body)
			answers = append(answers, fmt.Sprintf(`{"000000000000000%s%x":{"body":%q,"integratedTime":%d,"logID":%q,"logIndex":%d}}`,
				tree, hash, base64.StdEncoding.EncodeToString(body), 1_700_000_000+index, ids[tree], index))
		}
		f.mu.Lock()
		f.asked = append(f.asked, query.LogIndexes...)
		f.mu.Unlock()
		fmt.Fprintf(w, "[%s]", strings.Join(answers, ","))
	})
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !f.change(w, r) {
			mux.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(f.Close)
	var err error
	if f.api, err = NewAPI(f.URL+"/at/", f.Client()); err != nil {
		t.Fatal(err)
	}
	f.api.wait = func(_ context.Context, d time.Duration) error {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.waited = append(f.waited, d)
		return nil
	}
	return f
}

// TestAPI reads trees, and entries from within one.
func TestAPI(t *testing.T) {
	f := newFake(t)
	trees, err := f.api.Trees(t.Context())
	if err != nil || len(trees) != 2 || trees[0].ID != 5 || trees[0].Size != 30 || trees[1].ID != 6 || trees[1].Size != 25 || trees[1].Root != (tlog.Hash{6}) || trees[0].Key == nil {
		t.Fatalf("%+v (%v)", trees, err)
	}
	got, err := trees[1].Source.Entries(t.Context(), 2, 23)
	if err != nil || len(got) != 23 {
		t.Fatalf("%d entries (%v)", len(got), err)
	}
	for i, e := range got {
		if want := fmt.Sprintf("entry %d", 32+i); e.Index != uint64(2+i) || string(e.Value) != want || e.ID != tlog.LeafHash([]byte(want)) || !e.Time.Equal(time.Unix(1_700_000_032+int64(i), 0)) {
			t.Errorf("entry %d is %+v", i, e)
		}
	}
	slices.Sort(f.asked)
	if len(f.asked) != 23 || f.asked[0] != 32 || f.asked[22] != 54 {
		t.Errorf("asked for %v", f.asked)
	}
}

// TestAPIAgain has a server that fails some times, and says how long to wait.
func TestAPIAgain(t *testing.T) {
	for _, c := range []struct {
		fail   func(w http.ResponseWriter)
		times  int32
		waited []time.Duration
		want   string // of the error
	}{
		{func(w http.ResponseWriter) { w.WriteHeader(http.StatusInternalServerError) }, 3, []time.Duration{time.Second, 2 * time.Second, 4 * time.Second}, ""},
		{func(w http.ResponseWriter) {
			w.Header().Set("Retry-After", "5")
			w.WriteHeader(http.StatusTooManyRequests)
		}, 1, []time.Duration{5 * time.Second}, ""},
		{func(w http.ResponseWriter) {
			w.Header().Set("Retry-After", "5000")
			w.WriteHeader(http.StatusServiceUnavailable)
		}, 1, []time.Duration{time.Minute}, ""},
		{func(w http.ResponseWriter) { panic(http.ErrAbortHandler) }, 1, []time.Duration{time.Second}, ""},
		{func(w http.ResponseWriter) { http.Error(w, "broken", http.StatusBadGateway) }, 5, []time.Duration{1e9, 2e9, 4e9, 8e9}, `/at/api/v1/log: status 502: "broken"`},
		{func(w http.ResponseWriter) { http.Error(w, "not for you", http.StatusForbidden) }, 1, nil, `/at/api/v1/log: status 403: "not for you"`},
		{func(w http.ResponseWriter) { w.Write(make([]byte, maxSmall+1)) }, 1, nil, "more than 1048576 bytes"},
		{func(w http.ResponseWriter) { fmt.Fprint(w, "[]") }, 1, nil, "cannot unmarshal"},
	} {
		f := newFake(t)
		var n atomic.Int32
		f.change = func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path != "/at/api/v1/log" || n.Add(1) > c.times {
				return false
			}
			c.fail(w)
			return true
		}
		_, err := f.api.Trees(t.Context())
		if !slices.Equal(f.waited, c.waited) || (err != nil) != (c.want != "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("waited %v, want %v; %v, want %q", f.waited, c.waited, err, c.want)
		}
	}
}

// TestAPIRefuses has a server that says what it has not signed.
func TestAPIRefuses(t *testing.T) {
	other := newKey(t)
	for want, c := range map[string]struct{ path, old, new string }{
		"its size and root are not those":          {"/at/api/v1/log", `"treeSize":25`, `"treeSize":26`},
		"positive number of 63 bits":               {"/at/api/v1/log", `"treeID":"5"`, `"treeID":"-5"`},
		"a name with the tree's ID":                {"/at/api/v1/log", `"treeID":"5"`, `"treeID":"6"`},
		"larger than a log can be":                 {"/at/api/v1/log", `"treeSize":25`, `"treeSize":9223372036854775807`},
		"not PEM":                                  {"/at/api/v1/log/publicKey", "-----BEGIN", "----BEGIN"},
		"its signed tree head":                     {"/at/api/v1/log/publicKey", "*", string(publicPEM(t, other))},
		"does not return the entry with the index": {"/at/api/v1/log/entries/retrieve", "*", "[]"},
		"which was not asked for":                  {"/at/api/v1/log/entries/retrieve", `"logIndex":37`, `"logIndex":38`},
		"not that of its body":                     {"/at/api/v1/log/entries/retrieve", base64.StdEncoding.EncodeToString([]byte("entry 37")), "ZW50cnk="},
		"is signed by the log":                     {"/at/api/v1/log/entries/retrieve", `"logID":"`, `"logID":"ab`},
		"something behind the list":                {"/at/api/v1/log/entries/retrieve", "}}]", "}}] {}"},
	} {
		f := newFake(t)
		inner := f.Config.Handler
		f.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != c.path {
				inner.ServeHTTP(w, r)
				return
			}
			recorded := httptest.NewRecorder()
			inner.ServeHTTP(recorded, r)
			text := strings.ReplaceAll(recorded.Body.String(), c.old, c.new)
			if c.old == "*" {
				text = c.new
			}
			fmt.Fprint(w, text)
		})
		trees, err := f.api.Trees(t.Context())
		if err == nil {
			_, err = trees[1].Source.Entries(t.Context(), 0, 25)
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	for _, base := range []string{"", "rekor.example.com", "ftp://rekor.example.com", "https://me:secret@rekor.example.com", "https://rekor.example.com?x", "https://"} {
		if _, err := NewAPI(base, nil); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", base, err)
		}
	}
	f := newFake(t)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	f.api.wait = wait
	if _, err := f.api.Trees(gone); !errors.Is(err, context.Canceled) {
		t.Errorf("nobody waits: %v", err)
	}
}
