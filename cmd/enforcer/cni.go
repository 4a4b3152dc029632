package main

import (
	"log/slog"

	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/tierwall/tierwall/cluster"
	"github.com/tierwall/tierwall/enforcer"
	"github.com/tierwall/tierwall/enforcer/cni/agent"
)

// addCNI has the node's CNI plugin answered, where it is installed: new pods wait for their rules.
func addCNI(mgr manager.Manager, e *enforcer.Enforcer, socket string, log *slog.Logger) error {
	if socket == "" {
		return nil
	}
	agent.RegisterMetrics(metrics.Registry)
	return mgr.Add(&agent.Server{Socket: socket, Node: e.Node, Cluster: e.Source.(*cluster.Watcher), Loop: e, Log: log})
}
