package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

const (
	progressWidth = 30                     // of the bar, in characters
	progressTurn  = 100 * time.Millisecond // between two states of the bar
	progressLine  = 10 * time.Second       // between two lines, where there is no terminal
)

// A progress tells how far something has got: on a terminal by a bar, elsewhere by a
// line now and then.
type progress struct {
	to       io.Writer
	terminal bool
	now      func() time.Time

	what        string
	first       uint64 // where it began
	began, told time.Time
}

// newProgress returns the progress of something that begins with what is there.
func newProgress(to io.Writer, what string, first uint64, now func() time.Time) *progress {
	p := &progress{to: to, now: now, what: what, first: first, began: now()}
	p.told = p.began
	if f, ok := to.(*os.File); ok {
		info, err := f.Stat()
		p.terminal = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	return p
}

// tell says how many entries of all are done.
func (p *progress) tell(done, total uint64) {
	now := p.now()
	turn := progressLine
	if p.terminal {
		turn = progressTurn
	}
	if now.Sub(p.told) < turn && done < total {
		return
	}
	p.told = now
	part, rate := 1.0, 0.0
	if total > 0 {
		part = float64(done) / float64(total)
	}
	if took := now.Sub(p.began).Seconds(); took > 0 {
		rate = float64(done-p.first) / took
	}
	line := fmt.Sprintf("%3.0f%% %d of %d entries, %.0f/s", 100*part, done, total, rate)
	if rate > 0 && done < total {
		left := time.Duration(float64(total-done) / rate * float64(time.Second))
		line += fmt.Sprintf(", %v left", left.Round(time.Second))
	}
	if !p.terminal {
		fmt.Fprintf(p.to, "%s: %s\n", p.what, strings.TrimSpace(line))
		return
	}
	full := int(part * progressWidth)
	fmt.Fprintf(p.to, "\r%s: [%s%s] %s\x1b[K", p.what, strings.Repeat("=", full), strings.Repeat(" ", progressWidth-full), line)
	if done == total {
		fmt.Fprintln(p.to)
	}
}
