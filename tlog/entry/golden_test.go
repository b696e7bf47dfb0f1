package entry

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cyberphone/json-canonicalization/go/src/webpki.org/jsoncanonicalizer"

	"github.com/sigstack/sigstack/test/cms"
)

// A vector is one submission to a public implementation and what came of it.
// Those that have no response were given to its library: "made by" other tools
// than ours (jarsigner, openssl) and canonicalised by theirs.
type vector struct {
	Name        string
	Request     json.RawMessage
	Status      int
	Response    json.RawMessage
	DecodedBody string   `json:"decoded_body"`
	IndexKeys   []string `json:"index_keys"`
}

// accepted reports whether the entry is in that log; a duplicate is.
func (v vector) accepted() bool { return v.Status == 201 || v.Status == 409 }

func vectors(t testing.TB) []vector {
	t.Helper()
	files, err := filepath.Glob("../../test/vectors/rekor/*.json")
	if err != nil {
		t.Fatal(err)
	}
	// Of cose there is no recorded submission. Its vectors say what the library
	// of that implementation makes of messages that others have signed: two of
	// github.com/gluecose/test-vectors, and the rest by OpenSSL.
	own, err := filepath.Glob("testdata/cose-*.json")
	if err != nil {
		t.Fatal(err)
	}
	files = append(files, own...)
	more, err := filepath.Glob("../../test/vectors/entries/*.json")
	if err != nil {
		t.Fatal(err)
	}
	files = append(files, more...)
	var all []vector
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		var v vector
		if err := json.Unmarshal(data, &v); err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		kind, _, _ := strings.Cut(v.Name, "-")
		if _, ok := kinds[kind]; ok {
			all = append(all, v)
		}
	}
	if len(all) < 66 {
		t.Fatalf("%d vectors, want at least 66", len(all))
	}
	return all
}

func vectorNamed(t testing.TB, name string) vector {
	t.Helper()
	for _, v := range vectors(t) {
		if v.Name == name {
			return v
		}
	}
	t.Fatalf("no vector %s", name)
	return vector{}
}

// sameText are the refusals whose message is stable and must be the same, byte
// for byte.
var sameText = []string{
	"hashedrekord-badsig", "hashedrekord-der-key", "hashedrekord-ed25519-pure-sha512", "hashedrekord-p384-sha256",
	"hashedrekord-rsa2048-pkcs1-sha512", "hashedrekord-rsa2048-pss-sha256", "rekord-hash-mismatch", "dsse-two-sigs-one-verifier",
}

func TestGolden(t *testing.T) {
	texts := 0
	for _, v := range vectors(t) {
		t.Run(v.Name, func(t *testing.T) {
			e, err := Propose(v.Request)
			if !v.accepted() {
				// Where that implementation takes bad input for a fault of its own
				// (500), it is bad input here.
				if !errors.Is(err, ErrInvalid) || v.Status != 400 && v.Status != 500 {
					t.Fatalf("error %v, want status %d", err, v.Status)
				}
				var response struct{ Message string }
				if err := json.Unmarshal(v.Response, &response); v.Response != nil && err != nil {
					t.Fatal(err)
				}
				if slices.Contains(sameText, v.Name) {
					texts++
					if got := "error processing entry: " + err.Error(); got != response.Message {
						t.Errorf("message\n got %s\nwant %s", got, response.Message)
					}
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			checkGolden(t, v, e)
		})
	}
	if texts != len(sameText) {
		t.Errorf("%d messages compared, want %d", texts, len(sameText))
	}
}

// checkCanonical checks that an accepted proposal has a body in canonical form.
func checkCanonical(t *testing.T, proposed []byte) {
	t.Helper()
	e, err := Propose(proposed)
	if err != nil {
		t.Fatal(err)
	}
	jcs, err := jsoncanonicalizer.Transform(e.Body)
	if err != nil || !bytes.Equal(jcs, e.Body) {
		t.Errorf("not in canonical form: %v\n got %s\nwant %s", err, e.Body, jcs)
	}
}

func checkGolden(t *testing.T, v vector, e *Entry) {
	checkCanonical(t, v.Request)
	if v.DecodedBody != "" && string(e.Body) != v.DecodedBody {
		t.Errorf("body\n got %s\nwant %s", e.Body, v.DecodedBody)
	}
	h := sha256.Sum256(append([]byte{0}, e.Body...))
	if leaf := hex.EncodeToString(h[:]); v.Response != nil && !bytes.Contains(v.Response, []byte(leaf)) {
		t.Errorf("leaf hash %s is not in the answer", leaf)
	}
	keys, err := Keys(e.Body)
	if err != nil {
		t.Fatal(err)
	}
	derivable := e.Keys
	if kind, _, _ := strings.Cut(v.Name, "-"); kind == "dsse" || kind == "intoto" || kind == "cose" {
		derivable = slices.DeleteFunc(slices.Clone(e.Keys), func(k string) bool { return isStatementKey(k) })
	}
	if !slices.Equal(keys, derivable) {
		t.Errorf("keys of the stored body\n got %q\nwant %q", keys, derivable)
	}
	if v.IndexKeys == nil {
		return
	}
	// All of theirs are there, and the second spelling of a key hash is all
	// that is added.
	want := map[string]bool{}
	for _, k := range v.IndexKeys {
		want[strings.ToLower(k)] = true
		if !slices.Contains(e.Keys, strings.ToLower(k)) {
			t.Errorf("key %q is missing", k)
		}
	}
	for _, k := range e.Keys {
		plain, prefixed := strings.TrimPrefix(k, "sha256:"), "sha256:"+strings.TrimPrefix(k, "sha256:")
		switch {
		case want[k]:
		case k == prefixed && want[plain], k == plain && want[prefixed] && keyHashes(t, v)[plain]:
		case keyHashes(t, v)[plain] && strings.HasPrefix(v.Name, "jar"):
		default:
			t.Errorf("key %q is more than was asked for", k)
		}
	}
}

// isStatementKey knows the subjects and materials of the in-toto statements in
// the vectors: digests of one repeated digit.
func isStatementKey(k string) bool {
	_, d, ok := strings.Cut(k, ":")
	return ok && strings.Trim(d, d[:1]) == ""
}

// keyHashes returns the plain hashes of the public keys in a body: of what is
// PEM in base64, and of the certificates in a PKCS #7 block.
func keyHashes(t *testing.T, v vector) map[string]bool {
	hashes := map[string]bool{}
	eachPlace(parseJSON(t, []byte(v.DecodedBody)), nil, func(_ place, val any) {
		text, _ := val.(string)
		if key, err := base64.StdEncoding.DecodeString(text); err == nil && bytes.HasPrefix(key, []byte("-----BEGIN ")) {
			h := sha256.Sum256(key)
			hashes[hex.EncodeToString(h[:])] = true
			if block, _ := pem.Decode(key); block.Type == "PKCS7" {
				for _, cert := range cms.Certificates(t, block.Bytes) {
					h := sha256.Sum256(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}))
					hashes[hex.EncodeToString(h[:])] = true
				}
			}
		}
	})
	return hashes
}

// The recorded answers to reads hold the attestation of an entry where there
// is one, and the vectors of cose hold theirs.
func TestGoldenAttestations(t *testing.T) {
	data, err := os.ReadFile("../../test/vectors/rekor/log/reads.json")
	if err != nil {
		t.Fatal(err)
	}
	var reads []struct {
		Of       string
		Response json.RawMessage
	}
	if err := json.Unmarshal(data, &reads); err != nil {
		t.Fatal(err)
	}
	for _, v := range vectors(t) {
		if strings.HasPrefix(v.Name, "cose") {
			reads = append(reads, struct {
				Of       string
				Response json.RawMessage
			}{v.Name, v.Response})
		}
	}
	n := 0
	for _, r := range reads {
		var answer map[string]struct {
			Attestation struct {
				Data []byte
				Key  string
			}
		}
		if !bytes.Contains(r.Response, []byte(`"attestation"`)) {
			continue
		}
		if err := json.Unmarshal(r.Response, &answer); err != nil {
			t.Fatal(err)
		}
		e, err := Propose(vectorNamed(t, r.Of).Request)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range answer {
			n++
			if a.Attestation.Key != "" && a.Attestation.Key != e.AttestationKey {
				t.Errorf("%s: attestation key %q, want %q", r.Of, e.AttestationKey, a.Attestation.Key)
			}
			if !bytes.Equal(a.Attestation.Data, e.Attestation) {
				t.Errorf("%s: attestation\n got %s\nwant %s", r.Of, e.Attestation, a.Attestation.Data)
			}
		}
	}
	if n < 6 {
		t.Errorf("%d attestations, want at least 6", n)
	}
	for _, v := range vectors(t) {
		e, err := Propose(v.Request)
		if err == nil && !strings.HasPrefix(v.Name, "intoto") && !strings.HasPrefix(v.Name, "cose") && (e.Attestation != nil || e.AttestationKey != "") {
			t.Errorf("%s: attestation %q under %q", v.Name, e.Attestation, e.AttestationKey)
		}
	}
}

// What is stored may be proposed again, where the stored form has all it
// needs, and gives the same bytes.
func TestStoredFormIsStable(t *testing.T) {
	for _, v := range vectors(t) {
		if !v.accepted() || !strings.HasPrefix(v.Name, "hashedrekord") {
			continue
		}
		e, err := Propose(v.Request)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Propose(e.Body)
		if err != nil || !bytes.Equal(again.Body, e.Body) || !slices.Equal(again.Keys, e.Keys) {
			t.Errorf("%s: proposing the body: %v", v.Name, err)
		}
	}
}

// One request, one entry: no map order, no clock.
func TestDeterministic(t *testing.T) {
	for _, name := range []string{"dsse-two-sigs", "rekord-pgp", "hashedrekord-certchain", "intoto-001", "intoto-002", "cose-es256", "alpine", "helm", "rpm", "rfc3161", "jar", "tuf-targets"} {
		v := vectorNamed(t, name)
		first, err := Propose(v.Request)
		if err != nil {
			t.Fatal(err)
		}
		for range 1000 {
			e, err := Propose(v.Request)
			if err != nil || !bytes.Equal(e.Body, first.Body) || !slices.Equal(e.Keys, first.Keys) {
				t.Fatalf("%s: another result for the same request: %v", name, err)
			}
			if testing.Short() {
				break
			}
		}
	}
}

// TestDescribe describes the stored bodies of every kind.
func TestDescribe(t *testing.T) {
	subjects := map[string]bool{}
	for _, v := range vectors(t) {
		if !v.accepted() || v.DecodedBody == "" {
			continue
		}
		var header struct{ Kind, APIVersion string }
		if err := json.Unmarshal([]byte(v.DecodedBody), &header); err != nil {
			t.Fatal(err)
		}
		d, err := Describe([]byte(v.DecodedBody))
		if err != nil || d.Kind != header.Kind || d.Version != header.APIVersion {
			t.Errorf("%s is described as %+v, %v", v.Name, d, err)
		}
		if !slices.IsSorted(d.Subjects) || len(slices.Compact(slices.Clone(d.Subjects))) != len(d.Subjects) {
			t.Errorf("%s has the subjects %q, want them sorted, each once", v.Name, d.Subjects)
		}
		for _, name := range d.Subjects {
			subjects[d.Kind+" "+name] = true
		}
	}
	for _, want := range []string{"hashedrekord Gold@Example.com", "hashedrekord user@some", "dsse https://example.com/gold", "rekord lhinds@protonmail.com", "jar rsa@example.com", "rpm rpm-test@rekor.dev", "helm not@real.com"} {
		if !subjects[want] {
			t.Errorf("no vector has the subject %q, of %q", want, slices.Sorted(maps.Keys(subjects)))
		}
	}
	if _, err := Describe([]byte(`{"kind":"hashedrekord"}`)); err == nil {
		t.Error("what is no entry is described")
	}
}
