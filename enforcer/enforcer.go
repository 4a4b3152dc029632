// Package enforcer keeps a node's kernel equal to the policies of the cluster: it waits for a change, compiles what the
// change means for the node, and hands that to a backend. It retries what fails; what is in force stays.
package enforcer

import (
	"context"
	"log/slog"
	"runtime/debug"
	"sync/atomic"
	"time"

	"k8s.io/client-go/util/workqueue"

	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
)

// Source provides the changes of the cluster. clustercache.Watcher implements it.
type Source interface {
	WaitForSync(ctx context.Context) error
	// Changed receives after a change. Several changes may come as one.
	Changed() <-chan struct{}
	// Take returns what changed since the last call, and everything at the first.
	Take() *compile.Update
}

// Dated is a Source that knows when changes came.
type Dated interface {
	// Since returns when the oldest of the changes that Take returned last came; zero if it returned none.
	Since() time.Time
}

// Backend puts programs in force in the kernel.
type Backend interface {
	// Programmed reports whether one of our programs was in force when the backend started.
	Programmed() bool
	// Apply puts the program in force. A flow that is denied before and after is denied throughout. After an error, what
	// was in force stays.
	Apply(ctx context.Context, p *policy.Program) error
	// Repair compares the kernel with the last program and repairs it. It reports whether anything differed.
	Repair(ctx context.Context) (bool, error)
}

// Predecessor is another kind of backend that enforced on the node before.
type Predecessor interface {
	// Programmed reports whether one of our programs is in force there.
	Programmed() bool
	// Cleanup removes everything of ours there.
	Cleanup(ctx context.Context) error
}

// Revoker cuts connections that a program denies. revoke.Revoker implements it.
type Revoker interface {
	// Commit puts a program in force by calling apply, and schedules the cutting of the connections that it denies. The
	// change is from the program of the last Commit; nil if it is unknown.
	Commit(p *policy.Program, c *policy.Change, apply func() error) error
	// Recheck schedules the evaluation of every connection.
	Recheck()
}

// Listener follows the program that is in force. droplog.Log, which explains denied packets, and spoof.Guard, which guards
// the pods' interfaces, implement it.
type Listener interface {
	// Use switches to the program without blocking.
	Use(p *policy.Program)
}

// Updater is a Backend that can apply a change of a program without processing the whole.
type Updater interface {
	Backend
	// Update applies a change of the program of the last successful Apply or Update. After an error it is unknown what is
	// in force; the whole program is applied then.
	Update(ctx context.Context, c *policy.Change) error
}

const (
	// burstTime is how long changes are collected after one was put in force at once.
	burstTime = 5 * time.Millisecond
	// repairEvery is the interval between comparisons of the kernel with the program.
	repairEvery = 5 * time.Second
	// retryMin and retryMax bound the wait after a failed apply.
	retryMin, retryMax = 100 * time.Millisecond, 10 * time.Second
	// stuckAfter is longer than one turn of the loop takes if every tool that it runs takes as long as it may.
	stuckAfter = 5 * time.Minute
)

// Enforcer is the node agent's loop.
type Enforcer struct {
	// Node is the name of the node that it enforces on.
	Node string
	// Defaults are the default actions of the cluster.
	Defaults policy.Defaults
	Source   Source
	Backend  Backend
	Log      *slog.Logger
	// Predecessor is cleaned up once a program is in force. Until then its rules stay, so that the node is never open. It
	// may be nil.
	Predecessor Predecessor
	// Revoker gets every program except the one that closes a node at its boot. If it is nil, established connections stay,
	// whatever changes.
	Revoker Revoker
	// Listeners get every program that came into force.
	Listeners []Listener
	// Mended is called after rules that others changed were repaired. It may be nil.
	Mended func()
	// Boot reads the state to close the node with before the first sync. It is called only if no program is in force yet.
	// If it is nil, nothing is closed.
	Boot func(context.Context) (*compile.Snapshot, error)

	inForce   atomic.Bool
	lastTurn  atomic.Pointer[time.Time] // of the loop, by the monotonic clock; nil before the first
	problems  problemReporter
	engine    *compile.Engine
	pacer     pacer
	syncState syncState
	// since is when the oldest change that is not in force yet came; zero if there is none.
	since time.Time
	// current is true if program, that of the engine's last commit, is in force.
	current bool
	program *policy.Program
}

// InForce reports whether the last requested program is in force.
func (e *Enforcer) InForce() bool { return e.inForce.Load() }

// Stuck returns how long the loop has made no progress, if that is longer than any of its work takes; else zero.
func (e *Enforcer) Stuck() time.Duration {
	last := e.lastTurn.Load()
	if last == nil {
		return 0
	}
	if still := time.Since(*last); still > stuckAfter {
		return still
	}
	return 0
}

// Start runs until ctx ends. The program stays in force after it.
func (e *Enforcer) Start(ctx context.Context) error {
	e.closeBeforeSync(ctx)
	if err := e.Source.WaitForSync(ctx); err != nil {
		return nil //nolint:nilerr // stopped before the first sync: what is in force stays
	}
	e.Log.Info("in sync with the cluster")
	e.loadAll()
	e.runLoop(ctx)
	return nil
}

// closeBeforeSync denies new connections of the node's pods if nothing is in force yet, so that no pod is open until the
// policies are known. It returns when that is done, or when the cluster is in sync.
func (e *Enforcer) closeBeforeSync(ctx context.Context) {
	if e.Backend.Programmed() || e.Predecessor != nil && e.Predecessor.Programmed() {
		e.Log.Info("adopted the program that is in force; waiting for the cluster")
		return
	}
	for e.Boot != nil {
		err := e.closeNode(ctx)
		if err == nil {
			return
		}
		e.Log.Error("closing the node before the first sync failed; retrying", "err", err)
		wait, cancel := context.WithTimeout(ctx, retryMin)
		synced := e.Source.WaitForSync(wait) == nil
		cancel()
		if synced || ctx.Err() != nil {
			return
		}
	}
}

func (e *Enforcer) closeNode(ctx context.Context) error {
	boot, err := e.Boot(ctx)
	if err != nil {
		return err
	}
	program, _ := compile.Compile(boot, e.Node)
	if len(program.Local) == 0 {
		e.Log.Warn("the node has no podCIDRs: a pod is open until the API server shows its address", "node", e.Node)
		return nil
	}
	if err := e.Backend.Apply(ctx, program); err != nil {
		return err
	}
	e.Log.Info("closed the node's pod addresses; waiting for the cluster", "podCIDRs", program.Local)
	return nil
}

func (e *Enforcer) runLoop(ctx context.Context) {
	backoff := workqueue.NewTypedItemExponentialFailureRateLimiter[string](retryMin, retryMax)
	repair := time.NewTicker(repairEvery)
	defer repair.Stop()
	again := time.NewTimer(0) // the first program
	defer again.Stop()
	for {
		var idle bool
		var err error
		now := time.Now()
		e.lastTurn.Store(&now)
		select {
		case <-ctx.Done():
			return
		case <-e.Source.Changed():
			idle, err = e.applyChange(ctx)
		case <-e.syncState.wakeups():
			idle, err = e.applyChange(ctx)
		case <-e.pauseEnd():
			idle, err = e.applyChange(ctx)
		case <-again.C:
			err = e.retryProgram(ctx)
		case <-repair.C:
			if !e.InForce() {
				continue // a retry is due
			}
			err = e.repairKernel(ctx)
		}
		e.reportDueProblems()
		if idle {
			continue // it does not show whether the kernel accepts anything
		}
		if err == nil {
			backoff.Forget(e.Node)
			continue
		}
		if ctx.Err() == nil {
			again.Reset(backoff.When(e.Node))
		}
	}
}

// retryProgram puts the whole program in force, with what changed in the cluster.
func (e *Enforcer) retryProgram(ctx context.Context) error {
	start := time.Now()
	err := e.enforceChange(ctx, e.compileChange())
	e.pacer.chargeTenants(time.Since(start), time.Now())
	return err
}

// applyChange puts in force what changed in the cluster; it is idle if nothing changes on this node.
func (e *Enforcer) applyChange(ctx context.Context) (idle bool, err error) {
	start := time.Now()
	change := e.compileChange()
	if change.Empty() {
		e.pacer.chargeTenants(time.Since(start), time.Now())
		if e.current {
			e.since = time.Time{}
			e.syncState.markEnforced(e.program)
		}
		return true, nil
	}
	err = e.enforceChange(ctx, change)
	e.pacer.chargeTenants(time.Since(start), time.Now())
	e.reportDueProblems()
	gatherChanges(ctx)
	return false, err
}

// pauseEnd returns a channel that receives when policies that were held back may go on, or nil if none are held.
func (e *Enforcer) pauseEnd() <-chan time.Time {
	wait, held := e.pacer.nextRelease(time.Now())
	if !held {
		return nil
	}
	return time.After(wait)
}

// gatherChanges waits while more changes come.
func gatherChanges(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(burstTime):
	}
}

// podsAtOnce is how many pods one commit loads at the start. The temporary memory of a commit is proportional to it.
const podsAtOnce = 4096

// loadAll commits everything that exists; the whole program will be applied. Pods come last, since they are most of it,
// and the update of the rest can be freed by then.
func (e *Enforcer) loadAll() {
	e.engine = compile.NewEngine(e.Node, e.Defaults)
	all := e.Source.Take()
	e.pacer.admitAll(all)
	pods := all.Pods
	all.Pods = nil
	e.engine.Commit(all)
	e.reportProblems()
	var some compile.Update
	for key, p := range pods {
		if some.Pods.Set(key, p); len(some.Pods) == podsAtOnce {
			e.engine.Commit(&some)
			some.Pods = nil
		}
	}
	e.engine.Commit(&some)
	e.engine.Throttle(&e.pacer)
	e.reportAddresses()
}

// compileChange commits what changed in the cluster, and returns what that changes on the node.
func (e *Enforcer) compileChange() *policy.Change {
	e.syncState.markTaken()
	update := e.Source.Take()
	e.pacer.admitChanges(update, time.Now())
	if dated, ok := e.Source.(Dated); ok && e.since.IsZero() {
		e.since = dated.Since()
	}
	start := time.Now()
	change := e.engine.Commit(update)
	compileSeconds.Observe(time.Since(start).Seconds())
	if len(update.NetworkPolicies)+len(update.ClusterNetworkPolicies) > 0 {
		e.problems.due = true
	}
	if e.engine.AddressProblemsChanged() {
		e.reportAddresses()
	}
	return change
}

// enforceChange puts the change in force, with what an earlier attempt failed to.
func (e *Enforcer) enforceChange(ctx context.Context, c *policy.Change) error {
	if e.current && c.Empty() {
		e.syncState.markEnforced(e.program)
		return nil
	}
	start := time.Now()
	err := e.applyProgram(ctx, c)
	observeApply(time.Since(start), err)
	if err == nil && !e.current {
		debug.FreeOSMemory() // the memory of the first list is not needed again
	}
	e.current = err == nil
	e.inForce.Store(err == nil)
	if err != nil {
		e.Log.Error("putting the program in force failed; the last one stays", "err", err)
		return err
	}
	for _, l := range e.Listeners {
		l.Use(e.program)
	}
	if e.refusalsChanged() {
		e.problems.due = true
	}
	e.syncState.markEnforced(e.program)
	observeChange(c, e.since)
	e.since = time.Time{}
	e.cleanUpPredecessor(ctx)
	e.Log.Debug("in force", "endpoints", len(c.Endpoints), "sets", len(c.Sets), "changedSets", len(c.Members), "took", time.Since(start))
	return nil
}

// cleanUpPredecessor removes what another backend left. If that fails, it is tried again with the next change or
// comparison: stale rules only deny.
func (e *Enforcer) cleanUpPredecessor(ctx context.Context) {
	if e.Predecessor == nil {
		return
	}
	if err := e.Predecessor.Cleanup(ctx); err != nil {
		e.Log.Warn("removing what another backend left failed; retrying", "err", err)
		return
	}
	e.Predecessor = nil
}

// applyProgram passes the change to the backend, or the whole program if the change does not suffice, and schedules the
// cutting of the connections that it denies.
func (e *Enforcer) applyProgram(ctx context.Context, c *policy.Change) error {
	if e.current {
		e.program = e.program.With(c)
	} else {
		e.program, c = e.engine.Program(), nil
	}
	put := func() error {
		if backend, ok := e.Backend.(Updater); ok && c != nil {
			return backend.Update(ctx, c)
		}
		return e.Backend.Apply(ctx, e.program)
	}
	if e.Revoker == nil {
		return put()
	}
	return e.Revoker.Commit(e.program, c, put)
}

func (e *Enforcer) repairKernel(ctx context.Context) error {
	e.cleanUpPredecessor(ctx)
	mended, err := e.Backend.Repair(ctx)
	if err != nil {
		e.current = false
		e.inForce.Store(false)
		e.Log.Error("comparing the kernel with the program failed", "err", err)
		return err
	}
	if mended {
		repairs.Inc()
		if e.Mended != nil {
			e.Mended()
		}
		if e.Revoker != nil {
			e.Revoker.Recheck()
		}
		e.Log.Warn("others changed our rules in the kernel; repaired")
	}
	return nil
}
