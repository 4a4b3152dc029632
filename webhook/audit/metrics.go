package audit

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
)

var (
	violations = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "tierwall_audit_violations",
		Help: "Violations of guardrails by what exists, by guardrail and enforcement. The replica that leads counts them.",
	}, []string{"guardrail", "enforcement"})
	duration = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "tierwall_audit_duration_seconds",
		Help: "How long the last audit took, its rests included.",
	})
	exemptMissing = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "tierwall_exempt_namespaces_missing",
		Help: "Exempt namespaces that do not exist. The replica that leads counts them.",
	})
	otherPolicies = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "tierwall_unenforced_policies",
		Help: "Network policies that other engines enforce and tierwall does not, by API group and kind. The replica that leads counts them.",
	}, []string{"group", "kind"})
	failures = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "tierwall_audit_failures_total",
		Help: "Audits that could not be finished, or whose results could not be written.",
	})
)

// RegisterMetrics adds the metrics of the audit to those that the manager serves.
func RegisterMetrics() error {
	return errors.Join(metrics.Registry.Register(violations), metrics.Registry.Register(duration), metrics.Registry.Register(failures),
		metrics.Registry.Register(exemptMissing), metrics.Registry.Register(otherPolicies))
}
