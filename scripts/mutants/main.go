// Command mutants shows that the tests can fail: it applies seeded faults to a
// copy of the module, one at a time, and runs the tests that ought to notice.
//
//	go run ./scripts/mutants                  # all of them
//	go run ./scripts/mutants -run 'ca/lint'   # those whose name matches
//	go run ./scripts/mutants -list            # names and faults
//	go run ./scripts/mutants -write           # all, and the table of docs/mutants.md anew
//
// A mutant (see table.go) is a fault that somebody could make, or could undo:
// a check that is gone, a step in the wrong order, a sync that is missing. It is
// written as replacements of text in Go files. Each old text must be there
// exactly once, so that a mutant that does not fit the code any more is an
// error and not a survivor, or worse, a kill by luck.
//
// A mutant is killed by the first test that fails with it. What else may happen
// counts as a failure of this command: a mutant that no test notices (SURVIVED),
// one that does not compile, and tests that fail without any mutant, or that are
// not there. The exit status is 0 only if every mutant was killed.
//
// The module itself is only read. Copies lie in a temporary folder, one for
// each of -j workers, and are gone at the end, also after an interrupt or SIGTERM. The go
// command caches what it builds as always.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

// run does the whole work; its error says why the exit status is not 0.
func run(ctx context.Context, args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("mutants", flag.ContinueOnError)
	pattern := flags.String("run", "", "regular expression: only the mutants whose name matches")
	workers := flags.Int("j", 2, "mutants at a time")
	list := flags.Bool("list", false, "list the mutants and do nothing")
	write := flags.Bool("write", false, "write the table of docs/mutants.md; needs all mutants")
	if err := flags.Parse(args); err != nil {
		return err
	}
	only, err := regexp.Compile(*pattern)
	if err != nil {
		return fmt.Errorf("-run: %w", err)
	}
	if *workers < 1 || *write && *pattern != "" || flags.NArg() > 0 {
		return errors.New("want -j of at least 1, -write without -run, and no arguments")
	}
	chosen := slices.DeleteFunc(mutants(), func(m mutant) bool { return !only.MatchString(m.name) })
	if *list {
		for _, m := range chosen {
			fmt.Fprintf(stdout, "%-40s %s\n", m.name, m.fault)
		}
		return nil
	}
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	for _, m := range chosen {
		if err := m.fits(root); err != nil {
			return err
		}
	}

	scratch, err := os.MkdirTemp("", "sigstack-mutants-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	// The first copy is taken of the module, the others of that: whoever edits
	// the module meanwhile changes nothing for us.
	copies := make([]string, *workers)
	from := root
	for i := range copies {
		copies[i] = filepath.Join(scratch, fmt.Sprint(i))
		if err := copyModule(copies[i], from); err != nil {
			return fmt.Errorf("copying the module: %w", err)
		}
		from = copies[i]
	}

	start := time.Now()
	if err := baseline(ctx, copies[0], chosen, stdout); err != nil {
		return err
	}
	results := each(ctx, chosen, copies, func(r result) {
		fmt.Fprintf(stdout, "%-9s %-40s %5.1fs  %s\n", r.verdict, r.mutant.name, r.took.Seconds(), r.by)
		if r.verdict != killed {
			fmt.Fprintf(stdout, "%s\n", r.detail)
		}
	})
	if err := ctx.Err(); err != nil {
		return errors.New("interrupted")
	}
	alive := 0
	for _, r := range results {
		if r.verdict != killed {
			alive++
		}
	}
	fmt.Fprintf(stdout, "%d mutants, %d killed, in %v\n", len(results), len(results)-alive, time.Since(start).Round(time.Second))
	if alive > 0 {
		return fmt.Errorf("%d of %d mutants were not killed; write the test that is missing, or take out the code that no test can miss", alive, len(results))
	}
	if *write {
		return writeTable(filepath.Join(root, filepath.FromSlash(document)), results)
	}
	return nil
}

// baseline runs every test command without a mutant: a test that fails anyway,
// or that does not exist, kills nothing.
func baseline(ctx context.Context, dir string, chosen []mutant, stdout io.Writer) error {
	var commands []tests
	for _, m := range chosen {
		for _, t := range m.tests {
			if !slices.Contains(commands, t) {
				commands = append(commands, t)
			}
		}
	}
	fmt.Fprintf(stdout, "%d test commands without a mutant\n", len(commands))
	for _, t := range commands {
		o, err := goTest(ctx, dir, t)
		switch {
		case err != nil:
			return err
		case o.broken || o.failed != "":
			return fmt.Errorf("%s fails without a mutant (%s):\n%s", t, o.failed, o.tail)
		case !o.ran:
			return fmt.Errorf("%s runs no test; its pattern fits no name", t)
		}
	}
	return nil
}

// A result is what became of one mutant.
type result struct {
	mutant  mutant
	verdict string
	by      string // the command and the test that killed it
	detail  string // why it was not killed
	took    time.Duration
}

// The verdicts.
const (
	killed   = "killed"
	survived = "SURVIVED"
	broken   = "BROKEN" // it does not compile, or could not be run
)

// each runs the mutants, one in each copy at a time, and tells done of each
// result. It returns the results in the order of the mutants.
func each(ctx context.Context, chosen []mutant, copies []string, done func(result)) []result {
	results := make([]result, len(chosen))
	next := make(chan int)
	var mu sync.Mutex // guards done
	var wg sync.WaitGroup
	for _, dir := range copies {
		wg.Go(func() {
			for i := range next {
				r := try(ctx, dir, chosen[i])
				mu.Lock()
				results[i] = r
				if ctx.Err() == nil {
					done(r)
				}
				mu.Unlock()
			}
		})
	}
	for i := range chosen {
		if ctx.Err() != nil {
			break
		}
		next <- i
	}
	close(next)
	wg.Wait()
	return results
}

// try applies a mutant to a copy, runs its tests until one fails, and takes the
// mutant out again.
func try(ctx context.Context, dir string, m mutant) (r result) {
	start := time.Now()
	r.mutant = m
	defer func() { r.took = time.Since(start) }()
	restore, err := m.apply(dir)
	if err != nil {
		r.verdict, r.detail = broken, err.Error()
		return r
	}
	defer func() {
		if err := restore(); err != nil {
			r.verdict, r.detail = broken, "the copy could not be restored: "+err.Error()
		}
	}()
	for _, t := range m.tests {
		o, err := goTest(ctx, dir, t)
		switch {
		case err != nil:
			r.verdict, r.detail = broken, err.Error()
			return r
		case o.broken:
			r.verdict, r.detail = broken, "it does not compile:\n"+o.tail
			return r
		case o.failed != "":
			r.verdict, r.by = killed, t.pkg+" "+o.failed
			if t.tags != "" {
				r.by = "-tags " + t.tags + " " + r.by
			}
			return r
		}
	}
	r.verdict, r.detail = survived, fmt.Sprintf("  %s\n  passed: %v", m.fault, m.tests)
	return r
}
