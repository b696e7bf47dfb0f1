package entry

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/sigstack/sigstack/test/fuzz"
)

// A proposal of any kind: one verdict of one class, and what is accepted has
// one canonical body, whose search keys are among those of the proposal.
func FuzzPropose(f *testing.F) {
	var seeds []*fuzz.Node
	for _, v := range vectors(f) {
		seeds = append(seeds, fuzz.Look(v.Request))
	}
	seeds = append(seeds, fuzz.Look(signedWith(f, claims(f, map[int]string{1: "https://issuer.example", 3: "ab", 8: "https://issuer.example", 12: "https://example.com/acme/widget"}))))
	fuzz.RunWith(f, fuzz.Options{Allow: allowRing}, seeds, Propose, func(t *testing.T, in []byte, e *Entry, err error) {
		if checkVerdict(t, "fuzz", in) == nil {
			checkCanonical(t, in)
			keys, err := Keys(e.Body)
			if err != nil {
				t.Fatal(err)
			}
			if a := fmt.Sprintf("sha256:%x", sha256.Sum256(e.Attestation)); e.AttestationKey != "" && (a != e.AttestationKey || !slices.Contains(keys, a)) {
				t.Fatalf("attestation key %q, want %q, and among the keys of the body", e.AttestationKey, a)
			}
			if sum, ok, err := Attested(e.Body); err != nil || ok != (e.AttestationKey != "") || ok && fmt.Sprintf("sha256:%x", sum) != e.AttestationKey {
				t.Fatalf("the body attests %x (%v, %v), want %q", sum, ok, err, e.AttestationKey)
			}
			// The subjects of a statement are in the proposal only.
			for _, k := range keys {
				if !slices.Contains(e.Keys, k) {
					t.Fatalf("search key %q of the body is not among those of the proposal, %q", k, e.Keys)
				}
			}
		}
	})
}

// allowRing allows for a pgp key ring. While it is read, signatures in it are verified,
// and crypto/rsa allocates 60 kB for each by a key of 3072 bits, the largest among the
// seeds. One such signature has 500 bytes and more in an entry; sigkey bounds their
// number to 500.
func allowRing(in []byte) int {
	for _, word := range []string{`"pgp"`, `"helm"`, `"rpm"`} { // the format, or a kind that has no other
		if bytes.Contains(in, []byte(word)) {
			return 60_000 * min(len(in)/500, 500)
		}
	}
	return 0
}

// The canonical body of an entry, as it is read back from the log.
func FuzzKeys(f *testing.F) {
	var seeds []*fuzz.Node
	for _, v := range vectors(f) {
		if v.accepted() && v.DecodedBody != "" {
			seeds = append(seeds, fuzz.Look([]byte(v.DecodedBody)))
		}
	}
	fuzz.RunWith(f, fuzz.Options{Allow: allowRing}, seeds, Keys, func(t *testing.T, in []byte, keys []string, err error) {
		if len(keys) > MaxKeys || err == nil && !json.Valid(in) {
			t.Fatalf("%d keys, %v", len(keys), err)
		}
		if sum, ok, attests := Attested(in); err == nil && (attests != nil || ok && !slices.Contains(keys, fmt.Sprintf("sha256:%x", sum))) {
			t.Fatalf("it attests %x (%v), which is not among its keys %q", sum, attests, keys)
		}
		for _, k := range keys {
			if k == "" || len(k) > MaxKeyLength {
				t.Fatalf("key %q", k)
			}
		}
		d, derr := Describe(in)
		if err == nil && (derr != nil || kinds[d.Kind][d.Version].keys == nil) {
			t.Fatalf("described as %+v, %v", d, derr)
		}
		for _, name := range d.Subjects {
			if k := strings.ToLower(name); err == nil && k != "" && len(k) <= MaxKeyLength && !slices.Contains(keys, k) && d.Kind != "jar" {
				t.Fatalf("subject %q is no search key", name)
			}
		}
	})
}

// The reader of this package and encoding/json agree on what is valid and on
// what it says, but for names and text that one of them changes.
func FuzzJSON(f *testing.F) {
	seeds := fuzz.Seeds(
		`{}`, `[]`, `{"a":1}`, ` { "a" : [ 1 , 2 , { } , "x\"\\" ] , "b\u0062" : null } `, `"\ud83d\ude00\u00e9\/\b\f\n\r\t"`,
		`{"":""}`, `[[],[[]],{"a":{}}]`, `-1.5e+3`, `true`, `"\\\\\""`, `{"a":"}","b":"]"}`, `["\ud800"]`, `["\ud800\u0041"]`, `1e999`,
	)
	parse := func(in []byte) (struct{}, error) { return struct{}{}, checkJSON(in) }
	fuzz.Run(f, seeds, parse, func(t *testing.T, in []byte, _ struct{}, err error) {
		if err != nil {
			if utf8.Valid(in) && json.Valid(in) {
				t.Fatal("valid JSON refused")
			}
			return
		}
		var want any
		if json.Unmarshal(in, &want) != nil {
			return // a number out of range
		}
		got, err := walk(trimmed(in))
		if err != nil {
			if err.Error() == "string holds half a surrogate pair" {
				return
			}
			t.Fatal(err)
		}
		if g, w := fmt.Sprintf("%#v", got), fmt.Sprintf("%#v", want); g != w {
			t.Fatalf("got %s, want %s", g, w)
		}
	})
}
