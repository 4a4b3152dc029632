// Command agent is a node agent, all but its kernel, of the API server whose URL is its argument. It says
// what memory it takes and ends.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"time"

	"k8s.io/client-go/rest"

	"github.com/tierwall/tierwall/clustercache"
	"github.com/tierwall/tierwall/enforcer"
	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/test/bench/usage"
	"github.com/tierwall/tierwall/test/bench/workload"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "agent:", err)
		os.Exit(1) //nolint:gocritic // the signal handler need not be undone
	}
}

func run(ctx context.Context, url string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	start := time.Now()
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	defaults := policy.Defaults{Action: policy.Deny, Exempt: []string{"kube-system"}}
	watcher, err := clustercache.New(&rest.Config{Host: url}, defaults, log)
	if err != nil {
		return err
	}
	agent := &enforcer.Enforcer{Node: workload.Node(0), Defaults: defaults, Source: watcher, Backend: kernel{}, Log: log}
	ended := make(chan error, 2)
	go func() { ended <- watcher.Start(ctx) }()
	go func() { ended <- agent.Start(ctx) }()
	for !agent.InForce() {
		select {
		case err := <-ended:
			return errors.Join(errors.New("the agent ended"), err)
		case <-time.After(10 * time.Millisecond):
		}
	}
	u, err := usage.Measure(time.Since(start))
	if err != nil {
		return err
	}
	cancel()
	return errors.Join(json.NewEncoder(os.Stdout).Encode(u), <-ended, <-ended)
}

// kernel takes every program.
type kernel struct{}

func (kernel) Programmed() bool                             { return true }
func (kernel) Apply(context.Context, *policy.Program) error { return nil }
func (kernel) Update(context.Context, *policy.Change) error { return nil }
func (kernel) Repair(context.Context) (bool, error)         { return false, nil }
