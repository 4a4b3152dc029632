package spoof

import "github.com/prometheus/client_golang/prometheus"

var guardedInterfaces = prometheus.NewGauge(prometheus.GaugeOpts{
	Name: "tierwall_enforcer_guarded_interfaces",
	Help: "Interfaces of pods at which packets from other addresses than their own are dropped.",
})

// RegisterMetrics makes the package's metrics known to a registry.
func RegisterMetrics(r prometheus.Registerer) { r.MustRegister(guardedInterfaces) }
