package badinput

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/sigstack/sigstack/test/mutate"
)

// A seed is a valid document, where it goes, and the rule that says what each
// change to it means.
type seed struct {
	name    string
	body    []byte
	request func(body []byte) request
	ok      int // the status of the document itself when it comes again
	verdict func(m mutate.Mutation) int
}

// mutatedDocuments sends every change to every seed.
func (s *suite) mutatedDocuments(t *testing.T) {
	total, classes := 0, make(map[int]int)
	for _, seed := range s.seeds() {
		seed.body = mutate.Parse(seed.body).Bytes() // as mutate.Document writes it
		uuid := ""
		if a := s.send(seed.request(seed.body)); a.status/100 != 2 && a.status != http.StatusConflict {
			t.Errorf("%s: the seed gets %d %s", seed.name, a.status, clip(string(a.body)))
			continue
		} else if a.status == http.StatusCreated {
			uuid = a.header.Get("ETag")
		}
		if a := s.send(seed.request(seed.body)); a.status != seed.ok {
			t.Errorf("%s: the seed gets %d when it comes again, want %d", seed.name, a.status, seed.ok)
		}
		var all []mutate.Mutation
		// Two changes may give one document, and then one entry.
		sent := map[string]bool{string(seed.body): true}
		mutate.Document(seed.body, func(m mutate.Mutation) {
			if !sent[string(m.Body)] {
				sent[string(m.Body)] = true
				all = append(all, m)
			}
		})
		each(len(all), func(i int) {
			m := all[i]
			want := seed.verdict(m)
			a := s.send(seed.request(m.Body))
			if a.status != want {
				s.fault("%s: %s, %s, %q: %d, want %d\n%s\n%s", seed.name, m.Path, m.Class, m.Op, a.status, want, clip(string(a.body)), clip(string(m.Body)))
			}
			// Nothing but what was verified reaches the log: a harmless change
			// is the same entry.
			if a.status == http.StatusConflict && !strings.HasSuffix(a.header.Get("Location"), "/"+uuid) {
				s.fault("%s: %s, %s, %q: is taken for %s, not for the seed %s", seed.name, m.Path, m.Class, m.Op, a.header.Get("Location"), uuid)
			}
		})
		total += len(all)
		for _, m := range all {
			classes[seed.verdict(m)]++
		}
	}
	t.Logf("%d documents, expected verdicts %v", total, classes)
	if total < 5000 {
		t.Errorf("%d documents, want at least 5,000", total)
	}
}

func (s *suite) seeds() []seed {
	var seeds []seed
	entrySeed := func(name string, body []byte, verdict func(mutate.Mutation) int) {
		seeds = append(seeds, seed{name, body, func(b []byte) request { return postJSON(pathEntry, b) }, http.StatusConflict, verdict})
	}
	for _, name := range []string{
		"hashedrekord-p256", "hashedrekord-p384-sha384", "hashedrekord-p521-sha512", "hashedrekord-ed25519ph-sha512",
		"hashedrekord-rsa2048-pkcs1-sha256", "hashedrekord-cert-sans", "hashedrekord-certchain",
	} {
		entrySeed(name, s.keys.vectors[name], func(m mutate.Mutation) int {
			switch {
			case m.Path == "spec.data.hash.value" && m.Class == mutate.Text && strings.EqualFold(m.Says, m.Was):
				return http.StatusCreated // the case of the digits is kept, as Rekor keeps it
			case m.Path == "spec.signature.publicKey.content" && m.Op == "twice" && name == "hashedrekord-cert-sans":
				return http.StatusCreated // it has signed itself: a chain of two
			}
			return entryVerdict(nil)(m)
		})
	}
	for _, name := range []string{"rekord-x509-p256", "rekord-pgp", "rekord-minisign", "rekord-ssh"} {
		entrySeed(name, s.keys.vectors[name], func(m mutate.Mutation) int {
			key, sig := m.Path == "spec.signature.publicKey.content", m.Path == "spec.signature.content"
			switch {
			case name == "rekord-minisign" && (key || sig) && m.Op == "one letter":
				return http.StatusConflict // a letter of the comment, which is dropped
			case name == "rekord-ssh" && (key || sig) && (m.Op == "twice" || m.Op == "long"):
				return http.StatusConflict // only the first key and the first block are read, and stored
			}
			return entryVerdict([]string{"spec.data.hash"})(m)
		})
	}
	for _, name := range []string{"alpine", "helm", "rpm"} {
		entrySeed(name, s.keys.vectors[name], func(m mutate.Mutation) int {
			switch {
			case m.Path == "spec.package.content" && m.Op == "one letter":
				return http.StatusCreated // of the header of gzip, or of the lead, which no signature covers: another hash
			case m.Path == "spec.chart.provenance.content" && (m.Op == "twice" || m.Op == "long"):
				return http.StatusConflict // only the first signed message is read
			}
			return entryVerdict(nil)(m)
		})
	}
	for _, name := range []string{"rfc3161", "jar", "tuf-base64"} {
		entrySeed(name, s.keys.vectors[name], func(m mutate.Mutation) int {
			if name == "jar" && m.Path == "spec.archive.content" && (m.Op == "one letter" || m.Op == "twice" || m.Op == "long") {
				return http.StatusCreated // another archive with the same files: their signature covers no more
			}
			return entryVerdict(nil)(m)
		})
	}
	both := marshal(envelope("application/vnd.in-toto+json", []byte(`{"subject":[{"digest":{"sha256":"aa"}}]}`), s.keys.p256, s.keys.p384))
	s.keys.vectors["dsse-two-keys"] = dsse(both, publicPEM(s.keys.p256), publicPEM(s.keys.p384))
	for _, name := range []string{"dsse-p256", "dsse-two-sigs", "dsse-two-keys"} {
		entrySeed(name, s.keys.vectors[name], func(m mutate.Mutation) int {
			if name == "dsse-two-sigs" && m.Path == "spec.proposedContent.verifiers.1" && m.Op == "twice" {
				return http.StatusCreated // a certificate that has signed itself
			}
			return entryVerdict(nil)(m)
		})
		if name == "dsse-two-sigs" {
			continue // without its second signature it is dsse-p256
		}
		inner := s.keys.vectors[name]
		seeds = append(seeds, seed{name + ", envelope", envelopeOf(inner), func(b []byte) request {
			return postJSON(pathEntry, withEnvelope(inner, b))
		}, http.StatusConflict, envelopeVerdict(name == "dsse-two-keys")})
	}

	one := envelope("application/vnd.in-toto+json", []byte(`{"subject":[{"digest":{"sha256":"aa"}}]}`), s.keys.p256)
	entrySeed("intoto 0.0.1", inToto001(marshal(one), publicPEM(s.keys.p256)), func(m mutate.Mutation) int {
		switch {
		case m.Path == "spec.content.envelope" && m.Class == mutate.Text && (strings.HasPrefix(m.Op, "space ") || m.Op == "newline behind"):
			return http.StatusCreated // white space around JSON, and another envelope hash
		}
		return entryVerdict(nil)(m)
	})
	entrySeed("intoto 0.0.2", inToto002(one, publicPEM(s.keys.p256)), func(m mutate.Mutation) int {
		switch {
		case m.Path == "spec.content.hash.value" && m.Class == mutate.Text && strings.EqualFold(m.Says, m.Was):
			return http.StatusCreated // the case of the digits is kept, as Rekor keeps it
		case m.Path == "spec.content.envelope.signatures" && m.Class == mutate.Count && m.Op == "twice":
			return http.StatusCreated // what was sent is stored, in its order
		case m.Class == mutate.Count:
			return http.StatusBadRequest
		}
		return entryVerdict(nil)(m)
	})
	entrySeed("cose", coseEntry(sign1([]byte{0xa0}, []byte("payload"), signSign1(s.keys.p256, "aad", "payload")), []byte("aad"), publicPEM(s.keys.p256)), entryVerdict(nil))

	token := s.token()
	seeds = append(seeds,
		seed{"signingCert v2", marshal(s.certRequest(token)), func(b []byte) request { return postJSON(pathV2, b) }, 200, protoVerdict(200, nil)},
		seed{"signingCert v2, CSR", marshal(s.csrRequest(token)), func(b []byte) request { return postJSON(pathV2, b) }, 200, protoVerdict(200, nil)},
		seed{"signingCert v1", marshal(s.oldRequest()), func(b []byte) request {
			return postJSON(pathV1, b).with("Authorization", "Bearer "+token)
		}, 201, protoVerdict(201, nil)},
		seed{"signingCert v1, CSR", marshal(object{"certificateSigningRequest": base64Of(csrPEM(s.keys.p256, nil))}), func(b []byte) request {
			return postJSON(pathV1, b).with("Authorization", "Bearer "+token)
		}, 201, protoVerdict(201, nil)},
	)

	seeds = append(seeds,
		seed{"search", marshal(object{
			"email": email, "hash": "sha256:" + strings.Repeat("0f", 32), "operator": "or", "subject": "somebody",
			"publicKey": object{"format": "x509", "content": base64Of(publicPEM(s.keys.p256))},
		}), func(b []byte) request { return postJSON("/api/v1/index/retrieve", b) }, 200, searchVerdict},
		seed{"retrieve", marshal(object{
			"entries": array{json.RawMessage(s.keys.vectors["hashedrekord-p256"])}, "entryUUIDs": array{s.stored()}, "logIndexes": array{0},
		}), func(b []byte) request { return postJSON(pathEntry+"/retrieve", b) }, 200, retrieveVerdict},
		seed{"add-chain", chainBody(s.ca.issue(nil), s.ca.chain[0], s.ca.chain[1]), func(b []byte) request {
			return postJSON("/ct/v1/add-chain", b)
		}, 200, func(m mutate.Mutation) int { return chainVerdict(false, m) }},
		seed{"add-pre-chain", chainBody(s.precert(), s.ca.chain[0], s.ca.chain[1]), func(b []byte) request {
			return postJSON("/ct/v1/add-pre-chain", b)
		}, 200, func(m mutate.Mutation) int { return chainVerdict(true, m) }},
	)
	return seeds
}

// entryVerdict is for proposed entries. kind, apiVersion and spec are of the
// outer shape, where trouble is 422; everything below is 400. A member that is
// not known changes nothing.
func entryVerdict(optional []string) func(m mutate.Mutation) int {
	const same, bad, shape = http.StatusConflict, http.StatusBadRequest, http.StatusUnprocessableEntity
	return func(m mutate.Mutation) int {
		outer := m.Path == "kind" || m.Path == "apiVersion" || m.Path == "spec"
		switch m.Class {
		case mutate.Same, mutate.Extra:
			return same
		case mutate.Dup, mutate.Case:
			return bad
		case mutate.Whole:
			switch m.Op {
			case "empty", "blank", "null", "object":
				return shape
			case "deepest":
				return same
			}
			return bad
		case mutate.Absent, mutate.Null:
			switch {
			case outer:
				return shape
			case slices.Contains(optional, m.Path):
				return same
			case m.Path == "spec.proposedContent.verifiers.1" && m.Class == mutate.Absent:
				return bad // two signatures, one verifier
			}
			return bad
		case mutate.Count: // of verifiers
			if m.Op == "twice" {
				return same // what comes after all signatures are covered is not looked at
			}
			return bad
		case mutate.Text:
			switch {
			case mutate.NotJSON(m.Op) || mutate.NotUTF8(m.Op):
				return bad
			case m.Path == "kind" || m.Path == "apiVersion":
				return shape
			case m.Path == "spec.proposedContent.envelope" && strings.HasPrefix(m.Op, "space ") || m.Path == "spec.proposedContent.envelope" && m.Op == "newline behind":
				return http.StatusCreated // white space around JSON, and another envelope hash
			}
			return bad
		case mutate.Type, mutate.Nest:
			if m.Path == "kind" || m.Path == "apiVersion" {
				return shape
			}
			return bad
		}
		panic("no verdict for " + m.Class)
	}
}

func envelopeOf(request []byte) []byte {
	var r struct {
		Spec struct {
			ProposedContent struct{ Envelope string }
		}
	}
	if err := json.Unmarshal(request, &r); err != nil {
		panic(err)
	}
	return []byte(r.Spec.ProposedContent.Envelope)
}

func withEnvelope(request, envelope []byte) []byte {
	root := mutate.Parse(request)
	for _, m := range root.Members {
		if m.Name != `"spec"` {
			continue
		}
		for _, c := range m.Value.Members[0].Value.Members {
			if c.Name == `"envelope"` {
				c.Value.Raw = quoteBytes(envelope)
			}
		}
	}
	return root.Bytes()
}

// quoteBytes is a JSON string that holds bytes as they are, text or not.
func quoteBytes(b []byte) string {
	var out strings.Builder
	out.WriteByte('"')
	for _, c := range b {
		switch {
		case c == '"' || c == '\\':
			out.WriteByte('\\')
			out.WriteByte(c)
		case c < ' ':
			fmt.Fprintf(&out, `\u%04x`, c)
		default:
			out.WriteByte(c)
		}
	}
	out.WriteByte('"')
	return out.String()
}

// envelopeVerdict is for the envelope of a dsse entry, whose text as a whole is
// hashed: whatever is accepted is an entry of its own.
func envelopeVerdict(two bool) func(m mutate.Mutation) int {
	const fresh, bad = http.StatusCreated, http.StatusBadRequest
	return func(m mutate.Mutation) int {
		last := m.Path[strings.LastIndexByte(m.Path, '.')+1:]
		switch m.Class {
		case mutate.Same, mutate.Extra:
			return fresh
		case mutate.Dup, mutate.Case:
			return bad
		case mutate.Whole:
			if m.Op == "deepest" {
				return fresh
			}
			return bad
		case mutate.Null, mutate.Absent:
			if last == "keyid" || m.Class == mutate.Absent && two && m.Path == "signatures.0" {
				// Without the first of two signatures its verifier verifies none,
				// but the verifiers come first.
				if last == "keyid" {
					return fresh
				}
			}
			if m.Class == mutate.Absent && two && m.Path == "signatures.1" {
				return fresh // the first verifier covers what is left
			}
			return bad
		case mutate.Count:
			if m.Op == "empty" {
				return bad
			}
			return fresh // the same signature again is one signature
		case mutate.Text:
			if last == "keyid" && !mutate.NotJSON(m.Op) && !mutate.NotUTF8(m.Op) {
				return fresh // it says nothing that is checked
			}
			if m.Path == "payload" && m.Op == "newline behind" {
				return fresh
			}
			return bad
		case mutate.Type:
			return bad
		case mutate.Nest:
			return bad
		}
		panic("no verdict for " + m.Class)
	}
}

// protoVerdict is for messages in the JSON form of protocol buffers: a null is
// an absent member, a member has two names, what is unknown is ignored, and
// what is there twice is refused.
func protoVerdict(ok int, _ []string) func(m mutate.Mutation) int {
	const bad = http.StatusBadRequest
	return func(m mutate.Mutation) int {
		last := m.Path[strings.LastIndexByte(m.Path, '.')+1:]
		hint := last == "algorithm" // ignored by the server
		enum := hint && strings.HasPrefix(m.Path, "publicKeyRequest.")
		binary := last == "proofOfPossession" || last == "certificateSigningRequest" || last == "signedEmailAddress" || m.Path == "publicKey.content"
		switch m.Class {
		case mutate.Same, mutate.Extra:
			return ok
		case mutate.Dup:
			return bad
		case mutate.Case:
			if hint || strings.HasSuffix(m.Op, " beside") {
				return ok // a name that nobody knows
			}
			return bad
		case mutate.Whole:
			if m.Op == "deepest" {
				return ok
			}
			return bad
		case mutate.Absent, mutate.Null:
			if hint {
				return ok
			}
			return bad
		case mutate.Type:
			if enum && strings.HasPrefix(m.Op, "number ") && !slices.Contains([]string{"number 1.5", "number 1e400", "number 18446744073709551616"}, m.Op) {
				return ok // an open enumeration
			}
			return bad
		case mutate.Nest:
			return bad
		case mutate.Text:
			switch {
			case mutate.NotJSON(m.Op) || mutate.NotUTF8(m.Op):
				return bad
			case hint:
				return ok
			case binary && m.Op == "newline behind" && !strings.HasSuffix(m.Was, "="):
				return ok // base64 in lines; with padding the newline is one letter too many
			case last == "content" && !binary && slices.Contains([]string{"space before", "space behind", "newline behind"}, m.Op):
				return ok // white space around PEM
			}
			return bad
		}
		panic("no verdict for " + m.Class)
	}
}

// searchVerdict is for a search, in which every member is optional.
func searchVerdict(m mutate.Mutation) int {
	const ok, bad, shape = http.StatusOK, http.StatusBadRequest, http.StatusUnprocessableEntity
	switch m.Class {
	case mutate.Same, mutate.Extra:
		return ok
	case mutate.Dup, mutate.Case:
		return bad
	case mutate.Whole:
		switch m.Op {
		case "deepest", "object":
			return ok
		case "empty", "blank":
			return shape
		}
		return bad
	case mutate.Absent, mutate.Null:
		switch m.Path {
		case "publicKey.format":
			return shape
		case "publicKey.content":
			return bad
		}
		return ok
	case mutate.Type:
		if m.Path == "publicKey" && m.Op == "object {}" {
			return shape
		}
		return bad
	case mutate.Nest:
		if m.Path == "publicKey" && m.Op == "object" {
			return shape // an object without a format
		}
		return bad
	case mutate.Text:
		if mutate.NotJSON(m.Op) || mutate.NotUTF8(m.Op) {
			return bad
		}
		switch m.Path {
		case "email":
			switch m.Op {
			case "space before", "space behind", "upper", "empty", "one letter", "half": // dev@exa
				return ok
			}
			return shape
		case "hash", "operator":
			if m.Op == "empty" || m.Op == "one letter" && m.Path == "hash" { // another digit
				return ok
			}
			return shape
		case "subject":
			if m.Op == "long" {
				return shape
			}
			return ok
		case "publicKey.format":
			return shape
		}
		if m.Op == "newline behind" {
			return ok // base64 in lines
		}
		return bad
	}
	panic("no verdict for " + m.Class)
}

// retrieveVerdict is for a request for entries.
func retrieveVerdict(m mutate.Mutation) int {
	const ok, bad, shape = http.StatusOK, http.StatusBadRequest, http.StatusUnprocessableEntity
	list, rest, inner := strings.Cut(m.Path, ".")
	_, rest, deeper := strings.Cut(rest, ".")
	if list == "entries" && deeper {
		// Inside of a proposal: as if it were added, but nothing is stored.
		if m.Path = rest; m.Path == "spec.data.hash.value" && strings.EqualFold(m.Says, m.Was) && m.Class == mutate.Text {
			return ok
		}
		switch v := entryVerdict(nil)(m); {
		case v == http.StatusConflict:
			return ok
		case v == shape && (m.Path == "kind" || m.Class == mutate.Type || m.Class == mutate.Nest):
			return bad // without a kind the body cannot be read
		default:
			return v
		}
	}
	switch m.Class {
	case mutate.Same, mutate.Extra:
		return ok
	case mutate.Dup, mutate.Case:
		if m.Op == "empty before" && !inner {
			return shape // the first of the two is read first, and is empty
		}
		return bad
	case mutate.Whole:
		switch m.Op {
		case "deepest", "object":
			return ok
		case "empty", "blank":
			return shape
		}
		return bad
	case mutate.Count:
		if m.Op == "twice" {
			return ok
		}
		return shape
	case mutate.Absent:
		if inner {
			return shape // the list is empty then
		}
		return ok
	case mutate.Null:
		switch {
		case !inner:
			return ok
		case list == "entries":
			return bad // a proposal without a kind
		}
		return shape // no UUID, no index
	case mutate.Type:
		if list == "logIndexes" && inner && m.Op == "number -1" {
			return shape
		}
		if !inner {
			switch {
			case !strings.HasPrefix(m.Op, "array"):
				return bad
			}
		}
		return bad
	case mutate.Nest:
		return bad
	case mutate.Text:
		switch {
		case mutate.NotJSON(m.Op):
			return bad
		case mutate.NotUTF8(m.Op):
			return bad
		case m.Op == "upper", m.Op == "one letter": // other digits
			return ok
		}
		return shape
	}
	panic("no verdict for " + m.Class)
}

// chainVerdict is for add-chain and add-pre-chain with three certificates, of
// which the last is the root, which may be left out.
func chainVerdict(pre bool, m mutate.Mutation) int {
	const ok, bad = http.StatusOK, http.StatusBadRequest
	switch m.Class {
	case mutate.Same, mutate.Extra:
		return ok
	case mutate.Whole:
		if m.Op == "deepest" {
			return ok
		}
		return bad
	case mutate.Absent:
		// The root may be left out, and without the first certificate it is the
		// chain of the second, which is no precertificate.
		if m.Path == "chain.2" || m.Path == "chain.0" && !pre {
			return ok
		}
	case mutate.Text:
		if m.Op == "newline behind" {
			return ok // base64 in lines
		}
	}
	return bad
}
