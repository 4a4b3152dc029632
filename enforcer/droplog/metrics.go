package droplog

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

var (
	denials = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "tierwall_enforcer_denials_total",
		Help: "Denied first packets that were logged, by direction, tier and policy. The kernel hands over a limited number a second.",
	}, []string{"direction", "tier", "policy"})
	audits = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "tierwall_enforcer_audits_total",
		Help: "First packets that the default action Audit let pass and that were logged, by direction and by namespace of the pod that no policy decides for. The kernel hands over a limited number a second.",
	}, []string{"direction", "namespace"})
	spoofs = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "tierwall_enforcer_spoofed_total",
		Help: "Packets of pods with a source address that is not the pod's own, which were dropped and logged. The kernel hands over a limited number a second.",
	})
	lost = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "tierwall_enforcer_denials_lost_total",
		Help: "Times that denied or audited packets were not logged, because the kernel's buffer or the agent's queue was full.",
	}, []string{"where"})
)

// RegisterMetrics makes the package's metrics known to a registry.
func RegisterMetrics(r prometheus.Registerer) { r.MustRegister(denials, audits, spoofs, lost) }

// maxNames is how many policies and namespaces are counted by name; whoever may make
// them must not be able to make as many time series.
const maxNames = 500

// names are the policies and namespaces that are counted by name.
type names map[string]bool

// of is the name to count a policy or a namespace by.
func (n names) of(name string) string {
	if n[name] {
		return name
	}
	if len(n) >= maxNames {
		return "other"
	}
	n[name] = true
	return name
}

// count counts a packet. What no policy denied is counted by its tier, or by none
// if no tier was asked.
func (n names) count(d denial) {
	switch d.way {
	case auditedIngress, auditedEgress:
		n.countAudit(d)
		return
	case spoofed:
		spoofs.Inc()
		return
	}
	if !d.explained() {
		denials.WithLabelValues("unknown", "", "").Inc()
		return
	}
	policyName := ""
	if d.why.Rule.Name != "" {
		policyName = n.of(d.why.Rule.Object())
	}
	denials.WithLabelValues(d.direction.String(), string(d.why.Tier), policyName).Inc()
}

func (n names) countAudit(d denial) {
	if !d.explained() {
		audits.WithLabelValues("unknown", "").Inc()
		return
	}
	namespace, _, _ := strings.Cut(d.why.Endpoint, "/")
	audits.WithLabelValues(d.direction.String(), n.of(namespace)).Inc()
}
