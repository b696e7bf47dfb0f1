package compare

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/sigstack/sigstack/test/mutate"
)

const (
	pathLog      = "/api/v1/log"
	pathEntries  = "/api/v1/log/entries"
	pathRetrieve = "/api/v1/log/entries/retrieve"
	pathSearch   = "/api/v1/index/retrieve"
)

// random is the same for the same name and seed.
func (r *run) random(name string) *rand.Rand {
	h := fnv.New64a()
	h.Write([]byte(name))
	return rand.New(rand.NewPCG(r.seed, h.Sum64()))
}

// additions post each proposal twice. Entries of one kind come one after another,
// because some are there twice.
func (r *run) additions(proposals []proposal) [][]pair {
	lanes := make(map[string][]pair)
	for i, p := range proposals {
		kind, _, _ := strings.Cut(p.name, " ")
		for n := range 2 {
			req := post(fmt.Sprintf("%s, number %d, time %d", p.name, i, n+1), "create", pathEntries, p.body)
			req.seed = p.name
			lanes[kind] = append(lanes[kind], both(req))
		}
	}
	var all [][]pair
	for _, lane := range lanes {
		all = append(all, lane)
	}
	return all
}

// perProposal is how many changes to a proposal are sent, of several hundred, and
// perPart of those inside of its texts.
const (
	perProposal = 48
	perPart     = 24
)

// changes post changed proposals. Changes to one are sent one after another: two
// may give one entry.
func (r *run) changes(proposals []proposal) [][]pair {
	var all [][]pair
	for i, p := range proposals {
		random := r.random(p.name)
		var lane []pair
		add := func(where string, m mutate.Mutation, body []byte) {
			req := post(fmt.Sprintf("%s, number %d%s: %s %s %s", p.name, i, where, m.Path, m.Class, m.Op), "create", pathEntries, body)
			req.seed, req.change = p.name+where, m
			lane = append(lane, both(req))
		}
		for _, m := range some(random, changesOf(p.body), perProposal) {
			add("", m, m.Body)
		}
		if inner, outer := embedded(p.body); inner != "" {
			for _, m := range some(random, changesOf([]byte(inner)), perPart) {
				add(" envelope", m, outer(m.Body))
			}
		}
		for _, m := range some(random, damages(random, p.body), perPart) {
			add(" inside", m, m.Body)
		}
		all = append(all, lane)
	}
	return all
}

// changesOf is every change to a document, in an order that is always the same.
func changesOf(document []byte) []mutate.Mutation {
	var all []mutate.Mutation
	mutate.Document(document, func(m mutate.Mutation) { all = append(all, m) })
	slices.SortStableFunc(all, func(a, b mutate.Mutation) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Class, b.Class), cmp.Compare(a.Op, b.Op))
	})
	return all
}

// some are n of them.
func some[T any](random *rand.Rand, all []T, n int) []T {
	random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all[:min(n, len(all))]
}

// embedded is the document in a text of a proposal, and how to put another one
// there.
func embedded(body []byte) (inner string, with func([]byte) []byte) {
	var p struct {
		Spec struct {
			Content, ProposedContent struct{ Envelope json.RawMessage }
		}
	}
	if json.Unmarshal(body, &p) != nil {
		return "", nil
	}
	for _, raw := range []json.RawMessage{p.Spec.Content.Envelope, p.Spec.ProposedContent.Envelope} {
		if json.Unmarshal(raw, &inner) == nil && inner != "" {
			return inner, func(b []byte) []byte { return bytes.Replace(body, raw, marshal(string(b)), 1) }
		}
	}
	return "", nil
}

// damages are changes to what texts of a document encode.
func damages(random *rand.Rand, document []byte) []mutate.Mutation {
	var all []mutate.Mutation
	root := mutate.Parse(document)
	var walk func(n *mutate.Node, path string)
	walk = func(n *mutate.Node, path string) {
		for _, m := range n.Members {
			walk(m.Value, strings.TrimPrefix(path+"."+strings.Trim(m.Name, `"`), "."))
		}
		for i, e := range n.Elems {
			walk(e, fmt.Sprintf("%s.%d", path, i))
		}
		var text string
		if json.Unmarshal([]byte(n.Raw), &text) != nil {
			return
		}
		raw, err := base64.StdEncoding.DecodeString(text)
		if err != nil || len(raw) < 20 {
			return
		}
		was := n.Raw
		put := func(op string, b []byte) {
			n.Raw = string(marshal(b))
			all = append(all, mutate.Mutation{Path: path, Class: "inside", Op: op, Body: root.Bytes()})
			n.Raw = was
		}
		for i := range 6 {
			at := random.IntN(len(raw))
			b := bytes.Clone(raw)
			b[at] ^= 1 << random.IntN(8)
			put(fmt.Sprintf("bit %d", i), b)
			put(fmt.Sprintf("cut %d", i), raw[:at])
			put(fmt.Sprintf("less %d", i), slices.Delete(bytes.Clone(raw), at, at+1))
			put(fmt.Sprintf("more %d", i), slices.Insert(bytes.Clone(raw), at, raw[at]))
		}
		put("twice", append(bytes.Clone(raw), raw...))
		put("text before", append([]byte("hello\n"), raw...))
		put("text behind", append(bytes.Clone(raw), "\nhello"...))
		put("zeros behind", append(bytes.Clone(raw), 0, 0, 0, 0))
		put("CRLF", bytes.ReplaceAll(raw, []byte("\n"), []byte("\r\n")))
		put("no line end", bytes.TrimSpace(raw))
	}
	walk(root, "")
	return all
}

// reads ask for what is there, and for what is not, in every way.
func (r *run) reads(proposals []proposal) [][]pair {
	ours, theirs := r.readsOf(r.ours, proposals), r.readsOf(r.theirs, proposals)
	byName := make(map[string]request)
	for _, req := range theirs {
		byName[req.name] = req
	}
	var lanes [][]pair
	seen := make(map[string]bool)
	for _, req := range ours {
		if seen[req.name] {
			panic("two requests " + req.name)
		}
		seen[req.name] = true
		// A change may be one of only one side: capitals of digits.
		if other, ok := byName[req.name]; ok {
			lanes = append(lanes, []pair{{req, other}})
		}
	}
	return lanes
}

// oddIntegers are values of a parameter that is an integer.
var oddIntegers = []string{"", "0", "1", "2", "-1", "+1", "01", "1.0", "1e0", "0x1", "abc", " 1", "1 ", "9223372036854775807", "9223372036854775808", "1,2", "%00"}

func (r *run) readsOf(s *side, proposals []proposal) []request {
	random := r.random("reads")
	var all []request
	get := func(name, path string) {
		all = append(all, request{name: name, kind: "read", method: "GET", path: path})
	}
	var leaves []string
	for leaf := range s.log {
		if r.common(leaf) {
			leaves = append(leaves, leaf)
		}
	}
	slices.Sort(leaves)
	leaves = some(random, leaves, 250)
	for i, leaf := range leaves {
		uuid := s.uuid(leaf)
		get(fmt.Sprintf("entry %d by index", i), fmt.Sprintf("%s?logIndex=%d", pathEntries, s.log[leaf].LogIndex))
		get(fmt.Sprintf("entry %d by UUID", i), pathEntries+"/"+uuid)
		get(fmt.Sprintf("entry %d by leaf hash", i), pathEntries+"/"+leaf)
		get(fmt.Sprintf("entry %d by UUID in capitals", i), pathEntries+"/"+strings.ToUpper(uuid))
	}
	leaf := leaves[0]
	absent := strings.Repeat("0123456789abcdef", 4)
	for _, id := range []string{
		s.uuid(absent), absent, strings.ToUpper(absent), s.uuid(leaf)[1:], s.uuid(leaf) + "0", leaf[1:], leaf + "0", "x" + leaf[1:], "", "x", "%20", "%00", "retrieve", "retrieve/",
		strings.Repeat("0", 16) + leaf, strings.Repeat("f", 16) + leaf, "7" + strings.Repeat("f", 15) + leaf, "8" + strings.Repeat("0", 15) + leaf, "0000000000000001" + leaf,
		fmt.Sprintf("%016x", s.tree^1) + leaf, s.uuid(leaf) + "/", s.uuid(leaf) + "/x", s.uuid(leaf) + "?x=y", "../entries/" + s.uuid(leaf), "%2e%2e/entries", strings.Repeat("a", 3000), "/" + s.uuid(leaf),
		strings.Replace(s.uuid(leaf), leaf[:1], "%"+fmt.Sprintf("%02x", leaf[0]), 1), "0x" + leaf[2:], s.uuid(leaf) + "%0a", s.uuid(leaf) + "%20",
	} {
		get("UUID "+strings.NewReplacer(fmt.Sprintf("%016x", s.tree), "TREE", fmt.Sprintf("%016x", s.tree^1), "OTHER", leaf, "LEAF", leaf[1:], "LEAF-").Replace(id), pathEntries+"/"+id)
	}
	sizes := []struct {
		name string
		n    uint64
	}{{"size-1", s.size - 1}, {"size", s.size}, {"size+1", s.size + 1}, {"half", s.size / 2}, {"2*size", 2 * s.size}}
	type value struct{ name, text string }
	values := func(odd []string) []value {
		var all []value
		for _, o := range odd {
			all = append(all, value{o, url.QueryEscape(o)})
		}
		for _, n := range sizes {
			all = append(all, value{n.name, fmt.Sprint(n.n)})
		}
		return all
	}
	for _, v := range values(oddIntegers) {
		get("logIndex "+v.name, pathEntries+"?logIndex="+v.text)
		all[len(all)-1].kind = "place"
	}
	for _, q := range []string{"", "?", "?logIndex", "?LogIndex=0", "?logindex=0", "?logIndex=0&logIndex=1", "?logIndex=1&logIndex=x", "?logIndex=x&logIndex=1", "?logIndex[]=0", "?logIndex=0;x=1", "?logIndex=%zz", "?%zz=1&logIndex=0", "?logIndex=0&entryUUID=x", "?logIndex=0#x"} {
		get("query of entries "+q, pathEntries+q)
		all[len(all)-1].kind = "place"
	}
	proofs := values(oddIntegers)
	for _, first := range append(proofs, value{"none", "none"}) {
		for _, last := range append(proofs, value{"none", "none"}) {
			path := pathLog + "/proof?"
			if first.text != "none" {
				path += "firstSize=" + first.text + "&"
			}
			if last.text != "none" {
				path += "lastSize=" + last.text
			}
			get("proof from "+first.name+" to "+last.name, path)
		}
	}
	trees := []value{
		{"own", fmt.Sprint(s.tree)}, {"own with a zero", fmt.Sprintf("0%d", s.tree)}, {"other", fmt.Sprint(s.tree ^ 1)}, {"negative", fmt.Sprint(-s.tree)}, {"hex", fmt.Sprintf("%x", s.tree)},
		{"0", "0"}, {"1", "1"}, {"empty", ""}, {"letters", "abc"}, {"largest", "9223372036854775807"}, {"too large", "9223372036854775808"}, {"long", strings.Repeat("1", 300)}, {"space", "+" + fmt.Sprint(s.tree)}, {"plus", "%2b" + fmt.Sprint(s.tree)},
	}
	for _, tree := range trees {
		for _, size := range sizes {
			get("proof to "+size.name+" in tree "+tree.name, fmt.Sprintf("%s/proof?lastSize=%d&treeID=%s", pathLog, size.n, tree.text))
		}
		get("proof backwards in tree "+tree.name, fmt.Sprintf("%s/proof?firstSize=5&lastSize=2&treeID=%s", pathLog, tree.text))
		for _, accept := range accepts {
			req := request{name: "key of tree " + tree.name + ", accept " + accept, kind: "read", method: "GET", path: pathLog + "/publicKey?treeID=" + tree.text}
			if accept != "-" {
				req = req.with("Accept", accept)
			}
			all = append(all, req)
		}
	}
	get("key", pathLog+"/publicKey")
	get("key of two trees", fmt.Sprintf("%s/publicKey?treeID=1&treeID=%d", pathLog, s.tree))
	for _, q := range []string{"", "?", "?stable=true", "?x=y", "?treeID=1", "?%zz"} {
		get("log "+q, pathLog+q)
	}

	all = append(all, r.retrievals(s, random, leaves, proposals)...)
	all = append(all, r.searches(s, random, proposals)...)
	return append(all, protocol(s, leaf)...)
}

// retrievals ask for several entries.
func (r *run) retrievals(s *side, random *rand.Rand, leaves []string, proposals []proposal) []request {
	var all []request
	add := func(name string, body []byte) {
		all = append(all, post("retrieve "+name, "retrieve", pathRetrieve, body))
	}
	index := func(i int) uint64 { return s.log[leaves[i]].LogIndex }
	for n := range 11 {
		uuids, hashes, indexes := []string{}, []string{}, []uint64{}
		for i := range n {
			uuids, hashes, indexes = append(uuids, s.uuid(leaves[i])), append(hashes, leaves[i]), append(indexes, index(i))
		}
		add(fmt.Sprintf("%d UUIDs", n), marshal(object{"entryUUIDs": uuids}))
		add(fmt.Sprintf("%d leaf hashes", n), marshal(object{"entryUUIDs": hashes}))
		add(fmt.Sprintf("%d indexes", n), marshal(object{"logIndexes": indexes}))
		add(fmt.Sprintf("%d of each", n), marshal(object{"logIndexes": indexes, "entryUUIDs": uuids}))
		add(fmt.Sprintf("%d UUIDs and nulls", n), marshal(object{"logIndexes": nil, "entries": nil, "entryUUIDs": uuids}))
	}
	for i := range 100 {
		var uuids []string
		var indexes []uint64
		for range 1 + random.IntN(5) {
			leaf := leaves[random.IntN(len(leaves))]
			switch random.IntN(5) {
			case 0:
				uuids = append(uuids, leaf)
			case 1:
				indexes = append(indexes, s.log[leaf].LogIndex)
			case 2:
				uuids = append(uuids, strings.ToUpper(s.uuid(leaf)))
			case 3:
				uuids = append(uuids, s.uuid(strings.Repeat("0123456789abcdef", 4)))
			default:
				uuids = append(uuids, s.uuid(leaf))
			}
		}
		doc := object{}
		if uuids != nil {
			doc["entryUUIDs"] = uuids
		}
		if indexes != nil {
			doc["logIndexes"] = indexes
		}
		add(fmt.Sprintf("mixture %d", i), marshal(doc))
	}
	for name, doc := range map[string]string{
		"nothing": `{}`, "null": `null`, "other members": `{"x":1}`, "absent index": `{"logIndexes":[99999999]}`, "absent UUID": `{"entryUUIDs":["` + strings.Repeat("0123456789abcdef", 5) + `"]}`,
		"tree 0": `{"entryUUIDs":["` + strings.Repeat("0", 16) + leaves[0] + `"]}`, "tree too large": `{"entryUUIDs":["` + strings.Repeat("f", 16) + leaves[0] + `"]}`,
		"largest index": `{"logIndexes":[9223372036854775807]}`, "index 2^63": `{"logIndexes":[9223372036854775808]}`, "index as text": `{"logIndexes":["0"]}`, "index 0.0": `{"logIndexes":[0.0]}`, "index 1e0": `{"logIndexes":[1e0]}`,
		"entry null": `{"entries":[null]}`, "entry of no kind": `{"entries":[{}]}`, "entry of another kind": `{"entries":[{"kind":"nope","apiVersion":"0.0.1","spec":{}}]}`,
		"entry without version": `{"entries":[{"kind":"hashedrekord","spec":{}}]}`, "entry of another version": `{"entries":[{"kind":"hashedrekord","apiVersion":"0.0.9","spec":{}}]}`, "entry without spec": `{"entries":[{"kind":"hashedrekord","apiVersion":"0.0.1"}]}`,
		"eleven UUIDs": `{"entryUUIDs":[` + strings.Repeat(`"`+leaves[0]+`",`, 10) + `"` + leaves[0] + `"]}`,
	} {
		add(name, []byte(doc))
	}
	for i, p := range proposals {
		if i%10 == 0 {
			for _, accept := range []string{"text/html", "*/*"} {
				again := post(fmt.Sprintf("%s, number %d, accepting %s", p.name, i, accept), "create", pathEntries, p.body).with("Accept", accept)
				look := post("retrieve "+again.name, "retrieve", pathRetrieve, marshal(object{"entries": array{json.RawMessage(p.body)}})).with("Accept", accept)
				again.seed, look.seed = p.name, p.name
				all = append(all, again, look)
			}
		}
		if !r.agreed(p) {
			continue
		}
		add(fmt.Sprintf("entry %s, number %d", p.name, i), marshal(object{"entries": array{json.RawMessage(p.body)}}))
		if i%7 == 0 {
			doc := object{"entries": array{json.RawMessage(p.body)}, "entryUUIDs": array{s.uuid(leaves[1]), leaves[2]}, "logIndexes": array{index(3)}}
			for _, m := range some(random, changesOf(marshal(doc)), 40) {
				if m.Path == "entryUUIDs.0" && m.Op == "one letter" {
					continue // of the tree, which is another one on each side
				}
				req := post(fmt.Sprintf("retrieve changed %d: %s %s %s", i, m.Path, m.Class, m.Op), "retrieve", pathRetrieve, m.Body)
				req.seed, req.change = "retrieve "+p.name, m
				all = append(all, req)
			}
		}
	}
	return all
}

// agreed says whether both sides have taken a proposal, or neither: what only one
// has tells nothing more.
func (r *run) agreed(p proposal) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !slices.ContainsFunc(r.found, func(d difference) bool {
		return d.what == "status" && d.request.seed == p.name && d.request.change.Class == ""
	})
}

// searches ask for all that their index has, and for what no index can have.
func (r *run) searches(s *side, random *rand.Rand, proposals []proposal) []request {
	var all []request
	add := func(name string, query object) {
		all = append(all, post("search "+name, "search", pathSearch, marshal(query)))
	}
	criteria := []object{}
	for i, key := range some(random, slices.Clone(s.keys), 500) {
		name := fmt.Sprintf("key %d, %.80s", i, key)
		q := object{"subject": key}
		switch alg, digits, _ := strings.Cut(key, ":"); {
		case strings.Contains(key, "@"):
			q = object{"email": key}
		case slices.Contains([]string{"sha1", "sha256", "sha512"}, alg) && len(digits) >= 40:
			q = object{"hash": key}
			add(name+" without algorithm", object{"hash": digits})
		}
		add(name, q)
		criteria = append(criteria, q)
		for member, text := range q {
			add(name+" in capitals", object{member: strings.Replace(strings.ToUpper(text.(string)), "SHA", "sha", 1)})
		}
		add(name+" as subject", object{"subject": key})
	}
	for i := range 100 {
		q := object{"operator": []string{"and", "or", ""}[random.IntN(3)]}
		if q["operator"] == "" {
			delete(q, "operator")
		}
		for range 2 {
			for member, text := range criteria[random.IntN(len(criteria))] {
				q[member] = text
			}
		}
		add(fmt.Sprintf("combination %d", i), q)
	}
	// The signers of archives, which are in no proposal.
	for _, leaf := range slices.Sorted(maps.Keys(s.log)) {
		var stored struct {
			Spec struct {
				Signature struct{ PublicKey struct{ Content string } }
			}
		}
		if e := s.log[leaf]; bytes.Contains(e.Body, []byte(`"kind":"jar"`)) && json.Unmarshal(e.Body, &stored) == nil && r.common(leaf) {
			add("signer of jar "+leaf, object{"publicKey": object{"format": "x509", "content": stored.Spec.Signature.PublicKey.Content}})
		}
	}
	formats := []string{"x509", "pgp", "minisign", "ssh", "tuf"}
	var seed []byte
	for i, p := range proposals {
		keys := make(map[string]bool)
		eachText(p.body, func(path, text string) {
			last := path[strings.LastIndexByte(path, '.')+1:]
			if strings.Contains(path, "ublicKey") || strings.Contains(path, "verifiers") || last == "content" && strings.Contains(path, "root") {
				keys[text] = true
			}
		})
		n := 0
		for _, key := range slices.Sorted(maps.Keys(keys)) {
			for _, format := range formats {
				if i%5 == 0 || strings.Contains(p.name, format) || format == "x509" {
					n++
					q := object{"publicKey": object{"format": format, "content": key}}
					add(fmt.Sprintf("%s key of %s, number %d %d", format, p.name, i, n), q)
					if seed == nil && format == "x509" {
						seed = marshal(object{"email": "dev@example.com", "hash": "sha256:" + strings.Repeat("0f", 32), "operator": "or", "subject": "somebody", "publicKey": q["publicKey"]})
					}
				}
			}
		}
	}
	for _, m := range some(random, changesOf(seed), 400) {
		req := post(fmt.Sprintf("search changed: %s %s %s", m.Path, m.Class, m.Op), "search", pathSearch, m.Body)
		req.seed, req.change = "search", m
		all = append(all, req)
	}
	for _, email := range []string{"a@b", "a", "@", "a@b.example", "A <a@b.example>", "a@b, c@d", "a b@c", `"a b"@c`, "a@[127.0.0.1]", "\u00e4@b.example", strings.Repeat("a", 400) + "@b", "<a@b>", " a@b ", "dev@example.com ", "a@b (comment)", "a@b\n"} {
		add("email "+email, object{"email": email})
	}
	for _, hash := range []string{strings.Repeat("0f", 20), strings.Repeat("0F", 32), strings.Repeat("0f", 48), strings.Repeat("0f", 64), "sha1:" + strings.Repeat("0f", 20), "sha1:" + strings.Repeat("0f", 32),
		"sha384:" + strings.Repeat("0f", 48), "sha512:" + strings.Repeat("0f", 64), "SHA256:" + strings.Repeat("0f", 32), "md5:" + strings.Repeat("0f", 16), "x", ":", "sha256:", "sha256:" + strings.Repeat("0f", 32) + "\n", strings.Repeat("0g", 32)} {
		add("hash "+hash, object{"hash": hash})
	}
	for _, n := range []int{1, 511, 512, 513, 2000} {
		add(fmt.Sprintf("subject of %d", n), object{"subject": strings.Repeat("s", n)})
		add(fmt.Sprintf("subject of %d wide", n), object{"subject": strings.Repeat("\u00e4", n)})
	}
	for _, op := range []string{"and", "or", "AND", "not", "", " and"} {
		add("operator "+op, object{"operator": op})
		add("operator with hash "+op, object{"operator": op, "hash": strings.Repeat("0f", 32)})
	}
	for i, key := range []object{{}, {"format": "x509"}, {"content": ""}, {"format": "x509", "content": ""}, {"format": "x509", "content": "AAAA"}, {"format": "nope", "content": "AAAA"}, {"format": "x509", "url": "http://localhost/"}, {"format": "X509", "content": "AAAA"}, {"format": "pgp", "content": "AAAA"}, {"format": "", "content": "AAAA"}} {
		add(fmt.Sprintf("odd key %d", i), object{"publicKey": key})
	}
	return all
}

// eachText visits the texts of a document.
func eachText(document []byte, visit func(path, text string)) {
	var walk func(n *mutate.Node, path string)
	walk = func(n *mutate.Node, path string) {
		for _, m := range n.Members {
			walk(m.Value, path+"."+strings.Trim(m.Name, `"`))
		}
		for i, e := range n.Elems {
			walk(e, fmt.Sprintf("%s.%d", path, i))
		}
		var text string
		if n.Raw != "" && json.Unmarshal([]byte(n.Raw), &text) == nil {
			visit(path, text)
		}
	}
	walk(mutate.Parse(document), "")
}

// accepts are values of Accept; "-" is none.
var accepts = []string{"-", "*/*", "application/json", "application/*", "application/x-pem-file", "text/html", "application/json;q=0", "text/html, application/json;q=0.1", "application/yaml", "", "nonsense", "application/json;charset=utf-8"}

// protocol is what is common to all operations: methods, media types, paths, pages
// of other origins.
func protocol(s *side, leaf string) []request {
	var all []request
	add := func(r request) {
		r.kind = "protocol"
		all = append(all, r)
	}
	paths := []struct{ name, path string }{
		{"log", pathLog}, {"publicKey", pathLog + "/publicKey"}, {"proof", fmt.Sprintf("%s/proof?lastSize=%d", pathLog, s.size)}, {"entries", fmt.Sprintf("%s?logIndex=%d", pathEntries, s.log[leaf].LogIndex)},
		{"entry", pathEntries + "/" + s.uuid(leaf)}, {"absent entry", pathEntries + "/" + strings.Repeat("0", 64)}, {"retrieve", pathRetrieve}, {"search", pathSearch}, {"ping", "/ping"}, {"swagger", "/swagger.json"},
		{"unknown", pathLog + "/unknown"}, {"unknown below an entry", pathEntries + "/" + leaf + "/unknown"}, {"unknown index", "/api/v1/index/unknown"}, {"timestamp", "/api/v1/log/timestamp"},
	}
	for _, p := range paths {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "FOO"} {
			add(request{name: "method " + method + " of " + p.name, method: method, path: p.path})
			add(request{name: "method " + method + " of " + p.name + " from a page", method: method, path: p.path}.with("Origin", "https://example.com"))
			add(request{name: "method " + method + " of " + p.name + " with a body", method: method, path: p.path, body: []byte("{}")}.with("Content-Type", "application/json"))
		}
		for _, accept := range accepts {
			if accept == "-" {
				continue
			}
			add(request{name: "accept " + accept + " of " + p.name, method: "GET", path: p.path}.with("Accept", accept))
			add(request{name: "accept " + accept + " of posted " + p.name, method: "POST", path: p.path, body: []byte("{}")}.with("Accept", accept).with("Content-Type", "application/json"))
		}
		for _, media := range []string{"application/json", "application/json; charset=utf-8", "application/json;charset=latin1", "APPLICATION/JSON", "application/json;", "application/yaml", "text/plain", "text/json", "application/vnd.api+json", "", "nonsense", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/json, text/plain", "application/octet-stream"} {
			for what, body := range map[string]string{"body": "{}", "no body": "", "nonsense": "nonsense"} {
				req := request{name: "media type " + media + " of " + p.name + ", " + what, method: "POST", path: p.path, header: http.Header{"Content-Type": {media}}}
				if body != "" {
					req.body = []byte(body)
				}
				add(req)
			}
		}
		add(request{name: "no media type of " + p.name, method: "POST", path: p.path, body: []byte("{}")})
		for _, method := range []string{"GET", "POST", "PUT", "DELETE", "get", ""} {
			for _, header := range []string{"", "content-type", "Content-Type", "x-custom", "authorization, content-type", "content-type,x-a"} {
				req := request{name: "preflight " + method + " of " + p.name + " with " + header, method: "OPTIONS", path: p.path}.with("Origin", "https://example.com").with("Access-Control-Request-Method", method)
				if header != "" {
					req = req.with("Access-Control-Request-Headers", header)
				}
				add(req)
			}
		}
		path, query, _ := strings.Cut(p.path, "?")
		if query != "" {
			query = "?" + query
		}
		for name, other := range map[string]string{
			"slash behind": path + "/", "two slashes behind": path + "//", "slash before": "/" + path, "doubled slashes": strings.ReplaceAll(path, "/", "//"), "dot": path + "/.", "dots": path + "/../" + path[strings.LastIndexByte(path, '/')+1:],
			"capitals": strings.ToUpper(path), "semicolon": path + ";x=y", "escaped": strings.Replace(path, "p", "%70", 1), "escaped slash": "/" + strings.ReplaceAll(path[1:], "/", "%2f"), "extension": path + ".json", "space": path + "%20",
		} {
			add(request{name: "path with " + name + " of " + p.name, method: "GET", path: other + query})
			add(request{name: "posted path with " + name + " of " + p.name, method: "POST", path: other + query, body: []byte("{}")}.with("Content-Type", "application/json"))
		}
		for what, body := range map[string]string{"empty": "", "blank": " \n", "null": "null", "number": "1", "text": `"x"`, "list": "[]", "cut": "{", "nonsense": "nonsense", "BOM": "\ufeff{}", "twice": "{}{}", "HTML": "<html>", "NUL": "\x00"} {
			add(request{name: "document " + what + " for " + p.name, method: "POST", path: p.path, body: []byte(body)}.with("Content-Type", "application/json"))
		}
	}
	return all
}
