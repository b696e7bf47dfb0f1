package fuzz

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"testing"
)

func samples() map[string]string {
	der := "\x30\x0d\x02\x01\x05\x04\x03\x02\x01\x07\x03\x03\x00\x05\x00"
	block := string(pem.EncodeToMemory(&pem.Block{Type: "A KEY", Bytes: []byte(der)}))
	b64 := base64.StdEncoding.EncodeToString([]byte(block))
	inner, _ := json.Marshal(map[string]any{"a": b64, "b": []any{1, nil, true}})
	jws := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"ES256"}`)) + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"iss":"a"}`)) + ".AAAA"
	return map[string]string{
		"der":    der,
		"pem":    block,
		"blocks": block + block,
		"base64": b64,
		"json":   " { \"x\" : [1, \"\\u0041\"], \"env\" : " + string(quote(inner)) + "}\n",
		"jws":    jws,
		"form":   "a=b&c=" + b64,
		"lines":  "origin\n5\n" + b64 + "\n\n\u2014 name " + b64 + "\n",
		"path":   "/tuf/targets/x.json",
		"ssh":    "SSHSIG\x00\x00\x00\x01\x00\x00\x00\x05hello\x00\x00\x00\x00",
		"bytes":  "\xff\x00\x01",
		"empty":  "",
	}
}

// What Look finds renders to what it looked at, and something is found.
func TestLook(t *testing.T) {
	for name, in := range samples() {
		n := Look([]byte(in))
		if got := n.Mutate(7, keep, nil); string(got) != in {
			t.Errorf("%s: rendered as %q, want %q", name, got, in)
		}
		if found := n.count > 1; found == (name == "bytes" || name == "empty") {
			t.Errorf("%s: %d pieces", name, n.count)
		}
	}
}

// Around a place that was changed, lengths and encodings are right again.
func TestMutateInside(t *testing.T) {
	in := samples()["json"]
	n := Look([]byte(in))
	deep := -1
	for place := range n.count {
		if string(n.at(place).raw) == "\x02\x01\x07" { // the INTEGER in the OCTET STRING
			deep = place
		}
	}
	if deep < 0 {
		t.Fatal("nothing was found inside of the DER inside of the PEM")
	}
	got := n.with(deep, bytes.Repeat([]byte{2, 1, 7}, 100))
	var outer struct{ Env string }
	var env struct{ A []byte }
	if err := json.Unmarshal(got, &outer); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(outer.Env), &env); err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(env.A)
	if block == nil {
		t.Fatalf("no PEM in %q", env.A)
	}
	tag, content, rest, ok := element(block.Bytes)
	if !ok || tag != 0x30 || len(rest) > 0 || !bytes.Contains(content, append([]byte{4, 0x82, 1, 44}, bytes.Repeat([]byte{2, 1, 7}, 100)...)) {
		t.Errorf("%x", block.Bytes)
	}
}

// Every way at every place gives something, and never panics.
func TestMutateAll(t *testing.T) {
	for name, in := range samples() {
		n := Look([]byte(in))
		different := map[string]bool{}
		for place := range n.count {
			for how := range howMany {
				for _, patch := range []string{"", "x", "\x01\x02\x03\x04", "\xff\xff\xff"} {
					got := n.Mutate(uint16(place), uint8(how), []byte(patch))
					if limit := 4*maxMany + 8*len(in); len(got) > limit {
						t.Errorf("%s: %d bytes", name, len(got))
					}
					different[string(got)] = true
				}
			}
		}
		if len(different) < 2*n.count {
			t.Errorf("%s: %d different inputs from %d pieces", name, len(different), n.count)
		}
	}
}

func TestPrefixed(t *testing.T) {
	n := Seq(Leaf([]byte{0}), Prefixed(3, Prefixed(2, Text("ab")), Prefixed(2)))
	if want := "\x00\x00\x00\x06\x00\x02ab\x00\x00"; string(n.Bytes()) != want {
		t.Errorf("%q, want %q", n.Bytes(), want)
	}
	// Places: the whole, the first byte, the list, its first string, that text.
	if got, want := string(n.Mutate(4, set, []byte("cde"))), "\x00\x00\x00\x07\x00\x03cde\x00\x00"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := string(n.Mutate(3, remove, nil)), "\x00\x00\x00\x02\x00\x00"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// failures counts what a test is told.
type failures struct {
	testing.TB
	n int
}

func (f *failures) Helper()               {}
func (f *failures) Errorf(string, ...any) { f.n++ }

func TestBudget(t *testing.T) {
	for _, c := range []struct {
		size, alloc, want int
	}{{0, 1 << 19, 0}, {0, 1<<20 + 1<<18, 1}, {1 << 20, 6 << 20, 0}, {1 << 20, 12 << 20, 1}} {
		for name, chunk := range map[string]int{"large": c.alloc, "small": 256} {
			f := &failures{TB: t}
			var kept [][]byte
			Budget(f, c.size, func() {
				kept = nil
				for range c.alloc / chunk {
					kept = append(kept, make([]byte, chunk))
				}
			})
			if f.n != c.want {
				t.Errorf("%s: %d allocated for %d: %d failures, want %d", name, c.alloc, c.size, f.n, c.want)
			}
			if len(kept) == 0 {
				t.Error("nothing was allocated")
			}
		}
	}
	// What is made once for all calls does not count.
	f, once := &failures{TB: t}, []byte(nil)
	Budget(f, 0, func() {
		if once == nil {
			once = make([]byte, 4<<20)
		}
	})
	if f.n != 0 {
		t.Error("a first call counts")
	}
}
