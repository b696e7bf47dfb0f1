package entry

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/sigstack/sigstack/tlog/entry/sigkey"
)

// helm 0.0.1: the provenance file of a Helm chart
// (https://helm.sh/docs/topics/provenance). The chart itself is not sent.
// Proposed:
//
//	spec.publicKey.content         base64 of a pgp key ring, armored or binary
//	spec.chart.provenance.content  base64 of the file, signed in clear text
//	spec.chart.hash                optional {algorithm: "sha256", value}, must match
//
// Stored:
//
//	spec.publicKey.content                   the key ring
//	spec.chart.hash                          {algorithm: "sha256", value}, as the file spells it
//	spec.chart.provenance.signature.content  the signature, armored without headers
//
// The signed text is the Chart.yaml, a line "...", and YAML with the member
// files, which names one file and has its digest for a value: "sha256:" and 64
// hex digits.

// maxChartSums bounds the YAML with the digest, in bytes: a line of 150 is what
// Helm writes, and a YAML reader makes kilobytes of a byte. The Chart.yaml
// before it is signed and not parsed.
const maxChartSums = 1 << 10

type helm struct {
	key  sigkey.Key
	hash digest
	sig  sigkey.Signature
}

// readHelm reads a proposed or stored spec and returns the member content of
// the provenance, which a stored one has not.
func readHelm(spec value) (h *helm, content value, err error) {
	m, err := spec.members("publicKey", "chart")
	if err != nil {
		return nil, nil, err
	}
	text, err := readPublicKey(m[0])
	if err != nil {
		return nil, nil, err
	}
	chart, err := requiredMembers(m[1], "chart", "provenance", "hash")
	if err != nil {
		return nil, nil, err
	}
	provenance, err := requiredMembers(chart[0], "chart.provenance", "content")
	if err != nil {
		return nil, nil, err
	}
	h = &helm{}
	if chart[1] != nil {
		if h.hash, err = readDigest(chart[1], "chart.hash", "sha256"); err != nil {
			return nil, nil, err
		}
	}
	if h.key, err = sigkey.ParseKey(sigkey.FormatPGP, text); err != nil {
		return nil, nil, err
	}
	return h, provenance[0], nil
}

func proposeHelm(spec value) ([]byte, *keySet, error) {
	h, text, err := readHelm(spec)
	if err != nil {
		return nil, nil, err
	}
	content, err := text.base64()
	if err != nil {
		return nil, nil, fmt.Errorf("chart.provenance.content: %w", err)
	}
	if len(content) == 0 {
		return nil, nil, errors.New("'content' must be specified for provenance")
	}
	message, err := sigkey.ParseClearSigned(content)
	if err != nil {
		return nil, nil, fmt.Errorf("unable to decode provenance file: %w", err)
	}
	hash, err := parseProvenance(message.Text)
	if err != nil {
		return nil, nil, err
	}
	if h.hash.value != "" && h.hash != hash {
		return nil, nil, fmt.Errorf("SHA mismatch: %s != %s", hash.value, h.hash.value)
	}
	h.hash = hash
	if err := h.key.Verify(message.Signed, message.Signature); err != nil {
		return nil, nil, fmt.Errorf("verifying signature: %w", err)
	}
	h.sig = message.Signature
	return h.body(), h.keys(), nil
}

func keysHelm(spec value) (*keySet, error) {
	h, _, err := readHelm(spec)
	if err != nil {
		return nil, err
	}
	if h.hash.value == "" {
		return nil, errors.New("chart.hash in body is required")
	}
	return h.keys(), nil
}

// parseProvenance returns the digest of the chart that a provenance file is for.
// Of several files a public log takes any: nobody could repeat what it stored,
// so there must be one.
func parseProvenance(text []byte) (digest, error) {
	separator := []byte("\n...\n")
	_, sums, ok := bytes.Cut(text, separator)
	if !ok {
		return digest{}, errors.New(`provenance file: want a line "..." between the chart and its checksums`)
	}
	sums, _, _ = bytes.Cut(sums, separator)
	if len(sums) > maxChartSums {
		return digest{}, fmt.Errorf("provenance file: %d bytes of checksums, at most %d are accepted", len(sums), maxChartSums)
	}
	// Into nodes, so that nothing is expanded.
	var document yaml.Node
	if yaml.Unmarshal(sums, &document) != nil {
		return digest{}, errors.New("provenance file: the checksums are not YAML")
	}
	var files *yaml.Node
	if len(document.Content) == 1 && document.Content[0].Kind == yaml.MappingNode {
		top := document.Content[0].Content
		for i := 0; i < len(top); i += 2 {
			if top[i].Value == "files" && files != nil {
				return digest{}, errors.New("provenance file: files is there twice")
			} else if top[i].Value == "files" {
				files = top[i+1]
			}
		}
	}
	if files == nil || files.Kind != yaml.MappingNode || len(files.Content) == 0 {
		return digest{}, errors.New("provenance file: no checksums found, want files: {name: sha256:digest}")
	}
	if n := len(files.Content) / 2; n != 1 {
		return digest{}, fmt.Errorf("provenance file: checksums of %d files, want one", n)
	}
	sum := files.Content[1]
	algorithm, hash, _ := strings.Cut(sum.Value, ":")
	if _, err := hex.DecodeString(hash); err != nil || sum.Kind != yaml.ScalarNode || algorithm != "sha256" || len(hash) != hexLength["sha256"] {
		return digest{}, errors.New("provenance file: invalid checksum, want sha256: and 64 hex digits")
	}
	return digest{algorithm: algorithm, value: hash}, nil
}

func (h *helm) body() []byte {
	sig, key := h.sig.Canonical(), h.key.Canonical()
	out := make([]byte, 0, 512+base64.StdEncoding.EncodedLen(len(sig)+len(key)))
	out = appendHeader(out, "helm", "0.0.1")
	out = append(out, `"chart":{"hash":`...)
	out = appendDigest(out, h.hash)
	out = append(out, `,"provenance":{"signature":{"content":"`...)
	out = base64.StdEncoding.AppendEncode(out, sig)
	out = append(out, `"}}},"publicKey":{"content":"`...)
	out = base64.StdEncoding.AppendEncode(out, key)
	return append(out, `"}}}`...)
}

func (h *helm) keys() *keySet {
	s := &keySet{}
	s.addSigner(h.key, scheme{format: sigkey.FormatPGP})
	s.add(h.hash.searchKey())
	return s
}
