package main

import (
	"context"
	"log/slog"

	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/tierwall/tierwall/enforcer"
	"github.com/tierwall/tierwall/enforcer/spoof"
)

// addGuard has dropped what pods send from addresses of others, where that is asked for.
// What another backend left is removed once this one guards, and what an agent that was asked for it left at once.
func addGuard(mgr manager.Manager, agent *enforcer.Enforcer, wanted bool, k spoof.Kernel, log *slog.Logger) error {
	if !wanted {
		return mgr.Add(manager.RunnableFunc(func(ctx context.Context) error {
			if err := spoof.Cleanup(ctx); err != nil {
				log.Warn("could not remove all rules about sources that an earlier agent left", "err", err)
			}
			return nil
		}))
	}
	g := spoof.New(k, log)
	g.Predecessors = spoof.Others(k)
	spoof.RegisterMetrics(metrics.Registry)
	agent.Listeners = append(agent.Listeners, g)
	return mgr.Add(g)
}
