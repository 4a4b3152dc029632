// Package enforcer keeps a node's kernel equal to the policies of the cluster:
// it waits for a change, compiles what concerns the node, and hands the program
// to a backend. What it cannot do now it tries again; what is in force stays.
package enforcer

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"k8s.io/client-go/util/workqueue"

	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
)

// Source tells the state of the cluster. cluster.Watcher is one.
type Source interface {
	WaitForSync(ctx context.Context) error
	Changed() <-chan struct{}
	Snapshot() *compile.Snapshot
}

// Backend puts programs in force in the kernel.
type Backend interface {
	// Programmed says whether a program of ours was in force when the backend started.
	Programmed() bool
	// Apply puts the program in force, without a moment in which a flow that
	// is denied before and after passes. After an error what was in force stays.
	Apply(ctx context.Context, p *policy.Program) error
	// Repair compares the kernel with the last program and mends it. It says
	// whether anything was amiss.
	Repair(ctx context.Context) (bool, error)
}

const (
	// repairEvery is how often the kernel is read again and compared.
	repairEvery = 5 * time.Second
	// retryMin and retryMax bound the wait after a failed apply.
	retryMin, retryMax = 100 * time.Millisecond, 10 * time.Second
)

// Enforcer is the node agent's loop.
type Enforcer struct {
	// Node is the name of the node that it enforces on.
	Node    string
	Source  Source
	Backend Backend
	Log     *slog.Logger
	// Boot reads the state to close the node with before the first sync. It is
	// asked only where no program is in force yet. Nil closes nothing.
	Boot func(context.Context) (*compile.Snapshot, error)

	inForce  atomic.Bool
	reported map[policy.Problem]bool
}

// InForce says whether the last program that was asked for is in force.
func (e *Enforcer) InForce() bool { return e.inForce.Load() }

// Start runs until ctx ends. The program stays in force after it.
func (e *Enforcer) Start(ctx context.Context) error {
	e.closeBeforeSync(ctx)
	if err := e.Source.WaitForSync(ctx); err != nil {
		return nil //nolint:nilerr // told to stop before the cluster answered: what is in force stays
	}
	e.Log.Info("in sync with the cluster")
	e.loop(ctx)
	return nil
}

// closeBeforeSync denies new connections of the node's pods on a node where
// nothing is in force yet, so that no pod is open until the policies are known.
func (e *Enforcer) closeBeforeSync(ctx context.Context) {
	if e.Backend.Programmed() {
		e.Log.Info("adopted the program that is in force; waiting for the cluster")
		return
	}
	if e.Boot == nil {
		return
	}
	boot, err := e.Boot(ctx)
	if err == nil {
		program, _ := compile.Compile(boot, e.Node)
		err = e.Backend.Apply(ctx, program)
	}
	if err != nil {
		e.Log.Error("could not close the node before the first sync", "err", err)
		return
	}
	e.Log.Info("closed the node's pod addresses; waiting for the cluster")
}

func (e *Enforcer) loop(ctx context.Context) {
	backoff := workqueue.NewTypedItemExponentialFailureRateLimiter[string](retryMin, retryMax)
	repair := time.NewTicker(repairEvery)
	defer repair.Stop()
	retry := time.NewTimer(0) // the first program
	defer retry.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return
		case <-e.Source.Changed():
			err = e.sync(ctx)
		case <-retry.C:
			err = e.sync(ctx)
		case <-repair.C:
			err = e.repair(ctx)
		}
		if err == nil {
			backoff.Forget(e.Node)
			continue
		}
		if ctx.Err() == nil {
			retry.Reset(backoff.When(e.Node))
		}
	}
}

// sync compiles the state now and puts it in force.
func (e *Enforcer) sync(ctx context.Context) error {
	start := time.Now()
	program, problems := compile.Compile(e.Source.Snapshot(), e.Node)
	compiled := time.Now()
	e.report(problems)
	err := e.Backend.Apply(ctx, program)
	e.inForce.Store(err == nil)
	observe(program, compiled.Sub(start), time.Since(compiled), err)
	if err != nil {
		e.Log.Error("could not put the program in force; the last one stays", "err", err)
		return err
	}
	e.Log.Debug("in force", "endpoints", len(program.Endpoints), "sets", len(program.Sets),
		"compile", compiled.Sub(start), "apply", time.Since(compiled))
	return nil
}

func (e *Enforcer) repair(ctx context.Context) error {
	mended, err := e.Backend.Repair(ctx)
	if err != nil {
		e.inForce.Store(false)
		e.Log.Error("could not compare the kernel with the program", "err", err)
		return err
	}
	if mended {
		repairs.Inc()
		e.Log.Warn("somebody changed our rules in the kernel; mended")
	}
	return nil
}

// report counts the problems, and logs each when it appears.
func (e *Enforcer) report(now []policy.Problem) {
	problems.Reset()
	seen := make(map[policy.Problem]bool, len(now))
	for _, p := range now {
		problems.WithLabelValues(p.ID.Kind, p.ID.Namespace, p.ID.Name).Inc()
		if seen[p] = true; !e.reported[p] {
			e.Log.Warn("not understood, and so denied", "object", p.ID.Object(), "field", p.ID.Field, "problem", p.Message)
		}
	}
	e.reported = seen
}
