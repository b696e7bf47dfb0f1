package trust

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// parseAny parses data as everything that this package reads from disk, as
// opening does, verification included.
func parseAny(data []byte) {
	if root, err := parseRoot(data); err == nil {
		_ = root.VerifyDelegate(metadata.ROOT, root)
		_ = root.VerifyDelegate(metadata.TIMESTAMP, root)
	}
	if m, err := parseTimestamp(data); err == nil {
		_ = describes(m.Signed.Meta["snapshot.json"], data)
	}
	if m, err := parseSnapshot(data); err == nil {
		_ = describes(m.Signed.Meta["targets.json"], data)
	}
	if m, err := parseTargets(data); err == nil {
		for name, f := range m.Signed.Targets {
			_ = targetPath(f.Hashes["sha256"], name)
			_ = f.VerifyLengthHashes(data)
		}
		_ = sameTargets(m.Signed.Targets, nil)
	}
	if tr, err := parseTrustedRoot(data); err == nil {
		_, _ = activeKeys(tr)
	}
	_, _ = parseSigningConfig(data)
}

// valid returns one file of each sort.
func valid(t testing.TB) map[string][]byte {
	c := newClock()
	r := mustOpen(t, t.TempDir(), newRoleKeys(t), c)
	mustPublish(t, r, newMaterial(t, c))
	out := map[string][]byte{}
	for _, name := range []string{"root.json", "timestamp.json", "1.snapshot.json", "1.targets.json", "targets/trusted_root.json", "targets/signing_config.v0.2.json"} {
		data, ok := r.File(name)
		if !ok {
			t.Fatalf("no %s", name)
		}
		out[name] = data
	}
	return out
}

// Parsing costs memory in proportion to the input, also when the input is made
// to be expensive.
func TestParseAllocation(t *testing.T) {
	inputs := valid(t)
	// Members of each sort, as many as checkJSON lets through in a short
	// document and in one that is padded to 400 kB.
	repeat := func(n int, format string) string {
		parts := make([]string, n)
		for i := range parts {
			parts[i] = fmt.Sprintf(format, i)
		}
		return strings.Join(parts, ",")
	}
	for _, size := range []struct {
		name string
		n    int
		pad  string
	}{{"short", 1000, ""}, {"long", 20_000, strings.Repeat("x", 300_000)}} {
		pad := `"` + size.pad + `"`
		for _, typ := range []string{"root", "timestamp", "snapshot", "targets"} {
			begin := `{"x":` + pad + `,"signed":{"_type":"` + typ + `",`
			inputs[size.name+" numbers in "+typ] = []byte(begin + repeat(size.n, `"k%d":1`) + `},"signatures":[]}`)
			inputs[size.name+" lists in "+typ] = []byte(begin + repeat(size.n/3, `"k%d":[[]]`) + `},"signatures":[]}`)
			begin = `{"signed":{"_type":"` + typ + `"},"signatures":[{"keyid":` + pad + `},`
			inputs[size.name+" signatures of "+typ] = []byte(begin + repeat(size.n/2, `{"keyid":"%d"}`) + `]}`)
			begin = `{"signed":{"_type":"` + typ + `","spec_version":` + pad + `,`
			inputs[size.name+" files of "+typ] = []byte(begin + `"meta":{` + repeat(size.n/2, `"%d":{}`) + `}}}`)
			inputs[size.name+" targets of "+typ] = []byte(begin + `"targets":{` + repeat(size.n/3, `"%d":{"hashes":{}}`) + `}}}`)
			inputs[size.name+" keys of "+typ] = []byte(begin + `"keys":{` + repeat(size.n/2, `"%d":{}`) + `}}}`)
		}
		begin := `{"mediaType":` + pad + `,`
		inputs[size.name+" logs"] = []byte(begin + `"tlogs":[` + repeat(size.n/2, `{}%.0d`) + `]}`)
		inputs[size.name+" full logs"] = []byte(begin + `"tlogs":[` + repeat(size.n/6, `{"publicKey":{"validFor":{"start":"2026-01-01T00:00:00Z"}},"logId":{}}%.0d`) + `]}`)
		inputs[size.name+" certificates"] = []byte(begin + `"certificateAuthorities":[{"certChain":{"certificates":[` + repeat(size.n/2-10, `{}%.0d`) + `]}}]}`)
		inputs[size.name+" services"] = []byte(begin + `"caUrls":[` + repeat(size.n/2, `{}%.0d`) + `]}`)
	}
	inputs["many logs"] = []byte(`{"tlogs":[` + strings.Repeat("{},", 300_000) + `{}]}`)
	inputs["deep"] = []byte(strings.Repeat("[", 400_000))
	inputs["long string"] = []byte(`{"signed":{"_type":"root","x":"` + strings.Repeat("a", 200_000) + `"}}`)
	inputs["escapes"] = []byte(`{"signed":{"_type":"root","x":"` + strings.Repeat(`\u0041`, 50_000) + `"}}`)
	parsers := map[string]func([]byte){
		"root":      func(d []byte) { _, _ = parseRoot(d) },
		"timestamp": func(d []byte) { _, _ = parseTimestamp(d) },
		"snapshot":  func(d []byte) { _, _ = parseSnapshot(d) },
		"targets":   func(d []byte) { _, _ = parseTargets(d) },
		"trusted":   func(d []byte) { _, _ = parseTrustedRoot(d) },
		"signing":   func(d []byte) { _, _ = parseSigningConfig(d) },
	}
	for name, data := range inputs {
		for parser, parse := range parsers {
			parse(data) // the first call of a type allocates for good
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			parse(data)
			runtime.ReadMemStats(&after)
			got := after.TotalAlloc - before.TotalAlloc
			if limit := uint64(10*len(data) + 1<<20); got > limit {
				t.Errorf("%s parsed as %s: %d bytes allocated for %d, limit %d", name, parser, got, len(data), limit)
			} else {
				t.Logf("%s as %s: %d for %d", name, parser, got, len(data))
			}
		}
	}
}

func TestCheckJSON(t *testing.T) {
	for data, ok := range map[string]bool{
		``:                                    true, // not JSON, but that is for the parser
		`{"a":"{[,\"{[,"}`:                    true,
		strings.Repeat("[", maxJSONDepth):     true,
		strings.Repeat("[", maxJSONDepth+1):   false,
		strings.Repeat(",", maxJSONMembers):   true,
		strings.Repeat(",", 2000):             false,
		`"` + strings.Repeat(",", 2000) + `"`: true,
		strings.Repeat("a", 5000):             true,
		strings.Repeat("a", 5001):             false,
		`"` + strings.Repeat("\\", 3):         true,
	} {
		if err := checkJSON([]byte(data), 5000, maxJSONMembers); (err == nil) != ok {
			t.Errorf("%.20q (%d bytes): %v", data, len(data), err)
		}
	}
}

// A repository that has changed its keys for a long time stays within what is
// read back: 60 changes of everything.
func TestManyChanges(t *testing.T) {
	c, dir, keys := newClock(), t.TempDir(), newRoleKeys(t)
	r := mustOpen(t, dir, keys, c)
	var m Material
	for range 60 {
		m = newMaterial(t, c)
		mustPublish(t, r, m)
		c.advance(day)
		if err := r.Renew(ctx); err != nil {
			t.Fatal(err)
		}
	}
	check(t, mustOpen(t, dir, keys, c), m, c.t)
	g := r.current.Load()
	data, _ := r.File("targets/trusted_root.json")
	t.Logf("trusted root %d bytes, targets %d bytes", len(data), len(g.own[versioned(g.targets.Signed.Version, Targets)]))
}
