package main

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
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

// observeLog registers the figures of one log and returns what it reports them to.
func observeLog(r prometheus.Registerer, name string) func(leaves int, took time.Duration, err error) {
	labels := prometheus.Labels{"name": name}
	leaves := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "sigstack_log_batch_leaves", Help: "Leaves of one batch.", ConstLabels: labels,
		Buckets: prometheus.ExponentialBuckets(1, 2, 11),
	})
	seconds := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "sigstack_log_batch_seconds", Help: "Time from taking a batch up to its answers.", ConstLabels: labels,
		Buckets: prometheus.ExponentialBuckets(0.00025, 2, 16),
	})
	failures := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "sigstack_log_batch_failures_total", Help: "Batches that were not committed, or whose outcome was unknown.", ConstLabels: labels,
	})
	r.MustRegister(leaves, seconds, failures)
	return func(n int, took time.Duration, err error) {
		leaves.Observe(float64(n))
		seconds.Observe(took.Seconds())
		if err != nil {
			failures.Inc()
		}
	}
}
