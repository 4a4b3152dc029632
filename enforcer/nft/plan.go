package nft

import (
	"maps"
	"slices"
	"strings"

	"sigs.k8s.io/knftables"
)

// plan is the way from what the kernel has to a ruleset, in transactions. Whatever a
// packet on its way can see of a change comes with one of them, switching; and
// what rules refer to no more goes with a later one.
type plan struct {
	// ahead are sets that no rule refers to yet.
	ahead map[string]Set
	// sets are made and elements added and removed together with the chains.
	sets           map[string]Set
	added, removed map[string]map[string]Element
	// maps are those of the changed that are maps.
	maps map[string]bool
	// chains are filled anew.
	chains map[string]Chain
	// gone is not wanted any more.
	gone garbage
}

// makePlan is the least that has to be written. Sets of ranges that are there
// must be as wanted.
func makePlan(have, want Ruleset) plan {
	p := plan{ahead: map[string]Set{}, sets: map[string]Set{}, chains: map[string]Chain{}, gone: garbage{map[string]bool{}, map[string]Set{}},
		added: map[string]map[string]Element{}, removed: map[string]map[string]Element{}, maps: map[string]bool{}}
	for name, s := range want.Sets {
		old, ok := have.Sets[name]
		switch {
		case !ok && (s.Interval || len(s.Elements) > aheadFrom && !s.Map):
			p.ahead[name] = s
		case !ok:
			p.sets[name] = s
		default:
			p.change(name, old, s)
		}
	}
	for name, c := range want.Chains {
		if old, ok := have.Chains[name]; !ok || old.Hook != c.Hook || !slices.Equal(old.Rules, c.Rules) {
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
	return p
}

// change adds and removes elements. A key whose verdict changes is removed and added.
func (p *plan) change(name string, old, s Set) {
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
	p.maps[name] = s.Map
	if len(added) > 0 {
		p.added[name] = added
	}
	if len(removed) > 0 {
		p.removed[name] = removed
	}
}

// together is the plan with nothing ahead.
func (p plan) together() plan {
	maps.Copy(p.sets, p.ahead)
	p.ahead = nil
	return p
}

// switches says whether the plan changes anything that rules refer to.
func (p plan) switches() bool {
	return len(p.sets)+len(p.added)+len(p.removed)+len(p.chains) > 0
}

// aheadFrom is the number of elements from which a set is made ahead, and
// transactionSize that of a transaction which does so: nft takes 2.5 KB for each.
const (
	aheadFrom       = 1000
	transactionSize = 10_000
)

// writer writes to a transaction.
type writer struct{ *knftables.Transaction }

func (w writer) createSet(name string, s Set) {
	var flags []knftables.SetFlag
	if s.Interval {
		flags = append(flags, knftables.IntervalFlag)
	}
	if s.Map {
		w.Add(&knftables.Map{Name: name, Type: s.Type + " : verdict"})
		return
	}
	w.Add(&knftables.Set{Name: name, Type: s.Type, Flags: flags})
}

func (w writer) deleteSet(name string, s Set) {
	if s.Map {
		w.Delete(&knftables.Map{Name: name})
		return
	}
	w.Delete(&knftables.Set{Name: name})
}

func (w writer) elements(name string, isMap bool, in map[string]Element) {
	for _, k := range slices.Sorted(maps.Keys(in)) {
		w.Add(element(name, isMap, k, in[k]))
	}
}

func element(name string, isMap bool, k string, e Element) *knftables.Element {
	out := &knftables.Element{Set: name, Key: strings.Split(k, " . ")}
	if isMap {
		out.Set, out.Map, out.Value = "", name, []string{e.Verdict}
	}
	if e.Comment != "" {
		out.Comment = &e.Comment
	}
	return out
}

func (w writer) declareChain(name string, c Chain) {
	chain := &knftables.Chain{Name: name}
	if c.Hook != "" {
		chain.Type = knftables.PtrTo(knftables.FilterType)
		chain.Hook = knftables.PtrTo(knftables.BaseChainHook(c.Hook))
		chain.Priority = knftables.PtrTo(knftables.FilterPriority)
		chain.Policy = knftables.PtrTo(knftables.AcceptPolicy)
	}
	w.Add(chain)
}

func (w writer) fillChain(name string, c Chain) {
	for _, r := range c.Rules {
		rule := &knftables.Rule{Chain: name, Rule: r.Text}
		if r.Comment != "" {
			rule.Comment = &r.Comment
		}
		w.Add(rule)
	}
}

// write puts the switching step of the plan into the transaction, after it deleted
// what the last one left.
func (p plan) write(w writer, left garbage) {
	chains := slices.Sorted(maps.Keys(p.chains))
	for _, name := range chains {
		w.declareChain(name, p.chains[name])
		w.Flush(&knftables.Chain{Name: name})
	}
	left.collect(w)
	for _, name := range slices.Sorted(maps.Keys(p.sets)) {
		w.createSet(name, p.sets[name])
	}
	for _, name := range chains {
		w.fillChain(name, p.chains[name])
	}
	for _, name := range slices.Sorted(maps.Keys(p.sets)) {
		w.elements(name, p.sets[name].Map, p.sets[name].Elements)
	}
	p.grow(w)
}

// grow and shrink change sets and maps element by element.
func (p plan) grow(w writer) {
	for _, name := range slices.Sorted(maps.Keys(p.added)) {
		for _, k := range slices.Sorted(maps.Keys(p.added[name])) {
			if _, replaced := p.removed[name][k]; replaced {
				w.Delete(element(name, p.maps[name], k, p.removed[name][k]))
			}
		}
		w.elements(name, p.maps[name], p.added[name])
	}
}

func (p plan) shrink(w writer) {
	for _, name := range slices.Sorted(maps.Keys(p.removed)) {
		for _, k := range slices.Sorted(maps.Keys(p.removed[name])) {
			if _, replaced := p.added[name][k]; !replaced {
				w.Delete(element(name, p.maps[name], k, p.removed[name][k]))
			}
		}
	}
}
