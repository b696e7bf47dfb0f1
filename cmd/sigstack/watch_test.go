package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// Files are looked at at each tick and each signal. What fails is said and counted
// once, and tried again; what was in force stays until then.
func TestWatch(t *testing.T) {
	content, failure := sum([]byte("first")), error(nil)
	looks := 0
	now := time.Unix(1_800_000_000, 0)
	var lines bytes.Buffer
	registry := prometheus.NewPedanticRegistry()
	w := &watch{name: "test", now: func() time.Time { return now }, logger: slog.New(slog.NewTextHandler(&lines, nil))}
	w.take = func(_ context.Context, inForce digest) (digest, error) {
		looks++
		if failure != nil {
			return inForce, failure
		}
		return content, nil
	}
	failure = errors.New("not there")
	if err := startWatch(t.Context(), w, registry); !errors.Is(err, failure) {
		t.Fatalf("a start with what cannot be used: %v", err)
	}
	failure = nil
	if err := startWatch(t.Context(), w, registry); err != nil {
		t.Fatal(err)
	}

	// Whoever is asked second says that the first has ended.
	looked := make(chan struct{})
	second := &watch{name: "second", now: w.now, logger: w.logger, take: func(_ context.Context, inForce digest) (digest, error) {
		looked <- struct{}{}
		return inForce, nil
	}}
	second.current.Store(&taken{})
	ctx, stop := context.WithCancel(t.Context())
	tick, signals, done := make(chan time.Time), make(chan os.Signal), make(chan struct{})
	go func() { watchFiles(ctx, tick, signals, []*watch{w, second}); close(done) }()
	expect := func(what string, change func(), reloads, failures int, in string, at time.Time) {
		t.Helper()
		change()
		tick <- now
		<-looked
		signals <- syscall.SIGHUP
		<-looked
		want := fmt.Sprintf(`
# HELP sigstack_reload_failures_total Changes of files that could not be used.
# TYPE sigstack_reload_failures_total counter
sigstack_reload_failures_total{name="test"} %d
# HELP sigstack_reload_info The SHA-256 of the files that are in force.
# TYPE sigstack_reload_info gauge
sigstack_reload_info{name="test",sha256="%x"} 1
# HELP sigstack_reload_timestamp_seconds When what is in force was taken over, in seconds since 1970.
# TYPE sigstack_reload_timestamp_seconds gauge
sigstack_reload_timestamp_seconds{name="test"} %d
# HELP sigstack_reloads_total Changes of files that were taken over while the server ran.
# TYPE sigstack_reloads_total counter
sigstack_reloads_total{name="test"} %d
`, failures, sum([]byte(in)), at.Unix(), reloads)
		if err := testutil.GatherAndCompare(registry, strings.NewReader(want)); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	start := now
	expect("nothing new", func() {}, 0, 0, "first", start)
	if looks != 4 {
		t.Errorf("%d looks, want 2 at the start, one at a tick and one at a signal", looks)
	}
	expect("something new", func() { now = now.Add(time.Hour); content = sum([]byte("second")) }, 1, 0, "second", start.Add(time.Hour))
	expect("trouble", func() { now = now.Add(time.Hour); failure = errors.New("broken") }, 1, 1, "second", start.Add(time.Hour))
	expect("other trouble", func() { failure = errors.New("still broken") }, 1, 2, "second", start.Add(time.Hour))
	expect("good again, as it was", func() { failure = nil }, 1, 2, "second", start.Add(time.Hour))
	expect("the same trouble again", func() { failure = errors.New("still broken") }, 1, 3, "second", start.Add(time.Hour))
	expect("good again", func() { failure = nil; content = sum([]byte("third")) }, 2, 3, "third", start.Add(2*time.Hour))
	stop()
	<-done
	if n := strings.Count(lines.String(), "level=ERROR"); n != 3 {
		t.Errorf("%d errors were logged, want 3:\n%s", n, lines.String())
	}
}
