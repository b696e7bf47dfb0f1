package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
)

// document is where the table of mutants and their killers is kept.
const document = "docs/mutants.md"

// The table stands between these lines of the document.
const (
	tableBegin = "<!-- mutants: written by `go run ./scripts/mutants -write` -->\n"
	tableEnd   = "<!-- mutants end -->\n"
)

// writeTable replaces the table in the document.
func writeTable(file string, results []result) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	before, rest, ok := bytes.Cut(text, []byte(tableBegin))
	_, after, ok2 := bytes.Cut(rest, []byte(tableEnd))
	if !ok || !ok2 {
		return fmt.Errorf("%s has no lines %q and %q around a table", file, tableBegin, tableEnd)
	}
	var b bytes.Buffer
	b.Write(before)
	b.WriteString(tableBegin)
	fmt.Fprintf(&b, "\n%d mutants, all killed.\n\n| mutant | fault | killed by |\n|---|---|---|\n", len(results))
	for _, r := range results {
		if r.verdict != killed {
			return errors.New("a table of mutants that are not killed is not written")
		}
		fmt.Fprintf(&b, "| %s | %s | `%s` |\n", r.mutant.name, cell(r.mutant.fault), r.by)
	}
	b.WriteString("\n" + tableEnd)
	b.Write(after)
	return os.WriteFile(file, b.Bytes(), 0o644)
}

func cell(s string) string { return strings.ReplaceAll(s, "|", "\\|") }
