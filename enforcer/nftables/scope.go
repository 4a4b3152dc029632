package nftables

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/tierwall/tierwall/enforcer/transition"
	"github.com/tierwall/tierwall/policy"
)

// scope is the part of a ruleset that a change may make different.
type scope struct {
	// frame are the base chains and those that look up classes.
	frame bool
	// maps are the maps to classes in full, addrs the addresses to look at in the others.
	maps  map[string]bool
	addrs map[netip.Addr]bool
	// classes are those whose chains and own sets may change.
	classes map[transition.Class]bool
	// sets are the policy's sets in full, by base name, members some members of others.
	sets    map[string]bool
	members map[policy.SetID][]policy.Element
}

// scopeOf is what a change touches. uses says which classes merge a set's members.
func scopeOf(old, next *policy.Program, c *policy.Change, uses transition.Users) *scope {
	s := &scope{frame: c.Frame != nil, maps: map[string]bool{}, addrs: map[netip.Addr]bool{}, classes: map[transition.Class]bool{},
		sets: map[string]bool{}, members: map[policy.SetID][]policy.Element{}}
	for _, p := range []*policy.Program{old, next} {
		for a := range transition.ClassesOf(p, c) {
			s.addrs[a] = true
		}
	}
	for _, d := range policy.Directions {
		for _, class := range c.Classes[d] {
			s.classes[transition.Class{Direction: d, ID: class.ID}] = true
		}
		for _, id := range c.ClassesGone[d] {
			s.classes[transition.Class{Direction: d, ID: id}] = true
		}
	}
	for _, m := range c.Members {
		maps.Copy(s.classes, uses[m.ID])
		s.members[m.ID] = append(slices.Clone(m.Added), m.Removed...)
	}
	for _, set := range c.Sets {
		maps.Copy(s.classes, uses[set.ID])
	}
	if c.Frame != nil {
		for _, f := range []family{ipv4, ipv6} {
			for _, d := range policy.Directions {
				s.maps[dispatchMap(f, d)] = true
			}
		}
	}
	return s
}

// renderPart makes the chains and own sets of the scope, and the parts of the maps to classes.
func (r *renderer) renderPart(s *scope) error {
	if s.frame {
		r.renderFrame()
	}
	for _, f := range r.families {
		for _, d := range policy.Directions {
			switch {
			case s.maps[dispatchMap(f, d)]:
				r.renderDispatch(f, d, nil)
			case len(s.addrs) > 0:
				r.renderDispatch(f, d, s.addrs)
			}
		}
	}
	for k := range s.classes {
		if err := r.renderClass(k); err != nil {
			return err
		}
	}
	return nil
}

// partSets makes what chains refer to, as far as it is in the scope: chains, sets in full, or
// the members of sets that change.
func (r *renderer) partSets(s *scope, there references) {
	for base, ref := range there {
		switch {
		case s.sets[base]:
			if len(ref.ids) != 1 || r.program.Sets[ref.ids[0]] != nil {
				r.putReference(base, ref)
			}
		case len(s.members) > 0 && slices.ContainsFunc(ref.ids, func(id policy.SetID) bool { return s.members[id] != nil }):
			r.putChanged(base, ref, s.members)
		}
	}
}

// putChanged makes a set with those members alone that the change is about. Ranges depend on the elements
// around them, so a set of them is made in full.
func (r *renderer) putChanged(base string, ref *reference, changed map[policy.SetID][]policy.Element) {
	if r.kindOf(ref) == policy.Networks {
		r.putReference(base, ref)
		return
	}
	var all []policy.Element
	for _, id := range ref.ids {
		all = append(all, changed[id]...)
	}
	r.putMembers(base, ref, func(s *policy.Set) []policy.Element { return elementsIn(s, all) })
}

// elementsIn are those of the elements that the set has.
func elementsIn(s *policy.Set, elements []policy.Element) []policy.Element {
	var out []policy.Element
	for _, e := range elements {
		if _, found := slices.BinarySearchFunc(s.Elements, e, policy.Element.Compare); found {
			out = append(out, e)
		}
	}
	return out
}
