package main

import (
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tierwall/tierwall/clustercache"
	"github.com/tierwall/tierwall/enforcer"
	"github.com/tierwall/tierwall/enforcer/cni/agent"
)

// addCNI has the node's CNI plugin answered, where it is installed: new pods wait for their rules.
func addCNI(work *tasks, registry *prometheus.Registry, e *enforcer.Enforcer, socket string, log *slog.Logger) {
	if socket == "" {
		return
	}
	agent.RegisterMetrics(registry)
	server := &agent.Server{Socket: socket, Node: e.Node, Cluster: e.Source.(*clustercache.Watcher), Loop: e, Log: log}
	work.addTask(server.Start)
}
