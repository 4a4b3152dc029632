package ipt

import (
	"maps"
	"slices"

	"github.com/tierwall/tierwall/policy"
)

// plan is the way from a state to a ruleset in three steps, each of them the
// lines of one tool's input: sets grow, the chains change at one moment, sets
// shrink. Sets that no rule refers to any more are destroyed after that.
type plan struct {
	grow, chains, shrink, destroy []string
}

// makePlan is the least that has to be written.
func makePlan(have state, want Ruleset) plan {
	var p plan
	p.planSets(have, want)
	p.planChains(have, want)
	return p
}

func (p *plan) planSets(have state, want Ruleset) {
	wanted := map[string]bool{}
	for _, s := range want.Sets {
		wanted[s.Name] = true
		old, ok := have.sets[s.Name]
		if !ok {
			p.grow = append(p.grow, s.create())
		}
		added, removed := changes(old.Elements, s.Elements)
		for _, e := range added {
			p.grow = append(p.grow, s.add(e))
		}
		for _, e := range removed {
			p.shrink = append(p.shrink, s.del(e))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(have.sets)) {
		if !wanted[name] {
			p.destroy = append(p.destroy, name)
		}
	}
}

// planChains refills the chains that change, deletes those that are not wanted
// and puts the jumps into the first place, all in one commit.
func (p *plan) planChains(have state, want Ruleset) {
	var declared, rules, deleted []string
	wanted := map[string]bool{}
	for _, c := range want.Chains {
		wanted[c.Name] = true
		if old := have.rules[c.Name]; old != nil && slices.Equal(old, c.Rules) {
			continue
		}
		declared = append(declared, declare(c.Name))
		for _, rule := range c.Rules {
			rules = append(rules, "-A "+c.Name+" "+rule)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(have.rules)) {
		if !wanted[name] {
			declared, deleted = append(declared, declare(name)), append(deleted, "-X "+name)
		}
	}
	for _, hook := range slices.Sorted(maps.Keys(hooks)) {
		base := hooks[hook]
		if have.jumps[hook] == first || !wanted[base] {
			continue
		}
		if have.jumps[hook] == misplaced {
			rules = append(rules, "-D "+hook+" -j "+base)
		}
		rules = append(rules, "-I "+hook+" 1 -j "+base)
	}
	if len(declared)+len(rules) > 0 {
		p.chains = slices.Concat([]string{"*filter"}, declared, rules, deleted, []string{"COMMIT"})
	}
}

// changes are the elements to add and to remove; both lists are sorted.
func changes(old, want []policy.Element) (added, removed []policy.Element) {
	for len(old) > 0 && len(want) > 0 {
		switch c := old[0].Compare(want[0]); {
		case c < 0:
			removed, old = append(removed, old[0]), old[1:]
		case c > 0:
			added, want = append(added, want[0]), want[1:]
		default:
			old, want = old[1:], want[1:]
		}
	}
	return append(added, want...), append(removed, old...)
}

// nameSets chooses the names of a ruleset's sets. A set that is in the kernel
// as it is wanted keeps its name. One that changes keeps it if it may change
// element by element, and is in force as current says. Any other is made anew
// beside what is there, under the first free name, for the chains to switch to.
func nameSets(want Ruleset, have state, current Ruleset, gradual bool) SetNames {
	names := map[policy.SetID]string{}
	for _, s := range want.Sets {
		names[s.ID] = nameSet(s, have, current, gradual)
	}
	return func(id policy.SetID) string { return names[id] }
}

func nameSet(want Set, have state, current Ruleset, gradual bool) string {
	inForce, isCurrent := current.find(want.ID)
	if isCurrent && (gradual && inForce.Type == want.Type || inForce.sameAs(want)) {
		return inForce.Name
	}
	for n := 0; ; n++ {
		name := generation(want.Name, n)
		if there, taken := have.sets[name]; !taken || there.sameAs(want) {
			return name
		}
	}
}

// append adds the steps of another family's plan.
func (p *plan) append(o plan) {
	p.grow = append(p.grow, o.grow...)
	p.chains = append(p.chains, o.chains...)
	p.shrink = append(p.shrink, o.shrink...)
	p.destroy = append(p.destroy, o.destroy...)
}

func (p plan) empty() bool {
	return len(p.grow)+len(p.chains)+len(p.shrink)+len(p.destroy) == 0
}
