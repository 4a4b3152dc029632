package enforcer

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tierwall/tierwall/policy"
)

var (
	compileSeconds = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "tierwall_enforcer_compile_seconds",
		Help:    "Time to compile what changes in the program of the node.",
		Buckets: prometheus.ExponentialBuckets(0.00001, 2, 20),
	})
	applySeconds = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "tierwall_enforcer_apply_seconds",
		Help:    "Time to put a program or its change in force in the kernel, by result.",
		Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16),
	}, []string{"result"})
	eventToEnforced = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "tierwall_enforcer_event_to_enforced_seconds",
		Help:    "Time from the arrival of a change from the API server to its rules being in force; of changes that come in force together, that of the oldest.",
		Buckets: prometheus.ExponentialBuckets(0.0005, 2, 18),
	})
	changes = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "tierwall_enforcer_changes_total",
		Help: "Endpoints, classes, sets and elements of sets that were written or removed because something changed in the cluster.",
	}, []string{"of"})
	repairs = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "tierwall_enforcer_repairs_total",
		Help: "Times that rules of ours in the kernel were found changed by others, and mended.",
	})
	revoked = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "tierwall_enforcer_revoked_connections_total",
		Help: "Established connections that were cut because a change denied them, by protocol.",
	}, []string{"protocol"})
	disputedPods = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "tierwall_enforcer_pods_with_rejected_addresses",
		Help: "Pods of the node, or of no existing node, whose status reports an address that is not theirs; the log has pods and addresses.",
	})
	problems = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "tierwall_enforcer_policy_problems",
		Help: "Fields of an object that could not be understood; what they would allow is denied. A few objects of each namespace are counted by name, the rest as other.",
	}, []string{"kind", "namespace", "name"})
)

// RegisterMetrics makes the package's metrics, and those of the agent's program, known to a registry.
func RegisterMetrics(r prometheus.Registerer, e *Enforcer) {
	r.MustRegister(compileSeconds, applySeconds, eventToEnforced, changes, repairs, revoked, disputedPods, problems)
	for _, g := range []struct {
		name, help string
		of         func(*policy.Program) int
	}{
		{"tierwall_enforcer_endpoints", "Endpoints on the node that are subject to policy.", func(p *policy.Program) int { return len(p.Endpoints) }},
		{"tierwall_enforcer_classes", "Classes of endpoints with equal rules, one for each direction.", countClasses},
		{"tierwall_enforcer_rules", "Rules of the program that is in force on the node.", countRules},
		{"tierwall_enforcer_sets", "Sets of addresses that the node's program refers to.", func(p *policy.Program) int { return len(p.Sets) }},
		{"tierwall_enforcer_set_elements", "Elements of these sets.", countElements},
	} {
		r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: g.name, Help: g.help}, func() float64 {
			if p := e.syncState.programInForce(); p != nil {
				return float64(g.of(p))
			}
			return 0
		}))
	}
	r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "tierwall_enforcer_in_force",
		Help: "1 where what the cluster asks for is in force on the node, else 0; as /readyz says.",
	}, func() float64 {
		if e.InForce() {
			return 1
		}
		return 0
	}))
}

func countClasses(p *policy.Program) int {
	return len(p.Classes[policy.Ingress]) + len(p.Classes[policy.Egress])
}

func countRules(p *policy.Program) int {
	n := 0
	for _, classes := range p.Classes {
		for _, c := range classes {
			for _, t := range c.Tiers {
				n += len(t.Rules)
			}
		}
	}
	return n
}

func countElements(p *policy.Program) int {
	n := 0
	for _, s := range p.Sets {
		n += len(s.Elements)
	}
	return n
}

// ObserveRevoked counts connections that were cut.
func ObserveRevoked(cut map[policy.Protocol]int) {
	for protocol, n := range cut {
		revoked.WithLabelValues(protocol.String()).Add(float64(n))
	}
}

func observeApply(took time.Duration, err error) {
	result := "ok"
	if err != nil {
		result = "error"
	}
	applySeconds.WithLabelValues(result).Observe(took.Seconds())
}

// observeChange counts what came in force, and how long that took since the oldest of it came.
func observeChange(c *policy.Change, since time.Time) {
	if !since.IsZero() {
		eventToEnforced.Observe(time.Since(since).Seconds())
	}
	elements := 0
	for _, s := range c.Sets {
		elements += len(s.Elements)
	}
	for _, m := range c.Members {
		elements += len(m.Added) + len(m.Removed)
	}
	for of, n := range map[string]int{
		"endpoints": len(c.Endpoints) + len(c.EndpointsGone),
		"classes": len(c.Classes[policy.Ingress]) + len(c.Classes[policy.Egress]) +
			len(c.ClassesGone[policy.Ingress]) + len(c.ClassesGone[policy.Egress]),
		"sets":     len(c.Sets) + len(c.SetsGone),
		"elements": elements,
	} {
		changes.WithLabelValues(of).Add(float64(n))
	}
}
