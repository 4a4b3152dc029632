package transition

import (
	"fmt"
	"maps"
	"slices"

	"github.com/tierwall/tierwall/policy"
)

// Slots are the names under which classes have their chains and own sets; a class that
// is not there has its own. A class that follows another in the same place takes over
// its chains and sets, so that only what is different between the two is written: with
// a hundred policies on a pod, one more of them adds its own peers and no others'.
type Slots map[Class]policy.ClassID

// SlotOf is the slot of a class.
func (s Slots) SlotOf(k Class) policy.ClassID {
	if slot, ok := s[k]; ok {
		return slot
	}
	return k.ID
}

// SlotsAfter are the slots after a change. It reports whether a class takes over that of another.
//
// Elements that come and go in sets which rules refer to can be seen by a packet that
// goes by the rules of either class. That is safe if both only ever allow, so that
// their lookups can be made in any order and mixed; if what is added comes before or with the
// new rules and what is removed after them; and if nothing else changes, or a flow could
// be judged by the old half of this change in one direction and the new half in the other.
func (s Slots) SlotsAfter(old, next *policy.Program, c *policy.Change, e Endpoints) (Slots, bool) {
	out := maps.Clone(s)
	if out == nil {
		out = Slots{}
	}
	follows := map[Class]policy.ClassID{}
	if c.Frame == nil && len(c.Members) == 0 && e.OneLookup() && !e.Arrived && !e.Departed {
		follows = findFollowers(old, next, c)
	}
	taken := map[Class]bool{} // by a class, be it one that goes now
	for _, d := range policy.Directions {
		if len(c.Classes[d]) == 0 {
			continue
		}
		for id := range old.Classes[d] {
			taken[Class{d, s.SlotOf(Class{d, id})}] = true
		}
	}
	for _, d := range policy.Directions {
		for _, id := range c.ClassesGone[d] {
			delete(out, Class{d, id})
		}
		for _, class := range c.Classes[d] {
			k := Class{d, class.ID}
			slot := unusedID(class.ID, func(id policy.ClassID) bool { return taken[Class{d, id}] })
			if before, ok := follows[k]; ok {
				slot = s.SlotOf(Class{d, before})
			}
			taken[Class{d, slot}] = true
			if out[k] = slot; slot == class.ID {
				delete(out, k)
			}
		}
	}
	return out, len(follows) > 0
}

// unusedID is the name, or the first one after it that is not taken.
func unusedID(id policy.ClassID, taken func(policy.ClassID) bool) policy.ClassID {
	out := id
	for n := 2; taken(out); n++ {
		out = policy.ClassID(fmt.Sprintf("%s-%d", id, n))
	}
	return out
}

// findFollowers are the new classes, each with one that is gone and all of whose endpoints have
// the new class now, and that no others have.
func findFollowers(old, next *policy.Program, c *policy.Change) map[Class]policy.ClassID {
	before, after := ClassesOf(old, c), ClassesOf(next, c)
	out := map[Class]policy.ClassID{}
	for _, d := range policy.Directions {
		from, to := map[policy.ClassID][]policy.ClassID{}, map[policy.ClassID][]policy.ClassID{}
		for a, e := range after {
			was := before[a]
			from[e[d]], to[was[d]] = append(from[e[d]], was[d]), append(to[was[d]], e[d])
		}
		for _, class := range c.Classes[d] {
			was := from[class.ID]
			if len(was) == 0 || slices.ContainsFunc(was, func(id policy.ClassID) bool { return id != was[0] }) ||
				slices.ContainsFunc(to[was[0]], func(id policy.ClassID) bool { return id != class.ID }) {
				continue
			}
			if slices.Contains(c.ClassesGone[d], was[0]) && areAlike(old.Classes[d][was[0]], class) {
				out[Class{d, class.ID}] = was[0]
			}
		}
	}
	return out
}

// areAlike reports whether both classes only ever allow, and are silent about the same tiers.
func areAlike(a, b *policy.Class) bool {
	if a == nil || b == nil {
		return false
	}
	for _, c := range []*policy.Class{a, b} {
		if _, ok := TrivialVerdict(c); ok || slices.ContainsFunc(c.Tiers, hasDenial) {
			return false
		}
	}
	return slices.EqualFunc(a.Tiers, b.Tiers, func(x, y policy.Tier) bool { return x.Name == y.Name && x.Else == y.Else })
}

// hasDenial reports whether a rule of the tier denies or passes.
func hasDenial(t policy.Tier) bool {
	return slices.ContainsFunc(t.Rules, func(r policy.Rule) bool { return r.Verdict != policy.Allow })
}

// TrivialVerdict is the verdict of a class that asks nothing about a packet.
func TrivialVerdict(c *policy.Class) (policy.Verdict, bool) {
	for _, t := range c.Tiers {
		if len(t.Rules) > 0 {
			return policy.Deny, false
		}
		if t.Else != policy.Pass {
			return t.Else, true
		}
	}
	return policy.Deny, true
}
