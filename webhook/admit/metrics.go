package admit

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/tierwall/tierwall/rego"
)

// controller-runtime counts the requests, responses and durations (controller_runtime_webhook_*).
var violations = prometheus.NewCounterVec(prometheus.CounterOpts{
	Name: "tierwall_guardrail_violations_total",
	Help: "Violations of guardrails by policy changes, by guardrail and by what they did: deny, warn, or audit, which is nothing.",
}, []string{"guardrail", "enforcement"})

var missedViolations = prometheus.NewCounterVec(prometheus.CounterOpts{
	Name: "tierwall_guardrail_violations_missed_total",
	Help: "Violations by changes that several replicas admitted at once and that a guardrail denies together, by guardrail; Events and the log name the changes.",
}, []string{"guardrail"})

// RegisterMetrics adds this package's metrics to those that the manager serves.
func RegisterMetrics() error {
	return errors.Join(metrics.Registry.Register(violations), metrics.Registry.Register(missedViolations))
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
