package iptables

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/tierwall/tierwall/enforcer/refusal"
	"github.com/tierwall/tierwall/enforcer/rulegroup"
	"github.com/tierwall/tierwall/enforcer/transition"
	"github.com/tierwall/tierwall/policy"
)

// move is a change from one program, which is in force, to the next.
type move struct {
	old, next *policy.Program
	change    *policy.Change
	// users are those of sets in both programs.
	users transition.Users
	// slots are those of the old program and of the next.
	slots, nextSlots transition.Slots
	// gradual says that sets in force may change, element by element.
	gradual bool
}

// newMove looks at a change. Sets in force may change if nothing that is added can
// be used together with something that is removed later: with additions alone, or removals alone,
// the verdicts move in one direction, because sets only ever allow. Where both occur, each
// direction of a flow still is the one or the other; only a flow judged in both
// directions here, or by a named port, could have one half of each. Where a rule denies or
// passes, a single element may change that no flow meets twice. Chains always
// switch at one moment, so what becomes of endpoints matters only where sets change too.
func newMove(old, next *policy.Program, c *policy.Change, users transition.Users, slots transition.Slots) move {
	m := move{old: old, next: next, change: c, users: users, slots: slots}
	e, s := transition.EndpointsOf(old, next, c), transition.MembersOf(old, next, c, users)
	m.nextSlots, _ = slots.SlotsAfter(old, next, c, e)
	switch {
	case !s.Any():
		m.gradual = true
	case c.Frame != nil || e.Reclassified[policy.Ingress] || e.Reclassified[policy.Egress] || e.Unsteady:
	case s.Negative:
		m.gradual = s.Single && !e.Any()
	case !s.Removed:
		m.gradual = !e.Departed
	case !s.Added:
		m.gradual = !e.Arrived
	default:
		m.gradual = !e.Any() && !s.Touch(old)
	}
	return m
}

// step is a move in one IP family.
type step struct {
	move
	state         *state
	before, after *renderer
	// was are the classes of which something may change, as they are, is as they will be. In
	// those that are there before and after, own sets may be rendered in part.
	was, is map[transition.Class]*classRules
	// changes are the sets whose elements change, by base name.
	changes map[string]setChange
	// uses are the classes that refer to a shared set or list after the move, less those before, by
	// base name; lists are the sets of such lists, and remade says which are in force and made beside.
	uses   map[string]int
	lists  map[string][]policy.SetID
	remade map[string]bool
	plan   plan
}

// setChange is what a set has before and after, or those parts of it that are different.
type setChange struct{ was, is Set }

// planChange plans a move, and makes the state what it will be once that is carried out.
func (t *table) planChange(m move) plan {
	s := &step{move: m, state: &t.state, was: map[transition.Class]*classRules{}, is: map[transition.Class]*classRules{}, changes: map[string]setChange{},
		uses: map[string]int{}, lists: map[string][]policy.SetID{}, remade: map[string]bool{}}
	s.before = newRenderer(m.old, t.family, newNames(), m.slots, t.log, t.refused)
	s.after = newRenderer(m.next, t.family, t.state.names, m.nextSlots, t.log, t.refused)
	s.renderClasses()
	s.compareOwn()
	s.compareShared()
	s.makeShadowCopy()
	s.planLists()
	s.finishPlan()
	s.state.recordSizes(s.plan.grow)
	s.state.recordSizes(s.plan.shrink)
	t.updateFailed(s)
	return s.plan
}

// updateFailed records which classes are closed after a step.
func (t *table) updateFailed(s *step) {
	out := refusal.Classes{}
	for k, err := range t.failed {
		if _, again := s.is[k]; !again && k.ClassIn(s.next) != nil {
			out[k] = err
		}
	}
	maps.Copy(out, s.after.failed)
	t.failed = out
}

// renderClasses renders the classes that come, those that go and leave their place to one that
// comes, and those whose own sets change.
func (s *step) renderClasses() {
	if !s.after.family.isUsedBy(s.next) {
		return
	}
	for _, d := range policy.Directions {
		inPlaceOf := map[policy.ClassID]*policy.Class{}
		for _, id := range s.change.ClassesGone[d] {
			k := transition.Class{Direction: d, ID: id}
			s.was[k] = nil
			inPlaceOf[s.slots.SlotOf(k)] = k.ClassIn(s.old)
		}
		for _, c := range s.change.Classes[d] {
			k := transition.Class{Direction: d, ID: c.ID}
			s.renderNew(k, c, inPlaceOf[s.nextSlots.SlotOf(k)])
		}
	}
	s.renderTouched()
}

// renderNew renders a class that comes, and the one that it follows, if it does: of their own
// sets, the part that is different. Of one that is closed there are no sets.
func (s *step) renderNew(k transition.Class, c, follows *policy.Class) {
	var only *part
	if follows != nil {
		old := transition.Class{Direction: k.Direction, ID: follows.ID}
		only = changedPart(s.old, s.next, follows, c)
		if s.was[old] = s.before.renderClass(old, only); s.before.failed[old] != nil {
			only = nil
		}
	}
	s.is[k] = s.after.renderClass(k, only)
}

// renderTouched renders the classes that stay and merge a set that changes: of their own sets, the
// part that can be different.
func (s *step) renderTouched() {
	var prefixes []netip.Prefix
	touched := map[transition.Class]bool{}
	whole := map[transition.Class]bool{}
	for _, m := range s.change.Members {
		for _, e := range slices.Concat(m.Added, m.Removed) {
			prefixes = append(prefixes, e.Prefix)
		}
		maps.Copy(touched, s.users[m.ID])
		if s.next.Sets[m.ID].Kind == policy.Networks { // with which named ports may be merged
			maps.Copy(whole, s.users[m.ID])
		}
	}
	for _, set := range s.change.Sets { // one whose kind changed
		if s.old.Sets[set.ID] != nil {
			maps.Copy(touched, s.users[set.ID])
			maps.Copy(whole, s.users[set.ID])
		}
	}
	changed := newPart(prefixes, nil)
	for k := range touched {
		class := k.ClassIn(s.next)
		if k.ClassIn(s.old) == nil || class == nil || !whole[k] && !mergesAny(class) {
			continue
		}
		only := changed
		if whole[k] || !sameTerms(class, s.old, s.next) {
			only = nil
		}
		if s.was[k] = s.before.renderClass(k, only); s.before.failed[k] != nil {
			only = nil
		}
		s.is[k] = s.after.renderClass(k, only)
	}
}

func mergesAny(c *policy.Class) bool {
	return slices.ContainsFunc(c.Tiers, func(t policy.Tier) bool { return slices.ContainsFunc(rulegroup.SplitRuns(t.Rules), canMerge) })
}

// compareOwn compares the sets that classes have for themselves.
func (s *step) compareOwn() {
	was, is := map[string]Set{}, map[string]Set{}
	there := map[string]bool{}
	for k, c := range s.was {
		if c != nil {
			maps.Copy(was, c.own)
		}
		for _, base := range s.state.classes[k].own {
			there[base] = true
		}
	}
	for _, c := range s.is {
		maps.Copy(is, c.own)
	}
	for _, base := range slices.Sorted(maps.Keys(is)) {
		if !there[base] {
			s.plan.grow = append(s.plan.grow, setStep{create, is[base]})
			continue
		}
		if !is[base].sameAs(was[base]) {
			s.changes[base] = setChange{was[base], is[base]}
		}
	}
	for _, base := range slices.Sorted(maps.Keys(there)) {
		if _, stays := is[base]; !stays {
			s.state.names.giveUpName(base)
		}
	}
}

// compareShared compares the policy's sets: some are referred to for the first time,
// some for the last, some change.
func (s *step) compareShared() {
	ids := map[string]policy.SetID{}
	count := func(refs map[string]policy.SetID, lists map[string][]policy.SetID, n int) {
		for base, id := range refs {
			s.uses[base] += n
			ids[base] = id
		}
		for base, ids := range lists {
			s.uses[base] += n
			s.lists[base] = ids
		}
	}
	for k := range s.was {
		count(s.state.classes[k].refs, s.state.classes[k].lists, -1)
	}
	for _, c := range s.is {
		count(c.refs, c.lists, 1)
	}
	for _, base := range slices.Sorted(maps.Keys(s.uses)) {
		id, isSet := ids[base]
		switch before, after := s.state.users[base], s.usersAfter(base); {
		case before == 0 && after > 0 && isSet:
			s.plan.grow = append(s.plan.grow, setStep{create, s.after.policySet(base, id)})
		case before > 0 && after == 0:
			s.state.names.giveUpName(base)
		}
	}
	for _, m := range s.change.Members {
		base := policySet(s.after.family, m.ID)
		if s.state.users[base] > 0 && s.usersAfter(base) > 0 {
			s.compareMembers(base, m)
		}
	}
	for _, set := range s.change.Sets { // one whose kind changed cannot change in place
		base := policySet(s.after.family, set.ID)
		if old := s.old.Sets[set.ID]; old != nil && s.state.users[base] > 0 && s.usersAfter(base) > 0 {
			s.changes[base] = setChange{is: s.after.policySet(base, set.ID)}
			s.gradual = false
		}
	}
}

// usersAfter is the number of classes that refer to a shared set or list after the move.
func (s *step) usersAfter(base string) int { return s.state.users[base] + s.uses[base] }

func (s *step) compareMembers(base string, m policy.SetChange) {
	f := s.after.family
	if s.old.Sets[m.ID].HasExcept() || s.next.Sets[m.ID].HasExcept() { // a set has a prefix once, with or without nomatch
		s.changes[base] = setChange{is: s.after.policySet(base, m.ID)}
		s.gradual = false
		return
	}
	empty := newSet(s.after.names.setName(base), setTypes[s.next.Sets[m.ID].Kind], f, nil)
	was, is := newSet("", "", f, ofFamily(f, m.Removed)), newSet("", "", f, ofFamily(f, m.Added))
	if len(was.Elements)+len(is.Elements) > 0 {
		s.changes[base] = setChange{empty.withElements(was.Elements), empty.withElements(is.Elements)}
	}
}

// makeShadowCopy has sets that must not change in place made anew under other names, and what refers
// to them rendered again.
func (s *step) makeShadowCopy() {
	bases := slices.Sorted(maps.Keys(s.changes))
	if s.gradual {
		for _, base := range bases {
			c := s.changes[base]
			s.plan.changeSet(c.is, c.was.Elements, c.is.Elements)
		}
		return
	}
	if len(bases) == 0 {
		return
	}
	again := map[transition.Class]bool{}
	for k := range s.is {
		again[k] = true
	}
	for k, parts := range s.state.classes {
		if k.ClassIn(s.next) != nil && slices.ContainsFunc(bases, func(base string) bool { _, refers := parts.refs[base]; return refers }) {
			again[k] = true
		}
	}
	for _, base := range bases {
		s.state.names.giveUpName(base)
	}
	s.leaveLists()
	sets := map[string]Set{}
	for k := range again {
		s.is[k] = s.after.renderClass(k, nil)
		maps.Copy(sets, s.is[k].own)
		for base, id := range s.is[k].refs {
			if _, changes := s.changes[base]; changes {
				sets[base] = s.after.policySet(base, id)
			}
		}
	}
	for _, base := range bases {
		s.plan.grow = append(s.plan.grow, setStep{create, sets[base]})
	}
}

// leaveLists has the lists in force that have a set which is made beside made beside as well.
func (s *step) leaveLists() {
	for _, parts := range s.state.classes {
		for base, ids := range parts.lists {
			if !s.remade[base] && slices.ContainsFunc(ids, s.makesBeside) {
				s.remade[base], s.lists[base] = true, ids
				s.state.names.giveUpName(base)
			}
		}
	}
}

func (s *step) makesBeside(id policy.SetID) bool {
	_, changes := s.changes[policySet(s.after.family, id)]
	return changes
}

// planLists plans the lists that are not there under the names that they and their sets have now.
func (s *step) planLists() {
	for _, base := range slices.Sorted(maps.Keys(s.lists)) {
		if s.usersAfter(base) > 0 && (s.state.users[base] == 0 || s.remade[base]) {
			s.plan.grow = append(s.plan.grow, setStep{create, s.after.listSet(base, s.lists[base])})
		}
	}
}

// finishPlan plans the chains, and records what will be.
func (s *step) finishPlan() {
	var chains []Chain
	there := map[string]bool{}
	if s.change.Frame != nil || len(s.change.Endpoints)+len(s.change.EndpointsGone) > 0 {
		for _, d := range policy.Directions {
			dispatch := s.after.dispatchChains(d)
			for _, name := range s.state.dispatch[d] {
				there[name] = true
			}
			chains = append(chains, dispatch...)
			s.state.dispatch[d] = chainNames(dispatch)
		}
	}
	for k := range s.was {
		for _, name := range s.state.classes[k].chains {
			there[name] = true
		}
		s.state.setClass(k, nil)
	}
	for _, k := range slices.SortedFunc(maps.Keys(s.is), compareClasses) {
		chains = append(chains, s.is[k].chains...)
		s.state.setClass(k, s.is[k])
	}
	s.planChains(chains, there)
}

// planChains plans that chains become as rendered, and that of those that are there the
// others go.
func (s *step) planChains(chains []Chain, there map[string]bool) {
	chains = slices.DeleteFunc(chains, func(c Chain) bool {
		delete(there, c.Name)
		old, known := s.state.rules[c.Name]
		return known && slices.Equal(old, c.Rules)
	})
	s.state.recordChains(chains)
	for name := range there {
		delete(s.state.rules, name)
		delete(s.state.prints, name)
		s.state.names.chains.releaseName(name)
	}
	s.plan.chains = chainLines(chains, nil, slices.Sorted(maps.Keys(there)))
}
