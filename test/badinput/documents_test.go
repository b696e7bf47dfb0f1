package badinput

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// A seed is a valid document, where it goes, and the rule that says what each
// change to it means.
type seed struct {
	name    string
	body    []byte
	request func(body []byte) request
	ok      int // the status of the document itself when it comes again
	verdict func(m mutation) int
}

// mutatedDocuments sends every change to every seed.
func (s *suite) mutatedDocuments(t *testing.T) {
	total, classes := 0, make(map[int]int)
	for _, seed := range s.seeds() {
		seed.body = parseJSON(seed.body).bytes() // as mutations writes it
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
		var all []mutation
		// Two changes may give one document, and then one entry.
		sent := map[string]bool{string(seed.body): true}
		mutations(seed.body, func(m mutation) {
			if !sent[string(m.body)] {
				sent[string(m.body)] = true
				all = append(all, m)
			}
		})
		each(len(all), func(i int) {
			m := all[i]
			want := seed.verdict(m)
			a := s.send(seed.request(m.body))
			if a.status != want {
				s.fault("%s: %s, %s, %q: %d, want %d\n%s\n%s", seed.name, m.path, m.class, m.op, a.status, want, clip(string(a.body)), clip(string(m.body)))
			}
			// Nothing but what was verified reaches the log: a harmless change
			// is the same entry.
			if a.status == http.StatusConflict && !strings.HasSuffix(a.header.Get("Location"), "/"+uuid) {
				s.fault("%s: %s, %s, %q: is taken for %s, not for the seed %s", seed.name, m.path, m.class, m.op, a.header.Get("Location"), uuid)
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
	entrySeed := func(name string, body []byte, verdict func(mutation) int) {
		seeds = append(seeds, seed{name, body, func(b []byte) request { return postJSON(pathEntry, b) }, http.StatusConflict, verdict})
	}
	for _, name := range []string{
		"hashedrekord-p256", "hashedrekord-p384-sha384", "hashedrekord-p521-sha512", "hashedrekord-ed25519ph-sha512",
		"hashedrekord-rsa2048-pkcs1-sha256", "hashedrekord-cert-sans", "hashedrekord-certchain",
	} {
		entrySeed(name, s.keys.vectors[name], func(m mutation) int {
			switch {
			case m.path == "spec.data.hash.value" && m.class == textClass && strings.EqualFold(m.text, m.was):
				return http.StatusCreated // the case of the digits is kept, as Rekor keeps it
			case m.path == "spec.signature.publicKey.content" && m.op == "twice" && name == "hashedrekord-cert-sans":
				return http.StatusCreated // it has signed itself: a chain of two
			}
			return entryVerdict(nil)(m)
		})
	}
	for _, name := range []string{"rekord-x509-p256", "rekord-pgp", "rekord-minisign", "rekord-ssh"} {
		entrySeed(name, s.keys.vectors[name], func(m mutation) int {
			key, sig := m.path == "spec.signature.publicKey.content", m.path == "spec.signature.content"
			switch {
			case name == "rekord-minisign" && (key || sig) && m.op == "one letter":
				return http.StatusConflict // a letter of the comment, which is dropped
			case name == "rekord-ssh" && (key || sig) && (m.op == "twice" || m.op == "long"):
				return http.StatusConflict // only the first key and the first block are read, and stored
			}
			return entryVerdict([]string{"spec.data.hash"})(m)
		})
	}
	for _, name := range []string{"alpine", "helm", "rpm"} {
		entrySeed(name, s.keys.vectors[name], func(m mutation) int {
			switch {
			case m.path == "spec.package.content" && m.op == "one letter":
				return http.StatusCreated // of the header of gzip, or of the lead, which no signature covers: another hash
			case m.path == "spec.chart.provenance.content" && (m.op == "twice" || m.op == "long"):
				return http.StatusConflict // only the first signed message is read
			}
			return entryVerdict(nil)(m)
		})
	}
	for _, name := range []string{"rfc3161", "jar", "tuf-base64"} {
		entrySeed(name, s.keys.vectors[name], func(m mutation) int {
			if name == "jar" && m.path == "spec.archive.content" && (m.op == "one letter" || m.op == "twice" || m.op == "long") {
				return http.StatusCreated // another archive with the same files: their signature covers no more
			}
			return entryVerdict(nil)(m)
		})
	}
	both := marshal(envelope("application/vnd.in-toto+json", []byte(`{"subject":[{"digest":{"sha256":"aa"}}]}`), s.keys.p256, s.keys.p384))
	s.keys.vectors["dsse-two-keys"] = dsse(both, publicPEM(s.keys.p256), publicPEM(s.keys.p384))
	for _, name := range []string{"dsse-p256", "dsse-two-sigs", "dsse-two-keys"} {
		entrySeed(name, s.keys.vectors[name], func(m mutation) int {
			if name == "dsse-two-sigs" && m.path == "spec.proposedContent.verifiers.1" && m.op == "twice" {
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
	entrySeed("intoto 0.0.1", inToto001(marshal(one), publicPEM(s.keys.p256)), func(m mutation) int {
		switch {
		case m.path == "spec.content.envelope" && m.class == textClass && (strings.HasPrefix(m.op, "space ") || m.op == "newline behind"):
			return http.StatusCreated // white space around JSON, and another envelope hash
		}
		return entryVerdict(nil)(m)
	})
	entrySeed("intoto 0.0.2", inToto002(one, publicPEM(s.keys.p256)), func(m mutation) int {
		switch {
		case m.path == "spec.content.hash.value" && m.class == textClass && strings.EqualFold(m.text, m.was):
			return http.StatusCreated // the case of the digits is kept, as Rekor keeps it
		case m.path == "spec.content.envelope.signatures" && m.class == countClass && m.op == "twice":
			return http.StatusCreated // what was sent is stored, in its order
		case m.class == countClass:
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
		}, 200, func(m mutation) int { return chainVerdict(false, m) }},
		seed{"add-pre-chain", chainBody(s.precert(), s.ca.chain[0], s.ca.chain[1]), func(b []byte) request {
			return postJSON("/ct/v1/add-pre-chain", b)
		}, 200, func(m mutation) int { return chainVerdict(true, m) }},
	)
	return seeds
}

// entryVerdict is for proposed entries. kind, apiVersion and spec are of the
// outer shape, where trouble is 422; everything below is 400. A member that is
// not known changes nothing.
func entryVerdict(optional []string) func(m mutation) int {
	const same, bad, shape = http.StatusConflict, http.StatusBadRequest, http.StatusUnprocessableEntity
	return func(m mutation) int {
		outer := m.path == "kind" || m.path == "apiVersion" || m.path == "spec"
		switch m.class {
		case sameClass, extraClass:
			return same
		case dupClass, caseClass:
			return bad
		case wholeClass:
			switch m.op {
			case "empty", "blank", "null", "object":
				return shape
			case "deepest":
				return same
			}
			return bad
		case absentClass, nullClass:
			switch {
			case outer:
				return shape
			case slices.Contains(optional, m.path):
				return same
			case m.path == "spec.proposedContent.verifiers.1" && m.class == absentClass:
				return bad // two signatures, one verifier
			}
			return bad
		case countClass: // of verifiers
			if m.op == "twice" {
				return same // what comes after all signatures are covered is not looked at
			}
			return bad
		case textClass:
			switch {
			case notJSON(m.op) || notUTF8(m.op):
				return bad
			case m.path == "kind" || m.path == "apiVersion":
				return shape
			case m.path == "spec.proposedContent.envelope" && strings.HasPrefix(m.op, "space ") || m.path == "spec.proposedContent.envelope" && m.op == "newline behind":
				return http.StatusCreated // white space around JSON, and another envelope hash
			}
			return bad
		case typeClass, nestClass:
			if m.path == "kind" || m.path == "apiVersion" {
				return shape
			}
			return bad
		}
		panic("no verdict for " + m.class)
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
	root := parseJSON(request)
	for _, m := range root.members {
		if m.name != `"spec"` {
			continue
		}
		for _, c := range m.value.members[0].value.members {
			if c.name == `"envelope"` {
				c.value.raw = quoteBytes(envelope)
			}
		}
	}
	return root.bytes()
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
func envelopeVerdict(two bool) func(m mutation) int {
	const fresh, bad = http.StatusCreated, http.StatusBadRequest
	return func(m mutation) int {
		last := m.path[strings.LastIndexByte(m.path, '.')+1:]
		switch m.class {
		case sameClass, extraClass:
			return fresh
		case dupClass, caseClass:
			return bad
		case wholeClass:
			if m.op == "deepest" {
				return fresh
			}
			return bad
		case nullClass, absentClass:
			if last == "keyid" || m.class == absentClass && two && m.path == "signatures.0" {
				// Without the first of two signatures its verifier verifies none,
				// but the verifiers come first.
				if last == "keyid" {
					return fresh
				}
			}
			if m.class == absentClass && two && m.path == "signatures.1" {
				return fresh // the first verifier covers what is left
			}
			return bad
		case countClass:
			if m.op == "empty" {
				return bad
			}
			return fresh // the same signature again is one signature
		case textClass:
			if last == "keyid" && !notJSON(m.op) && !notUTF8(m.op) {
				return fresh // it says nothing that is checked
			}
			if m.path == "payload" && m.op == "newline behind" {
				return fresh
			}
			return bad
		case typeClass:
			return bad
		case nestClass:
			return bad
		}
		panic("no verdict for " + m.class)
	}
}

// protoVerdict is for messages in the JSON form of protocol buffers: a null is
// an absent member, a member has two names, what is unknown is ignored, and
// what is there twice is refused.
func protoVerdict(ok int, _ []string) func(m mutation) int {
	const bad = http.StatusBadRequest
	return func(m mutation) int {
		last := m.path[strings.LastIndexByte(m.path, '.')+1:]
		hint := last == "algorithm" // ignored by the server
		enum := hint && strings.HasPrefix(m.path, "publicKeyRequest.")
		binary := last == "proofOfPossession" || last == "certificateSigningRequest" || last == "signedEmailAddress" || m.path == "publicKey.content"
		switch m.class {
		case sameClass, extraClass:
			return ok
		case dupClass:
			return bad
		case caseClass:
			if hint || strings.HasSuffix(m.op, " beside") {
				return ok // a name that nobody knows
			}
			return bad
		case wholeClass:
			if m.op == "deepest" {
				return ok
			}
			return bad
		case absentClass, nullClass:
			if hint {
				return ok
			}
			return bad
		case typeClass:
			if enum && strings.HasPrefix(m.op, "number ") && !slices.Contains([]string{"number 1.5", "number 1e400", "number 18446744073709551616"}, m.op) {
				return ok // an open enumeration
			}
			return bad
		case nestClass:
			return bad
		case textClass:
			switch {
			case notJSON(m.op) || notUTF8(m.op):
				return bad
			case hint:
				return ok
			case binary && m.op == "newline behind" && !strings.HasSuffix(m.was, "="):
				return ok // base64 in lines; with padding the newline is one letter too many
			case last == "content" && !binary && slices.Contains([]string{"space before", "space behind", "newline behind"}, m.op):
				return ok // white space around PEM
			}
			return bad
		}
		panic("no verdict for " + m.class)
	}
}

// searchVerdict is for a search, in which every member is optional.
func searchVerdict(m mutation) int {
	const ok, bad, shape = http.StatusOK, http.StatusBadRequest, http.StatusUnprocessableEntity
	switch m.class {
	case sameClass, extraClass:
		return ok
	case dupClass, caseClass:
		return bad
	case wholeClass:
		switch m.op {
		case "deepest", "object":
			return ok
		case "empty", "blank":
			return shape
		}
		return bad
	case absentClass, nullClass:
		switch m.path {
		case "publicKey.format":
			return shape
		case "publicKey.content":
			return bad
		}
		return ok
	case typeClass:
		if m.path == "publicKey" && m.op == "object {}" {
			return shape
		}
		return bad
	case nestClass:
		if m.path == "publicKey" && m.op == "object" {
			return shape // an object without a format
		}
		return bad
	case textClass:
		if notJSON(m.op) || notUTF8(m.op) {
			return bad
		}
		switch m.path {
		case "email":
			switch m.op {
			case "space before", "space behind", "upper", "empty", "one letter", "half": // dev@exa
				return ok
			}
			return shape
		case "hash", "operator":
			if m.op == "empty" || m.op == "one letter" && m.path == "hash" { // another digit
				return ok
			}
			return shape
		case "subject":
			if m.op == "long" {
				return shape
			}
			return ok
		case "publicKey.format":
			return shape
		}
		if m.op == "newline behind" {
			return ok // base64 in lines
		}
		return bad
	}
	panic("no verdict for " + m.class)
}

// retrieveVerdict is for a request for entries.
func retrieveVerdict(m mutation) int {
	const ok, bad, shape = http.StatusOK, http.StatusBadRequest, http.StatusUnprocessableEntity
	list, rest, inner := strings.Cut(m.path, ".")
	_, rest, deeper := strings.Cut(rest, ".")
	if list == "entries" && deeper {
		// Inside of a proposal: as if it were added, but nothing is stored.
		if m.path = rest; m.path == "spec.data.hash.value" && strings.EqualFold(m.text, m.was) && m.class == textClass {
			return ok
		}
		if v := entryVerdict(nil)(m); v != http.StatusConflict {
			return v
		}
		return ok
	}
	switch m.class {
	case sameClass, extraClass:
		return ok
	case dupClass, caseClass:
		if m.op == "empty before" && !inner {
			return shape // the first of the two is read first, and is empty
		}
		return bad
	case wholeClass:
		switch m.op {
		case "deepest", "object":
			return ok
		case "empty", "blank":
			return shape
		}
		return bad
	case countClass:
		if m.op == "twice" {
			return ok
		}
		return shape
	case absentClass:
		if inner {
			return shape // the list is empty then
		}
		return ok
	case nullClass:
		if !inner {
			return ok
		}
		return shape // no proposal, no UUID, no index
	case typeClass:
		if list == "logIndexes" && inner && m.op == "number -1" {
			return shape
		}
		if !inner {
			switch {
			case !strings.HasPrefix(m.op, "array"):
				return bad
			}
		}
		if list == "entries" && inner {
			return bad
		}
		return bad
	case nestClass:
		if list == "entries" && inner && m.op == "object" {
			return shape // an entry without a kind
		}
		return bad
	case textClass:
		switch {
		case notJSON(m.op):
			return bad
		case notUTF8(m.op):
			return bad
		case m.op == "upper", m.op == "one letter": // other digits
			return ok
		}
		return shape
	}
	panic("no verdict for " + m.class)
}

// chainVerdict is for add-chain and add-pre-chain with three certificates, of
// which the last is the root, which may be left out.
func chainVerdict(pre bool, m mutation) int {
	const ok, bad = http.StatusOK, http.StatusBadRequest
	switch m.class {
	case sameClass, extraClass:
		return ok
	case wholeClass:
		if m.op == "deepest" {
			return ok
		}
		return bad
	case absentClass:
		// The root may be left out, and without the first certificate it is the
		// chain of the second, which is no precertificate.
		if m.path == "chain.2" || m.path == "chain.0" && !pre {
			return ok
		}
	case textClass:
		if m.op == "newline behind" {
			return ok // base64 in lines
		}
	}
	return bad
}
