package nft

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/tierwall/tierwall/enforcer/diff"
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
	classes map[diff.Class]bool
	// sets are the policy's sets in full, by base name, members some members of others.
	sets    map[string]bool
	members map[policy.SetID][]policy.Element
}

// scopeOf is what a change touches. uses says which classes merge a set's members.
func scopeOf(old, next *policy.Program, c *policy.Change, uses diff.Users) *scope {
	s := &scope{frame: c.Frame != nil, maps: map[string]bool{}, addrs: map[netip.Addr]bool{}, classes: map[diff.Class]bool{},
		sets: map[string]bool{}, members: map[policy.SetID][]policy.Element{}}
	for _, p := range []*policy.Program{old, next} {
		for a := range diff.ClassesOf(p, c) {
			s.addrs[a] = true
		}
	}
	for _, d := range policy.Directions {
		for _, class := range c.Classes[d] {
			s.classes[diff.Class{Direction: d, ID: class.ID}] = true
		}
		for _, id := range c.ClassesGone[d] {
			s.classes[diff.Class{Direction: d, ID: id}] = true
		}
	}
	for _, m := range c.Members {
		maps.Copy(s.classes, uses[m.ID])
		if next.Sets[m.ID].Kind == policy.Networks { // a range depends on the elements around it
			for _, f := range []family{ipv4, ipv6} {
				s.sets[setName(f, m.ID)] = true
			}
		}
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

// part makes the chains and own sets of the scope, and the parts of the maps to classes.
func (r *renderer) part(s *scope) error {
	if s.frame {
		r.frame()
	}
	for _, f := range r.families {
		for _, d := range policy.Directions {
			switch {
			case s.maps[dispatchMap(f, d)]:
				r.dispatch(f, d, nil)
			case len(s.addrs) > 0:
				r.dispatch(f, d, s.addrs)
			}
		}
	}
	for k := range s.classes {
		if err := r.class(k); err != nil {
			return err
		}
	}
	return nil
}

// partSets makes the policy's sets of the scope: in full, or the members that it names.
func (r *renderer) partSets(s *scope, there references) {
	for base := range s.sets {
		if ref := there[base]; ref != nil && r.program.Sets[ref.id] != nil {
			r.members(ref.family, ref.id, r.program.Sets[ref.id].Elements)
		}
	}
	for id, elements := range s.members {
		for _, f := range r.families {
			base := setName(f, id)
			if there[base] == nil || s.sets[base] || r.program.Sets[id] == nil {
				continue
			}
			r.members(f, id, has(r.program.Sets[id], elements))
		}
	}
}

// has are those of the elements that the set has.
func has(s *policy.Set, elements []policy.Element) []policy.Element {
	var out []policy.Element
	for _, e := range elements {
		if _, found := slices.BinarySearchFunc(s.Elements, e, policy.Element.Compare); found {
			out = append(out, e)
		}
	}
	return out
}

// references are the policy's sets that chains refer to, by base name.
type references map[string]*reference

// with are the references after some classes were rendered anew.
func (r references) with(classes map[diff.Class]bool, rendered map[string]*reference) references {
	out := maps.Clone(r)
	for base, ref := range r {
		if !slices.ContainsFunc(slices.Collect(maps.Keys(classes)), func(k diff.Class) bool { return ref.classes[k] }) {
			continue
		}
		next := &reference{ref.family, ref.id, maps.Clone(ref.classes)}
		maps.DeleteFunc(next.classes, func(k diff.Class, _ bool) bool { return classes[k] })
		out[base] = next
		if len(next.classes) == 0 {
			delete(out, base)
		}
	}
	for base, ref := range rendered {
		next := &reference{ref.family, ref.id, maps.Clone(ref.classes)}
		if there := out[base]; there != nil {
			maps.Copy(next.classes, there.classes)
		}
		out[base] = next
	}
	return out
}
