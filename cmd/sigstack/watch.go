package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// lookInterval is how often the files are looked at that may change while the
// server runs. Whoever renews a certificate does so days before the old one
// expires.
const lookInterval = 10 * time.Second

// A digest is the SHA-256 of all files that something is made of. It is shown in
// metrics, so no secret goes into it.
type digest = [sha256.Size]byte

// A watch brings into force what is in files when it has become something else,
// by whatever name or link it came there. What cannot be used is not: what was
// in force stays, and metrics and log say so.
type watch struct {
	name   string // in metrics and in the log
	now    func() time.Time
	logger *slog.Logger

	// take reads the files. Where they hold something else than what is in
	// force, it checks all of it and only then takes it over. It returns the
	// digest of what is in force then, also with an error.
	take func(ctx context.Context, inForce digest) (digest, error)

	reloads, failures atomic.Int64
	current           atomic.Pointer[taken]
	failed            string // the last failure, which is said once
}

// taken is what is in force, and since when.
type taken struct {
	content digest
	at      time.Time
}

// startWatch takes over what the files hold at the start, which has to be usable.
func startWatch(ctx context.Context, w *watch, r prometheus.Registerer) error {
	content, err := w.take(ctx, digest{})
	if err != nil {
		return err
	}
	w.current.Store(&taken{content, w.now()})
	r.MustRegister(w)
	return nil
}

// look takes over what has become something else. What failed is tried again
// each time: the other half of it may not have been written yet.
func (w *watch) look(ctx context.Context) {
	before := w.current.Load().content
	content, err := w.take(ctx, before)
	if content != before {
		w.reloads.Add(1)
		w.current.Store(&taken{content, w.now()})
		w.logger.Info("taken over what changed", "name", w.name, "sha256", hex.EncodeToString(content[:]))
	}
	switch {
	case err == nil:
		w.failed = ""
	case err.Error() != w.failed && ctx.Err() == nil:
		w.failed = err.Error()
		w.failures.Add(1)
		w.logger.Error("what changed was not taken over; what was in force stays", "name", w.name, "err", err)
	}
}

// watchFiles looks at all files at each tick and each signal, until ctx is done.
func watchFiles(ctx context.Context, tick <-chan time.Time, signals <-chan os.Signal, all []*watch) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick:
		case <-signals:
		}
		for _, w := range all {
			w.look(ctx)
		}
	}
}

// The figures of a watch.
func (w *watch) descriptions() (reloads, failures, at, info *prometheus.Desc) {
	name := prometheus.Labels{"name": w.name}
	return prometheus.NewDesc("sigstack_reloads_total", "Changes of files that were taken over while the server ran.", nil, name),
		prometheus.NewDesc("sigstack_reload_failures_total", "Changes of files that could not be used.", nil, name),
		prometheus.NewDesc("sigstack_reload_timestamp_seconds", "When what is in force was taken over, in seconds since 1970.", nil, name),
		prometheus.NewDesc("sigstack_reload_info", "The SHA-256 of the files that are in force.", []string{"sha256"}, name)
}

// Describe implements prometheus.Collector.
func (w *watch) Describe(to chan<- *prometheus.Desc) {
	reloads, failures, at, info := w.descriptions()
	for _, d := range []*prometheus.Desc{reloads, failures, at, info} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (w *watch) Collect(to chan<- prometheus.Metric) {
	reloads, failures, at, info := w.descriptions()
	now := w.current.Load()
	to <- prometheus.MustNewConstMetric(reloads, prometheus.CounterValue, float64(w.reloads.Load()))
	to <- prometheus.MustNewConstMetric(failures, prometheus.CounterValue, float64(w.failures.Load()))
	to <- prometheus.MustNewConstMetric(at, prometheus.GaugeValue, float64(now.at.Unix()))
	to <- prometheus.MustNewConstMetric(info, prometheus.GaugeValue, 1, hex.EncodeToString(now.content[:]))
}

// sum adds the bytes of a file to a digest, so that two files in a row have one
// reading.
func sum(files ...[]byte) digest {
	h := sha256.New()
	for _, data := range files {
		one := sha256.Sum256(data)
		h.Write(one[:])
	}
	return digest(h.Sum(nil))
}
