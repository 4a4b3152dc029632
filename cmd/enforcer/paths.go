package main

import (
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tierwall/tierwall/enforcer"
	"github.com/tierwall/tierwall/enforcer/backend"
	"github.com/tierwall/tierwall/enforcer/pathcheck"
)

// addPathCheck has the agent look for ways to and from pods that its rules do not see.
func addPathCheck(work *tasks, registry *prometheus.Registry, agent *enforcer.Enforcer, chosen backend.Choice, record recordEvent, log *slog.Logger) *pathcheck.Checker {
	c := pathcheck.New(&pathcheck.Kernel{BeforeIPVS: chosen.BeforeIPVS}, log)
	c.Report = record.recordPath
	pathcheck.RegisterMetrics(registry)
	agent.Listeners = append(agent.Listeners, c)
	work.addTask(c.Start)
	return c
}
