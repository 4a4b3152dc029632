package nftables

import (
	"maps"
	"slices"
)

// plan is the way from what the kernel has to a ruleset, in transactions. Whatever a
// packet on its way can see of a change comes with one of them, switching; and
// what rules refer to no more goes with a later one.
type plan struct {
	// ahead are sets, and chains, that no rule in force refers to yet.
	ahead       map[string]Set
	aheadChains map[string]Chain
	// aheadEmpty are the chains that must be there before something leads to them.
	aheadEmpty []string
	// sets are made and elements added and removed together with the chains.
	sets           map[string]Set
	added, removed map[string]map[string]Element
	// kinds are the sets that change, without their elements.
	kinds map[string]Set
	// chains are filled anew.
	chains map[string]Chain
	// gone is not wanted any more.
	gone garbage
}

// makePlan is the least that has to be written. Sets of ranges that are there
// must be as wanted.
func makePlan(have, want Ruleset) plan {
	p := plan{ahead: map[string]Set{}, aheadChains: map[string]Chain{}, sets: map[string]Set{}, chains: map[string]Chain{}, gone: garbage{map[string]bool{}, map[string]Set{}},
		added: map[string]map[string]Element{}, removed: map[string]map[string]Element{}, kinds: map[string]Set{}}
	for name, s := range want.Sets {
		old, ok := have.Sets[name]
		switch {
		case !ok && (s.Interval || len(s.Elements) > aheadFrom && !s.Map):
			p.ahead[name] = s
		case !ok:
			p.sets[name] = s
		default:
			p.changeSet(name, old, s)
		}
	}
	for name, c := range want.Chains {
		if old, ok := have.Chains[name]; !ok || old.Hook != c.Hook || !slices.EqualFunc(old.Rules, c.Rules, Rule.sameText) {
			p.chains[name] = c
		}
	}
	for name := range have.Chains {
		if _, ok := want.Chains[name]; !ok {
			p.gone.chains[name] = true
		}
	}
	for name, s := range have.Sets {
		if _, ok := want.Sets[name]; !ok {
			p.gone.sets[name] = s
		}
	}
	if len(p.ahead) > 0 || len(p.sets)+len(p.chains) > aheadFrom/10 {
		p.planShadowCopies(have)
	}
	return p
}

// planShadowCopies moves everything that is new, and that nothing in force refers to before the switch, ahead of it, but
// for rules that only nft can say: they are few.
func (p *plan) planShadowCopies(have Ruleset) {
	maps.Copy(p.ahead, p.sets)
	p.sets = map[string]Set{}
	for name, c := range p.chains {
		if _, there := have.Chains[name]; there || c.Hook != "" {
			continue
		}
		if p.aheadEmpty = append(p.aheadEmpty, name); c.hasWords() {
			continue
		}
		p.aheadChains[name] = c
		delete(p.chains, name)
	}
	slices.Sort(p.aheadEmpty)
}

// hasWords reports whether only nft can say one of the rules.
func (c Chain) hasWords() bool {
	return slices.ContainsFunc(c.Rules, func(r Rule) bool {
		return slices.ContainsFunc(r.terms, func(t term) bool { _, is := t.(words); return is })
	})
}

// changeSet adds and removes elements. A key whose verdict changes is removed and added.
func (p *plan) changeSet(name string, old, s Set) {
	added, removed := map[string]Element{}, map[string]Element{}
	for k, e := range s.Elements {
		if was, ok := old.Elements[k]; !ok || was != e {
			added[k] = e
		}
	}
	for k, e := range old.Elements {
		if is, ok := s.Elements[k]; !ok || is != e {
			removed[k] = e
		}
	}
	p.kinds[name] = Set{Type: s.Type, Interval: s.Interval, Map: s.Map}
	if len(added) > 0 {
		p.added[name] = added
	}
	if len(removed) > 0 {
		p.removed[name] = removed
	}
}

// asOneTransaction is the plan with nothing ahead.
func (p plan) asOneTransaction() plan {
	maps.Copy(p.sets, p.ahead)
	maps.Copy(p.chains, p.aheadChains)
	p.ahead, p.aheadChains, p.aheadEmpty = nil, nil, nil
	return p
}

// hasCommands reports whether the plan changes anything that rules refer to.
func (p plan) hasCommands() bool {
	return len(p.sets)+len(p.added)+len(p.removed)+len(p.chains) > 0
}

// aheadFrom is the number of elements from which a set is made ahead, and
// transactionSize that of a transaction which does so: nft takes 2.5 KB for each, and the kernel
// itself takes so many in one batch.
const (
	aheadFrom       = 1000
	transactionSize = 4000
)

// sized is a command with its share of a transaction's size.
type sized struct {
	command
	size int
}

// aheadSets make the sets, or the maps, that are made ahead.
func (p plan) aheadSets(areMaps bool) (out []sized) {
	for _, name := range slices.Sorted(maps.Keys(p.ahead)) {
		set := p.ahead[name]
		if set.Map != areMaps {
			continue
		}
		out = append(out, sized{setCommand{add, name, set}, 1})
		for some := range slices.Chunk(slices.Sorted(maps.Keys(set.Elements)), transactionSize) {
			out = append(out, sized{elementsCommand{add, name, set, some, set.Elements, len(some) == len(set.Elements)}, len(some)})
		}
	}
	return out
}

// makeEmpty makes the chains that are new, without their rules.
func (p plan) makeEmpty() (out []sized) {
	for _, name := range p.aheadEmpty {
		out = append(out, sized{chainCommand{add, name, ""}, 2}, sized{chainCommand{empty, name, ""}, 1})
	}
	return out
}

// aheadRules fill the chains that are made ahead.
func (p plan) aheadRules() (out []sized) {
	for _, name := range slices.Sorted(maps.Keys(p.aheadChains)) {
		for _, r := range p.aheadChains[name].Rules {
			out = append(out, sized{ruleCommand{name, r}, 4})
		}
	}
	return out
}

// writeSwitch puts the switching step of the plan into the transaction, after it deleted
// what the last one left.
func (p plan) writeSwitch(t *transaction, left garbage) {
	chains := slices.Sorted(maps.Keys(p.chains))
	for _, name := range chains {
		t.addCommand(chainCommand{add, name, p.chains[name].Hook})
		t.addCommand(chainCommand{empty, name, ""})
	}
	left.deleteAll(t)
	for _, name := range slices.Sorted(maps.Keys(p.sets)) {
		t.createSet(name, p.sets[name])
	}
	for _, name := range chains {
		t.fillChain(name, p.chains[name])
	}
	for _, name := range slices.Sorted(maps.Keys(p.sets)) {
		t.addAllElements(name, p.sets[name])
	}
	p.addElements(t)
}

// addElements and shrink change sets and maps element by element.
func (p plan) addElements(t *transaction) {
	for _, name := range slices.Sorted(maps.Keys(p.added)) {
		added, removed := p.added[name], p.removed[name]
		t.changeElements(elementsCommand{remove, name, p.kinds[name], changedKeys(removed, added, true), removed, false})
		t.changeElements(elementsCommand{add, name, p.kinds[name], slices.Sorted(maps.Keys(added)), added, false})
	}
}

func (p plan) removeElements(t *transaction) {
	for _, name := range slices.Sorted(maps.Keys(p.removed)) {
		removed := p.removed[name]
		t.changeElements(elementsCommand{remove, name, p.kinds[name], changedKeys(removed, p.added[name], false), removed, false})
	}
}

// changedKeys are those of elements that are, or are not, among others too.
func changedKeys(elements, others map[string]Element, too bool) []string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(elements)) {
		if _, is := others[k]; is == too {
			out = append(out, k)
		}
	}
	return out
}
