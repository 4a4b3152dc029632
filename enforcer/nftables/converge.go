package nftables

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/tierwall/tierwall/enforcer/nftables/nfnetlink"
)

// applyWhole reads the kernel and brings it to the program, whatever is there. It reports whether anything was
// not as it was left. What the kernel refuses is tried again by way of nft; if that fails too, the classes
// that the refused object belongs to are closed, so that all others come in force.
func (b *Backend) applyWhole(ctx context.Context) (differs bool, err error) {
	earlier, known := b.state, b.known
	defer func() { b.direct = b.known }()
	for try := 1; ; try++ {
		differs, err = b.convergeBy(ctx, earlier, known, true)
		if isOutOfSync(err) {
			b.log.Warn("kernel refused the program; writing it with nft", "err", err)
			var byNft error
			if differs, byNft = b.convergeBy(ctx, earlier, known, false); byNft == nil {
				return differs, nil
			}
			err = errors.Join(err, byNft)
		}
		if err == nil || ctx.Err() != nil || try == refusalsPerMove || !b.closeRefused(err) {
			return differs, err
		}
		b.log.Warn("kernel refused some classes; trying without them", "err", err)
	}
}

// renderProgram makes the ruleset of the program, with the classes closed that cannot be rendered.
func (b *Backend) renderProgram(n names, earlier *state) (*renderer, error) {
	for {
		r := newRenderer(b.program, n, earlier.slots, b.denyLog).keepFrom(earlier)
		r.closed = b.refused
		err := r.renderAll()
		var failed *classError
		if !errors.As(err, &failed) {
			return r, err
		}
		b.refused[failed.Class] = failed.err
	}
}

// convergeBy is converge with, or without, batches for the kernel itself.
func (b *Backend) convergeBy(ctx context.Context, earlier state, known, direct bool) (amiss bool, err error) {
	b.known, b.direct = false, direct
	generation, generationErr := b.kernel.Generation()
	if !known {
		earlier = state{}
	}
	r, err := b.renderProgram(names{}, &earlier)
	if err != nil {
		return false, err
	}
	l, err := b.kernel.List(ctx, &r.out)
	if err != nil {
		return false, err
	}
	b.alone, b.generation = generationErr == nil, generation
	if l.hasMisplacedHooks(r.out) {
		return true, b.writeRebuilt(ctx, r)
	}
	n := namesFor(r.out, l)
	if len(n) > 0 {
		if r, err = b.renderProgram(n, &earlier); err != nil {
			return false, err
		}
		r.out.shareElements(l.sets)
	}
	have, differs := earlier.alignListing(l, r.out)
	p := makePlan(have, r.out)
	b.state = newState(b.program, r)
	if !l.there {
		t := b.newTransaction()
		t.addCommand(tableCommand{add})
		if err := b.runTransaction(ctx, t); err != nil {
			return false, fmt.Errorf("making our table: %w", err)
		}
	}
	if l.dormant {
		p.chains["forward"] = r.out.Chains["forward"] // a transaction that says "add table" wakes it up
	}
	if err := b.carryOut(ctx, p, false); err != nil {
		return false, err
	}
	for name, c := range have.Chains {
		if _, rewritten := p.chains[name]; !rewritten && r.out.Chains[name].Hook == c.Hook {
			b.state.told[name] = l.chains[name].rules
		}
	}
	amiss = differs || len(p.ahead)+len(p.sets)+len(p.added)+len(p.removed) > 0 || !earlier.isExpected(p.gone)
	b.state.garbage, b.known = p.gone, true
	if !p.gone.isEmpty() {
		return amiss, b.deleteGarbage(ctx)
	}
	return amiss, nil
}

// writeRebuilt replaces the table, with everything in one transaction.
func (b *Backend) writeRebuilt(ctx context.Context, r *renderer) error {
	p := makePlan(newRuleset(), r.out).asOneTransaction()
	b.state = newState(b.program, r)
	t := b.newTransaction()
	t.addCommand(tableCommand{remove})
	t.addCommand(tableCommand{add})
	p.writeSwitch(t, garbage{})
	if err := b.runTransaction(ctx, t); err != nil {
		return fmt.Errorf("making our table anew: %w", err)
	}
	b.known = true
	return nil
}

// alignListing is what the kernel has: a chain that is told as is known is as it was written,
// any other is not as wanted. It reports whether a chain is not as it was left.
func (s state) alignListing(l listing, want Ruleset) (Ruleset, bool) {
	have, differs := Ruleset{Chains: map[string]Chain{}, Sets: l.sets}, false
	for name, c := range l.chains {
		written, ours := s.chains[name]
		told, learned := s.told[name]
		if learned && slices.Equal(told, c.rules) && c.standsAs(written.Hook) {
			have.Chains[name] = written
			continue
		}
		have.Chains[name] = Chain{Rules: []Rule{plainRule("unknown")}}
		differs = differs || ours && (learned || !c.commentsAs(written))
	}
	for name := range want.Chains {
		_, there := l.chains[name]
		differs = differs || !there || !l.chains[name].standsAs(want.Chains[name].Hook)
	}
	return have, differs || l.dormant
}

// commentsAs reports whether the chain's rules have the comments of another's.
func (c listedChain) commentsAs(written Chain) bool {
	return slices.EqualFunc(c.rules, written.Rules, func(is nfnetlink.Rule, was Rule) bool { return is.Comment == was.Comment })
}

// isExpected reports whether all of the garbage is known to be there.
func (s state) isExpected(g garbage) bool {
	for name := range g.chains {
		if !s.garbage.chains[name] {
			return false
		}
	}
	for name := range g.sets {
		if _, ok := s.garbage.sets[name]; !ok {
			return false
		}
	}
	return true
}

// standsAs reports whether the chain hangs where it should.
func (c listedChain) standsAs(hook string) bool {
	return c.hook == hook && (hook == "" || c.policy == "accept" && c.priority == Chain{Hook: hook}.Priority())
}

// hasMisplacedHooks reports whether a chain that is wanted hangs elsewhere, which cannot be
// changed but by making it anew.
func (l listing) hasMisplacedHooks(want Ruleset) bool {
	for name, c := range want.Chains {
		there, ok := l.chains[name]
		if ok && (there.hook != c.Hook || there.priority != c.Priority()) {
			return true
		}
	}
	return false
}

// isProgrammed reports whether the base chains are there and lead somewhere.
func (l listing) isProgrammed() bool {
	for _, hook := range []string{"forward", "input", "output"} {
		if c := l.chains[hook]; c.hook != hook || len(c.rules) == 0 {
			return false
		}
	}
	return !l.dormant
}
