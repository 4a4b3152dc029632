package main

import (
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tierwall/tierwall/enforcer"
	"github.com/tierwall/tierwall/enforcer/backend"
	"github.com/tierwall/tierwall/enforcer/spoof"
)

// addGuard has dropped what pods send from link-local addresses and, unless any source is wanted, from addresses of
// others. What another backend left is removed once this one guards.
func addGuard(work *tasks, registry *prometheus.Registry, agent *enforcer.Enforcer, dropSpoofed bool, chosen backend.Choice, log *slog.Logger) {
	k := chosen.Sources
	if !dropSpoofed {
		k = k.WithAnySource()
	}
	g := spoof.New(k, log)
	g.Predecessors = chosen.OtherSources
	spoof.RegisterMetrics(registry)
	agent.Listeners = append(agent.Listeners, g)
	work.addTask(g.Start)
}
