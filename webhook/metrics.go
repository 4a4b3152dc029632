package webhook

import (
	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/tierwall/tierwall/rego"
)

// The API server's requests themselves, their answers and their duration, are
// counted by controller-runtime (controller_runtime_webhook_*).
var (
	violations = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "tierwall_guardrail_violations_total",
		Help: "Violations of guardrails by policy changes, by guardrail and by what they did: deny, warn, or audit, which is nothing.",
	}, []string{"guardrail", "enforcement"})
	guardrailsByState = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "tierwall_guardrails",
		Help: "Guardrails by state: active, outdated (the last good version is in force) or broken (changes in its namespaces are refused).",
	}, []string{"state"})
)

// RegisterMetrics adds the webhook's metrics to those that the manager serves.
func RegisterMetrics() error {
	for _, c := range []prometheus.Collector{violations, guardrailsByState} {
		if err := metrics.Registry.Register(c); err != nil {
			return err
		}
	}
	return nil
}

func recordViolations(r rego.Result) {
	for _, v := range r.Denials {
		violations.WithLabelValues(v.Guardrail, "deny").Inc()
	}
	for _, v := range r.Warnings {
		violations.WithLabelValues(v.Guardrail, "warn").Inc()
	}
	for _, v := range r.Audited {
		violations.WithLabelValues(v.Guardrail, "audit").Inc()
	}
}
