package guardrails

import (
	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
)

var guardrailsByState = prometheus.NewGaugeVec(prometheus.GaugeOpts{
	Name: "tierwall_guardrails",
	Help: "Guardrails by state: active, outdated (the last good version is in force) or broken (changes in its namespaces are refused).",
}, []string{"state"})

// RegisterMetrics adds this package's metrics to those that the manager serves.
func RegisterMetrics() error { return metrics.Registry.Register(guardrailsByState) }

func recordStates(g *loadedGuardrails) {
	var active, outdated, broken float64
	for _, s := range g.states {
		switch {
		case s.Err == nil:
			active++
		case s.InForce != 0:
			outdated++
		default:
			broken++
		}
	}
	guardrailsByState.WithLabelValues("active").Set(active)
	guardrailsByState.WithLabelValues("outdated").Set(outdated)
	guardrailsByState.WithLabelValues("broken").Set(broken)
}
