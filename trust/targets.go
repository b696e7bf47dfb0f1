package trust

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"

	trustroot "github.com/sigstore/protobuf-specs/gen/pb-go/trustroot/v1"
	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// The names of the two documents, as every client asks for them.
const (
	trustedRootName   = "trusted_root.json"
	signingConfigName = "signing_config.v0.2.json"
)

// target is one file that the repository offers.
type target struct {
	name   string
	data   []byte
	custom *custom // nil for the two documents
}

// custom is the "custom" field of a legacy target. Clients that know no
// trusted_root.json find keys by it.
type custom struct {
	Sigstore use `json:"sigstore"`
}

type use struct {
	Usage  string `json:"usage"`  // Fulcio, CTFE or Rekor
	Status string `json:"status"` // Active or Expired
	URI    string `json:"uri"`
}

// path is the name under which consistent snapshots want the target.
func (t target) path() string {
	sum := sha256.Sum256(t.data)
	return targetPath(sum[:], t.name)
}

func targetPath(sha256 []byte, name string) string {
	return "targets/" + hex.EncodeToString(sha256) + "." + name
}

// file describes the target in the targets role. It has exactly one hash:
// clients ask for targets/<hash>.<name> with any one of those listed.
func (t target) file() (*metadata.TargetFiles, error) {
	sum := sha256.Sum256(t.data)
	f := &metadata.TargetFiles{Length: int64(len(t.data)), Hashes: metadata.Hashes{"sha256": sum[:]}, Path: t.name}
	if t.custom != nil {
		raw, err := json.Marshal(t.custom)
		if err != nil {
			return nil, err
		}
		f.Custom = (*json.RawMessage)(&raw)
	}
	return f, nil
}

// makeTargets returns all targets that follow from the two documents.
func makeTargets(tr *trustroot.TrustedRoot, sc *trustroot.SigningConfig) ([]target, error) {
	trJSON, err := marshalDocument(tr)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", trustedRootName, err)
	}
	scJSON, err := marshalDocument(sc)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", signingConfigName, err)
	}
	// What cannot be read back must not be published.
	if _, err := parseTrustedRoot(trJSON); err != nil {
		return nil, fmt.Errorf("%s: %w", trustedRootName, err)
	}
	if _, err := parseSigningConfig(scJSON); err != nil {
		return nil, fmt.Errorf("%s: %w", signingConfigName, err)
	}
	out := []target{{name: trustedRootName, data: trJSON}, {name: signingConfigName, data: scJSON}}

	cas := legacySet{usage: "Fulcio", stem: "fulcio", suffix: ".crt.pem"}
	for _, ca := range tr.GetCertificateAuthorities() {
		var chain bytes.Buffer
		for _, der := range certificates(ca) {
			// Encoding to a buffer without headers cannot fail.
			_ = pem.Encode(&chain, &pem.Block{Type: "CERTIFICATE", Bytes: der})
		}
		cas.add(chainID(certificates(ca)), chain.Bytes(), ca.GetUri(), ca.GetValidFor().GetEnd() == nil)
	}
	ct := legacySet{usage: "CTFE", stem: "ctfe", suffix: ".pub"}
	ct.addLogs(tr.GetCtlogs())
	rekor := legacySet{usage: "Rekor", stem: "rekor", suffix: ".pub"}
	rekor.addLogs(tr.GetTlogs())
	for _, set := range []legacySet{cas, ct, rekor} {
		out = append(out, set.targets...)
	}
	return out, nil
}

// legacySet collects the legacy targets of one usage.
type legacySet struct {
	usage, stem, suffix string
	plain               bool // the plain name is taken
	targets             []target
}

// add appends a target. The first active instance gets the plain name, which
// the oldest clients ask for.
func (s *legacySet) add(id [32]byte, data []byte, uri string, active bool) {
	name, status := s.stem+"_"+hex.EncodeToString(id[:8])+s.suffix, "Expired"
	if active {
		status = "Active"
		if !s.plain {
			name, s.plain = s.stem+s.suffix, true
		}
	}
	s.targets = append(s.targets, target{name: name, data: data, custom: &custom{use{Usage: s.usage, Status: status, URI: uri}}})
}

func (s *legacySet) addLogs(logs []*trustroot.TransparencyLogInstance) {
	for _, l := range logs {
		spki := l.GetPublicKey().GetRawBytes()
		s.add(sha256.Sum256(spki), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki}),
			l.GetBaseUrl(), l.GetPublicKey().GetValidFor().GetEnd() == nil)
	}
}

// sameTargets tells whether published already offers exactly want.
func sameTargets(published map[string]*metadata.TargetFiles, want []target) bool {
	if len(published) != len(want) {
		return false
	}
	for _, t := range want {
		p := published[t.name]
		if p == nil {
			return false
		}
		sum := sha256.Sum256(t.data)
		if p.Length != int64(len(t.data)) || !bytes.Equal(p.Hashes["sha256"], sum[:]) {
			return false
		}
		if (p.Custom == nil) != (t.custom == nil) {
			return false
		}
		if p.Custom != nil {
			var c custom
			if err := json.Unmarshal(*p.Custom, &c); err != nil || c != *t.custom {
				return false
			}
		}
	}
	return true
}
