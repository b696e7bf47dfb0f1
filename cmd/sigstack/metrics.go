package main

import (
	"errors"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/sigstack/sigstack/tlog"
	"github.com/sigstack/sigstack/tlog/events"
)

// newRegistry returns a registry with the figures of the process.
func newRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// gauge registers a gauge for one named thing: a log, a TUF role.
func gauge(r prometheus.Registerer, metric, help, name string, value func() float64) {
	r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: metric, Help: help, ConstLabels: prometheus.Labels{"name": name},
	}, value))
}

// logMetrics are the figures of one log.
type logMetrics struct {
	leaves, seconds prometheus.Histogram
	failures        prometheus.Counter
}

func observeLog(name string) *logMetrics {
	labels := prometheus.Labels{"name": name}
	return &logMetrics{
		leaves: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "sigstack_log_batch_leaves", Help: "Leaves of one batch.", ConstLabels: labels,
			Buckets: prometheus.ExponentialBuckets(1, 2, 11),
		}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "sigstack_log_batch_seconds", Help: "Time from taking a batch up to its answers.", ConstLabels: labels,
			Buckets: prometheus.ExponentialBuckets(0.00025, 2, 16),
		}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sigstack_log_batch_failures_total", Help: "Batches that were not committed, or whose outcome was unknown.", ConstLabels: labels,
		}),
	}
}

// batch reports how a batch went.
func (m *logMetrics) batch(n int, took time.Duration, err error) {
	m.leaves.Observe(float64(n))
	m.seconds.Observe(took.Seconds())
	if err != nil {
		m.failures.Inc()
	}
}

// Describe implements prometheus.Collector.
func (m *logMetrics) Describe(to chan<- *prometheus.Desc) {
	for _, c := range []prometheus.Collector{m.leaves, m.seconds, m.failures} {
		c.Describe(to)
	}
}

// Collect implements prometheus.Collector.
func (m *logMetrics) Collect(to chan<- prometheus.Metric) {
	for _, c := range []prometheus.Collector{m.leaves, m.seconds, m.failures} {
		c.Collect(to)
	}
}

// attestationTrouble returns what is told of attestations that could not be kept or
// read, or that are not what their entries say. The first two are an answer 503, whose
// cause is logged with it.
func attestationTrouble(r prometheus.Registerer, logger *slog.Logger) func(error) {
	failures := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "sigstack_rekor_attestation_failures_total",
		Help: "Attestations that could not be kept or read (unavailable), or are not what their entries say (corrupt).",
	}, []string{"reason"})
	unavailable, corrupt := failures.WithLabelValues("unavailable"), failures.WithLabelValues("corrupt")
	r.MustRegister(failures)
	return func(err error) {
		if errors.Is(err, tlog.ErrUnavailable) {
			unavailable.Inc()
			return
		}
		corrupt.Inc()
		logger.Error("attestation is not what its entry says", "err", err)
	}
}

// observeFollower registers the figures of the delivery of events to one sink.
func observeFollower(r prometheus.Registerer, sink string, f *events.Follower) {
	labels := prometheus.Labels{"name": sink}
	r.MustRegister(
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "sigstack_events_delivered_total", Help: "Entries that a sink has taken, each time that it has.", ConstLabels: labels,
		}, func() float64 { return float64(f.Delivered()) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "sigstack_events_failures_total", Help: "Attempts to deliver events to a sink that failed.", ConstLabels: labels,
		}, func() float64 { return float64(f.Failures()) }),
	)
	gauge(r, "sigstack_events_lag", "Entries that a sink does not have yet; 0 where another replica delivers.", sink, func() float64 { return float64(f.Lag()) })
	gauge(r, "sigstack_events_delivering", "1 in the replica that delivers to a sink.", sink, func() float64 {
		if f.Delivering() {
			return 1
		}
		return 0
	})
}

// keyMetrics are the figures of keys outside of this process, by the key's role.
type keyMetrics struct {
	seconds  *prometheus.HistogramVec
	failures *prometheus.CounterVec
}

func newKeyMetrics(r prometheus.Registerer) *keyMetrics {
	m := &keyMetrics{
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "sigstack_key_signature_seconds", Help: "Time for a signature by a key outside of this process, or for its failure.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 15),
		}, []string{"name"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sigstack_key_signature_failures_total", Help: "Signatures that a key store did not give, or not in time.",
		}, []string{"name"}),
	}
	r.MustRegister(m.seconds, m.failures)
	return m
}

// observe returns what the signatures of one key are reported to.
func (m *keyMetrics) observe(role string) func(took time.Duration, err error) {
	return func(took time.Duration, err error) {
		m.seconds.WithLabelValues(role).Observe(took.Seconds())
		if err != nil {
			m.failures.WithLabelValues(role).Inc()
		}
	}
}
