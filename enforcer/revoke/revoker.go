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
	// Each calls f with every connection of the scope. One may come twice, and
	// others may come, too.
	Each(ctx context.Context, of Scope, f func(Connection)) error
	// Delete deletes a connection and reports whether it was there still.
	Delete(Connection) (bool, error)
	// Part keeps what the server of a deleted connection sends from becoming a connection that
	// its client could answer, by a one-way entry, which it gives.
	Part(Connection) (Connection, error)
}

const (
	// settle is longer than a packet that was judged by the program before takes to
	// get from there to the table.
	settle = 2 * time.Millisecond
	// atOnce is how many connections are judged and deleted while a commit waits, and longest for how long, as far as
	// that is more than one.
	atOnce  = 100
	longest = 2 * time.Millisecond
	// share is the share of the time that may be spent on cutting while changes keep
	// coming; they are taken together meanwhile, for maxRest at most.
	share   = 5
	maxRest = time.Second
	// maxOneWay is how many one-way entries are remembered. Older ones the kernel forgets by itself.
	maxOneWay = 10_000
	// retryMin and retryMax bound the wait after a failure.
	retryMin, retryMax = 100 * time.Millisecond, 10 * time.Second
)

// Report is what one round of cutting came to.
type Report struct {
	// Scope is what was looked at: all connections, or so many sides.
	Scope Scope
	// Judged are the connections in it, Cut those that were cut, by protocol.
	Judged int
	Cut    map[policy.Protocol]int
	Took   time.Duration
	// Err is why it will be tried again.
	Err error
}

// Options are what a Revoker tells of its work. The zero value is good.
type Options struct {
	// Log gets a line for each round that cuts or fails; the default logger if nil.
	Log *slog.Logger
	// Report is called after each round, from the goroutine of Start.
	Report func(Report)
}

// Revoker cuts connections that the program in force denies. It is told of programs
// by Commit, and works in Start, so that no program waits for it.
type Revoker struct {
	table  Table
	log    *slog.Logger
	report func(Report)
	wake   chan struct{}

	// commit is held while a program is put in force and while connections are
	// deleted: one that a new program allows is not judged by the one before.
	commit  sync.Mutex
	program *policy.Program
	// doubtful says that a commit failed, so that nobody knows what passed since.
	doubtful bool
	pending  Scope
	uses     setUses
	// oneWay are one-way entries that were made, oldest first, fresh those of this round, and evaluator is of
	// the program that was judged by last. They are Start's alone.
	oneWay, fresh []Connection
	evaluator     *eval.Evaluator
	// room is how many denied connections a round holds.
	room int
}

// New makes a Revoker that cuts nothing before the first Commit.
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

// Commit calls apply, which puts the program in force, and has the connections cut
// that it denies. The change is from the program of the Commit before; with nil, as
// with the first Commit, every connection is judged. It returns what apply does, and
// waits for no cutting. The program must not be changed afterwards.
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
	r.pending.Add(affected(r.program, p, c, &r.uses))
	r.program, r.doubtful = p, false
	r.awake()
	return nil
}

// Recheck has every connection judged, as after a time in which others had changed
// our rules.
func (r *Revoker) Recheck() {
	r.commit.Lock()
	defer r.commit.Unlock()
	r.pending.All = true
	r.awake()
}

func (r *Revoker) awake() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Start cuts until ctx ends. What fails is tried again.
func (r *Revoker) Start(ctx context.Context) error {
	wait := retryMin
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.wake:
		}
		sleep(ctx, settle)
		report := r.round(ctx)
		r.report(report)
		if report.Err == nil {
			wait = retryMin
			sleep(ctx, min((share-1)*report.Took, maxRest))
			continue
		}
		if ctx.Err() != nil {
			return nil
		}
		r.log.Error("could not cut all connections that are denied; trying again", "err", report.Err)
		sleep(ctx, wait)
		wait = min(2*wait, retryMax)
		r.awake()
	}
}

// sleep waits for a while, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// round judges what is pending. What it could not finish is pending again after it.
func (r *Revoker) round(ctx context.Context) Report {
	start := time.Now()
	r.commit.Lock()
	program, scope := r.program, r.pending
	r.pending = Scope{}
	if program == nil {
		r.pending = scope // until there is a program to judge by
	}
	r.commit.Unlock()
	if program == nil {
		return Report{}
	}
	r.evaluator = eval.New(program)
	defer func() { r.evaluator = nil }() // what it holds is not needed between rounds
	if scope.Empty() {
		return Report{Err: r.join(ctx)}
	}
	report := Report{Scope: scope, Cut: map[policy.Protocol]int{}}
	denied, err := r.denied(ctx, scope, &report)
	if err == nil {
		err = r.cut(ctx, denied.inTurn(), &report)
	}
	if len(r.fresh) > 0 {
		sleep(ctx, settle)
		err = cmp.Or(err, r.silence(ctx))
	}
	err = cmp.Or(err, r.join(ctx))
	if err != nil || denied.more {
		r.commit.Lock()
		r.pending.Add(scope)
		r.commit.Unlock()
	}
	if err == nil && denied.more {
		r.awake() // after a failure that is for later
	}
	report.Err, report.Took = err, time.Since(start)
	if len(report.Cut) > 0 {
		r.log.Info("cut connections that are denied now", "cut", report.Cut, "judged", report.Judged, "took", report.Took)
	}
	return report
}

// denied are the connections of the scope that the program denies, as many as a round holds.
func (r *Revoker) denied(ctx context.Context, scope Scope, report *Report) (*backlog, error) {
	out := newBacklog(r.room)
	judge := func(c Connection) {
		if c.OneWay && scope.All {
			r.remember(c.kept()) // it may be of an agent before this one
		}
		if !scope.Has(c.Flow) {
			return
		}
		report.Judged++
		if denied, endpoint := c.deniedFor(r.evaluator); denied {
			namespace, _, _ := strings.Cut(endpoint, "/")
			out.add(namespace, c)
		}
	}
	err := r.table.Each(ctx, scope, judge)
	return out, err
}

// cut deletes connections. One that cannot be deleted keeps none of the others.
func (r *Revoker) cut(ctx context.Context, denied []Connection, report *Report) error {
	return r.inTurns(ctx, denied, Connection.denied, func(e *eval.Evaluator, c Connection) error {
		there, err := r.table.Delete(c)
		if there && !c.OneWay {
			report.Cut[c.Flow.Protocol]++
		}
		if there && c.returns(e) {
			var made Connection
			if made, err = r.table.Part(c); err == nil {
				r.remember(made)
				r.fresh = append(r.fresh, made)
			}
		}
		return err
	})
}

// inTurns calls do with connections for which the evaluator's program, and the newest one, say is. It does so with a few at a
// time, so that a commit waits for a few alone. One that fails keeps none of the others.
func (r *Revoker) inTurns(ctx context.Context, list []Connection, is func(Connection, *eval.Evaluator) bool, do func(*eval.Evaluator, Connection) error) error {
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
		n, err := r.turn(list, judgedBy, is, do)
		list, first = list[n:], cmp.Or(first, err)
	}
	return first
}

// turn is one turn of inTurns, for which a commit waits, and returns how many connections it dealt with. It makes no index.
func (r *Revoker) turn(list []Connection, judgedBy *policy.Program, is func(Connection, *eval.Evaluator) bool, do func(*eval.Evaluator, Connection) error) (n int, first error) {
	r.commit.Lock()
	defer r.commit.Unlock()
	if r.evaluator.Program() != r.program {
		r.evaluator = r.evaluator.Next(r.program)
	}
	e := r.evaluator.Bounded()
	for start := time.Now(); n < min(len(list), atOnce) && (n == 0 || time.Since(start) < longest); n++ {
		if c := list[n]; r.program == judgedBy || is(c, e) {
			first = cmp.Or(first, do(e, c))
		}
	}
	return n, first
}

// remember keeps a one-way entry in mind.
func (r *Revoker) remember(c Connection) {
	r.oneWay = append(r.oneWay[max(0, len(r.oneWay)-maxOneWay+1):], c)
}

// silence deletes what packets of a server that were on their way have opened to its client while a one-way
// entry was made: the kernel keeps the half of such a clash for a second, by which answers would pass.
func (r *Revoker) silence(ctx context.Context) error {
	denied := slices.DeleteFunc(r.fresh, func(c Connection) bool { return c.backAllowed(r.evaluator) })
	r.fresh = nil
	return r.inTurns(ctx, denied, Connection.backDenied, func(_ *eval.Evaluator, c Connection) error {
		_, err := r.table.Delete(c.answers())
		return err
	})
}

// join deletes the one-way entries of connections that the program allows again.
func (r *Revoker) join(ctx context.Context) error {
	var allowed []Connection
	kept := r.oneWay[:0]
	for _, c := range r.oneWay {
		if c.backAllowed(r.evaluator) {
			allowed = append(allowed, c)
		} else {
			kept = append(kept, c)
		}
	}
	clear(r.oneWay[len(kept):])
	r.oneWay = kept
	done := 0
	err := r.inTurns(ctx, allowed, func(c Connection, e *eval.Evaluator) bool {
		if c.backAllowed(e) {
			return true
		}
		done++
		r.remember(c)
		return false
	}, func(_ *eval.Evaluator, c Connection) error {
		done++
		_, err := r.table.Delete(c)
		if err != nil {
			r.remember(c)
		}
		return err
	})
	for _, c := range allowed[done:] { // which were not come to
		r.remember(c)
	}
	return err
}
