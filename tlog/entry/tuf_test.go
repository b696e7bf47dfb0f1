package entry

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cyberphone/json-canonicalization/go/src/webpki.org/jsoncanonicalizer"
	"github.com/secure-systems-lab/go-securesystemslib/cjson"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/sigstack/sigstack/test/fuzz"
)

// A tufSigner makes metadata with go-tuf, which is no part of what is tested.
type tufSigner struct {
	t    testing.TB
	key  crypto.Signer
	root *metadata.Metadata[metadata.RootType]
}

var tufExpiry = time.Date(2999, 1, 2, 3, 4, 5, 0, time.UTC)

func newTUFSigner(t testing.TB, key crypto.Signer) *tufSigner {
	t.Helper()
	s := &tufSigner{t, key, metadata.Root(tufExpiry)}
	k, err := metadata.KeyFromPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	for _, role := range []string{"root", "targets", "snapshot", "timestamp"} {
		if err := s.root.Signed.AddKey(k, role); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// signer returns the signer of a key as go-tuf wants it.
func (s *tufSigner) signer() signature.Signer {
	if k, ok := s.key.(*rsa.PrivateKey); ok {
		out, err := signature.LoadRSAPSSSigner(k, crypto.SHA256, &rsa.PSSOptions{SaltLength: 32, Hash: crypto.SHA256})
		if err != nil {
			s.t.Fatal(err)
		}
		return out
	}
	out, err := signature.LoadSigner(s.key, crypto.SHA256)
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

// document returns signed metadata as a tree, to be changed.
func document[T metadata.Roles](s *tufSigner, m *metadata.Metadata[T]) map[string]any {
	s.t.Helper()
	m.ClearSignatures()
	if _, err := m.Sign(s.signer()); err != nil {
		s.t.Fatal(err)
	}
	b, err := m.ToBytes(false)
	if err != nil {
		s.t.Fatal(err)
	}
	var doc map[string]any
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	if err := dec.Decode(&doc); err != nil {
		s.t.Fatal(err)
	}
	return doc
}

// resign signs a document that was changed anew.
func (s *tufSigner) resign(doc map[string]any) map[string]any {
	s.t.Helper()
	message, err := cjson.EncodeCanonical(doc["signed"])
	if err != nil {
		s.t.Fatal(err)
	}
	sig, err := s.signer().SignMessage(bytes.NewReader(message))
	if err != nil {
		s.t.Fatal(err)
	}
	doc["signatures"].([]any)[0].(map[string]any)["sig"] = hex.EncodeToString(sig)
	return doc
}

func tufRequest(t testing.TB, meta, root any) []byte {
	t.Helper()
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(map[string]any{"metadata": map[string]any{"content": meta}, "root": map[string]any{"content": root}}); err != nil {
		t.Fatal(err)
	}
	return request("tuf", b.String())
}

// clone copies a document.
func clone(t testing.TB, doc map[string]any) map[string]any {
	t.Helper()
	b, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	var out map[string]any
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	if err := dec.Decode(&out); err != nil {
		t.Fatal(err)
	}
	return out
}

// field returns the object or list at a path.
func field(doc any, path ...string) map[string]any {
	for _, p := range path {
		if p == "0" {
			doc = doc.([]any)[0]
		} else {
			doc = doc.(map[string]any)[p]
		}
	}
	return doc.(map[string]any)
}

// The metadata that go-tuf makes is accepted, with every sort of key, and is
// stored in the form that a general canonicaliser gives it.
func TestTUFKeys(t *testing.T) {
	for name, key := range map[string]crypto.Signer{"Ed25519": edKey(t), "P-256": ecKey(t, elliptic.P256()), "P-384": ecKey(t, elliptic.P384()), "RSA": rsaKey(t, 2048)} {
		s := newTUFSigner(t, key)
		root, meta := document(s, s.root), document(s, metadata.Timestamp(tufExpiry))
		if name == "P-384" {
			field(root, "signed", "keys", slices.Collect(maps.Keys(field(root, "signed", "keys")))[0])["keytype"] = "ecdsa"
			root = s.resign(root)
		}
		in := tufRequest(t, meta, root)
		e, err := Propose(in)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		checkCanonical(t, in)
		var body struct {
			Spec struct {
				Metadata, Root struct{ Content []byte }
				SpecVersion    string `json:"spec_version"`
			}
		}
		if err := json.Unmarshal(e.Body, &body); err != nil {
			t.Fatal(err)
		}
		for want, got := range map[*map[string]any][]byte{&root: body.Spec.Root.Content, &meta: body.Spec.Metadata.Content} {
			b, err := json.Marshal(*want)
			if err != nil {
				t.Fatal(err)
			}
			if b, err = jsoncanonicalizer.Transform(b); err != nil || !bytes.Equal(b, got) {
				t.Errorf("%s: stored %s, want %s, %v", name, got, b, err)
			}
		}
		rootHash := sha256Digest(body.Spec.Root.Content).value
		if hash, err := KeyHash("tuf", body.Spec.Root.Content); err != nil || hash != rootHash || !slices.Contains(e.Keys, hash) {
			t.Errorf("%s: hash of the root %s, %v, want %s", name, hash, err, rootHash)
		}
		if body.Spec.SpecVersion == "" {
			t.Errorf("%s: no version of the specification", name)
		}
		// What is stored may be proposed again.
		again, err := Propose(e.Body)
		if err != nil || !bytes.Equal(again.Body, e.Body) || !slices.Equal(again.Keys, e.Keys) {
			t.Errorf("%s: what is stored: %v", name, err)
		}
	}
	for format, want := range map[string]string{"x509": "invalid public key: failure decoding PEM", "nope": "the PKI format requested is not supported by this server"} {
		if _, err := KeyHash(format, []byte("x")); fmt.Sprint(err) != want {
			t.Errorf("%s: %v, want %s", format, err, want)
		}
	}
}

// Sigstore's first roots have their keys as points of P-256.
func TestTUFPoint(t *testing.T) {
	key := ecKey(t, elliptic.P256())
	s := newTUFSigner(t, key)
	root, meta := document(s, s.root), document(s, metadata.Timestamp(tufExpiry))
	point, err := key.Public().(*ecdsa.PublicKey).Bytes()
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range field(root, "signed", "keys") {
		field(k, "keyval")["public"] = hex.EncodeToString(point)
	}
	if _, err := Propose(tufRequest(t, meta, s.resign(root))); err != nil {
		t.Error(err)
	}
}

func TestTUF(t *testing.T) {
	s := newTUFSigner(t, edKey(t))
	other := newTUFSigner(t, edKey(t))
	root, meta := document(s, s.root), document(s, metadata.Timestamp(tufExpiry))
	otherRoot := document(other, other.root)
	id := field(root, "signatures", "0")["keyid"].(string)
	p256, pss := ecKey(t, elliptic.P256()), rsaKey(t, 2048)
	type doc = map[string]any
	many := func(n int, f func(i int) any) (list []any, set doc) {
		set = doc{}
		for i := range n {
			list = append(list, f(i))
			set[fmt.Sprint("k", i)] = f(i)
		}
		return list, set
	}
	sigs := func(n int) []any {
		list, _ := many(n-1, func(i int) any { return doc{"keyid": fmt.Sprint("k", i), "sig": ""} })
		return append(list, field(meta, "signatures", "0"))
	}
	edKeyJSON := field(root, "signed", "keys", id)
	fullKeys := func(n int) doc {
		_, set := many(n-1, func(int) any { return edKeyJSON })
		set[id] = edKeyJSON
		return set
	}
	fullRoles := func(n int) doc {
		_, set := many(n-4, func(int) any { return field(root, "signed", "roles", "root") })
		maps.Copy(set, field(root, "signed", "roles"))
		return set
	}
	deep := func(n int) any {
		return json.RawMessage(strings.Repeat("[", n) + strings.Repeat("]", n))
	}
	for _, c := range []struct {
		name   string
		change func(m, r doc) // both are signed anew
		want   string         // "" is accepted
	}{
		{"as it is", func(_, _ doc) {}, ""},
		{"a member beside", func(m, _ doc) { m["note"] = "x"; field(m, "signatures", "0")["method"] = "x" }, ""},
		{"100 signatures", func(m, _ doc) {
			m["signatures"] = append([]any{field(m, "signatures", "0")}, sigs(100)[:99]...)
		}, ""},
		{"100 keys and roles", func(_, r doc) {
			field(r, "signed")["keys"], field(r, "signed")["roles"] = fullKeys(100), fullRoles(100)
		}, ""},
		{"no version of the specification", func(_, r doc) { delete(field(r, "signed"), "spec_version") }, ""},
		{"sixteen levels", func(_, r doc) { field(r, "signed")["x"] = deep(16) }, ""},

		{"metadata of no role", func(m, _ doc) { field(m, "signed")["_type"] = "mirrors" }, "metadata.content: signed._type in body should be one of [root targets snapshot timestamp]"},
		{"metadata of a role that is a number", func(m, _ doc) { field(m, "signed")["_type"] = 5 }, "metadata.content: signed._type: want a string, not number"},
		{"a version that is none", func(m, _ doc) { field(m, "signed")["version"] = "1" }, "metadata.content: signed.version: want an integer that is not negative"},
		{"a negative version", func(m, _ doc) { field(m, "signed")["version"] = -1 }, "metadata.content: signed.version: want an integer that is not negative"},
		{"no version", func(m, _ doc) { delete(field(m, "signed"), "version") }, "metadata.content: signed.version: want an integer that is not negative"},
		{"no expiry", func(m, _ doc) { delete(field(m, "signed"), "expires") }, "metadata.content: signed.expires: want a time such as 2030-01-02T03:04:05Z"},
		{"an expiry that is none", func(m, _ doc) { field(m, "signed")["expires"] = "tomorrow" }, "metadata.content: signed.expires: want a time such as 2030-01-02T03:04:05Z"},
		{"a root as metadata only", func(m, r doc) { maps.Copy(r, m) }, "root.content: want metadata of the role root, not timestamp"},
		{"101 signatures", func(m, _ doc) { m["signatures"] = append([]any{field(m, "signatures", "0")}, sigs(101)[:100]...) }, "metadata.content: signatures: at most 100 are accepted"},
		{"two signatures of a key", func(m, _ doc) { m["signatures"] = append(sigs(1), doc{"keyid": id, "sig": ""}) }, fmt.Sprintf("metadata.content: signatures: key %q has two", id)},
		{"a signature that is none", func(m, _ doc) { m["signatures"] = append(sigs(1), 5) }, "metadata.content: signatures: signature: want an object"},
		{"a signature of null", func(m, _ doc) { m["signatures"] = append(sigs(1), nil) }, "metadata.content: signatures: signature in body is required"},
		{"a signature of no key", func(m, _ doc) { m["signatures"] = append(sigs(1), doc{"sig": ""}) }, "metadata.content: signatures: keyid in body is required"},
		{"a signature of a number", func(m, _ doc) { m["signatures"] = append(sigs(1), doc{"keyid": 5, "sig": ""}) }, "metadata.content: signatures: keyid: want a string, not number"},
		{"a signature without sig", func(m, _ doc) { m["signatures"] = append(sigs(1), doc{"keyid": "x"}) }, "metadata.content: signatures: sig: want a string of hex digits"},
		{"a signature in base64", func(m, _ doc) { m["signatures"] = append(sigs(1), doc{"keyid": "x", "sig": "AAA="}) }, "metadata.content: signatures: sig: want a string of hex digits"},

		{"keys that are none", func(_, r doc) { field(r, "signed")["keys"] = 5 }, "root.content: signed.keys: want an object"},
		{"101 keys", func(_, r doc) { field(r, "signed")["keys"] = fullKeys(101) }, "root.content: signed.keys: at most 100 are accepted"},
		{"a key of no type", func(_, r doc) { field(r, "signed", "keys")["x"] = doc{"keytype": "dsa", "keyval": doc{"public": "x"}} },
			`root.content: signed.keys: "x": keytype in body should be one of [ed25519 ecdsa ecdsa-sha2-nistp256 rsa]`},
		{"a key that is null", func(_, r doc) { field(r, "signed", "keys")["x"] = nil }, `root.content: signed.keys: "x": key in body is required`},
		{"a key type that is a number", func(_, r doc) { field(r, "signed", "keys")["x"] = doc{"keytype": 5} }, `root.content: signed.keys: "x": keytype: want a string, not number`},
		{"a key without value", func(_, r doc) { field(r, "signed", "keys")["x"] = doc{"keytype": "rsa"} }, `root.content: signed.keys: "x": keyval in body is required`},
		{"a key that is a number", func(_, r doc) { field(r, "signed", "keys")["x"] = doc{"keytype": "rsa", "keyval": doc{"public": 5}} }, `root.content: signed.keys: "x": keyval.public: want a string, not number`},
		{"a short Ed25519 key", func(_, r doc) {
			field(r, "signed", "keys")["x"] = doc{"keytype": "ed25519", "keyval": doc{"public": "00"}}
		}, `root.content: signed.keys: "x": keyval.public: want an Ed25519 key in 64 hex digits`},
		{"no point", func(_, r doc) {
			field(r, "signed", "keys")["x"] = doc{"keytype": "ecdsa", "keyval": doc{"public": "04"}}
		}, `root.content: signed.keys: "x": keyval.public: want a point of P-256 in 130 hex digits`},
		{"no PEM", func(_, r doc) { field(r, "signed", "keys")["x"] = doc{"keytype": "rsa", "keyval": doc{"public": "x"}} }, `root.content: signed.keys: "x": keyval.public: invalid public key: failure decoding PEM`},
		{"RSA as ECDSA", func(_, r doc) {
			field(r, "signed", "keys")["x"] = doc{"keytype": "ecdsa", "keyval": doc{"public": string(pubPEM(t, pss))}}
		}, `root.content: signed.keys: "x": keyval.public: want a public key of the type ecdsa`},
		{"ECDSA as RSA", func(_, r doc) {
			field(r, "signed", "keys")["x"] = doc{"keytype": "rsa", "keyval": doc{"public": string(pubPEM(t, p256))}}
		}, `root.content: signed.keys: "x": keyval.public: want a public key of the type rsa`},

		{"roles that are none", func(_, r doc) { field(r, "signed")["roles"] = nil }, "root.content: signed.roles: want an object"},
		{"101 roles", func(_, r doc) { field(r, "signed")["roles"] = fullRoles(101) }, "root.content: signed.roles: at most 100 are accepted"},
		{"a role that is null", func(_, r doc) { field(r, "signed", "roles")["x"] = nil }, `root.content: signed.roles: "x": role in body is required`},
		{"no threshold", func(_, r doc) { field(r, "signed", "roles")["x"] = doc{"keyids": []any{}} }, `root.content: signed.roles: "x": threshold: want an integer of at least 1`},
		{"a threshold of 0", func(_, r doc) { field(r, "signed", "roles", "timestamp")["threshold"] = 0 }, `root.content: signed.roles: "timestamp": threshold: want an integer of at least 1`},
		{"a threshold of 2", func(_, r doc) { field(r, "signed", "roles", "timestamp")["threshold"] = 2 }, "metadata.content: signatures of 1 keys of the role timestamp verify, 2 are needed"},
		{"no keys of a role", func(_, r doc) { field(r, "signed", "roles", "timestamp")["keyids"] = nil }, `root.content: signed.roles: "timestamp": keyids: want an array`},
		{"key IDs that are numbers", func(_, r doc) { field(r, "signed", "roles", "timestamp")["keyids"] = []any{5} }, `root.content: signed.roles: "timestamp": keyids: want a string, not number`},
		{"101 keys of a role", func(_, r doc) {
			list, _ := many(101, func(i int) any { return fmt.Sprint(i) })
			field(r, "signed", "roles", "timestamp")["keyids"] = list
		}, `root.content: signed.roles: "timestamp": keyids: at most 100 are accepted`},
		{"another key of the role", func(_, r doc) { field(r, "signed", "roles", "timestamp")["keyids"] = []any{"x"} }, "metadata.content: signatures of 0 keys of the role timestamp verify, 1 are needed"},
		{"a key of the role that there is not", func(_, r doc) {
			field(r, "signed")["keys"] = doc{"x": edKeyJSON}
			field(r, "signed", "roles", "root")["keyids"] = []any{"x", id}
		}, "root.content: signatures of 0 keys of the role root verify, 1 are needed"},
		{"no role", func(_, r doc) { delete(field(r, "signed", "roles"), "timestamp") }, "metadata.content: the root has no role timestamp"},
		{"one key under two IDs", func(m, r doc) {
			field(r, "signed", "keys")["x"] = edKeyJSON
			field(r, "signed", "roles", "timestamp")["keyids"] = []any{id, "x"}
			field(r, "signed", "roles", "timestamp")["threshold"] = 2
			m["signatures"] = append(m["signatures"].([]any), doc{"keyid": "x", "sig": field(m, "signatures", "0")["sig"]})
		}, "metadata.content: signatures of 1 keys of the role timestamp verify, 2 are needed"},
		{"a version of the specification that is a number", func(_, r doc) { field(r, "signed")["spec_version"] = 1 }, "root.content: signed.spec_version: want a string, not number"},
		{"seventeen levels", func(_, r doc) {
			field(r, "signed")["x"] = json.RawMessage(strings.Repeat("[", 17) + strings.Repeat("]", 17))
		}, "root.content: signed: it is nested more than 16 deep"},

		{"expired", func(m, _ doc) { field(m, "signed")["expires"] = "2001-01-02T03:04:05Z" }, "timestamp expired at 2001-01-02T03:04:05Z"},
		{"an expired root", func(_, r doc) { field(r, "signed")["expires"] = "2001-01-02T03:04:05Z" }, "root expired at 2001-01-02T03:04:05Z"},
	} {
		m, r := clone(t, meta), clone(t, root)
		c.change(m, r)
		m, r = s.resign(m), s.resign(r)
		if c.name == "one key under two IDs" { // the second one, too
			m["signatures"].([]any)[1].(doc)["sig"] = field(m, "signatures", "0")["sig"]
		}
		err := checkVerdict(t, c.name, tufRequest(t, m, r))
		if (err == nil) != (c.want == "") || err != nil && err.Error() != c.want {
			t.Errorf("%s: %v\nwant %s", c.name, err, c.want)
		}
	}

	cert := base64.StdEncoding.EncodeToString([]byte(`{"signed":`))
	text := func(d doc) string {
		b, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	rootText, metaText := text(root), text(meta)
	with := func(m string) string { return `{"metadata":{"content":` + m + `},"root":{"content":` + rootText + `}}` }
	signed := func(s string) string {
		return with(strings.Replace(metaText, `"spec_version"`, s+`,"spec_version"`, 1))
	}
	for _, c := range []struct{ name, spec, want string }{
		{"nothing", `{}`, "metadata in body is required"},
		{"a URL", `{"metadata":{"url":"http://localhost/x"},"root":{"url":"http://localhost/x"}}`, "metadata.content in body is required"},
		{"no root", `{"metadata":{"content":{}}}`, "root in body is required"},
		{"a root of null", `{"metadata":{"content":{}},"root":{"content":null}}`, "root.content in body is required"},
		{"a number", with("5"), "metadata.content: want an object, or base64 of one, not number"},
		{"an array in base64", with(`"W10="`), "metadata.content: want an object, or base64 of one, not array"},
		{"no base64", with(`"*"`), "metadata.content: failed parsing base64 data: illegal base64 data at input byte 0"},
		{"no JSON", with(`"` + cert + `"`), "metadata.content is not JSON: unexpected end of JSON input"},
		{"large metadata", with(`{"x":"` + strings.Repeat("x", 5_000_000) + `"}`), "metadata.content has 5000008 bytes, at most 5000000 are accepted"},
		{"a large root", `{"metadata":{"content":` + metaText + `},"root":{"content":{"x":"` + strings.Repeat("x", 512_000) + `"}}}`, "root.content has 512008 bytes, at most 512000 are accepted"},
		{"nothing signed", with("{}"), "metadata.content: signed in body is required"},
		{"no signatures", with(`{"signed":{}}`), "metadata.content: signatures in body is required"},
		{"signatures that are none", with(`{"signed":{},"signatures":5}`), "metadata.content: signatures: want an array"},
		{"a fraction", signed(`"x":1.5`), "metadata.content: signed: want an integer without fraction and exponent, of at most 2^53-1"},
		{"an exponent", signed(`"x":1e3`), "metadata.content: signed: want an integer without fraction and exponent, of at most 2^53-1"},
		{"minus nothing", signed(`"x":-0`), "metadata.content: signed: want an integer without fraction and exponent, of at most 2^53-1"},
		{"a large number", signed(`"x":9007199254740992`), "metadata.content: signed: want an integer without fraction and exponent, of at most 2^53-1"},
		{"a name twice", signed(`"y":[{"x":1,"x":2}]`), `metadata.content: signed: member "x" is there twice`},
		{"half a character", signed(`"x":"\ud800"`), "metadata.content: signed: string holds half a surrogate pair"},
		{"another root", string(tufRequest(t, meta, otherRoot))[len(`{"kind":"tuf","apiVersion":"0.0.1","spec":`):], "metadata.content: signatures of 0 keys of the role timestamp verify, 1 are needed"},
	} {
		refusal(t, c.name, request("tuf", strings.TrimSuffix(c.spec, "\n}")), c.want)
	}
	// What is stored has no expiry any more, and no signature is verified.
	expired := clone(t, meta)
	field(expired, "signed")["expires"] = "2001-01-02T03:04:05Z"
	if keys, err := Keys(tufRequest(t, expired, root)); err != nil || len(keys) != 6 {
		t.Errorf("keys %q, %v", keys, err)
	}
	if hash, err := KeyHash("tuf", []byte(text(s.resign(expired)))); err == nil {
		t.Errorf("a timestamp as a key: %s", hash)
	}
	field(root, "signed")["version"] = 9
	if _, err := KeyHash("tuf", []byte(text(root))); fmt.Sprint(err) != "signatures of 0 keys of the role root verify, 1 are needed" {
		t.Errorf("a root that was changed: %v", err)
	}
	if _, err := KeyHash("tuf", []byte("x")); err == nil {
		t.Error("a key that is no JSON")
	}
}

// Metadata is good up to the second before it expires.
func TestTUFClock(t *testing.T) {
	s := newTUFSigner(t, edKey(t))
	in := tufRequest(t, document(s, metadata.Timestamp(tufExpiry)), document(s, s.root))
	_, _, spec, err := header(trimmed(in))
	if err != nil {
		t.Fatal(err)
	}
	for now, ok := range map[time.Time]bool{tufExpiry.Add(-1): true, tufExpiry: false, tufExpiry.Add(1): false} {
		if _, _, err := proposeTUFAt(spec, now); (err == nil) != ok {
			t.Errorf("at %s: %v", now, err)
		}
	}
}

// Many Ed25519 keys do not read large metadata many times.
func TestTUFEd25519Budget(t *testing.T) {
	s := newTUFSigner(t, edKey(t))
	root, meta := document(s, s.root), document(s, metadata.Targets(tufExpiry))
	field(meta, "signed")["x"] = strings.Repeat("x", 4_500_000)
	meta = s.resign(meta)
	sig := field(meta, "signatures", "0")["sig"]
	ids := []any{field(meta, "signatures", "0")["keyid"]}
	for i := range 40 {
		pub, _, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		id := fmt.Sprint(i)
		field(root, "signed", "keys")[id] = map[string]any{"keytype": "ed25519", "keyval": map[string]any{"public": hex.EncodeToString(pub)}}
		ids = append(ids, id)
		if i < 20 {
			meta["signatures"] = append(meta["signatures"].([]any), map[string]any{"keyid": id, "sig": sig})
		}
	}
	field(root, "signed", "roles", "targets")["keyids"] = ids
	root = s.resign(root)
	if err := checkVerdict(t, "21 signatures", tufRequest(t, meta, root)); err != nil {
		t.Errorf("21 signatures: %v", err)
	}
	for i := 20; i < 40; i++ {
		meta["signatures"] = append(meta["signatures"].([]any), map[string]any{"keyid": fmt.Sprint(i), "sig": sig})
	}
	refusal(t, "41 signatures", tufRequest(t, meta, root), "metadata.content: the metadata is too large for this many Ed25519 signatures")
}

// Both canonical forms agree with the libraries of others.
func TestCanonicalForms(t *testing.T) {
	for _, in := range []string{
		`{}`, `[]`, `null`, `true`, `{"b":1,"a":[true,false,null,"x",-5,0,9007199254740991]}`, `{"a":{"c":{},"b":[[]]},"":0}`,
		`{"\ud83d\ude00":1,"\uff01":2,"\u00e9":3,"z":4,"Z":5,"\ud83d\ude01":6,"\ue000":7}`,
		`["\"\\\/\b\f\n\r\t\u0001\u001f\u007f\u2028<>&\u00e9\ud83d\ude00"]`, ` { "x" : [ 1 , 2 ] } `,
	} {
		want, err := jsoncanonicalizer.Transform([]byte(in))
		if in == `null` || in == `true` {
			want, err = []byte(in), nil // it takes objects and arrays only
		}
		if err != nil {
			t.Fatal(err)
		}
		got, err := formJCS.canonical(trimmed([]byte(in)))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("RFC 8785 of %s\n got %s, %v\nwant %s", in, got, err, want)
		}
		var v any
		dec := json.NewDecoder(strings.NewReader(in))
		dec.UseNumber()
		if err := dec.Decode(&v); err != nil {
			t.Fatal(err)
		}
		if want, err = cjson.EncodeCanonical(v); err != nil {
			t.Fatal(err)
		}
		// From the text, and from the other form, which is how it is used.
		for _, in := range [][]byte{[]byte(in), got} {
			if got, err := formOLPC.canonical(trimmed(in)); err != nil || !bytes.Equal(got, want) {
				t.Errorf("OLPC of %s\n got %q, %v\nwant %q", in, got, err, want)
			}
		}
	}
}

// Ten times the metadata costs at most twelve times the time.
func TestTUFLinear(t *testing.T) {
	s := newTUFSigner(t, ecKey(t, elliptic.P256()))
	root := document(s, s.root)
	for name, member := range map[string]func(i, n int) string{
		"in order":     func(i, _ int) string { return fmt.Sprintf(`"%08d":0`, i) },
		"in disorder":  func(i, n int) string { return fmt.Sprintf(`"%08d":0`, n-i) },
		"escapes":      func(i, n int) string { return fmt.Sprintf(`"\u0041%08d":"\u0001"`, n-i) },
		"many objects": func(i, _ int) string { return fmt.Sprintf(`"%08d":{"b":{},"a":[]}`, i) },
	} {
		build := func(n int) []byte {
			var b strings.Builder
			for i := range n {
				b.WriteString(member(i, n) + ",")
			}
			meta := document(s, metadata.Targets(tufExpiry))
			field(meta, "signed")["x"] = json.RawMessage("{" + strings.TrimSuffix(b.String(), ",") + "}")
			return tufRequest(t, s.resign(meta), root)
		}
		small, large := build(3000), build(30_000)
		if err := checkVerdict(t, name, large); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		checkLinear(t, name, small, large)
		fuzz.Budget(t, len(large), func() { _, _ = Propose(large) })
	}
	// Levels below levels.
	deep := func(n int) []byte {
		meta := document(s, metadata.Targets(tufExpiry))
		field(meta, "signed")["x"] = json.RawMessage(strings.Repeat("[", 14) + "0" + strings.Repeat(",0", n) + strings.Repeat("]", 14))
		return tufRequest(t, s.resign(meta), root)
	}
	checkLinear(t, "levels", deep(10_000), deep(100_000))
}

// Root metadata, as a search has it.
func FuzzTUFRoot(f *testing.F) {
	var seeds []*fuzz.Node
	for _, key := range []crypto.Signer{edKey(f), ecKey(f, elliptic.P256()), rsaKey(f, 2048)} {
		s := newTUFSigner(f, key)
		b, err := json.Marshal(document(s, s.root))
		if err != nil {
			f.Fatal(err)
		}
		seeds = append(seeds, fuzz.Look(b))
	}
	parse := func(in []byte) (*tufRoot, error) {
		if err := checkJSON(in); err != nil {
			return nil, err
		}
		return readTUFRoot(trimmed(in))
	}
	fuzz.Run(f, seeds, parse, func(t *testing.T, in []byte, r *tufRoot, err error) {
		if err != nil {
			if strings.ContainsAny(err.Error(), "\r\n") {
				t.Fatalf("error of more than one line: %q", err)
			}
			return
		}
		text := r.canonical()
		again, err := parse(text)
		if err != nil || !bytes.Equal(again.canonical(), text) {
			t.Fatalf("canonical form is not stable: %v", err)
		}
		if jcs, err := jsoncanonicalizer.Transform(text); err != nil || !bytes.Equal(jcs, text) {
			t.Fatalf("not in canonical form: %v\n got %s\nwant %s", err, text, jcs)
		}
	})
}
