package agent

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tierwall/tierwall/enforcer/cni"
)

var waitSeconds = prometheus.NewHistogramVec(prometheus.HistogramOpts{
	Name:    "tierwall_enforcer_pod_wait_seconds",
	Help:    "Time that a new pod had to wait for its rules, before its first container started, by result.",
	Buckets: prometheus.ExponentialBuckets(0.001, 2, 15),
}, []string{"result"})

// RegisterMetrics makes the package's metrics known to a registry.
func RegisterMetrics(r prometheus.Registerer) { r.MustRegister(waitSeconds) }

func observeWait(verb cni.Verb, wait time.Duration, err error) {
	if verb != cni.Add {
		return
	}
	result := "ok"
	if err != nil {
		result = "error"
	}
	waitSeconds.WithLabelValues(result).Observe(wait.Seconds())
}
