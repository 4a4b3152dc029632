package droplog

import "github.com/prometheus/client_golang/prometheus"

var (
	denials = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "tierwall_enforcer_denials_total",
		Help: "Denied first packets that were logged, by direction, tier and policy. The kernel hands over a limited number a second.",
	}, []string{"direction", "tier", "policy"})
	lost = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "tierwall_enforcer_denials_lost_total",
		Help: "Times that denied packets were not logged, because the kernel's buffer or the agent's queue was full.",
	}, []string{"where"})
)

// RegisterMetrics makes the package's metrics known to a registry.
func RegisterMetrics(r prometheus.Registerer) { r.MustRegister(denials, lost) }

// maxPolicies is how many policies are counted by name; whoever may make policies
// must not be able to make as many time series.
const maxPolicies = 500

// names are the policies that are counted by name.
type names map[string]bool

// of is the name to count a policy by.
func (n names) of(policyName string) string {
	if n[policyName] {
		return policyName
	}
	if len(n) >= maxPolicies {
		return "other"
	}
	n[policyName] = true
	return policyName
}

// count counts a denial. What no policy denied is counted by its tier, or by none
// if no tier was asked.
func (n names) count(d denial) {
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
