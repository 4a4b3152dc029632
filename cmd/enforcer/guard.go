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
// What another backend, or an agent that was asked for it, left is removed.
func addGuard(mgr manager.Manager, agent *enforcer.Enforcer, wanted bool, k spoof.Kernel, log *slog.Logger) error {
	g := spoof.New(k, log)
	if wanted {
		spoof.RegisterMetrics(metrics.Registry)
		agent.Listeners = append(agent.Listeners, g)
	} else {
		k = nil
	}
	return mgr.Add(manager.RunnableFunc(func(ctx context.Context) error {
		if err := spoof.Cleanup(ctx, k); err != nil {
			log.Warn("could not remove all rules about sources that an earlier agent left", "err", err)
		}
		if !wanted {
			return nil
		}
		return g.Start(ctx)
	}))
}
