package main

import (
	"bytes"
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func root(t *testing.T) string {
	t.Helper()
	dir, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestTable holds the table against the module as it is: every mutant can be
// applied, and names tests that exist.
func TestTable(t *testing.T) {
	dir := root(t)
	seen := map[string]bool{}
	for _, m := range mutants() {
		if err := m.fits(dir); err != nil {
			t.Error(err)
		}
		if seen[m.name] || m.fault == "" || len(m.edits) == 0 || len(m.tests) == 0 {
			t.Errorf("mutant %s: want a name of its own, a fault, edits and tests", m.name)
		}
		seen[m.name] = true
		for _, c := range m.tests {
			if !has(t, filepath.Join(dir, filepath.FromSlash(c.pkg)), c.run) {
				t.Errorf("mutant %s: no test fits %s", m.name, c)
			}
		}
	}
}

// has says whether a package has a test that a -run pattern fits.
func has(t *testing.T, dir, run string) bool {
	t.Helper()
	top, _, _ := strings.Cut(run, "/")
	pattern, err := regexp.Compile(top)
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllSubmatch(text, -1) {
			if pattern.Match(match[1]) {
				return true
			}
		}
	}
	return false
}

// TestDocument compares the table of the document with that of the program.
func TestDocument(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root(t), filepath.FromSlash(document)))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), tableBegin)
	table, _, ok2 := strings.Cut(rest, tableEnd)
	if !ok || !ok2 {
		t.Fatalf("%s has no table", document)
	}
	var got []string
	for line := range strings.Lines(table) {
		if cells := strings.Split(strings.Trim(line, "| \n"), " | "); len(cells) == 3 && cells[0] != "mutant" {
			if len(cells[2]) < 5 {
				t.Errorf("%s: the table does not say what kills it", cells[0])
			}
			got = append(got, cells[0]+": "+cells[1])
		}
	}
	var want []string
	for _, m := range mutants() {
		want = append(want, m.name+": "+cell(m.fault))
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("the table of %s is not that of the program; run `go run ./scripts/mutants -write`", document)
	}
}

// TestRead reads what "go test -json" writes.
func TestRead(t *testing.T) {
	for name, test := range map[string]struct {
		lines []string
		want  outcome
	}{
		"pass": {[]string{
			`{"Action":"start"}`, `{"Action":"run","Test":"TestA"}`, `{"Action":"pass","Test":"TestA"}`, `{"Action":"pass"}`,
		}, outcome{ran: true}},
		"nothing to run": {[]string{`{"Action":"start"}`, `{"Action":"pass"}`}, outcome{}},
		"subtest": {[]string{
			`{"Action":"run","Test":"TestA"}`, `{"Action":"run","Test":"TestA/b"}`,
			`{"Action":"fail","Test":"TestA/b"}`, `{"Action":"fail","Test":"TestA"}`, `{"Action":"fail"}`,
		}, outcome{ran: true, failed: "TestA/b"}},
		"build": {[]string{
			`{"Action":"build-fail"}`, `{"Action":"start"}`, `{"Action":"fail","FailedBuild":"x"}`,
		}, outcome{broken: true}},
		"the process ended": {[]string{
			`{"Action":"run","Test":"TestA"}`, `{"Action":"pass","Test":"TestA"}`, `{"Action":"run","Test":"TestB"}`, `{"Action":"fail"}`,
		}, outcome{ran: true, failed: "TestB (the process ended)"}},
		"time": {[]string{
			`{"Action":"run","Test":"TestA"}`, `{"Action":"output","Test":"TestA","Output":"panic: test timed out after 1m0s\n"}`, `{"Action":"fail","Test":"TestA"}`,
		}, outcome{ran: true, failed: "TestA (timed out)"}},
	} {
		got, err := read(strings.NewReader(strings.Join(test.lines, "\n")))
		if err != nil || got.ran != test.want.ran || got.failed != test.want.failed || got.broken != test.want.broken {
			t.Errorf("%s: %+v, %v; want %+v", name, got, err, test.want)
		}
	}
}

// A small module with a check and a test of it.
var small = map[string]string{
	"go.mod":         "module example.com/small\n\ngo 1.26\n",
	"a/a.go":         "package a\n\nfunc ok(n int) bool {\n	if n < 0 {\n		return false\n	}\n	return n < 10\n}\n",
	"a/a_test.go":    "package a\n\nimport \"testing\"\n\nfunc TestNegative(t *testing.T) {\n	if ok(-1) {\n		t.Error(\"-1\")\n	}\n}\n",
	".hidden/x.go":   "not Go",
	"bin/a":          "a binary",
	"a/testdata/one": "1",
}

// TestVerdicts runs mutants of the small module: each verdict, and afterwards
// the copies are as they were.
func TestVerdicts(t *testing.T) {
	dir, scratch := t.TempDir(), t.TempDir()
	for name, text := range small {
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	copies := []string{filepath.Join(scratch, "0"), filepath.Join(scratch, "1")}
	for _, c := range copies {
		if err := copyModule(c, dir); err != nil {
			t.Fatal(err)
		}
	}
	run := func(pattern string) []tests { return []tests{{pkg: "./a", run: pattern}} }
	change := func(old, new string) []edit { return []edit{{"a/a.go", old, new}} }
	all := []mutant{
		{"killed", "a check is gone", change("	if n < 0 {\n", "	if false {\n"), run("TestNegative")},
		{"survived", "a bound has moved", change("n < 10", "n < 11"), run("")},
		{"broken", "it does not compile", change("return n < 10", "return n"), run("")},
		{"panic", "it panics", change("	if n < 0 {\n", "	if n < 0 {\n		panic(n)\n"), run("")},
	}
	var out bytes.Buffer
	if err := baseline(t.Context(), copies[0], all, &out); err != nil {
		t.Fatal(err)
	}
	results := each(t.Context(), all, copies, func(result) {})
	want := []struct{ verdict, by string }{{killed, "./a TestNegative"}, {survived, ""}, {broken, ""}, {killed, "./a TestNegative"}}
	for i, r := range results {
		if r.mutant.name != all[i].name || r.verdict != want[i].verdict || r.by != want[i].by || (r.detail == "") != (r.verdict == killed) {
			t.Errorf("%s: %+v", all[i].name, r)
		}
	}
	for _, c := range copies {
		files := 0
		err := filepath.WalkDir(c, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			files++
			text, err := os.ReadFile(path)
			rel, _ := filepath.Rel(c, path)
			if string(text) != small[filepath.ToSlash(rel)] {
				t.Errorf("%s is not as it was", path)
			}
			return err
		})
		if err != nil || files != 4 {
			t.Errorf("the copy has %d files, want 4; %v", files, err)
		}
	}

	// What is wrong with the table is said before anything runs.
	for name, m := range map[string]mutant{
		"not there":  {"x", "", change("n < 12", "n < 11"), nil},
		"twice":      {"x", "", change("n < ", "n <= "), nil},
		"no change":  {"x", "", change("n < 10", "n < 10"), nil},
		"other file": {"x", "", []edit{{"b.go", "a", "b"}}, nil},
	} {
		if m.fits(dir) == nil {
			t.Errorf("%s: it fits", name)
		}
	}
	for name, m := range map[string]mutant{
		"no such test": {"x", "", nil, run("TestNothing")},
		"fails anyway": {"x", "", nil, []tests{{pkg: "./b"}}},
	} {
		if err := baseline(t.Context(), dir, []mutant{m}, &out); err == nil {
			t.Errorf("%s: the baseline passes", name)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := goTest(ended, dir, tests{pkg: "./a"}); err == nil {
		t.Error("tests were run although the context has ended")
	}
}

func TestArguments(t *testing.T) {
	for _, args := range [][]string{{"-j", "0"}, {"-write", "-run", "ca"}, {"all"}, {"-run", "("}, {"-x"}} {
		if err := run(t.Context(), args, &bytes.Buffer{}); err == nil {
			t.Errorf("%q is accepted", args)
		}
	}
	var out bytes.Buffer
	if err := run(t.Context(), []string{"-list", "-run", "^ca/"}, &out); err != nil || !strings.Contains(out.String(), "ca/lint-removed") || strings.Contains(out.String(), "tlog/") {
		t.Errorf("%v: %s", err, out.String())
	}
}
