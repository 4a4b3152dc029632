package bundle

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
)

var (
	revision = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "tierwall_bundle_revision",
		Help: "Revision of the bundle of guardrails in force; 0 is none.",
	})
	failures = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "tierwall_bundle_failures_total",
		Help: "Polls of the bundle of guardrails that failed; the last good bundle stays in force.",
	})
	success = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "tierwall_bundle_last_success_timestamp_seconds",
		Help: "When the bundle of guardrails was found to be the newest, in seconds since 1970.",
	})
)

// RegisterMetrics adds the metrics of the bundle to those that the manager serves.
func RegisterMetrics() error {
	return errors.Join(metrics.Registry.Register(revision), metrics.Registry.Register(failures), metrics.Registry.Register(success))
}
