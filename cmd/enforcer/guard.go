package main

import (
	"context"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tierwall/tierwall/enforcer"
	"github.com/tierwall/tierwall/enforcer/spoof"
)

// addGuard has dropped what pods send from addresses of others, where that is asked for.
// What another backend left is removed once this one guards, and what an agent that was asked for it left at once.
func addGuard(work *tasks, registry *prometheus.Registry, agent *enforcer.Enforcer, wanted bool, k spoof.Kernel, log *slog.Logger) {
	if !wanted {
		work.add(func(ctx context.Context) error {
			if err := spoof.Cleanup(ctx); err != nil {
				log.Warn("could not remove all rules about sources that an earlier agent left", "err", err)
			}
			return nil
		})
		return
	}
	g := spoof.New(k, log)
	g.Predecessors = spoof.Others(k)
	spoof.RegisterMetrics(registry)
	agent.Listeners = append(agent.Listeners, g)
	work.add(g.Start)
}
