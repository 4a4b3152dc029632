package iptables

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tierwall/tierwall/enforcer/command"
	"github.com/tierwall/tierwall/enforcer/refusal"
	"github.com/tierwall/tierwall/enforcer/ruletext"
	"github.com/tierwall/tierwall/enforcer/transition"
	"github.com/tierwall/tierwall/policy"
)

// Options say how a Backend works. The zero value is good.
type Options struct {
	Mode Mode
	// DenyLog reports whether and how denied packets are logged.
	DenyLog ruletext.DenyLog
	// Log gets what an operator should know; the default logger if nil.
	Log *slog.Logger
}

// Backend keeps the kernel's iptables and ipsets equal to a program. Its methods
// can be called from any goroutine; they take turns.
type Backend struct {
	mode       Mode
	denyLog    ruletext.DenyLog
	log        *slog.Logger
	programmed bool

	mu     sync.Mutex
	tables []*table
	// noIPv6 says why IPv6 cannot be filtered; nil if it is.
	noIPv6 error
	// leftovers are tables of the other mode that may hold chains of ours.
	leftovers []*leftover
	// program is the one that is to be in force; nil before the first.
	program *policy.Program
	// known says that the kernel is as the tables' states say, but for what others did. Users
	// and slots are the program's then.
	known bool
	users transition.Users
	slots transition.Slots
	// repairs are those since everything was compared.
	repairs int
	// refused are the classes that the kernel refused, closed those that are not in force for any
	// reason, and problems their objects.
	refused, closed refusal.Classes
	problems        []policy.Problem
}

// New finds the mode and reads what is in force. It changes nothing.
func New(ctx context.Context, o Options) (*Backend, error) {
	b := &Backend{mode: o.Mode, denyLog: o.DenyLog, log: o.Log, programmed: true, refused: refusal.Classes{}}
	if b.log == nil {
		b.log = slog.Default()
	}
	var err error
	if b.mode == Auto {
		if b.mode, err = detectMode(ctx); err != nil {
			return nil, err
		}
	}
	if err := b.openFamily(ctx, IPv4); err != nil {
		return nil, err
	}
	if b.openIPv6(ctx); b.noIPv6 != nil {
		b.log.Warn("IPv6 cannot be filtered on this node yet; programs that need it fail", "err", b.noIPv6)
	}
	b.programmed = b.programmed && (b.noIPv6 == nil || !kernelHasIPv6())
	b.leftovers = leftoversBeside(b.mode)
	return b, nil
}

// openFamily adds the table of a family to those that are written.
func (b *Backend) openFamily(ctx context.Context, f Family) error {
	t, err := openTable(f, b.mode)
	if err != nil {
		return err
	}
	t.log, t.refused = b.denyLog, b.refused
	have, err := t.readTable(ctx)
	if err != nil {
		return err
	}
	b.programmed = b.programmed && have.isProgrammed()
	b.tables = append(b.tables, t)
	return nil
}

// openIPv6 adds IPv6 unless it is open already. A failure, for lack of memory for example, is tried again with the next
// program; everything is then read and written again.
func (b *Backend) openIPv6(ctx context.Context) {
	if len(b.tables) == len(families) {
		return
	}
	if b.noIPv6 = b.openFamily(ctx, IPv6); b.noIPv6 == nil {
		b.known = false
	}
}

// kernelHasIPv6 reports whether the kernel has IPv6 at all; it returns true if that is not known.
func kernelHasIPv6() bool {
	_, err := os.Stat("/proc/self/net/if_inet6")
	return !errors.Is(err, fs.ErrNotExist)
}

// Mode is the mode in use: NFT or Legacy.
func (b *Backend) Mode() Mode { return b.mode }

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
	b.openIPv6(ctx)
	var c *policy.Change
	if b.known = b.known && transition.ShareNumbering(b.program, p); b.known {
		c = transition.ChangeBetween(b.program, p)
	}
	if err := b.moveTo(ctx, p, c); err != nil {
		return fmt.Errorf("applying a program of %d endpoints: %w", len(p.Endpoints), err)
	}
	return b.checkIPv6()
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
	b.openIPv6(ctx)
	if c.Empty() && b.known {
		return b.checkIPv6()
	}
	if err := b.moveTo(ctx, b.program.With(c), c); err != nil {
		return fmt.Errorf("changing a program of %d endpoints: %w", len(b.program.Endpoints), err)
	}
	return b.checkIPv6()
}

// checkIPv6 returns an error if rules need IPv6 and it is unavailable.
func (b *Backend) checkIPv6() error {
	if b.noIPv6 == nil {
		return nil
	}
	if needs := needsIPv6(b.program, kernelHasIPv6()); needs != "" {
		return fmt.Errorf("%s, and IPv6 cannot be filtered on this node: %w", needs, b.noIPv6)
	}
	return nil
}

// Repair compares the kernel with the last program and restores what another
// process changed. It reports whether anything was restored. Of sets it compares the
// sizes, and in every twelfth call all elements.
func (b *Backend) Repair(ctx context.Context) (changed bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.program == nil {
		return false, nil
	}
	if len(b.refused) > 0 && b.repairs%wholeEvery == 0 {
		return b.retryRefused(ctx)
	}
	if b.known && b.repairs%wholeEvery != 0 && b.setsFit() {
		b.repairs++
		return b.repairWith(ctx, b.readChains, b.mendChains)
	}
	known := b.known
	changed, err = b.repairWith(ctx, b.readKernel, b.applyWhole)
	b.repairs = 1
	return changed && known, err
}

// retryRefused applies the whole program, including classes that the kernel refused before.
func (b *Backend) retryRefused(ctx context.Context) (changed bool, err error) {
	b.repairs = 1
	clear(b.refused)
	b.known = false
	return false, b.moveTo(ctx, b.program, nil)
}

// wholeEvery is how many repairs come to one that reads all sets.
const wholeEvery = 12

// setsFit reports whether all sets are there with as many elements as they should have.
func (b *Backend) setsFit() bool {
	sizes, err := countElements()
	if err != nil {
		return false
	}
	for _, t := range b.tables {
		if !t.state.sizesFit(sizes, t.family) {
			return false
		}
	}
	return true
}

// repairWith reads the kernel, restores it, and reads it again to find what changed.
func (b *Backend) repairWith(ctx context.Context, read func(context.Context) ([]reading, error), write func(context.Context, []reading) (bool, error)) (changed bool, err error) {
	before, err := read(ctx)
	if err != nil {
		b.known = false
		return false, err
	}
	going := b.setsToDestroy()
	wrote, err := write(ctx, before)
	if err != nil || !wrote {
		return false, err
	}
	after, err := read(ctx)
	if err != nil {
		b.known = false
		return false, err
	}
	for i, t := range b.tables {
		changed = changed || !before[i].sameAs(after[i], going)
		t.state.learnPrints(before[i], after[i])
	}
	return changed, nil
}

// mendChains restores chains and jumps.
func (b *Backend) mendChains(ctx context.Context, have []reading) (wrote bool, err error) {
	b.known = false
	plans := make([]plan, len(b.tables))
	for i, t := range b.tables {
		plans[i] = t.planRepair(have[i])
		wrote = wrote || plans[i].hasChanges(nil)
	}
	if err := b.executePlans(ctx, plans); err != nil {
		return true, err
	}
	b.finishWrite(ctx)
	return wrote, nil
}

// setsToDestroy returns the sets that are destroyed once nothing uses them.
func (b *Backend) setsToDestroy() map[string]bool {
	out := map[string]bool{}
	for _, t := range b.tables {
		maps.Copy(out, t.state.names.taken)
	}
	return out
}

// Cleanup removes everything that is ours, in both modes and both IP families.
func (b *Backend) Cleanup(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.program, b.known = nil, false
	var errs []error
	for _, m := range []Mode{NFT, Legacy} {
		for _, f := range families {
			t, err := openTable(f, m)
			switch {
			case err == nil:
				errs = append(errs, t.removeAll(ctx))
			case errors.Is(err, exec.ErrNotFound):
				b.log.Info("not cleaned: tools missing", "mode", m, "family", f, "err", err)
			default:
				errs = append(errs, err)
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("removing our rules: %w", err)
	}
	return cleanSets(ctx)
}

// moveTo brings the kernel to the next program: by the change, or, where that is not known, by comparing what the
// kernel holds.
func (b *Backend) moveTo(ctx context.Context, next *policy.Program, c *policy.Change) error {
	old, known := b.program, b.known
	b.program, b.known = next, false
	b.refused.ForgetGone(next)
	if known && IPv4.isUsedBy(old) == IPv4.isUsedBy(next) && IPv6.isUsedBy(old) == IPv6.isUsedBy(next) {
		err := b.applyChange(ctx, old, c)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, command.ErrKilled):
			b.closeRefused(err) // the whole takes no less time
		case !isOutOfSync(err) && len(refusedClasses(err, b.tables)) == 0:
			return err
		}
		b.log.Warn("change failed; reading the kernel again", "err", err)
	}
	for try := 1; ; try++ {
		have, err := b.readKernel(ctx)
		if err != nil {
			return err
		}
		if _, err = b.applyWhole(ctx, have); err == nil || try == refusalsPerMove || !b.closeRefused(err) {
			return err
		}
		b.log.Warn("kernel refused some rules; trying without them", "err", err)
	}
}

// isOutOfSync reports whether an error shows that the kernel is not as it was left: something is missing, or exists
// already.
func isOutOfSync(err error) bool {
	var failed *command.Error
	return errors.As(err, &failed) && failed.Line() > 0 || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EEXIST)
}

// applyChange writes a change of the program that is in force.
func (b *Backend) applyChange(ctx context.Context, old *policy.Program, c *policy.Change) error {
	for _, d := range policy.Directions {
		for _, class := range c.Classes[d] {
			b.users.AddClass(d, class)
		}
	}
	m := newMove(old, b.program, c, b.users, b.slots)
	plans := make([]plan, len(b.tables))
	for i, t := range b.tables {
		plans[i] = t.planChange(m)
	}
	if err := b.executePlans(ctx, plans); err != nil {
		return err
	}
	for _, d := range policy.Directions {
		for _, id := range c.ClassesGone[d] {
			if class := old.Classes[d][id]; class != nil {
				b.users.RemoveClass(d, class)
			}
		}
	}
	b.slots = m.nextSlots
	b.finishWrite(ctx)
	return nil
}

// applyWhole brings the kernel from what it has to the program. It reports whether anything had to
// be written.
func (b *Backend) applyWhole(ctx context.Context, have []reading) (wrote bool, err error) {
	known, going := b.known, b.setsToDestroy()
	b.known = false
	if !known {
		b.slots, b.users = transition.Slots{}, transition.UsersOf(b.program)
	}
	plans := make([]plan, len(b.tables))
	for i, t := range b.tables {
		plans[i] = t.planWhole(b.program, have[i], b.slots, known)
		wrote = wrote || plans[i].hasChanges(going)
	}
	if err := b.executePlans(ctx, plans); err != nil {
		return true, err
	}
	b.finishWrite(ctx)
	return wrote, nil
}

// finishWrite ends a write that succeeded: it destroys unused sets and reports problems.
func (b *Backend) finishWrite(ctx context.Context) {
	b.known = true
	b.reportProblems()
	for _, t := range b.tables {
		if err := t.destroyUnused(); err != nil {
			b.log.Warn("destroying unused sets failed; retrying", "err", err)
		}
	}
	b.sweepLeftovers(ctx)
}

// executePlans carries out the plans of all families: sets grow, chains switch, sets shrink.
func (b *Backend) executePlans(ctx context.Context, plans []plan) error {
	var grow, shrink []setStep
	for _, p := range plans {
		grow, shrink = append(grow, p.grow...), append(shrink, p.shrink...)
	}
	if err := writeSets(ctx, grow); err != nil {
		return err
	}
	commits := make([]*command.Running, len(plans))
	for i, t := range b.tables {
		commits[i] = t.startCommit(ctx, plans[i].chains)
	}
	var errs []error
	for i, t := range b.tables {
		errs = append(errs, t.waitCommit(commits[i]))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return writeSets(ctx, shrink)
}

// readKernel reads what the kernel has.
func (b *Backend) readKernel(ctx context.Context) ([]reading, error) {
	sets, err := readSets(ctx)
	if err != nil {
		return nil, err
	}
	out, err := b.readChains(ctx)
	if err != nil {
		return nil, err
	}
	for i, t := range b.tables {
		out[i].sets = parseSets(sets, t.family)
	}
	return out, nil
}

// readChains reads what the kernel has but for sets.
func (b *Backend) readChains(ctx context.Context) ([]reading, error) {
	out := make([]reading, len(b.tables))
	for i, t := range b.tables {
		var err error
		if out[i], err = t.readTable(ctx); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// needsIPv6 says what of a program cannot be in force without IPv6, or nothing. In
// a kernel without IPv6 no address is open, whether a pod is known there or not.
func needsIPv6(p *policy.Program, inKernel bool) string {
	for _, e := range p.Endpoints {
		for _, a := range e.Addrs {
			if a.Is6() {
				return fmt.Sprintf("endpoint %s has the IPv6 address %s", e.Key(), a)
			}
		}
	}
	if p.Unknown == policy.Allow || !inKernel {
		return ""
	}
	for _, l := range p.Local {
		if l.Addr().Is6() {
			return fmt.Sprintf("pods not yet known in %s are to be denied", l)
		}
	}
	return ""
}

// How often and how long apart destroying all sets is tried: nf_tables frees the
// rules that refer to them a moment after the commit.
const (
	destroyTries    = 8
	destroyPatience = 10 * time.Millisecond
)

// cleanSets destroys all sets of ours.
func cleanSets(ctx context.Context) error {
	text, err := readSets(ctx)
	if err != nil {
		return err
	}
	var names []string
	for _, f := range families {
		for name := range parseSets(text, f) {
			names = append(names, name)
		}
	}
	for range destroyTries {
		if names, err = destroySets(names); err != nil || len(names) == 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(destroyPatience):
		}
	}
	return fmt.Errorf("destroying sets: still in use: %v", names)
}
