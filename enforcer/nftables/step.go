package nftables

import (
	"maps"
	"slices"
	"strings"

	"github.com/tierwall/tierwall/enforcer/transition"
	"github.com/tierwall/tierwall/policy"
)

// step is a plan with what is known once it is carried out.
type step struct {
	plan
	way   updateStrategy
	names names
	slots transition.Slots
	refs  references
}

// stepTo plans the change from a program that is in force to the next one, which has the
// same families.
func (s *state) stepTo(old, next *policy.Program, c *policy.Change) (step, error) {
	for _, d := range policy.Directions {
		for _, class := range c.Classes[d] {
			s.users.AddClass(d, class)
		}
	}
	out := step{way: chooseStrategy(old, next, c, s.users), names: maps.Clone(s.names)}
	var follows bool
	if out.slots, follows = s.slots.SlotsAfter(old, next, c, transition.EndpointsOf(old, next, c)); follows {
		out.way = twoPhase
	}
	part := scopeOf(old, next, c, s.uses)
	before, after, err := s.renderParts(&out, old, next, c, part)
	if err != nil {
		return out, err
	}
	if !follows && mustRewrite(before.out, after.out) {
		out.way = shadowCopy
	}
	if renamed := s.renameShadows(&out, before.out, after.out); len(renamed) > 0 {
		s.widenScope(part, renamed, out.refs)
		if before, after, err = s.renderParts(&out, old, next, c, part); err != nil {
			return out, err
		}
	}
	out.plan = makePlan(before.out, after.out)
	for name, set := range out.gone.sets {
		if base := baseName(name); generationName(base, out.names[base]) == name {
			delete(out.names, base)
		}
		set.Elements = nil
		out.gone.sets[name] = set
	}
	return out, nil
}

// renderParts renders the part of both programs that a change may make different.
func (s *state) renderParts(out *step, old, next *policy.Program, c *policy.Change, part *scope) (before, after *renderer, err error) {
	before, after = newRenderer(old, s.names, s.slots, s.log).keepFrom(s), newRenderer(next, out.names, out.slots, s.log).keepFrom(s)
	before.closed, after.closed = s.closed, s.closed
	if err := before.renderPart(part); err != nil {
		return nil, nil, err
	}
	if err := after.renderPart(part); err != nil {
		return nil, nil, err
	}
	out.refs = s.refs.replaceClasses(part.classes, after.refs)
	for base := range before.refs {
		if out.refs[base] == nil {
			part.sets[base] = true
		}
	}
	for base := range after.refs {
		if s.refs[base] == nil {
			part.sets[base] = true
		}
	}
	for _, set := range c.Sets { // one whose kind changed is there before and after
		for base, ref := range out.refs {
			if slices.Contains(ref.ids, set.ID) {
				part.sets[base] = true
			}
		}
	}
	for _, known := range []references{s.refs, out.refs} {
		for base, ref := range known {
			if ref.chain != nil && ref.usedBy(part.classes) {
				part.sets[base] = true
			}
		}
	}
	before.partSets(part, s.refs)
	after.partSets(part, out.refs)
	return before, after, nil
}

// renameShadows gives new names to sets that cannot change in place, and to new ones whose
// names are taken. It gives the base names of those that are known by another name.
func (s *state) renameShadows(out *step, before, after Ruleset) map[string]bool {
	renamed := map[string]bool{}
	for name, set := range after.Sets {
		old, there := before.Sets[name]
		_, taken := s.garbage.sets[name]
		differs := there && !set.sameAs(old)
		apart := set.Interval || !set.sameKind(old) || out.way == shadowCopy || leadsToNew(set, before, after) || leadsElsewhere(old, set)
		if !there && taken || differs && apart {
			base := baseName(name)
			out.names[base] = freeGeneration(base, before.Sets, s.garbage.sets)
			renamed[base] = true
		}
	}
	return renamed
}

// mustRewrite reports whether a chain that stays gets other rules, although no class takes it over. The
// sets that it looked into must then stay as they are for packets that came before.
func mustRewrite(before, after Ruleset) bool {
	for name, c := range after.Chains {
		old, there := before.Chains[name]
		if there && !slices.EqualFunc(old.Rules, c.Rules, Rule.sameText) {
			return true
		}
	}
	return false
}

// leadsElsewhere reports whether a port leads to another chain. A packet that has looked into other sets
// before must find those peers that went with them.
func leadsElsewhere(old, s Set) bool {
	if !s.Map || s.Type != portFields.setType() {
		return false
	}
	for k, e := range s.Elements {
		if was, ok := old.Elements[k]; ok && was.Verdict != e.Verdict {
			return true
		}
	}
	return false
}

// leadsToNew reports whether a map leads to a chain that was not there before. A packet that
// came before the transaction must not get there: to it the chain has no rules.
func leadsToNew(s Set, before, after Ruleset) bool {
	for _, e := range s.Elements {
		chain, ok := strings.CutPrefix(e.Verdict, "goto ")
		_, was := before.Chains[chain]
		if _, is := after.Chains[chain]; ok && is && !was {
			return true
		}
	}
	return false
}

// widenScope makes a scope hold the renamed sets in full, and what refers to them.
func (s *state) widenScope(part *scope, renamed map[string]bool, refs references) {
	for base := range renamed {
		for _, f := range []family{ipv4, ipv6} {
			for _, d := range policy.Directions {
				if base == dispatchMap(f, d) {
					part.maps[base], part.frame = true, true
				}
			}
		}
		for _, known := range []references{s.refs, refs} {
			if ref := known[base]; ref != nil {
				part.sets[base] = true
				maps.Copy(part.classes, ref.classes)
			}
		}
	}
}
