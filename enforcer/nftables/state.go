package nftables

import (
	"maps"
	"slices"

	"github.com/tierwall/tierwall/enforcer/nftables/nfnetlink"
	"github.com/tierwall/tierwall/enforcer/refusal"
	"github.com/tierwall/tierwall/enforcer/ruletext"
	"github.com/tierwall/tierwall/enforcer/transition"
	"github.com/tierwall/tierwall/policy"
)

// state is what the kernel holds, as far as is known without reading it.
type state struct {
	names names
	slots transition.Slots
	log   ruletext.DenyLog
	// closed are classes that were refused.
	closed refusal.Classes
	refs   references
	// numbered is that of the renderer.
	numbered map[string]int
	// uses are the classes that merge a set's members.
	uses transition.Users
	// users are the classes that refer to a set.
	users transition.Users
	// chains are as they were written, told their rules as the kernel dumps them, where that is known.
	chains  map[string]Chain
	told    map[string][]nfnetlink.Rule
	garbage garbage
}

// newState is that of a program which was rendered as a whole.
func newState(p *policy.Program, r *renderer) state {
	return state{names: r.names, slots: r.slots, log: r.log, closed: maps.Clone(r.closed), refs: r.refs, numbered: r.numbered, uses: indexUses(p), users: transition.UsersOf(p), chains: r.out.Chains, told: map[string][]nfnetlink.Rule{}}
}

// indexUses are the classes of a program that merge members of sets, by set.
func indexUses(p *policy.Program) transition.Users {
	out := transition.Users{}
	for _, d := range policy.Directions {
		for id, c := range p.Classes[d] {
			addUses(out, transition.Class{Direction: d, ID: id}, c)
		}
	}
	return out
}

func addUses(out transition.Users, k transition.Class, c *policy.Class) {
	for _, id := range mergedSets(c) {
		if out[id] == nil {
			out[id] = map[transition.Class]bool{}
		}
		out[id][k] = true
	}
}

// changeUses brings the indices from a program to the next.
func (s *state) changeUses(c *policy.Change, old *policy.Program) {
	for _, d := range policy.Directions {
		for _, id := range c.ClassesGone[d] {
			if gone := old.Classes[d][id]; gone != nil {
				s.users.RemoveClass(d, gone)
				for _, set := range mergedSets(gone) {
					delete(s.uses[set], transition.Class{Direction: d, ID: id})
				}
			}
		}
		for _, class := range c.Classes[d] {
			addUses(s.uses, transition.Class{Direction: d, ID: class.ID}, class)
		}
	}
}

// recordPlan records what a plan that was carried out changed.
func (s *state) recordPlan(p plan) {
	for _, chains := range []map[string]Chain{p.chains, p.aheadChains} {
		for name, c := range chains {
			s.chains[name] = c
			delete(s.told, name)
		}
	}
	for name := range p.gone.chains {
		delete(s.chains, name)
		delete(s.told, name)
	}
	if s.garbage.isEmpty() || p.hasCommands() { // which deletes what was left before
		s.garbage = garbage{map[string]bool{}, map[string]Set{}}
	}
	maps.Copy(s.garbage.chains, p.gone.chains)
	maps.Copy(s.garbage.sets, p.gone.sets)
}

// learnRules records how the kernel dumps the rules of chains that are known to be as they were written.
func (s *state) learnRules(rules map[string][]nfnetlink.Rule) {
	for name, c := range s.chains {
		if len(rules[name]) == len(c.Rules) {
			s.told[name] = rules[name]
		}
	}
}

// hasLearnedAll reports whether it is known how the kernel dumps all chains.
func (s *state) hasLearnedAll() bool { return len(s.told) == len(s.chains) }

// freeGeneration is the first generation of a set that nothing has.
func freeGeneration(base string, taken ...map[string]Set) int {
	for n := 0; ; n++ {
		name := generationName(base, n)
		if !slices.ContainsFunc(taken, func(m map[string]Set) bool { _, ok := m[name]; return ok }) {
			return n
		}
	}
}

// namesFor are the names that a program's sets shall have beside those that are listed: the
// one that is there as it is wanted, or one that nothing has.
func namesFor(want Ruleset, l listing) names {
	there := map[string][]string{}
	for _, name := range slices.Sorted(maps.Keys(l.sets)) {
		there[baseName(name)] = append(there[baseName(name)], name)
	}
	out := names{}
	for base, s := range want.Sets {
		n := freeGeneration(base, l.sets)
		for _, name := range there[base] {
			if g := generationOf(base, name); g >= 0 && l.sets[name].sameAs(s) {
				n = g
				break
			}
		}
		if n > 0 {
			out[base] = n
		}
	}
	return out
}
