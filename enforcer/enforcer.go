// Package enforcer keeps a node's kernel equal to the policies of the cluster:
// it waits for a change, compiles what the change means for the node, and hands that to a
// backend. What it cannot do now it tries again; what is in force stays.
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

// Source tells what happens in the cluster. cluster.Watcher is one.
type Source interface {
	WaitForSync(ctx context.Context) error
	// Changed receives after something changed. Several changes may be told as one.
	Changed() <-chan struct{}
	// Take is what changed since it was called last, and the first time everything.
	Take() *compile.Update
}

// Dated is a Source that says when what it tells came.
type Dated interface {
	// Since is when the oldest came of the changes that Take gave last; zero where it gave none.
	Since() time.Time
}

// Backend puts programs in force in the kernel.
type Backend interface {
	// Programmed reports whether a program of ours was in force when the backend started.
	Programmed() bool
	// Apply puts the program in force, without a moment in which a flow that
	// is denied before and after passes. After an error what was in force stays.
	Apply(ctx context.Context, p *policy.Program) error
	// Repair compares the kernel with the last program and mends it. It says
	// whether anything was amiss.
	Repair(ctx context.Context) (bool, error)
}

// Predecessor is what enforced on the node before, another kind of backend.
type Predecessor interface {
	// Programmed reports whether a program of ours is in force there.
	Programmed() bool
	// Cleanup removes all that is ours there.
	Cleanup(ctx context.Context) error
}

// Revoker cuts connections that a program denies. revoke.Revoker is one.
type Revoker interface {
	// Commit puts a program in force by apply, and has the connections cut that it denies.
	// The change is from the program of the Commit before; nil where that is not known.
	Commit(p *policy.Program, c *policy.Change, apply func() error) error
	// Recheck has every connection judged again.
	Recheck()
}

// Listener goes by the program that is in force. droplog.Log, which explains denied
// packets by it, and spoof.Guard, which guards its pods' interfaces, are some.
type Listener interface {
	// Use goes by the program from now on, and does not wait.
	Use(p *policy.Program)
}

// Updater is a Backend that can put in force what changed of a program, without
// looking at the whole.
type Updater interface {
	Backend
	// Update brings the program of the last successful Apply or Update to what the change
	// makes of it, as Apply would. After an error what is in force is not known; the whole
	// program is applied then.
	Update(ctx context.Context, c *policy.Change) error
}

const (
	// burst is how long changes are gathered after one was put in force at once.
	burst = 5 * time.Millisecond
	// repairEvery is how often the kernel is read again and compared.
	repairEvery = 5 * time.Second
	// retryMin and retryMax bound the wait after a failed apply.
	retryMin, retryMax = 100 * time.Millisecond, 10 * time.Second
	// stuckAfter is longer than the loop needs for one turn, with every program
	// that it starts taking as long as it may.
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
	// Predecessor is cleaned up once a program is in force; until then what it left
	// stays, so that the node is open at no moment. It may be nil.
	Predecessor Predecessor
	// Revoker is told of every program but that which closes a node at its boot. With nil
	// connections that are established stay, whatever changes.
	Revoker Revoker
	// Listeners are told of every program that came into force.
	Listeners []Listener
	// Mended is told when rules were mended that somebody else had changed; it may be nil.
	Mended func()
	// Boot reads the state to close the node with before the first sync. It is
	// asked only where no program is in force yet. Nil closes nothing.
	Boot func(context.Context) (*compile.Snapshot, error)

	inForce  atomic.Bool
	lastTurn atomic.Pointer[time.Time] // of the loop, by a clock that no step changes; nil before the first
	problems problemReporter
	engine   *compile.Engine
	pacer    pacer
	standing standing
	// since is when the oldest change came that is not in force yet; zero where there is none.
	since time.Time
	// current says that what is in force is program, the engine's of the commit before the next.
	current bool
	program *policy.Program
}

// InForce reports whether the last program that was asked for is in force.
func (e *Enforcer) InForce() bool { return e.inForce.Load() }

// Stuck says for how long the loop has stood still, if that is longer than any
// work of it takes; else it is zero.
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
		return nil //nolint:nilerr // told to stop before the cluster answered: what is in force stays
	}
	e.Log.Info("in sync with the cluster")
	e.learn()
	e.loop(ctx)
	return nil
}

// closeBeforeSync denies new connections of the node's pods on a node where
// nothing is in force yet, so that no pod is open until the policies are known.
// It ends when that is done, or when the cluster is in sync.
func (e *Enforcer) closeBeforeSync(ctx context.Context) {
	if e.Backend.Programmed() || e.Predecessor != nil && e.Predecessor.Programmed() {
		e.Log.Info("adopted the program that is in force; waiting for the cluster")
		return
	}
	for e.Boot != nil {
		err := e.close(ctx)
		if err == nil {
			return
		}
		e.Log.Error("could not close the node before the first sync; trying again", "err", err)
		wait, cancel := context.WithTimeout(ctx, retryMin)
		synced := e.Source.WaitForSync(wait) == nil
		cancel()
		if synced || ctx.Err() != nil {
			return
		}
	}
}

func (e *Enforcer) close(ctx context.Context) error {
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

func (e *Enforcer) loop(ctx context.Context) {
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
			idle, err = e.follow(ctx)
		case <-e.standing.woken():
			idle, err = e.follow(ctx)
		case <-e.paused():
			idle, err = e.follow(ctx)
		case <-again.C:
			err = e.retry(ctx)
		case <-repair.C:
			if !e.InForce() {
				continue // a retry is on its way
			}
			err = e.repair(ctx)
		}
		e.reportDueProblems()
		if idle {
			continue // whether the kernel takes anything is not known by it
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

// retry puts in force the whole program, with what changed in the cluster.
func (e *Enforcer) retry(ctx context.Context) error {
	start := time.Now()
	err := e.enforce(ctx, e.compile())
	e.pacer.charge(time.Since(start), time.Now())
	return err
}

// follow puts in force what changed in the cluster; it is idle where that is nothing on this node.
func (e *Enforcer) follow(ctx context.Context) (idle bool, err error) {
	start := time.Now()
	change := e.compile()
	if change.Empty() {
		e.pacer.charge(time.Since(start), time.Now())
		if e.current {
			e.since = time.Time{}
			e.standing.enforce(e.program)
		}
		return true, nil
	}
	err = e.enforce(ctx, change)
	e.pacer.charge(time.Since(start), time.Now())
	e.reportDueProblems()
	gather(ctx)
	return false, err
}

// paused receives when policies that were held back may go on. Nothing held gives no channel.
func (e *Enforcer) paused() <-chan time.Time {
	wait, held := e.pacer.next(time.Now())
	if !held {
		return nil
	}
	return time.After(wait)
}

// gather lets more changes come together.
func gather(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(burst):
	}
}

// podsAtOnce is how many pods are taken in at once in the beginning: what a commit needs for a while is in
// proportion to it.
const podsAtOnce = 4096

// learn takes in all that there is; the whole program will be applied. The pods come last: they are most of it, and the
// rest need not be held as it came by then.
func (e *Enforcer) learn() {
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

// compile takes in what changed in the cluster, and gives what that changes on the node.
func (e *Enforcer) compile() *policy.Change {
	e.standing.take()
	update := e.Source.Take()
	e.pacer.admit(update, time.Now())
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

// enforce puts the change in force. What an earlier attempt failed with is put in force with it.
func (e *Enforcer) enforce(ctx context.Context, c *policy.Change) error {
	if e.current && c.Empty() {
		e.standing.enforce(e.program)
		return nil
	}
	start := time.Now()
	err := e.apply(ctx, c)
	observeApply(time.Since(start), err)
	if err == nil && !e.current {
		debug.FreeOSMemory() // what the first list of everything took is not needed again
	}
	e.current = err == nil
	e.inForce.Store(err == nil)
	if err != nil {
		e.Log.Error("could not put the program in force; the last one stays", "err", err)
		return err
	}
	for _, l := range e.Listeners {
		l.Use(e.program)
	}
	if e.refusalsChanged() {
		e.problems.due = true
	}
	e.standing.enforce(e.program)
	observeChange(c, e.since)
	e.since = time.Time{}
	e.succeed(ctx)
	e.Log.Debug("in force", "endpoints", len(c.Endpoints), "sets", len(c.Sets), "changedSets", len(c.Members), "took", time.Since(start))
	return nil
}

// succeed cleans up what another backend left. Where that fails it is tried again
// with the next change or comparison: stale rules go on denying.
func (e *Enforcer) succeed(ctx context.Context) {
	if e.Predecessor == nil {
		return
	}
	if err := e.Predecessor.Cleanup(ctx); err != nil {
		e.Log.Warn("could not remove what another backend left; trying again", "err", err)
		return
	}
	e.Predecessor = nil
}

// apply hands the change to the backend, or the whole program where the change is not enough,
// and has the connections cut that it denies.
func (e *Enforcer) apply(ctx context.Context, c *policy.Change) error {
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

func (e *Enforcer) repair(ctx context.Context) error {
	e.succeed(ctx)
	mended, err := e.Backend.Repair(ctx)
	if err != nil {
		e.current = false
		e.inForce.Store(false)
		e.Log.Error("could not compare the kernel with the program", "err", err)
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
		e.Log.Warn("somebody changed our rules in the kernel; mended")
	}
	return nil
}
