package controllers

import (
	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
)

var notUnderstood = prometheus.NewGaugeVec(prometheus.GaugeOpts{
	Name: "tierwall_policies_not_understood",
	Help: "Policies of which something is not understood, and so fails closed, by kind. The replica that leads counts them.",
}, []string{"kind"})

// RegisterMetrics adds the metrics of the loop to those that the manager serves.
func RegisterMetrics() error { return metrics.Registry.Register(notUnderstood) }
