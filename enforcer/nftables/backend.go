package nftables

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"sigs.k8s.io/knftables"

	"github.com/tierwall/tierwall/enforcer/nftables/nfnetlink"
	"github.com/tierwall/tierwall/enforcer/refusal"
	"github.com/tierwall/tierwall/enforcer/ruletext"
	"github.com/tierwall/tierwall/enforcer/transition"
	"github.com/tierwall/tierwall/policy"
)

// Options say how a Backend works. The zero value is good.
type Options struct {
	// DenyLog reports whether and how denied packets are logged.
	DenyLog ruletext.DenyLog
	// Log gets what an operator should know; the default logger if nil.
	Log *slog.Logger
}

// Backend keeps our table in the kernel equal to a program. Its methods can be
// called from any goroutine; they take turns.
type Backend struct {
	denyLog    ruletext.DenyLog
	log        *slog.Logger
	kernel     kernel
	programmed bool

	mu sync.Mutex
	// program is the one that is to be in force; nil before the first.
	program *policy.Program
	// known says that the kernel is as the state says, but for what others did.
	known bool
	state state
	// refused are the classes that the kernel refused, which are closed, reported those that were when problems, their
	// objects, were last told.
	refused, reported refusal.Classes
	problems          []policy.Problem
	// repairs is how often Repair was called.
	repairs int
	// generation is the kernel's after our last transaction, alone says that
	// nobody else changed any table between ours.
	generation uint32
	alone      bool
	// last is when our last transaction was carried out.
	last time.Time
	// direct says that the kernel may be asked without nft.
	direct bool
}

// New reads what is in force. It changes nothing. Where nftables cannot be used the error says why.
func New(ctx context.Context, o Options) (*Backend, error) {
	tool, err := openTool(ctx, o.DenyLog)
	if err != nil {
		return nil, err
	}
	return newBackend(ctx, o, tool)
}

func newBackend(ctx context.Context, o Options, k kernel) (*Backend, error) {
	b := &Backend{denyLog: o.DenyLog, log: o.Log, kernel: k, refused: refusal.Classes{}}
	if b.log == nil {
		b.log = slog.Default()
	}
	l, err := k.List(ctx, nil)
	if err != nil {
		return nil, err
	}
	b.programmed = l.isProgrammed()
	return b, nil
}

// Programmed reports whether a program of ours was in force when the Backend was
// made, left by an earlier process. Apply adopts it.
func (b *Backend) Programmed() bool { return b.programmed }

// Apply brings the kernel from the last program to this one, writing the
// differences only; the first time, from whatever it finds. The program must not
// be changed afterwards. When it fails, what was in force stays in force, and
// the next call reads the kernel anew.
func (b *Backend) Apply(ctx context.Context, p *policy.Program) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	var c *policy.Change
	if b.known = b.known && transition.ShareNumbering(b.program, p); b.known {
		c = transition.ChangeBetween(b.program, p)
	}
	if err := b.moveTo(ctx, p, c); err != nil {
		return fmt.Errorf("applying a program of %d endpoints: %w", len(p.Endpoints), err)
	}
	return nil
}

// Update brings the kernel from the last program to the changed one. Its cost is in
// proportion to the change. When it fails, what was in force stays in force; the
// change counts as asked for, and comes with the next call.
func (b *Backend) Update(ctx context.Context, c *policy.Change) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.program == nil {
		return errors.New("changing a program: none was applied")
	}
	if c.Empty() && b.known {
		return nil
	}
	if err := b.moveTo(ctx, b.program.With(c), c); err != nil {
		return fmt.Errorf("changing a program of %d endpoints: %w", len(b.program.Endpoints), err)
	}
	return nil
}

// Repair restores the last program where another process changed our table. It reports whether it changed anything.
// It reads the table only if some table changed since the last read.
func (b *Backend) Repair(ctx context.Context) (changed bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.program == nil {
		return false, nil
	}
	if b.retriesRefused() {
		b.known = false
		return false, b.moveTo(ctx, b.program, nil)
	}
	if b.known && b.isUnchanged() {
		return false, b.deleteGarbage(ctx)
	}
	defer b.reportProblems()
	return b.applyWhole(ctx)
}

// Cleanup removes our table.
func (b *Backend) Cleanup(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.program, b.known = nil, false
	l, err := b.kernel.List(ctx, nil)
	if err != nil || !l.there {
		return err
	}
	t := &transaction{}
	t.addCommand(tableCommand{remove})
	if _, _, err := b.kernel.Run(ctx, t, 0); err != nil {
		return fmt.Errorf("removing our table: %w", err)
	}
	return nil
}

// moveTo brings the kernel to the next program: by the change, or, where that is not known, by comparing what the
// kernel holds.
func (b *Backend) moveTo(ctx context.Context, next *policy.Program, c *policy.Change) error {
	old, known := b.program, b.known
	b.program, b.known = next, false
	b.refused.ForgetGone(next)
	defer b.reportProblems()
	if !known || !slices.Equal(familiesOf(old), familiesOf(next)) || b.state.touchesClosed(old, next, c) {
		_, err := b.applyWhole(ctx)
		return err
	}
	err := b.applyChange(ctx, old, c)
	var failed *classError
	if isOutOfSync(err) || errors.As(err, &failed) || len(refusedNames(err)) > 0 {
		b.log.Warn("change failed; reading the kernel again", "err", err)
		_, err = b.applyWhole(ctx)
	}
	return err
}

// applyChange writes a change of the program that is in force.
func (b *Backend) applyChange(ctx context.Context, old *policy.Program, c *policy.Change) error {
	s, err := b.state.stepTo(old, b.program, c)
	if err != nil {
		return err
	}
	if err := b.carryOut(ctx, s.plan, s.way == twoPhase); err != nil {
		return err
	}
	b.state.names, b.state.slots, b.state.refs = s.names, s.slots, s.refs
	b.state.changeUses(c, old)
	b.state.recordPlan(s.plan)
	b.known = true
	return nil
}

// isOutOfSync reports whether an error shows that the kernel is not as it was left, or that nft may succeed with the
// same transaction.
func isOutOfSync(err error) bool {
	var r *nfnetlink.Refusal
	return errors.As(err, &r) || knftables.IsNotFound(err) || knftables.IsAlreadyExists(err)
}

// carryOut writes a plan: sets ahead, then everything at one moment, or, in turn, all
// that is added before what is removed.
func (b *Backend) carryOut(ctx context.Context, p plan, inTurn bool) error {
	for _, chains := range []map[string]Chain{p.chains, p.aheadChains} {
		for name := range chains {
			delete(b.state.garbage.chains, name)
		}
	}
	if err := b.writeAhead(ctx, p); err != nil {
		return fmt.Errorf("making sets: %w", err)
	}
	if !p.hasCommands() {
		return nil
	}
	t := b.newTransaction()
	p.writeSwitch(t, b.state.garbage)
	if !inTurn {
		p.removeElements(t)
	}
	if err := b.runTransaction(ctx, t); err != nil {
		return fmt.Errorf("writing chains and sets: %w", err)
	}
	if inTurn {
		t := b.newTransaction()
		p.removeElements(t)
		if err := b.runTransaction(ctx, t); err != nil {
			return fmt.Errorf("removing from sets: %w", err)
		}
	}
	return nil
}

// writeAhead makes sets and chains that no rule in force refers to yet, in transactions of a bounded size: sets,
// chains without rules, maps that lead to them, and then their rules.
func (b *Backend) writeAhead(ctx context.Context, p plan) error {
	t, made := b.newTransaction(), false
	commit := func() error {
		if made && len(t.commands) > 0 {
			b.last = time.Time{} // of what nothing refers to, no packet sees one transaction after the other
		}
		made = true
		err := b.runTransaction(ctx, t)
		t = b.newTransaction()
		return err
	}
	for _, c := range slices.Concat(p.aheadSets(false), p.makeEmpty(), p.aheadSets(true), p.aheadRules()) {
		if t.size > 0 && t.size+c.size > transactionSize {
			if err := commit(); err != nil {
				return err
			}
		}
		t.addCommand(c.command)
		t.size += c.size
	}
	return commit()
}

func (b *Backend) newTransaction() *transaction {
	return &transaction{direct: b.direct}
}

// apart is how far two transactions are apart without any doubt that packets which came before the first
// have left. One that meets both sees rules of either (nf_tables has two generations of them).
const apart = 5 * time.Millisecond

// runTransaction runs a transaction and keeps account of the kernel's generation.
func (b *Backend) runTransaction(ctx context.Context, t *transaction) error {
	if len(t.commands) == 0 {
		return nil
	}
	if time.Since(b.last) < apart {
		if err := b.kernel.Settle(ctx); err != nil {
			return err
		}
	}
	generation, alone, err := b.kernel.Run(ctx, t, b.generation)
	b.generation, b.alone = generation, b.alone && alone && err == nil
	b.last = time.Now()
	return err
}

// isUnchanged reports whether no other process changed a table since the generation that is known.
func (b *Backend) isUnchanged() bool {
	now, err := b.kernel.Generation()
	return err == nil && b.alone && now == b.generation
}

// deleteGarbage deletes garbage, and learns how the kernel tells the chains that were written last.
func (b *Backend) deleteGarbage(ctx context.Context) error {
	if !b.state.garbage.isEmpty() {
		t := b.newTransaction()
		b.state.garbage.deleteAll(t)
		b.known = false
		if err := b.runTransaction(ctx, t); err != nil {
			return fmt.Errorf("deleting what is not in use: %w", err)
		}
		b.state.garbage, b.known = garbage{}, true
	}
	if b.state.hasLearnedAll() {
		return nil
	}
	rules, err := b.kernel.Rules()
	if err != nil {
		return err
	}
	if b.isUnchanged() {
		b.state.learnRules(rules)
	}
	return nil
}
