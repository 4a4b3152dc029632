package revoke

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/eval"
)

// Table is the kernel's connection tracking; Conntrack is one.
type Table interface {
	// ForEach calls f with every connection of the scope, possibly twice, and possibly with others.
	ForEach(ctx context.Context, of Scope, f func(Connection)) error
	// Delete deletes a connection and reports whether it still existed.
	Delete(Connection) (bool, error)
	// InstallOneWay installs and returns a one-way entry, so that what the server of a deleted connection sends does not
	// become a connection that its client could answer.
	InstallOneWay(Connection) (Connection, error)
}

const (
	// settleTime is longer than a packet that the program before allowed takes to enter the table.
	settleTime = 2 * time.Millisecond
	// maxBatch is how many connections are evaluated and deleted while a commit waits, and maxBatchTime for how long; at
	// least one is.
	maxBatch     = 100
	maxBatchTime = 2 * time.Millisecond
	// timeShare is the inverse share of the time that may be spent on cutting while changes keep coming. Meanwhile they
	// are collected, for maxRest at most.
	timeShare = 5
	maxRest   = time.Second
	// maxOneWay is how many one-way entries are remembered. The kernel removes older ones by itself.
	maxOneWay = 10_000
	// retryMin and retryMax bound the wait after a failure.
	retryMin, retryMax = 100 * time.Millisecond, 10 * time.Second
)

// Report is the result of one round.
type Report struct {
	// Scope is what was evaluated.
	Scope Scope
	// Judged is how many connections it has, and Cut how many were cut, by protocol.
	Judged int
	Cut    map[policy.Protocol]int
	Took   time.Duration
	// Err is why the round will be repeated.
	Err error
}

// Options are optional settings of a Revoker.
type Options struct {
	// Log gets a line for each round that cuts or fails; the default logger if nil.
	Log *slog.Logger
	// Report is called after each round, from the goroutine of Start.
	Report func(Report)
}

// Revoker cuts connections that the program in force denies. Commit takes programs; the work is done in Start, so that no
// program waits for it.
type Revoker struct {
	table  Table
	log    *slog.Logger
	report func(Report)
	wake   chan struct{}

	// commit is held while a program is put in force and while connections are deleted, so that a connection which a new
	// program allows is not deleted by the one before.
	commit  sync.Mutex
	program *policy.Program
	// doubtful is true after a commit failed: what passed since is unknown.
	doubtful bool
	pending  Scope
	uses     setUses
	// oneWay are the installed one-way entries, oldest first, and fresh those of this round. evaluator is that of the
	// program that was evaluated last. Only Start uses them.
	oneWay, fresh []Connection
	evaluator     *eval.Evaluator
	// room is how many denied connections a round holds.
	room int
}

// New returns a Revoker that cuts nothing before the first Commit.
func New(t Table, o Options) *Revoker {
	r := &Revoker{table: t, log: o.Log, report: o.Report, wake: make(chan struct{}, 1), room: maxDenied}
	if r.log == nil {
		r.log = slog.Default()
	}
	if r.report == nil {
		r.report = func(Report) {}
	}
	return r
}

// Commit calls apply, which puts the program in force, and schedules the cutting of the connections that it denies. The
// change is from the program of the last Commit; if it is nil, and at the first Commit, every connection is evaluated.
// It returns the error of apply. The program must not be changed afterwards.
func (r *Revoker) Commit(p *policy.Program, c *policy.Change, apply func() error) error {
	r.commit.Lock()
	defer r.commit.Unlock()
	if err := apply(); err != nil {
		r.doubtful = true
		return err
	}
	if r.doubtful {
		c = nil
	}
	r.pending.Merge(affectedBy(r.program, p, c, &r.uses))
	r.program, r.doubtful = p, false
	r.wakeUp()
	return nil
}

// Recheck schedules the evaluation of every connection, as after others changed our rules.
func (r *Revoker) Recheck() {
	r.commit.Lock()
	defer r.commit.Unlock()
	r.pending.All = true
	r.wakeUp()
}

func (r *Revoker) wakeUp() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Start cuts connections until ctx ends. It retries what fails.
func (r *Revoker) Start(ctx context.Context) error {
	wait := retryMin
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.wake:
		}
		sleepFor(ctx, settleTime)
		report := r.runRound(ctx)
		r.report(report)
		if report.Err == nil {
			wait = retryMin
			sleepFor(ctx, min((timeShare-1)*report.Took, maxRest))
			continue
		}
		if ctx.Err() != nil {
			return nil
		}
		r.log.Error("cutting denied connections failed; retrying", "err", report.Err)
		sleepFor(ctx, wait)
		wait = min(2*wait, retryMax)
		r.wakeUp()
	}
}

// sleepFor waits for a time, or until ctx ends.
func sleepFor(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// runRound evaluates what is pending. What it could not finish is pending again afterwards.
func (r *Revoker) runRound(ctx context.Context) Report {
	start := time.Now()
	r.commit.Lock()
	program, scope := r.program, r.pending
	r.pending = Scope{}
	if program == nil {
		r.pending = scope // until there is a program
	}
	r.commit.Unlock()
	if program == nil {
		return Report{}
	}
	r.evaluator = eval.New(program)
	defer func() { r.evaluator = nil }() // what it holds is not needed between rounds
	if scope.Empty() {
		return Report{Err: r.removeOneWay(ctx)}
	}
	report := Report{Scope: scope, Cut: map[policy.Protocol]int{}}
	denied, err := r.findDenied(ctx, scope, &report)
	if err == nil {
		err = r.cutConnections(ctx, denied.roundRobin(), &report)
	}
	if len(r.fresh) > 0 {
		sleepFor(ctx, settleTime)
		err = cmp.Or(err, r.deleteClashes(ctx))
	}
	err = cmp.Or(err, r.removeOneWay(ctx))
	if err != nil || denied.more {
		r.commit.Lock()
		r.pending.Merge(scope)
		r.commit.Unlock()
	}
	if err == nil && denied.more {
		r.wakeUp() // after a failure that is for later
	}
	report.Err, report.Took = err, time.Since(start)
	if len(report.Cut) > 0 {
		r.log.Info("denied connections cut", "cut", report.Cut, "judged", report.Judged, "took", report.Took)
	}
	return report
}

// findDenied returns the connections of the scope that the program denies, as many as a round holds.
func (r *Revoker) findDenied(ctx context.Context, scope Scope, report *Report) (*backlog, error) {
	out := newBacklog(r.room)
	judge := func(c Connection) {
		if c.OneWay && scope.All {
			r.rememberOneWay(c.copyForDeletion()) // an earlier agent may have installed it
		}
		if !scope.Has(c.Flow) {
			return
		}
		report.Judged++
		if denied, endpoint := c.deniedFor(r.evaluator); denied {
			namespace, _, _ := strings.Cut(endpoint, "/")
			out.addConnection(namespace, c)
		}
	}
	err := r.table.ForEach(ctx, scope, judge)
	return out, err
}

// cutConnections deletes connections. It continues after one that cannot be deleted.
func (r *Revoker) cutConnections(ctx context.Context, denied []Connection, report *Report) error {
	return r.forEachBatch(ctx, denied, Connection.isDenied, func(e *eval.Evaluator, c Connection) error {
		there, err := r.table.Delete(c)
		if there && !c.OneWay {
			report.Cut[c.Flow.Protocol]++
		}
		if there && c.serverMaySend(e) {
			var made Connection
			if made, err = r.table.InstallOneWay(c); err == nil {
				r.rememberOneWay(made)
				r.fresh = append(r.fresh, made)
			}
		}
		return err
	})
}

// forEachBatch calls do with the connections for which is holds under the newest program; those of the list hold it under
// the evaluator's. It handles a few at a time, so that a commit waits for a few only, and continues after a failure.
func (r *Revoker) forEachBatch(ctx context.Context, list []Connection, is func(Connection, *eval.Evaluator) bool, do func(*eval.Evaluator, Connection) error) error {
	var first error
	judgedBy := r.evaluator.Program()
	for len(list) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		r.commit.Lock()
		program := r.program
		r.commit.Unlock()
		if r.evaluator.Program() != program {
			r.evaluator = r.evaluator.Next(program) // while no commit waits
		}
		n, err := r.runBatch(list, judgedBy, is, do)
		list, first = list[n:], cmp.Or(first, err)
	}
	return first
}

// runBatch runs one batch of forEachBatch, for which a commit waits, and returns how many connections it handled. It
// builds no index.
func (r *Revoker) runBatch(list []Connection, judgedBy *policy.Program, is func(Connection, *eval.Evaluator) bool, do func(*eval.Evaluator, Connection) error) (n int, first error) {
	r.commit.Lock()
	defer r.commit.Unlock()
	if r.evaluator.Program() != r.program {
		r.evaluator = r.evaluator.Next(r.program)
	}
	e := r.evaluator.Bounded()
	for start := time.Now(); n < min(len(list), maxBatch) && (n == 0 || time.Since(start) < maxBatchTime); n++ {
		if c := list[n]; r.program == judgedBy || is(c, e) {
			first = cmp.Or(first, do(e, c))
		}
	}
	return n, first
}

// rememberOneWay records an installed one-way entry.
func (r *Revoker) rememberOneWay(c Connection) {
	r.oneWay = append(r.oneWay[max(0, len(r.oneWay)-maxOneWay+1):], c)
}

// deleteClashes deletes connections that packets of a server opened while its one-way entry was installed. The kernel
// keeps the losing half of such a clash for a second, and answers would pass by it.
func (r *Revoker) deleteClashes(ctx context.Context) error {
	denied := slices.DeleteFunc(r.fresh, func(c Connection) bool { return c.isBackAllowed(r.evaluator) })
	r.fresh = nil
	return r.forEachBatch(ctx, denied, Connection.isBackDenied, func(_ *eval.Evaluator, c Connection) error {
		_, err := r.table.Delete(c.clientDatagrams())
		return err
	})
}

// removeOneWay deletes the one-way entries of connections that the program allows again.
func (r *Revoker) removeOneWay(ctx context.Context) error {
	var allowed []Connection
	kept := r.oneWay[:0]
	for _, c := range r.oneWay {
		if c.isBackAllowed(r.evaluator) {
			allowed = append(allowed, c)
		} else {
			kept = append(kept, c)
		}
	}
	clear(r.oneWay[len(kept):])
	r.oneWay = kept
	done := 0
	err := r.forEachBatch(ctx, allowed, func(c Connection, e *eval.Evaluator) bool {
		if c.isBackAllowed(e) {
			return true
		}
		done++
		r.rememberOneWay(c)
		return false
	}, func(_ *eval.Evaluator, c Connection) error {
		done++
		_, err := r.table.Delete(c)
		if err != nil {
			r.rememberOneWay(c)
		}
		return err
	})
	for _, c := range allowed[done:] { // not handled
		r.rememberOneWay(c)
	}
	return err
}
