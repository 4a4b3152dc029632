package iptables

import (
	"maps"
	"slices"

	"github.com/tierwall/tierwall/enforcer/transition"
	"github.com/tierwall/tierwall/policy"
)

// plan is the way from a state to a ruleset in three steps: sets grow, the chains change at
// one moment, sets shrink. Sets that no rule refers to any more are destroyed after that.
type plan struct {
	grow []setStep
	// chains are the lines for iptables-restore.
	chains  []string
	shrink  []setStep
	destroy []string
}

// makePlan is the least that has to be written where a reading says what the kernel has. Rules
// are those of the chains that are known.
func makePlan(have reading, rules map[string][]string, want Ruleset) plan {
	var p plan
	wanted := map[string]bool{}
	for _, s := range want.Sets {
		wanted[s.Name] = true
		old, ok := have.sets[s.Name]
		if !ok {
			p.grow = append(p.grow, setStep{create, s})
			continue
		}
		p.changeSet(s, old.Elements, s.Elements)
	}
	for _, name := range slices.Sorted(maps.Keys(have.sets)) {
		if !wanted[name] {
			p.destroy = append(p.destroy, name)
		}
	}
	var write []Chain
	for _, c := range want.Chains {
		wanted[c.Name] = true
		if old, known := rules[c.Name]; !known || !slices.Equal(old, c.Rules) {
			write = append(write, c)
		}
	}
	var gone []string
	for _, name := range slices.Sorted(maps.Keys(have.prints)) {
		if !wanted[name] {
			gone = append(gone, name)
		}
	}
	p.chains = chainLines(write, have.jumpMoves(wanted), gone)
	return p
}

// jumpMoves are the lines that have each hook begin with the jump to its base chain, and lead there by no other.
func (s reading) jumpMoves(wanted map[string]bool) []string {
	var lines []string
	for _, hook := range slices.Sorted(maps.Keys(hooks)) {
		base := hooks[hook]
		if !wanted[base] {
			continue
		}
		for range s.ofAll[hook] {
			lines = append(lines, "-D "+hook+" "+jumpOfAll(base))
		}
		if s.jumps[hook] == misplaced {
			lines = append(lines, "-D "+hook+" "+jumpTo(base))
		}
		if s.jumps[hook] != first {
			lines = append(lines, "-I "+hook+" 1 "+jumpTo(base))
		}
	}
	return lines
}

// changeSet has a set's elements change in place.
func (p *plan) changeSet(s Set, old, want []policy.Element) {
	added, removed := transition.CompareElements(old, want)
	removed = slices.DeleteFunc(removed, func(e policy.Element) bool { // adding it has changed its nomatch
		e.Except = !e.Except
		_, again := slices.BinarySearchFunc(added, e, policy.Element.Compare)
		return again
	})
	if len(added) > 0 {
		p.grow = append(p.grow, setStep{add, s.withElements(added)})
	}
	if len(removed) > 0 {
		p.shrink = append(p.shrink, setStep{del, s.withElements(removed)})
	}
}

// chainLines refill chains, put jumps into the first place and delete chains, all in one commit.
func chainLines(write []Chain, jumps, gone []string) []string {
	if len(write)+len(jumps)+len(gone) == 0 {
		return nil
	}
	lines := []string{"*filter"}
	for _, c := range write {
		lines = append(lines, declareChain(c.Name))
	}
	for _, name := range gone {
		lines = append(lines, declareChain(name))
	}
	for _, c := range write {
		for _, rule := range c.Rules {
			lines = append(lines, "-A "+c.Name+" "+rule)
		}
	}
	lines = append(lines, jumps...)
	for _, name := range gone {
		lines = append(lines, "-X "+name)
	}
	return append(lines, "COMMIT")
}

// hasChanges reports whether the plan changes anything but for sets that are going anyway.
func (p plan) hasChanges(going map[string]bool) bool {
	return len(p.grow)+len(p.chains)+len(p.shrink) > 0 || slices.ContainsFunc(p.destroy, func(name string) bool { return !going[name] })
}
