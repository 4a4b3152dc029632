package ipt

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"sync"

	"github.com/tierwall/tierwall/policy"
)

// Options say how a Backend works. The zero value is good.
type Options struct {
	Mode Mode
	// DenyLog says whether and how denied packets are logged.
	DenyLog DenyLog
	// Log gets what an operator should know; the default logger if nil.
	Log *slog.Logger
}

// Backend keeps the kernel's iptables and ipsets equal to a program. Its methods
// can be called from any goroutine; they take turns.
type Backend struct {
	mode       Mode
	denyLog    DenyLog
	log        *slog.Logger
	programmed bool

	mu     sync.Mutex
	tables []*table
	// noIPv6 says why IPv6 cannot be filtered; nil if it is.
	noIPv6 error
	// leftovers are tables of the other mode that may hold chains of ours.
	leftovers []*leftover
	// program is the last one that was applied; it is nil, and the kernel is read
	// anew, while that is not known.
	program *policy.Program
}

// New finds the mode and reads what is in force. It changes nothing.
func New(ctx context.Context, o Options) (*Backend, error) {
	b := &Backend{mode: o.Mode, denyLog: o.DenyLog, log: o.Log}
	if b.log == nil {
		b.log = slog.Default()
	}
	var err error
	if b.mode == Auto {
		if b.mode, err = detect(ctx); err != nil {
			return nil, err
		}
	}
	if err := b.open(ctx, IPv4); err != nil {
		return nil, err
	}
	if b.openIPv6(ctx); b.noIPv6 != nil {
		b.log.Warn("IPv6 cannot be filtered on this node yet; until it can, programs that need it fail", "error", b.noIPv6)
	}
	b.programmed = b.noIPv6 == nil || !kernelHasIPv6()
	for _, t := range b.tables {
		b.programmed = b.programmed && t.programmed()
	}
	b.leftovers = leftoversBeside(b.mode)
	return b, nil
}

// open adds the table of a family to those that are written.
func (b *Backend) open(ctx context.Context, f Family) error {
	t, err := openTable(f, b.mode)
	if err != nil {
		return err
	}
	t.log = b.denyLog
	if err := t.readChains(ctx); err != nil {
		return err
	}
	b.tables = append(b.tables, t)
	return nil
}

// openIPv6 adds IPv6 unless it is there. What failed once, for want of memory, say,
// can succeed the next time; everything is read and written anew then.
func (b *Backend) openIPv6(ctx context.Context) {
	if len(b.tables) == len(families) {
		return
	}
	if b.noIPv6 = b.open(ctx, IPv6); b.noIPv6 == nil {
		b.program = nil
	}
}

// kernelHasIPv6 says whether there is IPv6 in the kernel at all; where it cannot be told, there is.
func kernelHasIPv6() bool {
	_, err := os.Stat("/proc/self/net/if_inet6")
	return !errors.Is(err, fs.ErrNotExist)
}

// Mode is the mode in use: NFT or Legacy.
func (b *Backend) Mode() Mode { return b.mode }

// Programmed says whether a program of ours was in force when the Backend was
// made, left by an earlier process. Apply adopts it.
func (b *Backend) Programmed() bool { return b.programmed }

// Apply brings the kernel from the last program to this one, writing the
// differences only; the first time, from whatever it finds. The program must not
// be changed afterwards. When it fails, what was in force stays in force, and
// the next Apply reads the kernel anew.
func (b *Backend) Apply(ctx context.Context, p *policy.Program) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.openIPv6(ctx)
	if b.program == nil {
		if err := b.read(ctx); err != nil {
			return err
		}
	}
	if _, err := b.write(ctx, p); err != nil {
		return fmt.Errorf("applying a program of %d endpoints: %w", len(p.Endpoints), err)
	}
	if b.noIPv6 == nil {
		return nil
	}
	if needs := needsIPv6(p, kernelHasIPv6()); needs != "" {
		return fmt.Errorf("%s, and IPv6 cannot be filtered on this node: %w", needs, b.noIPv6)
	}
	return nil
}

// Repair compares the kernel with the last program and puts right what somebody
// else changed. It says whether there was something to put right.
func (b *Backend) Repair(ctx context.Context) (changed bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.program
	if p == nil {
		return false, nil
	}
	before, err := b.reread(ctx)
	if err != nil {
		return false, err
	}
	wrote, err := b.write(ctx, p)
	if err != nil || !wrote {
		return false, err
	}
	after, err := b.reread(ctx)
	if err != nil {
		return false, err
	}
	for i, t := range b.tables {
		changed = changed || !before[i].sameKernel(after[i])
		t.state.learn(before[i], t.current)
	}
	return changed, nil
}

// Cleanup removes everything that is ours, in both modes and both IP families.
func (b *Backend) Cleanup(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.program = nil
	var errs []error
	for _, m := range []Mode{NFT, Legacy} {
		for _, f := range families {
			t, err := openTable(f, m)
			switch {
			case err == nil:
				errs = append(errs, t.clean(ctx))
			case errors.Is(err, exec.ErrNotFound):
				b.log.Info("not cleaned: its tools are missing", "mode", m, "family", f, "error", err)
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

// write brings the kernel from its known state to a program: sets grow, chains
// switch, sets shrink. What is left in the other mode goes after that. It says whether anything had to be written.
func (b *Backend) write(ctx context.Context, p *policy.Program) (bool, error) {
	inPlace := b.program != nil && gradual(b.program, p)
	wants, plans := make([]Ruleset, len(b.tables)), make([]plan, len(b.tables))
	var all plan
	for i, t := range b.tables {
		want, err := t.want(p, inPlace)
		if err != nil {
			return false, err
		}
		wants[i], plans[i] = want, makePlan(t.state, want)
		all.append(plans[i])
	}
	b.program = nil // until it is known what became of it
	if err := b.execute(ctx, plans, all); err != nil {
		return true, err
	}
	undestroyed := destroySets(ctx, all.destroy)
	for i, t := range b.tables {
		t.done(wants[i], undestroyed)
	}
	b.program = p
	b.sweepLeftovers(ctx)
	return !all.empty(), nil
}

// execute carries out the plans of all families.
func (b *Backend) execute(ctx context.Context, plans []plan, all plan) error {
	if len(all.chains) == 0 {
		all.grow, all.shrink = append(all.grow, all.shrink...), nil
	}
	if err := restoreSets(ctx, all.grow); err != nil {
		return fmt.Errorf("adding to sets: %w", err)
	}
	var errs []error
	for i, t := range b.tables {
		errs = append(errs, t.commit(ctx, plans[i].chains))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := restoreSets(ctx, all.shrink); err != nil {
		return fmt.Errorf("removing from sets: %w", err)
	}
	return nil
}

// read takes the kernel's state for what it is.
func (b *Backend) read(ctx context.Context) error {
	sets, err := readSets(ctx)
	if err != nil {
		return err
	}
	for _, t := range b.tables {
		if err := t.readChains(ctx); err != nil {
			return err
		}
		t.state.sets, t.current = parseSets(sets, t.family), Ruleset{}
	}
	return nil
}

// reread reads the kernel's state while a program is in force, and gives it.
// Chains that print as they did are still known to be right.
func (b *Backend) reread(ctx context.Context) ([]state, error) {
	earlier, current := make([]state, len(b.tables)), make([]Ruleset, len(b.tables))
	for i, t := range b.tables {
		earlier[i], current[i] = t.state, t.current
	}
	if err := b.read(ctx); err != nil {
		b.program = nil
		return nil, err
	}
	now := make([]state, len(b.tables))
	for i, t := range b.tables {
		t.current = current[i]
		t.state.trust(earlier[i])
		now[i] = t.state
	}
	return now, nil
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
	if left := destroySets(ctx, names); len(left) > 0 {
		return fmt.Errorf("destroying sets: still in use: %v", left)
	}
	return nil
}
