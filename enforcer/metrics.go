package enforcer

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
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
	repairs = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "tierwall_enforcer_repairs_total",
		Help: "Times that rules of ours in the kernel were found changed by others, and mended.",
	})
	revoked = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "tierwall_enforcer_revoked_connections_total",
		Help: "Established connections that were cut because a change denied them, by protocol.",
	}, []string{"protocol"})
	endpoints = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "tierwall_enforcer_endpoints",
		Help: "Endpoints on the node that are subject to policy.",
	})
	sets = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "tierwall_enforcer_sets",
		Help: "Sets of addresses that the node's program refers to.",
	})
	problems = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "tierwall_enforcer_policy_problems",
		Help: "Fields of an object that could not be understood; what they would allow is denied.",
	}, []string{"kind", "namespace", "name"})
)

// RegisterMetrics makes the package's metrics known to a registry.
func RegisterMetrics(r prometheus.Registerer) {
	r.MustRegister(compileSeconds, applySeconds, repairs, revoked, endpoints, sets, problems)
}

// ObserveRevoked counts connections that were cut.
func ObserveRevoked(cut map[policy.Protocol]int) {
	for protocol, n := range cut {
		revoked.WithLabelValues(protocol.String()).Add(float64(n))
	}
}

func observe(e *compile.Engine, apply time.Duration, err error) {
	result := "ok"
	if err != nil {
		result = "error"
	}
	applySeconds.WithLabelValues(result).Observe(apply.Seconds())
	if err == nil {
		e, s := e.Size()
		endpoints.Set(float64(e))
		sets.Set(float64(s))
	}
}
