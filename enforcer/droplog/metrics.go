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

const (
	// maxNames is how many policies and namespaces are counted by name. Tenants choose names, and must not make as many
	// time series.
	maxNames = 500
	// maxNamesOfNamespace is how many of them are of one namespace, so that one tenant leaves names for the others.
	maxNamesOfNamespace = 50
)

// boundedNames are the policies and namespaces that are counted by name.
type boundedNames struct {
	known       map[string]bool
	ofNamespace map[string]int
}

func newBoundedNames() *boundedNames {
	return &boundedNames{known: map[string]bool{}, ofNamespace: map[string]int{}}
}

// label returns the label value for a name of a namespace, which is empty for what administrators name.
func (n *boundedNames) label(namespace, name string) string {
	if n.known[name] {
		return name
	}
	if len(n.known) >= maxNames || namespace != "" && n.ofNamespace[namespace] >= maxNamesOfNamespace {
		return "other"
	}
	n.known[name] = true
	n.ofNamespace[namespace]++
	return name
}

// countDenial counts a packet. One that no policy denied is counted by its tier, or by none if no tier decided.
func (n *boundedNames) countDenial(d denial) {
	switch d.kind {
	case auditedIngress, auditedEgress:
		n.countAudit(d)
		return
	case spoofed:
		spoofs.Inc()
		return
	}
	if !d.isExplained() {
		denials.WithLabelValues("unknown", "", "").Inc()
		return
	}
	policyName := ""
	if d.why.Rule.Name != "" {
		policyName = n.label(d.why.Rule.Namespace, d.why.Rule.Object())
	}
	denials.WithLabelValues(d.direction.String(), string(d.why.Tier), policyName).Inc()
}

func (n *boundedNames) countAudit(d denial) {
	if !d.isExplained() {
		audits.WithLabelValues("unknown", "").Inc()
		return
	}
	namespace, _, _ := strings.Cut(d.why.Endpoint, "/")
	audits.WithLabelValues(d.direction.String(), n.label(namespace, namespace)).Inc()
}
